"""From raw bytes to everything the store needs to know: parse, decide, date. Pure but for
attachment files.

Runs in worker processes, so that hostile or huge mail can neither stall the doors nor take the
service down:
each piece of work has a time limit, and a worker that dies costs only the arrivals it held.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import resource
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from zoneinfo import ZoneInfo

import orjson
from pebble import ProcessExpired, ProcessPool

from channels import web
from channels.chat import web as chat
from channels.email.authentication import NOBODY, Trust
from channels.email.parse import OwnAddresses
from channels.email.parse import parse as parse_email
from channels.phone import base as phone
from channels.phone import record
from router.blobs import put_blob
from router.errors import RouterError
from router.letters import moment_in_words
from rules.decide import Decision, decide
from rules.facts import Facts
from rules.targets import DueDate, reply_due

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from channels.base import Incoming
    from rules.calendar import WorkingCalendar
    from rules.ruleset import Ruleset
    from rules.targets import ReplyTarget

T = TypeVar("T")

DIALLED = frozenset({"phone", "sms"})
"""Channels on which our address is a number."""

TIME_LIMIT = 10.0
"""Seconds for one arrival; a batch gets one more for each further one."""

START_LIMIT = 60.0
"""Seconds for a worker to load the ruleset."""

ATTEMPTS = 2
"""Workers that are tried before the arrivals wait for better times."""

MEMORY_LIMIT = 2 * 1024**3
"""Address space of a worker, bytes."""


class UnreadableError(RouterError):
    """The arrival could not be read."""

    code = "unreadable"


class WorkerLostError(RouterError):
    """The worker took too long or too much memory, and was replaced."""

    code = "worker_lost"


@dataclass(frozen=True, slots=True)
class KeptFile:
    """An attachment after its bytes went to the blob folder."""

    filename: str
    content_type: str
    size: int
    sha256: str
    content_id: str
    inline: bool


@dataclass(frozen=True, slots=True)
class Work:
    """One arrival to be prepared."""

    arrival_id: int
    channel: str
    external_id: str
    received_at: datetime
    envelope: dict[str, Any]
    raw: bytes
    blob: Path | None = None
    """Where the content lies when it is too large to be handed around."""

    def content(self) -> bytes:
        """The bytes as they came. Raises `FileNotFoundError` when their file is gone."""
        return self.raw if self.blob is None else self.blob.read_bytes()


@dataclass(frozen=True, slots=True)
class Prepared:
    """One arrival, ready for the store: nothing slow or fallible is left to do."""

    arrival_id: int
    received_at: datetime
    incoming: Incoming
    files: tuple[KeptFile, ...]
    decision: Decision
    """Without its trace, which is written out already."""
    trace: bytes
    """JSON."""
    due: DueDate
    due_in_words: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why one arrival could not be prepared."""

    arrival_id: int
    error: str


@dataclass(frozen=True, slots=True)
class Workbench:
    """What preparing needs to know: our addresses, the ruleset, the calendar."""

    own: OwnAddresses
    ruleset: Ruleset
    calendar: WorkingCalendar
    targets: dict[str, ReplyTarget]
    blobs: Path
    hours: Mapping[str, WorkingCalendar]
    """Department slug -> when it is open."""
    trust: Trust = NOBODY
    """Whose word about senders and spam counts."""


class OpenAt(Mapping[str, bool]):
    """Department slug -> whether it is open at one moment; worked out only when a rule asks."""

    def __init__(self, hours: Mapping[str, WorkingCalendar], now: datetime) -> None:
        self._hours = hours
        self._now = now

    def __getitem__(self, department: str) -> bool:
        return self._hours[department].is_open(self._now)

    def __iter__(self) -> Iterator[str]:
        return iter(self._hours)

    def __len__(self) -> int:
        return len(self._hours)


class WorkbenchFactory(Protocol):
    """Builds the `Workbench` inside a worker; it must be importable there."""

    def __call__(self) -> Workbench:
        """Load ruleset and calendar."""


