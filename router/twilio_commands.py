"""`sentralbord twilio …`: our numbers at the provider, and what callers hear while we are down."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from router.terminal import (
    DEFAULT_CONFIG,
    ConfigOption,
    LangOption,
    configuration,
    note,
    report,
    say,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from router.provisioning import Difference, Live, Setup
    from router.settings import Settings

twilio_app = typer.Typer(
    no_args_is_help=True, help="Our numbers at Twilio, and what callers hear while we are down."
)


@twilio_app.command("provision")
def provision(
    config: ConfigOption = DEFAULT_CONFIG,
    write_changes: Annotated[
        bool, typer.Option("--apply/--dry-run", help="Set the numbers up, or only show (default).")
    ] = False,
) -> None:
    """Show how each of our numbers must be set up at Twilio, and what is different there."""
    from router.provisioning import setups

    settings = configuration(config)
    if not settings.channels.phone.fallback_url:
        note(
            "channels.phone.fallback_url is not set: callers hear an error while the service is "
            "down. Make a TwiML Bin at Twilio of what «sentralbord twilio fallback» prints.",
            "yellow",
        )
    wanted = setups(settings)
    if not wanted:
        say("There are no numbers in channels.phone.numbers or channels.sms.numbers.")
    raise typer.Exit(0 if asyncio.run(_provision(settings, wanted, write_changes)) else 1)


@twilio_app.command("fallback")
def fallback(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Print the TwiML that callers get while the service is down, for a TwiML Bin at Twilio."""
    from channels.phone.twiml import Voice
    from channels.phone.twiml import fallback as document

    settings = configuration(config)
    phone = settings.channels.phone
    speech = phone.speech
    voice = Voice(speech.voice, speech.language, speech.phrases, speech.music)
    print(  # noqa: T201 - what the command is asked for
        document(voice, settings.municipality.name, phone.standby, phone.voicemail_seconds)
    )


@twilio_app.command("doctor")
def doctor(config: ConfigOption = DEFAULT_CONFIG, lang: LangOption = None) -> None:
    """Look at account, numbers and signatures; exit code 1 when there is an error."""
    from router.provider import examine

    raise typer.Exit(1 if report(asyncio.run(examine(configuration(config)))) else 0)


async def _provision(settings: Settings, wanted: Sequence[Setup], write_changes: bool) -> bool:
    """Whether all of our numbers are with the account, and are set up where that was asked for."""
    from channels.base import ChannelError
    from router.provider import account_of
    from router.provisioning import apply, differences, field_names, live_numbers, overrides

    account = account_of(settings)
    live: dict[str, Live] = {}
    told = "twilio.account_sid is not set"
    if account is not None:
        try:
            live, told = await live_numbers(account, field_names(wanted)), ""
        except ChannelError as error:
            told = str(error)
    if told:
        note(f"What is set up at Twilio is not known: {told}", "yellow")
    fine = not told or not write_changes
    for setup in wanted:
        there = live.get(setup.number)
        changes = differences(setup, there) if there is not None else []
        _show(setup, changes, known=there is not None)
        for what in overrides(setup, there) if there is not None else ():
            note(f"{setup.number} belongs to {what}. Take it out in Twilio's console.", "red")
            fine = False
        if there is None and not told:
            note(f"{setup.number} is not a number of the account.", "red")
            fine = False
        if account is None or there is None or not changes or not write_changes:
            continue
        try:
            await apply(account, there, changes)
        except ChannelError as error:
            note(f"{setup.number} could not be set up: {error}", "red")
            fine = False
        else:
            say(f"  {setup.number} is set up now.")
    if account is not None:
        account.close()
    return fine


def _show(setup: Setup, changes: Sequence[Difference], known: bool) -> None:
    say(setup.number)
    live = {change.name: change.live or "empty" for change in changes}
    for name, value in setup.fields.items():
        verdict = f"   (is {live[name]})" if name in live else "   (as it is)" if known else ""
        say(f"  {name:<22} {value or '-'}{verdict}")
