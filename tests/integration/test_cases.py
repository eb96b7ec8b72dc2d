"""The four cases of an assumed role: who assumes, where the role lives, what it asks for."""

from __future__ import annotations

from typing import Any

import pytest

from engine import (
    AssumeRoleDenied,
    CredentialsError,
    CredentialsExpired,
    Engine,
    RoleSpec,
    UsageError,
)
from engine.config import TransferConfig
from engine.credentials import RoleArn
from engine.errors import AccessDenied, RoleInvalid, SourceExpired, SourceMissing
from engine.testing.gate_log import LoggedRequest
from tests.integration.conftest import ACCOUNT, Scene

OTHER = "222233334444"
USER = f"arn:aws:iam::{ACCOUNT}:user/etl"


async def write_and_see(scene: Scene, **settings: Any) -> LoggedRequest:
    async with scene.engine(**settings) as s3:
        await s3.upload(b"bytes", scene.url("key"))
    (entry,) = scene.log("PutObject")
    return entry


async def test_case_1_a_user_and_a_role_of_one_account(scene: Scene) -> None:
    entry = await write_and_see(scene)
    assert entry.principal.startswith(f"arn:aws:sts::{ACCOUNT}:assumed-role/staging/s3engine-")
    assert entry.headers["user-agent"].startswith("s3engine/")
    assert " run/" in entry.headers["user-agent"]


async def test_case_2_a_role_of_another_account(scene: Scene) -> None:
    role = scene.role_with("partner", account=OTHER)
    entry = await write_and_see(scene, role=RoleSpec(role))
    assert f":{OTHER}:assumed-role/partner/" in entry.principal
    stranger = scene.role_with("closed", account=OTHER, trust=[f"arn:aws:iam::{ACCOUNT}:user/x"])
    async with scene.engine(role=RoleSpec(stranger)) as s3:
        with pytest.raises(AssumeRoleDenied, match="not allowed to assume"):
            await s3.upload(b"x", scene.url("key"))


async def test_case_3_with_an_external_id(scene: Scene) -> None:
    role = scene.role_with("partner", account=OTHER, external_id="acme-42-secretive")
    entry = await write_and_see(scene, role=RoleSpec(role, external_id="acme-42-secretive"))
    assert entry.status == 200
    for wrong in (None, "acme-43"):
        async with scene.engine(role=RoleSpec(role, external_id=wrong)) as s3:
            with pytest.raises(AssumeRoleDenied) as caught:
                await s3.upload(b"x", scene.url("key"))
        assert "external" in str(caught.value)
        assert "acme-4" not in str(caught.value)
        assert caught.value.exit_code == 3


async def test_case_4_a_role_of_an_instance(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    aws = scene.aws
    instance = aws.gate.add_role(
        ACCOUNT, "etl-host", trust=["ec2.amazonaws.com"], allow=[("sts:AssumeRole", "*")]
    )
    role = scene.role_with(trust=[instance])
    aws.imds.role_arn = instance
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", aws.imds.endpoint)
    spec = RoleSpec(role, source="ec2", duration=43_200)
    entry = await write_and_see(scene, role=spec, credentials=None)
    assert ":assumed-role/staging/" in entry.principal
    assert [request.method for request in aws.imds.requests()][:2] == ["PUT", "GET"]
    with pytest.raises(UsageError, match="at most 1 hour"):
        async with scene.engine(role=spec, credentials=None, refuse_long_chain=True):
            pass


async def test_a_redirect_of_imds_is_never_followed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, other_host: Any
) -> None:
    imds = scene.aws.imds
    imds.redirect_to = f"{other_host.endpoint}/x"
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", imds.endpoint)
    async with scene.engine(role=RoleSpec(scene.role, source="ec2"), credentials=None) as s3:
        with pytest.raises(CredentialsError, match="redirect"):
            await s3.upload(b"x", scene.url("key"))
    assert other_host.requests == []


