"""Telephones without a provider, for development and demonstration: people who text and call, by
webhooks that are signed as Twilio signs them, and a stand-in for Twilio itself.

The stand-in runs beside the service (`serve --phone`) at `twilio.api_url`, so that operators can
take the calls and see their texts delivered. It knows what the desk asks for, and no more.
"""

from __future__ import annotations

import http.client
import io
import math
import secrets
import threading
import time
import wave
from array import array
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit
from xml.etree import ElementTree

import orjson

from router.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from router.settings import Settings

LOCAL = frozenset({"127.0.0.1", "localhost"})

TELEPHONES = {
    "SENTRALBORD_CHANNELS__PHONE__ENABLED": "true",
    "SENTRALBORD_CHANNELS__PHONE__WAIT_MINUTES": "0.5",
    "SENTRALBORD_CHANNELS__PHONE__PEOPLE__OPERATOR__NAME": "Sentralbordet",
    "SENTRALBORD_CHANNELS__PHONE__PEOPLE__OPERATOR__PHONE": "+4763869300",
    "SENTRALBORD_CHANNELS__PHONE__PEOPLE__OPERATOR__DEPARTMENT": "servicetorg",
    "SENTRALBORD_CHANNELS__SMS__ENABLED": "true",
    "SENTRALBORD_TWILIO__ACCOUNT_SID": f"AC{0:032x}",
    "SENTRALBORD_TWILIO__AUTH_TOKEN": "development",
    "SENTRALBORD_TWILIO__API_URL": "http://127.0.0.1:8091",
}
"""Variables of a service with telephones of its own; those of the environment go before them."""

CALLS = "/demo/calls"
"""Where the stand-in is asked to have somebody call."""

PATIENCE = 60.0
"""Seconds that somebody stays on the line; in the queue, `WAIT_MINUTES` ends their waiting."""
TALK = 20.0
"""Seconds that a talk lasts."""
RINGS = 3.0
"""Seconds until a phone that rings is answered, or is not."""
SPEAKS = 3
"""Seconds of a message."""
STEPS = 40
"""Documents that one call gets at the most."""
_POLL = 0.2
_BETWEEN = 4.0
"""Seconds between two announcements to somebody who waits."""


class _HungUpError(Exception):
    """The call is over."""


class Exchange:
    """Everybody who calls or texts, and the telephones in the house."""

    def __init__(self, settings: Settings, has_api: bool = False) -> None:
        self.has_api = has_api
        """Whether the stand-in answers for what is left with the provider."""
        self._settings = settings
        self.account = settings.twilio.account_sid
        self._token = settings.twilio.auth_tokens[0]
        self.callers: dict[str, Caller] = {}
        self.phones: dict[str, Phone] = {}
        self.sounds: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._numbers = iter(range(1, 10_000_000))

    def text(self, sender: str, to: str, body: str) -> None:
        """Somebody texts us."""
        sid = self.sid("SM")
        form = {"MessageSid": sid, "SmsSid": sid, "SmsMessageSid": sid}
        form |= {"From": sender, "To": to, "Body": body, "NumMedia": "0", "NumSegments": "1"}
        self.post(f"{self._settings.public_url}/hooks/sms/twilio", form)

    def call(self, number: str, line: str, does: str) -> None:
        """Somebody calls us, in a thread of their own."""
        caller = Caller(self, self.sid("CA"), number, line, does)
        self.callers[caller.sid] = caller
        self.begin(caller.run)

    def deliver(self, sid: str, message: Mapping[str, str]) -> None:
        """A text of ours on its way to somebody's telephone."""
        form = {"MessageSid": sid, "SmsSid": sid, "To": message["To"], "From": message["From"]}
        for status in ("sent", "delivered"):
            time.sleep(1)
            self.post(message["StatusCallback"], form | {"MessageStatus": status})

    def begin(self, job: Callable[[], None]) -> None:
        """Do something beside everything else."""
        thread = threading.Thread(target=job, daemon=True)
        self._threads.append(thread)
        thread.start()

    def wait(self) -> None:
        """Until everybody has hung up."""
        while self._threads:
            self._threads.pop().join()

    @property
    def talking(self) -> int:
        """How many calls are not over."""
        return sum(not caller.over.is_set() for caller in self.callers.values())

    def sid(self, kind: str) -> str:
        """An id as Twilio makes them."""
        with self._lock:
            return f"{kind}{secrets.token_hex(12)}{next(self._numbers):08x}"

    def post(self, url: str, form: Mapping[str, str]) -> str:
        """A webhook, signed as Twilio signs it; what is answered. Raises `OSError` when nobody
        is there, `SettingsError` when it is refused."""
        from twilio.request_validator import RequestValidator

        form = {"AccountSid": self.account, "ApiVersion": "2010-04-01", **form}
        web = self._settings.web
        path = url.removeprefix(self._settings.public_url)
        connection = http.client.HTTPConnection(web.host, web.port, timeout=20)
        with closing(connection):
            connection.request(
                "POST",
                path,
                urlencode(form),
                {
                    "Content-Type": "application/x-www-form-urlencoded; charset=UTF-8",
                    "X-Twilio-Signature": RequestValidator(self._token).compute_signature(
                        url, form
                    ),
                },
            )
            answer = connection.getresponse()
            body = answer.read().decode()
        if answer.status >= 400:
            door = urlsplit(url).path
            raise SettingsError(f"The service answered {answer.status} at {door}.")
        return body


