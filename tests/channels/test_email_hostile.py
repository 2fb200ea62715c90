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
from channels.email.parse import OwnAddresses, formatted, parse
from channels.email.quote import fold
from tests.channels import tnef
from tests.support import examples

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


def coded(kind: bytes, content: bytes) -> bytes:
    head = b"Content-Type: " + kind + b"\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    return TOP + head + base64.encodebytes(content)


def nested_winmail(depth: int) -> bytes:
    inner = tnef.winmail(tnef.file("a.txt", b"x"))
    for _ in range(depth):
        inner = tnef.winmail(tnef.message_inside("x", inner))
    return inner


def calendar(events: bytes) -> bytes:
    head = b"Content-Type: text/calendar\r\n\r\nBEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\n"
    return TOP + head + events + b"END:VCALENDAR\r\n"


def bounce(status: bytes) -> bytes:
    return (
        TOP + b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n"
        b"--b\r\nContent-Type: message/delivery-status\r\n\r\n" + status + b"\r\n--b--"
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
    "winmail of 2**32 properties": coded(b"application/ms-tnef", tnef.winmail(tnef.attribute(1, 0x9003, b"\xff" * 4 + b"\x03\x00\x34\x12\x01\x00\x00\x00" * 20_000))),
    "winmail of 100,000 attributes": coded(b"application/ms-tnef", tnef.winmail(*[tnef.attribute(1, 0x8004, b"")] * 100_000)),
    "winmail of 5,000 files": coded(b"application/ms-tnef", tnef.winmail(*[tnef.file("a.txt", b"x")] * 5_000)),
    "winmail in winmail": coded(b"application/ms-tnef", nested_winmail(60)),
    "winmail that lies of its length": coded(b"application/ms-tnef", tnef.SIGNATURE + b"\x01\x0c\x80\x06\x00\xff\xff\xff\xff" + b"x" * 100),
    "winmail of many values": coded(b"application/ms-tnef", tnef.winmail(tnef.attribute(1, 0x9003, b"\x01\0\0\0\x02\x10\x00\x10\xff\xff\xff\xff"))),
    "winmail of no codepage": coded(b"application/ms-tnef", tnef.SIGNATURE + tnef.attribute(1, 0x9007, b"\xff" * 8) + tnef.attribute(1, 0x800C, b"hei\xe5")),
    "only the signature of winmail": coded(b"application/ms-tnef", tnef.SIGNATURE),
    "a calendar that never ends": calendar(b"BEGIN:VEVENT\r\n" * 4_000),
    "a calendar of 10,000 events": calendar(b"BEGIN:VEVENT\r\nSUMMARY:x\r\nEND:VEVENT\r\n" * 10_000),
    "a calendar of parameters": calendar(b"BEGIN:VEVENT\r\nSUMMARY" + b";A=b" * 15_000 + b":x\r\nEND:VEVENT\r\n"),
    "a calendar that repeats each second": calendar(b"BEGIN:VTIMEZONE\r\nTZID:x\r\nBEGIN:STANDARD\r\nDTSTART:16010101T000000\r\nRRULE:FREQ=SECONDLY;COUNT=999999999\r\nTZOFFSETFROM:+0100\r\nTZOFFSETTO:+0200\r\nEND:STANDARD\r\nEND:VTIMEZONE\r\nBEGIN:VEVENT\r\nDTSTART;TZID=x:20260101T100000\r\nEND:VEVENT\r\n"),
    "a calendar that repeats for ever": calendar(b"BEGIN:VEVENT\r\nDTSTART:20260101T100000\r\nRRULE:FREQ=SECONDLY\r\nEND:VEVENT\r\n"),
    "a calendar of control characters": calendar(b"BEGIN:VEVENT\r\nSUMMARY:a\x00b\x07\xe2\x80\xaec\\nd\r\nEND:VEVENT\r\n"),
    "a calendar in year 0": calendar(b"BEGIN:VEVENT\r\nDTSTART:00000101T000000\r\nDURATION:P99999999999D\r\nEND:VEVENT\r\n"),
    "1,000 calendars": parts(1_000, b"Content-Type: text/calendar\r\n\r\nBEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nEND:VEVENT\r\nEND:VCALENDAR"),
    "20,000 beginnings of uuencoded files": TOP + b"\r\n" + b"begin 644 x\r\n#:&5I\r\n" * 20_000,
    "5,000 uuencoded files": TOP + b"\r\n" + b"begin 644 x\r\n#:&5I\r\n`\r\nend\r\n" * 5_000,
    "a uuencoded path": TOP + b"\r\nbegin 644 ../../etc/passwd\r\n#:&5I\r\n`\r\nend\r\n",
    "a bounce of 10,000 recipients": bounce(b"Final-Recipient: rfc822;a@b.no\r\nAction: failed\r\n\r\n" * 10_000),
    "a bounce folded for ever": bounce(b"Diagnostic-Code: smtp; 550" + b"\r\n x" * 50_000),
    "a bounce of control characters": bounce(b"Final-Recipient: rfc822;a\0@b.no\r\nAction: failed\r\nStatus: 5.\xe2\x80\xae1.1\r\nDiagnostic-Code: smtp; =?utf-8?q?a=0D=0Ab=00?=\r\n"),
    "a bounce in words without end": TOP.replace(b"From: Kari <kari@", b"From: Kari <MAILER-DAEMON@") + b"\r\nfailed:\r\n" + b"a@" * 100_000,
    "500 forwarded messages": parts(500, b"Content-Type: message/rfc822\r\n\r\nFrom: a@b.no\r\n\r\nx"),
    "a digest of nothing": TOP + b"Content-Type: multipart/digest; boundary=b\r\n\r\n" + b"--b\r\n\r\n" * 100,
    "an external body": TOP + b"Content-Type: message/external-body; access-type=local-file; name=/etc/passwd\r\n\r\nContent-Type: text/plain\r\n\r\nx",
    "part 2 of 3": TOP + b"Content-Type: message/partial; id=x; number=2; total=3\r\n\r\nhei",
    "signed by nobody": TOP + b"Content-Type: multipart/signed; boundary=b\r\n\r\n",
    "blanks for parameters": TOP + b"Content-Type: text/plain" + b" \t" * 30_000 + b"=\r\n\r\nhei",
    "parameters without semicolons": TOP + b"Content-Type: text/plain " + b'a="b" ' * 10_000 + b"\r\n\r\nhei",
    "a label of 64 kB": TOP + b"Content-Type: text/plain; charset=" + b"x-" * 32_000 + b"\r\n\r\nhei",
    "an encoded word of 60 kB": b"Subject: =?utf-8?b?" + b"A" * 60_000 + b"?=\r\nFrom: a@b.no\r\n\r\nhei",
    "an encoded word of underscores": b"Subject: =?utf-8?q?" + b"_=" * 30_000 + b"\r\nFrom: a@b.no\r\n\r\nhei",
    "encoded words in encoded words": b"Subject: " + b"=?utf-8?q?" * 6_000 + b"\r\nFrom: a@b.no\r\n\r\nhei",
    "an author of encoded words": b"From: " + b"=?utf-8?q?a=40b=2Eno?= " * 2_500 + b"\r\n\r\nhei",
    "an author of groups": b"From: " + b"a:b@c.no;" * 7_000 + b"\r\n\r\nhei",
    "an author of angles": b"From: " + b"<a@b.no" * 8_000 + b"\r\n\r\nhei",
    "an author of backslashes": b'From: "' + b"\\" * 60_000 + b"\r\n\r\nhei",
    "an author of routes": b"From: <@a,@b:" * 5_000 + b"c@d.no>\r\n\r\nhei",
    "4,000 authors": b"From: x\r\n" * 4_000 + b"\r\nhei",
    "CRCRLF": (TOP + b"Content-Type: text/plain\r\n\r\nhei\r\n").replace(b"\r\n", b"\r\r\n"),
    "an early end, and more": TOP + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nhei\r\n--b--\r\n" * 3_000,
    "a boundary of regular expressions": TOP + b'Content-Type: multipart/mixed; boundary="(.*)+$[^"\r\n\r\n--(.*)+$[^\r\n\r\nhei\r\n',
    "2,000 guessed boundaries": TOP + b"Content-Type: multipart/mixed\r\n\r\n--x\r\n" * 2_000 + b"\r\nhei",
    "a file that says it is another": parts(3, b"Content-Type: image/png; name=a.png\r\n\r\n<html><script>alert(1)</script>"),
    "a compressed bomb": coded(b"application/zip; name=a.zip", b"PK\x03\x04" + b"\0" * 100_000),
    "20,000 pictures": html(b"<img src=//a/b alt=c>" * 20_000),
    "pictures of ours": html(b"<img src=cid:a>" * 15_000),
    "50,000 links": html(b"<a href=x>" * 50_000),
    "PGP without end": TOP + b"\r\n" + b"-----BEGIN PGP MESSAGE-----\r\n" * 5_000,
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
        *(f"{r.recipient} {r.status} {r.detail}" for r in (incoming.report,) if r),
        formatted(raw).html,
    ):  # fmt: skip
        assert "\0" not in text
        assert "\r" not in text
        assert unicodedata.is_normalized("NFC", text)
        json.dumps(text, ensure_ascii=False).encode()
    for line in (incoming.subject, incoming.message_id, *incoming.references, *incoming.defects):
        assert "\n" not in line
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
    assert len(HOSTILE) >= 120


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
        ("blanks for parameters", "hei"),
        ("parameters without semicolons", "hei"),
        ("a label of 64 kB", "hei"),
        ("CRCRLF", "hei"),
        ("winmail of no codepage", "heiå"),
        ("a boundary of regular expressions", "hei"),
        ("an author of groups", "hei"),
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
    "fields of addresses": lambda n: b"To: a@b.no,c@d.no\r\n" * n + b"\r\nx",
    "blanks": lambda n: TOP + b"Content-Type: text/plain" + b" " * 4 * n + b"=\r\n\r\nx",
    "encoded words": lambda n: b"Subject: " + b"=?utf-8?q?" * n + b"\r\n\r\nx",
    "authors": lambda n: b"From: x\r\n" * n + b"\r\nx",
    "routes": lambda n: b"From: " + b"<@a,@b:" * n + b"c@d.no>\r\n\r\nx",
    "winmail": lambda n: coded(
        b"application/ms-tnef", tnef.winmail(*[tnef.attribute(1, 1, b"")] * n)
    ),
    "calendars": lambda n: calendar(b"BEGIN:VEVENT\r\nEND:VEVENT\r\n" * (n // 4)),
    "uuencoded files": lambda n: TOP + b"\r\n" + b"begin 644 x\r\n#:&5I\r\n" * n,
    "delivery status": lambda n: bounce(b"Final-Recipient: rfc822;a@b.no\r\n\r\n" * n),
    "guessed boundaries": lambda n: TOP + b"Content-Type: multipart/mixed\r\n\r\n--x\r\n" * n,
    "pictures": lambda n: html(b"<img src=cid:a>" * n),
    "html": lambda n: html(b"<p>a <b>b</b></p>" * n),
    "links": lambda n: html(b"<a href=https://x.no/>x</a>" * n),
}


@pytest.mark.thorough
@pytest.mark.parametrize("family", GROWING)
def test_twice_the_size_takes_about_twice_the_time(family: str) -> None:
    def seconds(n: int) -> float:
        raw = GROWING[family](n)
        best = 9.0
        for _ in range(3):
            start = time.process_time()
            fold(parse(raw, ENVELOPE, OWN).text)
            formatted(raw)
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


@settings(max_examples=examples(200), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=2_000))
def test_any_bytes(raw: bytes) -> None:
    incoming = check(raw, 0.5)
    assert not any(defect.startswith("unparsed") for defect in incoming.defects)


@settings(max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.too_slow])
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
