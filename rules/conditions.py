"""The vocabulary of `when:`: what a rule may ask, and how each question becomes a closure.

Every question is bounded and linear: sets, word look-ups and `*` wildcards, never a regular
expression from a rule. A question about something the channel lacks is answered no.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)

from rules.document import fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from rules.facts import Facts
    from rules.words import Hit

EMERGENCY_TAG = "nød"
NO_MATCH = "no match"
ABSENT = "field absent"
SUBJECT, BODY, BOTH = range(3)


class Strict(BaseModel):
    """Base of everything that is read from a rules file: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


def one_or_many(value: Any) -> Any:
    """For lists of one, which may be written without brackets."""
    return [value] if isinstance(value, (str, dict)) else value


def _wildcard(pattern: str) -> str:
    if not pattern.replace("*", ""):
        raise fault("trenger tegn ved siden av *", "needs more than *")
    return pattern.lower()


def _number(pattern: str) -> str:
    digits = pattern.removeprefix("+").replace("*", "")
    if not (digits.isascii() and digits.isdigit()):
        raise fault(
            f"«{pattern}» er ikke et telefonnummer, som +4763864000 eller +476386*",
            f"“{pattern}” is not a telephone number such as +4763864000 or +476386*",
        )
    return pattern


Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9æøå]+(?:[-_][a-z0-9æøå]+)*$")]
Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Slugs = Annotated[tuple[Slug, ...], BeforeValidator(one_or_many), Field(min_length=1)]
Words = Annotated[tuple[Line, ...], BeforeValidator(one_or_many), Field(min_length=1)]
Pattern = Annotated[Line, AfterValidator(_wildcard)]
Patterns = Annotated[tuple[Pattern, ...], BeforeValidator(one_or_many), Field(min_length=1)]
Number = Annotated[Line, AfterValidator(_number)]
Numbers = Annotated[tuple[Number, ...], BeforeValidator(one_or_many), Field(min_length=1)]
WordField: TypeAlias = Literal["subject", "body"]


class WordGroup(Strict):
    """Words to look for: one of `any`, each of `all`, nothing of `none`, within `in`."""

    any_: Words = Field(default=(), alias="any")
    all_: Words = Field(default=(), alias="all")
    none: Words = ()
    in_: Annotated[tuple[WordField, ...], BeforeValidator(one_or_many), Field(min_length=1)] = (
        Field(default=("subject", "body"), alias="in")
    )

    def words(self) -> tuple[str, ...]:
        """Every keyword of the group."""
        return (*self.any_, *self.all_, *self.none)


def _has_words(group: WordGroup) -> WordGroup:
    if not group.words():
        raise fault("trenger any, all eller none", "needs any, all or none")
    return group


Groups = Annotated[
    tuple[Annotated[WordGroup, AfterValidator(_has_words)], ...],
    BeforeValidator(one_or_many),
    Field(min_length=1),
]


class Entries(Strict):
    """Questions about one contact. Keys are joined by AND, the entries of a list by OR."""

    channel: Slugs | None = None
    did: Numbers | None = None
    recipient: Patterns | None = None
    sender: Patterns | None = None
    attachments: Patterns | None = None
    language: Slugs | None = None
    tags: Slugs | None = None
    customer: Slugs | None = None
    open: Slugs | None = None
    words: Groups | None = None


class When(Entries):
    """As `Entries`, with exceptions: `not` holds when none of its entries matches."""

    not_: Entries | None = Field(default=None, alias="not")


Hits: TypeAlias = "tuple[dict[str, Hit] | None, ...]"
"""Keywords found in the subject, in the body, in both; None where there is no such text."""


@dataclass(slots=True)
class View:
    """What the closures of one decision look at."""

    facts: Facts
    values: dict[str, Sequence[str]]
    """By the name of the condition; empty when there are none."""
    hits: Hits
    """Keywords found in the subject, in the body, in both; None where there is no text at all."""
    asked: dict[str, bool]
    """Departments whose opening a rule asked for: frozen into the trace."""


Test: TypeAlias = Callable[[View], str]
"""Answers why a condition does not hold; empty when it holds."""


class Check(NamedTuple):
    """One condition of a rule."""

    name: str
    fails: Test
    evidence: Callable[[View], list[dict[str, str]]]
    """What was matched, once it holds: patterns and matched tokens, no other text."""
    needs: frozenset[str] = frozenset()
    """Keywords without any of which it never holds; empty when it may hold without."""
    where: int = BOTH
    """In which part of `View.hits` these keywords are looked for."""


def compile_when(when: Entries) -> tuple[Check, ...]:
    """The conditions of a rule. Words come first: they most often settle that it does not match."""
    checks = [_words(group) for group in when.words or ()]
    for name, build in _BUILDERS.items():
        entries = getattr(when, name)
        if entries is not None:
            checks.append(build(name, entries))
    if isinstance(when, When) and when.not_ is not None:
        checks.append(_none_of(compile_when(when.not_)))
    return tuple(checks)


