"""Chats at the desk: who holds which, who waits, taking the next, ending.

How many somebody has at a time is looked at where they take one, within the writer's transaction:
there is no moment between the look and the claim.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, bindparam, func, or_, select, text
from sqlmodel import Session, col

from channels.base import OutgoingKind
from router import chat, chat_letters, chat_queue, events, letters, queue
from router.chat_models import CHANNEL, Conversation, ConversationState, TalkOutcome
from router.counters import counted
from router.errors import ConflictError, InvalidError
from router.models import Direction, Event, Inquiry, Message, ReplyState, Staff
from rules.order import Lane

if TYPE_CHECKING:
    from datetime import datetime

    from router.access import Actor
    from router.correspondence import Letterhead

FULL = "You have as many chats as one can have. Hand one over or end one first."

LOST_FOR = timedelta(hours=8)
"""How long somebody is told that a talk of theirs became an ordinary inquiry: a day at the desk."""
LIMIT = 50
"""Talks in a list."""

_C: Any = Conversation.__table__  # type: ignore[attr-defined]
_E: Any = Event.__table__  # type: ignore[attr-defined]
_I: Any = Inquiry.__table__  # type: ignore[attr-defined]
_M: Any = Message.__table__  # type: ignore[attr-defined]

# Written out, so that the planner uses the partial indexes.
_UNDER_WAY = text("conversation.state IN ('waiting', 'talking')")
_IS_OPEN = text("inquiry.status = 'open'")

_NOW: Any = bindparam("now", type_=_C.c.listening_until.type)
_LATELY: Any = bindparam("lately", type_=_C.c.ended_at.type)


@dataclass(frozen=True, slots=True)
class DeskTalk:
    """One talk in a list of the desk."""

    ref: str
    name: str
    """Of the resident; often empty."""
    subject: str
    department: str
    state: ConversationState
    listening: bool
    """Whether the resident's page is open."""
    by_xmpp: bool
    waiting_since: datetime | None
    """Since when the resident waits for an answer; None when they do not."""
    last: str
    """What was said last."""
    last_is_theirs: bool
    unread: int
    """Messages of the resident that nobody has read."""


@dataclass(frozen=True, slots=True)
class Deferral:
    """A talk that nobody answered in time, so that it became an ordinary inquiry."""

    ref: str
    name: str
    """Of the resident; often empty."""
    subject: str
    at: datetime
    had: str
    """Username of who had taken it; empty for nobody."""


@dataclass(frozen=True, slots=True)
class Load:
    """What waits at the desk, for the marks on every page."""

    waiting: int
    """Residents nobody has taken."""
    unread: int
    """Own talks with something unread."""


def claim(session: Session, actor: Actor, ref: str, capacity: int, now: datetime) -> Inquiry:
    """`queue.claim`, for live chats as long as the actor has room.

    Raises what `queue.claim` raises, and `ConflictError` when `capacity` is reached.
    """
    inquiry = queue.get(session, actor, ref)
    if inquiry.assignee_id is None:
        require_room(session, queue.person(actor), inquiry, capacity, now)
    return queue.claim(session, actor, ref, now)


def require_room(
    session: Session,
    staff_id: int,
    inquiry: Inquiry,
    capacity: int,
    now: datetime,
    refusal: str = FULL,
) -> None:
    """Raise `ConflictError` when this is a live chat, and somebody has enough of them."""
    if is_live(session, inquiry, now) and not has_room(session, staff_id, capacity, now):
        raise ConflictError(refusal)


def has_room(session: Session, staff_id: int, capacity: int, now: datetime) -> bool:
    """Whether somebody may have one more live chat, asked where they get it."""
    # Two claims of one person wait for each other here, also where several processes write.
    session.execute(select(col(Staff.id)).where(col(Staff.id) == staff_id).with_for_update())
    return chat_queue.has_room(session, staff_id, capacity, now)


def is_live(session: Session, inquiry: Inquiry, now: datetime) -> bool:
    """Whether somebody sits at the other end of an inquiry now."""
    talk = chat.of_inquiry(session, inquiry.id, now)
    return (
        talk is not None
        and talk.state in (ConversationState.WAITING, ConversationState.TALKING)
        and chat.is_listening(talk, now)
    )


def take_next(session: Session, actor: Actor, capacity: int, now: datetime) -> Inquiry | None:
    """Take who has waited longest; None when nobody waits. What the actor passed on is left to
    those who were to have it. Raises `ConflictError` when the actor has enough."""
    passed_on = select(_E.c.id).where(
        _E.c.inquiry_id == _I.c.id,
        _E.c.kind.in_(["transferred", "returned"]),
        _E.c.staff_id == actor.staff_id,
    )
    line = _in_line(actor.departments).where(~passed_on.exists()).with_only_columns(_I.c.ref)
    first = session.connection().execute(line.limit(1), _moments(now)).scalar()
    return claim(session, actor, first, capacity, now) if first else None


