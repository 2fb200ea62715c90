"""What callers hear, in bokmål: one sentence each, by a key that `channels.phone.speech.phrases`
can give other words for. A phrase may also be the https address of a recording."""

from __future__ import annotations

import string

PHRASES: dict[str, str] = {
    "crisis": "",
    "greeting": "Velkommen til {municipality}.",
    "greeting_department": "Velkommen til {municipality}, {department}.",
    "closed": "Du har ringt {municipality}. Vi har stengt nå, og åpner igjen {opens}.",
    "holiday": "Du har ringt {municipality}. I dag holder vi stengt. Vi åpner igjen {opens}.",
    "emergency": (
        "Er det fare for liv eller helse, legg på og ring én én tre. Legevakten har nummer"
        " én én seks, én én sju."
    ),
    "away_until": "{person} {state}, og er tilbake {back}.",
    "away": "{person} {state}.",
    "no_answer": "{person} svarer ikke akkurat nå.",
    "nobody": "Det er ingen ledig hos {department} akkurat nå.",
    "connecting": "Jeg setter deg over til {person}.",
    "connecting_department": "Jeg setter deg over til {department}.",
    "connecting_number": "Jeg setter deg over.",
    "connecting_switchboard": "Jeg setter deg over til sentralbordet.",
    "choose_colleague": "Tast {key} for å snakke med en kollega.",
    "choose_callback": "Tast {key} hvis du vil at vi ringer deg opp.",
    "choose_voicemail": "Tast {key} for å legge igjen en beskjed.",
    "queue_first": "Du er først i køen.",
    "queue_position": "Du er nummer {position} i køen.",
    "queue_estimate": "Ventetiden er {minutes}.",
    "queue_callback": "Tast én hvis du heller vil at vi ringer deg opp. Du beholder plassen din.",
    "queue_thanks": "Takk for at du venter.",
    "back_in_queue": "Beklager, vi fikk ikke svar. Du står foran de andre i køen.",
    "too_long": "Beklager at du har måttet vente. Alle er fortsatt opptatt.",
    "voicemail": (
        "Si gjerne navnet ditt og hva det gjelder etter tonen, så tar vi kontakt. Beskjeden blir"
        " tatt opp. Tast firkant når du er ferdig."
    ),
    "recorded": "Takk for beskjeden. Vi tar kontakt {due}. Ha det bra.",
    "silent": "Vi hørte ingen beskjed. Du er velkommen til å ringe igjen. Ha det bra.",
    "callback_noted": "Det er notert. Vi ringer deg opp på dette nummeret {due}. Ha det bra.",
    "taken": "Nå får du svar. Et øyeblikk.",
    "hold": "Et øyeblikk, du er fortsatt på linjen.",
    "trouble": "Beklager, noe gikk galt hos oss.",
    "goodbye": "Ha det bra.",
    "down": "Du har ringt {municipality}. Telefonen vår virker ikke som den skal akkurat nå.",
    "down_connect": "Jeg setter deg over.",
    "down_record": (
        "Si navnet ditt, nummeret ditt og hva det gjelder etter tonen, så ringer vi deg opp."
        " Legg på når du er ferdig."
    ),
    "whisper": "Samtale til {target}. Tast én for å svare.",
    "whisper_transfer": "{operator} setter over en samtale til {target}. Tast én for å svare.",
}
"""Key -> words. What stands in braces is filled in."""

STATES: dict[str, str] = {
    "meeting": "er i møte",
    "on_phone": "snakker i telefonen",
    "busy": "er opptatt",
    "away": "er ikke på plassen sin",
    "absent": "er ikke til stede",
    "off_hours": "har gått for dagen",
}
"""State of a person -> what callers hear of it; others are «er ikke ledig». Never why somebody is
absent: that may be health (GDPR art. 9)."""


def blanks(phrase: str) -> set[str]:
    """What a phrase wants filled in. Raises `ValueError` when its braces do not fit together."""
    return {name for _, name, _, _ in string.Formatter().parse(phrase) if name is not None}


def fault_of(key: str, words: str) -> str:
    """Why other words for a phrase cannot be used; empty when they can."""
    if key not in PHRASES:
        return "unknown"
    if words.startswith(("http://", "https://")):
        return "" if words.startswith("https://") else "not https"
    try:
        return "" if blanks(words) <= blanks(PHRASES[key]) else "blanks"
    except ValueError:
        return "braces"
