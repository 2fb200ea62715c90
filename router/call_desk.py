"""What operators do with calls: take them, hold them, pass them on; and what the phones tell that
were rung for it.

A caller waits in a queue and talks in a room of their own, where the operator and a colleague come
and go. An action changes the call and writes what the provider shall do, in one commit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from channels.numbers import EMERGENCY_SERVICES, country_of, e164, is_premium
from channels.phone.base import At, CallKind, Said, Step, Verb
from router import calls, queue
from router.call_flow import REASONS, send_on
from router.call_holder import hand_over
from router.call_models import Call, CallCommand, CallState
from router.calls import CONTROLLED, Way, answered, end, order, tell
from router.errors import (
    AbsentError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
)
from router.models import Staff
from router.number_plan import Where
from router.presence import status_of
from router.staff import find_staff

if TYPE_CHECKING:
    from datetime import datetime

    from sqlmodel import Session

    from channels.phone.base import CallEvent
    from router.access import Actor
    from router.number_plan import NumberPlan


@dataclass(frozen=True, slots=True)
class Target:
    """Where a call shall go: a username, a department's slug, or a phone number."""

    kind: Literal["person", "department", "number"]
    value: str


def of_desk(session: Session, actor: Actor, number: int) -> Call:
    """A call that the actor may see, for change. Raises `NotFoundError`."""
    call = calls.by_number(session, number)
    if not queue.sees(session, actor, calls.inquiry_of(session, call)):
        raise NotFoundError
    return call


def desk_phone(actor: Actor, plan: NumberPlan, person: str = "") -> str:
    """Username under which the actor's phone stands in the number plan; a service of ours may say
    for whom it acts. Raises `ConflictError` with what is missing, `ForbiddenError` when it may not
    act for that person."""
    username = actor.username if actor.is_person else person
    if username not in plan.door.people:
        raise ConflictError("You have no phone in the number plan, so no call can be put through.")
    _require_acts_for(actor, username, plan)
    return username


def _require_acts_for(actor: Actor, username: str, plan: NumberPlan) -> None:
    """A service of a department acts for its people alone."""
    person = plan.door.people.get(username)
    if not actor.is_person and not actor.sees(person.department if person else ""):
        raise ForbiddenError("This token may act for people of its own department only.")


def take(
    session: Session,
    actor: Actor,
    number: int,
    plan: NumberPlan,
    now: datetime,
    person: str = "",
) -> Call:
    """Take a waiting call: its caller comes to a room, and the operator's phone rings.

    Taking what one has already changes nothing. Raises `ConflictError` when somebody else was
    first, when nobody waits any longer, or when the actor has no phone.
    """
    call = of_desk(session, actor, number)
    username = desk_phone(actor, plan, person)
    owner = find_staff(session, username) if not actor.is_person else None
    staff_id = owner.id if owner else actor.staff_id
    if call.staff_id is not None and call.staff_id == staff_id and call.state is CallState.TALKING:
        return call
    _require_control(call)
    if call.state is not CallState.WAITING:
        raise _not_waiting(session, call)
    way = Way.of(call)
    undo = calls.before(call)
    call.state = CallState.TALKING
    call.staff_id = staff_id
    way.operator, way.arrived, way.taken_at = username, False, now
    _go(call, way, Step(At.TALK, _next(way), (Said("taken"),)))
    inquiry = calls.inquiry_of(session, call)
    inquiry.assignee_id = staff_id
    inquiry.version += 1
    calls.send(session, call, now, undo)
    tell(session, call, "call_taken", now, by=username)
    return call


def hold(session: Session, actor: Actor, number: int, plan: NumberPlan, now: datetime) -> Call:
    """Let the caller wait on the line. Holding twice changes nothing."""
    call, way = _in_talk(session, actor, number, plan)
    if not way.held:
        way.held = True
        way.keep(call)
        order(session, call, Verb.HOLD, now, actor.staff_id)
        tell(session, call, "call_held", now)
    return call


def resume(session: Session, actor: Actor, number: int, plan: NumberPlan, now: datetime) -> Call:
    """Talk with the caller again."""
    call, way = _in_talk(session, actor, number, plan)
    if way.held:
        _resume(session, call, way, now)
        way.keep(call)
        tell(session, call, "call_resumed", now)
    return call


