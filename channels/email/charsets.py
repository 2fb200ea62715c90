"""Bytes to text, whatever the sender claims: an allow-list of charsets and sensible guesses.

The label comes from outside, so it is never looked up among the interpreter's codecs: some of those
(idna, hex, undefined …) are no text encodings at all.
"""

from __future__ import annotations

import re

from channels.text import nfc

_LABELS = {
    "utf-8": (
        "utf-8 utf8 unicode-1-1-utf-8 utf-8-mac utf8mb4 utf8mb3 unicode utf-8n utf-8-sig cp65001"
        " 65001"
    ),
    "cp1252": (
        "iso-8859-1 iso8859-1 iso88591 8859-1 latin1 latin-1 l1 cp819 ibm819 iso-ir-100"
        " windows-1252"
        " windows1252 cp1252 cp-1252 1252 x-ansi ansi iso-8859-1-windows-3.1-latin-1"
        " iso-8859-1:1987"
    ),
    "cp1250": "windows-1250 cp1250 x-cp1250",
    "cp1251": "windows-1251 cp1251 x-cp1251 win-1251",
    "cp1253": "windows-1253 cp1253",
    "cp1254": "windows-1254 cp1254 iso-8859-9 iso8859-9 latin5",
    "cp1255": "windows-1255 cp1255",
    "cp1256": "windows-1256 cp1256",
    "cp1257": "windows-1257 cp1257",
    "cp1258": "windows-1258 cp1258",
    "iso8859_2": "iso-8859-2 iso8859-2 latin2",
    "iso8859_3": "iso-8859-3 latin3",
    "iso8859_4": "iso-8859-4 iso8859-4 latin4",
    "iso8859_5": "iso-8859-5 iso8859-5",
    "iso8859_6": "iso-8859-6 iso8859-6 iso-8859-6-i iso-8859-6-e",
    "iso8859_7": "iso-8859-7 iso8859-7 greek",
    "iso8859_8": "iso-8859-8 iso8859-8 iso-8859-8-i iso-8859-8-e hebrew",
    "iso8859_10": "iso-8859-10 latin6",
    "iso8859_13": "iso-8859-13",
    "iso8859_14": "iso-8859-14",
    "iso8859_15": "iso-8859-15 iso8859-15 latin9 latin-9 iso-8859-15-windows",
    "iso8859_16": "iso-8859-16",
    "cp874": "windows-874 cp874 tis-620 iso-8859-11 tis620",
    "koi8_r": "koi8-r koi8 koi",
    "koi8_u": "koi8-u koi8-ru",
    "cp437": "cp437 ibm437 437",
    "cp737": "cp737 ibm737",
    "cp775": "cp775 ibm775",
    "cp850": "cp850 ibm850 850",
    "cp852": "cp852 ibm852",
    "cp855": "cp855 ibm855",
    "cp857": "cp857 ibm857",
    "cp858": "cp858 ibm00858",
    "cp860": "cp860 ibm860",
    "cp861": "cp861 ibm861",
    "cp862": "cp862 ibm862 dos-862",
    "cp863": "cp863 ibm863",
    "cp864": "cp864 ibm864",
    "cp865": "cp865 ibm865 865",
    "cp866": "cp866 ibm866",
    "mac_roman": "macintosh mac x-mac-roman mac-roman macroman x-macintosh",
    "mac_cyrillic": "x-mac-cyrillic x-mac-ukrainian mac-cyrillic",
    "mac_latin2": "x-mac-ce x-mac-centraleurroman mac-centraleurope mac-latin2",
    "mac_greek": "x-mac-greek mac-greek",
    "mac_turkish": "x-mac-turkish mac-turkish",
    "mac_iceland": "x-mac-icelandic mac-iceland",
    "mac_romanian": "x-mac-romanian mac-romanian",
    "mac_croatian": "x-mac-croatian mac-croatian",
    "gb18030": "gb18030 gb2312 gbk cp936 x-gbk gb-2312 gb2312-80 euc-cn chinese csgb2312",
    "hz": "hz-gb-2312 hz",
    "cp950": "big5 cp950 x-x-big5 csbig5 windows-950",
    "big5hkscs": "big5-hkscs big5hkscs",
    "cp932": "shift-jis sjis shiftjis x-sjis ms-kanji windows-31j cp932 cswindows31j",
    "euc_jp": "euc-jp x-euc-jp eucjp",
    "iso2022_jp_2": "iso-2022-jp iso-2022-jp-2 csiso2022jp",
    "iso2022_jp_ext": "iso-2022-jp-ext iso-2022-jp-1 iso-2022-jp-3 iso-2022-jp-ms cp50220 cp50221",
    "cp949": "euc-kr ks-c-5601-1987 ks-c-5601 ksc5601 ks-c-5601-1989 cp949 korean windows-949 uhc",
    "johab": "johab",
    "iso2022_kr": "iso-2022-kr",
    "utf-7": "utf-7 utf7 unicode-1-1-utf-7 x-unicode-2-0-utf-7",
    "utf-16": "utf-16 utf16 iso-10646-ucs-2 ucs-2",
    "utf-16-le": "utf-16le",
    "utf-16-be": "utf-16be",
    "utf-32": "utf-32 utf32 ucs-4 iso-10646-ucs-4",
    "utf-32-le": "utf-32le",
    "utf-32-be": "utf-32be",
}
_CODECS = {label: codec for codec, labels in _LABELS.items() for label in labels.split()}

