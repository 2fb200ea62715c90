"""A phone call in the store: its row from the first ring, what becomes of its inquiry, its end.

Webhooks come late, twice or never. What has happened to a call only ever becomes better known: a
call that has ended stays ended, and of two outcomes the one that says more stands.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, select, text
from sqlmodel import Session, col

from channels.numbers import emergency_service
from channels.phone.base import CHANNEL, CallDirection, Step, Verb, is_number
from router import call_thread, events
from router.call_models import Call, CallCommand, CallOutcome, CallState
from router.counters import counted
from router.errors import NotFoundError
from router.models import Direction, Inquiry, InquiryStatus, ReplyState
from rules.order import Lane, lane_of, queue_key

if TYPE_CHECKING:
    from channels.phone.base import CallEvent
    from router.number_plan import NumberPlan

ANSWER_WITHIN = timedelta(seconds=30)
"""What is promised to a caller; orders live contacts."""
PRIORITY = timedelta(hours=1)
"""How far ahead of others a caller stands whom somebody should have answered already."""
EMERGENCY_PRIORITY = timedelta(days=365)
"""How far ahead of everybody an emergency service stands: no call-back keeps its place as long."""

CONTROLLED = frozenset({"twilio"})
"""Providers that do what we say; an exchange only tells."""

KIND = "callback"
"""Kind of an inquiry whose caller nobody has talked with yet."""

_ORDERED = "ordered"
"""Key among what a session knows beside its rows."""

_STATUS_RANK = {"queued": 0, "initiated": 0, "ringing": 1, "in-progress": 2}
_TERMINAL = 3
ENDED_STATUSES = frozenset({"completed", "busy", "failed", "no-answer", "canceled"})

_OUTCOME_RANK = {
    None: -1,
    CallOutcome.UNKNOWN: 0,
    CallOutcome.CLOSED: 1,
    CallOutcome.MISSED: 1,
    CallOutcome.FORWARDED: 1,
    CallOutcome.REJECTED: 1,
    CallOutcome.VOICEMAIL: 2,
    CallOutcome.CALLBACK: 3,
    CallOutcome.ANSWERED: 4,
}

_CALL: Any = Call.__table__  # type: ignore[attr-defined]

# Written out, so that the planner uses the partial index.
_IS_LIVE = text("call.state <> 'ended'")

# Asked at every webhook: built once.
_LOOK = select(Call).where(
    col(Call.provider) == bindparam("provider"), col(Call.call_id) == bindparam("key")
)
_FIND = _LOOK.with_for_update()
_KNOWN = select(_CALL.c.id).where(
    _CALL.c.provider == bindparam("provider"), _CALL.c.call_id == bindparam("key")
)
_CALLBACKS = select(Inquiry).where(
    col(Inquiry.channel) == CHANNEL,
    col(Inquiry.sender_address) == bindparam("caller"),
    col(Inquiry.status) == InquiryStatus.OPEN,
    col(Inquiry.answered_at).is_(None),
    col(Inquiry.line) != "",
)
"""The open inquiries of a number with whom nobody has talked yet."""
_IDLE = col(Inquiry.id).not_in(select(col(Call.inquiry_id)).where(_IS_LIVE))
_IDLE_CALLBACKS = _CALLBACKS.where(col(Inquiry.kind) == KIND, _IDLE).order_by(col(Inquiry.id))
_LATEST_CALLBACK = _CALLBACKS.order_by(col(Inquiry.id).desc()).limit(1)
_RECENT_CALLBACKS = _CALLBACKS.where(
    col(Inquiry.received_at) >= bindparam("since"), _IDLE, col(Inquiry.id) != bindparam("reached")
)
_OTHERS = (
    select(Call)
    .where(
        col(Call.inquiry_id) == bindparam("inquiry"),
        col(Call.id) != bindparam("call"),
        col(Call.direction) == Direction.IN,
    )
    .order_by(col(Call.id).desc())
    .limit(20)
)

_BY_NUMBER = select(Call).where(col(Call.id) == bindparam("number")).with_for_update()


@dataclass(slots=True)
class Leg:
    """Another phone in a call."""

    label: str
    """operator or colleague."""
    user: str = ""
    state: str = "ordered"
    """ordered, ringing, talking, gone."""
    leg_id: str = ""
    """The provider's own key, once it has told."""


_LEG_RANK = {"ordered": 0, "ringing": 1, "talking": 2, "gone": 3}


