"""Who may do what in a chat, and how often: other people's talks, limits, files, numbers."""

from __future__ import annotations

import asyncio
import io
import re
import uuid
from http.cookies import SimpleCookie
from time import monotonic

import pytest

from channels.email.verdict import Verdict
from router.metrics import REGISTRY
from router.models import Role
from router.web.problems import MEDIA_TYPE
from tests.browser.people import PNG
from tests.router.chat_house import (
    at_desk,
    letters,
    message,
    reply,
    visitor,
)
from tests.router.web_house import ADDRESS, house

NUMBER = "018180 00010"
"""Has the check digits of a fødselsnummer, and a month that nobody is born in."""
PDF = b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\ntrailer\n<<>>\n%%EOF\n"
PROGRAM = b"MZ" + bytes(200)


@pytest.fixture
async def home(tmp_path):
    async with house(tmp_path) as opened:
        yield opened


async def send_files(resident, *files, text=""):
    return await resident.browser.post(
        f"/chat/conversations/{resident.key}/messages",
        data={"client_msg_id": str(uuid.uuid4()), "text": text},
        files=[("files", (name, io.BytesIO(content), kind)) for name, content, kind in files],
    )


ACTS = [
    ("messages", message("Hei")),
    ("typing", {}),
    ("read", {"message_id": 1}),
    ("contact", {"email": "x@example.no"}),
    ("transcript", {"email": "x@example.no"}),
    ("leave", {}),
]


async def test_what_is_not_ones_own_does_not_exist(home):
    """No cookie, a made-up one, somebody else's, an unknown conversation: one answer for all."""
    mine, other = await visitor(home, "Hei"), await visitor(home, "Hemmelig")
    stranger = await visitor(home)
    stranger.browser = home.visitor()
    forged = await visitor(home)
    forged.browser = home.visitor(Cookie="sentralbord-chat=" + "A" * 43)
    answers = []
    for browser, key in (
        (mine.browser, other.key),
        (mine.browser, "finnes-ikke"),
        (stranger.browser, other.key),
        (forged.browser, other.key),
    ):
        base = f"/chat/conversations/{key}"
        for path, body in ACTS:
            answers.append(await browser.post(f"{base}/{path}", json=body))
        answers += [await browser.get(f"{base}/{p}") for p in ("messages", "events", "files/1")]
    assert {answer.status_code for answer in answers} == {404}
    assert {answer.json()["detail"] for answer in answers} == {
        "There is no such thing here, or it is not yours to see."
    }
    assert await other.lines() == ["Hemmelig", (await other.lines())[1]]


async def test_pages_of_others_can_say_nothing_for_a_resident(home):
    resident = await visitor(home, "Hei")
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://ond.example"}):
        resident.browser.headers.update(headers)
        for path, body in ACTS:
            assert (await resident.post(path, body)).status_code == 403, path
        opened = await resident.browser.post("/chat/conversations", json={})
        assert opened.status_code == 403
        stream = await resident.browser.get(f"/chat/conversations/{resident.key}/events")
        assert stream.status_code == 403
        assert (await resident.browser.post("/chat", data={"text": "Hei"})).status_code == 403
        for name in headers:
            del resident.browser.headers[name]


async def test_one_address_opens_so_many_conversations_and_no_more(home):
    now = monotonic()
    home.app.state.limits._clock = lambda: now  # a slow machine gets no more
    for _ in range(home.hall.settings.channels.chat.conversations_per_hour):
        await visitor(home)
    refused = await home.visitor().post("/chat/conversations", json={})
    assert refused.status_code == 429
    assert 0 < int(refused.headers["retry-after"]) <= 121


async def test_one_conversation_takes_so_many_messages_a_minute_and_others_are_unaffected(home):
    now = monotonic()
    home.app.state.limits._clock = lambda: now  # a slow machine gets no more
    loud, calm = await visitor(home, "1"), await visitor(home)
    answers = [await loud.post("messages", message(str(n))) for n in range(2, 50)]
    assert [answer.status_code for answer in answers] == [201] * 19 + [429] * 29
    assert int(answers[-1].headers["retry-after"]) > 0
    await calm.say("Hei")


