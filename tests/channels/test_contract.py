"""The contract suite: what every door promises to whoever delivers, and to us who send."""

from __future__ import annotations

import asyncio

import pytest

from channels.base import Channel, UncertainError
from tests.channels.contract import DOORS, SENDERS, Answer, Fault
from tests.service import soon

CROWD = 40


@pytest.fixture(params=DOORS, ids=lambda kind: kind.name)
async def door(request, tmp_path):
    async with request.param.opened(tmp_path) as opened:
        yield opened


@pytest.fixture(params=SENDERS, ids=lambda kind: kind.name)
async def sender(request):
    async with request.param.opened() as opened:
        yield opened


async def kept(door, count):
    """What is in the store, when it is so much."""
    await soon(lambda: len(door.kept()) >= count, f"{count} kept")
    return door.kept()


async def test_nothing_is_acknowledged_before_it_is_in_the_store(door):
    door.gate.hold()
    delivery = asyncio.ensure_future(door.deliver(1, "Hei"))
    await soon(lambda: door.gate.waiting, "the store is asked")
    done, _ = await asyncio.wait({delivery}, timeout=0.2)
    assert not done
    assert door.kept() == []
    door.gate.let_go()
    assert await delivery is Answer.TAKEN
    assert await kept(door, 1) == ["Hei"]


async def test_a_store_that_refuses_is_no_fault_of_the_sender(door):
    door.gate.refusing = True
    assert await door.deliver(1, "Hei") is Answer.LATER
    assert door.kept() == []
    door.gate.refusing = False
    assert await door.deliver(1, "Hei") is Answer.TAKEN
    assert await kept(door, 1) == ["Hei"]


async def test_what_is_delivered_again_changes_nothing(door):
    assert await door.deliver(1, "Hei") is Answer.TAKEN
    assert await door.deliver(1, "Hei") is Answer.TAKEN
    again = await asyncio.gather(*(door.deliver(2, "Igjen") for _ in range(5)))
    assert set(again) == {Answer.TAKEN}
    assert await door.deliver(3, "Ny") is Answer.TAKEN
    assert await kept(door, 3) == ["Hei", "Igjen", "Ny"]


async def test_the_same_words_under_another_key_are_another_message(door):
    for number in range(3):
        assert await door.deliver(number + 1, "Hallo?") is Answer.TAKEN
    assert await kept(door, 3) == ["Hallo?"] * 3


async def test_hostile_input_costs_nobody_else_anything(door):
    assert await door.deliver(1, "Før") is Answer.TAKEN
    await kept(door, 1)
    answers = [await attack() for attack in door.hostile()]
    assert await door.deliver(2, "Etter") is Answer.TAKEN
    taken = answers.count(Answer.TAKEN)
    words = await kept(door, 2 + taken)
    assert (words[0], words[-1]) == ("Før", "Etter")
    assert len(words) == 2 + taken, "what was acknowledged is kept, and nothing else is"


async def test_a_crowd_waits_for_a_slow_store_or_is_told_to_come_back(door):
    door.gate.hold()
    crowd = [asyncio.ensure_future(door.deliver(n + 1, f"Nr. {n}")) for n in range(CROWD)]
    await soon(lambda: door.gate.waiting, "the store is asked")
    done, _ = await asyncio.wait(crowd, timeout=0.2)
    assert {one.result() for one in done} <= {Answer.LATER}
    door.gate.let_go()
    answers = await asyncio.gather(*crowd)
    assert set(answers) <= {Answer.TAKEN, Answer.LATER}
    assert Answer.TAKEN in answers
    told = [f"Nr. {n}" for n, answer in enumerate(answers) if answer is Answer.TAKEN]
    assert sorted(await kept(door, len(told))) == sorted(told)


async def test_a_door_opens_again_after_a_restart(door):
    assert await door.deliver(1, "Før") is Answer.TAKEN
    await door.restart()
    assert await door.deliver(1, "Før") is Answer.TAKEN
    assert await door.deliver(2, "Etter") is Answer.TAKEN
    assert await kept(door, 2) == ["Før", "Etter"]


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.NONE])
async def test_each_failure_has_its_name_and_the_next_message_goes(sender, fault):
    """What the outbox does next hangs on the name alone: wait, give up, pause, or ask a person."""
    assert isinstance(sender.channel, Channel)
    await sender.channel.send(sender.letter(1))
    before = sender.taken()
    await sender.fail_once(fault)
    with pytest.raises(fault.value) as caught:
        await sender.channel.send(sender.letter(2))
    assert type(caught.value) is fault.value
    assert str(caught.value).strip(), "an operator reads why"
    if fault.value is not UncertainError:
        assert sender.taken() == before
    receipt = await sender.channel.send(sender.letter(3))
    assert receipt.detail
