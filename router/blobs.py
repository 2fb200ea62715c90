"""Content-addressed files in the data directory: large raw mails and attachments, written once,
never changed."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from pathlib import Path

_YOUNG = 3600.0
"""Seconds after which whoever wrote a blob has long made its name durable."""


def blob_path(folder: Path, sha256: str) -> Path:
    """Where the blob with this hash lies."""
    return folder / sha256[:2] / sha256


def put_blob(folder: Path, content: bytes) -> str:
    """Store `content` durably (file and directory fsynced) and return its SHA-256. Same content,
    one file."""
    sha256 = hashlib.sha256(content).hexdigest()
    target = blob_path(folder, sha256)
    if _is_there(target):
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
    _sync_name(target)
    return sha256


def adopt_blob(folder: Path, file: Path, sha256: str) -> None:
    """Take over a whole, fsynced file of the same file system as the blob with this hash."""
    target = blob_path(folder, sha256)
    if _is_there(target):
        file.unlink(missing_ok=True)
        return
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file.rename(target)
    _sync_name(target)


def read_blob(folder: Path, sha256: str) -> bytes:
    """The stored bytes. Raises `FileNotFoundError` when the blob is missing."""
    return blob_path(folder, sha256).read_bytes()


def _is_there(target: Path) -> bool:
    """Whether the blob is there, to stay: whoever writes it may not have made its name durable
    yet, and an old one that nothing refers to may be about to be swept."""
    now = time.time()
    try:
        age = now - target.stat().st_mtime
        if age > 2 * _YOUNG:
            os.utime(target, (now - _YOUNG, now - _YOUNG))
            target.stat()  # it may have been taken away just as its time was set
    except FileNotFoundError:
        return False
    if age < _YOUNG:
        _sync_name(target)
    return True


def old_blobs(folder: Path, oldest: float, youngest: float) -> list[str]:
    """Hashes of the blobs that were last put there between two ages, in seconds. What a writer
    that was killed left behind, and is older than the younger age, is deleted."""
    now, found = time.time(), []
    for directory in (folder, *folder.glob("[0-9a-f][0-9a-f]")):
        for entry in os.scandir(directory) if directory.is_dir() else ():
            if not entry.is_file(follow_symlinks=False):
                continue
            age = now - entry.stat().st_mtime
            if entry.name.startswith(".") and age > youngest:
                Path(entry.path).unlink(missing_ok=True)
            elif youngest < age < oldest and blob_path(folder, entry.name).parent == directory:
                found.append(entry.name)
    return found


def drop_blob(folder: Path, sha256: str, youngest: float) -> bool:
    """Delete a blob that nothing refers to, unless somebody puts the same content meanwhile, from
    which on it is younger than `youngest` seconds; whether it is gone."""
    target = blob_path(folder, sha256)
    away = target.parent / f".{secrets.token_hex(8)}"
    try:
        target.rename(away)
    except FileNotFoundError:
        return False
    if time.time() - away.stat().st_mtime < youngest:
        away.rename(target)  # put meanwhile: whoever did so relies on it
        _sync_name(target)
        return False
    away.unlink()
    return True


def _sync_name(target: Path) -> None:
    for directory in (target.parent, target.parent.parent):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
