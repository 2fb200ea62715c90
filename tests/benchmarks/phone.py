"""The doors of calls and texts under load, with mail coming in, beside a bare application that
does nothing but check the same signatures."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

import psutil

from tests.benchmarks import baseline, load
from tests.benchmarks.load import Batch, Generator
from tests.benchmarks.running import Row, fresh_service, settle, share
from tests.benchmarks.telephones import PEOPLE, Crowd, Heard, Telephones, ask, play, ring_at_once
from tests.service import ALWAYS_OPEN, free_port
from tests.twilio_double import ACCOUNT_SID, AUTH_TOKEN

if TYPE_CHECKING:
    from tests.service import Service

CALLERS = 50
MAILS = 30
"""A second."""
OPERATORS = tuple(f"operator{number}" for number in range(8))
WARM_UP = Batch(300, start=900_000)


def phone(seconds: float = 40) -> list[Row]:
    """Webhooks of calls and of texts while mails come in: how long their answers take."""
    api_port = free_port()
    people = {
        f"CHANNELS__PHONE__PEOPLE__{name.upper()}__{key}": value
        for number, name in enumerate(OPERATORS)
        for key, value in {
            "NAME": name.title(),
            "PHONE": f"+4763869{300 + number}",
            "DEPARTMENT": "servicetorg",
        }.items()
    }
    settings = {
        "CHANNELS__PHONE__ENABLED": "true",
        "CHANNELS__SMS__ENABLED": "true",
        "CHANNELS__SMS__RECEIPTS__PER_HOUR": "1000000",
        "TWILIO__ACCOUNT_SID": ACCOUNT_SID,
        "TWILIO__AUTH_TOKEN": AUTH_TOKEN,
        "TWILIO__API_URL": f"http://127.0.0.1:{api_port}",
    }
    with fresh_service(**settings, **people, **ALWAYS_OPEN) as running:
        load.send(running.smtp_port, WARM_UP, 5)
        settle(running, WARM_UP.number)
        crowd = partial(Crowd, running.web_port, api_port, running.token(), OPERATORS)
        _hear(crowd(seconds=3), play)
        calm, *_ = _under_load(running, crowd(seconds=seconds, pause=PEOPLE), seconds)
        heard, spent, worker = _under_load(running, crowd(seconds=seconds), seconds)
        at_once = _hear(crowd(seconds=0), ring_at_once)
        alone = "SELECT count(*) - count(DISTINCT inquiry_id) FROM call"
        [(doubled,)] = running.read(alone)
    with baseline.bare_webhook() as port:
        crowd = Crowd(port, api_port, "", (), seconds / 4, CALLERS)
        _hear(crowd, ask)
        bare = _hear(crowd, ask)
        bare_at_once = _hear(crowd, ring_at_once)
    if heard.wrong or not heard.taken or doubled:
        raise RuntimeError(
            f"not as it must be: {heard.wrong[:5]}, {heard.taken} taken, {doubled} doubled"
        )
    voice, sms, first = heard.voice, heard.of("sms", "sms-status"), heard.of("voice")
    calm_sms = calm.of("sms", "sms-status")
    p99, bare_p99 = share(voice, 99), share(bare.voice, 99)
    return [
        (
            f"voice webhook, p99 ({_told(calm)})",
            f"{share(calm.voice, 99):.1f} ms",
            "< 50 ms",
            f"{share(calm.voice, 99) / bare_p99:.1f} x bare",
        ),
        ("  p50", f"{share(calm.voice, 50):.1f} ms", "", ""),
        ("SMS webhook, p99", f"{share(calm_sms, 99):.1f} ms", "< 50 ms", ""),
        ("  p50", f"{share(calm_sms, 50):.1f} ms", "", ""),
        (
            f"seven times as fast ({_told(heard)}), p99",
            f"{p99:.1f} ms",
            "",
            f"{p99 / bare_p99:.1f} x bare",
        ),
        (
            "  p50",
            f"{share(voice, 50):.1f} ms",
            "",
            f"{share(voice, 50) / share(bare.voice, 50):.1f} x bare",
        ),
        ("  first ring, p50", f"{share(first, 50):.1f} ms", "", ""),
        ("  first ring, p99", f"{share(first, 99):.1f} ms", "", ""),
        ("  SMS webhook, p99", f"{share(sms, 99):.1f} ms", "", ""),
        (
            "calls walked to their end, taken by operators",
            f"{heard.stories}, {heard.taken}",
            "",
            "",
        ),
        ("processor load of the service, workers", f"{spent:.0f} %, {worker:.0f} %", "", ""),
        (
            f"{CALLERS} first rings in one moment, p50",
            f"{share(at_once.voice, 50):.0f} ms",
            "",
            f"{share(at_once.voice, 50) / share(bare_at_once.voice, 50):.1f} x bare",
        ),
        (
            "  p99",
            f"{share(at_once.voice, 99):.0f} ms",
            "",
            f"{share(at_once.voice, 99) / share(bare_at_once.voice, 99):.1f} x bare",
        ),
        ("FastAPI, Twilio's validator and nothing else, p99", f"{bare_p99:.1f} ms", "", "1"),
    ]


def _told(heard: Heard) -> str:
    return f"{CALLERS} calls, {len(heard.voice) / heard.seconds:.0f} webhooks/s, {MAILS} mails/s"


def _hear(crowd: Crowd, run: object) -> Heard:
    with Telephones(crowd, run) as telephones:
        return telephones.call()


def _under_load(running: Service, crowd: Crowd, seconds: float) -> tuple[Heard, float, float]:
    """What the crowd heard while mails came in; processor load of service and workers, percent."""
    main = psutil.Process(running.pid)
    everybody = [main, *main.children(recursive=True)]
    batch = Batch(round(MAILS * seconds))
    with (
        Telephones(crowd, play) as telephones,
        Generator(running.smtp_port, batch, 10, rate=MAILS) as mails,
    ):
        before = [_seconds(process) for process in everybody]
        sender = threading.Thread(target=mails.send, daemon=True)
        sender.start()
        heard = telephones.call()
        spent = [_seconds(p) - b for p, b in zip(everybody, before, strict=True)]
        sender.join(60)
    shares = [100 * one / heard.seconds for one in spent]
    return heard, shares[0], sum(shares[1:])


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system
