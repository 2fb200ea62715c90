"""Cursors of long lists: the place of the last row, as text that nobody has to understand."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import orjson

from router.errors import InvalidError


def write(*parts: object) -> str:
    """The cursor behind a row: the part of the list, then the row's place in it."""
    return base64.urlsafe_b64encode(orjson.dumps(parts)).decode().rstrip("=")


def read(cursor: str | None) -> tuple[str, list[Any] | None]:
    """Part and place of a cursor; the beginning of the list without one. Raises `InvalidError`."""
    if not cursor:
        return "open", None
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        parts = orjson.loads(base64.urlsafe_b64decode(padded.encode("ascii")))
        match parts:
            case ["open", int(lane), str(sort_at), str(received_at), int(number)] if _small(
                lane, number
            ):
                return "open", [lane, _instant(sort_at), _instant(received_at), number]
            case [("closed" | "aside") as part, str(instant), int(number)] if _small(number):
                return part, [_instant(instant), number]
    except (ValueError, OverflowError):
        pass
    raise InvalidError("The cursor in «after» is not one of ours. Start again without it.")


def _instant(value: str) -> datetime:
    instant = datetime.fromisoformat(value)
    if instant.tzinfo is None:
        raise ValueError(value)
    return instant.astimezone(UTC)


def _small(*numbers: int) -> bool:
    """Whether the store can hold these numbers."""
    return all(abs(number) < 2**63 for number in numbers)
