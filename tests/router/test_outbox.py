"""Sending: never inside a transaction, never twice on purpose, never given up in silence."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise

import pytest
from sqlalchemy import true
from sqlmodel import select
from structlog.testing import capture_logs

from channels.base import (
    MisconfiguredError,
    PermanentError,
    TemporaryError,
    UncertainError,
    UnreachableError,
)
from channels.email.compose import compose
from channels.email.verdict import Verdict
from channels.fake import FakeChannel
from router import outbox, passing, sending
from router.errors import NotFoundError
from router.models import Arrival, OutboxItem
from router.sending import CIRCUIT_PAUSE, GIVE_UP, LEASE, Outbox
from tests.router.store_house import house
from tests.router.test_writer import unpaid
from tests.service import PATIENCE, mail, soon


@pytest.fixture
def home(tmp_path):
    with house(tmp_path) as opened:
        yield opened


@pytest.fixture
def door():
    return FakeChannel("email")


def open_outbox(home, door) -> Outbox:
    return Outbox(home.db, {"email": door}, home.workbench.blobs, home.clock)


def states(home) -> list[tuple[str, str, int]]:
    return home.rows("SELECT kind, state, attempts FROM outbox ORDER BY id")


@pytest.fixture
def replied(home):
    """An inquiry with its receipt sent and a reply that waits."""
    actor, ref = home.person(), home.ask()
    home.write(
        lambda session: session.connection().exec_driver_sql(
            "UPDATE outbox SET state = 'sent', attempts = 1"
        )
    )
    home.clock.move(seconds=1)
    home.reply(actor, ref)
    return ref


async def test_what_is_due_is_sent_once_and_told(home, door):
    actor, ref = home.person(), home.ask()
    home.reply(actor, ref)
    sender = open_outbox(home, door)
    assert await sender.deliver_due() == 2
    assert await sender.deliver_due() == 0
    assert [(o.kind, o.to.value) for o in door.sent] == [
        ("receipt", "kari@eksempel.no"),
        ("reply", "kari@eksempel.no"),
    ]
    assert states(home) == [("receipt", "sent", 1), ("reply", "sent", 1)]
    assert home.rows("SELECT delivery FROM message WHERE kind = 'reply'") == [("sent",)]
    assert home.events(ref).count("delivered") == 2


async def test_a_second_attempt_sends_the_same_bytes(home, door, replied):
    sent: list[bytes] = []

    class Recorder(FakeChannel):
        async def send(self, outgoing):
            sent.append(compose(outgoing, "post.sorum.kommune.no"))
            return await super().send(outgoing)

    recorder = Recorder("email")
    recorder.fail_next(TemporaryError("Prøv igjen."))
    sender = open_outbox(home, recorder)
    await sender.deliver_due()
    home.clock.move(hours=1)
    await sender.deliver_due()
    assert len(sent) == 2
    assert sent[0] == sent[1]


async def test_attempts_grow_further_apart_and_end_after_three_days(home, door, replied):
    door.fail_always(TemporaryError("Prøv igjen."))
    sender = open_outbox(home, door)
    began = home.clock()
    attempts = []
    while states(home)[1][1] == "queued":
        due = next_attempt(home)
        home.clock.now = due - timedelta(seconds=1)
        assert await sender.deliver_due() == 0
        home.clock.now = due
        assert await sender.deliver_due() == 1
        attempts.append(due - began)
    gaps = [later - earlier for earlier, later in pairwise(attempts)]
    minutes = [gap / timedelta(minutes=1) for gap in gaps]
    most = [1, 5, 15, 30, 60, *[240] * (len(gaps) - 5)]
    # Spread over half of each pause: many that were refused together do not come again together.
    assert all(full / 2 <= gap <= full for gap, full in zip(minutes, most, strict=True))
    assert len(set(minutes)) == len(minutes)
    assert attempts[-2] <= GIVE_UP < attempts[-1]
    inquiry = home.inquiry(replied)
    assert inquiry.reply_state == "not_delivered"
    assert inquiry.answered_at is None
    # After four hours, once, a person is told.
    assert home.events(replied).count("stuck") == 1
    assert home.events(replied).count("not_delivered") == 1


def next_attempt(home) -> datetime:
    with home.db.read() as session:
        query = select(OutboxItem.next_at).where(OutboxItem.state == "queued")
        return session.execute(query).scalar_one()


async def test_a_permanent_refusal_opens_a_closed_inquiry_again(home, door):
    actor, ref = home.person(), home.ask()
    await open_outbox(home, door).deliver_due()
    home.reply(actor, ref, close=True)
    assert home.inquiry(ref).status == "closed"
    door.fail_next(PermanentError("Ukjent mottaker."))
    await open_outbox(home, door).deliver_due()
    inquiry = home.inquiry(ref)
    assert (inquiry.status, inquiry.reply_state) == ("open", "not_delivered")
    assert home.rows("SELECT delivery_detail FROM message WHERE kind = 'reply'") == [
        ("Ukjent mottaker.",)
    ]
    assert home.rows("SELECT name, value FROM counter WHERE name LIKE 'open:%'") == [
        ("open:servicetorg", 1)
    ]


async def test_a_receipt_that_cannot_be_delivered_changes_nothing_about_the_inquiry(home, door):
    ref = home.ask()
    door.fail_next(PermanentError("Ukjent mottaker."))
    await open_outbox(home, door).deliver_due()
    assert home.inquiry(ref).reply_state == "unanswered"
    assert "not_delivered" in home.events(ref)


async def test_a_reply_that_goes_through_at_the_second_try_is_an_answer_after_all(home, door):
    actor, ref = home.person(), home.ask()
    home.reply(actor, ref)
    sender = open_outbox(home, door)
    door.fail_next(TemporaryError("Senere."), PermanentError("Ukjent mottaker."))
    await sender.deliver_due()
    assert home.inquiry(ref).reply_state == "not_delivered"
    [(number,)] = home.rows("SELECT id FROM outbox WHERE kind = 'reply'")
    home.write(lambda session: outbox.retry(session, number, home.clock()))
    await sender.deliver_due()
    inquiry = home.inquiry(ref)
    assert inquiry.reply_state == "answered"
    assert inquiry.answered_at == home.clock()
    assert home.rows("SELECT delivery FROM message WHERE kind = 'reply'") == [("sent",)]


async def test_a_new_question_is_not_answered_by_an_old_reply_sent_again(home, door):
    actor, ref = home.person(), home.ask()
    home.reply(actor, ref)
    sender = open_outbox(home, door)
    door.fail_next(TemporaryError("Senere."), PermanentError("Ukjent mottaker."))
    await sender.deliver_due()
    home.deliver(mail("SV: x", "Hallo?"), home.head.reply_address(home.inquiry(ref).id))
    [(number,)] = home.rows("SELECT id FROM outbox WHERE kind = 'reply'")
    home.write(lambda session: outbox.retry(session, number, home.clock()))
    await sender.deliver_due()
    assert home.inquiry(ref).reply_state == "unanswered"


async def test_a_forwarded_contact_that_cannot_be_delivered_needs_a_person_again(home, door):
    waste = "renovasjon@sorum.kommune.no"
    ref = home.deliver(mail("Dunken", "Dunken er ikke tømt."), waste).ref
    await open_outbox(home, door).deliver_due()
    [forward] = [letter for letter in door.sent if letter.kind == "forward"]
    assert home.inquiry(ref).reply_state == "unanswered"
    # The bounce must find its way: the null sender would swallow it.
    assert forward.return_path
    assert b"Auto-Submitted: auto-generated\r\n" in compose(forward, "post.sorum.kommune.no")
    bounce = mail(
        "Undelivered Mail", "550 5.1.1", sender="MAILER-DAEMON@roaf.example", to=forward.return_path
    )
    home.deliver(bounce, forward.return_path, mail_from="")
    assert home.inquiry(ref).reply_state == "not_delivered"
    assert "not_delivered" in home.events(ref)

    other = home.deliver(mail("Dunken igjen", "Dunken er ikke tømt."), waste).ref
    door.fail_next(*[PermanentError("Ukjent mottaker.")] * 2)
    await open_outbox(home, door).deliver_due()
    assert home.inquiry(other).reply_state == "not_delivered"


async def test_a_bounce_to_a_reply_address_says_nothing_about_a_reply(home, door):
    """Anybody who got a receipt could send one."""
    actor, ref = home.person(), home.ask()
    home.reply(actor, ref)
    await open_outbox(home, door).deliver_due()
    address = home.head.reply_address(home.inquiry(ref).id)
    bounce = mail("Undelivered Mail", "550", sender="MAILER-DAEMON@x.example", to=address)
    home.deliver(bounce, address, mail_from="")
    assert home.inquiry(ref).reply_state == "answered"


async def test_an_unknown_outcome_is_never_repeated_by_itself(home, door, replied):
    door.fail_next(UncertainError("Brutt."))
    sender = open_outbox(home, door)
    await sender.deliver_due()
    assert states(home)[1] == ("reply", "uncertain", 1)
    home.clock.move(days=2)
    assert await sender.deliver_due() == 0
    assert "uncertain" in home.events(replied)
    [number] = [row[0] for row in home.rows("SELECT id FROM outbox WHERE kind = 'reply'")]
    home.write(lambda session: outbox.retry(session, number, home.clock()))
    assert await sender.deliver_due() == 1
    assert states(home)[1] == ("reply", "sent", 2)


def test_what_was_sent_cannot_be_sent_again(home, replied):
    with pytest.raises(NotFoundError):
        home.write(lambda session: outbox.retry(session, 1, home.clock()))


async def test_a_refusal_of_ourselves_costs_no_message_an_attempt(home, door):
    for _ in range(6):
        home.ask()
    door.fail_always(MisconfiguredError("Avsenderen vår ble avvist."))
    sender = open_outbox(home, door)
    await sender.deliver_due()
    # Two connections may have tried before the first refusal was known.
    assert door.attempts <= 2
    assert set(states(home)) == {("receipt", "queued", 0)}
    assert sender.problem == "Avsenderen vår ble avvist."
    await sender.deliver_due()
    assert door.attempts <= 2
    door.fail_always(None)
    home.clock.now += CIRCUIT_PAUSE
    await sender.deliver_due()
    assert len(door.sent) == 6
    assert sender.problem == ""


async def test_a_contact_that_a_person_sends_on_is_no_automatic_letter(home, door):
    actor, ref = home.person(), home.ask()
    home.write(
        lambda session: passing.transfer(
            session, home.head, actor, ref, "renovasjon", "", home.clock()
        )
    )
    await open_outbox(home, door).deliver_due()
    [forward] = [letter for letter in door.sent if letter.kind == "forward"]
    assert b"Auto-Submitted" not in compose(forward, "post.sorum.kommune.no")


WITH_FILE = (
    b"From: Kari <kari@eksempel.no>\r\nSubject: En sak\r\nMessage-ID: <f@eksempel.no>\r\n"
    b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n"
    b"--x\r\nContent-Type: text/plain\r\n\r\nHva kan dere gjore med dette?\r\n--x\r\n"
    b"Content-Type: application/pdf; name=dunk.pdf\r\n"
    b"Content-Disposition: attachment; filename=dunk.pdf\r\n\r\n%PDF-1.7 dunk\r\n--x--\r\n"
)


@pytest.mark.parametrize("checked", [True, False], ids=["checked", "unchecked"])
@pytest.mark.parametrize("by", ["rules", "person"])
async def test_files_that_nobody_has_checked_do_not_go_along_to_other_bodies(
    home, door, checked, by
):
    to = "renovasjon@sorum.kommune.no" if by == "rules" else "postmottak@sorum.kommune.no"
    scan = Verdict(unscanned=not checked).for_envelope()
    number = home.journal(WITH_FILE, to)
    home.write(
        lambda s: setattr(a := s.get_one(Arrival, number), "envelope", a.envelope | {"scan": scan})
    )
    [taken] = home.take_in(*home.prepared(number))
    if by == "person":
        actor = home.person()
        home.write(
            lambda s: passing.transfer(
                s, home.head, actor, taken.ref, "renovasjon", "", home.clock()
            )
        )
    await open_outbox(home, door).deliver_due()
    [forward] = [letter for letter in door.sent if letter.kind == "forward"]
    assert "Hva kan dere gjore med dette?" in forward.text
    assert [file.filename for file in forward.attachments] == (["dunk.pdf"] if checked else [])
    assert ("ikke undersøkt for virus" in forward.text) is not checked


async def test_a_silent_smarthost_is_logged_when_it_begins_and_when_it_ends(home, door):
    for _ in range(3):
        home.ask()
    door.fail_always(UnreachableError("Ingen svarer på post.eksempel.no."))
    sender = open_outbox(home, door)
    with capture_logs() as logs:
        for _ in range(3):
            await sender.deliver_due()
            home.clock.now += CIRCUIT_PAUSE
        door.fail_always(None)
        await sender.deliver_due()
    assert len(door.sent) == 3
    assert [entry for entry in logs if entry["event"].startswith("outbox.door")] == [
        {
            "event": "outbox.door_closed",
            "log_level": "warning",
            "channel": "email",
            "reason": "UnreachableError",
        },
        {"event": "outbox.door_open", "log_level": "info", "channel": "email"},
    ]


async def test_one_message_that_cannot_be_written_keeps_nobody_waiting(home, door):
    """A fault of ours, not foreseen anywhere."""
    for _ in range(5):
        home.ask()
    door.fail_next(RuntimeError("uventet"))  # type: ignore[arg-type]
    sender = open_outbox(home, door)
    await sender.deliver_due()
    assert len(door.sent) == 4
    assert sorted(states(home)) == [("receipt", "queued", 1)] + [("receipt", "sent", 1)] * 4
    home.clock.move(minutes=2)
    await sender.deliver_due()
    assert len(door.sent) == 5


async def test_what_was_sent_is_noted_as_soon_as_the_store_takes_it(home, door, monkeypatch):
    """A commit that fails just then must not make the message go out twice."""
    monkeypatch.setattr(sending, "STORE_PAUSE", 0.01)
    for _ in range(4):
        home.ask()
    faults = iter(range(3))

    class Saboteur(FakeChannel):
        async def send(self, outgoing):
            receipt = await super().send(outgoing)
            if next(faults, None) is not None:
                home.db.submit(unpaid).add_done_callback(lambda future: future.exception())
            return receipt

    saboteur = Saboteur("email")
    sender = open_outbox(home, saboteur)
    sender.start()
    await soon(lambda: sender.wake() or states(home) == [("receipt", "sent", 1)] * 4)
    await sender.stop()
    assert home.db.stats.failed_commits >= 1
    assert states(home) == [("receipt", "sent", 1)] * 4
    assert saboteur.attempts == 4


async def test_two_senders_never_take_the_same_message(home, door):
    for number in range(30):
        home.ask(sender=f"{number}@eksempel.no")
    senders = [open_outbox(home, door) for _ in range(4)]
    await asyncio.gather(*(sender.deliver_due() for sender in senders))
    assert sorted(o.message_id for o in door.sent) == sorted(
        row[0] for row in home.rows("SELECT message_id FROM outbox")
    )
    assert door.attempts == 30


class Slow(FakeChannel):
    """A door whose other side answers some recipients, or all, only when it is let go."""

    def __init__(self, *slow: str) -> None:
        super().__init__("email")
        self.slow = slow
        self.entered: list[str] = []
        self.go = asyncio.Event()

    async def send(self, outgoing):
        self.entered.append(outgoing.to.value)
        if not self.slow or outgoing.to.value in self.slow:
            await self.go.wait()
        return await super().send(outgoing)


async def test_a_slow_recipient_holds_up_no_other(home):
    home.ask(sender="treg@eksempel.no")
    for number in range(6):
        home.ask(sender=f"{number}@eksempel.no")
    slow = Slow("treg@eksempel.no")
    sender = open_outbox(home, slow)
    sender.start()
    await soon(lambda: len(slow.sent) == 6)
    home.ask(sender="ny@eksempel.no")
    sender.wake()
    await soon(lambda: len(slow.sent) == 7)
    assert "treg@eksempel.no" not in [letter.to.value for letter in slow.sent]
    slow.go.set()
    await soon(lambda: len(slow.sent) == 8)
    await sender.stop()
    assert slow.attempts == 8


async def test_letters_wait_while_a_crowd_comes_in_but_not_for_long(home, door, monkeypatch):
    """Each of them costs as much as a contact that waits to be taken in."""
    looked = 0

    def crowded() -> bool:
        nonlocal looked
        looked += 1
        return there

    there = True
    home.ask()
    sender = Outbox(home.db, {"email": door}, home.workbench.blobs, home.clock, crowded)
    sender.start()
    await soon(lambda: looked > 4, "waiting for calm")
    assert not door.sent
    there = False
    await soon(lambda: len(door.sent) == 1, "the letter, now that it is calm")
    there = True
    monkeypatch.setattr(sending, "GIVE_WAY", 0.2)
    home.ask()
    sender.wake()
    await soon(lambda: len(door.sent) == 2, "the letter, though it is crowded for long")
    await sender.stop()


async def test_of_two_services_each_takes_only_what_it_sends(home, door):
    """What waits behind a slow answer is nobody's: another service sends it, and it goes out
    once."""
    for number in range(9):
        home.ask(sender=f"{number}@eksempel.no")
    slow = Slow()
    first = open_outbox(home, slow)
    first.start()
    await soon(lambda: len(slow.entered) == 2)
    second = open_outbox(home, door)
    assert await second.deliver_due() == 7
    home.clock.now += LEASE + timedelta(seconds=1)
    slow.go.set()
    await soon(lambda: len(slow.sent) == 2)
    await first.stop()
    assert await second.deliver_due() == 0
    assert len(slow.entered) + door.attempts == 9
    assert states(home) == [("receipt", "sent", 1)] * 9


async def test_a_message_stays_with_its_sender_for_as_long_as_that_takes(
    home, door, replied, monkeypatch
):
    """A mail server may take ten minutes to answer."""
    monkeypatch.setattr(sending, "RENEW_SECONDS", 0.01)
    slow = Slow()
    first = open_outbox(home, slow)
    first.start()
    await soon(lambda: slow.entered)
    lease = "SELECT count(*) FROM outbox WHERE lease_until > :now"
    for _ in range(3):
        now = home.clock.move(minutes=4)
        ahead = (now + LEASE - timedelta(seconds=1)).strftime("%Y-%m-%d %H:%M:%S.%f")
        await soon(lambda ahead=ahead: home.count(lease, now=ahead) == 1)
        assert await open_outbox(home, door).deliver_due() == 0
    slow.go.set()
    await soon(lambda: states(home)[1] == ("reply", "sent", 1))
    await first.stop()
    assert (door.attempts, slow.attempts) == (0, 1)


async def test_asking_for_what_is_just_being_sent_sends_it_once(home, door, replied):
    slow = Slow()
    first = open_outbox(home, slow)
    first.start()
    await soon(lambda: slow.entered)
    [(number,)] = home.rows("SELECT id FROM outbox WHERE kind = 'reply'")
    home.write(lambda session: outbox.retry(session, number, home.clock()))
    assert await open_outbox(home, door).deliver_due() == 0
    slow.go.set()
    await soon(lambda: slow.sent)
    await first.stop()
    assert states(home)[1] == ("reply", "sent", 1)


async def test_another_try_of_an_old_message_has_three_days_of_its_own(home, door, replied):
    sender = open_outbox(home, door)
    door.fail_next(PermanentError("Ukjent mottaker."))
    await sender.deliver_due()
    home.clock.move(days=10)
    [(number,)] = home.rows("SELECT id FROM outbox WHERE kind = 'reply'")
    home.write(lambda session: outbox.retry(session, number, home.clock()))
    again = home.clock()
    door.fail_always(TemporaryError("Prøv igjen."))
    while states(home)[1][1] == "queued":
        assert await sender.deliver_due() == 1
        last = home.clock.now
        if states(home)[1][1] == "queued":
            home.clock.now = next_attempt(home)
    assert last - again > GIVE_UP
    assert home.inquiry(replied).reply_state == "not_delivered"


async def test_what_waits_for_a_closed_door_says_why(home, door):
    for number in range(5):
        home.ask(sender=f"{number}@eksempel.no")
    door.fail_always(UnreachableError("Ingen svarer."))
    sender = open_outbox(home, door)
    await sender.deliver_due()
    assert home.rows("SELECT DISTINCT detail, attempts FROM outbox") == [("Ingen svarer.", 0)]
    assert door.attempts <= 2
    door.fail_always(None)
    home.clock.move(minutes=2)
    assert await sender.deliver_due() == 5
    assert states(home) == [("receipt", "sent", 1)] * 5


async def test_what_no_door_takes_is_noted_beside_what_is_sent(home, door):
    home.ask()
    home.ask(sender="ola@eksempel.no")
    home.write(
        lambda session: session.connection().exec_driver_sql(
            "UPDATE outbox SET channel = 'brevdue' WHERE recipient = 'ola@eksempel.no'"
        )
    )
    other = FakeChannel("sms")
    sender = Outbox(home.db, {"email": door, "sms": other}, home.workbench.blobs, home.clock)
    await sender.deliver_due()
    assert sorted(states(home)) == [("receipt", "failed", 1), ("receipt", "sent", 1)]
    assert other.attempts == 0


async def test_a_message_whose_sender_vanished_goes_out_when_its_lease_ends(home, door, replied):
    home.write(partial(sending._take, now=home.clock(), mine=true()))
    sender = open_outbox(home, door)
    home.clock.now += LEASE - timedelta(seconds=1)
    assert await sender.deliver_due() == 0
    home.clock.now += timedelta(seconds=2)
    assert await sender.deliver_due() == 1
    assert [o.kind for o in door.sent] == ["reply"]


async def test_after_a_crash_the_next_service_waits_for_no_lease_of_the_dead_one(
    home, door, replied
):
    home.write(partial(sending._take, now=home.clock(), mine=true()))
    sender = open_outbox(home, door)
    sender.start()
    await soon(lambda: len(door.sent) == 1)
    await sender.stop()
    assert states(home)[1] == ("reply", "sent", 1)


async def test_stopping_finishes_what_is_being_sent_and_leaves_the_rest_as_it_was(home):
    for _ in range(7):
        home.ask()
    door = Slow()
    sender = open_outbox(home, door)
    sender.start()
    await soon(lambda: len(door.entered) == 2)
    stopping = asyncio.create_task(sender.stop())
    await asyncio.sleep(0)
    door.go.set()
    await stopping
    assert len(door.sent) == 2
    assert [state for _, state, _ in states(home)].count("sent") == 2
    assert home.count("SELECT count(*) FROM outbox WHERE lease_until IS NOT NULL") == 0
    assert await open_outbox(home, door).deliver_due() == 5
    assert len(door.sent) == 7


async def test_waking_it_sends_at_once_from_any_thread(home, door):
    sender = open_outbox(home, door)
    sender.start()
    home.ask()
    await asyncio.to_thread(sender.wake)
    await soon(lambda: door.sent)
    await sender.stop()


@pytest.mark.parametrize("kind", ["receipt", "reply"])
async def test_a_store_that_refuses_the_note_is_asked_again_and_nothing_is_sent_twice(
    home, monkeypatch, kind
):
    """The job fails, not the commit: as for a table that is locked, or a disk that is full."""
    monkeypatch.setattr(sending, "STORE_PAUSE", 0.01)
    home.reply(home.person(), home.ask())

    def rename(old, new):
        return lambda session: session.connection().exec_driver_sql(
            f"ALTER TABLE {old} RENAME TO {new}"
        )

    class Saboteur(FakeChannel):
        async def send(self, outgoing):
            receipt = await super().send(outgoing)
            if outgoing.kind == kind:
                home.write(rename("event", "gone"))
                back = partial(home.db.submit, rename("gone", "event"))
                asyncio.get_running_loop().call_later(0.1, back)
            return receipt

    door = Saboteur("email")
    sender = open_outbox(home, door)
    await asyncio.wait_for(sender.deliver_due(), PATIENCE)
    assert home.db.stats.failed_jobs >= 1
    assert states(home) == [("receipt", "sent", 1), ("reply", "sent", 1)]
    assert await sender.deliver_due() == 0
    assert door.attempts == 2


@pytest.mark.parametrize("kind", ["forward", "reply"])
async def test_a_bounce_that_is_quicker_than_our_note_of_sending_counts(home, kind):
    waste = "renovasjon@sorum.kommune.no"
    ref = home.deliver(mail("Dunken", "Dunken er ikke tømt."), waste).ref
    if kind == "reply":
        home.reply(home.person(), ref)

    class Refusing(FakeChannel):
        async def send(self, outgoing):
            receipt = await super().send(outgoing)
            if outgoing.kind == kind:
                back = outgoing.return_path
                bounce = mail("Undelivered Mail", "550 5.1.1", sender="MAILER-DAEMON@x.no", to=back)
                home.deliver(bounce, back, mail_from="")
            return receipt

    await open_outbox(home, Refusing("email")).deliver_due()
    assert home.rows("SELECT state FROM outbox WHERE kind = :k", k=kind) == [("failed",)]
    assert home.inquiry(ref).reply_state == "not_delivered"
