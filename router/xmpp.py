"""What the hall does with what comes by XMPP, and what it tells by it of its own accord."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from channels.base import DeliveryState, DeliveryStatus, TemporaryError
from channels.chat.xmpp import CHANNEL, case_of
from channels.chat.xmpp_door import Verdict, XmppChannel, XmppSettings, stanza_id
from channels.chat.xmpp_link import LinkSettings
from router import deliveries, leases, metrics, xmpp_staff, xmpp_talks
from router.chat_models import Conversation
from router.chat_views import Side
from router.errors import StoreUnavailableError
from router.xmpp_staff import RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from datetime import datetime

    from channels.base import Disposition, RawArrival
    from channels.chat.xmpp import Said
    from router.chat_live import ChatHub
    from router.correspondence import Letterhead
    from router.db import Database
    from router.events import EventHub, LiveEvent
    from router.reception import Reception
    from router.sending import Outbox
    from router.settings import Settings

log = structlog.get_logger(__name__)

LEASE = "xmpp"
PULSE_SECONDS = 0.02
"""What happens within this time is told in one go."""
LOOK_SECONDS = 15.0
"""How often it is looked for what no event has told of."""
PAUSE = timedelta(seconds=15)
"""How long an inquiry is left alone that could not be told; twice as long after each failure,"""
LONGEST_PAUSE = timedelta(minutes=15)
"""and at most so long."""
TYPING = 20
"""Signs of writing that are looked up at the same time."""


@dataclass(frozen=True, slots=True)
class _Setback:
    """An inquiry that could not be told; the others go on."""

    pause: timedelta
    until: datetime


class XmppOffice:
    """`Office` of the XMPP door."""

    def __init__(
        self,
        settings: Settings,
        db: Database,
        hub: EventHub,
        chats: ChatHub,
        reception: Reception,
        outbox: Outbox,
        head: Letterhead,
        clock: Callable[[], datetime],
    ) -> None:
        door = settings.channels.xmpp
        self._db = db
        self._hub = hub
        self._chats = chats
        self._reception = reception
        self._outbox = outbox
        self._head = head
        self._capacity = settings.channels.chat.capacity
        self._clock = clock
        # Chance, because process numbers come again.
        self._me = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._alone = not db.shared
        self._untold: set[int] | None = None
        """Inquiries in which something happened; None for all."""
        self._setbacks: dict[int, _Setback] = {}
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._jobs: set[asyncio.Task[None]] = set()
        self.door = XmppChannel(
            XmppSettings(
                link=LinkSettings(
                    host=door.host,
                    port=door.port,
                    domain=door.domain,
                    secret=door.secret.get_secret_value(),
                    name=settings.municipality.name,
                ),
                departments=settings.xmpp_addresses,
                messages_per_minute=settings.channels.chat.messages_per_minute,
                domain_messages_per_minute=door.domain_messages_per_minute,
                domain_newcomers_per_hour=door.domain_newcomers_per_hour,
                own_domains=settings.xmpp_own_domains,
            ),
            self,
            clock,
        )

    def start(self) -> None:
        """Begin to tell staff what is written in what they hold, and each side that the other
        writes."""
        self._chats.on_typing = self._typed
        self._wake.set()
        self._tasks = [
            asyncio.create_task(self._follow(), name="xmpp-events"),
            asyncio.create_task(self._tell(), name="xmpp-relay"),
        ]

    async def stop(self) -> None:
        """Tell no more."""
        self._chats.on_typing = None
        for task in (*self._tasks, *self._jobs):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._jobs, return_exceptions=True)

    @property
    def problem(self) -> str:
        """Empty when all that is to be told to staff is."""
        if not self._setbacks:
            return ""
        return f"Inquiries whose holder could not be told of what came: {len(self._setbacks)}."

    async def receive(self, arrival: RawArrival) -> Disposition:
        """Journal a message. Raises `TemporaryError`."""
        return await self._reception.receive(arrival)

    async def answer(self, said: Said) -> Verdict:
        """Take an answer of staff. Raises `TemporaryError`."""
        now = self._clock()
        try:
            verdict = await self._db.write(
                partial(
                    xmpp_staff.hear, head=self._head, said=said, capacity=self._capacity, now=now
                )
            )
        except RefusedError as refused:
            return refused.verdict
        except StoreUnavailableError as error:
            raise TemporaryError from error
        self._outbox.wake()
        return verdict

    async def knows(self, jid: str, local: str) -> bool:
        """Whether somebody has a talk with us at this address of ours."""
        now = self._clock()

        def look() -> bool:
            with self._db.read() as session:
                return xmpp_talks.open_talk(session, jid, local, now) is not None

        return await asyncio.to_thread(look)

    async def fared(self, message_id: str, jid: str, state: DeliveryState, detail: str) -> None:
        """How far a message of ours has come."""

        def known() -> bool:
            with self._db.read() as session:
                return deliveries.is_ours(session, message_id, jid)

        # Anybody may send receipts and errors for what never was.
        if not await asyncio.to_thread(known):
            return
        status = DeliveryStatus(stanza_id(message_id), state, detail)
        now = self._clock()
        await self._db.write(
            lambda session: deliveries.fared(session, message_id, jid, status, now)
        )

    async def composing(self, jid: str, local: str) -> None:
        """Show the other side that somebody writes."""
        side = Side.STAFF if case_of(local) else Side.RESIDENT
        find = xmpp_staff.talk_of if side is Side.STAFF else xmpp_talks.open_talk
        now = self._clock()

        def look() -> int | None:
            with self._db.read() as session:
                return find(session, jid, local, now)

        number = await asyncio.to_thread(look)
        if number is not None:
            self._chats.typing(number, side)

    async def hold(self, seconds: float) -> str:
        """Take or renew the lease; returns who has it, empty when we do."""
        span = timedelta(seconds=seconds)
        job = partial(
            leases.take,
            name=LEASE,
            holder=self._me,
            now=self._clock(),
            span=span,
            alone=self._alone,
        )
        return await self._db.write(job)

    async def let_go(self) -> None:
        """Give the lease up."""
        await self._db.write(partial(leases.release, name=LEASE, holder=self._me))

    def count(self, outcome: str) -> None:
        """For the figures."""
        metrics.STANZAS.labels(outcome).inc()

    def turned(self, up: bool) -> None:
        """The stream is up: what waits for it goes now."""
        if up:
            self._spawn(self._outbox.reopen(CHANNEL))
            self._wake.set()

    async def _follow(self) -> None:
        def concerns(event: LiveEvent) -> bool:
            return event.inquiry_id is not None

        async with aclosing(self._hub.subscribe(concerns, own=True)) as events:
            async for event in events:
                if event is None:
                    continue
                if event.inquiry_id is None:
                    self._untold = None
                elif self._untold is not None:
                    self._untold.add(event.inquiry_id)
                self._wake.set()

    async def _tell(self) -> None:
        """Relay what is new, as it happens, and once in a while whatever was missed."""
        while True:
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                self._untold = None
            self._wake.clear()
            only, self._untold = self._untold, set()
            try:
                # Whoever has the link tells; else two services would do it twice.
                if not self.door.elsewhere:
                    await self._relay(only)
            except Exception:
                log.exception("xmpp.relay_failed")
                self._untold = None
                await asyncio.sleep(1)
            await asyncio.sleep(PULSE_SECONDS)

    async def _relay(self, only: set[int] | None) -> None:
        now = self._clock()
        if only is not None:
            only = only | {one for one, setback in self._setbacks.items() if setback.until <= now}

        def look() -> list[int]:
            resting = {one for one, setback in self._setbacks.items() if setback.until > now}
            with self._db.read() as session:
                return xmpp_staff.untold(session, only, resting)

        def still_owed() -> set[int]:
            with self._db.read() as session:
                return set(xmpp_staff.untold(session, set(self._setbacks)))

        if only is not None and not only:
            return
        told = 1
        while told and (numbers := await asyncio.to_thread(look)):
            told = 0
            for number in numbers:
                told += await self._tell_of(number, now)
            self._outbox.wake()
        if self._setbacks:
            owed = await asyncio.to_thread(still_owed)
            self._setbacks = {one: it for one, it in self._setbacks.items() if one in owed}

    async def _tell_of(self, number: int, now: datetime) -> int:
        """Tell what is new in one inquiry; one that fails is left alone for a while. Raises what
        concerns the store."""
        try:
            told = await self._db.write(
                partial(xmpp_staff.relay, head=self._head, inquiry_id=number, now=now)
            )
        except StoreUnavailableError:
            raise
        except Exception:
            log.exception("xmpp.relay_failed", inquiry=number)
            metrics.RELAYS.labels("failed").inc()
            before = self._setbacks.get(number)
            pause = min(before.pause * 2, LONGEST_PAUSE) if before is not None else PAUSE
            self._setbacks[number] = _Setback(pause, now + pause)
            # It counts as dealt with, so that those behind it are looked for.
            return 1
        self._setbacks.pop(number, None)
        if told:
            metrics.RELAYS.labels("told").inc()
        return told

    def _typed(self, conversation_id: int, side: Side) -> None:
        if len(self._jobs) < TYPING:
            self._spawn(self._show_typing(conversation_id, side))

    async def _show_typing(self, conversation_id: int, side: Side) -> None:
        """Show whoever has no page that the other side writes."""

        def look() -> tuple[str, str] | None:
            with self._db.read() as session:
                talk = session.get(Conversation, conversation_id)
                if talk is None:
                    return None
                if side is Side.STAFF:
                    return (talk.jid, talk.local) if talk.jid else None
                return xmpp_staff.holder_of(session, talk.inquiry_id)

        found = await asyncio.to_thread(look)
        if found is not None:
            self.door.composing(*found)

    def _spawn(self, job: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(_told(job))
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)


async def _told(job: Coroutine[Any, Any, None]) -> None:
    """Do something of which nobody waits for the end; what is wrong with it is logged."""
    try:
        await job
    except Exception:
        log.exception("xmpp.job_failed")
