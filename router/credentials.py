"""Secrets that open the house: browser sessions, sign-in links, API tokens.

Each carries 256 bits of chance and is kept as its SHA-256.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, delete, select, update
from sqlmodel import Session, col

from router import events
from router.access import ACCESS_CHANGED, SERVICE_PREFIX, Actor
from router.errors import NotFoundError
from router.models import Credential, CredentialKind, Role, Staff
from router.staff import departments_of, insert_staff
from router.tokens import hash_secret, new_secret

_C: Any = Credential.__table__  # type: ignore[attr-defined]
_S: Any = Staff.__table__  # type: ignore[attr-defined]

SESSION_CAP = timedelta(hours=24)
"""However busy a session is, it ends this long after the sign-in."""

SLIDE_STEP = timedelta(minutes=5)
"""A session is extended at most this often: not every click is worth a write."""

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


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A secret that is valid now, and whose it is."""

    actor: Actor
    credential_id: int
    created_at: datetime
    expires_at: datetime | None


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
        departments = departments_of(session, found.staff_id, found.role)
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
    staff = insert_staff(
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
    """Every API token with its account, the oldest first; without its secret, which is not kept."""
    query = (
        select(Credential, Staff)
        .join(Staff, col(Credential.staff_id) == col(Staff.id))
        .where(col(Credential.kind) == CredentialKind.API)
        .order_by(col(Credential.id))
    )
    return [(credential, staff) for credential, staff in session.execute(query)]


def revoke_api_token(session: Session, token_id: int, now: datetime) -> None:
    """End an API token, its open streams and the service account made for it. Raises
    `NotFoundError`."""
    token = session.get(Credential, token_id)
    if token is None or token.kind is not CredentialKind.API:
        raise NotFoundError(f"There is no token {token_id}.")
    staff = session.get_one(Staff, token.staff_id)
    session.delete(token)
    if staff.username.startswith(SERVICE_PREFIX):
        staff.active = False
        session.add(staff)
    session.flush()
    events.record(session, ACCESS_CHANGED, at=now, staff_id=staff.id)
