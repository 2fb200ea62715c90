"""The chat as the script of its page speaks it: JSON in, Server-Sent Events out.

Whoever is asking is known by a cookie that no script can read. What is not theirs does not exist:
a wrong cookie, a wrong conversation and one that is over get the same answer. Messages are taken
once, however often they are sent; a stream goes on after the last message that the page has seen.

Plain routes of Starlette's, looked at before all others: what everybody who chats asks every second
is worth it (docs/adr/0013).
"""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import orjson
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import select
from sqlmodel import col
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route

from channels.base import Mark
from channels.chat.web import TEXT_LIMIT
from channels.web import email_address
from router import chat, chat_letters, chat_views
from router.blobs import blob_path
from router.chat_live import Typing
from router.chat_models import CHANNEL, Conversation
from router.chat_views import Side
from router.errors import InvalidError, NotFoundError
from router.files import UNKNOWN, Source, kind_of
from router.models import Direction, Message, StoredAttachment
from router.web import chat_door, chat_words, limits
from router.web.auth import hall_of, require_own_pages
from router.web.downloads import SERVED_AS, send_file
from router.web.render import LANGUAGES
from router.web.stream import EventStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.types import Scope

    from router.hall import Hall
    from router.web.chat_door import Talk

LOOKS = limits.Rate("chat look", 120, 60)
"""Looks at whether somebody is there, from one address."""
STREAMS = limits.Rate("chat stream", 240, 60)
"""Streams opened in one conversation: as often as the pages of a browser come back to a service
that goes up and down."""
SIGNS = limits.Rate("chat sign", 120, 60)
"""Signs of typing and reading in one conversation."""


class _Input(BaseModel):
    model_config = ConfigDict(extra="ignore")


Body = TypeVar("Body", bound=_Input)


class NewConversation(_Input):
    """A chat about to begin. `website` is for robots."""

    language: str = Field("", max_length=10)
    website: str = Field("", max_length=1000)


class NewMessage(_Input):
    """Something said; `client_msg_id` is a UUID of the browser's own."""

    client_msg_id: str = Field(max_length=100)
    text: str = Field("", max_length=2 * TEXT_LIMIT)
    confirmed: bool = False


class Seen(_Input):
    """The last message that was seen."""

    message_id: int = Field(ge=0, le=chat_door.LARGEST)


class NewAddress(_Input):
    """How to be reached."""

    name: str = Field("", max_length=200)
    email: str = Field("", max_length=1000)
    phone: str = Field("", max_length=100)


class Recipient(_Input):
    """Where to send the conversation."""

    email: str = Field("", max_length=1000)


def presence(request: Request) -> Response:
    """Say whether somebody is there."""
    chat_door.require_enabled(request)
    limits.take(request, LOOKS)
    hall = hall_of(request)
    language = request.query_params.get("language", "")
    there = hall.chats.attendance()
    words = chat_words.greeting(there, hall, language if language in LANGUAGES else "nb")
    return JSONResponse({"open": there.open, "there": there.there, "greeting": words})


async def open_conversation(request: Request) -> Response:
    """Open a conversation; the cookie that comes with the answer opens it from now on."""
    chat_door.require_enabled(request)
    body = await _body(request, NewConversation)
    if body.website:
        raise InvalidError("Leave this field empty; it is there to stop robots.")
    talk, secret = await chat_door.begin(request, body.language)
    response = JSONResponse({"id": talk.key}, 201)
    chat_door.give_cookie(response, hall_of(request), secret)
    return response


async def say(request: Request) -> Response:
    """Take in what the resident says; a second time with the same id changes nothing."""
    talk = await chat_door.recall(request)
    chat_door.admit(request, talk)
    try:
        async with _message(request) as message:
            spoken = await chat_door.say(request, talk, message)
    except chat_door.RefusedError as refused:
        return JSONResponse({"problems": refused.problems}, 422)
    content = {"id": spoken.message_id, "at": spoken.at.isoformat(), "duplicate": spoken.duplicate}
    return JSONResponse(content, 200 if spoken.duplicate else 201)


