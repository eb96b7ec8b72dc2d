"""A pool of workers that may grow."""

from __future__ import annotations

import anyio

from engine.testing.clock import run_virtual
from engine.transfer.workers import PREPARED, run_parts, run_prepared


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


def test_the_next_items_are_prepared_while_as_many_as_may_be_are_at_work() -> None:
    async def main() -> None:
        allowed, prepared, at_work = 6, 0, 0
        done: list[int] = []
        most, ahead = [0], [0]

        async def prepare(item: int) -> str:
            nonlocal prepared
            prepared += 1
            return str(item)

        async def work(item: int, ready: str) -> str:
            nonlocal at_work, allowed
            at_work += 1
            most.append(max(most[-1], at_work))
            await anyio.sleep(1 + item / 100)  # one ends after the other
            ahead.append(prepared - len(done) - at_work)
            at_work -= 1
            done.append(item)
            allowed = 8
            return f"{item} {ready}"

        results = await run_prepared(range(60), prepare, work, 6, lambda workers: workers < allowed)
        assert results == [f"{item} {item}" for item in range(60)]
        assert most[6] == 6 and most[-1] == 8
        assert max(ahead) == PREPARED

    run_virtual(main)


def test_one_worker_alone_keeps_to_the_order() -> None:
    async def main() -> None:
        order: list[int] = []

        async def prepare(item: int) -> int:
            await anyio.sleep(10 - item)
            return item

        async def work(item: int, ready: int) -> int:
            order.append(item)
            return item

        await run_prepared(range(10), prepare, work, 1, lambda workers: False)
        assert order == list(range(10))

    run_virtual(main)
