"""Several people at one desk: who holds what, who sees what, and whose words are kept."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import expect

from tests.browser.people import announced, answer_to, employ, row, write_in
from tests.service import mail, unique

TYPED = "Takk for meldingen. Vi ser på det i dag."
SIV, OLAV = "Siv Sentral", "Olav Operatør"


@pytest.fixture
def sender():
    return f"{unique('x')[2:]}@eksempel.no"


@pytest.fixture
def open_twice(visitors, service, desk, sender):
    """An inquiry, open in the browsers of Siv and of Olav."""
    ref = desk.open(write_in(service, sender=sender))["ref"]
    pages = [
        visitors.staff(employ(service, name), f"/desk/inquiries/{ref}") for name in (SIV, OLAV)
    ]
    return ref, *pages


def take(page):
    return page.get_by_role("button", name="Ta den", exact=True)


def too_late(_route):
    """What the page asks for to keep up to date does not come."""


def reply_field(page):
    return page.get_by_role("textbox", name="Svar til")


def test_of_two_who_take_an_inquiry_one_has_it_and_the_other_is_told_who(open_twice):
    _, *pages = open_twice
    # At the same moment: neither may hear of the other before.
    moment = 1000 * time.time() + 1500
    for page in pages:
        take(page).evaluate(
            "(button, moment) => setTimeout(() => button.click(), moment - Date.now())", moment
        )
    for page in pages:
        expect(take(page)).to_have_count(0)
        expect(page.get_by_text(re.compile("Du har tatt|har tatt denne")).first).to_be_visible()
    [(winner, holder)] = [
        (page, name)
        for page, name in zip(pages, (SIV, OLAV), strict=True)
        if page.get_by_text("Du har tatt henvendelsen.").count()
    ]
    [loser] = [page for page in pages if page is not winner]
    expect(loser.get_by_role("alert").filter(has_text=holder)).to_have_count(1)
    expect(winner.get_by_role("button", name="Legg tilbake i køen")).to_be_visible()
    expect(loser.get_by_role("button", name="Legg tilbake i køen")).to_have_count(0)


def test_one_who_opened_it_sees_at_once_that_a_colleague_has_taken_it(open_twice):
    _, siv, olav = open_twice
    reply_field(olav).fill(TYPED)
    take(siv).click()
    expect(take(olav)).to_have_count(0)
    expect(olav.get_by_role("complementary")).to_contain_text(
        "Siv Sentral har tatt denne henvendelsen."
    )
    announced(olav, "Henvendelsen er endret.")
    expect(reply_field(olav)).to_have_value(TYPED)
    expect(reply_field(olav)).to_be_focused()
    for name in ("Send svar", "Send svar og lukk"):
        expect(olav.get_by_role("button", name=name, exact=True)).to_be_disabled()
    siv.get_by_role("button", name="Legg tilbake i køen").click()
    expect(olav.get_by_role("button", name="Send svar", exact=True)).to_be_enabled()


def test_a_reply_to_what_somebody_else_holds_is_refused_and_its_text_kept(
    open_twice, desk, smarthost, sender
):
    ref, siv, olav = open_twice
    olav.route("**/live", too_late)
    reply_field(olav).fill(TYPED)
    take(siv).click()
    announced(siv, "Du har tatt henvendelsen.")
    olav.get_by_role("button", name="Send svar", exact=True).click()
    expect(olav.get_by_role("alert").filter(has_text="Siv Sentral har tatt")).to_be_focused()
    expect(olav.get_by_role("alert").filter(has_text="Det du skrev")).to_be_visible()
    expect(reply_field(olav)).to_have_value(TYPED)
    assert desk.read(ref)["reply_state"] == "unanswered"
    assert len(smarthost.first_to(sender)) == 1


def test_a_reply_written_while_the_resident_wrote_again_is_held_back_and_kept(
    open_twice, desk, service, smarthost, sender
):
    ref, siv, _ = open_twice
    take(siv).click()
    announced(siv, "Du har tatt henvendelsen.")
    reply_field(siv).fill(TYPED)
    [receipt] = smarthost.first_to(sender)
    service.deliver(
        mail(
            "SV: hullet",
            "Glem det, hullet er tettet.",
            sender=sender,
            In_Reply_To=receipt["Message-ID"],
        ),
        mail_from=sender,
    )
    # It shows in the thread without touching what is being written.
    expect(siv.get_by_text("Glem det, hullet er tettet.")).to_be_visible()
    expect(reply_field(siv)).to_have_value(TYPED)
    expect(reply_field(siv)).to_be_focused()

    send = siv.get_by_role("button", name="Send svar", exact=True)
    send.click()
    expect(siv.get_by_role("alert").filter(has_text="er endret siden")).to_be_visible()
    expect(reply_field(siv)).to_have_value(TYPED)
    assert desk.read(ref)["reply_state"] == "unanswered"

    send.click()
    announced(siv, "Svaret er på vei")
    assert TYPED in answer_to(smarthost, sender).text
    expect(reply_field(siv)).to_have_value("")


def test_taking_from_the_list_what_is_taken_says_who_has_it(visitors, service, desk):
    subject = write_in(service)
    siv, olav = (visitors.staff(employ(service, name)) for name in (SIV, OLAV))
    olav.route("**/desk/queue/rows*", too_late)
    row(siv, subject).get_by_role("button", name="Ta").click()
    expect(row(siv, subject)).to_contain_text("Meg")
    row(olav, subject).get_by_role("button", name="Ta").click()
    expect(row(olav, subject)).to_contain_text("Siv Sentral")
    announced(olav, "Siv Sentral har tatt denne henvendelsen.")


def test_a_department_sees_its_own_inquiries_and_nothing_else(visitors, service, desk):
    theirs = write_in(service)
    other = write_in(
        service, unique("Søknad om barnehageplass"), "Når er fristen for barnehageplass?"
    )
    assert desk.open(theirs)["department"] == "vei"
    foreign = desk.open(other)
    assert foreign["department"] == "barnehage"
    page = visitors.staff(employ(service, "Vera Vei", "member", "vei"))
    expect(row(page, theirs)).to_be_visible()
    expect(row(page, other)).to_have_count(0)
    expect(page.get_by_role("navigation")).not_to_contain_text("Utboks")

    # Also what comes in now.
    later = write_in(service, unique("Barnehage"), "Vi søker barnehageplass.")
    own = write_in(service)
    expect(row(page, own)).to_be_visible()
    expect(row(page, later)).to_have_count(0)

    # For them the address of another department's inquiry is like one that does not exist.
    seen = []
    for ref in (foreign["ref"], "S-2001-000001"):
        answer = page.goto(f"/desk/inquiries/{ref}")
        assert answer
        assert answer.status == 404
        seen.append(page.get_by_role("main").inner_text())
    assert seen[0] == seen[1]
    assert "Vi finner ikke denne siden" in seen[0]
    assert other not in seen[0]


def test_what_is_transferred_moves_from_one_department_s_list_to_the_other_s(
    visitors, service, desk
):
    subject = write_in(service)
    ref = desk.open(subject)["ref"]
    vera = visitors.staff(employ(service, "Vera Vei", "member", "vei"))
    petter = visitors.staff(employ(service, "Petter Park", "member", "park"))
    expect(row(vera, subject)).to_be_visible()
    desk.act(ref, "transfer", department="park", note="Det gjelder stien i parken.")
    expect(row(vera, subject)).to_have_count(0)
    expect(row(petter, subject)).to_be_visible()
    petter.get_by_role("link", name=subject).click()
    expect(petter.get_by_role("article", name="Notat")).to_contain_text("stien i parken")
    petter.get_by_text("Send tilbake til servicetorget", exact=True).click()
    petter.get_by_role("textbox", name="Hvorfor").fill("Stien er privat.")
    petter.get_by_role("button", name="Send tilbake").click()
    announced(petter, "sendt tilbake til servicetorget")
    expect(row(petter, subject)).to_have_count(0)
    assert desk.read(ref)["department"] == "servicetorg"
