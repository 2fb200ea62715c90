"""Who wants no texts from us. The wish belongs to the number, whatever the inquiry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlmodel import Session, col

from router import events
from router.models import ContactAddress, Inquiry

if TYPE_CHECKING:
    from datetime import datetime

CHANNEL = "phone"


def withdraw(session: Session, number: str, inquiry_id: int, now: datetime) -> bool:
    """Note that a number wants no more texts, with the inquiry it said so in; whether that is
    new."""
    address = _address(session, number)
    if address is None or address.opted_out_at is not None:
        return False
    address.opted_out_at = now
    events.tell(session, "opted_out", session.get_one(Inquiry, inquiry_id), now)
    return True


def give(session: Session, number: str, inquiry_id: int, now: datetime) -> bool:
    """Note that a number may be texted again; whether that is new."""
    address = _address(session, number)
    if address is None or address.opted_out_at is None:
        return False
    address.opted_out_at = None
    events.tell(session, "opted_in", session.get_one(Inquiry, inquiry_id), now)
    return True


def withdrawn_at(session: Session, number: str) -> datetime | None:
    """When a number asked for no more texts; None where it may have them."""
    address = _address(session, number)
    return address.opted_out_at if address is not None else None


def _address(session: Session, number: str) -> ContactAddress | None:
    query = select(ContactAddress).where(
        col(ContactAddress.channel) == CHANNEL, col(ContactAddress.value) == number
    )
    return session.execute(query).scalar()
