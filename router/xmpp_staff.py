"""People who answer from an XMPP client of their own. Each inquiry has an address; whoever holds it
is told there what its resident writes, and what they write to it is an answer.

Who somebody is, their own server has verified: the address stands with their account, and no name
that they show counts for anything.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, func, or_, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col

from channels.base import MessageKind
from channels.chat import xmpp
from channels.chat.xmpp_door import Verdict
from router import chat, chat_desk, letters, outbox, queue, replies, xmpp_letters
from router.chat_models import Relayed
from router.errors import ConflictError, InvalidError, NotFoundError, RouterError
from router.models import (
    Addressee,
    Direction,
    Event,
    Inquiry,
    InquiryStatus,
    Membership,
    Message,
    Role,
    Staff,
    StoredAttachment,
)
from router.privacy import mask_text
from router.staff import actor_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from router.access import Actor
    from router.correspondence import Letterhead

OPENING_LINES = 5
"""What was said last, when an inquiry becomes somebody's."""
LINE_LENGTH = 2000
"""Characters of one message as it is told; the rest is read on the page."""
BATCH = 100

_COMMANDS = {
    **dict.fromkeys(("notat", "note"), "note"),
    **dict.fromkeys(("lukk", "close", "avslutt"), "close"),
    **dict.fromkeys(("hjelp", "help"), "help"),
}

_COMMAND = re.compile(r"[/!](\S+)\s*(.*)", re.DOTALL)
_MARKED = re.compile(r"!!?[^\W\d_]")
"""What begins with a word after the mark that no client takes for itself; all else that begins so
is only loud."""

_M: Any = Message.__table__  # type: ignore[attr-defined]
_I: Any = Inquiry.__table__  # type: ignore[attr-defined]
_S: Any = Staff.__table__  # type: ignore[attr-defined]
_E: Any = Event.__table__  # type: ignore[attr-defined]
_R: Any = Relayed.__table__  # type: ignore[attr-defined]
_OPEN = text("inquiry.status = 'open'")
"""Written out, so that the planner uses the partial index."""


class RefusedError(RouterError):
    """What somebody wrote is not taken; the words are for them."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.text)
        self.verdict = verdict


def by_jid(session: Session, jid: str) -> Staff | None:
    """Who works here and has this address."""
    query = select(Staff).where(col(Staff.jid) == jid, col(Staff.active))
    return session.execute(query).scalar() if jid else None


def hear(
    session: Session, head: Letterhead, said: xmpp.Said, capacity: int, now: datetime
) -> Verdict:
    """Take what somebody wrote to the address of an inquiry: an answer, or a command. The same
    message twice is one. `capacity`: live chats that somebody can have at a time.

    Raises `RefusedError`, with the same words for strangers, for what does not exist and for what
    is not theirs to see; nothing has changed then.
    """
    person = by_jid(session, said.jid)
    ref = xmpp.case_of(said.local)
    language = letters.letter_language(person.language if person is not None else said.language)
    url = _page(head, ref)

    def refuse(condition: str, letter: str, **blanks: str) -> RefusedError:
        words = letters.write(language, letter, url=url, **blanks)
        return RefusedError(Verdict(condition, words, language))

    if person is None:
        raise refuse("item-not-found", "staff_unknown")
    verb, body = _parted(said.text)
    if verb == "unknown":
        raise refuse("not-acceptable", "staff_no_command", command=body)
    actor = actor_of(session, person)
    try:
        told = ""
        if verb == "help":
            queue.get(session, actor, ref)
            told = "staff_help"
        elif verb == "note":
            queue.note(session, actor, ref, body, now, key=f"{said.jid}:{said.key}")
            told = "staff_noted"
        elif verb == "close":
            told = _close(session, actor, ref, said.key, now)
        else:
            key = f"{said.jid}:{said.key}"
            replies.reply(session, head, actor, ref, body, now, key=key, capacity=capacity)
    except NotFoundError as error:
        raise refuse("item-not-found", "staff_unknown") from error
    except ConflictError as error:
        if error.holder:
            raise refuse("conflict", "staff_held", holder=error.holder) from error
        is_full = error.detail == chat_desk.FULL
        raise refuse("conflict", "staff_full" if is_full else "staff_shut") from error
    except InvalidError as error:
        raise refuse(
            "not-acceptable", "staff_not_sent" if verb == "reply" else "staff_no_text"
        ) from error
    return Verdict(text=letters.write(language, told) if told else "", language=language)


def _parted(said: str) -> tuple[str, str]:
    """`reply`, `note`, `close`, `help` or `unknown`, and what it is about."""
    if not said.startswith("/") and _MARKED.match(said) is None:
        return "reply", said
    if said.startswith(("//", "!!")):
        return "reply", said[1:]
    parts = _COMMAND.fullmatch(said)
    word, rest = parts.groups() if parts is not None else ("", "")
    verb = _COMMANDS.get(word.lower())
    # Words behind a command that takes none would be lost.
    if verb is None or (rest and verb != "note"):
        return "unknown", said[:40]
    return verb, rest.strip()


def _close(session: Session, actor: Actor, ref: str, key: str, now: datetime) -> str:
    """Close an inquiry, once for each `key`: who hears nothing sends the same again, and the
    resident may have opened it meanwhile. Returns what is said of it."""
    inquiry = queue.get(session, actor, ref)
    done = session.execute(
        select(col(Event.data)).where(
            col(Event.inquiry_id) == inquiry.id, col(Event.kind) == "closed"
        )
    ).scalars()
    was_closed = inquiry.status is InquiryStatus.CLOSED
    if any(data.get("key") == key for data in done):
        return "staff_closed_before" if was_closed else "staff_closed_reopened"
    if was_closed:
        return "staff_closed_before"
    queue.close(session, actor, ref, now, key=key)
    _expect(session, inquiry, actor.staff_id or 0)
    return "staff_closed"


def _expect(session: Session, inquiry: Inquiry, staff_id: int) -> None:
    """From here on somebody is told of an inquiry that they closed, whether or not they held it."""
    mark = session.get(Relayed, inquiry.id)
    if mark is not None and mark.staff_id == staff_id:
        return
    query = select(func.max(_M.c.id)).where(_M.c.inquiry_id == inquiry.id, _told())
    latest = session.execute(query).scalar() or 0
    if mark is None:
        mark = Relayed(inquiry_id=inquiry.id or 0, staff_id=staff_id, message_id=latest)
    mark.staff_id, mark.message_id = staff_id, latest
    session.add(mark)


def talk_of(session: Session, jid: str, local: str, now: datetime) -> int | None:
    """The chat that somebody who works here writes in, when they write to the address of an
    inquiry."""
    person = by_jid(session, jid)
    if person is None:
        return None
    try:
        inquiry = queue.get(session, actor_of(session, person), xmpp.case_of(local))
    except NotFoundError:
        return None
    found = chat.of_inquiry(session, inquiry.id, now)
    return found.id if found is not None else None


def holder_of(session: Session, inquiry_id: int | None) -> tuple[str, str] | None:
    """The address of whoever holds an inquiry, and the inquiry's own local part."""
    query = (
        select(_S.c.jid, _I.c.ref)
        .join(_S, _S.c.id == _I.c.assignee_id)
        .where(_I.c.id == inquiry_id, _S.c.jid.is_not(None), _S.c.active, _sees())
    )
    row = session.connection().execute(query).first()
    return (row.jid, xmpp.case_address(row.ref)) if row is not None else None


