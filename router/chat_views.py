"""A talk as its two sides see it: what was said, and how things stand."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from itertools import chain, islice, repeat
from typing import TYPE_CHECKING, Any

from sqlalchemy import Integer, and_, bindparam, exists, or_, select

from channels.base import Mark, MessageKind
from channels.email.quote import fold
from router.access import SERVICE_PREFIX
from router.chat_models import CHANNEL, Conversation, ConversationState, TalkOutcome
from router.models import Direction, Inquiry, InquiryStatus, Message, Staff, StoredAttachment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlmodel import Session

    from router.chat_queue import Turn


class Side(StrEnum):
    """Who listens or types."""

    RESIDENT = "resident"
    STAFF = "staff"


PAGE = 500
"""Messages read at a time,"""
TALKS = 8
"""of so many talks."""
MAILED = "mailed"
"""Kind of a line that only says that we answered by letter."""

_M: Any = Message.__table__  # type: ignore[attr-defined]
_F: Any = StoredAttachment.__table__  # type: ignore[attr-defined]
_C: Any = Conversation.__table__  # type: ignore[attr-defined]
_I: Any = Inquiry.__table__  # type: ignore[attr-defined]
_S: Any = Staff.__table__  # type: ignore[attr-defined]
_OF_CONVERSATION = (
    "id",
    "state",
    "inquiry_id",
    "email",
    "phone",
    "jid",
    "listening_until",
    "waiting_since",
    "staff_read",
    "resident_read",
    "outcome",
)
_ASKED_ELSEWHERE = (
    exists()
    .where(
        _M.c.inquiry_id == _C.c.inquiry_id,
        _M.c.direction == Direction.IN,
        _M.c.kind == MessageKind.CONTACT.value,
        _M.c.channel != CHANNEL,
    )
    .label("asked_elsewhere")
)
"""As `chat.asked_elsewhere`."""
_FILES = (
    select(_F.c.message_id, _F.c.id, _F.c.filename, _F.c.size, _F.c.content_type)
    .where(_F.c.message_id.in_(bindparam("messages", expanding=True)))
    .order_by(_F.c.id)
)


@dataclass(frozen=True, slots=True)
class LineFile:
    """A file of a line."""

    id: int
    filename: str
    size: int
    content_type: str


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was said. Ids grow in the order of saying."""

    id: int
    inquiry_id: int
    direction: Direction
    kind: str
    """`contact`, `reply`, `receipt`, `notice`, `emergency`, or `mailed`; to staff the letter itself
    instead of `mailed`, and `note`."""
    name: str
    text: str
    at: datetime
    client_id: str
    """The UUID of the browser that sent it; empty for ours."""
    files: tuple[LineFile, ...] = ()
    channel: str = CHANNEL
    staff_id: int | None = None
    """Who of us wrote it."""
    locked: bool = False
    """Whether its files are kept from everybody."""
    department: str = ""
    """Which answers at the moment when this was read, to staff."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How things stand in a conversation."""

    state: ConversationState
    inquiry_id: int | None
    ref: str = ""
    due_at: datetime | None = None
    closed: bool = False
    answered: bool = False
    """Whether we owe no answer."""
    staff: str = ""
    """Who has taken it."""
    staff_id: int | None = None
    outcome: TalkOutcome | None = None
    """What became of the talk, once we have ended it."""
    department: str = ""
    place: int = 0
    """In the line of those who wait for a first answer; 0 for who does not."""
    minutes: int = 0
    """The expected wait."""
    read: int = 0
    """Id of the last message of the resident that somebody at the desk has seen."""
    resident_read: int = 0
    email: str = ""
    phone: str = ""
    jid: str = ""
    """Where the resident writes from by XMPP; they have no page then."""
    asked_elsewhere: bool = False
    """Whether they wrote by mail or text meanwhile: answers go there, whatever is given here."""
    listening: bool = False
    """Whether the resident's page is open."""


def lines_since(
    session: Session,
    inquiry_id: int | None,
    after: int = 0,
    limit: int = PAGE,
    side: Side = Side.RESIDENT,
) -> list[Line]:
    """What was said after the message with this id, oldest first.

    Staff have the whole thread, notes among it. Of what others wrote into the inquiry by letter
    nothing is the resident's business.
    """
    if inquiry_id is None:
        return []
    staff = side is Side.STAFF
    rows = _rows(session, _said(1, staff), {inquiry_id: after}, limit)
    files = _files(session, rows)
    view = _staff_line if staff else _line
    return [view(row, files.get(row.id, ())) for row in rows]


def lines_for_both(
    session: Session, after: Mapping[int, int]
) -> tuple[list[tuple[Line | None, Line]], bool]:
    """What was said in several talks, each after its message (inquiry id -> message id), as its
    resident sees it, if they do, and as staff see it; and whether there may be more."""
    rows: list[Any] = []
    more = False
    waiting = iter(after.items())
    while some := dict(islice(waiting, TALKS)):
        found = _rows(session, _said(TALKS, True), some, PAGE)
        more = more or len(found) == PAGE
        rows += found
    files = _files(session, rows)
    lines = []
    for row in rows:
        mine = files.get(row.id, ())
        lines.append((_line(row, mine) if row.for_resident else None, _staff_line(row, mine)))
    return lines, more


