"""Header fields as real and broken senders write them; every expectation written by hand."""

# ruff: noqa: E501 - one row, one case
from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from channels.email.charsets import decode
from channels.email.headers import (
    decode_words,
    message_ids,
    parameters,
    parse_addresses,
    parse_date,
)

SUBJECTS: list[tuple[bytes, str]] = [
    (b"Hei", "Hei"),
    (b"", ""),
    (b"   Hei   du  ", "Hei   du"),
    (b"Hei\tdu", "Hei du"),
    (b"=?utf-8?Q?S=C3=B8knad_om_barnehageplass?=", "Søknad om barnehageplass"),
    (b"=?UTF-8?B?U8O4a25hZCBvbSBwbGFzcw==?=", "Søknad om plass"),
    (b"=?iso-8859-1?Q?S=F8knad?=", "Søknad"),
    (b"=?ISO-8859-15?q?10_=A4?=", "10 €"),
    (b"=?windows-1252?Q?=93sitat=94_=96_tekst?=", "“sitat” – tekst"),
    # iso-8859-1 has no characters at 0x80-0x9f; senders mean Windows-1252.
    (b"=?iso-8859-1?Q?pris_=80_10?=", "pris € 10"),
    # Two words: the space between belongs to neither.
    (b"=?utf-8?Q?Vann?= =?utf-8?Q?_og_avl=C3=B8p?=", "Vann og avløp"),
    (b"=?utf-8?Q?Vann?=  \t =?utf-8?Q?verk?=", "Vannverk"),
    (b"=?utf-8?Q?Vann?= og =?utf-8?Q?avl=C3=B8p?=", "Vann og avløp"),
    (b"SV: =?utf-8?Q?=C3=85pningstid?= mandag", "SV: Åpningstid mandag"),
    # A character split between two words.
    (b"=?utf-8?Q?Avl=C3?= =?utf-8?Q?=B8p?=", "Avløp"),
    (b"=?utf-8?B?QXZsww==?= =?utf-8?B?uHA=?=", "Avløp"),
    # Base64 cut anywhere, without padding of each piece.
    (b"=?utf-8?B?U8O4a?= =?utf-8?B?25hZA==?=", "Søknad"),
    (b"=?utf-8?B?U8O4a25hZA?=", "Søknad"),
    # Words that each lack their padding are no base64 cut anywhere.
    (b"=?utf-8?B?SGVpIA?= =?utf-8?B?ZHU?=", "Hei du"),
    (b"=?utf-8?B?U8O4a25hZA?= =?utf-8?B?IG9t?=", "Søknad om"),
    (b"=?utf-8?B?U8O4a25?= =?utf-8?B?hZA?=", "Søknad"),
    (b"=?utf-8?B?U8O4 a25h ZA==?=", "Søknad"),
    (b"=?utf-8?B?U8O4a25hZA=?=", "Søknad"),
    # Different charsets side by side.
    (b"=?iso-8859-1?Q?=E5?= =?utf-8?Q?=C3=B8?=", "åø"),
    (b"=?utf-8?Q?a?==?utf-8?Q?b?=", "ab"),
    (b"Re:=?utf-8?Q?=C3=A5?=!", "Re:å!"),
    (b"=?utf-8?Q?hei p=C3=A5 deg?=", "hei på deg"),
    (b"=?utf-8?Q?Hva_er_=C3=A5pent??=", "Hva er åpent?"),
    (b"=?utf-8?Q?=41pent?=", "Apent"),
    (b"=?utf-8?Q??= Hei", "Hei"),
    (b"=?utf-8?Q?avkuttet_s=C3=B8k", "avkuttet søk"),
    (b"=?utf-8?Q?en_ =?utf-8?Q?to?=", "en to"),
    (b"=?utf-8*nb?Q?S=C3=B8rum?=", "Sørum"),
    (b"=?utf8?Q?S=C3=B8rum?=", "Sørum"),
    (b"=?latin1?Q?S=F8rum?=", "Sørum"),
    # Labels that lie or are unknown.
    (b"=?utf-8?Q?S=F8rum?=", "Sørum"),
    (b"=?iso-8859-1?Q?S=C3=B8rum?=", "Sørum"),
    (b"=?us-ascii?Q?S=C3=B8rum?=", "Sørum"),
    (b"=?unknown-8bit?Q?S=F8rum?=", "Sørum"),
    (b"=?idna?Q?S=C3=B8rum?=", "Sørum"),
    (b"=?hex?Q?4142?=", "4142"),
    (b"=??Q?abc?=", "=??Q?abc?="),
    (b"=?utf-8?X?abc?=", "=?utf-8?X?abc?="),
    (b"=?utf-8?Q", "=?utf-8?Q"),
    (b"2 =? 3 ?= 5", "2 =? 3 ?= 5"),
    (b"=?utf-8?Q?50%_=XX_=4?=", "50% =XX =4"),
    # Raw 8-bit, with and without help.
    ("Søknad".encode(), "Søknad"),
    ("Søknad".encode("latin-1"), "Søknad"),
    ("Å – €".encode("cp1252"), "Å – €"),
    ("Привет".encode(), "Привет"),
    # NFD becomes NFC.
    ("A\u030apen".encode(), "Åpen"),
    (b"=?utf-8?Q?A=CC=8Apen?=", "Åpen"),
    # Nothing that breaks lines, hides or turns text.
    (b"=?utf-8?Q?Hei=0D=0ABcc:_alle@eksempel.no?=", "Hei Bcc: alle@eksempel.no"),
    (b"=?utf-8?Q?a=00b=07c=1B[31m?=", "abc[31m"),
    ("faktura\u202efdp.exe".encode(), "fakturafdp.exe"),
    (b"Hei\x00du", "Heidu"),
    # Other alphabets.
    (b"=?koi8-r?B?8NLJ18XU?=", "Привет"),
    (b"=?gb2312?B?xOO6ww==?=", "你好"),
    (b"=?iso-2022-jp?B?GyRCRnxLXBsoQg==?=", "日本"),
    (b"\x1b$BF|K\\\x1b(B", "日本"),
    (b"=?windows-1256?Q?=E3=D1=CD=C8=C7?=", "مرحبا"),
    (b"=?utf-8?B?8J+Yig==?=", "😊"),
]


