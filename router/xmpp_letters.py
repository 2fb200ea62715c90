"""What goes out by XMPP: answers and automatic messages to residents, and what they write to
whoever holds their inquiry. Rows of the outbox like all else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import insert

from channels.base import Address, Outgoing, OutgoingKind
from channels.chat.xmpp import CHANNEL, case_address
from router import letters, outbox
from router.models import OutboxItem

if TYPE_CHECKING:
    from datetime import datetime

    from sqlmodel import Session

    from router.chat_models import Conversation
    from router.correspondence import Letterhead
    from router.models import Inquiry, Message, Staff

FILES = "Files cannot be sent by XMPP. Send them by e-mail."


def post(
    session: Session, head: Letterhead, conversation: Conversation, message: Message, now: datetime
) -> None:
    """Put a message of a talk in the outbox, from the address of ours that the resident wrote
    to."""
    message.delivery = "queued"
    outgoing = Outgoing(
        channel=CHANNEL,
        kind=OutgoingKind(message.kind),
        message_id=head.new_message_id(message.inquiry_id),
        created_at=now,
        to=Address(CHANNEL, conversation.jid, conversation.name),
        sender=Address(CHANNEL, f"{conversation.local}@{head.xmpp_domain}", message.sender_name),
        subject="",
        text=message.text,
        language=letters.letter_language(conversation.language),
        automatic=message.kind != OutgoingKind.REPLY.value,
    )
    _put(session, outgoing, message.inquiry_id, message.id, now)


def relay(
    session: Session, head: Letterhead, inquiry: Inquiry, staff: Staff, text: str, now: datetime
) -> None:
    """Tell somebody who works here something about an inquiry, from its own address."""
    number = inquiry.id or 0
    outgoing = Outgoing(
        channel=CHANNEL,
        kind=OutgoingKind.RELAY,
        message_id=head.new_message_id(number),
        created_at=now,
        to=Address(CHANNEL, staff.jid or "", staff.name),
        sender=Address(CHANNEL, f"{case_address(inquiry.ref)}@{head.xmpp_domain}", inquiry.ref),
        subject="",
        text=text,
        language=letters.letter_language(staff.language),
        automatic=True,
    )
    _put(session, outgoing, number, None, now)


def _put(
    session: Session, outgoing: Outgoing, inquiry_id: int, message_id: int | None, now: datetime
) -> None:
    session.connection().execute(
        insert(OutboxItem.__table__),  # type: ignore[attr-defined]
        outbox.row(outgoing, inquiry_id, message_id, now),
    )
