"""The queue: who holds which inquiry, where it stands, and the pages that show it.

Every change is compare-and-set on the row, bumps `version`, writes an event and keeps the
counters. Two people
never hold one inquiry. Age and `due_at` survive claim, release, transfer, return and reopening.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, delete, insert, select, text, update
from sqlmodel import Session, col

from router import cursors, events, queue_sql
from router.counters import counted
from router.errors import ConflictError, InvalidError, NotFoundError
from router.models import (
    Addressee,
    DecisionRecord,
    Department,
    Direction,
    Event,
    Inquiry,
    InquiryStatus,
    Message,
    ReplyState,
    Staff,
)
from rules.order import Lane

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from router.access import Actor

PAGE_LIMIT = 200
ALARM_LIMIT = 20
ALARM_DAYS = 14
"""An alarm of an inquiry that was closed unseen stands this long: every page of the desk asks."""
NEWS_LIMIT = 10
"""New messages that are told at a time; the others stand in the queue."""
SHARED_LIMIT = 1000
"""Inquiries of other departments that a department was addressed in as well, the latest of which
stand in its lists."""
SWITCHBOARD = "servicetorg"

_I: Any = Inquiry.__table__  # type: ignore[attr-defined]
_A: Any = Addressee.__table__  # type: ignore[attr-defined]

_IS_OPEN = text("inquiry.status = 'open'")
_NAMED = select(Inquiry).where(col(Inquiry.ref) == bindparam("ref"))


@dataclass(frozen=True, slots=True)
class Filter:
    """What a list shows. Empty means all; `assignee` is a username, `none` for unclaimed."""

    status: str = ""
    department: str = ""
    channel: str = ""
    assignee: str = ""
    q: str = ""


@dataclass(frozen=True, slots=True)
class QueueRow:
    """One line of the queue."""

    id: int
    ref: str
    channel: str
    kind: str
    status: InquiryStatus
    reply_state: ReplyState
    subject: str
    sender_name: str
    sender_address: str
    department: str
    assignee_id: int | None
    assignee: str
    assignee_name: str
    received_at: datetime
    due_at: datetime
    warn_at: datetime
    overdue_at: datetime | None
    answered_at: datetime | None
    closed_at: datetime | None
    lane: int
    sort_at: datetime
    language: str
    sensitivity: str
    emergency: bool
    tags: list[str]
    version: int
    last_message_at: datetime


@dataclass(frozen=True, slots=True)
class Signs:
    """What there is to know of an inquiry beside its row."""

    also: tuple[str, ...] = ()
    """Departments that were addressed as well."""
    new_message: bool = False
    """Whether the resident has written again, and whoever holds it has done nothing since."""
    receipt_failed: bool = False
    """Whether an automatic letter to the resident did not arrive."""


NO_SIGNS = Signs()


@dataclass(frozen=True, slots=True)
class Page:
    """Rows in queue order and the cursor of the next page, None on the last."""

    rows: list[QueueRow]
    next: str | None


def page(
    session: Session, actor: Actor, wanted: Filter, after: str | None = None, limit: int = 50
) -> Page:
    """One page in queue order; open inquiries first, then closed ones, latest first. What lies
    aside is shown only when it is asked for, latest first.

    Raises `InvalidError` for a cursor or status that is not ours.
    """
    limit = max(1, min(limit, PAGE_LIMIT))
    if wanted.status not in {"", "open", "closed", "aside"}:
        raise InvalidError("status is open, closed or aside.")
    part, position = cursors.read(after)
    if wanted.status == "aside":
        rows = _part(session, actor, wanted, "aside", position if part == "aside" else None, limit)
        return _page(rows, limit)
    rows = []
    if wanted.status != "closed" and part == "open":
        rows = _part(session, actor, wanted, "open", position, limit)
    if wanted.status != "open" and len(rows) <= limit:
        closed_at = position if part == "closed" else None
        rows += _part(session, actor, wanted, "closed", closed_at, limit - len(rows))
    return _page(rows, limit)


def _page(rows: list[QueueRow], limit: int) -> Page:
    if len(rows) <= limit:
        return Page(rows, None)
    return Page(rows[:limit], _cursor(rows[limit - 1]))


def _part(
    session: Session,
    actor: Actor,
    wanted: Filter,
    part: str,
    position: list[Any] | None,
    limit: int,
) -> list[QueueRow]:
    """One row more than `limit`, in the order of this part of the list."""
    values = queue_sql.place(part, position) | {"limit": limit + 1}
    query = queue_sql.listed(actor.departments, wanted, part, position is not None)
    rows = _rows(session, query, values)
    # Apart from the actor's own: each question then has an index of its own to read.
    shared = _shared(session, actor, wanted.department)
    if not shared:
        return rows
    query = queue_sql.listed_of(wanted, part, position is not None)
    rows += _rows(session, query, values | {"ids": shared})
    return sorted(rows, key=_SORTED[part])[: limit + 1]


def _shared(session: Session, actor: Actor, department: str) -> list[int]:
    """Inquiries of other departments that the actor sees because theirs was addressed too."""
    if actor.departments is None:
        return []
    mine = {department} & actor.departments if department else actor.departments
    query = queue_sql.shared_with(frozenset(mine))
    return list(session.connection().execute(query, {"limit": SHARED_LIMIT}).scalars())


def row(session: Session, actor: Actor, ref: str) -> QueueRow:
    """One inquiry as a line of the queue. Raises `NotFoundError` also when it is not the actor's
    to see."""
    found = _rows(session, queue_sql.named(actor.departments), {"ref": ref})
    if not found:
        raise NotFoundError
    return found[0]


def those(session: Session, actor: Actor, condition: Any, limit: int) -> list[QueueRow]:
    """The inquiries that a condition on the table holds for and that are the actor's to see, the
    latest first."""
    query = queue_sql.seen_by(actor.departments).where(condition)
    return _rows(session, query.order_by(_I.c.id.desc()).limit(limit))


def get(session: Session, actor: Actor, ref: str) -> Inquiry:
    """The inquiry with this reference, for change. Raises `NotFoundError` also when it is not the
    actor's."""
    inquiry: Inquiry | None = session.execute(_NAMED, {"ref": ref}).scalar()
    if inquiry is None or not sees(session, actor, inquiry):
        raise NotFoundError
    return inquiry


