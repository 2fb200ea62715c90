"""What people see of e-mail at the desk: files, marks, the formatted version, delivery, what stands
aside."""

from __future__ import annotations

import asyncio
import base64
import os
import re
from datetime import timedelta

import pytest
from sqlmodel import select

from channels.base import RawArrival
from channels.email.verdict import Verdict
from router import journal
from router.blobs import blob_path, put_blob
from router.files import FILES_LIMIT
from router.models import (
    Arrival,
    Event,
    Inquiry,
    InquiryStatus,
    Message,
    OutboxItem,
    ReplyState,
    Role,
    StoredAttachment,
)
from router.outbox import outgoing_of
from router.web import downloads
from router.web.messages import undelivered, why_parked
from router.workers import Worker
from tests.router.store_house import MONDAY
from tests.router.test_pages import NUMBER, at_desk
from tests.router.web_house import house
from tests.service import soon
from tests.stalls import for_ever

PDF = b"%PDF-1.7\n\xff\x00 bare et eksempel\r\n"
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
HTML_MAIL = b"""From: Kari <kari@example.no>
Subject: Hei
Content-Type: multipart/related; boundary=x

--x
Content-Type: text/html; charset=utf-8

<p>Hei <b>dere</b> <a href="https://ond.example/x">her</a> {number}</p>
<img src="cid:bilde@x" alt="kart"><img src="cid:borte@x"><img src="https://ond.example/p.png">
<script>alert(1)</script><form action="https://ond.example"><input></form>
--x--
"""


@pytest.fixture
async def home(tmp_path):
    async with house(tmp_path) as opened:
        yield opened


async def mail_in(home, raw=HTML_MAIL, files=(), **fields):
    """An inquiry whose message came by e-mail; returns its reference and the message's id."""
    ref = await home.inquiry()
    blobs = home.hall.settings.blobs
    stored = [{**file, "sha256": put_blob(blobs, file.pop("content"))} for file in files]

    def change(session):
        arrival = RawArrival("email", "k", home.clock(), {}, raw)
        _, number = journal.insert(session.connection(), [journal.Entry(arrival)])[0]
        inquiry = session.exec(select(Inquiry).where(Inquiry.ref == ref)).one()
        message = session.exec(select(Message).where(Message.inquiry_id == inquiry.id)).one()
        message.channel, message.arrival_id = "email", number
        for name, value in fields.items():
            setattr(message, name, value)
        session.get_one(journal.Arrival, number).inquiry_id = inquiry.id
        session.add(message)
        for file in stored:
            row = {"content_type": "application/x-loegn", "size": 10, "filename": "fil", **file}
            session.add(StoredAttachment(message_id=message.id, **row))
        return message.id

    return ref, await home.hall.db.write(change)


async def change(home, ref, **fields):
    def job(session):
        inquiry = session.exec(select(Inquiry).where(Inquiry.ref == ref)).one()
        for name, value in fields.items():
            setattr(inquiry, name, value)
        session.add(inquiry)

    await home.hall.db.write(job)


def items_of(home, kind="reply"):
    with home.hall.db.read() as session:
        return list(session.exec(select(OutboxItem).where(OutboxItem.kind == kind)))


async def test_files_go_out_with_a_reply_and_stand_in_the_thread(home):
    ref = await home.inquiry()
    token = await at_desk(home)
    text = "Søknaden ligger ved.\n".encode() * 100
    sent = await home.client.post(
        f"/desk/inquiries/{ref}/reply",
        data={"csrf": token, "text": "Se vedlegg."},
        files=[
            ("files", ("vedtak.pdf", PDF, "text/html")),
            ("files", ("../../So\u0308knad\u202e.txt", text, "text/plain")),
        ],
    )
    assert sent.headers["location"] == f"/desk/inquiries/{ref}?done=replied"
    [item] = items_of(home)
    files = outgoing_of(item, home.hall.settings.blobs).attachments
    assert [(f.filename, f.content_type, f.content) for f in files] == [
        ("vedtak.pdf", "application/pdf", PDF),
        ("S\u00f6knad.txt", "text/plain", text),
    ]
    page = await home.client.get(sent.headers["location"])
    link = re.search(r'href="([^"]+)" download>vedtak\.pdf<', page.text)[1]
    fetched = await home.client.get(link)
    assert fetched.content == PDF
    assert fetched.headers["content-type"] == "application/pdf"


