"""Chats in the store: the inquiry is born with the first message, and both sides go on in it."""

from __future__ import annotations

import asyncio

import pytest

from channels.chat import web as door
from router import chat, chat_letters, chat_queue, journal
from router.chat_models import Conversation, ConversationState
from router.journal import Entry
from router.models import InquiryStatus, ReplyState
from rules.order import Lane
from rules.presence import State
from tests.router.chat_house import (
    at_desk,
    events,
    letters,
    message,
    reply,
    stay,
    sweep,
    visitor,
)
from tests.router.web_house import house
from tests.service import soon

EMERGENCY = "Hjelp, mannen min puster ikke!"


@pytest.fixture
async def home(tmp_path):
    async with house(tmp_path) as opened:
        yield opened


async def open_inquiries(home):
    answer = await (await home.api()).get("/api/inquiries", params={"status": "open"})
    return answer.json()["items"]


async def test_the_first_message_is_an_inquiry_and_the_answer_is_in_the_chat(home):
    await at_desk(home)
    resident = await visitor(home)
    assert await open_inquiries(home) == []
    await resident.say("Hei! Det er et hull i veien.\nNår fikser dere det?")
    [row] = await open_inquiries(home)
    assert (row["channel"], row["department"], row["subject"]) == (
        "chat",
        "vei",
        "Hei! Det er et hull i veien.",
    )
    assert resident.inquiry().lane == Lane.LIVE
    await reply(home, row["ref"], "I morgen.")
    await resident.say("Takk!")
    assert (await resident.lines())[1:] == ["I morgen.", "Takk!"]
    assert (await resident.standing())["state"] == "talking"
    assert letters(home) == []
    assert [*await events(home, row["ref"])] == ["received", "routed", "replied", "message_in"]


async def test_a_message_is_taken_once_however_often_it_is_sent(home):
    await at_desk(home)
    resident = await visitor(home)
    first, second = message("Hei"), message("Er noen der?")
    for said in (first, second):
        taken, *again = await asyncio.gather(*(resident.post("messages", said) for _ in range(3)))
        assert sorted(answer.status_code for answer in (taken, *again)) == [200, 200, 201]
        assert len({answer.json()["id"] for answer in (taken, *again)}) == 1
    assert await resident.lines() == ["Hei", "Er noen der?"]
    for said in (first, second):
        other = await resident.post("messages", said | {"text": "Noe annet"})
        assert other.status_code == 422
    assert len(await open_inquiries(home)) == 1


async def test_when_nobody_is_there_it_becomes_an_ordinary_inquiry_at_once(home):
    resident = await visitor(home, "Når åpner dere?")
    [_, told] = await resident.lines()
    inquiry = resident.inquiry()
    assert inquiry.ref in told
    assert "torsdag 26. november 2026 kl. 15:45" in told
    standing = await resident.standing()
    assert (standing["state"], standing["ask_address"]) == ("deferred", True)
    assert (inquiry.lane, inquiry.sort_at) == (Lane.DEFERRABLE, inquiry.due_at)
    assert letters(home) == []

    answer = await resident.post("contact", {"email": "Kari@Example.no", "name": "Kari"})
    assert answer.status_code == 204
    [receipt] = letters(home)
    assert (receipt.kind, receipt.recipient) == ("receipt", "kari@example.no")
    assert inquiry.ref in receipt.payload["subject"]
    assert (await resident.standing())["reach"]
    await resident.post("contact", {"email": "kari@example.no"})
    assert len(letters(home)) == 1
    inquiry = resident.inquiry()
    assert (inquiry.sender_address, inquiry.sender_name) == ("kari@example.no", "Kari")

    # Whoever answers while the page is open brings the talk back.
    await reply(home, inquiry.ref, "Klokka åtte.")
    assert (await resident.standing())["state"] == "talking"
    assert resident.inquiry().lane == Lane.LIVE
    assert len(letters(home)) == 1


async def test_outside_hours_the_chat_is_closed_whoever_sits_at_the_desk(home):
    number = await at_desk(home)
    home.clock.move(hours=10)  # 19 o'clock
    await stay(home, number)
    resident = await visitor(home, "Er noen der?")
    assert "ikke betjent" in (await resident.lines())[1]
    assert "chat_deferred" in await events(home, resident.inquiry().ref)


