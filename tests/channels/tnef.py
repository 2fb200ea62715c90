"""Builds `winmail.dat` (MS-OXTNEF) for tests."""

from __future__ import annotations

import struct

SIGNATURE = b"\x78\x9f\x3e\x22\x01\x00"


def attribute(level: int, name: int, value: bytes) -> bytes:
    return (
        struct.pack("<BHHI", level, name, 6, len(value))
        + value
        + struct.pack("<H", sum(value) & 0xFFFF)
    )


def properties(*values: tuple[int, int, bytes]) -> bytes:
    """(type, tag, value) of variable length, one value each."""
    written = [
        struct.pack("<HHII", kind, tag, 1, len(value)) + value + b"\0" * (-len(value) % 4)
        for kind, tag, value in values
    ]
    return struct.pack("<I", len(written)) + b"".join(written)


def file(name: str, content: bytes) -> bytes:
    long_name = name.encode("utf-16-le") + b"\0\0"
    return (
        attribute(2, 0x9002, b"\0" * 14)
        + attribute(2, 0x8010, b"KORT~1.TXT\0")
        + attribute(2, 0x800F, content)
        + attribute(2, 0x9005, properties((0x1F, 0x3707, long_name)))
    )


def winmail(*attributes: bytes) -> bytes:
    return SIGNATURE + attribute(1, 0x9007, struct.pack("<II", 1252, 0)) + b"".join(attributes)


def message_inside(name: str, inner: bytes) -> bytes:
    """A message as an attachment; its files are inside it."""
    interface = b"\x07\x03\x02\0\0\0\0\0\xc0\0\0\0\0\0\0\x46"
    title = name.encode("utf-16-le") + b"\0\0"
    return attribute(2, 0x9002, b"\0" * 14) + attribute(
        2, 0x9005, properties((0x0D, 0x3701, interface + inner), (0x1F, 0x3001, title))
    )
