"""The numbers that are kept always equal the numbers that are counted."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from datetime import timedelta
from pathlib import Path

from alembic import command
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from channels.base import PermanentError
from channels.fake import FakeChannel
from router import deadlines, outbox, queue, schema
from router.access import Actor
from router.counters import count_of, counts, queue_counts
from router.db import writer_engine
from router.errors import ConflictError, InvalidError
from router.models import Role
from router.sending import Outbox
from tests.router.store_house import house
from tests.service import mail
from tests.support import examples

DEPARTMENTS = ("servicetorg", "vei", "byggesak", "renovasjon")
MAILBOXES = {slug: f"{slug}@sorum.kommune.no" for slug in DEPARTMENTS}

positions = st.integers(min_value=0)
departments = st.sampled_from(DEPARTMENTS)
people = st.integers(min_value=0, max_value=1)


class Desk(RuleBasedStateMachine):
    """Everything that people, residents and time can do to inquiries, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.stack = contextlib.ExitStack()
        self.home = self.stack.enter_context(house(self.folder))
        self.people = [
            self.home.person("olsen"),
            self.home.person("hansen", Role.MEMBER, "vei", "byggesak"),
        ]
        self.refs: list[str] = []

    def teardown(self) -> None:
        self.stack.close()
        shutil.rmtree(self.folder)

    def act(self, verb, person: int, position: int, *arguments, **options) -> None:
        """Do it, or be refused as a person would be."""
        ref = self.refs[position % len(self.refs)]
        actor, now = self.people[person], self.home.clock()
        if self.home.inquiry(ref).department not in (actor.departments or DEPARTMENTS):
            return
        with contextlib.suppress(ConflictError, InvalidError):
            self.home.write(lambda s: verb(s, actor, ref, *arguments, now, **options))

    @initialize(department=departments)
    def first(self, department: str) -> None:
        self.mail(department)

    @rule(department=departments)
    def mail(self, department: str) -> None:
        number = len(self.refs)
        raw = mail(f"Sak {number}", sender=f"p{number}@eksempel.no")
        self.refs.append(self.home.deliver(raw, MAILBOXES[department]).ref)

    @rule(department=departments, other=departments, at_once=st.booleans())
    def mail_to_two(self, department: str, other: str, at_once: bool) -> None:
        """In one envelope, or as two copies that a relay delivers one by one."""
        number = len(self.refs)
        to = list(dict.fromkeys([MAILBOXES[department], MAILBOXES[other]]))
        raw = mail(f"Til to {number}", sender=f"t{number}@eksempel.no", to=", ".join(to))
        for recipients in [to] if at_once else [[one] for one in to]:
            taken = self.home.deliver(raw, *recipients)
        self.refs.append(taken.ref)

    @rule(department=departments)
    def newsletter(self, department: str) -> None:
        number = len(self.refs)
        raw = mail(f"Nytt {number}", sender=f"n{number}@firma.example", List_Id="<nytt.firma>")
        self.refs.append(self.home.deliver(raw, MAILBOXES[department]).ref)

    @rule(position=positions, kind=st.sampled_from(["question", "bounce", "holiday"]))
    def answer(self, position: int, kind: str) -> None:
        inquiry = self.home.inquiry(self.refs[position % len(self.refs)])
        address = self.home.head.reply_address(inquiry.id)
        sender, mail_from, extra = inquiry.sender_address, inquiry.sender_address, {}
        if kind == "holiday":
            mail_from, extra = "", {"Auto_Submitted": "auto-replied"}
        if kind == "bounce":
            replies = self.home.rows(
                "SELECT id FROM message WHERE inquiry_id = :id AND kind = 'reply'", id=inquiry.id
            )
            if not replies:
                return
            address = self.home.head.return_path(replies[-1][0])
            sender, mail_from = "MAILER-DAEMON@eksempel.no", ""
        self.home.clock.move(seconds=1)
        self.home.deliver(
            mail("SV: x", "Hei", sender=sender, **extra), address, mail_from=mail_from
        )

    @rule(person=people, position=positions)
    def claim(self, person: int, position: int) -> None:
        self.act(queue.claim, person, position)

    @rule(person=people, position=positions)
    def release(self, person: int, position: int) -> None:
        self.act(queue.release, person, position)

    @rule(person=people, position=positions, department=departments)
    def transfer(self, person: int, position: int, department: str) -> None:
        self.act(queue.transfer, person, position, department, "")

    @rule(person=people, position=positions)
    def hand_back(self, person: int, position: int) -> None:
        self.act(queue.hand_back, person, position, "Ikke vårt.")

    @rule(person=people, position=positions)
    def close(self, person: int, position: int) -> None:
        self.act(queue.close, person, position)

    @rule(person=people, position=positions)
    def reopen(self, person: int, position: int) -> None:
        self.act(queue.reopen, person, position)

    @rule(person=people, position=positions, close=st.booleans())
    def reply(self, person: int, position: int, close: bool) -> None:
        ref = self.refs[position % len(self.refs)]
        actor = self.people[person]
        if self.home.inquiry(ref).department in (actor.departments or DEPARTMENTS):
            with contextlib.suppress(ConflictError, InvalidError):
                self.home.reply(actor, ref, close=close)

    @rule(refused=st.booleans())
    def send(self, refused: bool) -> None:
        door = FakeChannel("email")
        door.fail_always(PermanentError("Avvist.") if refused else None)
        sender = Outbox(self.home.db, {"email": door}, self.home.workbench.blobs, self.home.clock)
        asyncio.run(sender.deliver_due())

    @rule()
    def send_again(self) -> None:
        for (number,) in self.home.rows("SELECT id FROM outbox WHERE state = 'failed'"):
            self.home.write(lambda s, n=number: outbox.retry(s, n, self.home.clock()))

    @rule(days=st.integers(min_value=0, max_value=6))
    def wait(self, days: int) -> None:
        self.home.clock.move(days=days, seconds=1)
        asyncio.run(deadlines.sweep(self.home.db, self.home.clock()))

    @invariant()
    def counters_equal_counts(self) -> None:
        with self.home.db.read() as session:
            kept = {name: counts(session, f"{name}:") for name in ("open", "overdue")}
        counted = {
            "open": "SELECT department, count(*) FROM inquiry WHERE status = 'open' GROUP BY 1",
            "overdue": "SELECT department, count(*) FROM inquiry WHERE status = 'open'"
            " AND overdue_at IS NOT NULL AND answered_at IS NULL GROUP BY 1",
        }
        for name, query in counted.items():
            assert kept[name] == dict(self.home.rows(query)), name

    @invariant()
    def counters_of_a_member_equal_the_list(self) -> None:
        for mine in ({"vei"}, {"byggesak"}, {"vei", "byggesak"}, set(DEPARTMENTS), set()):
            member = Actor(Role.MEMBER, departments=frozenset(mine))
            with self.home.db.read() as session:
                rows = queue.page(session, member, queue.Filter("open"), limit=200).rows
                kept = queue_counts(session)
            assert count_of(kept, "open", mine) == len(rows), mine
            late = [row for row in rows if row.overdue_at and not row.answered_at]
            assert count_of(kept, "overdue", mine) == len(late), mine

    @invariant()
    def every_open_inquiry_has_a_department_and_a_date(self) -> None:
        astray = (
            "SELECT ref FROM inquiry WHERE status = 'open'"
            " AND (department = '' OR due_at IS NULL OR warn_at > due_at)"
        )
        assert self.home.rows(astray) == []

    @invariant()
    def every_change_of_department_is_explained(self) -> None:
        unexplained = (
            "SELECT ref FROM inquiry WHERE department != (SELECT department FROM decision"
            " WHERE inquiry_id = inquiry.id ORDER BY id DESC LIMIT 1)"
        )
        assert self.home.rows(unexplained) == []

    @invariant()
    def nobody_holds_what_is_closed(self) -> None:
        held = "SELECT ref FROM inquiry WHERE status = 'closed' AND assignee_id IS NOT NULL"
        assert self.home.rows(held) == []

    @invariant()
    def an_answered_inquiry_says_so(self) -> None:
        unclear = (
            "SELECT ref, reply_state, answered_at FROM inquiry"
            " WHERE (reply_state = 'answered') != (answered_at IS NOT NULL)"
        )
        assert self.home.rows(unclear) == []


