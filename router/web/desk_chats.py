"""The workplace for chats: one's own talks, who waits in line, and the talk that is open.

Every action is a plain form; the script sends the same requests and follows the talk by its stream.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import orjson
from fastapi import APIRouter, File, Form, Header, Query, Request, UploadFile
from pydantic import BaseModel
from sqlmodel import Session
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, RedirectResponse, Response

from router import chat, chat_desk, chat_queue, chat_views, handovers, passing, queue, replies
from router.access import Actor
from router.chat_live import Typing, Update
from router.chat_models import TalkOutcome
from router.chat_views import Side, Standing
from router.errors import (
    ConflictError,
    InvalidError,
    NotFoundError,
    StoreUnavailableError,
)
from router.files import FILES_LIMIT, MANY, Source, keep_files
from router.models import Inquiry
from router.web import chats_api
from router.web.auth import DeskActor, DeskReader, hall_of
from router.web.chat_door import message_id_of
from router.web.desk_chat_words import (
    canned_choices,
    colleagues,
    line_view,
    lists,
    receivers,
    standing_view,
)
from router.web.desk_forms import Place, Refused, Text, forms
from router.web.desk_forms import change as change_at
from router.web.frame import desk_frame, outcome
from router.web.listing import department_names, match_departments, match_people
from router.web.render import catalogue, label, render, sentence
from router.web.shapes import REF, RowId
from router.web.stream import EventStream

if TYPE_CHECKING:
    from router.hall import Hall
    from router.preparing import KeptFile

router = APIRouter(prefix="/desk/chats", include_in_schema=False)

AT_DESK_SHOWN = 8
"""Colleagues who are offered by name; the others are found by writing theirs."""

_KEY = re.compile(r"[0-9A-Za-z-]{8,64}")


class Seen(BaseModel):
    """How far somebody has read."""

    message_id: RowId


@router.get("")
def chats_page(request: Request, actor: DeskActor, done: str = "", ref: str = "") -> Response:
    """One's own talks and who waits, with none of them open."""
    hall = hall_of(request)
    with hall.db.read() as session:
        context = lists(session, hall, actor) | outcome(session, hall, actor, done, ref)
        frame = desk_frame(session, hall, actor)
    return render(request, "chats.html", open_ref="", talk=None, **frame | context)


@router.get("/list")
def chats_list(
    request: Request, actor: DeskReader, of: Annotated[str, Query(max_length=40)] = ""
) -> Response:
    """The lists, for a page that keeps itself up to date; `of` is the talk that is open."""
    hall = hall_of(request)
    with hall.db.read() as session:
        context = lists(session, hall, actor)
    return render(request, "_chats.html", open_ref=of if REF.fullmatch(of) else "", **context)


@router.get("/notice")
def chats_notice(request: Request, actor: DeskReader) -> Response:
    """What the other pages of the desk say of chats."""
    hall = hall_of(request)
    with hall.db.read() as session:
        load = chat_desk.load(session, actor, hall.clock())
    return render(request, "_chat_notice.html", chat_load=load)


@router.post("/next")
def take_next(request: Request, actor: DeskActor) -> Response:
    """Take who has waited longest, and open that talk."""
    hall = hall_of(request)
    now, capacity = hall.clock(), hall.settings.channels.chat.capacity
    try:
        taken = hall.db.write_sync(
            lambda session: chat_desk.take_next(session, actor, capacity, now)
        )
    except ConflictError as error:
        with hall.db.read() as session:
            context = lists(session, hall, actor)
            frame = desk_frame(session, hall, actor)
        problem = sentence(error, actor.language)
        return render(
            request,
            "chats.html",
            error.status,
            open_ref="",
            talk=None,
            problem=problem,
            **frame | context,
        )
    if taken is None:
        return RedirectResponse("/desk/chats?done=no_chat", 303)
    return RedirectResponse(_PLACE.address(taken.ref), 303)


@router.get("/{ref}")
def talk_page(request: Request, actor: DeskActor, ref: str, done: str = "") -> Response:
    """One talk: what was said, how it stands, what can be done."""
    return _page(request, actor, ref, done=done, opened=True)


@router.get("/{ref}/live")
def talk_live(request: Request, actor: DeskReader, ref: str) -> Response:
    """The same page for the browser to pick changes from; does not count as activity."""
    return _page(request, actor, ref)


