"""Talks by XMPP in the store, and what staff are told of them: no server here."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy import select
from sqlalchemy import text as sql
from sqlmodel import col

from channels.base import DeliveryState, DeliveryStatus, OutgoingKind, Receipt
from channels.chat import xmpp
from channels.chat.xmpp_link import LinkState
from router import chat_desk, deliveries, leases, passing, queue, staff, xmpp_staff
from router.chat_models import TalkOutcome
from router.errors import InvalidError
from router.models import (
    Department,
    Inquiry,
    Message,
    OutboxItem,
    ReplyState,
    Role,
    StoredAttachment,
)
from router.sections import XmppDoor
from router.sending import Outbox
from router.xmpp import XmppOffice
from router.xmpp_staff import RefusedError
from rules.order import Lane
from tests.channels.xmpp_server import DOMAIN as XMPP_DOMAIN
from tests.channels.xmpp_server import SECRET, XmppServer
from tests.router.chat_house import letters, sweep
from tests.router.test_chat_desk import sits
from tests.router.web_house import house
from tests.service import soon

NORA = "nora@innbygger.test"
KARI = "kari@ansatt.test"


@pytest.fixture
async def home(tmp_path):
    async with house(tmp_path) as opened:
        opened.hall.reception.start()
        yield opened
        await opened.hall.reception.stop()


def said(text, jid=NORA, local="servicetorg", id_="1"):
    return xmpp.Said(f"{jid}/x", jid, local, id_, text, key=f"{jid}:{local}:{id_}:{text}")


async def say(home, text, **more):
    """Somebody writes to a department; the inquiry it is in."""
    message = said(text, **more)
    arrival = xmpp.arrival(message, message.local, home.clock())
    await home.hall.reception.receive(arrival)

    def found():
        with home.hall.db.read() as session:
            query = (
                select(Inquiry)
                .join(Message, col(Message.inquiry_id) == col(Inquiry.id))
                .where(col(Message.text) == text)
                .order_by(col(Message.id).desc())
            )
            return session.execute(query).scalars().first()

    await soon(found, "it is taken in")
    return found()


async def colleague(home, username="kari", jid=KARI, role=Role.OPERATOR, *departments):
    number = await home.person(username, role, *departments, password=False)

    def job(session):
        person = staff.require_staff(session, username)
        staff.set_jid(session, person, jid)
        return staff.actor_of(session, person)

    assert number
    return await home.hall.db.write(job)


async def write(home, job, **more):
    return await home.hall.db.write(lambda session: job(session, now=home.clock(), **more))


async def hear(home, text, ref, jid=KARI, id_="1"):
    message = said(text, jid, xmpp.case_address(ref), id_)
    capacity = home.hall.settings.channels.chat.capacity
    head = home.hall.reply_context
    return await write(home, xmpp_staff.hear, head=head, said=message, capacity=capacity)


async def relay(home):
    """Tell staff whatever they have not been told; the texts, oldest first."""
    before = {item.message_id for item in letters(home)}
    with home.hall.db.read() as session:
        numbers = xmpp_staff.untold(session)
    head = home.hall.reply_context
    for number in numbers:
        await write(home, xmpp_staff.relay, head=head, inquiry_id=number)
    return [item.payload["text"] for item in letters(home) if item.message_id not in before]


async def test_a_talk_goes_on_while_its_inquiry_is_open_and_a_day_longer(home):
    first = await say(home, "Det er et hull i veien.")
    assert (first.channel, first.department, first.lane) == ("chat", "vei", Lane.LIVE)
    assert first.sender_address == ""  # what looks like an e-mail address is none
    assert first.contact_id is not None
    assert (await say(home, "Et stort et.")).ref == first.ref
    assert (await say(home, "Får vi plass?", local="barnehage")).ref != first.ref
    assert (await say(home, "Hei", jid="ola@innbygger.test")).ref != first.ref

    home.clock.move(days=20)
    assert (await say(home, "Hva skjer?")).ref == first.ref
    actor = await colleague(home)
    await write(home, queue.close, actor=actor, ref=first.ref)
    home.clock.move(hours=20)
    assert (await say(home, "Takk!")).ref == first.ref
    await write(home, queue.close, actor=actor, ref=first.ref)
    home.clock.move(hours=25)
    later = await say(home, "Nå er det noe annet.")
    assert later.ref != first.ref
    assert later.contact_id == first.contact_id


async def test_nobody_answers_so_it_is_an_ordinary_inquiry_and_the_resident_is_told(home):
    inquiry = await say(home, "Når åpner dere?")
    await sweep(home)
    [told] = letters(home)
    assert (told.channel, told.kind, told.recipient) == ("xmpp", "receipt", NORA)
    assert inquiry.ref in told.payload["text"]
    assert told.payload["sender"]["value"].startswith("servicetorg@")
    await sweep(home)
    assert len(letters(home)) == 1


async def test_an_emergency_gets_its_answer_at_once(home):
    await say(home, "Hjelp, mannen min puster ikke!")
    [told] = letters(home)
    assert (told.kind, "113" in told.payload["text"]) == ("emergency", True)


async def test_an_answer_goes_out_days_later_and_files_are_refused(home):
    inquiry = await say(home, "Når åpner dere?")
    home.clock.move(days=40)
    api = await home.api()
    answer = await api.post(f"/api/inquiries/{inquiry.ref}/reply", json={"text": "Klokka åtte."})
    assert answer.status_code == 200
    [item] = [item for item in letters(home) if item.kind == "reply"]
    assert (item.channel, item.recipient) == ("xmpp", NORA)
    file = {"filename": "a.txt", "content_type": "text/plain", "content_base64": "aGVp"}
    refused = await api.post(
        f"/api/inquiries/{inquiry.ref}/reply", json={"text": "Se her", "attachments": [file]}
    )
    assert refused.status_code == 422
    assert "XMPP" in refused.json()["detail"]


async def test_how_an_answer_fares_is_believed_from_where_it_went_and_from_nobody_else(home):
    inquiry = await say(home, "Når åpner dere?")
    api = await home.api()
    await api.post(f"/api/inquiries/{inquiry.ref}/reply", json={"text": "Klokka åtte."})
    [item] = [item for item in letters(home) if item.kind == "reply"]

    async def fared(jid, state, detail=""):
        status = DeliveryStatus(item.message_id.strip("<>"), state, detail)
        return await write(
            home, deliveries.fared, message_id=item.message_id, jid=jid, status=status
        )

    async def delivery():
        detail = (await api.get(f"/api/inquiries/{inquiry.ref}")).json()
        return detail["messages"][-1]["delivery"], detail["reply_state"]

    assert not await fared("ola@innbygger.test", DeliveryState.DELIVERED)
    # The receipt may be quicker than our own note that the server took it.
    assert await fared(NORA, DeliveryState.DELIVERED)
    assert await delivery() == ("delivered", "answered")
    assert not await fared(NORA, DeliveryState.FAILED, "for sent")

    await api.post(f"/api/inquiries/{inquiry.ref}/reply", json={"text": "Eller ni."})
    item = [item for item in letters(home) if item.kind == "reply"][-1]
    assert await fared("innbygger.test", DeliveryState.FAILED, "Adressen finnes ikke.")
    assert await delivery() == ("failed", ReplyState.NOT_DELIVERED.value)


async def test_the_desk_says_that_a_resident_writes_by_xmpp_and_whether_their_device_has_it(home):
    siv = await sits(home, "siv")
    inquiry = await say(home, "Når åpner dere?")
    assert "XMPP" in (await siv.get("/list")).text
    await siv.post(f"{inquiry.ref}/claim")
    home.clock.move(hours=1)
    await siv.say(inquiry.ref, "Klokka åtte.")
    page = (await siv.get(f"/{inquiry.ref}")).text
    assert f"Innbyggeren skriver med XMPP, fra {NORA}." in page
    assert "har siden åpen" not in page
    assert "har gått fra siden" not in page
    assert "Venter på å bli sendt" in page

    [item] = [item for item in letters(home) if item.kind == "reply"]
    status = DeliveryStatus(item.message_id.strip("<>"), DeliveryState.DELIVERED, "")
    await write(home, deliveries.fared, message_id=item.message_id, jid=NORA, status=status)
    page = (await siv.get(f"/{inquiry.ref}")).text
    assert "Levert: enheten deres har den." in page
    # What the resident says more stands once in the inquiry.
    await say(home, "Takk skal dere ha!", id_="2")
    whole = (await siv.browser.get(f"/desk/inquiries/{inquiry.ref}")).text
    assert whole.partition('id="thread"')[2].count("Takk skal dere ha!") == 1


async def test_whoever_holds_an_inquiry_is_told_everything_once_on_every_channel(home):
    actor = await colleague(home)
    ref = await home.inquiry("Hull i veien", "Jeg er 01818010083, og det er et hull i veien.")
    assert await relay(home) == []
    await write(home, queue.claim, actor=actor, ref=ref)
    [opening] = await relay(home)
    assert ref in opening
    assert "Hull i veien" in opening
    assert "Innbyggeren: Jeg er" in opening
    assert "10083" not in opening
    assert await relay(home) == []

    inquiry = await say(home, "Det er glatt.", local="vei")
    await write(home, queue.claim, actor=actor, ref=inquiry.ref)
    await relay(home)
    await say(home, "Veldig glatt.", local="vei", id_="2")
    await say(home, "Kom nå!", local="vei", id_="3")
    assert await relay(home) == ["Veldig glatt.", "Kom nå!"]
    assert await relay(home) == []

    other = await colleague(home, "ola", "ola@ansatt.test")
    await write(home, queue.release, actor=actor, ref=inquiry.ref)
    await write(home, queue.claim, actor=other, ref=inquiry.ref)
    [opening] = await relay(home)
    assert "Kom nå!" in opening
    assert letters(home)[-1].recipient == "ola@ansatt.test"
    await write(home, queue.close, actor=other, ref=inquiry.ref)
    assert await relay(home) == []

    # None of it is part of what the resident was sent, nor of the inquiry's history.
    api = await home.api()
    detail = (await api.get(f"/api/inquiries/{inquiry.ref}")).json()
    assert {message["direction"] for message in detail["messages"]} == {"in"}


async def test_a_note_may_begin_on_the_next_line(home):
    await colleague(home)
    inquiry = await say(home, "Når åpner dere?")
    assert (await hear(home, "/notat\nRing henne\ni morgen", inquiry.ref)).text
    with home.hall.db.read() as session:
        query = select(col(Message.text)).where(col(Message.direction) == "note")
        assert session.execute(query).scalars().all() == ["Ring henne\ni morgen"]


async def test_no_name_of_a_person_or_file_shows_a_number_of_birth(home):
    actor = await colleague(home)
    api = await home.api()
    form = {
        "channel": "web",
        "from": {"name": "Nora 01818010083", "email": "nora@x.test"},
        "subject": "Søknad",
        "text": "Se vedlegget.",
    }
    ref = (await api.post("/api/inquiries", json=form)).json()["ref"]

    def attach(session):
        row = queue.row(session, actor, ref)
        message = session.execute(select(Message).where(col(Message.inquiry_id) == row.id)).scalar()
        session.add(
            StoredAttachment(
                message_id=message.id,
                filename="01818010083.pdf",
                content_type="application/pdf",
                size=1,
                sha256="0" * 64,
            )
        )

    await home.hall.db.write(attach)
    await write(home, queue.claim, actor=actor, ref=ref)
    [opening] = await relay(home)
    assert ".pdf" in opening
    assert "Nora" in opening
    assert "10083" not in opening


async def test_a_talk_that_goes_on_has_no_outcome(home):
    actor = await colleague(home)
    inquiry = await say(home, "Når åpner dere?")
    end = partial(chat_desk.end, head=home.hall.reply_context, outcome=TalkOutcome.UNWANTED)
    await write(home, end, actor=actor, ref=inquiry.ref)
    await say(home, "Jeg mente det.", id_="2")
    with home.hall.db.read() as session:
        assert chat_desk.latest(session, inquiry.id).outcome is None


async def test_what_lies_with_a_department_that_was_removed_is_told_and_answered(home):
    actor = await colleague(home)
    inquiry = await say(home, "Når åpner dere?")

    def remove(session):
        names = {"name_nb": "Gamle", "name_nn": "Gamle", "name_en": "Old"}
        session.add(Department(slug="gamle", active=False, **names))
        session.flush()
        session.get_one(Inquiry, inquiry.id).department = "gamle"

    await home.hall.db.write(remove)
    await write(home, queue.claim, actor=actor, ref=inquiry.ref)
    [opening] = await relay(home)
    assert "Når åpner dere?" in opening
    await hear(home, "Klokka åtte.", inquiry.ref)
    assert letters(home)[-1].payload["text"] == "Klokka åtte."


class Door:
    """A door by which everything goes at once."""

    name = "xmpp"
    once_only = False

    def __init__(self):
        self.sent = []

    async def start(self):
        pass

    async def stop(self):
        pass

    async def send(self, outgoing):
        self.sent.append(outgoing)
        return Receipt("1", "")

    def health(self):
        return ""


async def deliver(home):
    """The link is up: (recipient, text) of what goes to people who work here."""
    door = Door()
    await Outbox(home.hall.db, {"xmpp": door}, home.hall.settings.blobs, home.clock).deliver_due()
    return [(one.to.value, one.text) for one in door.sent if one.kind is OutgoingKind.RELAY]


async def taken(home, actor, text):
    """Somebody has a chat, and their client waits for what was written in it."""
    inquiry = await say(home, text)
    await write(home, queue.claim, actor=actor, ref=inquiry.ref)
    assert len(await relay(home)) == 1
    return inquiry


async def give(home, actor, ref, username):
    """Pass an inquiry on to a colleague, and tell whom it is to be told."""
    more = {"head": home.hall.reply_context, "capacity": 3, "note": ""}
    await write(home, passing.hand_over, actor=actor, ref=ref, username=username, **more)
    await relay(home)


async def test_what_waits_for_who_had_it_goes_to_who_has_it_now(home):
    kari, ola = await colleague(home), await colleague(home, "ola", "ola@ansatt.test")
    inquiry = await taken(home, kari, "Sønnen min er syk.")
    await give(home, kari, inquiry.ref, "ola")
    [(recipient, text)] = await deliver(home)
    assert (recipient, "Sønnen min er syk." in text) == ("ola@ansatt.test", True)

    await say(home, "Veldig syk.", id_="2")
    await relay(home)
    await give(home, ola, inquiry.ref, "kari")
    await give(home, kari, inquiry.ref, "ola")
    [(recipient, text)] = await deliver(home)
    assert (recipient, "Veldig syk." in text) == ("ola@ansatt.test", True)
    assert await deliver(home) == []


async def test_what_waits_is_dropped_when_nobody_with_an_address_has_it(home):
    kari = await colleague(home)
    await home.person("ola", password=False)
    inquiry = await taken(home, kari, "Sønnen min er syk.")
    await give(home, kari, inquiry.ref, "ola")
    assert await deliver(home) == []
    assert [item for item in letters(home) if item.recipient == KARI] == []
    counted = (await home.visitor().get("/metrics")).text
    assert 'kind="relay",outcome="withdrawn"' in counted


async def test_who_has_left_the_department_is_told_nothing_of_what_they_still_hold(home):
    kari = await colleague(home, "kari", KARI, Role.MEMBER, "servicetorg")
    inquiry = await taken(home, kari, "Sønnen min er syk.")

    def moved(department):
        def job(session):
            person = staff.require_staff(session, "kari")
            staff.change_staff(session, person, home.clock(), departments=[department])

        return home.hall.db.write(job)

    await moved("vei")
    assert await deliver(home) == []
    await say(home, "Veldig syk.", id_="2")
    assert await relay(home) == []
    head, now = home.hall.reply_context, home.clock()
    await home.hall.db.write(lambda s: xmpp_staff.relay(s, head, inquiry.id, now))
    assert await deliver(home) == []
    with home.hall.db.read() as session:
        assert xmpp_staff.holder_of(session, inquiry.id) is None

    await moved("servicetorg")
    [told] = await relay(home)
    assert [text in told for text in ("Sønnen min er syk.", "Veldig syk.")] == [True, True]


async def test_who_gave_it_back_and_takes_it_again_is_told_again(home):
    kari = await colleague(home)
    inquiry = await taken(home, kari, "Sønnen min er syk.")
    await say(home, "Veldig syk.", id_="2")
    await relay(home)
    await write(home, queue.release, actor=kari, ref=inquiry.ref)
    assert await deliver(home) == []
    await write(home, queue.claim, actor=kari, ref=inquiry.ref)
    await relay(home)
    [(recipient, text)] = await deliver(home)
    assert (recipient, "Veldig syk." in text) == (KARI, True)


async def test_who_closes_it_is_still_told_what_was_written_before(home):
    kari = await colleague(home)
    inquiry = await taken(home, kari, "Sønnen min er syk.")
    await say(home, "Veldig syk.", id_="2")
    await relay(home)
    await write(home, queue.close, actor=kari, ref=inquiry.ref)
    assert [text for _to, text in await deliver(home)][-1] == "Veldig syk."


async def test_who_closed_it_hears_that_the_resident_writes_again_until_somebody_else_has_it(home):
    await colleague(home)
    ola = await colleague(home, "ola", "ola@ansatt.test")
    inquiry = await say(home, "Når åpner dere?")
    await hear(home, "Klokka åtte.", inquiry.ref)
    await relay(home)
    await deliver(home)
    assert "hører du det her" in (await hear(home, "!lukk", inquiry.ref, id_="2")).text
    assert await relay(home) == []

    await say(home, "Også lørdag?", id_="2")
    assert len(await relay(home)) == 1
    [(recipient, text)] = await deliver(home)
    assert recipient == KARI
    assert "Også lørdag?" in text
    assert f"{inquiry.ref} er åpen igjen, og ingen har den." in text
    await hear(home, "Ja.", inquiry.ref, id_="3")
    assert (await state(home, inquiry.ref))["assignee"] == "kari"
    await say(home, "Takk!", id_="3")
    assert await relay(home) == ["Takk!"]
    await deliver(home)

    await hear(home, "!lukk", inquiry.ref, id_="4")
    await say(home, "Og søndag?", id_="4")
    await write(home, queue.claim, actor=ola, ref=inquiry.ref)
    await write(home, queue.release, actor=ola, ref=inquiry.ref)
    await say(home, "Hallo?", id_="5")
    assert await relay(home) == []
    assert await deliver(home) == []


async def test_who_closes_what_nobody_held_hears_that_the_resident_writes_again(home):
    await colleague(home)
    inquiry = await say(home, "Når åpner dere?")
    await hear(home, "!lukk", inquiry.ref)
    await say(home, "Også lørdag?", id_="2")
    [told] = await relay(home)
    assert "Også lørdag?" in told
    assert "Når åpner dere?" not in told


async def test_one_inquiry_that_cannot_be_told_holds_up_no_other_and_is_told_later(home):
    kari = await colleague(home)
    broken = await say(home, "Det er glatt.")

    def refuse(session):
        session.connection().execute(
            sql(
                "CREATE TRIGGER refused BEFORE INSERT ON outbox WHEN NEW.kind = 'relay'"
                f" AND NEW.inquiry_id = {broken.id} BEGIN SELECT RAISE(ABORT, 'no'); END"
            )
        )

    await home.hall.db.write(refuse)
    async with linked(home) as server:
        await write(home, queue.claim, actor=kari, ref=broken.ref)
        await soon(lambda: home.hall.xmpp.problem, "it cannot be told")
        for number in range(3):
            other = await say(home, f"Hull nummer {number}.", jid=f"n{number}@x.test")
            await write(home, queue.claim, actor=kari, ref=other.ref)
        await soon(lambda: len(opened(server)) == 3, "the others are told")
        assert not any("glatt" in line for line in opened(server))

        visitor = home.visitor()
        ready = (await visitor.get("/readyz")).json()
        assert not ready["parts"]["door:xmpp"]["ok"]
        assert "told of what came: 1" in ready["parts"]["door:xmpp"]["detail"]
        figures = (await visitor.get("/metrics")).text
        assert 'sentralbord_relays_total{outcome="failed"}' in figures

        await home.hall.db.write(
            lambda session: session.connection().execute(sql("DROP TRIGGER refused"))
        )
        home.clock.move(seconds=16)
        last = await say(home, "Et hull til.", jid="n9@x.test")
        await write(home, queue.claim, actor=kari, ref=last.ref)
        await soon(lambda: len(opened(server)) == 5, "all are told")
        await soon(lambda: not home.hall.xmpp.problem, "all is well")
        assert sum("glatt" in line for line in opened(server)) == 1


def opened(server):
    return [line for line in server.taken if "/desk/inquiries/" in line]


@asynccontextmanager
async def linked(home):
    """The office of XMPP at work, with a server that takes everything."""
    server = XmppServer()
    await server.start()
    hall = home.hall
    door = XmppDoor(enabled=True, port=server.port, domain=XMPP_DOMAIN, secret=SECRET)
    channels = hall.settings.channels.model_copy(update={"xmpp": door})
    settings = hall.settings.model_copy(update={"channels": channels})
    head = replace(hall.reply_context, xmpp_domain=XMPP_DOMAIN)
    doors = {}
    outbox = Outbox(hall.db, doors, settings.blobs, home.clock)
    office = XmppOffice(
        settings, hall.db, hall.hub, hall.chats, hall.reception, outbox, head, home.clock
    )
    doors[office.door.name] = office.door
    hall.xmpp = office
    await office.door.start()
    await soon(lambda: office.door.state is LinkState.UP, "the link")
    outbox.start()
    office.start()
    try:
        yield server
    finally:
        await office.stop()
        await outbox.stop()
        await office.door.stop()
        await server.stop()


async def test_two_services_tell_each_message_once(home):
    actor = await colleague(home)
    inquiry = await say(home, "Det er glatt.")
    await write(home, queue.claim, actor=actor, ref=inquiry.ref)
    head, number = home.hall.reply_context, inquiry.id
    told = [await write(home, xmpp_staff.relay, head=head, inquiry_id=number) for _ in range(2)]
    assert told == [1, 0]


async def test_an_answer_is_one_however_often_it_comes_and_takes_what_nobody_holds(home):
    actor = await colleague(home)
    inquiry = await say(home, "Når åpner dere?")
    for _ in range(3):
        verdict = await hear(home, "Klokka åtte.", inquiry.ref)
        assert (verdict.condition, verdict.text) == ("", "")
        assert (await hear(home, "/notat Ring henne", inquiry.ref, id_="2")).text
    with home.hall.db.read() as session:
        row = queue.row(session, actor, inquiry.ref)
        texts = session.execute(
            select(col(Message.text)).where(col(Message.direction) != "in")
        ).scalars()
        assert (row.assignee, row.answered_at is not None) == ("kari", True)
        assert sorted(texts) == ["Klokka åtte.", "Ring henne"]


async def test_an_answer_takes_no_more_chats_than_one_can_have(home):
    actor = await colleague(home)
    capacity = home.hall.settings.channels.chat.capacity
    for number in range(capacity):
        inquiry = await say(home, f"Hei {number}", jid=f"n{number}@x.test")
        await hear(home, "Hei!", inquiry.ref)
    one_more = await say(home, "Når åpner dere?")
    with pytest.raises(RefusedError) as refused:
        await hear(home, "Klokka åtte.", one_more.ref)
    assert refused.value.verdict.condition == "conflict"
    assert "mange chatter" in refused.value.verdict.text
    await write(home, queue.close, actor=actor, ref=inquiry.ref)
    assert (await hear(home, "Klokka åtte.", one_more.ref)).condition == ""


async def test_closing_once_more_says_that_it_is_closed_and_changes_nothing(home):
    await colleague(home)
    inquiry = await say(home, "Når åpner dere?")
    assert (await hear(home, "/lukk", inquiry.ref)).text.startswith("Henvendelsen er avsluttet.")
    version = (await state(home, inquiry.ref))["version"]
    for id_ in ("1", "2"):
        again = await hear(home, "/lukk", inquiry.ref, id_=id_)
        assert (again.condition, again.text) == (
            "",
            "Henvendelsen var alt avsluttet. Ingenting er endret.",
        )
    assert (await state(home, inquiry.ref))["version"] == version

    # Who hears nothing sends it again, also after the resident has written.
    await say(home, "Hallo?", id_="2")
    assert (await state(home, inquiry.ref))["status"] == "open"
    assert "åpnet igjen siden" in (await hear(home, "/lukk", inquiry.ref)).text
    assert (await state(home, inquiry.ref))["status"] == "open"
    assert (await hear(home, "/lukk", inquiry.ref, id_="3")).text.startswith(
        "Henvendelsen er avsluttet."
    )


async def state(home, ref):
    return (await (await home.api()).get(f"/api/inquiries/{ref}")).json()


async def test_commands_have_a_mark_that_no_client_takes_for_itself(home):
    await colleague(home)
    inquiry = await say(home, "Når åpner dere?")
    assert "!lukk" in (await hear(home, "!hjelp", inquiry.ref)).text
    await hear(home, "!notat Ring henne", inquiry.ref, id_="2")
    for number, words in enumerate(("!!viktig", "!!! Husk", "! Ja")):
        await hear(home, words, inquiry.ref, id_=f"s{number}")
    with pytest.raises(RefusedError) as refused:
        await hear(home, "!lukkk", inquiry.ref, id_="3")
    assert "!lukkk" in refused.value.verdict.text
    assert (await hear(home, "!lukk", inquiry.ref, id_="4")).text.startswith(
        "Henvendelsen er avsluttet."
    )
    thread = (await state(home, inquiry.ref))["messages"]
    said = [one["text"] for one in thread if one["kind"] == "reply"]
    assert said == ["!viktig", "!!! Husk", "! Ja"]
    assert [one["text"] for one in thread if one["direction"] == "note"] == ["Ring henne"]


@pytest.mark.parametrize(
    ("text", "condition", "word"),
    [
        ("/lukkk", "not-acceptable", "/lukkk"),
        ("/notat", "not-acceptable", "kommandoen"),
        ("/", "not-acceptable", "/"),
        ("/lukk Takk for hjelpen!", "not-acceptable", "Takk for"),
    ],
)
async def test_what_is_no_command_goes_to_nobody(home, text, condition, word):
    await colleague(home)
    inquiry = await say(home, "Når åpner dere?")
    with pytest.raises(RefusedError) as refused:
        await hear(home, text, inquiry.ref)
    assert refused.value.verdict.condition == condition
    assert word in refused.value.verdict.text
    assert letters(home) == []


async def test_others_and_nothing_are_the_same_to_whoever_may_not_see(home):
    await colleague(home, "anne", "anne@ansatt.test", Role.MEMBER, "barnehage")
    inquiry = await say(home, "Det er et hull i veien.")
    words = set()
    for jid in ("anne@ansatt.test", NORA, "hvemsomhelst@x.test"):
        for ref in (inquiry.ref, "S-2026-999999"):
            for text in ("Hei", "/lukk", "/hjelp"):
                with pytest.raises(RefusedError) as refused:
                    await hear(home, text, ref, jid)
                words.add(refused.value.verdict.condition)
    assert words == {"item-not-found"}


async def test_whoever_is_shut_out_is_a_stranger_at_once(home):
    await colleague(home)
    inquiry = await say(home, "Når åpner dere?")
    await home.hall.db.write(
        lambda session: staff.set_active(
            session, staff.require_staff(session, "kari"), home.clock(), active=False
        )
    )
    with pytest.raises(RefusedError) as refused:
        await hear(home, "Klokka åtte.", inquiry.ref)
    assert refused.value.verdict.condition == "item-not-found"


@pytest.mark.parametrize("left", ["another address", "no address", "shut out"])
async def test_what_waits_for_an_address_goes_nowhere_once_it_is_not_theirs(home, left):
    actor = await colleague(home)
    inquiry = await say(home, "Sønnen min er syk.")
    await write(home, queue.claim, actor=actor, ref=inquiry.ref)
    assert await relay(home) != []

    def change(session):
        person = staff.require_staff(session, "kari")
        if left == "shut out":
            staff.set_active(session, person, home.clock(), active=False)
        else:
            staff.set_jid(session, person, "ny@x.test" if left == "another address" else "")

    await home.hall.db.write(change)
    assert [item for item in letters(home) if item.recipient == KARI] == []
    told = await relay(home)
    assert ["Sønnen min er syk." in text for text in told] == (
        [True] if left == "another address" else []
    )


async def test_an_address_is_one_persons(home):
    await colleague(home)
    await home.person("ola", password=False)
    for jid in (KARI.upper(), "ikke en adresse", "x/y@z.test"):
        with pytest.raises(InvalidError):
            await home.hall.db.write(
                lambda session, jid=jid: staff.set_jid(
                    session, staff.require_staff(session, "ola"), jid
                )
            )


async def test_one_holds_the_lease_until_it_lets_go_or_is_not_heard_of(home):
    span = timedelta(seconds=20)

    async def take(who, **more):
        return await write(home, leases.take, name="xmpp", holder=who, span=span, **more)

    assert await take("a") == ""
    assert await take("b") == "a"
    home.clock.move(seconds=15)
    assert await take("a") == ""
    home.clock.move(seconds=15)
    assert await take("b") == "a"
    home.clock.move(seconds=6)
    assert await take("b") == ""
    assert await take("a") == "b"
    await home.hall.db.write(lambda session: leases.release(session, "xmpp", "a"))
    assert await take("a") == "b"
    await home.hall.db.write(lambda session: leases.release(session, "xmpp", "b"))
    assert await take("a") == ""
    assert await take("c", alone=True) == ""


class Elsewhere(Door):
    """The door of a service that has not the link."""

    elsewhere = True


async def test_a_service_without_the_link_leaves_its_messages_to_the_one_that_has_it(home):
    inquiry = await say(home, "Når åpner dere?")
    api = await home.api()
    await api.post(f"/api/inquiries/{inquiry.ref}/reply", json={"text": "Klokka åtte."})
    door = Elsewhere()
    outbox = Outbox(home.hall.db, {"xmpp": door}, home.hall.settings.blobs, home.clock)
    assert await outbox.deliver_due() == 0
    [item] = letters(home)
    assert (item.state, item.next_at, item.detail) == ("queued", home.clock(), "")
    assert door.sent == []


async def test_what_was_under_way_when_the_link_broke_goes_again_when_it_is_back(home):
    inquiry = await say(home, "Når åpner dere?")
    api = await home.api()
    await api.post(f"/api/inquiries/{inquiry.ref}/reply", json={"text": "Klokka åtte."})
    [item] = letters(home)

    def lose(session):
        row = session.get_one(OutboxItem, item.id)
        row.state, row.next_at = "uncertain", home.clock() + timedelta(hours=1)

    await home.hall.db.write(lose)
    await Outbox(home.hall.db, {}, home.hall.settings.blobs, home.clock).reopen("xmpp")
    [again] = letters(home)
    assert (again.state, again.next_at) == ("queued", home.clock())
    assert again.message_id == item.message_id
