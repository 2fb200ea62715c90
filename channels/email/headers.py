"""Header fields of a mail, read tolerantly: folding, encoded words, parameters, addresses, dates.

The standard library's parsers raise on, or take quadratic time over, headers that anyone can send;
everything here is linear and takes any bytes.
"""

from __future__ import annotations

import binascii
import re
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from channels.email.addresses import normalise
from channels.email.charsets import clean_line, codec_of, decode

if TYPE_CHECKING:
    from collections.abc import Mapping

FIELD_LIMIT = 64 * 1024
BLOCK_LIMIT = 256 * 1024
_NAME_BYTES = bytes(b for b in range(33, 127) if b != ord(":"))
_KNOWN = re.compile(
    rb"(?:from|to|cc|bcc|subject|date|message-id|mime-version|content-[a-z-]+|received|return-path"
    rb"|reply-to|sender|in-reply-to|references|delivered-to|precedence|(?:x|list|arc|resent)-[!-9;-~]+"
    rb"|dkim-signature|authentication-results|user-agent|thread-[a-z]+)[ \t]*:",
    re.IGNORECASE,
)
_MAX_ADDRESSES = 1000
_MAX_IDS = 200


class Headers:
    """The fields of one header block, in order. Names in lower case, values as bytes."""

    __slots__ = ("_first", "defects", "fields", "hint")

    def __init__(self) -> None:
        self.fields: list[tuple[bytes, list[bytes]]] = []
        self._first: dict[bytes, list[bytes]] = {}
        self.defects: list[str] = []
        self.hint = ""
        """Charset of the body, the best guess for raw 8-bit fields."""

    def add(self, name: bytes, line: bytes) -> list[bytes]:
        """Append a field with its first line; the list takes its further lines."""
        lines = [line]
        self.fields.append((name, lines))
        self._first.setdefault(name, lines)
        return lines

    def __contains__(self, name: bytes) -> bool:
        return name in self._first

    def raw(self, name: bytes) -> bytes:
        """The first field of that name, unfolded, or empty."""
        lines = self._first.get(name)
        return _unfold(lines) if lines else b""

    def all(self, name: bytes) -> list[bytes]:
        """Every field of that name, unfolded."""
        return [_unfold(lines) for field, lines in self.fields if field == name]

    def text(self, name: bytes) -> str:
        """The first field of that name that is not blank, as one clean line of text."""
        if name not in self._first:
            return ""
        value = self.raw(name) or next(filter(None, self.all(name)[1:10]), b"")
        return decode_words(value, self.hint) if value else ""

    def token(self, name: bytes) -> str:
        """The first field of that name in lower case, no comments: for fields of fixed words."""
        if name not in self._first:
            return ""
        value = self.raw(name).decode("ascii", "replace").partition("(")[0]
        return clean_line(value).lower()

    def addresses(self, name: bytes) -> list[tuple[str, str]]:
        """(name, address) pairs of the first field of that name that has any."""
        if name not in self._first:
            return []
        value = self.raw(name)
        return parse_addresses(value, self.hint) or next(
            filter(None, (parse_addresses(other, self.hint) for other in self.all(name)[1:10])), []
        )


def _unfold(lines: list[bytes]) -> bytes:
    if len(lines) == 1:
        return lines[0].strip()[:FIELD_LIMIT]
    return b" ".join([line.strip() for line in lines])[:FIELD_LIMIT].strip()


def read_headers(data: bytes, start: int, end: int) -> tuple[Headers, int]:
    """The header block at `start` (LF newlines) and where the body begins."""
    headers = Headers()
    if data.startswith(b"\n", start):
        return headers, start + 1
    blank = data.find(b"\n\n", start, end)
    block_end, body = (end, end) if blank < 0 else (blank, blank + 2)
    if block_end - start > BLOCK_LIMIT:
        headers.defects.append("headers too large")
        cut = data.rfind(b"\n", start, start + BLOCK_LIMIT)
        block_end = cut if cut > start else start + BLOCK_LIMIT
        body = block_end if blank < 0 else body
    lines = data[start:block_end].split(b"\n")
    current: list[bytes] | None = None
    for index, line in enumerate(lines):
        if line.startswith(_WHITE):
            if current is not None:
                current.append(line)
            continue
        name, colon, value = line.partition(b":")
        known = _NAMES.get(name) or _field_name(name) if colon else b""
        if known and b"=" not in name:
            current = headers.add(known, value)
        elif current and current[-1].endswith((b";", b"; ")) and _PARAMETER_ALONE.match(line):
            headers.defects.append("folded line without indentation")
            current.append(line)
        elif not line.startswith((b"From ", b">From ")):  # mbox separator
            if not _KNOWN.match(_next_field(lines, index)):
                headers.defects.append("no blank line between headers and body")
                return headers, start + sum(map(len, lines[:index])) + index
            if colon or current is None:
                headers.defects.append("odd line among the headers")
                current = []
            else:
                headers.defects.append("folded line without indentation")
                current.append(line)
    return headers, body


