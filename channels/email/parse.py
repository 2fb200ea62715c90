"""Bytes of a mail -> `Incoming`. Never raises, whatever the bytes; runs in a worker process.

Imports stay light (no network, no MIME library; HTML parsers on first use): worker start-up counts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from channels.base import Address, Attachment, Envelope, Incoming, MessageKind
from channels.email.addresses import OwnAddresses as OwnAddresses
from channels.email.addresses import normalise
from channels.email.authentication import NOBODY, Trust, says_spam, sender_check
from channels.email.charsets import clean, clean_line, decode, strip_controls
from channels.email.guards import classify, receipt_bar
from channels.email.headers import (
    decode_words,
    message_ids,
    parse_addresses,
    parse_date,
)
from channels.email.identity import content_key as content_key
from channels.email.identity import delivery_key as delivery_key
from channels.email.markup import (
    HTML_LIMIT,
    declared_charset,
    sanitise,
    strip_tags,
    to_text,
    unflow,
)
from channels.email.mime import Part, read_structure, safe_filename
from channels.email.verdict import verdict_of

if TYPE_CHECKING:
    from collections.abc import Iterable

TEXT_LIMIT = 1_000_000
"""Bytes of all text parts that go into `text`; what does not fit is kept whole as an attachment."""
SUBJECT_LIMIT = 1000
_MAX_DEFECTS = 20
_RESCUE_LIMIT = 64 * 1024

# «VS: », «Fwd: » … first of all prefixes; «SV: VS: » answers a forward, and is a reply.
_FORWARDED = re.compile(
    r"\s*(?:\[[^\]]{1,40}\]\s*)?(?:vs|fw|fwd|wg|vb|videresendt?|vidaresendt?|vidarebefordrat)\s*:",
    re.IGNORECASE,
)


@dataclass(slots=True)
class _Block:
    """A stretch of the body: the same text as plain parts, as HTML parts, or both."""

    plain: list[Part] = field(default_factory=list)
    html: list[Part] = field(default_factory=list)


@dataclass(slots=True)
class _Body:
    blocks: list[_Block] = field(default_factory=list)
    files: list[Part] = field(default_factory=list)


@dataclass(slots=True)
class _Room:
    """How much of a mail is still read as text; a thousand long parts are no more than one."""

    attachments: list[Attachment] = field(default_factory=list)
    defects: list[str] = field(default_factory=list)
    text: int = TEXT_LIMIT
    parsed: int = HTML_LIMIT
    shown: int = HTML_LIMIT
    kept: set[int] = field(default_factory=set)
    """Identities of the parts that are attached whole."""

    def keep(self, part: Part, defect: str) -> None:
        """Attach what is not all to be seen."""
        self.defects.append(defect)
        if id(part) not in self.kept:
            self.kept.add(id(part))
            self.attachments.append(_attachment(part, len(self.attachments) + 1))


def parse(raw: bytes, envelope: Envelope, own: OwnAddresses, trust: Trust = NOBODY) -> Incoming:
    """The message in `raw`, normalised. Never raises: what cannot be read is told in `defects`.

    `envelope` is what the transport said: `mail_from`, `recipients`; both may be missing.
    """
    try:
        return _parse(raw, envelope, own, trust)
    except Exception as error:  # noqa: BLE001 - a mail must never be lost to a fault of ours
        return _rescue(raw, envelope, own, f"unparsed: {type(error).__name__}")


def formatted(raw: bytes) -> str:
    """The body as sanitised HTML, when any of it came as HTML; else empty."""
    body = _Body()
    root = read_structure(raw).root
    _gather(root, body, is_root=True)
    root.headers.hint = _charset_hint(root, body)
    return _html(body, _Room())


def _parse(raw: bytes, envelope: Envelope, own: OwnAddresses, trust: Trust) -> Incoming:
    structure = read_structure(raw)
    root, defects = structure.root, structure.defects
    headers = root.headers
    body = _Body()
    _gather(root, body, is_root=True)
    if not body.blocks:  # nothing but files: a readable one serves as text, and stays a file
        readable = [part for part in body.files if part.content_type in _READABLE]
        body.blocks = [_Block([part], []) for part in readable[:1]]
    headers.hint = _charset_hint(root, body)

    attachments: list[Attachment] = []
    room = _Room(attachments, defects)
    text = _text(body, room)
    attachments.extend(
        _attachment(part, n) for n, part in enumerate(body.files, len(attachments) + 1)
    )

    mail_from = _string(envelope.get("mail_from"))
    authors = headers.addresses(b"from") or headers.addresses(b"sender")
    author = authors[:1]
    subject = headers.text(b"subject")[:SUBJECT_LIMIT]
    sender = _sender(author, mail_from or "")
    recipients = _strings(envelope.get("recipients"))
    header_recipients = [
        address for name in _ADDRESSEES for value in headers.all(name)
        for _, address in parse_addresses(value)
    ]  # fmt: skip
    report_type, delivery_status = _report(root, body.files)
    scanned = verdict_of(envelope)
    kind = classify(
        headers,
        envelope_sender=mail_from,
        sender=author[0][1] if author else (mail_from or ""),
        subject=subject,
        report_type=report_type,
        delivery_status=delivery_status,
        to_return_path=any(map(own.is_return, recipients)),
        own=own,
        spam=scanned.spam or says_spam(headers, envelope, trust),
    )
    if not text and delivery_status:
        text = clean(decode(delivery_status))
    text = text or _text_of_attached_message(body.files)
    reply_to = _sender(headers.addresses(b"reply-to")[:1], "")
    return Incoming(
        channel="email",
        external_id=content_key(raw),
        sender=sender,
        recipients=_own_recipients(recipients, header_recipients, own),
        subject=subject,
        text=text,
        kind=kind,
        has_html=any(block.html for block in body.blocks),
        attachments=tuple(attachments),
        sent_at=parse_date(headers.raw(b"date")),
        message_id=next(iter(message_ids(headers.raw(b"message-id"))), ""),
        in_reply_to=next(iter(message_ids(headers.raw(b"in-reply-to"))), ""),
        references=message_ids(headers.raw(b"references")),
        thread_token=next(filter(None, map(own.token, recipients)), ""),
        reply_to=None if reply_to and sender and reply_to.value == sender.value else reply_to,
        receipt_barred=receipt_bar(
            headers,
            envelope_sender=mail_from,
            sender=sender.value if sender else "",
            kind=kind,
            content_type=root.content_type,
            own=own,
            header_recipients=header_recipients,
            infected=bool(scanned.virus),
        ),
        sender_check=sender_check(headers, envelope, authors, trust),
        marks=scanned.marks,
        forwarded=bool(_FORWARDED.match(subject)),
        defects=tuple(dict.fromkeys(defects))[:_MAX_DEFECTS],
    )


def _gather(part: Part, body: _Body, *, is_root: bool = False) -> None:
    """Sort the leaves below `part` into stretches of body and files."""
    if part.children:
        if part.content_type == "multipart/alternative":
            inner = _Body()
            for child in part.children:
                _gather(child, inner)
            body.files.extend(inner.files)
            body.blocks.append(
                _Block(
                    [part for block in inner.blocks for part in block.plain],
                    [part for block in inner.blocks for part in block.html],
                )
            )
        else:
            for child in part.children:
                _gather(child, body)
        return
    # A name alone, without disposition, is common on bodies too.
    named = "filename" in part.file_params or (bool(part.filename) and bool(body.blocks))
    as_file = part.disposition == "attachment" or named
    if part.main == "text" and part.content_type in _READABLE and (is_root or not as_file):
        html = part.content_type in _HTML
        body.blocks.append(_Block([], [part]) if html else _Block([part], []))
        if as_file and part.filename:
            body.files.append(part)
    elif part.start < part.end or part.filename:
        body.files.append(part)


_ADDRESSEES = (b"to", b"cc", b"resent-to", b"resent-cc")
_MESSAGES = frozenset(("message/rfc822", "message/global"))
_HTML = frozenset(("text/html", "text/xhtml"))
_READABLE = _HTML | {
    "text/plain",
    "text/enriched",
    "text/richtext",
    "text/markdown",
    "text/x-markdown",
    "text/flowed",
}


def _charset_hint(root: Part, body: _Body) -> str:
    if root.charset:
        return root.charset
    parts = (part for block in body.blocks for part in (*block.plain, *block.html))
    return next((part.charset for part in parts if part.charset), "")


def _text(body: _Body, room: _Room) -> str:
    texts: list[str] = []
    for block in body.blocks:
        text = "\n\n".join(filter(None, (_plain(part, room) for part in block.plain)))
        if not text:
            text = "\n\n".join(filter(None, (_from_html(part, room) for part in block.html)))
        if text:
            texts.append(text)
    return "\n\n".join(texts)


def _bytes(part: Part, room: _Room) -> bytes:
    content = part.body()
    if len(content) > room.text:
        room.keep(part, "text shortened, the whole of it is attached")
        content = content[: room.text]
    room.text -= len(content)
    return content


def _plain(part: Part, room: _Room) -> str:
    content = strip_controls(_bytes(part, room), part.charset)
    text = clean(decode(content, part.charset))
    if part.params.get("format", "").lower() == "flowed":
        text = unflow(text, part.params.get("delsp", "").lower() == "yes")
    elif part.content_type in ("text/enriched", "text/richtext"):
        text = _ENRICHED.sub("", text)
    return text.strip("\n").rstrip()


_ENRICHED = re.compile(r"</?[A-Za-z][A-Za-z0-9-]{0,60}>")


def _from_html(part: Part, room: _Room) -> str:
    content = _bytes(part, room)
    derive = to_text if len(content) <= room.parsed else strip_tags
    room.parsed -= len(content)
    return clean(derive(_decode_html(part, content))).strip()


def _decode_html(part: Part, content: bytes) -> str:
    return decode(strip_controls(content, part.charset), part.charset or declared_charset(content))


def _html(body: _Body, room: _Room) -> str:
    """The body as sanitised HTML, when any of it came as HTML."""
    if not any(block.html for block in body.blocks):
        return ""
    pieces: list[str] = []
    plain = _Room()
    for block in body.blocks:
        for part in block.html:
            content = part.body()
            if len(content) > room.shown:
                room.keep(part, "HTML not shown, the whole of it is attached")
                continue
            room.shown -= len(content)
            piece = sanitise(_decode_html(part, content))
            if not piece and part.start < part.end:
                room.defects.append("HTML not shown")
            pieces.append(clean(piece))
        if not block.html:
            pieces.extend(_as_html(_plain(part, plain)) for part in block.plain)
    return "\n".join(filter(None, pieces))


def _as_html(text: str) -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "<p>" + escaped.replace("\n", "<br>") + "</p>"


def _text_of_attached_message(files: list[Part]) -> str:
    """A mail that is nothing but a forwarded message says what that message says."""
    for part in files:
        if part.content_type in _MESSAGES:
            inner = _Body()
            _gather(read_structure(part.body()).root, inner, is_root=True)
            return _text(inner, _Room())
    return ""


def _attachment(part: Part, number: int) -> Attachment:
    content = part.body()
    content_type = part.content_type
    name = part.filename
    if content_type in _MESSAGES:
        inner = read_structure(content[:_RESCUE_LIMIT]).root.headers if not name else None
        name = name or (
            inner.text(b"subject")[:100].replace("/", "-") + ".eml"
            if inner and inner.text(b"subject")
            else ""
        )
        content = content.replace(b"\n", b"\r\n") if b"\r" not in content else content
    elif part.encoding in ("", "7bit", "8bit") and part.main == "text":
        content = content.replace(b"\n", b"\r\n")
    content_id = clean_line(part.headers.raw(b"content-id").decode("ascii", "replace"))
    return Attachment(
        filename=safe_filename(name, content_type, number),
        content_type=content_type,
        content=content,
        content_id=content_id.strip("<> ")[:200],
        inline=part.disposition != "attachment" and bool(content_id) and part.main == "image",
    )


def _report(root: Part, files: list[Part]) -> tuple[str, bytes]:
    """The `report-type` of the mail, and its machine-readable delivery status."""
    report_type = (
        root.params.get("report-type", "").lower()
        if root.content_type == "multipart/report"
        else ""
    )
    for part in files:
        if part.content_type in ("message/delivery-status", "message/global-delivery-status"):
            return report_type or "delivery-status", part.body()[:_RESCUE_LIMIT]
    return report_type, b""


def _sender(author: Iterable[tuple[str, str]], mail_from: str) -> Address | None:
    for name, address in author:
        return Address("email", address, name)
    address = normalise(mail_from)
    return Address("email", address) if address else None


def _own_recipients(
    recipients: list[str], header_recipients: list[str], own: OwnAddresses
) -> tuple[str, ...]:
    if not recipients:  # no envelope: what the headers say must do
        recipients = [address for address in header_recipients if own.is_own(address)]
    return tuple(dict.fromkeys(own.base(recipient) for recipient in recipients))


def _string(value: object) -> str | None:
    return clean_line(value) if isinstance(value, str) else None


def _strings(value: object) -> list[str]:
    return (
        [clean_line(item) for item in value if isinstance(item, str)]
        if isinstance(value, (list, tuple))
        else []
    )


_FOLD = re.compile(rb"\r?\n[ \t]+")
_RESCUED = re.compile(
    rb"^(from|subject|message-id):[ \t]*([^\r\n]{0,2000}(?:\r?\n[ \t][^\r\n]{0,2000}){0,20})",
    re.IGNORECASE | re.MULTILINE,
)


def _rescue(raw: bytes, envelope: Envelope, own: OwnAddresses, defect: str) -> Incoming:
    """As much as a plain look at the first 64 kB gives."""
    head = raw[:_RESCUE_LIMIT]
    found: dict[bytes, bytes] = {}
    for name, value in _RESCUED.findall(head):
        found.setdefault(name.lower(), _FOLD.sub(b" ", value))
    mail_from = _string(envelope.get("mail_from")) or ""
    recipients = _strings(envelope.get("recipients"))
    sender = _sender(parse_addresses(found.get(b"from", b""))[:1], mail_from)
    subject = decode_words(found.get(b"subject", b""))[:SUBJECT_LIMIT]
    return Incoming(
        channel="email",
        external_id=content_key(raw),
        sender=sender,
        recipients=_own_recipients(recipients, [], own),
        subject=subject,
        text=clean(decode(head)),
        kind=MessageKind.CONTACT,
        message_id=next(iter(message_ids(found.get(b"message-id", b""))), ""),
        thread_token=next(filter(None, map(own.token, recipients)), ""),
        receipt_barred="unparsed",
        marks=verdict_of(envelope).marks,
        forwarded=bool(_FORWARDED.match(subject)),
        defects=(defect,),
    )
