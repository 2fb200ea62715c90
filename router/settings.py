"""Every setting, typed: config.yaml first, the environment over it. Unknown keys are refused with
their line.

`SENTRALBORD_WEB__PORT=8081` sets `web.port`. Secrets come by environment or by file (`…_FILE`)
only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from datetime import date
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic_core import PydanticCustomError

from router.errors import SettingsError
from router.sections import (
    Calendar,
    CannedText,
    Channels,
    Department,
    Municipality,
    ReplyTarget,
    Rules,
    Section,
    Tls,
    Twilio,
    Web,
)
from rules.calendar import AlwaysClosedError, Season, WorkingCalendar
from rules.document import (
    Document,
    DocumentError,
    Loc,
    Problem,
    fault,
    problems_of,
    read_document,
    suggest,
)

PREFIX = "SENTRALBORD_"
PACKAGED = Path(__file__).resolve().parent / "config.default.yaml"
"""The configuration inside the wheel, used where there is no config.yaml."""
OTHER_VARIABLES = frozenset({"SENTRALBORD_CONFIG", "SENTRALBORD_TEST_DATA"})
"""Variables that name no setting, but are ours."""
_SECRETS = (
    ("signing_key",),
    ("channels", "email", "smarthost", "password"),
    ("channels", "phone", "cti", "token"),
    ("channels", "xmpp", "secret"),
    ("twilio", "auth_token"),
    ("twilio", "old_auth_token"),
    ("twilio", "shared_secret"),
    ("twilio", "old_shared_secret"),
    ("twilio", "api_secret"),
)
_IN_A_PATH = re.compile(r"[A-Za-z0-9._~-]+")
"""What needs no escaping in a URL (RFC 3986 §2.3)."""

_Fault: TypeAlias = "tuple[Loc, str, str]"
"""A place, and what is wrong there in bokmål and in English."""


class Settings(Section):
    """The whole configuration."""

    municipality: Municipality
    public_url: str = ""
    """Empty: the address the web listens on."""
    data: Path = Path("var")
    database: str = ""
    signing_key: SecretStr = SecretStr("")
    web: Web = Web()
    twilio: Twilio = Twilio()
    channels: Channels
    rules: Rules
    calendar: Calendar
    reply_targets: dict[str, ReplyTarget]
    departments: dict[str, Department]
    canned_texts: tuple[CannedText, ...] = ()

    @field_validator("public_url")
    @classmethod
    def _url(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise fault(
                "skal begynne med http:// eller https://", "must begin with http:// or https://"
            )
        return value.rstrip("/")

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL; the embedded SQLite unless another is configured."""
        return self.database or f"sqlite:///{self.data / 'sentralbord.db'}"

    @property
    def blobs(self) -> Path:
        """Folder of content-addressed files."""
        return self.data / "blobs"

    @property
    def address_owners(self) -> dict[str, str]:
        """Each of our e-mail addresses -> department slug."""
        return {a: slug for slug, d in self.departments.items() for a in d.addresses}

    @property
    def department_addresses(self) -> dict[str, str]:
        """Addresses that decide by themselves: all but those of the default department."""
        general = self.municipality.default_department
        return {a: slug for a, slug in self.address_owners.items() if slug != general}

    @property
    def department_names(self) -> dict[str, str]:
        """Slugs that decide by themselves when somebody names them, to themselves; see
        `department_addresses`."""
        general = self.municipality.default_department
        return {slug: slug for slug in self.departments if slug != general}

    @property
    def uses_twilio(self) -> bool:
        """Whether a door is open that Twilio serves."""
        sms, phone = self.channels.sms, self.channels.phone
        return phone.enabled or (sms.enabled and sms.provider == "twilio")

    @property
    def line_owners(self) -> dict[str, tuple[str, str]]:
        """Each of our phone numbers -> username and department; a line of the switchboard has
        neither."""
        people = self.channels.phone.people
        return {
            line.number: (
                line.person,
                people[line.person].department if line.person else line.department,
            )
            for line in self.channels.phone.numbers
        }

    @property
    def line_departments(self) -> dict[str, str]:
        """Phone numbers that decide by themselves -> department slug."""
        return {number: slug for number, (_who, slug) in self.line_owners.items() if slug}

    @property
    def xmpp_addresses(self) -> dict[str, str]:
        """Local part that residents write to by XMPP -> department slug: the slug itself, and the
        names of its e-mail addresses."""
        names = {a.partition("@")[0]: slug for a, slug in self.address_owners.items()}
        return names | {slug: slug for slug in self.departments}

    @property
    def xmpp_own_domains(self) -> frozenset[str]:
        """Domains whose XMPP users are ours: no limit for a whole domain holds them."""
        return self.mail_domains | set(self.channels.xmpp.own_domains)

    @property
    def mail_domains(self) -> frozenset[str]:
        """Domains whose mail is ours."""
        return frozenset(
            {self.channels.email.domain, *(a.rpartition("@")[2] for a in self.address_owners)}
        )


