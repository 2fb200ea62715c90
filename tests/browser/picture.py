"""The picture of the desk in the README: `python -m tests.browser.picture` writes docs/queue.png.

Some contacts of the demo, sent through the real doors; then some are made older than they are. A
text, a chat and a call that waits come last, as they do.
"""

from __future__ import annotations

import tempfile
import uuid
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import httpx
import yaml
from playwright.sync_api import expect, sync_playwright
from sqlalchemy import text as sql

from router import queue
from router.access import Actor
from router.models import Role
from tests import service as running
from tests.browser.conftest import CHROMIUM, FLAGS
from tests.browser.people import employ, sign_in_quietly
from tests.rules import oracle
from tests.twilio_double import ACCOUNT_SID, Double, served, settings_for, webhook

PICTURE = running.REPOSITORY / "docs" / "queue.png"
CONTACTS = {
    "Brunt vann": (5, "Olav Kvamme"),
    "Gutt i klassen": (4, "Siv Dahl"),
    "Nabovarsel jeg ikke forstår": (4, "Marit Engen"),
    "Støttekontakt søkes": (3, ""),
    "Papirdunken": (3, ""),
    "Icy sidewalk": (1, "Siv Dahl"),
    "Byggetegninger fra 1968": (1, ""),
    "Hull i Fjellfotveien": (0, ""),
    "Scene til 17. mai": (0, "Olav Kvamme"),
    "Dobbelt betalt": (0, ""),
    "Tryggleiksalarm": (0, ""),
    "Permisjon fra plassen": (0, ""),
}
"""Subject -> how many days ago it came, who has taken it."""
TEXT = "Hunden min er borte, svart labrador, sist sett ved skolen"
CHAT = "Hei! Når åpner svømmehallen i dag?"
LINE, TEXT_LINE = "+4763869000", "+4759440000"
CALLER = "+47116117"
"""The emergency clinic is let in at every hour."""
DOORS = {
    "CHANNELS__PHONE__ENABLED": "true",
    "CHANNELS__SMS__ENABLED": "true",
    "CHANNELS__PHONE__PEOPLE__SIV__NAME": "Siv Dahl",
    "CHANNELS__PHONE__PEOPLE__SIV__PHONE": "+4763869301",
    "CHANNELS__PHONE__PEOPLE__SIV__DEPARTMENT": "servicetorg",
}


def send(service: running.Service, contact: dict[str, str]) -> None:
    name, subject, text = contact["from_name"], contact["subject"], contact["text"]
    plain = name.lower().replace(" ", ".").translate(str.maketrans("åáø", "aao"))
    sender = f"{plain}@example.org"
    if contact.get("channel") == "web":
        form = {"name": name, "email": sender, "subject": subject, "text": text}
        httpx.post(f"{service.url}/", data=form, follow_redirects=True).raise_for_status()
        return
    to = f"{contact.get('to', 'postmottak')}@sorum.kommune.no"
    raw = running.mail(subject, text, sender=f"{name} <{sender}>", to=to)
    service.deliver(raw, to, mail_from=sender)


def make_older(service: running.Service, ref: str, days: int) -> None:
    """As if it had come that many days ago, at another time of the day."""
    came = datetime.now(UTC) - timedelta(days=days, hours=4, minutes=11 * days % 50)
    values = {
        "ref": ref,
        "came": came,
        "due": oracle.due(came, 3),
        "warn": oracle.due(came, 1),
    }
    values |= {name: f"{at:%Y-%m-%d %H:%M:%S.%f}" for name, at in values.items() if name != "ref"}
    service.write(
        lambda session: session.connection().execute(
            sql(
                "UPDATE inquiry SET received_at = :came, due_at = :due, warn_at = :warn,"
                " sort_at = :due WHERE ref = :ref"
            ),
            values,
        )
    )


def send_text(service: running.Service, text: str) -> None:
    """A resident's text comes in."""
    _hook(service, "sms/twilio", From="+4790012345", Body=text, MessageSid=f"SM{1:032x}")


def say_in_chat(service: running.Service, text: str) -> None:
    """A resident begins a chat."""
    with httpx.Client(base_url=service.url, headers={"Origin": service.url}) as browser:
        talk = browser.post("/chat/conversations", json={"language": "nb"}).json()["id"]
        said = {"client_msg_id": str(uuid.uuid4()), "text": text}
        browser.post(f"/chat/conversations/{talk}/messages", json=said).raise_for_status()


def ring(service: running.Service, twilio: Double) -> None:
    """Somebody rings and waits in the queue."""
    sid = f"CA{1:032x}"
    twilio.put("Calls", sid=sid, from_=CALLER, to=LINE, status="in-progress")
    call = {"CallSid": sid, "CallStatus": "ringing", "Direction": "inbound"}
    _hook(service, "phone/twilio/voice", From=CALLER, **call)


def _hook(service: running.Service, door: str, **form: str) -> None:
    to = LINE if door.startswith("phone") else TEXT_LINE
    form |= {"AccountSid": ACCOUNT_SID, "ApiVersion": "2010-04-01", "To": to}
    webhook(f"{service.url}/hooks/{door}", form).raise_for_status()


def main() -> None:
    source = running.REPOSITORY / "router" / "demo_contacts.yaml"
    contacts = {c["subject"]: c for c in yaml.load(source.read_text("utf-8"), yaml.BaseLoader)}
    with (
        tempfile.TemporaryDirectory() as folder,
        running.sink() as smarthost,
        served() as twilio,
        running.service(
            Path(folder) / "service", smarthost.port, **settings_for(twilio), **DOORS
        ) as service,
        sync_playwright() as playwright,
    ):
        desk = running.Desk(service.api())
        people = {
            name: employ(service, name, username=name.split()[0].lower())
            for name in sorted({name for _, name in CONTACTS.values() if name})
        }
        for subject, (days, holder) in CONTACTS.items():
            send(service, contacts[subject])
            ref = desk.open(subject)["ref"]
            if days:
                make_older(service, ref, days)
            if holder:
                actor = Actor(Role.OPERATOR, people[holder].id)
                service.write(partial(queue.claim, actor=actor, ref=ref, now=datetime.now(UTC)))
        running.wait_until(
            lambda: service.read("SELECT 1 FROM inquiry WHERE overdue_at IS NOT NULL"), "the sweep"
        )
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        context = browser.new_context(
            base_url=service.url,
            locale="nb-NO",
            viewport={"width": 1440, "height": 900},
            device_scale_factor=1280 / 1440,
        )
        page = context.new_page()
        sign_in_quietly(service, page, people["Siv Dahl"])
        page.goto("/desk/queue")
        expect(page.get_by_role("row")).to_have_count(len(CONTACTS) + 1)
        send_text(service, TEXT)
        say_in_chat(service, CHAT)
        ring(service, twilio)
        expect(page.get_by_role("row")).to_have_count(len(CONTACTS) + 4)
        page.screenshot(path=PICTURE)
        browser.close()


if __name__ == "__main__":
    main()
