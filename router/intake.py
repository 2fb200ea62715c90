"""Arrival -> contact, inquiry, message, decision, receipt: everything of one contact in ONE
transaction.

A message is one however often and to how many of our addresses it is delivered
(`journal.duplicate_window`); where it belongs is said in `router/threads.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import bindparam, func, insert, select, update
from sqlmodel import Session, col

from channels.base import Mark, MessageKind, OutgoingKind
from channels.chat.web import conversation_of
from router import chat, correspondence, events, outbox, robots, texting
from router.chat_models import CHANNEL as CHAT
from router.contacts import contacts_of
from router.counters import add_to_counters, counted, counters_of
from router.models import (
    Addressee,
    Arrival,
    ArrivalState,
    Counter,
    Inquiry,
    InquiryStatus,
    Message,
    RemoteFile,
    ReplyState,
    StoredAttachment,
)
from router.records import (
    INSERT_ADDRESSEE,
    INSERT_DECISION,
    INSERT_INQUIRY,
    INSERT_MESSAGE,
    INSERT_OUTBOX,
    birth_events,
    decision_row,
    inquiry_row,
    message_row,
    withheld_row,
)
from router.repeats import is_in, key_of, known_messages, recognise
from router.scanning import note_verdict
from router.statements import Prepared as Statement
from router.threads import by_token, find_thread, takes_part
from router.xmpp_talks import placed
from rules.order import Lane

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from channels.base import Incoming
    from router.correspondence import Letterhead
    from router.preparing import Prepared
    from router.repeats import Known

_ARRIVAL: Any = Arrival.__table__  # type: ignore[attr-defined]
_MESSAGE: Any = Message.__table__  # type: ignore[attr-defined]
_FILE: Any = StoredAttachment.__table__  # type: ignore[attr-defined]
_REMOTE: Any = RemoteFile.__table__  # type: ignore[attr-defined]

_STILL_NEW = select(_ARRIVAL.c.id).where(
    _ARRIVAL.c.id.in_(bindparam("arrivals", expanding=True)),
    _ARRIVAL.c.state == ArrivalState.NEW,
)
_COUNTED_TO = Statement(
    lambda _dialect: select(col(Counter.value)).where(col(Counter.name) == bindparam("counter"))
)
_FINISH = Statement(
    lambda _dialect: (
        update(_ARRIVAL)
        .where(_ARRIVAL.c.id == bindparam("arrival"))
        .values({name: bindparam(name) for name in ("state", "inquiry_id", "processed_at")})
    )
)


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of one arrival."""

    arrival_id: int
    inquiry_id: int
    ref: str
    department: str
    due_at: datetime
    outcome: str
    """`new`, `joined` (an existing thread), `duplicate` (the message was here already)."""


def process(
    session: Session, batch: Sequence[Prepared], head: Letterhead, now: datetime
) -> list[Taken]:
    """Take prepared arrivals in; one that is no longer `new` is passed over. All or nothing."""
    waiting = _still_new(session, batch)
    new = [placed(session, item, now) for item in batch if item.arrival_id in waiting]
    todo, seen = recognise(session, new)
    taken: list[Taken] = []
    fresh: list[tuple[Prepared, int | None]] = []
    later: list[Prepared] = []
    keys: set[tuple[str, str]] = set()
    begun: set[str] = set()
    addressed = {key_of(item) for item in todo if item.incoming.thread_token}
    for item in todo:
        key = key_of(item)
        # People write two texts where they would write one mail.
        talk = _talk_of(item) or texting.pair_of(item)
        # Of one message to several of our addresses, the one to a thread says where it belongs.
        waits = key in addressed and not item.incoming.thread_token
        if key in keys or talk in begun or waits:
            later.append(item)
            continue
        keys.add(key)
        if key in seen:
            taken.append(_again(session, item, seen[key], head, now))
        else:
            inquiry, hint = find_thread(session, item, head)
            if inquiry is not None:
                taken.append(_join(session, item, inquiry, head, now))
            else:
                fresh.append((item, hint))
                begun |= {talk} if talk else set()
    taken += _open(session, fresh, head, now)
    for item in later:
        taken += _after_the_others(session, item, head, now)
    return taken


