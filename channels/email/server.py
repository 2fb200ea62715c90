"""Accepts mail over SMTP: checks recipients, reads the content, hands it over, then says 250.

Built on aiosmtpd 1.4.6 with an own DATA reader. Only recipient, size and bare-newline problems are
permanent (5xx); whatever goes wrong on our side is temporary, so that the sender keeps the mail.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, Any, cast

from aiosmtpd.smtp import MISSING, SMTP
from aiosmtpd.smtp import Envelope as SmtpEnvelope
from aiosmtpd.smtp import Session as SmtpSession

from channels.base import MisconfiguredError, RawArrival, RejectedError
from channels.email.addresses import RecipientVerdict
from channels.email.identity import delivery_key

if TYPE_CHECKING:
    from datetime import datetime

    from channels.base import Disposition, Receive

RecipientCheck = Callable[[str], RecipientVerdict]

_READ_SIZE = 1 << 20
"""Must exceed all that the stream reader can hold (twice its limit and one receive), so that a read
empties it and pipelined commands can be pushed back in order."""
_TERMINATOR = b"\r\n.\r\n"
_INLINE_LIMIT = 256 * 1024
"""Contents above this many bytes are unstuffed and hashed in a thread, not in the loop."""
_REFUSED_RECIPIENTS = 50
_SIZE = re.compile(r"(?:^|\s)SIZE=(\d{1,20})(?=\s|$)", re.IGNORECASE)
_PATH = re.compile(r'\s*<((?:[^<>"\\]|"(?:[^"\\]|\\.)*"|\\.)*)>\s*(.*)', re.DOTALL)
_SPACE = re.compile(r"\s")
_SOURCE_ROUTE = re.compile(r"@[^:\s]*:")
_NOT_JSON = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")

_COMMAND_LIMITS = {
    "*": 200,
    "NOOP": 2_000,
    # A trusted relay keeps one connection for days.
    **dict.fromkeys(("MAIL", "RCPT", "DATA", "RSET"), 10_000_000),
}

logger = logging.getLogger(__name__)
# Below ERROR the library prints addresses, command lines and, after a refused DATA, the mail.
logging.getLogger("mail.log").setLevel(logging.ERROR)


@dataclass(frozen=True, slots=True)
class ListenSettings:
    """Where and how to listen. Sizes in bytes, times in seconds; port 0 takes a free one."""

    host: str = "127.0.0.1"
    port: int = 2525
    hostname: str = "localhost"
    max_size: int = 36 * 1024 * 1024
    """25 MB of files in base64."""
    max_recipients: int = 100
    max_connections: int = 500
    max_strangers: int = 400
    """Of these; the rest is kept for trusted peers, where there are any."""
    max_connections_per_peer: int = 100
    """Does not hold for trusted peers: behind a relay everything comes from one address."""
    idle_timeout: float = 300.0
    """RFC 5321 §4.5.3.2.7: at least five minutes."""
    data_timeout: float = 1800.0
    """For one whole mail, however steadily it trickles in."""
    commit_timeout: float = 60.0
    trusted_peers: tuple[IPv4Network | IPv6Network, ...] = ()
    """Relays in front of us, whose content with bare CR or LF is taken."""
    min_free_space: int = 500_000_000
    max_memory: int = 256 * 1024 * 1024
    """All contents under way together."""


class EmailServer:
    """Listens for SMTP in the running loop; one mail, one call of `receive`."""

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
        self._listener: asyncio.Server | None = None
        self._sessions: set[_Session] = set()
        self._peers: Counter[str] = Counter()
        self._commits: set[asyncio.Task[Disposition]] = set()

    async def start(self) -> None:
        """Begin to listen. Raises `MisconfiguredError` when the address cannot be had."""
        loop = asyncio.get_running_loop()
        try:
            self._listener = await loop.create_server(
                lambda: _Session(self, loop), self.settings.host, self.settings.port, backlog=512
            )
        except OSError as error:
            where = f"{self.settings.host}:{self.settings.port}"
            reason = error.strerror or "ukjent vert"
            raise MisconfiguredError(f"Kan ikke lytte etter e-post på {where}: {reason}") from error
        self.stopping = False

    @property
    def listening(self) -> bool:
        """Whether new connections are taken."""
        return self._listener is not None and self._listener.is_serving()

    @property
    def port(self) -> int:
        """The port in use; tells the free one that was taken when the settings say 0."""
        if self._listener is None or not self._listener.sockets:
            return self.settings.port
        return int(self._listener.sockets[0].getsockname()[1])

    async def stop(self, grace: float = 8.0) -> None:
        """Stop listening, say 421 to the idle, give mail under way `grace` seconds to be taken."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        self.stopping = True
        listener.close()
        for session in tuple(self._sessions):
            session.close_if_idle()
        now = asyncio.get_running_loop().time
        deadline = now() + grace
        while self._sessions and now() < deadline:
            gone = [session.gone for session in self._sessions]
            await asyncio.wait(gone, timeout=deadline - now())
        for session in tuple(self._sessions):
            session.abort()
        if self._commits:
            await asyncio.wait(self._commits, timeout=max(deadline - now(), 1.5))
        await listener.wait_closed()

    def opened(self, session: _Session) -> str:
        """Count a new connection; returns the refusal when there are too many."""
        limits = self.settings
        peer = session.peer_address
        self._sessions.add(session)
        self._peers[peer] += 1
        if self.stopping:
            return "421 4.3.2 Service is closing, please try again later"
        crowded = self._peers[peer] > limits.max_connections_per_peer and not session.trusted
        taken = [one for one in self._sessions if not one.refused]
        strangers = sum(not one.trusted for one in taken)
        shut_out = (
            bool(limits.trusted_peers) and not session.trusted and strangers >= limits.max_strangers
        )
        if crowded or shut_out or len(taken) >= limits.max_connections:
            return "421 4.7.0 Too many connections, please try again later"
        session.refused = False
        return ""

    def closed(self, session: _Session) -> None:
        """Forget a connection."""
        if session in self._sessions:
            self._sessions.discard(session)
            self._peers[session.peer_address] -= 1
            if self._peers[session.peer_address] <= 0:
                del self._peers[session.peer_address]

    def short_of_space(self) -> bool:
        """Whether the disk is too full to take more mail."""
        return self.free_space is not None and self.free_space() < self.settings.min_free_space

    def busy(self) -> bool:
        """Whether so much is under way that new mail should come later."""
        return self.memory_held > self.settings.max_memory // 2

    async def commit(self, arrival: RawArrival) -> str:
        """Hand the arrival over and put the outcome in SMTP words.

        The task is on its own: a client that hangs up meanwhile must not undo it half-way.
        """
        task = asyncio.ensure_future(self.receive(arrival))
        self._commits.add(task)
        task.add_done_callback(self._committed)
        done, _ = await asyncio.wait((task,), timeout=self.settings.commit_timeout)
        if not done:
            return _temporary("was not stored in time")
        error = None if task.cancelled() else task.exception()
        if isinstance(error, RejectedError):
            return "554 5.7.1 Message refused"
        if task.cancelled() or error is not None:
            return _temporary("could not be stored", error)
        return f"250 2.0.0 OK {arrival.external_id[:16]}"

    def _committed(self, task: asyncio.Task[Disposition]) -> None:
        self._commits.discard(task)
        if not task.cancelled():
            task.exception()  # marks it as seen: the client may be gone


