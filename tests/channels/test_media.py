"""Files are fetched from the provider alone, and our password goes nowhere else."""

from __future__ import annotations

import base64
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from channels import media
from channels.base import ChannelError, MisconfiguredError, RejectedError, TemporaryError
from channels.phone.sound import is_silent

SOUND = b"RIFF....WAVE" + bytes(range(256)) * 40


class Provider:
    """An HTTP server that answers as it is told; keeps what was asked with which credentials."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.url = f"http://127.0.0.1:{server.server_port}"
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.asked: list[tuple[str, str]] = []

    def access(self, timeout: float = 5) -> media.Access:
        return media.Access("SK1", "hemmelig", self.url, timeout)

    def fetch(self, path: str = "/sound.wav", limit: int = 1_000_000) -> media.Media:
        return media.fetch(f"{self.url}{path}", self.access(), limit)


@contextmanager
def provider() -> Iterator[Provider]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            opened.asked.append((self.path, self.headers.get("Authorization", "")))
            status, headers, body = opened.answers[self.path]
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                if value:
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    opened = Provider(server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield opened
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_file_comes_whole_and_is_asked_for_with_our_credentials():
    with provider() as there:
        there.answers["/sound.wav"] = (200, {"Content-Type": "audio/x-wav"}, SOUND)
        assert there.fetch() == media.Media(SOUND, "audio/x-wav")
        expected = base64.b64encode(b"SK1:hemmelig").decode()
        assert there.asked == [("/sound.wav", f"Basic {expected}")]


def test_credentials_do_not_follow_a_redirect():
    with provider() as there:
        there.answers["/sound.wav"] = (302, {"Location": "/signed?x=1"}, b"")
        there.answers["/signed?x=1"] = (200, {}, SOUND)
        assert there.fetch().content == SOUND
        assert [bool(credentials) for _, credentials in there.asked] == [True, False]


def test_a_redirect_to_somebody_else_is_not_followed():
    with provider() as there, provider() as stranger:
        stranger.answers["/loot"] = (200, {}, SOUND)
        there.answers["/sound.wav"] = (307, {"Location": f"{stranger.url}/loot"}, b"")
        with pytest.raises(RejectedError):
            there.fetch()
        assert stranger.asked == []


def test_a_circle_of_redirects_ends():
    with provider() as there:
        there.answers["/sound.wav"] = (302, {"Location": "/sound.wav"}, b"")
        with pytest.raises(RejectedError):
            there.fetch()
        assert len(there.asked) == media.HOPS


@pytest.mark.parametrize(
    "url",
    [
        "http://api.twilio.com/sound.wav",
        "https://api.twilio.com:8443/sound.wav",
        "https://api.twilio.com.evil.example/sound.wav",
        "https://eviltwilio.com/sound.wav",
        "https://api.twilio.com@evil.example/sound.wav",
        "https://kari@api.twilio.com/sound.wav",
        "https://media.twiliocdn.com/sound.wav",
        "https://[::1/sound.wav",
        "https://evil.example\\.twilio.com/sound.wav",
        "https://evil.example%2f.twilio.com/sound.wav",
        "file:///etc/passwd",
        "//api.twilio.com/sound.wav",
        "",
    ],
)
def test_what_does_not_lie_with_the_provider_is_not_asked_for(url):
    with provider() as there:
        with pytest.raises(RejectedError):
            media.fetch(url, there.access(), 1000)
        with pytest.raises(RejectedError):
            media.fetch(url, media.Access("SK1", "hemmelig"), 1000)
        assert there.asked == []


def test_our_own_address_for_the_provider_counts_with_its_port_and_nothing_near_it():
    with provider() as there, provider() as other, pytest.raises(RejectedError):
        media.fetch(f"{other.url}/sound.wav", there.access(), 1000)


@pytest.mark.parametrize("announced", [True, False])
def test_what_is_too_large_is_left(announced):
    with provider() as there:
        headers = {} if announced else {"Content-Length": ""}
        there.answers["/sound.wav"] = (200, headers, SOUND)
        with pytest.raises(RejectedError, match="kB"):
            there.fetch(limit=len(SOUND) - 1)
        assert there.fetch(limit=len(SOUND)).content == SOUND


def test_half_a_file_is_none():
    with provider() as there:
        there.answers["/sound.wav"] = (200, {"Content-Length": str(len(SOUND) + 5)}, SOUND)
        with pytest.raises(TemporaryError):
            there.fetch()


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, MisconfiguredError),
        (403, MisconfiguredError),
        (404, media.NotThereError),
        (400, RejectedError),
        (429, TemporaryError),
        (500, TemporaryError),
        (503, TemporaryError),
    ],
)
def test_refusals_say_whether_it_is_worth_another_try(status, error):
    with provider() as there:
        there.answers["/sound.wav"] = (status, {}, b"")
        with pytest.raises(error):
            there.fetch()


def test_nobody_there_is_worth_another_try():
    with provider() as gone:
        url, access = f"{gone.url}/sound.wav", gone.access()
    with pytest.raises(TemporaryError):
        media.fetch(url, access, 1000)


def test_a_netrc_file_gives_nothing_away(tmp_path, monkeypatch):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login kari password hemmeligere\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    with provider() as there:
        there.answers["/sound.wav"] = (302, {"Location": "/signed"}, b"")
        there.answers["/signed"] = (200, {}, SOUND)
        there.fetch()
        assert there.asked[1] == ("/signed", "")


def test_every_error_is_one_of_a_door():
    assert issubclass(media.NotThereError, ChannelError)


def wav(samples: list[int], bits: int = 16, kind: int = 1) -> bytes:
    data = struct.pack(f"<{len(samples)}h", *samples)
    head = struct.pack("<HHIIHH", kind, 1, 8000, 8000 * bits // 8, bits // 8, bits)
    chunks = b"fmt " + struct.pack("<I", len(head)) + head
    chunks += b"LIST" + struct.pack("<I", 3) + b"abc\0"
    chunks += b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WAVE" + chunks


@pytest.mark.parametrize(
    ("content", "silent"),
    [
        (wav([0] * 8000), True),
        (wav([90, -90] * 4000), True),
        (wav([]), True),
        (wav([0] * 7999 + [600]), False),
        (wav([0] * 40_000 + [-600] + [0] * 40_000), False),
        (wav([0] * 8000, kind=7), False),
        (b"ID3 an mp3", False),
        (wav([0] * 10)[:20], False),
        (b"", False),
    ],
)
def test_silence_is_told_from_a_voice_and_what_is_unknown_is_kept(content, silent):
    assert is_silent(content) is silent