async def test_two_minutes_without_an_answer_make_it_an_ordinary_inquiry(home):
    number = await at_desk(home)
    resident = await visitor(home, "Hei")
    await sweep(home)
    assert (await resident.standing())["state"] == "waiting"
    home.clock.move(seconds=110)
    await stay(home, number)
    api = await home.api()
    ref = resident.inquiry().ref
    await api.post(f"/api/inquiries/{ref}/claim")
    home.clock.move(seconds=30)
    await stay(home, number)
    await sweep(home)
    assert (await resident.standing())["state"] == "waiting"  # somebody has it in hand
    home.clock.move(seconds=91)
    await stay(home, number)
    await sweep(home)
    assert (await resident.standing())["state"] == "deferred"
    assert resident.inquiry().assignee_id is None  # and kept silent
    await sweep(home)
    assert (await events(home, ref)).count("chat_deferred") == 1


async def test_silence_in_the_middle_of_a_talk_ends_in_an_ordinary_inquiry_too(home):
    number = await at_desk(home)
    resident = await visitor(home, "Hei")
    await reply(home, resident.inquiry().ref, "Hei!")
    await resident.say("Kan dere hjelpe meg?")
    home.clock.move(minutes=9)
    await stay(home, number)
    await sweep(home)
    assert (await resident.standing())["state"] == "talking"
    home.clock.move(minutes=2)
    await stay(home, number)
    await sweep(home)
    assert (await resident.standing())["state"] == "deferred"


async def test_who_has_gone_is_answered_by_letter_and_goes_on_when_they_come_back(home):
    siv = await at_desk(home)
    resident = await visitor(home, "Hei")
    assert (await resident.standing())["ask_address"]
    await resident.post("contact", {"email": "kari@example.no"})
    assert (await resident.standing())["reach"]
    assert letters(home) == []
    ref = resident.inquiry().ref
    await resident.gone(siv)
    assert resident.inquiry().lane == Lane.DEFERRABLE
    assert "chat_left" in await events(home, ref)
    await reply(home, ref, "Her er svaret.")
    [letter] = [item for item in letters(home) if item.kind == "reply"]
    assert (letter.channel, letter.recipient) == ("email", "kari@example.no")
    assert letter.payload["reply_to"].startswith("svar+")

    await home.hall.db.write(lambda s: chat.listen(s, [resident.row().id], home.clock()))
    last = (await resident.look())["messages"][-1]
    assert (last["kind"], "Her er svaret" in last["text"]) == ("mailed", False)
    await resident.say("Takk, fant det.")
    await reply(home, ref, "Så bra!")
    assert (await resident.lines())[-1] == "Så bra!"


async def test_who_gave_no_address_finds_the_answer_when_they_come_back(home):
    await at_desk(home)
    resident = await visitor(home, "Hei")
    await resident.gone()
    await reply(home, resident.inquiry().ref, "Her er svaret.")
    assert letters(home) == []
    assert (await resident.lines())[-1] == "Her er svaret."


async def test_nobody_is_answered_in_a_chat_that_has_ended_without_an_address(home):
    await at_desk(home)
    resident = await visitor(home, "Hei")
    ref = resident.inquiry().ref
    assert (await resident.post("leave")).status_code == 204
    assert (await resident.post("messages", message("Hallo?"))).status_code == 404
    inquiry = resident.inquiry()
    assert (inquiry.status, inquiry.lane) == (InquiryStatus.OPEN, Lane.DEFERRABLE)
    api = await home.api()
    answer = await api.post(f"/api/inquiries/{ref}/reply", json={"text": "Hei"})
    assert answer.status_code == 422
    detail = (await api.get(f"/api/inquiries/{ref}")).json()
    assert (detail["reply_channel"], detail["reply_address"]) == ("", "")


async def send_unread(home):
    head, now = home.hall.reply_context, home.clock()
    terms = home.hall.settings.channels.chat
    await home.hall.db.write(lambda s: chat_letters.send_unread(s, head, terms, now))
    return [item for item in letters(home) if item.kind == "reply"]


