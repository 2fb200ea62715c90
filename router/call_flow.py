"""What a call does with each thing that is told of it: a ring, a key, an answer, an end. Where its
caller goes then is in `router/call_steps.py`.

A call stands at one `Step`, and what a provider tells belongs to the number of a step. What comes
again or too late finds the call farther on, and changes nothing.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from channels.phone.base import At, CallKind, Said, Step, Verb, is_number
from router import calls, recordings
from router.call_holder import give_to, hand_over
from router.call_models import Call, CallState
from router.call_steps import (
    CALLBACK,
    COLLEAGUE,
    CallContext,
    close,
    due_in_words,
    offer,
    onward,
    own_line,
    promise_callback,
    standing,
    take_message,
)
from router.calls import Way, answered, end, order, send
from router.number_plan import Opening, Where

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlmodel import Session

    from channels.phone.base import CallEvent
    from router.number_plan import NumberPlan

TRIES = 2
"""How often a menu is read out before the last of its choices is taken."""

REASONS = {
    "busy": "busy",
    "no-answer": "no_answer",
    "noAnswer": "no_answer",
    "failed": "unreachable",
    "canceled": "no_answer",
}
"""How a phone that rang did not answer -> our word for it."""


ELSEWHERE = {"forwarded": "forwarded", "blocked": "rejected"}
"""Causes of an exchange's hangup for which nobody here need call back -> outcome of the call."""


def first_ring(
    session: Session, call: Call, event: CallEvent, plan: NumberPlan, now: datetime
) -> Step:
    """What a caller hears first. Asked again, the answer is the same."""
    way = Way.of(call)
    if way.step is not None:
        return way.step
    if call.state is CallState.ENDED:
        return Step(At.END, 0)
    c = CallContext(session, call, way, plan, now)
    calls.note_status(call, event.status)
    calls.enliven(session, call, now)
    way.ahead = [[where.value, whose] for where, whose in plan.attempts(call.line)]
    person, department = plan.owner(call.line)
    opening = plan.opening(department, call.caller, now)
    if opening is Opening.EMERGENCY:
        way.ahead = [[Where.SWITCHBOARD.value, ""]]
        onward(c, "emergency_service")
    elif opening is not Opening.OPEN:
        close(c, opening, department)
    elif person and plan.door.people[person].phone == event.forwarded_from:
        # Their phone passes calls on to us: ringing it would go round in a circle.
        way.tried.append(person)
        way.ahead = way.ahead[1:]
        onward(c, "forwarded")
    elif person:
        own_line(c, person)
    else:
        onward(c, "own_line" if plan.owners.get(call.line, ("", ""))[1] else "switchboard_line")
    return standing(c)


def advance(
    session: Session, call: Call, event: CallEvent, plan: NumberPlan, now: datetime
) -> Step:
    """What has happened to a call, and what its caller hears next."""
    way = Way.of(call)
    step = way.step or Step(At.END, 0, (Said("goodbye"),))
    calls.note_status(call, event.status)
    late = event.step is not None and event.step != step.number
    c = CallContext(session, call, way, plan, now)
    if call.state is CallState.ENDED:
        if not late:
            _add_evidence(c, event)
    elif not late:
        turn = _TURNS.get(event.kind)
        if turn is not None:
            turn(c, event)
    elif event.kind is CallKind.LEFT_QUEUE and event.cause == "leave":
        _on_next(c, event)  # out of the queue by our document, before our command arrived
    if event.gone:
        end(session, call, plan, now)
    return Way.of(call).step or step


def apply(session: Session, call: Call, event: CallEvent, plan: NumberPlan, now: datetime) -> None:
    """What a provider or an exchange tells of a call, outside the steps: rung, answered, ended,
    recorded. It may come twice, late, or without what goes before."""
    calls.note_status(call, event.status)
    if event.kind is CallKind.RECORDING:
        if event.recording is not None:
            recordings.announce(session, call, event.recording, now)
            if event.recording.status not in recordings.WITHOUT_SOUND:
                _note_message(CallContext(session, call, Way.of(call), plan, now))
    elif call.state is CallState.ENDED:
        if event.kind is CallKind.ENDED:
            calls.refine(session, call, plan, now)
    elif event.kind is CallKind.ANSWERED:
        _answered_elsewhere(session, call, event, plan, now)
    elif event.kind is CallKind.ENDED:
        if event.cause == "voicemail":
            _note_message(CallContext(session, call, Way.of(call), plan, now))
        elif event.cause in ELSEWHERE:
            way = Way.of(call)
            way.elsewhere = ELSEWHERE[event.cause]
            way.keep(call)
        end(session, call, plan, now)


