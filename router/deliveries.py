"""What a provider tells, after it took a message, of how far it has come. States only go forward:
reports come late, twice, and in any order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select, text
from sqlmodel import Session, col

from channels.base import DeliveryState, DeliveryStatus
from router import consent, events, outbox
from router.models import Inquiry, OutboxItem

if TYPE_CHECKING:
    from datetime import datetime


_OPEN = frozenset({"queued", "sending", "uncertain"})
"""States in which we do not know that the provider has it."""

_TAKEN = frozenset({DeliveryState.SENDING, DeliveryState.SENT})
"""The provider has it and its recipient has not, as far as anybody knows."""

XMPP = "xmpp"

_BY_PROVIDER = text("outbox.channel = 'sms'")
"""Written out, so that the planner uses the partial index."""


def report(
    session: Session, status: DeliveryStatus, now: datetime, *, message_id: str = ""
) -> bool:
    """Note how far a message has come; whether that was news.

    `message_id` is our own id, which comes back with a status webhook: it also settles a message of
    which we never heard that the provider took it. Without it, the provider's id must be known.
    """
    item = _item(session, status.provider_id, message_id)
    return item is not None and settle(session, item, status, now)


def fared(
    session: Session, message_id: str, jid: str, status: DeliveryStatus, now: datetime
) -> bool:
    """Note what the device or the server of an XMPP address says of a message that went there;
    whether that was news. What anybody else says of it counts for nothing."""
    item = _sent_to(session, message_id, jid)
    return item is not None and settle(session, item, status, now)


def is_ours(session: Session, message_id: str, jid: str) -> bool:
    """Whether a message of ours went to this XMPP address, or by its server."""
    return _sent_to(session, message_id, jid) is not None


def _sent_to(session: Session, message_id: str, jid: str) -> OutboxItem | None:
    query = select(OutboxItem).where(col(OutboxItem.message_id) == message_id)
    item: OutboxItem | None = session.execute(query).scalar()
    if item is None or item.channel != XMPP:
        return None
    return item if jid in {item.recipient, item.recipient_domain} else None


def settle(session: Session, item: OutboxItem, status: DeliveryStatus, now: datetime) -> bool:
    """`report` of a message that was found; whether that was news."""
    known = item.provider_id == status.provider_id
    if item.state in _OPEN:
        # An id that we know already is that of an earlier attempt, which is over.
        if known or not status.provider_id:
            return False
        item.provider_id = status.provider_id
    elif not known or item.state != "sent" or status.state in _TAKEN:
        return False
    if status.state is DeliveryState.FAILED:
        outbox.fail(session, item, status.detail, now)
        if status.opted_out:
            consent.withdraw(session, item.recipient, item.inquiry_id, now)
        return True
    if status.state is DeliveryState.SENDING and item.state == "sending":
        return False  # the answer to our request is on its way, and says the same
    state = "sent" if status.state in _TAKEN else status.state.value
    item.sent_at = item.sent_at or now
    item.state, item.detail, item.lease_until = state, status.detail, None
    outbox.note_in_thread(session, item)
    if item.kind in outbox.INTERNAL:
        return True
    inquiry = session.get_one(Inquiry, item.inquiry_id)
    outbox.answer_arrived(session, item, inquiry, now)
    events.tell(session, state, inquiry, now, data={"kind": item.kind, "state": state})
    return True


def _item(session: Session, provider_id: str, message_id: str) -> OutboxItem | None:
    if message_id:
        query = select(OutboxItem).where(_BY_PROVIDER, col(OutboxItem.message_id) == message_id)
    elif provider_id:
        query = select(OutboxItem).where(_BY_PROVIDER, col(OutboxItem.provider_id) == provider_id)
    else:
        return None
    return session.execute(query).scalar()