def sees(session: Session, actor: Actor, inquiry: Inquiry) -> bool:
    """Whether an inquiry is the actor's to see: their department answers it, or it was sent to
    their department as well."""
    if actor.sees(inquiry.department):
        return True
    query = select(_A.c.inquiry_id).where(
        _A.c.inquiry_id == inquiry.id, _A.c.department.in_(sorted(actor.departments or ()))
    )
    return session.connection().execute(query.limit(1)).scalar() is not None


def by_id(session: Session, inquiry_id: int) -> Inquiry:
    """The inquiry with this id. Raises `NotFoundError`."""
    inquiry = session.get(Inquiry, inquiry_id)
    if inquiry is None:
        raise NotFoundError
    return inquiry


def claim(session: Session, actor: Actor, ref: str, now: datetime) -> Inquiry:
    """Take an inquiry. Claiming what one already holds changes nothing.

    Raises `ConflictError` with the holder's name when somebody else was first.
    """
    inquiry = get(session, actor, ref)
    staff_id = person(actor)
    require_open(inquiry)
    if inquiry.assignee_id == staff_id:
        return inquiry
    taken = session.connection().execute(
        update(_I)
        .where(_I.c.id == inquiry.id, _I.c.assignee_id.is_(None), _IS_OPEN)
        .values(assignee_id=staff_id, version=_I.c.version + 1)
    )
    session.refresh(inquiry)
    if not taken.rowcount:
        raise held_by(session, inquiry)
    events.tell(session, "claimed", inquiry, now, staff_id=actor.staff_id)
    return inquiry


def release(session: Session, actor: Actor, ref: str, now: datetime) -> Inquiry:
    """Give an inquiry back to its department's queue. Raises `ConflictError` when another holds
    it."""
    inquiry = get(session, actor, ref)
    require_holder(session, actor, inquiry)
    if inquiry.assignee_id is None:
        return inquiry
    inquiry.assignee_id = None
    inquiry.version += 1
    events.tell(session, "released", inquiry, now, staff_id=actor.staff_id)
    return inquiry


