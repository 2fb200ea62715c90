"""Words: tokens of a text, Norwegian inflection, and keywords looked up in one pass.

Keywords are expanded when the ruleset loads; an inquiry costs a few dictionary lookups for each
distinct token. No stemmer: a closed list of bokmål and nynorsk endings does the same work here,
and an author can print every form a keyword stands for.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections import defaultdict
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

_WORD = re.compile(r"\w+(?:-\w+)*")
_HYPHEN = re.compile("[\u2010\u2011]")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200d\u2060\ufeff]")

EDGE = 3
"""Letters that a `prefix*` or `*suffix` must have; also how they are bucketed."""

PHRASE_LIMIT = 256
"""Combinations that the word lists inside one phrase may make."""


class WordError(ValueError):
    """A keyword that cannot be read; the message is there in both languages."""

    def __init__(self, nb: str, en: str) -> None:
        super().__init__(en)
        self.nb = nb
        self.en = en


class Text(NamedTuple):
    """A text as tokens. A hyphenated word gives its parts, in order, and the joined word."""

    tokens: list[str]
    distinct: dict[str, str]
    """Each distinct token (joined words too) -> how it stood in the text."""


class Hit(NamedTuple):
    """One keyword found: through which of its forms, in which token, in which field."""

    keyword: str
    form: str
    token: str
    field: str

    def as_dict(self) -> dict[str, str]:
        """For the trace."""
        return self._asdict()


def fold(text: str) -> str:
    """The form in which words are compared: NFC, casefold, nothing invisible, one hyphen."""
    if text.isascii():
        return text.casefold()
    text = _INVISIBLE.sub("", text).casefold()
    return _HYPHEN.sub("-", unicodedata.normalize("NFC", text))


def tokenize(text: str) -> Text:
    """Split a text into tokens: runs of letters and digits of any alphabet."""
    folded = fold(text)
    words = _WORD.findall(folded.replace("_", " "))
    hyphenated = [word for word in words if "-" in word] if "-" in folded else []
    tokens = " ".join(words).replace("-", " ").split() if hyphenated else words
    distinct = dict(zip(tokens, tokens, strict=True))
    for word in hyphenated:
        distinct.setdefault(word.replace("-", ""), word)
    return Text(tokens, distinct)


# Nouns of all genders, plural and definite, bokmål and nynorsk; -e also makes the plural of
# adjectives. Each takes the genitive -s.
_ENDINGS = ("en", "et", "a", "er", "ene", "ar", "ane", "e")
# Verbs in -e, on stems long enough that the form is hardly another word (helse, not helst).
_VERB_ENDINGS = ("te", "t", "de", "d", "ast", "ande", "ende")
_VERB_STEM = 5
# Adjectives whose neuter in -t is safe; on nouns it is not (valg, not valgt).
_ADJECTIVE = ("al", "bar", "løs", "laus", "iv", "som", "sk")
# varsel, varsler; nummer, numre; but lærer is no «lærr-».
_SYNCOPE = re.compile(r"(.+[^aeiouyæøå])e([ln])|(.*[^aeiouyæøå]{2})e(r)")


@lru_cache(maxsize=8192)
def inflect(word: str) -> frozenset[str]:
    """All forms that a dictionary form stands for, in bokmål and nynorsk.

    >>> sorted(inflect("snø"))[:3]
    ['snø', 'snøa', 'snøane']
    """
    word = fold(word)
    if len(word) < EDGE or not word.isalpha():
        return frozenset((word,))
    stems = [word]
    extra: list[str] = [word]
    if word[-1] in "eé" and len(word) > EDGE:
        stem = word[:-1]
        stems = [stem] if word[-1] == "e" else [word, stem + "e"]
        if len(stem) >= _VERB_STEM:
            extra += (stem + ending for ending in _VERB_ENDINGS)
    elif word.endswith("um") and len(word) > EDGE + 1:
        stems.append(word[:-2])  # museum, museet
    elif word[-1] == "m" and word[-2] in "aeiouyæøå":
        stems.append(word + "m")  # program, programmet
    elif word.endswith("er"):
        extra += (word + "ne", word + "nes")  # lærer, lærerne
    if word.endswith(_ADJECTIVE):
        extra.append(word + "t")
    syncope = _SYNCOPE.fullmatch(word)
    if syncope:
        stem, last = filter(None, syncope.groups())
        if stem[-1] == stem[-2]:
            stem = stem[:-1]  # nummer, numre
        stems.append(stem + last)
    forms = [*extra, *(stem + ending for stem in stems for ending in _ENDINGS)]
    genitive = (form + "s" for form in forms if form[-1] not in "sxzdt" or form.endswith("et"))
    return frozenset((*forms, *genitive))


class _Term(NamedTuple):
    """One word of a keyword: the tokens it accepts whole, or a beginning, or endings."""

    forms: frozenset[str] = frozenset()
    prefix: str = ""
    suffixes: tuple[str, ...] = ()

    def form(self, token: str) -> str:
        """Through which form the token is accepted; empty when it is not."""
        if token in self.forms:
            return token
        if self.prefix and token.startswith(self.prefix):
            return self.prefix + "*"
        for suffix in self.suffixes:
            if token.endswith(suffix):
                return "*" + suffix
        return ""


class _Phrase(NamedTuple):
    keyword: str
    terms: tuple[_Term, ...]
    anchor: int
    """Position of a term that has whole forms; a phrase is looked for around it."""


@lru_cache(maxsize=8192)
def _terms(word: str) -> tuple[_Term, ...]:
    """One word of a keyword; «can't» is two tokens, as it is in a text."""
    exact, bare = word.startswith("="), word.strip("=*")
    pieces = _WORD.findall(bare.replace("_", " "))
    if (
        not pieces
        or word not in (bare, "=" + bare, bare + "*", "*" + bare)
        or set(bare) & set("=*")
    ):
        nb = f"«{word}» kan ikke leses; bruk ord, =ord, ord* eller *ord"
        raise WordError(nb, f"“{word}” cannot be read; use word, =word, word* or *word")
    joined = [piece.replace("-", "") for piece in pieces]
    if "*" not in word:
        if exact or len(joined) > 1:
            return tuple(_Term(forms=frozenset((piece,))) for piece in joined)
        return (_Term(forms=inflect(joined[0])),)
    if len(joined) > 1 or len(joined[0]) < EDGE:
        nb = f"«{word}»: ett ord med minst {EDGE} bokstaver sammen med *"
        raise WordError(nb, f"“{word}”: one word of at least {EDGE} letters together with *")
    if word[0] == "*":
        return (_Term(suffixes=tuple(sorted(inflect(joined[0])))),)
    return (_Term(prefix=joined[0]),)


