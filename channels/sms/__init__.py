"""The SMS door: texts in by a provider's webhook, texts out by its API.

`parse` is imported by worker processes, so this module loads no provider's library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from channels.base import RejectedError
from channels.numbers import is_mobile

if TYPE_CHECKING:
    from channels.base import Outgoing, Receipt
    from channels.sms.base import SmsProvider

TEXT_LIMIT = 1600
"""Characters of one text; Twilio takes no more (error 21617)."""


class SmsChannel:
    """`Channel` for texts. What comes in, the webhook brings."""

    name = "sms"
    once_only = True

    def __init__(self, provider: SmsProvider) -> None:
        self.provider = provider

    async def start(self) -> None:
        """Nothing listens here: webhooks come by the web."""

    async def stop(self) -> None:
        """Nothing to close."""

    async def send(self, outgoing: Outgoing) -> Receipt:
        """Hand one text to the provider; raises a `ChannelError` when it was not taken.

        Landlines and short numbers cannot be reached, so they are not tried (Twilio 21614).
        """
        if not is_mobile(outgoing.to.value):
            raise RejectedError("Nummeret er ikke et mobilnummer og kan ikke ta imot SMS.")
        return await self.provider.send(outgoing)

    def health(self) -> str:
        """Empty: texts come in whenever the web does; what cannot go out, the outbox tells."""
        return ""
