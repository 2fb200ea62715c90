"""Who is here: the list of people, one person, and everybody's own mark in the header."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Form, Request
from sqlmodel import Session
from starlette.responses import RedirectResponse, Response

from router import presence, staff
from router.errors import ConflictError, InvalidError, NotFoundError, RouterError
from router.staff import normal_username
from router.web.auth import AdminActor, DeskActor, DeskReader, hall_of, safe_next
from router.web.frame import desk_frame
from router.web.people import fitting
from router.web.phrases import ZONE
from router.web.render import catalogue, render, sentence
from rules.presence import State, Until

if TYPE_CHECKING:
    from router.access import Actor
    from router.hall import Hall
    from router.presence import Listed

router = APIRouter(prefix="/desk/presence", include_in_schema=False)

FOUND = 8
"""How many people the search on other pages shows."""

QUICK: dict[str, tuple[State, Until]] = {
    "out": (State.AWAY, timedelta(hours=1)),
    "meeting": (State.MEETING, timedelta(hours=1)),
    "gone": (State.AWAY, "day"),
    "absent": (State.ABSENT, "day"),
}
"""Marks of one key or tap."""

LENGTHS: dict[str, Until] = {"1h": timedelta(hours=1), "2h": timedelta(hours=2), "day": "day"}


@router.get("")
def people_page(request: Request, actor: DeskActor, q: str = "") -> Response:
    """Everybody by department, and whether they can be reached."""
    hall = hall_of(request)
    with hall.db.read() as session:
        context = _list(session, hall, actor, q)
        frame = desk_frame(session, hall, actor)
    return render(request, "people.html", **context, **frame)


@router.get("/rows")
def people_rows(request: Request, actor: DeskReader, q: str = "") -> Response:
    """The changing part of the list."""
    hall = hall_of(request)
    with hall.db.read() as session:
        context = _list(session, hall, actor, q)
    return render(request, "_people.html", **context)


@router.get("/find")
def find(request: Request, actor: DeskReader, q: str = "") -> Response:
    """The first who fit what has been typed so far, for the search on every page."""
    hall = hall_of(request)
    with hall.db.read() as session:
        everybody = presence.statuses(session, actor, hall.clock(), hall.directory)
    found = fitting(hall, everybody.values(), q) if q.strip() else []
    return render(
        request,
        "_found.html",
        found=found[:FOUND],
        more=len(found) - FOUND,
        asked=bool(q.strip()),
        names=_department_names(hall, actor),
    )


@router.get("/own")
def own(request: Request, actor: DeskReader) -> Response:
    """One's own mark, for the header of every page."""
    return _own(request, actor)


@router.post("/own")
def set_own(
    request: Request,
    actor: DeskActor,
    quick: Annotated[str, Form(max_length=20)] = "",
    back: Annotated[str, Form(max_length=2000)] = "",
) -> Response:
    """Set or take back one's own mark from the header; a script gets the header's part back."""
    hall = hall_of(request)
    now = hall.clock()

    def job(session: Session) -> None:
        if quick == "clear":
            presence.clear(session, actor, actor.username, now, hall.directory)
        else:
            state, until = _quick(quick)
            presence.mark(session, actor, actor.username, state, until, "", now, hall.directory)

    hall.db.write_sync(job)
    if "hx-request" in request.headers:
        words = catalogue(actor.language).gettext("Saved.")
        headers = {"HX-Trigger": f'{{"said": "{quote(words)}"}}'}
        return _own(request, actor, headers)
    return RedirectResponse(safe_next(back), 303)


@router.get("/of/{username}")
def person_page(request: Request, actor: DeskActor, username: str, done: str = "") -> Response:
    """One person: state, way to reach them, and marks for those who may set them."""
    return _person(request, actor, username, done=done)


@router.get("/of/{username}/live")
def person_live(request: Request, actor: DeskReader, username: str) -> Response:
    """The changing part of that page."""
    hall = hall_of(request)
    with hall.db.read() as session:
        context = _one(session, hall, actor, username)
    return render(request, "_person.html", **context)


