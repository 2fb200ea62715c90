"""A message left on the phone is played on its inquiry's page."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests import service as running
from tests.browser.test_accessible import AXE, EVERYTHING, SCAN
from tests.integration.test_line import Caller
from tests.twilio_double import served, settings_for


@pytest.fixture(scope="module")
def twilio():
    with served() as double:
        yield double


@pytest.fixture(scope="module")
def service(twilio, smarthost, tmp_path_factory):
    settings = settings_for(twilio) | {"CHANNELS__PHONE__ENABLED": "true"}
    folder = tmp_path_factory.mktemp("voicemail")
    with running.service(folder, smarthost.port, **settings) as opened:
        yield opened


@pytest.fixture(scope="module")
def desk(service):
    return running.Desk(service.api())


def test_a_message_left_on_the_phone_is_played_on_the_page(visitors, service, twilio, desk):
    caller = Caller(service, twilio)
    caller.tell("voice")
    caller.tell_of(caller.record())
    caller.tell("status", CallStatus="completed")
    caller.message(desk)
    page = visitors.staff(path=f"/desk/inquiries/{caller.inquiry(desk)['ref']}")
    expect(page.get_by_role("heading", name="Beskjed på telefonsvareren")).to_be_visible()
    player = page.locator("audio")
    expect(player).to_be_visible()
    player.evaluate(
        "player => new Promise((end) => { player.onended = () => end(); player.play(); })"
    )
    assert player.evaluate("player => player.duration") == pytest.approx(1, abs=0.1)
    assert player.evaluate("player => player.error") is None
    page.evaluate(AXE.read_text(encoding="utf-8"))
    assert page.evaluate(SCAN, EVERYTHING) == []
