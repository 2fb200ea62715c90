"""Accounts: passwords, lock-out, one-time links, sessions and API tokens, on a real store."""

from __future__ import annotations

from datetime import timedelta

import pytest

from router import credentials, passwords, staff
from router.errors import InvalidError
from router.models import CredentialKind, Role, Staff
from router.passwords import LoginFailure
from tests.router.store_house import MONDAY
from tests.router.web_house import PASSWORD, all_at_once, house


@pytest.fixture
async def home(tmp_path):
    async with house(tmp_path) as opened:
        yield opened


def _login(home, username, password=PASSWORD):
    return passwords.verify_login(home.hall.db, username, password, home.clock())


async def test_the_right_password_lets_in_however_the_name_is_written(home):
    number = await home.person("kari")
    assert isinstance(found := _login(home, " KARI "), Staff)
    assert found.id == number


async def test_a_password_may_be_typed_on_any_keyboard(home):
    # The same «ø» and «å» as one character and as letter plus ring.
    secret = passwords.hash_password("blåbærsyltetøy")
    await home.hall.db.write(
        lambda s: staff.add_staff(s, "ola", "Ola", Role.OPERATOR, [], secret, MONDAY)
    )
    assert isinstance(_login(home, "ola", "bla\u030abærsyltetøy"), Staff)


@pytest.mark.parametrize("username", ["kari", "nobody"])
async def test_five_wrong_tries_lock_for_ever_longer_whether_or_not_the_name_exists(home, username):
    await home.person("kari")
    username = f"{username}" if username == "kari" else f"nobody-{home.hall.settings.data.name}"
    for _ in range(4):
        assert _login(home, username, "wrong") == LoginFailure("wrong")
    waits = []
    for _ in range(8):
        failure = _login(home, username, "wrong")
        assert failure.kind == "locked"
        waits.append((failure.until - home.clock()).total_seconds() / 60)
        assert _login(home, username, "wrong") == failure, "while locked nothing is counted"
        home.clock.now = failure.until
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]


async def test_a_locked_account_refuses_the_right_password_until_the_time_has_passed(home):
    await home.person("kari")
    for _ in range(5):
        _login(home, "kari", "wrong")
    assert _login(home, "kari").kind == "locked"
    home.clock.move(minutes=1)
    assert isinstance(_login(home, "kari"), Staff)
    assert _login(home, "kari", "wrong") == LoginFailure("wrong"), "a good sign-in starts afresh"


async def test_guesses_at_the_same_moment_are_all_counted(home):
    await home.person("kari")
    results = all_at_once(*[lambda: _login(home, "kari", "wrong")] * 6)
    assert sorted(result.kind for result in results) == ["locked"] * 2 + ["wrong"] * 4


async def test_one_who_has_left_or_has_no_password_cannot_sign_in(home):
    gone = await home.person("gone")
    await home.person("bare", password=False)
    await home.hall.db.write(lambda s: setattr(s.get_one(Staff, gone), "active", False))
    assert _login(home, "gone") == LoginFailure("wrong")
    assert _login(home, "bare", "") == LoginFailure("wrong")


@pytest.mark.parametrize("password", ["kort", "", "x" * 201])
def test_passwords_have_a_sensible_length(password):
    with pytest.raises(InvalidError, match="12 to 200"):
        passwords.hash_password(password)


async def test_a_sign_in_link_works_once_even_when_two_open_it_together(home):
    number = await home.person("kari")
    secret = await home.link(number)

    def use():
        return home.hall.db.write_sync(
            lambda s: credentials.consume_one_time(s, secret, home.clock())
        )

    results = all_at_once(*[use] * 4)
    assert [result.id for result in results if result] == [number]
    assert use() is None


async def test_a_sign_in_link_does_not_keep(home):
    secret = await home.link(await home.person("kari"), minutes=30)
    home.clock.move(minutes=30)
    assert (
        await home.hall.db.write(lambda s: credentials.consume_one_time(s, secret, home.clock()))
        is None
    )