async def test_an_answer_that_nobody_has_read_goes_by_letter_once(home):
    await at_desk(home)
    resident = await visitor(home, "Mitt nummer er 010180 12345, når åpner dere?")
    await resident.post("contact", {"email": "kari@example.no"})
    ref = resident.inquiry().ref
    await reply(home, ref, "Klokka åtte.")
    await resident.post("read", {"message_id": (await resident.look())["messages"][-1]["id"]})
    await reply(home, ref, "Men ikke i morgen.")
    await reply(home, ref, "Da er det stengt.")
    await resident.gone()
    assert await send_unread(home) == []
    home.clock.move(minutes=10)
    [letter] = await send_unread(home)
    assert "Men ikke i morgen.\n\nDa er det stengt." in letter.payload["text"]
    assert "Klokka åtte" not in letter.payload["text"]
    home.clock.move(minutes=30)
    assert len(await send_unread(home)) == 1


async def test_whoever_has_the_page_open_gets_no_letter(home):
    await at_desk(home)
    resident = await visitor(home, "Hei")
    await resident.post("contact", {"email": "kari@example.no"})
    await reply(home, resident.inquiry().ref, "Hei!")
    home.clock.move(minutes=11)
    await home.hall.db.write(lambda s: chat.listen(s, [resident.row().id], home.clock()))
    assert await send_unread(home) == []


@pytest.mark.parametrize("words", [[EMERGENCY], ["Hei", EMERGENCY]])
async def test_an_emergency_is_answered_at_once_and_raises_the_alarm(home, words):
    await at_desk(home)
    resident = await visitor(home, *words)
    lines = (await resident.look())["messages"]
    assert [line["kind"] for line in lines] == [*["contact"] * len(words), "emergency"]
    assert "113" in lines[-1]["text"]
    inquiry = resident.inquiry()
    assert (inquiry.emergency, inquiry.lane) == (True, Lane.CRISIS)
    assert (await events(home, inquiry.ref)).count("emergency") == 1
    assert inquiry.reply_state is ReplyState.UNANSWERED


async def test_what_is_written_after_the_end_opens_the_inquiry_and_a_new_clock(home):
    await at_desk(home)
    resident = await visitor(home, "Hei")
    ref = resident.inquiry().ref
    due = resident.inquiry().due_at
    await reply(home, ref, "Hei og ha det.", close=True)
    assert "lukket" in (await resident.standing())["status"]
    home.clock.move(hours=25)
    await home.hall.db.write(lambda s: chat.listen(s, [resident.row().id], home.clock()))
    # Within a day of the last sign of life, the talk goes on where it was.
    await resident.say("Ett spørsmål til.")
    inquiry = resident.inquiry()
    assert (inquiry.ref, inquiry.status) == (ref, InquiryStatus.OPEN)
    assert inquiry.due_at > due
    assert "reopened" in await events(home, ref)


async def test_a_conversation_ends_after_a_day_without_a_sign_of_life(home):
    await at_desk(home)
    resident, silent = await visitor(home, "Hei"), await visitor(home)
    home.clock.move(hours=24, seconds=1)
    assert (await resident.post("messages", message("Hallo?"))).status_code == 404
    assert await home.hall.db.write(lambda session: chat.expire(session, home.clock())) == 2
    assert resident.row().state is ConversationState.ENDED
    assert silent.home.hall.db.write_sync(lambda s: s.get(type(resident.row()), 2)) is None


async def test_a_conversation_ends_after_a_week_in_any_case(home):
    resident = await visitor(home, "Hei")
    for _ in range(7):
        home.clock.move(hours=23, minutes=59)
        await home.hall.db.write(lambda s: chat.listen(s, [resident.row().id], home.clock()))
    assert (await resident.look())["messages"]
    home.clock.move(minutes=8)
    assert (await resident.post("messages", message("Hallo?"))).status_code == 404


def said(home) -> int:
    with home.hall.db.read() as session:
        return session.connection().exec_driver_sql("SELECT count(*) FROM message").scalar_one()


async def test_what_was_journaled_and_not_taken_in_comes_back_in_order(home):
    """As after a kill between the two: both messages of one talk in one batch."""
    await at_desk(home)
    resident = await visitor(home)
    for text in ("Hei", EMERGENCY):
        arrival = door.arrival(
            resident.key, door.ChatMessage(message("")["client_msg_id"], text), home.clock()
        )
        await home.hall.db.write_together(journal.insert, Entry(arrival))
    home.hall.reception.start()
    try:
        await soon(lambda: said(home) >= 3, "both messages and the answer")
    finally:
        await home.hall.reception.stop()
    assert (await resident.lines())[:2] == ["Hei", EMERGENCY]
    assert len(await open_inquiries(home)) == 1
    assert resident.inquiry().emergency
    assert (await resident.standing())["state"] == "waiting"


