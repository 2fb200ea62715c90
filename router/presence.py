"""Who can be reached, as `rules.presence` resolves it from the claims in the store.

What people set by hand is one source of claims; working hours are another, kept in the
configuration. A claim is kept for 30 days after its end and nothing is reckoned up per person.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import String, bindparam, cast, delete, exists, literal, or_, select, text, update
from sqlmodel import Session, col

from router import events
from router.access import PRESENCE_CHANGED, SERVICE_PREFIX
from router.call_models import PresenceClaim
from router.errors import ConflictError, InvalidError, NotFoundError
from router.models import Event, Membership, Role, Staff
from router.staff import normal_username
from rules.presence import Claim, Layer, State, Status, ending, resolve

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from router.access import Actor
    from router.sections import Person
    from router.settings import Settings
    from rules.calendar import WorkingCalendar
    from rules.presence import Until

LONGEST = timedelta(days=60)
"""The farthest end of a mark set by hand."""
KEPT = timedelta(days=30)
"""How long a claim is kept after its end."""
ANNOUNCED = timedelta(hours=1)
"""How far back ends of claims are told; a longer stop makes every page read anew anyhow."""
NOTE_LENGTH = 200
SAID_OTHERWISE = "They have said themselves where they are. Absence can be set all the same."
_ONCE = "presence:"
MANUAL = "manual"
SETTABLE = (
    State.AVAILABLE,
    State.MEETING,
    State.BUSY,
    State.AWAY,
    State.HOME_OFFICE,
    State.ABSENT,
)
"""What can be set by hand."""

_C: Any = PresenceClaim.__table__  # type: ignore[attr-defined]
_E: Any = Event.__table__  # type: ignore[attr-defined]

# Written out, so that the planner uses the partial index.
_IS_PRESENCE = text("event.kind = 'presence_changed'")

# Built once: every page of the desk asks these of whoever is signed in.
_OF_ALL = select(_C).where(
    or_(_C.c.ends_at.is_(None), _C.c.ends_at > bindparam("now", type_=_C.c.ends_at.type))
)
_OF_ONE = _OF_ALL.where(_C.c.person == bindparam("person"))
_DEPARTMENTS = (
    select(col(Membership.department))
    .join(Staff, col(Membership.staff_id) == col(Staff.id))
    .where(col(Staff.username) == bindparam("username"))
)


@dataclass(frozen=True, slots=True)
class Directory:
    """What the configuration says of people: their phones, their own numbers, when they work."""

    calendar: WorkingCalendar
    hours: Mapping[str, WorkingCalendar] = field(default_factory=dict)
    """Department -> when it is open."""
    people: Mapping[str, Person] = field(default_factory=dict)
    """`channels.phone.people`."""
    numbers: Mapping[str, str] = field(default_factory=dict)
    """Username -> the number that leads to them."""

    def schedule(self, username: str, departments: Iterable[str] = ()) -> WorkingCalendar:
        """When somebody works: their department's hours; with several, the municipality's."""
        person = self.people.get(username)
        own = {person.department} if person else set(departments)
        return self.hours.get(own.pop(), self.calendar) if len(own) == 1 else self.calendar


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of the directory. `note` and `set_by` are empty for those who may not read them."""

    username: str
    name: str
    departments: tuple[str, ...]
    phone: str
    """The number that leads to them, E.164; empty when there is none."""
    deputy: str
    """Username of who answers instead."""
    status: Status
    note: str = ""
    set_by: str = ""


def directory_of(
    settings: Settings, calendar: WorkingCalendar, hours: Mapping[str, WorkingCalendar]
) -> Directory:
    """The directory as configured; `hours` by department."""
    phone = settings.channels.phone
    return Directory(
        calendar=calendar,
        hours=hours,
        people=phone.people,
        numbers={line.person: line.number for line in phone.numbers if line.person},
    )


def status_of(session: Session, username: str, now: datetime, directory: Directory) -> Status:
    """Where somebody is and whether they can be reached. Of a stranger nothing is known."""
    claims = [_claim(row) for row in _rows(session, now, username)]
    departments: Sequence[str] = ()
    if username not in directory.people:
        rows = session.connection().execute(_DEPARTMENTS, {"username": username})
        departments = list(rows.scalars())
    return resolve(claims, now, directory.schedule(username, departments))


