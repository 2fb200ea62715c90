"""The list of inquiries as a page: what stands in a line, and what the page costs."""

from __future__ import annotations

import re
from contextlib import contextmanager
from html import unescape

import pytest
from sqlalchemy import Engine, event
from sqlmodel import select

from channels.base import RawArrival
from channels.email.identity import delivery_key
from router.access import Actor
from router.events import read_after
from router.models import Inquiry, OutboxItem, Role
from router.web.labels import LABELS
from tests.benchmarks import queue_page
from tests.router.store_house import STORE
from tests.router.web_house import house
from tests.service import mail


@pytest.fixture
async def home(tmp_path):
    async with house(tmp_path) as opened:
        yield opened


async def mail_in(home, to, sender="kari@example.no", subject="Hull i veien"):
    """A mail to these addresses, on its whole way in; returns its inquiry's reference."""
    raw = mail(subject, "Det er et hull i veien.", sender=sender, to=", ".join(to))
    envelope = {"mail_from": sender, "recipients": list(to)}
    arrival = RawArrival("email", delivery_key(raw, to), home.clock(), envelope, raw)
    return (await home.hall.reception.receive_now(arrival)).ref


async def write_again(home, ref):
    """The resident writes in the thread of an inquiry once more."""
    with home.hall.db.read() as session:
        number = session.exec(select(Inquiry.id).where(Inquiry.ref == ref)).one()
    home.clock.move(minutes=1)
    await mail_in(home, [home.hall.reply_context.reply_address(number)], subject="SV: Hull")


async def csrf(home):
    page = await home.client.get("/desk/account")
    return re.search(r'name="csrf" value="([^"]+)"', page.text)[1]


async def line_of(home, ref):
    page = (await home.client.get("/desk/queue")).text
    row = page.split(f'<tr id="row-{ref}"')[1].split("</tr>")[0]
    return " ".join(unescape(re.sub("<[^>]+>", " ", row)).split())


@contextmanager
def statements():
    """What the store is asked in the meantime."""
    asked: list[str] = []

    def note(_connection, _cursor, statement, *_):
        asked.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(Engine, "before_cursor_execute", note)


@contextmanager
def steps():
    """How many steps the store takes in the meantime, in hundreds."""
    taken = [0]

    def step():
        taken[0] += 1

    def count(_connection, cursor, *_):
        cursor.connection.set_progress_handler(step, 100)

    event.listen(Engine, "before_cursor_execute", count)
    try:
        yield taken
    finally:
        event.remove(Engine, "before_cursor_execute", count)


@pytest.mark.parametrize(
    "page", ["queue", "queue?department=vei", "chats", "alarm", "aside", "outbox", "parked"]
)
async def test_a_page_costs_no_more_however_many_inquiries_there_are(home, tmp_path, page):
    await home.person("kari")
    await home.sign_in("kari")
    store = next(tmp_path.rglob(STORE))
    taken = []
    for number in (100, 5_000):
        queue_page.seed(store, number, ["vei", "skole", "nav"], 101 if taken else 1)
        await home.client.get(f"/desk/{page}")
        with steps() as counted:
            assert (await home.client.get(f"/desk/{page}")).status_code == 200
        taken.append(counted[0])
    few, many = taken
    assert many <= 2 * few + 5


async def test_the_list_can_be_narrowed_to_every_way_in(home):
    await home.person("kari")
    await home.sign_in("kari")
    chooser = (await home.client.get("/desk/queue")).text.split('name="channel"')[1]
    offered = set(re.findall(r'<option value="(\w+)"', chooser.split("</select>")[0]))
    assert offered == LABELS["channel"].keys() - {"note", "xmpp"}  # a talk by XMPP is a chat


@pytest.mark.parametrize(
    "subject", ["100 % %(ref)s %s", "{subject} {0}", "<b>&amp; \"'", "\\1 \\g<0>", "a\tb"]
)
async def test_a_line_shows_whatever_somebody_wrote(home, subject):
    await home.person("kari")
    await home.sign_in("kari")
    ref = await home.inquiry(subject)
    page = await home.client.get("/desk/queue")
    shown = page.text.split(f'id="open-{ref}"')[1].split("</a>")[0].split(">", 1)[1]
    assert "<" not in shown
    assert unescape(shown).split() == subject.split()


async def test_the_page_asks_the_store_little_however_many_lines_it_has(home):
    await home.person("kari")
    await home.person("vera", Role.MEMBER, "vei")
    for _ in range(3):
        await home.inquiry()
    for who, most in (("kari", 12), ("vera", 13)):
        await home.sign_in(who)
        with statements() as asked:
            page = await home.client.get("/desk/queue")
        assert page.text.count('class="row ') == 3
        # The live stream looks for news in the meantime.
        questions = [one for one in asked if one != "BEGIN" and "FROM event" not in one]
        assert len(questions) <= most, "\n".join(one[-160:] for one in questions)


