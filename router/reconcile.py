"""What webhooks missed: calls that never end, and whatever the provider's own lists know and we do
not.

Lists overlap from one look to the next, and all that they say goes the way of the webhooks, where
what is known already changes nothing. How far they have been looked through is written down after
that, so a look that was cut off is done again.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import select, text
from sqlmodel import Session, col

from channels.base import ChannelError
from channels.phone.base import CallEvent, CallKind
from channels.phone.lists import TwilioLists
from channels.phone.twilio import PROVIDER
from channels.sms import twilio as texts
from router import call_flow, calls, deliveries, uncertain
from router.call_models import Call, CallState, ProviderWindow, Recording

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from channels.phone.lists import ListedCall, ListedRecording
    from channels.sms.base import SmsProvider
    from router.hall import Hall
    from router.number_plan import NumberPlan

log = structlog.get_logger(__name__)

OVERLAP = timedelta(minutes=10)
"""How far a look goes back before the end of the last one, and the first before its own time."""

LATE = timedelta(minutes=30)
"""How long the provider's lists may be out of reach before somebody is told."""

SLACK = timedelta(minutes=15)
"""What a call may last longer than a talk: ringing, waiting, leaving a message."""

SILENT = timedelta(minutes=2)
"""A live call of which nothing was heard for so long is asked for by itself."""

MANY = 100
"""Calls that are asked for in one look."""

# Written out, so that the planner uses the partial index.
_IS_LIVE = text("call.state <> 'ended'")


class Reconciler:
    """Compares the provider's lists with ours, and takes in what is missing."""

    def __init__(self, hall: Hall) -> None:
        self._hall = hall
        self._began = hall.clock()
        self.problem = ""
        """Since when the lists have been out of reach, when that is too long; else empty."""

    async def run(self) -> None:
        """Look through every list. One that cannot be had holds up no other."""
        for name, look in self._looks().items():
            now = self._hall.clock()
            try:
                await look(self._since(name, now))
                await self._look_up(name)
            except ChannelError as error:
                log.warning("reconcile.refused", what=name, error=type(error).__name__)
            else:
                await self._hall.db.write(partial(_note_window, name=name, until=now))
        self.problem = self._problem()

    def _looks(self) -> dict[str, Callable[[datetime], Awaitable[None]]]:
        settings, account = self._hall.settings, self._hall.twilio
        looks: dict[str, Callable[[datetime], Awaitable[None]]] = {}
        if account is None:
            return looks
        if settings.channels.phone.enabled and self._hall.plan is not None:
            line = _Line(self._hall, TwilioLists(account), self._hall.plan)
            looks |= {"calls": line.calls, "recordings": line.recordings}
        if settings.channels.sms.enabled and settings.channels.sms.provider == "twilio":
            looks["messages"] = self._messages
        return looks

    def _since(self, name: str, now: datetime) -> datetime:
        with self._hall.db.read() as session:
            window = session.get(ProviderWindow, _key(name))
        overlap = OVERLAP
        if name == "recordings":  # a list shows when they were begun
            overlap += timedelta(seconds=self._hall.settings.channels.phone.voicemail_seconds)
        return (window.until if window is not None else now) - overlap

    async def _messages(self, since: datetime) -> None:
        hall = self._hall
        window = await self._sms.since(since)
        ours = frozenset(hall.settings.channels.sms.numbers)
        for arrival in window.arrived:
            if texts.read(arrival.raw).to in ours:
                await hall.reception.receive(arrival)
        for sent in window.sent:
            await hall.db.write(partial(deliveries.report, status=sent.status, now=hall.clock()))

    async def _look_up(self, name: str) -> None:
        """Find out what became of what may have been carried out."""
        hall = self._hall
        if name == "messages":
            await uncertain.look_up_texts(hall.db, self._sms, hall.settings.blobs, hall.clock)
        elif name == "calls" and hall.twilio is not None and hall.plan is not None:
            lists = TwilioLists(hall.twilio)
            await uncertain.look_up_commands(hall.db, lists, hall.plan, hall.clock)

    @property
    def _sms(self) -> SmsProvider:
        provider: SmsProvider = self._hall.channels["sms"].provider  # type: ignore[attr-defined]
        return provider

    def _problem(self) -> str:
        now = self._hall.clock()
        with self._hall.db.read() as session:
            known = {name: session.get(ProviderWindow, _key(name)) for name in self._looks()}
        since = min(
            (window.until if window is not None else self._began for window in known.values()),
            default=now,
        )
        if now - since <= LATE:
            return ""
        return f"The provider's lists have been out of reach since {since:%Y-%m-%d %H:%M} UTC."


