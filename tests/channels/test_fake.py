"""The in-memory door keeps the contract that the hall relies on."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from channels.base import (
    Address,
    Channel,
    Disposition,
    Outgoing,
    OutgoingKind,
    RawArrival,
    RejectedError,
    TemporaryError,
    UncertainError,
)
from channels.fake import FakeChannel

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
MESSAGE = Outgoing(
    channel="fake",
    kind=OutgoingKind.REPLY,
    message_id="<1@sorum.example>",
    created_at=NOW,
    to=Address("fake", "kari"),
    sender=Address("fake", "kommunen"),
    subject="Hei",
    text="Hei",
)


async def test_what_is_sent_is_kept_once() -> None:
    door = FakeChannel()
    assert isinstance(door, Channel)
    first = await door.send(MESSAGE)
    again = await door.send(MESSAGE)
    other = await door.send(replace(MESSAGE, message_id="<2@sorum.example>"))
    assert first == again != other
    assert [message.message_id for message in door.sent] == [
        "<1@sorum.example>",
        "<2@sorum.example>",
    ]
    assert door.attempts == 3


async def test_it_fails_as_told() -> None:
    door = FakeChannel()
    door.fail_next(TemporaryError(), UncertainError())
    with pytest.raises(TemporaryError):
        await door.send(MESSAGE)
    with pytest.raises(UncertainError):
        await door.send(MESSAGE)
    await door.send(MESSAGE)
    door.fail_always(RejectedError("nei"))
    for _ in range(3):
        with pytest.raises(RejectedError, match="nei"):
            await door.send(MESSAGE)
    door.fail_always(None)
    await door.send(MESSAGE)
    assert len(door.sent) == 1


async def test_it_brings_arrivals_in() -> None:
    arrivals: list[RawArrival] = []

    async def receive(arrival: RawArrival) -> Disposition:
        arrivals.append(arrival)
        return Disposition.DUPLICATE if len(arrivals) > 1 else Disposition.ACCEPTED

    door = FakeChannel("web", receive)
    await door.start()
    assert door.started
    assert await door.deliver("1", b"x", {"a": 1}, NOW) is Disposition.ACCEPTED
    assert await door.deliver("1", b"x", {"a": 1}, NOW) is Disposition.DUPLICATE
    assert arrivals[0] == RawArrival("web", "1", NOW, {"a": 1}, b"x")
    await door.stop()
    assert not door.started


async def test_its_health_is_what_the_test_says() -> None:
    door = FakeChannel()
    assert door.health() == ""
    door.fault = "Nede."
    assert door.health() == "Nede."
