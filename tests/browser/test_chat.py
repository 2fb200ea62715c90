"""The chat as residents meet it: on our page and on a foreign one, by hand and by keyboard, with
and without a line."""

from __future__ import annotations

import gzip
import re
from datetime import UTC, datetime

import pytest
from playwright.sync_api import expect

from router import chat_queue
from router.web.render import STATIC
from tests import service as running
from tests.browser.elsewhere import site
from tests.browser.people import EMERGENCY, PNG, Visitors, employ, tab_to
from tests.browser.test_accessible import (
    AXE,
    COLOURS,
    EVERYTHING,
    NARROW,
    SCAN,
    SYNTHETIC_NUMBER,
    TOO_WIDE,
    WIDE,
    ZOOMED,
)
from tests.service import unique, wait_until

CHAT_PAGE = (STATIC / "chat-page.js").read_text(encoding="utf-8")
VERY_ZOOMED = {"width": 320, "height": 256}
"""1280 × 1024 at 400 %."""


@pytest.fixture(scope="module")
def elsewhere():
    with site() as opened:
        yield opened


@pytest.fixture(scope="module")
def service(smarthost, elsewhere, tmp_path_factory):
    settings = {
        "CHANNELS__CHAT__HOURS__MON-SUN": "00:00-24:00",
        "CHANNELS__CHAT__EMBED_ON": elsewhere.url,
        "CHANNELS__CHAT__CONVERSATIONS_PER_HOUR": "1000",
    }
    folder = tmp_path_factory.mktemp("chat")
    with running.service(folder, smarthost.port, **settings) as opened:
        elsewhere.chat = opened.url
        yield opened


@pytest.fixture(scope="module")
def desk(service):
    return running.Desk(service.api())


@pytest.fixture(scope="module")
def siv(service):
    return employ(service)


@pytest.fixture(autouse=True)
def _somebody_is_there(service, siv):
    """As if a page of the desk were open all the time."""
    service.write(
        lambda session: chat_queue.at_desk(session, [siv.id], datetime(2099, 1, 1, tzinfo=UTC))
    )


@pytest.fixture
def visitors(browser, service):
    opened = Visitors(browser, service)
    yield opened
    opened.close()
    assert opened.unexpected == []


def write(page, text):
    page.get_by_label("Meldingen din").fill(text)
    page.keyboard.press("Enter")


def said(page):
    """The words of the conversation as they are seen, in order."""
    return page.locator("#lines .said").all_inner_texts()


def begin(page, desk, text=""):
    """Say something; returns the inquiry that it became."""
    words = text or unique("Hei")
    write(page, words)
    expect(page.locator(".mine[data-id]").last).to_contain_text(words)
    return desk.open(words)["ref"]


def test_a_talk_of_twenty_messages_both_ways(visitors, desk):
    page = visitors.resident()
    page.goto("/chat")
    expect(page.get_by_role("status").first).to_contain_text("Vi er her nå.")
    ref = begin(page, desk, first := unique("Hei"))
    expect(page.locator("#standing")).to_have_text("Du er neste. Noen svarer snart.")
    words = [first]
    for number in range(10):
        answer = f"Svar {number}"
        desk.act(ref, "reply", text=answer)
        expect(page.locator(".theirs").last).to_contain_text(answer)
        write(page, f"Spørsmål {number}")
        words += [answer, f"Spørsmål {number}"]
        desk.until_messages(ref, number + 2)
    expect(page.locator(".mine[data-id]")).to_have_count(11)
    assert said(page) == words
    page.reload()
    assert said(page) == words
    tab = page.context.new_page()
    tab.goto("/chat")
    assert said(tab) == words
    write(tab, "Fra en annen fane")
    for one in (page, tab):
        expect(one.locator(".said").filter(has_text="Fra en annen fane")).to_have_count(1)
    write(page, "Og tilbake")
    expect(tab.locator(".said").filter(has_text="Og tilbake")).to_have_count(1)


