"""The limit of bandwidth, on virtual time: how much, and whose turn."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from engine.pace import BURST, MAX_SLICE, MIN_SLICE, Pace
from engine.testing.clock import run_virtual
from engine.types import KiB, MiB

LIMIT = 4 * MiB


def now() -> float:
    return asyncio.get_running_loop().time()


async def moved_by(pace: Pace, size: int, log: list[tuple[float, int]]) -> None:
    while size:
        piece = min(size, pace.slice)
        await pace.take(piece)
        log.append((now(), piece))
        size -= piece


def most_within(log: list[tuple[float, int]], seconds: float) -> int:
    return max(sum(n for at, n in log if since <= at < since + seconds) for since, _ in log)


@pytest.mark.parametrize("limit", [64 * KiB, 1 * MiB, 100_000_000])
def test_no_second_has_more_than_the_limit_and_a_burst(limit: int) -> None:
    log: list[tuple[float, int]] = []

    async def main() -> float:
        pace = Pace(limit)
        await anyio.sleep(5)  # credit does not grow meanwhile
        began = now()
        async with anyio.create_task_group() as tasks:
            for _ in range(7):
                tasks.start_soon(moved_by, pace, limit // 2, log)
        return now() - began

    seconds = run_virtual(main)
    slice_ = min(max(limit // 200, MIN_SLICE), MAX_SLICE)
    assert 3.5 - BURST - slice_ / limit - 0.01 <= seconds <= 3.6
    assert most_within(log, 1.0) <= limit * (1 + BURST + 0.002) + 2 * slice_


def test_turns_are_taken_in_turn() -> None:
    """One with much to move, and one with little."""
    ends: dict[str, float] = {}

    async def main() -> None:
        pace = Pace(LIMIT)

        async def one(name: str, size: int) -> None:
            await moved_by(pace, size, [])
            ends[name] = now()

        async with anyio.create_task_group() as tasks:
            for number in range(3):
                tasks.start_soon(one, f"big {number}", 4 * MiB)
            await anyio.sleep(1)
            tasks.start_soon(one, "small", 512 * KiB)

    run_virtual(main)
    assert 1.4 <= ends["small"] <= 1.6, "a quarter of 4 MiB/s is its share"
    assert max(ends.values()) - min(ends[f"big {n}"] for n in range(3)) < 0.3


def test_who_is_cancelled_spends_nothing() -> None:
    async def main() -> None:
        pace = Pace(LIMIT)
        await pace.take(LIMIT)
        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(pace.take, LIMIT)
            await anyio.sleep(0.1)
            tasks.cancel_scope.cancel()
        began = now()
        await pace.take(1)
        assert now() - began < 1
        assert 0.5 < pace.waited < 1.1
        assert repr(pace) == f"<Pace {LIMIT} B/s waiting=0>"

    run_virtual(main)


def test_a_turn_that_fails_does_not_stop_the_others() -> None:
    errors: list[object] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        pace = Pace(LIMIT)
        pace.spend(MiB)

        def fails() -> None:
            raise ValueError("of the one whose turn it is")

        pace.wait(fails)
        with anyio.fail_after(1):
            await pace.take(1)

    run_virtual(main)
    assert len(errors) == 1


def test_it_can_be_used_in_one_loop_after_the_other() -> None:
    pace = Pace(LIMIT)

    async def main() -> None:
        pace.settle()
        await pace.take(LIMIT)
        with anyio.move_on_after(0.1):
            await pace.take(LIMIT)

    run_virtual(main)
    run_virtual(main)
