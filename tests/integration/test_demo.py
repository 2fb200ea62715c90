"""The demonstration day, with telephones and without; nobody needs an account for it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import httpx
import pytest

from router import chat_queue, staff
from router.demo_chat import Residents
from router.demo_line import TELEPHONES, telephones
from router.models import Role
from router.settings import load_settings
from tests import service as running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    """Our configuration, open at all hours: when the test runs decides nothing."""
    text = (running.REPOSITORY / "config.yaml").read_text(encoding="utf-8")
    text = text.replace('mon-fri: ["08:00-15:45"]', 'mon-sun: ["00:00-23:59"]')
    text = text.replace("folder: rules/", f"folder: {running.REPOSITORY}/rules/")
    text = re.sub(r"  seasons:\n    - .*\n", "", text)
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    api = f"http://127.0.0.1:{running.free_port()}"
    return TELEPHONES | {"SENTRALBORD_TWILIO__API_URL": api}


@pytest.fixture(scope="module")
def house(smarthost, config, environment, tmp_path_factory) -> Iterator[running.Service]:
    """What `serve --phone` is: the service, and the telephones beside it."""
    named = {name.removeprefix("SENTRALBORD_"): value for name, value in environment.items()}
    folder = tmp_path_factory.mktemp("demo")
    with running.service(folder, smarthost.port, config=str(config), **named) as opened:
        settings = load_settings(config, opened.environment)
        with telephones(settings):
            yield opened


def outcomes(house: running.Service) -> dict[str, int]:
    rows = house.read("SELECT outcome, count(*) FROM call WHERE state = 'ended' GROUP BY outcome")
    return dict(rows)


def test_a_day_with_texts_and_calls(house, config):
    done = house.run(
        "demo", "--phone", "--contacts", "60", "--speed", "100000", "--config", str(config)
    )
    assert "left out" not in done.stderr
    desk = running.Desk(house.api())
    running.wait_until(lambda: len(desk.rows(channel="sms")) >= 5, "the texts")
    running.wait_until(lambda: len(desk.rows(channel="phone")) >= 5, "the calls")
    asked = "SELECT inquiry_id, state FROM conversation WHERE inquiry_id IS NOT NULL"
    assert [state for _inquiry, state in house.read(asked)] == ["deferred"] * 4
    total = house.read("SELECT count(*) FROM call")[0][0]
    running.wait_until(
        lambda: sum(outcomes(house).values()) == total, "the end of the calls", patience=120
    )
    assert {"voicemail", "callback"} <= set(outcomes(house)) | {"answered"}
    heard = "SELECT count(*) FROM recording WHERE state = 'deleted' AND message_id IS NOT NULL"
    running.wait_until(lambda: house.read(heard)[0][0], "a message left on the phone")
    receipts = "SELECT count(*) FROM outbox WHERE channel = 'sms' AND state = 'delivered'"
    running.wait_until(lambda: house.read(receipts)[0][0] >= 5, "the receipts")


def test_who_chats_waits_for_an_answer_and_answers_it(house, config):
    settings = load_settings(config, house.environment)
    siv = house.write(
        lambda session: (
            staff.add_staff(
                session, "siv", "Siv Sentral", Role.OPERATOR, (), None, datetime.now(UTC)
            ).id
        )
    )

    def at_desk_in(year):
        at = datetime(year, 1, 1, tzinfo=UTC)
        house.write(lambda session: chat_queue.at_desk(session, [siv], at))

    at_desk_in(2099)
    residents = Residents(settings)
    residents.begin(["Står det noen i chatten?", "Så fint!"])
    [ref] = [
        row["ref"] for row in running.Desk(house.api()).rows(channel="chat", q="Står det noen")
    ]
    assert residents.talking
    api = house.api()
    api.post(f"/api/inquiries/{ref}/reply", json={"text": "Ja, her er jeg."})

    def said():
        return [one["text"] for one in api.get(f"/api/inquiries/{ref}").json()["messages"]]

    running.wait_until(lambda: said()[-1] == "Så fint!", "the resident's answer")
    api.post(f"/api/inquiries/{ref}/close")
    residents.wait(30)
    at_desk_in(2000)
    assert not residents.talking


def test_an_operator_can_take_a_call_and_talks(house, environment):
    api = environment["SENTRALBORD_TWILIO__API_URL"]
    form = {"number": "+4740999999", "line": "+4763869000", "does": "wait"}
    assert httpx.post(f"{api}/demo/calls", data=form).status_code == 202
    query = "SELECT id FROM call WHERE caller = '+4740999999' AND state = :state"

    def in_state(state: str) -> int:
        found = running.wait_until(lambda: house.read(query, state=state), f"a call {state}", 90)
        return int(found[0][0])

    number = in_state("waiting")
    answer = house.api().post(f"/api/calls/{number}/take", json={"person": "operator"})
    assert answer.status_code == 200, answer.text
    in_state("talking")
    in_state("ended")
    assert house.read("SELECT outcome, answered_by FROM call WHERE id = :id", id=number) == [
        ("answered", "operator")
    ]


def test_what_is_left_out_is_said(service):
    done = service.run("demo", "--contacts", "2", "--speed", "100000")
    assert "Calls were left out" in done.stderr
    assert "Texts were left out" in done.stderr
    assert "make demo PHONE=1" in done.stderr
