"""One SMTP (RFC 5321) or LMTP (RFC 2033) connection.

aiosmtpd's commands on a reader of our own: what comes in is worked off as it arrives, all replies
to it go out in one write, and nothing waits but the journal, the disk and the TLS handshake.
"""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING, Any, cast

from aiosmtpd.smtp import SMTP, syntax
from aiosmtpd.smtp import Session as SmtpSession

from channels.base import RawArrival, RejectedError, Spooled
from channels.email import policy
from channels.email.content import BLOCK, INLINE_LIMIT, Content, SpoolFile, unstuff
from channels.email.identity import delivery_key
from channels.email.replies import (
    CLOSING,
    NO_SPACE,
    TOO_LARGE,
    json_safe,
    offer,
    temporary,
    wire,
)

if TYPE_CHECKING:
    import asyncio
    from ssl import SSLContext

    from aiosmtpd.smtp import Envelope as SmtpEnvelope

    from channels.base import Disposition
    from channels.email.server import EmailServer

_TURN = 50
"""Commands carried out before other connections have their turn."""
_AHEAD = 64 * 1024
"""Bytes taken from a client that does not wait for our answer."""
_LINE = 2048
"""Longest command line; RFC 5321 §4.5.3.1.4 asks for 512 and what extensions add."""
_DOT_LINE = 3
_UNKNOWN_COMMANDS = 5
_LINGER = 10.0
"""Seconds for the last reply to be read."""
_HANDSHAKE = 30.0

# Below ERROR the library prints addresses, command lines and, after a refused DATA, the mail.
logging.getLogger("mail.log").setLevel(logging.ERROR)


