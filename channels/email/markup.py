"""HTML from mail: plain text of it, and a sanitised copy to look at. Also format=flowed text.

The parsers behind both take quadratic time, or cut, when a document is large, nested deep or made
of odd things: such a document gives its text by a plain scan, and no copy to look at.
"""

from __future__ import annotations

import re
import secrets
from functools import cache
from html import unescape
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Callable

HTML_LIMIT = 256 * 1024
"""Characters of HTML that are parsed; of a larger document only the text is scanned for."""

_NESTING_LIMIT = 200
_TAGS_LIMIT = 10_000
"""Tags that may nest: where a document misleads our count, so deep it is at the most."""
_TEXT_DEPTH = 250
"""The parser that text is read with leaves out what is nested deeper than 256."""
_ATTRIBUTES_LIMIT = 4000
_ATTRIBUTE_BREAK = re.compile(r"[\s/\"']")
_ESCAPES_LIMIT = 50_000
_TAG = re.compile(
    r"""
    <!--(?:-?>|.*?(?:--!?>|\Z))
    |<(/?)([a-zA-Z][^\t\n\f\r />]*+)
     (?:[\t\n\f\r /]++
      |[^\t\n\f\r />][^\t\n\f\r />=]*+
       (?:[\t\n\f\r ]*+=[\t\n\f\r ]*+
        (?:"[^"]*+(?:"|\Z)|'[^']*+(?:'|\Z)|[^\t\n\f\r >"'][^\t\n\f\r >]*+)?+)?+)*+
     (?:>|\Z)
    |<[!?/][^>]*+
    """,
    re.DOTALL | re.VERBOSE,
)
"""A comment or a tag, as far as the tokenizer of HTML takes each (WHATWG HTML §13.2.5)."""
_ANY_TAG = re.compile(r"<[^<>]*>")
_LINE_TAG = re.compile(r"<(?:br|/?p|/?div|/?tr|/?li|/?h[1-6])\b[^<>]*>", re.IGNORECASE)
_VOID = frozenset({
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source",
    "track", "wbr", "p", "li", "td", "tr", "th",
})  # fmt: skip
"""Elements that do not nest: they are empty, or the next of the kind closes the one before."""

_SKIPPED = frozenset({
    "head", "style", "script", "template", "svg", "math", "object", "iframe", "noframes", "title",
    "select",
})  # fmt: skip
_SKIPPED_BEGIN = re.compile(rf"<!--|<({'|'.join(sorted(_SKIPPED))})\b", re.IGNORECASE)
_SKIPPED_END = {
    "": re.compile("-->"),
    **{name: re.compile(rf"</{name}\b[^<>]*>", re.IGNORECASE) for name in _SKIPPED},
}
_BLOCKS = frozenset({
    "address", "article", "aside", "blockquote", "body", "center", "dd", "details", "div", "dl",
    "dt", "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6",
    "header", "hr", "html", "li", "main", "nav", "ol", "p", "pre", "section", "summary", "table",
    "tbody", "tfoot", "thead", "tr", "ul",
})  # fmt: skip
_SPACED = frozenset({
    "p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "table", "blockquote", "pre", "dl",
})  # fmt: skip
_SHOWN = {
    "a", "abbr", "b", "blockquote", "br", "caption", "code", "dd", "del", "div", "dl", "dt", "em",
    "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "ins", "kbd", "li", "mark", "ol", "p",
    "pre", "q", "s", "samp", "small", "span", "strike", "strong", "sub", "sup", "table", "tbody",
    "td", "tfoot", "th", "thead", "tr", "tt", "u", "ul",
}  # fmt: skip
_SPACE = re.compile(r"[ \t\n\r\f\u00a0]+")
_SPACES_IN_LINE = re.compile(r"[ \t\r\f\u00a0]+")
_MANY_LINES = re.compile(r"\n{3,}")
_EMPTY_LINES = re.compile(r"\n[ \n]*\n[ \n]*")
_LONG_NUMBER = re.compile(r"&#0*([0-9]{1,8})[0-9]*")
_HIDDEN = re.compile(r"display\s*:\s*none|mso-hide\s*:\s*all", re.IGNORECASE)
_META_CHARSET = re.compile(
    rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]{1,40})", re.IGNORECASE
)


