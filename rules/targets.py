"""Reply targets: by when an inquiry is owed its answer."""

from __future__ import annotations

from calendar import monthrange
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rules.calendar import WorkingCalendar


@dataclass(frozen=True, slots=True)
class ReplyTarget:
    """How long an answer may take: a number of working days, or of months.

    `strict` counts from the local date of receipt; `next_day` from the next working day when
    it came after closing or on a closed day. Strict can never be late under the other reading,
    and is a must for innsyn (offentleglova § 32).
    """

    slug: str
    working_days: int | None = None
    months: int | None = None
    warn_working_days: int | None = None
    after_hours: Literal["strict", "next_day"] = "strict"

    def __post_init__(self) -> None:
        given = [n for n in (self.working_days, self.months) if n is not None]
        counted = [n for n in (*given, self.warn_working_days) if n is not None]
        if len(given) != 1 or min(counted) < 1:
            msg = "either working_days or months, from 1"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class DueDate:
    """By when, and how that was reckoned."""

    due_date: date
    """Local date."""
    due_at: datetime
    """UTC: closing time of that day."""
    warn_at: datetime | None
    """UTC: closing time of the day to warn, at the latest `due_at`; None when not asked for."""
    target: str
    calendar_identity: str


def reply_due(received_at: datetime, target: ReplyTarget, calendar: WorkingCalendar) -> DueDate:
    """When the answer to what we received at `received_at` (aware, our own clock) is due.

    The day of receipt is day 0. A target in months ends on the last working day within it, so
    that the answer is out in time however a deadline on a closed day is read.
    """
    if received_at.tzinfo is None:
        msg = "received_at must be aware"
        raise ValueError(msg)
    day = calendar.local_date(received_at)
    if target.after_hours == "next_day" and (
        not calendar.is_working_day(day) or received_at >= calendar.closing(day)
    ):
        day = calendar.nth_working_day_after(day, 1)
    if target.months is not None:
        due = _last_working_day(day, add_months(day, target.months), calendar)
    else:
        due = calendar.nth_working_day_after(day, target.working_days or 1)
    due_at = calendar.closing(due)
    warn_at = None
    if target.warn_working_days is not None:
        warn = calendar.nth_working_day_after(day, target.warn_working_days)
        warn_at = min(calendar.closing(warn), due_at)
    return DueDate(due, due_at, warn_at, target.slug, calendar.identity)


def add_months(day: date, months: int) -> date:
    """The same day `months` later, or the last of that month: 31 January + 1 is 28 February."""
    years, month = divmod(day.month - 1 + months, 12)
    year, month = day.year + years, month + 1
    return date(year, month, min(day.day, monthrange(year, month)[1]))


def _last_working_day(after: date, until: date, calendar: WorkingCalendar) -> date:
    day = until
    while day > after and not calendar.is_working_day(day):
        day -= timedelta(days=1)
    return day if day > after else calendar.nth_working_day_after(after, 1)
