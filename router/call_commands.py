"""Has the provider do what was decided about calls. The commands of a call go one after the other,
those of different calls beside each other.

Somebody holds a telephone meanwhile, so it is tried for seconds, not hours. What may have been
carried out is never repeated blindly: the call itself shows what became of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import bindparam, exists, select, text, update
from sqlmodel import Session, col

from channels.base import ChannelError, PermanentError, Receipt, UncertainError
from channels.phone.base import Command, Verb
from channels.phone.twilio import GoneError
from router import call_desk, calls, metrics
from router.call_models import Call, CallCommand, CallState
from router.calls import Way
from router.clock import spread
from router.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from channels.phone.base import PhoneProvider
    from router.db import Database
    from router.number_plan import NumberPlan

log = structlog.get_logger(__name__)

PAUSES = (1.0, 2.0, 4.0)
"""Seconds between the tries of a command, at the most."""
LOOK = 1.0
"""Seconds after which it is looked for commands that nobody has told of."""
STOP_GRACE = 5.0
STORE_PAUSE = 0.5
MANY = 50

_C: Any = CallCommand.__table__  # type: ignore[attr-defined]

# Written out, so that the planner uses the partial index.
_QUEUED = text("call_command.state = 'queued'")


def _calls_due() -> Any:
    earlier = _C.alias()
    now: Any = bindparam("now", type_=_C.c.next_at.type)
    waits = exists().where(
        earlier.c.state == "queued",
        earlier.c.call_id == _C.c.call_id,
        earlier.c.id < _C.c.id,
        earlier.c.next_at > now,
    )
    return select(_C.c.call_id).where(_QUEUED, _C.c.next_at <= now, ~waits).distinct().limit(MANY)


_DUE = _calls_due()
_NEXT = (
    select(CallCommand)
    .where(col(CallCommand.call_id) == bindparam("call"), _QUEUED)
    .order_by(col(CallCommand.id))
    .limit(1)
)


@dataclass(frozen=True, slots=True)
class _Result:
    state: str
    detail: str = ""
    provider_id: str = ""
    gone: bool = False
    problem: str = ""
    """What is wrong with the door, not with this command."""


class CallCommands:
    """Carries the commands out."""

    def __init__(
        self,
        db: Database,
        provider: PhoneProvider,
        plan: NumberPlan,
        clock: Callable[[], datetime],
    ) -> None:
        self._db = db
        self._provider = provider
        self._plan = plan
        self._clock = clock
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._busy: dict[int, asyncio.Task[None]] = {}
        """Call -> what is being done with it."""
        self._stopping = False
        self.problem = ""
        """Why the provider takes no commands; empty when it does."""

    def start(self) -> None:
        """Begin to carry out."""
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._run(), name="call-commands")

    async def stop(self) -> None:
        """Finish what is under way; the rest waits in the store."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._busy:
            await asyncio.wait(set(self._busy.values()), timeout=STOP_GRACE)

    def wake(self) -> None:
        """There may be something to do; callable from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake.set)

    async def settle(self) -> None:
        """Carry out what is due now, and wait for it."""
        while await self._begin_due():
            await asyncio.wait(set(self._busy.values()))

    async def _run(self) -> None:
        # Nobody knows what became of what an earlier process had in hand.
        while not self._stopping:
            try:
                if not self._db.shared:
                    await self._db.write(_leave_uncertain)
                break
            except Exception:
                log.exception("call_commands.not_started")
                await asyncio.sleep(STORE_PAUSE)
        while not self._stopping:
            self._wake.clear()
            try:
                await self._begin_due()
            except Exception:
                log.exception("call_commands.round_failed")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), LOOK)

    async def _begin_due(self) -> int:
        now = self._clock()
        with self._db.read() as session:
            due = _due(session, now, set(self._busy))
        for call in due:
            task = asyncio.create_task(self._work_off(call))
            self._busy[call] = task
        return len(due)

    async def _work_off(self, call: int) -> None:
        """The commands of one call, in order, until none is due."""
        try:
            while not self._stopping:
                taken = await self._db.write(partial(_take, call=call, now=self._clock()))
                if taken is None:
                    return
                command, order = taken
                result = await self._carry_out(command, order)
                metrics.CALL_COMMANDS.labels(command.verb, result.state).inc()
                log.info(
                    "call_command.attempted", command=command.id, call=call, state=result.state
                )
                await self._write_down(command, result)
        except Exception:
            log.exception("call_commands.failed", call=call)
        finally:
            self._busy.pop(call, None)
            self.wake()

    async def _carry_out(self, command: CallCommand, order: Command | None) -> _Result:
        if order is None:
            return _Result("dropped")
        try:
            receipt: Receipt = await self._provider.command(order)
        except GoneError as error:
            if order.verb is Verb.DROP:
                return _Result("sent", str(error))
            return _Result("failed", str(error), gone=True)
        except UncertainError as error:
            return _Result("uncertain", str(error))
        except PermanentError as error:
            return _Result("failed", str(error))
        except (ChannelError, OSError) as error:
            last = command.attempts + 1 > len(PAUSES)
            detail = str(error) or type(error).__name__
            return _Result("failed" if last else "queued", detail, problem=detail)
        return _Result("sent", provider_id=receipt.provider_id)

    async def _write_down(self, command: CallCommand, result: _Result) -> None:
        if result.state != "dropped":
            self.problem = result.problem
        while True:
            try:
                await self._db.write(
                    partial(
                        _record,
                        number=command.id or 0,
                        result=result,
                        plan=self._plan,
                        now=self._clock(),
                    )
                )
            except StoreUnavailableError:
                if self._stopping:
                    raise
                await asyncio.sleep(STORE_PAUSE)
            else:
                return


def _due(session: Session, now: datetime, busy: set[int]) -> list[int]:
    """Calls whose first command is due."""
    found = session.connection().execute(_DUE, {"now": now}).scalars()
    return [call for call in found if call not in busy]


def _take(session: Session, call: int, now: datetime) -> tuple[CallCommand, Command | None] | None:
    """The next command of a call, on its way from here on, and what is asked of the provider; None
    for what has become pointless. A call whose first command waits for another try has none."""
    command: CallCommand | None = session.execute(_NEXT, {"call": call}).scalar()
    if command is None or command.next_at > now:
        return None
    mine = session.connection().execute(
        update(_C).where(_C.c.id == command.id, _QUEUED).values(state="sending")
    )
    if not mine.rowcount:
        return None
    return command, _order_of(session, command)


def _order_of(session: Session, command: CallCommand) -> Command | None:
    call = session.get_one(Call, command.call_id)
    verb = Verb(command.verb)
    if call.state is CallState.ENDED and verb is not Verb.DROP:
        return None
    arguments = command.arguments
    leg_id = ""
    if verb is Verb.DROP:
        leg_id = _leg_id(session, call, int(arguments["key"]))
        if not leg_id:
            return None
    return Command(
        verb=verb,
        call_id=call.call_id,
        call=call.id or 0,
        key=command.id or 0,
        label=str(arguments.get("label", "")),
        to=str(arguments.get("to", "")),
        caller_id=call.line,
        seconds=int(arguments.get("seconds", 20)),
        leg_id=leg_id,
        number=int(arguments.get("number", 0)),
    )


def _leg_id(session: Session, call: Call, key: int) -> str:
    """The provider's key of a leg that a command of ours rang; one that never left is called
    off."""
    rung = session.get(CallCommand, key)
    if rung is not None and rung.state == "queued":
        rung.state = "dropped"
    leg = Way.of(call).legs.get(str(key))
    return (rung.provider_id if rung else "") or (leg.leg_id if leg else "")


def _record(
    session: Session, number: int, result: _Result, plan: NumberPlan, now: datetime
) -> None:
    command = session.get_one(CallCommand, number)
    command.state, command.detail = result.state, result.detail
    command.attempts += 1
    command.provider_id = result.provider_id or command.provider_id
    if result.state == "queued":
        pause = timedelta(seconds=PAUSES[command.attempts - 1])
        command.next_at = now + spread(pause, number + command.attempts)
    session.flush()
    if result.state == "failed":
        call_desk.command_failed(session, command, gone=result.gone, plan=plan, now=now)
    elif result.state == "uncertain":
        call = calls.by_number(session, command.call_id)
        calls.tell(session, call, "call_command_uncertain", now, verb=command.verb)


def _leave_uncertain(session: Session) -> None:
    session.connection().execute(
        update(_C)
        .where(_C.c.state == "sending")
        .values(state="uncertain", detail="Tjenesten ble stoppet underveis.")
    )
