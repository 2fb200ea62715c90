"""Where calls may be passed on to, and who may do it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from router import call_desk
from router.call_desk import Target
from router.call_models import CallOutcome, CallState
from router.errors import InvalidError
from rules.presence import State
from tests.phone_house import BYGGESAK, KARI, PHONES, phone_house
from tests.router.callers import Caller, accept, sent_on, taken


@pytest.fixture
async def home(tmp_path):
    async with phone_house(tmp_path) as opened:
        yield opened


async def talk(home) -> tuple[Caller, int]:
    """Somebody whom Siv talks with."""
    caller = await Caller(home).queue()
    await taken(home, caller)
    return caller, caller.call.id


async def act(home, actor, action, number, *more, **options):
    plan, now = home.hall.plan, home.clock()
    return await home.write(lambda s: action(s, actor, number, *more, plan, now, **options))


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize(
    ("number", "why"),
    [
        (KARI, "a number of our own"),
        (BYGGESAK, "a number of our own"),
        ("63 86 90 00", "a number of our own"),
        ("+252 61 234 5678", "in this country"),
        ("+1 876 555 1234", "in this country"),
        ("+881 6 3555 1234", "in this country"),
        ("829 01 234", "premium-rate"),
        ("12", "no phone number"),
    ],
)
async def test_a_caller_is_not_passed_on_to(home, number, why, warm):
    _, call = await talk(home)
    siv = await home.actor("siv")
    with pytest.raises(InvalidError, match=why):
        await act(home, siv, call_desk.transfer, call, Target("number", number), warm=warm)
    assert home.one("SELECT count(*) FROM call_command WHERE verb <> 'send'") == 1  # her own phone
    assert home.one("SELECT state FROM call") == CallState.TALKING


@pytest.mark.parametrize("number", ["22 22 22 22", "06040", "79 02 12 34", "113"])
async def test_a_caller_is_passed_on_within_the_country(home, number):
    caller, call = await talk(home)
    await act(home, await home.actor("siv"), call_desk.transfer, call, Target("number", number))
    await sent_on(home, caller)
    assert caller.rung[0].endswith(number.replace(" ", ""))


async def test_where_calls_may_go_is_configured(tmp_path):
    more = {"CHANNELS__PHONE__TRANSFER_COUNTRIES": "se, dk"}
    async with phone_house(tmp_path, **more) as home:
        caller, call = await talk(home)
        siv = await home.actor("siv")
        with pytest.raises(InvalidError, match="in this country"):
            await act(home, siv, call_desk.transfer, call, Target("number", "22222222"))
        await act(home, siv, call_desk.transfer, call, Target("number", "+46 8 123 456 00"))
        await sent_on(home, caller)
        assert caller.rung == ["+46812345600"]


async def test_a_service_of_a_department_acts_for_its_own_people_alone(home):
    """With the calls of its department, and the phones of its people."""
    ours, theirs = await home.api("byggesak"), await home.api("vei")
    for name in ("kari", "ola"):
        await home.mark(name, State.ABSENT, timedelta(hours=8))

    async def waits() -> str:
        caller = await Caller(home, BYGGESAK).ring()  # nobody there: on to the switchboard
        assert caller.call.state == CallState.WAITING
        return f"/api/calls/{caller.call.id}"

    call = await waits()
    assert (await theirs.post(f"{call}/take", json={"person": "kari"})).status_code == 404
    assert (await ours.post(f"{call}/take", json={"person": "siv"})).status_code == 403
    assert (await ours.post(f"{call}/take", json={"person": "kari"})).json()["staff"] == "kari"
    assert (await ours.post(f"{call}/hang-up")).status_code == 200
    assert (await theirs.post(f"{call}/hang-up")).status_code == 404
    call = await waits()
    whole_house = await home.api()
    assert (await whole_house.post(f"{call}/take", json={"person": "siv"})).status_code == 200
    for verb in ("hold", "resume", "complete", "take-back", "hang-up"):
        assert (await ours.post(f"{call}/{verb}")).status_code == 403
    refused = await ours.post(f"{call}/transfer", json={"to": "ola"})
    assert refused.status_code == 403
    assert (await whole_house.get(call)).json()["state"] == "talking"


async def test_a_call_passed_round_and_round_is_not_lost(home):
    """Passed to somebody who does not answer, again and again: each time the caller is back in the
    queue with the reason, and the department does not ring who has not answered."""
    caller, call = await talk(home)
    siv = await home.actor("siv")
    for turn in range(3):
        await act(home, siv, call_desk.transfer, call, Target("person", "kari"))
        await sent_on(home, caller)
        assert caller.rung == [PHONES["kari"]]
        await caller.dialled("no-answer")  # back to the queue, in front, with the reason
        assert caller.call.state == CallState.WAITING, turn
        await taken(home, caller)
    await act(home, siv, call_desk.transfer, call, Target("department", "byggesak"))
    await sent_on(home, caller)
    assert caller.rung == [PHONES["ola"]]  # Kari has not answered three times
    await accept(home, caller, "ola")
    await caller.hang_up()
    assert (caller.call.outcome, caller.call.answered_by) == (CallOutcome.ANSWERED, "ola")
    assert home.events(caller.inquiry.ref).count("call_returned") == 3
    assert home.one("SELECT count(*) FROM inquiry") == 1
