"""How our numbers must be set up at Twilio, and how they are."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from channels.base import TemporaryError, UncertainError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from channels.twilio import Account
    from router.settings import Settings

RETRIES = "#rc=2&rp=5xx,ct,rt&ct=2000&rt=4500"
"""How Twilio tries a webhook: three times, 2 s for the connection and 4.5 s for the answer, within
the 15 s it has in all (Twilio, "Connection overrides"). Not a part of what is signed."""

VOICE = "/hooks/phone/twilio/voice"
STATUS = "/hooks/phone/twilio/status"
SMS = "/hooks/sms/twilio"

OVERRIDES = {
    "VoiceApplicationSid": "an application, which takes its calls",
    "SmsApplicationSid": "an application, which takes its texts",
    "TrunkSid": "a SIP trunk, which takes its calls",
}
"""Fields that make Twilio ignore the addresses of a number when they are set."""


@dataclass(frozen=True, slots=True)
class Setup:
    """How one of our numbers must be: each field by the name of the REST API."""

    number: str
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Difference:
    """A field that is not as it must be."""

    name: str
    wanted: str
    live: str


@dataclass(frozen=True, slots=True)
class Live:
    """A number as Twilio has it."""

    number: str
    sid: str
    fields: Mapping[str, str]
    capabilities: frozenset[str] = field(default=frozenset())
    """voice, sms, mms, fax."""


def setups(settings: Settings) -> list[Setup]:
    """How each of our numbers must be set up, for calls and for texts."""
    phone, sms = settings.channels.phone, settings.channels.sms
    url = settings.public_url
    found: dict[str, dict[str, str]] = {}
    for line in phone.numbers:
        found.setdefault(line.number, {}).update(
            {
                "VoiceUrl": f"{url}{VOICE}{RETRIES}",
                "VoiceMethod": "POST",
                "VoiceFallbackUrl": phone.fallback_url,
                "VoiceFallbackMethod": "POST",
                "StatusCallback": f"{url}{STATUS}{RETRIES}",
                "StatusCallbackMethod": "POST",
            }
        )
    if sms.provider == "twilio":
        # A short number is set up with whoever lets it out, not with the account.
        for number in (one for one in sms.numbers if one.startswith("+")):
            found.setdefault(number, {}).update(
                {
                    "SmsUrl": f"{url}{SMS}{RETRIES}",
                    "SmsMethod": "POST",
                    # The same door once more: what it does not hear of, reconciliation finds.
                    "SmsFallbackUrl": f"{url}{SMS}{RETRIES}",
                    "SmsFallbackMethod": "POST",
                }
            )
    return [Setup(number, fields) for number, fields in found.items()]


def field_names(wanted: Sequence[Setup]) -> list[str]:
    """The fields to look at."""
    return sorted({*OVERRIDES, *(name for setup in wanted for name in setup.fields)})


def differences(setup: Setup, live: Live) -> list[Difference]:
    """What is not as it must be. A fallback that is not configured is left as it is."""
    return [
        Difference(name, wanted, live.fields.get(name, ""))
        for name, wanted in setup.fields.items()
        if wanted != live.fields.get(name, "")
        and not (name.startswith("VoiceFallback") and not setup.fields["VoiceFallbackUrl"])
    ]


def overrides(setup: Setup, live: Live) -> list[str]:
    """What a number belongs to at Twilio that takes what should come to us, in words."""
    return [
        what
        for name, what in OVERRIDES.items()
        if live.fields.get(name)
        and ("SmsUrl" if name.startswith("Sms") else "VoiceUrl") in setup.fields
    ]


async def live_numbers(account: Account, names: Sequence[str]) -> dict[str, Live]:
    """The numbers of our account by E.164, with these fields. Raises a `ChannelError`, also when
    the answer cannot be read."""
    try:
        return await account.ask(lambda client: _read(client, names))
    except UncertainError as error:  # nothing was to be changed, so nothing is uncertain
        raise TemporaryError("No answer came that can be read.") from error


def _read(client: Any, names: Sequence[str]) -> dict[str, Live]:
    return {
        str(one.phone_number): Live(
            number=str(one.phone_number),
            sid=str(one.sid),
            fields={name: str(getattr(one, _attribute(name), "") or "") for name in names},
            capabilities=frozenset(
                name for name, can in dict(one.capabilities or {}).items() if can
            ),
        )
        for one in client.incoming_phone_numbers.list(page_size=1000)
    }


async def apply(account: Account, live: Live, changes: Sequence[Difference]) -> None:
    """Set a number up. Raises a `ChannelError`."""
    values: dict[str, Any] = {_attribute(change.name): change.wanted for change in changes}
    await account.ask(lambda client: client.incoming_phone_numbers(live.sid).update(**values))


def _attribute(name: str) -> str:
    """`VoiceUrl` -> `voice_url`, as the library has it."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
