"""The command line: `sentralbord serve | migrate | doctor | config | rules | user | token | parked
| twilio | reparse | demo`."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from router.errors import RouterError, SettingsError
from router.garbage import keep_what_is_loaded
from router.people_commands import ONE_TIME, token_app, user_app
from router.settings import Settings, ignored_variables, setting
from router.terminal import (
    DEFAULT_CONFIG,
    ConfigOption,
    LangOption,
    configuration,
    err,
    fail,
    in_place,
    language,
    note,
    one_of,
    open_store,
    out,
    report,
    rule_file,
    rules_in_place,
    say,
    use_language_of_environment,
)
from router.twilio_commands import twilio_app
from rules.document import DocumentError

if TYPE_CHECKING:
    from datetime import date

    from sqlmodel import Session

    from router.hall import Hall
    from rules.ruleset import Ruleset

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Sentralbord: one queue for every contact the municipality gets.",
)
PhoneOption = Annotated[
    bool,
    typer.Option("--phone", help="With telephones of its own, without a provider: to try it out."),
]
config_app = typer.Typer(no_args_is_help=True, help="Check and show the configuration.")
rules_app = typer.Typer(no_args_is_help=True, help="Check, test and explain the routing rules.")
parked_app = typer.Typer(no_args_is_help=True, help="Arrivals that could not be processed.")
for name, group in (
    ("config", config_app),
    ("rules", rules_app),
    ("user", user_app),
    ("token", token_app),
    ("parked", parked_app),
    ("twilio", twilio_app),
):
    app.add_typer(group, name=name)


def main() -> None:
    """Run the command line; every expected failure is one plain sentence and exit code 1."""
    keep_what_is_loaded()
    # What is written here (store, mails, keys) is nobody else's to read.
    os.umask(0o077)
    use_language_of_environment()
    try:
        app()
    except DocumentError as error:
        fail(error.text(language()))
    except RouterError as error:
        fail(error.detail)
    except OSError as error:
        if error.filename is None or not error.strerror:
            raise
        fail(f"{error.filename}: {error.strerror}.")


def _print_version(wanted: bool) -> None:
    from importlib.metadata import version

    if wanted:
        say(f"sentralbord {version('sentralbord')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and end."
        ),
    ] = False,
    lang: LangOption = None,
) -> None:
    pass


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
    phone: PhoneOption = False,
) -> None:
    """Run the whole service in one process until it is told to stop."""
    gc.disable()  # until everything is loaded

    import uvloop

    from channels.base import ChannelError
    from router.app import serve as run
    from router.demo_line import TELEPHONES, telephones
    from router.doctor import check_certificate
    from router.logs import configure_logs

    one_of(log_level, ("debug", "info", "warning", "error"), "log level")
    settings = configuration(config, TELEPHONES if phone else None)
    check_certificate(config, settings)
    configure_logs(log_level)

    def announce(hall: Hall, web: str) -> None:
        _announce(hall, web, one_time_login, settings.twilio.api_url if phone else "")
        keep_what_is_loaded()

    try:
        with (
            telephones(settings) if phone else nullcontext(),
            rules_in_place(config, settings),
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            runner.run(run(settings, announce))
    except ChannelError as error:
        fail(str(error))
    finally:
        gc.enable()


def _announce(hall: Hall, web: str, one_time_login: bool, telephones: str) -> None:
    lines = [
        ("Residents", f"{web}/"),
        ("Desk", f"{web}/desk/queue"),
        ("API", f"{web}/api/openapi.json"),
    ]
    listen = hall.settings.channels.email.listen
    if listen.enabled:
        lines.append(("E-mail (SMTP)", f"{listen.host}:{listen.port}"))
    lmtp = hall.settings.channels.email.lmtp
    if lmtp.enabled:
        lines.append(("E-mail (LMTP)", f"{lmtp.host}:{lmtp.port}"))
    if telephones:
        lines.append(("Stand-in telephones", telephones))
    if one_time_login:
        minutes = ONE_TIME.seconds // 60
        lines.append((f"One-time login ({minutes} min)", f"{web}{_login_path(hall)}"))
    print("Sentralbord is ready.", flush=True)  # noqa: T201 - what the command is asked for
    for label, value in lines:
        print(f"  {label:<24} {value}", flush=True)  # noqa: T201


def _login_path(hall: Hall) -> str:
    from router import credentials, staff
    from router.models import Role

    now = hall.clock()

    def job(session: Session) -> str:
        operator = staff.find_staff(session, "operator") or staff.add_staff(
            session, "operator", "Sentralbordet", Role.OPERATOR, [], None, now
        )
        return credentials.sign_in_path(session, operator, now, ONE_TIME)

    return hall.db.write_sync(job)


@app.command()
def migrate(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Bring the store's schema to this release."""
    from router.schema import migrate as run
    from router.store import prepare_data

    settings = configuration(config)
    prepare_data(settings)
    before, after = run(settings.database_url)
    message = (
        f"The schema is at {after}." if before == after else f"Schema {before or 'new'} -> {after}."
    )
    out.print(message, markup=False)


@app.command()
def doctor(config: ConfigOption = DEFAULT_CONFIG, lang: LangOption = None) -> None:
    """Look for problems in the environment and the configuration; exit code 1 when there is an
    error."""
    from router.doctor import examine

    settings = configuration(config)
    findings = examine(settings, lambda p: in_place(p, config, settings).text(language()))
    raise typer.Exit(1 if report(findings) else 0)