async def test_a_form_in_which_no_file_was_chosen_is_a_plain_reply(home):
    """As browsers send it: the empty field comes as a file without a name."""
    ref = await home.inquiry()
    token = await at_desk(home)
    field = 'Content-Disposition: form-data; name="{}"'
    parts = [
        f"{field.format('csrf')}\r\n\r\n{token}",
        f"{field.format('text')}\r\n\r\nHei",
        f'{field.format("files")}; filename=""\r\nContent-Type: application/octet-stream\r\n\r\n',
    ]
    sent = await home.client.post(
        f"/desk/inquiries/{ref}/reply",
        content="".join(f"--x\r\n{part}\r\n" for part in parts) + "--x--\r\n",
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )
    assert sent.headers["location"] == f"/desk/inquiries/{ref}?done=replied"
    assert items_of(home)[0].payload["attachments"] == []


async def test_a_refused_reply_keeps_the_text_and_asks_for_the_files_again(home):
    ref = await home.inquiry()
    token = await at_desk(home)
    form = {"csrf": token, "text": "Mitt lange svar"}
    large = ("files", ("film.mp4", b"\0" * (FILES_LIMIT + 1), "video/mp4"))
    refused = await home.client.post(f"/desk/inquiries/{ref}/reply", data=form, files=[large])
    assert refused.status_code == 422
    assert "Filene er større enn 20 MB til sammen." in refused.text
    assert "Filene må velges på nytt" in refused.text
    assert "Mitt lange svar</textarea>" in refused.text
    many = [("files", (f"{n}.txt", b"x", "text/plain")) for n in range(21)]
    refused = await home.client.post(f"/desk/inquiries/{ref}/reply", data=form, files=many)
    assert "En melding kan ha høyst 20 filer." in refused.text
    assert items_of(home) == []


async def test_files_of_a_reply_that_cannot_be_sent_are_not_kept(home):
    ref = await home.inquiry()
    await home.person("ola")
    api = await home.api()
    token = await at_desk(home)
    await api.post(f"/api/inquiries/{ref}/claim")
    form, files = {"csrf": token, "text": "Hei"}, [("files", ("a.pdf", PDF, ""))]
    refused = await home.client.post(f"/desk/inquiries/{ref}/reply", data=form, files=files)
    assert refused.status_code == 409
    assert "Filene må velges på nytt" in refused.text
    assert not [path for path in home.hall.settings.blobs.rglob("*") if path.is_file()]


async def test_only_who_is_known_may_send_megabytes(home):
    ref = await home.inquiry()
    body = b"x" * 2_000_000
    stranger = home.visitor(**{"Content-Type": "multipart/form-data; boundary=x"})
    assert (await stranger.post(f"/desk/inquiries/{ref}/reply", content=body)).status_code == 413
    wrong = home.visitor(Authorization="Bearer feil")
    assert (await wrong.post(f"/api/inquiries/{ref}/reply", content=body)).status_code == 413
    token = await at_desk(home)
    large = await home.client.post(
        f"/desk/inquiries/{ref}/note",
        data={"csrf": token, "text": "x"},
        files=[("files", ("a", body, ""))],
    )
    assert large.status_code == 413, "only a reply takes files"