@dataclass(slots=True)
class Way:
    """Where a call is on its way through the house; kept as JSON in `Call.step`."""

    step: Step | None = None
    ahead: list[list[str]] = field(default_factory=list)
    """What is tried next: pairs of `number_plan.Where` and whose."""
    tried: list[str] = field(default_factory=list)
    """Usernames whose phone has rung, and those who cannot be reached."""
    closed: bool = False
    """Whether the caller was told that we are closed."""
    message: bool = False
    """Whether the caller left one."""
    elsewhere: str = ""
    """Where the exchange let the call go instead: `forwarded`, `rejected`."""
    priority: bool = False
    reason: str = ""
    """Why the call is where it is."""
    talking: str = ""
    """Who talks with the caller; `?` when that is not told."""
    asked: bool = False
    """Whether a phone that rang has picked up and was asked to accept."""
    parted: bool = False
    """Whether nobody of those who rang has talked with the caller, as the provider says."""
    empty: int = 0
    """How often a menu got no answer."""
    greeted: bool = False
    """Whether the caller has heard who we are."""
    sent_back: str = ""
    """Username of the operator to whom a transferred call comes back."""
    came_back: str = ""
    """Username of the operator who had the call before it came back to the queue."""
    held: bool = False
    warm: bool = False
    """Whether the operator talks with a colleague while the caller is on hold."""
    operator: str = ""
    """Username whose phone rings when the caller has come to the room."""
    arrived: bool = False
    """Whether the caller has come to the room."""
    taken_at: datetime | None = None
    """When the operator took the call."""
    legs: dict[str, Leg] = field(default_factory=dict)
    """Key of the command that rang it -> leg."""

    @classmethod
    def of(cls, call: Call) -> Way:
        """Where a call is."""
        kept = dict(call.step)
        if kept.get("step"):
            kept["step"] = Step.from_json(kept["step"])
        if kept.get("taken_at"):
            kept["taken_at"] = datetime.fromisoformat(kept["taken_at"])
        kept["legs"] = {key: Leg(**leg) for key, leg in kept.get("legs", {}).items()}
        return cls(**kept)

    def keep(self, call: Call) -> None:
        """Write it to the call's row."""
        value = {one.name: getattr(self, one.name) for one in fields(self)}
        value["step"] = self.step.as_json() if self.step else None
        value["taken_at"] = self.taken_at.isoformat() if self.taken_at else None
        value["legs"] = {
            key: {one.name: getattr(leg, one.name) for one in fields(leg)}
            for key, leg in self.legs.items()
        }
        call.step = value

    def live_legs(self, label: str = "") -> dict[str, Leg]:
        """Legs that ring or talk."""
        return {
            key: leg
            for key, leg in self.legs.items()
            if leg.state != "gone" and label in {"", leg.label}
        }

    def move(self, key: str, state: str) -> bool:
        """Note that a leg has come so far; False when it was there already, or farther."""
        leg = self.legs[key]
        if _LEG_RANK[state] <= _LEG_RANK[leg.state]:
            return False
        leg.state = state
        return True


def find(session: Session, provider: str, call_id: str) -> Call | None:
    """The call with this key of its provider's, for change."""
    found: Call | None = session.execute(_FIND, {"provider": provider, "key": call_id}).scalar()
    return found


def look(session: Session, provider: str, call_id: str) -> Call | None:
    """The call with this key of its provider's, to be read."""
    found: Call | None = session.execute(_LOOK, {"provider": provider, "key": call_id}).scalar()
    return found


def is_known(session: Session, provider: str, call_id: str) -> bool:
    """Whether there is such a call."""
    key = {"provider": provider, "key": call_id}
    return session.connection().execute(_KNOWN, key).scalar() is not None


def by_number(session: Session, number: int) -> Call:
    """The call with our own number, for change. Raises `NotFoundError`."""
    call: Call | None = session.execute(_BY_NUMBER, {"number": number}).scalar()
    if call is None:
        raise NotFoundError
    return call


def inquiry_of(session: Session, call: Call) -> Inquiry:
    """The inquiry of a call."""
    # A session lets go of what nobody holds, and reads it anew each time it is asked for.
    held: dict[int, Inquiry] = session.info.setdefault("inquiries", {})
    inquiry = held.get(call.inquiry_id)
    if inquiry is None:
        inquiry = held[call.inquiry_id] = session.get_one(Inquiry, call.inquiry_id)
    return inquiry


