"""`kill -9` under a stream of contacts, again and again: what was acknowledged must be there, once.

The senders behave as mail relays and integrators do: what was not acknowledged they deliver again,
unchanged.
"""

from __future__ import annotations

import queue
import random
import secrets
import smtplib
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

import httpx
import orjson

from tests.service import TOWN_HALL, Desk, mail, unique, wait_until
from tests.twilio_double import ACCOUNT_SID, webhook

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.integration.postfix import Postfix
    from tests.service import Received, Service, Sink

LONG = 120.0
"""Seconds for catching up after the last start."""

SETTINGS = {
    "CHANNELS__EMAIL__RECEIPTS__PER_DOMAIN_PER_HOUR": "1000000",
    "CHANNELS__EMAIL__RECEIPTS__PER_HOUR": "1000000",
}
"""What the service needs so that every mail of a run gets its receipt."""


@dataclass
class Report:
    """How a run went; every list is empty when all is well."""

    kills: int = 0
    acknowledged: int = 0
    delivered_again: int = 0
    waited: int = 0
    """Mails that a relay in front of us held when the outage ended."""
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    unprocessed: list[int] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    answered_twice: list[str] = field(default_factory=list)
    receipts_repeated: int = 0
    """Receipts that came twice, byte for byte the same; SMTP can do no better."""

    @property
    def faults(self) -> list[str]:
        return [
            *(f"lost {subject}" for subject in self.lost),
            *(f"doubled {subject}" for subject in self.doubled),
            *(f"arrival {number} unprocessed" for number in self.unprocessed),
            *(f"{sender} got no receipt" for sender in self.unanswered),
            *(f"{sender} got different receipts" for sender in self.answered_twice),
        ]


class _Sender(threading.Thread):
    """Somebody who delivers to us and does not give up."""

    def __init__(self, service: Service, number: int) -> None:
        super().__init__(name=f"sender-{number}", daemon=True)
        self.acknowledged: dict[str, str] = {}
        self.again = 0
        self.finish = threading.Event()
        self.errors: queue.SimpleQueue[Exception] = queue.SimpleQueue()
        self._service = service
        self._idle = threading.Event()

    def run(self) -> None:
        try:
            while not self.finish.is_set():
                subject = unique("Post")
                name = subject.split()[-1]
                sender = f"{name}@{name[:6]}.example"
                letter = self.write(subject, sender)
                while not self.deliver(sender, letter):
                    self._idle.wait(0.02)
                self.acknowledged[subject] = sender
        except Exception as error:  # noqa: BLE001 - told to whoever counts
            self.errors.put(error)
        finally:
            self.close()

    def write(self, subject: str, sender: str) -> bytes:
        """What is to be delivered, the same at every attempt."""
        raise NotImplementedError

    def deliver(self, sender: str, letter: bytes) -> bool:
        """One attempt; whether it was acknowledged."""
        raise NotImplementedError

    def close(self) -> None:
        """Hang up."""


class _Relay(_Sender):
    """A mail server with one connection."""

    _session: smtplib.SMTP | None = None

    def connect(self) -> smtplib.SMTP:
        """To whom it delivers."""
        return self._service.smtp()

    def write(self, subject: str, sender: str) -> bytes:
        return mail(subject, sender=sender)

    def deliver(self, sender: str, letter: bytes) -> bool:
        try:
            if self._session is None:
                self._session = self.connect()
            self._session.sendmail(sender, [TOWN_HALL], letter)
        except (OSError, smtplib.SMTPException):
            self.again += self._session is not None
            self.close()
            return False
        return True

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None


class _Client(_Relay):
    """Somebody who writes to the Postfix in front of us, a few mails a second."""

    def __init__(self, service: Service, number: int, relay: Postfix) -> None:
        super().__init__(service, number)
        self._postfix = relay

    def connect(self) -> smtplib.SMTP:
        return smtplib.SMTP("127.0.0.1", self._postfix.port, "pc.eksempel.no", timeout=30)

    def deliver(self, sender: str, letter: bytes) -> bool:
        self.finish.wait(0.05)
        return super().deliver(sender, letter)


class _Integrator(_Sender):
    """A site that hands in its forms over the API."""

    def write(self, subject: str, sender: str) -> bytes:
        return orjson.dumps({"from": {"email": sender}, "subject": subject, "text": "Ring meg."})

    def deliver(self, sender: str, letter: bytes) -> bool:
        headers = {"Idempotency-Key": sender, "Content-Type": "application/json"}
        try:
            answer = self._api.post("/api/inquiries", content=letter, headers=headers)
        except httpx.ConnectError:
            return False
        except httpx.TransportError:
            self.again += 1
            return False
        assert answer.status_code in {200, 201, 503}, answer.text
        return answer.status_code != 503

    @cached_property
    def _api(self) -> httpx.Client:
        return self._service.api()


class _Caller(_Sender):
    """A telephone that rings and is put down; its provider tries again what was not answered."""

    def write(self, subject: str, sender: str) -> bytes:
        number = f"+479{random.randrange(10**7):07d}"
        form = {"From": number, "To": "+4763869000", "AccountSid": ACCOUNT_SID}
        return urlencode(form | {"CallSid": f"CA{secrets.token_hex(16)}"}).encode()

    def deliver(self, sender: str, letter: bytes) -> bool:
        hooks = f"{self._service.url}/hooks/phone/twilio"
        form = dict(parse_qsl(letter.decode()))
        try:
            for hook, status in (("voice", "ringing"), ("status", "completed")):
                answer = webhook(f"{hooks}/{hook}", form | {"CallStatus": status})
                assert answer.status_code in {200, 503}, answer.text
                if answer.status_code == 503:
                    return False
        except httpx.ConnectError:
            return False
        except httpx.TransportError:
            self.again += 1
            return False
        self.rung.append(form["CallSid"])
        return True

    @cached_property
    def rung(self) -> list[str]:
        """The calls whose every webhook was answered."""
        return []


