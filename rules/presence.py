"""Where a person is and whether they can be reached: one answer from what several sources claim.

Claims stand in layers, and the first layer with a claim that holds decides: absence, then what a
person set by hand, what a line or a chat sees now, the calendar, and last the working hours. A
source that falls silent takes its claims along; that is read neither as absent nor as free.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, TypeAlias
from zoneinfo import ZoneInfo

from rules.calendar import AlwaysClosedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rules.calendar import WorkingCalendar

DEFAULT_LENGTH = timedelta(hours=2)
"""How long a mark holds when nobody says otherwise."""

Until: TypeAlias = "datetime | date | timedelta | Literal['day'] | None"
"""When a mark ends: an aware instant, the day somebody is back, a length, the end of the working
day, or None for `DEFAULT_LENGTH`."""


class State(StrEnum):
    """What a person does."""

    AVAILABLE = "available"
    ON_PHONE = "on_phone"
    MEETING = "meeting"
    BUSY = "busy"
    AWAY = "away"
    """Out of the room for a while, or idle at the keyboard."""
    HOME_OFFICE = "home_office"
    """Available, elsewhere."""
    ABSENT = "absent"
    """Leave of whatever kind: the reason is nobody's business (GDPR art. 9)."""
    OFF_HOURS = "off_hours"
    UNKNOWN = "unknown"


class Layer(StrEnum):
    """Whose word goes before whose."""

    ABSENCE = "absence"
    MANUAL = "manual"
    LIVE = "live"
    CALENDAR = "calendar"
    SCHEDULE = "schedule"
    NONE = "none"


_CLAIMED = (Layer.ABSENCE, Layer.MANUAL, Layer.LIVE, Layer.CALENDAR)

_REACH: dict[State, tuple[bool | None, bool | None]] = {
    State.AVAILABLE: (True, True),
    State.HOME_OFFICE: (True, True),
    State.ON_PHONE: (False, None),  # says nothing of the chat
    State.UNKNOWN: (None, None),
}
"""State -> (phone, chat); nobody is reached in a state that is not named."""

_LIVE_RANK = {
    State.AWAY: 1,  # one idle client among others that are not
    State.AVAILABLE: 2,
    State.HOME_OFFICE: 2,
    State.MEETING: 3,
    State.ON_PHONE: 4,
    State.BUSY: 5,
}


@dataclass(frozen=True, slots=True)
class Claim:
    """What one source says of a person, from `starts_at` until `ends_at`, both aware.

    A claim with `lease_until` holds no longer than that unless its source renews it. `by_self`:
    the person said so, nobody on their behalf. `reach_phone` and `reach_chat` speak up where
    the state alone would say something else.
    """

    id: int
    layer: Layer
    state: State
    starts_at: datetime
    observed_at: datetime
    ends_at: datetime | None = None
    lease_until: datetime | None = None
    by_self: bool = False
    reach_phone: bool | None = None
    reach_chat: bool | None = None
    public_text: str = ""

    def covers(self, at: datetime) -> bool:
        """Whether it speaks of an instant."""
        return self.starts_at <= at and (self.ends_at is None or at < self.ends_at)


@dataclass(frozen=True, slots=True)
class Status:
    """One answer. `reach_phone` and `reach_chat` are None when nobody knows.

    `until` is when it is over; for somebody who cannot be reached by phone, the working moment at
    which they are back. None when nobody knows. `claim` is the id of the claim that decided,
    None for working hours and for nothing at all.
    """

    state: State
    reach_phone: bool | None
    reach_chat: bool | None
    until: datetime | None = None
    public_text: str = ""
    layer: Layer = Layer.NONE
    claim: int | None = None
    online: bool = False
    """Whether a live source sees the person now, whatever their state."""


def resolve(
    claims: Iterable[Claim], now: datetime, schedule: WorkingCalendar | None = None
) -> Status:
    """What holds for a person at `now`, an aware instant. `schedule` is when they work; without
    one, nothing is known of their hours. The order of the claims makes no difference."""
    claims = [claim for claim in claims if claim.lease_until is None or now < claim.lease_until]
    online = any(claim.layer is Layer.LIVE and claim.covers(now) for claim in claims)
    winner = _winner(claims, now)
    if winner is not None:
        phone, chat = _reach(winner)
        if winner.layer is Layer.LIVE and winner.state is State.ON_PHONE and chat is None:
            others = [claim for claim in claims if claim.state is not State.ON_PHONE]
            chat = resolve(others, now, schedule).reach_chat
        until = winner.ends_at
        if not phone and until is not None:
            until = _return(claims, until, schedule)
        return Status(
            winner.state,
            phone,
            chat,
            until,
            winner.public_text,
            winner.layer,
            winner.id,
            online,
        )
    if schedule is not None and not schedule.is_open(now):
        back = _return(claims, now, schedule)
        return Status(State.OFF_HOURS, False, False, back, layer=Layer.SCHEDULE, online=online)
    return Status(State.UNKNOWN, None, None, online=online)


def ending(until: Until, now: datetime, calendar: WorkingCalendar) -> datetime:
    """The UTC instant at which a mark made at `now` ends.

    `day` is closing time; after it, or on a closed day, the end of the day. A date is the day
    somebody is back: the mark ends as that day begins.
    """
    zone = ZoneInfo(calendar.timezone)
    today = calendar.local_date(now)
    if until is None:
        return now + DEFAULT_LENGTH
    if isinstance(until, timedelta):
        return now + until
    if isinstance(until, datetime):
        return until.astimezone(UTC)
    if until == "day":
        if calendar.is_working_day(today) and now < calendar.closing(today):
            return calendar.closing(today)
        until = today + timedelta(days=1)
    return datetime.combine(until, time(), zone).astimezone(UTC)


def _winner(claims: Sequence[Claim], at: datetime) -> Claim | None:
    covering = [claim for claim in claims if claim.covers(at)]
    for layer in _CLAIMED:
        found = [claim for claim in covering if claim.layer is layer]
        if found:
            return max(found, key=_weight)
    return None


def _weight(claim: Claim) -> tuple[float, datetime, int]:
    """How a claim stands against the others of its layer; the id makes an end of ties."""
    if claim.layer is Layer.MANUAL:
        first: float = claim.by_self
    elif claim.layer is Layer.LIVE:
        first = _LIVE_RANK.get(claim.state, 0)
    elif claim.layer is Layer.CALENDAR:
        # An hour of lunch within a day at home: what keeps somebody from the phone counts.
        first = _reach(claim)[0] is not True
    else:
        first = 0
    return first, claim.observed_at, claim.id


def _reach(claim: Claim) -> tuple[bool | None, bool | None]:
    if claim.layer is Layer.ABSENCE:
        return False, False
    phone, chat = _REACH.get(claim.state, (False, False))
    return (
        phone if claim.reach_phone is None else claim.reach_phone,
        chat if claim.reach_chat is None else claim.reach_chat,
    )


def _return(
    claims: Sequence[Claim], at: datetime, schedule: WorkingCalendar | None
) -> datetime | None:
    """The first working moment from `at` on that no further claim takes."""
    # How long a live state lasts is not known beforehand.
    lasting = [claim for claim in claims if claim.layer is not Layer.LIVE]
    while True:
        if schedule is not None:
            try:
                at = schedule.add_working_time(at, timedelta())
            except AlwaysClosedError:
                return None
        follower = _winner(lasting, at)
        if follower is None or _reach(follower)[0] is not False:
            return at
        if follower.ends_at is None:
            return None
        at = follower.ends_at
