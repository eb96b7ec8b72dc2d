"""Turns: how much of its time a thread that works with others waits until it may run.

What lives here: one measure, of CPU time to time that passes. What must not: what is done about it.
"""

from __future__ import annotations

import time
from typing import Self, final

# Of the time of about the last fifty pieces of work. Measured on two cores with an origin beside
# it: two movers that encipher wait for half of their time, whatever else there is; beside a loop
# that is busy with small objects for three quarters, or two thirds with larger units.
_SCARCE, _ENOUGH = 0.62, 0.53
_FADES = 0.98
# Seconds, and how many of them it ran, that stand for what is not known at the beginning.
_AT_FIRST = 0.1, 0.05


@final
class Turns:
    """Of one thread; entered around each piece of its work, none of which waits for a network.

    Attributes:
        are_scarce: Whether others keep it waiting, for the interpreter lock or a core (or a disk
            does): what takes a turn should be worth it.
    """

    def __init__(self) -> None:
        self.are_scarce = False
        self._passed, self._ran = _AT_FIRST
        self._began = self._ran_before = 0.0

    def __enter__(self) -> Self:
        self._began, self._ran_before = time.perf_counter(), time.thread_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.told(time.perf_counter() - self._began, time.thread_time() - self._ran_before)

    def told(self, passed: float, ran: float) -> None:
        """One piece of work took ``passed`` seconds, in which it ran for ``ran``."""
        self._passed = self._passed * _FADES + passed
        self._ran = self._ran * _FADES + ran
        waited = self._passed - self._ran
        self.are_scarce = waited > self._passed * (_ENOUGH if self.are_scarce else _SCARCE)
