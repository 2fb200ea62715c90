"""Robots that answer robots: so many letters as the settings allow, then silence and a note."""

from __future__ import annotations

import email
import re
import secrets
import smtplib
from contextlib import ExitStack, contextmanager
from email.policy import SMTP
from email.utils import parseaddr
from typing import TYPE_CHECKING, Any

import pytest

from tests import service as running
from tests.service import REPOSITORY, Desk, kinds, mail, unique, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

LIMITS = "CHANNELS__EMAIL__RECEIPTS__"


class Robot(running.Sink):
    """The other side: takes our letters and answers each at once, in the crudest way there is.

    No Auto-Submitted, no null sender, no references; a new sender for every answer, if its pattern
    has a place for one. Without a pattern it is silent.
    """

    def __init__(self) -> None:
        super().__init__()
        self.service_port = 0
        self.pattern = "robot-{0}@firma.example"
        self.header = "From"
        """Where it takes our address from."""
        self.answers = 0
        self._seen = 0
        self._loop.call_soon_threadsafe(self._look)

    def _look(self) -> None:
        if self._seen < len(self.messages):
            letter = self.messages[self._seen]
            self._seen += 1
            if self.pattern:
                self._loop.run_in_executor(None, self._answer, letter)
        self._loop.call_later(0.01, self._look)

    def _answer(self, letter: running.Received) -> None:
        to = parseaddr(letter[self.header])[1]
        sender = self.pattern.format(secrets.token_hex(6))
        raw = mail("Jeg er på ferie", "God sommer!", sender=sender, to=to)
        with smtplib.SMTP("127.0.0.1", self.service_port, "robot.example") as session:
            session.sendmail(sender, [to], raw)
        self.answers += 1


@contextmanager
def beside_a_robot(folder: Path, **limits: str) -> Iterator[tuple[running.Service, Robot]]:
    """A service whose letters all go to a robot, and the robot."""
    robot = Robot()
    settings = {f"{LIMITS}{name}": value for name, value in limits.items()}
    try:
        with running.service(folder, robot.port, **settings) as service:
            robot.service_port = service.smtp_port
            yield service, robot
    finally:
        robot.close()


@pytest.fixture(scope="module")
def loop(tmp_path_factory):
    limits = {"PER_SENDER_PER_DAY": "3", "PER_DOMAIN_PER_HOUR": "5", "PER_INQUIRY_PER_DAY": "2"}
    with beside_a_robot(tmp_path_factory.mktemp("loop"), **limits) as both:
        yield both


def withheld(desk: Desk, sender: str = "") -> list[dict[str, Any]]:
    """What the desk knows of letters to a sender that were held back."""
    details = [desk.read(row["ref"]) for row in desk.rows(q=sender)]
    return [
        {"ref": detail["ref"], **event["data"]}
        for detail in details
        for event in detail["events"]
        if event["kind"] == "receipt_withheld"
    ]


def runs_dry(service: running.Service, robot: Robot, domain: str, limit: str, most: int) -> None:
    """The robot gets so many letters and no more, and the desk says why."""
    desk = Desk(service.api())
    before = len(robot.messages)
    first = robot.pattern.format("a")
    service.deliver(mail(unique(), sender=first), mail_from=first)
    [note] = wait_until(lambda: withheld(desk, domain), "the note on the desk")
    assert (note["limit"], note["most"]) == (limit, most)
    # The last letter was answered, and that answer is the one that got none.
    wait_until(lambda: robot.answers == before + most, "the robot's last answer")
    assert len(robot.messages) == before + most
    assert len(desk.rows(q=domain)) == most + 1
    page = service.sign_in().get(f"/desk/inquiries/{note['ref']}").text
    assert "holdt tilbake: " in page
    assert f"høyst {most} automatiske brev" in page


def test_a_robot_with_one_address_gets_so_many_letters_a_day(loop):
    service, robot = loop
    robot.pattern = "robot@en.example"
    runs_dry(service, robot, "en.example", "per_sender_per_day", 3)


def test_a_robot_that_changes_its_sender_each_time_gets_so_many_letters_an_hour(loop):
    service, robot = loop
    robot.pattern = "robot-{0}@firma.example"
    runs_dry(service, robot, "firma.example", "per_domain_per_hour", 5)


def test_a_robot_that_changes_its_domain_each_time_gets_so_many_letters_an_hour(tmp_path):
    with beside_a_robot(tmp_path, PER_HOUR="4") as (service, robot):
        robot.pattern = "robot@{0}.mange.example"
        runs_dry(service, robot, "mange.example", "per_hour", 4)


def test_a_robot_that_answers_into_the_thread_gets_one_letter(loop):
    service, robot = loop
    robot.pattern, robot.header = "robot-{0}@traad.example", "Reply-To"
    desk, subject, before = Desk(service.api()), unique(), len(robot.messages)
    service.deliver(mail(subject, sender="a@traad.example"), mail_from="a@traad.example")
    detail = desk.until_messages(desk.open(subject)["ref"], 2)
    robot.header = "From"
    assert kinds(detail).count("message_in") == 1
    assert len(robot.messages) == before + 1


