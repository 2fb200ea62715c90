"""What we write by ourselves, as outbox rows, and the brakes on it."""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, func, select
from sqlmodel import Session, col

from channels.base import Address, Mark, MessageKind, Outgoing, OutgoingKind
from channels.email.addresses import mailbox
from router import letters, texting
from router.letters import phone_in_words
from router.models import Direction, Inquiry, Message, OutboxItem, StoredAttachment
from router.outbox import row
from router.sections import Receipts
from router.statements import Prepared as Statement

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from zoneinfo import ZoneInfo

    from router.preparing import Prepared
    from router.sections import Department
    from router.settings import Settings
    from router.tokens import Signer

_TABLE: Any = OutboxItem.__table__  # type: ignore[attr-defined]

TEXTS = texting.CHANNEL


@dataclass(frozen=True, slots=True)
class Letterhead:
    """What every letter carries: who we are, how to reach us, and the signer of reply addresses."""

    municipality: str
    phone: str
    sender: str
    domain: str
    public_url: str
    zone: ZoneInfo
    signer: Signer
    departments: Mapping[str, Department]
    per_sender_per_day: int
    per_inquiry_per_day: int
    per_domain_per_hour: int
    per_hour: int
    owners: Mapping[str, str]
    """Each address of one department -> its slug; not those of the whole house."""
    text_numbers: tuple[str, ...] = ()
    """Our numbers that texts are sent from, the usual one first; none where we send no texts."""
    text_receipts: Receipts = field(default_factory=Receipts)
    xmpp_domain: str = ""
    """What our XMPP addresses are under; empty where there are none."""

    def most(self, limit: str, channel: str = "email") -> int:
        """How many automatic letters a limit allows, by the name it has in the settings."""
        return int(getattr(self.text_receipts if channel == TEXTS else self, limit))

    def is_own(self, address: str) -> bool:
        """Whether mail to this address comes back to us."""
        return address.rpartition("@")[2] == self.domain or any(
            address in department.addresses for department in self.departments.values()
        )

    def reply_address(self, inquiry_id: int) -> str:
        """Where an answer to our letter finds its inquiry."""
        return f"svar+{self.signer.sign('reply', inquiry_id)}@{self.domain}"

    def return_path(self, message_id: int) -> str:
        """Where a bounce of this message finds it (VERP)."""
        return f"retur+{self.signer.sign('return', message_id)}@{self.domain}"

    def forward_path(self, inquiry_id: int) -> str:
        """Where a bounce of what was forwarded of an inquiry finds it (VERP)."""
        return f"retur+{self.signer.sign('forward', inquiry_id)}@{self.domain}"

    def new_message_id(self, inquiry_id: int) -> str:
        """A Message-ID that later proves which inquiry it belongs to."""
        token = self.signer.sign("message-id", inquiry_id)
        return f"<{token}.{secrets.token_hex(8)}@{self.domain}>"

    def inquiry_of(self, message_id: str) -> int | None:
        """The inquiry a Message-ID of ours was issued for; None for everybody else's."""
        local, _, domain = message_id.strip().strip("<>").rpartition("@")
        if domain.lower() != self.domain:
            return None
        return self.signer.verify("message-id", local.partition(".")[0])

    def status_url(self, inquiry_id: int) -> str:
        """The resident's own page of an inquiry."""
        return f"{self.public_url}/status/{self.signer.sign('status', inquiry_id)}"


