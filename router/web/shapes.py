"""What goes in and out of the JSON interface: one class for each body, with what its fields mean.

Text that comes in is tidied at this door: NFC, no control characters.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from channels import web as web_door
from channels.text import nfc
from router.chat_models import TalkOutcome
from router.errors import NotFoundError
from router.files import MANY
from router.models import Direction, InquiryStatus, ReplyState
from router.presence import NOTE_LENGTH
from router.web.rows import LARGEST
from rules.presence import State

REF = re.compile(r"[A-Za-z0-9-]{1,40}")
"""What a reference may look like."""


def clean(text: str) -> str:
    """NFC, line ends as LF, without NUL and the other control characters."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    kept = (c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")
    return nfc("".join(kept))


def one_line(text: str) -> str:
    """`clean`, with every run of white space as one blank."""
    return " ".join(clean(text).split())


def _known_ref(ref: str) -> str:
    if not REF.fullmatch(ref):
        raise NotFoundError  # not a ValueError: an address that cannot exist is 404, not 422
    return ref.upper()


def _rfc3339(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")


Body = Annotated[str, AfterValidator(clean)]
Line = Annotated[str, AfterValidator(one_line)]
Instant = Annotated[datetime, PlainSerializer(_rfc3339, when_used="json")]
Ref = Annotated[
    str,
    AfterValidator(_known_ref),
    Path(description="Reference of the inquiry.", examples=["S-2026-000123"]),
]


RowId = Annotated[int, Field(ge=1, le=LARGEST)]
Username = Annotated[
    str, Path(description="Username of somebody who works here.", examples=["kari"])
]


class Input(BaseModel):
    """What callers send: unknown fields are refused, with the name that was probably meant."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _no_strangers(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            known = [field.alias or name for name, field in cls.model_fields.items()]
            for name in value:
                if name not in known:
                    near = difflib.get_close_matches(str(name), known, n=1)
                    hint = f" Did you mean «{near[0]}»?" if near else ""
                    raise PydanticCustomError(
                        "unknown_field",
                        "There is no field «{name}» here.{hint} Known: {known}",
                        {"name": str(name)[:40], "hint": hint, "known": ", ".join(known)},
                    )
        return value


class ListQuery(Input):
    """What to list."""

    status: Literal["", "open", "closed", "aside"] = Field(
        "", description="Open and closed when empty; `aside` is what no person wrote."
    )
    department: Line = Field("", description="Slug of a department.", examples=["vei"])
    channel: Line = Field("", examples=["email"])
    assignee: Line = Field("", description="A username, `none` for unclaimed, `me` for your own.")
    q: Line = Field("", max_length=200, description="Words in reference, subject or sender.")
    after: str = Field("", max_length=400, description="The `next` of the page before.")
    limit: int = Field(50, ge=1, description="At most 200; more is cut to that.")


class Transfer(Input):
    """Send to another department, or give to a colleague."""

    department: Line = Field("", max_length=100, examples=["vei"])
    person: Line = Field(
        "",
        max_length=200,
        description="Username of the colleague who holds it from now on. `department` is then "
        "needed only where they have several.",
        examples=["kari"],
    )
    note: Body = Field("", max_length=10_000, description="For the one who takes over.")


class Return(Input):
    """Send back to the switchboard."""

    reason: Body = Field(max_length=10_000, examples=["Gjelder fylkesvei, ikke kommunal vei."])


class NewAttachment(Input):
    """A file that goes with a reply."""

    filename: Line = Field(max_length=300, examples=["vedtak.pdf"])
    content_type: Line = Field(
        "",
        max_length=200,
        description="Counts only where it agrees with what is in the file.",
        examples=["application/pdf"],
    )
    content_base64: str = Field(description="The bytes, in base64 (RFC 4648 §4).")


class Reply(Input):
    """Answer the resident."""

    text: Body = Field(max_length=100_000)
    attachments: list[NewAttachment] = Field(
        [], max_length=MANY, description="20 MB together, before base64."
    )
    close: bool = Field(False, description="Close the inquiry with this answer.")
    version: int | None = Field(None, description="What you read; refused (409) if it has changed.")


class Note(Input):
    """Write an internal note."""

    text: Body = Field(max_length=100_000)


class Close(Input):
    """Close, if nothing came in between."""

    outcome: TalkOutcome | None = Field(
        None, description="What became of it. With `casework` a chat stays open, as an inquiry."
    )
    version: int | None = Field(None, description="What you read; refused (409) if it has changed.")


class Sender(Input):
    """Who asks. An e-mail address or a telephone number is needed."""

    name: Line = Field("", max_length=200)
    email: Line = Field("", max_length=320, examples=["kari@example.no"])
    phone: Line = Field("", max_length=40)


class NewInquiry(Input):
    """A form that somebody filled in."""

    channel: Literal["web"] = "web"
    sender: Sender = Field(alias="from")
    subject: Line = Field("", max_length=500)
    text: Body = Field(max_length=web_door.TEXT_LIMIT)
    language: Literal["", "nb", "nn", "en"] = ""


class Question(Input):
    """A contact that has not happened."""

    channel: Line = Field("email", max_length=20)
    to: Line = Field("", max_length=320, description="The address of ours it was sent to.")
    sender: Line = Field("", alias="from", max_length=320)
    subject: Line = Field("", max_length=1000)
    text: Body = Field("", max_length=200_000)


class PeopleQuery(Input):
    """Whom to list."""

    q: Line = Field("", max_length=100, description="Beginnings of words in name or department.")
    department: Line = Field("", description="Slug of a department.", examples=["vei"])


class NewPresence(Input):
    """Where somebody is."""

    state: Literal["available", "meeting", "busy", "away", "home_office", "absent"]
    until: AwareDatetime | date | Literal["day"] | None = Field(
        None,
        description="An instant; a date, the day they are back; `day`, until closing time. "
        "Two hours when left out, 60 days at most.",
        examples=["2026-11-24T14:00:00+01:00", "2026-12-01", "day"],
    )
    text: Line = Field(
        "",
        max_length=NOTE_LENGTH,
        description="A note for operators and the person, never shown to others.",
    )


class ContactQuery(Input):
    """Whom to look for."""

    q: Line = Field(max_length=200, description="Number, address or name.", examples=["900 00 001"])


class Merge(Input):
    """Two contacts are one person."""

    other: RowId = Field(description="The contact that becomes part of this one.")


class Split(Input):
    """An address is another person's."""

    address: RowId = Field(description="Id of the address.")


class Undo(Input):
    """Take a merge or a split back."""

    move: RowId = Field(description="Id of the merge or split.")


class Item(BaseModel):
    """An inquiry as a line of the queue."""

    model_config = ConfigDict(from_attributes=True)

    ref: str = Field(examples=["S-2026-000123"])
    channel: str = Field(examples=["email"])
    kind: str
    status: InquiryStatus
    subject: str = Field(examples=["Hull i veien ved skolen"])
    department: str = Field(examples=["vei"])
    assignee: str | None = Field(description="Username of who has claimed it.")
    received_at: Instant
    due_at: Instant = Field(description="By when an answer is owed.")
    reply_state: ReplyState
    language: str = Field(examples=["nb"])
    tags: list[str]
    emergency: bool = Field(description="The text names danger to life or health.")
    sensitivity: str = Field(description="`sensitive` or empty.")
    overdue: bool
    version: int = Field(description="Grows with every change.")


class Listing(BaseModel):
    """One page, in queue order."""

    items: list[Item]
    next: str | None = Field(description="Give it as `after` for the next page; null on the last.")


class AddressView(BaseModel):
    """One way to reach a contact."""

    channel: str
    value: str


class ContactView(BaseModel):
    """The person outside."""

    id: int | None = Field(description="null: somebody who showed no address.")
    name: str
    addresses: list[AddressView]


class ContactAddressView(AddressView):
    """An address of a contact."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    opted_out_at: Instant | None = Field(
        description="When they asked for no more texts; null: they may be sent."
    )


class ContactInquiry(BaseModel):
    """An inquiry of a contact."""

    ref: str = Field(examples=["S-2026-000123"])
    channel: str = Field(examples=["sms"])
    status: InquiryStatus
    subject: str
    department: str = Field(examples=["vei"])
    received_at: Instant


class MoveView(BaseModel):
    """A merge or a split."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    at: Instant
    staff: str = Field(validation_alias="staff_name", description="Name of who did it.")
    split: bool
    here: bool = Field(description="Whether the addresses came to this contact, not from it.")
    addresses: list[str]
    undone_at: Instant | None


class ContactCard(BaseModel):
    """A person outside with addresses and inquiries."""

    id: int
    name: str
    addresses: list[ContactAddressView]
    inquiries: list[ContactInquiry]
    moves: list[MoveView] = Field(description="The latest first; empty for all but operators.")


class FoundContact(BaseModel):
    """A person who fits."""

    id: int
    name: str
    addresses: list[AddressView]
    inquiries: int = Field(description="How many.")


class Contacts(BaseModel):
    """Contacts that match, the latest first."""

    items: list[FoundContact]


class AttachmentView(BaseModel):
    """A file of a message."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    filename: str
    content_type: str
    size: int
    inline: bool


class MessageView(BaseModel):
    """One message of the thread."""

    id: int
    direction: Direction
    kind: str = Field(examples=["contact", "reply", "receipt", "note"])
    channel: str
    sender: str = Field(serialization_alias="from", description="Address; empty for a note.")
    sender_name: str
    to: list[str]
    subject: str
    text: str
    at: Instant
    delivery: str = Field(
        description="Of what we sent: queued, sending, sent, delivered, uncertain, failed."
    )
    delivery_detail: str
    has_html: bool = Field(description="Whether the original has a formatted version.")
    sender_check: str = Field(
        description="Of what came in: unknown, verified, failed.", examples=["verified"]
    )
    marks: list[str] = Field(
        description="Among signed, encrypted, calendar, quarantined, unscanned."
    )
    attachments: list[AttachmentView]
    files_waiting: int = Field(description="Files that are still to be fetched from a provider.")
    files_lost: int = Field(description="Files that could not be fetched.")
    parts: int = Field(description="Of a text of ours: in how many parts it is sent.")


class DecisionView(BaseModel):
    """Why the inquiry went to a department."""

    model_config = ConfigDict(from_attributes=True)

    at: Instant
    department: str
    rule: str = Field(description="Empty when a person decided.")
    reason: str = Field(description="Code.", examples=["words"])
    reason_text: str = Field(description="One sentence in Norwegian.")
    ruleset: str = Field(description="Hash of the rules in force.")
    trace: dict[str, Any]


class EventView(BaseModel):
    """One line of the history."""

    id: int
    at: Instant
    kind: str = Field(examples=["claimed"])
    department: str
    staff: str = Field(description="Name of who did it; empty when nobody did.")
    data: dict[str, Any]


class Detail(Item):
    """An inquiry with its thread and its history."""

    contact: ContactView
    messages: list[MessageView]
    decisions: list[DecisionView]
    events: list[EventView]
    may_belong_to: str | None = Field(description="Reference of an inquiry it may belong to.")
    reply_channel: str = Field(description="How a reply would go; empty when in no way.")
    reply_address: str = Field(description="Where a reply would go; empty when nowhere.")
    reply_refusal: str = Field(description="Why nowhere.")
    no_texts: list[str] = Field(description="Numbers that have asked for no more texts.")
    reply_end: str = Field(description="What is added under a reply by text.")


class PresenceView(BaseModel):
    """Somebody who works here, and whether they can be reached."""

    staff: str = Field(description="Username.", examples=["kari"])
    name: str = Field(examples=["Kari Nordmann"])
    departments: list[str] = Field(examples=[["byggesak"]])
    phone: str = Field(description="The number that leads to them, or empty.")
    deputy: str = Field(description="Username of who answers instead, or empty.")
    state: State
    until: Instant | None = Field(
        description="When it is over; of who cannot be reached by phone, when they are back."
    )
    reach_phone: bool | None = Field(description="null: nobody knows.")
    reach_chat: bool | None = Field(description="null: nobody knows.")
    text: str = Field(description="Note; empty for all but operators and the person.")
    set_by: str = Field(description="Username of who said so; empty as `text` is.")


class People(BaseModel):
    """Everybody who fits, by name."""

    items: list[PresenceView]


class Receipt(BaseModel):
    """What the sender of a form may be told."""

    ref: str = Field(examples=["S-2026-000123"])
    due_at: Instant
    department: str


class Explanation(BaseModel):
    """What the rules would decide, and why."""

    model_config = ConfigDict(from_attributes=True)

    department: str
    kind: str
    tags: list[str]
    language: str
    emergency: bool
    reason: str
    reason_text: str
    ruleset: str
    trace: dict[str, Any]


class Meaning(BaseModel):
    """What a kind of problem means."""

    code: str
    meaning: str
