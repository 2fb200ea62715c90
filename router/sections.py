"""The sections of config.yaml: what each setting is, its type, and what it is when left out."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path  # noqa: TC003 - read by pydantic
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from channels.chat.xmpp import bare_jid
from channels.numbers import COUNTRIES, e164
from channels.phone.phrases import PHRASES, blanks, fault_of
from channels.text import nfc
from router import canned
from rules.calendar import Season, WorkingCalendar
from rules.document import fault

PREFIX = "SENTRALBORD_"
"""What the environment variables of settings begin with."""


class Section(BaseModel):
    """A part of the configuration: unknown keys are refused, nothing changes after the start."""

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


def _phone(value: object) -> str:
    number = e164(str(value))
    if not number:
        raise fault(
            f"«{value}» er ikke et telefonnummer, som +4763869000",
            f"“{value}” is no phone number like +4763869000",
        )
    return number


def _origin(value: str) -> str:
    parts = urlsplit(value.strip().lower().rstrip("/"))
    origin = f"{parts.scheme}://{parts.netloc}"
    plain = value.strip().lower().rstrip("/") == origin and origin.isascii()
    odd = set(parts.netloc) & set("@;,'*\"\\ ")
    if parts.scheme not in {"http", "https"} or not parts.hostname or not plain or odd:
        raise fault(
            f"«{value}» er ikke en nettadresse uten sti, som https://www.sorum.kommune.no",
            f"“{value}” is no origin like https://www.sorum.kommune.no",
        )
    return origin


def _text_number(value: object) -> str:
    """A number that texts are sent to: short ones (2012, 26112) are dialled as they stand."""
    text = str(value).strip()
    return text if re.fullmatch(r"[1-9]\d{3,5}", text) else _phone(text)


def _country(value: str) -> str:
    code = value.strip().upper()
    if code not in COUNTRIES:
        raise fault(
            f"«{value}» er ingen landkode på to bokstaver, som NO",
            f"“{value}” is no country code of two letters like NO",
        )
    return code


def _https(value: str) -> str:
    if value and not value.startswith("https://"):
        raise fault("skal begynne med https://", "must begin with https://")
    return value


def _username(value: str) -> str:
    return nfc(value).strip().lower()


Email = Annotated[str, AfterValidator(_email)]
Origin = Annotated[str, AfterValidator(_origin)]
Https = Annotated[str, AfterValidator(_https)]
"""An address that begins with https://, or empty."""
Country = Annotated[str, AfterValidator(_country)]
"""ISO 3166-1 alpha-2."""
Phone = Annotated[str, BeforeValidator(_phone)]
TextNumber = Annotated[str, BeforeValidator(_text_number)]
Username = Annotated[str, AfterValidator(_username)]
"""As accounts of the desk are named: NFC, lower case."""
Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]


class Municipality(Section):
    """Whose installation this is."""

    name: str
    phone: str = ""
    default_department: str = "servicetorg"


class Web(Section):
    """The HTTP listener."""

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    trusted_proxies: tuple[Network, ...] = ()
    session_hours: int = Field(default=10, ge=1, le=24)


class Tls(Section):
    """A certificate chain and its key, PEM, for STARTTLS; relative to the configuration file."""

    certificate: Path | None = None
    key: Path | None = None


class Lmtp(Section):
    """The LMTP listener, for a mail relay on the same machine or in a network of its own."""

    enabled: bool = False
    host: str = "127.0.0.1"
    port: int = Field(default=2424, ge=0, le=65535)


class Listen(Section):
    """The SMTP listener."""

    enabled: bool = True
    host: str = "127.0.0.1"
    port: int = Field(default=2525, ge=0, le=65535)
    hostname: str = "localhost"
    max_size: int = Field(default=36 * 1024 * 1024, ge=1024)
    trusted_peers: tuple[Network, ...] = ()
    tls: Tls = Tls()


class Smarthost(Section):
    """Who carries our mail out. The password comes by environment only."""

    host: str = "127.0.0.1"
    port: int = Field(default=25, ge=1, le=65535)
    tls: Literal["none", "starttls", "tls"] = "none"
    username: str = ""
    password: SecretStr = SecretStr("")
    timeout: float = Field(default=30, gt=0)


