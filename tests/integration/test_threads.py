"""Which inquiry a mail belongs to: by proof, never by a number that can be guessed."""

from __future__ import annotations

import re

import pytest

from tests.service import incoming, kinds, mail, unique


@pytest.fixture
def answered(service, desk, smarthost):
    """An inquiry with a reply: its reference, its subject, who asked, and the reply they got."""
    subject, sender = unique("Hull"), f"{unique('x')[2:]}@eksempel.no"
    service.deliver(
        mail(subject, "Det er et hull i veien.", sender=f"Kari <{sender}>"), mail_from=sender
    )
    ref = desk.open(subject)["ref"]
    desk.act(ref, "reply", text="Vi kommer.")
    return ref, subject, sender, smarthost.first_to(sender, 2)[-1]


def test_an_answer_without_the_reply_address_joins_by_our_message_id(service, desk, answered):
    ref, subject, sender, reply = answered
    raw = mail(f"SV: {subject}", "Fint!", sender=sender, In_Reply_To=reply["Message-ID"])
    service.deliver(raw, mail_from=sender)
    assert incoming(desk.until_messages(ref, 2))[-1]["text"] == "Fint!"
    assert len(desk.rows(q=subject)) == 1


def test_an_answer_joins_when_only_references_name_our_mail(service, desk, answered):
    ref, _subject, sender, reply = answered
    chain = f"<gammel@eksempel.no> {reply['Message-ID']} <siste@eksempel.no>"
    service.deliver(mail("Helt nytt emne", "Fint!", sender=sender, References=chain))
    desk.until_messages(ref, 2)


def test_a_stranger_who_quotes_our_message_id_opens_an_inquiry_of_their_own(
    service, desk, answered
):
    ref, _subject, _sender, reply = answered
    own = unique("Fremmed")
    raw = mail(own, "Hva svarte dere?", sender="x@annen.no", In_Reply_To=reply["Message-ID"])
    service.deliver(raw, mail_from="x@annen.no")
    inquiry = desk.open(own)
    assert inquiry["ref"] != ref
    assert inquiry["may_belong_to"] == ref
    assert len(incoming(desk.read(ref))) == 1


def test_a_stranger_who_writes_our_reference_opens_an_inquiry_of_their_own(
    service, desk, answered, smarthost
):
    ref, _subject, _sender, _reply = answered
    own = unique("Fremmed")
    stranger = f"{unique('x')[2:]}@annen.no"
    service.deliver(mail(f"{own} [{ref}]", "Hei", sender=stranger), mail_from=stranger)
    inquiry = desk.open(own)
    assert inquiry["ref"] != ref
    assert inquiry["may_belong_to"] == ref
    assert len(incoming(desk.read(ref))) == 1
    # Nothing in the answer to the stranger tells about the other inquiry.
    [receipt] = smarthost.first_to(stranger)
    assert receipt.ref == inquiry["ref"]


def test_the_one_who_asked_joins_by_our_reference_while_the_inquiry_is_open(
    service, desk, answered
):
    ref, _subject, sender, _reply = answered
    service.deliver(mail(f"Mer om [{ref}]", "Et hull til.", sender=sender), mail_from=sender)
    desk.until_messages(ref, 2)


def test_a_forged_reply_address_opens_a_new_inquiry(service, desk, answered):
    ref, _subject, _sender, reply = answered
    number, mac = re.fullmatch(r"svar\+([a-z0-9]+)-([a-z0-9]+)@.*", reply["Reply-To"]).groups()
    forged = "".join(sorted(mac, reverse=True))
    own = unique("Fremmed")
    answer = service.deliver(
        mail(own, "Hei", sender="x@annen.no"), f"svar+{number}-{forged}@sorum.kommune.no"
    )
    assert answer[0] == 250
    inquiry = desk.open(own)
    assert inquiry["ref"] != ref
    assert incoming(inquiry)[0]["to"] == ["svar@sorum.kommune.no"]
    assert len(incoming(desk.read(ref))) == 1


