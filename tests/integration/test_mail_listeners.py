"""LMTP, STARTTLS and large mail through the running service."""

from __future__ import annotations

import shutil
import smtplib
import ssl

import pytest

from tests import service as running
from tests.certificates import make
from tests.service import TOWN_HALL, Desk, free_port, mail, unique, wait_until

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl makes certificates")


def test_a_large_mail_over_lmtp_and_tls_is_kept_byte_for_byte(smarthost, tmp_path):
    files = make(tmp_path, "mail")
    port = free_port()
    settings = {
        "CHANNELS__EMAIL__LMTP__ENABLED": "true",
        "CHANNELS__EMAIL__LMTP__PORT": str(port),
        "CHANNELS__EMAIL__LISTEN__TLS__CERTIFICATE": str(files.certificate),
        "CHANNELS__EMAIL__LISTEN__TLS__KEY": str(files.key),
    }
    subject = unique()
    raw = mail(subject, ".En linje med punktum først.\r\n" * 20_000)
    with running.service(tmp_path / "service", smarthost.port, **settings) as service:
        context = ssl.create_default_context(cafile=str(files.certificate))
        context.check_hostname = False
        with smtplib.LMTP("127.0.0.1", port) as client:
            client.starttls(context=context)
            client.sendmail("kari@eksempel.no", [TOWN_HALL], raw)
        assert Desk(service.api()).open(subject)["channel"] == "email"
        [arrival] = service.read("SELECT blob, size, envelope FROM arrival")
        blob = service.data / "blobs" / arrival.blob[:2] / arrival.blob
        assert blob.read_bytes() == raw
        assert arrival.size == len(raw)
        assert "TLSv1" in arrival.envelope
        wait_until(
            lambda: not list((service.data / "spool").iterdir()), "clearing the spool directory"
        )
