"""What goes out as a text: receipts, the emergency answer, replies; and who can be texted at all.

A part has room for 160 characters, so texts are short, carry a link only where it costs nothing,
and never say what the inquiry is about: telephones show them to whoever is near.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import insert

from channels.base import Address, MessageKind, Outgoing, OutgoingKind
from channels.numbers import is_mobile
from channels.sms import TEXT_LIMIT
from channels.sms.segments import count, odd_one, plain
from router import consent, letters
from router.errors import InvalidError
from router.models import OutboxItem
from router.outbox import row

if TYPE_CHECKING:
    from datetime import datetime

    from sqlmodel import Session

    from router.correspondence import Letterhead
    from router.models import Inquiry, Message
    from router.preparing import Prepared

CHANNEL = "sms"

Hindrance = Literal["", "closed", "no_number", "not_mobile", "own", "opted_out"]
"""Why somebody cannot be texted; empty when they can."""

REFUSALS: dict[str, str] = {
    "closed": "Texts are not in use here. Call the person and write a note.",
    "no_number": "The sender has no number that can be texted. Write a note.",
    "not_mobile": (
        "This number cannot take texts. Call the person, ask for an e-mail address, and write a"
        " note."
    ),
    "own": "This is one of our own numbers.",
    "opted_out": (
        "The person has asked for no more texts. Call, or write by e-mail, and write a note."
    ),
}
"""Hindrance -> what whoever would write is told."""

FILES = "Files cannot be sent by text. Send them by e-mail."
TOO_LONG = "A text takes at most 1600 characters, with the greeting. Shorten it."


def hindrance(session: Session, head: Letterhead, number: str) -> Hindrance:
    """Why a number cannot be texted."""
    if not head.text_numbers:
        return "closed"
    if not number.startswith("+"):
        return "no_number"
    if number in head.text_numbers:
        return "own"
    if not is_mobile(number):
        return "not_mobile"
    return "opted_out" if consent.withdrawn_at(session, number) is not None else ""


def sender_for(head: Letterhead, line: str) -> str:
    """The number of ours that an answer comes from: the one that was written to, if it sends
    texts."""
    return line if line in head.text_numbers else head.text_numbers[0]


def receipt_row(
    head: Letterhead,
    item: Prepared,
    inquiry_id: int,
    ref: str,
    forwarded: bool | None,
    now: datetime,
) -> dict[str, Any]:
    """The automatic receipt of a text, or the emergency numbers where it sounds like an emergency;
    see `correspondence.receipt_row`."""
    incoming, decision = item.incoming, item.decision
    department = head.departments[decision.department]
    name = "text_receipt"
    if department.external and not decision.sensitivity:
        name = "text_external" if forwarded else "text_referred"
    kind = OutgoingKind.RECEIPT
    if decision.emergency:
        name, kind = "text_emergency", OutgoingKind.EMERGENCY
    language = letters.letter_language(incoming.language)
    text = letters.write(
        language,
        name,
        ref=ref,
        due=item.due_in_words,
        department=department.name.get(language),
        municipality=head.municipality,
    )
    return _row(
        head,
        inquiry_id,
        kind,
        incoming.sender or Address("phone", ""),
        _with_link(text, head.status_url(inquiry_id)),
        now,
        line=incoming.recipients[0],
        language=language,
        arrival_id=item.arrival_id,
    )


def notice_row(head: Letterhead, inquiry: Inquiry, now: datetime) -> dict[str, Any]:
    """Tells who texted that an external body answers now (forvaltningsloven § 11)."""
    language = letters.letter_language(inquiry.language)
    text = letters.write(
        language,
        "text_external",
        ref=inquiry.ref,
        department=head.departments[inquiry.department].name.get(language),
        municipality=head.municipality,
    )
    to = Address("phone", inquiry.sender_address)
    return _row(
        head,
        inquiry.id or 0,
        OutgoingKind.RECEIPT,
        to,
        text,
        now,
        line=inquiry.line,
        language=language,
    )


def pair_of(item: Prepared) -> str:
    """The sender's number and ours, by which texts are threaded; empty for other channels."""
    incoming = item.incoming
    if incoming.channel != CHANNEL or incoming.sender is None:
        return ""
    return f"{incoming.sender.value} {incoming.recipients[0]}"


