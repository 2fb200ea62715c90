"""The one place that reads the wall clock. Everything else is handed `now`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_GOLDEN = 0x9E3779B1
"""2^32 by the golden ratio: multiples of it lie evenly spread (Knuth, TAOCP vol. 3, 6.4)."""


def utc_now() -> datetime:
    """The present instant, aware UTC."""
    return datetime.now(UTC)


def spread(pause: timedelta, number: int) -> timedelta:
    """Half of a pause to all of it: who was refused together shall not come again together.

    `number` is that of the row that waits; the same one always waits as long, so that a story can
    be told again.
    """
    share = number * _GOLDEN % 2**32 / 2**32
    return pause * (0.5 + share / 2)