TestCounters = Desk.TestCase
TestCounters.settings = settings(
    max_examples=examples(12),
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def test_counters_survive_a_batch_in_which_a_job_fails(tmp_path):
    """The failing job's part is rolled back, and nobody else's."""
    with house(tmp_path) as home:
        actor, ref = home.person(), home.ask()

        def spoilt(session):
            queue.close(session, actor, ref, home.clock())
            raise RuntimeError

        good, bad = home.ask(), home.db.submit(spoilt)
        assert isinstance(bad.exception(5), RuntimeError)
        assert home.inquiry(ref).status == "open"
        home.clock.now += timedelta(minutes=1)
        home.write(lambda session: queue.close(session, actor, good, home.clock()))
        assert home.rows("SELECT name, value FROM counter WHERE name LIKE 'open:%'") == [
            ("open:servicetorg", 1)
        ]


def test_the_migration_counts_what_was_shared_before_there_were_counters_for_it(tmp_path):
    with house(tmp_path) as home:
        to = [MAILBOXES["vei"], MAILBOXES["byggesak"]]
        for number in range(3):
            ref = home.deliver(mail(f"Til to, {number}", to=", ".join(to)), *to).ref
        actor = home.person()
        home.write(lambda session: queue.close(session, actor, ref, home.clock()))
        home.clock.move(days=6)
        asyncio.run(deadlines.sweep(home.db, home.clock()))
        shared = (
            "SELECT name, value FROM counter WHERE name LIKE 'shared%' AND value > 0 ORDER BY 1"
        )
        kept = home.rows(shared)
        assert [value for _, value in kept] == [2, 2]

        def before(session):
            for statement in (
                "DELETE FROM counter WHERE name LIKE 'shared%'",
                "UPDATE alembic_version SET version_num = '0006'",
            ):
                session.connection().exec_driver_sql(statement)

        home.write(before)
        engine = writer_engine(home.settings.database_url)
        with contextlib.closing(engine.connect()) as connection:
            config = schema.alembic_config()
            config.attributes["connection"] = connection
            command.upgrade(config, "0007")
            connection.commit()
        engine.dispose()
        assert home.rows(shared) == kept