def test_the_service_is_killed_in_the_middle_of_a_talk(visitors, service, desk):
    visitors.expected.append("net::ERR_")
    page = visitors.resident()
    page.goto("/chat")
    ref = begin(page, desk, first := unique("Hei"))
    desk.act(ref, "reply", text="Før")
    expect(page.locator(".theirs").last).to_contain_text("Før")
    page.evaluate("window.sameDocument = true")

    page.get_by_label("Meldingen din").fill("Jeg skriver ennå")
    service.kill()
    write(page, "Sagt mens alt var nede")
    expect(page.locator("#link")).to_contain_text("Ingen forbindelse")
    expect(page.locator(".unsent .mark")).to_have_text("Ikke sendt ennå. Vi prøver videre.")
    page.get_by_label("Meldingen din").fill("Halvskrevet")

    service.restart()
    expect(page.locator(".unsent")).to_have_count(0)
    desk.act(ref, "reply", text="Etter")
    expect(page.locator(".theirs").last).to_contain_text("Etter")
    expect(page.get_by_label("Meldingen din")).to_have_value("Halvskrevet")
    page.keyboard.press("Enter")
    expect(page.locator(".mine[data-id]")).to_have_count(3)
    words = [first, "Før", "Sagt mens alt var nede", "Etter", "Halvskrevet"]
    assert sorted(said(page)) == sorted(words)
    assert page.evaluate("window.sameDocument")
    page.reload()
    assert said(page) == words
    texts = [message["text"] for message in desk.read(ref)["messages"]]
    assert texts == words


def test_a_line_that_comes_and_goes_loses_and_doubles_nothing(visitors, desk):
    visitors.expected.append("net::ERR_")
    page = visitors.resident()
    page.goto("/chat")
    ref = begin(page, desk, first := unique("Hei"))
    page.context.set_offline(True)
    write(page, "Uten linje")
    write(page, "Fortsatt uten")
    desk.act(ref, "reply", text="Sagt imens")
    expect(page.locator(".unsent")).to_have_count(2)
    page.context.set_offline(False)
    expect(page.locator(".unsent")).to_have_count(0)
    expect(page.locator(".theirs").last).to_contain_text("Sagt imens")
    page.reload()
    assert sorted(said(page)) == sorted([first, "Uten linje", "Fortsatt uten", "Sagt imens"])
    assert said(page).index("Uten linje") < said(page).index("Fortsatt uten")


def test_an_answer_that_was_lost_on_the_way_is_asked_for_again(visitors, desk):
    """The service has the message, and the browser does not know: it sends it once more."""
    visitors.expected.append("net::ERR_")
    page = visitors.resident()
    page.goto("/chat")
    ref = begin(page, desk, first := unique("Hei"))
    lost = []

    def lose(route):
        if lost:
            route.continue_()
            return
        lost.append(route.fetch())
        route.abort()

    page.route("**/messages", lose)
    write(page, "Sendt to ganger")
    expect(page.locator(".unsent")).to_have_count(0)
    assert [answer.status for answer in lost] == [201]
    assert said(page) == [first, "Sendt to ganger"]
    desk.until_messages(ref, 2)
    assert len(desk.read(ref)["messages"]) == 2


def test_what_was_on_its_way_outlives_a_reload(visitors, desk):
    visitors.expected.append("net::ERR_")
    page = visitors.resident()
    page.goto("/chat")
    ref = begin(page, desk, first := unique("Hei"))
    page.route("**/messages", lambda route: route.abort())
    write(page, "Skrevet uten linje")
    expect(page.locator(".unsent")).to_have_count(1)
    page.get_by_label("Meldingen din").fill("Et utkast")
    page.unroute("**/messages")
    page.reload()
    expect(page.get_by_label("Meldingen din")).to_have_value("Et utkast")
    desk.until_messages(ref, 2)
    expect(page.locator(".unsent")).to_have_count(0)
    assert said(page) == [first, "Skrevet uten linje"]


def test_without_a_stream_the_page_asks_from_time_to_time(visitors, desk):
    visitors.expected += ["net::ERR_", "EventSource"]
    page = visitors.resident()
    page.route("**/events*", lambda route: route.fulfill(status=502, body="Bad gateway"))
    visitors.expected.append("status of 502")
    page.goto("/chat")
    ref = begin(page, desk)
    desk.act(ref, "reply", text="Kommer fram likevel")
    expect(page.locator(".theirs").last).to_contain_text("Kommer fram likevel")


