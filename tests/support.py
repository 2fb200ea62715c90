"""What several tests need: a mail server that keeps what it gets and fails on demand, and how
closely to look."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from hypothesis import settings

if TYPE_CHECKING:
    import ssl
    from types import TracebackType


def examples(number: int) -> int:
    """So many examples of a property; a quarter of them in the suite that runs on every save."""
    quick = settings.get_current_profile_name() == "quick"
    return max(1, number // 4) if quick else number


@dataclass(frozen=True)
class SunkMail:
    """One mail as the sink took it."""

    mail_from: str
    recipients: tuple[str, ...]
    raw: bytes


class SmtpSink:
    """A real SMTP server on 127.0.0.1 as an async context manager; on a free port unless given one.

    Stages are `CONNECT`, `EHLO`, `AUTH`, `MAIL`, `RCPT`, `DATA` (the command) and `CONTENT` (the
    answer to the lone dot).
    """

    def __init__(
        self,
        *,
        login: tuple[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        implicit_tls: bool = False,
        port: int = 0,
    ) -> None:
        self.messages: list[SunkMail] = []
        self.connections = 0
        self.commands: Counter[str] = Counter()
        self.logins = 0
        self.port = port
        self.host = "127.0.0.1"
        self._login = login
        self._tls = tls
        self._implicit_tls = implicit_tls
        self._replies: dict[str, list[str]] = {}
        self._drops: Counter[str] = Counter()
        self._gates: dict[str, asyncio.Event] = {}
        self._sessions: set[_SinkSession] = set()
        self._server: asyncio.Server | None = None

    def fail(self, stage: str, reply: str, times: int = 1) -> None:
        """Answer the next `times` of this stage with `reply`: `fail("RCPT", "450 4.2.0 Later")`."""
        self._replies.setdefault(stage, []).extend([reply] * times)

    def drop(self, stage: str, times: int = 1) -> None:
        """Cut the connection at this stage, unanswered.

        At `CONTENT` the mail has been kept; at `ANSWER` it is cut right after the 250.
        """
        self._drops[stage] += times

    def hold(self, stage: str) -> asyncio.Event:
        """Do not answer this stage until the returned event is set."""
        return self._gates.setdefault(stage, asyncio.Event())

    def disconnect_all(self) -> None:
        """Cut every open connection, as a server does that has waited long enough."""
        for session in tuple(self._sessions):
            session.cut()

    async def __aenter__(self) -> SmtpSink:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _SinkSession(self, loop),
            self.host,
            self.port,
            ssl=self._tls if self._implicit_tls else None,
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        for gate in self._gates.values():
            gate.set()
        self.disconnect_all()
        if self._sessions:
            await asyncio.wait([session.gone for session in self._sessions], timeout=2)
        await self._server.wait_closed()

    async def stage(self, session: _SinkSession, stage: str) -> str | None:
        """The reply to give instead of going on, if any."""
        self.commands[stage] += 1
        if stage in self._gates:
            await self._gates[stage].wait()
        if self._drops[stage]:
            self._drops[stage] -= 1
            session.cut()
            raise ConnectionResetError
        replies = self._replies.get(stage)
        return replies.pop(0) if replies else None

    def authenticate(self, *arguments: Any) -> AuthResult:
        """Compare with the login given."""
        data = arguments[-1]
        assert isinstance(data, LoginPassword)
        self.logins += 1
        known = self._login is not None and self._login == (
            data.login.decode(),
            data.password.decode(),
        )
        return AuthResult(success=known, handled=False)


class _Hooks:
    async def handle_DATA(self, smtp: _SinkSession, session: Any, envelope: Any) -> str:  # noqa: N802
        return await smtp.take()


class _SinkSession(SMTP):
    def __init__(self, sink: SmtpSink, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            _Hooks(),
            hostname="sink.example",
            loop=loop,
            enable_SMTPUTF8=True,
            tls_context=None if sink._implicit_tls else sink._tls,
            authenticator=sink.authenticate,
            auth_require_tls=sink._login is None,
        )
        self.sink = sink
        self.gone: asyncio.Future[None] = loop.create_future()

    def cut(self) -> None:
        # After a failed TLS handshake the library tells nobody that the connection is lost.
        for transport in (self.transport, self._original_transport):
            if transport is not None:
                cast("asyncio.WriteTransport", transport).abort()
        if self._original_transport is not None and self._handler_coroutine is not None:
            self._handler_coroutine.cancel()
            self.forget()

    def forget(self) -> None:
        self.sink._sessions.discard(self)
        if not self.gone.done():
            self.gone.set_result(None)

    def connection_made(self, transport: Any) -> None:
        if self not in self.sink._sessions:
            self.sink.connections += 1
            self.sink._sessions.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.forget()
        super().connection_lost(error)

    async def _handle_client(self) -> None:
        try:
            reply = await self.sink.stage(self, "CONNECT")
            if reply is not None:
                await self.push(reply)
                assert self.transport is not None
                self.transport.close()
                return
            await super()._handle_client()
        except ConnectionError:
            return

    async def _staged(self, stage: str, arg: Any) -> None:
        reply = await self.sink.stage(self, stage)
        if reply is None:
            await getattr(super(), f"smtp_{stage}")(arg)
            return
        await self.push(reply)
        if reply.startswith("421"):
            assert self.transport is not None
            self.transport.close()

    async def smtp_EHLO(self, hostname: str) -> None:  # noqa: N802
        await self._staged("EHLO", hostname)

    async def smtp_AUTH(self, arg: str) -> None:  # noqa: N802
        await self._staged("AUTH", arg)

    async def smtp_MAIL(self, arg: str | None) -> None:  # noqa: N802
        await self._staged("MAIL", arg)

    async def smtp_RCPT(self, arg: str | None) -> None:  # noqa: N802
        await self._staged("RCPT", arg)

    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802
        await self._staged("DATA", arg)

    async def take(self) -> str:
        """Keep the mail and answer the lone dot."""
        envelope = self.envelope
        assert envelope is not None
        replies = self.sink._replies.get("CONTENT")
        if not replies:
            self.sink.messages.append(
                SunkMail(
                    mail_from="" if envelope.mail_from == "<>" else envelope.mail_from or "",
                    recipients=tuple(envelope.rcpt_tos),
                    raw=envelope.original_content or b"",
                )
            )
        reply = await self.sink.stage(self, "CONTENT")
        reply = reply or f"250 2.0.0 Ok: queued as SINK{len(self.sink.messages)}"
        if self.sink._drops["ANSWER"]:
            self.sink._drops["ANSWER"] -= 1
            assert self.transport is not None
            self.loop.call_soon(self.transport.close)
        return reply
