"""One contact on its whole way: mail in, inquiry, receipt, reply out, answer back in."""

from __future__ import annotations

import re
import time
from datetime import datetime

import httpx

from tests.integration.conftest import instant
from tests.rules import oracle
from tests.service import TOWN_HALL, incoming, kinds, mail, unique

POTHOLE = "Det er et stort hull i veien ved nummer 12. Kan dere fikse det?"
WEEKDAYS = ("mandag", "tirsdag", "onsdag", "torsdag", "fredag", "lørdag", "søndag")
MONTHS = ("januar", "februar", "mars", "april", "mai", "juni", "juli", "august", "september",
          "oktober", "november", "desember")  # fmt: skip


def in_words(at: datetime) -> str:
    day, minute = oracle.local(at)
    return (
        f"{WEEKDAYS[day.weekday()]} {day.day}. {MONTHS[day.month - 1]} {day.year} "
        f"kl. {minute // 60:02}:{minute % 60:02}"
    )


def test_a_mail_stands_in_the_queue_within_a_second(service, desk):
    fastest = 9.0
    for _ in range(3):
        subject = unique()
        answer = service.deliver(mail(subject, POTHOLE))
        started = time.monotonic()
        assert answer[0] == 250
        desk.find(subject)
        fastest = min(fastest, time.monotonic() - started)
    assert fastest < 1


def test_a_mail_about_a_pothole_goes_to_the_roads_with_a_date_and_a_reason(service, desk):
    subject = unique("Hull")
    service.deliver(mail(subject, POTHOLE, sender="Kari Nordmann <Kari.N@Eksempel.no>"))
    inquiry = desk.open(subject)

    assert inquiry["department"] == "vei"
    assert inquiry["status"] == "open"
    assert inquiry["reply_state"] == "unanswered"
    assert inquiry["channel"] == "email"
    assert instant(inquiry["due_at"]) == oracle.due(instant(inquiry["received_at"]), 3)
    [decision] = inquiry["decisions"]
    assert decision["department"] == "vei"
    assert decision["reason_text"].startswith("Rutet til Vei")
    assert "«" in decision["reason_text"]
    assert decision["ruleset"]
    assert decision["trace"]
    [message] = incoming(inquiry)
    assert message["from"] == "kari.n@eksempel.no"
    assert message["sender_name"] == "Kari Nordmann"
    assert message["to"] == [TOWN_HALL]
    assert message["text"] == POTHOLE
    assert inquiry["contact"]["name"] == "Kari Nordmann"
    assert kinds(inquiry)[:2] == ["received", "routed"]


def test_the_sender_gets_a_receipt_that_says_who_when_and_where_to_look(service, desk, smarthost):
    subject, sender = unique("Hull"), f"{unique('x')[2:]}@eksempel.no"
    raw = mail(subject, POTHOLE, sender=f"Kari <{sender}>", message_id="<spor.1@eksempel.no>")
    service.deliver(raw, mail_from=sender)
    inquiry = desk.open(subject)
    [receipt] = smarthost.first_to(sender)

    assert receipt.sunk.mail_from == ""
    assert receipt.sunk.recipients == (sender,)
    assert receipt["Auto-Submitted"] == "auto-replied"
    assert receipt["To"].endswith(f"<{sender}>") or receipt["To"] == sender
    assert receipt["From"].endswith(f"<{TOWN_HALL}>")
    assert receipt["In-Reply-To"] == "<spor.1@eksempel.no>"
    assert receipt.ref == inquiry["ref"]
    assert inquiry["ref"] in receipt.text
    assert "hos Vei." in receipt.text
    assert in_words(instant(inquiry["due_at"])) in receipt.text
    for word in ("nummer 12", "hull", subject):
        assert word not in receipt.text + receipt.subject

    [link] = re.findall(rf"{service.url}/status/\S+", receipt.text)
    page = httpx.get(link)
    assert page.status_code == 200
    assert inquiry["ref"] in page.text
    assert httpx.get(link[:-1] + ("a" if link[-1] != "a" else "b")).status_code == 404


