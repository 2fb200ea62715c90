"""A house with a phone: a real store, the web application, our account with a Twilio that stands in
for the real one. Webhooks are signed; commands go out when a test says so."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode, urlsplit

import httpx
from sqlalchemy import text as sql

from channels.phone.twilio import TwilioPhone
from router import credentials, presence, staff
from router.call_commands import CallCommands
from router.events import EventHub
from router.hall import Hall
from router.models import Role
from router.number_plan import number_plan
from router.reception import Reception
from tests.router.store_house import MONDAY, STORE, Clock, open_store, prepare_store, rules_folder
from tests.router.web_house import application, build_hall
from tests.twilio_double import ACCOUNT_SID, AUTH_TOKEN, Double, account_of, sign

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from fastapi import FastAPI
    from sqlmodel import Session

    from router.access import Actor
    from router.db import Database
    from router.preparing import Workbench
    from router.settings import Settings
    from rules.presence import State, Status, Until

T = TypeVar("T")

PUBLIC = "https://henvendelse.sorum.kommune.no"
HOOKS = f"{PUBLIC}/hooks/phone/twilio"

SWITCHBOARD, BYGGESAK = "+4763869000", "+4763869010"
KARI, OLA = "+4763869101", "+4763869102"
CALLER = "+4790012345"
PHONES = {
    "kari": "+4763869201",
    "ola": "+4763869202",
    "siv": "+4763869301",
    "per": "+4763869302",
}
OPERATORS = ("siv", "per")

RULES = """
route:
  - id: nummer
    title: Avdelingens nummer
    owner: servicetorg
    table: {on: did, named: department_numbers}
  - id: standard
    title: Alt annet
    owner: servicetorg
    default: true
    then: {department: servicetorg}
"""


@cache
def _prepared(more: tuple[tuple[str, str], ...]) -> tuple[Settings, Workbench, bytes]:
    """Settings, rules and a store with the people who work here."""
    people = {
        f"CHANNELS__PHONE__PEOPLE__{name.upper()}__{key}": value
        for name in OPERATORS
        for key, value in {
            "NAME": f"{name.title()} Olsen",
            "PHONE": PHONES[name],
            "DEPARTMENT": "servicetorg",
        }.items()
    }
    given = {
        "RULES__FOLDER": str(rules_folder(RULES)),
        "PUBLIC_URL": PUBLIC,
        "CHANNELS__PHONE__ENABLED": "true",
        "TWILIO__ACCOUNT_SID": ACCOUNT_SID,
        "TWILIO__AUTH_TOKEN": AUTH_TOKEN,
        **people,
        **dict(more),
    }
    return prepare_store(given, *(partial(_hire, name=name) for name in PHONES))


def _hire(session: Session, name: str) -> None:
    operator = name in OPERATORS
    role = Role.OPERATOR if operator else Role.MEMBER
    departments = [] if operator else ["byggesak"]
    staff.add_staff(session, name, f"{name.title()} Olsen", role, departments, None, MONDAY)


@dataclass(repr=False)
class PhoneHouse:
    """The service without its listeners, and what tests ask of it."""

    settings: Settings
    workbench: Workbench
    double: Double
    clock: Clock = field(default_factory=Clock)
    hall: Hall = field(init=False)
    app: FastAPI = field(init=False)
    client: httpx.AsyncClient = field(init=False)
    _actors: dict[str, Actor] = field(default_factory=dict)

    async def open(self) -> None:
        """Start, also a second time on the same store."""
        db = open_store(self.settings.database_url)
        hub = EventHub(db)
        await hub.start()
        self.hall = _hall(self.settings, self.workbench, db, hub, self.clock, self.double)
        self.app = application(self.hall)
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app, raise_app_exceptions=False), base_url=PUBLIC
        )

    async def close(self) -> None:
        await self.client.aclose()
        assert self.hall.commands is not None
        await self.hall.commands.stop()
        await self.hall.reception.stop()
        await self.hall.hub.stop()
        self.hall.db.stop()

    async def restart(self) -> None:
        """What a restart of the service leaves: the store alone."""
        await self.close()
        await self.open()

    async def clear(self) -> None:
        """Back to the morning: nobody has called, nobody has said where they are."""
        await self.write(_forget)
        self.clock.now = MONDAY

    async def hook(self, url: str, **form: str) -> httpx.Response:
        """A signed webhook."""
        parts = urlsplit(url)
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        return await self.client.post(path, content=urlencode(form), headers=sign(url, form))

    async def told(self, step: str, call: str, *, to: str = SWITCHBOARD, **form: str) -> str:
        """A webhook about a caller's call, with the fields that are always there; the TwiML."""
        fields = {
            "CallSid": call,
            "AccountSid": ACCOUNT_SID,
            "From": CALLER,
            "To": to,
            "CallStatus": "in-progress",
            "ApiVersion": "2010-04-01",
            "Direction": "inbound",
            **form,
        }
        url = step if step.startswith("https://") else f"{HOOKS}/{step}"
        answer = await self.hook(url, **fields)
        assert answer.status_code == 200, (url, answer.status_code, answer.text)
        return answer.text

    async def settle(self) -> None:
        """Let the provider carry out what it was told."""
        assert self.hall.commands is not None
        await self.hall.commands.settle()

    async def write(self, job: Callable[[Session], T]) -> T:
        return await self.hall.db.write(job)

    def rows(self, query: str, **values: object) -> list[Any]:
        with self.hall.db.read() as session:
            return list(session.connection().execute(sql(query), values))

    def one(self, query: str, **values: object) -> Any:
        [row] = self.rows(query, **values)
        return row[0] if len(row) == 1 else row

    async def actor(self, username: str) -> Actor:
        """Somebody who works here."""
        if username not in self._actors:
            self._actors[username] = await self.write(
                lambda session: staff.actor_of(session, staff.require_staff(session, username))
            )
        return self._actors[username]

    async def api(self, department: str | None = None) -> httpx.AsyncClient:
        token = await self.write(
            lambda session: credentials.create_api_token(
                session, Role.OPERATOR, department, "", self.clock()
            )
        )
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app),
            base_url=PUBLIC,
            headers={"Authorization": f"Bearer {token}"},
        )

    async def mark(self, username: str, state: State, until: Until) -> Status:
        """Somebody says where they are."""
        actor = await self.actor(username)
        directory = self.hall.directory
        return await self.write(
            lambda session: presence.mark(
                session, actor, username, state, until, "", self.clock(), directory
            )
        )

    def events(self, ref: str) -> list[str]:
        """Kinds of what happened to an inquiry, in order."""
        query = (
            "SELECT event.kind FROM event JOIN inquiry ON inquiry.id = event.inquiry_id"
            " WHERE ref = :ref ORDER BY event.id"
        )
        return [row[0] for row in self.rows(query, ref=ref)]


