"""What can be said about rules before any inquiry: wrong names, rules never reached, doubts.

Problems refuse the ruleset; warnings are shown and let it pass.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from rules.conditions import EMERGENCY_TAG, Entries, When, WordGroup, matcher
from rules.document import Document, Loc, Problem, suggest
from rules.language import LANGUAGES, UNKNOWN
from rules.schema import ClassifyRule, RouteRule, RulesFile, Table
from rules.words import Coverage, Keyword, WordError, keyword

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import date

CHANNELS = ("chat", "email", "phone", "sms", "web")
RULE_LIMIT = 2000
SHORT_WORD = 4


class Source(NamedTuple):
    """A rule and where it stands."""

    document: Document
    at: Loc
    rule: ClassifyRule | RouteRule

    @property
    def line(self) -> int:
        """The line on which the rule begins."""
        return self.document.line(self.at)

    def problem(self, loc: Loc, nb: str, en: str) -> Problem:
        """A problem at `loc` inside the rule."""
        return self.document.problem(loc, nb, en, self.at)


class World(NamedTuple):
    """The configuration that rules refer to."""

    departments: Mapping[str, str]
    targets: frozenset[str]
    tables: Mapping[str, Mapping[str, str]]
    channels: frozenset[str]
    languages: Sequence[str]


@dataclass(slots=True)
class Report:
    """The outcome of all checks, with the keywords read on the way."""

    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    keywords: dict[str, Keyword] = field(default_factory=dict)
    emergency_words: tuple[Keyword, ...] = ()
    emergency_excuses: tuple[Keyword, ...] = ()


def check(
    folder: str,
    files: Sequence[tuple[Document, RulesFile]],
    sources: Sequence[Source],
    world: World,
    today: date | None,
    *,
    complete: bool,
    proven: bool = False,
) -> Report:
    """All static checks; for rules that are `proven` only what compiling them needs.

    When some file or rule could not be read (`complete` is false), nothing is said about what
    might have stood there.
    """
    report = Report()
    lists = _word_lists(files, report)
    _emergency(files, lists, report)
    _unique_ids(sources, report)
    _one_default(folder, sources, report, complete=complete)
    if len(sources) > RULE_LIMIT:
        nb, en = f"over {RULE_LIMIT} regler", f"more than {RULE_LIMIT} rules"
        report.problems.append(Problem(folder, 0, "", nb, en))
    known = _known(sources, world, complete=complete)
    for source in sources:
        _names(_Speller(source, known, report), world)
        _words(source, lists, report)
        _doubts(source, today, report)
    if not report.problems and not proven:
        routes = [source for source in sources if isinstance(source.rule, RouteRule)]
        _unreachable(routes, report)
        _tables(routes, world, report)
    return report


def rows(table: Table, world: World) -> dict[str, str]:
    """The rows of a table, keys in lower case as in the facts."""
    source = table.rows if table.rows is not None else world.tables[table.named or ""]
    return {key.lower(): department for key, department in source.items()}


def _word_lists(
    files: Sequence[tuple[Document, RulesFile]], report: Report
) -> dict[str, tuple[str, ...]]:
    lists: dict[str, tuple[str, ...]] = {}
    for document, file in files:
        for name, entries in file.word_lists.items():
            loc: Loc = ("word_lists", name)
            if name in lists:
                nb, en = "ordlisten finnes fra før", "the word list exists already"
                report.problems.append(document.problem(loc, nb, en))
            lists[name] = entries
            for index, entry in enumerate(entries):
                try:
                    keyword(entry)
                except WordError as error:
                    loc = ("word_lists", name, index)
                    report.problems.append(document.problem(loc, error.nb, error.en))
    return lists


def _emergency(
    files: Sequence[tuple[Document, RulesFile]],
    lists: Mapping[str, Sequence[str]],
    report: Report,
) -> None:
    for document, file in files:
        if file.emergency is None:
            continue
        loc: Loc = ("emergency", "any")
        words = _read(document, loc, file.emergency.any_, lists, report)
        report.emergency_words += tuple(words)
        loc = ("emergency", "none")
        report.emergency_excuses += tuple(_read(document, loc, file.emergency.none, lists, report))
        report.keywords |= {word.text: word for word in words}


def _read(
    document: Document,
    loc: Loc,
    words: Iterable[str],
    lists: Mapping[str, Sequence[str]],
    report: Report,
    at: Loc = (),
) -> list[Keyword]:
    found = []
    for index, text in enumerate(words):
        try:
            found.append(report.keywords.get(text) or keyword(text, lists))
        except WordError as error:
            nb, en = suggest(text[1:], lists) if text.startswith("$") else ("", "")
            place = (*loc, index)
            problem = document.problem(place, error.nb + nb, error.en + en, at)
            report.problems.append(problem)
    return found


def _unique_ids(sources: Sequence[Source], report: Report) -> None:
    first: dict[str, Source] = {}
    for source in sources:
        earlier = first.setdefault(source.rule.id, source)
        if earlier is not source:
            place = f"{earlier.document.name}:{earlier.line}"
            nb = f"id-en «{source.rule.id}» er brukt før ({place})"
            en = f"the id “{source.rule.id}” is used before ({place})"
            report.problems.append(source.problem(("id",), nb, en))


def _one_default(folder: str, sources: Sequence[Source], report: Report, *, complete: bool) -> None:
    routes = [source for source in sources if isinstance(source.rule, RouteRule)]
    defaults = [
        source for source in routes if isinstance(source.rule, RouteRule) and source.rule.default
    ]
    if complete and not defaults:
        nb = "mangler en standardregel (default: true) til slutt"
        en = "the default rule (default: true) at the end is missing"
        report.problems.append(Problem(folder, 0, "route", nb, en))
    for extra in defaults[1:]:
        nb, en = "det finnes allerede en standardregel", "there is a default rule already"
        report.problems.append(extra.problem(("default",), nb, en))
    if len(defaults) == 1 and defaults[0] is not routes[-1]:
        after = next(b for a, b in pairwise(routes) if a is defaults[0])
        nb = f"standardregelen skal stå sist, men «{after.rule.id}» kommer etter"
        en = f"the default rule must come last, but “{after.rule.id}” comes after it"
        report.problems.append(defaults[0].problem(("default",), nb, en))


class _Names(NamedTuple):
    """What may be named somewhere, and what to say of another name."""

    names: frozenset[str]
    nb: str
    en: str


def _known(sources: Sequence[Source], world: World, *, complete: bool) -> dict[str, _Names]:
    labels = [source.rule.then for source in sources if isinstance(source.rule, ClassifyRule)]
    tags = frozenset(tag for label in labels for tag in label.tags or ()) | {EMERGENCY_TAG}
    customers = frozenset(label.customer for label in labels if label.customer)
    spoken = {label.language for label in labels if label.language}
    languages = frozenset((*LANGUAGES, *world.languages, *spoken, UNKNOWN))
    ids = frozenset(source.rule.id for source in sources)
    unset = ("ingen regel i classify setter", "no classify rule sets")
    known = {
        "department": _Names(frozenset(world.departments), "ukjent avdeling", "unknown department"),
        "target": _Names(world.targets, "ukjent svarfrist", "unknown reply target"),
        "channel": _Names(world.channels, "ukjent kanal", "unknown channel"),
        "language": _Names(languages, "ukjent språk", "unknown language"),
        "table": _Names(frozenset(world.tables), "ukjent tabell", "unknown table"),
    }
    if complete:
        known["tag"] = _Names(tags, *unset)
        known["customer"] = _Names(customers, *unset)
        known["rule"] = _Names(ids, "ukjent regel", "unknown rule")
    return known


class _Speller(NamedTuple):
    """Looks up the names in one rule."""

    source: Source
    known: Mapping[str, _Names]
    report: Report

    def expect(self, kind: str, loc: Loc, *names: str | None) -> None:
        """Each name must be a known one of its kind; several stand in a list at `loc`."""
        if kind not in self.known:
            return
        known, nb, en = self.known[kind]
        for index, name in enumerate(names):
            if name is not None and name not in known:
                hint_nb, hint_en = suggest(name, known)
                self.report.problems.append(
                    self.source.problem(
                        (*loc, index), f"{nb} «{name}»{hint_nb}", f"{en} “{name}”{hint_en}"
                    )
                )


def _names(speller: _Speller, world: World) -> None:
    source, _, report = speller
    rule, expect = source.rule, speller.expect
    expect("target", ("then", "target"), rule.then.target)
    for loc, entries in _entries(rule):
        expect("channel", (*loc, "channel"), *entries.channel or ())
        expect("language", (*loc, "language"), *entries.language or ())
        expect("department", (*loc, "open"), *entries.open or ())
        if isinstance(rule, RouteRule):
            expect("tag", (*loc, "tags"), *entries.tags or ())
            expect("customer", (*loc, "customer"), *entries.customer or ())
        else:
            for name in ("tags", "customer"):
                if getattr(entries, name) is not None:
                    nb = "finnes først i route; classify setter den"
                    en = "exists in route only; classify sets it"
                    report.problems.append(source.problem((*loc, name), nb, en))
    if isinstance(rule, RouteRule):
        expect("department", ("then", "department"), rule.then.department)
        if rule.table:
            _table_names(speller, rule.table, world)
    for index, test in enumerate(rule.tests):
        loc = ("tests", index)
        expect("channel", (*loc, "given", "channel"), test.given.channel)
        expect("rule", (*loc, "expect_not"), test.expect_not)
        if test.expect:
            expect("department", (*loc, "expect", "department"), test.expect.department)
            expect("target", (*loc, "expect", "target"), test.expect.target)
            expect("rule", (*loc, "expect", "rule"), test.expect.rule)


def _table_names(speller: _Speller, table: Table, world: World) -> None:
    speller.expect("table", ("table", "named"), table.named)
    if table.named is not None and table.named not in world.tables:
        return
    place: Loc = ("table", "rows") if table.rows is not None else ("table", "named")
    for key, department in rows(table, world).items():
        speller.expect("department", (*place, key), department)


def _entries(rule: ClassifyRule | RouteRule) -> list[tuple[Loc, Entries]]:
    found: list[tuple[Loc, Entries]] = []
    if rule.when:
        found.append((("when",), rule.when))
        if rule.when.not_:
            found.append((("when", "not"), rule.when.not_))
    return found


def _words(source: Source, lists: Mapping[str, Sequence[str]], report: Report) -> None:
    for loc, entries in _entries(source.rule):
        for index, group in enumerate(entries.words or ()):
            for name, words in (("any", group.any_), ("all", group.all_), ("none", group.none)):
                place = (*loc, "words", index, name)
                read = _read(source.document, place, words, lists, report, source.at)
                report.keywords |= {word.text: word for word in read}
                for number, text in enumerate(words):
                    if text.isalpha() and len(text) < SHORT_WORD:
                        nb = f"«{text}» er kort; skriv «={text}» for bare det ordet"
                        en = f"“{text}” is short; write “={text}” for that very word"
                        report.warnings.append(source.problem((*place, number), nb, en))


def _doubts(source: Source, today: date | None, report: Report) -> None:
    rule = source.rule
    if not rule.tests and not (isinstance(rule, RouteRule) and (rule.default or rule.table)):
        nb, en = f"regelen «{rule.id}» har ingen test", f"the rule “{rule.id}” has no test"
        report.warnings.append(source.problem((), nb, en))
    if today and rule.valid and rule.valid.to and rule.valid.to <= today:
        nb, en = "regelen gjelder ikke lenger", "the rule is valid no longer"
        report.warnings.append(source.problem(("valid", "to"), nb, en))


def _tables(routes: Sequence[Source], world: World, report: Report) -> None:
    """Addresses that a rule and a table both claim."""
    claimed: dict[str, tuple[str, str]] = {}
    for source in routes:
        rule = source.rule
        table = rule.table if isinstance(rule, RouteRule) else None
        if table and table.on == "recipient" and not rule.when:
            for address, department in rows(table, world).items():
                claimed.setdefault(address, (rule.id, department))
    for source in routes:
        rule = source.rule
        if not isinstance(rule, RouteRule) or rule.when is None or rule.table:
            continue
        if rule.when.model_fields_set != {"recipient"}:
            continue
        for index, pattern in enumerate(rule.when.recipient or ()):
            table_id, other = claimed.get(pattern, ("", rule.then.department))
            if other != rule.then.department:
                nb = f"tabellen i «{table_id}» sender «{pattern}» til {other}"
                en = f"the table in “{table_id}” sends “{pattern}” to {other}"
                loc: Loc = ("when", "recipient", index)
                report.warnings.append(source.problem(loc, nb, en))


_SETS = frozenset(("channel", "language", "tags", "customer"))
_PATTERNS = frozenset(("did", "recipient", "sender", "attachments"))


class _Condition(NamedTuple):
    """What must hold for a rule, where that can be compared with other rules."""

    source: Source
    when: When
    asked: frozenset[str]
    coverages: tuple[Coverage, ...]
    """Of `any`, for each group of words."""


def _unreachable(routes: Sequence[Source], report: Report) -> None:
    """A rule is never reached when an earlier one matches all that it matches."""
    conditions: list[_Condition] = []
    for source in routes:
        rule = source.rule
        if not isinstance(rule, RouteRule) or rule.when is None or rule.table:
            continue
        groups = rule.when.words or ()
        coverages = [Coverage([report.keywords[text] for text in group.any_]) for group in groups]
        later = _Condition(source, rule.when, _asked(rule), tuple(coverages))
        for earlier in conditions:
            if earlier.asked <= later.asked and _implies(later, earlier, report.keywords):
                place = f"{earlier.source.document.name}:{earlier.source.line}"
                nb = f"nås aldri: «{earlier.source.rule.id}» ({place}) tar alt dette"
                en = f"never reached: “{earlier.source.rule.id}” ({place}) takes all of this"
                report.problems.append(source.problem(("when",), nb, en))
                break
        conditions.append(later)


def _asked(rule: RouteRule) -> frozenset[str]:
    names = {name for name in When.model_fields if getattr(rule.when, name) is not None}
    return frozenset(names | ({"valid"} if rule.valid else set()))


def _implies(narrow: _Condition, wide: _Condition, keywords: Mapping[str, Keyword]) -> bool:
    """Whether every contact that fits `narrow` surely fits `wide`. May miss, never errs."""
    a, b = narrow.when, wide.when
    if wide.source.rule.valid and wide.source.rule.valid != narrow.source.rule.valid:
        return False
    for name in _SETS & wide.asked:
        if not _subset(getattr(a, name), getattr(b, name)):
            return False
    for name in _PATTERNS & wide.asked:
        if not all(map(matcher(getattr(b, name)), getattr(a, name))):
            return False
    if b.open is not None and not _subset(b.open, a.open):
        return False
    if a.not_ and b.not_ and not _excludes(a.not_, b.not_):
        return False
    return all(
        any(_group_implies(mine, theirs, covered, keywords) for mine in a.words or ())
        for theirs, covered in zip(b.words or (), wide.coverages, strict=True)
    )


def _subset(narrow: Collection[str] | None, wide: Collection[str] | None) -> bool:
    return wide is None or set(narrow or ()) <= set(wide)


def _excludes(narrow: Entries, wide: Entries) -> bool:
    """Whether the exceptions of `narrow` leave out all that those of `wide` leave out."""
    for name in Entries.model_fields:
        mine, theirs = getattr(narrow, name), getattr(wide, name)
        if theirs is None or mine == theirs:
            continue
        if mine is None or name in ("open", "words") or not set(theirs) <= set(mine):
            return False
    return True


def _group_implies(
    narrow: WordGroup, wide: WordGroup, covered: Coverage, keywords: Mapping[str, Keyword]
) -> bool:
    fields, wide_fields = set(narrow.in_), set(wide.in_)
    if not fields <= wide_fields or (wide.none and fields != wide_fields):
        return False
    if not set(wide.none) <= set(narrow.none) or not set(wide.all_) <= set(narrow.all_):
        return False
    if not wide.any_:
        return True
    if any(covered.covers(keywords[text]) for text in narrow.all_):
        return True
    return bool(narrow.any_) and all(covered.covers(keywords[text]) for text in narrow.any_)
