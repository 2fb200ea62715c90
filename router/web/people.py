"""People who work here, as pages and lists show them: found by the beginnings of words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from router.hall import Hall
    from router.presence import Listed

_WORD = re.compile(r"\w+")


def fitting(hall: Hall, lines: Iterable[Listed], text: str) -> list[Listed]:
    """The lines in which every word of a text begins a word of the name or the department, or is
    part of the phone number."""
    wanted = _WORD.findall(text.casefold())
    if not wanted:
        return list(lines)
    return [
        line
        for line in lines
        if all(
            any(word.startswith(part) for word in _words(hall, line))
            or (part.isdecimal() and part in line.phone)
            for part in wanted
        )
    ]


def _words(hall: Hall, line: Listed) -> list[str]:
    names = [line.name, line.username]
    for slug in line.departments:
        department = hall.settings.departments.get(slug)
        names += [department.name.get(code) for code in ("nb", "nn", "en")] if department else []
    return _WORD.findall(" ".join(names).casefold())