def _variants(keyword: str, lists: Mapping[str, Sequence[str]]) -> list[tuple[_Term, ...]]:
    """Every run of terms that a keyword stands for. Raises WordError."""
    parts: list[list[str]] = []
    for word in fold(keyword).split():
        if not word.startswith("$"):
            parts.append([word])
        elif word[1:] in lists:
            parts.append([fold(entry) for entry in lists[word[1:]]])
        else:
            nb, en = f"ukjent ordliste «{word}»", f"unknown word list “{word}”"
            raise WordError(nb, en)
    if not parts:
        raise WordError("tomt nøkkelord", "an empty keyword")
    if len(list(itertools.islice(itertools.product(*parts), PHRASE_LIMIT + 1))) > PHRASE_LIMIT:
        nb, en = "ordlistene gir for mange kombinasjoner", "the word lists combine too often"
        raise WordError(nb, en)
    return [
        terms for combination in itertools.product(*parts) for terms in _runs(" ".join(combination))
    ]


@lru_cache(maxsize=16384)
def _runs(text: str) -> tuple[tuple[_Term, ...], ...]:
    """The runs of terms that a folded keyword without word lists stands for."""
    words = text.split()
    runs = [tuple(itertools.chain.from_iterable(map(_terms, words)))]
    if "-" in text:
        # «HC-kort» is found as one word, with a hyphen and with a space.
        spaced = [part for word in words for part in _spaced(word)]
        runs.append(tuple(itertools.chain.from_iterable(map(_terms, spaced))))
    return tuple(runs)


