"""A decision for people: the answer of `rules explain` and of `POST /api/rules/explain`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rules.decide import Decision

_PLACES = {
    "body": "text",
    "table": "address or number of the table",
    "did": "number called",
    "open": "open now:",
    "attachments": "attachment",
}
"""What a field of the trace is called in a sentence, where its name would not do."""


def explanation(decision: Decision) -> dict[str, Any]:
    """The fields of the public contract, JSON values only."""
    return {
        "department": decision.department,
        "kind": decision.kind,
        "tags": list(decision.tags),
        "language": decision.language,
        "sensitivity": decision.sensitivity,
        "emergency": decision.emergency,
        "target": decision.target,
        "rule": decision.rule,
        "reason": decision.reason,
        "reason_text": decision.reason_text,
        "ruleset": decision.ruleset,
        "trace": dict(decision.trace),
    }


def lines(decision: Decision, *, everything: bool = False) -> list[str]:
    """The explanation in words for a terminal; with `everything`, also the rules that did not
    fit."""
    trace = decision.trace
    *passed, last = trace["route"]
    labels = {
        "department": decision.department,
        "reason": f"{decision.reason}: {decision.reason_text}",
        "kind": decision.kind,
        "customer": decision.customer,
        "tags": ", ".join(decision.tags),
        "language": decision.language,
        "sensitivity": decision.sensitivity,
        "emergency": "yes: the fixed emergency answer goes out at once"
        if decision.emergency
        else "",
        "target": decision.target,
        "ruleset": decision.ruleset[:12],
    }
    told = [f"{label:<11} {value}" for label, value in labels.items() if value]
    if trace["emergency"]:
        told += ["", "The alarm was raised by", f"  {_hit(trace['emergency'])}"]
    told += ["", f"The rule {decision.rule} decided by"]
    told += [f"  {_hit(hit)}" for hit in last["hits"]] or ["  nothing in particular"]
    if trace["classify"]:
        told += ["", "Labels were set by"]
        for rule in trace["classify"]:
            hits = "; ".join(map(_hit, rule["hits"]))
            told.append(
                f"  {rule['rule']}: {_setting(rule['set'])}" + (f" ({hits})" if hits else "")
            )
    told += [
        f"  {warning['rule']} would set {warning['field']} to {warning['value']}, "
        f"but it is {warning['kept']} already"
        for warning in trace["warnings"]
    ]
    if trace["open"]:
        asked = (f"{slug} {'open' if state else 'closed'}" for slug, state in trace["open"].items())
        told += ["", f"Opening hours that were asked for: {', '.join(asked)}"]
    if trace["signature_left_out"]:
        told += ["", "The signature was left out, except when looking for emergencies."]
    if trace["text_cut"]:
        told += ["", "The text is very long; only its beginning was read."]
    count = f"{len(passed)} rules were asked first and did not fit"
    told += ["", f"{count}:" if everything and passed else f"{count} (--all lists them)."]
    if everything:
        told += [f"  {rule['rule']}: {_miss(rule)}" for rule in passed]
    return told


def _hit(hit: Mapping[str, str]) -> str:
    """What matched, and where."""
    place = _PLACES.get(hit["field"], hit["field"])
    if "token" not in hit:
        value = hit.get("value") or hit.get("pattern", "")
        return f"{place} {value}".rstrip()
    found = f"«{hit['token']}» in the {place}"
    if hit["keyword"] == hit["token"]:
        return found
    form = f", form {hit['form']}" if hit["form"] not in (hit["token"], hit["keyword"]) else ""
    return f"{found} (keyword {hit['keyword']}{form})"


def _setting(labels: Mapping[str, Any]) -> str:
    values = {k: ", ".join(v) if isinstance(v, list) else str(v) for k, v in labels.items()}
    return "; ".join(f"{name} {value}" for name, value in values.items() if value)


def _miss(rule: Mapping[str, str]) -> str:
    """Why a rule did not fit."""
    place = _PLACES.get(rule["failed"], rule["failed"])
    if rule["why"] == "no match":
        return f"{place} did not match"
    return f"no {place}" if rule["why"] == "field absent" else f"{place}: {rule['why']}"