def test_who_waits_in_vain_leaves_an_address_and_is_answered_there(
    visitors, service, desk, smarthost, siv
):
    service.write(
        lambda session: chat_queue.at_desk(session, [siv.id], datetime(2000, 1, 1, tzinfo=UTC))
    )
    page = visitors.resident()
    page.goto("/chat")
    expect(page.locator("#standing")).to_contain_text("Ingen er i chatten akkurat nå.")
    ref = begin(page, desk)
    expect(page.locator(".kind-receipt")).to_contain_text(ref)
    expect(page.locator(".kind-receipt")).to_contain_text("Du får svar senest")
    page.get_by_text("Hvor kan vi svare deg?").click()
    sender = f"{unique('x')[2:]}@eksempel.no"
    page.get_by_label("E-post", exact=True).fill("feil")
    page.get_by_role("button", name="Svar meg der").click()
    box = page.get_by_label("E-post", exact=True)
    expect(box).to_be_focused()
    expect(box).to_have_attribute("aria-invalid", "true")
    expect(box).to_have_accessible_description(re.compile("ser ikke riktig ut"))
    expect(page.locator("#link")).to_be_empty()
    first = f"{unique('k')[2:]}@eksempel.no"
    box.fill(first)
    page.get_by_role("button", name="Svar meg der").click()
    expect(page.locator("#link")).to_contain_text(f"sender vi svaret til {first}.")
    expect(page.locator("#link")).to_have_attribute("data-tone", "good")
    expect(page.get_by_label("Meldingen din")).to_be_focused()
    [receipt] = smarthost.first_to(first)
    assert receipt.ref == ref
    page.reload()
    reach = page.locator("#reach")
    expect(reach).to_have_text(f"Er du ikke her når vi svarer, sender vi svaret til {first}.")
    page.get_by_text("Endre hvor vi svarer deg").click()
    expect(box).to_have_value(first)
    expect(box).not_to_have_attribute("aria-invalid", "true")
    box.fill(sender)
    page.get_by_role("button", name="Svar meg der").click()
    expect(reach).to_contain_text(sender)
    page.close()
    # A page that is closed counts as such after a while.
    service.write(
        lambda session: session.connection().exec_driver_sql(
            "UPDATE conversation SET listening_until = created_at"
        )
    )
    desk.act(ref, "reply", text="Her er svaret.")
    [answer] = smarthost.first_to(sender)
    assert "Her er svaret." in answer.text
    code, _ = service.deliver(
        running.mail("SV: Hei", "Takk!", sender=sender, to=answer["Reply-To"]),
        answer["Reply-To"],
        mail_from=sender,
    )
    assert code == 250
    detail = desk.until_messages(ref, 2)
    assert detail["messages"][-1]["text"].strip() == "Takk!"


def test_who_may_open_no_conversation_reads_what_to_do_and_keeps_their_words(
    browser, smarthost, tmp_path
):
    with running.service(
        tmp_path,
        smarthost.port,
        CHANNELS__CHAT__CONVERSATIONS_PER_HOUR="1",
    ) as crowded:
        visitors = Visitors(browser, crowded)
        visitors.expected.append("429")
        first = visitors.resident()
        first.goto("/chat")
        write(first, "Jeg var her først")
        expect(first.locator(".mine[data-id]")).to_have_count(1)
        page = visitors.resident()
        page.goto("/chat")
        write(page, "Hva koster en barnehageplass?")
        notice = page.locator("#link")
        expect(notice).to_contain_text("Meldingen er ikke sendt")
        expect(notice).to_contain_text(re.compile(r"Prøv igjen klokka \d\d[.:]\d\d\."))
        expect(page.get_by_label("Meldingen din")).to_have_value("Hva koster en barnehageplass?")
        expect(page.get_by_text("Sender …")).to_have_count(0)
        assert said(page) == []
        page.reload()
        expect(page.get_by_label("Meldingen din")).to_have_value("Hva koster en barnehageplass?")
        page.get_by_role("button", name="Send", exact=True).click()
        page.get_by_role("link", name="Skriv heller til oss med skjemaet").click()
        expect(page.get_by_role("button", name="Send")).to_be_visible()
        plain = visitors.resident(java_script_enabled=False)
        plain.goto("/chat")
        plain.get_by_label("Meldingen din").fill("Uten skript")
        plain.get_by_role("button", name="Send", exact=True).click()
        expect(plain.get_by_role("alert")).to_contain_text("Prøv igjen klokka")
        expect(plain.get_by_role("alert").get_by_role("link")).to_have_attribute("href", "/")
        expect(plain.get_by_label("Meldingen din")).to_have_value("Uten skript")
        visitors.close()
        assert visitors.unexpected == []


