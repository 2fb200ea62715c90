"""Accounts and secrets: who may sign in, with what, and for how long.

Passwords are argon2id; hashing happens in the caller's thread, never in the writer's, which would
stall every acknowledgement of the house. Other secrets carry 256 bits of chance and are kept as
their SHA-256.
"""

from __future__ import annotations

import re
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, NewType

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import bindparam, delete, select, text, update
from sqlmodel import Session, col

from channels.base import OutgoingKind
from channels.chat.xmpp import bare_jid
from channels.text import nfc
from router import events
from router.access import ACCESS_CHANGED, SERVICE_PREFIX, Actor, departments_for
from router.chat_models import Relayed
from router.errors import InvalidError, NotFoundError, TooManyError
from router.models import (
    Credential,
    CredentialKind,
    Department,
    Membership,
    OutboxItem,
    Role,
    Staff,
)
from router.tokens import hash_secret, new_secret
from rules.document import suggest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from router.db import Database

PasswordHash = NewType("PasswordHash", str)

SESSION_CAP = timedelta(hours=24)
"""However busy a session is, it ends this long after the sign-in."""

SLIDE_STEP = timedelta(minutes=5)
"""A session is extended at most this often: not every click is worth a write."""

PASSWORD_LENGTH = range(12, 201)
FREE_TRIES = 5
LONGEST_LOCK = timedelta(minutes=60)

_C: Any = Credential.__table__  # type: ignore[attr-defined]
_S: Any = Staff.__table__  # type: ignore[attr-defined]

# Written out, so that the planner uses the partial index.
_UNSENT = text("outbox.state NOT IN ('sent', 'delivered')")

# Asked at every request: built once.
_FIND = (
    select(
        _C.c.id,
        _C.c.created_at,
        _C.c.expires_at,
        _C.c.department,
        _S.c.id.label("staff_id"),
        _S.c.role,
        _S.c.name,
        _S.c.username,
        _S.c.language,
    )
    .join(_S, _C.c.staff_id == _S.c.id)
    .where(
        _C.c.token_hash == bindparam("token_hash"),
        _C.c.kind == bindparam("kind"),
        _C.c.used_at.is_(None),
        _S.c.active,
    )
)
_MEMBERSHIPS = select(col(Membership.department)).where(
    col(Membership.staff_id) == bindparam("staff_id")
)

_USERNAME = re.compile(r"[a-zæøå0-9][a-zæøå0-9._@-]{1,63}")

_hasher = PasswordHasher()
# 64 MiB each: more at a time would let a crowd of sign-ins eat the memory of the house.
_hashing = threading.BoundedSemaphore(2)
_HASHING_WAIT = 10.0


