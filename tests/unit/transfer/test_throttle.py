"""What S3 has refused, each prefix by itself: who waits, for how long, and what the others do."""

from __future__ import annotations

import anyio
import pytest

from engine.clock import LoopClock
from engine.config import TransferConfig
from engine.errors import S3Error
from engine.testing.clock import run_virtual
from engine.transfer.limiter import Limiter
from engine.transfer.throttle import (
    FLOOR,
    FORGET,
    MAX_THROTTLES,
    PATIENCE,
    PLATEAU,
    Recovery,
    Throttles,
)
from engine.types import S3Url


def slow_down(retry_after: float | None = None) -> S3Error:
    return S3Error("slow down", s3_code="SlowDown", status=503, retry_after=retry_after)


def at(key: str) -> S3Url:
    return S3Url("bucket", key)


def test_the_number_comes_back_in_two_seconds_and_goes_past_it() -> None:
    recovery = Recovery(100, 5.0)
    numbers = [recovery.at(5.0 + seconds) for seconds in (0, 1, PLATEAU, 4, 8)]
    assert numbers == sorted(numbers)
    assert numbers[0] == 86 and numbers[2] == 100 and numbers[4] > 1000
    for second in range(40):
        recovery.shed(6.0 + second / 100, worked=False)
    assert recovery.at(6.4) < 2 * FLOOR
    assert recovery.at(6.4 + PLATEAU) > 80, "it was out, and has what it had"


@pytest.mark.parametrize("slotless", [False, True])
def test_retry_after_holds_for_the_whole_prefix_and_no_other(slotless: bool) -> None:
    """Also for those that waited for a slot by then."""

    async def main() -> None:
        limiter = Limiter(TransferConfig(max_concurrency=3), LoopClock())
        times: dict[str, list[float]] = {"a/": [], "b/": []}

        async def request(folder: str, number: int) -> None:
            url = at(f"{folder}{number}")
            place = limiter.turn(url) if slotless else limiter.slot(url, big=False, size=10)
            async with place:
                times[folder].append(anyio.current_time())
                await anyio.sleep(0.1 if number else 0.05)
                if folder == "a/" and not number:
                    raise slow_down(4.0)

        async def caught(folder: str, number: int) -> None:
            try:
                await request(folder, number)
            except S3Error:
                assert number == 0

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(caught, "a/", 0)
            await anyio.sleep(0.06)
            for number in range(1, 6):
                for folder in times:
                    tasks.start_soon(caught, folder, number)
        assert times["a/"][0] == 0 and len(times["a/"]) == 6
        assert min(times["a/"][1:]) >= 4.05
        assert max(times["b/"]) < 1.0
        slots = limiter.statistics()
        assert slots.small.in_flight == slots.small.waiting == 0

    run_virtual(main)


def test_what_refuses_for_ever_is_given_up_and_named() -> None:
    """By those too who wait for their turn; within a minute."""

    async def main() -> None:
        limiter = Limiter(TransferConfig(), LoopClock())
        ended = []

        async def request(number: int) -> None:
            while True:
                try:
                    async with limiter.slot(at(f"a/{number}"), big=False, size=10):
                        await anyio.sleep(0.05)
                        raise slow_down(2.0)
                except S3Error as error:
                    if error.most_attempts == 1:
                        ended.append(error)
                        return

        async with anyio.create_task_group() as tasks:
            for number in range(100):
                tasks.start_soon(request, number)
        assert PATIENCE <= anyio.current_time() < 60
        assert {error.s3_code for error in ended} == {"SlowDown"}
        assert len({id(error) for error in ended}) == 100

    run_virtual(main)


def test_throttles_are_few_and_forgotten() -> None:
    async def main() -> None:
        throttles = Throttles(LoopClock())
        for number in range(1000):
            throttles.refused(at(f"year/day{number}/key"), slow_down(), 0.0, 10)
        assert len(throttles) == MAX_THROTTLES + 1, "the parent stands for all the others"
        assert throttles.of(at("year/day999/x")) is throttles.of(at("year/other/x")) is not None
        assert throttles.of(at("month/x")) is None
        assert throttles.of(S3Url("other", "year/day1/x")) is None
        await anyio.sleep(FORGET + 1)
        throttles.refused(at("key"), slow_down(), 0.0, 10)
        assert len(throttles) == 1 and throttles.of(at("a/b/c")) is not None

    run_virtual(main)


def test_a_waiter_that_is_cancelled_takes_no_place_along() -> None:
    async def main() -> None:
        limiter = Limiter(TransferConfig(), LoopClock())
        limiter.throttles.refused(at("a/b"), slow_down(0.5), 0.0, 2)
        for patience in (0.1, 0.2, 1.0):
            with anyio.move_on_after(patience):
                async with limiter.slot(at("a/c"), big=False, size=1):
                    pass
        throttle = limiter.throttles.of(at("a/c"))
        assert throttle is not None
        assert (throttle.in_flight, throttle.waiting) == (0, 0)
        assert anyio.current_time() == pytest.approx(0.5, abs=0.2)

    run_virtual(main)
