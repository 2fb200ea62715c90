"""Calls at the desk: who rings is seen at once, taken with one key, and gone when it is over."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count

import pytest
from playwright.sync_api import expect

from router import staff
from router.models import Role
from tests import service as running
from tests.browser.people import Person, Visitors, write_in
from tests.browser.test_accessible import AXE, EVERYTHING, NARROW, SCAN, TOO_WIDE, WIDE
from tests.service import wait_until
from tests.twilio_double import ACCOUNT_SID, served, settings_for, webhook

LINE = "+4763869000"
DOCTORS = "+47116117"
"""The emergency clinic is let in at every hour, so that this test is right on every day."""
SIV_PHONE = "+4763869301"
_calls = count(1)


@pytest.fixture(scope="module")
def twilio():
    with served() as double:
        yield double


@pytest.fixture(scope="module")
def service(twilio, smarthost, tmp_path_factory):
    settings = settings_for(twilio) | {
        "CHANNELS__PHONE__ENABLED": "true",
        "CHANNELS__PHONE__PEOPLE__SIV__NAME": "Siv Sentral",
        "CHANNELS__PHONE__PEOPLE__SIV__PHONE": SIV_PHONE,
        "CHANNELS__PHONE__PEOPLE__SIV__DEPARTMENT": "servicetorg",
    }
    folder = tmp_path_factory.mktemp("calls")
    with running.service(folder, smarthost.port, **settings) as opened:
        yield opened


@pytest.fixture(scope="module")
def desk(service):
    return running.Desk(service.api())


@pytest.fixture(scope="module")
def siv(service):
    number = service.write(
        lambda session: (
            staff.add_staff(
                session, "siv", "Siv Sentral", Role.OPERATOR, (), None, datetime.now(UTC)
            ).id
        )
    )
    return Person(number or 0, "Siv Sentral", "siv")


@pytest.fixture
def visitors(browser, service):
    opened = Visitors(browser, service)
    yield opened
    opened.close()
    assert opened.unexpected == []


def ring(service, hook="voice", sid="", caller=DOCTORS, url="", **fields):
    """Twilio tells of a call; the answer is what the caller hears."""
    sid = sid or f"CA{next(_calls):032x}"
    form = {
        "CallSid": sid,
        "AccountSid": ACCOUNT_SID,
        "From": caller,
        "To": LINE,
        "CallStatus": "ringing",
        "Direction": "inbound",
        "ApiVersion": "2010-04-01",
        **fields,
    }
    answer = webhook(url or f"{service.url}/hooks/phone/twilio/{hook}", form)
    assert answer.status_code in (200, 204), answer.text
    return sid, answer.text


def board(page):
    return page.get_by_role("region", name="Samtaler nå")


def test_a_call_stands_on_every_page_before_the_mail_and_is_taken_by_one_key(
    visitors, service, desk, siv, twilio
):
    mail = write_in(service)
    page = visitors.staff(siv)
    expect(page.get_by_role("link", name=mail)).to_be_visible()

    sid = f"CA{0xABC:032x}"
    twilio.put("Calls", sid=sid, from_=DOCTORS, to=LINE, status="in-progress")
    _, heard = ring(service, sid=sid)
    assert "<Enqueue" in heard
    expect(board(page)).to_contain_text("Venter i køen")
    expect(board(page)).to_contain_text("Nummer 1 i køen")
    expect(page.locator("#said")).to_contain_text("1 samtale venter")
    expect(page).to_have_title("(1) Kø – Sørum kommune")
    # The list shows it first, whatever the mail is about.
    expect(page.locator("#rows > tr").first).to_contain_text("Telefon")

    page.evaluate(AXE.read_text(encoding="utf-8"))
    for size in (WIDE, NARROW):
        page.set_viewport_size(size)
        assert page.evaluate(SCAN, EVERYTHING) == []
        assert page.evaluate(TOO_WIDE) == []
    page.set_viewport_size(WIDE)

    page.keyboard.press("a")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.wait_for_url("**/desk/inquiries/S-*")
    # The caller is fetched from the queue into a room, and Siv's own phone rings for it.
    [fetched] = twilio.first(f"Calls/{sid}")
    _, heard = ring(service, url=fetched["Url"], sid=sid, CallStatus="in-progress")
    assert "<Conference" in heard
    wait_until(
        lambda: any(asked.get("To") == SIV_PHONE for asked in list(twilio.asked)),
        "Siv's phone to be rung",
    )
    expect(board(page)).to_contain_text("I samtale")

    ring(service, "status", sid, CallStatus="completed", CallDuration="12")
    expect(board(page)).to_have_count(0)


def test_who_hangs_up_in_the_queue_is_to_be_called_back(visitors, service, desk, siv):
    page = visitors.staff(siv)
    sid, _ = ring(service)
    expect(board(page)).to_be_visible()
    ring(service, "status", sid, CallStatus="completed", CallDuration="4")
    expect(board(page)).to_have_count(0)
    [item] = [row for row in desk.rows(channel="phone") if row["status"] == "open"][:1]
    assert item["reply_state"] == "unanswered"


def test_without_a_phone_of_ones_own_the_board_says_so(visitors, service, siv):
    assert siv.username == "siv"
    sid, _ = ring(service)
    page = visitors.staff()
    expect(board(page)).to_contain_text("Du har ingen telefon i nummerplanen")
    expect(board(page).get_by_role("button", name="Ta samtalen")).to_have_count(0)
    ring(service, "status", sid, CallStatus="completed")