@router.get("/{ref}/events")
async def talk_events(
    request: Request,
    actor: DeskReader,
    ref: str,
    last_event_id: Annotated[str, Header()] = "",
    after: Annotated[str, Query()] = "",
) -> Response:
    """Follow a talk: `message`, `standing` and `typing` as the script shows them."""
    hall = hall_of(request)
    last = message_id_of(last_event_id or after or "0")
    number = await run_in_threadpool(chats_api.conversation_of, hall, actor, ref)
    show = partial(_frame, hall, actor, ref)
    content = chats_api.frames(hall, request.state.credential, ref, number, last, show)
    return EventStream(content, hall.chats.room(number, Side.STAFF))


@router.post("/{ref}/messages")
def say(
    request: Request,
    actor: DeskActor,
    ref: str,
    text: Text = "",
    key: Annotated[str, Form(max_length=100)] = "",
    by: Annotated[str, Form(max_length=200)] = "",
    files: Annotated[Sequence[UploadFile], File()] = (),
) -> Response:
    """Say something; the same `key` once more changes nothing. `by` is who wrote it: what waits in
    a browser outlives a session, and is not said in the name of whoever signs in next."""
    hall = hall_of(request)
    now, head = hall.clock(), hall.reply_context
    chosen = [
        Source(file.filename, file.content_type or "", file.file) for file in files if file.filename
    ]
    written_as = f"{actor.staff_id}:{key}" if _KEY.fullmatch(key) else ""
    kept: list[KeptFile] = []

    def job(session: Session) -> None:
        replies.reply(
            session,
            head,
            actor,
            ref,
            text,
            now,
            files=kept,
            key=written_as,
            capacity=hall.settings.channels.chat.capacity,
        )

    try:
        if by and by != actor.username:
            raise ConflictError("Somebody else who was signed in here wrote this.")
        if chosen:
            with hall.db.read() as session:
                known = written_as and replies.written(session, actor, ref, written_as)
                if not known:
                    replies.require_replyable(session, head, actor, ref, text, now)
            if not known:
                kept = keep_files(hall.settings.blobs, chosen)
        hall.db.write_sync(job)
    except (ConflictError, InvalidError) as error:
        if _wants_json(request):
            problem = sentence(error, actor.language)
            return JSONResponse({"problem": problem}, error.status)
        refused = Refused(error, {"reply": text}, files_lost=bool(chosen))
        return _page(request, actor, ref, refused=refused)
    hall.outbox.wake()
    if _wants_json(request):
        return JSONResponse(_written(hall, actor, ref, written_as))
    return RedirectResponse(f"/desk/chats/{quote(ref)}#latest", 303)


@router.post("/{ref}/typing")
async def typing(request: Request, actor: DeskActor, ref: str) -> Response:
    """Tell the resident that somebody is writing. Nothing is kept."""
    hall = hall_of(request)
    number = await run_in_threadpool(_held_or_free, hall, actor, ref)
    if number is not None:
        hall.chats.typing(number, Side.STAFF)
    return Response(status_code=204)


@router.post("/{ref}/read")
async def read(request: Request, actor: DeskActor, ref: str, body: Seen) -> Response:
    """Tell the resident how far their messages have been read. Who only looks in reads for
    nobody."""
    hall = hall_of(request)
    number = await run_in_threadpool(_held_or_free, hall, actor, ref)
    if number is not None:
        await hall.db.write(lambda session: chat.read_by_staff(session, number, body.message_id))
        hall.chats.changed(number)
    return Response(status_code=204)


@router.post("/{ref}/claim")
def claim(request: Request, actor: DeskActor, ref: str) -> Response:
    """Take a talk."""
    hall = hall_of(request)
    now, capacity = hall.clock(), hall.settings.channels.chat.capacity
    return _change(
        request,
        actor,
        ref,
        "",
        lambda session: chat_desk.claim(session, actor, ref, capacity, now),
    )


