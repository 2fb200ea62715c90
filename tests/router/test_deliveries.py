"""How far a text has come: forward only, whatever order it is told in, and never sent twice."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from itertools import permutations

import pytest

from channels.base import DeliveryState, DeliveryStatus, OptedOutError, Receipt, UncertainError
from channels.fake import FakeChannel
from router import deliveries, outbox, sending
from router.models import OutboxItem
from router.sending import LEASE, Outbox
from tests.router.store_house import house
from tests.service import soon

SID = "SM" + "1" * 32


class TextDoor(FakeChannel):
    """A door whose provider takes one message twice for two."""

    once_only = True


@pytest.fixture
def home(tmp_path):
    with house(tmp_path) as opened:
        yield opened


@pytest.fixture
def replied(home):
    """An inquiry with a reply that waits to go out as a text."""
    actor, ref = home.person(), home.ask()
    home.reply(actor, ref)

    def as_text(session):
        run = session.connection().exec_driver_sql
        run("UPDATE outbox SET state = 'sent' WHERE kind = 'receipt'")
        run("UPDATE outbox SET channel = 'sms' WHERE kind = 'reply'")

    home.write(as_text)
    return ref


def row(home) -> tuple[str, str, str]:
    [found] = home.rows(
        "SELECT o.state, o.provider_id, m.delivery FROM outbox o"
        " JOIN message m ON m.id = o.thread_message_id WHERE o.channel = 'sms'"
    )
    return found


def message_id(home) -> str:
    [(found,)] = home.rows("SELECT message_id FROM outbox WHERE channel = 'sms'")
    return found


def tell(home, state: str, sid: str = SID, *, ours: bool = True, **more) -> bool:
    status = DeliveryStatus(sid, DeliveryState(state), **more)
    known = message_id(home) if ours else ""
    return home.write(
        lambda session: deliveries.report(session, status, home.clock(), message_id=known)
    )


def sender(home, door) -> Outbox:
    return Outbox(home.db, {"sms": door}, home.workbench.blobs, home.clock)


async def sent(home, replied) -> FakeChannel:
    door = TextDoor("sms")
    await sender(home, door).deliver_due()
    [(sid,)] = home.rows("SELECT provider_id FROM outbox WHERE channel = 'sms'")
    assert sid == "sms-1"
    return door


async def test_a_text_is_sent_and_then_delivered(home, replied):
    await sent(home, replied)
    assert row(home) == ("sent", "sms-1", "sent")
    assert tell(home, "delivered", "sms-1")
    assert row(home) == ("delivered", "sms-1", "delivered")
    assert home.events(replied)[-2:] == ["sent", "delivered"]
    assert home.inquiry(replied).reply_state == "answered"


@pytest.mark.parametrize("order", list(permutations(["sending", "sent", "delivered"])))
async def test_in_whatever_order_it_is_told_the_end_is_the_same(home, replied, order):
    await sent(home, replied)
    for state in (*order, *order):
        tell(home, state, "sms-1")
    assert row(home) == ("delivered", "sms-1", "delivered")
    assert home.events(replied).count("delivered") == 1


async def test_what_did_not_arrive_goes_back_to_the_queue_with_the_reason(home, replied):
    await sent(home, replied)
    assert tell(home, "failed", "sms-1", detail="Telefonen er avslått. (Twilio 30003)")
    assert row(home) == ("failed", "sms-1", "failed")
    inquiry = home.inquiry(replied)
    assert (inquiry.status, inquiry.reply_state) == ("open", "not_delivered")
    # A late word of success does not undo a terminal state, nor is failure told twice.
    assert not tell(home, "delivered", "sms-1")
    assert not tell(home, "failed", "sms-1")
    assert home.events(replied).count("not_delivered") == 1


async def test_a_report_that_is_quicker_than_our_own_note_wins(home, replied):
    class Quick(TextDoor):
        async def send(self, outgoing):
            await asyncio.to_thread(tell, home, "delivered")
            return Receipt(SID)

    await sender(home, Quick("sms")).deliver_due()
    assert row(home) == ("delivered", SID, "delivered")
    assert home.events(replied).count("delivered") == 1
    assert "sent" not in home.events(replied)


async def test_a_report_settles_what_was_uncertain_and_it_is_not_sent_again(home, replied):
    door = TextDoor("sms")
    door.fail_next(UncertainError("Forbindelsen ble brutt."))
    out = sender(home, door)
    await out.deliver_due()
    assert row(home)[0] == "uncertain"
    home.clock.move(days=2)
    assert await out.deliver_due() == 0
    # That the provider has taken it is enough: it is on its way.
    assert tell(home, "sending")
    assert row(home) == ("sent", SID, "sent")
    assert tell(home, "delivered")
    assert row(home) == ("delivered", SID, "delivered")
    assert door.attempts == 1


async def test_the_words_of_an_earlier_attempt_do_not_count_for_the_next(home, replied):
    door = await sent(home, replied)
    tell(home, "failed", "sms-1", detail="Avslått.")
    [(item_id,)] = home.rows("SELECT id FROM outbox WHERE channel = 'sms'")
    home.write(lambda session: outbox.retry(session, item_id, home.clock()))
    for state in ("sent", "delivered", "failed"):
        assert not tell(home, state, "sms-1")
    assert row(home)[0] == "queued"
    await sender(home, door).deliver_due()
    assert door.attempts == 2


async def test_proof_that_it_was_taken_after_all_calls_off_a_second_attempt(home, replied):
    door = TextDoor("sms")
    door.fail_next(UncertainError("?"))
    out = sender(home, door)
    await out.deliver_due()
    [(item_id,)] = home.rows("SELECT id FROM outbox WHERE channel = 'sms'")
    home.write(lambda session: outbox.retry(session, item_id, home.clock()))
    assert tell(home, "sent")
    assert await out.deliver_due() == 0
    assert (row(home)[0], door.attempts) == ("sent", 1)


async def test_without_our_own_id_the_providers_id_must_be_known(home, replied):
    await sent(home, replied)
    assert not tell(home, "delivered", SID, ours=False)
    assert not tell(home, "delivered", "", ours=False)
    assert tell(home, "delivered", "sms-1", ours=False)


async def test_one_whose_sender_vanished_in_the_middle_is_uncertain_and_never_repeated(
    home, replied
):
    class Vanishing(TextDoor):
        async def send(self, outgoing):
            self.attempts += 1
            started.set()
            await asyncio.Event().wait()

    started = asyncio.Event()
    door = Vanishing("sms")
    task = asyncio.create_task(sender(home, door).deliver_due())
    await started.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert row(home)[0] == "sending"
    # The next process on this store knows at once that nobody holds it.
    out = sender(home, door)
    out.start()
    await soon(lambda: row(home)[0] == "uncertain")
    await out.stop()
    assert home.events(replied)[-1] == "uncertain"
    assert door.attempts == 1


def take(home):
    """What a lane does just before it sends."""
    mine = OutboxItem.channel == "sms"
    return home.write(lambda session: sending._take(session, home.clock(), mine, once_only=True))


async def test_one_that_was_taken_and_given_back_goes_out_without_a_warning(home, replied):
    home.write(partial(sending._give_back, item=take(home)))
    door = TextDoor("sms")
    await sender(home, door).deliver_due()
    assert row(home) == ("sent", "sms-1", "sent")
    [(detail,)] = home.rows("SELECT detail FROM outbox WHERE channel = 'sms'")
    assert detail == "OK"


async def test_a_shared_store_gives_another_process_its_time(home, replied):
    """A row that is being sent by somebody alive is left alone until its lease has ended."""
    assert take(home) is not None
    assert take(home) is None
    out = sender(home, TextDoor("sms"))
    await out._find_lost()
    assert row(home)[0] == "sending"
    home.clock.now += LEASE + timedelta(seconds=1)
    await out._find_lost()
    assert row(home)[0] == "uncertain"


async def test_who_has_opted_out_at_the_provider_is_known_to_have(home, replied):
    home.write(
        lambda session: session.connection().exec_driver_sql(
            "UPDATE address SET channel = 'phone', value = '+4790012345'"
        )
    )
    home.write(
        lambda session: session.connection().exec_driver_sql(
            "UPDATE outbox SET recipient = '+4790012345' WHERE channel = 'sms'"
        )
    )
    door = TextDoor("sms")
    door.fail_next(OptedOutError("Mottakeren har reservert seg."))
    await sender(home, door).deliver_due()
    assert row(home)[0] == "failed"
    assert home.rows("SELECT count(*) FROM address WHERE opted_out_at IS NOT NULL") == [(1,)]
    assert home.events(replied)[-2:] == ["not_delivered", "opted_out"]
