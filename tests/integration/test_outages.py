"""While something around the service does not work, nothing is lost and nothing is sent twice."""

from __future__ import annotations

import os
import resource
import subprocess
from contextlib import contextmanager
from functools import partial

import pytest

from tests import service as running
from tests.service import TOWN_HALL, Desk, incoming, kinds, mail, unique, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def smarthost():
    with running.sink() as opened:
        yield opened


@pytest.fixture
def service(smarthost, tmp_path):
    with running.service(tmp_path / "service", smarthost.port) as opened:
        yield opened


@pytest.fixture
def desk(service):
    return Desk(service.api())


def somebody() -> str:
    return f"{unique('x')[2:]}@eksempel.no"


def ask(service, desk, sender: str) -> str:
    subject = unique()
    service.deliver(mail(subject, sender=sender), mail_from=sender)
    return desk.open(subject)["ref"]


def replies(inquiry) -> list[tuple[str, str]]:
    return [
        (m["delivery"], m["delivery_detail"]) for m in inquiry["messages"] if m["kind"] == "reply"
    ]


def outbox(service, ref: str) -> list[tuple[str, str, int]]:
    """(kind, state, attempts) of everything that was written for an inquiry."""
    return [
        tuple(row)
        for row in service.read(
            "SELECT outbox.kind, state, attempts FROM outbox"
            " JOIN inquiry ON inquiry.id = outbox.inquiry_id WHERE ref = :ref ORDER BY outbox.id",
            ref=ref,
        )
    ]


def due_now(service) -> None:
    """Let an hour of waiting be over for everything that is queued."""
    service.write(
        lambda session: session.connection().exec_driver_sql(
            "UPDATE outbox SET next_at = datetime(next_at, '-1 hour') WHERE state = 'queued'"
        )
    )


def test_while_the_smarthost_is_down_mail_waits_and_the_desk_says_so(tmp_path):
    port = running.free_port()
    with running.service(tmp_path / "service", port) as service:
        desk = Desk(service.api())
        sender = somebody()
        ref = ask(service, desk, sender)
        desk.act(ref, "reply", text="Vi kommer.")
        tried = desk.until(ref, lambda i: replies(i)[0][1], "the first attempt")
        assert replies(tried)[0][0] == "queued"
        assert "svarer ikke" in replies(tried)[0][1]
        health = desk.api.get("/readyz")
        # Mail is taken in as ever, so that nobody should end the service for it.
        assert (health.status_code, health.json()["status"]) == (200, "degraded")
        assert not health.json()["parts"]["outbox"]["ok"]
        page = service.sign_in("admin").get("/desk/outbox")
        assert ref in page.text

        with running.sink(port) as smarthost:
            due_now(service)
            receipt, reply = smarthost.first_to(sender, 2)
            assert receipt.ref == reply.ref == ref
            sent = desk.until(ref, lambda i: replies(i)[0][0] == "sent", "the delivery")
            assert sent["reply_state"] == "answered"
            assert "not_delivered" not in kinds(sent)
            wait_until(lambda: desk.api.get("/readyz").json()["status"] == "ok", "all well")


def test_a_recipient_who_is_refused_for_good_opens_the_inquiry_again(service, desk, smarthost):
    sender = somebody()
    ref = ask(service, desk, sender)
    smarthost.first_to(sender)
    smarthost.fail("RCPT", "550 5.1.1 No such user here, kari@hemmelig.no")
    desk.act(ref, "reply", text="Vi kommer.", close=True)
    again = desk.until(ref, lambda i: i["reply_state"] == "not_delivered", "the failure")
    assert again["status"] == "open"
    assert replies(again)[0][0] == "failed"
    assert "5.1.1" in replies(again)[0][1]
    assert "not_delivered" in kinds(again)
    assert "hemmelig.no" not in service.log + replies(again)[0][1]
    assert len(smarthost.to(sender)) == 1


def test_a_recipient_who_is_greylisted_gets_the_mail_later(service, desk, smarthost):
    sender = somebody()
    ref = ask(service, desk, sender)
    smarthost.first_to(sender)
    smarthost.fail("RCPT", "450 4.2.0 Greylisted, try again")
    desk.act(ref, "reply", text="Vi kommer.")
    desk.until(ref, lambda i: "4.2.0" in replies(i)[0][1], "the first attempt")
    assert outbox(service, ref)[1] == ("reply", "queued", 1)
    due_now(service)
    assert "Vi kommer." in smarthost.first_to(sender, 2)[-1].text


