"""What our figures stand beside: libraries as they come, which take the same and keep nothing."""

from __future__ import annotations

import multiprocessing
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import uvicorn
from aiosmtpd.controller import Controller
from fastapi import FastAPI, Request
from starlette.responses import Response
from twilio.request_validator import RequestValidator

from tests.service import answers, free_port, wait_until
from tests.twilio_double import AUTH_TOKEN

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Discard:
    async def handle_DATA(self, *_arguments: object) -> str:  # noqa: N802 - the library's name
        return "250 OK"


@contextmanager
def stock_aiosmtpd() -> Iterator[int]:
    """Run it in a process of its own; yields the port."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        ours.send(None)
        process.join()


def _serve(pipe: Any) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    controller = Controller(_Discard(), hostname="127.0.0.1", port=port, ready_timeout=30)
    controller.start()
    pipe.send(port)
    pipe.recv()
    controller.stop()


@contextmanager
def bare_webhook() -> Iterator[int]:
    """FastAPI with Twilio's own validator, answering every webhook with the same document; yields
    its port."""
    port = free_port()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_serve_webhook, args=(port,), daemon=True)
    process.start()
    try:
        wait_until(lambda: answers(port), "the bare webhook")
        yield port
    finally:
        process.kill()
        process.join()


def _serve_webhook(port: int) -> None:
    application, validator = FastAPI(), RequestValidator(AUTH_TOKEN)

    @application.post("/{path:path}")
    async def webhook(request: Request) -> Response:
        form = await request.form()
        signature = request.headers.get("x-twilio-signature", "")
        if not validator.validate(str(request.url), form, signature):
            return Response(status_code=403)
        return Response("<Response><Say>Hei.</Say></Response>", media_type="text/xml")

    uvicorn.run(application, host="127.0.0.1", port=port, log_level="warning")
