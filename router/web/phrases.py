"""Moments, deadlines, sizes and numbers in words: Norwegian local time, the reader's language."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo

from babel.dates import format_date, format_timedelta
from babel.numbers import format_decimal

from channels.numbers import emergency_service
from router.letters import phone_in_words
from rules.order import Lane

if TYPE_CHECKING:
    from babel.support import NullTranslations


ZONE = ZoneInfo("Europe/Oslo")
LOCALES = {"nb": "nb_NO", "nn": "nn_NO", "en": "en_GB"}

# The locale data have only two letters, and «to.» and «on.» are read as other words.
_NYNORSK_DAYS = ("mån.", "tys.", "ons.", "tors.", "fre.", "laur.", "søn.")

DueState = Literal["ok", "soon", "overdue", "answered", "closed"]


@dataclass(frozen=True, slots=True)
class DueView:
    """A deadline as it is shown: the state picks shape and colour, the words carry the meaning."""

    state: DueState
    left: str
    """«2 dager igjen», «Forfalt for 3 timer siden», «Besvart»."""
    deadline: str
    """«frist ons. 25. nov. 15:45»; empty when no clock runs."""


def moment(instant: datetime, now: datetime, language: str, t: NullTranslations) -> str:
    """«i dag kl. 15:45», «ons. 25. nov. 15:45», with the year when it is another."""
    local, today = instant.astimezone(ZONE), _today(now)
    date, clock = local.date(), _clock(local)
    match date.toordinal() - today.toordinal():
        case 0:
            return t.gettext("today at %(time)s") % {"time": clock}
        case -1:
            return t.gettext("yesterday at %(time)s") % {"time": clock}
        case 1:
            return t.gettext("tomorrow at %(time)s") % {"time": clock}
    return f"{_short_day(date, date.year != today.year, language)} {clock}"


def full_moment(instant: datetime, language: str, t: NullTranslations) -> str:
    """«onsdag 25. november 2026 kl. 15:45»."""
    local = instant.astimezone(ZONE)
    return t.gettext("%(date)s at %(time)s") % {
        "date": day(instant, language, year=True),
        "time": _clock(local),
    }


def day(instant: datetime, language: str, *, year: bool = False) -> str:
    """«onsdag 25. november», the local date."""
    pattern = "EEEE d MMMM" if language == "en" else "EEEE d. MMMM"
    local = instant.astimezone(ZONE).date()
    return _date(local, pattern + (" y" if year else ""), language)


def clock(instant: datetime) -> str:
    """«15:45», local time: all three languages write it so."""
    return _clock(instant.astimezone(ZONE))


def due_view(row: Any, now: datetime, language: str, t: NullTranslations) -> DueView:
    """How the deadline of one inquiry, or of a line that shows it, looks right now."""
    if row.closed_at is not None:
        when = moment(row.closed_at, now, language, t)
        return DueView("closed", t.gettext("Closed %(when)s") % {"when": when}, "")
    if row.answered_at is not None:
        when = moment(row.answered_at, now, language, t)
        return DueView("answered", t.gettext("Answered %(when)s") % {"when": when}, "")
    if row.emergency:
        return DueView("overdue", t.gettext("At once"), "")
    if row.lane == int(Lane.LIVE):
        since = t.gettext("since %(time)s") % {"time": clock(row.received_at)}
        return DueView("soon", t.gettext("Waits now"), since)
    deadline = t.gettext("due %(when)s") % {"when": moment(row.due_at, now, language, t)}
    if row.due_at <= now:
        return DueView("overdue", _overdue(row.due_at, now, t), deadline)
    return DueView("soon" if row.warn_at <= now else "ok", _left(row.due_at, now, t), deadline)


def span(length: timedelta, language: str) -> str:
    """«3 dager», «2 timer»: about how long."""
    return format_timedelta(length, locale=LOCALES[language])


def size(count: int, language: str) -> str:
    """«12 kB», «3,4 MB»: decimal units, as mail programs show them."""
    for unit, step in (("MB", 1_000_000), ("kB", 1000)):
        if count >= step:
            return f"{format_decimal(round(count / step, 1), locale=LOCALES[language])} {unit}"
    return f"{count} B"


def address(value: str) -> str:
    """An e-mail address as it is; a phone number in groups, as people write it."""
    return phone_in_words(value) if value.startswith("+") else value


def emergency_caller(caller: str, t: NullTranslations) -> str:
    """«116117 (nødetat)»; empty for everybody else."""
    number = emergency_service(caller)
    return t.gettext("%(number)s (emergency service)") % {"number": number} if number else ""


def sender(row: Any, t: NullTranslations) -> str:
    """Who an inquiry, or a message of one, is from, as far as anybody has said."""
    service = emergency_caller(row.sender_name, t) if row.channel == "phone" else ""
    return service or row.sender_name or address(row.sender_address) or t.gettext("unknown sender")


def half_address(value: str) -> str:
    """Enough of an address to know it again, where nobody needs to write to it."""
    local, at, domain = value.rpartition("@")
    return f"{local[:2]}…@{domain}" if at else f"{value[:5]}…"


def rfc3339(instant: datetime) -> str:
    """For the `datetime` attribute: UTC, whole seconds."""
    return instant.astimezone(UTC).isoformat(timespec="seconds").removesuffix("+00:00") + "Z"


def _clock(local: datetime) -> str:
    return f"{local.hour:02}:{local.minute:02}"


@lru_cache(maxsize=8)
def _today(now: datetime) -> date:
    """The local date; a page has one `now` for all that it shows."""
    return now.astimezone(ZONE).date()


@lru_cache(maxsize=4096)
def _short_day(date: date, with_year: bool, language: str) -> str:
    """«ons. 25. nov.»: a list of inquiries has few dates, and each line shows two of them."""
    pattern = ("d MMM" if language == "en" else "d. MMM") + (" y" if with_year else "")
    weekday = _NYNORSK_DAYS[date.weekday()] if language == "nn" else _date(date, "EEE", language)
    return f"{weekday} {_date(date, pattern, language)}"


def _date(date: date, pattern: str, language: str) -> str:
    return format_date(date, pattern, locale=LOCALES[language])


def _days_between(first: datetime, second: datetime) -> int:
    return (second.astimezone(ZONE).date() - first.astimezone(ZONE).date()).days


def _left(due_at: datetime, now: datetime, t: NullTranslations) -> str:
    number, unit = _amount(now, due_at)
    match unit:
        case "days":
            return t.ngettext("%(n)d day left", "%(n)d days left", number) % {"n": number}
        case "hours":
            return t.ngettext("%(n)d hour left", "%(n)d hours left", number) % {"n": number}
        case _:
            return t.ngettext("%(n)d minute left", "%(n)d minutes left", number) % {"n": number}


def _overdue(due_at: datetime, now: datetime, t: NullTranslations) -> str:
    number, unit = _amount(due_at, now)
    match unit:
        case "days":
            text = t.ngettext("Overdue by %(n)d day", "Overdue by %(n)d days", number)
        case "hours":
            text = t.ngettext("Overdue by %(n)d hour", "Overdue by %(n)d hours", number)
        case _:
            text = t.ngettext("Overdue by %(n)d minute", "Overdue by %(n)d minutes", number)
    return text % {"n": number}


def _amount(first: datetime, second: datetime) -> tuple[int, str]:
    """The distance in the largest unit that fits: calendar days from 24 hours on."""
    passed = second - first
    if passed >= timedelta(hours=24):
        return _days_between(first, second), "days"
    if passed >= timedelta(hours=1):
        return int(passed / timedelta(hours=1)), "hours"
    return max(1, int(passed / timedelta(minutes=1))), "minutes"
