"""Chats at the desk, in the store and on the pages: capacity, passing on, ending, rights."""

from __future__ import annotations

import asyncio
import re
import uuid

import pytest

from router import chat_desk, chat_queue
from router.access import Actor
from router.chat_models import ConversationState
from router.models import InquiryStatus, Role
from rules.order import Lane
from tests.router.chat_house import at_desk, events, letters, reply, stay, sweep, visitor
from tests.router.web_house import house


@pytest.fixture
async def home(tmp_path):
    async with house(tmp_path) as opened:
        yield opened


class AtDesk:
    """Somebody signed in at the desk, with the token of their page."""

    def __init__(self, home, username, number, browser, csrf):
        self.home, self.username, self.id = home, username, number
        self.browser, self.csrf = browser, csrf

    async def post(self, path, **fields):
        data = {"csrf": self.csrf, **fields}
        return await self.browser.post(f"/desk/chats/{path}", data=data)

    async def say(self, ref, text, key="", **more):
        return await self.browser.post(
            f"/desk/chats/{ref}/messages",
            data={"csrf": self.csrf, "text": text, "key": key or str(uuid.uuid4())},
            headers={"Accept": "application/json"},
            **more,
        )

    async def get(self, path=""):
        return await self.browser.get(f"/desk/chats{path}")


async def sits(home, username, role=Role.OPERATOR, *departments):
    number = await home.person(username, role, *departments)
    browser = home.visitor()
    await browser.get("/desk/login", params={"once": await home.link(number)})
    page = await browser.get("/desk/account")
    await stay(home, number)
    return AtDesk(
        home, username, number, browser, re.search(r'name="csrf" value="([^"]+)"', page.text)[1]
    )


async def taken(home, *words):
    """An operator with the talks of residents who said this."""
    siv = await sits(home, "siv")
    residents = [await visitor(home, one) for one in words]
    for one in residents:
        assert (await siv.post(f"{one.inquiry().ref}/claim")).status_code == 303
    return siv, residents


def holder(resident):
    return resident.inquiry().assignee_id


async def test_nobody_gets_more_chats_than_one_can_have(home):
    await at_desk(home)
    siv = await sits(home, "kari")
    residents = [await visitor(home, f"Hei {n}") for n in range(5)]
    refs = [one.inquiry().ref for one in residents]
    answers = await asyncio.gather(*(siv.post(f"{ref}/claim") for ref in refs))
    assert sorted(answer.status_code for answer in answers) == [303, 303, 303, 409, 409]
    refused = next(answer for answer in answers if answer.status_code == 409)
    assert "så mange samtaler som en kan ha" in refused.text
    assert "Overlat eller avslutt en først" in refused.text
    assert (await siv.post("next")).status_code == 409
    left = next(one for one in residents if holder(one) is None)
    said = await siv.say(left.inquiry().ref, "Hei!")
    assert said.status_code == 409
    assert "Overlat eller avslutt en først" in said.json()["problem"]
    assert len(await left.lines()) == 1
    # One that is ended makes room for another.
    mine = next(one for one in residents if holder(one) == siv.id)
    assert (await siv.post(f"{mine.inquiry().ref}/end", outcome="answered")).status_code == 303
    assert (await siv.post("next")).status_code == 303
    with home.hall.db.read() as session:
        assert chat_queue.chats_of(session, [siv.id], home.clock()) == {siv.id: 3}


async def test_the_interface_refuses_a_chat_too_many_as_well(home):
    await at_desk(home)
    api = await home.api()
    residents = [await visitor(home, f"Hei {n}") for n in range(4)]
    refs = [one.inquiry().ref for one in residents]
    codes = [(await api.post(f"/api/inquiries/{ref}/claim")).status_code for ref in refs]
    assert codes == [200, 200, 200, 409]
    # What is no chat is taken all the same.
    ref = await home.inquiry()
    assert (await api.post(f"/api/inquiries/{ref}/claim")).status_code == 200
    # Machines answer more than they hold.
    await reply(home, refs[3], "Hei!")
    assert holder(residents[3]) is None


