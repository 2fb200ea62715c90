"""Every page as axe-core, narrow screens, zoom, dark rooms and forced colours see it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect
from sqlalchemy import update

from channels.base import RawArrival
from router import journal, merging
from router.access import Actor
from router.models import ContactAddress, Role
from tests.browser.people import (
    EMERGENCY,
    PASSWORD,
    Person,
    Visitors,
    employ,
    formatted_mail,
    mark,
    row,
    set_aside,
    tab_to,
    write_in,
)
from tests.service import REPOSITORY, unique, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Page

AXE = REPOSITORY / "node_modules/axe-core/axe.min.js"
EVERYTHING = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
COLOURS = ["color-contrast", "link-in-text-block"]
SCAN = """async (runOnly) => {
  await new Promise(requestAnimationFrame);
  const { violations } = await axe.run({ runOnly, resultTypes: ["violations"] });
  return violations.flatMap((rule) => rule.nodes.map(
    (node) => `${rule.id}: ${node.target.join(" ")}: ${node.failureSummary}`));
}"""
TOO_WIDE = """() => {
  const page = document.documentElement;
  if (page.scrollWidth <= page.clientWidth) return [];
  return [...document.querySelectorAll("body *")]
    .filter((element) => element.getBoundingClientRect().right > page.clientWidth)
    .map((element) => element.outerHTML.slice(0, 100)).slice(0, 5);
}"""
WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 320, "height": 640}
ZOOMED = {"width": 640, "height": 400}
"""1280 × 800 at 200 %."""

SYNTHETIC_NUMBER = "018180 00010"
"""Has the check digits of a fødselsnummer, and a month that nobody is born in."""


@dataclass(frozen=True)
class House:
    """One of everything that a page can show."""

    siv: Person
    vera: Person
    places: dict[str, str]
    """What can stand in braces in an address below."""


@pytest.fixture(scope="module")
def house(service, desk, smarthost):
    siv = employ(service, password=PASSWORD)
    sender = f"{unique('x')[2:]}@eksempel.no"
    places = {
        name: desk.open(write_in(service, *contact, sender=sender if name == "answered" else ""))[
            "ref"
        ]
        for name, contact in {
            "free": (unique("Kommunestyrerepresentantskapsmøteinnkallingsfrist" * 2),),
            "held": (),
            "mine": (unique("Om meg"), f"Mitt nummer er {SYNTHETIC_NUMBER}."),
            "answered": (),
            "stuck": (),
            "waste": (unique("Søppel"), "Søppelkassen vår er ikke tømt på tre uker."),
            "emergency": (unique("Brann"), EMERGENCY),
        }.items()
    }
    wait_until(lambda: not service.read("SELECT 1 FROM outbox WHERE state = 'queued'"), "receipts")
    desk.act(places["held"], "claim")
    desk.act(places["answered"], "reply", text="Det er fikset nå.", close=True)
    [receipt, _] = smarthost.first_to(sender, 2)
    [places["status"]] = re.findall(r"/status/(\S+)", receipt.text)
    smarthost.drop("CONTENT")
    desk.act(places["stuck"], "reply", text="Denne blir borte på veien.")
    desk.until(
        places["stuck"],
        lambda inquiry: inquiry["messages"][-1]["delivery"] == "uncertain",
        "a reply with an unknown outcome",
    )
    places["parked"] = str(service.write(park))
    places["contact"] = str(desk.read(places["answered"])["contact"]["id"])
    places["merged"] = contact_of_two(service, desk)
    for name in ("doubtful", "virus", "aside"):
        places[name] = desk.open(formatted_mail(service))["ref"]
    everything = ("signed", "encrypted", "calendar", "unscanned")
    places["formatted"] = str(mark(service, places["doubtful"], "failed", *everything))
    places["infected"] = str(mark(service, places["virus"], "verified", "quarantined"))
    set_aside(service, places["aside"])
    return House(siv, employ(service, "Vera Vei", "member", "vei"), places)


def contact_of_two(service, desk) -> str:
    """A contact with two addresses, one of which wants no texts; its number."""
    one, other = (desk.open(write_in(service)) for _ in range(2))
    numbers = [desk.read(each["ref"])["contact"]["id"] for each in (one, other)]

    def job(session):
        session.connection().execute(
            update(ContactAddress)
            .where(ContactAddress.contact_id == numbers[1])
            .values(channel="phone", value="+4790000001", opted_out_at=datetime.now(UTC))
        )
        merging.merge(session, Actor(Role.ADMIN), *numbers, datetime.now(UTC))

    service.write(job)
    return str(numbers[0])


def park(session):
    """An arrival that nobody could read."""
    now = datetime.now(UTC)
    envelope = {"mail_from": "kari@eksempel.no"}
    raw = RawArrival("email", unique("x"), now, envelope, b"From: kari@eksempel.no\r\n\r\n\xff")
    _, number = journal.insert(session.connection(), [journal.Entry(raw)])[0]
    journal.park(session, number, "could not be read: UnicodeDecodeError", now)
    return number


def with_errors(page: Page) -> None:
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("alert").filter(has_text="Rett opp")).to_be_visible()


def sent(page: Page) -> None:
    page.get_by_label("Hva gjelder det?").fill("Gatelyset er mørkt.")
    page.get_by_label("E-post").fill("kari@eksempel.no")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("status")).to_contain_text("Takk.")


def mistyped(page: Page) -> None:
    page.get_by_label("Brukernavn").fill("ola")
    page.get_by_label("Passord").fill("feil passord")
    page.get_by_role("button", name="Logg inn").click()
    expect(page.get_by_role("alert")).to_be_visible()


def taken(page: Page) -> None:
    take = page.get_by_role("button", name="Ta den", exact=True)
    if take.count():
        take.click()
    expect(page.get_by_role("button", name="Legg tilbake i køen")).to_be_visible()
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")


def refused(page: Page) -> None:
    reply = page.get_by_role("textbox", name="Svar til")
    send = page.get_by_role("button", name="Send svar", exact=True)
    # As where the news that somebody took it comes too late.
    reply.evaluate("field => { field.readOnly = false; }")
    reply.fill("Vi kommer.")
    send.evaluate("button => { button.disabled = false; button.click(); }")
    expect(page.get_by_role("alert").filter(has_text="har tatt")).to_be_visible()


def with_files(page: Page) -> None:
    files = [("Vedtak om grøfting i Fjellfotveien.pdf", 20_000_001), ("kart.png", 3)]
    page.get_by_label("Filer (valgfritt)").set_input_files(
        [
            {"name": name, "mimeType": "application/pdf", "buffer": b"x" * size}
            for name, size in files
        ]
    )
    expect(page.get_by_role("alert").filter(has_text="større enn 20 MB")).to_be_visible()


def ambiguous(page: Page) -> None:
    page.keyboard.press("f")
    page.keyboard.type("b")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("radio").first).to_be_visible()


def asked(page: Page) -> None:
    page.keyboard.press("l")
    expect(page.get_by_role("alert").filter(has_text="Lukke henvendelsen?")).to_be_focused()


def with_keys(page: Page) -> None:
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()


def with_own_presence(page: Page) -> None:
    page.get_by_role("banner").locator("summary").click()
    expect(page.get_by_role("button", name="Ute en time")).to_be_visible()


def with_people(page: Page) -> None:
    page.keyboard.press("/")
    page.keyboard.type("ola")
    expect(page.get_by_role("dialog").get_by_role("listitem").first).to_be_visible()


def unsaid(page: Page) -> None:
    page.get_by_role("button", name="Lagre", exact=True).click()
    expect(page.get_by_role("alert").filter(has_text="Velg en status.")).to_be_visible()


def with_news(page: Page) -> None:
    page.get_by_role("button", name="Frys lista").click()
    page.request.post("/", form={"text": "Gatelyset er mørkt.", "phone": "900 00 000"})
    expect(page.get_by_role("button", name="– vis")).to_be_visible()


RESIDENT, SIV, VERA = "", "siv", "vera"
PAGES = {
    "contact form": (RESIDENT, "/", None),
    "contact form, nynorsk": (RESIDENT, "/?lang=nn", None),
    "contact form, English": (RESIDENT, "/?lang=en", None),
    "form with errors": (RESIDENT, "/", with_errors),
    "sent": (RESIDENT, "/", sent),
    "status": (RESIDENT, "/status/{status}", None),
    "unknown status": (RESIDENT, "/status/1-finnesikke", None),
    "accessibility": (RESIDENT, "/tilgjengelighet", None),
    "privacy": (RESIDENT, "/personvern", None),
    "not found": (RESIDENT, "/finnes-ikke", None),
    "login": (RESIDENT, "/desk/login", None),
    "login refused": (RESIDENT, "/desk/login", mistyped),
    "used link": (RESIDENT, "/desk/login?once=brukt", None),
    "queue": (SIV, "/desk/queue", None),
    "queue, frozen": (SIV, "/desk/queue", with_news),
    "queue, filtered": (SIV, "/desk/queue?department=vei&assignee=none", None),
    "queue, closed": (SIV, "/desk/queue?status=closed", None),
    "queue, empty": (SIV, "/desk/queue?q=finnesikke", None),
    "queue, shortcuts": (SIV, "/desk/queue", with_keys),
    "queue of a department": (VERA, "/desk/queue", None),
    "inquiry": (SIV, "/desk/inquiries/{free}", None),
    "inquiry, ours": (SIV, "/desk/inquiries/{mine}", taken),
    "inquiry, held": (SIV, "/desk/inquiries/{held}", None),
    "inquiry, conflict": (SIV, "/desk/inquiries/{held}", refused),
    "inquiry, asked before closing": (SIV, "/desk/inquiries/{emergency}", asked),
    "inquiry, which department": (SIV, "/desk/inquiries/{free}", ambiguous),
    "inquiry, closed": (SIV, "/desk/inquiries/{answered}", None),
    "inquiry, forwarded": (SIV, "/desk/inquiries/{waste}", None),
    "inquiry, emergency": (SIV, "/desk/inquiries/{emergency}", None),
    "inquiry, not delivered": (SIV, "/desk/inquiries/{stuck}", None),
    "inquiry, files chosen": (SIV, "/desk/inquiries/{free}", with_files),
    "inquiry, doubtful sender": (SIV, "/desk/inquiries/{doubtful}", None),
    "inquiry, virus": (SIV, "/desk/inquiries/{virus}", None),
    "inquiry, set aside": (SIV, "/desk/inquiries/{aside}", None),
    "formatted": (SIV, "/desk/inquiries/{doubtful}/messages/{formatted}/formatted", None),
    "virus, not shown": (SIV, "/desk/inquiries/{virus}/messages/{infected}/formatted", None),
    "aside": (SIV, "/desk/aside", None),
    "account": (SIV, "/desk/account", None),
    "contact": (SIV, "/desk/contacts/{contact}", None),
    "contact of two": (SIV, "/desk/contacts/{merged}?q=kari", None),
    "contact, nobody fits": (SIV, "/desk/contacts/{contact}?q=finnesikke", None),
    "own presence": (SIV, "/desk/queue", with_own_presence),
    "a person found": (SIV, "/desk/queue", with_people),
    "people": (SIV, "/desk/presence", None),
    "people, nobody": (SIV, "/desk/presence?q=finnesikke", None),
    "person": (SIV, "/desk/presence/of/kari", None),
    "person, form with errors": (SIV, "/desk/presence/of/kari", unsaid),
    "person, not yours": (VERA, "/desk/presence/of/kari", None),
    "parked": (SIV, "/desk/parked", None),
    "parked arrival": (SIV, "/desk/parked/{parked}", None),
    "outbox": (SIV, "/desk/outbox", None),
    "statistics": (SIV, "/desk/statistics?days=30", None),
    "not yours": (VERA, "/desk/inquiries/{waste}", None),
    "not allowed": (VERA, "/desk/parked", None),
}
"""What it shows -> who looks, where, and what they do there."""


@pytest.fixture(scope="module")
def watchers(browser, service):
    """Their browsers stay open from page to page: a fresh one for each takes twice the time."""
    opened = Visitors(browser, service)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def screens(watchers, house):
    """One page for each who looks."""
    calm = {"reduced_motion": "reduce"}
    return {
        RESIDENT: watchers.resident(**calm),
        SIV: watchers.staff(house.siv, **calm),
        VERA: watchers.staff(house.vera, **calm),
    }


@pytest.fixture
def open_page(watchers, screens, house):
    """Open one of `PAGES`."""
    watchers.expected.append("status of 403")

    def opened(name):
        who, address, act = PAGES[name]
        page = screens[who]
        page.emulate_media(color_scheme="light", forced_colors="none")
        page.set_viewport_size(WIDE)
        page.goto(address.format(**house.places))
        if act:
            act(page)
        return page

    yield opened
    assert watchers.unexpected == []


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_and_nothing_sticks_out(open_page, name):
    page = open_page(name)
    page.evaluate(AXE.read_text(encoding="utf-8"))
    faults = []
    for size in (WIDE, NARROW):
        page.set_viewport_size(size)
        for scheme, rules in (("light", EVERYTHING), ("dark", COLOURS)):
            page.emulate_media(color_scheme=scheme)
            found = page.evaluate(SCAN, rules)
            faults += [f"{scheme}, {size['width']} px: {one}" for one in found]
    for size in (NARROW, ZOOMED):
        page.set_viewport_size(size)
        faults += [f"sticks out at {size['width']} px: {one}" for one in page.evaluate(TOO_WIDE)]
    assert faults == []


def test_the_measures_see_what_is_wrong(open_page):
    page = open_page("contact form")
    page.evaluate(AXE.read_text(encoding="utf-8"))
    page.evaluate("""() => {
      const main = document.querySelector("main");
      main.append(document.createElement("img"));
      const pale = Object.assign(document.createElement("p"), { textContent: "Blek tekst" });
      pale.style.color = "#bbb";
      pale.style.width = "2000px";
      main.append(pale);
    }""")
    found = " ".join(page.evaluate(SCAN, EVERYTHING))
    assert "image-alt" in found
    assert "color-contrast" in found
    assert page.evaluate(TOO_WIDE)


@pytest.mark.parametrize("name", ["queue", "inquiry", "contact form", "contact of two"])
def test_in_forced_colours_buttons_and_the_focus_can_be_seen(open_page, name):
    page = open_page(name)
    page.emulate_media(forced_colors="active")
    button = page.get_by_role("main").get_by_role("button").first
    tab_to(page, button)
    style = button.evaluate(
        "element => { const s = getComputedStyle(element);"
        " return [s.borderTopStyle, s.borderTopWidth, s.outlineStyle, s.outlineWidth]; }"
    )
    assert "none" not in style
    assert "0px" not in style


def test_a_deadline_is_told_by_words_and_shape_not_by_colour_alone(open_page, service):
    subject = write_in(service)
    page = open_page("queue")
    expect(row(page, subject)).to_contain_text("dager igjen")
    emergency = page.get_by_role("row").filter(has_text="Straks")
    assert emergency.locator("svg").first.inner_html() != (
        row(page, subject).locator("svg").first.inner_html()
    )
