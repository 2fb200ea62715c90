"""Recordings as they lie with Twilio: found, fetched, deleted."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from channels.base import RejectedError

if TYPE_CHECKING:
    from channels.twilio import Account

_SID = re.compile(r"RE[0-9a-fA-F]{32}")


class TwilioVault:
    """Where the recordings of our account are."""

    def __init__(self, account: Account) -> None:
        self._account = account

    async def fetch_recording(self, recording_id: str, limit: int) -> bytes:
        """The sound as WAV, at most `limit` bytes. Raises a `ChannelError`, `NotThereError` while
        there is none."""
        # Built from its id, never taken from a webhook.
        path = f"Recordings/{_require(recording_id)}.wav"
        return (await self._account.fetch(self._account.address(path), limit)).content

    async def delete_recording(self, recording_id: str) -> None:
        """Delete it; what is gone already is no error. Raises a `ChannelError`."""
        number = _require(recording_id)
        await self._account.ask(lambda client: _delete(client, number))


def _require(recording_id: str) -> str:
    if not _SID.fullmatch(recording_id):
        raise RejectedError("That is no recording of Twilio's.")
    return recording_id


def _delete(client: Any, recording_id: str) -> None:
    from twilio.base.exceptions import TwilioRestException

    try:
        client.recordings(recording_id).delete()
    except TwilioRestException as error:
        if error.status != 404:
            raise
