"""A call's whole way with a real service and Twilio's own terms: taken, held, passed on, and
`kill -9` between any two steps. And all that Twilio tells, told again."""

from __future__ import annotations

import random
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from xml.etree import ElementTree

import pytest

from router import staff
from router.models import Role
from tests import service as running
from tests import twiml_grammar
from tests.integration.crash import crash_calls
from tests.service import ALWAYS_OPEN, Desk, kinds, wait_until
from tests.twilio_double import ACCOUNT_SID, Double, served, settings_for, webhook

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from tests.service import Service

SWITCHBOARD, KARI, TEXTS = "+4763869000", "+4763869101", "+4759440000"
PHONES = {"siv": "+4763869301", "per": "+4763869302", "kari": "+4763869201"}
NAMES = {"siv": "Siv Sentral", "per": "Per Sentral", "kari": "Kari Nordmann"}
OPERATORS = ("siv", "per")

_numbers = count(1)


@pytest.fixture(scope="module")
def twilio() -> Iterator[Double]:
    with served() as double:
        yield double


@pytest.fixture(scope="module")
def house(twilio, smarthost, tmp_path_factory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("call")
    with running.service(folder, smarthost.port, **_settings(twilio)) as opened:
        opened.write(_hire)
        yield opened


def _settings(double: Double) -> dict[str, str]:
    people = {
        f"CHANNELS__PHONE__PEOPLE__{name.upper()}__{key}": value
        for name in OPERATORS
        for key, value in {
            "NAME": NAMES[name],
            "PHONE": PHONES[name],
            "DEPARTMENT": "servicetorg",
        }.items()
    }
    doors = {"CHANNELS__PHONE__ENABLED": "true", "CHANNELS__SMS__ENABLED": "true"}
    return settings_for(double) | doors | people | ALWAYS_OPEN


def _hire(session: Any) -> None:
    for name in ("siv", "per", "kari"):
        role, own = (Role.MEMBER, ["byggesak"]) if name == "kari" else (Role.OPERATOR, [])
        staff.add_staff(session, name, NAMES[name], role, own, None, datetime.now(UTC))


class Caller:
    """Somebody who calls a real service, and the provider that tells of it."""

    def __init__(self, house: Service, double: Double, to: str = SWITCHBOARD) -> None:
        self.house, self.double, self.to = house, double, to
        self.sid = f"CA{next(_numbers):030x}aa"
        self.number = f"+4792{next(_numbers):06d}"
        self.told: list[tuple[str, dict[str, str], str]] = []
        """Address, form and place of each webhook."""
        self.document = ""
        fields = {"from_": self.number, "to": to, "direction": "inbound"}
        double.put("Calls", sid=self.sid, status="ringing", **fields)

    def tell(self, url: str, place: str = "call", **form: str) -> str:
        fields = {
            "CallSid": self.sid,
            "AccountSid": ACCOUNT_SID,
            "From": self.number,
            "To": self.to,
            "CallStatus": "in-progress",
            "ApiVersion": "2010-04-01",
            "Direction": "inbound",
            "CallerCountry": "",
            **form,
        }
        if not url.startswith("http"):
            url = f"{self.house.url}/hooks/phone/twilio/{url}"
        answer = webhook(url, fields)
        assert answer.status_code == 200, (url, answer.status_code, answer.text)
        twiml_grammar.check(answer.text, place)
        self.told.append((url, fields, place))
        return answer.text

    def ring(self) -> Caller:
        self.document = self.tell("voice", CallStatus="ringing")
        return self

    def address(self, name: str = "action") -> str:
        """The first address of this kind in what was answered last."""
        for element in ElementTree.fromstring(self.document).iter():
            if name in element.attrib:
                return element.attrib[name]
        raise AssertionError(f"no {name} in {self.document}")

    def wait(self) -> str:
        return self.tell(self.address("waitUrl"), "wait", QueueTime="3")

    def sent_on(self) -> Caller:
        """Come where we are sent to."""
        asked = wait_until(lambda: self.redirects[self.come :], "being sent somewhere")
        self.come = len(self.redirects)
        self.document = self.tell(asked[-1]["Url"])
        return self

    come = 0

    @property
    def redirects(self) -> list[Any]:
        with self.double.arrived:
            return [
                a for a in self.double.asked if a.resource == f"Calls/{self.sid}" and a.get("Url")
            ]

    def enter_room(self) -> Caller:
        """The caller is in the conference, where people can be held."""
        room = f"call-{self.id}"
        sid = self.double.put("Conferences", friendly_name=room, status="in-progress")
        self.double.put(f"Conferences/{sid}/Participants", call_sid=self.sid, hold=False)
        return self

    def rung(self, how_many: int = 1) -> list[Any]:
        """The phones that were rung into the room."""
        return self.double.first(f"Conferences/call-{self.id}/Participants", how_many)

    def leg(self, number: int, *statuses: str) -> None:
        """What becomes of a phone that was rung, the first being 1."""
        asked = self.rung(number)[number - 1]
        for status in statuses:
            form = {"CallSid": self.leg_sid(number), "CallStatus": status, "To": asked["To"]}
            self.tell(asked["StatusCallback"], Direction="outbound-api", **form)

    def leg_sid(self, number: int) -> str:
        place = f"Conferences/call-{self.id}/Participants"
        return str(self.double.of(place)[number - 1]["call_sid"])

    def hang_up(self) -> None:
        ended = {"status": "completed", "duration": "9"}
        self.double.resources["Calls"][self.sid] |= ended
        self.tell("status", CallStatus="completed", CallDuration="9")

    def is_told(self, **values: str) -> bool:
        """Whether the provider was asked for this, of whichever call."""
        with self.double.arrived:
            return any(
                all(asked.get(name) == value for name, value in values.items())
                for asked in self.double.asked
            )

    @property
    def row(self) -> Any:
        [row] = self.house.read("SELECT * FROM call WHERE call_id = :sid", sid=self.sid)
        return row

    @property
    def id(self) -> int:
        return int(self.row.id)

    def act(self, verb: str, **body: Any) -> httpx.Response:
        return self.house.api().post(f"/api/calls/{self.id}/{verb}", json=body or None)

    def does(self, verb: str, **body: Any) -> dict[str, Any]:
        answer = self.act(verb, **body)
        assert answer.status_code == 200, (verb, answer.text)
        found: dict[str, Any] = answer.json()
        return found

    def taken(self, by: str = "siv") -> Caller:
        """An operator takes the call and picks up."""
        self.does("take", person=by)
        number = len(self.double.of(f"Conferences/call-{self.id}/Participants"))
        self.sent_on().leg(number + 1, "initiated", "ringing", "in-progress")
        return self.enter_room()

    def inquiry(self) -> dict[str, Any]:
        desk = Desk(self.house.api())
        [row] = desk.rows(q=self.number)
        return desk.read(row["ref"])


UNDER_WAY = "SELECT 1 FROM call_command WHERE state IN ('queued', 'sending')"


@pytest.fixture(
    params=[pytest.param(False, id="calm"), pytest.param(True, id="killed", marks=pytest.mark.slow)]
)
def between(request, house):
    """What happens between two steps: nothing, or the end of the process."""

    def nothing() -> None:
        """Go on."""

    def power_cut() -> None:
        # What is on its way to the provider at that moment is another matter, see below.
        wait_until(lambda: not house.read(UNDER_WAY), "the provider's answers")
        house.kill()
        house.restart()

    return power_cut if request.param else nothing


def test_taken_held_passed_on_warm_and_left_to_the_colleague(house, twilio, between):
    caller = Caller(house, twilio).ring()
    between()
    assert "<Gather" in caller.wait()
    assert caller.does("take", person="siv")["state"] == "talking"
    between()
    caller.sent_on()
    assert "<Conference" in caller.document
    between()
    assert caller.rung()[0]["To"] == PHONES["siv"]
    caller.leg(1, "initiated", "ringing")
    between()
    caller.leg(1, "in-progress")
    caller.enter_room()
    assert caller.does("hold")["held"]
    between()
    wait_until(lambda: caller.is_told(Hold="true"), "being held")
    assert not caller.does("resume")["held"]
    between()
    assert caller.does("transfer", to="kari", warm=True, note="Gjelder garasje.")["held"]
    between()
    assert caller.rung(2)[1]["To"] == PHONES["kari"]
    caller.leg(2, "ringing", "in-progress")
    between()
    assert caller.does("complete")["answered_by"] == "kari"
    between()
    gone = f"Calls/{caller.leg_sid(1)}"
    wait_until(
        lambda: any(a.resource == gone and a.get("Status") == "completed" for a in twilio.asked),
        "the operator's leaving",
    )
    caller.leg(1, "completed")
    caller.leg(2, "completed")  # the colleague hangs up, and with that the call ends
    between()
    wait_until(
        lambda: any(
            a.resource == f"Calls/{caller.sid}" and a.get("Status") == "completed"
            for a in twilio.asked
        ),
        "the end of the call",
    )
    caller.hang_up()
    between()
    assert (caller.row.outcome, caller.row.answered_by) == ("answered", "kari")
    inquiry = caller.inquiry()
    assert (inquiry["status"], inquiry["department"]) == ("closed", "byggesak")
    assert kinds(inquiry).count("call_ended") == 1
    assert kinds(inquiry).count("call_taken") == 1
    notes = [m["text"] for m in inquiry["messages"] if m["kind"] == "note"]
    assert notes == ["Gjelder garasje."]
    states = "SELECT DISTINCT state FROM call_command WHERE call_id = :id"
    assert house.read(states, id=caller.id) == [("sent",)]


def test_taken_back_before_the_colleague_answers(house, twilio, between):
    caller = Caller(house, twilio).ring().taken()
    caller.does("transfer", to="kari", warm=True)
    between()
    assert caller.rung(2)[1]["To"] == PHONES["kari"]
    caller.leg(2, "ringing")
    assert caller.does("take-back")["actions"] == ["hold", "transfer", "hang-up"]
    between()
    gone = f"Calls/{caller.leg_sid(2)}"
    wait_until(lambda: any(a.resource == gone for a in twilio.asked), "the end of the ringing")
    caller.leg(2, "canceled")
    # Now blind: the caller is on the way to Kari, and is called back from it.
    assert caller.does("transfer", to="kari")["actions"] == ["take-back", "hang-up"]
    between()
    assert PHONES["kari"] in caller.sent_on().document
    caller.leg(1, "completed")  # the room has ended for the operator
    caller.does("take-back")
    between()
    assert "<Conference" in caller.sent_on().document
    caller.leg(3, "ringing", "in-progress")
    caller.does("hang-up")
    between()
    caller.hang_up()
    assert (caller.row.outcome, caller.row.answered_by) == ("answered", "siv")
    assert caller.inquiry()["assignee"] == "siv"


def test_a_colleague_takes_a_call_that_is_passed_on_by_pressing_1(house, twilio):
    caller = Caller(house, twilio).ring().taken("per")
    caller.does("transfer", to="kari")
    caller.sent_on()
    [number] = ElementTree.fromstring(caller.document).iter("Number")
    leg = {"CallSid": f"CA{next(_numbers):030x}bb", "ParentCallSid": caller.sid}
    leg |= {"To": PHONES["kari"], "Direction": "outbound-dial"}
    whisper = caller.tell(number.attrib["url"], "whisper", **leg)
    assert "Per Sentral" in whisper
    [gather] = ElementTree.fromstring(whisper).iter("Gather")
    assert "<Hangup" not in caller.tell(gather.attrib["action"], Digits="1", **leg)
    caller.leg(1, "completed")
    caller.tell(caller.address(), DialCallStatus="completed", DialBridged="true")
    caller.hang_up()
    assert (caller.row.outcome, caller.row.answered_by) == ("answered", "kari")
    assert (caller.inquiry()["department"], caller.inquiry()["status"]) == ("byggesak", "closed")


def test_two_operators_take_one_call_in_the_same_moment(house, twilio):
    for _ in range(5):
        caller = Caller(house, twilio).ring()
        with ThreadPoolExecutor(2) as both:
            jobs = {who: both.submit(caller.act, "take", person=who) for who in OPERATORS}
            answers = {who: job.result() for who, job in jobs.items()}
        [first] = [who for who, answer in answers.items() if answer.status_code == 200]
        [refused] = [answer for answer in answers.values() if answer.status_code != 200]
        assert refused.status_code == 409
        assert refused.json()["holder"] == NAMES[first]
        assert NAMES[first] in refused.json()["detail"]
        caller.sent_on()
        assert [asked["To"] for asked in caller.rung()] == [PHONES[first]]
        caller.hang_up()
        assert kinds(caller.inquiry()).count("call_taken") == 1


def test_passed_round_in_a_circle_the_caller_comes_back_every_time(house, twilio):
    """Siv to Kari, back to the queue, Per to Kari, and so on: no phone rings twice at a time, and
    the caller can always be reached."""
    caller = Caller(house, twilio).ring()
    for turn, who in enumerate((*OPERATORS, *OPERATORS), start=1):
        caller.taken(who)
        caller.does("transfer", to="kari")
        assert PHONES["kari"] in caller.sent_on().document
        caller.leg(turn, "completed")
        caller.document = caller.tell(caller.address(), DialCallStatus="no-answer")
        assert "<Enqueue" in caller.document
        assert caller.row.state == "waiting"
    assert kinds(caller.inquiry()).count("call_returned") == 4
    caller.hang_up()
    assert caller.row.outcome == "missed"
    assert (caller.inquiry()["status"], caller.inquiry()["kind"]) == ("open", "callback")


@pytest.mark.slow
def test_killed_between_a_step_and_its_command_the_provider_is_told_after_the_start(house, twilio):
    caller = Caller(house, twilio).ring()
    twilio.fail(f"Calls/{caller.sid}", status=429, code=20429)
    caller.does("take", person="siv")
    refused = "SELECT 1 FROM call_command WHERE call_id = :id AND attempts = 1 AND state = 'queued'"
    wait_until(lambda: house.read(refused, id=caller.id), "the first try", pause=0.001)
    house.kill()
    house.restart()
    wait_until(lambda: len(caller.redirects) == 2, "the second try")
    caller.come = 1
    caller.sent_on().leg(1, "ringing", "in-progress")
    caller.hang_up()
    assert (caller.row.outcome, caller.row.answered_by) == ("answered", "siv")
    assert kinds(caller.inquiry()).count("call_taken") == 1


@pytest.mark.slow
def test_killed_while_the_provider_was_told_nothing_is_told_twice(house, twilio):
    """Nobody knows whether the caller was fetched; the caller comes by the next question."""
    caller = Caller(house, twilio).ring()
    gate = twilio.hold(f"Calls/{caller.sid}")
    caller.does("take", person="siv")
    wait_until(lambda: caller.redirects, "the command")
    house.kill()
    gate.set()
    house.restart()
    uncertain = "SELECT 1 FROM call_command WHERE call_id = :id AND state = 'uncertain'"
    wait_until(lambda: house.read(uncertain, id=caller.id), "the doubt")
    assert len(caller.redirects) == 1
    wait_until(lambda: "<Leave" in caller.wait(), "the way out of the queue", pause=1)
    caller.document = caller.tell(caller.address(), QueueResult="leave")
    assert "<Conference" in caller.document
    caller.leg(1, "in-progress")
    caller.hang_up()
    assert (caller.row.outcome, caller.row.answered_by) == ("answered", "siv")
    assert len(caller.redirects) == 1


@pytest.mark.slow
def test_calls_that_rang_through_kill_9_are_there_once(smarthost, tmp_path):
    with (
        served() as double,
        running.service(tmp_path, smarthost.port, **_settings(double)) as house,
    ):
        report = crash_calls(house, kills=4)
        assert report.acknowledged >= 4
        assert report.faults == []


TABLES = (
    "arrival inquiry message decision event addressee outbox attachment contact address counter"
    " call call_command recording"
)


def everything(house: Service) -> dict[str, list[Any]]:
    """All that the store holds of calls and texts."""
    return {
        table: sorted(map(str, house.read(f"SELECT * FROM {table}"))) for table in TABLES.split()
    }


@pytest.mark.slow
def test_all_that_was_ever_told_is_told_again_ten_times_and_changes_nothing(smarthost, tmp_path):
    """Late, out of order and at the same time, to the same process and to the next one."""
    with (
        served() as double,
        running.service(tmp_path, smarthost.port, **_settings(double)) as house,
    ):
        house.write(_hire)
        told = [*_a_talk(house, double), *_a_message(house, double), *_a_text(house, double)]
        settled = (
            "SELECT (SELECT count(*) FROM call_command WHERE state IN ('queued', 'sending'))"
            " + (SELECT count(*) FROM recording WHERE state <> 'deleted')"
            " + (SELECT count(*) FROM outbox WHERE state <> 'delivered')"
        )
        wait_until(lambda: house.read(settled)[0][0] == 0, "the end of all work")
        before = everything(house)
        chance = random.Random(7)
        many = told * 10
        chance.shuffle(many)
        with ThreadPoolExecutor(8) as crowd:
            faults = [fault for found in crowd.map(_again, many) for fault in found]
        assert faults == []
        _same(everything(house), before)
        house.kill()
        house.restart()
        assert [fault for one in told for fault in _again(one)] == []
        _same(everything(house), before)
        assert [len(before[table]) for table in ("call", "inquiry")] == [2, 3]


def _same(now: dict[str, list[Any]], before: dict[str, list[Any]]) -> None:
    for table in before:
        assert now[table] == before[table], table


def _again(one: tuple[str, dict[str, str], str]) -> list[str]:
    url, form, place = one
    answer = webhook(url, form)
    if answer.status_code != 200:
        return [f"{urlsplit(url).path}: {answer.status_code}"]
    return twiml_grammar.faults(answer.text, place)


def _a_talk(house: Service, double: Double) -> list[tuple[str, dict[str, str], str]]:
    """A call that waits, is taken, held and passed on."""
    caller = Caller(house, double).ring()
    caller.wait()
    caller.wait()
    left = caller.address()
    caller.does("take", person="siv")
    caller.sent_on()
    caller.tell(left, QueueResult="redirected", QueueTime="4")
    caller.leg(1, "initiated", "ringing", "in-progress")
    caller.enter_room()
    caller.does("hold")
    caller.tell("hold", "hold")
    caller.does("resume")
    caller.does("transfer", to="kari")
    caller.sent_on()
    [number] = ElementTree.fromstring(caller.document).iter("Number")
    leg = {"CallSid": f"CA{next(_numbers):030x}cc", "ParentCallSid": caller.sid}
    leg |= {"To": PHONES["kari"], "Direction": "outbound-dial"}
    whisper = caller.tell(number.attrib["url"], "whisper", **leg)
    action = re.search('action="([^"]+)"', whisper)
    assert action is not None
    caller.tell(action[1].replace("&amp;", "&"), Digits="1", **leg)
    caller.leg(1, "completed")
    caller.tell(caller.address(), DialCallStatus="completed", DialBridged="true")
    caller.hang_up()
    assert caller.row.outcome == "answered"
    return caller.told


def _a_message(house: Service, double: Double) -> list[tuple[str, dict[str, str], str]]:
    """Somebody calls Kari, who does not answer, waits, wants to be called back, and speaks."""
    caller = Caller(house, double, KARI).ring()
    caller.document = caller.tell(caller.address(), DialCallStatus="no-answer")
    while "<Enqueue" not in caller.document:
        caller.document = caller.tell(caller.address(), DialCallStatus="busy")
    assert "<Leave" in caller.tell(caller.address("waitUrl"), "wait", Digits="1", QueueTime="9")
    caller.document = caller.tell(caller.address(), QueueResult="leave", QueueTime="9")
    sid = f"RE{next(_numbers):032x}"
    recorded = {"RecordingSid": sid, "RecordingDuration": "0", "RecordingStatus": "absent"}
    caller.tell("recording", **recorded)
    caller.hang_up()
    assert caller.row.outcome == "callback"
    return caller.told


def _a_text(house: Service, double: Double) -> list[tuple[str, dict[str, str], str]]:
    """A text, its receipt, and the delivery of that."""
    sid = f"SM{next(_numbers):032x}"
    form = {"MessageSid": sid, "SmsSid": sid, "SmsMessageSid": sid, "AccountSid": ACCOUNT_SID}
    form |= {"From": "+4741234567", "To": TEXTS, "Body": "Hei", "NumMedia": "0", "NumSegments": "1"}
    told = [(f"{house.url}/hooks/sms/twilio", form, "call")]
    assert webhook(*told[0][:2]).status_code == 200
    [receipt] = double.first()
    reply = wait_until(lambda: double.of(), "the receipt")[0]
    for status in ("sent", "delivered"):
        fields = {"MessageSid": reply["sid"], "SmsSid": reply["sid"], "MessageStatus": status}
        fields |= {"AccountSid": ACCOUNT_SID, "To": reply["to"], "From": reply["from"]}
        told.append((receipt["StatusCallback"], fields, "call"))
        assert webhook(*told[-1][:2]).status_code == 200
    return told
