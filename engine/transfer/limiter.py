"""Limiter: how many requests are under way at once.

First slice: a fixed number for small objects and one for big ones. The controller that doubles
while goodput rises and sheds on SlowDown takes this place without a change for callers.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import anyio

from engine.config import TransferConfig

# Requests in flight at the start: round trips, not CPU, decide on real networks. Small objects
# are bound by latency, big ones by the link (DEFAULTS in CONTRIBUTING.md).
START_SMALL = 64
START_BIG = 16


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
        self._small = anyio.CapacityLimiter(config.max_concurrency or START_SMALL)
        self._big = anyio.CapacityLimiter(config.max_concurrency or START_BIG)

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
