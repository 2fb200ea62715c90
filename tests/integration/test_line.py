"""What stands around the call, with a real service, Twilio's own terms, and kill -9 in between."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests import service as running
from tests.twilio_double import ACCOUNT_SID, Double, served, settings_for, webhook

if TYPE_CHECKING:
    from collections.abc import Iterator

LINE, TEXTS = "+4763869000", "+4759440000"


def wav(seconds: int = 1) -> bytes:
    samples = [9000 if position // 10 % 2 else -9000 for position in range(8000 * seconds)]
    data = struct.pack(f"<{len(samples)}h", *samples)
    head = struct.pack("<HHIIHH", 1, 1, 8000, 16000, 2, 16)
    body = b"WAVEfmt " + struct.pack("<I", 16) + head + b"data" + struct.pack("<I", len(data))
    return b"RIFF" + struct.pack("<I", len(body) + len(data)) + body + data


VOICE = wav()


@pytest.fixture(scope="module")
def double() -> Iterator[Double]:
    with served() as opened:
        yield opened


@pytest.fixture(scope="module")
def house(smarthost, double, tmp_path_factory) -> Iterator[running.Service]:
    settings = settings_for(double) | {
        "CHANNELS__PHONE__ENABLED": "true",
        "CHANNELS__SMS__ENABLED": "true",
    }
    folder = tmp_path_factory.mktemp("line")
    with running.service(folder, smarthost.port, **settings) as opened:
        yield opened


@pytest.fixture
def desk(house) -> running.Desk:
    return running.Desk(house.api())


_numbers = iter(range(10_000_000, 99_999_999))


class Caller:
    """Somebody who calls; the provider knows of it."""

    def __init__(self, house: running.Service, double: Double, **fields: Any) -> None:
        self.house, self.double = house, double
        self.number = f"+474{next(_numbers) % 10_000_000:07d}"
        now = datetime.now(UTC)
        self.sid = double.put(
            "Calls",
            **{
                "direction": "inbound",
                "from_": self.number,
                "to": LINE,
                "status": "in-progress",
                "start_time": format_datetime(now),
                "end_time": None,
                "duration": None,
                "parent_call_sid": None,
                **fields,
            },
        )

    def tell(self, hook: str, **fields: str) -> None:
        form = {
            "CallSid": self.sid,
            "AccountSid": ACCOUNT_SID,
            "From": self.number,
            "To": LINE,
            "CallStatus": "ringing",
            "Direction": "inbound",
            "ApiVersion": "2010-04-01",
            **fields,
        }
        answer = webhook(f"{self.house.url}/hooks/phone/twilio/{hook}", form)
        assert answer.status_code == 200, (hook, answer.status_code, answer.text)

    def record(self, sound: bytes = VOICE) -> str:
        """A message lies with the provider."""
        sid = self.double.put(
            "Recordings",
            call_sid=self.sid,
            status="completed",
            duration="1",
            date_created=format_datetime(datetime.now(UTC)),
        )
        path = f"/2010-04-01/Accounts/{ACCOUNT_SID}/Recordings/{sid}.wav"
        self.double.files[path] = ("audio/x-wav", sound)
        return sid

    def tell_of(self, recording: str) -> None:
        form = {
            "CallSid": self.sid,
            "AccountSid": ACCOUNT_SID,
            "RecordingSid": recording,
            "RecordingUrl": f"https://api.twilio.com/{recording}",
            "RecordingStatus": "completed",
            "RecordingDuration": "1",
        }
        url = f"{self.house.url}/hooks/phone/twilio/recording"
        assert webhook(url, form).status_code == 200

    def hang_up(self) -> None:
        self.double.resources["Calls"][self.sid] |= {
            "status": "completed",
            "end_time": format_datetime(datetime.now(UTC)),
            "duration": "20",
        }

    def inquiries(self, desk: running.Desk) -> list[dict[str, Any]]:
        return desk.rows(q=self.number)

    def inquiry(self, desk: running.Desk) -> dict[str, Any]:
        [row] = running.wait_until(lambda: self.inquiries(desk), "the inquiry of a call")
        return desk.read(row["ref"])

    def messages(self, desk: running.Desk) -> list[dict[str, Any]]:
        """What the caller left on the machine, as far as it is here."""
        return [m for m in self.inquiry(desk)["messages"] if m["kind"] == "voicemail"]

    def message(self, desk: running.Desk) -> dict[str, Any]:
        [message] = running.wait_until(lambda: self.messages(desk), "the message of a caller")
        return message


def gone(double: Double, recording: str) -> None:
    running.wait_until(
        lambda: recording not in double.resources["Recordings"], "the end of a recording there"
    )


def test_a_message_is_heard_at_the_desk_and_gone_at_the_provider(house, double, desk):
    caller = Caller(house, double)
    caller.tell("voice")
    recording = caller.record()
    for _ in range(3):
        caller.tell_of(recording)
    caller.hang_up()
    caller.tell("status", CallStatus="completed")
    [file] = caller.message(desk)["attachments"]
    assert file["content_type"] == "audio/wav"
    gone(double, recording)
    assert len(caller.messages(desk)) == 1
    browser = house.sign_in()
    ref = caller.inquiry(desk)["ref"]
    page = browser.get(f"/desk/inquiries/{ref}").text
    assert "<audio" in page
    heard = browser.get(f"/desk/inquiries/{ref}/attachments/{file['id']}")
    assert heard.content == VOICE
    assert heard.headers["content-type"] == "audio/wav"
    part = browser.get(
        f"/desk/inquiries/{ref}/attachments/{file['id']}", headers={"Range": "bytes=0-99"}
    )
    assert (part.status_code, part.content) == (206, VOICE[:100])


@pytest.mark.slow
def test_killed_at_every_step_a_message_is_there_once(house, double, desk):
    caller = Caller(house, double)
    caller.tell("voice")
    house.kill()
    house.restart()
    recording = caller.record()
    caller.tell_of(recording)
    house.kill()
    gate = double.hold(f"Recordings/{recording}")
    house.restart()
    caller.message(desk)
    running.wait_until(
        lambda: any(a.resource == f"Recordings/{recording}" for a in double.asked), "the deletion"
    )
    house.kill()  # the provider has deleted it, and we never heard so
    gate.set()
    house.restart()
    running.wait_until(
        lambda: house.read(
            "SELECT 1 FROM recording WHERE recording_id = :id AND state = 'deleted'", id=recording
        ),
        "our knowing that it is gone",
    )
    assert len(caller.messages(desk)) == 1
    assert len(caller.inquiries(desk)) == 1


@pytest.mark.slow
def test_what_came_while_we_were_down_is_there_after_the_start(house, double, desk):
    windows = "SELECT count(*) FROM provider_window"
    running.wait_until(lambda: house.read(windows)[0][0] == 3, "the first look")
    known = Caller(house, double)
    known.tell("voice")
    house.kill()
    known.hang_up()
    missed = Caller(house, double)
    missed.hang_up()
    spoke = Caller(house, double)
    spoke.hang_up()
    recording = spoke.record()
    texter = f"+4741{next(_numbers) % 1_000_000:06d}"
    double.put(
        "Messages",
        direction="inbound",
        from_=texter,
        to=TEXTS,
        body="Er det åpent i morgen?",
        status="received",
        date_sent=format_datetime(datetime.now(UTC)),
        num_media="0",
        error_code=None,
    )
    house.restart()
    for caller in (known, missed, spoke):
        found = caller.inquiry(desk)
        desk.until(found["ref"], lambda d: d["kind"] == "callback", "a call-back")
        assert found["status"] == "open"
    spoke.message(desk)
    gone(double, recording)
    [text] = running.wait_until(lambda: desk.rows(q=texter), "the text")
    assert text["channel"] == "sms"
    before = {c.sid: c.inquiry(desk)["events"] for c in (known, missed)}
    house.restart()
    running.wait_until(lambda: house.read(windows)[0][0] == 3, "the next look")
    for caller in (known, missed, spoke):
        assert len(caller.inquiries(desk)) == 1
    assert {c.sid: c.inquiry(desk)["events"] for c in (known, missed)} == before


@pytest.mark.slow
def test_a_provider_out_of_reach_takes_nothing_away(smarthost, tmp_path):
    with served() as gone_away:
        settings = settings_for(gone_away)
    settings |= {"CHANNELS__PHONE__ENABLED": "true", "CHANNELS__SMS__ENABLED": "true"}
    with running.service(tmp_path, smarthost.port, **settings) as house:
        assert house.api().get("/readyz").json()["parts"]["provider"]["ok"]

        def long_ago(session: Any) -> None:
            until = datetime.now(UTC) - timedelta(hours=1)
            session.connection().exec_driver_sql(
                "INSERT INTO provider_window (name, until) VALUES ('twilio:calls', ?)",
                (until.strftime("%Y-%m-%d %H:%M:%S.%f"),),
            )

        house.write(long_ago)
        house.kill()
        house.restart()
        ready = running.wait_until(
            lambda: (a := house.api().get("/readyz").json())["status"] == "degraded" and a,
            "a degraded service",
        )
        assert "out of reach" in ready["parts"]["provider"]["detail"]
        assert "Telefonleverandøren" in house.sign_in().get("/desk/queue").text
