"""Chats: opened by a browser, talked in by both sides, turned into an ordinary inquiry when nobody
can answer, taken on by letter when the resident has gone.

What is said are messages of the inquiry's thread. What only the chat knows stands in
`Conversation`; the functions here keep the two in step, each within the session it is given.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, bindparam, case, select, update
from sqlmodel import Session, col

from channels.base import Address, MessageKind, OutgoingKind
from router import events, letters, xmpp_letters
from router.chat_models import CHANNEL, Conversation, ConversationState, TalkOutcome
from router.contacts import contact_at
from router.errors import NotFoundError
from router.models import (
    Direction,
    Inquiry,
    InquiryStatus,
    Message,
    Staff,
)
from router.privacy import mask_text
from router.tokens import hash_secret, new_secret
from rules.order import Lane, queue_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from router.correspondence import Letterhead

IDLE = timedelta(hours=24)
"""Without a sign of life for so long, a conversation ends,"""
LONGEST = timedelta(days=7)
"""and in any case so long after it was opened."""
LISTENING = timedelta(seconds=60)
"""How long a page counts as open after it was last heard of: time enough to load it anew."""
ANSWER_WITHIN = timedelta(minutes=1)
"""The target for an answer in a chat: what the live lane of the queue is sorted by,"""
AT_EASE = timedelta(minutes=10)
"""and where a talk stands in it while nobody waits."""
KEPT = timedelta(days=30)
"""A talk by XMPP is kept so long after its last message: the address stays who it is."""
THERE = timedelta(minutes=10)
"""How long after a message somebody who writes by XMPP counts as there; no page tells."""

_LIVE = (ConversationState.WAITING, ConversationState.TALKING)
_C: Any = Conversation.__table__  # type: ignore[attr-defined]
_M: Any = Message.__table__  # type: ignore[attr-defined]
_I: Any = Inquiry.__table__  # type: ignore[attr-defined]

# Asked with every message: putting a statement together costs as much as running it.
_BY_KEY = select(Conversation).where(col(Conversation.key) == bindparam("key"))
_OF_INQUIRY = (
    select(Conversation)
    .where(
        col(Conversation.inquiry_id) == bindparam("inquiry"),
        col(Conversation.state) != ConversationState.ENDED,
        col(Conversation.expires_at) > bindparam("now"),
    )
    .order_by(col(Conversation.id).desc())
    .limit(1)
)
_ELSEWHERE = (
    select(Message)
    .where(
        col(Message.inquiry_id) == bindparam("inquiry"),
        col(Message.direction) == Direction.IN,
        col(Message.kind) == MessageKind.CONTACT.value,
        col(Message.channel) != CHANNEL,
    )
    .order_by(col(Message.id).desc())
    .limit(1)
)
# A page may name any number; what is beyond our last message counts as that.
_CLAIMED: Any = bindparam("seen", type_=BigInteger)
_SEEN_UP_TO = case((_C.c.last_out < _CLAIMED, _C.c.last_out), else_=_CLAIMED)
_SEEN = (
    update(_C)
    .where(_C.c.id == bindparam("conversation"), _C.c.resident_read < _SEEN_UP_TO)
    .values(resident_read=_SEEN_UP_TO)
)
_LAST_IN = (
    select(_M.c.id)
    .where(
        _M.c.inquiry_id == bindparam("inquiry"),
        _M.c.direction == Direction.IN,
        _M.c.channel == CHANNEL,
    )
    .order_by(_M.c.id.desc())
    .limit(1)
)


def open_conversation(
    session: Session, language: str, now: datetime, *, name: str = ""
) -> tuple[Conversation, str]:
    """A new conversation and the secret that opens it. Nothing stands in the queue yet."""
    secret = new_secret()
    conversation = Conversation(
        key=secrets.token_urlsafe(16),
        token_hash=hash_secret(secret),
        language=letters.letter_language(language),
        name=name,
        created_at=now,
        seen_at=now,
        expires_at=now + IDLE,
        listening_until=now + LISTENING,
    )
    session.add(conversation)
    session.flush()
    return conversation, secret


def find(session: Session, secret: str, now: datetime, key: str | None = None) -> Conversation:
    """The conversation a secret opens, which must be called `key` where one is given.

    Raises `NotFoundError`, the same for what never was, is somebody else's, or is over.
    """
    query = select(Conversation).where(col(Conversation.token_hash) == hash_secret(secret))
    found: Conversation | None = session.execute(query).scalar() if secret else None
    if (
        found is None
        or (key is not None and found.key != key)
        or found.state is ConversationState.ENDED
        or found.expires_at <= now
    ):
        raise NotFoundError
    return found


def of_inquiry(session: Session, inquiry_id: int | None, now: datetime) -> Conversation | None:
    """The latest conversation about an inquiry that is not over."""
    wanted = {"inquiry": inquiry_id, "now": now}
    found: Conversation | None = session.execute(_OF_INQUIRY, wanted).scalar()
    return found


def is_listening(conversation: Conversation, now: datetime) -> bool:
    """Whether the page is open as far as we know."""
    until = conversation.listening_until
    return until is not None and until > now


def answers_here(session: Session, inquiry: Inquiry, now: datetime) -> Conversation | None:
    """The conversation in which an answer would be read: the page is open, or no other way was
    given and it may be opened again. None: the answer goes by letter, or nowhere.

    Once somebody has written by letter or text, answers go that way: an address given in a chat is
    nobody's proof, and its owner may be somebody else than whoever has the chat open.
    """
    conversation = of_inquiry(session, inquiry.id, now) or _by_xmpp(session, inquiry.id)
    if conversation is None or asked_elsewhere(session, inquiry) is not None:
        return None
    elsewhere = conversation.email or conversation.phone or inquiry.sender_address
    return conversation if is_listening(conversation, now) or not elsewhere else None


def asked_elsewhere(session: Session, inquiry: Inquiry) -> Message | None:
    """The latest message of a person that came by another way than a chat."""
    found: Message | None = session.execute(_ELSEWHERE, {"inquiry": inquiry.id}).scalar()
    return found


def begin(
    session: Session,
    head: Letterhead,
    key: str,
    inquiry_id: int,
    message_id: int,
    now: datetime,
    *,
    emergency: bool = False,
) -> None:
    """The first message has become an inquiry: it stands in the live lane, and somebody waits.

    For intake, within its transaction. `emergency`: the fixed answer is given at once.
    """
    conversation = by_key(session, key)
    if conversation is None:
        return
    inquiry = session.get_one(Inquiry, inquiry_id)
    conversation.inquiry_id = inquiry_id
    inquiry.sender_name = inquiry.sender_name or conversation.name
    if conversation.jid:
        conversation.language = letters.letter_language(inquiry.language)
        # Whose server has vouched for the address; it is no e-mail address, though it looks it.
        who = Address("xmpp", conversation.jid, conversation.name)
        inquiry.contact_id = contact_at(session, who, inquiry.language, now)
    # The beginning of what was written, which also stands over letters.
    inquiry.subject = mask_text(inquiry.subject)
    if conversation.state is not ConversationState.ENDED:
        conversation.state = ConversationState.WAITING
    begin_waiting(conversation, inquiry, inquiry.received_at)
    session.flush()
    if emergency:
        answer_emergency(session, head, inquiry, conversation.language, message_id, now)


def joined(
    session: Session,
    head: Letterhead,
    key: str,
    inquiry: Inquiry,
    message_id: int,
    now: datetime,
    *,
    emergency: bool = False,
) -> None:
    """A message of a chat came by intake into its thread, as after a crash between the two."""
    conversation = by_key(session, key)
    if conversation is None:
        return
    if conversation.outcome is not TalkOutcome.CASEWORK:
        conversation.outcome = None
    begin_waiting(conversation, inquiry, now)
    session.flush()
    if emergency:
        answer_emergency(session, head, inquiry, conversation.language, message_id, now)


def inquiry_of(session: Session, key: str) -> Inquiry | None:
    """The inquiry that a conversation is about; None before its first message."""
    conversation = by_key(session, key)
    if conversation is None or conversation.inquiry_id is None:
        return None
    return session.get(Inquiry, conversation.inquiry_id)


def answered(
    session: Session,
    inquiry: Inquiry,
    conversation: Conversation | None,
    message_id: int,
    now: datetime,
    *,
    live: bool = True,
) -> None:
    """We have said something in a conversation: nobody waits any more, the talk is on. One by XMPP
    is taken up again however long it rested. `live`: whether one that had become an ordinary
    inquiry is a talk again; else it has been answered, and stays what it is."""
    if conversation is None:
        return
    if conversation.jid:
        conversation.ended_at = None
        _keep_alive(conversation, now)
    elif conversation.state is ConversationState.ENDED:
        return
    ordinary = conversation.outcome is TalkOutcome.CASEWORK or (
        conversation.state is ConversationState.DEFERRED and not live
    )
    if not ordinary:
        conversation.state = ConversationState.TALKING
    conversation.waiting_since = None
    conversation.answered_at = conversation.answered_at or now
    conversation.last_out = message_id
    conversation.last_out_at = now
    _mark_read_by_staff(session, conversation)
    if is_listening(conversation, now) and not ordinary:
        place(inquiry, Lane.LIVE, _answer_by(conversation, now))


def answered_by_letter(session: Session, inquiry: Inquiry, now: datetime) -> None:
    """We have answered by letter or text what was asked in a chat: nobody waits in it any more."""
    conversation = of_inquiry(session, inquiry.id, now)
    if conversation is None:
        return
    conversation.waiting_since = None
    _mark_read_by_staff(session, conversation)
    if asked_elsewhere(session, inquiry) is not None:
        conversation.state = ConversationState.DEFERRED
        place(inquiry, Lane.DEFERRABLE)


def read_by_resident(session: Session, conversation_id: int, message_id: int) -> None:
    """The resident has seen our messages up to this one."""
    session.connection().execute(_SEEN, {"conversation": conversation_id, "seen": message_id})


def read_by_staff(session: Session, conversation_id: int, message_id: int) -> None:
    """Somebody at the desk has seen what the resident wrote up to this message."""
    conversation = session.get_one(Conversation, conversation_id)
    upto = min(message_id, _last_in(session, conversation.inquiry_id or 0))
    conversation.staff_read = max(conversation.staff_read, upto)


def listen(session: Session, ids: Iterable[int], now: datetime) -> None:
    """The pages of these conversations are open. Whoever comes back and waits is live again."""
    found = session.execute(
        select(Conversation).where(
            col(Conversation.id).in_(sorted(ids)),
            col(Conversation.state) != ConversationState.ENDED,
        )
    ).scalars()
    for conversation in found:
        back = not is_listening(conversation, now)
        conversation.listening_until = now + LISTENING
        _keep_alive(conversation, now)
        if back and conversation.state in _LIVE and conversation.inquiry_id is not None:
            inquiry = session.get_one(Inquiry, conversation.inquiry_id)
            place(inquiry, Lane.LIVE, _answer_by(conversation, now))
            events.tell(session, "chat_back", inquiry, now)


def stop_listening(session: Session, ids: Iterable[int], now: datetime) -> None:
    """The pages of these conversations were closed, and not opened anew."""
    session.connection().execute(
        update(_C)
        .where(_C.c.id.in_(sorted(ids)), _C.c.listening_until > now)
        .values(listening_until=now)
    )


def gone(session: Session, now: datetime) -> int:
    """Take those who are no longer there out of the live lane; returns how many.

    Who waits for an answer keeps their inquiry and its reply date.
    """
    found = session.execute(
        select(Inquiry, Conversation)
        .join(Conversation, col(Conversation.inquiry_id) == col(Inquiry.id))
        .where(
            col(Conversation.state).in_(_LIVE),
            col(Conversation.listening_until) <= now,
            col(Inquiry.lane) == int(Lane.LIVE),
            col(Inquiry.status) == InquiryStatus.OPEN,
        )
    ).all()
    for inquiry, _conversation in found:
        place(inquiry, Lane.DEFERRABLE)
        inquiry.version += 1
        events.tell(session, "chat_left", inquiry, now)
    return len(found)


def leave(session: Session, conversation: Conversation, now: datetime) -> None:
    """The resident ends the conversation, once. What is unanswered stays an inquiry."""
    if conversation.state is ConversationState.ENDED:
        return
    conversation.state = ConversationState.ENDED
    conversation.ended_at = now
    conversation.listening_until = None
    conversation.waiting_since = None
    if conversation.inquiry_id is None:
        return
    inquiry = session.get_one(Inquiry, conversation.inquiry_id)
    if inquiry.status is InquiryStatus.OPEN:
        place(inquiry, Lane.DEFERRABLE)
        inquiry.version += 1
    events.tell(session, "chat_left", inquiry, now, data={"by": "resident"})


def expire(session: Session, now: datetime) -> int:
    """End what has run out, and delete what nobody ever spoke in; returns how many."""
    silent = session.connection().execute(
        _C.delete().where(_C.c.expires_at <= now, _C.c.inquiry_id.is_(None))
    )
    ended = session.connection().execute(
        update(_C)
        .where(_C.c.expires_at <= now, _C.c.state != ConversationState.ENDED)
        .values(state=ConversationState.ENDED, ended_at=now, listening_until=None)
    )
    return int(silent.rowcount + ended.rowcount)


def defer(
    session: Session, head: Letterhead, conversation: Conversation, reason: str, now: datetime
) -> Inquiry:
    """Turn a chat that nobody answers into an ordinary inquiry, and say so with the reply date.

    `reason` is `closed`, `nobody` or `unanswered`. Whoever had taken it and kept silent gives it
    back.
    """
    inquiry = session.get_one(Inquiry, conversation.inquiry_id)
    conversation.state = ConversationState.DEFERRED
    conversation.deferred_at = now
    place(inquiry, Lane.DEFERRABLE)
    had = session.get(Staff, inquiry.assignee_id) if inquiry.assignee_id is not None else None
    inquiry.assignee_id = None
    inquiry.version += 1
    language = conversation.language
    text = letters.write(
        language,
        "chat_closed" if reason == "closed" else "chat_unanswered",
        ref=inquiry.ref,
        due=letters.moment_in_words(inquiry.due_at, head.zone, language),
        status_url=head.status_url(inquiry.id or 0),
    )
    say_automatically(session, head, inquiry, OutgoingKind.RECEIPT, text, now, once="deferred")
    data = {"reason": reason} | ({"person": had.username} if had is not None else {})
    events.tell(session, "chat_deferred", inquiry, now, data=data)
    return inquiry


def answer_emergency(
    session: Session,
    head: Letterhead,
    inquiry: Inquiry,
    language: str,
    message_id: int,
    now: datetime,
) -> None:
    """The fixed answer to what sounds like an emergency: whom to call now."""
    text = letters.write(language, "chat_emergency")
    kind = OutgoingKind.EMERGENCY
    say_automatically(session, head, inquiry, kind, text, now, once=f"emergency-{message_id}")


def by_key(session: Session, key: str) -> Conversation | None:
    """The conversation with this key."""
    found: Conversation | None = session.execute(_BY_KEY, {"key": key}).scalar()
    return found


def _by_xmpp(session: Session, inquiry_id: int | None) -> Conversation | None:
    """The latest talk by XMPP about an inquiry, over or not: its address is still there."""
    query = (
        select(Conversation)
        .where(col(Conversation.inquiry_id) == inquiry_id, col(Conversation.jid) != "")
        .order_by(col(Conversation.id).desc())
        .limit(1)
    )
    found: Conversation | None = session.execute(query).scalar()
    return found


def begin_waiting(conversation: Conversation, inquiry: Inquiry, at: datetime) -> None:
    """Somebody has said something and waits; not in the chat where they have left it meanwhile."""
    if conversation.state is ConversationState.ENDED:
        place(inquiry, Lane.DEFERRABLE)
        return
    conversation.waiting_since = conversation.waiting_since or at
    _keep_alive(conversation, at)
    if conversation.jid:
        conversation.listening_until = at + THERE
    if conversation.state is ConversationState.DEFERRED:
        place(inquiry, Lane.DEFERRABLE)
    else:
        place(inquiry, Lane.LIVE, _answer_by(conversation, at))


def _answer_by(conversation: Conversation, now: datetime) -> datetime:
    since = conversation.waiting_since
    return now + AT_EASE if since is None else since + ANSWER_WITHIN


def _keep_alive(conversation: Conversation, now: datetime) -> None:
    conversation.seen_at = max(conversation.seen_at, now)
    if conversation.jid:
        conversation.expires_at = now + KEPT
        return
    conversation.expires_at = min(conversation.created_at + LONGEST, conversation.seen_at + IDLE)


def place(inquiry: Inquiry, lane: Lane, answer_by: datetime | None = None) -> None:
    """Where an inquiry stands in the queue now; an emergency stays first."""
    if inquiry.lane == int(Lane.CRISIS):
        return
    lane, sort_at, *_ = queue_key(
        lane,
        received_at=inquiry.received_at,
        id=inquiry.id or 0,
        answer_by=answer_by,
        due_at=inquiry.due_at,
    )
    inquiry.lane, inquiry.sort_at = int(lane), sort_at


def say_automatically(
    session: Session,
    head: Letterhead,
    inquiry: Inquiry,
    kind: OutgoingKind,
    text: str,
    now: datetime,
    *,
    once: str,
) -> None:
    """A message nobody wrote. It is no answer: who waits goes on waiting."""
    key = f"{inquiry.id}:{once}:{now.isoformat()}"
    message = Message(
        inquiry_id=inquiry.id or 0,
        channel=CHANNEL,
        external_id=key,
        direction=Direction.OUT,
        kind=kind.value,
        sender_name=head.municipality,
        text=text,
        at=now,
        delivery="sent",
    )
    session.add(message)
    session.flush()
    conversation = of_inquiry(session, inquiry.id, now)
    if conversation is not None and conversation.jid:
        xmpp_letters.post(session, head, conversation, message, now)


def _mark_read_by_staff(session: Session, conversation: Conversation) -> None:
    """Who answers has read what was asked."""
    conversation.staff_read = max(
        conversation.staff_read, _last_in(session, conversation.inquiry_id or 0)
    )


def _last_in(session: Session, inquiry_id: int) -> int:
    return session.connection().execute(_LAST_IN, {"inquiry": inquiry_id}).scalar() or 0
