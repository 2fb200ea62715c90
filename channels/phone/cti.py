"""The municipality's own exchange: what it tells of its calls, by the generic CTI webhook.

Three events (newCall, answer, hangup) as JSON or as a form, in the format that existing bridges for
Asterisk, FreeSWITCH and others send (docs.zammad.org, "Generic CTI"). An exchange only tells; it
takes no commands, so its calls are answered on its own phones.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import orjson

from channels.base import RejectedError
from channels.numbers import dialled
from channels.phone.base import CallDirection, CallEvent, CallKind, party

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

PROVIDER = "cti"

ID_LENGTH = 250
"""Characters of a callId."""

MANY = 200
"""Fields of one event."""

_TEXT = 200
"""Characters kept of a name, a queue or a cause."""

Fields = dict[str, list[str]]
"""What an exchange sent: each field with all of its values."""

EVENTS: dict[str, tuple[CallKind, CallDirection | None]] = {
    "newcall": (CallKind.RINGING, None),
    "answer": (CallKind.ANSWERED, None),
    "hangup": (CallKind.ENDED, None),
    # Placetel, which names the direction by the event (github.com/Placetel/call-control-notify-api)
    "incomingcall": (CallKind.RINGING, CallDirection.IN),
    "outgoingcall": (CallKind.RINGING, CallDirection.OUT),
    "callaccepted": (CallKind.ANSWERED, CallDirection.IN),
    "hungup": (CallKind.ENDED, CallDirection.IN),
}
"""Name of an event without case and signs -> what happened, and the direction where it says so."""

NAMES = {
    "id": ("callId", "call_id", "callid"),
    "answering": ("answeringNumber", "answering_number", "peer"),
    "cause": ("cause", "type"),
    "users": ("user[]", "user", "users"),
}
"""Our word for a field -> the names that exchanges have for it; the first with a value counts."""

CAUSES = {
    "normalclearing": "normalClearing",
    "accepted": "normalClearing",
    "busy": "busy",
    "userbusy": "busy",
    "cancel": "cancel",
    "originatorcancel": "cancel",
    "noanswer": "noAnswer",
    "nouserresponse": "noAnswer",
    "callrejected": "noAnswer",
    "missed": "noAnswer",
    "congestion": "congestion",
    "normaltemporaryfailure": "congestion",
    "notfound": "notFound",
    "unallocatednumber": "notFound",
    "usernotregistered": "notFound",
    "subscriberabsent": "notFound",
    "forwarded": "forwarded",
    "voicemail": "voicemail",
    "blocked": "blocked",
}
"""A cause without case and signs -> the word of the format; FreeSWITCH and Placetel have their own.
What is not here is kept as it came."""

TALKED = frozenset({"accepted"})
"""Causes of a hangup that say that the call was answered."""

_URI = re.compile(r"(?:sips?|tel):(?://)?([^@;?]+)", re.IGNORECASE)
_LIST = re.compile(r"\[(.*)\]", re.DOTALL)


def read(content_type: str, body: bytes) -> Fields:
    """The fields of a JSON or URL-encoded body; multipart forms are read by the caller.

    Raises `RejectedError` when it is neither.
    """
    if "json" in content_type.lower() or body.lstrip()[:1] == b"{":
        return _read_json(body)
    # Old exchanges write Latin-1, which as UTF-8 is faulty.
    for encoding in ("utf-8", "latin-1"):
        try:
            return parse_qs(
                body.decode(encoding),
                keep_blank_values=True,
                encoding=encoding,
                errors="strict",
                max_num_fields=MANY,
            )
        except UnicodeDecodeError:
            continue
        except ValueError:
            break
    raise RejectedError("the form has too many fields")


def events(fields: Mapping[str, Sequence[str]], now: datetime) -> list[CallEvent]:
    """What the fields tell, none for an event that is not ours to know (dtmf, hold …).

    A hangup that says that the call was answered is both, in this order. Raises `RejectedError`
    with a sentence when event, direction or the call's id is missing.
    """
    name = _plain(_first(fields, "event"))
    if not name:
        raise RejectedError("event must be newCall, answer or hangup")
    kind, implied = EVENTS.get(name, (None, None))
    said = _first(fields, "direction").lower()
    if said not in {"in", "out"} and (said or implied is None):
        raise RejectedError("direction must be in or out")
    direction = CallDirection(said) if said else implied
    call_id = _first(fields, *NAMES["id"])
    if not call_id or len(call_id) > ID_LENGTH:
        raise RejectedError(f"callId must have 1 to {ID_LENGTH} characters")
    if kind is None or direction is None:
        return []
    origin, target = _number(_first(fields, "from")), _number(_first(fields, "to"))
    inwards = direction is CallDirection.IN
    cause = _first(fields, *NAMES["cause"]) if kind is CallKind.ENDED else ""

    def event(what: CallKind, why: str = "") -> CallEvent:
        return CallEvent(
            provider=PROVIDER,
            call_id=call_id,
            kind=what,
            at=now,
            direction=direction,
            caller=origin if inwards else target,
            line=target if inwards else origin,
            users=_users(fields),
            answering=_answering(_first(fields, *NAMES["answering"])),
            queue=_line(_first(fields, "queue")),
            cause=why,
            raw={name: ", ".join(values)[:_TEXT] for name, values in fields.items()},
        )

    told = [event(kind, _cause(cause))]
    return [event(CallKind.ANSWERED), *told] if _plain(cause) in TALKED else told


def _read_json(body: bytes) -> Fields:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        try:
            found = orjson.loads(body.decode("latin-1"))
        except orjson.JSONDecodeError:
            raise RejectedError("the body is no JSON") from None
    if not isinstance(found, dict):
        raise RejectedError("the JSON is no object")
    return {name: _values(value) for name, value in found.items()}


def _values(value: object) -> list[str]:
    """The texts of a JSON value; what is nested deeper tells us nothing."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return [str(value)]
    if isinstance(value, list):
        return [text for item in value if not isinstance(item, list) for text in _values(item)]
    return []


def _first(fields: Mapping[str, Sequence[str]], *names: str) -> str:
    """The first value that is not blank, under the first name that has one."""
    found = (_line(value) for name in names for value in fields.get(name, ()))
    return next((value for value in found if value), "")


def _number(value: str) -> str:
    """E.164, or the exchange's own text: an extension, «anonymous».

    A `+` that was not escaped in a form has come as a space.
    """
    uri = _URI.fullmatch(value)
    value = uri[1] if uri else value
    return dialled(value) or party(value)


def _answering(value: str) -> str:
    """Who answered: a number, or a login, which may look like an address."""
    return dialled(value) or value[:_TEXT]


def _users(fields: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Names of those who ring or are rung; `[Alice, Bob]` is two."""
    given = next((fields[name] for name in NAMES["users"] if fields.get(name)), ())
    names: list[str] = []
    for value in given:
        several = _LIST.fullmatch(value.strip())
        parts: Iterable[str] = several[1].split(",") if several else (value,)
        names += [_line(part).strip("\"' ")[:_TEXT] for part in parts]
    return tuple(dict.fromkeys(name for name in names if name))


def _cause(value: str) -> str:
    return CAUSES.get(_plain(value), value[:_TEXT])


def _plain(value: str) -> str:
    return re.sub(r"[^a-z]", "", value.lower())


def _line(value: str) -> str:
    """NFC, on one line, without control characters."""
    text = " ".join(unicodedata.normalize("NFC", value).split())
    return "".join(c for c in text if unicodedata.category(c)[0] != "C")
