"""Files that go with a message: written to the blob folder as they come, typed by what is in them.

What a sender says of a file (name, type) decides nothing but how it is called.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import PurePath
from typing import IO, TYPE_CHECKING

from channels.email.mime import safe_filename
from router.blobs import adopt_blob
from router.errors import InvalidError
from router.preparing import KeptFile

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FILES_LIMIT = 20 * 1000 * 1000
"""Bytes of all files of one message together: in base64 most mail servers still take it."""

MANY = 20
"""Files of one message."""

HEAD = 4096
"""Bytes of a file that its type is read from."""

UNKNOWN = "application/octet-stream"
IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})

_CHUNK = 256 * 1024
_OFFICE = {
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
}
_OPEN_DOCUMENT = b"mimetypeapplication/vnd.oasis.opendocument."


def kind_of(head: bytes, filename: str = "") -> str:
    """The media type that the first bytes of a file show; `UNKNOWN` for all that is not listed
    here. The name only tells apart what is an office document for certain."""
    if head.startswith(b"%PDF-"):
        return "application/pdf"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "image/webp"
    if head.startswith(b"PK\x03\x04"):
        return _archive(head, filename)
    return "text/plain" if _is_text(head) else UNKNOWN


def keep_file(folder: Path, source: IO[bytes], name: str, number: int, limit: int) -> KeptFile:
    """Write one file to the blob folder, durably and without holding it in memory.

    `number` names a file without a usable name. Raises `InvalidError` when it has more than
    `limit` bytes.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    scratch = folder / f".{secrets.token_hex(8)}"
    digest, size, head = hashlib.sha256(), 0, b""
    try:
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as target:
            while chunk := source.read(_CHUNK):
                size += len(chunk)
                if size > limit:
                    raise InvalidError(TOO_LARGE)
                head = head or chunk[:HEAD]
                digest.update(chunk)
                target.write(chunk)
            target.flush()
            os.fsync(target.fileno())
        adopt_blob(folder, scratch, digest.hexdigest())
    finally:
        scratch.unlink(missing_ok=True)
    content_type = kind_of(head, name)
    return KeptFile(
        filename=safe_filename(name, content_type, number),
        content_type=content_type,
        size=size,
        sha256=digest.hexdigest(),
        content_id="",
        inline=False,
    )


def keep_files(folder: Path, sources: Sequence[tuple[str, IO[bytes]]]) -> list[KeptFile]:
    """Write the files of one message, each with its name. Raises `InvalidError` when they are too
    many, or too large together."""
    if len(sources) > MANY:
        raise InvalidError(TOO_MANY)
    kept: list[KeptFile] = []
    left = FILES_LIMIT
    for number, (name, source) in enumerate(sources, 1):
        kept.append(keep_file(folder, source, name, number, left))
        left -= kept[-1].size
    return kept


TOO_LARGE = "The files are larger than 20 MB together."
TOO_MANY = "A message takes at most 20 files."


def _archive(head: bytes, filename: str) -> str:
    # OpenDocument: the first member is called «mimetype», is not compressed, and says it.
    member = head[30:]
    if member.startswith(_OPEN_DOCUMENT):
        kind = member.removeprefix(b"mimetype")[:80].partition(b"PK")[0]
        return kind.decode("ascii", "replace")
    is_office = member.startswith((b"[Content_Types].xml", b"_rels/", b"docProps/"))
    ending = PurePath(filename).suffix.lower()
    return _OFFICE[ending] if is_office and ending in _OFFICE else "application/zip"


def _is_text(head: bytes) -> bool:
    if not head or b"\0" in head:
        return False
    try:
        head[:HEAD].decode("utf-8")
    except UnicodeDecodeError as error:
        # A sign that is cut in two at the end of what was read is no fault.
        return error.start >= len(head) - 3 and len(head) == HEAD
    return not any(byte < 9 or 13 < byte < 27 for byte in head)
