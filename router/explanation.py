"""A decision for people: the answer of `rules explain` and of `POST /api/rules/explain`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rules.decide import Decision


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


def lines(decision: Decision) -> list[str]:
    """The explanation in lines for a terminal."""
    found = [
        f"department  {decision.department}",
        f"reason      {decision.reason}: {decision.reason_text}",
    ]
    labels = {
        "kind": decision.kind,
        "tags": ", ".join(decision.tags),
        "language": decision.language,
        "sensitivity": decision.sensitivity,
        "emergency": "yes: the fixed emergency answer goes out at once"
        if decision.emergency
        else "",
        "target": decision.target,
    }
    found += [f"{label:<11} {value}" for label, value in labels.items() if value]
    found.append(f"ruleset     {decision.ruleset[:12]}")
    found.append("trace")
    found += _trace_lines(decision.trace)
    return found


def _trace_lines(trace: Any, depth: int = 1) -> list[str]:
    indent = "  " * depth
    rows: list[str] = []
    if isinstance(trace, dict):
        for key, value in trace.items():
            if isinstance(value, dict | list) and value:
                rows.append(f"{indent}{key}:")
                rows += _trace_lines(value, depth + 1)
            else:
                rows.append(f"{indent}{key}: {value}")
    elif isinstance(trace, list | tuple):
        for value in trace:
            if isinstance(value, dict):
                rows.append(indent + "- " + "; ".join(f"{k}={v}" for k, v in value.items()))
            else:
                rows.append(f"{indent}- {value}")
    return rows
