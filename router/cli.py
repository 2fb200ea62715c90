"""The command line: `sentralbord serve | migrate | doctor | config | rules | user | token | parked
| demo`."""

from __future__ import annotations

import asyncio
import getpass
import json
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from router.errors import RouterError, SettingsError
from router.settings import PACKAGED, Settings, load_settings, setting, unknown_variables
from rules.document import DocumentError

if TYPE_CHECKING:
    from sqlmodel import Session

    from router.hall import Hall
    from router.models import Role

T = TypeVar("T")

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Sentralbord: one queue for every contact the municipality gets.",
)
config_app = typer.Typer(no_args_is_help=True, help="Check and show the configuration.")
rules_app = typer.Typer(no_args_is_help=True, help="Check, test and explain the routing rules.")
user_app = typer.Typer(no_args_is_help=True, help="People who sign in to the desk.")
token_app = typer.Typer(no_args_is_help=True, help="Tokens for the API.")
parked_app = typer.Typer(no_args_is_help=True, help="Arrivals that could not be processed.")
for name, group in (
    ("config", config_app),
    ("rules", rules_app),
    ("user", user_app),
    ("token", token_app),
    ("parked", parked_app),
):
    app.add_typer(group, name=name)

out = Console()
err = Console(stderr=True)

ConfigOption = Annotated[
    Path,
    typer.Option("--config", "-c", help="The configuration file.", envvar="SENTRALBORD_CONFIG"),
]
DEFAULT_CONFIG = Path("config.yaml")
ONE_TIME_MINUTES = 60


def main() -> None:
    """Run the command line; every expected failure is one plain sentence and exit code 1."""
    try:
        app()
    except DocumentError as error:
        _fail(error.text())
    except RouterError as error:
        _fail(error.detail)


