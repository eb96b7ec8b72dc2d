"""Which parts are given up, and which are not."""

from __future__ import annotations

import anyio
import pytest

from engine.errors import ConnectionFailed
from engine.testing.clock import run_virtual
from engine.transfer.slow_parts import ENOUGH, LEAST_SECONDS, SlowParts
from engine.types import MiB, S3Url

URL = S3Url("bucket", "key")


async def part(parts: SlowParts, seconds: float, size: int = 8 * MiB) -> float:
    """How long it took, or was waited for."""
    began = anyio.current_time()
    with parts.watching("get object", URL, size):
        await anyio.sleep(seconds)
    return anyio.current_time() - began


def test_one_that_is_slower_than_its_siblings_is_given_up() -> None:
    """Also one that began before anything was known."""

    async def main() -> None:
        parts = SlowParts()
        failed = []

        async def slow() -> None:
            with pytest.raises(ConnectionFailed, match=r"took over 12 s, and others 4\.0 s"):
                await part(parts, 1000)
            failed.append(anyio.current_time())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(slow)
            for _ in range(ENOUGH):
                tasks.start_soon(part, parts, 4.0)
        assert failed == [pytest.approx(12.0)]
        assert (parts.done, parts.given_up) == (ENOUGH, 1)

    run_virtual(main)


def test_quick_siblings_leave_ten_seconds_and_a_smaller_part_no_less() -> None:
    async def main() -> None:
        parts = SlowParts()
        for _ in range(ENOUGH):
            await part(parts, 0.1)
        assert await part(parts, LEAST_SECONDS - 0.1) < LEAST_SECONDS
        with pytest.raises(ConnectionFailed):
            await part(parts, 11, size=MiB)

    run_virtual(main)


def test_a_slow_network_is_nobodys_fault() -> None:
    async def main() -> None:
        parts = SlowParts()
        for _ in range(3 * ENOUGH):
            await part(parts, 60)
        assert await part(parts, 170) == pytest.approx(170)
        assert parts.given_up == 0

    run_virtual(main)


def test_few_are_given_up() -> None:
    """However many are slow."""

    async def main() -> None:
        parts = SlowParts()
        for number in range(200):
            try:
                await part(parts, 1000 if number % 4 == 3 and number > ENOUGH else 1)
            except ConnectionFailed:
                pass
        assert 1 <= parts.given_up <= 0.03 * 200 + 2

    run_virtual(main)
