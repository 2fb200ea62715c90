"""Power cuts, lost connections and ended sessions: nothing typed is lost, nothing goes unseen."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from playwright.sync_api import expect
from sqlalchemy import update
from sqlmodel import col

from router.models import Credential
from tests.browser.people import PASSWORD, announced, employ, row, sign_in_quietly, write_in

TYPED = "Vi kommer og ser på det i ettermiddag."


def state(page):
    return page.get_by_role("contentinfo")


def end_sessions(service, person):
    """As if the hours of a session were over."""
    service.write(
        lambda session: session.connection().execute(
            update(Credential)
            .where(col(Credential.staff_id) == person.id)
            .values(expires_at=datetime.now(UTC))
        )
    )


def test_the_queue_page_survives_a_power_cut_of_the_service(visitors, service):
    visitors.expected.append("net::ERR_")
    before = write_in(service)
    page = visitors.staff()
    expect(row(page, before)).to_be_visible()
    expect(state(page)).to_contain_text("Siden oppdateres")
    page.evaluate("window.sameDocument = true")

    service.kill()
    expect(state(page)).to_contain_text("Ingen forbindelse. Det du ser, kan være utdatert siden")
    announced(page, "Ingen forbindelse")
    expect(row(page, before)).to_be_visible()

    service.restart()
    meanwhile = write_in(service)
    expect(row(page, meanwhile)).to_be_visible()
    expect(state(page)).to_contain_text("Siden oppdateres")
    expect(row(page, before)).to_be_visible()
    later = write_in(service)
    expect(row(page, later)).to_be_visible()
    assert page.evaluate("window.sameDocument")


def test_a_reply_typed_in_a_session_that_ended_is_there_after_signing_in(visitors, service, desk):
    person = employ(service, password=PASSWORD)
    ref = desk.open(write_in(service))["ref"]
    page = visitors.staff(person, f"/desk/inquiries/{ref}")
    reply = page.get_by_role("textbox", name="Svar til")
    reply.fill(TYPED)
    end_sessions(service, person)
    page.get_by_role("button", name="Send svar", exact=True).click()

    expect(page.get_by_role("heading", level=1)).to_have_text("Logg inn")
    page.get_by_label("Brukernavn").fill(person.username)
    page.get_by_label("Passord").fill(PASSWORD)
    page.get_by_role("button", name="Logg inn").click()
    expect(page).to_have_url(re.compile("/desk/queue"))
    page.goto(f"/desk/inquiries/{ref}")
    expect(reply).to_have_value(TYPED)
    announced(page, "Utkastet ditt")
    assert desk.read(ref)["reply_state"] == "unanswered"

    page.get_by_role("button", name="Send svar", exact=True).click()
    announced(page, "Svaret er på vei")
    expect(reply).to_have_value("")


def test_a_page_whose_session_has_ended_says_so_and_shows_no_sign_in_form_as_content(
    visitors, service, desk
):
    person = employ(service)
    subject = write_in(service)
    ref = desk.open(subject)["ref"]
    queue = visitors.staff(person)
    inquiry = queue.context.new_page()
    inquiry.goto(f"/desk/inquiries/{ref}")
    inquiry.get_by_role("textbox", name="Notat").fill(TYPED)
    end_sessions(service, person)
    desk.act(ref, "note", text="Ringte, ingen svar.")
    for page in (queue, inquiry):
        expect(state(page)).to_contain_text("Du er logget ut. Logg inn igjen.")
        expect(page.get_by_label("Passord")).to_have_count(0)
    expect(row(queue, subject)).to_be_visible()
    expect(inquiry.get_by_role("textbox", name="Notat")).to_have_value(TYPED)

    # Signed in again in another tab: this one is as it was when it is loaded again.
    sign_in_quietly(service, queue, person)
    inquiry.reload()
    expect(inquiry.get_by_role("textbox", name="Notat")).to_have_value(TYPED)
    inquiry.get_by_role("button", name="Lagre notat").click()
    expect(inquiry.get_by_role("article").filter(has_text=TYPED)).to_be_visible()


def test_signing_out_leaves_no_drafts_for_the_next_person(visitors, service, desk):
    ref = desk.open(write_in(service))["ref"]
    page = visitors.staff(path=f"/desk/inquiries/{ref}")
    page.get_by_role("textbox", name="Svar til").fill(TYPED)
    page.get_by_role("button", name="Logg ut").click()
    announced(page, "Du er logget ut.")
    sign_in_quietly(service, page, employ(service, "Olav Operatør"))
    page.goto(f"/desk/inquiries/{ref}")
    expect(page.get_by_role("textbox", name="Svar til")).to_have_value("")
