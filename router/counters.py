"""Numbers that are kept in the same transaction as what they count, and never counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, select
from sqlalchemy.dialects import postgresql, sqlite

from router.models import Addressee, Counter, Inquiry, InquiryStatus
from router.statements import Prepared

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from sqlmodel import Session

_A: Any = Addressee.__table__  # type: ignore[attr-defined]
_C: Any = Counter.__table__  # type: ignore[attr-defined]

# They are a few dozen: asking for all of them costs least.
_ALL = select(_C.c.name, _C.c.value).where(_C.c.value != 0)


def _adding(dialect: str) -> Any:
    statement = (sqlite if dialect == "sqlite" else postgresql).insert(_C)
    return statement.values(name=bindparam("name"), value=bindparam("value")).on_conflict_do_update(
        index_elements=["name"], set_={"value": _C.c.value + statement.excluded.value}
    )


_ADD = Prepared(_adding)

_OTHERS = select(_A.c.department).where(_A.c.inquiry_id == bindparam("inquiry"))


def counts(session: Session, prefix: str) -> dict[str, int]:
    """Kept counters by the name after `prefix`, e.g. `open:` -> {"vei": 3}."""
    return {
        name.removeprefix(prefix): value
        for name, value in session.connection().execute(_ALL)
        if name.startswith(prefix)
    }


def queue_counts(session: Session) -> dict[str, int]:
    """All kept counters by name, for `count_of`."""
    return {row.name: row.value for row in session.connection().execute(_ALL)}


def count_of(kept: dict[str, int], what: str, departments: Collection[str] | None) -> int:
    """How many inquiries are `open` or `overdue`: those that these departments answer, and those
    in which they were addressed as well; of the whole house when `departments` is None."""
    total = 0
    for name, value in kept.items():
        kind, _, rest = name.partition(":")
        if kind == what and (departments is None or rest in departments):
            total += value
        elif kind == f"shared_{what}" and departments is not None:
            answering, _, others = rest.partition(":")
            if answering not in departments and not set(others.split("+")).isdisjoint(departments):
                total += value
    return total


def add_to_counters(session: Session, changes: dict[str, int]) -> None:
    """Add to kept counters; a missing one begins at zero."""
    rows = [{"name": name, "value": value} for name, value in changes.items() if value]
    if not rows:
        return
    _ADD.many(session.connection(), rows)


def buckets(inquiry: Inquiry, others: Collection[str] = ()) -> list[str]:
    """The counters an inquiry stands in right now; `others` are the departments that were
    addressed in it beside the one that answers."""
    if inquiry.status is not InquiryStatus.OPEN:
        return []
    overdue = inquiry.overdue_at is not None and inquiry.answered_at is None
    return counters_of(["open", "overdue"] if overdue else ["open"], inquiry.department, others)


def counters_of(kinds: Iterable[str], department: str, others: Collection[str]) -> list[str]:
    """The names of the counters of inquiries that one department answers, and in which `others`
    were addressed as well."""
    names = []
    for kind in kinds:
        names.append(f"{kind}:{department}")
        if others:
            names.append(f"shared_{kind}:{department}:{'+'.join(sorted(others))}")
    return names


class counted:  # noqa: N801 - used as a verb: `with counted(session, inquiry):`
    """Keep the counters right around a change of status, department, addressees, answer or overdue
    mark."""

    def __init__(self, session: Session, inquiry: Inquiry) -> None:
        self._session = session
        self._inquiry = inquiry

    def __enter__(self) -> None:
        self._before = self._buckets()

    def __exit__(self, *_error: object) -> None:
        changes: dict[str, int] = {}
        for names, step in ((self._before, -1), (self._buckets(), 1)):
            for name in names:
                changes[name] = changes.get(name, 0) + step
        add_to_counters(self._session, changes)

    def _buckets(self) -> list[str]:
        found = self._session.connection().execute(_OTHERS, {"inquiry": self._inquiry.id})
        return buckets(self._inquiry, found.scalars().all())
