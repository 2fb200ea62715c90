"""Chats in the store: the inquiry is born with the first message, and both sides go on in it."""

from __future__ import annotations

import uuid

import pytest

from router import chat_queue
from tests.router.web_house import house


@pytest.fixture
async def home(tmp_path):
    async with house(tmp_path) as opened:
        yield opened


def said(text, **more):
    return {"client_msg_id": str(uuid.uuid4()), "text": text, **more}


class Visitor:
    """Somebody with the page of the chat open."""

    def __init__(self, home):
        self.home = home
        self.browser = home.visitor()
        self.key = ""

    async def open(self):
        answer = await self.browser.post("/chat/conversations", json={"language": "nb"})
        assert answer.status_code == 201, answer.text
        self.key = answer.json()["id"]
        return self

    async def post(self, path, **body):
        return await self.browser.post(f"/chat/conversations/{self.key}/{path}", json=body)

    async def say(self, text, **more):
        answer = await self.post("messages", **said(text, **more))
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    async def look(self, after=0):
        answer = await self.browser.get(
            f"/chat/conversations/{self.key}/messages", params={"after": after}
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def texts(self):
        return [line["text"] for line in (await self.look())["messages"]]


async def operator_at_desk(home, username="siv"):
    """Somebody who answers chats, with a page of the desk open."""
    number = await home.person(username)
    await home.hall.db.write(lambda session: chat_queue.at_desk(session, [number], home.clock()))
    return number


async def queue(home):
    answer = await (await home.api()).get("/api/inquiries", params={"status": "open"})
    return answer.json()["items"]


async def test_the_first_message_is_an_inquiry_and_the_answer_is_in_the_chat(home):
    await operator_at_desk(home)
    visitor = await Visitor(home).open()
    assert await queue(home) == []
    await visitor.say("Hei, når åpner dere? Det er et hull i veien.")
    [row] = await queue(home)
    assert (row["channel"], row["department"], row["subject"]) == (
        "chat",
        "vei",
        "Hei, når åpner dere? Det er et hull i veien.",
    )
    api = await home.api()
    answer = await api.post(f"/api/inquiries/{row['ref']}/reply", json={"text": "Vi åpner åtte."})
    assert answer.status_code == 200, answer.text
    assert await visitor.texts() == [
        "Hei, når åpner dere? Det er et hull i veien.",
        "Vi åpner åtte.",
    ]
    standing = (await visitor.look())["standing"]
    assert standing["state"] == "talking"
