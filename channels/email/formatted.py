"""The formatted version of a mail, made when somebody looks at it: sanitised, nothing remote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from channels.email.body import Room, html_source, plain_text, sort_parts
from channels.email.charsets import clean
from channels.email.markup import Images, sanitise
from channels.email.mime import read_structure

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Formatted:
    """What may be shown in a sandboxed frame."""

    html: str = ""
    """Without scripts, styles, forms, classes and ids; empty when no part of the mail is HTML, or
    none could be shown."""
    remote_images: int = 0
    """Pictures that were to be loaded from elsewhere; each has become its description."""
    content_ids: tuple[str, ...] = ()
    """Pictures inside the mail that the text shows, as `Attachment.content_id` has them."""
    complete: bool = True
    """False when a part was too large or too odd to be shown; the text has all of it."""


def formatted(raw: bytes, image_url: Callable[[str], str] | None = None) -> Formatted:
    """The body as sanitised HTML. Never raises, whatever the bytes.

    `image_url` gives the address of a picture inside the mail by its content id, empty when there
    is none; without it, `cid:` addresses stay.
    """
    try:
        return _formatted(raw, Images(image_url))
    except Exception:  # noqa: BLE001 - the text is there anyway
        return Formatted(complete=False)


def _formatted(raw: bytes, images: Images) -> Formatted:
    body = sort_parts(read_structure(raw).root)
    if not any(block.html for block in body.blocks):
        return Formatted()
    room = Room()
    complete = True
    pieces: list[str] = []
    for block in body.blocks:
        for part in block.html:
            content = part.body()
            if len(content) > room.shown:
                complete = False
                continue
            room.shown -= len(content)
            piece = sanitise(html_source(part, content), images)
            complete = complete and (bool(piece) or not content.strip())
            pieces.append(clean(piece))
        if not block.html:
            pieces.extend(_as_html(plain_text(part, room)) for part in block.plain)
    return Formatted(
        html="\n".join(filter(None, pieces)),
        remote_images=images.remote,
        content_ids=tuple(images.content_ids),
        complete=complete,
    )


def _as_html(text: str) -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "<p>" + escaped.replace("\n", "<br>") + "</p>" if text else ""
