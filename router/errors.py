"""What can go wrong in the hall. The docstring is the default message; the web turns each into a
problem document."""

from __future__ import annotations

import errno
import socket


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


class AbsentError(ConflictError):
    """A colleague who cannot be reached by phone now. `deputy` answers instead; empty when nobody
    does."""

    def __init__(self, name: str, deputy: str = "") -> None:
        instead = f" Deputy: {deputy}." if deputy else ""
        super().__init__(f"{name} cannot be reached by phone now.{instead}")
        self.name = name
        self.deputy = deputy


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


def cannot_listen(key: str, host: str, port: int, error: OSError) -> str:
    """Why a listener could not be had, and which setting to change; `key` is `web` or the like."""
    variable = f"SENTRALBORD_{key.upper().replace('.', '__')}"
    where = f"{key}: cannot listen on {host}:{port}:"
    if error.errno == errno.EADDRINUSE:
        return (
            f"{where} the port is taken. Is the service running already? "
            f"Set {key}.port or {variable}__PORT to another."
        )
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return (
            f"{where} {host} is not an address of this machine. "
            f"Set {key}.host or {variable}__HOST to one that is."
        )
    if error.errno == errno.EACCES:
        return (
            f"{where} ports below 1024 are not for everybody. "
            f"Set {key}.port or {variable}__PORT to a higher one."
        )
    return f"{where} {error.strerror}. See {key}.host and {key}.port."