def test_a_return_address_is_no_reply_address(service, desk, answered):
    """A token for one purpose opens nothing for another."""
    ref, _subject, _sender, reply = answered
    token = reply.sunk.mail_from.partition("+")[2].partition("@")[0]
    own = unique("Fremmed")
    service.deliver(mail(own, "Hei", sender="x@annen.no"), f"svar+{token}@sorum.kommune.no")
    joined = desk.rows(q=own)
    assert len(incoming(desk.read(ref))) == 1 or not joined


def test_a_forwarded_mail_is_a_new_inquiry(service, desk, answered):
    ref, _subject, sender, reply = answered
    own = unique("VS: Gjelder")
    raw = mail(own, "Se under.", sender=sender, In_Reply_To=reply["Message-ID"])
    service.deliver(raw, mail_from=sender)
    assert desk.open(own)["ref"] != ref
    assert len(incoming(desk.read(ref))) == 1


def test_a_colleague_with_the_reply_address_joins_and_is_shown_as_another_sender(
    service, desk, answered
):
    ref, _subject, _sender, reply = answered
    raw = mail("SV: Hull", "Jeg svarer for Kari.", sender="mann@eksempel.no")
    service.deliver(raw, reply["Reply-To"].upper(), mail_from="mann@eksempel.no")
    joined = desk.until_messages(ref, 2)
    event = [e for e in joined["events"] if e["kind"] == "message_in"][-1]
    assert event["data"]["other_sender"] is True


def test_an_out_of_office_answer_to_our_reply_stops_and_starts_no_clock(service, desk, answered):
    ref, subject, sender, reply = answered
    before = desk.read(ref)
    raw = mail(
        f"Automatisk svar: {subject}",
        "Jeg er på ferie.",
        sender=sender,
        In_Reply_To=reply["Message-ID"],
        Auto_Submitted="auto-replied",
    )
    service.deliver(raw, reply["Reply-To"], mail_from="")
    after = desk.until_messages(ref, 2)
    assert incoming(after)[-1]["kind"] == "auto_reply"
    assert after["reply_state"] == "answered"
    assert after["due_at"] == before["due_at"]
    assert "reopened" not in kinds(after)


def test_a_bounce_of_our_reply_opens_the_inquiry_again_as_not_delivered(
    service, desk, smarthost, answered
):
    ref, _subject, sender, reply = answered
    desk.act(ref, "close")
    bounce = mail(
        "Undelivered Mail Returned to Sender",
        f"<{sender}>: host said: 550 5.1.1 User unknown",
        sender="MAILER-DAEMON@mx.eksempel.no",
        to=reply.sunk.mail_from,
        Auto_Submitted="auto-replied",
    )
    service.deliver(bounce, reply.sunk.mail_from, mail_from="")
    again = desk.until(ref, lambda inquiry: inquiry["status"] == "open", "the reopening")
    assert again["reply_state"] == "not_delivered"
    [sent] = [m for m in again["messages"] if m["kind"] == "reply"]
    assert sent["delivery"] == "failed"
    assert sent["delivery_detail"]
    assert "not_delivered" in kinds(again)
    assert incoming(again)[-1]["kind"] == "bounce"
    assert len(smarthost.to(sender)) == 2  # receipt and reply; the robot gets nothing
    assert smarthost.to("mailer-daemon@mx.eksempel.no") == []


def test_an_old_answer_does_not_lose_its_place_when_it_comes_after_a_second_reply(
    service, desk, smarthost, answered
):
    ref, subject, sender, reply = answered
    desk.act(ref, "reply", text="Én ting til: vi kommer mandag.")
    smarthost.first_to(sender, 3)
    raw = mail(f"SV: {subject}", "Takk!", sender=sender, In_Reply_To=reply["Message-ID"])
    service.deliver(raw, reply["Reply-To"], mail_from=sender)
    assert incoming(desk.until_messages(ref, 2))[-1]["text"] == "Takk!"
