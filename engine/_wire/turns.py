"""Turns: how much of its time a thread that works with others waits for the interpreter lock.

What lives here: one measure, of the time that a thread had something to do to the time that has
passed. What must not: what is done about it.
"""

from __future__ import annotations

import time
from typing import Self, final

from engine.thread_time import ThreadTime

# Of the time of about the last fifty pieces of work. Measured on two cores with an origin beside
# it: two movers that encipher wait for the lock for a tenth to a quarter of their time; beside a
# loop that is busy with small objects for two fifths to a half, or a third with larger units. With
# these all of its units are the larger ones; with 0.36 and 0.24 two thirds were: 5 % more CPU.
_SCARCE, _ENOUGH = 0.28, 0.2
_EVERY, _FADES = 4, 0.92
# Seconds, and how many of them it ran, that stand for what is not known at the beginning.
_AT_FIRST = 0.02, 0.018


@final
class Turns:
    """Of one thread; entered around each piece of its work, none of which waits for a network. Some
    of them are measured.

    Attributes:
        are_scarce: Whether others keep it waiting, for the interpreter lock (or a disk does): what
            takes a turn should be worth it.
    """

    def __init__(self) -> None:
        self.are_scarce = False
        self._time = ThreadTime()
        self._pieces = 0
        self._passed, self._ran = _AT_FIRST
        self._began = self._ran_before = 0.0

    def __enter__(self) -> Self:
        self._pieces += 1
        if not self._pieces % _EVERY:
            self._began, self._ran_before = time.perf_counter(), self._time.used()
        return self

    def __exit__(self, *_: object) -> None:
        if not self._pieces % _EVERY:
            used = self._time.used()
            self.told(time.perf_counter() - self._began, used - self._ran_before)

    def told(self, passed: float, ran: float) -> None:
        """One piece of work took ``passed`` seconds, in which it had something to do for ``ran``:
        was on a CPU, or waited for one."""
        self._passed = self._passed * _FADES + passed
        self._ran = self._ran * _FADES + ran
        waited = self._passed - self._ran
        self.are_scarce = waited > self._passed * (_ENOUGH if self.are_scarce else _SCARCE)

    def close(self) -> None:
        """Nothing is measured any more."""
        self._time.close()
