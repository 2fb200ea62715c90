"""Structured JSON logs without personal data: ids, codes and counts only.

What third-party libraries log goes the same way. A last processor masks whatever looks like an
address, a
number or a fødselsnummer, should one ever slip into an event or an exception text.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import TYPE_CHECKING, Any

import orjson
import structlog

from router.privacy import mask_text

if TYPE_CHECKING:
    from structlog.typing import EventDict, WrappedLogger

_ADDRESS = re.compile(r"[^\s<>\"'(),;:]+@[^\s<>\"'(),;:]+")
_SUSPECT = re.compile(r"@|\d.{4,}\d", re.DOTALL)
"""What has no address and no eight digits needs no closer look; most values are codes."""
_NUMBER = re.compile(r"(?<![\w.:-])\+?\d{8,15}(?![\w.:-])")


def mask_personal_data(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Mask addresses, telephone numbers and fødselsnummer in every text value."""
    for key, value in event.items():
        if isinstance(value, str) and key != "timestamp" and _SUSPECT.search(value):
            event[key] = _NUMBER.sub("<number>", _ADDRESS.sub("<address>", mask_text(value)))
    return event


def configure_logs(level: str = "info", *, to_stderr: bool = True) -> None:
    """Set structlog up once per process; the standard library's loggers are bridged to it."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        mask_personal_data,
    ]
    stream = sys.stderr if to_stderr else sys.stdout
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer(_dumps)],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.BytesLoggerFactory(stream.buffer),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared[:3], structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                mask_personal_data,
                structlog.processors.JSONRenderer(lambda v, **_: orjson.dumps(v).decode()),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    # aiosmtpd prints every line of DATA at DEBUG: that would be the whole mail.
    logging.getLogger("mail.log").setLevel(logging.WARNING)


def _dumps(value: object, **_options: object) -> bytes:
    return orjson.dumps(value, default=str)
