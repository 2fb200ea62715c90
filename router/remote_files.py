"""Files that came with a text: fetched from the provider (`router/fetching.py`), scanned like those
of a mail, put with their message, and deleted there."""

from __future__ import annotations

import asyncio
import re
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING

import structlog

from channels.base import Mark, PermanentError
from router import events, fetching
from router.files import Source, keep_file
from router.models import Inquiry, Message, RemoteFile

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from sqlmodel import Session

    from channels.email.scan import Scanner
    from channels.email.verdict import Verdict
    from channels.twilio import Account
    from router.db import Database
    from router.preparing import KeptFile

log = structlog.get_logger(__name__)

LIMIT = 20 * 1000 * 1000
"""Bytes of one file; Twilio takes 5 MB for all of a text."""

_MEDIA = re.compile(r".*/Messages/((?:SM|MM)[0-9a-fA-F]{32})/Media/(ME[0-9a-fA-F]{32})")


async def collect(
    db: Database,
    account: Account,
    scanner: Scanner | None,
    blobs: Path,
    clock: Callable[[], datetime],
) -> int:
    """Fetch and delete what is due; returns how many steps were tried."""

    async def step(file: RemoteFile) -> None:
        if file.state == "announced":
            await _fetch(db, account, scanner, blobs, file, clock)
        else:
            await _delete(db, account, file)

    return await fetching.collect(db, RemoteFile, step, _note_failure, clock)


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
    fetching.attach(session, file.message_id, kept)
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
    state = file.state
    given_up = fetching.put_off(file, error, now)
    log.warning("remote_file.not_done", file=number, state=state, error=type(error).__name__)
    if given_up:
        message = session.get_one(Message, file.message_id)
        events.tell(session, "file_lost", session.get_one(Inquiry, message.inquiry_id), now)