def load_settings(path: Path, environment: Mapping[str, str] | None = None) -> Settings:
    """Read and check the configuration.

    Paths in it are relative to the file; in the packaged default, `data` is relative to the working
    directory and the rules are the packaged ones. Raises `DocumentError` with every problem, each
    with file and line, and `SettingsError` when there is no such file.
    """
    environment = os.environ if environment is None else environment
    if not path.is_file():
        raise SettingsError(f"There is no configuration file {path}.")
    document = read_document(path)
    data = deepcopy(document.data) if isinstance(document.data, dict) else {}
    origins: dict[tuple[str, ...], str] = {}
    for name, keys, value in _overrides(environment):
        _set(data, keys, value)
        origins[keys] = name
    try:
        settings = Settings.model_validate(data)
    except ValidationError as error:
        locs = [details["loc"] for details in error.errors(include_url=False)]
        problems = problems_of(error, document, Settings)
        raise DocumentError(
            _at_origin(problem, loc, origins) for problem, loc in zip(problems, locs, strict=True)
        ) from None
    faults = [
        *_secrets_in(document),
        *_contradictions(settings, origins),
        *_unreadable_times(settings),
    ]
    if faults:
        raise DocumentError(
            _at_origin(document.problem(loc, nb, en), loc, origins) for loc, nb, en in faults
        )
    packaged = path.resolve() == PACKAGED
    base = path.resolve().parent
    rules_base, data_base = (base.parent, Path.cwd()) if packaged else (base, base)
    if ("data",) in origins:
        data_base = Path.cwd()
    folder = _absolute(settings.rules.folder, rules_base)
    if not folder.is_dir():
        loc = ("rules", "folder")
        nb, en = f"mappen {folder} finnes ikke", f"there is no folder {folder}"
        raise DocumentError([_at_origin(document.problem(loc, nb, en), loc, origins)])
    return settings.model_copy(
        update={
            "data": _absolute(settings.data, data_base),
            "channels": _with_tls(settings.channels, base, origins),
            "rules": Rules(folder=folder),
            "public_url": settings.public_url or own_url(settings.web),
        }
    )


def unknown_variables(environment: Mapping[str, str] | None = None) -> list[str]:
    """`SENTRALBORD_…` variables that name no setting. They stop no service: another release may
    know them."""
    environment = os.environ if environment is None else environment
    return sorted(
        name
        for name in environment
        if name.startswith(PREFIX) and name not in OTHER_VARIABLES and not _keys_of(name)[0]
    )


def ignored_variables() -> list[str]:
    """A sentence for each variable that names no setting, with the name that may be meant."""
    known = [f"{PREFIX}{'__'.join(keys).upper()}" for keys in _paths(Settings)]
    return [
        f"{name} names no setting and is ignored"
        + next((f"; did you mean {s}?" for s in get_close_matches(name, known, 1, 0.85)), ".")
        for name in unknown_variables()
    ]


def setting(settings: Settings, key: str) -> object:
    """One effective value by its dotted key, e.g. `web.port` or `departments.vei.addresses.0`.

    Raises `KeyError`. Secrets come back masked.
    """
    value: Any = settings.model_dump(mode="json", by_alias=True)
    for part in key.split("."):
        if isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, dict) and part in value:
            value = value[part]
        else:
            raise KeyError(key)
    return value


def _overrides(environment: Mapping[str, str]) -> list[tuple[str, tuple[str, ...], object]]:
    found: list[tuple[str, tuple[str, ...], object]] = []
    for name, value in sorted(environment.items()):
        keys, in_file = _keys_of(name)
        if not keys:
            continue
        if in_file:
            try:
                found.append((name, keys, Path(value).read_text(encoding="utf-8").strip()))
            except (OSError, UnicodeError) as error:
                reason = getattr(error, "strerror", None) or "not a text"
                raise SettingsError(f"{name}: {value} cannot be read: {reason}.") from None
        else:
            is_list = _names_setting((*keys, "0"))
            found.append((name, keys, [v.strip() for v in value.split(",")] if is_list else value))
    return found