FORGOTTEN = (
    "call_command recording call presence_claim attachment message decision addressee outbox event"
    " arrival_content arrival inquiry address contact counter"
)


def _forget(session: Session) -> None:
    for table in FORGOTTEN.split():
        session.connection().execute(sql(f"DELETE FROM {table}"))


@asynccontextmanager
async def phone_house(
    folder: Path, double: Double | None = None, **more: str
) -> AsyncIterator[PhoneHouse]:
    """A fresh house. `more` are settings: `CHANNELS__PHONE__WAIT_MINUTES="2"`."""
    plain, workbench, store = _prepared(tuple(sorted(more.items())))
    settings = plain.model_copy(update={"data": folder})
    settings.blobs.mkdir(exist_ok=True)
    (folder / STORE).write_bytes(store)
    clock = Clock()
    double = double or Double(clock=clock)
    house = PhoneHouse(settings, replace(workbench, blobs=settings.blobs), double, clock)
    await house.open()
    try:
        yield house
        assert double.faults == []
    finally:
        await house.close()


def _hall(
    settings: Settings,
    workbench: Workbench,
    db: Database,
    hub: EventHub,
    clock: Clock,
    double: Double,
) -> Hall:
    hall = build_hall(settings, workbench, db, hub, clock)
    plan = number_plan(settings, workbench.calendar, workbench.hours)
    account = account_of(double)
    hall.reception = Reception(
        db, workbench, hall.counter, hall.counter, hall.reply_context, hall.outbox, clock, plan=plan
    )
    hall.twilio, hall.plan = account, plan
    hall.commands = CallCommands(db, TwilioPhone(account, plan.site), plan, clock)
    return hall


def sids(first: int = 1) -> Iterator[str]:
    """Call ids as Twilio makes them."""
    number = first
    while True:
        yield f"CA{number:032x}"
        number += 1
