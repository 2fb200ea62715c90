"""Voicemail: fetched from the provider into our store, put into its inquiry's thread, and deleted
there.

Each step is committed before the next begins and can be done again: whatever ends the service in
between, the sound is fetched or deleted once more, and the thread has it once.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any, Protocol

import structlog
from sqlalchemy import func, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col

from channels.base import ChannelError, PermanentError
from channels.media import NotThereError
from channels.phone.base import CHANNEL, RecordingRef, is_number
from channels.phone.sound import is_silent
from router import events
from router.call_models import Call, Recording
from router.counters import counted
from router.files import Source, keep_file
from router.models import (
    Direction,
    Inquiry,
    InquiryStatus,
    Message,
    ReplyState,
    StoredAttachment,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from router.db import Database
    from router.preparing import KeptFile

log = structlog.get_logger(__name__)

VOICEMAIL = "voicemail"
"""Kind of the message that carries the sound."""

LIMIT = 32 * 1000 * 1000
"""Bytes of one recording: half an hour, as WAV."""

RETRY_MINUTES = (1, 2, 5, 15, 30, 60)
"""Pauses after a failure, then the last one again and again."""

GIVE_UP = timedelta(days=3)
"""What could not be fetched for so long is told to the operators, and stays with the provider."""

TRIES_OF_NOTHING = 2
"""How often a recording of no length is looked for that is not there."""

BATCH = 20

WITHOUT_SOUND = frozenset({"absent", "failed"})
"""What a provider says of a recording that holds nothing."""

_TABLE: Any = Recording.__table__  # type: ignore[attr-defined]

# Written out, so that the planner uses the partial index.
_OPEN = text("recording.state IN ('announced', 'fetched')")


class Vault(Protocol):
    """Where a provider keeps recordings."""

    async def fetch_recording(self, recording_id: str, limit: int) -> bytes:
        """The sound, at most `limit` bytes. Raises a `ChannelError`."""

    async def delete_recording(self, recording_id: str) -> None:
        """Delete it; what is gone already is no error. Raises a `ChannelError`."""


def announce(session: Session, call: Call, recording: RecordingRef, now: datetime) -> bool:
    """Note that a recording of a call lies with the provider; whether that was news."""
    row = {
        "recording_id": recording.recording_id,
        "call_id": call.id,
        "seconds": recording.seconds,
        "state": "deleted" if recording.status in WITHOUT_SOUND else "announced",
        "attempts": 0,
        "next_at": now,
        "detail": recording.status if recording.status in WITHOUT_SOUND else "",
        "created_at": now,
    }
    connection = session.connection()
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    done = connection.execute(dialect.insert(_TABLE).on_conflict_do_nothing(), row)
    if done.rowcount and recording.status in WITHOUT_SOUND:
        _tell(session, call, "voicemail_empty", now)
    return bool(done.rowcount)


def by_state(session: Session) -> dict[str, int]:
    """How many recordings are not deleted at the provider, by state: `announced` ones are on their
    way, `failed` ones could not be had or read."""
    query = (
        select(_TABLE.c.state, func.count())
        .where(_TABLE.c.state != "deleted")
        .group_by(_TABLE.c.state)
    )
    found: dict[str, int] = dict(session.connection().execute(query).all())
    return {state: found.get(state, 0) for state in ("announced", "fetched", "failed")}


async def collect(db: Database, vault: Vault, blobs: Path, clock: Callable[[], datetime]) -> int:
    """Fetch and delete what is due; returns how many steps were tried."""
    tried = 0
    while due := _read_due(db, clock()):
        for recording in due:
            step = _fetch if recording.state == "announced" else _delete
            await step(db, vault, blobs, recording, clock)
        tried += len(due)
    return tried


@dataclass(frozen=True, slots=True)
class _Sound:
    file: KeptFile | None
    """None for silence."""


async def _fetch(
    db: Database,
    vault: Vault,
    blobs: Path,
    recording: Recording,
    clock: Callable[[], datetime],
) -> None:
    try:
        content = await _content(vault, recording)
        sound = await asyncio.to_thread(_keep, blobs, content, recording)
    except (ChannelError, OSError) as error:
        await db.write(partial(_note_failure, number=recording.id or 0, error=error, now=clock()))
        return
    await db.write(partial(_take_in, number=recording.id or 0, sound=sound, now=clock()))


async def _content(vault: Vault, recording: Recording) -> bytes:
    try:
        return await vault.fetch_recording(recording.recording_id, LIMIT)
    except NotThereError:
        if recording.seconds == 0 and recording.attempts >= TRIES_OF_NOTHING:
            return b""
        raise


async def _delete(
    db: Database,
    vault: Vault,
    _blobs: Path,
    recording: Recording,
    clock: Callable[[], datetime],
) -> None:
    try:
        await vault.delete_recording(recording.recording_id)
    except ChannelError as error:
        await db.write(partial(_note_failure, number=recording.id or 0, error=error, now=clock()))
        return

    def job(session: Session) -> None:
        row = session.get_one(Recording, recording.id)
        row.state, row.detail, row.attempts = "deleted", "", 0

    await db.write(job)
    log.info("recording.deleted", recording=recording.id)


def _keep(blobs: Path, content: bytes, recording: Recording) -> _Sound:
    if not content or is_silent(content):
        return _Sound(None)
    name = f"talemelding-{recording.id}.wav"
    return _Sound(keep_file(blobs, Source(name, "", BytesIO(content)), recording.id or 0, LIMIT))


def _read_due(db: Database, now: datetime) -> list[Recording]:
    query = (
        select(Recording)
        .where(_OPEN, col(Recording.next_at) <= now)
        .order_by(col(Recording.next_at), col(Recording.id))
        .limit(BATCH)
    )
    with db.read() as session:
        return list(session.execute(query).scalars())


def _take_in(session: Session, number: int, sound: _Sound, now: datetime) -> None:
    """Put the sound into the thread of its inquiry; silence is noted and no message."""
    recording = session.get_one(Recording, number)
    if recording.state != "announced":
        return
    call = session.get_one(Call, recording.call_id)
    recording.state, recording.attempts, recording.next_at = "fetched", 0, now
    recording.detail = "" if sound.file is not None else "silent"
    if sound.file is None:
        _tell(session, call, "voicemail_empty", now)
        return
    inquiry = session.get_one(Inquiry, call.inquiry_id)
    message = Message(
        inquiry_id=call.inquiry_id,
        channel=CHANNEL,
        external_id=recording.recording_id,
        direction=Direction.IN,
        kind=VOICEMAIL,
        sender_name=inquiry.sender_name,
        sender_address=call.caller if is_number(call.caller) else "",
        recipients=[call.line] if call.line else [],
        at=recording.created_at,
    )
    session.add(message)
    session.flush()
    recording.message_id = message.id
    session.add(
        StoredAttachment(
            message_id=message.id or 0,
            filename=sound.file.filename,
            content_type=sound.file.content_type,
            size=sound.file.size,
            sha256=sound.file.sha256,
        )
    )
    closed_at = inquiry.closed_at
    with counted(session, inquiry):
        inquiry.last_message_at = max(inquiry.last_message_at, recording.created_at)
        inquiry.version += 1
        if closed_at is not None and closed_at <= recording.created_at:
            # Closed while somebody was still speaking: nobody has heard it.
            inquiry.status = InquiryStatus.OPEN
            inquiry.closed_at = None
            inquiry.answered_at = None
            inquiry.reply_state = ReplyState.UNANSWERED
    events.tell(session, "voicemail", inquiry, now, data={"seconds": recording.seconds})
    log.info("recording.fetched", recording=number, ref=inquiry.ref, size=sound.file.size)


def _note_failure(session: Session, number: int, error: Exception, now: datetime) -> None:
    recording = session.get_one(Recording, number)
    recording.attempts += 1
    recording.detail = str(error)[:200] or type(error).__name__
    pause = RETRY_MINUTES[min(recording.attempts, len(RETRY_MINUTES)) - 1]
    recording.next_at = now + timedelta(minutes=pause)
    log.warning(
        "recording.not_done",
        recording=number,
        state=recording.state,
        attempts=recording.attempts,
        error=type(error).__name__,
    )
    if recording.state != "announced":
        return  # it must go, however long that takes
    if isinstance(error, PermanentError) or now - recording.created_at > GIVE_UP:
        recording.state = "failed"
        call = session.get_one(Call, recording.call_id)
        _tell(session, call, "voicemail_lost", now)


def _tell(session: Session, call: Call, kind: str, now: datetime) -> None:
    inquiry = session.get_one(Inquiry, call.inquiry_id)
    events.tell(session, kind, inquiry, now, data={"call": call.id})
