"""What sends: lanes that take messages from the outbox, one at a time, and note how it went.

Leases keep two senders apart: a message is taken just before it is sent, and held until it is noted
how that went. An attempt whose outcome is unknown becomes `uncertain` and is never repeated
blindly. Where a second attempt would be a second message (`Channel.once_only`), what is taken is
`sending` and no more `queued`.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import bindparam, select, text, update
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from channels.base import (
    Channel,
    ChannelError,
    MisconfiguredError,
    OptedOutError,
    PermanentError,
    SharedDoor,
    UncertainError,
    UnreachableError,
)
from router import consent, events, metrics, outbox
from router.clock import spread
from router.errors import StoreUnavailableError
from router.models import Inquiry, OutboxItem
from router.statements import Prepared

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from sqlalchemy import Connection
    from sqlmodel import Session

    from router.db import Database

log = structlog.get_logger(__name__)

LEASE = timedelta(minutes=5)
"""How long a message is left to whoever took it, if they are not heard of again."""
RENEW_SECONDS = LEASE.total_seconds() / 3
"""A lease is renewed so often while its message is being sent."""
RETRY_MINUTES = (1, 5, 15, 30, 60)
RETRY_LATER = timedelta(hours=4)
GIVE_UP = timedelta(days=3)
NOTICE_AFTER = timedelta(hours=4)
"""An operator is told when a message has waited this long."""
LANES = 2
"""Messages that go through one door at a time; as many connections as are kept to the smarthost."""
STOP_GRACE = 10.0
"""Seconds that a message being sent gets to end when the service stops."""
GIVE_WAY = 10.0
"""Seconds that letters wait at most while a crowd comes in."""
STEP = 0.05
"""Seconds until it is looked again whether the crowd is in."""
LOOK_FOR_LOST = timedelta(seconds=5)
"""Time between two looks for attempts whose sender has vanished."""
STORE_PAUSE = 1.0
"""Seconds until the store is asked again to note what became of a message."""
CIRCUIT_PAUSE = timedelta(minutes=1)
"""Pause after the smarthost refused *us* (log-in, sender): no message is to blame, none loses an
attempt."""
UNREACHABLE_SECONDS = (5, 10, 20, 40)
"""Pauses while nobody answers at all, then `CIRCUIT_PAUSE`: an outage is over as soon as it is."""

_SETTLED = frozenset({"failed", "sent", "delivered"})

_TABLE: Any = OutboxItem.__table__  # type: ignore[attr-defined]
_INQUIRY: Any = Inquiry.__table__  # type: ignore[attr-defined]
_SENT = Prepared(
    lambda _dialect: (
        update(_TABLE)
        # A bounce may have come before this note of ours.
        .where(_TABLE.c.id == bindparam("outbox"), _TABLE.c.state != "failed")
        .values(
            state="sent",
            lease_until=None,
            attempts=_TABLE.c.attempts + 1,
            **{name: bindparam(name) for name in ("sent_at", "provider_id", "detail")},
        )
    )
)

# Written out, so that the planner uses the partial index.
_QUEUED = text("outbox.state = 'queued'")
_NOW: Any = bindparam("now", type_=_TABLE.c.next_at.type)


class Outbox:
    """Delivers what is due and writes down how it went. Each door has lanes of its own, so that a
    slow recipient holds up no more than one of them."""

    def __init__(
        self,
        db: Database,
        channels: Mapping[str, Channel],
        blobs: Path,
        clock: Callable[[], datetime],
        crowded: Callable[[], bool] = lambda: False,
    ) -> None:
        """`crowded`: whether so much comes in right now that letters should wait."""
        self._db = db
        self._channels = channels
        self._blobs = blobs
        self._clock = clock
        self._crowded = crowded
        self._calm_at = monotonic()
        self._looked_at: datetime | None = None
        self._lanes: list[_Lane] = []
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._paused_until: dict[str, datetime] = {}
        self._unreachable: dict[str, int] = {}
        """Door -> how often in a row nobody answered."""
        self._closed: set[str] = set()
        """Doors of which the log says that nothing goes out."""
        self._stopping = False
        self.problem = ""

    def start(self) -> None:
        """Begin to deliver, by the doors that there are now."""
        self._loop = asyncio.get_running_loop()
        self._lanes = self._lanes_of_all()
        self._task = asyncio.create_task(self._run(), name="outbox")

    async def stop(self) -> None:
        """Stop after the messages that are being sent right now; the others wait in the store."""
        self._stopping = True
        self._wake_lanes()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=STOP_GRACE)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def reopen(self, door: str) -> None:
        """A door that nobody answered at is open again: what waits for it goes now. What was handed
        over when it closed, and has not been heard of, goes once more under its id."""
        self._paused_until.pop(door, None)
        self._unreachable.pop(door, None)
        if not self._once_only(door):
            await self._db.write(partial(_hasten, door=door, now=self._clock()))
        self.wake()

    def wake(self) -> None:
        """Something new may be due; callable from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake_lanes)

    def _wake_lanes(self) -> None:
        for lane in self._lanes:
            lane.wake.set()

    async def _run(self) -> None:
        inherited = not self._db.shared
        while inherited and not self._stopping:
            try:
                await self._db.write(partial(_end_leases, now=self._clock()))
                inherited = False
            except (StoreUnavailableError, SQLAlchemyError):
                log.exception("outbox.round_failed")
                await asyncio.sleep(STORE_PAUSE)
        await asyncio.gather(*map(self._keep_going, self._lanes))

    async def _keep_going(self, lane: _Lane) -> None:
        while not self._stopping:
            await self._give_way()
            try:
                tried = await self._deliver_next(lane)
                if not tried:
                    await self._find_lost()
            except Exception:
                log.exception("outbox.round_failed")
                tried = False
            if not tried and not self._stopping:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(lane.wake.wait(), timeout=5)
                lane.wake.clear()

    async def _give_way(self) -> None:
        """Let a crowd come in first, unless it takes long: a letter can wait, who writes cannot."""
        while self._crowded() and not self._stopping:
            if monotonic() - self._calm_at > GIVE_WAY:
                return
            await asyncio.sleep(STEP)
        self._calm_at = monotonic()

    async def deliver_due(self) -> int:
        """Send what is due now; returns how many were tried."""

        async def drain(lane: _Lane) -> int:
            tried = 0
            while await self._deliver_next(lane):
                tried += 1
            return tried

        return sum(await asyncio.gather(*map(drain, self._lanes_of_all())))

    def _lanes_of_all(self) -> list[_Lane]:
        shares = _shares(self._channels)
        return [_Lane(door, mine) for door, mine in shares for _ in range(self._width(door))]

    def _width(self, door: str) -> int:
        """How many lanes a door has; one where messages must not overtake each other."""
        return 1 if isinstance(self._channels.get(door), SharedDoor) else LANES

    async def _deliver_next(self, lane: _Lane) -> bool:
        """Send the message that has waited longest; whether there was one."""
        now = self._clock()
        channel = self._channels.get(lane.door)
        if isinstance(channel, SharedDoor) and channel.elsewhere:
            return False
        if self._paused_until.get(lane.door, now) > now:
            return False
        with self._db.read() as session:
            if session.connection().execute(lane.any_due, {"now": now}).first() is None:
                return False
        once_only = self._once_only(lane.door)
        take = partial(_take, now=now, mine=lane.mine, once_only=once_only)
        item = await self._db.write(take)
        if item is None:
            return False
        if self._stopping:
            await self._db.write(partial(_give_back, item=item))
            return False
        async with self._held(item):
            result = await self._send(item)
            now = self._clock()
            self.problem = "" if result.state == "sent" else result.detail
            metrics.DELIVERIES.labels(item.channel, item.kind, result.state).inc()
            log.info(
                "outbox.attempted",
                outbox=item.id,
                arrival=item.arrival_id,
                inquiry=item.inquiry_id,
                kind=item.kind,
                state=result.state,
            )
            await self._write_down(_Attempt(item, result, now, once_only))
        if result.pause is not None:
            until = self._paused_until[lane.door]
            why = result.detail
            await self._db.write(partial(_hold, mine=lane.mine, now=now, until=until, why=why))
        return True

    def _once_only(self, name: str) -> bool:
        channel = self._channels.get(name)
        return channel is not None and channel.once_only

    async def _find_lost(self) -> None:
        """Attempts whose sender vanished in the middle: nobody knows whether they came through."""
        now = self._clock()
        if self._looked_at is not None and now - self._looked_at < LOOK_FOR_LOST:
            return
        self._looked_at = now
        with self._db.read() as session:
            if not _lost(session, now):
                return
        await self._db.write(lambda session: _give_up_lost(session, now))

    @contextlib.asynccontextmanager
    async def _held(self, item: OutboxItem) -> AsyncIterator[None]:
        """Keep the lease of a message for as long as this process works on it: the answer to its
        content may take ten minutes (RFC 5321 §4.5.3.2.6), and no other may send it meanwhile."""

        async def renew() -> None:
            lease = item.lease_until
            while lease is not None:
                await asyncio.sleep(RENEW_SECONDS)
                with contextlib.suppress(StoreUnavailableError, OperationalError):
                    now = self._clock()
                    lease = await self._db.write(partial(_renew, item=item, lease=lease, now=now))

        renewing = asyncio.create_task(renew())
        try:
            yield
        finally:
            renewing.cancel()

    async def _write_down(self, attempt: _Attempt) -> None:
        """Note how it went. While the store refuses, nothing more is sent by this lane: that could
        not be noted either, and would go out twice."""
        while True:
            try:
                letter = attempt.item.thread_message_id is None
                if attempt.result.state == "sent" and letter and not attempt.once_only:
                    await self._db.write_together(_record_letters, attempt)
                else:
                    await self._db.write(partial(_record, attempt=attempt))
            except (StoreUnavailableError, OperationalError):
                if self._stopping:
                    raise
                await asyncio.sleep(STORE_PAUSE)
            else:
                return

    async def _send(self, item: OutboxItem) -> _Result:
        name = item.channel
        channel = self._channels.get(name)
        if channel is None:
            return _Result("failed", f"No door is called «{name}».")
        try:
            outgoing = await asyncio.to_thread(outbox.outgoing_of, item, self._blobs)
            receipt = await channel.send(outgoing)
        except UncertainError as error:
            return _Result("uncertain", str(error))
        except PermanentError as error:
            return _Result("failed", str(error), opted_out=isinstance(error, OptedOutError))
        except (MisconfiguredError, UnreachableError) as error:
            return _Result("queued", str(error), pause=self._pause(name, error))
        except (ChannelError, OSError) as error:
            return _Result("queued", str(error) or type(error).__name__)
        except Exception as error:
            # A fault of ours in one message must not keep its neighbours waiting.
            log.exception("outbox.broken", outbox=item.id)
            return _Result("queued", f"Intern feil ({type(error).__name__}).")
        self._unreachable.pop(name, None)
        if name in self._closed:
            self._closed.remove(name)
            log.info("outbox.door_open", channel=name)
        return _Result("sent", receipt.detail, provider_id=receipt.provider_id)

    def _pause(self, name: str, error: ChannelError) -> timedelta:
        """Open the circuit: nothing goes through this door for a while, and none is to blame."""
        if name not in self._closed:
            self._closed.add(name)
            log.warning("outbox.door_closed", channel=name, reason=type(error).__name__)
        pause = CIRCUIT_PAUSE
        if isinstance(error, UnreachableError):
            times = self._unreachable[name] = self._unreachable.get(name, 0) + 1
            if times <= len(UNREACHABLE_SECONDS):
                pause = timedelta(seconds=UNREACHABLE_SECONDS[times - 1])
        self._paused_until[name] = self._clock() + pause
        return pause