def test_a_national_number_is_asked_about_before_it_leaves_the_browser(visitors, desk):
    page = visitors.resident()
    sent = []
    page.on("request", lambda request: sent.append(request.post_data or ""))
    page.goto("/chat")
    write(page, f"{unique('Nummer')} {SYNTHETIC_NUMBER}")
    change = page.get_by_role("button", name="Endre meldingen")
    expect(change).to_be_focused()
    assert not any(SYNTHETIC_NUMBER in data for data in sent)
    page.keyboard.press("Enter")
    expect(page.get_by_label("Meldingen din")).to_be_focused()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Send likevel").click()
    expect(page.locator(".mine[data-id]")).to_contain_text(SYNTHETIC_NUMBER)


def test_the_service_asks_where_the_page_did_not(visitors, desk):
    """An older page, or one that somebody changed."""
    page = visitors.resident()
    page.route(
        "**/chat-page.js*",
        lambda route: route.fulfill(
            body=CHAT_PAGE.replace("!confirmed && looksNational(text)", "false"),
            content_type="text/javascript",
        ),
    )
    visitors.expected.append("integrity")
    page.goto("/chat")
    write(page, f"Mitt nummer er {SYNTHETIC_NUMBER}")
    expect(page.get_by_role("button", name="Send likevel")).to_be_visible()
    expect(page.locator(".mine")).to_have_count(0)
    page.get_by_role("button", name="Send likevel").click()
    expect(page.locator(".mine[data-id]")).to_have_count(1)


def test_files_emoji_and_links(visitors, desk):
    page = visitors.resident()
    page.goto("/chat")
    ref = begin(page, desk)
    page.get_by_label("Legg ved filer").set_input_files(
        [{"name": f"bilde {n}.png", "mimeType": "image/png", "buffer": PNG} for n in range(2)]
    )
    page.get_by_role("button", name="Fjern bilde 0.png").click()
    expect(page.get_by_label("Meldingen din")).to_be_focused()
    page.get_by_label("Emoji").click()
    page.get_by_role("button", name="tommel opp").click()
    page.keyboard.press("Enter")
    last = page.locator(".mine[data-id]").last
    expect(last.locator(".file a")).to_have_text("bilde 1.png")
    expect(last.locator(".said.large")).to_have_text("👍")
    with page.expect_download() as download:
        last.locator(".file a").click()
    assert download.value.path().read_bytes() == PNG
    desk.act(ref, "reply", text="Se https://sorum.example/a?b=<c>, <b>ikke</b> javascript:alert(1)")
    answer = page.locator(".theirs.kind-reply").last
    link = answer.get_by_role("link")
    expect(link).to_have_count(1)
    expect(link).to_have_attribute("href", "https://sorum.example/a?b=")
    expect(link).to_have_attribute("rel", "noopener noreferrer nofollow")
    assert answer.locator("b").count() == 0
    page.get_by_label("Legg ved filer").set_input_files(
        {"name": "stor.pdf", "mimeType": "application/pdf", "buffer": b"x" * 10_000_001}
    )
    expect(page.locator("#link")).to_contain_text("større enn 10 MB")
    page.get_by_label("Legg ved filer").set_input_files(
        {"name": "virus.exe", "mimeType": "image/png", "buffer": b"MZ" + bytes(100)}
    )
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.locator("#link")).to_contain_text("ingen andre filer")


def test_typing_and_reading_are_seen_on_the_other_side(visitors, desk, service):
    page = visitors.resident()
    page.goto("/chat")
    ref = begin(page, desk)
    expect(page.locator(".mine .mark")).to_have_text("Sendt")
    number = desk.read(ref)["messages"][0]["id"]
    answer = desk.api.post(f"/api/inquiries/{ref}/chat/read", json={"message_id": number})
    assert answer.status_code == 204
    expect(page.locator(".mine .mark")).to_have_text("Lest")
    desk.api.post(f"/api/inquiries/{ref}/chat/typing")
    expect(page.locator("#typing")).to_contain_text("skriver …")
    desk.act(ref, "reply", text="Hei!")
    expect(page.locator("#typing")).to_be_hidden()
    number = desk.read(ref)["messages"][-1]["id"]
    wait_until(
        lambda: desk.api.get(f"/api/inquiries/{ref}/chat").json()["resident_read"] == number,
        "the answer is marked as read",
    )


