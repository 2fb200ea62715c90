"""How the house is: for a supervisor, for people and probes, and for Prometheus."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from pydantic import BaseModel, Field
from sqlalchemy import func, inspect, select, text
from sqlmodel import Session, col
from starlette.responses import PlainTextResponse, Response

from router import journal, outbox, recordings, schema
from router.counters import counts
from router.db import QUEUE_LIMIT, ping
from router.jobs import PATIENCE
from router.metrics import REGISTRY
from router.models import OutboxItem
from router.sending import NOTICE_AFTER
from router.web.auth import hall_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.core import Metric

    from router.hall import Hall

router = APIRouter(tags=["health"])

LEAST_DISK = 512 * 1024 * 1024
"""Bytes that must be free: a day of mail and its attachments fits in a few hundred megabytes."""


_LEISURELY = frozenset({"outbox", "provider", "door:xmpp"})
"""What may be unwell for a while: a silent mail server must not take the queue away."""


class Part(BaseModel):
    """One part of the service."""

    ok: bool
    detail: str = Field(description="What is wrong, or a figure.")


class Readiness(BaseModel):
    """All parts. `degraded`: what comes in is taken care of, but something else is not well."""

    status: Literal["ok", "degraded", "failing"]
    parts: dict[str, Part]


@router.get("/healthz", response_class=PlainTextResponse)
async def healthz() -> PlainTextResponse:
    """Say that the process answers; nothing else is looked at."""
    return PlainTextResponse("ok\n")


@router.get(
    "/readyz",
    responses={503: {"model": Readiness, "description": "What comes in cannot be taken care of."}},
)
def readyz(request: Request, response: Response) -> Readiness:
    """Look at store, doors, jobs and disk; 503 when what comes in cannot be taken care of."""
    hall = hall_of(request)
    now = hall.clock()
    parts = {
        "store": _store(hall),
        "migrations": _in_store(hall, _migrations),
        "intake": _in_store(hall, lambda session: _intake(session, now)),
        "outbox": _in_store(hall, lambda session: _outbox(hall, session, now)),
        "jobs": _well(
            "The jobs do not run." if hall.beat is None else hall.beat.health(), "running"
        ),
        "disk": _disk(hall),
        **_provider(hall),
        **{
            f"door:{name}": _well(problem, hall.doors_notes().get(name, "open"))
            for name, problem in sorted(hall.doors_health().items())
        },
    }
    unwell = {name for name, part in parts.items() if not part.ok}
    if unwell - _LEISURELY:
        response.status_code = 503
        return Readiness(status="failing", parts=parts)
    return Readiness(status="degraded" if unwell else "ok", parts=parts)


@router.get("/metrics", include_in_schema=False)
def metrics(request: Request) -> Response:
    """Counters, timings, and how things stand at this moment."""
    present = CollectorRegistry(auto_describe=False)
    present.register(_Present(hall_of(request)))
    return Response(
        generate_latest(REGISTRY) + generate_latest(present),
        headers={"Content-Type": CONTENT_TYPE_LATEST},
    )


def _well(problem: str, otherwise: str) -> Part:
    return Part(ok=not problem, detail=problem or otherwise)


def _store(hall: Hall) -> Part:
    if not hall.db.alive:
        return _well("The writer has stopped.", "")
    backlog = hall.db.backlog
    if backlog >= QUEUE_LIMIT // 2:
        return _well(f"{backlog} writes are waiting.", "")
    if hall.db.stats.failing:
        return _well("The last write failed.", "")

    def look(session: Session) -> Part:
        ping(session)
        return _well("", f"{backlog} writes waiting")

    return _in_store(hall, look)


def _in_store(hall: Hall, look: Callable[[Session], Part]) -> Part:
    """A part that needs the store; a store that does not answer is the problem then."""
    try:
        with hall.db.read() as session:
            return look(session)
    except Exception as error:  # noqa: BLE001 - whatever it is, this page must say so
        return _well(f"The store does not answer ({type(error).__name__}).", "")


def _migrations(session: Session) -> Part:
    connection = session.connection()
    current = ""
    if inspect(connection).has_table("alembic_version"):
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        current = str(found or "")
    wanted = schema.head_revision()
    problem = f"The store is at «{current}», this release needs «{wanted}»."
    return _well("" if current == wanted else problem, f"at {wanted}")


def _intake(session: Session, now: datetime) -> Part:
    oldest = journal.oldest_waiting(session)
    age = now - oldest if oldest is not None else timedelta(0)
    waited = f"The oldest unprocessed arrival has waited {age.total_seconds():.0f} s."
    if age >= PATIENCE:
        return _well(waited, "")
    return _well("", waited if oldest else "nothing waits")


def _outbox(hall: Hall, session: Session, now: datetime) -> Part:
    query = select(func.count(), func.min(col(OutboxItem.created_at)))
    # Written out, not bound: only then does the partial index of waiting messages fit everywhere.
    count, oldest = session.execute(query.where(text("outbox.state = 'queued'"))).one()
    if oldest is not None and now - oldest >= NOTICE_AFTER:
        return _well(f"{count} messages wait, the oldest since {oldest:%Y-%m-%d %H:%M} UTC.", "")
    return _well(hall.outbox.problem, f"{count} messages wait")


def _provider(hall: Hall) -> dict[str, Part]:
    """Where there is a telephone provider: whether its lists have been compared with ours."""
    if hall.reconciler is None:
        return {}
    return {"provider": _well(hall.reconciler.problem, "compared")}


def _disk(hall: Hall) -> Part:
    try:
        free = shutil.disk_usage(hall.settings.data).free
    except OSError as error:
        return _well(f"The data directory cannot be read: {error.strerror}.", "")
    figure = f"{free // 1024**2} MB free"
    return _well(figure if free < LEAST_DISK else "", figure)


class _Present(Collector):
    """Figures that are read when asked for, from counters that are kept."""

    def __init__(self, hall: Hall) -> None:
        self._hall = hall

    def collect(self) -> Iterator[Metric]:
        """Read them all."""
        hall = self._hall
        stats = hall.db.stats
        yield _gauge("sse_clients", "Open live streams.", hall.hub.clients)
        yield _gauge("writer_backlog", "Writes waiting.", hall.db.backlog)
        yield _gauge("writer_jobs", "Writes since the start.", stats.jobs)
        yield _gauge("writer_commits", "Commits since the start.", stats.commits)
        yield _gauge("writer_failed_commits", "Commits that failed.", stats.failed_commits)
        yield _gauge("writer_alive", "Whether writes are carried out.", int(hall.db.alive))
        yield _gauge("disk_free_bytes", "Free bytes.", shutil.disk_usage(hall.settings.data).free)
        with hall.db.read() as session:
            yield _gauge("parked", "Arrivals set aside.", journal.count_parked(session))
            oldest = journal.oldest_waiting(session)
            age = (hall.clock() - oldest).total_seconds() if oldest else 0
            yield _gauge("intake_oldest_seconds", "Age of the oldest unprocessed arrival.", age)
            held = recordings.by_state(session)
            yield _by("recordings", "Messages left on the phone, by state.", "state", held)
            yield _by("outbox", "Messages not sent, by state.", "state", outbox.by_state(session))
            for name, what in (("open", "Open inquiries"), ("overdue", "Overdue inquiries")):
                kept = counts(session, f"{name}:")
                yield _by(name, f"{what} by department.", "department", kept)


def _gauge(name: str, what: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"sentralbord_{name}", what, value=value)


def _by(name: str, what: str, label: str, values: dict[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"sentralbord_{name}", what, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
