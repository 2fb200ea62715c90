"""The JSON interface: inquiries, their actions, forms from other sites, and why a rule decides.

Who holds a token sees what its role and department may see; everything else does not exist for
them. Text is shown with fødselsnummer masked.
"""

from __future__ import annotations

import base64
import difflib
import hashlib
import io
import re
import secrets
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Path, Query, Request, Response
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    model_validator,
)
from pydantic_core import PydanticCustomError
from sqlmodel import Session

from channels import web as web_door
from router import queue, replies, routing
from router.access import Actor
from router.errors import InvalidError, NotFoundError
from router.files import MANY, Source, keep_files
from router.models import Direction, Inquiry, InquiryStatus, ReplyState, Role
from router.preparing import KeptFile, OpenAt
from router.privacy import mask_text
from router.web.auth import ApiActor, hall_of
from router.web.problems import MEANINGS, responses

router = APIRouter(prefix="/api")

_REF = re.compile(r"[A-Za-z0-9-]{1,40}")
_KEY = re.compile(r"[\x21-\x7e]{1,200}")

# The row is read back after a change: one who sends an inquiry away still learns where it went.
_ANYONE = Actor(role=Role.ADMIN)


def clean(text: str) -> str:
    """NFC, line ends as LF, without NUL and the other control characters."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    kept = (c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")
    return unicodedata.normalize("NFC", "".join(kept))


def one_line(text: str) -> str:
    """`clean`, with every run of white space as one blank."""
    return " ".join(clean(text).split())


def _known_ref(ref: str) -> str:
    if not _REF.fullmatch(ref):
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
    """Send to another department."""

    department: Line = Field(max_length=100, examples=["vei"])
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
    """Write something only the house sees."""

    text: Body = Field(max_length=100_000)


class Close(Input):
    """Close, if nothing came in between."""

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

    name: str
    addresses: list[AddressView]


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
    delivery: str = Field(description="Of what we sent: queued, sent, uncertain, failed.")
    delivery_detail: str
    has_html: bool = Field(description="Whether the original has a formatted version.")
    sender_check: str = Field(
        description="Of what came in: unknown, verified, failed.", examples=["verified"]
    )
    marks: list[str] = Field(
        description="Among signed, encrypted, calendar, quarantined, unscanned."
    )
    attachments: list[AttachmentView]


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
    reply_address: str = Field(description="Where a reply would go; empty when nowhere.")


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


_READ = responses(401, 404, 422, 429)
_ACT = responses(400, 401, 404, 409, 413, 422, 429, 503)


@router.get("/inquiries", tags=["inquiries"], responses=responses(401, 422, 429))
def list_inquiries(
    request: Request, actor: ApiActor, wanted: Annotated[ListQuery, Query()]
) -> Listing:
    """List inquiries in queue order: open ones by urgency, then closed ones, latest first."""
    hall = hall_of(request)
    known = hall.settings.departments
    if wanted.department and wanted.department not in known:
        near = difflib.get_close_matches(wanted.department, known, n=1)
        hint = f" Did you mean «{near[0]}»?" if near else ""
        raise InvalidError(f"There is no department «{wanted.department}».{hint}")
    assignee = actor.username if wanted.assignee == "me" else wanted.assignee
    chosen = queue.Filter(wanted.status, wanted.department, wanted.channel, assignee, wanted.q)
    with hall.db.read() as session:
        page = queue.page(session, actor, chosen, wanted.after or None, wanted.limit)
    now = hall.clock()
    return Listing(items=[_item(row, now) for row in page.rows], next=page.next)


@router.get("/inquiries/{ref}", tags=["inquiries"], responses=_READ)
def read_inquiry(request: Request, actor: ApiActor, ref: Ref) -> Detail:
    """Read one inquiry with its thread, its decisions and its history."""
    hall = hall_of(request)
    with hall.db.read() as session:
        thread = replies.thread(session, actor, ref)
    return Detail(
        **_fields(thread.inquiry, hall.clock()),
        contact=ContactView(
            name=thread.contact_name,
            addresses=[AddressView(channel=c, value=v) for c, v in thread.contact_addresses],
        ),
        messages=[_message(message) for message in thread.messages],
        decisions=[DecisionView.model_validate(decision) for decision in thread.decisions],
        events=[
            EventView(
                id=event.id,
                at=event.at,
                kind=event.kind,
                department=event.department,
                staff=event.staff_name,
                data=event.data,
            )
            for event in thread.events
        ],
        may_belong_to=thread.hint_ref,
        reply_address=thread.reply_address,
    )


@router.post("/inquiries/{ref}/claim", tags=["actions"], responses=_ACT)
def claim(request: Request, actor: ApiActor, ref: Ref) -> Item:
    """Take an inquiry. 409 names who was first."""
    now = hall_of(request).clock()
    return _act(request, lambda session: queue.claim(session, actor, ref, now))


@router.post("/inquiries/{ref}/release", tags=["actions"], responses=_ACT)
def release(request: Request, actor: ApiActor, ref: Ref) -> Item:
    """Give it back to the queue of its department."""
    now = hall_of(request).clock()
    return _act(request, lambda session: queue.release(session, actor, ref, now))


@router.post("/inquiries/{ref}/transfer", tags=["actions"], responses=_ACT)
def transfer(request: Request, actor: ApiActor, ref: Ref, body: Transfer) -> Item:
    """Send it to another department; it keeps its age and its due date."""
    hall = hall_of(request)
    now, head = hall.clock(), hall.reply_context
    return _act(
        request,
        lambda session: replies.transfer(
            session, head, actor, ref, body.department, body.note, now
        ),
    )


@router.post("/inquiries/{ref}/return", tags=["actions"], responses=_ACT)
def hand_back(request: Request, actor: ApiActor, ref: Ref, body: Return) -> Item:
    """Send it back to the switchboard, with the reason."""
    now = hall_of(request).clock()
    return _act(request, lambda session: queue.hand_back(session, actor, ref, body.reason, now))


@router.post("/inquiries/{ref}/reply", tags=["actions"], responses=_ACT)
def reply(request: Request, actor: ApiActor, ref: Ref, body: Reply) -> Item:
    """Answer the resident by the channel they used; the thread shows how delivery goes."""
    hall = hall_of(request)
    now, head = hall.clock(), hall.reply_context
    files: list[KeptFile] = []
    if body.attachments:
        with hall.db.read() as session:
            replies.require_replyable(session, head, actor, ref, body.text, body.version)
        files = keep_files(hall.settings.blobs, _sources(body.attachments))
    return _act(
        request,
        lambda session: replies.reply(
            session,
            head,
            actor,
            ref,
            body.text,
            now,
            close=body.close,
            version=body.version,
            files=files,
        ),
    )


@router.post("/inquiries/{ref}/note", tags=["actions"], responses=_ACT)
def note(request: Request, actor: ApiActor, ref: Ref, body: Note) -> Item:
    """Write a note that stays in the house."""
    now = hall_of(request).clock()
    return _act(request, lambda session: queue.note(session, actor, ref, body.text, now))


@router.post("/inquiries/{ref}/close", tags=["actions"], responses=_ACT)
def close(request: Request, actor: ApiActor, ref: Ref, body: Close | None = None) -> Item:
    """Close it. Closing twice changes nothing."""
    now = hall_of(request).clock()
    version = body.version if body else None
    return _act(request, lambda session: queue.close(session, actor, ref, now, version))


@router.post("/inquiries/{ref}/reopen", tags=["actions"], responses=_ACT)
def reopen(request: Request, actor: ApiActor, ref: Ref) -> Item:
    """Open it again, with its old dates."""
    now = hall_of(request).clock()
    return _act(request, lambda session: queue.reopen(session, actor, ref, now))


@router.post(
    "/inquiries",
    tags=["inquiries"],
    status_code=201,
    responses={
        200: {"model": Receipt, "description": "This key was used before; the same answer again."},
        **responses(400, 401, 413, 422, 429, 503),
    },
)
async def new_inquiry(
    request: Request,
    response: Response,
    actor: ApiActor,
    body: NewInquiry,
    idempotency_key: Annotated[
        str,
        Header(description="Any text that names this submission; sent again, it changes nothing."),
    ] = "",
) -> Receipt:
    """Hand in a form that somebody filled in elsewhere."""
    if idempotency_key and not _KEY.fullmatch(idempotency_key):
        raise InvalidError("Idempotency-Key has 1 to 200 printable ASCII characters, no blanks.")
    # Two integrators may count from one: a key holds only for the account that sent it.
    key = hashlib.sha256(f"{actor.staff_id}:{idempotency_key}".encode()).hexdigest()
    receipt = await hall_of(request).reception.receive_form(
        web_door.FormSubmission(
            key=key if idempotency_key else secrets.token_hex(32),
            name=body.sender.name,
            email=body.sender.email,
            phone=body.sender.phone,
            subject=body.subject,
            text=body.text,
            language=body.language,
        )
    )
    if receipt.duplicate:
        response.status_code = 200
    return Receipt(ref=receipt.ref, due_at=receipt.due_at, department=receipt.department)


@router.post("/rules/explain", tags=["rules"], responses=responses(400, 401, 413, 422, 429))
def explain(request: Request, _actor: ApiActor, body: Question) -> Explanation:
    """Say where a contact would go and why. Nothing is stored."""
    hall = hall_of(request)
    now = hall.clock()
    decision = routing.explain(
        hall.ruleset,
        now,
        OpenAt(hall.hours, now),
        channel=body.channel,
        to=body.to,
        sender=body.sender,
        subject=body.subject,
        text=body.text,
    )
    return Explanation.model_validate(decision)


@router.get("/problems/{code}", tags=["problems"], responses=responses(404, 422))
def meaning_of_problem(code: str) -> Meaning:
    """Say what the `type` of a problem document means."""
    if code not in MEANINGS:
        raise NotFoundError
    return Meaning(code=code, meaning=MEANINGS[code])


def _sources(attachments: Sequence[NewAttachment]) -> list[Source]:
    found = []
    for number, file in enumerate(attachments):
        try:
            content = base64.b64decode(file.content_base64, validate=True)
        except ValueError:
            where = f"attachments.{number}.content_base64"
            raise InvalidError(f"{where}: This is not base64 (RFC 4648 §4).") from None
        found.append(Source(file.filename, file.content_type, io.BytesIO(content)))
    return found


def _act(request: Request, change: Callable[[Session], Inquiry]) -> Item:
    """Carry out a change and return the state it led to, both in one commit."""
    hall = hall_of(request)

    def job(session: Session) -> queue.QueueRow:
        inquiry = change(session)
        session.flush()
        return queue.row(session, _ANYONE, inquiry.ref)

    row = hall.db.write_sync(job)
    hall.outbox.wake()  # a change may have written letters
    return _item(row, hall.clock())


def _item(row: queue.QueueRow, now: datetime) -> Item:
    return Item(**_fields(row, now))


def _fields(row: queue.QueueRow, now: datetime) -> dict[str, Any]:
    fields: dict[str, Any] = {name: getattr(row, name, None) for name in Item.model_fields}
    unanswered = row.status is InquiryStatus.OPEN and row.answered_at is None
    return fields | {
        "subject": mask_text(row.subject),
        "assignee": row.assignee or None,
        "overdue": unanswered and row.due_at <= now,
    }


def _message(message: replies.ThreadMessage) -> MessageView:
    return MessageView(
        id=message.id,
        direction=message.direction,
        kind=message.kind,
        channel=message.channel,
        sender=message.sender_address,
        sender_name=message.staff_name or message.sender_name,
        to=message.recipients,
        subject=mask_text(message.subject),
        text=mask_text(message.text),
        at=message.at,
        delivery=message.delivery,
        delivery_detail=message.delivery_detail,
        has_html=message.has_html,
        sender_check=message.sender_check,
        marks=message.marks,
        attachments=[AttachmentView.model_validate(file) for file in message.attachments],
    )
