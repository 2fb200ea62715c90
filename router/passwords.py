"""Passwords: argon2id, and the lock-out after wrong ones.

Hashing happens in the caller's thread, never in the writer's, which would stall every
acknowledgement.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import update

from channels.text import nfc
from router import events
from router.access import ACCESS_CHANGED
from router.credentials import revoke_all
from router.errors import InvalidError, NotFoundError, TooManyError
from router.models import Staff
from router.staff import PasswordHash, find_staff, normal_username

if TYPE_CHECKING:
    from sqlmodel import Session

    from router.db import Database

_S: Any = Staff.__table__  # type: ignore[attr-defined]

PASSWORD_LENGTH = range(12, 201)
FREE_TRIES = 5
LONGEST_LOCK = timedelta(minutes=60)

_hasher = PasswordHasher()
# 64 MiB each: more at a time would let a crowd of sign-ins eat all memory.
_hashing = threading.BoundedSemaphore(2)
_HASHING_WAIT = 10.0


@dataclass(frozen=True, slots=True)
class LoginFailure:
    """Why somebody was not let in. `until` is set when the account is locked for a while."""

    kind: Literal["wrong", "locked"]
    until: datetime | None = None


def hash_password(password: str) -> PasswordHash:
    """argon2id as in RFC 9106 §4, second recommendation. Takes some 50 ms and 64 MiB.

    Raises `InvalidError` when the password is too short or too long.
    """
    password = nfc(password)
    if len(password) not in PASSWORD_LENGTH:
        raise InvalidError(
            f"A password has {PASSWORD_LENGTH.start} to {PASSWORD_LENGTH.stop - 1} characters."
        )
    with _HashingTurn():
        return PasswordHash(_hasher.hash(password))


def set_password(session: Session, staff_id: int, password: PasswordHash, now: datetime) -> None:
    """Change a password, end the person's open sessions, streams and sign-in links, and lift a
    lock-out.

    Raises `NotFoundError`.
    """
    changed = session.connection().execute(
        update(_S)
        .where(_S.c.id == staff_id)
        .values(password_hash=password, failed_logins=0, locked_until=None)
    )
    if not changed.rowcount:
        raise NotFoundError
    revoke_all(session, staff_id)
    events.record(session, ACCESS_CHANGED, at=now, staff_id=staff_id)


def verify_login(db: Database, username: str, password: str, now: datetime) -> Staff | LoginFailure:
    """Check a password and keep the lock-out counter. For worker threads, never for the loop.

    Five wrong tries are free; then the account is locked for 1, 2, 4 … 60 minutes. An unknown name
    costs the same time and is locked the same way, so that nobody can find out who works here.
    """
    username = normal_username(username)
    password = nfc(password)
    with _HashingTurn():
        with db.read() as session:
            staff = find_staff(session, username)
        if staff is None or not staff.active or not staff.password_hash:
            return _refuse_stranger(username, password, now)
        if staff.locked_until is not None and staff.locked_until > now:
            return LoginFailure("locked", staff.locked_until)
        if not _matches(staff.password_hash, password):
            return db.write_sync(lambda session: _count_failure(session, staff.id or 0, now))
        if _hasher.check_needs_rehash(staff.password_hash):
            fresh: str | None = _hasher.hash(password)
        else:
            fresh = None
    if fresh or staff.failed_logins or staff.locked_until:
        values: dict[str, object] = {"failed_logins": 0, "locked_until": None}
        if fresh:
            values["password_hash"] = fresh
        db.write_sync(
            lambda session: session.connection().execute(
                update(_S)
                .where(_S.c.id == staff.id, _S.c.password_hash == staff.password_hash)
                .values(**values)
            )
        )
    return staff


def _count_failure(session: Session, staff_id: int, now: datetime) -> LoginFailure:
    staff = session.get_one(Staff, staff_id)
    staff.failed_logins += 1
    staff.locked_until = _lock_after(staff.failed_logins, now)
    return _failure(staff.locked_until)


def _lock_after(failures: int, now: datetime) -> datetime | None:
    if failures < FREE_TRIES:
        return None
    return now + min(timedelta(minutes=2 ** min(failures - FREE_TRIES, 10)), LONGEST_LOCK)


def _failure(locked_until: datetime | None) -> LoginFailure:
    if locked_until is None:
        return LoginFailure("wrong")
    return LoginFailure("locked", locked_until)


def _matches(password_hash: str, password: str) -> bool:
    try:
        return _hasher.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False


class _Strangers:
    """Lock-out for names that nobody has, bounded, so that they look like any other name."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures: OrderedDict[str, tuple[int, datetime | None]] = OrderedDict()
        self._decoy: str | None = None

    def locked_until(self, username: str, now: datetime) -> datetime | None:
        with self._lock:
            until = self._failures.get(username, (0, None))[1]
        return until if until is not None and until > now else None

    def count(self, username: str, now: datetime) -> datetime | None:
        with self._lock:
            failures = self._failures.pop(username, (0, None))[0] + 1
            until = _lock_after(failures, now)
            self._failures[username] = (failures, until)
            while len(self._failures) > 10_000:
                self._failures.popitem(last=False)
        return until

    def decoy(self) -> str:
        """A hash that no password has, made with the parameters in force."""
        if self._decoy is None:
            self._decoy = _hasher.hash(secrets.token_urlsafe(32))
        return self._decoy


_strangers = _Strangers()


def _refuse_stranger(username: str, password: str, now: datetime) -> LoginFailure:
    if until := _strangers.locked_until(username, now):
        return LoginFailure("locked", until)
    _matches(_strangers.decoy(), password)
    return _failure(_strangers.count(username, now))


class _HashingTurn:
    """Wait for one of the few places where passwords are hashed."""

    def __enter__(self) -> None:
        if not _hashing.acquire(timeout=_HASHING_WAIT):
            raise TooManyError(retry_after=10)

    def __exit__(self, *_error: object) -> None:
        _hashing.release()
