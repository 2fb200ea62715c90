"""What every door promises, and each door as the contract suite meets it.

A new door gets a class here and a line in `DOORS`, or in `SENDERS` where it sends; it has then
passed when `test_contract.py` has.
"""

from __future__ import annotations

import asyncio
import uuid
from abc import ABC, abstractmethod
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar
from unittest.mock import patch
from urllib.parse import urlencode

from sqlalchemy import select
from sqlmodel import col

from channels.base import (
    Address,
    ChannelError,
    Disposition,
    MisconfiguredError,
    Outgoing,
    OutgoingKind,
    RejectedError,
    TemporaryError,
    UncertainError,
    UnreachableError,
)
from channels.chat import xmpp, xmpp_link
from channels.chat.xmpp_door import Verdict, XmppChannel, XmppSettings
from channels.chat.xmpp_link import LinkSettings, LinkState
from channels.email import EmailChannel
from channels.email.send import Smarthost, SmarthostSettings
from channels.fake import FakeChannel
from channels.twilio import Account, AccountSettings
from router.chat_models import CHANNEL as CHAT
from router.errors import StoreUnavailableError
from router.models import Direction, Message
from router.web import hooks
from tests.channels.mail_door import connect, open_door
from tests.channels.xmpp_server import DOMAIN as XMPP_DOMAIN
from tests.channels.xmpp_server import SECRET, XmppServer
from tests.router.test_hooks import PUBLIC, SID, TOKEN, sign, text
from tests.router.web_house import house
from tests.service import soon
from tests.support import SmtpSink

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    import httpx

    from channels.base import Channel, DeliveryState, RawArrival, Receipt

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)


class Answer(Enum):
    """What whoever delivers is told."""

    TAKEN = "taken"
    LATER = "later"
    """Not now: the sender keeps it and tries again."""
    NEVER = "never"
    """It will not be taken however often it is sent."""


@dataclass
class Gate:
    """Stands before the store: lets a write through, holds it up, or refuses it."""

    waiting: int = 0
    refusing: bool = False
    _open: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._open.set()

    def hold(self) -> None:
        self._open.clear()

    def let_go(self) -> None:
        self._open.set()

    async def passed(self, refusal: type[Exception]) -> None:
        self.waiting += 1
        try:
            await self._open.wait()
        finally:
            self.waiting -= 1
        if self.refusing:
            raise refusal


class InDoor(ABC):
    """A door that takes in, open, with a store behind it that the test holds in hand."""

    name: ClassVar[str]

    def __init__(self) -> None:
        self.gate = Gate()

    @classmethod
    @asynccontextmanager
    async def opened(cls, folder: Path) -> AsyncIterator[InDoor]:
        async with AsyncExitStack() as stack:
            door = cls()
            await door.open(stack, folder)
            try:
                yield door
            finally:
                door.gate.let_go()

    @abstractmethod
    async def open(self, stack: AsyncExitStack, folder: Path) -> None:
        """Open it; what must be closed goes on the stack."""

    @abstractmethod
    async def deliver(self, key: int, words: str) -> Answer:
        """Bring something in over the wire; `key` is what makes it the same delivery."""

    @abstractmethod
    def kept(self) -> list[str]:
        """The words of everything in the store, oldest first."""

    @abstractmethod
    def hostile(self) -> list[Callable[[], Awaitable[Answer]]]:
        """Deliveries that no decent sender makes."""

    async def restart(self) -> None:  # noqa: B027 - a door without a listener has nothing to do
        """Close the door and open it again, as at a restart of the service."""