def test_what_was_said_last_stays_in_view_when_there_is_less_room(visitors, desk):
    page = visitors.resident(viewport={"width": 1280, "height": 900})
    page.goto("/chat")
    ref = begin(page, desk)
    for number in range(4):
        desk.act(ref, "reply", text=f"Svar {number}")
        expect(page.locator(".theirs")).to_have_count(number + 1)
    high = page.locator("#log").bounding_box()["height"]
    page.set_viewport_size({"width": 1280, "height": 620})
    wait_until(lambda: page.locator("#log").bounding_box()["height"] < high)
    expect(page.locator(".theirs").last).to_be_in_viewport(ratio=0.95)


@pytest.mark.parametrize(
    ("size", "least"),
    [({"width": 320, "height": 568}, 90), ({"width": 1280, "height": 800}, 300)],
)
@pytest.mark.parametrize("where", ["/chat", "/chat?embed=1"])
def test_the_field_is_in_view_below_a_long_talk(visitors, desk, size, least, where):
    page = visitors.resident(viewport=size)
    page.goto(where)
    begin(page, desk)
    for number in range(4):
        write(page, f"Melding {number}: " + "Når blir veien vår brøytet? " * 4)
        expect(page.locator(".mine[data-id]")).to_have_count(number + 2)
    page.goto(where)
    expect(page.get_by_label("Meldingen din")).to_be_in_viewport(ratio=1)
    expect(page.get_by_role("button", name="Send", exact=True)).to_be_in_viewport(ratio=1)
    expect(page.locator(".mine").last.locator(".mark")).to_be_in_viewport()
    box = page.get_by_role("log").bounding_box()
    assert box
    assert box["height"] >= least


def test_an_emergency_is_answered_at_once_with_numbers_to_call(visitors):
    page = visitors.resident()
    page.goto("/chat")
    write(page, f"{EMERGENCY} {unique('Brann')}")
    answer = page.locator(".kind-emergency")
    expect(answer.get_by_role("link", name="110")).to_have_attribute("href", "tel:110")
    expect(answer.get_by_role("link", name="116 117")).to_have_attribute("href", "tel:116117")


def test_the_end_and_a_new_beginning(visitors, desk):
    page = visitors.resident()
    page.goto("/chat")
    ref = begin(page, desk)
    page.get_by_text("Flere valg").click()
    page.get_by_role("button", name="Avslutt samtalen").click()
    again = page.get_by_role("link", name="Start en ny samtale")
    expect(again).to_be_focused()
    expect(page.locator("#standing")).to_have_text("Samtalen er avsluttet.")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Meldingen din")).to_be_visible()
    assert said(page) == []
    other = begin(page, desk)
    assert other != ref
    assert desk.read(ref)["status"] == "open"


def test_a_conversation_that_ran_out_goes_on_as_a_new_one_without_a_word_lost(
    visitors, desk, service
):
    page = visitors.resident()
    page.goto("/chat")
    ref = begin(page, desk)
    service.write(
        lambda session: session.connection().exec_driver_sql(
            "UPDATE conversation SET expires_at = created_at"
        )
    )
    other = begin(page, desk)
    assert other != ref
    expect(page.locator(".parting")).to_contain_text("Dette er en ny.")


def test_the_keyboard_is_enough(visitors, desk):
    page = visitors.resident()
    page.goto("/chat")
    field = page.get_by_label("Meldingen din")
    tab_to(page, field)
    text = unique("Hei")
    page.keyboard.type(text)
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("andre linje")
    page.keyboard.press("Enter")
    expect(page.locator(".mine[data-id] .said")).to_have_text(f"{text}\nandre linje")
    expect(field).to_be_focused()
    ref = desk.open(text)["ref"]
    desk.act(ref, "reply", text="Hei!")
    expect(page.locator(".theirs").last).to_contain_text("Hei!")
    expect(field).to_be_focused()  # nothing takes the focus away
    order = []
    page.keyboard.press("Shift+Tab")
    for _ in range(7):
        order.append(
            page.evaluate(
                "(document.activeElement.id || document.activeElement.className"
                " || document.activeElement.tagName)"
            )
        )
        page.keyboard.press("Tab")
    assert order[:6] == ["log", "text", "files", "SUMMARY", "ds-button send", "SUMMARY"]
    tab_to(page, page.get_by_label("Emoji"))
    page.keyboard.press("Enter")
    tab_to(page, page.get_by_role("button", name="takk", exact=True))
    page.keyboard.press("Escape")
    expect(page.locator("#emoji")).not_to_have_attribute("open", "")
    expect(page.get_by_label("Emoji")).to_be_focused()