def messages(request: Request) -> Response:
    """What is new, for pages that can keep no stream open."""
    after = chat_door.message_id_of(request.query_params.get("after") or "0")
    talk = chat_door.find_named(request)
    request.app.state.limits.take(SIGNS, talk.key)
    hall = hall_of(request)
    hall.chats.heard(talk.id)
    with hall.db.read() as session:
        lines = chat_views.lines_since(session, talk.inquiry_id, after)
    standing = hall.chats.standing(talk.id)
    return JSONResponse(
        {
            "messages": [_line(line, talk, hall) for line in lines],
            "standing": chat_words.standing_view(standing, hall, talk.language),
        }
    )


async def events(request: Request) -> Response:
    """Follow the conversation: `message` (its id is the event's), `standing`, `typing`."""
    require_own_pages(request)
    seen = request.headers.get("last-event-id") or request.query_params.get("after")
    last = chat_door.message_id_of(seen or "0")
    talk = await run_in_threadpool(chat_door.find_named, request)
    request.app.state.limits.take(STREAMS, talk.key)
    hall = hall_of(request)
    return EventStream(_frames(hall, talk, last), hall.chats.room(talk.id, Side.RESIDENT))


async def typing(request: Request) -> Response:
    """Tell the other side that something is being written. Nothing is kept."""
    talk = await _sign(request, anew=False)
    hall_of(request).chats.typing(talk.id, Side.RESIDENT)
    return Response(status_code=204)


async def read(request: Request) -> Response:
    """Note how far our messages have been seen."""
    talk = await _sign(request, anew=False)
    body = await _body(request, Seen)
    hall = hall_of(request)
    await hall.db.write(
        lambda session: chat.read_by_resident(session, talk.id, body.message_id), patient=True
    )
    hall.chats.changed(talk.id)
    return Response(status_code=204)


async def contact(request: Request) -> Response:
    """Note how the resident can be reached when they have left."""
    talk = await _sign(request)
    body = await _body(request, NewAddress)
    problems = await chat_door.give_address(request, talk, body.name, body.email, body.phone)
    return JSONResponse({"problems": problems}, 422) if problems else Response(status_code=204)


async def transcript(request: Request) -> Response:
    """Send the conversation by e-mail."""
    talk = await _sign(request)
    body = await _body(request, Recipient)
    hall = hall_of(request)
    email = email_address(body.email)
    if not email:
        return JSONResponse({"problems": {"email": "invalid"}}, 422)
    now, head = hall.clock(), hall.reply_context
    await hall.db.write(
        lambda session: chat_letters.send_transcript(
            session, head, session.get_one(Conversation, talk.id), email, now
        )
    )
    hall.outbox.wake()
    return Response(status_code=204)


async def leave(request: Request) -> Response:
    """End the conversation; what is unanswered stays an inquiry."""
    talk = await _sign(request)
    await chat_door.leave(request, talk)
    response = Response(status_code=204)
    chat_door.take_cookie(response, hall_of(request))
    return response


def file(request: Request) -> Response:
    """A file of the conversation, always as a download. Raises `NotFoundError`."""
    talk = chat_door.find_named(request)
    number = chat_door.message_id_of(request.path_params["number"])
    hall = hall_of(request)
    query = (
        select(StoredAttachment, col(Message.marks))
        .join(Message, col(Message.id) == col(StoredAttachment.message_id))
        .where(
            col(StoredAttachment.id) == number,
            col(Message.inquiry_id) == talk.inquiry_id,
            col(Message.channel) == CHANNEL,
            col(Message.direction) != Direction.NOTE,
        )
    )
    with hall.db.read() as session:
        found = session.execute(query).first()
    if found is None or talk.inquiry_id is None or Mark.QUARANTINED in found[1]:
        raise NotFoundError
    stored = found[0]
    path = blob_path(hall.settings.blobs, stored.sha256)
    try:
        kind = kind_of(path)
    except FileNotFoundError:
        raise NotFoundError from None
    return send_file(path, stored.filename, kind if kind in SERVED_AS else UNKNOWN)


