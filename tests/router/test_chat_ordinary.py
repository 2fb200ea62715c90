"""Chats that nobody answered in time: what who had them is told, and answering them later."""

from __future__ import annotations

from datetime import timedelta

import pytest

from router import chat_queue
from router.chat_models import ConversationState
from rules.order import Lane
from tests.router.chat_house import stay, sweep, visitor
from tests.router.test_chat_desk import holder, sits, taken
from tests.router.web_house import house


@pytest.fixture
async def home(tmp_path):
    async with house(tmp_path) as opened:
        yield opened


async def too_late(home, *people):
    """Two minutes without an answer."""
    home.clock.move(minutes=2, seconds=1)
    await stay(home, *(one.id for one in people))
    await sweep(home)


async def test_who_had_a_chat_and_kept_silent_sees_where_it_went_and_why(home):
    siv, [nora] = await taken(home, "Når åpner dere?")
    ola = await sits(home, "ola")
    ref = nora.inquiry().ref
    await too_late(home, siv, ola)
    assert (nora.row().state, holder(nora)) == (ConversationState.DEFERRED, None)

    why = "Du hadde samtalen og svarte ikke i tide. Kl. 09:02 ble den en vanlig henvendelse."
    for path in ("", "/list"):
        lists = (await siv.get(path)).text
        assert why in lists
        assert f'href="/desk/chats/{ref}"' in lists
        assert "Vanlige henvendelser nå" not in (await ola.get(path)).text
    assert why in (await siv.get(f"/{ref}")).text
    assert why in (await siv.browser.get(f"/desk/inquiries/{ref}")).text
    others = why.replace("Du hadde", "Siv hadde")
    assert others in (await ola.get(f"/{ref}")).text
    assert others in (await ola.browser.get(f"/desk/inquiries/{ref}")).text

    # Once somebody has it, there is nothing to be told any more.
    await ola.browser.post(f"/desk/inquiries/{ref}/claim", data={"csrf": ola.csrf})
    assert "Vanlige henvendelser nå" not in (await siv.get()).text


async def test_what_nobody_had_says_so_and_stands_in_nobodys_list(home):
    siv = await sits(home, "siv")
    nora = await visitor(home, "Når åpner dere?")
    await too_late(home, siv)
    assert "Vanlige henvendelser nå" not in (await siv.get()).text
    page = (await siv.browser.get(f"/desk/inquiries/{nora.inquiry().ref}")).text
    assert "Ingen svarte i tide." in page


async def test_an_ordinary_answer_takes_no_room_and_a_talk_that_goes_on_does(home):
    siv = await sits(home, "siv")
    late = await visitor(home, "Når åpner dere?")
    await too_late(home, siv)
    ref = late.inquiry().ref
    others = [await visitor(home, f"Hei {number}") for number in range(3)]
    for one in others:
        assert (await siv.post(f"{one.inquiry().ref}/claim")).status_code == 303
    await home.hall.db.write(lambda s: stay_open(s, home, late))

    # Siv has as many as one can have: the answer goes, and it stays an ordinary inquiry.
    assert (await siv.say(ref, "Klokka åtte.")).status_code == 200
    assert (await late.lines())[-1] == "Klokka åtte."
    assert (late.row().state, late.inquiry().lane) == (ConversationState.DEFERRED, Lane.DEFERRABLE)
    assert (late.inquiry().answered_at, holder(late)) == (home.clock(), siv.id)
    assert chats(home, siv) == 3

    # With room, it is a talk again, and counts as one.
    await siv.post(f"{others[0].inquiry().ref}/end", outcome="answered")
    assert (await siv.say(ref, "Også på lørdag.")).status_code == 200
    assert (late.row().state, late.inquiry().lane) == (ConversationState.TALKING, Lane.LIVE)
    assert chats(home, siv) == 3
    one_more = await visitor(home, "Hei igjen")
    assert (await siv.post(f"{one_more.inquiry().ref}/claim")).status_code == 409


def stay_open(session, home, resident):
    """Their page is still open."""
    row = session.get_one(type(resident.row()), resident.row().id)
    row.listening_until = home.clock() + timedelta(minutes=1)


def chats(home, who):
    with home.hall.db.read() as session:
        return chat_queue.chats_of(session, [who.id], home.clock()).get(who.id, 0)
