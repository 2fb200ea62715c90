"""Which way a call goes: who is tried, what a caller may choose, when somebody has waited enough.

A call stands at one `Step`, and what a provider tells belongs to the number of a step. What comes
again or too late finds the call farther on, and changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlmodel import Session, col

from channels.phone.base import At, CallKind, Ring, Said, Step, Verb, is_number
from router import calls, recordings
from router.call_holder import give_to, hand_over
from router.call_models import Call, CallState
from router.calls import Way, answered, end, order, send, tell
from router.counters import counted
from router.models import DecisionRecord, ReplyState
from router.number_plan import TOGETHER, Opening, Where
from router.presence import status_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from channels.phone.base import CallEvent
    from router.number_plan import NumberPlan
    from rules.presence import Status

COLLEAGUE, CALLBACK, VOICEMAIL = "colleague", "callback", "voicemail"

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


@dataclass(slots=True)
class _Call:
    """One call in one transaction."""

    session: Session
    call: Call
    way: Way
    plan: NumberPlan
    now: datetime
    presence: dict[str, dict[str, Any]] = field(default_factory=dict)

    def status(self, person: str) -> Status:
        """Where somebody is; kept with the decision that follows from it."""
        status = status_of(self.session, person, self.now, self.plan.directory)
        self.presence[person] = {"state": status.state.value, "claim": status.claim}
        return status

    def go(self, at: At, *say: Said, **options: Any) -> None:
        """Move to another step."""
        number = self.way.step.number + 1 if self.way.step else 1
        if say and not self.way.greeted:
            self.way.greeted = True
        self.way.step = Step(at, number, say, **options)
        self.keep()

    def keep(self) -> None:
        """Write it down."""
        self.way.keep(self.call)
        self.call.seen_at = self.now

    def told(self, step: str, reason: str, **data: object) -> None:
        """Record a step with its reason; one that was passed over is not where the call is."""
        if not data.get("skipped"):
            self.way.reason = reason
            self.way.keep(self.call)
        people = {"presence": self.presence} if self.presence else {}
        tell(
            self.session,
            self.call,
            "call_step",
            self.now,
            step=step,
            reason=reason,
            **data,
            **people,
        )
        self.presence = {}


def first_ring(
    session: Session, call: Call, event: CallEvent, plan: NumberPlan, now: datetime
) -> Step:
    """What a caller hears first. Asked again, the answer is the same."""
    way = Way.of(call)
    if way.step is not None:
        return way.step
    if call.state is CallState.ENDED:
        return Step(At.END, 0)
    c = _Call(session, call, way, plan, now)
    calls.note_status(call, event.status)
    calls.enliven(session, call, now)
    way.ahead = [[where.value, whose] for where, whose in plan.attempts(call.line)]
    person, department = plan.owner(call.line)
    opening = plan.opening(department, call.caller, now)
    if opening is Opening.EMERGENCY:
        way.ahead = [[Where.SWITCHBOARD.value, ""]]
        _onward(c, "emergency_service")
    elif opening is not Opening.OPEN:
        _close(c, opening, department)
    elif person and plan.door.people[person].phone == event.forwarded_from:
        # Their phone passes calls on to us: ringing it would go round in a circle.
        way.tried.append(person)
        way.ahead = way.ahead[1:]
        _onward(c, "forwarded")
    elif person:
        _own_line(c, person)
    else:
        _onward(c, "own_line" if plan.owners.get(call.line, ("", ""))[1] else "switchboard_line")
    return _standing(c)


def advance(
    session: Session, call: Call, event: CallEvent, plan: NumberPlan, now: datetime
) -> Step:
    """What has happened to a call, and what its caller hears next."""
    way = Way.of(call)
    step = way.step or Step(At.END, 0, (Said("goodbye"),))
    calls.note_status(call, event.status)
    late = event.step is not None and event.step != step.number
    c = _Call(session, call, way, plan, now)
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
                _note_message(_Call(session, call, Way.of(call), plan, now))
    elif call.state is CallState.ENDED:
        if event.kind is CallKind.ENDED:
            calls.refine(session, call, plan, now)
    elif event.kind is CallKind.ANSWERED:
        _answered_elsewhere(session, call, event, plan, now)
    elif event.kind is CallKind.ENDED:
        if event.cause == "voicemail":
            _note_message(_Call(session, call, Way.of(call), plan, now))
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
    c = _Call(session, call, way, plan, now)
    way.ahead, way.talking, way.held, way.warm = ahead, "", False, False
    way.tried = [name for name in way.tried if [Where.PERSON.value, name] not in ahead]
    _onward(c, reason)
    send(session, call, now, undo)


def _standing(c: _Call) -> Step:
    assert c.way.step is not None  # noqa: S101 - whoever went somewhere stands somewhere
    return c.way.step


def _own_line(c: _Call, person: str) -> None:
    """A call to somebody's own number: their phone rings, or the caller hears when they are
    back."""
    status = c.status(person)
    _keep_presence(c)
    if status.reach_phone is not False:
        reason = "reachable" if status.reach_phone else "unknown"
        c.way.ahead = c.way.ahead[1:]
        _ring(c, Where.PERSON, [person], reason)
        return
    c.way.tried.append(person)
    c.way.ahead = c.way.ahead[1:]
    choices = [COLLEAGUE] if _anybody_left(c) else []
    c.told("menu", "absent", person=person, state=status.state.value)
    _offer(c, [Said("crisis"), c.plan.away(person, status, c.now)], choices)


def _anybody_left(c: _Call) -> bool:
    """Whether somebody else may answer: a deputy, the department, or the open switchboard."""
    for where, whose in c.way.ahead:
        if where == Where.SWITCHBOARD.value:
            if c.plan.opening(c.plan.switchboard, c.call.caller, c.now) is Opening.OPEN:
                return True
        elif where == Where.DEPUTY.value:
            if c.status(whose).reach_phone is not False:
                return True
        elif _reachable(c, whose):
            return True
    return False


def _reachable(c: _Call, department: str) -> list[str]:
    """Whose phones may ring for a department, those first of whom it is known."""
    free = {
        name: status.reach_phone
        for name in c.plan.members(department)
        if name not in c.way.tried and (status := c.status(name)).reach_phone is not False
    }
    return sorted(free, key=lambda name: not free[name])[:TOGETHER]


def _offer(c: _Call, say: list[Said], others: list[str]) -> None:
    """A menu of what is possible; leaving a message always is, and comes last."""
    choices = [*others, *([CALLBACK] if is_number(c.call.caller) else []), VOICEMAIL]
    c.call.state = CallState.RINGING
    c.way.empty = 0
    if choices == [VOICEMAIL]:
        _take_message(c, "no_choice", say)
    else:
        c.go(At.MENU, *say, choices=tuple(choices))


def _onward(c: _Call, reason: str, say: Iterable[Said] = ()) -> None:
    """Try the next of those who are left. `reason` is why the one before did not answer."""
    said = [*say]
    while c.way.ahead:
        where, whose = c.way.ahead.pop(0)
        if where in {Where.PERSON.value, Where.DEPUTY.value}:
            if whose in c.way.tried:
                continue
            status = c.status(whose)
            if status.reach_phone is False:
                c.way.tried.append(whose)
                c.told(where, "absent", person=whose, skipped=True)
                continue
            name = c.plan.door.people[whose].name
            _ring(c, Where(where), [whose], reason, [*said, Said("connecting", {"person": name})])
            return
        if where == Where.NUMBER.value:
            c.call.state = CallState.DIALLING
            c.go(At.DIAL, *said, Said("connecting_number"), ring=(Ring("", whose),))
            c.told(where, reason)
            return
        if where == Where.DEPARTMENT.value:
            names = _reachable(c, whose)
            c.call.department = whose
            if not names:
                c.told("department", "nobody_reachable", department=whose, skipped=True)
                said.append(Said("nobody", {"department": c.plan.names[whose]}))
                continue
            greeting = [] if c.way.greeted else c.plan.greeting(c.call.line)
            connecting = Said("connecting_department", {"department": c.plan.names[whose]})
            _ring(c, Where.DEPARTMENT, names, reason, [*greeting, *said, connecting], whose)
            return
        _queue(c, reason, said)
        return
    _take_message(c, reason, said)


def _ring(
    c: _Call,
    where: Where,
    names: list[str],
    reason: str,
    say: Iterable[Said] = (),
    department: str = "",
) -> None:
    people = c.plan.door.people
    c.way.tried += names
    c.way.asked = c.way.parted = False
    c.call.state = CallState.DIALLING
    if not department:
        c.call.person = names[0]
    said = [*say]
    if not c.way.greeted and not said and c.plan.site.voice.words(Said("crisis")).strip():
        said = [Said("crisis")]
    c.go(
        At.DIAL,
        *said,
        ring=tuple(Ring(name, people[name].phone) for name in names),
        back=people[c.way.sent_back].name if c.way.sent_back in people else "",
    )
    person = "" if department else names[0]
    c.told(where.value, reason, person=person, department=department)


def _queue(c: _Call, reason: str, say: Iterable[Said] = ()) -> None:
    """Wait for an operator. Whom somebody should have answered already goes first."""
    switchboard = c.plan.switchboard
    opening = c.plan.opening(switchboard, c.call.caller, c.now)
    if opening not in {Opening.OPEN, Opening.EMERGENCY} and not c.way.sent_back:
        c.told("switchboard", opening.value, skipped=True)
        _offer(c, [*say], [])
        return
    returned, c.way.sent_back = c.way.sent_back, ""
    c.way.came_back = returned or c.way.came_back
    if c.way.tried or returned or reason == "emergency_service":
        c.way.priority = True
    c.way.talking, c.way.arrived, c.way.held, c.way.warm = "", False, False, False
    c.call.waiting_since = c.call.waiting_since or c.now
    c.call.through_switchboard = True
    c.call.department = switchboard
    c.call.state = CallState.WAITING
    said = [*say]
    if returned and not said:
        said = [Said("back_in_queue")]
    elif said or c.way.tried:
        said.append(Said("connecting_switchboard"))
    elif not c.way.greeted:
        said = c.plan.greeting(c.call.line)
    c.go(At.QUEUE, *said)
    calls.enliven(c.session, c.call, c.now)
    if returned:
        _give_back(c, returned, reason)
    c.told("switchboard", reason)


def _give_back(c: _Call, operator: str, reason: str) -> None:
    """A transferred call that nobody took: anybody at the switchboard may have it, and the one who
    passed it on is told why."""
    inquiry = calls.inquiry_of(c.session, c.call)
    with counted(c.session, inquiry):
        inquiry.assignee_id = None
        # Nobody has helped the caller yet.
        inquiry.answered_at, inquiry.reply_state = None, ReplyState.UNANSWERED
    tell(c.session, c.call, "call_returned", c.now, reason=reason, operator=operator)
    c.call.staff_id = None


def _close(c: _Call, opening: Opening, department: str) -> None:
    c.way.closed = True
    c.told("voicemail", opening.value, department=department)
    c.call.state = CallState.VOICEMAIL
    c.go(At.VOICEMAIL, *c.plan.closed(opening, department, c.now), Said("voicemail"))


def _take_message(c: _Call, reason: str, say: Iterable[Said] = ()) -> None:
    c.told("voicemail", reason)
    c.call.state = CallState.VOICEMAIL
    c.go(At.VOICEMAIL, *say, Said("voicemail"))


def _promise_callback(c: _Call) -> None:
    c.call.wants_callback = True
    c.told("callback", "chosen")
    c.go(At.END, Said("callback_noted", {"due": _due(c)}))


def _due(c: _Call) -> str:
    due = calls.inquiry_of(c.session, c.call).due_at
    spoken = c.plan.spoken(due, c.now)
    return f"senest {spoken}" if due > c.now else "så snart vi kan"


def _keep_presence(c: _Call) -> None:
    """The decision that a call leads to keeps what was known of people."""
    query = (
        select(DecisionRecord)
        .where(col(DecisionRecord.inquiry_id) == c.call.inquiry_id)
        .order_by(col(DecisionRecord.id).desc())
        .limit(1)
    )
    decision = c.session.execute(query).scalar()
    if decision is not None:
        decision.presence = {**decision.presence, **c.presence}


def _on_dialled(c: _Call, event: CallEvent) -> None:
    step = _standing(c)
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
    _onward(c, reason, say)


def _on_accepted(c: _Call, event: CallEvent) -> None:
    """A colleague has pressed a key, or has not."""
    step = _standing(c)
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


def _on_digits(c: _Call, event: CallEvent) -> None:
    step = _standing(c)
    if step.at is not At.MENU:
        return
    choice = _choice(step, event.digits)
    if not choice:
        c.way.empty += 1
        if c.way.empty < TRIES:
            c.go(At.MENU, *step.say, choices=step.choices)
            return
    if choice == COLLEAGUE:
        _onward(c, "chosen")
    elif choice == CALLBACK:
        _promise_callback(c)
    else:
        _take_message(c, "chosen" if choice else "no_key")


def _on_queued(c: _Call, event: CallEvent) -> None:
    """Somebody waits, and asks what to hear."""
    step = _standing(c)
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


def _on_left_queue(c: _Call, event: CallEvent) -> None:
    step = _standing(c)
    if step.at is not At.QUEUE or event.cause in {"redirected", "bridged", "bridging-in-process"}:
        return
    if event.gone or event.cause == "hangup":
        c.way.step = replace(step, leaving=True)
        c.keep()
        end(c.session, c.call, c.plan, c.now)
    elif c.call.wants_callback:
        _promise_callback(c)
    else:
        reason = "max_wait" if event.cause == "leave" else "queue_error"
        c.told("menu", reason)
        _offer(c, [Said("too_long")], [])


def _on_recorded(c: _Call, event: CallEvent) -> None:
    if event.recording is not None:
        c.way.message = True
    if event.gone:
        c.keep()
        return
    say = Said("recorded", {"due": _due(c)}) if c.way.message else Said("silent")
    c.go(At.END, say)


def _on_next(c: _Call, _event: CallEvent) -> None:
    """The caller has come where they were sent; now the operator's phone may ring."""
    step = _standing(c)
    if step.at is At.TALK and not c.way.arrived:
        c.way.arrived = True
        calls.ring(c.session, c.call, c.way, "operator", c.way.operator, c.plan, c.now)
        c.keep()