def open_call(
    session: Session, event: CallEvent, inquiry_id: int, plan: NumberPlan, now: datetime
) -> Call:
    """The row of a call that is told of for the first time, in the transaction that made or found
    its inquiry."""
    person, department = plan.owner(event.line)
    call = Call(
        provider=event.provider,
        call_id=event.call_id,
        inquiry_id=inquiry_id,
        direction=Direction(event.direction.value),
        caller=event.caller,
        line=event.line,
        person=person,
        department=department,
        started_at=event.at,
        seen_at=now,
        step={},
    )
    session.add(call)
    session.flush()
    inquiry = inquiry_of(session, call)
    if event.direction is CallDirection.OUT:
        return call
    inquiry.calls += 1
    inquiry.line = event.line
    inquiry.version += 1
    if inquiry.calls == 1:
        inquiry.subject = f"Anrop til {plan.title(event.line)}"
    else:
        events.tell(session, "called_again", inquiry, now, data={"calls": inquiry.calls})
    call_thread.begin(session, call, plan.title(event.line))
    enliven(session, call, now)
    return call


def lose(session: Session, call: Call) -> None:
    """A call whose first ring could not be answered: to be called back, unless more is told."""
    inquiry = inquiry_of(session, call)
    inquiry.kind = KIND
    _defer(inquiry)
    session.flush()


def _defer(inquiry: Inquiry) -> None:
    lane = lane_of(crisis=inquiry.emergency, live=False)
    inquiry.lane = int(lane)
    inquiry.sort_at = inquiry.received_at if lane is Lane.CRISIS else inquiry.due_at


def enliven(session: Session, call: Call, now: datetime) -> None:
    """Put the inquiry where those are who wait for an answer right now."""
    inquiry = inquiry_of(session, call)
    first = call.waiting_since or call.started_at
    if emergency_service(call.caller):
        first -= EMERGENCY_PRIORITY
    elif Way.of(call).priority:
        first -= PRIORITY
    lane, sort_at, *_ = queue_key(
        lane_of(crisis=inquiry.emergency, live=True),
        received_at=inquiry.received_at,
        id=inquiry.ref,
        answer_by=first + ANSWER_WITHIN,
    )
    inquiry.lane, inquiry.sort_at = int(lane), sort_at
    inquiry.last_message_at = max(inquiry.last_message_at, now)


def order(
    session: Session,
    call: Call,
    verb: Verb,
    now: datetime,
    staff_id: int | None = None,
    **arguments: object,
) -> int:
    """Have the provider do something with a call; returns the command's number."""
    command = CallCommand(
        call_id=call.id or 0,
        verb=verb.value,
        arguments=arguments,
        next_at=now,
        created_at=now,
        staff_id=staff_id,
    )
    session.add(command)
    session.flush()
    session.info[_ORDERED] = True
    return command.id or 0


def has_ordered(session: Session) -> bool:
    """Whether the provider is to do something by what has happened in this transaction."""
    return _ORDERED in session.info


def before(call: Call) -> dict[str, Any]:
    """What `send` needs to take back a step, should the provider not carry it out."""
    return {
        "step": call.step,
        "state": call.state.value,
        "staff_id": call.staff_id,
        "person": call.person,
    }


def send(session: Session, call: Call, now: datetime, undo: dict[str, Any]) -> None:
    """Have the caller's call ask for the step at which it stands now."""
    step = Way.of(call).step
    number = step.number if step else 0
    order(session, call, Verb.SEND, now, call.staff_id, number=number, undo=undo)


def take_back_step(call: Call, command: CallCommand) -> bool:
    """Put a call back where it stood before a `send` that was not carried out; False when it has
    gone on since."""
    step = Way.of(call).step
    undo = command.arguments["undo"]
    if call.state is CallState.ENDED or not step or step.number != command.arguments["number"]:
        return False
    call.step, call.state = undo["step"], CallState(undo["state"])
    call.staff_id, call.person = undo["staff_id"], undo["person"]
    return True


def ring(
    session: Session,
    call: Call,
    way: Way,
    label: str,
    user: str,
    plan: NumberPlan,
    now: datetime,
    phone: str = "",
) -> None:
    """Ring a phone; whoever answers joins the caller's room as `label`."""
    to = phone or plan.door.people[user].phone
    number = order(
        session,
        call,
        Verb.RING,
        now,
        call.staff_id,
        label=label,
        to=to,
        seconds=plan.door.ring_seconds,
    )
    way.legs[str(number)] = Leg(label, user)


