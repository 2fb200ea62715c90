"""What of a mail is text to read and what are files: its parts sorted, and the text of them."""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from channels.base import Attachment
from channels.email.charsets import clean, clean_line, codec_of, decode, decode_text
from channels.email.headers import decode_words
from channels.email.markup import HTML_LIMIT, declared_charset, strip_tags, to_text, unflow
from channels.email.mime import HEADERS_LIMIT, Part, read_structure, safe_filename
from channels.email.sniff import BINARY, sniff
from channels.email.tnef import Budget

if TYPE_CHECKING:
    from collections.abc import Iterable

TEXT_LIMIT = 1_000_000
"""Bytes of all text parts that go into `text`; what does not fit is kept whole as an attachment."""

MESSAGES = frozenset(("message/rfc822", "message/global"))
HTML = frozenset(("text/html", "text/xhtml"))
READABLE = HTML | {
    "text/plain",
    "text/enriched",
    "text/richtext",
    "text/markdown",
    "text/x-markdown",
    "text/flowed",
}
_SUBJECT_LOOKED_AT = 64 * 1024
_MAX_FORWARDED = 20
_MAX_FORWARDED_DEPTH = 3


@dataclass(slots=True)
class Block:
    """A stretch of the body: the same text as plain parts, as HTML parts, or both."""

    plain: list[Part] = field(default_factory=list)
    html: list[Part] = field(default_factory=list)


@dataclass(slots=True)
class Body:
    """The leaves of a mail, each in one of the two."""

    blocks: list[Block] = field(default_factory=list)
    files: list[Part] = field(default_factory=list)


@dataclass(slots=True)
class Room:
    """How much of a mail is still read as text; a thousand long parts are no more than one."""

    attachments: list[Attachment] = field(default_factory=list)
    defects: list[str] = field(default_factory=list)
    text: int = TEXT_LIMIT
    parsed: int = HTML_LIMIT
    shown: int = HTML_LIMIT
    headers: int = HEADERS_LIMIT
    unpacked: Budget = field(default_factory=Budget)
    """Files that are found inside something else."""
    kept: set[int] = field(default_factory=set)
    """Identities of the parts that are attached whole."""

    def keep(self, part: Part, defect: str) -> None:
        """Attach what is not all to be seen."""
        self.defects.append(defect)
        if id(part) not in self.kept:
            self.kept.add(id(part))
            self.attachments.append(attachment(part, len(self.attachments) + 1))

    def take_out(self, parts: Iterable[Part]) -> None:
        """Attach the files of a message inside, beside the message itself."""
        for part in parts:
            if not self.unpacked.file():
                break
            file = attachment(part, len(self.attachments) + 1)
            if len(self.unpacked.content(file.content)) == len(file.content):
                self.attachments.append(file)
        if self.unpacked.spent:
            self.defects.append("not every file was unpacked, the whole of it is attached")

    def add(self, name: str, content: bytes, declared: str, content_id: str = "") -> None:
        """Attach a file that was found inside something else."""
        kind = sniff(content, declared)
        self.attachments.append(
            Attachment(
                filename=safe_filename(name, kind, len(self.attachments) + 1),
                content_type=kind,
                content=content,
                content_id=clean_line(content_id).strip("<> ")[:200],
            )
        )


def sort_parts(root: Part) -> Body:
    """The leaves below `root`. A readable file serves as text when there is no other."""
    body = Body()
    _gather(root, body, is_root=True)
    if not body.blocks:
        readable = (part for part in body.files if part.content_type in READABLE and is_text(part))
        body.blocks = [Block([part], []) for part in readable][:1]
    root.headers.hint = _charset_hint(root, body)
    return body


