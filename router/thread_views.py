"""An inquiry as people read it: what was said, where it went and why, how an answer would go."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlmodel import Session, col

from channels.sms.segments import count
from router import consent, outbox, queue, replies, texting
from router.errors import InvalidError
from router.files import missing_files
from router.models import (
    DecisionRecord,
    Direction,
    Event,
    Inquiry,
    Message,
    OutboxItem,
    Staff,
    StoredAttachment,
)

if TYPE_CHECKING:
    from datetime import datetime

    from channels.base import Address
    from router.access import Actor
    from router.correspondence import Letterhead


@dataclass(frozen=True, slots=True)
class ThreadMessage:
    """One message as people read it."""

    id: int
    direction: Direction
    kind: str
    channel: str
    sender_name: str
    sender_address: str
    recipients: list[str]
    subject: str
    text: str
    has_html: bool
    at: datetime
    delivery: str
    delivery_detail: str
    staff_name: str
    attachments: list[StoredAttachment]
    defects: list[str]
    sender_check: str
    marks: list[str]
    arrival_id: int | None
    outbox_id: int | None = None
    """Of what we sent; None for what came in, and for notes."""
    attempts: int = 0
    next_at: datetime | None = None
    """When an unsent message is tried again."""
    may_resend: bool = False
    """Whether a person can have it sent once more."""
    files_waiting: int = 0
    """Files that are still to be fetched from the provider."""
    files_lost: int = 0
    """Files that could not be fetched."""
    parts: int = 0
    """Of a text of ours: in how many it is sent."""


@dataclass(frozen=True, slots=True)
class DecisionView:
    """Why the inquiry went somewhere."""

    at: datetime
    department: str
    rule: str
    reason: str
    reason_text: str
    ruleset: str
    trace: dict[str, Any]


@dataclass(frozen=True, slots=True)
class EventView:
    """One line of an inquiry's history."""

    id: int
    at: datetime
    kind: str
    department: str
    staff_name: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Thread:
    """Everything about one inquiry."""

    inquiry: queue.QueueRow
    contact_id: int | None
    contact_name: str
    contact_addresses: list[tuple[str, str]]
    messages: list[ThreadMessage]
    decisions: list[DecisionView]
    events: list[EventView]
    hint_ref: str | None
    reply_channel: str
    """How an answer would go; empty when in no way."""
    reply_address: str
    """Where to; of a chat, its key."""
    reply_refusal: str
    """Why in no way, in plain words."""
    reply_end: str
    """What is added under a reply by text, and counts as much."""
    no_texts: frozenset[str]
    """Numbers of the contact that have asked for no more texts."""
    emergency_seen: bool


def thread(session: Session, head: Letterhead, actor: Actor, ref: str, now: datetime) -> Thread:
    """Read one inquiry with its messages, decisions and history. Raises `NotFoundError`."""
    row = queue.row(session, actor, ref)
    inquiry = session.get_one(Inquiry, row.id)
    addresses = replies.addresses_of(session, inquiry)
    hint = session.get(Inquiry, inquiry.hint_id) if inquiry.hint_id else None
    to, refusal = reply_to(session, head, inquiry, now)
    channel = way_of(to)
    numbers = [value for kind, value in addresses if kind == replies.PHONE]
    return Thread(
        inquiry=row,
        contact_id=inquiry.contact_id,
        contact_name=inquiry.sender_name,
        contact_addresses=addresses,
        messages=messages(session, row.id),
        decisions=_decisions(session, row.id),
        events=_events(session, row.id),
        hint_ref=hint.ref if hint is not None and actor.sees(hint.department) else None,
        reply_channel=channel,
        reply_address=to.value if to is not None else "",
        reply_refusal=refusal,
        reply_end=texting.reply_end(head, inquiry) if channel == texting.CHANNEL else "",
        no_texts=frozenset(n for n in numbers if consent.withdrawn_at(session, n) is not None),
        emergency_seen=inquiry.emergency_seen_at is not None,
    )


def reply_to(
    session: Session, head: Letterhead, inquiry: Inquiry, now: datetime
) -> tuple[Address | None, str]:
    """Where an answer would go, so that whoever writes it sees that; else why it goes nowhere."""
    try:
        return replies.recipient_of(session, head, inquiry, now), ""
    except InvalidError as error:
        return None, error.detail