def declared_charset(html: bytes) -> str:
    """The charset that the document itself names in its first 2,048 bytes, or empty."""
    match = _META_CHARSET.search(html[:2048])
    label = match[1].decode("ascii") if match else ""
    # What can be read here is not UTF-16 (WHATWG HTML §13.2.3.2).
    return "" if label.lower().startswith("utf-16") else label


class Images:
    """What becomes of the pictures in one mail."""

    def __init__(self, url: Callable[[str], str] | None = None) -> None:
        self._url = url
        self.remote = 0
        self.content_ids: dict[str, None] = {}

    def source(self, value: str) -> str | None:
        """The address to show a picture from, None when it is not to be loaded."""
        value = value.strip()
        scheme, colon, name = value.partition(":")
        if scheme.lower() == "cid":
            content_id = unquote(name).strip("<> ")[:200]
            self.content_ids[content_id] = None
            return (self._url(content_id) or None) if self._url else f"cid:{name}"
        self.remote += value.startswith("//") or (bool(colon) and scheme.lower() != "data")
        return None


def sanitise(html: str, images: Images | None = None) -> str:
    """HTML that is safe to show, without scripts, styles, forms, remote images. Links lead nowhere;
    their `title` tells where they would.

    Empty when it is too large, nested too deep, or little but signs to escape.
    """
    if len(html) > HTML_LIMIT or _too_odd(html) or _too_many_escapes(html):
        return ""
    lower = html.lower()
    if "<img" not in lower and "href" not in lower:
        plain: str = _plain_cleaner().clean(html)
        return plain.strip()
    # Nobody can guess it, so it stands nowhere but where the cleaner was told to put it.
    mark = f"{secrets.token_hex(8)}:"
    clean: str = _cleaner(images or Images(), mark).clean(html)
    return _UNLOADED.sub(_description, clean.replace(f' href="{mark}', ' title="')).strip()


# As the cleaner writes a picture without address: names in its order, quotes escaped.
_UNLOADED = re.compile(r'<img((?: (?:alt|width|height|dir|lang)="[^"]*")*)>')
_ALT = re.compile(r' alt="([^"]*)"')
_ABSOLUTE = re.compile(r"\s*(?:https?|mailto|tel|cid):", re.IGNORECASE)
_TINY = re.compile(r' (?:width|height)="[0-3](?:px)?"')


def _description(image: re.Match[str]) -> str:
    alt = _ALT.search(image[1])
    told = alt[1].strip() if alt else ""
    if not told:  # a picture of one pixel counts readers, and shows nothing
        return "" if _TINY.search(image[1]) else "[bilde]"
    return f"[{told}]"


@cache
def _plain_cleaner() -> Any:
    """For a document without pictures and links."""
    return _new_cleaner({})


def _cleaner(images: Images, mark: str) -> Any:
    """One that writes addresses of links behind `mark`."""

    def only_ours(tag: str, attribute: str, value: str) -> str | None:
        if (tag, attribute) == ("img", "src"):
            return images.source(value)
        if attribute == "href":
            return mark + value if _ABSOLUTE.match(value) else None
        return value

    return _new_cleaner(
        {"a": {"href"}, "img": {"src", "alt", "width", "height"}},
        attribute_filter=only_ours,
        # The filter sees to these: our own pictures have relative addresses.
        url_relative="pass_through",
    )


def _new_cleaner(attributes: dict[str, set[str]], **options: Any) -> Any:
    import nh3  # here, so that workers start without it

    return nh3.Cleaner(
        tags=_SHOWN,
        clean_content_tags={"script", "style", "title", "template", "noframes", "select"},
        attributes={
            "*": {"dir", "lang"},
            "td": {"colspan", "rowspan"},
            "th": {"colspan", "rowspan"},
            "ol": {"start"},
            **attributes,
        },
        url_schemes={"http", "https", "mailto", "tel", "cid"},
        link_rel=None,
        **options,
    )


