"""Strict YAML: a scalar stays the text that was written, a complaint has a file and a line.

YAML guesses types (`no` is false, `8:00` is 480, `+4763864000` loses its plus), keeps the last of
two equal keys and lets anchors multiply. None of that happens here; the schema converts. Used by
rulesets and by config.yaml.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

Data: TypeAlias = "dict[str, Data] | list[Data] | str | None"
Loc: TypeAlias = "tuple[str | int, ...]"

DEPTH_LIMIT = 32
"""Levels of nesting; deeper files are refused."""

_LOADER: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing to put right. `line` counts from 1; 0 means the file as a whole."""

    file: str
    line: int
    path: str
    """Dotted path inside the file or the rule, such as `when.channel`; may be empty."""
    nb: str
    en: str

    def text(self, language: str = "nb") -> str:
        """`FILE:LINE: path: message`, in English for `en` and in bokmål otherwise."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        message = self.en if language == "en" else self.nb
        return ": ".join(part for part in (place, self.path, message) if part)


class DocumentError(Exception):
    """A file cannot be used; `problems` has everything that is wrong with it, in reading order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__(self.text())

    def text(self, language: str = "nb") -> str:
        """One line for each problem."""
        return "\n".join(problem.text(language) for problem in self.problems)


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file: its data and the line on which each part of it stands."""

    name: str
    data: Data
    lines: Mapping[Loc, int] = field(repr=False)

    def find(self, loc: Loc) -> Loc:
        """The parts of `loc` that exist in the file; labels that pydantic adds are passed over."""
        found: list[str | int] = []
        here = self.data
        for part in loc:
            if isinstance(here, dict) and part in here:
                here = here[str(part)]
            elif isinstance(here, list) and isinstance(part, int) and part < len(here):
                here = here[part]
            else:
                continue
            found.append(part)
        return tuple(found)

    def line(self, loc: Loc) -> int:
        """The line of the deepest part of `loc` that the file has."""
        return self.lines[self.find(loc)]

    def problem(self, loc: Loc, nb: str, en: str, at: Loc = ()) -> Problem:
        """A problem at `loc`, seen from the part of the file that `at` names."""
        path = self.find((*at, *loc))[len(at) :]
        return Problem(self.name, self.line((*at, *loc)), ".".join(map(str, path)), nb, en)


def fault(nb: str, en: str) -> PydanticCustomError:
    """An error for pydantic validators to raise, carrying its message in both languages."""
    return PydanticCustomError("fault", "{en}", {"nb": nb, "en": en})


def read_document(path: Path) -> Document:
    """Read a YAML file. Raises DocumentError with every structural problem found."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        nb, en = "filen finnes ikke", "the file does not exist"
        raise DocumentError([Problem(path.name, 0, "", nb, en)]) from None
    except OSError as error:
        nb, en = f"filen kan ikke leses ({error.strerror})", f"cannot be read ({error.strerror})"
        raise DocumentError([Problem(path.name, 0, "", nb, en)]) from None
    return parse_document(raw, path.name)


