"""One answer from many claims: which layer decides, who is back when, and what never matters."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.calendar import WorkingCalendar
from rules.presence import Claim, Layer, State, ending, resolve

TOWN_HALL = WorkingCalendar(hours={"mon-fri": ["08:00-15:45"]}, half_days={"12-24": "12:00"})
NEVER = WorkingCalendar(hours={})


def at(text: str) -> datetime:
    """An instant by the clock on the wall in November, an hour ahead of UTC."""
    return datetime.fromisoformat(f"{text}+01:00").astimezone(UTC)


NOW = at("2026-11-24T10:00")  # a Tuesday
HOUR = timedelta(hours=1)


def claim(
    state: State,
    until: str = "",
    layer: Layer = Layer.MANUAL,
    since: datetime = NOW - HOUR,
    **more: object,
) -> Claim:
    return replace(
        Claim(
            id=1,
            layer=layer,
            state=state,
            starts_at=since,
            observed_at=since,
            ends_at=at(until) if until else None,
        ),
        **more,
    )


ABSENT = claim(State.ABSENT, "2026-11-27T00:00", Layer.ABSENCE, id=2)
MEETING = claim(State.MEETING, "2026-11-24T14:00")
AT_THE_DESK = claim(State.AVAILABLE, layer=Layer.LIVE, lease_until=NOW + HOUR, id=3)
IN_CALENDAR = claim(State.MEETING, "2026-11-24T11:00", Layer.CALENDAR, id=4)


def test_nothing_is_known_of_somebody_of_whom_nothing_was_said() -> None:
    status = resolve([], NOW, TOWN_HALL)
    assert (status.state, status.reach_phone, status.reach_chat) == (State.UNKNOWN, None, None)
    assert status.until is None
    assert status.claim is None


def test_who_is_in_a_meeting_is_back_when_it_ends() -> None:
    status = resolve([MEETING], NOW, TOWN_HALL)
    assert (status.state, status.reach_phone, status.reach_chat) == (State.MEETING, False, False)
    assert status.until == at("2026-11-24T14:00")
    assert (status.layer, status.claim) == (Layer.MANUAL, 1)


@pytest.mark.parametrize(
    ("claims", "state"),
    [
        ([ABSENT, MEETING, AT_THE_DESK, IN_CALENDAR], State.ABSENT),
        ([MEETING, AT_THE_DESK], State.MEETING),
        ([AT_THE_DESK, IN_CALENDAR], State.AVAILABLE),
        ([IN_CALENDAR], State.MEETING),
    ],
)
def test_the_first_layer_that_speaks_decides(claims: list[Claim], state: State) -> None:
    assert resolve(claims, NOW, TOWN_HALL).state is state


def test_who_is_away_and_seen_at_the_desk_is_away_and_said_to_be_online() -> None:
    status = resolve([ABSENT, AT_THE_DESK], NOW, TOWN_HALL)
    assert (status.state, status.online, status.reach_phone) == (State.ABSENT, True, False)


def test_what_was_said_last_holds() -> None:
    later = claim(State.AVAILABLE, "2026-11-24T12:00", since=NOW - HOUR / 2, id=9)
    assert resolve([MEETING, later], NOW, TOWN_HALL).state is State.AVAILABLE


def test_the_person_overrides_who_speaks_for_them() -> None:
    own = replace(MEETING, by_self=True)
    theirs = claim(State.AVAILABLE, "2026-11-24T16:00", since=NOW - HOUR / 2, id=9)
    assert resolve([own, theirs], NOW, TOWN_HALL).state is State.MEETING


@pytest.mark.parametrize(
    ("states", "winner"),
    [
        ((State.BUSY, State.ON_PHONE, State.MEETING), State.BUSY),
        ((State.ON_PHONE, State.MEETING, State.AVAILABLE), State.ON_PHONE),
        ((State.MEETING, State.AVAILABLE), State.MEETING),
        ((State.AVAILABLE, State.AWAY), State.AVAILABLE),
    ],
)
def test_among_live_sources_the_busiest_counts_and_one_idle_client_does_not(
    states: tuple[State, ...], winner: State
) -> None:
    claims = [claim(state, layer=Layer.LIVE, id=n) for n, state in enumerate(states)]
    assert resolve(claims, NOW).state is winner


def test_a_call_keeps_from_the_phone_and_says_nothing_of_the_chat() -> None:
    calling = claim(State.ON_PHONE, layer=Layer.LIVE, id=8)
    status = resolve([calling, AT_THE_DESK], NOW)
    assert (status.state, status.reach_phone, status.reach_chat) == (State.ON_PHONE, False, True)
    assert resolve([calling], NOW).reach_chat is None


def test_lunch_counts_within_a_day_at_home() -> None:
    home = claim(State.HOME_OFFICE, "2026-11-24T15:45", Layer.CALENDAR, id=5)
    lunch = claim(State.AWAY, "2026-11-24T10:30", Layer.CALENDAR, since=NOW - 2 * HOUR, id=6)
    assert resolve([home, lunch], NOW, TOWN_HALL).state is State.AWAY
    status = resolve([home], NOW, TOWN_HALL)
    assert (status.reach_phone, status.until) == (True, at("2026-11-24T15:45"))


def test_a_source_may_say_that_somebody_busy_takes_calls() -> None:
    status = resolve([claim(State.BUSY, "2026-11-24T11:00", reach_phone=True)], NOW, TOWN_HALL)
    assert (status.state, status.reach_phone, status.reach_chat) == (State.BUSY, True, False)


class TestReturn:
    def test_after_the_last_of_meetings_in_a_row(self) -> None:
        claims = [
            MEETING,
            claim(State.BUSY, "2026-11-24T15:00", Layer.CALENDAR, since=at("2026-11-24T13:30")),
            claim(State.MEETING, "2026-11-24T15:30", Layer.CALENDAR, since=at("2026-11-24T15:00")),
        ]
        assert resolve(claims, NOW, TOWN_HALL).until == at("2026-11-24T15:30")

    def test_not_before_a_gap(self) -> None:
        later = claim(State.BUSY, "2026-11-24T15:00", Layer.CALENDAR, since=at("2026-11-24T14:30"))
        assert resolve([MEETING, later], NOW, TOWN_HALL).until == at("2026-11-24T14:00")

    def test_the_next_morning_when_the_day_is_over(self) -> None:
        late = claim(State.MEETING, "2026-11-24T17:00")
        assert resolve([late], NOW, TOWN_HALL).until == at("2026-11-25T08:00")

    def test_after_the_holidays(self) -> None:
        christmas = claim(State.AWAY, "2026-12-24T13:00", since=at("2026-12-24T11:00"))
        status = resolve([christmas], at("2026-12-24T11:30"), TOWN_HALL)
        assert status.until == at("2026-12-28T08:00")  # Monday after Christmas and the weekend

    def test_over_an_evening_into_leave(self) -> None:
        leave = claim(
            State.ABSENT, "2026-12-01T00:00", Layer.ABSENCE, since=at("2026-11-25T00:00"), id=7
        )
        late = claim(State.MEETING, "2026-11-24T15:45")
        assert resolve([late, leave], NOW, TOWN_HALL).until == at("2026-12-01T08:00")
        evening = at("2026-11-24T19:00")
        status = resolve([leave], evening, TOWN_HALL)
        assert (status.state, status.until) == (State.OFF_HOURS, at("2026-12-01T08:00"))

    def test_unknown_where_nobody_said_or_nothing_opens(self) -> None:
        assert resolve([replace(MEETING, ends_at=None)], NOW, TOWN_HALL).until is None
        assert resolve([MEETING], NOW, NEVER).until is None
        endless = claim(State.ABSENT, "", Layer.ABSENCE, since=at("2026-11-24T13:00"), id=7)
        assert resolve([MEETING, endless], NOW, TOWN_HALL).until is None

    def test_as_said_without_working_hours(self) -> None:
        late = claim(State.MEETING, "2026-11-24T22:00")
        assert resolve([late], NOW).until == at("2026-11-24T22:00")


@pytest.mark.parametrize(
    ("instant", "back"),
    [
        ("2026-11-24T07:59", "2026-11-24T08:00"),
        ("2026-11-24T15:45", "2026-11-25T08:00"),
        ("2026-11-28T12:00", "2026-11-30T08:00"),
    ],
)
def test_outside_working_hours_nobody_is_reached(instant: str, back: str) -> None:
    status = resolve([], at(instant), TOWN_HALL)
    assert (status.state, status.reach_phone, status.reach_chat) == (State.OFF_HOURS, False, False)
    assert status.until == at(back)


def test_who_says_so_is_reached_outside_working_hours() -> None:
    evening = at("2026-11-24T18:00")
    duty = claim(State.AVAILABLE, "2026-11-24T20:00", since=evening)
    status = resolve([duty], evening, TOWN_HALL)
    assert (status.state, status.reach_phone) == (State.AVAILABLE, True)
    assert status.until == at("2026-11-24T20:00")


class TestEnding:
    def test_two_hours_when_nothing_is_said(self) -> None:
        assert ending(None, NOW, TOWN_HALL) == NOW + 2 * HOUR

    def test_an_instant_or_a_length_is_taken_as_it_is(self) -> None:
        assert ending(at("2026-11-24T12:15"), NOW, TOWN_HALL) == at("2026-11-24T12:15")
        assert ending(HOUR, NOW, TOWN_HALL) == NOW + HOUR

    def test_the_day_ends_at_closing_time(self) -> None:
        assert ending("day", NOW, TOWN_HALL) == at("2026-11-24T15:45")
        assert ending("day", at("2026-12-24T09:00"), TOWN_HALL) == at("2026-12-24T12:00")

    def test_and_at_midnight_when_it_has_closed(self) -> None:
        assert ending("day", at("2026-11-24T16:00"), TOWN_HALL) == at("2026-11-25T00:00")
        assert ending("day", at("2026-11-28T12:00"), TOWN_HALL) == at("2026-11-29T00:00")

    def test_a_date_is_the_day_of_return(self) -> None:
        assert ending(date(2026, 12, 1), NOW, TOWN_HALL) == at("2026-12-01T00:00")


# Instants around NOW, so that claims of every kind meet.
INSTANTS = st.integers(-96, 96).map(lambda quarters: NOW + quarters * HOUR / 4)
CLAIMS = st.lists(
    st.builds(
        Claim,
        id=st.integers(1, 10_000),
        layer=st.sampled_from([Layer.ABSENCE, Layer.MANUAL, Layer.LIVE, Layer.CALENDAR]),
        state=st.sampled_from([s for s in State if s not in {State.OFF_HOURS, State.UNKNOWN}]),
        starts_at=INSTANTS,
        observed_at=INSTANTS,
        ends_at=st.none() | INSTANTS,
        lease_until=st.none() | INSTANTS,
        by_self=st.booleans(),
        reach_phone=st.none() | st.booleans(),
        reach_chat=st.none() | st.booleans(),
    ),
    max_size=8,
    unique_by=lambda claim: claim.id,
)
SCHEDULES = st.sampled_from([None, TOWN_HALL, NEVER])


@given(CLAIMS, SCHEDULES, st.randoms(use_true_random=False))
def test_the_order_of_claims_makes_no_difference(claims, schedule, random) -> None:
    expected = resolve(claims, NOW, schedule)
    mixed = list(claims)
    random.shuffle(mixed)
    assert resolve(mixed, NOW, schedule) == expected == resolve(iter(claims), NOW, schedule)


@given(CLAIMS, SCHEDULES)
def test_a_claim_that_has_expired_never_matters(claims, schedule) -> None:
    present = [
        claim
        for claim in claims
        if all(end is None or end > NOW for end in (claim.ends_at, claim.lease_until))
    ]
    assert resolve(claims, NOW, schedule) == resolve(present, NOW, schedule)


@given(CLAIMS, SCHEDULES, st.sampled_from(State), st.none() | INSTANTS)
def test_a_stale_live_claim_changes_nothing(claims, schedule, state, end) -> None:
    stale = claim(state, layer=Layer.LIVE, id=20_000, ends_at=end, lease_until=NOW)
    assert resolve([*claims, stale], NOW, schedule) == resolve(claims, NOW, schedule)


@given(CLAIMS, SCHEDULES)
def test_absence_beats_everything(claims, schedule) -> None:
    status = resolve([*claims, replace(ABSENT, id=20_000)], NOW, schedule)
    assert (status.layer, status.reach_phone, status.reach_chat) == (Layer.ABSENCE, False, False)


@given(CLAIMS, SCHEDULES, st.sampled_from([Layer.LIVE, Layer.CALENDAR]))
def test_a_source_that_falls_silent_reads_neither_as_absent_nor_as_free(
    claims, schedule, lost
) -> None:
    left = [claim for claim in claims if claim.layer is not lost]
    status = resolve(left, NOW, schedule)
    saying = next((claim for claim in left if claim.id == status.claim), None)
    if status.reach_phone or status.reach_chat or status.state in {State.ABSENT, State.AVAILABLE}:
        assert saying is not None
        assert saying.covers(NOW)
    if saying is not None:
        assert saying.state is status.state


@given(CLAIMS, SCHEDULES)
def test_what_is_promised_lies_ahead_and_in_working_hours(claims, schedule) -> None:
    status = resolve(claims, NOW, schedule)
    if status.until is None:
        return
    assert status.until > NOW
    if schedule is not None and not status.reach_phone:
        assert schedule.is_open(status.until)
        lasting = [
            claim
            for claim in claims
            if claim.layer is not Layer.LIVE
            and (claim.lease_until is None or claim.lease_until > NOW)
        ]
        again = resolve([replace(c, lease_until=None) for c in lasting], status.until, schedule)
        assert again.reach_phone is not False
