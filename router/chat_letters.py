"""Letters about chats: the receipt when one became an inquiry, answers that nobody read on the
page, and the talk itself for who asks for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select
from sqlmodel import Session, col

from channels.base import Address, Outgoing, OutgoingKind
from channels.sms import TEXT_LIMIT
from channels.sms.segments import plain
from router import correspondence, events, letters, outbox, texting
from router.chat_models import CHANNEL, Conversation
from router.errors import InvalidError, TooManyError
from router.models import Department, Direction, Inquiry, Message, OutboxItem
from router.privacy import mask_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from router.correspondence import Letterhead
    from router.sections import ChatDoor

TRANSCRIPTS = 2
"""Of one conversation: what residents write must not become a way to send mail to others."""
TRANSCRIPT_LIMIT = 100_000
"""Characters."""
BATCH = 50


def receipt(session: Session, head: Letterhead, conversation: Conversation, now: datetime) -> bool:
    """Send the receipt of an inquiry that a chat became to the e-mail address that was given;
    whether it went. A limit that holds it back is told."""
    if not conversation.email or conversation.inquiry_id is None:
        return False
    inquiry = session.get_one(Inquiry, conversation.inquiry_id)
    kind = OutgoingKind.RECEIPT
    limit = correspondence.Brakes(session, head, now).limit(kind, conversation.email, inquiry.id)
    if limit:
        data = {"limit": limit, "most": getattr(head, limit)}
        events.tell(session, "receipt_withheld", inquiry, now, data=data)
        return False
    language = letters.letter_language(conversation.language)
    department = head.departments[inquiry.department]
    text = letters.write(
        language,
        "receipt_sensitive" if inquiry.sensitivity else "receipt",
        ref=inquiry.ref,
        department=department.name.get(language),
        due=letters.moment_in_words(inquiry.due_at, head.zone, language),
        status_url=head.status_url(inquiry.id or 0),
        municipality=head.municipality,
        phone=head.phone,
    )
    subject = f"{letters.TEXTS[language]['receipt_subject']} [{inquiry.ref}]"
    _send(session, _letter(head, conversation, inquiry, kind, subject, text, now), inquiry, now)
    return True


def send_unread(session: Session, head: Letterhead, door: ChatDoor, now: datetime) -> int:
    """Send answers that nobody has read on the page for a while to the address that was given;
    returns to how many people. Each answer goes once."""
    waiting = unread(session, door, now)
    for conversation in waiting:
        inquiry = session.get_one(Inquiry, conversation.inquiry_id)
        answers = _answers(session, conversation)
        conversation.mailed = conversation.last_out
        if not answers:
            continue
        if conversation.email:
            _mail_answers(session, head, conversation, inquiry, answers, now)
        elif not texting.hindrance(session, head, conversation.phone):
            _text_answers(session, head, conversation, inquiry, answers, now)
    return len(waiting)


def unread(session: Session, door: ChatDoor, now: datetime) -> list[Conversation]:
    """Conversations with answers that nobody has read, whose resident has gone and gave an
    address."""
    query = (
        select(Conversation)
        .where(
            col(Conversation.last_out) > col(Conversation.resident_read),
            col(Conversation.last_out) > col(Conversation.mailed),
            col(Conversation.last_out_at) <= now - timedelta(minutes=door.unread_minutes),
            (col(Conversation.email) != "") | (col(Conversation.phone) != ""),
            col(Conversation.listening_until).is_(None)
            | (col(Conversation.listening_until) <= now),
        )
        .order_by(col(Conversation.last_out_at))
        .limit(BATCH)
    )
    return list(session.execute(query).scalars())


def send_transcript(
    session: Session, head: Letterhead, conversation: Conversation, email: str, now: datetime
) -> None:
    """Send the talk to an e-mail address, as its resident asked; fødselsnummer are masked.

    Raises `InvalidError` before we have said anything, `TooManyError` when it was sent often
    enough.
    """
    if conversation.inquiry_id is None or conversation.answered_at is None:
        raise InvalidError("There is nothing to send before somebody has answered.")
    inquiry = session.get_one(Inquiry, conversation.inquiry_id)
    kind = OutgoingKind.RECEIPT
    brakes = correspondence.Brakes(session, head, now)
    if conversation.transcripts >= TRANSCRIPTS or brakes.limit(kind, email, inquiry.id):
        raise TooManyError("The conversation has been sent already.", retry_after=3600)
    conversation.transcripts += 1
    language = letters.letter_language(conversation.language)
    text = letters.write(
        language,
        "chat_transcript",
        text=mask_text(transcript(session, head, conversation)),
        ref=inquiry.ref,
        status_url=head.status_url(inquiry.id or 0),
        municipality=head.municipality,
        phone=head.phone,
    )
    subject = letters.write(language, "chat_transcript_subject", municipality=head.municipality)
    letter = _letter(
        head, conversation, inquiry, kind, f"{subject} [{inquiry.ref}]", text, now, email
    )
    _send(session, letter, inquiry, now)
    events.tell(session, "transcript_sent", inquiry, now)


def transcript(session: Session, head: Letterhead, conversation: Conversation) -> str:
    """What was said, a line each with the local time."""
    you = letters.write(conversation.language, "chat_you")
    lines = []
    for message in _said(session, conversation):
        clock = f"{message.at.astimezone(head.zone):%H:%M}"
        who = you if message.direction is Direction.IN else message.sender_name
        lines.append(f"{clock} {who}: {message.text}")
    return "\n".join(lines)[:TRANSCRIPT_LIMIT]


def _said(session: Session, conversation: Conversation) -> list[Message]:
    query = (
        select(Message)
        .where(
            col(Message.inquiry_id) == conversation.inquiry_id,
            col(Message.channel) == CHANNEL,
            col(Message.direction) != Direction.NOTE,
        )
        .order_by(col(Message.id))
    )
    return list(session.execute(query).scalars())


def _answers(session: Session, conversation: Conversation) -> list[Message]:
    read = max(conversation.resident_read, conversation.mailed)
    return [
        message
        for message in _said(session, conversation)
        if message.kind == OutgoingKind.REPLY.value and (message.id or 0) > read
    ]


def _text_answers(
    session: Session,
    head: Letterhead,
    conversation: Conversation,
    inquiry: Inquiry,
    answers: Sequence[Message],
    now: datetime,
) -> None:
    """Answers that fit go as they are; of longer ones, where they can be read."""
    end = texting.reply_end(head, inquiry)
    text = plain("\n\n".join(message.text for message in answers) + end)
    if len(text.encode("utf-16-le")) // 2 > TEXT_LIMIT:
        link = head.status_url(inquiry.id or 0)
        text = plain(letters.write(conversation.language, "chat_text", status_url=link) + end)
    inquiry.line = inquiry.line or texting.sender_for(head, "")  # what is texted back finds it
    letter = Outgoing(
        channel=texting.CHANNEL,
        kind=OutgoingKind.REPLY,
        message_id=head.new_message_id(inquiry.id or 0),
        created_at=now,
        to=Address("phone", conversation.phone, conversation.name),
        sender=Address("phone", inquiry.line, head.municipality),
        subject="",
        text=text,
        language=letters.letter_language(conversation.language),
    )
    answers[-1].delivery = "queued"
    _send(session, letter, inquiry, now, thread_message_id=answers[-1].id)
    events.tell(session, "chat_mailed", inquiry, now)


def _mail_answers(
    session: Session,
    head: Letterhead,
    conversation: Conversation,
    inquiry: Inquiry,
    answers: Sequence[Message],
    now: datetime,
) -> None:
    language = letters.letter_language(conversation.language)
    department = session.get_one(Department, inquiry.department)
    last = answers[-1]
    text = letters.write(
        language, "chat_unread", text="\n\n".join(message.text for message in answers)
    ) + letters.write(
        language,
        "reply_end",
        staff=f"{last.sender_name}\n" if last.staff_id else "",
        department=head.departments[department.slug].name.get(language),
        municipality=head.municipality,
        ref=inquiry.ref,
        status_url=head.status_url(inquiry.id or 0),
    )
    subject = letters.tagged_subject(mask_text(inquiry.subject), inquiry.ref, language)
    letter = replace(
        _letter(head, conversation, inquiry, OutgoingKind.REPLY, subject, text, now),
        return_path=head.return_path(last.id or 0),
    )
    _send(session, letter, inquiry, now, thread_message_id=last.id)
    last.delivery = "queued"
    events.tell(session, "chat_mailed", inquiry, now)


def _letter(
    head: Letterhead,
    conversation: Conversation,
    inquiry: Inquiry,
    kind: OutgoingKind,
    subject: str,
    text: str,
    now: datetime,
    email: str = "",
) -> Outgoing:
    return Outgoing(
        channel="email",
        kind=kind,
        message_id=head.new_message_id(inquiry.id or 0),
        created_at=now,
        to=Address("email", email or conversation.email, conversation.name),
        sender=Address("email", head.sender, head.municipality),
        subject=subject,
        text=text,
        reply_to=head.reply_address(inquiry.id or 0),
        language=letters.letter_language(conversation.language),
        automatic=kind is not OutgoingKind.REPLY,
    )


def _send(
    session: Session,
    letter: Outgoing,
    inquiry: Inquiry,
    now: datetime,
    thread_message_id: int | None = None,
) -> None:
    row: dict[str, Any] = outbox.row(letter, inquiry.id or 0, thread_message_id, now)
    session.connection().execute(insert(OutboxItem.__table__), row)  # type: ignore[attr-defined]
