"""An inquiry goes from one person to another, and back when nobody answers there.

Who sees an inquiry is decided by its department. A colleague who would not see it gets it in a
department of theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, bindparam, func, select, text
from sqlmodel import Session, col

from router import events, queue, staff
from router.access import SERVICE_PREFIX
from router.errors import ConflictError, InvalidError, NotFoundError
from router.models import Department, Event, Inquiry, InquiryStatus, Staff

if TYPE_CHECKING:
    from datetime import datetime

    from router.access import Actor

KIND = "handed_over"
SEEN = "handover_seen"
_QUIET = (SEEN, "message_seen", "revealed")
"""What somebody can do with an inquiry without having answered for it."""

LIMIT = 10

_E: Any = Event.__table__  # type: ignore[attr-defined]
_I: Any = Inquiry.__table__  # type: ignore[attr-defined]

# Written out, so that the planner uses the partial index.
_IS_OPEN = text("inquiry.status = 'open'")


@dataclass(frozen=True, slots=True)
class Handed:
    """An inquiry that a colleague gave to somebody who has not opened it yet."""

    ref: str
    subject: str
    channel: str
    giver: str
    """Name of the colleague."""
    at: datetime


@dataclass(frozen=True, slots=True)
class Given:
    """Where an inquiry is that somebody gave away."""

    name: str
    """Of the colleague who has it."""
    department: str
    may_take_back: bool


def hand_over(
    session: Session,
    actor: Actor,
    ref: str,
    username: str,
    note: str,
    now: datetime,
    department: str = "",
) -> Inquiry:
    """Give an inquiry to a colleague, who holds it from now on.

    `department`: which of theirs it goes to; empty where it stays, or goes to their only one.
    Raises `InvalidError` for nobody, oneself, or a colleague who would not see it there,
    `ConflictError` when closed or held by another.
    """
    inquiry = queue.get(session, actor, ref)
    queue.require_open(inquiry)
    queue.require_holder(session, actor, inquiry)
    receiver = colleague(session, username)
    if receiver.id == actor.staff_id:
        raise InvalidError("You cannot hand it over to yourself.")
    if receiver.id == inquiry.assignee_id:
        return inquiry
    target = _place(session, receiver, inquiry.department, department)
    queue.move(session, actor, inquiry, target, KIND, note, now, to=receiver)
    return inquiry


def colleague(session: Session, username: str) -> Staff:
    """Somebody who can be given an inquiry. Raises `InvalidError`."""
    try:
        found = staff.require_staff(session, username)
    except NotFoundError:
        found = None
    if found is None or not found.active:
        raise InvalidError("Nobody who works here is called that. Write a name from the list.")
    return found


def others(session: Session, actor: Actor) -> list[tuple[str, str]]:
    """Username and name of everybody to whom somebody could give an inquiry, by name."""
    rows = session.execute(
        select(col(Staff.username), col(Staff.name))
        .where(
            col(Staff.active),
            col(Staff.username).not_like(f"{SERVICE_PREFIX}%"),
            col(Staff.id) != (actor.staff_id or 0),
        )
        .order_by(col(Staff.name), col(Staff.id))
    )
    return [(username, name) for username, name in rows]


def _place(session: Session, receiver: Staff, present: str, wanted: str) -> str:
    """The department in which a receiver gets it."""
    theirs = staff.actor_of(session, receiver).departments
    if wanted:
        target = session.get(Department, wanted)
        if target is None or not target.active:
            raise InvalidError(f"There is no department «{wanted}».")
    if theirs is None or (wanted or present) in theirs:
        return wanted or present
    if wanted or not theirs:
        raise InvalidError("This colleague does not see the inquiries of that department.")
    if len(theirs) > 1:
        raise InvalidError("This colleague has several departments. Say which one it goes to.")
    return next(iter(theirs))


def taken_back_from(session: Session, actor: Actor, inquiry: Inquiry) -> Staff | None:
    """The colleague from whom somebody may take an inquiry back: they were given it, and have done
    nothing with it."""
    latest = _latest(session, inquiry)
    if latest is None or actor.staff_id is None or latest.staff_id != actor.staff_id:
        return None
    if inquiry.status is not InquiryStatus.OPEN or inquiry.assignee_id is None:
        return None
    holder = session.get_one(Staff, inquiry.assignee_id)
    if holder.username != latest.data.get("person"):
        return None
    source = _source(latest, inquiry)
    stays = source == inquiry.department
    if not (queue.sees(session, actor, inquiry) if stays else actor.sees(source)):
        return None
    acted = select(_E.c.id).where(
        _E.c.inquiry_id == inquiry.id,
        _E.c.id > latest.id,
        _E.c.staff_id == holder.id,
        _E.c.kind.not_in(_QUIET),
    )
    return holder if session.connection().execute(acted.limit(1)).first() is None else None


def given_by(session: Session, actor: Actor, ref: str) -> Given | None:
    """To whom somebody gave an inquiry, where they hold it still; None for what was not given by
    the actor."""
    query = select(Inquiry).where(col(Inquiry.ref) == ref)
    inquiry: Inquiry | None = session.execute(query).scalar()
    latest = _latest(session, inquiry) if inquiry is not None else None
    if inquiry is None or latest is None or actor.staff_id is None:
        return None
    holder = session.get(Staff, inquiry.assignee_id) if inquiry.assignee_id else None
    if latest.staff_id != actor.staff_id or holder is None:
        return None
    if holder.username != latest.data.get("person"):
        return None
    may_take_back = taken_back_from(session, actor, inquiry) is not None
    return Given(holder.name, inquiry.department, may_take_back)


def take_back(session: Session, actor: Actor, ref: str, now: datetime) -> Inquiry:
    """Take back what one gave to a colleague, as long as they have done nothing with it; it comes
    back to the department it came from.

    Raises `NotFoundError` where nothing was given away by the actor, `ConflictError` when it is too
    late.
    """
    inquiry = _given_by(session, actor, ref)
    latest = _latest(session, inquiry)
    if latest is None or latest.staff_id != actor.staff_id:
        raise NotFoundError
    if taken_back_from(session, actor, inquiry) is None:
        raise ConflictError("Your colleague has gone on with it, so it cannot be taken back.")
    me = session.get_one(Staff, queue.person(actor))
    queue.move(session, actor, inquiry, _source(latest, inquiry), "taken_back", "", now, to=me)
    return inquiry


def _given_by(session: Session, actor: Actor, ref: str) -> Inquiry:
    """An inquiry that the actor sees, or gave away to where they do not. Raises `NotFoundError`."""
    query = select(Inquiry).where(col(Inquiry.ref) == ref)
    inquiry: Inquiry | None = session.execute(query).scalar()
    if inquiry is None:
        raise NotFoundError
    if queue.sees(session, actor, inquiry) or taken_back_from(session, actor, inquiry) is not None:
        return inquiry
    raise NotFoundError


def _source(given: Event, inquiry: Inquiry) -> str:
    """The department that an inquiry was given away from."""
    return str(given.data.get("from_department") or inquiry.department)


def _latest(session: Session, inquiry: Inquiry) -> Event | None:
    query = (
        select(Event)
        .where(col(Event.inquiry_id) == inquiry.id, col(Event.kind) == KIND)
        .order_by(col(Event.id).desc())
        .limit(1)
    )
    found: Event | None = session.execute(query).scalar()
    return found


def handed_to(session: Session, actor: Actor) -> list[Handed]:
    """What colleagues have given to somebody and they have neither opened nor touched, the latest
    first."""
    if actor.staff_id is None:
        return []
    rows = session.connection().execute(_HANDED, {"staff_id": actor.staff_id})
    return [
        Handed(ref, subject, channel, name or "", at) for ref, subject, channel, name, at in rows
    ]


def _handed() -> Any:
    me: Any = bindparam("staff_id")
    given = (
        select(_E.c.inquiry_id, func.max(_E.c.id).label("id"))
        .join(_I, _I.c.id == _E.c.inquiry_id)
        .where(_I.c.assignee_id == me, _IS_OPEN, _E.c.kind == KIND)
        .group_by(_E.c.inquiry_id)
        .subquery()
    )
    since = _E.alias()
    mine = and_(
        since.c.inquiry_id == given.c.inquiry_id,
        since.c.id > given.c.id,
        since.c.staff_id == me,
    )
    return (
        select(_I.c.ref, _I.c.subject, _I.c.channel, col(Staff.name), _E.c.at)
        .select_from(given)
        .join(_E, _E.c.id == given.c.id)
        .join(_I, _I.c.id == given.c.inquiry_id)
        .outerjoin(Staff, col(Staff.id) == _E.c.staff_id)
        .where(_E.c.staff_id != me, ~select(since.c.id).where(mine).exists())
        .order_by(_E.c.id.desc())
        .limit(LIMIT)
    )


_HANDED = _handed()  # built once: every page of the desk asks this


def see(session: Session, actor: Actor, ref: str, now: datetime) -> None:
    """Write down that whoever was given an inquiry has opened it."""
    inquiry = queue.get(session, actor, ref)
    if inquiry.assignee_id == actor.staff_id:
        events.tell(session, SEEN, inquiry, now, staff_id=actor.staff_id)