_PARAMETER_ALONE = re.compile(rb"[A-Za-z0-9*-]{1,40}[ \t]*=")


def _next_field(lines: list[bytes], index: int) -> bytes:
    """The line after this one and those that are indented below it."""
    index += 1
    while index < len(lines) and lines[index].startswith(_WHITE):
        index += 1
    return lines[index] if index < len(lines) else b""


_WHITE = (b" ", b"\t")
_NAMES: dict[bytes, bytes] = {}
"""Names as written -> in lower case, of the fields met so far."""
_MAX_NAMES = 2000


def _field_name(name: bytes) -> bytes:
    """The name in lower case; empty when it is none (RFC 5322 §2.2)."""
    stripped = name.rstrip(b" \t")
    if not stripped or stripped.translate(None, _NAME_BYTES):
        return b""
    lowered = stripped.lower()
    if len(_NAMES) < _MAX_NAMES and len(name) < 50:
        _NAMES[name] = lowered
    return lowered


def decode_words(value: bytes, hint: str = "") -> str:
    """A header value as one clean line, encoded words (RFC 2047) decoded, broken ones too."""
    text = _raw_text(value, hint)
    return clean_line(_decode_words(text) if "=?" in text else text)


def _raw_text(value: bytes, hint: str) -> str:
    if value.isascii():
        if b"\x1b$" in value:
            return decode(value, "iso-2022-jp")
        return value.decode("ascii")
    # Raw 8-bit: UTF-8 (RFC 6532) if it is, else the body's charset, else Windows-1252.
    codec = codec_of(hint)
    if codec and codec not in ("utf-8", "utf-7", "utf-16"):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return decode(value, hint)
    return decode(value)


def _decode_words(text: str) -> str:
    pieces: list[str] = []
    pending: list[tuple[str, str, str]] = []  # adjacent words: charset, encoding, content
    position = 0
    closed = True  # whether any `?=` is left to find
    while True:
        start = text.find("=?", position)
        word = _word_at(text, start, closed) if start >= 0 else None
        if start < 0 or word is None:
            stop = len(text) if start < 0 else start + 2
            plain = text[position:stop]
            if plain:
                if pending and plain.strip():
                    pieces.append(_join(pending))
                    pending = []
                if not pending:
                    pieces.append(plain)
            if start < 0:
                break
            position = stop
            continue
        charset, encoding, content, end, closed = word
        between = text[position:start]
        if between.strip() or not pending:  # RFC 2047 §6.2: space between two words is not text
            if pending:
                pieces.append(_join(pending))
                pending = []
            pieces.append(between)
        pending.append((charset, encoding, content))
        position = end
    if pending:
        pieces.append(_join(pending))
    return "".join(pieces)


def _word_at(text: str, start: int, closed: bool) -> tuple[str, str, str, int, bool] | None:
    """Charset, encoding, content and end of the encoded word at `start`, if it is one."""
    first = text.find("?", start + 2, start + 80)
    if first < 0 or text[first + 2 : first + 3] != "?" or text[first + 1] not in "bBqQ":
        return None
    charset = text[start + 2 : first]
    if not charset or not charset.isascii() or " " in charset:
        return None
    begin = first + 3
    end = text.find("?=", begin) if closed else -1
    # `?==41?=`: a content that begins with an escape looks like an end.
    next_word = text.find("=?", begin, end if end >= 0 else len(text))
    if end >= 0 and next_word < 0:
        return charset, text[first + 1].lower(), text[begin:end], end + 2, True
    # Cut off: the word ends where the next begins, or at the end.
    stop = next_word if next_word >= 0 else len(text)
    content = text[begin:stop].rstrip()
    return charset, text[first + 1].lower(), content.rstrip("?="), stop, end >= 0


