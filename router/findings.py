"""What an examination finds: one plain sentence each, and how bad it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    level: Literal["ok", "warning", "error"]
    text: str

    @property
    def error(self) -> bool:
        """Whether the service should not run like this."""
        return self.level == "error"
