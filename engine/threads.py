"""The one door to threads. A virtual loop must know that a thread is at work, or it would jump
over the time that the thread needs; so nothing else in the package starts a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, TypeVar, TypeVarTuple, cast, runtime_checkable

import anyio
import anyio.to_thread

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
    """Runs blocking calls in at most ``max_threads`` threads of one event loop."""

    def __init__(self, max_threads: int = MAX_FILE_THREADS) -> None:
        self._limiter = anyio.CapacityLimiter(max_threads)

    async def run(self, call: Callable[[*Ts], T], *args: *Ts) -> T:
        """Run ``call(*args)`` in a thread. A cancelled caller waits for the call to end, because
        the call may be writing into a buffer that would be reused."""
        loop = asyncio.get_running_loop()
        counts = cast("object", loop)
        if not isinstance(counts, _CountsThreads):
            return await anyio.to_thread.run_sync(call, *args, limiter=self._limiter)
        counts.thread_started()
        try:
            return await anyio.to_thread.run_sync(call, *args, limiter=self._limiter)
        finally:
            counts.thread_ended()
