"""Slots: how many requests may be under way, and how many bytes they may hold. First come, first
served. What must not live here: how many that should be (``climber.py``).
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import final


@dataclass(frozen=True, slots=True)
class SlotStatistics:
    """Requests under way and waiting, and the bytes that those under way hold at most."""

    in_flight: int
    waiting: int
    memory: int
    capacity: int


@final
class Slots:
    """A semaphore of requests and bytes whose capacity may change while it is in use.

    Its own and not ``anyio.CapacityLimiter``: that one counts requests only, and gives control
    back to the loop for every slot, which costs as much as a signature.
    """

    def __init__(self, capacity: int, memory: int) -> None:
        self.capacity = capacity
        self._memory = memory
        self._in_flight = 0
        self._held = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def acquire(self, weight: int) -> int:
        """Wait for a slot and ``weight`` bytes; returns what ``release`` is to be given."""
        weight = min(weight, self._memory)  # what does not fit at all goes alone
        if not self._waiting and self._fits(weight):
            self._take(weight)
            return weight
        place = asyncio.get_running_loop().create_future()
        entry = (weight, place)
        self._waiting.append(entry)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.release(weight)  # it came together with the cancellation
            else:
                with suppress(ValueError):  # passed over already
                    self._waiting.remove(entry)
                self._serve()
            raise
        return weight

    def release(self, weight: int) -> None:
        """Give a slot back."""
        self._in_flight -= 1
        self._held -= weight
        assert self._in_flight >= 0 and self._held >= 0, "more slots given back than taken"
        self._serve()

    def resize(self, capacity: int) -> None:
        """Another number of slots from now on; those under way are left alone."""
        self.capacity = capacity
        self._serve()

    @property
    def in_flight(self) -> int:
        """Slots that are taken."""
        return self._in_flight

    @property
    def busy(self) -> bool:
        """Whether somebody waits."""
        return bool(self._waiting)

    def statistics(self) -> SlotStatistics:
        return SlotStatistics(self._in_flight, len(self._waiting), self._held, self.capacity)

    def _fits(self, weight: int) -> bool:
        return self._in_flight < self.capacity and self._held + weight <= self._memory

    def _take(self, weight: int) -> None:
        self._in_flight += 1
        self._held += weight

    def _serve(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            weight, place = self._waiting.popleft()
            if not place.done():
                self._take(weight)
                place.set_result(None)

    def __repr__(self) -> str:
        return f"<Slots {self.statistics()}>"
