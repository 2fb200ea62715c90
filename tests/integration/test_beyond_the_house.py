"""Contacts that are not ours to answer, that are sensitive, or that cannot wait."""

from __future__ import annotations

import base64

import pytest

from tests.integration.conftest import instant
from tests.rules import oracle
from tests.service import incoming, kinds, mail, unique, wait_until

ROAF = "kundeservice@roaf.example"
WASTE = "renovasjon@sorum.kommune.no"


def somebody() -> str:
    return f"{unique('x')[2:]}@eksempel.no"


def test_a_contact_for_another_body_is_forwarded_and_the_sender_is_told(service, desk, smarthost):
    subject, sender = unique("Dunken"), somebody()
    text = "Søppeldunken ble ikke tømt på fredag. Når kommer dere?"
    raw = mail(subject, text, sender=f"Kari Nordmann <{sender}>", to=WASTE)
    service.deliver(raw, WASTE, mail_from=sender)
    inquiry = desk.open(subject)
    assert inquiry["department"] == "renovasjon"
    assert "forwarded" in kinds(inquiry)

    [receipt] = smarthost.first_to(sender)
    assert "Renovasjon (ROAF)" in receipt.text
    assert "videre" in receipt.text
    assert "https://www.roaf.no" in receipt.text
    assert text not in receipt.text

    [forwarded] = wait_until(
        lambda: [m for m in smarthost.to(ROAF) if subject in m.subject], "the forwarded mail"
    )
    assert text in forwarded.text
    assert f"Kari Nordmann <{sender}>" in forwarded.text
    assert inquiry["ref"] in forwarded.text
    assert forwarded["From"].endswith("<postmottak@sorum.kommune.no>")
    assert forwarded["Reply-To"].startswith("svar+")

    # «Not ours» comes back to the same inquiry.
    back = mail(f"SV: {subject}", "Dette er ikke vårt.", sender=ROAF)
    service.deliver(back, forwarded["Reply-To"], mail_from=ROAF)
    answered = desk.until_messages(inquiry["ref"], 2)
    assert incoming(answered)[-1]["from"] == ROAF


def test_an_attachment_goes_along(service, desk, smarthost):
    subject, sender = unique("Dunken"), somebody()
    head, _, body = mail(subject, "Se bildet.", sender=sender, to=WASTE).partition(b"\r\n\r\n")
    keep = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-")]
    picture = bytes(range(256)) * 40
    raw = (
        b"\r\n".join(keep)
        + b'\r\nContent-Type: multipart/mixed; boundary="x"\r\n\r\n--x\r\n\r\n'
        + body
        + b"\r\n--x\r\nContent-Type: image/jpeg\r\nContent-Transfer-Encoding: base64\r\n"
        + b'Content-Disposition: attachment; filename="dunk.jpg"\r\n\r\n'
        + base64.encodebytes(picture).replace(b"\n", b"\r\n")
        + b"--x--\r\n"
    )
    service.deliver(raw, WASTE, mail_from=sender)
    desk.open(subject)
    [forwarded] = wait_until(
        lambda: [m for m in smarthost.to(ROAF) if subject in m.subject], "the forwarded mail"
    )
    files = [p for p in forwarded.message.walk() if p.get_filename() == "dunk.jpg"]
    assert [part.get_payload(decode=True) for part in files] == [picture]


@pytest.mark.parametrize("secret", ["Jeg har fått diagnosen demens.", "Det gjelder barnevernet."])
def test_a_sensitive_contact_is_not_forwarded(service, desk, smarthost, secret):
    subject, sender = unique("Dunken"), somebody()
    raw = mail(subject, f"Søppelet er ikke hentet. {secret}", sender=sender, to=WASTE)
    service.deliver(raw, WASTE, mail_from=sender)
    inquiry = desk.open(subject)
    assert inquiry["sensitivity"] == "sensitive"
    [receipt] = smarthost.first_to(sender)
    assert "sendt henvendelsen" not in receipt.text
    assert "forwarded" not in kinds(inquiry)
    assert [m for m in smarthost.messages if subject in m.subject] == []


def test_danger_to_life_is_answered_at_once_and_stands_first(service, desk, smarthost):
    subject, sender = unique("Hjelp"), somebody()
    raw = mail(subject, "Mannen min puster ikke!", sender=sender)
    service.deliver(raw, mail_from=sender)
    inquiry = desk.open(subject)
    assert inquiry["emergency"] is True
    assert "emergency" in kinds(inquiry)
    [answer] = smarthost.first_to(sender)
    assert answer.subject.startswith("Er det nødvendig med hjelp nå? Ring 110, 112 eller 113")
    assert "113  Ambulanse" in answer.text
    assert "puster" not in answer.text + answer.subject
    assert answer["Auto-Submitted"] == "auto-replied"

    rows = desk.rows(status="open")
    first = [row["emergency"] for row in rows]
    assert first == sorted(first, reverse=True)
    assert any(row["ref"] == inquiry["ref"] for row in rows[: first.count(True)])
    assert False in first


def test_an_emergency_is_answered_however_many_receipts_the_sender_had(service, desk, smarthost):
    sender = somebody()
    for _ in range(11):
        service.deliver(mail(unique(), sender=sender), mail_from=sender)
    smarthost.first_to(sender, 10)
    service.deliver(mail(unique(), "Naboen puster ikke.", sender=sender), mail_from=sender)
    answers = smarthost.first_to(sender, 11)
    assert "Ring 110" in answers[-1].subject


def test_danger_in_a_later_message_raises_the_alarm_again(service, desk, smarthost):
    subject, sender = unique("Hull"), somebody()
    service.deliver(mail(subject, "Hull i veien.", sender=sender), mail_from=sender)
    ref = desk.open(subject)["ref"]
    [receipt] = smarthost.first_to(sender)
    worse = mail(f"SV: {subject}", "En mann falt og puster ikke!", sender=sender)
    service.deliver(worse, receipt["Reply-To"], mail_from=sender)
    alarmed = desk.until(ref, lambda inquiry: inquiry["emergency"], "the alarm")
    assert "emergency" in kinds(alarmed)
    assert "Ring 110" in smarthost.first_to(sender, 2)[-1].subject
    assert ref in [row["ref"] for row in desk.rows(status="open") if row["emergency"]]


def test_the_receipt_is_in_the_senders_language(service, desk, smarthost):
    for text, greeting in (
        ("Eg lurer på kvifor de ikkje har brøytt vegen vår i dag.", "Takk for førespurnaden."),
        ("Hello, could you please tell me why our road has a hole in it?", "Thank you for"),
    ):
        subject, sender = unique("Hei"), somebody()
        service.deliver(mail(subject, text, sender=sender), mail_from=sender)
        inquiry = desk.open(subject)
        assert inquiry["department"] == "vei"
        [receipt] = smarthost.first_to(sender)
        assert greeting in receipt.text


def test_a_claim_for_access_to_documents_has_a_target_of_its_own(service, desk):
    subject = unique("Innsyn")
    service.deliver(mail(subject, "Jeg ber om innsyn i sak 2026/12."))
    inquiry = desk.open(subject)
    assert inquiry["kind"] == "innsyn"
    assert inquiry["department"] == "dokumentsenter"
    assert instant(inquiry["due_at"]) == oracle.due(instant(inquiry["received_at"]), 3)
