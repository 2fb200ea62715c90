"""Faults of the configuration that no single setting shows: values that contradict each other, and
opening hours that cannot be read.

Every fault has its place, so that the complaint can name the line or the variable.
"""

from __future__ import annotations

import re
from datetime import date
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

from pydantic_core import PydanticCustomError

from router.sections import PREFIX
from rules.calendar import AlwaysClosedError, Season, WorkingCalendar
from rules.document import suggest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from router.settings import Settings
    from rules.document import Loc

Fault: TypeAlias = "tuple[Loc, str, str]"
"""A place, and what is wrong there in bokmål and in English."""

CTI_TOKEN_LENGTH = 22
"""Characters that 128 bit take in base64 (RFC 4648 §5); in hex they are 32."""

_IN_A_PATH = re.compile(r"[A-Za-z0-9._~-]+")
"""What needs no escaping in a URL (RFC 3986 §2.3)."""

_KINDS = {"person": "ukjent person", "department": "ukjent avdeling"}


def contradictions(settings: Settings, origins: Mapping[tuple[str, ...], str]) -> Iterator[Fault]:
    """What is right by itself but does not fit together."""
    default = settings.municipality.default_department
    if default not in settings.departments:
        nb, en = suggest(default, settings.departments)
        loc: Loc = ("municipality", "default_department")
        yield loc, f"ukjent avdeling «{default}»{nb}", f"unknown department “{default}”{en}"
    if "service" not in settings.reply_targets:
        yield ("reply_targets",), "målet «service» mangler", "the target “service” is missing"
    owners: dict[str, str] = {}
    for slug, department in settings.departments.items():
        for position, address in enumerate(department.addresses):
            owner = owners.setdefault(address, slug)
            if owner != slug:
                loc = ("departments", slug, "addresses", position)
                nb = f"{address} tilhører allerede {owner}"
                yield loc, nb, f"{address} already belongs to {owner}"
    yield from _canned_faults(settings)
    yield from _number_plan_faults(settings)
    if settings.channels.chat.cross_site and not settings.public_url.startswith("https://"):
        loc = ("channels", "chat", "cross_site")
        nb = "nettlesere tar imot slike informasjonskapsler bare over https; sett public_url"
        yield loc, nb, "browsers take such cookies over https alone; set public_url"
    yield from _cti_faults(settings)
    yield from _xmpp_faults(settings)
    yield from _twilio_faults(settings)
    smarthost = settings.channels.email.smarthost
    if smarthost.username and smarthost.tls == "none":
        loc = ("channels", "email", "smarthost", "tls")
        nb = "et passord ville gått ukryptert; velg starttls eller tls"
        yield loc, nb, "a password would go unencrypted; choose starttls or tls"
    tls = settings.channels.email.listen.tls
    if (tls.certificate is None) != (tls.key is None):
        loc = ("channels", "email", "listen", "tls")
        nb, en = "sertifikat og nøkkel hører sammen", "certificate and key belong together"
        yield loc, nb, en
    web, email = settings.web, settings.channels.email
    listeners: list[tuple[str, str, int]] = [("web", web.host, web.port)]
    for name, door in (("listen", email.listen), ("lmtp", email.lmtp)):
        if not door.enabled or not door.port:
            continue
        for other, host, port in listeners:
            if door.port == port and _meet(door.host, host):
                loc, its = ("channels", "email", name, "port"), (*other.split("."), "port")
                if its in origins and loc not in origins:
                    # The variable is what somebody has just changed, not the file.
                    loc, its = its, loc
                twin = ".".join(its)
                nb = f"{port} er også {twin}; velg en annen for en av dem"
                yield loc, nb, f"{port} is {twin} too; choose another for one of them"
        listeners.append((f"channels.email.{name}", door.host, door.port))


