"""Whole mails into `Incoming`."""

# ruff: noqa: E501 - one row, one case
from __future__ import annotations

import base64
import pickle
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from channels.base import Address, Incoming, MessageKind
from channels.email.parse import OwnAddresses, content_key, delivery_key, formatted, parse

OWN = OwnAddresses(
    addresses=frozenset(
        {"post@sorum.example", "barnehage@sorum.example", "vei+drift@sorum.example"}
    ),
    domains=frozenset({"sorum.example"}),
)
TO_US = {"mail_from": "kari@eksempel.no", "recipients": ["post@sorum.example"]}


def mail(*lines: str, body: str | bytes = "Hei\n", **fields: str) -> bytes:
    """A mail with the usual headers and what is given."""
    head = {
        "From": "Kari Nordmann <kari@eksempel.no>",
        "To": "post@sorum.example",
        "Subject": "Hei",
        "Message-ID": "<1@eksempel.no>",
        **{name.replace("_", "-"): value for name, value in fields.items()},
    }
    text = "".join(f"{name}: {value}\n" for name, value in head.items() if value)
    text += "".join(f"{line}\n" for line in lines) + "\n"
    content = body.encode() if isinstance(body, str) else body
    return text.encode().replace(b"\n", b"\r\n") + content.replace(b"\n", b"\r\n")


def multipart(kind: str, *parts: str | bytes, extra: str = "") -> bytes:
    """A mail of several parts, each given with its headers."""
    content = b"".join(
        b"--grense\n" + (part.encode() if isinstance(part, str) else part) + b"\n" for part in parts
    )
    return mail(
        "MIME-Version: 1.0",
        f'Content-Type: multipart/{kind}; boundary="grense"{extra}',
        body=content + b"--grense--\n",
    )


def read(raw: bytes, **envelope: object) -> Incoming:
    return parse(raw, {**TO_US, **envelope}, OWN)


PLAIN = "Content-Type: text/plain; charset=utf-8\n\nHei på deg\n"
HTML = "Content-Type: text/html; charset=utf-8\n\n<p>Hei <b>på</b> deg</p>\n"
PDF = (
    'Content-Type: application/pdf; name="=?utf-8?Q?S=C3=B8knad.pdf?="\n'
    "Content-Disposition: attachment; filename*=utf-8''S%C3%B8knad.pdf\n"
    "Content-Transfer-Encoding: base64\n\nJVBERi0xLjQ=\n"
)


JPEG = b"Content-Type: image/jpeg\n\n\xff\xd8\xff\xe0"


def test_an_ordinary_mail() -> None:
    incoming = read(
        mail(
            "MIME-Version: 1.0",
            'Content-Type: text/plain; charset="utf-8"',
            "Content-Transfer-Encoding: quoted-printable",
            Date="Mon, 2 Mar 2026 10:15:30 +0100",
            Subject="=?utf-8?Q?S=C3=B8knad?=",
            Cc="Per <per@eksempel.no>",
            In_Reply_To="<svar.1@sorum.example>",
            References="<a@b> <svar.1@sorum.example>",
            body="Hei p=C3=A5 deg, dette er en lang linje som er br=\nutt.\n\nHilsen Kari\n",
        )
    )
    assert incoming == Incoming(
        channel="email",
        external_id=incoming.external_id,
        sender=Address("email", "kari@eksempel.no", "Kari Nordmann"),
        recipients=("post@sorum.example",),
        subject="Søknad",
        text="Hei på deg, dette er en lang linje som er brutt.\n\nHilsen Kari",
        sent_at=datetime(2026, 3, 2, 9, 15, 30, tzinfo=UTC),
        message_id="<1@eksempel.no>",
        in_reply_to="<svar.1@sorum.example>",
        references=("<a@b>", "<svar.1@sorum.example>"),
    )


def test_it_can_travel_between_processes() -> None:
    incoming = read(multipart("mixed", PLAIN, PDF))
    assert pickle.loads(pickle.dumps(incoming)) == incoming
    assert pickle.loads(pickle.dumps(OWN)) == OWN


