"""The contact form on the municipality's own page: a submission becomes an arrival like any
other."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

import orjson

from channels.base import Address, Envelope, Incoming, RawArrival, RejectedError
from channels.numbers import e164
from channels.text import nfc, typed

if TYPE_CHECKING:
    from datetime import datetime

CHANNEL = "web"
TEXT_LIMIT = 100_000
"""Characters of one submission; far more than anybody writes by hand."""


@dataclass(frozen=True, slots=True)
class FormSubmission:
    """What a person filled in, without lone surrogates. `key` makes a double click one
    submission."""

    key: str
    name: str
    email: str
    phone: str
    subject: str
    text: str
    language: str = ""

    def __post_init__(self) -> None:
        # JSON may spell them; no store and no page takes them.
        for field in fields(self):
            value: str = getattr(self, field.name)
            object.__setattr__(self, field.name, value.encode("utf-8", "replace").decode("utf-8"))


def check(form: FormSubmission) -> dict[str, str]:
    """What is wrong with a submission: field name -> code (`missing`, `invalid`, `too_long`);
    empty when fine."""
    problems: dict[str, str] = {}
    if not form.text.strip():
        problems["text"] = "missing"
    elif len(form.text) > TEXT_LIMIT:
        problems["text"] = "too_long"
    if len(form.subject) > 500:
        problems["subject"] = "too_long"
    if len(form.name) > 200:
        problems["name"] = "too_long"
    if not form.email.strip() and not form.phone.strip():
        problems["email"] = "missing"
    if form.email.strip() and not email_address(form.email):
        problems["email"] = "invalid"
    if form.phone.strip() and not e164(form.phone):
        problems["phone"] = "invalid"
    return problems


def arrival(form: FormSubmission, recipient: str, now: datetime) -> RawArrival:
    """The submission as it is journaled. Raises `RejectedError` when `check` finds problems."""
    if check(form):
        raise RejectedError
    raw = orjson.dumps(asdict(form), option=orjson.OPT_SORT_KEYS)
    key = form.key or hashlib.sha256(raw).hexdigest()
    return RawArrival(CHANNEL, key, now, {"recipients": [recipient]}, raw)


def parse(raw: bytes, envelope: Envelope, external_id: str) -> Incoming:
    """Bytes of `arrival` -> `Incoming`. The answer goes by e-mail where an address was given."""
    form = {name: typed(value) for name, value in orjson.loads(raw).items()}
    email = email_address(form["email"])
    phone = e164(form["phone"])
    name = " ".join(form["name"].split())
    sender = Address("email", email, name) if email else Address("phone", phone, name)
    recipients = envelope.get("recipients")
    return Incoming(
        channel=CHANNEL,
        external_id=external_id,
        sender=sender,
        recipients=tuple(str(r) for r in recipients) if isinstance(recipients, list) else (),
        subject=" ".join(form["subject"].split()),
        text=form["text"].strip(),
        language=form.get("language", ""),
        phone=Address("phone", phone, name) if phone else None,
    )


def email_address(value: str) -> str:
    """The address in lower case, or empty when it cannot be one."""
    if len(value) > 1000:
        return ""
    value = nfc(value).strip().lower()
    local, _, domain = value.rpartition("@")
    fits = (
        0 < len(local) <= 64
        and len(domain) <= 253
        and "." in domain.strip(".")
        and all(label and len(label) <= 63 for label in domain.split("."))
        and not any(c.isspace() or ord(c) < 33 or c in '<>()[]\\,;:"@' for c in local + domain)
    )
    return value if fits else ""
