"""Everything a rule may look at. What is not here decides nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

TEXT_LIMIT = 65_536
"""Characters of subject plus body that rules look at; the trace says when a text was cut."""


@dataclass(frozen=True, slots=True)
class Facts:
    """One contact as the rules see it. Addresses are lower case; `now` is aware UTC."""

    channel: str
    now: datetime
    recipients: tuple[str, ...] = ()
    sender: str = ""
    subject: str = ""
    body: str = ""
    did: str = ""
    """The number that was dialled, E.164; empty on written channels."""
    attachments: tuple[str, ...] = ()
    """File names."""
    open: Mapping[str, bool] = field(default_factory=dict)
    """Department slug -> open right now; frozen into the trace when a rule asks."""
