"""Every setting, typed: config.yaml first, the environment over it. Unknown keys are refused with
their line.

`SENTRALBORD_WEB__PORT=8081` sets `web.port`. Secrets come by environment or by file (`…_FILE`)
only.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from datetime import date
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from router.errors import SettingsError
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
Language = Literal["nb", "nn", "en"]
_Fault: TypeAlias = "tuple[Loc, str, str]"
"""A place, and what is wrong there in bokmål and in English."""


class _Section(BaseModel):
    # Validators are built for the whole alone, when it is read.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


def _email(value: str) -> str:
    value = value.strip().lower()
    local, _, domain = value.rpartition("@")
    if not local or "." not in domain or any(c.isspace() for c in value):
        raise fault("er ikke en e-postadresse", "is not an e-mail address")
    return value


def _network(value: object) -> object:
    try:
        return ip_network(str(value))
    except ValueError:
        raise fault(
            f"«{value}» er ikke et nett, som 10.1.0.0/24",
            f"“{value}” is no network like 10.1.0.0/24",
        ) from None


Email = Annotated[str, AfterValidator(_email)]
Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]


class Municipality(_Section):
    """Whose installation this is."""

    name: str
    phone: str = ""
    default_department: str = "servicetorg"


class Web(_Section):
    """The HTTP listener."""

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    trusted_proxies: tuple[Network, ...] = ()
    session_hours: int = Field(default=10, ge=1, le=24)


class Tls(_Section):
    """A certificate chain and its key, PEM, for STARTTLS; relative to the configuration file."""

    certificate: Path | None = None
    key: Path | None = None


class Lmtp(_Section):
    """The LMTP listener, for a mail relay on the same machine or in a network of its own."""

    enabled: bool = False
    host: str = "127.0.0.1"
    port: int = Field(default=2424, ge=0, le=65535)


class Listen(_Section):
    """The SMTP listener."""

    enabled: bool = True
    host: str = "127.0.0.1"
    port: int = Field(default=2525, ge=0, le=65535)
    hostname: str = "localhost"
    max_size: int = Field(default=36 * 1024 * 1024, ge=1024)
    trusted_peers: tuple[Network, ...] = ()
    tls: Tls = Tls()


class Smarthost(_Section):
    """Who carries our mail out. The password comes by environment only."""

    host: str = "127.0.0.1"
    port: int = Field(default=25, ge=1, le=65535)
    tls: Literal["none", "starttls", "tls"] = "none"
    username: str = ""
    password: SecretStr = SecretStr("")
    timeout: float = Field(default=30, gt=0)


class Receipts(_Section):
    """Brakes on automatic letters; receipts, emergency answers and forwards count apart."""

    per_sender_per_day: int = Field(default=10, ge=0)
    per_inquiry_per_day: int = Field(default=3, ge=0)
    per_domain_per_hour: int = Field(default=500, ge=0)
    per_hour: int = Field(default=2000, ge=0)


class RelayTrust(_Section):
    """What our own mail relay writes into the header, and we believe. It must take away such fields
    of strangers (RFC 8601 §5)."""

    authserv_id: str = ""
    spam_header: str = "X-Spam-Flag"


class Scan(_Section):
    """Scanners beside us: `host:port`, clamd also the path of its socket; empty for none."""

    clamd: str = ""
    rspamd: str = ""

    @field_validator("clamd", "rspamd")
    @classmethod
    def _address(cls, value: str) -> str:
        value = value.strip().removeprefix("http://").rstrip("/")
        host, _, port = value.rpartition(":")
        if value and not value.startswith("/") and not (host and port.isdecimal()):
            raise fault(
                "skal være en adresse som 127.0.0.1:3310", "must be an address like 127.0.0.1:3310"
            )
        return value


class EmailDoor(_Section):
    """The e-mail door."""

    listen: Listen = Listen()
    lmtp: Lmtp = Lmtp()
    smarthost: Smarthost = Smarthost()
    sender: Email
    domain: str
    receipts: Receipts = Receipts()
    trust: RelayTrust = RelayTrust()
    scan: Scan = Scan()


class Channels(_Section):
    """The doors."""

    email: EmailDoor


class Rules(_Section):
    """Where the ruleset lies; relative to the configuration file."""

    folder: Path


class SeasonHours(_Section):
    """Hours in a part of the year; `first` and `last` are MM-DD, both included."""

    first: str
    last: str
    hours: dict[str, tuple[str, ...]]


class Calendar(_Section):
    """When the municipality works. Days are MM-DD, YYYY-MM-DD or easter±N; see `rules.calendar`."""

    timezone: str = "Europe/Oslo"
    holidays: str = "NO"
    hours: dict[str, tuple[str, ...]]
    seasons: tuple[SeasonHours, ...] = ()
    half_days: dict[str, str] = Field(default_factory=dict)
    closed: tuple[str, ...] = ()

    def build(self, hours: dict[str, tuple[str, ...]] | None = None) -> WorkingCalendar:
        """The working calendar; with `hours`, one department's own."""
        return WorkingCalendar(
            hours=hours or self.hours,
            seasons=()
            if hours
            else [Season(season.first, season.last, season.hours) for season in self.seasons],
            closed=self.closed,
            half_days=self.half_days,
            timezone=self.timezone,
            country=self.holidays,
        )


class ReplyTarget(_Section):
    """By when an answer is owed: so many working days or months after the day of receipt."""

    working_days: int | None = Field(default=None, ge=1, le=365)
    months: int | None = Field(default=None, ge=1, le=24)
    warn_working_days: int = Field(ge=1, le=365)
    after_hours: Literal["strict", "next_day"] = "strict"
    basis: str = ""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.working_days is None) == (self.months is None):
            raise fault(
                "oppgi enten working_days eller months", "give either working_days or months"
            )
        return self


class Name(_Section):
    """A name in the three languages."""

    nb: str
    nn: str
    en: str

    def get(self, language: str) -> str:
        """The name in `language`, bokmål when there is none."""
        return {"nn": self.nn, "en": self.en}.get(language, self.nb)


class Department(_Section):
    """Who answers. `external`: not ours; contacts are forwarded to `forward_to` and the sender is
    told."""

    name: Name
    addresses: tuple[Email, ...] = ()
    external: bool = False
    forward_to: Email | Literal[""] = ""
    website: str = ""
    phone: str = ""
    hours: dict[str, tuple[str, ...]] = Field(default_factory=dict)


class Settings(_Section):
    """The whole configuration."""

    municipality: Municipality
    public_url: str = ""
    """Empty: the address the web listens on."""
    data: Path = Path("var")
    database: str = ""
    signing_key: SecretStr = SecretStr("")
    web: Web = Web()
    channels: Channels
    rules: Rules
    calendar: Calendar
    reply_targets: dict[str, ReplyTarget]
    departments: dict[str, Department]

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
    for keys in (("signing_key",), ("channels", "email", "smarthost", "password")):
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
    for slug, department in settings.departments.items():
        for days, spans in department.hours.items():
            for nb, en in _calendar_complaint({"hours": {days: spans}}):
                yield ("departments", slug, "hours", days), nb, en
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