def test_a_worker_starts_without_servers_clients_and_html_parsers() -> None:
    code = (
        "import sys; import channels.email.parse; "
        "print({'aiosmtpd', 'aiosmtplib', 'lxml', 'nh3', 'icalendar', 'asyncio', 'email'} & set(sys.modules))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "set()"


def test_plain_text_is_preferred_and_html_is_shown_beside_it() -> None:
    raw = multipart("alternative", PLAIN, HTML)
    incoming = read(raw)
    assert incoming.text == "Hei på deg"
    assert incoming.has_html
    assert formatted(raw).html == "<p>Hei <b>på</b> deg</p>"
    assert incoming.attachments == ()


def test_html_alone_becomes_text() -> None:
    incoming = read(
        mail(
            "Content-Type: text/html; charset=utf-8",
            body="<html><head><title>T</title><style>p{}</style></head><body><h1>Overskrift</h1>"
            "<p>Første<br>andre</p><ul><li>en</li><li>to</li></ul><ol><li>a</li></ol>"
            '<p>Se <a href="https://sorum.example/a?b=1&amp;c=2">siden</a>,'
            ' <a href="https://sorum.example/">sorum.example</a>,'
            ' <a href="mailto:p@x.no">p@x.no</a></p>'
            "<table><tr><td>Navn</td><td>Kari</td></tr></table><blockquote>sitat</blockquote>"
            "<pre>a\n  b</pre><script>alert(1)</script><p style='display: none'>skjult</p>"
            "<p>1&nbsp;&lt;&nbsp;2 &amp; 3&#8364;</p></body></html>",
        )
    )
    assert incoming.text == (
        "Overskrift\n\nFørste\nandre\n\n- en\n- to\n\n1. a\n\n"
        "Se siden <https://sorum.example/a?b=1&c=2>, sorum.example, p@x.no\n\n"
        "Navn  Kari\n\n> sitat\n\na\n  b\n\n1 < 2 & 3€"
    )


def test_empty_plain_text_gives_way_to_html() -> None:
    incoming = read(multipart("alternative", "Content-Type: text/plain\n\n \n", HTML))
    assert incoming.text == "Hei på deg"


@pytest.mark.parametrize(
    ("html", "forbidden"),
    [
        ("<script>alert(1)</script>ok", "alert"),
        ('<img src="https://spion.example/x.gif">ok', "spion"),
        ('<img src="data:image/png;base64,AAAA">ok', "data:"),
        ('<a href="javascript:alert(1)">ok</a>', "javascript"),
        ('<a href="data:text/html,x">ok</a>', "data:"),
        ('<p onclick="alert(1)">ok</p>', "onclick"),
        ('<p style="position:fixed">ok</p>', "style"),
        ('<form action="https://spion.example"><input>ok</form>', "form"),
        ('<iframe src="https://spion.example"></iframe>ok', "iframe"),
        ('<link rel=stylesheet href="https://spion.example">ok', "spion"),
        ('<meta http-equiv=refresh content="0;url=https://spion.example">ok', "spion"),
        ("<svg><image href=https://spion.example /></svg>ok", "spion"),
        ('<table background="https://spion.example"><td>ok</table>', "spion"),
        ('<base href="https://spion.example">ok', "spion"),
        ("<!--[if mso]><p>spion</p><![endif]-->ok", "spion"),
        ('<a href="/desk/slett">ok</a>', "/desk"),
        ('<p id="navn" class="fixed">ok</p>', "class"),
    ],
)
def test_html_is_made_harmless(html: str, forbidden: str) -> None:
    shown = formatted(mail("Content-Type: text/html", body=html)).html
    assert forbidden not in shown
    assert "ok" in shown


def test_pictures_inside_the_mail_stay_and_are_marked() -> None:
    html = 'Content-Type: text/html\n\n<p>Se: <img src="cid:bilde1" alt="huset"></p>\n'
    picture = (
        "Content-Type: image/png; name=hus.png\nContent-ID: <bilde1>\nContent-Disposition: inline\n"
        "Content-Transfer-Encoding: base64\n\niVBORw0KGgo=\n"
    )
    raw = multipart("related", html, picture)
    assert '<img src="cid:bilde1" alt="huset">' in formatted(raw).html
    incoming = read(raw)
    [attachment] = incoming.attachments
    assert (attachment.content_id, attachment.inline) == ("bilde1", True)
    assert attachment.content == b"\x89PNG\r\n\x1a\n"
    assert incoming.text == "Se: [huset]"


def test_attachments() -> None:
    eml = "Content-Type: message/rfc822\n\nFrom: a@b.no\nSubject: =?utf-8?Q?Gammel_s=C3=B8knad?=\n\nInni\n"
    csv = "Content-Type: text/csv\nContent-Disposition: attachment; filename=tall.csv\n\na;b\n1;2\n"
    incoming = read(multipart("mixed", PLAIN, PDF, eml, csv, JPEG))
    assert incoming.text.startswith("Hei på deg\n\n")
    assert [(a.filename, a.content_type, a.content) for a in incoming.attachments] == [
        ("Søknad.pdf", "application/pdf", b"%PDF-1.4"),
        (
            "Gammel søknad.eml",
            "message/rfc822",
            b"From: a@b.no\r\nSubject: =?utf-8?Q?Gammel_s=C3=B8knad?=\r\n\r\nInni\r\n",
        ),
        ("tall.csv", "text/csv", b"a;b\r\n1;2\r\n"),
        ("vedlegg-4.jpg", "image/jpeg", b"\xff\xd8\xff\xe0"),
    ]
    assert not any(attachment.inline for attachment in incoming.attachments)


def test_the_files_of_a_message_that_is_shown_are_there_too() -> None:
    inner = multipart(
        "mixed", PLAIN, PDF, "Content-Type: text/plain\n\nbegin 644 a.txt\n#:&5I\n`\nend\n"
    ).replace(b"grense", b"inni")
    shown = b"Content-Type: message/rfc822\n\n" + inner
    attached = b"Content-Disposition: attachment\n" + shown
    names = ["Hei.eml", "a.txt", "Søknad.pdf"]
    incoming = read(multipart("mixed", PLAIN, shown))
    assert [a.filename for a in incoming.attachments] == names
    assert [a.content for a in incoming.attachments[1:]] == [b"hei", b"%PDF-1.4"]
    incoming = read(multipart("mixed", PLAIN, attached))
    assert [a.filename for a in incoming.attachments] == names[:1]
    incoming = read(
        multipart("mixed", PLAIN, shown, extra="; report-type=x").replace(b"/mixed", b"/report")
    )
    assert [a.filename for a in incoming.attachments] == names[:1]


def test_a_message_forwarded_twice_is_shown() -> None:
    first = b"Content-Type: message/rfc822\n\nFrom: a@b.no\nSubject: x\n\nInnerst\n"
    second = multipart("mixed", PLAIN, first).replace(b"grense", b"inni")
    incoming = read(multipart("mixed", PLAIN, b"Content-Type: message/rfc822\n\n" + second))
    heading = "---------- Videresendt melding ----------\nFra: "
    assert incoming.text == (
        f"Hei på deg\n\n{heading}Kari Nordmann <kari@eksempel.no>\nEmne: Hei\n\nHei på deg"
        f"\n\n{heading}a@b.no\nEmne: x\n\nInnerst"
    )
    assert [a.filename for a in incoming.attachments] == ["Hei.eml", "x.eml"]


def test_files_of_many_messages_are_unpacked_up_to_a_limit() -> None:
    inner = multipart("mixed", PLAIN, *[PDF] * 20).replace(b"grense", b"inni")
    incoming = read(multipart("mixed", *[b"Content-Type: message/rfc822\n\n" + inner] * 15))
    names = [attachment.filename for attachment in incoming.attachments]
    assert names.count("Hei.eml") == 15
    assert names.count("Søknad.pdf") == 200
    assert any("unpacked" in defect for defect in incoming.defects)


def test_a_mail_that_only_carries_another_shows_its_text() -> None:
    eml = "Content-Type: message/rfc822\n\nFrom: a@b.no\nSubject: x\n\nInni\n"
    incoming = read(multipart("mixed", eml))
    assert incoming.text == (
        "---------- Videresendt melding ----------\nFra: a@b.no\nEmne: x\n\nInni"
    )
    assert [a.filename for a in incoming.attachments] == ["x.eml"]


def test_many_attachments_are_all_kept() -> None:
    incoming = read(multipart("mixed", PLAIN, *[PDF] * 60))
    assert len(incoming.attachments) == 60


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("../../etc/passwd", "passwd"),
        ("..\\..\\windows\\system.ini", "system.ini"),
        ("C:\\Users\\Kari\\brev.docx", "brev.docx"),
        ("/tmp/x.pdf", "x.pdf"),
        ("faktura\u202efdp.exe", "fakturafdp.exe"),
        ("a\x00b\x01c.pdf", "abc.pdf"),
        ("hva: når?.pdf", "hva: når?.pdf"),
        ("Sak 12/2026.pdf", "Sak 12-2026.pdf"),
        ("~/brev.pdf", "brev.pdf"),
        ("..", "vedlegg-1.pdf"),
        ("   ", "vedlegg-1.pdf"),
        (".htaccess", "htaccess"),
        ("A\u030apent.pdf", "Åpent.pdf"),
        ("to\r\nlinjer.pdf", "to linjer.pdf"),
        ("<script>.html", "<script>.html"),
        ("_DSC0001.pdf", "_DSC0001.pdf"),
        ("__", "vedlegg-1.pdf"),
        ("x" * 300 + ".pdf", "x" * 146 + ".pdf"),
        ("å" * 200 + ".pdf", "å" * 116 + ".pdf"),
        ("bilde.pdf.", "bilde.pdf"),
    ],
)
def test_file_names_are_made_safe(name: str, safe: str) -> None:
    encoded = base64.b64encode(name.encode()).decode()
    part = f'Content-Type: application/pdf; name="=?utf-8?B?{encoded}?="\n\n%PDF-1.4'
    [attachment] = read(multipart("mixed", PLAIN, part)).attachments
    assert attachment.filename == safe


