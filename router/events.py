"""The append-only log of what happened, and the live stream that the desk and `/api/events` read.

The store is the truth: a commit only wakes the hub, which reads new rows by id and hands them to
the clients
that may see them. A client that falls behind is told to read everything anew; one that comes back
names the
last id it saw. SQLite's single writer commits in id order, so `id > last` misses nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import bindparam, func, select
from sqlalchemy.dialects import postgresql, sqlite

from router.models import Addressee, Event
from router.statements import inserting

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlmodel import Session

    from router.db import Database
    from router.models import Inquiry

log = structlog.get_logger(__name__)

_TABLE: Any = Event.__table__  # type: ignore[attr-defined]
_ADDRESSEE: Any = Addressee.__table__  # type: ignore[attr-defined]

_INSERT = inserting(_TABLE, "at kind inquiry_id department staff_id once data")

_AFTER = (
    select(
        _TABLE.c.id,
        _TABLE.c.kind,
        _TABLE.c.at,
        _TABLE.c.inquiry_id,
        _TABLE.c.department,
        _TABLE.c.staff_id,
        _TABLE.c.data,
    )
    .where(_TABLE.c.id > bindparam("last"))
    .order_by(_TABLE.c.id)
    .limit(bindparam("most"))
)
_ALSO = select(_ADDRESSEE.c.inquiry_id, _ADDRESSEE.c.department).where(
    _ADDRESSEE.c.inquiry_id.in_(bindparam("inquiries", expanding=True))
)

CLIENT_BUFFER = 256
"""Events a slow client may lag behind before it is told to reload."""

QUIET_SECONDS = 15.0

ELSEWHERE_SECONDS = 1.0
"""How often it is looked for what other processes have written: the command line, a second
service."""
PULSE_SECONDS = 0.02
"""Commits within this time are read in one go."""

RELOAD = "reload"
"""Kind of the event that tells a client to read everything anew."""


def record(
    session: Session,
    kind: str,
    *,
    at: datetime,
    inquiry_id: int | None = None,
    department: str = "",
    staff_id: int | None = None,
    once: str | None = None,
    data: dict[str, Any] | None = None,
) -> bool:
    """Append an event. With `once` (an idempotency key) the second call writes nothing and returns
    False.

    `data` holds codes, slugs and numbers; never text, names or addresses of residents.
    """
    row = {
        "kind": kind,
        "at": at,
        "inquiry_id": inquiry_id,
        "department": department,
        "staff_id": staff_id,
        "once": once,
        "data": data or {},
    }
    connection = session.connection()
    if once is None:
        _INSERT.many(connection, [row])
        return True
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    done = connection.execute(dialect.insert(_TABLE).on_conflict_do_nothing(), row)
    return bool(done.rowcount)


def tell(
    session: Session,
    kind: str,
    inquiry: Inquiry,
    at: datetime,
    *,
    staff_id: int | None = None,
    once: str | None = None,
    data: dict[str, Any] | None = None,
) -> bool:
    """`record` of something that happened to an inquiry, where it is now; its reference is told."""
    session.flush()
    return record(
        session,
        kind,
        at=at,
        inquiry_id=inquiry.id,
        department=inquiry.department,
        staff_id=staff_id,
        once=once,
        data={"ref": inquiry.ref, **(data or {})},
    )


def row(
    kind: str,
    inquiry_id: int,
    ref: str,
    department: str,
    at: datetime,
    data: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """What `tell` records, for `insert_rows`."""
    return {
        "kind": kind,
        "at": at,
        "inquiry_id": inquiry_id,
        "department": department,
        "staff_id": None,
        "once": None,
        "data": {"ref": ref, **(data or {})},
    }


def insert_rows(connection: Connection, rows: list[dict[str, Any]]) -> None:
    """Append events in bulk; each as `row` makes it."""
    _INSERT.many(connection, rows)


@dataclass(frozen=True, slots=True)
class LiveEvent:
    """One event as it goes to a client."""

    id: int
    kind: str
    at: datetime
    inquiry_id: int | None
    department: str
    staff_id: int | None
    data: dict[str, Any]
    also: frozenset[str] = frozenset()
    """Departments that were addressed in the inquiry beside the one that answers it."""


_EPOCH = datetime.fromtimestamp(0, UTC)

Visible = Callable[[LiveEvent], bool]


@dataclass(eq=False, slots=True)
class _Client:
    visible: Visible
    wants: Callable[[], bool]
    """Whether anything can concern it right now."""
    own: bool
    """A part of the service itself, no stream to somebody."""
    events: asyncio.Queue[LiveEvent] = field(
        default_factory=lambda: asyncio.Queue(maxsize=CLIENT_BUFFER)
    )
    overflowed: bool = False


class EventHub:
    """Fans new events out to the live streams of this process."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._clients: set[_Client] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self.last_id = 0

    @property
    def clients(self) -> int:
        """Open live streams."""
        return sum(not client.own for client in self._clients)

    async def start(self) -> None:
        """Begin to follow the event table."""
        self._loop = asyncio.get_running_loop()
        self.last_id = self._read_last_id()
        self._db.on_commit(self._notify)
        self._task = asyncio.create_task(self._follow(), name="event-hub")

    async def stop(self) -> None:
        """End all streams."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for client in self._clients:
            client.overflowed = True
            _offer(client, LiveEvent(self.last_id, RELOAD, _EPOCH, None, "", None, {}))

    def _notify(self) -> None:
        if self._loop is not None and not self._closed and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake.set)

    async def _follow(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(ELSEWHERE_SECONDS):
                    await self._wake.wait()
            if not self._wake.is_set() and not self._wanted():
                continue
            self._wake.clear()
            try:
                await self._fan_out()
            except Exception:
                log.exception("events.read_failed")
            await asyncio.sleep(PULSE_SECONDS)

    async def _fan_out(self) -> None:
        while True:
            if not self._wanted():
                last_id = await asyncio.to_thread(self._read_last_id)
                if not self._wanted():
                    self.last_id = last_id
                    return
            batch = await asyncio.to_thread(self._read_after, self.last_id)
            if not batch:
                return
            self.last_id = batch[-1].id
            for client in self._clients:
                for item in batch:
                    if client.visible(item):
                        _offer(client, item)

    def _wanted(self) -> bool:
        return any(client.wants() for client in self._clients)

    def _read_last_id(self) -> int:
        with self._db.read() as session:
            return session.connection().execute(select(func.max(_TABLE.c.id))).scalar() or 0

    def _read_after(self, last_id: int, limit: int = 1000) -> list[LiveEvent]:
        with self._db.read() as session:
            return read_after(session, last_id, limit)

    async def subscribe(
        self,
        visible: Visible,
        after: int | None = None,
        *,
        own: bool = False,
        wants: Callable[[], bool] = lambda: True,
    ) -> AsyncGenerator[LiveEvent | None, None]:
        """Yield events as they happen, `None` when 15 s have passed quietly (send a ping).

        `after` is the last id the client saw; what it missed comes first. `own`: a part of the
        service listens, which counts as no stream. Nothing is read for those alone for whom
        `wants` says that nothing can be visible. Ends when the service stops.
        """
        client = _Client(visible, wants, own)
        self._clients.add(client)
        try:
            if after is not None:
                missed = await asyncio.to_thread(self._read_after, after)
                if len(missed) >= CLIENT_BUFFER:
                    after = self.last_id
                    yield LiveEvent(after, RELOAD, _EPOCH, None, "", None, {})
                else:
                    for item in missed:
                        if visible(item):
                            yield item
                            after = item.id
            while not self._closed:
                try:
                    async with asyncio.timeout(QUIET_SECONDS):
                        item = await client.events.get()
                except TimeoutError:
                    yield None
                    continue
                if client.overflowed:
                    client.overflowed = False
                    # What still waits is older than what the client is about to read.
                    after = self.last_id
                    yield LiveEvent(after, RELOAD, _EPOCH, None, "", None, {})
                elif after is None or item.id > after:
                    yield item
        finally:
            self._clients.discard(client)


def read_after(session: Session, last_id: int, limit: int) -> list[LiveEvent]:
    """Events with a higher id, in order."""
    connection = session.connection()
    rows = connection.execute(_AFTER, {"last": last_id, "most": limit})
    found = [LiveEvent(*row) for row in rows]
    also: dict[int, set[str]] = {}
    ids = {event.inquiry_id for event in found if event.inquiry_id is not None}
    if ids:
        for number, department in connection.execute(_ALSO, {"inquiries": list(ids)}):
            also.setdefault(number, set()).add(department)
    return [
        replace(event, also=frozenset(also[event.inquiry_id]))
        if event.inquiry_id in also
        else event
        for event in found
    ]


def _offer(client: _Client, item: LiveEvent) -> None:
    if client.events.full():
        client.overflowed = True
        while not client.events.empty():
            client.events.get_nowait()
    client.events.put_nowait(item)
