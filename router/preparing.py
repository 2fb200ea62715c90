"""From raw bytes to everything the store needs to know: parse, decide, date. Pure but for
attachment files.

Runs in worker processes, so that hostile or huge mail can neither stall the doors nor take the
service down: a worker that hangs or dies costs only the arrivals it held.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol
from zoneinfo import ZoneInfo

import orjson

from channels import web
from channels.chat import web as chat
from channels.chat import xmpp
from channels.email.authentication import NOBODY, Trust
from channels.email.parse import OwnAddresses
from channels.email.parse import parse as parse_email
from channels.phone import base as phone
from channels.phone import record
from channels.sms import parse as sms
from channels.sms.base import NO_TEXTS, Plan
from router.blobs import put_blob
from router.errors import RouterError
from router.letters import moment_in_words
from router.workers import Worker, WorkerLostError
from rules.decide import Decision, decide
from rules.facts import Facts
from rules.targets import DueDate, reply_due

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from channels.base import Incoming
    from rules.calendar import WorkingCalendar
    from rules.ruleset import Ruleset
    from rules.targets import ReplyTarget

DIALLED = frozenset({"phone", "sms"})
"""Channels on which our address is a number."""

TIME_LIMIT = 10.0
"""Seconds for one arrival, or for a batch before its arrivals are tried one by one."""


class UnreadableError(RouterError):
    """The arrival could not be read."""

    code = "unreadable"


@dataclass(frozen=True, slots=True)
class KeptFile:
    """An attachment after its bytes went to the blob folder."""

    filename: str
    content_type: str
    size: int
    sha256: str
    content_id: str
    inline: bool


@dataclass(frozen=True, slots=True)
class Work:
    """One arrival to be prepared."""

    arrival_id: int
    channel: str
    external_id: str
    received_at: datetime
    envelope: dict[str, Any]
    raw: bytes
    blob: Path | None = None
    """Where the content lies when it is too large to be handed around."""

    def content(self) -> bytes:
        """The bytes as they came. Raises `FileNotFoundError` when their file is gone."""
        return self.raw if self.blob is None else self.blob.read_bytes()


@dataclass(frozen=True, slots=True)
class Prepared:
    """One arrival, ready for the store: nothing slow or fallible is left to do."""

    arrival_id: int
    received_at: datetime
    incoming: Incoming
    files: tuple[KeptFile, ...]
    decision: Decision
    """Without its trace, which is written out already."""
    trace: bytes
    """JSON."""
    due: DueDate
    due_in_words: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why one arrival could not be prepared."""

    arrival_id: int
    error: str


@dataclass(frozen=True, slots=True)
class Workbench:
    """What preparing needs to know: our addresses, the ruleset, the calendar."""

    own: OwnAddresses
    ruleset: Ruleset
    calendar: WorkingCalendar
    targets: dict[str, ReplyTarget]
    blobs: Path
    hours: Mapping[str, WorkingCalendar]
    """Department slug -> when it is open."""
    trust: Trust = NOBODY
    """Whose word about senders and spam counts."""
    texts: Plan = NO_TEXTS
    """What our numbers for texts are, and what words on them mean."""


class OpenAt(Mapping[str, bool]):
    """Department slug -> whether it is open at one moment; worked out only when a rule asks."""

    def __init__(self, hours: Mapping[str, WorkingCalendar], now: datetime) -> None:
        self._hours = hours
        self._now = now

    def __getitem__(self, department: str) -> bool:
        return self._hours[department].is_open(self._now)

    def __iter__(self) -> Iterator[str]:
        return iter(self._hours)

    def __len__(self) -> int:
        return len(self._hours)


class WorkbenchFactory(Protocol):
    """Builds the `Workbench` inside a worker; it must be importable there."""

    def __call__(self) -> Workbench:
        """Load ruleset and calendar."""


