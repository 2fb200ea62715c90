"""What hangs must not hang the house."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial

import psutil
import pytest
import uvicorn
from sqlmodel import Session

from channels.email.addresses import OwnAddresses
from channels.web import FormSubmission
from router import preparing
from router.errors import StoreUnavailableError
from router.preparing import Prepared, Unreadable, Work, Workbench, Workshop
from router.reception import Reception
from router.routing import build_workbench
from router.sending import Outbox
from router.web import connections
from router.web.connections import Bounds, Connection
from router.workers import WorkerLostError
from tests import service as running
from tests.router.store_house import MONDAY, prepared
from tests.service import PATIENCE, mail, unique

pytestmark = pytest.mark.slow


@pytest.fixture
async def workshop():
    settings, _workbench, _store = prepared()
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
    [result] = await asyncio.wait_for(opened.prepare([work(2)]), PATIENCE)
    assert isinstance(result, Prepared)


@pytest.mark.parametrize(
    ("function", "argument", "limit"),
    [(time.sleep, 3600, 0.5), (os._exit, 9, 2)],
    ids=["hung", "killed the worker"],
)
async def test_work_that_stood_behind_what_was_lost_is_done_by_the_next_worker(
    workshop, function, argument, limit
):
    opened, [worker] = workshop
    lost = asyncio.ensure_future(opened.run(function, argument, seconds=limit))
    behind = asyncio.ensure_future(opened.prepare([work(2)]))
    with pytest.raises(WorkerLostError):
        await asyncio.wait_for(lost, PATIENCE)
    [result] = await asyncio.wait_for(behind, PATIENCE)
    assert isinstance(result, Prepared)
    assert not worker.is_running()


async def test_work_behind_what_was_lost_does_not_wait_for_its_own_limit(workshop):
    opened, _workers = workshop
    lost = asyncio.ensure_future(opened.run(time.sleep, 3600, seconds=0.5))
    behind = asyncio.ensure_future(opened.run(os.getpid, seconds=600))
    with pytest.raises(WorkerLostError):
        await asyncio.wait_for(lost, PATIENCE)
    assert await asyncio.wait_for(behind, PATIENCE)


async def test_a_worker_that_died_idle_is_replaced_once_by_whoever_comes_first(workshop):
    opened, [worker] = workshop
    worker.kill()  # the pool sees it a little later, and forgets what it is given until then
    calls = [opened.run(os.getpid, seconds=60) for _ in range(4)]
    pids = await asyncio.wait_for(asyncio.gather(*calls), PATIENCE)
    assert len(set(pids)) == 1
    assert pids[0] != worker.pid


async def test_an_error_of_the_work_is_its_own_and_costs_no_worker(workshop):
    """Also one that the pool itself raises when it is dismissed."""
    opened, [worker] = workshop
    with pytest.raises(TypeError):
        await opened.run(int, None, seconds=60)
    assert await opened.run(os.getpid, seconds=60) == worker.pid


async def test_work_in_hand_is_given_back_when_the_service_stops(workshop):
    opened, _workers = workshop
    in_hand = [
        asyncio.ensure_future(opened.run(time.sleep, 3600, seconds=600)),
        asyncio.ensure_future(opened.run(os.getpid, seconds=600)),
    ]
    await asyncio.sleep(0)
    await asyncio.to_thread(opened.stop)
    answers = await asyncio.wait_for(asyncio.gather(*in_hand, return_exceptions=True), PATIENCE)
    assert [type(answer) for answer in answers] == [RuntimeError, RuntimeError]


@dataclass(frozen=True, slots=True)
class _Trap(OwnAddresses):
    """A mailbox whose mail never lets go of its worker."""

    def token(self, recipient: str) -> str:
        if recipient == TRAP:
            time.sleep(3600)
        return OwnAddresses.token(self, recipient)


TRAP = "felle@sorum.kommune.no"


def _trapped(settings) -> Workbench:
    plain = build_workbench(settings)
    return replace(plain, own=_Trap(plain.own.addresses, plain.own.domains))


async def test_a_batch_has_a_fixed_time_and_only_what_stalls_it_is_lost(monkeypatch):
    """However many stand in the batch: else the mail behind it waits longer, the more there is."""
    monkeypatch.setattr(preparing, "TIME_LIMIT", 1.0)
    settings, _workbench, _store = prepared()
    opened = Workshop(partial(_trapped, settings))
    opened.start()
    batch = [work(number) for number in range(30)]
    batch[1].envelope["recipients"] = [TRAP]
    try:
        results = await asyncio.wait_for(opened.prepare(batch), PATIENCE)
    finally:
        await asyncio.to_thread(opened.stop)
    lost = [result.arrival_id for result in results if isinstance(result, Unreadable)]
    assert lost == [1]
    assert [result.arrival_id for result in results] == list(range(30))


async def test_a_form_that_comes_while_its_worker_is_replaced_is_answered(house, workshop):
    opened, _workers = workshop
    outbox = Outbox(house.db, {}, house.workbench.blobs, house.clock)
    reception = Reception(
        house.db, house.workbench, opened, opened, house.head, outbox, house.clock
    )
    lost = asyncio.ensure_future(opened.run(time.sleep, 3600, seconds=0.3))
    form = FormSubmission(unique()[4:], "Kari", "kari@eksempel.no", "", "", "Hull i veien")
    receipt = await asyncio.wait_for(reception.receive_form(form), PATIENCE)
    assert (receipt.department, receipt.duplicate) == ("vei", False)
    with pytest.raises(WorkerLostError):
        await lost


def _lost(settings) -> Workbench:
    return replace(build_workbench(settings), targets={})


@pytest.mark.parametrize(
    ("opened", "state"), [(True, "parked"), (False, "new")], ids=["unreadable", "no worker"]
)
async def test_a_form_that_cannot_be_prepared_is_kept_and_its_sender_told(house, opened, state):
    workshop = Workshop(partial(_lost, house.settings))
    outbox = Outbox(house.db, {}, house.workbench.blobs, house.clock)
    reception = Reception(
        house.db, house.workbench, workshop, workshop, house.head, outbox, house.clock
    )
    form = FormSubmission(unique()[4:], "Kari", "kari@eksempel.no", "", "", "Hull i veien")
    if opened:
        workshop.start()
    try:
        with pytest.raises(StoreUnavailableError):
            await reception.receive_form(form)
    finally:
        await asyncio.to_thread(workshop.stop)
    assert house.rows("SELECT state FROM arrival") == [(state,)]


@asynccontextmanager
async def web_door(most: int = 100):
    """The web's connections in this loop, without a house behind them."""

    async def app(_scope, receive, send):
        more = True
        while more:
            more = (await receive()).get("more_body", False)
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=partial(Connection, Bounds(most)),
            port=0,
            lifespan="off",
            log_config=None,
            access_log=False,
        )
    )
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    await server.startup()
    main = asyncio.create_task(server.main_loop())
    try:
        yield server.servers[0].sockets[0].getsockname()[:2]
    finally:
        server.should_exit = True
        await main
        await server.shutdown()


