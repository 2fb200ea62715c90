"""The page of the chat: the whole of it without script, and what the script builds on.

`?embed=1` is the same page without its frame, as the widget shows it on pages of others.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, File, Form, Request, UploadFile
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from channels.chat import web as door
from channels.web import email_address
from router import chat_letters, chat_views
from router.chat_models import Conversation
from router.errors import InvalidError, StoreUnavailableError, TooManyError
from router.files import Source
from router.web import chat_door, chat_words, phrases
from router.web.auth import hall_of, require_own_pages
from router.web.render import (
    asked_language,
    catalogue,
    content_policy,
    language_of,
    render,
    sentence,
)

if TYPE_CHECKING:
    from babel.support import NullTranslations

    from router.errors import RouterError
    from router.web.chat_door import Talk

router = APIRouter(include_in_schema=False, dependencies=[Depends(chat_door.require_enabled)])


Field = Annotated[str, Form()]


@router.get("/chat")
def page(request: Request, done: str = "") -> Response:
    """The chat: as it stands, with what can be done."""
    return _page(request, chat_door.known(request), done=done)


@router.post("/chat")
async def say(
    request: Request,
    text: Field = "",
    key: Field = "",
    website: Field = "",
    confirmed: Field = "",
    files: Annotated[Sequence[UploadFile], File()] = (),
) -> Response:
    """Say something by the plain form; on to the page that shows it."""
    require_own_pages(request)
    language = language_of(request)
    talk = await run_in_threadpool(chat_door.known, request)
    t = catalogue(language)
    if website:
        trap = {"website": t.gettext("Leave this field empty; it is there to stop robots.")}
        return await run_in_threadpool(_page, request, talk, 422, errors=trap, text=text)
    secret = ""
    try:
        if talk is None:
            talk, secret = await chat_door.begin(request, language)
        sources = [Source(f.filename, f.content_type or "", f.file) for f in files if f.filename]
        message = chat_door.Typed(key, text, sources, bool(confirmed))
        chat_door.admit(request, talk)
        await chat_door.say(request, talk, message)
    except chat_door.RefusedError as refused:
        response = await run_in_threadpool(
            _page,
            request,
            talk,
            422,
            errors=_errors(refused.problems, t),
            text=text,
            ask=refused.problems.get("text") == "national_id",
        )
    except (InvalidError, StoreUnavailableError, TooManyError) as error:
        response = await run_in_threadpool(
            _page, request, talk, error.status, error=error, text=text, key=key
        )
    else:
        response = RedirectResponse(f"{_address(request)}#latest", 303)
    if secret:
        chat_door.give_cookie(response, hall_of(request), secret)
    return response


@router.post("/chat/address")
async def give_address(
    request: Request, name: Field = "", email: Field = "", phone: Field = ""
) -> Response:
    """Note how to be reached, by the plain form. Raises `NotFoundError`."""
    talk = await run_in_threadpool(chat_door.find, request)
    problems = await chat_door.give_address(request, talk, name, email, phone)
    if problems:
        errors = _errors(problems, catalogue(talk.language))
        given = {"name": name, "email": email, "phone": phone}
        return await run_in_threadpool(_page, request, talk, 422, errors=errors, given=given)
    return RedirectResponse(_address(request, done="address"), 303)


@router.post("/chat/transcript")
async def transcript(request: Request, recipient: Field = "") -> Response:
    """Send the conversation by e-mail, by the plain form. Raises `NotFoundError`."""
    require_own_pages(request)
    talk = await run_in_threadpool(chat_door.find, request)
    hall, t = hall_of(request), catalogue(talk.language)
    email = email_address(recipient)
    if not email:
        errors = _errors({"recipient": "invalid"}, t)
        given = {"recipient": recipient}
        return await run_in_threadpool(_page, request, talk, 422, errors=errors, given=given)
    now, head = hall.clock(), hall.reply_context
    try:
        await hall.db.write(
            lambda session: chat_letters.send_transcript(
                session, head, session.get_one(Conversation, talk.id), email, now
            )
        )
    except (InvalidError, TooManyError) as error:
        return await run_in_threadpool(_page, request, talk, error.status, error=error)
    hall.outbox.wake()
    return RedirectResponse(_address(request, done="transcript"), 303)


@router.post("/chat/end")
async def end(request: Request) -> Response:
    """End the conversation, by the plain form. Raises `NotFoundError`."""
    require_own_pages(request)
    talk = await run_in_threadpool(chat_door.find, request)
    await chat_door.leave(request, talk)
    response = RedirectResponse(_address(request, done="ended"), 303)
    chat_door.take_cookie(response, hall_of(request))
    return response


def _page(
    request: Request,
    talk: Talk | None,
    status: int = 200,
    *,
    done: str = "",
    errors: dict[str, str] | None = None,
    given: dict[str, str] | None = None,
    error: RouterError | None = None,
    text: str = "",
    key: str = "",
    ask: bool = False,
) -> Response:
    hall = hall_of(request)
    language = (talk.language if talk is not None else "") or language_of(request)
    language = asked_language(request) or language
    lines: list[dict[str, Any]] = []
    standing = None
    if talk is not None:
        hall.chats.heard(talk.id)
        with hall.db.read() as session:
            said = chat_views.lines_since(session, talk.inquiry_id)
            municipality = hall.settings.municipality.name
        lines = [chat_words.line_view(line, talk.key, language, municipality) for line in said]
        standing = chat_words.standing_view(hall.chats.standing(talk.id), hall, language)
    t = catalogue(language)
    texts = _texts(t, hall.settings.municipality.name)
    failure, full = sentence(error, language) if error else "", False
    if talk is None and isinstance(error, TooManyError):
        full = True
        again = hall.clock() + timedelta(seconds=error.retry_after + 59)
        failure = texts["full"].replace("{clock}", phrases.clock(again))
    embed_on = hall.settings.channels.chat.embed_on
    headers = {
        "Content-Security-Policy": content_policy(("'self'", *embed_on)),
        "Cross-Origin-Resource-Policy": "cross-origin" if embed_on else "same-origin",
    }
    wait = getattr(error, "retry_after", 0)
    if wait:
        headers["Retry-After"] = str(wait)
    return render(
        request,
        "chat.html",
        status,
        language=language,
        headers=headers,
        talk=talk,
        lines=lines,
        standing=standing,
        greeting=chat_words.greeting(hall.chats.attendance(), hall, language),
        done=_done(done, standing, texts),
        errors=errors or {},
        given=given or standing or {},
        failure=failure,
        full=full,
        text=text,
        key=key or str(uuid.uuid4()),
        ask=ask,
        embed=bool(request.query_params.get("embed")),
        query=_query(request),
        embed_on=" ".join(embed_on),
        sms=bool(hall.reply_context.text_numbers),
        emoji=_emoji(t),
        texts=texts,
        text_limit=door.TEXT_LIMIT,
        file_limit=door.FILE_LIMIT,
        file_count=door.FILES,
        accept=",".join(sorted(door.ALLOWED_FILES)),
    )


def _query(request: Request, **more: str) -> str:
    """What must not get lost from one page to the next, with its question mark; empty for none."""
    kept = {name: request.query_params.get(name, "") for name in ("embed", "lang")}
    values = {name: value[:10] for name, value in kept.items() if value} | more
    return f"?{urlencode(values)}" if values else ""


def _address(request: Request, **more: str) -> str:
    return f"{chat_door.PATH}{_query(request, **more)}"


def _done(code: str, standing: dict[str, Any] | None, texts: dict[str, str]) -> str:
    if code == "address" and standing is not None and standing["reach"]:
        return texts["address"].replace("{address}", standing["email"] or standing["phone"])
    return texts[code] if code in {"transcript", "ended"} else ""


def _errors(problems: dict[str, str], t: NullTranslations) -> dict[str, str]:
    """Field -> what to do about it."""
    texts = _problem_texts(t)
    return {field: texts.get(f"{field} {code}", texts["other"]) for field, code in problems.items()}


def _problem_texts(t: NullTranslations) -> dict[str, str]:
    bad_email = t.gettext("The e-mail address does not look right. Example: ola@example.no")
    return {
        "text missing": t.gettext("Write what it is about."),
        "text too_long": t.gettext("The message is too long: at most 4,000 characters."),
        "text national_id": t.gettext(
            "This looks like a national identity number. Do you want to send it all the same?"
        ),
        "files too_many": t.gettext("At most 3 files with a message, and 12 in all."),
        "files too_large": t.gettext("A file is larger than 10 MB."),
        "files not_allowed": t.gettext(
            "We take pictures, PDF, text and office documents here, no other files."
        ),
        "files virus": t.gettext("A virus was found in the file, so we did not take it."),
        "email missing": t.gettext("Give an e-mail address or a phone number."),
        "email invalid": bad_email,
        "recipient invalid": bad_email,
        "phone invalid": t.gettext("Give a mobile number. Example: 900 00 000"),
        "other": t.gettext("Go back, look through what you filled in, and try again."),
    }


def _emoji(t: NullTranslations) -> list[tuple[str, str]]:
    return [
        ("🙂", t.gettext("smile")),
        ("😀", t.gettext("laughter")),
        ("😉", t.gettext("wink")),
        ("😢", t.gettext("sad")),
        ("😮", t.gettext("surprised")),
        ("👍", t.gettext("thumbs up")),
        ("👎", t.gettext("thumbs down")),
        ("🙏", t.gettext("thank you")),
        ("❤️", t.gettext("heart")),
        ("🎉", t.gettext("hooray")),
    ]


def _texts(t: NullTranslations, municipality: str) -> dict[str, str]:
    """What the script says by itself."""
    return {
        **_problem_texts(t),
        "you": t.gettext("You"),
        "sending": t.gettext("Sending …"),
        "waiting": t.gettext("Not sent yet. We keep trying."),
        "sent": t.gettext("Sent"),
        "read": t.gettext("Read"),
        "lost": t.gettext("No connection. We keep trying, and nothing you have written is lost."),
        "busy": t.gettext("You write faster than we can take in. It is sent in a moment."),
        "full": t.gettext(
            "Your message has not been sent, because many conversations have been opened from your"
            " network just now. It still stands in the field. Try again at {clock}."
        ),
        "form": t.gettext("Write to us with the form instead"),
        "back": t.gettext("Connected again."),
        "typing": t.gettext("{name} is writing …"),
        "over": t.gettext("The earlier conversation has ended. This is a new one."),
        "address": t.gettext(
            "Thank you. If you are not here when we answer, we send the answer to {address}."
        ),
        "where": t.gettext("Where can we answer you?"),
        "change": t.gettext("Change where we answer you"),
        "transcript": t.gettext("The conversation is on its way by e-mail."),
        "refused": t.gettext("That did not work. Try again in a moment."),
        "ended": t.gettext("The conversation has ended."),
        "remove": t.gettext("Remove {name}"),
        "new": t.gettext("New messages"),
        "us": municipality,
    }
