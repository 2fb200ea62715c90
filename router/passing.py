"""Passing an inquiry on, with what the resident is told: to a department, to another body, to a
colleague, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import insert, select
from sqlmodel import Session, col

from channels.base import OutgoingKind
from router import chat, chat_desk, correspondence, events, handovers, letters, queue
from router.chat_models import ConversationState
from router.models import Inquiry, OutboxItem

if TYPE_CHECKING:
    from datetime import datetime

    from router.access import Actor
    from router.correspondence import Letterhead

FULL = "This colleague has as many chats as one can have. Choose somebody else."


def transfer(
    session: Session,
    head: Letterhead,
    actor: Actor,
    ref: str,
    department: str,
    note: str,
    now: datetime,
) -> Inquiry:
    """`queue.transfer`; to an external body the contact is forwarded, and the resident told;
    who sits in a chat is told which department answers now.

    Raises what `queue.transfer` raises.
    """
    inquiry = queue.transfer(session, actor, ref, department, note, now)
    rows = correspondence.handover_rows(session, head, inquiry, now)
    if rows:
        session.connection().execute(insert(OutboxItem.__table__), rows)  # type: ignore[attr-defined]
        events.tell(session, "forwarded", inquiry, now, staff_id=actor.staff_id)
    if not head.departments[inquiry.department].external:
        tell_who_answers(session, head, inquiry, "", now)
    return inquiry


def hand_back(
    session: Session, head: Letterhead, actor: Actor, ref: str, reason: str, now: datetime
) -> Inquiry:
    """`queue.hand_back`; who sits in a chat is told. Raises what that raises."""
    inquiry = queue.hand_back(session, actor, ref, reason, now)
    tell_who_answers(session, head, inquiry, "", now)
    return inquiry


def hand_over(
    session: Session,
    head: Letterhead,
    actor: Actor,
    ref: str,
    username: str,
    note: str,
    now: datetime,
    *,
    capacity: int,
    department: str = "",
) -> Inquiry:
    """`handovers.hand_over`; a live chat goes only to who has room, and its resident is told who
    answers now."""
    inquiry = queue.get(session, actor, ref)
    receiver = handovers.colleague(session, username)
    if receiver.id != inquiry.assignee_id:
        chat_desk.require_room(session, receiver.id or 0, inquiry, capacity, now, FULL)
    held = inquiry.assignee_id
    inquiry = handovers.hand_over(session, actor, ref, username, note, now, department)
    if inquiry.assignee_id != held:
        tell_who_answers(session, head, inquiry, receiver.name, now)
    return inquiry


def take_back(
    session: Session, head: Letterhead, actor: Actor, ref: str, now: datetime, *, capacity: int
) -> Inquiry:
    """`handovers.take_back`, of a live chat as long as there is room; its resident is told."""
    known: Inquiry | None = session.execute(select(Inquiry).where(col(Inquiry.ref) == ref)).scalar()
    if known is not None and handovers.taken_back_from(session, actor, known) is not None:
        chat_desk.require_room(session, queue.person(actor), known, capacity, now)
    inquiry = handovers.take_back(session, actor, ref, now)
    tell_who_answers(session, head, inquiry, actor.name, now)
    return inquiry


def tell_who_answers(
    session: Session, head: Letterhead, inquiry: Inquiry, name: str, now: datetime
) -> None:
    """Tell the resident of a talk that is under way who answers now: a person, or a department
    where `name` is empty. They wait from now on."""
    talk = chat.of_inquiry(session, inquiry.id, now)
    if talk is None or talk.state not in (ConversationState.WAITING, ConversationState.TALKING):
        return
    language = talk.language
    department = head.departments[inquiry.department].name.get(letters.letter_language(language))
    words = letters.write(language, "chat_goes_to", who=name or department)
    chat.say_automatically(
        session, head, inquiry, OutgoingKind.NOTICE, words, now, once=f"goes-to-{inquiry.version}"
    )
    talk.waiting_since = talk.waiting_since or now
    session.flush()
