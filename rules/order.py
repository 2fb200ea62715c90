"""The order of the queue: one comparator, without the clock, so that it never changes by itself."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from datetime import datetime

QueueKey: TypeAlias = "tuple[Lane, datetime, datetime, int | str]"


class Lane(IntEnum):
    """What goes before what."""

    CRISIS = 0
    LIVE = 1
    """Somebody is waiting on the line or in the chat."""
    DEFERRABLE = 2
    """Everything with a reply target in days."""


def lane_of(*, crisis: bool, live: bool) -> Lane:
    """The lane of an inquiry; crisis beats live."""
    if crisis:
        return Lane.CRISIS
    return Lane.LIVE if live else Lane.DEFERRABLE


def queue_key(
    lane: Lane,
    *,
    received_at: datetime,
    id: int | str,  # noqa: A002  # the name it has everywhere else
    answer_by: datetime | None = None,
    due_at: datetime | None = None,
) -> QueueKey:
    """What inquiries are sorted by, smallest first.

    Live ones by `answer_by` (arrival plus the target of the channel), so that a chat past its
    target beats a fresh call; deferrable ones by `due_at`, earliest first, which leaves the
    fewest late (Panwar, Towsley & Wolf 1988). Crisis is by arrival. Ties go by arrival, then id.
    """
    wanted = {Lane.CRISIS: received_at, Lane.LIVE: answer_by, Lane.DEFERRABLE: due_at}[lane]
    return (lane, wanted or received_at, received_at, id)