def untold(
    session: Session, only: Iterable[int] | None = None, but: Iterable[int] = ()
) -> list[int]:
    """Inquiries of which somebody with an address has not been told everything, because they hold
    it, or closed it and its resident has written again; of these alone, where `only` names some,
    and none of `but`."""
    found: set[int] = set()
    for query in (_held(), _reopened()):
        if only is not None:
            query = query.where(_I.c.id.in_(sorted(only)))
        if but:
            query = query.where(_I.c.id.not_in(sorted(but)))
        found.update(session.connection().execute(query.limit(BATCH)).scalars())
    return sorted(found)


def _held() -> Any:
    return (
        select(_I.c.id)
        .join(_S, and_(_S.c.id == _I.c.assignee_id, _S.c.jid.is_not(None), _S.c.active))
        .join(_M, and_(_M.c.inquiry_id == _I.c.id, _told()))
        .outerjoin(_R, _R.c.inquiry_id == _I.c.id)
        .where(
            _OPEN,
            _sees(),
            or_(
                _R.c.inquiry_id.is_(None),
                _R.c.staff_id != _I.c.assignee_id,
                _M.c.id > _R.c.message_id,
            ),
        )
        .distinct()
        .order_by(_I.c.id)
    )


def _reopened() -> Any:
    """`outbox.listener` for what nobody holds."""
    later = _E.alias()
    since = select(later.c.id).where(
        later.c.inquiry_id == _I.c.id, later.c.id > _E.c.id, outbox.turned(later.c)
    )
    return (
        select(_I.c.id)
        .select_from(_R)
        .join(_I, _I.c.id == _R.c.inquiry_id)
        .join(_S, and_(_S.c.id == _R.c.staff_id, _S.c.jid.is_not(None), _S.c.active))
        .join(_M, and_(_M.c.inquiry_id == _I.c.id, _M.c.id > _R.c.message_id, _told()))
        .join(
            _E,
            and_(
                _E.c.inquiry_id == _I.c.id,
                _E.c.staff_id == _R.c.staff_id,
                _E.c.kind == "closed",
            ),
        )
        .where(_OPEN, _I.c.assignee_id.is_(None), _sees(), ~since.exists())
        .distinct()
        .order_by(_I.c.id)
    )


