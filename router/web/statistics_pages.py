"""How it goes: figures of the last day, week or month for those who lead the switchboard."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from router import statistics
from router.web.auth import SwitchboardActor, hall_of
from router.web.frame import desk_frame
from router.web.render import render

router = APIRouter(prefix="/desk", include_in_schema=False)


@router.get("/statistics")
def statistics_page(
    request: Request,
    actor: SwitchboardActor,
    days: Annotated[Literal["1", "7", "30"], Query()] = "7",
) -> Response:
    """What came in, how soon it was answered, and how calls and chats fared."""
    hall = hall_of(request)
    now = hall.clock()
    since = now - timedelta(days=int(days))
    with hall.db.read() as session:
        inquiries = statistics.inquiries(session, since, now)
        calls = statistics.calls(session, since)
        chats = statistics.chats(session, since)
        frame = desk_frame(session, hall, actor)
    return render(
        request,
        "statistics.html",
        days=days,
        since=since,
        figures=inquiries,
        call_figures=calls,
        chat_figures=chats,
        **frame,
    )
