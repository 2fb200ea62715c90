"""From the journal into the queue, whatever single arrivals do to their worker."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import threading
from dataclasses import dataclass, replace
from functools import partial

import pytest

from channels import web
from channels.base import RawArrival
from channels.email import scan
from channels.email.addresses import OwnAddresses
from channels.email.identity import delivery_key
from channels.email.scan import Scanner
from channels.web import FormSubmission
from router import journal, scanning
from router import reception as module
from router.errors import InvalidError, StoreUnavailableError
from router.preparing import Workbench, Workshop
from router.reception import Reception
from router.routing import build_workbench
from router.sending import Outbox
from tests.integration import scanners
from tests.router.store_house import house
from tests.service import PATIENCE, TOWN_HALL, mail, soon, unique

pytestmark = pytest.mark.thorough

KILLER = "morder@sorum.kommune.no"
GLUTTON = "storeter@sorum.kommune.no"


@dataclass(frozen=True, slots=True)
class _Traps(OwnAddresses):
    """Two mailboxes whose mail takes the worker down."""

    def token(self, recipient: str) -> str:
        if recipient == KILLER:
            os._exit(1)
        if recipient == GLUTTON:
            bytearray(8 << 30)
        return OwnAddresses.token(self, recipient)


def _trapped(settings) -> Workbench:
    plain = build_workbench(settings)
    own = _Traps(plain.own.addresses, plain.own.domains)
    return replace(plain, own=own)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    with house(tmp_path_factory.mktemp("reception")) as opened:
        yield opened


@pytest.fixture(scope="module")
def workshop(home):
    opened = Workshop(partial(_trapped, home.settings))
    opened.start()
    yield opened
    opened.stop()


@pytest.fixture
async def reception(home, workshop):
    outbox = Outbox(home.db, {}, home.workbench.blobs, home.clock)
    opened = Reception(home.db, home.workbench, workshop, workshop, home.head, outbox, home.clock)
    opened.start()
    yield opened
    await opened.stop()


def arrival(home, subject: str, recipient: str = TOWN_HALL, text: str = "Hei") -> RawArrival:
    raw = mail(subject, text, to=recipient)
    return RawArrival(
        "email",
        delivery_key(raw, [recipient]),
        home.clock(),
        {"mail_from": "kari@eksempel.no", "recipients": [recipient]},
        raw,
    )


def states(home, *subjects: str) -> list[tuple[str, str]]:
    found = dict(home.rows("SELECT subject, ref FROM inquiry"))
    parked = home.rows("SELECT error FROM arrival WHERE state = 'parked'")
    return [("taken" if subject in found else "", str(len(parked))) for subject in subjects]


@pytest.mark.slow
async def test_an_arrival_that_kills_its_worker_is_set_aside_and_its_neighbours_are_taken_in(
    home, reception
):
    good = [unique() for _ in range(6)]
    for position, subject in enumerate(good):
        await reception.receive(arrival(home, subject))
        if position == 2:
            await reception.receive(arrival(home, unique(), KILLER))
            await reception.receive(arrival(home, unique(), GLUTTON))
    await soon(lambda: not reception.backlog, "taking in")
    assert states(home, *good) == [("taken", "2")] * 6
    reasons = home.rows("SELECT error FROM arrival WHERE state = 'parked' ORDER BY id")
    assert reasons == [("took too long or too much memory",), ("MemoryError",)]


async def test_an_unknown_door_is_set_aside_with_the_reason(home, reception):
    await reception.receive(replace(arrival(home, unique()), channel="telegraf"))
    await soon(lambda: not reception.backlog, "taking in")
    assert home.rows("SELECT state, error FROM arrival ORDER BY id DESC LIMIT 1") == [
        ("parked", "UnreadableError")
    ]


async def test_what_another_process_journaled_is_found(home, reception):
    subject = unique()
    home.journal(mail(subject))
    await asyncio.gather(reception.find_waiting(), reception.find_waiting())
    await soon(lambda: not reception.backlog, "taking in")
    assert home.rows("SELECT count(*) FROM inquiry WHERE subject = :s", s=subject) == [(1,)]


async def test_one_arrival_that_fails_over_and_over_holds_up_none_of_the_others(
    home, reception, monkeypatch
):
    """A fault outside the arrival (a disk, a permission) that only one of them meets."""
    monkeypatch.setattr(module, "PAUSE", 0.01)
    target, folder = b"\x00vedlegg som ikke kan skrives", home.workbench.blobs
    blocked = folder / hashlib.sha256(target).hexdigest()[:2]
    blocked.write_bytes(b"a file where a folder should be")
    bad, good = unique(), [unique() for _ in range(5)]
    raw = (
        f"From: k@eksempel.no\r\nTo: {TOWN_HALL}\r\nSubject: {bad}\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/mixed; boundary="x"\r\n\r\n--x\r\n\r\nHei\r\n--x\r\n'
        "Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n"
        'Content-Disposition: attachment; filename="a.png"\r\n\r\n'
        f"{base64.b64encode(target).decode()}\r\n--x--\r\n"
    ).encode()
    await reception.receive(replace(arrival(home, bad), raw=raw))
    for subject in good:
        await reception.receive(arrival(home, subject))
    await soon(lambda: reception.backlog == 1, "taking in the others")
    waiting = home.rows("SELECT state, attempts FROM arrival WHERE state = 'new'")
    assert waiting == [("new", 0)]
    taken = {row[0] for row in home.rows("SELECT subject FROM inquiry")}
    assert set(good) <= taken
    blocked.unlink()
    await soon(lambda: not reception.backlog, "taking it in after all")
    assert home.rows("SELECT filename FROM attachment") == [("a.png",)]


async def test_while_a_flood_comes_in_mail_is_made_ready_and_then_taken_in_together(
    home, reception, workshop, monkeypatch
):
    """Whoever waits for a 250 goes first; the worker has a processor of its own."""
    flooded = True
    monkeypatch.setattr(reception, "_flooded", lambda: flooded)
    ready = []
    prepare = workshop.prepare

    async def preparing(batch):
        results = await prepare(batch)
        ready.extend(results)
        return results

    monkeypatch.setattr(workshop, "prepare", preparing)
    subjects = {unique() for _ in range(3)}
    for subject in subjects:
        await reception.receive(arrival(home, subject))
    await soon(lambda: len(ready) == 3, "making them ready")
    assert reception.backlog == 3
    before = home.db.stats.commits
    flooded = False
    await soon(lambda: not reception.backlog, "taking them in")
    assert home.db.stats.commits == before + 1
    assert subjects <= {row[0] for row in home.rows("SELECT subject FROM inquiry")}


async def test_a_look_at_the_journal_holds_up_nobody(reception, monkeypatch):
    threads = []

    def waiting(session, last):
        threads.append(threading.current_thread())
        return look(session, last)

    look = journal.waiting
    monkeypatch.setattr(journal, "waiting", waiting)
    await reception.find_waiting()
    assert threads
    assert threading.main_thread() not in threads


@pytest.fixture
async def clamd():
    async with (daemon := scanners.Fake()).listening() as address:
        daemon.address = address
        yield daemon


@pytest.fixture
async def scanned_reception(home, workshop, clamd):
    outbox = Outbox(home.db, {}, home.workbench.blobs, home.clock)
    scanner = Scanner(clamd.address, "", patience=0.1)
    opened = Reception(
        home.db, home.workbench, workshop, workshop, home.head, outbox, home.clock, scanner
    )
    opened.start()
    yield opened, partial(scanning.scan_again, home.db, scanner, home.workbench.blobs, home.clock)
    await opened.stop()


def marks(home, *subjects: str) -> list[list[str]]:
    found = dict(home.rows("SELECT subject, marks FROM message"))
    return [json.loads(found[subject]) for subject in subjects]


def waiting_for_a_scan(home) -> int:
    return home.count("SELECT count(*) FROM unscanned")


async def test_a_further_delivery_that_is_checked_later_locks_what_came_in_by_the_first(
    home, scanned_reception, clamd, monkeypatch
):
    monkeypatch.setattr(scan, "PROBE_PATIENCE", 0.1)
    reception, scan_again = scanned_reception
    bad = unique()
    first = arrival(home, bad, text=f"Se her: {scanners.VIRUS}")
    to = ["vei@sorum.kommune.no"]
    clamd.dead = True
    await reception.receive(first)
    await soon(lambda: not reception.backlog, "taking in")
    # The first delivery has used up its tries.
    home.write(lambda s: s.connection().exec_driver_sql("DELETE FROM unscanned"))
    envelope = first.envelope | {"recipients": to}
    again = replace(first, external_id=delivery_key(first.raw, to), envelope=envelope)
    await reception.receive(again)
    await soon(lambda: not reception.backlog, "taking in")
    states = home.rows("SELECT state FROM arrival ORDER BY id DESC LIMIT 2")
    assert states == [("duplicate",), ("processed",)]
    clamd.dead = False
    await scan_again()
    assert marks(home, bad) == [["quarantined"]]


async def test_what_came_in_unscanned_is_looked_at_when_the_scanner_is_back(
    home, scanned_reception, clamd, monkeypatch
):
    """Else its files are served unscanned for ever."""
    monkeypatch.setattr(scan, "PROBE_PATIENCE", 0.1)
    reception, scan_again = scanned_reception
    good, bad, large = unique(), unique(), unique()
    clamd.dead = True
    await reception.receive(arrival(home, good))
    await reception.receive(arrival(home, bad, text=f"Se her: {scanners.VIRUS}"))
    letter = arrival(home, large, text="x\r\n" * 200_000 + scanners.VIRUS)
    await reception.receive(letter)
    await soon(lambda: not reception.backlog, "taking in")
    assert marks(home, good, bad, large) == [["unscanned"]] * 3
    await scan_again()
    assert waiting_for_a_scan(home) == 3
    assert home.count("SELECT max(attempts) FROM unscanned") == 0, "the scanner is to blame"

    clamd.dead = False
    await scan_again()
    assert marks(home, good, bad, large) == [[], ["quarantined"], ["quarantined"]]
    assert waiting_for_a_scan(home) == 0
    refs = dict(home.rows("SELECT subject, ref FROM inquiry"))
    assert "scanned" in home.events(refs[good])
    assert "quarantined" in home.events(refs[bad])
    asked = clamd.asked
    await scan_again()
    assert clamd.asked == asked


async def test_mail_that_no_scanner_gets_through_stays_marked_and_is_given_up(
    home, scanned_reception, clamd, monkeypatch
):
    monkeypatch.setattr(scanning, "PATIENCE", 0.1)
    reception, scan_again = scanned_reception
    slow, good = unique(), unique()
    await reception.receive(arrival(home, slow, text="SLOW"))
    await soon(lambda: not reception.backlog, "taking in")
    for pause in scanning.LATER:
        await scan_again()
        assert waiting_for_a_scan(home) == 1
        asked = clamd.asked
        await scan_again()
        assert clamd.asked == asked, "not before its time"
        home.clock.now += pause
    await scan_again()
    assert waiting_for_a_scan(home) == 0
    await reception.receive(arrival(home, good))
    await soon(lambda: not reception.backlog, "taking in")
    assert marks(home, slow, good) == [["unscanned"], []]


def form(**fields: str) -> FormSubmission:
    plain = {
        "key": unique("k")[2:], "name": "Kari", "email": "kari@eksempel.no", "phone": "",
        "subject": "", "text": "Hull i veien",
    }  # fmt: skip
    return FormSubmission(**{**plain, **fields})


async def test_a_form_gets_its_reference_at_once_and_the_same_one_again(home, reception):
    filled = form()
    first = await reception.receive_form(filled)
    assert (first.department, first.duplicate) == ("vei", False)
    again = await reception.receive_form(filled)
    assert (again.ref, again.due_at, again.duplicate) == (first.ref, first.due_at, True)
    with pytest.raises(InvalidError, match="another submission"):
        await reception.receive_form(replace(filled, text="Noe annet"))


async def test_a_form_that_was_cut_short_is_taken_in_later_and_then_answers(home, reception):
    """The journal had it when the process ended; whoever filled it in presses the button again."""
    filled = form()
    await journal.append(
        home.db, home.workbench.blobs, web.arrival(filled, TOWN_HALL, home.clock())
    )
    with pytest.raises(StoreUnavailableError):
        await reception.receive_form(filled)
    await soon(lambda: not reception.backlog, "taking in")
    assert (await reception.receive_form(filled)).duplicate


async def test_a_form_that_somebody_else_takes_in_meanwhile_does_not_wait_for_itself(
    home, workshop
):
    class Counter(Workshop):
        async def prepare(self, batch):
            prepared = await workshop.prepare(batch)
            home.take_in(*prepared)  # the pipeline, after a look at the journal
            return prepared

    outbox = Outbox(home.db, {}, home.workbench.blobs, home.clock)
    counter = Counter(partial(_trapped, home.settings))
    reception = Reception(home.db, home.workbench, workshop, counter, home.head, outbox, home.clock)
    receipt = await asyncio.wait_for(reception.receive_form(form()), PATIENCE)
    assert (receipt.department, receipt.duplicate) == ("vei", True)
