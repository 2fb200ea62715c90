"""Virus and spam scanners beside us: clamd (INSTREAM) and rspamd (HTTP), both optional.

They look at a mail after it was accepted and before it is read. Whatever is wrong with a scanner,
the mail goes on: it is marked as not scanned.
"""

from __future__ import annotations

import asyncio
import re
import struct
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

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
PAUSE = 30.0
"""Seconds that a scanner is left alone after it did not answer in time."""
_CHUNK = 256 * 1024
_ANSWER = 1024 * 1024
"""Bytes of an answer that are read at most."""
_SPAM_ACTIONS = frozenset(("add header", "rewrite subject", "reject", "quarantine", "discard"))
"""What rspamd would have done to a mail that it holds for spam."""
_NAME = re.compile(r"[^\w.:/+-]")


@dataclass
class Scanner:
    """The scanners of an installation.

    `clamd` is `host:port` or the path of a socket, `rspamd` is `host:port` or an http address;
    empty where there is none.
    """

    clamd: str = ""
    rspamd: str = ""
    patience: float = PATIENCE
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    _alone_until: dict[str, float] = field(default_factory=dict)

    async def scan(self, content: bytes | Path, envelope: Envelope) -> Verdict:
        """Ask every scanner about one mail, given as bytes or as the file that holds it.

        Never raises for a fault of a scanner, nor for a file that cannot be read.
        """
        async with self._slots:
            virus, spam = await asyncio.gather(
                self._ask("clamd", self.clamd, lambda: _clamd(self.clamd, content)),
                self._ask("rspamd", self.rspamd, lambda: _rspamd(self.rspamd, content, envelope)),
            )
        return Verdict(
            spam=spam == "spam",
            virus=virus or "",
            unscanned=virus is None or spam is None,
        )

    async def _ask(
        self, name: str, address: str, question: Callable[[], Awaitable[str]]
    ) -> str | None:
        """The scanner's answer, empty when it found nothing; None when it gave none."""
        if not address:
            return ""
        if self._alone_until.get(name, 0.0) > monotonic():
            return None
        try:
            async with asyncio.timeout(self.patience):
                return await question()
        except (OSError, EOFError, ValueError) as error:
            if isinstance(error, TimeoutError):  # one that hangs would hold up every mail
                self._alone_until[name] = monotonic() + PAUSE
            log.warning("scanner.failed", scanner=name, error=type(error).__name__)
            return None


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
    url = urlsplit(address if "//" in address else f"//{address}")
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
    head, _, body = answer.partition(b"\r\n\r\n")
    if head.split(b" ", 2)[1:2] != [b"200"]:
        raise ValueError("rspamd did not scan it")
    found = orjson.loads(body)
    action = found.get("action") if isinstance(found, dict) else None
    if not isinstance(action, str):
        raise ValueError("rspamd gave no action")
    return "spam" if action in _SPAM_ACTIONS else ""


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
