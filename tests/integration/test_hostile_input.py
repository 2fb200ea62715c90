"""Bad input at the doors: refused clearly or kept, never lost, never fatal."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import threading

import httpx
import pytest

from tests.service import (
    PATIENCE,
    TOWN_HALL,
    incoming,
    mail,
    unique,
    wait_until,
)


@pytest.fixture(autouse=True)
def _still_well(service):
    yield
    assert service.process.poll() is None
    subject = unique()
    assert service.deliver(mail(subject))[0] == 250
    assert "Traceback" not in service.log


def head(subject: str, *lines: str, sender: str = "kari@eksempel.no") -> bytes:
    fields = [f"From: {sender}", f"To: {TOWN_HALL}", f"Subject: {subject}", *lines]
    return "".join(f"{line}\r\n" for line in fields).encode()


def test_nonsense_instead_of_smtp_disturbs_nobody(service):
    with socket.create_connection(("127.0.0.1", service.smtp_port), PATIENCE) as line:
        line.sendall(
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + os.urandom(4000).replace(b"\n", b"") + b"\r\n"
        )
        line.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := line.recv(4096):
            answer += chunk
    assert answer.startswith(b"220 ")
    assert b"500" in answer


def test_a_client_that_leaves_in_the_middle_leaves_nothing_behind(service, desk):
    subject = unique()
    with service.smtp() as session:
        session.ehlo()
        session.mail("kari@eksempel.no")
        session.rcpt(TOWN_HALL)
        session.putcmd("data")
        assert session.getreply()[0] == 354
        session.sock.sendall(mail(subject))
        session.sock.close()
        session.sock = None
    marker = unique()
    service.deliver(mail(marker))
    desk.find(marker)
    assert desk.rows(q=subject) == []


@pytest.mark.parametrize(
    ("recipient", "code", "status"),
    [
        ("ukjent@sorum.kommune.no", 550, "5.1.1"),
        ("noen@gmail.com", 550, "5.7.1"),
        ("noen%gmail.com@sorum.kommune.no", 550, "5.1.1"),
        ("svar+@sorum.kommune.no", 550, "5.1.1"),
    ],
)
def test_mail_for_others_is_refused_for_good(service, recipient, code, status):
    answer = service.deliver(mail(unique()), recipient)
    assert answer[0] == code
    assert answer[1].startswith(status)


def test_one_wrong_recipient_does_not_stop_the_right_one(service, desk):
    subject = unique()
    with service.smtp() as session:
        refused = session.sendmail(
            "kari@eksempel.no", ["ukjent@sorum.kommune.no", TOWN_HALL], mail(subject)
        )
    assert set(refused) == {"ukjent@sorum.kommune.no"}
    assert incoming(desk.open(subject))[0]["to"] == [TOWN_HALL]


def test_a_mail_that_is_too_large_is_refused_before_or_after_it_was_sent(service, desk):
    with service.smtp() as session:
        session.ehlo()
        code, answer = session.mail("kari@eksempel.no", ["SIZE=40000000"])
        assert (code, answer[:5]) == (552, b"5.3.4")
        session.mail("kari@eksempel.no")
        session.rcpt(TOWN_HALL)
        subject = unique()
        raw = mail(subject) + b"x" * 76 + (b"x" * 76 + b"\r\n") * 490_000
        assert len(raw) > 36 * 1024 * 1024
        code, answer = session.data(raw)
        assert (code, answer[:5]) == (552, b"5.3.4")
        # The session goes on.
        session.sendmail("kari@eksempel.no", [TOWN_HALL], mail(subject))
    assert len(desk.find(subject)) == 1


def test_a_bare_newline_from_a_stranger_is_refused(service):
    """It may be a smuggled second mail."""
    with service.smtp() as session:
        session.ehlo()
        session.mail("kari@eksempel.no")
        session.rcpt(TOWN_HALL)
        session.putcmd("data")
        session.getreply()
        session.sock.sendall(b"Subject: a\r\n\r\nb\n.\nMAIL FROM:<x@y.no>\r\n.\r\n")
        assert session.getreply()[0] == 550


CASES = {
    "broken MIME": (
        b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="a"\r\n\r\n'
        b"--a\r\nContent-Type: text/plain\r\n\r\nHullet er her.\r\n--a\r\nContent-Type: image/"
    ),
    "no boundary": b"Content-Type: multipart/mixed\r\n\r\nHullet er her.\r\n",
    "unknown charset": b'Content-Type: text/plain; charset="x-martian"\r\n\r\nHullet er her.\r\n',
    "charset that is no text": b"Content-Type: text/plain; charset=zip\r\n\r\nHullet er her.\r\n",
    "unknown encoding": b"Content-Transfer-Encoding: rot13\r\n\r\nHullet er her.\r\n",
    "NUL bytes": b"X-Null: a\x00b\r\n\r\nHullet \x00er her.\x00\r\n",
    "raw 8-bit": b"X-Navn: S\xf8rum\r\n\r\nHullet er her, \xe6\xf8\xe5.\r\n",
    "bad base64": (
        b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        b"SHVsbGV0IGVyIGhlci4=!!!!\r\n"
    ),
    "header without colon": b"dette er ikke en header\r\n\r\nHullet er her.\r\n",
    "long line": b"X-Lang: " + b"x" * 60_000 + b"\r\n\r\nHullet er her.\r\n",
    "empty parameter": b"Content-Type: text/plain; name*\r\n\r\nHullet er her.\r\n",
}


@pytest.mark.parametrize("name", CASES)
def test_a_broken_mail_is_kept_and_can_be_read(service, desk, name):
    subject = unique()
    assert service.deliver(head(subject) + CASES[name])[0] == 250
    [message] = incoming(desk.open(subject))
    assert "Hullet" in message["text"] or message["attachments"]
    assert "\x00" not in message["text"]


def test_fifty_parts_inside_each_other_are_kept(service, desk):
    subject = unique()
    raw = head(subject)
    for depth in range(50):
        raw += f'Content-Type: multipart/mixed; boundary="b{depth}"\r\n\r\n--b{depth}\r\n'.encode()
    raw += b"Content-Type: text/plain\r\n\r\nHullet er her.\r\n"
    for depth in reversed(range(50)):
        raw += f"--b{depth}--\r\n".encode()
    assert service.deliver(raw)[0] == 250
    [message] = incoming(desk.open(subject))
    assert "Hullet" in message["text"] or message["attachments"]


def test_a_mail_with_nothing_in_it_stands_in_the_queue(service, desk):
    before = {row["ref"] for row in desk.rows()}
    sender = f"{unique('x')[2:]}@eksempel.no"
    assert service.deliver(b"\r\n", mail_from=sender)[0] == 250
    inquiry = wait_until(
        lambda: next(
            (d for r in desk.rows() if r["ref"] not in before
             for d in [desk.read(r["ref"])] if incoming(d)[0]["from"] == sender),
            None,
        ),
        "the empty mail",
    )  # fmt: skip
    assert inquiry["department"] == "servicetorg"
    assert inquiry["due_at"]


def test_mail_without_from_or_message_id_or_date_is_kept_and_answerable(service, desk, smarthost):
    sender, text = f"{unique('x')[2:]}@eksempel.no", unique("Hullet er her")
    subject = unique()
    raw = f"To: {TOWN_HALL}\r\nSubject: {subject}\r\n\r\n{text}\r\n".encode()
    assert service.deliver(raw, mail_from=sender)[0] == 250
    inquiry = desk.open(subject)
    assert incoming(inquiry)[0]["from"] == sender
    assert inquiry["reply_address"] == sender
    desk.act(inquiry["ref"], "reply", text="Vi kommer.")
    assert "Vi kommer." in smarthost.first_to(sender, 2)[-1].text


def test_mail_from_nobody_is_kept(service, desk):
    subject = unique()
    raw = f"To: {TOWN_HALL}\r\nSubject: {subject}\r\n\r\nHei\r\n".encode()
    assert service.deliver(raw, mail_from="")[0] == 250
    inquiry = desk.open(subject)
    assert inquiry["contact"]["name"] == ""
    assert inquiry["reply_address"] == ""
    refused = desk.api.post(f"/api/inquiries/{inquiry['ref']}/reply", json={"text": "Hei"})
    assert refused.status_code == 422


def test_a_header_cannot_be_smuggled_into_our_answer(service, desk, smarthost):
    subject, sender = unique(), f"{unique('x')[2:]}@eksempel.no"
    word = base64.b64encode(f"{subject}\r\nBcc: offer@annen.no\r\n\r\nHei".encode()).decode()
    service.deliver(head(f"=?utf-8?b?{word}?=", sender=sender) + b"\r\nHei\r\n", mail_from=sender)
    inquiry = desk.open(subject)
    assert "\n" not in inquiry["subject"]
    desk.act(inquiry["ref"], "reply", text="Hei.")
    for sent in smarthost.first_to(sender, 2):
        assert sent.message["Bcc"] is None
        assert "offer@annen.no" not in sent.sunk.recipients


def test_an_attachment_of_twenty_megabytes_comes_through_unchanged(service, desk):
    subject = unique("Bilde")
    content = os.urandom(1 << 20) * 20
    raw = (
        head(subject, "MIME-Version: 1.0", 'Content-Type: multipart/mixed; boundary="x"')
        + b"\r\n--x\r\nContent-Type: text/plain\r\n\r\nSe bildet.\r\n--x\r\n"
        + b"Content-Type: image/jpeg\r\nContent-Transfer-Encoding: base64\r\n"
        + b"Content-Disposition: attachment; filename*=utf-8''hull%20i%20veien.jpg\r\n\r\n"
        + base64.encodebytes(content).replace(b"\n", b"\r\n")
        + b"--x--\r\n"
    )
    assert service.deliver(raw)[0] == 250
    inquiry = desk.open(subject)
    [message] = incoming(inquiry)
    [file] = message["attachments"]
    assert file["filename"] == "hull i veien.jpg"
    assert file["size"] == len(content)
    assert "Se bildet." in message["text"]
    browser = service.sign_in()
    answer = browser.get(f"/desk/inquiries/{inquiry['ref']}/attachments/{file['id']}")
    assert answer.status_code == 200
    assert answer.headers["content-disposition"].startswith("attachment")
    assert hashlib.sha256(answer.content).digest() == hashlib.sha256(content).digest()


def test_without_a_valid_token_there_is_nothing_to_see(service):
    for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic eDp4"}):
        for path in ("/api/inquiries", "/api/inquiries/S-2026-000001", "/api/events"):
            answer = httpx.get(service.url + path, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["content-type"].startswith("application/problem+json")


def test_two_people_who_claim_at_once_and_one_is_told_who_was_first(service, desk):
    subject = unique()
    service.deliver(mail(subject))
    ref = desk.open(subject)["ref"]
    people = [desk.api, service.api("operator", "servicetorg")]
    answers: list[httpx.Response] = []
    gate = threading.Barrier(len(people))

    def claim(person: httpx.Client) -> None:
        gate.wait()
        answers.append(person.post(f"/api/inquiries/{ref}/claim"))

    threads = [threading.Thread(target=claim, args=(person,)) for person in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    won, lost = sorted(answers, key=lambda answer: answer.status_code)
    assert (won.status_code, lost.status_code) == (200, 409)
    assert won.json()["assignee"] == desk.read(ref)["assignee"]
    assert "holder" in lost.json()


@pytest.mark.parametrize("cursor", ["x", "W10", "bnVsbA", "WyJvcGVuIiwxLDIsM10", "%00", "æ"])
def test_a_cursor_that_is_not_ours_is_refused_in_words(desk, cursor):
    answer = desk.api.get("/api/inquiries", params={"after": cursor})
    assert answer.status_code == 422
    assert "after" in answer.json()["detail"]


def test_a_reply_to_a_closed_inquiry_is_refused_and_nothing_is_sent(service, desk, smarthost):
    subject, sender = unique(), f"{unique('x')[2:]}@eksempel.no"
    service.deliver(mail(subject, sender=sender), mail_from=sender)
    ref = desk.open(subject)["ref"]
    desk.act(ref, "close")
    answer = desk.api.post(f"/api/inquiries/{ref}/reply", json={"text": "Hei"})
    assert answer.status_code == 409
    assert "closed" in answer.json()["detail"]
    assert [m["kind"] for m in desk.read(ref)["messages"]] == ["contact", "receipt"]


def test_no_personal_data_reaches_the_log(service, desk, smarthost):
    subject = unique("Hemmelig")
    sender = f"{unique('x')[2:]}@eksempel.no"
    text = "Fødselsnummeret er 01010199888, ring 91234567."
    service.deliver(mail(subject, text, sender=f"Kari Hemmelig <{sender}>"), mail_from=sender)
    ref = desk.open(subject)["ref"]
    desk.act(ref, "reply", text="Takk, Kari Hemmelig.")
    smarthost.first_to(sender, 2)
    for private in (subject, sender, "01010199888", "91234567", "Kari Hemmelig", "eksempel.no"):
        assert private not in service.log
