"""Arrivals: raw bytes and envelope, committed before the door answers. From here on nothing can be
lost.

An arrival that cannot be processed is `parked`: visible on the desk, readable, and it can be run
again.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, bindparam, func, or_, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col

from channels.base import Disposition, RawArrival, TemporaryError
from channels.email.identity import is_undated
from router.blobs import adopt_blob, blob_path, put_blob
from router.errors import NotFoundError, StoreUnavailableError
from router.models import Arrival, ArrivalContent, ArrivalState
from router.statements import Prepared, inserting

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sqlalchemy import Connection

    from router.db import Database

INLINE_LIMIT = 256 * 1024
"""Bytes of raw content kept in the store; more goes to a blob file."""

DUPLICATE_WINDOW = timedelta(days=5)
"""The same again within this time of the last one kept is a retry, or a delivery to another of our
addresses (RFC 5321 §4.5.4.1: senders give up after 4-5 days); later it is somebody sending the same
text once more."""

UNDATED_WINDOW = timedelta(hours=1)
"""The same for mail with neither Message-ID nor date, as pumps and scanners send: two alarms look
the same."""

PROVIDERS_KEYS = frozenset({"sms", "phone"})
"""Doors whose provider gives each text and call a key of its own: it never means another one."""

FOR_EVER = timedelta.max

_TABLE: Any = Arrival.__table__  # type: ignore[attr-defined]
_CONTENT: Any = ArrivalContent.__table__  # type: ignore[attr-defined]

# The state is written out, so that the planner uses the partial index.
_COUNT_PARKED = select(func.count()).select_from(_TABLE).where(text("arrival.state = 'parked'"))


async def append(db: Database, blobs: Path, arrival: RawArrival) -> tuple[Disposition, int]:
    """Journal one arrival; returns after the commit with its id.

    Raises `TemporaryError` when it could not be kept: the sender keeps it and tries again.
    """
    try:
        blob = None
        if arrival.spooled is not None:
            sha256 = arrival.spooled.sha256
            await asyncio.to_thread(adopt_blob, blobs, arrival.spooled.path, sha256)
            blob = blob_path(blobs, sha256)
        elif len(arrival.raw) > INLINE_LIMIT:
            blob = blob_path(blobs, await asyncio.to_thread(put_blob, blobs, arrival.raw))
        return await db.write_together(insert, Entry(arrival, blob))
    except (OSError, StoreUnavailableError) as error:
        raise TemporaryError from error


@dataclass(frozen=True, slots=True)
class Entry:
    """One arrival to be written, and the file of its content, where it has one."""

    arrival: RawArrival
    blob: Path | None = None


def insert(connection: Connection, entries: Sequence[Entry]) -> list[tuple[Disposition, int]]:
    """Write arrivals unless the delivery is already there; the unique index decides."""
    rows = [_row(entry) for entry in entries]
    made = _INSERT_ONCE.each(connection, rows)
    results = [
        (Disposition.ACCEPTED, answer[0]) if answer is not None else _again(connection, entry, row)
        for entry, row, answer in zip(entries, rows, made, strict=True)
    ]
    contents = [
        {"arrival_id": number, "raw": entry.arrival.raw}
        for entry, (disposition, number) in zip(entries, results, strict=True)
        if disposition is Disposition.ACCEPTED and entry.blob is None
    ]
    _INSERT_CONTENT.many(connection, contents)
    return results


def _row(entry: Entry) -> dict[str, Any]:
    arrival = entry.arrival
    return {
        "channel": arrival.channel,
        "external_id": arrival.external_id,
        "received_at": arrival.received_at,
        "envelope": arrival.envelope,
        "blob": entry.blob.name if entry.blob else "",
        "size": arrival.size,
        "state": ArrivalState.NEW,
        "attempts": 0,
        "error": "",
    }


def _again(connection: Connection, entry: Entry, row: dict[str, Any]) -> tuple[Disposition, int]:
    """The same content is here: a retry of the sender, or, long after, the same words once more."""
    arrival = entry.arrival
    latest = connection.execute(
        select(_TABLE.c.id, _TABLE.c.received_at)
        .where(_TABLE.c.channel == arrival.channel, same_key(_TABLE.c, arrival.external_id))
        .order_by(_TABLE.c.id.desc())
        .limit(1)
    ).one()
    if arrival.received_at - latest.received_at <= _window(entry):
        return Disposition.DUPLICATE, latest.id
    row["external_id"] = later_key(arrival.external_id, arrival.received_at)
    answer = _INSERT_ONCE.one(connection, row)
    if answer is None:
        return Disposition.DUPLICATE, latest.id
    return Disposition.ACCEPTED, answer[0]


def later_key(external_id: str, at: datetime) -> str:
    """The key of the same content once more, long after."""
    return f"{external_id}:{at.isoformat()}"


def same_key(columns: Any, external_id: str) -> Any:
    """The rows of one content, first and later ones; `;` follows `:` in every collation we use."""
    return or_(
        columns.external_id == external_id,
        and_(columns.external_id > f"{external_id}:", columns.external_id < f"{external_id};"),
    )


def duplicate_window(channel: str, *, undated: bool = False) -> timedelta:
    """How long the same again, a delivery or a message, is no new contact. One rule for the door
    and for intake; `undated` is mail that has neither Message-ID nor date."""
    if channel in PROVIDERS_KEYS:
        return FOR_EVER
    return UNDATED_WINDOW if undated else DUPLICATE_WINDOW


def _window(entry: Entry) -> timedelta:
    if entry.arrival.channel != "email":
        return duplicate_window(entry.arrival.channel)
    head = entry.arrival.raw
    if entry.blob:
        with entry.blob.open("rb") as file:
            head = file.read(INLINE_LIMIT)
    return duplicate_window("email", undated=is_undated(head))


def _insert_once(dialect: str) -> Any:
    insert_into = sqlite.insert if dialect == "sqlite" else postgresql.insert
    names = ("channel", "external_id", "received_at", "envelope", "blob", "size", "state")
    values: dict[str, Any] = {name: bindparam(name) for name in (*names, "attempts", "error")}
    return insert_into(_TABLE).values(values).on_conflict_do_nothing().returning(_TABLE.c.id)


_INSERT_ONCE = Prepared(_insert_once)
_INSERT_CONTENT = inserting(_CONTENT, "arrival_id raw")


def source(session: Session, arrival: Arrival, blobs: Path) -> bytes | Path:
    """The bytes as they came, or the file they lie in, which may be missing."""
    if arrival.blob:
        return blob_path(blobs, arrival.blob)
    content = session.get(ArrivalContent, arrival.id)
    return content.raw if content is not None else b""


def raw_of(session: Session, arrival: Arrival, blobs: Path) -> bytes:
    """The bytes as they came, wherever they are kept. Raises `FileNotFoundError`."""
    found = source(session, arrival, blobs)
    return found if isinstance(found, bytes) else found.read_bytes()


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
    return session.connection().execute(_COUNT_PARKED).scalar_one()


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
