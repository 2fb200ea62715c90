"""Which inquiry a message belongs to. What is said in a chat belongs to the chat's.

A delivery report that proves which letter it returns belongs with that letter. Of all else,
strongest first: the signed token of a reply address; a Message-ID we issued, from somebody who
takes part in that inquiry; our reference in the subject, from somebody who takes part in it while
it is open. A guessed number never joins a thread: it becomes a hint for the operator. A call joins
the open inquiry of the same number with whom nobody has talked yet; a text, what its sender wrote
of last, to the same number of ours.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, text
from sqlmodel import Session, col

from channels.base import OutgoingKind, SenderCheck
from channels.chat.web import conversation_of
from channels.email.guards import DMARC_FAILED
from channels.phone.base import CHANNEL as PHONE
from router import calls, chat, robots, texting
from router.chat_models import CHANNEL as CHAT
from router.models import ContactAddress, Inquiry, InquiryStatus, Message, OutboxItem

if TYPE_CHECKING:
    from channels.base import Address, Incoming
    from router.correspondence import Letterhead
    from router.preparing import Prepared

_ADDRESS: Any = ContactAddress.__table__  # type: ignore[attr-defined]
_INQUIRY: Any = Inquiry.__table__  # type: ignore[attr-defined]
_OUTBOX: Any = OutboxItem.__table__  # type: ignore[attr-defined]
_ON_A_LINE = text("inquiry.line <> ''")
"""Written out, so that the planner uses the partial index."""
_REFERENCE = re.compile(r"\[?\b(S-\d{4}-\d{6,9})\b\]?")


def find_thread(
    session: Session, item: Prepared, head: Letterhead
) -> tuple[Inquiry | None, int | None]:
    """The inquiry a message belongs to, and the one it may belong to."""
    incoming = item.incoming
    if incoming.channel == CHAT:
        return chat.inquiry_of(session, conversation_of(incoming.external_id)), None
    if incoming.channel == PHONE:
        caller = incoming.sender.value if incoming.sender is not None else ""
        return calls.open_callback(session, caller), None
    if incoming.channel == texting.CHANNEL:
        return _by_number(session, incoming)
    returned = robots.returned_letter(session, incoming, head)
    if returned is not None:
        return session.get_one(Inquiry, returned.inquiry_id), None
    if incoming.thread_token:
        inquiry = by_token(session, incoming.thread_token, head)
        if inquiry is not None:
            return inquiry, None
    hint: int | None = None
    for message_id in robots.own_ids(incoming):
        number = head.inquiry_of(message_id)
        inquiry = session.get(Inquiry, number) if number is not None else None
        if inquiry is None:
            continue
        if _may_join(session, incoming, inquiry):
            return inquiry, None
        hint = hint or inquiry.id
    for ref in _REFERENCE.findall(incoming.subject)[:3]:
        inquiry = session.execute(select(Inquiry).where(col(Inquiry.ref) == ref)).scalar()
        if inquiry is None:
            continue
        if inquiry.status is InquiryStatus.OPEN and _may_join(session, incoming, inquiry):
            return inquiry, None
        hint = hint or inquiry.id
    return None, hint


def _by_number(session: Session, incoming: Incoming) -> tuple[Inquiry | None, int | None]:
    """A text belongs to the newest open inquiry of its sender that came by the same number of ours,
    or in which we have texted them from it. One that was closed lately is a hint."""
    if incoming.sender is None:
        return None, None
    sender, line = incoming.sender.value, incoming.recipients[0]
    asked = select(_INQUIRY.c.id).where(
        _ON_A_LINE, _INQUIRY.c.line == line, _INQUIRY.c.sender_address == sender
    )
    answered = select(_OUTBOX.c.inquiry_id).where(
        _OUTBOX.c.mailbox == sender,
        _OUTBOX.c.kind == OutgoingKind.REPLY.value,
        _OUTBOX.c.channel == texting.CHANNEL,
        _OUTBOX.c.payload["sender"]["value"].as_string() == line,
    )
    found = (
        select(Inquiry)
        .where(_INQUIRY.c.id.in_(asked.union(answered)))
        .order_by(_INQUIRY.c.id.desc())
        .limit(1)
    )
    wanted = found.where(_INQUIRY.c.status == InquiryStatus.OPEN)
    inquiry = session.execute(wanted).scalar()
    if inquiry is not None:
        return inquiry, None
    earlier = session.execute(found.where(_INQUIRY.c.status == InquiryStatus.CLOSED)).scalar()
    return None, earlier.id if earlier is not None else None


def _may_join(session: Session, incoming: Incoming, inquiry: Inquiry) -> bool:
    """Whether a message without a token may join: from somebody who takes part, if the sender's
    domain does not disown it. A forward is news to us, not an answer."""
    disowned = (
        incoming.sender_check is SenderCheck.FAILED or incoming.receipt_barred == DMARC_FAILED
    )
    return not incoming.forwarded and not disowned and takes_part(session, inquiry, incoming.sender)


def by_token(session: Session, token: str, head: Letterhead) -> Inquiry | None:
    """The inquiry that one of our own addresses belongs to: a reply address, or a return path."""
    number = head.signer.verify("reply", token)
    if number is not None:
        return session.get(Inquiry, number)
    number = head.signer.verify("return", token)
    if number is not None:
        message = session.get(Message, number)
        return session.get(Inquiry, message.inquiry_id) if message is not None else None
    number = head.signer.verify("forward", token)
    return session.get(Inquiry, number) if number is not None else None


def takes_part(session: Session, inquiry: Inquiry, sender: Address | None) -> bool:
    """Whether an address belongs to the contact of an inquiry."""
    if sender is None:
        return False
    if inquiry.sender_address == sender.value:
        return True
    query = select(func.count()).where(
        _ADDRESS.c.contact_id == inquiry.contact_id,
        _ADDRESS.c.channel == sender.channel,
        _ADDRESS.c.value == sender.value,
    )
    return bool(session.connection().execute(query).scalar())
