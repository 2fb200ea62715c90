"""What people see: words and dates in three languages, the desk's pages, the residents' pages."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import cache
from types import SimpleNamespace

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po
from sqlmodel import select

from router import events, queue
from router.access import Actor
from router.blobs import put_blob
from router.models import Event, Inquiry, Message, OutboxItem, ReplyState, Role, StoredAttachment
from router.web import assets, phrases, render
from router.web.labels import LABELS
from router.web.listing import match_departments
from router.web.render import LANGUAGES, LOCALE, accepted_language, catalogue
from router.web.residents import opening_words
from tests.router.store_house import MONDAY, REPOSITORY
from tests.router.web_house import PASSWORD, house

NUMBER = "13097248022"
"""A synthetic fødselsnummer: valid check digits, a month that no person has."""


@pytest.fixture
async def home(tmp_path):
    async with house(tmp_path) as opened:
        yield opened


async def csrf(home) -> str:
    page = await home.client.get("/desk/account")
    return re.search(r'name="csrf" value="([^"]+)"', page.text)[1]


async def at_desk(home, username="kari", role=Role.OPERATOR, *departments):
    await home.person(username, role, *departments)
    await home.sign_in(username)
    return await csrf(home)


@cache
def texts_in_code():
    """Every (context, text) that templates and modules ask the catalogues for."""
    folder = REPOSITORY / "router"
    methods = [("**.py", "python"), ("web/templates/**.html", "jinja2")]
    options = {"web/templates/**.html": {"silent": "false"}}
    found = extract_from_dir(folder, method_map=methods, options_map=options)
    return {(context, message) for _, _, message, _, context in found}


def texts_in_catalogue(language):
    with (LOCALE / language / "LC_MESSAGES" / "sentralbord.po").open("rb") as file:
        return {(m.context, m.id): m for m in read_po(file, locale=language) if m.id}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_is_translated_and_none_is_left_over(language):
    entries = texts_in_catalogue(language)
    assert set(entries) == texts_in_code()
    untranslated = []
    for key, entry in entries.items():
        forms = entry.string if isinstance(entry.string, tuple) else (entry.string,)
        if entry.fuzzy or not all(forms):
            untranslated.append(key)
    assert not untranslated


@pytest.mark.parametrize("language", LANGUAGES)
def test_translations_keep_their_blanks(language):
    blanks = re.compile(r"%\(\w+\)[sd]")
    for (_, text), entry in texts_in_catalogue(language).items():
        first = text if isinstance(text, str) else text[1]
        last = entry.string if isinstance(entry.string, str) else entry.string[-1]
        assert sorted(blanks.findall(first)) == sorted(blanks.findall(last)), text


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "nb"),
        ("nb-NO,nb;q=0.9,en;q=0.8", "nb"),
        ("no", "nb"),
        ("nn-NO, nb;q=0.5", "nn"),
        ("pl, en;q=0.3, nn;q=0", "en"),
        ("en;q=x, ,;;;, nn", "nn"),
        ("se, fi", "nb"),
    ],
)
def test_the_language_of_the_browser(header, language):
    assert accepted_language(header) == language


def row(**changes):
    fields = {
        "closed_at": None,
        "answered_at": None,
        "emergency": False,
        "lane": 2,
        "due_at": MONDAY + timedelta(days=2, hours=6, minutes=45),
        "warn_at": MONDAY + timedelta(days=1),
    }
    return SimpleNamespace(**fields | changes)


@pytest.mark.parametrize(
    ("language", "changes", "state", "left", "deadline"),
    [
        ("nb", {}, "ok", "2 dager igjen", "frist ons. 25. nov. 15:45"),
        ("nn", {}, "ok", "2 dagar att", "frist ons. 25. nov. 15:45"),
        ("en", {}, "ok", "2 days left", "due Wed 25 Nov 15:45"),
        ("nb", {"warn_at": MONDAY}, "soon", "2 dager igjen", "frist ons. 25. nov. 15:45"),
        (
            "nb",
            {"due_at": MONDAY + timedelta(minutes=90)},
            "ok",
            "1 time igjen",
            "frist i dag kl. 10:30",
        ),
        (
            "nb",
            {"due_at": MONDAY - timedelta(hours=3)},
            "overdue",
            "Forfalt for 3 timer siden",
            "frist i dag kl. 06:00",
        ),
        ("nb", {"answered_at": MONDAY}, "answered", "Besvart i dag kl. 09:00", ""),
        ("nb", {"emergency": True}, "overdue", "Straks", ""),
        (
            "nb",
            {"closed_at": MONDAY - timedelta(days=1), "emergency": True},
            "closed",
            "Lukket i går kl. 09:00",
            "",
        ),
    ],
)
def test_deadlines_in_words(language, changes, state, left, deadline):
    view = phrases.due_view(row(**changes), MONDAY, language, catalogue(language))
    assert (view.state, view.left, view.deadline) == (state, left, deadline)


def test_a_day_is_a_day_on_the_wall_also_when_the_clock_changes():
    before = datetime(2026, 10, 24, 12, 0, tzinfo=UTC)  # 14:00 summer time
    due = datetime(2026, 10, 26, 11, 0, tzinfo=UTC)  # 12:00 winter time, 47 hours later
    view = phrases.due_view(row(due_at=due), before, "nb", catalogue("nb"))
    assert view.left == "2 dager igjen"


async def test_opening_hours_as_of_now(home):
    def words(now):
        return opening_words(home.hall.calendar, now, "nb", catalogue("nb"))

    assert words(MONDAY) == "Vi har åpent nå. I dag: 08:00–15:45."
    assert words(MONDAY - timedelta(hours=2)) == "Stengt akkurat nå. I dag: 08:00–15:45."
    evening = datetime(2026, 12, 24, 18, 0, tzinfo=UTC)
    assert words(evening) == "Stengt nå. Vi åpner igjen mandag 28. desember kl. 08:00."


async def test_departments_are_found_by_what_people_write(home):
    def found(text):
        return match_departments(home.hall, text)

    assert found("vei") == ["vei"]
    assert found("Bygg") == ["byggesak"]
    assert found("avløp") == ["vann-avlop"]
    assert found("kindergartens") == ["barnehage"]
    assert set(found("sk")) >= {"skole", "skatteetaten"}
    assert found("") == found("finnes ikke") == []


async def test_the_queue_masks_numbers_and_names_what_has_no_subject(home):
    await at_desk(home)
    await home.inquiry(subject=f"Om {NUMBER}")
    await home.inquiry(subject="")
    page = await home.client.get("/desk/queue")
    assert "Om 130972 *****" in page.text
    assert NUMBER not in page.text
    assert "(uten emne)" in page.text
    assert "3 dager igjen" in page.text


async def test_the_list_narrows_and_pages(home):
    await at_desk(home)
    for number in range(3):
        await home.inquiry(subject=f"Sak {number}")
    first = await home.client.get("/desk/queue/rows?limit=2")
    assert first.text.count('<tr id="row-') == 2
    more = re.search(r'hx-get="([^"]+)"', first.text)[1].replace("&amp;", "&")
    rest = await home.client.get(more)
    assert rest.text.count('<tr id="row-') == 1
    assert "Ingen henvendelser" in (await home.client.get("/desk/queue?channel=sms")).text
    assert "Sak 1" in (await home.client.get("/desk/queue?q=sak+1&assignee=none")).text


async def test_taking_the_next_goes_to_the_most_urgent_free_one(home):
    token = await at_desk(home)
    await home.inquiry(subject="Vanlig")
    urgent = await home.inquiry(subject="Hjelp", text="Han puster ikke")
    taken = await home.client.post("/desk/queue/next", data={"csrf": token})
    assert taken.headers["location"] == f"/desk/inquiries/{urgent}?done=claimed"
    none = await home.client.post("/desk/queue/next", data={"csrf": token, "channel": "sms"})
    assert none.headers["location"] == "/desk/queue?channel=sms&done=none_free"


async def test_who_comes_second_is_told_who_was_first_and_keeps_the_text(home):
    ref = await home.inquiry()
    await at_desk(home, "ola")
    await home.client.post(f"/desk/inquiries/{ref}/claim", data={"csrf": await csrf(home)})
    token = await at_desk(home, "kari")
    line = await home.client.post(
        f"/desk/inquiries/{ref}/claim", data={"csrf": token}, headers={"HX-Request": "true"}
    )
    assert line.status_code == 409
    assert line.text.strip().startswith("<tr")
    assert ">Ola<" in line.text
    said = "Mitt lange svar <&> som ikke må bli borte"
    page = await home.client.post(
        f"/desk/inquiries/{ref}/reply", data={"csrf": token, "text": said}
    )
    assert page.status_code == 409
    assert "Ola har tatt denne henvendelsen." in page.text
    assert "Mitt lange svar &lt;&amp;&gt; som ikke må bli borte</textarea>" in page.text


async def test_a_reply_to_an_old_page_is_refused_once_and_then_goes_through(home):
    ref = await home.inquiry()
    token = await at_desk(home)
    page = await home.client.get(f"/desk/inquiries/{ref}")
    seen = re.search(r'name="version" value="(\d+)"', page.text)[1]
    await home.client.post(f"/desk/inquiries/{ref}/claim", data={"csrf": token})
    form = {"csrf": token, "text": "Hullet er tettet.", "version": seen}
    stale = await home.client.post(f"/desk/inquiries/{ref}/reply", data=form)
    assert stale.status_code == 409
    assert "Hullet er tettet.</textarea>" in stale.text
    form["version"] = re.search(r'name="version" value="(\d+)"', stale.text)[1]
    sent = await home.client.post(f"/desk/inquiries/{ref}/reply", data=form)
    assert sent.headers["location"] == f"/desk/inquiries/{ref}?done=replied"
    assert "Venter på å bli sendt" in (await home.client.get(sent.headers["location"])).text


async def test_a_transfer_takes_the_beginning_of_a_name_and_asks_when_it_is_not_enough(home):
    ref = await home.inquiry()
    token = await at_desk(home)
    address = f"/desk/inquiries/{ref}/transfer"
    unsure = await home.client.post(address, data={"csrf": token, "department": "sk"})
    assert unsure.status_code == 422
    assert 'name="chosen" value="skole"' in unsure.text
    gone = await home.client.post(
        address, data={"csrf": token, "department": "bib", "note": "Hører til dere"}
    )
    assert gone.headers["location"] == f"/desk/queue?done=transferred&ref={ref}"
    page = await home.client.get(f"/desk/inquiries/{ref}")
    assert "Biblioteket" in page.text
    assert "Hører til dere" in page.text


async def test_a_member_sees_only_the_own_department(home):
    mine = await home.inquiry(subject="Hull i veien")
    other = await home.inquiry(subject="Barnehageplass", text="Søknad om barnehage")
    token = await at_desk(home, "ola", Role.MEMBER, "vei")
    listed = await home.client.get("/desk/queue")
    assert mine in listed.text
    assert other not in listed.text
    for path in (f"/desk/inquiries/{other}", f"/desk/inquiries/{other}/live"):
        assert (await home.client.get(path)).status_code == 404
    assert (await home.client.get("/desk/parked")).status_code == 403
    sent = await home.client.post(
        f"/desk/inquiries/{mine}/transfer", data={"csrf": token, "department": "skole"}
    )
    assert sent.headers["location"].startswith("/desk/queue?done=transferred")


async def test_a_number_is_shown_once_on_demand_and_that_is_written_down(home):
    ref = await home.inquiry(text=f"Mitt nummer er {NUMBER}.")
    token = await at_desk(home)
    hidden = await home.client.get(f"/desk/inquiries/{ref}")
    assert NUMBER not in hidden.text
    shown = await home.client.post(f"/desk/inquiries/{ref}/reveal", data={"csrf": token})
    assert NUMBER in shown.text
    assert NUMBER not in (await home.client.get(f"/desk/inquiries/{ref}")).text
    with home.hall.db.read() as session:
        looks = session.exec(select(Event).where(Event.kind == "revealed")).all()
    assert [(look.data["ref"], look.staff_id is not None) for look in looks] == [(ref, True)]


async def test_files_are_downloads_and_belong_to_their_inquiry(home):
    ref, other = await home.inquiry(), await home.inquiry(subject="Noe annet")
    await at_desk(home)
    sha256 = put_blob(home.hall.settings.blobs, b"<script>alert(1)</script>")

    def attach(session):
        number = session.exec(select(Message.id).join(Inquiry).where(Inquiry.ref == ref)).first()
        file = StoredAttachment(
            message_id=number,
            filename="søknad; «x».html",
            content_type="text/html",
            size=25,
            sha256=sha256,
        )
        session.add(file)
        session.flush()
        return file.id

    number = await home.hall.db.write(attach)
    file = await home.client.get(f"/desk/inquiries/{ref}/attachments/{number}")
    assert file.content == b"<script>alert(1)</script>"
    assert file.headers["content-type"] == "application/octet-stream"
    assert file.headers["content-disposition"] == (
        "attachment; filename*=UTF-8''s%C3%B8knad%3B%20%C2%ABx%C2%BB.html"
    )
    assert file.headers["x-content-type-options"] == "nosniff"
    assert file.headers["content-security-policy"] == "sandbox; default-src 'none'"
    wrong = await home.client.get(f"/desk/inquiries/{other}/attachments/{number}")
    assert wrong.status_code == 404


async def test_an_original_is_only_for_those_who_see_its_inquiry(home):
    ref = await home.inquiry()
    await at_desk(home, "kari")
    page = await home.client.get(f"/desk/inquiries/{ref}")
    raw = re.search(r"/desk/arrivals/\d+/raw", page.text)[0]
    original = await home.client.get(raw)
    assert "Det er et hull i veien." in original.text
    assert original.headers["content-disposition"].startswith("attachment")
    await at_desk(home, "ola", Role.MEMBER, "skole")
    assert (await home.client.get(raw)).status_code == 404


async def test_the_contact_page_says_what_is_wrong_and_keeps_what_was_typed(home):
    answer = await home.client.post("/", data={"text": "Hei <der>", "email": "feil"})
    assert answer.status_code == 422
    assert "<title>Feil: Kontakt oss" in answer.text
    assert '<a href="#email">E-postadressen ser ikke riktig ut.' in answer.text
    assert "Hei &lt;der&gt;</textarea>" in answer.text
    nynorsk = await home.client.post("/?lang=nn", data={})
    assert '<html lang="nn"' in nynorsk.text
    assert "Skriv kva det gjeld." in nynorsk.text
    robot = {"text": "Hei", "email": "a@example.no", "website": "http://spam.example"}
    assert (await home.client.post("/", data=robot)).status_code == 422


async def test_a_double_click_is_one_message_and_a_changed_text_another(home):
    form = {"text": "Når åpner biblioteket?", "email": "ny@example.no", "key": "samme-skjema"}
    first = await home.client.post("/", data=form)
    again = await home.client.post("/", data=form)
    assert again.headers["location"] == first.headers["location"]
    changed = await home.client.post("/", data=form | {"text": "Og når stenger det?"})
    assert changed.headers["location"] != first.headers["location"]


async def test_the_own_page_shows_the_date_and_the_conversation_but_no_notes(home):
    form = {"text": "Hull i veien", "email": "ny@example.no"}
    sent = await home.client.post("/", data=form, headers={"Accept-Language": "nb-NO"})
    address = sent.headers["location"]
    page = await home.client.get(address)
    assert "Takk. Vi har fått henvendelsen din." in page.text
    assert "torsdag 26. november" in page.text
    assert '<meta name="robots" content="noindex' in page.text
    ref = re.search(r"S-\d{4}-\d{6}", page.text)[0]
    token = await at_desk(home)
    notes = {"csrf": token, "text": "Vanskelig naboforhold"}
    await home.client.post(f"/desk/inquiries/{ref}/note", data=notes)
    reply = {"csrf": token, "text": "Vi fikser hullet."}
    await home.client.post(f"/desk/inquiries/{ref}/reply", data=reply)
    page = await home.client.get(address)
    assert "Vi fikser hullet." in page.text
    assert "Vanskelig naboforhold" not in page.text
    assert "Thank you." in (await home.client.get(address + "&lang=en")).text

    def mark(session):
        session.exec(select(Inquiry).where(Inquiry.ref == ref)).one().sensitivity = "sensitive"

    await home.hall.db.write(mark)
    page = await home.client.get(address)
    assert "Vi fikser hullet." not in page.text
    assert "Hull i veien" not in page.text
    assert "Teksten vises ikke her" in page.text


async def test_what_a_stranger_wrote_into_the_thread_is_not_shown_to_the_resident(home):
    sent = await home.client.post("/", data={"text": "Hull i veien", "email": "ny@example.no"})

    def add(session):
        number = session.exec(select(Inquiry.id)).one()
        session.add(
            Message(
                inquiry_id=number,
                channel="email",
                external_id="x",
                direction="in",
                kind="contact",
                sender_address="roaf@example.no",
                text="Internt fra renovasjonsselskapet",
                at=home.clock(),
            )
        )

    await home.hall.db.write(add)
    page = await home.client.get(sent.headers["location"])
    assert "Internt fra renovasjonsselskapet" not in page.text


@pytest.mark.parametrize("sensitivity", ["", "helse"])
async def test_whose_answer_by_text_did_not_arrive_is_told_what_to_do(home, sensitivity):
    ref = await home.inquiry()

    def job(session):
        inquiry = session.execute(select(Inquiry).where(Inquiry.ref == ref)).scalar_one()
        inquiry.channel, inquiry.sensitivity = "sms", sensitivity
        inquiry.reply_state = ReplyState.NOT_DELIVERED
        session.add(
            Message(
                inquiry_id=inquiry.id,
                channel="sms",
                external_id="<ut@eksempel.no>",
                direction="out",
                kind="reply",
                text="Vi tetter hullet i morgen.",
                delivery="failed",
                at=home.clock(),
            )
        )

    await home.hall.db.write(job)
    page = (await home.client.get(f"/status/{home.hall.signer.sign('status', 1)}")).text
    assert "svaret kom ikke fram til deg" in page
    assert ("Du kan lese det nedenfor" in page) is not bool(sensitivity)
    assert ("Vi tetter hullet i morgen." in page) is not bool(sensitivity)
    assert ("Ring oss" in page) is bool(sensitivity)
    assert "Send en ny SMS til samme nummer" in page
    assert "e-posten du har fra oss" not in page


async def test_unknown_and_forged_status_links_look_alike(home):
    await home.inquiry()
    right = home.hall.signer.sign("status", 1)
    assert (await home.client.get(f"/status/{right}")).status_code == 200
    reply_token = home.hall.signer.sign("reply", 1)
    missing = home.hall.signer.sign("status", 99)
    pages = {
        token: await home.client.get(f"/status/{token}")
        for token in ("feil-lenke", f"1-{'a' * 32}", reply_token, missing)
    }
    assert {page.status_code for page in pages.values()} == {404}
    assert len({page.text.replace(token, "") for token, page in pages.items()}) == 1


async def every_page(home):
    """Path -> page, each kind once."""
    token = await at_desk(home)
    ref = await home.inquiry(text=f"Nummer {NUMBER}")
    await home.client.post(f"/desk/inquiries/{ref}/note", data={"csrf": token, "text": "x"})
    paths = [
        "/",
        "/?lang=en",
        f"/status/{home.hall.signer.sign('status', 1)}",
        "/tilgjengelighet",
        "/personvern",
        "/finnes-ikke",
        "/desk/queue",
        "/desk/queue?status=closed",
        f"/desk/inquiries/{ref}",
        "/desk/parked",
        "/desk/outbox",
        "/desk/account",
        "/desk/finnes-ikke",
    ]
    pages = {path: await home.client.get(path) for path in paths}
    home.client.cookies.clear()
    pages["/desk/login"] = await home.client.get("/desk/login")
    return pages


async def test_no_page_has_script_or_style_of_its_own(home):
    for path, page in (await every_page(home)).items():
        assert not re.search(r"<style|<script(?![^>]*\ssrc=)", page.text), path
        assert not re.search(r"<[^>]*\s(style|on[a-z]+|hx-on[^=]*)=", page.text), path
        assert page.text.count("<h1") == 1, path
        assert re.search(r'<html lang="(nb|nn|en)"', page.text), path
        assert '<main id="main"' in page.text, path


async def test_pages_stand_without_the_built_assets(home, monkeypatch):
    for language in LANGUAGES:
        monkeypatch.setitem(render.environment(language).globals, "vendor", {})
    for path, page in (await every_page(home)).items():
        assert "/static/vendor/" not in page.text, path
        assert "/static/base.css?v=" in page.text, path


def test_assets_are_copied_with_their_sums_and_old_ones_go(tmp_path):
    modules, vendor = tmp_path / "node_modules", tmp_path / "vendor"
    for source in assets.FILES.values():
        (modules / source).parent.mkdir(parents=True, exist_ok=True)
        (modules / source).write_bytes(source.encode())
    vendor.mkdir()
    (vendor / "old.js").write_text("")
    manifest = assets.copy(modules, vendor)
    assert {file.name for file in vendor.iterdir()} == {*assets.FILES, "manifest.json"}
    assert assets.read_manifest(vendor) == manifest
    assert manifest["htmx.min.js"] == assets.integrity(b"htmx.org/dist/htmx.min.js")
    (modules / assets.FILES["theme.css"]).unlink()
    with pytest.raises(FileNotFoundError):
        assets.copy(modules, vendor)
    assert (vendor / "theme.css").exists()
    assert assets.read_manifest(tmp_path / "nowhere") == {}


async def test_an_emergency_stands_on_every_desk_page_until_somebody_has_seen_it(home):
    ref = await home.inquiry(subject="Hjelp", text="Han puster ikke")
    token = await at_desk(home)
    assert "Mulig nødsituasjon" in (await home.client.get("/desk/parked")).text
    await home.client.post(f"/desk/inquiries/{ref}/seen", data={"csrf": token})
    assert "Mulig nødsituasjon" not in (await home.client.get("/desk/alarm")).text
    actor = Actor(Role.OPERATOR)
    with home.hall.db.read() as session:
        assert queue.page(session, actor, queue.Filter(status="open")).rows[0].ref == ref


async def test_whoever_has_seen_an_emergency_stays_where_they_were(home):
    ref = await home.inquiry(subject="Hjelp", text="Han puster ikke")
    token = await at_desk(home)
    for came, goes in (
        ("/desk/queue?assignee=me", "/desk/queue?assignee=me&done=seen"),
        ("/desk/inquiries/S-2026-000009", "/desk/inquiries/S-2026-000009?done=seen"),
        ("/desk/chats/S-2026-000009/messages?x=1", "/desk/chats/S-2026-000009?done=seen"),
        ("/desk/chats/next", "/desk/chats?done=seen"),
        ("/elsewhere", f"/desk/inquiries/{ref}?done=seen"),
    ):
        headers = {"referer": f"http://test{came}"}
        said = await home.client.post(
            f"/desk/inquiries/{ref}/seen", data={"csrf": token}, headers=headers
        )
        assert (said.status_code, said.headers["location"]) == (303, goes)


async def test_that_it_is_answered_is_said_once(home):
    ref = await home.inquiry()
    token = await at_desk(home)
    reply = {"csrf": token, "text": "Hullet er tettet."}
    await home.client.post(f"/desk/inquiries/{ref}/reply", data=reply)
    for page in ("/desk/queue", f"/desk/inquiries/{ref}"):
        shown = (await home.client.get(page)).text.partition('id="thread"')[0]
        assert re.sub(r"<[^>]+>", " ", shown).count("Besvart") == 1, page


async def test_an_unanswered_inquiry_is_closed_only_after_asking_and_can_be_had_back(home):
    ref = await home.inquiry()
    token = await at_desk(home)
    close = f"/desk/inquiries/{ref}/close"
    asked = await home.client.post(close, data={"csrf": token})
    assert "Lukke henvendelsen?" in asked.text
    assert "Ingen har svart" in asked.text
    assert ref in (await home.client.get("/desk/queue")).text
    gone = await home.client.post(close, data={"csrf": token, "confirm": "yes"})
    queue_page = await home.client.get(gone.headers["location"])
    assert "Henvendelsen er lukket." in queue_page.text
    back = re.search(rf'action="(/desk/inquiries/{ref}/reopen)"', queue_page.text)[1]
    await home.client.post(back, data={"csrf": token})
    assert f'id="row-{ref}"' in (await home.client.get("/desk/queue")).text


async def test_an_answered_inquiry_is_closed_at_once(home):
    ref = await home.inquiry()
    token = await at_desk(home)
    reply = {"csrf": token, "text": "Hullet er tettet."}
    await home.client.post(f"/desk/inquiries/{ref}/reply", data=reply)
    gone = await home.client.post(f"/desk/inquiries/{ref}/close", data={"csrf": token})
    assert gone.headers["location"] == f"/desk/queue?done=closed&ref={ref}"


async def test_the_alarm_of_an_emergency_outlives_its_closing(home):
    ref = await home.inquiry(subject="Hjelp", text="Han puster ikke")
    token = await at_desk(home)
    asked = await home.client.post(f"/desk/inquiries/{ref}/close", data={"csrf": token})
    assert "Dette kan være en nødsituasjon." in asked.text
    confirmed = {"csrf": token, "confirm": "yes"}
    await home.client.post(f"/desk/inquiries/{ref}/close", data=confirmed)
    assert "Mulig nødsituasjon" in (await home.client.get("/desk/alarm")).text
    await home.client.post(f"/desk/inquiries/{ref}/seen", data={"csrf": token})
    assert "Mulig nødsituasjon" not in (await home.client.get("/desk/alarm")).text


async def test_who_writes_of_an_emergency_sees_whom_to_call_and_no_date(home):
    form = {"text": "Han puster ikke", "email": "ny@example.no"}
    sent = await home.client.post("/", data=form)
    page = (await home.client.get(sent.headers["location"])).text
    assert page.index('href="tel:113"') < page.index("<h1")
    assert 'href="tel:116117"' in page
    assert "Takk." not in page
    assert "Du får svar senest" not in page


async def test_what_somebody_else_holds_cannot_be_sent_from_the_page(home):
    ref = await home.inquiry()
    await at_desk(home, "ola")
    await home.client.post(f"/desk/inquiries/{ref}/claim", data={"csrf": await csrf(home)})
    await at_desk(home, "kari")
    page = (await home.client.get(f"/desk/inquiries/{ref}")).text
    assert page.count("data-needs-hold disabled") == 6
    assert f'action="/desk/inquiries/{ref}/close"' not in page
    assert page.index("Bare den som har tatt henvendelsen") < page.index('id="reply-text"')


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("queued", "Noen meldinger venter på å bli sendt."),
        ("failed", "Noen meldinger ble ikke levert, eller kan ha blitt borte."),
    ],
)
async def test_the_desk_says_how_bad_it_is_when_letters_do_not_go_out(home, state, said):
    await home.inquiry()
    await at_desk(home)
    assert "utboksen" not in (await home.client.get("/desk/alarm")).text

    def mark(session):
        for item in session.exec(select(OutboxItem)):
            item.state = state

    await home.hall.db.write(mark)
    home.hall.outbox.problem = "E-posttjeneren svarer ikke."
    assert said in (await home.client.get("/desk/alarm")).text


async def test_a_receipt_that_was_not_sent_is_told_in_the_thread(home):
    withheld, barred = await home.inquiry(), await home.inquiry(subject="Liste")
    await at_desk(home)

    def mark(session):
        numbers = dict(session.exec(select(Inquiry.ref, Inquiry.id)).all())
        events.record(session, "receipt_withheld", at=MONDAY, inquiry_id=numbers[withheld], data={})
        born = select(Event).where(Event.inquiry_id == numbers[barred], Event.kind == "received")
        event = session.exec(born).one()
        event.data = {**event.data, "receipt_barred": "mailing list"}

    await home.hall.db.write(mark)
    first = await home.client.get(f"/desk/inquiries/{withheld}")
    assert "Automatisk kvittering ble holdt tilbake: mange meldinger" in first.text
    second = await home.client.get(f"/desk/inquiries/{barred}")
    assert "Ingen kvittering: meldingen kom gjennom en e-postliste." in second.text


async def test_phone_numbers_are_written_as_people_write_them_and_can_be_called(home):
    form = {"text": "Ring meg", "phone": "900 00 000", "email": "ny@example.no"}
    await home.client.post("/", data=form)
    await at_desk(home)
    page = await home.client.get("/desk/queue")
    ref = re.search(r"S-\d{4}-\d{6}", page.text)[0]
    page = await home.client.get(f"/desk/inquiries/{ref}")
    assert '<a href="tel:+4790000000">90 00 00 00</a>' in page.text


async def test_a_password_that_is_too_short_is_said_at_its_field(home):
    token = await at_desk(home)
    answer = await home.client.post(
        "/desk/account/password", data={"csrf": token, "current": PASSWORD, "password": "kort"}
    )
    assert answer.status_code == 422
    assert re.search(r'id="password-error"[^>]*>Et passord har 12 til 200 tegn\.', answer.text)


async def test_a_search_without_hits_says_what_was_searched_for(home):
    await at_desk(home)
    page = await home.client.get("/desk/queue?q=<finnes%20ikke>")
    assert "Ingen treff på «&lt;finnes ikke&gt;»." in page.text


def test_every_bar_against_receipts_has_words():
    source = (REPOSITORY / "channels/email/guards.py").read_text(encoding="utf-8")
    body = source.partition("def receipt_bar(")[2].partition("\ndef ")[0]
    reasons = set(re.findall(r', "([^"]+)"\),\n', body))
    assert len(reasons) > 10
    assert reasons <= set(LABELS["barred"])