async def test_two_who_take_the_same_chat_get_it_once(home):
    siv, ola = await sits(home, "siv"), await sits(home, "ola")
    resident = await visitor(home, "Hei")
    ref = resident.inquiry().ref
    answers = await asyncio.gather(siv.post(f"{ref}/claim"), ola.post(f"{ref}/claim"))
    assert sorted(answer.status_code for answer in answers) == [303, 409]
    refused = next(answer for answer in answers if answer.status_code == 409)
    assert "har tatt denne henvendelsen" in refused.text


async def test_taking_the_next_follows_the_line_and_leaves_alone_what_one_passed_on(home):
    siv = await sits(home, "siv")
    first, second = await visitor(home, "Først"), await visitor(home, "Så")
    for resident in (first, second):
        answer = await siv.post("next")
        assert answer.headers["location"] == f"/desk/chats/{resident.inquiry().ref}"
    assert (await siv.post("next")).headers["location"].endswith("done=no_chat")
    passed = await siv.post(f"{first.inquiry().ref}/pass", to="vei", text="For dere")
    assert passed.status_code == 303
    assert (await siv.post("next")).headers["location"].endswith("done=no_chat")
    ola = await sits(home, "ola")
    await ola.post("next")
    assert holder(first) == ola.id


async def test_what_is_said_twice_under_one_key_is_said_once(home):
    siv, [resident] = await taken(home, "Hei")
    ref = resident.inquiry().ref
    key = str(uuid.uuid4())
    answers = await asyncio.gather(*(siv.say(ref, "Hei til deg!", key) for _ in range(3)))
    assert {answer.status_code for answer in answers} == {200}
    [number] = {answer.json()["id"] for answer in answers}
    assert await resident.lines() == ["Hei", "Hei til deg!"]
    file = {"files": ("a.txt", b"Hei", "text/plain")}
    for _ in range(2):
        answer = await siv.say(ref, "Med fil", "0" * 32, files=file)
        assert [one["name"] for one in answer.json()["files"]] == ["a.txt"]
    assert answer.json()["id"] > number
    assert await resident.lines() == ["Hei", "Hei til deg!", "Med fil"]
    assert (await siv.say(ref, "  ")).json()["problem"] == "Svaret er tomt."


async def test_a_note_is_for_the_desk_alone(home):
    siv, [resident] = await taken(home, "Hei")
    ref = resident.inquiry().ref
    await siv.post(f"{ref}/note", text="Hemmelig notat")
    assert "Hemmelig notat" in (await siv.get(f"/{ref}")).text
    assert "Hemmelig notat" not in str(await resident.look())
    page = await resident.browser.get("/chat")
    assert "Hemmelig notat" not in page.text


async def test_a_talk_goes_to_a_colleague_with_all_that_was_said_and_the_resident_is_told(home):
    siv, [resident] = await taken(home, "Det er et hull i veien.")
    ola = await sits(home, "ola")
    ref = resident.inquiry().ref
    await siv.say(ref, "Hvor?")
    answer = await siv.post(f"{ref}/pass", chosen="person:ola", text="Du kan veier")
    assert answer.headers["location"] == f"/desk/chats/{ref}?done=handed_over"
    assert holder(resident) == ola.id
    [_, _, told] = (await resident.look())["messages"]
    assert told["text"] == "Ola overtar samtalen og svarer deg her."
    assert "siv" not in told["text"].lower()
    page = (await ola.get("")).text
    assert "Siv har overlatt til deg:" in page
    talk = (await ola.get(f"/{ref}")).text
    for words in ("Det er et hull i veien.", "Hvor?", "Du kan veier"):
        assert words in talk
    assert "har overlatt til deg" not in (await ola.get("")).text  # it has been opened
    assert (await siv.say(ref, "Jeg igjen")).status_code == 409
    assert (await ola.say(ref, "Jeg tar det herfra.")).status_code == 200
    assert (await resident.lines())[-1] == "Jeg tar det herfra."
    assert "handed_over" in await events(home, ref)