@pytest.mark.parametrize(
    ("headers", "body", "text"),
    [
        ("Content-Type: text/plain; charset=iso-8859-1", b"S\xf8knad", "Søknad"),
        ("Content-Type: text/plain", "Søknad".encode(), "Søknad"),
        ("Content-Type: text/plain; charset=us-ascii", b"S\xf8knad", "Søknad"),
        ("Content-Type: text/plain; charset=iso-8859-1", "Søknad".encode(), "Søknad"),
        ("Content-Type: text/plain; charset=unknown-8bit", b"S\xf8knad", "Søknad"),
        ("Content-Type: text/plain; charset=hex", b"4142", "4142"),
        ("Content-Type: text/html", b"<meta charset=koi8-r><p>\xf0\xd2\xc9", "При"),
        ("Content-Type: text", b"hei", "hei"),
        ("Content-Type: tekst", b"hei", "hei"),
        ("Content-Type: ;;;", b"hei", "hei"),
        ("Content-Type: plain/text", b"hei", "hei"),
        ("Content-Type: text/ht?l", b"<html><p>hei</html>", "hei"),
        ("Content-Type: text/html", b"<p>hei</p><style>p {}<p>du</p>", "hei"),
        ("Content-Type: text/html", b"<style>p {}<p>hei</p>", "p {}\nhei"),
        ("Content-Type: text/html", b"<meta charset=iso-2022-jp><p>\x1b$BF|K\\\x1b(B", "日本"),
        ("Content-Type: text/html; charset=us-ascii", b"<meta charset=koi8-r><p>\xf0\xd2\xc9", "При"),
        ("Content-Type: text/html", "<meta charset=utf-16><p>blåbær".encode(), "blåbær"),
        ("Content-Type: text/plain; charset=us-ascii", b"\x1b$BF|K\\\x1b(B", "日本"),
        ("Content-Type: text/markdown", b"*hei*", "*hei*"),
        ("Content-Type: text/enriched", b"<bold>hei</bold> du", "hei du"),
        ("Content-Transfer-Encoding: base64", b"SGVpIHDDpSBkZWc=", "Hei på deg"),
        ("Content-Transfer-Encoding: BASE64", b"SGVpIHD\nDpSBk\nZWc", "Hei på deg"),
        ("Content-Transfer-Encoding: base64", b"SGVp\nIGRlZw==\n\n_____ Liste\nhttps://liste.example", "Hei deg\n\n_____ Liste\nhttps://liste.example"),
        ("Content-Transfer-Encoding: base64", b"SGVpIGRlZw==\n-- \nListe", "Hei deg\n\n-- \nListe"),
        ("Content-Transfer-Encoding: base64", b"SGVp\n_____\nListe", "Hei\n\n_____\nListe"),
        ("Content-Transfer-Encoding: base64", b"Hei, dette er bare tekst.", "Hei, dette er bare tekst."),
        ("Content-Transfer-Encoding: base64", b"SGVp=IGRlZw==", "Hei deg"),
        ("Content-Transfer-Encoding: base64", b"!!!", ""),
        ("Content-Transfer-Encoding: quoted-printable", b"50=25 =E5 =ZZ = \nslutt=", "50% å =ZZ slutt"),
        ("Content-Transfer-Encoding: quoted-printable", b"a=C3=A5=\n\n=C3=", "aå\n\ufffd"),
        ("Content-Transfer-Encoding: quoted-printable", b"a==3Db\n=====.\nc==\nd", "a==b\n=====.\nc=d"),
        ("Content-Transfer-Encoding: x-uuencode", b"begin 644 a\n#:&5I\n`\nend\n", "hei"),
        ("Content-Transfer-Encoding: 7 bit", b"hei", "hei"),
        ("Content-Transfer-Encoding: rot13", b"hei", "hei"),
        ("Content-Type: text/plain; format=flowed", b"En lang \nlinje.\n> sitat \n> mer\n  innrykk\n-- \nK", "En lang linje.\n> sitat mer\n innrykk\n-- \nK"),
        ("Content-Type: text/plain; format=flowed; delsp=yes", b"sam \nmen", "sammen"),
        ("Content-Type: text/plain", b"a\x00b\x07c\x1b[0m\td", "abc[0m\td"),
        ("Content-Type: text/plain", "A\u030a \ud800 x".encode("utf-8", "surrogatepass"), "Å"),
        ("Content-Type: text/plain", b"a\rb\nc\r\nd", "a\nb\nc\nd"),
    ],
)  # fmt: skip
def test_bodies(headers: str, body: bytes, text: str) -> None:
    raw = mail(headers).partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + body
    found = read(raw).text
    assert found.startswith(text) if text == "Å" else found == text


