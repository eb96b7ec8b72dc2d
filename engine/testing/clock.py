"""Virtual time: an event loop whose clock jumps to the next timer when nothing is left to do.

Eight hours of renewals pass in a second. Because it is the loop's own time, every sleep,
deadline and ``LoopClock`` follows. While a thread works (through the one door of
``engine.threads``, or ``run_in_executor``) the clock stands still.
"""

from __future__ import annotations

import array
import asyncio
import selectors
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio

try:
    import fcntl
    import termios

    _TIOCOUTQ: int | None = getattr(termios, "TIOCOUTQ", None)
except ImportError:  # Windows
    _TIOCOUTQ = None

T = TypeVar("T")

# Real seconds that a loop without timers and without threads may wait for a socket.
_REAL_WAIT = 0.05
# A busy machine delivers over loopback some milliseconds late: before a jump of more than this
# (virtual seconds), what is on its way is waited for so long (real seconds).
_LONG_JUMP, _ON_ITS_WAY = 0.2, 0.02


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio loop on virtual time that starts at 0."""

    def __init__(self) -> None:
        self._virtual_now = 0.0
        self._threads = 0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        return self._virtual_now

    def thread_started(self) -> None:
        """A thread is at work: the clock must stand still."""
        self._threads += 1

    def thread_ended(self) -> None:
        self._threads -= 1

    def run_in_executor(  # type: ignore[override]  # the stubs' TypeVarTuple form says no more
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> Any:
        self.thread_started()
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(lambda _: self.thread_ended())
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Without its limit (Python 3.12 and later), which would be over at once."""
        await super().shutdown_default_executor()

    def jump(self, seconds: float) -> None:
        self._virtual_now += seconds

    @property
    def threads_at_work(self) -> int:
        return self._threads


class _JumpingSelector(selectors.DefaultSelector):
    """Answers at once and lets the loop's clock jump instead of waiting."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop
        self._moving = False  # sockets have told something since they were waited for

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        self._moving |= bool(ready)
        if ready or timeout == 0:
            return ready
        if timeout is None or self._loop.threads_at_work:
            return super().select(_REAL_WAIT)
        if self._moving and timeout >= _LONG_JUMP and self._on_its_way():
            ready = super().select(_ON_ITS_WAY)
            self._moving = bool(ready)
            if ready:
                return ready
        self._loop.jump(timeout)
        return []

    def _on_its_way(self) -> bool:
        """Whether the kernel holds bytes of a socket that nobody has acknowledged."""
        return any(_unsent(key.fd) for key in self.get_map().values())


def _unsent(fd: int) -> int:
    """Bytes; 0 for what is no socket, 1 where the system does not say."""
    if _TIOCOUTQ is None:
        return 1
    count = array.array("i", [0])
    try:
        fcntl.ioctl(fd, _TIOCOUTQ, count)
    except OSError:
        return 0
    return count[0]


def run_virtual(main: Callable[[], Awaitable[T]]) -> T:
    """Run ``main`` on a virtual loop that starts at 0 s. Real sockets work, at no time's cost."""
    return anyio.run(main, backend_options={"loop_factory": VirtualLoop})
