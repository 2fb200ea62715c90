"""What passes the phone door: `CallEvent` on its way in, `Command` on its way out."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from channels.numbers import e164

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from channels.base import Receipt

CHANNEL = "phone"

OPAQUE_LENGTH = 80
"""Characters kept of a caller who is no number (anonymous, client:name)."""


class CallKind(StrEnum):
    """What happened to a call or to one leg of it."""

    RINGING = "ringing"
    ANSWERED = "answered"
    QUEUED = "queued"
    LEFT_QUEUE = "left_queue"
    ENDED = "ended"
    RECORDING = "recording"
    """A recording lies ready at the provider."""
    DIGITS = "digits"
    """The caller pressed keys, or the time for it ran out (then `digits` is empty)."""
    NEXT = "next"
    """The caller's call asks for its step, where we sent it."""
    ACCEPTED = "accepted"
    """A phone that rang for the caller picked up, and `digits` says whether it takes the call."""
    DIALLED = "dialled"
    """Phones have rung for the caller: `bridged` or `cause` says how that went."""
    RECORDED = "recorded"
    """The caller has been asked for a message; `recording` is what was said, None for nothing."""
    TALKED = "talked"
    """The caller has left the room where they talked."""


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
    step: int | None = None
    """Number of the step it belongs to, where it comes of one of our documents."""
    key: int | None = None
    """Our own number of the command that rang the leg."""
    bridged: bool | None = None
    """Whether the caller and a phone that rang talked; None when it is not told."""
    gone: bool = False
    """Whether the caller has hung up."""
    forwarded_from: str = ""
    """The number that was called first, E.164, when it passed the call on to us."""
    raw: Mapping[str, str] = field(default_factory=dict)
    """The fields as they came, for the journal."""


class At(StrEnum):
    """What a caller is doing just now: waiting for a phone, choosing, talking …"""

    DIAL = "dial"
    """Somebody's phone rings."""
    MENU = "menu"
    """The caller chooses by key."""
    QUEUE = "queue"
    TALK = "talk"
    """In the room where operators and colleagues join."""
    VOICEMAIL = "voicemail"
    END = "end"


@dataclass(frozen=True, slots=True)
class Said:
    """A phrase and what fills its blanks; `crisis` and the like may also be whole sentences."""

    phrase: str
    blanks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ring:
    """A phone that rings: whose, and its number."""

    user: str
    phone: str


@dataclass(frozen=True, slots=True)
class Step:
    """What a caller hears next and what can come of it. Everything that is said of an earlier
    `number` comes too late and changes nothing."""

    at: At
    number: int = 1
    say: tuple[Said, ...] = ()
    ring: tuple[Ring, ...] = ()
    """They ring together; whoever accepts first has the call."""
    choices: tuple[str, ...] = ()
    """Of a menu: the first is key 1."""
    leaving: bool = False
    """Of the queue: the caller is on the way out of it, and not to an operator."""
    back: str = ""
    """Who sent the caller on, for the ear of whoever is rung."""

    def as_json(self) -> dict[str, Any]:
        """For the store."""
        return {
            "at": self.at.value,
            "number": self.number,
            "say": [[said.phrase, dict(said.blanks)] for said in self.say],
            "ring": [[ring.user, ring.phone] for ring in self.ring],
            "choices": list(self.choices),
            "leaving": self.leaving,
            "back": self.back,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Step:
        """What `as_json` wrote."""
        return cls(
            at=At(value["at"]),
            number=value["number"],
            say=tuple(Said(phrase, blanks) for phrase, blanks in value["say"]),
            ring=tuple(Ring(user, phone) for user, phone in value["ring"]),
            choices=tuple(value["choices"]),
            leaving=value["leaving"],
            back=value["back"],
        )


class Verb(StrEnum):
    """What a provider can be told to do with a call."""

    SEND = "send"
    """Have the caller's call ask for its next step."""
    RING = "ring"
    """Ring `to`; whoever answers joins the caller's room as `label`."""
    HOLD = "hold"
    RESUME = "resume"
    DROP = "drop"
    """End the leg `leg_id`, ringing or not."""
    HANG_UP = "hang_up"


@dataclass(frozen=True, slots=True)
class Command:
    """One thing the provider shall do. `call` and `key` are ours: they come back with what the
    provider tells of it."""

    verb: Verb
    call_id: str
    call: int
    key: int = 0
    label: str = ""
    """caller, operator or colleague."""
    to: str = ""
    """E.164 of the phone to ring."""
    caller_id: str = ""
    """E.164 that the phone shows."""
    seconds: int = 20
    """How long it rings."""
    leg_id: str = ""
    number: int = 0
    """Of the step that is sent to."""


@runtime_checkable
class PhoneProvider(Protocol):
    """Somebody who carries our calls and does what we say."""

    name: str

    async def command(self, command: Command) -> Receipt:
        """Tell the provider; raises a `channels.base.ChannelError` when it was not taken."""


def party(value: str) -> str:
    """A caller as we keep it: E.164 where it is a number, else the provider's text, NFC, on one
    line and cut short. Never one person with another who has the same text."""
    text = " ".join(unicodedata.normalize("NFC", value).split())
    text = "".join(c for c in text if unicodedata.category(c)[0] != "C")
    return e164(text) or text[:OPAQUE_LENGTH]


def is_number(caller: str) -> bool:
    """Whether a party is a number that can be called back, and no opaque text."""
    return caller.startswith("+") and e164(caller) == caller
