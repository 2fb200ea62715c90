"""Files in the data directory that nothing refers to, as those of a reply that was refused after
they had come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select, text

from router.blobs import drop_blob, old_blobs
from router.models import Arrival, StoredAttachment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlmodel import Session

    from router.db import Database

DAY = 24 * 3600.0
"""Seconds after which whoever put a file there has long written the row that refers to it."""

LATEST = 30 * DAY
"""Older ones have been looked at before."""

_ARRIVAL: Any = Arrival.__table__  # type: ignore[attr-defined]
_FILE: Any = StoredAttachment.__table__  # type: ignore[attr-defined]
_AT_ONCE = 500

# Written out, so that the planner uses the partial index.
_IS_APART = text("arrival.blob <> ''")


def sweep(db: Database, blobs: Path) -> int:
    """Delete the files that nothing refers to, a day after they came; how many."""
    unknown = set(old_blobs(blobs, LATEST, DAY))
    if not unknown:
        return 0
    with db.read() as session:
        unknown -= set(_referred(session, select(_FILE.c.sha256), _FILE.c.sha256, unknown))
        originals = select(_ARRIVAL.c.blob).where(_IS_APART)
        unknown -= set(_referred(session, originals, _ARRIVAL.c.blob, unknown))
    return sum(drop_blob(blobs, sha256, DAY) for sha256 in unknown)


def _referred(session: Session, query: Any, column: Any, names: set[str]) -> Iterator[str]:
    """Those of the names that a table refers to."""
    ordered = sorted(names)
    for start in range(0, len(ordered), _AT_ONCE):
        some = ordered[start : start + _AT_ONCE]
        yield from session.connection().execute(query.where(column.in_(some))).scalars()
