"""What the thread of an inquiry says of a call: one line, in bokmål as decisions are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, select, update

from channels.phone.base import CHANNEL
from channels.phone.record import key_of
from router.call_models import CallOutcome
from router.models import Message

if TYPE_CHECKING:
    from sqlmodel import Session

    from router.call_models import Call

_MESSAGE: Any = Message.__table__  # type: ignore[attr-defined]

_IN_WORDS = {
    CallOutcome.ANSWERED: "Besvart",
    CallOutcome.MISSED: "Ubesvart",
    CallOutcome.VOICEMAIL: "La igjen en beskjed",
    CallOutcome.CALLBACK: "Vil bli ringt opp",
    CallOutcome.CLOSED: "Ringte utenfor åpningstiden",
    CallOutcome.FORWARDED: "Satt over til et nummer utenfor huset",
    CallOutcome.REJECTED: "Avvist av sentralen",
    CallOutcome.UNKNOWN: "Det er ukjent hvordan samtalen sluttet",
}

_MINE = (_MESSAGE.c.channel == CHANNEL, _MESSAGE.c.external_id == bindparam("key"))
_READ = select(_MESSAGE.c.text).where(*_MINE)
_WRITE = update(_MESSAGE).where(*_MINE).values(kind="call", text=bindparam("words"))


def begin(session: Session, call: Call, title: str) -> None:
    """Say whose number was called: «Anrop til Byggesak.»"""
    _write(session, call, f"Anrop til {title}.")


def conclude(session: Session, call: Call, by: str, taken_by: str) -> None:
    """Say how a call ended, and who answered it: «Anrop til Byggesak. Ubesvart etter 2 min.»
    `taken_by` is the operator who took it from the queue, also when another has it now."""
    key = {"key": key_of(call.provider, call.call_id)}
    said = session.connection().execute(_READ, key).scalar() or ""
    begun = said.partition(". ")[0].rstrip(".")
    assert call.outcome is not None  # noqa: S101 - a settled call has one
    words = _IN_WORDS[call.outcome]
    passed_on = call.outcome is CallOutcome.ANSWERED and taken_by not in {"", by}
    first = taken_by if passed_on else by
    if call.outcome is CallOutcome.ANSWERED and first:
        words += f" av {first}"
    if call.outcome in {CallOutcome.ANSWERED, CallOutcome.MISSED}:
        until = call.answered_at if call.outcome is CallOutcome.ANSWERED else call.ended_at
        waited = max(0, round(((until or call.seen_at) - call.started_at).total_seconds()))
        words += f" etter {waited} s" if waited < 90 else f" etter {round(waited / 60)} min"
    if passed_on:
        words += f", satt over til {by}" if by else ", satt over"
    _write(session, call, f"{begun}. {words}.")


def _write(session: Session, call: Call, words: str) -> None:
    key = key_of(call.provider, call.call_id)
    session.connection().execute(_WRITE, {"key": key, "words": words})
