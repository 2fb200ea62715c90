"""XMPP with a real server and real clients: residents write by it, and staff answer by it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime

import httpx
import pytest

from channels.chat import xmpp_probe
from router import queue, staff
from router.models import Role
from tests import service as running
from tests.integration.prosody import (
    DOMAIN,
    RESIDENTS,
    SECRET,
    needs_prosody,
    person,
    prosody,
)
from tests.service import PATIENCE, Desk, mail, unique, wait_until

pytestmark = [needs_prosody]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with prosody(tmp_path_factory.mktemp("xmpp") / "server") as opened:
        yield opened


@pytest.fixture(scope="module")
def house(server, smarthost, tmp_path_factory):
    """A service that is linked to the server, beside the one that is not."""
    folder = tmp_path_factory.mktemp("linked")
    with running.service(folder, smarthost.port, **server.settings) as opened:
        until_linked(opened)
        yield opened


@pytest.fixture(scope="module")
def desk(house):
    return Desk(house.api())


def link(service):
    return httpx.get(f"{service.url}/readyz", timeout=PATIENCE).json()["parts"]["door:xmpp"]


def until_linked(service):
    wait_until(lambda: link(service)["detail"] == "connected", "the link to the server")


def colleague(house, jid, role=Role.OPERATOR, *departments, name=""):
    """Somebody who works here and has this address."""

    def job(session):
        username = unique("u")[2:]
        one = staff.add_staff(
            session, username, name or username, role, departments, None, datetime.now(UTC)
        )
        staff.set_jid(session, one, jid)
        return username

    return house.write(job)


def test_a_resident_writes_by_xmpp_and_is_answered_from_the_desk(server, house, desk):
    with person(server, "nora", RESIDENTS) as nora:
        nora.do(do="subscribe", to=nora.at("barnehage"))
        nora.expect("presence", sender="barnehage")
        subject = unique("Lekkasje")  # by its words, it would be for others
        nora.say("barnehage", f"{subject}: vannet renner ut i veien", id_ := uuid.uuid4().hex)
        nora.expect("receipt", id=id_)
        inquiry = desk.open(subject)
        assert (inquiry["channel"], inquiry["department"]) == ("chat", "barnehage")
        assert nora.expect("message", sender="barnehage")["text"].count(inquiry["ref"]) == 1
        desk.act(inquiry["ref"], "reply", text="Vi kommer i dag.\nHilsen oss & <b>de andre</b>")
        answer = nora.expect("message", sender="barnehage")
        assert answer["text"] == "Vi kommer i dag.\nHilsen oss & <b>de andre</b>"
        desk.until(
            inquiry["ref"],
            lambda detail: detail["messages"][-1]["delivery"] == "delivered",
            "the receipt of Nora's client",
        )
        nora.say("barnehage", "Takk!", id_ := uuid.uuid4().hex)
        nora.expect("receipt", id=id_)
        detail = desk.until_messages(inquiry["ref"], 2)
        assert [m["text"] for m in detail["messages"] if m["direction"] == "in"][1] == "Takk!"


class Visitor:
    """A resident with the page of the chat open, by the same requests as its script."""

    def __init__(self, house):
        self.browser = httpx.Client(base_url=house.url, timeout=PATIENCE)
        opened = self.browser.post("/chat/conversations", json={"language": "nb"})
        assert opened.status_code == 201, opened.text
        self.path = f"/chat/conversations/{opened.json()['id']}"

    def say(self, text):
        body = {"client_msg_id": str(uuid.uuid4()), "text": text}
        answer = self.browser.post(f"{self.path}/messages", json=body)
        assert answer.status_code == 201, answer.text

    def typing(self):
        self.browser.post(f"{self.path}/typing", json={})

    def look(self, *kinds):
        seen = self.browser.get(f"{self.path}/messages").json()["messages"]
        return [line for line in seen if line["kind"] in kinds]

    def lines(self):
        return [line["text"] for line in self.look("contact", "reply")]

    def names(self, kind):
        return [line["name"] for line in self.look(kind)]


@pytest.fixture
def visitor(house):
    opened = Visitor(house)
    yield opened
    opened.browser.close()


def case(inquiry):
    return f"sak-{inquiry['ref'].lower()}"


def claim(house, username, ref):
    """As at the desk."""

    def job(session):
        actor = staff.actor_of(session, staff.require_staff(session, username))
        queue.claim(session, actor, ref, datetime.now(UTC))

    house.write(job)


def test_staff_answer_a_chat_of_the_web_from_their_own_client(server, house, desk, visitor):
    subject = unique("Gatelys")
    with person(server, "kari") as kari:
        username = colleague(house, kari.jid, name="Kari Nordmann")
        visitor.say(f"{subject} er slukket")
        inquiry = desk.open(subject)
        claim(house, username, inquiry["ref"])
        opening = kari.expect("message", sender=case(inquiry))["text"]
        assert subject in opening
        assert inquiry["ref"] in opening
        visitor.say("Er du der?")
        assert kari.expect("message", sender=case(inquiry))["text"] == "Er du der?"

        kari.say(case(inquiry), "Ja, jeg er her.", "svar-1")
        kari.say(case(inquiry), "Ja, jeg er her.", "svar-1")
        for _ in range(2):
            kari.expect("receipt", id="svar-1")
        wait_until(lambda: "Ja, jeg er her." in visitor.lines(), "the answer on the page")
        assert visitor.lines().count("Ja, jeg er her.") == 1
        assert visitor.names("reply") == ["Kari Nordmann"]

        visitor.typing()
        kari.expect("state", sender=case(inquiry), state="composing")
        with visitor.browser.stream("GET", f"{visitor.path}/events") as stream:
            lines = stream.iter_lines()
            next(line for line in lines if "standing" in line)
            kari.do(do="composing", to=kari.at(case(inquiry)))
            assert next(line for line in lines if line.startswith("event: typing"))

        kari.say(case(inquiry), "/notat Lyset er meldt inn.", "notat-1")
        kari.expect("receipt", id="notat-1")
        kari.say(case(inquiry), "/lukkk", "feil-1")
        assert "/lukkk" in kari.expect("error", id="feil-1")["text"]
        kari.say(case(inquiry), "//hei", "svar-2")
        kari.expect("receipt", id="svar-2")
        kari.say(case(inquiry), "/lukk", "lukk-1")
        kari.expect("receipt", id="lukk-1")
        detail = desk.read(inquiry["ref"])
        assert detail["status"] == "closed"
        assert [m["text"] for m in detail["messages"] if m["direction"] == "note"] == [
            "Lyset er meldt inn."
        ]
        assert visitor.lines()[-1] == "/hei"
        kari.say(case(inquiry), "En ting til", "svar-3")
        assert kari.expect("error", id="svar-3")["condition"] == "conflict"


def test_an_inquiry_that_is_not_theirs_is_nothing_to_anybody(server, house, desk, visitor):
    """Strangers, colleagues of another department, and a reference that never was: the same
    words."""
    visitor.say(f"{(subject := unique('Kloakk'))} lukter")
    inquiry = desk.open(subject)
    with person(server, "fremmed", RESIDENTS) as stranger, person(server, "anne") as anne:
        colleague(house, anne.jid, Role.MEMBER, "barnehage")
        answers = []
        for who, local in (
            (stranger, case(inquiry)),
            (stranger, "sak-s-2026-999999"),
            (anne, case(inquiry)),
            (anne, "sak-s-2026-999999"),
        ):
            who.say(local, "La meg slippe til", id_ := uuid.uuid4().hex)
            error = who.expect("error", id=id_)
            answers.append((error["condition"], error["type"]))
        assert set(answers) == {("item-not-found", "cancel")}
        said = [message["text"] for message in desk.read(inquiry["ref"])["messages"]]
        assert "La meg slippe til" not in said
        # Who holds it is told to whoever may see it.
        with person(server, "ole") as ole, person(server, "siri") as siri:
            holder = colleague(house, ole.jid, name="Ole Hansen")
            colleague(house, siri.jid)
            claim(house, holder, inquiry["ref"])
            ole.expect("message", sender=case(inquiry))
            siri.say(case(inquiry), "Jeg tar den", "siri-1")
            error = siri.expect("error", id="siri-1")
            assert (error["condition"], "Ole Hansen" in error["text"]) == ("conflict", True)


def test_what_cannot_be_taken_is_answered_in_plain_words(server, house, desk):
    with person(server, "per", RESIDENTS) as per:
        per.say("finnes-ikke", "Hei", "a")
        assert per.expect("error", id="a")["condition"] == "item-not-found"
        per.say("vei", "x" * 4001, "b")
        assert "4000" in per.expect("error", id="b")["text"]
        for number in range(40):  # twice as many as in a minute
            per.say("vei", f"Melding {number}", f"m{number}")
        assert per.expect("error")["condition"] == "resource-constraint"
        with person(server, "lise", RESIDENTS) as lise:
            lise.say("vei", "Jeg er en annen", "l")
            lise.expect("receipt", id="l")


@pytest.mark.slow
def test_no_query_ends_the_stream_of_everybody(server, house):
    """What is deep cannot be copied by the library, which answers by a copy."""
    links = server.log.count("successfully authenticated")
    deep = "<a>" * 1500 + "</a>" * 1500
    with person(server, "ida", RESIDENTS) as ida:
        for asked in (f"<ping xmlns='urn:xmpp:ping'>{deep}</ping>", f"<x xmlns='urn:x'>{deep}</x>"):
            ida.do(do="raw", xml=f"<iq type='get' to='vei@{DOMAIN}' id='q'>{asked}</iq>")
        ida.say("vei", "Hei", "hei")
        ida.expect("receipt", id="hei")
    assert server.log.count("successfully authenticated") == links


def test_a_wrong_secret_is_told_and_not_tried_over_and_over(server, smarthost, tmp_path):
    settings = server.settings | {"CHANNELS__XMPP__SECRET": "noe-helt-annet-enn-det-rette"}
    tries = server.log.count("authentication failed")
    with running.service(tmp_path, smarthost.port, **settings) as other:
        told = wait_until(lambda: "secret" in link(other)["detail"] and link(other), "the refusal")
        assert not told["ok"]
        ready = httpx.get(f"{other.url}/readyz", timeout=PATIENCE)
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
        time.sleep(2)  # a loop without a pause would try hundreds of times
        assert server.log.count("authentication failed") - tries == 1


def test_the_doctor_tries_the_secret_and_leaves_the_link_of_a_running_service_alone(
    server, house, tmp_path
):
    def said(data, **settings):
        named = {"DATA": str(data), **server.settings, **settings}
        kept = {k: v for k, v in os.environ.items() if not k.startswith("SENTRALBORD_")}
        done = subprocess.run(
            [sys.executable, "-m", "router", "doctor"],
            env=kept | {f"SENTRALBORD_{name}": value for name, value in named.items()},
            capture_output=True,
            text=True,
            timeout=PATIENCE * 4,
            check=False,
        )
        [line] = [line for line in done.stdout.splitlines() if "The XMPP server" in line]
        return line

    wrong = {"CHANNELS__XMPP__SECRET": "noe-helt-annet-enn-det-rette"}
    assert "the secret is not the one that the server has" in said(tmp_path, **wrong)
    links = server.log.count("successfully authenticated")
    assert "/readyz of the running service tells" in said(house.data)
    assert "/readyz of the running service tells" in said(house.data, **wrong)
    assert server.log.count("successfully authenticated") == links
    assert link(house)["detail"] == "connected"
    unknown = {"CHANNELS__XMPP__DOMAIN": "annen.kommune.test"}
    assert "knows no component of this domain" in said(tmp_path, **unknown)


def test_the_doctor_says_that_the_server_lets_us_in(tmp_path):
    with prosody(tmp_path / "server") as alone:
        assert xmpp_probe.refusal("127.0.0.1", alone.components, DOMAIN, SECRET) == ""
        wait_until(lambda: "component disconnected" in alone.log.lower(), "the end of the stream")


def test_staff_answer_mail_from_their_own_client_too(server, house, desk, smarthost):
    subject = unique("Byggesak")
    with person(server, "marit") as marit:
        username = colleague(house, marit.jid, name="Marit Vik")
        house.deliver(mail(subject, "Får jeg bygge garasje?"))
        inquiry = desk.open(subject)
        claim(house, username, inquiry["ref"])
        assert "Får jeg bygge garasje?" in marit.expect("message", sender=case(inquiry))["text"]
        marit.say(case(inquiry), "Ja, inntil 50 kvadratmeter.", "g1")
        marit.expect("receipt", id="g1")
        answer = wait_until(
            lambda: next((m for m in smarthost.messages if "inntil 50" in m.text), None),
            "the answer by mail",
        )
        assert subject in answer.subject
        assert "Marit Vik" in answer.text


@pytest.mark.slow
def test_answers_wait_for_a_server_that_is_away_and_go_when_it_is_back(server, house, desk):
    with person(server, "tor", RESIDENTS) as tor:
        subject = unique("Brøyting")
        tor.say("vei", f"{subject} mangler", "t1")
        tor.expect("receipt", id="t1")
        inquiry = desk.open(subject)
        server.kill()
        wait_until(lambda: not link(house)["ok"], "the link is down")
        desk.act(inquiry["ref"], "reply", text="Vi brøyter i kveld.")
        assert httpx.get(f"{house.url}/readyz", timeout=PATIENCE).status_code == 200
        server.start()
        until_linked(house)
        assert tor.expect("message", text="Vi brøyter i kveld.")["sender"] == "vei"
