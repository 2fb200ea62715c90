"""What a file is, whatever it is called."""

# ruff: noqa: E501 - one row, one case
from __future__ import annotations

import time

import pytest

from channels.email.sniff import sniff

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
PNG = b"\x89PNG\r\n\x1a\n"
ANY = "application/octet-stream"


@pytest.mark.parametrize(
    ("content", "declared", "found"),
    [
        (b"%PDF-1.7\n", ANY, "application/pdf"),
        (b"%PDF-1.7\n", "text/html", "application/pdf"),
        (b"\n\n%PDF-1.7\n\0", ANY, "application/pdf"),
        (PNG, ANY, "image/png"),
        (PNG, "image/jpeg", "image/png"),
        (b"\xff\xd8\xff\xe1", "image/jpg", "image/jpg"),
        (b"GIF89a", "image/gif", "image/gif"),
        (b"RIFF\0\0\0\0WEBPVP8 ", ANY, "image/webp"),
        (b"RIFF\0\0\0\0WAVEfmt ", "audio/x-wav", "audio/x-wav"),
        (b"ID3\x03\0", ANY, "audio/mpeg"),
        (b"\xff\xfb\x90\x44", "audio/mp3", "audio/mp3"),
        (b"OggS\0\x02", "audio/ogg", "audio/ogg"),
        (b"\0\0\0\x18ftypmp42", ANY, "video/mp4"),
        (b"\0\0\0\x18ftypheic", ANY, "image/heic"),
        (b"\0\0\0\x14ftypqt  ", "video/quicktime", "video/quicktime"),
        (b"PK\x03\x04" + b"\0" * 26 + b"a.txt", ANY, "application/zip"),
        (b"PK\x03\x04" + b"\0" * 26 + b"[Content_Types].xml" + b"\0word/document.xml", ANY, DOCX),
        (b"PK\x03\x04" + b"\0" * 26 + b"[Content_Types].xml" + b"\0xl/workbook.xml", "image/png", XLSX),
        (b"PK\x03\x04" + b"\0" * 26 + b"[Content_Types].xml" + b"\0ppt/slides", ANY, PPTX),
        (b"PK\x03\x04" + b"\0" * 26 + b"mimetypeapplication/vnd.oasis.opendocument.textPK\x03\x04", ANY, "application/vnd.oasis.opendocument.text"),
        (b"PK\x03\x04" + b"\0" * 26 + b"a", DOCX, DOCX),
        (OLE + "WordDocument".encode("utf-16-le"), ANY, "application/msword"),
        (OLE + "Workbook".encode("utf-16-le"), "text/plain", "application/vnd.ms-excel"),
        (OLE, "application/vnd.ms-powerpoint", "application/vnd.ms-powerpoint"),
        (b"{\\rtf1", "application/msword", "application/msword"),
        (b"{\\rtf1", ANY, "application/rtf"),
        (b"MZ\x90\0\x03", "application/pdf", "application/x-msdownload"),
        (b"MZ\x90\0\x03", "image/png", "application/x-msdownload"),
        (b"MZ er forkortelsen", "text/plain", "text/plain"),
        (b"BMW selges", "text/plain", "text/plain"),
        (b"\x7fELF\x02", ANY, "application/x-executable"),
        (b"<!DOCTYPE html><p>", "image/png", "text/html"),
        (b"<!DOCTYPE html><p>", "text/plain", "text/html"),
        (b"\xef\xbb\xbf\n<HTML>", ANY, "text/html"),
        ("<html>".encode("utf-16"), "application/pdf", "text/html"),
        (b"<!-- x --><script>alert(1)</script>", "image/gif", "text/html"),
        (b"<svg xmlns='x'>", "image/png", "image/svg+xml"),
        (b"<?xml version='1.0'?><svg>", "text/plain", "image/svg+xml"),
        (b"<?xml version='1.0'?><a/>", "image/png", "application/xml"),
        (b"<?xml version='1.0'?><a/>", "text/xml", "text/xml"),
        (b"<p>Hei", "text/html", "text/html"),
        (b"a;b\n1;2\n", "text/csv", "text/csv"),
        (b"a;b\n1;2\n", "application/vnd.ms-excel", "text/plain"),
        (b"{}", "application/json", "application/json"),
        (b"Hei", ANY, "text/plain"),
        (b"Hei", "image/png", "text/plain"),
        (b"Hei", "text/html", "text/plain"),
        ("Blåbær".encode("latin-1"), "text/plain", "text/plain"),
        (b"\0\x01\x02", "image/png", ANY),
        (b"\0\x01\x02", "text/html", ANY),
        (b"\0\x01\x02", "text/plain", ANY),
        (b"\0\x01\x02", "application/x-cad", "application/x-cad"),
        (b"", "image/png", "image/png"),
        (b"", "", ANY),
        (b"\x78\x9f\x3e\x22", "application/ms-tnef", "application/ms-tnef"),
        (b"\0\0\0\x18ftyp", "", "video/mp4"),
    ],
)  # fmt: skip
def test_types(content: bytes, declared: str, found: str) -> None:
    assert sniff(content, declared) == found


@pytest.mark.parametrize(
    "piece",
    [
        b"<!--",
        b"<?xml ",
        b"<?xml x>",
        b" ",
        b"PK\x03\x04",
        b"<!doctype svg ",
        b"<!-- -->",
        b"W\0o\0",
    ],
)
@pytest.mark.parametrize("begin", [b"", OLE, b"PK\x03\x04"])
def test_any_repetition_is_told_at_once(piece: bytes, begin: bytes) -> None:
    content = begin + piece * (3_000_000 // len(piece))
    start = time.process_time()
    sniff(content, ANY)
    assert time.process_time() - start < 0.2
