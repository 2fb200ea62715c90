"""Live streams (Server-Sent Events): what happens, as it happens, to those who may see it.

Rights are asked for again while a stream is open, so that one who leaves or moves stops seeing.
"""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractContextManager, aclosing, contextmanager
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import orjson
from fastapi import APIRouter, Header, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from router.access import ACCESS_CHANGED, PRESENCE_CHANGED
from router.errors import InvalidError, TooManyError
from router.events import RELOAD
from router.web.auth import ApiActor, DeskReader, hall_of, still_actor
from router.web.problems import responses

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator

    from starlette.types import Receive, Scope, Send

    from router.access import Actor
    from router.events import LiveEvent
    from router.hall import Hall
    from router.models import CredentialKind

router = APIRouter()

RECHECK_SECONDS = 15.0
STREAMS_PER_ACTOR = 50
_LARGEST_ID = 2**63 - 1

_DESK_NAMES = {RELOAD: RELOAD, PRESENCE_CHANGED: "presence"}
"""Kinds that the pages of the desk tell from the rest."""

_open_streams: Counter[int] = Counter()


class EventStream(StreamingResponse):
    """A stream that no cache or proxy may hold back."""

    media_type = "text/event-stream"

    def __init__(self, content: AsyncIterator[bytes], room: AbstractContextManager[None]) -> None:
        """`room` is held while the stream is open, and raises `TooManyError` when there is none."""
        super().__init__(content, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._room = room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream.

        Counted here, in the loop, where nobody comes between the look and the count.
        """
        with self._room:
            await super().__call__(scope, receive, send)


@contextmanager
def _room_of(owner: int) -> Iterator[None]:
    """Room for one more stream of an account."""
    if _open_streams[owner] >= STREAMS_PER_ACTOR:
        raise TooManyError("Too many live streams are open for this account.")
    _open_streams[owner] += 1
    try:
        yield
    finally:
        _open_streams[owner] -= 1
        if not _open_streams[owner]:
            del _open_streams[owner]


LastEventId = Annotated[
    str, Header(description="The last id you saw, as browsers send it when they reconnect.")
]
After = Annotated[str, Query(description="The same, where headers cannot be set.")]


@router.get(
    "/api/events",
    tags=["live"],
    status_code=200,
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Frames of `id:`, `event:` (the kind) and `data:` (JSON); `: ping` in "
            "quiet times. The kind `reload` says that you missed some: read everything anew.",
            "content": {
                "text/event-stream": {
                    "schema": {"type": "string"},
                    "example": 'id: 42\nevent: claimed\ndata: {"id":42,"kind":"claimed",'
                    '"at":"2026-11-23T08:15:00Z","ref":"S-2026-000123","department":"vei",'
                    '"data":{}}\n\n',
                }
            },
        },
        **responses(401, 422, 429),
    },
)
def api_events(
    request: Request, actor: ApiActor, last_event_id: LastEventId = "", after: After = ""
) -> EventStream:
    """Follow what happens to the inquiries you may see."""
    frames = _follow(request, actor, last_event_id or after, lambda event: event.kind)
    return EventStream(frames, _room_of(actor.staff_id or 0))


@router.get("/desk/stream", include_in_schema=False)
def desk_stream(
    request: Request, actor: DeskReader, last_event_id: LastEventId = "", after: After = ""
) -> EventStream:
    """Tell the desk that something changed; the page then reads what it shows. Whoever has it
    open is there for chats."""
    frames = _follow(
        request,
        actor,
        last_event_id or after,
        lambda event: _DESK_NAMES.get(event.kind, "change"),
    )
    number = actor.staff_id or 0
    return EventStream(_at_desk(hall_of(request), number, frames), _room_of(number))


def _follow(
    request: Request, actor: Actor, after: str, name: Callable[[LiveEvent], str]
) -> AsyncGenerator[bytes, None]:
    hall = hall_of(request)
    return _frames(hall, actor, request.state.credential, _last_seen(after), name)


async def _at_desk(
    hall: Hall, staff_id: int, frames: AsyncGenerator[bytes, None]
) -> AsyncGenerator[bytes, None]:
    """The same frames; whoever gets them is at the desk."""
    hall.chats.enter_desk(staff_id)
    try:
        async with aclosing(frames):
            async for frame in frames:
                yield frame
    finally:
        hall.chats.leave_desk(staff_id)


async def _frames(
    hall: Hall,
    actor: Actor,
    credential: tuple[CredentialKind, str],
    after: int | None,
    name: Callable[[LiveEvent], str],
) -> AsyncGenerator[bytes, None]:
    checked = monotonic()
    # From here on, not from the first read: nothing may fall between.
    present_id = hall.hub.last_id
    yield b"retry: 2000\n: welcome\n\n"
    if after is not None and after > present_id:
        # An id we never gave out: another store, or one restored from a backup.
        yield _frame(RELOAD, present_id, _plain(RELOAD, hall))
        after = None
    if after is None:
        after = present_id

    def visible(event: LiveEvent) -> bool:
        # `actor` is looked up at each event: it may have been replaced below.
        return event.kind == ACCESS_CHANGED or actor.sees_event(event)

    async with aclosing(hall.hub.subscribe(visible, after)) as events:
        async for event in events:
            changed = event is not None and event.kind == ACCESS_CHANGED
            if changed or monotonic() - checked >= RECHECK_SECONDS:
                checked = monotonic()
                present = await run_in_threadpool(still_actor, hall, credential)
                if present is None:
                    return
                actor = present
            if event is None:
                yield b": ping\n\n"
            elif event.kind == RELOAD:
                yield _frame(name(event), event.id, _plain(RELOAD, hall))
            elif actor.sees_event(event):
                yield _frame(name(event), event.id, _data(event))


def _last_seen(text: str) -> int | None:
    if not text:
        return None
    if text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= _LARGEST_ID:
        return int(text)
    raise InvalidError("The last event id is a number that we gave you.")


def _plain(kind: str, hall: Hall) -> dict[str, object]:
    return {"kind": kind, "at": _instant(hall.clock())}


def _data(event: LiveEvent) -> dict[str, object]:
    data = dict(event.data)
    return {
        "id": event.id,
        "kind": event.kind,
        "at": _instant(event.at),
        "ref": data.pop("ref", None),
        "department": event.department,
        "data": data,
    }


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _frame(name: str, number: int, data: dict[str, object]) -> bytes:
    # orjson writes line breaks inside strings as \n: one data line is always enough.
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (number, name.encode(), orjson.dumps(data))