@pytest.mark.parametrize(
    ("body", "problems"),
    [
        (message(" \n\t\x00 "), {"text": "missing"}),
        (message("x" * 4001), {"text": "too_long"}),
        (message("x") | {"client_msg_id": "1"}, {"client_msg_id": "invalid"}),
        (message(f"Jeg er {NUMBER}."), {"text": "national_id"}),
        ({"text": "Hei"}, {"text": "invalid"}),
        ({"client_msg_id": 7, "text": ["x"]}, {"text": "invalid"}),
    ],
)
async def test_what_cannot_be_taken_is_refused_with_the_reason(home, body, problems):
    resident = await visitor(home)
    answer = await resident.post("messages", body)
    assert (answer.status_code, answer.json()) == (422, {"problems": problems})


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe"])
async def test_a_body_that_is_no_message_is_refused(home, body):
    resident = await visitor(home)
    answer = await resident.browser.post(
        f"/chat/conversations/{resident.key}/messages", content=body
    )
    assert answer.status_code == 422


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"message_id": -1}', b"\xff\xfe"])
async def test_a_read_mark_that_is_none_is_refused_in_plain_words(home, body):
    resident = await visitor(home, "Hei")
    answer = await resident.browser.post(f"/chat/conversations/{resident.key}/read", content=body)
    assert answer.status_code == 422
    [problem] = answer.json()["errors"]
    assert problem["field"].startswith("body")


async def test_requests_are_counted_by_their_route_and_carry_what_all_answers_do(home):
    counted = {"method": "POST", "route": "/chat/conversations/{key}/messages", "status": "201"}
    before = REGISTRY.get_sample_value("sentralbord_http_seconds_count", counted) or 0
    resident = await visitor(home)
    answer = await resident.post("messages", message("Hei"))
    assert answer.headers["x-request-id"]
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert REGISTRY.get_sample_value("sentralbord_http_seconds_count", counted) == before + 1
    refused = await resident.browser.put(f"/chat/conversations/{resident.key}/messages")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, POST")
    unknown = await resident.browser.get(f"/chat/conversations/{resident.key}/nothing")
    assert (unknown.status_code, unknown.headers["content-type"]) == (404, MEDIA_TYPE)


async def test_a_stream_is_not_to_be_had_without_its_content(home):
    """It would never end, and its resident would count as there."""
    resident = await visitor(home)
    async with asyncio.timeout(5):
        answer = await resident.browser.head(f"/chat/conversations/{resident.key}/events")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    assert (await resident.browser.head("/chat/presence")).status_code == 200


async def test_a_full_store_takes_no_message_for_now_and_keeps_nothing_by_halves(home):
    def limit(pages):
        return lambda s: s.connection().exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    await at_desk(home)
    talks = [await visitor(home, "Hei") for _ in range(3)]
    await home.hall.db.write(limit(1))  # as small as it is
    said = [message("x" * 4000) for _ in talks]
    answers = await asyncio.gather(
        *(t.post("messages", m) for t, m in zip(talks, said, strict=True))
    )
    assert [(a.status_code, a.headers["retry-after"]) for a in answers] == [(503, "5")] * 3
    assert [await t.lines() for t in talks] == [["Hei"]] * 3
    await home.hall.db.write(limit(1_000_000))
    for resident, again in zip(talks, said, strict=True):
        assert (await resident.post("messages", again)).status_code == 201
        assert await resident.lines() == ["Hei", again["text"]]


async def test_a_talk_that_its_resident_has_ended_is_remembered_by_nobody(home):
    resident = await visitor(home, "Hei")
    cookies = dict(resident.browser.cookies)
    assert (await resident.post("typing")).status_code == 204
    assert (await resident.browser.post("/chat/end")).status_code == 303
    resident.browser.cookies.update(cookies)
    for path, body in ACTS:
        assert (await resident.post(path, body)).status_code == 404, path


