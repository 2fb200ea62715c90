"""Canned texts: what is often said, kept in the configuration, with blanks that are filled in for
the inquiry at hand before a person reads it over and sends it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rules.document import fault, suggest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from router.sections import CannedText

VARIABLES = ("name", "ref", "due", "department", "operator")
"""What may stand in braces: the resident's name, the inquiry's reference and reply date, the
department that answers, and who is writing."""

_BLANK = re.compile(r"\{([^{}]*)\}")
_WITH_COMMA = re.compile(r"[ \t]*,?[ \t]*\{([^{}]*)\}")


def check(text: str) -> str:
    """The text itself. Raises a fault for an unknown variable, a brace without its other half, and
    an empty text."""
    for name in _BLANK.findall(text):
        if name not in VARIABLES:
            nb, en = suggest(name, VARIABLES)
            raise fault(f"ukjent variabel «{{{name}}}»{nb}", f"unknown variable “{{{name}}}”{en}")
    if re.search(r"[{}]", _BLANK.sub("", text)):
        raise fault(
            "en krøllparentes mangler den andre", "a brace stands alone, without its other half"
        )
    if not text.strip():
        raise fault("teksten er tom", "the text is empty")
    return text


def fill(text: str, values: Mapping[str, str]) -> str:
    """The text with its blanks filled in. What is not known leaves no trace: «Hei, {name}!» is
    «Hei!» to somebody without a name."""

    def put(match: re.Match[str]) -> str:
        value = values[match[1]]
        return match[0].replace(f"{{{match[1]}}}", value) if value else ""

    return _WITH_COMMA.sub(put, text)


def offered(texts: Iterable[CannedText], department: str) -> list[CannedText]:
    """Those of a department, and those for everybody."""
    return [one for one in texts if not one.departments or department in one.departments]
