"""Which mails and which recipients are taken: what aiosmtpd asks before it says 250 to MAIL and
RCPT."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from aiosmtpd.smtp import MISSING

from channels.email.addresses import RecipientVerdict
from channels.email.replies import BUSY, CLOSING, NO_SPACE, json_safe

if TYPE_CHECKING:
    from aiosmtpd.smtp import Envelope as SmtpEnvelope
    from aiosmtpd.smtp import Session as SmtpSession

    from channels.email.session import Session

_REFUSED = 50
"""Unknown recipients after which a stranger is only guessing."""

_PATH = re.compile(r'\s*<((?:[^<>"\\]|"(?:[^"\\]|\\.)*"|\\.)*)>\s*(.*)', re.DOTALL)
_SPACE = re.compile(r"\s")
_SOURCE_ROUTE = re.compile(r"@[^:\s]*:")


def read_path(arg: str) -> tuple[str | None, str | None]:
    """The address in the argument of MAIL or RCPT, and what follows it; `None` when there is none.

    For the library's own, which raises on odd input: a 451 of ours.
    """
    match = _PATH.fullmatch(arg)
    if match:
        address, rest = match[1].strip(), match[2]
    else:
        address, _, rest = arg.strip().partition(" ")
        if "<" in address or ">" in address or not address:
            return None, None
    if address.startswith("@"):
        address = _SOURCE_ROUTE.sub("", address, count=1)
    if _SPACE.search(address) and '"' not in address:
        return None, None
    # The library takes an empty sender for a missing one.
    return json_safe(address) or "<>", rest


class Policy:
    """What aiosmtpd asks before it says 250 to MAIL and RCPT."""

    async def handle_MAIL(  # noqa: N802
        self,
        smtp: Session,
        session: SmtpSession,
        envelope: SmtpEnvelope,
        address: str,
        options: list[str],
    ) -> Any:
        """Whether there is room and time for a mail."""
        if smtp.owner.stopping:
            return CLOSING
        # RFC 1870 §6.1: the declared size is known before the content comes.
        declared = next((int(o[5:]) for o in options if o.startswith("SIZE=")), 0)
        if smtp.owner.short_of_space(declared):
            return NO_SPACE
        if smtp.owner.busy():
            return f"451 {BUSY}"
        return MISSING

    async def handle_RCPT(  # noqa: N802
        self,
        smtp: Session,
        session: SmtpSession,
        envelope: SmtpEnvelope,
        address: str,
        options: list[str],
    ) -> Any:
        """Whether the recipient is one of ours."""
        if address == "<>":  # the null path is no recipient
            return "501 5.1.3 Syntax: RCPT TO:<address>"
        # RFC 5321 §4.5.3.1.8 and .10: at least 100 recipients, 452 beyond.
        if len(envelope.rcpt_tos) >= smtp.owner.settings.max_recipients:
            return "452 4.5.3 Too many recipients"
        verdict = smtp.owner.recipients(address)
        if verdict is RecipientVerdict.ACCEPTED:
            return MISSING
        smtp.refused_recipients += 1
        if smtp.refused_recipients > _REFUSED and not smtp.trusted:
            smtp.closing = True
            return "421 4.7.0 Too many unknown recipients"
        if verdict is RecipientVerdict.UNKNOWN:
            return "550 5.1.1 No such recipient here"
        return "550 5.7.1 Relaying denied"


POLICY = Policy()