@pytest.mark.parametrize(("raw", "text"), SUBJECTS)
def test_subject(raw: bytes, text: str) -> None:
    assert decode_words(raw) == text


@pytest.mark.parametrize(
    ("raw", "hint", "text"),
    [
        ("Привет".encode("koi8-r"), "koi8-r", "Привет"),
        ("你好吗".encode("gbk"), "gb2312", "你好吗"),
        ("Søknad".encode(), "koi8-r", "Søknad"),
        ("Søknad".encode("latin-1"), "iso-8859-1", "Søknad"),
        ("Søknad".encode("latin-1"), "utf-8", "Søknad"),
    ],
)
def test_raw_subject_in_the_charset_of_the_body(raw: bytes, hint: str, text: str) -> None:
    assert decode_words(raw, hint) == text


@pytest.mark.parametrize(
    ("label", "data", "text"),
    [
        ("utf-8", "blåbær".encode(), "blåbær"),
        ('"UTF-8"', "blåbær".encode(), "blåbær"),
        ("utf8", "blåbær".encode(), "blåbær"),
        ("iso-8859-1", b"bl\xe5b\xe6r", "blåbær"),
        ("ISO_8859-1", b"bl\xe5b\xe6r", "blåbær"),
        ("latin1", b"bl\xe5b\xe6r \x96", "blåbær –"),
        ("windows-1252", b"bl\xe5b\xe6r \x80", "blåbær €"),
        ("iso-8859-15", b"\xa4", "€"),
        ("us-ascii", b"bl\xe5b\xe6r", "blåbær"),
        ("us-ascii", "blåbær".encode(), "blåbær"),
        ("", b"bl\xe5b\xe6r", "blåbær"),
        ("", "blåbær".encode(), "blåbær"),
        ("x-unknown", b"bl\xe5b\xe6r", "blåbær"),
        ("utf-8", b"bl\xe5b\xe6r", "blåbær"),
        ("utf-8", "blåbær på fjellet".encode() + b"\xc3", "blåbær på fjellet\ufffd"),
        ("utf-8", b"\xef\xbb\xbfhei p\xc3\xa5", "\ufeffhei på"),
        ("cp865", b"bl\x86b\x91r", "blåbær"),
        ("cp850", b"bl\x86b\x91r", "blåbær"),
        ("macintosh", b"bl\x8cb\xber", "blåbær"),
        ("iso-8859-10", b"\xe5\xbf", "åŋ"),
        ("windows-1251", b"\xcf\xf0\xe8\xe2\xe5\xf2", "Привет"),
        ("koi8-r", b"\xf0\xd2\xc9\xd7\xc5\xd4", "Привет"),
        ("csKOI8R", b"\xf0\xd2\xc9\xd7\xc5\xd4", "Привет"),
        ("ISO_8859-5:1988", b"\xbf\xe0\xd8", "При"),
        ("iso-ir-144", b"\xbf\xe0\xd8", "При"),
        ("win1251", b"\xcf\xf0\xe8", "При"),
        ("GB_2312-80", b"\xc4\xe3\xba\xc3", "你好"),
        ("iso2022jp", b"\x1b$BF|K\\\x1b(B", "日本"),
        ("utf-8//IGNORE", "blåbær".encode(), "blåbær"),
        ("iso-8859-8-i", b"\xf9\xec\xe5\xed", "שלום"),
        ("shift_jis", b"\x93\xfa\x96\x7b", "日本"),
        ("euc-jp", b"\xc6\xfc\xcb\xdc", "日本"),
        ("iso-2022-jp", b"\x1b$BF|K\\\x1b(B", "日本"),
        ("ks_c_5601-1987", b"\xc7\xd1\xb1\xdb", "한글"),
        ("big5", b"\xa4\xa4\xa4\xe5", "中文"),
        ("hz-gb-2312", b"~{VPND~}", "中文"),
        ("tis-620", b"\xe4\xb7\xc2", "ไทย"),
        ("utf-7", b"bl+AOU-b+AOY-r", "blåbær"),
        ("utf-16", "å".encode("utf-16"), "å"),
        ("utf-16le", "åæ".encode("utf-16-le"), "åæ"),
        ("hex", b"6869", "6869"),
        ("idna", b"xn--abc", "xn--abc"),
        ("undefined", b"hei", "hei"),
        ("punycode", b"hei", "hei"),
        ("utf-8\x00", b"hei", "hei"),
        ("../../etc/passwd", b"hei", "hei"),
        ("big5", b"\xff\xff\xff", "\ufffd\ufffd\ufffd"),
    ],
)
def test_charset(label: str, data: bytes, text: str) -> None:
    assert decode(data, label) == text


