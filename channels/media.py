"""Sounds and pictures that lie at the telephone provider: fetched from its own hosts alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from channels.base import (
    MisconfiguredError,
    RejectedError,
    TemporaryError,
    UnreachableError,
)

if TYPE_CHECKING:
    from requests import Response

HOSTS = ("twilio.com",)
"""Domains that are asked with our credentials."""

STORES = ("twilio.com", "twiliocdn.com", "amazonaws.com")
"""Domains that those may send us on to, by an address that is signed and needs no credentials."""

HOPS = 4
PATIENCE = 120.0
"""Seconds for one file, however slowly it comes."""

_CHUNK = 64 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class NotThereError(TemporaryError):
    """The provider has no such file, or not yet."""


@dataclass(frozen=True, slots=True)
class Access:
    """How the provider's files are reached."""

    username: str
    password: str
    api_url: str = ""
    """Where the REST API is reached instead of the provider's own address."""
    timeout: float = 10
    """Seconds until an answer begins, and between its parts."""


@dataclass(frozen=True, slots=True)
class Media:
    """A file. What it is called decides nothing: look at what is in it."""

    content: bytes
    content_type: str
    """As the provider says."""


def fetch(url: str, access: Access, limit: int) -> Media:
    """A file of at most `limit` bytes; blocks, for a worker thread.

    Credentials go to the address asked for and never along a redirect. Raises `RejectedError` for
    other hosts and for what is too large, `NotThereError`, and other `ChannelError`s.
    """
    # Only who has a telephone provider needs it.
    import requests

    deadline = monotonic() + PATIENCE
    auth: tuple[str, str] | None = (access.username, access.password)
    allowed: tuple[str, ...] = HOSTS
    try:
        with requests.Session() as session:
            # No password out of a netrc file; proxies are named all the same.
            session.trust_env = False
            for _ in range(HOPS):
                _require(url, allowed, access.api_url)
                with session.get(
                    url,
                    auth=auth,
                    stream=True,
                    allow_redirects=False,
                    timeout=access.timeout,
                    headers={"Accept-Encoding": "identity"},
                    proxies=requests.utils.get_environ_proxies(url),
                ) as answer:
                    if answer.status_code not in _REDIRECTS:
                        _require_success(answer.status_code)
                        content = _read(answer, limit, deadline)
                        return Media(content, answer.headers.get("Content-Type", ""))
                    url = urljoin(url, answer.headers.get("Location", ""))
                auth, allowed = None, STORES
    except requests.ConnectionError as error:
        raise UnreachableError from error
    except requests.RequestException as error:
        raise TemporaryError(type(error).__name__) from error
    raise RejectedError("the provider sends us round in circles")


def _require(url: str, domains: tuple[str, ...], api_url: str) -> None:
    """Raise `RejectedError` unless the address is one of the provider's own."""
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        raise RejectedError("the address of the file is no address") from None
    if api_url:
        own = urlsplit(api_url)
        if (parts.scheme, parts.netloc) == (own.scheme, own.netloc):
            return
    # What is no host name (RFC 1123 §2.1) may lead elsewhere: `https://a\.b` is a's for requests.
    named = re.fullmatch(r"[a-z0-9.-]+", host) is not None
    known = named and any(host == domain or host.endswith(f".{domain}") for domain in domains)
    if not known or parts.scheme != "https" or port not in {None, 443} or "@" in parts.netloc:
        raise RejectedError("the file lies with somebody who is not the provider")


def _require_success(status: int) -> None:
    if status == 200:
        return
    if status in {401, 403}:
        raise MisconfiguredError("the provider refuses our credentials")
    if status in {404, 410}:
        raise NotThereError
    if status == 429 or status >= 500:
        raise TemporaryError(f"the provider answers {status}")
    raise RejectedError(f"the provider answers {status}")


def _read(answer: Response, limit: int, deadline: float) -> bytes:
    too_large = RejectedError(f"the file has more than {limit // 1000} kB")
    announced = answer.headers.get("Content-Length", "")
    if announced.isdecimal() and int(announced[:20]) > limit:
        raise too_large
    content = bytearray()
    for chunk in answer.iter_content(_CHUNK):
        content += chunk
        if len(content) > limit:
            raise too_large
        if monotonic() > deadline:
            raise TemporaryError("the file comes too slowly")
    return bytes(content)
