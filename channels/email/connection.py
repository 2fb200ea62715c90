"""The bytes of one SMTP or LMTP connection: what comes in is worked off as it arrives, all replies
to it go out in one write, and the client is read no faster than that.

What the commands mean is the business of `session`.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, cast

from aiosmtpd.smtp import SMTP, syntax
from aiosmtpd.smtp import Session as SmtpSession

from channels.email.content import BLOCK
from channels.email.replies import CLOSING, temporary, wire

if TYPE_CHECKING:
    import asyncio
    from ssl import SSLContext
    from typing import Self

    from aiosmtpd.smtp import Envelope as SmtpEnvelope

    from channels.email.content import Content
    from channels.email.server import EmailServer

_TURN = 50
"""Commands carried out before other connections have their turn."""
_AHEAD = 64 * 1024
"""Bytes taken from a client that does not wait for our answer."""
_LINE = 2048
"""Longest command line; RFC 5321 §4.5.3.1.4 asks for 512 and what extensions add."""
_UNKNOWN_COMMANDS = 5
_HANDSHAKE = 30.0

# Below ERROR the library prints addresses, command lines and, after a refused DATA, the mail.
logging.getLogger("mail.log").setLevel(logging.ERROR)


class Connection(SMTP, ABC):
    """One connection, and the way of bytes in it.

    Made once for each listener; every connection gets a copy (`open`), because the library looks
    through all attributes of a new object for commands, which takes longer than a whole mail.
    """

    protocol = "smtp"
    ident = "ESMTP"
    not_commands: frozenset[str] = frozenset()

    # From the first moment to the last these are there.
    session: SmtpSession
    envelope: SmtpEnvelope
    command_size_limit = _LINE

    def __init__(self, owner: EmailServer, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            None,
            data_size_limit=owner.settings.max_size,
            enable_SMTPUTF8=True,
            hostname=owner.settings.hostname,  # else a blocking DNS look-up
            ident=self.ident,
            loop=loop,
        )
        self.owner = owner
        kind = type(self)
        self._smtp_methods = {
            name.removeprefix("smtp_"): getattr(kind, name)
            for name in dir(kind)
            if name.startswith("smtp_") and name not in self.not_commands
        }
        self.transport: asyncio.Transport | None = None
        self.peer_address = ""
        self.trusted = False
        self.refused = True
        self.closing = False
        """Nothing more is taken; the connection closes when the replies are written."""
        self.tls = ""
        """Version of TLS in use, or empty."""
        self._input = b""
        self._replies: list[bytes] = []
        self._content: Content | None = None
        self._waiting = False
        self._scheduled = False
        self._handshaking = False
        self._write_blocked = False
        self._read_blocked = False
        self._ended = False
        self._linger = False
        self._shut = False
        self._overlong = False
        self._commands = 0
        self._unknown_commands = 0
        self._heard = 0.0
        """When the client last did what it should, or our own work on its mail began."""
        self._began = 0.0
        """When the mail began to come, or else the time to bring one."""

    def open(self) -> Self:
        """A copy for one more connection."""
        session = type(self).__new__(type(self))
        session.__dict__.update(self.__dict__)
        session._replies = []
        return session

    # What the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet, or refuse."""
        self.transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self.peer_address = str(peer[0]) if isinstance(peer, tuple) else ""
        self.trusted = self.protocol == "lmtp" or self.owner.is_trusted(self.peer_address)
        self._begin()
        self._heard = self._began = self.owner.now
        refusal = self.owner.opened(self)
        if refusal:
            self.closing = True
            self._replies.append(wire(refusal))
        else:
            self._replies.append(f"220 {self.hostname} {self.ident}\r\n".encode())
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Work off what came."""
        if self.closing:
            return
        self._input = self._input + data if self._input else data
        if self._waiting or self._write_blocked:
            self._throttle()
        else:
            self._advance()

    def eof_received(self) -> bool:
        """The client will send nothing more; returns whether we still have something to say."""
        self._ended = True
        if self._content is not None and not self._content.ended:
            return False
        # A client may close its half and still read our answer; TLS cannot be closed by half.
        return not self.tls and (self._waiting or self._scheduled or self._write_blocked)

    def connection_lost(self, error: Exception | None) -> None:
        """Forget everything but a mail whose end has come."""
        self.transport = None
        self.closing = True
        self._input = b""
        if self._content is not None and not self._content.ended:
            self._content.lose()
        self.owner.closed(self)

    def pause_writing(self) -> None:
        """The client does not read: let it read before it says more."""
        self._write_blocked = True
        self._throttle()

    def resume_writing(self) -> None:
        """The client has read."""
        self._write_blocked = False
        self._advance()

    # What the server tells

    def goodbye(self) -> None:
        """Say 421 now, or after the mail that is under way."""
        if self._shut and self.transport is not None:
            self.transport.close()  # it has been told something else
        elif self._content is None and not self.closing:
            self._say(CLOSING)
            self.closing = True
            self._flush()

    def abort(self) -> None:
        """Cut the connection."""
        if self.transport is not None:
            self.transport.abort()

    # Input and output

    def _advance(self) -> None:
        """Work off what has come in, as far as nothing has to be waited for."""
        self._scheduled = False
        turns = _TURN
        while self._input and not (self._waiting or self._write_blocked or self.closing):
            if self._content is not None:
                self._take(self._content)
                continue
            line, newline, rest = self._input.partition(b"\n")
            if not newline:
                if len(line) > _LINE:
                    self._overlong = True
                    self._input = b""
                break
            if not turns:
                self._scheduled = True
                self.loop.call_soon(self._advance)
                break
            turns -= 1
            self._input = rest
            if self._overlong or len(line) > _LINE:
                self._overlong = False
                self._say("500 5.5.2 Command line too long")
            else:
                self._obey(line)
        if self._ended and not (self._waiting or self._scheduled or self._write_blocked):
            self.closing = True
        self._flush()
        if self._waiting or self._scheduled or self._read_blocked or self._content is not None:
            self._throttle()

    def _flush(self) -> None:
        """Write all replies at once (RFC 2920 §3.2), and close when that was the last."""
        transport = self.transport
        if transport is None:
            return
        if self._replies:
            replies, self._replies = self._replies, []
            transport.write(replies[0] if len(replies) == 1 else b"".join(replies))
        if self.closing and not self._shut:
            self._shut = True
            self._heard = self.owner.now
            if self._linger and not self._ended and transport.can_write_eof():
                # Closing on a client that is still sending would take our last reply from it.
                transport.write_eof()
            else:
                transport.close()

    def _throttle(self) -> None:
        """Read from the client only what can be worked off."""
        content = self._content
        block = not self.closing and (
            self._write_blocked
            or self._scheduled
            or self._handshaking
            or (self._waiting and len(self._input) > _AHEAD)
            or (content is not None and content.held > 2 * BLOCK)
        )
        if block == self._read_blocked or self.transport is None or self.transport.is_closing():
            return
        self._read_blocked = block
        if block:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def _say(self, reply: str) -> None:
        self._replies.append(wire(reply))

    async def push(self, status: Any) -> None:
        """Reply; what the library's commands wait for, though there is nothing to wait for."""
        self._replies.append(wire(status))

    def _leave(self, reply: str) -> None:
        self._say(reply)
        self.closing = self._linger = True
        if self._content is not None:
            self._content.lose()
        self._flush()
        self._throttle()

    def _obey(self, line: bytes) -> None:
        """Carry out one command."""
        name, _, argument = line.strip(b"\r").partition(b" ")
        command = name.decode("ascii", "replace").upper()
        method = self._smtp_methods.get(command)
        self._commands += 1
        if self._commands > self.owner.settings.max_commands:
            self._leave("421 4.7.0 Too many commands without a mail")
            return
        if method is None:
            self._unknown_commands += 1
            if self._unknown_commands >= _UNKNOWN_COMMANDS:
                self._leave("421 4.7.0 Too many unrecognised commands")
            else:
                self._say("500 5.5.1 Command not recognised")
            return
        self._heard = self.owner.now
        argument = argument.strip()
        # Not every client that sends other bytes has asked for UTF-8; none may be lost.
        arg = argument.decode("utf-8", "surrogateescape") if argument else None
        try:
            # The library's commands wait for `push` alone, which never waits: each ends at once,
            # without a task.
            method(self, arg).send(None)
        except StopIteration:
            return
        except Exception as error:  # noqa: BLE001 - ours, so temporary for the sender
            self._say(temporary("failed", error))

    def _begin(self) -> None:
        self._set_rset_state()  # type: ignore[no-untyped-call]
        self.session = SmtpSession(self.loop)

    @abstractmethod
    def _take(self, content: Content) -> None:
        """Take what has come of the content of a mail."""

    @abstractmethod
    def overdue(self, now: float) -> bool:
        """Whether somebody has let the other wait too long."""

    @abstractmethod
    def timed_out(self) -> None:
        """Give up waiting."""

    # Encryption

    @syntax("STARTTLS")
    async def smtp_STARTTLS(self, arg: str) -> None:  # noqa: N802
        """STARTTLS (RFC 3207)."""
        if arg:
            self._say("501 5.5.4 Syntax: STARTTLS")
        elif self.tls:
            self._say("503 5.5.1 TLS is in use already")
        elif self.owner.certificate is None or self.transport is None:
            self._say("454 4.7.0 TLS not available")
        else:
            # What comes from here on belongs to the handshake. What came in the clear behind the
            # command was said by anybody (RFC 3207 §6), so it is forgotten.
            self._waiting = self._handshaking = True
            self._throttle()
            self._input = b""
            self._say("220 2.0.0 Ready to start TLS")
            self._flush()
            self.owner.run(self._start_tls(self.transport, self.owner.certificate.context()))

    async def _start_tls(self, plain: asyncio.Transport, context: SSLContext) -> None:
        try:
            secured = await self.loop.start_tls(
                plain,
                self,
                context,
                server_side=True,
                ssl_handshake_timeout=_HANDSHAKE,
            )
        except OSError:  # also those of TLS: the client refused, left, or spoke something else
            secured = None
        if secured is None or self.transport is None:
            plain.abort()
            if self.transport is not None:
                self.connection_lost(None)  # in a handshake the library does not tell
            return
        self.transport = secured
        self.tls = str(secured.get_extra_info("ssl_object").version())
        self._read_blocked = self._handshaking = False
        # RFC 3207 §4.2: nothing learnt before counts. What has come since came over TLS.
        self._begin()
        self._waiting = False
        self._heard = self.owner.now
        if self.owner.stopping:
            self.goodbye()
        self._advance()