def transfer(
    session: Session,
    actor: Actor,
    number: int,
    target: Target,
    plan: NumberPlan,
    now: datetime,
    *,
    warm: bool = False,
    note: str = "",
) -> Call:
    """Pass a call on. Blind: the caller is sent at once, and comes back to the queue when nobody
    takes the call. Warm: the operator talks with the colleague while the caller is on hold.

    Raises `ConflictError` when whoever is meant cannot be reached, `InvalidError` when there is no
    such person, department or number.
    """
    call, way = _in_talk(session, actor, number, plan)
    if way.warm:
        raise ConflictError("A colleague is being asked already. Take the call back first.")
    ahead, user, phone = _whither(session, target, plan, now)
    if note.strip():
        queue.note(session, actor, calls.inquiry_of(session, call).ref, note, now)
    if not warm:
        way.sent_back = way.operator
        send_on(session, call, way, ahead, "transferred", plan, now)
        return call
    way.warm = way.held = True
    order(session, call, Verb.HOLD, now, actor.staff_id)
    calls.ring(session, call, way, "colleague", user, plan, now, phone)
    way.keep(call)
    tell(session, call, "call_consulting", now, person=user, warm=True)
    return call


def complete_transfer(
    session: Session, actor: Actor, number: int, plan: NumberPlan, now: datetime
) -> Call:
    """Leave the caller to the colleague. Who has not answered yet goes on ringing, and the call
    comes back when nobody does."""
    call = of_desk(session, actor, number)
    _require_mine(session, actor, call, plan)
    way = Way.of(call)
    if not way.warm:
        raise ConflictError("Nobody has been asked to take over.")
    _leave_to_colleague(session, call, way, plan, now)
    return call


def take_back(session: Session, actor: Actor, number: int, plan: NumberPlan, now: datetime) -> Call:
    """End the transfer and talk with the caller again."""
    call = of_desk(session, actor, number)
    _require_mine(session, actor, call, plan)
    way = Way.of(call)
    if way.warm:
        for key in way.live_legs("colleague"):
            _drop(session, call, way, key, now)
        way.warm = False
        _resume(session, call, way, now)
        way.keep(call)
    elif call.state is CallState.DIALLING and way.sent_back and not way.talking:
        undo = calls.before(call)
        way.operator, way.sent_back, way.arrived, way.taken_at = way.sent_back, "", False, now
        call.state = CallState.TALKING
        _go(call, way, Step(At.TALK, _next(way)))
        calls.send(session, call, now, undo)
    else:
        raise ConflictError("There is no transfer to take back.")
    tell(session, call, "call_taken_back", now)
    return call


def hang_up(session: Session, actor: Actor, number: int, plan: NumberPlan, now: datetime) -> Call:
    """End the call for everybody. Ending what has ended changes nothing."""
    call = of_desk(session, actor, number)
    if call.state is not CallState.ENDED:
        _require_mine(session, actor, call, plan)
        order(session, call, Verb.HANG_UP, now, actor.staff_id)
        tell(session, call, "call_hung_up", now)
    return call


def leg(session: Session, call: Call, event: CallEvent, plan: NumberPlan, now: datetime) -> None:
    """What has become of a phone that was rung into a call. It may be told late or twice."""
    way = Way.of(call)
    key = str(event.key)
    if key not in way.legs:
        return
    one = way.legs[key]
    one.leg_id = one.leg_id or event.leg_id
    was = one.state
    if event.kind is CallKind.RINGING:
        way.move(key, "ringing")
        way.keep(call)
        return
    # Completed is only what was answered, even when nobody has told us so.
    picked_up = event.kind is CallKind.ANSWERED or event.cause == "completed"
    if picked_up and way.move(key, "talking"):
        way.keep(call)
        _picked_up(session, call, way, key, plan, now)
        way = Way.of(call)
        was = "talking"
    if event.kind is CallKind.ENDED and way.move(key, "gone"):
        way.keep(call)
        if call.state is not CallState.ENDED:
            _hung_up(session, call, way, key, was, event.cause, plan, now)


