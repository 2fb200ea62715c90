"""What passes the SMS door: a text that came in, our numbers, and what a provider must do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from channels.base import DeliveryStatus, Outgoing, RawArrival, Receipt, RemoteMedia


@dataclass(frozen=True, slots=True)
class TextIn:
    """A text as the provider's fields say, unchanged."""

    id: str
    sender: str
    to: str
    text: str
    media: tuple[RemoteMedia, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What our numbers are, and what words on them mean."""

    numbers: tuple[str, ...] = ()
    """E.164, or a short number as it is dialled."""
    keyword: str = ""
    """First word of texts on a number that is shared with others."""
    words: Mapping[str, str] = field(default_factory=dict)
    """Second word, as `parse.fold` writes it -> slug of the department it names."""


NO_TEXTS = Plan()


@dataclass(frozen=True, slots=True)
class SentText:
    """A text of ours in the provider's own list."""

    status: DeliveryStatus
    to: str
    sender: str
    text: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Window:
    """What a provider's lists hold of a period."""

    arrived: tuple[RawArrival, ...] = ()
    """As the webhook would have brought them: the journal knows those it has."""
    sent: tuple[SentText, ...] = ()


class SmsProvider(Protocol):
    """Who carries texts."""

    name: str

    async def send(self, outgoing: Outgoing) -> Receipt:
        """Hand one text over. Raises a `ChannelError`."""

    async def since(self, at: datetime) -> Window:
        """What came and went since then. Raises a `ChannelError`; empty where nobody can say."""

    async def find(self, outgoing: Outgoing) -> list[SentText]:
        """Texts of ours that may be this one: same recipient and words, not older. Raises a
        `ChannelError`."""
