"""What is done with one inquiry at the desk, by the same forms on its own page and on the page of
its chat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form, Request
from sqlmodel import Session
from starlette.responses import RedirectResponse, Response

from router import chat_desk, passing, queue
from router.errors import ConflictError, InvalidError, RouterError
from router.models import Inquiry
from router.web.auth import DeskActor, hall_of

if TYPE_CHECKING:
    from router.access import Actor

TEXT_LIMIT = 500_000
"""Characters of one form field. Tighter limits stand where a refusal can keep the text."""

Text = Annotated[str, Form(max_length=TEXT_LIMIT)]


@dataclass(frozen=True, slots=True)
class Refused:
    """Why something was not done, and what the person had typed."""

    error: RouterError
    typed: dict[str, str] = field(default_factory=dict)
    candidates: Sequence[tuple[str, str]] = ()
    text: str = ""
    """What to say instead of the error's own sentence."""
    files_lost: bool = False
    """Files were chosen; a browser does not let us choose them again."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where somebody works: one kind of page, and the list that leads to it."""

    page: Callable[..., Response]
    """The page of an inquiry as it is now, with why something was `refused`."""
    one: str
    """Address of the page, with `{ref}`."""
    all: str
    """Address of the list, with `{done}` and `{ref}`."""
    leaves: frozenset[str]
    """What is done with an inquiry for good: one goes on to the list."""

    def address(self, ref: str, done: str = "") -> str:
        """Of the page; `done` says what was done there."""
        return self.one.format(ref=quote(ref)) + (f"?done={done}" if done else "")


def change(
    place: Place,
    request: Request,
    actor: Actor,
    ref: str,
    done: str,
    job: Callable[[Session], Inquiry],
    typed: dict[str, str] | None = None,
    *,
    files_lost: bool = False,
) -> Response:
    """Carry out one change and go on to where the person works next."""
    hall = hall_of(request)
    try:
        inquiry = hall.db.write_sync(job)
    except (ConflictError, InvalidError) as error:
        refused = Refused(error, typed or {}, files_lost=files_lost)
        return place.page(request, actor, ref, refused=refused)
    hall.outbox.wake()  # a change may have written letters
    if done in place.leaves or not actor.sees(inquiry.department):
        return RedirectResponse(place.all.format(done=done, ref=quote(ref)), 303)
    return RedirectResponse(place.address(ref, done), 303)


def forms(place: Place, prefix: str) -> APIRouter:
    """The forms that both places have."""
    router = APIRouter(prefix=prefix)

    @router.post("/release")
    def release(request: Request, actor: DeskActor, ref: str) -> Response:
        """Give it back to those who wait."""
        now = hall_of(request).clock()
        return change(
            place,
            request,
            actor,
            ref,
            "released",
            lambda session: queue.release(session, actor, ref, now),
        )

    @router.post("/return")
    def hand_back(request: Request, actor: DeskActor, ref: str, reason: Text = "") -> Response:
        """Return it to the switchboard, with the reason."""
        hall = hall_of(request)
        now, head = hall.clock(), hall.reply_context
        return change(
            place,
            request,
            actor,
            ref,
            "returned",
            lambda session: passing.hand_back(session, head, actor, ref, reason, now),
            {"reason": reason},
        )

    @router.post("/note")
    def note(request: Request, actor: DeskActor, ref: str, text: Text = "") -> Response:
        """Write an internal note."""
        now = hall_of(request).clock()
        return change(
            place,
            request,
            actor,
            ref,
            "noted",
            lambda session: queue.note(session, actor, ref, text, now),
            {"note": text},
        )

    @router.post("/take-back")
    def take_back(request: Request, actor: DeskActor, ref: str) -> Response:
        """Take back what one gave to a colleague who has done nothing with it."""
        hall = hall_of(request)
        now, head, capacity = hall.clock(), hall.reply_context, hall.settings.channels.chat.capacity
        return change(
            place,
            request,
            actor,
            ref,
            "taken_back",
            lambda session: passing.take_back(session, head, actor, ref, now, capacity=capacity),
        )

    @router.post("/reopen")
    def reopen(request: Request, actor: DeskActor, ref: str) -> Response:
        """Open it again."""
        now = hall_of(request).clock()
        return change(
            place,
            request,
            actor,
            ref,
            "reopened",
            lambda session: chat_desk.reopen(session, actor, ref, now),
        )

    return router
