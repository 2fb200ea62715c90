"""What the XMPP door says by itself: errors to whoever writes, and errors of others in words."""

from __future__ import annotations

WORDS: dict[str, dict[str, str]] = {
    "unknown": {
        "nb": "Denne adressen finnes ikke. Skriv til servicetorget eller en avdeling.",
        "nn": "Denne adressa finst ikkje. Skriv til servicetorget eller ei avdeling.",
        "en": "There is no such address. Write to the service centre or a department.",
    },
    "too_long": {
        "nb": "Meldingen er for lang. Del den opp: 4000 tegn om gangen.",
        "nn": "Meldinga er for lang. Del ho opp: 4000 teikn om gongen.",
        "en": "The message is too long. Send it in parts of at most 4000 characters.",
    },
    "encrypted": {
        "nb": "Vi kan ikke lese krypterte meldinger. Slå av ende-til-ende-kryptering (OMEMO) her.",
        "nn": "Vi kan ikkje lese krypterte meldingar. Slå av ende-til-ende-kryptering (OMEMO) her.",
        "en": "We cannot read encrypted messages. Turn end-to-end encryption (OMEMO) off here.",
    },
    "retracted": {
        "nb": "Det du har sendt, kan ikke trekkes tilbake. Skriv heller hva som er riktig.",
        "nn": "Det du har sendt, kan ikkje trekkjast tilbake. Skriv heller kva som er rett.",
        "en": "What you have sent cannot be taken back. Write what is right instead.",
    },
    "too_fast": {
        "nb": "Det ble for mange meldinger på kort tid. Vent et minutt, og send denne igjen.",
        "nn": "Det vart for mange meldingar på kort tid. Vent eit minutt, og send denne igjen.",
        "en": "Too many messages in a short time. Wait a minute, and send this one again.",
    },
    "domain_too_fast": {
        "nb": "Det kommer for mange meldinger fra serveren din. Vent litt, og send denne igjen.",
        "nn": "Det kjem for mange meldingar frå serveren din. Vent litt, og send denne igjen.",
        "en": "Too many messages come from your server. Wait a minute, and send this one again.",
    },
    "domain_full": {
        "nb": "Så mange nye skriver fra serveren din. Prøv om en time, eller ring oss.",
        "nn": "Så mange nye skriv frå serveren din. Prøv om ein time, eller ring oss.",
        "en": "Many new people write from your server. Try in an hour, or call us.",
    },
    "busy": {
        "nb": "Vi kunne ikke ta imot meldingen akkurat nå. Send den igjen om litt.",
        "nn": "Vi kunne ikkje ta imot meldinga akkurat no. Send ho igjen om litt.",
        "en": "We could not take the message just now. Send it again in a little while.",
    },
}
"""Key -> language -> sentence."""

CONDITIONS = {
    "item-not-found": "Adressen finnes ikke.",
    "gone": "Adressen er ikke i bruk lenger.",
    "jid-malformed": "Adressen er ikke gyldig.",
    "service-unavailable": "Adressen finnes ikke, eller den tar ikke imot meldinger nå.",
    "recipient-unavailable": "Mottakeren er ikke pålogget.",
    "not-allowed": "Mottakeren tar ikke imot meldinger fra oss.",
    "forbidden": "Mottakeren tar ikke imot meldinger fra oss.",
    "not-acceptable": "Mottakeren tar ikke imot meldinger fra oss.",
    "policy-violation": "Mottakerens server slipper ikke meldingen fram.",
    "resource-constraint": "Mottakeren kan ikke ta imot mer akkurat nå.",
    "remote-server-not-found": "Mottakerens server ble ikke funnet.",
    "remote-server-timeout": "Mottakerens server svarer ikke.",
}
"""Error condition (RFC 6120 §8.3.3) -> what an operator reads."""


def words(key: str, language: str) -> str:
    """A sentence to whoever writes to us, in bokmål where their language is none of ours."""
    return WORDS[key].get(language, WORDS[key]["nb"])


def condition_in_words(condition: str) -> str:
    """Why a message of ours came back."""
    return CONDITIONS.get(condition, f"Meldingen kom i retur ({condition}).")
