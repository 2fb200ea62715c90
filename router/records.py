"""The rows that a contact becomes, and the statements that write them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from channels.base import Mark, MessageKind
from router import events, robots
from router.models import (
    Addressee,
    DecisionRecord,
    Direction,
    Inquiry,
    InquiryStatus,
    Message,
    OutboxItem,
    ReplyState,
)
from router.statements import inserting
from rules.order import lane_of, queue_key

if TYPE_CHECKING:
    from datetime import datetime

    from channels.base import Incoming
    from router.correspondence import Letterhead
    from router.preparing import Prepared

INSERT_INQUIRY = inserting(
    Inquiry.__table__,  # type: ignore[attr-defined]
    "ref channel kind status reply_state subject contact_id sender_name sender_address sender_phone"
    " department received_at due_at warn_at target calendar last_message_at lane sort_at language"
    " sensitivity emergency tags hint_id line calls version",
    returning="id",
)
INSERT_MESSAGE = inserting(
    Message.__table__,  # type: ignore[attr-defined]
    "inquiry_id channel external_id direction kind sender_name sender_address recipients subject"
    " text has_html at message_id reply_to arrival_id delivery delivery_detail defects sender_check"
    " marks",
    returning="id",
)
INSERT_DECISION = inserting(
    DecisionRecord.__table__,  # type: ignore[attr-defined]
    "inquiry_id at department rule reason reason_text ruleset staff_id trace presence",
)
INSERT_OUTBOX = inserting(
    OutboxItem.__table__,  # type: ignore[attr-defined]
    "channel kind message_id inquiry_id thread_message_id arrival_id recipient mailbox"
    " recipient_domain payload state attempts next_at created_at trying_since provider_id detail",
)
INSERT_ADDRESSEE = inserting(
    Addressee.__table__,  # type: ignore[attr-defined]
    "department inquiry_id",
)


def inquiry_row(
    item: Prepared, ref: str, contacts: dict[tuple[str, str], int], hint: int | None
) -> dict[str, Any]:
    """A new inquiry; `hint` is another one that the message may belong to."""
    incoming, decision = item.incoming, item.decision
    sender = incoming.sender
    aside = robots.sets_aside(item)
    emergency = decision.emergency and not aside
    lane, sort_at, *_ = queue_key(
        lane_of(crisis=emergency, live=False),
        received_at=item.received_at,
        id=ref,
        due_at=item.due.due_at,
    )
    return {
        "ref": ref,
        "channel": incoming.channel,
        "kind": decision.kind or incoming.kind.value,
        "status": InquiryStatus.ASIDE if aside else InquiryStatus.OPEN,
        "reply_state": ReplyState.UNANSWERED,
        "subject": incoming.subject[:500],
        "contact_id": contacts[sender.channel, sender.value] if sender else None,
        "sender_name": sender.name if sender else incoming.sender_said,
        "sender_address": sender.value if sender else "",
        "sender_phone": incoming.phone.value if incoming.phone else "",
        "department": decision.department,
        "received_at": item.received_at,
        "due_at": item.due.due_at,
        "warn_at": item.due.warn_at or item.due.due_at,
        "target": decision.target,
        "calendar": item.due.calendar_identity,
        "last_message_at": item.received_at,
        "lane": int(lane),
        "sort_at": sort_at,
        "language": incoming.language,
        "sensitivity": decision.sensitivity,
        "emergency": emergency,
        "tags": tags_of(item),
        "hint_id": hint,
        "line": line_of(incoming),
        "calls": 0,
        "version": 1,
    }


def line_of(incoming: Incoming) -> str:
    """Our number that was called or texted; empty on other channels."""
    dialled = incoming.channel in {"phone", "sms"} and incoming.recipients
    return incoming.recipients[0] if dialled else ""


def tags_of(item: Prepared) -> list[str]:
    """The tags of the rules, and which kind of robot wrote it."""
    kind = item.incoming.kind
    extra = [] if kind is MessageKind.CONTACT else [kind.value]
    return [*item.decision.tags, *extra]


def message_row(item: Prepared, inquiry_id: int) -> dict[str, Any]:
    """A message that came in."""
    incoming = item.incoming
    return {
        "inquiry_id": inquiry_id,
        "channel": incoming.channel,
        "external_id": incoming.external_id,
        "direction": Direction.IN,
        "kind": incoming.kind.value,
        "sender_name": incoming.sender.name if incoming.sender else incoming.sender_said,
        "sender_address": incoming.sender.value if incoming.sender else "",
        "recipients": list(incoming.recipients),
        "subject": incoming.subject,
        "text": incoming.text,
        "has_html": incoming.has_html,
        "at": item.received_at,
        "message_id": incoming.message_id,
        "reply_to": incoming.reply_to.value if incoming.reply_to else "",
        "arrival_id": item.arrival_id,
        "delivery": "",
        "delivery_detail": "",
        "defects": list(incoming.defects),
        "sender_check": incoming.sender_check.value,
        "marks": [mark.value for mark in incoming.marks],
    }


def decision_row(item: Prepared, inquiry_id: int, now: datetime) -> dict[str, Any]:
    """Why the inquiry went to its department."""
    decision = item.decision
    return {
        "inquiry_id": inquiry_id,
        "at": now,
        "department": decision.department,
        "rule": decision.rule,
        "reason": decision.reason,
        "reason_text": decision.reason_text,
        "ruleset": decision.ruleset,
        "staff_id": None,
        "trace": orjson.Fragment(item.trace),
        "presence": {},
    }


def birth_events(item: Prepared, inquiry_id: int, ref: str, now: datetime) -> list[dict[str, Any]]:
    """What is told of a new inquiry."""
    department = item.decision.department
    received = events.row("received", inquiry_id, ref, department, now)
    received["data"]["channel"] = item.incoming.channel
    if item.incoming.receipt_barred:
        received["data"]["receipt_barred"] = item.incoming.receipt_barred
    routed = events.row("routed", inquiry_id, ref, department, now)
    routed["data"] |= {"rule": item.decision.rule, "reason": item.decision.reason}
    rows = [received, routed]
    if robots.sets_aside(item):
        rows.append(events.row("set_aside", inquiry_id, ref, department, now))
        rows[-1]["data"]["reason"] = item.incoming.kind.value
    elif item.decision.emergency:
        rows.append(events.row("emergency", inquiry_id, ref, department, now))
    if Mark.QUARANTINED in item.incoming.marks:
        rows.append(events.row("quarantined", inquiry_id, ref, department, now))
    return rows


def withheld_row(
    limit: str,
    head: Letterhead,
    inquiry_id: int,
    ref: str,
    department: str,
    now: datetime,
    channel: str = "email",
) -> dict[str, Any]:
    """An automatic letter that a limit held back, with the limit."""
    row = events.row("receipt_withheld", inquiry_id, ref, department, now)
    row["data"] |= {"limit": limit, "most": head.most(limit, channel)}
    return row
