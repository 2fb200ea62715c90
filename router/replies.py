"""Reading a thread and answering it. A reply is the message, the outbox row and the stopped clock
in one commit."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select
from sqlmodel import Session, col

from channels.base import Address, MessageKind, Outgoing, OutgoingKind
from channels.chat.web import TEXT_LIMIT
from channels.sms.segments import count
from router import chat, consent, correspondence, events, letters, outbox, queue, texting
from router.chat_models import CHANNEL as CHAT
from router.counters import counted
from router.errors import InvalidError, NotFoundError
from router.files import missing_files
from router.models import (
    ContactAddress,
    DecisionRecord,
    Department,
    Direction,
    Event,
    Inquiry,
    InquiryStatus,
    Message,
    OutboxItem,
    ReplyState,
    Staff,
    StoredAttachment,
)
from router.tokens import hash_secret

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from router.access import Actor
    from router.correspondence import Letterhead
    from router.preparing import KeptFile

PHONE = "phone"
"""Channel of an address that is a number; what goes there is a text."""

_BY_NUMBER = frozenset({PHONE, texting.CHANNEL})
"""Channels on which a contact comes with a number."""

REPLY_LIMIT = 100_000
"""Characters of one reply."""


@dataclass(frozen=True, slots=True)
class ThreadMessage:
    """One message as people read it."""

    id: int
    direction: Direction
    kind: str
    channel: str
    sender_name: str
    sender_address: str
    recipients: list[str]
    subject: str
    text: str
    has_html: bool
    at: datetime
    delivery: str
    delivery_detail: str
    staff_name: str
    attachments: list[StoredAttachment]
    defects: list[str]
    sender_check: str
    marks: list[str]
    arrival_id: int | None
    outbox_id: int | None = None
    """Of what we sent; None for what came in, and for notes."""
    attempts: int = 0
    next_at: datetime | None = None
    """When an unsent message is tried again."""
    may_resend: bool = False
    """Whether a person can have it sent once more."""
    files_waiting: int = 0
    """Files that are still to be fetched from the provider."""
    files_lost: int = 0
    """Files that could not be fetched."""
    parts: int = 0
    """Of a text of ours: in how many it is sent."""


@dataclass(frozen=True, slots=True)
class DecisionView:
    """Why the inquiry went somewhere."""

    at: datetime
    department: str
    rule: str
    reason: str
    reason_text: str
    ruleset: str
    trace: dict[str, Any]


@dataclass(frozen=True, slots=True)
class EventView:
    """One line of an inquiry's history."""

    id: int
    at: datetime
    kind: str
    department: str
    staff_name: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Thread:
    """Everything about one inquiry."""

    inquiry: queue.QueueRow
    contact_id: int | None
    contact_name: str
    contact_addresses: list[tuple[str, str]]
    messages: list[ThreadMessage]
    decisions: list[DecisionView]
    events: list[EventView]
    hint_ref: str | None
    reply_channel: str
    """How an answer would go; empty when in no way."""
    reply_address: str
    """Where to; of a chat, its key."""
    reply_refusal: str
    """Why in no way, in plain words."""
    reply_end: str
    """What is added under a reply by text, and counts as much."""
    no_texts: frozenset[str]
    """Numbers of the contact that have asked for no more texts."""
    emergency_seen: bool


def thread(session: Session, head: Letterhead, actor: Actor, ref: str, now: datetime) -> Thread:
    """Read one inquiry with its messages, decisions and history. Raises `NotFoundError`."""
    row = queue.row(session, actor, ref)
    inquiry = session.get_one(Inquiry, row.id)
    addresses = _addresses(session, inquiry)
    hint = session.get(Inquiry, inquiry.hint_id) if inquiry.hint_id else None
    reply_to, refusal = _reply_to(session, head, inquiry, now)
    by_text = reply_to is not None and reply_to.channel == PHONE
    channel = reply_to.channel if reply_to is not None else ""
    numbers = [value for channel, value in addresses if channel == PHONE]
    return Thread(
        inquiry=row,
        contact_id=inquiry.contact_id,
        contact_name=inquiry.sender_name,
        contact_addresses=addresses,
        messages=messages(session, row.id),
        decisions=_decisions(session, row.id),
        events=_events(session, row.id),
        hint_ref=hint.ref if hint is not None and actor.sees(hint.department) else None,
        reply_channel=texting.CHANNEL if by_text else channel,
        reply_address=reply_to.value if reply_to is not None else "",
        reply_refusal=refusal,
        reply_end=texting.reply_end(head, inquiry) if by_text else "",
        no_texts=frozenset(n for n in numbers if consent.withdrawn_at(session, n) is not None),
        emergency_seen=inquiry.emergency_seen_at is not None,
    )