class _Answering(dict[str, "Department"]):
    """Slug -> the department that answers: the default one in place of one that has been removed
    from the configuration."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.departments)
        self._default = settings.municipality.default_department

    def __missing__(self, slug: str) -> Department:
        return self[self._default]


def letterhead(settings: Settings, signer: Signer, zone: ZoneInfo) -> Letterhead:
    """The letterhead of an installation."""
    email = settings.channels.email
    return Letterhead(
        municipality=settings.municipality.name,
        phone=phone_in_words(settings.municipality.phone),
        sender=email.sender,
        domain=email.domain.lower(),
        public_url=settings.public_url,
        zone=zone,
        signer=signer,
        departments=_Answering(settings),
        per_sender_per_day=email.receipts.per_sender_per_day,
        per_inquiry_per_day=email.receipts.per_inquiry_per_day,
        per_domain_per_hour=email.receipts.per_domain_per_hour,
        per_hour=email.receipts.per_hour,
        owners=settings.department_addresses,
        text_numbers=settings.channels.sms.numbers if settings.channels.sms.enabled else (),
        text_receipts=settings.channels.sms.receipts,
        xmpp_domain=settings.channels.xmpp.domain if settings.channels.xmpp.enabled else "",
    )


@dataclass(frozen=True, slots=True)
class _Limit:
    """One limit by the name it has in the settings; how to count what it is about."""

    name: str
    span: timedelta
    count: Statement


def _limit(name: str, column: Any, span: timedelta) -> _Limit:
    query = select(func.count()).where(
        column == bindparam("value"),
        _TABLE.c.kind == bindparam("letter"),
        _TABLE.c.channel == bindparam("door"),
        _TABLE.c.created_at > bindparam("since"),
    )
    return _Limit(name, span, Statement(lambda _dialect: query))


_PER_HOUR = _limit("per_hour", _TABLE.c.kind, timedelta(hours=1))
_PER_DOMAIN = _limit("per_domain_per_hour", _TABLE.c.recipient_domain, timedelta(hours=1))
_PER_SENDER = _limit("per_sender_per_day", _TABLE.c.mailbox, timedelta(days=1))
_PER_INQUIRY = _limit("per_inquiry_per_day", _TABLE.c.inquiry_id, timedelta(days=1))


class Brakes:
    """Limits on letters nobody wrote: per recipient, inquiry and domain, and in all.

    A robot that answers each of them runs dry, also one that changes its address or its domain.
    Each kind of letter has a count of its own on each channel, so that receipts never use up
    emergency answers, nor mail the texts.
    """

    def __init__(self, session: Session, head: Letterhead, now: datetime) -> None:
        self._connection = session.connection()
        self._head = head
        self._now = now
        self._counts: dict[tuple[str, str, OutgoingKind, object], int] = {}

    def limit(
        self,
        kind: OutgoingKind,
        address: str,
        inquiry_id: int | None = None,
        channel: str = "email",
    ) -> str:
        """The limit that stands against another letter of this kind to an address, by the name it
        has in the settings; empty when it may go, and then it is counted.

        `inquiry_id` is for a letter in an old thread; a new inquiry has had none.
        """
        address = mailbox(address)
        about: list[tuple[_Limit, object]] = [(_PER_HOUR, kind.value)]
        if channel != TEXTS:  # numbers have no domain
            about.append((_PER_DOMAIN, _domain(address)))
        if kind is not OutgoingKind.FORWARD:
            about.append((_PER_SENDER, address))
        if inquiry_id is not None:
            about.append((_PER_INQUIRY, inquiry_id))
        for limit, value in about:
            if self._count(limit, channel, kind, value) >= self._head.most(limit.name, channel):
                return limit.name
        for limit, value in about:
            self._counts[limit.name, channel, kind, value] += 1
        return ""

    def allow(self, kind: OutgoingKind, address: str) -> bool:
        """Whether another letter of this kind may go to an address; counts it when so."""
        return not self.limit(kind, address)

    def _count(self, limit: _Limit, channel: str, kind: OutgoingKind, value: object) -> int:
        key = (limit.name, channel, kind, value)
        if key not in self._counts:
            since = self._now - limit.span
            row = {"value": value, "letter": kind.value, "door": channel, "since": since}
            self._counts[key] = limit.count.one(self._connection, row)[0]
        return self._counts[key]


def _domain(address: str) -> str:
    return address.rpartition("@")[2]


def is_forwarded(head: Letterhead, item: Prepared) -> bool:
    """Whether a contact goes on to an external body by itself.

    Not when it is sensitive, urgent, infected, from a robot, or from that body: it would go round
    and round.
    """
    department = head.departments[item.decision.department]
    incoming = item.incoming
    sender = incoming.sender.value if incoming.sender is not None else ""
    body = str(department.forward_to)
    return bool(
        department.external
        and body
        and not item.decision.sensitivity
        and not item.decision.emergency
        and incoming.kind is MessageKind.CONTACT
        and incoming.channel != "chat"  # a talk is under way
        and Mark.QUARANTINED not in incoming.marks
        and _domain(sender) != _domain(body)
    )


def also_addressed(
    head: Letterhead, addresses: Sequence[str], answering: str, sensitivity: str
) -> list[str]:
    """The departments beside the answering one that a message to several of our addresses was for.

    None when there is one address, where the rules may have sent it elsewhere with reason, and
    none when it is sensitive: then only who answers needs to know.
    """
    if len(addresses) < 2 or sensitivity:
        return []
    return sorted({head.owners[a] for a in addresses if a in head.owners} - {answering})


def receipt_row(
    head: Letterhead,
    item: Prepared,
    inquiry_id: int,
    ref: str,
    forwarded: bool | None,
    now: datetime,
) -> dict[str, Any]:
    """The automatic receipt; headed by the emergency numbers when the contact sounds like an
    emergency.

    `forwarded` is None for a later message of a thread, which has its receipt already.
    """
    incoming, decision = item.incoming, item.decision
    if incoming.channel == TEXTS:
        return texting.receipt_row(head, item, inquiry_id, ref, forwarded, now)
    language = letters.letter_language(incoming.language)
    department = head.departments[decision.department]
    name = "receipt_sensitive" if decision.sensitivity else "receipt"
    if department.external and not decision.sensitivity:
        name = "receipt_external" if forwarded else "referred_external"
    if decision.emergency:
        name = "emergency"
    first, *others = letters.letter_languages(incoming.language)
    due = {code: letters.moment_in_words(item.due.due_at, head.zone, code) for code in others}
    text = _text(head, name, inquiry_id, ref, department, {first: item.due_in_words} | due)
    kind = OutgoingKind.RECEIPT
    subject = f"{letters.TEXTS[language]['receipt_subject']} [{ref}]"
    if decision.emergency:
        kind = OutgoingKind.EMERGENCY
        subject = f"{letters.TEXTS[language]['emergency_subject']} [{ref}]"
    return _row(
        head,
        inquiry_id,
        kind,
        incoming.sender or Address("email", ""),
        subject,
        text,
        now,
        language=language,
        chain=(*incoming.references, incoming.message_id) if incoming.message_id else (),
        arrival_id=item.arrival_id,
    )


def _text(
    head: Letterhead,
    name: str,
    inquiry_id: int,
    ref: str,
    department: Department,
    due: Mapping[str, str],
) -> str:
    """A letter to a resident in each language of `due`, which says when they have an answer."""
    return letters.BETWEEN.join(
        letters.write(
            language,
            name,
            ref=ref,
            department=department.name.get(language),
            due=words,
            status_url=head.status_url(inquiry_id),
            municipality=head.municipality,
            phone=head.phone,
            website=department.website,
        )
        for language, words in due.items()
    )


def forward_row(
    head: Letterhead, item: Prepared, inquiry_id: int, ref: str, now: datetime
) -> dict[str, Any]:
    """The contact on its way to the external body that the rules chose."""
    unchecked = Mark.UNSCANNED in item.incoming.marks
    return _forward_row(
        head,
        head.departments[item.decision.department],
        Forwarded(
            inquiry_id,
            ref,
            item.incoming.subject,
            item.incoming.sender or Address("email", ""),
            item.received_at,
            item.incoming.text,
            item.incoming.language,
            left_out=bool(item.files) and unchecked,
        ),
        now,
        automatic=True,
        arrival_id=item.arrival_id,
        files=[] if unchecked else [asdict(file) for file in item.files],
    )


def handover_rows(
    session: Session, head: Letterhead, inquiry: Inquiry, now: datetime
) -> list[dict[str, Any]]:
    """The letters of a transfer to an external body by hand: to the body, and to the resident.

    None when the body takes no forwarded mail.
    """
    department = head.departments[inquiry.department]
    if not department.external or not department.forward_to:
        return []
    language = letters.letter_language(inquiry.language)
    incoming = list(
        session.execute(
            select(Message)
            .where(col(Message.inquiry_id) == inquiry.id, col(Message.direction) == Direction.IN)
            .order_by(col(Message.id))
        ).scalars()
    )
    unchecked = {message.id for message in incoming if Mark.UNSCANNED in message.marks}
    files = list(
        session.execute(
            select(StoredAttachment).where(
                col(StoredAttachment.message_id).in_(
                    [message.id for message in incoming if Mark.QUARANTINED not in message.marks]
                )
            )
        ).scalars()
    )
    resident = Address("email", inquiry.sender_address, inquiry.sender_name)
    forwarded = Forwarded(
        inquiry.id or 0,
        inquiry.ref,
        inquiry.subject,
        resident,
        inquiry.received_at,
        "\n\n---\n\n".join(message.text for message in incoming),
        language,
        left_out=any(file.message_id in unchecked for file in files),
    )
    rows = [
        _forward_row(
            head,
            department,
            forwarded,
            now,
            files=[
                {
                    "filename": file.filename,
                    "content_type": file.content_type,
                    "sha256": file.sha256,
                    "content_id": file.content_id,
                    "inline": file.inline,
                }
                for file in files
                if file.message_id not in unchecked
            ],
        )
    ]
    if "@" in resident.value:
        chain = tuple(message.message_id for message in incoming if message.message_id)
        rows.append(_notice_row(head, department, forwarded, chain, now))
    elif inquiry.channel == TEXTS and not texting.hindrance(session, head, resident.value):
        rows.append(texting.notice_row(head, inquiry, now))
    return rows


@dataclass(frozen=True, slots=True)
class Forwarded:
    """What an external body gets to see of an inquiry."""

    inquiry_id: int
    ref: str
    subject: str
    resident: Address
    received_at: datetime
    text: str
    language: str
    """The resident's."""
    left_out: bool = False
    """Whether files stay here because nobody has checked them for viruses yet."""


