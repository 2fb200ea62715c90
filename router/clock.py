"""The one place that reads the wall clock. Everything else is handed `now`."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now() -> datetime:
    """The present instant, aware UTC."""
    return datetime.now(UTC)
