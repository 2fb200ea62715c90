"""What a delivery report says: whom it did not reach, and why (RFC 3464, or plain words).

Line-based and linear. Only the address that failed, its status code, one line of reason and the
Message-ID of what came back are taken.
"""

from __future__ import annotations

import re
from dataclasses import replace

from channels.base import DeliveryReport
from channels.email.addresses import normalise
from channels.email.charsets import clean_line, decode
from channels.email.headers import decode_words, message_ids

STATUS_TYPES = frozenset(("message/delivery-status", "message/global-delivery-status"))
RETURNED_TYPES = frozenset(
    ("message/rfc822", "message/global", "text/rfc822-headers", "message/global-headers")
)

DETAIL_LIMIT = 300
_TEXT_LIMIT = 64 * 1024
_MAX_LINES = 2000
_MAX_LINE = 1000
_MAX_GROUPS = 200

_STATUS = re.compile(r"(?<![\d.])([245]\.\d{1,3}\.\d{1,3})(?![\d.])")
_REPLY = re.compile(r"(?<![\d.])([45][0-7]\d)(?=[ -]|$)")
_MESSAGE_ID = re.compile(
    r"^[ \t>]*message-id:[ \t]*(?:\r?\n[ \t]+)?(<[^<>\s]{1,500}>)", re.IGNORECASE | re.MULTILINE
)
_ADDRESS = re.compile(r"[^\s<>()\[\]:;,\"'«»*=]{1,64}@[A-Za-z0-9æøåÆØÅ._-]{1,255}[A-Za-z0-9æøåÆØÅ]")
_RULED_COPY = re.compile(
    r"\s*(?:-{2,}|={3,}|\*{3,})\s*(?:this is a copy|below this line|original message"
    r"|returned message|message header|unsent message|undelivered message|copy of|header"
    r"|start of (?:returned|message)|opprinnelig melding|the header of|the body of"
    r"|message follows)",
    re.IGNORECASE,
)
_FAILURE = re.compile(
    r"fail|could ?n[o']t|cannot|can't|unable|undeliver|not (?:be )?(?:deliver|found|exist|sent)"
    r"|was ?n[o']t delivered|unknown|no such|rejected|denied|refused|fatal|error|full|quota"
    r"|disabled|invalid|unrouteable|expired|timed out|bounce|problem|said:|exceeded|mislyk"
    r"|did not reach|ikke lever|kunne ikke|finnes ikke|ikkje|avvist|recipient|returned",
    re.IGNORECASE,
)
_DAEMON = re.compile(r"(?:mailer-?daemon|postmaster|mail-daemon)@", re.IGNORECASE)


def returned_message_id(returned: bytes, text: str) -> str:
    """The Message-ID of the message that came back: in the copy that the report carries
    (RFC 3462 §2), or among its words."""
    end = returned.find(b"\r\n\r\n")
    head = returned[: end if end >= 0 else _TEXT_LIMIT][:_TEXT_LIMIT]
    found = _MESSAGE_ID.search(decode(head)) or _MESSAGE_ID.search(text[:_TEXT_LIMIT])
    return next(iter(message_ids(found[1].encode())), "") if found else ""


def delivery_report(delivery_status: bytes, text: str, failed: bytes = b"") -> DeliveryReport:
    """What is told of the failure.

    `delivery_status` is the content of a `message/delivery-status` part or empty, `text` what the
    mail says in words, `failed` its `X-Failed-Recipients`. Fields that nothing told are empty.
    """
    told = read_status(delivery_status) if delivery_status else DeliveryReport()
    if told.recipient and told.status and told.detail:
        return told
    worded = read_words(text)
    recipient = told.recipient or _address(failed.decode("ascii", "replace")) or worded.recipient
    return replace(
        told,
        recipient=recipient,
        status=told.status or worded.status,
        detail=told.detail or worded.detail,
    )


