"""Calls and texts at the desk: who rings is seen at once, taken with one key, passed on, and gone
when it is over; who writes a text sees in how many parts it goes."""

from __future__ import annotations

import re
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
        "CHANNELS__SMS__ENABLED": "true",
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
    wait_until(lambda: rings_of_siv(twilio), "Siv's phone to be rung")
    expect(board(page)).to_contain_text("I samtale")

    ring(service, "status", sid, CallStatus="completed", CallDuration="12")
    expect(board(page)).to_have_count(0)


def test_with_ten_calls_the_queue_is_still_on_the_screen(visitors, service, siv):
    mail = write_in(service)
    page = visitors.staff(siv)
    expect(page.get_by_role("link", name=mail)).to_be_visible()
    sids = [ring(service)[0] for _ in range(10)]
    expect(board(page).get_by_role("listitem")).to_have_count(10)
    expect(board(page).get_by_role("heading")).to_have_text("Samtaler nå (10)")
    page.set_viewport_size({"width": 1280, "height": 757})
    assert board(page).bounding_box()["height"] <= 757 / 3
    # Whoever has no mouse moves through the calls by the arrow keys, or from button to button.
    calls = page.get_by_role("group", name="Samtaler som pågår")
    calls.focus()
    page.keyboard.press("End")
    expect(board(page).get_by_role("listitem").last).to_be_in_viewport()
    # And stays there when the list changes.
    ring(service, "status", sids.pop(0), CallStatus="completed")
    expect(board(page).get_by_role("listitem")).to_have_count(9)
    expect(calls).to_be_focused()
    assert page.evaluate("document.querySelector('#calls-list').scrollTop") > 0
    page.evaluate(AXE.read_text(encoding="utf-8"))
    for size in (WIDE, NARROW):
        page.set_viewport_size(size)
        assert page.evaluate(SCAN, EVERYTHING) == []
        assert page.evaluate(TOO_WIDE) == []
    # Who it is stands in the list and at the inquiry, too.
    expect(page.locator("#rows > tr").first).to_contain_text("116117 (nødetat)")
    board(page).get_by_role("link", name="116117 (nødetat)").last.click()
    expect(page.locator("#head")).to_contain_text("116117 (nødetat)")
    expect(page.get_by_role("article").first).to_contain_text("Fra 116117 (nødetat)")
    for sid in sids:
        ring(service, "status", sid, CallStatus="completed")
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


def rings_of_siv(twilio):
    return [asked for asked in list(twilio.asked) if asked.get("To") == SIV_PHONE]


def in_talk(page, service, twilio):
    """Siv takes a call and picks up her phone; returns the call's id."""
    sid = f"CA{0xD00 + next(_calls):032x}"
    twilio.put("Calls", sid=sid, from_=DOCTORS, to=LINE, status="in-progress")
    rung_before = len(rings_of_siv(twilio))
    ring(service, sid=sid)
    expect(board(page)).to_contain_text("Venter i køen")
    page.keyboard.press("a")
    page.wait_for_url("**/desk/inquiries/S-*")
    fetched = twilio.first(f"Calls/{sid}")[-1]
    ring(service, url=fetched["Url"], sid=sid, CallStatus="in-progress")
    [asked] = wait_until(lambda: rings_of_siv(twilio)[rung_before:], "Siv's phone to be rung")
    leg = {"To": SIV_PHONE, "CallStatus": "in-progress", "Direction": "outbound-api"}
    ring(service, url=asked["StatusCallback"], sid=f"CA{0xE00 + next(_calls):032x}", **leg)
    expect(board(page).get_by_role("button", name="Sett på vent")).to_be_visible()
    return sid


