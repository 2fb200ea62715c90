"""The content of a mail on its way in: found the end of, freed of dot-stuffing, in memory while it
is small and in a file when it is large.

What is here knows no protocol and no connection. `Content` runs in the loop; `SpoolFile` blocks and
belongs into a thread.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

from channels.base import Spooled
from channels.email.identity import Digest, delivery_key_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

INLINE_LIMIT = 256 * 1024
"""Bytes of content held in memory; more goes to a file."""
BLOCK = 256 * 1024
"""Bytes written at a time: enough to be quick, too little to hold the interpreter for long."""

_TERMINATOR = b"\r\n.\r\n"
_MANY = 1_000
_NO_NEWLINES = bytes(set(range(256)) - set(b"\r\n"))


class Content:
    """What has come of one mail after DATA, as it was on the wire."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.held = 0
        """Bytes in `chunks`."""
        self.size = 0
        """Bytes in all."""
        self.ended = False
        self.refusal = ""
        """Why it will not be taken; what comes then is counted and forgotten."""
        self.lost = False
        """The connection broke before the end."""
        self.more = asyncio.Event()
        """A block is full, or no more will come."""
        self.spooling = False
        self._tail = b"\r\n"  # so that the dot of an empty mail is found

    def feed(self, data: bytes) -> bytes:
        """Take what came, up to the lone dot (RFC 5321 §4.1.1.4); returns what came after it."""
        tail = self._tail
        at = (tail + data[:4]).find(_TERMINATOR)
        if at < 0:
            at = data.find(_TERMINATOR)
            used = at + 5
        else:
            used = at + 5 - len(tail)
        rest = b""
        if at >= 0:
            self.ended = True
            rest, data = data[used:], data[:used]
        else:
            self._tail = (tail + data)[-4:] if len(data) < 4 else data[-4:]
        self.size += len(data)
        if not self.refusal:
            self.chunks.append(data)
            self.held += len(data)
            if len(self.chunks) >= _MANY:
                self.chunks = [b"".join(self.chunks)]  # each piece costs more than a few letters
        if self.ended or self.held >= BLOCK:
            self.more.set()
        return rest

    def refuse(self, reply: str) -> None:
        """Keep nothing of it, and say so at the end; the first refusal counts."""
        self.refusal = self.refusal or reply
        self.take()
        self.more.set()

    def lose(self) -> None:
        """The connection broke."""
        self.lost = True
        self.take()
        self.more.set()

    def take(self) -> list[bytes]:
        """What is in memory, which is then forgotten here."""
        chunks, self.chunks, self.held = self.chunks, [], 0
        return chunks


class Unstuffer:
    """Undoes the dot-stuffing (RFC 5321 §4.5.2) piece by piece, and looks for bare newlines."""

    def __init__(self) -> None:
        self.bare = False
        """Whether there was a CR or LF alone so far."""
        self._held = b"\r\n"  # the first line may begin with a dot too
        self._begun = False

    def feed(self, data: bytes) -> bytes:
        """The content of the next piece of the wire. A beginning of a line whose meaning the next
        piece decides is held back, and the end of data is: it is never given out."""
        data = self._held + data
        end = len(data)
        for length in (5, 4, 3, 2, 1):
            if data.endswith(_TERMINATOR[:length]):
                end -= length
                break
        self._held = data[end:]
        piece = data[:end].replace(b"\r\n.", b"\r\n")
        # Every CR and LF belongs to a pair; deleting all else is the fastest way to count them.
        if 2 * piece.count(b"\r\n") != len(piece.translate(None, _NO_NEWLINES)):
            self.bare = True
        return self._without_first_newline(piece)

    def end(self) -> bytes:
        """What is left when the wire has ended with the lone dot."""
        return self._without_first_newline(b"\r\n")

    def _without_first_newline(self, piece: bytes) -> bytes:
        if self._begun or not piece:
            return piece
        self._begun = True
        return piece[2:]


def unstuff(chunks: Iterable[bytes]) -> tuple[bytes, bool]:
    """The content on the wire in `chunks`, lone dot included, and whether it has bare newlines."""
    unstuffer = Unstuffer()
    content = unstuffer.feed(b"".join(chunks)) + unstuffer.end()
    return content, unstuffer.bare


class SpoolFile:
    """Content being written to a file of its own. All methods block and raise `OSError`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"{secrets.token_hex(16)}.eml"
        self.size = 0
        self._file: int | None = None
        self._unstuffer = Unstuffer()
        self._sha256 = hashlib.sha256()
        self._identity = Digest()

    def write(self, chunks: Iterable[bytes]) -> None:
        """Append what these chunks of the wire hold."""
        self._append(self._unstuffer.feed(b"".join(chunks)))

    def finish(self, recipients: Iterable[str]) -> tuple[Spooled, bool, str]:
        """Make the file durable; returns it, whether it has bare newlines, and its delivery key."""
        self._append(self._unstuffer.end())
        file, self._file = self._open(), None
        try:
            os.fsync(file)
        finally:
            os.close(file)
        # The name must outlive a power failure too.
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        spooled = Spooled(self.path, self.size, self._sha256.hexdigest())
        return spooled, self._unstuffer.bare, delivery_key_of(self._identity.digest(), recipients)

    def discard(self) -> None:
        """Remove the file, whatever became of it."""
        if self._file is not None:
            with suppress(OSError):
                os.close(self._file)
            self._file = None
        discard(self.path)

    def _open(self) -> int:
        if self._file is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._file = os.open(self.path, flags, 0o600)
        return self._file

    def _append(self, piece: bytes) -> None:
        file = self._open()
        self._sha256.update(piece)
        self._identity.update(piece)
        self.size += len(piece)
        rest = memoryview(piece)
        while rest:
            rest = rest[os.write(file, rest) :]


def discard(path: Path) -> None:
    """Remove a spooled file; one that cannot be removed is swept at a later start."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


def sweep(folder: Path, before: float) -> int:
    """Make the spool directory, and remove what a crash left there before this time (seconds since
    1970); returns how many files. Raises `OSError` when there can be no such directory."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    removed = 0
    for path in folder.glob("*.eml"):
        with suppress(OSError):
            if path.stat().st_mtime < before:
                path.unlink()
                removed += 1
    return removed
