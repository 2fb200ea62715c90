"""The real service as a child process, as residents, mail servers and integrators meet it.

Everything goes over its doors: SMTP, HTTP, the command line, signals.
"""

from __future__ import annotations

import asyncio
import email
import os
import re
import secrets
import shutil
import signal
import smtplib
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, localtime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
from sqlalchemy import text as sql
from sqlmodel import Session

from router import credentials, staff
from router.db import reader_engine, writer_engine
from router.models import CredentialKind, Role
from tests.support import SmtpSink, SunkMail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from email.message import Message


T = TypeVar("T")

REPOSITORY = Path(__file__).parents[1]
PATIENCE = 30.0
"""Seconds; far more than anything here takes on a machine that does nothing else."""
READY = "Sentralbord is ready."
TOWN_HALL = "postmottak@sorum.kommune.no"
ALWAYS_OPEN = {
    "DEPARTMENTS__SERVICETORG__HOURS__MON-SUN": "00:00-24:00",
    "DEPARTMENTS__BYGGESAK__HOURS__MON-SUN": "00:00-24:00",
    "CALENDAR__HOLIDAYS": "",
    "CALENDAR__HALF_DAYS__EASTER-4": "24:00",
    "CALENDAR__HALF_DAYS__12-24": "24:00",
    "CALENDAR__HALF_DAYS__12-31": "24:00",
}
"""Settings by which calls are answered whenever a test is run."""


def wait_until(
    look: Callable[[], T | None], what: str = "it", patience: float = PATIENCE, pause: float = 0.01
) -> T:
    """Look again and again until there is something to see, and return that."""
    deadline = time.monotonic() + patience
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not happen within {patience:g} s")
        time.sleep(pause)


async def soon(look: Callable[[], object], what: str = "it", patience: float = PATIENCE) -> None:
    """`wait_until` for tests that run in the loop they wait for."""
    try:
        async with asyncio.timeout(patience):
            while not look():  # noqa: ASYNC110 - what is looked at has no event of its own
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"{what} did not happen within {patience:g} s") from None


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Whether somebody listens on a port of 127.0.0.1."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1):
            return True
    except OSError:
        return False


def unique(word: str = "Sak") -> str:
    """A subject nobody else uses; only letters, so that no rule takes it for something."""
    return f"{word} " + "".join(secrets.choice("bcdfghjklmnpqrstvwxz") for _ in range(12))


def mail(
    subject: str,
    text: str = "Hei, kan noen ringe meg?",
    *,
    sender: str = "Kari Nordmann <kari@eksempel.no>",
    to: str = TOWN_HALL,
    message_id: str = "",
    **headers: str,
) -> bytes:
    """A mail as an ordinary program writes it. `In_Reply_To="<…>"` sets that header."""
    letter = EmailMessage(policy=SMTP)
    letter["From"] = sender
    letter["To"] = to
    letter["Subject"] = subject
    letter["Date"] = format_datetime(localtime())
    letter["Message-ID"] = message_id or f"<{secrets.token_hex(12)}@eksempel.no>"
    for name, value in headers.items():
        letter[name.replace("_", "-")] = value
    letter.set_content(text)
    return letter.as_bytes()


@dataclass(frozen=True)
class Received:
    """A mail that the sink took, read as its recipient would."""

    sunk: SunkMail

    @property
    def message(self) -> Message:
        return email.message_from_bytes(self.sunk.raw)

    def __getitem__(self, header: str) -> str:
        value = self.message[header]
        return " ".join(str(value).split()) if value is not None else ""

    @property
    def subject(self) -> str:
        raw = email.header.decode_header(self["Subject"])
        return str(email.header.make_header(raw))

    @property
    def text(self) -> str:
        for part in self.message.walk():
            if part.get_content_type() == "text/plain":
                content = part.get_payload(decode=True)
                assert isinstance(content, bytes)
                return content.decode(part.get_content_charset() or "ascii")
        return ""

    @property
    def ref(self) -> str:
        found = re.search(r"S-\d{4}-\d{6,}", self.subject)
        return found[0] if found else ""