@pytest.mark.parametrize(
    ("raw", "pairs"),
    [
        ("kari@eksempel.no", [("", "kari@eksempel.no")]),
        ("<kari@eksempel.no>", [("", "kari@eksempel.no")]),
        ("Kari <KARI@Eksempel.NO>", [("Kari", "kari@eksempel.no")]),
        ('"Nordmann, Kari" <k@x.no>', [("Nordmann, Kari", "k@x.no")]),
        ("Nordmann, Kari <k@x.no>", [("Nordmann, Kari", "k@x.no")]),
        ("k@x.no (Kari Nordmann)", [("Kari Nordmann", "k@x.no")]),
        ("Kari (på jobb (2. et.)) <k@x.no>", [("Kari", "k@x.no")]),
        ("Kari (Plan, bygg) <k@x.no>, b@y.no", [("Kari", "k@x.no"), ("", "b@y.no")]),
        ("Kari (Plan, bygg <k@x.no>, b@y.no", [("Kari, bygg", "k@x.no"), ("", "b@y.no")]),
        ("Kari <k(merk)@x.no>", [("Kari", "k@x.no")]),
        ("Kari <k@x.no (jobb)>", [("Kari", "k@x.no")]),
        ('"Kari Nordmann <k@x.no>', [("Kari Nordmann", "k@x.no")]),
        ("Kari Nordmann k@x.no>", [("Kari Nordmann", "k@x.no")]),
        ("Kari Nordmann [k@x.no]", [("Kari Nordmann", "k@x.no")]),
        ("[Ekstern] Kari <k@x.no>", [("[Ekstern] Kari", "k@x.no")]),
        ("k@x.no )", [("", "k@x.no")]),
        ("'t Hooft <k@x.no>", [("'t Hooft", "k@x.no")]),
        ("'Kari Nordmann' <k@x.no>", [("Kari Nordmann", "k@x.no")]),
        ("=?utf-8?Q?K=C3=A5re?= <k@x.no>", [("Kåre", "k@x.no")]),
        ('"=?utf-8?Q?K=C3=A5re?=" <k@x.no>', [("Kåre", "k@x.no")]),
        ("=?utf-8?Q?Hansen, K=C3=A5re?= <k@x.no>", [("Hansen, Kåre", "k@x.no")]),
        ("=?utf-8?B?S8OlcmU=?= Hansen <k@x.no>", [("Kåre Hansen", "k@x.no")]),
        ("Kåre <k@x.no>", [("Kåre", "k@x.no")]),
        ("a@x.no, b@y.no;c@z.no", [("", "a@x.no"), ("", "b@y.no"), ("", "c@z.no")]),
        ("Gruppe: a@x.no, B <b@y.no>;", [("", "a@x.no"), ("B", "b@y.no")]),
        ("undisclosed-recipients:;", []),
        ("<k@x.no", [("", "k@x.no")]),
        ("Kari k@x.no", [("Kari", "k@x.no")]),
        ("'k@x.no' <k@x.no>", [("", "k@x.no")]),
    ("kari @ x.no", [("", "kari@x.no")]),
    ('"kari nordmann"@x.no', [("", '"kari nordmann"@x.no')]),
    ('Kari <"kari n"@x.no>', [("Kari", '"kari n"@x.no')]),
    ("Kari <@a.no,@b.no:kari@x.no>", [("Kari", "kari@x.no")]),
        ('"k@x.no" <k@x.no>', [("", "k@x.no")]),
        ("Kari <mailto:k@x.no>", [("Kari", "k@x.no")]),
        ("<<k@x.no>>", [("", "k@x.no")]),
        ("< k@x.no >", [("", "k@x.no")]),
        ("Kari (uferdig <k@x.no>", [("Kari", "k@x.no")]),
        ("o'brien@x.ie", [("", "o'brien@x.ie")]),
        ("Post <post@sørum.example>", [("Post", "post@sørum.example")]),
        # The address shown is never the address decoded out of the name.
        ("=?utf-8?Q?sjef=40sorum.no_=3Csjef=40sorum.no=3E?= <ond@evil.example>", [("sjef@sorum.no <sjef@sorum.no>", "ond@evil.example")]),
        ('"sjef@sorum.no" <ond@evil.example>', [("sjef@sorum.no", "ond@evil.example")]),
        ("Kari Nordmann", []),
        ("", []),
        ('"', []),
        ("(c):", []),
        ("a@[", []),
        ("@", []),
        ("<>", []),
        ("k@x.no\u202e", [("", "k@x.no")]),
    ],
)  # fmt: skip
def test_addresses(raw: str, pairs: list[tuple[str, str]]) -> None:
    assert parse_addresses(raw.encode()) == pairs


