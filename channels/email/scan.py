"""Virus and spam scanners beside us: clamd (INSTREAM) and rspamd (HTTP), both optional.

They look at a mail after it was accepted and before it is read. Whatever is wrong with a scanner,
the mail goes on: it is marked as not scanned. One that hangs is left alone until it answers a call
that costs nothing.
"""

from __future__ import annotations

import asyncio
import re
import struct
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

import orjson
import structlog

from channels.email.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from channels.base import Envelope

log = structlog.get_logger(__name__)

PATIENCE = 5.0
"""Seconds that one scanner gets for one mail."""
AT_ONCE = 8
"""Mails that are scanned at the same time."""
SILENCES = 3
"""Mails in a row that a scanner does not answer about in time before it is left alone: one mail may
be hard to look at, and must not leave all others unscanned."""
PROBE_EVERY = 2.0
"""Seconds between two calls to a scanner that is left alone."""
PROBE_PATIENCE = 1.0
"""Seconds that it gets to answer one."""
_CHUNK = 256 * 1024
_ANSWER = 1024 * 1024
"""Bytes of an answer that are read at most."""
_SPAM_ACTIONS = frozenset(("add header", "rewrite subject", "reject", "quarantine", "discard"))
"""What rspamd would have done to a mail that it holds for spam."""
_NAME = re.compile(r"[^\w.:/+-]")


@dataclass
class _Circuit:
    """A circuit breaker before one scanner."""

    name: str
    ping: Callable[[], Awaitable[bool]]
    silences: int = 0
    """Mails in a row that it did not answer about in time."""
    probe_at: float = 0.0
    """When it may be called again; other mails do not wait for the one that calls."""

    async def may_ask(self) -> bool:
        """Whether it is not left alone. One that is gets a call now and then."""
        if self.silences < SILENCES:
            return True
        if monotonic() < self.probe_at:
            return False
        return await self.answers()

    async def answers(self) -> bool:
        """Call it; one that answers is asked again."""
        self.probe_at = monotonic() + PROBE_EVERY
        try:
            async with asyncio.timeout(PROBE_PATIENCE):
                answered = await self.ping()
        except (OSError, EOFError, ValueError):
            return False
        if answered and self.silences >= SILENCES:
            log.info("scanner.back", scanner=self.name)
            self.silences = 0
        return answered

    def note(self, *, silent: bool) -> None:
        """Whether it was silent about a mail."""
        self.silences = self.silences + 1 if silent else 0
        if self.silences == SILENCES:
            self.probe_at = monotonic() + PROBE_EVERY
            log.warning("scanner.left_alone", scanner=self.name)


@dataclass
class Scanner:
    """The scanners of an installation.

    `clamd` is `host:port` or the path of a socket, `rspamd` is `host:port` or an http address;
    empty where there is none.
    """

    clamd: str = ""
    rspamd: str = ""
    patience: float = PATIENCE

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._clamd = _Circuit("clamd", lambda: _clamd_answers(self.clamd))
        self._rspamd = _Circuit("rspamd", lambda: _rspamd_answers(self.rspamd))

    async def scan(
        self, content: bytes | Path, envelope: Envelope, patience: float = 0.0
    ) -> Verdict:
        """Ask every scanner about one mail, given as bytes or as the file that holds it.

        With a `patience` of its own (seconds) nobody waits for it, and a silence is no sign that a
        scanner hangs. Never raises for a fault of a scanner, nor for a file that cannot be read.
        """
        async with self._slots:
            virus, spam = await asyncio.gather(
                self._ask(self._clamd, self.clamd, lambda: _clamd(self.clamd, content), patience),
                self._ask(
                    self._rspamd,
                    self.rspamd,
                    lambda: _rspamd(self.rspamd, content, envelope),
                    patience,
                ),
            )
        return Verdict(
            spam=spam == "spam",
            virus=virus or "",
            unscanned=virus is None or spam is None,
        )

    async def answers(self) -> bool:
        """Whether every scanner is there."""
        circuits = ((self._clamd, self.clamd), (self._rspamd, self.rspamd))
        return all(await asyncio.gather(*(one.answers() for one, address in circuits if address)))

    async def _ask(
        self,
        circuit: _Circuit,
        address: str,
        question: Callable[[], Awaitable[str]],
        patience: float,
    ) -> str | None:
        """The scanner's answer, empty when it found nothing; None when it gave none."""
        if not address:
            return ""
        if not await circuit.may_ask():
            return None
        answer: str | None = None
        silent = False
        try:
            async with asyncio.timeout(patience or self.patience):
                answer = await question()
        except (OSError, EOFError, ValueError) as error:
            silent = isinstance(error, TimeoutError)
            log.warning("scanner.failed", scanner=circuit.name, error=type(error).__name__)
        if not patience:
            circuit.note(silent=silent)
        return answer


