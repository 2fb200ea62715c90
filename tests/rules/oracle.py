"""Working days and due times reckoned once more, slowly, from nothing but the rules on paper.

Shares no code, no table and no library with the product: its own Easter (Gauss), its own list of
Norwegian holidays, its own daylight saving, and it walks day by day or minute by minute.
"""

from datetime import UTC, date, datetime, timedelta
from functools import cache

DAY = timedelta(days=1)
FIXED = {(1, 1), (5, 1), (5, 17), (12, 25), (12, 26)}
AFTER_EASTER = {-3, -2, 0, 1, 39, 49, 50}  # skjærtorsdag, langfredag, … 2. pinsedag
HALF_FIXED = {(12, 24), (12, 31)}


@cache
def easter(year: int) -> date:
    """Gauss, with his two exceptions, in which Easter is a week earlier."""
    a, b, c = year % 19, year % 4, year % 7
    k = year // 100
    p = (13 + 8 * k) // 25
    q = k // 4
    m = (15 - p + k - q) % 30
    n = (4 + k - q) % 7
    d = (19 * a + m) % 30
    e = (2 * b + 4 * c + 6 * d + n) % 7
    if e == 6 and (d == 29 or (d == 28 and a > 10)):
        e = -1
    return date(year, 3, 22) + (d + e) * DAY


def closed(day: date) -> bool:
    return (
        day.weekday() > 4
        or (day.month, day.day) in FIXED
        or (day - easter(day.year)).days in AFTER_EASTER
    )


@cache
def hours(day: date) -> tuple[int, int]:
    """Minutes after local midnight: opening and closing; equal when closed."""
    if closed(day):
        return 0, 0
    summer = (5, 15) <= (day.month, day.day) <= (9, 14)
    end = 15 * 60 if summer else 15 * 60 + 45
    if (day.month, day.day) in HALF_FIXED or day == easter(day.year) - 4 * DAY:
        end = 12 * 60
    return 8 * 60, end


@cache
def _last_sunday(year: int, month: int) -> date:
    day = date(year, month, 31)
    while day.weekday() != 6:
        day -= DAY
    return day


def offset(instant: datetime) -> timedelta:
    """Norway's distance from UTC: two hours from the last Sunday of March to that of October."""
    start, end = _summer(instant.year)
    return timedelta(hours=2 if start <= instant < end else 1)


@cache
def _summer(year: int) -> tuple[datetime, datetime]:
    start, end = (
        datetime.combine(_last_sunday(year, month), datetime.min.time(), UTC) for month in (3, 10)
    )
    return start + timedelta(hours=1), end + timedelta(hours=1)


def local(instant: datetime) -> tuple[date, int]:
    """The date and the minute of the day on a Norwegian wall."""
    wall = instant + offset(instant)
    return wall.date(), wall.hour * 60 + wall.minute


@cache
def to_utc(day: date, minute: int) -> datetime:
    """The instant at which a Norwegian wall shows this; opening hours never fall in the change."""
    midnight = datetime.combine(day, datetime.min.time(), UTC)
    for hours_ahead in (1, 2):
        instant = midnight + timedelta(minutes=minute - 60 * hours_ahead)
        if local(instant) == (day, minute):
            return instant
    raise AssertionError(day, minute)


def is_open(instant: datetime) -> bool:
    day, minute = local(instant)
    start, end = hours(day)
    return start <= minute < end


def due(received: datetime, working_days: int, *, next_day: bool = False) -> datetime:
    """Closing time of the n-th working day after the day of receipt."""
    day, minute = local(received)
    if next_day and minute >= hours(day)[1]:
        day += DAY
        while hours(day)[1] == 0:
            day += DAY
    while working_days:
        day += DAY
        if hours(day)[1] > 0:
            working_days -= 1
    return to_utc(day, hours(day)[1])
