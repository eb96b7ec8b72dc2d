"""A simulated S3 on the loop's clock: capacities, knees, refusals. For the controller.

What lives here: when an answer comes, and which. What must not: the engine, real time.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import anyio

from engine.errors import S3Error
from engine.types import S3Url

# Seconds of its rate that a partition lets through at once.
BURST = 0.1


@dataclass
class Partition:
    """A range of keys. Requests a second beyond ``rate`` are refused."""

    rate: float
    tokens: float = 0.0
    since: float = 0.0

    def takes(self, now: float) -> bool:
        self.tokens = min(self.rate * BURST, self.tokens + (now - self.since) * self.rate)
        self.since = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@dataclass
class SimulatedServer:
    """Answers each request after a round trip, and after those before it.

    Attributes:
        round_trip: Seconds.
        bandwidth: Bytes a second over all requests; the knee is where they fill it.
        limits: Of partitions, by their prefixes: requests a second.
        collapse: Requests at once beyond which each takes bandwidth away from all.
        retry_after: What a refusal says, if anything.
    """

    round_trip: float = 0.05
    bandwidth: float = 1e9
    limits: dict[str, Partition] = field(default_factory=dict)
    collapse: int | None = None
    retry_after: float | None = None
    under_way: int = 0
    most: int = 0
    refusals: int = 0
    served: int = 0
    moved: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    refused_in: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    by_prefix: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    _free_at: float = 0.0

    def limit(self, prefix: str, rate: float) -> None:
        """From now on."""
        now = anyio.current_time()
        self.limits[prefix] = Partition(rate, rate * BURST, now)

    async def request(self, url: S3Url, size: int) -> None:
        """Raises S3Error: SlowDown."""
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            now = anyio.current_time()
            partition = self._partition(url.key)
            if partition is not None and not partition.takes(now):
                await anyio.sleep(self.round_trip)
                self.refusals += 1
                self.refused_in[int(now)] += 1
                raise S3Error(
                    f"put object of {url}: slow down",
                    s3_code="SlowDown",
                    status=503,
                    retry_after=self.retry_after,
                )
            bandwidth = self.bandwidth
            if self.collapse is not None and self.under_way > self.collapse:
                bandwidth *= self.collapse / self.under_way
            self._free_at = max(self._free_at, now) + size / bandwidth
            await anyio.sleep(self._free_at - now + self.round_trip)
            self.served += 1
            self.moved[int(anyio.current_time())] += size
            self.by_prefix[url.key.rpartition("/")[0]] += size
        finally:
            self.under_way -= 1

    def _partition(self, key: str) -> Partition | None:
        fitting = [prefix for prefix in self.limits if key.startswith(prefix)]
        return self.limits[max(fitting, key=len)] if fitting else None

    def goodput(self, start: int, stop: int) -> float:
        """Bytes a second, of whole seconds."""
        return sum(self.moved[second] for second in range(start, stop)) / (stop - start)

    def refused_share(self) -> float:
        """Of all requests."""
        return self.refusals / max(1, self.refusals + self.served)
