"""The SMS door towards its providers: one text out, what became of it, and what their lists say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from structlog.testing import capture_logs

from channels.base import (
    Address,
    DeliveryState,
    Outgoing,
    OutgoingKind,
    RejectedError,
    UncertainError,
)
from channels.sms import SmsChannel
from channels.sms.base import NO_TEXTS, Window
from channels.sms.console import ConsoleSms
from channels.sms.parse import parse
from channels.sms.twilio import TwilioSms, message_sid, status_of
from tests.twilio_double import ACCOUNT_SID, account_of, twilio

KARI, OURS = "+4790012345", "+4759440000"
STATUS = "https://post.sorum.example/hooks/sms/twilio/status"
NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


def outgoing(to: str = KARI, text: str = "Vi kommer – i morgen 🚧", **more) -> Outgoing:
    return Outgoing(
        channel="sms",
        kind=OutgoingKind.REPLY,
        message_id="<token.0a1b@sorum.kommune.no>",
        created_at=more.pop("created_at", datetime.now(UTC)),
        to=Address("phone", to),
        sender=Address("phone", OURS, "Sørum kommune"),
        subject="",
        text=text,
        **more,
    )


@pytest.fixture
def double():
    with twilio() as opened:
        yield opened


@pytest.fixture
def door(double):
    return SmsChannel(TwilioSms(account_of(double), STATUS))


async def test_a_text_is_handed_over_once_with_our_own_id_in_the_callback(double, door):
    receipt = await door.send(outgoing())
    [asked] = double.sent()
    assert set(asked.values) == {"To", "From", "Body", "StatusCallback"}
    assert (asked["To"], asked["From"], asked["Body"]) == (KARI, OURS, "Vi kommer – i morgen 🚧")
    callback = urlsplit(asked["StatusCallback"])
    assert callback._replace(query="").geturl() == STATUS
    assert parse_qs(callback.query) == {"id": ["<token.0a1b@sorum.kommune.no>"]}
    [message] = double.of()
    assert receipt.provider_id == message["sid"]
    assert "queued" in receipt.detail


@pytest.mark.parametrize(
    "number", ["+4763864000", "+4722334455", "2012", "26112", "+4702800", "Posten", "", "116117"]
)
async def test_what_cannot_take_texts_is_not_even_tried(double, door, number):
    with pytest.raises(RejectedError, match="mobilnummer"):
        await door.send(outgoing(number))
    assert double.asked == []


async def test_a_text_of_which_the_answer_was_lost_is_found_in_the_list(double, door):
    double.fail(cut=True, carried_out=True)
    text = outgoing()
    with pytest.raises(UncertainError):
        await door.send(text)
    [found] = await door.provider.find(text)
    assert found.status.provider_id == double.of()[0]["sid"]
    assert found.status.state is DeliveryState.SENDING
    assert (found.to, found.sender, found.text) == (KARI, OURS, text.text)
    # Others are not taken for it: other words, another person, another time.
    assert await door.provider.find(outgoing(text="Noe annet")) == []
    assert await door.provider.find(outgoing("+4741234567")) == []
    later = datetime.now(UTC) + timedelta(hours=1)
    assert await door.provider.find(outgoing(created_at=later)) == []


async def test_a_list_says_what_came_and_what_went_as_webhooks_would_have(double, door):
    message = "MM" + "a" * 32
    media = double.put(f"Messages/{message}/Media", content_type="image/jpeg")
    uri = f"/2010-04-01/Accounts/{ACCOUNT_SID}/Messages/{message}/Media/{media}.json"
    double.of(f"Messages/{message}/Media")[0]["uri"] = uri
    came = {"direction": "inbound", "from_": KARI, "to": OURS, "status": "received"}
    double.put("Messages", body="Blåbær 🫐\n og mer", **came)
    double.put("Messages", sid=message, body="", num_media="1", **came)
    await door.send(outgoing())
    gone = double.of()[-1]
    gone |= {"status": "undelivered", "error_code": 30003}
    window = await door.provider.since(datetime.now(UTC) - timedelta(minutes=10))
    picture, plain = window.arrived
    assert plain.channel == "sms"
    text = parse(plain.raw, plain.envelope, plain.external_id, NO_TEXTS)
    assert (text.sender.value, text.text, text.recipients) == (KARI, "Blåbær 🫐\n og mer", (OURS,))
    assert text.external_id == plain.external_id
    with_file = parse(picture.raw, picture.envelope, picture.external_id, NO_TEXTS)
    assert with_file.external_id == message
    [file] = with_file.remote
    assert file.url == "https://api.twilio.com" + uri.removesuffix(".json")
    assert file.content_type == "image/jpeg"
    [sent] = window.sent
    assert sent.status.state is DeliveryState.FAILED
    assert "avslått" in sent.status.detail


async def test_nothing_is_told_twice_of_a_time_that_is_past(double, door):
    double.put("Messages", body="Hei", direction="inbound", from_=KARI, to=OURS)
    assert await door.provider.since(datetime.now(UTC) + timedelta(hours=1)) == Window()


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ("accepted", "sending"),
        ("scheduled", "sending"),
        ("queued", "sending"),
        ("sending", "sending"),
        ("sent", "sent"),
        ("partially_delivered", "sent"),
        ("delivered", "delivered"),
        ("read", "delivered"),
        ("undelivered", "failed"),
        ("failed", "failed"),
        ("canceled", "failed"),
    ],
)
def test_each_status_of_the_provider_is_one_of_ours(said, state):
    form = {"MessageSid": "SM" + "1" * 32, "MessageStatus": said, "ErrorCode": "30005"}
    status = status_of(form)
    assert status.state == state
    assert ("ukjent" in status.detail) == (state == "failed")
    older = status_of({"SmsSid": "SM" + "1" * 32, "SmsStatus": said})
    assert (older.provider_id, older.state) == ("SM" + "1" * 32, state)


def test_a_status_that_we_do_not_know_says_nothing():
    for said in ("", "received", "receiving", "teleported"):
        assert status_of({"MessageSid": "SM" + "1" * 32, "MessageStatus": said}) is None
    odd = {"MessageSid": "SM" + "1" * 32, "MessageStatus": "failed", "ErrorCode": "many"}
    assert status_of(odd).detail == "Meldingen ble ikke levert."
    assert status_of(odd | {"ErrorCode": "99999"}).detail == (
        "Meldingen ble ikke levert. (Twilio 99999)"
    )
    assert status_of(odd | {"ErrorCode": "21610"}).opted_out


def test_an_id_is_one_only_if_it_looks_like_one():
    sid = "SM" + "a1" * 16
    assert message_sid({"MessageSid": sid}) == sid
    assert message_sid({"MessageSid": "", "SmsMessageSid": "x", "SmsSid": sid}) == sid
    for wrong in ("", "SM1", "CA" + "1" * 32, sid + "1", sid.replace("a", "g")):
        assert message_sid({"MessageSid": wrong}) == ""


async def test_on_the_console_texts_are_written_down_and_nobody_gets_them():
    door = SmsChannel(ConsoleSms())
    with capture_logs() as logs:
        first = await door.send(outgoing())
        again = await door.send(outgoing())
    assert first == again
    assert first.provider_id.startswith("console-")
    assert [entry["text"] for entry in logs] == ["Vi kommer – i morgen 🚧"] * 2
    assert await door.provider.since(NOW) == Window()
    assert await door.provider.find(outgoing()) == []
    with pytest.raises(RejectedError):
        await door.send(outgoing("+4763864000"))