def prepare(workbench: Workbench, work: Work) -> Prepared:
    """Parse, decide and date one arrival. Attachments are written to the blob folder."""
    if work.channel == "email":
        incoming = parse_email(work.content(), work.envelope, workbench.own, workbench.trust)
    elif work.channel == web.CHANNEL:
        incoming = web.parse(work.content(), work.envelope, work.external_id)
    elif work.channel == chat.CHANNEL:
        incoming = chat.parse(work.content(), work.envelope, work.external_id)
    elif work.channel == phone.CHANNEL:
        incoming = record.incoming(record.read(work.content()))
    else:
        raise UnreadableError(f"No door is called «{work.channel}».")
    facts = facts_of(incoming, work.received_at, OpenAt(workbench.hours, work.received_at))
    decision = decide(workbench.ruleset, facts)
    due = reply_due(work.received_at, workbench.targets[decision.target], workbench.calendar)
    language = incoming.language or decision.language
    zone = ZoneInfo(workbench.calendar.timezone)
    return Prepared(
        arrival_id=work.arrival_id,
        received_at=work.received_at,
        incoming=replace(incoming, attachments=(), language=language),
        files=tuple(
            KeptFile(
                filename=file.filename,
                content_type=file.content_type,
                size=len(file.content),
                sha256=put_blob(workbench.blobs, file.content),
                content_id=file.content_id,
                inline=file.inline,
            )
            for file in incoming.attachments
        )
        + tuple(KeptFile(**file) for file in work.envelope.get("files", ())),
        decision=replace(decision, trace={}),
        trace=orjson.dumps(decision.trace),
        due=due,
        due_in_words=moment_in_words(due.due_at, zone, language),
    )


def facts_of(incoming: Incoming, now: datetime, open_departments: Mapping[str, bool]) -> Facts:
    """What the rules may look at of one message."""
    return Facts(
        channel=incoming.channel,
        now=now,
        recipients=incoming.recipients,
        sender=incoming.sender.value if incoming.sender else "",
        subject=incoming.subject,
        body=incoming.text,
        did=incoming.recipients[0] if incoming.channel in DIALLED and incoming.recipients else "",
        attachments=tuple(file.filename for file in incoming.attachments),
        open=open_departments,
    )


_workbench: Workbench | None = None


def _start_worker(factory: WorkbenchFactory) -> None:
    global _workbench
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    _workbench = factory()


def _prepare_batch(batch: Sequence[Work]) -> list[Prepared | Unreadable]:
    if _workbench is None:
        raise RuntimeError("the worker has no workbench")
    results: list[Prepared | Unreadable] = []
    for work in batch:
        try:
            results.append(prepare(_workbench, work))
        except FileNotFoundError:
            results.append(Unreadable(work.arrival_id, "its content is missing from the store"))
        except OSError:
            raise  # disk full and its kin: ours, not the arrival's; tried again later
        except Exception as error:  # noqa: BLE001 - one arrival must not take its neighbours along
            results.append(Unreadable(work.arrival_id, f"{type(error).__name__}"))
    return results


