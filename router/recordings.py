"""Voicemail: fetched from the provider (`router/fetching.py`), put into its inquiry's thread, and
deleted there."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any, Protocol

import structlog
from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite

from channels.media import NotThereError
from channels.phone.base import CHANNEL, RecordingRef, is_number
from channels.phone.sound import is_silent
from router import events, fetching
from router.call_models import Call, Recording
from router.counters import counted
from router.files import Source, keep_file
from router.models import (
    Direction,
    Inquiry,
    InquiryStatus,
    Message,
    ReplyState,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from sqlmodel import Session

    from router.db import Database
    from router.preparing import KeptFile

log = structlog.get_logger(__name__)

VOICEMAIL = "voicemail"
"""Kind of the message that carries the sound."""

LIMIT = 32 * 1000 * 1000
"""Bytes of one recording: half an hour, as WAV."""

TRIES_OF_NOTHING = 2
"""How often a recording of no length is looked for that is not there."""

WITHOUT_SOUND = frozenset({"absent", "failed"})
"""What a provider says of a recording that holds nothing."""

_TABLE: Any = Recording.__table__  # type: ignore[attr-defined]


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

    async def step(recording: Recording) -> None:
        if recording.state == "announced":
            content = await _content(vault, recording)
            sound = await asyncio.to_thread(_keep, blobs, content, recording)
            job = partial(_take_in, number=recording.id or 0, sound=sound, now=clock())
            await db.write(job)
        else:
            await vault.delete_recording(recording.recording_id)
            await db.write(partial(_note_deleted, number=recording.id or 0))
            log.info("recording.deleted", recording=recording.id)

    return await fetching.collect(db, Recording, step, _note_failure, clock)


@dataclass(frozen=True, slots=True)
class _Sound:
    file: KeptFile | None
    """None for silence."""


async def _content(vault: Vault, recording: Recording) -> bytes:
    try:
        return await vault.fetch_recording(recording.recording_id, LIMIT)
    except NotThereError:
        if recording.seconds == 0 and recording.attempts >= TRIES_OF_NOTHING:
            return b""
        raise


def _keep(blobs: Path, content: bytes, recording: Recording) -> _Sound:
    if not content or is_silent(content):
        return _Sound(None)
    name = f"talemelding-{recording.id}.wav"
    return _Sound(keep_file(blobs, Source(name, "", BytesIO(content)), recording.id or 0, LIMIT))


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
    fetching.attach(session, message.id or 0, sound.file)
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


def _note_deleted(session: Session, number: int) -> None:
    recording = session.get_one(Recording, number)
    recording.state, recording.detail, recording.attempts = "deleted", "", 0


def _note_failure(session: Session, number: int, error: Exception, now: datetime) -> None:
    recording = session.get_one(Recording, number)
    state = recording.state
    given_up = fetching.put_off(recording, error, now)
    log.warning(
        "recording.not_done",
        recording=number,
        state=state,
        attempts=recording.attempts,
        error=type(error).__name__,
    )
    if given_up:
        _tell(session, session.get_one(Call, recording.call_id), "voicemail_lost", now)


def _tell(session: Session, call: Call, kind: str, now: datetime) -> None:
    inquiry = session.get_one(Inquiry, call.inquiry_id)
    events.tell(session, kind, inquiry, now, data={"call": call.id})