async def test_a_session_in_use_lives_on_but_not_past_a_day(home):
    number = await home.person("kari")
    secret = await home.hall.db.write(
        lambda s: credentials.open_session(s, number, 10, home.clock())
    )
    seen = []
    for _ in range(30):
        with home.hall.db.read() as session:
            found = credentials.find(session, CredentialKind.SESSION, secret, home.clock())
        if found is None:
            break
        seen.append(home.clock())
        until = credentials.slide(found, 10, home.clock())
        if until:
            await home.hall.db.write(
                lambda s, u=until, f=found: credentials.extend(s, f.credential_id, u)
            )
        home.clock.move(hours=1)
    assert seen[-1] - MONDAY == timedelta(hours=23)


async def test_a_session_left_alone_ends_and_is_forgotten(home):
    number = await home.person("kari")
    secret = await home.hall.db.write(
        lambda s: credentials.open_session(s, number, 10, home.clock())
    )
    home.clock.move(hours=10)
    with home.hall.db.read() as session:
        assert credentials.find(session, CredentialKind.SESSION, secret, home.clock()) is None
    assert await home.hall.db.write(lambda s: credentials.purge_expired(s, home.clock())) == 1


async def test_a_new_password_ends_every_session_and_link(home):
    number = await home.person("kari")
    session_secret = await home.hall.db.write(
        lambda s: credentials.open_session(s, number, 10, home.clock())
    )
    link = await home.link(number)
    fresh = passwords.hash_password("en helt annen frase")
    await home.hall.db.write(lambda s: passwords.set_password(s, number, fresh, home.clock()))
    with home.hall.db.read() as session:
        kinds = CredentialKind
        assert credentials.find(session, kinds.SESSION, session_secret, home.clock()) is None
        assert credentials.find(session, kinds.ONE_TIME, link, home.clock()) is None
    assert _login(home, "kari") == LoginFailure("wrong")
    assert isinstance(_login(home, "kari", "en helt annen frase"), Staff)


@pytest.mark.parametrize(
    ("username", "role", "departments", "why"),
    [
        ("k", Role.OPERATOR, [], "username"),
        ("kari nordmann", Role.OPERATOR, [], "username"),
        ("api-7", Role.OPERATOR, [], "username"),
        ("KARI", Role.OPERATOR, [], "taken"),
        ("ola", Role.MEMBER, [], "needs a department"),
        ("ola", Role.MEMBER, ["veivesenet"], "no department «veivesenet»"),
    ],
)
async def test_accounts_that_make_no_sense_are_refused(home, username, role, departments, why):
    await home.person("kari")
    with pytest.raises(InvalidError, match=why):
        await home.hall.db.write(
            lambda s: staff.add_staff(s, username, "Navn", role, departments, None, MONDAY)
        )


@pytest.mark.parametrize(
    ("role", "department", "sees"),
    [
        (Role.OPERATOR, None, {"vei", "skole"}),
        (Role.OPERATOR, "vei", {"vei"}),
        (Role.MEMBER, "skole", {"skole"}),
    ],
)
async def test_a_token_sees_what_it_was_made_for_and_belongs_to_an_account(
    home, role, department, sees
):
    secret = await home.token(role, department)
    with home.hall.db.read() as session:
        actor = credentials.find(session, CredentialKind.API, secret, home.clock()).actor
    assert {slug for slug in ("vei", "skole") if actor.sees(slug)} == sees
    assert actor.username == f"api-{actor.staff_id}"


async def test_a_member_token_without_department_is_refused(home):
    with pytest.raises(InvalidError, match="needs a department"):
        await home.token(Role.MEMBER)


async def test_a_secret_of_one_kind_does_not_open_another(home):
    number = await home.person("kari")
    link = await home.link(number)
    with home.hall.db.read() as session:
        assert credentials.find(session, CredentialKind.API, link, home.clock()) is None
        assert credentials.find(session, CredentialKind.SESSION, link, home.clock()) is None
