"""The JSON interface: inquiries, their actions, forms from other sites, and why a rule decides.

Who holds a token sees what its role and department may see; everything else does not exist for
them. Text is shown with fødselsnummer masked.
"""

from __future__ import annotations

import binascii
import difflib
import hashlib
import re
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from sqlmodel import Session

from channels import web as web_door
from router import chat_desk, passing, queue, replies, routing, thread_views
from router.access import Actor
from router.errors import InvalidError, NotFoundError
from router.files import Source, keep_files
from router.models import Inquiry, InquiryStatus, Role
from router.preparing import KeptFile, OpenAt
from router.privacy import mask_text
from router.web import downloads
from router.web.auth import ApiActor, hall_of
from router.web.messages import why_in_words
from router.web.problems import MEANINGS, responses
from router.web.rows import RowNumber
from router.web.shapes import (
    AddressView,
    AttachmentView,
    Close,
    ContactView,
    DecisionView,
    Detail,
    EventView,
    Explanation,
    Item,
    Listing,
    ListQuery,
    Meaning,
    MessageView,
    NewAttachment,
    NewInquiry,
    Note,
    Question,
    Receipt,
    Ref,
    Reply,
    Return,
    Transfer,
)

router = APIRouter(prefix="/api")

_KEY = re.compile(r"[\x21-\x7e]{1,200}")

# The row is read back after a change: one who sends an inquiry away still learns where it went.
_ANYONE = Actor(role=Role.ADMIN)


Key = Annotated[
    str,
    Header(description="Any text that names this submission; sent again, it changes nothing."),
]

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
        thread = thread_views.thread(session, hall.reply_context, actor, ref, hall.clock())
    return Detail(
        **_fields(thread.inquiry, hall.clock()),
        contact=ContactView(
            id=thread.contact_id,
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
        reply_channel=thread.reply_channel,
        reply_address=thread.reply_address,
        reply_refusal=thread.reply_refusal,
        reply_end=thread.reply_end,
        no_texts=sorted(thread.no_texts),
    )


@router.get(
    "/inquiries/{ref}/attachments/{number}",
    tags=["inquiries"],
    response_class=Response,
    responses=responses(401, 403, 404, 422, 429)
    | {200: {"description": "The file, as it came.", "content": {"*/*": {}}}},
)
def read_attachment(request: Request, actor: ApiActor, ref: Ref, number: RowNumber) -> Response:
    """Fetch a file of a message by its `id`. It is not masked; of a sensitive inquiry it is noted
    who fetched it. 403: a virus was found in the message."""
    return downloads.attached_file(hall_of(request), actor, ref, number)


@router.post("/inquiries/{ref}/claim", tags=["actions"], responses=_ACT)
def claim(request: Request, actor: ApiActor, ref: Ref) -> Item:
    """Take an inquiry. 409 names who was first, or says that you have chats enough."""
    hall = hall_of(request)
    now, capacity = hall.clock(), hall.settings.channels.chat.capacity
    return _act(request, lambda session: chat_desk.claim(session, actor, ref, capacity, now))


@router.post("/inquiries/{ref}/release", tags=["actions"], responses=_ACT)
def release(request: Request, actor: ApiActor, ref: Ref) -> Item:
    """Give it back to the queue of its department."""
    now = hall_of(request).clock()
    return _act(request, lambda session: queue.release(session, actor, ref, now))


@router.post("/inquiries/{ref}/transfer", tags=["actions"], responses=_ACT)
def transfer(request: Request, actor: ApiActor, ref: Ref, body: Transfer) -> Item:
    """Send it to another department, or give it to a colleague; it keeps its age and its due
    date."""
    hall = hall_of(request)
    now, head = hall.clock(), hall.reply_context
    if not body.person:
        return _act(
            request,
            lambda session: passing.transfer(
                session, head, actor, ref, body.department, body.note, now
            ),
        )
    return _act(
        request,
        lambda session: passing.hand_over(
            session,
            head,
            actor,
            ref,
            body.person,
            body.note,
            now,
            capacity=hall.settings.channels.chat.capacity,
            department=body.department,
        ),
    )


@router.post("/inquiries/{ref}/take-back", tags=["actions"], responses=_ACT)
def take_back(request: Request, actor: ApiActor, ref: Ref) -> Item:
    """Take back what you gave to a colleague who has done nothing with it."""
    hall = hall_of(request)
    now, head, capacity = hall.clock(), hall.reply_context, hall.settings.channels.chat.capacity
    return _act(
        request,
        lambda session: passing.take_back(session, head, actor, ref, now, capacity=capacity),
    )


@router.post("/inquiries/{ref}/return", tags=["actions"], responses=_ACT)
def hand_back(request: Request, actor: ApiActor, ref: Ref, body: Return) -> Item:
    """Send it back to the switchboard, with the reason."""
    hall = hall_of(request)
    now, head = hall.clock(), hall.reply_context
    return _act(
        request, lambda session: passing.hand_back(session, head, actor, ref, body.reason, now)
    )


@router.post("/inquiries/{ref}/reply", tags=["actions"], responses=_ACT)
def reply(
    request: Request, actor: ApiActor, ref: Ref, body: Reply, idempotency_key: Key = ""
) -> Item:
    """Answer the resident by the channel they used; the thread shows how delivery goes. A chat
    shows it at once."""
    _require_key(idempotency_key)
    hall = hall_of(request)
    now, head = hall.clock(), hall.reply_context
    files: list[KeptFile] = []
    if body.attachments:
        with hall.db.read() as session:
            replies.require_replyable(session, head, actor, ref, body.text, now, body.version)
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
            key=f"{actor.staff_id}:{idempotency_key}" if idempotency_key else "",
            capacity=hall.settings.channels.chat.capacity,
        ),
    )