def prepare(workbench: Workbench, work: Work) -> Prepared:
    """Parse, decide and date one arrival. Attachments are written to the blob folder."""
    if work.channel == "email":
        incoming = parse_email(work.content(), work.envelope, workbench.own, workbench.trust)
    elif work.channel == web.CHANNEL:
        incoming = web.parse(work.content(), work.envelope, work.external_id)
    elif work.channel == chat.CHANNEL:
        incoming = chat.parse(work.content(), work.envelope, work.external_id)
    elif work.channel == xmpp.CHANNEL:
        incoming = xmpp.parse(work.content(), work.envelope, work.external_id)
    elif work.channel == phone.CHANNEL:
        incoming = record.incoming(record.read(work.content()))
    elif work.channel == sms.CHANNEL:
        incoming = sms.parse(work.content(), work.envelope, work.external_id, workbench.texts)
    else:
        raise UnreadableError(f"No door is called «{work.channel}».")
    facts = facts_of(incoming, work.received_at, OpenAt(workbench.hours, work.received_at))
    decision = decide(workbench.ruleset, facts)
    due = reply_due(work.received_at, workbench.targets[decision.target], workbench.calendar)
    language = incoming.language or decision.language
    zone = ZoneInfo(workbench.calendar.timezone)
    return Prepared(
        arrival_id=work.arrival_id,
        received_at=work.received_at,
        incoming=replace(incoming, attachments=(), language=language),
        files=tuple(
            KeptFile(
                filename=file.filename,
                content_type=file.content_type,
                size=len(file.content),
                sha256=put_blob(workbench.blobs, file.content),
                content_id=file.content_id,
                inline=file.inline,
            )
            for file in incoming.attachments
        )
        + tuple(KeptFile(**file) for file in work.envelope.get("files", ())),
        decision=replace(decision, trace={}),
        trace=orjson.dumps(decision.trace),
        due=due,
        due_in_words=moment_in_words(due.due_at, zone, language),
    )


def facts_of(incoming: Incoming, now: datetime, open_departments: Mapping[str, bool]) -> Facts:
    """What the rules may look at of one message."""
    return Facts(
        channel=incoming.channel,
        now=now,
        # A department that was named is written to, as by an address of its own.
        recipients=(*incoming.recipients, *filter(None, [incoming.department])),
        sender=incoming.sender.value if incoming.sender else "",
        # Texts have none: theirs is the beginning of what they say.
        subject="" if incoming.channel == sms.CHANNEL else incoming.subject,
        body=incoming.text,
        did=incoming.recipients[0] if incoming.channel in DIALLED and incoming.recipients else "",
        attachments=tuple(file.filename for file in incoming.attachments),
        open=open_departments,
    )


_workbench: Workbench | None = None


def _set_up(factory: WorkbenchFactory) -> None:
    global _workbench
    _workbench = factory()


def _prepare_batch(batch: Sequence[Work]) -> list[Prepared | Unreadable]:
    if _workbench is None:
        raise RuntimeError("the worker has no workbench")
    results: list[Prepared | Unreadable] = []
    for work in batch:
        try:
            results.append(prepare(_workbench, work))
        except FileNotFoundError:
            results.append(Unreadable(work.arrival_id, "its content is missing from the store"))
        except OSError:
            raise  # disk full and its kin: ours, not the arrival's; tried again later
        except Exception as error:  # noqa: BLE001 - one arrival must not take its neighbours along
            results.append(Unreadable(work.arrival_id, f"{type(error).__name__}"))
    return results


class Workshop(Worker):
    """The worker process that prepares arrivals."""

    def __init__(self, factory: WorkbenchFactory) -> None:
        super().__init__(_set_up, factory)

    async def prepare(self, batch: Sequence[Work]) -> list[Prepared | Unreadable]:
        """Prepare arrivals in order. One that kills or stalls its worker comes back `Unreadable`.

        Raises `OSError` when files cannot be written now, `RuntimeError` when there is no worker.
        """
        try:
            return await self.run(_prepare_batch, batch, seconds=TIME_LIMIT)
        except WorkerLostError:
            if len(batch) == 1:
                return [Unreadable(batch[0].arrival_id, "took too long or too much memory")]
        results: list[Prepared | Unreadable] = []
        for work in batch:
            results += await self.prepare([work])
        return results