def note_status(call: Call, status: str) -> None:
    """Note the provider's word for where a call is. It never goes back, and an end is for ever."""
    if is_news(call, status):
        call.provider_status = status


def is_news(call: Call, status: str) -> bool:
    """Whether a provider's word says more of where a call is than what is known."""
    known, told = _rank(call.provider_status), _rank(status)
    return told > known and known != _TERMINAL


def _rank(status: str) -> int:
    return _TERMINAL if status in ENDED_STATUSES else _STATUS_RANK.get(status, -1)


def answered(
    session: Session, call: Call, way: Way, by: str, plan: NumberPlan, now: datetime
) -> None:
    """Somebody talks with the caller."""
    way.talking = by or "?"
    way.sent_back = way.came_back = ""
    way.keep(call)
    call.state = CallState.TALKING
    call.answered_by = by
    call.answered_at = call.answered_at or now
    inquiry = inquiry_of(session, call)
    with counted(session, inquiry):
        inquiry.answered_at = inquiry.answered_at or now
        inquiry.reply_state = ReplyState.ANSWERED
        inquiry.version += 1
    events.tell(
        session, "call_answered", inquiry, now, staff_id=call.staff_id, data=_about(call, by=by)
    )
    _close_callbacks(session, call, plan, now)


def end(
    session: Session, call: Call, plan: NumberPlan, now: datetime, unknown: bool = False
) -> None:
    """The call is over; a second end changes nothing. `unknown`: nobody told so, it is too old."""
    if call.state is CallState.ENDED:
        return
    way = Way.of(call)
    outcome = _outcome(call, way)
    if unknown and outcome is CallOutcome.MISSED:
        outcome = CallOutcome.UNKNOWN
    call.state = CallState.ENDED
    call.ended_at = now
    call.outcome = outcome
    for key, leg in way.live_legs().items():
        order(session, call, Verb.DROP, now, key=int(key))
        leg.state = "gone"
    way.keep(call)
    session.flush()
    data = _about(call, outcome=outcome.value)
    events.tell(session, "call_ended", inquiry_of(session, call), now, data=data)
    _settle(session, call, way, plan, now)


def refine(session: Session, call: Call, plan: NumberPlan, now: datetime) -> None:
    """What was told late says more of how a call ended: `Way.talking`, `message`, or a wish to be
    called back."""
    way = Way.of(call)
    outcome = _outcome(call, way)
    if call.state is not CallState.ENDED or _OUTCOME_RANK[outcome] <= _OUTCOME_RANK[call.outcome]:
        return
    call.outcome = outcome
    if outcome is CallOutcome.ANSWERED:
        answered_by = "" if way.talking == "?" else way.talking
        answered(session, call, way, answered_by, plan, now)
        call.state = CallState.ENDED
    session.flush()
    _settle(session, call, way, plan, now)


def _outcome(call: Call, way: Way) -> CallOutcome:
    if way.talking:
        return CallOutcome.ANSWERED
    if call.wants_callback:
        return CallOutcome.CALLBACK
    if way.message:
        return CallOutcome.VOICEMAIL
    if way.elsewhere:
        return CallOutcome(way.elsewhere)
    return CallOutcome.CLOSED if way.closed else CallOutcome.MISSED


def _settle(session: Session, call: Call, way: Way, plan: NumberPlan, now: datetime) -> None:
    """What the outcome of a call means for its inquiry."""
    inquiry = inquiry_of(session, call)
    if call.direction is Direction.OUT:
        _settle_callback(session, call, inquiry, now)
        return
    answered_now = call.outcome is CallOutcome.ANSWERED
    by_operator = any(
        leg.label == "operator" and leg.user == way.talking for leg in way.legs.values()
    )
    elsewhere = call.outcome in {CallOutcome.FORWARDED, CallOutcome.REJECTED}
    # A call-back that is owed for an earlier call stays owed.
    done = answered_now or (elsewhere and inquiry.calls == 1)
    others = _other_calls(session, call)
    live = any(other.state is not CallState.ENDED for other in others)
    # Somebody who rings twice at a time is reached by one of the calls, be it still going on:
    # should it be lost after all, its own end says so.
    reached = not done and any(
        other.answered_at is not None and other.answered_at >= call.started_at
        for other in others
        if other.outcome in {None, CallOutcome.ANSWERED}
    )
    keeps_place = call.outcome is CallOutcome.CALLBACK and call.waiting_since is not None
    was_open = inquiry.status is InquiryStatus.OPEN
    with counted(session, inquiry):
        inquiry.version += 1
        if not done and not reached:
            inquiry.kind = KIND
            inquiry.reply_state = ReplyState.UNANSWERED
            inquiry.answered_at = None
            inquiry.status, inquiry.closed_at = InquiryStatus.OPEN, None
            if inquiry.assignee_id == call.staff_id:
                inquiry.assignee_id = None  # whoever has time calls back
        elif was_open and not live and not by_operator and (done or not inquiry.assignee_id):
            inquiry.status, inquiry.closed_at = InquiryStatus.CLOSED, now
        if not live and (reached or not keeps_place):
            _defer(inquiry)
    session.flush()
    if was_open and inquiry.status is InquiryStatus.CLOSED:
        events.tell(session, "closed", inquiry, now, data={"by": "call"})
    names = plan.name_of(call.answered_by), plan.name_of(way.operator)
    call_thread.conclude(session, call, *names)
    if not done:
        _join_callbacks(session, call, now)