def _spaced(word: str) -> list[str]:
    if "*" in word:
        return [word]
    mark = "=" if word.startswith("=") else ""
    return [mark + part for part in word.removeprefix("=").split("-")]


@dataclass(frozen=True, slots=True)
class Keyword:
    """A keyword as the author wrote it, and what it stands for."""

    text: str
    variants: tuple[tuple[_Term, ...], ...] = field(compare=False, repr=False)

    def forms(self) -> list[str]:
        """Everything it matches, for people to read: `rules check --forms`.

        A phrase is shown once, by the shortest form of each of its words.
        """
        shown: set[str] = set()
        for terms in self.variants:
            options = [_shown(term) for term in terms]
            shown.update(
                [" ".join(min(option, key=len) for option in options)]
                if len(terms) > 1
                else options[0]
            )
        return sorted(shown)


def _shown(term: _Term) -> list[str]:
    if term.prefix:
        return [term.prefix + "*"]
    return sorted(term.forms) or ["*" + suffix for suffix in term.suffixes]


class Coverage:
    """What some keywords match together, to ask whether another one can add to it."""

    def __init__(self, keywords: Collection[Keyword]) -> None:
        singles = [terms[0] for word in keywords for terms in word.variants if len(terms) == 1]
        self._words = frozenset(keywords)
        self._forms = frozenset[str]().union(*(term.forms for term in singles))
        self._prefixes = tuple(term.prefix for term in singles if term.prefix)
        self._suffixes = tuple(suffix for term in singles for suffix in term.suffixes)

    def covers(self, word: Keyword) -> bool:
        """Whether everything that `word` matches is surely matched. May miss, never errs."""
        return word in self._words or all(
            len(terms) == 1 and self._covers(terms[0]) for terms in word.variants
        )

    def _covers(self, term: _Term) -> bool:
        if term.prefix:
            return term.prefix.startswith(self._prefixes)
        return all(suffix.endswith(self._suffixes) for suffix in term.suffixes) and all(
            form in self._forms or form.startswith(self._prefixes) or form.endswith(self._suffixes)
            for form in term.forms
        )


def keyword(text: str, lists: Mapping[str, Sequence[str]] | None = None) -> Keyword:
    """Read one keyword: `word`, `=word`, `word*`, `*word`, `"several words"`, `$list`.

    Raises WordError when it is none of these.
    """
    variants = tuple(_variants(text, lists or {}))
    if any(len(terms) > 1 and not any(term.forms for term in terms) for terms in variants):
        nb = f"«{text}»: minst ett ord uten * i en frase"
        raise WordError(nb, f"“{text}”: at least one word without * in a phrase")
    return Keyword(text, variants)