def _forward_row(
    head: Letterhead,
    department: Department,
    inquiry: Forwarded,
    now: datetime,
    *,
    automatic: bool = False,
    arrival_id: int | None = None,
    files: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """A letter to an external body (forvaltningsloven § 11), in our language, not the
    resident's; `automatic` when the rules sent it and no person."""
    language = "nb"
    resident = inquiry.resident
    who = f"{resident.name} <{resident.value}>" if resident.name else resident.value
    return _row(
        head,
        inquiry.inquiry_id,
        OutgoingKind.FORWARD,
        Address("email", str(department.forward_to), department.name.nb),
        letters.write(
            language,
            "forward_subject",
            municipality=head.municipality,
            subject=inquiry.subject or letters.TEXTS[language]["no_subject"],
        ),
        letters.write(
            language,
            "forward",
            department=department.name.get(language),
            ref=inquiry.ref,
            sender=who,
            received=letters.moment_in_words(inquiry.received_at, head.zone, language),
            text=f"{inquiry.text}\n\n{letters.write(language, 'forward_unchecked')}"
            if inquiry.left_out
            else inquiry.text,
            municipality=head.municipality,
            phone=head.phone,
        ),
        now,
        language=language,
        # Not the null sender: the resident was told that it went on, so a bounce must be seen.
        return_path=head.forward_path(inquiry.inquiry_id),
        automatic=automatic,
        arrival_id=arrival_id,
        files=files,
    )


def _notice_row(
    head: Letterhead,
    department: Department,
    inquiry: Forwarded,
    chain: tuple[str, ...],
    now: datetime,
) -> dict[str, Any]:
    """Tells the resident who answers now (forvaltningsloven § 11)."""
    language = letters.letter_language(inquiry.language)
    return _row(
        head,
        inquiry.inquiry_id,
        OutgoingKind.RECEIPT,
        inquiry.resident,
        letters.tagged_subject(inquiry.subject, inquiry.ref, language),
        _text(
            head,
            "receipt_external",
            inquiry.inquiry_id,
            inquiry.ref,
            department,
            dict.fromkeys(letters.letter_languages(inquiry.language), ""),
        ),
        now,
        language=language,
        chain=chain,
    )


def _row(
    head: Letterhead,
    inquiry_id: int,
    kind: OutgoingKind,
    to: Address,
    subject: str,
    text: str,
    now: datetime,
    *,
    language: str,
    chain: tuple[str, ...] = (),
    return_path: str = "",
    automatic: bool = True,
    arrival_id: int | None = None,
    files: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """A letter from the municipality, not from a department; `chain` are Message-IDs, the answered
    one last (RFC 5322 §3.6.4)."""
    letter = Outgoing(
        channel="email",
        kind=kind,
        message_id=head.new_message_id(inquiry_id),
        created_at=now,
        to=to,
        sender=Address("email", head.sender, head.municipality),
        subject=subject,
        text=text,
        reply_to=head.reply_address(inquiry_id),
        return_path=return_path,
        in_reply_to=chain[-1] if chain else "",
        references=chain,
        language=language,
        automatic=automatic,
    )
    return row(letter, inquiry_id, None, now, arrival_id=arrival_id, files=files)
