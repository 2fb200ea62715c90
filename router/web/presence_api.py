"""Who can be reached, in the JSON interface."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from sqlmodel import Session

from router import presence
from router.presence import Listed
from router.web.auth import ApiActor, hall_of
from router.web.people import fitting
from router.web.problems import responses
from router.web.shapes import NewPresence, People, PeopleQuery, PresenceView, Username
from rules.presence import State

router = APIRouter(prefix="/api", tags=["presence"])

_SET = responses(400, 401, 403, 404, 409, 413, 422, 429, 503)


@router.get("/presence", responses=responses(401, 422, 429))
def who_is_here(
    request: Request, actor: ApiActor, wanted: Annotated[PeopleQuery, Query()]
) -> People:
    """List who works here, where they are and when they are back."""
    hall = hall_of(request)
    with hall.db.read() as session:
        listed = presence.statuses(session, actor, hall.clock(), hall.directory)
    return People(
        items=[
            _view(line)
            for line in fitting(hall, listed.values(), wanted.q)
            if not wanted.department or wanted.department in line.departments
        ]
    )


@router.put("/presence/{staff}", responses=_SET)
def set_presence(
    request: Request, actor: ApiActor, staff: Username, body: NewPresence
) -> PresenceView:
    """Say where somebody is: operators of anybody, others of themselves. What was set by hand
    before ends. 409: the person has said otherwise; only absence counts all the same."""
    hall = hall_of(request)
    now = hall.clock()

    def job(session: Session) -> Listed:
        presence.mark(
            session,
            actor,
            staff,
            State(body.state),
            body.until,
            body.text,
            now,
            hall.directory,
        )
        return presence.listed(session, actor, staff, now, hall.directory)

    return _view(hall.db.write_sync(job))


@router.delete("/presence/{staff}", responses=_SET)
def clear_presence(request: Request, actor: ApiActor, staff: Username) -> PresenceView:
    """Take back what was set by hand. Doing so twice changes nothing."""
    hall = hall_of(request)
    now = hall.clock()

    def job(session: Session) -> Listed:
        presence.clear(session, actor, staff, now, hall.directory)
        return presence.listed(session, actor, staff, now, hall.directory)

    return _view(hall.db.write_sync(job))


def _view(line: Listed) -> PresenceView:
    return PresenceView(
        staff=line.username,
        name=line.name,
        departments=list(line.departments),
        phone=line.phone,
        deputy=line.deputy,
        state=line.status.state,
        until=line.status.until,
        reach_phone=line.status.reach_phone,
        reach_chat=line.status.reach_chat,
        text=line.note,
        set_by=line.set_by,
    )