class Receipts(Section):
    """Brakes on automatic letters; receipts, emergency answers and forwards count apart."""

    per_sender_per_day: int = Field(default=10, ge=0)
    per_inquiry_per_day: int = Field(default=3, ge=0)
    per_domain_per_hour: int = Field(default=500, ge=0)
    per_hour: int = Field(default=2000, ge=0)


class RelayTrust(Section):
    """What our own mail relay writes into the header, and we believe. It must take away such fields
    of strangers (RFC 8601 §5)."""

    authserv_id: str = ""
    spam_header: str = "X-Spam-Flag"


class Scan(Section):
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


class EmailDoor(Section):
    """The e-mail door."""

    listen: Listen = Listen()
    lmtp: Lmtp = Lmtp()
    smarthost: Smarthost = Smarthost()
    sender: Email
    domain: str
    receipts: Receipts = Receipts()
    trust: RelayTrust = RelayTrust()
    scan: Scan = Scan()


class Twilio(Section):
    """Our account with Twilio. Tokens and the secret of the key come by environment only."""

    account_sid: str = ""
    auth_token: SecretStr = SecretStr("")
    """Signs the webhooks; also opens the REST API where no key is given."""
    old_auth_token: SecretStr = SecretStr("")
    """Accepted beside the other while the token is being changed."""
    shared_key: str = ""
    """Id of a SharedKey that signs webhooks instead (HMAC-SHA256)."""
    shared_secret: SecretStr = SecretStr("")
    old_shared_key: str = ""
    old_shared_secret: SecretStr = SecretStr("")
    api_key: str = ""
    api_secret: SecretStr = SecretStr("")
    region: str = ""
    edge: str = ""
    api_url: str = ""
    """Where the REST API is reached instead of Twilio's own address, such as a proxy."""
    timeout: float = Field(default=10, gt=0, le=60)

    @field_validator("region", "edge")
    @classmethod
    def _label(cls, value: str) -> str:
        """A part of the name of the host that gets our credentials (RFC 1123 §2.1)."""
        if value and not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", value):
            raise fault(
                f"«{value}» er ikke et navn hos Twilio, som ie1 eller dublin",
                f"“{value}” is no name of Twilio's like ie1 or dublin",
            )
        return value

    @field_validator("api_url")
    @classmethod
    def _api(cls, value: str) -> str:
        return value and _origin(value)

    @property
    def shared_keys(self) -> dict[str, str]:
        """Id -> secret of the SharedKeys that may sign webhooks."""
        pairs = (
            (self.shared_key, self.shared_secret),
            (self.old_shared_key, self.old_shared_secret),
        )
        return {key: secret.get_secret_value() for key, secret in pairs if key}

    @property
    def auth_tokens(self) -> tuple[str, ...]:
        """The tokens that may sign webhooks, the present one first."""
        tokens = (self.auth_token.get_secret_value(), self.old_auth_token.get_secret_value())
        return tuple(token for token in tokens if token)


class SmsDoor(Section):
    """The SMS door. `console` writes what goes out to the log of the service: for development."""

    enabled: bool = False
    provider: Literal["twilio", "console"] = "twilio"
    numbers: tuple[TextNumber, ...] = ()
    """Our own, that residents write to; the first is the sender where none was written to."""
    keyword: str = ""
    """First word of a text on a number that is shared with others, such as SORUM."""
    receipts: Receipts = Receipts(per_domain_per_hour=2000)


class Line(Section):
    """One of our numbers, and who it belongs to: a person, or a department, whose queue takes the
    call; a line of neither is the switchboard's."""

    number: Phone
    person: Username = ""
    """Key of `channels.phone.people`."""
    department: str = ""


class Person(Section):
    """Somebody with a number of their own, or who takes calls: where their phone rings."""

    name: str
    phone: Phone
    department: str
    deputy: Username = ""
    """Key of the person who answers instead."""


