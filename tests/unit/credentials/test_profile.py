"""Keys of a profile: rotated ones are found by looking at the file, and that costs no call."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import anyio
import pytest

from engine.clock import LoopClock
from engine.credentials import Broker
from engine.credentials.chain import ChainBuilder
from engine.credentials.sources import plan_source
from engine.errors import CredentialsError, SourceExpired
from engine.protocols import CredentialProvider
from engine.testing.clock import run_virtual
from engine.types import Credentials
from tests.unit.credentials.plans import ROLE, NoSts, Place
from tests.unit.credentials.scripted import ScriptedSts

# A 900 s session is renewed after 675 s: 5.3 an hour.
HOURLY = 6
KEYS = "[default]\naws_access_key_id = AKIA{0:0>8}\naws_secret_access_key = secret{0}\n"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_keys_that_another_tool_writes_are_found_within_seconds(place: Place) -> None:
    async def main() -> None:
        place.write(credentials=KEYS.format(1))
        async with Broker(place.plan().provider, clock=LoopClock()) as broker:
            old = await broker.lease.ready()
            assert old.access_key_id == "AKIA00000001"
            await anyio.sleep(600)
            assert await broker.lease.ready() is old
            place.write(credentials=KEYS.format(2) + "aws_session_token = t\n")
            await anyio.sleep(6)
            new = await broker.lease.ready()
            assert (new.access_key_id, new.session_token) == ("AKIA00000002", "t")
            assert broker.statistics().waits_after_first == 0

    run_virtual(main)


def test_a_file_that_is_broken_for_a_while_costs_nothing(place: Place) -> None:
    async def main() -> None:
        place.write(credentials=KEYS.format(1))
        async with Broker(place.plan().provider, clock=LoopClock()) as broker:
            old = await broker.lease.ready()
            for text in ("[default\n", "", "[default]\naws_access_key_id = AKIA2\n"):
                place.write(credentials=text)
                await anyio.sleep(60)
                assert await broker.lease.ready() is old
            place.write(credentials=KEYS.format(2))
            await anyio.sleep(60)
            assert (await broker.lease.ready()).access_key_id == "AKIA00000002"

    run_virtual(main)


@final
class RotatedSts(NoSts):
    """Knows one caller's key, and counts."""

    def __init__(self) -> None:
        self.known = "AKIA00000001"
        self.calls = 0
        self._issuer = ScriptedSts(lifetime=900)

    async def assume_role(self, caller: Credentials, parameters: Mapping[str, Any]) -> Credentials:
        self.calls += 1
        if caller.access_key_id != self.known:
            raise SourceExpired("AWS does not know the key")
        return await self._issuer.fetch()


def test_a_role_goes_on_under_rotated_keys_and_looking_costs_no_call(place: Place) -> None:
    async def main() -> None:
        place.write(f"[profile r]\nrole_arn = {ROLE}r\nsource_profile = default\n", KEYS.format(1))
        sts = RotatedSts()

        def make(provider: CredentialProvider) -> Broker:
            return Broker(provider, clock=LoopClock())

        plan = plan_source("profile", place.context("r"))
        builder = ChainBuilder(sts, session_name="s", make=make)
        chain = builder.assume(builder.source(plan.provider), plan.roles)
        async with chain.source, chain.broker:
            for hour in range(4):
                # Rotated a moment before each renewal: the old key is unknown at once.
                for _ in range(60):
                    await chain.broker.lease.ready()
                    await anyio.sleep(60)
                sts.known = f"AKIA{hour + 2:0>8}"
                place.write(
                    f"[profile r]\nrole_arn = {ROLE}r\nsource_profile = default\n",
                    KEYS.format(hour + 2),
                )
            assert chain.broker.statistics().waits_after_first == 0
            assert chain.broker.statistics().failed == 0
            assert sts.calls <= 4 * HOURLY + 4, "one a renewal, one more a rotation"
            assert chain.source.statistics().fetches > 1_000

    run_virtual(main)


async def test_keys_that_went_away_are_named(place: Place) -> None:
    place.write(credentials=KEYS.format(1))
    provider = place.plan().provider
    assert "secret1" not in repr(provider) + provider.describe()
    place.write()
    with pytest.raises(CredentialsError, match="profile default has no aws_access_key_id"):
        await provider.fetch()
