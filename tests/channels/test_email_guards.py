"""Automatic mail: its kind, and why no receipt may answer it (RFC 3834)."""

from __future__ import annotations

import pytest

from channels.base import MessageKind
from channels.email.parse import OwnAddresses, parse

OWN = OwnAddresses(frozenset({"post@sorum.example"}), frozenset({"sorum.example"}))
CONTACT, AUTO_REPLY = MessageKind.CONTACT, MessageKind.AUTO_REPLY
BOUNCE, BULK = MessageKind.BOUNCE, MessageKind.BULK


def read(
    fields: dict[str, str],
    sender: str | None = "kari@eksempel.no",
    to: str = "post@sorum.example",
    body: str = "Hei",
) -> tuple[MessageKind, str]:
    head = {
        "From": "Kari <kari@eksempel.no>",
        "To": "post@sorum.example",
        "Subject": "Hei",
        **fields,
    }
    raw = "".join(f"{name}: {value}\r\n" for name, value in head.items()) + "\r\n" + body
    envelope = {"recipients": [to]} if sender is None else {"mail_from": sender, "recipients": [to]}
    incoming = parse(raw.encode(), envelope, OWN)
    return incoming.kind, incoming.receipt_barred


def report(
    status: str, kind: str = "delivery-status", part: str = "message/delivery-status"
) -> tuple[dict[str, str], str]:
    fields = {
        "From": "Mail System <system@relay.example>",
        "Content-Type": f"multipart/report; report-type={kind}; boundary=b",
    }
    body = f"--b\r\n\r\nSee below.\r\n--b\r\nContent-Type: {part}\r\n\r\n{status}\r\n--b--"
    return fields, body


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"Auto-Submitted": "no"},
        {"Auto-Submitted": "No (really)"},
        {"Precedence": "normal"},
        {"X-Auto-Response-Suppress": "DR, RN, NRN"},
        {"X-Auto-Response-Suppress": "None"},
        {"X-Spam-Status": "No, score=-1"},
        {"Authentication-Results": "mx.x.no; dmarc=pass header.from=eksempel.no"},
        {"Subject": "Autosvar på telefonen deres virker ikke"},
        {"Subject": "Fravær torsdag, 3B"},
        {"Subject": "Post er ikke levert hos meg"},
        {"Subject": "Undelivered mail?"},
        {"To": "Post <POST@sorum.example>, andre@x.no"},
        {"To": "andre@x.no", "Cc": "post+skranke@sorum.example"},
        {"To": "andre@x.no", "Resent-To": "post@sorum.example"},
        {"To": "svar+ab.cd@sorum.example"},
        {"From": "Noreen Bounty <noreen.bounty@eksempel.no>"},
        {"From": "owner@eksempel.no"},
        {"From": "request@eksempel.no"},
        {"In-Reply-To": "<a@sorum.example>"},
    ],
)
def test_mail_from_a_person_may_get_a_receipt(fields: dict[str, str]) -> None:
    assert read(fields) == (CONTACT, "")


def test_an_unknown_envelope_sender_is_not_the_null_sender() -> None:
    assert read({}, sender=None) == (CONTACT, "")