@dataclass(eq=False, slots=True)
class _Lane:
    """One message at a time through one door."""

    door: str
    mine: Any
    """Which rows, as a condition."""
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    any_due: Any = field(init=False)
    """Finds one of them that is due; asked whenever anything has come in, so it is built once."""

    def __post_init__(self) -> None:
        self.any_due = select(_TABLE.c.id).where(_due(_NOW), self.mine).limit(1)


@dataclass(frozen=True, slots=True)
class _Result:
    state: str
    detail: str
    provider_id: str = ""
    pause: timedelta | None = None
    """How long nothing is tried, when the door is to blame and not the message."""
    opted_out: bool = False


@dataclass(frozen=True, slots=True)
class _Attempt:
    item: OutboxItem
    result: _Result
    at: datetime
    once_only: bool


def _shares(doors: Iterable[str]) -> list[tuple[str, Any]]:
    """Each door and which rows its lanes see to; what is for no door falls to the first, which has
    it noted."""
    names = sorted(doors)
    shares = [(name, _TABLE.c.channel == name) for name in names]
    if names:
        shares[0] = (names[0], _TABLE.c.channel.not_in(names[1:]))
    return shares


def _due(now: Any) -> Any:
    return (
        _QUEUED
        & (_TABLE.c.next_at <= now)
        & (_TABLE.c.lease_until.is_(None) | (_TABLE.c.lease_until <= now))
    )


