"""Our account with Twilio, shared by the phone and the SMS door: webhooks that are proven, the REST
client, and what its failures mean.

The library is imported when it is first needed: its REST part takes 90 ms and 19 MB.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qs, parse_qsl, urlsplit

from channels import media
from channels.base import (
    ChannelError,
    MisconfiguredError,
    OptedOutError,
    RejectedError,
    TemporaryError,
    UncertainError,
    UnreachableError,
)
from channels.media import Access

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from channels.media import Media

T = TypeVar("T")

BODY_LIMIT = 64 * 1024
"""Bytes of a webhook; a text of ten parts with ten pictures has less than ten thousand."""

_FIELDS = 1000
_THREADS = 8

# It logs every URL and query at INFO: telephone numbers.
logging.getLogger("twilio.http_client").setLevel(logging.WARNING)


class ForbiddenError(ChannelError):
    """The webhook is not from our account. `reason` is a code for the log and the figures."""

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """What `config.yaml` and the environment say of the account."""

    account_sid: str
    auth_tokens: tuple[str, ...] = ()
    """Those that sign webhooks; the first one also opens the REST API where there is no key."""
    shared_keys: Mapping[str, str] = field(default_factory=dict)
    """Id of a SharedKey -> its secret; such webhooks are signed with HMAC-SHA256."""
    api_key: str = ""
    api_secret: str = ""
    region: str = ""
    edge: str = ""
    api_url: str = ""
    timeout: float = 10.0


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook that our account signed."""

    fields: Mapping[str, str]
    """Of a repeated field the first value."""
    raw: bytes
    """The body as it came."""


