"""Where the new text of a mail ends and the quoted history begins. For the view only.

Nothing is deleted. Line-based and linear; for bokmål, nynorsk, Danish, Swedish and English, and
what Outlook, Apple Mail, Gmail, Thunderbird and phones put between.
"""

from __future__ import annotations

import re

LIMIT = 200_000
"""Characters of a text that is parted; a longer one is shown whole."""

_MAX_LINE = 300
"""Longer lines are text, not something that a program wrote between two messages."""

_SEPARATOR = re.compile(
    r"\s*[-_*=]{2,}\s*"
    r"(?:opprinnelige? (?:melding|e-post)|opphavle[gj] melding|opprinneleg melding"
    r"|original ?message|oprindelig (?:meddelelse|besked)|ursprungligt meddelande"
    r"|originalmeddelande|reply message"
    r"|(?:videresendt|vidaresend|vidaresendt) (?:melding|e-post)|videresendt (?:meddelelse|besked)"
    r"|vidarebefordrat (?:meddelande|mejl)|forwarded message|forwarded by .{1,80})"
    r"\s*[-_*=]{2,}\s*",
    re.IGNORECASE,
)
_BEGIN_FORWARDED = re.compile(
    r"\s*(?:begin forwarded message|start på videresendt melding|start på vidaresend melding"
    r"|start på videresendt besked|vidarebefordrat brev)\s*:?\s*",
    re.IGNORECASE,
)
_VERB = re.compile(r"\b(?:skrev|skreiv|skrive|skriver|wrote|writes|schrieb)\b", re.IGNORECASE)
_FIRST_PERSON = re.compile(
    r"\b(?:skrev|skreiv|skriver|wrote)\s+"
    r"(?:jeg|eg|vi|me|jag|I|we|du|dere|de|dykk|dokker|you|han|hun|ho|they)\b"
    r"|\b(?:jeg|eg|vi|jag|I|we|du|dere|you|they|som)\s+(?:skrev|skreiv|skriver|wrote)\b",
    re.IGNORECASE,
)
_OPENING = re.compile(
    r"\s*(?:den|på|on|am|d\.)?\s*(?:\w{2,9}[.,]{0,2}\s+){0,2}(?:den\s+)?\d{1,4}[./\-\s]"
    r"|\s*(?:den|på|on)\s+\w{2,9}[.,]{0,2}\s+(?:\w{2,9}\.?\s+)?\d{1,4}\b"
    r"|.{1,100}\b(?:skrev|skreiv)\b",
    re.IGNORECASE,
)
_WHEN = re.compile(r"\d{1,2}[:.]\d{2}\b")
_DATED = re.compile(
    r"\d{1,2}[./-]\s?\d{1,2}[./-]\s?\d{2,4}|\d{4}-\d{2}-\d{2}"
    r"|\d{1,2}\.?\s+(?:jan|feb|mar|apr|mai|maj|may|jun|jul|aug|sep|okt|oct|nov|des|dec)"
    r"|(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,8}\.?\s+\d{1,2}",
    re.IGNORECASE,
)
_OLD_GMAIL = re.compile(
    r"\s*\d{4}-\d{2}-\d{2} \d{1,2}:\d{2}(?: (?:GMT|UTC)[+-]\d{1,2}(?::\d{2})?)? "
    r".{1,150}<[^<>@\s]+@[^<>@\s]+>:\s*"
)

