"""Chats at the desk: two windows, a resident's and an operator's, and what passes between them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from playwright.sync_api import expect

from router import chat_queue
from tests import service as running
from tests.browser.people import PNG, Visitors, employ, tab_to
from tests.browser.test_accessible import AXE, COLOURS, EVERYTHING, NARROW, SCAN, TOO_WIDE, WIDE
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


def test_what_is_not_so_any_more_is_said_no_longer(visitors, service, desk, siv):
    operator = visitors.staff(siv)
    _person, ref = resident(visitors, desk, unique("Hei"))
    expect(operator.locator("#said")).to_contain_text("1 venter i chatten")
    colleague = visitors.staff(path=f"/desk/chats/{ref}")
    colleague.locator("#talk-head").get_by_role("button", name="Ta den").click()
    expect(operator.locator("#chat-count")).to_be_hidden()
    expect(operator.locator("#said")).not_to_contain_text("venter i chatten")

    # What was done is told once: not again when the page is loaded anew.
    colleague.locator("#pass summary").click()
    colleague.get_by_role("button", name="Sett den tilbake i køen").click()
    notice = colleague.locator("[data-done]")
    expect(notice).to_be_visible()
    assert "done=" not in colleague.url
    colleague.reload()
    expect(notice).to_have_count(0)


def test_who_had_a_chat_hears_that_it_is_an_ordinary_inquiry_now(visitors, service, desk, siv):
    _person, ref = resident(visitors, desk, unique("Hei"))
    operator = visitors.staff(siv, path=f"/desk/chats/{ref}")
    operator.locator("#talk-head").get_by_role("button", name="Ta den").click()
    expect(operator.locator("#talk-head")).to_contain_text("Din")

    def long_ago(session):
        for table, column in (("conversation", "waiting_since"), ("event", "at")):
            session.connection().exec_driver_sql(
                f"UPDATE {table} SET {column} = strftime('%Y-%m-%d %H:%M:%f000', {column},"
                " '-2 hours')"
                " WHERE inquiry_id = (SELECT max(inquiry_id) FROM conversation)"
            )

    service.write(long_ago)
    lists = operator.locator("#chats")
    expect(lists).to_contain_text("Du hadde samtalen og svarte ikke i tide.", timeout=20_000)
    expect(operator.locator("#said")).to_contain_text("er blitt en vanlig henvendelse")
    expect(operator.locator("#talk-state")).to_contain_text("Du hadde samtalen")


def test_the_answer_reaches_who_has_left_and_their_reply_goes_on_in_the_talk(
    visitors, service, desk, siv, smarthost
):
    person, ref = resident(visitors, desk)
    sender = f"{unique('x')[2:]}@eksempel.no"
    service.write(
        lambda session: session.connection().exec_driver_sql(
            "UPDATE conversation SET state = 'deferred' WHERE state = 'waiting'"
        )
    )
    person.get_by_text("Hvor kan vi svare deg?").click()
    person.get_by_label("E-post", exact=True).fill(sender)
    person.get_by_role("button", name="Svar meg der").click()
    expect(person.locator("#link")).to_contain_text("sender vi svaret til")
    operator = visitors.staff(siv, path=f"/desk/chats/{ref}")
    operator.keyboard.press("Escape")
    operator.keyboard.press("c")
    expect(operator.locator("#talk-state")).to_contain_text("har fortsatt siden åpen")
    person.close()
    # Whoever closes the page has left after a while.
    service.write(
        lambda session: session.connection().exec_driver_sql(
            "UPDATE conversation SET listening_until = created_at"
        )
    )
    expect(operator.locator("#talk-state")).to_contain_text(f"på e-post til {sender}")
    send = operator.get_by_role("button", name="Send på e-post")
    field = operator.get_by_label("Meldingen din")
    field.press_sequentially("Biblioteket åpner klokka ti.\n")
    expect(field).to_have_value("Biblioteket åpner klokka ti.\n")  # a letter is not sent by Enter
    send.click()
    expect(operator.locator(".ours .line-mark")).to_have_text("E-post")
    letter = next(one for one in smarthost.first_to(sender, 2) if "Biblioteket åpner" in one.text)
    expect(operator.locator(".ours .mark").last).to_have_text("Sendt")  # without loading anew
    code, _ = service.deliver(
        running.mail("SV: Hei", "Takk! Og søndag?", sender=sender, to=letter["Reply-To"]),
        letter["Reply-To"],
        mail_from=sender,
    )
    assert code == 250
    detail = desk.until_messages(ref, 2)
    assert detail["messages"][-1]["text"].strip() == "Takk! Og søndag?"
    expect(operator.locator(".theirs .said").last).to_have_text("Takk! Og søndag?")
    expect(operator.locator(".theirs .line-mark").last).to_have_text("E-post")


def test_a_talk_is_handed_over_live_and_taken_back(visitors, service, desk, siv):
    ola = employ(service, "Ola Operatør")
    service.write(lambda session: chat_queue.at_desk(session, [siv.id, ola.id], FOR_EVER))
    person, ref = resident(visitors, desk, words := unique("Hei"))
    first = visitors.staff(siv, path="/desk/chats")
    second = visitors.staff(ola)
    first.keyboard.press("n")
    answer(first, "Jeg finner noen som vet")
    expect(person.locator(".theirs .said").last).to_have_text("Jeg finner noen som vet")
    first.keyboard.press("Escape")
    first.keyboard.press("f")
    first.get_by_label("En annen, eller en avdeling").fill("ola")
    first.get_by_label("Notat, bare for ansatte (valgfritt)").fill("Du kan bøker")
    first.keyboard.press("Control+Enter")
    expect(first.get_by_text("Kollegaen din har den nå.")).to_be_visible()
    expect(person.locator(".theirs .said").last).to_have_text(
        "Ola Operatør overtar samtalen og svarer deg her."
    )
    expect(person.locator("#standing")).to_have_text("Du snakker med Ola Operatør.")
    expect(first.locator("#cannot")).to_contain_text("Ola Operatør har denne samtalen.")
    expect(second.locator("#alarm")).to_contain_text("Siv Sentral har overlatt til deg:")
    second.locator("#alarm").get_by_role("link").click()
    expect(second.locator(".note .said")).to_have_text("Du kan bøker")
    expect(second.locator(".theirs .said")).to_have_text(words)
    expect(second.locator("#alarm")).not_to_contain_text("overlatt")

    first.get_by_role("button", name="Ta samtalen tilbake").click()
    expect(first.get_by_text("Du har den igjen.")).to_be_visible()
    expect(second.locator("#cannot")).to_contain_text("Siv Sentral har denne samtalen.")
    expect(second.get_by_role("button", name="Send", exact=True)).to_be_hidden()
    answer(first, "Her er jeg")
    expect(person.locator(".theirs .said").last).to_have_text("Her er jeg")
    expect(second.locator(".ours .said").last).to_have_text("Her er jeg")
    assert desk.read(ref)["assignee"] == siv.username


def test_several_talks_by_keyboard_alone(visitors, service, desk, siv):
    people = [resident(visitors, desk, unique(word)) for word in ("Ein", "To")]
    page = visitors.staff(siv, path="/desk/chats")
    field = page.get_by_label("Meldingen din")
    for number in range(2):
        page.keyboard.press("n")
        expect(page).to_have_url(re.compile(people[number][1]))
        expect(field).to_be_focused()
        page.keyboard.press("Escape")
    # Something new in the other talk is told, counted, and one key away.
    write(people[0][0], "Hallo?")
    expect(page.locator("#said")).to_contain_text("Noe nytt i samtalene dine")
    expect(page).to_have_title(re.compile(r"^\(1\) "))
    expect(page.locator(f"#talk-{people[0][1]}")).to_contain_text("Hallo?")
    page.keyboard.press("1")
    expect(page).to_have_url(re.compile(people[0][1]))
    expect(page.locator(".theirs .said").last).to_have_text("Hallo?")
    expect(people[0][0].locator(".mine .mark").last).to_have_text("Lest")
    expect(page).to_have_title(re.compile(r"^\D"))
    # A ready text: its key, its first letter, Enter; then it is sent.
    expect(field).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.press("x")
    page.keyboard.press("H")
    page.keyboard.press("Enter")
    expect(field).to_be_focused()
    expect(field).to_have_value("Hei! Jeg heter Siv Sentral. Hva kan jeg hjelpe deg med?")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("To linjer")
    page.keyboard.press("Enter")
    heard = people[0][0].locator(".theirs .said").last
    expect(heard).to_contain_text("Jeg heter Siv Sentral.")
    expect(heard).to_contain_text("To linjer")
    # What is half written stays with its talk.
    page.keyboard.type("Halvt")
    page.keyboard.press("Alt+ArrowDown")
    expect(page).to_have_url(re.compile(people[1][1]))
    expect(field).to_have_value("")
    page.keyboard.press("Alt+ArrowUp")
    expect(page).to_have_url(re.compile(people[0][1]))
    expect(field).to_have_value("Halvt")
    page.keyboard.press("Escape")
    page.keyboard.press("l")
    expect(page.get_by_role("button", name="Besvart")).to_be_focused()
    tab_to(page, page.get_by_role("button", name="Innbyggeren sluttet å svare"))
    page.keyboard.press("Enter")
    expect(page.get_by_text("Henvendelsen er lukket.")).to_be_visible()
    expect(people[0][0].locator("#standing")).to_contain_text("Vi har lukket henvendelsen.")
    # Who writes again opens it again, and it waits in the line.
    write(people[0][0], "En ting til")
    expect(page.locator(f"#waits-{people[0][1]}")).to_be_visible()
    expect(people[0][0].locator("#standing")).not_to_contain_text("lukket")


def test_typing_files_and_what_was_sent_on_another_page(visitors, service, desk, siv):
    visitors.expected.append("net::ERR_")
    person, ref = resident(visitors, desk)
    page = visitors.staff(siv, path="/desk/chats")
    page.keyboard.press("n")
    expect(page.locator("#say-keys")).not_to_be_empty()
    person.get_by_label("Meldingen din").press_sequentially("a")
    expect(page.locator("#typing")).to_be_visible()
    page.get_by_label("Meldingen din").press_sequentially("b")
    expect(person.locator("#typing")).to_contain_text("skriver …")
    page.get_by_label("Filer (valgfritt)").set_input_files(
        {"name": "kart.png", "mimeType": "image/png", "buffer": PNG}
    )
    answer(page, "Her er kartet")
    expect(page.locator(".ours .file a")).to_have_text("kart.png")
    with person.expect_download() as download:
        person.locator(".theirs .file a").click()
    assert download.value.path().read_bytes() == PNG
    # What is on its way is sent from whatever page of the talks is open next.
    page.route("**/messages", lambda route: route.abort())
    answer(page, "Skrevet uten linje")
    expect(page.locator(".unsent")).to_have_count(1)
    page.unroute("**/messages")
    page.reload()
    expect(person.locator(".theirs .said").last).to_have_text("Skrevet uten linje")
    expect(page.locator(".unsent")).to_have_count(0)
    assert spoken(page).count("Skrevet uten linje") == 1
    assert [one["text"] for one in desk.read(ref)["messages"]].count("Skrevet uten linje") == 1


def test_an_answer_whose_receipt_was_lost_stands_once(visitors, desk, siv):
    visitors.expected.append("net::ERR_")
    person, _ref = resident(visitors, desk)
    page = visitors.staff(siv, path="/desk/chats")
    page.keyboard.press("n")
    lost = []

    def lose(route):
        if lost:
            route.continue_()
            return
        lost.append(route.fetch())
        route.abort()

    page.route("**/messages", lose)
    answer(page, "Sendt to ganger")
    expect(page.locator(".unsent")).to_have_count(0)
    expect(person.locator(".theirs .said")).to_have_text(["Sendt to ganger"])
    assert [one.status for one in lost] == [200]
    assert spoken(page).count("Sendt to ganger") == 1


def test_whoever_is_moved_to_another_department_stops_hearing(visitors, service, desk, siv):
    vera = employ(service, "Vera Vei", "member", "vei")
    person, ref = resident(visitors, desk, unique("Det er et stort hull i veien"))
    assert desk.read(ref)["department"] == "vei"
    page = visitors.staff(vera, path=f"/desk/chats/{ref}")
    write(person, "Er noen der?")
    expect(page.locator(".theirs .said").last).to_have_text("Er noen der?")
    desk.act(ref, "transfer", department="skole")
    write(person, "Hemmelig for Vei")
    expect(person.locator(".mine .mark").last).to_have_text("Sendt")
    other = visitors.staff(employ(service, "Bo Skole", "member", "skole"), f"/desk/chats/{ref}")
    expect(other.locator(".theirs .said").last).to_have_text("Hemmelig for Vei")
    expect(page.locator(".said").filter(has_text="Hemmelig for Vei")).to_have_count(0)


@pytest.fixture
def everything(visitors, service, desk, siv):
    """A page that shows all that a talk at the desk can show; the tool that looks through it needs
    what the strict policy forbids."""
    other = employ(service, "Ola Operatør med et ganske langt navn")
    service.write(lambda session: chat_queue.at_desk(session, [siv.id, other.id], FOR_EVER))
    people = [resident(visitors, desk, f"{unique('Hei')} {'langtord' * 6}") for _ in range(3)]
    page = visitors.staff(siv, path="/desk/chats", bypass_csp=True)
    for _person, ref in people[:2]:
        page.keyboard.press("n")
        expect(page).to_have_url(re.compile(ref))
        expect(page.get_by_label("Meldingen din")).to_be_focused()
        page.keyboard.press("Escape")
    answer(page, f"Se https://www.sorum.example/{'x' * 80}")
    person, ref = people[1]
    expect(person.locator(".theirs .said")).to_have_count(1)
    person.get_by_label("Legg ved filer").set_input_files(
        {"name": "et-bilde-med-et-langt-navn.png", "mimeType": "image/png", "buffer": PNG}
    )
    write(person, "Nå sender jeg et bilde")
    desk.act(ref, "note", text="Har ringt veivakta.")
    write(people[0][0], "Hallo?")
    expect(page.locator(".line.note")).to_be_visible()
    expect(page.locator(".talk-line.unread:not([aria-current])")).to_be_visible()
    page.evaluate("for (const part of document.querySelectorAll('#talk details')) part.open = true")
    return page


def test_axe_finds_nothing_and_nothing_sticks_out(everything):
    page = everything
    page.evaluate(AXE.read_text(encoding="utf-8"))
    faults = []
    for size in (WIDE, NARROW):
        page.set_viewport_size(size)
        for scheme, rules in (("light", EVERYTHING), ("dark", COLOURS)):
            page.emulate_media(color_scheme=scheme)
            faults += [f"{scheme}, {size}: {one}" for one in page.evaluate(SCAN, rules)]
        faults += [f"sticks out at {size}: {one}" for one in page.evaluate(TOO_WIDE)]
    page.emulate_media(color_scheme="light", forced_colors="active")
    faults += page.evaluate(SCAN, EVERYTHING)
    current = page.locator(".talk-line[aria-current]")
    assert current.evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
    assert faults == []
    page.goto("/desk/chats")
    page.evaluate(AXE.read_text(encoding="utf-8"))
    assert page.evaluate(SCAN, EVERYTHING) == []
