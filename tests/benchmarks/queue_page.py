"""The queue page with a million open inquiries in the store, over HTTP from a signed-in browser
session."""

from __future__ import annotations

import http.client
import random
import re
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import httpx
from prometheus_client.parser import text_string_to_metric_families

from router.clock import utc_now
from router.db import sqlite_module

if TYPE_CHECKING:
    from pathlib import Path

    from tests.service import Service

CHUNK = 50_000


def seed(database: Path, number: int, departments: list[str], first: int = 1) -> None:
    """Fill a migrated store with open inquiries up to this number, from `first` on."""
    connection = sqlite_module().connect(str(database))
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("PRAGMA cache_size=-500000")
    # Indexes are made at the end: many times faster than row by row.
    indexes = connection.execute(
        "SELECT name, sql FROM sqlite_master"
        " WHERE type = 'index' AND tbl_name = 'inquiry' AND sql IS NOT NULL"
    ).fetchall()
    for name, _ in indexes:
        connection.execute(f"DROP INDEX {name}")
    now = utc_now().replace(tzinfo=None)
    chance = random.Random(7)

    def text(moment: datetime) -> str:
        return moment.isoformat(" ", "microseconds")

    for start in range(first, number + 1, CHUNK):
        rows = []
        for index in range(start, min(start + CHUNK, number + 1)):
            received = now - timedelta(seconds=chance.randrange(3 * 86_400))
            due = received + timedelta(days=3, seconds=chance.randrange(3600))
            warn = due - timedelta(days=1)
            warned = text(warn) if warn <= now else None
            rows.append(
                (
                    index,
                    f"S-2026-{index:07d}",
                    f"Hull i veien ({index})",
                    f"Innbygger {index}",
                    f"innbygger{index}@example.org",
                    chance.choice(departments),
                    *map(text, (received, due, warn, received, due)),
                    warned,
                )
            )
        with connection:
            connection.executemany(
                "INSERT INTO inquiry (id, ref, subject, sender_name, sender_address, department,"
                " received_at, due_at, warn_at, last_message_at, sort_at, warned_at, channel,"
                " kind, status, reply_state, target, calendar, lane, language, sensitivity,"
                " emergency, tags, sender_phone, line, calls, version)"
                " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,'email','question','open','unanswered',"
                "'service','',2,'nb','',0,'[]','','',0,1)",
                rows,
            )
    with connection:
        connection.execute(
            "INSERT INTO counter (name, value) SELECT 'open:' || department, count(*) FROM inquiry"
            " GROUP BY department ON CONFLICT (name) DO UPDATE SET value = excluded.value"
        )
        connection.execute(
            "INSERT INTO counter (name, value) VALUES ('ref:2026', ?) ON CONFLICT (name) DO UPDATE"
            " SET value = excluded.value",
            (number,),
        )
    for _, sql in indexes:
        connection.execute(sql)
    connection.close()


def page_milliseconds(
    web: tuple[str, int], cookie: str, departments: list[str], rounds: int = 1_000
) -> list[float]:
    """Client-side milliseconds for the queue page: first page, department pages and pages deep in
    the list."""
    connection = http.client.HTTPConnection(*web, timeout=30)
    chance = random.Random(3)
    times = []
    after = ""
    for index in range(rounds):
        path = "/desk/queue"
        if index % 3 == 1:
            path += f"?department={chance.choice(departments)}"
        elif index % 3 == 2 and after:
            path += f"?after={after}"
        start = time.perf_counter()
        connection.request("GET", path, headers={"Cookie": cookie})
        answer = connection.getresponse()
        body = answer.read()
        times.append((time.perf_counter() - start) * 1000)
        if answer.status != http.client.OK:
            raise RuntimeError(f"{path} answered {answer.status}")
        found = re.search(rb"after=([\w-]+)", body)
        after = found[1].decode() if found else ""
    connection.close()
    return times


def server_buckets(running: Service) -> dict[float, float]:
    """What the service has counted of its own time for the queue page: seconds -> answers within.

    From `/metrics`, so without the client and the way to it.
    """
    text = httpx.get(f"{running.url}/metrics", timeout=30).text
    found: dict[float, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.endswith("_http_seconds_bucket") and (
                sample.labels["route"] == "/desk/queue" and sample.labels["status"] == "200"
            ):
                found[float(sample.labels["le"])] = sample.value
    return found


def bucket_share(before: dict[float, float], after: dict[float, float], percent: int) -> float:
    """A percentile in milliseconds, interpolated between the histogram's bounds."""
    counts = {bound: count - before.get(bound, 0.0) for bound, count in sorted(after.items())}
    wanted = max(counts.values()) * percent / 100
    low, below = 0.0, 0.0
    for bound, count in counts.items():
        if count >= wanted:
            return 1000 * (low + (bound - low) * (wanted - below) / (count - below))
        low, below = bound, count
    raise RuntimeError("the service has counted nothing")
