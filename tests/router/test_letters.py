"""What residents are written, and in which language."""

from __future__ import annotations

import json

import pytest

from router.letters import letter_language, letter_languages
from tests.router.store_house import house
from tests.service import mail

POLISH = "Dzień dobry, chciałbym się dowiedzieć, jak mogę zapisać dziecko do przedszkola. Dziękuję."
UKRAINIAN = "Добрий день, як я можу записати дитину до дитячого садка? Дякую, що допоможете."
POLISH_ALARM = "Dzień dobry, mój dom się pali i nie mogę wyjść, proszę o pomoc! Det brenner!"


@pytest.fixture
def home(tmp_path):
    with house(tmp_path) as opened:
        yield opened


def receipt(home, text):
    home.deliver(mail("Przedszkole", text))
    [(payload,)] = home.rows("SELECT payload FROM outbox")
    return json.loads(payload)


@pytest.mark.parametrize("text", [POLISH, UKRAINIAN])
def test_who_writes_in_a_language_we_have_no_letters_in_gets_english_and_bokmål(home, text):
    letter = receipt(home, text)
    english, bokmål = letter["text"].split("* * *")
    assert english.startswith("Hello!")
    assert "by Thursday 26 November 2026 at 15:45" in english
    assert bokmål.strip().startswith("Hei!")
    assert "senest torsdag 26. november 2026 kl. 15:45" in bokmål
    assert letter["language"] == "en"
    assert letter["subject"].startswith("We have received")


def test_an_emergency_is_answered_in_both_languages_too(home):
    english, bokmål = receipt(home, POLISH_ALARM)["text"].split("* * *")
    assert "you must call" in english
    assert "må du ringe" in bokmål


@pytest.mark.parametrize(
    ("text", "language", "begins"),
    [
        ("Hei, jeg lurer på hva jeg må gjøre for å få barnehageplass.", "nb", "Hei!\n\nTakk for h"),
        ("Hei, eg lurer på kva eg må gjere for å få barnehageplass.", "nn", "Hei!\n\nTakk for f"),
        ("Hello, I would like to know how to apply for a place.", "en", "Hello!"),
        ("Hull i veien", "nb", "Hei!\n\nTakk for h"),
    ],
)
def test_whoever_we_have_letters_for_gets_one_language(home, text, language, begins):
    letter = receipt(home, text)
    assert letter["text"].startswith(begins)
    assert "* * *" not in letter["text"]
    assert letter["language"] == language


@pytest.mark.parametrize(
    ("language", "one", "letter"),
    [
        ("nn", "nn", ("nn",)),
        ("en", "en", ("en",)),
        ("", "nb", ("nb",)),
        ("unknown", "nb", ("nb",)),
        ("da", "nb", ("nb",)),
        ("se", "nb", ("nb",)),
        ("pl", "en", ("en", "nb")),
    ],
)
def test_the_language_of_letters(language, one, letter):
    assert letter_language(language) == one
    assert letter_languages(language) == letter
