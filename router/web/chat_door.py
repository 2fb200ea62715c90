"""What the page and the interface of the chat share: who is asking, what they hand in, and taking
it in."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from channels.base import Mark
from channels.chat import web as door
from channels.numbers import e164, is_mobile
from channels.text import typed
from channels.web import email_address
from router import chat, chat_files, chat_queue, chat_said
from router.blobs import blob_path
from router.chat_models import Conversation, ConversationState
from router.errors import InvalidError, NotFoundError
from router.files import NOT_ALLOWED, Source, keep_file
from router.privacy import mask_text
from router.routing import build_targets
from router.tokens import hash_secret
from router.web import limits
from router.web.auth import hall_of, require_own_pages
from rules.decide import emergency_words
from rules.targets import reply_due

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from starlette.responses import Response

    from router.hall import Hall
    from router.preparing import KeptFile
    from rules.targets import DueDate

PATH = "/chat"
LARGEST = 2**63 - 1
"""Of the ids in the store."""
_SECONDS = int(chat.LONGEST.total_seconds())


class RefusedError(InvalidError):
    """A message that cannot be taken as it is: `problems` says what is wrong with which field."""

    def __init__(self, problems: dict[str, str]) -> None:
        super().__init__(", ".join(f"{field}: {code}" for field, code in problems.items()))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Talk:
    """Whose browser is asking, as of now."""

    id: int
    key: str
    state: ConversationState
    language: str
    name: str
    email: str
    phone: str
    inquiry_id: int | None


@dataclass(frozen=True, slots=True)
class Typed:
    """A message as somebody typed it, with the files they chose."""

    client_id: str
    text: str
    files: Sequence[Source] = ()
    confirmed: bool = False
    """They were asked about a fødselsnummer and want to send it all the same."""


class Talks:
    """Talks that have begun, by the hash of their secret; those asked for last."""

    def __init__(self, size: int = 10_000) -> None:
        self._size = size
        self._talks: OrderedDict[str, Talk] = OrderedDict()

    def get(self, name: str) -> Talk | None:
        """One of them."""
        return self._talks.get(name)

    def keep(self, name: str, talk: Talk) -> None:
        """Remember one, and forget the oldest when there are too many."""
        self._talks[name] = talk
        while len(self._talks) > self._size:
            self._talks.popitem(last=False)

    def forget(self, key: str) -> None:
        """It is over."""
        for name in [name for name, talk in self._talks.items() if talk.key == key]:
            del self._talks[name]


def require_enabled(request: Request) -> None:
    """Raises `NotFoundError` where there is no chat."""
    if not hall_of(request).settings.channels.chat.enabled:
        raise NotFoundError


def cookie_name(hall: Hall) -> str:
    """Not `__Host-`: that would be sent with every page of ours, and the chat is at `/chat`."""
    return "__Secure-sentralbord-chat" if _secure(hall) else "sentralbord-chat"


def give_cookie(response: Response, hall: Hall, secret: str) -> None:
    """Let the browser keep the secret of a conversation."""
    response.raw_headers.append((b"set-cookie", _cookie(hall, secret, _SECONDS)))


def take_cookie(response: Response, hall: Hall) -> None:
    """Let it forget it."""
    response.raw_headers.append((b"set-cookie", _cookie(hall, "", 0)))


def find(request: Request, key: str | None = None) -> Talk:
    """The conversation of this browser, which must be called `key` where one is given. For worker
    threads. Raises `NotFoundError`."""
    hall = hall_of(request)
    secret = request.cookies.get(cookie_name(hall), "")
    with hall.db.read() as session:
        return _talk(chat.find(session, secret, hall.clock(), key))


def find_named(request: Request) -> Talk:
    """`find` for a request that names the conversation: where there is a chat."""
    require_enabled(request)
    return find(request, request.path_params["key"])


async def recall(request: Request) -> Talk:
    """`find_named` for what a page asks every second: what began before is not read anew.

    What is remembered does not change any more; whether a talk is over, and how its resident can
    be reached, is for who writes or shows that to look up. Raises `NotFoundError`.
    """
    talks: Talks = request.app.state.talks
    talk = talks.get(_name(request))
    if talk is None or talk.key != request.path_params["key"]:
        talk = await run_in_threadpool(find_named, request)
        if talk.inquiry_id is not None:
            talks.keep(_name(request), talk)
    return talk


def _name(request: Request) -> str:
    return hash_secret(request.cookies.get(cookie_name(hall_of(request)), ""))


def known(request: Request) -> Talk | None:
    """The conversation of this browser; None for a stranger."""
    try:
        return find(request)
    except NotFoundError:
        return None


async def begin(request: Request, language: str) -> tuple[Talk, str]:
    """Open a conversation for a browser; returns it and its secret.

    Raises `ForbiddenError` for pages of others, `TooManyError`, `StoreUnavailableError`.
    """
    require_own_pages(request)
    hall = hall_of(request)
    per_hour = hall.settings.channels.chat.conversations_per_hour
    limits.take(request, limits.Rate("chat", per_hour, 3600))
    now = hall.clock()
    conversation, secret = await hall.db.write(
        lambda session: chat.open_conversation(session, language, now)
    )
    return _talk(conversation), secret


def admit(request: Request, talk: Talk) -> None:
    """Let a message in, before it is read. Raises `ForbiddenError` for pages of others,
    `TooManyError`."""
    require_own_pages(request)
    per_minute = hall_of(request).settings.channels.chat.messages_per_minute
    request.app.state.limits.take(limits.Rate("chat message", per_minute, 60), talk.key)


async def say(request: Request, talk: Talk, message: Typed) -> chat_said.Spoken:
    """Take in what a resident says, who was admitted; returns when it is kept.

    Raises `RefusedError`, `NotFoundError` when the conversation is over, `InvalidError`,
    `StoreUnavailableError`.
    """
    hall = hall_of(request)
    text = typed(message.text).strip()
    content = door.ChatMessage(
        message.client_id, text, talk.name, talk.email, talk.phone, talk.language
    )
    problems = door.check(content)
    if message.files and problems.get("text") == "missing":
        del problems["text"]
    if message.files and not await run_in_threadpool(_takes_files, hall, talk, len(message.files)):
        problems["files"] = "too_many"
    if not problems and not message.confirmed and mask_text(text) != text:
        problems["text"] = "national_id"
    if problems:
        raise RefusedError(problems)
    files = await run_in_threadpool(_keep, hall, message.files) if message.files else []
    marks = await _scan(hall, files)
    if talk.inquiry_id is None:
        return await _say_first(hall, talk, content, files, marks)
    now = hall.clock()
    said = chat_said.Said(
        conversation_id=talk.id,
        client_id=door.client_id(message.client_id),
        text=text,
        at=now,
        emergency=emergency_words(hall.ruleset, text),
        due_of=partial(_due, hall, now),
        files=tuple(files),
        marks=marks,
    )
    return await hall.db.write_together(
        chat_said.say_together, (hall.reply_context, said), patient=True
    )


async def give_address(
    request: Request, talk: Talk, name: str, email: str, phone: str
) -> dict[str, str]:
    """Note how the resident can be reached; returns what is wrong, by field.

    Raises `ForbiddenError` for pages of others.
    """
    require_own_pages(request)
    hall = hall_of(request)
    problems = {}
    address, number = email_address(email), e164(phone)
    if email.strip() and not address:
        problems["email"] = "invalid"
    if phone.strip() and not is_mobile(number):
        problems["phone"] = "invalid"
    if not email.strip() and not phone.strip():
        problems["email"] = "missing"
    if problems:
        return problems
    now, head = hall.clock(), hall.reply_context
    given = " ".join(typed(name).split())[:200]
    await hall.db.write(
        lambda session: chat_queue.note_address(
            session, head, talk.id, now, name=given, email=address, phone=number
        )
    )
    hall.outbox.wake()
    hall.chats.changed(talk.id)
    return {}


async def leave(request: Request, talk: Talk) -> None:
    """End a conversation for its resident; from now on it does not exist for them."""
    hall = hall_of(request)
    now = hall.clock()
    await hall.db.write(
        lambda session: chat.leave(session, session.get_one(Conversation, talk.id), now)
    )
    hall.chats.changed(talk.id)
    request.app.state.talks.forget(talk.key)


def message_id_of(text: str) -> int:
    """The message that an event id names. Raises `InvalidError`."""
    if text.isascii() and text.isdecimal() and len(text) < 20 and int(text) <= LARGEST:
        return int(text)
    raise InvalidError("The last event id is a number that we gave you.")


async def settle(hall: Hall) -> None:
    """What cannot be answered now becomes an ordinary inquiry at once."""
    now, terms = hall.clock(), hall.chats.terms
    await hall.db.write(lambda session: chat_queue.sweep(session, hall.reply_context, terms, now))
    hall.outbox.wake()


async def _say_first(
    hall: Hall,
    talk: Talk,
    content: door.ChatMessage,
    files: Sequence[KeptFile],
    marks: tuple[Mark, ...],
) -> chat_said.Spoken:
    """The first message: journaled and taken in as an inquiry."""
    kept = [{name: getattr(file, name) for name in file.__slots__} for file in files]
    arrival = door.arrival(talk.key, content, hall.clock(), kept, marks)
    receipt = await hall.reception.receive_now(arrival)
    message_key = arrival.external_id

    def read() -> chat_said.Spoken:
        with hall.db.read() as session:
            message = chat_said.spoken(session, message_key)
            if message is None:
                raise NotFoundError
            return chat_said.Spoken(
                message.id or 0, message.inquiry_id, message.at, duplicate=receipt.duplicate
            )

    spoken = await run_in_threadpool(read)
    hall.chats.changed(talk.id, spoken.inquiry_id)
    there = await run_in_threadpool(hall.chats.attendance)
    if not there.there:
        await settle(hall)
    return spoken


def _takes_files(hall: Hall, talk: Talk, number: int) -> bool:
    if number > door.FILES:
        return False
    with hall.db.read() as session:
        return chat_files.count(session, talk.inquiry_id) + number <= chat_files.IN_ALL


def _keep(hall: Hall, sources: Sequence[Source]) -> list[KeptFile]:
    kept = []
    for number, source in enumerate(sources, 1):
        try:
            kept.append(
                keep_file(hall.settings.blobs, source, number, door.FILE_LIMIT, door.ALLOWED_FILES)
            )
        except InvalidError as error:
            code = "not_allowed" if error.detail == NOT_ALLOWED else "too_large"
            raise RefusedError({"files": code}) from error
    return kept


async def _scan(hall: Hall, files: Sequence[KeptFile]) -> tuple[Mark, ...]:
    """Have files looked at. Raises `RefusedError` for a virus."""
    if hall.file_scanner is None:
        return ()
    marks: set[Mark] = set()
    for file in files:
        verdict = await hall.file_scanner.scan(blob_path(hall.settings.blobs, file.sha256), {})
        if verdict.virus:
            raise RefusedError({"files": "virus"})
        if verdict.unscanned:
            marks.add(Mark.UNSCANNED)
    return tuple(marks)


def _due(hall: Hall, now: datetime, target: str) -> DueDate:
    return reply_due(now, build_targets(hall.settings)[target], hall.calendar)


def _talk(conversation: Conversation) -> Talk:
    return Talk(
        id=conversation.id or 0,
        key=conversation.key,
        state=conversation.state,
        language=conversation.language,
        name=conversation.name,
        email=conversation.email,
        phone=conversation.phone,
        inquiry_id=conversation.inquiry_id,
    )


def _cookie(hall: Hall, secret: str, seconds: int) -> bytes:
    """The header, written out: the cookie library of older Pythons knows no `Partitioned`."""
    parts = [f"{cookie_name(hall)}={secret}", f"Path={PATH}", f"Max-Age={seconds}", "HttpOnly"]
    if _secure(hall):
        parts.append("Secure")
    if hall.settings.channels.chat.cross_site and _secure(hall):
        parts += ["SameSite=None", "Partitioned"]
    else:
        parts.append("SameSite=Lax")
    return "; ".join(parts).encode()


def _secure(hall: Hall) -> bool:
    return hall.settings.public_url.startswith("https://")
