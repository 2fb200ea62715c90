"""The list of inquiries as the desk shows it: what was asked for, its lines, its counters.

A line is rendered once for all who look at it while it looks the same: at a busy desk every change
makes every open page read its lines anew.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple
from urllib.parse import urlencode

from fastapi import Query
from markupsafe import Markup

from router import queue
from router.counters import counts
from router.web import phrases
from router.web.phrases import DueView
from router.web.render import catalogue, environment

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from sqlmodel import Session

    from router.access import Actor
    from router.hall import Hall


CHANNELS = ("email", "web")
"""The ways in that the list can be narrowed to."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the address says about the list."""

    department: str = ""
    assignee: str = ""
    channel: str = ""
    status: Literal["open", "closed", "all"] = "open"
    q: Annotated[str, Query(max_length=200)] = ""

    def filter(self, actor: Actor) -> queue.Filter:
        """As the queue understands it; «me» is whoever asks."""
        return queue.Filter(
            status="" if self.status == "all" else self.status,
            department=self.department,
            channel=self.channel,
            assignee=actor.username if self.assignee == "me" else self.assignee,
            q=self.q,
        )

    def address(self, path: str, **more: str | None) -> str:
        """The same list elsewhere."""
        plain = {name: value for name, value in asdict(self).items() if value}
        if plain.get("status") == "open":
            del plain["status"]
        query = urlencode(plain | {name: value for name, value in more.items() if value})
        return f"{path}?{query}" if query else path


class Line(NamedTuple):
    """Everything that a line of the queue shows, and nothing else: equal lines look alike."""

    ref: str
    channel: str
    status: str
    reply_state: str
    subject: str
    sender_name: str
    sender_address: str
    department: str
    forwarded: bool
    holder: str
    mine: bool
    received: str
    """RFC 3339."""
    received_in_words: str
    due: DueView
    emergency: bool
    sensitivity: str


@lru_cache(maxsize=8192)
def _line_html(language: str, line: Line) -> Markup:
    """One line, rendered once for all who look at it while it looks the same."""
    page = environment(language).get_template("_row.html")
    return Markup(page.render(row=line))  # noqa: S704 - rendered with autoescape


def list_context(
    session: Session, hall: Hall, actor: Actor, wanted: Wanted, after: str, limit: int
) -> dict[str, Any]:
    """What `_queue.html` needs. Raises `InvalidError` for a cursor that is not ours."""
    page = queue.page(session, actor, wanted.filter(actor), after or None, limit)
    now = hall.clock()
    open_counts = counts(session, "open:")
    overdue_counts = counts(session, "overdue:")
    return {
        "lines": [line(hall, actor, row, now) for row in page.rows],
        "following": page.next,
        "after": after,
        "wanted": wanted,
        "open_counts": open_counts,
        "overdue_counts": overdue_counts,
        "open_total": _total(open_counts, actor, wanted.department),
        "overdue_total": _total(overdue_counts, actor, wanted.department),
        "rows_url": wanted.address("/desk/queue/rows", after=after),
        "first_url": wanted.address("/desk/queue"),
        "more_url": wanted.address("/desk/queue", after=page.next),
        "more_rows_url": wanted.address("/desk/queue/rows", after=page.next),
    }


def line(hall: Hall, actor: Actor, row: queue.QueueRow, now: datetime) -> Markup:
    """One line as HTML."""
    department = hall.settings.departments.get(row.department)
    language, texts = actor.language, catalogue(actor.language)
    content = Line(
        ref=row.ref,
        channel=row.channel,
        status=row.status,
        reply_state=row.reply_state,
        subject=row.subject,
        sender_name=row.sender_name,
        sender_address=row.sender_address,
        department=department.name.get(language) if department else row.department,
        forwarded=bool(department and department.external),
        holder=row.assignee_name,
        mine=row.assignee_id is not None and row.assignee_id == actor.staff_id,
        received=phrases.rfc3339(row.received_at),
        received_in_words=phrases.moment(row.received_at, now, language, texts),
        due=phrases.due_view(row, now, language, texts),
        emergency=row.emergency,
        sensitivity=row.sensitivity,
    )
    return _line_html(language, content)


def _total(counts: dict[str, int], actor: Actor, department: str) -> int:
    return sum(
        count
        for slug, count in counts.items()
        if actor.sees(slug) and (not department or slug == department)
    )


def department_names(
    hall: Hall, actor: Actor, *, visible_only: bool = False
) -> list[tuple[str, str]]:
    """(slug, name) in the order of the alphabet."""
    named = [
        (slug, department.name.get(actor.language))
        for slug, department in hall.settings.departments.items()
        if not visible_only or actor.sees(slug)
    ]
    return sorted(named, key=lambda pair: pair[1].casefold())


def match_departments(hall: Hall, typed: str) -> list[str]:
    """Slugs of the departments that fit what was typed; exact beats beginning beats part."""
    text = typed.strip().casefold()
    if not text:
        return []
    names = {
        slug: {slug, *(department.name.get(code).casefold() for code in ("nb", "nn", "en"))}
        for slug, department in hall.settings.departments.items()
    }
    tests: tuple[Callable[[str], bool], ...] = (
        lambda name: name == text,
        lambda name: name.startswith(text),
        lambda name: text in name,
    )
    for fits in tests:
        found = [slug for slug, known in names.items() if any(map(fits, known))]
        if found:
            return found
    return []
