"""A small municipality for the tests of rules."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from textwrap import dedent, indent

import pytest

from rules.facts import Facts
from rules.ruleset import Ruleset, load

DEPARTMENTS = {
    "servicetorg": "Servicetorget",
    "byggesak": "Plan og bygg",
    "barnehage": "Barnehage",
    "barnevern": "Barneverntjenesten",
    "dokumentsenter": "Dokumentsenteret",
    "vei": "Vei",
    "beredskap": "Beredskap",
}
TABLES = {
    "department_addresses": {
        "Barnehage@sorum.example": "barnehage",
        "vei@sorum.example": "vei",
    }
}
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)

DEFAULT = """
- id: standard
  title: Alt annet
  default: true
  then: {department: servicetorg}
"""


class Municipality:
    """Writes rules to a folder and loads them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, text: str, name: str = "10-regler.yaml") -> None:
        """One file, as it stands."""
        (self.folder / name).write_text(dedent(text), encoding="utf-8")

    def load(self, text: str = "", today: date | None = None, **options: object) -> Ruleset:
        """Load the folder, after writing `text` when given."""
        if text:
            self.write(text)
        wanted = {
            "departments": DEPARTMENTS,
            "targets": {"service", "innsyn"},
            "tables": TABLES,
            "today": today,
        }
        return load(self.folder, **(wanted | options))  # type: ignore[arg-type]

    def routes(self, rules: str, before: str = "") -> Ruleset:
        """Load `route:` rules with the default rule after them."""
        listed = indent(dedent(rules).strip() + "\n" + DEFAULT.strip(), "  ")
        return self.load(f"{dedent(before)}\nroute:\n{listed}\n")


@pytest.fixture
def sorum(tmp_path: Path) -> Municipality:
    """An empty rules folder."""
    folder = tmp_path / "sorum"
    folder.mkdir()
    return Municipality(folder)


@pytest.fixture
def mail() -> Callable[..., Facts]:
    """A mail on a Monday at noon."""

    def make(subject: str = "", body: str = "", **facts: object) -> Facts:
        wanted: dict[str, object] = {"channel": "email", "now": NOW}
        return Facts(subject=subject, body=body, **(wanted | facts))  # type: ignore[arg-type]

    return make
