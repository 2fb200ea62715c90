"""The streams of a chat: nothing missed, nothing twice, whatever happens to the line."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import pytest

from router import chat_live, chat_queue, chat_views
from router.models import Staff
from tests.router.chat_house import at_desk, message, reply, visitor
from tests.router.web_house import house, served
from tests.service import soon


@pytest.fixture
async def home(tmp_path):
    async with house(tmp_path) as opened, served(opened.app) as address:
        opened.address = address
        yield opened


@dataclass
class Stream:
    """What comes down one stream."""

    frames: list[tuple[str, str, dict]] = field(default_factory=list)
    """Event, id, data."""
    ended: bool = False

    def texts(self):
        return [data["text"] for event, _, data in self.frames if event == "message"]

    def of(self, event):
        return [data for name, _, data in self.frames if name == event]

    @property
    def last_id(self):
        return [number for event, number, _ in self.frames if event == "message"][-1]


@asynccontextmanager
async def listening(home, path, headers=None):
    """An open stream at an address."""
    stream = Stream()

    async def follow():
        async with (
            httpx.AsyncClient(
                base_url=home.address, headers=headers, timeout=30, verify=False
            ) as client,
            client.stream("GET", path) as answer,
        ):
            assert answer.status_code == 200, await answer.aread()
            assert answer.headers["content-type"].startswith("text/event-stream")
            fields = {}
            async for row in answer.aiter_lines():
                name, _, value = row.partition(": ")
                if row:
                    fields[name] = value
                elif "data" in fields:
                    frame = (fields["event"], fields.get("id", ""), json.loads(fields["data"]))
                    stream.frames.append(frame)
                    fields = {}
        stream.ended = True

    task = asyncio.create_task(follow())
    try:
        yield stream
    finally:
        task.cancel()
        outcome = (await asyncio.gather(task, return_exceptions=True))[0]
        if outcome is not None and not isinstance(outcome, asyncio.CancelledError):
            raise outcome


def events_of(home, resident, after="", last_event_id=""):
    cookie = "; ".join(f"{name}={value}" for name, value in resident.browser.cookies.items())
    headers = {"Cookie": cookie} | ({"Last-Event-ID": last_event_id} if last_event_id else {})
    query = f"?after={after}" if after else ""
    return listening(home, f"/chat/conversations/{resident.key}/events{query}", headers)


@pytest.mark.thorough
async def test_what_is_said_comes_at_once_and_in_order(home):
    await at_desk(home)
    resident = await visitor(home)
    async with events_of(home, resident) as stream:
        await soon(lambda: stream.of("standing"))
        words = [f"Melding {number}" for number in range(10)]
        for text in words:
            await resident.say(text)
        await reply(home, resident.inquiry().ref, "Hei!")
        await soon(lambda: len(stream.texts()) == 11)
        assert stream.texts() == [*words, "Hei!"]
        ids = [int(number) for event, number, _ in stream.frames if event == "message"]
        assert ids == sorted(set(ids))
        await soon(lambda: stream.of("standing")[-1]["state"] == "talking")


async def test_a_stream_goes_on_after_the_last_message_that_was_seen(home):
    await at_desk(home)
    resident = await visitor(home, "1", "2")
    async with events_of(home, resident) as stream:
        await soon(lambda: len(stream.texts()) == 2)
        last = stream.last_id
    await resident.say("3")
    await reply(home, resident.inquiry().ref, "4")
    async with events_of(home, resident, after="1", last_event_id=last) as stream:
        await soon(lambda: len(stream.texts()) == 2)
        await resident.say("5")
        await soon(lambda: len(stream.texts()) == 3)
        assert stream.texts() == ["3", "4", "5"]
    async with events_of(home, resident, after=last) as stream:
        await soon(lambda: len(stream.texts()) == 3)
    for wrong in ("x", "-1", "1e3", "9" * 30):
        answer = await resident.browser.get(
            f"/chat/conversations/{resident.key}/events", params={"after": wrong}
        )
        assert answer.status_code == 422


async def test_two_tabs_see_the_same_and_a_third_party_nothing(home):
    await at_desk(home)
    resident, other = await visitor(home, "Hei"), await visitor(home, "Hallo")
    async with (
        events_of(home, resident) as one,
        events_of(home, resident) as two,
        events_of(home, other) as theirs,
    ):
        await resident.say("Hemmelig")
        await reply(home, resident.inquiry().ref, "Vi holder tett.")
        for stream in (one, two):
            await soon(lambda stream=stream: len(stream.texts()) == 3)
            assert stream.texts() == ["Hei", "Hemmelig", "Vi holder tett."]
        await other.say("Er noen der?")
        await soon(lambda: len(theirs.texts()) == 2)
        assert theirs.texts() == ["Hallo", "Er noen der?"]


async def test_staff_follow_with_the_same_means_and_each_side_sees_the_other_type(home):
    await at_desk(home)
    resident = await visitor(home, "Hei")
    ref = resident.inquiry().ref
    api = await home.api()
    token = {"Authorization": api.headers["Authorization"]}
    async with (
        events_of(home, resident) as mine,
        listening(home, f"/api/inquiries/{ref}/chat/events", token) as theirs,
    ):
        await soon(lambda: mine.texts() and theirs.texts())
        assert (await resident.post("typing")).status_code == 204
        await soon(lambda: theirs.of("typing"))
        assert (await api.post(f"/api/inquiries/{ref}/chat/typing")).status_code == 204
        await soon(lambda: mine.of("typing"))
        number = theirs.frames[0][2]["id"]
        await api.post(f"/api/inquiries/{ref}/chat/read", json={"message_id": number})
        await soon(lambda: mine.of("standing")[-1]["read"] == number)
        answer = await reply(home, ref, "Hei!")
        await soon(lambda: len(mine.texts()) == 2)
        await resident.post("read", {"message_id": int(mine.last_id) + 99})
        await soon(lambda: theirs.of("standing")[-1]["resident_read"] == int(mine.last_id))
        assert answer.status_code == 200
        assert len(mine.of("typing")) == len(theirs.of("typing")) == 1


async def test_the_stream_ends_with_the_conversation(home):
    resident = await visitor(home, "Hei")
    async with events_of(home, resident) as stream:
        await soon(lambda: stream.of("standing"))
        await resident.post("leave")
        await soon(lambda: stream.ended)
        assert stream.of("standing")[-1]["state"] == "ended"


async def test_a_conversation_is_open_in_so_many_windows_and_no_more(home):
    """Also when all of them are opened at the same moment."""
    resident, other = await visitor(home, "Hei"), await visitor(home, "Hallo")
    cookie = "; ".join(f"{name}={value}" for name, value in resident.browser.cookies.items())
    path = f"/chat/conversations/{resident.key}/events"
    hub = home.hall.chats
    async with httpx.AsyncClient(
        base_url=home.address, headers={"Cookie": cookie}, timeout=30
    ) as client:
        requests = [client.build_request("GET", path) for _ in range(3 * chat_live.PAGES)]
        answers = await asyncio.gather(*(client.send(one, stream=True) for one in requests))
        counts = Counter(answer.status_code for answer in answers)
        assert counts == {200: chat_live.PAGES, 429: 2 * chat_live.PAGES}
        async with events_of(home, other) as stream:
            await soon(lambda: stream.texts()[:1] == ["Hallo"])
        for answer in answers:
            await answer.aclose()
    await soon(lambda: hub.pages == 0)
    async with events_of(home, resident) as stream:
        await soon(lambda: stream.texts()[:1] == ["Hei"])


async def test_a_page_that_lags_behind_misses_nothing(home, monkeypatch):
    monkeypatch.setattr(chat_live, "QUEUE", 2)
    resident = await visitor(home, "0")
    page = home.hall.chats.follow(resident.row().id, chat_live.Side.RESIDENT, 0)
    seen = []
    try:
        update = await anext(page)
        seen.append(update.text)
        for number in range(1, 15):
            await resident.say(str(number))
        async with asyncio.timeout(30):
            while not seen or seen[-1] != "14":
                update = await anext(page)
                if hasattr(update, "text") and update.kind == "contact":
                    seen.append(update.text)
    finally:
        await page.aclose()
    assert seen == [str(number) for number in range(15)]


async def test_a_page_that_reads_nothing_holds_little_and_is_given_all_when_it_reads(
    home, monkeypatch
):
    monkeypatch.setattr(chat_live, "QUEUE", 3)
    monkeypatch.setattr(chat_live, "PIECE", 4)
    words = [str(number) for number in range(12)]
    resident = await visitor(home, words[0])
    number = resident.row().id
    idle = home.hall.chats.follow(number, chat_live.Side.RESIDENT, 0)
    assert (await anext(idle)).text == words[0]
    async with events_of(home, resident) as reading:
        for text in words[1:]:
            await resident.say(text)
        await soon(lambda: reading.texts()[-1:] == words[-1:])
        held = [page.updates.qsize() for page in home.hall.chats._pages[number]]
        assert max(held) == 3
    seen = [words[0]]
    while seen[-1] != words[-1]:
        update = await anext(idle)
        if isinstance(update, chat_views.Line) and update.kind == "contact":
            seen.append(update.text)
    await idle.aclose()
    assert seen == words


async def quick_hub(home, monkeypatch):
    """What follows the talks, with ticks that nobody has to wait for."""
    monkeypatch.setattr(chat_live, "TICK_SECONDS", 0.05)
    await home.hall.chats.stop()
    hub = home.hall.chats = chat_live.ChatHub(
        home.hall.db, home.hall.hub, home.hall.chats.terms, home.clock
    )
    hub.start()
    return hub


async def test_who_hears_nothing_is_told_that_we_are_still_there(home, monkeypatch):
    monkeypatch.setattr(chat_live, "PING_SECONDS", 0.1)
    hub = await quick_hub(home, monkeypatch)
    resident = await visitor(home, "Hei")
    page = hub.follow(resident.row().id, chat_live.Side.RESIDENT, 0)
    async with asyncio.timeout(30):
        while await anext(page) is not None:
            pass
    await page.aclose()


async def test_closing_the_last_page_ends_the_lease_after_a_while(home, monkeypatch):
    hub = await quick_hub(home, monkeypatch)
    resident = await visitor(home, "Hei")
    async with events_of(home, resident) as one:
        await soon(lambda: one.texts())
    await soon(lambda: hub.pages == 0)
    home.clock.move(seconds=9)
    async with events_of(home, resident) as again:  # a reload
        await soon(lambda: again.texts())
        home.clock.move(seconds=20)
    await soon(lambda: hub.pages == 0)
    assert resident.row().listening_until > home.clock()
    home.clock.move(seconds=11)
    await soon(lambda: resident.row().listening_until <= home.clock(), "the page counts as closed")


async def test_an_open_desk_is_somebody_there(home):
    page = await home.visitor().get("/chat")
    assert "Ingen er i chatten" in page.text
    number = await home.person("siv")
    await home.sign_in("siv")
    cookie = "; ".join(f"{name}={value}" for name, value in home.client.cookies.items())
    async with listening(home, "/desk/stream", {"Cookie": cookie}):

        def there():
            with home.hall.db.read() as session:
                return chat_queue.attendance(session, home.hall.chats.terms, home.clock()).there

        await soon(there)
        page = await home.visitor().get("/chat")
        assert "Vi er her nå" in page.text
    with home.hall.db.read() as session:
        assert session.get_one(Staff, number).desk_until > home.clock()


async def test_who_asks_from_time_to_time_counts_as_there(home):
    resident = await visitor(home, "Hei")
    home.clock.move(seconds=50)
    await resident.look()
    await home.hall.chats._renew_all()
    home.clock.move(seconds=50)
    assert resident.row().listening_until > home.clock()
    home.clock.move(seconds=10)
    await home.hall.chats._renew_all()
    assert resident.row().listening_until <= home.clock()


async def test_who_asks_is_heard_while_it_is_looked_who_is_there(home):
    """Requests ask in threads of their own."""
    chats, stop, asked = home.hall.chats, threading.Event(), []

    def ask():
        while not stop.is_set():
            asked.append(len(asked) + 1)
            chats.heard(asked[-1])
            if len(asked) > 5000:
                stop.wait(0.0001)

    thread, usual = threading.Thread(target=ask), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread.start()
    try:
        await soon(lambda: len(asked) > 5000)
        for _ in range(50):
            assert chats._there(home.clock()) <= set(asked)
            await asyncio.sleep(0)
    finally:
        stop.set()
        await asyncio.to_thread(thread.join)
        sys.setswitchinterval(usual)
    assert chats._there(home.clock()) == set(asked)


async def test_a_page_that_closes_while_it_opens_leaves_nothing_behind(home):
    resident = await visitor(home, "Hei")
    number, chats = resident.row().id, home.hall.chats
    first, second = (chats.follow(number, chat_views.Side.RESIDENT, 0) for _ in range(2))
    await anext(first)
    opening = asyncio.create_task(anext(second))
    await asyncio.sleep(0)
    assert (chats.pages, opening.done()) == (2, False)
    await first.aclose()
    opening.cancel()
    await asyncio.wait([opening])
    assert (chats.pages, chats._by_inquiry) == (0, {})


async def test_when_the_service_stops_all_streams_end(home):
    resident = await visitor(home, "Hei")
    async with events_of(home, resident) as stream:
        await soon(lambda: stream.texts())
        await home.hall.chats.stop()
        await soon(lambda: stream.ended)
    assert (await resident.post("messages", message("Fortsatt her"))).status_code == 201