@dataclass
class Caller:
    """Somebody who calls, and does what the answers ask for."""

    exchange: Exchange
    sid: str
    number: str
    line: str
    does: str
    sent_to: str = ""
    """Where the service has had the call sent."""
    hung_up: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    room: str = ""
    """The conference that the caller is in."""
    _until: float = 0.0

    def run(self) -> None:
        """From the first ring to the end."""
        self._until = time.monotonic() + PATIENCE
        try:
            document = self._tell(f"{self._hooks}/voice", CallStatus="ringing")
            for _ in range(STEPS):
                following = self._follow(document)
                if not following:
                    break
                document = following
        except (_HungUpError, OSError, SettingsError, ElementTree.ParseError):
            pass
        finally:
            self.room = ""
            self._end()
            self.over.set()

    @property
    def _hooks(self) -> str:
        return f"{self.exchange._settings.public_url}/hooks/phone/twilio"

    def _end(self) -> None:
        try:
            self._tell(f"{self._hooks}/status", CallStatus="completed", CallDuration="20")
        except (OSError, SettingsError):
            return

    def _tell(self, url: str, **form: str) -> str:
        fields = {"CallSid": self.sid, "From": self.number, "To": self.line}
        fields |= {"Direction": "inbound", "CallStatus": "in-progress"}
        return self.exchange.post(url, fields | form)

    def _pause(self, seconds: float) -> None:
        """Let time pass. Raises `_HungUpError` when it is over, for whatever reason."""
        end = time.monotonic() + seconds
        while not self.sent_to:
            if self.hung_up.wait(_POLL) or time.monotonic() > self._until:
                raise _HungUpError
            if time.monotonic() >= end:
                return

    def _follow(self, document: str) -> str:
        """Do what a document says; the next one, empty at the end."""
        for verb in ElementTree.fromstring(document):  # noqa: S314 - of our own service
            self._pause(0)
            if self.sent_to:
                return self._sent()
            act = getattr(self, f"_{verb.tag.lower()}", None)
            following = act(verb) if act is not None else ""
            if following or verb.tag == "Hangup":
                return str(following)
        return ""

    def _sent(self) -> str:
        """Ask for where the service has sent the call."""
        url, self.sent_to = self.sent_to, ""
        return self._tell(url)

    def _redirect(self, verb: ElementTree.Element) -> str:
        return self._tell(verb.text or "")

    def _gather(self, verb: ElementTree.Element) -> str:
        said = [say.text or "" for say in verb.iter("Say")]
        key = next((str(n) for n, s in enumerate(self._choices(said), 1) if self._wants(s)), "")
        self._pause(1)
        return "" if self.sent_to else self._tell(verb.attrib["action"], Digits=key)

    @staticmethod
    def _choices(said: list[str]) -> list[str]:
        return [words for words in said if words.startswith("Tast ")]

    def _wants(self, choice: str) -> bool:
        if self.does == "callback":
            return "ringer deg opp" in choice
        return "beskjed" in choice

    def _enqueue(self, verb: ElementTree.Element) -> str:
        """Wait in the queue until we are fetched, or have had enough."""
        action, began = verb.attrib["action"], time.monotonic()
        asks = self.does == "callback"
        while True:
            waited = str(round(time.monotonic() - began))
            document = self._tell(
                verb.attrib["waitUrl"], QueuePosition="1", QueueTime=waited, CurrentQueueSize="1"
            )
            if "<Leave" in document:
                return self._tell(action, QueueResult="leave", QueueTime=waited)
            try:
                self._pause(_BETWEEN)
            except _HungUpError:
                self._tell(action, QueueResult="hangup", QueueTime=waited, CallStatus="completed")
                raise
            if self.sent_to:
                self._tell(action, QueueResult="redirected", QueueTime=waited)
                return self._sent()
            if asks:
                asks = False
                document = self._tell(verb.attrib["waitUrl"], Digits="1", QueueTime=waited)
                if "<Leave" in document:
                    return self._tell(action, QueueResult="leave", QueueTime=waited)

    def _dial(self, verb: ElementTree.Element) -> str:
        conference = verb.find("Conference")
        if conference is not None:
            return self._talk(verb, conference.text or "")
        self._pause(RINGS)
        for phone in verb.iter("Number"):
            if self.does == "talk" and self._picks_up(phone):
                self._until = time.monotonic() + TALK
                self._pause(TALK / 2)
                return self._tell(
                    verb.attrib["action"], DialCallStatus="completed", DialBridged="true"
                )
        return self._tell(verb.attrib["action"], DialCallStatus="no-answer", DialBridged="false")

    def _picks_up(self, phone: ElementTree.Element) -> bool:
        """A colleague answers, and presses the key that takes the call."""
        leg = {"CallSid": self.exchange.sid("CA"), "ParentCallSid": self.sid}
        leg |= {"From": self.number, "To": phone.text or "", "Direction": "outbound-dial"}
        leg |= {"CallStatus": "in-progress"}
        if "url" not in phone.attrib:
            return True  # outside the house nobody is asked
        document = self.exchange.post(phone.attrib["url"], leg)
        asked = ElementTree.fromstring(document).find("Gather")  # noqa: S314
        if asked is None:
            return False
        taken = self.exchange.post(asked.attrib["action"], leg | {"Digits": "1"})
        return "<Hangup" not in taken

    def _talk(self, verb: ElementTree.Element, room: str) -> str:
        self.room = room
        self._until = time.monotonic() + TALK + PATIENCE
        began = time.monotonic()
        while time.monotonic() - began < TALK and not self.sent_to:
            self._pause(1)
        self.room = ""
        return self._sent() if self.sent_to else self._tell(verb.attrib["action"])

    def _record(self, verb: ElementTree.Element) -> str:
        self._until = max(self._until, time.monotonic() + 3 * SPEAKS)
        if self.does in {"wait", "talk"} or not self.exchange.has_api:
            raise _HungUpError  # nothing to say to a machine
        self._pause(SPEAKS)
        sid = self.exchange.sid("RE")
        self.exchange.sounds[sid] = melody(SPEAKS)
        told = {"RecordingSid": sid, "RecordingDuration": str(SPEAKS)}
        told["RecordingUrl"] = f"https://api.twilio.com/Recordings/{sid}"
        callback = verb.attrib.get("recordingStatusCallback")
        if callback:
            self._tell(callback, RecordingStatus="completed", **told)
        return self._tell(verb.attrib["action"], Digits="#", **told)


