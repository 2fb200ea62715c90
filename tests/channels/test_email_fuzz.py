"""Mail of any structure: every leaf comes out again, as text or as a file."""

# ruff: noqa: E501 - one row, one case
from __future__ import annotations

import base64
import quopri
from dataclasses import dataclass, field
from hashlib import sha256

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from channels.base import Incoming
from channels.email.parse import OwnAddresses, formatted, parse
from tests.channels import tnef
from tests.support import examples

OWN = OwnAddresses(frozenset({"post@sorum.example"}), frozenset({"sorum.example"}))
ENVELOPE = {"mail_from": "kari@eksempel.no", "recipients": ["post@sorum.example"]}
CALM = settings(
    max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)

TYPES = ["text/plain", "text/html", "text/csv", "text/calendar", "text/x-amp-html", "application/pdf", "application/octet-stream",
         "image/png", "message/rfc822", "message/delivery-status", "application/ms-tnef", "application/pkcs7-mime", "text", "tekst/;", "multipart/mixed", "", "TEXT/PLAIN", "audio/ogg"]  # fmt: skip
CHARSETS = ["", "utf-8", "iso-8859-1", "us-ascii", "x-unknown", "hex", "windows-1252"]
ENCODINGS = ["", "7bit", "8bit", "base64", "quoted-printable", "binary", "rot13"]
DISPOSITIONS = [
    "",
    "inline",
    "attachment",
    "attachment; filename=a.txt",
    "inline; filename*=utf-8''%C3%A5.pdf",
    "; filename=x",
    "tull",
]
KINDS = [
    "mixed",
    "alternative",
    "related",
    "signed",
    "report",
    "digest",
    "appledouble",
    "encrypted",
    "parallel",
    "",
]


@dataclass
class Made:
    """A part, and what must be found again of it."""

    content: bytes
    markers: list[bytes] = field(default_factory=list)
    alternative: bool = False


@st.composite
def leaves(draw: st.DrawFn) -> Made:
    marker = f"merke{draw(st.integers(0, 10**9))}x"
    kind = draw(st.sampled_from(TYPES))
    encoding = draw(st.sampled_from(ENCODINGS))
    body = f"{marker} blåbær\n".encode()
    if kind == "text/html":
        body = f"<p>{marker} bl\u00e5b\u00e6r</p>".encode()
    elif kind == "message/rfc822":
        body = f"Subject: x\n\n{marker}\n".encode()
    elif kind == "application/ms-tnef" and draw(st.booleans()):
        body = tnef.winmail(tnef.file("a.txt", marker.encode()))
    if encoding == "base64" or kind == "application/ms-tnef":
        encoding, coded = "base64", base64.encodebytes(body)
    elif encoding == "quoted-printable":
        coded = quopri.encodestring(body)
    else:
        coded = body
    charset = draw(st.sampled_from(CHARSETS))
    disposition = draw(st.sampled_from(DISPOSITIONS))
    head = f"Content-Type: {kind}{f'; charset={charset}' if charset else ''}\n" if kind else ""
    head += f"Content-Transfer-Encoding: {encoding}\n" if encoding else ""
    head += f"Content-Disposition: {disposition}\n" if disposition else ""
    return Made(head.encode() + b"\n" + coded, [marker.encode()])


@st.composite
def multiparts(draw: st.DrawFn, children: st.SearchStrategy[Made]) -> Made:
    parts = draw(st.lists(children, min_size=1, max_size=4))
    boundary = draw(st.sampled_from(["b", "b-1", "----=_Part_1", "a b", "'x'", "b" * 58, "=?x?="]))
    # One for each, as programs take care of; the same one further in is told apart nowhere.
    boundary += sha256(b"".join(part.content for part in parts)).hexdigest()[:12]
    kind = draw(st.sampled_from(KINDS))
    head = f'Content-Type: multipart/{kind}; boundary="{boundary}"\n\n'.encode()
    mark = f"--{boundary}".encode()
    blank = draw(st.sampled_from([b"", b"  ", b"\t"]))
    ending = draw(st.sampled_from([b"\n" + mark + b"--\n", b"\n" + mark + b"--", b"\n", b""]))
    body = b"".join(b"\n" + mark + blank + b"\n" + part.content for part in parts) + ending
    return Made(
        head + body,
        [marker for part in parts for marker in part.markers],
        kind == "alternative" or any(part.alternative for part in parts),
    )


