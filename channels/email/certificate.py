"""The certificate for STARTTLS: read once, and again when its files change."""

from __future__ import annotations

import logging
import ssl
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger(__name__)

_LOOK_AGAIN = 3.0
"""Seconds between two looks at the files."""

_REASONS = {
    "KEY_VALUES_MISMATCH": "the key does not belong to the certificate",
    "KEY_TYPE_MISMATCH": "the key does not belong to the certificate",
    "NO_START_LINE": "there is no certificate with its key in PEM format",
    "EE_KEY_TOO_SMALL": "the key is too short",
    "CA_MD_TOO_WEAK": "the signature is too weak",
}


class CertificateError(Exception):
    """The certificate or its key cannot be used."""


class Certificate:
    """A certificate chain and its private key, both PEM. Raises `CertificateError`."""

    def __init__(self, certificate: Path, key: Path, look_again: float = _LOOK_AGAIN) -> None:
        self.certificate = certificate
        self.key = key
        self.look_again = look_again
        self._stamp = self._look()
        self._context = load(certificate, key)
        self._looked_at = time.monotonic()

    def context(self) -> ssl.SSLContext:
        """What to shake hands with now. Never raises: broken new files leave the old in use."""
        now = time.monotonic()
        if now - self._looked_at >= self.look_again:
            self._looked_at = now
            stamp = self._look()
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    # Into a new context: a key that does not match would spoil the one in use.
                    self._context = load(self.certificate, self.key)
                    logger.info("certificate for mail read anew")
                except CertificateError as error:
                    logger.error("new certificate for mail not usable, keeping the old: %s", error)
        return self._context

    def _look(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_stamp(path) for path in (self.certificate, self.key))


def load(certificate: Path, key: Path) -> ssl.SSLContext:
    """A server context, TLS 1.2 or later. Raises `CertificateError` in plain words."""
    for path in (certificate, key):
        try:
            with path.open("rb"):
                pass
        except OSError as error:
            raise CertificateError(f"{path} cannot be read: {error.strerror}") from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except _EncryptedKeyError as error:
        raise CertificateError(f"{key}: the key is protected by a password") from error
    except (ssl.SSLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or ""
        told = _REASONS.get(reason, "they are no certificate and key in PEM format")
        raise CertificateError(f"{certificate}, {key}: {told}") from error
    return context


class _EncryptedKeyError(Exception):
    pass


def _no_password() -> str:
    # Without this the library asks on the terminal.
    raise _EncryptedKeyError


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_ino