@dataclass
class Phone:
    """A telephone in the house that rings for an operator or a colleague."""

    exchange: Exchange
    sid: str
    number: str
    room: str
    status_url: str
    gone: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Ring, be answered, and talk until the caller is gone or we are told to hang up."""
        try:
            self._tell("ringing", 0)
            if not self.gone.wait(RINGS / 2):
                self._tell("in-progress", 1)
            while self._there and not self.gone.wait(_POLL):
                pass
            self._tell("completed", 2)
        except (OSError, SettingsError):
            return

    @property
    def _there(self) -> bool:
        return any(caller.room == self.room for caller in self.exchange.callers.values())

    def _tell(self, status: str, number: int) -> None:
        form = {"CallSid": self.sid, "To": self.number, "CallStatus": status}
        form |= {"SequenceNumber": str(number), "CallbackSource": "call-progress-events"}
        self.exchange.post(self.status_url, form | {"Direction": "outbound-api", "From": ""})


def stand_in_address(settings: Settings) -> tuple[str, int] | None:
    """Where the stand-in listens: at `twilio.api_url` where that is this machine; None else."""
    parts = urlsplit(settings.twilio.api_url)
    if parts.scheme != "http" or parts.hostname not in LOCAL or not parts.port:
        return None
    return parts.hostname or "", parts.port


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that is gone is nobody's concern."""