class Sink:
    """`SmtpSink` for tests that have no event loop: it runs in a thread of its own."""

    def __init__(self, port: int = 0) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sink", daemon=True)
        self._thread.start()
        self.sink: SmtpSink = self.call(self._open(port))

    @property
    def port(self) -> int:
        return self.sink.port

    @property
    def messages(self) -> list[Received]:
        return [Received(message) for message in tuple(self.sink.messages)]

    def to(self, recipient: str) -> list[Received]:
        """What this recipient got so far."""
        return [m for m in self.messages if recipient in m.sunk.recipients]

    def first_to(self, recipient: str, count: int = 1) -> list[Received]:
        """Wait until this recipient has got so many mails."""
        return wait_until(
            lambda: found if len(found := self.to(recipient)) >= count else None,
            f"mail number {count} to {recipient}",
        )

    def fail(self, stage: str, reply: str, times: int = 1) -> None:
        self._loop.call_soon_threadsafe(self.sink.fail, stage, reply, times)

    def drop(self, stage: str, times: int = 1) -> None:
        self._loop.call_soon_threadsafe(self.sink.drop, stage, times)

    def release(self, gate: asyncio.Event) -> None:
        """Go on with what `sink.hold` held back."""
        self._loop.call_soon_threadsafe(gate.set)

    def call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE)

    def close(self) -> None:
        self.call(self.sink.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @staticmethod
    async def _open(port: int) -> SmtpSink:
        return await SmtpSink(port=port).__aenter__()


@contextmanager
def sink(port: int = 0) -> Iterator[Sink]:
    """A smarthost that keeps what it gets."""
    opened = Sink(port)
    try:
        yield opened
    finally:
        opened.close()


@dataclass
class Service:
    """One installation: a data directory, ports, and the process while it runs."""

    folder: Path
    smarthost: int
    settings: Mapping[str, str] = field(default_factory=dict)
    config: str = ""
    """Another configuration than the repository's."""
    process: subprocess.Popen[str] | None = None
    web_port: int = 0
    smtp_port: int = 0
    announced: list[str] = field(default_factory=list)
    _tokens: dict[tuple[str, ...], str] = field(default_factory=dict)
    _clients: list[httpx.Client] = field(default_factory=list)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def database_url(self) -> str:
        return f"sqlite:///{self.data / 'sentralbord.db'}"

    @property
    def log(self) -> str:
        """What the service has logged."""
        return (self.folder / "log").read_text(encoding="utf-8")

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def environment(self) -> dict[str, str]:
        plain = {k: v for k, v in os.environ.items() if not k.startswith("SENTRALBORD_")}
        # As installed: modules are compiled once, not at every start.
        plain.pop("PYTHONDONTWRITEBYTECODE", None)
        rules = {k: v for k, v in os.environ.items() if k == "SENTRALBORD_RULES__FOLDER"}
        return {
            **plain,
            **rules,
            "SENTRALBORD_DATA": str(self.data),
            "SENTRALBORD_WEB__PORT": str(self.web_port),
            "SENTRALBORD_CHANNELS__EMAIL__LISTEN__PORT": str(self.smtp_port),
            "SENTRALBORD_CHANNELS__EMAIL__SMARTHOST__PORT": str(self.smarthost),
            **self.settings,
        }

    def start(self) -> Service:
        """Start the process and wait until it says that it is ready."""
        for _ in range(3):
            if not self.web_port:
                self.web_port, self.smtp_port = free_port(), free_port()
            if self._launch():
                return self
            if "listen" not in self.log.splitlines()[-1]:
                break
            self.web_port = 0  # somebody took the port in between
        raise AssertionError(f"the service did not start: {self.log[-2000:]}")

    def _launch(self) -> bool:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log").open("a", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [
                    *NEVER_ALONE,
                    *SENTRALBORD,
                    "serve",
                    "--config",
                    self.config or CONFIG,
                    "--one-time-login",
                ],
                env=self.environment,
                cwd=REPOSITORY,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        assert self.process.stdout is not None
        reader = threading.Thread(target=self._listen, args=(self.process.stdout,), daemon=True)
        self.announced = []
        reader.start()
        wait_until(
            lambda: any("login" in line for line in self.announced) or not reader.is_alive(),
            "the service's start",
            patience=4 * PATIENCE,
        )
        if READY in self.announced:
            return True
        self.process.wait()
        reader.join()
        return False

    def _listen(self, stdout: Any) -> None:
        with stdout:
            for line in stdout:
                self.announced.append(line.strip())

    def terminate(self) -> None:
        """Tell the service to stop, without waiting."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def stop(self) -> int:
        """Tell the service to stop and wait; returns its exit code."""
        if self.process is None:
            return 0
        self.terminate()
        try:
            return self.process.wait(PATIENCE)
        finally:
            self._sweep()

    def kill(self) -> None:
        """End it as a power cut would: `kill -9`."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(PATIENCE)

    def restart(self) -> None:
        """Start again on the same data and ports."""
        if self.process is not None:
            self._sweep()
        self.start()

    def _sweep(self) -> None:
        """End what a killed service left behind."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process = None

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self.stop()
        print(self.log[-5000:])  # shown by pytest when the test failed

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`sentralbord …` with the settings of this installation."""
        done = subprocess.run(
            [*SENTRALBORD, *arguments],
            env=self.environment,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=4 * PATIENCE,
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    def write(self, job: Callable[[Session], T]) -> T:
        """Change the store from outside, as the command line does, also while the service runs."""
        engine = writer_engine(self.database_url)
        try:
            with Session(engine, expire_on_commit=False) as session, session.begin():
                return job(session)
        finally:
            engine.dispose()

    def read(self, query: str, **values: object) -> list[Any]:
        """Rows of the store, for what no door shows."""
        engine = reader_engine(self.database_url)
        try:
            with engine.connect() as connection:
                return list(connection.execute(sql(query), values))
        finally:
            engine.dispose()

    def token(self, role: str = "operator", department: str = "") -> str:
        """A token; the command line makes the same, see `test_commands.py`."""
        key = (role, department)
        if key not in self._tokens:
            self._tokens[key] = self.write(
                lambda session: credentials.create_api_token(
                    session, Role(role), department or None, "", datetime.now(UTC)
                )
            )
        return self._tokens[key]

    def sign_in(self, role: str = "operator") -> httpx.Client:
        """A browser at the desk."""

        def job(session: Session) -> str:
            now = datetime.now(UTC)
            name = unique("u")[2:]
            person = staff.add_staff(session, name, name, Role(role), [], None, now)
            return credentials.issue(
                session,
                CredentialKind.ONE_TIME,
                person.id or 0,
                now,
                expires_at=now + timedelta(minutes=5),
            )

        browser = httpx.Client(base_url=self.url, timeout=PATIENCE, follow_redirects=True)
        self._clients.append(browser)
        answer = browser.get("/desk/login", params={"once": self.write(job)})
        assert answer.url.path == "/desk/queue", answer.text
        return browser

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.web_port}"

    def api(self, role: str = "operator", department: str = "") -> httpx.Client:
        """A client of the API."""
        client = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {self.token(role, department)}"},
            timeout=PATIENCE,
        )
        self._clients.append(client)
        return client

    def smtp(self) -> smtplib.SMTP:
        """A session at the mail door."""
        return smtplib.SMTP("127.0.0.1", self.smtp_port, "mx.eksempel.no", timeout=PATIENCE)

    def deliver(
        self, raw: bytes, *recipients: str, mail_from: str = "kari@eksempel.no"
    ) -> tuple[int, str]:
        """One mail in one transaction; the answer to its content, or the first refusal."""
        with self.smtp() as session:
            session.ehlo()
            code, answer = session.mail(mail_from)
            for recipient in recipients or (TOWN_HALL,):
                if code == 250:
                    code, answer = session.rcpt(recipient)
            if code == 250:
                code, answer = session.data(raw)
            return code, answer.decode()


