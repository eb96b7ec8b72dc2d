"""Slots: a number for small objects, one for big ones, and no more than the memory allows."""

from __future__ import annotations

import anyio
import pytest

from engine.config import TransferConfig
from engine.transfer.limiter import START_BIG, START_SMALL, Limiter
from engine.types import MiB


@pytest.mark.parametrize(
    ("settings", "small", "big"),
    [
        ({}, START_SMALL, START_BIG),
        ({"max_concurrency": 3}, 3, 3),
        ({"max_concurrency": 500}, 128, 128),
        ({"max_memory": 16 * MiB}, 8, 8),
    ],
)
async def test_no_more_requests_than_slots(settings: dict[str, int], small: int, big: int) -> None:
    limiter = Limiter(TransferConfig(**settings))  # type: ignore[arg-type]  # several types
    for kind, slots in ((False, small), (True, big)):
        most = under_way = 0

        async def request(kind: bool = kind) -> None:
            nonlocal most, under_way
            async with limiter.slot(big=kind):
                under_way += 1
                most = max(most, under_way)
                await anyio.sleep(0)
                under_way -= 1

        async with anyio.create_task_group() as tasks:
            for _ in range(2 * slots):
                tasks.start_soon(request)
        assert most == slots
    assert limiter.max_objects == small
