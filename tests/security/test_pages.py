"""Pages and the interface, asked for what nobody should ask for."""

from __future__ import annotations

import asyncio
import re
from time import process_time

import pytest
from sqlalchemy import text as sql

from channels.base import RawArrival
from router import journal
from router.models import Role
from tests.router.web_house import house

NUMBER = "01018012345"
TOO_LARGE = "99999999999999999999"


@pytest.fixture
async def home(tmp_path):
    async with house(tmp_path) as opened:
        yield opened


async def at_desk(home) -> None:
    await home.person("kari", Role.OPERATOR)
    await home.sign_in("kari")


@pytest.mark.parametrize(
    "address",
    [
        f"/desk/arrivals/{TOO_LARGE}/raw",
        f"/desk/parked/{TOO_LARGE}",
        "/desk/inquiries/{ref}/attachments/" + TOO_LARGE,
    ],
)
async def test_a_number_that_no_row_can_have_is_not_found(home, address):
    ref = await home.inquiry()
    await at_desk(home)
    assert (await home.client.get(address.format(ref=ref))).status_code == 404


async def test_what_is_not_parked_is_not_shown_among_the_parked(home):
    """Else it shows everything of any contact, and nobody can see that it was looked at."""
    await home.inquiry(text=f"Nummeret mitt er {NUMBER}.")
    await at_desk(home)
    answer = await home.client.get("/desk/parked/1")
    assert answer.status_code == 404
    assert NUMBER not in answer.text


def form(charset: str, text: bytes, mark: str = "") -> dict:
    """A submission of the contact form as multipart, with a codec of its own. `mark` ends names."""
    fields = {"text": text, "subject": text[:50], "email": b"ola@eksempel.no"}
    parts = [
        b'--xx\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
        % ((name + mark).encode(), value)
        for name, value in fields.items()
    ]
    kind = f'multipart/form-data; charset="{charset}"; boundary=xx'
    return {"content": b"".join([*parts, b"--xx--\r\n"]), "headers": {"Content-Type": kind}}


async def test_a_form_in_a_slow_codec_holds_nobody_up(home):
    began = process_time()
    await home.client.post("/", **form("punycode", b"ab" * 150_000, mark="-"))
    assert process_time() - began < 3


@pytest.mark.parametrize("codec", ["utf-8", "iso-8859-1"])
async def test_a_form_that_names_its_codec_is_read(home, codec):
    taken = await home.client.post("/", **form(codec, "Grøn bøtte".encode(codec)))
    assert taken.status_code == 303
    found = (await (await home.api()).get("/api/inquiries", params={"q": "Grøn bøtte"})).json()
    assert len(found["items"]) == 1


@pytest.mark.parametrize("q", ["øvre", "ØVRE", "Øvre"])
async def test_searching_knows_norwegian_letters_in_both_cases(home, q):
    ref = await home.inquiry(subject="Hull i Øvre gate")
    found = await (await home.api()).get("/api/inquiries", params={"q": q})
    assert [item["ref"] for item in found.json()["items"]] == [ref]


async def test_a_double_click_on_the_form_is_answered_twice_with_the_same_page(home):
    page = await home.client.get("/")
    key = re.search(r'name="key" value="([^"]+)"', page.text)[1]
    form = {"text": "Hei " * 20_000, "email": "ola@eksempel.no", "key": key}
    answers = await asyncio.gather(*(home.client.post("/", data=form) for _ in range(4)))
    assert {answer.status_code for answer in answers} == {303}
    assert len({answer.headers["location"] for answer in answers}) == 1


async def test_a_store_that_refuses_every_write_is_not_called_ready(home):
    """A quota, a read-only disk, a damaged log: reading goes on, and no contact is taken."""

    def break_off(session):
        session.connection().execute(sql("PRAGMA query_only = ON"))

    await home.hall.db.write(break_off)
    arrival = RawArrival("email", "x", home.clock(), {"recipients": []}, b"x")
    with pytest.raises(Exception):  # noqa: B017 - whatever it is, the contact was refused
        await home.hall.db.write(
            lambda session: journal.insert(session.connection(), [journal.Entry(arrival)])[0]
        )
    answer = await home.client.get("/readyz")
    assert not answer.json()["parts"]["store"]["ok"]
    assert answer.status_code == 503
