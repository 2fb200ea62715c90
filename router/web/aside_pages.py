"""What was set aside: robots, mass mailings and spam, kept where a person finds what does not
belong there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Form, Query, Request
from sqlalchemy import select, tuple_
from sqlmodel import Session, col
from starlette.responses import RedirectResponse, Response

from channels.base import Mark
from router import queue
from router.access import Actor
from router.models import Direction, Inquiry, InquiryStatus, Message
from router.web.auth import DeskActor, hall_of
from router.web.frame import IS_ASIDE, desk_frame
from router.web.render import render
from router.web.rows import LARGEST

if TYPE_CHECKING:
    from router.hall import Hall

router = APIRouter(prefix="/desk", include_in_schema=False)

PAGE = 50

_I: Any = Inquiry.__table__  # type: ignore[attr-defined]

Marked = Annotated[Sequence[str], Form(max_length=PAGE)]
Only = Annotated[str, Form(max_length=40)]


@dataclass(frozen=True, slots=True)
class AsideLine:
    """One inquiry that stands aside, and why."""

    id: int
    ref: str
    channel: str
    subject: str
    sender_name: str
    sender_address: str
    department: str
    received_at: datetime
    reason: str
    """Kind of the message that opened it."""
    quarantined: bool


@router.get("/aside")
def aside_page(
    request: Request,
    actor: DeskActor,
    after: Annotated[int, Query(ge=0, le=LARGEST)] = 0,
    done: str = "",
) -> Response:
    """What stands aside, latest first."""
    hall = hall_of(request)
    with hall.db.read() as session:
        lines = _lines(session, hall, actor, after)
        frame = desk_frame(session, hall, actor)
    return render(
        request,
        "aside.html",
        lines=lines[:PAGE],
        following=lines[PAGE - 1].id if len(lines) > PAGE else 0,
        after=after,
        done=done,
        **frame,
    )


@router.post("/aside/open")
def move_to_queue(
    request: Request, actor: DeskActor, ref: Marked = (), only: Only = ""
) -> Response:
    """Put what does not belong aside into the queue, with the deadline it has had all the time."""
    return _each(request, actor, ref, only, "moved", queue.reopen)


@router.post("/aside/close")
def close_aside(request: Request, actor: DeskActor, ref: Marked = (), only: Only = "") -> Response:
    """Close what nobody has to answer."""
    return _each(request, actor, ref, only, "aside_closed", queue.close)


def _each(
    request: Request,
    actor: Actor,
    marked: Sequence[str],
    only: str,
    done: str,
    change: Callable[[Session, Actor, str, datetime], Inquiry],
) -> Response:
    hall = hall_of(request)
    now = hall.clock()
    refs = [only] if only else list(marked)

    def job(session: Session) -> None:
        for ref in refs:
            # What somebody else has dealt with in the meantime stays as they left it.
            if queue.get(session, actor, ref).status is InquiryStatus.ASIDE:
                change(session, actor, ref, now)

    if refs:
        hall.db.write_sync(job)
    return RedirectResponse(f"/desk/aside?done={done if refs else 'none_marked'}", 303)


def _lines(session: Session, hall: Hall, actor: Actor, after: int) -> list[AsideLine]:
    query = select(_I).where(IS_ASIDE).order_by(_I.c.received_at.desc(), _I.c.id.desc())
    if actor.departments is not None:
        query = query.where(_I.c.department.in_(sorted(actor.departments)))
    last = session.get(Inquiry, after) if after else None
    if last is not None:
        query = query.where(tuple_(_I.c.received_at, _I.c.id) < tuple_(last.received_at, last.id))
    rows = session.connection().execute(query.limit(PAGE + 1)).all()
    openings: dict[int, tuple[str, list[str]]] = {}
    messages = session.connection().execute(
        select(col(Message.inquiry_id), col(Message.kind), col(Message.marks))
        .where(
            col(Message.inquiry_id).in_([row.id for row in rows]),
            col(Message.direction) == Direction.IN,
        )
        .order_by(col(Message.id))
    )
    for inquiry_id, kind, marks in messages:
        openings.setdefault(inquiry_id, (kind, marks))
    departments = hall.settings.departments
    lines = []
    for row in rows:
        kind, marks = openings.get(row.id, ("contact", []))
        known = departments.get(row.department)
        lines.append(
            AsideLine(
                id=row.id,
                ref=row.ref,
                channel=row.channel,
                subject=row.subject,
                sender_name=row.sender_name,
                sender_address=row.sender_address,
                department=known.name.get(actor.language) if known else row.department,
                received_at=row.received_at,
                reason=kind,
                quarantined=Mark.QUARANTINED in marks,
            )
        )
    return lines