def send_on(
    session: Session,
    call: Call,
    way: Way,
    ahead: list[list[str]],
    reason: str,
    plan: NumberPlan,
    now: datetime,
) -> None:
    """Take the caller out of the room where they talk and try others; what they hear follows from
    it."""
    undo = calls.before(call)
    for key, leg in way.live_legs().items():
        # Those in the room are out of it when the caller leaves; a phone that rings is not.
        if leg.state != "talking":
            order(session, call, Verb.DROP, now, call.staff_id, key=int(key))
        leg.state = "gone"
    c = CallContext(session, call, way, plan, now)
    way.ahead, way.talking, way.held, way.warm = ahead, "", False, False
    way.tried = [name for name in way.tried if [Where.PERSON.value, name] not in ahead]
    onward(c, reason)
    send(session, call, now, undo)


def _on_dialled(c: CallContext, event: CallEvent) -> None:
    step = standing(c)
    if step.at is not At.DIAL:
        return
    talked = event.bridged
    if talked is None:
        accepted = bool(c.way.talking)
        talked = accepted or (event.cause in {"completed", "answered"} and not c.way.asked)
    if talked:
        if not c.way.talking:
            by = step.ring[0].user if len(step.ring) == 1 else ""
            answered(c.session, c.call, c.way, by, c.plan, c.now)
        c.go(At.END)
        return
    c.way.talking, c.way.parted = "", True
    if event.gone:
        c.keep()
        return
    reason = REASONS.get(event.cause, "declined" if c.way.asked else "no_answer")
    say = []
    if len(step.ring) == 1 and (person := c.plan.door.people.get(step.ring[0].user)):
        say = [Said("no_answer", {"person": person.name})]
    onward(c, reason, say)


def _on_accepted(c: CallContext, event: CallEvent) -> None:
    """A colleague has pressed a key, or has not."""
    step = standing(c)
    user = next((ring.user for ring in step.ring if ring.user in event.users), "")
    if step.at is not At.DIAL or not user or c.way.talking:
        return
    if not event.digits:
        c.way.asked = True
        c.keep()
        return
    transferred = bool(c.way.sent_back)
    answered(c.session, c.call, c.way, user, c.plan, c.now)
    if transferred:
        hand_over(c.session, c.call, user, c.plan, c.now)


def _on_digits(c: CallContext, event: CallEvent) -> None:
    step = standing(c)
    if step.at is not At.MENU:
        return
    choice = _choice(step, event.digits)
    if not choice:
        c.way.empty += 1
        if c.way.empty < TRIES:
            c.go(At.MENU, *step.say, choices=step.choices)
            return
    if choice == COLLEAGUE:
        onward(c, "chosen")
    elif choice == CALLBACK:
        promise_callback(c)
    else:
        take_message(c, "chosen" if choice else "no_key")


def _on_queued(c: CallContext, event: CallEvent) -> None:
    """Somebody waits, and asks what to hear."""
    step = standing(c)
    if step.at is not At.QUEUE or step.leaving or c.call.state is not CallState.WAITING:
        return
    if event.digits == "1" and is_number(c.call.caller):
        c.call.wants_callback = True
    elif not _has_waited_enough(c.call, c.plan, c.now):
        return
    c.way.step = replace(step, leaving=True)
    c.call.state = CallState.RINGING
    c.keep()


def _has_waited_enough(call: Call, plan: NumberPlan, now: datetime) -> bool:
    return now - (call.waiting_since or now) >= timedelta(minutes=plan.door.wait_minutes)


def waits_on(call: Call, event: CallEvent, plan: NumberPlan, now: datetime) -> bool:
    """Whether somebody in the queue asks what to hear, and nothing changes: most webhooks are
    this."""
    step = Way.of(call).step
    return (
        event.kind is CallKind.QUEUED
        and not event.digits
        and not event.gone
        and call.state is CallState.WAITING
        and step is not None
        and step.at is At.QUEUE
        and not step.leaving
        and event.step == step.number
        and not calls.is_news(call, event.status)
        and not _has_waited_enough(call, plan, now)
    )


