"""From the journal into the queue, whatever single arrivals do to their worker."""

from __future__ import annotations

import base64
import hashlib
import os
from dataclasses import dataclass, replace
from functools import partial

import pytest

from channels import web
from channels.base import RawArrival
from channels.email.addresses import OwnAddresses
from channels.email.identity import delivery_key
from channels.web import FormSubmission
from router import journal
from router import reception as module
from router.errors import InvalidError, StoreUnavailableError
from router.outbox import Outbox
from router.preparing import Workbench, Workshop
from router.reception import Reception
from router.routing import build_workbench
from tests.router.store_house import house
from tests.service import TOWN_HALL, mail, soon, unique

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
    reception.find_waiting()
    reception.find_waiting()
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