def test_a_talk_is_held_and_passed_on_by_keyboard_and_the_focus_is_never_lost(
    visitors, service, siv, twilio
):
    page = visitors.staff(siv)
    sid = in_talk(page, service, twilio)
    # Who waits does not push down the call that one is in.
    other, _ = ring(service)
    expect(board(page).get_by_role("listitem")).to_have_count(2)
    expect(board(page).get_by_role("listitem").first).to_contain_text("I samtale")
    page.evaluate(AXE.read_text(encoding="utf-8"))
    for size in (WIDE, NARROW):
        page.set_viewport_size(size)
        assert page.evaluate(SCAN, EVERYTHING) == []
        assert page.evaluate(TOO_WIDE) == []
    page.set_viewport_size(WIDE)

    page.keyboard.press("h")
    expect(board(page).get_by_role("button", name="Snakk igjen")).to_be_visible()
    page.keyboard.press("h")
    expect(board(page).get_by_role("button", name="Sett på vent")).to_be_visible()

    page.keyboard.press("t")
    to = page.get_by_label("Sett over til")
    expect(to).to_be_focused()
    page.keyboard.type("Ingen")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert").filter(has_text="Ingen heter det")).to_be_visible()
    expect(to).to_be_focused()
    # What went wrong is still there when the calls change.
    third, _ = ring(service)
    expect(board(page).get_by_role("listitem")).to_have_count(3)
    expect(page.get_by_role("alert").filter(has_text="Ingen heter det")).to_be_visible()
    expect(to).to_have_value("Ingen")
    page.keyboard.type("63 86 41 23")
    page.get_by_role("button", name="Sett over med en gang").focus()
    page.keyboard.press("Enter")
    expect(to).to_have_count(0)
    assert page.evaluate("document.activeElement !== document.body")

    for one in (sid, other, third):
        ring(service, "status", one, CallStatus="completed")
    expect(board(page)).to_have_count(0)


def test_with_telephones_every_page_of_the_desk_opens(service):
    pages = ("queue", "aside", "parked", "outbox", "presence", "presence/of/kari", "account")
    visitor = service.sign_in("admin")
    for page in (*pages, "statistics", "presence/rows", "presence/find?q=k", "calls", "alarm"):
        answer = visitor.get(f"/desk/{page}")
        assert answer.status_code == 200, (page, answer.status_code)


def test_who_writes_a_text_sees_in_how_many_parts_it_goes(visitors, service, siv):
    sid, resident = f"SM{next(_calls):032x}", "+4790012399"
    form = {"MessageSid": sid, "From": resident, "To": "+4759440000", "Body": "Er det åpent?"}
    form |= {"AccountSid": ACCOUNT_SID, "NumMedia": "0"}
    assert webhook(f"{service.url}/hooks/sms/twilio", form).status_code == 200
    [ref] = wait_until(
        lambda: [ref for (ref,) in service.read("SELECT ref FROM inquiry WHERE channel = 'sms'")],
        "the text to be an inquiry",
    )
    page = visitors.staff(siv, path=f"/desk/inquiries/{ref}")
    area = page.get_by_label("Svar med SMS til 90 01 23 99")
    parts = page.locator("#reply-parts")
    expect(parts).to_contain_text("Sendes i 1 del")
    expect(page.get_by_label("Filer (valgfritt)")).to_have_count(0)
    page.keyboard.press("r")
    page.keyboard.insert_text("x" * 160)
    expect(parts).to_contain_text("Sendes i 2 deler")
    expect(page.locator("#said")).to_contain_text("Sendes i 2 deler")
    page.keyboard.insert_text(" – «ja»")
    expect(parts).not_to_contain_text("tegnsettet")
    page.keyboard.insert_text(" Čáhcesuolu")
    expect(parts).to_contain_text("Sendes i 4 deler")
    expect(parts).to_contain_text("«Č» finnes ikke i det vanlige tegnsettet for SMS")
    expect(parts).to_contain_text("67 tegn i hver del, ikke 153")
    page.evaluate(AXE.read_text(encoding="utf-8"))
    for size in (WIDE, NARROW):
        page.set_viewport_size(size)
        assert page.evaluate(SCAN, EVERYTHING) == []
        assert page.evaluate(TOO_WIDE) == []
    # Another visit: the draft comes back, and with it what it takes.
    page.reload()
    expect(area).to_have_value(re.compile("Čáhcesuolu"))
    expect(parts).to_contain_text("Sendes i 4 deler")
    page.get_by_role("button", name="Send svar", exact=True).click()
    expect(page.get_by_role("article", name="Svar fra oss")).to_contain_text("(4 deler)")


def test_without_script_a_text_that_is_too_long_says_so_and_is_kept(visitors, service, siv):
    [(ref,)] = service.read("SELECT ref FROM inquiry WHERE channel = 'sms'")
    page = visitors.staff(siv, path=f"/desk/inquiries/{ref}", java_script_enabled=False)
    page.get_by_label("Svar med SMS til").fill("lang " * 330)
    page.get_by_role("button", name="Send svar", exact=True).click()
    expect(page.get_by_role("alert").filter(has_text="høyst 1600 tegn")).to_be_visible()
    expect(page.locator("#reply-parts")).to_contain_text("høyst 1600 tegn")
    page.get_by_label("Svar med SMS til").fill("Ja.")
    page.get_by_role("button", name="Send svar", exact=True).click()
    expect(page.get_by_role("article", name="Svar fra oss").last).to_contain_text("Ja.")
