"""Calls at the web: what Twilio tells, and the TwiML it is answered.

The first ring is answered only when the call is kept: with an error the provider's own fallback
acts. Later somebody is on the line, who is never met with an error: there is a document for that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException

from channels.phone import twilio, twiml
from channels.phone.base import At, CallKind
from channels.phone.twiml import PATH, Facts
from router import call_desk, call_flow, call_list, calls
from router.calls import Way
from router.errors import RouterError, StoreUnavailableError
from router.web.auth import hall_of
from router.web.hooks import refusal, require_own, signed
from router.web.hooks import twiml as answer

if TYPE_CHECKING:
    from datetime import datetime

    from sqlmodel import Session
    from starlette.responses import Response

    from channels.phone.base import CallEvent, Step
    from router.call_list import Place
    from router.call_models import Call
    from router.hall import Hall
    from router.number_plan import NumberPlan

log = structlog.get_logger(__name__)

router = APIRouter(include_in_schema=False)

VOICE = f"{PATH}/voice"
_SID = re.compile(r"[A-Za-z0-9_-]{2,64}")

_LEAVES_QUEUE = 10.0
"""Seconds after which somebody who was taken leaves the queue by our document, should the command
that fetches them have been lost."""

_JUST_NOW = 10.0
"""Seconds in the queue until a caller is thanked for waiting."""


@router.post(VOICE)
async def first_ring(request: Request) -> Response:
    """Take a call in and say what its caller hears first. 503 when it could not be kept."""
    hall, plan, event = await _told(request, "voice")
    found = await hall.reception.receive_call(
        event, lambda session, call: _first(session, call, event, plan, hall.clock())
    )
    if found is None:
        raise StoreUnavailableError
    return _answered(hall, twiml.render(found.step, found.facts, plan.site), found.ordered)


async def next_step(request: Request) -> Response:
    """What has happened to a call, and what its caller hears next."""
    hook = request.url.path.rpartition("/")[2]
    hall, plan, event = await _told(request, hook)
    now = hall.clock()
    try:
        found = _waiting(hall, event, plan, now) or await hall.reception.receive_call(
            event, lambda session, call: _turn(session, call, event, plan, now)
        )
        if found is None:
            raise StoreUnavailableError
    except Exception as error:  # noqa: BLE001 - somebody is on the line
        return _in_trouble(plan, hook, error)
    return _answered(hall, _document(found, event, plan), found.ordered)


def _document(turn: _Turn, event: CallEvent, plan: NumberPlan) -> str:
    step = turn.step
    if event.kind is not CallKind.QUEUED:
        return twiml.render(step, turn.facts, plan.site)
    if step.at is At.TALK and turn.seconds < _LEAVES_QUEUE:
        return twiml.pause()
    if turn.place is None:
        return twiml.leave()
    first = turn.seconds < _JUST_NOW
    place = turn.place
    return twiml.wait(step, turn.facts, plan.site, place.position, place.seconds, first=first)


TURNS = ("step", "dialled", "chosen", "wait", "left", "recorded", "talked")
PATHS = frozenset(
    f"{PATH}/{hook}"
    for hook in (
        *("voice", *TURNS, "whisper", "whispered", "leg"),
        *("status", "recording", "hold"),
    )
)
"""Where Twilio asks; each believes a signature alone."""

for _hook in TURNS:
    router.add_api_route(f"{PATH}/{_hook}", next_step, methods=["POST"])


@router.post(f"{PATH}/whisper")
@router.post(f"{PATH}/whispered")
async def colleague(request: Request) -> Response:
    """A phone that rang for a caller has picked up: ask, and join the two when a key is pressed."""
    hook = request.url.path.rpartition("/")[2]
    hall, plan, event = await _told_of_leg(request, hook)
    try:
        found = await hall.db.write(
            lambda session: _asked(session, request, event, plan, hall.clock())
        )
    except Exception as error:  # noqa: BLE001 - somebody is on the line
        return _in_trouble(plan, hook, error)
    if found is None:
        return answer(twiml.hang_up())
    step, facts, user, target, taken = found
    if hook == "whisper":
        return answer(twiml.whisper(step, facts, plan.site, user, target))
    return _answered(hall, twiml.nothing() if taken else twiml.hang_up(), ordered=True)


@router.post(f"{PATH}/leg")
async def leg(request: Request) -> Response:
    """How a phone fares that was rung for an operator."""
    hall, plan, event = await _told_of_leg(request, "leg")

    def job(session: Session) -> None:
        call_desk.leg(session, _call_of(session, request), event, plan, hall.clock())

    await hall.db.write(job)
    return _answered(hall, twiml.nothing(), ordered=True)


@router.post(f"{PATH}/status")
async def status(request: Request) -> Response:
    """How a call fares, above all that it is over. It may be the first we hear of it."""
    hall, plan, event = await _told(request, "status")
    now = hall.clock()

    def job(session: Session, call: Call) -> bool:
        call_flow.apply(session, call, event, plan, now)
        return calls.has_ordered(session)

    ordered = await hall.reception.receive_call(event, job)
    return _answered(hall, twiml.nothing(), bool(ordered))


@router.post(f"{PATH}/recording")
async def recording(request: Request) -> Response:
    """A recording lies ready at the provider. One of a call that we do not know is found when the
    provider's lists are looked through."""
    hall, plan, event = await _told_of_leg(request, "recording")

    def job(session: Session) -> None:
        call = calls.find(session, event.provider, event.call_id)
        if call is not None:
            call_flow.apply(session, call, event, plan, hall.clock())

    await hall.db.write(job)
    return answer(twiml.nothing())


