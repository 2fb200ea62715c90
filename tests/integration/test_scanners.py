"""Virus and spam scanners beside us: real daemons from Debian, and what if they are gone."""

from __future__ import annotations

import email
from email.policy import SMTP

import pytest

from tests import service as running
from tests.integration import scanners
from tests.service import free_port, incoming, kinds, mail, unique, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def daemons(tmp_path_factory):
    with (
        scanners.clamd(tmp_path_factory.mktemp("clamd")) as clamd,
        scanners.rspamd(tmp_path_factory.mktemp("rspamd")) as rspamd,
    ):
        yield {
            "CHANNELS__EMAIL__TRUST__AUTHSERV_ID": "mx.sorum.example",
            "CHANNELS__EMAIL__SCAN__CLAMD": clamd,
            "CHANNELS__EMAIL__SCAN__RSPAMD": rspamd,
        }


@pytest.fixture(scope="module")
def smarthost():
    with running.sink() as opened:
        yield opened


@pytest.fixture(scope="module")
def service(smarthost, daemons, tmp_path_factory):
    with running.service(tmp_path_factory.mktemp("service"), smarthost.port, **daemons) as opened:
        yield opened


@pytest.fixture(scope="module")
def desk(service):
    return running.Desk(service.api())


def with_file(subject: str, content: bytes, sender: str) -> bytes:
    letter = email.message_from_bytes(mail(subject, "Se vedlegget.", sender=sender), policy=SMTP)
    letter.add_attachment(content, "application", "octet-stream", filename="faktura.bin")
    return letter.as_bytes()


def test_an_ordinary_mail_is_taken_in_unmarked_and_gets_its_receipt(service, desk, smarthost):
    subject, sender = unique(), f"{unique('x')[2:]}@eksempel.no"
    service.deliver(mail(subject, sender=sender), mail_from=sender)
    inquiry = desk.open(subject)
    assert incoming(inquiry)[0]["marks"] == []
    assert inquiry["status"] == "open"
    assert smarthost.first_to(sender)[0].ref == inquiry["ref"]


@pytest.mark.parametrize("padding", [0, 600_000], ids=["small", "large"])
def test_a_virus_is_kept_from_everybody_and_told_to_the_operator(service, desk, smarthost, padding):
    """Small mail is held in memory, large mail lies in a file: both are looked at."""
    subject, sender = unique(), f"{unique('x')[2:]}@eksempel.no"
    content = scanners.VIRUS.encode() + b"\n" + bytes(padding)
    raw = with_file(subject, content, sender)
    assert service.deliver(raw, mail_from=sender)[0] == 250
    inquiry = desk.open(subject)
    assert inquiry["status"] == "open"
    [message] = incoming(inquiry)
    assert message["marks"] == ["quarantined"]
    assert "quarantined" in kinds(inquiry)
    browser = service.sign_in()
    assert "Virus" in browser.get(f"/desk/inquiries/{inquiry['ref']}").text
    [file] = message["attachments"]
    answer = browser.get(f"/desk/inquiries/{inquiry['ref']}/attachments/{file['id']}")
    assert answer.status_code >= 400
    assert scanners.VIRUS.encode() not in answer.content
    assert smarthost.to(sender) == []