def _join(words: list[tuple[str, str, str]]) -> str:
    """Decode adjacent words; those of one charset together, since some senders split characters."""
    text: list[str] = []
    index = 0
    while index < len(words):
        charset = words[index][0].lower()
        data: list[bytes] = []
        while index < len(words) and words[index][0].lower() == charset:
            _, encoding, content = words[index]
            index += 1
            if encoding == "b":
                content = "".join(content.split())
                # A sender that splits its base64 anywhere leaves words that are no whole groups.
                run = [content]
                while len(run[-1]) % 4 and run[-1][-1:] != "=" and index < len(words):
                    if words[index][:2] != words[index - 1][:2]:
                        break
                    run.append("".join(words[index][2].split()))
                    index += 1
                data += [base64_bytes(piece.encode("ascii", "replace")) for piece in _groups(run)]
            else:
                # A space inside is not allowed and is meant as one.
                encoded = content.replace(" ", "_").encode("utf-8", "replace")
                data.append(binascii.a2b_qp(encoded, header=True))
        text.append(decode(b"".join(data), charset))
    return "".join(text)


def _groups(run: list[str]) -> list[str]:
    """Base64 that was cut anywhere as one piece; words that only lack their padding one by one."""
    joined = "".join(run)
    return run if len(joined) % 4 and all(map(_is_whole, run)) else [joined]


def _is_whole(piece: str) -> bool:
    """Whether no bit would be lost were this all: those after the last byte are nought."""
    piece = piece.rstrip("=")
    last, beyond = piece[-1:], len(piece) % 4
    return beyond == 0 or (beyond > 1 and last in ("AQgw" if beyond == 2 else "AEIMQUYcgkosw048"))


_NOT_BASE64 = bytes(
    set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")
)


def base64_bytes(data: bytes) -> bytes:
    """Base64 with anything wrong with it: other characters, padding missing or in the middle."""
    data = data.translate(None, _NOT_BASE64)
    if b"=" in data.rstrip(b"="):
        return b"".join([_base64_run(run) for run in data.split(b"=") if run])
    return _base64_run(data.rstrip(b"="))


def _base64_run(run: bytes) -> bytes:
    if len(run) % 4 == 1:
        run = run[:-1]
    return binascii.a2b_base64(run + b"=" * (-len(run) % 4))


_PARAMETER = re.compile(
    # A semicolon, which some forget behind a quoted string.
    rb'(?:;|(?<=")(?=[ \t]))[ \t]*([^=;" \t]*)[ \t]*(?:=[ \t]*("(?:[^"\\]|\\.)*"?|[^;]*))?',
    re.DOTALL,
)
_NO_SEMICOLON = re.compile(rb"(?<![ \t])[ \t]+([A-Za-z*0-9-]{1,40}[ \t]{0,9}=)")
_SECTION = re.compile(r"([^*]+)(?:\*(\d{1,4}))?(\*)?")
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)


def parameters(value: bytes, hint: str = "") -> tuple[str, Mapping[str, str]]:
    """The leading word of a field, lower case, and its parameters (RFC 2045, 2231), decoded.

    Sections may be missing or out of order; encoded words in quotes are decoded though forbidden.
    """
    if len(value) < _REMEMBERED and b"oundary" not in value:
        return _parameters_again(value, hint)
    return _parameters(value, hint)


_REMEMBERED = 100
"""Bytes of a field that are so common that it is read once: `text/plain; charset=utf-8`."""


def _parameters(value: bytes, hint: str) -> tuple[str, Mapping[str, str]]:
    head, _, _ = value.partition(b";")
    if b"=" in head:  # «text/html charset=utf-8», or a field of nothing but parameters
        value = _NO_SEMICOLON.sub(rb";\1", value, count=1)
        head, _, _ = value.partition(b";")
        if b"=" in head:
            value, head = b";" + value, b""
    word = clean_line(head.partition(b"(")[0].decode("ascii", "replace")).lower()
    plain: dict[str, str] = {}
    sections: dict[str, dict[int, tuple[bool, bytes]]] = {}
    for match in _PARAMETER.finditer(value, len(head)):
        content = match[2]
        if content is None:
            continue
        quoted = content.startswith(b'"')
        if quoted:
            content = _ESCAPED.sub(rb"\1", content.removeprefix(b'"').removesuffix(b'"'))
        else:
            content = content.partition(b" (")[0].strip()
        parts = _SECTION.fullmatch(match[1].decode("ascii", "replace").lower())
        if parts is None or len(sections) > 100:
            continue
        name, number, encoded = parts[1], parts[2], parts[3]
        if number is None and not encoded:
            plain.setdefault(name, decode_words(content, hint))
        else:
            sections.setdefault(name, {}).setdefault(int(number or 0), (bool(encoded), content))
    for name, numbered in sections.items():
        plain[name] = clean_line(_join_sections(numbered, hint))
    return word, plain


