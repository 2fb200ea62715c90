"""What Outlook wraps up in `winmail.dat` (MS-OXTNEF): files, and a body when there is no other.

Read here because it must be linear in hostile bytes: no count that stands in the data is believed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from channels.email.charsets import decode

_SIGNATURE = b"\x78\x9f\x3e\x22"
_MAX_PROPERTIES = 5000
_MAX_VALUES = 100
_MAX_DEPTH = 5

_ATTACHMENT_LEVEL = 2
_RENDERING = 0x9002
"""Begins an attachment (§2.1.3.4)."""
_TITLE, _DATA, _BODY, _CODEPAGE, _MESSAGE_PROPERTIES, _ATTACHMENT_PROPERTIES = (
    0x8010, 0x800F, 0x800C, 0x9007, 0x9003, 0x9005,
)  # fmt: skip
# MAPI properties (MS-OXPROPS) by their tag.
_PR_BODY, _PR_HTML, _PR_CODEPAGE = 0x1000, 0x1013, 0x3FDE
_PR_DATA, _PR_SHORT_NAME, _PR_LONG_NAME, _PR_DISPLAY_NAME, _PR_MIME, _PR_CONTENT_ID = (
    0x3701, 0x3704, 0x3707, 0x3001, 0x370E, 0x3712,
)  # fmt: skip
_FIXED = {0x02: 4, 0x0B: 4, 0x03: 4, 0x04: 4, 0x0A: 4, 0x05: 8, 0x06: 8, 0x07: 8, 0x14: 8, 0x40: 8,
          0x48: 16, 0x01: 0}  # fmt: skip
_STRING, _UNICODE, _OBJECT, _BINARY = 0x1E, 0x1F, 0x0D, 0x102
_MANY = 0x1000
_NAMED = 0x8000
_INTERFACE_ID = 16


class TnefError(ValueError):
    """These bytes are no TNEF."""


@dataclass(slots=True)
class TnefFile:
    """One file inside."""

    name: str = ""
    content: bytes = b""
    content_type: str = ""
    content_id: str = ""


@dataclass(slots=True)
class Budget:
    """How much is still unpacked of one mail, whatever lies in it, and how often."""

    files: int = 200
    size: int = 64 * 1024 * 1024
    """Bytes of all files."""
    spent: bool = False
    """Whether something did not fit."""

    def file(self) -> bool:
        """Whether there is room for one more."""
        self.spent = self.spent or self.files <= 0
        self.files -= 1
        return self.files >= 0

    def content(self, content: bytes) -> bytes:
        """The content of a file; empty when it does not fit."""
        if len(content) > self.size:
            self.spent = True
            return b""
        self.size -= len(content)
        return content


@dataclass(slots=True)
class Tnef:
    """What was inside."""

    files: list[TnefFile] = field(default_factory=list)
    text: str = ""
    html: bytes = b""
    codepage: int = 1252


def read_tnef(data: bytes, budget: Budget | None = None, depth: int = 0) -> Tnef:
    """Files and body of `data`; what is cut off, or beyond the budget, is left out. Raises
    `TnefError` when it is none."""
    if not data.startswith(_SIGNATURE):
        raise TnefError
    budget = budget or Budget()
    tnef = Tnef()
    text: bytes = b""
    at = 6
    current: TnefFile | None = None
    while at + 11 <= len(data):
        level, name, _, length = struct.unpack_from("<BHHI", data, at)
        value = data[at + 9 : at + 9 + length]
        at += 11 + length
        if name == _RENDERING:
            if not budget.file():
                break
            current = TnefFile()
            tnef.files.append(current)
        elif level == _ATTACHMENT_LEVEL:
            if current is not None:
                _read_attachment(current, name, value, tnef, budget, depth)
        elif name == _CODEPAGE and len(value) >= 4:
            tnef.codepage = struct.unpack_from("<I", value)[0]
        elif name == _BODY:
            text = value
        elif name == _MESSAGE_PROPERTIES:
            _read_message(tnef, value)
    tnef.text = tnef.text or _string(text, tnef.codepage)
    return tnef


def _read_message(tnef: Tnef, value: bytes) -> None:
    properties = _properties(value)
    _, codepage = properties.get(_PR_CODEPAGE, (0, b""))
    page = struct.unpack_from("<I", codepage)[0] if len(codepage) >= 4 else tnef.codepage
    kind, body = properties.get(_PR_BODY, (0, b""))
    tnef.text = _string(body, tnef.codepage, kind) or tnef.text
    kind, html = properties.get(_PR_HTML, (0, b""))
    if html:
        tnef.html = html if kind == _BINARY else _string(html, page, kind).encode("utf-8")


def _read_attachment(
    file: TnefFile, name: int, value: bytes, tnef: Tnef, budget: Budget, depth: int
) -> None:
    if name == _TITLE:
        file.name = file.name or _string(value, tnef.codepage)
    elif name == _DATA:
        file.content = file.content or budget.content(value)
    elif name == _ATTACHMENT_PROPERTIES:
        properties = _properties(value)

        def text(tag: int) -> str:
            kind, content = properties.get(tag, (0, b""))
            return _string(content, tnef.codepage, kind)

        file.name = text(_PR_LONG_NAME) or text(_PR_SHORT_NAME) or file.name
        file.name = file.name or text(_PR_DISPLAY_NAME)
        file.content_type = text(_PR_MIME).lower()
        file.content_id = text(_PR_CONTENT_ID)
        kind, content = properties.get(_PR_DATA, (0, b""))
        if content and not file.content:
            if kind == _OBJECT and len(content) > _INTERFACE_ID:
                content = content[_INTERFACE_ID:]
                if content.startswith(_SIGNATURE) and depth < _MAX_DEPTH:
                    inner = read_tnef(content, budget, depth + 1)
                    # Its files are files too, beside the message itself.
                    tnef.files[-1:-1] = inner.files
                    file.content_type = "application/ms-tnef"
            file.content = budget.content(content)


def _properties(data: bytes) -> dict[int, tuple[int, bytes]]:
    """Tag -> (type, first value) of a property list (MS-OXTNEF §2.1.3.4), as far as it goes."""
    found: dict[int, tuple[int, bytes]] = {}
    at = 4
    try:
        for _ in range(min(struct.unpack_from("<I", data)[0], _MAX_PROPERTIES)):
            kind, tag = struct.unpack_from("<HH", data, at)
            at += 4
            if tag >= _NAMED:
                at = _after_name(data, at)
            many = kind & _MANY
            kind &= ~_MANY
            count = 1
            if many or kind in (_STRING, _UNICODE, _OBJECT, _BINARY):
                count = struct.unpack_from("<I", data, at)[0]
                at += 4
            if count > _MAX_VALUES:
                break
            for number in range(count):
                if kind in _FIXED:
                    length = 2 if kind == 0x02 and many else _FIXED[kind]
                    padded = length
                else:
                    length = struct.unpack_from("<I", data, at)[0]
                    at += 4
                    padded = length + -length % 4
                if number == 0 and tag < _NAMED:
                    found.setdefault(tag, (kind, data[at : at + length]))
                at += padded
            if many and kind == 0x02 and count % 2:
                at += 2
    except struct.error:
        pass
    return found


def _after_name(data: bytes, at: int) -> int:
    kind, length = struct.unpack_from("<II", data, at + 16)
    if kind == 0:
        return at + 24
    after: int = at + 24 + length + -length % 4
    return after


def _string(value: bytes, codepage: int, kind: int = _STRING) -> str:
    if kind == _UNICODE:
        return decode(value, "utf-16le").split("\0", 1)[0]
    label = "utf-8" if codepage == 65001 else f"cp{codepage}"
    return decode(value.split(b"\0", 1)[0], label)
