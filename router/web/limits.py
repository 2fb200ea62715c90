"""How often one address may ask: token buckets in memory, bounded in number.

They stop guessing and flooding from one place.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING

from router.errors import TooManyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from ipaddress import IPv4Address, IPv4Network

    from starlette.requests import HTTPConnection


@dataclass(frozen=True, slots=True)
class Rate:
    """`tries` at once, filling up again over `seconds`."""

    name: str
    tries: int
    seconds: float


LOGIN = Rate("login", 30, 600)
"""Failed sign-ins per address; a whole office may sit behind one."""

PUBLIC_FORM = Rate("form", 20, 600)
API_TOKEN = Rate("token", 60, 60)
"""Requests with a token that is not ours."""

HOOK = Rate("hook", 30, 60)
"""Webhooks without a signature that holds; the good ones are not counted."""


class Limits:
    """The buckets of one process."""

    def __init__(
        self,
        trusted_proxies: Iterable[IPv4Network | IPv6Network] = (),
        clock: Callable[[], float] = time.monotonic,
        size: int = 10_000,
    ) -> None:
        self._proxies = tuple(trusted_proxies)
        self._clock = clock
        self._size = size
        self._lock = threading.Lock()
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    def take(self, rate: Rate, client: str) -> None:
        """Use one try. Raises `TooManyError` with the seconds to wait when there is none left."""
        now = self._clock()
        with self._lock:
            tries = self._filled(rate, client, now)
            if tries < 1:
                wait = (1 - tries) * rate.seconds / rate.tries
                raise TooManyError(retry_after=int(wait) + 1)
            self._set(rate, client, tries - 1, now)

    def give_back(self, rate: Rate, client: str) -> None:
        """Undo one `take`: the try turned out to be a good one."""
        now = self._clock()
        with self._lock:
            self._set(rate, client, min(self._filled(rate, client, now) + 1, rate.tries), now)

    def client_of(self, request: HTTPConnection) -> str:
        """Where a request comes from; `X-Forwarded-For` only as far as our own proxies wrote it.

        IPv6 addresses count as their /64: a household has that many to choose from.
        """
        peer = _address(request.client.host) if request.client else None
        if peer is None:
            return "unknown"
        forwarded = ",".join(request.headers.getlist("x-forwarded-for")).split(",")
        for entry in reversed(forwarded):
            if not self._trusts(peer):
                break
            hop = _address(entry)
            if hop is None:
                break
            peer = hop
        if isinstance(peer, IPv6Address):
            return str(IPv6Network((peer, 64), strict=False))
        return str(peer)

    def _trusts(self, peer: IPv4Address | IPv6Address) -> bool:
        return any(peer in network for network in self._proxies)

    def _filled(self, rate: Rate, client: str, now: float) -> float:
        tries, since = self._buckets.get((rate.name, client), (float(rate.tries), now))
        return min(rate.tries, tries + (now - since) * rate.tries / rate.seconds)

    def _set(self, rate: Rate, client: str, tries: float, now: float) -> None:
        self._buckets[rate.name, client] = (tries, now)
        self._buckets.move_to_end((rate.name, client))
        while len(self._buckets) > self._size:
            self._buckets.popitem(last=False)


def take(request: HTTPConnection, rate: Rate) -> None:
    """Use one try of the client. Raises `TooManyError`."""
    limits: Limits = request.app.state.limits
    limits.take(rate, limits.client_of(request))


def give_back(request: HTTPConnection, rate: Rate) -> None:
    """Undo one `take`."""
    limits: Limits = request.app.state.limits
    limits.give_back(rate, limits.client_of(request))


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An address as proxies write it: bare, `v4:port`, `[v6]:port`."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
