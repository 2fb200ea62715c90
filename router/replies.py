"""Answering an inquiry. A reply is the message, the outbox row and the stopped clock in one
commit."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select
from sqlmodel import Session, col

from channels.base import Address, MessageKind, Outgoing, OutgoingKind
from channels.chat.web import TEXT_LIMIT
from router import chat, chat_desk, events, letters, outbox, queue, texting, xmpp_letters
from router.chat_models import CHANNEL as CHAT
from router.chat_models import Conversation, ConversationState, TalkOutcome
from router.counters import counted
from router.errors import ConflictError, InvalidError, NotFoundError
from router.models import (
    ContactAddress,
    Department,
    Direction,
    Inquiry,
    InquiryStatus,
    Message,
    OutboxItem,
    ReplyState,
    StoredAttachment,
)
from router.tokens import hash_secret

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from router.access import Actor
    from router.chat_models import Conversation
    from router.correspondence import Letterhead
    from router.preparing import KeptFile

PHONE = "phone"
"""Channel of an address that is a number; what goes there is a text."""

_BY_NUMBER = frozenset({PHONE, texting.CHANNEL})
"""Channels on which a contact comes with a number."""

REPLY_LIMIT = 100_000
"""Characters of one reply."""


def require_replyable(
    session: Session,
    head: Letterhead,
    actor: Actor,
    ref: str,
    text: str,
    now: datetime,
    version: int | None = None,
) -> tuple[Inquiry, str, Address, Conversation | None]:
    """The inquiry, the tidied text and the recipient of a reply that may be sent as things are, and
    the talk it is said in. Raises what `reply` raises.
    """
    inquiry = queue.get(session, actor, ref)
    text = text.replace("\r\n", "\n").strip()
    if not text:
        raise InvalidError("The reply is empty.")
    if len(text) > REPLY_LIMIT:
        raise InvalidError("The reply is too long.")
    queue.require_open(inquiry)
    queue.require_holder(session, actor, inquiry)
    talk = chat.answers_here(session, inquiry, now)
    recipient = _recipient(session, head, inquiry, talk)
    if recipient.channel == PHONE:
        text = texting.tidied(head, inquiry, text)
    if recipient.channel != CHAT:  # in a talk, both may write at the same time
        queue.require_version(inquiry, version)
    elif len(text) > TEXT_LIMIT:
        raise InvalidError("The reply is too long.")
    return inquiry, text, recipient, talk


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
    capacity: int | None = None,
) -> Inquiry:
    """Answer the resident: the text is stored, put in the outbox, and the clock stops. In a chat
    whose page is open it is stored, and the page shows it; in one by XMPP it goes out.

    `files` lie in the blob folder already. The same `key` once more changes nothing. Who answers a
    free inquiry takes it; where that is a live chat and `capacity` is reached, machines answer
    without taking it. Raises
    `InvalidError` when there is no text or nowhere to send it; `ConflictError` when somebody else
    holds the inquiry, when it is closed, when it changed after `version` was read, or when a person
    has enough chats.
    """
    if key and written(session, actor, ref, key) is not None:
        return queue.get(session, actor, ref)
    inquiry, text, recipient, talk = require_replyable(
        session, head, actor, ref, text, now, version
    )
    takes = inquiry.assignee_id is None and _may_take(session, actor, inquiry, capacity, now)
    language = letters.letter_language(inquiry.language)
    department = session.get_one(Department, inquiry.department)
    name = head.departments[department.slug].name.get(language)
    subject = letters.tagged_subject(inquiry.subject, inquiry.ref, language)
    outgoing_id = head.new_message_id(inquiry.id or 0)
    in_chat, by_text = recipient.channel == CHAT, recipient.channel == PHONE
    by_xmpp = talk is not None and bool(talk.jid)
    if files and (by_text or by_xmpp):
        raise InvalidError(texting.FILES if by_text else xmpp_letters.FILES)
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
        # Given, because looking up how they are made takes longer than all the rest.
        defects=[],
        marks=[],
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
        live = _may_be_live(session, actor, talk, capacity, now)
        chat.answered(session, inquiry, talk, message.id or 0, now, live=live)
        if talk is not None and by_xmpp:
            xmpp_letters.post(session, head, talk, message, now)
    elif by_text:
        inquiry.line = inquiry.line or message.sender_address  # what is texted back finds it
        texting.post(session, head, inquiry, message, recipient, now)
    else:
        _post(session, head, actor, inquiry, message, recipient, now, rows)
    if inquiry.channel == CHAT and not in_chat:
        chat.answered_by_letter(session, inquiry, now)
    with counted(session, inquiry):
        inquiry.answered_at = now
        inquiry.reply_state = ReplyState.ANSWERED
        inquiry.version += 1
        if takes:
            inquiry.assignee_id = actor.staff_id
        if close:
            inquiry.status = InquiryStatus.CLOSED
            inquiry.closed_at = now
            inquiry.assignee_id = None
            chat_desk.note_outcome(session, inquiry, TalkOutcome.ANSWERED)
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


def _is_written_to(session: Session, inquiry: Inquiry, address: str) -> bool:
    """Whether a letter or text of the inquiry went to an address."""
    query = select(col(OutboxItem.id)).where(
        col(OutboxItem.inquiry_id) == inquiry.id, col(OutboxItem.recipient) == address
    )
    return session.execute(query.limit(1)).first() is not None


def written(session: Session, actor: Actor, ref: str, key: str) -> int | None:
    """Id of the reply that was written under this key; None when there is none."""
    inquiry = queue.get(session, actor, ref)
    query = select(col(Message.id)).where(
        col(Message.inquiry_id) == inquiry.id,
        col(Message.external_id) == _written_as(inquiry, key),
    )
    found: int | None = session.execute(query).scalar()
    return found


def _may_take(
    session: Session, actor: Actor, inquiry: Inquiry, capacity: int | None, now: datetime
) -> bool:
    """Whether the inquiry becomes the actor's with their answer. Raises `ConflictError`."""
    if capacity is None or actor.staff_id is None:
        return True
    try:
        chat_desk.require_room(session, actor.staff_id, inquiry, capacity, now)
    except ConflictError:
        if actor.is_person:
            raise
        return False
    return True


