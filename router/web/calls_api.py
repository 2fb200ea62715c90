"""The JSON interface of the phone: the calls that are going on, and what operators do with them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import Session

from router import call_desk, call_list
from router.access import Actor
from router.call_desk import Target
from router.call_models import Call, CallOutcome, CallState
from router.errors import NotFoundError
from router.number_plan import NumberPlan
from router.web.auth import ApiActor, hall_of
from router.web.problems import responses
from router.web.shapes import Body, Input, Instant, Line

router = APIRouter(prefix="/api", tags=["calls"])

_ACT = responses(400, 401, 403, 404, 409, 413, 422, 429, 503)

CallId = Annotated[int, Path(ge=1, le=2**53, description="Number of the call.")]


class CallQuery(Input):
    """Which calls to list."""

    state: Literal["live", "ended"] = Field(
        "live", description="Those that are going on, or the latest that are over."
    )
    limit: int = Field(100, ge=1, le=200)


class Take(Input):
    """Take a call."""

    person: Line = Field(
        "",
        max_length=100,
        description="For a service's token: the username whose phone shall ring. A token of a "
        "department acts for its people alone.",
    )


class TransferCall(Input):
    """Pass a call on."""

    to: Line = Field(
        max_length=100, description="A username, a department's slug, or a phone number."
    )
    kind: Literal["person", "department", "number"] = "person"
    warm: bool = Field(False, description="Talk with the colleague first.")
    note: Body = Field("", max_length=10_000, description="For the one who takes over.")


class CallView(BaseModel):
    """A call."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    ref: str = Field(description="Of its inquiry.", examples=["S-2026-000123"])
    provider: str = Field(examples=["twilio", "cti"])
    direction: str = Field(examples=["in"])
    state: CallState
    outcome: CallOutcome | None = Field(description="Once it is over.")
    caller: str = Field(
        serialization_alias="from", description="E.164, or what the provider said instead."
    )
    caller_name: str
    line: str = Field(serialization_alias="to", description="Our number.")
    person: str = Field(description="Username whose phone it is or was meant for.")
    department: str
    staff: str = Field(description="Username of the operator who has taken it.")
    staff_name: str
    answered_by: str
    reason: str = Field(description="Why it is where it is.", examples=["no_answer"])
    returned_by: str = Field(
        description="Operator who passed the call on, or did not pick up after taking it."
    )
    position: int | None = Field(description="In the queue, from 1; what the caller hears.")
    callbacks_ahead: int = Field(
        description="How many of those before it have hung up and keep their place for a call-back."
    )
    calls: int = Field(description="How often this caller has rung about it.")
    held: bool
    consulting: str = Field(description="Colleague who is asked before a transfer.")
    consulted: bool = Field(description="Whether that colleague has answered.")
    started_at: Instant
    waiting_since: Instant | None
    answered_at: Instant | None
    ended_at: Instant | None
    wants_callback: bool
    through_switchboard: bool
    actions: list[str] = Field(description="What you may do with it now.", examples=[["take"]])


class Calls(BaseModel):
    """Calls, those that wait longest first."""

    items: list[CallView]


@router.get("/calls", responses=responses(401, 422, 429))
def list_calls(request: Request, actor: ApiActor, wanted: Annotated[CallQuery, Query()]) -> Calls:
    """List calls that are going on, or the latest that are over."""
    hall = hall_of(request)
    with hall.db.read() as session:
        rows = call_list.listing(session, actor, live=wanted.state == "live", limit=wanted.limit)
    return Calls(items=[CallView.model_validate(row) for row in rows])


@router.get("/calls/{call_id}", responses=responses(401, 404, 422, 429))
def read_call(request: Request, actor: ApiActor, call_id: CallId) -> CallView:
    """Read one call."""
    hall = hall_of(request)
    with hall.db.read() as session:
        return CallView.model_validate(call_list.read(session, actor, call_id))


@router.post("/calls/{call_id}/take", responses=_ACT)
def take(request: Request, actor: ApiActor, call_id: CallId, body: Take | None = None) -> CallView:
    """Take a waiting call: your phone rings. 409 names who was first, or says what is missing."""
    person = body.person if body else ""
    return _act(
        request,
        actor,
        lambda session, plan, now: call_desk.take(session, actor, call_id, plan, now, person),
    )


@router.post("/calls/{call_id}/hold", responses=_ACT)
def hold(request: Request, actor: ApiActor, call_id: CallId) -> CallView:
    """Let the caller wait on the line."""
    return _act(
        request,
        actor,
        lambda session, plan, now: call_desk.hold(session, actor, call_id, plan, now),
    )


@router.post("/calls/{call_id}/resume", responses=_ACT)
def resume(request: Request, actor: ApiActor, call_id: CallId) -> CallView:
    """Talk with the caller again."""
    return _act(
        request,
        actor,
        lambda session, plan, now: call_desk.resume(session, actor, call_id, plan, now),
    )


@router.post("/calls/{call_id}/transfer", responses=_ACT)
def transfer(request: Request, actor: ApiActor, call_id: CallId, body: TransferCall) -> CallView:
    """Pass a call on, blind or warm. One that nobody takes comes back to the queue."""
    return _act(
        request,
        actor,
        lambda session, plan, now: call_desk.transfer(
            session,
            actor,
            call_id,
            Target(body.kind, body.to),
            plan,
            now,
            warm=body.warm,
            note=body.note,
        ),
    )


@router.post("/calls/{call_id}/take-back", responses=_ACT)
def take_back(request: Request, actor: ApiActor, call_id: CallId) -> CallView:
    """End a transfer and talk with the caller again."""
    return _act(
        request,
        actor,
        lambda session, plan, now: call_desk.take_back(session, actor, call_id, plan, now),
    )


@router.post("/calls/{call_id}/complete", responses=_ACT)
def complete(request: Request, actor: ApiActor, call_id: CallId) -> CallView:
    """Leave the caller to the colleague who was asked."""
    return _act(
        request,
        actor,
        lambda session, plan, now: call_desk.complete_transfer(session, actor, call_id, plan, now),
    )


@router.post("/calls/{call_id}/hang-up", responses=_ACT)
def hang_up(request: Request, actor: ApiActor, call_id: CallId) -> CallView:
    """End the call for everybody."""
    return _act(
        request,
        actor,
        lambda session, plan, now: call_desk.hang_up(session, actor, call_id, plan, now),
    )


def _act(
    request: Request, actor: Actor, change: Callable[[Session, NumberPlan, datetime], Call]
) -> CallView:
    """Carry out a change and return the state it led to, both in one commit."""
    hall = hall_of(request)
    plan = hall.plan
    if plan is None:
        raise NotFoundError
    now = hall.clock()

    def job(session: Session) -> call_list.CallRow:
        call = change(session, plan, now)
        session.flush()
        return call_list.row(session, actor, call)

    row = hall.db.write_sync(job)
    if hall.commands is not None:
        hall.commands.wake()
    return CallView.model_validate(row)