class Workshop:
    """The worker process. Killed and replaced when work takes too long or is not even begun."""

    def __init__(self, factory: WorkbenchFactory) -> None:
        self._factory = factory
        self._pool: ProcessPool | None = None
        self._ready: Future[int] = Future()
        # One piece of work waits at the worker's door, so that it need not wait for us in between.
        self._room = asyncio.Semaphore(2)
        self._promised = 0.0
        """Seconds that the work now at the worker may take."""
        self._open = False

    def start(self, *, now: bool = True) -> None:
        """Start the worker, which loads the ruleset while the service comes up; or have it started
        with the first work."""
        self._open = True
        self._room = asyncio.Semaphore(2)
        if now and self._pool is None:
            self._pool = self._hire()

    def stop(self) -> None:
        """End the worker; what it held stays in the journal. Takes a few seconds at most."""
        self._open = False
        pool, self._pool = self._pool, None
        if pool is not None:
            _dismiss(pool, self._ready)

    async def prepare(self, batch: Sequence[Work]) -> list[Prepared | Unreadable]:
        """Prepare arrivals in order. One that kills or stalls its worker comes back `Unreadable`.

        Raises `OSError` when files cannot be written now, `RuntimeError` when there is no worker.
        """
        try:
            return await self.run(_prepare_batch, batch, seconds=TIME_LIMIT + len(batch))
        except WorkerLostError:
            if len(batch) == 1:
                return [Unreadable(batch[0].arrival_id, "took too long or too much memory")]
        results: list[Prepared | Unreadable] = []
        for work in batch:
            results += await self.prepare([work])
        return results

    async def run(
        self, function: Callable[..., T], *args: object, seconds: float = TIME_LIMIT
    ) -> T:
        """Call an importable function in the worker: for whatever hostile content could stall.

        Raises what it raises, `WorkerLostError` when the worker was lost over it, `RuntimeError`
        when there is none.
        """
        async with self._room:
            for _ in range(ATTEMPTS):
                # What others may take before it does not count for this piece.
                limit = self._promised + seconds
                self._promised = limit
                pool = None
                try:
                    pool = await self._worker()
                    future: Future[T] = pool.schedule(function, args=args)
                    # The pool's own limit begins when the worker takes the work: one that is
                    # frozen never does.
                    if await _settled(future, limit):
                        return future.result()
                    begun = future.running()
                except ProcessExpired:
                    begun = True
                except (BrokenProcessPool, CancelledError):
                    begun = False  # the worker was lost over what came before
                except asyncio.CancelledError:
                    await self._replace(pool)
                    raise
                except TypeError:
                    # What the pool says to work that it had in hand while it was dismissed.
                    if pool is self._pool:
                        raise
                    begun = False
                finally:
                    self._promised -= seconds
                await self._replace(pool)
                if begun:
                    raise WorkerLostError
        raise RuntimeError("no worker takes the work")

    async def _worker(self) -> ProcessPool:
        if not self._open:
            raise RuntimeError("the workshop is closed")
        pool = self._pool = self._pool or self._hire()
        ready = self._ready
        if not await _settled(ready, START_LIMIT) or ready.exception():
            raise BrokenProcessPool("the worker did not start")
        if not pool.active:
            raise BrokenProcessPool("the worker is gone")
        return pool

    def _hire(self) -> ProcessPool:
        pool = ProcessPool(
            max_workers=1,
            initializer=_start_worker,
            initargs=(self._factory,),
            # Not fork: the service has threads, and a forked copy of a held lock never opens.
            context=multiprocessing.get_context("spawn"),
        )
        self._ready = pool.schedule(os.getpid)
        return pool

    async def _replace(self, lost: ProcessPool | None) -> None:
        """Have another worker next time, unless somebody else has seen to that."""
        pool = self._pool
        if pool is not None and lost in (None, pool):
            self._pool = None
            await asyncio.to_thread(_dismiss, pool, self._ready)


async def _settled(future: Future[Any], seconds: float) -> bool:
    """Wait for an outcome without asking for it; whether there is one."""
    settled = asyncio.Event()
    loop = asyncio.get_running_loop()

    def tell(_future: Future[Any]) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(settled.set)

    future.add_done_callback(tell)
    with suppress(TimeoutError):
        await asyncio.wait_for(settled.wait(), seconds)
    return future.done()


def _dismiss(pool: ProcessPool, ready: Future[int]) -> None:
    pool.stop()  # type: ignore[no-untyped-call]
    # Killed first: the pool asks politely, which a frozen process does not hear, and waits.
    if ready.done() and not ready.exception():
        for child in multiprocessing.active_children():
            if child.pid == ready.result():
                child.kill()
    pool.join()
