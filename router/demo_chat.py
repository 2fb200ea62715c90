"""Residents of the demonstration day who chat, by the same requests as the script of the page."""

from __future__ import annotations

import http.client
import threading
import time
import uuid
from contextlib import closing
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import orjson
import yaml

from router.errors import SettingsError

if TYPE_CHECKING:
    from router.settings import Settings

LOOK_SECONDS = 2.0
"""How often a page without a stream looks; it counts as open for longer."""
PATIENCE = 120.0
"""Seconds without a word until a resident of the demo leaves."""
_LIVE = frozenset({"waiting", "talking"})


def talks() -> list[list[str]]:
    """What each of them says, line by line."""
    text = files("router").joinpath("demo_chats.yaml").read_text(encoding="utf-8")
    found: list[list[str]] = yaml.load(text, yaml.BaseLoader)  # noqa: S506 - makes strings only
    return found


class Residents:
    """Everybody who chats, each with a page of their own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pages: list[threading.Thread] = []
        self.too_many = False
        """Whether the service let no more in from this address."""

    @property
    def talking(self) -> bool:
        """Whether somebody still has the page open."""
        return any(page.is_alive() for page in self._pages)

    def begin(self, words: list[str]) -> None:
        """Open a chat and say the first of these; the others follow what is answered. Raises
        `SettingsError`, `OSError`."""
        page = _Page(self._settings)
        status, opened = page.ask("POST", "/chat/conversations", {"language": "nb"})
        if status == http.client.TOO_MANY_REQUESTS:
            self.too_many = True
            return
        page.path = f"/chat/conversations/{_taken(status, opened)['id']}"
        page.say(words[0])
        thread = threading.Thread(target=page.talk, args=(words[1:],), daemon=True)
        self._pages.append(thread)
        thread.start()

    def wait(self, seconds: float) -> None:
        """Return when all of them have gone, or after so long: then those who are left go."""
        until = time.monotonic() + seconds
        for page in self._pages:
            page.join(max(0.0, until - time.monotonic()))


@dataclass
class _Page:
    settings: Settings
    path: str = ""
    _cookie: str = ""
    _last: int = 0
    _heard: float = field(default_factory=time.monotonic)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and JSON of an answer."""
        web = self.settings.web
        headers = {"Content-Type": "application/json", "Cookie": self._cookie}
        with closing(http.client.HTTPConnection(web.host, web.port, timeout=20)) as connection:
            connection.request(method, path, orjson.dumps(body) if body else None, headers)
            answer = connection.getresponse()
            self._cookie = answer.headers.get("Set-Cookie", "").partition(";")[0] or self._cookie
            content = answer.read()
        is_json = "json" in answer.headers.get("Content-Type", "")
        return answer.status, orjson.loads(content) if is_json else None

    def say(self, text: str) -> None:
        """Say something. Raises `SettingsError`."""
        body = {"client_msg_id": str(uuid.uuid4()), "text": text}
        _taken(*self.ask("POST", f"{self.path}/messages", body))
        self._heard = time.monotonic()

    def talk(self, words: list[str]) -> None:
        """Keep the page open, and answer what is said, until it is over or nobody says any more."""
        try:
            while time.monotonic() - self._heard < PATIENCE and self._is_live(words):
                time.sleep(LOOK_SECONDS)
        except (OSError, SettingsError):
            return  # the service has gone: so does the resident

    def _is_live(self, words: list[str]) -> bool:
        seen = _taken(*self.ask("GET", f"{self.path}/messages?after={self._last}"))
        lines = seen["messages"]
        self._last = max([self._last, *(line["id"] for line in lines)])
        if any(line["kind"] == "reply" for line in lines):
            self._heard = time.monotonic()
            if words:
                self.say(words.pop(0))
        return seen["standing"]["state"] in _LIVE and not seen["standing"]["closed"]


def _taken(status: int, answer: Any) -> Any:
    if not http.client.OK <= status < http.client.MULTIPLE_CHOICES:
        raise SettingsError(f"The chat answered {status}: {str(answer)[:200]}")
    return answer
