"""Hands finished mail to the smarthost, over at most two connections that are used again.

What went wrong is told apart by who is to blame and whether the mail may have been taken.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from dataclasses import dataclass, field
from typing import Literal

import aiosmtplib

from channels.base import (
    ChannelError,
    MisconfiguredError,
    Receipt,
    RejectedError,
    TemporaryError,
    UncertainError,
    UnreachableError,
)
from channels.email.addresses import normalise

_CONNECTIONS = 2
_LARGE = 256 * 1024
"""Bytes of a mail that is got ready beside the event loop."""
_ENHANCED = re.compile(r"\b[245]\.\d{1,3}\.\d{1,3}\b")  # RFC 3463
_QUEUE_ID = re.compile(
    r"\bqueued as ([\w.-]{1,80})|\bid=([\w.-]{1,80})|<([^<>\s]{1,120})>", re.IGNORECASE
)
_LONE_NEWLINE = re.compile(rb"\r\n|\r|\n")

_Stage = Literal["connect", "login", "sender", "recipient", "content"]

_STAGES: dict[_Stage, str] = {
    "connect": "E-posttjeneren tok ikke imot forbindelsen",
    "login": "E-posttjeneren godtok ikke påloggingen",
    "sender": "E-posttjeneren godtok ikke avsenderadressen vår",
    "recipient": "E-posttjeneren tok ikke imot mottakeren",
    "content": "E-posttjeneren tok ikke imot meldingen",
}


@dataclass(frozen=True, slots=True)
class SmarthostSettings:
    """Who carries our mail out. Times in seconds."""

    host: str = "127.0.0.1"
    port: int = 25
    tls: Literal["none", "starttls", "tls"] = "none"
    hostname: str = "localhost"
    """What we call ourselves in EHLO."""
    username: str = ""
    password: str = field(default="", repr=False)
    timeout: float = 30.0
    content_timeout: float = 600.0
    """For the answer to the content: ten minutes (RFC 5321 §4.5.3.2.6), else mail comes twice."""
    ca_file: str = ""
    """Certificates to trust beside those of the system."""
    idle: float = 45.0
    """How long an unused connection is kept."""


class Smarthost:
    """Sends mail through one relay."""

    def __init__(self, settings: SmarthostSettings) -> None:
        self.settings = settings
        self.fault = ""
        """One sentence while our own set-up is refused or nobody answers, else empty."""
        self._slots = asyncio.Semaphore(_CONNECTIONS)
        self._idle: list[tuple[aiosmtplib.SMTP, float]] = []
        self._tls: ssl.SSLContext | None = None

    async def send(self, mail_from: str, recipient: str, raw: bytes) -> Receipt:
        """Hand over one mail to one recipient. `mail_from` empty is the null sender.

        Raises `TemporaryError`, `RejectedError`, `MisconfiguredError`, or `UncertainError` when the
        answer to the content never came.
        """
        sender = _wire_address(mail_from) if mail_from else b""
        receiver = _wire_address(recipient)
        content = await asyncio.to_thread(_stuffed, raw) if len(raw) > _LARGE else _stuffed(raw)
        async with self._slots:
            try:
                return await self._send(sender, receiver, content)
            except MisconfiguredError as error:
                self.fault = str(error)
                raise

    async def close(self) -> None:
        """Say goodbye on the connections that are kept."""
        idle, self._idle = self._idle, []
        for client, _ in idle:
            await _quit(client)

    async def _send(self, sender: bytes, receiver: bytes, content: bytes) -> Receipt:
        client = await self._take_idle()
        if client is not None:
            try:
                await self._envelope(client, sender, receiver, len(content))
            except (aiosmtplib.SMTPServerDisconnected, aiosmtplib.SMTPTimeoutError):
                client.close()  # it had gone stale; nothing was handed over
                client = None
            except ChannelError as error:
                await self._reset(client)
                if client.is_connected or not isinstance(error, TemporaryError):
                    raise
                client = None  # 421: the server closed it
            except BaseException:
                client.close()
                raise
        if client is None:
            client = await self._connect()
            try:
                await self._envelope(client, sender, receiver, len(content))
            except ChannelError:
                await self._reset(client)
                raise
            except (aiosmtplib.SMTPException, OSError) as error:
                client.close()
                raise TemporaryError("E-posttjeneren brøt forbindelsen.") from error
            except BaseException:
                client.close()
                raise
        try:
            receipt = await self._content(client, content)
        except RejectedError:
            await self._reset(client)
            raise
        except BaseException:
            client.close()
            raise
        self.fault = ""
        self._keep(client)
        return receipt

    async def _connect(self) -> aiosmtplib.SMTP:
        settings = self.settings
        client = aiosmtplib.SMTP(
            hostname=settings.host,
            port=settings.port,
            local_hostname=settings.hostname,
            timeout=settings.timeout,
            use_tls=settings.tls == "tls",
            start_tls=settings.tls == "starttls",
            tls_context=self._context() if settings.tls != "none" else None,
        )
        try:
            await client.connect()
            await client.ehlo()
            if settings.username:
                await self._login(client)
        except BaseException as error:
            client.close()
            fault = error if isinstance(error, ChannelError) else _connect_fault(error)
            if fault is None:
                raise
            self.fault = str(fault)
            raise fault from None  # the library's error may hold what was sent
        return client

    async def _login(self, client: aiosmtplib.SMTP) -> None:
        try:
            await client.login(self.settings.username, self.settings.password)
        except aiosmtplib.SMTPResponseException as error:
            raise _refusal("login", error.code, error.message, MisconfiguredError) from None
        except (aiosmtplib.SMTPServerDisconnected, aiosmtplib.SMTPTimeoutError):
            raise
        except (aiosmtplib.SMTPException, ValueError):
            raise MisconfiguredError(
                "E-posttjeneren tilbyr ingen pålogging vi kan bruke."
            ) from None

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
            self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
            if self.settings.ca_file:
                try:
                    self._tls.load_verify_locations(cafile=self.settings.ca_file)
                except (OSError, ssl.SSLError) as error:
                    self._tls = None
                    raise MisconfiguredError("Filen med sertifikater kan ikke leses.") from error
        return self._tls

    async def _envelope(
        self, client: aiosmtplib.SMTP, sender: bytes, receiver: bytes, size: int
    ) -> None:
        """MAIL and RCPT. A refusal leaves the connection ready for the next mail."""
        options = [b"SIZE=%d" % size] if client.supports_extension("size") else []
        reply = await client.execute_command(b"MAIL", b"FROM:<" + sender + b">", *options)
        if reply.code == 552:  # RFC 1870 §6.1: this mail is too large, nothing else is wrong
            raise _refusal("content", reply.code, reply.message)
        if reply.code != 250:
            raise _refusal("sender", reply.code, reply.message, MisconfiguredError)
        reply = await client.execute_command(b"RCPT", b"TO:<" + receiver + b">")
        if reply.code in (530, 535):  # RFC 4954 §6: log in first
            raise _refusal("login", reply.code, reply.message, MisconfiguredError)
        if reply.code not in (250, 251):
            raise _refusal("recipient", reply.code, reply.message)

    async def _content(self, client: aiosmtplib.SMTP, content: bytes) -> Receipt:
        """DATA. The lone dot goes by itself: before it nobody can have taken the mail."""
        try:
            reply = await client.execute_command(b"DATA")
            if reply.code != 354:
                raise _refusal("content", reply.code, reply.message)
            protocol = client.protocol
            if protocol is None:
                raise TemporaryError("E-posttjeneren brøt forbindelsen.")
            protocol.write(content)
            await asyncio.wait_for(protocol._drain_helper(), self.settings.content_timeout)
            protocol.write(b".\r\n")
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            raise TemporaryError("E-posttjeneren brøt forbindelsen.") from error
        try:
            answer = await protocol.read_response(timeout=self.settings.content_timeout)
        except (aiosmtplib.SMTPException, OSError) as error:
            raise UncertainError(
                "Forbindelsen ble brutt før e-posttjeneren hadde svart. Meldingen kan være sendt."
            ) from error
        if answer.code != 250:
            if not 400 <= answer.code <= 599:
                raise UncertainError("E-posttjeneren svarte uforståelig. Meldingen kan være sendt.")
            raise _refusal("content", answer.code, answer.message)
        queue_id = _QUEUE_ID.search(answer.message)
        return Receipt(
            provider_id=next(filter(None, queue_id.groups()), "") if queue_id else "",
            detail=f"Tatt imot av e-posttjeneren ({_codes(answer.code, answer.message)}).",
        )

    async def _take_idle(self) -> aiosmtplib.SMTP | None:
        now = asyncio.get_running_loop().time()
        while self._idle:
            client, since = self._idle.pop()
            if client.is_connected and now - since < self.settings.idle:
                return client
            client.close()
        return None

    async def _reset(self, client: aiosmtplib.SMTP) -> None:
        """Make the connection ready for the next mail after a refusal; keep it if it answers."""
        try:
            if client.is_connected:
                await client.rset()
                self._keep(client)
        except (aiosmtplib.SMTPException, OSError):
            client.close()

    def _keep(self, client: aiosmtplib.SMTP) -> None:
        if client.is_connected:
            self._idle.append((client, asyncio.get_running_loop().time()))


def _connect_fault(error: BaseException) -> ChannelError | None:
    """What a failed connection means; None when it is no failure of the connection."""
    if isinstance(error, aiosmtplib.SMTPResponseException):  # greeting, EHLO, STARTTLS
        return _refusal("connect", error.code, error.message, MisconfiguredError)
    if isinstance(error, ssl.SSLError) or isinstance(error.__cause__, ssl.SSLError):
        return MisconfiguredError("Kryptert forbindelse til e-posttjeneren lot seg ikke opprette.")
    if isinstance(error, OSError):
        return UnreachableError("E-posttjeneren svarer ikke.")
    if isinstance(error, aiosmtplib.SMTPException):
        return MisconfiguredError("E-posttjeneren tilbyr ikke kryptert forbindelse.")
    return None


def _wire_address(address: str) -> bytes:
    clean = normalise(address)
    local, _, domain = clean.rpartition("@")
    try:
        return local.encode("ascii") + b"@" + domain.encode("idna") if clean else _unusable()
    except UnicodeError:
        return _unusable()


def _unusable() -> bytes:
    raise RejectedError("Adressen kan ikke brukes for e-post.")


def _stuffed(raw: bytes) -> bytes:
    """CRLF newlines, dots doubled (RFC 5321 §4.5.2), a newline at the end."""
    pairs = raw.count(b"\r\n")
    if raw.count(b"\n") != pairs or raw.count(b"\r") != pairs:
        raw = _LONE_NEWLINE.sub(b"\r\n", raw)
    if not raw.endswith(b"\r\n"):
        raw += b"\r\n"
    return (b"\r\n" + raw).replace(b"\r\n.", b"\r\n..")[2:]


def _codes(code: int, message: str) -> str:
    enhanced = _ENHANCED.search(message)
    return f"{code} {enhanced[0]}" if enhanced else str(code)


def _refusal(
    stage: _Stage, code: int, message: str, permanent: type[ChannelError] = RejectedError
) -> ChannelError:
    """The error for a reply, told with its codes alone: the server's own words may name people."""
    kind = permanent if 500 <= code <= 599 else TemporaryError
    return kind(f"{_STAGES[stage]} ({_codes(code, message)}).")


async def _quit(client: aiosmtplib.SMTP) -> None:
    try:
        await client.quit()
    except (aiosmtplib.SMTPException, OSError):
        pass
    finally:
        client.close()