@dataclass(frozen=True, slots=True)
class LoginFailure:
    """Why somebody was not let in. `until` is set when the account is locked for a while."""

    kind: Literal["wrong", "locked"]
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A secret that is valid now, and whose it is."""

    actor: Actor
    credential_id: int
    created_at: datetime
    expires_at: datetime | None


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


def add_staff(
    session: Session,
    username: str,
    name: str,
    role: Role,
    departments: Iterable[str],
    password: PasswordHash | None,
    now: datetime,
) -> Staff:
    """Add a person. Without a password they sign in by a one-time link.

    Raises `InvalidError` for a bad or taken username, a missing name or an unknown department, and
    when a member or lead has no department.
    """
    username = normal_username(username)
    if not _USERNAME.fullmatch(username) or username.startswith(SERVICE_PREFIX):
        raise InvalidError(
            "A username has 2 to 64 letters, digits, dots, hyphens, @ or _, and does not begin "
            f"with {SERVICE_PREFIX}"
        )
    if find_staff(session, username) is not None:
        raise InvalidError(f"The username «{username}» is taken.")
    return _insert(session, username, name, role, frozenset(departments), password, now)


def find_staff(session: Session, username: str) -> Staff | None:
    """The person with this username."""
    username = normal_username(username)
    if not _USERNAME.fullmatch(username):
        return None
    return session.execute(select(Staff).where(col(Staff.username) == username)).scalar()


def normal_username(username: str) -> str:
    """Usernames are compared in NFC and lower case."""
    return nfc(username).strip().lower()


def require_staff(session: Session, username: str) -> Staff:
    """The person with this username. Raises `NotFoundError`; service accounts are no people."""
    staff = find_staff(session, username)
    if staff is None or staff.username.startswith(SERVICE_PREFIX):
        raise NotFoundError(f"There is nobody with the username «{username}».")
    return staff


def people(session: Session) -> list[tuple[Staff, list[str]]]:
    """Everybody who signs in, by username, each with their departments."""
    query = select(Staff).where(col(Staff.username).not_like(f"{SERVICE_PREFIX}%"))
    memberships: dict[int, list[str]] = {}
    for row in session.execute(select(Membership).order_by(col(Membership.department))).scalars():
        memberships.setdefault(row.staff_id, []).append(row.department)
    return [
        (staff, memberships.get(staff.id or 0, []))
        for staff in session.execute(query.order_by(col(Staff.username))).scalars()
    ]


def change_staff(
    session: Session,
    staff: Staff,
    *,
    role: Role | None = None,
    departments: Iterable[str] | None = None,
    name: str | None = None,
) -> None:
    """Change what is given, keep the rest; it holds from the person's next click.

    Raises `InvalidError` as `add_staff` does.
    """
    kept = select(col(Membership.department)).where(col(Membership.staff_id) == staff.id)
    wanted = frozenset(session.execute(kept).scalars() if departments is None else departments)
    staff.role = role or staff.role
    staff.name = _checked_name(session, name or staff.name, staff.role, wanted)
    session.execute(delete(Membership).where(col(Membership.staff_id) == staff.id))
    session.add_all(Membership(staff_id=staff.id or 0, department=slug) for slug in sorted(wanted))
    session.add(staff)
    session.flush()


def set_jid(session: Session, staff: Staff, jid: str) -> None:
    """Set the XMPP address somebody answers from; empty takes it away.

    Raises `InvalidError` when it is no such address, or somebody else's.
    """
    wanted = bare_jid(jid)
    if jid.strip() and not wanted:
        raise InvalidError("An XMPP address looks like kari@sorum.kommune.no.")
    query = select(col(Staff.id)).where(col(Staff.jid) == wanted, col(Staff.id) != staff.id)
    if wanted and session.execute(query).first() is not None:
        raise InvalidError("Somebody else has this XMPP address.")
    if staff.jid and staff.jid != wanted:
        _tell_no_more(session, staff)
    staff.jid = wanted or None
    session.add(staff)
    session.flush()


def set_active(session: Session, staff: Staff, now: datetime, *, active: bool) -> None:
    """Let a person in again, or shut them out: sessions, sign-in links, tokens and open streams end
    at once."""
    staff.active = active
    staff.failed_logins, staff.locked_until = 0, None
    session.add(staff)
    session.flush()
    if not active:
        session.connection().execute(delete(_C).where(_C.c.staff_id == staff.id))
        _tell_no_more(session, staff)
        events.record(session, ACCESS_CHANGED, at=now, staff_id=staff.id)


def _tell_no_more(session: Session, staff: Staff) -> None:
    """What waits to go to somebody's XMPP address does not go there: it may be nobody's now. At
    another address they are told of what they hold from the beginning."""
    waiting = (
        _UNSENT,
        col(OutboxItem.kind) == OutgoingKind.RELAY.value,
        col(OutboxItem.recipient) == staff.jid,
    )
    session.execute(delete(OutboxItem).where(*waiting))
    session.execute(delete(Relayed).where(col(Relayed.staff_id) == staff.id))


def set_password(session: Session, staff_id: int, password: PasswordHash) -> None:
    """Change a password, end the person's open sessions and sign-in links, and lift a lock-out.

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


