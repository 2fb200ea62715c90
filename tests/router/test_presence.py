"""Presence in the store: who may say what of whom, and what everybody then sees."""

import json
import threading
from dataclasses import replace
from datetime import date, timedelta

import pytest

from router import presence, staff
from router.access import PRESENCE_CHANGED, Actor
from router.call_models import PresenceClaim
from router.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError
from router.models import Role
from router.presence import Directory, directory_of
from rules.presence import Layer, State, Status
from tests.router.store_house import MONDAY, House, house

HOUR = timedelta(hours=1)
LATE = MONDAY.replace(hour=19)


@pytest.fixture
def town(tmp_path):
    with house(tmp_path) as opened:
        yield opened


@pytest.fixture
def directory(town: House) -> Directory:
    return directory_of(town.settings, town.workbench.calendar, town.workbench.hours)


@pytest.fixture
def kari(town: House) -> Actor:
    return town.person("kari", Role.MEMBER, "byggesak")


@pytest.fixture
def olsen(town: House) -> Actor:
    return town.person("olsen", Role.OPERATOR)


def mark(town: House, directory: Directory, actor: Actor, username: str, state, until=None, **more):
    note = more.get("note", "")
    now = town.clock()
    return town.write(
        lambda s: presence.mark(s, actor, username, state, until, note, now, directory)
    )


def clear(town: House, directory: Directory, actor: Actor, username: str) -> Status:
    return town.write(lambda s: presence.clear(s, actor, username, town.clock(), directory))


def status(town: House, directory: Directory, username: str) -> Status:
    with town.db.read() as session:
        return presence.status_of(session, username, town.clock(), directory)


def listed(town: House, directory: Directory, reader: Actor) -> dict[str, presence.Listed]:
    with town.db.read() as session:
        return presence.statuses(session, reader, town.clock(), directory)


def test_a_mark_holds_two_hours_unless_somebody_says_otherwise(town, directory, kari) -> None:
    assert status(town, directory, "kari").state is State.UNKNOWN
    made = mark(town, directory, kari, "kari", State.MEETING)
    assert (made.state, made.reach_phone, made.until) == (State.MEETING, False, MONDAY + 2 * HOUR)
    assert status(town, directory, "kari") == made
    town.clock.move(hours=2)
    assert status(town, directory, "kari").state is State.UNKNOWN


def test_the_end_may_be_the_end_of_the_day_or_a_day_of_return(town, directory, kari) -> None:
    made = mark(town, directory, kari, "kari", State.AWAY, "day")
    assert made.until == MONDAY.replace(day=24, hour=7)  # from 15:45, so the next morning at 8
    made = mark(town, directory, kari, "kari", State.ABSENT, date(2026, 12, 1))
    assert made.layer is Layer.ABSENCE
    assert made.until == MONDAY.replace(month=12, day=1, hour=7)


@pytest.mark.parametrize(
    "end",
    [MONDAY, MONDAY - HOUR, MONDAY + timedelta(days=61), date(2026, 11, 23), date(2027, 2, 1)],
)
def test_an_end_lies_ahead_and_within_60_days(town, directory, kari, end) -> None:
    with pytest.raises(InvalidError):
        mark(town, directory, kari, "kari", State.MEETING, end)
    assert town.count("SELECT count(*) FROM presence_claim") == 0


def test_only_what_a_person_can_know_is_set_by_hand(town, directory, kari) -> None:
    for state in (State.OFF_HOURS, State.UNKNOWN, State.ON_PHONE):
        with pytest.raises(InvalidError):
            mark(town, directory, kari, "kari", state)
    with pytest.raises(InvalidError):
        mark(town, directory, kari, "kari", State.BUSY, note="x" * 201)


def test_the_latest_mark_of_a_person_is_the_only_one(town, directory, kari) -> None:
    mark(town, directory, kari, "kari", State.ABSENT, date(2026, 12, 1))
    town.clock.move(minutes=10)
    mark(town, directory, kari, "kari", State.AVAILABLE, HOUR)
    assert status(town, directory, "kari").state is State.AVAILABLE
    town.clock.move(hours=1)
    assert status(town, directory, "kari").state is State.UNKNOWN


