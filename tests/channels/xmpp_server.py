"""A server that lets one component in (XEP-0114) and is held in hand by a test. Real ones are in
`tests/integration/prosody.py`."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape, quoteattr

DOMAIN = "sentralbord.kommune.test"
SECRET = "hemmelig"

_STREAMS = "http://etherx.jabber.org/streams"
_ACCEPT = "{jabber:component:accept}"
_OPENING = (
    f"<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' xmlns:stream='{_STREAMS}'"
    f" id='s1' from='{DOMAIN}'>"
)
_STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas"


@dataclass
class XmppServer:
    """Takes messages for everybody, and brings those of a resident."""

    port: int = 0
    taken: list[str] = field(default_factory=list)
    refusing: bool = False
    """Whether components are turned away."""
    bounce: str = ""
    """Type of the error that the next message comes back with."""
    drop: bool = False
    """Whether the stream breaks after the next message."""
    _server: asyncio.Server | None = None
    _writer: asyncio.StreamWriter | None = None
    _answers: dict[str, deque[asyncio.Future[str]]] = field(default_factory=dict)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()

    def cut(self, condition: str = "") -> None:
        """End the stream, with an error where one is given."""
        if self._writer is not None:
            if condition:
                self._write(
                    f"<stream:error><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
                    "</stream:error></stream:stream>"
                )
            self._writer.close()
            self._writer = None

    async def bring(
        self, id_: str, inner: str, to: str = "vei", sender: str = "kari@x.test"
    ) -> str:
        """A message of a resident; what comes back: `receipt`, or the type of an error."""
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._answers.setdefault(id_, deque()).append(answer)
        self._write(
            f"<message from='{sender}/telefon' to={quoteattr(f'{to}@{DOMAIN}')} type='chat'"
            f" id={quoteattr(id_)}>{inner}<request xmlns='urn:xmpp:receipts'/></message>"
        )
        return await answer

    def _write(self, text: str) -> None:
        if self._writer is not None:
            self._writer.write(text.encode())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = ET.XMLPullParser(("start", "end"))
        depth = 0
        self._writer = writer
        self._write(_OPENING)
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                parser.feed(data)
                for event, element in parser.read_events():
                    depth += 1 if event == "start" else -1
                    if event == "end" and depth == 1:
                        self._hear(element)
        writer.close()

    def _hear(self, stanza: ET.Element) -> None:
        name = stanza.tag.removeprefix(_ACCEPT)
        if name == "handshake":
            if self.refusing:
                self.cut("not-authorized")
            else:
                self._write("<handshake/>")
        elif stanza.get("to") == DOMAIN:
            # To the component itself: by way of the server, in its turn.
            self._write(ET.tostring(stanza, "unicode"))
        elif name == "message":
            self._take(stanza)

    def _take(self, message: ET.Element) -> None:
        received = message.find("{urn:xmpp:receipts}received")
        error = message.find(f"{_ACCEPT}error")
        if received is not None:
            self._answers[received.get("id", "")].popleft().set_result("receipt")
        elif error is not None:
            self._answers[message.get("id", "")].popleft().set_result(error.get("type", ""))
        elif self.bounce:
            condition = "resource-constraint" if self.bounce == "wait" else "item-not-found"
            self._write(
                f"<message from={quoteattr(message.get('to', ''))}"
                f" to={quoteattr(message.get('from', ''))} id={quoteattr(message.get('id', ''))}"
                f" type='error'><error type='{self.bounce}'><{condition} xmlns='{_STANZAS}'/>"
                "</error></message>"
            )
            self.bounce = ""
        else:
            self.taken.append(escape(message.findtext(f"{_ACCEPT}body", "")))
            if self.drop:
                self.drop = False
                self.cut()
