"""Sending through a real SMTP server that fails on demand."""

from __future__ import annotations

import asyncio
import logging
import shutil
import ssl
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from channels.base import (
    Address,
    Attachment,
    Channel,
    ChannelError,
    Disposition,
    MisconfiguredError,
    Outgoing,
    OutgoingKind,
    RawArrival,
    RejectedError,
    TemporaryError,
    UncertainError,
)
from channels.email import EmailChannel
from channels.email.addresses import OwnAddresses
from channels.email.compose import compose
from channels.email.send import Smarthost, SmarthostSettings
from channels.email.server import EmailServer, ListenSettings
from tests.support import SmtpSink, SunkMail

RAW = b"From: post@sorum.example\r\nSubject: Svar\r\n\r\n.punktum\r\nHei\r\n"
TO = "kari@eksempel.no"
FROM = "retur+ab.cd@sorum.example"


@asynccontextmanager
async def smarthost(sink: SmtpSink, **options: object) -> AsyncIterator[Smarthost]:
    defaults = {"port": sink.port, "hostname": "mx.sorum.example", "content_timeout": 5.0}
    settings = SmarthostSettings(**{**defaults, **options})  # type: ignore[arg-type]
    host = Smarthost(settings)
    try:
        yield host
    finally:
        await host.close()


async def test_a_mail_is_handed_over_as_it_is() -> None:
    async with SmtpSink() as sink, smarthost(sink) as host:
        receipt = await host.send(FROM, "Kari@Eksempel.no", RAW)
        assert sink.messages == [SunkMail(FROM, ("kari@eksempel.no",), RAW)]
        assert receipt.provider_id == "SINK1"
        assert "250 2.0.0" in receipt.detail
        assert host.fault == ""


async def test_an_empty_sender_is_the_null_sender() -> None:
    async with SmtpSink() as sink, smarthost(sink) as host:
        await host.send("", TO, RAW)
        assert sink.messages[0].mail_from == ""


@pytest.mark.parametrize(
    "raw", [b"..\r\n.\r\n", b".", b"a\nb\rc\r\n.\nd", b"", b"x\r\n.\r\nMAIL FROM:<ond@x.no>\r\n"]
)
async def test_no_content_can_end_itself(raw: bytes) -> None:
    async with SmtpSink() as sink, smarthost(sink) as host:
        await host.send(FROM, TO, raw)
        await host.send(FROM, TO, RAW)
        normal = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
        assert sink.messages[0].raw == (normal if normal.endswith(b"\r\n") else normal + b"\r\n")
        assert len(sink.messages) == 2


async def test_connections_are_used_again_and_at_most_two() -> None:
    async with SmtpSink() as sink, smarthost(sink) as host:
        await asyncio.gather(*(host.send(FROM, f"navn{n}@x.no", RAW) for n in range(20)))
        for n in range(5):
            await host.send(FROM, f"flere{n}@x.no", RAW)
        assert len(sink.messages) == 25
        assert sink.connections == 2


async def test_a_stale_connection_is_replaced_unseen() -> None:
    async with SmtpSink() as sink, smarthost(sink) as host:
        await host.send(FROM, TO, RAW)
        sink.disconnect_all()
        await host.send(FROM, TO, RAW)
        sink.drop("MAIL")  # looks alive until it is used
        await host.send(FROM, TO, RAW)
        sink.fail("MAIL", "421 4.4.2 Idle too long")
        await host.send(FROM, TO, RAW)
        assert len(sink.messages) == 4
        assert sink.connections == 4


@pytest.mark.parametrize(
    ("stage", "reply", "error"),
    [
        ("CONNECT", "421 4.3.2 busy", TemporaryError),
        ("CONNECT", "554 5.7.1 go away", MisconfiguredError),
        ("MAIL", "450 4.1.8 later", TemporaryError),
        ("MAIL", "421 4.3.0 bye", TemporaryError),
        ("MAIL", "550 5.7.1 sender not allowed", MisconfiguredError),
        ("MAIL", "530 5.7.0 authentication required", MisconfiguredError),
        ("MAIL", "552 5.3.4 too large", RejectedError),
        ("RCPT", "450 4.2.0 greylisted", TemporaryError),
        ("RCPT", "452 4.2.2 full", TemporaryError),
        ("RCPT", "421 4.3.0 bye", TemporaryError),
        ("RCPT", "550 5.1.1 no such user kari@eksempel.no", RejectedError),
        ("RCPT", "530 5.7.0 authentication required", MisconfiguredError),
        ("DATA", "451 4.3.0 later", TemporaryError),
        ("DATA", "554 5.5.1 no", RejectedError),
        ("CONTENT", "451 4.7.1 greylisted", TemporaryError),
        ("CONTENT", "554 5.7.1 looks like spam from kari@eksempel.no", RejectedError),
        ("CONTENT", "999 what", UncertainError),
    ],
)
async def test_refusals(stage: str, reply: str, error: type[ChannelError]) -> None:
    async with SmtpSink() as sink, smarthost(sink) as host:
        sink.fail(stage, reply)
        with pytest.raises(ChannelError) as caught:
            await host.send(FROM, TO, RAW)
        assert type(caught.value) is error
        told = str(caught.value)
        assert reply[:3] in told or error is UncertainError
        assert "kari" not in told  # the server's own words stay out
        assert sink.messages == []
        await host.send(FROM, TO, RAW)  # the next mail is none the worse
        assert len(sink.messages) == 1
        assert host.fault == ""


