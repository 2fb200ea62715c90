"""The web application: routes, error answers, and what every response carries."""

from __future__ import annotations

import re
import traceback
from pathlib import Path
from random import getrandbits
from time import perf_counter
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.routing import iter_route_contexts
from pydantic.json_schema import models_json_schema
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Match, Mount
from starlette.staticfiles import StaticFiles

from router import __version__
from router.errors import RouterError
from router.metrics import HTTP_SECONDS
from router.web import (
    api,
    aside_pages,
    auth,
    call_pages,
    calls_api,
    chat_api,
    chat_door,
    chat_pages,
    chats_api,
    contact_api,
    contact_pages,
    cti_hooks,
    desk,
    desk_chats,
    desk_handovers,
    downloads,
    health,
    hooks,
    outbox_pages,
    presence_api,
    presence_pages,
    problems,
    residents,
    statistics_pages,
    stream,
    voice_hooks,
)
from router.web.limits import Limits
from router.web.render import content_policy, error_page

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from router.hall import Hall

log = structlog.get_logger(__name__)

STATIC = Path(__file__).parent / "static"

PUBLIC_ROUTES = frozenset(
    {
        "/",
        "/status/{token}",
        "/tilgjengelighet",
        "/personvern",
        # Whoever asks is known by the cookie of the chat; see `chat_door.find`.
        "/chat",
        "/chat/address",
        "/chat/end",
        "/chat/transcript",
        "/chat/presence",
        "/chat/conversations",
        "/chat/conversations/{key}/contact",
        "/chat/conversations/{key}/events",
        "/chat/conversations/{key}/files/{number}",
        "/chat/conversations/{key}/leave",
        "/chat/conversations/{key}/messages",
        "/chat/conversations/{key}/read",
        "/chat/conversations/{key}/transcript",
        "/chat/conversations/{key}/typing",
        auth.LOGIN,
        "/static",
        "/healthz",
        "/readyz",
        "/metrics",
        "/api/openapi.json",
        "/api/problems/{code}",
        # Providers have no account with us: a webhook is believed by its signature, see `hooks`.
        hooks.SMS,
        *voice_hooks.PATHS,
        hooks.SMS_STATUS,
        # The exchange shows its token in the address.
        cti_hooks.PATH,
    }
)
"""Routes that ask nobody who they are; every other one depends on a guard of `auth`."""

BODY_LIMIT = 1024 * 1024
"""Bytes of one request."""

FILES_BODY_LIMIT = 32 * 1024 * 1024
"""Bytes of a reply with files, from somebody we know: `files.FILES_LIMIT` in base64, and more than
a form needs, so that it is the form that says what is too large, and keeps the text."""

CHAT_BODY_LIMIT = 31 * 1000 * 1000
"""Bytes of a message in a chat, with three files, from somebody who has a conversation with us."""

_CHAT_MESSAGE = re.compile(r"/chat(/conversations/[^/]+/messages)?")
_WITH_FILES = re.compile(r"/(desk|api)/inquiries/[^/]+/reply|/desk/chats/[^/]+/messages")
_WITHOUT_GZIP = re.compile(
    r"/api/|/chat/conversations/|/desk/stream|/desk/chats/[^/]+/events|/desk/arrivals/[^/]+/raw|/desk/inquiries/[^/]+/attachments/"
)

_HEADERS = {
    "Content-Security-Policy": content_policy(),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Pages hold personal data or keys that are good for one form only.
    "Cache-Control": "no-store",
}
WIDGET = "/static/chat.js"
"""The one file that pages of others load from us."""

_FOR_EVER = "public, max-age=31536000, immutable"
_STRICT_TRANSPORT = "max-age=31536000"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_NO_HEAD = ("/api/events", "/desk/stream", auth.LOGIN)

_PLAIN_PATH = re.compile(r"/[A-Za-z0-9][A-Za-z0-9_./-]*/")


def create_app(hall: Hall) -> FastAPI:
    """The application that serves an open hall."""
    limits = Limits(hall.settings.web.trusted_proxies)
    app = FastAPI(
        title="Sentralbord",
        version=__version__,
        routes=[*chat_api.ROUTES],
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # We have our own figures, and paths with tokens in them are told to nobody.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        middleware=[
            Middleware(_Frame, secure=hall.settings.public_url.startswith("https://")),
            Middleware(_Compression),
            Middleware(_BodyLimit),
            Middleware(_FormCharset),
        ],
        exception_handlers={
            hooks.RefusedError: hooks.refused,
            RouterError: _router_error,
            HTTPException: _http_error,
            RequestValidationError: _validation_error,
        },
    )
    app.state.hall = hall
    app.state.limits = limits
    app.state.talks = chat_door.Talks()
    # Whoever calls waits for the answer: their doors are asked for first; then what is asked most.
    for module in (
        voice_hooks,
        hooks,
        auth,
        desk,
        desk_chats,
        desk_handovers,
        downloads,
        aside_pages,
        outbox_pages,
        contact_pages,
        call_pages,
        presence_pages,
        statistics_pages,
        residents,
        chat_pages,
        chats_api,
        api,
        contact_api,
        presence_api,
        stream,
        health,
        cti_hooks,
        calls_api,
    ):
        app.include_router(module.router)
    app.add_api_route("/api/openapi.json", _openapi, include_in_schema=False)
    app.mount("/static", StaticFiles(directory=STATIC, check_dir=False), name="static")
    return app


