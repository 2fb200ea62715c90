"""Runs every benchmark and prints one table: `make bench`, or `python -m tests.benchmarks NAME
…`."""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import orjson
import psutil
from rich.console import Console
from rich.table import Table

from tests.benchmarks import baseline, load, queue_page, rules_speed
from tests.service import Desk, Service, service, sink, wait_until

Row = tuple[str, str, str, str]


def intake() -> list[Row]:
    """Durable mails a second, from the first byte to the last one standing in the queue."""
    number = 6_000
    batch = load.mails(number)
    with baseline.stock_aiosmtpd() as port:
        load.send(port, load.mails(500), 20)
        stock = number / load.send(port, batch, 50).seconds
    with _running() as running:
        load.send(running.smtp_port, load.mails(300, start=900_000), 20)
        _settle(running, 300)
        started = time.time()
        sent = load.send(running.smtp_port, batch, 50)
        accepted = len(sent.acknowledged) / sent.seconds
        _settle(running, 300 + number)
        routed = number / (time.time() - started - _spawn_seconds())
    return [
        ("mails accepted durably", f"{accepted:,.0f} /s", "", f"{accepted / stock:.2f} x stock"),
        (
            "mails accepted → routed → in the queue",
            f"{routed:,.0f} /s",
            "≥ 1,000 /s",
            f"{routed / stock:.2f} x stock",
        ),
        ("stock aiosmtpd, keeps nothing (baseline)", f"{stock:,.0f} /s", "", "1"),
    ]


def visibility() -> list[Row]:
    """From the 250 to the event in an open live stream, at 50 mails a second."""
    batch = load.mails(500)
    with _running() as running:
        load.send(running.smtp_port, load.mails(50, start=900_000), 5)
        _settle(running, 50)
        seen: dict[str, float] = {}
        token = running.token()
        reader = threading.Thread(target=_watch, args=(running, token, seen, 500), daemon=True)
        reader.start()
        wait_until(lambda: "" in seen, "the live stream")
        sent = load.send(running.smtp_port, batch, 8, rate=50)
        reader.join(60)
        desk = Desk(running.api())
        by_subject = {row["subject"]: row["ref"] for row in desk.rows()}
    delays = []
    subjects = {message_id: index for index, (message_id, *_) in enumerate(batch)}
    for message_id, moment in sent.acknowledged.items():
        index = subjects[message_id]
        ref = by_subject[f"{load.TOPICS[index % len(load.TOPICS)][0]} ({index})"]
        delays.append((seen[ref] - moment) * 1000)
    return [
        ("from 250 to visible, p50", f"{_share(delays, 50):.0f} ms", "", ""),
        ("from 250 to visible, p99", f"{_share(delays, 99):.0f} ms", "< 1,000 ms", ""),
        (
            "from dot to 250, p99",
            f"{_share([x * 1000 for x in sent.latencies], 99):.0f} ms",
            "",
            "",
        ),
    ]


def page() -> list[Row]:
    """The queue page at ten thousand and at a million open inquiries."""
    rows: list[Row] = []
    p99 = {}
    for number in (10_000, 1_000_000):
        with tempfile.TemporaryDirectory() as folder, sink() as smarthost:
            running = Service(Path(folder), smarthost.port)
            running.run("migrate")
            running.run("token", "create", "--role", "operator")
            queue_page.seed(running.data / "sentralbord.db", number, ["vei", "skole", "nav"])
            running.start()
            try:
                cookie = _sign_in(running)
                web = ("127.0.0.1", running.web_port)
                queue_page.page_milliseconds(web, cookie, ["vei", "skole", "nav"], 30)
                times = queue_page.page_milliseconds(web, cookie, ["vei", "skole", "nav"])
            finally:
                running.close()
        p99[number] = _share(times, 99)
        against = f"{p99[number] / p99[10_000]:.2f} x 10,000" if number > 10_000 else "1"
        rows.append((f"queue page at {number:,}, p99", f"{p99[number]:.1f} ms", "≤ 10 ms", against))
    return rows


def rules() -> list[Row]:
    """One decision at a hundred rules, with its full trace."""
    hundred, none = rules_speed.microseconds_per_decision()
    return [
        ("decision with 100 rules", f"{hundred:.0f} µs", "≤ 60 µs", f"{hundred / none:.1f} x none"),
        ("decision with no rules (baseline)", f"{none:.0f} µs", "", "1"),
    ]