def statuses(
    session: Session, reader: Actor, now: datetime, directory: Directory
) -> dict[str, Listed]:
    """Everybody who works here, by username, in order of their names."""
    claims: dict[str, list[Any]] = {}
    for row in _rows(session, now):
        claims.setdefault(row.person, []).append(row)
    lines = []
    for username, (name, departments) in _people(session, directory).items():
        rows = claims.get(username, [])
        status = resolve(map(_claim, rows), now, directory.schedule(username, departments))
        person = directory.people.get(username)
        told = next((row for row in rows if row.id == status.claim), None)
        if told is not None and not may_set(reader, username):
            told = None
        lines.append(
            Listed(
                username=username,
                name=name,
                departments=tuple(departments),
                phone=directory.numbers.get(username) or (person.phone if person else ""),
                deputy=person.deputy if person else "",
                status=status,
                note=told.private_note if told else "",
                set_by=told.set_by if told else "",
            )
        )
    return {line.username: line for line in sorted(lines, key=lambda line: line.name.casefold())}


def listed(
    session: Session, reader: Actor, username: str, now: datetime, directory: Directory
) -> Listed:
    """Somebody's line of the directory. Raises `NotFoundError`."""
    line = statuses(session, reader, now, directory).get(normal_username(username))
    if line is None:
        raise NotFoundError
    return line


def may_set(actor: Actor, username: str) -> bool:
    """Whether somebody may say where a person is, and read what was said for the switchboard."""
    return actor.username == username or actor.role in {Role.OPERATOR, Role.ADMIN}


def mark(
    session: Session,
    actor: Actor,
    username: str,
    state: State,
    until: Until,
    note: str,
    now: datetime,
    directory: Directory,
) -> Status:
    """Say by hand where somebody is. `note` is for them and the operators alone.

    What the person said earlier by hand ends; what others said of them as well. What others say
    counts only where the person has said nothing themselves, but absence always does.
    Raises `NotFoundError` for a stranger, `ForbiddenError`, `ConflictError` when the person has
    said otherwise, `InvalidError` for a state that is not set by hand or an end that is not ahead
    or farther than 60 days.
    """
    username, calendar = _settable(session, actor, username, directory)
    if state not in SETTABLE:
        raise InvalidError("This is not a state to set by hand.")
    end = ending(until, now, calendar)
    if end <= now:
        raise InvalidError("The end lies in the past.")
    if end > now + LONGEST:
        raise InvalidError("At most 60 days ahead.")
    if len(note) > NOTE_LENGTH:
        raise InvalidError("The note is too long: at most 200 characters.")
    if actor.username != username and state is not State.ABSENT and _own(session, username, now):
        raise ConflictError(SAID_OTHERWISE)
    _end_marks(session, actor, username, now)
    session.add(
        PresenceClaim(
            person=username,
            source=MANUAL,
            layer=(Layer.ABSENCE if state is State.ABSENT else Layer.MANUAL).value,
            state=state.value,
            starts_at=now,
            ends_at=end,
            observed_at=now,
            set_by=actor.username,
            private_note=note,
        )
    )
    session.flush()
    return _announce(session, username, now, directory)


def clear(
    session: Session, actor: Actor, username: str, now: datetime, directory: Directory
) -> Status:
    """Take back what was set by hand; the other sources speak again.

    An operator takes back what operators set, never what the person said. Raises `NotFoundError`,
    `ForbiddenError`, and `ConflictError` when only the person could.
    """
    username, _calendar = _settable(session, actor, username, directory)
    ended = _end_marks(session, actor, username, now)
    if not ended and actor.username != username and _own(session, username, now):
        raise ConflictError(SAID_OTHERWISE)
    return _announce(session, username, now, directory)


def announce_ended(session: Session, now: datetime, directory: Directory) -> int:
    """Tell of claims that have run out by themselves; returns how many."""
    ended = session.connection().execute(_untold(now)).all()
    for number, person in ended:
        status = status_of(session, person, now, directory)
        _record(session, person, status, now, once=f"{_ONCE}{number}")
    return len(ended)


