"""Web identity, as IRSA and CI systems use it: real calls of a double of STS, unsigned."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import anyio
import pytest

from engine._wire.sts import StsClient
from engine.clock import LoopClock
from engine.credentials import Broker
from engine.credentials.providers.web_identity import WebIdentityProvider
from engine.errors import AssumeRoleDenied, CredentialsError, SourceExpired, UsageError
from engine.testing.clock import run_virtual
from engine.testing.gate import Gate
from engine.threads import ThreadDoor
from engine.types import Credentials
from tests.unit.credentials.plans import ROLE, NoSts, Place
from tests.unit.credentials.scripted import HOUR, ScriptedSts

ISSUER = "https://oidc.eks.eu-west-1.amazonaws.com/id/1"
SUBJECT = "system:serviceaccount:etl:loader"
CALL = "AssumeRoleWithWebIdentity"


@pytest.fixture
def role(gate: Gate) -> str:
    arn = gate.add_role("111122223333", "pod")
    gate.trust_web_identity(arn, issuer=ISSUER, subject="system:serviceaccount:etl:*")
    return arn


@pytest.mark.slow
async def test_a_rotated_token_is_read_at_each_renewal(
    gate: Gate, sts: StsClient, role: str, tmp_path: Path
) -> None:
    path = tmp_path / "token"
    source = WebIdentityProvider(role, str(path), sts, ThreadDoor(), session_name="pod-1")
    path.write_text(gate.new_web_token(SUBJECT, ISSUER, lifetime=600) + "\n")
    first = await source.fetch()
    assert first.access_key_id.startswith("ASIA") and 898 <= (first.lifetime or 0) <= 900
    gate.clock_offset = 700  # the first token is over
    path.write_text(gate.new_web_token(SUBJECT, ISSUER))
    second = await source.fetch()
    assert second.access_key_id != first.access_key_id
    calls = gate.sts_calls(action=CALL)
    assert len(calls) == 2 and {call.status for call in calls} == {200}
    assert len(gate.sts_calls(action=CALL, caller="")) == 2, "a signed call"
    assert source.is_role
    assert source.describe() == f"role pod in 111122223333 by web identity ({path})"


@pytest.mark.slow
async def test_what_sts_says_of_tokens(
    gate: Gate, sts: StsClient, role: str, tmp_path: Path
) -> None:
    path = tmp_path / "token"
    source = WebIdentityProvider(role, str(path), sts, ThreadDoor(), session_name="pod-1")
    path.write_text(gate.new_web_token(SUBJECT, ISSUER, lifetime=-1))
    with pytest.raises(SourceExpired):
        await source.fetch()
    path.write_text(gate.new_web_token("system:serviceaccount:other:x", ISSUER))
    with pytest.raises(AssumeRoleDenied):
        await source.fetch()
    token = gate.new_web_token(SUBJECT, ISSUER)
    gate.reject_token(token)
    path.write_text(token)
    with pytest.raises(AssumeRoleDenied) as caught:
        await source.fetch()
    assert token not in str(caught.value)
    assert len(gate.sts_calls(action=CALL)) == 3, "the same token is not tried again"


@final
class Rotating(NoSts):
    """Takes one token, and the file is rotated while a call with another is under way."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.taken = "token-1"
        self.asked: list[str] = []
        self._issuer = ScriptedSts(lifetime=900)

    async def assume_role_with_web_identity(self, parameters: Mapping[str, Any]) -> Credentials:
        assert parameters["RoleArn"] == f"{ROLE}pod" and parameters["RoleSessionName"] == "pod-1"
        self.asked.append(parameters["WebIdentityToken"])
        if parameters["WebIdentityToken"] != self.taken:
            self.path.write_text(self.taken)
            raise SourceExpired("over")
        return await self._issuer.fetch()


def test_a_token_rotated_that_very_moment_is_read_once_more(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "token"
        path.write_text("token-1")
        sts = Rotating(path)
        source = WebIdentityProvider(
            f"{ROLE}pod", str(path), sts, ThreadDoor(), session_name="pod-1"
        )
        async with Broker(source, clock=LoopClock()) as broker:
            await broker.lease.ready()
            sts.taken = "token-2"
            while anyio.current_time() < HOUR:
                await broker.lease.ready()
                await anyio.sleep(30)
            assert sts.asked[:4] == ["token-1", "token-1", "token-2", "token-2"]
            assert broker.statistics().failed == 0
            assert broker.statistics().waits_after_first == 0

    run_virtual(main)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        (b"", "0 characters"),
        (b"x" * 20_001, "20001"),
        (b"\xff" * 9, "text"),
    ],
)
async def test_a_file_without_a_token(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    source = WebIdentityProvider(
        f"{ROLE}pod", str(path), NoSts(), ThreadDoor(), session_name="pod-1"
    )
    with pytest.raises(CredentialsError, match=words):
        await source.fetch()


async def test_the_environment_and_the_profile_each_give_what_they_have(tmp_path: Path) -> None:
    place = Place(tmp_path)
    token = tmp_path / "token"
    token.write_text("token-1")
    place.sts = Rotating(token)
    place.write(f"[default]\nrole_arn = {ROLE}pod\nrole_session_name = pod-1\n")
    place.environ["AWS_WEB_IDENTITY_TOKEN_FILE"] = str(token)
    assert await place.plan("web-identity").provider.fetch()
    place.environ["AWS_ROLE_ARN"] = "arn:aws:iam::1:role/x"
    with pytest.raises(UsageError, match="not the ARN"):
        place.plan("web-identity")
