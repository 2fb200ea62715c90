"""What passes a door: `Incoming` on its way in, `Outgoing` and `Receipt` on its way out.

A door (`Channel`) turns wire bytes into `Incoming` and `Outgoing` into wire bytes. It knows
providers and protocols, not our database: it is handed `receive`, which answers only after the
arrival is journaled.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

Envelope = Mapping[str, object]
"""What the transport said around the content (peer, sender, recipients …); JSON values only."""


class ChannelError(Exception):
    """Something went wrong at a door."""

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail or type(self).__doc__)


class TemporaryError(ChannelError):
    """It did not work now; trying again later may help."""


class PermanentError(ChannelError):
    """It will not work however often it is tried."""


class RejectedError(PermanentError):
    """The other side refused this content or this recipient."""


class OptedOutError(RejectedError):
    """The recipient has asked for no more messages."""


class MisconfiguredError(TemporaryError):
    """Our own set-up is refused (log-in, sender address); no message is to blame."""


class UnreachableError(TemporaryError):
    """Nobody answers on the other side; no message is to blame."""


class UncertainError(ChannelError):
    """The connection broke after the content was handed over: it may have been taken or not."""


class Disposition(StrEnum):
    """What the hall did with an arrival; the door renders it as 250, 2xx, TwiML …"""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"


class MessageKind(StrEnum):
    """What sort of message came in; only `CONTACT` is owed a reply."""

    CONTACT = "contact"
    AUTO_REPLY = "auto_reply"
    BOUNCE = "bounce"
    BULK = "bulk"
    SPAM = "spam"
    OPT_OUT = "opt_out"
    """STOP, and nothing else: no more texts."""
    OPT_IN = "opt_in"
    """START, and nothing else: texts again."""


class SenderCheck(StrEnum):
    """What our own mail relay found out about the sender's domain (RFC 8601)."""

    UNKNOWN = "unknown"
    VERIFIED = "verified"
    FAILED = "failed"


