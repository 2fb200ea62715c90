"""Giving an ordinary inquiry to a colleague on its page."""

from __future__ import annotations

import re

import pytest

from router import staff
from router.models import Role
from tests.router.chat_house import events, visitor
from tests.router.test_chat_desk import holder, sits, taken
from tests.router.web_house import house


@pytest.fixture
async def home(tmp_path):
    async with house(tmp_path) as opened:
        yield opened


async def act(who, ref, action, **fields):
    data = {"csrf": who.csrf, **fields}
    return await who.browser.post(f"/desk/inquiries/{ref}/{action}", data=data)


async def held_by(home, ref):
    answer = await (await home.api()).get(f"/api/inquiries/{ref}")
    return answer.json()["assignee"], answer.json()["department"]


async def test_an_inquiry_goes_to_a_colleague_by_the_first_letters_with_a_note(home):
    siv, ola = await sits(home, "siv"), await sits(home, "ola")
    ref = await home.inquiry()
    page = (await siv.browser.get(f"/desk/inquiries/{ref}")).text
    assert "Overlat til en kollega" in page
    assert '<option value="Ola">ola</option>' in page
    assert '<option value="Siv">' not in page

    await act(siv, ref, "claim")
    given = await act(siv, ref, "hand-over", person="ol", note="Kan du ta den?")
    assert given.headers["location"] == f"/desk/inquiries/{ref}?done=handed_over"
    assert await held_by(home, ref) == ("ola", "vei")
    theirs = (await ola.browser.get("/desk/queue")).text
    assert ref in theirs
    seen = (await ola.browser.get(f"/desk/inquiries/{ref}")).text
    assert "Kan du ta den?" in seen
    assert "Siv ga henvendelsen til Ola" in seen
    assert (await events(home, ref)).count("handed_over") == 1

    # Ola has only looked: it can be taken back, by whoever gave it.
    assert f"/desk/inquiries/{ref}/take-back" not in seen
    assert "Ola har fått den av deg" in (await siv.browser.get(f"/desk/inquiries/{ref}")).text
    assert (await act(siv, ref, "take-back")).status_code == 303
    assert await held_by(home, ref) == ("siv", "vei")


async def test_what_is_not_clear_or_not_allowed_gives_it_to_nobody_and_keeps_the_words(home):
    siv, ola = await sits(home, "siv"), await sits(home, "ola")
    await sits(home, "olav")
    await sits(home, "anne", Role.MEMBER, "barnehage")
    ref = await home.inquiry()
    for person, said in (
        ("o", "Flere passer. Velg en."),
        ("ingen", "Ingen som jobber her, heter det."),
        ("", "Ingen som jobber her, heter det."),
        ("siv", "Ingen som jobber her, heter det."),
    ):
        refused = await act(siv, ref, "hand-over", person=person, note="Se her")
        assert (refused.status_code, said in refused.text) == (422, True), said
        assert "Se her" in refused.text
    assert await held_by(home, ref) == (None, "vei")

    # By the name in full, also where another's begins so; and by choice.
    assert (await act(siv, ref, "hand-over", person="Ola")).status_code == 303
    assert await held_by(home, ref) == ("ola", "vei")
    assert (await act(siv, ref, "hand-over", chosen="olav")).status_code == 409
    assert (await act(ola, ref, "hand-over", chosen="olav")).status_code == 303
    assert await held_by(home, ref) == ("olav", "vei")


async def test_a_colleague_who_would_not_see_it_gets_it_in_their_department(home):
    siv = await sits(home, "siv")
    await sits(home, "anne", Role.MEMBER, "barnehage")
    ref = await home.inquiry()
    assert (await act(siv, ref, "hand-over", person="anne")).status_code == 303
    assert await held_by(home, ref) == ("anne", "barnehage")


async def test_who_gives_it_to_where_they_do_not_see_it_reads_who_has_it_and_may_take_it_back(home):
    siv = await sits(home, "siv", Role.MEMBER, "vei")
    anne = await sits(home, "anne", Role.MEMBER, "barnehage")
    ref = await home.inquiry()
    given = await act(siv, ref, "hand-over", person="anne")
    told = (await siv.browser.get(given.headers["location"])).text
    assert "Anne har den nå, hos Barnehage. Der ser du den ikke." in told
    assert f'href="/desk/inquiries/{ref}"' not in told
    assert f'action="/desk/inquiries/{ref}/take-back"' in told

    await act(anne, ref, "note", text="Jeg ringer")
    later = (await siv.browser.get(given.headers["location"])).text
    assert "Anne har den nå, hos Barnehage." in later
    assert "/take-back" not in later
    # Somebody else is told nothing by the same address.
    ola = await sits(home, "ola", Role.MEMBER, "park")
    assert "Anne" not in (await ola.browser.get(given.headers["location"])).text


async def test_who_transfers_it_to_where_they_do_not_see_it_gets_no_link(home):
    siv = await sits(home, "siv", Role.MEMBER, "vei")
    ref = await home.inquiry()
    gone = await act(siv, ref, "transfer", department="Barnehage")
    told = (await siv.browser.get(gone.headers["location"])).text
    assert "Henvendelsen er sendt videre." in told
    assert f'href="/desk/inquiries/{ref}"' not in told


async def test_what_a_colleague_holds_cannot_be_written_in_and_its_field_says_why(home):
    siv, ola = await sits(home, "siv"), await sits(home, "ola")
    ref = await home.inquiry()
    await act(ola, ref, "claim")
    page = (await siv.browser.get(f"/desk/inquiries/{ref}")).text
    field = re.search(r'<textarea[^>]*id="reply-text"[^>]*>', page)[0]
    assert " readonly" in field
    assert 'aria-describedby="held ' in field
    assert "Ola har tatt denne henvendelsen." in re.search(r'id="held">(.*?)</div>', page)[1]
    assert " disabled" in re.search(r'<input[^>]*id="reply-files"[^>]*>', page)[0]
    assert " readonly" not in re.search(r'<textarea[^>]*id="note-text"[^>]*>', page)[0]


async def test_who_has_left_the_department_takes_nothing_back_to_it(home):
    siv = await sits(home, "siv", Role.MEMBER, "vei")
    await sits(home, "anne", Role.MEMBER, "barnehage")
    ref = await home.inquiry()
    await act(siv, ref, "hand-over", person="anne")

    async def moves(department):
        def job(session):
            person = staff.require_staff(session, "siv")
            staff.change_staff(session, person, home.clock(), departments=[department])

        await home.hall.db.write(job)
        return (await act(siv, ref, "take-back")).status_code

    assert await moves("park") == 404
    assert await held_by(home, ref) == ("anne", "barnehage")
    assert await moves("vei") == 303
    assert await held_by(home, ref) == ("siv", "vei")


async def test_a_live_chat_goes_only_to_who_has_room(home):
    ola, _talks = await taken(home, "Hei", "Hallo", "God dag")
    siv = await sits(home, "kari")
    nora = await visitor(home, "Når åpner dere?")
    refused = await act(siv, nora.inquiry().ref, "hand-over", chosen=ola.username)
    assert (refused.status_code, holder(nora)) == (409, None)