async def test_it_is_taken_back_as_long_as_the_colleague_has_not_answered(home):
    siv, [resident] = await taken(home, "Hei")
    ola = await sits(home, "ola")
    ref = resident.inquiry().ref
    await siv.post(f"{ref}/pass", to="Ola")
    await ola.get(f"/{ref}")  # only looked at
    assert f"/desk/chats/{ref}/take-back" in (await siv.get(f"/{ref}")).text
    assert (await siv.post(f"{ref}/take-back")).status_code == 303
    assert holder(resident) == siv.id
    assert (await resident.lines())[-1] == "Siv overtar samtalen og svarer deg her."
    await siv.post(f"{ref}/pass", to="Ola")
    await ola.say(ref, "Hei!")
    refused = await siv.post(f"{ref}/take-back")
    assert refused.status_code == 409
    assert "kan ikke tas tilbake" in refused.text
    assert (await ola.post(f"{ref}/take-back")).status_code == 404


async def test_a_colleague_with_enough_chats_gets_no_more(home):
    siv, [resident, *_] = await taken(home, "Hei", "Hei", "Hei")
    ola = await sits(home, "ola")
    more = [await visitor(home, "Hallo") for _ in range(3)]
    for one in more:
        await ola.post(f"{one.inquiry().ref}/claim")
    refused = await siv.post(f"{resident.inquiry().ref}/pass", to="ola")
    assert refused.status_code == 409
    assert "Velg en annen" in refused.text
    assert holder(resident) == siv.id
    # A mail is no chat: it goes.
    ref = await home.inquiry()
    api = await home.api()
    answer = await api.post(f"/api/inquiries/{ref}/transfer", json={"person": "ola", "note": "Se"})
    assert (answer.status_code, answer.json()["assignee"]) == (200, "ola")


async def test_who_would_not_see_it_gets_it_in_their_own_department(home):
    await home.person("vera", Role.MEMBER, "vei")
    await home.person("per", Role.MEMBER, "vei", "skole")
    ref = await home.inquiry("Barnehageplass", "Om barnehage")
    api = await home.api()
    two = await api.post(f"/api/inquiries/{ref}/transfer", json={"person": "per"})
    assert two.status_code == 422
    assert "several departments" in two.json()["detail"]
    answer = await api.post(
        f"/api/inquiries/{ref}/transfer", json={"person": "per", "department": "skole"}
    )
    assert (answer.json()["department"], answer.json()["assignee"]) == ("skole", "per")
    other = await home.inquiry("Barnehageplass", "Om barnehage")
    answer = await api.post(f"/api/inquiries/{other}/transfer", json={"person": "vera"})
    assert (answer.json()["department"], answer.json()["assignee"]) == ("vei", "vera")
    free = await home.inquiry("Barnehageplass", "Om barnehage")
    for person in ("api-operator", "finnes-ikke"):
        wrong = await api.post(f"/api/inquiries/{free}/transfer", json={"person": person})
        assert wrong.status_code == 422
        assert "Nobody who works here" in wrong.json()["detail"]


async def test_a_member_of_another_department_neither_sees_nor_follows_nor_hands_over(home):
    siv, [resident] = await taken(home, "Det er et hull i veien.")
    ref = resident.inquiry().ref
    mine, other = (
        await sits(home, "vera", Role.MEMBER, "vei"),
        await sits(home, "bo", Role.MEMBER, "skole"),
    )
    assert (await mine.get(f"/{ref}")).status_code == 200
    for path in (f"/{ref}", f"/{ref}/live", f"/{ref}/events"):
        assert (await other.get(path)).status_code == 404
    for path in ("claim", "messages", "note", "pass", "return", "take-back", "end", "typing"):
        answer = await other.post(f"{ref}/{path}", text="x", to="bo", outcome="answered")
        assert answer.status_code == 404, path
    assert ref not in (await other.get("/list")).text
    assert holder(resident) == siv.id
    # Whoever may see it and does not hold it may write a note, and nothing else.
    for path in ("messages", "pass", "end", "release"):
        answer = await mine.post(f"{ref}/{path}", text="x", to="Servicetorget", outcome="answered")
        assert answer.status_code == 409, path
    assert (await mine.post(f"{ref}/note", text="Vi vet om hullet")).status_code == 303


