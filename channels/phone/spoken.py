"""Numbers and moments as a voice says them in bokmål: «klokken fjorten», «tirsdag den tredje
desember»."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from datetime import date, datetime

_SMALL = [
    *("null", "en", "to", "tre", "fire", "fem", "seks", "sju", "åtte", "ni", "ti", "elleve"),
    *("tolv", "tretten", "fjorten", "femten", "seksten", "sytten", "atten", "nitten"),
]
_TENS = ["", "", "tjue", "tretti", "førti", "femti", "seksti", "sytti", "åtti", "nitti"]
_ORDINALS = [
    *("første", "andre", "tredje", "fjerde", "femte", "sjette", "sjuende", "åttende", "niende"),
    *("tiende", "ellevte", "tolvte", "trettende", "fjortende", "femtende", "sekstende"),
    *("syttende", "attende", "nittende", "tjuende", "tjueførste", "tjueandre", "tjuetredje"),
    *("tjuefjerde", "tjuefemte", "tjuesjette", "tjuesjuende", "tjueåttende", "tjueniende"),
    *("trettiende", "trettiførste"),
]
_WEEKDAYS = ["mandag", "tirsdag", "onsdag", "torsdag", "fredag", "lørdag", "søndag"]
_MONTHS = [
    *("januar", "februar", "mars", "april", "mai", "juni", "juli"),
    *("august", "september", "oktober", "november", "desember"),
]


def number(value: int) -> str:
    """A number from 0 to 99 in words; others in digits, which a voice reads as well."""
    if not 0 <= value <= 99:
        return str(value)
    tens, ones = divmod(value, 10)
    if tens < 2:
        return _SMALL[value]
    return _TENS[tens] + (_SMALL[ones] if ones else "")


def clock(at: datetime) -> str:
    """A time of day: «klokken fjorten», «klokken åtte null fem». `at` is local."""
    if at.minute == 0:
        return "ved midnatt" if at.hour == 0 else f"klokken {number(at.hour)}"
    minutes = f"null {number(at.minute)}" if at.minute < 10 else number(at.minute)
    return f"klokken {number(at.hour)} {minutes}"


def day(wanted: date, today: date) -> str:
    """A day seen from today: «i dag», «i morgen», «torsdag», «torsdag den tredje desember»."""
    ahead = (wanted - today).days
    if ahead in {0, 1}:
        return ("i dag", "i morgen")[ahead]
    name = _WEEKDAYS[wanted.weekday()]
    if 1 < ahead < 7:
        return name
    return f"{name} den {_ORDINALS[wanted.day - 1]} {_MONTHS[wanted.month - 1]}"


def moment(at: datetime, now: datetime, timezone: str) -> str:
    """An instant in the caller's words: the time alone when it is today. Both are aware."""
    zone = ZoneInfo(timezone)
    local, today = at.astimezone(zone), now.astimezone(zone).date()
    if local.date() == today:
        return clock(local)
    return f"{day(local.date(), today)} {clock(local)}"


def minutes(seconds: float) -> str:
    """How long something takes: «under ett minutt», «omtrent fire minutter», «over en time»."""
    count = round(seconds / 60)
    if seconds < 60:
        return "under ett minutt"
    if count >= 60:
        return "over en time"
    return "omtrent ett minutt" if count == 1 else f"omtrent {number(count)} minutter"
