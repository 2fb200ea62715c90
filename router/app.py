"""The composition root: settings -> store -> channels -> ruleset -> web + jobs. The one module
that knows all."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import resource
import shutil
import signal
import socket
import sys
from contextlib import asynccontextmanager
from functools import partial
from typing import IO, TYPE_CHECKING
from zoneinfo import ZoneInfo

import structlog
import uvicorn

from channels.email import EmailChannel
from channels.email.send import Smarthost, SmarthostSettings
from channels.email.server import CannotListenError, EmailServer, Listener, ListenSettings, TlsFiles
from channels.phone.twilio import TwilioPhone
from channels.sms import SmsChannel
from channels.sms.console import ConsoleSms
from channels.sms.twilio import TwilioSms
from router import viewing
from router.call_commands import CallCommands
from router.chat_live import ChatHub
from router.chat_queue import terms_of
from router.clock import utc_now
from router.correspondence import letterhead
from router.db import Database
from router.errors import SettingsError, cannot_listen
from router.events import EventHub
from router.hall import Hall
from router.jobs import Beat
from router.number_plan import number_plan
from router.preparing import Workshop
from router.presence import directory_of
from router.provider import account_of
from router.reception import Reception
from router.reconcile import Reconciler
from router.routing import build_workbench
from router.scanning import file_scanner_of, scanner_of
from router.sending import Outbox
from router.store import (
    freeze_rules,
    prepare_data,
    remember_ruleset,
    require_schema,
    sync_departments,
)
from router.tokens import load_signer
from router.web.app import create_app
from router.web.connections import Bounds, Connection
from router.web.hooks import SMS_STATUS
from router.workers import Worker
from router.xmpp import XmppOffice
from rules.testing import run_tests

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from datetime import datetime
    from pathlib import Path

    from channels.base import Channel
    from channels.twilio import Account
    from router.preparing import Workbench
    from router.settings import Settings
    from rules.ruleset import Ruleset

log = structlog.get_logger(__name__)

OPEN_FILES = 65_536
"""As many as the service would ever use; many systems give a process only 1,024 unless it asks."""

SWITCH_SECONDS = 0.0005
"""How long a thread may wait for another one that computes."""

FINISHING = 3.0
"""Seconds for what is being taken in when the service stops; the journal keeps the rest."""


@asynccontextmanager
async def open_hall(
    settings: Settings, clock: Callable[[], datetime] = utc_now
) -> AsyncIterator[Hall]:
    """The service without its web listener: doors open, jobs running. Closes in the reverse
    order."""
    prepare_data(settings)
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(_only_one(settings.data))
        require_schema(settings)
        settings = freeze_rules(settings)
        workbench = build_workbench(settings)
        signer = load_signer(settings.data, settings.signing_key.get_secret_value())
        db = Database(settings.database_url)
        db.start()
        stack.callback(db.stop)
        await db.write(lambda session: sync_departments(session, settings))
        await db.write(lambda session: remember_ruleset(session, workbench.ruleset, clock()))
        hub = EventHub(db)
        await hub.start()
        stack.push_async_callback(hub.stop)
        directory = directory_of(settings, workbench.calendar, workbench.hours)
        chats = ChatHub(db, hub, terms_of(settings, workbench.calendar, directory), clock)
        chats.start()
        stack.push_async_callback(chats.stop)
        head = letterhead(settings, signer, ZoneInfo(workbench.calendar.timezone))
        channels: dict[str, Channel] = {}
        outbox = Outbox(db, channels, settings.blobs, clock, lambda: reception.crowded)
        workshop = Workshop(partial(build_workbench, settings, proven=True))
        workshop.start()
        stack.callback(workshop.stop)
        counter = Workshop(partial(build_workbench, settings, proven=True))
        counter.start(now=False)
        stack.callback(counter.stop)
        viewer = Worker(viewing.get_ready)
        viewer.start(now=False)
        stack.callback(viewer.stop)
        scanner = scanner_of(settings)
        phone = settings.channels.phone
        rings = phone.enabled or phone.cti.enabled
        plan = number_plan(settings, workbench.calendar, workbench.hours) if rings else None
        reception = Reception(db, workbench, workshop, counter, head, outbox, clock, scanner, plan)
        served = settings.uses_twilio or settings.channels.sms.enabled
        account = account_of(settings) if served else None
        if account is not None:
            stack.callback(account.close)
        channels["email"] = _email_channel(settings, workbench, reception, clock)
        if settings.channels.sms.enabled:
            channels["sms"] = _sms_channel(settings, account)
        hall = Hall(
            settings=settings,
            db=db,
            hub=hub,
            signer=signer,
            clock=clock,
            ruleset=workbench.ruleset,
            calendar=workbench.calendar,
            hours=workbench.hours,
            directory=directory,
            reception=reception,
            counter=counter,
            viewer=viewer,
            outbox=outbox,
            reply_context=head,
            scanner=scanner,
            chats=chats,
            channels=channels,
            twilio=account,
            plan=plan,
            file_scanner=file_scanner_of(settings),
        )
        if settings.channels.xmpp.enabled:
            hall.xmpp = XmppOffice(settings, db, hub, chats, reception, outbox, head, clock)
            channels[hall.xmpp.door.name] = hall.xmpp.door
            hall.xmpp.start()
            stack.push_async_callback(hall.xmpp.stop)
        if plan is not None and account is not None and phone.enabled:
            hall.commands = CallCommands(db, TwilioPhone(account, plan.site), plan, clock)
            hall.commands.start()
            stack.push_async_callback(hall.commands.stop)
        if account is not None:
            hall.reconciler = Reconciler(hall)
        beat = hall.beat = Beat(hall)
        reception.start()
        stack.push_async_callback(_finish, reception)
        outbox.start()
        stack.push_async_callback(outbox.stop)
        # A door that cannot open ends the start; no job should be under way then.
        for channel in channels.values():
            await _open_door(channel, settings)
            stack.push_async_callback(channel.stop)
        beat.start()
        stack.callback(beat.stop)
        yield hall


async def serve(settings: Settings, announce: Callable[[Hall, str], None]) -> None:
    """The whole service until it is told to stop (SIGTERM, SIGINT).

    `announce` is called once with the web address when everything answers.
    Raises `SettingsError` or a `ChannelError` when it cannot start.
    """
    # Whenever the loop has asked the store or the system for something, it waits for the writer's
    # thread to let go: up to five milliseconds by Python's own measure, many times a webhook.
    sys.setswitchinterval(SWITCH_SECONDS)
    bounds = Bounds(_raise_open_files() // 3, settings.web.trusted_proxies)
    listener = _bind(settings.web.host, settings.web.port)
    with contextlib.closing(listener):
        async with open_hall(settings) as hall:
            host, port = listener.getsockname()[:2]
            server = _Server(
                uvicorn.Config(
                    create_app(hall),
                    http=partial(Connection, bounds),  # type: ignore[arg-type]
                    access_log=False,
                    log_config=None,
                    proxy_headers=False,
                    server_header=False,
                    timeout_graceful_shutdown=5,
                    timeout_keep_alive=30,
                )
            )
            stop = asyncio.Event()
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, stop.set)
            task = asyncio.create_task(server.serve([listener]), name="web")
            ready = asyncio.create_task(server.ready.wait())
            await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
            if server.ready.is_set():
                announce(hall, f"http://{_printable(host)}:{port}")
                log.info("service.ready")
                hall.counter.start()
                checked = asyncio.create_task(asyncio.to_thread(_test_rules, hall.ruleset))
                stopped = asyncio.create_task(stop.wait())
                await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
                stopped.cancel()
                await checked
            log.info("service.stopping")
            await hall.chats.stop()
            await hall.hub.stop()
            server.should_exit = True
            await task


async def _finish(reception: Reception) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FINISHING):
            await reception.stop()


def _raise_open_files() -> int:
    """Let the process open as many files as it may; returns how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return OPEN_FILES if soft == resource.RLIM_INFINITY else soft