def test_marks_can_be_taken_back(town, directory, kari) -> None:
    mark(town, directory, kari, "kari", State.MEETING)
    assert clear(town, directory, kari, "kari").state is State.UNKNOWN
    assert clear(town, directory, kari, "kari").state is State.UNKNOWN


class TestOthers:
    def test_an_operator_says_it_for_somebody(self, town, directory, kari, olsen) -> None:
        mark(town, directory, olsen, "kari", State.ABSENT, date(2026, 12, 1))
        assert status(town, directory, "kari").state is State.ABSENT
        assert town.rows("SELECT person, set_by FROM presence_claim") == [("kari", "olsen")]
        mark(town, directory, olsen, "kari", State.MEETING)
        assert status(town, directory, "kari").state is State.MEETING, "their own error is mended"

    def test_the_person_overrides_them(self, town, directory, kari, olsen) -> None:
        mark(town, directory, olsen, "kari", State.ABSENT, date(2026, 12, 1))
        mark(town, directory, kari, "kari", State.AVAILABLE)
        assert status(town, directory, "kari").state is State.AVAILABLE
        with pytest.raises(ConflictError):
            mark(town, directory, olsen, "kari", State.MEETING)
        with pytest.raises(ConflictError):
            clear(town, directory, olsen, "kari")
        assert status(town, directory, "kari").state is State.AVAILABLE

    def test_but_absence_can_be_said_at_any_time_and_taken_back(
        self, town, directory, kari, olsen
    ) -> None:
        mark(town, directory, kari, "kari", State.MEETING, 3 * HOUR)
        town.clock.move(minutes=30)
        mark(town, directory, olsen, "kari", State.ABSENT, "day")
        assert status(town, directory, "kari").state is State.ABSENT
        clear(town, directory, olsen, "kari")
        assert status(town, directory, "kari").state is State.MEETING

    def test_colleagues_do_not(self, town, directory, kari) -> None:
        ola = town.person("ola", Role.LEAD, "byggesak")
        with pytest.raises(ForbiddenError):
            mark(town, directory, ola, "kari", State.ABSENT)
        with pytest.raises(ForbiddenError):
            clear(town, directory, ola, "kari")

    def test_nobody_marks_a_stranger_or_who_has_left(self, town, directory, olsen) -> None:
        town.person("borte", Role.MEMBER, "vei")
        town.write(
            lambda s: staff.set_active(s, staff.require_staff(s, "borte"), MONDAY, active=False)
        )
        for username in ("ingen", "borte", "api-1"):
            with pytest.raises(NotFoundError):
                mark(town, directory, olsen, username, State.AWAY)


class TestHours:
    def test_outside_working_hours_nobody_is_there(self, town, directory, kari) -> None:
        town.clock.now = LATE
        found = status(town, directory, "kari")
        assert (found.state, found.reach_phone) == (State.OFF_HOURS, False)
        assert found.until == MONDAY.replace(day=24, hour=7)

    def test_of_their_own_department(self, town, directory) -> None:
        town.person("bok", Role.MEMBER, "bibliotek")
        town.person("begge", Role.MEMBER, "bibliotek", "vei")
        town.clock.now = MONDAY.replace(hour=17)  # the library closes at 19 by the clock
        assert status(town, directory, "bok").state is State.UNKNOWN
        assert status(town, directory, "begge").state is State.OFF_HOURS

    def test_as_the_number_plan_says(self, town, directory) -> None:
        people = {"kari": directory.people["kari"].model_copy(update={"department": "bibliotek"})}
        town.clock.now = MONDAY.replace(hour=17)
        moved = replace(directory, people=people)
        assert status(town, moved, "kari").state is State.UNKNOWN
        assert status(town, directory, "kari").state is State.OFF_HOURS


