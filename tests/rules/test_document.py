"""Reading YAML: nothing is guessed, and every complaint says where and what to write instead."""

from enum import StrEnum
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from rules.document import (
    DEPTH_LIMIT,
    DocumentError,
    Problem,
    fault,
    parse_document,
    problems_of,
    read_document,
    suggest,
)


def problem_in(text: str | bytes) -> Problem:
    raw = text.encode() if isinstance(text, str) else text
    with pytest.raises(DocumentError) as caught:
        parse_document(raw, "a.yaml")
    assert len(caught.value.problems) == 1, caught.value
    return caught.value.problems[0]


@pytest.mark.parametrize(
    "written",
    [
        "no", "yes", "on", "off", "null", "~", "8:00", "17:30", "08:00", "0123", "+4763864000",
        "63864000", "2026-12-24", "1.10", "1e3", ".inf", "0x1F", "true", "=", "<<",
    ],
)  # fmt: skip
def test_scalar_stays_the_text_that_was_written(written: str) -> None:
    assert parse_document(f"a: {written}\n{written}: [{written}]".encode(), "a.yaml").data == {
        "a": written,
        written: [written],
    }


def test_empty_is_none_but_an_empty_text_is_a_text() -> None:
    document = parse_document(b"a:\nb: ''\nc: [x, '']\n", "a.yaml")
    assert document.data == {"a": None, "b": "", "c": ["x", ""]}
    assert parse_document(b"", "a.yaml").data is None
    assert parse_document(b"# only a comment\n", "a.yaml").data is None


def test_letters_are_composed_and_a_byte_order_mark_is_no_letter() -> None:
    decomposed = "va\N{COMBINING RING ABOVE}r: ja".encode("utf-8-sig")
    assert parse_document(decomposed, "a.yaml").data == {"vår": "ja"}


def test_every_part_has_its_line_and_a_missing_part_that_of_its_parent() -> None:
    document = parse_document(b"a:\n  - b: 1\n    c:\n      d: 2\n  - e\n", "a.yaml")
    assert document.line(()) == 1
    assert document.line(("a",)) == 1
    assert document.line(("a", 0, "b")) == 2
    assert document.line(("a", 0, "c", "d")) == 4
    assert document.line(("a", 1)) == 5
    assert document.line(("a", 0, "c", "missing")) == 3
    assert document.line(("a", 7, "c")) == 1
    assert document.line(("a", 0, "function-before[x()]", "c", "d")) == 4


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "a: feltet står to ganger (først på linje 1)"),
        ("x:\n  a: 1\n  a: 2\n", 3, "x.a: feltet står to ganger (først på linje 2)"),
        ("a: &anker 1\n", 1, "ankre"),
        ("a: 1\nb: *skatt\n", 2, "hermetegn"),
        ("a: !!python/object:os.system x\n", 1, "typemerker"),
        ("a: !x 1\n", 1, "typemerker"),
        ("a: 1\n---\nb: 2\n", 2, "ett dokument"),
        ("a:\n  ? [x, y]\n  : 1\n", 2, "ett ord"),
        ("a: 1\n\tb: 2\n", 2, "tabulator"),
        ("a: b: c\n", 1, "kolon midt i en tekst"),
        ('a: "åpen\nb: 1\n', 1, "ikke er lukket"),
        ("a: [1, 2\nb: 3\n", 2, "ikke lukket"),
        ("a:\n - x\n  y: 1\n", 3, "innrykk"),
        ("a: 1\nord\n", 3, "mangler kolon"),
        ("a: @x\n", 1, "tegnet kan ikke stå her"),
        (b"a: 1\nb: \xff\n", 2, "ikke UTF-8"),
        (b"a: 1\nb: \x07\n", 2, "ikke tillatt"),
        ("a: " + "[" * (DEPTH_LIMIT + 1) + "]" * (DEPTH_LIMIT + 1), 1, "for mange nivåer"),
        ("%YAML 9.9\n---\na: 1\n", 1, "kan ikke leses som YAML"),
    ],
)
def test_bad_structure_is_explained_at_its_line(text: str | bytes, line: int, words: str) -> None:
    problem = problem_in(text)
    assert problem.line == line
    assert problem.text().startswith(f"a.yaml:{line}: ")
    assert words in problem.text()
    assert problem.text("en") != problem.text("nb")


def test_structural_problems_come_all_at_once() -> None:
    with pytest.raises(DocumentError) as caught:
        parse_document(b"a: 1\na: 2\nb: !x 3\nb: 4\n", "a.yaml")
    assert [problem.line for problem in caught.value.problems] == [2, 3, 4]
    assert len(str(caught.value).splitlines()) == 3


def test_files_that_cannot_be_read(tmp_path) -> None:
    with pytest.raises(DocumentError, match=r"^borte\.yaml: filen finnes ikke$"):
        read_document(tmp_path / "borte.yaml")
    with pytest.raises(DocumentError, match="kan ikke leses"):
        read_document(tmp_path)
    (tmp_path / "a.yaml").write_text("a: 1")
    assert read_document(tmp_path / "a.yaml").data == {"a": "1"}


class Kind(StrEnum):
    SMTP = "smtp"
    LMTP = "lmtp"


