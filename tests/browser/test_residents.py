"""Residents write to us: with and without script, in three languages."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.people import answer_to, employ, row, sign_in_link, write_in
from tests.service import unique

WITH_AND_WITHOUT_SCRIPT = pytest.mark.parametrize(
    "script", [True, False], ids=["script", "no script"]
)


@WITH_AND_WITHOUT_SCRIPT
def test_what_is_wrong_with_a_form_is_said_where_it_is(visitors, script):
    page = visitors.resident(java_script_enabled=script)
    page.goto("/")
    page.get_by_label("E-post").fill("kari(a)eksempel")
    page.get_by_role("button", name="Send").click()

    expect(page).to_have_title(re.compile("^Feil: "))
    summary = page.get_by_role("alert").filter(has_text="Rett opp dette først")
    expect(summary).to_be_focused()
    expect(summary.get_by_role("link")).to_have_text(
        ["Skriv hva det gjelder.", re.compile("E-postadressen ser ikke riktig ut")]
    )
    text, email = page.get_by_label("Hva gjelder det?"), page.get_by_label("E-post")
    for field, words in ((text, "Skriv hva det gjelder."), (email, "ser ikke riktig ut")):
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(field).to_have_accessible_description(re.compile(words))
    expect(email).to_have_value("kari(a)eksempel")
    summary.get_by_role("link", name="Skriv hva").click()
    expect(text).to_be_focused()


@WITH_AND_WITHOUT_SCRIPT
def test_a_resident_sends_the_form_and_follows_what_happens(visitors, service, desk, script):
    subject = unique("Gatelys")
    page = visitors.resident(java_script_enabled=script)
    page.goto("/")
    page.get_by_label("Hva gjelder det?").fill("Gatelyset utenfor nummer 5 er mørkt.")
    page.get_by_label("Emne").fill(subject)
    page.get_by_label("E-post").fill(f"{unique('x')[2:]}@eksempel.no")
    page.get_by_label("Navn").fill("Kari Nordmann")
    page.get_by_role("button", name="Send").click()

    expect(page.get_by_role("status")).to_contain_text("Takk. Vi har fått henvendelsen din.")
    inquiry = desk.open(subject)
    main = page.get_by_role("main")
    expect(main).to_contain_text(inquiry["ref"])
    # A date, not a number of days.
    expect(main).to_contain_text(
        re.compile(r"Du får svar senest\s*(man|tirs|ons|tors|fre)dag \d+\. [a-z]+")
    )
    expect(main).to_contain_text("Venter på tur")
    link = page.get_by_role("status").get_by_role("link").get_attribute("href")
    assert link
    assert link.startswith(f"{service.url}/status/")

    desk.act(inquiry["ref"], "claim")
    desk.act(inquiry["ref"], "note", text="Hemmelig notat.")
    desk.act(inquiry["ref"], "reply", text="Montøren kommer onsdag.")
    page.goto(link)
    expect(page.get_by_role("status")).to_have_count(0)
    expect(main).to_contain_text("Besvart")
    expect(page.get_by_role("article")).to_contain_text(
        ["Gatelyset utenfor nummer 5", "Automatisk kvittering", "Montøren kommer onsdag."]
    )
    expect(main).not_to_contain_text("Hemmelig notat.")


def test_a_double_click_is_one_message(visitors, desk):
    subject = unique("Gatelys")
    page = visitors.resident()
    page.goto("/")
    page.get_by_label("Hva gjelder det?").fill("Gatelyset er mørkt.")
    page.get_by_label("Emne").fill(subject)
    page.get_by_label("Telefon").fill("900 00 000")
    send = page.get_by_role("button", name="Send")
    send.evaluate("button => { button.click(); button.click(); }")
    expect(page.get_by_role("status")).to_contain_text("Takk.")
    [inquiry] = desk.find(subject)
    assert [m["direction"] for m in desk.read(inquiry["ref"])["messages"]].count("in") == 1


@pytest.mark.parametrize(
    ("locale", "language", "question", "text", "thanks", "by"),
    [
        (
            "nn-NO",
            "nn",
            "Kva gjeld det?",
            "Det er eit hol i vegen.",
            "Takk.",
            "Du får svar seinast",
        ),
        (
            "en-GB",
            "en",
            "What is it about?",
            "There is a pothole in the road.",
            "Thank you.",
            "You will have an answer by",
        ),
        # What we do not speak gets bokmål.
        (
            "de-DE",
            "nb",
            "Hva gjelder det?",
            "Det er et hull i veien.",
            "Takk.",
            "Du får svar senest",
        ),
    ],
    ids=["nynorsk", "English", "German"],
)
def test_the_pages_speak_the_language_of_the_browser(
    visitors, desk, locale, language, question, text, thanks, by
):
    page = visitors.resident(locale=locale)
    page.goto("/")
    html = page.locator("html")
    expect(html).to_have_attribute("lang", language)
    subject = unique("Hull")
    page.get_by_label(question).fill(text)
    page.get_by_label(re.compile("^(Emne|Subject)")).fill(subject)
    page.get_by_label(re.compile("^E-(post|mail)")).fill(f"{unique('x')[2:]}@eksempel.no")
    page.get_by_role("button", name=re.compile("^Send")).click()
    expect(page.get_by_role("status")).to_contain_text(thanks)
    expect(page.get_by_role("main")).to_contain_text(by)
    expect(html).to_have_attribute("lang", language)
    desk.open(subject)


def test_another_language_is_one_click_away_and_stays(visitors):
    page = visitors.resident()
    page.goto("/")
    expect(page.get_by_role("heading", level=1)).to_have_text("Kontakt oss")
    page.get_by_role("link", name="English").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Contact us")
    page.get_by_role("link", name="Accessibility statement").click()
    expect(page.locator("html")).to_have_attribute("lang", "en")
    page.get_by_role("link", name="Nynorsk").click()
    expect(page.locator("html")).to_have_attribute("lang", "nn")


def test_staff_choose_their_language_once(visitors, service):
    page = visitors.staff(path="/desk/account")
    page.get_by_role("radio", name="Nynorsk").check()
    page.get_by_role("button", name="Lagre språk").click()
    expect(page.locator("html")).to_have_attribute("lang", "nn")
    page.goto("/desk/queue")
    expect(page.get_by_role("button", name="Frys lista")).to_be_visible()
    expect(page.locator("html")).to_have_attribute("lang", "nn")


def test_the_desk_works_without_script(visitors, service, desk, smarthost):
    page = visitors.resident(java_script_enabled=False)
    page.goto(sign_in_link(service, employ(service)))
    sender = f"{unique('x')[2:]}@eksempel.no"
    subject = write_in(service, sender=sender)
    ref = desk.open(subject)["ref"]
    page.reload()
    row(page, subject).get_by_role("button", name="Ta").click()
    # A form of its own leads on to the inquiry.
    expect(page.get_by_role("heading", level=1)).to_have_text(subject)
    expect(page.get_by_text("Du har tatt henvendelsen.")).to_be_visible()
    for unusable in ("Tastatursnarveier", "Frys lista"):
        expect(page.get_by_role("button", name=unusable)).to_have_count(0)

    page.get_by_role("textbox", name="Notat, bare").fill("Ringte, ingen svar.")
    page.get_by_role("button", name="Lagre notat").click()
    expect(page.get_by_role("article", name="Notat")).to_contain_text("Ringte, ingen svar.")
    page.get_by_role("textbox", name="Svar til").fill("Vi kommer i morgen.")
    page.get_by_role("button", name="Send svar og lukk").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Kø")
    expect(row(page, subject)).to_have_count(0)
    assert "Vi kommer i morgen." in answer_to(smarthost, sender).text
    assert desk.read(ref)["status"] == "closed"

    # By hand to what is closed, and out.
    page.get_by_label("Status").select_option("closed")
    page.get_by_role("button", name="Vis", exact=True).click()
    expect(row(page, subject)).to_be_visible()
    page.get_by_role("button", name="Logg ut").click()
    expect(page.get_by_text("Du er logget ut.")).to_be_visible()


def test_what_the_pages_may_not_do_is_stopped_and_heard_of(visitors):
    """No script of a stranger runs; and this is how the other tests learn of such a thing."""
    page = visitors.resident()
    page.goto("/")
    page.evaluate("""() => {
      const script = document.createElement("script");
      script.textContent = "window.intruder = true";
      document.body.append(script);
    }""")
    assert not page.evaluate("window.intruder")
    [complaint] = visitors.complaints
    assert "Content Security Policy" in complaint
    visitors.complaints.clear()
    page.evaluate("console.error('x'); setTimeout(() => { throw new Error('y') }, 0)")
    page.wait_for_function("window.intruder === undefined")
    page.goto("/personvern")
    assert len(visitors.unexpected) == 2
    visitors.complaints.clear()