def _gather(part: Part, body: Body, *, is_root: bool = False, alternative: bool = False) -> None:
    if part.children:
        if part.content_type == "multipart/alternative":
            inner = Body()
            for child in part.children:
                _gather(child, inner, alternative=True)
            body.files.extend(inner.files)
            plain = [part for block in inner.blocks for part in block.plain]
            # One of them is enough: others say the same in enriched text or Markdown.
            plainest = [part for part in plain if part.content_type == "text/plain" and part.filled]
            documents = [part for block in inner.blocks for part in block.html]
            body.blocks.append(Block(plainest or plain, documents))
        else:
            for number, child in enumerate(part.children):
                _gather(child, body, alternative=alternative and number == 0)
        return
    as_file = part.disposition == "attachment"
    if not alternative:
        # A name alone, without disposition, is common on bodies too.
        named = "filename" in part.file_params or (bool(body.blocks) and bool(part.filename))
        as_file = as_file or named
    told = part.start < part.end or part.filename or part.disposition
    shown = is_root or part.disposition in ("", "inline")
    if part.content_type in READABLE and (not as_file or (shown and is_text(part))):
        html = part.content_type in HTML
        body.blocks.append(Block([], [part]) if html else Block([part], []))
        if as_file and told:
            body.files.append(part)
    elif told or b"content-type" in part.headers:
        body.files.append(part)


def is_text(part: Part) -> bool:
    """Whether it is not a file of some other kind that is called a text."""
    kind = "text/plain" if _is_wide(part.charset) else sniff(part.body(), part.content_type)
    return kind.startswith("text/") or kind == BINARY


def _charset_hint(root: Part, body: Body) -> str:
    if root.charset:
        return root.charset
    parts = (part for block in body.blocks for part in (*block.plain, *block.html))
    return next((part.charset for part in parts if part.charset), "")


def text_of(body: Body, room: Room) -> str:
    """The text of all blocks: the plain version of each, or what its HTML says."""
    texts: list[str] = []
    above = ""
    for block in body.blocks:
        text = "\n\n".join(filter(None, (plain_text(part, room) for part in block.plain)))
        if not text and block.html:
            text = "\n\n".join(filter(None, (_from_html(part, room) for part in block.html)))
            if above and _says_the_same(above, text):
                continue  # a sender that calls its alternatives mixed
        above = text if block.plain and not block.html else ""
        if text:
            texts.append(text)
    return "\n\n".join(texts)


_SAME_LIMIT = 4000


