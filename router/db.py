"""The store: one writer thread with group commit, and read-only connections for views.

Every write of every part is a job handed to the writer: it runs inside one transaction together
with up to
`BATCH` others, each in its own savepoint, and its future resolves only after the COMMIT. That
makes an fsynced
write cost about a millisecond however many arrive at once, and leaves exactly one checkpointer
(SQLite before
3.51.3 can corrupt its WAL with two). What differs between databases lives in this module alone.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

import orjson
import structlog
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    ProgrammingError,
    SQLAlchemyError,
)
from sqlalchemy.pool import NullPool, QueuePool
from sqlmodel import Session

from router.errors import StoreUnavailableError

if TYPE_CHECKING:
    from types import ModuleType

T = TypeVar("T")
Job = Callable[[Session], T]
A = TypeVar("A")
Together = Callable[[Connection, Sequence[A]], Sequence[T]]
"""A write that is done for many at once: one result for each argument, in order."""

log = structlog.get_logger(__name__)

BATCH = 256
QUEUE_LIMIT = 10_000
PULSE_SECONDS = 0.02
"""After a commit of patient writes, those that come within this time make one commit."""
SAFE_SQLITE = (3, 51, 3)
"""First SQLite without the WAL-reset fault (sqlite.org/wal.html, "the WAL-reset bug")."""

_WRITER_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    # FULL: a commit survives a power cut. NORMAL may lose the last ones, after a 250 was said.
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA busy_timeout=10000",
    "PRAGMA cache_size=-65536",
    "PRAGMA temp_store=MEMORY",
    "PRAGMA journal_size_limit=67108864",
    "PRAGMA secure_delete=ON",
)


def sqlite_module() -> ModuleType:
    """`pysqlite3` (bundles a SQLite without the WAL-reset fault) where it has a wheel, else the
    system's."""
    try:
        return importlib.import_module("pysqlite3")
    except ImportError:
        return sqlite3


def sqlite_version() -> tuple[int, ...]:
    """The version of the SQLite library in use."""
    return tuple(int(part) for part in sqlite_module().sqlite_version.split("."))


def _dumps(value: object) -> str:
    return orjson.dumps(value).decode()


