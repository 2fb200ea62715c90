"""Working time: holidays, half days, seasons, both changes of the clock, and odd opening hours."""

import os
import subprocess
import sys
import time as clock
from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from rules.calendar import AlwaysClosedError, Season, WorkingCalendar, easter_sunday
from tests.rules import oracle
from tests.support import examples

SORUM = WorkingCalendar(
    hours={"mon-fri": ["08:00-15:45"]},
    seasons=[Season("05-15", "09-14", {"mon-fri": ["08:00-15:00"]})],
    half_days={"12-24": "12:00", "12-31": "12:00", "easter-4": "12:00"},
)
HOUR = timedelta(hours=1)
DAYS = st.dates(date(2020, 1, 1), date(2040, 12, 31))
INSTANTS = st.datetimes(
    datetime(2020, 1, 1),  # noqa: DTZ001
    datetime(2040, 12, 31),  # noqa: DTZ001
    timezones=st.just(UTC),
)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def test_every_day_of_eight_years_opens_and_closes_as_on_paper() -> None:
    day = date(2026, 1, 1)
    while day < date(2034, 1, 1):
        start, end = oracle.hours(day)
        expected = () if start == end else ((time(8), time(end // 60, end % 60)),)
        assert SORUM.spans(day) == expected, day
        assert SORUM.is_working_day(day) is bool(expected)
        day += timedelta(days=1)


@given(st.integers(1583, 9999))
def test_easter_agrees_with_gauss(year: int) -> None:
    assert easter_sunday(year) == oracle.easter(year)


def test_half_days_are_working_days_that_close_early() -> None:
    for day in (date(2026, 12, 24), date(2026, 12, 31), date(2027, 3, 24)):
        assert SORUM.is_working_day(day)
        assert SORUM.closes_at(day) == time(12)
    assert SORUM.closes_at(date(2026, 5, 14 + 1)) == time(15)
    assert SORUM.closes_at(date(2026, 9, 14)) == time(15)
    assert SORUM.closes_at(date(2026, 9, 15)) == time(15, 45)
    assert SORUM.closes_at(date(2026, 5, 13)) == time(15, 45)


def test_two_holidays_on_one_day_are_one_closed_day() -> None:
    assert not SORUM.is_working_day(date(2027, 5, 17))
    with pytest.raises(ValueError, match="2027-05-17"):
        SORUM.closes_at(date(2027, 5, 17))


def test_local_closing_days_of_every_notation() -> None:
    calendar = WorkingCalendar(
        hours={"mon-sun": ["10:00-12:00"]},
        closed=["02-29", "2026-07-15", "easter", "easter+10", "easter-1"],
        country="",
    )
    assert not calendar.is_working_day(date(2028, 2, 29))
    assert calendar.is_working_day(date(2027, 2, 28))
    assert not calendar.is_working_day(date(2026, 7, 15))
    assert calendar.is_working_day(date(2027, 7, 15))
    for day in (date(2026, 4, 5), date(2026, 4, 15), date(2026, 4, 4)):
        assert not calendar.is_working_day(day)
    assert calendar.is_working_day(date(2026, 12, 25))


def test_half_day_cuts_and_drops_spans() -> None:
    calendar = WorkingCalendar(
        hours={"mon": ["17:00-19:00", "08:00-11:00", "12:00-16:00"], "tue": ["13:00-24:00"]},
        half_days={"11-23": "13:30", "11-24": "12:00", "12-01": "24:00"},
    )
    assert calendar.spans(date(2026, 11, 23)) == ((time(8), time(11)), (time(12), time(13, 30)))
    assert not calendar.is_working_day(date(2026, 11, 24))
    assert calendar.spans(date(2026, 12, 1)) == ((time(13), time(0)),)
    assert calendar.closing(date(2026, 12, 1)) == utc("2026-12-02T00:00+01:00")
    assert calendar.closes_at(date(2026, 11, 30)) == time(19)


def test_a_season_over_new_year() -> None:
    winter = Season("11-01", "02-28", {"mon-fri": ["10:00-14:00"]})
    calendar = WorkingCalendar(hours={"mon-fri": ["08:00-16:00"]}, seasons=[winter])
    for month, day, closes in [(10, 30, 16), (11, 2, 14), (1, 5, 14), (2, 27, 14), (3, 2, 16)]:
        assert calendar.closes_at(date(2026, month, day)) == time(closes)


def test_the_nth_working_day_never_counts_the_day_itself() -> None:
    friday = date(2026, 11, 20)
    assert SORUM.nth_working_day_after(friday, 1) == date(2026, 11, 23)
    assert SORUM.nth_working_day_after(friday, 3) == date(2026, 11, 25)
    assert SORUM.nth_working_day_after(date(2026, 3, 31), 3) == date(2026, 4, 8)
    with pytest.raises(ValueError, match="from 1"):
        SORUM.nth_working_day_after(friday, 0)


@given(DAYS, st.integers(1, 40), st.integers(1, 40))
def test_counting_on_is_counting_once(day: date, m: int, n: int) -> None:
    middle = SORUM.nth_working_day_after(day, m)
    assert SORUM.is_working_day(middle)
    assert SORUM.nth_working_day_after(middle, n) == SORUM.nth_working_day_after(day, m + n)


@settings(max_examples=examples(40))
@given(INSTANTS, st.integers(0, 3000))
def test_working_time_is_the_number_of_open_minutes(start: datetime, minutes: int) -> None:
    start = start.replace(second=0, microsecond=0)
    end = start + timedelta(minutes=minutes)
    walked = sum(oracle.is_open(start + timedelta(minutes=i)) for i in range(minutes))
    assert SORUM.working_time_between(start, end) == timedelta(minutes=walked)
    assert SORUM.working_time_between(end, start) == -timedelta(minutes=walked)


@given(INSTANTS)
def test_open_agrees_with_the_wall(instant: datetime) -> None:
    assert SORUM.is_open(instant) is oracle.is_open(instant)


@given(INSTANTS, st.timedeltas(timedelta(), timedelta(hours=200)))
def test_adding_and_measuring_are_inverse(start: datetime, delta: timedelta) -> None:
    end = SORUM.add_working_time(start, delta)
    assert SORUM.working_time_between(start, end) == delta
    assert end.tzinfo is UTC
    if delta:
        assert SORUM.is_open(end - timedelta.resolution)
    else:
        assert SORUM.is_open(end)


def test_adding_time_over_a_weekend_and_a_holiday() -> None:
    assert SORUM.add_working_time(utc("2026-11-20T15:00+01:00"), HOUR) == utc(
        "2026-11-23T08:15+01:00"
    )
    assert SORUM.add_working_time(utc("2026-04-01T11:30+02:00"), HOUR) == utc(
        "2026-04-07T08:30+02:00"
    )
    assert SORUM.add_working_time(utc("2026-11-21T12:00+01:00"), 0 * HOUR) == utc(
        "2026-11-23T08:00+01:00"
    )
    with pytest.raises(ValueError, match="only forwards"):
        SORUM.add_working_time(utc("2026-11-21T12:00+01:00"), -HOUR)


def test_a_night_watch_works_an_hour_less_in_spring_and_more_in_autumn() -> None:
    watch = WorkingCalendar(hours={"mon-sun": ["00:00-24:00"]}, country="")
    spring, autumn = utc("2026-03-29T00:00+01:00"), utc("2026-10-25T00:00+02:00")
    assert watch.working_time_between(spring, utc("2026-03-30T00:00+02:00")) == 23 * HOUR
    assert watch.working_time_between(autumn, utc("2026-10-26T00:00+01:00")) == 25 * HOUR
    assert watch.add_working_time(spring, 23 * HOUR) == utc("2026-03-30T00:00+02:00")
    assert watch.is_open(utc("2026-10-25T02:30+02:00"))
    assert watch.is_open(utc("2026-10-25T02:30+01:00"))


def test_a_calendar_that_never_opens_says_so() -> None:
    never = WorkingCalendar(hours={})
    with pytest.raises(AlwaysClosedError):
        never.nth_working_day_after(date(2026, 1, 1), 1)
    with pytest.raises(AlwaysClosedError):
        never.add_working_time(utc("2026-01-01T00:00+01:00"), HOUR)


def test_the_identity_follows_the_configuration() -> None:
    same = WorkingCalendar(
        hours={"mon-fri": ("08:00-15:45",)},
        seasons=(Season("05-15", "09-14", {"mon-fri": ("08:00-15:00",)}),),
        half_days={"easter-4": "12:00", "12-31": "12:00", "12-24": "12:00"},
    )
    assert same.identity == SORUM.identity
    others = [
        WorkingCalendar(hours={"mon-fri": ["08:00-15:45"]}),
        WorkingCalendar(hours={"mon-fri": ["08:00-15:45"]}, closed=["12-24"]),
        WorkingCalendar(hours={"mon-fri": ["08:00-15:45"]}, country=""),
        WorkingCalendar(hours={"mon-fri": ["08:00-15:45"]}, timezone="Europe/Stockholm"),
        WorkingCalendar(hours={"mon-fri": ["08:00-15:45"]}, half_days={"12-24": "12:00"}),
    ]
    assert len({SORUM.identity, *(other.identity for other in others)}) == 6
    assert all(len(other.identity) == 12 for other in others)


@pytest.mark.parametrize(
    ("options", "nb"),
    [
        ({"hours": {"man-fre": ["08:00-15:00"]}}, "ukjent ukedag «man-fre»"),
        ({"hours": {"mon": ["8-15"]}}, "«8» er ikke et klokkeslett"),
        ({"hours": {"mon": ["08:00"]}}, "«08:00» er ingen åpningstid"),
        ({"hours": {"mon": ["15:00-08:00"]}}, "er ingen åpningstid"),
        ({"hours": {"mon": ["08:00-25:00"]}}, "«25:00» er ikke et klokkeslett"),
        ({"hours": {"mon": ["08:00-12:00", "11:00-13:00"]}}, "mon: tidene overlapper"),
        ({"hours": {"mon": ["08:00-24:00", "11:00-13:00"]}}, "mon: tidene overlapper"),
        ({"closed": ["24.12"]}, "«24.12» er ingen dag"),
        ({"closed": ["13-01"]}, "«13-01» er ingen dag"),
        ({"closed": ["easter+-1"]}, "er ingen dag"),
        ({"half_days": {"12-24": "tolv"}}, "«tolv» er ikke et klokkeslett"),
        ({"seasons": [Season("easter", "09-14", {})]}, "«easter» er ingen dag, som 05-15"),
        ({"timezone": "Europe/Sorum"}, "ukjent tidssone"),
        ({"timezone": "../etc/passwd"}, "ukjent tidssone"),
        ({"country": "XX"}, "ukjent land «XX»"),
    ],
)
def test_a_calendar_that_cannot_be_read_is_refused_in_words(options: dict, nb: str) -> None:
    with pytest.raises(PydanticCustomError) as caught:
        WorkingCalendar(**({"hours": {}} | options))
    assert nb in (caught.value.context or {})["nb"]
    assert str(caught.value) == (caught.value.context or {})["en"]


def test_another_country_has_its_own_holidays() -> None:
    swedish = WorkingCalendar(hours={"mon-fri": ["08:00-16:00"]}, country="SE")
    assert swedish.is_working_day(date(2027, 5, 17))
    assert not swedish.is_working_day(date(2028, 6, 6))


def test_far_years_are_quick_and_the_last_day_exists() -> None:
    started = clock.process_time()
    for year in (1, 1600, 2999, 9999):
        assert len([SORUM.spans(date(year, month, 1)) for month in range(1, 13)]) == 12
    assert SORUM.spans(date(9999, 12, 31))
    assert clock.process_time() - started < 0.5


@pytest.mark.parametrize("language", ["uk", "nb"])
def test_holidays_do_not_follow_the_language_of_the_process(language: str) -> None:
    script = (
        "from datetime import date; from rules.calendar import WorkingCalendar as C;"
        "c = C(hours={'mon-fri': ['08:00-16:00']});"
        "print(c.is_working_day(date(2026, 5, 14)), c.is_working_day(date(2026, 5, 15)))"
    )
    env = os.environ | {"LANGUAGE": language, "LC_ALL": "C.UTF-8", "LANG": language}
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "True"]
