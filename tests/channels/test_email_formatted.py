"""The formatted version of a mail, as it is shown in a frame."""

# ruff: noqa: E501 - one row, one case
from __future__ import annotations

import re

import pytest

from channels.email.parse import Formatted, formatted


def html(content: str) -> bytes:
    return b"From: a@b.no\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + content.encode()


@pytest.mark.parametrize(
    ("content", "shown", "remote"),
    [
        ('<img src="https://spion.example/x.gif" alt="Logo">', "[Logo]", 1),
        ('<img src="http://spion.example/x.gif" width=1 height=1>', "", 1),
        ('<img src="//spion.example/x.gif">', "[bilde]", 1),
        ('<img src="HTTPS://spion.example/x.gif" alt="">', "[bilde]", 1),
        ('<img src="https://a/1"><img src="https://a/2">', "[bilde][bilde]", 2),
        ('<img alt="&lt;b&gt; &quot;x&quot;" src="https://a/1">', '[&lt;b&gt; "x"]', 1),
        ('<img src="data:image/png;base64,AAAA" alt="x">', "[x]", 0),
        ('<img alt="tom">', "[tom]", 0),
        ('<table background="https://a/1"><tbody><tr><td>x</td></tr></tbody></table>', "<table><tbody><tr><td>x</td></tr></tbody></table>", 0),
        ('<p style="background:url(https://a/1)">x</p>', "<p>x</p>", 0),
        ('<video src="https://a/1" poster="https://a/2">x</video>', "x", 0),
        ('<picture><source srcset="https://a/1"><img src="https://a/2" srcset="https://a/3" alt="y"></picture>', "[y]", 1),
    ],
)  # fmt: skip
def test_nothing_is_loaded_from_elsewhere(content: str, shown: str, remote: int) -> None:
    answer = formatted(html(content))
    assert answer.html.replace("&#34;", '"').replace("&quot;", '"') == shown
    assert answer.remote_images == remote


def test_pictures_inside_the_mail_are_listed_and_given_an_address() -> None:
    raw = html('<img src="cid:a%40b" alt="x"><img src="CID:to"><img src="cid:borte" alt="z">')
    assert formatted(raw).content_ids == ("a@b", "to", "borte")
    assert '<img src="cid:a%40b" alt="x">' in formatted(raw).html
    where = {"a@b": "/bilde/1", "to": "https://x.example/2"}
    answer = formatted(raw, lambda content_id: where.get(content_id, ""))
    assert answer.html == '<img src="/bilde/1" alt="x"><img src="https://x.example/2">[z]'
    assert answer.remote_images == 0


@pytest.mark.parametrize(
    "link",
    [
        '<a href="https://sorum.example/?a=1&amp;b" class="b" ping="https://spion.example">x</a>',
        '<a dir="ltr" href="https://sorum.example/?a=1&amp;b">x</a>',
        '<a title="https://bank.example" lang=no HREF=https://sorum.example/?a=1&amp;b>x</a>',
        "<a href='https://sorum.example/?a=1&amp;b' href='https://spion.example'>x</a>",
    ],
)
def test_links_lead_nowhere_and_tell_where_they_would(link: str) -> None:
    """Whatever stands before the address, and whatever the sender says of it."""
    answer = formatted(html(link)).html
    assert 'title="https://sorum.example/?a=1&amp;b">x</a>' in answer
    assert not re.search("href|spion|bank|class", answer)


def test_words_about_links_stay_as_they_are() -> None:
    said = '<p>Skriv href="https://x.example" title="y"</p><a href="javascript:x">nei</a>'
    assert formatted(html(said)).html == (
        '<p>Skriv href="https://x.example" title="y"</p><a>nei</a>'
    )


@pytest.mark.parametrize(
    "content",
    ["<script>spion</script>", "<style>spion</style>", "<form action=spion>", "<svg onload=spion>", "<input value=spion>", "<iframe srcdoc=spion>", "<object data=spion>", "<base href=spion>", "<link href=spion>", "<p onclick=spion>", "<a href='javascript:spion'>", "<math href=spion>", "<textarea name=spion>", "<button formaction=spion>"],
)  # fmt: skip
def test_only_text_is_left(content: str) -> None:
    assert "spion" not in formatted(html(f"<p>ok</p>{content}")).html


def test_what_cannot_be_shown_is_told() -> None:
    assert formatted(html("<p>x")) == Formatted("<p>x</p>")
    assert formatted(html("<div>" * 50_000)) == Formatted(complete=False)
    assert formatted(html("<p>x</p>" * 200_000)) == Formatted(complete=False)
    assert formatted(b"From: a@b.no\r\n\r\nbare tekst") == Formatted()
    for raw in (b"", b"\0" * 100, b"Content-Type: multipart/mixed\r\n\r\n"):
        assert formatted(raw).html == ""
