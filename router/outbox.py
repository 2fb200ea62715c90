"""Messages on their way out. The only way to send: written with the event that causes it,
delivered afterwards (`router/sending.py`).

A row holds the whole `Outgoing` with its Message-ID and date fixed, and composing it is a pure
function, so a second attempt sends identical bytes.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, select, text, update
from sqlmodel import Session, col

from channels.base import (
    Address,
    Attachment,
    Outgoing,
    OutgoingKind,
)
from channels.email.addresses import mailbox
from router import events, queue, staff
from router.blobs import read_blob
from router.chat_models import Relayed
from router.counters import counted
from router.errors import NotFoundError
from router.models import Event, Inquiry, InquiryStatus, Message, OutboxItem, ReplyState, Staff

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


OWED = frozenset({OutgoingKind.REPLY.value, OutgoingKind.FORWARD.value})
"""What leaves the contact without an answer when it cannot be delivered."""

INTERNAL = frozenset({OutgoingKind.RELAY.value})
"""What goes to people who work here: how it fares is no part of an inquiry's history."""

_TURNS = (
    "claimed",
    "closed",
    "handed_over",
    "released",
    "returned",
    "taken_back",
    "transferred",
)

_TABLE: Any = OutboxItem.__table__  # type: ignore[attr-defined]

UNSENT = text("outbox.state NOT IN ('sent', 'delivered')")
"""Written out, so that the planner uses the partial index."""


