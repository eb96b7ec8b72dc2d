"""run_parts: a bounded pool of workers over a plan. The first error cancels the rest."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

import anyio

T = TypeVar("T")
R = TypeVar("R")


async def run_parts(
    items: Sequence[T], work: Callable[[T], Awaitable[R]], max_workers: int
) -> list[R]:
    """``work(item)`` for every item, at most ``max_workers`` at once; results in order of items.

    Raises:
        The first error of any item, alone and not in a group: the others were cancelled for it.
    """
    results: list[R | None] = [None] * len(items)
    queue = iter(enumerate(items))
    failed: list[BaseException] = []

    async def worker(queue: Iterator[tuple[int, T]], scope: anyio.CancelScope) -> None:
        for index, item in queue:
            try:
                results[index] = await work(item)
            except Exception as error:
                failed.append(error)
                scope.cancel()
                return

    async with anyio.create_task_group() as tasks:
        for _ in range(min(max_workers, len(items))):
            tasks.start_soon(worker, queue, tasks.cancel_scope)
    if failed:
        raise failed[0]
    assert None not in results
    return results  # type: ignore[return-value]  # every place was filled, as just asserted
