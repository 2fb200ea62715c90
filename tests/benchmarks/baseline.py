"""The yardstick of the intake figures: aiosmtpd as it comes, accepting the same mails and keeping
nothing."""

from __future__ import annotations

import multiprocessing
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from aiosmtpd.controller import Controller

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