def row(
    outgoing: Outgoing,
    inquiry_id: int,
    thread_message_id: int | None,
    now: datetime,
    *,
    arrival_id: int | None = None,
    files: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """An outbox row. `arrival_id` is what it answers, for the logs. `files` name attachments in
    the blob folder; `outgoing.attachments` stays
    empty."""
    where = mailbox(outgoing.to.value)
    return {
        "channel": outgoing.channel,
        "kind": outgoing.kind.value,
        "message_id": outgoing.message_id,
        "inquiry_id": inquiry_id,
        "thread_message_id": thread_message_id,
        "arrival_id": arrival_id,
        "recipient": outgoing.to.value,
        "mailbox": where,
        "recipient_domain": where.rpartition("@")[2],
        "payload": _payload(outgoing, files),
        "state": "queued",
        "attempts": 0,
        "next_at": now,
        "created_at": now,
        "trying_since": now,
        "provider_id": "",
        "detail": "",
    }


def _payload(outgoing: Outgoing, files: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    # Not `dataclasses.asdict`: it copies everything deeply, at the cost of all else in a row.
    payload = {name: getattr(outgoing, name) for name in Outgoing.__slots__}
    return payload | {
        "created_at": outgoing.created_at.isoformat(),
        "to": {name: getattr(outgoing.to, name) for name in Address.__slots__},
        "sender": {name: getattr(outgoing.sender, name) for name in Address.__slots__},
        "attachments": list(files),
    }


def outgoing_of(item: OutboxItem, blobs: Path) -> Outgoing:
    """The message of a row, with its attachments read."""
    payload = dict(item.payload)
    return Outgoing(
        **{
            **payload,
            "kind": OutgoingKind(payload["kind"]),
            "created_at": datetime.fromisoformat(payload["created_at"]),
            "to": Address(**payload["to"]),
            "sender": Address(**payload["sender"]),
            "references": tuple(payload["references"]),
            "attachments": tuple(
                Attachment(
                    filename=file["filename"],
                    content_type=file["content_type"],
                    content=read_blob(blobs, file["sha256"]),
                    content_id=file["content_id"],
                    inline=file["inline"],
                )
                for file in payload["attachments"]
            ),
        }
    )


def stuck(session: Session, limit: int = 200) -> list[OutboxItem]:
    """Messages that a person should know of: failed, uncertain, or tried in vain."""
    query = (
        select(OutboxItem)
        .where(
            col(OutboxItem.state).in_(["failed", "uncertain"])
            | ((col(OutboxItem.state) == "queued") & (col(OutboxItem.detail) != ""))
        )
        .order_by(col(OutboxItem.id).desc())
        .limit(limit)
    )
    return list(session.execute(query).scalars())


def by_state(session: Session) -> dict[str, int]:
    """How many messages are not sent, by state."""
    query = select(_TABLE.c.state, func.count()).where(UNSENT).group_by(_TABLE.c.state)
    return dict(session.connection().execute(query).all())


def retry(session: Session, item_id: int, now: datetime) -> None:
    """Try a failed, waiting or uncertain message again, and for as long as a new one, because a
    person said so. Whoever is sending it just now keeps it. Raises `NotFoundError`."""
    changed = session.connection().execute(
        update(_TABLE)
        .where(_TABLE.c.id == item_id, _TABLE.c.state.not_in(["sent", "sending", "delivered"]))
        .values(state="queued", next_at=now, trying_since=now)
    )
    if not changed.rowcount:
        raise NotFoundError


def withdraw(session: Session, inquiry_id: int, recipient: str = "") -> None:
    """What waits to be told to people who work here of an inquiry is not told; only what goes to
    `recipient`, where one is given."""
    waiting = (UNSENT, _TABLE.c.inquiry_id == inquiry_id, _TABLE.c.kind.in_(INTERNAL))
    whose = (_TABLE.c.recipient == recipient,) if recipient else ()
    session.connection().execute(delete(_TABLE).where(*waiting, *whose))


def withdraw_if_former(session: Session, item: OutboxItem) -> bool:
    """Take back what waits for somebody who has the inquiry no longer; whether that was so. Whoever
    has it now, or gets it, is told from the beginning."""
    if item.kind not in INTERNAL:
        return False
    has_it = listener(session, session.get_one(Inquiry, item.inquiry_id))
    if has_it is not None and has_it.jid == item.recipient:
        return False
    withdraw(session, item.inquiry_id, item.recipient)
    session.execute(
        delete(Relayed).where(
            col(Relayed.inquiry_id) == item.inquiry_id,
            col(Relayed.staff_id) != (has_it.id if has_it is not None else 0),
        )
    )
    return True


def listener(session: Session, inquiry: Inquiry) -> Staff | None:
    """Whoever holds an inquiry, or closed it where nobody has done anything with it since: what its
    resident writes is theirs to know, for as long as they may see it."""
    number = inquiry.assignee_id
    if number is None:
        query = (
            select(col(Event.kind), col(Event.staff_id))
            .where(col(Event.inquiry_id) == inquiry.id, turned(Event))
            .order_by(col(Event.id).desc())
            .limit(1)
        )
        latest = session.execute(query).first()
        number = latest[1] if latest is not None and latest[0] == "closed" else None
    found = session.get(Staff, number) if number is not None else None
    if found is None or not found.active:
        return None
    return found if queue.sees(session, staff.actor_of(session, found), inquiry) else None


def turned(event: Any) -> Any:
    """Events by which an inquiry changes hands. The resident opens it again for whoever closed
    it."""
    return event.kind.in_(_TURNS) | ((event.kind == "reopened") & event.staff_id.is_not(None))


def fail(
    session: Session, item: OutboxItem, detail: str, now: datetime, *, status: str = ""
) -> None:
    """Note that a message did not arrive, with what was said of it; `status` is of a report.

    When it was owed, nobody has answered the contact: the inquiry needs a person again. A receipt
    that did not arrive is only noted.
    """
    item.state, item.detail, item.lease_until = "failed", detail, None
    note_in_thread(session, item)
    if item.kind in INTERNAL:
        return
    inquiry = session.get_one(Inquiry, item.inquiry_id)
    if item.kind in OWED:
        with counted(session, inquiry):
            inquiry.status = InquiryStatus.OPEN
            inquiry.closed_at = None
            inquiry.answered_at = None
            inquiry.reply_state = ReplyState.NOT_DELIVERED
            inquiry.version += 1
    data = {"kind": item.kind, "attempts": item.attempts, "status": status}
    events.tell(session, "not_delivered", inquiry, now, data=data)


def note_in_thread(session: Session, item: OutboxItem) -> None:
    """Show at the message in the thread how far it has come."""
    if item.thread_message_id is not None:
        message = session.get_one(Message, item.thread_message_id)
        message.delivery, message.delivery_detail = item.state, item.detail


def answer_arrived(session: Session, item: OutboxItem, inquiry: Inquiry, now: datetime) -> None:
    """A reply that had failed was sent once more by a person, and this time it was taken."""
    if item.kind != OutgoingKind.REPLY.value or inquiry.reply_state is not ReplyState.NOT_DELIVERED:
        return
    with counted(session, inquiry):
        inquiry.answered_at = now
        inquiry.reply_state = ReplyState.ANSWERED
        inquiry.version += 1
