"""The chat of an inquiry as those who answer it meet it: who is there, what is said as it is said.

Answering is `POST /api/inquiries/{ref}/reply`, as by every channel.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from time import monotonic
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from router import chat, chat_views, queue
from router.access import Actor
from router.chat_live import Typing, Update
from router.chat_models import ConversationState, TalkOutcome
from router.chat_views import Line, Side, Standing
from router.errors import NotFoundError
from router.hall import Hall
from router.models import CredentialKind, Direction
from router.privacy import mask_text
from router.web.auth import ApiActor, hall_of, still_actor
from router.web.chat_door import message_id_of
from router.web.problems import responses
from router.web.shapes import Input, Instant, Ref, RowId
from router.web.stream import EventStream

router = APIRouter(prefix="/api/inquiries/{ref}/chat", tags=["chats"])

RECHECK_SECONDS = 15.0
_ACT = responses(400, 401, 404, 413, 422, 429, 503)


class SeenByStaff(Input):
    """How far somebody has read."""

    message_id: RowId


class ChatView(BaseModel):
    """How the chat of an inquiry stands."""

    state: ConversationState
    listening: bool = Field(description="Whether the resident has the page open.")
    closed: bool = Field(description="Whether the inquiry is closed; who writes opens it again.")
    outcome: TalkOutcome | None = Field(description="What became of it, once it was ended here.")
    answered: bool = Field(description="Whether the resident waits for nothing.")
    place: int = Field(description="In the line of those who wait for a first answer; 0: in none.")
    resident_read: int = Field(description="Id of the last message that the resident has seen.")
    read: int = Field(description="Id of the last message of theirs that somebody here has seen.")


class ChatLine(BaseModel):
    """Something that was said or noted, with fødselsnummer masked."""

    id: int
    direction: Direction
    kind: str = Field(examples=["contact", "reply", "receipt", "notice", "note"])
    channel: str = Field(examples=["chat", "email", "note"])
    name: str
    text: str
    at: Instant
    attachments: list[str]


@router.get("", responses=responses(401, 404, 422, 429))
def read_chat(request: Request, actor: ApiActor, ref: Ref) -> ChatView:
    """Read how the chat of an inquiry stands. 404 when it has none that is open."""
    hall = hall_of(request)
    return _view(hall.chats.standing(conversation_of(hall, actor, ref)))


@router.get(
    "/events",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Frames of `event: message` (its `id:` is the message's), "
            "`event: standing` and `event: typing`; `: ping` in quiet times.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        **responses(401, 404, 422, 429),
    },
)
async def follow_chat(
    request: Request,
    actor: ApiActor,
    ref: Ref,
    last_event_id: Annotated[
        str, Header(description="Id of the last message you saw; what came after it is sent.")
    ] = "",
    after: Annotated[str, Query(description="The same, where headers cannot be set.")] = "",
) -> Response:
    """Follow what is said, as it is said."""
    hall = hall_of(request)
    last = message_id_of(last_event_id or after or "0")
    conversation = await run_in_threadpool(conversation_of, hall, actor, ref)
    content = frames(hall, request.state.credential, ref, conversation, last, _frame)
    return EventStream(content, hall.chats.room(conversation, Side.STAFF))


@router.post("/typing", status_code=204, responses=_ACT)
async def type_in_chat(request: Request, actor: ApiActor, ref: Ref) -> Response:
    """Tell the resident that somebody is writing. Nothing is kept."""
    hall = hall_of(request)
    conversation = await run_in_threadpool(conversation_of, hall, actor, ref)
    hall.chats.typing(conversation, Side.STAFF)
    return Response(status_code=204)


@router.post("/read", status_code=204, responses=_ACT)
async def read_messages(request: Request, actor: ApiActor, ref: Ref, body: SeenByStaff) -> Response:
    """Tell the resident how far their messages have been read."""
    hall = hall_of(request)
    conversation = await run_in_threadpool(conversation_of, hall, actor, ref)
    await hall.db.write(lambda session: chat.read_by_staff(session, conversation, body.message_id))
    hall.chats.changed(conversation)
    return Response(status_code=204)


def conversation_of(hall: Hall, actor: Actor, ref: str) -> int:
    """The open chat of an inquiry. Raises `NotFoundError`."""
    with hall.db.read() as session:
        row = queue.row(session, actor, ref)
        found = chat.of_inquiry(session, row.id, hall.clock())
    if found is None or found.id is None:
        raise NotFoundError
    return found.id


async def frames(
    hall: Hall,
    credential: tuple[CredentialKind, str],
    ref: str,
    conversation: int,
    after: int,
    show: Callable[[Update | None], Awaitable[bytes]],
) -> AsyncGenerator[bytes, None]:
    """What happens in a talk, as `show` writes it, for as long as who follows may see it."""
    checked = monotonic()
    department = ""
    asked: object = None
    yield b"retry: 2000\n: welcome\n\n"
    async with aclosing(hall.chats.follow(conversation, Side.STAFF, after)) as updates:
        async for update in updates:
            if isinstance(update, Standing | Line):
                department = update.department
            rights = hall.chats.rights_changed, department
            if rights != asked or monotonic() - checked >= RECHECK_SECONDS:
                asked, checked = rights, monotonic()
                if not await run_in_threadpool(_may_follow, hall, credential, ref):
                    return
            yield await show(update)


def _may_follow(hall: Hall, credential: tuple[CredentialKind, str], ref: str) -> bool:
    """Whether a stream may go on: who moves, or whose inquiry does, stops seeing."""
    actor = still_actor(hall, credential)
    if actor is None:
        return False
    with hall.db.read() as session:
        try:
            queue.row(session, actor, ref)
        except NotFoundError:
            return False
    return True


async def _frame(update: Update | None) -> bytes:
    if update is None:
        return b": ping\n\n"
    if isinstance(update, Typing):
        return b"event: typing\ndata: {}\n\n"
    if isinstance(update, Line):
        line = ChatLine(
            id=update.id,
            direction=update.direction,
            kind=update.kind,
            name=update.name,
            channel=update.channel,
            text=mask_text(update.text),
            at=update.at,
            attachments=[file.filename for file in update.files],
        )
        data = line.model_dump_json().encode()
        return b"id: %d\nevent: message\ndata: %s\n\n" % (update.id, data)
    return b"event: standing\ndata: %s\n\n" % _view(update).model_dump_json().encode()


def _view(standing: chat_views.Standing) -> ChatView:
    return ChatView.model_validate(standing, from_attributes=True)
