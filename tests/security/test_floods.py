"""Whoever floods the chat is refused in words, and the others are served meanwhile, by a real
service."""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import time
import uuid
from collections import Counter
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import median

import httpx
import psutil
import pytest

from router import chat_live, chat_queue
from router.models import Role
from router.staff import add_staff
from tests import service as running
from tests.browser.people import PNG
from tests.service import PATIENCE, soon, unique, wait_until

pytestmark = pytest.mark.slow

CROWD = 10_000
"""Connections of a flood."""
LONGEST = 5.0
"""Seconds in which somebody else has opened a chat, asked, been answered and read it; on a machine
that has more to do."""
SCRIPT = '<script>alert("x")</script><img src=x onerror=alert(1)>'
HALF_A_HEAD = b"POST /chat/conversations HTTP/1.1\r\nHost: sorum"
SETTINGS = {
    "CHANNELS__CHAT__HOURS__MON-SUN": "00:00-24:00",
    "CHANNELS__CHAT__CONVERSATIONS_PER_HOUR": "100000",
}


@pytest.fixture(scope="module")
def service(smarthost, tmp_path_factory):
    """One whose limit of new conversations an address is out of the way, and with somebody
    there."""
    folder = tmp_path_factory.mktemp("floods")
    with running.service(folder, smarthost.port, **SETTINGS) as opened:
        opened.write(somebody_is_there)
        asyncio.run(serve_first(opened))
        yield opened


async def serve_first(service):
    """What the first one waits for, nobody after them does."""
    headers = {"Authorization": f"Bearer {service.token()}"}
    async with httpx.AsyncClient(base_url=service.url, headers=headers, timeout=PATIENCE) as api:
        await serve(Resident(service), api)


def somebody_is_there(session):
    now = datetime.now(UTC)
    person = add_staff(session, "siv", "Siv", Role.OPERATOR, [], None, now)
    chat_queue.at_desk(session, [person.id], datetime(2099, 1, 1, tzinfo=UTC))


def said(service):
    """How many messages of residents are in the store."""
    return service.read("SELECT count(*) FROM message WHERE channel = 'chat' AND direction = 'in'")[
        0
    ][0]


def message(text, **more):
    return {"client_msg_id": str(uuid.uuid4()), "text": text, **more}


@dataclass
class Resident:
    """Somebody with the page of the chat open, from an address of their own."""

    service: running.Service
    address: str = "127.0.0.1"
    key: str = ""
    client: httpx.AsyncClient = field(init=False)

    def __post_init__(self):
        transport = httpx.AsyncHTTPTransport(local_address=self.address)
        self.client = httpx.AsyncClient(
            base_url=self.service.url, transport=transport, timeout=PATIENCE
        )

    async def __aenter__(self):
        answer = await self.client.post("/chat/conversations", json={})
        assert answer.status_code == 201, answer.text
        self.key = answer.json()["id"]
        return self

    async def __aexit__(self, *error):
        await self.client.aclose()

    @property
    def path(self):
        return f"/chat/conversations/{self.key}"

    async def say(self, text, **more):
        return await self.client.post(f"{self.path}/messages", json=message(text), **more)

    async def texts(self):
        answer = await self.client.get(f"{self.path}/messages")
        return [line["text"] for line in answer.json()["messages"]]

    @property
    def cookie(self):
        return "; ".join(f"{name}={value}" for name, value in self.client.cookies.items())


async def serve(resident, api):
    """Somebody asks and is answered, and reads both on their page; returns how long that took."""
    began = time.perf_counter()
    question, answer = unique("Spørsmål"), unique("Svar")
    heard: list[str] = []
    async with resident, asyncio.timeout(PATIENCE):
        posted = await resident.say(question)
        assert posted.status_code == 201, posted.text
        async with resident.client.stream("GET", f"{resident.path}/events") as stream:
            assert stream.status_code == 200
            async for line in stream.aiter_lines():
                data = json.loads(line[5:]) if line.startswith("data:") else {}
                heard += [data["text"]] if "text" in data else []
                if data.get("ref") and answer not in heard and not data["answered"]:
                    path = f"/api/inquiries/{data['ref']}/reply"
                    replied = await api.post(path, json={"text": answer})
                    assert replied.status_code == 200, replied.text
                if answer in heard:
                    break
    assert heard == [question, answer]
    return time.perf_counter() - began