@router.post("/inquiries/{ref}/note", tags=["actions"], responses=_ACT)
def note(request: Request, actor: ApiActor, ref: Ref, body: Note) -> Item:
    """Write an internal note."""
    now = hall_of(request).clock()
    return _act(request, lambda session: queue.note(session, actor, ref, body.text, now))


@router.post("/inquiries/{ref}/close", tags=["actions"], responses=_ACT)
def close(request: Request, actor: ApiActor, ref: Ref, body: Close | None = None) -> Item:
    """Close it. Closing twice changes nothing. As casework, a chat stays open."""
    hall = hall_of(request)
    now, head = hall.clock(), hall.reply_context
    version = body.version if body else None
    outcome = body.outcome if body else None
    if outcome is None:
        return _act(request, lambda session: queue.close(session, actor, ref, now, version))
    return _act(
        request,
        lambda session: chat_desk.end(session, head, actor, ref, outcome, now, version),
    )


@router.post("/inquiries/{ref}/reopen", tags=["actions"], responses=_ACT)
def reopen(request: Request, actor: ApiActor, ref: Ref) -> Item:
    """Open it again, with its old dates."""
    now = hall_of(request).clock()
    return _act(request, lambda session: chat_desk.reopen(session, actor, ref, now))


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
    idempotency_key: Key = "",
) -> Receipt:
    """Hand in a form that somebody filled in elsewhere."""
    _require_key(idempotency_key)
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


def _require_key(key: str) -> None:
    """Raises `InvalidError` for an Idempotency-Key that is none."""
    if key and not _KEY.fullmatch(key):
        raise InvalidError("Idempotency-Key has 1 to 200 printable ASCII characters, no blanks.")


def _sources(attachments: Sequence[NewAttachment]) -> list[Source]:
    return [
        Source(
            file.filename,
            file.content_type,
            _Decoded(file.content_base64, f"attachments.{number}"),
        )
        for number, file in enumerate(attachments)
    ]


class _Decoded:
    """The bytes behind base64, a piece at a time: all of 20 MB at once would hold up every other
    request."""

    def __init__(self, text: str, where: str) -> None:
        self._text = text
        self._where = where
        self._at = 0

    def read(self, size: int) -> bytes:
        """The next bytes, at most `size`. Raises `InvalidError` where it is not base64."""
        end = self._at + size // 3 * 4
        piece, self._at = self._text[self._at : end], end
        try:
            if "=" in piece and end < len(self._text):
                raise ValueError
            return binascii.a2b_base64(piece, strict_mode=True)
        except ValueError:
            where = f"{self._where}.content_base64"
            raise InvalidError(f"{where}: This is not base64 (RFC 4648 §4).") from None


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


def _message(message: thread_views.ThreadMessage) -> MessageView:
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
        delivery_detail=why_in_words("nb", message.delivery_detail),
        has_html=message.has_html,
        sender_check=message.sender_check,
        marks=message.marks,
        attachments=[AttachmentView.model_validate(file) for file in message.attachments],
        files_waiting=message.files_waiting,
        files_lost=message.files_lost,
        parts=message.parts,
    )