def transfer(
    session: Session, actor: Actor, ref: str, department: str, note: str, now: datetime
) -> Inquiry:
    """Send an inquiry to another department; it is unclaimed there and keeps its place in time.

    Raises `InvalidError` for an unknown department, `ConflictError` when closed or held by another.
    """
    inquiry = get(session, actor, ref)
    require_open(inquiry)
    require_holder(session, actor, inquiry)
    target = session.get(Department, department)
    if target is None or not target.active:
        raise InvalidError(f"There is no department «{department}».")
    if inquiry.department == department:
        raise InvalidError("The inquiry is already with that department.")
    move(session, actor, inquiry, department, "transferred", note, now)
    return inquiry


def hand_back(session: Session, actor: Actor, ref: str, reason: str, now: datetime) -> Inquiry:
    """Return an inquiry to the switchboard («ikke vårt»), with the reason shown there."""
    inquiry = get(session, actor, ref)
    require_open(inquiry)
    require_holder(session, actor, inquiry)
    if not reason.strip():
        raise InvalidError("Say why it is returned, so that the switchboard can send it on.")
    if inquiry.department == SWITCHBOARD:
        raise InvalidError("The inquiry is already with the switchboard.")
    move(session, actor, inquiry, SWITCHBOARD, "returned", reason, now)
    return inquiry


def note(
    session: Session, actor: Actor, ref: str, body: str, now: datetime, *, key: str = ""
) -> Inquiry:
    """Write an internal note. Anyone who sees the inquiry may. The same `key` once
    more changes nothing."""
    inquiry = get(session, actor, ref)
    if not body.strip():
        raise InvalidError("The note is empty.")
    known = select(col(Message.id)).where(
        col(Message.channel) == "note", col(Message.external_id) == key
    )
    if key and session.execute(known).first() is not None:
        return inquiry
    add_note(session, actor, inquiry, body, now, key)
    events.tell(session, "noted", inquiry, now, staff_id=actor.staff_id)
    return inquiry


def close(
    session: Session,
    actor: Actor,
    ref: str,
    now: datetime,
    version: int | None = None,
    outcome: str = "",
    key: str = "",
) -> Inquiry:
    """Close an inquiry. Closing twice changes nothing.

    `version` is what the actor saw; a newer one (a new message came) raises `ConflictError`.
    `outcome` is what became of it, `key` what it was asked by, for the history.
    """
    inquiry = get(session, actor, ref)
    if inquiry.status is InquiryStatus.CLOSED:
        return inquiry
    require_holder(session, actor, inquiry)
    require_version(inquiry, version)
    with counted(session, inquiry):
        inquiry.status = InquiryStatus.CLOSED
        inquiry.closed_at = now
        inquiry.assignee_id = None
        inquiry.version += 1
    data = {name: value for name, value in (("outcome", outcome), ("key", key)) if value}
    events.tell(session, "closed", inquiry, now, staff_id=actor.staff_id, data=data)
    return inquiry


def reopen(session: Session, actor: Actor, ref: str, now: datetime) -> Inquiry:
    """Open a closed inquiry again, or bring one that lies aside to the queue, with its old dates.
    Reopening twice changes nothing."""
    inquiry = get(session, actor, ref)
    if inquiry.status is InquiryStatus.OPEN:
        return inquiry
    before = inquiry.status.value
    with counted(session, inquiry):
        inquiry.status = InquiryStatus.OPEN
        inquiry.closed_at = None
        inquiry.version += 1
    events.tell(session, "reopened", inquiry, now, staff_id=actor.staff_id, data={"from": before})
    return inquiry


def acknowledge_emergency(session: Session, actor: Actor, ref: str, now: datetime) -> Inquiry:
    """Say that somebody has seen the alarm; the inquiry stays first in the queue until it is
    closed."""
    inquiry = get(session, actor, ref)
    if inquiry.emergency and inquiry.emergency_seen_at is None:
        inquiry.emergency_seen_at = now
        events.tell(session, "emergency_seen", inquiry, now, staff_id=actor.staff_id)
    return inquiry