@asynccontextmanager
async def others(service, address="127.0.0.1"):
    """Residents and an operator go on with their work while the block runs: all of them are
    served, and none waits long. They come from another place than whoever floods."""
    taken: list[float] = []

    async def work():
        headers = {"Authorization": f"Bearer {service.token()}"}
        async with httpx.AsyncClient(
            base_url=service.url, headers=headers, timeout=PATIENCE
        ) as api:
            while True:
                taken.append(await serve(Resident(service, address), api))

    task = asyncio.create_task(work())
    try:
        await soon(lambda: taken or task.done(), "others served")
        yield
        served = len(taken)
        await soon(lambda: len(taken) > served + 1 or task.done(), "others served")
    finally:
        task.cancel()
        outcome = (await asyncio.gather(task, return_exceptions=True))[0]
    if not isinstance(outcome, asyncio.CancelledError):
        raise outcome
    print(f"others: {len(taken)} served, median {median(taken):.3f} s, longest {max(taken):.3f} s")
    assert max(taken) < LONGEST


def connections_of(service):
    """Open connections at the web door."""
    return sum(
        one.laddr.port == service.web_port and one.status == psutil.CONN_ESTABLISHED
        for one in psutil.Process(service.pid).net_connections("tcp")
    )


async def open_and_leave(service, place, number, start=b""):
    """Connections from one address, on which no more is said than the start of a request."""
    loop = asyncio.get_running_loop()
    lines = []
    for count in range(number):
        line = socket.socket()
        line.setblocking(False)
        line.bind((place, 0))
        with suppress(ConnectionError):
            await loop.sock_connect(line, ("127.0.0.1", service.web_port))
            if start:
                await loop.sock_sendall(line, start)
        lines.append(line)
        if count % 100 == 0:
            await asyncio.sleep(0)
    return lines


