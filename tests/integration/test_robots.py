"""What robots and strangers do to an inquiry, from the mail door to the API."""

from __future__ import annotations

import pytest

from tests.integration.conftest import instant
from tests.service import Desk, incoming, kinds, mail, unique, wait_until

SKOLE, BARNEHAGE = "skole@sorum.kommune.no", "barnehage@sorum.kommune.no"


@pytest.fixture
def asked(service, desk, smarthost):
    """An inquiry with its receipt: reference, subject, sender, receipt."""
    subject, sender = unique("Hull"), f"{unique('x')[2:]}@eksempel.no"
    service.deliver(mail(subject, "Det er et hull i veien.", sender=sender), mail_from=sender)
    ref = desk.open(subject)["ref"]
    return ref, subject, sender, smarthost.first_to(sender)[0]


def test_a_newsletter_lies_aside_and_is_one_action_from_the_queue(service, desk, smarthost):
    subject, sender = unique("Nytt"), f"{unique('x')[2:]}@firma.example"
    raw = mail(subject, sender=sender, List_Id="<nytt.firma.example>", Precedence="bulk")
    service.deliver(raw, mail_from=sender)
    [aside] = wait_until(lambda: desk.rows(status="aside", q=subject), "the inquiry set aside")
    assert (aside["kind"], aside["status"]) == ("bulk", "aside")
    assert desk.rows(q=subject) == desk.rows(status="open", q=subject) == []
    detail = desk.read(aside["ref"])
    assert kinds(detail) == ["received", "routed", "set_aside"]
    assert [e["data"]["reason"] for e in detail["events"] if e["kind"] == "set_aside"] == ["bulk"]
    refused = desk.api.post(f"/api/inquiries/{aside['ref']}/claim")
    assert refused.status_code in (409, 422)
    moved = desk.act(aside["ref"], "reopen")
    assert (moved["status"], moved["due_at"]) == ("open", aside["due_at"])
    assert desk.rows(status="aside", q=subject) == []
    desk.act(aside["ref"], "close")
    assert smarthost.to(sender) == []


def test_the_api_refuses_a_status_that_is_none(desk):
    assert desk.api.get("/api/inquiries", params={"status": "besides"}).status_code == 422


def test_an_out_of_office_reply_to_the_receipt_leaves_the_clock_alone(service, desk, asked):
    ref, subject, sender, receipt = asked
    before = desk.until(ref, lambda d: "delivered" in kinds(d), "the receipt's delivery")
    raw = mail(
        f"Automatisk svar: {subject}", sender=sender, to=receipt["Reply-To"],
        Auto_Submitted="auto-replied",
    )  # fmt: skip
    service.deliver(raw, receipt["Reply-To"], mail_from="")
    after = desk.until_messages(ref, 2)
    for field in ("due_at", "status", "reply_state", "overdue", "version"):
        assert after[field] == before[field], field
    assert kinds(after) == [*kinds(before), "automatic_in"]


def test_a_bounce_tells_why_in_words_and_starts_no_new_clock(service, desk, smarthost, asked):
    ref, _subject, sender, _receipt = asked
    due = desk.read(ref)["due_at"]
    desk.act(ref, "reply", text="Vi kommer.", close=True)
    reply = smarthost.first_to(sender, 2)[-1]
    desk.until(ref, lambda d: "delivered" in kinds(d), "the delivery")
    report = (
        "From: MAILER-DAEMON@mx.eksempel.no\r\nSubject: Undelivered Mail Returned to Sender\r\n"
        "MIME-Version: 1.0\r\n"
        "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n"
        "--b\r\n\r\nDet gikk ikke.\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n"
        f"Reporting-MTA: dns; mx.eksempel.no\r\n\r\nFinal-Recipient: rfc822; {sender}\r\n"
        "Action: failed\r\nStatus: 5.2.2\r\nDiagnostic-Code: smtp; 552 5.2.2 Over quota\r\n\r\n"
        "--b--\r\n"
    ).encode()
    assert service.deliver(report, reply.sunk.mail_from, mail_from="")[0] == 250
    again = desk.until(ref, lambda d: d["status"] == "open", "the reopening")
    assert again["reply_state"] == "not_delivered"
    assert again["due_at"] == due
    [sent] = [m for m in again["messages"] if m["kind"] == "reply"]
    assert sent["delivery"] == "failed"
    assert "Postkassen til mottakeren er full." in sent["delivery_detail"]
    assert kinds(again)[-2:] == ["not_delivered", "automatic_in"]
    page = service.sign_in().get(f"/desk/inquiries/{ref}").text
    assert "Postkassen til mottakeren er full." in page
    # Somebody has to answer once more, and then it is answered.
    assert desk.act(ref, "reply", text="Ring oss.")["reply_state"] == "answered"


def test_a_stranger_with_everything_but_the_token_opens_an_inquiry_of_their_own(
    service, desk, asked
):
    """Subject, reference and Message-ID can all be seen over a shoulder."""
    ref, subject, _sender, receipt = asked
    stranger = f"{unique('x')[2:]}@annen.no"
    raw = mail(
        f"SV: {subject} [{ref}]", "Hva gjelder det?", sender=stranger,
        In_Reply_To=receipt["Message-ID"], References=receipt["Message-ID"],
    )  # fmt: skip
    service.deliver(raw, "postmottak+sak@sorum.kommune.no", mail_from=stranger)
    rows = desk.find(subject, 2)
    [own] = [desk.read(row["ref"]) for row in rows if row["ref"] != ref]
    assert own["may_belong_to"] == ref
    assert incoming(own)[0]["to"] == ["postmottak@sorum.kommune.no"]
    assert len(incoming(desk.read(ref))) == 1
    assert instant(own["due_at"]) >= instant(desk.read(ref)["due_at"])


def test_one_mail_to_two_departments_is_one_inquiry_that_both_see(service, desk):
    subject, sender = unique(), f"{unique('x')[2:]}@eksempel.no"
    raw = mail(subject, sender=sender, to=f"{SKOLE}, {BARNEHAGE}")
    service.deliver(raw, SKOLE, mail_from=sender)
    service.deliver(raw, BARNEHAGE, mail_from=sender)
    detail = desk.until(
        desk.open(subject)["ref"], lambda d: "addressee_added" in kinds(d), "the other addressee"
    )
    assert sorted(incoming(detail)[0]["to"]) == [BARNEHAGE, SKOLE]
    for department in ("skole", "barnehage"):
        theirs = Desk(service.api("member", department))
        assert [row["ref"] for row in theirs.rows(q=subject)] == [detail["ref"]]
        assert theirs.read(detail["ref"])["department"] == detail["department"]
    other = Desk(service.api("member", "vei"))
    assert other.rows(q=subject) == []
    assert other.api.get(f"/api/inquiries/{detail['ref']}").status_code == 404
