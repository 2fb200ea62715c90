"""Runs every benchmark and prints one table: `make bench`, or `python -m tests.benchmarks NAME
…`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from statistics import median

import psutil
from rich.console import Console
from rich.table import Table

from tests.benchmarks import chat, mail, phone, queue_page, rules_speed
from tests.benchmarks.running import Row, share, sign_in
from tests.integration.crash import SETTINGS, crash, outage
from tests.integration.postfix import OUT_OF_ORDER, postfix
from tests.service import Service, free_port, service, sink, wait_until

DEPARTMENTS = ["vei", "skole", "nav"]
BASELINE = "import fastapi, sqlmodel, uvicorn"


def page() -> list[Row]:
    """The queue page at ten thousand and at a million open inquiries."""
    rows: list[Row] = []
    p99 = {}
    for number in (10_000, 1_000_000):
        with tempfile.TemporaryDirectory() as folder, sink() as smarthost:
            running = Service(Path(folder), smarthost.port)
            running.run("migrate")
            running.run("token", "create", "--role", "operator")
            queue_page.seed(running.data / "sentralbord.db", number, DEPARTMENTS)
            running.start()
            try:
                cookie = sign_in(running)
                web = ("127.0.0.1", running.web_port)
                queue_page.page_milliseconds(web, cookie, DEPARTMENTS, 30)
                before = queue_page.server_buckets(running)
                times = queue_page.page_milliseconds(web, cookie, DEPARTMENTS)
                spent = queue_page.server_buckets(running)
            finally:
                running.close()
        p99[number] = queue_page.bucket_share(before, spent, 99)
        against = f"{p99[number] / p99[10_000]:.2f} x 10,000" if number > 10_000 else "1"
        rows += [
            (
                f"queue page at {number:,}, server time p99",
                f"{p99[number]:.1f} ms",
                "≤ 10 ms",
                against,
            ),
            ("  median", f"{queue_page.bucket_share(before, spent, 50):.1f} ms", "", ""),
            ("  as the client sees it, p99", f"{share(times, 99):.1f} ms", "", ""),
        ]
    return rows


def rules() -> list[Row]:
    """One decision at a hundred rules, with its full trace."""
    hundred, none = rules_speed.microseconds_per_decision()
    return [
        ("decision with 100 rules", f"{hundred:.0f} µs", "≤ 60 µs", f"{hundred / none:.2f} x none"),
        ("decision with no rules (baseline)", f"{none:.0f} µs", "", "1"),
    ]


def start() -> list[Row]:
    """Cold start to ready beside what the bare frameworks take, and the idle memory."""
    with tempfile.TemporaryDirectory() as folder, sink() as smarthost:
        running = Service(Path(folder), smarthost.port)
        times, bare, spent = [], [], []
        running.start()
        for _ in range(3):
            running.stop()
            began = time.perf_counter()
            running.start()
            times.append(time.perf_counter() - began)
            usage = psutil.Process(running.pid).cpu_times()
            spent.append(usage.user + usage.system)
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", BASELINE], check=True)
            bare.append(time.perf_counter() - began)
        main = psutil.Process(running.pid)
        wait_until(lambda: main.children(recursive=True), "the worker")
        time.sleep(2)  # the worker loads its rules
        main.cpu_percent()
        time.sleep(5)  # the idle load is measured over a span of time
        idle = main.cpu_percent()
        used = [p.memory_full_info().uss for p in (main, *main.children(recursive=True))]
        running.close()
    return [
        (
            "cold start to ready",
            f"{median(times):.1f} s",
            "≤ 2 s",
            f"{median(times) / median(bare):.1f} x imports",
        ),
        ("  processor time of the service", f"{median(spent):.1f} s", "", ""),
        (f"{BASELINE} (baseline)", f"{median(bare):.1f} s", "", "1"),
        ("idle memory, service", f"{used[0] / 2**20:.0f} MB", "", ""),
        ("idle memory, workers", f"{sum(used[1:]) / 2**20:.0f} MB", "", ""),
        ("idle processor load", f"{idle:.1f} %", "", ""),
    ]


def kills(number: int = 100) -> list[Row]:
    """kill -9 at random moments under a stream of mails."""
    with (
        tempfile.TemporaryDirectory() as folder,
        sink() as smarthost,
        service(Path(folder), smarthost.port, **SETTINGS) as running,
    ):
        report = crash(running, smarthost, kills=number)
    return [
        (f"mails acknowledged over {number} kill -9", f"{report.acknowledged:,}", "", ""),
        ("  of them lost", f"{len(report.lost)}", "0", ""),
        ("  of them doubled", f"{len(report.doubled)}", "0", ""),
    ]


def relay(seconds: int = 60) -> list[Row]:
    """We are away for a minute behind a real Postfix that goes on taking mail."""
    if OUT_OF_ORDER:
        return [("an outage behind Postfix", "not measured", "", OUT_OF_ORDER)]
    port = free_port()
    lmtp = {"CHANNELS__EMAIL__LMTP__ENABLED": "true", "CHANNELS__EMAIL__LMTP__PORT": str(port)}
    with (
        tempfile.TemporaryDirectory() as folder,
        sink() as smarthost,
        service(Path(folder), smarthost.port, **SETTINGS, **lmtp) as running,
        postfix(f"lmtp:inet:127.0.0.1:{port}") as front,
    ):
        report = outage(running, front, smarthost, seconds)
    return [
        (f"mails over {seconds} s away, behind Postfix", f"{report.acknowledged:,}", "", ""),
        ("  held by Postfix meanwhile", f"{report.waited:,}", "", ""),
        ("  lost", f"{len(report.lost)}", "0", ""),
        ("  doubled", f"{len(report.doubled)}", "0", ""),
    ]


BENCHMARKS: dict[str, Callable[[], list[Row]]] = {
    "start": start,
    "rules": rules,
    "accept": mail.acceptance,
    "intake": mail.intake,
    "burst": mail.burst,
    "pace": mail.pace,
    "big": mail.big,
    "phone": phone.phone,
    "page": page,
    "chat": chat.chat,
    "kills": kills,
    "relay": relay,
}


def main(names: list[str]) -> None:
    """Run the named benchmarks, or all."""
    console = Console(width=120, file=sys.stdout)
    table = Table("measured", "figure", "target", "ratio", title="Sentralbord")
    for name in names or BENCHMARKS:
        console.print(f"{name} …", style="dim")
        with redirect_stdout(StringIO()):  # a service that ends prints its log
            rows = BENCHMARKS[name]()
        for row in rows:
            table.add_row(*row)
            console.print("  " + "  ".join(filter(None, row)), style="dim", highlight=False)
    console.print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