class FakeInDoor(InDoor):
    """The reference."""

    name = "fake"

    async def open(self, stack: AsyncExitStack, folder: Path) -> None:
        self._kept: dict[str, str] = {}
        self._door = FakeChannel("fake", self._receive)
        await self._door.start()
        stack.push_async_callback(self._door.stop)

    async def deliver(self, key: int, words: str) -> Answer:
        return await self._bring(str(key), words.encode())

    def kept(self) -> list[str]:
        return list(self._kept.values())

    def hostile(self) -> list[Callable[[], Awaitable[Answer]]]:
        return [
            lambda raw=raw, n=n: self._bring(f"hostile {n}", raw)  # type: ignore[misc]
            for n, raw in enumerate((b"", b"\x00" * 1000, b"\xff\xfe", b"x" * 1_000_000))
        ]

    async def restart(self) -> None:
        await self._door.stop()
        await self._door.stop()
        await self._door.start()

    async def _bring(self, key: str, raw: bytes) -> Answer:
        try:
            await self._door.deliver(key, raw, {}, NOW)
        except TemporaryError:
            return Answer.LATER
        return Answer.TAKEN

    async def _receive(self, arrival: RawArrival) -> Disposition:
        await self.gate.passed(TemporaryError)
        if arrival.external_id in self._kept:
            return Disposition.DUPLICATE
        self._kept[arrival.external_id] = arrival.raw.decode(errors="replace")
        return Disposition.ACCEPTED


class EmailInDoor(InDoor):
    """The SMTP listener."""

    name = "email"

    async def open(self, stack: AsyncExitStack, folder: Path) -> None:
        self._kept: dict[str, str] = {}
        self._door = await stack.enter_async_context(open_door(spool=folder))
        self._door.receive = self._receive

    async def deliver(self, key: int, words: str) -> Answer:
        return await self._send(
            f"From: kari@eksempel.no\r\nMessage-ID: <{key}@eksempel.no>\r\n"
            f"Subject: Hei\r\n\r\n{words}\r\n".encode()
        )

    def kept(self) -> list[str]:
        return list(self._kept.values())

    def hostile(self) -> list[Callable[[], Awaitable[Answer]]]:
        contents = (
            b"",
            b"\x00\xff\r\n",
            b"Subject: " + b"x" * 5000 + b"\r\n\r\nx\r\n",
            b"a: b\r\n" * 3000 + b"\r\nx\r\n",
            b"Content-Type: multipart/mixed; boundary=x\r\n\r\n" + b"--x\r\n" * 2000,
        )
        return [lambda content=content: self._send(content) for content in contents]  # type: ignore[misc]

    async def restart(self) -> None:
        port = self._door.server.port
        await self._door.server.stop(grace=1)
        await self._door.server.start()
        assert self._door.server.port == port or self._door.server.port

    async def _send(self, content: bytes) -> Answer:
        async with connect(self._door) as client:
            await client.greet()
            await client.begin()
            reply = await client.say(content + b".")
        return {"2": Answer.TAKEN, "4": Answer.LATER, "5": Answer.NEVER}[reply[0]]

    async def _receive(self, arrival: RawArrival) -> Disposition:
        await self.gate.passed(TemporaryError)
        if arrival.external_id in self._kept:
            return Disposition.DUPLICATE
        body = arrival.raw.rpartition(b"\r\n\r\n")[2]
        self._kept[arrival.external_id] = body.decode(errors="replace").strip()
        return Disposition.ACCEPTED


class HouseDoor(InDoor):
    """A door of the web application: its store is a real one."""

    channel: ClassVar[str]
    address: ClassVar[str] = "http://127.0.0.1:8080"

    async def open(self, stack: AsyncExitStack, folder: Path) -> None:
        self.home = await stack.enter_async_context(house(folder, self.address))
        await self.prepare()
        db = self.home.hall.db
        self._write, self._write_together = db.write, db.write_together

        async def write(job: Any, **how: Any) -> Any:
            await self.gate.passed(StoreUnavailableError)
            return await self._write(job, **how)

        async def write_together(together: Any, argument: Any, **how: Any) -> Any:
            await self.gate.passed(StoreUnavailableError)
            return await self._write_together(together, argument, **how)

        db.write, db.write_together = write, write_together  # type: ignore[method-assign,assignment]

    @abstractmethod
    async def prepare(self) -> None:
        """What must be so before the first delivery."""

    def kept(self) -> list[str]:
        with self.home.hall.db.read() as session:
            query = (
                select(col(Message.text))
                .where(col(Message.channel) == self.channel, col(Message.direction) == Direction.IN)
                .order_by(col(Message.id))
            )
            return list(session.execute(query).scalars())


