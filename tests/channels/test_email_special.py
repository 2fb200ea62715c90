"""Parts that need to be understood: winmail.dat, calendars, signed and encrypted mail, old files."""

# ruff: noqa: E501 - one row, one case
from __future__ import annotations

import base64

import pytest

from channels.base import Incoming, Mark
from channels.email.parse import OwnAddresses, parse
from channels.email.tnef import Budget, TnefError, read_tnef
from tests.channels import tnef

OWN = OwnAddresses(frozenset({"post@sorum.example"}), frozenset({"sorum.example"}))
TOP = "From: Kari <kari@eksempel.no>\r\nTo: post@sorum.example\r\nSubject: Hei\r\nMIME-Version: 1.0\r\n"


def read(*lines: str, body: bytes = b"Hei") -> Incoming:
    head = TOP + "".join(f"{line}\r\n" for line in lines) + "\r\n"
    return parse(head.encode() + body, {"recipients": ["post@sorum.example"]}, OWN)


def mixed(*parts: tuple[str, bytes], kind: str = "mixed") -> Incoming:
    body = b"".join(
        b"--g\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n" for head, content in parts
    )
    return read(f"Content-Type: multipart/{kind}; boundary=g", body=body + b"--g--\r\n")


TEXT = ("Content-Type: text/plain; charset=utf-8", b"Hei")


def in_base64(kind: str, content: bytes) -> tuple[str, bytes]:
    return f"Content-Type: {kind}\r\nContent-Transfer-Encoding: base64", base64.encodebytes(content)


# winmail.dat


def test_winmail_is_unpacked_and_kept() -> None:
    data = tnef.winmail(
        tnef.file("Søknad om plass.pdf", b"%PDF-1.7 x"), tnef.file("bilde.jpg", b"\xff\xd8\xff\xe0")
    )
    incoming = mixed(TEXT, in_base64("application/ms-tnef; name=winmail.dat", data))
    assert incoming.text == "Hei"
    assert [(a.filename, a.content_type) for a in incoming.attachments] == [
        ("winmail.dat", "application/ms-tnef"),
        ("Søknad om plass.pdf", "application/pdf"),
        ("bilde.jpg", "image/jpeg"),
    ]
    assert incoming.attachments[0].content == data
    assert incoming.attachments[1].content == b"%PDF-1.7 x"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (tnef.attribute(1, 0x800C, "Hei på deg\0".encode("cp1252")), "Hei på deg"),
        (tnef.attribute(1, 0x9003, tnef.properties((0x1F, 0x1000, "Blåbær".encode("utf-16-le") + b"\0\0"))), "Blåbær"),
        (tnef.attribute(1, 0x9003, tnef.properties((0x102, 0x1013, b"<meta charset=utf-8><p>Bl\xc3\xa5<p>b\xc3\xa6r"))), "Blå\n\nbær"),
    ],
)  # fmt: skip
def test_its_text_is_the_text_when_there_is_no_other(body: bytes, text: str) -> None:
    kind, data = in_base64("application/vnd.ms-tnef; name=winmail.dat", tnef.winmail(body))
    assert read(*kind.split("\r\n"), body=data).text == text
    assert mixed(TEXT, (kind, data)).text == "Hei"


def test_files_of_a_message_inside_winmail_come_out() -> None:
    inner = tnef.winmail(tnef.file("inni.txt", b"innhold"))
    data = tnef.winmail(tnef.message_inside("Videresendt", inner))
    incoming = mixed(TEXT, in_base64("application/ms-tnef", data))
    assert "inni.txt" in [a.filename for a in incoming.attachments]


@pytest.mark.parametrize("nested", [False, True])
def test_what_lies_in_many_winmails_is_unpacked_up_to_one_limit_for_all(nested: bool) -> None:
    inner = tnef.winmail(*[tnef.file("a.txt", b"hei")] * 1_000)
    data = tnef.winmail(tnef.message_inside("x", inner)) if nested else inner
    incoming = mixed(TEXT, *[in_base64("application/ms-tnef; name=winmail.dat", data)] * 30)
    names = [file.filename for file in incoming.attachments]
    assert names.count("winmail.dat") == 30, "all of it is there"
    assert 100 < len(names) < 300
    assert any("unpacked" in defect for defect in incoming.defects)


