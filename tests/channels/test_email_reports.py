"""What bounces say: whom they did not reach, and why."""

# ruff: noqa: E501 - one row, one case
from __future__ import annotations

import time

import pytest

from channels.base import DeliveryReport, MessageKind
from channels.email.parse import OwnAddresses, parse
from channels.email.reports import delivery_report, read_status, read_words

OWN = OwnAddresses(frozenset({"post@sorum.example"}), frozenset({"sorum.example"}))
KARI = "kari@eksempel.no"


@pytest.mark.parametrize(
    ("status", "report"),
    [
        ("Reporting-MTA: dns; mx\n\nFinal-Recipient: rfc822; kari@eksempel.no\nAction: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 5.1.1 User\n unknown\n",
         DeliveryReport(KARI, "5.1.1", "550 5.1.1 User unknown")),
        ("Final-Recipient: rfc822;a@b.no\nOriginal-Recipient: rfc822;Kari@Eksempel.no\nAction: failed\nStatus: 5.0.0 (permanent)\n",
         DeliveryReport(KARI, "5.0.0", "", final_recipient="a@b.no")),
        ("X: y\n\nFinal-Recipient: rfc822; ola@b.no\nAction: delayed\nStatus: 4.4.1\n\nFinal-Recipient: rfc822; kari@eksempel.no\nAction: failed\nStatus: 5.2.2\n",
         DeliveryReport(KARI, "5.2.2", "")),
        ("Final-Recipient: utf-8; kåre@eksempel.no\nAction: failed\nDiagnostic-Code: smtp;550-5.7.1 nei\n",
         DeliveryReport("kåre@eksempel.no", "5.7.1", "550-5.7.1 nei")),
        ("Final-Recipient: kari@eksempel.no\r\nAction: failed\r\nStatus: 5.1.10\r\n", DeliveryReport(KARI, "5.1.10", "")),
        ("", DeliveryReport()),
        ("tull", DeliveryReport()),
        (":\n :\n\n:", DeliveryReport()),
    ],
)  # fmt: skip
def test_machine_readable_reports(status: str, report: DeliveryReport) -> None:
    assert read_status(status.encode()) == report


