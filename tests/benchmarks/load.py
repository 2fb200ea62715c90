"""An SMTP load generator in a process of its own, so that it does not measure itself.

Debian's `smtp-source` sends a given content (`-F`) over and over, which we rightly take for one
mail that was delivered again: it is answered without being written. So it measures acceptance with
the header fields that it makes itself (each mail has its own Message-ID), and this generator sends
what must become inquiries of their own: real-shaped mails that all differ, made before the clock
starts.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import secrets
import time
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import format_datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from router.clock import utc_now

if TYPE_CHECKING:
    from collections.abc import Iterator

SENDERS = 2_000
TOPICS = (
    (
        "Hull i veien",
        "Det er et stort hull i veien utenfor huset vårt, og det blir verre hver dag.",
    ),
    ("Barnehageplass", "Vi lurer på når svaret på søknaden om barnehageplass kommer."),
    ("Byggesøknad", "Jeg vil bygge en garasje på tomta og trenger å vite hva jeg må sende inn."),
    ("Vannlekkasje", "Det renner vann ut av bakken ved kummen nederst i bakken."),
    ("Faktura", "Jeg har fått en faktura på kommunale avgifter som jeg ikke forstår."),
    ("Spørsmål", "Hei, hvem kan jeg snakke med om dette?"),
)

SMALL_TALK = (
    "Vi har bodd her siden 2009, og det har vært stille og fint hele tiden. Nå håper vi at noen "
    "kan svare oss før helgen, for da reiser vi bort noen dager. Ring gjerne etter klokka fire, "
    "eller skriv tilbake hit. Naboen over gangen sa at hun også hadde tenkt å ta kontakt, men hun "
    "er usikker på hvem som har ansvaret. Tusen takk for hjelpen så langt!"
)
STYLE = 'class="MsoNormal" style="margin:0cm;font-size:11.0pt;font-family:Calibri,sans-serif"'
RECIPIENT = "postmottak@sorum.kommune.no"
INDEX = 8_888_888
"""Stands in the mould where each mail has its own number."""
PERSON = 7_777
"""Stands in the mould where each mail has its sender's number."""


@dataclass(frozen=True)
class Batch:
    """Which mails to send: `number` from `start` on, each of about `size` bytes."""

    number: int
    start: int = 0
    size: int = 10_000


@dataclass
class Sent:
    """What the generator saw, by the mails' numbers."""

    started: float = 0.0
    """When the first byte left, seconds since the epoch."""
    seconds: float = 0.0
    """From the first byte to the last answer."""
    acknowledged: dict[int, float] = field(default_factory=dict)
    """When each mail was acknowledged, seconds since the epoch."""
    latencies: list[float] = field(default_factory=list)
    """Seconds from the final dot to its answer."""


def subject_of(index: int) -> str:
    """The subject of one mail; no other has it."""
    return f"{TOPICS[index % len(TOPICS)][0]} ({index})"


def mails(batch: Batch) -> Iterator[tuple[int, str, bytes]]:
    """(Number, sender, content) of real-shaped mails, text and HTML, with CRLF."""
    run = secrets.token_hex(6).encode()
    for index in range(batch.start, batch.start + batch.number):
        person = index % SENDERS
        content = _mould(index % len(TOPICS), batch.size)
        content = content.replace(b"%d" % INDEX, b"%d" % index)
        content = content.replace(b"%d" % PERSON, b"%d" % person).replace(b"x-run", run)
        yield index, f"innbygger{person}@example.org", content


