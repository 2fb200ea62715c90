"""The grammar of TwiML, read from the typings of Twilio's own library for Node, and what the
typings do not know: what may stand where, and which attributes a caller's life depends on.

Twilio's library for Python writes any attribute with any value, so it finds no mistake of ours.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from xml.etree import ElementTree

import pytest

from tests.twilio_oracle import MODULES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from xml.etree.ElementTree import Element

TYPINGS = MODULES / "twilio" / "lib" / "twiml" / "VoiceResponse.d.ts"

VERBS = {
    # twilio.com/docs/voice/twiml/enqueue#waiturl
    "wait": {"Play", "Say", "Pause", "Hangup", "Redirect", "Leave", "Gather"},
    # twilio.com/docs/api/errors/13238
    "hold": {"Play", "Say", "Pause", "Redirect"},
}
"""Where a document is asked for -> the verbs that may stand in it; anything elsewhere."""

NEEDED = {
    "Dial": {"action"},
    "Record": {"action", "recordingStatusCallback"},
    "Enqueue": {"action", "waitUrl"},
    "Gather": {"action", "numDigits"},
    "Conference": {"waitUrl", "participantLabel"},
}
"""Without them Twilio's default is a loop, music of its own, or the end of the call."""

LAST = {"Dial", "Enqueue", "Hangup", "Redirect", "Leave", "Reject"}
"""Verbs after which nothing is ever reached."""

_ADDRESSES = {"action", "url", "waitUrl", "statusCallback", "recordingStatusCallback"}


@dataclass(frozen=True)
class Grammar:
    """Elements with their children and attributes; an attribute's values, None for any."""

    children: dict[str, set[str]] = field(default_factory=dict)
    attributes: dict[str, dict[str, tuple[str, frozenset[str] | None]]] = field(
        default_factory=dict
    )


@cache
def grammar() -> Grammar:
    """What the typings say. Skips the test where the package is not installed."""
    if not TYPINGS.is_file():
        pytest.skip("the npm package twilio is needed: make node_modules/.dev")
    text = TYPINGS.read_text(encoding="utf-8")
    enums = {
        name: frozenset(re.findall(r'"([^"]*)"', values))
        for name, values in re.findall(r"^ {4}type (\w+) = (.+);$", text, re.MULTILINE)
    }
    sets: dict[str, dict[str, tuple[str, frozenset[str] | None]]] = {}
    for name, body in re.findall(
        r"^ {4}export interface (\w+) \{\n(.*?)^ {4}\}", text, re.M | re.S
    ):
        found = sets.setdefault(name, {})
        for attribute, kind in re.findall(r'^ {8}"?([\w:-]+)"?\??: ([\w.\[\]]+);$', body, re.M):
            found[attribute] = (kind, enums.get(kind.removesuffix("[]")))
    made = Grammar()
    classes = re.findall(
        r"^(?: {4}export class|declare class) (\w+) extends TwiML \{\n(.*?)^(?: {4})?\}",
        text,
        re.M | re.S,
    )
    for name, body in classes:
        element = "Response" if name == "VoiceResponse" else name
        children = made.children.setdefault(element, set())
        for given, child in re.findall(r"^\s+\w+\((.*)\): VoiceResponse\.(\w+);$", body, re.M):
            children.add(child)
            attributes = made.attributes.setdefault(child, {})
            for wanted in re.findall(r"VoiceResponse\.(\w+Attributes)", given):
                attributes.update(sets[wanted])
    return made


def faults(document: str, context: str = "call") -> list[str]:
    """What is wrong with a document that is asked for in this context: call, wait, hold or
    whisper."""
    root = ElementTree.fromstring(document)
    if root.tag != "Response" or root.attrib:
        return [f"{root.tag} is no Response"]
    return [*_by_typings(root), *_by_rules(root, context)]


def check(document: str, context: str = "call") -> None:
    """Fail with everything that is wrong with a document."""
    assert faults(document, context) == [], document


def _by_typings(parent: Element) -> Iterator[str]:
    known = grammar()
    for element in parent:
        if element.tag not in known.children.get(parent.tag, set()):
            yield f"{element.tag} in {parent.tag}"
            continue
        for name, value in element.attrib.items():
            if name not in known.attributes[element.tag]:
                yield f"{element.tag} has no {name}"
            elif not _fits(value, *known.attributes[element.tag][name]):
                yield f"{element.tag} {name}={value}"
        yield from _by_typings(element)


def _fits(value: str, kind: str, values: frozenset[str] | None) -> bool:
    if values is not None:
        return values.issuperset(value.split() if kind.endswith("[]") else [value])
    if kind == "boolean":
        return value in {"true", "false"}
    return kind != "number" or value.isdecimal()


def _by_rules(root: Element, context: str) -> Iterator[str]:
    verbs = list(root)
    allowed = VERBS.get(context)
    for number, verb in enumerate(verbs):
        if allowed is not None and verb.tag not in allowed:
            yield f"{verb.tag} while waiting ({context})"
        if verb.tag in LAST and number < len(verbs) - 1:
            yield f"{verbs[number + 1].tag} after {verb.tag} is never reached"
        if verb.get("answerOnBridge") == "true" and number:
            yield "answerOnBridge works only where Dial is the first verb"
    for element in root.iter():
        missing = NEEDED.get(element.tag, set()) - set(element.attrib)
        if missing:
            yield f"{element.tag} without {', '.join(sorted(missing))}"
        for name in _ADDRESSES & set(element.attrib):
            yield from _address(element.tag, element.attrib[name])
        if element.tag in {"Redirect", "Play"}:
            yield from _address(element.tag, element.text or "")
        if element.tag == "Say" and not (element.text or "").strip():
            yield "Say without words"
        if element.tag == "Dial" and len(element) > 10:
            yield "more than ten phones ring together"
        if element.tag == "Enqueue" and len(element.text or "") > 64:
            yield "the name of the queue is too long"
        if element.tag == "Conference":
            ends = element.get("endConferenceOnExit") == "true"
            if ends != (element.get("participantLabel") == "caller"):
                yield "the conference ends when the caller leaves, and for nobody else"


def _address(tag: str, address: str) -> Iterator[str]:
    parts = urlsplit(address)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        yield f"{tag} to {address}, which is not absolute"
