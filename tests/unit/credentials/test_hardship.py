"""What a broker does with sources that end, hang, lie and come back."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, final

import anyio
import pytest

from engine.clock import LoopClock
from engine.credentials import Broker
from engine.credentials.broker import FETCH_WITHIN, MAX_STILLBORN
from engine.credentials.providers.static import StaticProvider
from engine.errors import CredentialsError, CredentialsExpired, SourceUnavailable, WrongLoop
from engine.protocols import CredentialProvider
from engine.testing.clock import run_virtual
from engine.types import Credentials
from tests.unit.credentials.scripted import (
    HOUR,
    RepeatingSource,
    ScriptedSts,
    a_broker,
)


@final
class OddSource(CredentialProvider):
    """Gives whatever it is told to."""

    def __init__(self, *gives: Any) -> None:
        self.gives = list(gives)
        self.calls = 0

    async def fetch(self) -> Credentials:
        self.calls += 1
        given = self.gives[min(self.calls, len(self.gives)) - 1]
        if isinstance(given, float):
            await anyio.sleep(given)
            raise AssertionError("nobody waits so long")
        return given  # type: ignore[no-any-return]

    def describe(self) -> str:
        return "an odd source"


KEYS = Credentials("AKIA1", "s")


def test_a_final_error_is_not_the_last_word() -> None:
    """Trust that was mended, a login that was renewed: whoever asks later gets a set."""

    async def main() -> None:
        sts = ScriptedSts(lifetime=900)
        async with a_broker(sts) as broker:
            await broker.lease.ready()
            sts.fails = lambda call: CredentialsError("not allowed")
            await anyio.sleep(HOUR)
            with pytest.raises(CredentialsExpired):
                await broker.lease.ready()
            sts.fails = lambda call: None
            await anyio.sleep(HOUR)
            with contextlib.suppress(CredentialsExpired):
                await broker.lease.ready()  # asks, and may be told the old reason once more
            await anyio.sleep(31)
            sts.check(await broker.lease.ready())

    run_virtual(main)


def test_a_report_is_looked_into_at_once_after_nothing_newer() -> None:
    """The source said "nothing newer" a moment ago; an expiry that a server reports is news."""

    async def main() -> None:
        source = RepeatingSource(lifetime=6 * HOUR)
        async with a_broker(source) as broker:
            first = await broker.lease.ready()
            await anyio.sleep(5.5 * HOUR)
            source.end = 0.0  # from now on it has another
            began = anyio.current_time()
            broker.lease.report_expired(first)
            fresh = await broker.lease.ready()
            assert fresh.generation == 2 and anyio.current_time() - began < 2

    run_virtual(main)


def test_given_keys_that_are_called_expired_twice_fail_at_once() -> None:
    async def main() -> None:
        async with a_broker(StaticProvider(Credentials("AKIA1", "s"))) as broker:
            for _ in range(2):
                broker.lease.report_expired(await broker.lease.ready())
                began = anyio.current_time()
                with contextlib.suppress(CredentialsExpired):
                    await broker.lease.ready()
                assert anyio.current_time() - began < 2
            with pytest.raises(CredentialsExpired) as caught:
                await broker.lease.ready()
            assert caught.value.fix == "Give newer keys"

    run_virtual(main)


def test_a_denial_in_an_outage_costs_no_wait() -> None:
    """Nothing can be learned by a renewal that cannot be made, and the set may be good."""

    async def main() -> None:
        sts = ScriptedSts(lifetime=900)
        async with a_broker(sts) as broker:
            credentials = await broker.lease.ready()
            sts.fails = lambda call: SourceUnavailable("down")
            await anyio.sleep(700)  # in the advisory window, failing
            broker.lease.report_worked(credentials)
            began = anyio.current_time()
            for _ in range(5):
                assert not await broker.lease.renewed_after_denial(credentials)
            assert anyio.current_time() == began
            assert (await broker.lease.ready()).generation == 1

    run_virtual(main)


def test_a_source_that_hangs_is_given_up_and_asked_again() -> None:
    async def main() -> None:
        source = OddSource(1e9, KEYS)
        async with a_broker(source) as broker:
            with pytest.raises(CredentialsError):
                await broker.lease.ready()
            await anyio.sleep(FETCH_WITHIN)
            assert (await broker.lease.ready()).access_key_id == "AKIA1"
            assert source.calls == 2

    run_virtual(main)


def test_a_renewal_that_hangs_does_not_hold_up_who_has_a_set() -> None:
    """In the mandatory window requests wait for a renewal on its way, but not to the end."""

    async def main() -> None:
        sts = ScriptedSts(lifetime=900)
        async with a_broker(sts) as broker:
            first = await broker.lease.ready()
            sts.latency = 1e9
            await anyio.sleep(850)
            began = anyio.current_time()
            assert await broker.lease.ready() == first
            assert anyio.current_time() - began <= 5
            assert broker.statistics().served_stale == 1

    run_virtual(main)


WITHOUT_A_ZONE = replace(
    KEYS, expires_at=datetime(2199, 1, 1), issued_at=datetime(2026, 1, 1, tzinfo=UTC)
)


@pytest.mark.parametrize("odd", [None, "keys", WITHOUT_A_ZONE])
def test_what_is_no_set_is_a_failure_and_no_crash(odd: Any) -> None:
    async def main() -> None:
        async with a_broker(OddSource(odd, KEYS)) as broker:
            with pytest.raises(CredentialsError, match="odd source"):
                await broker.lease.ready()
            await anyio.sleep(31)
            assert (await broker.lease.ready()).access_key_id == "AKIA1"

    run_virtual(main)


def test_a_set_that_has_ended_when_it_comes_is_no_set() -> None:
    """Said as what it is, and the source is not asked once a second for ever."""

    async def main() -> None:
        over = replace(
            KEYS,
            expires_at=datetime(2026, 1, 1, tzinfo=UTC),
            issued_at=datetime(2026, 1, 2, tzinfo=UTC),
        )
        source = OddSource(over)
        async with a_broker(source) as broker:
            with pytest.raises(SourceUnavailable, match="had ended when it came"):
                await broker.lease.ready()
            asked = source.calls
            await anyio.sleep(HOUR)
            assert source.calls - asked <= 1

    run_virtual(main)


def test_sets_that_are_all_called_expired_end_the_job() -> None:
    """A store whose clock is wrong must not cost an STS call a second for ever."""

    async def main() -> None:
        sts = ScriptedSts(lifetime=900)
        async with a_broker(sts) as broker:
            with pytest.raises(CredentialsError, match="called expired at their first use"):
                for _ in range(50):
                    broker.lease.report_expired(await broker.lease.ready())
            assert sts.calls <= MAX_STILLBORN + 2
            await anyio.sleep(60)
            credentials = await broker.lease.ready()  # who asks later gets another try
            broker.lease.report_worked(credentials)
            broker.lease.report_expired(credentials)
            assert (await broker.lease.ready()).generation > credentials.generation

    run_virtual(main)


async def test_a_lease_kept_beyond_its_broker_says_so_at_once() -> None:
    sts = ScriptedSts(lifetime=900)
    async with Broker(sts, clock=LoopClock()) as broker:
        await broker.lease.ready()
    with pytest.raises(WrongLoop):
        await broker.lease.at_least(2000)