class Mark(StrEnum):
    """Something about a message that an operator should see at a glance."""

    SIGNED = "signed"
    ENCRYPTED = "encrypted"
    CALENDAR = "calendar"
    QUARANTINED = "quarantined"
    """A virus was found: its files are not served."""
    UNSCANNED = "unscanned"
    """A configured scanner did not answer."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where somebody can be reached: `channel` is email, phone, web …; `value` is normalised."""

    channel: str
    value: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that came or goes with a message. `filename` is NFC, without path or control
    characters."""

    filename: str
    content_type: str
    content: bytes
    content_id: str = ""
    inline: bool = False


@dataclass(frozen=True, slots=True)
class Spooled:
    """Content too large to be held in memory: a whole, fsynced file that the journal takes over by
    renaming it. The door removes it when the journal refuses."""

    path: Path
    size: int
    sha256: str
    """Of the content, in hex."""


@dataclass(frozen=True, slots=True)
class RawArrival:
    """Wire bytes and what the transport said around them, as journaled before the door answers.

    `external_id` is the door's own idempotency key: the same delivery twice has the same key.
    """

    channel: str
    external_id: str
    received_at: datetime
    envelope: Envelope
    raw: bytes
    """Empty when the content is in `spooled`."""
    spooled: Spooled | None = None

    @property
    def size(self) -> int:
        """Bytes of the content, wherever it is."""
        return self.spooled.size if self.spooled is not None else len(self.raw)


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """What a bounce says of the message it returns (RFC 3464); empty fields were not told."""

    recipient: str = ""
    """As the sender of the message knows it, where that is told."""
    status: str = ""
    """Enhanced status code (RFC 3463), such as 5.1.1."""
    detail: str = ""
    """What the other server said, one line."""
    message_id: str = ""
    """Message-ID of the message that came back, with its angle brackets."""
    final_recipient: str = ""
    """Where the message was going when it failed: another address, if it was forwarded."""
    null_sender: bool = False
    """Whether the report came from the null sender, as each must (RFC 3464 §2, RFC 5321 §4.5.5)."""


@dataclass(frozen=True, slots=True)
class RemoteMedia:
    """A file that came with a message and still lies at the provider."""

    url: str
    content_type: str = ""
    """What they call it; never to be trusted."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """One message from outside, normalised: unicode NFC, addresses lower case, nothing executed or
    trusted."""

    channel: str
    external_id: str
    """Key of the *content*: one message sent to two of our addresses has one key."""
    sender: Address | None
    recipients: tuple[str, ...]
    """Our own addresses it was delivered to, lower case, without the reply token."""
    subject: str
    text: str
    kind: MessageKind = MessageKind.CONTACT
    has_html: bool = False
    """Whether the original has a formatted version; it is sanitised when somebody looks at it."""
    attachments: tuple[Attachment, ...] = ()
    sent_at: datetime | None = None
    """What the sender claims (`Date:`); never used for deadlines."""
    message_id: str = ""
    in_reply_to: str = ""
    references: tuple[str, ...] = ()
    thread_token: str = ""
    """Signed token found in the envelope recipient (`svar+TOKEN@…`), unverified."""
    reply_to: Address | None = None
    receipt_barred: str = ""
    """Why no automatic receipt may go out (RFC 3834), in English for the event log; empty = it
    may."""
    language: str = ""
    forwarded: bool = False
    """The subject says VS:/Fwd:, so it is a new inquiry and not a reply."""
    defects: tuple[str, ...] = ()
    undated: bool = False
    """The author gave neither an id nor a date, so that two of a kind cannot be told apart."""
    phone: Address | None = None
    """A second way to reach the person, where the door asks for one (web form)."""
    sender_check: SenderCheck = SenderCheck.UNKNOWN
    marks: tuple[Mark, ...] = ()
    report: DeliveryReport | None = None
    """Only for a bounce."""
    sender_said: str = ""
    """What stood for a sender who has no address: a text sender, `anonymous`."""
    department: str = ""
    """Slug of the department that the sender named by a keyword."""
    may_text: bool = False
    """The words can mean that texts may come again, from somebody who had asked for none."""
    remote: tuple[RemoteMedia, ...] = ()
    """Files that are to be fetched."""
    jid: str = ""
    """Whose talk it is said in, where that is known by an XMPP address; bare."""
    local: str = ""
    """The local part of ours that this address wrote to."""


class OutgoingKind(StrEnum):
    """Why we write to somebody."""

    REPLY = "reply"
    RECEIPT = "receipt"
    EMERGENCY = "emergency"
    FORWARD = "forward"
    RELAY = "relay"
    """To somebody who works here: what a resident wrote."""
    NOTICE = "notice"
    """What a resident is told in the middle of a talk, such as who answers now."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message to one recipient; ids and times are fixed when it enters the outbox."""

    channel: str
    kind: OutgoingKind
    message_id: str
    """Full Message-ID with angle brackets; also the idempotency key towards the provider."""
    created_at: datetime
    to: Address
    sender: Address
    subject: str
    text: str
    reply_to: str = ""
    return_path: str = ""
    """Envelope sender; empty is the null sender (automatic messages, RFC 3834 §3.1.2)."""
    in_reply_to: str = ""
    references: tuple[str, ...] = ()
    language: str = "nb"
    automatic: bool = False
    attachments: tuple[Attachment, ...] = ()


class DeliveryState(StrEnum):
    """How far an outgoing message has come."""

    QUEUED = "queued"
    SENDING = "sending"
    """Handed over, or just being so."""
    SENT = "sent"
    DELIVERED = "delivered"
    """The recipient's own device has it, where a provider can say so."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class DeliveryStatus:
    """How far a message that was sent has come, as the provider tells later on."""

    provider_id: str
    state: DeliveryState
    detail: str = ""
    """Why it did not arrive, in the operator's words."""
    opted_out: bool = False


@dataclass(frozen=True, slots=True)
class Receipt:
    """The provider took the message. `detail` is its answer, fit for an operator's eyes."""

    provider_id: str = ""
    detail: str = ""


Receive = Callable[[RawArrival], Awaitable[Disposition]]
"""Journals an arrival. Returns after the commit; raises `TemporaryError` when it could not be
kept."""


@runtime_checkable
class Channel(Protocol):
    """One way in and out. `start`/`stop` bracket the listening; all methods run in the service's
    loop."""

    name: str
    once_only: bool
    """Whether the provider would take one message twice for two: then an attempt that was cut off
    is uncertain and not made again."""

    async def start(self) -> None:
        """Begin to accept; raises `MisconfiguredError` when that is impossible."""

    async def stop(self) -> None:
        """Stop accepting, let what is under way finish, close."""

    async def send(self, outgoing: Outgoing) -> Receipt:
        """Hand one message to the provider; raises a `ChannelError` when it was not taken."""

    def health(self) -> str:
        """Empty when well, else one sentence for `/readyz`."""


@runtime_checkable
class SharedDoor(Channel, Protocol):
    """A door that one service at a time has open, where several work on one store. What goes out
    by it keeps its order."""

    @property
    def elsewhere(self) -> bool:
        """Whether another service has it, or may have it: nothing is sent from here then."""
