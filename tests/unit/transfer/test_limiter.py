"""Slots, the climb of their number, and both against a simulated server."""

from __future__ import annotations

import itertools
from random import Random
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.clock import LoopClock
from engine.config import TransferConfig
from engine.errors import S3Error
from engine.testing.clock import run_virtual
from engine.thread_time import used_by_thread
from engine.transfer.climber import AIM_BIG, REST, Climber
from engine.transfer.limiter import MAX_IN_FLIGHT, START_BIG, START_SMALL, Limiter
from engine.transfer.load import Load
from engine.transfer.slots import Slots
from engine.types import KiB, MiB, S3Url

URL = S3Url("bucket", "folder/key")


@pytest.mark.parametrize(
    ("settings", "size", "small", "big"),
    [
        ({}, 0, START_SMALL, START_BIG),
        ({"max_concurrency": 3}, 8 * MiB, 3, 3),
        ({"max_concurrency": 500}, 8 * MiB, 256, 128),
        ({"max_memory": 16 * MiB}, 8 * MiB, 16, 8),
        ({"max_memory": 16 * MiB}, 512 * KiB, 32, 8),
        # A whole piece, however little of it is used.
        ({"max_memory": 16 * MiB}, 65 * KiB, 32, 8),
        ({"max_memory": 16 * MiB}, 64 * KiB, START_SMALL, 8),
    ],
)
async def test_no_more_requests_than_slots_and_memory(
    settings: dict[str, Any], size: int, small: int, big: int
) -> None:
    limiter = Limiter(TransferConfig(**settings), LoopClock())
    for kind, slots in ((False, small), (True, big)):
        most = under_way = 0

        async def request(kind: bool = kind) -> None:
            nonlocal most, under_way
            async with limiter.slot(URL, big=kind, size=size):
                under_way += 1
                most = max(most, under_way)
                await anyio.sleep(0)
                under_way -= 1

        async with anyio.create_task_group() as tasks:
            for _ in range(2 * slots):
                tasks.start_soon(request)
        assert most == slots
        assert limiter.statistics()[kind].in_flight == limiter.statistics()[kind].memory == 0


async def test_first_come_first_served_whatever_is_asked_for() -> None:
    """A big one at the head is not overtaken by small ones for ever."""
    slots = Slots(2, 10)
    order: list[str] = []

    async def one(name: str, weight: int) -> None:
        held = await slots.acquire(weight)
        order.append(name)
        await anyio.sleep(0.001)
        slots.release(held)

    async with anyio.create_task_group() as tasks:
        for name, weight in (("a", 6), ("b", 6), ("c", 1), ("d", 100)):
            tasks.start_soon(one, name, weight)
            await anyio.sleep(0)
    assert order == ["a", "b", "c", "d"]


@given(st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=40), st.randoms())
def test_slots_are_neither_lost_nor_made(calls: list[tuple[int, bool]], random: Random) -> None:
    """Some who wait are cancelled, at any moment."""

    async def main() -> None:
        slots = Slots(3, 10)

        async def one(weight: int, cancelled: bool) -> None:
            with anyio.move_on_after(random.random() if cancelled else 1e6):
                held = await slots.acquire(weight)
                try:
                    assert slots.statistics().in_flight <= 3 and slots.statistics().memory <= 10
                    await anyio.sleep(random.random())
                finally:
                    slots.release(held)

        async with anyio.create_task_group() as tasks:
            for weight, cancelled in calls:
                tasks.start_soon(one, weight, cancelled)
        assert slots.statistics().in_flight == slots.statistics().memory == 0
        assert not slots.busy

    run_virtual(main)


def test_a_doubling_that_brings_nothing_is_taken_back() -> None:
    climber = Climber(16, 512)
    assert climber.window(100, 1, saturated=True) == 32
    assert climber.window(190, 1, saturated=True) == 64
    assert climber.window(200, 1, saturated=True) == 32
    for _ in range(REST):
        assert climber.window(200, 1, saturated=True) == 32
    assert climber.window(200, 1, saturated=True) == 64, "networks change: it is tried again"