async def test_only_faults_of_the_set_up_are_faults_of_the_door() -> None:
    async with SmtpSink() as sink, smarthost(sink) as host:
        sink.fail("RCPT", "450 4.2.0 greylisted")
        with pytest.raises(TemporaryError):
            await host.send(FROM, TO, RAW)
        assert host.fault == ""
        sink.fail("MAIL", "550 5.7.1 no")
        with pytest.raises(MisconfiguredError):
            await host.send(FROM, TO, RAW)
        assert "550 5.7.1" in host.fault


@pytest.mark.parametrize("stage", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA"])
async def test_a_broken_connection_before_the_content_may_be_tried_again(stage: str) -> None:
    async with SmtpSink() as sink, smarthost(sink) as host:
        sink.drop(stage)
        with pytest.raises(TemporaryError):
            await host.send(FROM, TO, RAW)
        assert sink.messages == []


async def test_a_connection_broken_before_the_answer_leaves_it_uncertain() -> None:
    async with SmtpSink() as sink, smarthost(sink) as host:
        sink.drop("CONTENT")
        with pytest.raises(UncertainError):
            await host.send(FROM, TO, RAW)
        assert len(sink.messages) == 1  # and indeed it was taken


async def test_a_connection_broken_after_the_answer_changes_nothing() -> None:
    async with SmtpSink() as sink, smarthost(sink) as host:
        sink.drop("ANSWER")
        assert (await host.send(FROM, TO, RAW)).provider_id == "SINK1"
        await host.send(FROM, TO, RAW)
        assert len(sink.messages) == 2


@pytest.mark.parametrize(
    ("stage", "error"),
    [
        ("CONNECT", TemporaryError),
        ("EHLO", TemporaryError),
        ("MAIL", TemporaryError),
        ("RCPT", TemporaryError),
        ("DATA", TemporaryError),
        ("CONTENT", UncertainError),
    ],
)
async def test_a_server_that_does_not_answer(stage: str, error: type[ChannelError]) -> None:
    timeout = 5.0 if stage == "CONTENT" else 0.1
    async with SmtpSink() as sink, smarthost(sink, timeout=timeout, content_timeout=0.1) as host:
        gate = sink.hold(stage)
        with pytest.raises(error):
            await host.send(FROM, TO, RAW)
        gate.set()


async def test_nobody_there() -> None:
    async with SmtpSink() as sink:
        port = sink.port
    host = Smarthost(SmarthostSettings(port=port))
    with pytest.raises(TemporaryError):
        await host.send(FROM, TO, RAW)
    assert host.fault


async def test_login(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    login = {"username": "sorum", "password": "hemmelig-æ"}
    async with SmtpSink(login=("sorum", "hemmelig-æ")) as sink:
        async with smarthost(sink, **login) as host:
            await host.send(FROM, TO, RAW)
            await host.send(FROM, TO, RAW)
        assert (len(sink.messages), sink.logins) == (2, 1)
        async with smarthost(sink, username="sorum", password="galt-passord") as host:
            with pytest.raises(MisconfiguredError) as caught:
                await host.send(FROM, TO, RAW)
            assert "535" in str(caught.value)
            assert caught.value.__cause__ is None
        async with smarthost(sink, **login) as host:
            sink.fail("AUTH", "454 4.7.0 later", times=3)
            with pytest.raises(TemporaryError):
                await host.send(FROM, TO, RAW)
        assert len(sink.messages) == 2
    async with SmtpSink() as sink, smarthost(sink, **login) as host:
        with pytest.raises(MisconfiguredError):
            await host.send(FROM, TO, RAW)
    assert "hemmelig" not in caplog.text + repr(SmarthostSettings(password="hemmelig"))
    assert "galt-passord" not in caplog.text


@pytest.mark.parametrize(
    "address", ["", "kari", "kåre@x.no", "a@b.no>\r\nRCPT TO:<x@y.no", "a b@c.no@d.no"]
)
async def test_addresses_that_cannot_be_written(address: str) -> None:
    async with SmtpSink() as sink, smarthost(sink) as host:
        with pytest.raises(RejectedError):
            await host.send(FROM, address, RAW)
        assert sink.messages == []


async def test_an_international_domain() -> None:
    async with SmtpSink() as sink, smarthost(sink) as host:
        await host.send(FROM, "post@blåbær.no", RAW)
        assert sink.messages[0].recipients == ("post@xn--blbr-roah.no",)


async def test_encryption_that_is_not_there() -> None:
    async with SmtpSink() as sink:
        async with smarthost(sink, tls="starttls") as host:
            with pytest.raises(MisconfiguredError):
                await host.send(FROM, TO, RAW)
        async with smarthost(sink, tls="tls") as host:
            with pytest.raises(MisconfiguredError):
                await host.send(FROM, TO, RAW)
        assert sink.messages == []


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")
async def test_encrypted_connections(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(  # noqa: ASYNC221
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    for implicit, mode in ((False, "starttls"), (True, "tls")):
        async with SmtpSink(tls=context, implicit_tls=implicit) as sink:
            trusted = {"host": "localhost", "tls": mode, "ca_file": str(certificate)}
            async with smarthost(sink, **trusted) as host:
                await host.send(FROM, TO, RAW)
            assert len(sink.messages) == 1
            async with smarthost(sink, host="localhost", tls=mode) as host:  # not trusted
                with pytest.raises(MisconfiguredError):
                    await host.send(FROM, TO, RAW)
            async with smarthost(sink, **{**trusted, "host": "127.0.0.1"}) as host:  # other name
                with pytest.raises(MisconfiguredError):
                    await host.send(FROM, TO, RAW)
            assert len(sink.messages) == 1


async def test_the_door_sends_what_compose_makes_and_receives() -> None:
    own = OwnAddresses(frozenset({"post@sorum.example"}), frozenset({"sorum.example"}))
    arrivals: list[RawArrival] = []

    async def receive(arrival: RawArrival) -> Disposition:
        arrivals.append(arrival)
        return Disposition.ACCEPTED

    outgoing = Outgoing(
        channel="email",
        kind=OutgoingKind.REPLY,
        message_id="<sak.1@sorum.example>",
        created_at=datetime(2026, 3, 2, 9, 0, tzinfo=UTC),
        to=Address("email", TO, "Kari"),
        sender=Address("email", "post@sorum.example", "Sørum kommune"),
        subject="SV: Søknad",
        text="Hei på deg",
        return_path=FROM,
    )
    server = EmailServer(ListenSettings(port=0), own.verdict, receive, lambda: datetime.now(UTC))
    async with SmtpSink() as sink:
        door = EmailChannel(
            "mx.sorum.example", Smarthost(SmarthostSettings(port=sink.port)), server
        )
        assert isinstance(door, Channel)
        assert door.name == "email"
        await door.start()
        assert door.health() == ""
        await door.send(outgoing)
        assert sink.messages == [SunkMail(FROM, (TO,), compose(outgoing, "mx.sorum.example"))]

        back = Smarthost(SmarthostSettings(port=server.port))  # our own mail, to our own server
        await back.send("", "svar+ab.cd@sorum.example", sink.messages[0].raw)
        await back.close()
        assert arrivals[0].raw == sink.messages[0].raw
        with pytest.raises(RejectedError):
            await door.send(replace(outgoing, to=Address("email", "ingen adresse")))
        await door.stop()
        await door.start()
        await server.stop()
        assert door.health()
        await door.stop()


async def test_a_door_that_only_sends() -> None:
    async with SmtpSink() as sink:
        door = EmailChannel("mx.sorum.example", Smarthost(SmarthostSettings(port=sink.port)))
        await door.start()
        assert door.health() == ""
        await door.stop()


async def test_a_mail_with_large_files_is_written_beside_the_loop(unused_tcp_port: int) -> None:
    """Its 27 MB take half a second, in which nobody else would be answered."""
    waits: list[float] = []

    async def tick() -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await asyncio.sleep(0.005)
            waits.append(loop.time() - began)

    file = Attachment("kart.bin", "application/octet-stream", bytes(20_000_000))
    letter = Outgoing(
        "email", OutgoingKind.REPLY, "<a.b.c@sorum.example>", datetime(2026, 1, 1, tzinfo=UTC),
        Address("email", TO), Address("email", "post@sorum.example"), "Svar", "Hei",
        attachments=(file,),
    )  # fmt: skip
    began = time.perf_counter()
    await asyncio.to_thread(compose, letter, "mx.sorum.example")
    alone = time.perf_counter() - began
    ticking = asyncio.create_task(tick())
    nobody = Smarthost(SmarthostSettings(port=unused_tcp_port))
    with pytest.raises(ChannelError):
        await EmailChannel("mx.sorum.example", nobody).send(letter)
    ticking.cancel()
    assert len(waits) > 5
    assert max(waits) < alone / 2
