"""People outside, in the JSON interface: found, merged, split, undone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Request
from sqlmodel import Session

from router import merging
from router.privacy import mask_text
from router.web.auth import ApiActor, hall_of
from router.web.problems import responses
from router.web.rows import RowNumber
from router.web.shapes import (
    AddressView,
    ContactAddressView,
    ContactCard,
    ContactInquiry,
    ContactQuery,
    Contacts,
    FoundContact,
    Merge,
    MoveView,
    Split,
    Undo,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from router.access import Actor
    from router.models import ContactMerge

router = APIRouter(prefix="/api/contacts", tags=["contacts"])

_CHANGE = responses(400, 401, 403, 404, 409, 413, 422, 429, 503)


@router.get("", responses=responses(401, 403, 422, 429))
def find_contacts(
    request: Request, actor: ApiActor, wanted: Annotated[ContactQuery, Query()]
) -> Contacts:
    """Find people by number, address or name; operators only. The latest first, at most 20."""
    with hall_of(request).db.read() as session:
        found = merging.search(session, actor, wanted.q)
    return Contacts(
        items=[
            FoundContact(
                id=one.id,
                name=one.name,
                addresses=[AddressView(channel=c, value=v) for c, v in one.addresses],
                inquiries=one.inquiries,
            )
            for one in found
        ]
    )


@router.get("/{number}", responses=responses(401, 404, 422, 429))
def read_contact(request: Request, actor: ApiActor, number: RowNumber) -> ContactCard:
    """Read one person: addresses, and the inquiries that you may see, the latest 100. Who was
    merged into another is that other."""
    with hall_of(request).db.read() as session:
        return _card(session, actor, merging.now_part_of(session, number))


@router.post("/{number}/merge", responses=_CHANGE)
def merge(request: Request, actor: ApiActor, number: RowNumber, body: Merge) -> ContactCard:
    """Say that another contact is the same person; operators only."""
    now = hall_of(request).clock()
    return _change(
        request, actor, number, lambda s: merging.merge(s, actor, number, body.other, now)
    )


@router.post("/{number}/split", responses=_CHANGE)
def split(request: Request, actor: ApiActor, number: RowNumber, body: Split) -> ContactCard:
    """Say that one address is another person's; operators only."""
    now = hall_of(request).clock()
    return _change(
        request, actor, number, lambda s: merging.split(s, actor, number, body.address, now)
    )


@router.post("/{number}/undo", responses=_CHANGE)
def undo(request: Request, actor: ApiActor, number: RowNumber, body: Undo) -> ContactCard:
    """Take a merge or a split back; operators only. Doing so twice changes nothing. 409: a later
    change must be undone first."""
    now = hall_of(request).clock()
    return _change(request, actor, number, lambda s: merging.undo(s, actor, body.move, now))


def _change(
    request: Request, actor: Actor, number: int, change: Callable[[Session], ContactMerge]
) -> ContactCard:
    def job(session: Session) -> ContactCard:
        change(session)
        return _card(session, actor, number)

    return hall_of(request).db.write_sync(job)


def _card(session: Session, actor: Actor, number: int) -> ContactCard:
    card = merging.card(session, actor, number)
    return ContactCard(
        id=card.id,
        name=card.name,
        addresses=[ContactAddressView.model_validate(address) for address in card.addresses],
        inquiries=[
            ContactInquiry(
                ref=row.ref,
                channel=row.channel,
                status=row.status,
                subject=mask_text(row.subject),
                department=row.department,
                received_at=row.received_at,
            )
            for row in card.inquiries
        ],
        moves=[MoveView.model_validate(move) for move in card.moves],
    )
