"""When are two mails the same? Keys over the parts that a second delivery leaves unchanged.

A relay adds trace headers (Received, DKIM, ARC …) on the way, so only what the author wrote counts.
Content is given as bytes, or as the path of a file, which is read in pieces and never as a whole.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_AUTHORED = frozenset((b"from", b"to", b"cc", b"subject", b"date", b"message-id"))
_HEADER_LIMIT = 256 * 1024
_ENDING = 1024
_PIECE = 256 * 1024
_FIRST_LETTERS = frozenset(bytes([letter]) for letter in b"FfTtCcSsDdMm")
_DATED = re.compile(rb"^(?:message-id|date)[ \t]*:", re.IGNORECASE | re.MULTILINE)
_FOLD = frozenset((b" ", b"\t"))


class Digest:
    """SHA-256 over the authored headers and the body of content that comes piece by piece."""

    def __init__(self) -> None:
        self._start: bytes | None = b""
        """What came before the end of the headers was surely in it; `None` afterwards."""
        self._digest = hashlib.sha256()
        self._ending = b""

    def update(self, piece: bytes) -> None:
        """Take the next piece."""
        if self._start is not None:
            self._start += piece
            if len(self._start) >= _HEADER_LIMIT:
                self._close_headers()
            return
        data = self._ending + piece
        self._digest.update(memoryview(data)[:-_ENDING])
        self._ending = data[-_ENDING:]

    def digest(self) -> bytes:
        """The result; nothing can be added after it."""
        if self._start is not None:
            self._close_headers()
        # RFC 6376 §3.4.3: trailing empty lines come and go.
        self._digest.update(self._ending.rstrip(b"\r\n"))
        self._ending = b""
        return self._digest.digest()

    def _close_headers(self) -> None:
        start, self._start = self._start or b"", None
        head = _header_end(start)
        self._digest = _authored(start[:head])
        self.update(start[head:])


def content_key(raw: bytes | Path) -> str:
    """SHA-256 in hex over the authored headers and the body: one mail to two of us has one key.

    Raises `OSError` when a file cannot be read.
    """
    return _digest(raw).hex()


def delivery_key(raw: bytes | Path, recipients: Iterable[str]) -> str:
    """`content_key` and the recipients, in hex: the same when a relay delivers once more.

    Raises `OSError` when a file cannot be read.
    """
    return delivery_key_of(_digest(raw), recipients)


def delivery_key_of(content: bytes, recipients: Iterable[str]) -> str:
    """`delivery_key` of content whose `Digest.digest()` is known."""
    key = hashlib.sha256(content)
    for recipient in sorted({recipient.lower() for recipient in recipients}):
        key.update(b"\n")
        key.update(recipient.encode("utf-8", "surrogatepass"))
    return key.hexdigest()


def is_undated(raw: bytes | Path) -> bool:
    """Whether the author gave neither Message-ID nor Date: then two mails cannot be told apart.

    Raises `OSError` when a file cannot be read.
    """
    if isinstance(raw, Path):
        with raw.open("rb") as file:
            raw = file.read(_HEADER_LIMIT)
    return _DATED.search(raw[: _header_end(raw)]) is None


def _digest(raw: bytes | Path) -> bytes:
    if isinstance(raw, bytes):
        head = _header_end(raw)
        digest = _authored(raw[:head])
        ending = raw[-_ENDING:]
        end = max(len(raw) - len(ending) + len(ending.rstrip(b"\r\n")), head)
        digest.update(memoryview(raw)[head:end])
        return digest.digest()
    pieces = Digest()
    with raw.open("rb") as file:
        while piece := file.read(_PIECE):
            pieces.update(piece)
    return pieces.digest()


def _header_end(raw: bytes) -> int:
    crlf = raw.find(b"\r\n\r\n", 0, _HEADER_LIMIT)
    lf = raw.find(b"\n\n", 0, _HEADER_LIMIT if crlf < 0 else crlf)
    if crlf < 0 and lf < 0:
        return min(len(raw), _HEADER_LIMIT)
    return lf if crlf < 0 or 0 <= lf < crlf else crlf


def _authored(head: bytes) -> hashlib._Hash:
    fields: list[list[bytes]] = []
    keeping = False
    for line in head.split(b"\n"):
        first = line[:1]
        if first in _FOLD:
            if keeping:
                fields[-1].append(line)
        elif first in _FIRST_LETTERS:
            name, colon, value = line.partition(b":")
            name = name.rstrip().lower()
            keeping = bool(colon) and name in _AUTHORED
            if keeping:
                fields.append([name, b":", value])
            elif not colon:
                fields.append([line])
        else:
            keeping = False
            if b":" not in line and line.strip():
                # No field at all: of mail without headers, or broken ones, it is what was written.
                fields.append([line])
    # Relays fold anew and may reorder; neither changes the message.
    lines = sorted(b" ".join(b" ".join(field).split()) for field in fields)
    return hashlib.sha256(b"\n".join(lines))