def matcher(patterns: Iterable[str]) -> Callable[[str], str]:
    """A function from a value to the first pattern it fits, or empty; `*` is any characters."""
    ordered = tuple(patterns)
    exact = frozenset(ordered)
    wild = [(pattern, pattern.split("*")) for pattern in ordered if "*" in pattern]

    def match(value: str) -> str:
        if value in exact:
            return value
        for pattern, pieces in wild:
            if _fits(value, pieces):
                return pattern
        return ""

    return match


def _fits(value: str, pieces: Sequence[str]) -> bool:
    first, *middle, last = pieces
    position, end = len(first), len(value) - len(last)
    if position > end or not value.startswith(first) or not value.endswith(last):
        return False
    for piece in middle:
        found = value.find(piece, position, end)
        if found < 0:
            return False
        position = found + len(piece)
    return True


def _values(name: str, patterns: Iterable[str]) -> Check:
    """A condition on values the contact has: one of them fits one of the patterns."""
    match = matcher(patterns)
    exact = frozenset(patterns)
    wild = any("*" in pattern for pattern in exact)
    # Tags and customer are ours to set; the rest a channel has or lacks.
    nothing = NO_MATCH if name in ("tags", "customer") else ABSENT

    def fails(view: View) -> str:
        values = view.values[name]
        if not values:
            return nothing
        if not exact.isdisjoint(values) or (wild and any(map(match, values))):
            return ""
        return NO_MATCH

    def evidence(view: View) -> list[dict[str, str]]:
        return [
            {"field": name, "pattern": pattern} | known(name, value)
            for value in view.values[name]
            if (pattern := match(value))
        ][:1]

    return Check(name, fails, evidence)


def known(name: str, value: str) -> dict[str, str]:
    """What the trace may repeat beside the pattern: no sender, no file name."""
    return {} if name in ("sender", "attachments") else {"value": value}


def _open(_: str, departments: tuple[str, ...]) -> Check:
    def fails(view: View) -> str:
        # Not knowing whether a department is open counts as closed.
        state = {slug: view.facts.open.get(slug, False) for slug in departments}
        view.asked.update(state)
        return "" if all(state.values()) else NO_MATCH

    return Check(
        "open", fails, lambda _: [{"field": "open", "value": slug} for slug in departments]
    )


_BUILDERS: dict[str, Callable[[str, tuple[str, ...]], Check]] = {
    "channel": _values,
    "did": _values,
    "recipient": _values,
    "sender": _values,
    "attachments": _values,
    "language": _values,
    "tags": _values,
    "customer": _values,
    "open": _open,
}


def _words(group: WordGroup) -> Check:
    some, each, none = group.any_, group.all_, group.none
    some_set, none_set = frozenset(some), frozenset(none)
    fields = searched(group.in_)

    def fails(view: View) -> str:
        hits = view.hits[fields]
        if hits is None:
            return ABSENT
        if some and some_set.isdisjoint(hits):
            return NO_MATCH
        for word in each:
            if word not in hits:
                return NO_MATCH
        if none and not none_set.isdisjoint(hits):
            return f"none: {next(word for word in none if word in hits)}"
        return ""

    def evidence(view: View) -> list[dict[str, str]]:
        hits = view.hits[fields] or {}
        first = [word for word in some if word in hits][:1]
        return [hits[word].as_dict() for word in dict.fromkeys((*first, *each))]

    return Check("words", fails, evidence, some_set or frozenset(each[:1]), fields)


def searched(fields: Iterable[str]) -> int:
    """Where in `View.hits` the words of these fields are."""
    wanted = frozenset(fields)
    return BOTH if len(wanted) > 1 else SUBJECT if "subject" in wanted else BODY


def _none_of(entries: tuple[Check, ...]) -> Check:
    def fails(view: View) -> str:
        for check in entries:
            if not check.fails(view):
                return f"matches {check.name}"
        return ""

    return Check("not", fails, lambda view: [])


def in_table(field: str, rows: Mapping[str, str]) -> Check:
    """A table as a condition: a recipient, the sender or the number has a row."""

    def fails(view: View) -> str:
        values = view.values[field]
        if any(value in rows for value in values):
            return ""
        return NO_MATCH if values else ABSENT

    def evidence(view: View) -> list[dict[str, str]]:
        value = next(value for value in view.values[field] if value in rows)
        return [{"field": field} | known(field, value)]

    return Check("table", fails, evidence)


def valid_between(start: datetime | None, end: datetime | None) -> Check:
    """The window in which a rule counts: from `start`, until just before `end`."""

    def fails(view: View) -> str:
        now = view.facts.now
        if start is not None and now < start:
            return "not yet valid"
        return "no longer valid" if end is not None and now >= end else ""

    return Check("valid", fails, lambda view: [])