def test_a_reply_reaches_the_sender_and_their_answer_continues_the_inquiry(
    service, desk, smarthost
):
    subject, sender = unique("Hull"), f"{unique('x')[2:]}@eksempel.no"
    first = "<forste@eksempel.no>"
    service.deliver(
        mail(
            subject,
            POTHOLE,
            sender=f"Kari <{sender}>",
            message_id=first,
            References="<for@eksempel.no>",
        ),
        mail_from=sender,
    )
    ref = desk.open(subject)["ref"]
    smarthost.first_to(sender)

    state = desk.act(ref, "reply", text="Vi tetter hullet i morgen.")
    assert state["reply_state"] == "answered"
    reply = smarthost.first_to(sender, 2)[-1]
    assert "Vi tetter hullet i morgen." in reply.text
    assert reply["In-Reply-To"] == first
    assert reply["References"].split()[-1] == first
    assert reply["From"].endswith("<vei@sorum.kommune.no>")
    assert reply.subject == f"SV: {subject} [{ref}]"
    assert re.fullmatch(r"svar\+[a-z0-9-]+@sorum\.kommune\.no", reply["Reply-To"])
    assert re.fullmatch(r"retur\+[a-z0-9-]+@sorum\.kommune\.no", reply.sunk.mail_from)
    assert reply["Auto-Submitted"] == ""
    sent = desk.until(
        ref,
        lambda inquiry: (
            [m["delivery"] for m in inquiry["messages"] if m["kind"] == "reply"] == ["sent"]
        ),
        "the delivery of the reply",
    )
    assert "delivered" in kinds(sent)

    service.deliver(
        mail(f"SV: {subject}", "Takk! Det er ett til.", sender=f"Kari <{sender}>"),
        reply["Reply-To"],
        mail_from=sender,
    )
    continued = desk.until_messages(ref, 2)
    assert incoming(continued)[1]["text"] == "Takk! Det er ett til."
    assert continued["reply_state"] == "unanswered"
    assert len(desk.rows(q=subject)) == 1


def test_an_answer_to_a_closed_inquiry_opens_it_again_with_a_new_date(service, desk, smarthost):
    subject, sender = unique("Hull"), f"{unique('x')[2:]}@eksempel.no"
    service.deliver(mail(subject, POTHOLE, sender=f"Kari <{sender}>"), mail_from=sender)
    ref = desk.open(subject)["ref"]
    closed = desk.act(ref, "reply", text="Det er gjort.", close=True)
    assert closed["status"] == "closed"
    reply = smarthost.first_to(sender, 2)[-1]

    service.deliver(
        mail(f"SV: {subject}", "Nei, hullet er der ennå.", sender=f"Kari <{sender}>"),
        reply["Reply-To"],
        mail_from=sender,
    )
    again = desk.until(ref, lambda inquiry: inquiry["status"] == "open", "the reopening")
    reopened = [event for event in again["events"] if event["kind"] == "reopened"]
    assert [event["data"]["by"] for event in reopened] == ["contact"]
    [moved] = [event for event in again["events"] if event["kind"] == "due_changed"]
    answered = next(m for m in incoming(again) if m["text"].startswith("Nei"))
    assert instant(again["due_at"]) == oracle.due(instant(answered["at"]), 3)
    assert datetime.fromisoformat(moved["data"]["due_at"]) == instant(again["due_at"])
    assert again["reply_state"] == "unanswered"
    assert again["assignee"] is None


def test_mail_to_a_departments_own_address_goes_there(service, desk):
    subject = unique("Faktura")
    service.deliver(
        mail(subject, "Gjelder faktura for gebyr.", to="byggesak@sorum.kommune.no"),
        "Byggesak@Sorum.Kommune.no",
    )
    inquiry = desk.open(subject)
    assert inquiry["department"] == "byggesak"
    assert inquiry["decisions"][0]["reason"] == "table"
    assert "byggesak@sorum.kommune.no" in inquiry["decisions"][0]["reason_text"]


def test_the_one_time_link_signs_an_operator_in_once(service):
    [line] = [line for line in service.announced if "One-time login" in line]
    link = line.split()[-1]
    with httpx.Client() as browser:
        signed_in = browser.get(link, follow_redirects=True)
        assert signed_in.status_code == 200
        assert signed_in.url.path == "/desk/queue"
    with httpx.Client() as thief:
        thief.get(link)
        assert thief.get(f"{service.url}/desk/queue").status_code == 303
