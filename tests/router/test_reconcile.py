"""What webhooks missed is found in the provider's lists, and taken in once."""

from __future__ import annotations

from datetime import timedelta
from email.utils import format_datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from channels.base import Address, Outgoing, OutgoingKind
from channels.sms import SmsChannel
from channels.sms.twilio import TwilioSms
from router import outbox
from router.call_models import CallCommand
from router.models import OutboxItem
from router.reconcile import Reconciler, end_stale
from router.web import health
from tests.phone_house import CALLER, HOOKS, KARI, SWITCHBOARD, PhoneHouse, phone_house, sids
from tests.twilio_double import ACCOUNT_SID

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlmodel import Session

TEXTS = "+4759440000"
STANDBY = "+4763869299"
TEXT = "Vi kommer torsdag."


@pytest.fixture
async def home(tmp_path) -> AsyncIterator[PhoneHouse]:
    more = {"CHANNELS__SMS__ENABLED": "true", "CHANNELS__PHONE__STANDBY": STANDBY}
    async with phone_house(tmp_path, **more) as opened:
        _open_texts(opened)
        yield opened


def _open_texts(home: PhoneHouse) -> None:
    account = home.hall.twilio
    assert account is not None
    home.hall.channels["sms"] = SmsChannel(TwilioSms(account, "https://x.example/status"))
    home.hall.reconciler = Reconciler(home.hall)


async def look(home: PhoneHouse) -> None:
    assert home.hall.reconciler is not None
    await home.hall.reconciler.run()


async def restart(home: PhoneHouse) -> None:
    await home.restart()
    _open_texts(home)


def listed(home: PhoneHouse, minutes_ago: float = 2, status: str = "completed", **more: Any) -> str:
    """A call as the provider has it."""
    began = home.clock() - timedelta(minutes=minutes_ago)
    ended = began + timedelta(seconds=30)
    return home.double.put(
        "Calls",
        **{
            "direction": "inbound",
            "from_": CALLER,
            "to": SWITCHBOARD,
            "status": status,
            "start_time": format_datetime(began),
            "end_time": format_datetime(ended) if status == "completed" else None,
            "duration": "30" if status == "completed" else None,
            "parent_call_sid": None,
            **more,
        },
    )


def outcomes(home: PhoneHouse) -> list[tuple[str, str, str]]:
    return [
        tuple(row)
        for row in home.rows(
            "SELECT call.outcome, inquiry.status, inquiry.kind FROM call"
            " JOIN inquiry ON inquiry.id = call.inquiry_id ORDER BY call.id"
        )
    ]


async def test_a_call_nobody_told_us_of_is_a_missed_call(home):
    await look(home)
    home.clock.move(minutes=5)
    listed(home)
    await look(home)
    assert outcomes(home) == [("missed", "open", "callback")]
    await look(home)
    home.clock.move(minutes=5)
    await look(home)
    assert len(outcomes(home)) == 1
    assert home.one("SELECT count(*) FROM inquiry") == 1
    assert "etter 30 s" in home.one("SELECT text FROM message WHERE channel = 'phone'")


async def test_what_came_while_we_were_down_is_found_after_the_start(home):
    await look(home)
    home.clock.move(hours=3)
    listed(home, minutes_ago=170)
    listed(home, minutes_ago=90, from_="+4790054321")
    await restart(home)
    await look(home)
    assert [outcome for outcome, *_ in outcomes(home)] == ["missed", "missed"]


async def test_a_caller_whom_the_standby_number_answered_needs_no_call_back(home):
    await look(home)
    home.clock.move(minutes=5)
    parent = listed(home)
    listed(home, direction="outbound-dial", parent_call_sid=parent, from_=CALLER, to=STANDBY)
    await look(home)
    [(outcome, status, kind)] = outcomes(home)
    assert (outcome, status) == ("answered", "closed")
    assert kind != "callback"


async def test_calls_of_others_on_the_account_are_none_of_ours(home):
    await look(home)
    home.clock.move(minutes=5)
    listed(home, to="+4799999999")
    listed(home, direction="outbound-api", from_=SWITCHBOARD, to=CALLER)
    await look(home)
    assert outcomes(home) == []


async def test_an_anonymous_caller_is_taken_in_too(home):
    home.clock.move(minutes=5)
    listed(home, from_="anonymous")
    listed(home, from_="anonymous")
    await look(home)
    assert home.rows("SELECT DISTINCT call.inquiry_id FROM call") == [(1,), (2,)]