class _Line:
    """Calls and recordings of the provider's lists, on their way in."""

    def __init__(self, hall: Hall, lists: TwilioLists, plan: NumberPlan) -> None:
        self._hall = hall
        self._lists = lists
        self._plan = plan

    async def calls(self, since: datetime) -> None:
        """Take in calls nobody told us of, and the end of those that have ended."""
        now = self._hall.clock()
        listed = await self._lists.calls(since)
        answered = {leg.parent for leg in listed if leg.parent and leg.talked}
        told = [call for call in listed if call.inbound and call.target in self._plan.owners]
        for call in self._news(told):
            await self._take_in(call, call.id in answered)
        for call_id in self._silent({call.id for call in told}, now):
            found = await self._lists.call(call_id)
            if found is not None:
                await self._take_in(found, answered=False)

    async def recordings(self, since: datetime) -> None:
        """Take in recordings nobody told us of; whoever left one has called."""
        listed = [one for one in await self._lists.recordings(since) if one.ready]
        with self._hall.db.read() as session:
            known = set(
                session.execute(
                    select(col(Recording.recording_id)).where(
                        col(Recording.recording_id).in_(
                            [one.recording.recording_id for one in listed]
                        )
                    )
                ).scalars()
            )
        for one in listed:
            if one.recording.recording_id not in known:
                await self._take_recording(one)

    async def _take_recording(self, one: ListedRecording) -> None:
        with self._hall.db.read() as session:
            known = calls.is_known(session, PROVIDER, one.call_id)
        if not known:
            call = await self._lists.call(one.call_id)
            if call is None or not call.inbound or call.target not in self._plan.owners:
                return  # of somebody else who uses the account
            await self._take_in(call, answered=False)
        now = self._hall.clock()
        event = CallEvent(PROVIDER, one.call_id, CallKind.RECORDING, now, recording=one.recording)

        def job(session: Session) -> None:
            found = calls.find(session, PROVIDER, one.call_id)
            if found is not None:
                call_flow.apply(session, found, event, self._plan, now)

        await self._hall.db.write(job)

    def _news(self, listed: Sequence[ListedCall]) -> list[ListedCall]:
        """Those that we do not know, and those that we take for going on."""
        with self._hall.db.read() as session:
            found = session.execute(
                select(col(Call.call_id), col(Call.state)).where(
                    col(Call.provider) == PROVIDER,
                    col(Call.call_id).in_([call.id for call in listed]),
                )
            ).all()
        over = {call_id for call_id, state in found if state is CallState.ENDED}
        return [call for call in listed if call.id not in over]

    def _silent(self, listed: set[str], now: datetime) -> list[str]:
        """Live calls that no list showed, and of which nothing was heard lately."""
        query = (
            select(col(Call.call_id))
            .where(
                _IS_LIVE,
                col(Call.provider) == PROVIDER,
                col(Call.seen_at) <= now - SILENT,
                col(Call.call_id).not_in(listed),
            )
            .order_by(col(Call.id))
            .limit(MANY)
        )
        with self._hall.db.read() as session:
            return list(session.execute(query).scalars())

    async def _take_in(self, listed: ListedCall, answered: bool) -> None:
        """`answered`: somebody outside our doors talked with the caller, as the standby number does
        while we are down."""
        now = self._hall.clock()
        ring = listed.event(CallKind.RINGING, now)
        over = listed.event(CallKind.ENDED, now)

        def job(session: Session, call: Call) -> None:
            call.seen_at = now
            if not listed.ended:
                return
            # Of a call that came to our doors, they know better who talked with whom.
            if answered and not call.step:
                said = listed.event(CallKind.ANSWERED, now)
                call_flow.apply(session, call, said, self._plan, said.at)
            call_flow.apply(session, call, over, self._plan, over.at)

        await self._hall.reception.receive_call(ring, job)


def end_stale(session: Session, plan: NumberPlan, now: datetime) -> int:
    """End calls of which nobody has told for so long that their end must have been lost; returns
    how many."""
    stale = timedelta(hours=plan.door.cti.stale_hours)
    talk = timedelta(hours=plan.door.talk_hours) + SLACK
    query = select(Call).where(_IS_LIVE, col(Call.seen_at) <= now - min(stale, talk))
    ended = [
        call
        for call in session.execute(query).scalars()
        if call.seen_at <= now - (talk if call.provider in calls.CONTROLLED else stale)
    ]
    for call in ended:
        calls.end(session, call, plan, now, unknown=True)
    return len(ended)


def _key(name: str) -> str:
    return f"{PROVIDER}:{name}"


def _note_window(session: Session, name: str, until: datetime) -> None:
    session.merge(ProviderWindow(name=_key(name), until=until))