def _check_phrase(key: str, words: str) -> None:
    wrong = fault_of(key, words)
    if wrong == "unknown":
        known = ", ".join(PHRASES)
        raise fault(f"ukjent frase «{key}»; de er {known}", f"unknown phrase “{key}” among {known}")
    if wrong == "not https":
        raise fault(
            f"{key}: opptaket skal ha en adresse med https://", f"{key}: recordings need https://"
        )
    if wrong:
        filled = ", ".join(f"{{{name}}}" for name in sorted(blanks(PHRASES[key]))) or "ingenting"
        raise fault(
            f"{key}: i krøllparentes kan det stå {filled}", f"{key}: braces may hold {filled}"
        )


class Speech(Section):
    """What callers hear. `greeting`, `closed`, `holiday` and `crisis` are texts, or the https
    address of a recording."""

    voice: str = "Polly.Liv"
    language: str = "nb-NO"
    greeting: str = ""
    closed: str = ""
    holiday: str = ""
    crisis: str = ""
    """Heard before all else while it is set."""
    music: Https = ""
    """Https address of what is heard while waiting; empty for silence between the announcements."""
    phrases: dict[str, str] = Field(default_factory=dict)
    """Other words for single phrases; their keys and ours are in `channels.phone.phrases`."""

    @field_validator("greeting", "closed", "holiday", "crisis")
    @classmethod
    def _words(cls, value: str, info: ValidationInfo) -> str:
        _check_phrase(str(info.field_name), value)
        return value

    @field_validator("phrases")
    @classmethod
    def _known(cls, value: dict[str, str]) -> dict[str, str]:
        for key, words in value.items():
            _check_phrase(key, words)
        return value


class Cti(Section):
    """Events of the municipality's own exchange; the token comes by environment only."""

    enabled: bool = False
    token: SecretStr = SecretStr("")
    stale_hours: float = Field(default=4, gt=0, le=48)
    """A call without a hangup ends after so many hours."""


class PhoneDoor(Section):
    """The phone door: number plan, waiting times and texts."""

    enabled: bool = False
    numbers: tuple[Line, ...] = ()
    people: dict[Username, Person] = Field(default_factory=dict)
    """Username -> where they are reached; the same names as at the desk."""
    speech: Speech = Speech()
    ring_seconds: int = Field(default=20, ge=5, le=120)
    wait_minutes: float = Field(default=10, gt=0, le=60)
    """The longest time in the queue; after it the caller leaves a message."""
    voicemail_seconds: int = Field(default=180, ge=10, le=1800)
    talk_hours: float = Field(default=4, gt=0, le=24)
    """A call without an end event is over after so long."""
    callback_hours: int = Field(default=24, ge=1, le=168)
    """A call-back closes itself when the person is reached within this time."""
    transfer_countries: tuple[Country, ...] = ("NO",)
    """Callers can be passed on to numbers in these countries: whoever breaks in at the desk shall
    not call far away at our expense."""
    standby: Phone | Literal[""] = ""
    """Rings while the service is down."""
    fallback_url: Https = ""
    """Where the document lies that callers get while the service is down: at Twilio, as a TwiML Bin
    with what `sentralbord twilio fallback` prints."""
    cti: Cti = Cti()


class ChatDoor(Section):
    """The chat on our own pages, and on those of others."""

    enabled: bool = True
    embed_on: tuple[Origin, ...] = ()
    """Pages of these origins may show the chat, e.g. https://www.sorum.kommune.no."""
    cross_site: bool = False
    """Whether some of them lie under another domain than ours. The cookie is then kept by browsers
    for each of those sites apart (`Partitioned`), which takes https."""
    hours: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """When the chat is attended, where that differs from the calendar."""
    capacity: int = Field(default=3, ge=1, le=20)
    """Chats that one operator has at a time."""
    unattended_minutes: float = Field(default=2, gt=0, le=60)
    """Without an answer for so long, a chat becomes an ordinary inquiry."""
    silence_minutes: float = Field(default=10, gt=0, le=120)
    """The same in the middle of a talk."""
    talk_minutes: float = Field(default=5, gt=0, le=60)
    """How long a talk takes, for the expected wait, until enough of them have been measured."""
    unread_minutes: float = Field(default=10, gt=0, le=120)
    """An answer that nobody has read for so long goes by e-mail or SMS, where one was given."""
    conversations_per_hour: int = Field(default=30, ge=1)
    """New ones from one address, which a school or a mobile network may share."""
    messages_per_minute: int = Field(default=20, ge=1)
    """In one conversation."""


