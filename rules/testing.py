"""Run the examples that stand beside the rules."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, ClassVar

from rules.decide import Decision, decide
from rules.facts import Facts

if TYPE_CHECKING:
    from rules.ruleset import Rule, Ruleset
    from rules.schema import Expect, Given

NOW = datetime(2026, 1, 15, 11, tzinfo=UTC)
"""When tests take place, unless their rule is valid at another time only."""


@dataclass(frozen=True, slots=True)
class TestResult:
    """One example and whether it holds."""

    __test__: ClassVar[bool] = False
    rule: str
    name: str
    ok: bool
    message: str
    """What was expected and what came instead, in bokmål; empty when ok."""
    file: str
    line: int


def run_tests(ruleset: Ruleset) -> list[TestResult]:
    """Every embedded test of every rule, in order."""
    return [
        TestResult(rule.id, test.name, not message, message, rule.file, line)
        for rule in ruleset.rules
        for line, test in rule.tests
        for decision in [decide(ruleset, _facts(test.given, _now(rule)))]
        for message in [_difference(decision, test.expect, test.expect_not)]
    ]


def _now(rule: Rule) -> datetime:
    start, end = rule.window
    if start and start > NOW:
        return start
    if end and end <= NOW:
        return end - timedelta.resolution
    return NOW


def _facts(given: Given, now: datetime) -> Facts:
    return Facts(
        channel=given.channel,
        now=now,
        recipients=tuple(address.lower() for address in given.to),
        sender=given.from_.lower(),
        subject=given.subject,
        body=given.body,
        did=given.did,
        attachments=given.attachments,
        open=dict.fromkeys(given.open, True),
    )


def _difference(decision: Decision, expect: Expect | None, expect_not: str | None) -> str:
    faults = [
        f"«{warning['rule']}» setter {warning['field']} til {warning['value']}, "
        f"men det er allerede {warning['kept']}"
        for warning in decision.trace["warnings"]
    ]
    if expect is not None:
        for name, wanted in expect.model_dump(exclude_none=True).items():
            came = getattr(decision, name)
            if name == "tags":
                missing = [tag for tag in wanted if tag not in came]
                if missing:
                    faults.append(f"mangler merkene {', '.join(missing)}")
            elif came != wanted:
                faults.append(f"{name}: ventet {wanted}, fikk {came or 'ingenting'}")
    fired = {decision.rule, *(hit["rule"] for hit in decision.trace["classify"])}
    if expect_not in fired:
        faults.append(f"regelen {expect_not} skulle ikke slå til")
    return "; ".join(faults) + (f" ({decision.reason_text})" if faults else "")
