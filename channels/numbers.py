"""Phone numbers: E.164 where they are valid, and what may be done with them."""

from __future__ import annotations

from functools import lru_cache

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumberFormat, PhoneNumberType

REGION = "NO"
"""Where a number without a country code belongs."""

COUNTRIES = frozenset(phonenumbers.SUPPORTED_REGIONS)
"""Those that have numbers (ISO 3166-1 alpha-2)."""

_WORLD = "001"
"""UN M49."""
_SHARES_PLAN = {"SJ": "NO"}

EMERGENCY_SERVICES = frozenset({"110", "112", "113", "116117"})
"""Whoever calls from one of these is never turned away, and stands in front of everybody."""

_MOBILE = {PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE_OR_MOBILE}


def emergency_service(caller: str) -> str:
    """The short number of the emergency service that calls; empty for everybody else."""
    short = caller.removeprefix("+47")
    return short if short in EMERGENCY_SERVICES else ""


@lru_cache(512)
def e164(value: str) -> str:
    """The number in E.164, or empty when it cannot be one. Norwegian unless it says otherwise.

    A short number such as 06040 keeps its zero (+4706040).
    """
    number = _parsed(value)
    if number is None or not phonenumbers.is_possible_number(number):
        return ""
    return phonenumbers.format_number(number, PhoneNumberFormat.E164)


def dialled(value: str) -> str:
    """The number in E.164 as exchanges write it: national, or with the country code and often
    without `+`. Empty for anything else, such as an internal extension."""
    national = _parsed(value)
    if national is not None and phonenumbers.is_valid_number(national):
        return phonenumbers.format_number(national, PhoneNumberFormat.E164)
    digits = "".join(c for c in value if c.isascii() and c.isdecimal())
    foreign = _parsed(f"+{digits}")
    if foreign is not None and phonenumbers.is_valid_number(foreign):
        return phonenumbers.format_number(foreign, PhoneNumberFormat.E164)
    return e164(value)


def is_mobile(number: str) -> bool:
    """Whether a text can reach this number: a mobile one, in Norway those with 4 or 9; no landline,
    no short number (Twilio error 21614)."""
    parsed = _parsed(number) if number.startswith("+") else None
    return parsed is not None and phonenumbers.number_type(parsed) in _MOBILE


def country_of(number: str) -> str:
    """Country of a number in E.164 (ISO 3166-1 alpha-2); empty for one that no country has given
    out, as those of satellites. Svalbard's are Norwegian."""
    parsed = _parsed(number) if number.startswith("+") else None
    region = phonenumbers.region_code_for_number(parsed) if parsed is not None else None
    return "" if region in {None, _WORLD} else _SHARES_PLAN.get(region, region)


def is_premium(number: str) -> bool:
    """Whether this is a premium-rate number: its callers pay for more than the call."""
    parsed = _parsed(number) if number.startswith("+") else None
    return parsed is not None and phonenumbers.number_type(parsed) is PhoneNumberType.PREMIUM_RATE


def _parsed(value: str) -> phonenumbers.PhoneNumber | None:
    if len(value) > 40:
        return None
    try:
        return phonenumbers.parse(value, REGION)
    except NumberParseException:
        return None
