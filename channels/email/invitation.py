"""What a calendar part (RFC 5545, 5546) says, as a few lines of text. Nothing is ever accepted."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from channels.email.charsets import clean_line, decode

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 64 * 1024
"""Bytes of a calendar that is read; of a larger one only the file is kept."""

_MAX_EVENTS = 5
_OSLO = "Europe/Oslo"
_METHODS = {
    "REQUEST": "Møteinnkalling", "CANCEL": "Avlyst møte", "REPLY": "Svar på møteinnkalling",
    "COUNTER": "Forslag om ny møtetid", "DECLINECOUNTER": "Avslag på ny møtetid",
    "PUBLISH": "Kalenderhendelse", "ADD": "Tillegg til møter", "REFRESH": "Spørsmål om møtet",
}  # fmt: skip
_ANSWERS = {"ACCEPTED": "godtatt", "DECLINED": "avslått", "TENTATIVE": "kanskje"}
_DAYS = ("mandag", "tirsdag", "onsdag", "torsdag", "fredag", "lørdag", "søndag")
_MONTHS = (
    "januar", "februar", "mars", "april", "mai", "juni", "juli", "august", "september", "oktober",
    "november", "desember",
)  # fmt: skip
# Rules of time zones come once a year; anything denser is there to be counted out for ever.
_RULE = re.compile(rb"^RRULE[^\n]*\n?(?:[ \t][^\n]*\n?)*", re.IGNORECASE | re.MULTILINE)
_YEARLY = re.compile(
    rb"RRULE:FREQ=YEARLY(?:;(?:INTERVAL=1|BYDAY=-?\d[A-Z]{2}|BYMONTH=\d{1,2}|WKST=[A-Z]{2}"
    rb"|UNTIL=[0-9TZ]{8,16}))*\s*",
    re.IGNORECASE,
)
_MAX_RULE_LINES = 200


def describe(content: bytes) -> str:
    """Method, title, time (Europe/Oslo) and place in Norwegian; empty when it cannot be read."""
    if len(content) > LIMIT:
        return ""
    from icalendar import Calendar  # here, so that workers start without it

    text = _RULE.sub(_kept_rule, decode(content, "utf-8").encode("utf-8"))
    try:
        calendars = Calendar.from_ical(text, multiple=True)
        return "\n\n".join(_events(calendars))
    except Exception:  # noqa: BLE001 - the file is kept; its lines are a help, no more
        return ""


def _kept_rule(rule: re.Match[bytes]) -> bytes:
    few = rule.string.count(b"\n", 0, rule.start()) < _MAX_RULE_LINES
    return rule[0] if few and _YEARLY.fullmatch(rule[0]) else b""


def _events(calendars: list[Any]) -> Iterator[str]:
    room = _MAX_EVENTS
    for calendar in calendars:
        method = str(calendar.get("method", "")).upper()
        for event in calendar.walk():
            if event.name not in ("VEVENT", "VTODO") or not room:
                continue
            room -= 1
            yield "\n".join(_lines(event, _METHODS.get(method, "Kalenderhendelse")))


def _lines(event: Any, heading: str) -> Iterator[str]:
    title = _text(event, "summary")
    yield f"{heading}: {title}" if title else heading
    if heading == _METHODS["REPLY"] and (answer := _answer(event)):
        yield f"Svar: {answer}"
    start = _moment(event, "dtstart")
    if start is not None:
        yield f"Tid: {_span(start, _end(event, start))}"
    if place := _text(event, "location"):
        yield f"Sted: {place}"


def _text(event: Any, name: str) -> str:
    value = event.get(name)
    value = value[0] if isinstance(value, list) and value else value
    return clean_line(str(value))[:300] if value is not None else ""


def _answer(event: Any) -> str:
    attendees = event.get("attendee")
    for attendee in attendees if isinstance(attendees, list) else [attendees]:
        status = str(getattr(attendee, "params", {}).get("PARTSTAT", "")).upper()
        if status in _ANSWERS:
            return _ANSWERS[status]
    return ""


def _moment(event: Any, name: str) -> date | None:
    """A date, or a local datetime; `datetime` is a `date`."""
    from zoneinfo import ZoneInfo

    value = event.get(name)
    value = value[0] if isinstance(value, list) and value else value
    when = getattr(value, "dt", None)
    if isinstance(when, datetime) and when.tzinfo is not None:
        return when.astimezone(ZoneInfo(_OSLO)).replace(tzinfo=None)
    return when if isinstance(when, date) else None


def _end(event: Any, start: date) -> date | None:
    end = _moment(event, "dtend")
    if end is None:
        duration = getattr(event.get("duration"), "dt", None)
        end = start + duration if isinstance(duration, timedelta) else None
    if end is None or isinstance(end, datetime) != isinstance(start, datetime):
        return None
    if not isinstance(end, datetime):  # RFC 5545 §3.6.1: the end of whole days is not included
        end -= timedelta(days=1)
    return end if end > start else None


def _span(start: date, end: date | None) -> str:
    told = _day(start) + _clock(start)
    if end is None:
        return told
    if isinstance(start, datetime) and isinstance(end, datetime) and start.date() == end.date():
        return f"{told}–{end:%H.%M}"
    return f"{told} – {_day(end)}{_clock(end)}"


def _day(when: date) -> str:
    return f"{_DAYS[when.weekday()]} {when.day}. {_MONTHS[when.month - 1]} {when.year}"


def _clock(when: date) -> str:
    return f" kl. {when:%H.%M}" if isinstance(when, datetime) else ""