def _after_the_others(
    session: Session, item: Prepared, head: Letterhead, now: datetime
) -> list[Taken]:
    """A message that is in the batch twice, or the second of a talk that begins in it."""
    known = known_messages(session, [item]).get(key_of(item))
    if known is not None:
        return [_again(session, item, known, head, now)]
    inquiry, hint = find_thread(session, item, head)
    if inquiry is not None:
        return [_join(session, item, inquiry, head, now)]
    return _open(session, [(item, hint)], head, now)


def _talk_of(item: Prepared) -> str:
    """The chat that a message was said in; empty for everything else."""
    incoming = item.incoming
    return conversation_of(incoming.external_id) if incoming.channel == CHAT else ""


def _still_new(session: Session, batch: Sequence[Prepared]) -> set[int]:
    numbers = [item.arrival_id for item in batch]
    return set(session.connection().execute(_STILL_NEW, {"arrivals": numbers}).scalars())


def _again(
    session: Session, item: Prepared, known: Known, head: Letterhead, now: datetime
) -> Taken:
    """A message that is here already, delivered to another of our addresses."""
    first = session.get_one(Message, known.message_id)
    if Mark.QUARANTINED in item.incoming.marks and Mark.QUARANTINED not in first.marks:
        # The scanners know more than they did; it is the same content.
        note_verdict(session, first, [Mark.QUARANTINED], now)
    token = item.incoming.thread_token
    thread = by_token(session, token, head) if token else None
    if thread is None or is_in(session, thread.id, item):
        return _add_addressees(session, item, known, head, now)
    return _into_its_thread(session, item, known, thread, head, now)


def _into_its_thread(
    session: Session,
    item: Prepared,
    known: Known,
    thread: Inquiry,
    head: Letterhead,
    now: datetime,
) -> Taken:
    """A message that answers us, and came to another of our addresses first: it belongs in its
    thread. What it began elsewhere is closed when it is all there is and nobody has touched it;
    what somebody has worked with stays as it is. Each names the other."""
    first = session.get_one(Message, known.message_id)
    stray = session.get_one(Inquiry, known.inquiry_id)
    # The thread has the message from now on, for whatever is delivered later.
    first.external_id = f"{known.key}:{stray.id}"
    session.flush()
    recipients = tuple(dict.fromkeys((*first.recipients, *item.incoming.recipients)))
    incoming = replace(item.incoming, recipients=recipients)
    taken = _join(session, replace(item, incoming=incoming), thread, head, now)
    _share(session, recipients, thread, head, now)
    messages = session.connection().execute(
        select(func.count()).where(_MESSAGE.c.inquiry_id == stray.id)
    )
    untouched = (
        stray.status is InquiryStatus.OPEN
        and stray.version == 1  # claim, release, transfer, answer and reopening each count it up
        and not stray.emergency
        and not head.departments[stray.department].external
        and messages.scalar_one() == 1
    )
    for one, other in ((thread, stray), (stray, thread)):
        events.tell(session, "duplicate", one, now, data={"other": other.ref})
    if untouched:
        with counted(session, stray):
            stray.status = InquiryStatus.CLOSED
            stray.closed_at = now
            stray.version += 1
        events.tell(session, "closed", stray, now, data={"duplicate_of": thread.ref})
    return taken


def _add_addressees(
    session: Session, item: Prepared, known: Known, head: Letterhead, now: datetime
) -> Taken:
    """The same message to another of our addresses: one inquiry that names both, and both see."""
    message = session.get_one(Message, known.message_id)
    inquiry = session.get_one(Inquiry, known.inquiry_id)
    added = [a for a in item.incoming.recipients if a not in message.recipients]
    if added:
        message.recipients = [*message.recipients, *added]
        session.flush()
        _share(session, message.recipients, inquiry, head, now)
    _finish(session, item, known.inquiry_id, ArrivalState.DUPLICATE, now)
    return _taken(item, inquiry, "duplicate")


