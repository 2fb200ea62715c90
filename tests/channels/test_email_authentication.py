"""Whose word counts: what our own relay found out about sender and spam, and nobody else."""

from __future__ import annotations

from time import perf_counter

import pytest

from channels.base import MessageKind, SenderCheck
from channels.email.authentication import Trust
from channels.email.parse import OwnAddresses, parse

OWN = OwnAddresses(frozenset({"post@sorum.example"}), frozenset({"sorum.example"}))
RELAY = Trust("mx.sorum.example", "x-spam-flag", relay_is_known=True)
ENVELOPE = {
    "mail_from": "kari@eksempel.no",
    "recipients": ["post@sorum.example"],
    "trusted": True,
}
UNKNOWN, VERIFIED, FAILED = SenderCheck.UNKNOWN, SenderCheck.VERIFIED, SenderCheck.FAILED


def read(*fields: str, trust: Trust = RELAY, author: str = "Kari <kari@eksempel.no>", **more):
    head = [*fields, f"From: {author}", "To: post@sorum.example", "Subject: Hei"]
    return parse("\r\n".join([*head, "", "Hei"]).encode(), {**ENVELOPE, **more}, OWN, trust)


def checked(*results: str, **options):
    return read(*(f"Authentication-Results: {r}" for r in results), **options).sender_check


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ("mx.sorum.example; dmarc=pass header.from=eksempel.no", VERIFIED),
        ("MX.Sorum.Example 1;\r\n dkim=fail;\r\n dmarc=PASS (p=none) header.from=x", VERIFIED),
        ("mx.sorum.example; dmarc=fail; dkim=pass header.d=eksempel.no", FAILED),
        ("mx.sorum.example; spf=fail smtp.mailfrom=kari@eksempel.no", UNKNOWN),
        ("mx.sorum.example; none", UNKNOWN),
        ("mx.sorum.example", UNKNOWN),
        ("mx.sorum.example; dkim=pass header.d=eksempel.no header.s=a", VERIFIED),
        ("mx.sorum.example; dkim=pass header.d=no", UNKNOWN),
        ("mx.sorum.example; dkim=pass header.d=annen.no", UNKNOWN),
        ("mx.sorum.example; dkim=pass header.d=jeksempel.no", UNKNOWN),
        ("mx.sorum.example; dkim=pass header.i=@eksempel.no", UNKNOWN),
        ("mx.sorum.example; spf=pass smtp.mailfrom=b@eksempel.no", VERIFIED),
        ("mx.sorum.example; spf=pass smtp.mailfrom=b@masse.no", UNKNOWN),
        # What a stranger put into a comment or a quoted reason proves nothing.
        ("mx.sorum.example; spf=none (x; dmarc=pass)", UNKNOWN),
        ('mx.sorum.example; spf=none reason="x; dmarc=pass"', UNKNOWN),
        ('mx.sorum.example; dkim=pass header.d=annen.no reason="header.d=eksempel.no"', UNKNOWN),
        ('mx.sorum.example; spf=none (" ; dmarc=pass', UNKNOWN),
        (r"mx.sorum.example; spf=none (\); dmarc=pass)", UNKNOWN),
        ("annen.example; dmarc=pass", UNKNOWN),
        ("mx.sorum.example.annen.example; dmarc=pass", UNKNOWN),
        ("", UNKNOWN),
    ],
)
def test_what_our_relay_found(result, expected):
    assert checked(result) is expected


def test_only_the_topmost_field_counts():
    """RFC 8601 §5: what lies below may have come with the mail."""
    good, bad = "mx.sorum.example; dmarc=pass", "mx.sorum.example; dmarc=fail"
    assert checked(bad, good) is FAILED
    assert checked("annen.example; dmarc=pass", good) is UNKNOWN


def test_only_what_came_from_the_relay_counts():
    good = "mx.sorum.example; dmarc=pass"
    assert checked(good, trusted=False) is UNKNOWN
    assert checked(good, trusted="yes") is UNKNOWN
    # Where the door knows no relay, the name has to do.
    assert checked(good, trusted=False, trust=Trust("mx.sorum.example")) is VERIFIED
    assert checked(good, trust=Trust()) is UNKNOWN


def test_of_two_authors_none_is_proved():
    good = "mx.sorum.example; dmarc=pass"
    assert checked(good, author="kari@eksempel.no, ola@bank.no") is UNKNOWN
    forged = read(f"Authentication-Results: {good}", "From: ola@bank.no")
    assert forged.sender_check is UNKNOWN


@pytest.mark.parametrize("piece", ["(", ")", '"', ";", "\\", "a=b ", "dkim=pass header.d=a.no "])
def test_a_hostile_field_takes_no_time(piece):
    started = perf_counter()
    checked("mx.sorum.example; " + piece * (60_000 // len(piece)))
    assert perf_counter() - started < 0.5


@pytest.mark.parametrize(
    ("fields", "trusted", "kind"),
    [
        (["X-Spam-Flag: YES"], True, MessageKind.SPAM),
        (["X-Spam-Flag: NO"], True, MessageKind.CONTACT),
        (["X-Spam-Flag: YES"], False, MessageKind.CONTACT),
        (["X-Other: YES"], True, MessageKind.CONTACT),
        # A robot stays a robot, and a list a list, whatever the filter says.
        (["X-Spam-Flag: YES", "Auto-Submitted: auto-replied"], True, MessageKind.AUTO_REPLY),
        (["X-Spam-Flag: YES", "List-Id: <a.no>"], True, MessageKind.SPAM),
    ],
)
def test_spam_is_what_our_relay_says(fields, trusted, kind):
    incoming = read(*fields, trusted=trusted)
    assert incoming.kind is kind
    # A stranger's flag routes nothing, but no receipt answers it either.
    assert bool(incoming.receipt_barred) == (
        fields != ["X-Spam-Flag: NO"] and "X-Other" not in fields[0]
    )


def test_the_spam_field_needs_a_relay_that_shows_itself():
    named = Trust("mx.sorum.example", "x-spam-flag")
    assert read("X-Spam-Flag: YES", trust=named, trusted=False).kind is MessageKind.CONTACT
    ours = "Authentication-Results: mx.sorum.example; none"
    assert read(ours, "X-Spam-Flag: YES", trust=named, trusted=False).kind is MessageKind.SPAM
    assert read(ours, "X-Spam-Flag: YES", trust=Trust()).kind is MessageKind.CONTACT