def waiting(session: Session, actor: Actor, now: datetime) -> list[DeskTalk]:
    """Who waits and nobody has taken, as far as the actor may see it, who comes next first."""
    return _talks(session, _in_line(actor.departments).limit(LIMIT), _moments(now), now)


def mine(session: Session, actor: Actor, now: datetime) -> list[DeskTalk]:
    """The talks that somebody holds, in the order in which they began, so that none moves while it
    is looked at. Those that their resident has ended stay until they are closed."""
    values = {"staff_id": actor.staff_id, **_moments(now)}
    return _talks(session, _HELD.order_by(_C.c.id).limit(LIMIT), values, now)


def deferral(session: Session, inquiry_id: int) -> Deferral | None:
    """Why the talk of an inquiry is an ordinary inquiry now, where that is because nobody
    answered."""
    found = _deferrals(session, _I.c.id == inquiry_id)
    return found[-1] if found else None


def lost(session: Session, actor: Actor, now: datetime) -> list[Deferral]:
    """The talks that somebody had and did not answer in time, for as long as nobody has taken
    them."""
    found = _deferrals(
        session,
        _C.c.expires_at > now,
        _C.c.deferred_at > now - LOST_FOR,
        _I.c.assignee_id.is_(None),
        _IS_OPEN,
    )
    return [one for one in found if actor.is_person and one.had == actor.username]


def _deferrals(session: Session, *conditions: Any) -> list[Deferral]:
    query = (
        select(_I.c.ref, _C.c.name, _I.c.subject, _E.c.at, _E.c.data)
        .select_from(_C.join(_I, _I.c.id == _C.c.inquiry_id).join(_E, _E.c.inquiry_id == _I.c.id))
        .where(
            _C.c.state == ConversationState.DEFERRED,
            _C.c.outcome.is_(None),
            _E.c.kind == "chat_deferred",
            _E.c.at == _C.c.deferred_at,
            *conditions,
        )
        .order_by(_E.c.id)
    )
    return [
        Deferral(ref, name, subject, at, str(data.get("person", "")))
        for ref, name, subject, at, data in session.connection().execute(query)
        if data.get("reason") == "unanswered"
    ]


def load(session: Session, actor: Actor, now: datetime) -> Load:
    """What the marks on every page count."""
    values = {"staff_id": actor.staff_id, **_moments(now)}
    return Load(*session.connection().execute(_load(actor.departments), values).one())


@lru_cache(256)
def _load(departments: frozenset[str] | None) -> Any:
    # Built once: every page of the desk asks this.
    line = _in_line(departments).order_by(None).with_only_columns(func.count())
    held = _HELD.with_only_columns(func.count()).where(_unread() > 0)
    return select(line.scalar_subquery(), held.scalar_subquery())


def _moments(now: datetime) -> dict[str, datetime]:
    return {"now": now, "lately": now - chat.IDLE}


def _in_line(departments: frozenset[str] | None) -> Any:
    """Live talks that nobody holds: first those never answered, who came first first; then those
    that were passed on."""
    query = (
        _talk()
        .where(
            _UNDER_WAY,
            _C.c.listening_until > _NOW,
            _I.c.assignee_id.is_(None),
            chat_queue.OF_CHATS_OPEN,
        )
        .order_by(
            _C.c.state != ConversationState.WAITING,
            _C.c.waiting_since.is_(None),
            _C.c.waiting_since,
            _C.c.id,
        )
    )
    if departments is not None:
        query = query.where(_I.c.department.in_(sorted(departments)))
    return query


def _held() -> Any:
    left = and_(
        _C.c.state == ConversationState.ENDED, _C.c.outcome.is_(None), _C.c.ended_at > _LATELY
    )
    under_way = _C.c.state.in_([ConversationState.WAITING, ConversationState.TALKING])
    return _talk().where(_I.c.assignee_id == bindparam("staff_id"), _IS_OPEN, or_(under_way, left))


def _talk() -> Any:
    return select(
        _I.c.id,
        _I.c.ref,
        _C.c.name,
        _I.c.subject,
        _I.c.department,
        _C.c.state,
        _C.c.listening_until,
        _C.c.jid,
        _C.c.waiting_since,
        _unread().label("unread"),
    ).select_from(_C.join(_I, _I.c.id == _C.c.inquiry_id))


def _unread() -> Any:
    return (
        select(func.count())
        .where(
            _M.c.inquiry_id == _I.c.id,
            _M.c.id > _C.c.staff_read,
            _M.c.direction == Direction.IN,
            _M.c.channel == CHANNEL,
        )
        .correlate(_C, _I)
        .scalar_subquery()
    )


_HELD = _held()