def silence(session: Session, head: Letterhead, item: Prepared) -> str:
    """Why a text that asks for an automatic answer gets none, as a code; empty when it may have
    one. Who wants no texts still gets the emergency numbers, and whoever says START gets a
    receipt."""
    incoming = item.incoming
    if incoming.channel != CHANNEL or incoming.sender is None:
        return ""
    found = hindrance(session, head, incoming.sender.value)
    asked_for = item.decision.emergency or incoming.may_text
    return "" if found == "opted_out" and asked_for else found


def heard(session: Session, item: Prepared, inquiry_id: int, now: datetime) -> None:
    """Keep to what a text says of texts: STOP, START."""
    incoming = item.incoming
    if incoming.channel != CHANNEL or incoming.sender is None:
        return
    if incoming.kind is MessageKind.OPT_OUT:
        consent.withdraw(session, incoming.sender.value, inquiry_id, now)
    elif incoming.may_text:
        consent.give(session, incoming.sender.value, inquiry_id, now)


def reply_end(head: Letterhead, inquiry: Inquiry) -> str:
    """What stands under a reply by text: who writes."""
    language = letters.letter_language(inquiry.language)
    department = head.departments[inquiry.department].name.get(language)
    return letters.write(
        language, "text_end", department=department, municipality=head.municipality
    )


@dataclass(frozen=True, slots=True)
class Measured:
    """What a reply takes as a text, its end included."""

    encoding: Literal["gsm7", "ucs2"]
    characters: int
    parts: int
    left: int
    """Characters that are free in the last part."""
    odd_one: str
    """What makes the parts small: the first character that is not in the usual alphabet, as
    `U+200D` where it cannot be seen; empty when there is none."""
    too_long: bool


def measured(text: str, end: str) -> Measured:
    """How long a reply is that has this `end`."""
    whole = _whole(_tidy(text), end)
    found = count(whole)
    return Measured(
        encoding=found.encoding,
        characters=len(whole),
        parts=found.parts,
        left=found.left,
        odd_one=_visible(odd_one(whole)),
        too_long=_too_long(whole),
    )


def tidied(head: Letterhead, inquiry: Inquiry, text: str) -> str:
    """A reply as it is sent, without its end: typography plain where that saves parts. Raises
    `InvalidError` when it is too long for a text."""
    tidy = _tidy(text)
    if _too_long(_whole(tidy, reply_end(head, inquiry))):
        raise InvalidError(TOO_LONG)
    return tidy


def post(
    session: Session,
    head: Letterhead,
    inquiry: Inquiry,
    message: Message,
    recipient: Address,
    now: datetime,
) -> None:
    """Put a reply in the outbox, as a text."""
    letter = Outgoing(
        channel=CHANNEL,
        kind=OutgoingKind.REPLY,
        message_id=message.message_id,
        created_at=now,
        to=recipient,
        sender=Address("phone", message.sender_address, message.sender_name),
        subject="",
        text=_whole(message.text, reply_end(head, inquiry)),
        language=letters.letter_language(inquiry.language),
    )
    session.connection().execute(
        insert(OutboxItem.__table__),  # type: ignore[attr-defined]
        row(letter, inquiry.id or 0, message.id, now),
    )


def _tidy(text: str) -> str:
    return plain(text.strip()).strip()


def _whole(text: str, end: str) -> str:
    return plain(text + end)


def _visible(text: str) -> str:
    seen = text[:1].isprintable() and not unicodedata.combining(text[:1] or " ")
    return text if seen else f"U+{ord(text[0]):04X}"


def _too_long(whole: str) -> bool:
    return len(whole.encode("utf-16-le")) // 2 > TEXT_LIMIT


def _with_link(text: str, url: str) -> str:
    """A text with the resident's own page, if it costs no part more."""
    longer = f"{text}\n{url}"
    return longer if count(plain(longer)).parts == count(plain(text)).parts else text


def _row(
    head: Letterhead,
    inquiry_id: int,
    kind: OutgoingKind,
    to: Address,
    text: str,
    now: datetime,
    *,
    line: str,
    language: str,
    arrival_id: int | None = None,
) -> dict[str, Any]:
    letter = Outgoing(
        channel=CHANNEL,
        kind=kind,
        message_id=head.new_message_id(inquiry_id),
        created_at=now,
        to=to,
        sender=Address("phone", sender_for(head, line), head.municipality),
        subject="",
        text=plain(text),
        language=language,
        automatic=True,
    )
    return row(letter, inquiry_id, None, now, arrival_id=arrival_id)
