"""Outgoing mail: read back by our own parser and by the standard library's strict one."""

from __future__ import annotations

import email
import email.policy
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from email.message import EmailMessage

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channels.base import Address, Attachment, Outgoing, OutgoingKind, RejectedError
from channels.email.compose import compose
from channels.email.headers import parse_addresses
from channels.email.parse import OwnAddresses, parse
from tests.support import examples

OWN = OwnAddresses(frozenset({"post@sorum.example"}), frozenset({"sorum.example"}))
REPLY = Outgoing(
    channel="email",
    kind=OutgoingKind.REPLY,
    message_id="<sak.1.abc@sorum.example>",
    created_at=datetime(2026, 3, 2, 9, 15, 30, tzinfo=UTC),
    to=Address("email", "kari@eksempel.no", "Kari Nordmann"),
    sender=Address("email", "post@sorum.example", "Sørum kommune, Vei og park"),
    subject="SV: Søknad [S-2026-000123]",
    text="Hei Kari.\n\nVi har sett på søknaden.\n",
    reply_to="svar+ab2c.k7d@sorum.example",
    return_path="retur+ab2c.k7d@sorum.example",
    in_reply_to="<1@eksempel.no>",
    references=("<0@eksempel.no>", "<1@eksempel.no>"),
)


def strict(raw: bytes) -> EmailMessage:
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert message.defects == []
    return message


