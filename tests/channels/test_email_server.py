"""Accepting mail, by real clients and raw sockets against the real server."""

from __future__ import annotations

import asyncio
import logging
import smtplib
import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channels.base import (
    Disposition,
    MisconfiguredError,
    RawArrival,
    RejectedError,
    TemporaryError,
)
from channels.email.server import EmailServer, ListenSettings
from tests.channels.mail_door import MAIL, NOW, OWN, TRUSTED, Client, connect, open_door
from tests.support import examples


async def test_mail_from_an_ordinary_client_arrives_as_it_was_sent() -> None:
    async with open_door() as door:

        def send() -> None:
            with smtplib.SMTP("127.0.0.1", door.server.port, "pc.eksempel.no") as client:
                client.sendmail("Kari@Eksempel.no", ["POST@sorum.example"], MAIL)

        await asyncio.to_thread(send)
    [arrival] = door.arrivals
    assert arrival.raw == MAIL
    assert arrival.channel == "email"
    assert arrival.received_at == NOW
    assert arrival.envelope == {
        "protocol": "smtp",
        "tls": "",
        "peer": "127.0.0.1",
        "helo": "pc.eksempel.no",
        "mail_from": "Kari@Eksempel.no",
        "recipients": ["POST@sorum.example"],
        "trusted": False,
        "smtputf8": False,
        "bare_newlines": False,
    }


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\r\n",
        b".\r\n",
        b"..\r\n",
        b".a\r\n..b\r\n...\r\n",
        b"a\r\n.\r\n.\r\nb\r\n",
        b"x" * 5000 + b"\r\n",
        b"\x00\xff\xfe\r\n",
        b"\r\n\r\n.\r\n\r\n",
    ],
)
async def test_dots_and_odd_contents_come_through(content: bytes) -> None:
    stuffed = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:]
    async with open_door() as door, connect(door) as client:
        await client.greet()
        assert (await client.deliver(stuffed)).startswith("250")
    assert [arrival.raw for arrival in door.arrivals] == [content]


@pytest.mark.parametrize("piece", [1, 2, 3, 5, 7])
async def test_content_in_small_pieces(piece: int) -> None:
    wire = b"Subject: x\r\n\r\n..a\r\n.b\r\n\r\n...\r\nq\r\n.\r\n"
    async with open_door() as door, connect(door) as client:
        await client.greet()
        await client.begin()
        for start in range(0, len(wire), piece):
            client.writer.write(wire[start : start + piece])
            await client.writer.drain()
            await asyncio.sleep(0)
        assert (await client.read()).startswith("250")
    assert door.arrivals[0].raw == b"Subject: x\r\n\r\n.a\r\nb\r\n\r\n..\r\nq\r\n"


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 11, 64])
async def test_a_whole_dialogue_in_small_pieces(piece: int) -> None:
    start = b"MAIL FROM:<a@b.no> SIZE=9\r\nRCPT TO:<post@sorum.example>\r\nDATA\r\n"
    wire = b"EHLO x\r\n" + (start + b"Hei\r\n..\r\n.\r\nNOOP\r\n") * 2 + b"RSET\r\nQUIT\r\n"
    async with open_door() as door, connect(door) as client:
        for at in range(0, len(wire), piece):
            client.writer.write(wire[at : at + piece])
            await asyncio.sleep(0)
        answers = (await asyncio.wait_for(client.reader.read(), 5)).decode().splitlines()
    assert [answer[:3] for answer in answers if answer[3] == " "] == [
        *("220", "250"),
        *("250", "250", "354", "250", "250") * 2,
        *("250", "221"),
    ]
    assert [arrival.raw for arrival in door.arrivals] == [b"Hei\r\n.\r\n"] * 2


