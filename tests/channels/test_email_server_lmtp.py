"""Mail from a relay over LMTP (RFC 2033): one reply for each recipient, whatever happens."""

from __future__ import annotations

import asyncio
import smtplib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from channels.base import Disposition, RawArrival, TemporaryError
from channels.email.server import CannotListenError, EmailServer, Listener, ListenSettings
from tests.channels.mail_door import MAIL, NOW, OWN, Client, Door, connect, open_door

FOUR = (
    "post@sorum.example",
    "barnehage@sorum.example",
    "vei+drift@sorum.example",
    "post+a@sorum.example",
)


@asynccontextmanager
async def relay(**options: object) -> AsyncIterator[tuple[Door, Client]]:
    """A door that listens for LMTP, and a relay that has greeted it."""
    async with (
        open_door(lmtp=Listener(port=0), **options) as door,
        connect(door, door.server.lmtp_port) as client,
    ):
        assert (await client.read()).startswith("220 mx.sorum.example LMTP")
        await client.say("LHLO relay.example")
        yield door, client


async def replies(client: Client, number: int) -> list[str]:
    return [await client.read() for _ in range(number)]


async def test_mail_from_an_ordinary_client() -> None:
    async with open_door(lmtp=Listener(port=0)) as door:

        def send() -> dict[str, tuple[int, bytes]]:
            with smtplib.LMTP("127.0.0.1", door.server.lmtp_port) as client:
                refused = client.sendmail("a@b.no", [FOUR[0], "ukjent@sorum.example"], MAIL)
                client.mail("kari@eksempel.no")
                for recipient in FOUR:
                    client.rcpt(recipient)
                taken = [client.data(MAIL)[0], *(client.getreply()[0] for _ in FOUR[1:])]
                assert taken == [250] * 4
                return refused

        refused = await asyncio.to_thread(send)
    assert set(refused) == {"ukjent@sorum.example"}
    assert [arrival.raw for arrival in door.arrivals] == [MAIL, MAIL]
    assert door.arrivals[1].envelope["protocol"] == "lmtp"
    assert door.arrivals[1].envelope["trusted"] is True
    assert door.arrivals[1].envelope["recipients"] == list(FOUR)


async def test_one_reply_for_each_accepted_recipient() -> None:
    async with relay() as (door, client):
        await client.say("MAIL FROM:<kari@eksempel.no>")
        answers = [
            await client.say(f"RCPT TO:<{to}>") for to in (*FOUR, "x@andre.example", FOUR[0])
        ]
        assert [answer[:3] for answer in answers] == ["250", "250", "250", "250", "550", "250"]
        await client.say("DATA")
        client.writer.write(MAIL + b".\r\nNOOP\r\n")
        taken = await replies(client, 5)
        assert all(answer.startswith("250 2.0.0 OK") for answer in taken)
        assert await client.read() == "250 2.0.0 OK"
    assert len(door.arrivals) == 1


async def test_one_reply_for_each_recipient_when_it_fails() -> None:
    async def refuse(arrival: RawArrival) -> Disposition:
        raise TemporaryError

    async with relay(max_size=1_000_000) as (door, client):
        door.receive = refuse
        for content, reply in (
            (MAIL, "451 4.3.0"),
            (b"x" * 300_000 + b"\r\n", "451 4.3.0"),
            (b"x" * 1_000_001 + b"\r\n", "552 5.3.4"),
        ):
            await client.begin(*FOUR)
            client.writer.write(content + b".\r\nNOOP\r\n")
            assert [answer[:9] for answer in await replies(client, 4)] == [reply] * 4
            assert await client.read() == "250 2.0.0 OK"
        await client.begin(*FOUR)
        client.writer.write(b"x" * 4_100_000)
        assert [answer[:9] for answer in await replies(client, 4)] == ["552 5.3.4"] * 4
        assert await client.at_end()


@pytest.mark.thorough
async def test_one_reply_for_each_recipient_when_the_store_hangs() -> None:
    async def hang(arrival: RawArrival) -> Disposition:
        await asyncio.sleep(0.5)
        return Disposition.ACCEPTED

    async with relay(commit_timeout=0.1) as (door, client):
        door.receive = hang
        await client.begin(*FOUR)
        client.writer.write(MAIL + b".\r\n")
        assert [answer[:9] for answer in await replies(client, 4)] == ["451 4.3.0"] * 4


