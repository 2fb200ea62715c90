"""The calls that are going on, on every page of the desk: who rings, and what can be done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form, Request
from sqlmodel import Session
from starlette.responses import RedirectResponse, Response

from channels.numbers import EMERGENCY_SERVICES, e164
from router import call_desk
from router.call_desk import Target
from router.calls import inquiry_of
from router.errors import ConflictError, InvalidError, NotFoundError, RouterError
from router.web.auth import DeskActor, DeskReader, hall_of
from router.web.call_board import calls_context
from router.web.listing import match_departments, match_people
from router.web.render import render, sentence
from router.web.rows import RowNumber

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from router.access import Actor
    from router.call_models import Call
    from router.hall import Hall
    from router.number_plan import NumberPlan

router = APIRouter(prefix="/desk/calls", include_in_schema=False)


@router.get("")
def calls(request: Request, actor: DeskReader) -> Response:
    """The calls of this moment, for a page that keeps itself up to date."""
    return _calls(request, actor)


@router.post("/{number}/take")
def take(request: Request, actor: DeskActor, number: RowNumber) -> Response:
    """Take a waiting call: one's phone rings, and the page of the inquiry opens."""

    def job(session: Session, plan: NumberPlan, now: datetime) -> Call:
        return call_desk.take(session, actor, number, plan, now)

    return _act(request, actor, job, opens=True)


@router.post("/{number}/hold")
def hold(request: Request, actor: DeskActor, number: RowNumber) -> Response:
    """Let the caller wait on the line."""
    return _act(
        request, actor, lambda session, plan, now: call_desk.hold(session, actor, number, plan, now)
    )


@router.post("/{number}/resume")
def resume(request: Request, actor: DeskActor, number: RowNumber) -> Response:
    """Talk with the caller again."""
    return _act(
        request,
        actor,
        lambda session, plan, now: call_desk.resume(session, actor, number, plan, now),
    )


@router.post("/{number}/take-back")
def take_back(request: Request, actor: DeskActor, number: RowNumber) -> Response:
    """End a transfer and talk with the caller again."""
    return _act(
        request,
        actor,
        lambda session, plan, now: call_desk.take_back(session, actor, number, plan, now),
    )


@router.post("/{number}/complete")
def complete(request: Request, actor: DeskActor, number: RowNumber) -> Response:
    """Leave the caller to the colleague who was asked."""
    return _act(
        request,
        actor,
        lambda session, plan, now: call_desk.complete_transfer(session, actor, number, plan, now),
    )


@router.post("/{number}/hang-up")
def hang_up(request: Request, actor: DeskActor, number: RowNumber) -> Response:
    """End the call for everybody."""
    return _act(
        request,
        actor,
        lambda session, plan, now: call_desk.hang_up(session, actor, number, plan, now),
    )


@router.post("/{number}/transfer")
def transfer(
    request: Request,
    actor: DeskActor,
    number: RowNumber,
    to: Annotated[str, Form(max_length=200)] = "",
    how: Annotated[str, Form(max_length=10)] = "",
) -> Response:
    """Pass a call on: to a person, a department or a number, by the first letters; `how` is `blind`
    to let go at once, else the colleague is asked first."""
    hall = hall_of(request)
    try:
        target = _target(hall, actor, to)
    except RouterError as error:
        return _refused(request, actor, error, to)
    return _act(
        request,
        actor,
        lambda session, plan, now: call_desk.transfer(
            session, actor, number, target, plan, now, warm=how != "blind"
        ),
        typed=to,
    )


def _target(hall: Hall, actor: Actor, text: str) -> Target:
    """Whom a text means. Raises `InvalidError` when it is nobody, or several."""
    text = " ".join(text.split())
    if not text:
        raise InvalidError("Say who shall have the call.")
    people = hall.plan.door.people if hall.plan is not None else {}
    names = [(username, person.name) for username, person in people.items()]
    for fits in match_people(names, text):
        if len(fits) == 1:
            return Target("person", fits[0])
        if fits:
            raise InvalidError("Several people fit. Write more of the name.")
    slugs = match_departments(hall, text)
    if len(slugs) == 1:
        return Target("department", slugs[0])
    if slugs:
        raise InvalidError("Several departments fit. Write more of the name.")
    if text in EMERGENCY_SERVICES:
        return Target("number", text)
    if any(c.isdigit() for c in text) and e164(text):
        return Target("number", e164(text))
    raise InvalidError("Nobody is called that. Write a name, a department or a phone number.")


def _act(
    request: Request,
    actor: Actor,
    change: Callable[[Session, NumberPlan, datetime], Call],
    *,
    opens: bool = False,
    typed: str = "",
) -> Response:
    hall = hall_of(request)
    plan = hall.plan
    if plan is None:
        raise NotFoundError
    now = hall.clock()

    def job(session: Session) -> str:
        return inquiry_of(session, change(session, plan, now)).ref

    try:
        ref = hall.db.write_sync(job)
    except (ConflictError, InvalidError) as error:
        return _refused(request, actor, error, typed)
    if hall.commands is not None:
        hall.commands.wake()
    address = f"/desk/inquiries/{quote(ref)}"
    if "hx-request" not in request.headers:
        return RedirectResponse(address, 303)
    if opens:
        return Response(headers={"HX-Redirect": address})
    return _calls(request, actor)


def _refused(request: Request, actor: Actor, error: RouterError, typed: str) -> Response:
    """What could not be done, beside the calls as they are now; without a script, as a page."""
    if "hx-request" not in request.headers:
        raise error
    return _calls(request, actor, sentence(error, actor.language), typed)


def _calls(request: Request, actor: Actor, problem: str = "", typed: str = "") -> Response:
    hall = hall_of(request)
    with hall.db.read() as session:
        context = calls_context(session, hall, actor)
    return render(request, "_calls.html", call_problem=problem, typed_target=typed, **context)