def command_failed(
    session: Session,
    command: CallCommand,
    *,
    gone: bool,
    plan: NumberPlan,
    now: datetime,
) -> None:
    """The provider has refused a command; `gone` when there is no such call any longer."""
    call = calls.by_number(session, command.call_id)
    tell(session, call, "call_command_failed", now, verb=command.verb)
    if call.state is CallState.ENDED:
        return
    if gone and command.verb in {Verb.SEND, Verb.HANG_UP}:
        end(session, call, plan, now)
    elif command.verb == Verb.SEND:
        _not_sent(session, call, command)
    elif command.verb == Verb.RING:
        key = str(command.id)
        way = Way.of(call)
        if key in way.legs and way.move(key, "gone"):
            way.keep(call)
            _hung_up(session, call, way, key, "ordered", "failed", plan, now)


def _not_sent(session: Session, call: Call, command: CallCommand) -> None:
    if calls.take_back_step(call, command) and call.state is CallState.WAITING:
        inquiry = calls.inquiry_of(session, call)
        inquiry.assignee_id = None
        inquiry.version += 1
    session.flush()


def _picked_up(
    session: Session, call: Call, way: Way, key: str, plan: NumberPlan, now: datetime
) -> None:
    one = way.legs[key]
    if call.state is CallState.ENDED:
        _drop(session, call, way, key, now)
        way.keep(call)
    elif one.label == "operator":
        if way.step and way.step.at is At.TALK and not way.talking:
            answered(session, call, way, one.user, plan, now)
    elif way.sent_back:
        _has_taken_over(session, call, way, one.user, plan, now)
    else:
        tell(session, call, "call_consulted", now, person=one.user)


def _hung_up(
    session: Session,
    call: Call,
    way: Way,
    key: str,
    was: str,
    cause: str,
    plan: NumberPlan,
    now: datetime,
) -> None:
    """One of those in the room is gone, and the caller is not."""
    one = way.legs[key]
    reason = REASONS.get(cause, "no_answer")
    if one.label == "operator":
        if was != "talking":
            _back_to_queue(session, call, way, one.user, f"operator_{reason}", plan, now)
        elif way.warm:
            _leave_to_colleague(session, call, way, plan, now)
        elif way.step and way.step.at is At.TALK and not way.live_legs():
            order(session, call, Verb.HANG_UP, now, call.staff_id)
    elif way.sent_back and was != "talking":
        _back_to_queue(session, call, way, way.sent_back, reason, plan, now)
    elif way.warm:
        way.warm = False
        _resume(session, call, way, now)
        way.keep(call)
        tell(session, call, "call_not_taken", now, person=one.user, reason=reason)
    elif way.step and way.step.at is At.TALK and not way.live_legs():
        order(session, call, Verb.HANG_UP, now, call.staff_id)


def _back_to_queue(
    session: Session,
    call: Call,
    way: Way,
    operator: str,
    reason: str,
    plan: NumberPlan,
    now: datetime,
) -> None:
    if call.state is not CallState.TALKING:
        return
    way.sent_back = operator
    send_on(session, call, way, [[Where.SWITCHBOARD.value, ""]], reason, plan, now)


def _leave_to_colleague(
    session: Session, call: Call, way: Way, plan: NumberPlan, now: datetime
) -> None:
    """The operator goes: the caller is the colleague's, or will be when they answer."""
    way.warm = False
    for key in way.live_legs("operator"):
        _drop(session, call, way, key, now)
    colleague = next(iter(way.live_legs("colleague").values()), None)
    if colleague is None:
        _back_to_queue(session, call, way, way.operator, "no_answer", plan, now)
        return
    way.sent_back = way.operator
    way.talking = ""
    way.keep(call)
    if colleague.state == "talking":
        _has_taken_over(session, call, way, colleague.user, plan, now)


def _has_taken_over(
    session: Session, call: Call, way: Way, user: str, plan: NumberPlan, now: datetime
) -> None:
    _resume(session, call, way, now)
    answered(session, call, way, user, plan, now)
    hand_over(session, call, user, plan, now)


def _resume(session: Session, call: Call, way: Way, now: datetime) -> None:
    if way.held:
        way.held = False
        order(session, call, Verb.RESUME, now, call.staff_id)


def _drop(session: Session, call: Call, way: Way, key: str, now: datetime) -> None:
    way.legs[key].state = "gone"
    order(session, call, Verb.DROP, now, call.staff_id, key=int(key))


