"""The calls that are going on, as the desk shows them, and where in the queue somebody stands."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, bindparam, case, func, or_, select, text
from sqlmodel import Session, col

from channels.phone.base import CHANNEL
from router import calls, queue
from router.call_models import Call, CallOutcome, CallState
from router.calls import CONTROLLED, Way
from router.errors import NotFoundError
from router.models import Contact, Inquiry, Staff
from rules.order import Lane

if TYPE_CHECKING:
    from router.access import Actor

MEASURED = timedelta(minutes=30)
ENOUGH = 3
"""So many calls taken within that time make an estimate of the wait."""

_C: Any = Call.__table__  # type: ignore[attr-defined]
_I: Any = Inquiry.__table__  # type: ignore[attr-defined]

# Written out, so that the planner uses the partial indexes.
_IS_LIVE = text("call.state <> 'ended'")
_IS_OPEN = text("inquiry.status = 'open'")


_NOWHERE: tuple[None, int] = (None, 0)


@dataclass(frozen=True, slots=True)
class Place:
    """Where somebody stands in the queue."""

    position: int
    """From 1."""
    callbacks: int
    """How many of those ahead have hung up, and keep their place to be called back."""
    seconds: float | None
    """How long they will wait; None when too few calls were taken lately."""


def place(session: Session, call: Call, now: datetime) -> Place:
    """Where a caller stands, those before them counted who asked to be called back."""
    position, callbacks = _position(session, call)
    since = {"started": now - MEASURED - timedelta(hours=1), "answered": now - MEASURED}
    count = session.connection().execute(_TAKEN, since).scalar_one()
    seconds = position * MEASURED.total_seconds() / count if count >= ENOUGH else None
    return Place(position, callbacks, seconds)


def _position(session: Session, call: Call) -> tuple[int, int]:
    inquiry = calls.inquiry_of(session, call)
    session.flush()
    mine = {
        "lane": inquiry.lane,
        "sort_at": inquiry.sort_at,
        "inquiry": inquiry.id or 0,
        "call": call.id or 0,
    }
    ahead, waiting = session.connection().execute(_AHEAD, mine).one()
    return 1 + ahead, ahead - waiting


def _positions(session: Session) -> dict[int, tuple[int, int]]:
    """Call -> position and call-backs ahead, of all that wait in the queue."""
    found: dict[int, tuple[int, int]] = {}
    for position, call in enumerate(session.connection().execute(_IN_LINE).scalars(), start=1):
        if call is not None:
            found[call] = position, position - 1 - len(found)
    return found


def _in_line(*wanted: Any) -> Any:
    """Who stands in the queue: each call that waits, also two of one number, and inquiries whose
    caller is promised the place."""
    waits = and_(_C.c.inquiry_id == _I.c.id, _IS_LIVE, _C.c.state == CallState.WAITING)
    live = select(_C.c.inquiry_id).where(_IS_LIVE).correlate(None)
    promised = and_(
        _I.c.answered_at.is_(None),
        _I.c.assignee_id.is_(None),
        _I.c.kind == calls.KIND,
        _I.c.id.not_in(live),
    )
    return (
        select(*wanted)
        .select_from(_I.outerjoin(_C, waits))
        .where(
            _IS_OPEN,
            _I.c.channel == CHANNEL,
            _I.c.lane <= int(Lane.LIVE),
            or_(_C.c.id.is_not(None), promised),
        )
    )


def _ahead() -> Any:
    sort_at: Any = bindparam("sort_at", type_=_I.c.sort_at.type)
    lane: Any = bindparam("lane")
    number: Any = bindparam("inquiry")
    return _in_line(func.count(), func.count(_C.c.id)).where(
        or_(
            _I.c.lane < lane,
            and_(_I.c.lane == lane, _I.c.sort_at < sort_at),
            and_(_I.c.lane == lane, _I.c.sort_at == sort_at, _I.c.id < number),
            and_(_I.c.id == number, _C.c.id < bindparam("call")),
        ),
    )


_AHEAD = _ahead()
_IN_LINE = _in_line(_C.c.id).order_by(_I.c.lane, _I.c.sort_at, _I.c.id, _C.c.id)
_TAKEN = select(func.count()).where(
    _C.c.started_at > bindparam("started", type_=_C.c.started_at.type),
    _C.c.answered_at > bindparam("answered", type_=_C.c.answered_at.type),
    _C.c.waiting_since.is_not(None),
)
"""Calls that waited and were answered lately."""


@dataclass(frozen=True, slots=True)
class CallRow:
    """One call, as the desk and integrators see it."""

    id: int
    ref: str
    """Of its inquiry."""
    provider: str
    direction: str
    state: CallState
    outcome: CallOutcome | None
    caller: str
    """E.164, or what the provider said instead."""
    caller_name: str
    line: str
    person: str
    department: str
    staff: str
    """Username of the operator who has taken it."""
    staff_name: str
    answered_by: str
    reason: str
    """Why it is where it is: the code of its last step."""
    returned_by: str
    """Username of the operator who passed the call on, or did not pick up after taking it."""
    position: int | None
    """In the queue, from 1."""
    callbacks_ahead: int
    """How many of those before it have hung up, and keep their place to be called back."""
    calls: int
    """How often this caller has rung about it."""
    held: bool
    consulting: str
    """Username of the colleague who is asked to take over, `?` for a number outside."""
    consulted: bool
    """Whether that colleague has answered the phone."""
    started_at: datetime
    waiting_since: datetime | None
    answered_at: datetime | None
    ended_at: datetime | None
    wants_callback: bool
    through_switchboard: bool
    actions: tuple[str, ...]
    """What the actor may do with it now."""


def listing(session: Session, actor: Actor, *, live: bool, limit: int = 100) -> list[CallRow]:
    """Calls that the actor may see: those going on, the actor's own first and then
    the longest waiting, or the latest ended."""
    query = (
        select(Call, Inquiry, Staff, Contact)
        .join(Inquiry, col(Inquiry.id) == col(Call.inquiry_id))
        .outerjoin(Staff, col(Staff.id) == col(Call.staff_id))
        .outerjoin(Contact, col(Contact.id) == col(Inquiry.contact_id))
    )
    if live:
        own = case((col(Call.staff_id) == (actor.staff_id or 0), 0), else_=1)
        query = query.where(_IS_LIVE).order_by(
            own, col(Inquiry.lane), col(Inquiry.sort_at), col(Call.id)
        )
    else:
        query = query.where(col(Call.state) == CallState.ENDED).order_by(
            col(Call.started_at).desc(), col(Call.id).desc()
        )
    if actor.departments is not None:
        query = query.where(col(Inquiry.department).in_(sorted(actor.departments)))
    found = session.execute(query.limit(limit)).all()
    waits = any(call.state is CallState.WAITING for call, *_ in found)
    positions = _positions(session) if waits else {}
    return [
        _row(actor, call, inquiry, staff, contact, positions.get(call.id or 0, _NOWHERE))
        for call, inquiry, staff, contact in found
    ]


def row(session: Session, actor: Actor, call: Call) -> CallRow:
    """One call."""
    inquiry = calls.inquiry_of(session, call)
    staff = session.get(Staff, call.staff_id) if call.staff_id else None
    contact = session.get(Contact, inquiry.contact_id) if inquiry.contact_id else None
    place = _position(session, call) if call.state is CallState.WAITING else _NOWHERE
    return _row(actor, call, inquiry, staff, contact, place)


def read(session: Session, actor: Actor, number: int) -> CallRow:
    """One call by its number. Raises `NotFoundError` also when it is not the actor's to see."""
    call = session.get(Call, number)
    if call is None or not queue.sees(session, actor, calls.inquiry_of(session, call)):
        raise NotFoundError
    return row(session, actor, call)


