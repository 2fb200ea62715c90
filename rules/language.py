"""Which language a text is written in, by its small words. For the language of replies only.

Never used to turn somebody away; a wrong guess costs a receipt in the wrong language.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

UNKNOWN = "unknown"
MINIMUM_WORDS = 3

_MARKERS = {
    "nb": "jeg ikke hva hvordan hvorfor hvem hvilken hvilke hvor når en et noen noe fra mer dere "
    "være også bare hun de han selv uke vei hjem skole nå vi å og kan på for til med har "
    "har det er som om i mitt min vår gjør gjøre hjelp takk trenger ønsker søke "
    "barnehageplass hilsen hei",
    "nn": "eg ikkje kva korleis kvifor kven kva kvar når ein eit nokon noko frå meir dykk vere "
    "vera òg berre ho dei han sjølv veke veg heim skule no me å og kan på for til med har "
    "det er som om i mitt min vår gjer gjere hjelp takk treng ynskjer ønskjer søkje "
    "barnehageplass helsing hei dykkar hennar fekk blei vart kjem kome heiter korleis desse "
    "mykje",
    "en": "the and is are was you we they my your our not what how why who which where when a "
    "an some from more be also only she he have has can could would please thank thanks "
    "help need to of in it this that with hello hi dear regards do does for on at",
    "se": "mun don son mii dii sii lea leat ii in it eai ja dahje muhto go gii gos mo manne ahte "
    "dat dán dan mu du su bures giitu sáhttá sáhtán galgá maid okta nu vai leamaš",
    "pl": "nie tak jest są na się to że do z w i czy jak co kiedy gdzie dlaczego ja mam mogę "
    "proszę dziękuję dzień dobry dla mój moje moja pozdrawiam ale oraz",
    "uk": "я ми ви не що як коли де чому чи і й та на до з в у це мій моя мої є можу прошу дякую "
    "добрий день для будь ласка",
    "sv": "jag inte och är på för att hur vad varför vem vilken var när en ett någon något från "
    "mer ni vara också bara hon de han själv vi kan till med har det som om min vår hjälp "
    "tack behöver hej hälsningar",
    "da": "jeg ikke hvad hvordan hvorfor hvem hvilken hvor når en et nogen noget fra mere jer "
    "være også kun hun de han selv vi at og kan på for til med har det er som om mit min "
    "vores hjælp tak hej af efter mig dig sig gerne venlig nu",
}
LANGUAGES = tuple(_MARKERS)

NOTHING: frozenset[str] = frozenset()
_WORDS = {language: frozenset(words.split()) for language, words in _MARKERS.items()}


def detect(texts: Iterable[Mapping[str, str]], among: Iterable[str]) -> str:
    """The language of texts out of `among`, or `unknown`; `texts` are their distinct tokens.

    Unknown are texts of fewer than three words, and those whose small words do not decide.
    """
    tokens: set[str] = set().union(*texts)
    if len(tokens) < MINIMUM_WORDS:
        return UNKNOWN
    scores = {language: len(_WORDS.get(language, NOTHING) & tokens) for language in among}
    best = max(scores.values(), default=0)
    winners = [language for language, score in scores.items() if score == best]
    return winners[0] if best and len(winners) == 1 else UNKNOWN
