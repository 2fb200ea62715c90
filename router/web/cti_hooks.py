"""The municipality's own exchange tells of its calls; see docs/phone-cti.md.

The token in the address is all it shows. Answers are those that existing bridges expect: 401 for a
wrong token, 422 for what the exchange must mend, else 200 with an empty object, for events that are
known already and for those that are of no interest too.
"""

from __future__ import annotations

import hmac
from functools import partial
from typing import TYPE_CHECKING

import structlog
from fastapi import APIRouter, Request
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.responses import JSONResponse

from channels.base import RejectedError
from channels.phone import cti
from router import call_flow, metrics
from router.errors import StoreUnavailableError, TooManyError
from router.web import limits
from router.web.auth import hall_of

if TYPE_CHECKING:
    from datetime import datetime

    from sqlmodel import Session

    from channels.phone.base import CallEvent
    from router.call_models import Call
    from router.number_plan import NumberPlan

log = structlog.get_logger(__name__)

router = APIRouter(include_in_schema=False)

PATH = "/hooks/phone/cti/{token}"
BODY_LIMIT = 64 * 1024
"""Bytes of one event."""

_DOOR = "cti"


@router.post(PATH)
async def told(request: Request, token: str) -> JSONResponse:
    """Take an event of the exchange in."""
    hall = hall_of(request)
    settings = hall.settings.channels.phone.cti
    if not settings.enabled or hall.plan is None:
        return _refusal(request, 422, "disabled", "CTI is not enabled here.")
    if not _is_right(token, settings.token.get_secret_value()):
        return _stranger(request)
    try:
        fields = await _fields(request)
        events = cti.events(fields, hall.clock())
    except _TooLargeError:
        return _refusal(request, 413, "too_large", "The event has more than 64 kB.")
    except RejectedError as error:
        return _refusal(request, 422, "malformed", str(error))
    try:
        for event in events:
            await hall.reception.receive_call(
                event, partial(_apply, event=event, plan=hall.plan, now=hall.clock())
            )
    except StoreUnavailableError as error:
        return _refusal(request, 503, "store", error.detail)
    metrics.HOOKS.labels(_DOOR, "accepted" if events else "ignored").inc()
    return JSONResponse({})


class _TooLargeError(Exception):
    """More than an event can have."""


def _apply(session: Session, call: Call, event: CallEvent, plan: NumberPlan, now: datetime) -> None:
    call_flow.apply(session, call, event, plan, now)


def _is_right(shown: str, token: str) -> bool:
    return bool(token) and hmac.compare_digest(shown.encode(), token.encode())


def _stranger(request: Request) -> JSONResponse:
    """Whoever has no token is told no more than that, and after some tries to wait."""
    try:
        limits.take(request, limits.HOOK)
    except TooManyError as error:
        answer = _refusal(request, 429, "token", error.detail)
        answer.headers["Retry-After"] = str(error.retry_after)
        return answer
    log.warning("hook.refused", door=_DOOR, reason="token")
    return _refusal(request, 401, "token", "The token is not the right one.")


def _refusal(request: Request, status: int, reason: str, words: str) -> JSONResponse:
    metrics.HOOKS.labels(_DOOR, reason).inc()
    return JSONResponse({"error": words}, status)


async def _fields(request: Request) -> cti.Fields:
    """The fields of a JSON body or of a form of either kind.

    Raises `RejectedError` when it is neither, `_TooLargeError`.
    """
    body = await request.body()  # the house reads no more than a megabyte
    if len(body) > BODY_LIMIT:
        raise _TooLargeError
    content_type = request.headers.get("content-type", "")
    if not content_type.lower().startswith("multipart/form-data"):
        return cti.read(content_type, body)
    try:
        async with request.form(max_files=0, max_fields=cti.MANY) as form:
            return _texts(form)
    except (HTTPException, MultiPartException):
        raise RejectedError("the form cannot be read") from None


def _texts(form: FormData) -> cti.Fields:
    fields: cti.Fields = {}
    for name, value in form.multi_items():
        if isinstance(value, str):
            fields.setdefault(name, []).append(value)
    return fields