def crash_calls(service: Service, kills: int, lines: int = 3, seed: int = 0) -> Report:
    """Kill and restart a running service `kills` times while telephones ring, then count: each call
    once, with one inquiry, and over."""
    dice = random.Random(seed)
    crew = [_Caller(service, number) for number in range(lines)]
    report = Report(kills=kills)
    with _writing(crew, report):
        for _ in range(kills):
            _see_more(crew, dice.randint(1, 40))
            service.kill()
            service.restart()
    _settle(service)
    found: dict[str, list[str]] = {}
    for sid, state in service.read(
        "SELECT call.call_id, call.state FROM call"
        " JOIN message ON message.inquiry_id = call.inquiry_id"
        " AND message.external_id = 'twilio:' || call.call_id"
    ):
        found.setdefault(sid, []).append(state)
    rung = [sid for caller in crew for sid in caller.rung]
    report.acknowledged = len(rung)
    report.lost = [sid for sid in rung if found.get(sid, [])[:1] != ["ended"]]
    report.doubled = [sid for sid, states in found.items() if len(states) > 1]
    unfinished = "SELECT id FROM arrival WHERE state NOT IN ('processed', 'duplicate')"
    report.unprocessed = [row[0] for row in service.read(unfinished)]
    return report


def crash(service: Service, sink: Sink, kills: int, relays: int = 4, seed: int = 0) -> Report:
    """Kill and restart a running service `kills` times while contacts stream in, then count."""
    dice = random.Random(seed)
    crew: list[_Sender] = [_Relay(service, number) for number in range(relays)]
    crew.append(_Integrator(service, relays))
    service.token()
    report = Report(kills=kills)
    with _writing(crew, report) as sent:
        for _ in range(kills):
            _see_more(crew, dice.randint(1, 120))
            service.kill()
            service.restart()
    _settle(service)
    _count(report, service, sink, sent)
    return report


def outage(
    service: Service, relay: Postfix, sink: Sink, seconds: float, clients: int = 4
) -> Report:
    """Kill a running service behind a Postfix that takes mail all the time, and start it again
    after `seconds`."""
    crew = [_Client(service, number, relay) for number in range(clients)]
    service.token()
    report = Report(kills=1)
    with _writing(crew, report) as sent:
        _see_more(crew, 50)
        service.kill()
        began = time.monotonic()
        _see_more(crew, 50)
        wait_until(lambda: time.monotonic() - began >= seconds, "the outage", seconds + LONG)
        report.waited = relay.waiting
        service.restart()
        _see_more(crew, 50)
    wait_until(lambda: relay.waiting == 0, "Postfix's queue", LONG, pause=0.1)
    _settle(service)
    _count(report, service, sink, sent)
    return report


@contextmanager
def _writing(crew: Sequence[_Sender], report: Report) -> Iterator[dict[str, str]]:
    """Senders at work; what they sent is there afterwards, each subject with its sender."""
    sent: dict[str, str] = {}
    for sender in crew:
        sender.start()
    try:
        yield sent
    finally:
        for sender in crew:
            sender.finish.set()
        for sender in crew:
            sender.join(LONG)
    for sender in crew:
        sent |= sender.acknowledged
        report.delivered_again += sender.again
    report.acknowledged = len(sent)


def _see_more(crew: Sequence[_Sender], number: int) -> None:
    """Wait until so many more have been acknowledged."""

    def acknowledged() -> int:
        for sender in crew:
            if not sender.errors.empty():
                raise sender.errors.get()
        return sum(len(sender.acknowledged) for sender in crew)

    goal = acknowledged() + number
    wait_until(lambda: acknowledged() >= goal, "the stream", LONG, pause=0.0005)


def _settle(service: Service) -> None:
    """Wait until nothing is left to take in or to send."""
    waiting = (
        "SELECT (SELECT count(*) FROM arrival WHERE state = 'new')"
        " + (SELECT count(*) FROM outbox WHERE state = 'queued')"
    )
    wait_until(lambda: service.read(waiting)[0][0] == 0, "catching up", LONG, pause=0.1)


def _count(report: Report, service: Service, sink: Sink, sent: dict[str, str]) -> None:
    rows = Desk(service.api()).rows()
    seen = Counter(row["subject"] for row in rows)
    report.lost = [subject for subject in sent if not seen[subject]]
    report.doubled = [subject for subject, count in seen.items() if count > 1]
    stored = service.read(
        "SELECT subject FROM message WHERE direction = 'in' GROUP BY subject HAVING count(*) > 1"
    )
    report.doubled += [row[0] for row in stored]
    unfinished = "SELECT id FROM arrival WHERE state NOT IN ('processed', 'duplicate')"
    report.unprocessed = [row[0] for row in service.read(unfinished)]
    receipts: dict[str, list[Received]] = {}
    for message in sink.messages:
        receipts.setdefault(message.sunk.recipients[0], []).append(message)
    for sender in sent.values():
        copies = receipts.get(sender, [])
        if not copies:
            report.unanswered.append(sender)
        if len({(copy["Message-ID"], copy.sunk.raw) for copy in copies}) > 1:
            report.answered_twice.append(sender)
        report.receipts_repeated += max(len(copies) - 1, 0)