class ChatInDoor(HouseDoor):
    """The chat: its first message opens an inquiry, the others go on in it."""

    name = "chat"
    channel = CHAT

    async def prepare(self) -> None:
        door = self.home.hall.settings.channels.chat.model_copy(
            update={"messages_per_minute": 1000}
        )
        channels = self.home.hall.settings.channels.model_copy(update={"chat": door})
        self.home.hall.settings = self.home.hall.settings.model_copy(update={"channels": channels})
        answer = await self.home.client.post("/chat/conversations", json={})
        self._path = f"/chat/conversations/{answer.json()['id']}/messages"

    async def deliver(self, key: int, words: str) -> Answer:
        return await self._say({"client_msg_id": str(uuid.UUID(int=key)), "text": words})

    def hostile(self) -> list[Callable[[], Awaitable[Answer]]]:
        mine = str(uuid.uuid4())
        bodies: list[Any] = [
            [],
            {},
            {"client_msg_id": "../../x", "text": "x"},
            {"client_msg_id": mine, "text": "x" * 900_000},
            {"client_msg_id": mine, "text": "\x00"},
            {"client_msg_id": [mine], "text": {"a": 1}},
            {"client_msg_id": str(uuid.uuid4()), "text": "e" + "\u0301" * 3000},
        ]
        return [lambda body=body: self._say(body) for body in bodies]  # type: ignore[misc]

    async def _say(self, body: Any) -> Answer:
        return _of(await self.home.client.post(self._path, json=body))


class SmsInDoor(HouseDoor):
    """Texts, by the signed webhook of the provider."""

    name = "sms"
    channel = "sms"
    address = PUBLIC

    async def prepare(self) -> None:
        self.home.hall.twilio = Account(AccountSettings(SID, (TOKEN,)))
        self.home.hall.channels["sms"] = FakeChannel("sms")
        self.home.hall.reception.start()

    async def deliver(self, key: int, words: str) -> Answer:
        return await self._post(text(key, Body=words))

    def hostile(self) -> list[Callable[[], Awaitable[Answer]]]:
        return [
            lambda: self._post(text(900, Body="x"), {"x-twilio-signature": "AAAA"}),
            lambda: self._post(text(901, Body="x"), {}),
            lambda: self._post({"x" * 100: "y"}),
            lambda: self._post(text(902, Body="x" * 100_000)),
        ]

    async def _post(self, form: dict[str, str], headers: dict[str, str] | None = None) -> Answer:
        given = sign(form) if headers is None else headers
        kind = {"content-type": "application/x-www-form-urlencoded"}
        return _of(
            await self.home.client.post(hooks.SMS, content=urlencode(form), headers=kind | given)
        )


@dataclass
class XmppHouse:
    """What the XMPP door meets behind it: a lease that is always ours, and a store."""

    gate: Gate = field(default_factory=Gate)
    kept: dict[str, str] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    """Who has a talk with us."""
    counted: Counter[str] = field(default_factory=Counter)

    async def hold(self, seconds: float) -> str:
        return ""

    async def let_go(self) -> None:
        pass

    async def receive(self, arrival: RawArrival) -> Disposition:
        await self.gate.passed(TemporaryError)
        if arrival.external_id in self.kept:
            return Disposition.DUPLICATE
        self.kept[arrival.external_id] = xmpp.parse(arrival.raw, arrival.envelope, "").text
        return Disposition.ACCEPTED

    async def answer(self, said: xmpp.Said) -> Verdict:
        return Verdict("item-not-found", "Nei.")

    async def knows(self, jid: str, local: str) -> bool:
        return jid in self.known

    async def fared(self, message_id: str, jid: str, state: DeliveryState, detail: str) -> None:
        pass

    async def composing(self, jid: str, local: str) -> None:
        pass

    def count(self, outcome: str) -> None:
        self.counted[outcome] += 1

    def turned(self, up: bool) -> None:
        pass