async def test_a_department_gets_it_in_the_middle_of_the_talk_and_gives_it_back(home):
    siv, [resident] = await taken(home, "Hei, noe om veier og hull")
    ref = resident.inquiry().ref
    await siv.say(ref, "Et øyeblikk")
    await siv.post(f"{ref}/pass", to="Barnehage", text="Gjelder barn")
    inquiry = resident.inquiry()
    assert (inquiry.department, inquiry.assignee_id, inquiry.lane) == ("barnehage", None, Lane.LIVE)
    assert (await resident.lines())[-1] == "Barnehage overtar samtalen og svarer deg her."
    assert (await resident.standing())["status"] == "Noen svarer snart."
    barbro = await sits(home, "barbro", Role.MEMBER, "barnehage")
    assert f"waits-{ref}" in (await barbro.get("/list")).text
    assert (await barbro.post("next")).status_code == 303
    assert (await barbro.say(ref, "Hei fra oss")).status_code == 200
    answer = await barbro.post(f"{ref}/return", reason="Ikke vårt")
    assert answer.headers["location"] == f"/desk/chats?done=returned&ref={ref}"
    assert resident.inquiry().department == "servicetorg"
    assert (await resident.lines())[-1] == "Servicetorget overtar samtalen og svarer deg her."


@pytest.mark.parametrize("to", ["", "finnes ikke", "o"])
async def test_whoever_cannot_be_meant_is_asked_about_and_what_was_typed_stays(home, to):
    siv, [resident] = await taken(home, "Hei")
    await sits(home, "ola")
    await sits(home, "oda")
    answer = await siv.post(f"{resident.inquiry().ref}/pass", to=to, text="Et notat")
    assert answer.status_code == 422
    assert "Et notat" in answer.text
    if to == "o":
        for one in ("ola", "oda"):
            assert f'value="person:{one}"' in answer.text
    assert holder(resident) == siv.id


async def test_what_became_of_a_talk_is_kept_shown_and_counted(home):
    siv, [resident, other] = await taken(home, "Hei", "Hallo")
    ref = resident.inquiry().ref
    assert (await siv.post(f"{ref}/end", outcome="tull")).status_code == 422
    await siv.post(f"{ref}/end", outcome="passed_on")
    assert resident.row().outcome == "passed_on"
    assert resident.inquiry().status is InquiryStatus.CLOSED
    standing = await resident.standing()
    assert standing["closed"]
    assert "Skriv her" in standing["status"]
    detail = (await (await home.api()).get(f"/api/inquiries/{ref}")).json()
    closed = next(event for event in detail["events"] if event["kind"] == "closed")
    assert closed["data"]["outcome"] == "passed_on"
    assert "Vist videre til andre" in (await siv.get(f"/{ref}")).text
    page = await siv.browser.get(f"/desk/inquiries/{ref}")
    assert "Vist videre til andre" in page.text
    await siv.post(f"{other.inquiry().ref}/end", outcome="no_contact")
    figures = (await siv.browser.get("/desk/statistics")).text
    assert re.search(r"Vist videre til andre</dt><dd>1 \(50 %\)", figures)
    # Who writes again opens it again; it goes on, so nothing has become of it yet.
    await resident.say("En ting til")
    assert (resident.inquiry().status, resident.row().outcome) == (InquiryStatus.OPEN, None)


async def test_an_answer_by_letter_says_how_far_it_has_come_and_is_what_was_said_last(home):
    siv, [resident] = await taken(home, "Når åpner biblioteket?")
    ref = resident.inquiry().ref
    await resident.post("contact", {"email": "kari@eksempel.no"})
    home.clock.move(minutes=5)
    await siv.say(ref, "Biblioteket åpner klokka ti.")
    lines = (await siv.get(f"/{ref}")).text.partition('id="lines"')[2]
    assert re.search(r'Biblioteket åpner klokka ti.</p>\s*<p class="mark">Venter på å bli', lines)
    assert "Biblioteket åpner klokka ti." in (await siv.get("/list")).text


