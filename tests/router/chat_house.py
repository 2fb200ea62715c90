"""Residents with the page of the chat open, and operators at the desk."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlmodel import col

from router import chat_queue
from router.chat_models import Conversation
from router.models import Inquiry, OutboxItem

if TYPE_CHECKING:
    import httpx

    from tests.router.web_house import House


def message(text: str, **more: Any) -> dict[str, Any]:
    """What a browser sends."""
    return {"client_msg_id": str(uuid.uuid4()), "text": text, **more}


@dataclass
class Visitor:
    """Somebody with the page of the chat open."""

    home: House
    language: str = "nb"
    key: str = ""
    browser: httpx.AsyncClient = field(init=False)

    def __post_init__(self) -> None:
        self.browser = self.home.visitor()

    async def open(self) -> Visitor:
        answer = await self.browser.post("/chat/conversations", json={"language": self.language})
        assert answer.status_code == 201, answer.text
        self.key = answer.json()["id"]
        return self

    async def post(self, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        return await self.browser.post(f"/chat/conversations/{self.key}/{path}", json=body or {})

    async def say(self, text: str, **more: Any) -> int:
        answer = await self.post("messages", message(text, **more))
        assert answer.status_code == 201, answer.text
        number: int = answer.json()["id"]
        return number

    async def look(self, after: int = 0) -> dict[str, Any]:
        answer = await self.browser.get(
            f"/chat/conversations/{self.key}/messages", params={"after": after}
        )
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def lines(self) -> list[str]:
        return [line["text"] for line in (await self.look())["messages"]]

    async def standing(self) -> dict[str, Any]:
        standing: dict[str, Any] = (await self.look())["standing"]
        return standing

    def row(self) -> Conversation:
        with self.home.hall.db.read() as session:
            query = select(Conversation).where(col(Conversation.key) == self.key)
            found: Conversation = session.execute(query).scalar_one()
            return found

    def inquiry(self) -> Inquiry:
        with self.home.hall.db.read() as session:
            return session.get_one(Inquiry, self.row().inquiry_id)

    async def gone(self, *staff: int) -> None:
        """Close the page, and be away long enough for everybody to notice; `staff` stay."""
        self.home.hall.chats._heard.clear()
        self.home.clock.move(seconds=61)
        await stay(self.home, *staff)
        await sweep(self.home)


async def visitor(home: House, *words: str, language: str = "nb") -> Visitor:
    """Somebody who has opened a chat and said this."""
    opened = await Visitor(home, language).open()
    for text in words:
        await opened.say(text)
    return opened


async def at_desk(home: House, username: str = "siv") -> int:
    """Somebody who answers chats, with a page of the desk open."""
    number = await home.person(username, password=False)
    await stay(home, number)
    return number


async def stay(home: House, *staff: int) -> None:
    """These have a page of the desk open now."""
    now = home.clock()
    await home.hall.db.write(lambda session: chat_queue.at_desk(session, list(staff), now))


async def sweep(home: House) -> None:
    """What the beat does every few seconds."""
    head, terms, now = home.hall.reply_context, home.hall.chats.terms, home.clock()
    await home.hall.db.write(lambda session: chat_queue.sweep(session, head, terms, now))


async def reply(home: House, ref: str, text: str, **more: Any) -> httpx.Response:
    """Answer by the API."""
    api = await home.api()
    answer = await api.post(f"/api/inquiries/{ref}/reply", json={"text": text, **more})
    assert answer.status_code == 200, answer.text
    return answer


def letters(home: House) -> list[OutboxItem]:
    """What waits to go out, oldest first."""
    with home.hall.db.read() as session:
        query = select(OutboxItem).order_by(col(OutboxItem.id))
        return list(session.execute(query).scalars())


async def events(home: House, ref: str) -> list[str]:
    """What has happened to an inquiry, in order."""
    answer = await (await home.api()).get(f"/api/inquiries/{ref}")
    return [event["kind"] for event in answer.json()["events"]]