@router.post("/of/{username}")
def set_mark(
    request: Request,
    actor: DeskActor,
    username: str,
    quick: Annotated[str, Form(max_length=20)] = "",
    state: Annotated[str, Form(max_length=20)] = "",
    length: Annotated[str, Form(max_length=10)] = "2h",
    at_time: Annotated[str, Form(max_length=10)] = "",
    at_date: Annotated[str, Form(max_length=20)] = "",
    note: Annotated[str, Form(max_length=1000)] = "",
) -> Response:
    """Set a mark, or take it back."""
    hall = hall_of(request)
    now = hall.clock()
    typed = {
        "state": state,
        "length": length,
        "at_time": at_time,
        "at_date": at_date,
        "note": note,
    }
    errors: dict[str, str] = {}
    t = catalogue(actor.language)
    chosen: State | None = None
    until: Until = None
    if quick and quick != "clear":
        chosen, until = _quick(quick)
    elif not quick:
        if state in presence.SETTABLE:
            chosen = State(state)
        else:
            errors["state"] = t.gettext("Choose a state.")
        try:
            until = _until(length, at_time, at_date, now)
        except ValueError:
            field = "at_time" if length == "time" else "at_date"
            errors[field] = t.gettext("Give a time such as 14:30, or a date.")
    if errors:
        return _person(request, actor, username, typed=typed, errors=errors)

    def job(session: Session) -> None:
        if chosen is None:
            presence.clear(session, actor, username, now, hall.directory)
        else:
            presence.mark(session, actor, username, chosen, until, note, now, hall.directory)

    try:
        hall.db.write_sync(job)
    except (ConflictError, InvalidError) as error:
        return _person(request, actor, username, typed=typed, refused=error)
    done = "presence_set" if chosen else "presence_cleared"
    return RedirectResponse(f"/desk/presence/of/{quote(username, safe='')}?done={done}", 303)


def _quick(code: str) -> tuple[State, Until]:
    if code not in QUICK:
        raise InvalidError("This is not a state to set by hand.")
    return QUICK[code]


def _until(length: str, at_time: str, at_date: str, now: datetime) -> Until:
    """What the form says of the end. Raises ValueError for a time or date that cannot be read."""
    if length == "date":
        return date.fromisoformat(at_date.strip())
    if length == "time":
        local = time.fromisoformat(at_time.strip().replace(".", ":").zfill(5))
        return datetime.combine(now.astimezone(ZONE).date(), local, ZONE)
    return LENGTHS.get(length)


@router.post("/of/{username}/jid")
def set_jid(
    request: Request,
    actor: AdminActor,
    username: str,
    jid: Annotated[str, Form(max_length=1000)] = "",
) -> Response:
    """Say where somebody answers from by XMPP."""
    hall = hall_of(request)

    def job(session: Session) -> None:
        staff.set_jid(session, staff.require_staff(session, username), jid)

    try:
        hall.db.write_sync(job)
    except InvalidError as error:
        errors = {"jid": sentence(error, actor.language)}
        return _person(request, actor, username, typed={"jid": jid}, errors=errors)
    return RedirectResponse(f"/desk/presence/of/{quote(username, safe='')}?done=jid_saved", 303)


def _list(session: Session, hall: Hall, actor: Actor, q: str) -> dict[str, Any]:
    """People by department in the order of the alphabet; who has none stands with the
    switchboard."""
    listed = presence.statuses(session, actor, hall.clock(), hall.directory)
    names = _department_names(hall, actor)
    groups: dict[str, list[Listed]] = {}
    for line in fitting(hall, listed.values(), q[:100]):
        for slug in line.departments or (hall.settings.municipality.default_department,):
            groups.setdefault(slug, []).append(line)
    return {
        "q": q[:100],
        "groups": sorted(
            ((names.get(slug, slug), lines) for slug, lines in groups.items()),
            key=lambda group: group[0].casefold(),
        ),
        "people_names": {line.username: line.name for line in listed.values()},
    }


def _one(session: Session, hall: Hall, actor: Actor, username: str) -> dict[str, Any]:
    everybody = presence.statuses(session, actor, hall.clock(), hall.directory)
    line = everybody.get(normal_username(username))
    if line is None:
        raise NotFoundError
    return {
        "person": line,
        "deputy": everybody.get(line.deputy),
        "said_by": everybody.get(line.set_by),
        "names": _department_names(hall, actor),
    }


def _person(
    request: Request,
    actor: Actor,
    username: str,
    *,
    done: str = "",
    typed: dict[str, str] | None = None,
    errors: dict[str, str] | None = None,
    refused: RouterError | None = None,
) -> Response:
    hall = hall_of(request)
    with hall.db.read() as session:
        context = _one(session, hall, actor, username)
        frame = desk_frame(session, hall, actor)
        known = staff.find_staff(session, username)
    person: Listed = context["person"]
    return render(
        request,
        "person.html",
        422 if errors else refused.status if refused else 200,
        may_set=presence.may_set(actor, person.username),
        states=presence.SETTABLE,
        has_xmpp=hall.settings.channels.xmpp.enabled and known is not None,
        jid=(known.jid or "") if known is not None else "",
        typed=typed or {},
        errors=errors or {},
        problem=sentence(refused, actor.language) if refused else "",
        done=done,
        **context,
        **frame,
    )


def _own(request: Request, actor: Actor, headers: dict[str, str] | None = None) -> Response:
    hall = hall_of(request)
    with hall.db.read() as session:
        status = presence.status_of(session, actor.username, hall.clock(), hall.directory)
    return render(request, "_my_presence.html", headers=headers, my_presence=status)


def _department_names(hall: Hall, actor: Actor) -> dict[str, str]:
    return {
        slug: department.name.get(actor.language)
        for slug, department in hall.settings.departments.items()
    }
