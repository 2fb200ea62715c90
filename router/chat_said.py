"""What residents say in talks that have begun: each message is a row of the inquiry's thread, kept
once however often it is sent."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlmodel import col

from channels.base import Mark, MessageKind
from channels.chat.web import message_key
from router import chat, chat_files, events
from router.chat_models import CHANNEL, Conversation, ConversationState
from router.counters import counted
from router.db import session_on
from router.errors import InvalidError, NotFoundError
from router.models import Direction, Inquiry, InquiryStatus, Message, ReplyState
from router.records import INSERT_MESSAGE
from rules.order import Lane

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from sqlalchemy import Connection
    from sqlmodel import Session

    from router.correspondence import Letterhead
    from router.preparing import KeptFile
    from rules.targets import DueDate

_M: Any = Message.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Said:
    """One message of a resident, checked and ready for the store."""

    conversation_id: int
    client_id: str
    text: str
    at: datetime
    emergency: bool
    due_of: Callable[[str], DueDate]
    """By when it is owed an answer under a reply target, if the ones before it have had theirs."""
    files: tuple[KeptFile, ...] = ()
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True, slots=True)
class Spoken:
    """What became of a message."""

    message_id: int
    inquiry_id: int
    at: datetime
    duplicate: bool = False


def say_together(connection: Connection, many: Sequence[tuple[Letterhead, Said]]) -> list[Spoken]:
    """What residents say in talks that have begun, for `Database.write_together`; the same message
    twice is one.

    Raises `NotFoundError` when a conversation is over, `InvalidError` when the key was used for
    another message, or there are too many files.
    """
    # What is needed is read at once, and what has changed is written at once.
    session = session_on(connection)
    rows = session.execute(
        select(Conversation, Inquiry)
        .join(Inquiry, col(Inquiry.id) == col(Conversation.inquiry_id))
        .where(col(Conversation.id).in_([said.conversation_id for _, said in many]))
    )
    talks = {conversation.id: (conversation, inquiry) for conversation, inquiry in rows}
    keys = {
        message_key(talks[said.conversation_id][0].key, said.client_id)
        for _, said in many
        if said.conversation_id in talks
    }
    known = _spoken_before(session, keys)
    log: list[dict[str, Any]] = []
    spoken = []
    for head, said in many:
        conversation, inquiry = talks.get(said.conversation_id, (None, None))
        if (
            conversation is None
            or conversation.state is ConversationState.ENDED
            or conversation.expires_at <= said.at
        ):
            raise NotFoundError
        key = message_key(conversation.key, said.client_id)
        if key not in known:
            one = _say(session, head, conversation, inquiry, said, key, log)
            known[key] = (replace(one, duplicate=True), said.text)
        elif known[key][1] == said.text:
            one = known[key][0]
        else:
            raise InvalidError("This key was used for another message.")
        spoken.append(one)
    session.flush()
    events.insert_rows(session.connection(), log)
    return spoken


def _spoken_before(session: Session, keys: Iterable[str]) -> dict[str, tuple[Spoken, str]]:
    """What was said under these keys: its place and its text."""
    found = session.connection().execute(
        select(_M.c.external_id, _M.c.id, _M.c.inquiry_id, _M.c.at, _M.c.text).where(
            _M.c.channel == CHANNEL, _M.c.external_id.in_(sorted(keys))
        )
    )
    return {
        key: (Spoken(number, inquiry_id, at, duplicate=True), text)
        for key, number, inquiry_id, at, text in found
    }


def _say(
    session: Session,
    head: Letterhead,
    conversation: Conversation,
    inquiry: Inquiry,
    said: Said,
    key: str,
    log: list[dict[str, Any]],
) -> Spoken:
    if said.files and chat_files.count(session, inquiry.id) + len(said.files) > chat_files.IN_ALL:
        raise InvalidError("Too many files in one conversation. Send the rest by e-mail.")
    number = inquiry.id or 0
    message_id: int = INSERT_MESSAGE.one(
        session.connection(),
        {
            "inquiry_id": number,
            "channel": CHANNEL,
            "external_id": key,
            "direction": Direction.IN,
            "kind": MessageKind.CONTACT.value,
            "sender_name": conversation.name,
            "sender_address": inquiry.sender_address,
            "recipients": [],
            "subject": "",
            "text": said.text,
            "has_html": False,
            "at": said.at,
            "message_id": "",
            "reply_to": "",
            "arrival_id": None,
            "delivery": "",
            "delivery_detail": "",
            "defects": [],
            "sender_check": "",
            "marks": [mark.value for mark in said.marks],
        },
    )[0]
    chat_files.keep(session, message_id, said.files)
    if inquiry.status is not InquiryStatus.OPEN:
        conversation.outcome = None
    data, reopened = _count_in(session, inquiry, said)
    chat.begin_waiting(conversation, inquiry, said.at)
    told: list[tuple[str, dict[str, Any]]] = [("message_in", {"kind": "contact", **data})]
    if reopened:
        told.insert(0, ("reopened", {"by": "contact"}))
    if said.emergency:
        told.append(("emergency", {}))
        chat.answer_emergency(session, head, inquiry, conversation.language, message_id, said.at)
    log += [
        events.row(kind, number, inquiry.ref, inquiry.department, said.at, more)
        for kind, more in told
    ]
    return Spoken(message_id, number, said.at)


def spoken(session: Session, key: str) -> Message | None:
    """A message of a chat by the key of `message_key`."""
    query = select(Message).where(col(Message.channel) == CHANNEL, col(Message.external_id) == key)
    found: Message | None = session.execute(query).scalar()
    return found


def _count_in(session: Session, inquiry: Inquiry, said: Said) -> tuple[dict[str, Any], bool]:
    """What a message of a resident does to its inquiry, as intake has it; what to tell of it, and
    whether it was reopened."""
    inquiry.last_message_at = said.at
    inquiry.version += 1
    inquiry.reply_state = ReplyState.UNANSWERED
    data: dict[str, Any] = {}
    reopened = inquiry.status is not InquiryStatus.OPEN
    if said.emergency:
        inquiry.emergency = True
        inquiry.emergency_seen_at = None
        inquiry.lane = int(Lane.CRISIS)
        inquiry.sort_at = said.at
    if reopened or inquiry.answered_at is not None:
        due = said.due_of(inquiry.target)
        with counted(session, inquiry):
            inquiry.status = InquiryStatus.OPEN
            inquiry.closed_at = None
            inquiry.answered_at = None
            inquiry.due_at = due.due_at
            inquiry.warn_at = due.warn_at or due.due_at
            inquiry.calendar = due.calendar_identity
            inquiry.warned_at = None
            inquiry.overdue_at = None
        # Told with the message: in a talk, each answer ends one clock and each question starts one.
        data["due_at"] = due.due_at.isoformat()
    return data, reopened
