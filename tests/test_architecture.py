"""Promises the house makes about itself. Guards of routes: `tests/router/test_auth_desk.py`;
tables and migrations: `tests/router/test_schema.py`; catalogues: `tests/router/test_pages.py`."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import pkgutil
import re
import string
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import iter_route_contexts
from importlinter.cli import lint_imports
from starlette.routing import Mount

import channels
import router
import rules
from channels.base import Channel
from router import jobs, letters
from router.routing import load_ruleset
from router.settings import load_settings
from router.web.app import PUBLIC_ROUTES
from tests.router.web_house import ADDRESS, house

ROOT = Path(__file__).parents[1]
PACKAGES = ("channels", "router", "rules")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
OWN_STATIC = [
    path
    for path in (ROOT / "router" / "web" / "static").rglob("*")
    if path.is_file() and "vendor" not in path.parts
]


async def test_a_stranger_is_turned_away_from_everything_that_is_not_public(tmp_path):
    """By what happens, not by what is declared: no answer but a refusal or the way to the door."""
    async with house(tmp_path) as home:
        ref = await home.inquiry()
        asked = 0
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(home.app), base_url=ADDRESS
        ) as stranger:
            for route in iter_route_contexts(home.app.routes):
                if isinstance(route.original_route, Mount) or route.path in PUBLIC_ROUTES:
                    continue
                path = re.sub(r"\{[^}]*\}", "1", route.path.replace("{ref}", ref))
                for method in route.methods - {"HEAD"}:
                    answer = await stranger.request(method, path)
                    turned_away = answer.status_code in {401, 403} or (
                        answer.status_code == 303
                        and answer.headers["location"].startswith("/desk/login")
                    )
                    assert turned_away, f"{method} {path}: {answer.status_code}"
                    assert ref not in answer.text.replace(path, "")
                    asked += 1
        assert asked > 40


def test_every_job_is_in_the_table_once_and_under_its_own_name():
    functions = {
        name: function
        for name, function in vars(jobs).items()
        if inspect.iscoroutinefunction(function) and function.__module__ == jobs.__name__
    }
    assert {job.name: job.run for job in jobs.JOBS} == functions
    assert len(jobs.JOBS) == len(functions)
    assert all(job.seconds >= 1 for job in jobs.JOBS)


def doors() -> dict[str, type[Any]]:
    """Every class in `channels` that is meant to be a door."""
    return {
        name: kind
        for module in pkgutil.walk_packages(channels.__path__, "channels.")
        for name, kind in vars(importlib.import_module(module.name)).items()
        if inspect.isclass(kind) and name.endswith("Channel") and kind is not Channel
    }


@pytest.mark.parametrize("name", sorted(doors()))
def test_every_door_has_the_shape_of_a_door_and_a_test_of_its_contract(name):
    door = doors()[name]
    for method in ("start", "stop", "send", "health"):
        promised, kept = getattr(Channel, method), getattr(door, method)
        assert inspect.iscoroutinefunction(kept) == inspect.iscoroutinefunction(promised), method
        assert list(inspect.signature(kept).parameters) == list(
            inspect.signature(promised).parameters
        ), method
    package = door.__module__.split(".")[1]
    suites = list((ROOT / "tests" / "channels").glob(f"test_{package}*.py"))
    assert suites, f"channels/{package} has no tests"


def test_there_are_doors():
    assert {"EmailChannel", "FakeChannel"} <= set(doors())


@pytest.mark.parametrize("language", ["nb", "nn", "en"])
def test_every_letter_is_written_in_every_language_with_the_same_blanks(language):
    def blanks(text: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    mine, model = letters.TEXTS[language], letters.TEXTS["nb"]
    assert set(mine) == set(model)
    for name, text in mine.items():
        assert text.strip(), name
        assert blanks(text) == blanks(model[name]), name
    if language != "nb":
        same = [n for n in mine if mine[n] == model[n] and len(mine[n]) > 30]
        assert same == []


def test_our_packages_are_ours():
    """Packages of these names exist elsewhere and would silently take their place."""
    for package in (channels, router, rules):
        assert Path(str(package.__file__)).parent.parent == ROOT


def test_the_configuration_and_the_rules_in_the_repository_are_valid_and_reach_everybody():
    settings = load_settings(ROOT / "config.yaml", {})
    assert len(settings.departments) == 34
    ruleset = load_ruleset(settings)
    reached = {rule.department for rule in ruleset.rules}
    reached |= set(settings.department_addresses.values())
    assert set(settings.departments) - reached == set()


def test_the_rooms_know_only_whom_they_may_know(capsys, monkeypatch):
    # Its own logging would silence every logger there is, for all tests that follow.
    monkeypatch.setattr("importlinter.cli._configure_logging", lambda _verbose: None)
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == 0, (
        capsys.readouterr().out
    )


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_a_lock_pins_by_hash_and_holds_no_address(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^\s*-", text.replace("    --hash=sha256:", ""), re.MULTILINE)
    pin = r"^([A-Za-z0-9._-]+)(?:\[[a-z0-9,-]+\])?==\S+(.*(?:\n    .*)*)"
    pins = re.findall(pin, text, re.MULTILINE)
    assert len(pins) > 40
    assert [pin for pin, rest in pins if "--hash=sha256:" not in rest] == []
    lines = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert len(lines) == len(pins)


def test_the_lock_of_the_front_end_holds_no_address():
    lock = json.loads((ROOT / "package-lock.json").read_text(encoding="utf-8"))
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert packages
    for name, entry in packages.items():
        assert "resolved" not in entry, name
        assert entry["integrity"].startswith("sha512-"), name


def test_no_file_of_others_lies_among_our_own():
    assert OWN_STATIC
    foreign = re.compile(
        r"copyright|@license|sourceMappingURL|https?://(?!www\.w3\.org)", re.IGNORECASE
    )
    for path in OWN_STATIC:
        text = path.read_text(encoding="utf-8")
        assert len(text) < 100_000, path
        assert max(map(len, text.splitlines())) < 500, f"{path} is minified"
        assert not foreign.search(text), path


def test_a_module_is_short_says_what_it_is_for_and_leaves_nothing_undone():
    for path in SOURCES:
        source = path.read_text(encoding="utf-8")
        assert source.count("\n") <= 620, path
        assert not re.search(r"\b(TODO|FIXME|XXX)\b", source), path
        assert path.stem not in {"utils", "core", "services", "helpers", "misc"}, path
        if source.strip():
            assert ast.get_docstring(ast.parse(source)), f"{path} does not say what it is for"


def test_the_map_names_every_module_and_no_other():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = page.partition("\n## The modules\n")[2].partition("\n## ")[0]
    modules = {path.stem for path in SOURCES if "migrations" not in path.parts} - {"__init__"}
    assert set(re.findall(r"`(\w+)`", section)) == modules


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_points_to_is_there(page):
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []
    paths = re.findall(r"`((?:router|channels|rules|tests|docs)/[\w./*-]+)`", text)
    assert [path for path in paths if not any(ROOT.glob(path))] == []
