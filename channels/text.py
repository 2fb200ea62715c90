"""Unicode at the doors."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

_MOST_MARKS = 30
"""Combining marks on one letter: as many as Stream-Safe Text has (UAX #15 §13), and far more than
any script needs."""

_FAR_FROM_LATIN = re.compile(f"[\u0300-\U0001efff][\u0300-\U0001efff]{{{_MOST_MARKS}}}")
"""A run in which there may be too many marks: looked for twenty times as fast as the marks, and
not in Latin letters."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Unicode's category Cc, but for tab and line feed."""


def nfc(text: str) -> str:
    """The text in NFC, in linear time: marks beyond the thirtieth on one letter are dropped.

    Putting a run of marks in order takes quadratic time, and holds the interpreter meanwhile.
    """
    if text.isascii():
        return text
    if _FAR_FROM_LATIN.search(text):
        text = _crowd().sub(r"\1", text)
    return unicodedata.normalize("NFC", text)


def typed(text: str) -> str:
    """What somebody typed into a page: NFC, line ends as LF, no control characters, and no lone
    surrogates, which no store and no page takes."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return nfc(_CONTROL.sub("", text))


@cache
def _crowd() -> re.Pattern[str]:
    marks = re.escape(
        "".join(c for c in map(chr, range(0x300, 0x1F000)) if unicodedata.combining(c))
    )
    return re.compile(f"([{marks}]{{{_MOST_MARKS}}})[{marks}]+")