async def test_a_message_of_a_megabyte_is_refused_before_it_is_read(home):
    resident = await visitor(home)
    answer = await resident.post("messages", message("x" * 1_000_000))
    assert (answer.status_code, answer.json()["problems"]) == (422, {"text": "too_long"})
    answer = await resident.post("messages", message("x" * 1_100_000))
    assert answer.status_code == 413
    assert answer.json()["type"].endswith("too-large")
    big = [("stort.pdf", PDF + b"x" * 2_000_000, "application/pdf")]
    assert (await send_files(resident, *big)).status_code == 201
    resident.browser = home.visitor()
    for refused in (
        await resident.post("messages", message("x" * 1_100_000)),
        await send_files(resident, *big),
    ):
        assert refused.status_code in {404, 413}  # nothing large is read from strangers


async def test_letters_and_emoji_of_all_kinds_come_back_as_they_went(home):
    await at_desk(home)
    text = "Æøå é 👩‍👩‍👧 ❤️ שלום <script>alert(1)</script> \u202eabc"
    resident = await visitor(home, text, "e\u0301 \x07\ud800".encode("utf-8", "ignore").decode())
    assert await resident.lines() == [text, "é"]


async def test_a_national_number_is_asked_about_and_then_taken(home):
    await at_desk(home)
    resident = await visitor(home)
    await resident.say(f"Jeg er {NUMBER}.", confirmed=True)
    assert resident.inquiry().subject == "Jeg er 018180 *****."
    detail = await (await home.api()).get(f"/api/inquiries/{resident.inquiry().ref}")
    assert NUMBER not in detail.text


