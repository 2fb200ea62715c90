"""Fifty people on the telephone, in a process of its own: they walk through our TwiML, as
fast as people or faster, text, and are what Twilio's REST API answers for.

Twilio's proxies keep their connections, so each caller has one. Requests are signed before their
time is taken.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import itertools
import multiprocessing
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit
from xml.etree import ElementTree

from tests.twilio_double import ACCOUNT_SID, AUTH_TOKEN

SWITCHBOARD, DEPARTMENT, PERSON = "+4763869000", "+4763869010", "+4763869101"
TEXTS = "+4759440000"
PEOPLE = (3.0, 11.0)
"""Seconds between what somebody hears and what they do then."""
HASTE = (0.4, 1.6)
"""The same for a crowd that is seven times as fast."""


@dataclass(frozen=True)
class Crowd:
    """Who calls whom, for how long."""

    port: int
    """Of the service."""
    api_port: int
    """Where Twilio's REST API is looked for."""
    token: str
    """Of an operator at the API."""
    operators: tuple[str, ...]
    seconds: float
    callers: int = 50
    texts: float = 5.0
    """A second."""
    pause: tuple[float, float] = HASTE


@dataclass
class Heard:
    """How long answers took, in milliseconds, by the last part of the webhook's address; `sms` and
    `sms-status` for texts."""

    answers: dict[str, list[float]] = field(default_factory=dict)
    stories: int = 0
    taken: int = 0
    """Calls that an operator has taken."""
    seconds: float = 0.0
    started: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def of(self, *kinds: str) -> list[float]:
        """The answers to some kinds of webhooks."""
        return [one for kind in kinds for one in self.answers.get(kind, ())]

    @property
    def voice(self) -> list[float]:
        """The answers to all webhooks of calls."""
        return self.of(*(kind for kind in self.answers if not kind.startswith("sms")))


