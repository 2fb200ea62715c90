"""The chat on web pages: what a browser may send, and the first message as an arrival."""

from __future__ import annotations

import uuid
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import orjson

from channels.base import Address, Envelope, Incoming, Mark, RawArrival, RejectedError
from channels.numbers import e164
from channels.text import typed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

CHANNEL = "chat"
TEXT_LIMIT = 4000
"""Characters of one message."""
FILES = 3
"""Files of one message."""
FILE_LIMIT = 10 * 1000 * 1000
"""Bytes of one file."""
SUBJECT_LENGTH = 80

_OFFICE = "application/vnd.openxmlformats-officedocument."
ALLOWED_FILES = frozenset(
    {
        "application/pdf",
        "image/png",
        "image/jpeg",
        "image/gif",
        "image/webp",
        "image/heic",
        f"{_OFFICE}wordprocessingml.document",
        f"{_OFFICE}spreadsheetml.sheet",
        "application/vnd.oasis.opendocument.text",
        "text/plain",
    }
)
"""Kinds of files that residents may send, by what is in them and not by their names."""


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message as a browser sends it. `client_id` makes a second try the same message."""

    client_id: str
    text: str
    name: str = ""
    email: str = ""
    phone: str = ""
    language: str = ""


def check(message: ChatMessage, file_kinds: Sequence[str] = ()) -> dict[str, str]:
    """What is wrong with a message: field name -> code (`missing`, `invalid`, `too_long`,
    `too_many`, `not_allowed`); empty when fine. `file_kinds`: media types by content."""
    problems: dict[str, str] = {}
    if not client_id(message.client_id):
        problems["client_msg_id"] = "invalid"
    text = typed(message.text).strip()
    if not text and not file_kinds:
        problems["text"] = "missing"
    elif len(text) > TEXT_LIMIT:
        problems["text"] = "too_long"
    if len(file_kinds) > FILES:
        problems["files"] = "too_many"
    elif not ALLOWED_FILES.issuperset(file_kinds):
        problems["files"] = "not_allowed"
    return problems


def client_id(value: str) -> str:
    """A UUID (RFC 9562) in its canonical form; empty when it is none."""
    if len(value) != 36:
        return ""
    try:
        return str(uuid.UUID(value))
    except ValueError:
        return ""


def message_key(conversation: str, client: str) -> str:
    """The idempotency key of a message: unique in its conversation."""
    return f"{conversation}:{client}"


def conversation_of(external_id: str) -> str:
    """The conversation that a key of `message_key` belongs to."""
    return external_id.partition(":")[0]


def arrival(
    conversation: str,
    message: ChatMessage,
    now: datetime,
    files: Sequence[dict[str, Any]] = (),
    marks: Sequence[Mark] = (),
) -> RawArrival:
    """A message as it is journaled; `files` lie in the store already, `marks` are about them.
    Raises `RejectedError` when `check` finds problems."""
    if check(message, [file["content_type"] for file in files]):
        raise RejectedError
    raw = orjson.dumps(asdict(message), option=orjson.OPT_SORT_KEYS)
    key = message_key(conversation, client_id(message.client_id))
    envelope = {"files": list(files), "marks": [mark.value for mark in marks]}
    return RawArrival(CHANNEL, key, now, envelope, raw)


def parse(raw: bytes, envelope: Envelope, external_id: str) -> Incoming:
    """Bytes of `arrival` -> `Incoming`. Who gave an address is known by it, others are not."""
    message = orjson.loads(raw)
    text = typed(message["text"]).strip()
    name = " ".join(typed(message["name"]).split())[:200]
    phone = e164(message["phone"])
    marks = envelope.get("marks")
    sender = None
    if message["email"]:
        sender = Address("email", message["email"], name)
    elif phone:
        sender = Address("phone", phone, name)
    return Incoming(
        channel=CHANNEL,
        external_id=external_id,
        sender=sender,
        recipients=(),
        subject=headline(text),
        text=text,
        language=message["language"],
        phone=Address("phone", phone, name) if phone else None,
        marks=tuple(map(Mark, marks)) if isinstance(marks, list) else (),
    )


def headline(text: str) -> str:
    """The beginning of a message, where others have a subject; whole words."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    line = " ".join(line.split())
    if len(line) <= SUBJECT_LENGTH:
        return line
    cut = line[: SUBJECT_LENGTH - 1]
    return (cut.rpartition(" ")[0] or cut).rstrip(" ,.;:") + "…"