def unseen_emergencies(session: Session, actor: Actor, now: datetime) -> list[QueueRow]:
    """Inquiries whose emergency alarm nobody has acknowledged, closed ones of `ALARM_DAYS` too."""
    still_open, closed = queue_sql.unseen_emergencies(actor.departments)
    rows = _rows(session, still_open, {"limit": ALARM_LIMIT})
    since = now - timedelta(days=ALARM_DAYS)
    rows += _rows(session, closed, {"limit": ALARM_LIMIT, "since": since})
    return rows[:ALARM_LIMIT]


def alarm_words(session: Session, rows: Sequence[QueueRow]) -> dict[int, str]:
    """Inquiry id -> the words of the rules that raised the alarm, where a later message did."""
    if not rows:
        return {}
    query = (
        select(col(Event.inquiry_id), col(Event.data))
        .where(col(Event.inquiry_id).in_([row.id for row in rows]), col(Event.kind) == "emergency")
        .order_by(col(Event.id))
    )
    found = {number: str(data.get("words", "")) for number, data in session.execute(query)}
    return {number: words for number, words in found.items() if words}


def signs(session: Session, rows: Sequence[QueueRow]) -> dict[int, Signs]:
    """What there is to know of inquiries beside their rows, by id; of most there is nothing."""
    if not rows:
        return {}
    also: dict[int, list[str]] = {}
    failed = set()
    ids = [row.id for row in rows]
    for inquiry_id, department in session.connection().execute(queue_sql.BESIDE, {"ids": ids}):
        if department:
            also.setdefault(inquiry_id, []).append(department)
        else:
            failed.add(inquiry_id)
    news = _with_news(session, [row for row in rows if _written_again(row)])
    return {
        number: Signs(tuple(sorted(also.get(number, ()))), number in news, number in failed)
        for number in also.keys() | failed | news
    }


def news(session: Session, actor: Actor) -> list[QueueRow]:
    """What the actor holds and the resident has written in since the actor did something with it,
    the latest first."""
    if actor.staff_id is None:
        return []
    values = {"staff_id": actor.staff_id, "limit": NEWS_LIMIT}
    held = _rows(session, queue_sql.HELD_UNANSWERED, values)
    new = _with_news(session, held)
    return [row for row in held if row.id in new]


def see_news(session: Session, actor: Actor, ref: str, now: datetime) -> None:
    """Write down that whoever holds the inquiry has seen the resident's latest message."""
    inquiry = get(session, actor, ref)
    if inquiry.assignee_id == actor.staff_id:
        events.tell(session, "message_seen", inquiry, now, staff_id=actor.staff_id)


def _written_again(row: QueueRow) -> bool:
    return (
        row.status is InquiryStatus.OPEN
        and row.answered_at is None
        and row.last_message_at > row.received_at
        and row.lane != Lane.LIVE
    )


def _with_news(session: Session, rows: Sequence[QueueRow]) -> set[int]:
    if not rows:
        return set()
    ids = {"ids": [row.id for row in rows]}
    return set(session.connection().execute(queue_sql.WITH_NEWS, ids).scalars())


def require_holder(session: Session, actor: Actor, inquiry: Inquiry) -> None:
    """Raise `ConflictError` when somebody else holds the inquiry."""
    if inquiry.assignee_id is not None and inquiry.assignee_id != actor.staff_id:
        raise held_by(session, inquiry)


def require_open(inquiry: Inquiry) -> None:
    """Raise `ConflictError` when the inquiry is not in the queue."""
    if inquiry.status is InquiryStatus.ASIDE:
        raise ConflictError("The inquiry lies aside. Move it to the queue first.")
    if inquiry.status is not InquiryStatus.OPEN:
        raise ConflictError("The inquiry is closed. Reopen it first.")


def require_version(inquiry: Inquiry, version: int | None) -> None:
    """Raise `ConflictError` when the inquiry changed after the actor read it."""
    if version is not None and version != inquiry.version:
        raise ConflictError("The inquiry has changed since you opened it. Read it again first.")


