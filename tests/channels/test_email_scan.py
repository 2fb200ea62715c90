"""Asking clamd and rspamd about a mail, and what their silence means."""

from __future__ import annotations

import asyncio
import json

import pytest

from channels.base import Mark, MessageKind
from channels.email import scan
from channels.email.parse import OwnAddresses, parse
from channels.email.scan import SILENCES, Scanner
from channels.email.verdict import CLEAN, Verdict, verdict_of
from tests.integration import scanners

ENVELOPE = {
    "peer": "192.0.2.1",
    "helo": "mx\r\nRcpt: x@y.no",
    "mail_from": "kari@eksempel.no",
    "recipients": ["post@sorum.example"],
}
MAIL = b"From: kari@eksempel.no\r\nSubject: Hei\r\n\r\nHei\r\n"


@pytest.fixture(scope="module")
def clamd(tmp_path_factory):
    with scanners.clamd_on_a_socket(tmp_path_factory.mktemp("c")) as address:
        yield address


@pytest.fixture(scope="module")
def rspamd(tmp_path_factory):
    with scanners.rspamd(tmp_path_factory.mktemp("r")) as address:
        yield address


@pytest.mark.thorough
async def test_the_real_ones_tell_good_from_bad(clamd, rspamd, tmp_path):
    scanner = Scanner(clamd, rspamd, patience=30)
    assert await scanner.scan(MAIL, ENVELOPE) == CLEAN
    infected = await scanner.scan(MAIL + scanners.VIRUS.encode(), ENVELOPE)
    assert infected == Verdict(virus="Sorum.Prove.UNOFFICIAL")
    assert infected.marks == (Mark.QUARANTINED,)
    assert await scanner.scan(MAIL + scanners.SPAM.encode() + b"\r\n", ENVELOPE) == Verdict(
        spam=True
    )
    path = tmp_path / "spooled"
    path.write_bytes(MAIL + bytes(2_000_000) + scanners.VIRUS.encode())
    assert (await scanner.scan(path, ENVELOPE)).virus


async def test_no_scanner_and_nothing_to_say():
    assert await Scanner().scan(MAIL, {}) == CLEAN


@pytest.mark.thorough
async def test_one_that_is_gone_holds_up_nothing(unused_tcp_port, rspamd):
    scanner = Scanner(f"127.0.0.1:{unused_tcp_port}", rspamd, patience=30)
    verdict = await scanner.scan(MAIL + scanners.SPAM.encode() + b"\r\n", ENVELOPE)
    assert verdict == Verdict(spam=True, unscanned=True)
    assert verdict.marks == (Mark.UNSCANNED,)


@pytest.mark.thorough
async def test_the_real_ones_answer_a_call(clamd, rspamd, unused_tcp_port):
    assert await Scanner(clamd, rspamd).answers()
    assert await Scanner(clamd, "").answers()
    assert not await Scanner(clamd, f"127.0.0.1:{unused_tcp_port}").answers()


@pytest.mark.thorough
async def test_mail_that_is_slow_to_look_at_leaves_no_other_unscanned():
    """Else anybody has all mail pass unseen who sends such a mail from time to time."""
    async with (daemon := scanners.Fake()).listening() as address:
        scanner = Scanner(address, "", patience=0.2)
        for _ in range(SILENCES):
            assert await scanner.scan(MAIL + b"SLOW", ENVELOPE) == Verdict(unscanned=True)
            assert await scanner.scan(MAIL, ENVELOPE) == CLEAN
        assert daemon.called == 0


@pytest.mark.thorough
async def test_one_that_hangs_is_left_alone_until_it_answers_a_call(monkeypatch):
    monkeypatch.setattr(scan, "PROBE_PATIENCE", 0.2)
    async with (daemon := scanners.Fake()).listening() as address:
        scanner = Scanner(address, "", patience=0.2)
        daemon.dead = True
        for _ in range(SILENCES + 4):
            assert await scanner.scan(MAIL, ENVELOPE) == Verdict(unscanned=True)
        assert (daemon.asked, daemon.called) == (SILENCES, 0)
        monkeypatch.setattr(scan, "PROBE_EVERY", 0.0)
        assert not await scanner.answers()
        assert await scanner.scan(MAIL, ENVELOPE) == Verdict(unscanned=True)
        assert (daemon.asked, daemon.called) == (SILENCES, 2)
        daemon.dead = False
        assert await scanner.scan(MAIL, ENVELOPE) == CLEAN
        assert await scanner.scan(MAIL, ENVELOPE) == CLEAN
        assert (daemon.asked, daemon.called) == (SILENCES + 2, 3)


@pytest.mark.thorough
async def test_patience_for_old_mail_says_nothing_about_the_scanner():
    async with (daemon := scanners.Fake()).listening() as address:
        scanner = Scanner(address, "")
        for _ in range(SILENCES + 1):
            assert (await scanner.scan(MAIL + b"SLOW", ENVELOPE, patience=0.1)).unscanned
        assert await scanner.scan(MAIL, ENVELOPE) == CLEAN
        assert daemon.called == 0


@pytest.mark.thorough
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 500 No\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n\r\nnot json",
        b"HTTP/1.1 200 OK\r\n\r\n[]",
        b'HTTP/1.1 200 OK\r\n\r\n{"action": 7}',
        b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100_000,
        b"\xff\xfe" * 1_000_000,
    ],
)
async def test_an_answer_that_makes_no_sense_is_none(answer):
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\nFrom:")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        assert await Scanner("", f"127.0.0.1:{port}").scan(MAIL, ENVELOPE) == Verdict(
            unscanned=True
        )
        assert (await Scanner(f"127.0.0.1:{port}", "", patience=0.2).scan(MAIL, {})).unscanned


async def test_the_envelope_cannot_add_lines_to_the_question():
    asked = asyncio.get_running_loop().create_future()

    async def serve(reader, writer):
        asked.set_result(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + json.dumps({"action": "no action"}).encode())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        assert await Scanner("", f"127.0.0.1:{port}").scan(MAIL, ENVELOPE) == CLEAN
    lines = (await asked).decode().split("\r\n")
    assert "Helo: mxRcpt: x@y.no" in lines
    assert [line for line in lines if line.startswith("Rcpt")] == ["Rcpt: post@sorum.example"]


def test_the_verdict_travels_in_the_envelope():
    own = OwnAddresses(frozenset({"post@sorum.example"}), frozenset({"sorum.example"}))
    raw = b"To: post@sorum.example\r\n" + MAIL
    bad = Verdict(spam=True, virus="X", unscanned=True)
    envelope = {**ENVELOPE, "scan": json.loads(json.dumps(bad.for_envelope()))}
    assert verdict_of(envelope) == bad
    incoming = parse(raw, envelope, own)
    assert incoming.kind is MessageKind.SPAM
    assert incoming.marks == (Mark.QUARANTINED, Mark.UNSCANNED)
    assert incoming.receipt_barred
    for odd in (None, 1, [], {"spam": 1, "virus": None}):
        assert verdict_of({"scan": odd}) == CLEAN