async def test_pipelined_mails_in_one_write() -> None:
    start = b"MAIL FROM:<a@b.no>\r\nRCPT TO:<post@sorum.example>\r\nDATA\r\n"
    one = start + b"Subject: %d\r\n\r\nHei\r\n.\r\n"
    async with open_door() as door, connect(door) as client:
        await client.greet()
        client.writer.write(b"".join(one % n for n in range(20)) + b"NOOP\r\nQUIT\r\n")
        replies = [await client.read() for _ in range(20 * 4 + 2)]
        assert [reply[:3] for reply in replies] == ["250", "250", "354", "250"] * 20 + [
            "250",
            "221",
        ]
    assert [arrival.raw[9:11] for arrival in door.arrivals] == [
        b"%-2d" % n if n > 9 else b"%d\r" % n for n in range(20)
    ]


@pytest.mark.parametrize(
    ("recipient", "reply"),
    [
        ("post@sorum.example", "250"),
        ("Post@SORUM.Example", "250"),
        ("post+skranke@sorum.example", "250"),
        ("vei+drift@sorum.example", "250"),
        ("svar+ab2c.k7d@sorum.example", "250"),
        ("SVAR+AB2C.K7D@sorum.example", "250"),
        ("retur+ab2c.k7d@sorum.example", "250"),
        ("postmaster@sorum.example", "250"),
        ("Postmaster", "250"),
        ("@relay.example,@b.example:post@sorum.example", "250"),
        ("ukjent@sorum.example", "550 5.1.1"),
        ("svar@sorum.example", "550 5.1.1"),
        ("svar+@sorum.example", "550 5.1.1"),
        ("svar+a/b@sorum.example", "550 5.1.1"),
        ("vei@sorum.example", "550 5.1.1"),
        ("post@andre.example", "550 5.7.1"),
        ("svar+ab2c@andre.example", "550 5.7.1"),
        ("post@sorum.example@andre.example", "550 5.7.1"),
        ("post%andre.example@sorum.example", "550 5.1.1"),
        ("post", "550 5.7.1"),
        ("", "501"),
        ("post @sorum.example", "553"),
    ],
)
async def test_recipients(recipient: str, reply: str) -> None:
    async with open_door() as door, connect(door) as client:
        await client.greet()
        await client.say("MAIL FROM:<kari@eksempel.no>")
        assert (await client.say(f"RCPT TO:<{recipient}>")).startswith(reply)


async def test_one_bad_recipient_does_not_stop_the_others() -> None:
    async with open_door() as door, connect(door) as client:
        await client.greet()
        await client.say("MAIL FROM:<>")
        assert (await client.say("RCPT TO:<ukjent@sorum.example>")).startswith("550")
        assert (await client.say("RCPT TO:<barnehage@sorum.example>")).startswith("250")
        assert (await client.say("DATA")).startswith("354")
        assert (await client.say(MAIL + b".")).startswith("250")
    assert door.arrivals[0].envelope["recipients"] == ["barnehage@sorum.example"]
    assert door.arrivals[0].envelope["mail_from"] == ""


async def test_more_than_a_hundred_recipients() -> None:
    async with open_door() as door, connect(door) as client:
        await client.greet()
        await client.say("MAIL FROM:<kari@eksempel.no>")
        replies = [await client.say(f"RCPT TO:<post+{n}@sorum.example>") for n in range(103)]
        assert [reply[:3] for reply in replies] == ["250"] * 100 + ["452"] * 3
        assert replies[-1].startswith("452 4.5.3")
        await client.say("DATA")
        assert (await client.say(MAIL + b".")).startswith("250")
    assert len(door.arrivals[0].envelope["recipients"]) == 100  # type: ignore[arg-type]


async def test_declared_size_over_the_limit() -> None:
    async with open_door(max_size=1000) as door, connect(door) as client:
        await client.read()
        assert "250-SIZE 1000" in await client.say("EHLO client.example")
        assert (await client.say("MAIL FROM:<a@b.no> SIZE=1001")).startswith("552 5.3.4")
        assert (await client.say("MAIL FROM:<a@b.no> BODY=8BITMIME SIZE=1000")).startswith("250")


