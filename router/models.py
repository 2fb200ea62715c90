"""The tables. Columns and indexes are chosen for the reads that happen all day: see
docs/architecture.md.

Table models do not validate (SQLModel skips it for tables): what enters has been normalised by the
door and
by the input models of the web. Instants are aware UTC; SQLModel maps them to a type that refuses
naive ones.
"""

# No `from __future__ import annotations` here: SQLModel reads the annotations at class creation.
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, Column, Enum, Index, LargeBinary, Text, UniqueConstraint, text
from sqlmodel import Field, SQLModel


def enum_column(kind: type[StrEnum]) -> Any:
    """Column type that stores the member's *value* in a plain VARCHAR on every database."""
    return Enum(
        kind, native_enum=False, length=32, values_callable=lambda k: [member.value for member in k]
    )


class Role(StrEnum):
    """What a person may do: operators see everything, members and leads their departments."""

    OPERATOR = "operator"
    MEMBER = "member"
    LEAD = "lead"
    ADMIN = "admin"


class ArrivalState(StrEnum):
    """How far the raw bytes have come. `PARKED` waits for a person."""

    NEW = "new"
    PROCESSED = "processed"
    DUPLICATE = "duplicate"
    PARKED = "parked"


class InquiryStatus(StrEnum):
    """Open inquiries stand in the queue; closed ones can be reopened. Aside lies what no person
    wrote (newsletters, spam, automatic replies without a thread): kept, in a list of its own, and
    one action away from the queue."""

    OPEN = "open"
    CLOSED = "closed"
    ASIDE = "aside"


class ReplyState(StrEnum):
    """Whether the resident has had an answer to the latest contact."""

    UNANSWERED = "unanswered"
    ANSWERED = "answered"
    NOT_DELIVERED = "not_delivered"


class Direction(StrEnum):
    """In from outside, out to somebody, or a note that stays in the house."""

    IN = "in"
    OUT = "out"
    NOTE = "note"


class CredentialKind(StrEnum):
    """What a secret opens: a browser session, one sign-in, or the API."""

    SESSION = "session"
    ONE_TIME = "one_time"
    API = "api"


class Table(SQLModel):
    """Base of all tables. They do not validate, so no validators are built for them."""

    model_config = {"defer_build": True}


class Department(Table, table=True):
    """A part of the municipality (or an external body) that answers inquiries; mirrors
    config.yaml."""

    __tablename__ = "department"
    slug: str = Field(primary_key=True)
    name_nb: str
    name_nn: str
    name_en: str
    address: str = ""
    external: bool = False
    active: bool = True
    position: int = 0


class Staff(Table, table=True):
    """A person who signs in to the desk."""

    __tablename__ = "staff"
    id: int | None = Field(default=None, primary_key=True)
    username: str = Field(unique=True, index=True)
    name: str
    role: Role = Field(sa_type=enum_column(Role))
    password_hash: str = ""
    language: str = "nb"
    active: bool = True
    created_at: datetime
    failed_logins: int = 0
    locked_until: datetime | None = None
    desk_until: datetime | None = None
    """A page of the desk is open until then at least; renewed while it is."""
    jid: str | None = Field(default=None, unique=True)
    """XMPP address, bare and in lower case: inquiries they hold are told there, and what comes from
    it is theirs."""


class Membership(Table, table=True):
    """Which departments a member or lead belongs to."""

    __tablename__ = "membership"
    staff_id: int = Field(foreign_key="staff.id", primary_key=True)
    department: str = Field(foreign_key="department.slug", primary_key=True)


class Credential(Table, table=True):
    """A secret, kept only as its SHA-256: session cookie, one-time sign-in or API token."""

    __tablename__ = "credential"
    id: int | None = Field(default=None, primary_key=True)
    kind: CredentialKind = Field(sa_type=enum_column(CredentialKind))
    token_hash: str = Field(unique=True)
    staff_id: int | None = Field(default=None, foreign_key="staff.id", index=True)
    role: Role | None = Field(default=None, sa_type=enum_column(Role))
    department: str | None = Field(default=None, foreign_key="department.slug")
    name: str = ""
    created_at: datetime
    expires_at: datetime | None = Field(default=None, index=True)
    used_at: datetime | None = None


class Contact(Table, table=True):
    """The person outside, whatever addresses they use."""

    __tablename__ = "contact"
    id: int | None = Field(default=None, primary_key=True)
    name: str = ""
    language: str = ""
    created_at: datetime