def openapi(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of `/api` and the health pages."""
    if app.openapi_schema is not None:
        return app.openapi_schema
    document = get_openapi(
        title="Sentralbord",
        version=__version__,
        summary="Inquiries to the municipality: one queue, explained routing, kept deadlines.",
        description=(
            "Times are RFC 3339 in UTC. Errors are problem documents (RFC 9457). Lists are paged "
            "by key: give `next` as `after`. What your token may not see does not exist for you."
        ),
        servers=[{"url": app.state.hall.settings.public_url}],
        routes=[
            context
            for context in iter_route_contexts(app.routes)
            if (context.path or "").startswith(("/api/", "/healthz", "/readyz"))
        ],
    )
    _, shared = models_json_schema(
        [(problems.Problem, "serialization")], ref_template="#/components/schemas/{model}"
    )
    document.setdefault("components", {}).setdefault("schemas", {}).update(shared["$defs"])
    app.openapi_schema = document
    return document


def _openapi(request: Request) -> JSONResponse:
    """Hand out the OpenAPI document."""
    return JSONResponse(openapi(request.app))


def _for_machines(request: Request) -> bool:
    path = request.url.path
    return path == "/api" or path.startswith(
        ("/api/", "/hooks/", "/healthz", "/readyz", "/metrics", "/chat/conversations")
    )


async def _router_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RouterError)  # noqa: S101 - registered for nothing else
    if error.status >= 500:
        log.error("web.failed", error=type(error).__name__, status=error.status)
    if _for_machines(request):
        return problems.of_error(request, error)
    if isinstance(error, auth.LoginRequiredError):
        return _ask_to_sign_in(request)
    return error_page(request, error.status, error=error, headers=problems.headers_of(error))


def _ask_to_sign_in(request: Request) -> Response:
    """A page goes to the form; a script is told: a redirect would hand it the form as data."""
    headers = request.headers
    if "hx-request" in headers or headers.get("sec-fetch-dest") == "empty":
        return error_page(request, 401, headers={"HX-Redirect": auth.LOGIN})
    if headers.get("accept", "").startswith("text/event-stream"):
        return error_page(request, 401)
    return RedirectResponse(auth.login_address(request), 303)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    path = request.url.path
    if error.status_code == 404 and request.method == "GET" and _PLAIN_PATH.fullmatch(path):
        query = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(path.rstrip("/") + query, 308)
    headers = error.headers
    if error.status_code == 405 and (allowed := _allowed(request)):
        headers = {**(headers or {}), "Allow": ", ".join(allowed)}
    if _for_machines(request):
        return problems.of_http(request, HTTPException(error.status_code, error.detail, headers))
    return error_page(request, error.status_code, headers=headers)


def _allowed(request: Request) -> list[str]:
    """The methods of an address (RFC 9110 §15.5.6): each of its routes knows only its own."""
    found = {
        method
        for method in _METHODS
        for route in request.app.routes
        if not isinstance(route, Mount)
        and route.matches({**request.scope, "method": method})[0] is Match.FULL
    }
    if "GET" in found and not _is_endless(request.url.path):
        found.add("HEAD")
    return sorted(found)


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    if _for_machines(request):
        return problems.of_validation(request, error)
    return error_page(request, 422)


def _is_endless(path: str) -> bool:
    """Whether a HEAD must not be run as a GET: it would never end, or use a sign-in link up."""
    return path.startswith(_NO_HEAD) or path.endswith("/events")


class _Frame:
    """Around every request: its id, its time, the headers of its response, the last safety net."""

    def __init__(self, app: ASGIApp, secure: bool) -> None:
        self._app = app
        self._secure = secure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = perf_counter()
        request_id = f"{getrandbits(64):016x}"
        method, path = scope["method"], scope["path"]
        scope = dict(scope, state={**scope.get("state", {}), "request_id": request_id})
        if method == "HEAD" and not _is_endless(path):
            scope["method"] = "GET"  # RFC 9110 §9.3.2: the same answer, without its content
        status = 0

        async def framed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(raw=message["headers"])
                self._complete(headers, scope, status, request_id)
                if headers.get("content-type", "").startswith("text/event-stream"):
                    _observe(method, scope, status, perf_counter() - started)
                    status = -status
            elif method == "HEAD":
                message = {**message, "body": b""}
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, framed)
            except ClientDisconnect:
                return
            except Exception as error:  # noqa: BLE001 - the last net: logged, and answered with 500
                _log_failure(error, scope)
                if status:
                    # Too late for an answer: a broken connection is not taken for a whole one.
                    raise RuntimeError("the response broke off") from None
                await _failure(Request(scope), framed)
            if status > 0:
                seconds = perf_counter() - started
                _observe(method, scope, status, seconds)
                log.debug("web.request", route=_route(scope), status=status, seconds=seconds)

    def _complete(
        self, headers: MutableHeaders, scope: Scope, status: int, request_id: str
    ) -> None:
        if scope["path"].startswith("/static/") and status in {200, 304}:
            fingerprinted = "v" in parse_qs(scope["query_string"].decode("latin-1"))
            headers.setdefault("Cache-Control", _FOR_EVER if fingerprinted else "no-cache")
        if scope["path"] == WIDGET:
            headers.setdefault("Cross-Origin-Resource-Policy", "cross-origin")
        for name, value in _HEADERS.items():
            headers.setdefault(name, value)
        if self._secure:
            headers.setdefault("Strict-Transport-Security", _STRICT_TRANSPORT)
        headers["X-Request-Id"] = request_id


class _Compression:
    """gzip for pages and static files; streams, downloads and the API go as they are."""

    def __init__(self, app: ASGIApp) -> None:
        self._plain = app
        # Nobody else is served meanwhile: level 3 takes a third of the time of level 6.
        self._gzip = GZipMiddleware(app, minimum_size=1000, compresslevel=3)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        as_it_is = scope["type"] != "http" or _WITHOUT_GZIP.match(scope["path"])
        await (self._plain if as_it_is else self._gzip)(scope, receive, send)


class _BodyLimit:
    """Refuse bodies that are too large, announced or not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = BODY_LIMIT
        announced = Headers(scope=scope).get("content-length", "")
        size = int(announced[:20]) if announced.isdigit() else 0
        if size > limit:
            limit = await _limit_of(scope)
        if size > limit:
            response = await _http_error(Request(scope), HTTPException(413))
            await response(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received, limit
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit == BODY_LIMIT:
                limit = await _limit_of(scope)
            if received > limit:
                raise HTTPException(413)
            return message

        await self._app(scope, counted, send)


class _FormCharset:
    """Read forms as UTF-8 and, where they are none, as Latin-1, whatever codec they ask for.

    There is no such parameter (RFC 7578 §5.1.2), and some of Python's codecs take quadratic time:
    a megabyte of Punycode would hold everybody up for minutes.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            # In place: who called us looks up in this scope which route answered.
            scope["headers"] = [
                (name, _without_charset(name, value)) for name, value in scope["headers"]
            ]
        await self._app(scope, receive, send)


def _without_charset(name: bytes, value: bytes) -> bytes:
    if name != b"content-type" or b"multipart" not in value.lower():
        return value
    kind, options = parse_options_header(value)
    if kind != b"multipart/form-data" or b"charset" not in options:
        return value
    boundary = options.get(b"boundary", b"").replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return kind + b'; boundary="' + boundary + b'"'


async def _limit_of(scope: Scope) -> int:
    """A reply and a chat may bring files, but nobody reads megabytes of a stranger's."""
    files = Headers(scope=scope).get("content-type", "").lower().startswith("multipart/form-data")
    if files and _CHAT_MESSAGE.fullmatch(scope["path"]):
        talk = await run_in_threadpool(chat_door.known, Request(scope))
        return CHAT_BODY_LIMIT if talk is not None else BODY_LIMIT
    if not _WITH_FILES.fullmatch(scope["path"]):
        return BODY_LIMIT
    known = await run_in_threadpool(auth.is_known, Request(scope))
    return FILES_BODY_LIMIT if known else BODY_LIMIT


async def _failure(request: Request, send: Send) -> None:
    """The answer when all else has failed; a page that cannot be rendered becomes plain text."""
    response: Response
    if _for_machines(request):
        response = problems.problem(request, 500)
    else:
        try:
            response = error_page(request, 500)
        except Exception as error:  # noqa: BLE001 - an error in the error page
            _log_failure(error, request.scope)
            response = Response(
                "Noe gikk galt hos oss. Prøv igjen om litt.", 500, media_type="text/plain"
            )
    await response(request.scope, request.receive, send)


def _log_failure(error: Exception, scope: Scope) -> None:
    """Type and place, not the message: it may quote what somebody wrote."""
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    log.error(
        "web.failed",
        error=type(error).__name__,
        route=_route(scope),
        at=[f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames],
    )


def _observe(method: str, scope: Scope, status: int, seconds: float) -> None:
    known = method if method in _METHODS else "other"
    HTTP_SECONDS.labels(known, _route(scope), str(status)).observe(seconds)


def _route(scope: Scope) -> str:
    """The template of the route, never the path: that may hold a token."""
    path = getattr(scope.get("route"), "path", "")
    if path:
        return str(path)
    return "/static" if scope["path"].startswith("/static/") else "unmatched"
