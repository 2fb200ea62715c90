"""Files that came with a text: fetched from the provider, looked at like those of a mail, put with
their message, and deleted there.

Each step is committed before the next begins and can be done again.
"""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import select, text
from sqlmodel import Session, col

from channels.base import ChannelError, Mark, PermanentError
from router import events
from router.files import Source, keep_file
from router.models import Inquiry, Message, RemoteFile, StoredAttachment

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from channels.email.scan import Scanner
    from channels.email.verdict import Verdict
    from channels.twilio import Account
    from router.db import Database
    from router.preparing import KeptFile

log = structlog.get_logger(__name__)

LIMIT = 20 * 1000 * 1000
"""Bytes of one file; Twilio takes 5 MB for all of a text."""

RETRY_MINUTES = (1, 2, 5, 15, 30, 60)
"""Pauses after a failure, then the last one again and again."""

GIVE_UP = timedelta(days=3)
"""What could not be fetched for so long is told to the operators, and stays with the provider."""

BATCH = 20

_MEDIA = re.compile(r".*/Messages/((?:SM|MM)[0-9a-fA-F]{32})/Media/(ME[0-9a-fA-F]{32})")

# Written out, so that the planner uses the partial index.
_OPEN = text("remote_file.state IN ('announced', 'fetched')")


async def collect(
    db: Database,
    account: Account,
    scanner: Scanner | None,
    blobs: Path,
    clock: Callable[[], datetime],
) -> int:
    """Fetch and delete what is due; returns how many steps were tried."""
    tried = 0
    while due := _read_due(db, clock()):
        for file in due:
            try:
                if file.state == "announced":
                    await _fetch(db, account, scanner, blobs, file, clock)
                else:
                    await _delete(db, account, file)
            except (ChannelError, OSError) as error:
                number = file.id or 0
                await db.write(partial(_note_failure, number=number, error=error, now=clock()))
        tried += len(due)
    return tried


def _read_due(db: Database, now: datetime) -> list[RemoteFile]:
    query = (
        select(RemoteFile)
        .where(_OPEN, col(RemoteFile.next_at) <= now)
        .order_by(col(RemoteFile.next_at), col(RemoteFile.id))
        .limit(BATCH)
    )
    with db.read() as session:
        return list(session.execute(query).scalars())


async def _fetch(
    db: Database,
    account: Account,
    scanner: Scanner | None,
    blobs: Path,
    file: RemoteFile,
    clock: Callable[[], datetime],
) -> None:
    media = await account.fetch(file.url, LIMIT)
    verdict = await scanner.scan(media.content, {}) if scanner is not None else None
    source = Source("", media.content_type, BytesIO(media.content))
    kept = await asyncio.to_thread(keep_file, blobs, source, file.id or 0, LIMIT)
    job = partial(_take_in, number=file.id or 0, kept=kept, verdict=verdict, now=clock())
    await db.write(job)


async def _delete(db: Database, account: Account, file: RemoteFile) -> None:
    found = _MEDIA.fullmatch(file.url)
    if found is not None:
        message, media = found.groups()
        try:
            await account.ask(lambda client: client.messages(message).media(media).delete())
        except PermanentError:
            log.info("remote_file.gone", file=file.id)  # somebody else has deleted it

    def job(session: Session) -> None:
        session.get_one(RemoteFile, file.id).state = "deleted"

    await db.write(job)


def _take_in(
    session: Session, number: int, kept: KeptFile, verdict: Verdict | None, now: datetime
) -> None:
    file = session.get_one(RemoteFile, number)
    if file.state != "announced":
        return
    file.state, file.attempts, file.next_at, file.detail = "fetched", 0, now, ""
    session.add(
        StoredAttachment(
            message_id=file.message_id,
            filename=kept.filename,
            content_type=kept.content_type,
            size=kept.size,
            sha256=kept.sha256,
        )
    )
    message = session.get_one(Message, file.message_id)
    marks = verdict.marks if verdict is not None else ()
    message.marks = [*message.marks, *(m.value for m in marks if m.value not in message.marks)]
    inquiry = session.get_one(Inquiry, message.inquiry_id)
    inquiry.version += 1
    events.tell(session, "file_in", inquiry, now)
    if Mark.QUARANTINED in marks:
        events.tell(session, "quarantined", inquiry, now)


def _note_failure(session: Session, number: int, error: Exception, now: datetime) -> None:
    file = session.get_one(RemoteFile, number)
    file.attempts += 1
    file.detail = str(error)[:200] or type(error).__name__
    pause = RETRY_MINUTES[min(file.attempts, len(RETRY_MINUTES)) - 1]
    file.next_at = now + timedelta(minutes=pause)
    log.warning("remote_file.not_done", file=number, state=file.state, error=type(error).__name__)
    if file.state != "announced":
        return  # it must go, however long that takes
    if isinstance(error, PermanentError) or now - file.created_at > GIVE_UP:
        file.state = "failed"
        message = session.get_one(Message, file.message_id)
        events.tell(session, "file_lost", session.get_one(Inquiry, message.inquiry_id), now)