MAILS = st.recursive(leaves(), multiparts, max_leaves=10)


def seen(incoming: Incoming, raw: bytes) -> bytes:
    """Everything that a person can get at."""
    return b"\n".join(
        [
            incoming.text.encode(),
            formatted(raw).html.encode(),
            *(a.content for a in incoming.attachments),
        ]
    )


@CALM
@given(MAILS, st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_every_leaf_is_seen(made: Made, newline: bytes) -> None:
    raw = b"From: kari@eksempel.no\nSubject: Hei\nMIME-Version: 1.0\n" + made.content
    raw = raw.replace(b"\n", newline)
    incoming = parse(raw, ENVELOPE, OWN)
    assert not any(defect.startswith("unparsed") for defect in incoming.defects)
    everything = seen(incoming, raw)
    for marker in made.markers:
        # Of alternatives the plain one is the text, and each other one is shown or kept.
        if not made.alternative:
            assert marker in everything
    assert made.markers[0] in everything or made.alternative


@CALM
@given(
    MAILS,
    st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=6), st.integers(0, 30)), max_size=6),
)
def test_damage_anywhere_in_any_structure(
    made: Made, changes: list[tuple[float, bytes, int]]
) -> None:
    raw = b"From: kari@eksempel.no\nSubject: Hei\n" + made.content
    for where, put, cut in changes:
        at = int(where * len(raw))
        raw = raw[:at] + put + raw[at + cut :]
    incoming = parse(raw, ENVELOPE, OWN)
    assert not any(defect.startswith("unparsed") for defect in incoming.defects)
    formatted(raw).html.encode()
    incoming.text.encode()


@CALM
@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [
                    b"From",
                    b"Subject",
                    b"To",
                    b"Date",
                    b"Content-Type",
                    b"Content-Disposition",
                    b"Message-ID",
                    b"References",
                    b"X-A",
                    b"Reply-To",
                    b"",
                ]
            ),
            st.one_of(
                st.binary(max_size=60),
                st.lists(
                    st.sampled_from(
                        [
                            b"=?utf-8?q?",
                            b"?=",
                            b"=?",
                            b"a@b.no",
                            b"<",
                            b">",
                            b'"',
                            b"(",
                            b")",
                            b";",
                            b":",
                            b",",
                            b"\\",
                            b"name*0*=",
                            b"utf-8''",
                            b"%C3",
                            b"=C3=A5",
                            b" ",
                            b"\r\n ",
                            b"\xe5",
                            b"\x1b$B",
                            b"charset=",
                            b"text/plain",
                            b"boundary=",
                            b"=?x?b?w6U",
                        ]
                    ),
                    max_size=25,
                ).map(b"".join),
            ),
        ),
        max_size=12,
    )
)
def test_headers_of_any_pieces(fields: list[tuple[bytes, bytes]]) -> None:
    raw = b"".join(name + b": " + value + b"\r\n" for name, value in fields) + b"\r\nhei"
    incoming = parse(raw, ENVELOPE, OWN)
    assert not any(defect.startswith("unparsed") for defect in incoming.defects)
    for line in (
        incoming.subject,
        incoming.message_id,
        *incoming.references,
        incoming.sender.name if incoming.sender else "",
    ):
        assert line.isprintable() or not any(c in line for c in "\r\n\0\u202e")
        line.encode()
    assert incoming.sender is None or "@" in incoming.sender.value
