"""Which inquiry a message belongs to.

Strongest first: the signed token of a reply address; a Message-ID we issued, from somebody who
takes
part in that inquiry; our reference in the subject, from somebody who takes part in it while it is
open. A guessed number never joins a thread: it becomes a hint for the operator.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select
from sqlmodel import Session, col

from channels.email.guards import DMARC_FAILED
from router.models import ContactAddress, Inquiry, InquiryStatus, Message

if TYPE_CHECKING:
    from channels.base import Address
    from router.correspondence import Letterhead
    from router.preparing import Prepared

_ADDRESS: Any = ContactAddress.__table__  # type: ignore[attr-defined]
_REFERENCE = re.compile(r"\[?\b(S-\d{4}-\d{6,9})\b\]?")


def find_thread(
    session: Session, item: Prepared, head: Letterhead
) -> tuple[Inquiry | None, int | None]:
    """The inquiry a message belongs to, and the one it may belong to."""
    incoming = item.incoming
    if incoming.thread_token:
        inquiry = _by_token(session, incoming.thread_token, head)
        if inquiry is not None:
            return inquiry, None
    if incoming.forwarded:
        return None, None
    hint: int | None = None
    sender = None if incoming.receipt_barred == DMARC_FAILED else incoming.sender
    for message_id in (incoming.in_reply_to, *reversed(incoming.references)):
        number = head.inquiry_of(message_id) if message_id else None
        inquiry = session.get(Inquiry, number) if number is not None else None
        if inquiry is None:
            continue
        if takes_part(session, inquiry, sender):
            return inquiry, None
        hint = hint or inquiry.id
    for ref in _REFERENCE.findall(incoming.subject)[:3]:
        inquiry = session.execute(select(Inquiry).where(col(Inquiry.ref) == ref)).scalar()
        if inquiry is None:
            continue
        if inquiry.status is InquiryStatus.OPEN and takes_part(session, inquiry, sender):
            return inquiry, None
        hint = hint or inquiry.id
    return None, hint


def _by_token(session: Session, token: str, head: Letterhead) -> Inquiry | None:
    number = head.signer.verify("reply", token)
    if number is not None:
        return session.get(Inquiry, number)
    number = head.signer.verify("return", token)
    message = session.get(Message, number) if number is not None else None
    return session.get(Inquiry, message.inquiry_id) if message is not None else None


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
