"""Signing in to the desk: form, link, cookie, and what other sites cannot do with them."""

from __future__ import annotations

import re

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts

from router import credentials
from router.models import CredentialKind, Role, Staff
from router.web import auth
from router.web.app import PUBLIC_ROUTES
from tests.router.web_house import PASSWORD, house


@pytest.fixture
async def home(tmp_path):
    async with house(tmp_path) as opened:
        yield opened


async def _csrf(home) -> str:
    page = await home.client.get("/desk/account")
    return re.search(r'name="csrf" value="([^"]+)"', page.text)[1]


async def test_every_route_has_a_guard_or_is_public_on_purpose(home):
    def guarded(dependant: Dependant) -> bool:
        return dependant.call in auth.GUARDS or any(map(guarded, dependant.dependencies))

    open_paths = set()
    for route in iter_route_contexts(home.app.routes):
        if not isinstance(route.original_route, APIRoute) or not guarded(route.dependant):
            open_paths.add(route.path)
    assert open_paths == PUBLIC_ROUTES


async def test_sign_in_leads_on_to_the_page_that_was_asked_for(home):
    await home.person("kari")
    asked = await home.client.get("/desk/account?done=saved")
    assert asked.status_code == 303
    assert asked.headers["location"] == "/desk/login?next=%2Fdesk%2Faccount%3Fdone%3Dsaved"
    form = await home.client.get(asked.headers["location"])
    assert "/desk/account?done=saved" in form.text
    answer = await home.client.post(
        "/desk/login",
        data={"username": "kari", "password": PASSWORD, "next": "/desk/account?done=saved"},
    )
    assert (answer.status_code, answer.headers["location"]) == (303, "/desk/account?done=saved")
    assert (await home.client.get("/desk/account")).status_code == 200


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example",
        "/desk\\@evil.example",
        "/deskevil",
        "/desk/\r\nSet-Cookie: x=1",
        "/status/x",
    ],
)
async def test_sign_in_never_leads_away_from_the_desk(home, target):
    await home.person("kari")
    answer = await home.client.post(
        "/desk/login", data={"username": "kari", "password": PASSWORD, "next": target}
    )
    assert answer.headers["location"] == "/desk"


async def test_a_wrong_password_keeps_the_name_and_says_no_more_than_needed(home):
    await home.person("kari")
    wrong = await home.sign_in("kari", "gjettet-passord")
    nobody = await home.sign_in("finnes-ikke", "gjettet-passord")
    assert wrong.status_code == nobody.status_code == 422
    assert 'value="kari"' in wrong.text
    assert "gjettet-passord" not in wrong.text
    assert wrong.text.replace("kari", "X") == nobody.text.replace("finnes-ikke", "X")
    assert not home.client.cookies


async def test_a_locked_account_is_told_until_when(home):
    await home.person("kari")
    for _ in range(5):
        locked = await home.sign_in("kari", "feil")
    assert locked.status_code == 429
    assert "09:01" in locked.text  # 08:01 UTC is 09:01 in Oslo
    assert (await home.sign_in("kari")).status_code == 429
    home.clock.move(minutes=1)
    assert (await home.sign_in("kari")).status_code == 303


async def test_guessing_many_names_from_one_address_is_stopped(home):
    await home.person("kari")
    answers = [await home.sign_in(f"gjett{number}", "feil") for number in range(31)]
    assert [answer.status_code for answer in answers] == [422] * 30 + [429]
    assert int(answers[-1].headers["retry-after"]) > 0
    assert (await home.sign_in("kari")).status_code == 429


async def test_good_sign_ins_from_one_office_are_not_counted(home):
    await home.person("kari")
    for _ in range(40):
        home.client.cookies.clear()
        assert (await home.sign_in("kari")).status_code == 303


async def test_the_session_cookie_is_out_of_reach_of_scripts_and_other_sites(tmp_path):
    async with house(tmp_path, "https://sentralbord.example") as home:
        await home.person("kari")
        cookie = (await home.sign_in("kari")).headers["set-cookie"]
    assert cookie.startswith("__Host-sentralbord=")
    assert {"HttpOnly", "Secure", "Path=/", "SameSite=lax"} <= set(cookie.split("; "))


async def test_the_sign_in_link_lets_in_once(home):
    secret = await home.link(await home.person("kari", password=False))
    ahead = await home.client.get(f"/desk/login?once={secret}", headers={"Sec-Purpose": "prefetch"})
    looked = await home.client.head(f"/desk/login?once={secret}")
    assert (ahead.status_code, looked.status_code) == (503, 405), "neither uses it up"
    first = await home.client.get(f"/desk/login?once={secret}")
    assert (first.status_code, first.headers["location"]) == (303, "/desk")
    assert (await home.client.get("/desk/account")).status_code == 200
    home.client.cookies.clear()
    again = await home.client.get(f"/desk/login?once={secret}")
    assert again.status_code == 410
    assert (await home.client.get("/desk/account")).status_code == 303


async def test_signing_out_ends_the_session_itself_not_only_the_cookie(home):
    await home.person("kari")
    await home.sign_in("kari")
    stolen = dict(home.client.cookies)
    answer = await home.client.post("/desk/logout", data={"csrf": await _csrf(home)})
    assert answer.headers["location"] == "/desk/login?done=signed_out"
    assert not home.client.cookies
    thief = home.visitor()
    thief.cookies.update(stolen)
    assert (await thief.get("/desk/account")).status_code == 303


