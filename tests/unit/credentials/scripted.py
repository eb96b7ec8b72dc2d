"""Providers that behave as told, on the virtual clock, and crowds of workers that use them.

What lives here: what several files of broker tests share. What must not: an assertion on a count.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from random import Random
from typing import final

import anyio

from engine.clock import LoopClock
from engine.credentials import Broker
from engine.protocols import CredentialProvider
from engine.types import Credentials

HOUR = 3600.0
ZERO = datetime(2026, 1, 1, tzinfo=UTC)


@final
class ScriptedSts(CredentialProvider):
    """Issues sets of ``lifetime`` seconds after ``latency``; ``fails`` decides which calls fail."""

    def __init__(
        self,
        lifetime: float = 900,
        latency: float = 0.0,
        fails: Callable[[int], Exception | None] = lambda call: None,
        clock_error: float = 0.0,
    ) -> None:
        self.lifetime, self.latency, self.fails = lifetime, latency, fails
        self.clock_error = clock_error
        self.issued = 0
        self.called_at: list[float] = []
        self.ends: dict[str, float] = {}

    @property
    def calls(self) -> int:
        return len(self.called_at)

    async def fetch(self) -> Credentials:
        self.called_at.append(anyio.current_time())
        await anyio.sleep(self.latency)
        error = self.fails(self.calls)
        if error is not None:
            raise error
        self.issued += 1
        key = f"ASIA{self.issued:012}"
        self.ends[key] = anyio.current_time() + self.lifetime
        now = ZERO + timedelta(seconds=anyio.current_time() + self.clock_error)
        return Credentials(
            key, "secret", "token", now + timedelta(seconds=self.lifetime), issued_at=now
        )

    def describe(self) -> str:
        return "role test"

    def check(self, credentials: Credentials) -> None:
        assert anyio.current_time() < self.ends[credentials.access_key_id], "expired set used"


@final
class RepeatingSource(CredentialProvider):
    """Gives the same set until ``margin`` seconds before its end, as EC2 does."""

    def __init__(self, lifetime: float = 6 * HOUR, margin: float = 300.0) -> None:
        self.lifetime, self.margin = lifetime, margin
        self.calls = 0
        self.end = 0.0

    async def fetch(self) -> Credentials:
        self.calls += 1
        now = anyio.current_time()
        if now > self.end - self.margin:
            self.end = now + self.lifetime
        return Credentials(
            f"ASIA{self.end}",
            "s",
            "t",
            ZERO + timedelta(seconds=self.end),
            issued_at=ZERO + timedelta(seconds=now),
        )

    def describe(self) -> str:
        return "imds"


def a_broker(provider: CredentialProvider, seed: int = 7) -> Broker:
    return Broker(provider, clock=LoopClock(), random=Random(seed))


async def sign_for(
    broker: Broker, sts: ScriptedSts, workers: int, hours: float, every: float
) -> None:
    """``workers`` tasks, each of which takes credentials ``every`` seconds and checks them."""

    async def worker(first: float) -> None:
        await anyio.sleep(first)
        while anyio.current_time() < hours * HOUR:
            sts.check(await broker.lease.ready())
            await anyio.sleep(every)

    async with anyio.create_task_group() as tasks:
        for number in range(workers):
            tasks.start_soon(worker, every * number / workers)


async def sign_without_waiting(
    broker: Broker, sts: ScriptedSts, workers: int, hours: float, every: int
) -> int:
    """The same for a crowd, once all have a first set; returns the signatures made.

    A second's workers take their credentials in one go. None may wait for anything: whoever
    would give control back to the loop, for however short, raises AssertionError.
    """
    async with anyio.create_task_group() as tasks:
        for _ in range(workers):
            tasks.start_soon(broker.lease.ready)
    signed = 0
    ready, ends = broker.lease.ready, sts.ends
    start = anyio.current_time()
    for second in range(int(hours * HOUR)):
        await anyio.sleep(start + second - anyio.current_time())
        now = anyio.current_time()
        first = workers * (second % every) // every
        for _ in range(first, workers * (second % every + 1) // every):
            assert now < ends[_at_once(ready()).access_key_id], "expired set used"
            signed += 1
    return signed


def _at_once(waiting: Coroutine[object, object, Credentials]) -> Credentials:
    try:
        waiting.send(None)
    except StopIteration as done:
        credentials = done.value
        assert isinstance(credentials, Credentials)
        return credentials
    raise AssertionError(f"a worker waited at {anyio.current_time():.0f} s")