class ContactAddress(Table, table=True):
    """One way to reach a contact. `value` is normalised: e-mail lower case, phone E.164."""

    __tablename__ = "address"
    __table_args__ = (UniqueConstraint("channel", "value"),)
    id: int | None = Field(default=None, primary_key=True)
    contact_id: int = Field(foreign_key="contact.id", index=True)
    channel: str
    value: str
    name: str = ""
    created_at: datetime
    opted_out_at: datetime | None = None
    """When the person asked for no more texts (STOP, STOPP); None when they may be sent."""


class ContactMerge(Table, table=True):
    """Addresses and inquiries that a person moved from one contact to another, all of them (a
    merge) or those of one address (a split), so that it can be undone."""

    __tablename__ = "contact_merge"
    id: int | None = Field(default=None, primary_key=True)
    kept_id: int = Field(foreign_key="contact.id", index=True)
    merged_id: int = Field(foreign_key="contact.id", index=True)
    at: datetime
    staff_id: int | None = Field(default=None, foreign_key="staff.id")
    moved: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    """`addresses` and `inquiries`: the ids that came from `merged_id`; `split`: whether the rest
    stayed there."""
    undone_at: datetime | None = None


class Arrival(Table, table=True):
    """Raw bytes as a door took them, committed before it answered; kept for the archive and for
    re-runs."""

    __tablename__ = "arrival"
    __table_args__ = (
        UniqueConstraint("channel", "external_id"),
        Index(
            "ix_arrival_waiting",
            "state",
            "id",
            sqlite_where=text("state IN ('new', 'parked')"),
            postgresql_where=text("state IN ('new', 'parked')"),
        ),
        Index(
            "ix_arrival_blob",
            "blob",
            sqlite_where=text("blob <> ''"),
            postgresql_where=text("blob <> ''"),
        ),
        Index(
            "ix_arrival_inquiry_id",
            "inquiry_id",
            sqlite_where=text("inquiry_id IS NOT NULL"),
            postgresql_where=text("inquiry_id IS NOT NULL"),
        ),
    )
    id: int | None = Field(default=None, primary_key=True)
    channel: str
    external_id: str
    received_at: datetime
    envelope: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    blob: str = ""
    """Name of the file that holds the content; empty when it is a row of `ArrivalContent`."""
    size: int = 0
    state: ArrivalState = Field(default=ArrivalState.NEW, sa_type=enum_column(ArrivalState))
    attempts: int = 0
    error: str = ""
    inquiry_id: int | None = Field(default=None, foreign_key="inquiry.id")
    processed_at: datetime | None = None
    alarmed_at: datetime | None = None


class ArrivalContent(Table, table=True):
    """The raw bytes of an arrival. They never change, and an arrival does: apart, so that noting
    what became of it does not write them anew."""

    __tablename__ = "arrival_content"
    arrival_id: int = Field(primary_key=True, foreign_key="arrival.id")
    raw: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class Unscanned(Table, table=True):
    """A mail that a scanner should have looked at and did not; it is shown to it once more."""

    __tablename__ = "unscanned"
    __table_args__ = (Index("ix_unscanned_due", "next_at", "arrival_id"),)
    arrival_id: int = Field(foreign_key="arrival.id", primary_key=True)
    attempts: int = 0
    """How often in vain, although the scanner was there."""
    next_at: datetime


_OPEN = text("status = 'open'")
_OPEN_UNMARKED = "status = 'open' AND answered_at IS NULL AND {} IS NULL"


