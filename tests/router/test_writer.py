"""The store: one writer, many jobs in one commit, and nothing said before the commit."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future, wait

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, OperationalError

from router import events
from router.db import QUEUE_LIMIT, Database
from router.errors import StoreUnavailableError
from router.models import Event
from tests.router.store_house import MONDAY, house

SOON = 10.0


@pytest.fixture
def home(tmp_path):
    with house(tmp_path) as opened:
        yield opened


@pytest.fixture
def db(home) -> Database:
    return home.db


def note(kind: str):
    return lambda session: events.record(session, kind, at=MONDAY)


def fail(session):
    events.record(session, "half", at=MONDAY)
    raise LookupError("this job is spoilt")


def kinds(db: Database) -> list[str]:
    with db.read() as session:
        return list(
            session.connection().execute(text("SELECT kind FROM event ORDER BY id")).scalars()
        )


class Held:
    """The writer, held in the middle of a job, so that others queue up behind it."""

    def __init__(self, db: Database) -> None:
        self._entered, self._go = threading.Event(), threading.Event()
        self.future = db.submit(self._job)
        assert self._entered.wait(SOON)

    def _job(self, _session) -> None:
        self._entered.set()
        assert self._go.wait(SOON)

    def release(self) -> None:
        self._go.set()


def test_jobs_that_wait_share_one_commit_and_keep_their_order(db):
    held = Held(db)
    futures = [db.submit(note(f"k{n}")) for n in range(20)]
    before = db.stats.commits
    held.release()
    assert all(future.result(SOON) for future in futures)
    assert db.stats.commits - before == 2  # the one that held, and the twenty together
    assert kinds(db) == [f"k{n}" for n in range(20)]


def test_a_job_that_fails_takes_nothing_of_its_neighbours_along(db):
    held = Held(db)
    good = [db.submit(note("before"))]
    bad = db.submit(fail)
    good.append(db.submit(note("after")))
    held.release()
    assert isinstance(bad.exception(SOON), LookupError)
    assert all(future.result(SOON) for future in good)
    assert kinds(db) == ["before", "after"]


def test_a_broken_rule_of_the_schema_fails_alone_too(db):
    def clash(session):
        session.add(Event(at=MONDAY, kind="a", once="x"))
        session.add(Event(at=MONDAY, kind="b", once="x"))

    held = Held(db)
    jobs = [note("a"), clash, note("b"), clash, fail, note("c")]
    futures = [db.submit(job) for job in jobs]
    held.release()
    errors = [type(future.exception(SOON)) for future in futures]
    nothing = type(None)
    assert errors == [nothing, IntegrityError, nothing, IntegrityError, LookupError, nothing]
    assert kinds(db) == ["a", "b", "c"]


def unpaid(session):
    """A debt that is only noticed at the COMMIT."""
    connection = session.connection()
    connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
    connection.exec_driver_sql(
        "INSERT INTO event (at, kind, inquiry_id, department, data)"
        " VALUES ('2026-11-23', 'unpaid', 999, '', '{}')"
    )


def test_a_commit_that_fails_is_told_to_everybody_and_the_writer_goes_on(db):
    held = Held(db)
    futures = [db.submit(note("early")), db.submit(unpaid), db.submit(note("late"))]
    held.release()
    for future in futures:
        assert isinstance(future.exception(SOON), StoreUnavailableError)
    assert held.future.exception(SOON) is None
    assert db.stats.failed_commits == 1
    assert kinds(db) == []
    assert db.alive
    assert db.write_sync(note("again"))
    assert kinds(db) == ["again"]


def test_a_full_store_is_told_to_everybody_and_the_writer_goes_on_when_there_is_room(db):
    def limit(pages: int):
        return lambda session: session.connection().exec_driver_sql(
            f"PRAGMA max_page_count = {pages}"
        )

    def big(session):
        data = {"much": "x" * 4_000_000}
        events.record(session, "big", at=MONDAY, data=data)

    db.write_sync(limit(1))  # as small as it is
    held = Held(db)
    futures = [db.submit(note("small")), db.submit(big)]
    held.release()
    assert isinstance(futures[1].exception(SOON), StoreUnavailableError)
    assert futures[0].result(SOON)
    assert kinds(db) == ["small"]
    db.write_sync(limit(1_000_000))
    db.write_sync(big)
    assert kinds(db)[-1] == "big"


def test_a_statement_that_nothing_can_carry_out_is_no_fault_of_the_store(db):
    future = db.submit(lambda session: session.connection().execute(text("SELECT nonsense")))
    assert isinstance(future.exception(SOON), OperationalError)
    assert not db.stats.failing


def test_nothing_is_said_before_everybody_can_read_it(db):
    seen: list[list[str]] = []
    held = Held(db)
    future = db.submit(note("said"))
    told = threading.Event()

    def look(_future) -> None:
        seen.append(kinds(db))
        told.set()

    future.add_done_callback(look)
    assert seen == []
    held.release()
    assert told.wait(SOON)
    assert seen == [["said"]]


async def test_a_caller_who_goes_away_undoes_nothing(db):
    held = Held(db)
    task = asyncio.create_task(db.write(note("kept")))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    held.release()
    await db.write(note("next"))
    assert kinds(db) == ["kept", "next"]


def test_too_many_waiting_writes_are_refused_at_once(db):
    held = Held(db)
    waiting = [db.submit(lambda _session: None) for _ in range(QUEUE_LIMIT)]
    with pytest.raises(StoreUnavailableError):
        db.submit(note("too many"))
    held.release()
    wait(waiting, SOON)
    assert db.write_sync(note("room again"))


def test_stopping_carries_out_what_was_queued(home):
    db = home.db
    held = Held(db)
    futures = [db.submit(note("late")) for _ in range(600)]
    stopper = threading.Thread(target=db.stop)
    stopper.start()
    held.release()
    stopper.join(SOON)
    assert all(future.result(SOON) for future in futures)
    with pytest.raises(StoreUnavailableError):
        db.submit(note("too late"))
    again = Database(home.settings.database_url)
    assert len(kinds(again)) == 600
    again.stop()


@pytest.mark.thorough
def test_a_write_given_while_the_store_stops_is_carried_out_or_refused_never_forgotten(home):
    given: list[Future[bool]] = []

    def give() -> None:
        try:
            while True:
                given.append(home.db.submit(note("x")))
        except StoreUnavailableError:
            return

    writers = [threading.Thread(target=give) for _ in range(4)]
    for writer in writers:
        writer.start()
    while len(given) < 50:
        pass
    home.db.stop()
    for writer in writers:
        writer.join(SOON)
    done, forgotten = wait(given, SOON)
    assert not forgotten
    assert len(done) == len(given)


def test_a_view_cannot_write(db):
    with db.read() as session, pytest.raises(OperationalError, match="readonly"):
        session.connection().execute(text("DELETE FROM event"))


def test_a_view_sees_one_moment_however_long_it_looks(db):
    db.write_sync(note("before"))
    with db.read() as session:
        count = text("SELECT count(*) FROM event")
        assert session.connection().execute(count).scalar() == 1
        db.write_sync(note("after"))
        assert session.connection().execute(count).scalar() == 1
    assert kinds(db) == ["before", "after"]


def test_an_instant_comes_back_as_it_went_in(db):
    db.write_sync(note("now"))
    with db.read() as session:
        [event] = events.read_after(session, 0, 10)
    assert event.at == MONDAY
    assert event.at.utcoffset() is not None


async def together(db: Database, write, arguments: list) -> list:
    """Ask for one write for many, all of them in one batch."""
    held = Held(db)
    asked = [asyncio.ensure_future(db.write_together(write, one)) for one in arguments]
    await asyncio.sleep(0)  # each of them puts its own into the queue
    held.release()
    return await asyncio.gather(*asked, return_exceptions=True)


def write_kinds(connection, wanted: list[str]) -> list[str]:
    rows = [
        {"kind": kind, "at": MONDAY, "inquiry_id": None, "department": "", "staff_id": None}
        | {"once": kind, "data": {}}
        for kind in wanted
    ]
    events.insert_rows(connection, rows)
    return [kind.upper() for kind in wanted]


async def test_a_write_for_many_is_one_call_with_an_answer_for_each(db):
    calls = []

    def write(connection, wanted):
        calls.append(len(wanted))
        return write_kinds(connection, wanted)

    assert await together(db, write, ["a", "b", "c"]) == ["A", "B", "C"]
    assert calls == [3]
    assert kinds(db) == ["a", "b", "c"]


async def test_patient_writes_that_follow_one_another_make_one_commit(db, monkeypatch):
    monkeypatch.setattr("router.db.PULSE_SECONDS", SOON)
    await db.write_together(write_kinds, "first", patient=True)  # nobody came before: it waits not
    commits = db.stats.commits
    waiting = [
        asyncio.ensure_future(db.write_together(write_kinds, kind, patient=True)) for kind in "ab"
    ]
    waiting.append(asyncio.ensure_future(db.write(note("c"), patient=True)))
    await asyncio.sleep(0)
    assert not any(one.done() for one in waiting)
    # What cannot wait ends it, in the order in which they came.
    async with asyncio.timeout(SOON / 2):
        await db.write(note("d"))
        await asyncio.gather(*waiting)
    assert db.stats.commits == commits + 1
    assert kinds(db) == ["first", "a", "b", "c", "d"]


async def test_the_last_patient_write_is_kept_when_the_store_closes(db, monkeypatch):
    monkeypatch.setattr("router.db.PULSE_SECONDS", SOON)
    await db.write_together(write_kinds, "first", patient=True)
    last = asyncio.ensure_future(db.write_together(write_kinds, "last", patient=True))
    await asyncio.sleep(0)
    await asyncio.to_thread(db.stop)
    assert await last == "LAST"


async def test_of_a_write_for_many_only_what_is_to_blame_fails(db):
    first, twice, last = await together(db, write_kinds, ["a", "a", "b"])
    assert (first, last) == ("A", "B")
    assert isinstance(twice, IntegrityError)
    assert kinds(db) == ["a", "b"]


async def test_a_write_for_many_that_ends_the_transaction_is_done_anew_for_each(db):
    def write(connection, wanted):
        if "bad" in wanted:
            connection.connection.rollback()  # as SQLite does when the disk is full
            raise OSError
        return write_kinds(connection, wanted)

    first, bad, last = await together(db, write, ["a", "bad", "b"])
    assert (first, last) == ("A", "B")
    assert isinstance(bad, OSError)
    assert kinds(db) == ["a", "b"]