def test_when_the_smarthost_refuses_us_no_message_loses_an_attempt(service, desk, smarthost):
    sender = somebody()
    ref = ask(service, desk, sender)
    smarthost.first_to(sender)
    smarthost.fail("MAIL", "530 5.7.0 Authentication required", times=3)
    desk.act(ref, "reply", text="Vi kommer.")
    waiting = desk.until(ref, lambda i: "5.7.0" in replies(i)[0][1], "the refusal")
    assert replies(waiting)[0][0] == "queued"
    assert waiting["reply_state"] == "answered"
    assert outbox(service, ref)[1] == ("reply", "queued", 0)
    health = desk.api.get("/readyz")
    assert health.json()["status"] == "degraded"
    assert "avsenderadressen" in health.json()["parts"]["outbox"]["detail"]


def test_an_answer_that_was_cut_off_is_never_repeated_blindly(service, desk, smarthost):
    sender = somebody()
    ref = ask(service, desk, sender)
    smarthost.first_to(sender)
    smarthost.drop("CONTENT")
    desk.act(ref, "reply", text="Vi kommer.")
    unsure = desk.until(ref, lambda i: replies(i)[0][0] == "uncertain", "the doubt")
    assert "uncertain" in kinds(unsure)
    due_now(service)
    other = somebody()
    ask(service, desk, other)
    smarthost.first_to(other)
    assert len(smarthost.to(sender)) == 2  # the receipt, and what was taken before the cut


