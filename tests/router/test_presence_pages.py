"""Presence as people see it: the list, one person, the mark in the header, and the API."""

from __future__ import annotations

import re

import pytest
from sqlmodel import select

from router import jobs
from router.access import PRESENCE_CHANGED
from router.models import Event, Role
from tests.router.store_house import MONDAY
from tests.router.test_api_events import listen
from tests.router.web_house import house, served


@pytest.fixture
async def home(tmp_path):
    async with house(tmp_path) as opened:
        yield opened


async def at_desk(home, username="siv", role=Role.OPERATOR, *departments):
    await home.person(username, role, *departments)
    await home.sign_in(username)
    page = await home.client.get("/desk/account")
    return re.search(r'name="csrf" value="([^"]+)"', page.text)[1]


def words(html: str) -> str:
    """What is read on a page, in one line."""
    body = re.sub(r"<(svg|script|style)\b.*?</\1>", "", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def own(page) -> str:
    """What the header says of oneself."""
    return words(re.search(r'<details class="own-presence".*?</summary>', page.text, re.S)[0])


class TestHeader:
    async def test_one_tap_opens_it_the_next_sets_it(self, home):
        csrf = await at_desk(home)
        page = await home.client.get("/desk/queue")
        assert own(page) == "Din status: Ikke meldt"
        form = {"csrf": csrf, "quick": "out", "back": "/desk/aside"}
        answer = await home.client.post("/desk/presence/own", data=form)
        assert answer.headers["location"] == "/desk/aside"
        page = await home.client.get("/desk/queue")
        assert own(page) == "Din status: Ute tilbake 10:00"
        home.clock.move(minutes=20)
        await home.client.post("/desk/presence/own", data={"csrf": csrf, "quick": "clear"})
        assert own(await home.client.get("/desk/queue")) == "Din status: Ikke meldt"

    async def test_a_script_gets_the_part_back(self, home):
        csrf = await at_desk(home)
        answer = await home.client.post(
            "/desk/presence/own",
            data={"csrf": csrf, "quick": "meeting"},
            headers={"hx-request": "true"},
        )
        assert answer.status_code == 200
        assert "I møte tilbake 10:00" in words(answer.text)
        assert "Lagret" in answer.headers["hx-trigger"]
        live = await home.client.get("/desk/presence/own")
        assert "I møte tilbake 10:00" in words(live.text)

    @pytest.mark.parametrize("back", ["https://ond.example/", "//ond.example", "/desk\\x", ""])
    async def test_it_leads_to_no_foreign_page(self, home, back):
        csrf = await at_desk(home)
        form = {"csrf": csrf, "quick": "out", "back": back}
        answer = await home.client.post("/desk/presence/own", data=form)
        assert answer.headers["location"] == "/desk"

    async def test_only_our_own_pages_set_it(self, home):
        await at_desk(home)
        for path in ("/desk/presence/own", "/desk/presence/of/siv"):
            answer = await home.client.post(path, data={"quick": "out"})
            assert answer.status_code == 403
        assert own(await home.client.get("/desk/queue")) == "Din status: Ikke meldt"


class TestList:
    async def test_people_stand_by_department_with_state_and_stand_in(self, home):
        csrf = await at_desk(home)
        await home.person("bo", Role.MEMBER, "vei")
        await home.client.post("/desk/presence/of/kari", data={"csrf": csrf, "quick": "gone"})
        page = await home.client.get("/desk/presence")
        groups = [words(part) for part in re.findall(r"<section.*?</section>", page.text, re.S)]
        assert groups == [
            "Byggesak Kari Nordmann Ute tilbake i morgen kl. 08:00 63 86 91 01"
            " Stedfortreder: Ola Hansen Ola Hansen Ikke meldt 63 86 91 02",
            "Servicetorget Siv Ikke meldt",
            "Vei Bo Ikke meldt",
        ]

    async def test_the_first_letters_find(self, home):
        await at_desk(home)
        for text, found in (
            ("kar", ["Kari Nordmann"]),
            ("nor", ["Kari Nordmann"]),
            ("bygge", ["Kari Nordmann", "Ola Hansen"]),
            ("ola byg", ["Ola Hansen"]),
            ("63869102", ["Ola Hansen"]),
            ("ordmann", []),
        ):
            for path in ("/desk/presence", "/desk/presence/rows", "/desk/presence/find"):
                page = await home.client.get(path, params={"q": text})
                names = re.findall(r'<li class="person"><a [^>]+>([^<]+)</a>', page.text)
                assert names == found, (path, text)
                assert found or "Ingen passer." in page.text

    async def test_outside_working_hours_it_says_when_they_are_back(self, home):
        await at_desk(home)
        home.clock.now = MONDAY.replace(hour=16)
        page = await home.client.get("/desk/presence/rows")
        assert "Siv Utenfor arbeidstid tilbake i morgen kl. 08:00" in words(page.text)

    async def test_in_the_other_languages(self, home):
        csrf = await at_desk(home)
        await home.client.post("/desk/presence/of/kari", data={"csrf": csrf, "quick": "absent"})
        for language, says in (
            ("nn", "Fråvær tilbake i morgon kl. 08:00"),
            ("en", "Absent back tomorrow at 08:00"),
        ):
            form = {"csrf": csrf, "language": language}
            await home.client.post("/desk/account/language", data=form)
            assert says in words((await home.client.get("/desk/presence")).text)


class TestPerson:
    async def set(self, home, csrf, username="kari", **form):
        return await home.client.post(f"/desk/presence/of/{username}", data={"csrf": csrf, **form})

    async def now(self, home, username="kari"):
        return words((await home.client.get(f"/desk/presence/of/{username}/live")).text)

    async def test_an_operator_sets_it_for_somebody_and_takes_it_back(self, home):
        csrf = await at_desk(home)
        answer = await self.set(home, csrf, quick="absent")
        assert answer.headers["location"] == "/desk/presence/of/kari?done=presence_set"
        page = await home.client.get(answer.headers["location"])
        assert "Statusen er satt." in page.text
        assert "Satt av Siv" in words(page.text)
        assert "Fravær tilbake i morgen kl. 08:00" in await self.now(home)
        await self.set(home, csrf, quick="clear")
        assert "Ikke meldt" in await self.now(home)

    @pytest.mark.parametrize(
        ("form", "says"),
        [
            ({"length": "1h"}, "I møte tilbake i dag kl. 10:00"),
            ({}, "I møte tilbake i dag kl. 11:00"),
            ({"length": "day"}, "I møte tilbake i morgen kl. 08:00"),
            ({"length": "time", "at_time": "14:30"}, "I møte tilbake i dag kl. 14:30"),
            ({"length": "time", "at_time": "9.45"}, "I møte tilbake i dag kl. 09:45"),
            ({"length": "date", "at_date": "2026-12-01"}, "I møte tilbake tir. 1. des. 08:00"),
        ],
    )
    async def test_the_end_is_said_in_many_ways(self, home, form, says):
        csrf = await at_desk(home)
        await self.set(home, csrf, state="meeting", **form)
        assert says in await self.now(home)

    @pytest.mark.parametrize(
        ("form", "says"),
        [
            ({"state": "unknown"}, "Velg en status."),
            ({"state": "meeting", "length": "time"}, "Oppgi et klokkeslett"),
            ({"state": "meeting", "length": "time", "at_time": "25:00"}, "Oppgi et klokkeslett"),
            ({"state": "meeting", "length": "date", "at_date": "1.12."}, "Oppgi et klokkeslett"),
            ({"state": "meeting", "length": "time", "at_time": "08:00"}, "i fortiden"),
            ({"state": "meeting", "length": "date", "at_date": "2027-06-01"}, "60 dager"),
            ({"state": "meeting", "note": "x" * 201}, "for langt"),
        ],
    )
    async def test_what_makes_no_sense_is_said_and_what_was_typed_stays(self, home, form, says):
        csrf = await at_desk(home)
        answer = await self.set(home, csrf, **{"note": "Husk nøkkel", **form})
        assert answer.status_code == 422
        assert says in words(answer.text)
        assert form.get("note", "Husk nøkkel") in answer.text
        assert "Ikke meldt" in await self.now(home)

    async def test_what_the_person_said_stands(self, home):
        csrf = await at_desk(home, "kari", Role.MEMBER, "byggesak")
        await self.set(home, csrf, state="meeting", note="Budsjett")
        assert "Notat Budsjett" in await self.now(home)
        csrf = await at_desk(home)
        answer = await self.set(home, csrf, quick="out")
        assert answer.status_code == 409
        assert "Vedkommende har selv meldt" in words(answer.text)
        assert "I møte" in await self.now(home)
        assert "Notat Budsjett" in await self.now(home)

    async def test_colleagues_see_state_and_return_time_alone(self, home):
        csrf = await at_desk(home)
        await self.set(home, csrf, state="busy", note="Vil ikke forstyrres")
        csrf = await at_desk(home, "bo", Role.MEMBER, "vei")
        page = await home.client.get("/desk/presence/of/kari")
        assert "Opptatt tilbake i dag kl. 11:00" in words(page.text)
        for hidden in ("Vil ikke forstyrres", "Satt av", 'name="state"'):
            assert hidden not in page.text
        assert (await self.set(home, csrf, quick="out")).status_code == 403
        assert (await self.set(home, csrf, "bo", quick="out")).status_code == 303

    async def test_an_administrator_says_where_somebody_answers_from_by_xmpp(self, home):
        await home.person("kari")
        csrf = await at_desk(home)
        path = "/desk/presence/of/kari"
        sent = {"csrf": csrf, "jid": "Kari@Sorum.kommune.no"}
        assert (await home.client.post(f"{path}/jid", data=sent)).status_code == 403
        channels = home.hall.settings.channels
        door = channels.xmpp.model_copy(update={"enabled": True})
        channels = channels.model_copy(update={"xmpp": door})
        home.hall.settings = home.hall.settings.model_copy(update={"channels": channels})
        assert "XMPP-adresse" not in (await home.client.get(path)).text
        csrf = await at_desk(home, "leder", Role.ADMIN)
        sent["csrf"] = csrf
        answer = await home.client.post(f"{path}/jid", data=sent)
        page = await home.client.get(answer.headers["location"])
        assert "XMPP-adressen er lagret." in page.text
        assert 'value="kari@sorum.kommune.no"' in page.text
        answer = await home.client.post(f"{path}/jid", data=sent | {"jid": "kari"})
        assert answer.status_code == 422
        assert "ser ut som kari@sorum.kommune.no" in answer.text
        assert 'value="kari"' in answer.text

    async def test_nobody_is_where_nobody_is(self, home):
        csrf = await at_desk(home)
        for path in ("/desk/presence/of/ingen", "/desk/presence/of/ingen/live"):
            assert (await home.client.get(path)).status_code == 404
        assert (await self.set(home, csrf, "ingen", quick="out")).status_code == 404
        assert (await self.set(home, csrf, "ingen", state="rubbish")).status_code == 404


class TestApi:
    async def test_it_lists_and_filters(self, home):
        await home.person("bo", Role.MEMBER, "vei")
        client = await home.api(Role.MEMBER, "vei")
        people = (await client.get("/api/presence")).json()["items"]
        assert [one["staff"] for one in people] == ["bo", "kari", "ola"]
        assert people[1] == {
            "staff": "kari",
            "name": "Kari Nordmann",
            "departments": ["byggesak"],
            "phone": "+4763869101",
            "deputy": "ola",
            "state": "unknown",
            "until": None,
            "reach_phone": None,
            "reach_chat": None,
            "text": "",
            "set_by": "",
        }
        for query, found in (({"q": "ola"}, ["ola"]), ({"department": "vei"}, ["bo"])):
            people = (await client.get("/api/presence", params=query)).json()["items"]
            assert [one["staff"] for one in people] == found

    @pytest.mark.parametrize(
        ("until", "back"),
        [
            (None, "2026-11-23T10:00:00Z"),
            ("2026-11-23T14:00:00+01:00", "2026-11-23T13:00:00Z"),
            ("day", "2026-11-24T07:00:00Z"),
            ("2026-12-01", "2026-12-01T07:00:00Z"),
        ],
    )
    async def test_an_operators_token_sets_it(self, home, until, back):
        client = await home.api()
        body = {"state": "meeting", "until": until, "text": "Budsjett"}
        answer = await client.put("/api/presence/Kari", json=body)
        assert answer.status_code == 200
        line = answer.json()
        assert (line["staff"], line["state"], line["until"]) == ("kari", "meeting", back)
        assert (line["reach_phone"], line["text"]) == (False, "Budsjett")
        member = await home.api(Role.MEMBER, "byggesak")
        [line] = (await member.get("/api/presence", params={"q": "kari"})).json()["items"]
        assert (line["state"], line["until"], line["text"]) == ("meeting", back, "")

    async def test_taking_it_back_twice_changes_nothing(self, home):
        client = await home.api()
        await client.put("/api/presence/kari", json={"state": "away"})
        for _ in range(2):
            answer = await client.delete("/api/presence/kari")
            assert (answer.status_code, answer.json()["state"]) == (200, "unknown")

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            ({}, 422),
            ({"state": "unknown"}, 422),
            ({"state": "on_phone"}, 422),
            ({"state": "away", "until": "tomorrow"}, 422),
            ({"state": "away", "until": "2026-11-23T14:00:00"}, 422),  # no offset: anybody's clock
            ({"state": "away", "until": "2026-11-23T07:00:00Z"}, 422),
            ({"state": "away", "until": "2027-11-23"}, 422),
            ({"state": "away", "text": "x" * 201}, 422),
            ({"state": "away", "note": "x"}, 422),
        ],
    )
    async def test_what_makes_no_sense_is_refused(self, home, body, status):
        answer = await (await home.api()).put("/api/presence/kari", json=body)
        assert answer.status_code == status
        [line] = (await (await home.api()).get("/api/presence?q=kari")).json()["items"]
        assert line["state"] == "unknown"

    async def test_members_set_nobody_and_strangers_see_nothing(self, home):
        member = await home.api(Role.MEMBER, "byggesak")
        assert (await member.put("/api/presence/kari", json={"state": "away"})).status_code == 403
        assert (await member.delete("/api/presence/kari")).status_code == 403
        client = await home.api()
        assert (await client.put("/api/presence/ingen", json={"state": "away"})).status_code == 404
        assert (await home.visitor().get("/api/presence")).status_code == 401


