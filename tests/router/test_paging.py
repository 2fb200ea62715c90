"""The queue page by page: every row once, in the order of the comparator, whatever is filtered."""

from __future__ import annotations

import random
from datetime import timedelta
from itertools import product

import pytest

from router import queue, queue_sql
from router.access import Actor
from router.errors import InvalidError, NotFoundError
from router.models import Role
from router.queue import Filter
from rules.order import Lane, lane_of, queue_key
from tests.router.store_house import MONDAY, house
from tests.service import mail

TEXTS = {
    "servicetorg": "Hei.",
    "vei": "Hull i veien.",
    "byggesak": "Spørsmål om byggesaken min.",
}
EVERYONE = Actor(Role.OPERATOR)
ROADS = Actor(Role.MEMBER, departments=frozenset({"vei"}))
TWO = Actor(Role.LEAD, departments=frozenset({"vei", "byggesak"}))
NOBODY = Actor(Role.MEMBER, departments=frozenset())


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Some 90 inquiries: open and closed, claimed and free, urgent, several at the same instant."""
    dice = random.Random(20261123)
    with house(tmp_path_factory.mktemp("paging")) as opened:
        clerk = opened.person("olsen")
        for number in range(90):
            text = TEXTS[dice.choice(list(TEXTS))]
            if number % 17 == 0:
                text = "Naboen puster ikke!"
            opened.clock.now = MONDAY + timedelta(hours=dice.choice([0, 0, 0, 30, 60, 61]))
            address = f"p{number % 5}@eksempel.no"
            ref = opened.deliver(mail(f"Sak nummer{number}", text, sender=address)).ref
            if number % 7 == 0:
                opened.write(lambda s, ref=ref: queue.claim(s, clerk, ref, opened.clock()))
            if number % 4 == 0:
                opened.write(lambda s, ref=ref: queue.close(s, clerk, ref, opened.clock()))
        yield opened


def pages(home, actor: Actor, wanted: Filter, limit: int) -> list[queue.QueueRow]:
    rows: list[queue.QueueRow] = []
    after: str | None = None
    while True:
        with home.db.read() as session:
            page = queue.page(session, actor, wanted, after, limit)
        assert len(page.rows) <= limit
        assert len(page.rows) == limit or page.next is None
        rows += page.rows
        if page.next is None:
            return rows
        after = page.next


def place(row: queue.QueueRow):
    """The place of an open inquiry by the rules' own comparator."""
    lane, at, *_ = key = queue_key(
        lane_of(crisis=row.emergency, live=False),
        received_at=row.received_at,
        id=row.id,
        due_at=row.due_at,
    )
    assert (lane, at) == (row.lane, row.sort_at)
    return key


FILTERS = [
    Filter(),
    Filter(department="vei"),
    Filter(channel="email"),
    Filter(channel="web"),
    Filter(assignee="none"),
    Filter(assignee="olsen"),
    Filter(q="nummer3"),
    Filter(q="p1@eksempel.no sak"),
    Filter(q="100%_"),
    Filter(department="vei", assignee="none", q="sak"),
]


@pytest.mark.parametrize(("limit", "filters"), [(1, FILTERS[:2]), (7, FILTERS), (50, FILTERS)])
def test_every_row_comes_once_and_in_order_under_every_filter(home, limit, filters):
    with home.db.read() as session:
        everything = queue.page(session, EVERYONE, Filter(), None, 200).rows
    assert len(everything) == 90
    for actor, wanted, status in product(
        [EVERYONE, ROADS, TWO, NOBODY], filters, ["", "open", "closed"]
    ):
        wanted = Filter(status, wanted.department, wanted.channel, wanted.assignee, wanted.q)
        rows = pages(home, actor, wanted, limit)
        assert len({row.ref for row in rows}) == len(rows), wanted
        assert {row.ref for row in rows} == {
            row.ref for row in everything if fits(row, actor, wanted)
        }, wanted
        still_open = [row for row in rows if row.status == "open"]
        closed = [row for row in rows if row.status == "closed"]
        assert rows == still_open + closed
        assert still_open == sorted(still_open, key=place)
        assert closed == sorted(closed, key=lambda row: (row.closed_at, row.id), reverse=True)


