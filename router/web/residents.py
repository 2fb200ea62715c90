"""Pages for residents: the contact form, one's own inquiry by its secret link, what the law asks.

Everything but the chat works without cookies, all of it without script.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Form, Request
from sqlalchemy import select
from sqlmodel import Session, col
from starlette.responses import RedirectResponse, Response

from channels import web
from router import queue, thread_views
from router.chat import LONGEST
from router.chat_models import CHANNEL as CHAT
from router.errors import (
    InvalidError,
    NotFoundError,
    RouterError,
    StoreUnavailableError,
    TooManyError,
)
from router.letters import letter_language
from router.models import ContactAddress, Inquiry, ReplyState
from router.web import chat_door, chat_words, limits, phrases
from router.web.auth import hall_of
from router.web.messages import ShownMessage, as_read
from router.web.render import (
    LANGUAGES,
    accepted_language,
    asked_language,
    catalogue,
    language_of,
    nonce,
    render,
    sentence,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from babel.support import NullTranslations

    from router.sections import Department
    from router.thread_views import ThreadMessage
    from rules.calendar import WorkingCalendar

router = APIRouter(include_in_schema=False)

STATUS = limits.Rate("status", 60, 60)
"""Looks at status pages from one address."""

LOOK_AHEAD = 60
"""Days in which the next opening is looked for."""

_SHOWN_KINDS = frozenset({"reply", "receipt", "emergency"})
_EMPTY = web.FormSubmission(key="", name="", email="", phone="", subject="", text="")


Field = Annotated[str, Form()]


@router.get("/")
def contact_page(request: Request) -> Response:
    """How to reach the municipality, with the form."""
    return _contact(request, _EMPTY, nonce())


@router.post("/")
async def send(
    request: Request,
    text: Field = "",
    subject: Field = "",
    name: Field = "",
    email: Field = "",
    phone: Field = "",
    website: Field = "",
    key: Field = "",
) -> Response:
    """Take a message in; on to its own page. What is wrong is said beside the fields."""
    hall = hall_of(request)
    form = web.FormSubmission(
        key=_key(key, name, email, phone, subject, text),
        name=name,
        email=email,
        phone=phone,
        subject=subject,
        text=text,
        # What the person reads; empty, when neither page nor browser tells, leaves it to the text.
        language=asked_language(request)
        or accepted_language(request.headers.get("accept-language", ""), default=""),
    )
    errors = _errors(web.check(form), catalogue(language_of(request)))
    if website:
        t = catalogue(language_of(request))
        errors["website"] = t.gettext("Leave this field empty; it is there to stop robots.")
    if errors:
        return _contact(request, form, key, 422, errors=errors, trap=website)
    try:
        limits.take(request, limits.PUBLIC_FORM)
        receipt = await hall.reception.receive_form(form)
    except (InvalidError, StoreUnavailableError, TooManyError) as error:
        # After a refused key a fresh one; else the same, so that a second try is the same message.
        return _contact(
            request, form, nonce() if isinstance(error, InvalidError) else key, error=error
        )
    token = hall.signer.sign("status", receipt.inquiry_id)
    language = asked_language(request)
    return RedirectResponse(
        f"/status/{token}?sent=1" + (f"&lang={language}" if language else ""), 303
    )


@router.get("/status/{token}")
def status_page(request: Request, token: str, sent: str = "") -> Response:
    """One's own inquiry. A token that is not ours and one of an erased inquiry look the same.

    Raises `NotFoundError`, `TooManyError`.
    """
    limits.take(request, STATUS)
    hall = hall_of(request)
    number = hall.signer.verify("status", token)
    if number is None:
        raise NotFoundError
    with hall.db.read() as session:
        inquiry = queue.by_id(session, number)
        thread = thread_views.messages(session, number)
        chosen = asked_language(request) or inquiry.language
        language = chosen if chosen in LANGUAGES else _understood(request, chosen)
        if inquiry.channel == CHAT:
            messages = _said(thread, language)
        else:
            messages = _own_messages(session, inquiry, thread)
    department = hall.settings.departments.get(inquiry.department)
    return render(
        request,
        "status.html",
        language=language,
        row=inquiry,
        department=department,
        elsewhere=_elsewhere(inquiry, department, thread),
        late=inquiry.reply_state is ReplyState.UNANSWERED and inquiry.due_at <= hall.clock(),
        messages=messages,
        hidden_text=bool(inquiry.sensitivity),
        by_mail=any(one.message.direction == "out" for one in messages),
        receipt_to=any(one.message.kind == "receipt" for one in messages),
        sent=bool(sent),
        status_url=hall.status_url(number),
    )


@router.get("/tilgjengelighet")
def accessibility(request: Request) -> Response:
    """The accessibility statement."""
    return render(request, "accessibility.html")


@router.get("/personvern")
def privacy(request: Request) -> Response:
    """What happens to what residents send (personvernforordningen art. 13)."""
    hall = hall_of(request)
    chats = hall.settings.channels.chat.enabled
    return render(
        request,
        "privacy.html",
        cookie=chat_door.cookie_name(hall) if chats else "",
        cookie_days=LONGEST.days,
    )


def opening_words(
    calendar: WorkingCalendar, now: datetime, language: str, t: NullTranslations
) -> str:
    """Opening hours as of now: today's, and when we open next."""
    today = calendar.local_date(now)
    spans = calendar.spans(today)
    hours = ", ".join(f"{start:%H:%M}–{end:%H:%M}" for start, end in spans)
    if calendar.is_open(now):
        return t.gettext("We are open now. Today: %(hours)s.") % {"hours": hours}
    clock = now.astimezone(phrases.ZONE).time()
    if spans and clock < spans[-1][0]:
        return t.gettext("Closed right now. Today: %(hours)s.") % {"hours": hours}
    for ahead in range(1, LOOK_AHEAD):
        day = today + timedelta(days=ahead)
        if calendar.spans(day):
            opens = datetime.combine(day, calendar.spans(day)[0][0], phrases.ZONE)
            return t.gettext("Closed now. We open again %(day)s at %(time)s.") % {
                "day": phrases.day(opens, language),
                "time": phrases.clock(opens),
            }
    return t.gettext("Closed now.")


