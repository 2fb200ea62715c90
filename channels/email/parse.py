"""Bytes of a mail -> `Incoming`. Never raises, whatever the bytes; runs in a worker process.

Imports stay light (no network, no MIME library; HTML parsers on first use): worker start-up counts.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from channels.base import Address, Attachment, Envelope, Incoming, Mark, MessageKind
from channels.email.addresses import OwnAddresses as OwnAddresses
from channels.email.addresses import normalise
from channels.email.authentication import NOBODY, Trust, says_spam, sender_check
from channels.email.body import (
    TEXT_LIMIT,
    Room,
    attachment,
    forwarded_text,
    html_text,
    sort_parts,
    text_of,
)
from channels.email.charsets import clean, clean_line, decode
from channels.email.formatted import Formatted as Formatted
from channels.email.formatted import formatted as formatted
from channels.email.guards import classify, receipt_bar
from channels.email.headers import (
    FIELD_LIMIT,
    decode_words,
    message_ids,
    parse_addresses,
    parse_date,
)
from channels.email.identity import content_key as content_key
from channels.email.identity import delivery_key as delivery_key
from channels.email.identity import is_undated
from channels.email.invitation import describe
from channels.email.mime import Part, read_structure
from channels.email.reports import (
    RETURNED_TYPES,
    STATUS_TYPES,
    delivery_report,
    returned_message_id,
)
from channels.email.tnef import TnefError, read_tnef
from channels.email.verdict import verdict_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from channels.base import DeliveryReport
    from channels.email.headers import Headers

SUBJECT_LIMIT = 1000
_MAX_DEFECTS = 20
_RESCUE_LIMIT = 64 * 1024

# «VS: », «Fwd: » … first of all prefixes; «SV: VS: » answers a forward, and is a reply.
_FORWARDED = re.compile(
    r"\s*(?:\[[^\]]{1,40}\]\s*)?(?:vs|fw|fwd|wg|vb|videresendt?|vidaresendt?|vidarebefordrat)\s*:",
    re.IGNORECASE,
)


def parse(raw: bytes, envelope: Envelope, own: OwnAddresses, trust: Trust = NOBODY) -> Incoming:
    """The message in `raw`, normalised. Never raises: what cannot be read is told in `defects`.

    `envelope` is what the transport said: `mail_from`, `recipients`; both may be missing.
    """
    try:
        return _parse(raw, envelope, own, trust)
    except Exception as error:  # noqa: BLE001 - a mail must never be lost to a fault of ours
        return _rescue(raw, envelope, own, f"unparsed: {type(error).__name__}")


def _parse(raw: bytes, envelope: Envelope, own: OwnAddresses, trust: Trust) -> Incoming:
    structure = read_structure(raw)
    root, defects = structure.root, structure.defects
    headers = root.headers
    body = sort_parts(root)

    attachments: list[Attachment] = []
    room = Room(attachments, defects, headers=structure.header_room)
    text = text_of(body, room)
    attachments.extend(
        attachment(part, n) for n, part in enumerate(body.files, len(attachments) + 1)
    )

    mail_from = _string(envelope.get("mail_from"))
    authors = headers.addresses(b"from") or _hidden_address(headers) or headers.addresses(b"sender")
    author = authors[:1]
    subject = headers.text(b"subject")[:SUBJECT_LIMIT]
    sender = _sender(author, mail_from or "", headers)
    recipients = _strings(envelope.get("recipients"))
    header_recipients = _addressees(headers)
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
    marks = list(scanned.marks)
    if body.files or root.children:
        answered = bool(report_type) or kind is MessageKind.BOUNCE
        text = _with_files(root, body.files, text, room, marks, forwards=not answered)
    if not text and delivery_status:
        text = clean(decode(delivery_status))
    if "-----BEGIN PGP " in text:
        _mark_inline_pgp(text, marks)
    reply_to = _sender(headers.addresses(b"reply-to")[:1], "", headers)
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
        forwarded=bool(_FORWARDED.match(subject)),
        undated=is_undated(raw),
        defects=tuple(dict.fromkeys(defects))[:_MAX_DEFECTS],
        marks=tuple(dict.fromkeys(marks)),
        report=_told(headers, body.files, delivery_status, text, null_sender=mail_from == "")
        if kind is MessageKind.BOUNCE and report_type != "feedback-report"
        else None,
    )


def _with_files(
    root: Part, files: list[Part], text: str, room: Room, marks: list[Mark], *, forwards: bool
) -> str:
    """`text` with what some files say in words; `marks` and attachments grow on the way."""
    _mark_wrapped(root, marks)
    texts = [text]
    calendars = _MAX_CALENDARS
    for part in files:
        if part.content_type in _CALENDARS:
            marks.append(Mark.CALENDAR)
            calendars -= 1
            texts.append(describe(part.body()) if calendars >= 0 else "")
        elif part.content_type in _SMIME:
            _mark_smime(part, marks)
        elif part.content_type in _TNEF or part.filename.lower() == "winmail.dat":
            texts.append(_unpacked(part, room, has_text=bool(text)))
    if forwards:
        texts.append(forwarded_text(files, room, has_text=any(texts)))
    return "\n\n".join(dict.fromkeys(filter(None, texts)))  # an invitation often comes twice


_ADDRESSEES = (b"to", b"cc", b"resent-to", b"resent-cc")
_MAX_CALENDARS = 3
_CALENDARS = frozenset(("text/calendar", "application/ics"))
_SMIME = frozenset(("application/pkcs7-mime", "application/x-pkcs7-mime"))
_TNEF = frozenset(("application/ms-tnef", "application/vnd.ms-tnef"))
_WRAPPERS = {"multipart/signed": Mark.SIGNED, "multipart/encrypted": Mark.ENCRYPTED}


def _mark_wrapped(part: Part, marks: list[Mark]) -> None:
    if part.content_type in _WRAPPERS:
        marks.append(_WRAPPERS[part.content_type])
    for child in part.children:
        if child.children or child.content_type in _WRAPPERS:
            _mark_wrapped(child, marks)


def _mark_smime(part: Part, marks: list[Mark]) -> None:
    """RFC 8551 §3.2.2: the parameter says what is inside; without it, nearly always a secret."""
    kind = part.params.get("smime-type", "").lower()
    if kind == "signed-data":
        marks.append(Mark.SIGNED)
    elif kind in ("", "enveloped-data", "authenveloped-data"):
        marks.append(Mark.ENCRYPTED)


_INLINE_PGP = re.compile(r"^-----BEGIN PGP (SIGNED )?MESSAGE-----", re.MULTILINE)


def _mark_inline_pgp(text: str, marks: list[Mark]) -> None:
    if found := _INLINE_PGP.search(text):
        marks.append(Mark.SIGNED if found[1] else Mark.ENCRYPTED)


def _unpacked(part: Part, room: Room, *, has_text: bool) -> str:
    """Attach the files inside `winmail.dat`; its text, when the mail has no other."""
    try:
        tnef = read_tnef(part.body(), room.unpacked)
    except TnefError:
        room.defects.append("winmail.dat could not be unpacked")
        return ""
    if room.unpacked.spent:
        room.defects.append("not every file was unpacked, the whole of it is attached")
    for file in tnef.files:
        if file.content or (file.name and not room.unpacked.spent):
            room.add(
                file.name,
                file.content,
                file.content_type or "application/octet-stream",
                file.content_id,
            )
    if has_text:
        return ""
    return clean(tnef.text).strip()[:TEXT_LIMIT] or html_text(tnef.html, room)


def _addressees(headers: Headers) -> list[str]:
    """To whom the mail says it goes; of more than one field can hold, the first."""
    room = FIELD_LIMIT
    found: list[str] = []
    for name in _ADDRESSEES:
        for value in headers.all(name):
            found += [address for _, address in parse_addresses(value[:room])]
            room -= len(value) + 1
            if room <= 0:
                return found
    return found


def _hidden_address(headers: Headers) -> list[tuple[str, str]]:
    """The author when the whole field, address and all, is written as encoded words."""
    value = headers.raw(b"from")
    return parse_addresses(headers.text(b"from").encode()) if b"=?" in value else []


def _report(root: Part, files: list[Part]) -> tuple[str, bytes]:
    """The `report-type` of the mail, and its machine-readable delivery status."""
    report_type = (
        root.params.get("report-type", "").lower()
        if root.content_type == "multipart/report"
        else ""
    )
    for part in files:
        if part.content_type in STATUS_TYPES:
            return report_type or "delivery-status", part.body()[:_RESCUE_LIMIT]
    return report_type, b""


def _told(
    headers: Headers, files: list[Part], delivery_status: bytes, text: str, *, null_sender: bool
) -> DeliveryReport:
    """What a bounce says of the message that it returns."""
    returned = next((part for part in files if part.content_type in RETURNED_TYPES), None)
    return replace(
        delivery_report(delivery_status, text, headers.raw(b"x-failed-recipients")),
        message_id=returned_message_id(
            returned.body()[:_RESCUE_LIMIT] if returned is not None else b"", text
        ),
        null_sender=null_sender,
    )


def _sender(
    author: Iterable[tuple[str, str]], mail_from: str, headers: Headers | None = None
) -> Address | None:
    """The author, else the envelope sender under whatever name the author gave."""
    for name, address in author:
        return Address("email", address, name)
    address = normalise(mail_from)
    if not address:
        return None
    name = headers.text(b"from") if headers is not None else ""
    return Address("email", address, name.strip(" \"'<>,;:")[:200] if "@" not in name else "")


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
        undated=is_undated(raw),
        defects=(defect,),
    )
