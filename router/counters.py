"""Numbers that are kept in the same transaction as what they count, and never counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from router.models import Counter, Inquiry, InquiryStatus

if TYPE_CHECKING:
    from sqlmodel import Session

_C: Any = Counter.__table__  # type: ignore[attr-defined]

# They are a few dozen: asking for all of them costs least.
_ALL = select(_C.c.name, _C.c.value).where(_C.c.value != 0)


def counts(session: Session, prefix: str) -> dict[str, int]:
    """Kept counters by the name after `prefix`, e.g. `open:` -> {"vei": 3}."""
    return {
        name.removeprefix(prefix): value
        for name, value in session.connection().execute(_ALL)
        if name.startswith(prefix)
    }


def queue_counts(session: Session) -> tuple[dict[str, int], dict[str, int]]:
    """Open and overdue inquiries by department."""
    found = session.connection().execute(_ALL).all()
    open_, overdue = (
        {name.removeprefix(prefix): value for name, value in found if name.startswith(prefix)}
        for prefix in ("open:", "overdue:")
    )
    return open_, overdue


def add_to_counters(session: Session, changes: dict[str, int]) -> None:
    """Add to kept counters; a missing one begins at zero."""
    rows = [{"name": name, "value": value} for name, value in changes.items() if value]
    if not rows:
        return
    connection = session.connection()
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(_C)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["name"], set_={"value": _C.c.value + statement.excluded.value}
        ),
        rows,
    )


def buckets(inquiry: Inquiry) -> list[str]:
    """The counters an inquiry stands in right now."""
    if inquiry.status is not InquiryStatus.OPEN:
        return []
    names = [f"open:{inquiry.department}"]
    if inquiry.overdue_at is not None and inquiry.answered_at is None:
        names.append(f"overdue:{inquiry.department}")
    return names


class counted:  # noqa: N801 - used as a verb: `with counted(session, inquiry):`
    """Keep the counters right around a change of status, department, answer or overdue mark."""

    def __init__(self, session: Session, inquiry: Inquiry) -> None:
        self._session = session
        self._inquiry = inquiry

    def __enter__(self) -> None:
        self._before = buckets(self._inquiry)

    def __exit__(self, *_error: object) -> None:
        changes: dict[str, int] = {}
        for names, step in ((self._before, -1), (buckets(self._inquiry), 1)):
            for name in names:
                changes[name] = changes.get(name, 0) + step
        add_to_counters(self._session, changes)
