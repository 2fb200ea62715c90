"""A municipality's own exchange tells of its calls, as the bridges in use send it: the right ones
are on the list of those to be called back."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from router import staff
from router.models import Role
from tests import service as running

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = secrets.token_urlsafe(24)
LINE = "4763869000"
SETTINGS = {
    "CHANNELS__PHONE__CTI__ENABLED": "true",
    "CHANNELS__PHONE__CTI__TOKEN": TOKEN,
}


@pytest.fixture(scope="module")
def house(smarthost, tmp_path_factory) -> Iterator[running.Service]:
    with running.service(tmp_path_factory.mktemp("cti"), smarthost.port, **SETTINGS) as opened:
        yield opened


def someone() -> str:
    """A number that nobody else calls from, as an exchange writes it."""
    return f"474{secrets.randbelow(10**7):07d}"


@dataclass
class Exchange:
    """What stands in the cellar of the town hall."""

    house: running.Service
    caller: str
    direction: str = "in"
    call_id: str = ""
    as_json: bool = False
    line: str = LINE

    def __post_init__(self) -> None:
        self.call_id = self.call_id or secrets.token_hex(16)

    def send(self, event: str, token: str = TOKEN, **more: Any) -> httpx.Response:
        ends = (self.caller, self.line) if self.direction == "in" else (self.line, self.caller)
        fields = {
            "event": event,
            "from": ends[0],
            "to": ends[1],
            "direction": self.direction,
            "callId": self.call_id,
            **more,
        }
        url = f"{self.house.url}/hooks/phone/cti/{token}"
        if self.as_json:
            return httpx.post(url, json=fields, timeout=30)
        return httpx.post(url, data=fields, timeout=30)

    def tell(self, *events: str, **more: Any) -> None:
        for event in events:
            answer = self.send(event, **more)
            assert (answer.status_code, answer.json()) == (200, {}), answer.text

    @property
    def inquiries(self) -> list[dict[str, Any]]:
        desk = running.Desk(self.house.api())
        return desk.rows(channel="phone", q=f"+{self.caller}")

    @property
    def to_call_back(self) -> list[dict[str, Any]]:
        """The list of missed calls, as far as this caller is on it."""
        return [r for r in self.inquiries if (r["status"], r["kind"]) == ("open", "callback")]

    @property
    def outcome(self) -> str:
        rows = self.house.read("SELECT outcome FROM call WHERE call_id = :id", id=self.call_id)
        return str(rows[0][0]) if rows else ""


@pytest.fixture(params=["json", "form"])
def exchange(house, request) -> Exchange:
    return Exchange(house, someone(), as_json=request.param == "json")


def test_a_ringing_call_stands_first_in_the_queue(exchange):
    exchange.tell("newCall")
    [row] = exchange.inquiries
    assert running.Desk(exchange.house.api()).rows(status="open")[0]["ref"] == row["ref"]
    assert exchange.to_call_back == []
    exchange.tell("hangup", cause="cancel")


def test_who_hangs_up_unanswered_is_to_be_called_back(exchange):
    exchange.tell("newCall")
    exchange.tell("hangup", cause="noAnswer")
    [row] = exchange.to_call_back
    assert row["due_at"] > row["received_at"]
    assert exchange.outcome == "missed"


def test_who_was_answered_is_not(exchange):
    exchange.tell("newCall", user="Kari Nordmann")
    exchange.tell("answer", answeringNumber="63869201")
    exchange.tell("hangup", cause="normalClearing")
    assert exchange.to_call_back == []
    [row] = exchange.inquiries
    assert (row["status"], row["reply_state"]) == ("closed", "answered")
    assert exchange.house.read(
        "SELECT answered_by FROM call WHERE call_id = :id", id=exchange.call_id
    ) == [("kari",)]


@pytest.mark.parametrize(
    ("cause", "outcome", "owed"),
    [
        ("busy", "missed", 1),
        ("congestion", "missed", 1),
        ("MediaTimeout 7", "missed", 1),
        ("", "missed", 1),
        ("voicemail", "voicemail", 1),
        ("forwarded", "forwarded", 0),
        ("blocked", "rejected", 0),
    ],
)
def test_why_nobody_answered_decides_whether_a_call_back_is_owed(exchange, cause, outcome, owed):
    exchange.tell("newCall")
    exchange.tell("hangup", cause=cause)
    assert exchange.outcome == outcome
    assert len(exchange.to_call_back) == owed


def test_an_answer_after_the_hangup_changes_nothing(exchange):
    exchange.tell("newCall")
    exchange.tell("hangup", cause="cancel")
    exchange.tell("answer", answeringNumber="kari")
    assert len(exchange.to_call_back) == 1
    assert exchange.outcome == "missed"


def test_events_that_come_twice_are_taken_once(exchange):
    exchange.tell(*["newCall"] * 3, *["hangup"] * 3)
    [row] = exchange.to_call_back
    detail = running.Desk(exchange.house.api()).read(row["ref"])
    kinds = [event["kind"] for event in detail["events"]]
    assert kinds.count("received") == kinds.count("call_ended") == 1
    assert len(running.incoming(detail)) == 1


def test_a_hangup_without_a_new_call_makes_the_call(exchange):
    exchange.tell("hangup", cause="noAnswer")
    assert len(exchange.to_call_back) == 1


def test_an_answer_without_a_new_call_makes_the_call(exchange):
    exchange.tell("answer", answeringNumber="kari")
    exchange.tell("hangup")
    assert exchange.outcome == "answered"
    assert exchange.to_call_back == []
    assert len(exchange.inquiries) == 1


def test_who_calls_again_has_one_call_back_and_is_off_the_list_when_reached(house):
    first = Exchange(house, someone())
    first.tell("newCall", "hangup")
    again = Exchange(house, first.caller, as_json=True)
    again.tell("newCall", "hangup")
    [row] = first.to_call_back
    detail = running.Desk(house.api()).read(row["ref"])
    assert "called_again" in [event["kind"] for event in detail["events"]]
    third = Exchange(house, first.caller)
    third.tell("newCall", "answer", "hangup")
    assert first.to_call_back == []


def test_who_is_called_back_and_reached_is_off_the_list(house):
    missed = Exchange(house, someone())
    missed.tell("newCall", "hangup")
    tried = Exchange(house, missed.caller, direction="out")
    tried.tell("newCall", "hangup")
    assert len(missed.to_call_back) == 1
    reached = Exchange(house, missed.caller, direction="out", as_json=True)
    reached.tell("newCall", "answer", "hangup")
    assert missed.to_call_back == []
    [row] = missed.inquiries
    assert row["status"] == "closed"
    kinds = [e["kind"] for e in running.Desk(house.api()).read(row["ref"])["events"]]
    assert kinds.count("callback_tried") == kinds.count("callback_reached") == 1


def test_an_outgoing_call_to_somebody_who_waits_for_none_is_nobodys_business(house):
    outgoing = Exchange(house, someone(), direction="out")
    outgoing.tell("newCall", "answer", "hangup")
    assert outgoing.inquiries == []


def test_anonymous_callers_are_never_one_person(house):
    for _ in range(2):
        Exchange(house, "anonymous").tell("newCall", "hangup")
    nameless = house.read(
        "SELECT inquiry.id, contact_id FROM call JOIN inquiry ON inquiry.id = call.inquiry_id"
        " WHERE caller = 'anonymous'"
    )
    assert len({number for number, _ in nameless}) == 2
    assert {contact for _, contact in nameless} == {None}


def test_a_call_to_somebodys_own_number_goes_to_their_department(house):
    call = Exchange(house, someone(), line="+4763869101")
    call.tell("newCall", "hangup")
    [row] = call.to_call_back
    assert row["department"] == "byggesak"


def test_the_inquiry_of_a_call_is_with_whoever_answered_it(house):
    house.write(
        lambda session: staff.add_staff(
            session, "kari", "Kari Nordmann", Role.MEMBER, ["byggesak"], None, datetime.now(UTC)
        )
    )
    call = Exchange(house, someone(), line="+4763869101")
    call.tell("newCall")
    call.tell("answer", answeringNumber="63869201")
    [row] = call.inquiries
    assert (row["status"], row["assignee"]) == ("open", "kari")
    call.tell("hangup", cause="normalClearing")
    [row] = call.inquiries
    assert (row["status"], row["assignee"]) == ("closed", "kari")
    desk = running.Desk(house.api())
    [line] = [message["text"] for message in desk.read(row["ref"])["messages"]]
    assert line.startswith("Anrop til Kari Nordmann. Besvart av Kari Nordmann etter ")
    # An inquiry of a department that is not hers is not given to her; her name stands there.
    call = Exchange(house, someone())
    call.tell("newCall")
    call.tell("answer", answeringNumber="63869201")
    call.tell("hangup", cause="normalClearing")
    [row] = call.inquiries
    assert (row["status"], row["assignee"]) == ("closed", None)
    [line] = [message["text"] for message in desk.read(row["ref"])["messages"]]
    assert "Besvart av Kari Nordmann" in line


def test_a_form_of_parts_is_read_too(house):
    call = Exchange(house, someone())
    fields = {
        "event": "hangup",
        "from": f"+{call.caller}",
        "to": LINE,
        "direction": "in",
        "callId": call.call_id,
        "user[]": "Kari Nordmann",
    }
    parts = [(name, (None, value)) for name, value in fields.items()]
    url = f"{house.url}/hooks/phone/cti/{TOKEN}"
    answer = httpx.post(url, files=parts, timeout=30)
    assert (answer.status_code, answer.json()) == (200, {})
    assert len(call.to_call_back) == 1


def test_what_is_of_no_interest_is_taken_and_forgotten(house):
    call = Exchange(house, someone())
    call.tell("dtmf", dtmf="1")
    assert call.inquiries == []


def test_what_the_exchange_must_mend_is_told_as_json(house):
    call = Exchange(house, someone())
    for fault in ({"direction": "sideways"}, {"callId": ""}, {"event": ""}):
        answer = call.send("newCall", **fault) if "event" not in fault else call.send("")
        assert answer.status_code == 422
        assert set(answer.json()) == {"error"}
    answer = call.send("newCall", user="x" * 70_000)
    assert (answer.status_code, set(answer.json())) == (413, {"error"})
    assert call.inquiries == []


def test_without_the_token_nothing_comes_in(house):
    call = Exchange(house, someone())
    for token in ("x", TOKEN[:-1], f"{TOKEN}x", "%00", "æøå"):
        answer = call.send("newCall", token=token)
        assert (answer.status_code, set(answer.json())) == (401, {"error"})
    assert httpx.get(f"{house.url}/hooks/phone/cti/{TOKEN}").status_code == 405
    assert call.inquiries == []
    assert TOKEN not in house.log


def test_where_no_exchange_is_set_up_the_door_is_closed(service):
    call = Exchange(service, someone())
    answer = call.send("newCall")
    assert (answer.status_code, set(answer.json())) == (422, {"error"})


def test_numbers_are_not_logged(house):
    call = Exchange(house, someone())
    call.tell("newCall", "hangup")
    assert call.caller not in house.log


@pytest.mark.slow
def test_a_call_whose_hangup_never_comes_ends_by_itself(smarthost, tmp_path):
    settings = SETTINGS | {"CHANNELS__PHONE__CTI__STALE_HOURS": "0.0001"}
    with running.service(tmp_path, smarthost.port, **settings) as house:
        unanswered, talked = Exchange(house, someone()), Exchange(house, someone())
        unanswered.tell("newCall")
        talked.tell("newCall", "answer")
        house.kill()
        house.restart()  # calls are looked at after a start, and then each minute
        running.wait_until(lambda: unanswered.outcome == "unknown", "the end of the call")
        running.wait_until(lambda: talked.outcome == "answered", "the end of the talk")
        assert len(unanswered.to_call_back) == 1
        assert talked.to_call_back == []


@pytest.mark.slow
def test_killed_between_any_two_events_the_list_is_right(smarthost, tmp_path):
    with running.service(tmp_path, smarthost.port, **SETTINGS) as house:
        missed, answered = Exchange(house, someone()), Exchange(house, someone())
        for event in ("newCall", "answer", "hangup"):
            answered.tell(event)
            if event != "answer":
                missed.tell(event)
            house.kill()
            house.restart()
        assert len(missed.to_call_back) == 1
        assert answered.to_call_back == []
        assert [row["status"] for row in answered.inquiries] == ["closed"]
