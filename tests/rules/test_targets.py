"""Reply targets: the vectors, every day of eight years against an oracle, and the odd cases."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.calendar import WorkingCalendar
from rules.targets import ReplyTarget, add_months, reply_due
from tests.rules import oracle
from tests.rules.test_calendar import INSTANTS, SORUM, utc

SERVICE = ReplyTarget("service", working_days=3, warn_working_days=2)
NEXT_DAY = ReplyTarget("service", working_days=3, after_hours="next_day")
MONTH = ReplyTarget("forvaltning", months=1, warn_working_days=10)


def due_date(received: str, target: ReplyTarget = SERVICE, calendar=SORUM) -> str:
    return reply_due(utc(received), target, calendar).due_date.isoformat()


@pytest.mark.parametrize(
    ("received", "due"),
    [
        ("2026-11-20T10:00+01:00", "2026-11-25"),
        ("2026-03-31T10:00+02:00", "2026-04-08"),
        ("2026-12-23T10:00+01:00", "2026-12-29"),
        ("2026-11-21T10:00+01:00", "2026-11-25"),
        ("2026-11-23T23:59:59+01:00", "2026-11-26"),
        ("2026-11-23T23:30:00+00:00", "2026-11-27"),
        ("2026-05-13T23:30:00+02:00", "2026-05-19"),
    ],
)
def test_three_working_days(received: str, due: str) -> None:
    assert due_date(received) == due


def test_local_closing_days_push_the_date() -> None:
    closed = WorkingCalendar(hours={"mon-fri": ["08:00-15:45"]}, closed=["12-24", "12-31"])
    assert due_date("2026-12-23T10:00+01:00", calendar=closed) == "2026-12-30"


def test_next_day_begins_to_count_when_we_are_back() -> None:
    assert due_date("2026-11-21T10:00+01:00", NEXT_DAY) == "2026-11-26"
    assert due_date("2026-11-20T15:44:59+01:00", NEXT_DAY) == "2026-11-25"
    assert due_date("2026-11-20T15:45+01:00", NEXT_DAY) == "2026-11-26"
    assert due_date("2026-11-20T03:00+01:00", NEXT_DAY) == "2026-11-25"


def test_every_day_of_eight_years_agrees_with_the_oracle() -> None:
    day = datetime(2026, 1, 1, tzinfo=UTC)
    instants = []
    while day.year < 2034:
        instants += [day + timedelta(hours=hour) for hour in (10, 14.5, 22.5)]
        day += timedelta(days=1)
    for received in instants:
        due = reply_due(received, SERVICE, SORUM)
        assert due.due_at == oracle.due(received, 3), received
        assert due.warn_at == oracle.due(received, 2), received
        assert reply_due(received, NEXT_DAY, SORUM).due_at == oracle.due(
            received, 3, next_day=True
        ), received


@pytest.mark.parametrize(
    ("received", "due_at"),
    [
        ("2026-03-25T10:00+01:00", "2026-03-30T15:45+02:00"),  # clocks go forward on the 29th
        ("2026-10-21T10:00+02:00", "2026-10-26T15:45+01:00"),  # and back on the 25th
        ("2026-03-29T02:30+01:00", "2026-04-01T12:00+02:00"),  # a time that no wall showed
        ("2026-10-25T02:30+02:00", "2026-10-28T15:45+01:00"),  # a time that came twice
        ("2026-10-25T02:30+01:00", "2026-10-28T15:45+01:00"),
        ("2026-06-10T10:00+02:00", "2026-06-15T15:00+02:00"),
    ],
)
def test_due_at_is_closing_time_on_the_wall(received: str, due_at: str) -> None:
    assert reply_due(utc(received), SERVICE, SORUM).due_at == utc(due_at)


@given(INSTANTS, st.integers(1, 30))
def test_later_arrival_is_never_due_earlier_and_strict_never_later(
    received: datetime, days: int
) -> None:
    target = ReplyTarget("x", working_days=days, warn_working_days=days)
    due = reply_due(received, target, SORUM)
    assert due.warn_at == due.due_at > received
    assert reply_due(received + timedelta(hours=1), target, SORUM).due_at >= due.due_at
    relaxed = ReplyTarget("x", working_days=days, after_hours="next_day")
    assert reply_due(received, relaxed, SORUM).due_at >= due.due_at


def test_what_was_reckoned_is_kept() -> None:
    due = reply_due(utc("2026-11-20T10:00+01:00"), SERVICE, SORUM)
    assert due.target == "service"
    assert due.calendar_identity == SORUM.identity
    assert due.warn_at == utc("2026-11-24T15:45+01:00")
    assert reply_due(utc("2026-11-20T10:00+01:00"), NEXT_DAY, SORUM).warn_at is None


@pytest.mark.parametrize(
    ("day", "months", "later"),
    [
        ("2026-01-31", 1, "2026-02-28"),
        ("2028-01-31", 1, "2028-02-29"),
        ("2026-03-31", 1, "2026-04-30"),
        ("2026-12-15", 1, "2027-01-15"),
        ("2026-12-31", 14, "2028-02-29"),
        ("2026-11-30", 1, "2026-12-30"),
    ],
)
def test_months_clamp(day: str, months: int, later: str) -> None:
    assert add_months(date.fromisoformat(day), months).isoformat() == later


def test_a_month_that_ends_on_a_closed_day_is_due_before_it() -> None:
    assert due_date("2026-11-25T10:00+01:00", MONTH) == "2026-12-24"
    assert due_date("2026-10-30T10:00+01:00", MONTH) == "2026-11-30"
    assert due_date("2026-11-01T10:00+01:00", MONTH) == "2026-12-01"
    due = reply_due(utc("2026-11-25T10:00+01:00"), MONTH, SORUM)
    assert due.due_at == utc("2026-12-24T12:00+01:00")
    assert due.warn_at == utc("2026-12-09T15:45+01:00")


def test_a_month_without_working_days_is_due_on_the_first_after_it() -> None:
    july = [f"07-{day:02}" for day in range(1, 32)]
    shut = WorkingCalendar(hours={"mon-fri": ["08:00-15:00"]}, closed=[*july, "08-01"])
    assert due_date("2026-07-01T10:00+02:00", MONTH, shut) == "2026-08-03"


def test_a_warning_is_never_after_the_due_time() -> None:
    slow = ReplyTarget("x", working_days=2, warn_working_days=9)
    due = reply_due(utc("2026-11-20T10:00+01:00"), slow, SORUM)
    assert due.warn_at == due.due_at


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"working_days": 3, "months": 1},
        {"working_days": 0},
        {"months": 1, "warn_working_days": 0},
    ],
)
def test_a_target_is_days_or_months(options: dict) -> None:
    with pytest.raises(ValueError, match="working_days or months"):
        ReplyTarget("x", **options)


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="aware"):
        reply_due(datetime(2026, 11, 20, 10), SERVICE, SORUM)  # noqa: DTZ001
