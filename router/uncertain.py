"""What may have been carried out at the provider: looked up in its lists, never done again blindly.

What is found there has been done. What the lists have not shown for ten minutes has most likely
not; then a person is asked.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import select, text
from sqlmodel import Session, col

from channels.phone.base import CallEvent, CallKind, Verb
from channels.phone.twilio import PROVIDER
from router import call_desk, calls, deliveries, events, outbox
from router.call_models import Call, CallCommand, CallState
from router.calls import Way
from router.models import Event, Inquiry, OutboxItem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from channels.phone.lists import ListedCall, TwilioLists
    from channels.sms.base import SentText, SmsProvider
    from router.db import Database
    from router.number_plan import NumberPlan

log = structlog.get_logger(__name__)

PATIENCE = timedelta(minutes=10)
"""For so long a list may not yet show what was done."""

MANY = 50
"""Looked up in one go."""

ABSENT = "Twilio har ikke meldingen, så den ble trolig aldri sendt."

_O: Any = OutboxItem.__table__  # type: ignore[attr-defined]

# Written out, so that the planner uses the partial indexes.
_UNSENT = text("outbox.state NOT IN ('sent', 'delivered')")
_BY_PROVIDER = text("outbox.channel = 'sms'")

_CALLED_OFF = frozenset({Verb.HANG_UP.value, Verb.DROP.value})
"""What may be told twice: a line that is open for nobody costs money."""


async def look_up_texts(
    db: Database, provider: SmsProvider, blobs: Path, clock: Callable[[], datetime]
) -> None:
    """Look for texts of which it is unknown whether they were sent. Raises a `ChannelError`."""
    query = (
        select(OutboxItem)
        .where(_UNSENT, _O.c.state == "uncertain", _O.c.channel == "sms")
        .order_by(_O.c.id)
        .limit(MANY)
    )
    with db.read() as session:
        items = list(session.execute(query).scalars())
    for item in items:
        found = await provider.find(outbox.outgoing_of(item, blobs))
        await db.write(partial(_settle_text, number=item.id or 0, found=found, now=clock()))


def _settle_text(session: Session, number: int, found: Sequence[SentText], now: datetime) -> None:
    item = session.get_one(OutboxItem, number)
    if item.state != "uncertain":
        return
    ids = [text.status.provider_id for text in found]
    claimed = set(
        session.execute(
            select(_O.c.provider_id).where(_BY_PROVIDER, _O.c.provider_id.in_(ids))
        ).scalars()
    )
    free = [one for one in found if one.status.provider_id not in claimed]
    if free:
        first = min(free, key=lambda one: one.at)
        deliveries.settle(session, item, first.status, now)
        log.info("uncertain.found", outbox=number)
    elif now - _first_looked(session, item, now) >= PATIENCE:
        outbox.fail(session, item, ABSENT, now)
        log.warning("uncertain.absent", outbox=number)


def _first_looked(session: Session, item: OutboxItem, now: datetime) -> datetime:
    """When this attempt was looked for in vain for the first time."""
    key = f"looked_up:{item.id}:{item.attempts}"
    query = select(col(Event.at)).where(col(Event.once) == key)
    known: datetime | None = session.execute(query).scalar()
    if known is None:
        inquiry = session.get_one(Inquiry, item.inquiry_id)
        events.tell(session, "looked_up", inquiry, now, once=key, data={"kind": item.kind})
    return known or now


async def look_up_commands(
    db: Database, lists: TwilioLists, plan: NumberPlan, clock: Callable[[], datetime]
) -> None:
    """Look for what became of commands about calls. Raises a `ChannelError`."""
    query = (
        select(CallCommand)
        .where(col(CallCommand.state) == "uncertain")
        .order_by(col(CallCommand.id).desc())
        .limit(MANY)
    )
    with db.read() as session:
        commands = list(session.execute(query).scalars())
        targets = {command.id: _target(session, command) for command in commands}
    for command in commands:
        if command.verb == Verb.RING.value:
            to = str(command.arguments.get("to", ""))
            legs = await lists.legs_to(to, command.created_at - timedelta(minutes=1))
            job = partial(_settle_ring, number=command.id or 0, legs=legs)
        else:
            target = targets[command.id]
            found = await lists.call(target) if target else None
            job = partial(_settle_command, number=command.id or 0, found=found)
        await db.write(partial(job, plan=plan, now=clock()))


def _target(session: Session, command: CallCommand) -> str:
    """The provider's key of the call or leg that a command was about."""
    call = session.get_one(Call, command.call_id)
    if command.verb != Verb.DROP.value:
        return call.call_id
    leg = Way.of(call).legs.get(str(command.arguments.get("key", "")))
    return leg.leg_id if leg is not None else ""


def _settle_ring(
    session: Session,
    number: int,
    legs: Sequence[ListedCall],
    plan: NumberPlan,
    now: datetime,
) -> None:
    """A phone that was to ring: its leg is in the list, or it never rang."""
    command = session.get_one(CallCommand, number)
    if command.state != "uncertain":
        return
    call = calls.by_number(session, command.call_id)
    own = Way.of(call).legs.get(str(number))
    ids = [leg.id for leg in legs if not leg.inbound]
    claimed = set(
        session.execute(
            select(col(CallCommand.provider_id)).where(col(CallCommand.provider_id).in_(ids))
        ).scalars()
    )
    told = own.leg_id if own is not None else ""  # by its own webhooks, which know the command
    leg = next(
        (
            leg
            for leg in legs
            if leg.id in ids and (leg.id == told if told else leg.id not in claimed)
            if leg.origin == call.line
        ),
        None,
    )
    if leg is not None:
        command.state, command.provider_id, command.detail = "sent", leg.id, ""
        session.flush()
        call_desk.leg(session, call, _as_event(command, call, leg, now), plan, now)
    elif told:
        command.state, command.provider_id, command.detail = "sent", told, ""
    elif now - command.created_at >= PATIENCE:
        _give_up(session, command, plan, now)


def _as_event(command: CallCommand, call: Call, leg: ListedCall, now: datetime) -> CallEvent:
    kind = CallKind.RINGING
    if leg.ended:
        kind = CallKind.ENDED
    elif leg.status == "in-progress":
        kind = CallKind.ANSWERED
    return CallEvent(
        PROVIDER, call.call_id, kind, now, leg_id=leg.id, cause=leg.status, key=command.id
    )


def _settle_command(
    session: Session,
    number: int,
    found: ListedCall | None,
    plan: NumberPlan,
    now: datetime,
) -> None:
    """Something that was to happen with a call or a leg: pointless when that is over. To end a line
    is asked for once more."""
    command = session.get_one(CallCommand, number)
    if command.state != "uncertain":
        return
    call = calls.by_number(session, command.call_id)
    over = found is None or found.ended
    if over:
        command.state, command.detail = "sent" if command.verb in _CALLED_OFF else "dropped", ""
    elif command.verb in _CALLED_OFF:
        command.state, command.next_at, command.detail = "queued", now, ""
    elif call.state is CallState.ENDED:
        command.state, command.detail = "dropped", ""
    elif now - command.created_at >= PATIENCE:
        _give_up(session, command, plan, now)


def _give_up(session: Session, command: CallCommand, plan: NumberPlan, now: datetime) -> None:
    command.state = "failed"
    session.flush()
    call_desk.command_failed(session, command, gone=False, plan=plan, now=now)