async def test_the_end_that_was_not_told_is_found_and_told_only_once(home):
    sid = next(sids())
    await home.told("voice", sid, CallStatus="ringing")
    home.double.put(
        "Calls",
        sid=sid,
        direction="inbound",
        from_=CALLER,
        to=SWITCHBOARD,
        status="completed",
        start_time=format_datetime(home.clock()),
        end_time=format_datetime(home.clock() + timedelta(seconds=20)),
        duration="20",
        parent_call_sid=None,
    )
    home.clock.move(minutes=5)
    await look(home)
    assert outcomes(home) == [("missed", "open", "callback")]
    [ref] = home.rows("SELECT ref FROM inquiry")
    before = home.events(ref[0])
    await home.told("status", sid, CallStatus="completed")
    await look(home)
    assert home.events(ref[0]) == before


async def test_a_long_talk_is_asked_for_by_itself_and_not_ended(home):
    await look(home)
    sid = next(sids())
    await home.told("voice", sid, CallStatus="ringing")
    home.double.put(
        "Calls",
        sid=sid,
        direction="inbound",
        from_=CALLER,
        to=SWITCHBOARD,
        status="in-progress",
        start_time=format_datetime(home.clock()),
        parent_call_sid=None,
        end_time=None,
        duration=None,
    )
    plan = home.hall.plan
    for _ in range(15):
        home.clock.move(minutes=20)
        await look(home)
        now = home.clock()
        assert await home.write(lambda session, now=now: end_stale(session, plan, now)) == 0
    home.double.resources["Calls"][sid] |= {
        "status": "completed",
        "end_time": format_datetime(home.clock()),
    }
    home.clock.move(minutes=5)
    await look(home)
    assert outcomes(home)[0][0] == "missed"


async def test_a_call_that_the_provider_has_forgotten_ends_as_unknown(home):
    await home.told("voice", next(sids()), CallStatus="ringing")
    plan = home.hall.plan
    home.clock.move(hours=3)
    await look(home)
    assert await home.write(lambda session: end_stale(session, plan, home.clock())) == 0
    home.clock.move(hours=2)
    assert await home.write(lambda session: end_stale(session, plan, home.clock())) == 1
    assert outcomes(home) == [("unknown", "open", "callback")]
    assert await home.write(lambda session: end_stale(session, plan, home.clock())) == 0


async def test_a_recording_of_a_call_we_never_heard_of_makes_the_call(home):
    await look(home)
    home.clock.move(minutes=30)
    call = listed(home, minutes_ago=25, to=KARI)
    home.double.resources["Calls"][call]["start_time"] = format_datetime(
        home.clock() - timedelta(hours=2)  # too early for the list of calls
    )
    home.double.put(
        "Recordings",
        call_sid=call,
        status="completed",
        duration="9",
        date_created=format_datetime(home.clock() - timedelta(minutes=3)),
    )
    await look(home)
    assert outcomes(home) == [("voicemail", "open", "callback")]
    assert home.rows("SELECT state, seconds FROM recording") == [("announced", 9)]
    await look(home)
    assert home.one("SELECT count(*) FROM recording") == 1


async def test_a_recording_that_is_not_ready_is_left_until_it_is(home):
    sid = next(sids())
    await home.told("voice", sid, CallStatus="ringing")
    recording = home.double.put(
        "Recordings",
        call_sid=sid,
        status="processing",
        duration="-1",
        date_created=format_datetime(home.clock()),
    )
    home.clock.move(minutes=5)
    await look(home)
    assert home.rows("SELECT 1 FROM recording") == []
    home.double.resources["Recordings"][recording] |= {"status": "completed", "duration": "7"}
    home.clock.move(minutes=5)
    await look(home)
    assert home.rows("SELECT seconds FROM recording") == [(7,)]


async def test_a_recording_that_its_webhook_told_of_is_not_taken_twice(home):
    sid = next(sids())
    await home.told("voice", sid, CallStatus="ringing")
    recording = home.double.put(
        "Recordings",
        call_sid=sid,
        status="completed",
        duration="7",
        date_created=format_datetime(home.clock()),
    )
    form = {
        "AccountSid": ACCOUNT_SID,
        "CallSid": sid,
        "RecordingSid": recording,
        "RecordingUrl": f"https://api.twilio.com/x/{recording}",
        "RecordingStatus": "completed",
        "RecordingDuration": "7",
    }
    for _ in range(2):
        answer = await home.hook(f"{HOOKS}/recording", **form)
        assert answer.status_code == 200
    await look(home)
    assert home.rows("SELECT state, seconds FROM recording") == [("announced", 7)]


