"""Bounded pools of workers over a plan. The first error cancels the rest."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import anyio

# Items that are made ready while others are at work, so that one is there when a turn comes free;
# more than one, as turns that began together come free together.
PREPARED = 2

T = TypeVar("T")
P = TypeVar("P")
R = TypeVar("R")


async def run_parts(
    items: Sequence[T],
    work: Callable[[T], Awaitable[R]],
    max_workers: int,
    one_more: Callable[[int], bool] | None = None,
) -> list[R]:
    """``work(item)`` for every item, at most ``max_workers`` at once; results in order of items.

    Args:
        one_more: Whether one more than so many may be at work by now, where that may grow.

    Raises:
        The first error of any item, alone and not in a group: the others were cancelled for it.
    """
    results: list[R | None] = [None] * len(items)
    queue = iter(enumerate(items))
    failed: list[BaseException] = []
    started = taken = 0

    def start() -> None:
        nonlocal started
        started += 1
        tasks.start_soon(worker, tasks.cancel_scope)

    async def worker(scope: anyio.CancelScope) -> None:
        nonlocal taken
        for index, item in queue:
            taken += 1
            while one_more and len(items) > max(taken, started) and one_more(started):
                start()
            try:
                results[index] = await work(item)
            except Exception as error:
                failed.append(error)
                scope.cancel()
                return

    async with anyio.create_task_group() as tasks:
        for _ in range(min(max_workers, len(items))):
            start()
    if failed:
        raise failed[0]
    assert None not in results
    return results  # type: ignore[return-value]  # every place was filled, as just asserted


async def run_prepared(
    items: Sequence[T],
    prepare: Callable[[T], Awaitable[P]],
    work: Callable[[T, P], Awaitable[R]],
    max_workers: int,
    one_more: Callable[[int], bool],
) -> list[R]:
    """``run_parts`` of ``work(item, what prepare(item) said)``; the next items are prepared while
    all that may be at work are. One worker alone keeps to the order."""
    turns = anyio.CapacityLimiter(max_workers)
    ahead = min(PREPARED, max_workers - 1)

    async def one(item: T) -> R:
        prepared = await prepare(item)
        async with turns:
            return await work(item, prepared)

    def one_more_worker(workers: int) -> bool:
        at_work = workers - ahead
        if not one_more(at_work):
            return False
        turns.total_tokens = max(turns.total_tokens, at_work + 1)
        return True

    return await run_parts(items, one, max_workers + ahead, one_more_worker)