def test_a_robot_that_cries_for_help_in_a_thread_runs_dry(loop):
    """Each of its answers sounds like an emergency, which is answered at once: but not for
    ever."""
    service, robot = loop
    robot.pattern = ""
    desk, subject, before = Desk(service.api()), unique(), len(robot.messages)
    service.deliver(mail(subject, sender="a@rop.example"), mail_from="a@rop.example")
    ref = desk.open(subject)["ref"]
    [receipt] = robot.first_to("a@rop.example")
    to = receipt["Reply-To"]
    for number in range(4):
        sender = f"robot@rop{number}.example"
        raw = mail(f"SV: {subject}", "Det brenner i leiligheten!", sender=sender, to=to)
        service.deliver(raw, to, mail_from=sender)
        desk.until_messages(ref, number + 2)
    detail = desk.until(
        ref, lambda d: kinds(d).count("receipt_withheld") == 2, "the note on the desk"
    )
    notes = [e["data"] for e in detail["events"] if e["kind"] == "receipt_withheld"]
    assert {note["limit"] for note in notes} == {"per_inquiry_per_day"}
    assert kinds(detail).count("emergency") == 4
    alarms = [m for m in robot.messages[before:] if re.search(r"@rop\d", m.sunk.recipients[0])]
    assert len(alarms) == 2


_ROBOTIC = (
    "Auto-Submitted", "X-Auto-Response-Suppress", "X-Loop", "Reply-To", "In-Reply-To", "References",
)  # fmt: skip


class Post(running.Sink):
    """Carries each letter to the service whose domain it is for, as a mail relay does."""

    def __init__(self) -> None:
        super().__init__()
        self.routes: dict[str, int] = {}
        self.answers: list[int] = []
        self.hides = False
        self._carried = 0
        self._loop.call_soon_threadsafe(self._look)

    def _look(self) -> None:
        if self._carried < len(self.messages):
            letter = self.messages[self._carried]
            self._carried += 1
            self._loop.run_in_executor(None, self._carry, letter)
        self._loop.call_later(0.01, self._look)

    def _carry(self, letter: running.Received) -> None:
        mail_from, raw = letter.sunk.mail_from, letter.sunk.raw
        if self.hides:
            message = email.message_from_bytes(raw, policy=SMTP)
            for name in _ROBOTIC:
                del message[name]
            message.replace_header("Subject", unique())
            mail_from, raw = parseaddr(letter["From"])[1], message.as_bytes()
        for recipient in letter.sunk.recipients:
            port = self.routes[recipient.rpartition("@")[2]]
            with smtplib.SMTP("127.0.0.1", port, "post.example") as session:
                session.ehlo()
                session.mail(mail_from)
                session.rcpt(recipient)
                self.answers.append(session.data(raw)[0])


OTHER_HALL = "postmottak@nabo.kommune.no"


@pytest.fixture(scope="module")
def neighbours(tmp_path_factory):
    """Two installations whose letters reach each other."""
    limits = {f"{LIMITS}PER_SENDER_PER_DAY": "3"}
    folder = tmp_path_factory.mktemp("neighbours")
    with ExitStack() as stack:
        post = Post()
        stack.callback(post.close)
        ours = stack.enter_context(running.service(folder / "ours", post.port, **limits))
        config = folder / "config.yaml"
        plain = (REPOSITORY / "config.yaml").read_text(encoding="utf-8")
        config.write_text(plain.replace("sorum.kommune.no", "nabo.kommune.no"), encoding="utf-8")
        limits["RULES__FOLDER"] = str(REPOSITORY / "rules" / "sorum")
        theirs = stack.enter_context(
            running.service(folder / "theirs", post.port, config=str(config), **limits)
        )
        post.routes["sorum.kommune.no"] = ours.smtp_port
        post.routes["nabo.kommune.no"] = theirs.smtp_port
        yield ours, theirs, post


def test_two_of_us_stay_silent_towards_each_other(neighbours):
    """Somebody writes to one in the name of the other: one receipt, which nobody answers."""
    ours, theirs, post = neighbours
    subject = unique()
    ours.deliver(mail(subject, sender=OTHER_HALL), mail_from=OTHER_HALL)
    desk = Desk(theirs.api())
    [aside] = wait_until(lambda: desk.rows(status="aside"), "the receipt's arrival at the other")
    detail = desk.read(aside["ref"])
    assert aside["kind"] == "auto_reply"
    assert kinds(detail) == ["received", "routed", "set_aside"]
    assert detail["events"][0]["data"]["receipt_barred"]
    assert len(post.messages) == 1
    assert post.answers == [250]
    [row] = Desk(ours.api()).rows()
    assert row["subject"] == subject
    page = theirs.sign_in().get(f"/desk/inquiries/{aside['ref']}").text
    assert "Ingen kvittering" in page


def test_two_of_us_stop_also_when_a_relay_hides_that_they_are_robots(neighbours):
    """The worst case: what lies between takes every sign of a robot away."""
    ours, theirs, post = neighbours
    before = len(post.messages)
    post.hides = True
    ours.deliver(mail(unique(), sender=OTHER_HALL), mail_from=OTHER_HALL)
    [note] = wait_until(
        lambda: withheld(Desk(ours.api())) + withheld(Desk(theirs.api())), "the note on a desk"
    )
    assert note["limit"] == "per_sender_per_day"
    # Two letters were left to us, three to the other; each was answered until ours ran dry.
    assert len(post.messages) - before == 4