@lru_cache
def _said(talks: int, whole: bool) -> Any:
    """What was said in so many talks at most; `whole`: with what is not the resident's business.
    Built once: in a busy hour it is asked fifty times a second."""
    since = or_(
        *(
            and_(_M.c.inquiry_id == bindparam(f"inquiry{n}"), _M.c.id > bindparam(f"after{n}"))
            for n in range(talks)
        )
    )
    for_resident = or_(
        and_(_M.c.channel == CHANNEL, _M.c.direction != Direction.NOTE),
        and_(_M.c.direction == Direction.OUT, _M.c.kind == "reply"),
    )
    query = select(
        _M.c.id,
        _M.c.inquiry_id,
        _M.c.channel,
        _M.c.direction,
        _M.c.kind,
        _M.c.sender_name,
        _M.c.text,
        _M.c.at,
        _M.c.external_id,
        _M.c.staff_id,
        _M.c.marks,
        for_resident.label("for_resident"),
    )
    if whole:
        answers = select(_I.c.department).where(_I.c.id == _M.c.inquiry_id).scalar_subquery()
        query = query.where(since).add_columns(answers.label("department"))
    else:
        query = query.where(since, for_resident)
    return query.order_by(_M.c.id).limit(bindparam("most", type_=Integer))


def _rows(session: Session, query: Any, after: Mapping[int, int], limit: int) -> list[Any]:
    values = {"most": limit}
    places = chain(after.items(), repeat((0, 0)))  # no inquiry has the number 0
    for n, (inquiry_id, last) in zip(range(TALKS), places, strict=False):
        values |= {f"inquiry{n}": inquiry_id, f"after{n}": last}
    return list(session.connection().execute(query, values))


def standings(
    session: Session, ids: Sequence[int], turns: Mapping[int, Turn], now: datetime
) -> dict[int, Standing]:
    """Conversation id -> how things stand."""
    rows = session.connection().execute(
        select(
            *(_C.c[name] for name in _OF_CONVERSATION),
            _I.c.ref,
            _I.c.due_at,
            _I.c.status,
            _I.c.department,
            _I.c.assignee_id,
            _S.c.name.label("staff_name"),
            _S.c.username,
            _ASKED_ELSEWHERE,
        )
        .outerjoin(_I, _I.c.id == _C.c.inquiry_id)
        .outerjoin(_S, _S.c.id == _I.c.assignee_id)
        .where(_C.c.id.in_(ids))
    )
    return {row.id: _standing(row, turns.get(row.id), now) for row in rows}


def _public(name: str | None, username: str | None) -> str:
    """What residents call somebody; the accounts of machines are nobody to them."""
    return "" if username is None or username.startswith(SERVICE_PREFIX) else name or ""


def _line(row: Any, files: Sequence[LineFile]) -> Line:
    elsewhere = row.channel != CHANNEL
    mine = row.direction is Direction.IN
    return Line(
        id=row.id,
        inquiry_id=row.inquiry_id,
        direction=row.direction,
        kind=MAILED if elsewhere else row.kind,
        channel=row.channel,
        name=row.sender_name,
        text="" if elsewhere else row.text,
        at=row.at,
        client_id=row.external_id.rpartition(":")[2] if mine else "",
        files=() if elsewhere else tuple(files),
    )


def _staff_line(row: Any, files: Sequence[LineFile]) -> Line:
    mail = row.channel == "email" and row.direction is Direction.IN
    return Line(
        id=row.id,
        inquiry_id=row.inquiry_id,
        direction=row.direction,
        kind=row.kind,
        name=row.sender_name,
        text=fold(row.text)[0] if mail else row.text,
        at=row.at,
        client_id="",
        files=tuple(files),
        channel=row.channel,
        staff_id=row.staff_id,
        locked=Mark.QUARANTINED in row.marks,
        department=row.department,
    )


def _files(session: Session, rows: Sequence[Any]) -> dict[int, list[LineFile]]:
    files: dict[int, list[LineFile]] = defaultdict(list)
    if rows:
        wanted = {"messages": [row.id for row in rows]}
        for message_id, *file in session.connection().execute(_FILES, wanted):
            files[message_id].append(LineFile(*file))
    return files


def _standing(row: Any, turn: Turn | None, now: datetime) -> Standing:
    until = row.listening_until
    shared: dict[str, Any] = {
        "state": row.state,
        "inquiry_id": row.inquiry_id,
        "read": row.staff_read,
        "resident_read": row.resident_read,
        "email": row.email,
        "phone": row.phone,
        "jid": row.jid,
        "listening": until is not None and until > now,
        "outcome": row.outcome,
        "asked_elsewhere": bool(row.asked_elsewhere),
    }
    if row.ref is None:
        return Standing(**shared)
    return Standing(
        **shared,
        ref=row.ref,
        due_at=row.due_at,
        closed=row.status is InquiryStatus.CLOSED,
        answered=row.waiting_since is None,
        staff=_public(row.staff_name, row.username),
        staff_id=row.assignee_id,
        department=row.department,
        place=turn.place if turn is not None else 0,
        minutes=turn.minutes if turn is not None else 0,
    )