def parse_document(raw: bytes, name: str) -> Document:
    """Parse YAML bytes (UTF-8, with or without BOM). Raises DocumentError."""
    try:
        text = unicodedata.normalize("NFC", raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        nb, en = "filen er ikke UTF-8", "the file is not UTF-8"
        raise DocumentError([Problem(name, line, "", nb, en)]) from None
    builder = _Builder(name)
    try:
        data = builder.document(yaml.parse(text, Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        # An unclosed quote is noticed at the end of the file; the fault is where it begins.
        marks = (error.problem_mark, error.context_mark)
        at_end = "end of stream" in (error.problem or "")
        mark = next((mark for mark in (marks[::-1] if at_end else marks) if mark), None)
        nb, en = _syntax(f"{error.context or ''} {error.problem or ''}")
        raise DocumentError([Problem(name, mark.line + 1 if mark else 0, "", nb, en)]) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        nb, en = "tegnet er ikke tillatt i YAML", "a character that YAML does not allow"
        raise DocumentError([Problem(name, line, "", nb, en)]) from None
    if builder.problems:
        raise DocumentError(builder.problems)
    return Document(name, data, builder.lines)


class _Builder:
    """Turns parser events into plain data; collects problems instead of stopping at the first."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: dict[Loc, int] = {(): 1}
        self.problems: list[Problem] = []

    def document(self, events: Iterator[yaml.Event]) -> Data:
        data: Data = None
        seen = False
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                if seen:
                    nb, en = "bare ett dokument i hver fil", "only one document in each file"
                    self._refuse(event, (), nb, en)
                seen = True
            elif isinstance(event, yaml.NodeEvent):
                data = self._node(event, events, ())
        return data

    def _node(self, event: yaml.Event, events: Iterator[yaml.Event], loc: Loc) -> Data:
        self.lines.setdefault(loc, _line(event))
        if getattr(event, "anchor", None):
            nb, en = (
                "ankre og henvisninger (& og *) brukes ikke her; sett tekst med * i hermetegn",
                ("anchors and aliases (& and *) are not used here; put text with * in quotes"),
            )
            self._refuse(event, loc, nb, en)
        if getattr(event, "tag", None):
            nb, en = "typemerker (!) brukes ikke her", "type tags (!) are not used here"
            self._refuse(event, loc, nb, en)
        if len(loc) >= DEPTH_LIMIT:
            nb, en = "for mange nivåer", "nested too deep"
            raise DocumentError([Problem(self.name, _line(event), "", nb, en)])
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(events, loc)
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Data] = []
            while not isinstance(inner := next(events), yaml.SequenceEndEvent):
                items.append(self._node(inner, events, (*loc, len(items))))
            return items
        if isinstance(event, yaml.ScalarEvent) and (event.value or event.style):
            return str(event.value)
        return None

    def _mapping(self, events: Iterator[yaml.Event], loc: Loc) -> dict[str, Data]:
        result: dict[str, Data] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            key = self._node(event, events, (*loc, "\0"))
            inner = (*loc, str(key))
            if not isinstance(key, str):
                nb, en = "navnet på et felt må være ett ord", "the name of a key must be one word"
                self._refuse(event, loc, nb, en)
            elif key in result:
                nb = f"feltet står to ganger (først på linje {self.lines[inner]})"
                en = f"the key stands twice (first on line {self.lines[inner]})"
                self._refuse(event, inner, nb, en)
            self.lines.pop((*loc, "\0"), None)
            self.lines.setdefault(inner, _line(event))
            result[str(key)] = self._node(next(events), events, inner)
        return result

    def _refuse(self, event: yaml.Event, loc: Loc, nb: str, en: str) -> None:
        path = ".".join(str(part) for part in loc if part != "\0")
        self.problems.append(Problem(self.name, _line(event), path, nb, en))


def _line(event: yaml.Event) -> int:
    assert event.start_mark is not None  # noqa: S101  # every parsed event has one
    return event.start_mark.line + 1


_SYNTAX = (
    (
        "mapping values are not allowed",
        "kolon midt i en tekst eller feil innrykk; sett teksten i hermetegn",
        "a colon inside a text or a wrong indent; put the text in quotes",
    ),
    (
        "cannot start any token",
        "tegnet kan ikke stå her; bruk mellomrom, ikke tabulator, og sett tekst i hermetegn",
        "this character cannot stand here; use spaces, not tabs, and put text in quotes",
    ),
    (
        "tab character",
        "innrykk skal være mellomrom, ikke tabulator",
        "indent with spaces, not tabs",
    ),
    (
        "unexpected end of stream",
        "hermetegn eller klamme som ikke er lukket",
        "a quote or bracket that is not closed",
    ),
    (
        "undefined alias",
        "tekst som begynner med *, må stå i hermetegn",
        "text that starts with * must be in quotes",
    ),
    (
        "could not find expected ':'",
        "mangler kolon etter feltnavnet",
        "the colon after the key is missing",
    ),
    (
        "flow",
        "listen eller klammen er ikke lukket, eller det mangler komma",
        "the list or bracket is not closed, or a comma is missing",
    ),
    ("block", "feil innrykk eller mangler bindestrek", "wrong indent or missing dash"),
)


def _syntax(problem: str) -> tuple[str, str]:
    """The parser's complaint in plain words."""
    for fragment, nb, en in _SYNTAX:
        if fragment in problem:
            return nb, en
    return "kan ikke leses som YAML", f"not valid YAML ({problem.strip()})"


def suggest(word: str, known: Iterable[str]) -> tuple[str, str]:
    """What to add to «ukjent …», nb and en: the nearest known word, or all when they are few."""
    words = sorted(set(known))
    near = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    if near:
        return f", mente du «{near[0]}»?", f", did you mean “{near[0]}”?"
    if words and len(words) <= 12:
        return f"; kjente: {', '.join(words)}", f"; known: {', '.join(words)}"
    return "", ""


def problems_of(
    error: ValidationError, document: Document, model: type[BaseModel], at: Loc = ()
) -> list[Problem]:
    """A pydantic error in plain words, one problem for each part that is wrong.

    `model` is what was validated and `at` the place of its data in the document; paths are
    relative to `at`.
    """
    problems = []
    for details in error.errors(include_url=False):
        loc = details["loc"]
        found = document.find((*at, *loc))[len(at) :]
        if details["type"] in ("missing", "extra_forbidden") and loc[-1:] != found[-1:]:
            found = (*found, loc[-1])
        nb, en = _message(details, model)
        path = ".".join(map(str, found))
        problems.append(Problem(document.name, document.line((*at, *loc)), path, nb, en))
    return problems


def _message(details: ErrorDetails, model: type[BaseModel]) -> tuple[str, str]:
    kind, loc, value = details["type"], details["loc"], details["input"]
    if kind == "fault":
        return str(details["ctx"]["nb"]), str(details["ctx"]["en"])
    if kind == "extra_forbidden":
        nb, en = suggest(str(loc[-1]), _keys(_types_at(model, loc[:-1])))
        return "ukjent felt" + nb, "unknown key" + en
    if kind in ("literal_error", "enum") and isinstance(value, str):
        nb, en = suggest(value, _values(_types_at(model, loc)))
        return f"ukjent verdi «{value}»{nb}", f"unknown value “{value}”{en}"
    if value is None and kind != "missing":
        return "feltet er tomt", "the key is empty"
    if kind in _MESSAGES:
        nb, en = _MESSAGES[kind]
        context = details.get("ctx", {})
        return nb.format_map(context), en.format_map(context)
    return f"ugyldig verdi ({details['msg']})", details["msg"]


_INTEGER = ("skal være et helt tall", "must be a whole number")
_NUMBER = ("skal være et tall", "must be a number")
_TEXT = ("skal være én tekst", "must be a single text")
_LIST = ("skal være en liste", "must be a list")
_KEYS = ("skal ha felter under seg", "must have keys below it")
_YES_NO = ("skal være true eller false", "must be true or false")
_DATE = ("skal være en dato, som 2026-12-24", "must be a date such as 2026-12-24")
_TIME = ("skal være et klokkeslett, som 08:00", "must be a time of day such as 08:00")
_INSTANT = (
    "skal være et tidspunkt, som 2026-12-24T12:00:00+01:00",
    "must be a time such as 2026-12-24T12:00:00+01:00",
)
_URL = ("skal være en nettadresse", "must be a URL")
_MESSAGES = {
    "missing": ("mangler", "is missing"),
    "string_type": _TEXT,
    "list_type": _LIST,
    "tuple_type": _LIST,
    "set_type": _LIST,
    "frozen_set_type": _LIST,
    "dict_type": _KEYS,
    "mapping_type": _KEYS,
    "model_type": _KEYS,
    "model_attributes_type": _KEYS,
    "bool_type": _YES_NO,
    "bool_parsing": _YES_NO,
    "int_type": _INTEGER,
    "int_parsing": _INTEGER,
    "int_from_float": _INTEGER,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "date_type": _DATE,
    "date_parsing": _DATE,
    "date_from_datetime_parsing": _DATE,
    "date_from_datetime_inexact": _DATE,
    "time_type": _TIME,
    "time_parsing": _TIME,
    "datetime_type": _INSTANT,
    "datetime_parsing": _INSTANT,
    "datetime_from_date_parsing": _INSTANT,
    "timezone_aware": _INSTANT,
    "url_type": _URL,
    "url_parsing": _URL,
    "url_scheme": _URL,
    "string_too_short": ("er for kort (minst {min_length})", "too short (at least {min_length})"),
    "string_too_long": ("er for lang (høyst {max_length})", "too long (at most {max_length})"),
    "too_short": ("trenger minst {min_length}", "needs at least {min_length}"),
    "too_long": ("høyst {max_length} er tillatt", "at most {max_length} are allowed"),
    "greater_than": ("skal være over {gt}", "must be more than {gt}"),
    "greater_than_equal": ("skal være minst {ge}", "must be at least {ge}"),
    "less_than": ("skal være under {lt}", "must be less than {lt}"),
    "less_than_equal": ("skal være høyst {le}", "must be at most {le}"),
    "string_pattern_mismatch": (
        "passer ikke med mønsteret {pattern}",
        "does not fit the pattern {pattern}",
    ),
}


def _types_at(model: type[BaseModel], loc: Loc) -> list[Any]:
    """The types that may stand at `loc`, followed through the model's fields."""
    types: list[Any] = [model]
    for part in loc:
        below = [inner for kind in types for inner in _below(kind, part)]
        types = below or types
    return types


def _below(kind: Any, part: str | int) -> list[Any]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, info in kind.model_fields.items():
            if part in (name, info.alias):
                return _flat(info.annotation)
        return []
    arguments = [argument for argument in get_args(kind) if argument is not Ellipsis]
    origin = get_origin(kind)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _flat(arguments[-1])
    # A number leads into a sequence; anything else is the name of a union member.
    return _flat(arguments[0]) if isinstance(origin, type) and isinstance(part, int) else []


def _flat(kind: Any) -> list[Any]:
    """The members of a union, without `Annotated` around them."""
    if get_origin(kind) is Annotated:
        return _flat(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return [inner for member in get_args(kind) for inner in _flat(member)]
    return [kind]


def _keys(types: Iterable[Any]) -> set[str]:
    models = [kind for kind in types if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return {info.alias or name for model in models for name, info in model.model_fields.items()}


def _values(types: Iterable[Any]) -> set[str]:
    values: set[str] = set()
    for kind in types:
        if get_origin(kind) is Literal:
            values.update(map(str, get_args(kind)))
        elif isinstance(kind, type) and issubclass(kind, Enum):
            values.update(str(member.value) for member in kind)
    return values
