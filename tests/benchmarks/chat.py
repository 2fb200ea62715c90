"""Two hundred residents in the chat at once: how soon the other side reads what was said."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections import defaultdict
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psutil

from router import chat_queue
from router.models import Role
from router.staff import add_staff
from tests.benchmarks.running import Row, fresh_service, share
from tests.benchmarks.talkers import Heard, Plan, Talkers
from tests.service import free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlmodel import Session

SETTINGS = {
    "CHANNELS__CHAT__HOURS__MON-SUN": "00:00-24:00",
    "CHANNELS__CHAT__CONVERSATIONS_PER_HOUR": "1000",
    "CHANNELS__CHAT__MESSAGES_PER_MINUTE": "120",
    "CHANNELS__CHAT__UNATTENDED_MINUTES": "60",
}
"""All come from one address, and write three times as often as one may."""


def chat(talks: int = 200, seconds: int = 60) -> list[Row]:
    """Residents who write once a second, operators who answer every tenth message."""
    with fresh_service(**SETTINGS) as running:
        running.write(_somebody_is_there)
        plan = Plan(running.web_port, running.token(), talks, seconds)
        heard, cpu = _measure(plan, running.pid)
        kept = running.read(
            "SELECT count(*) FROM message WHERE channel = 'chat' AND kind = 'contact'"
        )
    if heard.refused or kept[0][0] != heard.sent + talks:
        raise RuntimeError(f"refused: {dict(heard.refused)}, kept: {kept[0][0]}")
    with bare() as (port, pid):
        plain, plain_cpu = _measure(Plan(port, "", talks, seconds // 3), pid)
    return [
        (
            f"{talks} chats, a message to the other side, p99",
            f"{share(heard.to_staff + heard.to_resident, 99):.0f} ms",
            "< 200 ms",
            f"{share(heard.to_staff, 99) / share(plain.to_staff, 99):.1f} x bare",
        ),
        ("  p50", f"{share(heard.to_staff + heard.to_resident, 50):.0f} ms", "", ""),
        (
            "  until it is kept, p99",
            f"{share(heard.posted, 99):.0f} ms",
            "",
            f"{share(heard.posted, 99) / share(plain.posted, 99):.1f} x bare",
        ),
        ("  until it is kept, p50", f"{share(heard.posted, 50):.0f} ms", "", ""),
        ("  messages, answers", f"{heard.sent:,}, {heard.replied:,}", "", ""),
        ("  lost, doubled", f"{heard.lost}, {heard.doubled}", "0, 0", ""),
        ("  cores of the service", f"{cpu:.2f}", "< 1", f"{cpu / plain_cpu:.1f} x bare"),
        (
            "bare FastAPI, keeps nothing: to the other side, p99",
            f"{share(plain.to_staff + plain.to_resident, 99):.0f} ms",
            "",
            "1",
        ),
        ("  cores", f"{plain_cpu:.2f}", "", "1"),
    ]


def _measure(plan: Plan, pid: int) -> tuple[Heard, float]:
    """What was heard, and how many cores the service took meanwhile."""
    main = psutil.Process(pid)
    with Talkers(plan) as talkers:
        before, began = _seconds(main), time.perf_counter()
        heard = talkers.talk()
        return heard, (_seconds(main) - before) / (time.perf_counter() - began)


def _seconds(main: psutil.Process) -> float:
    times = [one.cpu_times() for one in (main, *main.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def _somebody_is_there(session: Session) -> None:
    now = datetime.now(UTC)
    person = add_staff(session, "siv", "Siv", Role.OPERATOR, [], None, now)
    chat_queue.at_desk(session, [person.id or 0], now + timedelta(days=1))


@contextmanager
def bare() -> Iterator[tuple[int, int]]:
    """What a message costs at the least: FastAPI and uvicorn hand it to those who listen, check
    nothing and keep nothing. Yields port and process id."""
    port = free_port()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_serve, args=(port,), daemon=True)
    process.start()
    try:
        wait_until(lambda: psutil.Process(process.pid).net_connections(), "the bare application")
        yield port, process.pid or 0
    finally:
        process.terminate()
        process.join()


def _serve(port: int) -> None:
    import orjson
    import uvicorn
    from fastapi import Body, FastAPI, Response
    from starlette.responses import JSONResponse, StreamingResponse

    app = FastAPI()
    listeners: dict[str, set[asyncio.Queue[bytes]]] = defaultdict(set)
    numbers = iter(range(1, 1_000_000))

    @app.post("/chat/conversations")
    async def begin() -> Response:
        return JSONResponse({"id": str(next(numbers))}, 201)

    @app.post("/chat/conversations/{key}/messages")
    @app.post("/api/inquiries/{key}/reply")
    async def say(key: str, body: dict[str, Any] = Body()) -> Response:  # noqa: B008 - FastAPI's way
        number = next(numbers)
        frame = b"event: message\ndata: %s\n\n" % orjson.dumps({"id": number, "text": body["text"]})
        for queue in listeners[key]:
            queue.put_nowait(frame)
        return JSONResponse({"id": number}, 201)

    @app.post("/chat/conversations/{key}/{verb}")
    async def sign() -> Response:
        return Response(status_code=204)

    @app.get("/chat/conversations/{key}/events")
    @app.get("/api/inquiries/{key}/chat/events")
    async def events(key: str) -> Response:
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        listeners[key].add(queue)

        async def frames() -> Any:
            yield b"event: standing\ndata: %s\n\n" % orjson.dumps({"ref": key})
            while True:
                yield await queue.get()

        return StreamingResponse(frames(), media_type="text/event-stream")

    uvicorn.run(
        app,
        host="127.0.0.1",
        port=port,
        log_level="critical",
        access_log=False,
        timeout_keep_alive=30,
    )
