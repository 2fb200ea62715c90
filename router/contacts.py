"""The people outside, found by their addresses and made where an address is new."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, select

from router.models import Contact, ContactAddress
from router.statements import inserting

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlmodel import Session

    from channels.base import Address
    from router.preparing import Prepared

_ADDRESS: Any = ContactAddress.__table__  # type: ignore[attr-defined]
_INSERT_CONTACT = inserting(
    Contact.__table__,  # type: ignore[attr-defined]
    "name language created_at",
    returning="id",
)
_KNOWN = select(_ADDRESS.c.channel, _ADDRESS.c.value, _ADDRESS.c.contact_id).where(
    _ADDRESS.c.value.in_(bindparam("addresses", expanding=True))
)
_INSERT_ADDRESS = inserting(_ADDRESS, "contact_id channel value name created_at")


def contacts_of(
    session: Session, items: Sequence[Prepared], now: datetime
) -> dict[tuple[str, str], int]:
    """(channel, address) -> contact id, made where the address is new."""
    connection = session.connection()
    # Only the address written from says who it is. A number given in a form is anybody's to give:
    # it stands with the inquiry and makes nobody the same person.
    wanted: dict[tuple[str, str], tuple[Address, str]] = {}
    for item in items:
        sender = item.incoming.sender
        if sender is not None:
            wanted.setdefault((sender.channel, sender.value), (sender, item.incoming.language))
    found = {
        (channel, value): contact
        for channel, value, contact in connection.execute(
            _KNOWN, {"addresses": [value for _, value in wanted]}
        )
    }
    new_people = [key for key in wanted if key not in found]
    if new_people:
        made = _INSERT_CONTACT.each(
            connection,
            [
                {"name": wanted[key][0].name, "language": wanted[key][1], "created_at": now}
                for key in new_people
            ],
        )
        found |= {key: contact for key, (contact,) in zip(new_people, made, strict=True)}
        _INSERT_ADDRESS.many(
            connection,
            [
                {
                    "contact_id": found[key],
                    "channel": key[0],
                    "value": key[1],
                    "name": wanted[key][0].name,
                    "created_at": now,
                }
                for key in new_people
            ],
        )
    return found


def contact_at(session: Session, address: Address, language: str, now: datetime) -> int:
    """The contact who is reached at an address, made where it is new."""
    connection = session.connection()
    found = connection.execute(
        select(_ADDRESS.c.contact_id).where(
            _ADDRESS.c.channel == address.channel, _ADDRESS.c.value == address.value
        )
    ).scalar()
    if found is not None:
        return int(found)
    row = {"name": address.name, "language": language, "created_at": now}
    contact: int = _INSERT_CONTACT.one(connection, row)[0]
    _INSERT_ADDRESS.many(
        connection,
        [
            {
                "contact_id": contact,
                "channel": address.channel,
                "value": address.value,
                "name": address.name,
                "created_at": now,
            }
        ],
    )
    return contact