def _even(value: int) -> int:
    if value % 2:
        raise fault("skal være et partall", "must be even")
    return value


class Listen(BaseModel):
    model_config = ConfigDict(extra="forbid")
    host: str = Field(default="127.0.0.1", min_length=2)
    port: int = Field(default=25, gt=0, lt=65536)
    kind: Kind = Kind.SMTP
    tls: bool = False


class Number(BaseModel):
    model_config = ConfigDict(extra="forbid")
    number: str
    use: Literal["voice", "sms"] | None = None
    pair: Annotated[int, AfterValidator(_even)] = 2


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")
    listen: Listen = Listen()
    numbers: list[Number] = []
    named: dict[str, Number] = {}
    either: Listen | list[str] | None = None
    from_: str = Field(default="", alias="from")
    ratio: complex = 0


def texts(yaml: str, language: str = "nb") -> list[str]:
    document = parse_document(yaml.encode(), "config.yaml")
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate(document.data)
    problems = problems_of(caught.value, document, Settings)
    return [problem.text(language) for problem in sorted(problems)]


@pytest.mark.parametrize(
    ("yaml", "expected"),
    [
        ("\nlisen: {}", "config.yaml:2: lisen: ukjent felt, mente du «listen»?"),
        ("fro: x", "config.yaml:1: fro: ukjent felt, mente du «from»?"),
        ("listen:\n  prt: 1", "config.yaml:2: listen.prt: ukjent felt, mente du «port»?"),
        (
            "numbers:\n - number: a\n   use: voic",
            "config.yaml:3: numbers.0.use: ukjent verdi «voic», mente du «voice»?",
        ),
        (
            "named:\n  x:\n    number: a\n    usee: 1",
            "config.yaml:4: named.x.usee: ukjent felt, mente du «use»?",
        ),
        (
            "listen:\n  kind: lmtpp",
            "config.yaml:2: listen.kind: ukjent verdi «lmtpp», mente du «lmtp»?",
        ),
        (
            "listen:\n  zzz: 1",
            "config.yaml:2: listen.zzz: ukjent felt; kjente: host, kind, port, tls",
        ),
        ("numbers:\n  - use: sms", "config.yaml:2: numbers.0.number: mangler"),
        ("listen:\n  port: tjue", "config.yaml:2: listen.port: skal være et helt tall"),
        ("listen:\n  port: 70000", "config.yaml:2: listen.port: skal være under 65536"),
        ("listen:\n  port:", "config.yaml:2: listen.port: feltet er tomt"),
        ("listen:\n  host: x", "config.yaml:2: listen.host: er for kort (minst 2)"),
        ("listen:\n  tls: kanskje", "config.yaml:2: listen.tls: skal være true eller false"),
        ("listen: [x]", "config.yaml:1: listen: skal ha felter under seg"),
        ("numbers: x", "config.yaml:1: numbers: skal være en liste"),
        (
            "numbers:\n  - number: a\n    pair: 3",
            "config.yaml:3: numbers.0.pair: skal være et partall",
        ),
    ],
)
def test_schema_faults_read_as_plain_words(yaml: str, expected: str) -> None:
    assert texts(yaml) == [expected]


def test_faults_in_english() -> None:
    yaml = "lisen: 1\nnumbers:\n  - number: a\n    use: voic\n  - number: b\n    pair: 3\n"
    assert texts(yaml, "en") == [
        "config.yaml:1: lisen: unknown key, did you mean “listen”?",
        "config.yaml:4: numbers.0.use: unknown value “voic”, did you mean “voice”?",
        "config.yaml:6: numbers.1.pair: must be even",
    ]


def test_a_union_suggests_from_its_members_and_a_rare_fault_still_has_words() -> None:
    assert any("mente du «host»?" in text for text in texts("either:\n  hosst: x"))
    assert texts("ratio: x")[0].startswith("config.yaml:1: ratio: ugyldig verdi (")


def test_paths_are_relative_to_the_part_that_was_validated() -> None:
    document = parse_document(b"all:\n  - host: 1.2.3.4\n    prt: 1\n", "a.yaml")
    with pytest.raises(ValidationError) as caught:
        Listen.model_validate({"host": "1.2.3.4", "prt": "1"})
    found = problems_of(caught.value, document, Listen, ("all", 0))
    assert [p.text() for p in found] == ["a.yaml:3: prt: ukjent felt, mente du «port»?"]


def test_no_suggestion_when_nothing_is_near_and_too_much_is_known() -> None:
    assert suggest("x", [f"navn{i}" for i in range(20)]) == ("", "")
    assert suggest("x", []) == ("", "")


YAML_TEXTS = st.text("ab:-[]{}\"'#&*!|>%@`?, \n\t0é", max_size=60).map(str.encode)


@given(st.binary(max_size=60) | YAML_TEXTS)
def test_any_bytes_are_read_or_refused_in_words(raw: bytes) -> None:
    problems: tuple[Problem, ...] = ()
    try:
        parse_document(raw, "a.yaml")
    except DocumentError as error:
        problems = error.problems
    assert all(problem.nb and problem.en and problem.line >= 0 for problem in problems)
