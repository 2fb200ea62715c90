"""Giving an inquiry to a colleague on its page, as on the page of a chat."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from starlette.responses import Response

from router import handovers, passing
from router.errors import InvalidError
from router.web.auth import DeskActor, hall_of
from router.web.desk import change, inquiry_answer
from router.web.desk_forms import Refused, Text
from router.web.listing import match_people

router = APIRouter(prefix="/desk/inquiries/{ref}", include_in_schema=False)


@router.post("/hand-over")
def hand_over(
    request: Request,
    actor: DeskActor,
    ref: str,
    person: Annotated[str, Form(max_length=200)] = "",
    chosen: Annotated[str, Form(max_length=200)] = "",
    note: Text = "",
) -> Response:
    """Give an inquiry to a colleague; the first letters of their name are enough."""
    hall = hall_of(request)
    now, head = hall.clock(), hall.reply_context
    typed = {"person": person, "hand_note": note}
    with hall.db.read() as session:
        people = handovers.others(session, actor)
    exact, begun = match_people(people, person)
    fitting = [chosen] if chosen else exact or begun
    if len(fitting) != 1:
        said = (
            "Several fit. Choose one."
            if fitting
            else "Nobody who works here is called that. Write a name from the list."
        )
        names = dict(people)
        candidates = [(one, f"{names[one]} ({one})") for one in fitting]
        refused = Refused(InvalidError(said), typed, candidates)
        return inquiry_answer(request, actor, ref, refused=refused)
    capacity = hall.settings.channels.chat.capacity
    return change(
        request,
        actor,
        ref,
        "handed_over",
        lambda session: passing.hand_over(
            session, head, actor, ref, fitting[0], note, now, capacity=capacity
        ),
        typed,
    )
