"""Which messages are here already: one is the same however often, and to how many of our
addresses, it is delivered.

`journal.duplicate_window` says for how long; what comes later is somebody who sends the same words
once more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, select

from router.journal import duplicate_window, later_key, same_key
from router.models import Message

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlmodel import Session

    from router.preparing import Prepared

_MESSAGE: Any = Message.__table__  # type: ignore[attr-defined]
_KNOWN = select(
    _MESSAGE.c.channel,
    _MESSAGE.c.external_id,
    _MESSAGE.c.id,
    _MESSAGE.c.inquiry_id,
    _MESSAGE.c.at,
)
_AMONG = _KNOWN.where(_MESSAGE.c.external_id.in_(bindparam("keys", expanding=True)))


@dataclass(frozen=True, slots=True)
class Known:
    """A message that is here."""

    message_id: int
    inquiry_id: int
    key: str
    at: datetime


def key_of(item: Prepared) -> tuple[str, str]:
    """What tells a message from every other."""
    return item.incoming.channel, item.incoming.external_id


def recognise(
    session: Session, batch: Sequence[Prepared]
) -> tuple[list[Prepared], dict[tuple[str, str], Known]]:
    """The batch, and what of it is here already; what came long ago counts as a new message, which
    has a key of its own."""
    seen = known_messages(session, batch)
    todo: list[Prepared] = []
    renewed: dict[tuple[str, str], Known] = {}
    for item in batch:
        key, incoming = key_of(item), item.incoming
        window = duplicate_window(incoming.channel, undated=incoming.undated)
        last = seen.get(key)
        if last is None or item.received_at - last.at <= window:
            todo.append(item)
            continue
        last = renewed.get(key) or _last_of(session, item)
        if last is None or item.received_at - last.at > window:
            again = later_key(incoming.external_id, item.received_at)
            last = Known(0, 0, again, item.received_at)
        renewed[key] = last
        if last.message_id:
            seen[incoming.channel, last.key] = last
        todo.append(replace(item, incoming=replace(incoming, external_id=last.key)))
    return todo, seen


def known_messages(session: Session, batch: Sequence[Prepared]) -> dict[tuple[str, str], Known]:
    """Those that are here under their own keys."""
    keys = [item.incoming.external_id for item in batch]
    rows = session.connection().execute(_AMONG, {"keys": keys})
    return {
        (channel, key): Known(message, inquiry, key, at)
        for channel, key, message, inquiry, at in rows
    }


def _last_of(session: Session, item: Prepared) -> Known | None:
    """The latest message with the content of this one."""
    channel, key = key_of(item)
    row = (
        session.connection()
        .execute(
            _KNOWN.where(_MESSAGE.c.channel == channel, same_key(_MESSAGE.c, key))
            .order_by(_MESSAGE.c.id.desc())
            .limit(1)
        )
        .first()
    )
    return Known(row.id, row.inquiry_id, row.external_id, row.at) if row is not None else None


def is_in(session: Session, inquiry_id: int | None, item: Prepared) -> bool:
    """Whether an inquiry holds a message already, under whatever key."""
    channel, key = key_of(item)
    found = session.connection().execute(
        select(_MESSAGE.c.id)
        .where(
            _MESSAGE.c.inquiry_id == inquiry_id,
            _MESSAGE.c.channel == channel,
            same_key(_MESSAGE.c, key),
        )
        .limit(1)
    )
    return found.first() is not None
