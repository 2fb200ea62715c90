"""A call's way through the house, as its caller and the desk meet it."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from xml.etree import ElementTree

import pytest

from router import call_desk, call_list
from router.call_desk import Target
from router.call_models import CallOutcome, CallState
from router.errors import ConflictError
from rules.presence import State
from tests import twiml_grammar
from tests.phone_house import (
    BYGGESAK,
    CALLER,
    HOOKS,
    KARI,
    PHONES,
    SWITCHBOARD,
    phone_house,
)
from tests.router.callers import Caller, accept, operator_leg, taken


@pytest.fixture
async def home(tmp_path):
    async with phone_house(tmp_path) as opened:
        yield opened


async def test_at_the_first_ring_there_is_an_inquiry_ahead_of_all_mail(home):
    caller = await Caller(home).ring()
    assert caller.verbs == ["Say", "Enqueue"]
    assert caller.heard == "Velkommen til Sørum kommune."
    inquiry = caller.inquiry
    assert (inquiry.channel, inquiry.status, inquiry.lane) == ("phone", "open", 1)
    assert (inquiry.line, inquiry.sender_address, inquiry.calls) == (SWITCHBOARD, CALLER, 1)
    assert inquiry.department == "servicetorg"
    assert caller.call.state == CallState.WAITING


async def test_the_same_ring_ten_times_is_one_call_and_one_answer(home):
    caller = await Caller(home).ring()
    first, before = caller.document, home.rows("SELECT * FROM call, inquiry")
    for _ in range(10):
        await caller.tell("voice", CallStatus="ringing")
        assert caller.document == first
    assert home.rows("SELECT * FROM call, inquiry") == before
    assert len(home.rows("SELECT * FROM arrival")) == 1


async def test_somebodys_own_number_rings_their_phone_and_is_closed_when_they_answer(home):
    caller = await Caller(home, KARI).ring()
    assert caller.rung == [PHONES["kari"]]
    assert caller.inquiry.department == "byggesak"
    assert "<Response />" in await accept(home, caller, "kari")
    assert caller.call.state == CallState.TALKING
    await caller.dialled("completed", DialBridged="true", CallStatus="completed")
    call, inquiry = caller.call, caller.inquiry
    assert (call.outcome, call.answered_by, call.through_switchboard) == ("answered", "kari", 0)
    assert (inquiry.status, inquiry.reply_state) == ("closed", "answered")


async def test_who_does_not_answer_is_followed_by_deputy_department_and_switchboard(home):
    caller = await Caller(home, KARI).ring()
    await caller.dialled("no-answer")
    assert (caller.rung, caller.verbs) == ([PHONES["ola"]], ["Say", "Say", "Dial"])
    assert caller.heard.startswith("Kari Nordmann svarer ikke akkurat nå. Jeg setter deg over")
    await caller.dialled("busy")
    assert caller.verbs[-1] == "Enqueue"
    assert caller.reasons == [
        "person: unknown",
        "deputy: no_answer",
        "department: nobody_reachable",
        "switchboard: busy",
    ]
    assert caller.call.through_switchboard


async def test_a_mobiles_own_voicemail_is_no_answer(home):
    """It picks up, but presses no key."""
    caller = await Caller(home, KARI).ring()
    document = caller.document
    whisper = caller.address("url")
    heard = await home.told(whisper, "CA" + "f" * 32, to=PHONES["kari"])
    assert [verb.tag for verb in ElementTree.fromstring(heard)] == ["Gather", "Hangup"]
    caller.document = document
    await caller.dialled("completed")
    assert caller.rung == [PHONES["ola"]]
    assert caller.reasons[-1] == "deputy: declined"


async def test_a_department_rings_all_who_can_be_reached_at_once(home):
    await home.mark("ola", State.MEETING, timedelta(hours=1))
    caller = await Caller(home, BYGGESAK).ring()
    assert caller.rung == [PHONES["kari"]]
    await home.mark("ola", State.AVAILABLE, timedelta(hours=1))
    caller = await Caller(home, BYGGESAK, "+4790012346").ring()
    assert caller.rung == [PHONES["ola"], PHONES["kari"]]  # who is known to be there comes first
    assert caller.heard == (
        "Velkommen til Sørum kommune, Byggesak. Jeg setter deg over til Byggesak."
    )
    await accept(home, caller, "kari")
    assert caller.call.answered_by == "kari"


async def test_who_was_rung_together_and_is_late_gets_no_caller(home):
    caller = await Caller(home, BYGGESAK).ring()
    assert "<Response />" in await accept(home, caller, "kari")
    document = caller.document
    assert "Hangup" in await accept(home, caller, "ola")
    assert caller.document == document
    assert caller.call.answered_by == "kari"


class TestShow3:
    """Somebody in a meeting until 14:00."""

    @pytest.fixture
    async def absent(self, home):
        await home.mark("kari", State.MEETING, home.clock().replace(hour=13))  # 14:00 here
        return await Caller(home, KARI).ring()

    async def test_the_caller_hears_so_and_is_offered_three_things(self, absent):
        assert absent.heard == (
            "Kari Nordmann er i møte, og er tilbake klokken fjorten."
            " Tast én for å snakke med en kollega."
            " Tast to hvis du vil at vi ringer deg opp."
            " Tast tre for å legge igjen en beskjed."
        )
        assert not absent.rung

    async def test_a_colleague_is_the_deputy(self, home, absent):
        await absent.press("1")
        assert absent.rung == [PHONES["ola"]]
        await accept(home, absent, "ola")
        await absent.hang_up()
        assert (absent.call.outcome, absent.call.answered_by) == ("answered", "ola")
        assert not absent.call.through_switchboard

    async def test_a_call_back_is_an_inquiry_with_a_date(self, absent):
        await absent.press("2")
        assert absent.heard.startswith("Det er notert. Vi ringer deg opp på dette nummeret senest")
        await absent.hang_up()
        assert absent.call.outcome == CallOutcome.CALLBACK
        inquiry = absent.inquiry
        assert (inquiry.kind, inquiry.lane, inquiry.status) == ("callback", 2, "open")
        assert inquiry.department == "byggesak"

    async def test_a_message_is_recorded(self, absent):
        await absent.press("3")
        assert absent.verbs == ["Say", "Record", "Redirect"]
        await absent.tell(absent.address(), RecordingSid="RE" + "1" * 32, RecordingDuration="7")
        assert absent.heard.startswith("Takk for beskjeden.")
        await absent.hang_up()
        assert absent.call.outcome == CallOutcome.VOICEMAIL

    async def test_who_presses_nothing_twice_may_leave_a_message(self, absent):
        await absent.press("")
        assert absent.verbs == ["Gather", "Redirect"]
        await absent.press("9")
        assert "Record" in absent.verbs

    async def test_why_somebody_is_absent_is_nobodys_business(self, home):
        await home.mark("ola", State.ABSENT, (home.clock() + timedelta(days=3)).date())
        caller = await Caller(home, "+4763869102").ring()
        assert caller.heard.startswith(
            "Ola Hansen er ikke til stede, og er tilbake torsdag klokken åtte."
        )


async def test_outside_the_hours_the_caller_hears_when_we_open_and_may_leave_a_message(home):
    home.clock.move(hours=12)
    caller = await Caller(home).ring()
    assert "Vi har stengt nå, og åpner igjen i morgen klokken åtte." in caller.heard
    assert "ring én én tre" in caller.heard
    await caller.hang_up()
    assert caller.call.outcome == CallOutcome.CLOSED
    assert (caller.inquiry.status, caller.inquiry.lane) == ("open", 2)


async def test_a_holiday_is_told_apart_from_an_evening(home):
    home.clock.now = home.clock().replace(month=12, day=25)
    caller = await Caller(home).ring()
    assert "I dag holder vi stengt. Vi åpner igjen mandag klokken åtte." in caller.heard


async def test_an_emergency_service_is_never_turned_away(home):
    home.clock.move(hours=12)
    caller = await Caller(home, BYGGESAK, "113").ring()
    assert caller.verbs[-1] == "Enqueue"
    assert caller.reasons == ["switchboard: emergency_service"]


async def test_an_emergency_service_stands_before_all_who_wait_or_were_promised_a_place(home):
    promised = await Caller(home, number="+4790012346").queue()
    await promised.wait(Digits="1")
    await promised.leave()
    await promised.hang_up()
    # Rung at Kari's and not answered: before others, but not before these.
    passed_over = await Caller(home, KARI).ring()
    while "Enqueue" not in passed_over.verbs:
        await passed_over.dialled("no-answer")
    home.clock.move(minutes=8)
    clinic = await Caller(home, number="+47116117").queue()
    await clinic.wait()
    assert clinic.heard.startswith("Du er først i køen.")
    siv = await home.actor("siv")
    with home.hall.db.read() as session:
        rows = call_list.listing(session, siv, live=True)
    assert [(row.caller, row.position) for row in rows] == [("+47116117", 1), (CALLER, 2)]


class TestQueue:
    async def test_the_caller_hears_the_place_and_soon_a_time(self, home):
        first = await Caller(home).queue()
        home.clock.move(seconds=5)
        second = await Caller(home, number="+4790012346").queue()
        await first.wait()
        assert first.heard.startswith("Du er først i køen.")
        await second.wait()
        assert second.heard.startswith("Du er nummer to i køen. Tast én")
        for number in range(3):  # three calls taken within half an hour
            caller = await Caller(home, number=f"+479001240{number}").queue()
            await taken(home, caller)
            await caller.hang_up()
        await second.wait()
        assert "Ventetiden er omtrent tjue minutter." in second.heard

    async def test_two_calls_of_one_number_have_a_place_each(self, home):
        first, again = await Caller(home).queue(), await Caller(home).queue()
        home.clock.move(seconds=5)
        other = await Caller(home, number="+4790012346").queue()
        heard = []
        for caller in (first, again, other):
            await caller.wait()
            heard.append(caller.heard.partition(".")[0])
        assert heard == [
            "Du er først i køen",
            "Du er nummer to i køen",
            "Du er nummer tre i køen",
        ]
        siv = await home.actor("siv")
        with home.hall.db.read() as session:
            rows = {row.id: row.position for row in call_list.listing(session, siv, live=True)}
        assert [rows[one.call.id] for one in (first, again, other)] == [1, 2, 3]
        await first.hang_up()
        await again.wait()
        assert again.heard.startswith("Du er først i køen")

    async def test_press_1_keeps_the_place(self, home):
        first = await Caller(home).queue()
        home.clock.move(seconds=5)
        second = await Caller(home, number="+4790012346").queue()
        await first.wait(Digits="1")
        assert first.verbs == ["Leave"]
        await first.leave()
        assert first.heard.startswith("Det er notert.")
        await first.hang_up()
        assert first.call.outcome == CallOutcome.CALLBACK
        assert (first.inquiry.lane, first.inquiry.kind) == (1, "callback")
        await second.wait()
        assert second.heard.startswith("Du er nummer to")
        siv = await home.actor("siv")
        with home.hall.db.read() as session:
            [row] = call_list.listing(session, siv, live=True)
            assert call_list.read(session, siv, row.id) == row
        assert (row.position, row.callbacks_ahead) == (2, 1)

    async def test_who_has_waited_enough_may_choose(self, home):
        caller = await Caller(home).queue()
        home.clock.move(minutes=9, seconds=59)
        await caller.wait()
        assert caller.verbs == ["Gather"]
        home.clock.move(seconds=1)
        await caller.wait()
        assert caller.verbs == ["Leave"]
        await caller.leave()
        assert caller.heard.startswith("Beklager at du har måttet vente.")
        await caller.press("2")
        assert "Record" in caller.verbs

    async def test_who_hides_the_number_leaves_a_message_and_is_nobody(self, home):
        callers = [await Caller(home, number="anonymous").queue() for _ in range(2)]
        await callers[0].wait()
        assert callers[0].verbs == ["Say", "Pause"]
        home.clock.move(minutes=10)
        await callers[0].wait()
        await callers[0].leave()
        assert "Record" in callers[0].verbs
        inquiries = [caller.inquiry for caller in callers]
        assert inquiries[0].id != inquiries[1].id
        assert {inquiry.contact_id for inquiry in inquiries} == {None}
        assert callers[0].call.caller == "anonymous"

    async def test_being_fetched_neither_ends_the_call_nor_makes_a_call_back(self, home):
        caller = await Caller(home).queue()
        siv = await home.actor("siv")
        number = caller.call.id
        await home.write(lambda s: call_desk.take(s, siv, number, home.hall.plan, home.clock()))
        await caller.leave("redirected")
        assert caller.call.state == CallState.TALKING
        assert caller.call.outcome is None


class TestRepeats:
    async def test_a_number_has_one_open_call_back_however_often_it_rings(self, home):
        for _ in range(3):
            caller = await Caller(home).ring()
            await caller.hang_up()
        assert home.one("SELECT count(*) FROM inquiry") == 1
        assert caller.inquiry.calls == 3
        assert home.events(caller.inquiry.ref).count("called_again") == 2

    async def test_when_the_caller_gets_through_the_call_back_is_done(self, home):
        first = await Caller(home).ring()
        await first.hang_up()
        again = await Caller(home, KARI).ring()
        await accept(home, again, "kari")
        await again.hang_up()
        assert again.inquiry.id == first.inquiry.id
        assert (again.inquiry.status, again.inquiry.reply_state) == ("closed", "answered")

    async def test_after_a_talk_a_new_call_is_a_new_matter(self, home):
        first = await Caller(home, KARI).ring()
        await accept(home, first, "kari")
        await first.hang_up()
        again = await Caller(home, KARI).ring()
        assert again.inquiry.id != first.inquiry.id
        assert again.inquiry.contact_id == first.inquiry.contact_id


class TestOperators:
    async def test_one_takes_the_call_and_the_other_learns_who_has_it(self, home):
        caller = await Caller(home).queue()
        await taken(home, caller)
        call, inquiry = caller.call, caller.inquiry
        assert (call.answered_by, call.state) == ("siv", CallState.TALKING)
        assert inquiry.answered_at is not None
        per = await home.actor("per")
        with pytest.raises(ConflictError) as refused:
            await home.write(
                lambda s: call_desk.take(s, per, call.id, home.hall.plan, home.clock())
            )
        assert refused.value.holder == "Siv Olsen"
        await caller.hang_up()
        assert caller.call.outcome == CallOutcome.ANSWERED
        inquiry = caller.inquiry
        assert (inquiry.status, inquiry.lane) == ("open", 2)
        siv = await home.actor("siv")
        assert inquiry.assignee_id == siv.staff_id

    async def test_the_phone_of_an_operator_rings_when_the_caller_is_in_the_room(self, home):
        caller = await Caller(home).queue()
        await taken(home, caller)
        assert caller.verbs == ["Say", "Dial"]
        [asked] = [a for a in home.double.asked if a.resource.endswith("/Participants")]
        assert (asked["To"], asked["From"]) == (PHONES["siv"], SWITCHBOARD)
        assert (asked["Label"], asked["EndConferenceOnExit"]) == ("operator", "false")

    async def test_an_operator_who_does_not_pick_up_gives_the_caller_back_in_front(self, home):
        caller = await Caller(home).queue()
        other = await Caller(home, number="+4790012346").queue()
        siv = await home.actor("siv")
        number = caller.call.id
        await home.write(lambda s: call_desk.take(s, siv, number, home.hall.plan, home.clock()))
        await home.settle()
        await caller.tell(home.double.asked[-1]["Url"])
        await home.settle()
        await operator_leg(home, "no-answer")
        await home.settle()
        await caller.tell(home.double.asked[-1]["Url"])
        assert caller.verbs == ["Say", "Enqueue"]
        assert (caller.call.state, caller.call.staff_id) == (CallState.WAITING, None)
        assert caller.inquiry.assignee_id is None
        assert caller.inquiry.sort_at < other.inquiry.sort_at
        assert "call_returned" in home.events(caller.inquiry.ref)

    async def test_the_end_of_an_operators_leg_ends_the_call(self, home):
        caller = await Caller(home).queue()
        await taken(home, caller)
        await operator_leg(home, "completed")
        await home.settle()
        asked = home.double.asked[-1]
        assert (asked.resource, asked["Status"]) == (f"Calls/{caller.sid}", "completed")

    async def test_who_has_no_phone_is_told_so(self, home):
        caller = await Caller(home).queue()
        api = await home.api()
        answer = await api.post(f"/api/calls/{caller.call.id}/take")
        assert answer.status_code == 409
        assert "no phone in the number plan" in answer.json()["detail"]
        answer = await api.post(f"/api/calls/{caller.call.id}/take", json={"person": "siv"})
        assert answer.status_code == 200
        assert (answer.json()["state"], answer.json()["staff"]) == ("talking", "siv")

    async def test_a_blind_transfer_that_nobody_takes_comes_back_with_its_reason(self, home):
        caller = await Caller(home).queue()
        await taken(home, caller)
        siv, number = await home.actor("siv"), caller.call.id
        target = Target("person", "kari")
        await home.write(
            lambda s: call_desk.transfer(s, siv, number, target, home.hall.plan, home.clock())
        )
        await home.settle()
        await caller.tell(home.double.asked[-1]["Url"])
        assert caller.rung == [PHONES["kari"]]
        assert caller.heard == "Jeg setter deg over til Kari Nordmann."
        await operator_leg(home, "completed")  # the room has ended for the operator
        await home.settle()
        assert caller.call.state == CallState.DIALLING
        await caller.dialled("busy")
        assert caller.verbs[-1] == "Enqueue"
        query = "SELECT data FROM event WHERE kind = 'call_returned'"
        assert '"reason":"busy"' in home.one(query)
        assert '"operator":"siv"' in home.one(query)
        # It waits as before: nobody has helped, and the desk says who had it and why it is back.
        assert caller.inquiry.reply_state == "unanswered"
        assert caller.inquiry.answered_at is None
        [row] = (await (await home.api()).get("/api/calls")).json()["items"]
        assert (row["state"], row["returned_by"], row["reason"]) == ("waiting", "siv", "busy")
        await caller.hang_up()
        assert caller.call.outcome == CallOutcome.MISSED
        assert (caller.inquiry.kind, caller.inquiry.reply_state) == ("callback", "unanswered")

    async def test_a_blind_transfer_that_is_taken_is_the_colleagues(self, home):
        caller = await Caller(home).queue()
        await taken(home, caller)
        siv, number = await home.actor("siv"), caller.call.id
        target = Target("person", "kari")
        await home.write(
            lambda s: call_desk.transfer(
                s, siv, number, target, home.hall.plan, home.clock(), note="Gjelder garasje."
            )
        )
        await home.settle()
        await caller.tell(home.double.asked[-1]["Url"])
        await accept(home, caller, "kari")
        await caller.hang_up()
        assert (caller.call.outcome, caller.call.answered_by) == ("answered", "kari")
        inquiry = caller.inquiry
        assert (inquiry.department, inquiry.status) == ("byggesak", "closed")
        assert "transferred" in home.events(inquiry.ref)

    async def test_a_warm_transfer(self, home):
        caller = await Caller(home).queue()
        home.double.put("Conferences", friendly_name=f"call-{caller.call.id}", status="in-progress")
        [conference] = home.double.of("Conferences")
        place = f"Conferences/{conference['sid']}/Participants"
        home.double.put(place, call_sid=caller.sid, hold=False)
        await taken(home, caller)
        siv, number = await home.actor("siv"), caller.call.id
        plan, clock = home.hall.plan, home.clock
        target = Target("person", "kari")
        await home.write(
            lambda s: call_desk.transfer(s, siv, number, target, plan, clock(), warm=True)
        )
        await home.settle()
        held, rung = home.double.asked[-2:]
        held = next(a for a in home.double.asked if a.get("Hold") == "true")
        assert held["HoldUrl"] == f"{HOOKS}/hold"
        assert (rung["To"], rung["Label"]) == (PHONES["kari"], "colleague")
        # Nobody answers: the caller is the operator's again.
        await operator_leg(home, "no-answer")
        await home.settle()
        assert home.double.asked[-1]["Hold"] == "false"
        assert "call_not_taken" in home.events(caller.inquiry.ref)
        # Another try: she answers, and the operator leaves the two alone.

        def seen(actor=siv):
            with home.hall.db.read() as session:
                row = call_list.read(session, actor, number)
            return row.consulting, row.consulted, row.actions

        assert seen() == ("", False, ("hold", "transfer", "hang-up"))
        await home.write(
            lambda s: call_desk.transfer(s, siv, number, target, plan, clock(), warm=True)
        )
        await home.settle()
        assert seen() == ("kari", False, ("take-back", "hang-up"))
        await operator_leg(home, "in-progress")
        assert seen() == ("kari", True, ("complete", "take-back", "hang-up"))
        await home.write(lambda s: call_desk.complete_transfer(s, siv, number, plan, clock()))
        # It is Kari's talk now: nobody is asked any longer, and nothing is left to do.
        assert seen() == ("", False, ())
        await home.settle()
        last = {a.resource: a for a in home.double.asked[-3:]}
        assert any(a.get("Hold") == "false" for a in last.values())
        assert any(a.get("Status") == "completed" for a in last.values())
        assert (caller.call.answered_by, caller.inquiry.department) == ("kari", "byggesak")
        home.clock.move(seconds=20)
        await caller.hang_up()
        assert caller.inquiry.status == "closed"
        [said] = home.rows("SELECT text FROM message WHERE kind = 'call'")
        assert said.text == (
            "Anrop til sentralbordet. Besvart av Siv Olsen etter 0 s, satt over til Kari Nordmann."
        )

    async def test_an_emergency_number_is_always_put_through(self, home):
        caller = await Caller(home).queue()
        await taken(home, caller)
        siv, number = await home.actor("siv"), caller.call.id
        target = Target("number", "113")
        await home.write(
            lambda s: call_desk.transfer(s, siv, number, target, home.hall.plan, home.clock())
        )
        await home.settle()
        await caller.tell(home.double.asked[-1]["Url"])
        assert caller.rung == ["113"]

    async def test_who_is_in_a_meeting_is_not_transferred_to(self, home):
        await home.mark("kari", State.MEETING, timedelta(hours=1))
        caller = await Caller(home).queue()
        await taken(home, caller)
        siv, number = await home.actor("siv"), caller.call.id
        target = Target("person", "kari")
        with pytest.raises(ConflictError, match="Deputy: Ola Hansen"):
            await home.write(
                lambda s: call_desk.transfer(s, siv, number, target, home.hall.plan, home.clock())
            )


class TestFailures:
    async def test_a_call_that_is_gone_when_it_is_fetched_is_over(self, home):
        caller = await Caller(home).queue()
        siv, number = await home.actor("siv"), caller.call.id
        home.double.fail(f"Calls/{caller.sid}", status=400, code=21220)
        await home.write(lambda s: call_desk.take(s, siv, number, home.hall.plan, home.clock()))
        await home.settle()
        assert caller.call.outcome == CallOutcome.MISSED

    async def test_a_command_that_is_refused_leaves_the_caller_in_the_queue(self, home):
        caller = await Caller(home).queue()
        siv, number = await home.actor("siv"), caller.call.id
        home.double.fail(f"Calls/{caller.sid}", status=400, code=21218)
        await home.write(lambda s: call_desk.take(s, siv, number, home.hall.plan, home.clock()))
        await home.settle()
        assert (caller.call.state, caller.call.staff_id) == (CallState.WAITING, None)
        await caller.wait()
        assert caller.heard.startswith("Du er først i køen.")

    async def test_what_may_have_been_carried_out_is_not_repeated(self, home):
        """Should it not have been, the caller comes by the next question of the queue."""
        caller = await Caller(home).queue()
        siv, number = await home.actor("siv"), caller.call.id
        home.double.fail(f"Calls/{caller.sid}", cut=True)
        await home.write(lambda s: call_desk.take(s, siv, number, home.hall.plan, home.clock()))
        await home.settle()
        await home.settle()
        assert len([a for a in home.double.asked if a.resource == f"Calls/{caller.sid}"]) == 1
        assert home.one("SELECT state FROM call_command") == "uncertain"
        await caller.wait()
        assert caller.verbs == ["Pause"]
        home.clock.move(seconds=10)
        await caller.wait()
        assert caller.verbs == ["Leave"]
        await caller.leave()
        assert caller.verbs == ["Say", "Dial"]
        await home.settle()
        assert home.double.asked[-1].resource.endswith("/Participants")

    async def test_a_message_told_of_after_the_end_makes_the_call_one_with_a_message(self, home):
        home.clock.move(hours=12)
        caller = await Caller(home).ring()
        recorded = caller.address()
        await caller.hang_up()
        ended = caller.call.ended_at
        assert caller.call.outcome == CallOutcome.CLOSED
        await caller.tell(
            recorded, CallStatus="completed", RecordingSid="RE" + "1" * 32, Digits="hangup"
        )
        assert (caller.call.outcome, caller.call.ended_at) == (CallOutcome.VOICEMAIL, ended)
        await caller.tell("status", CallStatus="in-progress")
        assert caller.call.provider_status == "completed"

    async def test_while_the_store_refuses_a_first_ring_is_left_to_the_fallback(self, home):
        home.hall.db.stop()
        form = {
            "CallSid": "CA" + "9" * 32,
            "AccountSid": home.settings.twilio.account_sid,
            "From": CALLER,
            "To": SWITCHBOARD,
            "CallStatus": "ringing",
        }
        answer = await home.hook(f"{HOOKS}/voice", **form)
        assert answer.status_code == 503
        answer = await home.hook(f"{HOOKS}/dialled?c=1&n=1", DialCallStatus="busy", **form)
        assert answer.status_code == 200
        assert re.search("<Record .*<Hangup />", answer.text)
        twiml_grammar.check(answer.text)

    async def test_a_command_that_waits_for_its_time_holds_up_those_behind_it_in_peace(self, home):
        """Nobody goes round and round meanwhile."""
        caller = await Caller(home).queue()
        await taken(home, caller)
        siv, number = await home.actor("siv"), caller.call.id
        home.double.fail("Conferences", status=429, code=20429)
        await home.write(lambda s: call_desk.hold(s, siv, number, home.hall.plan, home.clock()))
        await home.settle()
        await home.write(lambda s: call_desk.hang_up(s, siv, number, home.hall.plan, home.clock()))
        async with asyncio.timeout(5):
            await home.settle()
        states = "SELECT verb, state FROM call_command WHERE state = 'queued' ORDER BY id"
        assert home.rows(states) == [("hold", "queued"), ("hang_up", "queued")]
        home.clock.move(seconds=1)
        await home.settle()
        assert home.rows(states) == []
