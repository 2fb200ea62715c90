"""A process of its own for what hostile content could stall: it has a time and a memory limit, and
is killed and replaced when it passes them."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import resource
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from pebble import ProcessExpired, ProcessPool

from router.errors import RouterError
from router.garbage import keep_what_is_loaded

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

T = TypeVar("T")

START_LIMIT = 60.0
"""Seconds for a worker to begin."""

LOOK_EVERY = 0.5
"""Seconds between two looks whether a process is still there."""

ATTEMPTS = 2
"""Workers that are tried before work is given back."""

MEMORY_LIMIT = 2 * 1024**3
"""Address space of a worker, bytes."""


class WorkerLostError(RouterError):
    """The worker took too long or too much memory, and was replaced."""

    code = "worker_lost"


class _LostError(Exception):
    """No outcome will come from this process; `begun` when the work may be to blame."""

    def __init__(self, *, begun: bool) -> None:
        self.begun = begun


class Worker:
    """One worker process. Killed and replaced when work takes too long or is not even begun."""

    def __init__(self, begin: Callable[..., None] | None = None, *args: object) -> None:
        """`begin` is called with `args` in the process first of all; both go there pickled."""
        self._begin = (begin, *args)
        self._process: _Process | None = None
        # One piece of work waits at the worker's door, so that it need not wait for us in between.
        self._room = asyncio.Semaphore(2)
        self._promised = 0.0
        """Seconds that the work now at the worker may take."""
        self._open = False

    def start(self, *, now: bool = True) -> None:
        """Start the process while the service comes up; or have it started with the first work."""
        self._open = True
        self._room = asyncio.Semaphore(2)
        if now:
            self._hired()

    def stop(self) -> None:
        """End the process; what it had in hand is given back. Takes a few seconds at most."""
        self._open = False
        process, self._process = self._process, None
        if process is not None:
            process.dismiss()
            process.end()

    async def run(self, function: Callable[..., T], *args: object, seconds: float) -> T:
        """Call an importable function in the worker. It gets `seconds` from when the worker can
        take it.

        Raises what it raises, `WorkerLostError` when the worker was lost over it, `RuntimeError`
        when there is none.
        """
        async with self._room:
            for _ in range(ATTEMPTS):
                process = self._hired()
                # What others may take before it does not count for this piece.
                limit = self._promised + seconds
                self._promised = limit
                try:
                    return await process.call(function, args, limit)
                except asyncio.CancelledError:
                    await self._replace(process)
                    raise
                except _LostError as lost:
                    await self._replace(process)
                    if lost.begun:
                        raise WorkerLostError from None
                finally:
                    self._promised -= seconds
        raise RuntimeError("no worker takes the work")

    def _hired(self) -> _Process:
        if not self._open:
            raise RuntimeError("the worker has been stopped")
        if self._process is None:
            self._process = _Process(self._begin)
        return self._process

    async def _replace(self, lost: _Process) -> None:
        """Have another process next time, unless somebody else has seen to that."""
        if self._process is lost:
            self._process = None
            lost.dismiss()
            await asyncio.to_thread(lost.end)


class _Process:
    """A pool of one, since pebble knows how to start and to watch a process."""

    def __init__(self, begin: tuple[Any, ...]) -> None:
        self._pool = ProcessPool(
            max_workers=1,
            initializer=_begin,
            initargs=begin,
            # Not fork: the service has threads, and a forked copy of a held lock never opens.
            context=multiprocessing.get_context("spawn"),
        )
        self._ready: Future[int] = self._pool.schedule(os.getpid)
        self._dismissed = False
        self._waiting: set[_Waiting] = set()

    async def call(self, function: Callable[..., T], args: tuple[object, ...], limit: float) -> T:
        """The outcome within `limit` seconds. Raises `_LostError` when none will come."""
        if not await self._settled(self._ready, START_LIMIT) or self._ready.exception():
            raise _LostError(begun=False)
        if not self._pool.active:
            raise _LostError(begun=False)
        future: Future[T] = self._pool.schedule(function, args=args)
        # Not the pool's own limit, which begins when the process takes the work: one that is
        # frozen never does.
        settled = await self._settled(future, limit)
        if self._dismissed:  # whatever the pool says of it now
            raise _LostError(begun=False)
        if not settled:
            raise _LostError(begun=future.running())
        error = future.exception()
        if isinstance(error, ProcessExpired):
            raise _LostError(begun=True)
        if error is not None and not self._pool.active:  # lost over what came before
            raise _LostError(begun=False)
        return future.result()

    def dismiss(self) -> None:
        """Take no more from it: whoever waits for it is told."""
        self._dismissed = True
        for waiting in tuple(self._waiting):
            waiting.tell()

    def end(self) -> None:
        """Kill it. Takes a few seconds at most."""
        self._pool.stop()  # type: ignore[no-untyped-call]
        # Killed first: the pool asks politely, which a frozen process does not hear, and waits.
        if self._ready.done() and not self._ready.exception():
            for child in multiprocessing.active_children():
                if child.pid == self._ready.result():
                    child.kill()
        self._pool.join()

    async def _settled(self, future: Future[Any], seconds: float) -> bool:
        """Wait for an outcome without asking for it, or for the end of the pool; whether there is
        one."""
        waiting = _Waiting()
        self._waiting.add(waiting)
        future.add_done_callback(waiting.tell)
        until = monotonic() + seconds
        try:
            # A pool whose process died idle breaks, and forgets what it is given just then.
            while not (future.done() or self._dismissed) and self._pool.active:
                left = until - monotonic()
                if left <= 0:
                    break
                await waiting.told_within(min(left, LOOK_EVERY))
        finally:
            self._waiting.discard(waiting)
        return future.done()


class _Waiting:
    """Somebody who waits in a loop, and can be told from any thread."""

    def __init__(self) -> None:
        self._told = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def tell(self, _future: object = None) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._told.set)

    async def told_within(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._told.wait()


def _begin(begin: Callable[..., None] | None, *args: object) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    if begin is not None:
        begin(*args)
    keep_what_is_loaded()
