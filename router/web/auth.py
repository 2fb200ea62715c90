"""Who is asking: sign-in, sessions and tokens, and the guards that every route names.

A session is a cookie whose secret only its owner has. What changes something through a session must
carry a token derived from that secret, and come from our own pages. API tokens travel in a header
that no foreign page can set, and need neither.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import quote, urlsplit

import structlog
from fastapi import APIRouter, Depends, Form, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import update
from sqlmodel import Session, col
from starlette.responses import RedirectResponse, Response

from router import credentials, passwords
from router.access import Actor
from router.errors import ForbiddenError, InvalidError, RouterError, StoreUnavailableError
from router.models import CredentialKind, Role, Staff
from router.web import limits
from router.web.frame import desk_frame
from router.web.render import render, sentence

if TYPE_CHECKING:
    from collections.abc import Callable

    from router.hall import Hall

log = structlog.get_logger(__name__)

router = APIRouter(include_in_schema=False)

HOME = "/desk"
LOGIN = "/desk/login"
ACCOUNT = "/desk/account"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_CSRF_FIELD = "csrf"
_CSRF_HEADER = "x-csrf-token"


class LoginRequiredError(RouterError):
    """You are not signed in, or your session has ended."""

    status = 401
    code = "unauthorized"


def hall_of(request: Request) -> Hall:
    """The open service behind a request."""
    hall: Hall = request.app.state.hall
    return hall


def cookie_name(hall: Hall) -> str:
    """`__Host-` binds the cookie to this host and to TLS; on plain HTTP browsers refuse it."""
    return "__Host-sentralbord" if _secure(hall) else "sentralbord"


def new_csrf_token(session_secret: str) -> str:
    """A token for one page. Each differs, so that compression gives none of them away (BREACH)."""
    nonce = secrets.token_urlsafe(9)
    return f"{nonce}.{_csrf_mac(session_secret, nonce)}"


def csrf_token_fits(session_secret: str, token: str) -> bool:
    """Whether a token was made for this session."""
    nonce, _, mac = token.partition(".")
    expected = _csrf_mac(session_secret, nonce)
    return hmac.compare_digest(expected.encode(), mac.encode(errors="replace"))


def from_own_pages(request: Request) -> bool:
    """Whether a browser says that this request comes from one of our own pages.

    Fetch Metadata decides where the browser sends it, else `Origin`; no browser, neither of them.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in {"same-origin", "none"}
    origin = request.headers.get("origin")
    if origin is None:
        return True
    own = {urlsplit(hall_of(request).settings.public_url).netloc, request.headers.get("host", "")}
    return urlsplit(origin).netloc in own


def require_own_pages(request: Request) -> None:
    """Guard for forms that have no session yet. Raises `ForbiddenError`."""
    if not from_own_pages(request):
        raise ForbiddenError("The form was sent from another site.")


def session_reader(request: Request) -> Actor:
    """Who is signed in, without counting this as activity: streams reconnect by themselves."""
    return _session(request, slide=False)


def signed_in(request: Request) -> Actor:
    """Who is signed in; a session in use lives on.

    Leaves `actor`, `csrf` and `session_ends_at` on `request.state`. Raises `LoginRequiredError`.
    """
    return _session(request, slide=True)


async def desk_actor(request: Request, actor: Annotated[Actor, Depends(signed_in)]) -> Actor:
    """Guard of the desk: a session, and for changes the proof that our own page sent them.

    Raises `LoginRequiredError`, `ForbiddenError`.
    """
    if request.method not in _SAFE_METHODS:
        require_own_pages(request)
        token = request.headers.get(_CSRF_HEADER, "") or await _form_token(request)
        if not csrf_token_fits(request.cookies[cookie_name(hall_of(request))], token):
            raise ForbiddenError("The page was too old. Load it again and repeat what you did.")
    return actor


_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="token",
    description="A token made by `sentralbord token create`.",
)


def api_actor(
    request: Request,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
) -> Actor:
    """Guard of the API: a token; for reading, a desk session will do.

    Raises `LoginRequiredError`, `TooManyError` after many wrong tokens from one address.
    """
    hall = hall_of(request)
    if bearer is not None:
        now = hall.clock()
        with hall.db.read() as session:
            found = credentials.find(session, CredentialKind.API, bearer.credentials, now)
        if found is not None:
            request.state.credential = (CredentialKind.API, bearer.credentials)
            return found.actor
        limits.take(request, limits.API_TOKEN)
        raise LoginRequiredError("This token is unknown or no longer valid.")
    if request.method == "GET" and "authorization" not in request.headers:
        return session_reader(request)
    raise LoginRequiredError("Send «Authorization: Bearer TOKEN».")


