"""A realistic day through the real doors of a running service: SMTP, the inquiry API, the chat, and
for texts and calls, where those doors are open, signed webhooks.

Contacts come as they do in a town hall: a busy morning, a dip at lunch, a trickle after closing.
"""

from __future__ import annotations

import http.client
import random
import smtplib
import socket
import time
import unicodedata
from contextlib import closing
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from importlib.resources import files
from itertools import zip_longest
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit
from zlib import crc32

import orjson
import yaml
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from router import credentials
from router.clock import utc_now
from router.db import Database
from router.demo_chat import Residents, talks
from router.demo_line import CALLS, Exchange, stand_in_address
from router.errors import SettingsError
from router.models import CredentialKind, Role
from router.store import require_schema

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from router.settings import Settings

DAY_SECONDS = 8 * 3600
HOURS = (22, 30, 27, 20, 16, 21, 18, 8)
"""Share of the day's contacts in each of its hours, from 08:00."""

AGAIN = (0.5, 1.0, 2.0, 4.0)
"""Seconds until a mail that shall come later is sent again, as every mail server does."""

CHATS_FROM = 10
"""Contacts of a day that has chats, too; they come in its second half."""
LINGER = 25.0
"""Seconds that chats may go on after the day."""
TENTHS = 10
"""How often it is told how far the day is, where there is no terminal for a bar."""
OTHERS = 5
"""One contact of so many is a text or a call, where those doors are open."""

_PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d494844520000000100000001080200000090775"
    "3de0000000c4944415408d763f8cfc000000301010018dd8db00000000049454e44ae426082"
)

DOMAINS = (
    *("post", "nett", "fjell", "fjord", "brev", "bygda", "dalen", "elva", "furu", "gran", "hei"),
    *("innsjo", "kyst", "lia", "myra", "nes", "odden", "rogn", "skog", "tun", "ur", "vik", "asen"),
)

Contact = dict[str, str]