_LATIN = frozenset(
    ("cp1252", "cp1250", "cp1257", "iso8859_2", "iso8859_4", "iso8859_10", "iso8859_15")
)
"""Texts of these are practically never valid UTF-8; when one is, the label was wrong."""
_STATEFUL = frozenset(
    (
        "utf-7",
        "hz",
        "iso2022_jp_2",
        "iso2022_jp_ext",
        "iso2022_kr",
        "utf-16",
        "utf-16-le",
        "utf-16-be",
        "utf-32",
        "utf-32-le",
        "utf-32-be",
    )
)
"""ASCII bytes mean something else here."""
_BYTE_ORDER_MARKS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))

_LABEL_END = re.compile(r"[*;,\s\"'?]")
_MULTIBYTE = re.compile(
    rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}"
)
_DAMAGE = re.compile("\ufffd+")
_DROPPED_BYTES = bytes([*range(9), 11, 12, *range(14, 32), 127])
_DROPPED = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufff9-\ufffb\ufeff\ufffe\uffff]"
)
_SURROGATES = re.compile("[\ud800-\udfff]")
_BREAKS = re.compile("\r\n?|[\u2028\u2029]")
_LINE_DROPPED = re.compile("[\u202a-\u202e\u2066-\u2069\u061c]")
_SPACES = re.compile("[\t\n\r\u2028\u2029]+")


def codec_of(label: str) -> str:
    """The codec for a label from outside; empty when unknown or plain ASCII: then we guess."""
    found = _CODECS.get(label)
    if found is None:
        label = _LABEL_END.split(label.strip(" \t\r\n\"';=").lower(), maxsplit=1)[0]
        label = label.replace("_", "-")
        found = _CODECS.get(label) or _CODECS.get(label.removeprefix("x-"), "")
    return found


def decode(data: bytes, label: str = "") -> str:
    """Text of `data` in the labelled charset, else UTF-8, else Windows-1252.

    Never raises, and gives no lone surrogates.
    """
    codec = codec_of(label)
    if codec in _STATEFUL:  # UTF-7 can spell lone surrogates, and its decoder lets them through
        return _SURROGATES.sub("\ufffd", data.decode(codec, "replace"))
    if data.isascii():
        return data.decode("ascii")
    for mark, marked in _BYTE_ORDER_MARKS:
        if data.startswith(mark) and (marked == "utf-8" or not codec):
            return data.decode(marked, "replace")
    if codec == "utf-8" or not codec or codec in _LATIN:
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            if codec == "utf-8" or not codec:
                return _not_quite_utf8(data)
            return data.decode(codec, "replace")
    try:
        return data.decode(codec)
    except UnicodeDecodeError:
        pass
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode(codec, "replace")


def _not_quite_utf8(data: bytes) -> str:
    """Damaged UTF-8 keeps what is whole; anything else is Windows-1252."""
    text = data.decode("utf-8", "replace")
    whole = sum(1 for _ in _MULTIBYTE.finditer(data))
    if whole and whole >= len(_DAMAGE.findall(text)):
        return text
    return data.decode("cp1252", "replace")


def decode_text(data: bytes, label: str = "") -> str:
    """Text of a body in the labelled charset, without control bytes; Japanese of old programs is
    known by its escapes."""
    if b"\x1b$" in data and not codec_of(label):
        label = "iso-2022-jp"
    return decode(strip_controls(data, label), label)


def strip_controls(data: bytes, label: str = "") -> bytes:
    """`data` without control bytes that no text needs (cheaper here than in the text)."""
    codec = codec_of(label)
    if codec in _STATEFUL or (not codec and data.startswith((b"\xff\xfe", b"\xfe\xff"))):
        return data
    return data.translate(None, _DROPPED_BYTES)


def clean(text: str) -> str:
    """NFC, newlines as LF, no control characters, no lone surrogates; for text of several lines."""
    if "\r" in text or "\u2028" in text or "\u2029" in text:
        text = _BREAKS.sub("\n", text)
    text = _DROPPED.sub("", text)
    return nfc(text)


def clean_line(text: str) -> str:
    """`clean` for one line: line breaks become spaces, direction overrides go."""
    ascii_only = text.isascii()
    if ascii_only and text.isprintable():
        return text.strip()
    text = _DROPPED.sub("", _SPACES.sub(" ", text))
    if not ascii_only:
        text = nfc(_LINE_DROPPED.sub("", text))
    return text.strip()
