"""A talk in words: how things stand, and who said what, as the page and its script show it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from router import chat_views
from router.chat_models import ConversationState
from router.models import Direction
from router.texting import CHANNEL as SMS
from router.web import phrases
from router.web.render import catalogue

if TYPE_CHECKING:
    from router.chat_queue import Attendance
    from router.chat_views import Line, Standing
    from router.hall import Hall

_SOON = 1
"""Minutes below which a wait has no number."""


def status(standing: Standing, hall: Hall, language: str) -> str:
    """How things stand, in one or two sentences; empty when there is nothing to say."""
    t = catalogue(language)
    if standing.state is ConversationState.ENDED:
        return t.gettext("The conversation has ended.")
    if standing.closed:
        return t.gettext("We have closed the inquiry. Write here if there is more.")
    if standing.state is ConversationState.DEFERRED and standing.answered:
        return t.gettext("We have answered you.")
    if standing.state is ConversationState.DEFERRED and standing.due_at is not None:
        return t.gettext("Registered as inquiry %(ref)s. You will have an answer by %(due)s.") % {
            "ref": standing.ref,
            "due": phrases.full_moment(standing.due_at, language, t),
        }
    if standing.state is ConversationState.TALKING:
        if standing.staff:
            return t.gettext("You are talking with %(name)s.") % {"name": standing.staff}
        if not standing.answered:
            return t.gettext("Somebody answers soon.")
        return t.gettext("We have answered you.")
    if standing.state is ConversationState.WAITING:
        if standing.staff:
            return t.gettext("%(name)s is reading what you wrote.") % {"name": standing.staff}
        return _waiting(standing, language)
    return ""


def greeting(there: Attendance, hall: Hall, language: str) -> str:
    """What somebody reads before the first message."""
    t = catalogue(language)
    if there.there and there.room:
        return t.gettext("We are here now. Write what it is about, and somebody answers soon.")
    if there.there:
        return t.gettext(
            "We are here, but everybody is in a conversation. Write, and you stand in line."
        )
    if there.open:
        return t.gettext(
            "Nobody is in the chat right now. Write all the same: it becomes an inquiry, and you"
            " are told when you will have an answer."
        )
    return t.gettext(
        "The chat is closed now. Write all the same: it becomes an inquiry, and you are told when"
        " you will have an answer."
    )


def standing_view(standing: Standing, hall: Hall, language: str) -> dict[str, Any]:
    """How things stand, for the script of the page."""
    return {
        "state": standing.state.value,
        "status": status(standing, hall, language),
        "ref": standing.ref,
        "closed": standing.closed,
        "answered": standing.answered,
        "read": standing.read,
        # For who cannot wait here, or has to go. Who wrote elsewhere is answered there.
        "ask_address": standing.state not in {ConversationState.NEW, ConversationState.ENDED}
        and not standing.asked_elsewhere,
        "reach": reach(standing, hall, language),
        "email": standing.email,
        "phone": phrases.address(standing.phone),
    }


def reach(standing: Standing, hall: Hall, language: str) -> str:
    """Where an answer goes that its resident is not here for, as they said; empty for nowhere, and
    for who wrote by mail or text meanwhile, maybe from somebody else's address."""
    texted = standing.phone if hall.reply_context.text_numbers else ""
    address = standing.email or phrases.address(texted)
    if not address or standing.asked_elsewhere or standing.state is ConversationState.ENDED:
        return ""
    t = catalogue(language)
    words = t.gettext("If you are not here when we answer, we send the answer to {address}.")
    return words.replace("{address}", address)


def line_view(line: Line, key: str, language: str, municipality: str) -> dict[str, Any]:
    """One thing that was said, for the script of the page and its template."""
    return {
        "id": line.id,
        "mine": line.direction is Direction.IN,
        "kind": line.kind,
        "name": line.name or municipality,
        "text": told(line, language),
        "at": phrases.rfc3339(line.at),
        "clock": phrases.clock(line.at),
        "client_msg_id": line.client_id,
        "files": [
            {
                "name": file.filename,
                "size": phrases.size(file.size, language),
                "url": f"/chat/conversations/{key}/files/{file.id}",
            }
            for file in line.files
        ],
    }


def told(line: Line, language: str) -> str:
    """The words of a line; of a letter, only that there is one."""
    if line.kind != chat_views.MAILED:
        return line.text
    return by_letter(language, line.channel)


def by_letter(language: str, channel: str) -> str:
    """What is shown of an answer that went by letter or text, and is not for everybody here."""
    t = catalogue(language)
    if channel == SMS:
        return t.gettext("We have answered you by SMS.")
    return t.gettext("We have answered you by e-mail.")


def _waiting(standing: Standing, language: str) -> str:
    t = catalogue(language)
    if not standing.place:
        return t.gettext("We have received what you wrote.")
    if standing.minutes < _SOON:
        wait = t.gettext("Somebody answers soon.")
    else:
        wait = t.ngettext(
            "The wait is about %(n)d minute.", "The wait is about %(n)d minutes.", standing.minutes
        ) % {"n": standing.minutes}
    if standing.place == 1:
        return t.gettext("You are next.") + " " + wait
    return t.gettext("You are number %(n)d in line.") % {"n": standing.place} + " " + wait