class Inquiry(Table, table=True):
    """One matter of one resident: stands in the queue until it is closed."""

    __tablename__ = "inquiry"
    __table_args__ = (
        Index(
            "ix_inquiry_queue",
            "lane",
            "sort_at",
            "received_at",
            "id",
            sqlite_where=_OPEN,
            postgresql_where=_OPEN,
        ),
        Index(
            "ix_inquiry_department_queue",
            "department",
            "lane",
            "sort_at",
            "received_at",
            "id",
            sqlite_where=_OPEN,
            postgresql_where=_OPEN,
        ),
        Index(
            "ix_inquiry_assignee",
            "assignee_id",
            "lane",
            "sort_at",
            "received_at",
            "id",
            sqlite_where=_OPEN,
            postgresql_where=_OPEN,
        ),
        Index(
            "ix_inquiry_warn",
            "warn_at",
            "id",
            sqlite_where=text(_OPEN_UNMARKED.format("warned_at")),
            postgresql_where=text(_OPEN_UNMARKED.format("warned_at")),
        ),
        Index(
            "ix_inquiry_overdue",
            "due_at",
            "id",
            sqlite_where=text(_OPEN_UNMARKED.format("overdue_at")),
            postgresql_where=text(_OPEN_UNMARKED.format("overdue_at")),
        ),
        Index(
            "ix_inquiry_closed",
            "closed_at",
            "id",
            sqlite_where=text("status = 'closed'"),
            postgresql_where=text("status = 'closed'"),
        ),
        Index(
            "ix_inquiry_aside",
            "received_at",
            "id",
            sqlite_where=text("status = 'aside'"),
            postgresql_where=text("status = 'aside'"),
        ),
        Index("ix_inquiry_contact", "contact_id", "id"),
        Index(
            "ix_inquiry_line",
            "line",
            "sender_address",
            "id",
            sqlite_where=text("line <> ''"),
            postgresql_where=text("line <> ''"),
        ),
    )
    id: int | None = Field(default=None, primary_key=True)
    ref: str = Field(unique=True)
    channel: str
    kind: str = ""
    status: InquiryStatus = Field(
        default=InquiryStatus.OPEN, sa_type=enum_column(InquiryStatus), nullable=False
    )
    reply_state: ReplyState = Field(
        default=ReplyState.UNANSWERED, sa_type=enum_column(ReplyState), nullable=False
    )
    subject: str = ""
    contact_id: int | None = Field(default=None, foreign_key="contact.id")
    sender_name: str = ""
    sender_address: str = ""
    sender_phone: str = ""
    """A number given beside the address; unverified, so it says nothing of who somebody is."""
    department: str = Field(foreign_key="department.slug")
    assignee_id: int | None = Field(default=None, foreign_key="staff.id")
    received_at: datetime
    due_at: datetime
    warn_at: datetime
    target: str
    calendar: str = ""
    warned_at: datetime | None = None
    overdue_at: datetime | None = None
    answered_at: datetime | None = None
    closed_at: datetime | None = None
    last_message_at: datetime
    lane: int
    sort_at: datetime
    language: str = ""
    sensitivity: str = ""
    emergency: bool = False
    emergency_seen_at: datetime | None = None
    tags: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    hint_id: int | None = Field(default=None, foreign_key="inquiry.id")
    line: str = ""
    """Our own number that was called or texted, E.164; empty on other channels."""
    calls: int = 0
    """How often this caller has rung about it."""
    version: int = 1


class Addressee(Table, table=True):
    """A department that a message was sent to as well: it sees the inquiry that another answers."""

    __tablename__ = "addressee"
    department: str = Field(foreign_key="department.slug", primary_key=True)
    inquiry_id: int = Field(foreign_key="inquiry.id", primary_key=True, index=True)


class Message(Table, table=True):
    """One message of an inquiry's thread: in, out, or a note of the house."""

    __tablename__ = "message"
    __table_args__ = (
        UniqueConstraint("channel", "external_id"),
        Index("ix_message_thread", "inquiry_id", "id"),
        Index("ix_message_message_id", "message_id"),
    )
    id: int | None = Field(default=None, primary_key=True)
    inquiry_id: int = Field(foreign_key="inquiry.id")
    channel: str
    external_id: str
    direction: Direction = Field(sa_type=enum_column(Direction))
    kind: str
    sender_name: str = ""
    sender_address: str = ""
    recipients: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    subject: str = ""
    text: str = Field(default="", sa_column=Column(Text, nullable=False))
    has_html: bool = False
    """Whether the original has a formatted version; it is made safe each time it is looked at."""
    at: datetime
    message_id: str = ""
    reply_to: str = ""
    staff_id: int | None = Field(default=None, foreign_key="staff.id")
    arrival_id: int | None = Field(default=None, foreign_key="arrival.id")
    delivery: str = ""
    delivery_detail: str = ""
    defects: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    sender_check: str = ""
    marks: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))


class StoredAttachment(Table, table=True):
    """A file of a message; the bytes lie content-addressed in the data directory."""

    __tablename__ = "attachment"
    id: int | None = Field(default=None, primary_key=True)
    message_id: int = Field(foreign_key="message.id", index=True)
    filename: str
    content_type: str
    size: int
    sha256: str = Field(index=True)
    content_id: str = ""
    inline: bool = False


class RemoteFile(Table, table=True):
    """A file that came with a text and lies at the provider until it is ours and theirs is gone."""

    __tablename__ = "remote_file"
    __table_args__ = (
        Index(
            "ix_remote_file_open",
            "next_at",
            "id",
            sqlite_where=text("state IN ('announced', 'fetched')"),
            postgresql_where=text("state IN ('announced', 'fetched')"),
        ),
    )
    id: int | None = Field(default=None, primary_key=True)
    message_id: int = Field(foreign_key="message.id", index=True)
    url: str
    content_type: str = ""
    """As the provider says; decides nothing."""
    state: str = "announced"
    """announced, fetched (stored with us), deleted (at the provider), failed."""
    attempts: int = 0
    next_at: datetime
    detail: str = ""
    created_at: datetime