@router.post("/{ref}/pass")
def pass_on(
    request: Request,
    actor: DeskActor,
    ref: str,
    to: Annotated[str, Form(max_length=200)] = "",
    chosen: Annotated[str, Form(max_length=200)] = "",
    text: Text = "",
) -> Response:
    """Give a talk to a colleague or a department: to one that was `chosen`, or by what was
    written."""
    hall = hall_of(request)
    now, head = hall.clock(), hall.reply_context
    typed = {"to": to, "pass_note": text}
    with hall.db.read() as session:
        fitting = [chosen] if chosen and not to.strip() else _fitting(session, hall, actor, to)
    if len(fitting) != 1:
        said = (
            "Several fit. Choose one."
            if fitting
            else "Nobody is called that. Write the name of a colleague or a department."
            if to.strip()
            else "Say who shall have the conversation."
        )
        with hall.db.read() as session:
            named = _names(session, hall, actor)
        candidates = [(one, named.get(one, one)) for one in fitting]
        refused = Refused(InvalidError(said), typed, candidates)
        return _page(request, actor, ref, refused=refused)
    kind, _, who = fitting[0].partition(":")

    def job(session: Session) -> Inquiry:
        if kind == "department":
            return passing.transfer(session, head, actor, ref, who, text, now)
        capacity = hall.settings.channels.chat.capacity
        return passing.hand_over(session, head, actor, ref, who, text, now, capacity=capacity)

    done = "handed_over" if kind == "person" else "transferred"
    return _change(request, actor, ref, done, job, typed)


@router.post("/{ref}/end")
def end(
    request: Request,
    actor: DeskActor,
    ref: str,
    outcome: Annotated[str, Form(max_length=40)] = "",
) -> Response:
    """End a talk, and say what became of it."""
    hall = hall_of(request)
    now, head = hall.clock(), hall.reply_context
    if outcome not in set(TalkOutcome):
        error = InvalidError("Choose what became of the conversation.")
        return _page(request, actor, ref, refused=Refused(error, {"outcome": ""}))
    became = TalkOutcome(outcome)
    return _change(
        request,
        actor,
        ref,
        "casework" if became is TalkOutcome.CASEWORK else "closed",
        lambda session: chat_desk.end(session, head, actor, ref, became, now),
    )


def _page(
    request: Request,
    actor: Actor,
    ref: str,
    *,
    refused: Refused | None = None,
    done: str = "",
    opened: bool = False,
) -> Response:
    hall = hall_of(request)
    now = hall.clock()
    with hall.db.read() as session:
        row = queue.row(session, actor, ref)
        found = chat_desk.latest(session, row.id)
        if found is None or found.id is None:
            raise NotFoundError
        turns = chat_queue.turns(session, hall.chats.terms, now)
        standing = chat_views.standings(session, [found.id], turns, now)[found.id]
        lines = chat_views.lines_since(session, row.id, side=Side.STAFF)
        view = standing_view(session, hall, actor, standing, now)
        people = colleagues(session, hall, actor, now)
        given_to = handovers.taken_back_from(session, actor, session.get_one(Inquiry, row.id))
        given = any(one.ref == ref for one in handovers.handed_to(session, actor))
        context = lists(session, hall, actor)
        frame = desk_frame(session, hall, actor)
    if opened and given:
        # A busy store is no reason to turn a reader away: it just stays marked as new.
        with suppress(StoreUnavailableError):
            hall.db.write_sync(lambda session: handovers.see(session, actor, ref, now))
        frame["handed"] = [one for one in frame["handed"] if one.ref != ref]
    candidates = list(refused.candidates) if refused else []
    return render(
        request,
        "chats.html",
        refused.error.status if refused else 200,
        open_ref=row.ref,
        talk=found,
        row=row,
        lines=[line_view(line, row.ref, hall, actor) for line in lines],
        standing=view,
        follows=found.state.value != "ended",
        given_to=given_to,
        people=[one for one in people if one.at_desk][:AT_DESK_SHOWN],
        receivers=receivers(hall, actor, people),
        candidates=candidates,
        outcomes=[
            (one.value, label(actor.language, "talk_outcome", one.value)) for one in TalkOutcome
        ],
        canned=canned_choices(hall, actor, row, found.name, found.language),
        switchboard=queue.SWITCHBOARD,
        department_name=dict(department_names(hall, actor)).get(row.department, row.department),
        problem=sentence(refused.error, actor.language) if refused else "",
        typed=refused.typed if refused else {},
        files_lost=bool(refused and refused.files_lost),
        files_limit=FILES_LIMIT,
        files_many=MANY,
        key=str(uuid.uuid4()),
        texts=_texts(actor.language),
        done=done,
        **frame | context,
    )


