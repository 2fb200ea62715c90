"""Who works here: accounts, roles, departments, and by what names they are found.

How somebody gets in is in `router/passwords.py` and `router/credentials.py`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NewType

from sqlalchemy import bindparam, delete, select, text
from sqlmodel import Session, col

from channels.base import OutgoingKind
from channels.chat.xmpp import bare_jid
from channels.text import nfc
from router import events
from router.access import ACCESS_CHANGED, SERVICE_PREFIX, Actor, departments_for
from router.chat_models import Relayed
from router.errors import InvalidError, NotFoundError
from router.models import Credential, Department, Membership, OutboxItem, Role, Staff
from rules.document import suggest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

PasswordHash = NewType("PasswordHash", str)

_C: Any = Credential.__table__  # type: ignore[attr-defined]

# Written out, so that the planner uses the partial index.
_UNSENT = text("outbox.state NOT IN ('sent', 'delivered')")

_MEMBERSHIPS = select(col(Membership.department)).where(
    col(Membership.staff_id) == bindparam("staff_id")
)

_USERNAME = re.compile(r"[a-zæøå0-9][a-zæøå0-9._@-]{1,63}")


def add_staff(
    session: Session,
    username: str,
    name: str,
    role: Role,
    departments: Iterable[str],
    password: PasswordHash | None,
    now: datetime,
) -> Staff:
    """Add a person. Without a password they sign in by a one-time link.

    Raises `InvalidError` for a bad or taken username, a missing name or an unknown department, and
    when a member or lead has no department.
    """
    username = normal_username(username)
    if not _USERNAME.fullmatch(username) or username.startswith(SERVICE_PREFIX):
        raise InvalidError(
            "A username has 2 to 64 letters, digits, dots, hyphens, @ or _, and does not begin "
            f"with {SERVICE_PREFIX}"
        )
    if find_staff(session, username) is not None:
        raise InvalidError(f"The username «{username}» is taken.")
    return insert_staff(session, username, name, role, frozenset(departments), password, now)


def find_staff(session: Session, username: str) -> Staff | None:
    """The person with this username."""
    username = normal_username(username)
    if not _USERNAME.fullmatch(username):
        return None
    return session.execute(select(Staff).where(col(Staff.username) == username)).scalar()


def normal_username(username: str) -> str:
    """Usernames are compared in NFC and lower case."""
    return nfc(username).strip().lower()


def require_staff(session: Session, username: str) -> Staff:
    """The person with this username. Raises `NotFoundError`; service accounts are no people."""
    staff = find_staff(session, username)
    if staff is None or staff.username.startswith(SERVICE_PREFIX):
        raise NotFoundError(f"There is nobody with the username «{username}».")
    return staff


def people(session: Session) -> list[tuple[Staff, list[str]]]:
    """Everybody who signs in, by username, each with their departments."""
    query = select(Staff).where(col(Staff.username).not_like(f"{SERVICE_PREFIX}%"))
    memberships: dict[int, list[str]] = {}
    for row in session.execute(select(Membership).order_by(col(Membership.department))).scalars():
        memberships.setdefault(row.staff_id, []).append(row.department)
    return [
        (staff, memberships.get(staff.id or 0, []))
        for staff in session.execute(query.order_by(col(Staff.username))).scalars()
    ]


def change_staff(
    session: Session,
    staff: Staff,
    now: datetime,
    *,
    role: Role | None = None,
    departments: Iterable[str] | None = None,
    name: str | None = None,
) -> None:
    """Change what is given, keep the rest; it holds from the person's next click, and for streams
    that are open.

    Raises `InvalidError` as `add_staff` does.
    """
    kept = select(col(Membership.department)).where(col(Membership.staff_id) == staff.id)
    wanted = frozenset(session.execute(kept).scalars() if departments is None else departments)
    staff.role = role or staff.role
    staff.name = _checked_name(session, name or staff.name, staff.role, wanted)
    session.execute(delete(Membership).where(col(Membership.staff_id) == staff.id))
    session.add_all(Membership(staff_id=staff.id or 0, department=slug) for slug in sorted(wanted))
    session.add(staff)
    session.flush()
    events.record(session, ACCESS_CHANGED, at=now, staff_id=staff.id)


def set_jid(session: Session, staff: Staff, jid: str) -> None:
    """Set the XMPP address somebody answers from; empty takes it away.

    Raises `InvalidError` when it is no such address, or somebody else's.
    """
    wanted = bare_jid(jid)
    if jid.strip() and not wanted:
        raise InvalidError("An XMPP address looks like kari@sorum.kommune.no.")
    query = select(col(Staff.id)).where(col(Staff.jid) == wanted, col(Staff.id) != staff.id)
    if wanted and session.execute(query).first() is not None:
        raise InvalidError("Somebody else has this XMPP address.")
    if staff.jid and staff.jid != wanted:
        _tell_no_more(session, staff)
    staff.jid = wanted or None
    session.add(staff)
    session.flush()


def set_active(session: Session, staff: Staff, now: datetime, *, active: bool) -> None:
    """Let a person in again, or shut them out: sessions, sign-in links, tokens and open streams end
    at once."""
    staff.active = active
    staff.failed_logins, staff.locked_until = 0, None
    session.add(staff)
    session.flush()
    if not active:
        session.connection().execute(delete(_C).where(_C.c.staff_id == staff.id))
        _tell_no_more(session, staff)
        events.record(session, ACCESS_CHANGED, at=now, staff_id=staff.id)


def _tell_no_more(session: Session, staff: Staff) -> None:
    """What waits to go to somebody's XMPP address does not go there: it may be nobody's now. At
    another address they are told of what they hold from the beginning."""
    waiting = (
        _UNSENT,
        col(OutboxItem.kind) == OutgoingKind.RELAY.value,
        col(OutboxItem.recipient) == staff.jid,
    )
    session.execute(delete(OutboxItem).where(*waiting))
    session.execute(delete(Relayed).where(col(Relayed.staff_id) == staff.id))


def actor_of(session: Session, staff: Staff) -> Actor:
    """What this person may see and do."""
    return Actor(
        role=staff.role,
        staff_id=staff.id,
        name=staff.name,
        username=staff.username,
        departments=departments_of(session, staff.id or 0, staff.role),
        language=staff.language,
    )


def departments_of(session: Session, staff_id: int, role: Role) -> frozenset[str] | None:
    """Whose inquiries somebody sees; None for all."""
    if departments_for(role, frozenset()) is None:
        return None
    rows = session.connection().execute(_MEMBERSHIPS, {"staff_id": staff_id})
    return departments_for(role, frozenset(rows.scalars()))


def insert_staff(
    session: Session,
    username: str,
    name: str,
    role: Role,
    departments: frozenset[str],
    password: PasswordHash | None,
    now: datetime,
) -> Staff:
    """Add a person or a service account, whose username is known to be good and free."""
    name = _checked_name(session, name, role, departments)
    staff = Staff(
        username=username, name=name, role=role, password_hash=password or "", created_at=now
    )
    session.add(staff)
    session.flush()
    for slug in sorted(departments):
        session.add(Membership(staff_id=staff.id or 0, department=slug))
    session.flush()
    return staff


def _checked_name(session: Session, name: str, role: Role, departments: frozenset[str]) -> str:
    """The name as it is kept, when role and departments are right too."""
    name = " ".join(nfc(name).split())
    if not name or len(name) > 200:
        raise InvalidError("A name has 1 to 200 characters.")
    known = set(session.execute(select(col(Department.slug))).scalars())
    if unknown := sorted(departments - known):
        _, near = suggest(unknown[0], known)
        ending = "" if near.endswith("?") else "."
        raise InvalidError(f"There is no department «{unknown[0]}»{near}{ending}")
    if departments_for(role, departments) == frozenset():
        raise InvalidError(f"The role {role.value} needs a department.")
    return name
