"""What every page of the desk shows of the calls that are going on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from router import call_list
from router.presence import statuses
from router.web.listing import department_names

if TYPE_CHECKING:
    from datetime import datetime

    from sqlmodel import Session

    from router.access import Actor
    from router.call_list import CallRow
    from router.hall import Hall

MOST = 20
"""Calls that are shown at once."""


def calls_context(session: Session, hall: Hall, actor: Actor) -> dict[str, Any]:
    """What every page shows of the calls; `calls` is None where there is no phone door."""
    plan = hall.plan
    if plan is None:
        return {"calls": None}
    now = hall.clock()
    rows = call_list.listing(session, actor, live=True, limit=MOST)
    return {
        "calls": rows,
        "line_titles": {row.line: plan.title(row.line) for row in rows},
        "phone_names": {name: one.name for name, one in plan.door.people.items()},
        "call_targets": _targets(session, hall, actor, now) if _transfers(rows) else [],
        "has_phone": actor.username in plan.door.people,
    }


def _transfers(rows: list[CallRow]) -> bool:
    return any("transfer" in row.actions for row in rows)


def _targets(
    session: Session, hall: Hall, actor: Actor, now: datetime
) -> list[tuple[str, str, str]]:
    """Who a call can be passed to: name, kind, and for people the state they are in."""
    known = statuses(session, actor, now, hall.directory)
    people = hall.plan.door.people if hall.plan is not None else {}
    found = [
        (one.name, "person", known[name].status.state.value if name in known else "unknown")
        for name, one in people.items()
        if name != actor.username
    ]
    return found + [(name, "department", "") for _, name in department_names(hall, actor)]
