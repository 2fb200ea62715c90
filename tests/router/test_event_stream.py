"""The live stream inside the house: nothing missed, nothing twice, nothing that is not yours."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from router import events
from router.access import Actor
from router.events import CLIENT_BUFFER, RELOAD, EventHub
from router.models import Role
from tests.router.store_house import MONDAY, house
from tests.service import soon

EVERYTHING = lambda _event: True  # noqa: E731
PATIENCE = 10.0


@pytest.fixture
def db(tmp_path):
    with house(tmp_path) as home:
        yield home.db


@pytest.fixture
async def hub(db):
    hub = EventHub(db)
    await hub.start()
    yield hub
    await hub.stop()


async def say(db, count: int = 1, kind: str = "noted", **fields) -> None:
    def job(session) -> None:
        for _ in range(count):
            events.record(session, kind, at=MONDAY, **fields)

    await db.write(job)


async def read(stream, count: int):
    """So many events, pings left out."""
    found = []
    async with asyncio.timeout(PATIENCE):
        while len(found) < count:
            event = await anext(stream)
            if event is not None:
                found.append(event)
    return found


async def ready(hub, stream):
    """A task that waits for the stream's first event; the client is known from then on."""
    before = hub.clients
    task = asyncio.create_task(anext(stream))
    await soon(lambda: hub.clients == before + 1)
    return task


async def test_every_client_hears_everything_in_order(db, hub):
    streams = [hub.subscribe(EVERYTHING) for _ in range(3)]
    first = [await ready(hub, stream) for stream in streams]
    await say(db, 50)
    for task, stream in zip(first, streams, strict=True):
        async with aclosing(stream):
            heard = [await task, *await read(stream, 49)]
        assert [event.id for event in heard] == list(range(1, 51))
    assert hub.clients == 0


async def test_a_client_that_comes_back_misses_nothing_and_hears_nothing_twice(db, hub):
    """It leaves and returns after every few events, while others keep coming."""
    total = 400
    heard: list[int] = []

    async def talk() -> None:
        for number in range(total // 5):
            await soon(lambda number=number: number * 5 - len(heard) < 100)
            await say(db, 5)

    talker = asyncio.create_task(talk())
    visit = 0
    while len(heard) < total:
        visit += 1
        async with aclosing(hub.subscribe(EVERYTHING, after=heard[-1] if heard else 0)) as stream:
            wanted = min(1 + visit % 13, total - len(heard))
            got = await read(stream, wanted)
        assert RELOAD not in {event.kind for event in got}
        heard += [event.id for event in got]
    await talker
    assert heard == list(range(1, total + 1))


async def test_a_client_that_is_too_slow_is_told_to_reload_and_then_hears_what_follows(db, hub):
    stream = hub.subscribe(EVERYTHING)
    async with aclosing(stream):
        task = await ready(hub, stream)
        await say(db)
        assert (await task).id == 1
        await say(db, CLIENT_BUFFER + 50)
        await soon(lambda: hub.last_id == CLIENT_BUFFER + 51)
        [told] = await read(stream, 1)
        assert told.kind == RELOAD
        await say(db)
        [following] = await read(stream, 1)
        assert following.id >= told.id
        assert following.kind == "noted"


async def test_one_who_was_away_too_long_is_told_to_reload(db, hub):
    await say(db, CLIENT_BUFFER + 10)
    await soon(lambda: hub.last_id == CLIENT_BUFFER + 10)
    async with aclosing(hub.subscribe(EVERYTHING, after=1)) as stream:
        [told] = await read(stream, 1)
        assert (told.kind, told.id) == (RELOAD, CLIENT_BUFFER + 10)
        await say(db)
        [following] = await read(stream, 1)
        assert following.id == CLIENT_BUFFER + 11


async def test_a_client_hears_only_of_its_departments_missed_or_live(db, hub):
    member = Actor(Role.MEMBER, departments=frozenset({"vei"}))
    said = ["vei", "byggesak", "", "vei", "helse"]
    for department in said:
        await say(db, department=department)
    await say(db, kind="transferred", department="byggesak", data={"from_department": "vei"})
    async with aclosing(hub.subscribe(member.sees_event, after=0)) as stream:
        missed = await read(stream, 3)
        assert [event.department for event in missed] == ["vei", "vei", "byggesak"]
        for department in said:
            await say(db, department=department)
        live = await read(stream, 2)
        assert [event.department for event in live] == ["vei", "vei"]
    everywhere = Actor(Role.OPERATOR)
    async with aclosing(hub.subscribe(everywhere.sees_event, after=0)) as stream:
        assert len(await read(stream, 11)) == 11


async def test_nothing_is_read_for_those_whom_nothing_can_concern(db, hub, monkeypatch):
    """And whoever begins to be concerned hears of everything from then on."""
    read: list[int] = []
    reading = hub._read_after
    monkeypatch.setattr(hub, "_read_after", lambda last: read.append(last) or reading(last))
    concerned = False
    async with aclosing(hub.subscribe(EVERYTHING, own=True, wants=lambda: concerned)) as stream:
        heard = asyncio.create_task(anext(stream))
        await say(db, 3)
        await soon(lambda: hub.last_id == 3, "passing over what concerns nobody")
        assert not read
        concerned = True
        await say(db, kind="wanted")
        assert (await asyncio.wait_for(heard, PATIENCE)).kind == "wanted"


async def test_stopping_ends_every_stream(db, hub):
    stream = hub.subscribe(EVERYTHING)
    task = await ready(hub, stream)
    await hub.stop()
    async with asyncio.timeout(PATIENCE):
        last = await task
        assert last.kind == RELOAD
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


async def test_an_event_with_a_key_is_written_once(db):
    written = await asyncio.gather(
        *(
            db.write(lambda s: events.record(s, "overdue", at=MONDAY, once="overdue:1"))
            for _ in range(10)
        )
    )
    assert sum(written) == 1
    with db.read() as session:
        assert len(events.read_after(session, 0, 10)) == 1