def _on_left_queue(c: CallContext, event: CallEvent) -> None:
    step = standing(c)
    if step.at is not At.QUEUE or event.cause in {"redirected", "bridged", "bridging-in-process"}:
        return
    if event.gone or event.cause == "hangup":
        c.way.step = replace(step, leaving=True)
        c.keep()
        end(c.session, c.call, c.plan, c.now)
    elif c.call.wants_callback:
        promise_callback(c)
    else:
        reason = "max_wait" if event.cause == "leave" else "queue_error"
        c.told("menu", reason)
        offer(c, [Said("too_long")], [])


def _on_recorded(c: CallContext, event: CallEvent) -> None:
    if event.recording is not None:
        c.way.message = True
    if event.gone:
        c.keep()
        return
    say = Said("recorded", {"due": due_in_words(c)}) if c.way.message else Said("silent")
    c.go(At.END, say)


def _on_next(c: CallContext, _event: CallEvent) -> None:
    """The caller has come where they were sent; now the operator's phone may ring."""
    step = standing(c)
    if step.at is At.TALK and not c.way.arrived:
        c.way.arrived = True
        calls.ring(c.session, c.call, c.way, "operator", c.way.operator, c.plan, c.now)
        c.keep()


def _on_talked(c: CallContext, _event: CallEvent) -> None:
    c.go(At.END)


_TURNS: dict[CallKind, Callable[[CallContext, CallEvent], None]] = {
    CallKind.DIALLED: _on_dialled,
    CallKind.ACCEPTED: _on_accepted,
    CallKind.DIGITS: _on_digits,
    CallKind.QUEUED: _on_queued,
    CallKind.LEFT_QUEUE: _on_left_queue,
    CallKind.RECORDED: _on_recorded,
    CallKind.NEXT: _on_next,
    CallKind.TALKED: _on_talked,
}


def _add_evidence(c: CallContext, event: CallEvent) -> None:
    """What comes after the end, of the last step: it may say more of how the call ended."""
    if event.kind is CallKind.RECORDED and event.recording is not None:
        c.way.message = True
    elif c.way.talking or c.way.parted:
        return
    elif event.kind is CallKind.DIALLED and event.bridged:
        ring = standing(c).ring
        c.way.talking = ring[0].user if len(ring) == 1 else "?"
    elif event.kind is CallKind.ACCEPTED and event.digits:
        c.way.talking = next(iter(event.users), "?")
    elif _wants_callback(c, event):
        c.call.wants_callback = True
    else:
        return
    c.keep()
    calls.refine(c.session, c.call, c.plan, c.now)


def _wants_callback(c: CallContext, event: CallEvent) -> bool:
    step = standing(c)
    if step.at is At.QUEUE and event.kind is CallKind.QUEUED:
        return event.digits == "1" and is_number(c.call.caller)
    if step.at is At.MENU and event.kind is CallKind.DIGITS:
        return _choice(step, event.digits) == CALLBACK
    return False


def _choice(step: Step, digits: str) -> str:
    """What a key stands for in a menu; empty for none."""
    key = int(digits) if digits.isdecimal() and len(digits) == 1 else 0
    return step.choices[key - 1] if 1 <= key <= len(step.choices) else ""


def _note_message(c: CallContext) -> None:
    c.way.message = True
    c.keep()
    calls.refine(c.session, c.call, c.plan, c.now)


def _answered_elsewhere(
    session: Session, call: Call, event: CallEvent, plan: NumberPlan, now: datetime
) -> None:
    """An exchange tells that one of its phones has answered."""
    way = Way.of(call)
    if way.talking:
        return
    people = plan.door.people
    named = {*event.users, event.answering}
    user = next((u for u, one in people.items() if named & {u, one.name, one.phone}), "")
    call.person = user or call.person
    if user:
        give_to(session, call, user)
    call.through_switchboard = not plan.owners.get(call.line, ("", ""))[1]
    answered(session, call, way, user or next(iter(event.users), event.answering), plan, now)
    call.seen_at = now
