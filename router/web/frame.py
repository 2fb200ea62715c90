"""What every page of the desk shows around its own matter."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, text

from router import chat_desk, handovers, journal, outbox, presence, queue
from router.errors import NotFoundError
from router.models import Inquiry, Role
from router.web.call_board import calls_context
from router.web.listing import department_names
from router.web.shapes import REF

if TYPE_CHECKING:
    from sqlmodel import Session

    from router.access import Actor
    from router.hall import Hall

MANY = 100
"""What a counter in the menu counts to."""

# Written out, so that the planner uses the partial index.
IS_ASIDE = text("inquiry.status = 'aside'")

_I: Any = Inquiry.__table__  # type: ignore[attr-defined]


def desk_frame(session: Session, hall: Hall, actor: Actor) -> dict[str, Any]:
    """The alarms, one's own presence, what lies aside, who waits in the chat, and the calls that
    are going on."""
    return {
        **alarms(session, hall, actor),
        "my_presence": presence.status_of(session, actor.username, hall.clock(), hall.directory),
        "aside_count": _count_aside(session, actor),
        "chat_load": (
            chat_desk.load(session, actor, hall.clock())
            if hall.settings.channels.chat.enabled or hall.settings.channels.xmpp.enabled
            else None
        ),
        **calls_context(session, hall, actor),
    }


def alarms(session: Session, hall: Hall, actor: Actor) -> dict[str, Any]:
    """Emergencies nobody has acknowledged, new messages in what one holds, what colleagues have
    handed over, and for those who watch the doors what has got stuck.

    `sending`: empty when letters go out, `waiting` when they will be tried again, `failed` when
    some did not arrive or may not have. `provider_lost`: calls and texts may be missing.
    """
    watches = actor.role in {Role.OPERATOR, Role.ADMIN}
    emergencies = queue.unseen_emergencies(session, actor, hall.clock())
    return {
        "emergencies": emergencies,
        "alarm_words": queue.alarm_words(session, emergencies),
        "news": queue.news(session, actor),
        "handed": handovers.handed_to(session, actor),
        "parked_count": journal.count_parked(session) if watches else 0,
        "sending": _sending(session, hall) if watches else "",
        "provider_lost": watches and hall.reconciler is not None and bool(hall.reconciler.problem),
    }


def outcome(session: Session, hall: Hall, actor: Actor, done: str, ref: str) -> dict[str, Any]:
    """What a list says of an inquiry that something was `done` with: a link only to what the actor
    still sees, and who has what they gave away."""
    if not REF.fullmatch(ref):
        return {"done": done}
    try:
        queue.row(session, actor, ref)
        seen = True
    except NotFoundError:
        seen = False
    given = handovers.given_by(session, actor, ref) if done == "handed_over" else None
    names = dict(department_names(hall, actor))
    return {
        "done": done,
        "done_ref": ref if seen else "",
        "taken_back_ref": ref if given is not None and given.may_take_back else "",
        "given": given,
        "given_department": names.get(given.department, given.department) if given else "",
    }


def _count_aside(session: Session, actor: Actor) -> int:
    """How many inquiries stand aside; no further than `MANY`, so that it costs next to nothing."""
    number: int = session.connection().execute(_aside_of(actor.departments)).scalar_one()
    return number


@lru_cache(256)
def _aside_of(departments: frozenset[str] | None) -> Any:
    some = select(_I.c.id).where(IS_ASIDE)
    if departments is not None:
        some = some.where(_I.c.department.in_(sorted(departments)))
    return select(func.count()).select_from(some.limit(MANY).subquery())


def _sending(session: Session, hall: Hall) -> str:
    if not hall.outbox.problem:
        return ""
    lost = outbox.by_state(session).keys() & {"failed", "uncertain"}
    return "failed" if lost else "waiting"
