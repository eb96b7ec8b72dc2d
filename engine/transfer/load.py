"""Load: how busy the thread of the loop is, and threads that move bytes for it. Where one of them
is the limit, more requests only wait for it.

What must not live here: how many there should be (``climber.py``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import final

from engine.thread_time import used_by_thread
from engine.threads import keeps_real_time

# How far the two clocks may be apart; under a virtual one the time of a CPU says nothing.
_SAME_CLOCK = 0.2


@final
class Load:
    """Of the thread that asks, and of its helpers.

    Args:
        used: Seconds that the thread had to do something.
        real: Seconds of a real clock; this machine's, of which a virtual loop knows nothing, even
            where both happen to be equally fast.
        helpers: Seconds that each of those was at work; always as many, in the same order.
    """

    def __init__(
        self,
        used: Callable[[], float] = used_by_thread,
        real: Callable[[], float] | None = None,
        helpers: Callable[[], Sequence[float]] = tuple,
    ) -> None:
        self._used, self._real, self._helpers = used, real or time.monotonic, helpers
        self._own_clock = real is None
        self._before = (used(), *helpers()), self._real()

    def share(self, seconds: float) -> float | None:
        """Which part of the ``seconds`` since it was last asked the busiest of them had to do
        something; None where the clock is not a real one. What the thread that asks waits for the
        interpreter lock is not counted."""
        before, since = self._before
        self._before = used, now = (self._used(), *self._helpers()), self._real()
        if self._own_clock and not keeps_real_time():
            return None
        if abs(now - since - seconds) > _SAME_CLOCK * seconds:
            return None
        worked = (later - earlier for earlier, later in zip(before, used, strict=True))
        return max(worked) / (now - since)
