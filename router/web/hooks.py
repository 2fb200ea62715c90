"""Webhooks: what providers tell us, believed only with their signature.

Strangers learn nothing: whatever is wrong, they get the same answer. The address that was signed is
`public_url` and the path and query as they came, never the Host header. There is no time in a
signature, so a webhook may come again: whatever it causes happens once.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from urllib.parse import quote

import structlog
from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from channels.base import TemporaryError
from channels.sms import twilio as sms
from channels.twilio import BODY_LIMIT, ForbiddenError, Webhook
from router import deliveries, metrics
from router.errors import StoreUnavailableError, TooManyError
from router.web import limits
from router.web.auth import hall_of

log = structlog.get_logger(__name__)

router = APIRouter(include_in_schema=False)

SMS = "/hooks/sms/twilio"
SMS_STATUS = "/hooks/sms/twilio/status"

NOTHING_TO_SAY = '<?xml version="1.0" encoding="UTF-8"?><Response/>'
"""The empty TwiML document: what we answer goes by the REST API alone."""


@router.post(SMS)
async def text_received(request: Request) -> Response:
    """Take a text in. 503 when it could not be kept: the provider's list has it still."""
    hall = hall_of(request)
    webhook = await signed(request, "sms")
    require_own(request, "sms", webhook.fields.get("To", ""), hall.settings.channels.sms.numbers)
    try:
        await hall.reception.receive(sms.arrival(webhook, hall.clock()))
    except TemporaryError as error:
        raise StoreUnavailableError from error
    return twiml()


@router.post(SMS_STATUS)
async def text_status(request: Request) -> Response:
    """Note how far a text of ours has come. Our own id comes back in the address."""
    hall = hall_of(request)
    webhook = await signed(request, "sms")
    require_own(request, "sms", webhook.fields.get("From", ""), hall.settings.channels.sms.numbers)
    status = sms.status_of(webhook.fields)
    if status is not None:
        report = partial(
            deliveries.report,
            status=status,
            now=hall.clock(),
            message_id=request.query_params.get("id", ""),
        )
        await hall.db.write(report)
    return twiml()


class RefusedError(Exception):
    """A webhook that is not to be believed."""


async def refused(_request: Request, _error: Exception) -> Response:
    """The one answer to all of them."""
    return Response("Forbidden", 403, media_type="text/plain")


async def signed(request: Request, door: str) -> Webhook:
    """A webhook that our account with Twilio signed, for a door that is open.

    404 when `door` is not; raises `RefusedError` for everything that does not hold.
    """
    hall = hall_of(request)
    if hall.twilio is None or not hall.has_door(door):
        raise HTTPException(404)
    try:
        webhook = hall.twilio.verify(_signed_url(request), request.headers, await _body(request))
    except ForbiddenError as error:
        raise refusal(request, door, error.reason) from None
    metrics.HOOKS.labels(door, "accepted").inc()
    return webhook


def require_own(request: Request, door: str, number: str, ours: Collection[str]) -> None:
    """Refuse what is about a number that is not ours, with a good signature or without."""
    if number not in ours:
        raise refusal(request, door, "number")


def refusal(request: Request, door: str, reason: str) -> RefusedError:
    """Count and log that a webhook is refused. The log stays readable while somebody tries."""
    metrics.HOOKS.labels(door, reason).inc()
    try:
        limits.take(request, limits.HOOK)
    except TooManyError:
        pass
    else:
        log.warning("hook.refused", door=door, reason=reason)
    return RefusedError()


def twiml(document: str = NOTHING_TO_SAY) -> Response:
    """A TwiML document as an answer."""
    return Response(document, media_type="text/xml")


def _signed_url(request: Request) -> str:
    scope = request.scope
    path = scope.get("raw_path") or quote(scope["path"]).encode()
    query = scope["query_string"]
    url = hall_of(request).settings.public_url + path.decode("latin-1")
    return f"{url}?{query.decode('latin-1')}" if query else url


async def _body(request: Request) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced[:20]) > BODY_LIMIT:
        raise ForbiddenError("too_large")
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > BODY_LIMIT:
            raise ForbiddenError("too_large")
    return bytes(body)
