"""How many requests should be under way: up while that moves more, down when S3 asks for fewer.

PURE: told what was done in which time, it says a number. What must not live here: a clock, a slot.

Theory of operation
Round trips, not CPU, decide on real networks. So the first one that is known sets where the number
begins: as many as fill the way there. From then on it is doubled as long as each doubling brings a
sixth more; the first that does not is taken back, and another is tried much later, because networks
change. A loop that was at work for a part of the time only has room for so many times more, which
says how far to go at once: no more than it could serve, and four times as many where it idles.
SlowDown takes a third away at once, and the number stays below the one that S3 refused; that is
forgotten little by little.
"""

from __future__ import annotations

from typing import final

# Doubled, the number has to move 1.15 times as much, or it is taken back; for other steps in
# proportion.
WORTH = 0.2
STEP, MAX_STEP = 2.0, 4.0
# Of a window's time. More requests could bring a loop that is so busy two fifths more at best, and
# each new connection costs it as much as two small objects.
BUSY = 0.7
# A part of 8 MiB takes a tenth of a second over one connection to S3 (85 MB/s), small objects less.
# At this round trip the way takes about as long as the bytes, and twice as many fill it. Seconds.
FAR = 0.05
# Windows until the next try, after one that brought nothing, and after S3 asked for less.
REST = 20
REST_AFTER_SHED = 8
SHED = 0.7
FLOOR = 4
# How near the refused number is gone again, and how it is forgotten: a tenth more in 60 windows.
BELOW_REFUSED = 0.9
FORGET_AFTER = 60
FORGET = 1.1


@final
class Climber:
    """The number of one kind of requests.

    Args:
        start: Where it begins.
        cap: Where it ends.
    """

    def __init__(self, start: int, cap: int) -> None:
        self.number = self._start = min(start, cap)
        self._cap = cap
        self._floor = min(FLOOR, self.number)
        self._before: float | None = None
        self._lower = self.number
        self._worth = 0.0
        self._rest = 0
        self._shed = False
        self._refused = float("inf")
        self._quiet = 0

    def begin(self, round_trip: float) -> int:
        """The number for a server that is ``round_trip`` seconds away."""
        if self.number == self._start:
            self.number = self._lower = min(int(self._start * (1 + round_trip / FAR)), self._cap)
        return self.number

    def window(
        self, work: float, seconds: float, *, saturated: bool, load: float | None = None
    ) -> int:
        """The number for the next window.

        Args:
            work: What was done in this one: bytes, and something for each request.
            saturated: Whether requests waited for a slot; else more slots would bring nothing.
            load: Which part of its time the loop was at work; None where that is not known.
        """
        self._shed = False
        self._quiet += 1
        if self._quiet % FORGET_AFTER == 0:
            self._refused *= FORGET
        busy = load is not None and load >= BUSY
        if not saturated or busy or self.number >= self._cap:
            self._before = None
            return self.number
        if self._rest:
            self._rest -= 1
            return self.number
        rate = work / seconds
        if self._before is not None and rate < self._before * self._worth:
            self.number = self._lower
            self._before, self._rest = None, REST
            return self.number
        self._before, self._lower = rate, self.number
        step = STEP if load is None else min(1 / max(load, 1 / MAX_STEP), MAX_STEP)
        self._worth = step**WORTH
        below = max(self.number, int(min(self._refused * BELOW_REFUSED, self._cap)))
        self.number = min(int(step * self.number), below)
        if self.number == self._lower:
            self._before = None  # nothing was tried
        return self.number

    def shed(self) -> int:
        """S3 asked for fewer. Once a window, however many requests heard it."""
        if not self._shed:
            self._shed = True
            self._refused, self._quiet = min(self._refused, float(self.number)), 0
            self.number = max(self._floor, int(self.number * SHED))
            self._before, self._rest = None, REST_AFTER_SHED
        return self.number

    def __repr__(self) -> str:
        return f"<Climber {self.number}/{self._cap}>"
