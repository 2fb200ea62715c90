"""An in-memory door: the reference for what a door does, used by tests and demonstrations."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from channels.base import Disposition, RawArrival, Receipt

if TYPE_CHECKING:
    from datetime import datetime

    from channels.base import ChannelError, Envelope, Outgoing, Receive


class FakeChannel:
    """`Channel` that keeps what is sent, and brings in what a test hands it.

    A message is taken once: sent again under its Message-ID it gets the first receipt, as from a
    provider with idempotency keys.
    """

    once_only = False

    def __init__(self, name: str = "fake", receive: Receive | None = None) -> None:
        self.name = name
        self.sent: list[Outgoing] = []
        self.attempts = 0
        self.started = False
        self.fault = ""
        self._receive = receive
        self._errors: deque[ChannelError] = deque()
        self._standing_error: ChannelError | None = None
        self._receipts: dict[str, Receipt] = {}

    async def start(self) -> None:
        """Begin to accept."""
        self.started = True

    async def stop(self) -> None:
        """Stop accepting."""
        self.started = False

    async def send(self, outgoing: Outgoing) -> Receipt:
        """Keep the message, or raise the error that was asked for."""
        self.attempts += 1
        error = self._errors.popleft() if self._errors else self._standing_error
        if error is not None:
            raise error
        known = self._receipts.get(outgoing.message_id)
        if known is not None:
            return known
        self.sent.append(outgoing)
        receipt = Receipt(provider_id=f"{self.name}-{len(self.sent)}", detail="OK")
        self._receipts[outgoing.message_id] = receipt
        return receipt

    def health(self) -> str:
        """What `fault` says."""
        return self.fault

    def fail_next(self, *errors: ChannelError) -> None:
        """Raise these errors, one for each of the next sends."""
        self._errors.extend(errors)

    def fail_always(self, error: ChannelError | None) -> None:
        """Raise this error for every send until called with None."""
        self._standing_error = error

    async def deliver(
        self, external_id: str, raw: bytes, envelope: Envelope, received_at: datetime
    ) -> Disposition:
        """Bring an arrival in, as if from outside. Raises what `receive` raises."""
        assert self._receive is not None, "this door was given no receive"  # noqa: S101
        return await self._receive(RawArrival(self.name, external_id, received_at, envelope, raw))
