"""Where a letter ends and its signature begins: who somebody is says nothing of what they ask.

«Hilsen Kari, rektor ved Sørum skole» must not send a pothole to the schools.
"""

from __future__ import annotations

import re

LONGEST = 400
"""Characters after a closing phrase that can still be a signature; more is a text that goes on."""

_CLOSING = re.compile(
    r"(?:^|[.!?]\s+|\n\s*)"
    r"(?:(?:med|best|kind|warm|beste|vennlig|venleg|vennlige|mange|many)\s+){0,3}"
    r"(?:hilsen|hilsning|helsing|mvh|vh|regards|sincerely|pozdrawiam|з повагою)\b",
    re.IGNORECASE,
)


def without_signature(text: str) -> str:
    """The text up to its last closing phrase; all of it when there is none, or nothing before."""
    tail = max(0, len(text) - LONGEST - 40)
    last = None
    for last in _CLOSING.finditer(text, tail):  # noqa: B007 - the last one is what is wanted
        pass
    if last is None or len(text) - last.end() > LONGEST or not text[: last.start()].strip():
        return text
    return text[: last.start() + 1]