def _reply_to(
    session: Session, head: Letterhead, inquiry: Inquiry, now: datetime
) -> tuple[Address | None, str]:
    """Where an answer would go, so that whoever writes it sees that; else why it goes nowhere."""
    try:
        return _recipient(session, head, inquiry, now), ""
    except InvalidError as error:
        return None, error.detail


def messages(session: Session, inquiry_id: int) -> list[ThreadMessage]:
    """The messages of an inquiry, oldest first; automatic letters included, with their delivery
    state."""
    files: dict[int, list[StoredAttachment]] = defaultdict(list)
    for file in session.execute(
        select(StoredAttachment)
        .join(Message, col(Message.id) == col(StoredAttachment.message_id))
        .where(col(Message.inquiry_id) == inquiry_id)
        .order_by(col(StoredAttachment.id))
    ).scalars():
        files[file.message_id].append(file)
    rows = session.execute(
        select(Message, col(Staff.name))
        .outerjoin(Staff, col(Staff.id) == col(Message.staff_id))
        .where(col(Message.inquiry_id) == inquiry_id)
        .order_by(col(Message.id))
    )
    letters_out = list(
        session.execute(
            select(OutboxItem)
            .where(col(OutboxItem.inquiry_id) == inquiry_id)
            .order_by(col(OutboxItem.id))
        ).scalars()
    )
    item_of = {item.thread_message_id: item for item in letters_out}
    missing = missing_files(session, inquiry_id)
    found = [
        ThreadMessage(
            id=message.id or 0,
            direction=message.direction,
            kind=message.kind,
            channel=message.channel,
            sender_name=message.sender_name,
            sender_address=message.sender_address,
            recipients=message.recipients,
            subject=message.subject,
            text=message.text,
            has_html=message.has_html,
            at=message.at,
            delivery=message.delivery,
            delivery_detail=message.delivery_detail,
            staff_name=staff_name or "",
            attachments=files[message.id or 0],
            defects=message.defects,
            sender_check=message.sender_check,
            marks=message.marks,
            arrival_id=message.arrival_id,
            files_waiting=missing.get((message.id, "announced"), 0),
            files_lost=missing.get((message.id, "failed"), 0),
            **_on_its_way(item_of.get(message.id)),
        )
        for message, staff_name in rows
    ]
    found += [_automatic(item) for item in letters_out if item.thread_message_id is None]
    return sorted(found, key=lambda message: message.at)


def require_replyable(
    session: Session,
    head: Letterhead,
    actor: Actor,
    ref: str,
    text: str,
    now: datetime,
    version: int | None = None,
) -> tuple[Inquiry, str, Address]:
    """The inquiry, the tidied text and the recipient of a reply that may be sent as things are.

    Raises what `reply` raises.
    """
    inquiry = queue.get(session, actor, ref)
    text = text.replace("\r\n", "\n").strip()
    if not text:
        raise InvalidError("The reply is empty.")
    if len(text) > REPLY_LIMIT:
        raise InvalidError("The reply is too long.")
    queue.require_open(inquiry)
    queue.require_holder(session, actor, inquiry)
    recipient = _recipient(session, head, inquiry, now)
    if recipient.channel == PHONE:
        text = texting.tidied(head, inquiry, text)
    if recipient.channel != CHAT:  # in a talk, both may write at the same time
        queue.require_version(inquiry, version)
    elif len(text) > TEXT_LIMIT:
        raise InvalidError("The reply is too long.")
    return inquiry, text, recipient


