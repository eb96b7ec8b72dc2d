"""How many requests should be under way: up while that moves more, down when S3 asks for fewer.

PURE: told what was done in which time, it says a number. What must not live here: a clock, a slot.

Theory of operation
Round trips, not CPU, decide on real networks, and nobody knows them beforehand. So the number is
doubled as long as each doubling brings a sixth more; the first that does not is taken back, and
another is tried much later, because networks change. SlowDown takes a third away at once, and the
number stays below the one that S3 refused; that is forgotten little by little.
"""

from __future__ import annotations

from typing import final

# A doubling has to move this much more, or it is taken back.
WORTH = 1.15
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
        self.number = min(start, cap)
        self._cap = cap
        self._floor = min(FLOOR, self.number)
        self._before: float | None = None
        self._lower = self.number
        self._rest = 0
        self._shed = False
        self._refused = float("inf")
        self._quiet = 0

    def window(self, work: float, seconds: float, *, saturated: bool) -> int:
        """The number for the next window.

        Args:
            work: What was done in this one: bytes, and something for each request.
            saturated: Whether requests waited for a slot; else more slots would bring nothing.
        """
        self._shed = False
        self._quiet += 1
        if self._quiet % FORGET_AFTER == 0:
            self._refused *= FORGET
        if not saturated or self.number >= self._cap:
            self._before = None
            return self.number
        if self._rest:
            self._rest -= 1
            return self.number
        rate = work / seconds
        if self._before is not None and rate < self._before * WORTH:
            self.number = self._lower
            self._before, self._rest = None, REST
            return self.number
        self._before, self._lower = rate, self.number
        below = max(self.number, int(min(self._refused * BELOW_REFUSED, self._cap)))
        self.number = min(2 * self.number, below)
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
