"""Bytes to text, whatever the sender claims: an allow-list of charsets and sensible guesses.

The label comes from outside, so it is never looked up among the interpreter's codecs: some of those
(idna, hex, undefined …) are no text encodings at all.
"""

from __future__ import annotations

import re
from functools import lru_cache

from channels.text import nfc

_LABELS = {
    "utf-8": (
        "utf8 unicode11utf8 utf8mac utf8mb4 utf8mb3 unicode utf8n utf8sig cp65001 65001"
        " unicode20utf8 utf8bom"
    ),
    "cp1252": (
        "iso88591 88591 latin1 l1 cp819 ibm819 isoir100 windows1252 cp1252 1252 ansi"
        " iso88591windows31latin1 csisolatin1 win1252"
    ),
    "cp1250": "windows1250 cp1250 win1250",
    "cp1251": "windows1251 cp1251 win1251",
    "cp1253": "windows1253 cp1253",
    "cp1254": "windows1254 cp1254 iso88599 latin5 l5 csisolatin5 isoir148",
    "cp1255": "windows1255 cp1255",
    "cp1256": "windows1256 cp1256",
    "cp1257": "windows1257 cp1257",
    "cp1258": "windows1258 cp1258",
    "iso8859_2": "iso88592 latin2 l2 csisolatin2 isoir101",
    "iso8859_3": "iso88593 latin3 l3 csisolatin3 isoir109",
    "iso8859_4": "iso88594 latin4 l4 csisolatin4 isoir110",
    "iso8859_5": "iso88595 cyrillic csisolatincyrillic isoir144",
    "iso8859_6": "iso88596 iso88596i iso88596e arabic csisolatinarabic asmo708 ecma114 isoir127",
    "iso8859_7": "iso88597 greek greek8 csisolatingreek ecma118 elot928 isoir126",
    "iso8859_8": "iso88598 iso88598i iso88598e hebrew visual logical csisolatinhebrew isoir138",
    "iso8859_10": "iso885910 latin6 l6 csisolatin6 isoir157",
    "iso8859_13": "iso885913 latin7",
    "iso8859_14": "iso885914 latin8",
    "iso8859_15": "iso885915 latin9 iso885915windows l9 csisolatin9",
    "iso8859_16": "iso885916 latin10",
    "cp874": "windows874 cp874 tis620 iso885911 thai dos874",
    "koi8_r": "koi8r koi8 koi cskoi8r",
    "koi8_u": "koi8u koi8ru",
    "cp437": "cp437 ibm437 437 cspc8codepage437",
    "cp737": "cp737 ibm737",
    "cp775": "cp775 ibm775",
    "cp850": "cp850 ibm850 850 cspc850multilingual",
    "cp852": "cp852 ibm852",
    "cp855": "cp855 ibm855",
    "cp857": "cp857 ibm857",
    "cp858": "cp858 ibm00858",
    "cp860": "cp860 ibm860",
    "cp861": "cp861 ibm861",
    "cp862": "cp862 ibm862 dos862",
    "cp863": "cp863 ibm863",
    "cp864": "cp864 ibm864",
    "cp865": "cp865 ibm865 865",
    "cp866": "cp866 ibm866 866 csibm866",
    "mac_roman": "macintosh mac macroman csmacintosh",
    "mac_cyrillic": "maccyrillic macukrainian",
    "mac_latin2": "macce maccentraleurroman maccentraleurope maclatin2",
    "mac_greek": "macgreek",
    "mac_turkish": "macturkish",
    "mac_iceland": "macicelandic maciceland",
    "mac_romanian": "macromanian",
    "mac_croatian": "maccroatian",
    "gb18030": (
        "gb18030 gb2312 gbk cp936 gb231280 euccn chinese csgb2312 cngb csiso58gb231280"
        " isoir58 ms936 windows936"
    ),
    "hz": "hzgb2312 hz",
    "cp950": "big5 cp950 xbig5 csbig5 windows950 cnbig5 big5eten",
    "big5hkscs": "big5hkscs",
    "cp932": "shiftjis sjis mskanji windows31j cp932 cswindows31j ms932 csshiftjis mscp932",
    "euc_jp": "eucjp euc ujis cseucpkdfmtjapanese",
    "iso2022_jp_2": "iso2022jp iso2022jp2 csiso2022jp",
    "iso2022_jp_ext": "iso2022jpext iso2022jp1 iso2022jp3 iso2022jpms cp50220 cp50221",
    "cp949": (
        "euckr ksc56011987 ksc5601 ksc56011989 cp949 korean windows949 uhc ms949 cseuckr"
        " csksc56011987 isoir149"
    ),
    "johab": "johab",
    "iso2022_kr": "iso2022kr csiso2022kr",
    "utf-7": "utf7 unicode11utf7 unicode20utf7",
    "utf-16": "utf16 iso10646ucs2 ucs2",
    "utf-16-le": "utf16le",
    "utf-16-be": "utf16be",
    "utf-32": "utf32 ucs4 iso10646ucs4",
    "utf-32-le": "utf32le",
    "utf-32-be": "utf32be",
}
"""Codec -> its names and those it goes by in mail, lower case, without separators and `x-`."""
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

_LABEL_END = re.compile(r"[*;,:/\s\"'?]")
_SEPARATORS = re.compile(r"[-_.]")
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


@lru_cache(maxsize=256)
def codec_of(label: str) -> str:
    """The codec for a label from outside; empty when unknown or plain ASCII: then we guess."""
    label = _LABEL_END.split(label[:200].strip(" \t\r\n\"';=").lower(), maxsplit=1)[0]
    return _CODECS.get(_SEPARATORS.sub("", label.removeprefix("x-")), "")


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
