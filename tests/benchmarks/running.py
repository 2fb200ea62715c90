"""What the benchmarks share: a fresh service, and looking at it from outside."""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import orjson
from sqlalchemy import func, select

from router.db import reader_engine
from router.models import Inquiry
from tests.integration.crash import SETTINGS
from tests.service import Service, service, sink, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

Row = tuple[str, str, str, str]
"""What, the figure, its target, its ratio to a baseline of the same run."""


@contextmanager
def fresh_service(**settings: str) -> Iterator[Service]:
    """A service on an empty store, with a smarthost that takes everything."""
    with (
        tempfile.TemporaryDirectory() as folder,
        sink() as smarthost,
        service(Path(folder), smarthost.port, **SETTINGS, **settings) as running,
    ):
        yield running


def settle(running: Service, number: int) -> None:
    """Wait until so many inquiries are in the store."""
    engine = reader_engine(running.database_url)
    with engine.connect() as connection:

        def there() -> bool:
            with connection.begin():
                query = select(func.max(Inquiry.__table__.c.id))  # type: ignore[attr-defined]
                return (connection.execute(query).scalar() or 0) >= number

        wait_until(there, f"{number} inquiries", patience=300)
    engine.dispose()


def watch(running: Service, token: str, seen: dict[str, float], number: int) -> None:
    """Note when each new inquiry shows in the live stream, by its reference, until there are so
    many. The empty reference is the moment the stream was open."""
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


def sign_in(running: Service) -> str:
    """A session cookie by the one-time link that the service printed."""
    link = next(line.split()[-1] for line in running.announced if "login?once=" in line)
    with httpx.Client(base_url=running.url, follow_redirects=False) as client:
        client.get(link)
        return "; ".join(f"{name}={value}" for name, value in client.cookies.items())


def share(values: list[float], percent: int) -> float:
    """A percentile."""
    return statistics.quantiles(values, n=100)[percent - 1]


class Probe:
    """Asks `/healthz` every few milliseconds from a process of its own: an answer is as late as
    the event loop."""

    def __init__(self, port: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_ask, args=(theirs, port), daemon=True)

    def __enter__(self) -> Probe:
        self._process.start()
        self._pipe.recv()  # it has a line
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.join()

    def milliseconds(self) -> list[float]:
        """How long each answer since the last call took."""
        self._pipe.send(None)
        taken: list[float] = self._pipe.recv()
        return taken


def _ask(pipe: Any, port: int) -> None:
    import gc
    from http.client import HTTPConnection

    gc.disable()
    taken: list[float] = []
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.connect()
    pipe.send(None)
    while True:
        began = time.perf_counter()
        connection.request("GET", "/healthz")
        connection.getresponse().read()
        taken.append((time.perf_counter() - began) * 1000)
        if pipe.poll(0.005):
            pipe.recv()
            pipe.send(taken)
            taken = []
