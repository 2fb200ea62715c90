"""What a file is, by its content. What the sender calls it counts only where the two agree."""

from __future__ import annotations

import re

BINARY = "application/octet-stream"

_LOOKED_AT = 4096
_MAGIC = (
    (b"%PDF-", "application/pdf"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
    (b"PK\x03\x04", "application/zip"),
    (b"PK\x05\x06", "application/zip"),
    (b"{\\rtf", "application/rtf"),
    (b"MZ", "application/x-msdownload"),
    (b"\x7fELF", "application/x-executable"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\xff\xf3", "audio/mpeg"),
    (b"\xff\xf2", "audio/mpeg"),
    (b"OggS", "application/ogg"),
    (b"#!AMR", "audio/amr"),
    (b"fLaC", "audio/flac"),
    (b"\x1aE\xdf\xa3", "video/webm"),
    (b"Rar!\x1a\x07", "application/vnd.rar"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"\x1f\x8b", "application/gzip"),
    (b"\x78\x9f\x3e\x22", "application/ms-tnef"),
    (b"%!PS", "application/postscript"),
)
_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}
_BRANDS = {
    b"heic": "image/heic", b"heix": "image/heic", b"mif1": "image/heic", b"avif": "image/avif",
    b"M4A ": "audio/mp4", b"qt  ": "video/quicktime", b"3gp": "video/3gpp",
}  # fmt: skip
_OFFICE = "application/vnd.openxmlformats-officedocument."
_IN_ZIP = (
    (b"word/", f"{_OFFICE}wordprocessingml.document"),
    (b"xl/", f"{_OFFICE}spreadsheetml.sheet"),
    (b"ppt/", f"{_OFFICE}presentationml.presentation"),
)
_IN_OLE = (
    ("WordDocument", "application/msword"),
    ("Workbook", "application/vnd.ms-excel"),
    ("PowerPoint Document", "application/vnd.ms-powerpoint"),
    ("__substg1.0_", "application/vnd.ms-outlook"),
)

# Declared types that a file of the found type may go by.
_ALSO = {
    "application/pdf": re.compile(r"application/(x-|vnd\.)?pdf|application/illustrator"),
    "image/jpeg": re.compile(r"image/(p?jpe?g|jfif)"),
    "image/png": re.compile(r"image/(x-|vnd\.mozilla\.a)?png"),
    "image/bmp": re.compile(r"image/(x-(ms-)?)?(bmp|windows-bmp)"),
    "image/tiff": re.compile(r"image/(x-)?(tiff?|dng|canon-cr2|nikon-nef|sony-arw|adobe-dng)"),
    "image/heic": re.compile(r"image/hei[cf](-sequence)?"),
    "application/x-ole-storage": re.compile(
        r"application/(msword|vnd\.(ms-|visio)[a-z.-]*|x-(msword|excel|msexcel|mspublisher)"
        r"|excel|msexcel|mspowerpoint|powerpoint|visio|haansofthwp|x-hwp)"
    ),
    "application/zip": re.compile(
        r"application/(x-)?(zip|zip-compressed|epub\+zip|java-archive|jar)|application/vnd\.[\w.+-]+"
    ),
    "application/rtf": re.compile(r"(application|text)/(x-)?(rtf|richtext)|application/msword"),
    "application/x-msdownload": re.compile(
        r"application/(x-)?(msdownload|dosexec|msdos-program|exe|msi|vnd\.microsoft\.portable.*)"
    ),
    "audio/mpeg": re.compile(r"(audio|video)/(x-)?(mpe?g3?|mp3)"),
    "application/ogg": re.compile(r"(audio|video|application)/(x-)?(ogg|opus)"),
    "audio/wav": re.compile(r"audio/(x-|vnd\.)?(wave?|x-wav)"),
    "video/mp4": re.compile(r"(video|audio)/(x-)?(mp4|m4[av]|quicktime|3gpp2?|mp4a-latm)"),
    "audio/mp4": re.compile(r"(video|audio)/(x-)?(mp4|m4[av]|mp4a-latm|aac)"),
    "video/quicktime": re.compile(r"video/(quicktime|mp4)"),
    "video/3gpp": re.compile(r"(video|audio)/(3gpp2?|mp4)"),
    "video/webm": re.compile(r"(video|audio)/(x-)?(webm|matroska)"),
    "application/gzip": re.compile(
        r"application/(x-)?(gzip|gunzip|tgz|gtar|compressed(-tar)?|tar|svgz)"
    ),
    "application/vnd.rar": re.compile(r"application/(x-rar(-compressed)?|vnd\.rar|rar)"),
    "application/ms-tnef": re.compile(r"application/(vnd\.)?ms-tnef"),
    "application/postscript": re.compile(r"application/(postscript|illustrator|eps)|image/x-eps"),
    "text/html": re.compile(r"text/(html|x-amp-html|watch-html)|application/xhtml\+xml|text/xhtml"),
    "image/svg+xml": re.compile(r"image/svg(\+xml)?|(text|application)/xml"),
    "application/xml": re.compile(
        r"(text|application)/xml|[a-z]+/[\w.-]+\+xml|application/vnd\.[\w.-]+"
    ),
}
_TOLD_BY_BYTES = re.compile(
    r"|(image|audio|video|font)/.*|application/(octet-stream|x-octet-stream|binary|unknown|download"
    r"|x-download|force-download|pdf|x-pdf|zip|x-zip-compressed|msword|rtf|gzip|x-gzip|ms-tnef|ogg"
    r"|x-msdownload|x-dosexec|vnd\.(ms|openxmlformats|oasis)[\w.+-]*)"
)
_SHOWN_BY_BROWSERS = re.compile(
    r"text/(html|xml|xhtml|javascript|ecmascript)|image/(?!tiff|hei|x-)[\w.+-]+"
    r"|application/(xhtml\+xml|xml|pdf|javascript|ecmascript|x-javascript|wasm)"
    r"|[a-z]+/[\w.-]+\+xml|multipart/[\w.-]+"
)
_HTML = re.compile(
    rb"\s*(?:<!--.{0,500}?-->\s*)?"
    rb"<(?:!doctype\s+html|html|head|body|script|iframe|table|div|p|a|img|meta|style|title|h1|br|b"
    rb"|font|center|object|embed|form|link)\b",
    re.IGNORECASE | re.DOTALL,
)
_XHTML = re.compile(rb"<\?xml[^>]{0,200}>\s*<(?:!doctype\s+)?html\b", re.IGNORECASE)
_SVG = re.compile(
    rb"\s*(?:<\?xml[^>]{0,200}>\s*)?(?:<!--.{0,500}?-->\s*)?(?:<!doctype\s+svg[^>]{0,500}>\s*)?<svg\b",
    re.IGNORECASE | re.DOTALL,
)
_XML = re.compile(rb"\s*<\?xml\b", re.IGNORECASE)
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\x1b\x08\x0b"))


def sniff(content: bytes, declared: str) -> str:
    """The content type of `content`: what it is, or `declared` where that says the same closer.

    Something a browser would show or run (HTML, SVG, XML, a picture, PDF) is never called so on
    the sender's word alone.
    """
    declared = declared.lower()
    found = _found(content)
    if not content or found == declared:
        return declared or BINARY
    also = _ALSO.get(found)
    if also is not None and also.fullmatch(declared):
        return declared
    if found == "application/x-ole-storage":
        return _inside_ole(content)
    if found == "application/zip":
        return _inside_zip(content)
    if found == "text/plain":
        if _TOLD_BY_BYTES.fullmatch(declared) or _SHOWN_BY_BROWSERS.fullmatch(declared):
            return found
        return declared
    if found:
        return found
    return (
        BINARY if _SHOWN_BY_BROWSERS.fullmatch(declared) or declared == "text/plain" else declared
    )


def _found(content: bytes) -> str:
    """The type by the first bytes; empty when they say nothing."""
    head = content[:_LOOKED_AT]
    if found := _by_magic(head):
        return found
    text = head.removeprefix(b"\xef\xbb\xbf")
    if text.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = text[2:].replace(b"\0", b"")
    if _SVG.match(text):
        return "image/svg+xml"
    if _HTML.match(text) or _XHTML.match(text.lstrip()):
        return "text/html"
    if _XML.match(text):
        return "image/svg+xml" if b"<svg" in text else "application/xml"
    if b"%PDF-" in head[:1024]:
        return "application/pdf"
    return "" if text.translate(None, _CONTROLS) != text else "text/plain"


def _by_magic(head: bytes) -> str:
    for magic, found in _MAGIC:
        if head.startswith(magic):
            # Two or three letters are also how a text may begin.
            if len(magic) < 4 and magic.isascii() and magic.isalnum() and _is_text(head):
                return ""
            return found
    if head.startswith(b"RIFF"):
        return _RIFF.get(head[8:12], "")
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        return _BRANDS.get(brand) or _BRANDS.get(brand[:3], "video/mp4")
    return ""


def _is_text(head: bytes) -> bool:
    return head.translate(None, _CONTROLS) == head


def _inside_zip(content: bytes) -> str:
    names = content[:_LOOKED_AT] + content[-_LOOKED_AT * 4 :]  # the directory is at the end
    if content[30:38] == b"mimetype":  # OpenDocument, EPUB: the first entry says it, unpacked
        kind = content[38:138].partition(b"PK")[0]
        if re.fullmatch(rb"application/[\w.+-]{1,90}", kind):
            return kind.decode("ascii")
    if b"[Content_Types].xml" in names:
        return next((kind for name, kind in _IN_ZIP if name in names), "application/zip")
    return "application/zip"


def _inside_ole(content: bytes) -> str:
    # Names of streams are UTF-16; the directory may lie anywhere.
    looked_at = content[: 4 << 20]
    return next(
        (kind for name, kind in _IN_OLE if name.encode("utf-16-le") in looked_at),
        "application/x-ole-storage",
    )
