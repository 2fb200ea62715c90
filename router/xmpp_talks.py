"""Which talk a message by XMPP belongs to. An address is somebody for good, so a talk goes on for
as long as its inquiry is open, and a while after."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, text
from sqlmodel import Session, col

from channels.chat.web import message_key
from router import chat
from router.chat_models import Conversation, ConversationState
from router.models import Inquiry, InquiryStatus

if TYPE_CHECKING:
    from datetime import datetime

    from router.preparing import Prepared

_C: Any = Conversation.__table__  # type: ignore[attr-defined]
_BY_XMPP = text("conversation.jid <> ''")
"""Written out, so that the planner uses the partial index."""


def placed(session: Session, item: Prepared, now: datetime) -> Prepared:
    """The message under the key of its talk, which is begun where there is none; unchanged when it
    did not come by XMPP."""
    incoming = item.incoming
    if not incoming.jid:
        return item
    talk = _talk_with(session, incoming.jid, incoming.local, now)
    if talk is None:
        talk, _nobodys = chat.open_conversation(session, "", now, name=incoming.sender_said)
        talk.jid, talk.local = incoming.jid, incoming.local
        session.flush()
    key = message_key(talk.key, incoming.external_id)
    return replace(item, incoming=replace(incoming, external_id=key))


def _talk_with(session: Session, jid: str, local: str, now: datetime) -> Conversation | None:
    """The newest talk with somebody at an address of ours that is not over."""
    row = session.execute(
        select(Conversation, Inquiry)
        .outerjoin(Inquiry, col(Inquiry.id) == col(Conversation.inquiry_id))
        .where(
            _BY_XMPP,
            _C.c.jid == jid,
            _C.c.local == local,
            _C.c.state != ConversationState.ENDED,
            _C.c.expires_at > now,
        )
        .order_by(_C.c.id.desc())
        .limit(1)
    ).first()
    if row is None:
        return None
    talk, inquiry = row
    last = max(filter(None, (talk.seen_at, talk.last_out_at)))
    over = inquiry is not None and inquiry.status is not InquiryStatus.OPEN
    return None if over and now - last > chat.IDLE else talk


def open_talk(session: Session, jid: str, local: str, now: datetime) -> int | None:
    """The talk that somebody is writing in, when there is one."""
    talk = _talk_with(session, jid, local, now)
    return talk.id if talk is not None else None
