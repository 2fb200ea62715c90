"""The mail door is tested on the event loop the service runs on and on the standard one; on every
save, on the first of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop
from hypothesis import settings


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    standard = {"asyncio": asyncio.new_event_loop}
    ours = {"uvloop": uvloop.new_event_loop}
    if not item.path.stem.startswith("test_email_server"):
        return standard
    return ours if settings.get_current_profile_name() == "quick" else {**standard, **ours}
