"""Looks at the environment and the configuration, and says in plain words what is wrong."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Literal

from router import schema
from router.db import SAFE_SQLITE, sqlite_version
from router.routing import load_ruleset
from router.settings import unknown_variables
from rules.document import DocumentError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from router.settings import Settings

LOW_DISK = 2 * 1024**3


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    level: Literal["ok", "warning", "error"]
    text: str

    @property
    def error(self) -> bool:
        """Whether the service should not run like this."""
        return self.level == "error"


def examine(settings: Settings) -> Iterator[Finding]:
    """Everything worth looking at before the service starts, and while it runs."""
    yield from _rules(settings)
    yield from _data(settings)
    yield from _store(settings)
    yield from _assets()
    yield from _smarthost(settings)
    yield from _exposure(settings)
    for variable in unknown_variables():
        yield Finding("warning", f"{variable} names no setting and is ignored.")


def _rules(settings: Settings) -> Iterator[Finding]:
    try:
        ruleset = load_ruleset(settings)
    except DocumentError as error:
        for problem in error.problems:
            yield Finding("error", problem.text())
        return
    yield Finding("ok", f"Ruleset {settings.rules.folder.name}: {len(ruleset.rules)} rules.")
    unreachable = [
        slug
        for slug, department in settings.departments.items()
        if department.external and not department.forward_to and not department.website
    ]
    for slug in unreachable:
        yield Finding(
            "warning", f"departments.{slug}: external, but neither forward_to nor website is given."
        )


def _data(settings: Settings) -> Iterator[Finding]:
    data = settings.data
    if not data.exists():
        yield Finding("ok", f"Data directory {data} will be made at the first start.")
        return
    if not os.access(data, os.W_OK):
        yield Finding("error", f"Data directory {data} cannot be written.")
        return
    if stat.S_IMODE(data.stat().st_mode) & 0o077:
        yield Finding("warning", f"Data directory {data} can be read by others: chmod 700 it.")
    free = shutil.disk_usage(data).free
    level: Literal["ok", "warning"] = "warning" if free < LOW_DISK else "ok"
    yield Finding(level, f"Data directory {data}: {free // 1024**2} MB free.")


def _store(settings: Settings) -> Iterator[Finding]:
    if settings.database_url.startswith("sqlite"):
        version = ".".join(map(str, sqlite_version()))
        if sqlite_version() < SAFE_SQLITE:
            yield Finding(
                "warning",
                f"SQLite {version} can corrupt its log when two programs write at once; "
                "3.51.3 or later is safe (the package pysqlite3 brings one).",
            )
        else:
            yield Finding("ok", f"SQLite {version}.")
        if not settings.data.exists():
            return
    current = schema.current_revision(settings.database_url)
    if current and current != schema.head_revision():
        yield Finding("error", "The store has another release's schema. Run: sentralbord migrate")
    elif current:
        yield Finding("ok", f"Schema {current}.")


def _assets() -> Iterator[Finding]:
    if files("router").joinpath("web/static/vendor/manifest.json").is_file():
        yield Finding("ok", "Front-end files are in place.")
    else:
        yield Finding(
            "warning", "Front-end files are missing: pages work, but plainly. Run: make assets"
        )


def _smarthost(settings: Settings) -> Iterator[Finding]:
    smarthost = settings.channels.email.smarthost
    try:
        socket.create_connection((smarthost.host, smarthost.port), timeout=3).close()
    except OSError as error:
        yield Finding(
            "warning",
            f"The smarthost {smarthost.host}:{smarthost.port} does not answer "
            f"({error.strerror or error}); outgoing mail waits until it does.",
        )
    else:
        yield Finding("ok", f"The smarthost {smarthost.host}:{smarthost.port} answers.")
    if smarthost.username and smarthost.tls == "none":
        yield Finding(
            "error", "channels.email.smarthost: a password would go unencrypted; set tls."
        )


def _exposure(settings: Settings) -> Iterator[Finding]:
    local = {"127.0.0.1", "::1", "localhost"}
    if settings.web.host not in local and not settings.public_url.startswith("https://"):
        yield Finding(
            "warning",
            "The web listens beyond this machine, but public_url is not https: "
            "put a proxy with TLS in front and set public_url.",
        )
    listen = settings.channels.email.listen
    if listen.enabled and listen.host not in local and not listen.trusted_peers:
        yield Finding(
            "warning",
            "The SMTP door listens beyond this machine without trusted_peers: "
            "any host may deliver mail.",
        )