def test_texts_on_both_sides_of_a_picture_are_one_text() -> None:
    incoming = read(
        multipart(
            "mixed",
            PLAIN,
            "Content-Type: image/png\n\nx",
            "Content-Type: text/plain\n\nHilsen Kari\n",
        )
    )
    assert incoming.text == "Hei på deg\n\nHilsen Kari"
    assert len(incoming.attachments) == 1


def test_html_with_a_plain_footer_keeps_both() -> None:
    raw = multipart("mixed", HTML, "Content-Type: text/plain\n\nListe <a@b>\n")
    assert read(raw).text == "Hei på deg\n\nListe <a@b>"
    shown = formatted(raw).html
    assert "Hei <b>på</b> deg" in shown
    assert "Liste &lt;a@b&gt;" in shown


def test_a_named_text_is_the_body_when_there_is_no_other() -> None:
    named = "Content-Type: text/plain; name=melding.txt\n\nHei\n"
    attached = (
        "Content-Type: text/plain\nContent-Disposition: attachment; filename=a.txt\n\nVedlagt\n"
    )
    assert read(multipart("mixed", named)).text == "Hei"
    incoming = read(multipart("mixed", attached))
    assert incoming.text == "Vedlagt"
    assert [a.filename for a in incoming.attachments] == ["a.txt"]


