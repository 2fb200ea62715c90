"""What Twilio's own lists say of our calls and recordings: what webhooks may have missed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from channels.phone.base import CallDirection, CallEvent, CallKind, RecordingRef
from channels.phone.twilio import ENDED, PROVIDER, party_of

if TYPE_CHECKING:
    from datetime import datetime

    from channels.twilio import Account

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class ListedCall:
    """A call, or the leg of one, as the provider has it."""

    id: str
    parent: str
    """Key of the call that this is a leg of; empty for a call by itself."""
    inbound: bool
    origin: str
    target: str
    status: str
    started_at: datetime | None
    ended_at: datetime | None
    seconds: int

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self.status in ENDED

    @property
    def talked(self) -> bool:
        """Whether somebody answered, and when it is over: that they did."""
        return self.status == "completed" and self.seconds > 0

    def event(self, kind: CallKind, now: datetime) -> CallEvent:
        """What the list tells of a call that came in."""
        over = kind is CallKind.ENDED
        return CallEvent(
            provider=PROVIDER,
            call_id=self.id,
            kind=kind,
            at=(self.ended_at if over else self.started_at) or now,
            direction=CallDirection.IN,
            caller=self.origin,
            line=self.target,
            status=self.status if over else "",
            cause=self.status if over else "",
            gone=over,
        )


@dataclass(frozen=True, slots=True)
class ListedRecording:
    """A recording, and the call that it was made in."""

    call_id: str
    recording: RecordingRef

    @property
    def ready(self) -> bool:
        """Whether it can be fetched, or is known to hold nothing."""
        return self.recording.status in {"completed", "absent", "failed"}


class TwilioLists:
    """The lists of our account. Each method raises `ChannelError`s alone."""

    def __init__(self, account: Account) -> None:
        self._account = account

    async def calls(self, since: datetime) -> list[ListedCall]:
        """Calls and legs that began since then, oldest first."""
        found = await self._account.ask(
            lambda client: [
                _call(one) for one in client.calls.list(start_time_after=since, page_size=_PAGE)
            ]
        )
        return found[::-1]

    async def legs_to(self, number: str, since: datetime) -> list[ListedCall]:
        """Calls to somebody that began since then, oldest first."""
        found = await self._account.ask(
            lambda client: [
                _call(one)
                for one in client.calls.list(to=number, start_time_after=since, page_size=_PAGE)
            ]
        )
        return found[::-1]

    async def call(self, call_id: str) -> ListedCall | None:
        """One call; None when the provider knows none."""
        return await self._account.ask(lambda client: _fetched(client, call_id))

    async def recordings(self, since: datetime) -> list[ListedRecording]:
        """Recordings of calls that were begun since then, oldest first."""
        found = await self._account.ask(
            lambda client: [
                _recording(one)
                for one in client.recordings.list(date_created_after=since, page_size=_PAGE)
            ]
        )
        return [one for one in found[::-1] if one.call_id]


def _call(found: Any) -> ListedCall:
    return ListedCall(
        id=str(found.sid),
        parent=str(found.parent_call_sid or ""),
        inbound=found.direction == "inbound",
        origin=party_of(str(found._from or "")),
        target=party_of(str(found.to or "")),
        status=str(found.status or ""),
        started_at=found.start_time or found.date_created,
        ended_at=found.end_time,
        seconds=_whole(found.duration),
    )


def _fetched(client: Any, call_id: str) -> ListedCall | None:
    from twilio.base.exceptions import TwilioRestException

    try:
        return _call(client.calls(call_id).fetch())
    except TwilioRestException as error:
        if error.status == 404:
            return None
        raise


def _recording(found: Any) -> ListedRecording:
    ref = RecordingRef(
        recording_id=str(found.sid),
        seconds=_whole(found.duration),
        status=str(found.status or ""),
    )
    return ListedRecording(str(found.call_sid or ""), ref)


def _whole(value: object) -> int:
    text = str(value or "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