def way_of(to: Address | None) -> str:
    """How an answer goes: a channel, empty for in no way."""
    if to is None:
        return ""
    return texting.CHANNEL if to.channel == replies.PHONE else to.channel


def messages(session: Session, inquiry_id: int) -> list[ThreadMessage]:
    """The messages of an inquiry, oldest first; automatic letters included, with their delivery
    state."""
    files: dict[int, list[StoredAttachment]] = defaultdict(list)
    for file in session.execute(
        select(StoredAttachment)
        .join(Message, col(Message.id) == col(StoredAttachment.message_id))
        .where(col(Message.inquiry_id) == inquiry_id)
        .order_by(col(StoredAttachment.id))
    ).scalars():
        files[file.message_id].append(file)
    rows = session.execute(
        select(Message, col(Staff.name))
        .outerjoin(Staff, col(Staff.id) == col(Message.staff_id))
        .where(col(Message.inquiry_id) == inquiry_id)
        .order_by(col(Message.id))
    )
    letters_out = list(
        session.execute(
            select(OutboxItem)
            .where(
                col(OutboxItem.inquiry_id) == inquiry_id,
                col(OutboxItem.kind).not_in(outbox.INTERNAL),
            )
            .order_by(col(OutboxItem.id))
        ).scalars()
    )
    item_of = {item.thread_message_id: item for item in letters_out}
    missing = missing_files(session, inquiry_id)
    found = [
        ThreadMessage(
            id=message.id or 0,
            direction=message.direction,
            kind=message.kind,
            channel=message.channel,
            sender_name=message.sender_name,
            sender_address=message.sender_address,
            recipients=message.recipients,
            subject=message.subject,
            text=message.text,
            has_html=message.has_html,
            at=message.at,
            delivery=message.delivery,
            delivery_detail=message.delivery_detail,
            staff_name=staff_name or "",
            attachments=files[message.id or 0],
            defects=message.defects,
            sender_check=message.sender_check,
            marks=message.marks,
            arrival_id=message.arrival_id,
            files_waiting=missing.get((message.id, "announced"), 0),
            files_lost=missing.get((message.id, "failed"), 0),
            **_on_its_way(item_of.get(message.id)),
        )
        for message, staff_name in rows
    ]
    found += [_automatic(item) for item in letters_out if item.thread_message_id is None]
    return sorted(found, key=lambda message: message.at)


def _decisions(session: Session, inquiry_id: int) -> list[DecisionView]:
    rows = session.execute(
        select(DecisionRecord)
        .where(col(DecisionRecord.inquiry_id) == inquiry_id)
        .order_by(col(DecisionRecord.id))
    ).scalars()
    return [
        DecisionView(
            at=row.at,
            department=row.department,
            rule=row.rule,
            reason=row.reason,
            reason_text=row.reason_text,
            ruleset=row.ruleset,
            trace=row.trace,
        )
        for row in rows
    ]


def _events(session: Session, inquiry_id: int) -> list[EventView]:
    rows = session.execute(
        select(Event, col(Staff.name))
        .outerjoin(Staff, col(Staff.id) == col(Event.staff_id))
        .where(col(Event.inquiry_id) == inquiry_id)
        .order_by(col(Event.id))
    )
    return [
        EventView(event.id or 0, event.at, event.kind, event.department, name or "", event.data)
        for event, name in rows
    ]


def _automatic(item: OutboxItem) -> ThreadMessage:
    payload = item.payload
    return ThreadMessage(
        id=-(item.id or 0),
        direction=Direction.OUT,
        kind=item.kind,
        channel=item.channel,
        sender_name=payload["sender"]["name"],
        sender_address=payload["sender"]["value"],
        recipients=[item.recipient],
        subject=payload["subject"],
        text=payload["text"],
        has_html=False,
        at=item.created_at,
        delivery=item.state,
        delivery_detail=item.detail,
        staff_name="",
        attachments=[],
        defects=[],
        sender_check="",
        marks=[],
        arrival_id=None,
        **_on_its_way(item),
    )


def _on_its_way(item: OutboxItem | None) -> dict[str, Any]:
    if item is None:
        return {}
    tried_in_vain = item.state == "queued" and item.attempts > 0
    return {
        "outbox_id": item.id,
        "attempts": item.attempts,
        "next_at": item.next_at,
        "may_resend": item.state in {"failed", "uncertain"} or tried_in_vain,
        "parts": count(item.payload["text"]).parts if item.channel == texting.CHANNEL else 0,
    }
