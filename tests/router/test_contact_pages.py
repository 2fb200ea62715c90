"""A person outside at the desk and in the API: what is seen by whom, and merging by a click."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import text as sql

from router.models import Role
from tests.router.test_presence_pages import at_desk, words
from tests.router.web_house import house

NUMBER = "13097248022"
"""A synthetic fødselsnummer: valid check digits, a month that no person has."""


@pytest.fixture
async def home(tmp_path):
    async with house(tmp_path) as opened:
        yield opened


async def ask(home, email="kari@example.no", subject="Hull i veien", name="", text="Et hull."):
    form = {"from": {"email": email, "name": name}, "subject": subject, "text": text}
    answer = await (await home.api()).post("/api/inquiries", json=form)
    return answer.json()["ref"]


async def contact(home, ref):
    return (await (await home.api()).get(f"/api/inquiries/{ref}")).json()["contact"]["id"]


async def change(home, number, what, **form):
    return await home.client.post(f"/desk/contacts/{number}/{what}", data=form)


class TestPage:
    async def test_it_shows_addresses_and_inquiries_of_one_person(self, home):
        await at_desk(home)
        ref = await ask(home, name="Kari Nordmann")
        ours = await ask(home, subject=f"Barnehage {NUMBER}", text="Barnehageplass.")
        await ask(home, "knut@example.no", "Noe annet")
        inquiry = await home.client.get(f"/desk/inquiries/{ref}")
        address = re.search(r'href="(/desk/contacts/\d+)">Alt fra denne personen', inquiry.text)[1]
        page = await home.client.get(address)
        text = words(page.text)
        assert "<h1" in page.text
        assert "Kari Nordmann Adresser E-post: kari@example.no Henvendelser" in text
        assert text.index(ours) < text.index(ref), "the latest first"
        assert NUMBER not in page.text
        assert "Noe annet" not in page.text

    async def test_an_opt_out_is_told(self, home):
        await at_desk(home)
        number = await contact(home, await ask(home))
        statement = sql("UPDATE address SET opted_out_at = '2026-11-20 10:00:00.000000'")
        await home.hall.db.write(lambda s: s.connection().execute(statement))
        page = words((await home.client.get(f"/desk/contacts/{number}")).text)
        assert "Ikke SMS: personen har bedt om å slippe ( fre. 20. nov. 11:00 )" in page
        card = (await (await home.api()).get(f"/api/contacts/{number}")).json()
        assert card["addresses"][0]["opted_out_at"] == "2026-11-20T10:00:00Z"

    async def test_a_member_sees_the_own_inquiries_alone(self, home):
        road, other = await ask(home), await ask(home, subject="Barnehage", text="Barnehage.")
        foreign = await ask(home, "knut@example.no", "Barnehage", text="Barnehage.")
        number = await contact(home, road)
        hidden = await contact(home, foreign)
        await at_desk(home, "vera", Role.MEMBER, "vei")
        page = await home.client.get(f"/desk/contacts/{number}")
        assert road in page.text
        for kept in (other, "Samme person", "Tilhører en annen"):
            assert kept not in page.text
        assert (await home.client.get(f"/desk/contacts/{hidden}")).status_code == 404
        for address in ("/desk/contacts/0", "/desk/contacts/99", f"/desk/contacts/{2**70}"):
            assert (await home.client.get(address)).status_code == 404


class TestMerge:
    async def two(self, home):
        one = await contact(home, await ask(home, name="Kari Nordmann"))
        other = await contact(home, await ask(home, "knut@example.no", "Gjerde", "Knut Hansen"))
        return one, other

    async def test_found_merged_and_undone(self, home):
        csrf = await at_desk(home)
        one, other = await self.two(home)
        page = await home.client.get(f"/desk/contacts/{one}", params={"q": "knut"})
        assert "1 kontakt passer. Knut Hansen knut@example.no (1 henvendelse) Samme person" in (
            words(page.text)
        )
        answer = await change(home, one, "merge", csrf=csrf, other=other, q="knut")
        page = await home.client.get(answer.headers["location"])
        text = words(page.text)
        assert "De to er én person nå." in text
        assert "knut@example.no" in text
        assert "Gjerde" in text
        assert "Slått sammen hit: knut@example.no Siv, i dag kl. 09:00 Angre" in text
        moved = await home.client.get(f"/desk/contacts/{other}")
        assert moved.headers["location"] == f"/desk/contacts/{one}"

        move = re.search(r'name="move" value="(\d+)"', page.text)[1]
        answer = await change(home, one, "undo", csrf=csrf, move=move)
        page = words((await home.client.get(answer.headers["location"])).text)
        assert "Det er angret." in page
        assert "Angret i dag kl. 09:00" in page
        assert "Gjerde" not in page
        assert "Gjerde" in (await home.client.get(f"/desk/contacts/{other}")).text

    async def test_one_address_is_somebody_elses(self, home):
        csrf = await at_desk(home)
        one, other = await self.two(home)
        page = await home.client.get(f"/desk/contacts/{one}")
        assert "Tilhører en annen" not in page.text, "it is the only one"
        await change(home, one, "merge", csrf=csrf, other=other)
        page = await home.client.get(f"/desk/contacts/{one}")
        addresses = re.findall(r'name="address" value="(\d+)"', page.text)
        answer = await change(home, one, "split", csrf=csrf, address=addresses[1])
        page = words((await home.client.get(answer.headers["location"])).text)
        assert "Adressen er en egen kontakt nå." in page
        assert "Skilt ut: knut@example.no" in page
        assert "Gjerde" not in page

    async def test_what_cannot_be_is_said(self, home):
        csrf = await at_desk(home)
        one, other = await self.two(home)
        answer = await change(home, one, "merge", csrf=csrf, other=one)
        assert (answer.status_code, "den samme kontakten" in answer.text) == (422, True)
        assert (await change(home, one, "merge", csrf=csrf, other=99)).status_code == 404
        assert (await change(home, one, "merge", csrf=csrf, other="x")).status_code == 422
        assert (await change(home, one, "split", csrf=csrf, address=99)).status_code == 404
        assert (await change(home, one, "undo", csrf=csrf, move=99)).status_code == 404
        await change(home, one, "merge", csrf=csrf, other=other)
        answer = await change(home, one, "merge", csrf=csrf, other=other)
        assert (answer.status_code, "uten adresse" in answer.text) == (422, True)

    async def test_only_operators_and_only_from_our_pages(self, home):
        one, other = await self.two(home)
        csrf = await at_desk(home)
        assert (await change(home, one, "merge", other=other)).status_code == 403
        csrf = await at_desk(home, "vera", Role.LEAD, "vei")
        assert (await change(home, one, "merge", csrf=csrf, other=other)).status_code == 403
        assert (await change(home, one, "split", csrf=csrf, address=1)).status_code == 403
        assert (await change(home, one, "undo", csrf=csrf, move=1)).status_code == 403
        page = await home.client.get(f"/desk/contacts/{one}", params={"q": "knut"})
        assert "knut@example.no" not in page.text


class TestApi:
    async def test_the_whole_story(self, home):
        client = await home.api()
        first, second = await ask(home), await ask(home, "knut@example.no", "Gjerde", "Knut")
        one, other = await contact(home, first), await contact(home, second)
        found = (await client.get("/api/contacts", params={"q": "knut"})).json()["items"]
        assert found == [
            {
                "id": other,
                "name": "Knut",
                "addresses": [{"channel": "email", "value": "knut@example.no"}],
                "inquiries": 1,
            }
        ]
        merged = (await client.post(f"/api/contacts/{one}/merge", json={"other": other})).json()
        assert [row["ref"] for row in merged["inquiries"]] == [second, first]
        [move] = merged["moves"]
        assert move["addresses"] == ["knut@example.no"]
        assert (await client.get(f"/api/contacts/{other}")).json() == merged

        [_, address] = merged["addresses"]
        body = {"address": address["id"]}
        apart = (await client.post(f"/api/contacts/{one}/split", json=body)).json()
        assert [each["value"] for each in apart["addresses"]] == ["kari@example.no"]
        answer = await client.post(f"/api/contacts/{one}/undo", json={"move": move["id"]})
        assert answer.status_code == 409
        for number in (apart["moves"][0]["id"], move["id"], move["id"]):
            answer = await client.post(f"/api/contacts/{one}/undo", json={"move": number})
            assert answer.status_code == 200
        assert (await client.get(f"/api/contacts/{other}")).json()["id"] == other

    async def test_members_read_their_own_and_change_nothing(self, home):
        road = await ask(home)
        other = await ask(home, "knut@example.no", "Barnehage", text="Barnehage.")
        one, hidden = await contact(home, road), await contact(home, other)
        member = await home.api(Role.MEMBER, "vei")
        card = (await member.get(f"/api/contacts/{one}")).json()
        assert ([row["ref"] for row in card["inquiries"]], card["moves"]) == ([road], [])
        assert (await member.get(f"/api/contacts/{hidden}")).status_code == 404
        assert (await member.get("/api/contacts?q=knut")).status_code == 403
        body = {"other": hidden}
        assert (await member.post(f"/api/contacts/{one}/merge", json=body)).status_code == 403
        assert (await home.visitor().get(f"/api/contacts/{one}")).status_code == 401

    @pytest.mark.parametrize(
        "body", [{}, {"other": 0}, {"other": 2**70}, {"other": "x"}, {"id": 1}]
    )
    async def test_what_makes_no_sense_is_refused(self, home, body):
        number = await contact(home, await ask(home))
        answer = await (await home.api()).post(f"/api/contacts/{number}/merge", json=body)
        assert answer.status_code == 422
