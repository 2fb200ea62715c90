"""What our own mail relay says of a mail: is the sender's domain proved, is it spam?

Anybody can write such headers, so only what our relay wrote counts: the topmost
`Authentication-Results`, if it bears the configured authserv-id (RFC 8601 §5), and the spam header
of a mail that the relay demonstrably handled.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from channels.base import SenderCheck
from channels.email.addresses import normalise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from channels.base import Envelope
    from channels.email.headers import Headers

_RESULTS = b"authentication-results"
_LIMIT = 16 * 1024
"""Bytes of a field that are looked at."""
_MARK = re.compile(r'\\.|[";()]')
_RESULT = re.compile(r"\s*([a-z][a-z0-9-]*)\s*(?:/\s*\d+\s*)?=\s*([a-z]+)")
_PROPERTY = re.compile(r"\b([a-z]+)\s*\.\s*([a-z0-9_-]+)\s*=\s*([^\s;]+)")


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose word counts. Picklable: parsing runs in another process."""

    authserv_id: str = ""
    """Of our relay, lower case; empty when it does not check senders."""
    spam_header: str = ""
    """The field in which our relay gives its verdict, lower case, such as `x-spam-flag`."""
    relay_is_known: bool = False
    """Whether the door knows from where our relay delivers; else any peer may be it."""


NOBODY = Trust()


def sender_check(
    headers: Headers, envelope: Envelope, authors: Sequence[tuple[str, str]], trust: Trust
) -> SenderCheck:
    """Whether the domain of the one author is proved, by what our relay found."""
    results = _our_results(headers, envelope, trust)
    if results is None:
        return SenderCheck.UNKNOWN
    found: dict[str, set[str]] = {}
    proved: set[str] = set()
    for result in results:
        named = _RESULT.match(result)
        if named is None:
            continue
        method, verdict = named.groups()
        found.setdefault(method, set()).add(verdict)
        if verdict == "pass":
            proved.update(_domains(method, result))
    if "fail" in found.get("dmarc", ()):
        return SenderCheck.FAILED
    if len(authors) != 1 or len(headers.all(b"from")) > 1:  # which of them would be proved?
        return SenderCheck.UNKNOWN
    if "pass" in found.get("dmarc", ()):
        return SenderCheck.VERIFIED
    domain = authors[0][1].rpartition("@")[2]
    # The relaxed alignment of DMARC (RFC 7489 §3.1), without a list of public suffixes: the proved
    # domain is the author's or above it.
    aligned = any(domain == name or domain.endswith(f".{name}") for name in proved)
    return SenderCheck.VERIFIED if aligned else SenderCheck.UNKNOWN


def says_spam(headers: Headers, envelope: Envelope, trust: Trust) -> bool:
    """Whether our relay marked the mail as spam."""
    field = trust.spam_header.encode("ascii", "ignore")
    if not field or field not in headers:
        return False
    vouched = _from_relay(envelope) or _our_results(headers, envelope, trust) is not None
    return vouched and headers.token(field).startswith(("yes", "true", "spam"))


def _from_relay(envelope: Envelope) -> bool:
    return envelope.get("trusted") is True


def _our_results(headers: Headers, envelope: Envelope, trust: Trust) -> list[str] | None:
    """The results of the topmost field when our relay wrote it, else None."""
    if not trust.authserv_id or _RESULTS not in headers:
        return None
    if trust.relay_is_known and not _from_relay(envelope):
        return None
    text = headers.raw(_RESULTS)[:_LIMIT].decode("utf-8", "replace").lower()
    first, *results = _parts(text)
    # RFC 8601 §2.2: authserv-id [ CFWS authres-version ]
    return results if first.split()[:1] == [trust.authserv_id] else None


def _domains(method: str, result: str) -> list[str]:
    """The domains that a passed check speaks for (RFC 8601 §2.7)."""
    wanted = {"dkim": ("header", "d"), "spf": ("smtp", "mailfrom")}.get(method)
    names = []
    for kind, name, value in _PROPERTY.findall(result):
        if (kind, name) == wanted:
            domain = value.rpartition("@")[2].strip(".")
            if "." in domain and normalise(f"x@{domain}"):
                names.append(domain)
    return names


def _parts(text: str) -> list[str]:
    """The value split at `;`, without comments (RFC 5322 §3.2.2) and without what is quoted.

    Both may hold words of the stranger's. Linear, however deep they nest.
    """
    parts: list[str] = []
    kept: list[str] = []
    depth, quoted, position = 0, False, 0
    for mark in _MARK.finditer(text):
        plain = not depth and not quoted
        if plain:
            kept.append(text[position : mark.start()])
        match mark[0]:
            case '"' if not depth:
                quoted = not quoted
            case "(" if not quoted:
                depth += 1
            case ")" if depth:
                depth -= 1
            case ";" if plain:
                parts.append("".join(kept))
                kept.clear()
        position = mark.end()
    if not depth and not quoted:
        kept.append(text[position:])
    return [*parts, "".join(kept)]
