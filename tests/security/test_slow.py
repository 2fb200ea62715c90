"""Texts made to take long: whoever writes one may cost themselves time, nobody else."""

from __future__ import annotations

from time import process_time

import pytest

from channels.email.addresses import OwnAddresses
from channels.email.markup import sanitise, strip_tags, to_text
from channels.email.parse import formatted, parse
from channels.email.quote import fold
from rules.decide import decide
from rules.facts import Facts
from tests.router.store_house import MONDAY, prepared


def seconds(job, *arguments) -> float:
    began = process_time()
    job(*arguments)
    return process_time() - began


@pytest.mark.parametrize(
    "line", [" " * 290 + "x\n", "A" + " " * 280 + "\n", "> Fra: a@b\n", "Fra: a\n"]
)
def test_a_mail_of_odd_lines_is_parted_at_once(line):
    text = line * (100_000 // len(line))
    assert seconds(fold, text) < 0.3


def test_a_mail_of_emergency_words_is_decided_at_once():
    _settings, workbench, _store = prepared()
    words = " ".join(word.text for word in workbench.ruleset.emergency_words)
    facts = Facts(
        channel="email",
        now=MONDAY,
        recipients=("postmottak@sorum.kommune.no",),
        sender="kari@eksempel.no",
        subject="Hjelp",
        body=words + " a" * 5_000,
    )
    assert seconds(decide, workbench.ruleset, facts) < 0.5


def test_html_of_nothing_but_ampersands_is_cleaned_at_once():
    assert seconds(sanitise, "&" * 400_000) < 0.4


@pytest.mark.parametrize(
    "piece",
    ['<p style="display:none">&', "&nbsp;", "<img src=//a>", "<img src=cid:a>", "<a href=x>"],
)
def test_a_mail_of_odd_html_is_shown_at_once(piece):
    page = piece * (250_000 // len(piece))
    raw = b"From: a@b.no\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + page.encode()
    assert seconds(formatted, raw) < 0.8


@pytest.mark.parametrize(
    "piece",
    [
        "<a-b></a>",
        '<div title="</div>">',
        "<div><!--</div>-->",
        "<div></div/ >",
        "<x<y></x>",
        "<div x='>'></p>",
        "<b><object></b></object>",
        "<svg><td></p>",
        "<a x< ",
        '<a b="',
    ],
)
def test_html_that_hides_how_deep_it_is_nested_is_shown_at_once(piece):
    """By names, values and ends that a simple look takes for others than the parser does."""
    assert seconds(sanitise, piece * (250_000 // len(piece))) < 0.8


def test_attributes_that_look_like_tags_are_counted():
    assert seconds(sanitise, "<a " + "x< " * 80_000 + ">") < 0.4


def test_text_below_all_nesting_is_read():
    assert "dypt" in to_text("<a-b></a>" * 400 + "dypt")
    assert "dypt" in to_text("<div title='</div>'>" * 400 + "dypt")


def test_a_sign_by_a_number_of_thousands_of_digits_is_a_sign():
    many = "9" * 200_000
    assert strip_tags(f"a&#{many};b&#{'0' * 5_000}65;&#65;&#x{many};") == "a\ufffdbAA\ufffd"
    raw = b"From: a@b.no\r\nContent-Type: text/html\r\n\r\n" + b"<b>" * 300
    incoming = parse(raw + f"Hei &#{many};".encode(), {}, OwnAddresses(frozenset(), frozenset()))
    assert incoming.defects == ()
    assert incoming.text.startswith("Hei")


@pytest.mark.parametrize(
    "piece",
    ["<b></p>", "<p><b a=1></p>", "\u00a0", "&", "&a", "<b></i>", "<p>", "<", "<!--", "<style>"],
)
def test_a_mail_of_odd_html_is_read_at_once(piece):
    page = piece * (900_000 // len(piece))
    for html in (page[:250_000], page):
        raw = b"From: a@b.no\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + html.encode()
        assert seconds(parse, raw, {}, OwnAddresses(frozenset(), frozenset({"b.no"}))) < 1.2


@pytest.mark.parametrize("kind", [b"", b"Content-Type: message/rfc822\r\n\r\n"])
def test_a_mail_of_megabytes_of_headers_is_read_at_once_and_kept_whole(kind):
    """Each part has as much as a mail may have in all."""
    parts = [
        b"--x\r\n" + kind + b"X-A: b\r\n" * 30_000 + b"\r\ndel %d\r\n" % number
        for number in range(60)
    ]
    head = b"From: a@b.no\r\nSubject: Hei\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n"
    raw = head + b"".join(parts) + b"--x--\r\n"
    own = OwnAddresses(frozenset(), frozenset({"b.no"}))
    began = process_time()
    incoming = parse(raw, {}, own)
    assert process_time() - began < 3
    assert incoming.subject == "Hei"
    assert bool(kind) or "headers too large" in incoming.defects
    kept = b"".join(file.content for file in incoming.attachments) + incoming.text.encode()
    assert all(b"del %d" % number in kept for number in range(60))


def test_a_mail_of_many_html_parts_is_read_at_once():
    part = b"--x\r\nContent-Type: text/html\r\n\r\n" + b"<p>x" * 9_000 + b"\r\n"
    raw = b"Content-Type: multipart/mixed; boundary=x\r\n\r\n" + part * 500 + b"--x--\r\n"
    # To read all 18 MB of it as HTML would take half a minute.
    assert seconds(parse, raw, {}, OwnAddresses(frozenset(), frozenset({"b.no"}))) < 3