async def test_a_recording_of_a_call_we_do_not_know_is_answered_and_left_to_the_lists(home):
    form = {"AccountSid": ACCOUNT_SID, "CallSid": next(sids()), "RecordingSid": "RE" + "1" * 32}
    answer = await home.hook(f"{HOOKS}/recording", **form)
    assert answer.status_code == 200
    assert home.rows("SELECT 1 FROM recording") == []


async def test_a_text_nobody_told_us_of_is_taken_in_once(home):
    home.clock.move(minutes=5)
    for to in (TEXTS, "+4799999999"):
        home.double.put(
            "Messages",
            direction="inbound",
            from_=CALLER,
            to=to,
            body="Når åpner biblioteket?",
            status="received",
            date_sent=format_datetime(home.clock()),
            num_media="0",
        )
    await look(home)
    await look(home)
    assert home.one("SELECT count(*) FROM arrival WHERE channel = 'sms'") == 1


async def test_while_the_lists_are_out_of_reach_nothing_is_skipped_and_somebody_is_told(home):
    await look(home)
    home.clock.move(minutes=4)
    listed(home)
    for _ in range(8):
        home.clock.move(minutes=5)
        home.double.fail("Calls", status=503)
        home.double.fail("Recordings", status=503)
        home.double.fail("Messages", status=503)
        await look(home)
    assert outcomes(home) == []
    assert "out of reach" in home.hall.reconciler.problem
    part = health._provider(home.hall)["provider"]
    assert not part.ok
    assert "provider" in health._LEISURELY
    home.clock.move(minutes=5)
    await look(home)
    assert [outcome for outcome, *_ in outcomes(home)] == ["missed"]
    assert home.hall.reconciler.problem == ""


async def test_one_list_out_of_reach_holds_up_no_other(home):
    home.clock.move(minutes=5)
    listed(home)
    home.double.fail("Messages", status=503)
    await look(home)
    assert [outcome for outcome, *_ in outcomes(home)] == ["missed"]


def _uncertain_text(session: Session, home: PhoneHouse, message_id: str = "<1@x>") -> int:
    number = session.connection().exec_driver_sql("SELECT max(id) FROM inquiry").scalar()
    outgoing = Outgoing(
        channel="sms",
        kind=OutgoingKind.REPLY,
        message_id=message_id,
        created_at=home.clock(),
        to=Address("phone", CALLER),
        sender=Address("phone", TEXTS),
        subject="",
        text=TEXT,
    )
    row = outbox.row(outgoing, int(number), None, home.clock())
    item = OutboxItem(**{**row, "state": "uncertain", "attempts": 1})
    session.add(item)
    session.flush()
    return item.id or 0


def _sent(home: PhoneHouse) -> str:
    return home.double.put(
        "Messages",
        direction="outbound-api",
        from_=TEXTS,
        to=CALLER,
        body=TEXT,
        status="delivered",
        error_code=None,
        date_sent=format_datetime(home.clock()),
        num_media="0",
    )


async def test_a_text_that_may_have_gone_is_found_and_never_sent_again(home):
    await home.told("voice", next(sids()), CallStatus="ringing")
    await home.write(partial(_uncertain_text, home=home))
    sid = _sent(home)
    home.clock.move(minutes=1)
    await look(home)
    assert home.rows("SELECT state, provider_id FROM outbox WHERE channel = 'sms' ORDER BY id") == [
        ("delivered", sid)
    ]
    assert home.double.sent("Messages") == []


async def test_one_text_in_the_list_settles_one_of_two_alike(home):
    await home.told("voice", next(sids()), CallStatus="ringing")
    sid = _sent(home)
    first = await home.write(partial(_uncertain_text, home=home, message_id="<1@x>"))
    await home.write(partial(_uncertain_text, home=home, message_id="<2@x>"))
    await look(home)
    assert home.rows(
        "SELECT id, state, provider_id FROM outbox WHERE channel = 'sms' ORDER BY id"
    ) == [
        (first, "delivered", sid),
        (first + 1, "uncertain", ""),
    ]