def _share(
    session: Session, recipients: Sequence[str], inquiry: Inquiry, head: Letterhead, now: datetime
) -> None:
    """Show an inquiry to the other departments that its message was for."""
    others = correspondence.also_addressed(
        head, recipients, inquiry.department, inquiry.sensitivity
    )
    number = inquiry.id or 0
    with counted(session, inquiry):
        for other in others:
            session.merge(Addressee(department=other, inquiry_id=number))
        session.flush()
    log = [
        events.row("addressee_added", number, inquiry.ref, department, now)
        for department in (others or [inquiry.department])
    ]
    events.insert_rows(session.connection(), log)


def _join(
    session: Session, item: Prepared, inquiry: Inquiry, head: Letterhead, now: datetime
) -> Taken:
    """Add a message to its thread. Only a person's message restarts an answered inquiry's clock."""
    incoming = item.incoming
    if incoming.kind is MessageKind.BOUNCE:
        letter = robots.returned_letter(session, incoming, head)
        if letter is not None and letter.state != "failed":
            status = incoming.report.status if incoming.report is not None else ""
            outbox.fail(session, letter, robots.what_was_said(incoming.report), now, status=status)
    asks = robots.asks(incoming)
    alarming = asks and item.decision.emergency
    with counted(session, inquiry):
        if asks:
            inquiry.last_message_at = item.received_at
            inquiry.version += 1
            _await_answer(session, item, inquiry, now)
        if alarming:
            inquiry.emergency = True
            inquiry.emergency_seen_at = None
            inquiry.lane = int(Lane.CRISIS)
            inquiry.sort_at = item.received_at
    session.flush()
    row = message_row(item, inquiry.id or 0)
    [message_id] = _ids(INSERT_MESSAGE, session.connection(), [row])
    _keep_files(session, [(item, message_id)], now)
    talk = _talk_of(item)
    if talk:
        chat.joined(session, head, talk, inquiry, message_id, now, emergency=alarming)
    events.tell(
        session,
        "message_in" if asks else "automatic_in",
        inquiry,
        now,
        data={
            "kind": incoming.kind.value,
            "other_sender": not talk and not takes_part(session, inquiry, incoming.sender),
        },
    )
    if alarming:
        words = orjson.loads(item.trace)["emergency"]["keyword"]
        events.tell(session, "emergency", inquiry, now, data={"words": words})
        if _may_answer(item):
            _write_alarm_letter(session, item, inquiry, head, now)
    texting.heard(session, item, inquiry.id or 0, now)
    _finish(session, item, inquiry.id or 0, ArrivalState.PROCESSED, now)
    return _taken(item, inquiry, "joined")


def _write_alarm_letter(
    session: Session, item: Prepared, inquiry: Inquiry, head: Letterhead, now: datetime
) -> None:
    brakes = correspondence.Brakes(session, head, now)
    limit = _limit(session, head, brakes, item, inquiry.id)
    if limit:
        log = [_withheld(head, item, limit, inquiry.id or 0, inquiry.ref, inquiry.department, now)]
        events.insert_rows(session.connection(), log)
        return
    row = correspondence.receipt_row(head, item, inquiry.id or 0, inquiry.ref, None, now)
    INSERT_OUTBOX.many(session.connection(), [row])


def _await_answer(session: Session, item: Prepared, inquiry: Inquiry, now: datetime) -> None:
    reopened = inquiry.status is not InquiryStatus.OPEN
    was_closed = inquiry.status is InquiryStatus.CLOSED
    inquiry.status = InquiryStatus.OPEN
    inquiry.closed_at = None
    if was_closed or inquiry.answered_at is not None:
        # A new question after an answer is owed an answer of its own; an unanswered one keeps its
        # date.
        inquiry.answered_at = None
        inquiry.due_at = item.due.due_at
        inquiry.warn_at = item.due.warn_at or item.due.due_at
        inquiry.calendar = item.due.calendar_identity
        inquiry.warned_at = None
        inquiry.overdue_at = None
        inquiry.sort_at = item.received_at if inquiry.emergency else inquiry.due_at
        data = {"due_at": item.due.due_at.isoformat()}
        events.tell(session, "due_changed", inquiry, now, data=data)
    inquiry.reply_state = ReplyState.UNANSWERED
    if reopened:
        events.tell(session, "reopened", inquiry, now, data={"by": "contact"})


