"""Calls by Twilio: what its webhooks tell, and how it is told what to do.

Field names: twilio.com/docs/voice/twiml#request-parameters and the pages of the single verbs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from channels.base import Receipt, RejectedError
from channels.numbers import e164
from channels.phone.base import (
    CallDirection,
    CallEvent,
    CallKind,
    Command,
    RecordingRef,
    Verb,
    party,
)
from channels.phone.twiml import Site, room

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from channels.twilio import Account

PROVIDER = "twilio"

HOOKS = {
    "voice": CallKind.RINGING,
    "step": CallKind.NEXT,
    "dialled": CallKind.DIALLED,
    "chosen": CallKind.DIGITS,
    "wait": CallKind.QUEUED,
    "left": CallKind.LEFT_QUEUE,
    "recorded": CallKind.RECORDED,
    "recording": CallKind.RECORDING,
    "talked": CallKind.TALKED,
    "whisper": CallKind.ACCEPTED,
    "whispered": CallKind.ACCEPTED,
}
"""Step in the address of a webhook -> what it tells; `leg` and `status` go by `CallStatus`."""

OF_A_LEG = frozenset({"whisper", "whispered", "leg"})
"""Webhooks about another phone than the caller's."""

ENDED = frozenset({"completed", "busy", "failed", "no-answer", "canceled"})

_HIDDEN = {
    "+266696687": "anonymous",
    "+7378742833": "restricted",
    "+2562533": "blocked",
    "+8656696": "unknown",
    "+86282452253": "unavailable",
}
"""Words spelled on the keys of a phone, which come where a caller hides the number
(support.twilio.com, "Why am I getting calls from these strange numbers?")."""

_NO_SUCH_CALL = frozenset({20404, 21220})
"""Not found; the call is not in progress (twilio.com/docs/api/errors)."""


class GoneError(RejectedError):
    """There is no such call any longer."""


def event(
    hook: str, fields: Mapping[str, str], query: Mapping[str, str], now: datetime
) -> CallEvent:
    """What a webhook tells; `hook` is the last part of its address, `query` what we put there."""
    status = fields.get("CallStatus", "")
    kind = HOOKS.get(hook) or _kind_of(status, hook)
    of_a_leg = hook in OF_A_LEG
    outwards = fields.get("Direction", "").startswith("outbound")
    origin, target = party_of(fields.get("From", "")), party_of(fields.get("To", ""))
    recording = None
    if fields.get("RecordingSid"):
        recording = RecordingRef(
            fields["RecordingSid"],
            fields.get("RecordingUrl", ""),
            _whole(fields.get("RecordingDuration", "")) or 0,
            fields.get("RecordingStatus", "completed"),
        )
    digits = fields.get("Digits", "")
    sid = fields.get("CallSid", "")
    return CallEvent(
        provider=PROVIDER,
        call_id=fields.get("ParentCallSid", "") if of_a_leg else sid,
        kind=kind,
        at=now,
        leg_id=sid if of_a_leg else fields.get("DialCallSid", ""),
        direction=CallDirection.OUT if outwards else CallDirection.IN,
        caller=target if outwards else origin,
        line=origin if outwards else target,
        status="" if of_a_leg else status,
        users=(query["u"],) if query.get("u") else (),
        digits="" if hook == "whisper" or digits == "hangup" else digits,
        cause=fields.get("DialCallStatus") or fields.get("QueueResult") or status,
        seconds=_whole(fields.get("CallDuration", "")),
        recording=recording,
        step=_whole(query.get("n", "")),
        key=_whole(query.get("k", "")),
        bridged=_BOOLEANS.get(fields.get("DialBridged", "").lower()),
        gone=not of_a_leg and (status in ENDED or digits == "hangup"),
        forwarded_from=e164(fields.get("ForwardedFrom", "")),
        raw=fields,
    )


_BOOLEANS = {"true": True, "false": False}


def _kind_of(status: str, hook: str) -> CallKind:
    if status in ENDED:
        return CallKind.ENDED
    answered = status in {"in-progress", "answered"} and hook == "leg"
    return CallKind.ANSWERED if answered else CallKind.RINGING


def party_of(value: str) -> str:
    """One end of a call as we keep it; see `party`."""
    return _HIDDEN.get(value.strip()) or party(value)


def _whole(value: str) -> int | None:
    """A whole number of at most nine digits; None for anything else."""
    return int(value) if value.isascii() and value.isdecimal() and len(value) < 10 else None


class TwilioPhone:
    """Tells Twilio what to do with calls. Each method raises `ChannelError`s alone."""

    name = PROVIDER

    def __init__(self, account: Account, site: Site) -> None:
        self._account = account
        self._site = site

    async def command(self, command: Command) -> Receipt:
        """Carry a command out; for `Verb.RING` the receipt names the new leg.

        Raises `GoneError` when there is no such call or leg any longer, `UncertainError` when it
        may have been carried out.
        """
        return await self._account.ask(lambda client: self._carry_out(client, command))

    def _carry_out(self, client: Any, command: Command) -> Receipt:
        from twilio.base.exceptions import TwilioRestException

        try:
            return Receipt(self._tell(client, command))
        except TwilioRestException as error:
            if error.status == 404 or error.code in _NO_SUCH_CALL:
                raise GoneError from error
            raise

    def _tell(self, client: Any, command: Command) -> str:
        if command.verb is Verb.SEND:
            url = self._site.address("step", c=command.call, n=command.number)
            client.calls(command.call_id).update(url=url, method="POST")
        elif command.verb is Verb.RING:
            participant = client.conferences(room(command.call)).participants.create(
                from_=command.caller_id,
                to=command.to,
                label=command.label,
                timeout=command.seconds,
                beep="false",
                early_media=False,
                start_conference_on_enter=True,
                end_conference_on_exit=False,
                status_callback=self._site.address("leg", c=command.call, k=command.key),
                status_callback_method="POST",
                status_callback_event=["initiated", "ringing", "answered", "completed"],
            )
            return str(participant.call_sid)
        elif command.verb in {Verb.HOLD, Verb.RESUME}:
            self._hold(client, command)
        elif command.verb is Verb.DROP:
            client.calls(command.leg_id).update(status="completed")
        else:
            client.calls(command.call_id).update(status="completed")
        return ""

    def _hold(self, client: Any, command: Command) -> None:
        # Participants can be changed by the conference's own id alone.
        found = client.conferences.list(
            friendly_name=room(command.call), status="in-progress", limit=1
        )
        if not found:
            raise GoneError
        change: dict[str, Any] = {"hold": command.verb is Verb.HOLD}
        if command.verb is Verb.HOLD:
            change |= {"hold_url": self._site.address("hold"), "hold_method": "POST"}
        client.conferences(found[0].sid).participants(command.call_id).update(**change)
