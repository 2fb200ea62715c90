"""Working time: opening hours, Norwegian holidays, local closing days and half days.

Days are local dates; instants are aware UTC. Elapsed time is measured between UTC instants, never
on local clock times, which are an hour off when the clock changes.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import cache, partial
from importlib.util import module_from_spec, spec_from_file_location
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from rules.document import fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

Span: TypeAlias = tuple[time, time]
"""Opening and closing time; midnight as closing time is the end of that day."""

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MIDNIGHT = time()
SEARCH_LIMIT = 3660
"""Days in a row without opening after which a calendar is taken to be always closed."""


class AlwaysClosedError(ValueError):
    """The calendar has no working day within ten years."""


@dataclass(frozen=True, slots=True)
class Season:
    """A part of the year with its own hours; `first` and `last` are `MM-DD`, both included."""

    first: str
    last: str
    hours: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class _Days:
    """When something is closed or short: parsed `MM-DD`, `YYYY-MM-DD` or `easter±N`."""

    fixed: frozenset[tuple[int, int]]
    dates: frozenset[date]
    easter: frozenset[int]

    def __contains__(self, day: date) -> bool:
        return (
            (day.month, day.day) in self.fixed
            or day in self.dates
            or (day - easter_sunday(day.year)).days in self.easter
        )


@dataclass(frozen=True)
class WorkingCalendar:
    """When we are open.

    `hours` and the seasons map weekdays (`mon`, `mon-fri`) to spans (`08:00-15:45`); a weekday
    not named is closed. `closed` and the keys of `half_days` are `MM-DD`, `YYYY-MM-DD` or
    `easter±N`; the values of `half_days` are closing times. Half days are working days that close
    early. `country` is an ISO code whose public holidays are closed, or empty for none.
    Raises ValueError, with words in both languages, when something cannot be read.
    """

    hours: Mapping[str, Sequence[str]]
    seasons: Sequence[Season] = ()
    closed: Sequence[str] = ()
    half_days: Mapping[str, str] = field(default_factory=dict)
    timezone: str = "Europe/Oslo"
    country: str = "NO"
    identity: str = field(init=False)
    """Short hash of the configuration, kept with every due date that came of it."""
    _zone: ZoneInfo = field(init=False, repr=False, compare=False)
    _weeks: tuple[tuple[tuple[int, int], tuple[int, int], tuple[tuple[Span, ...], ...]], ...] = (
        field(init=False, repr=False, compare=False)
    )
    _closed: _Days = field(init=False, repr=False, compare=False)
    _half: tuple[tuple[time, _Days], ...] = field(init=False, repr=False, compare=False)
    _years: dict[int, tuple[tuple[Span, ...], ...]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )
    _nth: dict[tuple[date, int], date] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )
    """Days that were counted to: all contacts of one day ask for the same ones."""

    def __post_init__(self) -> None:
        try:
            zone = ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError):
            nb, en = f"ukjent tidssone «{self.timezone}»", f"unknown time zone “{self.timezone}”"
            raise fault(nb, en) from None
        weeks = [
            (_month_day(season.first), _month_day(season.last), _week(season.hours))
            for season in self.seasons
        ]
        try:
            _public_holidays(self.country, 2000)
        except NotImplementedError:
            nb, en = f"ukjent land «{self.country}»", f"unknown country “{self.country}”"
            raise fault(nb, en) from None
        parsed = {
            "identity": self._identity(),
            "_zone": zone,
            "_weeks": (*weeks, ((1, 1), (12, 31), _week(self.hours))),
            "_closed": _days(self.closed),
            "_half": tuple((_time(end), _days([day])) for day, end in self.half_days.items()),
        }
        for name, value in parsed.items():
            object.__setattr__(self, name, value)

    def _identity(self) -> str:
        settings = [
            _plain(self.hours),
            [[season.first, season.last, _plain(season.hours)] for season in self.seasons],
            list(self.closed),
            dict(self.half_days),
            self.timezone,
            self.country,
        ]
        content = json.dumps(settings, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    def spans(self, day: date) -> tuple[Span, ...]:
        """Local opening times of a day, in order; empty when closed."""
        year = self._years.get(day.year)
        if year is None:
            year = self._years[day.year] = tuple(self._year(day.year))
        return year[day.timetuple().tm_yday - 1]

    def is_working_day(self, day: date) -> bool:
        """Whether we are open at all that day."""
        return bool(self.spans(day))

    def is_holiday(self, day: date) -> bool:
        """Whether a day is closed on which we would otherwise be open."""
        return not self.spans(day) and bool(self._ordinary(day))

    def closes_at(self, day: date) -> time:
        """Local closing time of a working day. Raises ValueError on a closed one."""
        spans = self.spans(day)
        if not spans:
            msg = f"closed all of {day}"
            raise ValueError(msg)
        return spans[-1][1]

    def closing(self, day: date) -> datetime:
        """Closing time of a working day as a UTC instant. Raises ValueError on a closed one."""
        return self._instant(day, self.closes_at(day), end=True)

    def local_date(self, instant: datetime) -> date:
        """The date on the wall here."""
        return instant.astimezone(self._zone).date()

    def nth_working_day_after(self, day: date, n: int) -> date:
        """The n-th working day after `day`, which itself does not count; n from 1.

        Raises AlwaysClosedError when there is none.
        """
        if n < 1:
            msg = "n counts from 1"
            raise ValueError(msg)
        found = self._nth.get((day, n))
        if found is None:
            found = self._nth[day, n] = self._count_on(day, n)
        return found

    def _count_on(self, day: date, missing: int) -> date:
        idle = 0
        while missing:
            day += timedelta(days=1)
            if self.is_working_day(day):
                missing, idle = missing - 1, 0
            else:
                idle += 1
                if idle > SEARCH_LIMIT:
                    raise AlwaysClosedError(AlwaysClosedError.__doc__)
        return day

    def is_open(self, instant: datetime) -> bool:
        """Whether we are open at an aware instant."""
        opens = self._openings(self.local_date(instant))
        return any(start <= instant < end for start, end in opens)

    def working_time_between(self, start: datetime, end: datetime) -> timedelta:
        """Time open between two aware instants; negative when `end` comes first."""
        if end < start:
            return -self.working_time_between(end, start)
        total = timedelta()
        day, last = self.local_date(start), self.local_date(end)
        while day <= last:
            for opens, closes in self._openings(day):
                total += max(min(closes, end) - max(opens, start), timedelta())
            day += timedelta(days=1)
        return total

    def add_working_time(self, instant: datetime, delta: timedelta) -> datetime:
        """The UTC instant at which `delta` of open time has passed since `instant`.

        With no time to add, the instant itself when open, else the next opening.
        Raises ValueError for a negative `delta`, AlwaysClosedError when time never passes.
        """
        if delta < timedelta():
            msg = "only forwards"
            raise ValueError(msg)
        day, idle = self.local_date(instant), 0
        while idle <= SEARCH_LIMIT:
            for opens, closes in self._openings(day):
                begin = max(opens, instant)
                if begin < closes and begin + delta <= closes:
                    return (begin + delta).astimezone(UTC)
                delta -= max(closes - begin, timedelta())
            idle = 0 if self.is_working_day(day) else idle + 1
            day += timedelta(days=1)
        raise AlwaysClosedError(AlwaysClosedError.__doc__)

    def _openings(self, day: date) -> Iterator[tuple[datetime, datetime]]:
        for start, end in self.spans(day):
            yield self._instant(day, start), self._instant(day, end, end=True)

    def _instant(self, day: date, at: time, *, end: bool = False) -> datetime:
        if end and at == MIDNIGHT:
            day += timedelta(days=1)
        return datetime.combine(day, at, self._zone).astimezone(UTC)

    def _year(self, year: int) -> Iterator[tuple[Span, ...]]:
        holidays = _public_holidays(self.country, year)
        day = date(year, 1, 1)
        while day.year == year:
            yield () if day in holidays or day in self._closed else self._ordinary(day)
            if day == date.max:
                return
            day += timedelta(days=1)

    def _ordinary(self, day: date) -> tuple[Span, ...]:
        """The hours of a day that is not closed."""
        today = (day.month, day.day)
        spans = next(
            week[day.weekday()]
            for first, last, week in self._weeks
            if (first <= today <= last)
            or (first > last and (today >= first or today <= last))  # over New Year
        )
        for closes, days in self._half:
            if day in days:
                spans = tuple(_until(closes, spans))
        return spans


def easter_sunday(year: int) -> date:
    """Easter Sunday in the Gregorian calendar (Meeus/Jones/Butcher)."""
    a, b, c = year % 19, year // 100, year % 100
    d, e = divmod(b, 4)
    h = (19 * a + b - d - (b - (b + 8) // 25 + 1) // 3 + 15) % 30
    i, k = divmod(c, 4)
    m = (32 + 2 * e + 2 * i - h - k) % 7
    n = (a + 11 * h + 22 * m) // 451
    month, day = divmod(h + m - 7 * n + 114, 31)
    return date(year, month, day + 1)


def _public_holidays(country: str, year: int) -> frozenset[date]:
    if not country:
        return frozenset()
    # Without a language the names follow the locale of the process.
    language = "no" if country == "NO" else None
    return frozenset(_country(country)(years=[year], language=language))


@cache
def _country(code: str) -> Callable[..., Iterable[date]]:
    """The holidays of one country. Raises NotImplementedError for one that is not known."""
    import holidays  # slow to import, and only calendars need it
    from holidays.registry import COUNTRIES

    for module, (name, *codes) in COUNTRIES.items():
        if code in codes:
            # Imported by name, it would bring all the countries of the world along.
            file = Path(holidays.__file__).parent / "countries" / f"{module}.py"
            spec = spec_from_file_location(f"holidays_{module}", file)
            if spec and spec.loader:
                loaded = module_from_spec(spec)
                spec.loader.exec_module(loaded)
                made: Callable[..., Iterable[date]] = getattr(loaded, name)
                return made
    return partial(holidays.country_holidays, code)


def _plain(hours: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    return {day: list(spans) for day, spans in hours.items()}


def _until(closes: time, spans: Sequence[Span]) -> Iterator[Span]:
    """What is left of the spans of a day that closes early."""
    for start, end in spans:
        if (False, start) < _as_end(closes):
            yield start, min(end, closes, key=_as_end)


def _as_end(at: time) -> tuple[bool, time]:
    return at == MIDNIGHT, at


def _week(hours: Mapping[str, Sequence[str]]) -> tuple[tuple[Span, ...], ...]:
    week: list[tuple[Span, ...]] = [()] * 7
    for name, texts in hours.items():
        first, _, last = name.partition("-")
        if first not in WEEKDAYS or (last or first) not in WEEKDAYS:
            known = ", ".join(WEEKDAYS)
            raise fault(
                f"ukjent ukedag «{name}»; kjente: {known}", f"unknown day “{name}”; known: {known}"
            )
        start, end = WEEKDAYS.index(first), WEEKDAYS.index(last or first)
        spans = tuple(sorted(map(_span, texts)))
        if any(_as_end(before[1]) > _as_end(after[0]) for before, after in pairwise(spans)):
            raise fault(f"{name}: tidene overlapper", f"{name}: the spans overlap")
        for weekday in range(start, end + 1):
            week[weekday] = spans
    return tuple(week)


def _span(text: str) -> Span:
    start, dash, end = text.partition("-")
    span = (_time(start), _time(end)) if dash else None
    if span is None or span[0] >= span[1] != MIDNIGHT:
        raise fault(
            f"«{text}» er ingen åpningstid, som 08:00-15:45",
            f"“{text}” is no span of opening, such as 08:00-15:45",
        )
    return span


def _time(text: str) -> time:
    match = re.fullmatch(r"([0-9]{1,2}):([0-9]{2})", text.strip())
    try:
        if text.strip() == "24:00":
            return MIDNIGHT
        return time(int(match[1]), int(match[2])) if match else time(24)
    except ValueError:
        raise fault(
            f"«{text}» er ikke et klokkeslett, som 08:00",
            f"“{text}” is not a time of day such as 08:00",
        ) from None


def _month_day(text: str) -> tuple[int, int]:
    days = _days([text])
    if not days.fixed:
        raise fault(f"«{text}» er ingen dag, som 05-15", f"“{text}” is no day such as 05-15")
    return next(iter(days.fixed))


def _days(texts: Sequence[str]) -> _Days:
    fixed, dates, easter = set(), set(), set()
    for text in texts:
        try:
            if re.fullmatch(r"easter(?:[+-][0-9]{1,3})?", text):
                easter.add(int(text.removeprefix("easter") or 0))
            elif re.fullmatch(r"[0-9]{2}-[0-9]{2}", text):
                day = date.fromisoformat(f"2000-{text}")  # a leap year
                fixed.add((day.month, day.day))
            else:
                dates.add(date.fromisoformat(text))
        except ValueError:
            raise fault(
                f"«{text}» er ingen dag, som 12-24, 2026-12-24 eller easter-4",
                f"“{text}” is no day such as 12-24, 2026-12-24 or easter-4",
            ) from None
    return _Days(frozenset(fixed), frozenset(dates), frozenset(easter))