@router.post(f"{PATH}/hold")
async def hold(request: Request) -> Response:
    """What somebody hears who waits in the room."""
    _hall, plan, _event = await _told_of_leg(request, "hold")
    return answer(twiml.hold(plan.site))


async def _told(request: Request, hook: str) -> tuple[Hall, NumberPlan, CallEvent]:
    """What a webhook about a caller's own call tells."""
    hall, plan, event = await _told_of_leg(request, hook)
    if not _SID.fullmatch(event.call_id):
        raise refusal(request, "phone", "malformed")
    require_own(request, "phone", event.line, plan.owners)
    return hall, plan, event


async def _told_of_leg(request: Request, hook: str) -> tuple[Hall, NumberPlan, CallEvent]:
    webhook = await signed(request, "phone")
    hall = hall_of(request)
    if hall.plan is None:
        raise HTTPException(404)
    event = twilio.event(hook, webhook.fields, request.query_params, hall.clock())
    return hall, hall.plan, event


def _call_of(session: Session, request: Request) -> Call:
    """The call that the address of a webhook names. Raises `NotFoundError`."""
    number = request.query_params.get("c", "")
    return calls.by_number(session, int(number) if number.isdecimal() and len(number) < 16 else 0)


@dataclass(frozen=True, slots=True)
class _Turn:
    """Where a caller is after what was told."""

    step: Step
    facts: Facts
    ordered: bool
    """Whether the provider is to do something."""
    place: Place | None = None
    """Of somebody who waits."""
    seconds: float = 0.0
    """Since the caller began to wait, or was taken."""


def _first(
    session: Session, call: Call, event: CallEvent, plan: NumberPlan, now: datetime
) -> _Turn:
    step = call_flow.first_ring(session, call, event, plan, now)
    return _Turn(step, _facts(call), calls.has_ordered(session))


def _turn(session: Session, call: Call, event: CallEvent, plan: NumberPlan, now: datetime) -> _Turn:
    unheard = Way.of(call).step is None and event.kind is not CallKind.RECORDED
    turn = call_flow.first_ring if unheard else call_flow.advance
    step = turn(session, call, event, plan, now)
    waits = event.kind is CallKind.QUEUED and step.at is At.QUEUE and not step.leaving
    place = call_list.place(session, call, now) if waits else None
    since = Way.of(call).taken_at if step.at is At.TALK else call.waiting_since
    seconds = (now - (since or now)).total_seconds()
    return _Turn(step, _facts(call), calls.has_ordered(session), place, seconds)


def _waiting(hall: Hall, event: CallEvent, plan: NumberPlan, now: datetime) -> _Turn | None:
    """The same for somebody who only waits on: it needs no turn at the writer."""
    if event.kind is not CallKind.QUEUED:
        return None
    with hall.db.read() as session:
        call = calls.look(session, event.provider, event.call_id)
        if call is None or not call_flow.waits_on(call, event, plan, now):
            return None
        return _turn(session, call, event, plan, now)


def _asked(
    session: Session, request: Request, event: CallEvent, plan: NumberPlan, now: datetime
) -> tuple[Step, Facts, str, str, bool] | None:
    """Who was asked to take a call, whose call it is, and whether it is theirs now."""
    call = _call_of(session, request)
    step = call_flow.advance(session, call, event, plan, now)
    user = next(iter(event.users), "")
    people = plan.door.people
    if step.at is not At.DIAL or step.number != event.step or user not in people:
        return None
    target = plan.names[call.department] if len(step.ring) > 1 else people[user].name
    return step, _facts(call), user, target, Way.of(call).talking == user


def _facts(call: Call) -> Facts:
    return Facts(call.id or 0, call.caller, call.line)


def _in_trouble(plan: NumberPlan, hook: str, error: Exception) -> Response:
    """A document for somebody who is on the line while we fail."""
    known = isinstance(error, RouterError)
    log.error("voice.failed", hook=hook, exc_info=None if known else error)
    if hook == "wait":  # where no message can be taken
        return answer(twiml.pause())
    if hook in {"recorded", "talked", "whisper", "whispered"}:
        return answer(twiml.hang_up())
    return answer(twiml.trouble(plan.site))


def _answered(hall: Hall, document: str, ordered: bool) -> Response:
    """The document; what the call wants of the provider goes out now."""
    if ordered and hall.commands is not None:
        hall.commands.wake()
    return answer(document)
