"""Which language a text is in; unknown rather than wrong."""

import pytest

from rules.language import LANGUAGES, detect
from rules.words import tokenize

REPLY_LANGUAGES = ("nb", "nn", "en")


def language_of(text: str, among: tuple[str, ...] = REPLY_LANGUAGES) -> str:
    return detect([tokenize(text).distinct], among)


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("nb", "Hei, jeg lurer på hva jeg må gjøre for å få barnehageplass til min sønn"),
        ("nb", "Hvor leverer man hageavfall?"),
        ("nb", "Det er fortsatt ikke brøytet i vår vei, når kommer dere?"),
        ("nn", "Hei, eg lurer på kva eg må gjere for å få barnehageplass til son min"),
        ("nn", "Kvar leverer ein hageavfall?"),
        ("nn", "Det er framleis ikkje brøytt i vegen vår, når kjem de?"),
        ("en", "Hello, I would like to know how to apply for a place in kindergarten"),
        ("en", "Where do I pay the bill?"),
        ("se", "Bures! Mun lean Gáivuonas eret ja dárbbašan veahki, gos mun sáhtán ohcat?"),
        ("pl", "Dzień dobry, chciałbym się dowiedzieć jak mogę zapisać dziecko do przedszkola"),
        ("uk", "Добрий день, як я можу записати дитину до дитячого садка?"),
        ("sv", "Hej, jag undrar vad jag måste göra för att få en plats på förskolan"),
        ("da", "Hej, jeg vil gerne vide hvad jeg skal gøre for at få en plads, og hvem af jer der"),
        ("unknown", "Takk for hjelp"),
        ("unknown", "Hei hei"),
        ("unknown", ""),
        ("unknown", "gnr bnr 12 34 56"),
    ],
)
def test_language_of_a_text(language: str, text: str) -> None:
    among = REPLY_LANGUAGES if language in REPLY_LANGUAGES else tuple(LANGUAGES)
    assert language_of(text, among) == language


def test_only_languages_asked_for_are_answered() -> None:
    swedish = "Hej, jag undrar vad det är för något"
    assert language_of(swedish) in ("nb", "nn", "unknown")
    assert language_of("Добрий день, як я можу записати дитину?") == "unknown"
    assert language_of("Jeg lurer på hva det er", among=()) == "unknown"
    assert language_of("Jeg lurer på hva det er", among=("xx",)) == "unknown"