def _open(
    session: Session,
    fresh: Sequence[tuple[Prepared, int | None]],
    head: Letterhead,
    now: datetime,
) -> list[Taken]:
    """New inquiries, in bulk: one statement per table, whatever the number."""
    if not fresh:
        return []
    connection = session.connection()
    items = [item for item, _ in fresh]
    contacts = contacts_of(session, items, now)
    refs = _references(session, [item.received_at.astimezone(head.zone).year for item in items])
    inquiries = [
        inquiry_row(item, ref, contacts, hint)
        for (item, hint), ref in zip(fresh, refs, strict=True)
    ]
    ids = dict(zip(refs, _ids(INSERT_INQUIRY, connection, inquiries), strict=True))
    messages = _ids(
        INSERT_MESSAGE,
        connection,
        [message_row(item, ids[ref]) for item, ref in zip(items, refs, strict=True)],
    )
    INSERT_DECISION.many(
        connection,
        [decision_row(item, ids[ref], now) for item, ref in zip(items, refs, strict=True)],
    )
    log: list[dict[str, Any]] = []
    letters: list[dict[str, Any]] = []
    shared: list[dict[str, Any]] = []
    changes: dict[str, int] = {}
    brakes = correspondence.Brakes(session, head, now)
    for item, ref in zip(items, refs, strict=True):
        inquiry_id = ids[ref]
        department = item.decision.department
        log += birth_events(item, inquiry_id, ref, now)
        limit = _limit(session, head, brakes, item) if _may_answer(item) else ""
        forwarded = correspondence.is_forwarded(head, item) and brakes.allow(
            OutgoingKind.FORWARD, str(head.departments[department].forward_to)
        )
        if limit:
            log.append(_withheld(head, item, limit, inquiry_id, ref, department, now))
        elif _may_answer(item):
            letters.append(correspondence.receipt_row(head, item, inquiry_id, ref, forwarded, now))
        if forwarded:
            letters.append(correspondence.forward_row(head, item, inquiry_id, ref, now))
            log.append(events.row("forwarded", inquiry_id, ref, department, now))
        if robots.sets_aside(item):
            continue
        others = correspondence.also_addressed(
            head, item.incoming.recipients, department, item.decision.sensitivity
        )
        for name in counters_of(["open"], department, others):
            changes[name] = changes.get(name, 0) + 1
        log += [events.row("addressee_added", inquiry_id, ref, other, now) for other in others]
        shared += [{"department": other, "inquiry_id": inquiry_id} for other in others]
    INSERT_OUTBOX.many(connection, letters)
    INSERT_ADDRESSEE.many(connection, shared)
    _keep_files(session, zip(items, messages, strict=True), now)
    for item, ref, message_id in zip(items, refs, messages, strict=True):
        if talk := _talk_of(item):
            emergency = item.decision.emergency
            chat.begin(session, head, talk, ids[ref], message_id, now, emergency=emergency)
    events.insert_rows(connection, log)
    for item, ref in zip(items, refs, strict=True):
        texting.heard(session, item, ids[ref], now)
    add_to_counters(session, changes)
    _FINISH.many(
        connection,
        [
            {
                "arrival": item.arrival_id,
                "state": ArrivalState.PROCESSED,
                "inquiry_id": ids[ref],
                "processed_at": now,
            }
            for item, ref in zip(items, refs, strict=True)
        ],
    )
    return [
        Taken(item.arrival_id, ids[ref], ref, item.decision.department, item.due.due_at, "new")
        for item, ref in zip(items, refs, strict=True)
    ]


