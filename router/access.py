"""Who is asking, and what they may see and do. Every query for inquiries goes through `Actor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from router.errors import ForbiddenError
from router.models import Role

if TYPE_CHECKING:
    from router.events import LiveEvent


SERVICE_PREFIX = "api-"
"""How the usernames of API tokens begin."""
ACCESS_CHANGED = "access_changed"
"""Somebody sees other things from now on, or nothing: their streams ask again. It is told to
nobody."""
PRESENCE_CHANGED = "presence_changed"
"""Kind of the event that says that somebody can be reached, or no longer."""


@dataclass(frozen=True, slots=True)
class Actor:
    """A signed-in person or an API token. `departments` is None when all may be seen."""

    role: Role
    staff_id: int | None = None
    name: str = ""
    username: str = ""
    departments: frozenset[str] | None = None
    language: str = "nb"

    @property
    def is_person(self) -> bool:
        """Whether residents may see the name; the accounts of API tokens are nobody."""
        return not self.username.startswith(SERVICE_PREFIX)

    def sees(self, department: str) -> bool:
        """Whether inquiries of this department may be read and worked on."""
        return self.departments is None or department in self.departments

    def sees_event(self, event: LiveEvent) -> bool:
        """Whether an event may reach this actor; events without a department go to the
        switchboard, but who can be reached is for everybody."""
        if event.kind == ACCESS_CHANGED:
            return False
        if self.departments is None or event.kind == PRESENCE_CHANGED:
            return True
        told = {event.department, event.data.get("from_department"), *event.also}
        return not self.departments.isdisjoint(told.union(event.data.get("from_also", ())))

    def require(self, *roles: Role) -> None:
        """Raise `ForbiddenError` unless the actor has one of these roles."""
        if self.role not in roles:
            raise ForbiddenError


def departments_for(role: Role, memberships: frozenset[str]) -> frozenset[str] | None:
    """Operators and administrators see every department, the others their own."""
    return None if role in {Role.OPERATOR, Role.ADMIN} else memberships
