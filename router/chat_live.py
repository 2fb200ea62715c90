"""The live side of chats: who has a page open, what is new for it, who is typing.

The store is the truth, and the event table says when to look: a page that was away is given
everything after the last message it saw. Only typing is told without being kept. Who listens is
renewed in the store as leases, so that a crash leaves nobody listening for ever.
"""

from __future__ import annotations

import asyncio
from collections import Counter as Tally
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, TypeAlias

import structlog

from router import chat, chat_queue, chat_views
from router.access import ACCESS_CHANGED
from router.chat_models import ConversationState
from router.chat_views import Side
from router.errors import NotFoundError, StoreUnavailableError, TooManyError
from router.events import RELOAD

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from router.chat_queue import Attendance
    from router.chat_views import Line, Standing
    from router.db import Database
    from router.events import EventHub, LiveEvent

log = structlog.get_logger(__name__)

QUEUE = 64
"""Updates that a slow page may lag behind before it is read anew from the store,"""
PIECE = 50
"""so many lines at a time: nobody holds a long talk in memory by not reading it."""
PAGES = 8
"""Open pages of one conversation on one side."""
PING_SECONDS = 15.0
"""Who was told nothing for so long is told that we are still there, at the next tick."""
PULSE_SECONDS = 0.02
"""What is said within this time is read in one go."""
TICK_SECONDS = 2.0
"""How often places in the line are looked at,"""
RENEW_SECONDS = 20.0
"""and leases renewed."""
REMEMBERED = 10_000
"""Signs of typing of which the time is known, to tell of no more than one a second."""
GRACE = timedelta(seconds=10)
"""A page that is closed may be opened anew so long after; then its resident has gone."""
HEARD = timedelta(seconds=45)
"""How long who only asks from time to time counts as there."""

_ENDED = ConversationState.ENDED
_QUIET = frozenset({"message_in", "replied", "delivered"})
"""Events after which only what was said is new."""


@dataclass(frozen=True, slots=True)
class Typing:
    """The other side is writing."""

    side: Side


Update: TypeAlias = "Line | Standing | Typing"


@dataclass(eq=False, slots=True)
class _Page:
    conversation_id: int
    side: Side
    inquiry_id: int | None
    last: int
    """Id of the last line it was given,"""
    offered: int = 0
    """and of the last one that waits for it."""
    updates: asyncio.Queue[Update | None] = field(
        default_factory=lambda: asyncio.Queue(maxsize=QUEUE)
    )
    standing: Standing | None = None
    overflowed: bool = False
    told_at: float = field(default_factory=monotonic)

    def offer(self, update: Update | None) -> None:
        if self.updates.full():
            self.overflowed = True
        else:
            self.told_at = monotonic()
            self.updates.put_nowait(update)

    def offer_line(self, number: int, line: Line | None) -> None:
        """A line that has come, None where it is not for this side."""
        if number > self.offered:
            self.offered = number
            if line is not None:
                self.offer(line)

    def start_anew(self) -> None:
        self.overflowed = False
        self.offered = self.last
        self.updates = asyncio.Queue(maxsize=QUEUE)


