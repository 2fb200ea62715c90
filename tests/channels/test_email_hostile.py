"""Mail meant to break a parser, and mail nobody meant: always an `Incoming`, always in time."""

# ruff: noqa: E501 - one row, one case
from __future__ import annotations

import base64
import json
import pickle
import time
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from channels.base import Incoming
from channels.email.parse import OwnAddresses, parse
from channels.email.quote import fold

OWN = OwnAddresses(frozenset({"post@sorum.example"}), frozenset({"sorum.example"}))
ENVELOPE = {"mail_from": "kari@eksempel.no", "recipients": ["post@sorum.example"]}
TOP = b"From: Kari <kari@eksempel.no>\r\nTo: post@sorum.example\r\nSubject: Hei\r\n"


def nested_multipart(depth: int) -> bytes:
    head = b"".join(
        b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (n, n)
        for n in range(depth)
    )
    return TOP + head + b"Content-Type: text/plain\r\n\r\ninnerst\r\n"


def nested_rfc822(depth: int) -> bytes:
    return TOP + b"Content-Type: message/rfc822\r\n\r\n" * depth + b"Subject: x\r\n\r\ninnerst"


def html(content: bytes) -> bytes:
    return TOP + b"Content-Type: text/html\r\n\r\n" + content


def parts(count: int, part: bytes) -> bytes:
    return (
        TOP
        + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
        + (b"--b\r\n" + part + b"\r\n") * count
        + b"--b--"
    )


