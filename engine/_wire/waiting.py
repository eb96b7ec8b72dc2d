"""Waiting: one waiter, woken by callbacks, with a limit since the last progress.

What lives here: the half of a connection that knows nothing of bytes.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable

from engine.errors import ConnectionFailed, EngineError

# A deadline that has passed while the loop was busy gets one more look at the socket. Seconds.
_LAST_LOOK = 0.01
# How often within a limit is looked for progress that no callback tells of: the first look only
# finds where things stand, so silence is known within a limit and a quarter.
_LOOKS = 4
# Bytes of a body within each limit (10 s): a server that lets them drip must not hold a place for
# ever, and no network that is of use is slower.
MIN_PROGRESS = 1024


class Waiting(ABC):
    """Made in the loop that it waits in."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._wake: asyncio.Future[bool] | None = None
        self._progress_at = self._loop.time()
        self._error: EngineError | None = None
        self._lost = False
        self._limit, self._what = 0.0, ""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self.timed_out = False

    @abstractmethod
    def abort(self) -> None:
        """End it at once."""

    @abstractmethod
    def _kernel_moves(self) -> bool:
        """Whether there was progress since the last look that no callback has told of."""

    def _moved(self) -> int | None:
        """Bytes so far, where too few of them are an end."""
        return None

    def _fail(self, error: EngineError) -> EngineError:
        self._error = self._error or error
        self.abort()
        return self._error

    def _touch(self) -> None:
        self._progress_at = self._loop.time()

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(True)

    async def _wait(self, ready: Callable[[], bool], limit: float, what: str) -> None:
        """Wait for ``ready``; ``limit`` counts from the last progress."""
        self._limit, self._what = limit, what
        marked_at, marked = 0.0, None
        while self._error or not ready():
            if self._error:
                raise self._error
            if self._lost:
                raise self._fail(ConnectionFailed("the connection was lost"))
            left = self._progress_at + self._limit - self._loop.time()
            if await self._woken(max(min(left, self._limit / _LOOKS), _LAST_LOOK)):
                continue
            silent = self._loop.time() - self._progress_at >= self._limit and not ready()
            if not self._kernel_moves() and silent:
                self.timed_out = True
                raise self._fail(
                    ConnectionFailed(f"timed out after {self._limit:g} s: {self._what}")
                )
            now, moved = self._loop.time(), self._moved()
            if moved is None or marked is None or moved - marked >= MIN_PROGRESS:
                marked_at, marked = now, moved
            elif now - marked_at >= self._limit and not ready():
                self.timed_out = True
                raise self._fail(
                    ConnectionFailed(f"under {MIN_PROGRESS} bytes in {self._limit:g} s of a body")
                )

    def _wait_on(self, limit: float, what: str) -> None:
        """Whoever waits goes on waiting, for something else and within its limit."""
        self._limit, self._what = limit, what
        self._arm(limit)

    async def _woken(self, seconds: float) -> bool:
        """Wait for ``_notify``; False after ``seconds``, or before: the caller looks at the time.

        A future and a timer of the loop: a cancel scope costs three times as much. The timer
        outlives the wait, because most waits end long before it and arming one costs as much as
        the future.
        """
        self._wake = wake = self._loop.create_future()
        self._arm(seconds)
        try:
            woken: bool = await wake
            return woken
        finally:
            self._wake = None

    def _arm(self, seconds: float) -> None:
        """Have the timer ring after ``seconds`` at the latest."""
        at = self._loop.time() + seconds
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_later(seconds, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(False)

    def _disarm(self) -> None:
        """Nobody will wait any more; a timer would keep what it rings for alive."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
