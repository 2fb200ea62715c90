"""Files that go with a message: written to the blob folder as they come, typed by what is in them.

What a sender says of a file (name, type) decides nothing but how it is called.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sqlalchemy import func, select
from sqlmodel import Session, col

from channels.email import sniff
from channels.email.mime import safe_filename
from router.blobs import adopt_blob
from router.errors import InvalidError
from router.models import Message, RemoteFile
from router.preparing import KeptFile

if TYPE_CHECKING:
    from collections.abc import Container, Sequence
    from pathlib import Path

FILES_LIMIT = 20 * 1000 * 1000
"""Bytes of all files of one message together: in base64 most mail servers still take it."""

MANY = 20
"""Files of one message."""

UNKNOWN = sniff.BINARY
IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
"""Pictures that every browser draws and none runs."""

SOUNDS = frozenset({"audio/wav", "audio/mpeg"})
"""Sounds that every browser plays."""

TOO_LARGE = "The files are larger than 20 MB together."
TOO_MANY = "A message takes at most 20 files."
NOT_ALLOWED = "Files of this kind are not taken here."

_CHUNK = 256 * 1024
_HEAD = 4096
_TAIL = 16 * 1024
"""An archive lists what is in it at its end."""


class Readable(Protocol):
    """Bytes that come when they are asked for."""

    def read(self, size: int, /) -> bytes:
        """The next bytes, at most `size`; empty at the end."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file as somebody hands it in."""

    name: str
    declared: str
    """The media type that they say it has; empty when they do not."""
    content: Readable


def kind_of(path: Path, declared: str = "") -> str:
    """The media type of a file by what is in it, or `declared` where that says the same closer.
    Raises `FileNotFoundError`."""
    with path.open("rb") as file:
        content = file.read(_HEAD)
        size = file.seek(0, os.SEEK_END)
        if size > _HEAD:
            file.seek(max(_HEAD, size - _TAIL))
            content += file.read()
    return sniff.sniff(content, declared)


def keep_file(
    folder: Path,
    source: Source,
    number: int,
    limit: int,
    allowed: Container[str] | None = None,
) -> KeptFile:
    """Write one file to the blob folder, durably and without holding it in memory.

    `number` names a file without a usable name. Raises `InvalidError` when it has more than
    `limit` bytes, or is of no kind in `allowed`, by its content.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    scratch = folder / f".{secrets.token_hex(8)}"
    digest, size = hashlib.sha256(), 0
    try:
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as target:
            while chunk := source.content.read(_CHUNK):
                size += len(chunk)
                if size > limit:
                    raise InvalidError(TOO_LARGE)
                digest.update(chunk)
                target.write(chunk)
            target.flush()
            os.fsync(target.fileno())
        content_type = kind_of(scratch, source.declared)
        if allowed is not None and content_type not in allowed:
            raise InvalidError(NOT_ALLOWED)
        adopt_blob(folder, scratch, digest.hexdigest())
    finally:
        scratch.unlink(missing_ok=True)
    return KeptFile(
        filename=safe_filename(source.name, content_type, number),
        content_type=content_type,
        size=size,
        sha256=digest.hexdigest(),
        content_id="",
        inline=False,
    )


def keep_files(folder: Path, sources: Sequence[Source]) -> list[KeptFile]:
    """Write the files of one message. Raises `InvalidError` when they are too
    many, or too large together."""
    if len(sources) > MANY:
        raise InvalidError(TOO_MANY)
    kept: list[KeptFile] = []
    left = FILES_LIMIT
    for number, source in enumerate(sources, 1):
        kept.append(keep_file(folder, source, number, left))
        left -= kept[-1].size
    return kept


def missing_files(session: Session, inquiry_id: int) -> dict[tuple[int | None, str], int]:
    """How many files of an inquiry are still with a provider, by message and state: `announced`
    waits, `failed` could not be fetched."""
    query = (
        select(col(RemoteFile.message_id), col(RemoteFile.state), func.count())
        .join(Message, col(Message.id) == col(RemoteFile.message_id))
        .where(
            col(Message.inquiry_id) == inquiry_id,
            col(RemoteFile.state).in_(["announced", "failed"]),
        )
        .group_by(col(RemoteFile.message_id), col(RemoteFile.state))
    )
    return {(number, state): count for number, state, count in session.connection().execute(query)}
