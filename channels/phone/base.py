"""What passes the phone door: `CallEvent` on its way in, `Command` on its way out.

A provider says by its `Capability` what it can do; the desk shows the buttons that follow from it.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from channels.numbers import e164

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from channels.base import Receipt

CHANNEL = "phone"

OPAQUE_LENGTH = 80
"""Characters kept of a caller who is no number (anonymous, client:name)."""


class Capability(StrEnum):
    """What a provider can do."""

    EVENTS = "events"
    """It tells of calls."""
    CONTROL = "control"
    """Calls can be taken, held and ended."""
    QUEUE = "queue"
    """Callers wait with us."""
    RECORD = "record"
    """Callers can leave a message."""
    TRANSFER = "transfer"
    """Calls can be passed on, blind and attended."""


class CallKind(StrEnum):
    """What happened to a call or to one leg of it."""

    RINGING = "ringing"
    ANSWERED = "answered"
    QUEUED = "queued"
    LEFT_QUEUE = "left_queue"
    ENDED = "ended"
    RECORDING = "recording"
    """A recording lies ready at the provider."""
    CALLBACK_REQUESTED = "callback_requested"
    DIGITS = "digits"
    """The caller pressed keys, or the time for it ran out (then `digits` is empty)."""


class CallDirection(StrEnum):
    """Seen from the municipality."""

    IN = "in"
    OUT = "out"


@dataclass(frozen=True, slots=True)
class RecordingRef:
    """A recording as the provider tells of it."""

    recording_id: str
    url: str = ""
    """Where its sound lies; to be fetched only from a host on the list."""
    seconds: int = 0
    status: str = "completed"


@dataclass(frozen=True, slots=True)
class CallEvent:
    """One thing that a provider told of a call. It may come twice, late, or out of order."""

    provider: str
    call_id: str
    """The provider's own key of the caller's call."""
    kind: CallKind
    at: datetime
    """When it happened, as the provider says; else when we were told."""
    leg_id: str = ""
    """Key of another phone's leg, when the event is about that one."""
    direction: CallDirection = CallDirection.IN
    caller: str = ""
    """The party outside: E.164, or what the provider said instead (see `party`)."""
    line: str = ""
    """Our number, E.164."""
    seq: int | None = None
    """The provider's running number within the leg, where it counts."""
    status: str = ""
    """The provider's own word for where the call is."""
    users: tuple[str, ...] = ()
    """Whose phones are meant: names, usernames or numbers, as an exchange writes them."""
    answering: str = ""
    """The number or name that answered, where it is told."""
    queue: str = ""
    digits: str = ""
    cause: str = ""
    """Why it ended, in the provider's word."""
    seconds: int | None = None
    """How long it lasted, where it is told."""
    recording: RecordingRef | None = None
    raw: Mapping[str, str] = field(default_factory=dict)
    """The fields as they came, for the journal."""


class Verb(StrEnum):
    """What a provider can be told to do with a call."""

    SEND = "send"
    """Have the caller's call ask for the step `step`."""
    RING = "ring"
    """Ring `to`; whoever answers joins the caller's talk as `label`."""
    HOLD = "hold"
    RESUME = "resume"
    DROP = "drop"
    """Take the party `label` out of the talk, or stop ringing for it."""
    HANG_UP = "hang_up"


@dataclass(frozen=True, slots=True)
class Command:
    """One thing the provider shall do. `key` is ours; it comes back with what the provider tells
    of it."""

    verb: Verb
    call_id: str
    key: str = ""
    label: str = ""
    """caller, operator or colleague."""
    to: str = ""
    """E.164 of the phone to ring."""
    caller_id: str = ""
    """E.164 that the phone shows."""
    seconds: int = 20
    """How long it rings."""
    step: str = ""


@runtime_checkable
class PhoneProvider(Protocol):
    """Somebody who carries our calls."""

    name: str
    capabilities: frozenset[Capability]

    async def command(self, command: Command) -> Receipt:
        """Tell the provider; raises a `channels.base.ChannelError` when it was not taken."""

    async def since(self, start: datetime) -> Sequence[CallEvent]:
        """What its own lists say of the calls and recordings since `start`; empty where there are
        no lists. Raises a `channels.base.ChannelError`."""


def party(value: str) -> str:
    """A caller as we keep it: E.164 where it is a number, else the provider's text, NFC, on one
    line and cut short. Never one person with another who has the same text."""
    text = " ".join(unicodedata.normalize("NFC", value).split())
    text = "".join(c for c in text if unicodedata.category(c)[0] != "C")
    return e164(text) or text[:OPAQUE_LENGTH]


def is_number(caller: str) -> bool:
    """Whether a party is a number that can be called back, and no opaque text."""
    return caller.startswith("+") and e164(caller) == caller
