"""What an arrival becomes: inquiry, thread, duplicate; all of it or nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import orjson
import pytest
from sqlalchemy.exc import IntegrityError
from sqlmodel import select

from channels.base import Mark
from router import journal, outbox
from router.models import OutboxItem
from tests.router.store_house import house
from tests.rules import oracle
from tests.service import TOWN_HALL, mail, unique

ROADS = "vei@sorum.kommune.no"


@pytest.fixture
def home(tmp_path):
    with house(tmp_path) as opened:
        yield opened


def test_everything_of_one_contact_is_written_in_one_go(home, monkeypatch):
    """A failure at the very end leaves no half inquiry behind, and the arrival still waits."""
    number = home.journal(mail(unique(), "Hull i veien."))
    [item] = home.prepared(number)
    spoilt = replace(item, files=(object(),))
    before = counts(home)
    with pytest.raises(AttributeError):
        home.take_in(spoilt)
    assert counts(home) == before
    assert home.rows("SELECT state FROM arrival") == [("new",)]
    [taken] = home.take_in(item)
    assert taken.department == "vei"
    assert counts(home) == {
        "inquiry": 1, "message": 1, "decision": 1, "outbox": 1, "contact": 1, "address": 1,
        "event": 2,
    }  # fmt: skip


def counts(home) -> dict[str, int]:
    tables = ("inquiry", "message", "decision", "outbox", "contact", "address", "event")
    return {table: home.count(f"SELECT count(*) FROM {table}") for table in tables}


def test_an_arrival_is_taken_in_once_however_often_it_is_handed_over(home):
    [item] = home.prepared(home.journal(mail(unique())))
    assert len(home.take_in(item)) == 1
    assert home.take_in(item) == []
    assert home.count("SELECT count(*) FROM inquiry") == 1
    assert home.count("SELECT count(*) FROM outbox") == 1


def test_references_run_without_gaps_and_by_the_year_of_receipt_in_norway(home):
    new_year = home.clock.now.replace(month=12, day=31, hour=22, minute=59)
    refs = [
        home.deliver(mail(unique()), at=new_year + timedelta(minutes=minute)).ref
        for minute in (-1, 0, 1, 2)
    ]
    assert refs == ["S-2026-000001", "S-2026-000002", "S-2027-000001", "S-2027-000002"]


def test_the_clock_runs_from_the_arrival_not_from_its_processing(home):
    received = home.clock()
    number = home.journal(mail(unique()))
    home.clock.move(days=9)
    [taken] = home.take_in(*home.prepared(number))
    assert taken.due_at == oracle.due(received, 3)
    assert home.inquiry(taken.ref).received_at == received


def test_one_mail_to_two_of_us_in_the_same_batch_is_one_inquiry(home):
    raw = mail(unique(), to=f"{TOWN_HALL}, {ROADS}")
    batch = home.prepared(home.journal(raw, TOWN_HALL), home.journal(raw, ROADS))
    outcomes = [taken.outcome for taken in home.take_in(*batch)]
    assert sorted(outcomes) == ["duplicate", "new"]
    assert home.count("SELECT count(*) FROM inquiry") == 1
    [(recipients,)] = home.rows("SELECT recipients FROM message")
    assert TOWN_HALL in recipients
    assert ROADS in recipients
    assert home.count("SELECT count(*) FROM outbox") == 1


def test_a_second_delivery_in_which_a_virus_is_found_locks_the_files_of_the_first(home):
    raw = mail("Faktura", "Se vedlegg.")
    first = home.deliver(raw)
    [later] = home.prepared(home.journal(raw, ROADS))
    infected = replace(later, incoming=replace(later.incoming, marks=(Mark.QUARANTINED,)))
    [taken] = home.take_in(infected)
    assert (taken.ref, taken.outcome) == (first.ref, "duplicate")
    assert home.rows("SELECT marks FROM message") == [('["quarantined"]',)]
    assert "quarantined" in home.events(first.ref)


UNDATED = b"From: pumpe@eksempel.no\r\nSubject: Alarm\r\n\r\nPumpen er nede.\r\n"
DATED = b"Date: Mon, 23 Nov 2026 08:00:00 +0000\r\n" + UNDATED


@pytest.mark.parametrize("to", [TOWN_HALL, ROADS], ids=["same address", "another address"])
@pytest.mark.parametrize(
    ("raw", "window"),
    [(DATED, timedelta(days=5)), (UNDATED, timedelta(hours=1))],
    ids=["dated", "undated"],
)
def test_the_same_mail_is_a_contact_of_its_own_when_its_time_is_over(home, raw, window, to):
    """A machine that reports the same fault again: soon it is a repetition, later it is news.
    One rule for deliveries at the door and for messages after it."""

    def again(*addresses):
        """What becomes of it; nothing when the door knows the delivery."""
        taken = [home.take_in(*home.prepared(home.journal(raw, one))) for one in addresses]
        return [(one.ref, one.outcome) for some in taken for one in some]

    first = home.deliver(raw, to).ref
    home.clock.move(seconds=window.total_seconds())
    assert set(again(TOWN_HALL)) <= {(first, "duplicate")}
    assert home.count("SELECT count(*) FROM inquiry") == 1
    home.clock.move(seconds=1)
    [(second, outcome)] = again(to)
    assert outcome == "new"
    # What is news is so once, also at our other addresses.
    home.clock.move(seconds=1)
    assert set(again(TOWN_HALL, ROADS)) <= {(second, "duplicate")}
    home.clock.move(seconds=window.total_seconds() + 1)
    [(third, outcome)] = again(to)
    assert outcome == "new"
    assert home.count("SELECT count(*) FROM inquiry") == len({first, second, third}) == 3
    assert home.rows("SELECT state FROM arrival WHERE state IN ('new', 'parked')") == []


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("raw", [DATED, UNDATED], ids=["dated", "undated"])
def test_the_same_mail_long_after_to_two_of_us_is_one_new_inquiry(home, raw, together):
    first = home.deliver(raw)
    home.clock.move(days=6)
    one = home.journal(raw, TOWN_HALL)
    home.clock.move(seconds=0.02)
    numbers = one, home.journal(raw, ROADS)
    batch = home.prepared(*numbers)
    taken = home.take_in(*batch) if together else home.take_in(batch[0]) + home.take_in(batch[1])
    assert sorted(one.outcome for one in taken) == ["duplicate", "new"]
    assert {one.ref for one in taken} != {first.ref}
    assert len({one.ref for one in taken}) == 1
    assert home.rows("SELECT state FROM arrival WHERE state IN ('new', 'parked')") == []


def test_the_same_person_is_one_contact_whatever_they_write_about(home):
    home.ask(sender="Kari <KARI@Eksempel.no>")
    home.ask(sender="kari@eksempel.no")
    assert home.count("SELECT count(*) FROM contact") == 1
    assert home.count("SELECT count(DISTINCT contact_id) FROM inquiry") == 1


def test_many_mails_from_new_people_keep_their_own_contacts(home):
    senders = [f"Person {n} <p{n}@eksempel.no>" for n in range(40)]
    batch = home.prepared(*(home.journal(mail(unique(), sender=s)) for s in senders))
    home.take_in(*batch)
    wrong = home.rows(
        "SELECT 1 FROM inquiry JOIN contact ON contact.id = inquiry.contact_id"
        " JOIN address USING (contact_id)"
        " WHERE contact.name != sender_name OR address.value != sender_address"
    )
    assert wrong == []
    assert home.count("SELECT count(*) FROM contact") == 40


def test_a_batch_with_one_spoilt_arrival_leaves_the_others_whole(home):
    """The reception then takes them one by one."""
    batch = home.prepared(*(home.journal(mail(unique())) for _ in range(3)))
    spoilt = replace(batch[1], decision=replace(batch[1].decision, department="finnes-ikke"))
    with pytest.raises((IntegrityError, KeyError)):
        home.take_in(batch[0], spoilt, batch[2])
    assert home.count("SELECT count(*) FROM inquiry") == 0
    assert len(home.take_in(batch[0])) == 1
    assert len(home.take_in(batch[2])) == 1


def test_a_message_to_an_unanswered_inquiry_keeps_its_date(home):
    ref = home.ask()
    due = home.inquiry(ref).due_at
    home.clock.move(days=1)
    home.deliver(mail("SV: x", "Purrer!"), home.head.reply_address(home.inquiry(ref).id))
    assert home.inquiry(ref).due_at == due


def test_a_question_after_an_answer_gets_a_date_of_its_own(home):
    actor, ref = home.person(), home.ask()
    home.reply(actor, ref)
    received = home.clock.move(days=5)
    home.deliver(mail("SV: x", "Og når?"), home.head.reply_address(home.inquiry(ref).id))
    inquiry = home.inquiry(ref)
    assert inquiry.due_at == inquiry.sort_at == oracle.due(received, 3)
    assert inquiry.answered_at is None


def test_a_receipt_is_owed_only_by_the_first_message_of_a_thread(home):
    ref = home.ask()
    home.deliver(mail("SV: x", "Mer."), home.head.reply_address(home.inquiry(ref).id))
    assert home.count("SELECT count(*) FROM outbox WHERE kind = 'receipt'") == 1


def test_receipts_stop_at_so_many_per_domain_and_hour(tmp_path):
    with house(tmp_path, per_domain_per_hour=5) as home:
        for n in range(8):
            home.ask(sender=f"robot{n}@eksempel.no")
        home.ask(sender="ola@annen.no")
        sent = "SELECT count(*) FROM outbox WHERE recipient_domain = :domain"
        assert home.count(sent, domain="eksempel.no") == 5
        assert home.count(sent, domain="annen.no") == 1
        home.clock.move(minutes=61)
        home.ask(sender="robot9@eksempel.no")
        assert home.count(sent, domain="eksempel.no") == 6


def test_a_large_mail_lies_beside_the_store_and_is_read_the_same(home):
    raw = mail(unique(), "x" * 70 + "\r\n" * 200_000)
    number = home.journal(raw)
    with home.db.read() as session:
        arrival = journal.get(session, number)
        assert journal.raw_of(session, arrival, home.workbench.blobs) == raw


def test_an_outbox_row_is_read_back_as_it_was_written(home):
    actor, ref = home.person(), home.ask("Hva koster det?")
    home.reply(actor, ref, "Ærlig talt: ingenting.")
    with home.db.read() as session:
        items = session.execute(select(OutboxItem)).scalars().all()
    assert len(items) == 2
    for item in items:
        letter = outbox.outgoing_of(item, home.workbench.blobs)
        again = outbox.row(letter, item.inquiry_id, item.thread_message_id, item.created_at)
        assert orjson.loads(orjson.dumps(again["payload"])) == item.payload
        assert letter.created_at == home.clock()
