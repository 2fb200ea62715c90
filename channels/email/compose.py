"""`Outgoing` -> bytes of a mail. A pure function: the same message gives the same bytes, for ever.

So a repeated delivery is byte for byte the first one. Everything is 7-bit: any server can carry it.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from datetime import UTC
from typing import TYPE_CHECKING

from channels.base import OutgoingKind, RejectedError
from channels.email.addresses import normalise
from channels.text import nfc

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from channels.base import Address, Attachment, Outgoing

SUBJECT_LIMIT = 200
_REFERENCES = 20
"""The first and the last 19: enough for every client to build its thread."""
_LINE = 76

_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
    "\ufeff\ud800-\udfff\ufffe\uffff]"
)
_BREAKS = re.compile("[\t\n\r\x0b\x0c\x85\u2028\u2029]+")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")
_MESSAGE_ID = re.compile(r"<[\x21-\x3b\x3d\x3f-\x7e]{3,990}>")
_TAG_AT_END = re.compile(r"\s*(\[[^\[\]]{1,40}\])\s*$")
_CONTENT_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,80}/[A-Za-z0-9!#$&^_.+-]{1,120}")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8})*")
_TEXT_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_NEWLINES = re.compile("\r\n?|[\u2028\u2029\x85]")

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def compose(outgoing: Outgoing, hostname: str) -> bytes:
    """The mail as bytes with CRLF newlines, 7-bit throughout.

    `hostname` names us in a Message-ID made up when the given one is unusable. Raises
    `RejectedError` when an address cannot be written (RFC 6531 needs what few relays have).
    """
    message_id = _one_id(outgoing.message_id) or _made_up_id(outgoing, hostname)
    lines = [
        f"Date: {_date(outgoing.created_at)}",
        f"Message-ID: {message_id}",
        _address_field("From", outgoing.sender),
        _address_field("To", outgoing.to),
    ]
    if outgoing.reply_to:
        lines.append(f"Reply-To: {_spec(outgoing.reply_to)}")
    in_reply_to = _one_id(outgoing.in_reply_to)
    if in_reply_to:
        lines.append(f"In-Reply-To: {in_reply_to}")
    references = _references(outgoing.references)
    if references:
        lines.append("References: " + "\r\n ".join(references))
    lines.append(_fold("Subject", _subject(outgoing.subject)))
    if _LANGUAGE.fullmatch(outgoing.language):
        lines.append(f"Content-Language: {outgoing.language}")
    if outgoing.automatic:
        # RFC 3834 §5: `auto-replied` answers a message, `auto-generated` does not.
        answers = outgoing.kind in (OutgoingKind.RECEIPT, OutgoingKind.EMERGENCY)
        lines.append(f"Auto-Submitted: {'auto-replied' if answers else 'auto-generated'}")
        # «All» would have Exchange keep bounces back; those of a forward must be seen.
        forward = outgoing.kind is OutgoingKind.FORWARD
        suppressed = "DR, RN, NRN, OOF, AutoReply" if forward else "All"
        lines.append(f"X-Auto-Response-Suppress: {suppressed}")
        lines.append(f"X-Loop: {_spec(outgoing.sender.value)}")
    lines.append("MIME-Version: 1.0")
    text = _text_part(outgoing.text)
    if outgoing.attachments:
        boundary = "=_" + hashlib.sha256(message_id.encode("ascii")).hexdigest()[:40]
        lines.append(f'Content-Type: multipart/mixed; boundary="{boundary}"')
        parts = [text, *map(_attachment_part, outgoing.attachments)]
        body = b"".join(f"--{boundary}\r\n".encode("ascii") + part + b"\r\n" for part in parts)
        return (
            "\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + body + f"--{boundary}--\r\n".encode()
        )
    return "\r\n".join(lines).encode("ascii") + b"\r\n" + text


def safe_value(value: str) -> str:
    """A header value on one line: no control or direction characters, no lone surrogates, NFC."""
    if value.isascii() and value.isprintable():
        return value.strip()
    return nfc(_UNSAFE.sub("", _BREAKS.sub(" ", value))).strip()


def _spec(address: str) -> str:
    """An address as it goes on the wire; an international domain in its ASCII form (RFC 5890)."""
    clean = normalise(address)
    local, _, domain = clean.rpartition("@")
    if not domain.isascii():
        try:
            domain = domain.encode("idna").decode("ascii")
        except UnicodeError:
            clean = ""
    if not clean or not local.isascii():
        raise RejectedError("Adressen kan ikke brukes for e-post.")
    return f"{local}@{domain}"


def _address_field(name: str, address: Address) -> str:
    spec = _spec(address.value)
    phrase = safe_value(address.name)[:200]
    if not phrase:
        return f"{name}: {spec}"
    if _ATOMS.fullmatch(phrase) and "=?" not in phrase:
        return _fold(name, phrase, f" <{spec}>")
    if phrase.isascii() and "=?" not in phrase:
        quoted = phrase.replace("\\", "\\\\").replace('"', '\\"')
        return _fold(name, f'"{quoted}"', f" <{spec}>")
    return _fold(name, phrase, f" <{spec}>", encode=True)


def _subject(subject: str) -> str:
    subject = safe_value(subject)
    if len(subject) <= SUBJECT_LIMIT:
        return subject
    tag = _TAG_AT_END.search(subject)  # the reference at the end stays
    ending = f"… {tag[1]}" if tag else "…"
    return subject[: SUBJECT_LIMIT - len(ending)].rstrip() + ending


def _fold(name: str, value: str, ending: str = "", *, encode: bool = False) -> str:
    """A field folded at spaces to lines of 78 characters (RFC 5322 §2.1.1), encoded if need be."""
    if (
        encode
        or not value.isascii()
        or "=?" in value
        or any(len(w) > 900 for w in value.split(" "))
    ):
        words = _encoded_words(value, len(name) + 2)
    elif len(name) + 2 + len(value) + len(ending) <= 78:
        return f"{name}: {value}{ending}"
    else:
        words = value.split(" ")
    lines = [f"{name}:"]
    for word in (*words, *([ending.strip()] if ending else [])):
        # The first word stays by the name: some readers take the fold before it for a space.
        if len(lines[-1]) + 1 + len(word) > 78 and (len(lines) > 1 or lines[0] != f"{name}:"):
            lines.append("")
        lines[-1] += f" {word}"
    # A line of nothing but spaces would end the header for some readers.
    return "\r\n".join(line for line in lines if line.strip())


def _encoded_words(text: str, taken: int) -> list[str]:
    """`text` as encoded words of at most 75 characters (RFC 2047 §2), no character split."""
    data = text.encode("utf-8")
    q = sum(1 if b in _Q_SAFE or b == 32 else 3 for b in data) <= len(data) * 4 // 3 + 8
    words: list[str] = []
    room = min(75, 78 - taken) - 12
    current, size = "", 0
    for character in text:
        encoded = character.encode("utf-8")
        if q:
            piece = "".join(
                "_" if b == 32 else chr(b) if b in _Q_SAFE else f"={b:02X}" for b in encoded
            )
            cost = len(piece)
        else:
            piece, cost = character, len(encoded)
        limit = room if q else room * 3 // 4 - 2
        if size + cost > limit and current:
            words.append(_word(current, q))
            current, size, room = "", 0, 75 - 12
        current += piece
        size += cost
    if current:
        words.append(_word(current, q))
    return words


_Q_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")
"""What RFC 2047 §5 (3) allows everywhere, also in a phrase."""


def _word(content: str, q: bool) -> str:
    if q:
        return f"=?utf-8?q?{content}?="
    return (
        f"=?utf-8?b?{binascii.b2a_base64(content.encode('utf-8'), newline=False).decode('ascii')}?="
    )


def _date(when: datetime) -> str:
    """RFC 5322 §3.3, in UTC and in English whatever the locale."""
    at = when.astimezone(UTC)
    return (
        f"{_DAYS[at.weekday()]}, {at.day:02d} {_MONTHS[at.month - 1]} {at.year:04d}"
        f" {at.hour:02d}:{at.minute:02d}:{at.second:02d} +0000"
    )


def _one_id(value: str) -> str:
    value = safe_value(value)
    return value if _MESSAGE_ID.fullmatch(value) and value.isascii() else ""


def _made_up_id(outgoing: Outgoing, hostname: str) -> str:
    created = outgoing.created_at.astimezone(UTC).isoformat()
    seed = "\n".join((outgoing.message_id, created, outgoing.to.value, outgoing.text))
    host = re.sub(r"[^A-Za-z0-9.-]", "", hostname) or "localhost"
    return f"<{hashlib.sha256(seed.encode('utf-8', 'replace')).hexdigest()[:32]}@{host}>"


def _references(values: Iterable[str]) -> list[str]:
    ids = [clean for value in values if (clean := _one_id(value))]
    ids = list(dict.fromkeys(ids))
    return ids if len(ids) <= _REFERENCES else [ids[0], *ids[1 - _REFERENCES :]]


def _text_part(text: str) -> bytes:
    """Header lines, empty line and content of the text, ending in CRLF."""
    text = _TEXT_UNSAFE.sub("", _NEWLINES.sub("\n", text))
    if not text.isascii():
        text = nfc(text)
    text = text.rstrip("\n") + "\n"
    if text.isascii() and not _needs_encoding(text):
        return _TEXT_HEAD % (b"us-ascii", b"7bit") + text.replace("\n", "\r\n").encode("ascii")
    encoded = binascii.b2a_qp(text.encode("utf-8"), istext=True)
    # «From » at the start of a line is changed by some mail stores.
    encoded = (b"\n" + encoded).replace(b"\nFrom ", b"\n=46rom ")[1:]
    return _TEXT_HEAD % (b"utf-8", b"quoted-printable") + encoded.replace(b"\n", b"\r\n")


_TEXT_HEAD = b'Content-Type: text/plain; charset="%s"\r\nContent-Transfer-Encoding: %s\r\n\r\n'


def _needs_encoding(text: str) -> bool:
    return any(
        len(line) > _LINE or line.endswith((" ", "\t")) or line.startswith("From ")
        for line in text.split("\n")
    )


def _attachment_part(attachment: Attachment) -> bytes:
    content_type = attachment.content_type.lower()
    if not _CONTENT_TYPE.fullmatch(content_type) or content_type.startswith("multipart/"):
        content_type = "application/octet-stream"
    content = attachment.content
    as_is = False
    if content_type.startswith("message/"):
        # RFC 2046 §5.2.1: a message inside must not be encoded; where it must, it goes as a file.
        as_is = _is_7bit(content)
        content_type = content_type if as_is else "application/octet-stream"
    disposition = "inline" if attachment.inline else "attachment"
    name = safe_value(attachment.filename).replace("/", "_").replace("\\", "_")[:150] or "vedlegg"
    lines = [
        f'Content-Type: {content_type};\r\n name="{_name_parameter(name)}"',
        f"Content-Transfer-Encoding: {'7bit' if as_is else 'base64'}",
        f"Content-Disposition: {disposition};\r\n {_filename_parameter(name)}",
    ]
    content_id = re.sub(r"[^\x21-\x3b\x3d\x3f-\x7e]", "", attachment.content_id)[:200]
    if content_id:
        lines.append(f"Content-ID: <{content_id}>")
    head = "\r\n".join(lines).encode("ascii") + b"\r\n\r\n"
    return head + (content if as_is else _base64_lines(content))


def _is_7bit(content: bytes) -> bool:
    if not content.isascii() or b"\x00" in content:
        return False
    lines = content.split(b"\r\n")
    return all(len(line) <= 998 and b"\r" not in line and b"\n" not in line for line in lines)


def _base64_lines(content: bytes) -> bytes:
    encoded = binascii.b2a_base64(content, newline=False)
    return b"\r\n".join(encoded[i : i + _LINE] for i in range(0, len(encoded), _LINE)) + b"\r\n"


def _name_parameter(name: str) -> str:
    """`name` of the content type, in encoded words for readers that do not know RFC 2231."""
    if name.isascii() and "=?" not in name:
        return re.sub(r'["\\]', "_", name)
    return "\r\n ".join(_encoded_words(name, 8))


def _filename_parameter(name: str) -> str:
    """`filename` of the disposition, after RFC 2231 when it is not plain ASCII."""
    if name.isascii() and not re.search(r'["\\%=?*]', name):
        return f'filename="{name}"'
    encoded = "".join(chr(b) if b in _ATTRIBUTE_SAFE else f"%{b:02X}" for b in name.encode("utf-8"))
    if len(encoded) <= 50:
        return f"filename*=utf-8''{encoded}"
    pieces = re.findall(r"(?:%[0-9A-F]{2}|[^%]){1,20}", encoded)
    pieces[0] = f"utf-8''{pieces[0]}"
    return ";\r\n ".join(f"filename*{n}*={piece}" for n, piece in enumerate(pieces))


_ATTRIBUTE_SAFE = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$&+-.^_`{|}~"
)
