"""What only one service at a time may do, where several work on one store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from router.models import Lease

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from sqlmodel import Session

_L: Any = Lease.__table__  # type: ignore[attr-defined]


def take(
    session: Session,
    name: str,
    holder: str,
    now: datetime,
    span: timedelta,
    *,
    alone: bool = False,
) -> str:
    """Take a free lease, or renew one's own. Returns the holder when that is another, else an empty
    string.

    `alone`: no other service can be at work on this store, so another holder is gone.
    """
    connection = session.connection()
    free = (_L.c.holder == holder) | (_L.c.until <= now) | alone
    taken = connection.execute(
        update(_L).where(_L.c.name == name, free).values(holder=holder, until=now + span)
    )
    if taken.rowcount:
        return ""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    made = connection.execute(
        dialect.insert(_L).on_conflict_do_nothing(),
        {"name": name, "holder": holder, "until": now + span},
    )
    if made.rowcount:
        return ""
    found = connection.execute(select(_L.c.holder).where(_L.c.name == name)).scalar()
    return str(found or "another service")


def release(session: Session, name: str, holder: str) -> None:
    """Give a lease up."""
    session.connection().execute(delete(_L).where(_L.c.name == name, _L.c.holder == holder))