def xmpp_settings(port: int, **limits: Any) -> XmppSettings:
    return XmppSettings(
        LinkSettings("127.0.0.1", port, XMPP_DOMAIN, SECRET, "Sørum kommune"),
        {"vei": "vei"},
        **({"messages_per_minute": 1000, "domain_messages_per_minute": 1000} | limits),
    )


async def open_xmpp(
    stack: AsyncExitStack, kind: type[XmppChannel], house: XmppHouse, **limits: Any
) -> Any:
    """A server and a door that is linked to it."""
    server = XmppServer()
    await server.start()
    stack.push_async_callback(server.stop)
    channel = kind(xmpp_settings(server.port, **limits), house, lambda: NOW)
    await channel.start()
    stack.push_async_callback(channel.stop)
    await soon(lambda: channel.state is LinkState.UP, "the link")
    return server, channel


class XmppInDoor(InDoor):
    """The XMPP component."""

    name = "xmpp"

    async def open(self, stack: AsyncExitStack, folder: Path) -> None:
        self._house = XmppHouse(self.gate)
        self._server, self._channel = await open_xmpp(stack, XmppChannel, self._house)

    async def deliver(self, key: int, words: str) -> Answer:
        return await self._bring(str(key), f"<body>{words}</body>")

    def kept(self) -> list[str]:
        return list(self._house.kept.values())

    def hostile(self) -> list[Callable[[], Awaitable[Answer]]]:
        stanzas = (
            f"<body>{'x' * 200_000}</body>",
            "<body>x</body><encrypted xmlns='eu.siacs.conversations.axolotl'/>",
            f"<body>e{chr(0x301) * 3000}</body>",
            f"<body>x{'<a>' * 500}{'</a>' * 500}</body>",
            "<body>x</body><delay xmlns='urn:xmpp:delay' stamp='i går'/>",
            "<body>x</body>" + "<x xmlns='y'/>" * 5000,
        )
        attacks = [
            lambda inner=inner, n=n: self._bring(f"hostile {n}", inner)  # type: ignore[misc]
            for n, inner in enumerate(stanzas)
        ]
        return [*attacks, lambda: self._bring("elsewhere", "<body>x</body>", to="../../etc")]

    async def restart(self) -> None:
        await self._channel.stop()
        await self._channel.start()
        await soon(lambda: self._channel.state is LinkState.UP, "the link")

    async def _bring(self, id_: str, inner: str, to: str = "vei") -> Answer:
        answer = await self._server.bring(id_, inner, to)
        return {"receipt": Answer.TAKEN, "wait": Answer.LATER}.get(answer, Answer.NEVER)


def _of(answer: httpx.Response) -> Answer:
    if answer.status_code < 300:
        return Answer.TAKEN
    return Answer.LATER if answer.status_code in {429, 503} else Answer.NEVER


DOORS: tuple[type[InDoor], ...] = (FakeInDoor, EmailInDoor, ChatInDoor, SmsInDoor, XmppInDoor)


class Fault(Enum):
    """What can happen to a message on its way out, and what the door must say of it."""

    NONE = None
    LATER = TemporaryError
    """Not now; the message is not to blame for good."""
    REFUSED = RejectedError
    """This recipient, or this content, never."""
    OURS = MisconfiguredError
    """We are refused: no message is to blame."""
    NOBODY = UnreachableError
    """Nobody answers at all."""
    UNKNOWN = UncertainError
    """It was handed over, and no answer came."""


class Sender(ABC):
    """A door that sends, with a provider behind it that the test holds in hand."""

    name: ClassVar[str]
    channel: Channel

    @classmethod
    @asynccontextmanager
    async def opened(cls) -> AsyncIterator[Sender]:
        async with AsyncExitStack() as stack:
            sender = cls()
            await sender.open(stack)
            yield sender

    @abstractmethod
    async def open(self, stack: AsyncExitStack) -> None:
        """Open it; what must be closed goes on the stack."""

    @abstractmethod
    async def fail_once(self, fault: Fault) -> None:
        """Let the provider do this to the next message."""

    @abstractmethod
    def taken(self) -> int:
        """How many messages the provider has."""

    @abstractmethod
    def letter(self, number: int) -> Outgoing:
        """A message to send."""