class Account:
    """The account of an installation. Its methods raise `ChannelError`s alone."""

    def __init__(self, settings: AccountSettings, http_client: Any = None) -> None:
        """`http_client` carries requests instead of the network: a `twilio.http.HttpClient`."""
        self.settings = settings
        self._http_client = http_client
        self._client: Any = None
        # Not the loop's own threads: a silent provider would take them from everybody else.
        self._threads = ThreadPoolExecutor(_THREADS, "twilio")

    def verify(self, url: str, headers: Mapping[str, str], body: bytes) -> Webhook:
        """A webhook, if our account signed it. Raises `ForbiddenError`.

        `url` is the one that Twilio was given, with its query; `headers` find their names whatever
        the case.
        """
        signature = headers.get("x-twilio-signature", "")
        if not signature:
            raise ForbiddenError("unsigned")
        fields, signed = _read(headers.get("content-type", ""), url, body)
        if not self._is_signed(url, signed, signature, headers):
            raise ForbiddenError("signature")
        if fields.get("AccountSid") != self.settings.account_sid:
            raise ForbiddenError("account")
        return Webhook(fields, body)

    def _is_signed(
        self, url: str, signed: _Parameters | str, signature: str, headers: Mapping[str, str]
    ) -> bool:
        from twilio.request_validator import (
            HMAC_SHA1,
            HMAC_SHA256,
            SIGNATURE_SETTINGS_HEADER,
            RequestValidator,
        )

        secrets, algorithm = self.settings.auth_tokens, HMAC_SHA1
        said = headers.get(SIGNATURE_SETTINGS_HEADER.lower(), "")
        if said.strip():
            # Only what is configured counts: a stranger must not choose how he is checked.
            pairs = dict(part.strip().partition("=")[::2] for part in said.split(","))
            secret = self.settings.shared_keys.get(pairs.get("key", ""))
            if secret is None or pairs.get("algorithm") != HMAC_SHA256:
                return False
            secrets, algorithm = (secret,), HMAC_SHA256
        # All of them are tried, so that the time says nothing.
        fits = [
            RequestValidator(secret).validate(url, signed, signature, algorithm)
            for secret in secrets
            if secret
        ]
        return any(fits)

    async def ask(self, question: Callable[[Any], T]) -> T:
        """What `question(client)` returns, run in a thread with the REST client.

        Raises a `ChannelError`: `UncertainError` when it may have been carried out all the same.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._ask, question)

    def _ask(self, question: Callable[[Any], T]) -> T:
        try:
            if self._client is None:
                carrier = self._http_client or _http_client(self.settings)
                self._client = _client(self.settings, self.access, carrier)
            return question(self._client)
        except Exception as error:
            raise failure(error) from error

    async def fetch(self, url: str, most: int) -> Media:
        """A recording or picture of our account, at most `most` bytes; see `channels.media`."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, media.fetch, url, self.access, most)

    def address(self, path: str) -> str:
        """Where something of our account lies, such as `Recordings/RE….wav`."""
        settings = self.settings
        # As the library makes the name of the host (twilio.com/docs/global-infrastructure).
        region = settings.region or ("us1" if settings.edge else "")
        host = ".".join(part for part in ("api", settings.edge, region, "twilio.com") if part)
        base = settings.api_url.rstrip("/") or f"https://{host}"
        return f"{base}/2010-04-01/Accounts/{settings.account_sid}/{path}"

    @property
    def access(self) -> Access:
        """What opens the REST API, and the files that lie there."""
        settings = self.settings
        name, secret = settings.api_key, settings.api_secret
        if not name:
            name, secret = settings.account_sid, next(iter(settings.auth_tokens), "")
        return Access(name, secret, settings.api_url, settings.timeout)

    def close(self) -> None:
        """Take no more questions; those under way end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def endpoint(value: str) -> str:
    """A number as Twilio writes it, in E.164; empty for anything else: `anonymous`, a text sender,
    a short number, `client:kari`, `whatsapp:+47…`."""
    value = value.strip()
    return value if re.fullmatch(r"\+[1-9]\d{6,14}", value) else ""


class _Parameters(dict[str, list[str]]):
    """Every value of every field, blank ones too; what the validator takes for a MultiDict."""

    def getall(self, name: str) -> list[str]:
        return self[name]


def _read(content_type: str, url: str, body: bytes) -> tuple[dict[str, str], _Parameters | str]:
    """The fields of a body, and what of it the signature covers."""
    kind = content_type.partition(";")[0].strip().lower()
    # Without its hash in the URL, nothing of a JSON body is signed.
    hashed = kind == "application/json" and parse_qs(urlsplit(url).query).get("bodySHA256")
    if kind != "application/x-www-form-urlencoded" and not hashed:
        raise ForbiddenError("content_type")
    try:
        text = body.decode("utf-8")
        return (json_fields(text), text) if hashed else _form(text)
    except (ValueError, RecursionError):
        raise ForbiddenError("malformed") from None


def _form(text: str) -> tuple[dict[str, str], _Parameters]:
    # Blank values are signed like all others.
    pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_FIELDS)
    signed = _Parameters()
    for name, value in pairs:
        signed.setdefault(name, []).append(value)
    return {name: values[0] for name, values in signed.items()}, signed


def json_fields(text: str) -> dict[str, str]:
    """The texts of a JSON object. Raises `ValueError` when it is none."""
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("no JSON object")
    return {name: value for name, value in found.items() if isinstance(value, str)}


def _client(settings: AccountSettings, access: Access, carrier: Any) -> Any:
    from twilio.rest import Client

    return Client(
        access.username,
        access.password,
        settings.account_sid,
        region=settings.region or None,
        edge=settings.edge or None,
        http_client=carrier,
        environment={"": ""},  # TWILIO_… variables of the machine are not our configuration
    )


def _http_client(settings: AccountSettings) -> Any:
    from twilio.http.http_client import TwilioHttpClient

    class Elsewhere(TwilioHttpClient):  # type: ignore[misc]
        """Reaches the API at another address, such as a proxy's."""

        def request(self, method: str, url: str, *args: Any, **options: Any) -> Any:
            parts = urlsplit(url)
            path = parts.path + (f"?{parts.query}" if parts.query else "")
            return super().request(method, settings.api_url.rstrip("/") + path, *args, **options)

    kind = Elsewhere if settings.api_url else TwilioHttpClient
    # A connection kept alive may be dead when it is used again, which reads as uncertain. And no
    # retries: there is no idempotency key, so each one is another message.
    return kind(pool_connections=False, timeout=settings.timeout)


