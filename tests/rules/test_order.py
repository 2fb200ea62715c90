"""The queue's order."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from rules.order import Lane, lane_of, queue_key

T = datetime(2026, 11, 23, 12, tzinfo=UTC)


def seconds(n: int) -> datetime:
    return T + timedelta(seconds=n)


def test_lanes() -> None:
    assert lane_of(crisis=True, live=True) is Lane.CRISIS
    assert lane_of(crisis=True, live=False) is Lane.CRISIS
    assert lane_of(crisis=False, live=True) is Lane.LIVE
    assert lane_of(crisis=False, live=False) is Lane.DEFERRABLE


def test_crisis_before_live_before_the_rest_whatever_the_times() -> None:
    overdue = queue_key(Lane.DEFERRABLE, received_at=T, id=1, due_at=T - timedelta(days=9))
    call = queue_key(Lane.LIVE, received_at=seconds(50), id=2, answer_by=seconds(70))
    crisis = queue_key(Lane.CRISIS, received_at=seconds(99), id=3, answer_by=seconds(999))
    assert sorted([overdue, call, crisis]) == [crisis, call, overdue]


def test_a_chat_past_its_target_beats_a_fresh_call() -> None:
    chat = queue_key(Lane.LIVE, received_at=seconds(0), id=1, answer_by=seconds(60))
    call = queue_key(Lane.LIVE, received_at=seconds(55), id=2, answer_by=seconds(75))
    early_call = queue_key(Lane.LIVE, received_at=seconds(30), id=3, answer_by=seconds(50))
    assert sorted([call, chat, early_call]) == [early_call, chat, call]


def test_deferrable_by_due_time_then_arrival_then_id() -> None:
    keys = [
        queue_key(Lane.DEFERRABLE, received_at=seconds(received), id=number, due_at=seconds(due))
        for received, due, number in [(0, 500, 1), (5, 100, 2), (3, 100, 3), (3, 100, 4)]
    ]
    assert [key[3] for key in sorted(keys)] == [3, 4, 2, 1]


def test_without_a_time_of_its_own_arrival_counts() -> None:
    assert queue_key(Lane.LIVE, received_at=T, id=1)[1] == T
    assert queue_key(Lane.DEFERRABLE, received_at=T, id=1)[1] == T


@given(st.lists(st.tuples(st.sampled_from(Lane), st.integers(0, 9), st.integers(0, 9)), max_size=9))
def test_the_order_is_total_and_does_not_depend_on_the_start(rows: list) -> None:
    keys = [
        queue_key(lane, received_at=seconds(a), id=i, due_at=seconds(b), answer_by=seconds(b))
        for i, (lane, a, b) in enumerate(rows)
    ]
    ordered = sorted(keys)
    keys.reverse()
    assert sorted(keys) == ordered
    assert len(set(keys)) == len(keys)