@contextmanager
def small_disk(folder):
    """A data directory of its own; yields a function that fills it up and one that frees it."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1g,mode=700", "tmpfs", str(folder)]
    if os.getuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root can mount a small disk here")

    def resize(size: str) -> bool:
        options = ["mount", "-o", f"remount,size={size}", str(folder)]
        return subprocess.run(options, check=False, capture_output=True).returncode == 0

    def fill() -> None:
        # The service may write between the look and the remount, which then is refused.
        wait_until(lambda: resize(str(used() + 4096)), "the disk's filling up")

    def used() -> int:
        disk = os.statvfs(folder)
        return (disk.f_blocks - disk.f_bfree) * disk.f_frsize

    try:
        yield fill, lambda: resize("1g")
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_turns_mail_away_for_now_and_the_service_lives(tmp_path, smarthost):
    with (
        small_disk(tmp_path / "disk") as (fill, free),
        running.service(tmp_path / "disk" / "service", smarthost.port) as service,
    ):
        desk = Desk(service.api())
        early, turned_away, late = unique(), unique(), unique()
        service.deliver(mail(early))
        desk.find(early)
        with service.smtp() as session:
            session.ehlo()
            session.mail("kari@eksempel.no")
            session.rcpt(TOWN_HALL)
            fill()
            code, _ = session.data(mail(turned_away, "Hei. " * 20_000))
        assert 400 <= code < 500
        code, answer = service.deliver(mail(turned_away))
        assert (code, answer[:5]) == (452, "4.3.1")
        assert desk.rows(q=turned_away) == []
        form = {"from": {"email": "kari@eksempel.no"}, "text": "Hei. " * 15_000}
        assert desk.api.post("/api/inquiries", json=form).status_code == 503
        assert desk.open(early)["subject"] == early
        assert service.process.poll() is None

        free()
        # The door looks at the disk a few times a second, not for each mail.
        wait_until(lambda: service.deliver(mail(late))[0] == 250, "room for mail", patience=2)
        assert len(desk.find(late)) == 1
        assert service.deliver(mail(turned_away))[0] == 250
        assert len(desk.find(turned_away)) == 1


def test_a_store_that_cannot_grow_turns_mail_away_for_now_and_the_service_lives(
    service, desk, smarthost
):
    """As a full disk, without one: the process may not make any file larger."""
    early, turned_away = unique(), unique()
    service.deliver(mail(early))
    desk.find(early)
    before = resource.prlimit(service.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(service.pid, resource.RLIMIT_FSIZE, (4096, before[1]))
    assert 400 <= service.deliver(mail(turned_away))[0] < 500
    assert 400 <= service.deliver(mail(turned_away, "x" * 70 + "\r\n" * 300_000))[0] < 500
    assert desk.api.post(f"/api/inquiries/{desk.open(early)['ref']}/claim").status_code == 503
    assert desk.api.get("/readyz").status_code in {200, 503}
    resource.prlimit(service.pid, resource.RLIMIT_FSIZE, before)
    assert service.deliver(mail(turned_away))[0] == 250
    assert len(desk.find(turned_away)) == 1
    assert desk.act(desk.open(early)["ref"], "claim")["assignee"]


def test_mail_taken_while_nothing_could_be_prepared_is_prepared_later(service, desk):
    """The files of an attachment cannot be written for a while; the arrival waits, unparked."""
    subject = unique()
    blobs = service.data / "blobs"
    blobs.rename(service.data / "elsewhere")
    blobs.write_bytes(b"")
    raw = (
        f"From: k@eksempel.no\r\nTo: {TOWN_HALL}\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/mixed; boundary="x"\r\n\r\n--x\r\n\r\nHei\r\n--x\r\n'
        'Content-Type: image/png\r\nContent-Disposition: attachment; filename="a.png"\r\n\r\n'
        "innhold\r\n--x--\r\n"
    ).encode()
    assert service.deliver(raw)[0] == 250
    wait_until(lambda: "reception.batch_failed" in service.log, "the failure")
    assert service.read("SELECT state FROM arrival")[-1][0] == "new"
    blobs.unlink()
    (service.data / "elsewhere").rename(blobs)
    [message] = incoming(desk.open(subject))
    assert [file["filename"] for file in message["attachments"]] == ["a.png"]


def journal_again(session, channel, key):
    """The one arrival there is once more, as another message, not yet worked on."""
    run = session.connection().exec_driver_sql
    run(
        "INSERT INTO arrival (channel, external_id, received_at, envelope, blob, size, state,"
        f" attempts, error) SELECT '{channel}', '{key}', received_at, envelope, '', size, 'new', 0,"
        " '' FROM arrival"
    )
    run(
        "INSERT INTO arrival_content (arrival_id, raw) SELECT arrival.id, CAST(replace(CAST(raw AS"
        " text), 'Message-ID: <', 'Message-ID: <x') AS blob) FROM arrival, arrival_content"
        f" WHERE arrival.external_id = '{key}'"
    )


def test_what_could_not_be_processed_is_shown_and_can_be_put_back_in_line(service, desk):
    """Mail that came in by a door which this release does not know."""
    subject = unique()
    service.deliver(mail(subject))
    desk.find(subject)
    service.stop()
    service.write(partial(journal_again, channel="telegraf", key="x"))
    service.restart()
    parked = "SELECT id FROM arrival WHERE state = 'parked'"
    [[number]] = wait_until(lambda: service.read(parked), "the setting aside")
    listed = service.run("parked", "list").stdout
    assert "telegraf" in listed
    assert subject in service.run("parked", "show", str(number)).stdout
    browser = service.sign_in("admin")
    assert "telegraf" in browser.get("/desk/parked").text
    assert subject in browser.get(f"/desk/parked/{number}").text
    assert len(desk.rows(q=subject)) == 1

    service.write(
        lambda session: (
            session.connection()
            .exec_driver_sql("UPDATE arrival SET channel = 'email' WHERE state = 'parked'")
            .rowcount
        )
    )
    assert "1 put back in line" in service.run("parked", "retry", str(number)).stdout
    first, second = desk.find(subject, 2)
    assert first["due_at"] == second["due_at"]
    assert "Nothing is parked." in service.run("parked", "list").stdout


def test_an_arrival_whose_content_is_gone_is_set_aside_and_holds_nobody_up(service, desk):
    """A store brought back from a backup without its files."""
    early, late = unique(), unique()
    large = mail(early, "x" * 70 + "\r\n" * 300_000)
    service.deliver(large)
    desk.find(early)
    service.stop()
    for file in (service.data / "blobs").glob("*/*"):
        file.unlink()
    service.write(
        lambda session: session.connection().exec_driver_sql("UPDATE arrival SET state = 'new'")
    )
    service.restart()
    service.deliver(mail(late))
    desk.find(late)
    shown = wait_until(
        lambda: service.read("SELECT state, error FROM arrival WHERE blob != ''"), ""
    )
    assert [tuple(row) for row in shown] == [("parked", "its content is missing from the store")]


def test_a_second_service_on_the_same_data_is_refused(service, smarthost):
    other = service.run("serve", check=False)
    assert other.returncode == 1
    assert "listen" in other.stderr or "already" in other.stderr
    service.web_port, kept = running.free_port(), service.web_port
    other = service.run("serve", check=False)
    service.web_port = kept
    assert other.returncode == 1
    assert "Another service already uses" in other.stderr


def test_what_came_while_the_service_was_stopped_in_mid_work_is_taken_in_at_the_start(
    service, desk
):
    """An arrival in the journal is a promise, whoever left it there."""
    subject = unique()
    service.deliver(mail(subject))
    ref = desk.open(subject)["ref"]
    service.stop()
    service.write(partial(journal_again, channel="email", key="another"))
    service.restart()
    found = desk.find(subject, 2)
    assert ref in {row["ref"] for row in found}
    assert len({row["received_at"] for row in found}) == 1
    assert len({row["due_at"] for row in found}) == 1