_parameters_again = lru_cache(maxsize=512)(_parameters)


def _join_sections(numbered: dict[int, tuple[bool, bytes]], hint: str) -> str:
    charset = hint
    data: list[bytes] = []
    for index, number in enumerate(sorted(numbered)):
        encoded, content = numbered[number]
        if encoded:
            if index == 0 and content.count(b"'") >= 2:
                label, _, rest = content.partition(b"'")
                charset = label.decode("ascii", "replace")
                content = rest.partition(b"'")[2]
            content = unquote_to_bytes(content)
        data.append(content)
    joined = b"".join(data)
    text = decode(joined, charset)
    return decode_words(joined, hint) if "=?" in text else text


_ADDRESS_TOKEN = re.compile(
    r"""=\?[^?\s]+\?[bBqQ]\?[^?]*\?=   # an encoded word may hold anything
      | "(?:[^"\\]|\\.)*"?
      | <[^<>]*>?
      | \\.
      | [(),;:]
      | [^"<(),;:\\=]+
      | .""",
    re.VERBOSE | re.DOTALL,
)
_DELIMITERS = re.compile(r'[\s<>"(),;:\[\]]+')
_QUOTED_LOCAL = re.compile(r'"(?:[^"\\]|\\.){1,64}"@[^\s<>()\[\],;:"]{1,255}')
_SPACED_AT = re.compile(r"(?<!\s)\s*@\s*")
_COMMENT = re.compile(r"\([^()]*\)")
_EMPTY_BRACKETS = re.compile(r"<[ ]*>|\[[ ]*\]")
_AROUND = ".'"
_PHRASE_LIMIT = 300


def parse_addresses(value: bytes, hint: str = "") -> list[tuple[str, str]]:
    """(display name, address) pairs (RFC 5322 §3.4); groups are flattened, the rest is left out.

    Structure is read before encoded words are decoded: a decoded name cannot pose as an address.
    """
    found: list[tuple[str, str]] = []
    words: list[str] = []
    comment: list[str] = []
    angle = ""
    depth = 0
    ends = False
    pieces = [*_ADDRESS_TOKEN.findall(_raw_text(value, hint)), ","]
    closed = _closed(pieces) if "(" in pieces else frozenset()
    for index, piece in enumerate(pieces):
        if depth and (piece != "," or ends):
            depth += {"(": 1, ")": -1}.get(piece, 0)
            if depth:
                comment.append(piece)
        elif piece == "(":
            depth, ends = 1, index in closed
        elif piece in (",", ";"):
            if not (words or angle or comment):
                depth = 0
                continue
            pair = _mailbox("".join(words), angle, "".join(comment))
            if pair:
                found.append(pair)
                if len(found) >= _MAX_ADDRESSES:
                    break
            if pair or piece == ";" or sum(map(len, words)) > _PHRASE_LIMIT:
                words.clear()
            elif words:
                words[-1:] = [words[-1].rstrip(), ", "]  # «Nordmann, Kari <…>» without quotes
            comment.clear()
            angle, depth = "", 0
        elif piece == ":" and not angle:
            if not any("@" in word for word in words[-3:]):
                words.clear()  # name of a group
        elif piece.startswith("<"):
            if not angle:
                piece = _COMMENT.sub("", piece) if "(" in piece else piece
                angle = piece.strip("<>").strip().removeprefix("mailto:").rpartition(":")[2]
        elif not angle:
            words.append(piece)
    return found


def _closed(pieces: list[str]) -> frozenset[int]:
    """Which parentheses are closed again; a comment that is not ends at the next comma."""
    opened: list[int] = []
    closed: set[int] = set()
    for index, piece in enumerate(pieces):
        if piece == "(":
            opened.append(index)
        elif piece == ")" and opened:
            closed.add(opened.pop())
    return frozenset(closed)


def _mailbox(phrase: str, angle: str, comment: str) -> tuple[str, str] | None:
    address = normalise(angle)
    if not address:
        bare = _bare_address(phrase)
        if not bare and "@" in phrase:  # obs-local-part (RFC 5322 §4.4)
            phrase = _SPACED_AT.sub("@", phrase)
            bare = _bare_address(phrase)
        bare = bare or _bare_address(comment)
        address = normalise(bare.strip(_AROUND))
        if bare:
            phrase = _EMPTY_BRACKETS.sub(" ", phrase.replace(bare, " ")).rstrip(" >")
            phrase = phrase if phrase.strip(" <()[]") else ""
    if not address:
        return None
    name = _display_name(phrase) or _display_name(comment)
    return ("" if name.lower() == address else name), address