class TestDirectory:
    def test_accounts_and_the_number_plan_are_one_list(self, town, directory, kari, olsen) -> None:
        town.person("ås", Role.MEMBER, "vei", "park")
        lines = listed(town, directory, olsen)
        assert list(lines) == ["kari", "ola", "olsen", "ås"]
        assert lines["kari"].phone == "+4763869101", "the number that leads to her"
        assert lines["kari"].deputy == "ola"
        assert lines["ola"].departments == ("byggesak",)
        assert lines["ås"].departments == ("park", "vei")
        assert lines["ås"].phone == ""

    def test_notes_are_for_operators_and_the_person(self, town, directory, kari, olsen) -> None:
        mark(town, directory, kari, "kari", State.MEETING, note="Budsjett, rom 4")
        ola = town.person("ola", Role.LEAD, "byggesak")
        for reader, note in ((kari, "Budsjett, rom 4"), (olsen, "Budsjett, rom 4"), (ola, "")):
            line = listed(town, directory, reader)["kari"]
            assert (line.note, line.status.state) == (note, State.MEETING)
        assert listed(town, directory, ola)["kari"].set_by == ""

    def test_it_agrees_with_what_is_asked_of_one(self, town, directory, kari, olsen) -> None:
        mark(town, directory, kari, "kari", State.HOME_OFFICE, "day")
        for username, line in listed(town, directory, olsen).items():
            assert line.status == status(town, directory, username)


class TestTold:
    def told(self, town: House) -> list[tuple]:
        rows = town.rows(
            "SELECT data, department, staff_id FROM event WHERE kind = :kind ORDER BY id",
            kind=PRESENCE_CHANGED,
        )
        return [(json.loads(data), *more) for data, *more in rows]

    def test_a_change_is_told_without_what_was_written(self, town, directory, kari) -> None:
        mark(town, directory, kari, "kari", State.MEETING, note="Budsjett")
        assert self.told(town) == [
            ({"person": "kari", "state": "meeting", "until": "2026-11-23T10:00:00Z"}, "", None)
        ]

    def test_an_end_is_told_once(self, town, directory, kari) -> None:
        mark(town, directory, kari, "kari", State.MEETING, HOUR)
        sweep = lambda s: presence.announce_ended(s, town.clock(), directory)  # noqa: E731
        assert town.write(sweep) == 0
        town.clock.move(hours=1)
        with town.db.read() as session:
            assert presence.any_untold(session, town.clock())
        assert town.write(sweep) == 1
        with town.db.read() as session:
            assert not presence.any_untold(session, town.clock())
        assert town.write(sweep) == 0
        assert self.told(town)[-1][0] == {"person": "kari", "state": "unknown", "until": None}

    def test_all_of_it_is_forgotten_after_30_days(self, town, directory, kari) -> None:
        mark(town, directory, kari, "kari", State.MEETING, HOUR)
        town.clock.move(days=30, hours=1)
        town.write(lambda s: presence.forget_old(s, town.clock()))
        assert town.count("SELECT count(*) FROM presence_claim") == 1
        assert len(self.told(town)) == 0
        town.clock.move(minutes=1)
        assert town.write(lambda s: presence.forget_old(s, town.clock())) == 1
        assert town.count("SELECT count(*) FROM presence_claim") == 0


def test_other_sources_are_left_alone_by_hand(town, directory, kari) -> None:
    calendar = PresenceClaim(
        person="kari",
        source="calendar",
        layer=Layer.CALENDAR,
        state=State.MEETING,
        starts_at=MONDAY - HOUR,
        ends_at=MONDAY + HOUR,
        observed_at=MONDAY - HOUR,
    )
    town.write(lambda session: session.add(calendar))
    mark(town, directory, kari, "kari", State.AVAILABLE)
    assert status(town, directory, "kari").state is State.AVAILABLE
    clear(town, directory, kari, "kari")
    assert status(town, directory, "kari").state is State.MEETING


def test_two_who_mark_at_the_same_moment_leave_one_mark(town, directory, kari) -> None:
    states = [State.AWAY, State.MEETING] * 8
    threads = [
        threading.Thread(target=mark, args=(town, directory, kari, "kari", state))
        for state in states
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    standing = "SELECT count(*) FROM presence_claim WHERE ends_at > :now"
    assert town.count(standing, now=MONDAY.isoformat(" ")[:19] + ".000000") == 1
