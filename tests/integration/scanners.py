"""clamd and rspamd from Debian, each with the least it needs: one signature, no network. And one of
our own that can hang."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING

from tests.service import NEVER_ALONE, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
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


class Fake:
    """Speaks as clamd, and knows its one virus. Silent about what contains `SLOW`, and about
    everything while `dead`."""

    def __init__(self) -> None:
        self.asked = self.called = 0
        self.dead = False
        self._end = asyncio.Event()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """Its address."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            self._end.set()
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            writer.write(await self._answer(reader))
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        if await reader.readuntil(b"\0") == b"zPING\0":
            self.called += 1
            if self.dead:
                await self._end.wait()
            return b"PONG\0"
        self.asked += 1
        content = b""
        while size := int.from_bytes(await reader.readexactly(4), "big"):
            content += await reader.readexactly(size)
        if self.dead or b"SLOW" in content:
            await self._end.wait()
        return b"stream: Prove FOUND\0" if VIRUS.encode() in content else b"stream: OK\0"


@contextmanager
def clamd(folder: Path, port: int = 0) -> Iterator[str]:
    """A clamd that knows one virus; its address."""
    port = port or free_port()
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
