"""A house for web tests: a real store in a temporary directory, no doors and no jobs."""

from __future__ import annotations

import threading
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import httpx
import uvicorn
from argon2 import PasswordHasher

from router import credentials, passwords, staff
from router.chat_live import ChatHub
from router.chat_queue import terms_of
from router.correspondence import letterhead
from router.events import EventHub
from router.hall import Hall
from router.models import CredentialKind, Role
from router.preparing import Workshop
from router.presence import directory_of
from router.reception import Reception
from router.routing import build_workbench
from router.sending import Outbox
from router.tokens import Signer
from router.web.app import create_app
from router.web.chat_door import Talks
from router.web.limits import Limits
from tests.router.store_house import STORE, Clock, open_store, prepare_store, rules_folder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastapi import FastAPI

    from router.db import Database
    from router.preparing import Workbench
    from router.settings import Settings

ADDRESS = "http://127.0.0.1:8080"
PASSWORD = "en lang nok frase"

# The same algorithm, cheap: these tests hash a hundred times and more.
passwords._hasher = PasswordHasher(time_cost=1, memory_cost=256, parallelism=1)


RULES = """
emergency:
  any: ["puster ikke"]
route:
  - id: vei
    title: Veier
    owner: vei
    when: {words: {any: [hull]}}
    then: {department: vei}
  - id: barnehage
    title: Barnehage
    owner: barnehage
    when: {words: {any: [barnehage]}}
    then: {department: barnehage}
  - id: standard
    title: Alt annet
    owner: servicetorg
    default: true
    then: {department: servicetorg}
"""
"""A few rules of our own: what the municipality changes in its rules is not tested here."""


@cache
def _prepared() -> tuple[Settings, Workbench, bytes]:
    return prepare_store({"RULES__FOLDER": str(rules_folder(RULES))})


@cache
def _quick_hash() -> staff.PasswordHash:
    return passwords.hash_password(PASSWORD)


@dataclass(repr=False)
class House:
    hall: Hall
    app: FastAPI
    clock: Clock
    client: httpx.AsyncClient
    _tokens: dict[tuple[Role, str | None], str] = field(default_factory=dict)

    async def person(
        self, username: str, role: Role = Role.OPERATOR, *departments: str, password: bool = True
    ) -> int:
        secret = _quick_hash() if password else None
        person = await self.hall.db.write(
            lambda session: staff.add_staff(
                session, username, username.title(), role, departments, secret, self.clock()
            )
        )
        return person.id or 0

    async def token(self, role: Role = Role.OPERATOR, department: str | None = None) -> str:
        return await self.hall.db.write(
            lambda session: credentials.create_api_token(
                session, role, department, "", self.clock()
            )
        )

    async def link(self, staff_id: int, **valid: float) -> str:
        return await self.hall.db.write(
            lambda session: credentials.issue(
                session,
                CredentialKind.ONE_TIME,
                staff_id,
                self.clock(),
                expires_at=self.clock() + timedelta(**(valid or {"minutes": 30})),
            )
        )

    async def api(
        self, role: Role = Role.OPERATOR, department: str | None = None
    ) -> httpx.AsyncClient:
        """A client with a token; one per role and department."""
        key = (role, department)
        if key not in self._tokens:
            self._tokens[key] = await self.token(role, department)
        return self.visitor(Authorization=f"Bearer {self._tokens[key]}")

    def visitor(self, **headers: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app),
            base_url=ADDRESS,
            headers=headers,
        )

    async def inquiry(
        self, subject: str = "Hull i veien", text: str = "Det er et hull i veien."
    ) -> str:
        """A new inquiry by web form; returns its reference."""
        form = {"from": {"email": "kari@example.no"}, "subject": subject, "text": text}
        answer = await (await self.api()).post("/api/inquiries", json=form)
        assert answer.status_code == 201, answer.text
        ref: str = answer.json()["ref"]
        return ref

    async def sign_in(self, username: str, password: str = PASSWORD) -> httpx.Response:
        return await self.client.post(
            "/desk/login", data={"username": username, "password": password}
        )


@asynccontextmanager
async def house(folder: Path, public_url: str = ADDRESS) -> AsyncIterator[House]:
    plain, workbench, store = _prepared()
    settings = plain.model_copy(update={"data": folder, "public_url": public_url})
    settings.blobs.mkdir(exist_ok=True)
    (folder / STORE).write_bytes(store)
    db = open_store(settings.database_url)
    hub = EventHub(db)
    chats = None
    try:
        await hub.start()
        clock = Clock()
        hall = build_hall(settings, replace(workbench, blobs=settings.blobs), db, hub, clock)
        chats = hall.chats
        chats.start()
        app = application(hall)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url=ADDRESS) as client:
            yield House(hall, app, clock, client)
    finally:
        if chats is not None:
            await chats.stop()
        await hub.stop()
        db.stop()


_apps: dict[str, FastAPI] = {}


def application(hall: Hall) -> FastAPI:
    """One application per address, moved from house to house: its routes are slow to build."""
    url = hall.settings.public_url
    app = _apps.get(url) or _apps.setdefault(url, create_app(hall))
    app.state.hall = hall
    app.state.limits = Limits(hall.settings.web.trusted_proxies)
    app.state.talks = Talks()
    return app


@cache
def _workshop() -> Workshop:
    """One worker for all houses: it is slow to start, and forms have no files to put anywhere."""
    settings, _workbench, _store = _prepared()
    return Workshop(partial(build_workbench, settings))


def build_hall(
    settings: Settings, workbench: Workbench, db: Database, hub: EventHub, clock: Clock
) -> Hall:
    signer = Signer((b"test",))
    head = letterhead(settings, signer, ZoneInfo(settings.calendar.timezone))
    outbox = Outbox(db, {}, settings.blobs, clock)
    workshop = _workshop()
    workshop.start()  # for this loop
    directory = directory_of(settings, workbench.calendar, workbench.hours)
    return Hall(
        settings=settings,
        db=db,
        hub=hub,
        signer=signer,
        clock=clock,
        ruleset=workbench.ruleset,
        calendar=workbench.calendar,
        hours=workbench.hours,
        directory=directory,
        reception=Reception(db, workbench, workshop, workshop, head, outbox, clock),
        counter=workshop,
        viewer=workshop,
        outbox=outbox,
        reply_context=head,
        chats=ChatHub(db, hub, terms_of(settings, workbench.calendar, directory), clock),
    )


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[str]:
    """The application on a real port, in this loop; yields its address."""
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, log_config=None, access_log=False, proxy_headers=False)
    )
    config = server.config
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        host, port = server.servers[0].sockets[0].getsockname()[:2]
        yield f"http://{host}:{port}"
    finally:
        await server.shutdown()


def all_at_once(*jobs: Any) -> list[Any]:
    """Run functions in threads that start together; what each returned or raised."""
    gate = threading.Barrier(len(jobs))
    results: list[Any] = [None] * len(jobs)

    def run(position: int, job: Any) -> None:
        gate.wait()
        try:
            results[position] = job()
        except Exception as error:  # noqa: BLE001 - handed to the test
            results[position] = error

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
