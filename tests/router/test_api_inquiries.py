"""The JSON interface as an integrator meets it: lists, details, actions, rights, errors."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from datetime import datetime

import pytest
from sqlalchemy import update
from sqlmodel import col

from router.models import Inquiry, InquiryStatus, Role
from tests.router.web_house import house

INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
FORM = {
    "channel": "web",
    "from": {"name": "Kari Nordmann", "email": "kari@example.no"},
    "subject": "Hull i veien",
    "text": "Det er et stort hull i veien ved skolen.",
}


@pytest.fixture
async def home(tmp_path):
    async with house(tmp_path) as opened:
        yield opened


def _cursor(*parts):
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


def _is_problem(answer, status, code):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["type"].endswith(f"/api/problems/{code}")
    assert problem["title"]
    assert problem["detail"]
    assert problem["instance"].startswith("/api")
    assert problem["request_id"] == answer.headers["x-request-id"]
    return problem


async def test_a_form_becomes_an_inquiry_that_can_be_listed_and_read(home):
    api = await home.api()
    made = await api.post("/api/inquiries", json=FORM, headers={"Idempotency-Key": "a-1"})
    assert made.status_code == 201
    receipt = made.json()
    assert set(receipt) == {"ref", "due_at", "department"}
    assert receipt["department"] == "vei"
    assert INSTANT.fullmatch(receipt["due_at"])

    listed = (await api.get("/api/inquiries")).json()
    assert listed["next"] is None
    [item] = listed["items"]
    assert set(item) == {
        *("ref", "channel", "kind", "status", "subject", "department", "assignee", "received_at"),
        *("due_at", "reply_state", "language", "tags"),
        *("emergency", "sensitivity", "overdue", "version"),
    }
    assert item | receipt == item
    assert item["assignee"] is None
    assert "kari@" not in str(listed), "no addresses in lists"

    detail = (await api.get(f"/api/inquiries/{receipt['ref']}")).json()
    assert item.items() <= detail.items()
    assert detail["contact"] == {
        "id": detail["contact"]["id"],
        "name": "Kari Nordmann",
        "addresses": [{"channel": "email", "value": "kari@example.no"}],
    }
    first = detail["messages"][0]
    assert (first["direction"], first["from"], first["text"]) == (
        "in",
        "kari@example.no",
        FORM["text"],
    )
    assert {"kind", "channel", "to", "at", "delivery", "attachments"} <= set(first)
    [decision] = detail["decisions"]
    assert decision["department"] == "vei"
    assert decision["reason_text"].startswith("Rutet til Vei fordi")
    assert decision["trace"]["route"]
    assert [event["kind"] for event in detail["events"]][:2] == ["received", "routed"]


async def test_the_same_key_again_changes_nothing_and_answers_the_same(home):
    api = await home.api()
    headers = {"Idempotency-Key": "a-1"}
    first = await api.post("/api/inquiries", json=FORM, headers=headers)
    again = await api.post("/api/inquiries", json=FORM, headers=headers)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    other = await api.post("/api/inquiries", json=FORM | {"text": "Noe annet"}, headers=headers)
    _is_problem(other, 422, "invalid")
    somebody_else = await home.api(Role.OPERATOR, "vei")
    theirs = await somebody_else.post("/api/inquiries", json=FORM, headers=headers)
    assert theirs.status_code == 201, "a key holds for the account that used it"
    assert len((await api.get("/api/inquiries")).json()["items"]) == 2


async def test_the_same_form_sent_ten_times_at_once_is_one_inquiry(home):
    api = await home.api()
    answers = await asyncio.gather(
        *(
            api.post("/api/inquiries", json=FORM, headers={"Idempotency-Key": "k"})
            for _ in range(10)
        )
    )
    taken = {a.json()["ref"] for a in answers if a.status_code in {200, 201}}
    assert len(taken) == 1
    assert {a.status_code for a in answers} <= {200, 201, 503}
    assert len((await api.get("/api/inquiries")).json()["items"]) == 1


async def test_a_member_sees_the_own_department_and_nothing_else_exists(home):
    ref = await home.inquiry()  # goes to vei
    mine, theirs = await home.api(Role.MEMBER, "vei"), await home.api(Role.MEMBER, "skole")
    assert [i["ref"] for i in (await mine.get("/api/inquiries")).json()["items"]] == [ref]
    assert (await mine.get(f"/api/inquiries/{ref}")).status_code == 200
    assert (await theirs.get("/api/inquiries")).json() == {"items": [], "next": None}
    for wanted in ("department=vei", "q=hull", "status=open"):
        assert (await theirs.get(f"/api/inquiries?{wanted}")).json()["items"] == []
    unknown = _is_problem(await theirs.get("/api/inquiries/S-2026-999999"), 404, "not-found")
    hidden = _is_problem(await theirs.get(f"/api/inquiries/{ref}"), 404, "not-found")
    assert unknown["detail"] == hidden["detail"]
    bodies = {
        "claim": None,
        "release": None,
        "close": None,
        "reopen": None,
        "transfer": {"department": "skole"},
        "return": {"reason": "Ikke vårt"},
        "reply": {"text": "Hei"},
        "note": {"text": "Hei"},
    }
    for action, body in bodies.items():
        answer = await theirs.post(f"/api/inquiries/{ref}/{action}", json=body)
        _is_problem(answer, 404, "not-found")
    assert (await mine.get(f"/api/inquiries/{ref}")).json()["version"] == 1


async def test_two_claim_at_once_and_exactly_one_wins(home):
    api = await home.api()
    refs = [await home.inquiry(f"Hull nummer {n}", f"Hull {n} i veien") for n in range(3)]
    other = home.visitor(Authorization=f"Bearer {await home.token()}")
    for ref in refs:
        answers = await asyncio.gather(
            *(client.post(f"/api/inquiries/{ref}/claim") for client in (api, other))
        )
        won, lost = sorted(answers, key=lambda answer: answer.status_code)
        assert won.json()["assignee"].startswith("api-")
        problem = _is_problem(lost, 409, "conflict")
        assert problem["holder"] == "API (operator)"
        assert won.json()["assignee"] == (await api.get(f"/api/inquiries/{ref}")).json()["assignee"]


async def test_what_one_holds_another_cannot_change(home):
    await home.person("kari")
    ref = await home.inquiry()
    holder, other = await home.api(), home.visitor(Authorization=f"Bearer {await home.token()}")
    await holder.post(f"/api/inquiries/{ref}/claim")
    for action, body in (
        ("release", None),
        ("close", None),
        ("transfer", {"department": "skole"}),
        ("reply", {"text": "Hei"}),
    ):
        _is_problem(await other.post(f"/api/inquiries/{ref}/{action}", json=body), 409, "conflict")
    assert (await other.post(f"/api/inquiries/{ref}/note", json={"text": "Ringt"})).is_success
    assert (await holder.post(f"/api/inquiries/{ref}/release")).json()["assignee"] is None


async def test_one_inquiry_through_every_action(home):
    api = await home.api()
    ref = await home.inquiry()
    base = f"/api/inquiries/{ref}"
    before = (await api.get(base)).json()
    moved = await api.post(
        f"{base}/transfer", json={"department": "park", "note": "Det gjelder en sti."}
    )
    assert moved.json()["department"] == "park"
    home.clock.move(minutes=1)
    back = await api.post(f"{base}/return", json={"reason": "Ikke vår sti."})
    assert back.json()["department"] == "servicetorg"
    claimed = await api.post(f"{base}/claim")
    assert claimed.json()["assignee"].startswith("api-")
    answered = await api.post(f"{base}/reply", json={"text": "Vi fikser hullet.", "close": True})
    assert (answered.json()["status"], answered.json()["reply_state"]) == ("closed", "answered")
    assert (await api.post(f"{base}/close")).json()["status"] == "closed", "twice changes nothing"
    opened = (await api.post(f"{base}/reopen")).json()
    assert opened["status"] == "open"
    assert (opened["received_at"], opened["due_at"]) == (before["received_at"], before["due_at"])
    detail = (await api.get(base)).json()
    kinds = [(m["direction"], m["text"]) for m in detail["messages"]]
    assert ("note", "Det gjelder en sti.") in kinds
    assert ("note", "Ikke vår sti.") in kinds
    reply = next(m for m in detail["messages"] if m["kind"] == "reply")
    assert reply["to"] == ["kari@example.no"]
    assert reply["delivery"] == "queued"
    assert [d["department"] for d in detail["decisions"]] == ["vei", "park", "servicetorg"]


async def test_a_member_who_sends_an_inquiry_away_learns_where_it_went(home):
    ref = await home.inquiry()
    mine = await home.api(Role.MEMBER, "vei")
    answer = await mine.post(f"/api/inquiries/{ref}/transfer", json={"department": "park"})
    assert answer.json()["department"] == "park"
    _is_problem(await mine.get(f"/api/inquiries/{ref}"), 404, "not-found")


async def test_a_stale_version_is_refused(home):
    api = await home.api()
    ref = await home.inquiry()
    await api.post(f"/api/inquiries/{ref}/claim")
    stale = {"version": 1}
    _is_problem(await api.post(f"/api/inquiries/{ref}/close", json=stale), 409, "conflict")
    answer = await api.post(f"/api/inquiries/{ref}/reply", json={"text": "Hei", **stale})
    _is_problem(answer, 409, "conflict")
    assert (await api.post(f"/api/inquiries/{ref}/close", json={"version": 2})).is_success


async def test_pages_follow_each_other_without_gap_or_repeat(home):
    refs = [await home.inquiry(f"Sak {n}", f"Hull {n} i veien") for n in range(7)]
    api = await home.api()
    await api.post(f"/api/inquiries/{refs[0]}/close")
    await api.post(f"/api/inquiries/{refs[1]}/close")
    seen, after = [], ""
    for _ in range(9):
        page = (await api.get("/api/inquiries", params={"limit": 2, "after": after})).json()
        seen += [item["ref"] for item in page["items"]]
        after = page["next"]
        if after is None:
            break
    assert sorted(seen) == sorted(refs)
    assert set(seen[-2:]) == set(refs[:2]), "closed ones come last"


async def test_filters(home):
    api = await home.api()
    ref = await home.inquiry()
    await home.inquiry("Barnehageplass", "Jeg søker om plass i barnehage")
    await api.post(f"/api/inquiries/{ref}/claim")

    async def refs(**wanted):
        items = (await api.get("/api/inquiries", params=wanted)).json()["items"]
        return [item["ref"] for item in items]

    assert await refs(department="vei") == [ref]
    assert await refs(assignee="me") == [ref]
    assert ref not in await refs(assignee="none")
    assert await refs(q="hull") == [ref]
    assert await refs(status="closed") == []
    assert len(await refs(channel="web", limit=100_000)) == 2
    assert await refs(channel="email") == []


async def test_what_lies_aside_is_listed_when_asked_for_the_latest_first(home):
    api = await home.api()
    refs = []
    for number in range(3):
        home.clock.move(minutes=1)
        refs.append(await home.inquiry(f"Nyhetsbrev {number}"))
    kept = await home.inquiry()

    def set_aside(session):
        statement = update(Inquiry).where(col(Inquiry.ref).in_(refs))
        session.connection().execute(statement.values(status=InquiryStatus.ASIDE))

    await home.hall.db.write(set_aside)
    first = (await api.get("/api/inquiries?status=aside&limit=2")).json()
    rest = (await api.get(f"/api/inquiries?status=aside&after={first['next']}")).json()
    assert [item["ref"] for item in first["items"] + rest["items"]] == refs[::-1]
    assert {item["status"] for item in first["items"]} == {"aside"}
    assert rest["next"] is None
    assert [item["ref"] for item in (await api.get("/api/inquiries")).json()["items"]] == [kept]
    one = await api.post(f"/api/inquiries/{refs[0]}/reopen")
    assert one.json()["status"] == "open"


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("after=garbage", "cursor"),
        ("after=" + "A" * 399, "cursor"),
        ("after=WyJvcGVuIiwxLCIyMDI2LTAxLTAxIiwxXQ", "cursor"),  # a date without a zone
        ("after=" + _cursor("open", 2**64 - 1, "2026-01-01T00:00:00+00:00", 1), "cursor"),
        ("after=" + _cursor("open", 1, "0001-01-01T00:00:00+14:00", 1), "cursor"),
        ("after=" + _cursor("closed", "9999-12-31T23:59:59-14:00", 1), "cursor"),
        ("after=" + _cursor("closed", "2026-01-01T00:00:00+00:00", -(2**63) - 1), "cursor"),
        ("after=" + _cursor("open", None, None, None), "cursor"),
        ("status=borte", "status"),
        ("departement=vei", "Did you mean «department»"),
        ("department=veit", "Did you mean «vei»"),
        ("limit=0", "limit"),
        ("limit=mange", "limit"),
        ("q=" + "a" * 201, "200"),
    ],
)
async def test_a_list_that_cannot_be_made_is_refused_with_a_reason(home, query, says):
    problem = _is_problem(await (await home.api()).get(f"/api/inquiries?{query}"), 422, "invalid")
    assert says in str(problem)


async def test_odd_characters_in_a_query_find_nothing_and_break_nothing(home):
    api = await home.api()
    for query in ("q=%00", "q=%ff%fe", "q=%25_\\", "assignee=%00", "channel=%ED%A0%80"):
        assert (await api.get(f"/api/inquiries?{query}")).status_code == 200
    for ref in ("%00", "S-2026-000001%00", "a%2Fb", "%ff", "x" * 500):
        _is_problem(await api.get(f"/api/inquiries/{ref}"), 404, "not-found")


async def test_nul_bytes_and_other_control_characters_are_cleaned_away(home):
    api = await home.api()
    form = FORM | {
        "subject": "Hull\x00 i\nveien \x1b[31m",
        "text": "Hull\x00 ved skolen\r\nHilsen Ka\u030a",
    }
    ref = (await api.post("/api/inquiries", json=form)).json()["ref"]
    detail = (await api.get(f"/api/inquiries/{ref}")).json()
    assert detail["subject"] == "Hull i veien [31m"
    assert detail["messages"][0]["text"] == "Hull ved skolen\nHilsen K\u00e5"
    await api.post(f"/api/inquiries/{ref}/note", json={"text": "a\x00b"})
    assert "ab" in [m["text"] for m in (await api.get(f"/api/inquiries/{ref}")).json()["messages"]]


async def test_a_national_identity_number_is_masked(home):
    api = await home.api()
    ref = await home.inquiry("Om 01018000055", "Nummeret mitt er 01018000055. Hull i veien.")
    text = (await api.get(f"/api/inquiries/{ref}")).text + (await api.get("/api/inquiries")).text
    assert "01018000055" not in text
    assert "010180 *****" in text


@pytest.mark.parametrize(
    ("body", "status", "code", "says"),
    [
        (b'{"text": "\xff"}', 400, "bad-request", "UTF-8"),
        (b'{"text": "\\ud800"}', 422, "invalid", "Unicode"),
        (b'{"text": ', 422, "invalid", "JSON"),
        (b"[]", 422, "invalid", "object"),
        (b"", 422, "invalid", "needed"),
        (b'{"text": ""}', 422, "invalid", "empty"),
        (b'{"text": "a", "clsoe": true}', 422, "invalid", "Did you mean «close»?"),
        (b'{"text": 7}', 422, "invalid", "body.text"),
        (b'{"text": "' + b"a" * 100_001 + b'"}', 422, "invalid", "100000"),
        (b'{"text": "' + b"a" * 33_554_432 + b'"}', 413, "too-large", ""),
        (b"[" * 100_000, 400, "bad-request", ""),
    ],
)
async def test_bodies_that_make_no_sense_are_refused_in_plain_words(home, body, status, code, says):
    api = await home.api()
    ref = await home.inquiry()
    answer = await api.post(
        f"/api/inquiries/{ref}/reply", content=body, headers={"Content-Type": "application/json"}
    )
    problem = _is_problem(answer, status, code)
    assert says in str(problem)
    assert "aaaa" not in str(problem), "what was sent is not repeated"


async def test_a_body_sent_in_pieces_is_counted_too(home):
    async def pieces():
        for _ in range(20):
            yield b"a" * 100_000

    api = await home.api()
    ref = await home.inquiry()
    answer = await api.post(
        f"/api/inquiries/{ref}/note",
        content=pieces(),
        headers={"Content-Type": "application/json"},
    )
    _is_problem(answer, 413, "too-large")


async def test_a_body_of_another_kind_is_refused(home):
    api = await home.api()
    ref = await home.inquiry()
    answer = await api.post(f"/api/inquiries/{ref}/note", data={"text": "Hei"})
    assert "application/json" in str(_is_problem(answer, 422, "invalid"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"from": {}}, "email"),
        ({"from": {"email": "ikke en adresse"}}, "email"),
        ({"from": {"epost": "a@example.no"}}, "There is no field «epost»"),
        ({"text": "  "}, "text"),
        ({"channel": "email"}, "channel"),
        ({"subject": "x" * 501}, "subject"),
    ],
)
async def test_forms_that_cannot_be_answered_are_refused(home, change, says):
    answer = await (await home.api()).post("/api/inquiries", json=FORM | change)
    assert says in str(_is_problem(answer, 422, "invalid"))


async def test_wrong_methods_and_addresses(home):
    api = await home.api()
    wrong = await api.delete("/api/inquiries")
    _is_problem(wrong, 405, "method-not-allowed")
    assert set(wrong.headers["allow"].replace(" ", "").split(",")) & {"GET", "POST"}
    _is_problem(await api.get("/api/nothing"), 404, "not-found")
    _is_problem(await api.get("/api"), 404, "not-found")
    moved = await api.get("/api/inquiries/?limit=1")
    assert (moved.status_code, moved.headers["location"]) == (308, "/api/inquiries?limit=1")
    assert (await api.get("http://127.0.0.1:8080//evil.example/")).status_code == 404
    head = await api.head("/api/inquiries")
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer x", "Basic eDp5", "Bearer \xe5", "bearer  y z"]
)
async def test_without_a_token_nothing_is_told(home, header):
    ref = await home.inquiry()
    visitor = home.visitor()
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    for path in ("/api/inquiries", f"/api/inquiries/{ref}", "/api/events"):
        answer = await visitor.get(path, headers=headers)
        _is_problem(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"].startswith("Bearer")
    _is_problem(
        await visitor.post("/api/inquiries", json=FORM, headers=headers), 401, "unauthorized"
    )


async def test_guessing_tokens_is_slowed_down(home):
    visitor = home.visitor(Authorization="Bearer guess")
    for _ in range(60):
        assert (await visitor.get("/api/inquiries")).status_code == 401
    slowed = await visitor.get("/api/inquiries")
    _is_problem(slowed, 429, "too-many")
    assert int(slowed.headers["retry-after"]) >= 1
    assert (await (await home.api()).get("/api/inquiries")).status_code == 200


async def test_the_desk_session_may_read_but_not_act(home):
    await home.person("kari")
    await home.sign_in("kari")
    ref = await home.inquiry()
    assert (await home.client.get(f"/api/inquiries/{ref}")).status_code == 200
    _is_problem(await home.client.post(f"/api/inquiries/{ref}/claim"), 401, "unauthorized")


async def test_explain_says_where_and_why_and_stores_nothing(home):
    api = await home.api(Role.MEMBER, "skole")
    question = {
        "channel": "email",
        "to": "Postmottak@sorum.kommune.no",
        "from": "ola@example.no",
        "subject": "Hull i veien",
        "text": "Hei! Det er et hull i veien.",
    }
    answer = await api.post("/api/rules/explain", json=question)
    explained = answer.json()
    assert set(explained) == {
        *("department", "kind", "tags", "language", "emergency", "reason", "reason_text"),
        *("ruleset", "trace"),
    }
    assert explained["department"] == "vei"
    assert explained["emergency"] is False
    assert (await (await home.api()).get("/api/inquiries")).json()["items"] == []
    assert (await api.post("/api/rules/explain", json={})).status_code == 200


async def test_overdue_is_told(home):
    ref = await home.inquiry()
    api = await home.api()
    item = (await api.get(f"/api/inquiries/{ref}")).json()
    assert item["overdue"] is False
    home.clock.now = datetime.fromisoformat(item["due_at"])
    assert (await api.get(f"/api/inquiries/{ref}")).json()["overdue"] is True
    await api.post(f"/api/inquiries/{ref}/reply", json={"text": "Svar"})
    assert (await api.get(f"/api/inquiries/{ref}")).json()["overdue"] is False


async def test_the_openapi_document_is_whole(home):
    document = (await home.visitor().get("/api/openapi.json")).json()
    text = str(document)
    names = set(re.findall(r"#/components/schemas/(\w+)", text))
    assert names <= set(document["components"]["schemas"])
    assert "Problem" in names
    assert "HTTPValidationError" not in text
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert not [path for path in document["paths"] if path.startswith(("/desk", "/status"))]
    for path in (
        "/api/inquiries",
        "/api/inquiries/{ref}",
        *(
            f"/api/inquiries/{{ref}}/{action}"
            for action in ("claim", "release", "transfer", "return", "reply", "note", "close")
        ),
        "/api/rules/explain",
        "/api/events",
    ):
        for operation in document["paths"][path].values():
            assert operation["security"] == [{"token": []}]
            assert operation["summary"]
            assert operation["description"]
            assert "401" in operation["responses"]


async def test_a_problem_explains_itself_at_its_address(home):
    problem = (await home.visitor().get("/api/inquiries")).json()
    meaning = await home.visitor().get(problem["type"])
    assert meaning.json()["code"] == "unauthorized"
    assert "token" in meaning.json()["meaning"]
    _is_problem(await home.visitor().get("/api/problems/x"), 404, "not-found")


async def test_a_fault_of_ours_is_told_without_giving_anything_away(home, monkeypatch):
    def broken(*_arguments):
        raise ZeroDivisionError("Kari Nordmann, kari@example.no")

    api = await home.api()
    monkeypatch.setattr("router.queue.page", broken)
    problem = _is_problem(await api.get("/api/inquiries"), 500, "internal")
    assert "Kari" not in str(problem)


async def test_answers_carry_the_headers_that_keep_them_private(home):
    answer = await (await home.api()).get("/api/inquiries")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["referrer-policy"] == "same-origin"
    assert re.fullmatch(r"[0-9a-f]{16}", answer.headers["x-request-id"])
    assert "strict-transport-security" not in answer.headers


async def test_a_reply_takes_files_along(home):
    api = await home.api()
    ref = await home.inquiry()
    content = bytes(range(256)) * 40
    files = [
        {"filename": "kart.bin", "content_base64": base64.b64encode(content).decode()},
        {"filename": "notat.txt", "content_type": "text/html", "content_base64": "SGVp"},
    ]
    body = {"text": "Se vedlegg.", "attachments": files}
    answer = await api.post(f"/api/inquiries/{ref}/reply", json=body)
    assert answer.status_code == 200, answer.text
    messages = (await api.get(f"/api/inquiries/{ref}")).json()["messages"]
    [sent] = [message for message in messages if message["kind"] == "reply"]
    told = [(f["filename"], f["content_type"], f["size"]) for f in sent["attachments"]]
    assert told == [
        ("kart.bin", "application/octet-stream", 10_240),
        ("notat.txt", "text/plain", 3),
    ]


@pytest.mark.parametrize(
    ("attachments", "says"),
    [
        ([{"filename": "a", "content_base64": "ikke base64!"}], "attachments.0.content_base64"),
        ([{"filename": "a", "content_base64": "eA==", "size": 1}], "no field «size»"),
        ([{"filename": "a", "content_base64": "eA=="}] * 21, "attachments"),
        ([{"filename": "a", "content_base64": "AAAA" * 6_700_000}], "larger than 20 MB"),
    ],
)
async def test_files_that_cannot_go_are_refused_and_nothing_is_sent(home, attachments, says):
    api = await home.api()
    ref = await home.inquiry()
    body = {"text": "Hei", "attachments": attachments}
    problem = _is_problem(await api.post(f"/api/inquiries/{ref}/reply", json=body), 422, "invalid")
    assert says in str(problem)
    messages = (await api.get(f"/api/inquiries/{ref}")).json()["messages"]
    assert "reply" not in [message["kind"] for message in messages]