@pytest.mark.parametrize("kind", ["text/plain", "text/html"])
def test_a_text_file_to_be_shown_in_its_place_is_shown_and_kept(kind: str) -> None:
    file = f"Content-Type: {kind}\nContent-Disposition: %s; filename=a.txt\n\nVedlagt\n"
    named = f"Content-Type: {kind}; name=a.txt\n\nVedlagt\n"
    for shown in (file % "inline", named):
        incoming = read(multipart("mixed", PLAIN, shown))
        assert incoming.text == "Hei på deg\n\nVedlagt"
        assert [a.content for a in incoming.attachments] == [b"Vedlagt\r\n"]
    assert read(multipart("mixed", file % "inline", PLAIN)).text == "Vedlagt\n\nHei på deg"
    for disposition in ("attachment", "form-data"):
        assert read(multipart("mixed", PLAIN, file % disposition)).text == "Hei på deg"


@pytest.mark.parametrize("disposition", ["attachment", "inline"])
def test_a_file_called_a_text_is_no_text(disposition: str) -> None:
    head = f"Content-Disposition: {disposition}; filename=a.pdf"
    for raw in (
        mail(head, body="%PDF-1.4 x"),
        multipart("mixed", f"Content-Type: text/plain\n{head}\n\n%PDF-1.4 x"),
    ):
        incoming = read(raw)
        assert incoming.text == ""
        assert [(a.filename, a.content_type) for a in incoming.attachments] == [
            ("a.pdf", "application/pdf")
        ]