async def test_a_file_is_typed_by_what_is_in_it_and_never_by_its_name(home):
    ref, _ = await mail_in(
        home,
        files=[
            {"content": PNG, "filename": "bilde.exe", "content_type": "text/html"},
            {"content": b"<script>alert(1)</script>", "content_type": "image/png"},
        ],
    )
    await at_desk(home)
    page = await home.client.get(f"/desk/inquiries/{ref}")
    links = re.findall(r"/desk/inquiries/[^\"]+/attachments/\d+", page.text)
    picture, script = [await home.client.get(link) for link in links]
    assert picture.headers["content-type"] == "image/png"
    assert script.headers["content-type"] == "application/octet-stream"
    for answer in (picture, script):
        assert answer.headers["content-disposition"].startswith("attachment")
        assert answer.headers["content-security-policy"] == "sandbox; default-src 'none'"
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_large_original_comes_whole_and_in_parts_and_not_compressed(home):
    raw = b"Subject: stor\r\n\r\n" + base64.encodebytes(os.urandom(3_000_000))
    ref, number = await mail_in(home, raw=b"x")
    sha256 = put_blob(home.hall.settings.blobs, raw)

    def enlarge(session):
        arrival = session.get_one(journal.Arrival, session.get_one(Message, number).arrival_id)
        arrival.blob, arrival.size = sha256, len(raw)
        return arrival.id

    arrival = await home.hall.db.write(enlarge)
    await at_desk(home)
    whole = await home.client.get(
        f"/desk/arrivals/{arrival}/raw", headers={"Accept-Encoding": "gzip"}
    )
    assert whole.content == raw
    assert "content-encoding" not in whole.headers
    part = await home.client.get(
        f"/desk/arrivals/{arrival}/raw", headers={"Range": "bytes=100-199"}
    )
    assert (part.status_code, part.content) == (206, raw[100:200])
    page = await home.client.get(f"/desk/inquiries/{ref}")
    assert f"/desk/arrivals/{arrival}/raw" in page.text
    blob_path(home.hall.settings.blobs, sha256).unlink()
    assert (await home.client.get(f"/desk/arrivals/{arrival}/raw")).status_code == 404


