"""The e-mail door under load, beside what stands above and below it in the same run."""

from __future__ import annotations

import multiprocessing
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from statistics import median
from typing import TYPE_CHECKING

import psutil

from tests.benchmarks import baseline, helpdesk, load
from tests.benchmarks.load import RECIPIENT, Batch, Generator
from tests.benchmarks.running import Probe, Row, fresh_service, settle, share, watch
from tests.service import Desk, Service, answers, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

WARM_UP = Batch(300, start=900_000)
BIG = 40 * 2**20
SESSIONS = 50
"""Connections of `smtp-source`, each of which sends one mail after the other."""
POSTFIX_USER = "postfix"


def acceptance(number: int = 6_000, rounds: int = 3) -> list[Row]:
    """Durable acceptance: Debian's `smtp-source` against us, against a sink that keeps nothing and
    against aiosmtpd as it comes; of us the median of a few rounds on one store."""
    with smtp_sink() as port:
        ceiling = number / smtp_source(port, number)
    with baseline.stock_aiosmtpd() as port:
        smtp_source(port, 500)
        stock = number / smtp_source(port, number)
    rates, costs = [], []
    with fresh_service() as running:
        smtp_source(running.smtp_port, 500)
        for turn in range(rounds):
            sent = 500 + turn * number
            settle(running, sent)  # what is still being read takes from what is measured
            spent = _processor_seconds(running.pid)
            rates.append(number / smtp_source(running.smtp_port, number))
            costs.append(_processor_seconds(running.pid) - spent)
            if _journaled(running) != sent + number:
                raise RuntimeError("mails were acknowledged that are not in the journal")
    ours, spent = median(rates), median(costs)
    return [
        (
            f"mails accepted durably (smtp-source, {SESSIONS} sessions, 10 kB)",
            f"{ours:,.0f} /s",
            "≥ 3,000 /s",
            f"{ours / ceiling:.2f} x smtp-sink, {ours / stock:.2f} x aiosmtpd",
        ),
        ("  lowest and highest round", f"{min(rates):,.0f} to {max(rates):,.0f} /s", "", ""),
        ("  processor time of the service", f"{spent / number * 1e6:,.0f} µs a mail", "", ""),
        ("smtp-sink, keeps nothing (ceiling)", f"{ceiling:,.0f} /s", "", "1"),
        ("stock aiosmtpd, keeps nothing", f"{stock:,.0f} /s", "", f"{stock / ceiling:.2f}"),
    ]


def intake(number: int = 6_000) -> list[Row]:
    """Accepted, parsed, routed, dated and standing in the queue; django-helpdesk as the floor."""
    with fresh_service() as running:
        _warm(running)
        with Generator(running.smtp_port, Batch(number), 50) as generator:
            sent = generator.send()
            settle(running, WARM_UP.number + number)
            seconds = time.time() - sent.started
    accepted, routed = number / sent.seconds, number / seconds
    rows = [
        ("real-shaped mails accepted durably", f"{accepted:,.0f} /s", "", ""),
        ("  … → routed → in the queue", f"{routed:,.0f} /s", "≥ 1,500 /s", ""),
    ]
    try:
        floor = helpdesk.mails_per_second(300)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        return [*rows, ("django-helpdesk (floor)", "not measured", "", str(error)[-60:])]
    rows[1] = (*rows[1][:3], f"{routed / floor:,.0f} x django-helpdesk")
    return [*rows, ("django-helpdesk (floor)", f"{floor:,.1f} /s", "", "1")]


def burst(number: int = 200) -> list[Row]:
    """From the first byte of many mails at once to the last one in an open live stream."""
    times = []
    with fresh_service() as running:
        _warm(running)
        token = running.token()
        for turn in range(5):
            seen: dict[str, float] = {}
            reader = threading.Thread(
                target=watch, args=(running, token, seen, number), daemon=True
            )
            reader.start()
            wait_until(lambda seen=seen: "" in seen, "the live stream")
            batch = Batch(number, start=turn * number)
            with Generator(running.smtp_port, batch, 20) as generator:
                sent = generator.send()
                reader.join(60)
            times.append(max(seen.values()) - sent.started)
            if len(Desk(running.api()).rows()) != WARM_UP.number + (turn + 1) * number:
                raise RuntimeError("an inquiry is missing in the queue")
    return [
        (
            f"{number} mails, first byte to all visible",
            f"{sorted(times)[len(times) // 2] * 1000:,.0f} ms",
            "< 500 ms",
            f"{min(times) * 1000:,.0f} to {max(times) * 1000:,.0f}",
        )
    ]


