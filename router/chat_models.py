"""The tables of chats: who a resident is to us, and how far each side has come.

What is said are rows of `message`, so the thread of the inquiry is the talk; see docs/chat.md.
"""

# No `from __future__ import annotations` here: SQLModel reads the annotations at class creation.
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Index, text
from sqlmodel import Field

from router.models import Table, enum_column

CHANNEL = "chat"
"""What `inquiry.channel` and `message.channel` say of it."""


class ConversationState(StrEnum):
    """How far a chat has come."""

    NEW = "new"
    """Opened; nothing has been said."""
    WAITING = "waiting"
    """Somebody waits for a first answer, in the queue's live lane."""
    TALKING = "talking"
    """We have answered."""
    DEFERRED = "deferred"
    """Nobody could answer in time: an ordinary inquiry with a reply date. Whoever answers while
    the page is open brings the talk back."""
    ENDED = "ended"
    """Left, or run out: its token opens nothing any more."""


_UNDER_WAY = text("state IN ('waiting', 'talking')")
_BY_XMPP = text("jid <> ''")
_UNREAD = text("last_out > resident_read AND last_out > mailed")


class TalkOutcome(StrEnum):
    """What became of a talk that we have ended."""

    ANSWERED = "answered"
    PASSED_ON = "passed_on"
    """Somebody else answers: another body, a page, a telephone."""
    NO_CONTACT = "no_contact"
    """The resident did not answer any more."""
    UNWANTED = "unwanted"
    """Nothing that we can help with: a joke, abuse, a test."""
    CASEWORK = "casework"
    """It takes more than a talk: an ordinary inquiry with a reply date."""


class Conversation(Table, table=True):
    """One resident in one chat. The inquiry is born with the first message."""

    __tablename__ = "conversation"
    __table_args__ = (
        Index(
            "ix_conversation_live",
            "waiting_since",
            "id",
            sqlite_where=_UNDER_WAY,
            postgresql_where=_UNDER_WAY,
        ),
        Index(
            "ix_conversation_unread",
            "last_out_at",
            "id",
            sqlite_where=_UNREAD,
            postgresql_where=_UNREAD,
        ),
        Index("ix_conversation_expires", "expires_at", "id"),
        Index("ix_conversation_answered", "answered_at"),
        Index(
            "ix_conversation_jid",
            "jid",
            "local",
            "id",
            sqlite_where=_BY_XMPP,
            postgresql_where=_BY_XMPP,
        ),
    )
    id: int | None = Field(default=None, primary_key=True)
    key: str = Field(unique=True)
    """What it is called in addresses: 128 bits of chance, worth nothing without the token."""
    token_hash: str = Field(unique=True)
    """SHA-256 of the secret in the cookie, as `tokens.hash_secret` makes it."""
    inquiry_id: int | None = Field(default=None, foreign_key="inquiry.id", index=True)
    state: ConversationState = Field(
        default=ConversationState.NEW, sa_type=enum_column(ConversationState), nullable=False
    )
    name: str = ""
    email: str = ""
    phone: str = ""
    """E.164. Name and addresses are given of one's own accord and verified by nobody."""
    language: str = "nb"
    """What the page is read in."""
    created_at: datetime
    seen_at: datetime
    """The last sign of life of the resident."""
    expires_at: datetime
    listening_until: datetime | None = None
    """The page is open until then at least; renewed while it is, and never over a crash."""
    waiting_since: datetime | None = None
    """The first message since we last answered."""
    answered_at: datetime | None = None
    """Our first answer."""
    deferred_at: datetime | None = None
    """When it became an ordinary inquiry."""
    ended_at: datetime | None = None
    outcome: TalkOutcome | None = Field(
        default=None, sa_type=enum_column(TalkOutcome), nullable=True
    )
    """None while it goes on, also when it goes on again."""
    resident_read: int = 0
    """Id of the last message of ours that the resident has seen."""
    staff_read: int = 0
    """Id of the last message of theirs that somebody at the desk has seen."""
    last_out: int = 0
    last_out_at: datetime | None = None
    """Our last message."""
    mailed: int = 0
    """Id of the last message of ours that went by letter as well, because nobody read it here."""
    transcripts: int = 0
    """How often the talk was sent by e-mail on wish."""
    jid: str = ""
    """Of a resident who writes by XMPP: their address, bare. No token opens such a conversation."""
    local: str = ""
    """The local part of ours that they write to, and that answers come from."""


class Relayed(Table, table=True):
    """How far whoever holds an inquiry has been told by XMPP what its resident wrote."""

    __tablename__ = "relayed"
    inquiry_id: int = Field(foreign_key="inquiry.id", primary_key=True)
    staff_id: int = Field(foreign_key="staff.id")
    message_id: int
    """The last message they were told of."""