async def test_the_formatted_version_can_run_load_and_lead_nowhere(home):
    files = [{"content": PNG, "content_id": "bilde@x", "size": len(PNG)}]
    raw = HTML_MAIL.replace(b"{number}", NUMBER.encode())
    ref, number = await mail_in(home, raw=raw, files=files, has_html=True)
    await at_desk(home)
    thread = await home.client.get(f"/desk/inquiries/{ref}")
    address = f"/desk/inquiries/{ref}/messages/{number}/formatted"
    assert f'<a href="{address}">Vis formatert' in thread.text
    page = await home.client.get(address)
    assert re.search(rf'<iframe class="formatted" sandbox src="{address}/content"', page.text)
    assert "1 bilde vises ikke" in page.text
    assert "1 bilde som skulle fulgt med" in page.text
    content = await home.client.get(f"{address}/content")
    policy = content.headers["content-security-policy"]
    assert policy.startswith("sandbox; default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "<b>dere</b>" in content.text
    assert f'src="data:image/png;base64,{base64.b64encode(PNG).decode()}"' in content.text
    assert not re.search(r'<script|<form|<input|cid:|href=|src="http', content.text)
    assert 'title="https://ond.example/x"' in content.text
    assert NUMBER not in content.text
    assert "130972 *****" in content.text


@pytest.mark.thorough
async def test_a_formatted_version_that_takes_too_long_keeps_no_form_waiting(home, monkeypatch):
    ref, number = await mail_in(home, has_html=True)
    await at_desk(home)
    monkeypatch.setattr(downloads, "make_formatted", for_ever)
    home.hall.viewer = viewer = Worker()
    viewer.start(now=False)
    try:
        address = f"/desk/inquiries/{ref}/messages/{number}/formatted"
        looking = asyncio.create_task(home.client.get(address))
        await soon(lambda: viewer._promised, "the view")
        await home.inquiry()
        assert not looking.done()
        page = await looking
        assert page.status_code == 200
        assert "Det tok for lang tid å gjøre den formaterte utgaven trygg" in page.text
        assert re.search(r'href="/desk/arrivals/\d+/raw" download>Last ned originalen', page.text)
        assert "<iframe" not in page.text
    finally:
        await asyncio.to_thread(viewer.stop)


async def test_only_pictures_are_shown_inside_the_formatted_version(home):
    fake = {"content": b"<svg onload=alert(1)>", "content_id": "bilde@x", "size": 20}
    ref, number = await mail_in(home, files=[fake], has_html=True)
    await at_desk(home)
    address = f"/desk/inquiries/{ref}/messages/{number}/formatted"
    assert "svg" not in (await home.client.get(f"{address}/content")).text
    assert "2 bilder som skulle fulgt med" in (await home.client.get(address)).text


async def test_the_formatted_version_is_only_for_those_who_see_the_inquiry(home):
    ref, number = await mail_in(home, has_html=True)
    other = await home.inquiry(subject="Noe annet")
    plain, plain_number = await mail_in(home)
    await at_desk(home)
    for path in (
        f"/desk/inquiries/{other}/messages/{number}/formatted",
        f"/desk/inquiries/{plain}/messages/{plain_number}/formatted",
        f"/desk/inquiries/{ref}/messages/99/formatted",
    ):
        assert (await home.client.get(path)).status_code == 404
    await at_desk(home, "ola", Role.MEMBER, "skole")
    for end in ("formatted", "formatted/content"):
        path = f"/desk/inquiries/{ref}/messages/{number}/{end}"
        assert (await home.client.get(path)).status_code == 404


async def test_a_message_with_a_virus_serves_nothing_and_says_what_to_do(home):
    file = {"content": PDF, "filename": "faktura.pdf"}
    ref, number = await mail_in(home, files=[file], has_html=True, marks=["quarantined"])
    await at_desk(home)
    page = await home.client.get(f"/desk/inquiries/{ref}")
    assert "Virus funnet; filene er låst" in page.text
    assert "faktura.pdf" in page.text
    assert "/attachments/" not in page.text
    assert "Vis formatert" not in page.text
    with home.hall.db.read() as session:
        file_id = session.exec(select(StoredAttachment.id)).one()
        arrival = session.get_one(Message, number).arrival_id
    base = f"/desk/inquiries/{ref}"
    for path in (f"{base}/attachments/{file_id}", f"{base}/messages/{number}/formatted"):
        refused = await home.client.get(path)
        assert refused.status_code == 403
        assert "Det ble funnet virus" in refused.text
        assert "Be avsenderen sende" in refused.text
        assert PDF not in refused.content
    # The original is for those who watch the doors, not for everybody who works on the inquiry.
    assert (await home.client.get(f"/desk/arrivals/{arrival}/raw")).status_code == 200
    await at_desk(home, "ola", Role.MEMBER, "vei")
    assert (await home.client.get(f"/desk/arrivals/{arrival}/raw")).status_code == 403


async def test_a_second_delivery_of_a_mail_with_a_virus_is_locked_as_the_first(home):
    """To another of our addresses, say: it has no message of its own to bear the mark."""
    raw = b"From: kari@example.no\r\nSubject: Hull i veien\r\n\r\nSe vedlegg\r\n"
    reception = home.hall.reception
    reception.start()
    try:
        for to in ("postmottak@sorum.kommune.no", "vei@sorum.kommune.no"):
            scan = Verdict(virus="Prove").for_envelope()
            envelope = {"mail_from": "kari@example.no", "recipients": [to], "scan": scan}
            await reception.receive(RawArrival("email", to, home.clock(), envelope, raw))
            await soon(lambda: not reception.backlog, "taking in")
    finally:
        await reception.stop()
    with home.hall.db.read() as session:
        first, second = session.exec(select(Arrival).order_by(Arrival.id))
        assert (second.state, second.inquiry_id) == ("duplicate", first.inquiry_id)
    await at_desk(home, "ola", Role.MEMBER, "vei")
    for arrival in (first, second):
        refused = await home.client.get(f"/desk/arrivals/{arrival.id}/raw")
        assert refused.status_code == 403
        assert b"Se vedlegg" not in refused.content


async def test_files_that_no_scanner_has_seen_come_with_a_warning(home):
    ref, _ = await mail_in(home, files=[{"content": PDF}], marks=["unscanned"])
    seen, _ = await mail_in(home, raw=b"x", files=[{"content": PDF}])
    await at_desk(home)
    page = await home.client.get(f"/desk/inquiries/{ref}")
    assert "Disse filene er ikke kontrollert for virus" in page.text
    page = await home.client.get(f"/desk/inquiries/{seen}")
    assert "ikke kontrollert" not in page.text


async def test_fetching_a_file_of_a_sensitive_inquiry_is_written_down(home):
    ref, _ = await mail_in(home, files=[{"content": PDF}])
    await at_desk(home)

    def looks():
        with home.hall.db.read() as session:
            found = session.exec(select(Event).where(Event.kind == "revealed"))
            return [event.data["what"] for event in found]

    page = await home.client.get(f"/desk/inquiries/{ref}")
    link = re.search(r"/desk/inquiries/[^\"]+/attachments/\d+", page.text)[0]
    await home.client.get(link)
    assert looks() == []
    await change(home, ref, sensitivity="sensitive")
    await home.client.get(link)
    assert looks() == ["file"]
    assert "En fil ble lastet ned" in (await home.client.get(f"/desk/inquiries/{ref}")).text


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"sender_check": "failed"}, "Avsenderen er ikke bekreftet"),
        ({"sender_check": "verified"}, "Avsenderen er bekreftet"),
        ({"text": "Send meg journalen min, pasientjournal."}, "Ingen har kontrollert avsenderen"),
        ({"text": "Hva er fødselsnummeret hennes?"}, "Ingen har kontrollert avsenderen"),
        ({}, ""),
        ({"text": "Når åpner biblioteket?", "sender_check": "unknown"}, ""),
        ({"kind": "bulk", "text": "Bytt passord!"}, ""),
    ],
)
async def test_a_doubtful_sender_is_told_where_it_matters(home, fields, says):
    ref, _ = await mail_in(home, **fields)
    await at_desk(home)
    page = await home.client.get(f"/desk/inquiries/{ref}")
    told = re.findall(
        r"Avsenderen er (?:ikke )?bekreftet|Ingen har kontrollert avsenderen", page.text
    )
    assert told == ([says] if says else [])