@cache
def _mould(topic: int, size: int) -> bytes:
    message = EmailMessage()
    for hop in range(6):
        message["Received"] = (
            f"from mx{hop}.example.org (mx{hop}.example.org [192.0.2.{hop}])"
            f" by relay{hop}.example with ESMTPS id {INDEX}x{hop}"
            f" for <{RECIPIENT}>"
        )
    message["Authentication-Results"] = "relay.example; spf=pass; dkim=pass; dmarc=pass"
    message["From"] = f"Innbygger {PERSON} <innbygger{PERSON}@example.org>"
    message["To"] = RECIPIENT
    message["Subject"] = f"{TOPICS[topic][0]} ({INDEX})"
    message["Date"] = format_datetime(utc_now())
    message["Message-ID"] = f"<bench-{INDEX}-x-run@example.org>"
    body = f"Hei!\n\n{TOPICS[topic][1]} {SMALL_TALK}\n\nMed vennlig hilsen\nInnbygger {INDEX}\n"
    message.set_content(body, cte="quoted-printable")
    paragraphs = [f"<p {STYLE}><span {STYLE}>{line}</span></p>" for line in body.split("\n")]
    padding = f"<p {STYLE}>&nbsp;</p>" * max(0, (size - 3_600) // (len(STYLE) + 30))
    message.add_alternative(
        f"<html><body>{''.join(paragraphs)}{padding}</body></html>",
        subtype="html",
        cte="quoted-printable",
    )
    return message.as_bytes().replace(b"\n", b"\r\n")


class Generator:
    """A process that has its mails ready when the block begins; `send` starts the clock."""

    def __init__(
        self, port: int, batch: Batch, connections: int, rate: float | None = None
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_run, args=(theirs, port, batch, connections, rate), daemon=True
        )

    def __enter__(self) -> Generator:
        self._process.start()
        self._pipe.recv()
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is not None:
            self._process.kill()
        self._process.join()

    def send(self) -> Sent:
        """Send all, `rate` mails a second or as fast as possible, and wait for the answers."""
        self._pipe.send(None)
        sent: Sent = self._pipe.recv()
        return sent


def send(port: int, batch: Batch, connections: int, rate: float | None = None) -> Sent:
    """Send a batch from another process."""
    with Generator(port, batch, connections, rate) as generator:
        return generator.send()


def _run(pipe: Any, port: int, batch: Batch, connections: int, rate: float | None) -> None:
    import gc

    import uvloop

    todo = [
        (
            index,
            b"MAIL FROM:<%s>\r\nRCPT TO:<%s>\r\nDATA\r\n" % (sender.encode(), RECIPIENT.encode()),
            raw.replace(b"\r\n.", b"\r\n..") + b"\r\n.\r\n",
        )
        for index, sender, raw in mails(batch)
    ]
    gc.disable()
    pipe.send(None)
    pipe.recv()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        pipe.send(runner.run(_send_all(port, todo, connections, rate)))


async def _send_all(
    port: int, todo: list[tuple[int, bytes, bytes]], connections: int, rate: float | None
) -> Sent:
    loop = asyncio.get_running_loop()
    sent = Sent(started=time.time())
    began = loop.time()
    # One shared iterator: whichever connection is free takes the next mail.
    work = enumerate(todo)
    clients = []
    for _ in range(connections):
        _, client = await loop.create_connection(
            lambda: _Client(loop, work, sent, began, rate), "127.0.0.1", port
        )
        clients.append(client)
    await asyncio.gather(*(client.done for client in clients))
    sent.seconds = time.time() - sent.started
    return sent


class _Client(asyncio.Protocol):
    """One connection; envelope and DATA leave in one piece (RFC 2920)."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        work: enumerate[tuple[int, bytes, bytes]],
        sent: Sent,
        began: float,
        rate: float | None,
    ) -> None:
        self.done: asyncio.Future[None] = loop.create_future()
        self._loop, self._work, self._sent = loop, work, sent
        self._began, self._rate = began, rate
        self._rest = b""
        self._awaited = 1  # answers until the next step
        self._next = self._greet
        self._mail: tuple[int, bytes, bytes] = (0, b"", b"")
        self._dot = 0.0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionResetError("the server hung up"))

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\r\n")
        for line in lines:
            if line[3:4] == b"-":
                continue
            if line[:1] not in b"23":
                self._transport.close()
                self.done.set_exception(RuntimeError(line.decode(errors="replace")))
                return
            self._awaited -= 1
        if not self._awaited:
            self._next()

    def _greet(self) -> None:
        self._transport.write(b"EHLO bench.example\r\n")
        self._awaited, self._next = 1, self._take

    def _take(self) -> None:
        position, self._mail = next(self._work, (-1, self._mail))
        if position < 0:
            self.done.set_result(None)
            self._transport.write(b"QUIT\r\n")
            self._transport.close()
        elif self._rate is None:
            self._begin()
        else:
            self._loop.call_at(self._began + position / self._rate, self._begin)

    def _begin(self) -> None:
        self._transport.write(self._mail[1])
        self._awaited, self._next = 3, self._content

    def _content(self) -> None:
        self._transport.write(self._mail[2])
        self._dot = time.time()
        self._awaited, self._next = 1, self._taken

    def _taken(self) -> None:
        now = time.time()
        self._sent.acknowledged[self._mail[0]] = now
        self._sent.latencies.append(now - self._dot)
        self._take()
