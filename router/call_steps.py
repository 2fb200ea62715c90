"""Which way a call goes: who is tried, what callers may choose, where they wait or leave a word."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlmodel import Session, col

from channels.phone.base import At, Ring, Said, Step, is_number
from router import calls
from router.call_models import Call, CallState
from router.calls import Way, tell
from router.counters import counted
from router.models import DecisionRecord, ReplyState
from router.number_plan import TOGETHER, Opening, Where
from router.presence import status_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from router.number_plan import NumberPlan
    from rules.presence import Status

COLLEAGUE, CALLBACK, VOICEMAIL = "colleague", "callback", "voicemail"
"""What a caller may choose in a menu."""


@dataclass(slots=True)
class CallContext:
    """One call in one transaction, with what is known of its way so far."""

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


def standing(c: CallContext) -> Step:
    """Where the caller is now."""
    assert c.way.step is not None  # noqa: S101 - whoever went somewhere stands somewhere
    return c.way.step


def own_line(c: CallContext, person: str) -> None:
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
    offer(c, [Said("crisis"), c.plan.away(person, status, c.now)], choices)


def _anybody_left(c: CallContext) -> bool:
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


def _reachable(c: CallContext, department: str) -> list[str]:
    """Whose phones may ring for a department, those first of whom it is known."""
    free = {
        name: status.reach_phone
        for name in c.plan.members(department)
        if name not in c.way.tried and (status := c.status(name)).reach_phone is not False
    }
    return sorted(free, key=lambda name: not free[name])[:TOGETHER]


def offer(c: CallContext, say: list[Said], others: list[str]) -> None:
    """A menu of what is possible; leaving a message always is, and comes last."""
    choices = [*others, *([CALLBACK] if is_number(c.call.caller) else []), VOICEMAIL]
    c.call.state = CallState.RINGING
    c.way.empty = 0
    if choices == [VOICEMAIL]:
        take_message(c, "no_choice", say)
    else:
        c.go(At.MENU, *say, choices=tuple(choices))


def onward(c: CallContext, reason: str, say: Iterable[Said] = ()) -> None:
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
    take_message(c, reason, said)


def _ring(
    c: CallContext,
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


def _queue(c: CallContext, reason: str, say: Iterable[Said] = ()) -> None:
    """Wait for an operator. Whom somebody should have answered already goes first."""
    switchboard = c.plan.switchboard
    opening = c.plan.opening(switchboard, c.call.caller, c.now)
    if opening not in {Opening.OPEN, Opening.EMERGENCY} and not c.way.sent_back:
        c.told("switchboard", opening.value, skipped=True)
        offer(c, [*say], [])
        return
    returned, c.way.sent_back = c.way.sent_back, ""
    c.way.came_back = returned or c.way.came_back
    if c.way.tried or returned:
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


def _give_back(c: CallContext, operator: str, reason: str) -> None:
    """A transferred call that nobody took: anybody at the switchboard may have it, and the one who
    passed it on is told why."""
    inquiry = calls.inquiry_of(c.session, c.call)
    with counted(c.session, inquiry):
        inquiry.assignee_id = None
        # Nobody has helped the caller yet.
        inquiry.answered_at, inquiry.reply_state = None, ReplyState.UNANSWERED
    tell(c.session, c.call, "call_returned", c.now, reason=reason, operator=operator)
    c.call.staff_id = None


def close(c: CallContext, opening: Opening, department: str) -> None:
    """Say that it is closed, and take a message."""
    c.way.closed = True
    c.told("voicemail", opening.value, department=department)
    c.call.state = CallState.VOICEMAIL
    c.go(At.VOICEMAIL, *c.plan.closed(opening, department, c.now), Said("voicemail"))


def take_message(c: CallContext, reason: str, say: Iterable[Said] = ()) -> None:
    """Ask the caller for a message."""
    c.told("voicemail", reason)
    c.call.state = CallState.VOICEMAIL
    c.go(At.VOICEMAIL, *say, Said("voicemail"))


def promise_callback(c: CallContext) -> None:
    """Note that the caller wants to be called back, say by when, and end."""
    c.call.wants_callback = True
    c.told("callback", "chosen")
    c.go(At.END, Said("callback_noted", {"due": due_in_words(c)}))


def due_in_words(c: CallContext) -> str:
    """By when the caller is owed an answer, as a voice says it in bokmål."""
    due = calls.inquiry_of(c.session, c.call).due_at
    spoken = c.plan.spoken(due, c.now)
    return f"senest {spoken}" if due > c.now else "så snart vi kan"


def _keep_presence(c: CallContext) -> None:
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
