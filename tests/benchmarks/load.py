"""An SMTP load generator in a process of its own, so that it does not measure itself."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import time
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import format_datetime
from typing import TYPE_CHECKING

from router.clock import utc_now

if TYPE_CHECKING:
    from collections.abc import Sequence

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


@dataclass
class Sent:
    """What the generator saw: when each mail was acknowledged, by its Message-ID."""

    acknowledged: dict[str, float] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0


def mails(number: int, start: int = 0, size: int = 10_000) -> list[tuple[str, str, bytes]]:
    """(Message-ID, sender, bytes): real-shaped mails of about `size` bytes, text and HTML."""
    made = []
    for index in range(start, start + number):
        subject, text = TOPICS[index % len(TOPICS)]
        sender = f"innbygger{index % SENDERS}@example.org"
        message_id = f"<bench-{index}-{random.getrandbits(48):x}@example.org>"
        message = EmailMessage()
        for hop in range(6):
            message["Received"] = (
                f"from mx{hop}.example.org (mx{hop}.example.org [192.0.2.{hop}])"
                f" by relay{hop}.example with ESMTPS id {index:08x}{hop}"
                " for <postmottak@sorum.kommune.no>"
            )
        message["Authentication-Results"] = "relay.example; spf=pass; dkim=pass; dmarc=pass"
        message["From"] = f"Innbygger {index % SENDERS} <{sender}>"
        message["To"] = "postmottak@sorum.kommune.no"
        message["Subject"] = f"{subject} ({index})"
        message["Date"] = format_datetime(utc_now())
        message["Message-ID"] = message_id
        body = f"Hei!\n\n{text} {SMALL_TALK}\n\nMed vennlig hilsen\nInnbygger {index}\n"
        message.set_content(body, cte="quoted-printable")
        paragraphs = [f"<p {STYLE}><span {STYLE}>{line}</span></p>" for line in body.split("\n")]
        padding = f"<p {STYLE}>&nbsp;</p>" * max(0, (size - 4_000) // 2 // (len(STYLE) + 15))
        message.add_alternative(
            f"<html><body>{''.join(paragraphs)}{padding}</body></html>",
            subtype="html",
            cte="quoted-printable",
        )
        made.append((message_id, sender, message.as_bytes().replace(b"\n", b"\r\n")))
    return made


def send(
    port: int, batch: Sequence[tuple[str, str, bytes]], connections: int, rate: float | None = None
) -> Sent:
    """Send from another process; `rate` is mails a second in all, as fast as possible without."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(theirs, port, list(batch), connections, rate))
    process.start()
    sent: Sent = ours.recv()
    process.join()
    return sent


def _run(
    pipe: object,
    port: int,
    batch: list[tuple[str, str, bytes]],
    connections: int,
    rate: float | None,
) -> None:
    pipe.send(asyncio.run(_send_all(port, batch, connections, rate)))  # type: ignore[attr-defined]


async def _send_all(
    port: int, batch: list[tuple[str, str, bytes]], connections: int, rate: float | None
) -> Sent:
    sent = Sent()
    started = time.time()
    # One shared iterator: whichever connection is free takes the next mail.
    todo = iter(enumerate(batch))

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        await reader.readline()
        writer.write(b"EHLO bench.example\r\n")
        while (await reader.readline())[3:4] == b"-":
            pass
        for index, (message_id, sender, raw) in todo:
            if rate is not None:
                await asyncio.sleep(max(0.0, started + index / rate - time.time()))
            writer.write(
                f"MAIL FROM:<{sender}>\r\n".encode()
                + b"RCPT TO:<postmottak@sorum.kommune.no>\r\nDATA\r\n"
            )
            for _ in range(3):
                await reader.readline()
            writer.write(raw.replace(b"\r\n.", b"\r\n..") + b"\r\n.\r\n")
            dot = time.time()
            answer = await reader.readline()
            if answer.startswith(b"250"):
                now = time.time()
                sent.acknowledged[message_id] = now
                sent.latencies.append(now - dot)
        writer.write(b"QUIT\r\n")
        writer.close()

    await asyncio.gather(*(one() for _ in range(connections)))
    sent.seconds = time.time() - started
    return sent
