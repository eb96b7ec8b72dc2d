"""The one door to threads. A virtual loop must know that a thread is at work, or it would jump
over the time that the thread needs; so nothing else in the package starts a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar, TypeVarTuple, cast, runtime_checkable

import anyio

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# File work of all transfers of a process at once. Threads wait for disks, not for CPUs, so the
# number is not tied to the cores; above about 16 more threads only added switches.
MAX_FILE_THREADS = 16
# Threads that are there at once; more come when calls wait for a disk. Calls that are short only
# fight for the interpreter lock: 16 threads made 120 switches an object of 64 KiB, 2 make 10.
FIRST_THREADS = 2
# A call that took so long waited for something. Seconds.
SLOW_CALL = 0.002


@runtime_checkable
class _CountsThreads(Protocol):
    def thread_started(self) -> None: ...
    def thread_ended(self) -> None: ...


@runtime_checkable
class _MakesCalls(Protocol):
    """A loop that makes the calls itself, one at a time and when it likes: a simulation."""

    def make_call(self, take: Callable[[], bool], work: Callable[[], None]) -> None: ...


def keeps_real_time() -> bool:
    """Whether the time of the loop that runs is this machine's."""
    return not isinstance(cast("object", asyncio.get_running_loop()), _CountsThreads)


class ThreadDoor:
    """Runs blocking calls in at most ``max_threads`` threads of one event loop.

    Threads and a queue of its own: a call by ``anyio.to_thread`` costs five times as much, by an
    executor twice, and a small object makes one.
    """

    def __init__(self, max_threads: int = MAX_FILE_THREADS) -> None:
        self._max_threads = max_threads
        self._jobs: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._threads = 0
        self._under_way = 0
        self._closed = False
        self._growing = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._counts: _CountsThreads | None = None
        self._caller: _MakesCalls | None = None
        self._at_work: list[Callable[[], float]] = []

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
        self.began()
        self._under_way += 1
        try:
            return await self._run(_Job(asyncio.get_running_loop(), call, args), discard)
        finally:
            self._under_way -= 1
            self.ended()

    def began(self) -> None:
        """Work in a thread has begun: a virtual clock stands still until it has ended."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            # Once a loop: a look at a protocol costs as much as half a hop.
            virtual = cast("object", loop)
            self._loop = loop
            self._counts = virtual if isinstance(virtual, _CountsThreads) else None
            self._caller = virtual if isinstance(virtual, _MakesCalls) else None
        if self._counts is not None:
            self._counts.thread_started()

    def ended(self) -> None:
        """As often as ``began``."""
        if self._counts is not None:
            self._counts.thread_ended()

    def dedicate(self, name: str, work: Callable[[], None]) -> None:
        """A thread of its own for work that waits for many things at once. Whoever asks for it
        ends it, and calls ``began`` and ``ended`` around what it does for the loop."""
        threading.Thread(target=work, name=name, daemon=True).start()

    def watch(self, at_work: Callable[[], float]) -> None:
        """Have a dedicated thread counted by ``at_work``: the seconds that it was at work so far, 0
        while there is none yet."""
        self._at_work.append(at_work)

    def at_work(self) -> list[float]:
        """What those say that are watched, in the order in which they came."""
        return [seconds() for seconds in self._at_work]

    def close(self) -> None:
        """Let the threads go. Calls under way end by themselves."""
        with self._growing:
            self._closed = True
            for _ in range(self._threads):
                self._jobs.put(None)

    async def _run(self, job: _Job[T], discard: Callable[[T], object] | None) -> T:
        if self._closed:
            raise RuntimeError("the door to threads is closed")
        if self._caller is not None:
            self._caller.make_call(job.take, job.work)
        else:
            if self._threads < min(self._under_way, self._max_threads, FIRST_THREADS):
                self._start_thread()
            self._jobs.put(job)
        try:
            return await job.waiter
        except asyncio.CancelledError:
            if not job.take():
                await job.over()
                if job.failed is None and discard is not None:
                    discard(cast("T", job.result))
            raise

    def _start_thread(self) -> None:
        self._threads += 1
        name = f"s3engine-file-{self._threads}"
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if job.take():
                began = time.monotonic()
                job.work()
                if time.monotonic() - began > SLOW_CALL and not self._jobs.empty():
                    self._one_more()
            del job  # or its buffers live until the next one

    def _one_more(self) -> None:
        """Calls wait while this thread waited: let another take them."""
        with self._growing:
            if self._threads < self._max_threads and not self._closed:
                self._start_thread()


class _Job(Generic[T]):
    """One call, and who waits for it."""

    __slots__ = ("args", "call", "done", "failed", "loop", "result", "turn", "waiter")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, call: Callable[..., T], args: tuple[Any, ...]
    ) -> None:
        self.loop = loop
        self.call = call
        self.args = args
        self.waiter: asyncio.Future[T] = loop.create_future()
        self.turn = [True]
        self.done = False
        self.result: T | None = None
        self.failed: BaseException | None = None

    def take(self) -> bool:
        """For the thread to begin it, or for a cancelled caller to drop it: one of them may."""
        try:
            return self.turn.pop()  # atomic
        except IndexError:
            return False

    def work(self) -> None:
        """In the thread."""
        try:
            self.result = self.call(*self.args)
        except BaseException as error:
            self.failed = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self.loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        self.done = True
        if self.waiter.done():
            return
        if self.failed is not None:
            self.waiter.set_exception(self.failed)
        else:
            self.waiter.set_result(cast("T", self.result))

    async def over(self) -> None:
        """Wait for the end of a call that nobody wants any more."""
        while not self.done:
            self.waiter = self.loop.create_future()
            with anyio.CancelScope(shield=True):
                with contextlib.suppress(asyncio.CancelledError):  # a second native cancel
                    await asyncio.wait([self.waiter])
        if self.waiter.done() and not self.waiter.cancelled():
            self.waiter.exception()  # whoever asked is gone; nobody else would look at it
