"""Automatic mail: what kind it is, and why no automatic receipt may answer it.

Everything is kept and shown; the kind only says whether somebody waits for an answer.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from channels.base import MessageKind
from channels.email.addresses import normalise

if TYPE_CHECKING:
    from collections.abc import Iterable

    from channels.email.addresses import OwnAddresses
    from channels.email.headers import Headers

_SUPPRESSED = frozenset(("all", "oof", "autoreply"))
_AUTO_REPLY_FIELDS = (
    b"x-autoreply", b"x-autorespond", b"x-autoresponder", b"x-auto-reply", b"x-mail-autoreply",
    b"x-autoreply-from", b"x-vacation-message",
)  # fmt: skip
_LIST_FIELDS = (
    b"list-id", b"list-unsubscribe", b"list-post", b"list-help", b"list-subscribe", b"list-owner",
    b"list-archive",
)  # fmt: skip
_EXCHANGE_RULE = b"x-ms-exchange-generated-message-source"
"""Exchange says here which of its agents wrote an automatic answer."""
_DAEMON = re.compile(
    r"(?:mailer-?daemon|mail-daemon|microsoftexchange[0-9a-f]{16,}|mdaemon)(?:[+=.@]|$)"
)
_SILENT_LOCAL = re.compile(
    r"(?:mailer-?daemon|mail-daemon|postmaster|microsoftexchange[0-9a-f]{16,}"
    r"|(?:[a-z0-9.]+[-_.])?(?:no|not|do[-_.]?not|ikke)[-_.]?(?:reply|svar)(?:[-_.+].*)?"
    r"|bounces?(?:[-_+.=].*)?|.*-bounces?(?:[-_+.=].*)?|owner-.*|.*-(?:request|owner))"
)
# With a colon or alone: «Autosvar på telefonen virker ikke» and «Fravær i 3B» are from people.
_AUTO_SUBJECT = re.compile(
    r"(?:automatiske? svar|automatiskt svar|autosvar|auto-svar|frånvaromeddelande"
    r"|fraværsassistent|automatic reply|auto[- ]?reply|auto ?response|auto"
    r"|out of (?:the )?office(?: reply)?|vacation reply|ikke på kontoret|ikkje på kontoret"
    r"|automatische antwort|réponse automatique)"
    r"\s*(?::|\Z)",
    re.IGNORECASE,
)
_BOUNCE_SUBJECT = re.compile(
    r"undeliver|delivery (?:status notification|failure|has failed|failed|problem)|returned mail"
    r"|mail delivery (?:failed|system|failure|subsystem)|failure notice|non[- ]?delivery"
    r"|could not be delivered|kan ikke leveres|kunne ikke leveres|ikke levert|ikkje levert"
    r"|kunne ikkje leverast|ikke leverbar"
    r"|uleverbar|ulevert|feil ved levering|kan inte levereras|kunne ikke afleveres|unzustellbar"
    r"|rejected|mail system error",
    re.IGNORECASE,
)
# «Still trying» is no failure; some servers say so in words only.
_DELAY_SUBJECT = re.compile(
    r"delayed|\(delay\)|warning: (?:message|could not)|forsinket|forseinka|försenad"
    r"|delivery (?:is )?delay|leveres senere",
    re.IGNORECASE,
)
_ACTION = re.compile(rb"^action:[ \t]*([a-z]+)", re.IGNORECASE | re.MULTILINE)
_STATUS = re.compile(rb"^status:[ \t]*([245])\.", re.IGNORECASE | re.MULTILINE)
DMARC_FAILED = "DMARC failed"
"""Why there is no receipt when the sender's own domain says that the sender is forged."""

_DMARC_FAIL = re.compile(rb"\bdmarc=fail\b", re.IGNORECASE)


