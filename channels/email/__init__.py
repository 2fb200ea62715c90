"""The e-mail door: mail in by SMTP, mail out by a smarthost.

`parse` is imported by worker processes, so this module loads neither server nor client library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from channels.email.compose import compose

if TYPE_CHECKING:
    from channels.base import Outgoing, Receipt
    from channels.email.send import Smarthost
    from channels.email.server import EmailServer


class EmailChannel:
    """`Channel` for e-mail. Without a server it only sends."""

    name = "email"
    once_only = False  # the same Message-ID again is the same mail

    def __init__(
        self, hostname: str, smarthost: Smarthost, server: EmailServer | None = None
    ) -> None:
        self.hostname = hostname
        self.smarthost = smarthost
        self.server = server
        self._started = False

    async def start(self) -> None:
        """Begin to accept mail; raises `MisconfiguredError` when the address cannot be had."""
        if self.server is not None:
            await self.server.start()
        self._started = True

    async def stop(self) -> None:
        """Stop accepting, let mail under way finish, close connections to the smarthost."""
        self._started = False
        if self.server is not None:
            await self.server.stop()
        await self.smarthost.close()

    async def send(self, outgoing: Outgoing) -> Receipt:
        """Hand one mail to the smarthost; raises a `ChannelError` when it was not taken."""
        import asyncio  # here, so that workers start without it

        # Megabytes of files take a while to be written as text.
        raw = (
            await asyncio.to_thread(compose, outgoing, self.hostname)
            if outgoing.attachments
            else compose(outgoing, self.hostname)
        )
        return await self.smarthost.send(outgoing.return_path, outgoing.to.value, raw)

    def health(self) -> str:
        """Empty when mail can come in, else one sentence; what cannot go out, the outbox tells."""
        if self._started and self.server is not None and not self.server.listening:
            return "E-postdøren lytter ikke."
        return ""