async def test_files_come_along_and_only_their_own_side_can_fetch_them(home):
    await at_desk(home)
    resident, other = await visitor(home), await visitor(home, "Hei")
    sent = await send_files(
        resident, ("bilde.png", PNG, "image/png"), ("../../søknad.pdf", PDF, ""), text="Se her"
    )
    assert sent.status_code == 201, sent.text
    [line] = (await resident.look())["messages"]
    assert [file["name"] for file in line["files"]] == ["bilde.png", "søknad.pdf"]
    got = await resident.browser.get(line["files"][1]["url"])
    assert (got.status_code, got.content) == (200, PDF)
    assert got.headers["content-disposition"].startswith("attachment;")
    theirs = line["files"][1]["url"].replace(resident.key, other.key)
    assert (await other.browser.get(theirs)).status_code == 404
    detail = (await (await home.api()).get(f"/api/inquiries/{resident.inquiry().ref}")).json()
    assert [a["filename"] for a in detail["messages"][0]["attachments"]] == [
        "bilde.png",
        "søknad.pdf",
    ]
    await send_files(resident, ("b.png", PNG, "image/png"))  # a later message, without words
    assert len((await resident.look())["messages"]) == 2


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ([("bilde.png", PROGRAM, "image/png")], "not_allowed"),
        ([("side.html", b"<html><script>x</script></html>", "text/html")], "not_allowed"),
        ([("tegning.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "")], "not_allowed"),
        ([(f"{n}.png", PNG, "image/png") for n in range(4)], "too_many"),
        ([("stor.pdf", PDF + bytes(10_000_000), "application/pdf")], "too_large"),
    ],
)
async def test_files_that_are_not_taken(home, files, code):
    resident = await visitor(home)
    answer = await send_files(resident, *files, text="Se her")
    assert (answer.status_code, answer.json()) == (422, {"problems": {"files": code}})
    assert resident.row().inquiry_id is None


async def test_a_conversation_takes_twelve_files(home):
    await at_desk(home)
    resident = await visitor(home)
    three = [(f"{n}.png", PNG, "image/png") for n in range(3)]
    for _ in range(4):
        assert (await send_files(resident, *three)).status_code == 201
    answer = await send_files(resident, three[0])
    assert answer.json() == {"problems": {"files": "too_many"}}


async def test_a_virus_is_refused_and_a_silent_scanner_told(home):
    await at_desk(home)
    resident = await visitor(home, "Hei")

    class Scanner:
        verdict = Verdict(virus="Eicar")

        async def scan(self, _content, _envelope):
            return self.verdict

    home.hall.file_scanner = scanner = Scanner()
    answer = await send_files(resident, ("a.pdf", PDF, ""))
    assert answer.json() == {"problems": {"files": "virus"}}
    scanner.verdict = Verdict(unscanned=True)
    assert (await send_files(resident, ("a.pdf", PDF, ""))).status_code == 201
    detail = (await (await home.api()).get(f"/api/inquiries/{resident.inquiry().ref}")).json()
    assert detail["messages"][-1]["marks"] == ["unscanned"]


async def test_robots_fill_in_a_field_that_nobody_sees(home):
    answer = await home.visitor().post("/chat/conversations", json={"website": "https://x.example"})
    assert answer.status_code == 422
    page = await home.visitor().post("/chat", data={"text": "Hei", "website": "x"})
    assert page.status_code == 422
    assert "roboter" in page.text


async def test_the_talk_by_e_mail_needs_an_answer_first_and_goes_twice(home):
    await at_desk(home)
    resident = await visitor(home, "Når åpner dere?")
    await resident.say(f"Jeg er {NUMBER}.", confirmed=True)
    to = {"email": "kari@example.no"}
    assert (await resident.post("transcript", {"email": "kari"})).status_code == 422
    assert (await resident.post("transcript", to)).status_code == 422
    await reply(home, resident.inquiry().ref, "Klokka åtte.")
    assert (await resident.post("transcript", to)).status_code == 204
    [letter] = letters(home)
    text = letter.payload["text"]
    assert "09:00 Du: Når åpner dere?" in text
    assert "Klokka åtte." in text
    assert NUMBER not in text
    assert (await resident.post("transcript", to)).status_code == 204
    assert (await resident.post("transcript", to)).status_code == 429


async def test_departments_see_the_chats_of_their_own(home):
    await at_desk(home)
    resident = await visitor(home, "Det er et hull i veien.")
    ref = resident.inquiry().ref
    vei = await home.api(Role.MEMBER, "vei")
    skole = await home.api(Role.MEMBER, "skole")
    view = await vei.get(f"/api/inquiries/{ref}/chat")
    assert view.json() == {
        "state": "waiting",
        "listening": True,
        "answered": False,
        "closed": False,
        "outcome": None,
        "place": 1,
        "resident_read": 0,
        "read": 0,
    }
    for path in ("", "/events"):
        assert (await skole.get(f"/api/inquiries/{ref}/chat{path}")).status_code == 404
    assert (await skole.post(f"/api/inquiries/{ref}/chat/typing")).status_code == 404
    number = (await resident.look())["messages"][0]["id"]
    read = await vei.post(f"/api/inquiries/{ref}/chat/read", json={"message_id": number + 99})
    assert read.status_code == 204
    assert (await resident.standing())["read"] == number
    form = await home.inquiry()
    assert (await vei.get(f"/api/inquiries/{form}/chat")).status_code == 404


async def test_a_reply_under_the_same_key_is_one(home):
    await at_desk(home)
    resident = await visitor(home, "Hei")
    ref = resident.inquiry().ref
    api = await home.api()
    for _ in range(3):
        answer = await api.post(
            f"/api/inquiries/{ref}/reply", json={"text": "Hei!"}, headers={"Idempotency-Key": "1"}
        )
        assert answer.status_code == 200
    await api.post(f"/api/inquiries/{ref}/reply", json={"text": "Hei!"})
    assert await resident.lines() == ["Hei", "Hei!", "Hei!"]


async def test_both_may_write_at_the_same_time(home):
    """A version that was read before the resident's latest message is no conflict in a talk."""
    await at_desk(home)
    resident = await visitor(home, "Hei")
    ref = resident.inquiry().ref
    version = resident.inquiry().version
    await resident.say("Er noen der?")
    await reply(home, ref, "Ja!", version=version)
    assert (await resident.lines())[-1] == "Ja!"


def cookie_of(answer):
    return answer.headers["set-cookie"]


async def test_the_cookie_is_for_the_chat_alone_and_no_script_reads_it(home):
    answer = await home.visitor().post("/chat/conversations", json={})
    parts = cookie_of(answer).split("; ")
    assert parts[0].startswith("sentralbord-chat=")
    assert parts[1:] == ["Path=/chat", "Max-Age=604800", "HttpOnly", "SameSite=Lax"]


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("nb", "én informasjonskapsel"),
        ("nn", "éin informasjonskapsel"),
        ("en", "one cookie"),
    ],
)
async def test_the_privacy_page_tells_of_the_cookie_as_it_is(home, language, words):
    browser = home.visitor()
    page = (await browser.get("/personvern", params={"lang": language})).text
    cookie = SimpleCookie(cookie_of(await browser.post("/chat/conversations", json={})))
    [(name, morsel)] = cookie.items()
    assert words in page
    assert name in page
    [days] = re.findall(r"(\d+) (?:dager|dagar|days)", page)
    assert int(days) * 24 * 3600 == int(morsel["max-age"])
    assert [one.name for one in browser.cookies.jar] == [name]