@pytest.mark.parametrize(
    ("fields", "heading"),
    [
        ({}, "Melding fra innbyggeren"),
        ({"sender_address": "fremmed@ond.example"}, "Melding fra en annen enn innbyggeren"),
        (
            {"sender_address": "fremmed@ond.example", "kind": "auto_reply"},
            "Automatisk svar fra mottakeren",
        ),
    ],
)
async def test_a_message_of_somebody_else_is_not_taken_for_the_residents(home, fields, heading):
    """Who was given the reply address can write to it."""
    ref, _ = await mail_in(home, **fields)
    await at_desk(home)
    page = await home.client.get(f"/desk/inquiries/{ref}")
    assert re.findall(r'<h3 id="mh-\d+">.*</svg> ([^<]+)</h3>', page.text) == [heading]
    assert ("Fra en annen enn innbyggeren" in page.text) == ("annen" in heading)


async def test_marks_are_words_beside_a_shape(home):
    ref, _ = await mail_in(
        home,
        marks=["signed", "encrypted", "calendar", "unscanned"],
        recipients=["postmottak@sorum.kommune.no", "vei@sorum.kommune.no"],
    )
    await at_desk(home)
    page = await home.client.get(f"/desk/inquiries/{ref}")
    marks = re.findall(
        r'<li class="mark[^"]*"><svg [^>]*><path d="([^"]+)"/></svg> ([^<]+)<', page.text
    )
    assert [words for _, words in marks] == [
        "Digitalt signert; signaturen er ikke kontrollert her",
        "Kryptert; kan ikke leses her",
        "Møteinnkalling",
        "Ikke kontrollert for virus",
        "Sendt til flere av adressene våre",
    ]
    assert len({shape for shape, _ in marks}) == 5


