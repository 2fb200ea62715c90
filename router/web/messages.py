"""Messages as people read them: plain text, quoted history folded away."""

from __future__ import annotations

from dataclasses import dataclass
from html import unescape
from typing import TYPE_CHECKING

import nh3

from channels.email.quote import fold

if TYPE_CHECKING:
    from router.replies import ThreadMessage


@dataclass(frozen=True, slots=True)
class ShownMessage:
    """A message, parted into what it says and what it quotes."""

    message: ThreadMessage
    visible: str
    quoted: str


def shown(message: ThreadMessage) -> ShownMessage:
    """A message as it is read: quoted history of mail folded away, HTML-only mail as its text."""
    text = message.text or unescape(nh3.clean(message.html, tags=set()))
    if message.channel == "email" and message.direction == "in":
        visible, quoted = fold(text)
        return ShownMessage(message, visible, quoted)
    return ShownMessage(message, text, "")


def plain(content: bytes) -> str:
    """Bytes as harmless text: control characters shown as a mark."""
    text = content.decode("utf-8", "replace").replace("\r\n", "\n")
    return "".join(c if c in "\n\t" or c.isprintable() else "·" for c in text)