def any_untold(session: Session, now: datetime) -> bool:
    """Whether claims have run out that nobody was told of."""
    return session.connection().execute(_untold(now).limit(1)).first() is not None


def forget_old(session: Session, now: datetime) -> int:
    """Delete claims whose end is 30 days past, and what was told of them; returns how many."""
    connection = session.connection()
    connection.execute(delete(_E).where(_IS_PRESENCE, _E.c.at < now - KEPT))
    old = or_(_C.c.ends_at < now - KEPT, _C.c.lease_until < now - KEPT)
    return int(connection.execute(delete(_C).where(old)).rowcount)


def _people(session: Session, directory: Directory) -> dict[str, tuple[str, list[str]]]:
    """Username -> name and departments, of accounts that are open and of the number plan."""
    found: dict[str, tuple[str, list[str]]] = {
        username: (person.name, [person.department])
        for username, person in directory.people.items()
    }
    query = (
        select(col(Staff.username), col(Staff.name), col(Staff.active), col(Membership.department))
        .outerjoin(Membership, col(Membership.staff_id) == col(Staff.id))
        .where(col(Staff.username).not_like(f"{SERVICE_PREFIX}%"))
        .order_by(col(Membership.department))
    )
    for username, name, active, department in session.execute(query):
        if not active:
            found.pop(username, None)
            continue
        _name, departments = found.setdefault(username, (name, []))
        if department and username not in directory.people:
            departments.append(department)
    return found


def _settable(
    session: Session, actor: Actor, username: str, directory: Directory
) -> tuple[str, WorkingCalendar]:
    username = normal_username(username)
    people = _people(session, directory)
    if username not in people:
        raise NotFoundError
    if not may_set(actor, username):
        actor.require(Role.OPERATOR, Role.ADMIN)
    _name, departments = people[username]
    return username, directory.schedule(username, departments)


def _rows(session: Session, now: datetime, username: str = "") -> list[Any]:
    """Claims that have not ended, those that have not begun among them."""
    query, values = (_OF_ONE, {"person": username}) if username else (_OF_ALL, {})
    return list(session.connection().execute(query, values | {"now": now}))


def _claim(row: Any) -> Claim:
    return Claim(
        id=row.id,
        layer=Layer(row.layer),
        state=State(row.state),
        starts_at=row.starts_at,
        observed_at=row.observed_at,
        ends_at=row.ends_at,
        lease_until=row.lease_until,
        by_self=row.set_by == row.person,
        reach_phone=row.reach_phone,
        reach_chat=row.reach_chat,
        public_text=row.public_text,
    )


def _own(session: Session, username: str, now: datetime) -> bool:
    """Whether the person has said by hand where they are."""
    return any(
        row.source == MANUAL and row.set_by == username for row in _rows(session, now, username)
    )


def _end_marks(session: Session, actor: Actor, username: str, now: datetime) -> int:
    """End what stands set by hand: the person all of it, others what others have set."""
    marks = update(_C).where(_C.c.person == username, _C.c.source == MANUAL, _C.c.ends_at > now)
    if actor.username != username:
        marks = marks.where(_C.c.set_by != username)
    return int(session.connection().execute(marks.values(ends_at=now)).rowcount)


def _announce(session: Session, username: str, now: datetime, directory: Directory) -> Status:
    status = status_of(session, username, now, directory)
    _record(session, username, status, now)
    return status


def _record(
    session: Session, username: str, status: Status, now: datetime, once: str | None = None
) -> None:
    until = status.until.isoformat().replace("+00:00", "Z") if status.until else None
    events.record(
        session,
        PRESENCE_CHANGED,
        at=now,
        once=once,
        data={"person": username, "state": status.state.value, "until": until},
    )


def _untold(now: datetime) -> Any:
    told = exists().where(_E.c.once == literal(_ONCE).concat(cast(_C.c.id, String)))
    end = _C.c.ends_at
    return select(_C.c.id, _C.c.person).where(end <= now, end > now - ANNOUNCED, ~told)