class FakeSender(Sender):
    """The reference."""

    name = "fake"

    async def open(self, stack: AsyncExitStack) -> None:
        self.channel = self._fake = FakeChannel()

    async def fail_once(self, fault: Fault) -> None:
        error: type[ChannelError] | None = fault.value
        if error is not None:
            self._fake.fail_next(error())

    def taken(self) -> int:
        return len(self._fake.sent)

    def letter(self, number: int) -> Outgoing:
        return _letter(number, Address("fake", "kari"))


class EmailSender(Sender):
    """The smarthost."""

    name = "email"

    async def open(self, stack: AsyncExitStack) -> None:
        self._sink = await stack.enter_async_context(SmtpSink())
        settings = SmarthostSettings(port=self._sink.port, hostname="mx.sorum.example")
        self.channel = EmailChannel("mx.sorum.example", Smarthost(settings), None)
        await self.channel.start()
        stack.push_async_callback(self.channel.stop)

    async def fail_once(self, fault: Fault) -> None:
        match fault:
            case Fault.LATER:
                self._sink.fail("RCPT", "450 4.2.0 Later")
            case Fault.REFUSED:
                self._sink.fail("RCPT", "550 5.1.1 No such mailbox")
            case Fault.OURS:
                self._sink.fail("MAIL", "530 5.7.0 Authentication required")
            case Fault.NOBODY:
                self._sink.drop("CONNECT")
                self._sink.disconnect_all()
            case Fault.UNKNOWN:
                self._sink.drop("CONTENT")
            case Fault.NONE:
                pass

    def taken(self) -> int:
        return len(self._sink.messages)

    def letter(self, number: int) -> Outgoing:
        return _letter(number, Address("email", "kari@eksempel.no"))


class XmppSender(Sender):
    """The XMPP component. Its link comes up by itself, which the next message waits for."""

    name = "xmpp"

    async def open(self, stack: AsyncExitStack) -> None:
        # A refusal is tried again once a minute.
        stack.enter_context(patch.object(xmpp_link, "CONFIG_PAUSE", 0.05))
        sender, self._end = self, Fault.NONE

        class Patient(XmppChannel):
            async def send(self, outgoing: Outgoing) -> Receipt:
                awaited = {Fault.NOBODY: LinkState.DOWN, Fault.OURS: LinkState.CONFIG_ERROR}
                state = awaited.get(sender._end, LinkState.UP)
                await soon(lambda: self.state is state, state.value)
                try:
                    return await super().send(outgoing)
                finally:
                    await sender._mend()

        self._server, self.channel = await open_xmpp(stack, Patient, XmppHouse())

    async def fail_once(self, fault: Fault) -> None:
        self._end = fault
        match fault:
            case Fault.LATER:
                self._server.bounce = "wait"
            case Fault.REFUSED:
                self._server.bounce = "cancel"
            case Fault.OURS:
                self._server.refusing = True
                self._server.cut("conflict")
            case Fault.NOBODY:
                await self._server.stop()
            case Fault.UNKNOWN:
                self._server.drop = True
            case Fault.NONE:
                pass

    async def _mend(self) -> None:
        ended, self._end = self._end, Fault.NONE
        self._server.refusing = False
        if ended is Fault.NOBODY:
            await self._server.start()

    def taken(self) -> int:
        return len(self._server.taken)

    def letter(self, number: int) -> Outgoing:
        letter = _letter(number, Address("xmpp", "kari@x.test"))
        return replace(letter, sender=Address("xmpp", f"vei@{XMPP_DOMAIN}"))


def _letter(number: int, to: Address) -> Outgoing:
    return Outgoing(
        channel=to.channel,
        kind=OutgoingKind.REPLY,
        message_id=f"<{number}@sorum.example>",
        created_at=NOW,
        to=to,
        sender=Address(to.channel, "post@sorum.example"),
        subject="Svar",
        text="Hei",
    )


SENDERS: tuple[type[Sender], ...] = (FakeSender, EmailSender, XmppSender)