class Session(SMTP):
    """One SMTP connection.

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
        self.refused_recipients = 0
        self.closing = False
        """Nothing more is taken; the connection closes when the replies are written."""
        self.tls = ""
        """Version of TLS in use, or empty."""
        self._input = b""
        self._replies: list[bytes] = []
        self._content: Content | None = None
        self._commit: asyncio.Future[Disposition] | None = None
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
        self._key = ""
        self._held = 0
        self._heard = 0.0
        """When the client last did what it should, or our own work on its mail began."""
        self._began = 0.0
        """When the mail began to come, or else the time to bring one."""

    def open(self) -> Session:
        """A session for one more connection."""
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
        self._hold(0)
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
        if self._content is None and not self.closing:
            self._say(CLOSING)
            self.closing = True
            self._flush()

    def abort(self) -> None:
        """Cut the connection."""
        if self.transport is not None:
            self.transport.abort()

    def overdue(self, now: float) -> bool:
        """Whether somebody has let the other wait too long."""
        limits = self.owner.settings
        silent = now - self._heard
        if self._commit is not None:
            return silent > limits.commit_timeout
        if self.closing:
            return silent > _LINGER
        if self._content is not None and self._content.ended:
            return False  # it is being written to the disk
        # RFC 5321 §4.5.3.2. Who trickles a mail, or brings none for long, has to come again.
        return silent > limits.idle_timeout or (
            now - self._began > limits.data_timeout
            and (self._content is not None or not self.trusted)
        )

    def timed_out(self) -> None:
        """Give up waiting."""
        if self._commit is not None:
            self._commit = None  # it goes on; the client hears that it should come again
            self._answer(temporary("was not stored in time"))
            self._advance()
        elif self.closing or self._write_blocked:
            self.abort()  # nobody reads what we say
        else:
            self._leave("421 4.4.2 Timeout, closing connection")

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

    # Commands

    @syntax("HELO hostname")
    async def smtp_HELO(self, hostname: str) -> None:  # noqa: N802
        """HELO: no extensions."""
        if self._greet(hostname, extended=False):
            self._replies.append(f"250 {self.hostname}\r\n".encode())

    @syntax("EHLO hostname")
    async def smtp_EHLO(self, hostname: str) -> None:  # noqa: N802
        """EHLO: what we offer."""
        if self._greet(hostname, extended=True):
            starttls = () if self.tls or self.owner.certificate is None else ("STARTTLS",)
            self._replies.append(offer(self.hostname, self.owner.settings.max_size, *starttls))

    def _greet(self, hostname: str, *, extended: bool) -> bool:
        if not hostname:
            self._say("501 5.5.4 Syntax: name of your host")
            return False
        self._set_rset_state()  # type: ignore[no-untyped-call]
        self.session.extended_smtp = extended
        self.session.host_name = hostname
        return True

    @syntax("MAIL FROM:<address>", extended=" [SP <mail-parameters>]")
    async def smtp_MAIL(self, arg: str | None) -> None:  # noqa: N802
        """MAIL: whose mail it is, and whether there is room for it."""
        self._say(policy.mail(self, arg))

    @syntax("RCPT TO:<address>")
    async def smtp_RCPT(self, arg: str | None) -> None:  # noqa: N802
        """RCPT: whether we know the recipient."""
        self._say(policy.recipient(self, arg))

    @syntax("VRFY <address>")
    async def smtp_VRFY(self, arg: str) -> None:  # noqa: N802
        """VRFY tells nothing about who exists (RFC 5321 §7.3)."""
        self._say(
            "252 2.1.5 Cannot verify, but will take a message and try to deliver it"
            if arg
            else "501 5.5.4 Syntax: VRFY address"
        )

    async def smtp_AUTH(self, arg: str) -> None:  # noqa: N802
        """There is no log-in here: mail is taken for our own addresses only."""
        self._say("502 5.5.1 AUTH not implemented")

    @syntax("QUIT")
    async def smtp_QUIT(self, arg: str) -> None:  # noqa: N802
        """QUIT."""
        if arg:
            self._say("501 5.5.4 Syntax: QUIT")
        else:
            self._say("221 2.0.0 Bye")
            self.closing = True

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

    @syntax("DATA")
    async def smtp_DATA(self, arg: str | None) -> None:  # noqa: N802
        """DATA: from here on the bytes are content, up to the lone dot."""
        if not self.session.host_name:
            self._say("503 5.5.1 Error: say hello first")
        elif not self.envelope.rcpt_tos:
            self._say("503 5.5.1 Error: need RCPT command")
        elif arg:
            self._say("501 5.5.4 Syntax: DATA")
        else:
            self._content = Content()
            self._began = self.owner.now
            self._replies.append(b"354 End data with <CR><LF>.<CR><LF>\r\n")

    # Content

    def _take(self, content: Content) -> None:
        """Take what has come of the content.

        What is refused is still read to its end: the session stays in step (RFC 5321 §4.2.5).
        """
        limits = self.owner.settings
        self._input = content.feed(self._input)
        self._hold(content.held)
        large = content.size > INLINE_LIMIT + _DOT_LINE
        if not content.refusal:
            if content.size > limits.max_size + _DOT_LINE:
                self._refuse(content, TOO_LARGE)
            elif self.owner.memory_held > limits.max_memory:
                self._refuse(content, NO_SPACE)
            elif large and not content.spooling:
                content.spooling = True
                self.owner.run(self._spool(content))
        if content.ended:
            self._waiting = content.spooling
            if content.refusal and not content.spooling:
                self._answer(content.refusal)
            elif not large:
                self._keep_small(content)
            return
        if content.size > 4 * limits.max_size:
            content.lose()
            self._answer(content.refusal)
            self.closing = self._linger = True
            return
        passed = self.owner.now - self._began
        if (
            passed > limits.slow_after
            and content.size < passed * limits.min_rate
            and not self.trusted
        ):
            self._leave("421 4.4.2 Too slow, closing connection")
            return
        self._heard = self.owner.now

    def _refuse(self, content: Content, reply: str) -> None:
        content.refuse(reply)
        self._hold(0)

    def _keep_small(self, content: Content) -> None:
        try:
            raw, bare = unstuff(content.chunks)
            self._hand_over(raw, None, bare, delivery_key(raw, self.envelope.rcpt_tos))
        except Exception as error:  # noqa: BLE001 - ours, so temporary for the sender
            self._answer(temporary("could not be stored", error))

    async def _spool(self, content: Content) -> None:
        """Write large content to a file while it comes, then hand it over.

        One block at a time goes to a thread; meanwhile no more than two are read.
        """
        owner = self.owner
        file = SpoolFile(owner.spool)
        recipients = list(self.envelope.rcpt_tos)
        whole: tuple[Spooled, bool, str] | None = None
        try:
            while whole is None and not (content.refusal or content.lost):
                await content.more.wait()
                content.more.clear()
                ended, chunks = content.ended, content.take()
                self._hold(0)
                self._throttle()
                if chunks:
                    await owner.in_thread(file.write, chunks)
                if ended:
                    whole = await owner.in_thread(file.finish, recipients)
                elif owner.short_of_space():
                    content.refuse(NO_SPACE)
            if whole is not None:
                spooled, bare, key = whole
                self._hand_over(b"", spooled, bare, key)
                if self._commit is not None:
                    return
        except Exception as error:  # noqa: BLE001 - ours, so temporary for the sender
            full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
            content.refuse(NO_SPACE if full else temporary("could not be spooled", error))
        await owner.in_thread(file.discard)
        content.spooling = False
        if content.ended:
            if self._content is content:
                self._answer(content.refusal)
            self._advance()
        else:
            self._throttle()

    def _hand_over(self, raw: bytes, spooled: Spooled | None, bare: bool, key: str) -> None:
        """Have the mail journaled; the answer comes when it is."""
        # SMTP smuggling (CVE-2023-51764): a bare newline may be a hidden end of data.
        if bare and not self.trusted:
            self._answer("550 5.6.11 Bare CR or LF in the message")
            return
        envelope = self.envelope
        arrival = RawArrival(
            channel="email",
            external_id=key,
            received_at=self.owner.clock(),
            envelope={
                "protocol": self.protocol,
                "peer": self.peer_address,
                "helo": json_safe(self.session.host_name or ""),
                "tls": self.tls,
                "mail_from": envelope.mail_from or "",
                "recipients": envelope.rcpt_tos,
                "smtputf8": bool(envelope.smtp_utf8),
                "bare_newlines": bare,
            },
            raw=raw,
            spooled=spooled,
        )
        self._key = key
        self._commit = self.owner.commit(arrival)
        self._waiting = True
        self._heard = self.owner.now
        self._hold(len(raw))
        self._commit.add_done_callback(self._committed)

    def _committed(self, commit: asyncio.Future[Disposition]) -> None:
        if commit is not self._commit:
            return  # it took too long, and was answered
        self._commit = None
        error = None if commit.cancelled() else commit.exception()
        if isinstance(error, RejectedError):
            self._answer("554 5.7.1 Message refused")
        elif commit.cancelled() or error is not None:
            self._answer(temporary("could not be stored", error))
        else:
            self._commands = 0
            self._began = self.owner.now
            self._answer(f"250 2.0.0 OK {self._key[:16]}")
        self._advance()

    def _answer(self, reply: str) -> None:
        """The reply to the content: one, or one for each recipient (RFC 2033 §4.2)."""
        times = len(self.envelope.rcpt_tos) if self.protocol == "lmtp" else 1
        self._replies.append(wire(reply) * times)
        self._content = None
        self._waiting = False
        self._hold(0)
        self._set_rset_state()  # type: ignore[no-untyped-call]
        self._heard = self.owner.now
        if self.owner.stopping:
            self.goodbye()

    def _hold(self, size: int) -> None:
        """Account for what is in memory of the mail under way."""
        self.owner.memory_held += size - self._held
        self._held = size


class LmtpSession(Session):
    """One LMTP connection (RFC 2033): LHLO, and a reply for each recipient."""

    protocol = "lmtp"
    ident = "LMTP"
    not_commands = frozenset(("smtp_HELO", "smtp_EHLO"))  # RFC 2033 §4.1

    @syntax("LHLO hostname")
    async def smtp_LHLO(self, hostname: str) -> None:  # noqa: N802
        """LHLO: what we offer."""
        await self.smtp_EHLO(hostname)