def _take(
    session: Session, now: datetime, mine: Any, *, once_only: bool = False
) -> OutboxItem | None:
    """Lease the message that has waited longest, just before it is sent; None when others have
    them all. What its recipient shall not have any more is taken back."""
    item = _longest_waiting(session, now, mine)
    while item is not None and outbox.withdraw_if_former(session, item):
        metrics.DELIVERIES.labels(item.channel, item.kind, "withdrawn").inc()
        log.info("outbox.withdrawn", outbox=item.id, inquiry=item.inquiry_id, reason="passed_on")
        item = _longest_waiting(session, now, mine)
    if item is None:
        return None
    if once_only:
        item.state = "sending"
    elif item.lease_until is not None:
        # The last sender vanished in mid-attempt. SMTP can do no better than the same bytes once
        # more.
        item.detail = "Tjenesten ble avbrutt under sending; meldingen kan ha kommet fram to ganger."
    item.lease_until = now + LEASE
    return item


def _longest_waiting(session: Session, now: datetime, mine: Any) -> OutboxItem | None:
    found: OutboxItem | None = session.execute(
        select(OutboxItem)
        .where(_due(now), mine)
        .order_by(_TABLE.c.next_at, _TABLE.c.id)
        .limit(1)
        # Nothing on SQLite, which has one writer; elsewhere two services take different rows.
        .with_for_update(skip_locked=True)
    ).scalar()
    return found


