"""What webhooks missed: calls that never end, and whatever the provider's own lists know and we do
not.

Lists overlap from one look to the next, and all that they say goes the way of the webhooks, where
what is known already changes nothing. How far they have been looked through is written down after
that, so a look that was cut off is done again.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select, text
from sqlmodel import Session, col

from router import calls
from router.call_models import Call

if TYPE_CHECKING:
    from router.number_plan import NumberPlan

SLACK = timedelta(minutes=15)
"""What a call may last longer than a talk: ringing, waiting, leaving a message."""

# Written out, so that the planner uses the partial index.
_IS_LIVE = text("call.state <> 'ended'")


def end_stale(session: Session, plan: NumberPlan, now: datetime) -> int:
    """End calls of which nobody has told for so long that their end must have been lost; returns
    how many."""
    stale = timedelta(hours=plan.door.cti.stale_hours)
    talk = timedelta(hours=plan.door.talk_hours) + SLACK
    query = select(Call).where(_IS_LIVE, col(Call.seen_at) <= now - min(stale, talk))
    ended = [
        call
        for call in session.execute(query).scalars()
        if call.seen_at <= now - (talk if call.provider in calls.CONTROLLED else stale)
    ]
    for call in ended:
        calls.end(session, call, plan, now, unknown=True)
    return len(ended)
