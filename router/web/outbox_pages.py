"""What has got stuck: arrivals that could not be read, letters that could not be sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from sqlalchemy import select
from sqlmodel import Session, col
from starlette.responses import RedirectResponse, Response

from router import journal, outbox, queue, replies
from router.errors import NotFoundError
from router.models import ArrivalState, Inquiry, OutboxItem
from router.web.auth import SwitchboardActor, hall_of
from router.web.frame import desk_frame
from router.web.messages import plain, undelivered, why_parked
from router.web.render import render
from router.web.rows import RowNumber

if TYPE_CHECKING:
    from pathlib import Path


router = APIRouter(prefix="/desk", include_in_schema=False)

PREVIEW = 4096
"""Bytes of a parked arrival that are shown; the whole is a download."""


@router.get("/parked")
def parked_page(request: Request, actor: SwitchboardActor, done: str = "") -> Response:
    """What could not be read, oldest first."""
    hall = hall_of(request)
    with hall.db.read() as session:
        arrivals = journal.parked(session)
        frame = desk_frame(session, hall, actor)
    return render(
        request, "parked.html", arrivals=arrivals, why_parked=why_parked, done=done, **frame
    )


@router.get("/parked/{number}")
def parked_one(request: Request, actor: SwitchboardActor, number: RowNumber) -> Response:
    """The beginning of one parked arrival, as plain text."""
    hall = hall_of(request)
    with hall.db.read() as session:
        arrival = journal.get(session, number)
        if arrival.state is not ArrivalState.PARKED:
            raise NotFoundError
        source = journal.source(session, arrival, hall.settings.blobs)
        frame = desk_frame(session, hall, actor)
    return render(
        request,
        "parked_one.html",
        arrival=arrival,
        preview=plain(_beginning(source)),
        cut=arrival.size > PREVIEW,
        why_parked=why_parked,
        **frame,
    )


@router.post("/parked/{number}/retry")
async def parked_retry(request: Request, _actor: SwitchboardActor, number: RowNumber) -> Response:
    """Run a parked arrival again."""
    hall = hall_of(request)
    await hall.db.write(lambda session: journal.retry(session, number))
    await hall.reception.find_waiting()
    return RedirectResponse("/desk/parked?done=retried", 303)


@router.get("/outbox")
def outbox_page(request: Request, actor: SwitchboardActor, done: str = "") -> Response:
    """What we could not send, or do not know whether we sent."""
    hall = hall_of(request)
    with hall.db.read() as session:
        items = outbox.stuck(session)
        query = select(col(Inquiry.id), col(Inquiry.ref)).where(
            col(Inquiry.id).in_({item.inquiry_id for item in items})
        )
        refs = dict(session.connection().execute(query).all())
        frame = desk_frame(session, hall, actor)
    return render(
        request,
        "outbox.html",
        items=items,
        refs=refs,
        undelivered=undelivered,
        done=done,
        **frame,
    )


@router.post("/outbox/{number}/retry")
def outbox_retry(request: Request, actor: SwitchboardActor, number: RowNumber) -> Response:
    """Try to send one message again."""
    hall = hall_of(request)
    now = hall.clock()

    def job(session: Session) -> None:
        item = session.get(OutboxItem, number)
        if item is None:
            raise NotFoundError
        ref = queue.by_id(session, item.inquiry_id).ref
        replies.send_again(session, actor, ref, number, now)

    hall.db.write_sync(job)
    hall.outbox.wake()
    return RedirectResponse("/desk/outbox?done=retried", 303)


def _beginning(source: bytes | Path) -> bytes:
    """What is shown of an arrival; nothing where its content is missing."""
    if isinstance(source, bytes):
        return source[:PREVIEW]
    try:
        with source.open("rb") as file:
            return file.read(PREVIEW)
    except FileNotFoundError:
        return b""
