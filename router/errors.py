"""What can go wrong in the hall. The docstring is the default message; the web turns each into a
problem document."""

from __future__ import annotations


class RouterError(Exception):
    """Something went wrong."""

    status = 500
    code = "internal"

    def __init__(self, detail: str | None = None) -> None:
        self.detail = detail or (type(self).__doc__ or "").strip()
        super().__init__(self.detail)


class NotFoundError(RouterError):
    """There is no such thing here, or it is not yours to see."""

    status = 404
    code = "not-found"


class ForbiddenError(RouterError):
    """Your role does not allow this."""

    status = 403
    code = "forbidden"


class InvalidError(RouterError):
    """The request cannot be understood."""

    status = 422
    code = "invalid"


class ConflictError(RouterError):
    """Somebody else was first."""

    status = 409
    code = "conflict"

    def __init__(self, detail: str | None = None, *, holder: str = "") -> None:
        super().__init__(detail)
        self.holder = holder


class TooManyError(RouterError):
    """Too many requests; wait a little."""

    status = 429
    code = "too-many"

    def __init__(self, detail: str | None = None, *, retry_after: int = 60) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class StoreUnavailableError(RouterError):
    """The store cannot take more now; try again shortly."""

    status = 503
    code = "store-unavailable"


class SettingsError(RouterError):
    """The configuration is not usable."""