def reply(
    session: Session,
    head: Letterhead,
    actor: Actor,
    ref: str,
    text: str,
    now: datetime,
    *,
    close: bool = False,
    version: int | None = None,
    files: Sequence[KeptFile] = (),
    key: str = "",
) -> Inquiry:
    """Answer the resident: the text is stored, put in the outbox, and the clock stops. In a chat
    whose page is open it is stored, and the page shows it.

    `files` lie in the blob folder already. The same `key` once more changes nothing. Raises
    `InvalidError` when there is no text or nowhere to send it; `ConflictError` when somebody else
    holds the inquiry, when it is closed, or when it changed after `version` was read.
    """
    if key and _is_written(session, actor, ref, key):
        return queue.get(session, actor, ref)
    inquiry, text, recipient = require_replyable(session, head, actor, ref, text, now, version)
    language = letters.letter_language(inquiry.language)
    department = session.get_one(Department, inquiry.department)
    name = head.departments[department.slug].name.get(language)
    subject = letters.tagged_subject(inquiry.subject, inquiry.ref, language)
    outgoing_id = head.new_message_id(inquiry.id or 0)
    in_chat, by_text = recipient.channel == CHAT, recipient.channel == PHONE
    if by_text and files:
        raise InvalidError(texting.FILES)
    message = Message(
        inquiry_id=inquiry.id or 0,
        channel=texting.CHANNEL if by_text else recipient.channel,
        external_id=_written_as(inquiry, key) if key else outgoing_id,
        direction=Direction.OUT,
        kind=OutgoingKind.REPLY.value,
        sender_name=actor.name if in_chat and actor.is_person else name,
        sender_address=(
            texting.sender_for(head, inquiry.line) if by_text else department.address or head.sender
        ),
        recipients=[recipient.value],
        subject="" if in_chat or by_text else subject,
        text=text,
        at=now,
        message_id="" if in_chat else outgoing_id,
        staff_id=actor.staff_id,
        delivery="sent" if in_chat else "queued",
    )
    session.add(message)
    session.flush()
    rows = [asdict(file) for file in files]
    if rows:
        session.connection().execute(
            insert(StoredAttachment.__table__),  # type: ignore[attr-defined]
            [{"message_id": message.id, **row} for row in rows],
        )
    if in_chat:
        chat.answered(session, inquiry, recipient.value, message.id or 0, now)
    elif by_text:
        inquiry.line = inquiry.line or message.sender_address  # what is texted back finds it
        texting.post(session, head, inquiry, message, recipient, now)
    else:
        _post(session, head, actor, inquiry, message, recipient, now, rows)
    with counted(session, inquiry):
        inquiry.answered_at = now
        inquiry.reply_state = ReplyState.ANSWERED
        inquiry.version += 1
        if inquiry.assignee_id is None:
            inquiry.assignee_id = actor.staff_id
        if close:
            inquiry.status = InquiryStatus.CLOSED
            inquiry.closed_at = now
            inquiry.assignee_id = None
    session.flush()
    for kind in ("replied", "closed") if close else ("replied",):
        events.tell(session, kind, inquiry, now, staff_id=actor.staff_id)
    return inquiry


def _post(
    session: Session,
    head: Letterhead,
    actor: Actor,
    inquiry: Inquiry,
    message: Message,
    recipient: Address,
    now: datetime,
    files: Sequence[Mapping[str, Any]],
) -> None:
    """Put a reply in the outbox."""
    language = letters.letter_language(inquiry.language)
    chain = _chain(session, inquiry)
    latest = _latest(session, inquiry)
    letter = Outgoing(
        channel=recipient.channel,
        kind=OutgoingKind.REPLY,
        message_id=message.message_id,
        created_at=now,
        to=recipient,
        sender=Address(
            "email", message.sender_address, f"{message.sender_name}, {head.municipality}"
        ),
        subject=message.subject,
        text=message.text
        + letters.write(
            language,
            "reply_end",
            staff=f"{actor.name}\n" if actor.is_person else "",
            department=message.sender_name,
            municipality=head.municipality,
            ref=inquiry.ref,
            status_url=head.status_url(inquiry.id or 0),
        ),
        reply_to=head.reply_address(inquiry.id or 0),
        return_path=head.return_path(message.id or 0),
        in_reply_to=chain[-1] if chain else "",
        references=tuple(chain),
        language=language,
    )
    session.connection().execute(
        insert(OutboxItem.__table__),  # type: ignore[attr-defined]
        outbox.row(
            letter,
            inquiry.id or 0,
            message.id,
            now,
            arrival_id=latest.arrival_id if latest is not None else None,
            files=files,
        ),
    )


