"""The mail door is tested on the standard event loop and on the one the service runs on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    standard = {"asyncio": asyncio.new_event_loop}
    if not item.path.stem.startswith("test_email_server"):
        return standard
    return {**standard, "uvloop": uvloop.new_event_loop}