def fits(row: queue.QueueRow, actor: Actor, wanted: Filter) -> bool:
    words = f"{row.ref}\n{row.subject}\n{row.sender_name}\n{row.sender_address}".lower()
    return (
        actor.sees(row.department)
        and wanted.status in {"", row.status}
        and wanted.department in {"", row.department}
        and wanted.channel in {"", row.channel}
        and wanted.assignee in {"", row.assignee or "none"}
        and all(word in words for word in wanted.q.lower().split())
    )


def test_emergencies_stand_first(home):
    rows = pages(home, EVERYONE, Filter(status="open"), 10)
    urgent = [row.lane == Lane.CRISIS for row in rows]
    assert any(urgent)
    assert not all(urgent)
    assert urgent == sorted(urgent, reverse=True)


def test_a_row_that_leaves_between_two_pages_hides_no_other(tmp_path):
    with house(tmp_path) as home:
        actor, refs = home.person(), [home.ask() for _ in range(9)]
        with home.db.read() as session:
            first = queue.page(session, actor, Filter(status="open"), None, 3)
        for row in (first.rows[0], first.rows[2]):
            home.write(lambda s, ref=row.ref: queue.close(s, actor, ref, home.clock()))
        with home.db.read() as session:
            second = queue.page(session, actor, Filter(status="open"), first.next, 50)
        assert [row.ref for row in second.rows] == refs[3:]


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "!",
        "W10",
        "bnVsbA",
        "eyJhIjoxfQ",
        "WyJvcGVuIiwiMSIsMiwzXQ",
        "WyJvcGVuIiwyLCJ4IiwieSIsMV0",
        "é",
    ],
)
def test_a_cursor_that_is_not_ours_is_refused(home, cursor):
    with home.db.read() as session, pytest.raises(InvalidError, match="after"):
        queue.page(session, EVERYONE, Filter(), cursor)


def test_what_was_taken_in_late_keeps_its_place(tmp_path):
    """Same date, earlier arrival: first, although it was processed last."""
    with house(tmp_path) as home:
        waiting = home.journal(mail("Sak den første"))
        home.clock.move(hours=1)
        second = home.ask()
        [first] = home.take_in(*home.prepared(waiting))
        rows = pages(home, EVERYONE, Filter(status="open"), 1)
        assert [row.ref for row in rows] == [first.ref, second]
        assert rows[0].due_at == rows[1].due_at


def test_what_is_not_yours_to_see_does_not_exist(home):
    with home.db.read() as session:
        others = queue.page(session, EVERYONE, Filter(department="byggesak"), None, 1).rows[0]
        with pytest.raises(NotFoundError):
            queue.row(session, ROADS, others.ref)
        with pytest.raises(NotFoundError):
            queue.get(session, ROADS, others.ref)
        assert queue.row(session, TWO, others.ref) == others


def test_every_list_of_open_inquiries_is_read_from_its_index(home):
    """Whatever the number of rows: no sorting, no reading of what is not shown."""
    for actor, wanted in (
        (EVERYONE, Filter(status="open")),
        (EVERYONE, Filter(status="open", department="vei")),
    ):
        values = queue_sql.place("open", [int(Lane.DEFERRABLE), MONDAY, MONDAY, 1])
        query = queue_sql.listed(actor.departments, wanted, "open", True)
        query = query.params(values | {"limit": 50})
        with home.db.read() as session:
            connection = session.connection()
            text = str(query.compile(connection, compile_kwargs={"literal_binds": True}))
            plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]
        assert any("USING INDEX ix_inquiry" in line for line in plan), plan
        assert not any("TEMP B-TREE" in line or line.startswith("SCAN") for line in plan), plan
