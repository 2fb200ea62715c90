"""The questions of the queue's lists, each built once and then asked with other values.

Building a statement takes SQLAlchemy longer than the store needs to answer it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    Integer,
    and_,
    bindparam,
    case,
    func,
    literal,
    or_,
    select,
    text,
    tuple_,
    union_all,
)

from channels.base import OutgoingKind
from router.models import Addressee, Event, Inquiry, OutboxItem, Staff
from rules.order import Lane

if TYPE_CHECKING:
    from router.queue import Filter

_I: Any = Inquiry.__table__  # type: ignore[attr-defined]
_A: Any = Addressee.__table__  # type: ignore[attr-defined]
_E: Any = Event.__table__  # type: ignore[attr-defined]
_O: Any = OutboxItem.__table__  # type: ignore[attr-defined]
_S: Any = Staff.__table__  # type: ignore[attr-defined]

_QUEUE_KEY = (_I.c.lane, _I.c.sort_at, _I.c.received_at, _I.c.id)
"""`rules.order.queue_key`, as the store sorts it."""

_SEARCHED = (_I.c.ref, _I.c.subject, _I.c.sender_name, _I.c.sender_address)

# Written out, not bound: the planner then sees that the partial index of open inquiries fits.
_IS_OPEN = text("inquiry.status = 'open'")
_IS_CLOSED = text("inquiry.status = 'closed'")
_IS_ASIDE = text("inquiry.status = 'aside'")

_LIMIT: Any = bindparam("limit", type_=Integer)

_BUILT = 512
"""How many statements are kept; the longest unused go first."""

ROWS: Any = select(
    _I.c.id,
    _I.c.ref,
    _I.c.channel,
    _I.c.kind,
    _I.c.status,
    _I.c.reply_state,
    _I.c.subject,
    _I.c.sender_name,
    _I.c.sender_address,
    _I.c.department,
    _I.c.assignee_id,
    _S.c.username,
    _S.c.name,
    _I.c.received_at,
    _I.c.due_at,
    _I.c.warn_at,
    _I.c.overdue_at,
    _I.c.answered_at,
    _I.c.closed_at,
    _I.c.lane,
    _I.c.sort_at,
    _I.c.language,
    _I.c.sensitivity,
    _I.c.emergency,
    _I.c.tags,
    _I.c.version,
    _I.c.last_message_at,
).select_from(_I.outerjoin(_S, _I.c.assignee_id == _S.c.id))
"""The fields of `queue.QueueRow`, in its order."""


@lru_cache(_BUILT)
def seen_by(departments: frozenset[str] | None) -> Any:
    """The inquiries that these departments answer or were addressed in as well."""
    if departments is None:
        return ROWS
    mine = sorted(departments)
    also = select(_A.c.inquiry_id).where(_A.c.department.in_(mine))
    return ROWS.where(or_(_I.c.department.in_(mine), _I.c.id.in_(also)))


@lru_cache(_BUILT)
def named(departments: frozenset[str] | None) -> Any:
    """The one of them with this `ref`."""
    return seen_by(departments).where(_I.c.ref == bindparam("ref"))


@lru_cache(_BUILT)
def listed(departments: frozenset[str] | None, wanted: Filter, part: str, continued: bool) -> Any:
    """One part of a list, of these departments; `continued` from a `place` on. Takes `limit`."""
    query = _of(departments)
    if wanted.department:
        query = query.where(_I.c.department == wanted.department)
    return _ordered(_narrowed(query, wanted), part, continued)


@lru_cache(_BUILT)
def listed_of(wanted: Filter, part: str, continued: bool) -> Any:
    """As `listed`, but of the inquiries with these `ids`, whatever their department."""
    query = ROWS.where(_I.c.id.in_(bindparam("ids", expanding=True)))
    return _ordered(_narrowed(query, wanted), part, continued)


def place(part: str, position: list[Any] | None) -> dict[str, Any]:
    """The values of a cursor's place, as `listed` takes them."""
    if position is None:
        return {}
    names = ("lane", "sort_at", "received_at", "id") if part == "open" else ("instant", "id")
    return {f"after_{name}": value for name, value in zip(names, position, strict=True)}


@lru_cache(_BUILT)
def shared_with(departments: frozenset[str]) -> Any:
    """Ids of inquiries of other departments in which these were addressed as well, the latest
    first. Takes `limit`."""
    mine = sorted(departments)
    return (
        select(_A.c.inquiry_id)
        .join(_I, _I.c.id == _A.c.inquiry_id)
        .where(_A.c.department.in_(mine), _I.c.department.not_in(mine))
        .order_by(_A.c.inquiry_id.desc())
        .limit(_LIMIT)
    )


