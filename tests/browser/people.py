"""Who comes to the pages: staff and residents, each with a browser profile of their own.

Whatever a page writes to its console as an error is held against the test that opened it.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import SMTP
from typing import TYPE_CHECKING, Any

from playwright.sync_api import expect
from sqlalchemy import text as sql

from router import credentials, passwords, staff
from router.models import CredentialKind, Role
from router.web.auth import LOGIN
from tests.service import TOWN_HALL, mail, unique

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page

    from tests.service import Received, Service, Sink

POTHOLE = "Det er et stort hull i veien ved nummer 12. Kan dere fikse det?"
EMERGENCY = "Det brenner i huset vårt, send hjelp!"
PASSWORD = "hemmelig-men-lang-nok"

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
"""One pixel."""

REFUSED = r"server responded with a status of (401|404|409|410|422|429)"
"""What the browser itself remarks when a page answers with such a status."""


@dataclass(frozen=True)
class Person:
    """Somebody with an account."""

    id: int
    name: str
    username: str


@dataclass
class Visitors:
    """Opens browsers at one service, and remembers what they complained of."""

    browser: Browser
    service: Service
    complaints: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=lambda: [REFUSED])
    """Patterns of complaints that the test causes on purpose."""
    _contexts: list[BrowserContext] = field(default_factory=list)

    def resident(self, **options: Any) -> Page:
        """A page of somebody without an account. Options as of `Browser.new_context`."""
        context = self.browser.new_context(
            **{"base_url": self.service.url, "locale": "nb-NO", **options}
        )
        self._contexts.append(context)
        context.on("console", self._on_console)
        context.on("weberror", lambda event: self.complaints.append(str(event.error)))
        return context.new_page()

    def staff(
        self, person: Person | None = None, path: str = "/desk/queue", **options: Any
    ) -> Page:
        """A page of somebody who is signed in already; an operator unless told otherwise."""
        page = self.resident(**options)
        sign_in_quietly(self.service, page, person or employ(self.service))
        page.goto(path)
        return page

    def close(self) -> None:
        for context in self._contexts:
            context.close()

    @property
    def unexpected(self) -> list[str]:
        return [
            text
            for text in self.complaints
            if not any(re.search(pattern, text) for pattern in self.expected)
        ]

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error" or "Content Security Policy" in message.text:
            self.complaints.append(f"{message.text} ({message.location['url']})")


def employ(
    service: Service,
    name: str = "Siv Sentral",
    role: str = "operator",
    *departments: str,
    username: str = "",
    password: str = "",
) -> Person:
    """Give somebody an account."""
    username = username or unique("u")[2:]
    hashed = passwords.hash_password(password) if password else None
    number = service.write(
        lambda session: (
            staff.add_staff(
                session, username, name, Role(role), departments, hashed, datetime.now(UTC)
            ).id
        )
    )
    return Person(number or 0, name, username)


def sign_in_quietly(service: Service, page: Page, person: Person) -> None:
    """Give a browser the cookie of a session, as a sign-in would."""
    secret = service.write(
        lambda session: credentials.open_session(session, person.id, 8, datetime.now(UTC))
    )
    page.context.add_cookies(
        [
            {
                "name": "sentralbord",
                "value": secret,
                "url": service.url,
                "httpOnly": True,
                "sameSite": "Lax",
            }
        ]
    )


def sign_in_link(service: Service, person: Person) -> str:
    """A link that signs somebody in once."""
    now = datetime.now(UTC)
    secret = service.write(
        lambda session: credentials.issue(
            session,
            CredentialKind.ONE_TIME,
            person.id,
            now,
            expires_at=now + timedelta(minutes=5),
        )
    )
    return f"{LOGIN}?once={secret}"


def tab_to(page: Page, target: Locator, key: str = "Tab") -> None:
    """Press Tab until the focus is there."""
    for _ in range(100):
        if target.count() and target.evaluate("element => element === document.activeElement"):
            return
        page.keyboard.press(key)
    raise AssertionError(f"{target} cannot be reached by {key}")


def row(page: Page, subject: str) -> Locator:
    """The line of the queue with this subject."""
    return page.get_by_role("row").filter(has_text=subject)


def announced(page: Page, text: str | re.Pattern[str]) -> None:
    """Wait until a polite live region says this."""
    expect(page.get_by_role("status").filter(has_text=text)).to_have_count(1)


def write_in(service: Service, subject: str = "", text: str = POTHOLE, **more: str) -> str:
    """A mail of a resident nobody has heard of; returns its subject."""
    subject = subject or unique("Hull i veien")
    sender = more.pop("sender", "") or f"{unique('x')[2:]}@eksempel.no"
    code, answer = service.deliver(
        mail(subject, text, sender=f"Kari Nordmann <{sender}>", **more), mail_from=sender
    )
    assert code == 250, answer
    return subject


def answer_to(smarthost: Sink, sender: str) -> Received:
    """The mail that a person of ours wrote, beside the receipt. Each goes out when a connection is
    free, so it may be the first of the two."""
    [answer] = [one for one in smarthost.first_to(sender, 2) if not one["Auto-Submitted"]]
    return answer


def formatted_mail(service) -> str:
    """A mail in HTML with a picture of its own and much that must not work; returns its subject."""
    subject = unique("Bilde av hull i veien")
    letter = EmailMessage(policy=SMTP)
    letter["From"] = "Kari Nordmann <kari@eksempel.no>"
    letter["To"] = TOWN_HALL
    letter["Subject"] = subject
    letter["Message-ID"] = f"<{unique('x')[2:]}@eksempel.no>"
    letter.set_content("Se bildet.")
    remote = f"{service.url}/static/icon.svg"
    letter.add_alternative(
        f"""<h2>Hullet</h2><img src="cid:hull@x" alt="Hullet"><img src="{remote}" alt="Utenfra">
        <a href="{service.url}/finnes-ikke">Klikk her</a>
        <script>top.document.title = "overtatt"</script>
        <form action="{service.url}/"><button>Send</button></form>
        <p style="position:fixed;top:0" onclick="alert(1)">Hilsen Kari</p>""",
        subtype="html",
    )
    html: Any = letter.get_payload(1)
    html.add_related(PNG, "image", "png", cid="<hull@x>")
    code, answer = service.deliver(letter.as_bytes(), mail_from="kari@eksempel.no")
    assert code == 250, answer
    return subject


def set_aside(service: Service, *refs: str) -> None:
    """Let inquiries stand aside, as mass mailings."""

    def job(session: Any) -> None:
        for ref in refs:
            for statement in (
                "UPDATE inquiry SET status = 'aside' WHERE ref = :ref",
                "UPDATE message SET kind = 'bulk' WHERE direction = 'in' AND inquiry_id ="
                " (SELECT id FROM inquiry WHERE ref = :ref)",
            ):
                session.connection().execute(sql(statement), {"ref": ref})

    service.write(job)


def mark(service: Service, ref: str, sender_check: str, *marks: str) -> int:
    """Let the message that opened an inquiry be marked; returns its id."""
    [(number,)] = service.read(
        "SELECT min(message.id) FROM message JOIN inquiry ON inquiry.id = inquiry_id"
        " WHERE ref = :ref",
        ref=ref,
    )
    values = {"id": number, "check": sender_check, "marks": json.dumps(marks)}
    statement = sql("UPDATE message SET sender_check = :check, marks = :marks WHERE id = :id")
    service.write(lambda session: session.connection().execute(statement, values))
    return int(number)
