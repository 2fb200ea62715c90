"""What holds for every test."""

from __future__ import annotations

import structlog
from hypothesis import settings

from router import garbage

# How long one example takes says more about what else the machine does than about the code.
settings.register_profile("house", deadline=None)
# Enough to see on every save whether something broke; `make test` looks more closely.
settings.register_profile("quick", deadline=None, max_examples=25)
settings.load_profile("house")


# The traceback that structlog draws by itself takes twenty milliseconds each.
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.dev.ConsoleRenderer(
            colors=False, exception_formatter=structlog.dev.plain_traceback
        ),
    ]
)


def pytest_collection_finish() -> None:
    """As the service does at its start."""
    garbage.keep_what_is_loaded()
