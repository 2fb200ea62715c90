"""The people outside, found by their addresses and made where an address is new."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select

from router.models import Contact, ContactAddress

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlmodel import Session

    from channels.base import Address
    from router.preparing import Prepared

_ADDRESS: Any = ContactAddress.__table__  # type: ignore[attr-defined]
_CONTACT: Any = Contact.__table__  # type: ignore[attr-defined]


def contacts_of(
    session: Session, items: Sequence[Prepared], now: datetime
) -> dict[tuple[str, str], int]:
    """(channel, address) -> contact id, made where the address is new."""
    connection = session.connection()
    wanted: dict[tuple[str, str], tuple[Address, str]] = {}
    for item in items:
        for address in (item.incoming.sender, item.incoming.phone):
            if address is not None:
                wanted.setdefault(
                    (address.channel, address.value), (address, item.incoming.language)
                )
    found = {
        (channel, value): contact
        for channel, value, contact in connection.execute(
            select(_ADDRESS.c.channel, _ADDRESS.c.value, _ADDRESS.c.contact_id).where(
                _ADDRESS.c.value.in_([value for _, value in wanted])
            )
        )
    }
    new_people: list[tuple[str, str]] = [
        (item.incoming.sender.channel, item.incoming.sender.value)
        for item in items
        if item.incoming.sender is not None
        and (item.incoming.sender.channel, item.incoming.sender.value) not in found
    ]
    new_people = list(dict.fromkeys(new_people))
    if new_people:
        made = connection.execute(
            insert(_CONTACT).returning(_CONTACT.c.id, sort_by_parameter_order=True),
            [
                {"name": wanted[key][0].name, "language": wanted[key][1], "created_at": now}
                for key in new_people
            ],
        ).scalars()
        found |= dict(zip(new_people, made, strict=True))
    rows = [(key, found[key]) for key in new_people]
    for item in items:
        # A second way to reach the person, given in the same breath, belongs to the same contact.
        phone, sender = item.incoming.phone, item.incoming.sender
        if phone is not None and sender is not None and (phone.channel, phone.value) not in found:
            found[phone.channel, phone.value] = found[sender.channel, sender.value]
            rows.append(((phone.channel, phone.value), found[sender.channel, sender.value]))
    if rows:
        connection.execute(
            insert(_ADDRESS),
            [
                {
                    "contact_id": contact,
                    "channel": key[0],
                    "value": key[1],
                    "name": wanted[key][0].name,
                    "created_at": now,
                }
                for key, contact in rows
            ],
        )
    return found