def test_the_widget_on_a_foreign_page_with_a_strict_policy(visitors, desk, elsewhere):
    page = visitors.resident()
    page.goto(elsewhere.url)
    assert page.frames == [page.main_frame]  # nothing is loaded before somebody asks for it
    opener = page.get_by_role("button", name="Chat med oss")
    for _ in range(3):  # two links come before it
        page.keyboard.press("Tab")
    expect(opener).to_be_focused()
    page.keyboard.press("Enter")
    frame = page.frame_locator("iframe")
    field = frame.get_by_label("Meldingen din")
    expect(field).to_be_focused()
    text = unique("Hei")
    page.keyboard.type(text)
    page.keyboard.press("Enter")
    expect(frame.locator(".mine[data-id]")).to_contain_text(text)
    ref = desk.open(text)["ref"]

    faults = []
    for inside in page.frames:
        inside.evaluate(AXE.read_text(encoding="utf-8")) if inside != page.main_frame else None
    faults += page.frames[1].evaluate(SCAN, EVERYTHING)
    assert faults == []

    page.keyboard.press("Escape")
    expect(opener).to_be_focused()
    desk.act(ref, "reply", text="Er du der?")
    expect(page.get_by_role("button", name="Chat med oss (1 ny melding)")).to_be_visible()
    page.keyboard.press("Enter")
    expect(frame.locator(".theirs").last).to_contain_text("Er du der?")
    expect(field).to_be_focused()

    page.get_by_role("link", name="En annen side").click()
    expect(page).to_have_title("Sørum kommune /to")
    expect(frame.locator(".said")).to_have_text([text, "Er du der?"])  # still open, still there
    expect(page.get_by_role("button", name="Lukk chatten")).not_to_be_focused()
    page.get_by_role("button", name="Lukk chatten").click()
    expect(page.get_by_role("button", name="Chat med oss")).to_be_focused()
    page.reload()
    assert page.locator("iframe").count() == 0
    cookies = page.context.cookies()
    assert [(c["name"], c["path"], c["httpOnly"]) for c in cookies] == [
        ("sentralbord-chat", "/chat", True)
    ]


def test_axe_looks_through_the_foreign_page_with_the_widget(browser, visitors, elsewhere):
    """The tool itself needs what the strict policy forbids, so it is lifted for it alone."""
    page = visitors.resident(bypass_csp=True)
    page.goto(elsewhere.url)
    faults = []
    for name in ("closed", "open"):
        if name == "open":
            page.get_by_role("button", name="Chat med oss").click()
            expect(page.frame_locator("iframe").get_by_label("Meldingen din")).to_be_visible()
        for frame in page.frames:
            frame.evaluate(AXE.read_text(encoding="utf-8"))
        for size in (WIDE, NARROW):
            page.set_viewport_size(size)
            for scheme, rules in (("light", EVERYTHING), ("dark", COLOURS)):
                page.emulate_media(color_scheme=scheme)
                faults += [f"{name}: {one}" for one in page.evaluate(SCAN, rules)]
    assert faults == []


def test_a_page_that_is_not_named_cannot_frame_the_chat(visitors, service):
    visitors.expected += ["frame-ancestors", "Refused to frame", "net::ERR_", "Framing"]
    with site() as stranger:
        stranger.chat = service.url
        page = visitors.resident()
        page.goto(stranger.url)
        page.get_by_role("button", name="Chat med oss").click()
        wait_until(lambda: len(page.frames) == 2)
        page.wait_for_load_state()
        assert page.frames[1].locator("#text").count() == 0
        expect(page.get_by_text("Chatten kan ikke vises på denne siden.")).to_be_visible()
        way = page.get_by_role("link", name="Åpne chatten i en ny fane")
        with page.context.expect_page() as opened:
            way.click()
        expect(opened.value.get_by_label("Meldingen din")).to_be_visible()


