"""A call as the journal keeps it, and as intake takes it: a contact without words."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson

from channels.base import Address, Incoming, RawArrival
from channels.numbers import emergency_service
from channels.phone.base import (
    CHANNEL,
    CallDirection,
    CallEvent,
    CallKind,
    RecordingRef,
    is_number,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


def key_of(provider: str, call_id: str) -> str:
    """The key of a call among all that came in by phone."""
    return f"{provider}:{call_id}"


def arrival(event: CallEvent) -> RawArrival:
    """What is journaled of the first that is told of a call."""
    value = {one.name: getattr(event, one.name) for one in fields(event)}
    value["recording"] = event.recording and {
        one.name: getattr(event.recording, one.name) for one in fields(event.recording)
    }
    raw = orjson.dumps({**value, "raw": dict(event.raw)})
    return RawArrival(
        CHANNEL, key_of(event.provider, event.call_id), event.at, {"provider": event.provider}, raw
    )


def read(raw: bytes) -> CallEvent:
    """The event that `arrival` wrote. Raises `ValueError` for anything else."""
    try:
        value: dict[str, Any] = orjson.loads(raw)
        recording: Mapping[str, Any] | None = value["recording"]
        return CallEvent(
            **{
                **value,
                "kind": CallKind(value["kind"]),
                "direction": CallDirection(value["direction"]),
                "at": datetime.fromisoformat(value["at"]),
                "users": tuple(value["users"]),
                "recording": RecordingRef(**recording) if recording else None,
            }
        )
    except (KeyError, TypeError) as error:
        raise ValueError("no call") from error


def incoming(event: CallEvent) -> Incoming:
    """The contact that a call is. Who has no number is nobody in particular."""
    return Incoming(
        channel=CHANNEL,
        external_id=key_of(event.provider, event.call_id),
        sender=Address(CHANNEL, event.caller) if is_number(event.caller) else None,
        sender_said=emergency_service(event.caller),
        recipients=(event.line,),
        subject="",
        text="",
    )
