"""A person with an XMPP client, told what to do by lines of JSON, telling what happens alike.

A process of its own: the component's library changes a class that clients need as it was.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import uuid
from typing import Any

from slixmpp import ClientXMPP


def tell(kind: str, **fields: Any) -> None:
    print(json.dumps({"kind": kind, **fields}), flush=True)


class Client(ClientXMPP):
    def __init__(self, jid: str, password: str) -> None:
        super().__init__(jid, password)
        for name in ("xep_0030", "xep_0184", "xep_0085", "xep_0199"):
            self.register_plugin(name)
        self.plugin["xep_0184"].auto_ack = True
        self.plugin["xep_0184"].auto_request = False
        self.enable_direct_tls = False
        self.ssl_context.check_hostname = False
        self.ssl_context.verify_mode = ssl.CERT_NONE
        self.unreceipted: dict[str, dict[str, Any]] = {}
        self.add_event_handler("session_start", self.started)
        self.add_event_handler("message", self.heard)
        self.add_event_handler("message_error", self.refused)
        self.add_event_handler("receipt_received", self.receipted)
        for state in ("composing", "active"):
            self.add_event_handler(f"chatstate_{state}", self.state)
        self.add_event_handler("presence_available", self.present)

    async def started(self, _event: Any) -> None:
        self.send_presence()
        tell("online")

    def heard(self, message: Any) -> None:
        if message["type"] in {"chat", "normal"}:
            sender = message["from"].user
            tell("message", sender=sender, text=message["body"], id=message["id"])

    def refused(self, message: Any) -> None:
        error = message["error"]
        id_ = message["id"]
        again = self.unreceipted.get(id_)
        tell("error", id=id_, condition=error["condition"], text=error["text"], type=error["type"])
        if again is not None:
            again["at"] = min(again["at"], asyncio.get_running_loop().time() + 0.5)

    def receipted(self, message: Any) -> None:
        id_ = message["receipt"]
        self.unreceipted.pop(id_, None)
        tell("receipt", id=id_)

    def state(self, message: Any) -> None:
        tell("state", sender=message["from"].user, state=message["chat_state"])

    def present(self, presence: Any) -> None:
        tell("presence", sender=presence["from"].user)

    def write(self, to: str, text: str, id_: str = "", **_: Any) -> None:
        message = self.make_message(mto=to, mbody=text, mtype="chat")
        message["id"] = id_ or uuid.uuid4().hex
        message["request_receipt"] = True
        message.send()

    async def insist(self, to: str, texts: list[str], window: int) -> None:
        """Send all of these, each again under its id until its receipt has come."""
        loop = asyncio.get_running_loop()
        waiting = [{"id": uuid.uuid4().hex, "text": text} for text in texts]
        while waiting or self.unreceipted:
            while waiting and len(self.unreceipted) < window:
                entry = waiting.pop(0) | {"at": 0.0, "tries": 0}
                self.unreceipted[entry["id"]] = entry
            now = loop.time()
            for entry in list(self.unreceipted.values()):
                if now >= entry["at"] and self.is_connected():
                    entry["at"] = now + min(2.0 ** (entry["tries"] + 1), 20)
                    entry["tries"] += 1
                    self.write(to, entry["text"], entry["id"])
            await asyncio.sleep(0.01)
        tell("all", count=len(texts))


async def main(jid: str, password: str, port: str) -> None:
    client = Client(jid, password)
    ended = False

    async def again(_event: Any) -> None:
        if not ended:
            await asyncio.sleep(0.2)
            client.connect("127.0.0.1", int(port))

    client.add_event_handler("disconnected", again)
    client.connect("127.0.0.1", int(port))
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=2**24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    tasks = set()
    while line := await reader.readline():
        command = json.loads(line)
        match command.pop("do"):
            case "say":
                client.write(command.pop("to"), command.pop("text"), command.pop("id"))
            case "composing":
                message = client.make_message(mto=command["to"], mtype="chat")
                message["chat_state"] = "composing"
                message.send()
            case "subscribe":
                client.send_presence(pto=command["to"], ptype="subscribe")
            case "raw":
                client.send_raw(command["xml"])
            case "insist":
                tasks.add(asyncio.create_task(client.insist(**command)))
            case "end":
                break
    ended = True
    client.disconnect(wait=1.0)
    await asyncio.sleep(0.1)


asyncio.run(main(*sys.argv[1:4]))
