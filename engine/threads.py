"""The one door to threads. A virtual loop must know that a thread is at work, or it would jump
over the time that the thread needs; so nothing else in the package starts a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar, TypeVarTuple, cast, runtime_checkable

import anyio

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# File work of all transfers of a process at once. Threads wait for disks, not for CPUs, so the
# number is not tied to the cores; above about 16 more threads only added switches.
MAX_FILE_THREADS = 16


@runtime_checkable
class _CountsThreads(Protocol):
    def thread_started(self) -> None: ...
    def thread_ended(self) -> None: ...


class ThreadDoor:
    """Runs blocking calls in at most ``max_threads`` threads of one event loop.

    An executor of its own and not ``anyio.to_thread``: a call there costs three times as much,
    and a small object makes two to four of them.
    """

    def __init__(self, max_threads: int = MAX_FILE_THREADS) -> None:
        self._pool = ThreadPoolExecutor(max_threads, thread_name_prefix="s3engine-file")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._counts: _CountsThreads | None = None

    async def run(
        self,
        call: Callable[[*Ts], T],
        *args: *Ts,
        discard: Callable[[T], object] | None = None,
    ) -> T:
        """Run ``call(*args)`` in a thread. A cancelled caller waits for the call to end, because
        the call may be writing into a buffer that would be reused.

        Args:
            discard: Gets what the call made when the caller was cancelled meanwhile and so
                cannot have it, as an open file that nobody would close.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            # Once a loop: a look at a protocol costs as much as half a hop.
            virtual = cast("object", loop)
            self._loop = loop
            self._counts = virtual if isinstance(virtual, _CountsThreads) else None
        if self._counts is None:
            return await self._run(loop, discard, call, *args)
        self._counts.thread_started()
        try:
            return await self._run(loop, discard, call, *args)
        finally:
            self._counts.thread_ended()

    def close(self) -> None:
        """Let the threads go. Calls under way end by themselves."""
        self._pool.shutdown(wait=False)

    async def _run(
        self,
        loop: asyncio.AbstractEventLoop,
        discard: Callable[[T], object] | None,
        call: Callable[[*Ts], T],
        *args: *Ts,
    ) -> T:
        running = self._pool.submit(call, *args)
        done = asyncio.wrap_future(running, loop=loop)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            if not running.cancel():
                while not done.done():  # a second native cancel gets through anyio's shield
                    with (
                        anyio.CancelScope(shield=True),
                        contextlib.suppress(asyncio.CancelledError),
                    ):
                        await asyncio.wait([done])
                failed = done.exception()  # whoever asked is gone; nobody else would look at it
                if failed is None and discard is not None:
                    discard(done.result())
            raise
