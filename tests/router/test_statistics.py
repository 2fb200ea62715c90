"""What the statistics page says of a period."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from router import statistics
from router.call_models import Call, CallOutcome, CallState
from router.models import Inquiry
from tests.router.store_house import house

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
WEEK = NOW - timedelta(days=7)


@pytest.fixture
def home(tmp_path):
    with house(tmp_path) as opened:
        yield opened


def inquiry(session, ref, *, channel="email", age=1.0, answered_after=None, due_after=3.0):
    received = NOW - timedelta(days=age)
    due = received + timedelta(days=due_after)
    one = Inquiry(
        ref=ref,
        channel=channel,
        department="vei",
        received_at=received,
        due_at=due,
        warn_at=due,
        target="service",
        last_message_at=received,
        lane=2,
        sort_at=due,
        answered_at=None if answered_after is None else received + timedelta(days=answered_after),
    )
    session.add(one)
    session.flush()
    return one


def test_inquiries_are_counted_by_whether_they_were_answered_in_time(home):
    def job(session):
        inquiry(session, "S-2026-900001", answered_after=0.5)
        inquiry(session, "S-2026-900002", age=6, answered_after=5)
        inquiry(session, "S-2026-900003", age=6, channel="sms")
        inquiry(session, "S-2026-900004")
        inquiry(session, "S-2026-900005", age=8, answered_after=1)

    home.db.write_sync(job)
    with home.db.read() as session:
        figures = statistics.inquiries(session, WEEK, NOW)
    assert figures.by_channel == {"email": 3, "sms": 1}
    assert (figures.received, figures.answered) == (4, 2)
    assert (figures.in_time, figures.late, figures.due) == (1, 2, 3)
    assert figures.typical == timedelta(days=2.75)


def test_calls_that_never_needed_the_switchboard_are_a_figure(home):
    def call(session, number, outcome, answered=None, *, through=False):
        one = inquiry(session, f"S-2026-91000{number}", channel="phone")
        started = NOW - timedelta(hours=number)
        session.add(
            Call(
                provider="twilio",
                call_id=f"CA{number}",
                inquiry_id=one.id,
                state=CallState.ENDED,
                outcome=outcome,
                started_at=started,
                seen_at=started,
                ended_at=started,
                answered_at=None if answered is None else started + timedelta(seconds=answered),
                through_switchboard=through,
            )
        )

    def job(session):
        call(session, 1, CallOutcome.ANSWERED, 12)
        call(session, 2, CallOutcome.ANSWERED, 45)
        call(session, 3, CallOutcome.ANSWERED, 5, through=True)
        call(session, 4, CallOutcome.MISSED, through=True)

    home.db.write_sync(job)
    with home.db.read() as session:
        figures = statistics.calls(session, WEEK)
    assert (figures.received, figures.answered, figures.prompt, figures.direct) == (4, 3, 2, 2)
    assert figures.outcomes == {CallOutcome.ANSWERED: 3, CallOutcome.MISSED: 1}


def test_a_quiet_period_has_no_figures(home):
    with home.db.read() as session:
        figures = statistics.inquiries(session, WEEK, NOW)
        calls = statistics.calls(session, WEEK)
    assert (figures.received, figures.typical, calls.received) == (0, None, 0)