def is_known(request: Request) -> bool:
    """Whether a session or token comes along that holds: before a large body is read, not instead
    of a guard."""
    hall = hall_of(request)
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        kind, secret = CredentialKind.API, token.strip()
    else:
        kind, secret = CredentialKind.SESSION, request.cookies.get(cookie_name(hall), "")
    if not secret:
        return False
    with hall.db.read() as session:
        return credentials.find(session, kind, secret, hall.clock()) is not None


DeskActor = Annotated[Actor, Depends(desk_actor)]
DeskReader = Annotated[Actor, Depends(session_reader)]
ApiActor = Annotated[Actor, Depends(api_actor)]


def desk_role(*roles: Role) -> Callable[[Actor], Actor]:
    """Guard of the desk for some roles only. Raises `ForbiddenError`."""

    def check(actor: DeskActor) -> Actor:
        actor.require(*roles)
        return actor

    return check


SwitchboardActor = Annotated[Actor, Depends(desk_role(Role.OPERATOR, Role.ADMIN))]
AdminActor = Annotated[Actor, Depends(desk_role(Role.ADMIN))]

GUARDS: tuple[object, ...] = (session_reader, signed_in, desk_actor, api_actor)
"""Every route depends on one of these or is named in `app.PUBLIC_ROUTES`."""


def still_actor(hall: Hall, credential: tuple[CredentialKind, str]) -> Actor | None:
    """Who a secret belongs to now: a long stream asks again from time to time."""
    kind, secret = credential
    with hall.db.read() as session:
        found = credentials.find(session, kind, secret, hall.clock())
    return found.actor if found else None


@router.get(LOGIN)
def login_page(
    request: Request,
    next: str = HOME,  # noqa: A002 - the name in the address
    once: str = "",
) -> Response:
    """The sign-in form; who is signed in already goes on. `once`: the secret of a sign-in link."""
    if once:
        return _use_link(request, once)
    try:
        session_reader(request)
    except LoginRequiredError:
        return _login_form(request, next_page=next)
    return RedirectResponse(safe_next(next), 303)


@router.post(LOGIN)
def login(
    request: Request,
    username: Annotated[str, Form(max_length=200)] = "",
    password: Annotated[str, Form(max_length=1000)] = "",
    next: Annotated[str, Form()] = HOME,  # noqa: A002
) -> Response:
    """Check name and password; open a session."""
    require_own_pages(request)
    limits.take(request, limits.LOGIN)
    hall = hall_of(request)
    outcome = passwords.verify_login(hall.db, username, password, hall.clock())
    if isinstance(outcome, passwords.LoginFailure):
        log.warning("auth.refused", kind=outcome.kind)
        return _login_form(request, outcome, username, next)
    limits.give_back(request, limits.LOGIN)
    log.info("auth.signed_in", staff_id=outcome.id)
    return _enter(request, outcome.id or 0, safe_next(next))


@router.post("/desk/logout")
def logout(request: Request, _actor: DeskActor) -> Response:
    """End the session."""
    hall = hall_of(request)
    secret = request.cookies[cookie_name(hall)]
    hall.db.write_sync(lambda session: credentials.revoke(session, CredentialKind.SESSION, secret))
    response = RedirectResponse(f"{LOGIN}?done=signed_out", 303)
    response.delete_cookie(
        cookie_name(hall), path="/", secure=_secure(hall), httponly=True, samesite="lax"
    )
    return response


@router.post("/desk/account/password")
def change_password(
    request: Request,
    actor: DeskActor,
    password: Annotated[str, Form(max_length=1000)],
    current: Annotated[str, Form(max_length=1000)] = "",
) -> Response:
    """Set a new password; every other session of this person ends.

    The current password is asked for unless there is none yet (first sign-in by link).
    What is wrong is said at its field.
    """
    hall = hall_of(request)
    now = hall.clock()
    staff_id = actor.staff_id or 0
    with hall.db.read() as session:
        has_password = bool(session.get_one(Staff, staff_id).password_hash)
    if has_password:
        limits.take(request, limits.LOGIN)
        outcome = passwords.verify_login(hall.db, actor.username, current, now)
        if isinstance(outcome, passwords.LoginFailure):
            wrong = ForbiddenError("The current password is wrong.")
            return _account_form(request, actor, "current", wrong)
        limits.give_back(request, limits.LOGIN)
    try:
        fresh = passwords.hash_password(password)
    except InvalidError as error:
        return _account_form(request, actor, "password", error, has_password=has_password)
    hall.db.write_sync(lambda session: passwords.set_password(session, staff_id, fresh, now))
    log.info("auth.password_changed", staff_id=staff_id)
    return _enter(request, staff_id, f"{ACCOUNT}?done=password_changed")


