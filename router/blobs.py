"""Content-addressed files in the data directory: large raw mails and attachments, written once,
never changed."""

from __future__ import annotations

import hashlib
import os
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def blob_path(folder: Path, sha256: str) -> Path:
    """Where the blob with this hash lies."""
    return folder / sha256[:2] / sha256


def put_blob(folder: Path, content: bytes) -> str:
    """Store `content` durably (file and directory fsynced) and return its SHA-256. Same content,
    one file."""
    sha256 = hashlib.sha256(content).hexdigest()
    target = blob_path(folder, sha256)
    if target.exists():
        return sha256
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    scratch = target.parent / f".{secrets.token_hex(8)}"
    try:
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        scratch.rename(target)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    for directory in (target.parent, folder):
        _sync_directory(directory)
    return sha256


def adopt_blob(folder: Path, file: Path, sha256: str) -> None:
    """Take over a whole, fsynced file of the same file system as the blob with this hash."""
    target = blob_path(folder, sha256)
    if target.exists():
        file.unlink(missing_ok=True)
        return
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file.rename(target)
    for directory in (target.parent, folder):
        _sync_directory(directory)


def read_blob(folder: Path, sha256: str) -> bytes:
    """The stored bytes. Raises `FileNotFoundError` when the blob is missing."""
    return blob_path(folder, sha256).read_bytes()


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