@pytest.mark.parametrize(
    ("detail", "code"),
    [
        ("E-posttjeneren tok ikke imot mottakeren (550 5.1.1).", "no mailbox"),
        ("552 5.2.2 Mailbox full", "full"),
        ("4.2.2 over quota", "full"),
        ("5.1.10", "no mailbox"),
        ("5.3.4", "too large"),
        ("4.4.7", "unreachable"),
        ("5.9.9", "refused"),
        ("bounced", ""),
        ("5.7.26", "refused"),
        ("E-posttjeneren tok ikke imot meldingen (451 4.7.1).", "refused"),
        ("E-posttjeneren tok ikke imot meldingen (451).", "later"),
        ("450 4.2.0 greylisted", "later"),
        ("E-posttjeneren tok ikke imot mottakeren (554).", "refused"),
        ("E-posttjeneren svarer ikke.", ""),
        ("Tatt imot av e-posttjeneren (250 2.0.0).", ""),
    ],
)
def test_why_a_message_did_not_arrive(detail, code):
    assert undelivered(detail) == code


def test_why_an_arrival_is_parked():
    assert why_parked("took too long or too much memory") == "too heavy"
    assert why_parked("MemoryError") == "too heavy"
    assert why_parked("its content is missing from the store") == "gone"
    assert why_parked("IntegrityError while it was stored") == "not stored"
    assert why_parked("UnicodeDecodeError") == "fault"


async def replied(home, ref, **fields):
    """A reply that has come as far as `fields` of its outbox row say; returns the row's id."""
    await (await home.api()).post(f"/api/inquiries/{ref}/reply", json={"text": "Svaret vårt."})

    def job(session):
        item = session.exec(select(OutboxItem).where(OutboxItem.kind == "reply")).one()
        for name, value in fields.items():
            setattr(item, name, value)
        message = session.get_one(Message, item.thread_message_id)
        message.delivery, message.delivery_detail = item.state, item.detail
        return item.id

    number = await home.hall.db.write(job)
    await change(home, ref, assignee_id=None)
    return number


async def test_a_reply_that_did_not_arrive_is_told_at_the_head_and_can_be_sent_again(home):
    ref = await home.inquiry()
    detail = "E-posttjeneren tok ikke imot mottakeren (550 5.1.1)."
    number = await replied(home, ref, state="failed", detail=detail)
    await change(home, ref, reply_state=ReplyState.NOT_DELIVERED, answered_at=None)
    token = await at_desk(home)
    page = await home.client.get(f"/desk/inquiries/{ref}")
    head, _, rest = page.text.partition('<div class="columns">')
    assert "Svaret vårt kom ikke fram." in head
    assert "Adressen finnes ikke hos mottakeren." in head
    anchor = re.search(r'href="#(m-\d+)">Se svaret', head)[1]
    assert f'id="{anchor}"' in rest
    assert "E-posttjeneren tok ikke imot mottakeren (550 5.1.1)." in rest
    again = f"/desk/inquiries/{ref}/outbox/{number}/retry"
    assert f'action="{again}"' in rest
    other = await home.inquiry(subject="Noe annet")
    wrong = f"/desk/inquiries/{other}/outbox/{number}/retry"
    assert (await home.client.post(wrong, data={"csrf": token})).status_code == 404
    sent = await home.client.post(again, data={"csrf": token})
    page = await home.client.get(sent.headers["location"])
    assert "Venter på å bli sendt" in page.text
    assert "Sendt på nytt for hånd" in page.text
    [item] = items_of(home)
    assert item.state == "queued"


