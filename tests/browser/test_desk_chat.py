"""Chats at the desk: two windows, a resident's and an operator's, and what passes between them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from playwright.sync_api import expect

from router import chat_queue
from tests import service as running
from tests.browser.people import Visitors, employ
from tests.browser.test_chat import begin, said, write
from tests.service import unique, wait_until

FOR_EVER = datetime(2099, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def service(smarthost, tmp_path_factory):
    settings = {
        "CHANNELS__CHAT__HOURS__MON-SUN": "00:00-24:00",
        "CHANNELS__CHAT__CONVERSATIONS_PER_HOUR": "1000",
        "CHANNELS__CHAT__UNATTENDED_MINUTES": "60",
    }
    with running.service(tmp_path_factory.mktemp("desk"), smarthost.port, **settings) as opened:
        yield opened


@pytest.fixture(scope="module")
def desk(service):
    return running.Desk(service.api())


@pytest.fixture
def siv(service):
    """An operator with no talk yet, at the desk all the time."""
    person = employ(service)
    service.write(lambda session: chat_queue.at_desk(session, [person.id], FOR_EVER))
    yield person
    service.write(lambda session: clear(session))


def clear(session):
    """Nobody waits, and nobody holds anything."""
    for statement in (
        "UPDATE conversation SET state = 'ended', outcome = 'answered', listening_until = NULL",
        "UPDATE inquiry SET assignee_id = NULL",
        "UPDATE staff SET desk_until = NULL",
    ):
        session.connection().exec_driver_sql(statement)


@pytest.fixture
def visitors(browser, service):
    opened = Visitors(browser, service)
    yield opened
    opened.close()
    assert opened.unexpected == []


def resident(visitors, desk, text=""):
    """Somebody who has said something; returns their page and the reference."""
    page = visitors.resident()
    page.goto("/chat")
    return page, begin(page, desk, text)


def answer(page, text):
    expect(page.locator("#say-keys")).not_to_be_empty()  # the script is there
    page.get_by_label("Meldingen din").fill(text)
    page.keyboard.press("Enter")


def spoken(page):
    """What stands in the talk at the desk, in order."""
    return page.locator("#lines .said").all_inner_texts()


def test_a_talk_of_twenty_messages_and_a_kill_in_the_middle_of_typing(visitors, service, desk, siv):
    visitors.expected.append("net::ERR_")
    operator = visitors.staff(siv)
    person, _ref = resident(visitors, desk, first := unique("Hei"))
    expect(operator.locator("#said")).to_contain_text("1 venter i chatten")
    expect(operator).to_have_title(re.compile(r"^\(1\) "))
    operator.get_by_role("button", name="Ta den neste i chatten").click()
    expect(operator.locator(".theirs .said")).to_have_text(first)
    expect(operator.get_by_label("Meldingen din")).to_be_focused()
    words = [first]
    for number in range(10):
        answer(operator, f"Svar {number}")
        expect(person.locator(".theirs .said").last).to_have_text(f"Svar {number}")
        write(person, f"Spørsmål {number}")
        expect(operator.locator(".theirs .said").last).to_have_text(f"Spørsmål {number}")
        words += [f"Svar {number}", f"Spørsmål {number}"]
    for page in (operator, person):
        page.evaluate("window.sameDocument = true")

    operator.get_by_label("Meldingen din").fill("Halvskrevet ved pulten")
    person.get_by_label("Meldingen din").fill("Halvskrevet hjemme")
    service.kill()
    for page in (operator, person):
        page.keyboard.press("Enter")
        expect(page.locator(".unsent .mark")).to_have_text("Ikke sendt ennå. Vi prøver videre.")
        page.get_by_label("Meldingen din").fill("Skrevet mens alt var nede")
    service.restart()
    for page in (operator, person):
        expect(page.locator(".unsent")).to_have_count(0)
        expect(page.get_by_label("Meldingen din")).to_have_value("Skrevet mens alt var nede")
        page.get_by_label("Meldingen din").press("Enter")
    both = ["Halvskrevet ved pulten", "Halvskrevet hjemme", *["Skrevet mens alt var nede"] * 2]
    for page, read in ((operator, spoken), (person, said)):
        wait_until(lambda p=page, r=read: len(r(p)) == len(words) + 4, "the rest of the talk")
        assert page.evaluate("window.sameDocument")
        assert sorted(read(page)) == sorted(words + both)
        page.reload()
        assert read(page)[:21] == words
        assert sorted(read(page)) == sorted(words + both)
    assert spoken(operator) == said(person)
