"""What a door has acknowledged: kept as it came, once, and findable until it is done."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.base import Disposition, RawArrival, TemporaryError
from router import journal
from router.blobs import adopt_blob, blob_path, put_blob, read_blob
from router.errors import NotFoundError
from router.journal import DUPLICATE_WINDOW, INLINE_LIMIT
from tests.router.store_house import MONDAY, house
from tests.service import mail

ARRIVAL = RawArrival("email", "key", MONDAY, {"recipients": ["a@b.no"]}, b"Date: i dag\r\n\r\nHei")
SECOND = timedelta(seconds=1)


@pytest.fixture
def home(tmp_path):
    with house(tmp_path) as opened:
        yield opened


async def append(home, arrival: RawArrival) -> tuple[Disposition, int]:
    return await journal.append(home.db, home.workbench.blobs, arrival)


@pytest.mark.parametrize("size", [0, 1, INLINE_LIMIT, INLINE_LIMIT + 1, 3_000_000])
async def test_every_byte_is_kept(home, size):
    raw = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    disposition, number = await append(home, replace(ARRIVAL, raw=raw))
    assert disposition is Disposition.ACCEPTED
    with home.db.read() as session:
        arrival = journal.get(session, number)
        assert journal.raw_of(session, arrival, home.workbench.blobs) == raw
        assert arrival.size == size
        assert arrival.envelope == {"recipients": ["a@b.no"]}
        assert arrival.received_at == MONDAY
        assert bool(arrival.blob) == (size > INLINE_LIMIT)


async def test_the_same_delivery_at_once_many_times_is_kept_once(home):
    answers = await asyncio.gather(*(append(home, ARRIVAL) for _ in range(20)))
    assert sorted(disposition for disposition, _ in answers) == ["accepted"] + ["duplicate"] * 19
    assert len({number for _, number in answers}) == 1
    assert home.count("SELECT count(*) FROM arrival") == 1


async def test_a_retry_counts_as_one_for_five_days(home):
    _, first = await append(home, ARRIVAL)
    within = replace(ARRIVAL, received_at=MONDAY + DUPLICATE_WINDOW)
    assert await append(home, within) == (Disposition.DUPLICATE, first)
    later = replace(ARRIVAL, received_at=MONDAY + DUPLICATE_WINDOW + SECOND)
    disposition, second = await append(home, later)
    assert disposition is Disposition.ACCEPTED
    assert second != first
    again, _ = await append(home, later)
    assert again is Disposition.DUPLICATE
    assert home.count("SELECT count(*) FROM arrival") == 2


async def test_without_id_and_date_it_counts_as_one_for_an_hour_and_its_own_retries_too(home):
    alarm = replace(ARRIVAL, raw=b"Subject: ALARM\r\n\r\nFull.")
    _, first = await append(home, alarm)
    retried = replace(alarm, received_at=MONDAY + timedelta(minutes=50))
    assert await append(home, retried) == (Disposition.DUPLICATE, first)
    again = replace(alarm, received_at=MONDAY + timedelta(hours=2))
    disposition, second = await append(home, again)
    assert disposition is Disposition.ACCEPTED
    retried = replace(alarm, received_at=MONDAY + timedelta(hours=2, minutes=50))
    assert await append(home, retried) == (Disposition.DUPLICATE, second)


async def test_the_same_key_at_another_door_is_another_arrival(home):
    await append(home, ARRIVAL)
    disposition, _ = await append(home, replace(ARRIVAL, channel="sms"))
    assert disposition is Disposition.ACCEPTED


async def test_what_cannot_be_kept_is_not_acknowledged(home):
    home.workbench.blobs.rmdir()
    home.workbench.blobs.write_bytes(b"no folder")
    with pytest.raises(TemporaryError):
        await append(home, replace(ARRIVAL, raw=b"x" * (INLINE_LIMIT + 1)))
    assert home.count("SELECT count(*) FROM arrival") == 0
    home.db.stop()
    with pytest.raises(TemporaryError):
        await append(home, ARRIVAL)


def test_parked_arrivals_are_found_shown_and_put_back_in_line(home):
    numbers = [home.journal(mail(f"Sak {n}")) for n in range(3)]
    home.write(lambda s: journal.park(s, numbers[1], "kunne ikke leses", MONDAY))
    with home.db.read() as session:
        assert journal.waiting(session) == [numbers[0], numbers[2]]
        assert journal.waiting(session, after=numbers[0]) == [numbers[2]]
        [parked] = journal.parked(session)
        assert (parked.id, parked.error, parked.attempts) == (numbers[1], "kunne ikke leses", 1)
        assert journal.count_parked(session) == 1
        assert journal.oldest_waiting(session) == MONDAY
    home.write(lambda s: journal.retry(s, numbers[1]))
    with home.db.read() as session:
        assert journal.waiting(session) == numbers
        assert journal.parked(session) == []
    for number in (numbers[1], 999):
        with pytest.raises(NotFoundError):
            home.write(lambda s, number=number: journal.retry(s, number))


def test_what_was_taken_in_meanwhile_is_not_parked(home):
    number = home.journal(mail("Sak"))
    home.take_in(*home.prepared(number))
    home.write(lambda s: journal.park(s, number, "for sent", MONDAY))
    assert home.rows("SELECT state FROM arrival") == [("processed",)]


@given(st.binary(max_size=2000))
def test_a_blob_is_read_back_and_lies_once(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("blobs")
    name = put_blob(folder, content)
    written = blob_path(folder, name).stat().st_mtime_ns
    assert put_blob(folder, content) == name
    assert read_blob(folder, name) == content
    assert blob_path(folder, name).stat().st_mtime_ns == written
    assert [path.name for path in folder.glob("*/*")] == [name]


def test_a_blob_that_could_not_be_written_leaves_nothing_behind(tmp_path):
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(OSError, match="x"):
        put_blob(tmp_path / "x", b"innhold")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_blob_that_another_has_just_put_there_is_durable_before_it_counts(tmp_path, monkeypatch):
    """Whoever puts it there may not have come as far as to make its name survive a power cut."""
    synced: list[Path] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    target = blob_path(tmp_path, put_blob(tmp_path, b"innhold"))
    names = [target.parent, tmp_path]
    assert synced[-2:] == names
    spooled = tmp_path / "spooled"
    for again in (
        lambda: put_blob(tmp_path, b"innhold"),
        lambda: adopt_blob(tmp_path, spooled, target.name),
    ):
        spooled.write_bytes(b"innhold")
        synced.clear()
        again()
        assert synced == names
        os.utime(target, (1, 1))
        synced.clear()
        again()
        assert synced == [], "long durable: the same logo comes with every second mail"
        os.utime(target)
    assert not spooled.exists()
