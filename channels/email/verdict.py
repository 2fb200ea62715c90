"""What the scanners beside us found in a mail; it travels in the envelope to where it is parsed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from channels.base import Mark

if TYPE_CHECKING:
    from channels.base import Envelope


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the scanners found."""

    spam: bool = False
    virus: str = ""
    """Name of the signature; empty when none was found."""
    unscanned: bool = False
    """A scanner that should have looked at the mail did not answer."""

    @property
    def marks(self) -> tuple[Mark, ...]:
        """What an operator should see of it."""
        return tuple(
            mark
            for mark, holds in (
                (Mark.QUARANTINED, bool(self.virus)),
                (Mark.UNSCANNED, self.unscanned),
            )
            if holds
        )

    def for_envelope(self) -> dict[str, Any]:
        """JSON for `envelope["scan"]`, which `verdict_of` reads."""
        return {"spam": self.spam, "virus": self.virus, "unscanned": self.unscanned}


CLEAN = Verdict()


def verdict_of(envelope: Envelope) -> Verdict:
    """The verdict that travels with a mail; clean when no scanner was asked."""
    scan = envelope.get("scan")
    if not isinstance(scan, dict):
        return CLEAN
    virus = scan.get("virus")
    return Verdict(
        scan.get("spam") is True,
        virus if isinstance(virus, str) else "",
        scan.get("unscanned") is True,
    )