def classify(
    headers: Headers,
    *,
    envelope_sender: str | None,
    sender: str,
    subject: str,
    report_type: str,
    delivery_status: bytes,
    to_return_path: bool,
    own: OwnAddresses,
    spam: bool = False,
) -> MessageKind:
    """Delivery report, automatic reply, bulk, spam, or a person.

    `envelope_sender` is empty for the null sender and None when the envelope does not tell; `spam`
    is what somebody we trust says. When in doubt it is a person: one superfluous inquiry costs less
    than a lost one.
    """
    null_sender = envelope_sender == ""
    submitted = _submitted(headers)
    auto_reply = (
        submitted in ("auto-replied", "auto-notified")
        or any(field in headers for field in _AUTO_REPLY_FIELDS)
        or headers.token(b"precedence") in ("auto_reply", "auto-reply")
        or headers.token(b"x-precedence") == "auto_reply"
        or headers.token(b"delivered-to").startswith("autoresponder")
        or report_type in ("disposition-notification", "feedback-report")
        or b"mailbox rules agent" in headers.raw(_EXCHANGE_RULE).lower()
        or _is_own_loop(headers, own)
        or bool(_AUTO_SUBJECT.match(subject))
    )
    delayed = bool(_DELAY_SUBJECT.search(subject))
    if report_type == "delivery-status" or delivery_status:
        return _kind_of_report(delivery_status, delayed)
    local_part = sender.rpartition("@")[0]
    author = headers.token(b"from")
    daemon = bool(_DAEMON.match(f"{local_part}@") or "mailer-daemon" in author)
    if delayed and (daemon or null_sender or to_return_path or local_part == "postmaster"):
        return MessageKind.AUTO_REPLY
    if daemon or b"x-failed-recipients" in headers:
        return MessageKind.BOUNCE
    if (null_sender or local_part == "postmaster") and _BOUNCE_SUBJECT.search(subject):
        return MessageKind.BOUNCE
    if auto_reply:  # also to a return path: RFC 5230 §4.6 has vacation replies sent there
        return MessageKind.AUTO_REPLY
    if to_return_path:
        return MessageKind.BOUNCE
    answers = b"in-reply-to" in headers or b"references" in headers
    if (submitted or null_sender) and (answers or report_type):
        return MessageKind.AUTO_REPLY
    from_list = any(field in headers for field in _LIST_FIELDS)
    precedence = headers.token(b"precedence")
    # The vacation programs of old mark their answers with nothing else.
    if answers and not from_list and precedence in ("bulk", "junk"):
        return MessageKind.AUTO_REPLY
    if spam:
        return MessageKind.SPAM
    # Whoever answers writes by a list of people, not of readers.
    if (from_list or precedence in ("bulk", "list", "junk")) and not answers:
        return MessageKind.BULK
    return MessageKind.CONTACT


def _kind_of_report(delivery_status: bytes, delayed: bool) -> MessageKind:
    """RFC 3464 §2.3.3: only `failed` says that it did not arrive."""
    actions = {action.lower() for action in _ACTION.findall(delivery_status)}
    if actions:
        failed = b"failed" in actions
    else:
        # RFC 3463 §2: class 4 is a problem that may pass, class 2 is success.
        classes = set(_STATUS.findall(delivery_status))
        failed = b"5" in classes or not (classes or delayed)
    return MessageKind.BOUNCE if failed else MessageKind.AUTO_REPLY


def receipt_bar(
    headers: Headers,
    *,
    envelope_sender: str | None,
    sender: str,
    kind: MessageKind,
    content_type: str,
    own: OwnAddresses,
    header_recipients: Iterable[str],
    infected: bool = False,
) -> str:
    """Why no automatic receipt may go out (RFC 3834 §2, §4, §5), or empty when it may."""
    for barred, reason in (
        (not sender, "no sender address"),
        (envelope_sender == "", "null envelope sender"),
        (bool(_submitted(headers)), "Auto-Submitted"),
        (headers.token(b"precedence") in _BULK_PRECEDENCE, "Precedence"),
        (any(name.startswith(b"list-") for name, _ in headers.fields), "mailing list"),
        (_is_suppressed(headers), "X-Auto-Response-Suppress"),
        (b"x-loop" in headers, "loop header"),
        (any(field in headers for field in _AUTO_REPLY_FIELDS), "automatic reply header"),
        (_is_silent(sender) or _is_silent(envelope_sender or ""), "sender takes no replies"),
        (own.is_own(sender) or own.is_own(envelope_sender or ""), "sent by ourselves"),
        (content_type == "multipart/report", "report"),
        (kind is not MessageKind.CONTACT, kind.value.replace("_", " ")),
        (infected or _is_spam(headers), "tagged as spam or virus"),
        (_fails_dmarc(headers), DMARC_FAILED),
        (not any(own.is_own(address) for address in header_recipients), "not addressed to us"),
    ):
        if barred:
            return reason
    return ""


_BULK_PRECEDENCE = frozenset(("bulk", "list", "junk", "auto_reply", "auto-reply"))


def _submitted(headers: Headers) -> str:
    """`Auto-Submitted` without its parameters; empty when absent or `no` (RFC 3834 §5)."""
    value = headers.token(b"auto-submitted").partition(";")[0].strip()
    return "" if value == "no" else value


def _is_suppressed(headers: Headers) -> bool:
    words = re.split(r"[,;\s]+", headers.token(b"x-auto-response-suppress"))
    return not _SUPPRESSED.isdisjoint(words)


def _is_own_loop(headers: Headers, own: OwnAddresses) -> bool:
    """Whether a robot sent the loop header of our own automatic mail back."""
    return any(
        own.is_own(normalise(value.decode("ascii", "replace").strip()))
        for value in headers.all(b"x-loop")
    )


def _is_silent(address: str) -> bool:
    local = address.rpartition("@")[0].lower()
    return bool(local) and bool(_SILENT_LOCAL.fullmatch(local[:320]))


def _is_spam(headers: Headers) -> bool:
    return (
        headers.token(b"x-spam-flag").startswith("yes")
        or headers.token(b"x-spam-status").startswith("yes")
        or headers.token(b"x-spam").startswith("yes")
        or headers.token(b"x-virus-status").startswith(("infected", "yes"))
    )


def _fails_dmarc(headers: Headers) -> bool:
    """Any such result counts here: to hold back a receipt needs no trust."""
    return any(_DMARC_FAIL.search(value) for value in headers.all(b"authentication-results"))