_FIELD = re.compile(
    r"\s*\*{0,2}\s*([A-Za-zÆØÅÄÖæøåäö][A-Za-zÆØÅÄÖæøåäö -]{1,14}?)\s*\*{0,2}\s*:\s*\*{0,2}\s*(.*)"
)
_FIELD_KINDS = {
    **dict.fromkeys(("fra", "frå", "from", "från", "von", "avsender", "avsendar"), "from"),
    **dict.fromkeys(("sendt", "sent", "skickat", "sende", "gesendet"), "sent"),
    **dict.fromkeys(("dato", "date", "datum"), "date"),
    **dict.fromkeys(("til", "to", "till", "an"), "to"),
    **dict.fromkeys(("kopi", "cc", "kopia", "kopi til", "bcc", "blindkopi"), "copy"),
    **dict.fromkeys(("emne", "subject", "ämne", "betreff", "re"), "subject"),
    **dict.fromkeys(
        ("svar til", "reply-to", "svara till", "viktighet", "importance", "prioritet", "vedlegg"),
        "other",
    ),
}
_RULE_LINE = re.compile(r"\s*[_\-—–]{5,}\s*")
_PHONE_SIGNATURE = re.compile(
    r"\s*(?:sendt (?:fra|frå|via)|sende frå|sent (?:from|via)|skickat från|skickades från|envoyé de"
    r"|hent outlook|last ned outlook|få outlook|hämta outlook|get outlook|skaff outlook)"
    r"\s.{0,30}\b(?:iphone|ipad|ipod|android|samsung|galaxy|huawei|nokia|sony|xperia|mobil\w*"
    r"|telefon\w*|smarttelefon\w*|smartphone|nettbrett\w*|phone|tablet|outlook|yahoo\w*|mail|gmail"
    r"|e-post|proton\w*|blackberry|windows|ios|mac|oneplus|pixel|xiaomi|redmi|motorola)\b.{0,150}",
    re.IGNORECASE,
)
_BARE_LINK = re.compile(r"\s*<?https?://\S{1,200}>?\s*")


def fold(text: str) -> tuple[str, str]:
    """(new text, quoted history). Every line of `text` is in one of the two.

    The history may be empty: when nothing new would be left to see, or the text is longer than
    `LIMIT`, all of it is the new text.
    """
    if len(text) > LIMIT:
        return text, ""
    lines = text.split("\n")
    begin = _history_begin(lines)
    visible, (history, after) = lines[:begin], _answer_below(lines[begin:])
    if after is None:  # answered between the quoted lines: folding would hide the answers
        begin = _trailing_quote(lines)
        visible, history, after = lines[:begin], lines[begin:], []
    signature = len(visible) if after else _signature_begin(visible)
    history = visible[signature:] + history
    visible = visible[:signature] + after
    if not any(line.strip() for line in visible):
        return text, ""
    return "\n".join(visible).rstrip(), "\n".join(history).strip("\n")


def _history_begin(lines: list[str]) -> int:
    """Index of the first line of history; `len(lines)` when there is none."""
    bare = [_squeezed(line) for line in lines]
    kinds = [_field_kind(line) for line in bare]
    for index, line in enumerate(bare):
        if not line or len(line) > _MAX_LINE:
            continue
        if not lines[index].startswith(">") and (
            _SEPARATOR.fullmatch(line) or _BEGIN_FORWARDED.fullmatch(line)
        ):
            return index
        if _is_attribution(lines, bare, index) or _is_header_block(bare, kinds, index):
            return _with_quotes(lines, _with_rule(lines, index))
    return _trailing_quote(lines)


def _squeezed(line: str) -> str:
    """Without quote marks and with single blanks: the patterns retry at each blank of a run."""
    return " ".join((line.lstrip("> ") if line.startswith(">") else line).split())


def _is_attribution(lines: list[str], bare: list[str], index: int) -> bool:
    """«Den … skrev …:», possibly broken over up to three lines."""
    if not _OPENING.match(bare[index]):
        return False
    joined = ""
    for line in bare[index : index + 3]:
        if len(line) > _MAX_LINE or (joined and not line):
            return False
        joined = f"{joined} {line}".strip()
        if joined.endswith(":"):
            break
    else:
        return False
    if _OLD_GMAIL.fullmatch(joined):
        return True
    if len(joined) > _MAX_LINE or not _VERB.search(joined) or not _DATED.search(joined):
        return False
    if "@" in joined or _next_is_quoted(lines, index):
        return True
    # «Den 3. mars kl. 10.15 skrev jeg til dere:» is somebody telling.
    return bool(_WHEN.search(joined)) and not _FIRST_PERSON.search(joined)


