"""Files that residents send in a chat."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from sqlalchemy import insert, select
from sqlmodel import Session, col

from router.chat_models import CHANNEL
from router.models import Direction, Message, StoredAttachment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from router.preparing import KeptFile

IN_ALL = 12
"""Files that one conversation takes."""


def keep(session: Session, message_id: int, files: Sequence[KeptFile]) -> None:
    """Write down the files of a message; their bytes lie in the blob folder already."""
    if files:
        session.connection().execute(
            insert(StoredAttachment.__table__),  # type: ignore[attr-defined]
            [{"message_id": message_id, **asdict(file)} for file in files],
        )


def count(session: Session, inquiry_id: int | None) -> int:
    """How many files the resident has sent in a talk."""
    query = (
        select(col(StoredAttachment.id))
        .join(Message, col(Message.id) == col(StoredAttachment.message_id))
        .where(
            col(Message.inquiry_id) == inquiry_id,
            col(Message.channel) == CHANNEL,
            col(Message.direction) == Direction.IN,
        )
    )
    return len(session.execute(query).all())