WHOLE = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    ("said", "answered"),
    [
        (b"", False),
        (b"GET / HTTP/1.1\r\nHost", False),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc", False),
        (WHOLE + b"\r\n", True),
        (WHOLE + b"GET / HT", True),
    ],
    ids=["nothing", "half a head", "half a body", "a line more", "one and a half"],
)
async def test_connections_that_do_not_finish_are_closed(monkeypatch, said, answered):
    """As many as the process may hold, from one place, would shut web and mail doors alike."""
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.3)
    async with web_door() as address:
        reader, writer = await asyncio.open_connection(*address)
        if answered:
            writer.write(WHOLE)
            await reader.readuntil(b"ok")
        writer.write(said.removeprefix(WHOLE))
        assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
        writer.close()


async def test_one_place_cannot_take_more_than_half_of_the_connections():
    async with web_door(most=4) as address:
        lines = [await asyncio.open_connection(*address) for _ in range(3)]
        assert await asyncio.wait_for(lines[2][0].read(), PATIENCE) == b""
        lines[0][1].write(WHOLE)
        assert await asyncio.wait_for(lines[0][0].readuntil(b"ok"), PATIENCE)
        for _reader, writer in lines:
            writer.close()


def test_a_store_that_refuses_to_be_written_says_so_until_it_can_be_again(house):
    """Also when what is written next changes nothing, and so would succeed on a full disk."""

    def refuse(session: Session, refused: bool) -> None:
        session.connection().exec_driver_sql(f"PRAGMA max_page_count={1 if refused else 1 << 30}")

    def grow(session: Session) -> None:
        session.connection().exec_driver_sql("CREATE TABLE large AS SELECT zeroblob(1 << 20)")

    house.write(lambda session: refuse(session, True))
    with pytest.raises(StoreUnavailableError):
        house.write(grow)
    assert house.db.stats.failing
    house.write(lambda session: refuse(session, False))
    assert not house.db.stats.failing


def test_a_service_with_a_frozen_worker_still_ends(tmp_path):
    with running.sink() as smarthost, running.service(tmp_path, smarthost.port) as opened:
        worker, *_ = [
            child
            for child in psutil.Process(opened.pid).children(recursive=True)
            if "spawn_main" in " ".join(child.cmdline())
        ]
        worker.send_signal(signal.SIGSTOP)
        assert opened.deliver(mail(unique()))[0] == 250
        opened.terminate()
        assert opened.process.wait(PATIENCE) == 0
        assert not worker.is_running()


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
