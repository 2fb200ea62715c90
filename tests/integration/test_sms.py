"""Texts from the telephone to the desk and back, with a real service and Twilio's own terms."""

from __future__ import annotations

import time
import uuid
from itertools import count
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests import service as running
from tests.service import Desk, incoming, kinds, wait_until
from tests.twilio_double import ACCOUNT_SID, AUTH_TOKEN, Double, served, settings_for, webhook

if TYPE_CHECKING:
    from tests.service import Service

KARI, OURS = "+4790012345", "+4759440000"
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 60
_numbers = count(1)


@pytest.fixture(scope="module")
def twilio():
    with served() as double:
        yield double


@pytest.fixture(scope="module")
def service(twilio, smarthost, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sms")
    settings = settings_for(twilio) | {"CHANNELS__SMS__ENABLED": "true"}
    with running.service(folder, smarthost.port, **settings) as opened:
        yield opened


@pytest.fixture(scope="module")
def desk(service):
    return Desk(service.api())


def number() -> str:
    """A mobile number nobody else has used."""
    return f"+4791{next(_numbers):06d}"


def text(service: Service, body: str, sender: str, sid: str = "", **fields: str) -> httpx.Response:
    """A text comes in."""
    sid = sid or f"SM{next(_numbers):032x}"
    form = {
        "ToCountry": "NO",
        "ToState": "",
        "SmsMessageSid": sid,
        "NumMedia": "0",
        "ToCity": "",
        "FromZip": "",
        "SmsSid": sid,
        "SmsStatus": "received",
        "Body": body,
        "FromCountry": "NO",
        "To": OURS,
        "MessagingServiceSid": "",
        "NumSegments": "1",
        "MessageSid": sid,
        "AccountSid": ACCOUNT_SID,
        "From": sender,
        "ApiVersion": "2010-04-01",
        **fields,
    }
    answer = webhook(f"{service.url}/hooks/sms/twilio", form)
    assert answer.status_code == 200, answer.text
    return answer


def sent_to(twilio: Double, recipient: str) -> list[dict[str, Any]]:
    """What Twilio has taken for a number."""
    return [m for m in twilio.of() if m["to"] == recipient]


def first_to(twilio: Double, recipient: str, how_many: int = 1) -> list[dict[str, Any]]:
    return wait_until(
        lambda: found if len(found := sent_to(twilio, recipient)) >= how_many else None,
        f"text number {how_many} to the resident",
    )


def delivery(desk: Desk, ref: str, kind: str = "reply") -> str:
    return [m["delivery"] for m in desk.read(ref)["messages"] if m["kind"] == kind][-1]


def test_a_text_walks_in_is_answered_and_its_delivery_is_told(service, desk, twilio):
    # The worker that reads texts loads the rules while the service starts.
    text(service, first := running.unique(), number())
    desk.find(first)
    sender, words = number(), running.unique("Hull i veien")
    began = time.monotonic()
    text(service, f"{words} ved skolen 🚧", sender)
    [row] = desk.find(words)
    assert time.monotonic() - began < 1
    assert (row["channel"], row["department"], row["kind"]) == ("sms", "vei", row["kind"])
    [receipt] = first_to(twilio, sender)
    assert row["ref"] in receipt["body"]
    assert receipt["from"] == OURS
    detail = desk.read(row["ref"])
    assert (detail["reply_channel"], detail["reply_address"]) == ("sms", sender)
    assert detail["contact"]["addresses"] == [{"channel": "phone", "value": sender}]

    desk.act(row["ref"], "reply", text="Vi fyller hullet – i morgen.")
    _, reply = first_to(twilio, sender, 2)
    assert reply["body"].startswith("Vi fyller hullet - i morgen.")
    assert reply["body"].endswith("Vei, Sørum kommune")
    desk.until(row["ref"], lambda _: delivery(desk, row["ref"]) == "sent", "the sending")
    for status in ("sent", "delivered"):
        assert twilio.tell(reply["sid"], status).status_code == 200
    desk.until(row["ref"], lambda _: delivery(desk, row["ref"]) == "delivered", "the delivery")
    assert twilio.tell(receipt["sid"], "delivered").status_code == 200
    assert delivery(desk, row["ref"], "receipt") == "delivered"
    assert "delivered" in kinds(desk.read(row["ref"]))

    page = service.sign_in().get(f"/desk/inquiries/{row['ref']}").text
    assert "Levert" in page
    assert "telefonen har den." in page
    assert f'href="tel:{sender}"' in page

    text(service, "Tusen takk!", sender)
    detail = desk.until_messages(row["ref"], 2)
    assert [m["text"] for m in incoming(detail)][-1] == "Tusen takk!"
    assert len(sent_to(twilio, sender)) == 2


def test_a_webhook_that_comes_ten_times_changes_nothing_after_the_first(service, desk, twilio):
    sender, words, sid = number(), running.unique(), f"SM{next(_numbers):032x}"
    for _ in range(10):
        text(service, words, sender, sid)
    [row] = desk.find(words)
    first_to(twilio, sender)
    before = desk.read(row["ref"])
    for _ in range(10):
        text(service, words, sender, sid)
        text(service, words, sender, sid, NewKey="of another day")
    status = sent_to(twilio, sender)[0]["sid"]
    for _ in range(10):
        twilio.tell(status, "delivered")
    after = desk.until(
        row["ref"], lambda _: delivery(desk, row["ref"], "receipt") == "delivered", "the delivery"
    )
    for _ in range(10):
        twilio.tell(status, "delivered")
        twilio.tell(status, "sent")
        twilio.tell(status, "failed", 30008)
    assert desk.read(row["ref"]) == after
    assert len(after["messages"]) == len(before["messages"]) == 2
    assert len(desk.rows(q=words)) == 1
    assert len(sent_to(twilio, sender)) == 1


def test_what_does_not_arrive_comes_back_to_the_queue_with_the_reason_in_words(
    service, desk, twilio
):
    sender, words = number(), running.unique()
    text(service, words, sender)
    [row] = desk.find(words)
    desk.act(row["ref"], "reply", text="Vi ringer.", close=True)
    _, reply = first_to(twilio, sender, 2)
    desk.until(row["ref"], lambda _: delivery(desk, row["ref"]) == "sent", "the sending")
    twilio.tell(reply["sid"], "undelivered", 30003)
    detail = desk.until(
        row["ref"], lambda d: d["reply_state"] == "not_delivered", "the return to the queue"
    )
    assert detail["status"] == "open"
    [failed] = [m for m in detail["messages"] if m["kind"] == "reply"]
    assert "avslått eller uten dekning" in failed["delivery_detail"]
    assert "30003" in failed["delivery_detail"]
    page = service.sign_in().get(f"/desk/inquiries/{row['ref']}").text
    assert "Se om nummeret er riktig, eller ring personen." in page


def test_who_has_opted_out_at_the_provider_is_said_to_have(service, desk, twilio):
    sender, words = number(), running.unique()
    text(service, words, sender)
    [row] = desk.find(words)
    first_to(twilio, sender)
    twilio.fail(method="POST", status=400, code=21610)
    desk.act(row["ref"], "reply", text="Vi ringer.")
    detail = desk.until(row["ref"], lambda d: d["no_texts"] == [sender], "the opt-out")
    [failed] = [m for m in detail["messages"] if m["kind"] == "reply"]
    assert "reservert seg" in failed["delivery_detail"]
    assert detail["reply_channel"] == ""
    assert "no more texts" in detail["reply_refusal"]
    refused = desk.api.post(f"/api/inquiries/{row['ref']}/reply", json={"text": "Hallo?"})
    assert refused.status_code == 422
    assert "no more texts" in refused.json()["detail"]
    browser = service.sign_in()
    page = browser.get(f"/desk/inquiries/{row['ref']}").text
    assert "Personen har bedt om ikke å få flere SMS-er." in page
    assert "(Vil ikke ha flere SMS-er)" in page
    assert "reservert seg" in browser.get("/desk/outbox").text
    text(service, "START", sender)
    desk.until(row["ref"], lambda d: d["no_texts"] == [], "the opt-in")


def test_a_picture_comes_after_the_text_and_is_deleted_where_it_lay(service, desk, twilio):
    sender, words, message = number(), running.unique(), f"MM{next(_numbers):032x}"
    path = f"/2010-04-01/Accounts/{ACCOUNT_SID}/Messages/{message}/Media"
    media = twilio.put(f"Messages/{message}/Media", content_type="text/html")
    twilio.files[f"{path}/{media}"] = ("text/html", PNG)
    lost = f"{path}/ME{next(_numbers):032x}"
    fields = {
        "NumMedia": "3",
        "MediaUrl0": f"{twilio.url}{path}/{media}",
        "MediaContentType0": "text/html",
        "MediaUrl1": "https://ond.example/virus.exe",
        "MediaContentType1": "image/png",
        "MediaUrl2": f"{twilio.url}{lost}",
    }
    text(service, words, sender, message, **fields)
    [row] = desk.find(words)
    detail = desk.until(row["ref"], lambda d: incoming(d)[0]["attachments"], "the picture")
    [file] = incoming(detail)[0]["attachments"]
    # What it is, the file says, not its sender.
    assert (file["content_type"], file["size"]) == ("image/png", len(PNG))
    assert file["filename"].endswith(".png")
    wait_until(lambda: not twilio.of(f"Messages/{message}/Media"), "the deletion")
    detail = desk.until(row["ref"], lambda d: incoming(d)[0]["files_lost"] == 1, "the refusal")
    assert incoming(detail)[0]["files_waiting"] == 1
    assert {"file_in", "file_lost"} <= set(kinds(detail))


def test_who_has_left_a_chat_is_answered_by_text_and_goes_on_in_the_same_inquiry(
    service, desk, twilio
):
    mobile, words = number(), running.unique("Når åpner biblioteket")
    with httpx.Client(base_url=service.url, headers={"Origin": service.url}) as browser:
        talk = browser.post("/chat/conversations", json={"language": "nb"}).json()["id"]
        said = {"client_msg_id": str(uuid.uuid4()), "text": words}
        assert browser.post(f"/chat/conversations/{talk}/messages", json=said).status_code == 201
        [row] = desk.find(words)
        desk.act(row["ref"], "claim")
        given = browser.post(f"/chat/conversations/{talk}/contact", json={"phone": mobile})
        assert given.status_code == 204
    # Nobody listens any more: the page has been closed for a while.
    service.write(
        lambda session: session.connection().exec_driver_sql(
            "UPDATE conversation SET listening_until = created_at"
        )
    )
    detail = desk.read(row["ref"])
    assert (detail["reply_channel"], detail["reply_address"]) == ("sms", mobile)
    desk.act(row["ref"], "reply", text="Klokka ti.")
    [answer] = first_to(twilio, mobile)
    assert answer["body"].startswith("Klokka ti.")
    text(service, "Takk! Og søndag?", mobile)
    detail = desk.until_messages(row["ref"], 2)
    assert [m["text"] for m in incoming(detail)] == [words, "Takk! Og søndag?"]
    desk.act(row["ref"], "reply", text="Da er det stengt.")
    assert first_to(twilio, mobile, 2)[-1]["body"].startswith("Da er det stengt.")


def test_a_stranger_is_turned_away_and_nothing_is_left_of_him(service, desk):
    words, sender = running.unique(), number()
    form = {"MessageSid": "SM" + "9" * 32, "AccountSid": ACCOUNT_SID, "From": sender, "To": OURS}
    form["Body"] = words
    url = f"{service.url}/hooks/sms/twilio"
    assert webhook(url, form, token="en annen").status_code == 403
    assert httpx.post(url, data=form).status_code == 403
    assert httpx.post(f"{url}/status?id=x", data=form).status_code == 403
    assert httpx.get(url, params=form).status_code == 405
    assert webhook(url, form | {"To": "+4759440009"}).status_code == 403
    assert desk.rows(q=words) == []
    query = "SELECT count(*) FROM arrival WHERE external_id = :sid"
    assert service.read(query, sid=form["MessageSid"]) == [(0,)]
    assert sender not in service.log
    assert words not in service.log


def test_the_doors_are_told_of_in_readyz_and_the_webhooks_in_the_figures(service):
    ready = httpx.get(f"{service.url}/readyz").json()
    assert ready["parts"]["door:sms"] == {"ok": True, "detail": "open"}
    figures = httpx.get(f"{service.url}/metrics").text
    assert 'sentralbord_hooks_total{door="sms",outcome="accepted"}' in figures
    assert 'sentralbord_hooks_total{door="sms",outcome="signature"}' in figures


@pytest.fixture
def mortal(smarthost, tmp_path):
    """A service that may be killed, and its own double."""
    with served() as double:
        settings = settings_for(double) | {"CHANNELS__SMS__ENABLED": "true"}
        with running.service(tmp_path / "service", smarthost.port, **settings) as opened:
            yield opened, double, Desk(opened.api())


@pytest.mark.slow
@pytest.mark.parametrize("listed", [False, True], ids=["by its status", "by the list"])
def test_a_reply_whose_answer_was_lost_is_never_repeated_and_settled(mortal, listed):
    service, twilio, desk = mortal
    sender, words = number(), running.unique()
    text(service, words, sender)
    [row] = desk.find(words)
    first_to(twilio, sender)
    gate = twilio.hold()
    desk.act(row["ref"], "reply", text="Vi kommer i morgen.")
    _, reply = first_to(twilio, sender, 2)  # taken, but not yet answered
    service.kill()
    gate.set()
    twilio._gates.clear()
    if not listed:
        twilio.fail(method="GET", status=503, times=1000)
    service.restart()
    if not listed:
        desk.until(row["ref"], lambda _: delivery(desk, row["ref"]) == "uncertain", "the doubt")
        assert twilio.tell(reply["sid"], "sent").status_code == 200
    desk.until(row["ref"], lambda _: delivery(desk, row["ref"]) == "sent", "the sending")
    assert "uncertain" in kinds(desk.read(row["ref"]))
    twilio.tell(reply["sid"], "delivered")
    desk.until(row["ref"], lambda _: delivery(desk, row["ref"]) == "delivered", "the delivery")
    assert len(sent_to(twilio, sender)) == 2


@pytest.mark.slow
def test_what_was_acknowledged_is_there_once_after_kill_9(mortal):
    service, twilio, desk = mortal
    taken: list[str] = []
    for _ in range(3):
        for _ in range(6):
            words = running.unique()
            text(service, words, number())
            taken.append(words)
        service.kill()
        service.restart()
    for words in taken:
        [row] = desk.find(words)
        assert len(incoming(desk.read(row["ref"]))) == 1
    wait_until(
        lambda: (
            service.read("SELECT count(*) FROM outbox WHERE state IN ('queued', 'sending')")
            == [(0,)]
        ),
        "sending everything",
    )
    # A receipt that was being sent when the service died is uncertain; no other one is missing.
    unsure = service.read("SELECT recipient FROM outbox WHERE state = 'uncertain'")
    got = [m["to"] for m in twilio.of()]
    assert len(got) == len(set(got))
    assert len(taken) - len(unsure) <= len(got) <= len(taken)


@pytest.mark.slow
def test_a_provider_that_is_gone_costs_nothing_but_time(mortal):
    service, twilio, desk = mortal
    sender, words = number(), running.unique()
    twilio.fail(method="POST", status=429, code=20429)
    text(service, words, sender)
    [row] = desk.find(words)
    detail = desk.until(
        row["ref"], lambda d: d["messages"][-1]["delivery_detail"], "the first failure"
    )
    [receipt] = [m for m in detail["messages"] if m["kind"] == "receipt"]
    assert (receipt["delivery"], receipt["delivery_detail"]) == (
        "queued",
        "Twilio ber oss vente litt.",
    )
    assert sent_to(twilio, sender) == []
    assert AUTH_TOKEN not in service.log