def test_spam_lies_aside_until_a_person_moves_it_to_the_queue(service, desk, smarthost):
    subject, sender = unique(), f"{unique('x')[2:]}@eksempel.no"
    service.deliver(mail(subject, scanners.SPAM, sender=sender), mail_from=sender)
    [aside] = wait_until(lambda: desk.rows(status="aside", q=subject), "the inquiry set aside")
    assert aside["kind"] == "spam"
    assert desk.rows(q=subject) == []
    moved = desk.act(aside["ref"], "reopen")
    assert moved["status"] == "open"
    assert moved["due_at"] == aside["due_at"]
    assert [row["ref"] for row in desk.rows(status="open", q=subject)] == [aside["ref"]]
    assert desk.rows(status="aside", q=subject) == []
    # A receipt so late would only confuse; the next one shows that none is on its way.
    service.deliver(mail(unique(), sender=sender), mail_from=sender)
    [receipt] = smarthost.first_to(sender)
    assert receipt.ref != aside["ref"]


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ("mx.sorum.example; dmarc=pass", "verified"),
        ("mx.sorum.example; dmarc=fail", "failed"),
        ("annen.example; dmarc=pass", "unknown"),
    ],
)
def test_what_our_relay_found_out_about_the_sender_stands_with_the_message(
    service, desk, result, expected
):
    subject = unique()
    service.deliver(mail(subject, Authentication_Results=result))
    assert incoming(desk.open(subject))[0]["sender_check"] == expected


def test_a_forger_does_not_get_into_a_thread_by_its_message_id(service, desk, smarthost):
    subject, sender = unique(), f"{unique('x')[2:]}@eksempel.no"
    service.deliver(mail(subject, sender=sender), mail_from=sender)
    [receipt] = smarthost.first_to(sender)
    own = unique()
    forged = mail(
        own, sender=sender, In_Reply_To=receipt["Message-ID"],
        Authentication_Results="mx.sorum.example; dmarc=fail",
    )  # fmt: skip
    service.deliver(forged, mail_from=sender)
    assert desk.open(own)["may_belong_to"] == receipt.ref


def test_our_relays_word_lays_spam_aside_and_a_strangers_does_not(service, desk):
    ours, theirs = unique(), unique()
    raw = mail(ours, Authentication_Results="mx.sorum.example; none", X_Spam_Flag="YES")
    service.deliver(raw)
    wait_until(lambda: desk.rows(status="aside", q=ours), "the inquiry set aside")
    service.deliver(mail(theirs, X_Spam_Flag="YES"))
    assert desk.open(theirs)["status"] == "open"


def test_without_its_scanners_mail_is_taken_in_and_marked(smarthost, tmp_path):
    gone = {
        "CHANNELS__EMAIL__SCAN__CLAMD": f"127.0.0.1:{free_port()}",
        "CHANNELS__EMAIL__SCAN__RSPAMD": f"127.0.0.1:{free_port()}",
    }
    with running.service(tmp_path, smarthost.port, **gone) as alone:
        subject, sender = unique(), f"{unique('x')[2:]}@eksempel.no"
        alone.deliver(mail(subject, sender=sender), mail_from=sender)
        inquiry = running.Desk(alone.api()).open(subject)
        assert incoming(inquiry)[0]["marks"] == ["unscanned"]
        assert inquiry["status"] == "open"
        assert smarthost.first_to(sender)[0].ref == inquiry["ref"]
        metrics = alone.api().get("/metrics").text
        assert 'sentralbord_scans_total{result="unscanned"} 1.0' in metrics


def test_mail_of_a_time_without_scanner_is_checked_when_it_is_there(smarthost, tmp_path):
    port = free_port()
    address = {"CHANNELS__EMAIL__SCAN__CLAMD": f"127.0.0.1:{port}"}
    with running.service(tmp_path / "service", smarthost.port, **address) as opened:
        desk, good, bad = running.Desk(opened.api()), unique(), unique()
        sender = f"{unique('x')[2:]}@eksempel.no"
        opened.deliver(with_file(good, b"en helt vanlig fil", sender), mail_from=sender)
        opened.deliver(with_file(bad, scanners.VIRUS.encode(), sender), mail_from=sender)
        refs = [desk.open(subject)["ref"] for subject in (good, bad)]

        def marks() -> list[list[str]]:
            return [incoming(desk.read(ref))[0]["marks"] for ref in refs]

        assert marks() == [["unscanned"]] * 2
        with scanners.clamd(tmp_path / "clamd", port):
            wait_until(lambda: marks() == [[], ["quarantined"]], "the check", patience=60)
