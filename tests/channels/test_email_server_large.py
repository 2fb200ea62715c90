"""Large mail on its way in: to a file, without holding up the loop or filling the memory."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import statistics
import time
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from channels.base import Disposition, MisconfiguredError, RawArrival, TemporaryError
from channels.email import content as content_module
from channels.email.content import INLINE_LIMIT, Content, SpoolFile, Unstuffer, sweep
from channels.email.identity import Digest, content_key, delivery_key, is_undated
from tests.channels.mail_door import MAIL, NOW, TRUSTED, Client, connect, open_door
from tests.support import examples

LARGE = MAIL + (b"." + b"x" * 70 + b"\r\n") * 8_000
"""Every line begins with a dot; above the limit for memory."""


def stuffed(content: bytes) -> bytes:
    """On the wire, by the letter of RFC 5321 §4.5.2."""
    lines = content.split(b"\r\n")
    return b"\r\n".join(b"." + line if line.startswith(b".") else line for line in lines) + b".\r\n"


def unstuffed(wire: bytes) -> bytes:
    """The content, line by line."""
    lines = wire.removesuffix(b".\r\n").split(b"\r\n")
    return b"\r\n".join(line[1:] if line.startswith(b".") else line for line in lines)


def has_bare_newlines(content: bytes) -> bool:
    rest = content.replace(b"\r\n", b"")
    return b"\r" in rest or b"\n" in rest


async def until_empty(folder: Path) -> None:
    async with asyncio.timeout(5):
        while os.listdir(folder):  # noqa: ASYNC110, PTH208
            await asyncio.sleep(0.01)


async def test_large_content_comes_as_a_file(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    async with open_door(spool=spool) as door, connect(door) as client:
        assert stat.S_IMODE(os.stat(spool).st_mode) == 0o700  # noqa: PTH116
        await client.greet()
        await client.begin()
        client.writer.write(stuffed(LARGE) + b"NOOP\r\n")
        assert (await client.read()).startswith("250 2.0.0 OK")
        assert await client.read() == "250 2.0.0 OK"
        assert door.server.memory_held == 0
    [arrival] = door.arrivals
    assert arrival.raw == b""
    assert arrival.spooled is not None
    assert arrival.spooled.path.parent == spool
    assert stat.S_IMODE(arrival.spooled.path.stat().st_mode) == 0o600
    assert arrival.spooled.path.read_bytes() == LARGE
    assert arrival.size == len(LARGE)
    assert arrival.spooled.sha256 == hashlib.sha256(LARGE).hexdigest()
    assert arrival.external_id == delivery_key(LARGE, ["post@sorum.example"])
    assert arrival.envelope["bare_newlines"] is False


@pytest.mark.parametrize(("more", "in_file"), [(0, False), (1, True)])
async def test_the_limit_between_memory_and_file(more: int, in_file: bool) -> None:
    content = b"x" * (INLINE_LIMIT - 2 + more) + b"\r\n"
    async with open_door() as door, connect(door) as client:
        await client.greet()
        assert (await client.deliver(content)).startswith("250")
        assert (door.arrivals[0].spooled is not None) is in_file
        assert door.contents == [content]


async def test_large_and_small_mails_pipelined() -> None:
    start = b"MAIL FROM:<a@b.no>\r\nRCPT TO:<post@sorum.example>\r\nDATA\r\n"
    mails = [LARGE, MAIL, LARGE + b"2\r\n", MAIL + b"2\r\n"]
    async with open_door() as door, connect(door) as client:
        await client.greet()
        client.writer.write(b"".join(start + stuffed(mail) for mail in mails) + b"QUIT\r\n")
        replies = [(await client.read())[:3] for _ in range(4 * 4 + 1)]
        assert replies == ["250", "250", "354", "250"] * 4 + ["221"]
        assert door.contents == mails


async def test_bare_newlines_in_large_content() -> None:
    content = LARGE + b"a\nb\r\n"
    async with open_door() as door, connect(door) as client:
        await client.greet()
        assert (await client.deliver(stuffed(content)[:-3])).startswith("550 5.6.11")
        await until_empty(door.server.spool)
    async with open_door(trusted_peers=TRUSTED) as door, connect(door) as client:
        await client.greet()
        assert (await client.deliver(stuffed(content)[:-3])).startswith("250")
        assert door.contents == [content]
        assert door.arrivals[0].envelope["bare_newlines"] is True


async def test_what_is_refused_leaves_no_file() -> None:
    async def refuse(arrival: RawArrival) -> Disposition:
        assert arrival.spooled is not None
        assert arrival.spooled.path.exists()
        raise TemporaryError

    async with open_door(max_size=1_000_000) as door, connect(door) as client:
        door.receive = refuse
        await client.greet()
        assert (await client.deliver(stuffed(LARGE)[:-3])).startswith("451 4.3.0")
        await until_empty(door.server.spool)
        assert (await client.deliver(b"x" * 1_000_001 + b"\r\n")).startswith("552 5.3.4")
        await until_empty(door.server.spool)
        door.receive = None
        assert (await client.deliver(stuffed(LARGE)[:-3])).startswith("250")


async def test_a_duplicate_leaves_no_file_and_a_file_taken_over_is_left_alone(
    tmp_path: Path,
) -> None:
    taken = tmp_path / "taken"

    async def first_only(arrival: RawArrival) -> Disposition:
        assert arrival.spooled is not None
        if taken.exists():
            return Disposition.DUPLICATE
        arrival.spooled.path.rename(taken)
        return Disposition.ACCEPTED

    async with open_door() as door, connect(door) as client:
        door.receive = first_only
        await client.greet()
        for _ in range(2):
            assert (await client.deliver(stuffed(LARGE)[:-3])).startswith("250")
        await until_empty(door.server.spool)
    assert taken.read_bytes() == LARGE


async def test_large_mail_cut_off_leaves_nothing() -> None:
    async with open_door() as door:
        async with connect(door) as client:
            await client.greet()
            await client.begin()
            client.writer.write(LARGE)
            await client.writer.drain()
            async with asyncio.timeout(5):
                while not list(door.server.spool.iterdir()):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            client.writer.transport.abort()
        await until_empty(door.server.spool)
        assert door.server.memory_held == 0
        assert door.arrivals == []


async def test_a_client_reset_after_the_end_of_a_large_mail_does_not_undo_it() -> None:
    arrived = asyncio.Event()

    async def receive(arrival: RawArrival) -> Disposition:
        arrived.set()
        return Disposition.ACCEPTED

    async with open_door() as door:
        door.receive = receive
        async with connect(door) as client:
            await client.greet()
            await client.begin()
            client.writer.write(stuffed(LARGE))
            await client.writer.drain()
            client.writer.write_eof()
            await asyncio.wait_for(arrived.wait(), 5)


async def test_a_full_disk_is_temporary_and_the_session_stays_in_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    full = True

    def write(file: int, data: memoryview) -> int:
        if full:
            raise OSError(28, "No space left on device")
        return real(file, data)

    real = os.write
    async with open_door() as door, connect(door) as client:
        monkeypatch.setattr(content_module.os, "write", write)
        await client.greet()
        assert (await client.deliver(stuffed(LARGE)[:-3])).startswith("452 4.3.1")
        await until_empty(door.server.spool)
        full = False
        assert (await client.deliver(stuffed(LARGE)[:-3])).startswith("250")
        assert door.contents == [LARGE]


async def test_file_and_directory_are_synced_before_the_mail_is_handed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[str] = []
    real = os.fsync

    def fsync(file: int) -> None:
        seen.append("directory" if stat.S_ISDIR(os.fstat(file).st_mode) else "file")
        real(file)

    async def receive(arrival: RawArrival) -> Disposition:
        seen.append("handed over")
        return Disposition.ACCEPTED

    async with open_door() as door, connect(door) as client:
        monkeypatch.setattr(content_module.os, "fsync", fsync)
        door.receive = receive
        await client.greet()
        assert (await client.deliver(stuffed(LARGE)[:-3])).startswith("250")
    assert seen == ["file", "directory", "handed over"]


async def test_a_disk_that_fails_to_sync_takes_no_mail(monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(file: int) -> None:
        raise OSError(5, "Input/output error")

    async with open_door() as door, connect(door) as client:
        monkeypatch.setattr(content_module.os, "fsync", fsync)
        await client.greet()
        assert (await client.deliver(stuffed(LARGE)[:-3])).startswith("451 4.3.0")
        await until_empty(door.server.spool)
    assert door.arrivals == []


async def test_left_overs_of_a_crash_are_removed_at_the_start(tmp_path: Path) -> None:
    old, new, other = tmp_path / "a.eml", tmp_path / "b.eml", tmp_path / "c"
    for path, hours in ((old, 2), (new, 0.5), (other, 2)):
        path.write_bytes(b"x")
        at = (NOW - timedelta(hours=hours)).timestamp()
        os.utime(path, (at, at))
    async with open_door(spool=tmp_path):
        assert sorted(os.listdir(tmp_path)) == [new.name, other.name]  # noqa: PTH208


async def test_whoever_uses_the_spool_alone_removes_all_left_overs_at_the_start(
    tmp_path: Path,
) -> None:
    """Also those of a crash just now: nothing names them, and nobody else would."""
    for name in ("a.eml", "b.eml", "c"):
        (tmp_path / name).write_bytes(b"x")
    async with open_door(spool=tmp_path, sole=True):
        assert os.listdir(tmp_path) == ["c"]  # noqa: PTH208


async def test_a_spool_directory_that_cannot_be_had_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(MisconfiguredError, match="spool"):
        async with open_door(spool=tmp_path / "file" / "spool"):
            pass


async def test_stopping_lets_a_large_mail_in() -> None:
    async with open_door() as door, connect(door) as client:
        await client.greet()
        await client.begin()
        wire = stuffed(LARGE)
        client.writer.write(wire[:400_000])
        await client.writer.drain()
        stopping = asyncio.create_task(door.server.stop(grace=5))
        await asyncio.sleep(0)
        client.writer.write(wire[400_000:])
        assert (await client.read()).startswith("250")
        assert (await client.read()).startswith("421")
        await asyncio.wait_for(stopping, 5)
    assert len(door.arrivals) == 1


async def test_forty_megabytes_hold_up_nobody(tmp_path: Path) -> None:
    lines = b"." + b"x" * 74 + b"\r\n"
    block = stuffed(lines * 3_400)[:-3]
    blocks = 40 * 1024 * 1024 // len(block) + 1
    gaps: list[float] = []
    stalls: list[float] = []

    async def tick() -> None:
        while True:
            wall, ours = time.perf_counter(), time.process_time()
            await asyncio.sleep(0.005)
            gap = time.perf_counter() - wall - 0.005
            gaps.append(gap)
            # What other processes of a busy machine take is no stall of ours.
            stalls.append(min(gap, time.process_time() - ours))

    async with open_door(spool=tmp_path, max_size=1 << 30) as door:
        # From another process: this one's memory and loop are what is measured.
        feeder = await asyncio.create_subprocess_exec(
            "/usr/bin/env", "python3", "-c", FEEDER, str(door.server.port), str(blocks),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert feeder.stdin is not None
        assert feeder.stdout is not None
        feeder.stdin.write(block)
        feeder.stdin.write_eof()
        assert await feeder.stdout.readline() == b"ready\n"
        process = psutil.Process()
        before = process.memory_info().rss
        peak = before
        ticker = asyncio.create_task(tick())
        reply = asyncio.create_task(feeder.stdout.read())
        while not reply.done():
            await asyncio.wait({reply}, timeout=0.05)
            peak = max(peak, process.memory_info().rss)
        ticker.cancel()
        await feeder.wait()
        assert reply.result().startswith(b"250")
        [arrival] = door.arrivals
        assert arrival.size > 41_000_000
        assert arrival.spooled is not None
        assert content_key(arrival.spooled.path)
    assert peak - before < 10 * 1024 * 1024
    assert max(stalls) < 0.02
    assert statistics.median(gaps) < 0.02


FEEDER = r"""
import smtplib, sys
block = sys.stdin.buffer.read()
client = smtplib.SMTP("127.0.0.1", int(sys.argv[1]))
client.ehlo()
client.mail("a@b.no")
client.rcpt("post@sorum.example")
client.docmd("DATA")
print("ready", flush=True)
for _ in range(int(sys.argv[2])):
    client.sock.sendall(block)
