"""Callers, colleagues and operators, and the Twilio between them and us.

It walks our TwiML as a caller's phone would, asks with signed webhooks, does what we tell it by the
REST API, and holds every document against the grammar. Chance decides who picks up, who presses
what and who hangs up when; and it doubles, delays, reorders and loses webhooks, lets requests to
the provider fail, and restarts the service in the middle.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from xml.etree import ElementTree

from router import call_desk
from router.call_desk import Target
from router.call_models import CallState
from router.errors import ConflictError, InvalidError
from rules.presence import State
from tests import twiml_grammar
from tests.phone_house import HOOKS, OPERATORS
from tests.twilio_double import ACCOUNT_SID, Double, _problem

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random
    from xml.etree.ElementTree import Element

    from tests.phone_house import PhoneHouse

DOCUMENTS = 120
"""More than any caller needs; who waits for ten minutes asks thirty times."""

_KEPT = (
    "state, outcome, step, staff_id, answered_by, provider_status, ended_at, answered_at,"
    " wants_callback, waiting_since, person, department"
)

_NUMBER = "SELECT id FROM call WHERE call_id = :sid"

FAILURES: tuple[dict[str, Any], ...] = (
    {"status": 429, "code": 20429},
    {"status": 400, "code": 21211},
    {"status": 500},
    {"cut": True},
    {"cut": True, "carried_out": True},
)


@dataclass(eq=False)
class Leg:
    """One phone in a call, as the exchange sees it."""

    sid: str
    to: str = ""
    label: str = "caller"
    parent: str = ""
    """The caller's call in whose room it is."""
    callback: str = ""
    status: str = "queued"
    redirect: str = ""
    kicked: bool = False
    told: list[str] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        return self.status in {"completed", "busy", "failed", "no-answer", "canceled"}


class Switch(Double):
    """The double of the REST API, with the phones behind it."""

    def __init__(self, clock: Callable[[], Any]) -> None:
        super().__init__(clock=clock)
        self.legs: dict[str, Leg] = {}
        self.rung: list[Leg] = []
        self.unsure: set[str] = set()
        """Requests of which nobody knows whether they were carried out."""
        self.repeated: list[str] = []
        """Those that came again all the same."""

    def forget(self) -> None:
        """Begin anew."""
        kept: tuple[Any, ...] = (self.legs, self.rung, self.asked, self.resources, self._failures)
        for one in (*kept, self.unsure, self.repeated):
            one.clear()
        self._count = 0

    def answer(self, request: Any) -> tuple[int, str, bytes] | None:
        body = str(request.body or "")
        once = f"{request.url} {body}" if "Url=" in body or "StatusCallback=" in body else ""
        if once in self.unsure:
            self.repeated.append(once)
        answer = super().answer(request)
        if once and (answer is None or answer[0] >= 500):
            self.unsure.add(once)
        return answer

    def leg(self, sid: str, origin: str = "", **fields: Any) -> Leg:
        leg = self.legs[sid] = Leg(sid, **fields)
        self.put(
            "Calls",
            sid=sid,
            status="ringing",
            from_=origin,
            to=leg.to,
            direction="inbound" if origin else "outbound-api",
            parent_call_sid=None,
            start_time=format_datetime(self.clock()),
            end_time=None,
            duration=None,
        )
        return leg

    def end(self, leg: Leg) -> None:
        """The list of calls knows how each has ended."""
        leg.status = "completed"
        ended = {"status": "completed", "end_time": format_datetime(self.clock()), "duration": "0"}
        self.resources["Calls"][leg.sid] |= ended

    def _one(
        self, method: str, collection: str, sid: str, form: dict[str, list[str]]
    ) -> tuple[int, str, bytes]:
        leg = self.legs.get(sid)
        if collection == "Calls" and method == "POST" and leg is not None:
            if leg.ended:
                return _problem(400, 21220, "Call is not in-progress")
            if "Url" in form:
                leg.redirect = form["Url"][0]
            else:
                leg.kicked = True
        return super()._one(method, collection, sid, form)

    def _add(self, collection: str, given: Any) -> str:
        if collection.startswith("Conferences/call-") and "StatusCallback" not in given:
            self._count += 1
            sid = f"CA{self._count:031x}f"
            leg = self.leg(
                sid,
                to=given["to"],
                label=given["label"],
                parent=collection.split("/")[1],
                callback=given["status_callback"],
            )
            self.rung.append(leg)
            given = {**given, "call_sid": sid}
        return super()._add(collection, given)


