"""Files that lie at a provider until they are fetched into our store and deleted there: recordings
of calls, pictures that came with texts.

Each step is committed before the next begins and can be done again: whatever ends the service in
between, a file is fetched or deleted once more, and its thread has it once.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from sqlalchemy import select, text
from sqlmodel import col

from channels.base import ChannelError, PermanentError
from router.call_models import Recording
from router.models import RemoteFile, StoredAttachment

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from sqlmodel import Session

    from router.db import Database
    from router.preparing import KeptFile

RETRY_MINUTES = (1, 2, 5, 15, 30, 60)
"""Pauses after a failure, then the last one again and again."""

GIVE_UP = timedelta(days=3)
"""What could not be fetched for so long is told to the operators, and stays with the provider."""

BATCH = 20

# Written out, so that the planner uses the partial indexes.
_OPEN = text("state IN ('announced', 'fetched')")

R = TypeVar("R", Recording, RemoteFile)


class NoteFailure(Protocol):
    """Writes down that a step failed, see `put_off`."""

    def __call__(self, session: Session, number: int, error: Exception, now: datetime) -> None:
        """`number` is the row's."""


async def collect(
    db: Database,
    rows: type[R],
    step: Callable[[R], Awaitable[None]],
    note_failure: NoteFailure,
    clock: Callable[[], datetime],
) -> int:
    """Do the next step of each row that is due, until none is; returns how many were tried."""
    tried = 0
    while due := _read_due(db, rows, clock()):
        for row in due:
            try:
                await step(row)
            except (ChannelError, OSError) as error:
                number = row.id or 0
                await db.write(partial(note_failure, number=number, error=error, now=clock()))
        tried += len(due)
    return tried


def put_off(row: Recording | RemoteFile, error: Exception, now: datetime) -> bool:
    """Note why a step failed and when to try again; whether the file is given up now. What must be
    deleted is never given up, however long that takes."""
    row.attempts += 1
    row.detail = str(error)[:200] or type(error).__name__
    pause = RETRY_MINUTES[min(row.attempts, len(RETRY_MINUTES)) - 1]
    row.next_at = now + timedelta(minutes=pause)
    hopeless = isinstance(error, PermanentError) or now - row.created_at > GIVE_UP
    if row.state != "announced" or not hopeless:
        return False
    row.state = "failed"
    return True


def attach(session: Session, message_id: int, file: KeptFile) -> None:
    """Put a file with its message."""
    session.add(
        StoredAttachment(
            message_id=message_id,
            filename=file.filename,
            content_type=file.content_type,
            size=file.size,
            sha256=file.sha256,
        )
    )


def _read_due(db: Database, rows: type[R], now: datetime) -> list[R]:
    query = (
        select(rows)
        .where(_OPEN, col(rows.next_at) <= now)
        .order_by(col(rows.next_at), col(rows.id))
        .limit(BATCH)
    )
    with db.read() as session:
        return list(session.execute(query).scalars())
