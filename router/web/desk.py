"""The desk: the queue, and one inquiry with what can be done to it.

Reads come from one snapshot; every change is one job for the writer. A refused change shows the
page as it is now, says who was first, and keeps what was typed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from fastapi import APIRouter, Depends, File, Form, Request, UploadFile
from sqlmodel import Session
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from router import chat_desk, handovers, passing, queue, replies, texting, thread_views
from router.chat_models import CHANNEL as CHAT
from router.errors import ConflictError, InvalidError, StoreUnavailableError
from router.files import FILES_LIMIT, MANY, Source, keep_files
from router.models import Inquiry, InquiryStatus, Staff
from router.privacy import mask_text
from router.web.auth import DeskActor, DeskReader, hall_of
from router.web.desk_chat_words import canned_choices, deferred_inquiry
from router.web.desk_forms import Place, Refused, Text, forms
from router.web.desk_forms import change as change_at
from router.web.downloads import note_look
from router.web.frame import alarms, desk_frame, outcome
from router.web.listing import (
    CHANNELS,
    Wanted,
    department_choices,
    department_names,
    department_text,
    line,
    list_context,
    marks,
    match_departments,
)
from router.web.messages import (
    came,
    checks_senders,
    latest_owed,
    shown,
    told,
    undelivered,
    why_no_receipt,
)
from router.web.render import catalogue, render, sentence
from router.web.rows import RowNumber

if TYPE_CHECKING:
    from router.access import Actor
    from router.hall import Hall
    from router.preparing import KeptFile

router = APIRouter(prefix="/desk", include_in_schema=False)

PAGE = 50
_PAGES = re.compile(
    r"/desk/(?:(?:inquiries|chats)/S-[0-9-]+"
    r"|(?:queue|chats|aside|parked|outbox|presence|statistics|account)(?![^/]))"
)
"""Pages of the desk that stand by themselves."""
Version = Annotated[int | None, Form()]


ListOf = Annotated[Wanted, Depends()]


@router.get("")
def start(_actor: DeskActor) -> Response:
    """The desk begins with the queue."""
    return RedirectResponse("/desk/queue", 303)


@router.get("/queue")
def queue_page(
    request: Request,
    actor: DeskActor,
    wanted: ListOf,
    after: str = "",
    done: str = "",
    ref: str = "",
) -> Response:
    """The queue with its filters."""
    hall = hall_of(request)
    with hall.db.read() as session:
        context = list_context(session, hall, actor, wanted, after, PAGE)
        context |= desk_frame(session, hall, actor) | outcome(session, hall, actor, done, ref)
    return render(
        request,
        "queue.html",
        department_choices=department_choices(hall, actor, context["kept"]),
        channels=CHANNELS,
        **context,
    )


@router.get("/queue/rows")
def queue_rows(
    request: Request,
    actor: DeskReader,
    wanted: ListOf,
    after: str = "",
    limit: int = PAGE,
) -> Response:
    """The changing part of the queue, for a page that keeps itself up to date."""
    hall = hall_of(request)
    with hall.db.read() as session:
        context = list_context(session, hall, actor, wanted, after, limit)
    return render(request, "_queue.html", **context)


@router.post("/queue/next")
def take_next(
    request: Request,
    actor: DeskActor,
    department: Annotated[str, Form()] = "",
    channel: Annotated[str, Form()] = "",
    q: Annotated[str, Form(max_length=200)] = "",
) -> Response:
    """Take the first unclaimed inquiry of the list, and open it."""
    hall = hall_of(request)
    now = hall.clock()
    free = queue.Filter(status="open", department=department, channel=channel, assignee="none", q=q)

    capacity = hall.settings.channels.chat.capacity

    def job(session: Session) -> str:
        # The writer is one: between this reading and the claim nobody else can come.
        full: ConflictError | None = None
        for row in queue.page(session, actor, free).rows:
            try:
                return chat_desk.claim(session, actor, row.ref, capacity, now).ref
            except ConflictError as error:  # a chat too many; what else waits is taken all the same
                full = error
        if full is not None:
            raise full
        return ""

    ref = hall.db.write_sync(job)
    if not ref:
        wanted = Wanted(department=department, channel=channel, q=q)
        return RedirectResponse(wanted.address("/desk/queue", done="none_free"), 303)
    return RedirectResponse(f"/desk/inquiries/{ref}?done=claimed", 303)


@router.get("/alarm")
def alarm(request: Request, actor: DeskReader, page: str = "") -> Response:
    """Emergencies that nobody has acknowledged, and what has got stuck; for the page `page`."""
    hall = hall_of(request)
    with hall.db.read() as session:
        found = alarms(session, hall, actor)
    return render(request, "_alarm.html", page_path=page, **found)


@router.get("/session")
def stay(request: Request, _actor: DeskActor) -> Response:
    """Stay signed in: asking counts as activity. Says until when."""
    return JSONResponse({"ends_at": request.state.session_ends_at.isoformat()})


@router.get("/inquiries/{ref}")
def inquiry_page(request: Request, actor: DeskActor, ref: str, done: str = "") -> Response:
    """One inquiry: why it is here, what has been said, what can be done."""
    return inquiry_answer(request, actor, ref, done=done, opened=True)


@router.get("/inquiries/{ref}/live")
def inquiry_live(request: Request, actor: DeskReader, ref: str) -> Response:
    """The same page for the browser to pick changes from; does not count as activity."""
    return inquiry_answer(request, actor, ref)


@router.post("/inquiries/{ref}/claim")
def claim(request: Request, actor: DeskActor, ref: str) -> Response:
    """Take an inquiry; from the list, the answer is its line as it is now."""
    hall = hall_of(request)
    now = hall.clock()
    try:
        hall.db.write_sync(
            lambda session: chat_desk.claim(
                session, actor, ref, hall.settings.channels.chat.capacity, now
            )
        )
    except ConflictError as error:
        if "hx-request" in request.headers:
            return _row(request, actor, ref, error)
        return inquiry_answer(request, actor, ref, refused=Refused(error))
    if "hx-request" in request.headers:
        return _row(request, actor, ref)
    return RedirectResponse(PLACE.address(ref, "claimed"), 303)


@router.post("/inquiries/{ref}/transfer")
def transfer(
    request: Request,
    actor: DeskActor,
    ref: str,
    department: Annotated[str, Form(max_length=200)] = "",
    chosen: Annotated[str, Form(max_length=200)] = "",
    note: Text = "",
) -> Response:
    """Send an inquiry to another department; the first letters of its name are enough."""
    hall = hall_of(request)
    now = hall.clock()
    typed = {"department": department, "transfer_note": note}
    slugs = [chosen] if chosen else match_departments(hall, department)
    if len(slugs) != 1:
        t = catalogue(actor.language)
        text = (
            t.gettext("Several departments fit «%(text)s». Choose one.")
            if slugs
            else t.gettext("No department is called «%(text)s».")
        )
        named = dict(department_names(hall, actor))
        candidates = [(slug, named[slug]) for slug in slugs]
        refused = Refused(InvalidError(), typed, candidates, text % {"text": department})
        return inquiry_answer(request, actor, ref, refused=refused)
    return change(
        request,
        actor,
        ref,
        "transferred",
        lambda session: passing.transfer(
            session, hall.reply_context, actor, ref, slugs[0], note, now
        ),
        typed,
    )


@router.post("/inquiries/{ref}/reply")
def reply(
    request: Request,
    actor: DeskActor,
    ref: str,
    text: Text = "",
    close: Annotated[str, Form(max_length=10)] = "",
    version: Version = None,
    files: Annotated[Sequence[UploadFile], File()] = (),
) -> Response:
    """Answer the resident, with files or without."""
    hall = hall_of(request)
    now, head = hall.clock(), hall.reply_context
    # A field in which nothing was chosen comes as a file without a name.
    chosen = [
        Source(file.filename, file.content_type or "", file.file) for file in files if file.filename
    ]
    typed = {"reply": text}
    kept: list[KeptFile] = []
    try:
        if chosen:
            with hall.db.read() as session:
                replies.require_replyable(session, head, actor, ref, text, now, version)
            kept = keep_files(hall.settings.blobs, chosen)
    except (ConflictError, InvalidError) as error:
        return inquiry_answer(request, actor, ref, refused=Refused(error, typed, files_lost=True))
    return change(
        request,
        actor,
        ref,
        "replied_closed" if close else "replied",
        lambda session: replies.reply(
            session,
            head,
            actor,
            ref,
            text,
            now,
            close=bool(close),
            version=version,
            files=kept,
            capacity=hall.settings.channels.chat.capacity,
        ),
        typed,
        files_lost=bool(chosen),
    )


@router.post("/inquiries/{ref}/parts")
def parts(request: Request, actor: DeskActor, ref: str, text: Text = "") -> Response:
    """In how many parts a reply goes that is being written, by text."""
    hall = hall_of(request)
    with hall.db.read() as session:
        inquiry = queue.get(session, actor, ref)
        end = texting.reply_end(hall.reply_context, inquiry)
    return render(request, "_parts.html", parts=texting.measured(text, end))


@router.post("/inquiries/{ref}/outbox/{number}/retry")
def send_again(request: Request, actor: DeskActor, ref: str, number: RowNumber) -> Response:
    """Send a message of ours once more, because a person says so."""
    now = hall_of(request).clock()
    return change(
        request,
        actor,
        ref,
        "retried",
        lambda session: replies.send_again(session, actor, ref, number, now),
    )


@router.post("/inquiries/{ref}/close")
def close_inquiry(
    request: Request,
    actor: DeskActor,
    ref: str,
    version: Version = None,
    confirm: Annotated[str, Form(max_length=10)] = "",
) -> Response:
    """Close an inquiry; one without an answer, and an emergency, only after asking."""
    hall = hall_of(request)
    now = hall.clock()
    if not confirm:
        with hall.db.read() as session:
            row = queue.row(session, actor, ref)
        may_close = row.status is InquiryStatus.OPEN and not _held_by_other(actor, row)
        if may_close and (row.answered_at is None or row.emergency):
            return inquiry_answer(request, actor, ref, confirm_close=True)
    return change(
        request,
        actor,
        ref,
        "closed",
        lambda session: queue.close(session, actor, ref, now, version),
    )


@router.post("/inquiries/{ref}/seen")
def seen(request: Request, actor: DeskActor, ref: str) -> Response:
    """Say that somebody has seen the emergency."""
    hall = hall_of(request)
    now = hall.clock()
    hall.db.write_sync(lambda session: queue.acknowledge_emergency(session, actor, ref, now))
    return RedirectResponse(_where_they_were(request) or PLACE.address(ref, "seen"), 303)


@router.post("/inquiries/{ref}/reveal")
def reveal(request: Request, actor: DeskActor, ref: str) -> Response:
    """Show national identity numbers on this one page; that it was done is written down."""
    hall = hall_of(request)
    now = hall.clock()

    def job(session: Session) -> None:
        note_look(session, actor, queue.get(session, actor, ref), "thread", now)

    hall.db.write_sync(job)
    return inquiry_answer(request, actor, ref, revealed=True)


@router.get("/account")
def account(request: Request, actor: DeskActor, done: str = "") -> Response:
    """Password, language and shortcuts of whoever is signed in."""
    hall = hall_of(request)
    with hall.db.read() as session:
        has_password = bool(session.get_one(Staff, actor.staff_id).password_hash)
        frame = desk_frame(session, hall, actor)
    return render(request, "account.html", has_password=has_password, errors={}, done=done, **frame)


def _where_they_were(request: Request) -> str:
    """The page of the desk that a form was sent from; empty where the browser does not say, or it
    cannot be fetched again."""
    came = urlsplit(request.headers.get("referer", ""))
    page = _PAGES.match(came.path)
    if page is None:
        return ""
    kept = [(name, value) for name, value in parse_qsl(came.query) if name not in ("done", "ref")]
    if page[0] != came.path:  # what was answered to a form there
        kept = []
    return f"{page[0]}?{urlencode([*kept, ('done', 'seen')])}"


def _row(
    request: Request, actor: Actor, ref: str, refused: ConflictError | None = None
) -> Response:
    hall = hall_of(request)
    with hall.db.read() as session:
        row = queue.row(session, actor, ref)
        signs = queue.signs(session, [row])
    headers = {}
    if refused is not None:
        # Header values are latin-1; the name travels percent-encoded.
        headers["HX-Trigger"] = f'{{"said": "{quote(sentence(refused, actor.language))}"}}'
    html = line(hall, actor, row, signs.get(row.id, queue.NO_SIGNS), hall.clock())
    return HTMLResponse(html, 409 if refused else 200, headers)


def inquiry_answer(
    request: Request,
    actor: Actor,
    ref: str,
    *,
    refused: Refused | None = None,
    revealed: bool = False,
    confirm_close: bool = False,
    done: str = "",
    opened: bool = False,
) -> Response:
    """The page of an inquiry as it is now, with why something was not done."""
    hall = hall_of(request)
    with hall.db.read() as session:
        thread = thread_views.thread(session, hall.reply_context, actor, ref, hall.clock())
        signs = queue.signs(session, [thread.inquiry]).get(thread.inquiry.id, queue.NO_SIGNS)
        frame = desk_frame(session, hall, actor)
        people = handovers.others(session, actor)
        row = session.get_one(Inquiry, thread.inquiry.id)
        given_to = handovers.taken_back_from(session, actor, row)
        unanswered = (
            deferred_inquiry(session, actor, thread.inquiry.id)
            if thread.inquiry.channel == CHAT
            else ""
        )
    if opened and signs.new_message and not _held_by_other(actor, thread.inquiry):
        _see(hall, partial(queue.see_news, actor=actor, ref=ref, now=hall.clock()))
    if opened and any(one.ref == thread.inquiry.ref for one in frame["handed"]):
        _see(hall, partial(handovers.see, actor=actor, ref=ref, now=hall.clock()))
        frame["handed"] = [one for one in frame["handed"] if one.ref != thread.inquiry.ref]
    department = hall.settings.departments.get(thread.inquiry.department)
    external = department is not None and department.external
    checks = checks_senders(hall.settings)
    known = {value for _channel, value in thread.contact_addresses}
    messages = [shown(message, thread.inquiry, known, checks) for message in thread.messages]
    return render(
        request,
        "inquiry.html",
        refused.error.status if refused else 200,
        row=thread.inquiry,
        thread=thread,
        messages=messages,
        department_name=(
            department.name.get(actor.language) if department else thread.inquiry.department
        ),
        external=external,
        # Whoever reads this sees the message itself.
        marks=marks(thread.inquiry, replace(signs, new_message=False), external=external),
        departments_text=department_text(hall, actor, thread.inquiry, signs),
        switchboard=queue.SWITCHBOARD,
        told=told(thread),
        came=came(thread),
        department_names=department_names(hall, actor),
        people=people,
        given_to=given_to,
        unanswered=unanswered,
        show=(lambda text: text) if revealed else mask_text,
        masked_any=any(
            mask_text(text) != text
            for one in messages
            for text in (one.visible, one.quoted, one.message.subject)
        ),
        revealed=revealed,
        parts=texting.measured(refused.typed.get("reply", "") if refused else "", thread.reply_end),
        lost=latest_owed(thread, "failed"),
        unsure=latest_owed(thread, "uncertain"),
        undelivered=undelivered,
        unreceipted=why_no_receipt(thread.events, actor.language),
        held_by_other=_held_by_other(actor, thread.inquiry),
        confirm_close=confirm_close,
        problem=(refused.text or sentence(refused.error, actor.language)) if refused else "",
        stale=refused is not None and isinstance(refused.error, ConflictError),
        typed=refused.typed if refused else {},
        files_lost=bool(refused and refused.files_lost),
        canned=canned_choices(
            hall,
            actor,
            thread.inquiry,
            thread.contact_name,
            thread.inquiry.language,
        ),
        files_limit=FILES_LIMIT,
        files_many=MANY,
        candidates=refused.candidates if refused else (),
        done=done,
        **frame,
    )


def _see(hall: Hall, job: Callable[[Session], None]) -> None:
    # A busy store is no reason to turn a reader away: what is new just stays marked as new.
    with suppress(StoreUnavailableError):
        hall.db.write_sync(job)


def _held_by_other(actor: Actor, row: queue.QueueRow) -> bool:
    return row.assignee_id is not None and row.assignee_id != actor.staff_id


PLACE = Place(
    page=inquiry_answer,
    one="/desk/inquiries/{ref}",
    all="/desk/queue?done={done}&ref={ref}",
    leaves=frozenset({"transferred", "returned", "closed", "replied_closed"}),
)
change = partial(change_at, PLACE)
router.include_router(forms(PLACE, "/inquiries/{ref}"))
