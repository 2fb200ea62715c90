"""A page of the municipality on a server that is not ours, as strict as one can be."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = """<!doctype html>
<html lang="nb">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<script src="{chat}/static/chat.js" defer></script>
</head>
<body>
<main>
<h1>{title}</h1>
<p>Velkommen til kommunen. <a href="/en">En side</a> <a href="/to">En annen side</a></p>
</main>
</body>
</html>
"""


@dataclass
class Site:
    """Where the pages are, and whose chat they show."""

    url: str
    chat: str = ""
    asked: list[str] = field(default_factory=list)
    """What browsers have asked for here."""

    @property
    def policy(self) -> str:
        """Nothing but its own text, the widget's script and the widget's frame."""
        return (
            f"default-src 'none'; script-src {self.chat}; frame-src {self.chat}; "
            "require-trusted-types-for 'script'; trusted-types 'none'"
        )


@contextmanager
def site() -> Iterator[Site]:
    """The server, on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            opened.asked.append(self.path)
            title = "Sørum kommune" if self.path == "/" else f"Sørum kommune {self.path}"
            body = PAGE.format(title=title, chat=opened.chat).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Security-Policy", opened.policy)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            """Nothing: what browsers ask for is none of the test's output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, name="elsewhere", daemon=True)
    thread.start()
    opened = Site(f"http://127.0.0.1:{server.server_port}")
    try:
        yield opened
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
