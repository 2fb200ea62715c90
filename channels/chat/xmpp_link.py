"""The stream to the XMPP server (XEP-0114), and what keeps it up.

The library connects once and reports; when to try again, for how long, and when trying is of no use
is decided here. One service at a time has the stream: the others wait for its lease.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable
    from xml.etree import ElementTree as ET

log = structlog.get_logger(__name__)

START_SECONDS = 15.0
"""How long the server may take to let us in."""
LONGEST_PAUSE = 30.0
"""Seconds between two attempts, at most, while nobody answers,"""
CONFIG_PAUSE = 60.0
"""and while the server refuses us: a person has to change something."""
PING_SECONDS = 30.0
PING_PATIENCE = 10.0
"""A stream that does not answer for so long is dead; TCP would take minutes to notice."""
QUERY_ELEMENTS = 200
"""Elements of a query to the component. What is asked for here has three; the library answers each
by a copy, which it cannot make of what is deep, and takes long to make of what is wide."""
LEASE_SECONDS = 20.0
"""A lease that is not renewed for so long is free,"""
RENEW_SECONDS = 5.0
"""and it is renewed so often."""

REFUSALS = {
    "not-authorized": "the secret is not the one that the server has",
    "conflict": "another program is connected under this domain",
    "host-unknown": "the server knows no component of this domain",
    "invalid-from": "a message was sent under a domain that is not ours",
}
"""Stream error (RFC 6120 §4.9.3) -> what is wrong with the set-up."""


class LinkState(StrEnum):
    """How the stream is."""

    DOWN = "down"
    UP = "up"
    ELSEWHERE = "elsewhere"
    """Another service on the same store has it."""
    CONFIG_ERROR = "config_error"


class Lease(Protocol):
    """What keeps two services from fighting over the stream."""

    async def hold(self, seconds: float) -> str:
        """Take or renew the lease; returns who has it, empty when we do."""

    async def let_go(self) -> None:
        """Give it up, if we have it."""


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """Where the server is, and what it knows us by."""

    host: str
    port: int
    domain: str
    secret: str = field(repr=False)
    name: str = ""
    """What service discovery calls us."""
    keepalive: float = PING_SECONDS
    patience: float = PING_PATIENCE


class Link:
    """One stream to the server, made anew whenever it breaks.

    `hear` gets each message, `meet` each presence as they came; `turned` is called when the stream
    is up, and when it has gone down.
    """

    def __init__(
        self,
        settings: LinkSettings,
        lease: Lease,
        hear: Callable[[ET.Element], None],
        meet: Callable[[ET.Element], None],
        turned: Callable[[bool], None],
    ) -> None:
        self.state = LinkState.DOWN
        self.leased = False
        """Whether the lease is ours."""
        self.detail = ""
        self.holder = ""
        """Who has the stream, where it is elsewhere."""
        self._settings = settings
        self._lease = lease
        self._hear = hear
        self._meet = meet
        self._turned = turned
        self._xmpp: Any = None
        self._task: asyncio.Task[None] | None = None

    @property
    def up(self) -> bool:
        """Whether something can be sent."""
        return self._xmpp is not None

    def start(self) -> None:
        """Begin to connect."""
        self._task = asyncio.create_task(self._run(), name="xmpp-link")

    async def stop(self) -> None:
        """Close the stream and give up the lease."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self._is(LinkState.DOWN, "the service has stopped")
        self.leased = False
        with contextlib.suppress(Exception):
            await self._lease.let_go()

    def send(self, stanza: str) -> bool:
        """Send a stanza after those sent before; whether there was a stream to send it on."""
        if self._xmpp is None:
            return False
        self._xmpp.send(stanza)
        return True

    def drop(self) -> None:
        """Give up a stream that does not answer; another is made at once."""
        if self._xmpp is not None:
            self._xmpp.abort()

    async def ping(self, patience: float | None = None) -> bool:
        """Whether the server answers; then it has dealt with everything sent before (RFC 6120
        §10.1). Raises `ConnectionError` when the stream breaks meanwhile."""
        from slixmpp.exceptions import IqError, IqTimeout

        xmpp = self._xmpp
        if xmpp is None:
            raise ConnectionError
        domain = self._settings.domain
        ping = xmpp.plugin["xep_0199"].send_ping(
            domain, ifrom=domain, timeout=patience or self._settings.patience
        )
        gone: asyncio.Future[str] = xmpp.gone
        try:
            await asyncio.wait({ping, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not ping.done():
                raise ConnectionError
            ping.result()
        except IqError:
            pass  # it is an answer
        except IqTimeout:
            return False
        finally:
            ping.cancel()
        return True

    async def _run(self) -> None:
        await asyncio.to_thread(_load)
        failures = 0
        while True:
            try:
                holder = await self._lease.hold(LEASE_SECONDS)
            except Exception as error:  # noqa: BLE001 - the store may be away for a while
                self._is(LinkState.DOWN, f"the store does not answer ({type(error).__name__})")
                await asyncio.sleep(RENEW_SECONDS)
                continue
            self.leased = not holder
            if holder:
                self.holder = holder
                self._is(LinkState.ELSEWHERE, "")
                await asyncio.sleep(RENEW_SECONDS)
                continue
            started = monotonic()
            condition = await self._session()
            if condition in REFUSALS:
                self._is(LinkState.CONFIG_ERROR, REFUSALS[condition])
                await self._wait(CONFIG_PAUSE)
                continue
            # What was up for a while is not refused: begin anew.
            failures = 0 if monotonic() - started > START_SECONDS + LONGEST_PAUSE else failures + 1
            self._is(LinkState.DOWN, condition or "nobody answers")
            pause = min(LONGEST_PAUSE, 2.0 ** min(failures - 1, 5))
            await self._wait(pause / 2 + random.uniform(0, pause / 2))  # noqa: S311

    async def _wait(self, seconds: float) -> None:
        """Pause, and keep the lease."""
        end = monotonic() + seconds
        while (left := end - monotonic()) > 0:
            await asyncio.sleep(min(left, RENEW_SECONDS))
            with contextlib.suppress(Exception):
                await self._lease.hold(LEASE_SECONDS)

    def _is(self, state: LinkState, detail: str) -> None:
        if (state, detail) != (self.state, self.detail):
            level = log.error if state is LinkState.CONFIG_ERROR else log.info
            level("xmpp.link", state=state.value, why=detail)
        self.state, self.detail = state, detail

    async def _session(self) -> str:
        """Connect once and stay until the stream ends; returns why it did, or could not begin."""
        loop = asyncio.get_running_loop()
        started: asyncio.Future[str] = loop.create_future()
        gone: asyncio.Future[str] = loop.create_future()
        conditions: list[str] = []
        xmpp = _component(self._settings, self._hear, self._meet)
        xmpp.gone = gone
        xmpp.add_event_handler("session_start", lambda _: _settle(started, ""))
        xmpp.add_event_handler("stream_error", lambda e: conditions.append(str(e["condition"])))
        xmpp.add_event_handler("disconnected", lambda why: _settle(gone, _reason(why)))
        xmpp.add_event_handler("connection_failed", lambda why: _settle(gone, _reason(why)))
        keeping = None
        try:
            xmpp.connect(self._settings.host, self._settings.port)
            await asyncio.wait(
                {started, gone}, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if started.done() and not gone.done():
                self._xmpp = xmpp
                self._is(LinkState.UP, "")
                self._turned(True)
                keeping = asyncio.create_task(self._keep(xmpp), name="xmpp-keepalive")
                await gone
            if conditions:
                return conditions[0]
            return gone.result() if gone.done() else "the server does not let us in"
        except asyncio.CancelledError:
            if self._xmpp is not None:
                xmpp.disconnect(wait=1.0)
                await asyncio.wait({gone}, timeout=2)
            raise
        finally:
            if keeping is not None:
                keeping.cancel()
            _settle(gone, "closed")
            if self._xmpp is not None:
                self._xmpp = None
                self._turned(False)
            _discard(xmpp)

    async def _keep(self, xmpp: Any) -> None:
        """Renew the lease and see that the stream is alive; end it when either fails."""
        held = pinged = monotonic()
        while True:
            await asyncio.sleep(min(RENEW_SECONDS, self._settings.keepalive))
            try:
                if await self._lease.hold(LEASE_SECONDS):
                    self.leased = False
                    break
                held = monotonic()
            except Exception as error:  # noqa: BLE001 - the store may be away for a moment
                log.warning("xmpp.lease_not_renewed", error=type(error).__name__)
                if monotonic() - held > LEASE_SECONDS - RENEW_SECONDS:
                    break
            if monotonic() - pinged >= self._settings.keepalive:
                pinged = monotonic()
                if not await self.ping():
                    break
        xmpp.abort()


def _settle(future: asyncio.Future[str], value: str) -> None:
    if not future.done():
        future.set_result(value)


def _reason(why: object) -> str:
    """Why a connection ended, without what was in it."""
    if isinstance(why, OSError):
        return why.strerror or type(why).__name__
    return "the connection broke"


def _load() -> None:
    """It takes a second to load, in which nobody should wait."""
    import slixmpp  # noqa: F401


def _component(
    settings: LinkSettings, hear: Callable[[ET.Element], None], meet: Callable[[ET.Element], None]
) -> Any:
    from slixmpp import ComponentXMPP
    from slixmpp.stanza.error import Error
    from slixmpp.xmlstream.handler import Callback
    from slixmpp.xmlstream.matcher import MatchXPath

    # Its debug lines hold whole stanzas, and so do its errors.
    logging.getLogger("slixmpp").setLevel(logging.CRITICAL)
    # Not among those it knows (RFC 6120 §8.3.3.12): an answer with it would never be heard.
    Error.conditions.add("policy-violation")
    # Without the last one each error is read as `feature-not-implemented`. It changes a class that
    # clients in the same process would need as it was; here are none.
    xmpp: Any = ComponentXMPP(  # type: ignore[no-untyped-call]
        settings.domain, settings.secret, settings.host, settings.port, fix_error_ns=True
    )
    for name in ("xep_0030", "xep_0199"):
        xmpp.register_plugin(name)
    xmpp.plugin["xep_0030"].add_identity("component", "generic", name=settings.name)
    # Its roster remembers everybody who ever showed up.
    for name in ("IM", "IMError", "Presence"):
        xmpp.remove_handler(name)
    namespace = xmpp.default_ns
    for name, take in (("message", hear), ("presence", meet)):
        matcher = MatchXPath(f"{{{namespace}}}{name}")
        xmpp.register_handler(Callback(f"Our {name}", matcher, partial(_pass_on, take)))
    xmpp.recv_stanza = partial(_receive, xmpp.recv_stanza)
    return xmpp


def _receive(deal_with: Callable[[Any], None], stanza: Any) -> None:
    """What goes wrong with one stanza ends no stream: the others wait on it."""
    try:
        if stanza.name == "iq" and len(list(islice(stanza.xml.iter(), QUERY_ELEMENTS + 1))) > (
            QUERY_ELEMENTS
        ):
            log.warning("xmpp.query_too_large")
            return
        deal_with(stanza)
    except Exception as error:  # noqa: BLE001 - whatever the library has not thought of
        log.warning("xmpp.stanza_refused", error=type(error).__name__)


def _pass_on(take: Callable[[ET.Element], None], stanza: Any) -> None:
    try:
        take(stanza.xml)
    except Exception:
        # The library would keep it to itself, and show the stanza.
        log.exception("xmpp.stanza_failed")


def _discard(xmpp: Any) -> None:
    """End what a component left running."""
    xmpp.cancel_connection_attempt()
    xmpp.abort()
    sending = xmpp._run_out_filters
    if sending is not None:
        sending.cancel()