@router.post("/desk/account/language")
def change_language(
    request: Request, actor: DeskActor, language: Annotated[Literal["nb", "nn", "en"], Form()]
) -> Response:
    """Choose the language of the desk."""
    hall_of(request).db.write_sync(
        lambda session: session.connection().execute(
            update(Staff).where(col(Staff.id) == actor.staff_id).values(language=language)
        )
    )
    return RedirectResponse(f"{ACCOUNT}?done=saved", 303)


def safe_next(target: str) -> str:
    """A page of the desk to go on to; anything else becomes the desk itself."""
    fits = target == HOME or target.startswith((f"{HOME}/", f"{HOME}?"))
    if not fits or "\\" in target or any(ord(c) < 33 or ord(c) > 126 for c in target):
        return HOME
    return target


def login_address(request: Request) -> str:
    """Where to sign in, and come back from."""
    target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    if request.method != "GET" or safe_next(target) in {HOME, LOGIN}:
        return LOGIN
    return f"{LOGIN}?next={quote(target, safe='')}"


def _session(request: Request, *, slide: bool) -> Actor:
    hall = hall_of(request)
    secret = request.cookies.get(cookie_name(hall), "")
    if not secret:
        raise LoginRequiredError
    now = hall.clock()
    with hall.db.read() as session:
        found = credentials.find(session, CredentialKind.SESSION, secret, now)
    if found is None:
        raise LoginRequiredError
    ends_at = found.expires_at
    until = credentials.slide(found, hall.settings.web.session_hours, now) if slide else None
    if until is not None:
        # A busy store is no reason to turn a reader away: the session just is not extended.
        with suppress(StoreUnavailableError):
            hall.db.write_sync(
                partial(credentials.extend, credential_id=found.credential_id, until=until)
            )
            ends_at = until
    request.state.actor = found.actor
    request.state.credential = (CredentialKind.SESSION, secret)
    request.state.csrf = new_csrf_token(secret)
    request.state.session_ends_at = ends_at
    return found.actor


def _use_link(request: Request, secret: str) -> Response:
    """Sign in by a link that works once."""
    if "prefetch" in request.headers.get("sec-purpose", ""):
        return Response(status_code=503)  # a guess of the browser must not use the link up
    limits.take(request, limits.LOGIN)
    hall = hall_of(request)
    now = hall.clock()
    found = hall.db.write_sync(lambda session: credentials.consume_one_time(session, secret, now))
    if found is None:
        return _login_form(request, passwords.LoginFailure("wrong"), used_link=True)
    limits.give_back(request, limits.LOGIN)
    log.info("auth.signed_in", staff_id=found.id, by="link")
    return _enter(request, found.id or 0, HOME)


def _enter(request: Request, staff_id: int, target: str) -> Response:
    """Open a fresh session (the old one ends: no fixation) and go on."""
    hall = hall_of(request)
    now = hall.clock()
    old = request.cookies.get(cookie_name(hall), "")

    def job(session: Session) -> str:
        if old:
            credentials.revoke(session, CredentialKind.SESSION, old)
        return credentials.open_session(session, staff_id, hall.settings.web.session_hours, now)

    response = RedirectResponse(target, 303)
    response.set_cookie(
        cookie_name(hall),
        hall.db.write_sync(job),
        path="/",
        secure=_secure(hall),
        httponly=True,
        samesite="lax",
    )
    return response


def _login_form(
    request: Request,
    failure: passwords.LoginFailure | None = None,
    username: str = "",
    next_page: str = HOME,
    *,
    used_link: bool = False,
) -> Response:
    """`login.html` with `error`: empty, `wrong`, `locked` (with `until`) or `link` (used up)."""
    status, error = 200, ""
    if used_link:
        status, error = 410, "link"
    elif failure is not None:
        status, error = (429 if failure.kind == "locked" else 422), failure.kind
    return render(
        request,
        "login.html",
        status=status,
        error=error,
        until=failure.until if failure else None,
        username=username,
        next=safe_next(next_page),
    )


def _account_form(
    request: Request, actor: Actor, field: str, error: RouterError, *, has_password: bool = True
) -> Response:
    hall = hall_of(request)
    with hall.db.read() as session:
        frame = desk_frame(session, hall, actor)
    return render(
        request,
        "account.html",
        error.status,
        has_password=has_password,
        errors={field: sentence(error, actor.language)},
        **frame,
    )


async def _form_token(request: Request) -> str:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in {"application/x-www-form-urlencoded", "multipart/form-data"}:
        return ""
    token = (await request.form()).get(_CSRF_FIELD, "")
    return token if isinstance(token, str) else ""


def _csrf_mac(session_secret: str, nonce: str) -> str:
    message = f"csrf:{nonce}".encode(errors="replace")
    return hmac.new(session_secret.encode(), message, hashlib.sha256).hexdigest()


def _secure(hall: Hall) -> bool:
    return hall.settings.public_url.startswith("https://")
