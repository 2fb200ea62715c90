"""An address given in a chat is verified by nobody: whoever is there may be somebody else, and
what they are answered is not for whoever has the chat open."""

from __future__ import annotations

from dataclasses import replace
from email.message import EmailMessage
from urllib.parse import urlencode

import pytest

from channels.base import RawArrival
from channels.sms.twilio import arrival
from channels.twilio import Webhook
from router import chat
from tests.router.chat_house import at_desk, letters, reply, visitor
from tests.router.web_house import house
from tests.service import unique

OWNER = "eier@example.no"
"""Has never been in the chat, but somebody gave their address there."""
NUMBER = "+4790000001"
"""The same, of a telephone."""
OURS = "+4759440000"
SECRET = "Det hemmelige"


@pytest.fixture
async def home(tmp_path):
    async with house(tmp_path) as opened:
        yield opened


@pytest.fixture
async def talk(home):
    """A chat whose visitor gave another's address, left, and was answered by letter there."""
    siv = await at_desk(home)
    opened = await visitor(home, "Hei")
    await opened.post("contact", {"email": OWNER})
    await opened.gone(siv)
    await reply(home, opened.inquiry().ref, "Her er svaret.")
    return opened


async def writes(home, sender, text):
    """Somebody answers the letter of ours that they have."""
    letter = next(i for i in reversed(letters(home)) if i.recipient == sender)
    mail = EmailMessage()
    mail["From"] = sender
    mail["To"] = letter.payload["reply_to"]
    mail["Message-ID"] = f"<{unique()[4:]}@example.no>"
    mail.set_content(text)
    envelope = {"mail_from": sender, "recipients": [letter.payload["reply_to"]]}
    raw = RawArrival("email", mail["Message-ID"], home.clock(), envelope, mail.as_bytes())
    await home.hall.reception.receive_now(raw)


async def comes_back(home, talk):
    """The page of the chat is open again."""
    await home.hall.db.write(lambda s: chat.listen(s, [talk.row().id], home.clock()))


def answered(home):
    """To whom our answers went by letter, oldest first."""
    return [item.recipient for item in letters(home) if item.kind == "reply"]


async def everything_shown(home, talk):
    """All that the visitor can read, by the chat and by every link they were given in it."""
    page = await talk.browser.get("/chat")
    link = home.hall.status_url(talk.inquiry().id)
    status = await talk.browser.get(link)
    assert (page.status_code, status.status_code) == (200, 200)
    return "\n".join([*await talk.lines(), page.text, status.text])


async def test_what_others_write_and_are_answered_is_shown_nowhere_in_the_chat(home, talk):
    await writes(home, OWNER, f"Jeg har aldri skrevet til dere. {SECRET}.")
    ref = talk.inquiry().ref
    detail = (await (await home.api()).get(f"/api/inquiries/{ref}")).json()
    assert any(SECRET in message["text"] for message in detail["messages"])
    assert SECRET not in await everything_shown(home, talk)

    await comes_back(home, talk)
    await reply(home, ref, f"Svar på {SECRET}.")
    assert answered(home) == [OWNER] * 2
    assert SECRET not in await everything_shown(home, talk)


async def test_saying_something_in_the_chat_brings_the_answers_no_nearer(home, talk):
    await writes(home, OWNER, SECRET)
    await comes_back(home, talk)
    await talk.say("Er dere der?")
    for _ in range(2):
        await reply(home, talk.inquiry().ref, f"Svar på {SECRET}.")
        await talk.say("Hallo?")
    assert answered(home) == [OWNER] * 3
    assert SECRET not in await everything_shown(home, talk)
    assert "Vi har svart deg på e-post." in await everything_shown(home, talk)


async def test_another_address_given_later_gets_nothing_of_it(home, talk):
    await writes(home, OWNER, SECRET)
    await comes_back(home, talk)
    for address in ({"email": "annen@example.no"}, {"phone": "900 00 001"}):
        await talk.post("contact", address)
        await reply(home, talk.inquiry().ref, f"Svar på {SECRET}.")
    assert answered(home) == [OWNER] * 3
    assert SECRET not in await everything_shown(home, talk)


async def test_who_is_sent_the_talk_and_answers_it_is_answered_there(home):
    await at_desk(home)
    talk = await visitor(home, "Hei")
    await reply(home, talk.inquiry().ref, "Hei!")
    await talk.post("transcript", {"email": OWNER})
    await writes(home, OWNER, SECRET)
    await reply(home, talk.inquiry().ref, f"Svar på {SECRET}.")
    assert answered(home) == [OWNER]
    assert SECRET not in await everything_shown(home, talk)


async def test_who_got_a_text_and_answers_it_is_answered_there(home):
    home.hall.reply_context = replace(home.hall.reply_context, text_numbers=(OURS,))
    siv = await at_desk(home)
    talk = await visitor(home, "Hei")
    await talk.post("contact", {"phone": NUMBER})
    await talk.gone(siv)
    await reply(home, talk.inquiry().ref, "Her er svaret.")
    await comes_back(home, talk)
    await talk.post("contact", {"email": "annen@example.no"})
    form = {"MessageSid": "SM1", "From": NUMBER, "To": OURS, "Body": SECRET}
    await home.hall.reception.receive_now(
        arrival(Webhook(form, urlencode(form).encode()), home.clock())
    )
    await talk.say("Hallo?")
    await reply(home, talk.inquiry().ref, f"Svar på {SECRET}.")
    assert answered(home) == [NUMBER] * 2
    shown = await everything_shown(home, talk)
    assert "Vi har svart deg på SMS." in shown
    assert SECRET not in shown


async def test_who_has_been_answered_by_letter_is_not_told_that_nobody_answers(home, talk):
    await writes(home, OWNER, "Hei igjen")
    await comes_back(home, talk)
    await talk.say("Er dere der?")
    await reply(home, talk.inquiry().ref, "Ja.")
    standing = await talk.standing()
    assert (standing["ask_address"], standing["reach"]) == (False, "")
    assert (standing["state"], standing["answered"]) == ("deferred", True)
    assert standing["status"] == "Vi har svart deg."
    await talk.say("Og så?")
    assert "Du får svar senest" in (await talk.standing())["status"]