def test_a_step_to_the_most_that_there_may_be_is_taken_back_too() -> None:
    climber = Climber(256, 512)
    assert climber.window(100, 1, saturated=True) == 512
    assert climber.window(105, 1, saturated=True) == 256


def test_nothing_is_learned_from_a_window_that_was_not_full() -> None:
    climber = Climber(16, 512)
    for _ in range(50):
        assert climber.window(1, 1, saturated=False) == 16


def test_fewer_are_tried_where_less_is_moved_and_kept_where_that_is_better() -> None:
    climber = Climber(100, 512)
    for _ in range(3):
        climber.window(100, 1, saturated=True)
    number, steps = climber.number, []
    for _ in range(14):
        # Each request beyond fifty slows down all.
        rate = 40 * min(1, 50 / climber.number)
        steps.append(climber.window(rate, 1, saturated=True))
    assert steps[-1] < 70 < number
    assert all(later <= earlier for earlier, later in itertools.pairwise(steps))


def test_fewer_that_move_less_are_taken_back() -> None:
    climber = Climber(100, 512)
    for _ in range(3):
        climber.window(100, 1, saturated=True)
    number = climber.number
    for _ in range(6):  # the way has become longer
        climber.window(climber.number / 4, 1, saturated=True)
    assert climber.number == number


class Server:
    """So many requests a second and no more, each after a round trip; beyond them SlowDown."""

    def __init__(self, round_trip: float, rate: float, limit: int = 10_000) -> None:
        self.round_trip, self.rate, self.limit = round_trip, rate, limit
        self.free_at = 0.0
        self.under_way = self.most = self.refused = 0

    async def request(self) -> None:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            if self.under_way > self.limit:
                await anyio.sleep(self.round_trip)
                self.refused += 1
                raise S3Error("slow down", s3_code="SlowDown", status=503)
            now = anyio.current_time()
            self.free_at = max(self.free_at, now) + 1 / self.rate
            await anyio.sleep(self.free_at - now + self.round_trip)
        finally:
            self.under_way -= 1


async def drive(server: Server, requests: int) -> float:
    """So many requests through a limiter; returns the seconds that it took."""
    limiter = Limiter(TransferConfig(max_memory=1024 * MiB), LoopClock())
    left = requests

    async def runner() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            while True:
                try:
                    async with limiter.slot(URL, big=False, size=64 * KiB):
                        await server.request()
                    break
                except S3Error:
                    await anyio.sleep(0.1)

    began = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        runners = 0
        while left > 0:
            while runners < limiter.max_objects:
                runners += 1
                tasks.start_soon(runner)
            await anyio.sleep(0.05)
    return anyio.current_time() - began


@pytest.mark.parametrize(
    ("round_trip", "rate"), [(0.1, 10_000), (0.03, 10_000), (0.1, 1_500), (0.3, 1_000)]
)
def test_a_far_server_is_used_to_what_it_can(round_trip: float, rate: float) -> None:
    """Nine tenths of what the round trip and the server allow, the climb included."""

    async def main() -> None:
        server = Server(round_trip, rate)
        possible = min(rate, MAX_IN_FLIGHT / round_trip)
        requests = int(possible * 20)
        seconds = await drive(server, requests)
        assert requests / seconds > 0.9 * possible

    run_virtual(main)


def test_a_near_server_is_not_flooded() -> None:
    """Where the server is the limit, more requests would only wait there."""

    async def main() -> None:
        server = Server(0.001, 2_000)
        assert await drive(server, 20_000) < 11
        assert server.most <= 2 * START_SMALL

    run_virtual(main)