WORDED = {
    "postfix": ("This is the mail system at host mx.eksempel.no.\n\nI'm sorry to have to inform you that your message could not\nbe delivered to one or more recipients.\n\n<kari@eksempel.no>: host mail.eksempel.no[192.0.2.1] said: 550 5.1.1 <kari@eksempel.no>: Recipient address rejected (in reply to RCPT TO command)", "5.1.1"),
    "exim": ("This message was created automatically by mail delivery software.\n\nA message that you sent could not be delivered to one or more of its\nrecipients. This is a permanent error. The following address(es) failed:\n\n  kari@eksempel.no\n    host mx.eksempel.no [192.0.2.1]\n    SMTP error from remote mail server after RCPT TO:<kari@eksempel.no>:\n    550 5.7.1 Not allowed\n\n------ This is a copy of the message, including all the headers. ------\n\nFrom: post@sorum.example\nX: 5.9.9", "5.7.1"),
    "qmail": ("Hi. This is the qmail-send program at eksempel.no.\nI'm afraid I wasn't able to deliver your message to the following addresses.\n\n<kari@eksempel.no>:\nSorry, no mailbox here by that name. (#5.1.1)\n\n--- Below this line is a copy of the message.\n\nReturn-Path: <post@sorum.example>", "5.1.1"),
    "sendmail": ("   ----- The following addresses had permanent fatal errors -----\n<kari@eksempel.no>\n    (reason: 552 5.2.2 Mailbox full)\n\n   ----- Transcript of session follows -----\n... while talking to mx:\n>>> DATA", "5.2.2"),
    "gmail": ("Delivery to the following recipient failed permanently:\n\n     kari@eksempel.no\n\nTechnical details of permanent failure:\nThe error that the other server returned was: 550 5.2.1 The account is disabled", "5.2.1"),
    "gmail now": ("** Address not found **\n\nYour message wasn't delivered to kari@eksempel.no because the address couldn't be found, or is unable to receive mail.\n\nThe response was:\n550 5.1.1 The email account does not exist.", "5.1.1"),
    "exchange": ("Delivery has failed to these recipients or groups:\n\nkari@eksempel.no\nThe email address you entered couldn't be found.\n\nDiagnostic information for administrators:\n\nGenerating server: AM0.example\n\nkari@eksempel.no\nRemote Server returned '550 5.1.10 RESOLVER.ADR.RecipientNotFound'", "5.1.10"),
    "exchange in Norwegian": ("Levering til disse mottakerne eller gruppene mislyktes:\n\nkari@eksempel.no (mailto:kari@eksempel.no)\nE-postadressen du skrev inn, ble ikke funnet.\n\nRemote Server returned '550 5.4.1 Recipient address rejected: Access denied'", "5.4.1"),
    "no code": ("Your message could not be delivered to:\n\n  kari@eksempel.no\n\nUnknown user.", ""),
    "brackets": ("Delivery has failed:\n\n  * [kari@eksempel.no]: 550 overquota\n\nOriginal message details:\n * To: ola@x.no", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", WORDED)
def test_reports_in_words(name: str) -> None:
    text, status = WORDED[name]
    report = read_words(text)
    assert (report.recipient, report.status) == (KARI, status)
    assert report.detail
    assert "\n" not in report.detail


def test_what_the_machine_says_goes_before_the_words() -> None:
    text, _ = WORDED["exim"]
    status = b"Final-Recipient: rfc822; ola@eksempel.no\nAction: failed\n"
    report = delivery_report(status, text)
    assert (report.recipient, report.status) == ("ola@eksempel.no", "5.7.1")
    assert delivery_report(b"", "", b"kari@eksempel.no").recipient == KARI


def bounce(text: str, *lines: str) -> bytes:
    head = [
        "From: Mail Delivery System <MAILER-DAEMON@eksempel.no>",
        "To: post@sorum.example",
        "Subject: Undelivered Mail Returned to Sender",
        *lines,
    ]
    return ("\r\n".join(head) + "\r\n\r\n" + text).encode()


def test_a_bounce_carries_its_report_and_nothing_else_does() -> None:
    incoming = parse(
        bounce(WORDED["postfix"][0]), {"mail_from": "", "recipients": ["post@sorum.example"]}, OWN
    )
    assert incoming.kind is MessageKind.BOUNCE
    assert incoming.report is not None
    assert (incoming.report.recipient, incoming.report.status) == (KARI, "5.1.1")
    assert parse(b"From: a@b.no\r\n\r\n550 5.1.1 " + KARI.encode(), {}, OWN).report is None


def test_a_complaint_is_no_bounce() -> None:
    raw = (
        b"From: abuse@eksempel.no\r\nTo: post@sorum.example\r\nSubject: Undelivered\r\n"
        b"Content-Type: multipart/report; report-type=feedback-report; boundary=g\r\n\r\n"
        b"--g\r\n\r\nThis is an abuse report.\r\n"
        b"--g\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\nVersion: 1\r\n"
        b"--g\r\nContent-Type: message/rfc822\r\n\r\nSubject: Hei\r\n\r\nx\r\n--g--\r\n"
    )
    incoming = parse(
        raw, {"mail_from": "abuse@eksempel.no", "recipients": ["post@sorum.example"]}, OWN
    )
    assert incoming.kind is not MessageKind.BOUNCE
    assert incoming.report is None
    assert incoming.text == "This is an abuse report."
    assert [a.content_type for a in incoming.attachments] == [
        "message/feedback-report",
        "message/rfc822",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "failed kari@eksempel.no 550 5.1.1\n",
        "a@",
        "-" * 900 + "\n",
        "5.1.",
        "<" * 50,
        "550 " * 20 + "\n",
        "----- copy of ",
    ],
)
def test_any_repetition_is_read_in_linear_time(line: str) -> None:
    text = line * (500_000 // len(line))
    start = time.process_time()
    read_words(text)
    read_status(text.encode())
    assert time.process_time() - start < 0.5
