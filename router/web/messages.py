"""Messages as people read them: what they say, what to know of them, how far they have come."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from channels.base import Mark, MessageKind, SenderCheck
from channels.email.quote import fold
from router.models import Direction
from router.web.render import catalogue, label

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from router.queue import QueueRow
    from router.settings import Settings
    from router.thread_views import EventView, Thread, ThreadMessage

_STATUS = re.compile(r"\b([245])\.(\d{1,3})\.(\d{1,3})\b")
_REPLY = re.compile(r"\b([45])\d\d\b")
_UNDELIVERED = {
    "1.1": "no mailbox",
    "1.6": "no mailbox",
    "1.10": "no mailbox",
    "1.2": "no domain",
    "1.3": "no domain",
    "4.4": "no domain",
    "2.1": "closed",
    "2.2": "full",
    "2.3": "too large",
    "3.4": "too large",
}
_UNDELIVERED_CLASSES = {"4": "unreachable", "6": "content", "7": "refused"}
_PERSONAL = re.compile(
    r"fødsels(?:nummer|dato)|personn(?:ummer|r\b)|konton(?:ummer|r\b)|passord|innsyn\b|"
    r"personopplysning|helseopplysning|helseopplysing|(?:pasient|legejournal)|journalen min|"
    r"diagnose|legeerklæring|legeattest|bostedsadresse|adressen til|adressa til|"
    r"national identity|date of birth|bank account|password|medical record|personal data",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class ShownMessage:
    """A message, parted into what it says and what it quotes, and what to know of it."""

    message: ThreadMessage
    visible: str
    quoted: str
    heading: str = ""
    """Code of `LABELS["message"]`."""
    sender: str = ""
    """`verified`, `failed`, `unchecked` where that matters, else empty."""
    marks: tuple[str, ...] = ()
    """Codes of `LABELS["mark"]`."""
    locked: bool = False
    """Whether its files are kept from everybody."""
    reason: str = ""
    """Code of `LABELS["undelivered"]`, empty when the words of the provider must do."""


def as_read(message: ThreadMessage) -> ShownMessage:
    """A message as it is read: quoted history of mail folded away."""
    if message.channel == "email" and message.direction is Direction.IN:
        return ShownMessage(message, *fold(message.text))
    return ShownMessage(message, message.text, "")


def shown(
    message: ThreadMessage, row: QueueRow, known: Collection[str], checks_senders: bool
) -> ShownMessage:
    """A message as staff read it: also its marks in order, its sender, how far it has come.

    `known`: the addresses of the inquiry's contact. `checks_senders`: whether somebody checks the
    senders of mail here at all.
    """
    incoming_mail = message.channel == "email" and message.direction is Direction.IN
    marks = [mark.value for mark in Mark if mark in message.marks]
    if message.direction is Direction.IN and len(message.recipients) > 1:
        marks.append("several")
    stranger = (
        incoming_mail
        and message.kind == MessageKind.CONTACT
        and message.sender_address not in {row.sender_address, *known}
    )
    if stranger:
        marks.append("stranger")
    return replace(
        as_read(message),
        sender=_sender(message, row, checks_senders) if incoming_mail else "",
        marks=tuple(marks),
        heading="stranger" if stranger else message.kind,
        locked=Mark.QUARANTINED in message.marks,
        reason=undelivered(message.delivery_detail),
    )


def checks_senders(settings: Settings) -> bool:
    """Whether the mail relay tells us what it found out about senders."""
    return bool(settings.channels.email.trust.authserv_id)


def _sender(message: ThreadMessage, row: QueueRow, checks_senders: bool) -> str:
    """What to say of the sender. That nobody checked is said only where checks are the rule, or
    where an answer could give something away: said always, it would be read by nobody."""
    if message.sender_check == SenderCheck.FAILED:
        return "failed"
    if message.sender_check == SenderCheck.VERIFIED:
        return "verified"
    if message.kind != MessageKind.CONTACT:
        return ""
    delicate = bool(row.sensitivity) or _PERSONAL.search(message.text) is not None
    return "unchecked" if checks_senders or delicate else ""


def undelivered(detail: str) -> str:
    """Why a message did not arrive, as a code, by the enhanced status code (RFC 3463 §3) in what
    a mail server said; empty when it says nothing of the kind."""
    found = _STATUS.search(detail)
    if found is None:
        reply = _REPLY.search(detail)
        return {"4": "later", "5": "refused"}[reply[1]] if reply else ""
    group, subject, number = found.groups()
    if group == "2":
        return ""
    known = _UNDELIVERED.get(f"{subject}.{number}") or _UNDELIVERED_CLASSES.get(subject)
    return known or ("later" if group == "4" else "refused")


def why_in_words(language: str, detail: str) -> str:
    """What a mail server said, headed by what it means."""
    code = undelivered(detail)
    return f"{label(language, 'undelivered', code)} ({detail})" if code else detail


def latest_owed(thread: Thread, delivery: str) -> ThreadMessage | None:
    """The latest of our messages that the resident has no answer without, if it has come this far
    and no further."""
    owed = [message for message in thread.messages if message.kind in {"reply", "forward"}]
    return owed[-1] if owed and owed[-1].delivery == delivery else None


def why_parked(error: str) -> str:
    """Why an arrival could not be read, as a code of `LABELS["parked"]`."""
    if "too long" in error or "memory" in error.lower():
        return "too heavy"
    if "missing from the store" in error:
        return "gone"
    return "not stored" if "while it was stored" in error else "fault"


def why_no_receipt(events: Sequence[EventView], language: str) -> str:
    """Why the sender got no automatic receipt, in one sentence; empty when one went out."""
    t = catalogue(language)
    for event in events:
        limit = event.data.get("limit")
        if event.kind == "receipt_withheld" and limit:
            return label(language, "withheld", limit) % {"most": event.data.get("most", "")}
        if event.kind == "receipt_withheld" and event.data.get("reason"):
            return t.gettext("No receipt: %(reason)s.") % {
                "reason": label(language, "barred", event.data["reason"])
            }
        if event.kind == "receipt_withheld":  # of a time when the limit was not written down
            return t.gettext(
                "The automatic receipt was held back: many messages from the same sender or domain"
                " in a short time."
            )
        reason = event.data.get("receipt_barred") if event.kind == "received" else ""
        if reason:
            return t.gettext("No receipt: %(reason)s.") % {
                "reason": label(language, "barred", reason)
            }
    return ""


def plain(content: bytes) -> str:
    """Bytes as harmless text: control characters shown as a mark."""
    text = content.decode("utf-8", "replace").replace("\r\n", "\n")
    return "".join(c if c in "\n\t" or c.isprintable() else "·" for c in text)


def told(thread: Thread) -> dict[str, list[str]]:
    """Kind of automatic letter -> who got it."""
    found: dict[str, list[str]] = {}
    for message in thread.messages:
        if message.kind in {"receipt", "forward", "emergency"}:
            found.setdefault(message.kind, []).extend(message.recipients)
    return found


def came(thread: Thread) -> dict[str, str]:
    """Kind of automatic letter -> how far the latest of them has come."""
    # Where a provider says more than that it was sent, that it arrived is more than enough.
    return {
        message.kind: "sent" if message.delivery == "delivered" else message.delivery
        for message in thread.messages
    }