def test_files_of_winmails_are_unpacked_up_to_so_many_bytes_for_all() -> None:
    budget = Budget(size=1_200)
    large = tnef.winmail(tnef.file("a.bin", bytes(500)))
    nested = tnef.winmail(tnef.message_inside("x", large))
    sizes = [
        [len(file.content) for file in read_tnef(data, budget).files]
        for data in (large, nested, large)
    ]
    # Of the second, the file inside fits, and the message that it is in does not.
    assert sizes == [[500], [500, 0], [0]]
    assert budget.spent


def test_a_broken_winmail_is_kept_and_told() -> None:
    for data in (b"noe annet", tnef.winmail(tnef.file("a.txt", b"x" * 500))[:300]):
        incoming = mixed(TEXT, in_base64("application/ms-tnef; name=winmail.dat", data))
        assert incoming.text == "Hei"
        assert incoming.attachments[0].content == data
    assert any(
        "winmail.dat" in d for d in mixed(TEXT, in_base64("application/ms-tnef", b"noe")).defects
    )
    with pytest.raises(TnefError):
        read_tnef(b"noe")


# Calendars

INVITATION = """BEGIN:VCALENDAR
METHOD:REQUEST
BEGIN:VTIMEZONE
TZID:W. Europe Standard Time
BEGIN:STANDARD
DTSTART:16010101T030000
TZOFFSETFROM:+0200
TZOFFSETTO:+0100
RRULE:FREQ=YEARLY;INTERVAL=1;BYDAY=-1SU;BYMONTH=10
END:STANDARD
BEGIN:DAYLIGHT
DTSTART:16010101T020000
TZOFFSETFROM:+0100
TZOFFSETTO:+0200
RRULE:FREQ=YEARLY;INTERVAL=1;BYDAY=-1SU;BYMONTH=3
END:DAYLIGHT
END:VTIMEZONE
BEGIN:VEVENT
SUMMARY;LANGUAGE=nb-NO:Befaring\\, tomt 7
DTSTART;TZID=W. Europe Standard Time:20260303T100000
DTEND;TZID=W. Europe Standard Time:20260303T113000
LOCATION:Rådhuset
ATTENDEE;PARTSTAT=ACCEPTED:mailto:kari@eksempel.no
END:VEVENT
END:VCALENDAR
"""


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "Møteinnkalling: Befaring, tomt 7\nTid: tirsdag 3. mars 2026 kl. 10.00–11.30\nSted: Rådhuset"),
        ({"METHOD:REQUEST": "METHOD:CANCEL"}, "Avlyst møte: Befaring, tomt 7\nTid: tirsdag 3. mars 2026 kl. 10.00–11.30\nSted: Rådhuset"),
        ({"METHOD:REQUEST": "METHOD:REPLY", "LOCATION:Rådhuset\n": ""}, "Svar på møteinnkalling: Befaring, tomt 7\nSvar: godtatt\nTid: tirsdag 3. mars 2026 kl. 10.00–11.30"),
        ({"METHOD:REQUEST\n": "", ";TZID=W. Europe Standard Time:20260303T100000": ":20260703T080000Z", ";TZID=W. Europe Standard Time:20260303T113000": ":20260704T080000Z"},
         "Kalenderhendelse: Befaring, tomt 7\nTid: fredag 3. juli 2026 kl. 10.00 – lørdag 4. juli 2026 kl. 10.00\nSted: Rådhuset"),
        ({";TZID=W. Europe Standard Time:20260303T100000": ";VALUE=DATE:20260303", "DTEND;TZID=W. Europe Standard Time:20260303T113000\n": ""},
         "Møteinnkalling: Befaring, tomt 7\nTid: tirsdag 3. mars 2026\nSted: Rådhuset"),
        ({";TZID=W. Europe Standard Time:20260303T100000": ":20260303T100000", "DTEND;TZID=W. Europe Standard Time:20260303T113000": "DURATION:PT45M"},
         "Møteinnkalling: Befaring, tomt 7\nTid: tirsdag 3. mars 2026 kl. 10.00–10.45\nSted: Rådhuset"),
    ],
)  # fmt: skip
def test_an_invitation_is_told_in_words(changes: dict[str, str], told: str) -> None:
    calendar = INVITATION
    for old, new in changes.items():
        assert old in calendar
        calendar = calendar.replace(old, new)
    content = calendar.replace("\n", "\r\n").encode()
    incoming = mixed(
        TEXT,
        ('Content-Type: text/calendar; charset="utf-8"; method=REQUEST', content),
        kind="alternative",
    )
    assert incoming.text == f"Hei\n\n{told}"
    assert incoming.marks == (Mark.CALENDAR,)
    assert [a.filename for a in incoming.attachments] == ["invitasjon.ics"]
    assert incoming.attachments[0].content.rstrip() == content.rstrip()