@dataclass
class Truth:
    """What really happened to a caller, whether we were told or not."""

    sid: str
    spoke_with: str = ""
    """Who talked last with the caller, who was not sent on afterwards."""
    message: bool = False
    pressed_callback: bool = False


class HungUpError(Exception):
    """The caller is gone."""


class SentError(Exception):
    """We have sent the caller's call somewhere else."""


class Exchange:
    """One story: a few calls, and what becomes of them."""

    def __init__(self, house: PhoneHouse, switch: Switch, chance: Random, *, losses: bool) -> None:
        self.house, self.switch, self.chance, self.losses = house, switch, chance, losses
        self.count = 0
        self.documents = 0
        self.depth = 0
        self.later: list[tuple[str, dict[str, str]]] = []
        self.sent: list[tuple[str, dict[str, str]]] = []
        self.truths: list[Truth] = []
        self.numbers: dict[str, str] = {}
        """Call -> who calls."""
        self.rooms: dict[str, str] = {}
        """Conference -> the call it is for."""
        self.talking: set[str] = set()
        """Calls whose caller is in their room."""

    def happens(self, likelihood: float) -> bool:
        return self.chance.random() < likelihood

    async def play(self) -> None:
        """The story, to its end."""
        if self.happens(0.3):
            state = self.chance.choice([State.MEETING, State.AVAILABLE, State.ABSENT])
            who = self.chance.choice(["kari", "ola"])
            hours = self.chance.choice([1, 30])
            self.house.clock.move(seconds=1)
            await self.house.mark(
                who, state, self.house.clock().replace(microsecond=0) + timedelta(hours=hours)
            )
        for _ in range(self.chance.choice([1, 1, 1, 2, 3])):
            await self.call()
        while self.later or await self.effects():
            if self.later:
                await self.deliver(self.chance.randrange(len(self.later)))
            self.house.clock.move(seconds=1)

    # What a phone asks of us

    def fields(self, leg: Leg, caller: Leg, **form: str) -> dict[str, str]:
        return {
            "CallSid": leg.sid,
            "AccountSid": ACCOUNT_SID,
            "From": self.numbers[caller.sid],
            "To": caller.to if leg is caller else leg.to,
            "CallStatus": leg.status,
            "ApiVersion": "2010-04-01",
            "Direction": "inbound" if leg is caller else "outbound-dial",
            "CallerCountry": "",
            **({} if leg is caller else {"ParentCallSid": caller.sid}),
            **form,
        }

    async def ask(self, url: str, form: dict[str, str], context: str = "call") -> str:
        """What we are asked must be answered, once or several times the same. Raises
        `HungUpError` when the question or its answer is lost: the provider ends the call."""
        self.documents += 1
        assert self.documents < DOCUMENTS * len(self.truths), "the caller goes round in a circle"
        lost = self.losses and self.happens(0.02)
        if lost and self.happens(0.5):
            raise HungUpError
        answers = []
        for _ in range(1 + (self.happens(0.15) and self.chance.choice([1, 2]))):
            answer = await self.house.hook(url, **form)
            assert answer.status_code == 200, (url, answer.text)
            twiml_grammar.check(answer.text, context)
            answers.append(answer.text)
        assert len(set(answers)) == 1, (url, answers)
        self.sent.append((url, form))
        if lost:
            raise HungUpError
        return answers[0]

    async def deliver(self, position: int) -> None:
        """A webhook that nobody waits for."""
        url, form = self.later.pop(position)
        for _ in range(1 + (self.happens(0.15) and 1)):
            answer = await self.house.hook(url, **form)
            assert answer.status_code == 200, (url, answer.text)
            twiml_grammar.check(answer.text)
        self.sent.append((url, form))

    def promise(self, url: str, **form: str) -> None:
        """A webhook will come, unless it is lost."""
        if not (self.losses and self.happens(0.1)):
            self.later.append((url, form))

    def sample(self, most: int) -> list[tuple[str, dict[str, str]]]:
        """Some of all webhooks."""
        return self.chance.sample(self.sent, min(most, len(self.sent)))

    async def replay(self) -> None:
        """A webhook from before, again: nothing changes."""
        url, form = self.chance.choice(self.sent)
        if urlsplit(url).path.endswith("/wait"):
            return  # to be asked again is what a place in the queue is about
        before = self.store()
        await self.house.hook(url, **form)
        assert self.store() == before, url

    def store(self) -> list[Any]:
        """All that a webhook could change of this story's calls."""
        sids = tuple(truth.sid for truth in self.truths)
        marks = ", ".join(f"'{sid}'" for sid in sids)
        rows = self.house.rows
        calls = rows(f"SELECT id, inquiry_id, {_KEPT} FROM call WHERE call_id IN ({marks})")
        mine = ", ".join(str(call.id) for call in calls) or "0"
        inquiries = ", ".join(str(call.inquiry_id) for call in calls) or "0"
        return [
            calls,
            rows(
                f"SELECT *, (SELECT count(*) FROM event WHERE inquiry_id = inquiry.id),"
                f" (SELECT group_concat(text) FROM message WHERE inquiry_id = inquiry.id)"
                f" FROM inquiry WHERE id IN ({inquiries})"
            ),
            rows(f"SELECT id, verb, state FROM call_command WHERE call_id IN ({mine})"),
        ]

    # What happens in the meantime

    async def moment(self, caller: Leg, seconds: float, leaves: float = 0.03) -> None:
        """Time passes. Raises `HungUpError` or `SentError` when the caller's call is elsewhere
        afterwards."""
        self.house.clock.move(seconds=seconds)
        if self.later and self.happens(0.4):
            await self.deliver(self.chance.randrange(len(self.later)))
        if self.sent and self.happens(0.1):
            await self.replay()
        if self.happens(0.03):
            await self.house.restart()
        if self.depth < 2 and self.count < 4 and self.happens(0.04):
            await self.call()
        await self.operate(caller)
        await self.effects()
        if caller.kicked or self.happens(leaves):
            raise HungUpError
        if caller.redirect:
            raise SentError

    async def effects(self) -> bool:
        """What we told the provider is done; whether anything was."""
        for leg in self.switch.legs.values():
            if self.happens(0.03) and not leg.ended:
                self.switch.fail(f"Calls/{leg.sid}", **self.chance.choice(FAILURES))
        before = len(self.switch.asked)
        if self.house.rows("SELECT 1 FROM call_command WHERE state = 'queued' LIMIT 1"):
            await self.house.settle()
        done = len(self.switch.asked) > before
        for leg in sorted(self.switch.rung, key=lambda leg: (leg.parent, leg.sid)):
            done |= self.ring_on(leg)
        return done

    def ring_on(self, leg: Leg) -> bool:
        """What becomes of a phone that was rung into a room, since it was last looked at."""
        caller = self.switch.legs[self.rooms[leg.parent]]
        if leg.status == "queued":
            leg.status = "ringing"
            self.tell(leg, caller, "initiated")
            self.tell(leg, caller, "ringing")
            return True
        if leg.status == "ringing":
            fate = self.chance.choice(
                ["in-progress"] * 4 + ["ringing", "no-answer", "busy", "failed"]
            )
            if leg.kicked:
                fate = "canceled"
            if fate != "ringing":
                leg.status = fate
                self.tell(leg, caller, fate)
        elif leg.kicked or not self.in_room(caller) or self.happens(0.03):
            leg.status = "completed"
            self.tell(leg, caller, "completed")
        if leg.ended:
            self.switch.rung.remove(leg)
        return True

    def in_room(self, caller: Leg) -> bool:
        return caller.sid in self.talking and not caller.ended

    def tell(self, leg: Leg, caller: Leg, status: str) -> None:
        leg.told.append(status)
        form = self.fields(leg, caller, CallStatus=status, SequenceNumber=str(len(leg.told)))
        self.promise(leg.callback, **{**form, "Direction": "outbound-api"})

    async def operate(self, caller: Leg) -> None:
        """Operators do what they please."""
        found = self.house.rows(
            "SELECT id, state, staff_id FROM call WHERE call_id = :sid", sid=caller.sid
        )
        if not found or not self.happens(0.35):
            return
        [(number, state, staff_id)] = found
        if state == CallState.WAITING:
            first, second = self.chance.sample(OPERATORS, 2)
            if await self.act(first, call_desk.take, number) and await self.act(
                second, call_desk.take, number
            ):
                raise AssertionError("two operators have one caller")
            return
        if state == CallState.ENDED or staff_id is None:
            return
        actors = {name: await self.house.actor(name) for name in OPERATORS}
        who = next(name for name, actor in actors.items() if actor.staff_id == staff_id)
        match self.chance.randrange(8):
            case 0:
                await self.act(who, call_desk.hold, number)
            case 1:
                await self.act(who, call_desk.resume, number)
            case 2 | 3:
                target = self.chance.choice(
                    [
                        Target("person", "kari"),
                        Target("person", "ola"),
                        Target("department", "byggesak"),
                        Target("number", "+4722222222"),
                    ]
                )
                warm = self.happens(0.6)
                await self.act(who, call_desk.transfer, number, target, warm=warm)
            case 4:
                await self.act(who, call_desk.complete_transfer, number)
            case 5:
                await self.act(who, call_desk.take_back, number)
            case 6:
                await self.act(who, call_desk.hang_up, number)

    async def act(self, who: str, action: Any, number: int, *more: Any, **options: Any) -> bool:
        actor, plan, now = await self.house.actor(who), self.house.hall.plan, self.house.clock()
        try:
            await self.house.write(lambda s: action(s, actor, number, *more, plan, now, **options))
        except (ConflictError, InvalidError):
            return False
        return True

    # A caller

    async def call(self) -> None:
        """Somebody rings, and goes through what we say until the call is over."""
        self.count += 1
        sid = f"CA{self.count:032x}"
        lines = ["+4763869000", "+4763869000", "+4763869010", "+4763869101", "+4763869102"]
        number = self.chance.choice(["+4790012345"] * 4 + ["+4741012345", "anonymous", "client:x"])
        caller = self.switch.leg(sid, number, to=self.chance.choice(lines))
        caller.status = "ringing"
        truth = Truth(sid)
        self.truths.append(truth)
        self.numbers[sid] = number
        self.depth += 1
        try:
            document = await self.ask(f"{HOOKS}/voice", self.fields(caller, caller))
            self.rooms[f"call-{self.house.one(_NUMBER, sid=sid)}"] = sid
            while document:
                document = await self.hear(caller, truth, document)
        except HungUpError:
            pass
        self.depth -= 1
        self.switch.end(caller)
        self.talking.discard(sid)
        form = self.fields(caller, caller, CallDuration="30")
        self.promise(f"{HOOKS}/status", **form)

    async def hear(self, caller: Leg, truth: Truth, document: str) -> str:
        """Go through a document; the next one, or nothing at the end."""
        try:
            for verb in ElementTree.fromstring(document):
                following = await self.perform(caller, truth, verb)
                if following is not None:
                    return following
        except SentError:
            url, caller.redirect = caller.redirect, ""
            self.talking.discard(caller.sid)
            truth.spoke_with = ""
            return await self.ask(url, self.fields(caller, caller))
        return ""

    async def perform(self, caller: Leg, truth: Truth, verb: Element) -> str | None:
        if verb.tag in {"Say", "Play", "Pause"}:
            caller.status = "in-progress"
            await self.moment(caller, 3)
            return None
        if verb.tag == "Redirect":
            return await self.ask(str(verb.text), self.fields(caller, caller))
        if verb.tag == "Hangup":
            return ""
        caller.status = "in-progress" if verb.tag != "Dial" else caller.status
        if verb.tag == "Gather":
            return await self.gather(caller, truth, verb)
        if verb.tag == "Record":
            return await self.record(caller, truth, verb)
        if verb.tag == "Enqueue":
            return await self.enqueue(caller, truth, verb)
        if verb.find("Conference") is not None:
            return await self.talk(caller, truth, verb)
        return await self.dial(caller, truth, verb)

    async def gather(self, caller: Leg, truth: Truth, verb: Element) -> str | None:
        await self.moment(caller, 5)
        key = self.chance.choice(["1", "1", "2", "2", "3", "9", ""])
        if not key and verb.get("actionOnEmptyResult") != "true":
            return None
        said = " ".join(say.text or "" for say in verb.iter("Say"))
        offered = {"1": "Tast én hvis", "2": "Tast to hvis"}
        truth.pressed_callback |= bool(offered.get(key)) and offered[key] in said
        return await self.ask(verb.attrib["action"], self.fields(caller, caller, Digits=key))

    async def record(self, caller: Leg, truth: Truth, verb: Element) -> str | None:
        await self.moment(caller, 4, leaves=0.3)
        if self.happens(0.2):
            return None  # silence, and on to the next verb
        truth.message = True
        sid = f"RE{self.documents:032x}"
        self.switch.put(
            "Recordings",
            sid=sid,
            call_sid=caller.sid,
            duration="7",
            status="completed",
            date_created=format_datetime(self.house.clock()),
        )
        form = {"RecordingSid": sid, "RecordingDuration": "7"}
        self.promise(
            verb.attrib["recordingStatusCallback"],
            **self.fields(caller, caller, **form, RecordingStatus="completed"),
        )
        if self.happens(0.3):
            caller.status = "completed"
            form["Digits"] = "hangup"
        document = await self.ask(verb.attrib["action"], self.fields(caller, caller, **form))
        if caller.ended:
            raise HungUpError
        return document

    async def enqueue(self, caller: Leg, truth: Truth, verb: Element) -> str:
        since = self.house.clock()
        wait, action = verb.attrib["waitUrl"], verb.attrib["action"]
        try:
            document = ""
            while True:
                waited = int((self.house.clock() - since).total_seconds())
                queue = {
                    "QueueSid": "QU" + "0" * 32,
                    "QueueTime": str(waited),
                    "AvgQueueTime": "60",
                }
                if not document:
                    document = await self.ask(wait, self.fields(caller, caller, **queue), "wait")
                following = ""
                for step in ElementTree.fromstring(document):
                    if step.tag == "Leave":
                        form = self.fields(
                            caller, caller, QueueResult="leave", QueueTime=str(waited)
                        )
                        return await self.ask(action, form)
                    await self.moment(caller, 20 if step.tag in {"Gather", "Pause"} else 3)
                    if step.tag == "Gather" and self.happens(0.1):
                        key = self.chance.choice(["1", "1", "5", "*"])
                        form = self.fields(caller, caller, Digits=key, **queue)
                        following = await self.ask(step.attrib["action"], form, "wait")
                        # An operator may have been quicker than the key.
                        truth.pressed_callback |= key == "1" and "<Leave" in following
                        break
                document = following
        except HungUpError:
            caller.status = "completed"
            self.promise(action, **self.fields(caller, caller, QueueResult="hangup"))
            raise
        except SentError:
            self.promise(action, **self.fields(caller, caller, QueueResult="redirected"))
            raise

    async def dial(self, caller: Leg, truth: Truth, verb: Element) -> str:
        action, bridged, status = verb.attrib["action"], False, "no-answer"
        try:
            for number in self.chance.sample(list(verb), len(verb)):
                await self.moment(caller, 4)
                status = self.chance.choice(
                    ["no-answer", "busy", "failed", "completed", "completed"]
                )
                if status == "completed" and await self.accepted(caller, number):
                    bridged = True
                    break
            if bridged:
                truth.spoke_with = str(number.text)
                while self.happens(0.5):
                    await self.moment(caller, 30, leaves=0.2)
        except HungUpError:
            caller.status = "completed"
            if self.happens(0.7):
                status = "completed" if bridged else "canceled"
                form = {"DialCallStatus": status, "DialBridged": str(bridged).lower()}
                self.promise(action, **self.fields(caller, caller, **form))
            raise
        form = {"DialCallStatus": "completed" if bridged else status}
        if self.happens(0.8):
            form["DialBridged"] = str(bridged).lower()
        return await self.ask(action, self.fields(caller, caller, **form))

    async def accepted(self, caller: Leg, number: Element) -> bool:
        """A phone picks up; whether somebody takes the call."""
        if "url" not in number.attrib:
            return True
        self.switch._count += 1
        leg = Leg(f"CA{self.switch._count:031x}d", to=str(number.text), status="in-progress")
        form = self.fields(leg, caller)
        document = await self.ask(number.attrib["url"], form, "whisper")
        gather = ElementTree.fromstring(document).find("Gather")
        if gather is None or self.happens(0.3):  # its own voicemail presses no key
            return False
        document = await self.ask(gather.attrib["action"], {**form, "Digits": "1"})
        return len(ElementTree.fromstring(document)) == 0

    async def talk(self, caller: Leg, truth: Truth, verb: Element) -> str:
        """In a room of one's own, where others come and go."""
        self.talking.add(caller.sid)
        conference = verb.find("Conference")
        assert conference is not None
        name = str(conference.text)
        sid = self.switch.put("Conferences", friendly_name=name, status="in-progress")
        self.switch.put(f"Conferences/{sid}/Participants", call_sid=caller.sid, hold=False)
        if self.happens(0.5):
            await self.ask(conference.attrib["waitUrl"], self.fields(caller, caller), "hold")
        try:
            while True:
                await self.moment(caller, 10)
        finally:
            self.talking.discard(caller.sid)
            self.switch.resources["Conferences"][sid]["status"] = "completed"
