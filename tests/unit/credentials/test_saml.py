"""SAML: an assertion that somebody gives us, asked for at every renewal."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import anyio
import pytest

from engine._wire.sts import StsClient
from engine.clock import LoopClock
from engine.credentials import Broker
from engine.credentials.providers.saml import SamlProvider
from engine.errors import CredentialsError, SourceExpired, SourceMissing, UsageError
from engine.testing.clock import run_virtual
from engine.testing.gate import Gate
from engine.types import Credentials
from tests.unit.credentials.plans import ROLE, NoSts, Place
from tests.unit.credentials.scripted import HOUR, ScriptedSts

PRINCIPAL = "arn:aws:iam::111122223333:saml-provider/idp"
CALL = "AssumeRoleWithSAML"


@pytest.mark.slow
async def test_an_assertion_is_asked_for_at_each_renewal(gate: Gate, sts: StsClient) -> None:
    role = gate.add_role("111122223333", "federated")
    principal = gate.trust_saml(role)
    asked = []

    async def assertion() -> str:
        asked.append(gate.new_saml_assertion(role))
        text = asked[-1]
        return "\n".join(text[at : at + 76] for at in range(0, len(text), 76))

    source = SamlProvider(role, principal, assertion, sts)
    keys = {(await source.fetch()).access_key_id for _ in range(2)}
    assert len(keys) == len(asked) == 2
    assert len(gate.sts_calls(action=CALL, caller="")) == 2, "a signed call"
    old = asked[0]

    async def kept() -> str:
        return old

    gate.clock_offset = 400
    with pytest.raises(SourceExpired) as caught:
        await SamlProvider(role, principal, kept, sts).fetch()
    assert old not in str(caught.value)


@final
class CountingSts(NoSts):
    def __init__(self) -> None:
        self.asked: list[Mapping[str, Any]] = []
        self._issuer = ScriptedSts(lifetime=3600)

    async def assume_role_with_saml(self, parameters: Mapping[str, Any]) -> Credentials:
        self.asked.append(parameters)
        return await self._issuer.fetch()


def test_a_broker_asks_the_caller_for_a_new_one() -> None:
    async def main() -> None:
        sts, count = CountingSts(), 0

        async def assertion() -> str:
            nonlocal count
            count += 1
            await anyio.sleep(5)  # an identity provider takes its time
            return f"QUJD{count:04}"

        source = SamlProvider(f"{ROLE}r", PRINCIPAL, assertion, sts, duration=3600)
        async with Broker(source, clock=LoopClock()) as broker:
            while anyio.current_time() < 4 * HOUR:
                await broker.lease.ready()
                await anyio.sleep(60)
            assert broker.statistics().waits_after_first == 0
        assert [one["SAMLAssertion"] for one in sts.asked] == [
            f"QUJD{n:04}" for n in range(1, count + 1)
        ]
        assert sts.asked[0] == {
            "RoleArn": f"{ROLE}r", "PrincipalArn": PRINCIPAL, "SAMLAssertion": "QUJD0001",
            "DurationSeconds": 3600,
        }  # fmt: skip

    run_virtual(main)


@pytest.mark.parametrize("text", ["", "abc", "<xml/>", "QUJD" * 30_000])
async def test_what_is_no_assertion_is_not_sent(text: str) -> None:
    async def assertion() -> str:
        return text

    with pytest.raises(CredentialsError, match="no SAML assertion"):
        await SamlProvider(f"{ROLE}r", PRINCIPAL, assertion, NoSts()).fetch()


def test_what_sts_would_refuse() -> None:
    async def assertion() -> str:
        raise AssertionError("not asked")

    for role, principal, duration in (
        (f"{ROLE}r", "arn:aws:iam::111122223333:oidc-provider/x", 900),
        ("arn:aws:iam::1:role/r", PRINCIPAL, 900),
        (f"{ROLE}r", PRINCIPAL, 60),
    ):
        with pytest.raises(UsageError):
            SamlProvider(role, principal, assertion, NoSts(), duration)


@pytest.mark.slow
async def test_on_the_command_line_a_program_prints_it(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.sts = sts = CountingSts()
    place.environ |= {
        "S3ENGINE_SAML_ASSERTION_COMMAND": f"{sys.executable} -S -c \"print('QUJD\\nREVG')\"",
        "S3ENGINE_SAML_ROLE_ARN": f"{ROLE}r",
        "S3ENGINE_SAML_PRINCIPAL_ARN": PRINCIPAL,
        "S3ENGINE_SAML_DURATION": "7200",
    }
    assert await place.plan("saml").provider.fetch()
    assert sts.asked[0]["SAMLAssertion"] == "QUJDREVG"
    assert sts.asked[0]["DurationSeconds"] == 7200
    place.environ["S3ENGINE_SAML_DURATION"] = "2h"
    with pytest.raises(UsageError, match="S3ENGINE_SAML_DURATION"):
        place.plan("saml")
    del place.environ["S3ENGINE_SAML_ROLE_ARN"]
    with pytest.raises(SourceMissing, match="S3ENGINE_SAML_ROLE_ARN is not set"):
        place.plan("saml")
