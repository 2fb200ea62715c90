"""The example municipality's rules, asked about contacts as residents write them."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from rules.decide import Decision, decide
from rules.facts import Facts
from rules.ruleset import Ruleset, load
from rules.testing import run_tests

ROOT = Path(__file__).parents[2]
CORPUS = yaml.load((Path(__file__).parent / "sorum_contacts.yaml").read_bytes(), yaml.CSafeLoader)
CONTACTS = [
    (department, contact)
    for department, contacts in CORPUS["contacts"].items()
    for contact in contacts
]
Decided = tuple[str, dict[str, Any], Decision]
NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)


@pytest.fixture(scope="module")
def ruleset() -> Ruleset:
    config = yaml.safe_load((ROOT / "config.yaml").read_bytes())
    general = config["municipality"]["default_department"]
    return load(
        ROOT / "rules" / "sorum",
        departments={slug: d["name"]["nb"] for slug, d in config["departments"].items()},
        targets=config["reply_targets"],
        tables={
            "department_addresses": {
                address: slug
                for slug, department in config["departments"].items()
                if slug != general
                for address in department["addresses"]
            },
            "department_numbers": {"+4763869010": "byggesak"},
        },
    )


@pytest.fixture(scope="module")
def decided(ruleset: Ruleset) -> list[Decided]:
    """Every contact: where it should go, the contact, what the rules say."""
    return [(department, contact, ask(ruleset, contact)) for department, contact in CONTACTS]


def ask(ruleset: Ruleset, contact: dict[str, Any], **changes: Any) -> Decision:
    contact = contact | changes
    return decide(
        ruleset,
        Facts(
            channel="email" if "subject" in contact else "sms",
            now=NOW,
            recipients=(contact.get("to", "postmottak@sorum.kommune.no"),),
            sender=contact.get("from", "ola@example.org"),
            subject=contact.get("subject", ""),
            body=contact["text"],
            attachments=tuple(contact.get("attachments", ())),
        ),
    )


def test_embedded_examples_hold(ruleset: Ruleset) -> None:
    assert [f"{r.file}:{r.line} {r.message}" for r in run_tests(ruleset) if not r.ok] == []


def test_rules_give_no_warnings(ruleset: Ruleset) -> None:
    assert [warning.text() for warning in ruleset.warnings] == []


def test_every_rule_has_an_owner_and_two_examples(ruleset: Ruleset) -> None:
    assert [rule.id for rule in ruleset.rules if not rule.owner or len(rule.tests) < 2] == []


def test_contacts_reach_the_right_department(decided: list[Decided]) -> None:
    wrong = [
        f"{department} <- {decision.department} ({decision.rule}): {contact['text'][:80]}"
        for department, contact, decision in decided
        if decision.department != department
    ]
    assert len(wrong) <= 0.03 * len(decided), "\n".join(wrong)


def test_every_department_is_reached_by_content_alone(
    ruleset: Ruleset, decided: list[Decided]
) -> None:
    reached = Counter(
        decision.department
        for department, _, decision in decided
        if decision.department == department
    )
    assert set(reached) == set(ruleset.departments)
    assert min(reached.values()) >= 8


def test_sensitive_contacts_are_marked_and_go_to_the_right_door(decided: list[Decided]) -> None:
    missed = [
        contact["text"]
        for department, contact, decision in decided
        if "sensitive" in contact
        and (
            decision.sensitivity != "sensitive" or department == "barnevern" != decision.department
        )
    ]
    assert missed == []


def test_innsyn_and_press_get_their_target_and_tag(decided: list[Decided]) -> None:
    missed = [
        contact["text"]
        for _, contact, decision in decided
        if decision.target != contact.get("target", decision.target)
        or contact.get("tag", "") not in ("", *decision.tags)
    ]
    assert missed == []


def test_emergencies_are_found_and_read_at_the_switchboard(ruleset: Ruleset) -> None:
    missed = [
        contact["text"]
        for contact in CORPUS["emergency"]
        for decision in [ask(ruleset, contact, to="brann@sorum.kommune.no")]
        if not decision.emergency
        or decision.department != "servicetorg"
        or ("sensitive" in contact and decision.sensitivity != "sensitive")
    ]
    assert missed == []


def test_ordinary_contacts_raise_no_alarm(ruleset: Ruleset, decided: list[Decided]) -> None:
    assert [c["text"] for c in CORPUS["no_emergency"] if ask(ruleset, c).emergency] == []
    assert [contact["text"] for _, contact, decision in decided if decision.emergency] == []


@pytest.mark.parametrize(
    "closing",
    [
        "Sendt fra min iPhone",
        "Tenk på miljøet før du skriver ut denne e-posten.",
        "Vi behandler personopplysninger i tråd med personvernforordningen. "
        "Les vår personvernerklæring.",
        "Hilsen Bjørn Skogen\nKirkeveien 12, 1920 Sørumsand",
        "Hilsen Storm og Liv Strand, Bibliotekgata 4",
        "Med vennlig hilsen Per Lund, daglig leder, Lund Eiendom og Byggservice AS",
        "Følg oss på Facebook og Instagram. Besøk vår hjemmeside.",
    ],
)
def test_names_and_footers_move_next_to_nothing(
    ruleset: Ruleset, decided: list[Decided], closing: str
) -> None:
    some = decided[::6]
    moved = [
        contact["text"]
        for _, contact, decision in some
        if ask(ruleset, contact, text=f"{contact['text']}\n\n{closing}").department
        != decision.department
    ]
    assert len(moved) <= 0.01 * len(some), "\n".join(moved)


@pytest.mark.parametrize("department", ["byggesak", "vei", "nav", "okonomi"])
def test_a_departments_own_address_decides(ruleset: Ruleset, department: str) -> None:
    address = f"{department}@sorum.kommune.no"
    assert ask(ruleset, {"text": "Når åpner biblioteket?"}, to=address).department == department
    worried = {"text": "Jeg vil levere en bekymringsmelding."}
    assert ask(ruleset, worried, to=address).department == "barnevern"


@cache
def demo() -> list[dict[str, str]]:
    text = (ROOT / "router" / "demo_contacts.yaml").read_text(encoding="utf-8")
    contacts: list[dict[str, str]] = yaml.load(text, yaml.CBaseLoader)
    return contacts


def test_the_demo_day_touches_every_department(ruleset: Ruleset) -> None:
    reached = {
        ask(ruleset, contact, to=f"{contact.get('to', 'postmottak')}@sorum.kommune.no").department
        for contact in demo()
    }
    assert len(demo()) >= 300
    assert reached == set(ruleset.departments)


def test_the_demo_day_is_not_what_the_rules_were_tried_on() -> None:
    def sentences(texts: list[str]) -> set[str]:
        found = {part.strip() for text in texts for part in re.split(r"[.!?\n]", text)}
        return {part for part in found if len(part) > 20}

    tried = sentences([contact["text"] for _, contact in CONTACTS])
    assert tried & sentences([contact["text"] for contact in demo()]) == set()
