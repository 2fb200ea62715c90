"""What the e-mail door says, as it goes over the wire and into the log."""

from __future__ import annotations

import logging
import re
import secrets
import traceback
from functools import lru_cache

_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3} ")
_STATUS_OF = {
    "454": "4.7.0",
    "500": "5.5.2",
    "501": "5.5.4",
    "502": "5.5.1",
    "503": "5.5.1",
    "552": "5.3.4",
    "553": "5.1.3",
    "555": "5.5.4",
}
"""Enhanced status codes (RFC 3463) for the library's replies, which have none."""

CLOSING = "421 4.3.2 Service is closing, please try again later"
BUSY = "4.3.2 Too busy, please try again later"
NO_SPACE = "452 4.3.1 Insufficient system storage, please try again later"
TOO_LARGE = "552 5.3.4 Message size exceeds the limit"
_NOT_JSON = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")

logger = logging.getLogger(__name__)


@lru_cache(maxsize=256)
def wire(reply: str) -> bytes:
    """A reply as it is sent, with an enhanced status code (RFC 2034)."""
    code, _, text = reply.partition(" ")
    if not _STATUS.match(text):
        text = f"{_STATUS_OF.get(code, code[0] + '.0.0')} {text}"
    return f"{code} {text}\r\n".encode("utf-8", "replace")


@lru_cache(maxsize=8)
def offer(hostname: str, max_size: int, *more: str) -> bytes:
    """The reply to EHLO and LHLO; RFC 2033 §5 asks for the last two extensions."""
    lines = (hostname, *more, f"SIZE {max_size}", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")
    return "".join((*(f"250-{line}\r\n" for line in lines), "250 PIPELINING\r\n")).encode()


def json_safe(text: str) -> str:
    """Text that every store can keep: no control characters, no lone surrogates."""
    return _NOT_JSON.sub("\ufffd", text)


def temporary(what: str, error: BaseException | None = None) -> str:
    """Log under a number and answer with the number alone.

    The error's own words stay out of the log: they may quote the mail.
    """
    incident = secrets.token_hex(4)
    logger.error("incident %s: mail %s: %s", incident, what, _describe(error))
    return f"451 4.3.0 Temporary failure here, please try again later (incident {incident})"


def _describe(error: BaseException | None) -> str:
    if error is None:
        return "no error"
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    return " < ".join(
        (type(error).__name__, *(f"{frame.name}:{frame.lineno}" for frame in reversed(frames)))
    )