class RulesetVersion(Table, table=True):
    """Every ruleset that was ever in force, by its hash: decisions stay reproducible."""

    __tablename__ = "ruleset"
    hash: str = Field(primary_key=True)
    content: str = Field(sa_column=Column(Text, nullable=False))
    loaded_at: datetime


class DecisionRecord(Table, table=True):
    """Why an inquiry went where it went: by rule, or by a person's transfer."""

    __tablename__ = "decision"
    id: int | None = Field(default=None, primary_key=True)
    inquiry_id: int = Field(foreign_key="inquiry.id", index=True)
    at: datetime
    department: str
    rule: str = ""
    reason: str
    reason_text: str
    ruleset: str = ""
    staff_id: int | None = Field(default=None, foreign_key="staff.id")
    trace: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    presence: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))


class Event(Table, table=True):
    """Append-only log of what happened; the live stream reads it. No message text, no addresses.
    Where people were is forgotten after a while, see `router.presence`."""

    __tablename__ = "event"
    # AUTOINCREMENT: ids of deleted tail rows are never given out again, so a cursor skips nothing.
    __table_args__ = (
        Index("ix_event_inquiry", "inquiry_id", "id"),
        Index(
            "ix_event_presence",
            "at",
            sqlite_where=text("kind = 'presence_changed'"),
            postgresql_where=text("kind = 'presence_changed'"),
        ),
        {"sqlite_autoincrement": True},
    )
    id: int | None = Field(default=None, primary_key=True)
    at: datetime
    kind: str
    inquiry_id: int | None = Field(default=None, foreign_key="inquiry.id")
    department: str = ""
    staff_id: int | None = Field(default=None, foreign_key="staff.id")
    once: str | None = Field(default=None, unique=True)
    data: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))


class OutboxItem(Table, table=True):
    """A message on its way out. Ids, times and text are fixed when the row is written."""

    __tablename__ = "outbox"
    __table_args__ = (
        Index(
            "ix_outbox_due",
            "next_at",
            "id",
            sqlite_where=text("state = 'queued'"),
            postgresql_where=text("state = 'queued'"),
        ),
        # All that the brakes on automatic letters ask for: they count without looking at a row.
        Index("ix_outbox_mailbox", "mailbox", "kind", "channel", "created_at"),
        Index("ix_outbox_domain", "recipient_domain", "kind", "channel", "created_at"),
        Index("ix_outbox_kind", "kind", "channel", "created_at"),
        Index("ix_outbox_inquiry", "inquiry_id"),
        Index(
            "ix_outbox_unsent",
            "state",
            "id",
            sqlite_where=text("state NOT IN ('sent', 'delivered')"),
            postgresql_where=text("state NOT IN ('sent', 'delivered')"),
        ),
        Index(
            "ix_outbox_provider",
            "provider_id",
            sqlite_where=text("channel = 'sms'"),
            postgresql_where=text("channel = 'sms'"),
        ),
    )
    id: int | None = Field(default=None, primary_key=True)
    channel: str
    kind: str
    message_id: str = Field(unique=True)
    inquiry_id: int = Field(foreign_key="inquiry.id")
    thread_message_id: int | None = Field(default=None, foreign_key="message.id")
    arrival_id: int | None = Field(default=None, foreign_key="arrival.id")
    recipient: str
    mailbox: str = ""
    """Where it ends up however the recipient is spelled: what automatic letters are counted by."""
    recipient_domain: str = ""
    """Of the mailbox."""
    payload: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    state: str = "queued"
    """queued, sending (only where a second attempt would be a second message), sent, delivered,
    uncertain, failed."""
    attempts: int = 0
    next_at: datetime
    lease_until: datetime | None = None
    created_at: datetime
    trying_since: datetime
    """When it was written, or when a person last asked for another try: the patience counts from
    here."""
    sent_at: datetime | None = None
    provider_id: str = ""
    detail: str = ""


class Lease(Table, table=True):
    """What only one service at a time may do, and which one does."""

    __tablename__ = "lease"
    name: str = Field(primary_key=True)
    holder: str
    until: datetime


class Counter(Table, table=True):
    """A number that is kept, not counted: running references, open inquiries per department."""

    __tablename__ = "counter"
    name: str = Field(primary_key=True)
    value: int = 0
