"""A signature says who writes, not what about."""

from __future__ import annotations

import pytest

from rules.signature import LONGEST, without_signature


@pytest.mark.parametrize(
    "closing",
    ["Hilsen", "Mvh", "Med vennlig hilsen", "Venleg helsing", "Vh", "Best regards", "med hilsen"],
)
def test_what_follows_the_closing_phrase_is_left_out(closing):
    text = f"Det er hull i veien.\n\n{closing}\nKari, rektor ved Sørum skole"
    assert "hull i veien" in without_signature(text)
    assert "skole" not in without_signature(text)


def test_a_closing_phrase_after_a_full_stop_counts_too():
    assert "rektor" not in without_signature("Det er hull i veien. Hilsen Kari, rektor")


def test_only_the_last_closing_phrase_ends_the_letter():
    text = "Hilsen fra Kari fikk jeg i går.\nVeien er glatt.\nMvh\nPer, vaktmester"
    assert "Veien er glatt" in without_signature(text)
    assert "vaktmester" not in without_signature(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Hilsen Kari, rektor ved skolen",
        "Hei, hvordan sender jeg en hilsen på 17. mai?",
        "Veien er glatt.\nMvh Per\n" + "Og så var det noe mer om barnehagen. " * 20,
    ],
)
def test_a_text_that_goes_on_or_has_nothing_before_is_kept_whole(text):
    assert without_signature(text) == text


def test_a_long_text_takes_no_longer_than_its_end():
    text = "Mvh. " * 50_000 + "x" * LONGEST
    assert without_signature(text)