def start() -> list[Row]:
    """Cold start to ready, and the memory of the idle service."""
    with tempfile.TemporaryDirectory() as folder, sink() as smarthost:
        running = Service(Path(folder), smarthost.port)
        times = []
        running.start()
        for _ in range(3):
            running.stop()
            began = time.perf_counter()
            running.start()
            times.append(time.perf_counter() - began)
        main = psutil.Process(running.pid)
        wait_until(lambda: main.children(recursive=True), "the worker")
        main.cpu_percent()
        time.sleep(5)  # the idle load is measured over a span of time
        idle = main.cpu_percent()
        used = [p.memory_full_info().uss for p in (main, *main.children(recursive=True))]
        running.close()
    return [
        ("cold start to ready", f"{statistics.median(times):.1f} s", "≤ 2 s", ""),
        ("idle memory, service", f"{used[0] / 2**20:.0f} MB", "", ""),
        ("idle memory, workers", f"{sum(used[1:]) / 2**20:.0f} MB", "", ""),
        ("idle processor load", f"{idle:.1f} %", "", ""),
    ]


def kills() -> list[Row]:
    """kill -9 at twenty random moments under a stream of mails."""
    from tests.integration.crash import SETTINGS, crash

    with (
        tempfile.TemporaryDirectory() as folder,
        sink() as smarthost,
        service(Path(folder), smarthost.port, **SETTINGS) as running,
    ):
        report = crash(running, smarthost, kills=20)
    return [
        ("mails acknowledged over 20 kill -9", f"{report.acknowledged:,}", "", ""),
        ("of them lost", f"{len(report.lost)}", "0", ""),
        ("of them doubled", f"{len(report.doubled)}", "0", ""),
    ]


BENCHMARKS: dict[str, Callable[[], list[Row]]] = {
    "start": start,
    "rules": rules,
    "intake": intake,
    "visibility": visibility,
    "page": page,
    "kills": kills,
}


def main(names: list[str]) -> None:
    """Run the named benchmarks, or all."""
    console = Console(width=110)
    table = Table("measured", "figure", "target", "ratio", title="Sentralbord")
    for name in names or BENCHMARKS:
        console.print(f"{name} …", style="dim")
        for row in BENCHMARKS[name]():
            table.add_row(*row)
            console.print("  " + "  ".join(filter(None, row)), style="dim", highlight=False)
    console.print(table)


class _Running:
    """A service with a smarthost that takes everything, on a fresh store."""

    def __enter__(self) -> Service:
        self._folder = tempfile.TemporaryDirectory()
        self._sink = sink()
        smarthost = self._sink.__enter__()
        self._service = service(
            Path(self._folder.name),
            smarthost.port,
            CHANNELS__EMAIL__RECEIPTS__PER_DOMAIN_PER_HOUR="1000000",
        )
        return self._service.__enter__()

    def __exit__(self, *error: object) -> None:
        self._service.__exit__(None, None, None)
        self._sink.__exit__(None, None, None)
        self._folder.cleanup()


def _running() -> _Running:
    return _Running()


def _settle(running: Service, number: int) -> None:
    """Wait until so many inquiries are in the store."""
    from sqlalchemy import func, select

    from router.db import reader_engine
    from router.models import Inquiry

    engine = reader_engine(running.database_url)
    with engine.connect() as connection:

        def there() -> bool:
            with connection.begin():
                query = select(func.max(Inquiry.__table__.c.id))  # type: ignore[attr-defined]
                return (connection.execute(query).scalar() or 0) >= number

        wait_until(there, f"{number} inquiries", patience=300)
    engine.dispose()


def _spawn_seconds() -> float:
    """What starting the load generator's process costs, which is not the service's time."""
    began = time.time()
    load.send(0, [], 0)
    return time.time() - began


def _watch(running: Service, token: str, seen: dict[str, float], number: int) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    with (
        httpx.Client(base_url=running.url, headers=headers, timeout=120) as client,
        client.stream("GET", "/api/events") as stream,
    ):
        seen[""] = time.time()
        for line in stream.iter_lines():
            if line.startswith("data:"):
                event = orjson.loads(line[5:])
                ref = event.get("ref") or event.get("data", {}).get("ref")
                if ref and event.get("kind") == "received":
                    seen.setdefault(ref, time.time())
            if len(seen) > number:
                return


def _sign_in(running: Service) -> str:
    """A session cookie by the one-time link that the service printed."""
    link = next(line.split()[-1] for line in running.announced if "login?once=" in line)
    with httpx.Client(base_url=running.url, follow_redirects=False) as client:
        client.get(link)
        return "; ".join(f"{name}={value}" for name, value in client.cookies.items())


def _share(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]


if __name__ == "__main__":
    main(sys.argv[1:])
