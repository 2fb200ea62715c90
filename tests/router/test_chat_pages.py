"""The page of the chat without script, and the words it uses."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from markupsafe import Markup

from router import chat_letters
from router.web.links import dialled, linked
from tests.browser.people import PNG
from tests.router.chat_house import at_desk, letters, reply, visitor
from tests.router.web_house import house

NUMBER = "018180 00010"


@pytest.fixture
async def home(tmp_path):
    async with house(tmp_path) as opened:
        yield opened


def key_of(page):
    return re.search(r'name="key" value="([^"]+)"', page.text)[1]


async def write(browser, text, path="/chat", **more):
    """Fill in the form as it stands, and follow where it leads."""
    page = await browser.get(path)
    fields = {"text": text, "key": key_of(page), **more}
    files = fields.pop("files", None)
    return await browser.post(path, data=fields, files=files, follow_redirects=True)


async def test_a_whole_talk_without_script(home):
    await at_desk(home)
    browser = home.visitor()
    page = await write(browser, "Når åpner dere?", files=[("files", ("b.png", PNG, "image/png"))])
    assert page.status_code == 200
    assert page.text.count("Når åpner dere?") == 1
    assert "b.png" in page.text
    assert "Du er neste." in page.text
    api = await home.api()
    [row] = (await api.get("/api/inquiries", params={"status": "open"})).json()["items"]
    await reply(home, row["ref"], "Klokka åtte, se www.sorum.example/tider.")
    page = await browser.get("/chat")
    assert "Klokka åtte" in page.text
    assert 'href="https://www.sorum.example/tider"' in page.text
    page = await write(browser, "Takk!")
    assert page.text.index("Klokka åtte") < page.text.index("Takk!")
    sent = await browser.post(
        "/chat/transcript", data={"recipient": "kari@example.no"}, follow_redirects=True
    )
    assert "på vei på e-post" in sent.text
    assert [item.recipient for item in letters(home)] == ["kari@example.no"]
    page = await browser.post("/chat/end", follow_redirects=True)
    assert "Samtalen er avsluttet." in page.text
    assert "Når åpner dere?" not in page.text


async def test_the_same_form_sent_twice_is_one_message(home):
    await at_desk(home)
    browser = home.visitor()
    page = await browser.get("/chat")
    fields = {"text": "Hei", "key": key_of(page)}
    for _ in range(2):
        answer = await browser.post("/chat", data=fields)
        assert answer.status_code == 303
    assert (await browser.get("/chat")).text.count('class="said"') == 1


async def test_who_leaves_an_address_by_the_form_is_thanked(home):
    browser = home.visitor()
    page = await write(browser, "Hei")
    assert "Hvor kan vi svare deg?" in page.text
    wrong = await browser.post("/chat/address", data={"email": "kari"})
    assert wrong.status_code == 422
    assert "ser ikke riktig ut" in wrong.text
    assert 'value="kari" aria-describedby="email-error" aria-invalid="true"' in wrong.text
    page = await browser.post(
        "/chat/address", data={"email": "kari@example.no"}, follow_redirects=True
    )
    where = "Er du ikke her når vi svarer, sender vi svaret til kari@example.no."
    assert f"Takk. {where}" in page.text
    page = await browser.get("/chat")
    assert where in page.text
    assert "Endre hvor vi svarer deg" in page.text
    assert 'value="kari@example.no"' in page.text
    assert "kari@example.no" not in (await home.visitor().get("/chat")).text


async def test_what_is_wrong_is_said_at_its_field_and_nothing_typed_is_lost(home):
    browser = home.visitor()
    page = await write(browser, "  ")
    assert page.status_code == 422
    assert "Skriv hva det gjelder." in page.text
    page = await write(browser, f"Jeg er {NUMBER}.")
    assert page.status_code == 422
    assert f"Jeg er {NUMBER}." in page.text
    assert 'name="confirmed"' in page.text
    page = await write(browser, f"Jeg er {NUMBER}.", confirmed="1")
    assert page.status_code == 200
    page = await write(browser, "x" * 4001)
    assert page.status_code == 422


async def test_nobody_without_a_conversation_has_one_to_end(home):
    for path in ("address", "transcript", "end"):
        assert (await home.visitor().post(f"/chat/{path}")).status_code == 404


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("nb", ["Chat med Sørum kommune", "Ikke skriv fødselsnummer", "Meldingen din"]),
        ("nn", ["Chat med Sørum kommune", "Ikkje skriv fødselsnummer", "Meldinga di"]),
        ("en", ["Chat with Sørum kommune", "national identity numbers", "Your message"]),
    ],
)
async def test_the_page_in_three_languages(home, language, words):
    browser = home.visitor(**{"Accept-Language": language})
    page = await browser.get("/chat")
    for text in words:
        assert text in page.text
    page = await write(browser, "Hei", f"/chat?lang={language}")
    assert {"nb": "Ingen er ledige", "nn": "Ingen er ledige", "en": "Nobody is free"}[
        language
    ] in page.text
    assert f'action="/chat?lang={language}"' in page.text


async def test_what_somebody_writes_stays_text(home):
    await at_desk(home)
    hostile = '<img src=x onerror=alert(1)> javascript:alert(1) " onmouseover="x'
    resident = await visitor(home, hostile)
    page = await resident.browser.get("/chat")
    assert "<img" not in page.text
    assert "&lt;img src=x onerror=alert(1)&gt;" in page.text
    assert 'href="javascript' not in page.text


@pytest.mark.parametrize(
    ("text", "links"),
    [
        ("Se https://sorum.example/a?b=1&c=2.", ["https://sorum.example/a?b=1&amp;c=2"]),
        ("(www.sorum.example)", ["https://www.sorum.example"]),
        ("http://a.example og http://b.example!", ["http://a.example", "http://b.example"]),
        ("https://sorum.example@ond.example/", []),
        ("https://localhost/ https:// www. javascript:alert(1)", []),
        ('https://a.example/"><script>', ["https://a.example/"]),
        ("https://[::1/", []),
    ],
)
def test_addresses_become_links_and_nothing_else_does(text, links):
    made = linked(text)
    assert re.findall(r'<a href="([^"]+)"', made) == links
    assert made.count("<a ") == made.count('rel="noopener noreferrer nofollow"') == len(links)
    assert Markup(made).striptags() == " ".join(text.split())


def test_emergency_numbers_can_be_called():
    made = dialled("Ring 110, 112 eller 113. Legevakt 116 117. Ikke 1134.")
    assert re.findall(r'href="tel:(\d+)"', made) == ["110", "112", "113", "116117"]


async def test_who_gave_a_mobile_number_is_answered_by_text(home):
    home.hall.reply_context = replace(home.hall.reply_context, text_numbers=("+4759440000",))
    siv = await at_desk(home)
    resident = await visitor(home, "Hei")
    assert (await resident.post("contact", {"phone": "63869000"})).status_code == 422
    assert (await resident.post("contact", {"phone": "900 00 001"})).status_code == 204
    ref = resident.inquiry().ref
    await reply(home, ref, "Vi åpner åtte.")
    await resident.gone(siv)
    home.clock.move(minutes=11)
    head, terms = home.hall.reply_context, home.hall.settings.channels.chat
    await home.hall.db.write(lambda s: chat_letters.send_unread(s, head, terms, home.clock()))
    await reply(home, ref, "Velkommen.")
    texts = [(item.channel, item.recipient, item.payload["text"]) for item in letters(home)]
    assert [(channel, to) for channel, to, _ in texts] == [("sms", "+4790000001")] * 2
    assert "Vi åpner åtte." in texts[0][2]
    assert "Velkommen." in texts[1][2]
    assert resident.inquiry().line == "+4759440000"  # where an answer finds it


async def test_the_front_page_offers_the_chat(home):
    page = await home.visitor().get("/?lang=nn")
    assert 'href="/chat?lang=nn"' in page.text
    assert "Opne chatten" in page.text