class _Policy:
    """What aiosmtpd asks before it says 250 to MAIL and RCPT."""

    async def handle_MAIL(  # noqa: N802
        self,
        smtp: _Session,
        session: SmtpSession,
        envelope: SmtpEnvelope,
        address: str,
        options: list[str],
    ) -> Any:
        if smtp.owner.stopping:
            return "421 4.3.2 Service is closing, please try again later"
        if smtp.owner.short_of_space():
            return "452 4.3.1 Insufficient system storage, please try again later"
        if smtp.owner.busy():
            return "451 4.3.2 Too busy, please try again later"
        return MISSING

    async def handle_RCPT(  # noqa: N802
        self,
        smtp: _Session,
        session: SmtpSession,
        envelope: SmtpEnvelope,
        address: str,
        options: list[str],
    ) -> Any:
        # RFC 5321 §4.5.3.1.8 and .10: at least 100 recipients, 452 beyond.
        if len(envelope.rcpt_tos) >= smtp.owner.settings.max_recipients:
            return "452 4.5.3 Too many recipients"
        verdict = smtp.owner.recipients(address)
        if verdict is RecipientVerdict.ACCEPTED:
            return MISSING
        smtp.refused_recipients += 1
        if smtp.refused_recipients > _REFUSED_RECIPIENTS and not smtp.trusted:
            smtp.close_after_reply()
            return "421 4.7.0 Too many unknown recipients"
        if verdict is RecipientVerdict.UNKNOWN:
            return "550 5.1.1 No such recipient here"
        return "550 5.7.1 Relaying denied"


