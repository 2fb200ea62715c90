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
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import (
    BaseModel,
    SecretStr,
    ValidationError,
    field_validator,
)

from router.contradictions import Fault, contradictions, unreadable_times
from router.errors import SettingsError
from router.sections import (
    PREFIX,
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
from rules.document import (
    Document,
    DocumentError,
    Loc,
    Problem,
    fault,
    problems_of,
    read_document,
)

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
        *contradictions(settings, origins),
        *unreadable_times(settings),
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


def _secrets_in(document: Document) -> Iterator[Fault]:
    """Secrets that stand in the file, where everybody reads them."""
    for keys in _SECRETS:
        if document.find(keys) == keys:
            name = f"{PREFIX}{'__'.join(keys).upper()}"
            yield keys, f"hører ikke hjemme i filen; bruk {name}", f"does not go here; use {name}"


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