async def test_an_alarm_of_a_later_message_names_the_words_that_raised_it(home):
    siv, [resident] = await taken(home, "Når åpner biblioteket?")
    await resident.say("Hjelp, han puster ikke")
    alarm = (await siv.browser.get("/desk/alarm")).text
    assert "Når åpner biblioteket?" in alarm
    assert "senere: «puster ikke»" in alarm


async def test_casework_stays_open_with_its_date_frees_the_place_and_the_resident_is_told(home):
    siv, [resident] = await taken(home, "Jeg vil klage")
    ref = resident.inquiry().ref
    await resident.post("contact", {"email": "kari@eksempel.no"})
    await siv.say(ref, "Det må vi se på.")
    before = resident.inquiry()
    answer = await siv.post(f"{ref}/end", outcome="casework")
    assert answer.headers["location"] == f"/desk/chats/{ref}?done=casework"
    inquiry = resident.inquiry()
    assert (inquiry.status, inquiry.lane) == (InquiryStatus.OPEN, Lane.DEFERRABLE)
    assert (inquiry.answered_at, inquiry.due_at) == (None, before.due_at)
    assert inquiry.assignee_id == siv.id
    with home.hall.db.read() as session:
        assert chat_queue.chats_of(session, [siv.id], home.clock()) == {}
    last = (await resident.look())["messages"][-1]
    assert ref in last["text"]
    assert "Du får svar senest" in last["text"]
    assert ref in (await resident.standing())["status"]
    assert [letter.kind for letter in letters(home)] == ["receipt"]
    # The thread goes on: what is written is in it, and an answer is the answer of the case.
    await resident.say("Takk")
    assert resident.row().state is ConversationState.DEFERRED
    await siv.say(ref, "Her er svaret.")
    assert resident.inquiry().answered_at is not None
    assert resident.inquiry().lane == Lane.DEFERRABLE
    assert (await resident.standing())["status"] == "Vi har svart deg."
    again = await siv.post(f"{ref}/end", outcome="casework")
    assert again.status_code == 303
    assert sum("Du får svar senest" in line for line in await resident.lines()) == 1


async def test_lists_say_what_is_unread_and_who_waits(home):
    siv, [resident] = await taken(home, "Hei")
    other = await visitor(home, "Er det noen der?")
    await resident.say("Hallo?")
    actor = Actor(Role.OPERATOR, siv.id, "Siv", "siv")
    with home.hall.db.read() as session:
        [mine] = chat_desk.mine(session, actor, home.clock())
        [waits] = chat_desk.waiting(session, actor, home.clock())
        load = chat_desk.load(session, actor, home.clock())
    assert (mine.last, mine.unread, waits.ref) == ("Hallo?", 2, other.inquiry().ref)
    assert (load.waiting, load.unread) == (1, 1)
    for page in ("/desk/queue", "/desk/account"):
        assert "1 venter i chatten." in (await siv.browser.get(page)).text
    number = (await resident.look())["messages"][-1]["id"]
    seen = await siv.browser.post(
        f"/desk/chats/{resident.inquiry().ref}/read",
        json={"message_id": number},
        headers={"X-CSRF-Token": siv.csrf},
    )
    assert seen.status_code == 204
    with home.hall.db.read() as session:
        assert chat_desk.load(session, actor, home.clock()).unread == 0
    # A talk that its resident has ended stays until somebody says what became of it.
    await resident.post("leave")
    with home.hall.db.read() as session:
        [mine] = chat_desk.mine(session, actor, home.clock())
    assert mine.state is ConversationState.ENDED
    await siv.post(f"{mine.ref}/end", outcome="answered")
    with home.hall.db.read() as session:
        assert chat_desk.mine(session, actor, home.clock()) == []


