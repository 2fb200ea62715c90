"""What hangs must not hang the house."""

from __future__ import annotations

import asyncio
import signal
import socket
from functools import partial

import psutil
import pytest

from router import preparing
from router.preparing import Work, Workshop
from router.routing import build_workbench
from tests import service as running
from tests.router.store_house import MONDAY, _made_once
from tests.service import PATIENCE, mail, unique


@pytest.fixture
async def workshop():
    settings, _workbench, _store = _made_once()
    before = set(psutil.Process().children())
    opened = Workshop(partial(build_workbench, settings))
    opened.start()
    try:
        await asyncio.wait_for(opened.prepare([work(1)]), PATIENCE)
        workers = [
            child
            for child in set(psutil.Process().children()) - before
            if "spawn_main" in " ".join(child.cmdline())
        ]
        yield opened, workers
    finally:
        for worker in workers:
            if worker.is_running():
                worker.kill()
        await asyncio.to_thread(opened.stop)


def work(number: int) -> Work:
    envelope = {"mail_from": "kari@eksempel.no", "recipients": ["postmottak@sorum.kommune.no"]}
    return Work(number, "email", str(number), MONDAY, envelope, mail(unique()))


async def test_a_worker_that_froze_between_two_arrivals_is_replaced(workshop, monkeypatch):
    opened, [worker] = workshop
    monkeypatch.setattr(preparing, "TIME_LIMIT", 0.5)
    worker.send_signal(signal.SIGSTOP)
    [result] = await asyncio.wait_for(opened.prepare([work(2)]), 8)
    assert result.arrival_id == 2


def test_connections_that_say_nothing_are_closed(service):
    """As many as the process may hold, from one place, would shut web and mail doors alike."""
    with socket.create_connection(("127.0.0.1", service.web_port)) as line:
        line.settimeout(20)
        assert line.recv(1) == b""


def test_a_trusted_relay_gets_through_when_strangers_hold_every_line(tmp_path):
    relay = "127.0.0.1/32"
    with (
        running.sink() as smarthost,
        running.service(
            tmp_path, smarthost.port, CHANNELS__EMAIL__LISTEN__TRUSTED_PEERS=relay
        ) as opened,
    ):
        lines = []
        try:
            for last in range(2, 8):
                for _ in range(100):
                    line = socket.socket()
                    line.bind((f"127.0.0.{last}", 0))
                    line.connect(("127.0.0.1", opened.smtp_port))
                    lines.append(line)
            assert opened.deliver(mail(unique()))[0] == 250
        finally:
            for line in lines:
                line.close()
