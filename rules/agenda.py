"""Which rules are worth asking about a text: most need a word that it does not have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rules.conditions import ABSENT, BODY, BOTH, NO_MATCH, SUBJECT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rules.conditions import Check, Hits


class Agenda:
    """The rules of one stage turned inside out: from a keyword to the rules that need it."""

    def __init__(self, rules: Sequence[tuple[str, Sequence[Check]]]) -> None:
        self._first = [(name, checks[0] if checks else None) for name, checks in rules]
        self._always: list[int] = []
        self._by_word: dict[str, list[int]] = {}
        self._unasked: dict[tuple[bool, bool], list[dict[str, str]]] = {}
        for position, (_, check) in enumerate(self._first):
            for word in check.needs if check else ():
                self._by_word.setdefault(word, []).append(position)
            if check is None or not check.needs:
                self._always.append(position)

    def candidates(self, hits: Hits) -> list[int]:
        """Positions of the rules that may hold, in order; the others surely fail their first
        check."""
        found = {position for word in hits[BOTH] or () for position in self._by_word.get(word, ())}
        return sorted(found.union(self._always)) if found else self._always

    def unasked(self, hits: Hits) -> list[dict[str, str]]:
        """What the trace says of each rule that is no candidate, by position; to be copied."""
        absent = hits[SUBJECT] is None, hits[BODY] is None
        steps = self._unasked.get(absent)
        if steps is None:
            steps = self._unasked[absent] = [
                {"rule": name, "failed": check.name, "why": _why(check, hits)} if check else {}
                for name, check in self._first
            ]
        return steps


def _why(check: Check, hits: Hits) -> str:
    return ABSENT if hits[check.where] is None else NO_MATCH