class ChatHub:
    """The open pages of this process, and what they are told."""

    def __init__(
        self,
        db: Database,
        hub: EventHub,
        terms: chat_queue.Terms,
        clock: Callable[[], datetime],
    ) -> None:
        self.terms = terms
        self.on_typing: Callable[[int, Side], None] | None = None
        """Told that one side writes, for those who have no page."""
        self.rights_changed = 0
        """How often somebody of us has got other rights."""
        self._db = db
        self._hub = hub
        self._clock = clock
        self._rooms: Tally[tuple[int, Side]] = Tally()
        self._pages: dict[int, set[_Page]] = {}
        self._by_inquiry: dict[int, set[int]] = {}
        self._heard: dict[int, datetime] = {}
        self._left: dict[int, datetime] = {}
        self._desks: Tally[int] = Tally()
        self._typed: dict[tuple[int, Side], float] = {}
        self._dirty: set[int] = set()
        """Inquiries in which something was said,"""
        self._stale: set[int] = set()
        """and conversations that stand differently."""
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False

    @property
    def pages(self) -> int:
        """Open pages, both sides together."""
        return sum(map(len, self._pages.values()))

    def start(self) -> None:
        """Begin to follow what happens."""
        self._loop = asyncio.get_running_loop()
        self._tasks = [
            asyncio.create_task(self._follow_events(), name="chat-events"),
            asyncio.create_task(self._deliver(), name="chat-lines"),
            asyncio.create_task(self._tick(), name="chat-standing"),
        ]

    async def stop(self) -> None:
        """End all pages."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for page in self._all():
            page.overflowed = True
            page.offer(Typing(page.side))  # only to wake it

    @contextmanager
    def room(self, conversation_id: int, side: Side) -> Iterator[None]:
        """Room for one more page. Raises `TooManyError` when too many of a conversation are
        open."""
        key = (conversation_id, side)
        if self._rooms[key] >= PAGES:
            raise TooManyError("This conversation is open in too many windows.")
        self._rooms[key] += 1
        try:
            yield
        finally:
            self._rooms[key] -= 1
            if not self._rooms[key]:
                del self._rooms[key]

    async def follow(
        self, conversation_id: int, side: Side, after: int
    ) -> AsyncGenerator[Update | None, None]:
        """Everything after a message, then what is new as it happens; None when it is quiet. Ends
        when the conversation does, or the service stops."""
        pages = self._pages.setdefault(conversation_id, set())
        known = next((other.inquiry_id for other in pages), None)
        page = _Page(conversation_id, side, known, after, overflowed=True)  # it has seen nothing
        pages.add(page)
        self._left.pop(conversation_id, None)
        try:
            if side is Side.RESIDENT:
                await self._renew([conversation_id])
            while not self._closed:
                updates = await self._catch_up(page) if page.overflowed else await _next(page)
                if self._is_over():
                    return
                for update in updates:
                    yield update
                    if isinstance(update, chat_views.Standing) and update.state is _ENDED:
                        return
        finally:
            self._remove(page)

    def heard(self, conversation_id: int) -> None:
        """A page without a stream asked, so it is open; callable from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._note_heard, conversation_id)

    def typing(self, conversation_id: int, side: Side) -> None:
        """One side is writing; the other is told at most once a second."""
        now = asyncio.get_running_loop().time()
        key = (conversation_id, side)
        if now - self._typed.get(key, -1.0) < 1:
            return
        if len(self._typed) >= REMEMBERED:
            self._typed.clear()
        self._typed[key] = now
        if self.on_typing is not None:
            self.on_typing(conversation_id, side)
        for page in self._pages.get(conversation_id, ()):
            if page.side is not side:
                page.offer(Typing(side))

    def changed(self, conversation_id: int, inquiry_id: int | None = None) -> None:
        """Something of a conversation is new that no event tells: its inquiry, a read mark."""
        if inquiry_id is not None:
            self._bind(conversation_id, inquiry_id)
            self._dirty.add(inquiry_id)
        self._stale.add(conversation_id)
        self._wake.set()

    def enter_desk(self, staff_id: int) -> None:
        """Somebody has opened a page of the desk."""
        self._desks[staff_id] += 1
        if self._desks[staff_id] == 1:
            self._submit(partial(chat_queue.at_desk, staff_ids=[staff_id], now=self._clock()))

    def leave_desk(self, staff_id: int) -> None:
        """One of their pages is closed. They stay a while: another one may be opening."""
        self._desks[staff_id] -= 1
        if self._desks[staff_id] <= 0:
            del self._desks[staff_id]

    def _note_heard(self, conversation_id: int) -> None:
        self._heard[conversation_id] = self._clock() + HEARD
        self._left.pop(conversation_id, None)

    def _is_over(self) -> bool:
        return self._closed

    def _all(self) -> list[_Page]:
        return [page for pages in self._pages.values() for page in pages]

    def _remove(self, page: _Page) -> None:
        number = page.conversation_id
        pages = self._pages.get(number, set())
        pages.discard(page)
        if not any(other.side is Side.RESIDENT for other in pages) and page.side is Side.RESIDENT:
            self._left[number] = self._clock()
        if not pages:
            self._pages.pop(number, None)
            self._typed.pop((number, Side.RESIDENT), None)
            self._typed.pop((number, Side.STAFF), None)
            if page.inquiry_id is not None:
                known = self._by_inquiry.get(page.inquiry_id, set())
                known.discard(number)
                if not known:
                    self._by_inquiry.pop(page.inquiry_id, None)

    def _bind(self, conversation_id: int, inquiry_id: int) -> None:
        pages = self._pages.get(conversation_id)
        if not pages:
            return
        self._by_inquiry.setdefault(inquiry_id, set()).add(conversation_id)
        for page in pages:
            page.inquiry_id = inquiry_id

    async def _follow_events(self) -> None:
        def concerns(event: LiveEvent) -> bool:
            return event.inquiry_id in self._by_inquiry or event.kind == ACCESS_CHANGED

        def wants() -> bool:
            return bool(self._by_inquiry)

        async with aclosing(self._hub.subscribe(concerns, own=True, wants=wants)) as events:
            async for event in events:
                if event is None:
                    continue
                if event.kind == RELOAD:
                    self._dirty |= self._by_inquiry.keys()
                    self._stale |= self._pages.keys()
                elif event.kind == ACCESS_CHANGED:
                    self._ask_again()
                elif event.inquiry_id is not None:
                    self._dirty.add(event.inquiry_id)
                    if event.kind not in _QUIET:
                        self._stale |= self._by_inquiry.get(event.inquiry_id, set())
                self._wake.set()

    def _ask_again(self) -> None:
        """Show staff how things stand anew: whoever shows it asks whether they may see it."""
        self.rights_changed += 1
        for page in self._all():
            if page.side is Side.STAFF:
                page.standing = None
        self._stale |= self._pages.keys()

    async def _deliver(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            dirty, self._dirty = self._dirty, set()
            stale, self._stale = self._stale, set()
            try:
                if dirty:
                    await self._hand_out(dirty)
                if stale:
                    await self._show_standings(stale)
            except Exception:
                log.exception("chat.read_failed")
                self._dirty |= dirty
                self._stale |= stale
                await asyncio.sleep(1)
                self._wake.set()
            await asyncio.sleep(PULSE_SECONDS)

    async def _hand_out(self, dirty: Iterable[int]) -> None:
        since: dict[int, int] = {}
        for number in dirty:
            # Who has fallen behind reads for themselves.
            offered = [page.offered for page in self._of_inquiry(number) if not page.overflowed]
            if offered:
                since[number] = min(offered)
        if not since:
            return
        lines, more = await asyncio.to_thread(self._read_new, since)
        for for_resident, for_staff in lines:
            for page in self._of_inquiry(for_staff.inquiry_id):
                mine = for_staff if page.side is Side.STAFF else for_resident
                page.offer_line(for_staff.id, mine)
        if more:
            self._dirty |= since.keys()
            self._wake.set()

    def _of_inquiry(self, inquiry_id: int) -> list[_Page]:
        return [
            page
            for number in self._by_inquiry.get(inquiry_id, ())
            for page in self._pages.get(number, ())
        ]

    async def _tick(self) -> None:
        beats = 0
        while True:
            await asyncio.sleep(TICK_SECONDS)
            beats += 1
            self._ping()
            try:
                await self._show_standings(self._pages)
                await self._note_who_left()
                if beats * TICK_SECONDS % RENEW_SECONDS == 0:
                    await self._renew_all()
            except StoreUnavailableError:
                continue  # the next beat tries again
            except Exception:
                log.exception("chat.tick_failed")

    async def _show_standings(self, conversation_ids: Iterable[int]) -> None:
        ids = [number for number in conversation_ids if number in self._pages]
        standings = await asyncio.to_thread(self._read_standings, ids) if ids else {}
        for number, standing in standings.items():
            if standing.inquiry_id is not None and any(
                page.inquiry_id is None for page in self._pages.get(number, ())
            ):
                self.changed(number, standing.inquiry_id)
            for page in self._pages.get(number, ()):
                if page.standing != standing:
                    page.standing = standing
                    page.offer(standing)

    def _ping(self) -> None:
        quiet_since = monotonic() - PING_SECONDS
        for page in self._all():
            if page.told_at <= quiet_since:
                page.offer(None)

    async def _note_who_left(self) -> None:
        """Who closed the last page a while ago has gone."""
        now = self._clock()
        gone = [number for number, at in self._left.items() if at + GRACE <= now]
        if not gone:
            return
        for number in gone:
            self._left.pop(number, None)
        still = self._there(now)
        await self._db.write(partial(chat.stop_listening, ids=set(gone) - still, now=now))

    def _there(self, now: datetime) -> set[int]:
        self._heard = {number: until for number, until in self._heard.items() if until > now}
        return set(self._heard) | {
            page.conversation_id for page in self._all() if page.side is Side.RESIDENT
        }

    async def _renew_all(self) -> None:
        now = self._clock()
        await self._renew(self._there(now))
        if self._desks:
            await self._db.write(partial(chat_queue.at_desk, staff_ids=list(self._desks), now=now))

    async def _renew(self, ids: Iterable[int]) -> None:
        ids = list(ids)
        if ids:
            await self._db.write(partial(chat.listen, ids=ids, now=self._clock()))

    def _submit(self, job: Callable[..., None]) -> None:
        try:
            self._db.submit(job)
        except StoreUnavailableError:
            log.warning("chat.desk_not_noted")

    async def _catch_up(self, page: _Page) -> Sequence[Update | None]:
        """The next of what a page has not seen; after the last of it, how things stand."""
        page.start_anew()
        found = await asyncio.to_thread(self._read_standings, [page.conversation_id])
        standing = found.get(page.conversation_id)
        if standing is None:
            return []
        lines: list[Line] = []
        if standing.inquiry_id is not None:
            # Before reading, so that what is said meanwhile is not missed.
            self._bind(page.conversation_id, standing.inquiry_id)
            lines = await asyncio.to_thread(self._read_lines, standing.inquiry_id, page)
        if lines:
            page.last = lines[-1].id
            page.offered = max(page.offered, page.last)
        if len(lines) >= PIECE:
            page.overflowed = True
            return lines
        page.standing = standing
        return [*lines, standing]

    def _read_lines(self, inquiry_id: int, page: _Page) -> list[Line]:
        with self._db.read() as session:
            return chat_views.lines_since(session, inquiry_id, page.last, PIECE, page.side)

    def _read_new(self, since: dict[int, int]) -> tuple[list[tuple[Line | None, Line]], bool]:
        with self._db.read() as session:
            return chat_views.lines_for_both(session, since)

    def _read_standings(self, ids: list[int]) -> dict[int, Standing]:
        now = self._clock()
        with self._db.read() as session:
            turns = chat_queue.turns(session, self.terms, now)
            return chat_views.standings(session, ids, turns, now)

    def standing(self, conversation_id: int) -> Standing:
        """How things stand in a conversation. Raises `NotFoundError`; for worker threads."""
        found = self._read_standings([conversation_id])
        if conversation_id not in found:
            raise NotFoundError
        return found[conversation_id]

    def attendance(self) -> Attendance:
        """Who is there now; for worker threads."""
        with self._db.read() as session:
            return chat_queue.attendance(session, self.terms, self._clock())


async def _next(page: _Page) -> Sequence[Update | None]:
    """The next update of a page; nothing when it has seen that already."""
    update = await page.updates.get()
    if isinstance(update, chat_views.Line):
        if update.id <= page.last:
            return []
        page.last = update.id
    return [update]
