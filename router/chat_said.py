"""What residents say in talks that have begun: each message is a row of the inquiry's thread, kept
once however often it is sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, inspect, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import col

from channels.base import Mark, MessageKind
from channels.chat.web import message_key
from router import chat, chat_files, events
from router.chat_models import CHANNEL, Conversation, ConversationState
from router.counters import counted
from router.db import session_on
from router.errors import InvalidError, NotFoundError
from router.models import Direction, Inquiry, InquiryStatus, Message, ReplyState
from router.statements import Prepared
from rules.order import Lane

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection
    from sqlmodel import Session

    from router.correspondence import Letterhead
    from router.models import Table
    from router.preparing import KeptFile
    from rules.targets import DueDate

_C: Any = Conversation.__table__  # type: ignore[attr-defined]
_I: Any = Inquiry.__table__  # type: ignore[attr-defined]
_M: Any = Message.__table__  # type: ignore[attr-defined]

_TALKS = (
    select(Conversation, Inquiry)
    .join(Inquiry, col(Inquiry.id) == col(Conversation.inquiry_id))
    .where(col(Conversation.id).in_(bindparam("conversations", expanding=True)))
)


def _keeping(dialect: str) -> Any:
    given = "inquiry_id external_id sender_name sender_address text at marks"
    statement = (sqlite if dialect == "sqlite" else postgresql).insert(_M)
    return (
        statement.values(
            channel=CHANNEL,
            direction=Direction.IN,
            kind=MessageKind.CONTACT.value,
            recipients=[],
            subject="",
            has_html=False,
            message_id="",
            reply_to="",
            delivery="",
            delivery_detail="",
            defects=[],
            sender_check="",
            **{name: bindparam(name) for name in given.split()},
        )
        .on_conflict_do_nothing()
        .returning(_M.c.id)
    )


def _noting(table: Any, names: Iterable[str]) -> Prepared:
    new: dict[str, Any] = {name: bindparam(name) for name in names}
    statement = update(table).where(table.c.id == bindparam("number")).values(new)
    return Prepared(lambda _dialect: statement)


_KEEP = Prepared(_keeping)
# All that most messages change: their resident was waiting for an answer already.
_SEEN = ("seen_at", "expires_at")
_COUNTED = ("last_message_at", "version")
_NOTE_SEEN, _NOTE_COUNTED = _noting(_C, _SEEN), _noting(_I, _COUNTED)


@dataclass(frozen=True, slots=True)
class Said:
    """One message of a resident, checked and ready for the store."""

    conversation_id: int
    client_id: str
    text: str
    at: datetime
    emergency: str
    """The words of the rules that raise the alarm; empty for none."""
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
    wanted = {"conversations": [said.conversation_id for _, said in many]}
    talks = {one.id: (one, inquiry) for one, inquiry in session.execute(_TALKS, wanted)}
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
        spoken.append(_say(session, head, conversation, inquiry, said, log))
    _write_down(session, talks.values())
    events.insert_rows(connection, log)
    return spoken


def _say(
    session: Session,
    head: Letterhead,
    conversation: Conversation,
    inquiry: Inquiry,
    said: Said,
    log: list[dict[str, Any]],
) -> Spoken:
    number = inquiry.id or 0
    key = message_key(conversation.key, said.client_id)
    kept = _KEEP.one(
        session.connection(),
        {
            "inquiry_id": number,
            "external_id": key,
            "sender_name": conversation.name,
            "sender_address": inquiry.sender_address,
            "text": said.text,
            "at": said.at,
            "marks": [mark.value for mark in said.marks],
        },
    )
    if kept is None:
        return _said_before(session, key, said)
    message_id: int = kept[0]
    chat_files.keep(session, message_id, said.files)
    if said.files and chat_files.count(session, inquiry.id) > chat_files.IN_ALL:
        raise InvalidError("Too many files in one conversation. Send the rest by e-mail.")
    if inquiry.status is not InquiryStatus.OPEN:
        conversation.outcome = None
    data, reopened = _count_in(session, inquiry, said)
    chat.begin_waiting(conversation, inquiry, said.at)
    told: list[tuple[str, dict[str, Any]]] = [("message_in", {"kind": "contact", **data})]
    if reopened:
        told.insert(0, ("reopened", {"by": "contact"}))
    if said.emergency:
        told.append(("emergency", {"words": said.emergency}))
        chat.answer_emergency(session, head, inquiry, conversation.language, message_id, said.at)
    log += [
        events.row(kind, number, inquiry.ref, inquiry.department, said.at, more)
        for kind, more in told
    ]
    return Spoken(message_id, number, said.at)


def _said_before(session: Session, key: str, said: Said) -> Spoken:
    message = spoken(session, key)
    if message is None:
        raise NotFoundError
    if message.text != said.text:
        raise InvalidError("This key was used for another message.")
    return Spoken(message.id or 0, message.inquiry_id, message.at, duplicate=True)


def _write_down(session: Session, talks: Iterable[tuple[Conversation, Inquiry]]) -> None:
    """Write what has changed: all that is usual in two calls, anything else as it comes."""
    seen: list[dict[str, Any]] = []
    counted_in: list[dict[str, Any]] = []
    for conversation, inquiry in talks:
        for row, names, rows in ((conversation, _SEEN, seen), (inquiry, _COUNTED, counted_in)):
            changed = _changed(row)
            if changed and changed.issubset(names):
                rows.append({"number": row.id, **{name: getattr(row, name) for name in names}})
                session.expunge(row)
    _NOTE_SEEN.many(session.connection(), seen)
    _NOTE_COUNTED.many(session.connection(), counted_in)
    session.flush()


def _changed(row: Table) -> set[str]:
    """What of a row is not as it was read."""
    before: Mapping[str, Any] = inspect(row).committed_state
    return {name for name, value in before.items() if getattr(row, name) != value}


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