def _renew(session: Session, item: OutboxItem, lease: datetime, now: datetime) -> datetime | None:
    """Hold a message that is being sent for longer; None when it is not ours any more."""
    renewed = session.connection().execute(
        update(_TABLE)
        .where(
            _TABLE.c.id == item.id,
            _TABLE.c.state.in_(["queued", "sending"]),
            _TABLE.c.lease_until == lease,
        )
        .values(lease_until=now + LEASE)
    )
    return now + LEASE if renewed.rowcount else None


def _hold(session: Session, mine: Any, now: datetime, until: datetime, why: str) -> None:
    """What waits for a door that is closed waits on, and says why."""
    session.connection().execute(
        update(_TABLE).where(_due(now), mine).values(next_at=until, detail=why)
    )


def _hasten(session: Session, door: str, now: datetime) -> None:
    session.connection().execute(
        update(_TABLE)
        .where(
            outbox.UNSENT,
            _TABLE.c.channel == door,
            _TABLE.c.state.in_(["queued", "uncertain"]),
        )
        .values(state="queued", next_at=now)
    )


def _lost(session: Session, now: datetime) -> list[OutboxItem]:
    query = select(OutboxItem).where(
        outbox.UNSENT, _TABLE.c.state == "sending", _TABLE.c.lease_until <= now
    )
    return list(session.execute(query).scalars())


