"""Addresses in what people write, made into links. Text stays text: everything else is escaped."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from markupsafe import Markup, escape

_ADDRESS = re.compile(r"(?:https?://|www\.)[^\s<>\"'`]+", re.IGNORECASE)
_EMERGENCY = re.compile(r"(?<!\d)(?:11[023]|116 ?\d{3})(?!\d)")
_TRAILING = ".,;:!?»)]}…"


def linked(text: str) -> Markup:
    """Text with its web addresses as links. An address that hides where it leads stays text."""
    return _marked(_ADDRESS, text, _web_link)


def dialled(text: str) -> Markup:
    """Text with the emergency numbers as links that call them."""
    return _marked(_EMERGENCY, text, _phone_link)


def _marked(pattern: re.Pattern[str], text: str, link: object) -> Markup:
    parts: list[Markup] = []
    end = 0
    for match in pattern.finditer(text):
        shown = match[0].rstrip(_TRAILING)
        made = link(shown) if callable(link) else None
        if made is None:
            continue
        parts += [escape(text[end : match.start()]), made]
        end = match.start() + len(shown)
    return Markup().join([*parts, escape(text[end:])])


def _web_link(shown: str) -> Markup | None:
    address = shown if "://" in shown else f"https://{shown}"
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
    except ValueError:
        return None
    # user@host reads like one place and leads to another (RFC 3986 §7.6).
    if "." not in host.strip(".") or "@" in parts.netloc:
        return None
    return Markup('<a href="{}" target="_blank" rel="noopener noreferrer nofollow">{}</a>').format(
        address, shown
    )


def _phone_link(shown: str) -> Markup:
    return Markup('<a href="tel:{}">{}</a>').format(shown.replace(" ", ""), shown)