@pytest.mark.parametrize(
    ("fields", "kind", "reason"),
    [
        ({"Auto-Submitted": "auto-replied"}, AUTO_REPLY, "Auto-Submitted"),
        (
            {"Auto-Submitted": "auto-replied (vacation); owner-email=x"},
            AUTO_REPLY,
            "Auto-Submitted",
        ),
        ({"Auto-Submitted": "auto-notified"}, AUTO_REPLY, "Auto-Submitted"),
        # A web form or another system writes on somebody's behalf: owed an answer, but no receipt.
        ({"Auto-Submitted": "auto-generated"}, CONTACT, "Auto-Submitted"),
        (
            {"Auto-Submitted": "auto-generated", "In-Reply-To": "<a@b>"},
            AUTO_REPLY,
            "Auto-Submitted",
        ),
        (
            {"Auto-Submitted": "auto-generated", "Subject": "Automatisk svar: Hei"},
            AUTO_REPLY,
            "Auto-Submitted",
        ),
        ({"Precedence": "bulk"}, BULK, "Precedence"),
        ({"Precedence": "LIST"}, BULK, "Precedence"),
        ({"Precedence": "junk"}, BULK, "Precedence"),
        ({"Precedence": "auto_reply"}, AUTO_REPLY, "Precedence"),
        ({"List-Id": "<vel.eksempel.no>"}, BULK, "mailing list"),
        ({"List-Unsubscribe": "<https://eksempel.no/av>"}, BULK, "mailing list"),
        ({"List-Odd": "x"}, CONTACT, "mailing list"),
        ({"X-Auto-Response-Suppress": "All"}, CONTACT, "X-Auto-Response-Suppress"),
        ({"X-Auto-Response-Suppress": "DR,OOF , AutoReply"}, CONTACT, "X-Auto-Response-Suppress"),
        ({"X-Loop": "x"}, CONTACT, "loop header"),
        ({"X-Autoreply": "yes"}, AUTO_REPLY, "automatic reply header"),
        ({"X-Autorespond": ""}, AUTO_REPLY, "automatic reply header"),
        # A robot that sends our own loop header back, and the vacation programs of old.
        ({"X-Loop": "POST@sorum.example"}, AUTO_REPLY, "loop header"),
        ({"Precedence": "bulk", "In-Reply-To": "<a@b>"}, AUTO_REPLY, "Precedence"),
        # A person who answers by the list of their housing association.
        ({"Precedence": "list", "In-Reply-To": "<a@b>"}, CONTACT, "Precedence"),
        ({"Precedence": "bulk", "List-Id": "<a>", "References": "<a@b>"}, CONTACT, "Precedence"),
        (
            {"X-MS-Exchange-Generated-Message-Source": "Mailbox Rules Agent"},
            AUTO_REPLY,
            "auto reply",
        ),
        ({"Subject": "Automatisk svar: Søknad"}, AUTO_REPLY, "auto reply"),
        ({"Subject": "Automatic reply: Hei"}, AUTO_REPLY, "auto reply"),
        ({"Subject": "=?utf-8?Q?Ikke_p=C3=A5_kontoret:_Hei?="}, AUTO_REPLY, "auto reply"),
        ({"Subject": "Out of office"}, AUTO_REPLY, "auto reply"),
        ({"From": "no-reply@butikk.example"}, CONTACT, "sender takes no replies"),
        ({"From": "NoReply@butikk.example"}, CONTACT, "sender takes no replies"),
        ({"From": "do_not_reply@butikk.example"}, CONTACT, "sender takes no replies"),
        ({"From": "ikke-svar@butikk.example"}, CONTACT, "sender takes no replies"),
        ({"From": "faktura-noreply@butikk.example"}, CONTACT, "sender takes no replies"),
        ({"From": "bounce+123@butikk.example"}, CONTACT, "sender takes no replies"),
        ({"From": "bounces@butikk.example"}, CONTACT, "sender takes no replies"),
        ({"From": "owner-liste@eksempel.no"}, CONTACT, "sender takes no replies"),
        ({"From": "liste-request@eksempel.no"}, CONTACT, "sender takes no replies"),
        ({"From": "postmaster@eksempel.no"}, CONTACT, "sender takes no replies"),
        ({"From": "MAILER-DAEMON@eksempel.no"}, BOUNCE, "sender takes no replies"),
        ({"From": "MAILER-DAEMON (Mail Delivery System)"}, BOUNCE, "bounce"),
        ({"From": "post@sorum.example"}, CONTACT, "sent by ourselves"),
        ({"From": "post+x@SORUM.example"}, CONTACT, "sent by ourselves"),
        ({"X-Failed-Recipients": "ola@x.no"}, BOUNCE, "bounce"),
        ({"X-Spam-Flag": "YES"}, CONTACT, "tagged as spam or virus"),
        ({"X-Spam-Status": "Yes, score=12"}, CONTACT, "tagged as spam or virus"),
        ({"X-Virus-Status": "Infected (Eicar)"}, CONTACT, "tagged as spam or virus"),
        ({"Authentication-Results": "mx; spf=fail; dmarc=fail"}, CONTACT, "DMARC failed"),
        ({"To": "alle@eksempel.no"}, CONTACT, "not addressed to us"),
        ({"To": "undisclosed-recipients:;"}, CONTACT, "not addressed to us"),
    ],
)
def test_automatic_mail(fields: dict[str, str], kind: MessageKind, reason: str) -> None:
    assert read(fields) == (kind, reason)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({}, CONTACT),
        ({"Subject": "Undelivered Mail Returned to Sender"}, BOUNCE),
        ({"Subject": "Delivery Status Notification (Failure)"}, BOUNCE),
        ({"Subject": "Kan ikke leveres: SV: Hei"}, BOUNCE),
        ({"From": "postmaster@x.no", "Subject": "Undeliverable: Hei"}, BOUNCE),
        ({"From": "MicrosoftExchange329e71ec88ae4615bbc36ab6ce41109e@x.no"}, BOUNCE),
        ({"Subject": "Automatisk svar: Hei", "Auto-Submitted": "auto-generated"}, AUTO_REPLY),
        ({"In-Reply-To": "<a@sorum.example>"}, AUTO_REPLY),
        # Still trying is no failure.
        ({"Subject": "Warning: could not send message for past 4 hours"}, AUTO_REPLY),
        ({"Subject": "Delivery Status Notification (Delay)"}, AUTO_REPLY),
        (
            {"From": "MAILER-DAEMON@x.no", "Subject": "Delayed Mail (still being retried)"},
            AUTO_REPLY,
        ),
        ({"Subject": "Levering forsinket: Hei"}, AUTO_REPLY),
    ],
)
def test_null_envelope_sender(fields: dict[str, str], kind: MessageKind) -> None:
    found, reason = read(fields, sender="")
    assert found is kind
    assert reason == "null envelope sender"