async def test_content_over_the_limit_is_read_to_its_end_and_refused() -> None:
    async with open_door(max_size=1000) as door, connect(door) as client:
        await client.greet()
        assert (await client.deliver(b"x" * 998 + b"\r\n")).startswith("250")
        assert (await client.deliver(b"QUIT\r\n" * 200)).startswith("552 5.3.4")
        assert (await client.deliver(MAIL)).startswith("250")
        await client.begin()
        client.writer.write(b"x" * 5000)  # and so on without end: given up
        assert (await client.read()).startswith("552 5.3.4")
        assert await client.at_end()
        assert door.server.memory_held == 0
    assert [len(arrival.raw) for arrival in door.arrivals] == [1000, len(MAIL)]


@pytest.mark.parametrize(
    "ending",
    [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r",
     b"\r\n\x00.\r\n\n", b"\r\n.\x00\n", b"\r\n.\r\r\n", b"\n.\r", b"\r.\n"],
)  # fmt: skip
async def test_smuggled_endings_never_make_a_second_mail(ending: bytes) -> None:
    smuggled = (
        b"MAIL FROM:<sjef@sorum.example>\r\nRCPT TO:<post@sorum.example>\r\nDATA\r\nFalsk\r\n"
    )
    content = MAIL + b"slutt" + ending + smuggled
    async with open_door() as door, connect(door) as client:
        await client.greet()
        await client.begin()
        client.writer.write(content + b".\r\nNOOP\r\n")
        assert (await client.read()).startswith("550 5.6.11")
        assert await client.read() == "250 2.0.0 OK"
    assert door.arrivals == []

    async with open_door(trusted_peers=TRUSTED) as door, connect(door) as client:
        await client.greet()
        await client.begin()
        client.writer.write(content + b".\r\nNOOP\r\n")
        assert (await client.read()).startswith("250")
    assert door.arrivals[0].envelope["bare_newlines"] is True
    assert door.arrivals[0].envelope["mail_from"] == "kari@eksempel.no"