def _written(hall: Hall, actor: Actor, ref: str, written_as: str) -> dict[str, Any]:
    """The line that a message became."""
    with hall.db.read() as session:
        number = replies.written(session, actor, ref, written_as) if written_as else None
        if number is None:
            return {}
        row = queue.row(session, actor, ref)
        [line] = chat_views.lines_since(session, row.id, number - 1, 1, Side.STAFF)
    return line_view(line, ref, hall, actor)


def _wants_json(request: Request) -> bool:
    return request.headers.get("accept", "").startswith("application/json")


def _held_or_free(hall: Hall, actor: Actor, ref: str) -> int | None:
    """The open conversation of an inquiry, if nobody else holds it. Raises `NotFoundError`."""
    with hall.db.read() as session:
        row = queue.row(session, actor, ref)
        found = chat.of_inquiry(session, row.id, hall.clock())
    if found is None or row.assignee_id not in (None, actor.staff_id):
        return None
    return found.id


async def _frame(hall: Hall, actor: Actor, ref: str, update: Update | None) -> bytes:
    if update is None:
        return b": ping\n\n"
    if isinstance(update, Typing):
        return b"event: typing\ndata: {}\n\n"
    if isinstance(update, Standing):
        view = await run_in_threadpool(_standing, hall, actor, update)
        return b"event: standing\ndata: %s\n\n" % orjson.dumps(view)
    data = orjson.dumps(line_view(update, ref, hall, actor))
    return b"id: %d\nevent: message\ndata: %s\n\n" % (update.id, data)


def _standing(hall: Hall, actor: Actor, standing: Standing) -> dict[str, Any]:
    with hall.db.read() as session:
        return standing_view(session, hall, actor, standing, hall.clock())


def _names(session: Session, hall: Hall, actor: Actor) -> dict[str, str]:
    """`person:USERNAME` and `department:SLUG` -> what it is called."""
    found = {f"department:{slug}": name for slug, name in department_names(hall, actor)}
    for username, name in handovers.others(session, actor):
        found[f"person:{username}"] = f"{name} ({username})"
    return found


def _fitting(session: Session, hall: Hall, actor: Actor, text: str) -> list[str]:
    """Whom a text may mean: exactly, else by the first letters of names."""
    wanted = " ".join(text.split()).casefold()
    if not wanted:
        return []
    exactly, begun = match_people(handovers.others(session, actor), wanted)
    departments = match_departments(hall, wanted)
    names = dict(department_names(hall, actor))
    exact = [f"person:{one}" for one in exactly] + [
        f"department:{slug}"
        for slug in departments
        if wanted in (slug, names.get(slug, "").casefold())
    ]
    if exact:
        return exact
    return [f"person:{one}" for one in begun] + [f"department:{slug}" for slug in departments]


def _texts(language: str) -> dict[str, Any]:
    """What the script says by itself."""
    t = catalogue(language)
    return {
        "sending": t.gettext("Sending …"),
        "waiting": t.gettext("Not sent yet. We keep trying."),
        "sent": t.gettext("Sent"),
        "read": t.gettext("Read"),
        "lost": t.gettext("No connection. We keep trying, and nothing you have written is lost."),
        "back": t.gettext("Connected again."),
        "signed_out": t.gettext(
            "You have been signed out. Sign in again in another tab; what you have written is sent"
            " then."
        ),
        "refused": t.gettext("It was not sent."),
        "typing": t.gettext("The resident is writing …"),
        "new": t.gettext("New messages"),
        "remove": t.gettext("Remove {name}"),
        "enter": t.gettext("Enter sends, Shift and Enter breaks the line."),
        "letter": t.gettext("Ctrl and Enter sends."),
        "send_chat": t.gettext("Send"),
        "send_email": t.gettext("Send by e-mail"),
        "send_sms": t.gettext("Send as SMS"),
        "too_large": t.gettext("The files are larger than 20 MB together."),
        "too_many": t.gettext("A message takes at most 20 files."),
    }


_PLACE = Place(
    page=_page,
    one="/desk/chats/{ref}",
    all="/desk/chats?done={done}&ref={ref}",
    leaves=frozenset({"released", "transferred", "returned", "closed"}),
)
_change = partial(change_at, _PLACE)
router.include_router(forms(_PLACE, "/{ref}"))
