"""Mail of a period read again: what a better parser finds in it, beside what is stored.

Only what the message says of itself is corrected: subject, sender, text, kind, files. Where the
inquiry went and when it is due stay as they were decided.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, insert, select, update

from channels.base import MessageKind
from channels.email.parse import parse
from channels.email.verdict import Verdict
from router import events
from router.blobs import put_blob, read_blob
from router.models import Arrival, ArrivalContent, Direction, Inquiry, Message, StoredAttachment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from sqlmodel import Session

    from channels.base import Incoming
    from router.preparing import Workbench

BATCH = 50
"""Mails that are read from the store at a time."""

_ARRIVAL: Any = Arrival.__table__  # type: ignore[attr-defined]
_CONTENT: Any = ArrivalContent.__table__  # type: ignore[attr-defined]
_MESSAGE: Any = Message.__table__  # type: ignore[attr-defined]
_INQUIRY: Any = Inquiry.__table__  # type: ignore[attr-defined]
_FILE: Any = StoredAttachment.__table__  # type: ignore[attr-defined]

_FIELDS = (
    "subject", "sender_name", "sender_address", "text", "kind", "has_html", "reply_to", "defects",
)  # fmt: skip
_OF_INQUIRY = ("subject", "sender_name", "sender_address")
_FILE_FIELDS = ("filename", "content_type", "size", "sha256", "content_id", "inline")
FILES = "attachments"


@dataclass(frozen=True, slots=True)
class Change:
    """One message that would be read otherwise now."""

    arrival_id: int
    message_id: int
    inquiry_id: int
    ref: str
    received_at: datetime
    fields: dict[str, tuple[Any, Any]]
    """Name -> (stored, found now); `attachments` holds tuples of (filename, content type, size)."""


@dataclass(frozen=True, slots=True)
class _Stored:
    row: Any
    files: list[dict[str, Any]]
    raw: bytes | None
    """None when the file of a large mail is gone."""


def reparse(
    write: Callable[[Callable[[Session], Any]], Any],
    workbench: Workbench,
    since: datetime,
    until: datetime,
    now: datetime,
    *,
    apply: bool = False,
) -> Iterator[Change]:
    """What would change in mail received from `since` up to `until`; with `apply` it is written.

    Each message is corrected in one of its own, with an event
    that names the fields.
    """
    after = 0
    while batch := write(partial(_stored, since=since, until=until, after=after)):
        for stored in batch:
            after = stored.row.arrival_id
            raw = stored.raw if stored.raw is not None else _large(workbench, stored)
            if raw is None:
                continue
            incoming = parse(raw, _envelope(stored.row), workbench.own, workbench.trust)
            change, values, files = _compare(stored, incoming, workbench if apply else None)
            if not change.fields:
                continue
            if apply:
                write(partial(_correct, change=change, values=values, files=files, now=now))
            yield change


def _stored(session: Session, since: datetime, until: datetime, after: int) -> list[_Stored]:
    connection = session.connection()
    rows = connection.execute(
        select(
            _MESSAGE,
            _ARRIVAL.c.envelope,
            _CONTENT.c.raw,
            _ARRIVAL.c.blob,
            _ARRIVAL.c.received_at,
            _INQUIRY.c.ref,
        )
        .join(_ARRIVAL, _ARRIVAL.c.id == _MESSAGE.c.arrival_id)
        .outerjoin(_CONTENT, _CONTENT.c.arrival_id == _ARRIVAL.c.id)
        .join(_INQUIRY, _INQUIRY.c.id == _MESSAGE.c.inquiry_id)
        .where(
            _MESSAGE.c.arrival_id > after,
            _MESSAGE.c.channel == "email",
            _MESSAGE.c.direction == Direction.IN,
            _ARRIVAL.c.received_at >= since,
            _ARRIVAL.c.received_at < until,
        )
        .order_by(_MESSAGE.c.arrival_id)
        .limit(BATCH)
    ).all()
    files: dict[int, list[dict[str, Any]]] = {}
    query = (
        select(_FILE).where(_FILE.c.message_id.in_([row.id for row in rows])).order_by(_FILE.c.id)
    )
    for file in connection.execute(query).mappings():
        files.setdefault(file["message_id"], []).append({name: file[name] for name in _FILE_FIELDS})
    return [
        _Stored(row, files.get(row.id, []), None if row.blob else row.raw or b"") for row in rows
    ]


def _envelope(row: Any) -> dict[str, Any]:
    """What the door said; and since nobody scans old mail again, that spam was found to be spam."""
    scan = Verdict(spam=row.kind == MessageKind.SPAM).for_envelope()
    return {**row.envelope, "scan": scan}


def _large(workbench: Workbench, stored: _Stored) -> bytes | None:
    try:
        return read_blob(workbench.blobs, stored.row.blob)
    except FileNotFoundError:
        return None


def _compare(
    stored: _Stored, incoming: Incoming, keep: Workbench | None
) -> tuple[Change, dict[str, Any], list[dict[str, Any]]]:
    """What differs, and the rows as they should be; with `keep`, new files are written."""
    found: dict[str, Any] = {
        "subject": incoming.subject,
        "sender_name": incoming.sender.name if incoming.sender else "",
        "sender_address": incoming.sender.value if incoming.sender else "",
        "text": incoming.text,
        "kind": incoming.kind.value,
        "has_html": incoming.has_html,
        "reply_to": incoming.reply_to.value if incoming.reply_to else "",
        "defects": list(incoming.defects),
    }
    files = [
        {
            "filename": file.filename,
            "content_type": file.content_type,
            "size": len(file.content),
            "sha256": put_blob(keep.blobs, file.content)
            if keep
            else sha256(file.content).hexdigest(),
            "content_id": file.content_id,
            "inline": file.inline,
        }
        for file in incoming.attachments
    ]
    row = stored.row._mapping
    fields: dict[str, tuple[Any, Any]] = {
        name: (row[name], found[name]) for name in _FIELDS if row[name] != found[name]
    }
    if files != stored.files:
        fields[FILES] = (_told(stored.files), _told(files))
    change = Change(
        arrival_id=row["arrival_id"],
        message_id=row["id"],
        inquiry_id=row["inquiry_id"],
        ref=row["ref"],
        received_at=row["received_at"],
        fields=fields,
    )
    return change, {name: found[name] for name in fields if name != FILES}, files


def _told(files: list[dict[str, Any]]) -> tuple[tuple[str, str, int], ...]:
    return tuple((file["filename"], file["content_type"], file["size"]) for file in files)


def _correct(
    session: Session,
    change: Change,
    values: dict[str, Any],
    files: list[dict[str, Any]],
    now: datetime,
) -> None:
    connection = session.connection()
    if values:
        connection.execute(
            update(_MESSAGE).where(_MESSAGE.c.id == change.message_id).values(**values)
        )
    if FILES in change.fields:
        connection.execute(delete(_FILE).where(_FILE.c.message_id == change.message_id))
        if files:
            connection.execute(
                insert(_FILE), [{**file, "message_id": change.message_id} for file in files]
            )
    for name in _OF_INQUIRY:
        if name in values:  # only where the inquiry still says what its first message said
            column = _INQUIRY.c[name]
            limit = 500 if name == "subject" else None
            before, after = change.fields[name]
            connection.execute(
                update(_INQUIRY)
                .where(_INQUIRY.c.id == change.inquiry_id, column == before[:limit])
                .values({name: after[:limit]})
            )
    events.record(
        session,
        "reparsed",
        at=now,
        inquiry_id=change.inquiry_id,
        data={"ref": change.ref, "fields": sorted(change.fields)},
    )