def test_of_texts_to_choose_from_the_plainest_is_read() -> None:
    enriched = "Content-Type: text/enriched\n\n<bold>Hei</bold> p\u00e5 deg\n"
    assert read(multipart("alternative", PLAIN, enriched)).text == "Hei på deg"
    assert (
        read(multipart("alternative", "Content-Type: text/plain\n\n\n", enriched)).text
        == "Hei på deg"
    )


def test_empty_files_are_files() -> None:
    incoming = read(
        multipart(
            "mixed",
            PLAIN,
            "Content-Type: application/pdf\n\n",
            "Content-Type: text/plain\nContent-Disposition: attachment\n\n",
            "Content-Type: text/plain\n\n",
            "\n",
        )
    )
    assert incoming.text == "Hei på deg"
    assert [(a.filename, a.content) for a in incoming.attachments] == [
        ("vedlegg-1.pdf", b""),
        ("vedlegg-2.txt", b""),
    ]


def test_signed_and_encrypted_mail() -> None:
    signature = "Content-Type: application/pkcs7-signature; name=smime.p7s\n\nxyz"
    incoming = read(multipart("signed", PLAIN, signature))
    assert incoming.text == "Hei på deg"
    assert [a.filename for a in incoming.attachments] == ["smime.p7s"]
    incoming = read(mail("Content-Type: application/pkcs7-mime; name=smime.p7m", body="xyz"))
    assert incoming.text == ""
    assert [a.filename for a in incoming.attachments] == ["smime.p7m"]


@pytest.mark.parametrize(
    "raw",
    [
        multipart("mixed", PLAIN, PDF).replace(b'; boundary="grense"', b""),
        multipart("mixed", PLAIN, PDF).replace(b'; boundary="grense"', b'; boundary="feil"'),
        multipart("mixed", PLAIN, PDF).replace(b"--grense--", b""),
        multipart("mixed", PLAIN, PDF).replace(b"--grense\r\n", b"--grense  \t\r\n"),
        multipart("mixed", PLAIN, PDF).replace(b"\r\n", b"\n"),
        multipart("mixed", PLAIN, PDF).replace(b"\r\n", b"\r"),
        b"\r\n\r\n" + multipart("mixed", PLAIN, PDF),
        b"\xef\xbb\xbf" + multipart("mixed", PLAIN, PDF),
        b"From kari@eksempel.no Mon Mar  2 10:15:30 2026\r\n" + multipart("mixed", PLAIN, PDF),
        multipart("mixed", PLAIN, PDF).replace(b"Subject: Hei", b"Subject: en lang\r\noverskrift"),
        multipart("mixed", PLAIN, PDF).replace(b"Subject: Hei", b"Subj ect: Hei\r\n du"),
        multipart("mixed", PLAIN, PDF).replace(b"Subject: Hei", b"Subject= Hei\r\n du"),
        multipart("mixed", PLAIN, PDF).replace(b"grense", b" grense"),
        multipart("mixed", PLAIN, PDF).replace(b"grense", b""),
        b"HTTP/1.1 200 OK\r\n" + multipart("mixed", PLAIN, PDF),
        b"\0Received: a\r\n\tb\r\n" + multipart("mixed", PLAIN, PDF),
        multipart("mixed", PLAIN, PDF).replace(b"multipart/mixed", b"multipart"),
        multipart("mixed", PLAIN, PDF).replace(
            b"Content-Type: multipart", b"CONTENT-TYPE :multipart"
        ),
    ],
)
def test_damaged_structure_is_still_read(raw: bytes) -> None:
    incoming = read(raw)
    assert incoming.sender == Address("email", "kari@eksempel.no", "Kari Nordmann")
    assert incoming.text == "Hei på deg"
    assert [a.filename for a in incoming.attachments] == ["Søknad.pdf"]


