"""The broker on the virtual clock: hours of leases, in a second."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from typing import final

import anyio
import pytest

from engine.errors import (
    AssumeRoleDenied,
    CredentialsError,
    CredentialsExpired,
    SourceUnavailable,
    WrongLoop,
)
from engine.protocols import CredentialProvider
from engine.testing.clock import run_virtual
from engine.types import Credentials
from tests.unit.credentials.scripted import (
    HOUR,
    RepeatingSource,
    ScriptedSts,
    a_broker,
    sign_for,
)


def test_the_first_set_is_fetched_when_it_is_wanted_and_once() -> None:
    async def main() -> None:
        sts = ScriptedSts(latency=1)
        async with a_broker(sts) as broker:
            await anyio.sleep(100)
            assert sts.calls == 0
            async with anyio.create_task_group() as tasks:
                for _ in range(50):
                    tasks.start_soon(broker.lease.ready)
            assert sts.calls == 1
            assert broker.statistics().waits == 50

    run_virtual(main)


def test_many_reports_of_one_generation_make_one_call() -> None:
    async def main() -> None:
        sts = ScriptedSts(latency=1)
        async with a_broker(sts) as broker:
            old = await broker.lease.ready()
            await anyio.sleep(10)

            async def worker() -> None:
                broker.lease.report_expired(old)
                assert (await broker.lease.ready()).generation == 2

            async with anyio.create_task_group() as tasks:
                for _ in range(64):
                    tasks.start_soon(worker)
            broker.lease.report_expired(old)
            await anyio.sleep(10)
            assert sts.calls == 2

    run_virtual(main)


def test_an_outage_is_not_seen_while_the_lease_lives() -> None:
    async def main() -> None:
        sts = ScriptedSts(lifetime=3600)
        async with a_broker(sts) as broker:
            await broker.lease.ready()
            sts.fails = lambda call: (
                SourceUnavailable("down") if anyio.current_time() < 3500 else None
            )
            await sign_for(broker, sts, workers=10, hours=2, every=7)
            print(broker.statistics())
            assert sts.calls < 150, "a storm"

    run_virtual(main)


def test_after_the_last_safe_second_the_reason_is_raised() -> None:
    async def main() -> None:
        sts = ScriptedSts(lifetime=60)
        async with a_broker(sts) as broker:
            await broker.lease.ready()
            sts.fails = lambda call: AssumeRoleDenied("no more")
            await anyio.sleep(58)
            sts.check(await broker.lease.ready())
            await anyio.sleep(5)
            with pytest.raises(CredentialsExpired, match="could not be renewed: no more"):
                await broker.lease.ready()
            calls = sts.calls
            for _ in range(100):
                with pytest.raises(CredentialsExpired):
                    await broker.lease.ready()
            assert sts.calls == calls
            sts.fails = lambda call: None
            await anyio.sleep(40)

    run_virtual(main)


def test_a_cancelled_waiter_does_not_cancel_the_renewal() -> None:
    async def main() -> None:
        sts = ScriptedSts(latency=5)
        async with a_broker(sts) as broker:
            with anyio.move_on_after(1):
                await broker.lease.ready()
            assert (await broker.lease.ready()).generation == 1
            assert sts.calls == 1

    run_virtual(main)


@pytest.mark.parametrize("clock_error", [-3600.0, 3600.0])
def test_a_wrong_wall_clock_changes_nothing(clock_error: float) -> None:
    async def main() -> None:
        sts = ScriptedSts(clock_error=clock_error)
        async with a_broker(sts) as broker:
            await sign_for(broker, sts, workers=3, hours=1, every=30)
            assert 5 <= sts.calls <= 6

    run_virtual(main)


def test_a_source_that_repeats_its_set_is_not_hammered() -> None:
    async def main() -> None:
        imds = RepeatingSource()
        async with a_broker(imds) as broker:
            await broker.lease.ready()
            await anyio.sleep(24 * HOUR)
            assert broker.statistics().issued == 5
            assert imds.calls < 100

    run_virtual(main)


def test_at_least_renews_first_and_says_its_numbers_when_even_that_is_too_short() -> None:
    async def main() -> None:
        sts = ScriptedSts(lifetime=900)
        async with a_broker(sts) as broker:
            await broker.lease.ready()
            await anyio.sleep(300)
            fresh = await broker.lease.at_least(800)
            assert fresh.generation == 2
            assert broker.lease.remaining(fresh) > 800
            with pytest.raises(CredentialsError, match=r"899 s, 2000 s are needed"):
                await broker.lease.at_least(2000)

    run_virtual(main)


async def test_outside_its_loop_a_broker_says_so() -> None:
    broker = a_broker(ScriptedSts())
    with pytest.raises(WrongLoop, match="not running"):
        await broker.lease.ready()


async def test_in_another_loop_even_a_set_at_hand_is_not_given_out() -> None:
    """Nobody there would hear of its renewal."""
    async with a_broker(ScriptedSts()) as broker:
        await broker.lease.ready()
        with pytest.raises(WrongLoop, match="another event loop"):
            await anyio.to_thread.run_sync(asyncio.run, broker.lease.ready())


@final
class Stuck(CredentialProvider):
    """Always the same set, which ends ``end`` seconds after the start."""

    def __init__(self, end: float) -> None:
        self.end, self.calls = end, 0

    async def fetch(self) -> Credentials:
        self.calls += 1
        await anyio.sleep(0.002)
        zero = datetime(2026, 1, 1, tzinfo=UTC)
        now = anyio.current_time()
        ends, issued = zero + timedelta(seconds=self.end), zero + timedelta(seconds=now)
        return Credentials("ASIASTUCK", "s", "t", ends, issued_at=issued)

    def describe(self) -> str:
        return "stuck"


@pytest.mark.parametrize("end", [-100.0, 1.0, 60.0])
def test_a_source_stuck_on_an_old_set_is_not_stormed(end: float) -> None:
    async def main() -> None:
        source = Stuck(end)
        async with a_broker(source) as broker:
            with anyio.move_on_after(90):
                while True:
                    with contextlib.suppress(CredentialsError):
                        await broker.lease.ready()
                    await anyio.sleep(0.1)
            assert source.calls < 100

    run_virtual(main)


def test_one_false_expired_does_not_end_keys_that_the_source_stands_by() -> None:
    async def main() -> None:
        source = Stuck(6 * HOUR)
        async with a_broker(source) as broker:
            keys = await broker.lease.ready()
            broker.lease.report_expired(keys)
            await anyio.sleep(5)
            assert await broker.lease.ready() == keys

    run_virtual(main)


def test_in_the_mandatory_window_a_living_set_is_served_whatever_sts_says() -> None:
    async def main() -> None:
        sts = ScriptedSts(lifetime=900, latency=5)
        async with a_broker(sts) as broker:
            await broker.lease.ready()
            sts.fails = lambda call: AssumeRoleDenied("no more")
            await anyio.sleep(900 - 60)
            while anyio.current_time() < 890:
                sts.check(await broker.lease.ready())
                await anyio.sleep(0.3)
            statistics = broker.statistics()
            assert statistics.served_stale > 0
            assert statistics.waits_after_first <= 2, "who gets the old set at once has not waited"

    run_virtual(main)


def test_when_a_lease_has_ended_its_tries_are_counted_anew() -> None:
    """Who waits must not inherit the patience of those who still had a set."""

    async def main() -> None:
        sts = ScriptedSts(lifetime=8, latency=0.01)
        sts.fails = lambda call: SourceUnavailable("down") if 2 < anyio.current_time() < 9 else None
        async with a_broker(sts) as broker:
            longest = 0.0
            while (began := anyio.current_time()) < 60:
                sts.check(await broker.lease.ready())
                longest = max(longest, anyio.current_time() - began)
                await anyio.sleep(0.1)
            assert broker.statistics().expired == 1
            assert longest < 2 + 4, "the set ended at 7, STS was back at 9"

    run_virtual(main)


def test_a_long_outage_after_the_end_is_still_asked_rarely() -> None:
    async def main() -> None:
        sts = ScriptedSts(lifetime=900)
        async with a_broker(sts) as broker:
            await broker.lease.ready()
            sts.fails = lambda call: SourceUnavailable("down")
            await anyio.sleep(900)
            calls = sts.calls
            with anyio.move_on_after(HOUR):
                while True:
                    with contextlib.suppress(CredentialsExpired):
                        await broker.lease.ready()
                    await anyio.sleep(0.1)
            assert sts.calls - calls < 250, "one in 15 s"

    run_virtual(main)