def _canned_faults(settings: Settings) -> Iterator[Fault]:
    """Canned texts that share a name, and those of unknown departments."""
    seen: set[str] = set()
    for index, text in enumerate(settings.canned_texts):
        loc: Loc = ("canned_texts", index)
        if text.name in seen:
            nb = f"«{text.name}» står to ganger; gi den ene et annet navn"
            yield (*loc, "name"), nb, f"“{text.name}” stands twice; give one another name"
        seen.add(text.name)
        for position, slug in enumerate(text.departments):
            at = (*loc, "departments", position)
            yield from _unknown(at, "department", slug, settings.departments)


def _number_plan_faults(settings: Settings) -> Iterator[Fault]:
    """Lines and people that name nobody, and numbers that stand twice."""
    phone = settings.channels.phone
    at: Loc = ("channels", "phone")
    seen: set[str] = set()
    for index, line in enumerate(phone.numbers):
        loc: Loc = (*at, "numbers", index)
        if line.number in seen:
            yield (*loc, "number"), f"{line.number} står to ganger", f"{line.number} stands twice"
        seen.add(line.number)
        if line.person and line.department:
            nb, en = "velg enten person eller department", "choose either person or department"
            yield loc, nb, en
        yield from _unknown((*loc, "person"), "person", line.person, phone.people)
        yield from _unknown(
            (*loc, "department"), "department", line.department, settings.departments
        )
    for username, person in phone.people.items():
        loc = (*at, "people", username)
        yield from _unknown((*loc, "deputy"), "person", person.deputy, phone.people)
        yield from _unknown(
            (*loc, "department"), "department", person.department, settings.departments
        )


def _cti_faults(settings: Settings) -> Iterator[Fault]:
    """The token is all that the exchange shows."""
    cti = settings.channels.phone.cti
    token = cti.token.get_secret_value()
    loc: Loc = ("channels", "phone", "cti")
    name = f"{PREFIX}CHANNELS__PHONE__CTI__TOKEN"
    if cti.enabled and not token:
        nb, en = f"sett {name}, som sentralen viser fram", f"set {name}, which the exchange shows"
        yield (*loc, "enabled"), nb, en
    elif token and (len(token) < CTI_TOKEN_LENGTH or not _IN_A_PATH.fullmatch(token)):
        signs = "(A-Z a-z 0-9 - . _ ~): openssl rand -hex 16"
        nb = f"skal ha minst {CTI_TOKEN_LENGTH} tegn {signs}"
        yield (*loc, "token"), nb, f"must have at least {CTI_TOKEN_LENGTH} characters {signs}"


def _xmpp_faults(settings: Settings) -> Iterator[Fault]:
    """What the link to the XMPP server needs."""
    door = settings.channels.xmpp
    if not door.enabled:
        return
    if not door.domain:
        nb = "mangler; det er navnet som XMPP-serveren kjenner komponenten ved"
        yield (
            ("channels", "xmpp", "domain"),
            nb,
            "is missing; it is what the XMPP server knows the component by",
        )
    if not door.secret.get_secret_value():
        name = f"{PREFIX}CHANNELS__XMPP__SECRET"
        nb = f"sett {name}, det samme som component_secret på serveren"
        yield (
            ("channels", "xmpp", "enabled"),
            nb,
            f"set {name}, the same as component_secret on the server",
        )


