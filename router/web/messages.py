"""Messages as people read them: plain text, quoted history folded away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from channels.email.quote import fold
from router.web.render import catalogue, label

if TYPE_CHECKING:
    from collections.abc import Sequence

    from router.replies import EventView, ThreadMessage


@dataclass(frozen=True, slots=True)
class ShownMessage:
    """A message, parted into what it says and what it quotes."""

    message: ThreadMessage
    visible: str
    quoted: str


def shown(message: ThreadMessage) -> ShownMessage:
    """A message as it is read: quoted history of mail folded away."""
    text = message.text
    if message.channel == "email" and message.direction == "in":
        visible, quoted = fold(text)
        return ShownMessage(message, visible, quoted)
    return ShownMessage(message, text, "")


def why_no_receipt(events: Sequence[EventView], language: str) -> str:
    """Why the sender got no automatic receipt, in one sentence; empty when one went out."""
    t = catalogue(language)
    for event in events:
        if event.kind == "receipt_withheld":
            return t.gettext(
                "The automatic receipt was held back: many messages from the same sender or domain"
                " in a short time."
            )
        reason = event.data.get("receipt_barred") if event.kind == "received" else ""
        if reason:
            return t.gettext("No receipt: %(reason)s.") % {
                "reason": label(language, "barred", reason)
            }
    return ""


def plain(content: bytes) -> str:
    """Bytes as harmless text: control characters shown as a mark."""
    text = content.decode("utf-8", "replace").replace("\r\n", "\n")
    return "".join(c if c in "\n\t" or c.isprintable() else "·" for c in text)
