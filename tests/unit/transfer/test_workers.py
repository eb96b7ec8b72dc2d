"""A pool of workers that may grow."""

from __future__ import annotations

import anyio

from engine.testing.clock import run_virtual
from engine.transfer.workers import run_parts


def test_workers_are_added_while_there_is_something_to_do() -> None:
    async def main() -> None:
        allowed, at_work, most = 2, 0, [0]

        async def work(item: int) -> int:
            nonlocal allowed, at_work
            at_work += 1
            most.append(max(most[-1], at_work))
            await anyio.sleep(1)
            at_work -= 1
            allowed = 5
            return item

        results = await run_parts(range(20), work, 2, lambda workers: workers < allowed)
        assert results == list(range(20))
        assert most[2] == 2 and most[-1] == 5

    run_virtual(main)
