"""A person outside who writes from two addresses: found, made one, and undone, by keyboard."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.browser.people import announced, tab_to, write_in
from tests.service import unique


def test_two_contacts_become_one_and_two_again(visitors, service, desk):
    first, second = (f"{unique('x')[2:]}@eksempel.no" for _ in range(2))
    subject, other = write_in(service, sender=first), write_in(service, sender=second)
    ref = desk.open(subject)["ref"]
    desk.open(other)

    page = visitors.staff(path=f"/desk/inquiries/{ref}")
    keys = page.keyboard
    tab_to(page, page.get_by_role("link", name="Alt fra denne personen"))
    keys.press("Enter")
    main = page.get_by_role("main")
    expect(page.get_by_role("heading", level=1)).to_have_text("Kari Nordmann")
    expect(main).to_contain_text(first)
    expect(main).not_to_contain_text(second)

    keys.press("s")
    keys.type(second.partition("@")[0])
    keys.press("Enter")
    announced(page, "1 kontakt passer.")
    same = page.get_by_role("button", name="Samme person (Kari Nordmann)")
    expect(page.get_by_label("Nummer, adresse eller navn")).to_be_focused()
    tab_to(page, same)
    keys.press("Enter")
    announced(page, "De to er én person nå.")
    expect(main.get_by_role("link", name=other)).to_be_visible()
    expect(main).to_contain_text(f"Slått sammen hit: {second}")

    # The inquiry's own page knows both addresses, and why.
    inquiry = visitors.staff(path=f"/desk/inquiries/{desk.open(other)['ref']}")
    expect(inquiry.get_by_role("main")).to_contain_text(first)
    inquiry.get_by_text("Historikk").click()
    expect(inquiry.get_by_text("Kontakt slått sammen med en annen")).to_be_visible()

    keys.press("z")
    announced(page, "Det er angret.")
    expect(main.get_by_role("link", name=other)).to_have_count(0)
    expect(main).to_contain_text(re.compile("Angret i dag"))


def test_one_address_is_split_off(visitors, service, desk):
    first, second = (f"{unique('x')[2:]}@eksempel.no" for _ in range(2))
    numbers = [
        desk.read(desk.open(write_in(service, sender=sender))["ref"])["contact"]["id"]
        for sender in (first, second)
    ]
    page = visitors.staff(path=f"/desk/contacts/{numbers[0]}?q={second}")
    page.get_by_role("button", name=re.compile("Samme person")).click()
    announced(page, "De to er én person nå.")
    split = page.get_by_role("button", name=f"Tilhører en annen ({second})")
    tab_to(page, split)
    page.keyboard.press("Enter")
    announced(page, "Adressen er en egen kontakt nå.")
    expect(split).to_have_count(0)
    expect(page.get_by_role("main")).to_contain_text(f"Skilt ut: {second}")
