"""Reply dates are data, not jobs: a sweep asks what has come due and marks it, exactly once.

Whatever kept the service away (a stop, a clock jump), the next sweep catches up. The mark and the
event are
written in one transaction; the event's `once` key holds even if two sweeps run at the same time.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import select, text
from sqlmodel import Session, col

from router import events
from router.counters import counted
from router.models import Arrival, ArrivalState, Inquiry

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from router.db import Database

BATCH = 200

# Written out, so that the planner uses the partial indexes.
_UNANSWERED = "inquiry.status = 'open' AND inquiry.answered_at IS NULL AND inquiry.{} IS NULL"


async def sweep(db: Database, now: datetime) -> int:
    """Mark everything that has come due by `now`; returns how many events were written."""
    total = 0
    for step in (mark_warned, mark_overdue):
        while True:
            with db.read() as session:
                if not _due(session, step is mark_overdue, now, 1):
                    break
            total += await db.write(partial(step, now=now))
    return total


def mark_warned(session: Session, now: datetime) -> int:
    """Write `warned` for inquiries whose answer is due soon."""
    inquiries = _due(session, False, now, BATCH)
    for inquiry in inquiries:
        inquiry.warned_at = now
    session.flush()
    return sum(_tell(session, inquiry, "warned", now) for inquiry in inquiries)


def mark_overdue(session: Session, now: datetime) -> int:
    """Write `overdue` for inquiries that should have been answered."""
    inquiries = _due(session, True, now, BATCH)
    for inquiry in inquiries:
        with counted(session, inquiry):
            inquiry.overdue_at = now
    session.flush()
    return sum(_tell(session, inquiry, "overdue", now) for inquiry in inquiries)


def alarm_unprocessed(session: Session, now: datetime, patience: timedelta) -> int:
    """Raise an alarm for arrivals nobody has processed within `patience`: a dead parser must not
    hide mail."""
    arrivals = list(
        session.execute(
            select(Arrival)
            .where(
                col(Arrival.state).in_([ArrivalState.NEW, ArrivalState.PARKED]),
                col(Arrival.received_at) <= now - patience,
                col(Arrival.alarmed_at).is_(None),
            )
            .limit(BATCH)
        ).scalars()
    )
    for arrival in arrivals:
        arrival.alarmed_at = now
        events.record(
            session,
            "parked" if arrival.state is ArrivalState.PARKED else "stuck",
            at=now,
            once=f"arrival:{arrival.id}:{arrival.attempts}",
            data={"arrival": arrival.id},
        )
    session.flush()
    return len(arrivals)


def _due(session: Session, overdue: bool, now: datetime, limit: int) -> list[Inquiry]:
    mark, instant = ("overdue_at", Inquiry.due_at) if overdue else ("warned_at", Inquiry.warn_at)
    query = (
        select(Inquiry)
        .where(text(_UNANSWERED.format(mark)), col(instant) <= now)
        .order_by(col(instant), col(Inquiry.id))
        .limit(limit)
    )
    return list(session.execute(query).scalars())


def _tell(session: Session, inquiry: Inquiry, kind: str, now: datetime) -> int:
    once = f"{kind}:{inquiry.id}:{inquiry.due_at.isoformat()}"
    return events.tell(session, kind, inquiry, now, once=once)
