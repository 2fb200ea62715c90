"""Mail that no person wrote: what becomes of it, and what a bounce says in plain words.

Nothing is dropped. What belongs to no thread lies aside; in a thread it is kept and changes
nothing, unless it says that an answer of ours did not arrive.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlmodel import Session, col

from channels.base import MessageKind, OutgoingKind
from router.models import Message, OutboxItem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from channels.base import DeliveryReport, Incoming
    from router.correspondence import Letterhead
    from router.preparing import Prepared

_OWED = frozenset((OutgoingKind.REPLY.value, OutgoingKind.FORWARD.value))
"""What leaves the contact without an answer when it does not arrive."""


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
    return incoming.kind not in (MessageKind.AUTO_REPLY, MessageKind.BOUNCE)


def own_ids(incoming: Incoming) -> Iterator[str]:
    """Message-IDs that a message names, strongest first: returned, answered, quoted (RFC 5322
    §3.6.4)."""
    if incoming.report is not None and incoming.report.message_id:
        yield incoming.report.message_id
    if incoming.in_reply_to:
        yield incoming.in_reply_to
    yield from reversed(incoming.references)


@dataclass(frozen=True, slots=True)
class Returned:
    """One of our letters that came back, and its message in the thread where a person wrote it."""

    letter: OutboxItem
    message: Message | None

    @property
    def owed(self) -> bool:
        """Whether somebody now waits in vain for an answer."""
        return self.letter.kind in _OWED


def returned_letter(session: Session, incoming: Incoming, head: Letterhead) -> Returned | None:
    """Which of our letters a bounce returns: by its return path (VERP), else by its Message-ID,
    which only we can issue; None when it does not say."""
    number = head.signer.verify("return", incoming.thread_token)
    message = session.get(Message, number) if number is not None else None
    if message is not None:
        letter = _letter(
            session,
            col(OutboxItem.inquiry_id) == message.inquiry_id,
            col(OutboxItem.thread_message_id) == message.id,
        )
        return Returned(letter, message) if letter is not None else None
    for message_id in own_ids(incoming):
        if head.inquiry_of(message_id) is None:
            continue
        letter = _letter(session, col(OutboxItem.message_id) == message_id)
        if letter is not None:
            number = letter.thread_message_id
            return Returned(letter, session.get(Message, number) if number else None)
    # A forward has the reply address as its return path.
    number = head.signer.verify("reply", incoming.thread_token)
    if number is None:
        return None
    letter = _letter(
        session,
        col(OutboxItem.inquiry_id) == number,
        col(OutboxItem.kind) == OutgoingKind.FORWARD.value,
    )
    return Returned(letter, None) if letter is not None else None


def _letter(session: Session, *conditions: Any) -> OutboxItem | None:
    query = select(OutboxItem).where(*conditions).order_by(col(OutboxItem.id).desc()).limit(1)
    found: OutboxItem | None = session.execute(query).scalar()
    return found


def reason_in_words(report: DeliveryReport | None) -> str:
    """Why a letter did not arrive: a plain sentence, then what the other server said."""
    status = report.status if report is not None else ""
    detail = report.detail if report is not None else ""
    said = " ".join(part for part in (status, detail.removeprefix(status).strip()) if part)
    sentence = _sentence(status)
    return f"{sentence} ({said})" if said else sentence


_BY_DETAIL = {
    "1.0": "Adressen er ikke gyldig.",
    "1.1": "Adressen finnes ikke hos mottakeren.",
    "1.2": "Domenet i adressen finnes ikke.",
    "1.3": "Adressen er skrevet feil.",
    "1.6": "Mottakeren har flyttet til en annen adresse.",
    "1.10": "Domenet i adressen tar ikke imot e-post.",
    "2.1": "Mottakerens postkasse er stengt.",
    "2.2": "Mottakerens postkasse er full.",
    "2.3": "Meldingen er for stor for mottakeren.",
    "3.4": "Meldingen er for stor for mottakeren.",
    "4.4": "Domenet i adressen tar ikke imot e-post.",
    "4.6": "Meldingen gikk i ring mellom e-postserverne.",
    "4.7": "Mottakerens e-posttjeneste svarte ikke, og det ble gitt opp å sende.",
}
_BY_SUBJECT = {
    "1": "Adressen kan ikke brukes.",
    "2": "Mottakerens postkasse tar ikke imot meldingen.",
    "3": "Mottakerens e-posttjeneste kunne ikke ta imot meldingen.",
    "4": "Vi fikk ikke kontakt med mottakerens e-posttjeneste.",
    "5": "Mottakerens e-posttjeneste forsto ikke sendingen.",
    "6": "Mottakerens e-posttjeneste godtar ikke innholdet.",
    "7": "Mottakerens e-posttjeneste avviste meldingen.",
}


def _sentence(status: str) -> str:
    """By the enhanced status code (RFC 3463 §3): subject and detail, whatever its class."""
    _, _, rest = status.partition(".")
    subject = rest.partition(".")[0]
    return (
        _BY_DETAIL.get(rest)
        or _BY_SUBJECT.get(subject)
        or "Mottakerens e-posttjeneste sendte meldingen tilbake."
    )