async def test_an_uncertain_reply_warns_before_it_is_sent_again(home):
    ref = await home.inquiry()
    await replied(home, ref, state="uncertain", detail="Forbindelsen brøt.")
    await at_desk(home, "ola", Role.MEMBER, "vei")
    page = await home.client.get(f"/desk/inquiries/{ref}")
    assert "Usikkert om det ble sendt" in page.text
    assert "ellers kan den komme to ganger" in page.text
    assert "Send på nytt" in page.text


async def test_a_waiting_reply_says_when_it_is_tried_next(home):
    ref = await home.inquiry()
    later = MONDAY + timedelta(minutes=30)
    await replied(home, ref, attempts=3, next_at=later, detail="(451 4.3.0)")
    await at_desk(home)
    page = await home.client.get(f"/desk/inquiries/{ref}")
    assert re.search(
        r"Venter på å bli sendt</b>.*3 forsøk, neste <time[^>]*>i dag kl\. 09:30", page.text
    )
    assert "Send på nytt" in page.text


async def test_the_outbox_page_shows_no_more_of_an_address_than_it_must(home):
    ref = await home.inquiry()
    number = await replied(home, ref, state="failed", detail="(552 5.2.2)")
    token = await at_desk(home)
    page = await home.client.get("/desk/outbox")
    assert "ka…@example.no" in page.text
    assert "kari@example.no" not in page.text
    assert "Postkassen til mottakeren er full." in page.text
    await home.client.post(f"/desk/outbox/{number}/retry", data={"csrf": token})
    thread = (await home.client.get(f"/desk/inquiries/{ref}")).text
    assert "Venter på å bli sendt" in thread


async def test_what_has_not_been_tried_yet_says_only_when_it_will_be(home):
    ref = await home.inquiry()
    await replied(home, ref, next_at=MONDAY + timedelta(minutes=30), detail="Ingen svarte.")
    await at_desk(home)
    page = (await home.client.get("/desk/outbox")).text
    assert "0 forsøk" not in page
    assert re.search(r"Venter på å bli sendt.*neste <time[^>]*>i dag kl\. 09:30", page)
    assert "Send på nytt" in page


async def set_aside(home, subject, kind="bulk", **fields):
    ref, _ = await mail_in(home, kind=kind, **fields)
    await change(home, ref, status=InquiryStatus.ASIDE, subject=subject)
    return ref


async def test_what_stands_aside_is_found_and_moved_to_the_queue(home):
    letter = await set_aside(home, "Nyhetsbrev")
    spam = await set_aside(home, "Vinn en bil", "spam")
    token = await at_desk(home)
    page = await home.client.get("/desk/aside")
    assert page.text.index("Vinn en bil") < page.text.index("Nyhetsbrev"), "the latest first"
    assert "Merket som søppelpost av e-postsystemet" in page.text
    assert "En masseutsendelse" in page.text
    assert re.search(
        r'href="/desk/aside"[^>]*>Lagt til side <span class="count calm">2<', page.text
    )
    thread = await home.client.get(f"/desk/inquiries/{letter}")
    assert "Denne er lagt til side" in thread.text
    assert "dager igjen" not in thread.text
    none = await home.client.post("/desk/aside/open", data={"csrf": token})
    assert "Merk noe først." in (await home.client.get(none.headers["location"])).text
    await home.client.post("/desk/aside/open", data={"csrf": token, "only": letter})
    assert f'id="row-{letter}"' in (await home.client.get("/desk/queue")).text
    await home.client.post("/desk/aside/close", data={"csrf": token, "ref": [spam, letter]})
    assert "Ingenting er lagt til side." in (await home.client.get("/desk/aside")).text
    api = await home.api()
    assert (await api.get(f"/api/inquiries/{spam}")).json()["status"] == "closed"
    moved = (await api.get(f"/api/inquiries/{letter}")).json()
    assert moved["status"] == "open", "what has been moved is no longer aside, and stays open"