def relay(session: Session, head: Letterhead, inquiry_id: int, now: datetime) -> int:
    """Tell whoever holds an inquiry what they have not been told; returns how many messages. Who
    closed it is told what its resident writes after that, until somebody does something with it.

    How far they were told moves on in the same transaction, so that each message goes once.
    """
    inquiry = session.get_one(Inquiry, inquiry_id)
    person = outbox.listener(session, inquiry)
    if person is None or not person.jid or inquiry.status is not InquiryStatus.OPEN:
        return 0
    mark = session.get(Relayed, inquiry_id, populate_existing=True)
    is_new = mark is None or mark.staff_id != person.id
    if is_new and inquiry.assignee_id is None:
        return 0
    after = 0 if mark is None or is_new else mark.message_id
    messages = list(
        session.execute(
            select(Message)
            .where(_M.c.inquiry_id == inquiry_id, _M.c.id > after, _told())
            .order_by(_M.c.id)
        ).scalars()
    )
    if not messages or not _move(session, inquiry, person, mark, messages[-1].id or 0):
        return 0
    if is_new:
        # The opening says it all, also to who had it before and gets it back.
        outbox.withdraw(session, inquiry_id)
        xmpp_letters.relay(
            session, head, inquiry, person, _opening(session, head, inquiry, person), now
        )
        return 1
    files = _files(session, messages)
    for message in messages:
        told = _words(head, inquiry, person, message, files.get(message.id or 0, ()))
        if inquiry.assignee_id is None:
            told = letters.write(
                person.language,
                "staff_again",
                ref=inquiry.ref,
                text=told,
                url=_page(head, inquiry.ref),
            )
        xmpp_letters.relay(session, head, inquiry, person, told, now)
    return len(messages)


def _sees() -> Any:
    """`queue.sees` for who holds an inquiry: they may have left its department since."""
    theirs = select(col(Membership.department)).where(col(Membership.staff_id) == _S.c.id)
    also = select(col(Addressee.inquiry_id)).where(
        col(Addressee.inquiry_id) == _I.c.id, col(Addressee.department).in_(theirs)
    )
    everything = _S.c.role.in_([Role.OPERATOR, Role.ADMIN])
    return or_(everything, _I.c.department.in_(theirs), also.exists())


def _told() -> Any:
    """What residents wrote."""
    return (_M.c.direction == Direction.IN) & (_M.c.kind == MessageKind.CONTACT.value)


def _move(
    session: Session, inquiry: Inquiry, person: Staff, mark: Relayed | None, last: int
) -> bool:
    """Note how far somebody has been told, unless another service has done so meanwhile."""
    connection = session.connection()
    values = {"staff_id": person.id, "message_id": last}
    if mark is None:
        dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
        made = dialect.insert(_R).on_conflict_do_nothing()
        return bool(connection.execute(made, {"inquiry_id": inquiry.id, **values}).rowcount)
    known = and_(
        _R.c.inquiry_id == inquiry.id,
        _R.c.staff_id == mark.staff_id,
        _R.c.message_id == mark.message_id,
    )
    return bool(connection.execute(update(_R).where(known).values(values)).rowcount)


def _opening(session: Session, head: Letterhead, inquiry: Inquiry, person: Staff) -> str:
    """What somebody is told of an inquiry that has become theirs."""
    language = letters.letter_language(person.language)
    latest = list(
        session.execute(
            select(Message)
            .where(
                _M.c.inquiry_id == inquiry.id,
                or_(_told(), (_M.c.direction == Direction.OUT) & (_M.c.kind == "reply")),
            )
            .order_by(_M.c.id.desc())
            .limit(OPENING_LINES)
        ).scalars()
    )
    files = _files(session, latest)
    lines = [
        letters.write(
            language,
            "staff_line",
            clock=f"{message.at.astimezone(head.zone):%H:%M}",
            who=mask_text(message.sender_name) or letters.TEXTS[language]["staff_resident"],
            text=_words(head, inquiry, person, message, files.get(message.id or 0, ())),
        )
        for message in reversed(latest)
    ]
    return letters.write(
        language,
        "staff_opening",
        ref=inquiry.ref,
        subject=mask_text(inquiry.subject) or letters.TEXTS[language]["no_subject"],
        department=head.departments[inquiry.department].name.get(language),
        due=letters.moment_in_words(inquiry.due_at, head.zone, language),
        lines="\n".join(lines),
        url=_page(head, inquiry.ref),
    )


def _words(
    head: Letterhead, inquiry: Inquiry, person: Staff, message: Message, files: Sequence[str]
) -> str:
    """A message as it is told: fødselsnummer masked, files by their names."""
    url = _page(head, inquiry.ref)
    said = mask_text(message.text)
    parts = [said[:LINE_LENGTH]]
    if len(said) > LINE_LENGTH:
        parts.append(letters.write(person.language, "staff_more", url=url))
    if files:
        names = mask_text(", ".join(files))
        parts.append(letters.write(person.language, "staff_files", names=names, url=url))
    return "\n".join(filter(None, parts))


def _files(session: Session, messages: Sequence[Message]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    rows = session.execute(
        select(col(StoredAttachment.message_id), col(StoredAttachment.filename))
        .where(col(StoredAttachment.message_id).in_([message.id for message in messages]))
        .order_by(col(StoredAttachment.id))
    )
    for number, name in rows:
        found.setdefault(number, []).append(name)
    return found


def _page(head: Letterhead, ref: str) -> str:
    return f"{head.public_url}/desk/inquiries/{ref}"