def actor_of(session: Session, staff: Staff) -> Actor:
    """What this person may see and do."""
    return Actor(
        role=staff.role,
        staff_id=staff.id,
        name=staff.name,
        username=staff.username,
        departments=_departments(session, staff.id or 0, staff.role),
        language=staff.language,
    )


def issue(
    session: Session,
    kind: CredentialKind,
    staff_id: int,
    now: datetime,
    *,
    expires_at: datetime | None,
    department: str | None = None,
    name: str = "",
) -> str:
    """Make a secret for a person and return it; only its hash is kept."""
    secret = new_secret()
    session.add(
        Credential(
            kind=kind,
            token_hash=hash_secret(secret),
            staff_id=staff_id,
            department=department,
            name=name,
            created_at=now,
            expires_at=expires_at,
        )
    )
    session.flush()
    return secret


def sign_in_path(session: Session, staff: Staff, now: datetime, lasting: timedelta) -> str:
    """The path of a page that signs a person in once."""
    secret = issue(session, CredentialKind.ONE_TIME, staff.id or 0, now, expires_at=now + lasting)
    return f"/desk/login?once={secret}"


def open_session(session: Session, staff_id: int, hours: int, now: datetime) -> str:
    """Make a browser session of `hours`, at most `SESSION_CAP`, and return its secret."""
    return issue(
        session,
        CredentialKind.SESSION,
        staff_id,
        now,
        expires_at=now + min(timedelta(hours=hours), SESSION_CAP),
    )


def find(session: Session, kind: CredentialKind, secret: str, now: datetime) -> SignedIn | None:
    """Whose secret this is, or None when it is unknown, used, expired, or its owner has left."""
    key = {"token_hash": hash_secret(secret), "kind": kind}
    found = session.connection().execute(_FIND, key).first()
    if found is None or (found.expires_at is not None and found.expires_at <= now):
        return None
    if found.department is not None:
        departments: frozenset[str] | None = frozenset({found.department})
    else:
        departments = _departments(session, found.staff_id, found.role)
    return SignedIn(
        actor=Actor(
            role=found.role,
            staff_id=found.staff_id,
            name=found.name,
            username=found.username,
            departments=departments,
            language=found.language,
        ),
        credential_id=found.id,
        created_at=found.created_at,
        expires_at=found.expires_at,
    )


def slide(signed_in: SignedIn, hours: int, now: datetime) -> datetime | None:
    """Until when a session in use should be extended, or None while that is not worth a write."""
    until = min(now + timedelta(hours=hours), signed_in.created_at + SESSION_CAP)
    if signed_in.expires_at is None or until - signed_in.expires_at < SLIDE_STEP:
        return None
    return until


def extend(session: Session, credential_id: int, until: datetime) -> None:
    """Move the end of a session."""
    session.connection().execute(
        update(_C).where(_C.c.id == credential_id).values(expires_at=until)
    )


def consume_one_time(session: Session, secret: str, now: datetime) -> Staff | None:
    """Use up a sign-in link: the first call returns its owner, every other one None."""
    token_hash = hash_secret(secret)
    used = session.connection().execute(
        update(_C)
        .where(
            _C.c.token_hash == token_hash,
            _C.c.kind == CredentialKind.ONE_TIME,
            _C.c.used_at.is_(None),
            _C.c.expires_at > now,
        )
        .values(used_at=now)
    )
    if not used.rowcount:
        return None
    return session.execute(
        select(Staff)
        .join(Credential, col(Credential.staff_id) == col(Staff.id))
        .where(col(Credential.token_hash) == token_hash, col(Staff.active).is_(True))
    ).scalar()


def revoke(session: Session, kind: CredentialKind, secret: str) -> None:
    """Forget one secret."""
    session.connection().execute(
        delete(_C).where(_C.c.token_hash == hash_secret(secret), _C.c.kind == kind)
    )


