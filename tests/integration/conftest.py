"""One running service for all tests that do not break it, and a smarthost beside it."""

from __future__ import annotations

from datetime import datetime

import pytest

from tests import service as running


@pytest.fixture(scope="session")
def smarthost():
    with running.sink() as opened:
        yield opened


@pytest.fixture(scope="session")
def service(smarthost, tmp_path_factory):
    folder = tmp_path_factory.mktemp("service")
    with running.service(folder, smarthost.port) as opened:
        yield opened


@pytest.fixture(scope="session")
def desk(service):
    return running.Desk(service.api())


def instant(text: str) -> datetime:
    """RFC 3339 as the API writes it, always UTC."""
    assert text.endswith("Z"), text
    return datetime.fromisoformat(text)