client.sock.sendall(b".\r\n")
print(*client.getreply())
client.quit()
"""

_WIRES = st.lists(
    st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"\r\n.", b"..", b"a", b"xyz", b"\0"]),
    max_size=30,
).map(b"".join)


@settings(max_examples=examples(200), deadline=None)
@given(_WIRES, st.lists(st.integers(1, 6), min_size=1, max_size=40))
@example(b".", [1])
@example(b"\r\n.\r", [1])
def test_unstuffing_over_any_edges_is_as_the_standard_says(wire: bytes, cuts: list[int]) -> None:
    ended = (b"\r\n" + wire).find(b"\r\n.\r\n")
    body = wire[:ended] if ended >= 0 else wire
    if body and not body.endswith(b"\r\n"):
        body += b"\r\n"
    wire = body + b".\r\n"
    if (b"\r\n" + wire).find(b"\r\n.\r\n") != len(wire) - 3:
        return
    content, unstuffer, found, rest = Content(), Unstuffer(), b"", b""
    at = turn = 0
    data = wire + b"NOOP\r\n"
    while at < len(data) and not content.ended:
        step = cuts[turn % len(cuts)]
        rest = content.feed(data[at : at + step])
        at, turn = at + step, turn + 1
        found += unstuffer.feed(b"".join(content.take()))
    found += unstuffer.end()
    assert content.ended
    assert rest + data[at:] == b"NOOP\r\n"
    assert found == unstuffed(wire)
    assert unstuffer.bare is has_bare_newlines(unstuffed(wire))


@pytest.mark.parametrize("tail", [b"", b"\r\n", b"slutt\r\n", b"\r\n\r\n", b".\r\n"])
def test_the_end_is_found_over_every_edge(tail: bytes) -> None:
    wire = stuffed(b"Subject: x\r\n\r\n" + tail) + b"NOOP\r\n"
    for first in range(len(wire) + 1):
        for second in range(first, len(wire) + 1):
            content, rest = Content(), b""
            for piece in (wire[:first], wire[first:second], wire[second:]):
                if not piece:
                    continue
                rest = rest + piece if content.ended else content.feed(piece)
            assert content.ended
            assert rest == b"NOOP\r\n"
            assert b"".join(content.take()) + rest == wire


@settings(max_examples=examples(40), deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                b"From: a\r\n",
                b"Subject: b\r\n c\r\n",
                b"Received: d\r\n",
                b"\r\n",
                b"\n",
                b"x" * 700,
            ]
        ),
        max_size=12,
    ).map(b"".join),
    st.sampled_from([0, 1_000, 1_024, 262_100, 262_144, 300_000]),
    st.lists(st.integers(1, 100_000), min_size=1, max_size=5),
)
def test_the_key_of_a_file_is_the_key_of_its_bytes(
    start: bytes, padding: int, cuts: list[int]
) -> None:
    raw = start + b"y" * padding + start
    pieces, at, turn = Digest(), 0, 0
    while at < len(raw):
        step = cuts[turn % len(cuts)]
        pieces.update(raw[at : at + step])
        at, turn = at + step, turn + 1
    assert pieces.digest().hex() == content_key(raw)


def test_keys_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mail"
    for raw in (b"", LARGE, MAIL, b"Date: x\r\n\r\n" + LARGE + b"\r\n" * 2_000):
        path.write_bytes(raw)
        assert content_key(path) == content_key(raw)
        assert delivery_key(path, ["A@b.no"]) == delivery_key(raw, ["a@b.no"])
        assert is_undated(path) == is_undated(raw)


def test_a_file_discarded_before_it_was_begun(tmp_path: Path) -> None:
    SpoolFile(tmp_path).discard()
    assert sweep(tmp_path, 0) == 0


async def test_the_end_of_a_large_mail_in_pieces_of_every_size() -> None:
    wire = stuffed(LARGE)
    for length in range(1, 9):
        async with open_door() as door, connect(door) as client:
            await client.greet()
            await client.begin()
            await _in_two(client, wire, length)
            assert (await client.read()).startswith("250")
            assert door.contents == [LARGE]


async def _in_two(client: Client, wire: bytes, length: int) -> None:
    client.writer.write(wire[:-length])
    await client.writer.drain()
    with pytest.raises(TimeoutError):
        await client.read(within=0.02)
    client.writer.write(wire[-length:])
