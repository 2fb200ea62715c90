"""The same mail twice is one inquiry; robots are kept, shown, and not answered."""

from __future__ import annotations

import smtplib

import pytest

from tests.service import TOWN_HALL, incoming, kinds, mail, unique

ROADS = "vei@sorum.kommune.no"


def settle(service, desk) -> None:
    """Wait until everything that was taken before has been processed: mail is taken in order."""
    subject = unique("Siste")
    service.deliver(mail(subject))
    desk.find(subject)


def test_a_relay_that_delivers_again_changes_nothing(service, desk, smarthost):
    subject, sender = unique(), f"{unique('x')[2:]}@eksempel.no"
    raw = mail(subject, sender=sender)
    for hop in ("a", "b", "c"):
        trace = f"Received: from {hop}.eksempel.no by mx.eksempel.no; x\r\n".encode()
        assert service.deliver(trace + raw, mail_from=sender)[0] == 250
    desk.find(subject)
    settle(service, desk)
    [row] = desk.rows(q=subject)
    assert len(incoming(desk.read(row["ref"]))) == 1
    assert len(smarthost.first_to(sender)) == 1


def test_one_mail_to_two_of_our_addresses_is_one_inquiry_that_names_both(service, desk, smarthost):
    subject, sender = unique(), f"{unique('x')[2:]}@eksempel.no"
    raw = mail(subject, sender=sender, to=f"{TOWN_HALL}, {ROADS}")
    assert service.deliver(raw, TOWN_HALL, ROADS, mail_from=sender)[0] == 250
    inquiry = desk.open(subject)
    assert set(incoming(inquiry)[0]["to"]) == {TOWN_HALL, ROADS}
    settle(service, desk)
    assert len(smarthost.first_to(sender)) == 1


def test_one_mail_in_two_transactions_is_one_inquiry_that_names_both(service, desk, smarthost):
    subject, sender = unique(), f"{unique('x')[2:]}@eksempel.no"
    raw = mail(subject, sender=sender, to=f"{TOWN_HALL}, {ROADS}")
    with service.smtp() as session:
        session.sendmail(sender, [TOWN_HALL], raw)
        session.sendmail(sender, [ROADS], raw)
    settle(service, desk)
    [row] = desk.rows(q=subject)
    inquiry = desk.read(row["ref"])
    [message] = incoming(inquiry)
    assert set(message["to"]) == {TOWN_HALL, ROADS}
    assert "addressee_added" in kinds(inquiry)
    assert len(smarthost.to(sender)) == 1


def test_the_same_words_written_twice_are_two_messages(service, desk):
    subject = unique()
    service.deliver(mail(subject, "Ring meg."))
    service.deliver(mail(subject, "Ring meg."))
    assert len(desk.find(subject, 2)) == 2


@pytest.mark.parametrize(
    ("mail_from", "headers", "kind"),
    [
        ("", {}, "contact"),
        ("x@eksempel.no", {"Auto_Submitted": "auto-generated"}, "contact"),
        ("x@eksempel.no", {"Auto_Submitted": "auto-replied"}, "auto_reply"),
        ("x@eksempel.no", {"Precedence": "bulk"}, "bulk"),
        ("x@eksempel.no", {"List_Id": "<nytt.eksempel.no>"}, "bulk"),
        ("x@eksempel.no", {"X_Auto_Response_Suppress": "All"}, "contact"),
        ("x@eksempel.no", {"X_Loop": "x@eksempel.no"}, "contact"),
        ("no-reply@eksempel.no", {}, "contact"),
        (TOWN_HALL, {}, "contact"),
    ],
)
def test_a_robot_is_kept_and_shown_but_gets_no_receipt(
    service, desk, smarthost, mail_from, headers, kind
):
    subject = unique()
    sender = mail_from or f"{unique('x')[2:]}@eksempel.no"
    service.deliver(mail(subject, sender=sender, **headers), mail_from=mail_from)
    inquiry = desk.open(subject, status="open" if kind == "contact" else "aside")
    assert incoming(inquiry)[0]["kind"] == kind
    assert inquiry["department"]
    assert [m for m in inquiry["messages"] if m["direction"] == "out"] == []
    assert [m for m in smarthost.messages if m.ref == inquiry["ref"]] == []


def test_a_stray_bounce_is_kept_and_shown_but_gets_no_receipt(service, desk):
    subject = unique("Undelivered Mail Returned to Sender")
    service.deliver(
        mail(subject, "550 User unknown", sender="MAILER-DAEMON@mx.eksempel.no"), mail_from=""
    )
    inquiry = desk.open(subject, status="aside")
    assert incoming(inquiry)[0]["kind"] == "bounce"
    assert [m for m in inquiry["messages"] if m["direction"] == "out"] == []


def test_a_robot_that_answers_every_receipt_runs_dry(service, desk, smarthost):
    """It does not say that it is one; the number of receipts per sender and day stops the loop."""
    sender = f"{unique('x')[2:]}@eksempel.no"
    subjects = [unique() for _ in range(12)]
    for subject in subjects:
        service.deliver(mail(subject, sender=sender), mail_from=sender)
    settle(service, desk)
    withheld = [s for s in subjects if "receipt_withheld" in kinds(desk.open(s))]
    assert withheld == subjects[10:]
    assert len(smarthost.first_to(sender, 10)) == 10


def test_an_inquiry_that_forwards_our_own_receipt_to_us_starts_no_loop(service, desk, smarthost):
    subject, sender = unique(), f"{unique('x')[2:]}@eksempel.no"
    service.deliver(mail(subject, sender=sender), mail_from=sender)
    [receipt] = smarthost.first_to(sender)
    ref = desk.open(subject)["ref"]
    try:
        service.deliver(receipt.sunk.raw, receipt["Reply-To"], mail_from=sender)
    except smtplib.SMTPException as error:
        raise AssertionError from error
    joined = desk.until_messages(ref, 2)
    assert incoming(joined)[-1]["kind"] == "auto_reply"
    settle(service, desk)
    assert len(smarthost.to(sender)) == 1