async def test_who_leaves_while_their_first_message_is_taken_in_has_left(home, monkeypatch):
    await at_desk(home)
    resident = await visitor(home)
    cookies = dict(resident.browser.cookies)
    take_in = home.hall.reception.receive_now

    async def leave_first(arrival):
        answers = await asyncio.gather(resident.post("leave"), resident.post("leave"))
        assert answers[0].status_code == 204
        return await take_in(arrival)

    monkeypatch.setattr(home.hall.reception, "receive_now", leave_first)
    await resident.say("Hei")
    row = resident.row()
    assert (row.state, row.waiting_since) == (ConversationState.ENDED, None)
    assert resident.inquiry().lane == int(Lane.DEFERRABLE)
    resident.browser.cookies.update(cookies)
    assert (await resident.post("typing")).status_code == 404


async def test_leaving_twice_is_leaving_once(home):
    await at_desk(home)
    resident = await visitor(home, "Hei")
    ref, number, now = resident.inquiry().ref, resident.row().id, home.clock()
    for _ in range(2):
        await home.hall.db.write(
            lambda session: chat.leave(session, session.get_one(Conversation, number), now)
        )
    assert (await events(home, ref)).count("chat_left") == 1


async def test_place_in_line_and_expected_wait(home):
    siv = await at_desk(home)
    residents = [await visitor(home, f"Hei {number}") for number in range(5)]
    assert (await residents[0].standing())["status"] == "Du er neste. Noen svarer snart."
    assert (await residents[2].standing())["status"] == "Du er nummer 3 i køen. Noen svarer snart."
    # Three at a time for one operator, five minutes each until more is known.
    assert "omtrent 2 minutter" in (await residents[3].standing())["status"]
    assert "omtrent 4 minutter" in (await residents[4].standing())["status"]
    with home.hall.db.read() as session:
        there = chat_queue.attendance(session, home.hall.chats.terms, home.clock())
        assert (there.operators, there.room) == (1, 3)
        assert chat_queue.has_room(session, siv, 3, home.clock())
    api = await home.api()
    await api.post(f"/api/inquiries/{residents[0].inquiry().ref}/claim")
    assert (await residents[1].standing())["status"].startswith("Du er neste.")


async def test_capacity_counts_the_chats_of_each_operator(home):
    siv = await at_desk(home)
    residents = [await visitor(home, f"Hei {number}") for number in range(3)]

    def give(session):
        for resident in residents:
            session.get_one(type(resident.inquiry()), resident.inquiry().id).assignee_id = siv

    await home.hall.db.write(give)
    with home.hall.db.read() as session:
        terms, now = home.hall.chats.terms, home.clock()
        assert chat_queue.chats_of(session, [siv], now) == {siv: 3}
        assert chat_queue.attendance(session, terms, now).room == 0
        assert not chat_queue.has_room(session, siv, 3, now)
    page = await home.visitor().get("/chat")
    assert "alle er i samtale" in page.text


async def test_whoever_is_away_is_not_there_for_chats(home):
    await home.person("siv")
    number = await at_desk(home, "ola")
    with home.hall.db.read() as session:
        assert chat_queue.attendance(session, home.hall.chats.terms, home.clock()).there
    api = await home.api()
    answer = await api.put("/api/presence/ola", json={"state": State.MEETING.value})
    assert answer.status_code == 200, answer.text
    with home.hall.db.read() as session:
        assert not chat_queue.attendance(session, home.hall.chats.terms, home.clock()).there
    home.clock.move(minutes=2)
    with home.hall.db.read() as session:
        there = chat_queue.attendance(session, home.hall.chats.terms, home.clock())
    assert (there.open, there.operators, number > 0) == (True, 0, True)


async def test_the_wait_is_reckoned_by_the_latest_talks(home):
    await at_desk(home)
    for _ in range(3):
        resident = await visitor(home, "Hei")
        await reply(home, resident.inquiry().ref, "Hei!")
        home.clock.move(minutes=9)
        await reply(home, resident.inquiry().ref, "Ha det.", close=True)
    with home.hall.db.read() as session:
        assert chat_queue.talk_minutes(session, home.hall.chats.terms.door) == 9
