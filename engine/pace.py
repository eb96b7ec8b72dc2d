"""Pace: so many bytes a second for all connections of an engine, up and down together.

What lives here: the bucket and whose turn it is. What must not: sockets, how bytes are moved.

A token bucket, kept as one instant (the "theoretical arrival time" of GCRA, ITU-T I.371): what was
moved is paid for at ``_paid_at``. It lags behind the clock by ``BURST`` at most, so within any T
seconds no more than ``limit * (T + BURST)`` and one slice begin to move. Who finds it ahead of the
clock waits in one line with all others, and moves one slice in his turn: so a connection's share
does not depend on how much it has to move.

Rules of this file
- Whoever is called in his turn spends at once, or wants nothing any more; he never waits.
- What has come without a turn is spent all the same: the others wait for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import final

# What may be moved at once behind a pause, in seconds of the limit.
BURST = 0.1
# What is moved in one turn: so many seconds of the limit, so that the turns of hundreds of
# connections come round within seconds; and in bytes, the least and the most.
SLICE_SECONDS, MIN_SLICE, MAX_SLICE = 0.005, 4 * 1024, 256 * 1024
# uvloop's timers count milliseconds, and may ring that much too early. Seconds.
_EARLY = 0.001
# Below it a part would take minutes, and servers give up who sends nothing for 20 seconds.
MIN_BANDWIDTH = 64 * 1024


@final
class Pace:
    """The bandwidth limit of one engine; of one event loop.

    Args:
        limit: Bytes a second.

    Attributes:
        slice: Bytes that one turn moves.
        waited: Seconds so far in which somebody waited for a turn.
    """

    def __init__(self, limit: int) -> None:
        assert limit > 0
        self.limit = limit
        self.slice = min(max(int(limit * SLICE_SECONDS), MIN_SLICE), MAX_SLICE)
        self._line: deque[Callable[[], None]] = deque()
        self._paid_at = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._waited = 0.0
        self._waiting_since = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None

    def settle(self) -> None:
        """Belong to the loop that runs now; an engine may be opened again in another one."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop = loop
            self._line.clear()
            self._paid_at, self._timer = float("-inf"), None

    @property
    def ready(self) -> bool:
        """Whether a slice may be moved now: nobody waits, and all that was moved is paid for."""
        return not self._line and self._paid_at <= self._now()

    @property
    def waited(self) -> float:
        waiting = self._now() - self._waiting_since if self._line else 0.0
        return self._waited + waiting

    def spend(self, size: int) -> None:
        """``size`` bytes begin to move, or have been moved; less than 0 gives them back."""
        self._paid_at = max(self._paid_at, self._now() - BURST) + size / self.limit

    def wait(self, turn: Callable[[], None]) -> None:
        """Have ``turn`` called behind those who wait already; never before this returns."""
        if not self._line:
            self._waiting_since = self._now()
        self._line.append(turn)
        self._arm()

    async def take(self, size: int) -> None:
        """Wait until ``size`` bytes may be moved: a slice, or some."""
        if self.ready:
            self.spend(size)
            return
        come: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def turn() -> None:
            if not come.done():  # else cancelled
                self.spend(size)
                come.set_result(None)

        self.wait(turn)
        await come

    def _now(self) -> float:
        if self._loop is None:
            self.settle()
        assert self._loop is not None
        return self._loop.time()

    def _arm(self) -> None:
        if self._timer is None and self._line:
            now = self._now()
            assert self._loop is not None
            self._timer = self._loop.call_at(max(self._paid_at, now), self._ring)

    def _ring(self) -> None:
        self._timer = None
        try:
            while self._line and self._paid_at <= self._now() + _EARLY:
                # Out of the line first: whoever has more to move joins it again behind the others.
                turn = self._line.popleft()
                if not self._line:
                    self._waited += self._now() - self._waiting_since
                turn()
        finally:
            self._arm()

    def __repr__(self) -> str:
        return f"<Pace {self.limit} B/s waiting={len(self._line)}>"
