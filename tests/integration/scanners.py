"""clamd and rspamd from Debian, each with the least it needs: one signature, no network."""

from __future__ import annotations

import socket
import subprocess
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from tests.service import NEVER_ALONE, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VIRUS = "SORUM-KOMMUNE-PROVE-VIRUS"
"""What the one signature looks for."""
SPAM = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
"""GTUBE, which every filter takes for spam."""

_CLAMD = """\
{listen}
DatabaseDirectory {folder}/db
TemporaryDirectory {folder}
Foreground yes
"""

# The list of suffixes is our own: rspamd compiles the full one for half a minute.
_RSPAMD = """\
options {{
  tempdir = "{folder}"; pidfile = "{folder}/pid"; control_socket = "{folder}/control mode=0600";
  url_tld = "{folder}/suffixes"; filters = ""; enable_test_patterns = true;
  dns {{ nameserver = "127.0.0.1"; }}
}}
logging {{ type = "console"; level = "warning"; }}
worker "normal" {{ bind_socket = "127.0.0.1:{port}"; count = 1; }}
actions {{ reject = 15; "add header" = 6; }}
"""


@contextmanager
def clamd(folder: Path) -> Iterator[str]:
    """A clamd that knows one virus; its address."""
    port = free_port()
    with _clamd(folder, f"TCPSocket {port}\nTCPAddr 127.0.0.1", ("127.0.0.1", port)):
        yield f"127.0.0.1:{port}"


@contextmanager
def clamd_on_a_socket(folder: Path) -> Iterator[str]:
    """The same, listening as Debian sets it up."""
    path = folder / "clamd.ctl"
    with _clamd(folder, f"LocalSocket {path}", str(path)):
        yield str(path)


@contextmanager
def _clamd(folder: Path, listen: str, address: tuple[str, int] | str) -> Iterator[None]:
    (folder / "db").mkdir(parents=True)
    signature = f"Sorum.Prove:0:*:{VIRUS.encode().hex()}\n"
    (folder / "db" / "test.ndb").write_text(signature, encoding="ascii")
    settings = folder / "clamd.conf"
    settings.write_text(_CLAMD.format(listen=listen, folder=folder), encoding="utf-8")
    with _running(folder, "/usr/sbin/clamd", "--config-file", str(settings)) as process:
        wait_until(lambda: _answers(process, address), "clamd's start", patience=60)
        yield


@contextmanager
def rspamd(folder: Path) -> Iterator[str]:
    """An rspamd without rules; its address."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    (folder / "suffixes").write_text("no\nexample\n", encoding="ascii")
    settings = folder / "rspamd.conf"
    settings.write_text(_RSPAMD.format(folder=folder, port=port), encoding="utf-8")
    command = ["/usr/bin/rspamd", "--no-fork", "--insecure", "--config", str(settings)]
    with _running(folder, *command) as process:
        wait_until(lambda: _answers(process, ("127.0.0.1", port)), "rspamd's start", patience=60)
        yield f"127.0.0.1:{port}"


@contextmanager
def _running(folder: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*NEVER_ALONE, *command], stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()


def _answers(process: subprocess.Popen[bytes], address: tuple[str, int] | str) -> bool:
    assert process.poll() is None, "the scanner did not start; its log lies beside its settings"
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as probe:
        return probe.connect_ex(address) == 0
