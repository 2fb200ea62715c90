"""A terminal for `sentralbord …`, and the store that its commands work on."""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING

import pytest
import typer.main

from router import cli
from router.settings import load_settings
from tests.router.store_house import REPOSITORY, lay_empty_store, open_store
from tests.router.web_house import RULES

if TYPE_CHECKING:
    from router.db import Database

CONFIG = REPOSITORY / "config.yaml"


# The same commands each time: to build them takes longer than many of them run.
typer.main.get_command = cache(typer.main.get_command)


class Terminal:
    """Runs `sentralbord …` here; what it printed and how it ended."""

    def __init__(self, capfd, monkeypatch) -> None:
        self._capfd, self._monkeypatch = capfd, monkeypatch
        self.out = self.err = ""

    def __call__(self, *arguments: str) -> int:
        self._monkeypatch.setattr(sys, "argv", ["sentralbord", *arguments])
        self._capfd.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        self.out, self.err = self._capfd.readouterr()
        return code


@pytest.fixture
def run(capfd, monkeypatch, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    lay_empty_store(data)
    monkeypatch.setenv("SENTRALBORD_DATA", str(data))
    monkeypatch.setenv("SENTRALBORD_CONFIG", str(CONFIG))
    monkeypatch.setenv("COLUMNS", "200")
    return Terminal(capfd, monkeypatch)


@pytest.fixture
def few_rules(monkeypatch, tmp_path):
    """For commands that only have to read the rules, not ours."""
    (tmp_path / "rules.yaml").write_text(RULES, encoding="utf-8")
    monkeypatch.setenv("SENTRALBORD_RULES__FOLDER", str(tmp_path))


@pytest.fixture
def store():
    """The store that the commands work on."""
    opened: list[Database] = []

    def another() -> Database:
        db = open_store(load_settings(CONFIG).database_url)
        opened.append(db)
        return db

    yield another
    for db in opened:
        db.stop()
