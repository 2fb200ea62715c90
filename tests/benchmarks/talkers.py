"""Residents in a chat and those who answer them, in a process of its own.

Each resident does what the page of the chat does: one stream, messages, signs of typing, read
marks. At the desk a stream is open for each of them, and every so many messages are answered. All
latencies are taken by one clock, from the moment a message was due to be sent.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import re
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

import httptools
import orjson

if TYPE_CHECKING:
    from collections.abc import Callable

_OPENING = 20.0
"""Seconds over which the conversations are begun."""
_TYPING = 3
"""Messages with which a sign of typing goes, every so many: the page gives one in 3 s."""
_SETTLE = 10.0
"""Seconds that the last messages may take."""
_WORDS = (
    "Hei, jeg lurer på når dere kommer og tømmer den brune dunken i gata vår. Den skulle vært "
    "tømt på mandag, men ingen har vært her ennå"
)
_NUMBERED = re.compile(rb"\[(\w+-\d+-\d+)\]")


@dataclass(frozen=True)
class Plan:
    """How many talk, for how long (seconds), at one message a second each; every `answered`th is
    answered with the token."""

    port: int
    token: str
    talks: int = 200
    seconds: int = 60
    answered: int = 10


@dataclass
class Heard:
    """What the talkers saw. Times are milliseconds."""

    sent: int = 0
    replied: int = 0
    posted: list[float] = field(default_factory=list)
    """From a message to its answer that it is kept."""
    to_staff: list[float] = field(default_factory=list)
    to_resident: list[float] = field(default_factory=list)
    lost: int = 0
    """Kept by the service, but not seen on one of the two sides within some seconds."""
    doubled: int = 0
    """Seen more than once on one of the two sides."""
    refused: Counter[int] = field(default_factory=Counter)
    """Other statuses than success."""


class Talkers:
    """A process whose conversations are under way when the block begins; `talk` starts the
    clock."""

    def __init__(self, plan: Plan) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_run, args=(theirs, plan), daemon=True)

    def __enter__(self) -> Talkers:
        self._process.start()
        self._pipe.recv()
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is not None:
            self._process.kill()
        self._process.join()

    def talk(self) -> Heard:
        """Let all of them talk, and return what was seen."""
        self._pipe.send(None)
        heard: Heard = self._pipe.recv()
        return heard


class _Line(asyncio.Protocol):
    """One kept connection, opened anew after a pause; requests go one after the other."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._turn = asyncio.Lock()
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[tuple[int, str, bytes]] | None = None
        self._cookie = ""
        self._body = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError())

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"set-cookie":
            self._cookie = value.decode().partition(";")[0]

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        answer, self._answer = self._answer, None
        body, self._body = self._body, b""
        if answer is not None and not answer.done():
            answer.set_result((self._parser.get_status_code(), self._cookie, body))
        self._parser = httptools.HttpResponseParser(self)

    async def post(self, path: str, headers: str, body: object) -> tuple[int, str, bytes]:
        """Status, cookie that was set, body."""
        loop = asyncio.get_running_loop()
        async with self._turn:
            if self._transport is None or self._transport.is_closing():
                await loop.create_connection(lambda: self, "127.0.0.1", self._port)
            self._answer = loop.create_future()
            content = orjson.dumps(body)
            self._transport.write(
                f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                f"{headers}Content-Length: {len(content)}\r\n\r\n".encode()
                + content
            )
            return await self._answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class _Stream(asyncio.Protocol):
    """One open stream of events, each handed on as (name, data)."""

    def __init__(self, path: str, headers: str, hear: Callable[[bytes, bytes], None]) -> None:
        self._request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode()
        self._hear = hear
        self._parser = httptools.HttpResponseParser(self)
        self._text = b""
        self._transport: Any = None
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        *frames, self._text = (self._text + body).split(b"\n\n")
        for frame in frames:
            name = data = b""
            for line in frame.split(b"\n"):
                if line.startswith(b"event: "):
                    name = line[7:]
                elif line.startswith(b"data: "):
                    data = line[6:]
            if name:
                self._hear(name, data)

    def close(self) -> None:
        self._transport.close()