def _too_odd(html: str) -> bool:
    """Whether it is nested too deep, or a tag has more attributes than anybody writes: each is
    compared with all others."""
    depth = begun = 0
    unclosed: dict[str, int] = {}
    for tag in _TAG.finditer(html):
        name = (tag[2] or "").lower()
        if (
            name
            and tag.end() - tag.start() > 2 * _ATTRIBUTES_LIMIT
            and len(_ATTRIBUTE_BREAK.findall(tag[0])) > _ATTRIBUTES_LIMIT
        ):
            return True
        if not name or name in _VOID:
            continue
        count = unclosed.get(name, 0)
        if not tag[1]:
            unclosed[name] = count + 1
            depth += 1
            begun += 1
            if depth > _NESTING_LIMIT or begun > _TAGS_LIMIT:
                return True
        elif count:  # the end of what was never begun closes nothing
            unclosed[name] = count - 1
            depth -= 1
    return False


def _too_many_escapes(html: str) -> bool:
    """Whether the cleaner would write more `&amp;` and `&nbsp;` than it can in good time.

    It moves all the text that follows for each of them.
    """
    return html.count("&") + html.count("\u00a0") > _ESCAPES_LIMIT


def to_text(html: str) -> str:
    """The text of an HTML document: paragraphs, lists, links and quotes stay readable."""
    if len(html) > HTML_LIMIT or _too_odd(html):
        return strip_tags(html)
    from lxml import etree  # here, so that workers start without it

    parser = etree.HTMLParser(
        encoding="utf-8", remove_comments=True, remove_pis=True, no_network=True, recover=True
    )
    try:
        root = etree.fromstring(html.replace("\x00", "").encode("utf-8", "replace"), parser)
    except (etree.LxmlError, ValueError):
        return strip_tags(html)
    if root is None:
        return ""
    writer = _Writer()
    walker = etree.iterwalk(root, events=("start", "end"))
    depth = 0
    for event, element in walker:
        tag = element.tag
        if not isinstance(tag, str):
            continue
        depth += 1 if event == "start" else -1
        if depth > _TEXT_DEPTH:
            return strip_tags(html)
        if event == "start":
            if tag in _SKIPPED or _HIDDEN.search(element.get("style") or ""):
                walker.skip_subtree()
                writer.hidden = element
                continue
            writer.open(tag, element)
            writer.text(element.text)
        else:
            if element is writer.hidden:
                writer.hidden = None
            else:
                writer.close(tag, element)
            writer.text(element.tail)
    # The parser takes what follows a style or script that does not end for part of it.
    return writer.result() or strip_tags(html)


def strip_tags(html: str) -> str:
    """The text of any HTML in linear time, hidden text included; line breaks are all its form."""
    text = _ANY_TAG.sub(" ", _LINE_TAG.sub("\n", _without_skipped(html)))
    # More digits than a character can have: reading thousands of them as a number is refused.
    text = _LONG_NUMBER.sub(r"&#\1", _SPACES_IN_LINE.sub(" ", text))
    return _EMPTY_LINES.sub("\n\n", unescape(text)).strip()


def _without_skipped(html: str) -> str:
    """Without comments, styles, scripts …; one that does not end keeps its content."""
    pieces: list[str] = []
    endless: set[str] = set()
    at = 0
    for begin in _SKIPPED_BEGIN.finditer(html):
        name = (begin[1] or "").lower()
        if begin.start() < at or name in endless:
            continue
        end = _SKIPPED_END[name].search(html, begin.end())
        if end is None:
            endless.add(name)
            continue
        pieces.append(html[at : begin.start()])
        at = end.end()
    return "".join([*pieces, html[at:]])


