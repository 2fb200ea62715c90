"""Load a folder of rules, check it, compile it. The result is immutable and named by its hash.

Files count in the order of their names, rules in the order they stand; nothing is overridden by a
later file. Whatever is wrong is reported at once, each fault with file and line.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ValidationError

from rules import checks
from rules.agenda import Agenda
from rules.conditions import Check, compile_when, in_table, valid_between
from rules.document import Document, DocumentError, Loc, Problem, problems_of, read_document
from rules.schema import ClassifyRule, RouteRule, RulesFile, RuleTest, Valid
from rules.words import Keyword, Lexicon

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

ENGINE = 1
"""Raised when the same rules would decide otherwise than before; part of every hash."""

TIMEZONE = ZoneInfo("Europe/Oslo")
_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, ready to be asked."""

    id: str
    title: str
    owner: str
    stage: str
    """`classify` or `route`."""
    file: str
    line: int
    checks: tuple[Check, ...] = field(repr=False)
    department: str
    """Empty when the row of a table says it, and in `classify`."""
    tags: tuple[str, ...]
    target: str
    labels: Mapping[str, str]
    """What a classify rule sets beside tags: kind, customer, language, sensitivity, target."""
    on: str = ""
    """For a table: `recipient`, `sender` or `did`."""
    rows: Mapping[str, str] = field(default_factory=dict, repr=False)
    default: bool = False
    tests: tuple[tuple[int, RuleTest], ...] = field(default=(), repr=False)
    """Each with its line."""
    window: tuple[datetime | None, datetime | None] = (None, None)
    """When the rule counts: from the first instant until just before the second."""


@dataclass(frozen=True, slots=True)
class Ruleset:
    """A checked and compiled set of rules."""

    hash: str
    """sha256 of `content`, in hexadecimal."""
    content: str
    """All that decides, as canonical JSON: to be kept with the hash."""
    classify: tuple[Rule, ...]
    route: tuple[Rule, ...]
    emergency: frozenset[str]
    emergency_words: tuple[Keyword, ...] = field(repr=False)
    emergency_excuses: tuple[Keyword, ...] = field(repr=False)
    keywords: Mapping[str, Keyword] = field(repr=False)
    lexicon: Lexicon = field(repr=False)
    emergency_lexicon: Lexicon = field(repr=False)
    """The emergency words alone: all that is looked for in a signature, and in a talk that has
    begun."""
    classify_agenda: Agenda = field(repr=False)
    route_agenda: Agenda = field(repr=False)
    departments: Mapping[str, str] = field(repr=False)
    """Slug -> name for people."""
    languages: tuple[str, ...]
    warnings: tuple[Problem, ...]

    @property
    def rules(self) -> tuple[Rule, ...]:
        """All rules, in the order in which they are asked."""
        return self.classify + self.route


def load(
    folder: Path,
    *,
    departments: Collection[str],
    targets: Collection[str],
    tables: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
    today: date | None = None,
    channels: Collection[str] = checks.CHANNELS,
    languages: tuple[str, ...] = ("nb", "nn", "en"),
    proven: bool = False,
) -> Ruleset:
    """Read every `*.yaml` in `folder`. Raises DocumentError with all that is wrong.

    `departments` are slugs, or slugs with the names that reasons use. `tables` are the named
    tables of the configuration, `languages` those that may be detected. With `today`, rules whose
    time is over give a warning. Rules that have passed already are `proven`: comparing each with
    every other is left out.
    """
    names = dict(departments) if isinstance(departments, Mapping) else {d: d for d in departments}
    problems: list[Problem] = []
    files: list[tuple[Document, RulesFile]] = []
    for path in sorted(folder.glob("*.yaml")):
        try:
            document = read_document(path)
        except DocumentError as error:
            problems += error.problems
            continue
        found = _validate(RulesFile, document, (), problems)
        if found is not None:
            files.append((document, found))
    sources = [
        source for document, found in files for source in _rules_of(document, found, problems)
    ]
    world = checks.World(
        departments=names,
        targets=frozenset(targets),
        tables=tables,
        channels=frozenset(channels),
        languages=languages,
    )
    report = checks.check(
        folder.name, files, sources, world, today, complete=not problems, proven=proven
    )
    problems += report.problems
    if problems:
        raise DocumentError(problems)

    content = _canonical(files, sources, world)
    rules = [_compile(source, world) for source in sources]
    classify = tuple(rule for rule in rules if rule.stage == "classify")
    route = tuple(rule for rule in rules if rule.stage == "route")
    return Ruleset(
        hash=hashlib.sha256(content.encode()).hexdigest(),
        content=content,
        classify=classify,
        route=route,
        emergency=frozenset(word.text for word in report.emergency_words),
        emergency_words=report.emergency_words,
        emergency_excuses=report.emergency_excuses,
        keywords=MappingProxyType(report.keywords),
        lexicon=Lexicon(report.keywords.values()),
        emergency_lexicon=Lexicon(report.emergency_words),
        classify_agenda=Agenda([(rule.id, rule.checks) for rule in classify]),
        route_agenda=Agenda([(rule.id, rule.checks) for rule in route]),
        departments=MappingProxyType(names),
        languages=tuple(languages),
        warnings=tuple(sorted(report.warnings)),
    )