def _row(
    actor: Actor,
    call: Call,
    inquiry: Inquiry,
    staff: Staff | None,
    contact: Contact | None,
    place: tuple[int | None, int],
) -> CallRow:
    way = Way.of(call)
    position, callbacks_ahead = place if call.state is CallState.WAITING else _NOWHERE
    colleague = next(iter(way.live_legs("colleague").values()), None)
    if not (way.warm or way.sent_back):
        colleague = None  # it is their talk now
    return CallRow(
        id=call.id or 0,
        ref=inquiry.ref,
        provider=call.provider,
        direction=call.direction.value,
        state=call.state,
        outcome=call.outcome,
        caller=call.caller,
        caller_name=contact.name if contact else "",
        line=call.line,
        person=call.person,
        department=call.department,
        staff=staff.username if staff else "",
        staff_name=staff.name if staff else "",
        answered_by=call.answered_by,
        reason=way.reason,
        returned_by=way.sent_back or way.came_back,
        position=position,
        callbacks_ahead=callbacks_ahead,
        calls=inquiry.calls,
        held=way.held,
        consulting=(colleague.user or "?") if colleague else "",
        consulted=colleague is not None and colleague.state == "talking",
        started_at=call.started_at,
        waiting_since=call.waiting_since,
        answered_at=call.answered_at,
        ended_at=call.ended_at,
        wants_callback=call.wants_callback,
        through_switchboard=call.through_switchboard,
        actions=_actions(actor, call, way),
    )


def _actions(actor: Actor, call: Call, way: Way) -> tuple[str, ...]:
    """Buttons that lead somewhere: an exchange of the municipality's own only tells."""
    if call.provider not in CONTROLLED or call.state is CallState.ENDED:
        return ()
    if call.state is CallState.WAITING:
        return ("take",)
    if call.staff_id is None or (call.staff_id != actor.staff_id and actor.is_person):
        return ()
    if call.state is CallState.DIALLING:
        return ("take-back", "hang-up") if way.sent_back and not way.talking else ("hang-up",)
    if call.state is not CallState.TALKING:
        return ()
    operator, colleague = (
        {leg.state for leg in way.live_legs(label).values()} for label in ("operator", "colleague")
    )
    if way.warm:
        asked = ("take-back", "hang-up")
        return ("complete", *asked) if "talking" in colleague else asked
    if "talking" not in operator:
        # A call that the colleague has taken over is theirs alone.
        return () if "talking" in colleague else ("hang-up",)
    return ("resume" if way.held else "hold", "transfer", "hang-up")
