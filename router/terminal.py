"""What the commands share: where they print, in which language, and how they reach the store."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar

import typer
from rich.console import Console

from router.errors import SettingsError
from router.settings import PACKAGED, Settings, load_settings
from rules.document import DocumentError, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from sqlmodel import Session

    from router.findings import Finding

T = TypeVar("T")

out = Console()
err = Console(stderr=True)

DEFAULT_CONFIG = Path("config.yaml")
LANGUAGES = ("nb", "en")
_language: ContextVar[str] = ContextVar("language", default="en")


def use_language(chosen: str | None) -> str | None:
    """Tell problems of the configuration and the rules in `chosen`; None keeps the language."""
    if chosen is not None and chosen not in LANGUAGES:
        raise typer.BadParameter(f"one of {', '.join(LANGUAGES)}")
    if chosen is not None:
        _language.set(chosen)
    return chosen


def use_language_of_environment() -> None:
    """Bokmål where the machine speaks Norwegian (POSIX: LC_ALL before LC_MESSAGES before LANG)."""
    names = ("LC_ALL", "LC_MESSAGES", "LANG")
    spoken = next((value for name in names if (value := os.environ.get(name))), "")
    _language.set("nb" if spoken.lower().startswith(("nb", "nn", "no")) else "en")


def language() -> str:
    """The language of problems now."""
    return _language.get()


ConfigOption = Annotated[
    Path,
    typer.Option("--config", "-c", help="The configuration file.", envvar="SENTRALBORD_CONFIG"),
]
LangOption = Annotated[
    str | None,
    typer.Option(
        "--lang",
        callback=use_language,
        is_eager=True,
        help="Language of problems: nb or en. Left out, the machine's (LANG).",
    ),
]


def say(text: str) -> None:
    """A plain line on standard output."""
    out.print(text, markup=False, highlight=False, soft_wrap=True)


def note(text: str, style: str = "") -> None:
    """A plain line on standard error."""
    err.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def report(findings: Iterable[Finding]) -> bool:
    """Print what was found, one line each; whether something is wrong."""
    failed = False
    for finding in findings:
        failed |= finding.error
        mark, style = {"error": ("ERROR", "red"), "warning": ("warning", "yellow")}.get(
            finding.level, ("ok", "green")
        )
        out.print(f"{mark:<8}", style=style, end="")
        say(finding.text)
    return failed


def fail(message: str) -> NoReturn:
    """Say what is wrong and end with exit code 1."""
    note(message, "bold red")
    sys.exit(1)


def configuration(config: Path, more: Mapping[str, str] | None = None) -> Settings:
    """The settings; the packaged ones where there is no config.yaml. `more` are variables that
    those of the environment go before."""
    return load_settings(_existing(config), {**(more or {}), **os.environ})


def in_place(problem: Problem, config: Path, settings: Settings) -> Problem:
    """A problem of the rules, its file named as seen from the configuration."""
    return replace(problem, file=rule_file(problem.file, config, settings))


def rule_file(name: str, config: Path, settings: Settings) -> str:
    """The path of a rule file as seen from the configuration: `rules/sorum/30-emne.yaml`."""
    folder = settings.rules.folder
    path = folder if name == folder.name else folder / name
    base = _existing(config).resolve().parent
    return str(path.relative_to(base) if path.is_relative_to(base) else path)


@contextmanager
def rules_in_place(config: Path, settings: Settings) -> Iterator[None]:
    """Inside, problems of the rules name their file as seen from the configuration."""
    try:
        yield
    except DocumentError as error:
        raise DocumentError(in_place(p, config, settings) for p in error.problems) from None


@contextmanager
def open_store(config: Path) -> Iterator[Callable[[Callable[[Session], T]], T]]:
    """Write to the store from the command line, also while the service runs."""
    from router.db import Database
    from router.store import prepare_data, require_schema, sync_departments

    settings = configuration(config)
    prepare_data(settings)
    require_schema(settings)
    db = Database(settings.database_url)
    db.start()
    try:
        db.write_sync(lambda session: sync_departments(session, settings))
        yield db.write_sync
    finally:
        db.stop()


def one_of(word: str, known: tuple[str, ...], what: str) -> str:
    """`word` when it is known. Raises `SettingsError` with the known ones."""
    if word not in known:
        raise SettingsError(f"There is no {what} «{word}»: {', '.join(known)}.")
    return word


def _existing(config: Path) -> Path:
    return PACKAGED if config == DEFAULT_CONFIG and not config.exists() else config