def _validate(
    model: type[_Model], document: Document, at: Loc, problems: list[Problem]
) -> _Model | None:
    data = document.data
    for part in at:
        data = data[part]  # type: ignore[index]
    try:
        return model.model_validate({} if data is None and not at else data)
    except ValidationError as error:
        problems += problems_of(error, document, model, at)
        return None


def _rules_of(document: Document, file: RulesFile, problems: list[Problem]) -> list[checks.Source]:
    sources = []
    for index in range(len(file.classify)):
        at: Loc = ("classify", index)
        rule = _validate(ClassifyRule, document, at, problems)
        if rule is not None:
            sources.append(checks.Source(document, at, rule))
    for index in range(len(file.route)):
        at = ("route", index)
        route = _validate(RouteRule, document, at, problems)
        if route is not None:
            sources.append(checks.Source(document, at, route))
    return sources


def _compile(source: checks.Source, world: checks.World) -> Rule:
    document, at, rule = source
    window = _window(rule.valid) if rule.valid else (None, None)
    conditions: tuple[Check, ...] = (valid_between(*window),) if rule.valid else ()
    if rule.when:
        conditions += compile_when(rule.when)
    table = rule.table if isinstance(rule, RouteRule) else None
    rows = checks.rows(table, world) if table else {}
    if table:
        conditions += (in_table(table.on, rows),)
    then = rule.then.model_dump(exclude_none=True)
    return Rule(
        id=rule.id,
        title=rule.title,
        owner=rule.owner,
        stage=str(at[0]),
        file=document.name,
        line=source.line,
        checks=conditions,
        department=then.pop("department", ""),
        tags=then.pop("tags", ()),
        target=then.get("target", ""),
        labels=MappingProxyType(then),
        on=table.on if table else "",
        rows=MappingProxyType(rows),
        default=isinstance(rule, RouteRule) and rule.default,
        tests=tuple(
            (document.line((*at, "tests", index)), test) for index, test in enumerate(rule.tests)
        ),
        window=window,
    )


def _window(valid: Valid) -> tuple[datetime | None, datetime | None]:
    """Local midnights as UTC instants, so that deciding needs no time zone."""
    start, end = (
        datetime.combine(day, time(), TIMEZONE).astimezone(UTC) if day else None
        for day in (valid.from_, valid.to)
    )
    return start, end


def _canonical(
    files: list[tuple[Document, RulesFile]], sources: list[checks.Source], world: checks.World
) -> str:
    """All that decides: rules, word lists, emergency words, and the configuration they refer to."""
    rules = [
        [
            str(at[0]),
            rule.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"tests"}),
        ]
        for _, at, rule in sources
    ]
    tables = {
        rule.table.named: dict(world.tables[rule.table.named])
        for _, _, rule in sources
        if isinstance(rule, RouteRule) and rule.table and rule.table.named
    }
    content = {
        "engine": ENGINE,
        "rules": rules,
        "word_lists": {k: v for _, file in files for k, v in file.word_lists.items()},
        "emergency": [
            file.emergency.model_dump(by_alias=True) for _, file in files if file.emergency
        ],
        "departments": dict(world.departments),
        "targets": sorted(world.targets),
        "tables": tables,
        "languages": list(world.languages),
    }
    return json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
