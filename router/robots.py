"""Mail that no person wrote: what becomes of it, and which letter of ours a bounce returns.

Nothing is dropped. What belongs to no thread lies aside; in a thread it is kept and changes
nothing, unless it says that an answer of ours did not arrive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlmodel import Session, col

from channels.base import MessageKind, OutgoingKind
from channels.email.addresses import mailbox
from router.models import Message, OutboxItem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from channels.base import DeliveryReport, Incoming
    from router.correspondence import Letterhead
    from router.preparing import Prepared


_ASKS_NOTHING = frozenset(
    {MessageKind.AUTO_REPLY, MessageKind.BOUNCE, MessageKind.OPT_OUT, MessageKind.OPT_IN}
)


def sets_aside(item: Prepared) -> bool:
    """Whether a contact that belongs to no thread stays out of the queue.

    A filter that takes a call for help for spam must not hide it.
    """
    kind = item.incoming.kind
    if kind is MessageKind.SPAM and item.decision.emergency:
        return False
    return kind is not MessageKind.CONTACT


def asks(incoming: Incoming) -> bool:
    """Whether a message in a thread is from somebody who waits for an answer.

    Whoever found the thread by its token or as a participant is no spammer, whatever a filter says,
    and may well write by a mailing list.
    """
    return incoming.kind not in _ASKS_NOTHING


def own_ids(incoming: Incoming) -> Iterator[str]:
    """Message-IDs that a message names, strongest first: returned, answered, quoted (RFC 5322
    §3.6.4)."""
    if incoming.report is not None and incoming.report.message_id:
        yield incoming.report.message_id
    if incoming.in_reply_to:
        yield incoming.in_reply_to
    yield from reversed(incoming.references)


def returned_letter(session: Session, incoming: Incoming, head: Letterhead) -> OutboxItem | None:
    """Which of our letters a bounce returns; None when it proves nothing.

    Anybody can write what looks like a delivery report. One counts that comes from the null sender
    (RFC 3464 §2), to the return path of the letter (VERP) or with its Message-ID, both of which
    only we can make, and that is about the letter's recipient. At the return path it need not say
    about whom.
    """
    report = incoming.report
    if report is None or not report.null_sender:
        return None
    at_return_path = _by_return_path(session, incoming.thread_token, head)
    letters = at_return_path or _by_message_id(session, report.message_id, head)
    named = {mailbox(address) for address in (report.recipient, report.final_recipient) if address}
    if not named:
        return next(iter(at_return_path), None)
    words = incoming.text.lower()
    return next(
        (one for one in letters if one.mailbox in named or one.recipient in words),
        None,
    )


def _by_return_path(session: Session, token: str, head: Letterhead) -> list[OutboxItem]:
    number = head.signer.verify("return", token)
    if number is not None:
        message = session.get(Message, number)
        if message is None:
            return []
        return _letters(
            session,
            col(OutboxItem.inquiry_id) == message.inquiry_id,
            col(OutboxItem.thread_message_id) == number,
        )
    number = head.signer.verify("forward", token)
    if number is None:
        return []
    return _letters(
        session,
        col(OutboxItem.inquiry_id) == number,
        col(OutboxItem.kind) == OutgoingKind.FORWARD.value,
    )


def _by_message_id(session: Session, message_id: str, head: Letterhead) -> list[OutboxItem]:
    if head.inquiry_of(message_id) is None:
        return []
    return _letters(session, col(OutboxItem.message_id) == message_id)


def _letters(session: Session, *conditions: Any) -> list[OutboxItem]:
    """Latest first."""
    query = select(OutboxItem).where(*conditions).order_by(col(OutboxItem.id).desc())
    return list(session.execute(query).scalars())


def what_was_said(report: DeliveryReport | None) -> str:
    """What the other server said of a letter that did not arrive, its status code first."""
    status = report.status if report is not None else ""
    detail = report.detail if report is not None else ""
    said = " ".join(part for part in (status, detail.removeprefix(status).strip()) if part)
    return said or "Mottakerens e-posttjeneste sendte meldingen tilbake."
