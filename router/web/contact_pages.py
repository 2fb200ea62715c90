"""A person outside: their addresses, their inquiries on all channels, and who else they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Form, Request
from sqlmodel import Session
from starlette.responses import RedirectResponse, Response

from router import merging
from router.errors import ConflictError, InvalidError, RouterError
from router.web.auth import DeskActor, SwitchboardActor, hall_of
from router.web.frame import desk_frame
from router.web.listing import department_names
from router.web.render import render, sentence
from router.web.rows import RowNumber

if TYPE_CHECKING:
    from collections.abc import Callable

    from router.access import Actor
    from router.models import ContactMerge

router = APIRouter(prefix="/desk/contacts", include_in_schema=False)


@router.get("/{number}")
def contact_page(
    request: Request, actor: DeskActor, number: RowNumber, q: str = "", done: str = ""
) -> Response:
    """One contact; `q` looks for another one that is the same person."""
    hall = hall_of(request)
    with hall.db.read() as session:
        current = merging.now_part_of(session, number)
    if current != number:
        return RedirectResponse(f"/desk/contacts/{current}", 303)
    return _contact(request, actor, number, q=q, done=done)


@router.post("/{number}/merge")
def merge(
    request: Request,
    actor: SwitchboardActor,
    number: RowNumber,
    other: Annotated[int, Form()],
    q: Annotated[str, Form(max_length=200)] = "",
) -> Response:
    """Say that another contact is this person too."""
    now = hall_of(request).clock()
    return _change(
        request,
        actor,
        number,
        "contact_merged",
        lambda session: merging.merge(session, actor, number, other, now),
        q,
    )


@router.post("/{number}/split")
def split(
    request: Request, actor: SwitchboardActor, number: RowNumber, address: Annotated[int, Form()]
) -> Response:
    """Say that one address is somebody else's."""
    now = hall_of(request).clock()
    return _change(
        request,
        actor,
        number,
        "contact_split",
        lambda session: merging.split(session, actor, number, address, now),
    )


@router.post("/{number}/undo")
def undo(
    request: Request, actor: SwitchboardActor, number: RowNumber, move: Annotated[int, Form()]
) -> Response:
    """Take a merge or a split back."""
    now = hall_of(request).clock()
    return _change(
        request,
        actor,
        number,
        "contact_restored",
        lambda session: merging.undo(session, actor, move, now),
    )


def _change(
    request: Request,
    actor: Actor,
    number: int,
    done: str,
    job: Callable[[Session], ContactMerge],
    q: str = "",
) -> Response:
    try:
        hall_of(request).db.write_sync(job)
    except (ConflictError, InvalidError) as error:
        return _contact(request, actor, number, q=q, refused=error)
    return RedirectResponse(f"/desk/contacts/{number}?done={done}", 303)


def _contact(
    request: Request,
    actor: Actor,
    number: int,
    *,
    q: str = "",
    done: str = "",
    refused: RouterError | None = None,
) -> Response:
    hall = hall_of(request)
    q = q[:200].strip()
    may_merge = merging.may_merge(actor)
    with hall.db.read() as session:
        card = merging.card(session, actor, number)
        found = merging.search(session, actor, q, but=number) if q and may_merge else []
        frame = desk_frame(session, hall, actor)
    return render(
        request,
        "person_outside.html",
        refused.status if refused else 200,
        contact=card,
        shown=merging.SHOWN,
        names=dict(department_names(hall, actor)),
        may_merge=may_merge,
        q=q,
        found=found,
        problem=sentence(refused, actor.language) if refused else "",
        done=done,
        **frame,
    )