def _go(call: Call, way: Way, step: Step) -> None:
    way.step = step
    way.keep(call)


def _next(way: Way) -> int:
    return way.step.number + 1 if way.step else 1


def _whither(
    session: Session, target: Target, plan: NumberPlan, now: datetime
) -> tuple[list[list[str]], str, str]:
    """What is tried for a transfer, and whose phone rings when it is warm: username and number."""
    back = [Where.SWITCHBOARD.value, ""]
    people = plan.door.people
    if target.kind == "person":
        if target.value not in people:
            raise InvalidError(f"There is nobody called «{target.value}» in the number plan.")
        if status_of(session, target.value, now, plan.directory).reach_phone is False:
            raise _absent(session, target.value, plan, now)
        return [[Where.PERSON.value, target.value], back], target.value, ""
    if target.kind == "department":
        if target.value not in plan.names:
            raise InvalidError(f"There is no department «{target.value}».")
        for name in plan.members(target.value):
            if status_of(session, name, now, plan.directory).reach_phone is not False:
                return [[Where.DEPARTMENT.value, target.value], back], name, ""
        raise ConflictError(f"Nobody at {plan.names[target.value]} can be reached by phone now.")
    phone = _outside(target.value, plan)
    return [[Where.NUMBER.value, phone], back], "", phone


def _outside(value: str, plan: NumberPlan) -> str:
    """A number outside the house that callers may be passed to, E.164 or an emergency service's.
    Raises `InvalidError`: what is passed on is paid for by us."""
    digits = "".join(value.split())
    # Too short for E.164, and never refused.
    if digits in EMERGENCY_SERVICES:
        return digits
    phone = e164(digits)
    if not phone:
        raise InvalidError("This is no phone number.")
    if phone in plan.owners:
        raise InvalidError("This is a number of our own. Choose the person or the department.")
    if is_premium(phone):
        raise InvalidError("Calls are not passed on to premium-rate numbers.")
    if country_of(phone) not in plan.door.transfer_countries:
        raise InvalidError("Calls are not passed on to numbers in this country.")
    return phone


def _absent(session: Session, person: str, plan: NumberPlan, now: datetime) -> ConflictError:
    """Who cannot be reached, and who answers instead, so that the operator need not guess."""
    name = plan.door.people[person].name
    for deputy in plan.deputies(person):
        if status_of(session, deputy, now, plan.directory).reach_phone is not False:
            return AbsentError(name, plan.door.people[deputy].name)
    return AbsentError(name)


def _in_talk(session: Session, actor: Actor, number: int, plan: NumberPlan) -> tuple[Call, Way]:
    """A call that the actor is talking in."""
    call = of_desk(session, actor, number)
    _require_mine(session, actor, call, plan)
    way = Way.of(call)
    talking = any(leg.state == "talking" for leg in way.live_legs("operator").values())
    if call.state is not CallState.TALKING or not talking:
        raise ConflictError("Nobody talks in this call right now.")
    return call, way


def _require_mine(session: Session, actor: Actor, call: Call, plan: NumberPlan) -> None:
    """Refuse those who have not taken the call; a service account acts for people."""
    _require_control(call)
    if call.state is CallState.ENDED:
        raise ConflictError("The call is over.")
    if call.staff_id is None:
        raise ConflictError("Nobody has taken this call yet.")
    if call.staff_id != actor.staff_id and actor.is_person:
        raise _held_by(session, call)
    _require_acts_for(actor, Way.of(call).operator, plan)


def _require_control(call: Call) -> None:
    if call.provider not in CONTROLLED:
        raise ConflictError("This call is at the municipality's own exchange. Use your phone.")


def _not_waiting(session: Session, call: Call) -> ConflictError:
    if call.state is CallState.ENDED:
        return ConflictError("The call is over.")
    if call.staff_id is not None:
        return _held_by(session, call)
    return ConflictError("The caller does not wait in the queue now.")


def _held_by(session: Session, call: Call) -> ConflictError:
    holder = session.get(Staff, call.staff_id)
    name = holder.name if holder else ""
    return ConflictError(f"{name or 'Somebody else'} has this call.", holder=name)