def test_an_odd_line_among_the_headers_belongs_to_no_field() -> None:
    for odd in (b": tom", b"X Y: z", "X-ø: z\r\n mer".encode()):
        raw = mail().replace(b"Subject: Hei\r\n", b"Subject: Hei\r\n" + odd + b"\r\n")
        assert read(raw).subject == "Hei"
        assert read(raw).text == "Hei"
    assert read(mail().replace(b"Subject: Hei", b"Subject: Hei\r\ndu")).subject == "Hei du"


def test_a_parameter_without_indentation_belongs_to_the_field_above() -> None:
    html = 'Content-Type: text/html;\ncharset="iso-8859-1"\n\n<p>S\xf8knad</p>'.encode("latin-1")
    for raw in (mail().partition(b"\r\n\r\n")[0] + b"\r\n" + html, multipart("mixed", html)):
        assert read(raw).text == "Søknad"
    raw = multipart("mixed", PLAIN, PDF).replace(b"grense", b"g:1")
    assert read(raw.replace(b"; boundary", b";\r\nboundary")) == replace(
        read(raw), defects=("folded line without indentation",)
    )


def test_a_multipart_without_parts_has_no_text() -> None:
    assert read(multipart("mixed")).text == ""
    assert read(multipart("mixed").replace(b"--grense--", b"Hei\r\n--grense--")).text == "Hei"


def test_headers_without_the_blank_line() -> None:
    incoming = read(b"From: kari@eksempel.no\r\nSubject: Hei\r\nDette er teksten.\r\nOg mer.\r\n")
    assert (incoming.subject, incoming.text) == ("Hei", "Dette er teksten.\nOg mer.")
    assert incoming.defects


@pytest.mark.parametrize(
    ("fields", "mail_from", "sender"),
    [
        ({}, "x@y.no", Address("email", "kari@eksempel.no", "Kari Nordmann")),
        ({"From": ""}, "X@y.no", Address("email", "x@y.no")),
        ({"From": "ingen"}, "x@y.no", Address("email", "x@y.no", "ingen")),
        ({"From": "=?utf-8?Q?K=C3=A5re_=3Ck=40x.no=3E?="}, "", Address("email", "k@x.no", "Kåre")),
        ({"From": ""}, "", None),
        ({"From": "ingen"}, "", None),
        ({"From": "", "Sender": "S <s@x.no>"}, "x@y.no", Address("email", "s@x.no", "S")),
        ({"From": "a@x.no, b@x.no"}, "", Address("email", "a@x.no")),
        ({"From": "ingen"}, None, None),
        ({"From": "ingen"}, 7, None),
    ],
)
def test_sender(fields: dict[str, str], mail_from: object, sender: Address | None) -> None:
    assert read(mail(**fields), mail_from=mail_from).sender == sender


def test_reply_address_only_when_it_differs() -> None:
    assert read(mail(Reply_To="Kari@eksempel.no")).reply_to is None
    assert read(mail(Reply_To="Ola <ola@x.no>")).reply_to == Address("email", "ola@x.no", "Ola")


