"""One budget of memory for all that holds bytes, and shares for big and small requests."""

from __future__ import annotations

from random import Random

import anyio
import pytest

from engine.clock import LoopClock
from engine.config import TransferConfig
from engine.pace import MIN_BANDWIDTH, Pace
from engine.testing.clock import run_virtual
from engine.transfer.limiter import START_SMALL, WINDOW_SECONDS, Limiter
from engine.transfer.slots import LEAST_SHARE, Memory, Slots
from engine.types import KiB, MiB, S3Url

URL = S3Url("bucket", "folder/key")


@pytest.mark.parametrize("seed", range(20))
def test_all_queues_keep_to_one_budget_and_none_starves(seed: int) -> None:
    """Some who wait are cancelled; a few want nearly all."""

    async def main() -> None:
        random = Random(seed)
        memory = Memory(100)
        queues = [Slots(5, memory), Slots(1000, memory, 50), Slots(3, memory)]
        done = 0

        async def one(queue: Slots, weight: int, patience: float) -> None:
            nonlocal done
            with anyio.move_on_after(patience):
                held = await queue.acquire(weight)
                try:
                    assert 0 <= memory.held <= 100
                    await anyio.sleep(random.random())
                finally:
                    queue.release(held)
            done += 1

        with anyio.fail_after(1000):
            async with anyio.create_task_group() as tasks:
                for _ in range(200):
                    weight = random.choice([0, 1, 10, 40, 90, 200])
                    patience = random.random() if random.random() < 0.2 else 1e6
                    tasks.start_soon(one, random.choice(queues), weight, patience)
        assert done == 200 and memory.held == 0 and memory.most <= 100
        assert not any(queue.busy or queue.in_flight for queue in queues)

    run_virtual(main)


class Both:
    """Small objects and four huge ones on connections of 85 MB/s each, 20 ms away."""

    def __init__(self, max_concurrency: int | None = None) -> None:
        self.limiter = Limiter(TransferConfig(max_concurrency=max_concurrency), LoopClock())
        self.seconds: list[float] = []
        self.shares: list[float] = []
        self.most = 0

    async def request(self, *, big: bool, size: int) -> None:
        asked = anyio.current_time()
        async with self.limiter.slot(URL, big=big, size=size):
            found = self.limiter.statistics()
            self.most = max(self.most, found.small.in_flight + found.big.in_flight)
            if found.small.waiting and found.big.waiting:
                both = found.small.in_flight + found.big.in_flight
                self.shares.append(found.big.in_flight / both)
            await anyio.sleep(0.02 + size / 85e6)
        if not big:
            self.seconds.append(anyio.current_time() - asked)

    async def small(self, number: int) -> None:
        left = number

        async def runner() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await self.request(big=False, size=64 * KiB)

        async with anyio.create_task_group() as tasks:
            for _ in range(72):
                tasks.start_soon(runner)

    async def huge(self) -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(self._object, 40)

    async def _object(self, parts: int) -> None:
        async def part(waits: anyio.Semaphore) -> None:
            async with waits:
                await self.request(big=True, size=8 * MiB)

        at_once = anyio.Semaphore(10)
        async with anyio.create_task_group() as tasks:
            for _ in range(parts):
                tasks.start_soon(part, at_once)

    def p99(self) -> float:
        return sorted(self.seconds)[int(0.99 * len(self.seconds))]


@pytest.mark.parametrize("most", [None, 20])
def test_small_and_huge_objects_together(most: int | None) -> None:
    async def main() -> None:
        times = []
        alone, huge, together = (Both(most) for _ in range(3))
        for run in (alone.small(3_000), huge.huge(), _both(together, 3_000)):
            began = anyio.current_time()
            await run
            times.append(anyio.current_time() - began)
        assert times[2] <= 1.1 * (times[0] + times[1])
        assert together.p99() <= 3 * alone.p99()
        shares = sorted(together.shares)
        # A slot that comes free is given on a moment later.
        middle = shares[len(shares) // 20 : -len(shares) // 20]
        assert len(middle) > 50
        assert LEAST_SHARE - 0.03 <= middle[0] and middle[-1] <= 1 - LEAST_SHARE + 0.03
        assert most is None or together.most <= most

    run_virtual(main)


async def _both(scene: Both, number: int) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(scene.small, number)
        tasks.start_soon(scene.huge)


def test_one_request_at_once_is_one_of_any_kind() -> None:
    async def main() -> None:
        scene = Both(1)
        with anyio.fail_after(1000):
            await _both(scene, 100)
        assert scene.most == 1

    run_virtual(main)


def test_a_fixed_number_does_not_undo_what_a_limit_of_bandwidth_leaves() -> None:
    """No more are under way than both kinds have slots: a part is given time for its share beside
    so many."""

    async def main() -> None:
        pace = Pace(MIN_BANDWIDTH)
        for number in (None, 64):
            limiter = Limiter(TransferConfig(max_concurrency=number), LoopClock(), pace=pace)

            async def ask(big: bool, limiter: Limiter = limiter) -> None:
                async with limiter.slot(URL, big=big, size=0):
                    await anyio.sleep(1)

            async with anyio.create_task_group() as tasks:
                for index in range(400):
                    tasks.start_soon(ask, bool(index % 2))
                await anyio.sleep(5.5)  # it is known by then that the loop is not the limit
                both = limiter.statistics()[:2]
                under_way = sum(slots.in_flight for slots in both)
                assert 2 <= under_way <= sum(slots.capacity for slots in both)
                tasks.cancel_scope.cancel()

    run_virtual(main)


def test_slots_that_the_other_kind_holds_back_are_not_climbed_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Until it is known that the loop is not the limit, few small requests go beside big ones,
    whatever their number says; to raise it would bring a burst as soon as it is known."""

    class HalfBusy:
        def __init__(self, **_: object) -> None: ...

        def share(self, _: float) -> float:
            return 0.5

    async def main() -> None:
        scene = Both()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(scene.huge)
            tasks.start_soon(scene.small, 10_000)
            await anyio.sleep(0.9 * WINDOW_SECONDS)
            before = scene.limiter.statistics().small
            await anyio.sleep(0.3 * WINDOW_SECONDS)
            after = scene.limiter.statistics().small
            assert before.in_flight < START_SMALL / 2 < after.in_flight  # there was a window
            assert before.waiting and after.capacity == START_SMALL
            tasks.cancel_scope.cancel()

    monkeypatch.setattr("engine.transfer.limiter.Load", HalfBusy)
    run_virtual(main)


def test_where_the_loop_is_the_limit_both_kinds_have_no_more_than_alone() -> None:
    async def main() -> None:
        small, big = Slots(60, MiB), Slots(20, MiB)
        small.share_with(big, None)

        async def wanted(slots: Slots) -> None:
            async with anyio.create_task_group() as tasks:
                for _ in range(100):
                    tasks.start_soon(slots.acquire, 0)
                await anyio.sleep(0.1)
                slots.serve()  # as when one is given back
                found.append(slots.in_flight)
                tasks.cancel_scope.cancel()

        for pressed, expected in ((True, [20, 28]), (False, [34, 46])):
            found: list[int] = []
            small.press(pressed)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wanted, big)
                tasks.start_soon(wanted, small)
            assert sorted(found) == expected
            for slots in (small, big):
                while slots.in_flight:
                    slots.release(0)

    run_virtual(main)