def _is_written(session: Session, actor: Actor, ref: str, key: str) -> bool:
    """Whether a reply was written under this key already."""
    inquiry = queue.get(session, actor, ref)
    query = select(col(Message.id)).where(
        col(Message.inquiry_id) == inquiry.id,
        col(Message.external_id) == _written_as(inquiry, key),
    )
    return session.execute(query).first() is not None


def _written_as(inquiry: Inquiry, key: str) -> str:
    return f"{inquiry.id}:{hash_secret(key)}"


def send_again(session: Session, actor: Actor, ref: str, item_id: int, now: datetime) -> Inquiry:
    """Send a message of an inquiry once more, because a person said so; it is the same message, so
    it does not matter who holds the inquiry.

    Raises `NotFoundError` when there is no such message here, or it is sent.
    """
    inquiry = queue.get(session, actor, ref)
    item = session.get(OutboxItem, item_id)
    if item is None or item.inquiry_id != inquiry.id:
        raise NotFoundError
    outbox.retry(session, item_id, now)
    message = session.get(Message, item.thread_message_id) if item.thread_message_id else None
    if message is not None:
        message.delivery = "queued"
        message.delivery_detail = ""
    events.tell(session, "resent", inquiry, now, staff_id=actor.staff_id, data={"kind": item.kind})
    return inquiry


def transfer(
    session: Session,
    head: Letterhead,
    actor: Actor,
    ref: str,
    department: str,
    note: str,
    now: datetime,
) -> Inquiry:
    """`queue.transfer`; to an external body the contact is forwarded, and the resident told.

    Raises what `queue.transfer` raises.
    """
    inquiry = queue.transfer(session, actor, ref, department, note, now)
    rows = correspondence.handover_rows(session, head, inquiry, now)
    if rows:
        session.connection().execute(insert(OutboxItem.__table__), rows)  # type: ignore[attr-defined]
        events.tell(session, "forwarded", inquiry, now, staff_id=actor.staff_id)
    return inquiry


def _recipient(session: Session, head: Letterhead, inquiry: Inquiry, now: datetime) -> Address:
    """Where the answer goes: to whoever asked, into the chat while it is open, by text to a
    telephone that takes them.

    Of mail, that is Reply-To or sender of the message that opened the inquiry, or the contact's
    other address
    when they wrote from that one last. Whoever else found a way into the thread gets nothing.
    """
    talk = chat.answers_here(session, inquiry, now)
    latest = _latest(session, inquiry)
    # An address given in a chat is nobody's proof: what its owner asks by letter or text is not
    # answered to whoever has the chat open.
    if talk is not None and (latest is None or latest.channel == CHAT):
        return Address(CHAT, talk.key, inquiry.sender_name)
    opening = session.execute(
        select(Message)
        .where(col(Message.inquiry_id) == inquiry.id, col(Message.direction) == Direction.IN)
        .order_by(col(Message.id))
        .limit(1)
    ).scalar()
    addresses = _addresses(session, inquiry)
    known = {value for channel, value in addresses if channel == "email"}
    candidates: list[str] = []
    if latest is not None and latest.sender_address in known - {inquiry.sender_address}:
        candidates.append(latest.sender_address)
    if inquiry.channel == CHAT:
        candidates.append(inquiry.sender_address)  # the one given last in the talk
    if opening is not None:
        candidates += [opening.reply_to, opening.sender_address]
    refusal = "There is no e-mail address to reply to. Call the person and write a note."
    if inquiry.channel in _BY_NUMBER or (
        inquiry.channel == CHAT and inquiry.sender_address.startswith("+")
    ):
        hindrance = texting.hindrance(session, head, inquiry.sender_address)
        if not hindrance and (latest is None or latest.channel != "email"):
            return Address(PHONE, inquiry.sender_address, inquiry.sender_name)
        refusal = texting.REFUSALS.get(hindrance, refusal)
        # A person has said that these are the same contact's.
        candidates += [value for channel, value in addresses if channel == "email"]
    for value in candidates:
        if "@" in value and not head.is_own(value):
            return Address("email", value, inquiry.sender_name)
    raise InvalidError(refusal)