def _contact(
    request: Request,
    form: web.FormSubmission,
    key: str,
    status: int = 200,
    *,
    errors: dict[str, str] | None = None,
    error: RouterError | None = None,
    trap: str = "",
) -> Response:
    hall = hall_of(request)
    language = language_of(request)
    wait = getattr(error, "retry_after", 0)
    return render(
        request,
        "contact.html",
        error.status if error else status,
        headers={"Retry-After": str(wait)} if wait else None,
        form=form,
        key=key or nonce(),
        errors=errors or {},
        failure=sentence(error, language) if error else "",
        trap=trap,
        hours=opening_words(hall.calendar, hall.clock(), language, catalogue(language)),
        chat=chat_words.greeting(hall.chats.attendance(), hall, language)
        if hall.settings.channels.chat.enabled
        else "",
    )


def _key(key: str, *fields: str) -> str:
    """One per form and content: a double click is one message, a changed text is another."""
    if not key:
        return ""
    content = "\0".join((key, *fields))
    return hashlib.sha256(content.encode("utf-8", "replace")).hexdigest()


def _errors(problems: dict[str, str], t: NullTranslations) -> dict[str, str]:
    """Field -> what to do about it."""
    texts = {
        ("text", "missing"): t.gettext("Write what it is about."),
        ("text", "too_long"): t.gettext("The text is too long. Shorten it, or send it by e-mail."),
        ("subject", "too_long"): t.gettext("The subject is too long."),
        ("name", "too_long"): t.gettext("The name is too long."),
        ("email", "missing"): t.gettext("Give an e-mail address or a phone number."),
        ("email", "invalid"): t.gettext(
            "The e-mail address does not look right. Example: ola@example.no"
        ),
        ("phone", "invalid"): t.gettext(
            "The phone number does not look right. Example: 900 00 000"
        ),
    }
    return {field: texts[field, code] for field, code in problems.items()}


def _elsewhere(
    inquiry: Inquiry, department: Department | None, thread: Sequence[ThreadMessage]
) -> str:
    """Who answers when it is not us, as the receipt said: `forwarded` to them, or `referred`."""
    if department is None or not department.external:
        return ""
    if any(message.kind == "forward" for message in thread):
        return "forwarded"
    return "" if inquiry.sensitivity or inquiry.emergency else "referred"


def _understood(request: Request, language: str) -> str:
    """The language that a browser asks for, else that of letters to somebody who wrote in this
    one."""
    header = request.headers.get("accept-language", "")
    return accepted_language(header, default=letter_language(language))


def _said(thread: Sequence[ThreadMessage], language: str) -> list[ShownMessage]:
    """What was said in a chat, as the chat shows it; of letters only that there were some. The link
    is known to everybody who had the chat open, and letters are not for all of them."""
    return [
        ShownMessage(message, message.text, "")
        if message.channel == CHAT
        else ShownMessage(
            replace(message, attachments=[]), chat_words.by_letter(language, message.channel), ""
        )
        for message in thread
        if (message.channel == CHAT and message.direction != "note")
        or (message.direction == "out" and message.kind in _SHOWN_KINDS)
    ]


def _own_messages(
    session: Session, inquiry: Inquiry, thread: Sequence[ThreadMessage]
) -> list[ShownMessage]:
    """What the resident has written to us and we to them; no notes, nothing from others."""
    own = {inquiry.sender_address} | set(
        session.execute(
            select(col(ContactAddress.value)).where(
                col(ContactAddress.contact_id) == inquiry.contact_id
            )
        ).scalars()
    )

    def theirs(message: ThreadMessage) -> bool:
        if message.direction == "in":
            return message.kind == "contact" and message.sender_address in own
        return message.direction == "out" and message.kind in _SHOWN_KINDS

    return [as_read(message) for message in thread if theirs(message)]
