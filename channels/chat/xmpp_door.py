"""The XMPP door: an external component of the municipality's own server.

Whoever writes to the address of a department begins or goes on with a chat. Who works here writes
to the address of an inquiry, and answers it. A message is receipted only after it is kept, so that
a sender who heard nothing sends it again, and the same one twice is one.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from channels.base import (
    DeliveryState,
    MisconfiguredError,
    Receipt,
    RejectedError,
    TemporaryError,
    UncertainError,
    UnreachableError,
)
from channels.chat import xmpp
from channels.chat.xmpp_link import Lease, Link, LinkSettings, LinkState
from channels.chat.xmpp_words import condition_in_words, words

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from datetime import datetime
    from xml.etree import ElementTree as ET

    from channels.base import ChannelError, Disposition, Outgoing, RawArrival

log = structlog.get_logger(__name__)

IN_FLIGHT = 200
"""Messages that are being kept at the same time; who comes then is told to come again."""
STATES_IN_FLIGHT = 20
"""Signs that somebody is writing, which are worth nothing a moment later."""
SENDERS = 10_000
"""Senders whose pace is remembered."""
STAFF_PACE = 3
"""Who works here has several talks at a time, and may write so many times as much."""
ERRORS_PER_MINUTE = 60
"""To one address. A program that answers errors with messages would go on for ever."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of an answer from somebody who works here."""

    condition: str = ""
    """An error of RFC 6120 §8.3.3; empty when it was taken."""
    text: str = ""
    """To be said to them, as an error or as a message."""
    language: str = "nb"


class Office(Lease, Protocol):
    """What the hall does with what comes in."""

    async def receive(self, arrival: RawArrival) -> Disposition:
        """Journal a message. Raises `TemporaryError` when it could not be kept."""

    async def answer(self, said: xmpp.Said) -> Verdict:
        """Take what somebody wrote to the address of an inquiry. Raises `TemporaryError`."""

    async def knows(self, jid: str, local: str) -> bool:
        """Whether somebody has a talk with us at this address of ours."""

    async def fared(self, message_id: str, jid: str, state: DeliveryState, detail: str) -> None:
        """How far a message of ours has come."""

    async def composing(self, jid: str, local: str) -> None:
        """Somebody is writing to this address of ours."""

    def count(self, outcome: str) -> None:
        """For the figures."""

    def turned(self, up: bool) -> None:
        """The stream is up, or has gone down."""


@dataclass(frozen=True, slots=True)
class XmppSettings:
    """The component, its addresses and its limits."""

    link: LinkSettings
    departments: Mapping[str, str]
    """Local part -> slug of the department that it belongs to."""
    messages_per_minute: int = 20
    """From one address."""
    domain_messages_per_minute: int = 200
    """From all addresses of one domain."""
    domain_newcomers_per_hour: int = 60
    """Addresses of one domain that begin to write to us."""
    own_domains: frozenset[str] = frozenset()
    """Domains that these two do not hold."""


class Pace:
    """Token buckets, bounded in number: `tries` at once, filling up again over `seconds`."""

    def __init__(self, tries: int, seconds: float, clock: Callable[[], float] = monotonic) -> None:
        self._tries = tries
        self._seconds = seconds
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, key: str) -> bool:
        """Whether there is a try left; uses it."""
        now = self._clock()
        left, since = self._buckets.get(key, (float(self._tries), now))
        left = min(self._tries, left + (now - since) * self._tries / self._seconds)
        allowed = left >= 1
        self._buckets[key] = (left - allowed, now)
        self._buckets.move_to_end(key)
        while len(self._buckets) > SENDERS:
            self._buckets.popitem(last=False)
        return allowed


