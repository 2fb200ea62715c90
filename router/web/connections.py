"""HTTP connections with an end: uvicorn itself waits for ever for the first request, and for the
rest of one."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio
    from ipaddress import IPv4Network, IPv6Network

HEAD_SECONDS = 15.0
"""For the head of a request, from the connection or from its first byte on."""

REQUEST_SECONDS = 120.0
"""For the rest of a request."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many connections there may be, and who may have more than half of them."""

    most: int
    proxies: tuple[IPv4Network | IPv6Network, ...] = ()


class Connection(HttpToolsProtocol):
    """One connection; closed when no complete request comes in time, or when there are too many."""

    def __init__(self, bounds: Bounds, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._bounds = bounds
        self._timer: asyncio.TimerHandle | None = None
        self._in_body = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait, unless there is no room."""
        super().connection_made(transport)
        if self._crowded():
            transport.abort()
        else:
            self._wait(in_body=False)

    def data_received(self, data: bytes) -> None:
        """Take a piece of a request. What trickles in gets no more time."""
        super().data_received(data)
        under_way = self.cycle is not None and not self.cycle.response_complete
        if under_way and not self.cycle.more_body:
            self._stop_waiting()
        elif self._timer is None or self._in_body != under_way:
            self._wait(in_body=under_way)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _crowded(self) -> bool:
        most = self._bounds.most
        if len(self.connections) > most:
            return True
        peer = self.client[0] if self.client else ""
        # Counted only when it may matter: nobody alone has half before there are so many.
        if len(self.connections) <= most // 2 or not peer:
            return False
        others = (one for one in self.connections if isinstance(one, Connection))
        mine = sum(one.client is not None and one.client[0] == peer for one in others)
        return mine > most // 2 and not any(ip_address(peer) in net for net in self._bounds.proxies)

    def _wait(self, *, in_body: bool) -> None:
        self._stop_waiting()
        self._in_body = in_body
        seconds = REQUEST_SECONDS if in_body else HEAD_SECONDS
        self._timer = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
