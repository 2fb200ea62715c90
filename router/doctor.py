"""Looks at the environment and the configuration, and says in plain words what is wrong."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import shutil
import socket
import stat
from importlib.resources import files
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

from channels.chat import xmpp_probe
from channels.email.certificate import CertificateError
from channels.email.certificate import load as load_certificate
from router import provider, schema
from router.db import SAFE_SQLITE, sqlite_version
from router.errors import SettingsError, cannot_listen
from router.findings import Finding
from router.routing import load_ruleset
from router.settings import PACKAGED, ignored_variables, own_url
from rules.document import DocumentError, Problem, read_document
from rules.testing import run_tests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from router.settings import Settings

LOW_DISK = 2 * 1024**3
XMPP_SECRET_LENGTH = 22
"""Characters that 128 bit take in base64."""
_LOCAL = frozenset({"127.0.0.1", "::1", "localhost"})


def examine(settings: Settings, told: Callable[[Problem], str] = Problem.text) -> Iterator[Finding]:
    """Everything worth looking at before the service starts, and while it runs; `told` puts a
    problem of the rules into words."""
    yield from _rules(settings, told)
    data = list(_data(settings))
    yield from data
    if not any(finding.error for finding in data):
        yield from _store(settings)
    yield from _assets()
    yield from _ports(settings)
    yield from _certificate(settings)
    yield from _smarthost(settings)
    if settings.uses_twilio and settings.twilio.account_sid:
        yield from asyncio.run(provider.examine(settings))
    yield from _exchange(settings)
    yield from _xmpp(settings)
    yield from _exposure(settings)
    for variable in ignored_variables():
        yield Finding("warning", variable)


def _rules(settings: Settings, told: Callable[[Problem], str]) -> Iterator[Finding]:
    try:
        ruleset = load_ruleset(settings)
    except DocumentError as error:
        for problem in error.problems:
            yield Finding("error", told(problem))
        return
    yield Finding("ok", f"Ruleset {settings.rules.folder.name}: {len(ruleset.rules)} rules.")
    failed = sum(not result.ok for result in run_tests(ruleset))
    if failed:
        yield Finding("warning", f"{failed} tests of the rules fail. See: sentralbord rules test")
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
    try:
        there = next(folder for folder in (data, *data.parents) if folder.exists())
        # What the mode says is not the whole truth: file systems can be read-only or full.
        with TemporaryDirectory(dir=there):
            pass
        if there != data:
            yield Finding("ok", f"Data directory {data} will be made at the first start.")
            return
        mode = stat.S_IMODE(data.stat().st_mode)
        free = shutil.disk_usage(data).free
    except OSError as error:
        yield Finding("error", f"Data directory {data} cannot be written: {error.strerror}.")
        return
    if mode & 0o077:
        yield Finding("warning", f"Data directory {data} can be read by others: chmod 700 it.")
    level: Literal["ok", "warning"] = "warning" if free < LOW_DISK else "ok"
    yield Finding(level, f"Data directory {data}: {free // 1024**2} MB free.")


def _store(settings: Settings) -> Iterator[Finding]:
    url = settings.database_url
    if url.startswith("sqlite"):
        version = ".".join(map(str, sqlite_version()))
        if sqlite_version() < SAFE_SQLITE:
            yield Finding(
                "warning",
                f"SQLite {version} can corrupt its log when two programs write at once; "
                "3.51.3 or later is safe (the package pysqlite3 brings one).",
            )
        else:
            yield Finding("ok", f"SQLite {version}.")
        if not settings.database and not (settings.data / "sentralbord.db").exists():
            return
    try:
        current = schema.current_revision(url)
    except SettingsError as error:
        yield Finding("error", error.detail)
        return
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


def _ports(settings: Settings) -> Iterator[Finding]:
    """Whether the doors can listen where they should."""
    listen = settings.channels.email.listen
    doors = [("web", settings.web.host, settings.web.port)]
    if listen.enabled:
        doors.append(("channels.email.listen", listen.host, listen.port))
    lmtp = settings.channels.email.lmtp
    if lmtp.enabled:
        doors.append(("channels.email.lmtp", lmtp.host, lmtp.port))
    for key, host, port in doors:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                taken = error.errno == errno.EADDRINUSE
                advice = cannot_listen(key, host, port, error)
                if taken and (process := _service_process(settings.data)):
                    yield Finding(
                        "ok",
                        f"{key}: {host}:{port} is taken, it seems by the service itself "
                        f"(process {process} holds {settings.data / 'service.lock'}).",
                    )
                else:
                    yield Finding("warning" if taken else "error", advice)


def check_certificate(path: Path, settings: Settings) -> None:
    """Try the files for STARTTLS. Raises `DocumentError` when they cannot be used."""
    tls = settings.channels.email.listen.tls
    if tls.certificate is None or tls.key is None:
        return
    try:
        load_certificate(tls.certificate, tls.key)
    except CertificateError as error:
        document = read_document(path if path.is_file() else PACKAGED)
        loc = ("channels", "email", "listen", "tls")
        raise DocumentError([document.problem(loc, str(error), str(error))]) from error


def _certificate(settings: Settings) -> Iterator[Finding]:
    tls = settings.channels.email.listen.tls
    if tls.certificate is None or tls.key is None:
        return
    try:
        load_certificate(tls.certificate, tls.key)
    except CertificateError as error:
        yield Finding("error", f"channels.email.listen.tls: {error}.")
    else:
        yield Finding("ok", f"STARTTLS with {tls.certificate}.")


def _service_process(data: Path) -> str:
    """The process that holds the data directory, empty when none does."""
    try:
        with (data / "service.lock").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return file.read().strip() or "unknown"
    except OSError:
        return ""
    return ""


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


def _exchange(settings: Settings) -> Iterator[Finding]:
    if settings.channels.phone.cti.enabled:
        address = f"{settings.public_url}/hooks/phone/cti/"
        yield Finding("ok", f"The exchange tells of its calls at {address} and its token.")


def _xmpp(settings: Settings) -> Iterator[Finding]:
    door = settings.channels.xmpp
    if not door.enabled:
        return
    if door.host not in _LOCAL:
        yield Finding(
            "warning",
            f"channels.xmpp: the link to {door.host} has no TLS. Keep it on this machine or in a "
            "network of its own.",
        )
    if len(door.secret.get_secret_value()) < XMPP_SECRET_LENGTH:
        yield Finding(
            "warning",
            f"channels.xmpp: the secret has less than {XMPP_SECRET_LENGTH} characters. "
            "Make one: openssl rand -hex 32",
        )
    # A second stream may end the first: whoever has the link is not disturbed.
    shared = not settings.database_url.startswith("sqlite")
    running = shared or bool(_service_process(settings.data))
    refused = ""
    try:
        if running:
            socket.create_connection((door.host, door.port), timeout=3).close()
        else:
            secret = door.secret.get_secret_value()
            refused = xmpp_probe.refusal(door.host, door.port, door.domain, secret)
    except OSError as error:
        yield Finding(
            "warning",
            f"The XMPP server {door.host}:{door.port} does not answer "
            f"({error.strerror or error}); chats by XMPP wait until it does.",
        )
    else:
        where = f"The XMPP server {door.host}:{door.port}"
        if refused:
            yield Finding("warning", f"{where} does not let us in: {refused}.")
        elif running:
            told = "whether it lets us in, /readyz of the running service tells"
            yield Finding("ok", f"{where} answers; {told}.")
        else:
            yield Finding("ok", f"{where} lets us in.")


def _exposure(settings: Settings) -> Iterator[Finding]:
    if settings.web.host not in _LOCAL and not settings.public_url.startswith("https://"):
        yield Finding(
            "warning",
            "The web listens beyond this machine, but public_url is not https: "
            "put a proxy with TLS in front and set public_url.",
        )
    elif settings.public_url == own_url(settings.web):
        yield Finding(
            "warning",
            f"public_url is not set: the links in letters to residents begin with "
            f"{settings.public_url}. Set it to the address that residents use.",
        )
    listen = settings.channels.email.listen
    if listen.enabled and listen.host not in _LOCAL and not listen.trusted_peers:
        yield Finding(
            "warning",
            "The SMTP door listens beyond this machine without trusted_peers: "
            "any host may deliver mail.",
        )
    lmtp = settings.channels.email.lmtp
    if lmtp.enabled and lmtp.host not in _LOCAL:
        yield Finding(
            "warning",
            "The LMTP door listens beyond this machine: whoever reaches it is trusted as the "
            "mail relay is. Let a firewall admit the relay alone.",
        )
