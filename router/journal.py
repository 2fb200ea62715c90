"""Arrivals: raw bytes and envelope, committed before the door answers. From here on nothing can be
lost.

An arrival that cannot be processed is `parked`: visible on the desk, readable, and it can be run
again.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col

from channels.base import Disposition, RawArrival, TemporaryError
from channels.email.identity import is_undated
from router.blobs import put_blob, read_blob
from router.errors import NotFoundError, StoreUnavailableError
from router.models import Arrival, ArrivalState

if TYPE_CHECKING:
    from pathlib import Path

    from router.db import Database

INLINE_LIMIT = 256 * 1024
"""Bytes of raw content kept in the row itself; more goes to a blob file."""

DUPLICATE_WINDOW = timedelta(days=5)
"""The same delivery again within this time is a retry (RFC 5321 §4.5.4.1: senders give up after
4-5 days);
later it is somebody sending the same text once more."""

UNDATED_WINDOW = timedelta(hours=1)
"""For mail with neither Message-ID nor date, as pumps and scanners send: two alarms look the
same."""

_TABLE: Any = Arrival.__table__  # type: ignore[attr-defined]


async def append(db: Database, blobs: Path, arrival: RawArrival) -> tuple[Disposition, int]:
    """Journal one arrival; returns after the commit with its id.

    Raises `TemporaryError` when it could not be kept: the sender keeps it and tries again.
    """
    try:
        blob = ""
        if len(arrival.raw) > INLINE_LIMIT:
            blob = await asyncio.to_thread(put_blob, blobs, arrival.raw)
        return await db.write(lambda session: insert(session, arrival, blob))
    except (OSError, StoreUnavailableError) as error:
        raise TemporaryError from error


def insert(session: Session, arrival: RawArrival, blob: str = "") -> tuple[Disposition, int]:
    """Write the row unless this delivery is already there; the unique index decides."""
    row = {
        "channel": arrival.channel,
        "external_id": arrival.external_id,
        "received_at": arrival.received_at,
        "envelope": dict(arrival.envelope),
        "raw": None if blob else arrival.raw,
        "blob": blob,
        "size": len(arrival.raw),
        "state": ArrivalState.NEW,
        "attempts": 0,
        "error": "",
    }
    connection = session.connection()
    statement = _insert_once(connection.dialect.name)
    inserted = connection.execute(statement, row).scalar()
    if inserted is not None:
        return Disposition.ACCEPTED, inserted
    latest = connection.execute(
        select(_TABLE.c.id, _TABLE.c.received_at)
        .where(_TABLE.c.channel == arrival.channel, same_key(_TABLE.c, arrival.external_id))
        .order_by(_TABLE.c.id.desc())
        .limit(1)
    ).one()
    if arrival.received_at - latest.received_at <= _window(arrival):
        return Disposition.DUPLICATE, latest.id
    row["external_id"] = later_key(arrival.external_id, arrival.received_at)
    return Disposition.ACCEPTED, connection.execute(statement, row).scalar_one()


def later_key(external_id: str, at: datetime) -> str:
    """The key of the same content once more, long after."""
    return f"{external_id}:{at.isoformat()}"


def same_key(columns: Any, external_id: str) -> Any:
    """The rows of one content, first and later ones; `;` follows `:` in every collation we use."""
    return or_(
        columns.external_id == external_id,
        and_(columns.external_id > f"{external_id}:", columns.external_id < f"{external_id};"),
    )


def _window(arrival: RawArrival) -> timedelta:
    undated = arrival.channel == "email" and is_undated(arrival.raw)
    return UNDATED_WINDOW if undated else DUPLICATE_WINDOW


@cache
def _insert_once(dialect: str) -> Any:
    """Built once: it is carried out for every contact."""
    insert_into = sqlite.insert if dialect == "sqlite" else postgresql.insert
    return insert_into(_TABLE).on_conflict_do_nothing().returning(_TABLE.c.id)


def raw_of(arrival: Arrival, blobs: Path) -> bytes:
    """The bytes as they came, wherever they are kept."""
    return read_blob(blobs, arrival.blob) if arrival.blob else (arrival.raw or b"")


def waiting(session: Session, after: int = 0, limit: int = 500) -> list[int]:
    """Ids of arrivals that nobody has processed yet, oldest first."""
    return list(
        session.connection()
        .execute(
            select(_TABLE.c.id)
            .where(_TABLE.c.state == ArrivalState.NEW, _TABLE.c.id > after)
            .order_by(_TABLE.c.id)
            .limit(limit)
        )
        .scalars()
    )


def get(session: Session, arrival_id: int) -> Arrival:
    """One arrival. Raises `NotFoundError`."""
    arrival = session.get(Arrival, arrival_id)
    if arrival is None:
        raise NotFoundError
    return arrival


def parked(session: Session, limit: int = 200) -> list[Arrival]:
    """Arrivals that a person must look at, oldest first."""
    query = (
        select(Arrival)
        .where(col(Arrival.state) == ArrivalState.PARKED)
        .order_by(col(Arrival.id))
        .limit(limit)
    )
    return list(session.execute(query).scalars())


def count_parked(session: Session) -> int:
    """How many arrivals are parked."""
    query = select(func.count()).where(_TABLE.c.state == ArrivalState.PARKED)
    return session.connection().execute(query).scalar_one()


def oldest_waiting(session: Session) -> datetime | None:
    """When the oldest unprocessed arrival came, for the alarm and `/readyz`."""
    query = select(func.min(_TABLE.c.received_at)).where(_TABLE.c.state == ArrivalState.NEW)
    return session.connection().execute(query).scalar()


def park(session: Session, arrival_id: int, error: str, now: datetime) -> None:
    """Set an arrival aside for a person, with the reason."""
    session.connection().execute(
        update(_TABLE)
        .where(_TABLE.c.id == arrival_id, _TABLE.c.state == ArrivalState.NEW)
        .values(
            state=ArrivalState.PARKED,
            error=error[:500],
            attempts=_TABLE.c.attempts + 1,
            processed_at=now,
        )
    )


def retry(session: Session, arrival_id: int) -> None:
    """Put a parked arrival back in line. Raises `NotFoundError` when it is not parked."""
    changed = session.connection().execute(
        update(_TABLE)
        .where(_TABLE.c.id == arrival_id, _TABLE.c.state == ArrivalState.PARKED)
        .values(state=ArrivalState.NEW, error="", processed_at=None, alarmed_at=None)
    )
    if not changed.rowcount:
        raise NotFoundError("This arrival is not parked.")