class SecretError(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "reply"),
    [
        (TemporaryError("hemmelig"), "451 4.3.0"),
        (RejectedError("hemmelig"), "554 5.7.1"),
        (SecretError("hemmelig"), "451 4.3.0"),
        (MisconfiguredError("hemmelig"), "451 4.3.0"),
        (asyncio.CancelledError("hemmelig"), "451 4.3.0"),
        (OSError(28, "hemmelig"), "451 4.3.0"),
    ],
)
async def test_failure_to_keep_the_mail_is_temporary_and_tells_nothing(
    error: BaseException, reply: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(arrival: RawArrival) -> Disposition:
        raise error

    async with open_door() as door, connect(door) as client:
        door.receive = refuse
        await client.greet()
        answer = await client.deliver()
        assert answer.startswith(reply)
        assert "hemmelig" not in answer + caplog.text
        assert "Error" not in answer
        door.receive = None
        assert (await client.deliver()).startswith("250")
    assert len(door.arrivals) == 1


async def test_a_fault_in_the_recipient_check_is_temporary() -> None:
    async with open_door() as door, connect(door) as client:
        door.server.recipients = lambda address: 1 / 0  # type: ignore[assignment,return-value]
        await client.greet()
        await client.say("MAIL FROM:<a@b.no>")
        answer = await client.say("RCPT TO:<post@sorum.example>")
        assert answer.startswith("451 4.3.0")
        assert "division" not in answer


async def test_the_number_in_the_answer_is_the_number_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def refuse(arrival: RawArrival) -> Disposition:
        raise SecretError

    async with open_door() as door, connect(door) as client:
        door.receive = refuse
        await client.greet()
        answer = await client.deliver()
    incident = answer.partition("incident ")[2].rstrip(")")
    assert incident
    assert incident in caplog.text
    assert "SecretError" in caplog.text


async def test_a_store_that_hangs_gives_a_temporary_answer_and_the_retry_is_known() -> None:
    seen: list[RawArrival] = []
    gate = asyncio.Event()

    async def hang(arrival: RawArrival) -> Disposition:
        seen.append(arrival)
        await gate.wait()
        return Disposition.ACCEPTED

    async with open_door(commit_timeout=0.05) as door, connect(door) as client:
        door.receive = hang
        await client.greet()
        assert (await client.deliver()).startswith("451 4.3.0")
        gate.set()
        retry = MAIL.replace(b"From:", b"Received: by relay; once more\r\nFrom:")
        assert (await client.deliver(retry)).startswith("250")
    assert seen[0].external_id == seen[1].external_id


async def test_the_same_mail_to_other_recipients_is_another_delivery() -> None:
    async with open_door() as door, connect(door) as client:
        await client.greet()
        await client.deliver(MAIL, "post@sorum.example", "barnehage@sorum.example")
        await client.deliver(MAIL, "Barnehage@sorum.example", "post@sorum.example")
        await client.deliver(MAIL, "post@sorum.example")
        await client.deliver(MAIL.replace(b"Hei\r\n", b"Nei\r\n"), "post@sorum.example")
    first, again, other, changed = (arrival.external_id for arrival in door.arrivals)
    assert first == again
    assert len({first, other, changed}) == 3


async def test_a_client_that_hangs_up_does_not_undo_the_commit() -> None:
    entered, gate, finished = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow(arrival: RawArrival) -> Disposition:
        entered.set()
        await gate.wait()
        finished.set()
        return Disposition.ACCEPTED

    async with open_door() as door:
        door.receive = slow
        async with connect(door) as client:
            await client.greet()
            await client.begin()
            client.writer.write(MAIL + b".\r\n")
            await entered.wait()
            client.writer.transport.abort()
        gate.set()
        await asyncio.wait_for(finished.wait(), 2)


async def test_mail_cut_off_in_the_middle_is_not_taken() -> None:
    async with open_door() as door:
        async with connect(door) as client:
            await client.greet()
            await client.begin()
            client.writer.write(MAIL)
            await client.writer.drain()
        async with connect(door) as client:  # and the door still works
            await client.greet()
            await client.deliver(b"Subject: hel\r\n\r\n")
        assert door.server.memory_held == 0
    assert [arrival.raw for arrival in door.arrivals] == [b"Subject: hel\r\n\r\n"]


@pytest.mark.thorough
async def test_a_steady_trickle_outlives_the_idle_time() -> None:
    async with open_door(idle_timeout=0.5) as door, connect(door) as client:
        await client.greet()
        await client.begin()
        for _ in range(9):
            client.writer.write(b"x\r\n")
            with pytest.raises(TimeoutError):
                await client.read(within=0.08)
        assert (await client.say(b".")).startswith("250")


async def test_an_endless_trickle_is_ended() -> None:
    async with open_door(idle_timeout=5, data_timeout=0.3) as door, connect(door) as client:
        await client.greet()
        await client.begin()
        reply = ""
        for _ in range(40):
            client.writer.write(b"x\r\n")
            try:
                reply = await client.read(within=0.05)
                break
            except TimeoutError:
                continue
        assert reply.startswith("421")
    assert door.arrivals == []


async def test_an_idle_client_is_told_goodbye() -> None:
    async with open_door(idle_timeout=0.1) as door, connect(door) as client:
        await client.greet()
        assert (await client.read()).startswith("421 4.4.2")
        assert await client.at_end()


async def test_too_many_connections_from_one_peer() -> None:
    async with (
        open_door(max_connections_per_peer=2) as door,
        connect(door) as one,
        connect(door) as two,
        connect(door) as three,
    ):
        assert (await one.read()).startswith("220")
        assert (await two.read()).startswith("220")
        assert (await three.read()).startswith("421 4.7.0")
        assert await three.at_end()
        await one.say("QUIT")
        assert await one.at_end()
        async with connect(door) as four:
            assert (await four.read()).startswith("220")


async def test_a_trusted_relay_may_have_many_connections_but_not_any_number() -> None:
    limits = {"max_connections_per_peer": 1, "max_connections": 2, "trusted_peers": TRUSTED}
    async with (
        open_door(**limits) as door,
        connect(door) as one,
        connect(door) as two,
        connect(door) as three,
    ):
        assert (await one.read()).startswith("220")
        assert (await two.read()).startswith("220")
        assert (await three.read()).startswith("421")


async def test_endless_commands_are_ended() -> None:
    async with open_door() as door, connect(door) as client:
        await client.greet()
        client.writer.write(b"NOOP\r\n" * 3000)
        replies = (await asyncio.wait_for(client.reader.read(), 5)).decode().splitlines()
        assert replies[-1].startswith("421")
        assert len(replies) < 3000


async def test_guessing_recipients_is_ended_for_strangers() -> None:
    async with open_door() as door, connect(door) as client:
        await client.greet()
        await client.say("MAIL FROM:<a@b.no>")
        replies = [await client.say(f"RCPT TO:<navn{n}@sorum.example>") for n in range(51)]
        assert replies[49].startswith("550")
        assert replies[50].startswith("421")
        assert await client.at_end()


async def test_full_disk_is_told_before_the_content() -> None:
    free = 600_000_000
    async with (
        open_door(lambda: free, max_size=1 << 30, max_commands=10**6) as door,
        connect(door) as client,
    ):
        await client.greet()
        assert (await client.deliver()).startswith("250")
        free = 400_000_000
        await refused(client, "MAIL FROM:<a@b.no>", "452 4.3.1")
        free = 600_000_000
        await accepted(client, "MAIL FROM:<a@b.no> SIZE=290000000")
        await refused(client, "MAIL FROM:<a@b.no> SIZE=310000000", "452 4.3.1")
        assert (await client.deliver()).startswith("250")


async def test_the_disk_is_looked_at_again_when_a_mail_could_not_be_kept() -> None:
    free = 600_000_000

    async def fail(arrival: RawArrival) -> Disposition:
        nonlocal free
        free = 0
        raise TemporaryError

    async with open_door(lambda: free) as door, connect(door) as client:
        door.receive = fail
        await client.greet()
        assert (await client.deliver()).startswith("451")
        assert (await client.say("MAIL FROM:<a@b.no>")).startswith("452 4.3.1")


async def refused(client: Client, command: str, reply: str) -> None:
    """The server looks at the disk a few times a second."""
    while (answer := await client.say(command)).startswith("250"):
        await client.say("RSET")
    assert answer.startswith(reply)


async def accepted(client: Client, command: str) -> None:
    while not (await client.say(command)).startswith("250"):
        pass
    await client.say("RSET")


async def test_contents_under_way_are_limited_together() -> None:
    async with open_door(max_memory=200_000) as door, connect(door) as one, connect(door) as two:
        await one.greet()
        await two.greet()
        await one.begin()
        await two.begin()
        one.writer.write(b"x" * 150_000)
        while door.server.memory_held < 150_000:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert (await two.say(b"y" * 150_000 + b"\r\n.")).startswith("452 4.3.1")
        assert (await two.say("MAIL FROM:<a@b.no>")).startswith("451 4.3.2")
        assert (await one.say(b"\r\n.")).startswith("250")
        assert (await two.deliver()).startswith("250")
        assert door.server.memory_held == 0


async def test_what_is_offered_and_what_is_not() -> None:
    async with open_door() as door, connect(door) as client:
        greeting = await client.read()
        assert greeting.startswith("220 mx.sorum.example")
        assert "ython" not in greeting
        offered = {line[4:].split(" ")[0] for line in (await client.say("EHLO x")).split("\r\n")}
        assert offered == {
            "mx.sorum.example", "SIZE", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "PIPELINING"
        }  # fmt: skip
        assert (await client.say("AUTH PLAIN AGEAYg==")).startswith("502")
        assert (await client.say("STARTTLS")).startswith("454")
        assert (await client.say("EXPN alle")).startswith("502")
        assert (await client.say("BDAT 3 LAST")).startswith("500")
        known = await client.say("VRFY post@sorum.example")
        assert known.startswith("252")
        assert await client.say("VRFY ukjent@sorum.example") == known
        assert await client.say(b"VRFY \xff\xfe") == known


async def test_order_of_commands() -> None:
    async with open_door() as door, connect(door) as client:
        await client.read()
        assert (await client.say("MAIL FROM:<a@b.no>")).startswith("503")
        assert (await client.say("HELO gammel.example")) == "250 mx.sorum.example"
        assert (await client.say("RCPT TO:<post@sorum.example>")).startswith("503")
        assert (await client.say("DATA")).startswith("503")
        assert (await client.say("MAIL FROM:<a@b.no>")).startswith("250")
        assert (await client.say("MAIL FROM:<a@b.no>")).startswith("503")
        assert (await client.say("RSET")).startswith("250")
        assert (await client.deliver()).startswith("250")
        assert (await client.say("RCPT TO:<post@sorum.example>")).startswith("503")
    assert door.arrivals[0].envelope["helo"] == "gammel.example"


@pytest.mark.parametrize(
    ("command", "sender"),
    [
        (b"MAIL FROM:<>", ""),
        (b"MAIL FROM: <a@b.no>", "a@b.no"),
        (b"mail from:<a@b.no>", "a@b.no"),
        (b"MAIL FROM:a@b.no", "a@b.no"),
        (b"MAIL FROM:<@hop.example:a@b.no>", "a@b.no"),
        (b'MAIL FROM:<"a b"@b.no>', '"a b"@b.no'),
        ("MAIL FROM:<kåre@blåbær.no> SMTPUTF8".encode(), "kåre@blåbær.no"),
        (b"MAIL FROM:<k\xe5re@b.no>", "k\ufffdre@b.no"),
        (b"MAIL FROM:<" + b"a" * 600 + b"@b.no>", "a" * 600 + "@b.no"),
        (b"MAIL FROM:<a@b.no> BODY=8BITMIME SIZE=100", "a@b.no"),
    ],
)
async def test_senders(command: bytes, sender: str) -> None:
    async with open_door() as door, connect(door) as client:
        await client.greet()
        assert (await client.say(command)).startswith("250")
        await client.say("RCPT TO:<post@sorum.example>")
        await client.say("DATA")
        await client.say(MAIL + b".")
    assert door.arrivals[0].envelope["mail_from"] == sender
    assert door.arrivals[0].envelope["smtputf8"] is (b"SMTPUTF8" in command)


@pytest.mark.parametrize(
    "command",
    [
        b"MAIL", b"MAIL FROM:", b"MAIL FROM:<", b"MAIL FROM:>", b"MAIL FROM:<a@b.no",
        b"MAIL FROM:<a@b.no> FOO=BAR", b"MAIL FROM:<a@b.no> SIZE=", b"MAIL FROM:<a@b.no> SIZE=x",
        b"MAIL TO:<a@b.no>", b"MAIL FROM:<a@b.no> BODY=9BIT", b"\xff\xfe", b"", b" ", b"DATA x",
        b"QUIT x", b"HELO", b"EHLO", b"RCPT TO:<", b"x" * 3000, b"x" * 200_000, b"GET / HTTP/1.1",
    ],
)  # fmt: skip
async def test_malformed_commands_are_the_clients_fault(command: bytes) -> None:
    async with open_door() as door, connect(door) as client:
        await client.greet()
        assert (await client.say(command))[0] == "5"
        assert (await client.deliver()).startswith("250")


async def test_stopping_lets_the_mail_under_way_in_and_sends_the_idle_away() -> None:
    async with open_door() as door, connect(door) as idle, connect(door) as busy:
        await idle.greet()
        await busy.greet()
        await busy.begin()
        stopping = asyncio.create_task(door.server.stop(grace=5))
        assert (await idle.read()).startswith("421 4.3.2")
        assert await idle.at_end()
        assert (await busy.say(MAIL + b".")).startswith("250")
        assert (await busy.read()).startswith("421")
        assert await busy.at_end()
        await asyncio.wait_for(stopping, 2)
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", door.server.port or 1)
    assert len(door.arrivals) == 1


async def test_stopping_waits_for_the_commit_and_not_for_ever_for_a_client() -> None:
    entered, gate = asyncio.Event(), asyncio.Event()

    async def slow(arrival: RawArrival) -> Disposition:
        entered.set()
        await gate.wait()
        return Disposition.ACCEPTED

    async with open_door() as door, connect(door) as client, connect(door) as stuck:
        door.receive = slow
        await stuck.greet()
        await stuck.begin()
        await client.greet()
        await client.begin()
        client.writer.write(MAIL + b".\r\n")
        await entered.wait()
        stopping = asyncio.create_task(door.server.stop(grace=0.2))
        gate.set()
        assert (await client.read()).startswith("250")
        await asyncio.wait_for(stopping, 2)
        with pytest.raises((ConnectionError, AssertionError)):
            assert not await stuck.at_end()


async def test_stopping_does_not_wait_for_a_client_that_was_sent_away() -> None:
    async with open_door(max_size=1000) as door, connect(door) as client:
        await client.greet()
        await client.begin()
        client.writer.write(b"x" * 5000)
        assert (await client.read()).startswith("552")
        await asyncio.wait_for(door.server.stop(grace=8), 2)


async def test_a_taken_port_is_told_in_words() -> None:
    async with open_door() as door:
        taken = ListenSettings(port=door.server.port)
        other = EmailServer(taken, OWN.verdict, door, lambda: NOW)
        with pytest.raises(MisconfiguredError, match=str(door.server.port)):
            await other.start()


async def test_a_client_that_closes_its_half_still_gets_all_answers() -> None:
    gate = asyncio.Event()

    async def slow(arrival: RawArrival) -> Disposition:
        await gate.wait()
        return Disposition.ACCEPTED

    async with open_door() as door, connect(door) as client:
        door.receive = slow
        client.writer.write(
            b"EHLO x\r\nMAIL FROM:<a@b.no>\r\nRCPT TO:<post@sorum.example>\r\nDATA\r\n"
            + MAIL
            + b".\r\nNOOP\r\nNOO"
        )
        client.writer.write_eof()
        codes = [(await client.read())[:3] for _ in range(5)]
        gate.set()
        rest = (await asyncio.wait_for(client.reader.read(), 5)).decode().splitlines()
    assert codes == ["220", "250", "250", "250", "354"]
    assert [line[:9] for line in rest] == ["250 2.0.0", "250 2.0.0"]


@pytest.mark.thorough
async def test_a_client_that_never_reads_is_held_back_and_then_dropped() -> None:
    async with open_door(idle_timeout=1, max_commands=10**6) as door:
        _, writer = await asyncio.open_connection("127.0.0.1", door.server.port, limit=1)

        async def talk() -> None:
            while True:
                writer.write(b"HELP\r\n" * 1000)
                await asyncio.wait_for(writer.drain(), 5)

        with pytest.raises(ConnectionError):
            await talk()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        async with connect(door) as client:
            await client.greet()
            assert (await client.deliver()).startswith("250")


async def test_many_commands_at_once_leave_others_their_turn() -> None:
    async with open_door(max_commands=10**6) as door, connect(door) as greedy, connect(door) as one:
        await one.greet()
        greedy.writer.write(b"NOOP\r\n" * 40_000)
        assert (await asyncio.wait_for(one.say("NOOP"), 1)).startswith("250")
        assert len(await greedy.reader.readexactly(100_000)) == 100_000


@pytest.mark.thorough
async def test_a_stranger_who_trickles_a_mail_is_sent_away_and_a_relay_is_not() -> None:
    limits = {"slow_after": 0.2, "min_rate": 1_000_000}
    async with open_door(**limits) as door, connect(door) as client:
        await client.greet()
        await client.begin()
        reply = ""
        while not reply:
            client.writer.write(b"x\r\n")
            with suppress(TimeoutError):
                reply = await client.read(within=0.05)
        assert reply.startswith("421 4.4.2 Too slow")
        assert await client.at_end()
    async with open_door(trusted_peers=TRUSTED, **limits) as door, connect(door) as client:
        await client.greet()
        await client.begin()
        for _ in range(12):
            client.writer.write(b"x\r\n")
            with pytest.raises(TimeoutError):
                await client.read(within=0.05)
        assert (await client.say(b".")).startswith("250")


async def test_a_stranger_who_brings_no_mail_is_sent_away() -> None:
    async with open_door(idle_timeout=5, data_timeout=0.4) as door, connect(door) as client:
        await client.greet()
        reply = "250"
        while reply.startswith("250"):
            reply = await client.say("NOOP")
        assert reply.startswith("421 4.")


async def test_too_many_uncommitted_mails_are_told_to_come_later() -> None:
    entered, gate = asyncio.Event(), asyncio.Event()

    async def slow(arrival: RawArrival) -> Disposition:
        entered.set()
        await gate.wait()
        return Disposition.ACCEPTED

    async with open_door(max_uncommitted=1) as door, connect(door) as one, connect(door) as two:
        door.receive = slow
        await one.greet()
        await two.greet()
        await one.begin()
        one.writer.write(MAIL + b".\r\n")
        await entered.wait()
        assert (await two.say("MAIL FROM:<a@b.no>")).startswith("451 4.3.2")
        async with connect(door) as three:
            assert (await three.read()).startswith("421 4.3.2")
        gate.set()
        assert (await one.read()).startswith("250")
        assert (await two.deliver()).startswith("250")


@pytest.mark.thorough
async def test_a_loop_that_lags_takes_no_more_until_it_has_caught_up() -> None:
    async with open_door(max_lag=0.3, max_commands=10**6) as door, connect(door) as client:
        await client.greet()
        client.writer.write(b"MAIL FROM:<a@b.no>\r\n")
        time.sleep(1)  # noqa: ASYNC251 - what a program does that keeps the loop to itself
        assert (await client.read())[:3] in ("250", "451")
        await client.say("RSET")
        answers = [await client.say("MAIL FROM:<a@b.no>")]
        while not answers[-1].startswith("250"):
            answers.append(await client.say("MAIL FROM:<a@b.no>"))
        assert answers[0].startswith("451 4.3.2")


async def test_nothing_of_the_mail_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with open_door() as door, connect(door) as client:
        await client.greet()
        await client.deliver(b"Subject: fortrolig sak\r\n\r\nfortrolig tekst\r\n")
        await client.say("Fortrolig innhold etter en avvist kommando")
    assert len(door.arrivals) == 1
    assert "fortrolig" not in caplog.text.lower()
    assert "kari@eksempel.no" not in caplog.text


@settings(max_examples=examples(40), deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=12))
def test_any_bytes_leave_the_server_standing(lines: list[bytes]) -> None:
    async def attempt() -> None:
        async with open_door() as door:
            async with connect(door) as client:
                client.writer.write(b"EHLO x\r\n" + b"\r\n".join(lines) + b"\r\nQUIT\r\n")
                client.writer.write_eof()
                try:
                    replies = await asyncio.wait_for(client.reader.read(), 5)
                except ConnectionError:
                    replies = b""
                assert b"Error: (" not in replies
                assert b"451" not in replies
            async with connect(door) as client:
                await client.greet()
                assert (await client.deliver()).startswith("250")

    asyncio.run(attempt())
