"""E-mail addresses: which are ours, which carry a thread token, and how any of them is written.

Used while accepting (is this recipient ours?), while parsing and while sending.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

from channels.text import nfc

_ADDRESS = re.compile(
    r'(?:[^\s<>()\[\]:;@\\,"]+|"(?:[^"\\\r\n]|\\[^\r\n])+")'  # local part, possibly quoted
    r"@(?:[^\s<>()\[\]:;@\\,\"]+|\[[0-9A-Fa-f:.IPv]+\])"  # domain or address literal
)
_UNSEEN = re.compile(
    "[\x00-\x20\x7f-\xa0\xad\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff\ud800-\udfff]"
)
_UNSEEN_QUOTED = re.compile(_UNSEEN.pattern.replace("\x00-\x20", "\x00-\x1f"))
_ATOM = r"[^\s<>()\[\]:;@\\,\".]+"
_DOT_STRING = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_ESCAPED = re.compile(r"\\(.)")
_TOKEN = re.compile(r"[a-z0-9._-]{1,62}")


class RecipientVerdict(Enum):
    """What the door says to `RCPT TO`."""

    ACCEPTED = "accepted"
    UNKNOWN = "unknown user"
    RELAYING_DENIED = "relaying denied"


def normalise(address: str) -> str:
    """The address NFC, in lower case and written in the simplest way, or empty when it is not an
    address at all."""
    # A quoted local part may hold blanks (RFC 5322 §3.4.1); elsewhere they are a slip.
    seen = _UNSEEN_QUOTED if '"' in address else _UNSEEN
    address = seen.sub("", address).strip()
    if not address.isascii():
        address = nfc(address)
    address = address.lower()
    # RFC 5321 §4.5.3.1.3: a path is at most 256 octets; real ones exceed it a little.
    if len(address) > 320 or not _ADDRESS.fullmatch(address):
        return ""
    local, _, domain = _unquoted(address).rpartition("@")
    domain = domain.rstrip(".")
    if not domain.isascii():
        # RFC 3490 §4: wide letters and dots are other spellings of the same name.
        with suppress(UnicodeError):
            domain = domain.encode("idna").decode("idna")
    address = f"{local}@{domain}"
    return address if _ADDRESS.fullmatch(address) else ""  # a wide @ may have become one


def mailbox(address: str) -> str:
    """The mailbox that an address leads to: to count and compare by, never to send to.

    One mailbox has many spellings: with quotes, `+detail`, or the ASCII form of the domain. What is
    not a mail address stays as it is.
    """
    local, _, domain = normalise(address).rpartition("@")
    if not domain:
        return address
    if local.startswith('"'):
        local = _ESCAPED.sub(r"\1", local[1:-1])
    with suppress(UnicodeError):
        domain = domain.encode("idna").decode("ascii")
    return f"{local.partition('+')[0] or local}@{domain}"


def _unquoted(address: str) -> str:
    """The address without quotes and escapes that say nothing (RFC 5321 §4.1.2)."""
    local, _, domain = address.rpartition("@")
    if len(local) < 2 or local[0] != '"' or local[-1] != '"':
        return address
    local = _ESCAPED.sub(r"\1", local[1:-1])
    if not _DOT_STRING.fullmatch(local):
        escaped = local.replace("\\", "\\\\").replace('"', '\\"')
        local = f'"{escaped}"'
    return f"{local}@{domain}"


@dataclass(frozen=True, slots=True)
class OwnAddresses:
    """Our addresses and domains, all lower case. Picklable: parsing runs in another process."""

    addresses: frozenset[str]
    domains: frozenset[str]
    reply_local: str = "svar"
    return_local: str = "retur"

    def verdict(self, recipient: str) -> RecipientVerdict:
        """Whether mail to this envelope recipient is ours; never case-sensitive."""
        address = _unquoted(recipient.strip().lower())
        # RFC 5321 §4.5.1: postmaster must be accepted, also without a domain.
        if address == "postmaster":
            return RecipientVerdict.ACCEPTED
        base, domain = self._split(address)
        if domain not in self.domains:
            return RecipientVerdict.RELAYING_DENIED
        local = base.rpartition("@")[0]
        token_address = local in (self.reply_local, self.return_local) and bool(self.token(address))
        if (
            token_address
            or local == "postmaster"
            or base in self.addresses
            or address in self.addresses
        ):
            return RecipientVerdict.ACCEPTED
        return RecipientVerdict.UNKNOWN

    def base(self, recipient: str) -> str:
        """The recipient in lower case without `+detail`, unless it is part of an own address."""
        address = normalise(recipient)
        return address if address in self.addresses else self._split(address)[0]

    def is_own(self, address: str) -> bool:
        """Whether a header address is one of ours (any detail, and the token addresses)."""
        return (
            bool(address) and "@" in address and self.verdict(address) is RecipientVerdict.ACCEPTED
        )

    def token(self, recipient: str) -> str:
        """The unverified token in `svar+TOKEN@…` or `retur+TOKEN@…` of our domains, or empty."""
        local, _, domain = _unquoted(recipient.strip().lower()).rpartition("@")
        name, plus, token = local.partition("+")
        ours = domain in self.domains and name in (self.reply_local, self.return_local)
        return token if ours and plus and _TOKEN.fullmatch(token) else ""

    def is_return(self, recipient: str) -> bool:
        """Whether the recipient is a return path we gave to one of our own messages."""
        local = _unquoted(recipient.strip().lower()).partition("@")[0]
        return bool(self.token(recipient)) and local.partition("+")[0] == self.return_local

    @staticmethod
    def _split(address: str) -> tuple[str, str]:
        local, _, domain = address.rpartition("@")
        return f"{local.partition('+')[0]}@{domain}", domain
