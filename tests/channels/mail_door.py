"""A mail door on a free port, and a client that says exactly what it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_network

from channels.base import Disposition, RawArrival
from channels.email.addresses import OwnAddresses
from channels.email.server import EmailServer, ListenSettings

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
OWN = OwnAddresses(
    addresses=frozenset(
        {"post@sorum.example", "barnehage@sorum.example", "vei+drift@sorum.example"}
    ),
    domains=frozenset({"sorum.example"}),
)
MAIL = b"From: kari@eksempel.no\r\nTo: post@sorum.example\r\nSubject: Hei\r\n\r\nHei\r\n"

TRUSTED = (ip_network("127.0.0.0/8"),)


@dataclass
class Door:
    """A listening server and what it brought in."""

    server: EmailServer
    arrivals: list[RawArrival] = field(default_factory=list)
    receive: Callable[[RawArrival], Awaitable[Disposition]] | None = None

    @property
    def contents(self) -> list[bytes]:
        """What came in, from memory or file; only while the door is open."""
        return [one.spooled.path.read_bytes() if one.spooled else one.raw for one in self.arrivals]

    async def __call__(self, arrival: RawArrival) -> Disposition:
        if self.receive is not None:
            return await self.receive(arrival)
        self.arrivals.append(arrival)
        return Disposition.ACCEPTED


@asynccontextmanager
async def open_door(
    free_space: Callable[[], int] | None = None, **options: object
) -> AsyncIterator[Door]:
    limits = ListenSettings(**{"port": 0, "hostname": "mx.sorum.example", **options})  # type: ignore[arg-type]
    door = Door(None)  # type: ignore[arg-type]
    door.server = EmailServer(limits, OWN.verdict, door, lambda: NOW, free_space)
    await door.server.start()
    try:
        yield door
    finally:
        await door.server.stop(grace=2)


class Client:
    """A client that says exactly what it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def read(self, within: float = 5) -> str:
        """One reply, all of its lines."""
        lines = []
        while True:
            line = (await asyncio.wait_for(self.reader.readline(), within)).decode()
            lines.append(line)
            if line[3:4] != "-":
                return "".join(lines).strip()

    async def say(self, command: str | bytes) -> str:
        """Send a line, return the reply."""
        data = command.encode() if isinstance(command, str) else command
        self.writer.write(data + b"\r\n")
        return await self.read()

    async def greet(self, hello: str = "EHLO") -> Client:
        await self.read()
        assert (await self.say(f"{hello} client.example")).startswith("250")
        return self

    async def begin(self, *recipients: str, sender: str = "kari@eksempel.no") -> None:
        """As far as the 354."""
        assert (await self.say(f"MAIL FROM:<{sender}>")).startswith("250")
        for recipient in recipients or ("post@sorum.example",):
            assert (await self.say(f"RCPT TO:<{recipient}>")).startswith("250")
        assert (await self.say("DATA")).startswith("354")

    async def deliver(self, content: bytes = MAIL, *recipients: str) -> str:
        await self.begin(*recipients)
        return await self.say(content + b".")

    async def at_end(self, within: float = 5) -> bool:
        return await asyncio.wait_for(self.reader.read(1), within) == b""


@asynccontextmanager
async def connect(door: Door, port: int | None = None) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port or door.server.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
