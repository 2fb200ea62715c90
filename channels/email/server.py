"""Accepts mail over SMTP and LMTP: checks recipients, reads the content, hands it over, then
says 250.

Built on aiosmtpd 1.4.6. Only recipient, size and bare-newline problems are permanent (5xx);
whatever goes wrong on our side is temporary, so that the sender keeps the mail.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

from channels.base import Disposition, MisconfiguredError
from channels.email.addresses import RecipientVerdict
from channels.email.certificate import Certificate, CertificateError
from channels.email.content import discard, sweep
from channels.email.session import LmtpSession, Session

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from datetime import datetime

    from channels.base import RawArrival, Receive
    from channels.email.connection import Connection

RecipientCheck = Callable[[str], RecipientVerdict]
Door = Literal["smtp", "lmtp"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

_SPOOLERS = 4
_ABANDONED = 3600.0
"""Seconds after which a spooled file that nobody has taken over is a left-over of a crash."""
_PACE = 0.25
"""Seconds between two looks at deadlines, disk space and the loop's lag."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Listener:
    """An address to listen on; port 0 takes a free one."""

    host: str = "127.0.0.1"
    port: int = 2424


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """A certificate chain and its private key, PEM."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class ListenSettings:
    """Where and how to listen. Sizes in bytes, times in seconds; port 0 takes a free one."""

    host: str = "127.0.0.1"
    port: int = 2525
    smtp: bool = True
    """Whether to listen for SMTP at all."""
    lmtp: Listener | None = None
    """Where to listen for LMTP; whoever reaches it is trusted."""
    hostname: str = "localhost"
    tls: TlsFiles | None = None
    """Offers STARTTLS on both listeners."""
    spool: Path | None = None
    """Directory for large contents on their way in, made at the start; without one they lie in a
    temporary directory, which a crash of the machine may empty."""
    sole: bool = False
    """Whether nobody else uses that directory: then all that lies there at the start is a left-over
    of a crash, else what is an hour old."""
    max_size: int = 36 * 1024 * 1024
    """25 MB of files in base64."""
    max_recipients: int = 100
    max_commands: int = 1_000
    """From one mail to the next."""
    max_connections: int = 500
    max_strangers: int = 400
    """Of these; the rest is kept for trusted peers, where there are any."""
    max_connections_per_peer: int = 100
    """Does not hold for trusted peers: behind a relay everything comes from one address."""
    max_uncommitted: int = 400
    """Mails handed over and not yet journaled; beyond, new ones should come later."""
    max_lag: float = 1.0
    """How late the event loop may be before new mail should come later."""
    idle_timeout: float = 300.0
    """RFC 5321 §4.5.3.2.7: at least five minutes."""
    data_timeout: float = 1800.0
    """For one whole mail, however steadily it trickles in, and for a stranger to begin one."""
    slow_after: float = 60.0
    """After this time a mail from a stranger must have come at `min_rate`."""
    min_rate: int = 100
    """Bytes a second: the slowest line in use is twenty times as fast."""
    commit_timeout: float = 60.0
    trusted_peers: tuple[IPv4Network | IPv6Network, ...] = ()
    """Relays in front of us, whose content with bare CR or LF is taken."""
    min_free_space: int = 500_000_000
    max_memory: int = 256 * 1024 * 1024
    """All contents under way together."""


class CannotListenError(MisconfiguredError):
    """A listener could not be had; `door` tells which."""

    def __init__(self, detail: str, door: Door) -> None:
        super().__init__(detail)
        self.door: Door = door


class EmailServer:
    """Listens for SMTP and LMTP in the running loop; one mail, one call of `receive`."""

    def __init__(
        self,
        settings: ListenSettings,
        recipients: RecipientCheck,
        receive: Receive,
        clock: Callable[[], datetime],
        free_space: Callable[[], int] | None = None,
    ) -> None:
        self.settings = settings
        self.recipients = recipients
        self.receive = receive
        self.clock = clock
        self.free_space = free_space
        self.stopping = False
        self.memory_held = 0
        self.now = 0.0
        """Loop time, a little old: near enough for deadlines, and to be had for nothing."""
        self.lag = 0.0
        """Seconds that the event loop was late last time."""
        self.certificate: Certificate | None = None
        self.spool = Path()
        self.is_trusted = lru_cache(maxsize=4096)(partial(_is_in, settings.trusted_peers))
        self._temporary_spool: TemporaryDirectory[str] | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._listeners: dict[Door, asyncio.Server] = {}
        self._sessions: set[Connection] = set()
        self._peers: Counter[str] = Counter()
        self._taken = 0
        self._strangers = 0
        self._commits: set[asyncio.Future[Disposition]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._empty = asyncio.Event()
        self._free: int | None = None
        self._pace = _PACE
        self._ticker: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Begin to listen.

        Raises `MisconfiguredError` when the certificate or the spool directory cannot be used, its
        kind `CannotListenError` when an address cannot be had.
        """
        if self._threads is not None:
            return
        limits = self.settings
        try:
            if limits.tls is not None:
                self.certificate = Certificate(limits.tls.certificate, limits.tls.key)
        except CertificateError as error:
            raise MisconfiguredError(f"STARTTLS: {error}") from error
        loop = asyncio.get_running_loop()
        self.now = loop.time()
        self._threads = ThreadPoolExecutor(_SPOOLERS, "spool")
        try:
            await self._prepare_spool()
            if limits.smtp:
                await self._listen("smtp", limits.host, limits.port)
            if limits.lmtp is not None:
                await self._listen("lmtp", limits.lmtp.host, limits.lmtp.port)
        except BaseException:
            await self.stop()
            raise
        self.stopping = False
        timeouts = (limits.idle_timeout, limits.data_timeout, limits.commit_timeout)
        self._pace = max(min(_PACE, *(timeout / 4 for timeout in timeouts)), 0.01)
        self._ticker = loop.call_later(self._pace, self._tick, loop.time() + self._pace)

    async def _prepare_spool(self) -> None:
        if self.settings.spool is None:
            self._temporary_spool = TemporaryDirectory(prefix="sentralbord-")
            self.spool = Path(self._temporary_spool.name)
            return
        self.spool = self.settings.spool
        try:
            sole = self.settings.sole
            abandoned = inf if sole else self.clock().timestamp() - _ABANDONED
            removed = await self.in_thread(sweep, self.spool, abandoned)
        except OSError as error:
            raise MisconfiguredError(f"{self.spool}: {error.strerror}") from error
        if removed:
            logger.warning("removed %d spooled mails that a crash had left", removed)

    async def _listen(self, door: Door, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        kind = LmtpSession if door == "lmtp" else Session
        try:
            self._listeners[door] = await loop.create_server(
                kind(self, loop).open, host, port, backlog=512
            )
        except OSError as error:
            reason = error.strerror or "ukjent vert"
            raise CannotListenError(
                f"Kan ikke lytte etter e-post på {host}:{port}: {reason}", door
            ) from error

    @property
    def listening(self) -> bool:
        """Whether new connections are taken, on every listener there should be."""
        return bool(self._listeners) and all(one.is_serving() for one in self._listeners.values())

    @property
    def port(self) -> int:
        """The SMTP port in use; tells the free one that was taken when the settings say 0."""
        return self._port("smtp", self.settings.port)

    @property
    def lmtp_port(self) -> int:
        """The LMTP port in use, likewise."""
        return self._port("lmtp", self.settings.lmtp.port if self.settings.lmtp else 0)

    def _port(self, door: Door, wanted: int) -> int:
        listener = self._listeners.get(door)
        if listener is None or not listener.sockets:
            return wanted
        return int(listener.sockets[0].getsockname()[1])

    async def stop(self, grace: float = 8.0) -> None:
        """Stop listening, say 421 to the idle, give mail under way `grace` seconds to be taken."""
        threads = self._threads
        if threads is None:
            return
        self.stopping = True
        listeners, self._listeners = self._listeners, {}
        for listener in listeners.values():
            listener.close()
        for session in tuple(self._sessions):
            session.goodbye()
        now = asyncio.get_running_loop().time
        deadline = now() + grace
        if self._sessions:
            self._empty.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), grace)
        for session in tuple(self._sessions):
            session.abort()
        deadline = max(deadline, now() + 1.5)
        while (self._tasks or self._commits) and now() < deadline:
            under_way: set[asyncio.Future[Any]] = {*self._tasks, *self._commits}
            await asyncio.wait(under_way, timeout=deadline - now())
        if self._ticker is not None:
            self._ticker.cancel()
        for listener in listeners.values():
            await listener.wait_closed()
        self._threads = None
        threads.shutdown(wait=False)
        if self._temporary_spool is not None:
            self._temporary_spool.cleanup()

    def opened(self, session: Connection) -> str:
        """Count a new connection; returns the refusal when there are too many."""
        limits = self.settings
        peer = session.peer_address
        self._sessions.add(session)
        self._peers[peer] += 1
        if self.stopping:
            return "421 4.3.2 Service is closing, please try again later"
        if not session.trusted:
            relayed = bool(limits.trusted_peers) or limits.lmtp is not None
            if self._peers[peer] > limits.max_connections_per_peer or (
                relayed and self._strangers >= limits.max_strangers
            ):
                return "421 4.7.0 Too many connections, please try again later"
            if self.busy():
                return "421 4.3.2 Too busy, please try again later"
        if self._taken >= limits.max_connections:
            return "421 4.7.0 Too many connections, please try again later"
        session.refused = False
        self._taken += 1
        self._strangers += not session.trusted
        return ""

    def closed(self, session: Connection) -> None:
        """Forget a connection."""
        if session not in self._sessions:
            return
        self._sessions.discard(session)
        self._peers[session.peer_address] -= 1
        if self._peers[session.peer_address] <= 0:
            del self._peers[session.peer_address]
        if not session.refused:
            self._taken -= 1
            self._strangers -= not session.trusted
        if not self._sessions:
            self._empty.set()

    def short_of_space(self, declared: int = 0) -> bool:
        """Whether the disk is too full for more mail, or for one of the declared size."""
        if self.free_space is None:
            return False
        if self._free is None:
            self._free = self.free_space()
        # The content lies there twice when the journal's disk is another one.
        return self._free < max(self.settings.min_free_space, 2 * declared)

    def look_at_disk(self) -> None:
        """Something went wrong, perhaps for want of space: ask again before the next mail."""
        self._free = None

    def busy(self) -> bool:
        """Whether so much is under way that new mail should come later."""
        limits = self.settings
        return (
            self.memory_held > limits.max_memory // 2
            or len(self._commits) >= limits.max_uncommitted
            or self.lag > limits.max_lag
        )

    def commit(self, arrival: RawArrival) -> asyncio.Future[Disposition]:
        """Hand the arrival over. It goes its way whether the client waits for the outcome or not;
        a spooled file is removed when nobody has taken it over."""
        commit = asyncio.ensure_future(self.receive(arrival))
        self._commits.add(commit)
        commit.add_done_callback(self._committed)
        if arrival.spooled is not None:
            commit.add_done_callback(partial(self._clear_away, arrival.spooled.path))
        return commit

    def _committed(self, commit: asyncio.Future[Disposition]) -> None:
        self._commits.discard(commit)
        # Asking marks it as seen: the client may be gone.
        if commit.cancelled() or commit.exception() is not None:
            self.look_at_disk()

    def _clear_away(self, path: Path, commit: asyncio.Future[Disposition]) -> None:
        failed = commit.cancelled() or commit.exception() is not None
        if failed or commit.result() is Disposition.DUPLICATE:
            self.run(self.in_thread(discard, path))

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Let something go on beside the connections; `stop` waits for it."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def in_thread(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Do what blocks in one of the threads for it."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, partial(work, *args, **kwargs))

    def _tick(self, due: float) -> None:
        """One timer for all deadlines: a timer for each command costs more than the command."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        self.lag = max(now - due, 0.0)
        self._free = None
        self.now = now
        for session in [one for one in self._sessions if one.overdue(now)]:
            session.timed_out()
        self._ticker = loop.call_later(self._pace, self._tick, now + self._pace)


def _is_in(networks: tuple[IPv4Network | IPv6Network, ...], peer: str) -> bool:
    if not networks:
        return False
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return any(address in network for network in networks)
