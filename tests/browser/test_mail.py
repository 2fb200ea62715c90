"""E-mail at the desk in a real browser: files with a reply, the formatted version, what stands
aside."""

from __future__ import annotations

import os
import re

import pytest
from playwright.sync_api import expect

from tests.browser.people import (
    PNG,
    announced,
    answer_to,
    formatted_mail,
    row,
    set_aside,
    tab_to,
    write_in,
)
from tests.service import unique


def test_files_go_with_a_reply_by_keyboard_alone(visitors, service, desk, smarthost, tmp_path):
    names = ["Vedtak om grøfting.pdf", "feil fil.txt", "kart.png"]
    contents = [b"%PDF-1.7\n" + os.urandom(300_000), b"feil", PNG]
    for name, content in zip(names, contents, strict=True):
        (tmp_path / name).write_bytes(content)
    sender = f"{unique('x')[2:]}@eksempel.no"
    ref = desk.open(write_in(service, sender=sender))["ref"]
    page = visitors.staff(path=f"/desk/inquiries/{ref}")
    # Caught from now on: caught from the press on, a dialog of a busy browser opens before that.
    page.on("filechooser", lambda _: None)
    page.keyboard.press("r")
    page.keyboard.type("Se vedlegg.")
    field = page.get_by_label("Filer (valgfritt)")
    tab_to(page, field)
    with page.expect_file_chooser() as opened:
        page.keyboard.press("Enter")
    opened.value.set_files([tmp_path / names[0], tmp_path / names[1]])
    announced(page, f"Valgt: {names[0]}, {names[1]}")
    # What is chosen next is added, and does not push out what was chosen before.
    with page.expect_file_chooser() as opened:
        page.keyboard.press("Enter")
    opened.value.set_files(tmp_path / names[2])
    chosen = page.get_by_role("list", name="Valgte filer").get_by_role("listitem")
    expect(chosen).to_have_count(3)
    tab_to(page, page.get_by_role("button", name=f"Fjern {names[1]}"))
    page.keyboard.press("Space")
    announced(page, f"{names[1]} er fjernet.")
    expect(page.get_by_role("button", name=f"Fjern {names[2]}")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    tab_to(page, page.get_by_role("button", name="Send svar", exact=True))
    page.keyboard.press("Enter")
    announced(page, "Svaret er på vei")
    reply = answer_to(smarthost, sender)
    files = {
        part.get_filename(): part.get_payload(decode=True)
        for part in reply.message.walk()
        if part.get_content_disposition() == "attachment"
    }
    assert {"".join(name.split()): content for name, content in files.items()} == {
        "".join(names[0].split()): contents[0],
        names[2]: contents[2],
    }
    sent = page.get_by_role("article", name="Svar fra oss")
    with page.expect_download() as taken:
        sent.get_by_role("link", name=names[0]).click()
    assert taken.value.path().read_bytes() == contents[0]
    assert taken.value.suggested_filename == names[0]


def test_ctrl_enter_sends_a_reply_with_a_file(visitors, service, desk, smarthost):
    sender = f"{unique('x')[2:]}@eksempel.no"
    ref = desk.open(write_in(service, sender=sender))["ref"]
    page = visitors.staff(path=f"/desk/inquiries/{ref}")
    page.get_by_label("Filer (valgfritt)").set_input_files(
        {"name": "kart.png", "mimeType": "image/png", "buffer": PNG}
    )
    expect(page.get_by_role("button", name="Fjern kart.png")).to_be_visible()
    page.keyboard.press("r")
    page.keyboard.type("Se vedlegg.")
    page.keyboard.press("Control+Enter")
    announced(page, "Svaret er på vei")
    reply = answer_to(smarthost, sender)
    assert "kart.png" in [part.get_filename() for part in reply.message.walk()]


def test_too_much_is_said_before_it_is_sent(visitors, service, desk):
    ref = desk.open(write_in(service))["ref"]
    page = visitors.staff(path=f"/desk/inquiries/{ref}")
    page.get_by_role("textbox", name="Svar til").fill("Filmen ligger ved.")
    page.get_by_label("Filer (valgfritt)").set_input_files(
        {"name": "film.mp4", "mimeType": "video/mp4", "buffer": b"\0" * 20_000_001}
    )
    problem = page.get_by_role("alert").filter(has_text="større enn 20 MB")
    expect(problem).to_be_visible()
    page.get_by_role("button", name="Send svar", exact=True).click()
    expect(page.get_by_label("Filer (valgfritt)")).to_be_focused()
    page.get_by_role("button", name="Fjern film.mp4").click()
    expect(problem).to_have_count(0)
    page.get_by_role("button", name="Send svar", exact=True).click()
    announced(page, "Svaret er på vei")


def test_files_go_without_script(visitors, service, desk, smarthost):
    sender = f"{unique('x')[2:]}@eksempel.no"
    ref = desk.open(write_in(service, sender=sender))["ref"]
    page = visitors.staff(path=f"/desk/inquiries/{ref}", java_script_enabled=False)
    page.get_by_role("textbox", name="Svar til").fill("Se kartet.")
    page.get_by_label("Filer (valgfritt)").set_input_files(
        {"name": "kart.png", "mimeType": "image/png", "buffer": PNG}
    )
    page.get_by_role("button", name="Send svar", exact=True).click()
    expect(page.get_by_role("link", name="kart.png")).to_be_visible()
    reply = answer_to(smarthost, sender)
    [file] = [part for part in reply.message.walk() if part.get_filename() == "kart.png"]
    assert file.get_content_type() == "image/png"
    assert file.get_payload(decode=True) == PNG


def test_a_formatted_mail_is_shown_and_can_do_nothing(visitors, service, desk):
    # The frame runs nothing, not even what looks into it for this test.
    visitors.expected.append("Blocked script execution in .*/formatted/content")
    ref = desk.open(formatted_mail(service))["ref"]
    page = visitors.staff(path=f"/desk/inquiries/{ref}")
    tab_to(page, page.get_by_role("link", name="Vis formatert"))
    page.keyboard.press("Enter")
    expect(page.get_by_text("1 bilde vises ikke")).to_be_visible()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    element = page.locator("iframe")
    assert element.get_attribute("sandbox") == ""
    frame = element.content_frame
    expect(frame.get_by_role("heading", name="Hullet")).to_be_visible()
    expect(frame.get_by_role("img", name="Hullet")).to_have_js_property("naturalWidth", 1)
    expect(frame.get_by_text("[Utenfra]")).to_be_visible()
    assert not [url for url in asked if url.endswith("icon.svg") and "?" not in url]
    expect(frame.get_by_role("button")).to_have_count(0)
    expect(frame.get_by_role("link")).to_have_count(0)
    frame.get_by_text("Klikk her").click()
    frame.get_by_text("Hilsen Kari").click()
    assert frame.get_by_text("Klikk her").get_attribute("title").endswith("/finnes-ikke")
    assert "overtatt" not in page.title()
    assert frame.get_by_text("Hilsen Kari").evaluate("e => getComputedStyle(e).position") == (
        "static"
    )
    assert frame.get_by_text("Hilsen Kari").evaluate("() => self.origin") == "null"
    page.get_by_role("link", name="Tilbake til henvendelsen").click()
    expect(page).to_have_url(re.compile(rf"/desk/inquiries/{ref}#m-\d+$"))


@pytest.fixture
def aside(service, desk):
    """Three mails that stand aside; their subjects."""
    subjects = [write_in(service, unique("Nyhetsbrev")) for _ in range(3)]
    set_aside(service, *(desk.open(subject)["ref"] for subject in subjects))
    return subjects


def test_what_stands_aside_is_dealt_with_by_keyboard(visitors, service, aside):
    page = visitors.staff()
    keys = page.keyboard
    tab_to(page, page.get_by_role("link", name="Lagt til side"))
    keys.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Lagt til side")
    first, second, third = aside
    expect(row(page, first)).to_contain_text("En masseutsendelse")
    tab_to(page, row(page, first).get_by_role("button", name="Flytt til køen"))
    keys.press("Enter")
    announced(page, "Henvendelsen ligger i køen nå")
    expect(row(page, first)).to_have_count(0)
    every = page.get_by_label("Merk alle på siden")
    tab_to(page, every)
    keys.press("Space")
    for subject in (second, third):
        expect(row(page, subject).get_by_role("checkbox")).to_be_checked()
    tab_to(page, row(page, second).get_by_role("checkbox"))
    keys.press("Space")
    tab_to(page, page.get_by_role("button", name="Lukk de merkede"), "Shift+Tab")
    keys.press("Enter")
    announced(page, "Det du merket, er lukket.")
    expect(row(page, third)).to_have_count(0)
    expect(row(page, second)).to_have_count(1)
    page.goto("/desk/queue")
    expect(row(page, first)).to_have_count(1)
    expect(row(page, third)).to_have_count(0)


def test_a_reply_with_an_unknown_outcome_is_sent_again_by_hand(visitors, service, desk, smarthost):
    sender = f"{unique('x')[2:]}@eksempel.no"
    ref = desk.open(write_in(service, sender=sender))["ref"]
    smarthost.first_to(sender, 1)
    page = visitors.staff(path=f"/desk/inquiries/{ref}")
    smarthost.drop("CONTENT")
    page.get_by_role("textbox", name="Svar til").fill("Denne blir borte på veien.")
    page.get_by_role("button", name="Send svar", exact=True).click()
    expect(page.get_by_text("Det er usikkert om svaret vårt ble sendt.")).to_be_visible()
    again = page.get_by_role("button", name="Send på nytt")
    tab_to(page, again)
    page.keyboard.press("Enter")
    expect(page.get_by_role("article", name="Svar fra oss")).to_contain_text("Sendt")
    expect(page.get_by_text("Det er usikkert om svaret vårt ble sendt.")).to_have_count(0)
    assert smarthost.to(sender)[-1].text.startswith("Denne blir borte")
