"""The formatted version of a mail, made when somebody looks at it. Imports little: a worker process
loads it, and the person waits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from channels.email.formatted import Formatted, formatted
from router.privacy import mask_text


def get_ready() -> None:
    """What a worker does first of all, so that the first view is no slower than the next."""
    formatted(b"Content-Type: text/html\n\n<p>")


def make_formatted(original: bytes | Path) -> Formatted:
    """The formatted version of a mail, its own pictures still as `cid:` addresses, numbers of
    persons masked. For a worker: the HTML may be hostile.

    Raises `FileNotFoundError` when the original is missing.
    """
    made = formatted(original.read_bytes() if isinstance(original, Path) else original)
    return replace(made, html=mask_text(made.html))