HOSTILE: dict[str, bytes] = {
    "nothing": b"",
    "one newline": b"\n",
    "one CR": b"\r",
    "newlines": b"\r\n" * 1000,
    "NULs": b"\0" * 1000,
    "high bytes": bytes(range(128, 256)) * 10,
    "all bytes": bytes(range(256)) * 10,
    "only a body": b"Hei, dette er bare tekst uten hode.\r\n",
    "only headers": TOP,
    "headers cut off": TOP[:30],
    "colon": b":",
    "colons": b":::::\r\n:\r\n\r\n:",
    "field without value": b"From:\r\nTo:\r\nSubject:\r\n\r\n",
    "field without name": b": verdi\r\n\r\ntekst",
    "folding first": b" folded\r\n\tfolded\r\nSubject: x\r\n\r\n",
    "duplicate fields": TOP * 50 + b"\r\nx",
    "NUL in fields": b"From: a\0@b.no\r\nSub\0ject: x\r\nSubject: a\0b\r\n\r\nx\0y",
    "no charset": TOP + b"Content-Type: text/plain; charset=\r\n\r\n\xe5",
    "NUL in charset": TOP + b"Content-Type: text/plain; charset=utf\0-8\r\n\r\n\xe5",
    "charset idna": TOP + b"Content-Type: text/plain; charset=idna\r\n\r\n" + b"a." * 3000,
    "charset unicode_escape": TOP + b"Content-Type: text/plain; charset=unicode_escape\r\n\r\n\\N{",
    "charset undefined": TOP + b"Content-Type: text/plain; charset=undefined\r\n\r\nhei",
    "charset is a path": TOP + b"Content-Type: text/plain; charset=../../x\r\n\r\nhei",
    "utf-16 without content": TOP + b"Content-Type: text/plain; charset=utf-16\r\n\r\n\xff\xfe\x00",
    "utf-7 in subject": b"Subject: =?utf-7?Q?+AA0ACg-Bcc:_x?=\r\n\r\n",
    "name*": TOP + b"Content-Type: text/plain; name*\r\n\r\nhei",
    "name*0*": TOP + b"Content-Type: text/plain; name*0*=x; name*=y; name*00=z\r\n\r\nhei",
    "section number": TOP + b"Content-Type: text/plain; name*99999999999999999999=x\r\n\r\nhei",
    "To is a quote": b'To: "\r\nFrom: a@b.no\r\n\r\nhei',
    "From is a comment": b"From: (c):\r\n\r\nhei",
    "From is half a literal": b"From: a@[\r\n\r\nhei",
    "id in brackets": b"Message-ID: <[abc]@x>\r\n\r\nhei",
    "ids without end": b"References: " + b"<" * 3000 + b"\r\n\r\nhei",
    "date with a huge zone": b"Date: Mon, 2 Mar 2026 10:00:00 +99999999999\r\n\r\nhei",
    "date in year 0": b"Date: Mon, 2 Mar 0000 10:00:00 +0000\r\n\r\nhei",
    "CRLF in a word": b"Subject: =?utf-8?q?Hei=0D=0ABcc:_x?=\r\nFrom: =?utf-8?q?a=0D=0A?= <a@b.no>\r\n\r\n",
    "surrogates": TOP + b"Content-Type: text/plain; charset=utf-8\r\n\r\n\xed\xa0\x80\xed\xb0\x80",
    "empty boundary": TOP + b'Content-Type: multipart/mixed; boundary=""\r\n\r\n--\r\n\r\nhei\r\n----\r\n',
    "boundary of spaces": TOP + b'Content-Type: multipart/mixed; boundary="   "\r\n\r\n--   \r\n\r\nhei\r\n',
    "boundary missing": TOP + b"Content-Type: multipart/mixed\r\n\r\n--b\r\n\r\nhei\r\n--b--",
    "boundary inside itself": TOP + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhei\r\n--b--",
    "boundary of a megabyte": TOP + b"Content-Type: multipart/mixed; boundary=" + b"b" * 1_000_000 + b"\r\n\r\nhei",
    "boundaries only": TOP + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n" * 20_000,
    "end before beginning": TOP + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b--\r\n--b\r\n\r\nhei\r\n",
    "multipart without parts": TOP + b"Content-Type: multipart/alternative; boundary=b\r\n\r\n",
    "multipart in base64": TOP + b"Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.b64encode(b"--b\r\n\r\nhei\r\n--b--"),
    "2,000 nested multiparts": nested_multipart(2_000),
    "1,000 nested messages": nested_rfc822(1_000),
    "51 nested multiparts": nested_multipart(51),
    "5,000 parts": parts(5_000, b"Content-Type: text/plain\r\n\r\nx"),
    "5,000 empty parts": parts(5_000, b""),
    "1,500 attachments": parts(1_500, b"Content-Type: application/pdf; name=a.pdf\r\n\r\nx"),
    "20,000 comments in a type": TOP + b"Content-Type: text/plain" + b"(" * 20_000 + b"\r\n\r\nhei",
    "2,000 comments in From": b"From: " + b"(" * 2_000 + b"a@b.no\r\n\r\nhei",
    "64 kB of parameters": TOP + b"Content-Type: text/plain" + b";a=b" * 16_000 + b"\r\n\r\nhei",
    "64 kB of quotes in To": TOP + b"To: " + b'"a" ' * 16_000 + b"\r\n\r\nhei",
    "64 kB of sections": TOP + b"Content-Type: text/plain; n" + b"*0" * 32_000 + b"=x\r\n\r\nhei",
    "a megabyte of subject": b"Subject: " + b"=?utf-8?q?a?= " * 70_000 + b"\r\n\r\nhei",
    "a megabyte on one line": TOP + b"\r\n" + b"x" * 1_000_000,
    "100,000 fields": b"X-A: b\r\n" * 100_000 + TOP + b"\r\nhei",
    "folded 100,000 times": b"Subject: a\r\n" + b" b\r\n" * 100_000 + b"\r\nhei",
    "a header block without end": b"X: " + b"y" * 2_000_000,
    "base64 that is none": TOP + b"Content-Transfer-Encoding: base64\r\n\r\n====\xff\xfe!!" + b"=" * 1000,
    "quoted-printable that is none": TOP + b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + b"=" * 10_000,
    "uuencode that is none": TOP + b"Content-Transfer-Encoding: x-uuencode\r\n\r\nbegin 644 x\r\n\xff\xff\xff\r\nM\r\n" + b"~" * 300,
    "an empty attachment": TOP + b"Content-Type: application/pdf\r\n\r\n",
    "a type of slashes": TOP + b"Content-Type: ///\r\nContent-Disposition: ;;;\r\n\r\nhei",
    "a name that is a path": TOP + b'Content-Type: application/pdf; name="' + b"../" * 1000 + b'"\r\n\r\nx',
    "a name that turns": TOP + "Content-Type: a/b; name=\"\u202e\u202e\u0000\"\r\n\r\nx".encode(),
    "50,000 divs": html(b"<div>" * 50_000 + b"hei"),
    "50,000 open tags": html(b"<b><i>" * 25_000 + b"hei"),
    "unfinished tags": html(b"<a href='" * 20_000),
    "unfinished comments": html(b"<!--" * 20_000),
    "entities": html(b"&#0;&#xD800;&#99999999999;&nosuch;&" * 1_000),
    "html of NULs": html(b"<p>\0\0<\0b>hei</b>"),
    "a million of html": html(b"<p>hei</p>" * 200_000),
    "tables": html(b"<table><tr><td>" * 5_000),
    "html in utf-16": TOP + b"Content-Type: text/html; charset=utf-16\r\n\r\n" + "<p>hei på".encode("utf-16"),
    "flowed quotes": TOP + b"Content-Type: text/plain; format=flowed\r\n\r\n" + b">" * 100_000 + b" \r\n" * 1000,
    "a report of nothing": TOP + b"Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n\r\n--b--",
    "Den Den Den": TOP + b"\r\n" + b"Den " * 5_000,
}  # fmt: skip


