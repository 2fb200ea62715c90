"""Who is there to answer chats, who waits for them, and for how long.

Somebody is there when the chat is open and an operator has a page of the desk open, unless they
have said that they cannot be reached. Accepting never depends on it: what nobody can answer now
becomes an ordinary inquiry.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, func, select, text, update
from sqlmodel import Session, col

from channels.base import Address
from router import chat, chat_letters, events, presence
from router.chat_models import Conversation, ConversationState
from router.contacts import contact_at
from router.models import Event, Inquiry, InquiryStatus, Role, Staff
from rules.order import Lane
from rules.presence import Layer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from router.correspondence import Letterhead
    from router.presence import Directory
    from router.sections import ChatDoor
    from router.settings import Settings
    from rules.calendar import WorkingCalendar
    from rules.presence import Status

DESK_LEASE = timedelta(seconds=60)
"""How long a desk counts as manned after it was last heard of."""
MEASURED = 20
"""Talks, the latest ones, whose length says how long the next one will take."""
ENOUGH = 3
_TAKEN = ("claimed", "handed_over", "taken_back", "transferred", "returned")

_C: Any = Conversation.__table__  # type: ignore[attr-defined]
_I: Any = Inquiry.__table__  # type: ignore[attr-defined]

# Written out, so that the planner uses the partial index.
_UNDER_WAY = text("conversation.state IN ('waiting', 'talking')")

# Written so that the planner can use no index with it: it shall go from the few chats to their
# inquiries, and not through all inquiries that nobody holds.
OF_CHATS_OPEN = text("inquiry.status || '' = 'open'")

_CHATS_OF: Any = (
    select(_I.c.assignee_id, func.count())
    .join(_C, _C.c.inquiry_id == _I.c.id)
    .where(
        _UNDER_WAY,
        _C.c.listening_until > bindparam("now"),
        _I.c.assignee_id.in_(bindparam("staff", expanding=True)),
        _I.c.status == InquiryStatus.OPEN,
    )
    .group_by(_I.c.assignee_id)
)


@dataclass(frozen=True, slots=True)
class Terms:
    """What the configuration says of the chat: its terms, when it is open, who works here."""

    door: ChatDoor
    hours: WorkingCalendar
    directory: Directory


def terms_of(settings: Settings, calendar: WorkingCalendar, directory: Directory) -> Terms:
    """The chat as configured."""
    door = settings.channels.chat
    return Terms(
        door=door,
        hours=settings.calendar.build(door.hours) if door.hours else calendar,
        directory=directory,
    )


@dataclass(frozen=True, slots=True)
class Attendance:
    """Whether chats are answered now."""

    open: bool
    """By the hours of the chat."""
    operators: int = 0
    """At the desk, and not out of reach."""
    room: int = 0
    """How many more chats they can take together."""

    @property
    def there(self) -> bool:
        """Whether somebody answers, now or when they are free."""
        return self.open and self.operators > 0


@dataclass(frozen=True, slots=True)
class Turn:
    """Where a resident stands in the line."""

    place: int
    """1 is next."""
    minutes: int
    """The expected wait; 0 when somebody is free."""


def attendance(session: Session, terms: Terms, now: datetime) -> Attendance:
    """Who is there now."""
    if not terms.hours.is_open(now):
        return Attendance(open=False)
    query = select(col(Staff.id), col(Staff.username)).where(
        col(Staff.desk_until) > now,
        col(Staff.active),
        col(Staff.role).in_([Role.OPERATOR, Role.ADMIN]),
    )
    there = [
        number
        for number, username in session.execute(query)
        if _takes_chats(presence.status_of(session, username, now, terms.directory))
    ]
    if not there:
        return Attendance(open=True)
    loads = chats_of(session, there, now)
    room = sum(max(0, terms.door.capacity - loads.get(number, 0)) for number in there)
    return Attendance(open=True, operators=len(there), room=room)


def _takes_chats(status: Status) -> bool:
    """Whether somebody at the desk may be written to. Working hours and what nobody knows send
    nobody away who is plainly there."""
    return status.reach_chat is not False or status.layer is Layer.SCHEDULE


def chats_of(session: Session, staff_ids: Iterable[int], now: datetime) -> dict[int, int]:
    """Staff id -> live chats they hold; who holds none is missing."""
    values = {"now": now, "staff": sorted(staff_ids)}
    return dict(session.connection().execute(_CHATS_OF, values).all())


def has_room(session: Session, staff_id: int, capacity: int, now: datetime) -> bool:
    """Whether somebody may take one more chat."""
    return chats_of(session, [staff_id], now).get(staff_id, 0) < capacity


def line(session: Session, now: datetime) -> list[int]:
    """Conversations that wait for a first answer and that nobody has taken, who came first first.
    Those who have gone do not stand in it."""
    query = (
        select(_C.c.id)
        .join(_I, _I.c.id == _C.c.inquiry_id)
        .where(
            _UNDER_WAY,
            _C.c.state == ConversationState.WAITING,
            _C.c.listening_until > now,
            _I.c.assignee_id.is_(None),
            OF_CHATS_OPEN,
        )
        .order_by(_C.c.waiting_since, _C.c.id)
    )
    return list(session.connection().execute(query).scalars())


def turns(session: Session, terms: Terms, now: datetime) -> dict[int, Turn]:
    """Conversation -> its place and expected wait, for all who stand in line."""
    waiting = line(session, now)
    if not waiting:
        return {}
    there = attendance(session, terms, now)
    minutes = talk_minutes(session, terms.door)
    places = max(1, there.operators * terms.door.capacity)
    return {
        number: Turn(
            place,
            0 if place <= there.room else ceil((place - there.room) * minutes / places),
        )
        for place, number in enumerate(waiting, 1)
    }


def talk_minutes(session: Session, door: ChatDoor) -> float:
    """How long a talk takes, from our first answer to our last, by the latest ones."""
    query = (
        select(_C.c.answered_at, _C.c.last_out_at)
        .where(_C.c.answered_at.is_not(None))
        .order_by(_C.c.answered_at.desc())
        .limit(MEASURED)
    )
    lengths = [
        (last - first).total_seconds() / 60
        for first, last in session.connection().execute(query)
        if last > first
    ]
    return sum(lengths) / len(lengths) if len(lengths) >= ENOUGH else door.talk_minutes


def unattended(
    session: Session, door: ChatDoor, there: Attendance, now: datetime
) -> list[tuple[Conversation, str]]:
    """Conversations in which nobody can answer in time, with the reason for `chat.defer`."""
    first, later = (timedelta(minutes=m) for m in (door.unattended_minutes, door.silence_minutes))
    query = (
        select(Conversation, col(Inquiry.assignee_id))
        .join(Inquiry, col(Inquiry.id) == col(Conversation.inquiry_id))
        .where(
            _UNDER_WAY,
            col(Conversation.waiting_since).is_not(None),
            col(Inquiry.status) == InquiryStatus.OPEN,
        )
        .order_by(col(Conversation.waiting_since))
    )
    found: list[tuple[Conversation, str]] = []
    for conversation, assignee in session.execute(query).all():
        since = conversation.waiting_since
        if conversation.state is ConversationState.TALKING:
            if since <= now - later:
                found.append((conversation, "unanswered"))
        elif not there.there and assignee is None:
            found.append((conversation, "nobody" if there.open else "closed"))
        elif since <= now - first and _last_taken(session, conversation, since) <= now - first:
            found.append((conversation, "unanswered"))
    return found


def sweep(session: Session, head: Letterhead, terms: Terms, now: datetime) -> int:
    """Turn what nobody answers into ordinary inquiries, and take those who have gone out of the
    live lane; returns how many."""
    there = attendance(session, terms, now)
    late = unattended(session, terms.door, there, now)
    for conversation, reason in late:
        chat.defer(session, head, conversation, reason, now)
        chat_letters.receipt(session, head, conversation, now)
    return len(late) + chat.gone(session, now)


def note_address(
    session: Session,
    head: Letterhead,
    conversation_id: int,
    now: datetime,
    *,
    name: str,
    email: str,
    phone: str,
) -> None:
    """The resident gave an address, instead of what they gave before; an inquiry that has a reply
    date already gets its receipt with the first."""
    conversation = session.get_one(Conversation, conversation_id)
    first = bool(email) and not conversation.email
    _give_address(session, conversation, now, name=name, email=email, phone=phone)
    session.flush()
    if first and conversation.state is ConversationState.DEFERRED:
        chat_letters.receipt(session, head, conversation, now)


def is_sweep_due(session: Session, terms: Terms, now: datetime) -> bool:
    """Whether `sweep` would find something, asked by those who can only read."""
    if not _any_under_way(session):
        return False
    if unattended(session, terms.door, attendance(session, terms, now), now):
        return True
    query = (
        select(_C.c.id)
        .join(_I, _I.c.id == _C.c.inquiry_id)
        .where(_UNDER_WAY, _C.c.listening_until <= now, _I.c.lane == int(Lane.LIVE))
    )
    return session.connection().execute(query.limit(1)).scalar() is not None


def _any_under_way(session: Session) -> bool:
    return (
        session.connection().execute(select(_C.c.id).where(_UNDER_WAY).limit(1)).first() is not None
    )


def at_desk(session: Session, staff_ids: Sequence[int], now: datetime) -> None:
    """These people have a page of the desk open."""
    session.connection().execute(
        update(Staff.__table__)  # type: ignore[attr-defined]
        .where(col(Staff.id).in_(sorted(staff_ids)))
        .values(desk_until=now + DESK_LEASE)
    )


def _last_taken(session: Session, conversation: Conversation, since: datetime) -> datetime:
    """When the wait began: with the first message, or anew when somebody got the inquiry."""
    query = select(func.max(col(Event.at))).where(
        col(Event.inquiry_id) == conversation.inquiry_id, col(Event.kind).in_(_TAKEN)
    )
    taken: datetime | None = session.execute(query).scalar()
    return max(since, taken) if taken is not None else since


def _give_address(
    session: Session,
    conversation: Conversation,
    now: datetime,
    *,
    name: str,
    email: str,
    phone: str,
) -> None:
    """The resident says how they can be reached, of their own accord; nobody has verified it."""
    conversation.name = name or conversation.name
    conversation.email, conversation.phone = email, phone
    if conversation.inquiry_id is None:
        return
    inquiry = session.get_one(Inquiry, conversation.inquiry_id)
    inquiry.sender_name = conversation.name or inquiry.sender_name
    inquiry.sender_phone = conversation.phone or inquiry.sender_phone
    address = None
    if conversation.email:
        address = Address("email", conversation.email, conversation.name)
    elif conversation.phone:
        address = Address("phone", conversation.phone, conversation.name)
    if address is not None and address.value != inquiry.sender_address:
        inquiry.contact_id = contact_at(session, address, conversation.language, now)
        inquiry.sender_address = address.value
    inquiry.version += 1
    events.tell(session, "address_given", inquiry, now)