@pytest.mark.parametrize(
    ("recipients", "own", "token"),
    [
        (["Post@Sorum.example"], ("post@sorum.example",), ""),
        (["post+skranke@sorum.example"], ("post@sorum.example",), ""),
        (["vei+drift@sorum.example"], ("vei+drift@sorum.example",), ""),
        (["svar+AB2C.k7d@sorum.example"], ("svar@sorum.example",), "ab2c.k7d"),
        (
            ["post@sorum.example", "svar+ab.c@sorum.example"],
            ("post@sorum.example", "svar@sorum.example"),
            "ab.c",
        ),
        (["svar+ab.c@andre.example"], ("svar@andre.example",), ""),
        (["post@sorum.example", "POST@sorum.example"], ("post@sorum.example",), ""),
        ([], ("post@sorum.example",), ""),
        (None, ("post@sorum.example",), ""),
        ("post@sorum.example", ("post@sorum.example",), ""),
    ],
)
def test_recipients_and_token(recipients: object, own: tuple[str, ...], token: str) -> None:
    incoming = read(mail(To="post@sorum.example, andre@x.no"), recipients=recipients)
    assert (incoming.recipients, incoming.thread_token) == (own, token)


@pytest.mark.parametrize(
    ("subject", "forwarded"),
    [
        ("VS: Hei", True), ("Vs: Hei", True), ("Fwd: Hei", True), ("FW: Hei", True), ("fw:Hei", True),
        ("WG: Hei", True), ("Videresend: Hei", True), ("Videresendt: Hei", True), ("[liste] VS: Hei", True),
        ("SV: Hei", False), ("Re: Hei", False), ("SV: VS: Hei", False), ("Hei", False), ("VSAN: Hei", False),
        ("Om VS: dette", False), ("", False),
    ],
)  # fmt: skip
def test_forwards(subject: str, forwarded: bool) -> None:
    assert read(mail(Subject=subject)).forwarded is forwarded


def test_one_mail_has_one_key_however_it_travelled() -> None:
    raw = mail(body="Hei\nder\n")
    travelled = (
        b"Received: from a\r\n\tby b\r\nX-Spam: no\r\n"
        + raw.replace(b"Subject: Hei", b"Subject:\r\n  Hei").replace(b"Message-ID", b"Message-Id")
        + b"\r\n\r\n"
    )
    assert content_key(raw) == content_key(travelled) == read(raw).external_id
    assert delivery_key(raw, ["A@x.no", "b@x.no"]) == delivery_key(travelled, ["b@x.no", "a@x.no"])
    for other in (
        raw.replace(b"der", b"her"),
        raw.replace(b"<1@", b"<2@"),
        raw.replace(b"kari@", b"ola@"),
        raw.replace(b"Subject: Hei", b"Subject: Nei"),
    ):
        assert content_key(other) != content_key(raw)
    assert delivery_key(raw, ["a@x.no"]) != delivery_key(raw, ["b@x.no"])


def test_what_has_no_headers_is_told_apart_by_what_it_says() -> None:
    contents = (b"", b"\x00\xff\r\n", b"Alarm 1\r\n", b"Alarm 2\r\n", b"Melding uten hode")
    assert len({content_key(content) for content in contents}) == len(contents)
    assert content_key(b"Alarm 1\r\n") == content_key(b"Received: from a\r\n\tby b\r\nAlarm 1\r\n")


def test_a_delivery_report_without_text_shows_its_status() -> None:
    status = "Content-Type: message/delivery-status\n\nReporting-MTA: dns; x\n\nAction: failed\nStatus: 5.1.1\n"
    incoming = read(
        multipart("report", status, extra="; report-type=delivery-status"), mail_from=""
    )
    assert incoming.kind is MessageKind.BOUNCE
    assert "Status: 5.1.1" in incoming.text


def test_a_very_long_text_is_shortened_and_attached_whole() -> None:
    body = "Linje på linje.\n" * 100_000
    incoming = read(mail("Content-Type: text/plain; charset=utf-8", body=body))
    assert 900_000 < len(incoming.text) <= 1_000_000
    assert incoming.attachments[0].content == body.replace("\n", "\r\n").encode()
    assert incoming.defects