@pytest.mark.parametrize(
    "sender", ["bounce-12@liste.example", "liste-bounces+a=b.no@x.no", "post@sorum.example"]
)
def test_the_envelope_sender_counts_as_well(sender: str) -> None:
    assert read({}, sender=sender)[1] != ""


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("Final-Recipient: rfc822; ola@x.no\r\nAction: failed\r\nStatus: 5.1.1", BOUNCE),
        ("Action: delayed\r\n\r\nAction: Failed", BOUNCE),
        ("Action: delayed\r\nStatus: 4.4.1", AUTO_REPLY),
        ("Action: delivered", AUTO_REPLY),
        # Given up after days of temporary failures: it did not arrive.
        ("Action: failed\r\nStatus: 4.4.1", BOUNCE),
        ("Status: 4.4.7", AUTO_REPLY),
        ("Status: 5.1.1", BOUNCE),
        ("Status: 2.0.0", AUTO_REPLY),
        ("", BOUNCE),
    ],
)
def test_delivery_reports(status: str, kind: MessageKind) -> None:
    fields, body = report(status)
    assert read(fields, body=body) == (kind, "report")
    assert read(fields, body=body, sender="")[0] is kind


def test_read_receipts_and_unnamed_reports() -> None:
    fields, body = report("", "disposition-notification", "message/disposition-notification")
    assert read(fields, body=body) == (AUTO_REPLY, "report")
    fields, body = report("Action: failed", "x")
    assert read(fields, body=body)[0] is BOUNCE
    fields = {"Content-Type": "multipart/mixed; boundary=b"}
    assert read(fields, body=body)[0] is BOUNCE


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({}, BOUNCE),
        ({"Subject": "Feil"}, BOUNCE),
        # RFC 5230 §4.6: vacation replies go to the return path too, and are no failure.
        ({"Auto-Submitted": "auto-replied"}, AUTO_REPLY),
        ({"Subject": "Automatisk svar: Hei"}, AUTO_REPLY),
        ({"From": "MAILER-DAEMON@x.no", "Auto-Submitted": "auto-replied"}, BOUNCE),
    ],
)
def test_mail_to_a_return_path(fields: dict[str, str], kind: MessageKind) -> None:
    found, reason = read(fields, to="retur+ab.cd@sorum.example")
    assert found is kind
    assert reason


def test_a_complaint_is_kept_and_is_no_failure() -> None:
    fields, body = report("", "feedback-report", "message/feedback-report")
    assert read(fields, body=body) == (AUTO_REPLY, "report")


def test_a_delay_told_to_a_return_path_is_no_failure() -> None:
    fields = {"Subject": "Delayed"}
    assert read(fields, to="retur+ab.cd@sorum.example")[0] is AUTO_REPLY


def test_a_return_path_of_others_is_nothing_special() -> None:
    assert read({}, to="retur+ab.cd@andre.example")[0] is CONTACT