def pace(rate: int = 200, seconds: int = 10) -> list[Row]:
    """Answers at a steady rate: dot to 250, and 250 to visible."""
    number = rate * seconds
    with fresh_service() as running:
        _warm(running)
        seen: dict[str, float] = {}
        reader = threading.Thread(
            target=watch, args=(running, running.token(), seen, number), daemon=True
        )
        reader.start()
        wait_until(lambda: "" in seen, "the live stream")
        with Generator(running.smtp_port, Batch(number), 20, rate=rate) as generator:
            sent = generator.send()
            reader.join(60)
        by_subject = {row["subject"]: row["ref"] for row in Desk(running.api()).rows()}
    answers = [1000 * latency for latency in sent.latencies]
    delays = [
        1000 * (seen[by_subject[load.subject_of(index)]] - moment)
        for index, moment in sent.acknowledged.items()
    ]
    return [
        (f"dot to 250 at {rate} mails/s, p50", f"{share(answers, 50):.1f} ms", "", ""),
        (f"dot to 250 at {rate} mails/s, p99", f"{share(answers, 99):.1f} ms", "< 50 ms", ""),
        ("from 250 to visible, p50", f"{share(delays, 50):.0f} ms", "", ""),
        ("from 250 to visible, p99", f"{share(delays, 99):.0f} ms", "< 1,000 ms", ""),
    ]


def big() -> list[Row]:
    """The event loop and the memory of the service while one mail of 40 MB arrives."""
    context = multiprocessing.get_context("spawn")
    with fresh_service(CHANNELS__EMAIL__LISTEN__MAX_SIZE=str(2 * BIG)) as running:
        _warm(running)
        main = psutil.Process(running.pid)
        with Probe(running.web_port) as probe:
            time.sleep(3)  # the idle service is measured over a span of time
            idle = probe.milliseconds()
            before = peak = main.memory_info().rss
            sender = context.Process(target=_send_big, args=(running.smtp_port,), daemon=True)
            sender.start()
            while sender.is_alive():
                peak = max(peak, main.memory_info().rss)
                time.sleep(0.002)
            settle(running, WARM_UP.number + 1)
            during = probe.milliseconds()
            peak = max(peak, main.memory_info().rss)
        if sender.exitcode:
            raise RuntimeError("the big mail was not taken")
        after = main.memory_info().rss
    return [
        (
            "longest stall while 40 MB arrive",
            f"{max(during):.0f} ms",
            "≤ 20 ms",
            f"idle {max(idle):.0f} ms",
        ),
        ("  p99 of the same", f"{share(during, 99):.1f} ms", "", f"idle {share(idle, 99):.1f} ms"),
        (
            "memory growth for it, service",
            f"{(peak - before) / 2**20:.1f} MB",
            "< 10 MB",
            f"{(after - before) / 2**20:.1f} MB stay",
        ),
    ]


@contextmanager
def smtp_sink() -> Iterator[int]:
    """Postfix's sink, which reads and forgets; yields its port."""
    port = free_port()
    process = subprocess.Popen(
        ["/usr/sbin/smtp-sink", "-u", POSTFIX_USER, f"127.0.0.1:{port}", "200"]
    )
    try:
        wait_until(lambda: answers(port), "smtp-sink")
        yield port
    finally:
        process.terminate()
        process.wait()


def smtp_source(port: int, number: int) -> float:
    """Send so many mails of 10 kB with Postfix's generator, over connections that are kept; returns
    the seconds it took."""
    began = time.perf_counter()
    command = [
        "/usr/sbin/smtp-source",
        *("-d", "-s", str(SESSIONS), "-m", str(number), "-l", "10000"),
        *("-f", "innbygger@example.org", "-t", RECIPIENT, "-S", "Hull i veien"),
        f"127.0.0.1:{port}",
    ]
    if subprocess.run(command, timeout=300).returncode:
        raise RuntimeError("smtp-source was refused")
    return time.perf_counter() - began


def _warm(running: Service) -> None:
    load.send(running.smtp_port, WARM_UP, 20)
    settle(running, WARM_UP.number)


def _journaled(running: Service) -> int:
    return int(running.read("SELECT count(*) FROM arrival")[0][0])


def _processor_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def _send_big(port: int) -> None:
    import os

    os.nice(10)
    line = b"QUJD" * 19 + b"\r\n"
    head = (
        b"From: Kari <kari@example.org>\r\nTo: postmottak@sorum.kommune.no\r\n"
        b"Subject: Tegninger\r\nMessage-ID: <big@example.org>\r\nMIME-Version: 1.0\r\n"
        b'Content-Type: application/pdf; name="tegninger.pdf"\r\n'
        b"Content-Transfer-Encoding: base64\r\n\r\n"
    )
    content = head + line * (BIG // len(line)) + b".\r\n"
    with socket.create_connection(("127.0.0.1", port)) as connection:
        file = connection.makefile("rb")
        file.readline()
        for command in (
            b"EHLO bench.example\r\n",
            b"MAIL FROM:<kari@example.org>\r\n",
            b"RCPT TO:<postmottak@sorum.kommune.no>\r\n",
            b"DATA\r\n",
            content,
        ):
            connection.sendall(command)
            while (answer := file.readline())[3:4] == b"-":
                pass
            if answer[:1] not in b"23":
                raise RuntimeError(answer.decode())