_POLICY = _Policy()


class _Session(SMTP):
    """One SMTP connection."""

    # From the first moment to the last these are there.
    session: SmtpSession
    envelope: SmtpEnvelope
    line_length_limit = 1 << 17
    command_size_limit = 2048

    def __init__(self, owner: EmailServer, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            _POLICY,
            data_size_limit=owner.settings.max_size,
            enable_SMTPUTF8=True,
            hostname=owner.settings.hostname,  # else a blocking DNS look-up for each connection
            ident="ESMTP",
            timeout=owner.settings.idle_timeout,
            command_call_limit=_COMMAND_LIMITS,
            loop=loop,
        )
        # The class keeps one dictionary for all connections and clears it with each new one.
        self.command_size_limits = defaultdict(lambda: self.command_size_limit)
        self.owner = owner
        self.gone: asyncio.Future[None] = loop.create_future()
        self.peer_address = ""
        self.trusted = False
        self.refused = True
        self.refused_recipients = 0
        self._refusal = ""
        self._in_data = False

    def __dir__(self) -> list[str]:
        # The library looks through every attribute of each new connection for commands and log-in
        # methods; this spares it 0.2 ms, and there is no log-in here.
        return _COMMANDS

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peer = transport.get_extra_info("peername")
        self.peer_address = str(peer[0]) if isinstance(peer, tuple) else ""
        self.trusted = _is_in(self.peer_address, self.owner.settings.trusted_peers)
        self._refusal = self.owner.opened(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.owner.closed(self)
        if not self.gone.done():
            self.gone.set_result(None)
        super().connection_lost(error)

    def close_if_idle(self) -> None:
        """Say goodbye now, or after the mail that is under way."""
        if not self._in_data and self.transport is not None and not self.transport.is_closing():
            self._writer.write(b"421 4.3.2 Service is closing, please try again later\r\n")
            self.transport.close()

    def close_after_reply(self) -> None:
        """Close the connection once the reply being made has been written."""
        self.loop.call_soon(self._close)

    def abort(self) -> None:
        """Cut the connection."""
        if self.transport is not None:
            cast("asyncio.WriteTransport", self.transport).abort()

    def _close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def _timeout_cb(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self._writer.write(b"421 4.4.2 Timeout, closing connection\r\n")
            self.transport.close()

    async def _handle_client(self) -> None:
        with suppress(ConnectionError):  # the client left; nobody is there to be told
            if self._refusal:
                await self.push(self._refusal)
                self._close()
                return
            await super()._handle_client()

    async def handle_exception(self, error: Exception) -> str:
        """Our fault is temporary for the sender and tells nothing about our insides."""
        if self._in_data:
            self.close_after_reply()  # what follows on the wire may be content, not commands
        return _temporary("failed", error)

    def _getaddr(self, arg: str) -> tuple[str | None, str | None]:
        """The address and what follows it. The library's raises on odd input: a 451 of ours."""
        match = _PATH.fullmatch(arg)
        if match:
            address, rest = match[1].strip(), match[2]
        else:
            address, _, rest = arg.strip().partition(" ")
            if "<" in address or ">" in address or not address:
                return None, None
        address = _SOURCE_ROUTE.sub("", address, count=1) if address.startswith("@") else address
        if _SPACE.search(address) and '"' not in address:
            return None, None
        # The library takes an empty sender for a missing one.
        return _NOT_JSON.sub("\ufffd", address) or "<>", rest

    async def smtp_EHLO(self, hostname: str) -> None:  # noqa: N802
        """EHLO with our extensions in one write."""
        if not hostname:
            await self.push("501 5.5.4 Syntax: EHLO hostname")
            return
        self._set_rset_state()  # type: ignore[no-untyped-call]
        self.session.extended_smtp = True
        self.session.host_name = hostname
        extensions = (f"SIZE {self.data_size_limit}", "8BITMIME", "SMTPUTF8", "PIPELINING")
        lines = [f"250-{line}" for line in (self.hostname, *extensions[:-1])]
        await self.push("\r\n".join((*lines, f"250 {extensions[-1]}")))

    async def smtp_MAIL(self, arg: str | None) -> None:  # noqa: N802
        """MAIL, after a look at the declared size (RFC 1870 §6.1)."""
        declared = _SIZE.search(arg) if arg and self.session.extended_smtp else None
        if declared and int(declared[1]) > self.owner.settings.max_size:
            await self.push("552 5.3.4 Message size exceeds the limit")
            return
        await super().smtp_MAIL(arg)

    async def smtp_RCPT(self, arg: str | None) -> None:  # noqa: N802
        """RCPT; the null path is no recipient."""
        if arg and self._getaddr(arg.partition(":")[2])[0] == "<>":
            await self.push("501 5.1.3 Syntax: RCPT TO:<address>")
            return
        await super().smtp_RCPT(arg)

    async def smtp_VRFY(self, arg: str) -> None:  # noqa: N802
        """VRFY tells nothing about who exists (RFC 5321 §7.3)."""
        await self.push(
            "252 2.1.5 Cannot verify, but will take a message and try to deliver it"
            if arg
            else "501 5.5.4 Syntax: VRFY address"
        )

    async def smtp_AUTH(self, arg: str) -> None:  # noqa: N802
        """There is no log-in here: mail is taken for our own addresses only."""
        await self.push("502 5.5.1 AUTH not implemented")

    async def smtp_DATA(self, arg: str | None) -> None:  # noqa: N802
        """DATA: read the content, hand it over, answer."""
        if await self.check_helo_needed():
            return
        if not self.envelope.rcpt_tos:
            await self.push("503 5.5.1 Error: need RCPT command")
            return
        if arg:
            await self.push("501 5.5.4 Syntax: DATA")
            return
        self._in_data = True
        try:
            await self.push("354 End data with <CR><LF>.<CR><LF>")
            reply = await self._take()
        finally:
            self._set_post_data_state()  # type: ignore[no-untyped-call]
        self._in_data = False
        await self.push(reply)
        if self.owner.stopping:
            self.close_if_idle()

    async def _take(self) -> str:
        chunks: list[bytes] = []
        held = 0
        try:
            refusal = await self._read_content(chunks)
            held = sum(map(len, chunks))
            if refusal:
                return refusal
            recipients = [_json_safe(address) for address in self.envelope.rcpt_tos]
            if held > _INLINE_LIMIT:
                content, bare, key = await asyncio.to_thread(_finish, chunks, recipients)
            else:
                content, bare, key = _finish(chunks, recipients)
            # SMTP smuggling (CVE-2024-27305): a bare newline may be a hidden end of data.
            if bare and not self.trusted:
                return "550 5.6.11 Bare CR or LF in the message"
            return await self._hand_over(content, bare, key, recipients)
        finally:
            self.owner.memory_held -= held

    async def _read_content(self, chunks: list[bytes]) -> str:
        """Read up to the lone dot into `chunks`; returns a refusal, or empty.

        What is refused is still read to its end: the session stays in step (RFC 5321 §4.2.5).
        """
        limits = self.owner.settings
        deadline = self.loop.time() + limits.data_timeout
        refusal, size, held = "", 0, 0
        tail = b"\r\n"  # so that the dot of an empty mail is found
        try:
            while True:
                chunk = await self._reader.read(_READ_SIZE)
                if not chunk:
                    raise ConnectionResetError
                window = tail + chunk
                at = window.find(_TERMINATOR)
                if at >= 0:
                    used = at + len(_TERMINATOR) - len(tail)
                    if used < len(chunk):  # pipelined commands; before any other await
                        self._reader.feed_data(chunk[used:])
                        chunk = chunk[:used]
                size += len(chunk)
                if not refusal:
                    chunks.append(chunk)
                    held += len(chunk)
                    self.owner.memory_held += len(chunk)
                    if size > limits.max_size + 3:
                        refusal = "552 5.3.4 Message size exceeds the limit"
                    elif self.owner.memory_held > limits.max_memory:
                        refusal = "452 4.3.1 Insufficient system storage, please try again later"
                    if refusal:
                        chunks.clear()
                        self.owner.memory_held -= held
                        held = 0
                if at >= 0:
                    return refusal
                if size > 4 * limits.max_size:
                    self.close_after_reply()
                    return refusal
                tail = window[-4:]
                self._reset_timeout(
                    max(min(limits.idle_timeout, deadline - self.loop.time()), 0.001)
                )
        except BaseException:
            self.owner.memory_held -= held
            chunks.clear()
            raise

    async def _hand_over(self, content: bytes, bare: bool, key: str, recipients: list[str]) -> str:
        sender = self.envelope.mail_from or ""
        arrival = RawArrival(
            channel="email",
            external_id=key,
            received_at=self.owner.clock(),
            envelope={
                "peer": self.peer_address,
                "helo": _json_safe(self.session.host_name or ""),
                "mail_from": "" if sender == "<>" else _json_safe(sender),
                "recipients": recipients,
                "smtputf8": bool(self.envelope.smtp_utf8),
                "bare_newlines": bare,
            },
            raw=content,
        )
        if self._timeout_handle is not None:
            self._timeout_handle.cancel()  # the wait is ours now, not the client's
        reply = await self.owner.commit(arrival)
        self._reset_timeout()
        return reply


_COMMANDS = [name for name in dir(_Session) if name.startswith("smtp_")]


def _finish(chunks: list[bytes], recipients: list[str]) -> tuple[bytes, bool, str]:
    """Undo the dot-stuffing (RFC 5321 §4.5.2), look for bare newlines, compute the key.

    Chunk by chunk: one call on a large content would hold the interpreter, and the loop, too long.
    """
    excess = 3  # the lone dot
    while excess:
        last = chunks.pop()
        if len(last) > excess:
            chunks.append(last[:-excess])
        excess = max(excess - len(last), 0)
    pieces: list[bytes] = []
    bare = False
    held_back = b"\r\n"  # the first line may begin with a dot too
    for chunk in chunks:
        data = held_back + chunk
        end = len(data) - (2 if data.endswith(b"\r\n") else data.endswith(b"\r"))
        piece, held_back = data[:end].replace(b"\r\n.", b"\r\n"), data[end:]
        pairs = piece.count(b"\r\n")
        bare = bare or piece.count(b"\n") != pairs or piece.count(b"\r") != pairs
        pieces.append(piece)
    if pieces:
        pieces[0] = pieces[0].removeprefix(b"\r\n")
        pieces.append(held_back)
        bare = bare or held_back == b"\r"
    content = b"".join(pieces)
    return content, bare, delivery_key(content, recipients)


def _is_in(peer: str, networks: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    if not networks:
        return False
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return any(address in network for network in networks)


def _json_safe(text: str) -> str:
    """Text that every store can keep: no control characters, no lone surrogates."""
    return _NOT_JSON.sub("\ufffd", text)


def _temporary(what: str, error: BaseException | None = None) -> str:
    """Log under a number and answer with the number alone.

    The error's own words stay out of the log: they may quote the mail.
    """
    incident = secrets.token_hex(4)
    logger.error("incident %s: mail %s: %s", incident, what, _describe(error))
    return f"451 4.3.0 Temporary failure here, please try again later (incident {incident})"


def _describe(error: BaseException | None) -> str:
    if error is None:
        return "no error"
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    return " < ".join(
        (type(error).__name__, *(f"{frame.name}:{frame.lineno}" for frame in reversed(frames)))
    )