def test_a_server_that_asks_for_less_gets_less() -> None:
    async def main() -> None:
        server = Server(0.05, 10_000, limit=100)
        await drive(server, 20_000)
        assert server.refused < 0.05 * 20_000

    run_virtual(main)


def test_a_far_server_is_begun_with_as_many_more() -> None:
    for away, number in ((0.0005, 16), (0.05, 32), (0.1, 48), (5.0, 512)):
        climber = Climber(16, 512)
        assert climber.begin(away) == number
    assert Climber(3, 3).begin(0.1) == 3, "the user has fixed it"


def test_a_step_leaves_the_loop_a_quarter_of_its_time() -> None:
    for load, number in ((0.01, 40), (0.25, 40), (0.5, 24), (0.65, 18), (0.7, 16), (None, 32)):
        climber = Climber(16, 512)
        assert climber.window(100, 1, saturated=True, load=load) == number
        if number == 40:
            assert climber.window(115, 1, saturated=True, load=load) == 16, "too little"


def test_a_step_of_big_ones_leaves_a_little_more_and_is_never_one_down() -> None:
    for load, number in ((0.01, 40), (0.5, 19), (0.55, 18), (0.65, 16), (None, 32)):
        climber = Climber(16, 512, aim=AIM_BIG)
        assert climber.window(100, 1, saturated=True, load=load) == number


def test_more_that_make_the_loop_busy_and_bring_nothing_are_taken_back() -> None:
    """In the second window: the first may be one of handshakes."""
    for rate, number in ((105, 16), (150, 40)):
        climber = Climber(16, 512)
        assert climber.window(100, 1, saturated=True, load=0.1) == 40
        assert climber.window(60, 1, saturated=True, load=0.9) == 40
        assert climber.window(rate, 1, saturated=True, load=0.9) == number
        assert climber.window(rate, 1, saturated=True, load=0.9) == number
    climber = Climber(16, 512)
    assert climber.window(100, 1, saturated=True, load=0.9) == 16, "nothing was tried"


async def test_parts_of_one_object_grow_with_the_way_and_within_bytes() -> None:
    def most(part_size: int, away: float, **settings: Any) -> int:
        limiter = Limiter(TransferConfig(**settings), LoopClock(), lambda: away)
        parts = 0
        while limiter.one_more_part(parts, part_size):
            parts += 1
        return parts

    assert [most(8 * MiB, away) for away in (0.0, 0.001, 0.03, 0.1, 1.0)] == [10, 10, 15, 26, 64]
    assert most(64 * MiB, 1.0) == 8, "fewer than are begun with: those stay"
    assert most(8 * MiB, 1.0, max_parts_in_flight=3) == 3
    assert most(8 * MiB, 1.0, max_concurrency=2) <= 2


def test_a_loop_without_rest_is_busy_and_a_virtual_clock_says_nothing() -> None:
    """Of readings: seconds used, seconds of a real clock."""
    used = iter([0.0, 0.48, 0.70, 1.20, 1.69])
    real = iter([0.0, 0.50, 1.00, 1.50, 2.00])
    load = Load(lambda: next(used), lambda: next(real))
    assert load.share(0.5) == pytest.approx(0.96)
    assert load.share(0.5) == pytest.approx(0.44)
    assert load.share(0.5) == pytest.approx(1.0)
    assert load.share(20.0) is None


def test_a_busy_helper_is_a_busy_loop() -> None:
    used, real = iter([0.0, 0.1, 0.5]), iter([0.0, 1.0, 2.0])
    helpers = iter([(0.0, 0.0), (0.2, 0.9), (0.4, 0.9)])
    load = Load(lambda: next(used), lambda: next(real), lambda: next(helpers))
    assert load.share(1.0) == pytest.approx(0.9)
    assert load.share(1.0) == pytest.approx(0.4)


def test_what_this_thread_has_used_grows() -> None:
    before = used_by_thread()
    sum(range(1_000_000))
    assert used_by_thread() > before