@pytest.mark.parametrize(
    ("raw", "name", "value"),
    [
        (b"text/plain; charset=utf-8", "charset", "utf-8"),
        (b'text/plain; CHARSET="utf-8"', "charset", "utf-8"),
        (b"text/plain;charset=iso-8859-1 (vestlig)", "charset", "iso-8859-1"),
        (b"a/b; name=fil.pdf", "name", "fil.pdf"),
        (b"a/b; name=min fil.pdf; x=y", "name", "min fil.pdf"),
        (b'a/b; name="a;b\\"c.pdf"; x=y', "name", 'a;b"c.pdf'),
        (b'a/b; name="uavsluttet.pdf', "name", "uavsluttet.pdf"),
        (b'a/b; name="=?utf-8?Q?s=C3=B8k.pdf?="', "name", "søk.pdf"),
        (b"a/b; name==?iso-8859-1?Q?s=F8k.pdf?=", "name", "søk.pdf"),
        ('a/b; name="søk.pdf"'.encode(), "name", "søk.pdf"),
        ('a/b; name="søk.pdf"'.encode("latin-1"), "name", "søk.pdf"),
        (b"a/b; filename*=UTF-8''s%C3%B8k.pdf", "filename", "søk.pdf"),
        (b"a/b; filename*=iso-8859-1'nb's%F8k.pdf", "filename", "søk.pdf"),
        (b"a/b; filename*=s%C3%B8k.pdf", "filename", "søk.pdf"),
        (b"a/b; filename*0*=utf-8''s%C3; filename*1*=%B8k; filename*2=.pdf", "filename", "søk.pdf"),
        (b'a/b; filename*1="to.pdf"; filename*0="en-"', "filename", "en-to.pdf"),
        (b"a/b; filename*0=en; filename*2=.pdf", "filename", "en.pdf"),
        (b"a/b; filename=s_k.pdf; filename*=utf-8''s%C3%B8k.pdf", "filename", "søk.pdf"),
        (b"a/b; filename*=utf-8''a%zz%", "filename", "a%zz%"),
        (b"a/b; filename*=''tom", "filename", "tom"),
        (b"a/b; ; ; x = y ; name = z", "name", "z"),
        (b"text/plain; name*", "name", None),
        (b"text/plain; name", "name", None),
        (b"text/plain; *=x; *0=y", "", None),
    ],
)
def test_parameters(raw: bytes, name: str, value: str | None) -> None:
    assert parameters(raw)[1].get(name) == value


