"""One SMTP (RFC 5321) or LMTP (RFC 2033) session: its commands and the mail that comes in it.

aiosmtpd's commands, on a `Connection` of our own. Nothing waits but the journal and the disk.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from aiosmtpd.smtp import syntax

from channels.base import RawArrival, RejectedError, Spooled
from channels.email import policy
from channels.email.connection import Connection
from channels.email.content import INLINE_LIMIT, Content, SpoolFile, unstuff
from channels.email.identity import delivery_key
from channels.email.replies import NO_SPACE, TOO_LARGE, json_safe, offer, temporary, wire

if TYPE_CHECKING:
    import asyncio

    from channels.base import Disposition
    from channels.email.server import EmailServer

_DOT_LINE = 3
_LINGER = 10.0
"""Seconds for the last reply to be read."""


class Session(Connection):
    """One SMTP connection: what the commands do, and what becomes of the mail."""

    def __init__(self, owner: EmailServer, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(owner, loop)
        self.refused_recipients = 0
        self._commit: asyncio.Future[Disposition] | None = None
        self._key = ""
        self._held = 0

    def connection_lost(self, error: Exception | None) -> None:
        """Forget everything but a mail whose end has come."""
        self._hold(0)
        super().connection_lost(error)

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
                    self._heard = owner.now  # if the disk was slow, the client is not to blame
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
            owner.look_at_disk()
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
                "trusted": self.trusted,
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
