"""A message left on the phone comes into its thread once, and is deleted at the provider."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from channels.phone.base import RecordingRef
from channels.phone.vault import TwilioVault
from channels.twilio import Account, AccountSettings
from router import recordings
from router.blobs import read_blob
from router.call_models import Call, CallOutcome, CallState
from router.models import Inquiry
from tests.router.store_house import House, house
from tests.twilio_double import ACCOUNT_SID, AUTH_TOKEN, Double, served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlmodel import Session

CALLER, LINE = "+4741234567", "+4763869000"


def wav(*samples: int) -> bytes:
    data = struct.pack(f"<{len(samples)}h", *samples)
    head = struct.pack("<HHIIHH", 1, 1, 8000, 16000, 2, 16)
    body = b"WAVEfmt " + struct.pack("<I", 16) + head + b"data" + struct.pack("<I", len(data))
    return b"RIFF" + struct.pack("<I", len(body) + len(data)) + body + data


VOICE = wav(*([0, 9000, -9000] * 400))
SILENCE = wav(*([0, 3, -3] * 400))


@dataclass
class Desk:
    """A house, its provider, and a call whose caller left a message."""

    home: House
    double: Double
    vault: TwilioVault
    ref: str
    call: int

    def record(self, sound: bytes | None = VOICE, seconds: int = 12, **fields: Any) -> str:
        """The provider has a recording and tells of it."""
        sid = self.double.put("Recordings", call_sid="CA" + "1" * 32)
        if sound is not None:
            path = f"/2010-04-01/Accounts/{ACCOUNT_SID}/Recordings/{sid}.wav"
            self.double.files[path] = ("audio/x-wav", sound)
        self.announce(sid, seconds, **fields)
        return sid

    def announce(self, sid: str, seconds: int = 12, **fields: Any) -> bool:
        def job(session: Session) -> bool:
            call = session.get_one(Call, self.call)
            ref = RecordingRef(sid, seconds=seconds, **fields)
            return recordings.announce(session, call, ref, self.home.clock())

        return self.home.write(job)

    async def collect(self) -> int:
        home = self.home
        return await recordings.collect(home.db, self.vault, home.settings.blobs, home.clock)

    @property
    def messages(self) -> list[tuple[Any, ...]]:
        return self.home.rows(
            "SELECT message.kind, message.sender_address, filename, content_type, sha256"
            " FROM message JOIN attachment ON attachment.message_id = message.id"
            " WHERE message.channel = 'phone'"
        )

    @property
    def states(self) -> list[tuple[Any, ...]]:
        return self.home.rows("SELECT state, detail FROM recording ORDER BY id")


@pytest.fixture
def desk(tmp_path) -> Iterator[Desk]:
    with house(tmp_path) as home, served() as double:
        settings = AccountSettings(ACCOUNT_SID, (AUTH_TOKEN,), api_url=double.url, timeout=5)
        account = Account(settings)
        ref = home.ask()

        def job(session: Session) -> int:
            call = Call(
                provider="twilio",
                call_id="CA" + "1" * 32,
                inquiry_id=home.inquiry(ref).id or 0,
                caller=CALLER,
                line=LINE,
                state=CallState.ENDED,
                outcome=CallOutcome.VOICEMAIL,
                started_at=home.clock(),
                ended_at=home.clock(),
                seen_at=home.clock(),
            )
            session.add(call)
            session.flush()
            return call.id or 0

        yield Desk(home, double, TwilioVault(account), ref, home.write(job))
        account.close()


async def test_a_message_is_in_the_thread_and_gone_at_the_provider(desk):
    desk.record()
    await desk.collect()
    [(kind, sender, filename, content_type, sha256)] = desk.messages
    assert (kind, sender, content_type) == ("voicemail", CALLER, "audio/wav")
    assert filename.endswith(".wav")
    assert read_blob(desk.home.settings.blobs, sha256) == VOICE
    assert desk.double.of("Recordings") == []
    assert desk.states == [("deleted", "")]
    assert "voicemail" in desk.home.events(desk.ref)


async def test_told_twice_and_fetched_twice_it_is_there_once(desk):
    sid = desk.record()
    assert desk.announce(sid) is False
    await desk.collect()
    assert desk.announce(sid) is False
    assert await desk.collect() == 0
    assert len(desk.messages) == 1


async def test_what_does_not_lie_ready_yet_is_fetched_a_little_later(desk):
    sid = desk.record(sound=None)
    await desk.collect()
    assert desk.messages == []
    path = f"/2010-04-01/Accounts/{ACCOUNT_SID}/Recordings/{sid}.wav"
    desk.double.files[path] = ("audio/x-wav", VOICE)
    assert await desk.collect() == 0
    desk.home.clock.move(minutes=1)
    await desk.collect()
    assert len(desk.messages) == 1


@pytest.mark.parametrize("sound", [SILENCE, wav()])
async def test_silence_is_noted_and_is_no_message(desk, sound):
    desk.record(sound)
    await desk.collect()
    assert desk.messages == []
    assert "voicemail_empty" in desk.home.events(desk.ref)
    assert desk.double.of("Recordings") == []
    assert desk.states[0][0] == "deleted"


async def test_a_recording_of_no_length_that_is_nowhere_is_silence(desk):
    desk.record(sound=None, seconds=0)
    for _ in range(4):
        await desk.collect()
        desk.home.clock.move(minutes=5)
    assert desk.states[0][0] == "deleted"
    assert desk.messages == []
    assert "voicemail_empty" in desk.home.events(desk.ref)


async def test_what_the_provider_never_recorded_is_noted_and_not_asked_for(desk):
    desk.record(sound=None, status="absent")
    assert await desk.collect() == 0
    assert "voicemail_empty" in desk.home.events(desk.ref)


async def test_a_sound_that_never_comes_is_told_and_left_at_the_provider(desk):
    desk.record(sound=None)
    for _ in range(100):
        await desk.collect()
        desk.home.clock.move(hours=1)
    assert desk.states[0][0] == "failed"
    assert "voicemail_lost" in desk.home.events(desk.ref)
    assert len(desk.double.of("Recordings")) == 1
    with desk.home.db.read() as session:
        assert recordings.by_state(session)["failed"] == 1


async def test_what_could_not_be_deleted_is_deleted_later_and_never_fetched_again(desk):
    desk.record()
    desk.double.fail("Recordings", status=503)
    await desk.collect()
    assert len(desk.messages) == 1
    assert desk.states[0][0] == "fetched"
    for _ in range(5):
        desk.home.clock.move(minutes=10)
        await desk.collect()
    assert desk.states == [("deleted", "")]
    assert len(desk.messages) == 1
    assert desk.double.of("Recordings") == []


async def test_one_that_fails_holds_up_no_other(desk):
    desk.record(sound=None)
    desk.record()
    await desk.collect()
    assert len(desk.messages) == 1


async def test_interrupted_after_it_was_kept_it_is_deleted_the_next_time(desk):
    """The service ends between two steps: what was committed stands, the rest is done again."""

    class CutError(Exception):
        pass

    class Ends:
        async def fetch_recording(self, recording_id: str, limit: int) -> bytes:
            return await desk.vault.fetch_recording(recording_id, limit)

        async def delete_recording(self, recording_id: str) -> None:
            raise CutError

    desk.record()
    home = desk.home
    with pytest.raises(CutError):
        await recordings.collect(home.db, Ends(), home.settings.blobs, home.clock)
    assert len(desk.messages) == 1
    await desk.collect()
    assert len(desk.messages) == 1
    assert desk.double.of("Recordings") == []


async def test_a_message_for_an_inquiry_that_was_closed_meanwhile_opens_it(desk):
    def close(session: Session) -> None:
        inquiry = session.get_one(Inquiry, home.inquiry(desk.ref).id)
        inquiry.status, inquiry.closed_at = inquiry.status.CLOSED, home.clock()
        inquiry.answered_at = home.clock()

    home = desk.home
    home.write(close)
    home.clock.move(seconds=30)
    desk.record()
    await desk.collect()
    assert home.inquiry(desk.ref).status.value == "open"
    assert home.inquiry(desk.ref).answered_at is None


async def test_only_an_id_of_the_providers_leads_to_an_address(desk):
    for strange in ("../Accounts", "RE1", "RE" + "g" * 32, "https://evil.example/x"):
        desk.announce(strange)
    await desk.collect()
    assert {state for state, _ in desk.states} == {"failed"}
    assert desk.double.asked == []


async def test_an_uncertain_answer_to_a_deletion_is_asked_again(desk):
    desk.record()
    desk.double.fail("Recordings", cut=True, carried_out=True)
    await desk.collect()
    desk.home.clock.now += timedelta(minutes=1)
    await desk.collect()
    assert desk.states == [("deleted", "")]
