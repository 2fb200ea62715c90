"""When are two mails the same? Keys over the parts that a second delivery leaves unchanged.

A relay adds trace headers (Received, DKIM, ARC …) on the way, so only what the author wrote counts.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_AUTHORED = frozenset((b"from", b"to", b"cc", b"subject", b"date", b"message-id"))
_HEADER_LIMIT = 256 * 1024
_ENDING = 1024
_FIRST_LETTERS = frozenset(bytes([letter]) for letter in b"FfTtCcSsDdMm")
_DATED = re.compile(rb"^(?:message-id|date)[ \t]*:", re.IGNORECASE | re.MULTILINE)
_FOLD = frozenset((b" ", b"\t"))


def content_key(raw: bytes) -> str:
    """SHA-256 in hex over the authored headers and the body: one mail to two of us has one key."""
    return _digest(raw).hexdigest()


def delivery_key(raw: bytes, recipients: Iterable[str]) -> str:
    """`content_key` and the recipients, in hex: the same when a relay delivers once more."""
    key = hashlib.sha256(_digest(raw).digest())
    for recipient in sorted({recipient.lower() for recipient in recipients}):
        key.update(b"\n")
        key.update(recipient.encode("utf-8", "surrogatepass"))
    return key.hexdigest()


def is_undated(raw: bytes) -> bool:
    """Whether the author gave neither Message-ID nor Date: then two mails cannot be told apart."""
    return _DATED.search(raw[: _header_end(raw)]) is None


def _header_end(raw: bytes) -> int:
    crlf = raw.find(b"\r\n\r\n", 0, _HEADER_LIMIT)
    lf = raw.find(b"\n\n", 0, _HEADER_LIMIT if crlf < 0 else crlf)
    if crlf < 0 and lf < 0:
        return min(len(raw), _HEADER_LIMIT)
    return lf if crlf < 0 or 0 <= lf < crlf else crlf


def _digest(raw: bytes) -> hashlib._Hash:
    head = _header_end(raw)
    fields: list[list[bytes]] = []
    keeping = False
    for line in raw[:head].split(b"\n"):
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
        else:
            keeping = False
    # Relays fold anew and may reorder; neither changes the message.
    lines = sorted(b" ".join(b" ".join(field).split()) for field in fields)
    digest = hashlib.sha256(b"\n".join(lines))
    # RFC 6376 §3.4.3: trailing empty lines come and go.
    ending = raw[-_ENDING:]
    end = max(len(raw) - len(ending) + len(ending.rstrip(b"\r\n")), head)
    digest.update(memoryview(raw)[head:end])
    return digest