def _keys_of(name: str) -> tuple[tuple[str, ...], bool]:
    """The setting that a variable sets, empty for none; and whether it names a file instead."""
    if not name.startswith(PREFIX):
        return (), False
    keys = tuple(name.removeprefix(PREFIX).lower().split("__"))
    if _names_setting(keys):
        return keys, False
    keys = (*keys[:-1], keys[-1].removesuffix("_file"))
    return (keys, True) if name.endswith("_FILE") and _names_setting(keys) else ((), False)


def _secrets_in(document: Document) -> Iterator[_Fault]:
    """Secrets that stand in the file, where everybody reads them."""
    for keys in _SECRETS:
        if document.find(keys) == keys:
            name = f"{PREFIX}{'__'.join(keys).upper()}"
            yield keys, f"hører ikke hjemme i filen; bruk {name}", f"does not go here; use {name}"


def _contradictions(settings: Settings, origins: Mapping[tuple[str, ...], str]) -> Iterator[_Fault]:
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


def _canned_faults(settings: Settings) -> Iterator[_Fault]:
    """Canned texts of one name, and for departments that there are not."""
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


def _number_plan_faults(settings: Settings) -> Iterator[_Fault]:
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


CTI_TOKEN_LENGTH = 22
"""Characters that 128 bit take in base64 (RFC 4648 §5); in hex they are 32."""


def _cti_faults(settings: Settings) -> Iterator[_Fault]:
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


def _xmpp_faults(settings: Settings) -> Iterator[_Fault]:
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


def _twilio_faults(settings: Settings) -> Iterator[_Fault]:
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


_KINDS = {"person": "ukjent person", "department": "ukjent avdeling"}


def _unknown(loc: Loc, kind: str, name: str, known: Iterable[str]) -> Iterator[_Fault]:
    if name and name not in known:
        nb, en = suggest(name, known)
        yield loc, f"{_KINDS[kind]} «{name}»{nb}", f"unknown {kind} “{name}”{en}"


def _meet(host: str, other: str) -> bool:
    """Whether two listeners share an address; one without an address of its own has them all."""
    return host == other or not {host, other}.isdisjoint({"", "0.0.0.0", "::"})  # noqa: S104


def _unreadable_times(settings: Settings) -> Iterator[_Fault]:
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


def _names_setting(keys: tuple[str, ...]) -> bool:
    """Whether a path of keys leads to a setting; tables with free keys accept any, lists a
    number."""
    annotation: Any = Settings
    for key in keys:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            fields = {f.alias or name: f.annotation for name, f in annotation.model_fields.items()}
            if key not in fields:
                return False
            annotation = fields[key]
            continue
        origin = getattr(annotation, "__origin__", None)
        if origin is dict:
            annotation = annotation.__args__[1]
        elif origin is tuple and key.isdecimal():
            annotation = annotation.__args__[0]
        else:
            return False
    return True


def _paths(model: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    """Every setting with a fixed name; what stands in tables with free keys is left out."""
    for name, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from ((name, *rest) for rest in _paths(kind))
        else:
            yield (name,)


def _set(data: dict[str, Any], keys: tuple[str, ...], value: object) -> None:
    inner: Any = data
    for key in keys[:-1]:
        following = inner.get(key)
        if not isinstance(following, dict):
            following = inner[key] = {}
        inner = following
    inner[keys[-1]] = value


def own_url(web: Web) -> str:
    """Where the web listens; stands in for a `public_url` that is not given."""
    host = f"[{web.host}]" if ":" in web.host else web.host
    return f"http://{host}:{web.port}"


def _with_tls(channels: Channels, base: Path, origins: Mapping[tuple[str, ...], str]) -> Channels:
    """With the paths of the certificate absolute; one from the environment counts from the working
    directory."""
    email = channels.email
    tls = email.listen.tls
    found = {}
    for name, path in (("certificate", tls.certificate), ("key", tls.key)):
        if path is not None:
            by_environment = ("channels", "email", "listen", "tls", name) in origins
            found[name] = _absolute(path, Path.cwd() if by_environment else base)
    listen = email.listen.model_copy(update={"tls": Tls(**found)})
    return channels.model_copy(update={"email": email.model_copy(update={"listen": listen})})


def _absolute(path: Path, base: Path) -> Path:
    path = path.expanduser()
    return path if path.is_absolute() else base / path


def _at_origin(problem: Problem, loc: Loc, origins: Mapping[tuple[str, ...], str]) -> Problem:
    """Point at the variable instead of the file where the value came from the environment."""
    for keys, name in origins.items():
        if loc[: len(keys)] == keys:
            return replace(problem, file=name, line=0, path=".".join(keys))
    return problem
