"""Texts by Twilio: what its webhooks and lists say, and how one is sent."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

from channels.base import DeliveryState, DeliveryStatus, RawArrival, Receipt, RemoteMedia
from channels.sms.base import SentText, TextIn, Window
from channels.twilio import OPTED_OUT, Webhook, in_words, json_fields

if TYPE_CHECKING:
    from collections.abc import Mapping

    from channels.base import Outgoing
    from channels.twilio import Account

CHANNEL = "sms"
API = "https://api.twilio.com"
_SID = re.compile(r"(SM|MM)[0-9a-fA-F]{32}")
_MOST_MEDIA = 10
"""Files of one text (Twilio, Messages resource, `MediaUrl`)."""

_STATES = {
    "accepted": DeliveryState.SENDING,
    "scheduled": DeliveryState.SENDING,
    "queued": DeliveryState.SENDING,
    "sending": DeliveryState.SENDING,
    "sent": DeliveryState.SENT,
    "delivered": DeliveryState.DELIVERED,
    "partially_delivered": DeliveryState.SENT,
    "read": DeliveryState.DELIVERED,
    "undelivered": DeliveryState.FAILED,
    "failed": DeliveryState.FAILED,
    "canceled": DeliveryState.FAILED,
}
"""Twilio's message statuses; what it calls queued it has taken, so for us it is on its way."""


class TwilioSms:
    """`SmsProvider` by Twilio's REST API. `status_url` is where it tells how a text fares."""

    name = "twilio"

    def __init__(self, account: Account, status_url: str) -> None:
        self._account = account
        self._status_url = status_url

    async def send(self, outgoing: Outgoing) -> Receipt:
        """Hand one text over. Raises a `ChannelError`, `UncertainError` when it may have gone."""
        # Our own id comes back with each status: so we know the text also when the answer to this
        # request is lost.
        callback = f"{self._status_url}?{urlencode({'id': outgoing.message_id})}"
        sid, status, code = await self._account.ask(
            lambda client: _taken(
                client.messages.create(
                    to=outgoing.to.value,
                    from_=outgoing.sender.value,
                    body=outgoing.text,
                    status_callback=callback,
                )
            )
        )
        detail = in_words(code) if code else f"Tatt imot av Twilio ({status})."
        return Receipt(sid, detail)

    async def since(self, at: datetime) -> Window:
        """What came and went since then, by Twilio's own list. Raises a `ChannelError`."""
        base = self._account.settings.api_url.rstrip("/") or API

        def look(client: Any) -> list[_Listed]:
            texts = [_Listed(m) for m in client.messages.list(date_sent_after=at, page_size=1000)]
            for text in texts:
                if text.direction == "inbound" and text.files:
                    media = client.messages(text.sid).media.list()
                    text.media = [(_file_url(base, one.uri), one.content_type) for one in media]
            return texts

        found = await self._account.ask(look)
        return Window(
            tuple(text.arrival() for text in found if text.direction == "inbound"),
            tuple(text.sent() for text in found if text.direction.startswith("outbound")),
        )

    async def find(self, outgoing: Outgoing) -> list[SentText]:
        """Texts in Twilio's list that may be this one. Raises a `ChannelError`."""
        since = outgoing.created_at - timedelta(minutes=1)
        found = await self._account.ask(
            lambda client: [
                _Listed(m)
                for m in client.messages.list(
                    to=outgoing.to.value,
                    from_=outgoing.sender.value,
                    date_sent_after=since,
                    page_size=1000,
                )
            ]
        )
        return [text.sent() for text in found if text.body == outgoing.text]


def _taken(message: Any) -> tuple[str, str, int]:
    return str(message.sid), str(message.status), int(message.error_code or 0)


class _Listed:
    """One message of the provider's list."""

    def __init__(self, message: Any) -> None:
        self.sid = str(message.sid)
        self.direction = str(message.direction or "")
        self.body = str(message.body or "")
        self.to = str(message.to or "")
        self.sender = str(message.from_ or "")
        self.at: datetime = message.date_sent or message.date_created or datetime.now(UTC)
        self.status = str(message.status or "")
        self.code = int(message.error_code or 0)
        self.files = int(message.num_media or 0)
        self.media: list[tuple[str, str]] = []
        self.account = str(message.account_sid or "")

    def sent(self) -> SentText:
        status = _status(self.sid, self.status, self.code)
        return SentText(status, self.to, self.sender, self.body, self.at)

    def arrival(self) -> RawArrival:
        """With the same fields and the same key as its webhook."""
        fields = {
            "MessageSid": self.sid,
            "AccountSid": self.account,
            "From": self.sender,
            "To": self.to,
            "Body": self.body,
            "NumMedia": str(len(self.media)),
        }
        for number, (url, kind) in enumerate(self.media):
            fields |= {f"MediaUrl{number}": url, f"MediaContentType{number}": kind}
        return arrival(Webhook(fields, urlencode(fields).encode()), self.at)


def _file_url(base: str, uri: str) -> str:
    """Where the file itself lies; `uri` is that of its description."""
    return base + uri.removesuffix(".json")


def arrival(webhook: Webhook, received_at: datetime) -> RawArrival:
    """A webhook as it is journaled, under the provider's own id."""
    # Without an id there is nothing to know it by again but what it says.
    key = message_sid(webhook.fields) or hashlib.sha256(webhook.raw).hexdigest()
    return RawArrival(CHANNEL, key, received_at, {"provider": "twilio"}, webhook.raw)


def message_sid(form: Mapping[str, str]) -> str:
    """The id of a message, whichever of its three names it goes by; empty when there is none."""
    for name in ("MessageSid", "SmsMessageSid", "SmsSid"):
        if _SID.fullmatch(form.get(name, "")):
            return form[name]
    return ""


def read(raw: bytes) -> TextIn:
    """The text in the body of a webhook."""
    form = _fields(raw)
    return TextIn(
        id=message_sid(form),
        sender=form.get("From", ""),
        to=form.get("To", ""),
        text=form.get("Body", ""),
        media=tuple(
            RemoteMedia(url, form.get(f"MediaContentType{number}", ""))
            for number in range(_MOST_MEDIA)
            if (url := form.get(f"MediaUrl{number}", ""))
        ),
    )


def _fields(raw: bytes) -> dict[str, str]:
    text = raw.decode("utf-8", "replace")
    if text.startswith("{"):
        return json_fields(text)
    form: dict[str, str] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        form.setdefault(name, value)
    return form


def status_of(form: Mapping[str, str]) -> DeliveryStatus | None:
    """What a status webhook says; None for a status we do not know."""
    code = form.get("ErrorCode", "")
    said = form.get("MessageStatus") or form.get("SmsStatus", "")
    if said not in _STATES:
        return None
    return _status(message_sid(form), said, int(code) if code.isdecimal() else 0)


def _status(sid: str, said: str, code: int) -> DeliveryStatus:
    state = _STATES.get(said, DeliveryState.SENDING)
    failed = state is DeliveryState.FAILED
    detail = in_words(code, "Meldingen ble trukket tilbake." if said == "canceled" else "")
    return DeliveryStatus(sid, state, detail if failed else "", failed and code == OPTED_OUT)
