"""A talk in words as the desk shows it: lines, how things stand, the lists, who can take over.

The page and its script show the same views.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlmodel import Session, col

from channels.base import OutgoingKind
from router import canned, chat_desk, chat_queue, letters, presence, thread_views
from router.access import SERVICE_PREFIX
from router.chat_models import CHANNEL, ConversationState, TalkOutcome
from router.models import Direction, Inquiry, Message, Staff
from router.privacy import mask_text
from router.web import phrases
from router.web.listing import department_names
from router.web.messages import why_in_words
from router.web.render import catalogue, label

if TYPE_CHECKING:
    from collections.abc import Mapping

    from babel.support import NullTranslations

    from router.access import Actor
    from router.chat_desk import Deferral, DeskTalk
    from router.chat_views import Line, Standing
    from router.hall import Hall
    from router.presence import Listed
    from router.queue import QueueRow

_M: Any = Message.__table__  # type: ignore[attr-defined]

LAST_LENGTH = 90
"""Characters of the last line in a list."""


@dataclass(frozen=True, slots=True)
class Colleague:
    """Somebody who can be given a talk."""

    username: str
    name: str
    listed: Listed
    at_desk: bool
    chats: int
    """Live chats that they hold."""
    room: bool


def line_view(line: Line, ref: str, hall: Hall, actor: Actor) -> dict[str, Any]:
    """One thing that was said, written or noted."""
    t, now = catalogue(actor.language), hall.clock()
    theirs = line.direction is Direction.IN
    note = line.direction is Direction.NOTE
    by_itself = not theirs and not note and line.kind != "reply"
    who = line.name or (t.gettext("The resident") if theirs else "")
    marks = []
    if note or by_itself:
        marks.append(label(actor.language, "message", line.kind))
    if not note and line.channel != CHANNEL:
        marks.append(label(actor.language, "channel", line.channel))
    same_day = line.at.astimezone(phrases.ZONE).date() == now.astimezone(phrases.ZONE).date()
    return {
        "id": line.id,
        "side": "note" if note else "theirs" if theirs else "auto" if by_itself else "ours",
        "mine": line.staff_id is not None and line.staff_id == actor.staff_id,
        "in_chat": line.channel == CHANNEL,
        "who": who,
        "mark": ", ".join(marks),
        "text": mask_text(line.text),
        "at": phrases.rfc3339(line.at),
        "clock": (
            phrases.clock(line.at) if same_day else phrases.moment(line.at, now, actor.language, t)
        ),
        "files": [
            {
                "name": file.filename or t.gettext("File without a name"),
                "size": phrases.size(file.size, actor.language),
                "url": ("" if line.locked else f"/desk/inquiries/{ref}/attachments/{file.id}"),
            }
            for file in line.files
        ],
    }


def standing_view(
    session: Session, hall: Hall, actor: Actor, standing: Standing, now: datetime
) -> dict[str, Any]:
    """How a talk stands, and whether and where somebody can write in it."""
    t = catalogue(actor.language)
    inquiry = session.get_one(Inquiry, standing.inquiry_id)
    to, refusal = thread_views.reply_to(session, hall.reply_context, inquiry, now)
    way = thread_views.way_of(to)
    held = standing.staff_id is not None
    mine = held and standing.staff_id == actor.staff_id
    if standing.closed:
        why = t.gettext("The conversation is closed.")
    elif held and not mine:
        name = standing.staff or t.gettext("Somebody else")
        why = t.gettext("%(name)s has this conversation.") % {"name": name}
    else:
        why = t.gettext(refusal) if refusal else ""
    return {
        "state": standing.state.value,
        "closed": standing.closed,
        "holder": "me" if mine else standing.staff or "?" if held else "",
        "status": " ".join(
            filter(None, (deferred(session, actor, standing), _status(standing, actor.language, t)))
        ),
        "read": standing.resident_read,
        "seen": standing.read,
        "deliveries": _deliveries(session, standing, actor.language, t),
        "way": way,
        "where": _where(way, to.value if to else "", standing, t),
        "why": why,
        "may_write": not why,
    }


def _deliveries(
    session: Session, standing: Standing, language: str, t: NullTranslations
) -> dict[str, str]:
    """Message id -> how far an answer has come that left the chat for a letter or a device."""
    query = (
        select(_M.c.id, _M.c.channel, _M.c.delivery, _M.c.delivery_detail)
        .where(
            _M.c.inquiry_id == standing.inquiry_id,
            _M.c.kind == OutgoingKind.REPLY.value,
            _M.c.delivery != "",
        )
        .order_by(_M.c.id)
    )
    found = {}
    for number, channel, state, detail in session.connection().execute(query):
        if channel == CHANNEL and not standing.jid:
            continue  # it stands in the chat, and whether it was read is told
        words = label(language, "delivery", state)
        if state == "delivered" and channel == CHANNEL:
            words = f"{words}: {t.gettext('their device has it.')}"
        elif state == "failed" and detail:
            words = f"{words}: {why_in_words(language, detail)}"
        found[str(number)] = words
    return found


def deferred(session: Session, actor: Actor, standing: Standing) -> str:
    """Why a talk is an ordinary inquiry now; empty where it is none, or is one for another
    reason."""
    if standing.state is not ConversationState.DEFERRED or standing.inquiry_id is None:
        return ""
    return deferred_inquiry(session, actor, standing.inquiry_id)


def deferred_inquiry(session: Session, actor: Actor, inquiry_id: int) -> str:
    """`deferred` of the talk of an inquiry."""
    found = chat_desk.deferral(session, inquiry_id)
    return "" if found is None else _why(session, actor, found)


def _why(session: Session, actor: Actor, found: Deferral) -> str:
    t = catalogue(actor.language)
    words = {"time": phrases.clock(found.at), "name": ""}
    if found.had and found.had == actor.username:
        return (
            t.gettext(
                "You had the conversation and did not answer in time: at %(time)s it became an"
                " ordinary inquiry."
            )
            % words
        )
    if found.had:
        query = select(col(Staff.name)).where(col(Staff.username) == found.had)
        words["name"] = session.execute(query).scalar() or found.had
        return (
            t.gettext(
                "%(name)s had the conversation and did not answer in time: at %(time)s it became an"
                " ordinary inquiry."
            )
            % words
        )
    return t.gettext("Nobody answered in time: at %(time)s it became an ordinary inquiry.") % words


def _status(standing: Standing, language: str, t: NullTranslations) -> str:
    """Where the resident is, and what has become of the talk."""
    if standing.closed:
        words = t.gettext("Closed. If the resident writes again, it opens again.")
        if standing.outcome is not None:
            words = f"{label(language, 'talk_outcome', standing.outcome.value)}. {words}"
        return words
    if standing.state is ConversationState.ENDED:
        return t.gettext("The resident has ended the conversation.")
    if standing.state is ConversationState.DEFERRED and standing.due_at is not None:
        due = phrases.full_moment(standing.due_at, language, t)
        words = t.gettext("An ordinary inquiry now, with an answer by %(due)s.") % {"due": due}
        if standing.outcome is TalkOutcome.CASEWORK:
            words = t.gettext("Casework, with an answer by %(due)s.") % {"due": due}
        here = t.gettext("The resident still has the page open.") if standing.listening else ""
        return f"{words} {_by_xmpp(standing, t) or here}".strip()
    if standing.jid:
        return _by_xmpp(standing, t)
    if standing.listening:
        return t.gettext("The resident has the page open.")
    return t.gettext("The resident has left the page.")


def _by_xmpp(standing: Standing, t: NullTranslations) -> str:
    if not standing.jid:
        return ""
    words = t.gettext("The resident writes by XMPP, from %(address)s.")
    return words % {"address": mask_text(standing.jid)}


def _where(way: str, address: str, standing: Standing, t: NullTranslations) -> str:
    """Where an answer goes, where that is not plain."""
    if way == "email":
        return t.gettext("The answer goes by e-mail to %(address)s.") % {"address": address}
    if way == "sms":
        return t.gettext("The answer goes by SMS to %(number)s.") % {
            "number": phrases.address(address)
        }
    if way == CHANNEL and not standing.listening and not standing.jid:
        return t.gettext("No address was given: the answer waits in the chat.")
    return ""


def talk_view(talk: DeskTalk, hall: Hall, actor: Actor) -> dict[str, Any]:
    """One talk in a list."""
    t = catalogue(actor.language)
    now = hall.clock()
    name = talk.name or mask_text(talk.subject) or t.gettext("(no subject)")
    last = " ".join(mask_text(talk.last).split())
    if not talk.name and last.startswith(name.rstrip("…")):
        last = ""  # what was said first stands there already
    department = hall.settings.departments.get(talk.department)
    return {
        "ref": talk.ref,
        "name": name,
        "last": last if len(last) <= LAST_LENGTH else f"{last[:LAST_LENGTH].rstrip()}…",
        "last_is_theirs": talk.last_is_theirs,
        "department": department.name.get(actor.language) if department else talk.department,
        "by_xmpp": talk.by_xmpp,
        "unread": talk.unread,
        "waits": _waits(talk.waiting_since, now, actor.language, t),
        "state": (
            "ended"
            if talk.state is ConversationState.ENDED
            else "here"
            if talk.listening or talk.by_xmpp
            else "left"
        ),
    }


def _waits(since: datetime | None, now: datetime, language: str, t: NullTranslations) -> str:
    """For how long somebody has waited; empty for who does not."""
    if since is None:
        return ""
    if now - since < timedelta(minutes=1):
        return t.gettext("Waits now")
    return t.gettext("Has waited %(time)s") % {"time": phrases.span(now - since, language)}


def lists(session: Session, hall: Hall, actor: Actor) -> dict[str, Any]:
    """Own talks, and who waits in line."""
    now, t = hall.clock(), catalogue(actor.language)
    mine = chat_desk.mine(session, actor, now)
    waiting = chat_desk.waiting(session, actor, now)
    capacity = hall.settings.channels.chat.capacity
    live = chat_queue.chats_of(session, [actor.staff_id or 0], now).get(actor.staff_id or 0, 0)
    return {
        "my_talks": [talk_view(talk, hall, actor) for talk in mine],
        "lost_talks": [
            {
                "ref": one.ref,
                "name": one.name or mask_text(one.subject) or t.gettext("(no subject)"),
                "why": _why(session, actor, one),
            }
            for one in chat_desk.lost(session, actor, now)
        ],
        "waiting_talks": [talk_view(talk, hall, actor) for talk in waiting],
        "chat_load": chat_desk.Load(len(waiting), sum(talk.unread > 0 for talk in mine)),
        "capacity": capacity,
        "live_chats": live,
    }


def colleagues(session: Session, hall: Hall, actor: Actor, now: datetime) -> list[Colleague]:
    """Who can be given a talk, those at the desk first."""
    listed = presence.statuses(session, actor, now, hall.directory)
    rows = session.execute(
        select(col(Staff.id), col(Staff.username), col(Staff.name), col(Staff.desk_until)).where(
            col(Staff.active),
            col(Staff.username).not_like(f"{SERVICE_PREFIX}%"),
            col(Staff.id) != actor.staff_id,
        )
    ).all()
    loads = chat_queue.chats_of(session, [number for number, *_ in rows], now)
    capacity = hall.settings.channels.chat.capacity
    found = [
        Colleague(
            username=username,
            name=name,
            listed=listed[username],
            at_desk=until is not None and until > now,
            chats=loads.get(number, 0),
            room=loads.get(number, 0) < capacity,
        )
        for number, username, name, until in rows
        if username in listed
    ]
    return sorted(found, key=lambda one: (not one.at_desk, not one.room, one.name.casefold()))


def canned_choices(
    hall: Hall, actor: Actor, row: QueueRow, name: str, language: str
) -> list[tuple[str, str]]:
    """(name, text) of the canned texts for an inquiry; `name` and `language` are its resident's."""
    language = letters.letter_language(language)
    department = hall.settings.departments.get(row.department)
    values: Mapping[str, str] = {
        "name": " ".join(name.split()[:1]),
        "ref": row.ref,
        "due": letters.moment_in_words(row.due_at, hall.reply_context.zone, language),
        "department": department.name.get(language) if department else "",
        "operator": actor.name if actor.is_person else "",
    }
    return [
        (one.name, canned.fill(one.get(language), values))
        for one in canned.offered(hall.settings.canned_texts, row.department)
    ]


def receivers(hall: Hall, actor: Actor, people: list[Colleague]) -> list[tuple[str, str, str]]:
    """(what to write, kind, words beside it) of everybody and everything that can take over."""
    found = [
        (one.name, "person", label(actor.language, "presence", one.listed.status.state.value))
        for one in people
    ]
    return found + [(name, "department", "") for _slug, name in department_names(hall, actor)]
