"""How many parts a text is sent in, and how it is written so that they are few.

A text in the GSM alphabet has room for 160 characters, any other for 70 (3GPP TS 23.038 §6.2,
TS 23.040 §9.2.3.24.1: the header of a part of many takes 6 octets). One typographic quotation mark
makes three parts of one.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

from channels.text import nfc

BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
"""GSM 7 bit default alphabet (3GPP TS 23.038 §6.2.1), without its escape."""

EXTENDED = frozenset("\f^{}\\[~]|€")
"""Its extension (§6.2.1.1): an escape and one more, so they take the room of two."""

_ROOM = {"gsm7": (160, 153), "ucs2": (70, 67)}

_BLANKS = re.compile("[\t\v\x85\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]")
"""Blanks that are not the plain one: number formats and word processors write them."""
_INVISIBLE = re.compile("[\u00ad\u200b\u2060\ufeff]")
"""Soft hyphen and marks of no width. Joiners stay: emoji and scripts need them."""
_PLAIN = {
    **dict.fromkeys("‐‑‒–—―−", "-"),
    **dict.fromkeys("«»“”„‟″", '"'),
    **dict.fromkeys("‘’‚‛′`´", "'"),
    **dict.fromkeys("‹›", "'"),
    "…": "...",
    "•": "-",
}
_JOINED = frozenset(map(chr, (*range(0xFE00, 0xFE10), *range(0x1F3FB, 0x1F400))))
"""Variants and skin tones: shown as one with what stands before."""
_TYPOGRAPHIC = str.maketrans(_PLAIN)


@dataclass(frozen=True, slots=True)
class Count:
    """What a text takes."""

    encoding: Literal["gsm7", "ucs2"]
    units: int
    """Septets, or 16-bit units."""
    parts: int
    left: int
    """Units that are free in the last part."""


def count(text: str) -> Count:
    """The parts of a text as it stands; `plain` first."""
    gsm = all(c in BASIC or c in EXTENDED for c in text)
    encoding: Literal["gsm7", "ucs2"] = "gsm7" if gsm else "ucs2"
    wide = EXTENDED if gsm else _Astral()
    units = len(text) + sum(c in wide for c in text)
    single, each = _ROOM[encoding]
    if units <= single:
        return Count(encoding, units, 1, single - units)
    parts, used = 1, 0
    for c in text:
        size = 2 if c in wide else 1
        # Neither an escape nor half of a surrogate pair ends a part.
        if used + size > each:
            parts, used = parts + 1, 0
        used += size
    return Count(encoding, units, parts, each - used)


class _Astral:
    """Characters that UTF-16 writes as a pair."""

    def __contains__(self, c: str) -> bool:
        return c > "\uffff"


def odd_one(text: str) -> str:
    """The first character that keeps a text out of the GSM alphabet, with the marks that belong to
    it; empty when none does. Typography does not count: `plain` would take it away."""
    text = tidy(text).translate(_TYPOGRAPHIC)
    found = re.compile(f"[^{re.escape(''.join(BASIC | EXTENDED))}]").search(text)
    if found is None:
        return ""
    end = found.end()
    while end < len(text) and (unicodedata.combining(text[end]) or text[end] in _JOINED):
        end += 1
    return text[found.start() : end]


def tidy(text: str) -> str:
    """A text without what nobody sees: NFC, plain blanks and line ends, no marks of no width."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _INVISIBLE.sub("", _BLANKS.sub(" ", nfc(text)))


def plain(text: str) -> str:
    """`tidy`, and typographic dashes and quotation marks as typewriters had them, if the text then
    fits the GSM alphabet. Letters are never changed: names and Sámi stay what they are."""
    text = tidy(text)
    simple = text.translate(_TYPOGRAPHIC)
    return simple if count(simple).encoding == "gsm7" else text
