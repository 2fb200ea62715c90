"""The live stream over a real connection: order, rights, resuming, and ending when it must."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import httpx
import pytest

from router import credentials, passwords, staff
from router.db import Database
from router.models import Role, Staff
from router.web import stream
from tests.router.chat_house import Visitor
from tests.router.store_house import MONDAY
from tests.router.web_house import PASSWORD, house, served


@pytest.fixture
async def home(tmp_path):
    async with house(tmp_path) as opened:
        yield opened


class Listener:
    """Reads frames of one stream."""

    def __init__(self, response):
        self._lines = response.aiter_lines()

    async def welcome(self):
        async for line in self._lines:
            if line == ": welcome":
                return

    async def frame(self):
        """The next event; None when the stream has ended."""
        fields = {}
        async for line in self._lines:
            if line and not line.startswith(":"):
                name, _, value = line.partition(": ")
                fields[name] = value
            elif fields:
                return fields
        return None

    async def event(self):
        fields = await asyncio.wait_for(self.frame(), 5)
        if fields is not None:
            fields["data"] = json.loads(fields["data"])
        return fields


@asynccontextmanager
async def listen(address, path="/api/events", token="", **headers):
    if token:
        headers["Authorization"] = f"Bearer {token}"
    async with (
        httpx.AsyncClient(base_url=address, verify=False) as client,
        client.stream("GET", path, headers=headers) as response,
    ):
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store"
        assert "content-encoding" not in response.headers
        listener = Listener(response)
        await listener.welcome()
        yield listener


async def _left(home, address):
    """Ask until the service has noticed that its last listener is gone."""
    async with asyncio.timeout(5), httpx.AsyncClient(base_url=address, verify=False) as client:
        while home.hall.hub.clients:
            await client.get("/healthz")


async def test_what_happens_arrives_in_order_with_ids_to_resume_from(home):
    async with served(home.app) as address:
        token = await home.token()
        async with listen(address, token=token) as listener:
            ref = await home.inquiry()
            await (await home.api()).post(f"/api/inquiries/{ref}/claim")
            events = [await listener.event() for _ in range(3)]
        assert [event["event"] for event in events] == ["received", "routed", "claimed"]
        ids = [int(event["id"]) for event in events]
        assert ids == sorted(set(ids))
        assert events[2]["data"] == {
            "id": ids[2],
            "kind": "claimed",
            "at": "2026-11-23T08:00:00Z",
            "ref": ref,
            "department": "vei",
            "data": {},
        }
        await _left(home, address)
        async with listen(address, token=token, **{"Last-Event-ID": str(ids[0])}) as listener:
            assert [(await listener.event())["id"] for _ in range(2)] == [str(n) for n in ids[1:]]
        async with listen(address, f"/api/events?after={ids[1]}", token) as listener:
            assert (await listener.event())["event"] == "claimed"


async def test_nobody_hears_of_other_departments_but_of_what_leaves_the_own(home):
    async with served(home.app) as address:
        mine = await home.token(Role.MEMBER, "vei")
        theirs = await home.token(Role.MEMBER, "skole")
        async with listen(address, token=mine) as vei, listen(address, token=theirs) as skole:
            ref = await home.inquiry()
            api = await home.api()
            await api.post(f"/api/inquiries/{ref}/transfer", json={"department": "skole"})
            await api.post(f"/api/inquiries/{ref}/claim")
            assert [(await vei.event())["event"] for _ in range(3)] == [
                "received",
                "routed",
                "transferred",
            ]
            assert [(await skole.event())["event"] for _ in range(2)] == ["transferred", "claimed"]


async def test_an_id_of_another_store_means_read_everything_anew(home):
    async with served(home.app) as address:
        token = await home.token()
        async with listen(address, token=token, **{"Last-Event-ID": "999999"}) as listener:
            assert (await listener.event())["event"] == "reload"
            await home.inquiry()
            assert (await listener.event())["event"] == "received"


@pytest.mark.parametrize("last", ["-1", "x", "1.5", "9" * 19, "9" * 30, "١"])
async def test_ids_that_are_none_are_refused(home, last):
    answer = await (await home.api()).get("/api/events", params={"after": last})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


async def test_the_desk_hears_that_something_changed(home):
    await home.person("kari")
    await home.sign_in("kari")
    cookie = "; ".join(f"{name}={value}" for name, value in home.client.cookies.items())
    async with (
        served(home.app) as address,
        listen(address, "/desk/stream", Cookie=cookie) as listener,
    ):
        ref = await home.inquiry()
        event = await listener.event()
    assert (event["event"], event["data"]["kind"], event["data"]["ref"]) == (
        "change",
        "received",
        ref,
    )


async def test_a_stream_ends_when_the_service_stops(home):
    token = await home.token()
    async with served(home.app) as address, listen(address, token=token) as listener:
        await home.inquiry()
        assert [(await listener.event())["event"] for _ in range(2)] == ["received", "routed"]
        await home.hall.hub.stop()
        last = [await asyncio.wait_for(listener.frame(), 5) for _ in range(2)]
        assert (last[0]["event"], last[1]) == ("reload", None)


async def test_one_who_leaves_stops_hearing(home, monkeypatch):
    monkeypatch.setattr(stream, "RECHECK_SECONDS", 0)
    number = await home.person("kari")
    await home.sign_in("kari")
    cookie = "; ".join(f"{name}={value}" for name, value in home.client.cookies.items())
    async with (
        served(home.app) as address,
        listen(address, "/desk/stream", Cookie=cookie) as listener,
    ):
        await home.hall.db.write(lambda s: setattr(s.get_one(Staff, number), "active", False))
        await home.inquiry()
        assert await asyncio.wait_for(listener.frame(), 5) is None


async def shut_out(home, username):
    """As the command line does it: another process, with a connection of its own."""

    def job():
        other = Database(home.hall.settings.database_url)
        other.start()
        other.write_sync(
            lambda s: staff.set_active(
                s, staff.require_staff(s, username), home.clock(), active=False
            )
        )
        other.stop()

    await asyncio.to_thread(job)


async def test_who_is_shut_out_hears_nothing_more_at_once_and_nobody_is_told(home):
    visitor = await Visitor(home).open()
    await visitor.say("Er dere der?")
    ref = visitor.inquiry().ref
    cookies = {}
    for username in ("kari", "ola"):
        await home.person(username)
        browser = home.visitor()
        await browser.post("/desk/login", data={"username": username, "password": PASSWORD})
        cookies[username] = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    async with (
        served(home.app) as address,
        listen(address, "/desk/stream", Cookie=cookies["kari"]) as desk,
        listen(address, f"/desk/chats/{ref}/events", Cookie=cookies["kari"]) as talk,
        listen(address, "/desk/stream", Cookie=cookies["ola"]) as stays,
    ):
        await shut_out(home, "kari")
        for listener in (desk, talk):
            async with asyncio.timeout(6):  # much less than they are asked anew by the clock
                while await listener.frame() is not None:
                    pass
        await home.inquiry()
        assert (await stays.event())["data"]["kind"] == "received"


async def test_who_sees_other_things_from_now_on_hears_of_them_alone_at_once(home):
    await home.person("kari", Role.MEMBER, "servicetorg")
    await home.sign_in("kari")
    cookie = "; ".join(f"{name}={value}" for name, value in home.client.cookies.items())
    visitor = await Visitor(home).open()
    await visitor.say("Er dere der?")
    talk_of = f"/desk/chats/{visitor.inquiry().ref}/events"

    def move(session):
        person = staff.require_staff(session, "kari")
        staff.change_staff(session, person, home.clock(), departments=["vei"])

    async with (
        served(home.app) as address,
        listen(address, "/desk/stream", Cookie=cookie) as desk,
        listen(address, talk_of, Cookie=cookie) as talk,
    ):
        while (await talk.event())["event"] != "standing":
            pass
        await home.hall.db.write(move)
        async with asyncio.timeout(6):  # much less than they are asked anew by the clock
            while await talk.frame() is not None:
                pass
        await visitor.say("Hallo?")
        ref = await home.inquiry()
        assert (await desk.event())["data"]["ref"] == ref


async def test_what_is_said_when_another_department_has_a_talk_is_not_told_to_the_one_that_had_it(
    home,
):
    await home.person("kari", Role.MEMBER, "servicetorg")
    await home.sign_in("kari")
    cookie = "; ".join(f"{name}={value}" for name, value in home.client.cookies.items())
    visitor = await Visitor(home).open()
    await visitor.say("Er dere der?")
    ref, api = visitor.inquiry().ref, await home.api()
    heard = []
    async with (
        served(home.app) as address,
        listen(address, f"/desk/chats/{ref}/events", Cookie=cookie) as talk,
    ):
        while "standing" not in heard:
            heard.append((await talk.event())["event"])
        move = {"department": "barnehage", "note": "Det gjelder et barn"}
        await api.post(f"/api/inquiries/{ref}/transfer", json=move)
        await api.post(f"/api/inquiries/{ref}/note", json={"text": "Vi kjenner saken"})
        await visitor.say("Hun heter Nora")
        async with asyncio.timeout(6):
            while (frame := await talk.frame()) is not None:
                heard.append(frame["event"])
    assert heard[-1] == "standing"


@pytest.mark.parametrize("ends", ["password", "token"])
async def test_what_a_secret_opened_ends_with_it(home, ends):
    number = await home.person("kari")
    await home.sign_in("kari")
    cookie = "; ".join(f"{name}={value}" for name, value in home.client.cookies.items())
    token = await home.token()

    def end(session):
        if ends == "password":
            hashed = passwords.hash_password("en helt ny frase")
            passwords.set_password(session, number, hashed, MONDAY)
        else:
            [(credential, _account)] = credentials.api_tokens(session)
            credentials.revoke_api_token(session, credential.id, MONDAY)

    async with served(home.app) as address:
        stream_of = (
            listen(address, "/desk/stream", Cookie=cookie)
            if ends == "password"
            else listen(address, token=token)
        )
        async with stream_of as listener:
            await home.hall.db.write(end)
            async with asyncio.timeout(6):
                assert await listener.frame() is None


async def test_one_account_cannot_hold_all_streams(home, monkeypatch):
    monkeypatch.setattr(stream, "STREAMS_PER_ACTOR", 1)
    token = await home.token()
    async with served(home.app) as address:
        async with listen(address, token=token):
            visitor = home.visitor(Authorization=f"Bearer {token}")
            assert (await visitor.get("/api/events")).status_code == 429
        await _left(home, address)
        async with listen(address, token=token) as listener:
            await home.inquiry()
            assert (await listener.event())["event"] == "received"


async def test_a_stream_that_is_left_is_forgotten(home):
    async with served(home.app) as address:
        token = await home.token()
        for _ in range(3):
            async with listen(address, token=token) as listener:
                await home.inquiry()
                assert (await listener.event())["event"] == "received"
            await _left(home, address)
    assert not stream._open_streams