async def test_who_only_looks_in_reads_for_nobody(home):
    _siv, [resident] = await taken(home, "Hei")
    ola = await sits(home, "ola")
    number = (await resident.look())["messages"][0]["id"]
    await ola.browser.post(
        f"/desk/chats/{resident.inquiry().ref}/read",
        json={"message_id": number},
        headers={"X-CSRF-Token": ola.csrf},
    )
    assert (await resident.standing())["read"] == 0


async def test_without_script_the_page_takes_what_is_said(home):
    siv, [resident] = await taken(home, "Hei")
    ref = resident.inquiry().ref
    answer = await siv.post(f"{ref}/messages", text="Hei til deg", key="")
    assert answer.headers["location"] == f"/desk/chats/{ref}#latest"
    assert await resident.lines() == ["Hei", "Hei til deg"]
    refused = await siv.post(f"{ref}/messages", text="x" * 4001)
    assert refused.status_code == 422
    assert "x" * 4001 in refused.text


async def test_what_waits_in_a_browser_is_not_said_in_the_name_of_who_signs_in_next(home):
    siv, [resident] = await taken(home, "Hei")
    ref = resident.inquiry().ref
    answer = await siv.browser.post(
        f"/desk/chats/{ref}/messages",
        data={"csrf": siv.csrf, "text": "Fra Ola", "key": str(uuid.uuid4()), "by": "ola"},
        headers={"Accept": "application/json"},
    )
    assert answer.status_code == 409
    assert "Noen andre" in answer.json()["problem"]
    await siv.post(f"{ref}/messages", text="Fra Siv", by=siv.username)
    assert await resident.lines() == ["Hei", "Fra Siv"]


async def test_a_national_number_is_hidden_at_the_desk(home):
    siv, [resident] = await taken(home, "Hei")
    await resident.say("Mitt nummer er 13097248022", confirmed=True)
    ref = resident.inquiry().ref
    for path in (f"/{ref}", "/list"):
        page = (await siv.get(path)).text
        assert "Mitt nummer er" in page
        assert "13097248022" not in page


async def test_the_next_of_the_queue_passes_over_a_chat_too_many(home):
    siv, _residents = await taken(home, "Hei", "Hei", "Hei")
    await visitor(home, "Er det noen der?")
    ref = await home.inquiry()
    data = {"csrf": siv.csrf}
    answer = await siv.browser.post("/desk/queue/next", data=data)
    assert answer.headers["location"].startswith(f"/desk/inquiries/{ref}")
    refused = await siv.browser.post("/desk/queue/next", data=data)
    assert refused.status_code == 409
    assert "Overlat eller avslutt en først" in refused.text


async def test_a_talk_that_somebody_opens_again_has_no_outcome(home):
    siv, [resident] = await taken(home, "Hei")
    ref = resident.inquiry().ref
    await siv.post(f"{ref}/end", outcome="no_contact")
    await siv.post(f"{ref}/reopen")
    assert (resident.inquiry().status, resident.row().outcome) == (InquiryStatus.OPEN, None)
    api = await home.api()
    closed = await api.post(f"/api/inquiries/{ref}/reply", json={"text": "Her!", "close": True})
    assert closed.status_code == 200
    assert resident.row().outcome == "answered"
    assert (await api.post(f"/api/inquiries/{ref}/close", json={"outcome": "x"})).status_code == 422


async def test_who_was_handed_a_waiting_chat_has_time_to_answer(home):
    siv, [resident] = await taken(home, "Hei")
    ola = await sits(home, "ola")
    ref = resident.inquiry().ref
    home.clock.move(seconds=110)
    await stay(home, siv.id, ola.id)
    await resident.look()
    await home.hall.chats._renew_all()
    await siv.post(f"{ref}/pass", to="ola")
    home.clock.move(seconds=60)
    await sweep(home)
    assert resident.row().state is ConversationState.WAITING
    assert holder(resident) == ola.id
    home.clock.move(seconds=70)
    await sweep(home)
    assert resident.row().state is ConversationState.DEFERRED
    assert holder(resident) is None