@pytest.fixture
def many_files():
    """Enough of them for a flood's own side."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < CROWD + 1_000:
        pytest.skip(f"this machine lets nobody open more than {hard} connections")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("places", [1, 100])
async def test_ten_thousand_connections_that_are_opened_and_left(service, many_files, places):
    """From one address and from a hundred; half of them begin a request."""
    lines: list[socket.socket] = []
    try:
        async with others(service):
            for place in range(places):
                for start in (b"", HALF_A_HEAD):
                    address = f"127.0.1.{place + 1}"
                    number = CROWD // places // 2
                    lines += await open_and_leave(service, address, number, start)
        assert len(lines) == CROWD
    finally:
        for line in lines:
            line.close()
    wait_until(lambda: connections_of(service) < 50, "the connections' end")


async def test_nobody_holds_a_connection_for_saying_nothing(service, many_files):
    lines = await open_and_leave(service, "127.0.2.1", 500, HALF_A_HEAD)
    try:
        await asyncio.to_thread(
            wait_until, lambda: connections_of(service) < 50, "the connections' end"
        )
    finally:
        for line in lines:
            line.close()


async def test_many_open_streams_that_nobody_reads_hold_up_nobody(service, many_files):
    """Two thousand of them, in conversations of their own; each has its ping."""
    streams: list[socket.socket] = []
    loop = asyncio.get_running_loop()
    before = psutil.Process(service.pid).memory_info().rss
    try:
        for _ in range(2_000 // chat_live.PAGES):
            async with Resident(service, "127.0.3.1") as resident:
                head = f"GET {resident.path}/events HTTP/1.1\r\nHost: x\r\n"
                for _ in range(chat_live.PAGES):
                    line = socket.socket()
                    line.setblocking(False)
                    line.bind(("127.0.3.1", 0))
                    await loop.sock_connect(line, ("127.0.0.1", service.web_port))
                    request = f"{head}Cookie: {resident.cookie}\r\n\r\n"
                    await loop.sock_sendall(line, request.encode())
                    streams.append(line)
        async with others(service):
            await asyncio.sleep(5)  # what is looked at is how others fare over a span of time
        for line in streams:
            assert (await loop.sock_recv(line, 100)).startswith(b"HTTP/1.1 200 ")
        grown = psutil.Process(service.pid).memory_info().rss - before
        print(f"streams: {grown / len(streams) / 1024:.0f} kB each")
        assert grown < 200 * 1024 * len(streams)
    finally:
        for line in streams:
            line.close()
    wait_until(lambda: connections_of(service) < 50, "the streams' end")


async def test_fifty_messages_a_second_from_one_token(service):
    before, answers = said(service), []
    async with Resident(service, "127.0.4.1") as loud, others(service):
        began = asyncio.get_running_loop().time()
        for beat in range(200):
            await asyncio.sleep(max(0.0, began + beat / 50 - asyncio.get_running_loop().time()))
            answers.append(await loud.say(f"Melding {beat}"))
        kept = await loud.texts()
    counts = Counter(answer.status_code for answer in answers)
    assert set(counts) == {201, 429}
    assert 20 <= counts[201] <= 30
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.headers["content-type"] == "application/problem+json"
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["detail"]
    accepted = [f"Melding {n}" for n, a in enumerate(answers) if a.status_code == 201]
    assert [text for text in kept if text.startswith("Melding")] == accepted
    assert said(service) >= before + counts[201]


async def test_messages_of_a_megabyte(service):
    async with Resident(service, "127.0.5.1") as large, others(service):
        near = [await large.say("x" * 1_000_000) for _ in range(15)]
        beyond = [await large.say("x" * 1_100_000) for _ in range(15)]
        over = await large.client.post(
            f"{large.path}/messages",
            data=message("Hei"),
            files=[("files", ("stor.pdf", b"%PDF-1.4\n" + bytes(32_000_000), ""))],
        )
        rows = await large.texts()
    assert {a.status_code for a in near} == {422}
    assert near[0].json() == {"problems": {"text": "too_long"}}
    assert {a.status_code for a in beyond} <= {413, 429}
    assert over.status_code in {413, 429}
    assert rows == []


async def test_a_body_that_comes_slowly_is_taken_when_it_is_whole_and_forgotten_when_not(service):
    before = said(service)
    async with Resident(service, "127.0.6.1") as slow, others(service):
        head = (
            f"POST {slow.path}/messages HTTP/1.1\r\nHost: x\r\nCookie: {slow.cookie}\r\n"
            "Content-Type: application/json\r\n"
        )
        body = json.dumps(message("Langsomt")).encode()
        writers = []
        for whole in (True, False):
            reader, writer = await asyncio.open_connection("127.0.0.1", service.web_port)
            writer.write(f"{head}Content-Length: {len(body) + (not whole)}\r\n\r\n".encode())
            for byte in body:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.002)
            writers.append(writer)
            if whole:
                assert (await reader.readline()).startswith(b"HTTP/1.1 201 ")
        for writer in writers:
            writer.close()
        assert [text for text in await slow.texts() if text == "Langsomt"] == ["Langsomt"]
    assert said(service) > before
    assert "web.failed" not in service.log


async def test_readers_that_never_read_hold_up_nobody(service):
    """Of nine streams of one talk eight never read, and the ninth hears all."""
    headers = {"Authorization": f"Bearer {service.token()}"}
    texts = [f"{number} ".ljust(3_999, "å") + "." for number in range(100)]
    heard: list[str] = []
    loop, ref, streams = asyncio.get_running_loop(), "", []
    async with (
        Resident(service, "127.0.7.1") as resident,
        httpx.AsyncClient(base_url=service.url, headers=headers, timeout=PATIENCE) as api,
    ):
        await resident.say("Hei")
        for _ in range(chat_live.PAGES - 1):
            line = socket.socket()
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            line.setblocking(False)
            await loop.sock_connect(line, ("127.0.0.1", service.web_port))
            head = f"GET {resident.path}/events HTTP/1.1\r\nHost: x\r\n"
            await loop.sock_sendall(line, f"{head}Cookie: {resident.cookie}\r\n\r\n".encode())
            streams.append(line)
        async with resident.client.stream("GET", f"{resident.path}/events") as stream:
            async for line in stream.aiter_lines():
                data = json.loads(line[5:]) if line.startswith("data:") else {}
                if not ref and (ref := data.get("ref", "")):
                    for text in texts:
                        path = f"/api/inquiries/{ref}/reply"
                        answer = await api.post(path, json={"text": text})
                        assert answer.status_code == 200, answer.text
                heard += [data["text"]] if "text" in data else []
                if heard[-1:] == texts[-1:]:
                    break
        for line in streams:
            line.close()
    assert [text for text in heard if text in texts] == texts


async def test_what_is_forged_is_refused_in_words_and_leaves_nothing(service):
    async with (
        Resident(service) as mine,
        Resident(service) as theirs,
        httpx.AsyncClient(base_url=service.url, timeout=PATIENCE) as stranger,
    ):
        assert (await theirs.say("Hemmelig")).status_code == 201
        before = said(service)
        keys = (
            theirs.key, "x", "..", "%00", "%2e%2e%2f", "æ", "A" * 22, "1' OR '1'='1", "x" * 4_000,
        )  # fmt: skip
        for key in keys:
            for browser in (mine.client, stranger):
                base = f"/chat/conversations/{key}"
                answers = [
                    await browser.get(f"{base}/messages"),
                    await browser.get(f"{base}/events"),
                    await browser.post(f"{base}/messages", json=message("Inn")),
                    await browser.post(f"{base}/read", json={"message_id": 1}),
                    await browser.post(f"{base}/leave"),
                ]
                for answer in answers:
                    assert answer.status_code in {404, 405}, (key, answer.status_code)
                    assert "Hemmelig" not in answer.text
        forged = httpx.AsyncClient(
            base_url=service.url, headers={"Cookie": "sentralbord-chat=" + "A" * 43}
        )
        async with forged:
            assert (
                await forged.post(f"{theirs.path}/messages", json=message("Inn"))
            ).status_code == 404
        for number in ("-1", "x", "1.5", "9" * 40, "\u0663".encode().decode("latin-1")):
            answer = await mine.client.get(
                f"{mine.path}/events", headers={"Last-Event-ID": number.encode("latin-1")}
            )
            assert answer.status_code == 422, number
            assert "number" in answer.json()["detail"]
        for client_id in ("", "1", "x" * 36, "../../../etc/passwd", str(uuid.uuid4()) + "x", 7):
            body = {"client_msg_id": client_id, "text": "Inn"}
            answer = await mine.client.post(f"{mine.path}/messages", json=body)
            assert answer.status_code == 422, client_id
            assert answer.json()["problems"]
        for headers in (
            {"Origin": "https://ond.example"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Origin": "null"},
        ):
            for answer in (
                await mine.say("Inn", headers=headers),
                await mine.client.get(f"{mine.path}/events", headers=headers),
                await mine.client.post("/chat/conversations", json={}, headers=headers),
            ):
                assert answer.status_code == 403, headers
                assert answer.json()["detail"]
        assert said(service) == before
        assert (await theirs.texts())[0] == "Hemmelig"


async def test_one_message_id_is_one_message_also_when_sent_fifty_times_at_once(service):
    async with Resident(service) as resident:
        await resident.say("Hei")
        body = message("Én gang")
        answers = await asyncio.gather(
            *(resident.client.post(f"{resident.path}/messages", json=body) for _ in range(15))
        )
        counts = Counter(answer.status_code for answer in answers)
        assert counts == {201: 1, 200: 14}
        assert len({answer.json()["id"] for answer in answers}) == 1
        changed = await resident.client.post(
            f"{resident.path}/messages", json={**body, "text": "To ganger"}
        )
        assert changed.status_code == 422
        assert "another message" in changed.json()["detail"]
        assert (await resident.texts()).count("Én gang") == 1


async def test_a_ninth_page_is_refused_however_fast_it_is_opened(service):
    async with Resident(service) as resident, others(service):
        await resident.say("Hei")
        requests = [
            resident.client.build_request("GET", f"{resident.path}/events") for _ in range(40)
        ]
        answers = await asyncio.gather(
            *(resident.client.send(one, stream=True) for one in requests)
        )
        counts = Counter(answer.status_code for answer in answers)
        assert counts == {200: chat_live.PAGES, 429: 40 - chat_live.PAGES}
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert "windows" in (await refused.aread()).decode()
        for answer in answers:
            await answer.aclose()


async def test_script_in_every_field_is_shown_as_text_everywhere(service, smarthost):
    """By the widget, by the pages without script, at the desk, and in mails."""
    async with Resident(service) as resident:
        address = f"{unique('x')[2:]}@eksempel.no"
        contact = {"name": SCRIPT, "email": address, "phone": ""}
        assert (await resident.say(SCRIPT)).status_code == 201
        wrong = {**contact, "email": f"{SCRIPT}@x.no"}
        refused = await resident.client.post(f"{resident.path}/contact", json=wrong)
        assert refused.status_code == 422
        assert (await resident.client.post(f"{resident.path}/contact", json=contact)).is_success
        form = {"client_msg_id": str(uuid.uuid4()), "text": f"Se {SCRIPT}"}
        file = ("files", (f"{SCRIPT}.png", PNG, "text/html"))
        sent = await resident.client.post(f"{resident.path}/messages", data=form, files=[file])
        assert sent.status_code == 201, sent.text
        view = await resident.client.get(f"{resident.path}/messages")
        assert view.headers["content-type"] == "application/json"
        assert view.headers["x-content-type-options"] == "nosniff"
        lines = view.json()["messages"]
        assert lines[0]["text"] == SCRIPT
        link = lines[-1]["files"][0]["url"]
        download = await resident.client.get(link)
        assert download.headers["content-disposition"].startswith("attachment")
        assert download.headers["content-type"] == "image/png"
        ref = view.json()["standing"]["ref"]
        desk = service.sign_in()
        api = service.api()
        assert api.post(f"/api/inquiries/{ref}/reply", json={"text": SCRIPT}).status_code == 200
        asked = await resident.client.post(f"{resident.path}/transcript", json={"email": address})
        assert asked.status_code == 204
        pages = [
            (await resident.client.get("/chat")).text,
            (await resident.client.get(f"/chat?embed=1&done={SCRIPT}&lang={SCRIPT}")).text,
            desk.get("/desk/queue").text,
            desk.get(f"/desk/inquiries/{ref}").text,
            desk.get(f"/desk/chats/{ref}").text,
            (await resident.client.get(f"/status/{SCRIPT}")).text,
        ]
    for page in pages:
        assert "<script>alert" not in page
        assert "<img src=x" not in page
    assert all("&lt;script&gt;alert" in page for page in (pages[0], pages[3], pages[4]))
    mails = smarthost.first_to(address, 1)
    for mail in mails:
        assert "\n" not in mail["Subject"]
        for part in mail.message.walk():
            if part.get_content_type() == "text/html":
                assert b"<script>alert" not in part.get_payload(decode=True)
    assert any(SCRIPT in mail.text for mail in mails)