@asynccontextmanager
async def _message(request: Request) -> AsyncIterator[chat_door.Typed]:
    """What was said, as JSON or, with files, as a form. Raises `RefusedError`, `InvalidError`."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        try:
            fields = orjson.loads(await request.body())
        except orjson.JSONDecodeError:
            raise InvalidError("The body must be JSON in UTF-8.") from None
        yield _typed(fields, [])
        return
    async with request.form(max_files=10, max_fields=10) as form:
        yield _typed(
            {name: value for name, value in form.items() if isinstance(value, str)},
            [
                Source(one.filename, one.content_type or "", one.file)
                for one in form.getlist("files")
                if isinstance(one, UploadFile) and one.filename
            ],
        )


def _typed(fields: Any, files: list[Source]) -> chat_door.Typed:
    try:
        message = NewMessage.model_validate(fields)
    except ValidationError as error:
        long = any((f["loc"], f["type"]) == (("text",), "string_too_long") for f in error.errors())
        raise chat_door.RefusedError({"text": "too_long" if long else "invalid"}) from None
    return chat_door.Typed(message.client_msg_id, message.text, files, message.confirmed)


async def _body(request: Request, shape: type[Body]) -> Body:
    """What was sent, as JSON. Raises `RequestValidationError`."""
    try:
        return shape.model_validate_json(await request.body())
    except ValidationError as error:
        raise RequestValidationError(
            [{**one, "loc": ("body", *one["loc"])} for one in error.errors()]
        ) from None


async def _sign(request: Request, *, anew: bool = True) -> Talk:
    """The conversation of a small request, of which there may not be too many; `anew`: as it
    stands now."""
    require_own_pages(request)
    if anew:
        talk = await run_in_threadpool(chat_door.find_named, request)
    else:
        talk = await chat_door.recall(request)
    request.app.state.limits.take(SIGNS, talk.key)
    return talk


async def _frames(hall: Hall, talk: Talk, after: int) -> AsyncIterator[bytes]:
    yield b"retry: 2000\n: welcome\n\n"
    async with aclosing(hall.chats.follow(talk.id, Side.RESIDENT, after)) as updates:
        async for update in updates:
            if update is None:
                yield b": ping\n\n"
            elif isinstance(update, Typing):
                yield b"event: typing\ndata: {}\n\n"
            elif isinstance(update, chat_views.Line):
                data = orjson.dumps(_line(update, talk, hall))
                yield b"id: %d\nevent: message\ndata: %s\n\n" % (update.id, data)
            else:
                data = orjson.dumps(chat_words.standing_view(update, hall, talk.language))
                yield b"event: standing\ndata: %s\n\n" % data


def _line(line: chat_views.Line, talk: Talk, hall: Hall) -> dict[str, Any]:
    municipality = hall.settings.municipality.name
    return chat_words.line_view(line, talk.key, talk.language, municipality)


class _Route(Route):
    """A route that says which one it is, as FastAPI's do: requests are counted by it."""

    def __init__(self, method: str, path: str, endpoint: Callable[[Request], Any]) -> None:
        super().__init__(path, endpoint, methods=[method], include_in_schema=False)
        # Starlette adds HEAD to GET. Where one may be answered at all, it comes as a GET.
        self.methods = {method}

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, found = super().matches(scope)
        if found:
            found["route"] = self
        return match, found


_TALK = "/chat/conversations/{key}"

# What is asked most comes first.
ROUTES = [
    _Route(method, path, endpoint)
    for method, path, endpoint in (
        ("POST", f"{_TALK}/messages", say),
        ("POST", f"{_TALK}/typing", typing),
        ("POST", f"{_TALK}/read", read),
        ("GET", f"{_TALK}/events", events),
        ("GET", f"{_TALK}/messages", messages),
        ("GET", f"{_TALK}/files/{{number}}", file),
        ("POST", f"{_TALK}/contact", contact),
        ("POST", f"{_TALK}/transcript", transcript),
        ("POST", f"{_TALK}/leave", leave),
        ("POST", "/chat/conversations", open_conversation),
        ("GET", "/chat/presence", presence),
    )
]