@contextmanager
def telephones(settings: Settings) -> Iterator[None]:
    """The stand-in, while inside: answers as Twilio's API would, and has people call.

    Raises `SettingsError` when it cannot listen.
    """
    exchange, address = Exchange(settings, has_api=True), stand_in_address(settings)
    if address is None:
        raise SettingsError("The stand-in needs a twilio.api_url like http://127.0.0.1:8091.")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            form = dict(parse_qsl(self.rfile.read(length).decode(), keep_blank_values=True))
            if self.path == CALLS and self.command == "POST":
                exchange.call(form["number"], form["line"], form["does"])
                status, kind, body = 202, "application/json", b"{}"
            else:
                resource = urlsplit(self.path).path.partition(f"/{exchange.account}/")[2]
                status, kind, body = _answer(exchange, self.command, resource, form)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_DELETE = _serve  # noqa: N815 - the library's names

        def log_message(self, *_: object) -> None:
            """Say nothing: the demonstration has a progress bar."""

    try:
        server = _Server(address, Handler)
    except OSError as error:
        raise SettingsError(
            f"The stand-in for Twilio cannot listen on {address[0]}:{address[1]}: "
            f"{error.strerror}. Set SENTRALBORD_TWILIO__API_URL to another address of this machine."
        ) from error
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _answer(
    exchange: Exchange, method: str, resource: str, form: Mapping[str, str]
) -> tuple[int, str, bytes]:
    parts = resource.removesuffix(".json").split("/")
    sid = parts[1].removesuffix(".wav") if len(parts) > 1 else ""
    found: dict[str, Any] | None = None
    if parts[0] == "Calls" and sid:
        found = _change_call(exchange, sid, form)
    elif parts[0] == "Conferences" and parts[-1] == "Participants" and method == "POST":
        phone = Phone(exchange, exchange.sid("CA"), form["To"], sid, form["StatusCallback"])
        exchange.phones[phone.sid] = phone
        exchange.begin(phone.run)
        found = {"call_sid": phone.sid, "status": "queued"}
    elif parts[0] == "Conferences" and len(parts) > 2:
        found = {"call_sid": parts[-1]}  # hold and resume: nothing to hear
    elif parts[0] == "Conferences":
        found = {"conferences": [{"sid": f"CF{0:032x}", "status": "in-progress"}], **_PAGE}
    elif parts[0] == "Recordings" and method == "DELETE":
        exchange.sounds.pop(sid, None)
        return 204, "application/json", b""
    elif parts[0] == "Recordings" and sid in exchange.sounds:
        return 200, "audio/x-wav", exchange.sounds[sid]
    elif parts[0] == "Messages" and method == "POST":
        message = exchange.sid("SM")
        exchange.begin(partial(exchange.deliver, message, form))
        found = {"sid": message, "status": "queued"}
    elif method == "GET" and len(parts) == 1:
        found = {_LISTS.get(parts[0], "items"): [], **_PAGE}
    if found is None:
        return 404, "application/json", orjson.dumps({"code": 20404, "message": "not found"})
    return 200, "application/json", orjson.dumps(found)


_LISTS = {
    "Calls": "calls",
    "Messages": "messages",
    "Recordings": "recordings",
    "IncomingPhoneNumbers": "incoming_phone_numbers",
}
_PAGE = {"page": 0, "page_size": 50, "next_page_uri": None, "uri": ""}


def _change_call(exchange: Exchange, sid: str, form: Mapping[str, str]) -> dict[str, Any] | None:
    """Send a call somewhere, or end it; None when there is none."""
    phone = exchange.phones.get(sid)
    if phone is not None:
        if form.get("Status") == "completed":
            phone.gone.set()
        return {"sid": sid, "status": "completed" if phone.gone.is_set() else "in-progress"}
    caller = exchange.callers.get(sid)
    if caller is None or caller.over.is_set():
        return None
    if form.get("Status") == "completed":
        caller.hung_up.set()
    elif form.get("Url"):
        caller.sent_to = form["Url"]
    return {"sid": sid, "status": "in-progress", "direction": "inbound", "from": caller.number}


def melody(seconds: int) -> bytes:
    """A few tones as WAV, 8 kHz: what a message sounds like here."""
    rate = 8000
    samples = array("h")
    for position in range(rate * seconds):
        tone = (392, 494, 587)[position * 3 // (rate * seconds) % 3]
        samples.append(int(9000 * math.sin(2 * math.pi * tone * position / rate)))
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return made.getvalue()