async def test_a_change_reaches_every_listener_without_what_was_written(home):
    async with served(home.app) as address:
        token = await home.token(Role.MEMBER, "vei")
        async with listen(address, token=token) as listener:
            body = {"state": "meeting", "text": "Budsjett"}
            await (await home.api()).put("/api/presence/kari", json=body)
            event = await listener.event()
    assert event["event"] == "presence_changed"
    assert event["data"]["data"] == {
        "person": "kari",
        "state": "meeting",
        "until": "2026-11-23T10:00:00Z",
    }


async def test_the_desk_tells_it_from_the_rest(home):
    await at_desk(home, "bo", Role.MEMBER, "vei")
    cookie = f"sentralbord={home.client.cookies['sentralbord']}"
    async with (
        served(home.app) as address,
        listen(address, "/desk/stream", Cookie=cookie) as listener,
    ):
        await (await home.api()).put("/api/presence/kari", json={"state": "meeting"})
        event = await listener.event()
    assert (event["event"], event["data"]["data"]["person"]) == ("presence", "kari")


async def test_the_beat_tells_of_an_end_once_and_forgets_in_time(home):
    def told():
        with home.hall.db.read() as session:
            query = select(Event.data).where(Event.kind == PRESENCE_CHANGED).order_by(Event.id)
            return [data["state"] for data in session.exec(query)]

    await (await home.api()).put("/api/presence/kari", json={"state": "meeting"})
    home.clock.move(hours=2)
    for _ in range(2):
        await jobs.tell_presence(home.hall)
    assert told() == ["meeting", "unknown"]
    home.clock.move(days=31)
    await jobs.forget_presence(home.hall)
    assert told() == []