def _on_talked(c: _Call, _event: CallEvent) -> None:
    c.go(At.END)


_TURNS: dict[CallKind, Callable[[_Call, CallEvent], None]] = {
    CallKind.DIALLED: _on_dialled,
    CallKind.ACCEPTED: _on_accepted,
    CallKind.DIGITS: _on_digits,
    CallKind.QUEUED: _on_queued,
    CallKind.LEFT_QUEUE: _on_left_queue,
    CallKind.RECORDED: _on_recorded,
    CallKind.NEXT: _on_next,
    CallKind.TALKED: _on_talked,
}


def _add_evidence(c: _Call, event: CallEvent) -> None:
    """What comes after the end, of the last step: it may say more of how the call ended."""
    if event.kind is CallKind.RECORDED and event.recording is not None:
        c.way.message = True
    elif c.way.talking or c.way.parted:
        return
    elif event.kind is CallKind.DIALLED and event.bridged:
        ring = _standing(c).ring
        c.way.talking = ring[0].user if len(ring) == 1 else "?"
    elif event.kind is CallKind.ACCEPTED and event.digits:
        c.way.talking = next(iter(event.users), "?")
    elif _wants_callback(c, event):
        c.call.wants_callback = True
    else:
        return
    c.keep()
    calls.refine(c.session, c.call, c.plan, c.now)


def _wants_callback(c: _Call, event: CallEvent) -> bool:
    step = _standing(c)
    if step.at is At.QUEUE and event.kind is CallKind.QUEUED:
        return event.digits == "1" and is_number(c.call.caller)
    if step.at is At.MENU and event.kind is CallKind.DIGITS:
        return _choice(step, event.digits) == CALLBACK
    return False


def _choice(step: Step, digits: str) -> str:
    """What a key stands for in a menu; empty for none."""
    key = int(digits) if digits.isdecimal() and len(digits) == 1 else 0
    return step.choices[key - 1] if 1 <= key <= len(step.choices) else ""


def _note_message(c: _Call) -> None:
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