@lru_cache(_BUILT)
def unseen_emergencies(departments: frozenset[str] | None) -> tuple[Any, Any]:
    """Alarms nobody has acknowledged: of open inquiries, and of those closed after `since`. Both
    take `limit`; apart from each other, so that each has an index of its own to read."""
    unseen = _of(departments).where(_I.c.lane == int(Lane.CRISIS), _I.c.emergency_seen_at.is_(None))
    lately = _I.c.closed_at > bindparam("since", type_=_I.c.closed_at.type)
    return (
        unseen.where(_IS_OPEN).order_by(*_QUEUE_KEY).limit(_LIMIT),
        unseen.where(_IS_CLOSED, lately).order_by(_I.c.closed_at).limit(_LIMIT),
    )


HELD_UNANSWERED: Any = (
    ROWS.where(
        _I.c.assignee_id == bindparam("staff_id"),
        _IS_OPEN,
        _I.c.answered_at.is_(None),
        _I.c.last_message_at > _I.c.received_at,
        _I.c.lane != int(Lane.LIVE),
    )
    .order_by(_I.c.last_message_at.desc())
    .limit(_LIMIT)
)
"""What somebody holds and the resident has written in again, the latest first. Takes `limit`."""

_IDS: Any = bindparam("ids", expanding=True)

WITH_NEWS: Any = (
    select(_E.c.inquiry_id)
    .join(_I, _I.c.id == _E.c.inquiry_id)
    .where(_E.c.inquiry_id.in_(_IDS))
    .group_by(_E.c.inquiry_id)
    .having(
        func.max(case((_E.c.kind == "message_in", _E.c.id)))
        > func.coalesce(func.max(case((_E.c.staff_id == _I.c.assignee_id, _E.c.id))), 0)
    )
)
"""Those of `ids` in which whoever holds the inquiry has done nothing since the latest message."""

BESIDE: Any = union_all(
    select(_A.c.inquiry_id, _A.c.department.label("also")).where(_A.c.inquiry_id.in_(_IDS)),
    select(_O.c.inquiry_id, literal("")).where(
        _O.c.inquiry_id.in_(_IDS),
        _O.c.kind.in_([OutgoingKind.RECEIPT.value, OutgoingKind.EMERGENCY.value]),
        text("outbox.state = 'failed'"),
    ),
)
"""Of inquiries with these `ids`: each department that was addressed as well, and an empty one for
each automatic letter that did not arrive."""


def _of(departments: frozenset[str] | None) -> Any:
    if departments is None:
        return ROWS
    return ROWS.where(_I.c.department.in_(sorted(departments)))


def _narrowed(query: Any, wanted: Filter) -> Any:
    if wanted.channel:
        query = query.where(_I.c.channel == wanted.channel)
    if wanted.assignee == "none":
        query = query.where(_I.c.assignee_id.is_(None))
    elif wanted.assignee:
        query = query.where(_S.c.username == wanted.assignee)
    for word in wanted.q.split()[:8]:
        query = query.where(or_(*(contains(column, word) for column in _SEARCHED)))
    return query


def contains(column: Any, word: str) -> Any:
    """A condition: whether a column holds a word, in whatever case.

    SQLite folds only ASCII, so a word with other letters is looked for as people write it.
    """
    spellings = {word} if word.isascii() else {word, word.lower(), word.upper(), word.capitalize()}
    return or_(
        *(
            column.ilike(
                "%" + w.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%",
                escape="\\",
            )
            for w in sorted(spellings)
        )
    )


def _ordered(query: Any, part: str, continued: bool) -> Any:
    """The rows of one part of the list, in its order."""
    if part == "open":
        query = query.where(_IS_OPEN)
        if continued:
            place = (bindparam(f"after_{key.name}", type_=key.type) for key in _QUEUE_KEY)
            # Spelled out for the planner: a row comparison with parameters reads the index from
            # here on.
            query = query.where(tuple_(*_QUEUE_KEY) > tuple_(*place))
        return query.order_by(*_QUEUE_KEY).limit(_LIMIT)
    column, status = (
        (_I.c.closed_at, _IS_CLOSED) if part == "closed" else (_I.c.received_at, _IS_ASIDE)
    )
    query = query.where(status)
    if continued:
        instant = bindparam("after_instant", type_=column.type)
        inquiry_id = bindparam("after_id", type_=_I.c.id.type)
        query = query.where(
            or_(column < instant, and_(column == instant, _I.c.id < inquiry_id)),
        )
    return query.order_by(column.desc(), _I.c.id.desc()).limit(_LIMIT)