def _other_calls(session: Session, call: Call) -> list[Call]:
    """The other calls of the same inquiry, the latest of them."""
    return list(
        session.execute(_OTHERS, {"inquiry": call.inquiry_id, "call": call.id or 0}).scalars()
    )


def _join_callbacks(session: Session, call: Call, now: datetime) -> None:
    """Somebody who was talked with, sent on and lost, and meanwhile called once more, is called
    back once: the later inquiry is closed, with a link to the first."""
    if not is_number(call.caller):
        return
    found = session.execute(_IDLE_CALLBACKS, {"caller": call.caller}).scalars()
    first, *others = list(found) or [None]
    for other in others:
        with counted(session, other):
            other.status, other.closed_at = InquiryStatus.CLOSED, now
            other.hint_id = first.id
            other.version += 1
        first.calls += other.calls
        events.tell(session, "callback_joined", other, now, data={"into": first.ref})
        events.tell(session, "called_again", first, now, data={"calls": first.calls})


def _settle_callback(session: Session, call: Call, inquiry: Inquiry, now: datetime) -> None:
    """Somebody called the person back: reached, or tried."""
    if call.outcome is not CallOutcome.ANSWERED:
        events.tell(session, "callback_tried", inquiry, now, data=_about(call))
    elif inquiry.status is InquiryStatus.OPEN:
        with counted(session, inquiry):
            inquiry.status, inquiry.closed_at = InquiryStatus.CLOSED, now
            inquiry.version += 1
        events.tell(session, "callback_reached", inquiry, now, data=_about(call))


def open_callback(session: Session, caller: str) -> Inquiry | None:
    """The open inquiry of somebody with whom nobody has talked yet: there is one for a number."""
    if not is_number(caller):
        return None
    found: Inquiry | None = session.execute(_LATEST_CALLBACK, {"caller": caller}).scalar()
    return found


def _close_callbacks(session: Session, call: Call, plan: NumberPlan, now: datetime) -> None:
    """Whoever has been reached needs no call back: other open ones of the number are closed, with
    the inquiry in which that happened."""
    if not is_number(call.caller):
        return
    since = now - timedelta(hours=plan.door.callback_hours)
    reached = inquiry_of(session, call)
    values = {"caller": call.caller, "since": since, "reached": call.inquiry_id}
    for other in list(session.execute(_RECENT_CALLBACKS, values).scalars()):
        with counted(session, other):
            other.status, other.closed_at = InquiryStatus.CLOSED, now
            other.answered_at = now
            other.reply_state = ReplyState.ANSWERED
            other.hint_id = other.hint_id or call.inquiry_id
            other.version += 1
        session.flush()
        events.tell(session, "callback_reached", other, now, data={"by": reached.ref})


def _about(call: Call, **more: object) -> dict[str, Any]:
    return {"call": call.id, **{name: value for name, value in more.items() if value}}


def tell(session: Session, call: Call, kind: str, now: datetime, **data: object) -> None:
    """Record something that happened to a call."""
    inquiry = inquiry_of(session, call)
    # As `events.tell`, without writing the call out: it will be told of again in this transaction.
    events.record(
        session,
        kind,
        at=now,
        inquiry_id=inquiry.id,
        department=inquiry.department,
        staff_id=call.staff_id,
        data={"ref": inquiry.ref, **_about(call, **data)},
    )
