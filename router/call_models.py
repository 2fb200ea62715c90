"""Tables of the phone door: calls, their recordings and commands, and who can be reached."""

# No `from __future__ import annotations` here: SQLModel reads the annotations at class creation.
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, Column, Index, UniqueConstraint, text
from sqlmodel import Field

from router.models import Direction, Table, enum_column


class CallState(StrEnum):
    """Where a call is. It moves freely until it has `ENDED`, which is for ever."""

    RINGING = "ringing"
    DIALLING = "dialling"
    """A person's phone rings for it."""
    WAITING = "waiting"
    """In the queue of the switchboard or of a department."""
    TALKING = "talking"
    VOICEMAIL = "voicemail"
    ENDED = "ended"


class CallOutcome(StrEnum):
    """How a call ended."""

    ANSWERED = "answered"
    MISSED = "missed"
    """Nobody answered before the caller gave up."""
    VOICEMAIL = "voicemail"
    CALLBACK = "callback"
    """The caller asked to be called back."""
    CLOSED = "closed"
    """Outside opening hours; the caller heard so and left nothing."""
    FORWARDED = "forwarded"
    """The exchange passed it on to somebody outside the house."""
    REJECTED = "rejected"
    """The exchange turned the caller away."""
    UNKNOWN = "unknown"
    """No end was ever told; it was closed as too old."""


class Call(Table, table=True):
    """A phone call, from its first ring; it belongs to one inquiry."""

    __tablename__ = "call"
    __table_args__ = (
        UniqueConstraint("provider", "call_id"),
        Index("ix_call_started", "started_at", "id"),
        Index(
            "ix_call_live",
            "state",
            "id",
            sqlite_where=text("state <> 'ended'"),
            postgresql_where=text("state <> 'ended'"),
        ),
    )
    id: int | None = Field(default=None, primary_key=True)
    provider: str
    """twilio or cti."""
    call_id: str
    """The provider's own (CallSid, callId)."""
    inquiry_id: int = Field(foreign_key="inquiry.id", index=True)
    direction: Direction = Field(default=Direction.IN, sa_type=enum_column(Direction))
    caller: str = ""
    """E.164, or what the provider said instead (anonymous, client:name); opaque ones are never
    one person."""
    line: str = ""
    """Our number that was called."""
    person: str = ""
    """Username whose phone it is or was last meant for."""
    department: str = ""
    """Whose queue it stands in."""
    state: CallState = Field(default=CallState.RINGING, sa_type=enum_column(CallState))
    outcome: CallOutcome | None = Field(default=None, sa_type=enum_column(CallOutcome))
    step: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    """Where in its way through the house the call is: what is tried next and what was tried."""
    staff_id: int | None = Field(default=None, foreign_key="staff.id")
    """The operator who took it."""
    answered_by: str = ""
    """Username, or the name that the exchange gave, of who talked with the caller."""
    through_switchboard: bool = False
    """Whether an operator was needed."""
    wants_callback: bool = False
    provider_status: str = ""
    """The last one told, by rank; it never goes back."""
    started_at: datetime
    waiting_since: datetime | None = None
    """Keeps the place in the queue, also for who asked to be called back."""
    answered_at: datetime | None = None
    ended_at: datetime | None = None
    seen_at: datetime
    """When the provider last told of it."""


class Recording(Table, table=True):
    """A voicemail at the provider, until its sound is ours and theirs is deleted."""

    __tablename__ = "recording"
    __table_args__ = (
        Index(
            "ix_recording_open",
            "next_at",
            "id",
            sqlite_where=text("state IN ('announced', 'fetched')"),
            postgresql_where=text("state IN ('announced', 'fetched')"),
        ),
    )
    id: int | None = Field(default=None, primary_key=True)
    recording_id: str = Field(unique=True)
    """The provider's own (RecordingSid)."""
    call_id: int = Field(foreign_key="call.id", index=True)
    seconds: int = 0
    state: str = "announced"
    """announced, fetched (stored with us), deleted (at the provider), failed."""
    attempts: int = 0
    next_at: datetime
    message_id: int | None = Field(default=None, foreign_key="message.id")
    """The thread's message that carries the sound."""
    detail: str = ""
    created_at: datetime


class CallCommand(Table, table=True):
    """Something the provider shall do with a call, on its way there; tried like the outbox."""

    __tablename__ = "call_command"
    __table_args__ = (
        Index(
            "ix_call_command_due",
            "next_at",
            "id",
            sqlite_where=text("state = 'queued'"),
            postgresql_where=text("state = 'queued'"),
        ),
    )
    id: int | None = Field(default=None, primary_key=True)
    call_id: int = Field(foreign_key="call.id", index=True)
    verb: str
    arguments: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    state: str = "queued"
    """queued, sending, sent, failed, uncertain."""
    attempts: int = 0
    next_at: datetime
    created_at: datetime
    staff_id: int | None = Field(default=None, foreign_key="staff.id")
    provider_id: str = ""
    detail: str = ""


class PresenceClaim(Table, table=True):
    """What one source says of where a person is; `rules.presence.resolve` makes one answer of
    them."""

    __tablename__ = "presence_claim"
    __table_args__ = (Index("ix_presence_claim_person", "person", "ends_at"),)
    id: int | None = Field(default=None, primary_key=True)
    person: str
    """Username."""
    source: str
    """manual, schedule, phone, xmpp …"""
    layer: str
    """absence, manual, live, calendar."""
    state: str
    reach_phone: bool | None = None
    reach_chat: bool | None = None
    starts_at: datetime
    ends_at: datetime | None = None
    observed_at: datetime
    lease_until: datetime | None = None
    set_by: str = ""
    """Username of who said so."""
    public_text: str = ""
    private_note: str = ""


class ProviderWindow(Table, table=True):
    """Until when a provider's own lists have been compared with ours."""

    __tablename__ = "provider_window"
    name: str = Field(primary_key=True)
    until: datetime