def _twilio_faults(settings: Settings) -> Iterator[Fault]:
    """What the doors that Twilio serves need before they can open."""
    twilio, sms, phone = settings.twilio, settings.channels.sms, settings.channels.phone
    if sms.enabled and not sms.numbers:
        loc: Loc = ("channels", "sms", "numbers")
        yield loc, "SMS trenger et nummer å sende fra", "texts need a number to be sent from"
    if twilio.api_key and not twilio.api_secret.get_secret_value():
        name = f"{PREFIX}TWILIO__API_SECRET"
        yield ("twilio", "api_key"), f"sett også {name}", f"set {name} too"
    if not settings.uses_twilio:
        return
    by_cti = not (sms.enabled and sms.provider == "twilio") and phone.cti.enabled
    if by_cti and not twilio.account_sid:
        return
    if not re.fullmatch(r"AC[0-9a-fA-F]{32}", twilio.account_sid):
        said = (
            "skal være AC og 32 tegn, fra Twilios konsoll",
            "must be AC and 32 signs, from Twilio's console",
        )
        missing = (
            "mangler; SMS og telefon med Twilio trenger den",
            "is missing; texts and calls by Twilio need it",
        )
        yield ("twilio", "account_sid"), *(said if twilio.account_sid else missing)
    if not twilio.auth_tokens and not all((twilio.shared_keys, *twilio.shared_keys.values())):
        name = f"{PREFIX}TWILIO__AUTH_TOKEN"
        nb = f"sett {name}; uten det kan ingen webhook prøves"
        yield ("twilio", "auth_token"), nb, f"set {name}; without it no webhook can be checked"
    parts = urlsplit(settings.public_url)
    if "@" in parts.netloc or "[" in parts.netloc:
        nb = "kan ikke ha brukernavn eller IPv6-adresse når Twilio skal signere den"
        yield (
            ("public_url",),
            nb,
            "cannot have a user name or an IPv6 address if Twilio shall sign it",
        )


def _unknown(loc: Loc, kind: str, name: str, known: Iterable[str]) -> Iterator[Fault]:
    if name and name not in known:
        nb, en = suggest(name, known)
        yield loc, f"{_KINDS[kind]} «{name}»{nb}", f"unknown {kind} “{name}”{en}"


def _meet(host: str, other: str) -> bool:
    """Whether two listeners share an address; one without an address of its own has them all."""
    return host == other or not {host, other}.isdisjoint({"", "0.0.0.0", "::"})  # noqa: S104


def unreadable_times(settings: Settings) -> Iterator[Fault]:
    """What the calendars cannot read. Each part is tried alone, so that a complaint has its
    line."""
    calendar = settings.calendar
    parts: list[tuple[Loc, dict[str, Any]]] = [
        (("timezone",), {"timezone": calendar.timezone}),
        (("holidays",), {"country": calendar.holidays}),
        *((("hours", days), {"hours": {days: spans}}) for days, spans in calendar.hours.items()),
        *(
            (("half_days", day), {"half_days": {day: end}})
            for day, end in calendar.half_days.items()
        ),
        *((("closed", index), {"closed": [day]}) for index, day in enumerate(calendar.closed)),
    ]
    for index, season in enumerate(calendar.seasons):
        built = Season(season.first, season.last, season.hours)
        parts.append((("seasons", index), {"seasons": [built]}))
    found = False
    for at, fields in parts:
        for nb, en in _calendar_complaint({"hours": {}, **fields}):
            found = True
            yield ("calendar", *at), nb, en
    if not found:
        for nb, en in _calendar_complaint({"hours": calendar.hours}):
            found = True
            yield ("calendar", "hours"), nb, en
    of_their_own: list[tuple[Loc, dict[str, tuple[str, ...]]]] = [
        (("channels", "chat"), settings.channels.chat.hours),
        *((("departments", slug), d.hours) for slug, d in settings.departments.items()),
    ]
    for loc, hours in of_their_own:
        for days, spans in hours.items():
            for nb, en in _calendar_complaint({"hours": {days: spans}}):
                yield (*loc, "hours", days), nb, en
    if not found:
        try:
            calendar.build().nth_working_day_after(date(2026, 1, 1), 1)
        except AlwaysClosedError:
            yield ("calendar", "hours"), "det er aldri åpent", "it is never open"


def _calendar_complaint(fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    try:
        WorkingCalendar(**fields)
    except PydanticCustomError as error:
        context = error.context or {}
        return [(str(context.get("nb", "")), str(context.get("en", "")))]
    return []