def test_an_invitation_that_comes_as_a_file_too_is_told_once() -> None:
    calendar = INVITATION.encode()
    incoming = mixed(
        TEXT,
        ("Content-Type: text/calendar; method=REQUEST", calendar),
        ("Content-Type: application/ics; name=invite.ics", calendar),
    )
    assert incoming.text.count("Møteinnkalling") == 1
    assert [a.filename for a in incoming.attachments] == ["invitasjon.ics", "invite.ics"]


def test_an_invitation_with_a_name_of_its_own_keeps_it() -> None:
    head = 'Content-Type: text/calendar; charset="utf-8"; name="befaring.ics"'
    incoming = mixed(TEXT, (head, INVITATION.encode()))
    assert [a.filename for a in incoming.attachments] == ["befaring.ics"]


def test_the_parts_of_a_delivery_report_have_plain_names() -> None:
    incoming = mixed(
        TEXT,
        ("Content-Type: message/delivery-status", b"Reporting-MTA: dns; mx.eksempel.no"),
        ("Content-Type: text/rfc822-headers", b"Subject: Hei"),
        kind="report; report-type=delivery-status",
    )
    assert [a.filename for a in incoming.attachments] == [
        "leveringsrapport.txt",
        "opprinnelig-melding.txt",
    ]


@pytest.mark.parametrize(
    "calendar",
    [b"", b"BEGIN:VCALENDAR\r\n", b"x" * 100_000, b"BEGIN:VEVENT\r\n" * 1000, b"\xff\xfe\0", b"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nDTSTART:99999999T999999\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"],
)  # fmt: skip
def test_a_calendar_that_cannot_be_read_is_a_file(calendar: bytes) -> None:
    incoming = mixed(TEXT, ("Content-Type: text/calendar; name=m.ics", calendar))
    assert incoming.text.startswith("Hei")
    assert [a.filename for a in incoming.attachments] == ["m.ics"]
    assert Mark.CALENDAR in incoming.marks


# Signed and encrypted


@pytest.mark.parametrize(
    ("incoming", "marks", "text", "names"),
    [
        (mixed(TEXT, in_base64("application/pkcs7-signature; name=smime.p7s", b"\x30\x82"), kind="signed"), (Mark.SIGNED,), "Hei", ["smime.p7s"]),
        (mixed(TEXT, ("Content-Type: application/pgp-signature; name=s.asc", b"-----BEGIN PGP SIGNATURE-----"), kind="signed"), (Mark.SIGNED,), "Hei", ["s.asc"]),
        (mixed(("Content-Type: application/pgp-encrypted", b"Version: 1"), ("Content-Type: application/octet-stream; name=e.asc", b"-----BEGIN PGP MESSAGE-----"), kind="encrypted"), (Mark.ENCRYPTED,), "", ["vedlegg-1.asc", "e.asc"]),
        (read("Content-Type: application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m", body=b"\x30\x80\x06"), (Mark.ENCRYPTED,), "", ["smime.p7m"]),
        (read("Content-Type: application/x-pkcs7-mime; name=smime.p7m", body=b"\x30\x80\x06"), (Mark.ENCRYPTED,), "", ["smime.p7m"]),
        (read("Content-Type: application/pkcs7-mime; smime-type=signed-data; name=smime.p7m", body=b"\x30\x80\x06"), (Mark.SIGNED,), "", ["smime.p7m"]),
        (read(body=b"-----BEGIN PGP MESSAGE-----\r\n\r\nhQEM\r\n-----END PGP MESSAGE-----"), (Mark.ENCRYPTED,), None, []),
        (read(body=b"-----BEGIN PGP SIGNED MESSAGE-----\r\nHash: SHA256\r\n\r\nHei\r\n"), (Mark.SIGNED,), None, []),
        (read(body=b"Hei\r\n> -----BEGIN PGP MESSAGE-----"), (), None, []),
        (read(), (), "Hei", []),
    ],
)  # fmt: skip
def test_signed_and_encrypted_mail_is_marked(
    incoming: Incoming, marks: tuple[Mark, ...], text: str | None, names: list[str]
) -> None:
    assert incoming.marks == marks
    assert [a.filename for a in incoming.attachments] == names
    assert text is None or incoming.text == text


