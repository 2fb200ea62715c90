"""From the door to the queue: journal, answer the door, then prepare and take in.

The journal is the truth. What this process holds in memory is only a hint which arrivals are new:
whatever was
in flight when it ended is found again at the next start.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from channels import web
from channels.base import Disposition, RawArrival, TemporaryError
from channels.phone import cti, record
from channels.phone.base import CHANNEL, CallDirection, CallKind
from router import calls, intake, journal, metrics
from router.errors import InvalidError, StoreUnavailableError
from router.models import Arrival, ArrivalState, Inquiry
from router.preparing import Prepared, Unreadable, Work, Workbench, Workshop, prepare
from router.scanning import remember, scanned

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
    from datetime import datetime

    from sqlmodel import Session

    from channels.email.scan import Scanner
    from channels.phone.base import CallEvent
    from router.call_models import Call
    from router.correspondence import Letterhead
    from router.db import Database
    from router.number_plan import NumberPlan
    from router.sending import Outbox

T = TypeVar("T")

log = structlog.get_logger(__name__)

BATCH = 16
FLOOD = 128
"""Arrivals prepared together, at least and at most: a quarter of those who wait. The more wait, the
more counts what each of them costs."""

COMMITTED = 32
"""Arrivals taken in together. Few: whoever waits for the writer meanwhile, a sender for its 250
above all, waits for all of these. A whole batch when no sender waits."""

HELD = 64 * 1024 * 1024
"""Bytes of arrivals that are kept in memory until they are prepared; others are read from the
store."""

HELD_EACH = 64 * 1024
"""Bytes of one arrival that is kept in memory."""

IN_FLIGHT = 2
"""Batches with the worker at once: one is on its way while it works on the other."""

AHEAD = 4_096
"""Arrivals that are ready and wait to be taken in: the worker goes on while a flood comes in, on a
processor of its own."""

AHEAD_TEXT = 32 * 1024 * 1024
"""Characters of their texts."""

CROWD = 6
"""So many senders who wait for their 250 at the same time are a flood,"""

CALM = 0.03
"""until so many seconds have passed without such a crowd."""

GIVE_WAY = timedelta(seconds=6)
"""How long an arrival that is prepared may wait while a flood comes in: who waits for a 250 goes
first."""

STEP = 0.01
"""Seconds until it is looked again whether the flood is over."""

PAUSE = 5.0
"""Seconds to wait when the store or the disk refuses; nothing is dropped meanwhile."""


@dataclass(frozen=True, slots=True)
class FormReceipt:
    """What the person who filled in a form is told."""

    ref: str
    due_at: datetime
    department: str
    inquiry_id: int
    duplicate: bool


class Reception:
    """Takes arrivals from the doors and turns them into inquiries.

    `counter` is a workshop for those who stand and wait for an answer: they do not queue behind a
    flood of mail. `plan` is needed where a phone door is open.
    """

    def __init__(
        self,
        db: Database,
        workbench: Workbench,
        workshop: Workshop,
        counter: Workshop,
        head: Letterhead,
        outbox: Outbox,
        clock: Callable[[], datetime],
        scanner: Scanner | None = None,
        plan: NumberPlan | None = None,
    ) -> None:
        self._db = db
        self._workbench = workbench
        self._workshop = workshop
        self._counter = counter
        self._head = head
        self._outbox = outbox
        self._clock = clock
        self._scanner = scanner
        self._plan = plan
        self._waiting: deque[int] = deque()
        self._known: set[int] = set()
        self._held: dict[int, Work] = {}
        self._held_size = 0
        self._alone: set[int] = set()
        self._forms: dict[int, asyncio.Event] = {}
        self._wake = asyncio.Event()
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._ready: deque[Prepared] = deque()
        self._ready_text = 0
        self._some_ready = asyncio.Event()
        self._room = asyncio.Event()
        self._receiving = 0
        self._crowded_at = -CALM
        self._stopping = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._loops: list[asyncio.Task[None]] = []

    @property
    def backlog(self) -> int:
        """Arrivals journaled but not yet in the queue."""
        return len(self._known)

    @property
    def crowded(self) -> bool:
        """Whether more has come in than is taken in at once."""
        return len(self._known) > FLOOD

    def start(self) -> None:
        """Begin to take in, with what an earlier process left first."""
        for numbers in self._in_store():
            self._enqueue_unattended(numbers)
        self._loops = [
            asyncio.create_task(self._hand_out(), name="reception-prepare"),
            asyncio.create_task(self._take_in_ready(), name="reception-take-in"),
        ]

    async def stop(self) -> None:
        """Finish what is under way; the rest waits in the journal."""
        self._stopping = True
        if self._loops:
            handing_out, taking_in = self._loops
            handing_out.cancel()
            await asyncio.gather(handing_out, *self._tasks, return_exceptions=True)
            self._some_ready.set()
            await asyncio.gather(taking_in, return_exceptions=True)

    async def receive(self, arrival: RawArrival) -> Disposition:
        """What the doors are handed: returns after the commit. Raises `TemporaryError`."""
        self._receiving += 1
        if self._receiving >= CROWD:
            self._crowded_at = monotonic()
        try:
            disposition, number = await journal.append(self._db, self._workbench.blobs, arrival)
        finally:
            self._receiving -= 1
        metrics.ARRIVALS.labels(arrival.channel, disposition.value).inc()
        # No news: its row says the same, and a line of its own costs as much as writing the row.
        log.debug("arrival.journaled", arrival=number, channel=arrival.channel, size=arrival.size)
        if disposition is Disposition.ACCEPTED:
            if arrival.size <= HELD_EACH and self._held_size + arrival.size <= HELD:
                self._held[number] = _work(number, arrival)
                self._held_size += arrival.size
            self._enqueue(number)
        return disposition

    async def receive_form(self, form: web.FormSubmission) -> FormReceipt:
        """A web form needs its answer at once.

        Raises `InvalidError` for fields that do not hold, and what `receive_now` raises.
        """
        problems = web.check(form)
        if problems:
            raise InvalidError(", ".join(f"{field}: {code}" for field, code in problems.items()))
        return await self.receive_now(web.arrival(form, self._head.sender, self._clock()))

    async def receive_now(self, arrival: RawArrival) -> FormReceipt:
        """Take in what somebody waits for: journal and intake before this returns.

        Raises `InvalidError` when its key was used for something else, `StoreUnavailableError`
        when it cannot be kept.
        """
        try:
            disposition, number = await journal.append(self._db, self._workbench.blobs, arrival)
        except TemporaryError as error:
            raise StoreUnavailableError from error
        metrics.ARRIVALS.labels(arrival.channel, disposition.value).inc()
        if disposition is Disposition.DUPLICATE:
            return await self._earlier(number, arrival)
        done = self._forms[number] = asyncio.Event()
        try:
            return await self._take_form(number, arrival)
        finally:
            del self._forms[number]
            done.set()

    async def _take_form(self, number: int, arrival: RawArrival) -> FormReceipt:
        try:
            [prepared] = await self._counter.prepare([_work(number, arrival)])
        except (OSError, RuntimeError) as error:
            self._enqueue(number)
            raise StoreUnavailableError from error
        if isinstance(prepared, Unreadable):
            await self._park(number, prepared.error)
            raise StoreUnavailableError(
                "Your message was taken in for a person to look at; there is no need to send it "
                "again."
            )
        taken = await self._take_in([prepared])
        if not taken:
            return await self._taken_earlier(number, arrival)
        return FormReceipt(
            taken[0].ref, taken[0].due_at, taken[0].department, taken[0].inquiry_id, False
        )

    async def receive_call(self, event: CallEvent, then: Callable[[Session, Call], T]) -> T | None:
        """What is told of a call; the first time, its inquiry is made inside the request.

        `then` gets the call in the same transaction, and its answer is returned; None for an
        outgoing call to somebody who waits for none. Raises `StoreUnavailableError` when it cannot
        be kept.
        """
        outgoing = event.direction is CallDirection.OUT
        if outgoing or event.kind is not CallKind.RINGING:
            known, answer = await self._db.write(lambda session: self._told(session, event, then))
            if known or outgoing:
                return answer
        arrival = record.arrival(event)
        try:
            return await self._first_told(event, arrival, then)
        except StoreUnavailableError:
            raise
        except Exception as error:
            log.exception("call.refused")
            # What cannot be taken in now is kept for later, and to be looked at.
            with suppress(TemporaryError):
                await journal.append(self._db, self._workbench.blobs, arrival)
            raise StoreUnavailableError from error

    def _told(
        self, session: Session, event: CallEvent, then: Callable[[Session, Call], T]
    ) -> tuple[bool, T | None]:
        """What is told of a call that is known; whether it is."""
        call = calls.find(session, event.provider, event.call_id)
        if call is None and event.direction is CallDirection.OUT:
            inquiry = calls.open_callback(session, event.caller)
            if inquiry is not None:
                call = calls.open_call(session, event, inquiry.id or 0, self._called, self._clock())
        return (True, then(session, call)) if call is not None else (False, None)

    async def _first_told(
        self, event: CallEvent, arrival: RawArrival, then: Callable[[Session, Call], T]
    ) -> T | None:
        # A call has no hostile content, and its caller waits: no worker is asked, and the journal
        # and the inquiry are one commit.
        ready = prepare(self._workbench, _work(0, arrival))
        now = self._clock()

        def take_in(
            session: Session,
        ) -> tuple[Disposition, list[intake.Taken], Prepared, T | None]:
            known, answer = self._told(session, event, then)
            if known:
                return Disposition.DUPLICATE, [], ready, answer
            entry = journal.Entry(arrival)
            [(disposition, number)] = journal.insert(session.connection(), [entry])
            item = replace(ready, arrival_id=number)
            taken = intake.process(session, [item], self._head, now)
            if taken:
                inquiry = taken[0].inquiry_id
                call = calls.open_call(session, event, inquiry, self._called, now)
                answer = then(session, call)
            return disposition, taken, item, answer

        disposition, taken, item, answer = await self._db.write(take_in)
        metrics.ARRIVALS.labels(arrival.channel, disposition.value).inc()
        self._note(taken, [item], now)
        return answer

    @property
    def _called(self) -> NumberPlan:
        assert self._plan is not None  # noqa: S101 - no phone door is open without one
        return self._plan

    async def find_waiting(self) -> None:
        """Look in the journal for arrivals nobody has in hand: after a retry, or a failure."""
        for numbers in await asyncio.to_thread(list, self._in_store()):
            self._enqueue_unattended(numbers)

    def _in_store(self) -> Iterator[list[int]]:
        last = 0
        with self._db.read() as session:
            while found := journal.waiting(session, last):
                yield found
                last = found[-1]

    def _enqueue_unattended(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            # Forms are in hand already: somebody waits for the answer.
            if number not in self._forms:
                self._enqueue(number)

    def _enqueue(self, number: int) -> None:
        if number not in self._known:
            self._known.add(number)
            self._waiting.append(number)
            self._wake.set()

    async def _hand_out(self) -> None:
        """Hand what waits to the worker."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                while len(self._ready) >= AHEAD or self._ready_text >= AHEAD_TEXT:
                    self._room.clear()
                    await self._room.wait()
                await self._slots.acquire()
                self._begin(self._make_ready(self._next_batch()))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _next_batch(self) -> list[int]:
        most = min(max(BATCH, len(self._waiting) // 4), FLOOD)
        batch = [self._waiting.popleft()]
        while self._waiting and len(batch) < most:
            if batch[0] in self._alone or self._waiting[0] in self._alone:
                break
            if len(batch) >= BATCH and self._waiting[0] not in self._held:
                break  # it may be large
            batch.append(self._waiting.popleft())
        return batch

    async def _make_ready(self, numbers: Sequence[int]) -> None:
        try:
            prepared = await self._prepare(numbers)
        except Exception as error:
            log.exception("reception.batch_failed", arrivals=len(numbers))
            self._begin(self._try_later(numbers, error))
        else:
            self._forget(set(numbers).difference(item.arrival_id for item in prepared))
            self._ready.extend(prepared)
            self._ready_text += _text_of(prepared)
            self._some_ready.set()
        finally:
            self._slots.release()

    async def _take_in_ready(self) -> None:
        """Take in what is ready, one batch after the other: what else is asked of the writer comes
        in between."""
        while self._ready or not self._stopping:
            await self._some_ready.wait()
            self._some_ready.clear()
            while self._ready:
                await self._give_way(self._ready[0])
                most = min(COMMITTED if self._receiving else FLOOD, len(self._ready))
                batch = [self._ready.popleft() for _ in range(most)]
                self._ready_text -= _text_of(batch)
                numbers = [item.arrival_id for item in batch]
                try:
                    await self._take_in_or_alone(batch)
                except Exception as error:
                    log.exception("reception.batch_failed", arrivals=len(numbers))
                    self._begin(self._try_later(numbers, error))
                else:
                    self._forget(numbers)
                self._room.set()

    async def _try_later(self, numbers: Sequence[int], error: Exception) -> None:
        await asyncio.sleep(PAUSE)
        if not isinstance(error, StoreUnavailableError):
            # One of them may be to blame: it shall hold up none of the others.
            self._alone.update(numbers)
        self._waiting.extend(numbers)
        self._wake.set()

    def _forget(self, numbers: Collection[int]) -> None:
        """They are in the queue, or set aside."""
        for number in numbers:
            held = self._held.pop(number, None)
            self._held_size -= len(held.raw) if held is not None else 0
        self._known.difference_update(numbers)
        self._alone.difference_update(numbers)

    async def _take_in_or_alone(self, prepared: Sequence[Prepared]) -> None:
        try:
            await self._take_in(prepared)
        except StoreUnavailableError:
            raise
        except Exception:
            log.exception("reception.batch_refused", arrivals=len(prepared))
            for item in prepared:
                await self._take_in_alone(item)

    async def _give_way(self, oldest: Prepared) -> None:
        """Let the doors go first while a flood comes in, but nobody wait for long."""
        while self._flooded() and not self._stopping:
            if self._clock() - oldest.received_at > GIVE_WAY:
                return
            await asyncio.sleep(STEP)

    def _flooded(self) -> bool:
        return monotonic() - self._crowded_at < CALM

    async def _prepare(self, numbers: Sequence[int]) -> list[Prepared]:
        missing = [n for n in numbers if n not in self._held]
        work = [self._held[n] for n in numbers if n in self._held]
        if missing:
            work += await asyncio.to_thread(self._load, missing)
            work.sort(key=lambda one: one.arrival_id)  # what was said first stands first
        work = await scanned(self._scanner, work)
        results = await self._workshop.prepare(work) if work else []
        for result in results:
            if isinstance(result, Unreadable):
                await self._park(result.arrival_id, result.error)
        return [result for result in results if isinstance(result, Prepared)]

    async def _take_in(self, prepared: Sequence[Prepared]) -> list[intake.Taken]:
        if not prepared:
            return []
        started = perf_counter()
        now = self._clock()

        def job(session: Session) -> list[intake.Taken]:
            remember(session, prepared, now)
            taken = self._intake(session, prepared, now)
            for item in prepared:
                if item.incoming.channel == CHANNEL:
                    self._lose_call(session, item)
            return taken

        taken = await self._db.write(job)
        self._note(taken, prepared, now)
        log.debug("reception.batch", size=len(prepared), seconds=perf_counter() - started)
        self._outbox.wake()
        return taken

    def _intake(
        self, session: Session, prepared: Sequence[Prepared], now: datetime
    ) -> list[intake.Taken]:
        """Take contacts in; a call gets its row in the same transaction."""
        taken = intake.process(session, prepared, self._head, now)
        events = {item.arrival_id: item for item in prepared if item.incoming.channel == CHANNEL}
        for one in taken:
            if one.arrival_id in events and self._plan is not None:
                arrival = journal.get(session, one.arrival_id)
                event = record.read(journal.raw_of(session, arrival, self._workbench.blobs))
                if calls.find(session, event.provider, event.call_id) is None:
                    calls.open_call(session, event, one.inquiry_id, self._plan, now)
        return taken

    @staticmethod
    def _lose_call(session: Session, item: Prepared) -> None:
        """The service ended before it could answer a call."""
        provider, _, call_id = item.incoming.external_id.partition(":")
        call = calls.find(session, provider, call_id)
        # An exchange asks for no answer, and tells how the call goes on.
        if call is not None and not call.step and provider != cti.PROVIDER:
            calls.lose(session, call)

    @staticmethod
    def _note(taken: Sequence[intake.Taken], prepared: Sequence[Prepared], now: datetime) -> None:
        received = {item.arrival_id: item for item in prepared}
        for one in taken:
            item = received[one.arrival_id]
            channel = item.incoming.channel
            metrics.PROCESSED.labels(channel, one.outcome).inc()
            if one.outcome == "new":
                metrics.INQUIRIES.labels(one.department).inc()
            metrics.INTAKE_SECONDS.labels(channel).observe((now - item.received_at).total_seconds())
            log.info("arrival.taken_in", arrival=one.arrival_id, ref=one.ref, outcome=one.outcome)

    async def _take_in_alone(self, item: Prepared) -> None:
        try:
            await self._take_in([item])
        except StoreUnavailableError:
            raise
        except Exception as error:
            log.exception("arrival.refused", arrival=item.arrival_id)
            await self._park(item.arrival_id, f"{type(error).__name__} while it was stored")

    async def _park(self, number: int, reason: str) -> None:
        log.error("arrival.parked", arrival=number, reason=reason)
        now = self._clock()
        await self._db.write(lambda session: journal.park(session, number, reason, now))

    async def _earlier(self, number: int, arrival: RawArrival) -> FormReceipt:
        """The answer that the first delivery of a form got, or is just about to get."""
        under_way = self._forms.get(number)
        if under_way is not None:
            await under_way.wait()
        return await self._taken_earlier(number, arrival)

    async def _taken_earlier(self, number: int, arrival: RawArrival) -> FormReceipt:
        """The answer that an arrival got which is in the store. Raises `InvalidError` when it is
        another one."""

        def read() -> tuple[Arrival, Inquiry | None, bytes]:
            with self._db.read() as session:
                first = journal.get(session, number)
                inquiry = session.get(Inquiry, first.inquiry_id) if first.inquiry_id else None
                return first, inquiry, journal.raw_of(session, first, self._workbench.blobs)

        _first, inquiry, raw = await asyncio.to_thread(read)
        if raw != arrival.raw:
            raise InvalidError("This key was used for another submission.")
        if inquiry is None:
            self._enqueue(number)
            raise StoreUnavailableError("The first submission is still being taken in; try again.")
        return FormReceipt(inquiry.ref, inquiry.due_at, inquiry.department, inquiry.id or 0, True)

    def _load(self, numbers: Sequence[int]) -> list[Work]:
        works = []
        with self._db.read() as session:
            for number in numbers:
                arrival = session.get(Arrival, number)
                if arrival is None or arrival.state is not ArrivalState.NEW:
                    continue
                source = journal.source(session, arrival, self._workbench.blobs)
                works.append(
                    Work(
                        number,
                        arrival.channel,
                        arrival.external_id,
                        arrival.received_at,
                        arrival.envelope,
                        source if isinstance(source, bytes) else b"",
                        source if isinstance(source, Path) else None,
                    )
                )
        return works


def _work(number: int, arrival: RawArrival) -> Work:
    return Work(
        number,
        arrival.channel,
        arrival.external_id,
        arrival.received_at,
        dict(arrival.envelope),
        arrival.raw,
    )


def _text_of(prepared: Sequence[Prepared]) -> int:
    return sum(len(item.incoming.text) for item in prepared)