def _fail(message: str) -> NoReturn:
    err.print(message, style="bold red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(1)


def _settings(config: Path) -> Settings:
    if config == DEFAULT_CONFIG and not config.exists() and PACKAGED.exists():
        config = PACKAGED
    return load_settings(config)


@app.command()
def serve(
    config: ConfigOption = DEFAULT_CONFIG,
    one_time_login: Annotated[
        bool,
        typer.Option(
            "--one-time-login",
            help="Print a link that signs an operator in once (made on first use).",
        ),
    ] = False,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Run the whole service in one process until it is told to stop."""
    import uvloop

    from channels.base import ChannelError
    from router.app import serve as run
    from router.logs import configure_logs

    settings = _settings(config)
    configure_logs(log_level)

    def announce(hall: Hall, web: str) -> None:
        _announce(hall, web, one_time_login)

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(settings, announce))
    except ChannelError as error:
        _fail(str(error))


def _announce(hall: Hall, web: str, one_time_login: bool) -> None:
    lines = [
        ("Residents", f"{web}/"),
        ("Desk", f"{web}/desk/queue"),
        ("API", f"{web}/api/openapi.json"),
    ]
    listen = hall.settings.channels.email.listen
    if listen.enabled:
        lines.append(("E-mail (SMTP)", f"{listen.host}:{listen.port}"))
    if one_time_login:
        lines.append((f"One-time login ({ONE_TIME_MINUTES} min)", f"{web}{_login_path(hall)}"))
    print("Sentralbord is ready.", flush=True)  # noqa: T201 - what the command is asked for
    for label, value in lines:
        print(f"  {label:<24} {value}", flush=True)  # noqa: T201


def _login_path(hall: Hall) -> str:
    from router import staff
    from router.models import CredentialKind, Role

    now = hall.clock()

    def job(session: Session) -> str:
        operator = staff.find_staff(session, "operator") or staff.add_staff(
            session, "operator", "Sentralbordet", Role.OPERATOR, [], None, now
        )
        return staff.issue(
            session,
            CredentialKind.ONE_TIME,
            operator.id or 0,
            now,
            expires_at=now + timedelta(minutes=ONE_TIME_MINUTES),
        )

    return f"/desk/login?once={hall.db.write_sync(job)}"


@app.command()
def migrate(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Bring the store's schema to this release."""
    from router.schema import migrate as run
    from router.store import prepare_data

    settings = _settings(config)
    prepare_data(settings)
    before, after = run(settings.database_url)
    message = (
        f"The schema is at {after}." if before == after else f"Schema {before or 'new'} -> {after}."
    )
    out.print(message, markup=False)


@app.command()
def doctor(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Look for problems in the environment and the configuration; exit code 1 when there is an
    error."""
    from router.doctor import examine

    failed = False
    for finding in examine(_settings(config)):
        failed |= finding.error
        mark = {"error": "[red]ERROR[/]", "warning": "[yellow]warning[/]"}.get(
            finding.level, "[green]ok[/]"
        )
        out.print(f"{mark:<8}", end=" ")
        out.print(finding.text, markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(1 if failed else 0)


@config_app.command("check")
def config_check(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Check the configuration and the rules; exit code 1 with file:line for each problem."""
    from router.routing import load_ruleset

    settings = _settings(config)
    ruleset = load_ruleset(settings)
    for variable in unknown_variables():
        err.print(f"{variable}: names no setting and is ignored.", style="yellow", markup=False)
    out.print(
        f"{config}: {len(settings.departments)} departments, {len(ruleset.rules)} rules. Fine.",
        markup=False,
        highlight=False,
    )


@config_app.command("show")
def config_show(
    key: Annotated[str, typer.Argument(help="Dotted key, e.g. web.port; empty shows all.")] = "",
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Print one effective value, or all of them."""
    settings = _settings(config)
    if not key:
        print(settings.model_dump_json(indent=2, by_alias=True))  # noqa: T201
        return
    try:
        value = setting(settings, key)
    except KeyError:
        raise SettingsError(f"There is no setting «{key}».") from None
    print(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))  # noqa: T201


@rules_app.command("check")
def rules_check(
    config: ConfigOption = DEFAULT_CONFIG,
    forms: Annotated[
        bool, typer.Option("--forms", help="Print what each word expands to.")
    ] = False,
) -> None:
    """Check the ruleset; warnings do not fail, errors do."""
    from router.clock import utc_now
    from router.routing import load_ruleset

    ruleset = load_ruleset(_settings(config), utc_now().date())
    for warning in ruleset.warnings:
        err.print(warning.text(), style="yellow", markup=False, highlight=False, soft_wrap=True)
    if forms:
        for text, keyword in sorted(ruleset.keywords.items()):
            out.print(f"{text}: {', '.join(keyword.forms())}", markup=False, highlight=False)
    out.print(
        f"{len(ruleset.rules)} rules, {len(ruleset.warnings)} warnings, "
        f"ruleset {ruleset.hash[:12]}.",
        markup=False,
        highlight=False,
    )


@rules_app.command("test")
def rules_test(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Run every rule's own tests; exit code 1 when one fails."""
    from router.routing import load_ruleset
    from rules.testing import run_tests

    results = run_tests(load_ruleset(_settings(config)))
    failures = [result for result in results if not result.ok]
    for failure in failures:
        err.print(
            f"{failure.file}:{failure.line}: {failure.rule}: {failure.name}: {failure.message}",
            style="red",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    out.print(f"{len(results) - len(failures)} passed, {len(failures)} failed", highlight=False)
    raise typer.Exit(1 if failures else 0)


@rules_app.command("explain")
def rules_explain(
    config: ConfigOption = DEFAULT_CONFIG,
    channel: Annotated[str, typer.Option(help="email, web, sms, chat or phone.")] = "email",
    to: Annotated[str, typer.Option(help="Our address that it came to.")] = "",
    sender: Annotated[str, typer.Option("--from", help="Who wrote.")] = "",
    subject: Annotated[str, typer.Option(help="Subject.")] = "",
    body: Annotated[str, typer.Option(help="Text.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """Say where a contact would go, and why."""
    from router.clock import utc_now
    from router.explanation import explanation, lines
    from router.preparing import OpenAt
    from router.routing import department_hours, explain, load_ruleset

    settings = _settings(config)
    now = utc_now()
    decision = explain(
        load_ruleset(settings),
        now,
        OpenAt(department_hours(settings), now),
        channel=channel,
        to=to,
        sender=sender,
        subject=subject,
        text=body,
    )
    if as_json:
        print(json.dumps(explanation(decision), ensure_ascii=False, indent=2))  # noqa: T201
        return
    for line in lines(decision):
        out.print(line, markup=False, highlight=False, soft_wrap=True)


@user_app.command("add")
def user_add(
    username: Annotated[str, typer.Argument(help="What the person signs in with.")],
    role: Annotated[str, typer.Option(help="operator, member, lead or admin.")],
    department: Annotated[
        list[str] | None, typer.Option(help="Slug; may be given several times.")
    ] = None,
    name: Annotated[str, typer.Option(help="Full name, as residents see it.")] = "",
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Add a person. Asks for a password; without a terminal it makes one and prints it."""
    from router import staff
    from router.clock import utc_now

    chosen = _role(role)
    made = ""
    if password_stdin:
        password = sys.stdin.readline().rstrip("\n")
    elif sys.stdin.isatty():
        password = getpass.getpass("Password: ")
    else:
        password = made = secrets.token_urlsafe(12)
    hashed = staff.hash_password(password)
    with _store(config) as write:
        write(
            lambda session: staff.add_staff(
                session, username, name or username, chosen, department or [], hashed, utc_now()
            )
        )
    if made:
        print(made)  # noqa: T201
    err.print(f"{username} can sign in as {chosen.value}.", markup=False, highlight=False)


@token_app.command("create")
def token_create(
    role: Annotated[str, typer.Option(help="operator, member, lead or admin.")],
    department: Annotated[str | None, typer.Option(help="Narrow it to one department.")] = None,
    name: Annotated[str, typer.Option(help="What it is for.")] = "",
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Make an API token and print it; it cannot be shown again."""
    from router import staff
    from router.clock import utc_now

    chosen = _role(role)
    with _store(config) as write:
        token = write(
            lambda session: staff.create_api_token(session, chosen, department, name, utc_now())
        )
    print(token)  # noqa: T201


@parked_app.command("list")
def parked_list(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """List arrivals that a person must look at."""
    from router import journal

    with _store(config) as write:
        arrivals = write(journal.parked)
    table = Table("id", "channel", "received", "size", "attempts", "why")
    for arrival in arrivals:
        table.add_row(
            str(arrival.id),
            arrival.channel,
            f"{arrival.received_at:%Y-%m-%d %H:%M}Z",
            str(arrival.size),
            str(arrival.attempts),
            arrival.error,
        )
    out.print(table if arrivals else "Nothing is parked.")


@parked_app.command("show")
def parked_show(arrival_id: int, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Print the raw bytes of an arrival."""
    from router import journal

    settings = _settings(config)
    with _store(config) as write:
        raw = write(lambda s: journal.raw_of(journal.get(s, arrival_id), settings.blobs))
    sys.stdout.buffer.write(raw)


@parked_app.command("retry")
def parked_retry(
    arrival_id: Annotated[int | None, typer.Argument(help="One arrival; none means all.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Put parked arrivals back in line; a running service takes them within seconds."""
    from router import journal

    def job(session: Session) -> int:
        ids = [arrival_id] if arrival_id else [a.id or 0 for a in journal.parked(session)]
        for number in ids:
            journal.retry(session, number)
        return len(ids)

    with _store(config) as write:
        count = write(job)
    out.print(f"{count} put back in line.", highlight=False)


@app.command()
def demo(
    config: ConfigOption = DEFAULT_CONFIG,
    speed: Annotated[
        float, typer.Option(help="How many times faster than the clock; 480 is a day in a minute.")
    ] = 480.0,
    contacts: Annotated[int, typer.Option(help="How many contacts.")] = 300,
) -> None:
    """Drive a realistic day through the real doors of a running service."""
    from router.demo import run_demo

    run_demo(_settings(config), speed, contacts, err)


def _role(name: str) -> Role:
    from router.models import Role

    try:
        return Role(name)
    except ValueError:
        raise SettingsError(
            f"There is no role «{name}»: {', '.join(r.value for r in Role)}."
        ) from None


@contextmanager
def _store(config: Path) -> Iterator[Callable[[Callable[[Session], T]], T]]:
    """Write to the store from the command line, also while the service runs."""
    from router.db import Database
    from router.store import prepare_data, require_schema, sync_departments

    settings = _settings(config)
    prepare_data(settings)
    require_schema(settings)
    db = Database(settings.database_url)
    db.start()
    try:
        db.write_sync(lambda session: sync_departments(session, settings))
        yield db.write_sync
    finally:
        db.stop()