async def test_a_member_finds_what_was_sent_to_the_own_department_as_well(home):
    ref = await mail_in(home, ["vei@sorum.kommune.no", "park@sorum.kommune.no"])
    await home.inquiry()
    counts = {}
    for name, department in (("vera", "vei"), ("per", "park"), ("bo", "byggesak")):
        await home.person(name, Role.MEMBER, department)
        await home.sign_in(name)
        page = (await home.client.get("/desk/queue")).text
        counts[name] = re.search(r"<dt>Åpne</dt><dd>(\d+)</dd>", page)[1]
        assert int(counts[name]) == page.count('class="row ')
        assert re.search(rf'<option value="{department}">[^<]*\({counts[name]}\)', page)
    assert counts == {"vera": "2", "per": "1", "bo": "0"}
    await home.sign_in("per")
    assert "Vei, også Park og natur" in await line_of(home, ref)
    assert "Vei, også Park og natur" in (await home.client.get(f"/desk/inquiries/{ref}")).text
    # Who sees everything finds it with whoever answers it, and reads the same words.
    await home.person("siv")
    await home.sign_in("siv")
    assert "Vei, også Park og natur" in await line_of(home, ref)
    park = (await home.client.get("/desk/queue?department=park")).text
    assert "<dt>Åpne</dt><dd>0</dd>" in park
    assert 'class="row ' not in park


async def test_what_happens_to_a_shared_inquiry_reaches_all_who_share_it(home):
    ref = await mail_in(home, ["vei@sorum.kommune.no", "park@sorum.kommune.no"])
    api = await home.api()
    await api.post(f"/api/inquiries/{ref}/claim")
    await api.post(f"/api/inquiries/{ref}/transfer", json={"department": "byggesak"})
    with home.hall.db.read() as session:
        told = read_after(session, 0, 100)
    transferred = [event for event in told if event.kind == "transferred"]
    per, bo = (Actor(Role.MEMBER, departments=frozenset({slug})) for slug in ("park", "barnehage"))
    assert [per.sees_event(event) for event in transferred] == [True]
    assert not any(bo.sees_event(event) for event in told)


async def test_events_of_a_shared_inquiry_are_seen_while_it_is_shared(home):
    ref = await mail_in(home, ["vei@sorum.kommune.no", "park@sorum.kommune.no"])
    await (await home.api()).post(f"/api/inquiries/{ref}/claim")
    with home.hall.db.read() as session:
        [claimed] = [event for event in read_after(session, 0, 100) if event.kind == "claimed"]
    assert claimed.department == "vei"
    assert Actor(Role.MEMBER, departments=frozenset({"park"})).sees_event(claimed)
    assert not Actor(Role.MEMBER, departments=frozenset({"plan"})).sees_event(claimed)


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.MEMBER])
async def test_a_new_message_in_what_one_holds_is_told_until_it_is_read(home, role):
    ref = await mail_in(home, ["vei@sorum.kommune.no"])
    await home.person("olav")
    await home.person("vera", role, *(["vei"] if role is Role.MEMBER else []))
    await home.sign_in("vera")
    token = await csrf(home)
    await home.client.post(f"/desk/inquiries/{ref}/claim", data={"csrf": token})
    assert "Ny melding" not in await line_of(home, ref)
    await write_again(home, ref)
    assert "Ny melding" in await line_of(home, ref)
    for page in ("/desk/queue", "/desk/account", "/desk/alarm"):
        assert "Ny melding fra innbyggeren:" in (await home.client.get(page)).text

    # Others see the mark, but it is not for them to be told; and their looking does not count.
    await home.sign_in("olav")
    assert "Ny melding" in await line_of(home, ref)
    assert "Ny melding fra innbyggeren:" not in (await home.client.get("/desk/alarm")).text
    await home.client.get(f"/desk/inquiries/{ref}")

    await home.sign_in("vera")
    await home.client.get(f"/desk/inquiries/{ref}/live")
    assert "Ny melding" in await line_of(home, ref)
    opened = (await home.client.get(f"/desk/inquiries/{ref}")).text
    assert "Ny melding fra innbyggeren:" not in opened
    assert "Ny melding" not in await line_of(home, ref)
    assert "Ny melding fra innbyggeren:" not in (await home.client.get("/desk/alarm")).text
    assert "Ny melding lest" in (await home.client.get(f"/desk/inquiries/{ref}")).text


async def test_a_new_message_in_what_nobody_holds_is_marked_until_it_is_answered(home):
    ref = await mail_in(home, ["vei@sorum.kommune.no"])
    await home.person("siv")
    await home.sign_in("siv")
    await write_again(home, ref)
    assert "Ny melding" in await line_of(home, ref)
    await (await home.api()).post(f"/api/inquiries/{ref}/reply", json={"text": "Vi kommer."})
    assert "Ny melding" not in await line_of(home, ref)


async def test_a_receipt_that_did_not_arrive_is_marked(home):
    ref, other = [await mail_in(home, ["vei@sorum.kommune.no"], f"{x}@example.no") for x in "ab"]
    await home.person("siv")
    await home.sign_in("siv")

    def fail(session):
        query = select(OutboxItem).join(Inquiry).where(Inquiry.ref == ref)
        session.exec(query).one().state = "failed"

    await home.hall.db.write(fail)
    assert "Kvittering ikke levert" in await line_of(home, ref)
    assert "Kvittering ikke levert" not in await line_of(home, other)
    assert "Kvittering ikke levert" in (await home.client.get(f"/desk/inquiries/{ref}")).text