async def test_a_text_that_is_not_in_the_lists_for_ten_minutes_is_for_a_person(home):
    await home.told("voice", next(sids()), CallStatus="ringing")
    await home.told("status", "CA" + "0" * 31 + "1", CallStatus="completed")
    await home.write(partial(_uncertain_text, home=home))
    state = "SELECT state FROM outbox WHERE channel = 'sms'"
    await look(home)
    home.clock.move(minutes=5)
    await look(home)
    assert home.one(state) == "uncertain"
    home.clock.move(minutes=5)
    await look(home)
    assert home.one(state) == "failed"
    assert "aldri sendt" in home.one("SELECT detail FROM outbox WHERE channel = 'sms'")
    [ref] = home.rows("SELECT ref FROM inquiry")
    assert home.events(ref[0]).count("looked_up") == 1
    assert "not_delivered" in home.events(ref[0])
    assert home.double.sent("Messages") == []


async def test_lists_out_of_reach_prove_nothing_about_a_text(home):
    await home.told("voice", next(sids()), CallStatus="ringing")
    await home.write(partial(_uncertain_text, home=home))
    for _ in range(4):
        home.double.fail("Messages", status=500)
        home.clock.move(minutes=5)
        await look(home)
    assert home.one("SELECT state FROM outbox WHERE channel = 'sms'") == "uncertain"


async def _command(home: PhoneHouse, verb: str, **arguments: object) -> int:
    """A command about the latest call, of which nobody knows whether it was carried out."""

    def job(session: Session) -> int:
        call = session.connection().exec_driver_sql("SELECT max(id) FROM call").scalar()
        command = CallCommand(
            call_id=int(call),
            verb=verb,
            arguments=arguments,
            state="uncertain",
            next_at=home.clock(),
            created_at=home.clock(),
        )
        session.add(command)
        session.flush()
        return command.id or 0

    return await home.write(job)


async def test_a_phone_that_may_have_been_rung_is_found_in_the_list(home):
    await home.told("voice", next(sids()), CallStatus="ringing")
    number = await _command(home, "ring", to="+4763869301", label="operator")
    leg = listed(
        home,
        minutes_ago=0,
        status="in-progress",
        direction="outbound-api",
        from_=SWITCHBOARD,
        to="+4763869301",
    )
    listed(home, minutes_ago=0, direction="outbound-api", from_=KARI, to="+4763869301")
    home.clock.move(minutes=1)
    await look(home)
    query = "SELECT state, provider_id FROM call_command WHERE id = :id"
    assert home.rows(query, id=number) == [("sent", leg)]
    assert home.double.sent("Calls") == []


async def test_a_phone_that_never_rang_is_told_of_after_ten_minutes(home):
    await home.told("voice", next(sids()), CallStatus="ringing")
    number = await _command(home, "ring", to="+4763869301", label="operator")
    state = partial(home.one, "SELECT state FROM call_command WHERE id = :id", id=number)
    home.clock.move(minutes=5)
    await look(home)
    assert state() == "uncertain"
    home.clock.move(minutes=5)
    await look(home)
    assert state() == "failed"
    [ref] = home.rows("SELECT ref FROM inquiry")
    assert "call_command_failed" in home.events(ref[0])


async def test_a_line_that_may_not_have_been_ended_is_ended_once_more(home):
    sid = next(sids())
    await home.told("voice", sid, CallStatus="ringing")
    home.double.put(
        "Calls",
        sid=sid,
        direction="inbound",
        from_=CALLER,
        to=SWITCHBOARD,
        status="in-progress",
        start_time=format_datetime(home.clock()),
        parent_call_sid=None,
        end_time=None,
        duration=None,
    )
    number = await _command(home, "hang_up")
    await look(home)
    assert home.one("SELECT state FROM call_command WHERE id = :id", id=number) == "queued"
    await home.settle()
    assert home.double.resources["Calls"][sid]["status"] == "completed"


async def test_windows_are_kept_only_after_what_they_showed(home):
    await look(home)
    window = "SELECT until FROM provider_window WHERE name = 'twilio:calls'"
    first = home.one(window)
    home.clock.move(minutes=5)
    home.double.fail("Calls", status=500)
    await look(home)
    assert home.one(window) == first
    home.clock.move(minutes=5)
    await look(home)
    assert home.one(window) > first
