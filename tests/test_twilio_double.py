"""The double keeps to Twilio's terms: a double that takes anything would prove nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from channels.base import OptedOutError, RejectedError, TemporaryError, UncertainError
from tests.twilio_double import ACCOUNT_SID, AUTH_TOKEN, account_of, served, twilio

TO, FROM = "+4790012345", "+4759440000"


def text(client, **more):
    return client.messages.create(to=TO, from_=FROM, body="Hei på deg 🫐", **more)


async def test_what_was_sent_comes_back_and_can_be_listed_read_and_deleted():
    with twilio() as double:
        account = account_of(double)
        message = await account.ask(text)
        assert (message.to, message.from_, message.body) == (TO, FROM, "Hei på deg 🫐")
        assert message.sid.startswith("SM")
        assert message.account_sid == ACCOUNT_SID
        second = await account.ask(text)
        assert second.sid != message.sid
        listed = await account.ask(lambda c: [m.sid for m in c.messages.list(to=TO)])
        assert listed == [second.sid, message.sid]
        assert await account.ask(lambda c: c.messages.list(to="+4790000000")) == []
        read = await account.ask(lambda c: c.messages(message.sid).fetch().body)
        assert read == message.body
        assert await account.ask(lambda c: c.messages(message.sid).delete())
        with pytest.raises(RejectedError, match="20404"):
            await account.ask(lambda c: c.messages(message.sid).fetch())
        [asked, _] = double.sent()
        assert asked["Body"] == "Hei på deg 🫐"


async def test_a_long_list_comes_in_pages_and_a_time_cuts_it():
    with twilio() as double:
        account = account_of(double)
        for number in range(7):
            double.put("Messages", to=TO, from_=FROM, body=str(number))
        found = await account.ask(lambda c: [m.body for m in c.messages.list(page_size=3)])
        assert found == [str(n) for n in reversed(range(7))]
        assert len(double.asked) == 3
        later = datetime.now(UTC) + timedelta(hours=1)
        for when, count in ((later, 0), (later - timedelta(hours=2), 7)):
            listed = await account.ask(lambda c, at=when: c.messages.list(date_sent_after=at))
            assert len(listed) == count


@pytest.mark.parametrize(
    ("what", "ask"),
    [
        ("no recipient", lambda c: c.messages.create(to=None, from_=FROM, body="Hei")),
        ("a number for a flag", lambda c: text(c, attempt="many")),
        ("an unknown status", lambda c: c.calls("CA" + "0" * 32).update(status="sleeping")),
        ("no account", lambda c: c.api.v2010.accounts("XX1").messages.create(to=TO, body="x")),
        ("a page too large", lambda c: c.messages.page(page_size=5000)),
    ],
)
async def test_what_twilios_document_does_not_allow_is_refused_and_fails_the_test(what, ask):
    with twilio() as double:
        with pytest.raises(RejectedError):
            await account_of(double).ask(ask)
        [fault] = double.faults
        assert fault, what
        double.faults.clear()
    with pytest.raises(AssertionError), twilio() as double:
        double.faults.append(fault)


def test_fields_that_the_document_does_not_know_are_refused():
    path = f"/2010-04-01/Accounts/{ACCOUNT_SID}/Messages.json"
    auth = (ACCOUNT_SID, AUTH_TOKEN)
    with served() as double:
        good = {"To": TO, "From": FROM, "Body": "x"}
        assert httpx.post(double.url + path, data=good, auth=auth).status_code == 201
        for wrong in ({"Boddy": "x"}, {"body": "x"}, {"StatusCallBack": "https://x.no"}):
            assert httpx.post(double.url + path, data=good | wrong, auth=auth).status_code == 400
        answer = httpx.get(double.url + path, params={"Too": TO}, auth=auth)
        assert answer.status_code == 400
        assert len(double.faults) == 4
        double.faults.clear()
        assert len(double.of()) == 1


async def test_it_fails_as_the_test_wants_it():
    with twilio() as double:
        account = account_of(double)
        double.fail(status=429, code=20429)
        double.fail(status=400, code=21610)
        double.fail(status=503, body="<html>")
        double.fail(cut=True, carried_out=True)
        for error in (TemporaryError, OptedOutError, UncertainError, UncertainError):
            with pytest.raises(error):
                await account.ask(text)
        assert len(double.of()) == 1
        assert len(double.sent()) == 4
        assert (await account.ask(text)).sid


async def test_a_stranger_is_not_let_in_and_a_key_is():
    with twilio() as double:
        double.auth = {"SK1": "hemmelig"}
        with pytest.raises(TemporaryError, match="slipper oss ikke inn"):
            await account_of(double).ask(text)
        with pytest.raises(TemporaryError, match="slipper oss ikke inn"):
            await account_of(double).ask(lambda c: c.messages.list())
        assert double.sent() == []


async def test_calls_conferences_queues_numbers_and_recordings_are_there_too():
    with twilio() as double:
        account = account_of(double)
        call = double.put("Calls", status="in-progress", from_=TO, to=FROM)
        queue = double.put("Queues", friendly_name="servicetorg")
        double.put(f"Queues/{queue}/Members", call_sid=call, position=1)
        conference = double.put("Conferences", friendly_name="S-2026-000001")
        recording = double.put("Recordings", call_sid=call, duration="7")
        number = double.put("IncomingPhoneNumbers", phone_number=FROM)

        def use(c):
            c.queues(queue).members(call).update(url="https://sorum.example/join", method="POST")
            c.conferences(conference).participants.create(to=TO, from_=FROM, label="operator")
            c.calls(call).update(status="completed")
            c.incoming_phone_numbers(number).update(voice_url="https://sorum.example/voice")
            return [r.sid for r in c.recordings.list(call_sid=call)]

        assert await account.ask(use) == [recording]
        assert double.of("Calls")[0]["status"] == "completed"
        assert double.of("IncomingPhoneNumbers")[0]["voice_url"] == "https://sorum.example/voice"
        [asked] = double.sent(f"Conferences/{conference}/Participants")
        assert asked["Label"] == "operator"


def test_a_file_is_served_to_who_may_have_it():
    with served() as double:
        path = f"/2010-04-01/Accounts/{ACCOUNT_SID}/Messages/MM{'0' * 32}/Media/ME{'0' * 32}"
        double.files[path] = ("image/png", b"\x89PNG")
        assert httpx.get(double.url + path).status_code == 401
        answer = httpx.get(double.url + path, auth=(ACCOUNT_SID, AUTH_TOKEN))
        assert (answer.headers["content-type"], answer.content) == ("image/png", b"\x89PNG")
