"""What a denial says of a set: renewed early, once, or not at all. On the virtual clock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import final

import anyio
import pytest

from engine.credentials import Broker
from engine.credentials.broker import DENIAL_GRACE
from engine.errors import AssumeRoleDenied
from engine.protocols import CredentialProvider
from engine.testing.clock import run_virtual
from engine.types import Credentials
from tests.unit.credentials.scripted import ScriptedSts, a_broker

Scene = Callable[[Broker, ScriptedSts], Awaitable[None]]


def play(scene: Scene) -> None:
    async def main() -> None:
        sts = ScriptedSts(latency=0.2)
        async with a_broker(sts) as broker:
            await scene(broker, sts)

    run_virtual(main)


async def deny(broker: Broker, credentials: Credentials, times: int) -> list[bool]:
    """So many workers are denied at once; what each is told."""
    told: list[bool] = []

    async def worker() -> None:
        told.append(await broker.lease.renewed_after_denial(credentials))

    async with anyio.create_task_group() as tasks:
        for _ in range(times):
            tasks.start_soon(worker)
    return told


def test_a_burst_on_a_set_that_worked_is_one_renewal_and_no_grace() -> None:
    async def scene(broker: Broker, sts: ScriptedSts) -> None:
        old = await broker.lease.ready()
        broker.lease.report_worked(old)
        before = anyio.current_time()
        assert await deny(broker, old, 64) == [True] * 64
        assert anyio.current_time() - before < DENIAL_GRACE
        assert sts.calls == 2
        assert broker.statistics().renewed_for_denial == 1
        assert await broker.lease.renewed_after_denial(old), "who comes late has the new set"
        assert sts.calls == 2

    play(scene)


def test_one_denial_waits_whether_others_work() -> None:
    async def scene(broker: Broker, sts: ScriptedSts) -> None:
        current = await broker.lease.ready()
        broker.lease.report_worked(current)

        async def another() -> None:
            await anyio.sleep(DENIAL_GRACE / 2)
            broker.lease.report_worked(current)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(another)
            assert await deny(broker, current, 1) == [False]
        assert sts.calls == 1
        assert await deny(broker, current, 1) == [True], "nobody worked"
        assert sts.calls == 2

    play(scene)


def test_an_answer_from_before_the_denial_says_nothing_of_now() -> None:
    """It was sent before the session was revoked, and heard after the first denial."""

    async def scene(broker: Broker, sts: ScriptedSts) -> None:
        current = await broker.lease.ready()
        broker.lease.report_worked(current)
        sent_at = anyio.current_time()
        await anyio.sleep(0.01)

        async def late() -> None:
            await anyio.sleep(DENIAL_GRACE / 2)
            broker.lease.report_worked(current, sent_at)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(late)
            assert await deny(broker, current, 1) == [True]
        assert sts.calls == 2

    play(scene)


def test_a_set_that_never_worked_is_not_renewed() -> None:
    async def scene(broker: Broker, sts: ScriptedSts) -> None:
        assert await deny(broker, await broker.lease.ready(), 64) == [False] * 64
        assert sts.calls == 1

    play(scene)


def test_the_set_of_a_denial_that_is_denied_too_ends_it() -> None:
    async def scene(broker: Broker, sts: ScriptedSts) -> None:
        old = await broker.lease.ready()
        broker.lease.report_worked(old)
        await deny(broker, old, 3)
        fresh = await broker.lease.ready()
        broker.lease.report_worked(fresh)
        for _ in range(5):
            assert await deny(broker, fresh, 3) == [False] * 3
        assert sts.calls == 2

    play(scene)


def test_the_next_regular_lease_may_be_revoked_as_well() -> None:
    async def scene(broker: Broker, sts: ScriptedSts) -> None:
        for round_number in (1, 2, 3):
            current = await broker.lease.ready()
            broker.lease.report_worked(current)
            assert await deny(broker, current, 3) == [True] * 3
            await anyio.sleep(800)  # past the advisory window: renewed as always
            assert sts.calls == 1 + 2 * round_number

    play(scene)


def test_sts_that_denies_too_leaves_the_denial_as_it_is() -> None:
    async def scene(broker: Broker, sts: ScriptedSts) -> None:
        old = await broker.lease.ready()
        broker.lease.report_worked(old)
        sts.fails = lambda call: AssumeRoleDenied("no more")
        assert await deny(broker, old, 10) == [False] * 10
        assert await broker.lease.ready() == old, "it may still work elsewhere"
        assert sts.calls <= 3, "once for the burst, once for those who waited to see it"

    play(scene)


def test_a_denied_waiter_that_is_cancelled_cancels_no_renewal() -> None:
    async def scene(broker: Broker, sts: ScriptedSts) -> None:
        old = await broker.lease.ready()
        broker.lease.report_worked(old)
        with anyio.move_on_after(0.1):
            await deny(broker, old, 3)
        await anyio.sleep(1)
        assert (await broker.lease.ready()).generation == 2

    play(scene)


@final
class RotatedKeys(CredentialProvider):
    """Long-term keys, ``recheck`` seconds apart; the second set is there from ``at`` on."""

    recheck = 60.0
    is_role = False

    def __init__(self, at: float) -> None:
        self.at, self.calls = at, 0

    async def fetch(self) -> Credentials:
        self.calls += 1
        return Credentials("AKIANEW" if anyio.current_time() >= self.at else "AKIAOLD", "s")

    def describe(self) -> str:
        return "file"


def test_rotated_long_term_keys_are_found_when_the_server_does_not_know_the_old() -> None:
    async def main() -> None:
        source = RotatedKeys(at=10)
        async with a_broker(source) as broker:
            old = await broker.lease.ready()
            await anyio.sleep(11)
            assert await broker.lease.renewed_after_denial(old, unknown_key=True)
            assert (await broker.lease.ready()).access_key_id == "AKIANEW"
            assert source.calls == 2

    run_virtual(main)


def test_rotated_long_term_keys_are_found_by_looking_again() -> None:
    async def main() -> None:
        source = RotatedKeys(at=100)
        async with a_broker(source) as broker:
            await broker.lease.ready()
            await anyio.sleep(130)
            assert (await broker.lease.ready()).access_key_id == "AKIANEW"
            await anyio.sleep(6_000)
            assert source.calls <= 104, "once a minute"

    run_virtual(main)


@pytest.mark.parametrize("age", [0.0, 100.0])
def test_long_term_keys_are_not_renewed_for_a_plain_denial(age: float) -> None:
    async def main() -> None:
        source = RotatedKeys(at=1e9)
        async with a_broker(source) as broker:
            keys = await broker.lease.ready()
            broker.lease.report_worked(keys)
            await anyio.sleep(age)
            calls = source.calls
            assert await deny(broker, keys, 10) == [False] * 10
            assert source.calls == calls

    run_virtual(main)
