"""Has mail looked at by the scanners beside us, after it was accepted and before it is read.

What comes in while one of them is silent is shown to them later.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col

from channels.base import Mark
from channels.email.identity import content_key
from channels.email.scan import Scanner
from router import events, journal, metrics
from router.journal import same_key
from router.models import Arrival, Inquiry, Message, Unscanned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime
    from pathlib import Path

    from channels.email.verdict import Verdict
    from router.db import Database
    from router.preparing import Prepared, Work
    from router.settings import Settings

BATCH = 200
"""Mails that one round shows to the scanners once more."""

AT_ONCE = 2
"""Of them at the same time: what has just come in goes first."""

PATIENCE = 60.0
"""Seconds that a scanner gets for one of them, since nobody waits."""

LATER = tuple(timedelta(minutes=m) for m in (5, 30, 240, 1440))
"""Pauses after attempts in vain; then its mark stays."""

_TABLE: Any = Unscanned.__table__  # type: ignore[attr-defined]
_MESSAGE: Any = Message.__table__  # type: ignore[attr-defined]


def scanner_of(settings: Settings) -> Scanner | None:
    """The scanners of an installation; None when it has none."""
    scan = settings.channels.email.scan
    return Scanner(scan.clamd, scan.rspamd) if scan.clamd or scan.rspamd else None


def file_scanner_of(settings: Settings) -> Scanner | None:
    """What looks at a single file: a scanner for viruses; spam is a matter of whole mails."""
    clamd = settings.channels.email.scan.clamd
    return Scanner(clamd) if clamd else None


async def scanned(scanner: Scanner | None, work: Sequence[Work]) -> list[Work]:
    """The same work, each mail with the verdict in its envelope. Never raises for a scanner."""
    if scanner is None:
        return list(work)
    return list(await asyncio.gather(*(_scanned(scanner, one) for one in work)))


async def _scanned(scanner: Scanner, work: Work) -> Work:
    if work.channel != "email":
        return work
    verdict = await scanner.scan(work.blob or work.raw, work.envelope)
    metrics.SCANS.labels(_result(verdict)).inc()
    return replace(work, envelope={**work.envelope, "scan": verdict.for_envelope()})


def _result(verdict: Verdict) -> str:
    if verdict.virus:
        return "virus"
    if verdict.spam:
        return "spam"
    return "unscanned" if verdict.unscanned else "clean"


def remember(session: Session, taken_in: Iterable[Prepared], now: datetime) -> None:
    """Note what came in unscanned, in the transaction that takes it in."""
    rows = [
        {"arrival_id": item.arrival_id, "attempts": 0, "next_at": now}
        for item in taken_in
        if Mark.UNSCANNED in item.incoming.marks
    ]
    if rows:
        connection = session.connection()
        dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
        connection.execute(dialect.insert(_TABLE).on_conflict_do_nothing(), rows)


async def scan_again(
    db: Database, scanner: Scanner | None, blobs: Path, clock: Callable[[], datetime]
) -> None:
    """Show the scanners what came in while one of them was silent, as soon as all answer."""
    if scanner is None:
        return
    waiting = iter(await asyncio.to_thread(_due, db, clock()))

    async def lane() -> None:
        for number in waiting:
            if not await scanner.answers():  # it is to blame, and not the mail
                return
            content, envelope = await asyncio.to_thread(_mail, db, blobs, number)
            verdict = await scanner.scan(content, envelope, PATIENCE)
            metrics.SCANS.labels(_result(verdict)).inc()
            key = await asyncio.to_thread(content_key, content)
            await db.write(partial(_settle, number=number, key=key, verdict=verdict, now=clock()))

    await asyncio.gather(*(lane() for _ in range(AT_ONCE)))


def _due(db: Database, now: datetime) -> list[int]:
    query = (
        select(_TABLE.c.arrival_id)
        .where(_TABLE.c.next_at <= now)
        .order_by(_TABLE.c.next_at, _TABLE.c.arrival_id)
        .limit(BATCH)
    )
    with db.read() as session:
        return list(session.connection().execute(query).scalars())


def _mail(db: Database, blobs: Path, number: int) -> tuple[bytes | Path, dict[str, Any]]:
    with db.read() as session:
        arrival = session.get_one(Arrival, number)
        return journal.source(session, arrival, blobs), arrival.envelope


def _settle(session: Session, number: int, key: str, verdict: Verdict, now: datetime) -> None:
    """Write down what the scanners say now. Spam stays where it is: somebody may be at it."""
    waiting = session.get(Unscanned, number)
    if waiting is None:
        return
    if verdict.unscanned and not verdict.virus:
        if waiting.attempts < len(LATER):
            waiting.next_at = now + LATER[waiting.attempts]
            waiting.attempts += 1
        else:
            session.delete(waiting)
        return
    session.delete(waiting)
    arrival = session.get_one(Arrival, number)
    # The arrival may be a further delivery of a message that came in by another.
    messages = session.execute(
        select(Message).where(
            col(Message.inquiry_id) == arrival.inquiry_id,
            col(Message.channel) == arrival.channel,
            or_(col(Message.arrival_id) == number, same_key(_MESSAGE.c, key)),
        )
    ).scalars()
    for message in messages:
        note_verdict(session, message, verdict.marks, now)


def note_verdict(session: Session, message: Message, marks: Sequence[str], now: datetime) -> None:
    """Write down what the scanners say of a message that is here: `marks` of its content."""
    kept = [mark for mark in message.marks if mark not in {Mark.UNSCANNED, *marks}]
    message.marks = [*marks, *kept]
    inquiry = session.get_one(Inquiry, message.inquiry_id)
    events.record(
        session,
        "quarantined" if Mark.QUARANTINED in marks else "scanned",
        at=now,
        inquiry_id=inquiry.id,
        department=inquiry.department,
        data={"ref": inquiry.ref},
    )
