"""A text as it was journaled -> `Incoming`: who wrote to which of our numbers, and what it means.

Pure, for worker processes. Who has no number of their own (a text sender, a short number) is nobody
in particular and gets no answer: nobody reads it, or a robot does.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from channels.base import Address, Incoming, MessageKind
from channels.numbers import is_mobile
from channels.sms import twilio
from channels.sms.segments import tidy
from channels.twilio import endpoint

if TYPE_CHECKING:
    from channels.base import Envelope
    from channels.sms.base import Plan

CHANNEL = "sms"

STOP = frozenset(
    {"stop", "stopall", "unsubscribe", "cancel", "end", "quit", "revoke", "optout"}
    | {"stopp", "slutt", "avslutt"}
)
"""Alone in a text: no more of them. The English ones are Twilio's own: it stops us too (error
21610)."""

START = frozenset({"start", "unstop"})
"""Alone in a text: texts again."""

YES = frozenset({"ja", "yes"})
"""Texts again from somebody who had asked for none; an ordinary answer from everybody else."""

SUBJECT_LENGTH = 60
_SAID_LENGTH = 40
_WORD = re.compile(r"\s*([\w-]+)[\s:;,.!–-]*")
_FOLDED = str.maketrans({"ø": "o", "å": "a", "æ": "ae"})
_UNSEEN = frozenset({"Cc", "Cs"})
_READERS = {"twilio": twilio.read}


def parse(raw: bytes, envelope: Envelope, external_id: str, plan: Plan) -> Incoming:
    """The message in an arrival. Raises `KeyError` for a provider we do not know."""
    said = _READERS[str(envelope["provider"])](raw)
    text = _clean(said.text)
    department = ""
    if plan.keyword:
        text, department = _addressed(text, plan)
    number = endpoint(said.sender)
    word = fold(text)
    kind = MessageKind.CONTACT
    if word in STOP:
        kind = MessageKind.OPT_OUT
    elif word in START:
        kind = MessageKind.OPT_IN
    return Incoming(
        channel=CHANNEL,
        external_id=external_id,
        sender=Address("phone", number) if number else None,
        sender_said="" if number else _clean(said.sender)[:_SAID_LENGTH],
        recipients=(said.to.strip(),),
        subject=_subject(text),
        text=text,
        kind=kind,
        receipt_barred=_barred(said.sender, number, plan),
        department=department,
        may_text=word in YES or kind is MessageKind.OPT_IN,
        remote=said.media,
    )


def fold(text: str) -> str:
    """A word as people may write it on a telephone: no case, no accents, no marks; ø is o."""
    text = unicodedata.normalize("NFKD", text.casefold().translate(_FOLDED))
    return "".join(c for c in text if c.isalnum())


def _addressed(text: str, plan: Plan) -> tuple[str, str]:
    """The text without the keyword of our number, and the department that its next word names.

    That word stays: it may as well be the beginning of a sentence.
    """
    first = _WORD.match(text)
    if first is None or fold(first[1]) != fold(plan.keyword):
        return text, ""
    text = text[first.end() :]
    second = _WORD.match(text)
    return text, plan.words.get(fold(second[1]), "") if second is not None else ""


def _barred(said: str, number: str, plan: Plan) -> str:
    """Why no automatic answer may go to a sender, in English for the event log."""
    if number:
        if number in plan.numbers:
            return "sent by ourselves"
        return "" if is_mobile(number) else "not a mobile number"
    if not said.strip():
        return "no sender address"
    return "short number" if said.strip().lstrip("+").isdecimal() else "text sender"


def _clean(text: str) -> str:
    kept = (c for c in tidy(text) if c == "\n" or unicodedata.category(c) not in _UNSEEN)
    return "".join(kept).strip()


def _subject(text: str) -> str:
    """The beginning of a text, cut between words: what it goes by in a list."""
    line = " ".join(text.split())
    if len(line) <= SUBJECT_LENGTH:
        return line
    cut = line[:SUBJECT_LENGTH]
    head, blank, _ = cut.rpartition(" ")
    return f"{head if blank and len(head) > SUBJECT_LENGTH // 2 else cut}…"
