"""Who is here, at the desk: found, marked and seen by all without a mouse and without a reload."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.people import announced, employ, tab_to, write_in
from tests.service import unique


@pytest.fixture
def bjarte(service):
    """A colleague with a name that nobody else has."""
    return employ(service, f"{unique('q')[2:].title()} Bygg", "member", "byggesak")


def status(page):
    """What the header says of oneself."""
    return page.get_by_role("banner").locator("summary")


def test_out_for_an_hour_is_two_clicks_and_leaves_the_page_alone(visitors, service, desk):
    ref = desk.open(write_in(service))["ref"]
    page = visitors.staff(path=f"/desk/inquiries/{ref}")
    page.get_by_role("textbox", name="Notat, bare for").fill("Halvskrevet")
    status(page).click()
    page.get_by_role("button", name="Ute en time").click()
    expect(status(page)).to_contain_text(re.compile(r"Ute tilbake .*\d\d:\d\d"))
    announced(page, "Lagret.")
    expect(page.get_by_role("button", name="Ute en time")).to_be_hidden()
    expect(page.get_by_role("textbox", name="Notat, bare for")).to_have_value("Halvskrevet")

    status(page).click()
    page.get_by_role("button", name="Jeg er tilbake").click()
    expect(status(page)).not_to_contain_text("Ute tilbake")


def test_the_header_by_keyboard(visitors):
    page = visitors.staff()
    tab_to(page, status(page))
    page.keyboard.press("Enter")
    tab_to(page, page.get_by_role("button", name="I møte en time"))
    page.keyboard.press("Escape")
    expect(status(page)).to_be_focused()
    expect(page.get_by_role("button", name="I møte en time")).to_be_hidden()
    page.keyboard.press("Enter")
    tab_to(page, page.get_by_role("button", name="I møte en time"))
    page.keyboard.press("Enter")
    expect(status(page)).to_contain_text("I møte")
    expect(status(page)).to_be_focused()


def test_four_keys_find_a_person_from_any_page(visitors, service, desk, bjarte):
    ref = desk.open(write_in(service))["ref"]
    page = visitors.staff(path=f"/desk/inquiries/{ref}")
    page.keyboard.press("/")
    page.keyboard.type(bjarte.name[:3].lower())
    found = page.get_by_role("dialog").get_by_role("listitem").filter(has_text=bjarte.name)
    expect(found).to_contain_text(re.compile("Ikke meldt|Utenfor arbeidstid tilbake"))
    expect(found).to_contain_text("Byggesak")
    expect(page.get_by_role("dialog").get_by_role("status")).to_contain_text(bjarte.name)
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.get_by_role("heading", level=1)).to_be_visible()


def test_six_keys_set_absence_for_somebody_and_everybody_sees_it(visitors, service, bjarte):
    watching = visitors.staff(employ(service, "Vera Vei", "member", "vei"), "/desk/presence")
    line = watching.get_by_role("listitem").filter(has_text=bjarte.name)
    expect(line).to_contain_text(re.compile("Ikke meldt|Utenfor arbeidstid"))
    themselves = visitors.staff(bjarte, "/desk/queue")

    page = visitors.staff()
    page.keyboard.press("/")
    page.keyboard.type(bjarte.name[:3].lower())
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(bjarte.name)
    page.keyboard.press("a")
    announced(page, "Statusen er satt.")
    expect(page.get_by_role("main")).to_contain_text("Fravær tilbake")

    expect(line).to_contain_text("Fravær tilbake")
    expect(status(themselves)).to_contain_text("Fravær tilbake")
    assert "Siv" not in line.inner_text()

    page.keyboard.press("t")
    announced(page, "Statusen er tatt tilbake.")
    expect(line).not_to_contain_text("Fravær")


def test_the_whole_form_by_keyboard(visitors, bjarte):
    page = visitors.staff(path=f"/desk/presence/of/{bjarte.username}")
    save = page.get_by_role("button", name="Lagre", exact=True)
    tab_to(page, save)
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert").filter(has_text="Velg en status.")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    tab_to(page, page.get_by_role("radio", name="Ledig"))
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("radio", name="I møte", exact=True)).to_be_checked()
    tab_to(page, page.get_by_label("Notat (valgfritt)"))
    page.keyboard.type("Rom 4, ta meg ut ved brann")
    page.keyboard.press("Enter")
    announced(page, "Statusen er satt.")
    expect(page.get_by_role("main")).to_contain_text("Rom 4, ta meg ut ved brann")


def test_the_list_narrows_while_one_types(visitors, bjarte):
    page = visitors.staff(path="/desk/presence")
    people = page.get_by_role("main").get_by_role("listitem")
    expect(people.nth(1)).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type(bjarte.name[:6])
    expect(people).to_have_count(1)
    announced(page, re.compile(bjarte.name))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(bjarte.name)
    page.keyboard.press("u")
    expect(page.get_by_role("heading", level=1)).to_have_text("Ansatte")


def test_without_a_script_it_all_works_by_forms_and_links(visitors, service, bjarte):
    page = visitors.staff(path="/desk/presence", java_script_enabled=False)
    page.get_by_label("Navn, avdeling eller nummer").first.fill(bjarte.name[:6])
    page.get_by_role("button", name="Vis", exact=True).click()
    expect(page.get_by_role("main").get_by_role("listitem")).to_have_count(1)
    page.get_by_role("link", name=bjarte.name).click()
    page.get_by_role("button", name="Ute resten av dagen").click()
    expect(page.get_by_role("main")).to_contain_text("Ute tilbake")
    status(page).click()
    page.get_by_role("banner").get_by_role("button", name="Ute en time").click()
    expect(page).to_have_url(re.compile(f"/desk/presence/of/{bjarte.username}"))
    expect(status(page)).to_contain_text("Ute tilbake")
