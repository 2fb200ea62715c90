"""Which mails and which recipients are taken: how MAIL and RCPT are read, and what is refused."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from channels.email.addresses import RecipientVerdict
from channels.email.replies import BUSY, CLOSING, NO_SPACE, TOO_LARGE, json_safe

if TYPE_CHECKING:
    from channels.email.session import Session

_REFUSED = 50
"""Unknown recipients after which a stranger is only guessing."""

_PATH = re.compile(r'\s*<((?:[^<>"\\]++|"(?:[^"\\]|\\.)*+"|\\.)*+)>\s*(.*)', re.DOTALL)
_SPACE = re.compile(r"\s")
_SOURCE_ROUTE = re.compile(r"@[^:\s]*:")
_SIZE = re.compile(r"SIZE=([0-9]{1,20})")


def mail(session: Session, arg: str | None) -> str:
    """Begin a mail, unless there is no room or no time for one; returns the reply to MAIL."""
    envelope, owner = session.envelope, session.owner
    if not session.session.host_name:
        return "503 5.5.1 Error: say hello first"
    if envelope.mail_from is not None:
        return "503 5.5.1 Error: nested MAIL command"
    address, parameters, refusal = _read_path("FROM:", arg)
    if refusal:
        return refusal
    declared = 0
    for parameter in parameters:
        if match := _SIZE.fullmatch(parameter):
            declared = int(match[1])
        elif parameter == "SMTPUTF8":
            envelope.smtp_utf8 = True
        elif parameter.startswith(("SIZE", "BODY", "SMTPUTF8=")):
            if parameter not in ("BODY=8BITMIME", "BODY=7BIT"):
                return "501 5.5.4 Bad value of a parameter"
        else:
            return "555 5.5.4 Parameter not recognised"
    # RFC 1870 §6.1: the declared size is known before the content comes.
    if declared > owner.settings.max_size:
        return TOO_LARGE
    if owner.stopping:
        return CLOSING
    if owner.short_of_space(declared):
        return NO_SPACE
    if owner.busy():
        return f"451 {BUSY}"
    envelope.mail_from = address
    return "250 2.1.0 OK"


def recipient(session: Session, arg: str | None) -> str:
    """Take a recipient that is ours; returns the reply to RCPT."""
    envelope, owner = session.envelope, session.owner
    if envelope.mail_from is None:
        return "503 5.5.1 Error: need MAIL command"
    address, parameters, refusal = _read_path("TO:", arg)
    if refusal:
        return refusal
    if not address:  # the null path is no recipient
        return "501 5.1.3 Syntax: RCPT TO:<address>"
    if parameters:
        return "555 5.5.4 Parameter not recognised"
    # RFC 5321 §4.5.3.1.8 and .10: at least 100 recipients, 452 beyond.
    if len(envelope.rcpt_tos) >= owner.settings.max_recipients:
        return "452 4.5.3 Too many recipients"
    verdict = owner.recipients(address)
    if verdict is RecipientVerdict.ACCEPTED:
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"
    session.refused_recipients += 1
    if session.refused_recipients > _REFUSED and not session.trusted:
        session.closing = True
        return "421 4.7.0 Too many unknown recipients"
    if verdict is RecipientVerdict.UNKNOWN:
        return "550 5.1.1 No such recipient here"
    return "550 5.7.1 Relaying denied"


def _read_path(keyword: str, arg: str | None) -> tuple[str, list[str], str]:
    """The address, the parameters in upper case, and the refusal of what cannot be read."""
    if arg is None or arg[: len(keyword)].upper() != keyword:
        return "", [], f"501 5.5.4 Syntax: {keyword}<address>"
    match = _PATH.fullmatch(arg, len(keyword))
    if match:
        address, rest = match[1].strip(), match[2]
    else:
        address, _, rest = arg[len(keyword) :].strip().partition(" ")
        if "<" in address or ">" in address:
            return "", [], "553 5.1.3 Error: malformed address"
        if not address:
            return "", [], f"501 5.5.4 Syntax: {keyword}<address>"
    if address.startswith("@"):
        address = _SOURCE_ROUTE.sub("", address, count=1)
    if _SPACE.search(address) and '"' not in address:
        return "", [], "553 5.1.3 Error: malformed address"
    return json_safe(address), rest.upper().split(), ""
