"""How long one decision takes, with the full trace, at a hundred rules."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median

from router.clock import utc_now
from rules.decide import decide
from rules.facts import Facts
from rules.ruleset import Ruleset, load

WORDS = [
    "nabovarsel",
    "barnehage",
    "brøyting",
    "gatelys",
    "sykehjem",
    "skolebuss",
    "faktura",
    "husleie",
    "renovasjon",
    "kloakk",
    "parkering",
    "bibliotek",
    "reguleringsplan",
    "skjenkebevilling",
    "eiendomsskatt",
    "kulturskole",
    "startlån",
    "helsestasjon",
    "vannmåler",
    "ferdigattest",
]


def microseconds_per_decision(rules: int = 100, rounds: int = 2_000) -> tuple[float, float]:
    """Median microseconds for a mail that misses every rule, and for the same text without
    rules."""
    hundred, none = _ruleset(rules), _ruleset(0)
    facts = Facts(
        channel="email",
        now=utc_now(),
        recipients=("postmottak@sorum.kommune.no",),
        sender="kari@example.org",
        subject="Spørsmål om noe helt annet",
        body="Hei, jeg lurer på hvem som kan hjelpe meg med dette. Mvh Kari",
    )
    times: list[tuple[Ruleset, list[int]]] = [(hundred, []), (none, [])]
    # By turns, so that what else the machine does hits both alike.
    for _ in range(rounds):
        for ruleset, spent in times:
            start = time.perf_counter_ns()
            decide(ruleset, facts)
            spent.append(time.perf_counter_ns() - start)
    with_rules, without = (median(spent) / 1000 for _, spent in times)
    return with_rules, without


def _ruleset(rules: int) -> Ruleset:
    lines = ["route:"]
    for index in range(rules):
        word, other = WORDS[index % len(WORDS)], WORDS[(index * 7 + 3) % len(WORDS)]
        words = f"{word}{_letters(index)}, '{other}{_letters(index)}*'"
        lines.append(
            f"  - {{id: r{index}, title: R, when: {{channel: [email], words: {{any: [{words}]}}}}, "
            "then: {department: vei}}"
        )
    lines.append("  - {id: standard, title: Rest, default: true, then: {department: servicetorg}}")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "rules.yaml").write_text("\n".join(lines), encoding="utf-8")
        return load(
            Path(folder), departments={"vei": "Vei", "servicetorg": "S"}, targets=["service"]
        )


def _letters(number: int) -> str:
    return "".join(chr(ord("a") + int(digit)) for digit in str(number))