def held_by(session: Session, inquiry: Inquiry) -> ConflictError:
    """The error that names who holds an inquiry."""
    holder = session.get(Staff, inquiry.assignee_id) if inquiry.assignee_id else None
    name = holder.name if holder else ""
    return ConflictError(f"{name or 'Somebody else'} holds this inquiry.", holder=name)


def person(actor: Actor) -> int:
    """Whose inquiry it becomes. Raises `InvalidError` for a token that is nobody's."""
    if actor.staff_id is None:
        raise InvalidError("This token belongs to no person, so it cannot hold an inquiry.")
    return actor.staff_id


def move(
    session: Session,
    actor: Actor,
    inquiry: Inquiry,
    department: str,
    kind: str,
    why: str,
    now: datetime,
    *,
    to: Staff | None = None,
) -> None:
    """Let another department answer, or a person `to` in the same or another one. What it was is
    written down as a decision, a note and the event `kind`."""
    source = inquiry.department
    also: list[str] = []
    with counted(session, inquiry):
        if department != source:
            # Whoever decides where it belongs decides who sees it, too.
            gone = delete(_A).where(_A.c.inquiry_id == inquiry.id).returning(_A.c.department)
            also = sorted(session.connection().execute(gone).scalars())
        inquiry.department = department
        inquiry.assignee_id = to.id if to is not None else None
        inquiry.version += 1
    names = dict(
        session.connection()
        .execute(
            select(col(Department.slug), col(Department.name_nb)).where(
                col(Department.slug).in_([source, department])
            )
        )
        .all()
    )
    if to is not None:
        sentence = f"{actor.name} ga henvendelsen til {to.name}"
        sentence += f", {names[department]}" if department != source else ""
    else:
        verb = "sendte videre" if kind == "transferred" else "sendte tilbake"
        sentence = f"{actor.name} {verb} fra {names[source]} til {names[department]}"
    session.connection().execute(
        insert(DecisionRecord.__table__),  # type: ignore[attr-defined]
        {
            "inquiry_id": inquiry.id,
            "at": now,
            "department": department,
            "rule": "",
            "reason": kind,
            "reason_text": f"{sentence}.",
            "ruleset": "",
            "staff_id": actor.staff_id,
            "trace": {},
            "presence": {},
        },
    )
    if why.strip():
        add_note(session, actor, inquiry, why, now)
    events.tell(
        session,
        kind,
        inquiry,
        now,
        staff_id=actor.staff_id,
        data={"from_department": source, "from_also": also}
        | ({"person": to.username} if to is not None else {}),
    )


def add_note(
    session: Session, actor: Actor, inquiry: Inquiry, body: str, now: datetime, key: str = ""
) -> None:
    """Put a note into the thread; nobody is told of it by itself."""
    session.add(
        Message(
            inquiry_id=inquiry.id or 0,
            channel="note",
            external_id=key or secrets.token_hex(16),
            direction=Direction.NOTE,
            kind="note",
            sender_name=actor.name,
            text=body.strip(),
            at=now,
            staff_id=actor.staff_id,
        )
    )


def _latest_first(instant: datetime | None, number: int) -> tuple[float, int]:
    return -(instant.timestamp() if instant is not None else 0.0), -number


_SORTED: dict[str, Callable[[QueueRow], Any]] = {
    "open": lambda row: (row.lane, row.sort_at, row.received_at, row.id),
    "closed": lambda row: _latest_first(row.closed_at, row.id),
    "aside": lambda row: _latest_first(row.received_at, row.id),
}


def _rows(session: Session, query: Any, values: Mapping[str, Any] | None = None) -> list[QueueRow]:
    found: list[Any] = list(session.connection().execute(query, values))
    return [
        # Whoever holds nothing has no name: the two columns of the outer join are then NULL.
        QueueRow(*(*values[:11], values[11] or "", values[12] or "", *values[13:]))
        for values in found
    ]


def _cursor(last: QueueRow) -> str:
    if last.status is InquiryStatus.OPEN:
        return cursors.write("open", last.lane, last.sort_at, last.received_at, last.id)
    if last.status is InquiryStatus.ASIDE:
        return cursors.write("aside", last.received_at, last.id)
    return cursors.write("closed", last.closed_at, last.id)
