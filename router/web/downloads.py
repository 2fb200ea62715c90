"""What came with a message, as it came: files, the original, and the formatted version in a frame.

Nothing here is trusted. Files are downloads whatever they say they are, typed by what is in them;
HTML is sanitised and shown in a sandbox that can run nothing, load nothing and lead nowhere.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from fastapi import APIRouter, Request
from sqlalchemy import select
from sqlmodel import Session, col
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, HTMLResponse, Response

from channels.base import Mark
from router import events, journal, queue
from router.blobs import blob_path
from router.errors import ForbiddenError, NotFoundError, StoreUnavailableError
from router.files import IMAGES, SOUNDS, UNKNOWN, kind_of
from router.models import Arrival, Message, Role, StoredAttachment
from router.viewing import make_formatted
from router.web.auth import DeskActor, DeskReader, hall_of
from router.web.frame import desk_frame
from router.web.render import catalogue, render
from router.web.rows import RowNumber
from router.workers import WorkerLostError

if TYPE_CHECKING:
    from datetime import datetime

    from channels.email.formatted import Formatted
    from router.access import Actor
    from router.hall import Hall
    from router.models import Inquiry

router = APIRouter(prefix="/desk", include_in_schema=False)

IMAGES_LIMIT = 5 * 1024 * 1024
"""Bytes of pictures inside the formatted version."""

IMAGES_MANY = 200

PATIENCE = 3.0
"""Seconds to make a formatted version. Others may wait for theirs meanwhile."""

SERVED_AS = IMAGES | SOUNDS | {"application/pdf", "text/plain"}
_QUIET = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
}
_STYLE = (
    "body{margin:1rem;font:1rem/1.5 system-ui,sans-serif;color:#111;background:#fff;"
    "overflow-wrap:anywhere}img{max-width:100%;height:auto}table{max-width:100%}"
    "a{color:inherit;text-decoration:underline dotted}pre{white-space:pre-wrap}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
# Pictures come inside the document: a sandboxed frame has no origin, so its requests carry no
# session, and no address that shows them without one is wanted.
_FRAMED = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": (
        f"sandbox; default-src 'none'; img-src data:; style-src 'sha256-{_STYLE_HASH}'; "
        "form-action 'none'; base-uri 'none'; frame-ancestors 'self'"
    ),
    "Referrer-Policy": "no-referrer",
}
_FRAMING = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "font-src 'self'; connect-src 'self'; frame-src 'self'; form-action 'self'; "
        "frame-ancestors 'none'; base-uri 'none'"
    )
}
# The cleaner writes every attribute in double quotes.
_INSIDE = re.compile(r' src="cid:([^"]*)"')


@dataclass(frozen=True, slots=True)
class FormattedView:
    """The formatted version of a message, fit for the frame."""

    html: str
    remote: int
    """Pictures that lie elsewhere."""
    missing: int
    """Pictures that should have come with the message, and did not or are none."""
    complete: bool
    late: bool = False
    """Whether making it took too long."""


@router.get("/inquiries/{ref}/attachments/{number}")
def attachment(request: Request, actor: DeskActor, ref: str, number: RowNumber) -> Response:
    """A file of a message, always as a download. Raises `NotFoundError`."""
    try:
        return attached_file(hall_of(request), actor, ref, number)
    except ForbiddenError:
        return _quarantined(request, actor, ref)


@router.get("/arrivals/{number}/raw")
def raw_arrival(request: Request, actor: DeskActor, number: RowNumber) -> Response:
    """A message exactly as it came. It shows everything, so that it was fetched is written down.

    Raises `NotFoundError` also when its inquiry is not the actor's, or when it has none and the
    actor does not watch the doors.
    """
    hall = hall_of(request)
    now = hall.clock()
    watches = actor.role in {Role.OPERATOR, Role.ADMIN}

    def job(session: Session) -> tuple[Arrival, bytes | Path, str]:
        arrival = journal.get(session, number)
        if arrival.inquiry_id is None:
            if not watches:
                raise NotFoundError
        else:
            inquiry = queue.by_id(session, arrival.inquiry_id)
            queue.row(session, actor, inquiry.ref)
            if not watches and _holds_virus(session, number):
                return arrival, b"", inquiry.ref
            note_look(session, actor, inquiry, "original", now)
        return arrival, journal.source(session, arrival, hall.settings.blobs), ""

    arrival, source, kept_from = hall.db.write_sync(job)
    if kept_from:
        return _quarantined(request, actor, kept_from)
    name = f"original-{number}.{'eml' if arrival.channel == 'email' else 'txt'}"
    if isinstance(source, bytes):
        return Response(source, media_type="text/plain", headers=_as_file(name))
    return send_file(source, name, "text/plain")


@router.get("/inquiries/{ref}/messages/{number}/formatted")
async def formatted_page(
    request: Request, actor: DeskActor, ref: str, number: RowNumber
) -> Response:
    """The formatted version of a mail, framed. Raises `NotFoundError`."""
    hall = hall_of(request)
    message, original = await run_in_threadpool(_formatted_message, hall, actor, ref, number)
    if Mark.QUARANTINED in message.marks:
        return _quarantined(request, actor, ref)
    view = await _view(hall, message, original)

    def page() -> Response:
        with hall.db.read() as session:
            row = queue.row(session, actor, ref)
            frame = desk_frame(session, hall, actor)
        return render(
            request,
            "formatted.html",
            headers=_FRAMING,
            row=row,
            message=message,
            view=view,
            **frame,
        )

    return await run_in_threadpool(page)


@router.get("/inquiries/{ref}/messages/{number}/formatted/content")
async def formatted_content(
    request: Request, actor: DeskReader, ref: str, number: RowNumber
) -> Response:
    """What the frame shows. Raises `NotFoundError`."""
    hall = hall_of(request)
    message, original = await run_in_threadpool(_formatted_message, hall, actor, ref, number)
    if Mark.QUARANTINED in message.marks:
        raise NotFoundError
    view = await _view(hall, message, original)
    return HTMLResponse(
        f'<!doctype html><html lang="{actor.language}"><meta charset="utf-8"><title>-</title>'
        f"<style>{_STYLE}</style><body>{view.html}",
        headers=_FRAMED,
    )


def attached_file(hall: Hall, actor: Actor, ref: str, number: int) -> Response:
    """A file of a message, as a download. Raises `NotFoundError`, and `ForbiddenError` when a virus
    was found in the message."""
    with hall.db.read() as session:
        row = queue.row(session, actor, ref)
        found = session.execute(
            select(StoredAttachment, Message)
            .join(Message, col(Message.id) == col(StoredAttachment.message_id))
            .where(col(StoredAttachment.id) == number, col(Message.inquiry_id) == row.id)
        ).first()
    if found is None:
        raise NotFoundError
    file, message = found
    if Mark.QUARANTINED in message.marks:
        raise ForbiddenError("A virus was found in this message. Its files are not given out.")
    path = blob_path(hall.settings.blobs, file.sha256)
    try:
        kind = kind_of(path)
    except FileNotFoundError:
        raise NotFoundError from None
    if row.sensitivity:
        now = hall.clock()
        hall.db.write_sync(
            lambda session: note_look(session, actor, queue.get(session, actor, ref), "file", now)
        )
    return send_file(
        path, file.filename or f"{ref}-{number}", kind if kind in SERVED_AS else UNKNOWN
    )


def note_look(session: Session, actor: Actor, inquiry: Inquiry, what: str, now: datetime) -> None:
    """Write down that somebody looked at what is hidden: `thread`, `original` or `file`."""
    events.tell(session, "revealed", inquiry, now, staff_id=actor.staff_id, data={"what": what})


def _formatted_message(
    hall: Hall, actor: Actor, ref: str, number: int
) -> tuple[Message, bytes | Path]:
    """A message with a formatted version, and its original. Raises `NotFoundError`."""
    with hall.db.read() as session:
        row = queue.row(session, actor, ref)
        message = session.get(Message, number)
        if message is None or message.inquiry_id != row.id or not message.has_html:
            raise NotFoundError
        if message.arrival_id is None:
            raise NotFoundError
        arrival = journal.get(session, message.arrival_id)
        return message, journal.source(session, arrival, hall.settings.blobs)


async def _view(hall: Hall, message: Message, original: bytes | Path) -> FormattedView:
    """Empty when nothing can be shown. Raises `NotFoundError` when the original is missing."""
    try:
        made = await hall.viewer.run(make_formatted, original, seconds=PATIENCE)
    except FileNotFoundError:
        raise NotFoundError from None
    except WorkerLostError:
        return FormattedView("", 0, 0, complete=False, late=True)
    except RuntimeError as error:
        raise StoreUnavailableError from error
    return await run_in_threadpool(_with_images, hall, message, made)


def _with_images(hall: Hall, message: Message, made: Formatted) -> FormattedView:
    """Put the pictures that came with the message where they belong."""
    addresses = _images(hall, message, made.content_ids) if made.content_ids else {}
    missing = 0

    def place(match: re.Match[str]) -> str:
        nonlocal missing
        address = addresses.get(unquote(unescape(match[1])).strip("<> ")[:200])
        missing += address is None
        return f' src="{address}"' if address else ""

    html = _INSIDE.sub(place, made.html)
    return FormattedView(html, made.remote_images, missing, made.complete)


def _images(hall: Hall, message: Message, wanted: Sequence[str]) -> dict[str, str]:
    """Content-ID (RFC 2392) -> the picture as an address of its own (RFC 2397)."""
    with hall.db.read() as session:
        files = session.execute(
            select(StoredAttachment).where(
                col(StoredAttachment.message_id) == message.id,
                col(StoredAttachment.content_id).in_(wanted[:IMAGES_MANY]),
            )
        ).scalars()
        stored = {file.content_id: file for file in files}
    room = IMAGES_LIMIT
    addresses: dict[str, str] = {}
    for name, file in stored.items():
        path = blob_path(hall.settings.blobs, file.sha256)
        if file.size > room or not path.exists() or (kind := kind_of(path)) not in IMAGES:
            continue
        room -= file.size
        addresses[name] = f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
    return addresses


def _holds_virus(session: Session, arrival_id: int) -> bool:
    # Of all messages of its inquiry: a second delivery has none of its own.
    marks = session.execute(
        select(col(Message.marks))
        .join(Arrival, col(Arrival.inquiry_id) == col(Message.inquiry_id))
        .where(col(Arrival.id) == arrival_id)
    ).scalars()
    return any(Mark.QUARANTINED in found for found in marks)


def _quarantined(request: Request, actor: Actor, ref: str) -> Response:
    t = catalogue(actor.language)
    return render(
        request,
        "error_desk.html",
        403,
        title=t.gettext("A virus was found in this message"),
        text=t.gettext(
            "Its files are kept, but nobody can open them from here. Ask the sender to send what"
            " you need in another way. If you must have the file, ask those who run the IT systems."
        ),
        number=403,
        back=f"/desk/inquiries/{quote(ref)}",
    )


def _as_file(filename: str) -> dict[str, str]:
    """Headers of what no browser opens as a page of ours (RFC 6266, RFC 8187 for the name)."""
    name = quote(filename, safe="")
    return _QUIET | {"Content-Disposition": f"attachment; filename*=UTF-8''{name}"}


def send_file(path: Path, filename: str, content_type: str) -> Response:
    """A stored file, sent piece by piece. Raises `NotFoundError` when it is missing."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        raise NotFoundError from None
    return FileResponse(path, media_type=content_type, headers=_as_file(filename), stat_result=stat)