class Telephones:
    """A process whose people are ready when the block begins; `call` starts the clock."""

    def __init__(
        self, crowd: Crowd, run: Callable[[Crowd], Awaitable[Heard]] | None = None
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        target = run or play
        self._process = context.Process(target=_begin, args=(theirs, crowd, target), daemon=True)

    def __enter__(self) -> Telephones:
        self._process.start()
        self._pipe.recv()
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is not None:
            self._process.kill()
        self._process.join()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid or 0

    def call(self) -> Heard:
        """Have everybody call, and wait for the end."""
        self._pipe.send(None)
        heard: Heard = self._pipe.recv()
        return heard


def _begin(pipe: Any, crowd: Crowd, run: Callable[[Crowd], Awaitable[Heard]]) -> None:
    import gc

    import uvloop

    gc.disable()
    pipe.send(None)
    pipe.recv()

    async def main() -> Heard:
        return await run(crowd)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        pipe.send(runner.run(main()))


def signature(url: str, form: dict[str, str]) -> str:
    """X-Twilio-Signature (twilio.com/docs/usage/security)."""
    signed = url + "".join(f"{name}{form[name]}" for name in sorted(form))
    digest = hmac.new(AUTH_TOKEN.encode(), signed.encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode()


class Line:
    """A connection to the service that is kept."""

    def __init__(self, crowd: Crowd, heard: Heard) -> None:
        self._crowd, self._heard = crowd, heard
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def webhook(self, url: str, form: dict[str, str], kind: str = "") -> str:
        """Send a signed webhook; what is answered."""
        form = {"AccountSid": ACCOUNT_SID, "ApiVersion": "2010-04-01", **form}
        parts = urlsplit(url)
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        headers = f"X-Twilio-Signature: {signature(url, form)}\r\n"
        headers += "Content-Type: application/x-www-form-urlencoded; charset=UTF-8\r\n"
        status, body, seconds = await self._post(path, headers, urlencode(form).encode())
        kind = kind or parts.path.rpartition("/")[2]
        self._heard.answers.setdefault(kind, []).append(seconds * 1000)
        if status != 200:
            self._heard.wrong.append(f"{kind}: {status}")
        return body.decode()

    async def api(self, path: str, body: bytes) -> int:
        """Ask the API as an operator; the status."""
        headers = f"Authorization: Bearer {self._crowd.token}\r\nContent-Type: application/json\r\n"
        return (await self._post(path, headers, body))[0]

    async def _post(self, path: str, headers: str, body: bytes) -> tuple[int, bytes, float]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._crowd.port)
        reader, writer = self._streams
        request = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._crowd.port}\r\n{headers}"
        began = time.perf_counter()
        writer.write(f"{request}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        content = await reader.readexactly(length)
        return int(head[9:12]), content, time.perf_counter() - began

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()


@dataclass(eq=False)
class _Caller:
    """Somebody on the line."""

    sid: str
    number: str
    line: str
    sent_to: str = ""
    over: bool = False
    sent: asyncio.Event = field(default_factory=asyncio.Event)


class _Play:
    """All that happens within the time."""

    def __init__(self, crowd: Crowd) -> None:
        self.crowd, self.heard = crowd, Heard()
        self.chance = random.Random(1)
        self.callers: dict[str, _Caller] = {}
        self.run = secrets.token_hex(8)
        self.count = itertools.count(1)
        self.numbers = itertools.count(secrets.randbelow(10**6) * 10)
        self.end = 0.0
        self.jobs: set[asyncio.Task[None]] = set()
        self.free = list(crowd.operators)

    def begin(self, job: Awaitable[None]) -> None:
        task = asyncio.ensure_future(job)
        self.jobs.add(task)
        task.add_done_callback(self.jobs.discard)

    def sid(self, kind: str) -> str:
        return f"{kind}{self.run}{next(self.count):016x}"

    @property
    def hooks(self) -> str:
        return f"http://127.0.0.1:{self.crowd.port}/hooks"

    async def pause(self, caller: _Caller) -> None:
        """Time passes, unless the call is sent somewhere."""
        try:
            await asyncio.wait_for(caller.sent.wait(), self.chance.uniform(*self.crowd.pause))
        except TimeoutError:
            return

    async def telephone(self, position: int) -> None:
        """Somebody calls, and then the next one, on the same connection."""
        line = Line(self.crowd, self.heard)
        await asyncio.sleep(self.crowd.pause[1] * position / self.crowd.callers)
        while time.monotonic() < self.end:
            await self.story(line)
        line.close()

    async def story(self, line: Line) -> None:
        to = self.chance.choice([SWITCHBOARD] * 5 + [DEPARTMENT, DEPARTMENT, PERSON, PERSON])
        number = f"+479{next(self.numbers):07d}"
        caller = _Caller(self.sid("CA"), number, to)
        self.callers[caller.sid] = caller

        async def tell(url: str, kind: str = "", **form: str) -> str:
            fields = {"CallSid": caller.sid, "From": caller.number, "To": caller.line}
            fields |= {"Direction": "inbound", "CallStatus": "in-progress", "CallerCountry": "NO"}
            return await line.webhook(url, fields | form, kind)

        voice = f"{self.hooks}/phone/twilio"
        document = await tell(f"{voice}/voice", CallStatus="ringing")
        for _ in range(25):
            await self.pause(caller)
            if caller.sent.is_set():
                caller.sent.clear()
                document = await tell(caller.sent_to)
                continue
            following = await self.follow(caller, document, tell)
            if not following or time.monotonic() > self.end:
                break
            document = following
        caller.over = True
        await tell(f"{voice}/status", CallStatus="completed", CallDuration="30")
        self.heard.stories += 1
        del self.callers[caller.sid]

    async def follow(self, caller: _Caller, document: str, tell: Any) -> str:
        """Do what a document says; nothing for whoever hangs up."""
        root = ElementTree.fromstring(document)
        verbs = {verb.tag: verb for verb in root}
        if "Enqueue" in verbs:
            return await self.wait(caller, verbs["Enqueue"], tell)
        if "Gather" in verbs:
            return str(await tell(verbs["Gather"].attrib["action"], Digits="1"))
        dial = verbs.get("Dial")
        if dial is None:
            return ""  # a message is for people
        if dial.find("Conference") is not None:
            await self.pause(caller)
            await self.pause(caller)
            return "" if not caller.sent.is_set() else document
        numbers = list(dial.iter("Number"))
        if self.chance.random() < 0.6 and await self.accepts(caller, numbers[0]):
            await self.pause(caller)
            return str(
                await tell(dial.attrib["action"], DialCallStatus="completed", DialBridged="true")
            )
        return str(
            await tell(dial.attrib["action"], DialCallStatus="no-answer", DialBridged="false")
        )

    async def accepts(self, caller: _Caller, number: ElementTree.Element) -> bool:
        if "url" not in number.attrib:
            return True
        line = Line(self.crowd, self.heard)
        leg = {"CallSid": self.sid("CA"), "ParentCallSid": caller.sid, "CallStatus": "in-progress"}
        leg |= {"From": caller.number, "To": str(number.text), "Direction": "outbound-dial"}
        asked = ElementTree.fromstring(await line.webhook(number.attrib["url"], leg)).find("Gather")
        taken = asked is not None and "<Hangup" not in await line.webhook(
            asked.attrib["action"], leg | {"Digits": "1"}
        )
        line.close()
        return taken

    async def wait(self, caller: _Caller, queue: ElementTree.Element, tell: Any) -> str:
        """In the queue: asked again and again, until an operator comes or patience ends."""
        url, action = queue.attrib["waitUrl"], queue.attrib["action"]
        patience = self.chance.randint(3, 12)
        for turn in range(patience):
            document = await tell(url, QueuePosition="1", QueueTime=str(turn), CurrentQueueSize="9")
            await self.pause(caller)
            if caller.sent.is_set():
                await tell(action, QueueResult="redirected", QueueTime=str(turn))
                return str(document)
            if time.monotonic() > self.end:
                break
            if turn == 1 and self.free:
                self.begin(self.take(caller, self.free.pop(), url))
        if self.chance.random() < 0.3 and "<Gather" in document:
            await tell(url, Digits="1", QueueTime=str(patience))
            return str(await tell(action, QueueResult="leave", QueueTime=str(patience)))
        await tell(action, QueueResult="hangup", QueueTime=str(patience), CallStatus="completed")
        return ""

    async def take(self, caller: _Caller, operator: str, url: str) -> None:
        """An operator takes a waiting call, over the API."""
        number = dict(parse_qsl(urlsplit(url).query))["c"]
        line = Line(self.crowd, self.heard)
        status = await line.api(f"/api/calls/{number}/take", b'{"person":"%s"}' % operator.encode())
        self.heard.taken += status == 200
        line.close()
        await asyncio.sleep(self.crowd.pause[1])
        self.free.append(operator)

    async def text(self) -> None:
        """People who text, each once."""
        line = Line(self.crowd, self.heard)
        began = time.monotonic()
        for number in itertools.count():
            due = began + number / self.crowd.texts
            if due > self.end:
                break
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            sid = self.sid("SM")
            form = {"MessageSid": sid, "SmsSid": sid, "SmsMessageSid": sid, "NumMedia": "0"}
            form |= {"From": f"+474{next(self.numbers):07d}", "To": TEXTS}
            form |= {"Body": f"Hei! Det er hull i veien vår ({number}).", "NumSegments": "1"}
            await line.webhook(f"{self.hooks}/sms/twilio", form, "sms")
        line.close()

    # What Twilio's REST API answers

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = int(head.lower().partition("content-length: ")[2].partition("\r\n")[0] or 0)
            form = dict(parse_qsl((await reader.readexactly(length)).decode()))
            method, path, _ = head.split(" ", 2)
            status, body = self.answer(method, urlsplit(path).path, form)
            writer.write(
                f"HTTP/1.1 {status} OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
                f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
            )
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    def answer(self, method: str, path: str, form: dict[str, str]) -> tuple[int, str]:
        parts = path.partition(f"/{ACCOUNT_SID}/")[2].removesuffix(".json").split("/")
        if parts[0] == "Calls" and len(parts) == 2:
            caller = self.callers.get(parts[1])
            if caller is not None and "Url" in form and not caller.over:
                caller.sent_to = form["Url"]
                caller.sent.set()
            return 200, f'{{"sid": "{parts[1]}", "status": "in-progress"}}'
        if parts[-1] == "Participants":
            sid = self.sid("CA")
            self.begin(self.pick_up(sid, form))
            return 201, f'{{"call_sid": "{sid}", "status": "queued"}}'
        if parts[0] == "Messages" and method == "POST":
            sid = self.sid("SM")
            self.begin(self.deliver(sid, form))
            return 201, f'{{"sid": "{sid}", "status": "queued"}}'
        key = "".join("_" + c.lower() if c.isupper() else c for c in parts[0]).lstrip("_")
        return 200, f'{{"{key}": [], "page": 0, "page_size": 50, "next_page_uri": null}}'

    async def pick_up(self, sid: str, form: dict[str, str]) -> None:
        """The phone of an operator."""
        line = Line(self.crowd, self.heard)
        for number, status in enumerate(("initiated", "ringing", "in-progress", "completed")):
            leg = {"CallSid": sid, "To": form["To"], "From": form["From"], "CallStatus": status}
            leg |= {"Direction": "outbound-api", "SequenceNumber": str(number)}
            await line.webhook(form["StatusCallback"], leg)
            await asyncio.sleep(self.chance.uniform(*self.crowd.pause))
        line.close()

    async def deliver(self, sid: str, form: dict[str, str]) -> None:
        """A text of ours, on its way."""
        line = Line(self.crowd, self.heard)
        for status in ("sent", "delivered"):
            await asyncio.sleep(self.chance.uniform(*self.crowd.pause))
            told = {"MessageSid": sid, "SmsSid": sid, "MessageStatus": status}
            told |= {"To": form["To"], "From": form["From"]}
            await line.webhook(form["StatusCallback"], told, "sms-status")
        line.close()


async def play(crowd: Crowd) -> Heard:
    """Calls and texts for the time that was asked for, to the end of each."""
    stage = _Play(crowd)
    server = await asyncio.start_server(stage.serve, "127.0.0.1", crowd.api_port)
    began = stage.heard.started = time.time()
    stage.end = time.monotonic() + crowd.seconds
    everybody = [stage.telephone(position) for position in range(crowd.callers)]
    await asyncio.gather(*everybody, stage.text())
    while stage.jobs:
        await asyncio.wait(set(stage.jobs))
    stage.heard.seconds = time.time() - began
    server.close()
    return stage.heard


async def ring_at_once(crowd: Crowd) -> Heard:
    """Everybody rings in the same moment."""
    heard = Heard()
    lines = [Line(crowd, heard) for _ in range(crowd.callers)]
    url = f"http://127.0.0.1:{crowd.port}/hooks/phone/twilio/voice"

    async def ring(line: Line, turn: int, position: int) -> None:
        form = {
            "CallSid": f"CA{turn:015x}b{position:016x}",
            "From": f"+4798{turn:02d}{position:04d}",
        }
        form |= {"To": SWITCHBOARD, "Direction": "inbound", "CallStatus": "ringing"}
        await line.webhook(url, form, "voice")

    for turn in range(5):
        await asyncio.gather(*(ring(line, turn, place) for place, line in enumerate(lines)))
        await asyncio.sleep(1)
    for line in lines:
        line.close()
    return heard


async def ask(crowd: Crowd) -> Heard:
    """The pace of `play` against something that always answers the same."""
    heard = Heard()
    chance = random.Random(1)
    end = time.monotonic() + crowd.seconds
    url = f"http://127.0.0.1:{crowd.port}/hooks/phone/twilio/wait?c=1&n=1"

    async def caller(position: int) -> None:
        line = Line(crowd, heard)
        form = {"CallSid": f"CA{position:032x}", "From": f"+4790{position:06d}", "To": SWITCHBOARD}
        form |= {"Direction": "inbound", "CallStatus": "in-progress", "CallerCountry": "NO"}
        while time.monotonic() < end:
            await asyncio.sleep(chance.uniform(*crowd.pause))
            await line.webhook(url, form)
        line.close()

    await asyncio.gather(*(caller(position) for position in range(crowd.callers)))
    return heard
