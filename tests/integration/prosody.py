"""Prosody from Debian as a child of the test run, with a work directory and ports of its own; and
people with an XMPP client in another process."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.certificates import make
from tests.service import NEVER_ALONE, PATIENCE, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

DOMAIN = "sentralbord.kommune.test"
STAFF = "ansatt.kommune.test"
RESIDENTS = "innbygger.kommune.test"
SECRET = "x8Hk2bq0TnVd5uWfYp3LrZs7"
PASSWORD = "hemmelig"

needs_prosody = pytest.mark.skipif(
    not Path("/usr/bin/prosody").exists(), reason="Prosody is not installed"
)

_CONFIG = """\
pidfile = "{folder}/prosody.pid"; data_path = "{folder}/data"
admin_socket = "{folder}/prosody.sock"; log = {{ info = "{folder}/prosody.log" }}
{user}
interfaces = {{ "127.0.0.1" }}; local_interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {clients} }}; c2s_direct_tls_ports = {{}}; component_ports = {{ {components} }}
http_ports = {{}}; https_ports = {{}}
modules_enabled = {{ "disco", "roster", "saslauth", "tls", "ping", "offline" }}
modules_disabled = {{ "s2s" }}; authentication = "internal_hashed"; storage = "internal"
c2s_stanza_size_limit = 262144
ssl = {{ certificate = "{folder}/{staff}.pem", key = "{folder}/{staff}.key" }}
VirtualHost "{staff}"
VirtualHost "{residents}"
Component "{domain}"
  component_secret = "{secret}"
"""
_AS_ROOT = 'run_as_root = true; prosody_user = "root"; prosody_group = "root"'


@dataclass
class Prosody:
    """An XMPP server with two hosts for people and one component."""

    folder: Path
    clients: int = field(default_factory=free_port)
    components: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        (self.folder / "data").mkdir(parents=True)
        make(self.folder, STAFF)
        self.config = self.folder / "prosody.cfg.lua"
        self.config.write_text(
            _CONFIG.format(
                folder=self.folder,
                user=_AS_ROOT if os.geteuid() == 0 else "",
                clients=self.clients,
                components=self.components,
                staff=STAFF,
                residents=RESIDENTS,
                domain=DOMAIN,
                secret=SECRET,
            )
        )

    def start(self) -> None:
        (self.folder / "prosody.pid").unlink(missing_ok=True)
        with (self.folder / "console.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*NEVER_ALONE, "prosody", "-F", "--config", str(self.config)],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(lambda: all(map(_listens, (self.clients, self.components))), "Prosody's start")

    def kill(self) -> None:
        """As a power cut would."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(PATIENCE)

    def register(self, name: str, domain: str) -> str:
        """An account; returns its address."""
        subprocess.run(
            ["prosodyctl", "--config", str(self.config), "register", name, domain, PASSWORD],
            check=True,
            capture_output=True,
            timeout=PATIENCE,
        )
        return f"{name}@{domain}"

    @property
    def log(self) -> str:
        return (self.folder / "prosody.log").read_text(errors="replace")

    @property
    def settings(self) -> dict[str, str]:
        """How a service finds it, as the ends of variables."""
        return {
            "CHANNELS__XMPP__ENABLED": "true",
            "CHANNELS__XMPP__PORT": str(self.components),
            "CHANNELS__XMPP__DOMAIN": DOMAIN,
            "CHANNELS__XMPP__SECRET": SECRET,
        }


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextmanager
def prosody(folder: Path) -> Iterator[Prosody]:
    server = Prosody(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()


class Person:
    """Somebody with an XMPP client, in a process of its own; see `xmpp_person.py`."""

    def __init__(self, server: Prosody, jid: str) -> None:
        self.jid = jid
        self._events: queue.Queue[dict[str, Any]] = queue.Queue()
        self.heard: list[dict[str, Any]] = []
        self._process = subprocess.Popen(
            [
                *NEVER_ALONE,
                sys.executable,
                str(Path(__file__).parent / "xmpp_person.py"),
                jid,
                PASSWORD,
                str(server.clients),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        threading.Thread(target=self._listen, daemon=True).start()
        self.expect("online")

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._events.put(json.loads(line))

    def do(self, **command: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def say(self, to: str, text: str, id_: str = "", **more: Any) -> None:
        self.do(do="say", to=self.at(to), text=text, id=id_, **more)

    @staticmethod
    def at(local: str) -> str:
        """An address of ours."""
        return f"{local}@{DOMAIN}"

    def expect_receipts(self, count: int) -> None:
        """Wait until so many messages have had their receipt, ever."""
        while sum(event["kind"] == "receipt" for event in self.heard) < count:
            self.expect("receipt")

    def expect(self, kind: str, patience: float = PATIENCE, **fields: Any) -> dict[str, Any]:
        """The next event of this kind with these fields; what comes before it is kept in
        `heard`."""
        while True:
            try:
                event = self._events.get(timeout=patience)
            except queue.Empty:
                raise AssertionError(f"no {kind} {fields}; heard {self.heard[-5:]}") from None
            self.heard.append(event)
            if event["kind"] == kind and all(event.get(k) == v for k, v in fields.items()):
                return event

    def close(self) -> None:
        with suppress(BrokenPipeError, OSError):
            self.do(do="end")
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


@contextmanager
def person(server: Prosody, name: str, domain: str = STAFF) -> Iterator[Person]:
    """Somebody with an account who is online."""
    opened = Person(server, server.register(name, domain))
    try:
        yield opened
    finally:
        opened.close()
