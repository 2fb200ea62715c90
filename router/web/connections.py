"""HTTP connections with an end: uvicorn itself waits for ever for the first request, and for the
rest of one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import IntEnum
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


class Idle(IntEnum):
    """Why nothing happens on a connection; when there are too many, these go, in this order."""

    HEAD = 0
    """Nobody has asked for anything yet."""
    KEPT = 1
    """Everything that was asked has been answered."""
    BODY = 2
    """The rest of a request has not come."""


@dataclass(slots=True)
class Bounds:
    """How many connections there may be, who may have more than half of them, and how they
    stand."""

    most: int
    proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    peers: Counter[str] = field(default_factory=Counter)
    idle: tuple[dict[Connection, None], ...] = field(default_factory=lambda: ({}, {}, {}))
    """Who has been idle longest comes first."""

    def has_room_for(self, peer: str) -> bool:
        """Whether the latest may stay: nobody alone has more than half."""
        if self.peers[peer] <= self.most // 2 or not peer:
            return True
        return any(ip_address(peer) in network for network in self.proxies)

    def send_away(self) -> bool:
        """Close the one with which the least is lost; whether there was one."""
        idlest = next((connection for kind in self.idle for connection in kind), None)
        if idlest is not None:
            idlest.leave()
        return idlest is not None


class Connection(HttpToolsProtocol):
    """One connection; closed when no complete request comes in time, or when there are too many."""

    def __init__(self, bounds: Bounds, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._bounds = bounds
        self._timer: asyncio.TimerHandle | None = None
        self._idle: Idle | None = None
        self._peer = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait, unless there is no room."""
        super().connection_made(transport)
        self._peer = self.client[0] if self.client else ""
        self._bounds.peers[self._peer] += 1
        room = self._bounds.has_room_for(self._peer)
        if room and len(self.connections) > self._bounds.most:
            room = self._bounds.send_away()
        if room:
            self._wait(Idle.HEAD)
        else:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take a piece of a request. What trickles in gets no more time."""
        super().data_received(data)
        under_way = self.cycle is not None and not self.cycle.response_complete
        if under_way and not self.cycle.more_body:
            self._stop_waiting()
        elif under_way and self._idle is not Idle.BODY:
            self._wait(Idle.BODY)
        elif not under_way and self._idle is not Idle.HEAD:
            self._wait(Idle.HEAD)

    def on_response_complete(self) -> None:
        """Wait for the next request as long as uvicorn does."""
        super().on_response_complete()
        if self._idle is None and self.timeout_keep_alive_task is not None:
            self._stand(Idle.KEPT)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._stop_waiting()
        self._bounds.peers[self._peer] -= 1
        if not self._bounds.peers[self._peer]:
            del self._bounds.peers[self._peer]
        super().connection_lost(exc)

    def leave(self) -> None:
        """Close it at once."""
        self._stop_waiting()
        self.transport.abort()

    def _wait(self, why: Idle) -> None:
        self._stop_waiting()
        self._stand(why)
        seconds = REQUEST_SECONDS if why is Idle.BODY else HEAD_SECONDS
        self._timer = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def _stand(self, why: Idle) -> None:
        self._idle = why
        self._bounds.idle[why][self] = None

    def _stop_waiting(self) -> None:
        if self._idle is not None:
            self._bounds.idle[self._idle].pop(self, None)
            self._idle = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