async def _clamd_answers(address: str) -> bool:
    """`PING` as clamd(8) describes it."""
    async with _connected(address) as (reader, writer):
        writer.write(b"zPING\0")
        return (await reader.read(4096)).strip(b"\0\r\n ") == b"PONG"


async def _rspamd_answers(address: str) -> bool:
    """`/ping` of rspamd's workers."""
    url = _url(address)
    async with _connected(url.netloc) as (reader, writer):
        writer.write(f"GET /ping HTTP/1.0\r\nHost: {url.hostname}\r\n\r\n".encode())
        return _status(await _read_all(reader)) == b"200"


async def _clamd(address: str, content: bytes | Path) -> str:
    """The name of the virus that clamd finds; `INSTREAM` as clamd(8) describes it."""
    async with _connected(address) as (reader, writer):
        writer.write(b"zINSTREAM\0")
        async for chunk in _chunks(content):
            writer.write(struct.pack("!L", len(chunk)) + chunk)
            await writer.drain()
        writer.write(struct.pack("!L", 0))
        answer = (await reader.read(4096)).strip(b"\0\r\n ").decode("utf-8", "replace")
    if answer.endswith("FOUND"):
        return _NAME.sub("_", answer.partition(": ")[2].removesuffix("FOUND").strip())[:100] or "?"
    if answer.endswith("OK"):
        return ""
    raise ValueError("clamd did not scan it")


async def _rspamd(address: str, content: bytes | Path, envelope: Envelope) -> str:
    """`spam` when rspamd would have marked or refused the mail; its `/checkv2` over HTTP."""
    url = _url(address)
    size = await asyncio.to_thread(_size, content)
    lines = [
        # 1.0: the answer then ends with the connection, and comes in one piece.
        "POST /checkv2 HTTP/1.0",
        f"Host: {url.hostname}",
        f"Content-Length: {size}",
        *(f"{name}: {value}" for name, value in _told(envelope)),
    ]
    async with _connected(url.netloc) as (reader, writer):
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "replace"))
        async for chunk in _chunks(content):
            writer.write(chunk)
            await writer.drain()
        answer = await _read_all(reader)
    if _status(answer) != b"200":
        raise ValueError("rspamd did not scan it")
    found = orjson.loads(answer.partition(b"\r\n\r\n")[2])
    action = found.get("action") if isinstance(found, dict) else None
    if not isinstance(action, str):
        raise ValueError("rspamd gave no action")
    return "spam" if action in _SPAM_ACTIONS else ""


def _url(address: str) -> SplitResult:
    return urlsplit(address if "//" in address else f"//{address}")


def _status(answer: bytes) -> bytes:
    """The status code of a whole HTTP answer."""
    return b"".join(answer.partition(b"\r\n")[0].split(b" ", 2)[1:2])


def _told(envelope: Envelope) -> list[tuple[str, str]]:
    """What rspamd wants to know of the transport."""
    recipients = envelope.get("recipients")
    pairs = [
        ("IP", envelope.get("peer")),
        ("Helo", envelope.get("helo")),
        ("From", envelope.get("mail_from")),
        *(("Rcpt", one) for one in (recipients if isinstance(recipients, list) else ())),
    ]
    return [
        (name, "".join(c for c in value if c.isprintable())[:1000])
        for name, value in pairs
        if isinstance(value, str) and value
    ]


@asynccontextmanager
async def _connected(
    address: str,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    if address.startswith("/"):
        reader, writer = await asyncio.open_unix_connection(address)
    else:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    try:
        yield reader, writer
    finally:
        writer.close()


async def _chunks(content: bytes | Path) -> AsyncIterator[bytes]:
    if isinstance(content, bytes):
        for start in range(0, len(content), _CHUNK):
            yield content[start : start + _CHUNK]
        return
    file = await asyncio.to_thread(content.open, "rb")
    try:
        while chunk := await asyncio.to_thread(file.read, _CHUNK):
            yield chunk
    finally:
        file.close()


def _size(content: bytes | Path) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


async def _read_all(reader: asyncio.StreamReader) -> bytes:
    answer = b""
    while piece := await reader.read(65536):
        answer += piece
        if len(answer) > _ANSWER:
            raise ValueError("the answer is too long")
    return answer