class _Server(uvicorn.Server):
    """Signals are ours: the doors close before the web does."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    def capture_signals(self) -> contextlib.nullcontext[None]:  # type: ignore[override]
        return contextlib.nullcontext()


def _email_channel(
    settings: Settings, workbench: Workbench, reception: Reception, clock: Callable[[], datetime]
) -> EmailChannel:
    email = settings.channels.email
    tls = email.listen.tls
    listen = ListenSettings(
        host=email.listen.host,
        port=email.listen.port,
        hostname=email.listen.hostname,
        smtp=email.listen.enabled,
        lmtp=Listener(email.lmtp.host, email.lmtp.port) if email.lmtp.enabled else None,
        tls=TlsFiles(tls.certificate, tls.key) if tls.certificate and tls.key else None,
        spool=settings.data / "spool",
        sole=True,  # see `_only_one`
        max_size=email.listen.max_size,
        trusted_peers=email.listen.trusted_peers,
    )
    smarthost = SmarthostSettings(
        host=email.smarthost.host,
        port=email.smarthost.port,
        hostname=email.listen.hostname,
        tls=email.smarthost.tls,
        username=email.smarthost.username,
        password=email.smarthost.password.get_secret_value(),
        timeout=email.smarthost.timeout,
    )
    server = EmailServer(
        listen,
        workbench.own.verdict,
        reception.receive,
        clock,
        free_space=partial(_free_space, settings.data),
    )
    listening = email.listen.enabled or email.lmtp.enabled
    return EmailChannel(email.listen.hostname, Smarthost(smarthost), server if listening else None)


def _sms_channel(settings: Settings, account: Account | None) -> SmsChannel:
    if settings.channels.sms.provider == "console" or account is None:
        return SmsChannel(ConsoleSms())
    return SmsChannel(TwilioSms(account, f"{settings.public_url}{SMS_STATUS}"))


async def _open_door(channel: Channel, settings: Settings) -> None:
    try:
        await channel.start()
    except CannotListenError as error:
        if not isinstance(error.__cause__, OSError):
            raise
        email = settings.channels.email
        key, door = ("lmtp", email.lmtp) if error.door == "lmtp" else ("listen", email.listen)
        raise SettingsError(
            cannot_listen(f"channels.email.{key}", door.host, door.port, error.__cause__)
        ) from error


def _test_rules(ruleset: Ruleset) -> None:
    """Say how many of the rules' own tests fail; for a worker thread, when all is running."""
    failed = sum(not result.ok for result in run_tests(ruleset))
    if failed:
        log.warning("rules.tests_failed", count=failed)


def _free_space(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise SettingsError(cannot_listen("web", host, port, error)) from error
    return listener


def _printable(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@contextlib.contextmanager
def _only_one(data: Path) -> Iterator[IO[str]]:
    """Hold the data directory: two services on one store would each believe to be its only
    writer."""
    with (data / "service.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SettingsError(f"Another service already uses {data}.") from error
        file.write(str(os.getpid()))
        file.flush()
        yield file