# Files inside text, newlines, structure


def test_uuencoded_files_in_the_text_become_attachments() -> None:
    body = b"Se her:\r\nbegin 644 brev.txt\r\n#:&5I\r\n`\r\nend\r\nHilsen Kari\r\n"
    incoming = read(body=body)
    assert incoming.text == "Se her:\n[brev.txt]\nHilsen Kari"
    assert [(a.filename, a.content) for a in incoming.attachments] == [("brev.txt", b"hei")]
    for text in (
        "begin 644 brev.txt\nuten slutt",
        "vi begin 644 nå\nend",
        "=ybegin line=128 size=3 name=a\nxyz\n=yend",
    ):
        incoming = read(body=text.encode())
        assert (incoming.text, incoming.attachments) == (text, ())


@pytest.mark.parametrize("newline", [b"\r\n", b"\n"])
def test_files_keep_their_newlines(newline: bytes) -> None:
    raw = (TOP.encode() + b"Content-Type: multipart/mixed; boundary=g\r\n\r\n--g\r\nContent-Type: text/csv\r\n\r\n"
           b"a;b\r\nc;d\r\n--g--\r\n").replace(b"\r\n", newline)  # fmt: skip
    assert parse(raw, {}, OWN).attachments[0].content == b"a;b" + newline + b"c;d"


@pytest.mark.parametrize("times", [1, 3_000])
def test_binary_content_is_kept_byte_for_byte(times: int) -> None:
    content = bytes(range(256)) + b"\r\n\n\r\r\n\0" * times + bytes(range(256))
    incoming = mixed(
        TEXT,
        ("Content-Type: application/x-data\r\nContent-Transfer-Encoding: binary", content),
        TEXT,
    )
    assert incoming.attachments[0].content == content


@pytest.mark.parametrize(
    ("content_type", "found"),
    [
        ("text/html charset=utf-8", ("", True)),
        ("multipart/mixed boundary=g", ("Hei", False)),
        ("multipart/mixed; boundary=feil", ("Hei", False)),
        ('multipart/mixed; boundary="g" ; x', ("Hei", False)),
    ],
)
def test_content_types_with_a_slip(content_type: str, found: tuple[str, bool]) -> None:
    body = (
        b"--g\r\nContent-Type: text/plain\r\n\r\nHei\r\n--g--\r\n"
        if "multipart" in content_type
        else b""
    )
    incoming = read(f"Content-Type: {content_type}", body=body)
    assert (incoming.text, incoming.has_html) == found


def test_a_multipart_that_says_it_is_encoded_but_is_not() -> None:
    png = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"x" * 8)
    body = (
        b"--g\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + png
        + b"\r\n--g\r\nContent-Type: text/plain\r\n\r\nHei\r\n--g--\r\n"
    )
    incoming = read(
        "Content-Type: multipart/mixed; boundary=g",
        "Content-Transfer-Encoding: quoted-printable",
        body=body,
    )
    assert incoming.text == "Hei"
    assert [len(a.content) for a in incoming.attachments] == [16]


def test_parts_behind_an_early_end_are_read() -> None:
    body = b"--g\r\n\r\nHei\r\n--g--\r\n--g\r\nContent-Type: application/pdf; name=a.pdf\r\n\r\n%PDF-1\r\n--g--\r\n"
    incoming = read("Content-Type: multipart/mixed; boundary=g", body=body)
    assert (incoming.text, [a.filename for a in incoming.attachments]) == ("Hei", ["a.pdf"])


