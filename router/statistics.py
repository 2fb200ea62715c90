"""Figures of a period: what came in, how soon it was answered, and how calls and chats fared."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from router.call_models import Call, CallOutcome, CallState
from router.chat_models import Conversation, TalkOutcome
from router.models import Direction, Inquiry, InquiryStatus

if TYPE_CHECKING:
    from sqlmodel import Session

PROMPT = timedelta(seconds=30)
"""Within this time a call should be answered."""

_I: Any = Inquiry.__table__  # type: ignore[attr-defined]
_C: Any = Call.__table__  # type: ignore[attr-defined]
_T: Any = Conversation.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Inquiries:
    """Inquiries that came in a period; what lies aside is left out."""

    by_channel: dict[str, int]
    answered: int
    in_time: int
    """Answered before their deadline."""
    late: int
    """Answered too late, or not answered though the deadline has passed."""
    typical: timedelta | None
    """The median time to an answer; None when there is none."""

    @property
    def received(self) -> int:
        """How many in all."""
        return sum(self.by_channel.values())

    @property
    def due(self) -> int:
        """How many of which it is known whether they were in time."""
        return self.in_time + self.late


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls that came in a period and are over."""

    received: int
    answered: int
    prompt: int
    """Answered within `PROMPT`."""
    direct: int
    """Answered without the switchboard."""
    outcomes: dict[CallOutcome, int]


@dataclass(frozen=True, slots=True)
class Chats:
    """Chats that began in a period, and what became of those that we ended."""

    received: int
    outcomes: dict[TalkOutcome, int]


def chats(session: Session, since: datetime) -> Chats:
    """How chats fared that began since then."""
    query = (
        select(_T.c.outcome, func.count())
        .where(_T.c.created_at >= since, _T.c.inquiry_id.is_not(None))
        .group_by(_T.c.outcome)
    )
    counts: dict[TalkOutcome | None, int] = dict(session.connection().execute(query).all())
    ended = {outcome: counts[outcome] for outcome in TalkOutcome if outcome in counts}
    return Chats(received=sum(counts.values()), outcomes=ended)


def inquiries(session: Session, since: datetime, now: datetime) -> Inquiries:
    """How inquiries fared that came since then."""
    rows = session.connection().execute(
        select(_I.c.channel, _I.c.received_at, _I.c.answered_at, _I.c.due_at).where(
            _I.c.received_at >= since, _I.c.status != InquiryStatus.ASIDE
        )
    )
    by_channel: dict[str, int] = {}
    waits: list[float] = []
    in_time = late = 0
    for channel, received_at, answered_at, due_at in rows:
        by_channel[channel] = by_channel.get(channel, 0) + 1
        if answered_at is not None:
            waits.append((answered_at - received_at).total_seconds())
            in_time += answered_at <= due_at
            late += answered_at > due_at
        else:
            late += due_at < now
    return Inquiries(
        by_channel=dict(sorted(by_channel.items(), key=lambda pair: -pair[1])),
        answered=len(waits),
        in_time=in_time,
        late=late,
        typical=timedelta(seconds=median(waits)) if waits else None,
    )


def calls(session: Session, since: datetime) -> Calls:
    """How calls from outside fared that came since then."""
    ours = (
        _C.c.started_at >= since,
        _C.c.direction == Direction.IN,
        _C.c.state == CallState.ENDED,
    )
    connection = session.connection()
    counted = select(_C.c.outcome, func.count()).where(*ours).group_by(_C.c.outcome)
    outcomes: dict[CallOutcome, int] = {
        outcome: count for outcome, count in connection.execute(counted) if outcome is not None
    }
    answered = connection.execute(
        select(_C.c.started_at, _C.c.answered_at, _C.c.through_switchboard).where(
            *ours, _C.c.answered_at.is_not(None)
        )
    ).all()
    return Calls(
        received=sum(outcomes.values()),
        answered=len(answered),
        prompt=sum(at - start <= PROMPT for start, at, _ in answered),
        direct=sum(not through for _, _, through in answered),
        outcomes=outcomes,
    )