def check(raw: bytes, seconds: float) -> Incoming:
    """Parse, and look for anything that a store, a page or another process could not take."""
    start = time.process_time()
    incoming = parse(raw, ENVELOPE, OWN)
    fold(incoming.text)
    assert time.process_time() - start < seconds
    assert pickle.loads(pickle.dumps(incoming)) == incoming
    for text in (
        incoming.subject, incoming.text, incoming.message_id, incoming.in_reply_to,
        *incoming.references, *incoming.recipients, *incoming.defects,
        *(incoming.sender.name + incoming.sender.value for _ in "1" if incoming.sender),
        *(a.filename + a.content_type + a.content_id for a in incoming.attachments),
    ):  # fmt: skip
        assert "\0" not in text
        assert "\r" not in text
        assert unicodedata.is_normalized("NFC", text)
        json.dumps(text, ensure_ascii=False).encode()
    assert "\n" not in incoming.subject
    assert not any(
        "/" in a.filename or "\\" in a.filename or not a.filename for a in incoming.attachments
    )
    assert incoming.recipients == ("post@sorum.example",)
    assert len(incoming.external_id) == 64
    return incoming


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_mail_is_read_in_time(name: str) -> None:
    incoming = check(HOSTILE[name], 1.5)
    assert not any(defect.startswith("unparsed") for defect in incoming.defects)


def test_there_are_enough_of_them() -> None:
    assert len(HOSTILE) >= 60


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("only a body", "Hei, dette er bare tekst uten hode."),
        ("boundary missing", "hei"),
        ("boundary inside itself", "hei"),
        ("multipart in base64", "hei"),
        ("name*", "hei"),
        ("charset undefined", "hei"),
        ("64 kB of parameters", "hei"),
        ("50,000 divs", "hei"),
        ("html of NULs", "hei"),
        ("html in utf-16", "hei på"),
        ("folded 100,000 times", "hei"),
    ],
)
def test_hostile_mail_keeps_its_text(name: str, text: str) -> None:
    assert parse(HOSTILE[name], ENVELOPE, OWN).text == text


def test_what_is_past_a_cap_is_told_and_kept() -> None:
    deep = parse(HOSTILE["51 nested multiparts"], ENVELOPE, OWN)
    assert "nested too deep" in deep.defects
    assert b"innerst" in deep.attachments[0].content
    many = parse(HOSTILE["1,500 attachments"], ENVELOPE, OWN)
    assert "too many parts" in many.defects
    assert b"".join(a.content for a in many.attachments).count(b"x") >= 1_500


GROWING: dict[str, Callable[[int], bytes]] = {
    "parameters": lambda n: TOP + b"Content-Type: text/plain" + b";a=b" * n + b"\r\n\r\nx",
    "fields": lambda n: b"X-A: b\r\n" * n + b"\r\nx",
    "folds": lambda n: b"Subject: a\r\n" + b" =?utf-8?q?a?=\r\n" * n + b"\r\nx",
    "addresses": lambda n: b"To: " + b"a <a@b.no>, " * n + b"\r\n\r\nx",
    "parts": lambda n: parts(n, b"Content-Type: text/plain\r\n\r\nx"),
    "nesting": lambda n: nested_multipart(n),
    "quoted lines": lambda n: TOP + b"\r\n" + b"> a\r\n" * n,
    "attributions": lambda n: TOP + b"\r\n" + b"Den 3. mars 2026 skrev Kari\r\n" * n,
    "fields in the text": lambda n: TOP + b"\r\n" + b"Fra: a@b.no\r\n" * n,
    "html": lambda n: html(b"<p>a <b>b</b></p>" * n),
    "links": lambda n: html(b"<a href=https://x.no/>x</a>" * n),
}


