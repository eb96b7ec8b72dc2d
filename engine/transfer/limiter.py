"""Limiter: how many requests are under way at once.

First slice: a fixed number for small objects and one for big ones. The controller that doubles
while goodput rises and sheds on SlowDown takes this place without a change for callers.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import anyio

from engine.config import TransferConfig
from engine.types import MiB

# Requests in flight at the start: round trips, not CPU, decide on real networks. Small objects
# are bound by latency, big ones by the link.
START_SMALL = 64
START_BIG = 16
# What one request holds at most: two pieces of 512 KiB (``_wire.pieces``). So the limit of slots
# is the limit of memory, and there is no second budget that could wait for the first.
SLOT_MEMORY = MiB


@dataclass(frozen=True, slots=True)
class LimiterStatistics:
    """Requests under way and waiting, by kind."""

    small_in_flight: int
    small_waiting: int
    big_in_flight: int
    big_waiting: int


class Limiter:
    """Slots for requests. A holder of a slot makes one request and waits for nothing else."""

    def __init__(self, config: TransferConfig) -> None:
        # Half the memory each: small and big objects may be under way together.
        most = max(1, config.max_memory // 2 // SLOT_MEMORY)
        self._small = anyio.CapacityLimiter(min(most, config.max_concurrency or START_SMALL))
        self._big = anyio.CapacityLimiter(min(most, config.max_concurrency or START_BIG))

    def slot(self, *, big: bool) -> AbstractAsyncContextManager[None]:
        """A slot for one request; ``big`` is a part or range of an object in several."""
        return self._big if big else self._small

    @property
    def max_objects(self) -> int:
        """How many objects are worth opening at once."""
        return int(self._small.total_tokens)

    def statistics(self) -> LimiterStatistics:
        small, big = self._small.statistics(), self._big.statistics()
        return LimiterStatistics(
            small.borrowed_tokens, small.tasks_waiting, big.borrowed_tokens, big.tasks_waiting
        )

    def __repr__(self) -> str:
        return f"<Limiter {self.statistics()}>"
