"""Signed, unguessable names for one inquiry or message: reply addresses, Message-IDs, status links.

A token is `<id>-<mac>` in lower-case base 32 (mail systems fold case), where the MAC covers the
purpose, so a
token for one purpose is worthless for another. Two keys may be valid at once while they are
rotated.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MAC_BITS = {"reply": 80, "return": 80, "forward": 80, "message-id": 80, "status": 160}
"""Reply addresses must fit a local part of 64 octets (RFC 5321 §4.5.3.1.1); a status link has no
such bound."""

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"  # RFC 4648 §6, in lower case
_TWO = [first + second for first in _BASE32 for second in _BASE32]
"""Ten bits as two digits; the MACs are whole multiples of that."""


@dataclass(frozen=True, slots=True)
class Signer:
    """Makes and checks tokens. The first key signs; all keys verify."""

    keys: tuple[bytes, ...]

    def sign(self, purpose: str, number: int) -> str:
        """The token that names `number` for `purpose`."""
        name = _base36(number)
        return f"{name}-{_mac(self.keys[0], purpose, name)}"

    def verify(self, purpose: str, token: str) -> int | None:
        """The number a token names, or None when it was not made by us for this purpose."""
        name, _, mac = token.strip().lower().partition("-")
        if not name or len(name) > 13 or not name.isascii() or not name.isalnum():
            return None
        for key in self.keys:
            if hmac.compare_digest(_mac(key, purpose, name).encode(), mac.encode(errors="replace")):
                return int(name, 36)
        return None


def load_signer(data: Path, extra_key: str = "") -> Signer:
    """The signer of this installation; its key is made on first use and kept in the data
    directory, mode 0600.

    A second line in the file is an older key that is still accepted. `extra_key` (from the
    environment) comes first.
    """
    path = data / "signing.key"
    if not path.exists() or not path.stat().st_size:
        scratch = path.with_suffix(".new")  # a key that is half there would be a wrong one
        scratch.unlink(missing_ok=True)
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        scratch.rename(path)
    keys = [line.strip() for line in path.read_text(encoding="ascii").splitlines() if line.strip()]
    if extra_key:
        keys.insert(0, extra_key)
    return Signer(tuple(key.encode() for key in keys))


def hash_secret(token: str) -> str:
    """How secrets are kept: the SHA-256 of something that already has 256 bits of chance needs no
    salt."""
    return hashlib.sha256(token.encode()).hexdigest()


def new_secret() -> str:
    """A fresh secret for a cookie, a one-time sign-in or an API token."""
    return secrets.token_urlsafe(32)


def _mac(key: bytes, purpose: str, name: str) -> str:
    bits = MAC_BITS[purpose]
    number = int.from_bytes(hmac.digest(key, f"{purpose}:{name}".encode(), "sha256")[: bits // 8])
    return "".join([_TWO[number >> shift & 1023] for shift in range(bits - 10, -1, -10)])


def _base36(number: int) -> str:
    if number < 0:
        raise ValueError("ids are not negative")
    text = ""
    while True:
        number, digit = divmod(number, 36)
        text = _DIGITS[digit] + text
        if not number:
            return text