def run_demo(settings: Settings, speed: float, number: int, console: Console) -> None:
    """Send `number` contacts at `speed` times the clock. Raises `SettingsError` when nobody
    listens."""
    exchange, left_out = _exchange(settings)
    contacts = _contacts(number, settings, exchange)
    residents = Residents(settings)
    if not settings.channels.chat.enabled:
        left_out.append("Chats were left out: channels.chat is not open.")
    try:
        socket.create_connection((settings.web.host, settings.web.port), timeout=5).close()
    except OSError as error:
        raise _silent(error) from error
    require_schema(settings)
    db = Database(settings.database_url)
    db.start()
    now = utc_now()
    token = db.write_sync(
        lambda session: credentials.create_api_token(session, Role.OPERATOR, None, "Demo", now)
    )
    try:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            task = progress.add_task("A day at the switchboard", total=len(contacts))
            started = time.monotonic()
            day = zip(_moments(len(contacts)), contacts, strict=True)
            for count, (moment, contact) in enumerate(day, start=1):
                pause = moment / speed - (time.monotonic() - started)
                if pause > 0:
                    time.sleep(pause)
                _send(settings, token, contact, exchange, residents)
                progress.advance(task)
                if (
                    not console.is_terminal
                    and count * TENTHS // number > (count - 1) * TENTHS // number
                ):
                    console.print(f"{count} of {number} contacts sent.", highlight=False)
            if residents.talking:
                task = progress.add_task("Chats under way", total=None)
                residents.wait(LINGER)
            if exchange is not None and exchange.talking:
                task = progress.add_task("Calls under way", total=None)
                exchange.wait()
        if residents.too_many:
            left_out.append("Some chats were left out: one address begins so many an hour.")
        for reason in left_out:
            console.print(reason, markup=False, highlight=False, soft_wrap=True)
        console.print(
            f"{len(contacts)} contacts sent. They stand at the desk: "
            f"{settings.public_url}/desk/queue",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    finally:
        db.write_sync(lambda session: credentials.revoke(session, CredentialKind.API, token))
        db.stop()


def _contacts(number: int, settings: Settings, exchange: Exchange | None) -> list[Contact]:
    text = files("router").joinpath("demo_contacts.yaml").read_text(encoding="utf-8")
    found: list[Contact] = yaml.load(text, yaml.BaseLoader)  # noqa: S506 - makes strings only
    # The same day every time: a demo that can be told about.
    chance = random.Random(1)  # noqa: S311 - chance, not secrecy
    chance.shuffle(found)
    contacts = [found[i % len(found)] for i in range(number)]
    others = _texts_and_calls(settings) if exchange is not None else []
    for place in range(0, number, OTHERS) if others else ():
        contacts[place] = others[place // OTHERS % len(others)]
    chats = talks() if settings.channels.chat.enabled and number >= CHATS_FROM else []
    for place, words in enumerate(chats):
        contacts[number // 2 + place * (number // 2) // len(chats)] = {
            "channel": "chat",
            "text": "\n".join(words),
        }
    return contacts


def _exchange(settings: Settings) -> tuple[Exchange | None, list[str]]:
    """The telephones, where there are any; and in words what is left out, and why."""
    phone, sms, twilio = settings.channels.phone, settings.channels.sms, settings.twilio
    left_out = []
    if not phone.enabled:
        left_out.append("Calls were left out: channels.phone is not open.")
    if not sms.enabled:
        left_out.append("Texts were left out: channels.sms is not open.")
    elif _texts_strangers(settings):
        left_out.append("Texts were left out: their receipts would go to strangers' numbers.")
    if not phone.enabled and not sms.enabled:
        left_out.append("With telephones: make run PHONE=1, and make demo PHONE=1")
    elif not twilio.account_sid or not twilio.auth_tokens:
        left_out = ["Texts and calls were left out: there is no twilio.account_sid or no token."]
    if not twilio.account_sid or not twilio.auth_tokens:
        return None, left_out
    return Exchange(settings), left_out


def _texts_strangers(settings: Settings) -> bool:
    """Whether what we write by text would really be sent."""
    return settings.channels.sms.provider == "twilio" and stand_in_address(settings) is None


def _texts_and_calls(settings: Settings) -> list[Contact]:
    """Texts and calls by turns, as far as those doors are open."""
    text = files("router").joinpath("demo_phone.yaml").read_text(encoding="utf-8")
    found = yaml.load(text, yaml.BaseLoader)  # noqa: S506 - makes strings only
    texts: list[Contact] = []
    calls: list[Contact] = []
    if settings.channels.sms.enabled and not _texts_strangers(settings):
        texts = [{"channel": "sms", "text": words} for words in found["texts"]]
    if settings.channels.phone.enabled:
        calls = [{**call, "channel": "phone"} for call in found["calls"]]
    both = [one for pair in zip_longest(texts, calls) for one in pair if one is not None]
    # Everybody else has a number of their own.
    return [{"number": f"+4740{place:06d}", **one} for place, one in enumerate(both, 100_000)]


def _moments(number: int) -> Iterator[float]:
    """Seconds after opening for each contact, in order."""
    total = sum(HOURS)
    chance = random.Random(2)  # noqa: S311 - chance, not secrecy
    moments = [
        (hour + chance.random()) * DAY_SECONDS / len(HOURS)
        for hour in chance.choices(range(len(HOURS)), [share / total for share in HOURS], k=number)
    ]
    return iter(sorted(moments))


def _send(
    settings: Settings,
    token: str,
    contact: Contact,
    exchange: Exchange | None,
    residents: Residents,
) -> None:
    channel = contact.get("channel")
    try:
        if exchange is not None and channel == "sms":
            exchange.text(contact["number"], settings.channels.sms.numbers[0], contact["text"])
        elif exchange is not None and channel == "phone":
            _call(settings, exchange, contact)
        elif channel == "chat":
            residents.begin(contact["text"].split("\n"))
        elif channel == "web":
            _send_form(settings, token, contact)
        else:
            _send_mail(settings, contact)
    except (OSError, smtplib.SMTPException) as error:
        raise _silent(error) from error


def _call(settings: Settings, exchange: Exchange, contact: Contact) -> None:
    """Have somebody call: by the stand-in where it runs, which can do what operators ask of it;
    else they let it ring, and hang up."""
    line = _line(settings, contact["to"])
    form = {"number": contact["number"], "line": line, "does": contact["does"]}
    address = stand_in_address(settings)
    if address is not None:
        try:
            with closing(http.client.HTTPConnection(*address, timeout=5)) as connection:
                connection.request("POST", CALLS, urlencode(form))
                if connection.getresponse().status == http.client.ACCEPTED:
                    return
        except OSError:
            pass
    exchange.call(**form)


def _line(settings: Settings, owner: str) -> str:
    """The number of a person or a department; the first one where they have none."""
    lines = settings.channels.phone.numbers
    theirs = [line.number for line in lines if owner and owner in {line.person, line.department}]
    return next(iter(theirs), lines[0].number if lines else settings.municipality.phone)


def _silent(error: Exception) -> SettingsError:
    return SettingsError(
        f"The demo could not reach the service ({error}). Start it first: make run"
    )


def _send_mail(settings: Settings, contact: Contact) -> None:
    listen = settings.channels.email.listen
    sender = _address(contact["from_name"])
    recipient = f"{contact.get('to') or 'postmottak'}@{settings.channels.email.domain}"
    message = EmailMessage()
    message["From"] = f"{contact['from_name']} <{sender}>"
    message["To"] = recipient
    message["Subject"] = contact["subject"]
    message["Date"] = format_datetime(utc_now())
    message["Message-ID"] = make_msgid(domain=sender.partition("@")[2])
    robot = contact.get("robot", "")
    if robot == "auto_reply":
        message["Auto-Submitted"] = "auto-replied"
    elif robot == "bulk":
        message["List-Unsubscribe"] = f"<mailto:{sender}>"
        message["Precedence"] = "bulk"
    message.set_content(contact["text"])
    if contact.get("html") == "true":
        message.add_alternative(_paragraphs(contact["text"]), subtype="html")
    if contact.get("attachments") == "true":
        message.add_attachment(_PIXEL, "image", "png", filename="bilde.png")
    for pause in (*AGAIN, 0.0):
        try:
            with smtplib.SMTP(listen.host, listen.port, timeout=20) as client:
                client.send_message(message, sender, [recipient])
                return
        except smtplib.SMTPResponseException as error:
            if error.smtp_code >= 500 or not pause:
                raise
        time.sleep(pause)


def _send_form(settings: Settings, token: str, contact: Contact) -> None:
    body = {
        "channel": "web",
        "from": {"name": contact["from_name"], "email": _address(contact["from_name"])},
        "subject": contact["subject"],
        "text": contact["text"],
    }
    where = urlsplit(f"http://{settings.web.host}:{settings.web.port}")
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=20)
    with closing(connection):
        connection.request(
            "POST",
            "/api/inquiries",
            orjson.dumps(body),
            {
                "Authorization": f"Bearer {token}",
                "Content-Type": "application/json",
                "Idempotency-Key": make_msgid(domain="demo"),
            },
        )
        answer = connection.getresponse()
        detail = answer.read()
        if answer.status != http.client.CREATED:
            raise SettingsError(f"The API answered {answer.status}: {detail[:200]!r}")


def _address(name: str) -> str:
    """`Åse Bjørnstad` -> `ase.bjornstad@fjell.example`; nobody's real address (RFC 2606 §2).

    Each person has one domain of many: receipts to a single one would be braked.
    """
    plain = name.lower().translate(str.maketrans("øæđŋł", "oadnl"))
    letters = unicodedata.normalize("NFD", plain).encode("ascii", "ignore").decode()
    local = ".".join("".join(c for c in letters if c.isalnum() or c == " ").split())
    return f"{local}@{DOMAINS[crc32(local.encode()) % len(DOMAINS)]}.example"


def _paragraphs(text: str) -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"<p>{part}</p>" for part in escaped.split("\n\n"))