class _Talk:
    """One resident, and whoever answers them."""

    def __init__(self, number: int, plan: Plan, heard: Heard) -> None:
        self._number = number
        self._plan = plan
        self._heard = heard
        self._cookie = ""
        self._key = ""
        self._ref: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._due: dict[str, float] = {}
        self._kept: set[str] = set()
        self._seen: Counter[tuple[str, str]] = Counter()
        self._lines = [_Line(plan.port) for _ in range(3)]
        self._streams: list[_Stream] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        """Open the conversation and its streams; the first message is in the queue."""
        status, cookie, body = await self._lines[0].post("/chat/conversations", "", {})
        assert status == 201, (status, body)
        self._key = orjson.loads(body)["id"]
        self._cookie = f"Cookie: {cookie}\r\n"
        path = f"/chat/conversations/{self._key}"
        await self._listen(f"{path}/events", self._cookie, self._resident_hears)
        await self._say(f"r-{self._number}-0", time.perf_counter())
        ref = await asyncio.wait_for(self._ref, _SETTLE)
        await self._listen(f"/api/inquiries/{ref}/chat/events", self._staff, self._staff_hear)

    async def talk(self, began: float, phase: float) -> None:
        """One message a second, each when it is due, whatever became of those before."""
        for beat in range(1, self._plan.seconds + 1):
            due = began + phase + beat
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            name = f"r-{self._number}-{beat}"
            self._later(self._say(name, due))
            if beat % _TYPING == self._number % _TYPING:
                self._later(self._sign("typing", {}))
            if (beat + self._number) % self._plan.answered == 0:
                self._later(self._answer(f"s-{self._number}-{beat}", time.perf_counter()))

    async def end(self) -> None:
        """Wait for the last messages, count, hang up."""
        await asyncio.gather(*self._tasks)
        deadline = time.perf_counter() + _SETTLE
        sides = ("resident", "staff")
        while time.perf_counter() < deadline and not all(  # noqa: ASYNC110 - the streams tell
            self._seen[name, side] for name in self._kept for side in sides
        ):
            await asyncio.sleep(0.05)
        counts = [self._seen[name, side] for name in self._kept for side in sides]
        self._heard.lost += sum(count == 0 for count in counts)
        self._heard.doubled += sum(count > 1 for count in counts)
        for one in (*self._lines, *self._streams):
            one.close()

    @property
    def _staff(self) -> str:
        return f"Authorization: Bearer {self._plan.token}\r\n"

    async def _listen(self, path: str, headers: str, hear: Callable[[bytes, bytes], None]) -> None:
        loop = asyncio.get_running_loop()
        _, stream = await loop.create_connection(
            lambda: _Stream(path, headers, hear), "127.0.0.1", self._plan.port
        )
        self._streams.append(stream)

    def _later(self, job: Any) -> None:
        self._tasks.append(asyncio.create_task(job))

    async def _say(self, name: str, due: float) -> None:
        self._due[name] = due
        body = {"client_msg_id": str(uuid.uuid4()), "text": f"{_WORDS} [{name}]"}
        path = f"/chat/conversations/{self._key}/messages"
        status, _, _ = await self._lines[0].post(path, self._cookie, body)
        self._count(name, status, due)

    async def _answer(self, name: str, due: float) -> None:
        self._due[name] = due
        path = f"/api/inquiries/{self._ref.result()}/reply"
        body = {"text": f"{_WORDS} [{name}]"}
        status, _, _ = await self._lines[1].post(path, self._staff, body)
        self._count(name, status, None)

    async def _sign(self, verb: str, body: object) -> None:
        path = f"/chat/conversations/{self._key}/{verb}"
        status, _, _ = await self._lines[2].post(path, self._cookie, body)
        if status != 204:
            self._heard.refused[status] += 1

    def _count(self, name: str, status: int, due: float | None) -> None:
        if status not in {200, 201}:
            self._heard.refused[status] += 1
            return
        self._kept.add(name)
        if name.endswith("-0"):
            return
        if due is None:
            self._heard.replied += 1
        else:
            self._heard.sent += 1
            self._heard.posted.append(1000 * (time.perf_counter() - due))

    def _resident_hears(self, name: bytes, data: bytes) -> None:
        if name == b"standing" and not self._ref.done():
            ref = orjson.loads(data)["ref"]
            if ref:
                self._ref.set_result(ref)
        said = self._said(name, data, "resident")
        if said.startswith("s-"):
            self._heard.to_resident.append(1000 * (time.perf_counter() - self._due[said]))
            self._later(self._sign("read", {"message_id": orjson.loads(data)["id"]}))

    def _staff_hear(self, name: bytes, data: bytes) -> None:
        said = self._said(name, data, "staff")
        if said.startswith("r-") and not said.endswith("-0"):
            self._heard.to_staff.append(1000 * (time.perf_counter() - self._due[said]))

    def _said(self, name: bytes, data: bytes, side: str) -> str:
        found = _NUMBERED.search(data) if name == b"message" else None
        if found is None:
            return ""
        said = found[1].decode()
        self._seen[said, side] += 1
        return said


def _run(pipe: Any, plan: Plan) -> None:
    import gc

    import uvloop

    gc.disable()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        heard = Heard()
        talks = runner.run(_begin(plan, heard))
        pipe.send(None)
        # Pings and standings go on meanwhile, and wait in the sockets.
        pipe.recv()
        runner.run(_talk(talks))
        pipe.send(heard)


async def _begin(plan: Plan, heard: Heard) -> list[_Talk]:
    async def later(talk: _Talk, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await talk.begin()

    talks = [_Talk(number, plan, heard) for number in range(plan.talks)]
    pause = _OPENING / plan.talks
    await asyncio.gather(*(later(talk, pause * n) for n, talk in enumerate(talks)))
    return talks


async def _talk(talks: list[_Talk]) -> None:
    random = Random(1)  # the same moments in every run
    began = time.perf_counter()
    await asyncio.gather(*(talk.talk(began, random.random()) for talk in talks))
    await asyncio.gather(*(talk.end() for talk in talks))