def _latest(session: Session, inquiry: Inquiry) -> Message | None:
    """The contact's own latest message."""
    query = (
        select(Message)
        .where(
            col(Message.inquiry_id) == inquiry.id,
            col(Message.direction) == Direction.IN,
            col(Message.kind) == MessageKind.CONTACT.value,
        )
        .order_by(col(Message.id).desc())
        .limit(1)
    )
    return session.execute(query).scalar()


def _addresses(session: Session, inquiry: Inquiry) -> list[tuple[str, str]]:
    found = [
        (channel, value)
        for channel, value in session.connection().execute(
            select(col(ContactAddress.channel), col(ContactAddress.value))
            .where(col(ContactAddress.contact_id) == inquiry.contact_id)
            .order_by(col(ContactAddress.id))
        )
    ]
    if inquiry.sender_phone:
        found.append(("phone", inquiry.sender_phone))
    # The address used for this inquiry comes first.
    return sorted(found, key=lambda pair: pair[1] != inquiry.sender_address)


def _chain(session: Session, inquiry: Inquiry) -> list[str]:
    """Message-IDs of the thread in order, for References (RFC 5322 §3.6.4); the last one is
    answered."""
    rows = session.connection().execute(
        select(col(Message.message_id))
        .where(
            col(Message.inquiry_id) == inquiry.id,
            col(Message.message_id) != "",
            col(Message.delivery) != "queued",
        )
        .order_by(col(Message.id))
    )
    return list(rows.scalars())


def _decisions(session: Session, inquiry_id: int) -> list[DecisionView]:
    rows = session.execute(
        select(DecisionRecord)
        .where(col(DecisionRecord.inquiry_id) == inquiry_id)
        .order_by(col(DecisionRecord.id))
    ).scalars()
    return [
        DecisionView(
            at=row.at,
            department=row.department,
            rule=row.rule,
            reason=row.reason,
            reason_text=row.reason_text,
            ruleset=row.ruleset,
            trace=row.trace,
        )
        for row in rows
    ]


def _events(session: Session, inquiry_id: int) -> list[EventView]:
    rows = session.execute(
        select(Event, col(Staff.name))
        .outerjoin(Staff, col(Staff.id) == col(Event.staff_id))
        .where(col(Event.inquiry_id) == inquiry_id)
        .order_by(col(Event.id))
    )
    return [
        EventView(event.id or 0, event.at, event.kind, event.department, name or "", event.data)
        for event, name in rows
    ]


def _automatic(item: OutboxItem) -> ThreadMessage:
    payload = item.payload
    return ThreadMessage(
        id=-(item.id or 0),
        direction=Direction.OUT,
        kind=item.kind,
        channel=item.channel,
        sender_name=payload["sender"]["name"],
        sender_address=payload["sender"]["value"],
        recipients=[item.recipient],
        subject=payload["subject"],
        text=payload["text"],
        has_html=False,
        at=item.created_at,
        delivery=item.state,
        delivery_detail=item.detail,
        staff_name="",
        attachments=[],
        defects=[],
        sender_check="",
        marks=[],
        arrival_id=None,
        **_on_its_way(item),
    )


def _on_its_way(item: OutboxItem | None) -> dict[str, Any]:
    if item is None:
        return {}
    tried_in_vain = item.state == "queued" and item.attempts > 0
    return {
        "outbox_id": item.id,
        "attempts": item.attempts,
        "next_at": item.next_at,
        "may_resend": item.state in {"failed", "uncertain"} or tried_in_vain,
        "parts": count(item.payload["text"]).parts if item.channel == texting.CHANNEL else 0,
    }
