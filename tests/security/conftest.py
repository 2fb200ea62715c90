"""A store of its own for each test, and one running service for what only a whole service shows."""

from __future__ import annotations

import pytest

from tests import service as running
from tests.router.store_house import house as open_house


@pytest.fixture
def house(tmp_path):
    with open_house(tmp_path) as opened:
        yield opened


@pytest.fixture(scope="module")
def smarthost():
    with running.sink() as opened:
        yield opened


@pytest.fixture(scope="module")
def service(smarthost, tmp_path_factory):
    folder = tmp_path_factory.mktemp("service")
    with running.service(folder, smarthost.port) as opened:
        yield opened


@pytest.fixture(scope="module")
def desk(service):
    return running.Desk(service.api())