def _may_be_live(
    session: Session, actor: Actor, talk: Conversation | None, capacity: int | None, now: datetime
) -> bool:
    """Whether a talk that had become an ordinary inquiry is one again with the actor's answer: as
    long as they have room. Answering it is an ordinary answer all the same."""
    if talk is None or talk.state is not ConversationState.DEFERRED:
        return True
    if capacity is None or actor.staff_id is None:
        return True
    return chat_desk.has_room(session, actor.staff_id, capacity, now)


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


def recipient_of(session: Session, head: Letterhead, inquiry: Inquiry, now: datetime) -> Address:
    """Where the answer goes: to whoever asked, into the chat while it is open, by text to a
    telephone that takes them.

    Of mail, that is Reply-To or sender of the message that opened the inquiry, or the contact's
    other address
    when they wrote from that one last. Whoever else found a way into the thread gets nothing.
    """
    return _recipient(session, head, inquiry, chat.answers_here(session, inquiry, now))


def _recipient(
    session: Session, head: Letterhead, inquiry: Inquiry, talk: Conversation | None
) -> Address:
    if talk is not None:
        return Address(CHAT, talk.key, inquiry.sender_name)
    latest = chat.asked_elsewhere(session, inquiry) or _latest(session, inquiry)
    opening = session.execute(
        select(Message)
        .where(col(Message.inquiry_id) == inquiry.id, col(Message.direction) == Direction.IN)
        .order_by(col(Message.id))
        .limit(1)
    ).scalar()
    addresses = addresses_of(session, inquiry)
    known = {value for channel, value in addresses if channel == "email"}
    candidates: list[str] = []
    number = inquiry.sender_address
    if latest is not None and latest.sender_address in known - {inquiry.sender_address}:
        candidates.append(latest.sender_address)
    if inquiry.channel == CHAT:
        # Of several addresses given in a talk, the one that our letter was answered from.
        if latest is not None and _is_written_to(session, inquiry, latest.sender_address):
            candidates.append(latest.sender_address)
            number = latest.sender_address
        candidates.append(inquiry.sender_address)  # the one given last in the talk
    if opening is not None:
        candidates += [opening.reply_to, opening.sender_address]
    refusal = "There is no e-mail address to reply to. Call the person and write a note."
    if inquiry.channel in _BY_NUMBER or (inquiry.channel == CHAT and number.startswith("+")):
        hindrance = texting.hindrance(session, head, number)
        if not hindrance and (latest is None or latest.channel != "email"):
            return Address(PHONE, number, inquiry.sender_name)
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


def addresses_of(session: Session, inquiry: Inquiry) -> list[tuple[str, str]]:
    """Channel and value of the contact's addresses, the one used for this inquiry first."""
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
