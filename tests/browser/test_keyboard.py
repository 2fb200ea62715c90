"""A day at the desk without a mouse."""

from __future__ import annotations

import re
import time

from playwright.sync_api import expect

from tests.browser.people import (
    PASSWORD,
    POTHOLE,
    announced,
    answer_to,
    employ,
    row,
    sign_in_link,
    tab_to,
    write_in,
)
from tests.service import mail, unique


def test_an_operator_answers_a_mail_by_keyboard_alone(visitors, service, desk, smarthost):
    page = visitors.resident()
    page.goto(sign_in_link(service, employ(service)))
    expect(page).to_have_url(re.compile("/desk/queue$"))
    keys = page.keyboard

    # It comes in while the queue is open.
    sender = f"{unique('x')[2:]}@eksempel.no"
    subject = write_in(service, sender=sender)
    expect(row(page, subject)).to_contain_text("Vei")
    expect(row(page, subject)).to_contain_text(re.compile(r"\d (dag|dager|timer) igjen frist \w+"))
    ref = desk.open(subject)["ref"]

    # To its line, and in.
    link = page.get_by_role("link", name=subject)
    for _ in range(50):
        keys.press("j")
        if link.evaluate("element => element === document.activeElement"):
            break
    expect(link).to_be_focused()
    keys.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(subject)
    expect(page.get_by_text(POTHOLE)).to_be_visible()

    keys.press("c")
    announced(page, "Du har tatt henvendelsen.")
    assert desk.read(ref)["assignee"]

    # To the park people: three letters are enough.
    keys.press("f")
    expect(page.get_by_role("combobox", name="Avdeling")).to_be_focused()
    keys.type("par")
    # Enter chooses it and sends nothing.
    keys.press("Enter")
    expect(page.get_by_role("textbox", name="Notat til avdelingen")).to_be_focused()
    expect(page.get_by_role("combobox", name="Avdeling")).to_have_value("Park og natur")
    assert desk.read(ref)["department"] != "park"
    keys.type("Gjelder stien.")
    keys.press("Control+Enter")
    announced(page, "Henvendelsen er sendt videre.")
    assert desk.read(ref)["department"] == "park"

    # The message about it leads back to it.
    tab_to(page, page.get_by_role("status").get_by_role("link", name=ref))
    keys.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(subject)
    keys.press("r")
    expect(page.get_by_role("textbox", name=f"Svar til {sender}")).to_be_focused()
    keys.type("Vi tetter hullet i morgen. Tast c, f og l er tekst her.")
    keys.press("Control+Enter")
    announced(page, "Svaret er på vei")
    reply = answer_to(smarthost, sender)
    assert "Vi tetter hullet i morgen. Tast c, f og l er tekst her." in reply.text
    assert reply["From"].endswith("<park@sorum.kommune.no>")
    sent = page.get_by_role("article", name="Svar fra oss")
    expect(sent).to_contain_text("Sendt")

    keys.press("l")
    announced(page, "Henvendelsen er lukket.")
    expect(page.get_by_role("heading", level=1)).to_have_text("Kø")
    expect(row(page, subject)).to_have_count(0)
    assert desk.read(ref)["status"] == "closed"

    # The resident is not content: it comes back while we look.
    service.deliver(
        mail(
            f"SV: {subject}",
            "Det er fortsatt et hull her.",
            sender=f"Kari Nordmann <{sender}>",
            to=reply["Reply-To"],
            In_Reply_To=reply["Message-ID"],
        ),
        reply["Reply-To"],
        mail_from=sender,
    )
    expect(row(page, subject)).to_contain_text(ref)
    assert desk.read(ref)["status"] == "open"


def test_what_comes_in_is_seen_within_a_second(visitors, service):
    page = visitors.staff()
    expect(page.get_by_role("contentinfo")).to_contain_text("Siden oppdateres")
    page.evaluate("window.sameDocument = true")
    fastest = 9.0
    for _ in range(3):
        subject = write_in(service)
        started = time.monotonic()
        expect(row(page, subject)).to_be_visible()
        fastest = min(fastest, time.monotonic() - started)
    assert fastest < 1
    assert page.evaluate("window.sameDocument")


def test_signing_in_and_out_with_a_password(visitors, service):
    person = employ(service, "Tove Tast", password=PASSWORD)
    page = visitors.resident()
    page.goto("/desk/queue?assignee=me")
    expect(page.get_by_role("heading", level=1)).to_have_text("Logg inn")
    keys = page.keyboard

    expect(page.get_by_label("Brukernavn")).to_be_focused()
    keys.type(person.username)
    keys.press("Tab")
    keys.type("feil passord")
    keys.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("Brukernavnet eller passordet er feil.")
    expect(page.get_by_label("Brukernavn")).to_have_value(person.username)

    tab_to(page, page.get_by_label("Passord"))
    keys.type(PASSWORD)
    keys.press("Enter")
    # Where they were going, not just somewhere.
    expect(page).to_have_url(re.compile(r"/desk/queue\?assignee=me$"))
    expect(page.get_by_role("banner")).to_contain_text("Tove Tast")

    tab_to(page, page.get_by_role("button", name="Logg ut"))
    keys.press("Enter")
    announced(page, "Du er logget ut.")
    page.goto("/desk/queue")
    expect(page.get_by_role("heading", level=1)).to_have_text("Logg inn")


def test_the_keyboard_reaches_everything_on_a_page_and_leaves_it_again(visitors, service, desk):
    ref = desk.open(write_in(service))["ref"]
    page = visitors.staff(path=f"/desk/inquiries/{ref}")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Hopp til hovedinnholdet")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()
    for name in ("Send svar", "Lagre notat", "Ta den", "Lukk", "Tastatursnarveier"):
        tab_to(page, page.get_by_role("button", name=name, exact=True))
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", f"nobody sees that «{name}» has the focus"
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.get_by_role("button", name="Tastatursnarveier")).to_be_focused()


def test_single_letters_can_be_switched_off(visitors, service, desk):
    ref = desk.open(write_in(service))["ref"]
    page = visitors.staff(path="/desk/account")
    choice = page.get_by_role("checkbox", name="Bruk snarveier med enkeltbokstaver")
    expect(choice).to_be_checked()
    tab_to(page, choice)
    page.keyboard.press("Space")
    announced(page, "Lagret.")
    page.goto(f"/desk/inquiries/{ref}")
    page.keyboard.press("c")
    page.keyboard.press("l")
    page.keyboard.press("r")
    expect(page.get_by_role("textbox", name="Svar til")).not_to_be_focused()
    assert desk.read(ref)["status"] == "open"
    assert desk.read(ref)["assignee"] is None