def test_the_whole_talk_without_script(visitors, desk):
    page = visitors.resident(java_script_enabled=False)
    page.goto("/chat")
    text = unique("Uten skript")
    page.get_by_label("Meldingen din").fill(text)
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.locator(".said")).to_have_text([text])
    ref = desk.open(text)["ref"]
    desk.act(ref, "reply", text="Hei!")
    page.get_by_role("link", name="Se etter nye meldinger").click()
    expect(page.locator(".said")).to_have_text([text, "Hei!"])
    page.get_by_label("Meldingen din").fill(f"Jeg er {SYNTHETIC_NUMBER}")
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("fødselsnummer")
    expect(page.get_by_label("Meldingen din")).to_have_value(f"Jeg er {SYNTHETIC_NUMBER}")
    page.get_by_label("Ja, send likevel").check()
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.locator(".said").last).to_contain_text(SYNTHETIC_NUMBER)


@pytest.fixture(scope="module")
def full(browser, service, desk):
    """A page that shows everything a conversation can show."""
    opened = Visitors(browser, service)
    page = opened.resident(reduced_motion="reduce")
    page.goto("/chat")
    words = unique("Alt")
    write(page, f"{words}: {EMERGENCY} Se https://www.sorum.example/en/lang/adresse?{'x' * 80}")
    expect(page.locator(".kind-emergency")).to_be_visible()
    desk.act(desk.open(words)["ref"], "reply", text="Ring 110!")
    page.get_by_label("Legg ved filer").set_input_files(
        {"name": "Et-bilde-med-et-langt-navn.png", "mimeType": "image/png", "buffer": PNG}
    )
    write(page, "Nå sender jeg et bilde")
    expect(page.locator(".mine[data-id]")).to_have_count(2)
    page.get_by_label("Legg ved filer").set_input_files(
        {"name": "enda-et.png", "mimeType": "image/png", "buffer": PNG}
    )
    page.evaluate(
        "for (const part of document.querySelectorAll('details:not(.emoji), #address'))"
        " { part.hidden = false; part.open = true; }"
    )
    yield page
    opened.close()


@pytest.mark.parametrize("where", ["", "?embed=1"])
def test_axe_finds_nothing_and_nothing_sticks_out(full, where):
    page = full
    if where:
        page.goto(f"/chat{where}")
        page.evaluate(
            "for (const part of document.querySelectorAll('details:not(.emoji)')) part.open = true"
        )
    page.evaluate(AXE.read_text(encoding="utf-8"))
    faults = []
    for size in (WIDE, NARROW):
        page.set_viewport_size(size)
        for scheme, rules in (("light", EVERYTHING), ("dark", COLOURS)):
            page.emulate_media(color_scheme=scheme)
            faults += [f"{scheme}, {size}: {one}" for one in page.evaluate(SCAN, rules)]
    page.emulate_media(color_scheme="light")
    for size in (NARROW, ZOOMED, VERY_ZOOMED):
        page.set_viewport_size(size)
        faults += [f"sticks out at {size}: {one}" for one in page.evaluate(TOO_WIDE)]
        # What is focused can be brought into view whatever the size (WCAG 2.4.11).
        page.evaluate("document.activeElement.blur()")
        page.get_by_label("Meldingen din").focus()
        box = page.get_by_label("Meldingen din").bounding_box()
        assert box
        assert box["y"] < size["height"], size
    assert faults == []


def test_the_log_is_announced_and_targets_are_large_enough(full):
    page = full
    page.goto("/chat")
    page.set_viewport_size(NARROW)
    log = page.get_by_role("log")
    expect(log).to_have_attribute("aria-live", "polite")
    small = page.evaluate("""() => [...document.querySelectorAll("button, summary, input")]
      .filter((e) => e.checkVisibility() && e.type !== "file")
      .map((e) => [e.outerHTML.slice(0, 80), e.getBoundingClientRect()])
      .filter(([, box]) => box.width < 24 || box.height < 24).map(([html]) => html)""")
    assert small == []


def test_all_scripts_of_the_chat_together_are_small():
    together = sum(
        len(gzip.compress((STATIC / name).read_bytes(), 9))
        for name in ("chat.js", "chat-page.js", "chat.css")
    )
    assert together < 20_000
    for name in ("chat.js", "chat-page.js"):
        source = (STATIC / name).read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|\beval\b", source)
