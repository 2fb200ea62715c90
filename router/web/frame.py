"""What every page of the desk shows around its own matter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from router import journal, outbox, queue
from router.models import Role

if TYPE_CHECKING:
    from sqlmodel import Session

    from router.access import Actor
    from router.hall import Hall


def desk_frame(session: Session, hall: Hall, actor: Actor) -> dict[str, Any]:
    """Emergencies nobody has acknowledged, and for those who watch the doors what has got stuck.

    `sending`: empty when letters go out, `waiting` when they will be tried again, `failed` when
    some did not arrive or may not have.
    """
    watches = actor.role in {Role.OPERATOR, Role.ADMIN}
    return {
        "emergencies": queue.unseen_emergencies(session, actor, hall.clock()),
        "parked_count": journal.count_parked(session) if watches else 0,
        "sending": _sending(session, hall) if watches else "",
    }


def _sending(session: Session, hall: Hall) -> str:
    if not hall.outbox.problem:
        return ""
    lost = outbox.by_state(session).keys() & {"failed", "uncertain"}
    return "failed" if lost else "waiting"