@contextmanager
def service(
    folder: Path, smarthost: int, *, config: str = "", **settings: str
) -> Iterator[Service]:
    """A service that runs, and is stopped in the end. Settings by the end of their variable:
    `CHANNELS__EMAIL__RECEIPTS__PER_SENDER_PER_DAY="0"`."""
    named = {f"SENTRALBORD_{name}": value for name, value in settings.items()}
    opened = Service(folder, smarthost, named, config)
    try:
        yield opened.start()
    finally:
        opened.close()


@dataclass
class Desk:
    """Somebody who works with the API of a service."""

    api: httpx.Client

    def rows(self, **filters: str) -> list[dict[str, Any]]:
        """Every inquiry under a filter, page by page, in the order of the queue."""
        found: list[dict[str, Any]] = []
        after: str | None = ""
        while after is not None:
            answer = self.api.get(
                "/api/inquiries", params={"limit": "200", **filters, "after": after}
            )
            assert answer.status_code == 200, answer.text
            found += answer.json()["items"]
            after = answer.json()["next"]
        return found

    def find(self, subject: str, count: int = 1, **filters: str) -> list[dict[str, Any]]:
        """Wait for inquiries with this subject."""
        return wait_until(
            lambda: rows if len(rows := self.rows(q=subject, **filters)) >= count else None,
            f"an inquiry about «{subject}»",
        )

    def read(self, ref: str) -> dict[str, Any]:
        answer = self.api.get(f"/api/inquiries/{ref}")
        assert answer.status_code == 200, answer.text
        detail: dict[str, Any] = answer.json()
        return detail

    def open(self, subject: str, **filters: str) -> dict[str, Any]:
        """Wait for the one inquiry with this subject and read it."""
        [row] = self.find(subject, **filters)
        return self.read(row["ref"])

    def act(self, ref: str, verb: str, **body: Any) -> dict[str, Any]:
        answer = self.api.post(f"/api/inquiries/{ref}/{verb}", json=body or None)
        assert answer.status_code == 200, answer.text
        state: dict[str, Any] = answer.json()
        return state

    def until(
        self, ref: str, look: Callable[[dict[str, Any]], object], what: str
    ) -> dict[str, Any]:
        """Wait until an inquiry looks like that."""
        return wait_until(
            lambda: detail if look(detail := self.read(ref)) else None, what, pause=0.02
        )

    def until_messages(self, ref: str, count: int) -> dict[str, Any]:
        """Wait until so many messages have come in."""
        return self.until(
            ref, lambda detail: len(incoming(detail)) >= count, f"message number {count} of {ref}"
        )


def incoming(detail: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages of an inquiry that came from outside."""
    return [message for message in detail["messages"] if message["direction"] == "in"]


def kinds(detail: dict[str, Any]) -> list[str]:
    """What has happened to an inquiry, in order."""
    return [event["kind"] for event in detail["events"]]


SENTRALBORD = (sys.executable, "-m", "router")
# A service must not outlive a test run that was killed.
NEVER_ALONE = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()
CONFIG = str(REPOSITORY / "config.yaml")