@pytest.mark.parametrize("family", GROWING)
def test_twice_the_size_takes_about_twice_the_time(family: str) -> None:
    def seconds(n: int) -> float:
        raw = GROWING[family](n)
        best = 9.0
        for _ in range(3):
            start = time.process_time()
            fold(parse(raw, ENVELOPE, OWN).text)
            best = min(best, time.process_time() - start)
        return best

    assert seconds(8_000) < 10 * seconds(2_000) + 0.05  # linear is 4, quadratic 16


SAMPLE = (
    TOP
    + b"Date: Mon, 2 Mar 2026 10:15:30 +0100\r\nMessage-ID: <1@x.no>\r\nMIME-Version: 1.0\r\n"
    + b"Content-Type: multipart/mixed; boundary=\"a\"\r\n\r\n--a\r\nContent-Type: multipart/alternative;"
    + b" boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8; format=flowed\r\n"
    + b"Content-Transfer-Encoding: quoted-printable\r\n\r\nHei p=C3=A5 deg =\r\n\r\n--b\r\n"
    + b"Content-Type: text/html; charset=iso-8859-1\r\n\r\n<p>Hei <b>p\xe5</b> <img src=cid:x></p>\r\n--b--\r\n"
    + b"--a\r\nContent-Type: application/pdf; name=\"=?utf-8?Q?s=C3=B8k.pdf?=\"\r\n"
    + b"Content-Disposition: attachment; filename*0*=utf-8''s%C3%B8k; filename*1=.pdf\r\n"
    + b"Content-Transfer-Encoding: base64\r\n\r\nJVBERi0xLjQ=\r\n--a\r\nContent-Type: message/rfc822\r\n\r\n"
    + b"Subject: =?utf-8?B?w6U=?=\r\n\r\nx\r\n--a--\r\n"
)  # fmt: skip


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=2_000))
def test_any_bytes(raw: bytes) -> None:
    incoming = check(raw, 0.5)
    assert not any(defect.startswith("unparsed") for defect in incoming.defects)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(
            st.integers(0, len(SAMPLE)),
            st.integers(0, 40),
            st.one_of(
                st.binary(max_size=12),
                st.sampled_from([b"\r\n", b"\r\n\r\n", b"--a\r\n", b"--b--", b'"', b";", b"=?", b"?=", b"=", b"\0", b"<", b"(", b"\xe5", b"*0*", b"charset="]),
            ),
        ),
        max_size=8,
    )
)  # fmt: skip
def test_a_mail_with_damage_anywhere(changes: list[tuple[int, int, bytes]]) -> None:
    raw = SAMPLE
    for at, cut, put in changes:
        raw = raw[:at] + put + raw[at + cut :]
    incoming = check(raw, 0.5)
    assert not any(defect.startswith("unparsed") for defect in incoming.defects)


@pytest.mark.parametrize(
    "envelope",
    [
        {},
        {"mail_from": None, "recipients": None},
        {"mail_from": 5, "recipients": "x"},
        {"mail_from": "\ud800", "recipients": [1, None, "post@sorum.example\0"]},
        {"mail_from": "@", "recipients": ["@", "", "+", "svar+@sorum.example"]},
    ],
)
def test_any_envelope(envelope: dict[str, object]) -> None:
    assert parse(SAMPLE, envelope, OWN).subject == "Hei"


def test_a_fault_of_ours_still_gives_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("channels.email.parse.read_structure", lambda raw: 1 / 0)
    raw = b"From: =?utf-8?Q?K=C3=A5re?= <k@x.no>\r\nSubject: S\xf8knad\r\n\ten\r\n\r\nHei p\xe5 deg"
    incoming = parse(raw, ENVELOPE, OWN)
    assert incoming.sender is not None
    assert (incoming.sender.value, incoming.subject) == ("k@x.no", "Søknad en")
    assert "Hei på deg" in incoming.text
    assert incoming.defects == ("unparsed: ZeroDivisionError",)
    assert incoming.recipients == ("post@sorum.example",)
    assert incoming.receipt_barred