def revoke_all(session: Session, staff_id: int) -> None:
    """End every open session and sign-in link of a person. API tokens stay."""
    kinds = [CredentialKind.SESSION, CredentialKind.ONE_TIME]
    session.connection().execute(delete(_C).where(_C.c.staff_id == staff_id, _C.c.kind.in_(kinds)))


def purge_expired(session: Session, now: datetime) -> int:
    """Forget secrets that no longer open anything; returns how many."""
    gone = session.connection().execute(delete(_C).where(_C.c.expires_at <= now))
    return int(gone.rowcount)


def create_api_token(
    session: Session, role: Role, department: str | None, name: str, now: datetime
) -> str:
    """Make an API token with a service account of its own (`api-<n>`, no password); return it.

    An operator or admin token sees every department unless narrowed to one; members and leads need
    one. Raises `InvalidError` for an unknown or missing department.
    """
    departments = frozenset({department}) if department else frozenset[str]()
    staff = _insert(
        session,
        # The number is known only after the insert; until then any unused name will do.
        f"{SERVICE_PREFIX}{secrets.token_hex(8)}",
        name or f"API ({role.value})",
        role,
        departments,
        None,
        now,
    )
    staff.username = f"{SERVICE_PREFIX}{staff.id}"
    return issue(
        session,
        CredentialKind.API,
        staff.id or 0,
        now,
        expires_at=None,
        department=department,
        name=name,
    )


def api_tokens(session: Session) -> list[tuple[Credential, Staff]]:
    """Every API token with its account, the oldest first. The secret is nowhere to be had."""
    query = (
        select(Credential, Staff)
        .join(Staff, col(Credential.staff_id) == col(Staff.id))
        .where(col(Credential.kind) == CredentialKind.API)
        .order_by(col(Credential.id))
    )
    return [(credential, staff) for credential, staff in session.execute(query)]


def revoke_api_token(session: Session, token_id: int) -> None:
    """End an API token and the service account made for it. Raises `NotFoundError`."""
    token = session.get(Credential, token_id)
    if token is None or token.kind is not CredentialKind.API:
        raise NotFoundError(f"There is no token {token_id}.")
    staff = session.get_one(Staff, token.staff_id)
    session.delete(token)
    if staff.username.startswith(SERVICE_PREFIX):
        staff.active = False
        session.add(staff)
    session.flush()


def _departments(session: Session, staff_id: int, role: Role) -> frozenset[str] | None:
    if departments_for(role, frozenset()) is None:
        return None
    rows = session.connection().execute(_MEMBERSHIPS, {"staff_id": staff_id})
    return departments_for(role, frozenset(rows.scalars()))


def _insert(
    session: Session,
    username: str,
    name: str,
    role: Role,
    departments: frozenset[str],
    password: PasswordHash | None,
    now: datetime,
) -> Staff:
    name = _checked_name(session, name, role, departments)
    staff = Staff(
        username=username, name=name, role=role, password_hash=password or "", created_at=now
    )
    session.add(staff)
    session.flush()
    for slug in sorted(departments):
        session.add(Membership(staff_id=staff.id or 0, department=slug))
    session.flush()
    return staff


def _checked_name(session: Session, name: str, role: Role, departments: frozenset[str]) -> str:
    """The name as it is kept, when role and departments are right too."""
    name = " ".join(nfc(name).split())
    if not name or len(name) > 200:
        raise InvalidError("A name has 1 to 200 characters.")
    known = set(session.execute(select(col(Department.slug))).scalars())
    if unknown := sorted(departments - known):
        _, near = suggest(unknown[0], known)
        ending = "" if near.endswith("?") else "."
        raise InvalidError(f"There is no department «{unknown[0]}»{near}{ending}")
    if departments_for(role, departments) == frozenset():
        raise InvalidError(f"The role {role.value} needs a department.")
    return name


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