def _says_the_same(plain: str, html: str) -> bool:
    short = "".join(filter(str.isalnum, plain[:_SAME_LIMIT]))
    other = "".join(filter(str.isalnum, html[: 2 * _SAME_LIMIT]))
    return bool(short) and other.startswith(short[: _SAME_LIMIT // 2])


def _bytes(part: Part, room: Room) -> bytes:
    content = part.body()
    if len(content) > room.text:
        room.keep(part, "text shortened, the whole of it is attached")
        content = content[: room.text]
    room.text -= len(content)
    return content


def plain_text(part: Part, room: Room) -> str:
    """The text of a plain part; files uuencoded within go to the attachments."""
    content = _bytes(part, room)
    if b"begin " in content:
        content = _without_uuencoded(content, room)
    text = clean(decode_text(content, part.charset))
    if part.params.get("format", "").lower() == "flowed":
        text = unflow(text, part.params.get("delsp", "").lower() == "yes")
    elif part.content_type in ("text/enriched", "text/richtext"):
        text = _ENRICHED.sub("", text)
    return text.strip("\n").rstrip()


_ENRICHED = re.compile(r"</?[A-Za-z][A-Za-z0-9-]{0,60}>")
_UU_BEGIN = re.compile(rb"^begin 0?[0-7]{3} (\S[^\n]{0,200})\n(?=[!-`])", re.MULTILINE)
_UU_LINE = re.compile(rb"[ -`]{1,90}\s*")


def _without_uuencoded(content: bytes, room: Room) -> bytes:
    """`content` without the files that old programs put between the lines of a text."""
    kept: list[bytes] = []
    at = 0
    for begin in _UU_BEGIN.finditer(content):
        if begin.start() < at or room.unpacked.files <= 0:
            continue
        decoded, end = _uudecode(content, begin.end())
        if end < 0 or not room.unpacked.file():
            continue
        name = decode(begin[1])
        room.add(name, decoded, "application/octet-stream")
        kept += [content[at : begin.start()], f"[{clean_line(name)}]\n".encode()]
        at = end
    return b"".join((*kept, content[at:]))


def _uudecode(content: bytes, at: int) -> tuple[bytes, int]:
    """The file from `at` on and where the text goes on; -1 when these are no encoded lines."""
    decoded: list[bytes] = []
    while at < len(content):
        end = content.find(b"\n", at)
        end = len(content) if end < 0 else end
        line = content[at:end]
        at = end + 1
        if line.rstrip() == b"end":
            return b"".join(decoded), at
        if not line.strip() or line.strip() == b"`":
            continue
        if not _UU_LINE.fullmatch(line):
            break
        try:
            decoded.append(binascii.a2b_uu(line.rstrip(b"\r")))
        except binascii.Error:
            break
    return b"", -1


def _from_html(part: Part, room: Room) -> str:
    content = _bytes(part, room)
    derive = to_text if len(content) <= room.parsed else strip_tags
    room.parsed -= len(content)
    return clean(derive(html_source(part, content))).strip()


def html_source(part: Part, content: bytes) -> str:
    """The document in `content` as text, by the charset it claims."""
    label = part.charset if codec_of(part.charset) else declared_charset(content)
    return decode_text(content, label)


def html_text(content: bytes, room: Room) -> str:
    """The text of a document found inside something else."""
    content = content[: room.text]
    room.text -= len(content)
    derive = to_text if len(content) <= room.parsed else strip_tags
    room.parsed -= len(content)
    return clean(derive(decode_text(content, declared_charset(content)))).strip()


def forwarded_text(files: Iterable[Part], room: Room, *, has_text: bool, depth: int = 1) -> str:
    """What forwarded messages say, each below its sender, date and subject.

    One that is marked as an attachment is only a file, unless there is nothing else to read.
    """
    texts: list[str] = []
    for part in files:
        if part.content_type not in MESSAGES or (has_text and part.disposition == "attachment"):
            continue
        if len(texts) >= _MAX_FORWARDED or min(room.text, room.headers) <= 0:
            break
        structure = read_structure(part.exact(), room.headers)
        room.headers = structure.header_room
        inner = structure.root
        body = sort_parts(inner)
        told = [
            f"{label}: {value}"
            for label, name in (("Fra", b"from"), ("Dato", b"date"), ("Emne", b"subject"))
            if (value := inner.headers.text(name)[:500])
        ]
        aside = Room(text=room.text, parsed=room.parsed, unpacked=room.unpacked)
        text = text_of(body, aside)
        room.text, room.parsed = aside.text, aside.parsed
        room.attachments.extend(aside.attachments)
        room.take_out(body.files)
        lines = ["---------- Videresendt melding ----------", *told, "", text]
        texts.append("\n".join(lines).rstrip())
        if depth < _MAX_FORWARDED_DEPTH:
            inside = forwarded_text(body.files, room, has_text=bool(text), depth=depth + 1)
            texts.extend(filter(None, [inside]))
    return "\n\n".join(texts)


def attachment(part: Part, number: int) -> Attachment:
    """A part as a file: its bytes as they came, its type by what it is, its name made safe."""
    content = part.exact()
    content_type = part.content_type
    name = part.filename
    if content_type in MESSAGES:
        if not name:
            subject = _subject(content)[:100].replace("/", "-")
            name = f"{subject}.eml" if subject else ""
    elif part.main != "message" and not (part.main == "text" and _is_wide(part.charset)):
        content_type = sniff(content, content_type)
    content_id = clean_line(part.headers.raw(b"content-id").decode("ascii", "replace"))
    return Attachment(
        filename=safe_filename(name, content_type, number),
        content_type=content_type,
        content=content,
        content_id=content_id.strip("<> ")[:200],
        inline=part.disposition != "attachment"
        and bool(content_id)
        and content_type.startswith("image/"),
    )


_SUBJECT = re.compile(
    rb"\r?\n\r?\n|^subject[ \t]*:[ \t]*([^\r\n]{0,2000}(?:\r?\n[ \t][^\r\n]{0,2000}){0,20})",
    re.IGNORECASE | re.MULTILINE,
)
_FOLD = re.compile(rb"\r?\n(?=[ \t])")


def _subject(message: bytes) -> str:
    """What a message inside says it is about, by a look at its first 64 kB: there may be hundreds,
    and reading all headers of each takes long."""
    found = _SUBJECT.search(message, 0, _SUBJECT_LOOKED_AT)
    return decode_words(_FOLD.sub(b"", found[1])).strip() if found and found[1] else ""


def _is_wide(label: str) -> bool:
    return codec_of(label).startswith(("utf-16", "utf-32"))