async def test_signing_in_again_ends_the_session_before(home):
    await home.person("kari")
    await home.sign_in("kari")
    old = dict(home.client.cookies)
    await home.sign_in("kari")
    assert dict(home.client.cookies) != old
    visitor = home.visitor()
    visitor.cookies.update(old)
    assert (await visitor.get("/desk/account")).status_code == 303


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}],
)
async def test_a_form_on_another_site_can_neither_act_nor_sign_in(home, headers):
    await home.person("kari")
    await home.sign_in("kari")
    act = await home.client.post(
        "/desk/account/language",
        data={"language": "nn", "csrf": await _csrf(home)},
        headers=headers,
    )
    enter = await home.client.post(
        "/desk/login", data={"username": "kari", "password": PASSWORD}, headers=headers
    )
    assert (act.status_code, enter.status_code) == (403, 403)


@pytest.mark.parametrize("token", ["", "x", "x.y", "å.æ"])
async def test_without_the_token_of_the_session_nothing_changes(home, token):
    number = await home.person("kari")
    await home.sign_in("kari")
    answer = await home.client.post(
        "/desk/account/language", data={"language": "nn", "csrf": token}
    )
    assert answer.status_code == 403
    with home.hall.db.read() as session:
        assert session.get(Staff, number).language == "nb"


async def test_the_token_of_another_session_does_not_fit(home):
    await home.person("kari")
    await home.person("ola")
    await home.sign_in("ola")
    token = await _csrf(home)
    await home.sign_in("kari")
    answer = await home.client.post(
        "/desk/account/language", data={"language": "nn", "csrf": token}
    )
    assert answer.status_code == 403


async def test_the_token_may_come_in_a_header(home):
    number = await home.person("kari")
    await home.sign_in("kari")
    answer = await home.client.post(
        "/desk/account/language",
        data={"language": "nn"},
        headers={"X-CSRF-Token": await _csrf(home), "Origin": "http://127.0.0.1:8080"},
    )
    assert answer.status_code == 303
    with home.hall.db.read() as session:
        assert session.get(Staff, number).language == "nn"


async def test_an_ended_session_leads_to_the_form_and_tells_scripts(home):
    await home.person("kari")
    await home.sign_in("kari")
    home.clock.move(hours=10)
    page = await home.client.get("/desk/queue")
    piece = await home.client.get("/desk/queue", headers={"HX-Request": "true"})
    stream = await home.client.get("/desk/stream", headers={"Accept": "text/event-stream"})
    assert page.headers["location"].startswith("/desk/login?next=")
    assert (piece.status_code, piece.headers["hx-redirect"]) == (401, "/desk/login")
    assert stream.status_code == 401


async def test_a_session_in_use_does_not_end_in_the_middle_of_the_day(home):
    await home.person("kari")
    await home.sign_in("kari")
    for _ in range(4):
        home.clock.move(hours=5)
        assert (await home.client.get("/desk/account")).status_code == 200
    home.clock.move(hours=5)
    assert (await home.client.get("/desk/account")).status_code == 303, "a day is the limit"


async def test_changing_the_password_ends_the_other_sessions_and_keeps_this_one(home):
    await home.person("kari")
    await home.sign_in("kari")
    elsewhere = home.visitor()
    elsewhere.cookies.update(dict(home.client.cookies))
    await home.sign_in("kari")
    other = home.visitor()
    await other.post("/desk/login", data={"username": "kari", "password": PASSWORD})
    answer = await home.client.post(
        "/desk/account/password",
        data={"csrf": await _csrf(home), "current": PASSWORD, "password": "en helt annen frase"},
    )
    assert answer.headers["location"] == "/desk/account?done=password_changed"
    assert (await home.client.get("/desk/account")).status_code == 200
    assert (await other.get("/desk/account")).status_code == 303
    home.client.cookies.clear()
    assert (await home.sign_in("kari")).status_code == 422
    assert (await home.sign_in("kari", "en helt annen frase")).status_code == 303


@pytest.mark.parametrize(
    ("current", "password", "status"),
    [("feil", "en helt annen frase", 403), (PASSWORD, "kort", 422), ("", "lang nok nå", 403)],
)
async def test_a_refused_password_change_changes_nothing(home, current, password, status):
    await home.person("kari")
    await home.sign_in("kari")
    answer = await home.client.post(
        "/desk/account/password",
        data={"csrf": await _csrf(home), "current": current, "password": password},
    )
    assert answer.status_code == status
    home.client.cookies.clear()
    assert (await home.sign_in("kari")).status_code == 303


async def test_who_came_by_link_chooses_a_first_password(home):
    secret = await home.link(await home.person("kari", password=False))
    await home.client.get(f"/desk/login?once={secret}")
    answer = await home.client.post(
        "/desk/account/password", data={"csrf": await _csrf(home), "password": PASSWORD}
    )
    assert answer.status_code == 303
    home.client.cookies.clear()
    assert (await home.sign_in("kari")).status_code == 303


async def test_a_member_does_not_get_into_what_is_for_operators(home):
    await home.person("per", Role.MEMBER, "vei")
    await home.sign_in("per")
    assert (await home.client.get("/desk/parked")).status_code == 403


async def test_one_who_leaves_is_out_at_once(home):
    number = await home.person("kari")
    await home.sign_in("kari")
    await home.hall.db.write(lambda s: setattr(s.get_one(Staff, number), "active", False))
    assert (await home.client.get("/desk/account")).status_code == 303


async def test_secrets_are_not_kept_in_the_store(home, tmp_path):
    number = await home.person("kari")
    link = await home.link(number)
    token = await home.token()
    await home.sign_in("kari")
    cookie = next(iter(home.client.cookies.values()))
    with home.hall.db.read() as session:
        assert credentials.find(session, CredentialKind.API, token, home.clock()) is not None
    kept = b"".join(file.read_bytes() for file in tmp_path.glob("sentralbord.db*"))
    for secret in (link, token, cookie, PASSWORD):
        assert secret.encode() not in kept
