"""Our account with Twilio: how it is reached, and whether it is as it must be."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from channels.base import ChannelError
from channels.twilio import Account, AccountSettings, ForbiddenError
from router.findings import Finding
from router.provisioning import (
    VOICE,
    differences,
    field_names,
    live_numbers,
    overrides,
    setups,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from router.provisioning import Live, Setup
    from router.settings import Settings

_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


async def examine(settings: Settings) -> list[Finding]:
    """Everything worth looking at of the provider, by asking it."""
    account = account_of(settings)
    if account is None:
        return [Finding("error", "twilio.account_sid is not set.")]
    try:
        return [
            *_address(settings),
            *_signatures(settings, account),
            *await _numbers(settings, account),
            *_fallback(settings),
        ]
    finally:
        account.close()


def _address(settings: Settings) -> Iterator[Finding]:
    parts = urlsplit(settings.public_url)
    if parts.scheme == "https" and parts.hostname not in _LOCAL:
        yield Finding("ok", f"Webhooks come to {settings.public_url}.")
    else:
        yield Finding(
            "warning",
            f"public_url is {settings.public_url}: Twilio reaches only public https addresses.",
        )


def _signatures(settings: Settings, account: Account) -> Iterator[Finding]:
    """Sign a webhook as Twilio would and have it checked, and a forged one too."""
    from twilio.request_validator import RequestValidator

    url = f"{settings.public_url}{VOICE}"
    form = {"AccountSid": account.settings.account_sid, "CallSid": "CA" + "0" * 32, "Blank": ""}
    body = urlencode(form).encode()
    for position, token in enumerate(account.settings.auth_tokens):
        headers = {
            "content-type": "application/x-www-form-urlencoded",
            "x-twilio-signature": RequestValidator(token).compute_signature(url, form),
        }
        name = "old auth token" if position else "auth token"
        try:
            account.verify(url, headers, body)
        except ForbiddenError as error:
            yield Finding("error", f"A webhook signed with the {name} is refused ({error.reason}).")
            continue
        try:
            account.verify(f"{url}?forged=1", headers, body)
        except ForbiddenError:
            yield Finding("ok", f"Webhooks signed with the {name} are known from forged ones.")
        else:
            yield Finding("error", f"A forged webhook passes with the {name}.")


def _fallback(settings: Settings) -> Iterator[Finding]:
    phone = settings.channels.phone
    if phone.enabled and not phone.fallback_url:
        yield Finding(
            "warning",
            "channels.phone.fallback_url is not set: callers hear an error while the service is "
            "down. See: sentralbord twilio fallback",
        )


def account_of(settings: Settings) -> Account | None:
    """Our account, where one is configured; None else."""
    twilio = settings.twilio
    if not twilio.account_sid:
        return None
    return Account(
        AccountSettings(
            account_sid=twilio.account_sid,
            auth_tokens=twilio.auth_tokens,
            shared_keys=twilio.shared_keys,
            api_key=twilio.api_key,
            api_secret=twilio.api_secret.get_secret_value(),
            region=twilio.region,
            edge=twilio.edge,
            api_url=twilio.api_url,
            timeout=twilio.timeout,
        )
    )


async def _numbers(settings: Settings, account: Account) -> list[Finding]:
    wanted = setups(settings)
    try:
        live = await live_numbers(account, field_names(wanted))
    except ChannelError as error:
        return [Finding("error", f"The account cannot be read: {error}")]
    found = [finding for setup in wanted for finding in _number(setup, live.get(setup.number))]
    return [Finding("ok", f"The account answers; it has {len(live)} numbers."), *found]


def _number(setup: Setup, live: Live | None) -> Iterator[Finding]:
    number = setup.number
    if live is None:
        yield Finding("error", f"{number} is not a number of the account.")
        return
    for capability, name in (("voice", "VoiceUrl"), ("sms", "SmsUrl")):
        if name in setup.fields and capability not in live.capabilities:
            yield Finding("error", f"{number} cannot do {capability} at Twilio.")
    for what in overrides(setup, live):
        yield Finding("error", f"{number} belongs to {what}. Take it out in Twilio's console.")
    changed = differences(setup, live)
    for change in changed:
        wanted = change.wanted or "empty"
        yield Finding(
            "error", f"{number} {change.name} is {change.live or 'empty'}, should be {wanted}"
        )
    if changed:
        yield Finding("warning", f"{number}: sentralbord twilio provision --apply sets it up.")
    else:
        yield Finding("ok", f"{number} is set up.")
