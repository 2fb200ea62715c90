"""People who call, and colleagues and operators who answer, one step at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

import orjson

from router import call_desk
from tests import twiml_grammar
from tests.phone_house import CALLER, PHONES, SWITCHBOARD, sids

if TYPE_CHECKING:
    from tests.phone_house import PhoneHouse


class Caller:
    """Somebody who calls, and hears what we answer."""

    _sids = sids()

    def __init__(
        self, home: PhoneHouse, to: str = SWITCHBOARD, number: str = CALLER, **form: str
    ) -> None:
        self.home, self.to, self.number, self.form = home, to, number, form
        self.sid = next(self._sids)
        self.document = ""

    async def ring(self) -> Caller:
        self.home.double.put("Calls", sid=self.sid, status="ringing")
        await self.tell("voice", CallStatus="ringing")
        return self

    async def tell(self, step: str, context: str = "call", **form: str) -> str:
        form = {"From": self.number, **self.form, **form}
        self.document = await self.home.told(step, self.sid, to=self.to, **form)
        twiml_grammar.check(self.document, context)
        return self.document

    @property
    def verbs(self) -> list[str]:
        return [verb.tag for verb in ElementTree.fromstring(self.document)]

    @property
    def heard(self) -> str:
        return " ".join(say.text for say in ElementTree.fromstring(self.document).iter("Say"))

    def address(self, name: str = "action") -> str:
        """The first address of this kind in what was answered last."""
        for element in ElementTree.fromstring(self.document).iter():
            if name in element.attrib:
                return element.attrib[name]
        raise AssertionError(f"no {name} in {self.document}")

    @property
    def rung(self) -> list[str]:
        return [n.text for n in ElementTree.fromstring(self.document).iter("Number")]

    async def dialled(self, status: str, **form: str) -> str:
        return await self.tell(self.address(), DialCallStatus=status, **form)

    async def press(self, key: str) -> str:
        return await self.tell(self.address(), Digits=key)

    async def wait(self, **form: str) -> str:
        return await self.tell(self.waiting, "wait", **form)

    async def queue(self) -> Caller:
        """Ring, and remember the addresses of the queue."""
        await self.ring()
        self.waiting, self.left = self.address("waitUrl"), self.address()
        return self

    async def leave(self, result: str = "leave", **form: str) -> str:
        return await self.tell(self.left, QueueResult=result, **form)

    async def hang_up(self) -> None:
        await self.tell("status", CallStatus="completed")

    @property
    def call(self):
        return self.home.one("SELECT * FROM call WHERE call_id = :sid", sid=self.sid)

    @property
    def inquiry(self):
        return self.home.one("SELECT * FROM inquiry WHERE id = :id", id=self.call.inquiry_id)

    @property
    def reasons(self) -> list[str]:
        """Of each step, in order."""
        query = "SELECT data FROM event WHERE kind = 'call_step' ORDER BY id"
        found = [orjson.loads(row[0]) for row in self.home.rows(query)]
        return [f"{e['step']}: {e['reason']}" for e in found if e["call"] == self.call.id]


async def accept(home: PhoneHouse, caller: Caller, user: str) -> str:
    """A colleague's phone picks up, and a key is pressed."""
    whisper = next(
        number.attrib["url"]
        for number in ElementTree.fromstring(caller.document).iter("Number")
        if number.text == PHONES[user]
    )
    form = {"From": CALLER, "ParentCallSid": caller.sid, "Direction": "outbound-dial"}
    leg = "CA" + "f" * 32
    document = await home.told(whisper, leg, to=PHONES[user], **form)
    twiml_grammar.check(document, "whisper")
    [gather] = ElementTree.fromstring(document).iter("Gather")
    return await home.told(gather.attrib["action"], leg, to=PHONES[user], Digits="1", **form)


async def operator_leg(home: PhoneHouse, status: str, number: int = -1, **form: str) -> None:
    """What has become of the phone that was rung last, or of another."""
    asked = [a for a in home.double.asked if a.resource.endswith("/Participants")][number]
    await home.told(
        asked["StatusCallback"],
        "CA" + "e" * 32,
        to=asked["To"],
        CallStatus=status,
        Direction="outbound-api",
        **form,
    )


async def taken(home: PhoneHouse, caller: Caller, username: str = "siv") -> None:
    """An operator takes a waiting call and picks up the phone."""
    actor = await home.actor(username)
    number = caller.call.id
    await home.write(lambda s: call_desk.take(s, actor, number, home.hall.plan, home.clock()))
    await sent_on(home, caller)
    await home.settle()
    await operator_leg(home, "in-progress")


async def sent_on(home: PhoneHouse, caller: Caller) -> str:
    """The caller's call goes where we have sent it; what is heard there."""
    await home.settle()
    [redirect] = [a for a in home.double.asked if a.resource == f"Calls/{caller.sid}"][-1:]
    return await caller.tell(redirect["Url"])
