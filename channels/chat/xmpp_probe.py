"""Whether an XMPP server lets us in: the handshake of a component alone (XEP-0114 §3)."""

from __future__ import annotations

import hashlib
import socket
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET
from xml.sax.saxutils import quoteattr

from channels.chat.xmpp_link import REFUSALS

if TYPE_CHECKING:
    from collections.abc import Iterator

_ACCEPT = "jabber:component:accept"
_STREAMS = "http://etherx.jabber.org/streams"


def refusal(host: str, port: int, domain: str, secret: str, patience: float = 3.0) -> str:
    """Why the server does not let the component of this domain in; empty when it does. The stream
    is closed at once. A server may end the stream of another program for it, so nobody asks while a
    service has the link. Raises `OSError` when it does not answer within `patience` seconds."""
    with socket.create_connection((host, port), timeout=patience) as link:
        link.sendall(
            f"<stream:stream xmlns='{_ACCEPT}' xmlns:stream='{_STREAMS}'"
            f" to={quoteattr(domain)}>".encode()
        )
        try:
            for event, element in _events(link):
                if event == "start" and element.tag == f"{{{_STREAMS}}}stream":
                    known = element.get("id", "") + secret
                    digest = hashlib.sha1(known.encode(), usedforsecurity=False).hexdigest()
                    link.sendall(f"<handshake>{digest}</handshake>".encode())
                elif event == "end" and element.tag == f"{{{_ACCEPT}}}handshake":
                    link.sendall(b"</stream:stream>")
                    return ""
                elif event == "end" and element.tag == f"{{{_STREAMS}}}error":
                    condition = element[0].tag.rpartition("}")[2] if len(element) else ""
                    return REFUSALS.get(condition, condition)
        except ET.ParseError:
            pass
    return "it does not speak as an XMPP server does"


def _events(link: socket.socket) -> Iterator[tuple[str, ET.Element]]:
    parser: Any = ET.XMLPullParser(("start", "end"))
    while data := link.recv(4096):
        parser.feed(data)
        yield from parser.read_events()
