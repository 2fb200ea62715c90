"""STARTTLS (RFC 3207) with certificates made on the spot."""

from __future__ import annotations

import asyncio
import logging
import shutil
import smtplib
import socket
import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from channels.base import MisconfiguredError
from channels.email.certificate import Certificate, CertificateError, load
from channels.email.server import Listener, TlsFiles
from tests.certificates import make
from tests.channels.mail_door import MAIL, Client, Door, connect, open_door

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl makes certificates")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TlsFiles]:
    folder = tmp_path_factory.mktemp("certificates")
    return {name: make(folder, name) for name in ("first", "second")}


@pytest.fixture
def files(made: dict[str, TlsFiles], tmp_path: Path) -> TlsFiles:
    copy = TlsFiles(tmp_path / "mail.pem", tmp_path / "mail.key")
    put(made["first"], copy)
    return copy


def put(source: TlsFiles, target: TlsFiles) -> None:
    shutil.copyfile(source.certificate, target.certificate)
    shutil.copyfile(source.key, target.key)


def trusting(minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = minimum
    return context


@asynccontextmanager
async def secured(
    door: Door, port: int | None = None, hello: str = "EHLO"
) -> AsyncIterator[Client]:
    """A client after the handshake."""
    async with connect(door, port) as client:
        await client.greet(hello)
        assert (await client.say("STARTTLS")).startswith("220")
        await client.writer.start_tls(trusting())
        yield client


def subject(client: Client) -> bytes:
    certificate = client.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return bytes(certificate)


def der(files: TlsFiles) -> bytes:
    return ssl.PEM_cert_to_DER_cert(files.certificate.read_text())


async def test_an_ordinary_client(files: TlsFiles) -> None:
    async with open_door(tls=files) as door:

        def send() -> None:
            with smtplib.SMTP("127.0.0.1", door.server.port) as client:
                client.starttls(context=trusting())
                assert not client.has_extn("starttls")
                client.sendmail("kari@eksempel.no", ["post@sorum.example"], MAIL)

        await asyncio.to_thread(send)
    assert door.arrivals[0].raw == MAIL
    assert door.arrivals[0].envelope["tls"] == "TLSv1.3"


async def test_without_tls_the_envelope_says_so(files: TlsFiles) -> None:
    async with open_door(tls=files) as door, connect(door) as client:
        await client.read()
        assert "STARTTLS" in await client.say("EHLO x")
        await client.deliver()
    assert door.arrivals[0].envelope["tls"] == ""


async def test_over_lmtp(files: TlsFiles) -> None:
    async with (
        open_door(tls=files, lmtp=Listener(port=0)) as door,
        secured(door, door.server.lmtp_port, "LHLO") as client,
    ):
        await client.say("LHLO x")
        await client.begin("post@sorum.example", "barnehage@sorum.example")
        client.writer.write(MAIL + b".\r\n")
        assert [(await client.read())[:3] for _ in range(2)] == ["250", "250"]
    assert door.arrivals[0].envelope["tls"]


async def test_what_was_said_before_the_handshake_is_forgotten(files: TlsFiles) -> None:
    async with open_door(tls=files) as door, secured(door) as client:
        assert (await client.say("MAIL FROM:<a@b.no>")).startswith("503")
        assert "STARTTLS" not in await client.say("EHLO x")
        assert (await client.say("STARTTLS")).startswith("503")
        assert (await client.deliver()).startswith("250")


async def test_commands_slipped_in_before_the_handshake_are_not_obeyed(files: TlsFiles) -> None:
    async with open_door(tls=files) as door, connect(door) as client:
        await client.greet()
        client.writer.write(
            b"STARTTLS\r\nEHLO angriper\r\nMAIL FROM:<falsk@b.no>\r\n"
            b"RCPT TO:<post@sorum.example>\r\n"
        )
        assert (await client.read()).startswith("220")
        with suppress(ssl.SSLError, ConnectionError):
            await asyncio.wait_for(client.writer.start_tls(trusting()), 5)
            assert (await client.say("DATA")).startswith("503")
            assert (await client.say("RCPT TO:<post@sorum.example>")).startswith("503")
    assert door.arrivals == []


async def test_no_handshake_after_all(files: TlsFiles) -> None:
    async with open_door(tls=files) as door:
        async with connect(door) as client:
            await client.greet()
            await client.say("STARTTLS")
            client.writer.write(b"EHLO i klartekst\r\n")
            with suppress(ConnectionError):
                await asyncio.wait_for(client.reader.read(), 5)
        async with connect(door) as client:
            await client.greet()
            await client.say("STARTTLS")
            client.writer.transport.abort()
        async with secured(door) as client:
            await client.say("EHLO x")
            assert (await client.deliver()).startswith("250")
        async with asyncio.timeout(5):
            await door.server.stop(grace=2)


async def test_large_mail_in_pieces_that_fit_no_record(files: TlsFiles) -> None:
    content = b"Subject: x\r\n\r\n" + (b"..y" + b"x" * 70 + b"\r\n") * 20_000
    async with open_door(tls=files) as door, secured(door) as client:
        await client.say("EHLO x")
        assert (await client.deliver(content)).startswith("250")
        assert door.contents == [content.replace(b"\r\n..", b"\r\n.")]


async def test_old_tls_is_refused(files: TlsFiles) -> None:
    old = trusting(ssl.TLSVersion.MINIMUM_SUPPORTED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    async with open_door(tls=files) as door, connect(door) as client:
        await client.greet()
        await client.say("STARTTLS")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await client.writer.start_tls(old)


async def test_a_new_certificate_is_taken_without_a_restart(
    files: TlsFiles, made: dict[str, TlsFiles], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    async with open_door(tls=files) as door:
        assert door.server.certificate is not None
        door.server.certificate.look_again = 0
        async with secured(door) as client:
            assert subject(client) == der(made["first"])

            shutil.copyfile(made["second"].certificate, files.certificate)  # half way
            async with secured(door) as other:
                assert subject(other) == der(made["first"])
            assert "does not belong" in caplog.text

            shutil.copyfile(made["second"].key, files.key)
            async with secured(door) as other:
                assert subject(other) == der(made["second"])

            files.key.unlink()
            async with secured(door) as other:
                assert subject(other) == der(made["second"])

            files.key.write_bytes(b"tull")
            for _ in range(2):
                async with secured(door) as other:
                    assert subject(other) == der(made["second"])
            assert caplog.text.count("PEM") == 1  # once, and not for each connection

            await client.say("EHLO x")
            assert (await client.deliver()).startswith("250")


def test_files_are_looked_at_now_and_then(files: TlsFiles, made: dict[str, TlsFiles]) -> None:
    certificate = Certificate(files.certificate, files.key, look_again=3600)
    first = certificate.context()
    put(made["second"], files)
    assert certificate.context() is first
    certificate.look_again = 0
    second = certificate.context()
    assert second is not first
    assert certificate.context() is second


def test_what_is_wrong_with_the_files_is_told(
    files: TlsFiles, made: dict[str, TlsFiles], tmp_path: Path
) -> None:
    def told(certificate: Path, key: Path) -> str:
        with pytest.raises(CertificateError) as caught:
            load(certificate, key)
        return str(caught.value)

    assert "No such file" in told(tmp_path / "none", files.key)
    assert "does not belong" in told(files.certificate, made["second"].key)
    assert "PEM" in told(files.key, files.key)
    assert "PEM" in told(files.certificate, files.certificate)
    assert "directory" in told(files.certificate, tmp_path)
    locked = make(tmp_path, "locked", password="hemmelig")
    assert "password" in told(locked.certificate, locked.key)
    empty = tmp_path / "empty"
    empty.touch()
    assert "PEM" in told(empty, files.key)


async def test_a_certificate_that_cannot_be_used_ends_the_start(
    files: TlsFiles, made: dict[str, TlsFiles]
) -> None:
    with pytest.raises(MisconfiguredError, match="does not belong"):
        async with open_door(tls=TlsFiles(files.certificate, made["second"].key)):
            pass


async def test_a_client_that_hangs_in_the_handshake_holds_up_no_stop(files: TlsFiles) -> None:
    async with open_door(tls=files) as door:
        with socket.create_connection(("127.0.0.1", door.server.port)) as client:
            reader, writer = await asyncio.open_connection(sock=client)
            talker = Client(reader, writer)
            await talker.greet()
            await talker.say("STARTTLS")
            async with asyncio.timeout(5):
                await door.server.stop(grace=0.1)
            writer.close()
