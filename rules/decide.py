"""Decide where an inquiry goes: classify, then route, with a trace that explains every step.

A pure function: the same facts and the same ruleset give the same decision, for ever. The trace
names rules, conditions and the matched words, and is never a second copy of the text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from rules import reasons
from rules.conditions import BODY, BOTH, EMERGENCY_TAG, SUBJECT, Hits, View
from rules.facts import TEXT_LIMIT, Facts
from rules.language import detect
from rules.ruleset import ENGINE, Rule, Ruleset
from rules.signature import without_signature
from rules.words import Hit, Lexicon, Text, tokenize

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rules.words import Keyword

DEFAULT_TARGET = "service"
NOTHING = tokenize("")


@dataclass(frozen=True, slots=True)
class Decision:
    """Where an inquiry goes, and why."""

    department: str
    rule: str
    """Id of the route rule that decided."""
    reason: str
    """Machine code: see `reasons.REASONS`."""
    reason_text: str
    """One sentence in bokmål."""
    ruleset: str
    """Hash of the ruleset."""
    kind: str
    tags: tuple[str, ...]
    language: str
    sensitivity: str
    """`sensitive`, or empty."""
    emergency: bool
    target: str
    """Slug of the reply target."""
    customer: str
    trace: Mapping[str, Any] = field(repr=False, hash=False)
    """JSON values only."""


def decide(ruleset: Ruleset, facts: Facts) -> Decision:
    """Classify and route one contact. Pure; raises nothing for any facts."""
    subject, letter, signature, cut = _texts(facts)
    tags: list[str] = []
    texts = (subject, letter, signature)
    language = detect([text.distinct for text in texts], ruleset.languages)
    view = _view(facts, _hits(ruleset, subject, letter), language, tags)

    # A cry for help after the greeting is one too, so the guard reads the signature as well.
    emergency = _emergency(ruleset, view.hits, subject, letter)
    if emergency is None and signature.tokens:
        emergency = _emergency_alone(ruleset, signature)
    if emergency:
        tags.append(EMERGENCY_TAG)

    labels: dict[str, str] = {}
    classified: list[dict[str, Any]] = []
    warnings: list[dict[str, str]] = []
    for position in ruleset.classify_agenda.candidates(view.hits):
        rule = ruleset.classify[position]
        if not any(check.fails(view) for check in rule.checks):
            warnings += _label(rule, labels, tags)
            hits = _evidence(rule, view)
            classified.append({"rule": rule.id, "set": _set(rule), "hits": hits})
    language = labels.get("language") or view.values["language"][0]
    customer = labels.get("customer", "")
    view.values["language"] = (language,)
    view.values["customer"] = (customer,) if customer else ()

    asked: list[dict[str, Any]] = []
    unasked = ruleset.route_agenda.unasked(view.hits)
    # The last rule matches everything.
    for position in ruleset.route_agenda.candidates(view.hits):  # pragma: no branch
        asked += map(dict.copy, unasked[len(asked) : position])
        rule = ruleset.route[position]
        for check in rule.checks:
            why = check.fails(view)
            if why:
                asked.append({"rule": rule.id, "failed": check.name, "why": why})
                break
        else:
            break
    evidence = _evidence(rule, view)
    asked.append({"rule": rule.id, "hits": evidence})
    alarm = emergency.as_dict() if emergency else None
    department = rule.department or _row(rule, view)
    tags += [tag for tag in rule.tags if tag not in tags]

    return Decision(
        department=department,
        rule=rule.id,
        reason=reasons.code(rule, evidence),
        reason_text=reasons.sentence(
            rule, department, evidence, facts.channel, ruleset.departments, alarm
        ),
        ruleset=ruleset.hash,
        kind=labels.get("kind", ""),
        tags=tuple(tags),
        language=language,
        sensitivity=labels.get("sensitivity", ""),
        emergency=emergency is not None,
        target=labels.get("target") or rule.target or DEFAULT_TARGET,
        customer=customer,
        trace={
            "version": ENGINE,
            "ruleset": ruleset.hash,
            "text_cut": cut,
            "signature_left_out": bool(signature.tokens),
            "emergency": alarm,
            "classify": classified,
            "warnings": warnings,
            "route": asked,
            "open": view.asked,
        },
    )


def emergency_words(ruleset: Ruleset, text: str) -> str:
    """The guard of `decide` alone, for a further message of a talk: the words of the rules that
    raise the alarm, empty for none. Pure."""
    hit = _emergency_alone(ruleset, tokenize(_shorten(text, TEXT_LIMIT)))
    return hit.keyword if hit is not None else ""


def _texts(facts: Facts) -> tuple[Text, Text, Text, bool]:
    """Subject, letter and signature, and whether they were too long to be read whole."""
    subject, body = facts.subject, facts.body
    cut = len(subject) + len(body) > TEXT_LIMIT
    if cut:
        subject = _shorten(subject, TEXT_LIMIT)
        body = _shorten(body, TEXT_LIMIT - len(subject))
    letter = without_signature(body)
    signature = tokenize(body[len(letter) :]) if len(letter) < len(body) else NOTHING
    return tokenize(subject), tokenize(letter), signature, cut


def _shorten(text: str, limit: int) -> str:
    """At most `limit` characters; a last word that would be cut in two goes."""
    if len(text) <= limit:
        return text
    end = limit
    while end and text[end].isalnum() and text[end - 1].isalnum():
        end -= 1
    return text[:end]


def _hits(ruleset: Ruleset, subject: Text, body: Text) -> Hits:
    in_subject = ruleset.lexicon.scan(subject, "subject")
    in_body = ruleset.lexicon.scan(body, "body")
    return (
        in_subject if subject.tokens else None,
        in_body if body.tokens else None,
        in_body | in_subject if subject.tokens or body.tokens else None,
    )


def _view(facts: Facts, hits: Hits, language: str, tags: list[str]) -> View:
    return View(
        facts=facts,
        values={
            "channel": (facts.channel,),
            "did": (facts.did,) if facts.did else (),
            "recipient": facts.recipients,
            "sender": (facts.sender,) if facts.sender else (),
            "attachments": tuple(name.lower() for name in facts.attachments),
            "language": (language,),
            "tags": tags,
        },
        hits=hits,
        asked={},
    )


def _emergency(ruleset: Ruleset, found_words: Hits, subject: Text, body: Text) -> Hit | None:
    """The first emergency phrase that no `none` phrase covers where it stands.

    Rather a false alarm than a missed one: «øvelse» elsewhere in the text excuses nothing.
    """
    if ruleset.emergency.isdisjoint(found_words[BOTH] or ()):
        return None
    for text, hits in ((subject, found_words[SUBJECT] or {}), (body, found_words[BODY] or {})):
        found = [word for word in ruleset.emergency_words if word.text in hits]
        excused = _covered(ruleset.emergency_excuses, text) if found else []
        if any(excused):
            places = Lexicon(found).spans(text)
            found = [
                word
                for word in found
                # A joined word stands in no one place, so nothing covers it.
                if not places.get(word.text)
                or any(excused[first] < last for first, last in places[word.text])
            ]
        if found:
            return hits[found[0].text]
    return None


def _emergency_alone(ruleset: Ruleset, text: Text) -> Hit | None:
    """The same in a text that no rule is asked about."""
    hits = ruleset.emergency_lexicon.scan(text, "body")
    return _emergency(ruleset, (None, hits, hits), NOTHING, text)


def _covered(excuses: Iterable[Keyword], text: Text) -> list[int]:
    """For each place in `text.tokens`: how far the excuses reach that began there or before."""
    reach = [0] * len(text.tokens)
    for spans in Lexicon(excuses).spans(text).values():
        for first, last in spans:
            reach[first] = max(reach[first], last)
    return list(accumulate(reach, max))


def _label(rule: Rule, labels: dict[str, str], tags: list[str]) -> list[dict[str, str]]:
    """Note what a classify rule sets; of two values for one field the first stays."""
    tags += [tag for tag in rule.tags if tag not in tags]
    return [
        {"rule": rule.id, "field": name, "value": value, "kept": labels[name]}
        for name, value in rule.labels.items()
        if labels.setdefault(name, value) != value
    ]


def _set(rule: Rule) -> dict[str, Any]:
    return {**rule.labels, "tags": list(rule.tags)}


def _evidence(rule: Rule, view: View) -> list[dict[str, str]]:
    return [hit for check in rule.checks for hit in check.evidence(view)]


def _row(rule: Rule, view: View) -> str:
    return next(rule.rows[value] for value in view.values[rule.on] if value in rule.rows)
