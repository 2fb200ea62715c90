"""The people outside as a person knows them: one contact with all its addresses and inquiries,
found, merged, split, and any of that undone. Who never showed an address is nobody's contact and is
never merged: an anonymous caller can be anybody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import exists, func, or_, select, tuple_, update
from sqlmodel import col

from channels.numbers import e164
from router import events, queue, queue_sql
from router.errors import ConflictError, InvalidError, NotFoundError
from router.models import Contact, ContactAddress, ContactMerge, Inquiry, Role, Staff

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlmodel import Session

    from router.access import Actor

SHOWN = 100
"""Inquiries of one contact that are read at most, the latest."""
FOUND = 20
"""Contacts that a search finds at most."""

_ADDRESS: Any = ContactAddress.__table__  # type: ignore[attr-defined]
_CONTACT: Any = Contact.__table__  # type: ignore[attr-defined]
_INQUIRY: Any = Inquiry.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Move:
    """A merge or a split that a person did."""

    id: int
    at: datetime
    staff_name: str
    split: bool
    here: bool
    """Whether the addresses came to the contact that is looked at."""
    addresses: list[str]
    undone_at: datetime | None


@dataclass(frozen=True, slots=True)
class Card:
    """One contact as somebody may see it."""

    id: int
    name: str
    addresses: list[ContactAddress]
    inquiries: list[queue.QueueRow]
    """The latest `SHOWN`, the latest first."""
    moves: list[Move]
    """The latest first; empty for those who may not merge."""


@dataclass(frozen=True, slots=True)
class Found:
    """A contact that fits what was searched for."""

    id: int
    name: str
    addresses: list[tuple[str, str]]
    inquiries: int


def may_merge(actor: Actor) -> bool:
    """Whether somebody may merge and split contacts: only who sees all of their inquiries."""
    return actor.role in {Role.OPERATOR, Role.ADMIN}


def card(session: Session, actor: Actor, contact_id: int) -> Card:
    """One contact, its addresses and those of its inquiries that the actor may see.

    Raises `NotFoundError` also where the actor may see none of them.
    """
    contact = session.get(Contact, contact_id)
    if contact is None:
        raise NotFoundError
    inquiries = queue.those(session, actor, _INQUIRY.c.contact_id == contact_id, SHOWN)
    if not inquiries and not may_merge(actor):
        raise NotFoundError
    addresses = _addresses_of(session, contact_id)
    return Card(
        id=contact_id,
        name=_name(contact.name, [a.name for a in addresses], [i.sender_name for i in inquiries]),
        addresses=addresses,
        inquiries=inquiries,
        moves=_moves(session, contact_id) if may_merge(actor) else [],
    )


def now_part_of(session: Session, contact_id: int) -> int:
    """The contact that this one was merged into; itself where it has addresses of its own."""
    seen = {contact_id}
    while not _addresses_of(session, contact_id):
        query = (
            select(col(ContactMerge.kept_id))
            .where(col(ContactMerge.merged_id) == contact_id, col(ContactMerge.undone_at).is_(None))
            .order_by(col(ContactMerge.id).desc())
        )
        kept = session.execute(query.limit(1)).scalar()
        if kept is None or kept in seen:
            break
        seen.add(kept)
        contact_id = kept
    return contact_id


def search(session: Session, actor: Actor, text: str, but: int = 0) -> list[Found]:
    """Contacts by number, address or name, the latest first, `but` not among them.

    Every word must be found. Raises `ForbiddenError` for those who may not merge.
    """
    actor.require(Role.OPERATOR, Role.ADMIN)
    bare = "".join(c for c in text if c not in " ()-./\u00a0")
    # «900 00 001» is one number, not three words, and its end may be all that somebody heard.
    is_number = len(bare) > 3 and bare.removeprefix("+").isdecimal()
    exactly = ("phone", e164(bare)) if is_number else ("email", text.strip().lower())
    known = select(_ADDRESS.c.contact_id).where(
        tuple_(_ADDRESS.c.channel, _ADDRESS.c.value) == exactly, _ADDRESS.c.contact_id != but
    )
    ids = list(session.connection().execute(known).scalars())
    if not ids:
        ids = _holding(session, [bare] if is_number else text.split()[:8], but)
    rows = session.connection().execute(
        select(_CONTACT.c.id, _CONTACT.c.name)
        .where(_CONTACT.c.id.in_(ids))
        .order_by(_CONTACT.c.id.desc())
    )
    found = rows.all()
    addresses: dict[int, list[ContactAddress]] = {}
    for address in _addresses_of(session, *ids):
        addresses.setdefault(address.contact_id, []).append(address)
    counted = (
        select(_INQUIRY.c.contact_id, func.count())
        .where(_INQUIRY.c.contact_id.in_(ids))
        .group_by(_INQUIRY.c.contact_id)
    )
    counts: dict[int, int] = dict(session.connection().execute(counted).all())
    return [
        Found(
            id=number,
            name=_name(name, [address.name for address in addresses[number]]),
            addresses=[(address.channel, address.value) for address in addresses[number]],
            inquiries=counts.get(number, 0),
        )
        for number, name in found
    ]


def _holding(session: Session, words: Sequence[str], but: int) -> list[int]:
    """Contacts in whose name, addresses or their names every word stands, the latest first."""
    if not words:
        return []
    query = select(_CONTACT.c.id).where(
        _CONTACT.c.id != but,
        exists().where(_ADDRESS.c.contact_id == _CONTACT.c.id),
    )
    for word in words:
        # Each table by itself: a join would be made for all of them before the first is looked at.
        named = select(_CONTACT.c.id).where(queue_sql.contains(_CONTACT.c.name, word))
        reached = select(_ADDRESS.c.contact_id).where(
            or_(*(queue_sql.contains(c, word) for c in (_ADDRESS.c.value, _ADDRESS.c.name)))
        )
        query = query.where(_CONTACT.c.id.in_(named.union_all(reached)))
    query = query.order_by(_CONTACT.c.id.desc()).limit(FOUND)
    return list(session.connection().execute(query).scalars())


def merge(
    session: Session, actor: Actor, kept_id: int, merged_id: int, now: datetime
) -> ContactMerge:
    """Say that two contacts are one person: `kept_id` has all addresses and inquiries then.

    Raises `ForbiddenError`, `NotFoundError`, and `InvalidError` for one and the same contact or
    one without an address: an anonymous caller can be anybody.
    """
    actor.require(Role.OPERATOR, Role.ADMIN)
    if kept_id == merged_id:
        raise InvalidError("This is the same contact.")
    for number in (kept_id, merged_id):
        if session.get(Contact, number) is None:
            raise NotFoundError
        if not _addresses_of(session, number):
            raise InvalidError("A contact without an address cannot be merged.")
    addresses = [address.id or 0 for address in _addresses_of(session, merged_id)]
    inquiries = _ids(session, _INQUIRY.c.contact_id == merged_id)
    moved = {"addresses": addresses, "inquiries": inquiries, "split": False}
    return _move(session, actor, merged_id, kept_id, moved, "contact_merged", now)


def split(
    session: Session, actor: Actor, contact_id: int, address_id: int, now: datetime
) -> ContactMerge:
    """Say that one address is another person's: it becomes a contact of its own, with the
    inquiries that were opened from it.

    Raises `ForbiddenError`, `NotFoundError`, `InvalidError` for the only address.
    """
    actor.require(Role.OPERATOR, Role.ADMIN)
    addresses = _addresses_of(session, contact_id)
    address = next((address for address in addresses if address.id == address_id), None)
    if address is None:
        raise NotFoundError
    if len(addresses) == 1:
        raise InvalidError("It is the only address of this contact.")
    old = session.get_one(Contact, contact_id)
    fresh = Contact(name=address.name, language=old.language, created_at=now)
    session.add(fresh)
    session.flush()
    opened_from_it = _ids(
        session,
        _INQUIRY.c.contact_id == contact_id,
        _INQUIRY.c.sender_address == address.value,
    )
    moved = {"addresses": [address_id], "inquiries": opened_from_it, "split": True}
    return _move(session, actor, contact_id, fresh.id or 0, moved, "contact_split", now)


def undo(session: Session, actor: Actor, move_id: int, now: datetime) -> ContactMerge:
    """Take a merge or a split back: all that moved is where it was. What has come from a moved
    address since follows it. Undoing twice changes nothing.

    Raises `ForbiddenError`, `NotFoundError`, and `ConflictError` when what moved has been moved on:
    the later change must be undone first.
    """
    actor.require(Role.OPERATOR, Role.ADMIN)
    done = session.get(ContactMerge, move_id)
    if done is None:
        raise NotFoundError
    if done.undone_at is not None:
        return done
    addresses, inquiries = done.moved["addresses"], done.moved["inquiries"]
    for table, ids in ((_ADDRESS, addresses), (_INQUIRY, inquiries)):
        elsewhere = select(func.count()).where(
            table.c.id.in_(ids), table.c.contact_id != done.kept_id
        )
        if session.connection().execute(elsewhere).scalar_one():
            raise ConflictError("The contact has been changed since. Undo the later change first.")
    values = select(_ADDRESS.c.value).where(_ADDRESS.c.id.in_(addresses))
    since = _ids(
        session,
        _INQUIRY.c.contact_id == done.kept_id,
        _INQUIRY.c.sender_address.in_(values),
    )
    back = sorted({*inquiries, *since})
    _set_contact(session, done.merged_id, addresses, back)
    done.undone_at = now
    session.add(done)
    session.flush()
    _tell(session, actor, "contact_restored", back, now)
    return done


def _move(
    session: Session,
    actor: Actor,
    source: int,
    target: int,
    moved: dict[str, Any],
    kind: str,
    now: datetime,
) -> ContactMerge:
    _set_contact(session, target, moved["addresses"], moved["inquiries"])
    done = ContactMerge(
        kept_id=target, merged_id=source, at=now, staff_id=actor.staff_id, moved=moved
    )
    session.add(done)
    session.flush()
    _tell(session, actor, kind, moved["inquiries"], now)
    return done


def _set_contact(
    session: Session, contact_id: int, addresses: list[int], inquiries: list[int]
) -> None:
    for table, ids in ((_ADDRESS, addresses), (_INQUIRY, inquiries)):
        session.connection().execute(
            update(table).where(table.c.id.in_(ids)).values(contact_id=contact_id)
        )
    session.expire_all()  # they were moved past the session


def _tell(
    session: Session, actor: Actor, kind: str, inquiries: Sequence[int], now: datetime
) -> None:
    """Write down in the history of each inquiry that it has another contact now."""
    query = select(_INQUIRY.c.id, _INQUIRY.c.ref, _INQUIRY.c.department).where(
        _INQUIRY.c.id.in_(inquiries)
    )
    rows = [
        events.row(kind, number, ref, department, now) | {"staff_id": actor.staff_id}
        for number, ref, department in session.connection().execute(query)
    ]
    events.insert_rows(session.connection(), rows)


def _moves(session: Session, contact_id: int) -> list[Move]:
    rows = session.execute(
        select(ContactMerge, col(Staff.name))
        .outerjoin(Staff, col(Staff.id) == col(ContactMerge.staff_id))
        .where(
            or_(
                col(ContactMerge.kept_id) == contact_id,
                col(ContactMerge.merged_id) == contact_id,
            )
        )
        .order_by(col(ContactMerge.id).desc())
        .limit(SHOWN)
    ).all()
    ids = {number for done, _name in rows for number in done.moved["addresses"]}
    query = select(_ADDRESS.c.id, _ADDRESS.c.value).where(_ADDRESS.c.id.in_(ids))
    values: dict[int, str] = dict(session.connection().execute(query).all())
    return [
        Move(
            id=done.id or 0,
            at=done.at,
            staff_name=name or "",
            split=done.moved["split"],
            here=done.kept_id == contact_id,
            addresses=[values[n] for n in done.moved["addresses"] if n in values],
            undone_at=done.undone_at,
        )
        for done, name in rows
    ]


def _addresses_of(session: Session, *contacts: int) -> list[ContactAddress]:
    query = (
        select(ContactAddress)
        .where(col(ContactAddress.contact_id).in_(contacts))
        .order_by(col(ContactAddress.id))
    )
    return list(session.execute(query).scalars())


def _ids(session: Session, *conditions: Any) -> list[int]:
    query = select(_INQUIRY.c.id).where(*conditions).order_by(_INQUIRY.c.id)
    return list(session.connection().execute(query).scalars())


def _name(own: str, *others: list[str]) -> str:
    """The contact's name, else the first that any of its addresses or inquiries has."""
    return own or next((name for names in others for name in names if name), "")