def check_wire(raw: bytes) -> None:
    """Any server may carry it: 7-bit, CRLF, short lines, nothing odd among the headers."""
    assert raw.isascii()
    assert raw.count(b"\n") == raw.count(b"\r\n") == raw.count(b"\r")
    assert b"\0" not in raw
    assert raw.endswith(b"\r\n")
    head, _, _ = raw.partition(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        assert len(line) <= 998
        assert line.strip()
        assert line.startswith(b" ") or b":" in line
    assert all(len(line) <= 998 for line in raw.split(b"\r\n"))


def names(raw: bytes) -> list[str]:
    return [name for name, _ in strict(raw).items()]


def test_a_reply() -> None:
    raw = compose(REPLY, "mx.sorum.example")
    check_wire(raw)
    message = strict(raw)
    assert dict(message.items()) == {
        "Date": "Mon, 02 Mar 2026 09:15:30 +0000",
        "Message-ID": "<sak.1.abc@sorum.example>",
        "From": '"Sørum kommune, Vei og park" <post@sorum.example>',
        "To": "Kari Nordmann <kari@eksempel.no>",
        "Reply-To": "svar+ab2c.k7d@sorum.example",
        "In-Reply-To": "<1@eksempel.no>",
        "References": "<0@eksempel.no> <1@eksempel.no>",
        "Subject": "SV: Søknad [S-2026-000123]",
        "Content-Language": "nb",
        "MIME-Version": "1.0",
        "Content-Type": 'text/plain; charset="utf-8"',
        "Content-Transfer-Encoding": "quoted-printable",
    }
    assert message.get_content().replace("\r", "") == "Hei Kari.\n\nVi har sett på søknaden.\n"


def test_the_same_message_gives_the_same_bytes() -> None:
    later = replace(REPLY, created_at=REPLY.created_at.astimezone(timezone(timedelta(hours=2))))
    with_file = replace(REPLY, attachments=(Attachment("a.pdf", "application/pdf", b"x" * 1000),))
    assert compose(REPLY, "a") == compose(replace(REPLY), "a") == compose(later, "a")
    assert compose(with_file, "a") == compose(replace(with_file), "a")


def test_automatic_messages_say_so() -> None:
    receipt = replace(REPLY, kind=OutgoingKind.RECEIPT, automatic=True, return_path="")
    message = strict(compose(receipt, "x"))
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["X-Auto-Response-Suppress"] == "All"
    forward = replace(receipt, kind=OutgoingKind.FORWARD)
    sent_on = strict(compose(forward, "x"))
    assert sent_on["Auto-Submitted"] == "auto-generated"
    # Bounces of a forward are wanted: «NDR» and «All» would have Exchange keep them.
    assert sent_on["X-Auto-Response-Suppress"] == "DR, RN, NRN, OOF, AutoReply"
    assert "Auto-Submitted" not in names(compose(REPLY, "x"))
    assert parse(compose(receipt, "x"), {"mail_from": ""}, OWN).receipt_barred


TEXTS = [
    "",
    "Hei",
    "Hei på deg\n\nHilsen\n",
    "x" * 5000,
    "ord " * 2000,
    "å" * 3000,
    "linje med slutt \nog mer\t\n",
    ".\n..\n.punktum\n\n.\n",
    "From nå av\n>From før\n",
    "a=b=3D\n=\n",
    "日本語のテキスト。\n" * 50,
    "😊" * 100,
    "ende\r\nav\rlinje\u2028ny",
    "NUL\0 og \x07 og \ud800 her",
    "A\u030apent",
    "\n\n\nblanke\n\n\n",
]


@pytest.mark.parametrize("text", TEXTS)
def test_texts_come_back(text: str) -> None:
    raw = compose(replace(REPLY, text=text), "x")
    check_wire(raw)
    expected = (
        text.replace("\r\n", "\n")
        .replace("\r", "\n")
        .replace("\u2028", "\n")
        .replace("A\u030a", "Å")
    )
    expected = "".join(c for c in expected if c not in "\0\x07\ud800").strip("\n").rstrip()
    assert parse(raw, {}, OWN).text == expected
    assert strict(raw).get_content().replace("\r", "").strip("\n").rstrip() == expected


@pytest.mark.parametrize(
    ("subject", "shown"),
    [
        ("", ""),
        ("Hei", "Hei"),
        ("Søknad", "Søknad"),
        ("Hei  du", "Hei  du"),
        ("Et langt emne " * 8, ("Et langt emne " * 8).strip()),
        ("Et langt emne på norsk: æøå " * 7, ("Et langt emne på norsk: æøå " * 7).strip()),
        ("日本" * 60, "日本" * 60),
        ("x" * 190, "x" * 190),
        ("x" * 300, "x" * 199 + "…"),
        ("x" * 300 + " [S-2026-000123]", "x" * 183 + "… [S-2026-000123]"),
        ("=?utf-8?Q?falsk?=", "=?utf-8?Q?falsk?="),
        ("Hei\r\nBcc: alle@eksempel.no", "Hei Bcc: alle@eksempel.no"),
        ("Hei\n\n<script>", "Hei <script>"),
        ("Hei\x00\x07\x85du", "Hei du"),
        ("faktura\u202efdp.exe", "fakturafdp.exe"),
        ("halv \ud800 tegn", "halv  tegn"),
        ("A\u030apent", "Åpent"),
        ("«sitat» – 50 % _under_ ?=", "«sitat» – 50 % _under_ ?="),
    ],
)
def test_subjects(subject: str, shown: str) -> None:
    raw = compose(replace(REPLY, subject=subject), "x")
    check_wire(raw)
    assert names(raw) == names(compose(REPLY, "x"))
    assert strict(raw)["Subject"] == shown
    assert parse(raw, {}, OWN).subject == shown
    assert all(
        len(line) <= 78 or len(line.split(b" ")) <= 2
        for line in raw.partition(b"\r\n\r\n")[0].split(b"\r\n")
    )


EVIL = "x\r\nBcc: alle@eksempel.no\r\n\r\nfalsk tekst\0\u202e\ud800"


@pytest.mark.parametrize(
    "message",
    [
        replace(REPLY, subject=EVIL),
        replace(REPLY, to=replace(REPLY.to, name=EVIL)),
        replace(REPLY, sender=replace(REPLY.sender, name=EVIL)),
        replace(REPLY, in_reply_to=f"<a@b>{EVIL}"),
        replace(REPLY, references=(f"<a@b>{EVIL}", "<c@d\r\nBcc: x@y.no>")),
        replace(REPLY, message_id=f"<a@b{EVIL}>"),
        replace(REPLY, message_id=""),
        replace(REPLY, language=EVIL),
        replace(REPLY, attachments=(Attachment(EVIL, EVIL, b"x", EVIL, inline=True),)),
        replace(REPLY, attachments=(Attachment('a"; x="y.pdf', "text/html\r\nX-A: b", b"x"),)),
    ],
)
def test_nothing_gets_into_the_headers(message: Outgoing) -> None:
    raw = compose(message, "mx.sorum.example\r\nX: y")
    check_wire(raw)
    parsed = strict(raw)
    assert not {"bcc", "x", "x-a"} & {name.lower() for name in parsed}
    for part in parsed.walk():
        assert not {"bcc", "x", "x-a"} & {name.lower() for name in part}
    assert "falsk tekst" not in parse(raw, {}, OWN).text
    assert parsed["Message-ID"].startswith("<")


@pytest.mark.parametrize(
    "address",
    [
        "",
        "kari",
        "kari@",
        "@x.no",
        "a@b.no\r\nRCPT TO:<x@y.no>",
        "a b@x.no",
        "<a@b.no>",
        "kåre@x.no",
        "a@b.no,c@d.no",
    ],
)
def test_addresses_that_cannot_be_written_are_refused(address: str) -> None:
    try:
        raw = compose(replace(REPLY, to=Address("email", address)), "x")
    except RejectedError:
        return
    # Stripped of what does not belong it may be an address; never more than one.
    assert address.startswith(("a@b.no\r\n", "a b@"))
    assert len(strict(raw)["To"].addresses) == 1


def test_an_international_domain_is_written_in_ascii() -> None:
    raw = compose(replace(REPLY, to=Address("email", "post@sørum.example", "Å")), "x")
    assert b"post@xn--srum-gra.example" in raw


@pytest.mark.parametrize(
    "name",
    [
        "Kari",
        "Nordmann, Kari",
        'Kari "K" N',
        "Kåre Ås",
        "St. Hans\\",
        "a@b.no",
        "=?x?",
        "",
        "x" * 500,
        "å" * 300,
        "(k)",
    ],
)
def test_names(name: str) -> None:
    raw = compose(replace(REPLY, to=Address("email", "kari@eksempel.no", name)), "x")
    check_wire(raw)
    assert parse_addresses(raw.partition(b"\r\nTo: ")[2].partition(b"\r\nReply-To")[0]) == [
        ("kari" if name == "kari@eksempel.no" else name[:200], "kari@eksempel.no")
    ]
    assert [a.addr_spec for a in strict(raw)["To"].addresses] == ["kari@eksempel.no"]


def test_long_references_keep_the_first_and_the_last_nineteen() -> None:
    ids = tuple(f"<{n}@eksempel.no>" for n in range(100))
    found = parse(compose(replace(REPLY, references=ids), "x"), {}, OWN).references
    assert found == (ids[0], *ids[-19:])


def test_attachments_come_back() -> None:
    files = (
        Attachment("Søknad om plass.pdf", "application/pdf", b"%PDF-" + bytes(range(256)) * 300),
        Attachment("tom.txt", "text/plain", b""),
        Attachment("hus.png", "image/png", b"\x89PNG\r\n\x1a\n", "bilde1", inline=True),
        Attachment("brev.eml", "message/rfc822", b"Subject: x\r\n\r\n--=_grense\r\nInni\r\n"),
        Attachment("rart.eml", "message/rfc822", "Subject: å\n\nÅtte bit\n".encode()),
        Attachment("å" * 100 + ".pdf", "application/pdf", b"%PDF-"),
        Attachment('sitat"\\;.pdf', "ikke en type", b"x"),
    )
    raw = compose(replace(REPLY, attachments=files), "x")
    check_wire(raw)
    found = parse(raw, {}, OWN)
    assert found.text == REPLY.text.strip()
    assert found.defects == ()
    assert [a.content for a in found.attachments] == [a.content for a in files]
    assert [a.filename for a in found.attachments] == [
        "Søknad om plass.pdf", "tom.txt", "hus.png", "brev.eml", "rart.eml", "å" * 100 + ".pdf",
        "sitat__;.pdf",
    ]  # fmt: skip
    assert [a.content_type for a in found.attachments] == [
        "application/pdf", "text/plain", "image/png", "message/rfc822", "text/plain",
        "application/pdf", "text/plain",
    ]  # fmt: skip
    assert [a.inline for a in found.attachments] == [False, False, True, False, False, False, False]
    assert found.attachments[2].content_id == "bilde1"
    standard = [part.get_filename() for part in strict(raw).iter_attachments()]
    assert standard[0] == "Søknad om plass.pdf"


@settings(max_examples=examples(150), deadline=None)
@given(st.text(max_size=200), st.text(max_size=300), st.text(max_size=60), st.text(max_size=40))
def test_any_text_makes_a_sound_mail(subject: str, text: str, name: str, filename: str) -> None:
    message = replace(
        REPLY,
        subject=subject,
        text=text,
        to=Address("email", "kari@eksempel.no", name),
        attachments=(Attachment(filename, "application/pdf", b"x"),),
    )
    raw = compose(message, "x")
    check_wire(raw)
    found = parse(raw, {"mail_from": "post@sorum.example"}, OWN)
    assert found.defects == ()
    assert len(found.attachments) == 1
    assert found.sender == Address("email", "post@sorum.example", "Sørum kommune, Vei og park")
    assert [a.addr_spec for a in strict(raw)["To"].addresses] == ["kari@eksempel.no"]


def test_a_receipt_is_made_quickly() -> None:
    receipt = replace(REPLY, kind=OutgoingKind.RECEIPT, automatic=True, text=REPLY.text * 8)
    best = 9.0
    for _ in range(5):
        start = time.process_time()
        for _ in range(100):
            compose(receipt, "x")
        best = min(best, (time.process_time() - start) / 100)
    assert best < 0.001