@config_app.command("check")
def config_check(config: ConfigOption = DEFAULT_CONFIG, lang: LangOption = None) -> None:
    """Check the configuration and the rules; exit code 1 with file:line for each problem."""
    from router.doctor import check_certificate

    ignored = ignored_variables()
    for told in ignored:
        note(told, "bold red")
    settings = configuration(config)
    check_certificate(config, settings)
    ruleset = _ruleset(config, settings)
    if ignored:
        raise typer.Exit(1)
    say(f"{config}: {len(settings.departments)} departments, {len(ruleset.rules)} rules. Fine.")


@config_app.command("show")
def config_show(
    key: Annotated[str, typer.Argument(help="Dotted key, e.g. web.port; empty shows all.")] = "",
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Print one effective value, or all of them."""
    settings = configuration(config)
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
    lang: LangOption = None,
) -> None:
    """Check the ruleset; warnings do not fail, errors do."""
    from router.clock import utc_now

    settings = configuration(config)
    ruleset = _ruleset(config, settings, utc_now().date())
    for warning in ruleset.warnings:
        note(in_place(warning, config, settings).text(language()), "yellow")
    if forms:
        for text, keyword in sorted(ruleset.keywords.items()):
            say(f"{text}: {', '.join(keyword.forms())}")
    say(
        f"{len(ruleset.rules)} rules, {len(ruleset.warnings)} warnings, "
        f"ruleset {ruleset.hash[:12]}."
    )


@rules_app.command("test")
def rules_test(config: ConfigOption = DEFAULT_CONFIG, lang: LangOption = None) -> None:
    """Run every rule's own tests; exit code 1 when one fails."""
    from rules.testing import run_tests

    settings = configuration(config)
    results = run_tests(_ruleset(config, settings))
    failures = [result for result in results if not result.ok]
    for failure in failures:
        place = f"{rule_file(failure.file, config, settings)}:{failure.line}"
        note(f"{place}: {failure.rule}: {failure.name}: {failure.message}", "red")
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
    everything: Annotated[
        bool, typer.Option("--all", help="List the rules that did not fit, too.")
    ] = False,
    lang: LangOption = None,
) -> None:
    """Say where a contact would go, and why."""
    from router.clock import utc_now
    from router.explanation import explanation, lines
    from router.preparing import OpenAt
    from router.routing import department_hours, explain
    from rules.checks import CHANNELS

    settings = configuration(config)
    one_of(channel, CHANNELS, "channel")
    ours = {*settings.address_owners, settings.channels.email.sender}
    if to.strip() and to.strip().lower() not in ours:
        note(f"{to.strip()} is not one of our addresses: content decides.", "yellow")
    now = utc_now()
    decision = explain(
        _ruleset(config, settings),
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
    for line in lines(decision, everything=everything):
        say(line)


def _ruleset(config: Path, settings: Settings, today: date | None = None) -> Ruleset:
    from router.routing import load_ruleset

    with rules_in_place(config, settings):
        return load_ruleset(settings, today)


@parked_app.command("list")
def parked_list(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """List arrivals that a person must look at."""
    from router import journal

    with open_store(config) as write:
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

    settings = configuration(config)
    with open_store(config) as write:
        raw = write(lambda s: journal.raw_of(s, journal.get(s, arrival_id), settings.blobs))
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

    with open_store(config) as write:
        count = write(job)
    out.print(f"{count} put back in line.", highlight=False)


@app.command()
def reparse(
    since: Annotated[datetime, typer.Option(help="First day, e.g. 2026-03-01 (UTC).")],
    until: Annotated[datetime, typer.Option(help="Last day, included.")],
    config: ConfigOption = DEFAULT_CONFIG,
    write_changes: Annotated[
        bool, typer.Option("--apply", help="Write what changed; without it, only show.")
    ] = False,
) -> None:
    """Read the mail of a period again and show what would change in the messages."""
    from router import reparse as again
    from router.clock import utc_now
    from router.routing import build_workbench

    settings = configuration(config)
    first = since.replace(tzinfo=UTC)
    after_last = until.replace(tzinfo=UTC) + timedelta(days=1)
    table = Table("inquiry", "received", "field", "stored", "now")
    count = 0
    with open_store(config) as write:
        for change in again.reparse(
            write, build_workbench(settings), first, after_last, utc_now(), apply=write_changes
        ):
            count += 1
            for name, (old, new) in change.fields.items():
                at = f"{change.received_at:%Y-%m-%d %H:%M}Z"
                table.add_row(change.ref, at, name, _short(old), _short(new))
    if count:
        out.print(table)
    if not count:
        say("Nothing would change.")
    elif write_changes:
        say(f"Messages corrected: {count}.")
    else:
        say(f"Messages that would change: {count}. Use --apply to correct them.")


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = escape(" ".join(text.split()))
    return text if len(text) <= 80 else f"{text[:79]}…"


@app.command()
def demo(
    config: ConfigOption = DEFAULT_CONFIG,
    speed: Annotated[
        float, typer.Option(help="How many times faster than the clock; 480 is a day in a minute.")
    ] = 480.0,
    contacts: Annotated[int, typer.Option(help="How many contacts.")] = 300,
    phone: PhoneOption = False,
) -> None:
    """Drive a realistic day through the real doors of a running service."""
    from router.demo import run_demo
    from router.demo_line import TELEPHONES

    run_demo(configuration(config, TELEPHONES if phone else None), speed, contacts, err)
