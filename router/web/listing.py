"""The list of inquiries as the desk shows it: what was asked for, its lines, its counters.

At a busy desk every change makes every open page read its lines anew, so the markup of a line is
rendered once for all lines of its shape, and each then only gets its words.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from functools import cache
from html import escape
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple
from urllib.parse import urlencode

from fastapi import Query
from markupsafe import Markup

from router import calls, queue
from router.counters import count_of, queue_counts
from router.models import InquiryStatus, ReplyState
from router.privacy import mask_text
from router.web import phrases
from router.web.render import catalogue, environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from sqlmodel import Session

    from router.access import Actor
    from router.hall import Hall
    from router.web.phrases import DueState

CHANNELS = ("phone", "chat", "sms", "email", "web")
"""The ways in that the list can be narrowed to."""

_OPTIONAL = ("deadline", "address", "holder")
"""Words that some lines have not."""
_WORDS = (
    *("ref", "left", "subject", "sender", "department", "received", "received_in_words"),
    *_OPTIONAL,
)


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


class Shape(NamedTuple):
    """What decides the markup of a line, beside the words that stand in it. There are few."""

    channel: str
    state: DueState
    marks: tuple[str, ...]
    """Codes of `LABELS["line"]`."""
    open: bool
    mine: bool
    left_out: tuple[str, ...]
    """The words that it has not."""


@cache
def _pattern(language: str, shape: Shape) -> str:
    """Lines of one shape as `_row.html` renders them, with `%(word)s` where a word goes."""
    macros: Any = environment(language).get_template("macros.html").module
    template: Any = environment(language).get_template("_row.html").module
    blanks = {word: f"\0{word}\0" for word in _WORDS} | dict.fromkeys(shape.left_out, "")
    html = template.row(
        blanks | shape._asdict(),
        macros.icon(shape.state),
        macros.channel(shape.channel),
        macros.marks(shape.marks),
    )
    return re.sub("\0(.+?)\0", r"%(\1)s", str(html).replace("%", "%%"))


def list_context(
    session: Session, hall: Hall, actor: Actor, wanted: Wanted, after: str, limit: int
) -> dict[str, Any]:
    """What `_queue.html` needs. Raises `InvalidError` for a cursor that is not ours."""
    page = queue.page(session, actor, wanted.filter(actor), after or None, limit)
    now = hall.clock()
    kept = queue_counts(session)
    signs = queue.signs(session, page.rows)
    lines = (line(hall, actor, row, signs.get(row.id, queue.NO_SIGNS), now) for row in page.rows)
    return {
        "lines": Markup("\n".join(lines)),  # noqa: S704 - each line is Markup
        "following": page.next,
        "after": after,
        "wanted": wanted,
        "kept": kept,
        "open_total": _count(kept, "open", actor, wanted.department),
        "overdue_total": _count(kept, "overdue", actor, wanted.department),
        "rows_url": wanted.address("/desk/queue/rows", after=after),
        "first_url": wanted.address("/desk/queue"),
        "more_url": wanted.address("/desk/queue", after=page.next),
        "more_rows_url": wanted.address("/desk/queue/rows", after=page.next),
    }


def line(
    hall: Hall, actor: Actor, row: queue.QueueRow, signs: queue.Signs, now: datetime
) -> Markup:
    """One line as HTML."""
    language, t = actor.language, catalogue(actor.language)
    department = hall.settings.departments.get(row.department)
    mine = row.assignee_id is not None and row.assignee_id == actor.staff_id
    due = phrases.due_view(row, now, language, t)
    address = phrases.address(row.sender_address)
    words = {
        "ref": row.ref,
        "left": due.left,
        "deadline": due.deadline,
        "subject": mask_text(row.subject) or t.gettext("(no subject)"),
        "sender": phrases.sender(row, t),
        "address": address if row.sender_name else "",
        "department": department_text(hall, actor, row, signs),
        "received": phrases.rfc3339(row.received_at),
        "received_in_words": phrases.moment(row.received_at, now, language, t),
        "holder": t.gettext("Me") if mine else row.assignee_name,
    }
    shape = Shape(
        channel=row.channel,
        state=due.state,
        marks=marks(row, signs, external=department is not None and department.external),
        open=row.status is InquiryStatus.OPEN,
        mine=mine,
        left_out=tuple(word for word in _OPTIONAL if not words[word]),
    )
    escaped = {name: escape(text) for name, text in words.items()}
    return Markup(_pattern(language, shape) % escaped)  # noqa: S704 - each word is escaped


def department_text(hall: Hall, actor: Actor, row: queue.QueueRow, signs: queue.Signs) -> str:
    """«Vei», or «Vei, også Park og natur» where others were addressed as well."""
    name, *others = (
        known.name.get(actor.language) if known else slug
        for slug in (row.department, *signs.also)
        for known in [hall.settings.departments.get(slug)]
    )
    if not others:
        return name
    text = catalogue(actor.language).gettext("%(name)s, also %(others)s")
    return text % {"name": name, "others": ", ".join(sorted(others, key=str.casefold))}


def marks(row: queue.QueueRow, signs: queue.Signs, *, external: bool) -> tuple[str, ...]:
    """What to know of an inquiry at a glance, as codes of `LABELS["line"]`."""
    standing = (
        ("emergency", row.emergency),
        ("sensitive", row.sensitivity),
        ("external", external),
        ("not_delivered", row.reply_state is ReplyState.NOT_DELIVERED),
        ("callback", row.kind == calls.KIND and row.reply_state is ReplyState.UNANSWERED),
        ("new_message", signs.new_message),
        ("receipt_failed", signs.receipt_failed),
    )
    return tuple(code for code, holds in standing if holds)


def department_choices(hall: Hall, actor: Actor, kept: dict[str, int]) -> list[tuple[str, str]]:
    """(slug, name and how many) of the departments that the list can be narrowed to."""
    overdue = catalogue(actor.language).gettext("%(n)s overdue")
    choices = []
    for slug, name in department_names(hall, actor, visible_only=True):
        counts = str(_count(kept, "open", actor, slug))
        if late := _count(kept, "overdue", actor, slug):
            counts += f", {overdue % {'n': late}}"
        choices.append((slug, f"{name} ({counts})"))
    return choices


def _count(kept: dict[str, int], what: str, actor: Actor, department: str) -> int:
    """How many inquiries the list has that is narrowed to this department, or to none."""
    if not department:
        return count_of(kept, what, actor.departments)
    if actor.departments is None:
        # Who sees everything finds an inquiry with whoever answers it.
        return kept.get(f"{what}:{department}", 0)
    return count_of(kept, what, actor.departments & {department})


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


def match_people(people: Iterable[tuple[str, str]], typed: str) -> tuple[list[str], list[str]]:
    """Usernames of those who are called what was typed, and of those whose names begin so."""
    wanted = " ".join(typed.split()).casefold()
    if not wanted:
        return [], []
    named = [(username, name.casefold()) for username, name in people]
    exact = [username for username, name in named if wanted in (username.casefold(), name)]
    begun = [
        username
        for username, name in named
        if any(word.startswith(wanted) for word in (name, *name.split()))
    ]
    return exact, begun


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
