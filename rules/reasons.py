"""Why a rule took an inquiry: a code for machines and one sentence in bokmål for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rules.conditions import EMERGENCY_TAG

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rules.ruleset import Rule

REASONS = (
    "emergency",
    "table",
    "words",
    "recipient",
    "did",
    "sender",
    "attachments",
    "condition",
    "default",
)

_CHANNELS = {
    "email": "e-post",
    "phone": "telefon",
    "sms": "SMS",
    "chat": "chat",
    "web": "nettskjema",
}
_LANGUAGES = {
    "nb": "bokmål",
    "nn": "nynorsk",
    "en": "engelsk",
    "se": "nordsamisk",
    "pl": "polsk",
    "uk": "ukrainsk",
    "sv": "svensk",
    "da": "dansk",
}


def code(rule: Rule, hits: Sequence[Mapping[str, str]]) -> str:
    """The most telling of what was matched."""
    if rule.default:
        return "default"
    if rule.on:
        return "table"
    fields = {hit["field"] for hit in hits}
    if any(hit["field"] == "tags" and hit["value"] == EMERGENCY_TAG for hit in hits):
        return "emergency"
    if any("token" in hit for hit in hits):
        return "words"
    return next((name for name in REASONS if name in fields), "condition")


def sentence(
    rule: Rule,
    department: str,
    hits: Sequence[Mapping[str, str]],
    channel: str,
    departments: Mapping[str, str],
    alarm: Mapping[str, str] | None = None,
) -> str:
    """«Rutet til … fordi … (regel …)». `alarm` is the word by which it is an emergency."""
    name = departments[department]
    if rule.default:
        return f"Rutet til {name} fordi ingen regel passet"
    clauses = _words(hits, channel)
    for hit in hits:
        if alarm and hit["field"] == "tags" and hit["value"] == EMERGENCY_TAG:
            [found] = _words([alarm], channel)
            clauses.append(f"{found} og er merket «{EMERGENCY_TAG}»")
        elif clause := _clause(hit, departments):
            clauses.append(clause)
    if not clauses:
        # The channel, and what a rule excepts, are no reasons beside others.
        names = [_CHANNELS.get(hit["value"], hit["value"]) for hit in hits]
        clauses = [f"henvendelsen kom på {names[0]}" if names else "ingen av unntakene gjelder"]
    return f"Rutet til {name} fordi {join(list(dict.fromkeys(clauses)))} (regel {rule.id})"


def join(parts: Sequence[str]) -> str:
    """«a, b og c»."""
    return " og ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def _words(hits: Sequence[Mapping[str, str]], channel: str) -> list[str]:
    clauses = []
    places = {"subject": "emnet", "body": "teksten" if channel == "email" else "meldingen"}
    for field, place in places.items():
        tokens = [hit["token"] for hit in hits if "token" in hit and hit["field"] == field]
        if tokens:
            quoted = [f"«{token}»" for token in dict.fromkeys(tokens)]
            clauses.append(f"{place} inneholder {join(quoted)}")
    return clauses


def _clause(hit: Mapping[str, str], departments: Mapping[str, str]) -> str:
    if "token" in hit or hit["field"] == "channel":
        return ""
    value, pattern = hit.get("value", ""), hit.get("pattern", "")
    match hit["field"]:
        case "recipient":
            return f"henvendelsen er sendt til {value}"
        case "did":
            return f"det ble ringt til {value}"
        case "sender":
            if not pattern:
                return "avsenderen står i tabellen"
            return f"avsenderen {'passer med' if '*' in pattern else 'er'} {pattern}"
        case "attachments":
            return f"et vedlegg heter «{pattern}»"
        case "language":
            return f"språket er {_LANGUAGES.get(value, value)}"
        case "tags":
            return f"henvendelsen er merket «{value}»"
        case "customer":
            return f"avsenderen er {value}"
        case _:
            return f"{departments[value]} er åpen"