async def test_the_list_of_what_stands_aside_pages_and_knows_departments(home):
    refs = [await set_aside(home, f"Brev {number}") for number in range(3)]
    for ref in refs:
        await change(home, ref, received_at=MONDAY)  # the same moment: the number decides
    await at_desk(home, "ola", Role.MEMBER, "skole")
    assert "Brev" not in (await home.client.get("/desk/aside")).text
    await at_desk(home, "vera", Role.MEMBER, "vei")
    page = await home.client.get("/desk/aside")
    assert re.findall(r">(Brev \d)<", page.text) == ["Brev 2", "Brev 1", "Brev 0"]
    with home.hall.db.read() as session:
        middle = session.exec(select(Inquiry.id).where(Inquiry.ref == refs[1])).one()
    rest = await home.client.get(f"/desk/aside?after={middle}")
    assert re.findall(r">(Brev \d)<", rest.text) == ["Brev 0"]
    wrong = await home.client.post("/desk/aside/open", data={"csrf": "x", "only": refs[0]})
    assert wrong.status_code == 403


async def test_a_parked_arrival_says_why_shows_its_beginning_and_can_be_run_again(home):
    raw = b"Subject: <b>hei</b>\r\n\r\n\x1b[31m\x00" + f"{NUMBER}".encode() + b"x" * 300_000
    sha256 = put_blob(home.hall.settings.blobs, raw)

    def park(session):
        arrival = RawArrival("email", "p", MONDAY, {"mail_from": "kari@example.no"}, raw)
        entry = journal.Entry(arrival, blob_path(home.hall.settings.blobs, sha256))
        _, number = journal.insert(session.connection(), [entry])[0]
        journal.park(session, number, "took too long or too much memory", MONDAY)
        return number

    number = await home.hall.db.write(park)
    token = await at_desk(home)
    listed = await home.client.get("/desk/parked")
    assert "Lesingen tok for lang tid eller for mye minne." in listed.text
    page = await home.client.get(f"/desk/parked/{number}")
    assert "Subject: &lt;b&gt;hei&lt;/b&gt;" in page.text
    assert "·[31m·130972 *****" in page.text
    assert "Bare begynnelsen vises." in page.text
    original = await home.client.get(f"/desk/arrivals/{number}/raw")
    assert original.content == raw
    again = await home.client.post(f"/desk/parked/{number}/retry", data={"csrf": token})
    assert again.headers["location"] == "/desk/parked?done=retried"
    with home.hall.db.read() as session:
        assert journal.get(session, number).state == "new"


async def test_the_desk_shows_where_an_answer_really_goes(home):
    """A mail may ask to be answered elsewhere, and that may be somebody else."""
    ref, _ = await mail_in(home, reply_to="angriper@ond.example")
    await at_desk(home)
    page = await home.client.get(f"/desk/inquiries/{ref}")
    assert "Svar til angriper@ond.example" in page.text


async def test_files_are_fetched_by_api_by_whoever_sees_the_inquiry_and_without_the_virus(home):
    file = {"content": PDF, "filename": "søknad.pdf"}
    ref, _ = await mail_in(home, files=[dict(file)])
    bad, _ = await mail_in(home, files=[dict(file)], marks=["quarantined"])
    api = await home.api()
    address, locked = [
        f"/api/inquiries/{one}/attachments/{detail['messages'][0]['attachments'][0]['id']}"
        for one in (ref, bad)
        for detail in [(await api.get(f"/api/inquiries/{one}")).json()]
    ]
    came = await api.get(address)
    assert (came.status_code, came.content) == (200, PDF)
    assert came.headers["content-type"] == "application/pdf"
    assert "s%C3%B8knad.pdf" in came.headers["content-disposition"]
    assert (await home.visitor().get(address)).status_code == 401
    elsewhere = await home.api(Role.MEMBER, "skole")
    assert (await elsewhere.get(address)).status_code == 404
    assert (await api.get(address.replace(ref, bad))).status_code == 404
    refused = await api.get(locked)
    assert refused.status_code == 403
    assert "virus" in refused.json()["detail"]