def _talks(session: Session, query: Any, values: dict[str, Any], now: datetime) -> list[DeskTalk]:
    rows = session.connection().execute(query, values).all()
    last = _last_lines(session, [row.id for row in rows])
    return [
        DeskTalk(
            ref=row.ref,
            name=row.name,
            subject=row.subject,
            department=row.department,
            state=row.state,
            listening=row.listening_until is not None and row.listening_until > now,
            by_xmpp=row.jid != "",
            waiting_since=row.waiting_since,
            last=last[row.id][0] if row.id in last else "",
            last_is_theirs=row.id in last and last[row.id][1] is Direction.IN,
            unread=row.unread,
        )
        for row in rows
    ]


def _last_lines(session: Session, ids: list[int]) -> dict[int, tuple[str, Direction]]:
    if not ids:
        return {}
    said = or_(_M.c.channel == CHANNEL, _M.c.direction == Direction.IN, _M.c.kind == "reply")
    latest = (
        select(func.max(_M.c.id))
        .where(_M.c.inquiry_id.in_(ids), said, _M.c.direction != Direction.NOTE)
        .group_by(_M.c.inquiry_id)
    )
    rows = session.connection().execute(
        select(_M.c.inquiry_id, _M.c.text, _M.c.direction).where(_M.c.id.in_(latest))
    )
    return {number: (words, direction) for number, words, direction in rows}


def end(
    session: Session,
    head: Letterhead,
    actor: Actor,
    ref: str,
    outcome: TalkOutcome,
    now: datetime,
    version: int | None = None,
) -> Inquiry:
    """End a talk: the inquiry is closed, and what became of it is kept; who writes again opens it
    again. Casework is not closed, see `make_casework`.

    Raises what these raise.
    """
    if outcome is TalkOutcome.CASEWORK:
        return make_casework(session, head, actor, ref, now)
    inquiry = queue.close(session, actor, ref, now, version, outcome.value)
    note_outcome(session, inquiry, outcome)
    return inquiry


def reopen(session: Session, actor: Actor, ref: str, now: datetime) -> Inquiry:
    """`queue.reopen`; a talk that goes on again has no outcome."""
    inquiry = queue.reopen(session, actor, ref, now)
    talk = latest(session, inquiry.id)
    if talk is not None and talk.outcome is not TalkOutcome.CASEWORK:
        talk.outcome = None
    return inquiry


def note_outcome(session: Session, inquiry: Inquiry, outcome: TalkOutcome) -> None:
    """Keep what became of the talk of an inquiry, where it has one."""
    talk = latest(session, inquiry.id)
    if talk is not None:
        talk.outcome = outcome
        talk.waiting_since = None


def latest(session: Session, inquiry_id: int | None) -> Conversation | None:
    """The latest conversation about an inquiry, over or not."""
    query = (
        select(Conversation)
        .where(col(Conversation.inquiry_id) == inquiry_id)
        .order_by(col(Conversation.id).desc())
        .limit(1)
    )
    found: Conversation | None = session.execute(query).scalar()
    return found


def make_casework(
    session: Session, head: Letterhead, actor: Actor, ref: str, now: datetime
) -> Inquiry:
    """A talk takes more than a talk: it goes on as an ordinary inquiry with its reply date, in the
    same thread, and its resident is told. Doing it twice changes nothing.

    Raises `InvalidError` where there is no talk, `ConflictError` when closed or held by another.
    """
    inquiry = queue.get(session, actor, ref)
    queue.require_open(inquiry)
    queue.require_holder(session, actor, inquiry)
    talk = latest(session, inquiry.id)
    if talk is None:
        raise InvalidError("This inquiry is no chat.")
    if talk.outcome is TalkOutcome.CASEWORK:
        return inquiry
    talk.outcome = TalkOutcome.CASEWORK
    talk.waiting_since = talk.waiting_since or now
    talk.deferred_at = now
    if talk.state is not ConversationState.ENDED:
        talk.state = ConversationState.DEFERRED
    with counted(session, inquiry):
        # What was answered in the talk is not what the resident now waits for.
        inquiry.answered_at = None
        inquiry.reply_state = ReplyState.UNANSWERED
        inquiry.version += 1
    chat.place(inquiry, Lane.DEFERRABLE)
    words = letters.write(
        talk.language,
        "chat_casework",
        ref=inquiry.ref,
        due=letters.moment_in_words(inquiry.due_at, head.zone, talk.language),
        status_url=head.status_url(inquiry.id or 0),
    )
    if talk.state is not ConversationState.ENDED:
        kind = OutgoingKind.NOTICE
        chat.say_automatically(session, head, inquiry, kind, words, now, once="casework")
    chat_letters.receipt(session, head, talk, now)
    events.tell(
        session,
        "chat_casework",
        inquiry,
        now,
        staff_id=actor.staff_id,
        data={"outcome": TalkOutcome.CASEWORK.value, "due_at": inquiry.due_at.isoformat()},
    )
    return inquiry
