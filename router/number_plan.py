"""The number plan: whose each of our numbers is, who is tried in which order, and when we answer.

It decides nothing about a single call; `router.calls` asks it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from channels.numbers import emergency_service
from channels.phone.base import Said
from channels.phone.phrases import STATES
from channels.phone.spoken import moment
from channels.phone.twiml import Site, Voice
from router.presence import Directory, directory_of
from rules.calendar import AlwaysClosedError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from router.sections import PhoneDoor
    from router.settings import Settings
    from rules.calendar import WorkingCalendar
    from rules.presence import Status

DEPUTIES = 3
"""How far a chain of deputies is followed."""

TOGETHER = 10
"""Phones that can ring together (twilio.com/docs/voice/twiml/dial)."""


class Opening(StrEnum):
    """How we meet a caller, the first that holds."""

    EMERGENCY = "emergency"
    """An emergency service calls: always let in."""
    OPEN = "open"
    HOLIDAY = "holiday"
    CLOSED = "closed"


class Where(StrEnum):
    """What is tried for a caller."""

    PERSON = "person"
    DEPUTY = "deputy"
    DEPARTMENT = "department"
    NUMBER = "number"
    """A number outside the plan, where an operator sends a caller."""
    SWITCHBOARD = "switchboard"


Attempt = tuple[Where, str]
"""What is tried, and whose: username, department, or nothing."""


@dataclass(frozen=True, slots=True)
class NumberPlan:
    """The phone door as configured, with names, hours and people at hand."""

    door: PhoneDoor
    municipality: str
    switchboard: str
    """Department that answers for the house."""
    names: Mapping[str, str]
    """Department slug -> name in bokmål."""
    hours: Mapping[str, WorkingCalendar]
    calendar: WorkingCalendar
    directory: Directory
    site: Site
    owners: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Our number -> username and department; both empty for the switchboard's."""

    def owner(self, number: str) -> tuple[str, str]:
        """Whose a number is: username, or nothing, and department."""
        person, department = self.owners.get(number, ("", ""))
        return person, department or self.switchboard

    def title(self, number: str) -> str:
        """Whose a number is, in words."""
        person, department = self.owners.get(number, ("", ""))
        if person:
            return self.door.people[person].name
        return self.names[department] if department else "sentralbordet"

    def name_of(self, whoever: str) -> str:
        """The name of somebody with a phone here, or as an exchange names them; empty for a number
        and for nobody."""
        known = self.door.people.get(whoever)
        if known is not None:
            return known.name
        return whoever if any(c.isalpha() for c in whoever) else ""

    def attempts(self, number: str) -> list[Attempt]:
        """What is tried for a call to one of our numbers, in order."""
        person, department = self.owners.get(number, ("", ""))
        tried: list[Attempt] = []
        if person:
            tried.append((Where.PERSON, person))
            tried += [(Where.DEPUTY, deputy) for deputy in self.deputies(person)]
        if department:
            tried.append((Where.DEPARTMENT, department))
        return [*tried, (Where.SWITCHBOARD, "")]

    def deputies(self, person: str) -> list[str]:
        """Who answers instead of somebody, the nearest first; a circle is left when it closes."""
        found: list[str] = []
        deputy = self.door.people[person].deputy
        while deputy and deputy != person and deputy not in found and len(found) < DEPUTIES:
            found.append(deputy)
            deputy = self.door.people[deputy].deputy
        return found

    def members(self, department: str) -> list[str]:
        """Whose phones ring for a department."""
        return [name for name, one in self.door.people.items() if one.department == department]

    def opening(self, department: str, caller: str, now: datetime) -> Opening:
        """How a caller is met who wants this department."""
        if emergency_service(caller):
            return Opening.EMERGENCY
        calendar = self.hours.get(department, self.calendar)
        if calendar.is_open(now):
            return Opening.OPEN
        holiday = calendar.is_holiday(calendar.local_date(now))
        return Opening.HOLIDAY if holiday else Opening.CLOSED

    def opens(self, department: str, now: datetime) -> str:
        """When a department opens next, as a voice says it."""
        calendar = self.hours.get(department, self.calendar)
        try:
            return self.spoken(calendar.add_working_time(now, timedelta()), now)
        except AlwaysClosedError:
            return "så snart vi kan"

    def spoken(self, at: datetime, now: datetime) -> str:
        """An instant as a voice says it here."""
        return moment(at, now, self.calendar.timezone)

    def greeting(self, number: str) -> list[Said]:
        """What is said first: the crisis message while there is one, and who we are."""
        _person, department = self.owners.get(number, ("", ""))
        blanks = {"municipality": self.municipality}
        if department and department != self.switchboard:
            blanks["department"] = self.names[department]
            return [Said("crisis"), Said("greeting_department", blanks)]
        return [Said("crisis"), Said("greeting", blanks)]

    def closed(self, opening: Opening, department: str, now: datetime) -> list[Said]:
        """What somebody hears who calls outside the hours."""
        blanks = {"municipality": self.municipality, "opens": self.opens(department, now)}
        return [Said("crisis"), Said(opening.value, blanks), Said("emergency")]

    def away(self, person: str, status: Status, now: datetime) -> Said:
        """Where somebody is and when they are back; never why they are absent."""
        blanks = {
            "person": self.door.people[person].name,
            "state": STATES.get(status.state.value, "er ikke ledig"),
        }
        if status.until is None or status.until <= now:
            return Said("away", blanks)
        return Said("away_until", {**blanks, "back": self.spoken(status.until, now)})


def number_plan(
    settings: Settings, calendar: WorkingCalendar, hours: Mapping[str, WorkingCalendar]
) -> NumberPlan:
    """The number plan of the configuration; `hours` by department."""
    door = settings.channels.phone
    return NumberPlan(
        door=door,
        municipality=settings.municipality.name,
        switchboard=settings.municipality.default_department,
        names={slug: department.name.nb for slug, department in settings.departments.items()},
        hours=hours,
        calendar=calendar,
        directory=directory_of(settings, calendar, hours),
        site=_site(settings),
        owners=settings.line_owners,
    )


def _site(settings: Settings) -> Site:
    door, speech = settings.channels.phone, settings.channels.phone.speech
    own = {
        "crisis": speech.crisis,
        "greeting": speech.greeting,
        "greeting_department": speech.greeting,
        "closed": speech.closed,
        "holiday": speech.holiday or speech.closed,
        **speech.phrases,
    }
    return Site(
        url=settings.public_url,
        voice=Voice(
            name=speech.voice,
            language=speech.language,
            phrases={key: words for key, words in own.items() if words},
            music=speech.music,
        ),
        ring=door.ring_seconds,
        voicemail=door.voicemail_seconds,
        talk=round(door.talk_hours * 3600),
    )