@pytest.mark.parametrize(
    ("raw", "ids"),
    [
        (b"<a@b>", ("<a@b>",)),
        (b"<a@b>\t<c@d>  <a@b>", ("<a@b>", "<c@d>")),
        (b"a@b", ("<a@b>",)),
        (b"Din melding av mandag <x@y> (Kari)", ("<x@y>",)),
        (b"<[abc]@x>", ("<[abc]@x>",)),
        (b"<a@b", ("<a@b>",)),
        (b"<a b@c>", ("<b@c>",)),
        (b"ingen", ()),
        (b"", ()),
        (b"<\xc3\xa5@b>", ("<å@b>",)),
        (b"<a@b>" * 500, ("<a@b>",)),
    ],
)
def test_message_ids(raw: bytes, ids: tuple[str, ...]) -> None:
    assert message_ids(raw) == ids


@pytest.mark.parametrize(
    ("raw", "when"),
    [
        (b"Mon, 2 Mar 2026 10:15:30 +0100", datetime(2026, 3, 2, 9, 15, 30, tzinfo=UTC)),
        (b"Mon, 02 Mar 2026 10:15:30 +0100 (CET)", datetime(2026, 3, 2, 9, 15, 30, tzinfo=UTC)),
        (b"2 Mar 26 10:15 GMT", datetime(2026, 3, 2, 10, 15, tzinfo=UTC)),
        (b"Mon, 2 Mar 2026 10:15:30 CEST", datetime(2026, 3, 2, 8, 15, 30, tzinfo=UTC)),
        (b"Mon, 2 Mar 2026 10:15:30", datetime(2026, 3, 2, 10, 15, 30, tzinfo=UTC)),
        (b"Mon, 2 Mar 2026 10.15.30 -0000", datetime(2026, 3, 2, 10, 15, 30, tzinfo=UTC)),
        (b"man. 2. mars 2026 10:15:30 +0100", datetime(2026, 3, 2, 9, 15, 30, tzinfo=UTC)),
        (b"2026-03-02T10:15:30+01:00", datetime(2026, 3, 2, 9, 15, 30, tzinfo=UTC)),
        (b"2026-03-02 10:15:30Z", datetime(2026, 3, 2, 10, 15, 30, tzinfo=UTC)),
        (b"Mon, 2 Mar 2026 10:15:60 +0000", datetime(2026, 3, 2, 10, 15, 59, tzinfo=UTC)),
        (b"Mon, 31 Feb 2026 10:15:30 +0000", None),
        (b"Mon, 2 Mar 2026 10:15:30 +9999", None),
        (b"Mon, 1 Jan 0001 00:00:00 +2300", None),
        (b"Mon, 99999999999999999999 Mar 2026", None),
        (b"i gaar", None),
        (b"", None),
        (b"\xff\xfe", None),
    ],
)
def test_date(raw: bytes, when: datetime | None) -> None:
    assert parse_date(raw) == when


GROWING: dict[str, Callable[[int], bytes]] = {
    "unfinished words": lambda n: b"=?utf-8?q?a" * n,
    "words": lambda n: b"=?a?q?=41?= " * n,
    "question marks": lambda n: b"=?utf-8?q?" + b"?" * 10 * n,
    "starts of words": lambda n: b"=?" * 5 * n,
    "quotes": lambda n: b'"a" ' * n,
    "open comments": lambda n: b"(" * 10 * n,
    "open angles": lambda n: b"<" * 10 * n,
    "commas": lambda n: b"a," * 5 * n,
    "at signs": lambda n: b"@" * 10 * n,
    "colons": lambda n: b"a:" * 5 * n,
    "addresses": lambda n: b"a@b.no," * n,
    "parameters": lambda n: b"text/plain" + b";a=b" * 2 * n,
    "sections": lambda n: b"t" + b";n*0*" * 2 * n,
    "backslashes": lambda n: b't;a="' + b"\\" * 10 * n,
    "stars": lambda n: b"t;n" + b"*0" * 5 * n,
    "spaces": lambda n: b"t;" + b" " * 10 * n,
    "letters": lambda n: b"a" * 10 * n,
    "ids": lambda n: b"<a@b" * 2 * n,
}


@pytest.mark.thorough
@pytest.mark.parametrize("family", GROWING)
@pytest.mark.parametrize(
    "read", [decode_words, parse_addresses, parameters, message_ids, parse_date]
)
def test_64_kb_of_anything_is_read_in_linear_time(
    family: str, read: Callable[[bytes], object]
) -> None:
    value = GROWING[family](6_500)[: 64 * 1024]
    start = time.process_time()
    read(value)
    assert time.process_time() - start < 0.5
