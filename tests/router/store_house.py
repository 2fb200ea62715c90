"""A real store in a temporary directory and everything that writes to it, without doors and jobs.

Time is given by the test; mail goes through journal, parser, rules and intake as in the service.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from zoneinfo import ZoneInfo

from sqlalchemy import Dialect, event
from sqlalchemy import text as sql
from sqlmodel import Session, select

from channels.base import RawArrival
from channels.email.identity import delivery_key
from router import intake, journal, replies, schema, staff
from router.access import Actor
from router.correspondence import Letterhead, letterhead
from router.db import Database
from router.models import Inquiry, Role
from router.preparing import Prepared, Work, Workbench, prepare
from router.routing import build_workbench
from router.settings import Settings, load_settings
from router.store import sync_departments
from router.tokens import Signer
from tests.service import TOWN_HALL, mail, unique

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

T = TypeVar("T")

REPOSITORY = Path(__file__).parents[2]
STORE = "sentralbord.db"
MONDAY = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
"""Nine in the morning here."""


@cache
def _empty_store() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / STORE
        schema.migrate(f"sqlite:///{store}")
        return store.read_bytes()


def lay_empty_store(folder: Path) -> None:
    """A store with its schema and nothing in it, made once: the migrations take half a second."""
    (folder / STORE).write_bytes(_empty_store())


def open_store(url: str) -> Database:
    """A store of a test in this process.

    It waits for no disk: what is left after a power cut is not asked here. And it compiles no
    statement that an earlier one has compiled, which takes half the time of a small test.
    """
    db = Database(url)
    event.listen(db._writer_engine, "connect", _wait_for_no_disk)
    dialect = _dialects.setdefault(db._writer_engine.dialect.name, db._writer_engine.dialect)
    for engine in (db._writer_engine, db._reader_engine):
        engine.dialect = dialect
        engine.update_execution_options(compiled_cache=_compiled)
    db.start()
    return db


_dialects: dict[str, Dialect] = {}
_compiled: dict[Any, Any] = {}


def _wait_for_no_disk(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA synchronous=OFF")


@cache
def rules_folder(rules: str) -> Path:
    """A folder with these rules, for as long as the tests run."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    (folder / "rules.yaml").write_text(rules, encoding="utf-8")
    return folder


def prepare_store(
    environment: Mapping[str, str], *jobs: Callable[[Session], object]
) -> tuple[Settings, Workbench, bytes]:
    """Settings, rules and a store with the departments and what `jobs` write. Made once for many
    houses: each has a copy of the store in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        given = {**environment, "DATA": folder}
        settings = load_settings(
            REPOSITORY / "config.yaml",
            {f"SENTRALBORD_{name}": value for name, value in given.items()},
        )
        lay_empty_store(Path(folder))
        db = open_store(settings.database_url)
        for job in (partial(sync_departments, settings=settings), *jobs):
            db.write_sync(job)
        db.stop()
        return settings, build_workbench(settings), Path(folder, STORE).read_bytes()


@cache
def prepared() -> tuple[Settings, Workbench, bytes]:
    """The municipality as the repository has it."""
    return prepare_store({})


@dataclass
class Clock:
    now: datetime = MONDAY

    def __call__(self) -> datetime:
        return self.now

    def move(self, **step: float) -> datetime:
        self.now += timedelta(**step)
        return self.now


# Without a repr: asyncio writes one of what a fixture made, twice each time, and this one is long.
@dataclass(repr=False)
class House:
    """The store, and what the service does with it."""

    settings: Settings
    db: Database
    workbench: Workbench
    head: Letterhead
    clock: Clock = field(default_factory=Clock)

    def write(self, job: Callable[[Session], T]) -> T:
        return self.db.write_sync(job)

    def rows(self, query: str, **values: object) -> list[tuple[Any, ...]]:
        with self.db.read() as session:
            return [tuple(row) for row in session.connection().execute(sql(query), values)]

    def count(self, query: str, **values: object) -> int:
        return int(self.rows(query, **values)[0][0])

    def journal(
        self,
        raw: bytes,
        *recipients: str,
        mail_from: str = "kari@eksempel.no",
        at: datetime | None = None,
    ) -> int:
        """What the door does: the arrival's number."""
        to = list(recipients or (TOWN_HALL,))
        arrival = RawArrival(
            "email",
            delivery_key(raw, to),
            at or self.clock(),
            {"mail_from": mail_from, "recipients": to},
            raw,
        )
        return self.write(
            lambda session: journal.insert(session.connection(), [journal.Entry(arrival)])[0]
        )[1]

    def prepared(self, *numbers: int) -> list[Prepared]:
        """What the workshop does."""
        with self.db.read() as session:
            arrivals = [journal.get(session, number) for number in numbers]
            return [
                prepare(
                    self.workbench,
                    Work(
                        a.id or 0,
                        a.channel,
                        a.external_id,
                        a.received_at,
                        a.envelope,
                        journal.raw_of(session, a, self.workbench.blobs),
                    ),
                )
                for a in arrivals
            ]

    def take_in(self, *batch: Prepared) -> list[intake.Taken]:
        """What the reception does."""
        return self.write(lambda session: intake.process(session, batch, self.head, self.clock()))

    def deliver(self, raw: bytes, *recipients: str, **options: Any) -> intake.Taken:
        """One mail on its whole way in."""
        [taken] = self.take_in(*self.prepared(self.journal(raw, *recipients, **options)))
        return taken

    def ask(self, text: str = "Kan noen ringe meg?", **options: Any) -> str:
        """A new inquiry about something nobody else asks; its reference."""
        sender = options.pop("sender", "kari@eksempel.no")
        subject = options.pop("subject", None) or unique()
        return self.deliver(mail(subject, text, sender=sender), **options).ref

    def person(
        self, username: str = "olsen", role: Role = Role.OPERATOR, *departments: str
    ) -> Actor:
        """Somebody who works here."""

        def job(session: Session) -> Actor:
            person = staff.add_staff(
                session, username, username.title(), role, departments, None, self.clock()
            )
            session.flush()
            return staff.actor_of(session, person)

        return self.write(job)

    def reply(self, actor: Actor, ref: str, text: str = "Vi kommer.", **options: Any) -> Inquiry:
        return self.write(
            lambda session: replies.reply(
                session, self.head, actor, ref, text, self.clock(), **options
            )
        )

    def inquiry(self, ref: str) -> Inquiry:
        with self.db.read() as session:
            found: Inquiry = session.execute(select(Inquiry).where(Inquiry.ref == ref)).scalar_one()
            return found

    def events(self, ref: str) -> list[str]:
        """Kinds of what happened to an inquiry, in order."""
        query = (
            "SELECT event.kind FROM event JOIN inquiry ON inquiry.id = event.inquiry_id"
            " WHERE ref = :ref ORDER BY event.id"
        )
        return [row[0] for row in self.rows(query, ref=ref)]


@contextmanager
def house(folder: Path, **receipts: Any) -> Iterator[House]:
    """A fresh house. `receipts` are limits of `channels.email.receipts`."""
    plain, workbench, store = prepared()
    settings = plain.model_copy(update={"data": folder, "public_url": "https://post.sorum.example"})
    settings.blobs.mkdir(exist_ok=True)
    (folder / STORE).write_bytes(store)
    db = open_store(settings.database_url)
    head = letterhead(settings, Signer((b"test",)), ZoneInfo(settings.calendar.timezone))
    try:
        yield House(
            settings, db, replace(workbench, blobs=settings.blobs), replace(head, **receipts)
        )
    finally:
        db.stop()