class _Writer:
    """Collects lines of text while the document is walked."""

    def __init__(self) -> None:
        self.hidden: Any = None
        self._lines: list[str] = []
        self._current: list[str] = []
        self._blank_wanted = False
        self._blank_level = 0
        self._quotes = 0
        self._lists: list[int] = []
        self._pre = 0
        self._links: list[int] = []

    def text(self, text: str | None) -> None:
        if not text:
            return
        if self._pre:
            first, *others = text.split("\n")
            self._current.append(first)
            for line in others:
                self._break()
                self._current.append(line)
            return
        text = _SPACE.sub(" ", text)
        if text.startswith(" ") and (not self._current or self._current[-1].endswith(" ")):
            text = text[1:]
        if text:
            self._current.append(text)

    def open(self, tag: str, element: Any) -> None:
        if tag == "br":
            self._break()
        elif tag in _BLOCKS:
            self._end_block("li" if tag in ("ul", "ol") and self._lists else tag)
        if tag == "blockquote":
            self._quotes += 1
        elif tag == "pre":
            self._pre += 1
        elif tag == "ul":
            self._lists.append(-1)
        elif tag == "ol":
            self._lists.append(0)
        elif tag == "li":
            self._current.append(self._bullet())
        elif tag in ("td", "th"):
            if any(piece.strip() for piece in self._current):
                self._current.append("  ")
        elif tag == "a":
            self._links.append(len(self._current))
        elif tag == "img":
            alt = (element.get("alt") or "").strip()
            if alt:
                self.text(f"[{alt}]")

    def close(self, tag: str, element: Any) -> None:
        if tag in _BLOCKS:
            self._end_block(tag)
        if tag == "blockquote":
            self._quotes = max(self._quotes - 1, 0)
        elif tag == "pre":
            self._pre = max(self._pre - 1, 0)
        elif tag in ("ul", "ol") and self._lists:
            self._lists.pop()
        elif tag == "a" and self._links:
            self._link(element.get("href") or "", self._links.pop())

    def _bullet(self) -> str:
        indent = "  " * (len(self._lists) - 1)
        if not self._lists or self._lists[-1] < 0:
            return f"{indent}- "
        self._lists[-1] += 1
        return f"{indent}{self._lists[-1]}. "

    def _link(self, href: str, begin: int) -> None:
        href = "".join(href.split())[:1000]
        shown = "".join(self._current[begin:]).strip()
        target = href.removeprefix("mailto:").removeprefix("tel:")
        bare = target.removeprefix("https://").removeprefix("http://").rstrip("/")
        if (
            href.lower().startswith(("http://", "https://", "mailto:", "tel:"))
            and bare not in shown
        ):
            self._current.append(f" <{target}>" if shown else f"<{target}>")

    def _end_block(self, tag: str) -> None:
        if self._current:
            self._break()
        if tag in _SPACED and not (tag in ("ul", "ol") and len(self._lists) > 1):
            self._blank_wanted = True
            self._blank_level = self._quotes

    def _break(self) -> None:
        line = "".join(self._current)
        line = line.rstrip() if self._pre else line.strip() if not self._lists else line.rstrip()
        self._current = []
        prefix = "> " * min(self._quotes, 20)
        if self._blank_wanted and self._lines and line:
            self._lines.append(("> " * min(self._quotes, self._blank_level)).rstrip())
        if line:
            self._blank_wanted = False
        self._lines.append(prefix + line if line else prefix.rstrip())

    def result(self) -> str:
        if self._current:
            self._break()
        return _MANY_LINES.sub("\n\n", "\n".join(self._lines)).strip("\n")


def unflow(text: str, delsp: bool) -> str:
    """Join the soft-broken lines of format=flowed text (RFC 3676 §4)."""
    lines: list[str] = []
    paragraph: list[str] = []
    level = 0

    def end() -> None:
        if paragraph:
            lines.append((">" * level + " " if level else "") + "".join(paragraph))
            paragraph.clear()

    for line in text.split("\n"):
        content = line.lstrip(">")
        depth = len(line) - len(content)
        content = content.removeprefix(" ")  # space-stuffing, §4.4
        if depth != level or content == "-- ":
            end()
            level = depth
        if content.endswith(" ") and content != "-- ":
            paragraph.append(content[:-1] if delsp else content)
        else:
            paragraph.append(content)
            end()
    end()
    return "\n".join(lines)