def _ids(statement: Statement, connection: Connection, rows: Sequence[dict[str, Any]]) -> list[int]:
    return [answer[0] for answer in statement.each(connection, rows)]


def _references(session: Session, years: Iterable[int]) -> list[str]:
    """The next running references, `S-2026-000123`, one per given year of receipt."""
    wanted: dict[int, int] = {}
    years = list(years)
    for year in years:
        wanted[year] = wanted.get(year, 0) + 1
    add_to_counters(session, {f"ref:{year}": count for year, count in wanted.items()})
    following: dict[int, int] = {}
    for year, count in wanted.items():
        last = _COUNTED_TO.one(session.connection(), {"counter": f"ref:{year}"})[0]
        following[year] = last - count
    refs = []
    for year in years:
        following[year] += 1
        refs.append(f"S-{year}-{following[year]:06d}")
    return refs


def _may_answer(item: Prepared) -> bool:
    incoming = item.incoming
    return (
        incoming.kind is MessageKind.CONTACT
        and incoming.channel != CHAT  # answered where it was asked
        and not incoming.receipt_barred
        and incoming.sender is not None
        and (incoming.sender.channel == "email" or incoming.channel == texting.CHANNEL)
    )


def _limit(
    session: Session,
    head: Letterhead,
    brakes: correspondence.Brakes,
    item: Prepared,
    inquiry_id: int | None = None,
) -> str:
    """What stands against an automatic letter: a limit by its name, or why somebody cannot be
    texted."""
    kind = OutgoingKind.EMERGENCY if item.decision.emergency else OutgoingKind.RECEIPT
    sender = item.incoming.sender
    address = sender.value if sender is not None else ""
    return texting.silence(session, head, item) or brakes.limit(
        kind, address, inquiry_id, _answered_by(item.incoming)
    )


def _answered_by(incoming: Incoming) -> str:
    """The channel of an automatic answer."""
    return texting.CHANNEL if incoming.channel == texting.CHANNEL else "email"


def _withheld(
    head: Letterhead,
    item: Prepared,
    limit: str,
    inquiry_id: int,
    ref: str,
    department: str,
    now: datetime,
) -> dict[str, Any]:
    if limit in texting.REFUSALS:
        row = events.row("receipt_withheld", inquiry_id, ref, department, now)
        row["data"]["reason"] = limit
        return row
    door = _answered_by(item.incoming)
    return withheld_row(limit, head, inquiry_id, ref, department, now, door)


def _keep_files(session: Session, pairs: Iterable[tuple[Prepared, int]], now: datetime) -> None:
    pairs = list(pairs)
    rows = [
        {
            "message_id": message_id,
            "filename": file.filename,
            "content_type": file.content_type,
            "size": file.size,
            "sha256": file.sha256,
            "content_id": file.content_id,
            "inline": file.inline,
        }
        for item, message_id in pairs
        for file in item.files
    ]
    if rows:
        session.connection().execute(insert(_FILE), rows)
    remote = [
        {
            "message_id": message_id,
            "url": file.url,
            "content_type": file.content_type,
            "state": "announced",
            "attempts": 0,
            "next_at": now,
            "detail": "",
            "created_at": now,
        }
        for item, message_id in pairs
        for file in item.incoming.remote
    ]
    if remote:
        session.connection().execute(insert(_REMOTE), remote)


def _finish(
    session: Session, item: Prepared, inquiry_id: int, state: ArrivalState, now: datetime
) -> None:
    row = {
        "arrival": item.arrival_id,
        "state": state,
        "inquiry_id": inquiry_id,
        "processed_at": now,
    }
    _FINISH.many(session.connection(), [row])


def _taken(item: Prepared, inquiry: Inquiry, outcome: str) -> Taken:
    return Taken(
        item.arrival_id,
        inquiry.id or 0,
        inquiry.ref,
        inquiry.department,
        inquiry.due_at,
        outcome,
    )
