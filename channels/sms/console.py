"""A provider for development: what goes out is written to the log and nobody gets it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import structlog

from channels.base import Receipt
from channels.sms.base import Window

if TYPE_CHECKING:
    from datetime import datetime

    from channels.base import Outgoing
    from channels.sms.base import SentText

log = structlog.get_logger(__name__)


class ConsoleSms:
    """`SmsProvider` that sends nothing."""

    name = "console"

    async def send(self, outgoing: Outgoing) -> Receipt:
        """Write the text down."""
        key = hashlib.sha256(outgoing.message_id.encode()).hexdigest()[:16]
        log.warning("sms.console", to=outgoing.to.value, text=outgoing.text)
        return Receipt(f"console-{key}", "Skrevet til loggen; sendt til ingen.")

    async def since(self, at: datetime) -> Window:
        """Nothing: nobody keeps a list."""
        return Window()

    async def find(self, outgoing: Outgoing) -> list[SentText]:
        """Nothing: nobody keeps a list."""
        return []
