"""XMPP as it passes the door: what a stanza says, how one of ours is written, and a message as an
arrival.

Pure, and without the XMPP library: worker processes read arrivals with it. Stanzas are RFC 6120 and
RFC 6121; who sent one is what the server has verified, whatever names it carries.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias
from xml.etree import ElementTree as ET

import orjson

from channels.base import Incoming, RawArrival
from channels.chat import web
from channels.text import nfc, typed

if TYPE_CHECKING:
    from channels.base import Envelope

CHANNEL = "xmpp"
CASE = "sak-"
"""What the local part of an inquiry begins with; its reference follows."""
JID_LENGTH = 256
"""Characters of an address; RFC 7622 §3.1 allows more, and nobody has them."""
STANZA_ID_LENGTH = 256

_STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas"
_RECEIPTS = "urn:xmpp:receipts"
_STATES = "http://jabber.org/protocol/chatstates"
_DELAY = "urn:xmpp:delay"
_IDS = "urn:xmpp:sid:0"
_NICK = "http://jabber.org/protocol/nick"
_OUT_OF_BAND = "jabber:x:oob"
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
_ENCRYPTED = frozenset(
    {
        "{urn:xmpp:eme:0}encryption",
        "{eu.siacs.conversations.axolotl}encrypted",
        "{urn:xmpp:omemo:2}encrypted",
        "{jabber:x:encrypted}x",
        "{urn:xmpp:openpgp:0}openpgp",
    }
)

_NOBODYS = frozenset(
    {
        "{urn:xmpp:reactions:0}reactions",
        # Of rooms (XEP-0045, XEP-0249), whose address is everybody's in them.
        "{http://jabber.org/protocol/muc#user}x",
        "{jabber:x:conference}x",
    }
)
_RETRACTED = frozenset(
    {
        "{urn:xmpp:message-retract:1}retract",
        "{urn:xmpp:message-retract:0}retract",
        "{urn:xmpp:fasten:0}apply-to",
    }
)

_LOCAL = re.compile(r"[^\s\"&'/:<>@\x00-\x1f\x7f]+")
_DOMAIN = re.compile(r"[^\W_](?:[\w.-]*[^\W_])?")
_REFERENCE = re.compile(r"sak-(s-\d{4}-\d{6,9})")
_FAR_TOO_LONG = 8 * web.TEXT_LIMIT
"""Characters that are too many however they shrink in NFC, which is not tried then."""
# What XML 1.0 §2.2 has no room for: one such character ends the stream.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Said:
    """A message from somebody."""

    sender: str
    """In full, with the resource, so that answers go to the same device."""
    jid: str
    """Bare."""
    local: str
    """The local part of ours that it was written to."""
    id: str
    text: str
    key: str
    """The same message sent again has the same key; another under the same id has another."""
    name: str = ""
    """What they call themselves; proves nothing."""
    language: str = ""
    wants_receipt: bool = False
    sent_at: datetime | None = None
    """When it was sent, where it was kept on the way (XEP-0203)."""


@dataclass(frozen=True, slots=True)
class Unwanted:
    """A message that cannot be taken, with the error that says why."""

    sender: str
    jid: str
    local: str
    id: str
    condition: str
    """As RFC 6120 §8.3.3 names it."""
    word: str
    """Key in `xmpp_words.WORDS`."""
    language: str = ""


@dataclass(frozen=True, slots=True)
class Delivered:
    """A device has a message of ours (XEP-0184)."""

    id: str
    jid: str


@dataclass(frozen=True, slots=True)
class Returned:
    """A message of ours came back with an error."""

    id: str
    jid: str
    condition: str
    temporary: bool


@dataclass(frozen=True, slots=True)
class Composing:
    """Somebody is writing (XEP-0085)."""

    jid: str
    local: str


Heard: TypeAlias = "Said | Unwanted | Delivered | Returned | Composing"


def bare_jid(value: str) -> str:
    """`local@domain` in lower case, without a resource; empty when it is no such address."""
    # The resource first: it may hold an @, which would make another domain of it.
    bare = nfc(value).strip().partition("/")[0].lower()
    local, at, domain = bare.partition("@")
    if not at or len(bare) > JID_LENGTH or not domain.strip("."):
        return ""
    return bare if _LOCAL.fullmatch(local) and _DOMAIN.fullmatch(domain) else ""


def domain_of(value: str) -> str:
    """The domain of an address, which may have neither local part nor resource."""
    return value.partition("/")[0].rpartition("@")[2].lower()


def case_address(ref: str) -> str:
    """The local part at which an inquiry is written to."""
    return f"{CASE}{ref.lower()}"


def case_of(local: str) -> str:
    """The reference in such a local part; empty when it is none."""
    found = _REFERENCE.fullmatch(local)
    return found[1].upper() if found is not None else ""


def read(stanza: ET.Element, domain: str) -> Heard | None:
    """What a message stanza says to us at `domain`; None for what is nobody's message: group chat,
    headlines, rooms, reactions, what is ours, and what has neither words nor meaning."""
    sender = stanza.get("from", "")
    jid = bare_jid(sender)
    local = bare_jid(stanza.get("to", "")).removesuffix(f"@{domain}")
    if len(sender) > 2 * JID_LENGTH or domain_of(sender) == domain:
        return None
    id_ = stanza.get("id", "")[:STANZA_ID_LENGTH]
    kind = stanza.get("type", "normal")
    if kind == "error":
        error = _child(stanza, "error")
        if error is None or not id_:
            return None
        temporary = error.get("type") == "wait"
        return Returned(id_, jid or sender, _condition(error), temporary)
    if not jid or kind not in {"chat", "normal"}:
        return None
    received = stanza.find(f"{{{_RECEIPTS}}}received")
    if received is not None:
        return Delivered(received.get("id", "") or id_, jid)
    body = _child(stanza, "body")
    language = stanza.get(_LANGUAGE, "")[:2].lower()
    if any(child.tag in _ENCRYPTED for child in stanza):
        return Unwanted(sender, jid, local, id_, "not-acceptable", "encrypted", language)
    # Their bodies are for clients that know no better, and nobody has written them (XEP-0424 and
    # XEP-0444).
    if any(child.tag in _RETRACTED for child in stanza):
        return Unwanted(sender, jid, local, id_, "not-acceptable", "retracted", language)
    if any(child.tag in _NOBODYS for child in stanza):
        return None
    written = "".join(body.itertext()) if body is not None else _link(stanza)
    if len(written) > _FAR_TOO_LONG:
        return Unwanted(sender, jid, local, id_, "not-acceptable", "too_long", language)
    text = typed(written).strip()
    if not text:
        composing = stanza.find(f"{{{_STATES}}}composing") is not None
        return Composing(jid, local) if composing else None
    if len(text) > web.TEXT_LIMIT:
        return Unwanted(sender, jid, local, id_, "not-acceptable", "too_long", language)
    origin = stanza.find(f"{{{_IDS}}}origin-id")
    known_as = (origin.get("id", "") if origin is not None else "") or id_
    nick = stanza.findtext(f"{{{_NICK}}}nick", "")
    return Said(
        sender=sender,
        jid=jid,
        local=local,
        id=id_,
        text=text,
        key=_key(jid, local, known_as[:STANZA_ID_LENGTH] or uuid.uuid4().hex, text),
        name=" ".join(typed(nick).split())[:100],
        language=language,
        wants_receipt=bool(id_) and stanza.find(f"{{{_RECEIPTS}}}request") is not None,
        sent_at=_sent_at(stanza),
    )


def _key(jid: str, local: str, id_: str, text: str) -> str:
    # The words are part of it: clients that count their ids begin anew each time they start, and
    # nothing that was said may be taken for a repetition.
    return hashlib.sha256("\0".join((jid, local, id_, text)).encode()).hexdigest()[:40]


def _child(stanza: ET.Element, name: str) -> ET.Element | None:
    """A child in the namespace of the stanza, which is the client's or the component's."""
    for space in ("jabber:component:accept", "jabber:client"):
        found = stanza.find(f"{{{space}}}{name}")
        if found is not None:
            return found
    return None


def _condition(error: ET.Element) -> str:
    for child in error:
        space, _, name = child.tag.removeprefix("{").partition("}")
        if space == _STANZAS and name != "text":
            return name
    return "undefined-condition"


def _link(stanza: ET.Element) -> str:
    """An address sent beside a message without words (XEP-0066); it is shown and never fetched."""
    return stanza.findtext(f"{{{_OUT_OF_BAND}}}x/{{{_OUT_OF_BAND}}}url", "")


def _sent_at(stanza: ET.Element) -> datetime | None:
    stamp = stanza.find(f"{{{_DELAY}}}delay")
    if stamp is None:
        return None
    try:
        at = datetime.fromisoformat(stamp.get("stamp", ""))
        return at.astimezone(UTC) if at.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def message(to: str, sender: str, id_: str, text: str, language: str = "") -> str:
    """A message of ours that asks for a receipt."""
    stanza = _stanza("message", to, sender, id_, type="chat")
    if language:
        stanza.set("xml:lang", language)
    ET.SubElement(stanza, "body").text = text
    ET.SubElement(stanza, "request", xmlns=_RECEIPTS)
    ET.SubElement(stanza, "origin-id", xmlns=_IDS, id=id_)
    ET.SubElement(stanza, "active", xmlns=_STATES)
    return _written(stanza)


def receipt(to: str, sender: str, id_: str) -> str:
    """We have the message with this id (XEP-0184 §5.4)."""
    stanza = _stanza("message", to, sender, uuid.uuid4().hex, type="chat")
    ET.SubElement(stanza, "received", xmlns=_RECEIPTS, id=id_)
    return _written(stanza)


def composing(to: str, sender: str) -> str:
    """Somebody of ours is writing."""
    stanza = _stanza("message", to, sender, uuid.uuid4().hex, type="chat")
    ET.SubElement(stanza, "composing", xmlns=_STATES)
    return _written(stanza)


_WAIT = frozenset({"resource-constraint", "internal-server-error", "policy-violation"})
_CANCEL = frozenset({"item-not-found", "conflict", "service-unavailable"})


def error(to: str, sender: str, id_: str, condition: str, text: str, language: str = "nb") -> str:
    """A message that is not taken, in a machine's word and in a person's (RFC 6120 §8.3)."""
    kind = "wait" if condition in _WAIT else "cancel" if condition in _CANCEL else "modify"
    stanza = _stanza("message", to, sender, id_, type="error")
    child = ET.SubElement(stanza, "error", type=kind)
    ET.SubElement(child, condition, xmlns=_STANZAS)
    said = ET.SubElement(child, "text", xmlns=_STANZAS)
    said.set("xml:lang", language)
    said.text = text
    return _written(stanza)


def presence(to: str, sender: str, kind: str = "") -> str:
    """We are there, or what `kind` says."""
    stanza = _stanza("presence", to, sender, uuid.uuid4().hex, **({"type": kind} if kind else {}))
    return _written(stanza)


def _stanza(name: str, to: str, sender: str, id_: str, **more: str) -> ET.Element:
    return ET.Element(name, {"to": to, "from": sender, **({"id": id_} if id_ else {}), **more})


def _written(stanza: ET.Element) -> str:
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", ET.tostring(stanza, "unicode"))


def arrival(said: Said, department: str, now: datetime) -> RawArrival:
    """A message as it is journaled; `department` is whose address it was written to."""
    raw = orjson.dumps(
        {"id": said.id, "text": said.text, "name": said.name, "sent_at": said.sent_at},
        option=orjson.OPT_SORT_KEYS,
    )
    envelope = {"from": said.jid, "to": said.local, "department": department}
    return RawArrival(CHANNEL, said.key, now, envelope, raw)


def parse(raw: bytes, envelope: Envelope, external_id: str) -> Incoming:
    """Bytes of `arrival` -> `Incoming`: a message of a chat with whoever has this address."""
    said = orjson.loads(raw)
    jid = str(envelope["from"])
    sent_at = said["sent_at"]
    return Incoming(
        channel=web.CHANNEL,
        external_id=external_id,
        sender=None,
        sender_said=said["name"] or jid.partition("@")[0],
        recipients=(),
        subject=web.headline(said["text"]),
        text=said["text"],
        department=str(envelope["department"]),
        sent_at=datetime.fromisoformat(sent_at) if sent_at else None,
        jid=jid,
        local=str(envelope["to"]),
    )