def _next_is_quoted(lines: list[str], index: int) -> bool:
    if lines[index].startswith(">"):
        return False
    for line in lines[index + 1 : index + 6]:
        if line.startswith(">"):
            return True
        if line.strip() and not line.rstrip().endswith(":") and line is not lines[index + 1]:
            return False
    return False


def _is_header_block(bare: list[str], kinds: list[str], index: int) -> bool:
    """«Fra: … Sendt: … Til: … Emne: …» in consecutive lines.

    From and to alone are not enough: people write «Fra: Storgata 1 / Til: Lillegata 2» themselves.
    """
    if kinds[index] != "from":
        return False
    found = {"from"}
    at_sign = "@" in bare[index]
    misses = 0
    for at in range(index + 1, min(index + 10, len(bare))):
        if kinds[at]:
            found.add(kinds[at])
            at_sign = at_sign or "@" in bare[at]
        elif bare[at]:
            misses += 1  # a long list of recipients goes on on the next line
            if misses > 2:
                break
    return (
        "sent" in found
        or {"subject", "to"} <= found
        or {"subject", "date"} <= found
        or (at_sign and bool(found & {"date", "subject", "to"}))
    )


def _field_kind(line: str) -> str:
    if ":" not in line or len(line) > 2000:
        return ""
    match = _FIELD.fullmatch(line)
    return _FIELD_KINDS.get(match[1].strip().lower(), "") if match else ""


def _with_rule(lines: list[str], index: int) -> int:
    """Include the line of underscores that Outlook puts above."""
    above = index - 1
    while above >= 0 and not lines[above].strip() and index - above < 3:
        above -= 1
    return above if above >= 0 and _RULE_LINE.fullmatch(lines[above]) else index


def _with_quotes(lines: list[str], index: int) -> int:
    """Include the `>` lines above, when what was found is itself quoted."""
    while index and lines[index].startswith(">") and lines[index - 1].startswith(">"):
        index -= 1
    return index


def _trailing_quote(lines: list[str]) -> int:
    """Where the block of `>` lines at the end begins."""
    index = len(lines)
    quoted = False
    while index > 0 and (lines[index - 1].startswith(">") or not lines[index - 1].strip()):
        quoted = quoted or lines[index - 1].startswith(">")
        index -= 1
    return index if quoted else len(lines)


def _answer_below(history: list[str]) -> tuple[list[str], list[str] | None]:
    """Split off what was written below the quote; None when answers stand between quoted lines."""
    first = next((i for i, line in enumerate(history) if line.startswith(">")), -1)
    if first < 0 or first > 6:
        return history, []
    end = first
    while end < len(history) and (history[end].startswith(">") or not history[end].strip()):
        end += 1
    below = history[end:]
    if not below or _is_only_signature(below):
        return history, []
    if any(line.startswith(">") for line in below):
        return history, None
    return history[:end], below


def _is_only_signature(lines: list[str]) -> bool:
    written = [line for line in lines if line.strip()]
    return (
        not written
        or written[0].rstrip() == "--"
        or all(
            _PHONE_SIGNATURE.fullmatch(line) or _BARE_LINK.fullmatch(line) for line in written[:3]
        )
    )


def _signature_begin(lines: list[str]) -> int:
    """Where «Sendt fra min iPhone» begins, when it is the last thing written."""
    last = len(lines)
    while last and not lines[last - 1].strip():
        last -= 1
    for index in range(last - 1, max(last - 4, -1), -1):
        line = lines[index]
        if len(line) <= _MAX_LINE and _PHONE_SIGNATURE.fullmatch(line):
            return index
        if line.strip() and not _BARE_LINK.fullmatch(line):
            break
    return len(lines)