class XmppChannel:
    """`Channel` by XMPP. A server that is away keeps nothing from starting: the link comes up when
    it can."""

    name = xmpp.CHANNEL
    once_only = False

    def __init__(
        self, settings: XmppSettings, office: Office, clock: Callable[[], datetime]
    ) -> None:
        self._settings = settings
        self._domain = settings.link.domain
        self._office = office
        self._clock = clock
        self._link = Link(settings.link, office, self._hear, self._meet, office.turned)
        self._pace = Pace(settings.messages_per_minute, 60)
        self._staff_pace = Pace(settings.messages_per_minute * STAFF_PACE, 60)
        self._domain_pace = Pace(settings.domain_messages_per_minute, 60)
        self._newcomers = Pace(settings.domain_newcomers_per_hour, 3600)
        self._come: OrderedDict[str, None] = OrderedDict()
        """Addresses that have begun to write to us."""
        self._typing = Pace(1, 1.0)
        self._errors = Pace(ERRORS_PER_MINUTE, 60)
        self._returned: dict[str, asyncio.Future[xmpp.Returned]] = {}
        self._taking: set[asyncio.Task[None]] = set()
        self._noting: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def start(self) -> None:
        """Begin to connect; never fails, see `health`."""
        self._stopping = False
        self._link.start()

    async def stop(self) -> None:
        """Let what is being taken in finish, then close the stream."""
        self._stopping = True
        if self._taking or self._noting:
            await asyncio.wait(self._taking | self._noting, timeout=5)
        await self._link.stop()

    @property
    def elsewhere(self) -> bool:
        """Whether another service has the link, or may have it."""
        return not self._link.leased

    @property
    def state(self) -> LinkState:
        """How the stream is."""
        return self._link.state

    def health(self) -> str:
        """Empty when well, else why the stream is not up."""
        if self._link.state in {LinkState.UP, LinkState.ELSEWHERE}:
            return ""
        where = f"{self._settings.link.host}:{self._settings.link.port}"
        return f"XMPP: not connected to {where}: {self._link.detail or 'not yet'}."

    def note(self) -> str:
        """Who has the stream, when all is well."""
        if self._link.state is LinkState.ELSEWHERE:
            return f"the link is held by {self._link.holder}"
        return "connected"

    async def send(self, outgoing: Outgoing) -> Receipt:
        """Hand a message to the server; returns when that has dealt with it. Raises a
        `ChannelError`, `UncertainError` when the stream broke before it could say so."""
        self._require_link()
        jid, sender = xmpp.bare_jid(outgoing.to.value), outgoing.sender.value
        if not jid or xmpp.domain_of(jid) == self._domain:
            raise RejectedError("Adressen er ikke en XMPP-adresse utenfor huset.")
        # The server closes the stream on a sender who is not ours.
        if xmpp.domain_of(sender) != self._domain or not xmpp.bare_jid(sender):
            raise RejectedError("Avsenderen har ikke en XMPP-adresse hos oss.")
        id_ = stanza_id(outgoing.message_id)
        returned = self._returned[id_] = asyncio.get_running_loop().create_future()
        try:
            self._link.send(xmpp.message(jid, sender, id_, outgoing.text, outgoing.language))
            answered = await self._link.ping()
        except ConnectionError:
            raise UncertainError(
                "Forbindelsen til XMPP-serveren ble brutt mens meldingen ble sendt."
            ) from None
        finally:
            del self._returned[id_]
        if returned.done():
            raise _error_of(returned.result())
        if not answered:
            self._link.drop()
            raise UncertainError("XMPP-serveren svarte ikke mens meldingen ble sendt.")
        return Receipt(id_, "Tatt imot av XMPP-serveren.")

    def say(self, to: str, local: str, text: str, language: str = "nb") -> None:
        """Say something at once that is worth nothing later: it is not kept, and may be lost."""
        self._link.send(xmpp.message(to, self._address(local), uuid.uuid4().hex, text, language))

    def composing(self, jid: str, local: str) -> None:
        """Show somebody that one of ours is writing."""
        self._link.send(xmpp.composing(jid, self._address(local)))

    def _require_link(self) -> None:
        if self._link.state is LinkState.CONFIG_ERROR:
            raise MisconfiguredError("XMPP-serveren avviser oss; oppsettet må rettes.")
        if not self._link.up:
            raise UnreachableError("Det er ingen forbindelse med XMPP-serveren.")

    def _address(self, local: str) -> str:
        return f"{local}@{self._domain}" if local else self._domain

    def _hear(self, stanza: ET.Element) -> None:
        heard = xmpp.read(stanza, self._domain)
        match heard:
            case xmpp.Said():
                self._take(heard)
            case xmpp.Unwanted():
                self._refuse(heard, heard.condition, heard.word)
            case xmpp.Delivered():
                self._note_fate(heard.id, heard.jid, DeliveryState.DELIVERED, "")
            case xmpp.Returned():
                waiting = self._returned.get(heard.id)
                if waiting is not None:
                    if not waiting.done():
                        waiting.set_result(heard)
                else:
                    why = condition_in_words(heard.condition)
                    self._note_fate(heard.id, heard.jid, DeliveryState.FAILED, why)
            case xmpp.Composing():
                known = heard.local in self._settings.departments or xmpp.case_of(heard.local)
                free = len(self._noting) < STATES_IN_FLIGHT
                if known and free and self._typing.allows(heard.jid):
                    self._spawn(self._noting, self._office.composing(heard.jid, heard.local))
            case None:
                self._office.count("ignored")

    def _take(self, said: xmpp.Said) -> None:
        to_case = bool(xmpp.case_of(said.local))
        department = self._settings.departments.get(said.local, "")
        if not to_case and not department:
            self._refuse(said, "item-not-found", "unknown")
        elif not (self._staff_pace if to_case else self._pace).allows(said.jid):
            self._refuse(said, "resource-constraint", "too_fast")
        elif not self._domain_allows(said.jid):
            self._refuse(said, "policy-violation", "domain_too_fast")
        elif self._stopping or len(self._taking) >= IN_FLIGHT:
            self._refuse(said, "resource-constraint", "busy")
        elif to_case:
            self._spawn(self._taking, self._answer(said))
        else:
            self._spawn(self._taking, self._receive(said, department))

    def _domain_allows(self, jid: str) -> bool:
        """Whether all addresses of a domain together may say one more: anybody who runs a server
        has as many as they like."""
        domain = xmpp.domain_of(jid)
        return domain in self._settings.own_domains or self._domain_pace.allows(domain)

    async def _may_come(self, said: xmpp.Said) -> bool:
        """Whether somebody has written to us before, or their domain may send one more who has
        not."""
        domain = xmpp.domain_of(said.jid)
        if domain in self._settings.own_domains:
            return True
        # The store is asked only where there is no room: what somebody says first and what they
        # say next then go in in that order.
        has_room = said.jid in self._come or self._newcomers.allows(domain)
        if not has_room and not await self._office.knows(said.jid, said.local):
            return False
        self._come[said.jid] = None
        self._come.move_to_end(said.jid)
        while len(self._come) > SENDERS:
            self._come.popitem(last=False)
        return True

    async def _receive(self, said: xmpp.Said, department: str) -> None:
        try:
            if not await self._may_come(said):
                self._refuse(said, "policy-violation", "domain_full")
                return
            taken = await self._office.receive(xmpp.arrival(said, department, self._clock()))
        except TemporaryError:
            self._refuse(said, "resource-constraint", "busy")
            return
        self._acknowledge(said)
        self._office.count(taken.value)

    async def _answer(self, said: xmpp.Said) -> None:
        try:
            verdict = await self._office.answer(said)
        except TemporaryError:
            self._refuse(said, "resource-constraint", "busy")
            return
        if verdict.condition:
            self._error(said, verdict.condition, verdict.text, verdict.language)
            return
        self._acknowledge(said)
        self._office.count("answered")
        if verdict.text:
            self.say(said.sender, said.local, verdict.text, verdict.language)

    def _acknowledge(self, said: xmpp.Said) -> None:
        if said.wants_receipt:
            self._link.send(xmpp.receipt(said.sender, self._address(said.local), said.id))

    def _refuse(self, said: xmpp.Said | xmpp.Unwanted, condition: str, word: str) -> None:
        self._error(said, condition, words(word, said.language), said.language)

    def _error(
        self, said: xmpp.Said | xmpp.Unwanted, condition: str, text: str, language: str
    ) -> None:
        self._office.count(condition)
        if not self._errors.allows(said.jid):
            return
        # A wrong sender closes the stream: what was written to may be no address at all.
        sender = self._address(said.local if xmpp.bare_jid(self._address(said.local)) else "")
        self._link.send(xmpp.error(said.sender, sender, said.id, condition, text, language or "nb"))

    def _note_fate(self, id_: str, jid: str, state: DeliveryState, detail: str) -> None:
        if len(self._noting) < IN_FLIGHT:
            self._spawn(self._noting, self._office.fared(message_id(id_), jid, state, detail))

    def _meet(self, stanza: ET.Element) -> None:
        """Presence: addresses of ours that exist are there, for whoever asks."""
        jid = xmpp.bare_jid(stanza.get("from", ""))
        local = xmpp.bare_jid(stanza.get("to", "")).removesuffix(f"@{self._domain}")
        known = local in self._settings.departments or xmpp.case_of(local)
        if not jid or xmpp.domain_of(jid) == self._domain:
            return
        kind = stanza.get("type", "")
        sender = self._address(local) if local and "@" not in local else self._domain
        if kind == "subscribe":
            self._link.send(xmpp.presence(jid, sender, "subscribed" if known else "unsubscribed"))
        elif kind == "unsubscribe":
            self._link.send(xmpp.presence(jid, sender, "unsubscribed"))
        if known and kind in {"subscribe", "probe"}:
            self._link.send(xmpp.presence(jid, sender))

    def _spawn(self, tasks: set[asyncio.Task[None]], job: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(_told(job))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def _told(job: Coroutine[Any, Any, None]) -> None:
    """Do something of which nobody waits for the end; what is wrong with it is logged."""
    try:
        await job
    except Exception:
        log.exception("xmpp.stanza_failed")


def stanza_id(message_id: str) -> str:
    """The id of the stanza that a message of ours goes as."""
    return message_id.strip("<>")


def message_id(stanza: str) -> str:
    """The message that went as the stanza with this id."""
    return f"<{stanza}>"


def _error_of(returned: xmpp.Returned) -> ChannelError:
    why = condition_in_words(returned.condition)
    return TemporaryError(why) if returned.temporary else RejectedError(why)