def _bare_address(text: str) -> str:
    if "@" not in text:
        return ""
    quoted = _QUOTED_LOCAL.search(text)
    if quoted and normalise(quoted[0]):
        return quoted[0]
    return next((word for word in _DELIMITERS.split(text) if normalise(word.strip(_AROUND))), "")


def _display_name(phrase: str) -> str:
    parts = [_unquote(token) for token in _ADDRESS_TOKEN.findall(phrase[-_PHRASE_LIMIT * 10 :])]
    name = "".join(parts)
    if "=?" in name:
        name = _decode_words(name)
    name = clean_line(name).strip(' ,;:"')
    if len(name) > 1 and name[0] == name[-1] == "'":
        name = name[1:-1]
    return " ".join(name.split())[:200].strip()


def _unquote(token: str) -> str:
    if token.startswith('"'):
        return re.sub(r"\\(.)", r"\1", token.removeprefix('"').removesuffix('"'))
    return token.removeprefix("\\") if len(token) == 2 else token


_ID = re.compile(r"<[^<>\s]{1,996}>")


def message_ids(value: bytes) -> tuple[str, ...]:
    """The Message-IDs in a field, in order and with angle brackets, given to those without."""
    text = clean_line(value.decode("utf-8", "replace").replace("\ufffd", ""))
    ids = _ID.findall(text)[:_MAX_IDS]
    if not ids and "@" in text:
        ids = [f"<{word}>" for word in _DELIMITERS.split(text[:1000]) if "@" in word.strip("@")][:1]
    return tuple(dict.fromkeys(ids))


_DATE = re.compile(
    r"(\d{1,2})[ .\-/]+([a-z]{3})[a-z]*[ .,\-/]+(\d{2,4})[ ,]+"
    r"(?:kl\.? *)?(\d{1,2})[:.](\d{2})(?:[:.](\d{2}))?"
    r"(?:[.,]\d+)? *([ap]m)? *([+-]\d{4}|[a-z]{1,5})?",
    re.IGNORECASE,
)
_ISO_DATE = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})[t ](\d{2}):(\d{2})(?::(\d{2}))?(?:\.\d+)? *(z|[+-]\d{2}:?\d{2})?",
    re.IGNORECASE,
)
_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "jan",
            "feb",
            "mar",
            "apr",
            "may mai maj",
            "jun",
            "jul",
            "aug",
            "sep",
            "oct okt",
            "nov",
            "dec des",
        ),
        start=1,
    )
    for name in names.split()
}
_ZONES = {
    "est": -300, "edt": -240, "cst": -360, "cdt": -300, "mst": -420, "mdt": -360, "pst": -480,
    "pdt": -420, "cet": 60, "cest": 120, "met": 60, "mest": 120, "mez": 60, "mesz": 120, "bst": 60,
    "eet": 120, "eest": 180, "wet": 0, "west": 60, "msk": 180,
}  # fmt: skip


def parse_date(value: bytes) -> datetime | None:
    """What the sender claims in `Date:` as aware UTC; None when it makes no sense."""
    text = value[:200].decode("ascii", "replace")
    try:
        if match := _DATE.search(text):
            day, month, year, hour, minute, second, half, zone = match.groups()
            years = int(year)
            if len(year) < 4:  # RFC 5322 §4.3: two and three digits
                years += 1900 if years > 49 else 2000
            hours = int(hour)
            if half:
                hours = hours % 12 + (12 if half.lower() == "pm" else 0)
            when = datetime(
                years, _MONTHS[month.lower()], int(day),
                hours, int(minute), min(int(second or 0), 59),
                tzinfo=timezone(_offset(zone)),
            )  # fmt: skip
        elif match := _ISO_DATE.search(text):
            years, months, day_, hours, minutes, seconds = (int(g or 0) for g in match.groups()[:6])
            zone = timezone(_offset((match[7] or "").replace(":", "")))
            when = datetime(years, months, day_, hours, minutes, min(seconds, 59), tzinfo=zone)
        else:
            return None
        return when.astimezone(UTC)
    except (ValueError, KeyError, OverflowError):
        return None


def _offset(zone: str | None) -> timedelta:
    if not zone:
        return timedelta()
    if zone[0] in "+-":
        minutes = int(zone[1:3]) * 60 + int(zone[3:5])
        return timedelta(minutes=-minutes if zone[0] == "-" else minutes)
    return timedelta(minutes=_ZONES.get(zone.lower(), 0))