def _domain(value: str) -> str:
    value = value.strip().lower().rstrip(".")
    if value and bare_jid(f"x@{value}") != f"x@{value}":
        raise fault(
            f"«{value}» er ikke et domene, som sentralbord.sorum.kommune.no",
            f"“{value}” is no domain like sentralbord.sorum.kommune.no",
        )
    return value


class XmppDoor(Section):
    """The XMPP door: a component of the municipality's own server. The secret comes by environment
    only."""

    enabled: bool = False
    host: str = "127.0.0.1"
    port: int = Field(default=5347, ge=1, le=65535)
    domain: Annotated[str, AfterValidator(_domain)] = ""
    """What the server knows the component by; all our addresses are under it."""
    secret: SecretStr = SecretStr("")
    domain_messages_per_minute: int = Field(default=200, ge=1)
    """From all addresses of one domain together; one address has `chat.messages_per_minute`."""
    domain_newcomers_per_hour: int = Field(default=60, ge=1)
    """Addresses of one domain that begin to write to us; who has a talk with us goes on."""
    own_domains: tuple[Annotated[str, AfterValidator(_domain)], ...] = ()
    """Domains that staff write from, besides those of our e-mail; none is held to these limits."""


class Channels(Section):
    """The doors."""

    email: EmailDoor
    sms: SmsDoor = SmsDoor()
    phone: PhoneDoor = PhoneDoor()
    chat: ChatDoor = ChatDoor()
    xmpp: XmppDoor = XmppDoor()


class Rules(Section):
    """Where the ruleset lies; relative to the configuration file."""

    folder: Path


class SeasonHours(Section):
    """Hours in a part of the year; `first` and `last` are MM-DD, both included."""

    first: str
    last: str
    hours: dict[str, tuple[str, ...]]


class Calendar(Section):
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


class ReplyTarget(Section):
    """By when an answer is owed: so many working days or months after the day of receipt."""

    working_days: int | None = Field(default=None, ge=1, le=365)
    months: int | None = Field(default=None, ge=1, le=24)
    warn_working_days: int = Field(ge=1, le=365)
    after_hours: Literal["strict", "next_day"] = "strict"
    basis: str = ""
    """The law or the promise that it follows from, for whoever reads the configuration."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.working_days is None) == (self.months is None):
            raise fault(
                "oppgi enten working_days eller months", "give either working_days or months"
            )
        return self


class Name(Section):
    """A name in the three languages."""

    nb: str
    nn: str
    en: str

    def get(self, language: str) -> str:
        """The name in `language`, bokmål when there is none."""
        return {"nn": self.nn, "en": self.en}.get(language, self.nb)


CannedWords = Annotated[str, AfterValidator(canned.check)]


class CannedText(Section):
    """A text that is often said, in the three languages; `router.canned` has its variables."""

    name: str = Field(min_length=1, max_length=60)
    """What it is called where one chooses it."""
    nb: CannedWords
    nn: CannedWords
    en: CannedWords
    departments: tuple[str, ...] = ()
    """Who is offered it; empty for everybody."""

    def get(self, language: str) -> str:
        """The text in `language`, bokmål when there is none."""
        return {"nn": self.nn, "en": self.en}.get(language, self.nb)


class Department(Section):
    """Who answers. `external`: not ours; contacts are forwarded to `forward_to` and the sender is
    told."""

    name: Name
    addresses: tuple[Email, ...] = ()
    external: bool = False
    forward_to: Email | Literal[""] = ""
    website: str = ""
    phone: str = ""
    hours: dict[str, tuple[str, ...]] = Field(default_factory=dict)