def test_a_sender_that_calls_its_alternatives_mixed_says_things_once() -> None:
    html = ("Content-Type: text/html", b"<p>Hei <b>du</b> der</p>")
    assert mixed(("Content-Type: text/plain", b"Hei du der"), html).text == "Hei du der"
    assert mixed(("Content-Type: text/plain", b"Noe annet"), html).text == "Noe annet\n\nHei du der"


def test_alternatives_may_have_names() -> None:
    incoming = mixed(
        ("Content-Type: text/plain; name=a.txt", b"Hei"),
        (
            "Content-Type: text/html; name=a.html\r\nContent-Disposition: inline; filename=a.html",
            b"<p>Hei",
        ),
        kind="alternative",
    )
    assert (incoming.text, incoming.has_html, incoming.attachments) == ("Hei", True, ())
    related = (
        b"--r\r\nContent-Type: text/html; name=a.html\r\n\r\n<p>Hei\r\n"
        b"--r\r\nContent-Type: image/png; name=a.png\r\n\r\n\x89PNG\r\n\x1a\n\r\n--r--"
    )
    incoming = mixed(
        TEXT, ("Content-Type: multipart/related; boundary=r", related), kind="alternative"
    )
    assert incoming.has_html
    assert [a.filename for a in incoming.attachments] == ["a.png"]


@pytest.mark.parametrize(
    ("disposition", "shown"),
    [
        ("", True),
        ("Content-Disposition: inline\r\n", True),
        ("Content-Disposition: attachment\r\n", False),
    ],
)
def test_a_forwarded_message_is_shown_below_the_text_and_kept(
    disposition: str, shown: bool
) -> None:
    eml = b"From: Ola <ola@eksempel.no>\r\nDate: Mon, 2 Mar 2026 10:00:00 +0100\r\nSubject: =?utf-8?Q?S=C3=B8knad?=\r\n\r\nInni"
    incoming = mixed(TEXT, (f"{disposition}Content-Type: message/rfc822", eml))
    told = "---------- Videresendt melding ----------\nFra: Ola <ola@eksempel.no>\nDato: Mon, 2 Mar 2026 10:00:00 +0100\nEmne: Søknad\n\nInni"
    assert incoming.text == (f"Hei\n\n{told}" if shown else "Hei")
    assert [(a.filename, a.content) for a in incoming.attachments] == [("Søknad.eml", eml)]


@pytest.mark.parametrize(
    ("charset", "content", "text"),
    [
        ("utf-16", "Blåbær".encode("utf-16"), "Blåbær"),
        ("utf-16le", "Blåbær".encode("utf-16-le"), "Blåbær"),
        ("", "Blåbær".encode("utf-16"), "Blåbær"),
        ("utf-8", b"\xef\xbb\xbfHei", "Hei"),
        ("iso-8859-8-i", b"\xf9\xec\xe5\xed", "שלום"),
        ("ks_c_5601-1987", "안녕".encode("cp949"), "안녕"),
        ("gb2312", "镕".encode("gb18030"), "镕"),
        ("shift_jis", "①".encode("cp932"), "①"),
        ("iso-2022-jp", "日本".encode("iso2022_jp"), "日本"),
        ("iso-2022-jp-ms", "日本".encode("iso2022_jp"), "日本"),
        ("windows-874", "ก".encode("cp874"), "ก"),
        ("x-mac-roman", "Blåbær".encode("mac_roman"), "Blåbær"),
        ("x-mac-ce", "ž".encode("mac_latin2"), "ž"),
        ("utf-7", b"Bl+AOU-b+AOY-r", "Blåbær"),
        ("x-unknown", "Blåbær".encode(), "Blåbær"),
        ("ansi_x3.110-1983", b"Bl\xe5b\xe6r", "Blåbær"),
        ("utf-8; format=flowed", "Blåbær".encode(), "Blåbær"),
        ("x-windows-1251", "Привет".encode("cp1251"), "Привет"),
    ],
)  # fmt: skip
def test_charsets(charset: str, content: bytes, text: str) -> None:
    label = f'; charset="{charset}"' if charset else ""
    assert (
        read(
            f"Content-Type: text/plain{label}",
            "Content-Transfer-Encoding: base64",
            body=base64.encodebytes(content),
        ).text
        == text
    )
