"""Problem documents (RFC 9457): what `/api` says when something is wrong, and what to do."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import orjson
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from router.errors import ConflictError, RouterError, StoreUnavailableError, TooManyError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.requests import Request

MEDIA_TYPE = "application/problem+json"

CODES = {
    400: "bad-request",
    401: "unauthorized",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    409: "conflict",
    410: "gone",
    413: "too-large",
    422: "invalid",
    429: "too-many",
    500: "internal",
    503: "store-unavailable",
}
"""Status -> code of a problem that has no code of its own."""

MEANINGS = {
    "bad-request": "The request cannot be read. The body must be JSON in UTF-8.",
    "unauthorized": "Send «Authorization: Bearer TOKEN» with a valid token.",
    "forbidden": "The role of this token does not allow it.",
    "not-found": "There is no such thing, or it is not yours to see.",
    "method-not-allowed": "The address is right, the method is not; «Allow» names those that are.",
    "conflict": "Somebody else was first, or the inquiry changed after you read it. Read it again; "
    "«holder» names who holds it.",
    "gone": "It was here once, and is no more.",
    "too-large": "The body is larger than a request may be.",
    "invalid": "The request was read but makes no sense; «errors» says where.",
    "too-many": "Too many requests from one place; wait as many seconds as «Retry-After» says.",
    "internal": "The fault is ours and has been logged. «request_id» helps us to find it.",
    "store-unavailable": "Nothing was saved. Try again in the number of seconds in «Retry-After».",
}
"""Code -> what it means and what to do; served at the problem's `type`."""


class FieldProblem(BaseModel):
    """What is wrong with one field."""

    field: str = Field(description="Where, e.g. `body.text` or `query.limit`.")
    message: str = Field(description="What is wrong, in plain words.")


class Problem(BaseModel):
    """A problem document (RFC 9457)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "http://127.0.0.1:8080/api/problems/conflict",
                    "title": "Conflict",
                    "status": 409,
                    "detail": "Kari Nordmann holds this inquiry.",
                    "instance": "/api/inquiries/S-2026-000123/claim",
                    "request_id": "3f1c9a5be0d24771",
                    "holder": "Kari Nordmann",
                }
            ]
        }
    )

    type: str = Field(description="Names the kind of problem; says what it means when opened.")
    title: str
    status: int
    detail: str
    instance: str = Field(description="Path of the request.")
    request_id: str = Field(description="Also in the header X-Request-Id and in our log.")
    holder: str | None = Field(None, description="Who holds the inquiry (409).")
    errors: list[FieldProblem] | None = Field(None, description="Field by field (422).")


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problem answers of an operation, for the OpenAPI document."""
    return {
        status: {
            "description": MEANINGS[CODES[status]],
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }


def problem(
    request: Request,
    status: int,
    detail: str = "",
    *,
    code: str = "",
    headers: Mapping[str, str] | None = None,
    **extra: object,
) -> Response:
    """One problem document."""
    code = code or CODES.get(status, "internal" if status >= 500 else "bad-request")
    content = {
        "type": f"{request.app.state.hall.settings.public_url}/api/problems/{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": _printable(detail or MEANINGS.get(code, HTTPStatus(status).phrase)),
        "instance": _printable(request.url.path),
        "request_id": getattr(request.state, "request_id", ""),
        **extra,
    }
    return Response(
        orjson.dumps(content), status_code=status, headers=headers, media_type=MEDIA_TYPE
    )


def of_error(request: Request, error: RouterError) -> Response:
    """The document for one of our own errors."""
    extra: dict[str, object] = {}
    if isinstance(error, ConflictError) and error.holder:
        extra["holder"] = _printable(error.holder)
    return problem(
        request,
        error.status,
        error.detail,
        code=error.code,
        headers=headers_of(error),
        **extra,
    )


def of_http(request: Request, error: HTTPException) -> Response:
    """The document for an error that the framework raised."""
    phrase = HTTPStatus(error.status_code).phrase
    # The framework's own words are for developers; ours say what to do.
    return problem(
        request,
        error.status_code,
        "" if error.detail == phrase or error.status_code == 400 else str(error.detail),
        headers=error.headers,
    )


def of_validation(request: Request, error: RequestValidationError) -> Response:
    """The document for a request that does not have the shape it should have."""
    errors = plain_words(error.errors())
    first = errors[0]
    detail = f"{first['field']}: {first['message']}"
    if len(errors) > 1:
        detail += f" ({len(errors) - 1} more)"
    return problem(request, 422, detail, errors=errors)


def headers_of(error: RouterError) -> dict[str, str]:
    """Headers that belong to an error, whatever the body looks like."""
    if isinstance(error, TooManyError):
        return {"Retry-After": str(error.retry_after)}
    if isinstance(error, StoreUnavailableError):
        return {"Retry-After": "5"}
    if error.status == 401:
        return {"WWW-Authenticate": 'Bearer realm="sentralbord"'}  # RFC 9110 §11.6.1
    return {}


def plain_words(errors: Sequence[Any]) -> list[dict[str, str]]:
    """Validation errors as `{field, message}`, never with the value that was sent."""
    return [
        {"field": _printable(".".join(map(str, error["loc"]))), "message": _message(error)}
        for error in errors
    ]


def _message(error: Mapping[str, Any]) -> str:
    context = error.get("ctx", {})
    match error["type"]:
        case "missing" if error["loc"] == ("body",):
            return "A JSON body is needed, with Content-Type: application/json."
        case "missing":
            return "This field is needed."
        case "json_invalid":
            return f"This is not JSON: {context.get('error', 'syntax error')}."
        case "model_attributes_type" | "dict_type":
            return "This must be a JSON object, sent with Content-Type: application/json."
        case "string_unicode":
            return "This text is not valid Unicode."
        case "string_too_long":
            return f"At most {context.get('max_length')} characters, please."
        case "string_too_short":
            return "This must not be empty."
        case _:
            return _printable(f"{error['msg']}.".replace("..", "."))


def _printable(text: str) -> str:
    """Without lone surrogates, which JSON in UTF-8 cannot carry."""
    return text.encode("utf-8", "replace").decode("utf-8")