def read_status(content: bytes) -> DeliveryReport:
    """The first failed recipient of a machine-readable report (RFC 3464 §2.3), else the first."""
    groups: list[dict[str, str]] = []
    group: dict[str, str] = {}
    name = ""
    text = decode(content[:_TEXT_LIMIT])
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if not line.strip():
            if group:
                groups.append(group)
                group = {}
            name = ""
            if len(groups) >= _MAX_GROUPS:
                break
        elif line[0] in " \t":
            if name and len(group[name]) < _MAX_LINE:
                group[name] += " " + line.strip()
        else:
            field, colon, value = line.partition(":")
            name = field.strip().lower() if colon else ""
            if name:
                group[name] = value.strip()[:_MAX_LINE]
    if group:
        groups.append(group)
    about = [g for g in groups if "final-recipient" in g or "original-recipient" in g]
    about = about or [g for g in groups if "status" in g or "diagnostic-code" in g]
    failed = [g for g in about if g.get("action", "").lower().startswith("failed")] or about
    if not failed:
        return DeliveryReport()
    told = failed[0]
    detail = clean_line(decode_words(_typed(told.get("diagnostic-code", "")).encode()))
    status = _STATUS.search(told.get("status", "")) or _STATUS.search(detail)
    final = _address(_typed(told.get("final-recipient", "")))
    original = _address(_typed(told.get("original-recipient", "")))
    return DeliveryReport(
        recipient=original or final,
        final_recipient=final if original and original != final else "",
        status=status[1] if status else "",
        detail=detail[:DETAIL_LIMIT],
    )


def _typed(value: str) -> str:
    """The value of `type; value` (RFC 3464 §2.1.2)."""
    kind, semicolon, rest = value.partition(";")
    return rest.strip() if semicolon and " " not in kind.strip() else value.strip()


def _address(text: str) -> str:
    """The first address in a short text; xtext of RFC 3461 §4 is left as it is."""
    found = _ADDRESS.search(text[:_MAX_LINE])
    return normalise(found[0].strip(".'")) if found else ""


def read_words(text: str) -> DeliveryReport:
    """What Postfix, Exim, qmail, sendmail, Exchange, Gmail and their kin put in words."""
    lines = [line.strip()[:_MAX_LINE] for line in text[:_TEXT_LIMIT].split("\n")[:_MAX_LINES]]
    end = next((n for n, line in enumerate(lines) if n and _RULED_COPY.match(line)), len(lines))
    lines = lines[:end]
    recipient, at = _failed_address(lines)
    status = detail = ""
    # What is said of the address follows it; some say it in the sentence before.
    for line in lines[at:] + lines[:at] if at >= 0 else lines:
        code = _STATUS.search(line)
        if code and not code[1].startswith("2"):
            status, detail = code[1], detail if _REPLY.search(detail) else line
            break
        if not detail and _REPLY.search(line) and _FAILURE.search(line):
            detail = line
    if not detail and at >= 0:
        said = [line for line in lines[at : at + 6] if line and line.strip("<>: ") != recipient]
        detail = next((line for line in said if _FAILURE.search(line)), "")
    return DeliveryReport(recipient, status, clean_line(detail)[:DETAIL_LIMIT])


def _failed_address(lines: list[str]) -> tuple[str, int]:
    """The address that failed and the line it stands on."""
    near: tuple[str, int] = ("", -1)
    failing = False
    for index, line in enumerate(lines):
        if "@" not in line:
            failing = failing or bool(_FAILURE.search(line))
            continue
        found = _ADDRESS.search(line)
        if found is None or _DAEMON.match(found[0]):
            continue
        address = normalise(found[0].strip(".'"))
        before = line[: found.start()].strip(" <\"'*-(«[").lower()
        alone = before in ("", "to:", "til:", "to", "recipient:", "mottaker:", "rcpt to:")
        if address and alone and (failing or line.startswith("<") or _FAILURE.search(line)):
            return address, index
        failing = failing or bool(_FAILURE.search(line))
        if address and not near[0] and failing:
            near = address, index
    return near