def writer_engine(url: str) -> Engine:
    """Engine whose connections may write; also used by migrations."""
    parsed = make_url(url)
    options: dict[str, Any] = {
        "json_serializer": _dumps,
        "json_deserializer": orjson.loads,
        "hide_parameters": True,
        "poolclass": NullPool,
    }
    if parsed.get_backend_name() != "sqlite":
        return create_engine(parsed, **options)
    engine = create_engine(
        parsed, module=sqlite_module(), connect_args={"check_same_thread": False}, **options
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        # Autocommit mode: the driver must not begin transactions of its own, see `begin` below.
        connection.isolation_level = None
        for pragma in _WRITER_PRAGMAS:
            connection.execute(pragma)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def reader_engine(url: str, pool_size: int = 8) -> Engine:
    """Engine whose connections cannot write, so that views can never hold the writer up."""
    parsed = make_url(url)
    options: dict[str, Any] = {
        "json_serializer": _dumps,
        "json_deserializer": orjson.loads,
        "hide_parameters": True,
        "poolclass": QueuePool,
        "pool_size": pool_size,
        "max_overflow": 40,
    }
    if parsed.get_backend_name() != "sqlite":
        return create_engine(parsed, execution_options={"postgresql_readonly": True}, **options)
    # mode=ro, not query_only: a query_only connection that closes last still checkpoints the WAL.
    uri = parsed.set(database=f"file:{parsed.database}").update_query_dict(
        {"mode": "ro", "uri": "true"}
    )
    engine = create_engine(
        uri, module=sqlite_module(), connect_args={"check_same_thread": False}, **options
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        for pragma in ("busy_timeout=10000", "cache_size=-16384", "temp_store=MEMORY"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # One snapshot per read session: a page never shows two states of the store.
        connection.exec_driver_sql("BEGIN")

    return engine


@dataclass(slots=True, eq=False)
class _Queued:
    future: Future[Any] | asyncio.Future[Any]
    job: Job[Any] | None = None
    together: Together[Any, Any] | None = None
    argument: Any = None
    patient: bool = False
    """Whether it may wait a moment for others."""
    alone: bool = False
    """Whether a write for many failed with this one among them."""
    result: Any = None
    error: BaseException | None = None

    def settle(self) -> None:
        """Tell whoever asked for the write; in the loop's thread for an asyncio future."""
        if isinstance(self.future, Future):
            if not self.future.set_running_or_notify_cancel():
                return
        elif self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


@dataclass(slots=True)
class WriterStats:
    """What the writer has done since the start."""

    jobs: int = 0
    commits: int = 0
    failed_commits: int = 0
    failed_jobs: int = field(default=0)
    failing: bool = False
    """Whether the store refused the last write, and no later one has shown that it can write."""


class Database:
    """The store as the rest of the hall sees it: `await write(job)`, `with read() as session`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.stats = WriterStats()
        self._writer_engine = writer_engine(url)
        self._reader_engine = reader_engine(url)
        self._jobs: queue.SimpleQueue[_Queued | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._stopping = False
        # Held while a job is queued, so that none slips in behind the end.
        self._gate = threading.Lock()
        self._listeners: list[Callable[[], None]] = []

    def start(self) -> None:
        """Open the writing connection and start its thread."""
        if self._thread is not None:
            return
        connection = self._writer_engine.connect()
        self._thread = threading.Thread(
            target=self._run, args=(connection,), name="store-writer", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Run what is queued, commit, checkpoint, close."""
        if self._thread is not None:
            with self._gate:
                self._stopping = True
                self._jobs.put(None)
            self._thread.join()
            self._thread = None
        self._reader_engine.dispose()
        self._writer_engine.dispose()

    @property
    def shared(self) -> bool:
        """Whether other services may work on the same store at the same time."""
        return make_url(self.url).get_backend_name() != "sqlite"

    @property
    def alive(self) -> bool:
        """Whether writes are being carried out."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def backlog(self) -> int:
        """Jobs waiting for the writer."""
        return self._jobs.qsize()

    def on_commit(self, listener: Callable[[], None]) -> None:
        """Call `listener` (from the writer's thread) after each commit; a wake-up, not a
        message."""
        self._listeners.append(listener)

    def submit(self, job: Job[T]) -> Future[T]:
        """Queue a write. The future resolves after the COMMIT that holds it.

        Raises `StoreUnavailableError` when too many writes are waiting or the writer has stopped.
        """
        future: Future[T] = Future()
        self._enqueue(_Queued(future, job))
        return future

    async def write(self, job: Job[T], *, patient: bool = False) -> T:
        """Carry out a write. A cancelled caller does not undo it: jobs are idempotent by key.

        `patient`: where many come one after the other, each may wait a moment for the next ones;
        whatever else is to be written ends that moment.
        """
        # Not shielded: to cancel the future keeps nothing from being carried out (`_Queued.settle`
        # passes over it), and a shield costs each write two more turns of the loop.
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._enqueue(_Queued(future, job, patient=patient))
        return await future

    async def write_together(
        self, together: Together[A, T], argument: A, *, patient: bool = False
    ) -> T:
        """Carry out a write that many ask for at the same time: all of a batch in one call.

        When that call fails, each is tried alone, so that only what is to blame fails. `patient`:
        as in `write`.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._enqueue(_Queued(future, None, together, argument, patient))
        return await future

    def _enqueue(self, queued: _Queued) -> None:
        with self._gate:
            if self._stopping or not self.alive or self.backlog >= QUEUE_LIMIT:
                raise StoreUnavailableError
            self._jobs.put(queued)

    def write_sync(self, job: Job[T]) -> T:
        """`write` for threads that have no event loop."""
        return self.submit(job).result()

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session on one consistent snapshot; it cannot write."""
        with Session(self._reader_engine, autoflush=False) as session:
            yield session

    def _run(self, connection: Connection) -> None:
        pulse_ends = 0.0
        try:
            while True:
                first = self._jobs.get()
                if first is None:
                    break
                batch = [first]
                patient = first.patient
                closing = False
                while len(batch) < BATCH:
                    rest = pulse_ends - monotonic() if patient else 0.0
                    try:
                        item = self._jobs.get(timeout=rest) if rest > 0 else self._jobs.get_nowait()
                    except queue.Empty:
                        break
                    if item is None:
                        closing = True
                        break
                    batch.append(item)
                    patient = patient and item.patient
                self._commit(connection, batch)
                if patient:
                    pulse_ends = monotonic() + PULSE_SECONDS
                if closing:
                    break
            self._checkpoint(connection)
            connection.close()
        except BaseException:
            # A dead writer must never look alive: the process ends and is started again.
            log.critical("store.writer_died", exc_info=True)
            os._exit(70)

    def _commit(self, connection: Connection, batch: list[_Queued]) -> None:
        todo = batch
        try:
            while (spoilt := self._carry_out(connection, todo)) is not None:
                # The others are carried out anew, without them.
                todo = [queued for queued in todo if queued not in spoilt]
        except Exception as error:  # noqa: BLE001 - the whole batch is answered with it
            self.stats.failed_commits += 1
            self.stats.failing = True
            log.error("store.commit_failed", error=type(error).__name__, jobs=len(todo))
            connection.rollback()
            # A COMMIT that was refused leaves the transaction open, unknown to SQLAlchemy.
            connection.connection.rollback()
            for queued in todo:
                queued.error = StoreUnavailableError()
            _settle(batch)
            return
        self.stats.commits += 1
        self.stats.jobs += len(batch)
        failed = [queued for queued in batch if queued.error is not None]
        self.stats.failed_jobs += len(failed)
        if refused := [queued for queued in failed if _of_the_store(queued.error)]:
            self.stats.failing = True
            log.error("store.write_refused", error=str(refused[0].error), jobs=len(refused))
            for queued in refused:
                queued.error = StoreUnavailableError()
        elif self.stats.failing:
            self.stats.failing = not self._can_write(connection)
        _settle(batch)
        for listener in self._listeners:
            listener()

    def _carry_out(self, connection: Connection, batch: list[_Queued]) -> list[_Queued] | None:
        """Run jobs in one transaction; returns those that ended it before its time, if any did.

        A flush that fails rolls everything back, as does SQLite when the disk is full. Savepoints
        that the session knows of would hold that up, but cost every job as much as its work.
        """
        with connection.begin() as transaction:
            for members in _units(batch):
                if self._attempt(connection, members):
                    continue
                if transaction.is_active:
                    transaction.rollback()
                if len(members) == 1:
                    return members
                for queued in members:
                    queued.alone = True
                return []
        return None

    @classmethod
    def _attempt(cls, connection: Connection, members: list[_Queued]) -> bool:
        """Run one job, or one write for many; whether the transaction still stands."""
        connection.exec_driver_sql("SAVEPOINT job")
        try:
            results = _run(connection, members)
        except Exception as error:  # noqa: BLE001 - handed to whoever asked for the write
            members[0].error = error
            try:
                connection.exec_driver_sql("ROLLBACK TO SAVEPOINT job")
                connection.exec_driver_sql("RELEASE SAVEPOINT job")
            except SQLAlchemyError:
                return False
            return len(members) == 1 or all(cls._attempt(connection, [one]) for one in members)
        connection.exec_driver_sql("RELEASE SAVEPOINT job")
        for queued, result in zip(members, results, strict=True):
            queued.result, queued.error = result, None
        return True

    @staticmethod
    def _can_write(connection: Connection) -> bool:
        """Try it: a job that changed nothing is committed even when the disk is full."""
        try:
            with connection.begin():
                if connection.dialect.name == "sqlite":
                    version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
                    connection.exec_driver_sql(f"PRAGMA user_version={int(version)}")
                else:
                    connection.exec_driver_sql("SELECT pg_current_xact_id()")
        except SQLAlchemyError:
            connection.rollback()
            connection.connection.rollback()
            return False
        return True

    def _checkpoint(self, connection: Connection) -> None:
        if connection.dialect.name == "sqlite":
            connection.connection.driver_connection.execute(  # type: ignore[union-attr]
                "PRAGMA wal_checkpoint(TRUNCATE)"
            )


def _units(batch: list[_Queued]) -> Iterator[list[_Queued]]:
    """What is run at a time: one job, or all that ask for the same write in a row."""
    for together, group in groupby(batch, key=lambda q: None if q.alone else q.together):
        members = list(group)
        if together is None:
            yield from ([queued] for queued in members)
        else:
            yield members


def _run(connection: Connection, members: list[_Queued]) -> Sequence[Any]:
    first = members[0]
    if first.together is not None:
        return first.together(connection, [queued.argument for queued in members])
    session = session_on(connection)
    result = first.job(session) if first.job is not None else None
    session.flush()
    session.expunge_all()
    return [result]


def session_on(connection: Connection) -> Session:
    """A session within the transaction of a write."""
    return Session(
        bind=connection,
        join_transaction_mode="rollback_only",
        autoflush=False,
        expire_on_commit=False,
    )


def _of_the_store(error: BaseException | None) -> bool:
    """Whether the store is to blame, not what was to be written or how."""
    if not isinstance(error, DBAPIError) or isinstance(
        error, (IntegrityError, DataError, ProgrammingError)
    ):
        return False
    # What others call a programming error is an operational one to SQLite's driver.
    return getattr(error.orig, "sqlite_errorcode", None) != sqlite3.SQLITE_ERROR


def _settle(batch: list[_Queued]) -> None:
    """Answer a batch, waking each event loop once, not once a write."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Queued]] = {}
    for queued in batch:
        if isinstance(queued.future, Future):
            queued.settle()
        else:
            by_loop.setdefault(queued.future.get_loop(), []).append(queued)
    for loop, mine in by_loop.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_settle_all, mine)


def _settle_all(batch: list[_Queued]) -> None:
    for queued in batch:
        queued.settle()


def ping(session: Session) -> None:
    """Raise when the store does not answer."""
    session.connection().execute(text("SELECT 1"))