@pytest.mark.parametrize(
    ("cross_site", "ending"), [(False, "SameSite=Lax"), (True, "SameSite=None; Partitioned")]
)
async def test_the_cookie_over_tls(tmp_path, cross_site, ending):
    async with house(tmp_path, "https://henvendelse.sorum.example") as home:
        chat = home.hall.settings.channels.chat.model_copy(update={"cross_site": cross_site})
        channels = home.hall.settings.channels.model_copy(update={"chat": chat})
        home.hall.settings = home.hall.settings.model_copy(update={"channels": channels})
        cookie = cookie_of(await home.visitor().post("/chat/conversations", json={}))
        assert cookie.startswith("__Secure-sentralbord-chat=")
        assert cookie.endswith(f"HttpOnly; Secure; {ending}")


async def test_where_there_is_no_chat_there_is_nothing(home):
    chat = home.hall.settings.channels.chat.model_copy(update={"enabled": False})
    channels = home.hall.settings.channels.model_copy(update={"chat": chat})
    home.hall.settings = home.hall.settings.model_copy(update={"channels": channels})
    assert (await home.visitor().get("/chat")).status_code == 404
    assert (await home.visitor().post("/chat/conversations", json={})).status_code == 404
    assert "/chat" not in (await home.visitor().get("/")).text


async def test_only_pages_that_are_named_may_frame_the_chat(home):
    page = await home.visitor().get("/chat")
    assert "frame-ancestors 'self'" in page.headers["content-security-policy"]
    assert page.headers["cross-origin-resource-policy"] == "same-origin"
    chat = home.hall.settings.channels.chat.model_copy(
        update={"embed_on": ("https://www.sorum.kommune.no",)}
    )
    channels = home.hall.settings.channels.model_copy(update={"chat": chat})
    home.hall.settings = home.hall.settings.model_copy(update={"channels": channels})
    page = await home.visitor().get("/chat?embed=1")
    policy = page.headers["content-security-policy"]
    assert policy.endswith("frame-ancestors 'self' https://www.sorum.kommune.no")
    other = await home.visitor().get("/")
    assert other.headers["content-security-policy"].endswith("frame-ancestors 'none'")
    loader = await home.visitor().get("/static/chat.js")
    assert loader.headers["cross-origin-resource-policy"] == "cross-origin"
    assert loader.headers["cache-control"] == "no-cache"
    assert ADDRESS not in loader.text
