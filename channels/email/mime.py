"""The parts of a mail: boundaries, transfer encodings, file names. Takes any bytes, in linear time.

Parts are slices of one buffer with LF newlines; nothing is copied until it is decoded.
"""

from __future__ import annotations

import binascii
import re
from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from channels.email.charsets import clean_line
from channels.email.headers import BLOCK_LIMIT, Headers, base64_bytes, parameters, read_headers

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_PARTS = 1000
MAX_DEPTH = 50
HEADERS_LIMIT = 512 * 1024
"""Bytes of headers that are read of one mail, those of its parts together."""
_BOUNDARY_LIMIT = 1000
_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,80}/[a-z0-9!#$&^_.+-]{1,120}")
_HTML = re.compile(rb"\s{0,100}<(?:!doctype html|html|head|body)\b", re.IGNORECASE)
_GUESSED_BOUNDARIES = (
    re.compile(rb"\n--([^\n]{0,200})\n(?=content-)", re.IGNORECASE),
    re.compile(rb"\n--([^\s-][^\n]{0,200})\n"),
)


_BLOCK = 16 * 1024


class Original:
    """The bytes as they came, for what must be kept exactly."""

    def __init__(self, raw: bytes, data: bytes) -> None:
        self._raw = raw
        self.data = data
        """The same with LF newlines."""

    def slice(self, start: int, end: int) -> bytes:
        """The original of `data[start:end]`."""
        if len(self._raw) == len(self.data):
            return self._raw[start:end]
        return self._raw[self._place(start) : self._place(end)]

    def _place(self, position: int) -> int:
        """Where in the original `data[position]` begins; found by halving a block."""
        starts, positions = self._blocks
        block = bisect_right(positions, position) - 1
        low = begin = starts[block]
        high = min(begin + 2 * _BLOCK, len(self._raw))
        while low < high:
            middle = (low + high) // 2
            pairs = self._raw.count(b"\r\n", begin, middle)
            if positions[block] + middle - begin - pairs < position:
                low = middle + 1
            else:
                high = middle
        return low + (self._raw[max(low - 1, 0) : low + 1] == b"\r\n")

    @cached_property
    def _blocks(self) -> tuple[list[int], list[int]]:
        """Where blocks of the original begin, none between CR and LF; where that is in `data`."""
        starts, positions = [0], [0]
        while (end := starts[-1] + _BLOCK) < len(self._raw):
            end += self._raw[end - 1 : end + 1] == b"\r\n"
            pairs = self._raw.count(b"\r\n", starts[-1], end)
            positions.append(positions[-1] + end - starts[-1] - pairs)
            starts.append(end)
        return starts, positions


@dataclass(slots=True)
class Part:
    """One part: its headers and where its body lies."""

    data: bytes
    headers: Headers
    start: int
    end: int
    content_type: str = "text/plain"
    params: Mapping[str, str] = field(default_factory=dict)
    disposition: str = ""
    file_params: Mapping[str, str] = field(default_factory=dict)
    children: list[Part] = field(default_factory=list)
    original: Original | None = None

    @property
    def main(self) -> str:
        """`text` of `text/plain`."""
        return self.content_type.partition("/")[0]

    @property
    def charset(self) -> str:
        """The label as given, unchecked."""
        return self.params.get("charset", "")

    @property
    def filename(self) -> str:
        """The name as given, decoded but not made safe."""
        return (
            self.file_params.get("filename", "")
            or self.params.get("name", "")
            or self.params.get("filename", "")
            or self.file_params.get("name", "")
        )

    @property
    def filled(self) -> bool:
        """Whether there is more in it than white space."""
        return bool(self.data[self.start : self.end].strip())

    @property
    def encoding(self) -> str:
        """The transfer encoding, lower case."""
        return self.headers.token(b"content-transfer-encoding").strip(" ;\"'").partition(" ")[0]

    def body(self) -> bytes:
        """The bytes of the body, transfer encoding undone, newlines as LF."""
        return decode_transfer(self.data[self.start : self.end], self.encoding)

    def exact(self) -> bytes:
        """The bytes of the body, transfer encoding undone, newlines as they came."""
        original = self.original
        in_lines = self.encoding in _BASE64_NAMES or self.encoding in _UU_NAMES
        if in_lines or original is None or original.data is not self.data:
            return self.body()
        return decode_transfer(original.slice(self.start, self.end), self.encoding)


@dataclass(slots=True)
class Structure:
    """A mail taken apart."""

    root: Part
    defects: list[str]
    count: int = 0
    header_room: int = HEADERS_LIMIT
    """Bytes of headers that are still read."""
    original: Original | None = None


def read_structure(raw: bytes, header_room: int = HEADERS_LIMIT) -> Structure:
    """Take a mail apart. Never raises on any bytes. Parts beyond `header_room` are one file."""
    if raw.endswith(b"\r\r", 0, max(raw.find(b"\n"), 0)):  # CRLF written to a file of text mode
        raw = raw.replace(b"\r\r\n", b"\r\n")
    data = raw.replace(b"\r\n", b"\n")
    if b"\r" in data:
        data = data.replace(b"\r", b"\n")
    structure = Structure(Part(b"", Headers(), 0, 0), [], 0, header_room, Original(raw, data))
    start = _first_header(data, structure.defects)
    structure.root = _read_part(data, start, len(data), 0, "text/plain", structure)
    return structure


def _first_header(data: bytes, defects: list[str]) -> int:
    """Skip what some senders put before the headers: a byte order mark, empty lines."""
    start = 3 if data.startswith(b"\xef\xbb\xbf") else 0
    if data.startswith(b"\n", start):
        beyond = start
        while data.startswith(b"\n", beyond) and beyond < start + 20:
            beyond += 1
        if re.match(rb"[!-9;-~]{1,70}:[ \t]", data[beyond : beyond + 80]):
            defects.append("empty lines before the headers")
            return beyond
    return start


def _read_part(
    data: bytes, start: int, end: int, depth: int, default: str, structure: Structure
) -> Part:
    structure.count += 1
    headers, body = read_headers(data, start, end)
    structure.header_room -= min(body - start, BLOCK_LIMIT)
    structure.defects.extend(headers.defects)
    part = Part(data, headers, min(body, end), end, original=structure.original)
    _read_type(part, default, structure.defects)
    if part.main == "multipart":
        _read_children(part, depth, structure)
    return part


def _read_type(part: Part, default: str, defects: list[str]) -> None:
    headers = part.headers
    value = headers.raw(b"content-type")
    part.content_type = default
    if value:
        word, part.params = parameters(value, headers.hint)
        word = word.replace(" ", "")
        if _TYPE.fullmatch(word):
            part.content_type = "text/plain" if word == "plain/text" else word
        else:
            # RFC 2045 §5.2: what cannot be understood is plain text; with a file name it is a file.
            defects.append("malformed content type")
            if word == "multipart" or "boundary" in part.params:
                part.content_type = "multipart/mixed"
            elif part.params.get("name"):
                part.content_type = "application/octet-stream"
            elif word in ("html", "text/html") or _HTML.match(part.data, part.start, part.end):
                part.content_type = "text/html"
            else:
                part.content_type = "text/plain"
    value = headers.raw(b"content-disposition")
    if value:
        part.disposition, part.file_params = parameters(value, headers.hint)


def _read_children(part: Part, depth: int, structure: Structure) -> None:
    if depth >= MAX_DEPTH:
        structure.defects.append("nested too deep")
        part.content_type = "application/octet-stream"
        return
    boundary = part.params.get("boundary", "")[:_BOUNDARY_LIMIT].encode("utf-8", "replace").rstrip()
    slices = _split(part.data, part.start, part.end, boundary) if boundary else []
    if not slices and part.encoding in ("base64", "quoted-printable"):
        decoded = part.body().replace(b"\r\n", b"\n")  # forbidden (RFC 2045 §6.4), yet seen
        if b"\n--" in decoded or decoded.startswith(b"--"):
            part.data, part.start, part.end = decoded, 0, len(decoded)
            slices = _split(decoded, 0, len(decoded), boundary) if boundary else []
    data = part.data
    if not slices:
        structure.defects.append("multipart without its boundary")
        _leave_out_end(part, boundary)
    for guess in () if slices else _GUESSED_BOUNDARIES:
        found = guess.search(data, max(part.start - 1, 0), part.end)
        slices = _split(data, part.start, part.end, found[1].rstrip()) if found else []
        if slices:
            break
    if not slices:
        part.content_type = "text/plain"
        return
    default = "message/rfc822" if part.content_type == "multipart/digest" else "text/plain"
    for start, end in slices:
        if structure.count >= MAX_PARTS or structure.header_room <= 0:
            many = structure.count >= MAX_PARTS
            structure.defects.append("too many parts" if many else "headers too large")
            rest = Part(data, Headers(), start, slices[-1][1], "application/octet-stream")
            rest.original = structure.original
            part.children.append(rest)
            break
        part.children.append(_read_part(data, start, end, depth + 1, default, structure))


def _leave_out_end(part: Part, boundary: bytes) -> None:
    """The end of a multipart without parts is no text."""
    body = part.data[part.start : part.end].rstrip()
    if boundary and body.endswith(b"--" + boundary + b"--"):
        part.end = part.start + len(body) - len(boundary) - 4


def _split(data: bytes, start: int, end: int, boundary: bytes) -> list[tuple[int, int]]:
    """Where the parts between the boundaries lie (RFC 2046 §5.1.1); a missing end is forgiven."""
    slices: list[tuple[int, int]] = []
    mark = b"--" + boundary
    opened = closed = -1
    at = start if data.startswith(mark, start) else _next_line(data, mark, start, end)
    while at >= 0:
        after = at + len(mark)
        line_end = data.find(b"\n", after, end)
        line_end = end if line_end < 0 else line_end
        rest = data[after:line_end] if line_end - after < 1000 else b"x"
        closing = rest.startswith(b"--")
        if not (rest.removeprefix(b"--") if closing else rest).strip():
            if opened < 0 and 0 <= closed < at and data[closed:at].strip():
                opened = closed  # the end before was that of somebody else
            if opened >= 0:
                slices.append((opened, max(opened, at - 1)))
            closed = min(line_end + 1, end) if closing else -1
            opened = -1 if closing else min(line_end + 1, end)
            if len(slices) > MAX_PARTS:
                break
        at = _next_line(data, mark, after, end)
    if opened >= 0:
        slices.append((opened, end))
    return slices


def _next_line(data: bytes, mark: bytes, start: int, end: int) -> int:
    at = data.find(b"\n" + mark, max(start - 1, 0), end)
    return at + 1 if at >= 0 else -1


_BASE64_NAMES = frozenset(("base64", "b64", "x-base64"))
_UU_NAMES = frozenset(("x-uuencode", "uuencode", "x-uue", "uue"))


def decode_transfer(body: bytes, encoding: str) -> bytes:
    """Undo a transfer encoding; what is damaged is kept as far as it goes."""
    if encoding in _BASE64_NAMES:
        return _decode_base64(body)
    if encoding in ("quoted-printable", "quotedprintable", "quoted_printable", "qp"):
        if b"==" in body:  # of two, the decoder would drop one
            body = _EQUALS_BEFORE_EQUALS.sub(b"=3D", body, count=10_000)
        if _SOFT_BREAK.search(body):
            body = _SOFT_BREAK.sub(b"=\n", body)
        return binascii.a2b_qp(body)
    if encoding in _UU_NAMES:
        return _decode_uu(body)
    return body


_EQUALS_BEFORE_EQUALS = re.compile(rb"=(?==)")
_SOFT_BREAK = re.compile(rb"=[ \t]{1,100}\n")
_BASE64_LINE = re.compile(rb"[A-Za-z0-9+/=\s]*")
_WHITE = b" \t\n\r\x0b\x0c"
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="


def _decode_base64(body: bytes) -> bytes:
    if body.translate(None, _BASE64 + _WHITE):
        clean = _BASE64_LINE.match(body)
        cut = body.rfind(b"\n", 0, clean.end()) + 1 if clean else 0
        head, rest = body[:cut].rstrip(), body[cut:].lstrip()
        line = rest.partition(b"\n")[0].strip()
        if head and (b" " in line or line.startswith((b"--", b"__"))):
            # A mailing list may have put its footer behind the encoded text.
            return base64_bytes(head) + b"\n\n" + rest
        if not head and line.count(b" ") > 1:
            return body  # a text that is not encoded at all
    return base64_bytes(body)


def _decode_uu(body: bytes) -> bytes:
    decoded: list[bytes] = []
    for line in body.split(b"\n"):
        if line.startswith(b"begin ") or not line.strip():
            continue
        if line.strip() == b"end":
            break
        try:
            decoded.append(binascii.a2b_uu(line))
        except binascii.Error:
            # Trailing garbage: read what the count says.
            length = (((line[0] - 32) & 63) * 4 + 5) // 3
            try:
                decoded.append(binascii.a2b_uu(line[:length]))
            except binascii.Error:
                continue
    return b"".join(decoded)


_PATH = re.compile(r"(?:[A-Za-z]:|\.{1,2}|~)?/")
_FORBIDDEN_IN_NAMES = re.compile(
    r'["\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]'
)
_EXTENSIONS = {
    "application/pdf": ".pdf", "application/msword": ".doc", "application/rtf": ".rtf",
    "application/zip": ".zip", "application/json": ".json", "application/xml": ".xml",
    "application/pkcs7-signature": ".p7s", "application/pkcs7-mime": ".p7m",
    "application/pgp-signature": ".asc", "application/pgp-encrypted": ".asc",
    "application/ms-tnef": ".dat", "application/vnd.ms-excel": ".xls",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": ".pptx",
    "application/vnd.oasis.opendocument.text": ".odt",
    "image/jpeg": ".jpg", "image/png": ".png", "image/gif": ".gif", "image/tiff": ".tif",
    "image/heic": ".heic", "image/webp": ".webp", "image/svg+xml": ".svg", "image/bmp": ".bmp",
    "audio/mpeg": ".mp3", "audio/wav": ".wav", "audio/amr": ".amr", "audio/mp4": ".m4a",
    "video/mp4": ".mp4", "video/quicktime": ".mov", "video/3gpp": ".3gp",
    "text/plain": ".txt", "text/html": ".html", "text/csv": ".csv", "text/calendar": ".ics",
    "text/vcard": ".vcf", "text/x-vcard": ".vcf", "text/rtf": ".rtf", "text/xml": ".xml",
    "text/rfc822-headers": ".txt", "message/rfc822": ".eml", "message/global": ".eml",
    "message/delivery-status": ".txt", "message/disposition-notification": ".txt",
}  # fmt: skip

_PLAIN_NAMES = {
    "text/calendar": "invitasjon.ics",
    "message/delivery-status": "leveringsrapport.txt",
    "message/global-delivery-status": "leveringsrapport.txt",
    "message/disposition-notification": "lesekvittering.txt",
    "text/rfc822-headers": "opprinnelig-melding.txt",
}
"""What parts are called that come without a name and are known by their type."""


def safe_filename(name: str, content_type: str, number: int) -> str:
    """A name without path, control and direction characters, NFC, at most 150 characters.

    Without a usable name: what the type is called, else `vedlegg-NUMBER` and its extension.
    """
    name = clean_line(name).replace("\\", "/").rstrip("/")
    if _PATH.match(name):
        name = name.rpartition("/")[2]
    name = name.replace("/", "-")  # «Tegning 1/2.pdf»
    name = _FORBIDDEN_IN_NAMES.sub("_", name).strip(" .") if name else ""
    if not name.strip("_"):
        plain = _PLAIN_NAMES.get(content_type)
        return plain or f"vedlegg-{number}{_EXTENSIONS.get(content_type, '.bin')}"
    if len(name) > 150:
        stem, dot, extension = name.rpartition(".")
        extension = extension if dot and stem and len(extension) <= 10 else ""
        name = name[: 149 - len(extension)].rstrip(" .") + ("." + extension if extension else "")
    while len(name.encode("utf-8", "replace")) > 240:  # file systems count bytes
        stem, dot, extension = name.rpartition(".")
        name = f"{stem[:-10]}{dot}{extension}" if stem else extension[:-10]
    return name
