"""One service and one Chromium for all pages of a worker; fresh browser profiles for each test."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright
from sqlalchemy import update

from router import queue
from router.access import Actor
from router.models import Inquiry, Role
from tests import service as running
from tests.browser.people import Visitors

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
)
PATIENCE = 15_000.0
"""Milliseconds for what happens at once on a machine that does nothing else."""

# Playwright's loop runs in this thread as long as it is open, and other tests bring their own: so
# everything here ends with the package, not with the session.


@pytest.fixture(scope="package")
def browser():
    assert Path(CHROMIUM).exists(), f"{CHROMIUM} is missing; make test installs it"
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture(scope="package")
def smarthost():
    with running.sink() as opened:
        yield opened


@pytest.fixture(scope="package")
def service(smarthost, tmp_path_factory):
    with running.service(tmp_path_factory.mktemp("service"), smarthost.port) as opened:
        yield opened


@pytest.fixture(scope="package")
def desk(service):
    return running.Desk(service.api())


@pytest.fixture(scope="module", autouse=True)
def _empty_queue(service):
    """Each file begins with an empty queue."""

    def job(session):
        somebody = Actor(Role.ADMIN)
        session.connection().execute(update(Inquiry).values(assignee_id=None))
        for one in queue.page(session, somebody, queue.Filter(status="open"), limit=200).rows:
            queue.close(session, somebody, one.ref, datetime.now(UTC))

    service.write(job)


@pytest.fixture
def visitors(browser, service):
    """Browsers at the service. Whatever they complain of, the test must have asked for."""
    opened = Visitors(browser, service)
    yield opened
    opened.close()
    assert opened.unexpected == []