async def test_off_ec2_the_source_says_so(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9")
    async with scene.engine(role=RoleSpec(scene.role, source="ec2"), credentials=None) as s3:
        with pytest.raises(SourceMissing, match="metadata service") as caught:
            await s3.upload(b"x", scene.url("key"))
    assert "hop limit" in caught.value.fix


async def test_expired_keys_of_the_caller_are_told_from_an_expired_session(scene: Scene) -> None:
    """Before anything moved it is exit 3; a session that ends on the way is exit 4."""
    gate = scene.aws.gate
    middle = gate.add_role(
        ACCOUNT, "middle", trust=["ec2.amazonaws.com"], allow=[("sts:AssumeRole", "*")]
    )
    scene.role_with(trust=[middle])
    caller = gate.instance_session(middle, 3600)
    gate.expire_sessions(middle)
    async with scene.engine(credentials=caller) as s3:
        with pytest.raises(SourceExpired, match="credentials that assume") as caught:
            await s3.upload(b"x", scene.url("key"))
    assert caught.value.exit_code == 3
    scene.role_with()
    async with scene.engine() as s3:
        await s3.upload(b"x", scene.url("key"))
        gate.expire_sessions(scene.role)
        gate.deny_sts("AccessDenied")
        with pytest.raises(CredentialsExpired, match="ended and could not be renewed") as ended:
            await s3.upload(b"x", scene.url("key"))
    assert ended.value.exit_code == 4


async def test_a_session_longer_than_the_role_allows_says_the_ceiling(scene: Scene) -> None:
    async with scene.engine(role=RoleSpec(scene.role, duration=43_200)) as s3:
        with pytest.raises(RoleInvalid, match="MaxSessionDuration") as caught:
            await s3.upload(b"x", scene.url("key"))
    assert "renewed while the job runs" in caught.value.fix


async def test_a_role_without_permission_is_named(scene: Scene) -> None:
    scene.role_with(allow=[("s3:GetObject", "*")])
    async with scene.engine() as s3:
        with pytest.raises(AccessDenied) as caught:
            await s3.upload(b"x", scene.url("key"))
    assert scene.url("key") in str(caught.value)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"arn": "arn:aws:iam::1:role/x"}, "not the ARN"),
        ({"duration": 899}, "not possible"),
        ({"duration": 43_201}, "not possible"),
        ({"external_id": "x"}, "external id"),
        ({"external_id": "has space"}, "external id"),
        ({"session_name": "a/b"}, "session name"),
        ({"tags": {"a": "1", "A": "2"}}, "case only"),
        ({"policy": "not json"}, "not JSON"),
    ],
)
def test_what_sts_would_refuse_is_refused_here(settings: dict[str, Any], words: str) -> None:
    arn = settings.pop("arn", f"arn:aws:iam::{ACCOUNT}:role/path/name")
    with pytest.raises(UsageError, match=words):
        RoleSpec(arn, **settings)


def test_a_role_with_a_path_is_read() -> None:
    role = RoleArn.parse("arn:aws-cn:iam::111122223333:role/a/b/name")
    assert (role.partition, role.account, role.path, role.name) == (
        "aws-cn",
        "111122223333",
        "a/b/",
        "name",
    )
    assert RoleSpec(f"arn:aws:iam::{ACCOUNT}:role/x", external_id="  ").external_id is None
    assert TransferConfig().multipart_threshold == 10_485_760


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"region": "bad region"}, "not a region"),
        ({"endpoint_url": "http://127.0.0.1:99999"}, "no port"),
        ({"endpoint_url": "ftp://user:secret@host"}, "not an endpoint URL"),
        ({"endpoint_url": "http://host/path"}, "no more"),
        ({"ca_bundle": "/no/such/file"}, "cannot be read"),
        ({"source": "nowhere"}, "unknown source"),
    ],
)
def test_what_cannot_be_an_endpoint_is_refused_at_once(
    settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        Engine(**settings)
    assert "secret" not in str(caught.value)