def _give_up_lost(session: Session, now: datetime) -> None:
    for item in _lost(session, now):
        result = _Result("uncertain", "Tjenesten ble avbrutt under sending.")
        _record(session, _Attempt(item, result, now, once_only=True))


def _end_leases(session: Session, now: datetime) -> None:
    """Whoever held these is gone: this process has just started and is the only one."""
    session.connection().execute(
        update(_TABLE).where(_TABLE.c.lease_until > now).values(lease_until=now)
    )


def _give_back(session: Session, item: OutboxItem) -> None:
    """Nothing was attempted with it."""
    session.connection().execute(
        update(_TABLE)
        .where(_TABLE.c.id == item.id, _TABLE.c.state.in_(["queued", "sending"]))
        .values(state="queued", lease_until=None)
    )


def _record_letters(connection: Connection, attempts: Sequence[_Attempt]) -> list[None]:
    """Note letters that were sent and are no message of a thread: nothing else changes."""
    inquiries = {
        number: (ref, department)
        for number, ref, department in connection.execute(
            select(_INQUIRY.c.id, _INQUIRY.c.ref, _INQUIRY.c.department).where(
                _INQUIRY.c.id.in_({attempt.item.inquiry_id for attempt in attempts})
            )
        )
    }
    _SENT.many(
        connection,
        [
            {
                "outbox": attempt.item.id,
                "sent_at": attempt.at,
                "provider_id": attempt.result.provider_id,
                "detail": attempt.result.detail,
            }
            for attempt in attempts
        ],
    )
    rows = []
    for attempt in attempts:
        item = attempt.item
        if item.kind in outbox.INTERNAL:
            continue
        rows.append(
            events.row("delivered", item.inquiry_id, *inquiries[item.inquiry_id], attempt.at)
        )
        rows[-1]["data"] |= {"kind": item.kind, "attempts": item.attempts + 1}
    events.insert_rows(connection, rows)
    return [None] * len(attempts)


def _record(session: Session, attempt: _Attempt) -> None:
    result, now = attempt.result, attempt.at
    item = session.get(OutboxItem, attempt.item.id)
    if item is None:  # taken back while it was on its way
        return
    item.lease_until = None
    if item.state in _SETTLED:  # a bounce or a report was quicker than this note
        item.provider_id = item.provider_id or result.provider_id
        return
    item.provider_id = result.provider_id or item.provider_id
    item.detail = result.detail
    item.state = result.state
    if result.pause is None:
        item.attempts += 1
    if result.state == "queued":
        spent = (item.id or 0) + item.attempts
        item.next_at = now + (result.pause or spread(_backoff(item.attempts), spent))
        if now - item.trying_since > GIVE_UP:
            item.state = "failed"
    elif result.state == "sent":
        item.sent_at = now
    if item.state == "failed":
        outbox.fail(session, item, item.detail, now)
        if result.opted_out:
            consent.withdraw(session, item.recipient, item.inquiry_id, now)
        return
    inquiry = session.get_one(Inquiry, item.inquiry_id)
    outbox.note_in_thread(session, item)
    # Mail has no word for having arrived but that a server took it.
    taken = "sent" if attempt.once_only else "delivered"
    kind = {"sent": taken, "uncertain": "uncertain"}.get(item.state)
    if item.state == "sent":
        outbox.answer_arrived(session, item, inquiry, now)
    session.flush()
    if item.kind in outbox.INTERNAL:
        return
    if kind is None:
        if now - item.created_at <= NOTICE_AFTER:
            return
        kind = "stuck"
    events.tell(
        session,
        kind,
        inquiry,
        now,
        once=f"stuck:{item.id}" if kind == "stuck" else None,
        data={"kind": item.kind, "attempts": item.attempts},
    )


def _backoff(attempts: int) -> timedelta:
    if attempts <= len(RETRY_MINUTES):
        return timedelta(minutes=RETRY_MINUTES[max(attempts, 1) - 1])
    return RETRY_LATER