async def test_no_recipient_no_data() -> None:
    async with relay() as (_, client):
        await client.say("MAIL FROM:<kari@eksempel.no>")
        await client.say("RCPT TO:<ukjent@sorum.example>")
        assert (await client.say("DATA")).startswith("503")
        assert (await client.say("MAIL FROM:<kari@eksempel.no>")).startswith("503")
        await client.say("RSET")
        await client.begin(FOUR[0])


async def test_only_lhlo_is_a_greeting() -> None:
    async with open_door(lmtp=Listener(port=0)) as door:
        async with connect(door, door.server.lmtp_port) as client:
            await client.read()
            assert (await client.say("MAIL FROM:<a@b.no>")).startswith("503")
            assert (await client.say("HELO x")).startswith("500")
            assert (await client.say("EHLO x")).startswith("500")
            offered = await client.say("LHLO x")
            assert "PIPELINING" in offered
            assert "ENHANCEDSTATUSCODES" in offered
            assert "8BITMIME" in offered
        async with connect(door) as client:
            await client.read()
            assert (await client.say("LHLO x")).startswith("500")


async def test_the_relay_is_trusted() -> None:
    async with relay(max_connections_per_peer=1) as (door, client):
        await client.begin(FOUR[0])
        assert (await client.say(b"a\nb\r\n.")).startswith("250")
        assert door.arrivals[0].envelope["bare_newlines"] is True
        async with connect(door, door.server.lmtp_port) as second:
            assert (await second.read()).startswith("220")


async def test_strangers_leave_room_for_the_relay() -> None:
    async with (
        open_door(lmtp=Listener(port=0), max_strangers=1, max_connections=2) as door,
        connect(door) as one,
        connect(door) as two,
        connect(door, door.server.lmtp_port) as relay_one,
        connect(door, door.server.lmtp_port) as relay_two,
    ):
        assert (await one.read()).startswith("220")
        assert (await two.read()).startswith("421 4.7.0")
        assert (await relay_one.read()).startswith("220")
        assert (await relay_two.read()).startswith("421 4.7.0")


async def test_lmtp_alone() -> None:
    async with open_door(lmtp=Listener(port=0), smtp=False) as door:
        assert door.server.listening
        async with connect(door, door.server.lmtp_port) as client:
            await client.greet("LHLO")
        assert door.server.port == 0


async def test_a_large_mail_to_several() -> None:
    content = b"Subject: x\r\n\r\n" + b"x" * 400_000 + b"\r\n"
    async with relay() as (door, client):
        await client.begin(*FOUR)
        client.writer.write(content + b".\r\n")
        assert [answer[:3] for answer in await replies(client, 4)] == ["250"] * 4
        assert door.contents == [content]


async def test_pipelined_as_a_relay_does() -> None:
    group = (
        b"MAIL FROM:<a@b.no> SIZE=5\r\nRCPT TO:<post@sorum.example>\r\n"
        b"RCPT TO:<barnehage@sorum.example>\r\nDATA\r\n"
    )
    async with relay() as (door, client):
        client.writer.write(group)
        assert [answer[:3] for answer in await replies(client, 4)] == ["250", "250", "250", "354"]
        client.writer.write(b"Hei\r\n.\r\n" + group)
        assert [answer[:3] for answer in await replies(client, 6)] == ["250"] * 5 + ["354"]
        client.writer.write(b"Hallo\r\n.\r\nQUIT\r\n")
        assert [answer[:3] for answer in await replies(client, 3)] == ["250", "250", "221"]
        assert await client.at_end()
    assert [arrival.raw for arrival in door.arrivals] == [b"Hei\r\n", b"Hallo\r\n"]


async def test_a_taken_port_tells_which_door() -> None:
    async with open_door(lmtp=Listener(port=0)) as door:
        settings = ListenSettings(port=0, lmtp=Listener(port=door.server.lmtp_port))
        other = EmailServer(settings, OWN.verdict, door, lambda: NOW)
        with pytest.raises(CannotListenError) as caught:
            await other.start()
        assert caught.value.door == "lmtp"
        assert not other.listening


async def test_stopping_answers_every_recipient() -> None:
    async with relay() as (door, client):
        await client.begin(*FOUR)
        stopping = asyncio.create_task(door.server.stop(grace=5))
        await asyncio.sleep(0)
        client.writer.write(MAIL + b".\r\n")
        assert [answer[:3] for answer in await replies(client, 5)] == ["250"] * 4 + ["421"]
        assert await client.at_end()
        await asyncio.wait_for(stopping, 2)
        with suppress(ConnectionError):
            await client.writer.drain()
    assert len(door.arrivals) == 1
