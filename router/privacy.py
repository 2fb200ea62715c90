"""Masking of fødselsnummer wherever people look without needing them: lists, notifications, logs,
subjects.

It over-masks on purpose: both check-digit rules count (the old one, and the one in force from
2032), and D-, H-
and synthetic numbers too. Bank account numbers written NNNN.NN.NNNNN are left alone.
"""

from __future__ import annotations

import re
from datetime import date

# Mail programs write other blanks and dashes than people type.
_CANDIDATE = re.compile(r"(?<![\d.])(\d{6})([ \u00a0\u2009\u202f\u2010-\u2013-]{0,3})(\d{5})(?!\d)")
_FIRST = (3, 7, 6, 1, 8, 9, 4, 5, 2, 1)
_SECOND = (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)


def mask_text(text: str) -> str:
    """`010180 12345` -> `010180 *****` for everything that can be a fødselsnummer."""
    return _CANDIDATE.sub(_mask, text)


def is_national_id(digits: str) -> bool:
    """Whether eleven digits can be a fødselsnummer or D-number, by the rules before and from 2032.

    Source: Skatteetaten, change of the control digits from 2032.
    """
    if len(digits) != 11 or not digits.isascii() or not digits.isdigit():
        return False
    numbers = [int(d) for d in digits]
    # From 2032 the first sum may leave 0-3; the second is unchanged.
    if sum(w * n for w, n in zip(_FIRST, numbers[:10], strict=True)) % 11 > 3:
        return False
    if sum(w * n for w, n in zip(_SECOND, numbers, strict=True)) % 11:
        return False
    day = int(digits[0:2]) % 40
    month = int(digits[2:4])
    for offset in (80, 65, 40):
        if month > offset:
            month -= offset
            break
    return any(_is_date(century + int(digits[4:6]), month, day) for century in (1900, 2000))


def _is_date(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True


def _mask(match: re.Match[str]) -> str:
    return f"{match[1]} *****" if is_national_id(match[1] + match[3]) else match[0]
