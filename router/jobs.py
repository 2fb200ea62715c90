"""The few things done on a beat. Declared here, held in memory; what is due lives in the store,
not in a job."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_EXECUTED, JobExecutionEvent
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from channels.phone.vault import TwilioVault
from router import (
    chat,
    chat_letters,
    chat_queue,
    credentials,
    deadlines,
    leftovers,
    presence,
    reconcile,
    recordings,
    remote_files,
    scanning,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from router.hall import Hall

log = structlog.get_logger(__name__)

PATIENCE = timedelta(seconds=60)
"""An arrival unprocessed for so long raises an alarm on the desk."""


@dataclass(frozen=True, slots=True)
class Job:
    """One beat."""

    name: str
    seconds: int
    run: Callable[[Hall], Awaitable[object]]


async def sweep_deadlines(hall: Hall) -> None:
    """Warn and mark overdue."""
    await deadlines.sweep(hall.db, hall.clock())


async def watch_arrivals(hall: Hall) -> None:
    """Find arrivals nobody has in hand, and raise an alarm for old ones."""
    await hall.reception.find_waiting()
    now = hall.clock()
    await hall.db.write(lambda session: deadlines.alarm_unprocessed(session, now, PATIENCE))


async def scan_again(hall: Hall) -> None:
    """Show the scanners what came in while they were silent."""
    await scanning.scan_again(hall.db, hall.scanner, hall.settings.blobs, hall.clock)


async def forget_credentials(hall: Hall) -> None:
    """Delete sessions and one-time sign-ins that have run out."""
    now = hall.clock()
    await hall.db.write(lambda session: credentials.purge_expired(session, now))


async def tell_presence(hall: Hall) -> None:
    """Tell of people whose mark has run out."""
    now = hall.clock()
    with hall.db.read() as session:
        untold = presence.any_untold(session, now)
    if untold:
        await hall.db.write(lambda session: presence.announce_ended(session, now, hall.directory))


async def forget_presence(hall: Hall) -> None:
    """Delete what was said of where people were, when it is old."""
    now = hall.clock()
    await hall.db.write(lambda session: presence.forget_old(session, now))


async def fetch_files(hall: Hall) -> None:
    """Fetch pictures that came with texts."""
    if hall.twilio is not None:
        await remote_files.collect(
            hall.db, hall.twilio, hall.file_scanner, hall.settings.blobs, hall.clock
        )


async def reconcile_provider(hall: Hall) -> None:
    """Compare the provider's lists with ours."""
    if hall.reconciler is not None:
        await hall.reconciler.run()


async def end_stale_calls(hall: Hall) -> None:
    """End calls whose end nobody has told."""
    plan, now = hall.plan, hall.clock()
    if plan is not None:
        await hall.db.write(lambda session: reconcile.end_stale(session, plan, now))


async def collect_recordings(hall: Hall) -> None:
    """Bring what callers left at the provider into our store, and delete it there."""
    if hall.twilio is not None and hall.settings.channels.phone.enabled:
        vault = TwilioVault(hall.twilio)
        await recordings.collect(hall.db, vault, hall.settings.blobs, hall.clock)


async def sweep_chats(hall: Hall) -> None:
    """Turn chats that nobody answers into ordinary inquiries, and see who has gone."""
    now, terms, head = hall.clock(), hall.chats.terms, hall.reply_context

    def is_due() -> bool:
        with hall.db.read() as session:
            return chat_queue.is_sweep_due(session, terms, now)

    if await asyncio.to_thread(is_due):
        await hall.db.write(lambda session: chat_queue.sweep(session, head, terms, now))
        hall.outbox.wake()


async def mail_unread_chats(hall: Hall) -> None:
    """Send answers that nobody has read in the chat by e-mail."""
    now, door, head = hall.clock(), hall.settings.channels.chat, hall.reply_context

    def is_due() -> bool:
        with hall.db.read() as session:
            return bool(chat_letters.unread(session, door, now))

    if await asyncio.to_thread(is_due):
        await hall.db.write(lambda session: chat_letters.send_unread(session, head, door, now))
        hall.outbox.wake()


async def end_chats(hall: Hall) -> None:
    """End conversations that have run out."""
    now = hall.clock()
    await hall.db.write(lambda session: chat.expire(session, now))


async def sweep_files(hall: Hall) -> None:
    """Delete files that nothing refers to."""
    await asyncio.to_thread(leftovers.sweep, hall.db, hall.settings.blobs)


JOBS = (
    Job("sweep_deadlines", 5, sweep_deadlines),
    Job("watch_arrivals", 15, watch_arrivals),
    Job("scan_again", 15, scan_again),
    Job("fetch_files", 5, fetch_files),
    Job("forget_credentials", 3600, forget_credentials),
    Job("reconcile_provider", 300, reconcile_provider),
    Job("end_stale_calls", 60, end_stale_calls),
    Job("collect_recordings", 5, collect_recordings),
    Job("tell_presence", 15, tell_presence),
    Job("forget_presence", 3600, forget_presence),
    Job("sweep_chats", 5, sweep_chats),
    Job("mail_unread_chats", 30, mail_unread_chats),
    Job("end_chats", 3600, end_chats),
    Job("sweep_files", 12 * 3600, sweep_files),
)


class Beat:
    """APScheduler with the jobs above: one at a time each, late ones run once, failures are
    told."""

    def __init__(self, hall: Hall) -> None:
        self._hall = hall
        self.last_run: dict[str, datetime] = {}
        self.failing: dict[str, str] = {}
        self._scheduler = AsyncIOScheduler(
            timezone=UTC,
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        self._scheduler.add_listener(self._note, EVENT_JOB_EXECUTED | EVENT_JOB_ERROR)

    def start(self) -> None:
        """Run every job soon, then on its beat."""
        for job in JOBS:
            self._scheduler.add_job(
                partial(job.run, self._hall),
                "interval",
                seconds=job.seconds,
                id=job.name,
                next_run_time=datetime.now(UTC),
            )
        self._scheduler.start()

    def stop(self) -> None:
        """Stop the beat."""
        self._scheduler.shutdown(wait=False)

    def health(self) -> str:
        """Empty when well, else which job fails or has not run."""
        if self.failing:
            return "; ".join(f"{name}: {error}" for name, error in sorted(self.failing.items()))
        if not self._scheduler.running:
            return "The scheduler is not running."
        return ""

    def _note(self, event: JobExecutionEvent | Any) -> None:
        if event.exception is None:
            self.last_run[event.job_id] = datetime.now(UTC)
            self.failing.pop(event.job_id, None)
            return
        self.failing[event.job_id] = type(event.exception).__name__
        log.error("job.failed", job=event.job_id, error=type(event.exception).__name__)