WORDS = {
    21211: "Nummeret er ikke gyldig.",
    21212: "Avsendernummeret vårt kan ikke brukes. Si fra til den som drifter tjenesten.",
    21401: "Nummeret er ikke gyldig.",
    21408: "Kontoen hos Twilio får ikke sende til dette landet. Si fra til den som drifter oss.",
    21601: "Avsendernummeret vårt kan ikke sende SMS. Si fra til den som drifter tjenesten.",
    21602: "Meldingen er tom.",
    21603: "Avsendernummer mangler. Si fra til den som drifter tjenesten.",
    21604: "Mottakernummer mangler.",
    21606: "Avsendernummeret vårt kan ikke sende SMS. Si fra til den som drifter tjenesten.",
    21608: "Kontoen hos Twilio er en prøvekonto og når bare godkjente numre.",
    21610: "Mottakeren har reservert seg mot SMS fra oss.",
    21611: "Det ligger for mange meldinger i kø fra nummeret vårt.",
    21612: "Twilio kan ikke sende til dette nummeret fra vårt.",
    21614: "Nummeret er ikke et mobilnummer og kan ikke ta imot SMS.",
    21617: "Meldingen er for lang for SMS.",
    21659: "Avsendernummeret er ikke vårt. Si fra til den som drifter tjenesten.",
    30001: "Meldingen lå for lenge i kø og ble ikke sendt.",
    30002: "Kontoen hos Twilio er stengt. Si fra til den som drifter tjenesten.",
    30003: "Telefonen er avslått eller uten dekning.",
    30004: "Mottakeren eller operatøren har sperret for meldinger fra oss.",
    30005: "Nummeret er ukjent eller ikke lenger i bruk.",
    30006: "Nummeret er en fasttelefon, eller operatøren kan ikke nås.",
    30007: "Meldingen ble stanset av operatørens filter.",
    30008: "Operatøren sier ikke hvorfor meldingen ikke kom fram.",
    30009: "En del av meldingen kom bort underveis.",
    30010: "Meldingen koster mer enn grensen som er satt hos Twilio.",
    30036: "Meldingen ble ikke levert i tide.",
    30039: "Meldingen gikk i ring mellom to svarere.",
    30410: "Operatøren svarte ikke i tide.",
}
"""Twilio's error codes (its «Error and Warning Dictionary») in words for whoever wrote."""

OPTED_OUT = 21610
_OURS = frozenset({20003, 20005, 20006, 20008, 30002})
"""Log-in refused, account not active: whoever tries next fares no better."""


def in_words(code: int, otherwise: str = "") -> str:
    """An error code in plain words, with the code for whoever looks it up."""
    words = WORDS.get(code) or otherwise or "Meldingen ble ikke levert."
    return f"{words} (Twilio {code})" if code else words


def failure(error: Exception) -> ChannelError:
    """What went wrong with a request that changes something. What may have arrived is
    `UncertainError`: there is no idempotency key, so it is looked up and never sent blindly."""
    if isinstance(error, ChannelError):
        return error
    status, code, said = _told(error)
    if status:
        return _http_failure(status, code, _one_line(said))
    if _never_left(error):
        return UnreachableError("Twilio svarer ikke.")
    return UncertainError("Forbindelsen til Twilio ble brutt; det er uvisst om den kom fram.")


def _http_failure(status: int, code: int, said: str) -> ChannelError:
    if status >= 500:
        return UncertainError(
            f"Twilio svarte med en feil ({status}); det er uvisst om den kom fram."
        )
    if status == 429 or code == 20429:
        return TemporaryError("Twilio ber oss vente litt.")
    if status == 401 or code in _OURS:
        return MisconfiguredError(
            f"Twilio slipper oss ikke inn ({code or status}). Si fra til den som drifter tjenesten."
        )
    words = in_words(code, said or f"Twilio avviste det ({status}).")
    return OptedOutError(words) if code == OPTED_OUT else RejectedError(words)


def _told(error: Exception) -> tuple[int, int, str]:
    """Status, code and words of an answer that the library raised; zeros where there was none."""
    if isinstance(status := getattr(error, "status", None), int):
        # TwilioRestException, TwilioServiceException
        code = getattr(error, "code", 0)
        said = getattr(error, "msg", "") or getattr(error, "detail", "")
        return status, code if isinstance(code, int) else 0, str(said or "")
    for answer in error.args:  # a page of a list is refused by a bare TwilioException
        if isinstance(status := getattr(answer, "status_code", None), int):
            with suppress(ValueError, LookupError, TypeError):
                body = json.loads(answer.text)
                return status, int(body["code"]), str(body["message"])
            return status, 0, ""
    return 0, 0, ""


def _one_line(said: str) -> str:
    """The provider's own words, where we have none: no more than fits on the desk, no numbers."""
    text = re.sub(r"\+?\d{6,}", "…", " ".join(said.split()))
    return text.removeprefix("Unable to create record: ")[:200]


def _never_left(error: Exception) -> bool:
    """Whether no connection came about, so that nothing can have been carried out."""
    import ssl

    import requests
    from urllib3.exceptions import NewConnectionError

    if isinstance(error, requests.ConnectTimeout):
        return True
    if not isinstance(error, requests.ConnectionError):
        return isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.MissingSchema)
    seen: list[BaseException] = []
    cause: object = error.args[0] if error.args else None
    while isinstance(cause, BaseException) and cause not in seen:
        if isinstance(cause, NewConnectionError | ssl.SSLCertVerificationError):
            return True
        seen.append(cause)
        cause = getattr(cause, "reason", None) or (cause.args[-1] if cause.args else None)
    return False
