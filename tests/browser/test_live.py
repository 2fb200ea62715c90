"""The queue moves by itself, but never under somebody's hands."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.people import EMERGENCY, PNG, announced, employ, row, write_in
from tests.service import mail, unique


def news(page):
    return page.get_by_role("button", name="– vis")


def subjects(page):
    return page.get_by_role("rowheader").get_by_role("link").all_inner_texts()


def test_nothing_moves_while_the_focus_is_in_the_list(visitors, service, desk):
    first, second = write_in(service), write_in(service)
    page = visitors.staff()
    expect(row(page, second)).to_be_visible()
    before = subjects(page)
    page.keyboard.press("j")
    page.keyboard.press("j")
    link = page.get_by_role("link", name=second)
    expect(link).to_be_focused()

    third = write_in(service)
    expect(news(page)).to_have_text("1 ny henvendelse – vis")
    announced(page, "1 ny henvendelse")
    fourth = write_in(service)
    expect(news(page)).to_have_text("2 nye henvendelser – vis")
    announced(page, "2 nye henvendelser")
    assert subjects(page) == before
    expect(link).to_be_focused()

    # What changes about a line is shown where it stands.
    desk.act(desk.open(first)["ref"], "claim")
    expect(row(page, first).get_by_role("button", name="Ta")).to_have_count(0)
    assert subjects(page) == before
    expect(link).to_be_focused()

    page.keyboard.press("v")
    for subject in (third, fourth):
        expect(row(page, subject)).to_be_visible()
    expect(news(page)).to_have_count(0)
    assert len(subjects(page)) == len(before) + 2


def test_what_was_held_back_comes_in_when_the_focus_leaves_the_list(visitors, service):
    first = write_in(service)
    page = visitors.staff()
    expect(row(page, first)).to_be_visible()
    page.keyboard.press("j")
    subject = write_in(service)
    expect(news(page)).to_be_visible()
    expect(row(page, subject)).to_have_count(0)
    page.keyboard.press("s")
    expect(page.get_by_role("searchbox")).to_be_focused()
    expect(row(page, subject)).to_be_visible()
    expect(news(page)).to_have_count(0)


def test_a_frozen_list_stands_still_until_it_is_thawed(visitors, service, desk):
    shown = write_in(service)
    desk.open(shown)  # a list that is frozen before it has come does not show it
    page = visitors.staff()
    freeze = page.get_by_role("button", name="Frys lista")
    freeze.click()
    expect(page.get_by_role("button", name="Frys lista", pressed=True)).to_be_visible()
    announced(page, "Lista er frosset.")
    held = write_in(service)
    expect(news(page)).to_be_visible()
    expect(row(page, held)).to_have_count(0)
    expect(row(page, shown)).to_be_visible()

    freeze.click()
    expect(page.get_by_role("button", name="Frys lista", pressed=False)).to_be_visible()
    expect(row(page, held)).to_be_visible()


def test_a_filtered_list_stays_filtered_while_it_moves(visitors, service, desk):
    page = visitors.staff()
    page.get_by_label("Avdeling", exact=True).select_option("barnehage")
    page.get_by_role("button", name="Vis", exact=True).click()
    expect(page.get_by_text("Lista fylles av seg selv")).to_be_visible()
    pothole = write_in(service)
    child = write_in(service, unique("Barnehage"), "Vi søker barnehageplass.")
    expect(row(page, child)).to_be_visible()
    assert desk.open(pothole)["department"] == "vei"
    expect(row(page, pothole)).to_have_count(0)


def test_nothing_that_is_said_is_lost_when_much_happens_at_once(visitors, service, desk):
    ref = desk.open(write_in(service))["ref"]
    page = visitors.staff(path=f"/desk/inquiries/{ref}")
    page.get_by_label("Filer (valgfritt)").set_input_files(
        {"name": "kart.png", "mimeType": "image/png", "buffer": PNG}
    )
    desk.act(ref, "note", text="Ringte, ingen svar.")
    announced(page, "Valgt: kart.png")
    announced(page, "Henvendelsen er endret")


@pytest.mark.parametrize(("role", "department"), [("operator", ""), ("member", "vei")])
def test_who_holds_an_inquiry_is_told_when_the_resident_writes_again(
    visitors, service, desk, smarthost, role, department
):
    sender = f"{unique('x')[2:]}@eksempel.no"
    subject = write_in(service, sender=sender, to="vei@sorum.kommune.no")
    assert desk.open(subject)["department"] == "vei"
    [receipt] = smarthost.first_to(sender)
    person = employ(service, "Vera Vei", role, *filter(None, [department]))
    page = visitors.staff(person)
    row(page, subject).get_by_role("button", name="Ta").click()
    expect(row(page, subject)).to_contain_text("Meg")
    page.get_by_role("heading", level=1).click()  # the focus leaves the list
    elsewhere = page.context.new_page()
    elsewhere.goto("/desk/account")

    again = mail("SV: Hull", "Det er blitt større.", sender=sender, to=receipt["Reply-To"])
    service.deliver(again, receipt["Reply-To"], mail_from=sender)
    expect(row(page, subject)).to_contain_text("Ny melding")
    for tab in (page, elsewhere):
        told = tab.get_by_role("alert").filter(has_text="Ny melding fra innbyggeren")
        expect(told.get_by_role("link", name=subject)).to_be_visible()

    elsewhere.get_by_role("alert").get_by_role("link", name=subject).click()
    expect(elsewhere.get_by_text("Det er blitt større.")).to_be_visible()
    for tab in (page, elsewhere):
        expect(tab.get_by_role("alert").filter(has_text="Ny melding")).to_have_count(0)
    expect(row(page, subject)).not_to_contain_text("Ny melding")


def test_a_receipt_that_comes_back_is_marked_in_the_line(visitors, service, smarthost):
    page = visitors.staff()
    smarthost.fail("RCPT", "550 5.1.1 No such mailbox")
    subject = write_in(service)
    expect(row(page, subject)).to_contain_text("Kvittering ikke levert")


def test_taking_a_line_keeps_the_reader_on_it(visitors, service):
    subject = write_in(service)
    page = visitors.staff()
    link = page.get_by_role("link", name=subject)
    link.focus()
    page.keyboard.press("c")
    expect(row(page, subject)).to_contain_text("Meg")
    expect(link).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(subject)


def test_several_tabs_all_stay_up_to_date(visitors, service):
    """HTTP/1.1 allows six connections to a host; eight tabs with a stream each would starve."""
    first = visitors.staff()
    tabs = [first, *(first.context.new_page() for _ in range(7))]
    for tab in tabs[1:]:
        tab.goto("/desk/queue", wait_until="domcontentloaded")
    subject = write_in(service)
    for tab in tabs:
        expect(row(tab, subject)).to_be_visible()
    # The one that listened for all is closed: another takes over.
    first.close()
    subject = write_in(service)
    for tab in tabs[1:]:
        expect(row(tab, subject)).to_be_visible()


def test_an_emergency_raises_an_alarm_everywhere_until_somebody_has_seen_it(
    visitors, service, desk
):
    siv, olav = (visitors.staff(employ(service, name)) for name in ("Siv Sentral", "Olav Op"))
    olav.goto("/desk/account")
    vera = visitors.staff(employ(service, "Vera Vei", "member", "vei"))
    subject = write_in(service, unique("Brann"), EMERGENCY)
    for page in (siv, olav):
        alarm = page.get_by_role("alert").filter(has_text="Mulig nødsituasjon")
        expect(alarm).to_be_visible()
        expect(alarm.get_by_role("link", name=subject)).to_be_visible()
    # First in the list, too.
    expect(row(siv, subject)).to_contain_text("Straks")
    assert subjects(siv)[0] == subject
    assert desk.open(subject)["department"] != "vei"
    expect(vera.get_by_text("Mulig nødsituasjon")).to_have_count(0)

    olav.get_by_role("button", name="Jeg har sett den").click()
    announced(olav, "Nødmeldingen er kvittert ut.")
    for page in (siv, olav):
        expect(page.get_by_role("alert").filter(has_text="nødsituasjon")).to_have_count(0)
    expect(row(siv, subject)).to_be_visible()
    desk.act(desk.open(subject)["ref"], "close")