class Lexicon:
    """All keywords of a ruleset turned inside out: from a form to the keywords it belongs to."""

    def __init__(self, keywords: Iterable[Keyword]) -> None:
        self._forms: dict[str, list[str]] = defaultdict(list)
        self._prefixes: dict[str, list[tuple[str, str]]] = defaultdict(list)
        self._suffixes: dict[str, list[tuple[str, str]]] = defaultdict(list)
        self._anchors: dict[str, list[tuple[int, frozenset[str], _Phrase]]] = defaultdict(list)
        """Form of the anchor -> where a second whole word stands from it, its forms, the phrase.
        Nearly every phrase fails at that word, and a look at it costs next to nothing."""
        for word in dict.fromkeys(keywords):
            for terms in word.variants:
                if len(terms) == 1:
                    self._add_word(word.text, terms[0])
                else:
                    self._add_phrase(word.text, terms)

    def _add_word(self, text: str, term: _Term) -> None:
        for form in term.forms:
            self._forms[form].append(text)
        if term.prefix:
            self._prefixes[term.prefix[:EDGE]].append((term.prefix, text))
        for suffix in term.suffixes:
            self._suffixes[suffix[-EDGE:]].append((suffix, text))

    def _add_phrase(self, text: str, terms: tuple[_Term, ...]) -> None:
        # The longest word is the rarest, so texts are seldom searched for the whole phrase.
        whole = [index for index, term in enumerate(terms) if term.forms]
        anchor = max(whole, key=lambda index: len(min(terms[index].forms, key=len)))
        second = min(whole, key=lambda index: (index == anchor, abs(index - anchor)))
        entry = (second - anchor, terms[second].forms, _Phrase(text, terms, anchor))
        for form in terms[anchor].forms:
            self._anchors[form].append(entry)

    def scan(self, text: Text, field: str) -> dict[str, Hit]:
        """The keywords that the text has, each with the first token that shows it."""
        tokens, distinct = text
        forms, prefixes, suffixes, anchors = (
            self._forms,
            self._prefixes,
            self._suffixes,
            self._anchors,
        )
        hits: dict[str, Hit] = {}
        for token in filter(forms.__contains__, distinct):
            for key in forms[token]:
                if key not in hits:
                    hits[key] = Hit(key, token, distinct[token], field)
        for token in [token for token in distinct if token[:EDGE] in prefixes]:
            for prefix, key in prefixes[token[:EDGE]]:
                if key not in hits and token.startswith(prefix):
                    hits[key] = Hit(key, prefix + "*", distinct[token], field)
        for token in [token for token in distinct if token[-EDGE:] in suffixes]:
            for suffix, key in suffixes[token[-EDGE:]]:
                if key not in hits and token.endswith(suffix):
                    hits[key] = Hit(key, "*" + suffix, distinct[token], field)
        if not anchors.keys().isdisjoint(distinct):
            number = len(tokens)
            for index in [index for index, token in enumerate(tokens) if token in anchors]:
                for step, second, phrase in anchors[tokens[index]]:
                    if (
                        0 <= index + step < number
                        and tokens[index + step] in second
                        and phrase.keyword not in hits
                    ):
                        hit = _phrase_at(phrase, tokens, index - phrase.anchor, field)
                        if hit:
                            hits[phrase.keyword] = hit
        return hits

    def spans(self, text: Text) -> dict[str, list[tuple[int, int]]]:
        """Where in `text.tokens` each keyword stands, as (first, after last).

        A word that is found only as the joined form of a hyphenated one stands nowhere.
        """
        keys: dict[str, list[str]] = {}
        for token in text.distinct:
            whole = self._forms.get(token, ())
            begins = self._prefixes.get(token[:EDGE], ())
            ends = self._suffixes.get(token[-EDGE:], ())
            if whole or begins or ends:
                found = [
                    *whole,
                    *(key for prefix, key in begins if token.startswith(prefix)),
                    *(key for suffix, key in ends if token.endswith(suffix)),
                ]
                keys[token] = list(dict.fromkeys(found))
        spans: dict[str, list[tuple[int, int]]] = {}
        for index, token in enumerate(text.tokens):
            for key in keys.get(token, ()):
                spans.setdefault(key, []).append((index, index + 1))
            for _, _, phrase in self._anchors.get(token, ()):
                start = index - phrase.anchor
                if _phrase_at(phrase, text.tokens, start, ""):
                    spans.setdefault(phrase.keyword, []).append((start, start + len(phrase.terms)))
        return spans


def _phrase_at(phrase: _Phrase, tokens: list[str], start: int, field: str) -> Hit | None:
    end = start + len(phrase.terms)
    if start < 0 or end > len(tokens):
        return None
    run = tokens[start:end]
    forms = []
    for term, token in zip(phrase.terms, run, strict=True):
        form = term.form(token)
        if not form:
            return None
        forms.append(form)
    return Hit(phrase.keyword, " ".join(forms), " ".join(run), field)
