"""Continuous transfers under short leases and a sick STS: what the soak and its short form run.

What must not live here: how long it runs, or what is good enough.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import anyio

from engine import Engine, EngineError
from engine.credentials import BrokerStatistics
from tests.integration.conftest import Scene

# Bytes of an object: small, so that the requests are many.
SIZES = (0, 1, 100, 4_096, 65_537)


@dataclass
class Soak:
    """What a run did.

    Attributes:
        waits: Seconds that each request waited for credentials, where it waited at all.
    """

    up: int = 0
    down: int = 0
    wrong: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    counts: BrokerStatistics = field(default_factory=BrokerStatistics)
    waits: list[float] = field(default_factory=list)


async def soak(scene: Scene, folder: Path, *, seconds: float, workers: int) -> Soak:
    """``workers`` tasks move objects up and down for ``seconds``; every byte is compared."""
    done = Soak()
    async with scene.engine() as s3:
        numbers = itertools.count()
        end = anyio.current_time() + seconds
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_watch_waits, s3, done, end)
            for number in range(workers):
                tasks.start_soon(_worker, s3, scene, folder / str(number), numbers, end, done)
        counts = s3.statistics().role
        assert counts is not None
        done.counts = counts
    return done


async def _worker(
    s3: Engine, scene: Scene, path: Path, numbers: Iterator[int], end: float, done: Soak
) -> None:
    while anyio.current_time() < end:
        number = next(numbers)
        data = Random(number).randbytes(SIZES[number % len(SIZES)])
        url = scene.url(f"soak/{number}")
        try:
            await s3.upload(data, url)
            done.up += 1
            await s3.download(url, path)
            done.down += 1
        except EngineError as error:
            done.failed.append(f"{number}: {error}")
            continue
        if path.read_bytes() != data:
            done.wrong.append(url)


async def _watch_waits(s3: Engine, done: Soak, end: float) -> None:
    """Asks for credentials ten times a second, as a request would, and notes how long it took."""
    while anyio.current_time() < end:
        before = anyio.current_time()
        await s3.lease.ready()
        waited = anyio.current_time() - before
        if waited > 0.001:
            done.waits.append(waited)
        await anyio.sleep(0.1)
