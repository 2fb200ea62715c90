"""Warned and overdue: once each, whoever sweeps, however late, and again when the date moves."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from router import deadlines, queue
from router.counters import counts
from router.deadlines import BATCH
from router.jobs import PATIENCE
from tests.router.store_house import MONDAY, house
from tests.rules import oracle
from tests.service import mail

DUE = oracle.due(MONDAY, 3)
WARN = oracle.due(MONDAY, 2)
MOMENT = timedelta(seconds=1)


@pytest.fixture
def home(tmp_path):
    with house(tmp_path) as opened:
        yield opened


def marks(home, ref: str) -> list[str]:
    return [kind for kind in home.events(ref) if kind in {"warned", "overdue"}]


def overdue(home) -> dict[str, int]:
    with home.db.read() as session:
        return counts(session, "overdue:")


async def test_nothing_is_said_before_its_time_and_everything_at_it(home):
    ref = home.ask()
    for now, said in (
        (MONDAY, []),
        (WARN - MOMENT, []),
        (WARN, ["warned"]),
        (DUE - MOMENT, ["warned"]),
        (DUE, ["warned", "overdue"]),
        (DUE + timedelta(days=30), ["warned", "overdue"]),
    ):
        await deadlines.sweep(home.db, now)
        assert marks(home, ref) == said, now
    assert home.inquiry(ref).overdue_at == DUE
    assert overdue(home) == {"servicetorg": 1}


async def test_many_sweeps_at_once_say_it_once(home):
    refs = [home.ask() for _ in range(12)]
    written = await asyncio.gather(*(deadlines.sweep(home.db, DUE) for _ in range(8)))
    assert sum(written) == 24
    assert {tuple(marks(home, ref)) for ref in refs} == {("warned", "overdue")}
    assert overdue(home) == {"servicetorg": 12}


async def test_after_a_long_stop_everything_is_caught_up_in_the_first_sweep(home):
    batch = home.prepared(*(home.journal(mail(f"Sak {n}")) for n in range(BATCH + 30)))
    home.take_in(*batch)
    written = await deadlines.sweep(home.db, DUE + timedelta(days=400))
    assert written == 2 * (BATCH + 30)
    assert overdue(home) == {"servicetorg": BATCH + 30}
    assert await deadlines.sweep(home.db, DUE + timedelta(days=400)) == 0


async def test_a_clock_that_jumps_back_says_nothing_twice(home):
    ref = home.ask()
    for now in (DUE, MONDAY, WARN, DUE, DUE + MOMENT):
        await deadlines.sweep(home.db, now)
    assert marks(home, ref) == ["warned", "overdue"]


async def test_an_answered_inquiry_is_never_late(home):
    actor, ref = home.person(), home.ask()
    home.reply(actor, ref)
    await deadlines.sweep(home.db, DUE + timedelta(days=9))
    assert marks(home, ref) == []
    assert overdue(home) == {}


async def test_a_closed_inquiry_is_never_late(home):
    actor, ref = home.person(), home.ask()
    home.write(lambda session: queue.close(session, actor, ref, home.clock()))
    await deadlines.sweep(home.db, DUE + timedelta(days=9))
    assert marks(home, ref) == []


async def test_a_late_inquiry_that_is_answered_is_late_no_more(home):
    actor, ref = home.person(), home.ask()
    await deadlines.sweep(home.db, DUE)
    assert overdue(home) == {"servicetorg": 1}
    home.reply(actor, ref)
    assert overdue(home) == {}


async def test_a_new_question_starts_a_new_count(home):
    """The date moved, so the old marks hold no more."""
    actor, ref = home.person(), home.ask()
    await deadlines.sweep(home.db, DUE)
    home.clock.now = DUE
    home.reply(actor, ref)
    home.clock.move(days=2)
    home.deliver(mail("SV: x", "Og nå?"), home.head.reply_address(home.inquiry(ref).id))
    again = oracle.due(home.clock(), 3)
    await deadlines.sweep(home.db, again - MOMENT)
    assert marks(home, ref) == ["warned", "overdue", "warned"]
    await deadlines.sweep(home.db, again)
    assert marks(home, ref) == ["warned", "overdue", "warned", "overdue"]


async def test_a_late_inquiry_stays_late_where_it_is_sent(home):
    actor, ref = home.person(), home.ask()
    await deadlines.sweep(home.db, DUE)
    home.write(lambda session: queue.transfer(session, actor, ref, "vei", "", DUE))
    assert overdue(home) == {"vei": 1}
    assert home.inquiry(ref).due_at == DUE
    await deadlines.sweep(home.db, DUE + timedelta(days=1))
    assert marks(home, ref) == ["warned", "overdue"]


def test_an_arrival_that_nobody_processes_raises_an_alarm_once(home):
    number = home.journal(mail("Sak"))
    said = "SELECT kind FROM event"
    for seconds, alarms in ((0, 0), (59, 0), (60, 1), (61, 1), (3600, 1)):
        now = home.clock.now + timedelta(seconds=seconds)
        home.write(lambda s, now=now: deadlines.alarm_unprocessed(s, now, PATIENCE))
        assert len(home.rows(said)) == alarms, seconds
    assert home.rows(said) == [("stuck",)]
    home.take_in(*home.prepared(number))
    assert home.rows("SELECT state FROM arrival") == [("processed",)]
