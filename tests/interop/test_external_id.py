"""Case 3, external ids: moto in its auth mode for the right and a wrong one, radosgw for none.

Each server shows what the other cannot. moto compares the id that is sent, but takes a call
without one for a call with the right one. radosgw refuses a call without one, as AWS does, but
never sees the id and so refuses the right one, too.

In auth mode moto checks signatures and policies from the first call after those that make the
scene on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine import AssumeRoleDenied, Credentials, Engine, RoleSpec
from engine.testing.moto import MotoProcess
from tests.interop.admin import REGION, Admin, Refused
from tests.interop.command import s3engine
from tests.interop.scene import GUARDED, PARTNER_BUCKET, Scene

pytestmark = [pytest.mark.interop, pytest.mark.slow]

# moto's own account; it looks for a role in the caller's account only.
ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/partner"
BUCKET = "external"
EXTERNAL_ID = "acme-42-canary"
# Calls of ``make_scene``; moto counts them, and checks every later one.
CALLS = 6


@dataclass(frozen=True, slots=True)
class MotoScene:
    """A user ``etl`` who may assume ROLE with EXTERNAL_ID."""

    endpoint: str
    etl: Credentials

    def engine(self, external_id: str | None) -> Engine:
        return Engine(
            RoleSpec(ROLE, external_id=external_id),
            endpoint_url=self.endpoint,
            sts_endpoint_url=self.endpoint,
            region=REGION,
            credentials=self.etl,
        )


def make_scene(endpoint: str) -> MotoScene:
    admin = Admin(endpoint, Credentials("AKIAINTEROPADMIN0000", "not checked yet"))
    etl = admin.add_moto_user("etl", ["sts:AssumeRole"])
    admin.add_role(
        "partner",
        trust=f"arn:aws:iam::{ACCOUNT}:user/etl",
        allow=["s3:*"],
        condition={"StringEquals": {"sts:ExternalId": EXTERNAL_ID}},
    )
    admin.add_bucket(BUCKET)
    with pytest.raises(Refused, match="403"):
        admin.add_bucket("second")  # this key was never one: from here on moto checks
    return MotoScene(endpoint, etl)


@pytest.fixture(scope="module")
def moto() -> Iterator[MotoScene]:
    with MotoProcess({"INITIAL_NO_AUTH_ACTION_COUNT": str(CALLS)}) as process:
        yield make_scene(f"http://127.0.0.1:{process.port}")


async def test_case_3_the_right_external_id(moto: MotoScene, tmp_path: Path) -> None:
    data = os.urandom(10_485_761)
    async with moto.engine(EXTERNAL_ID) as s3:
        await s3.upload(data, f"s3://{BUCKET}/key")
        await s3.download(f"s3://{BUCKET}/key", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data


async def test_case_3_a_wrong_external_id(moto: MotoScene) -> None:
    async with moto.engine("acme-43-canary") as s3:
        with pytest.raises(AssumeRoleDenied, match="not allowed to assume") as caught:
            await s3.upload(b"x", f"s3://{BUCKET}/key")
    assert caught.value.exit_code == 3
    assert "another external id (--external-id)" in caught.value.fix
    assert "canary" not in str(caught.value)


def test_case_3_by_the_command(moto: MotoScene, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"some bytes")
    env = {
        "PATH": os.environ["PATH"],
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL": moto.endpoint,
        "AWS_ACCESS_KEY_ID": moto.etl.access_key_id,
        "AWS_SECRET_ACCESS_KEY": moto.etl.secret_access_key,
    }
    line = ("cp", "file", f"s3://{BUCKET}/file", "--role-arn", ROLE)
    wrong = {**env, "S3ENGINE_EXTERNAL_ID": "acme-43-canary"}
    ended = s3engine(*line, env=wrong, folder=tmp_path).check_error(3, AssumeRoleDenied.code)
    assert "external id" in ended.err
    assert "canary" not in ended.text
    right = {**env, "S3ENGINE_EXTERNAL_ID": EXTERNAL_ID}
    s3engine(*line, env=right, folder=tmp_path).check(0)


async def test_case_3_no_external_id(scene: Scene, tmp_path: Path) -> None:
    async with scene.engine(GUARDED) as s3:
        with pytest.raises(AssumeRoleDenied, match="not allowed to assume") as caught:
            await s3.upload(b"x", f"s3://{PARTNER_BUCKET}/guarded")
    assert caught.value.exit_code == 3
    assert "external id (--external-id)" in caught.value.fix
    assert caught.value.facts["external_id"] == "none"
    (tmp_path / "file").write_bytes(b"x")
    line = ("cp", "file", f"s3://{PARTNER_BUCKET}/guarded", "--role-arn", GUARDED)
    env = scene.environment(scene.etl)
    ended = s3engine(*line, env=env, folder=tmp_path).check_error(3, AssumeRoleDenied.code)
    assert "external id" in ended.err


def test_case_3_the_doctor_sees_that_moto_wants_no_id(moto: MotoScene, tmp_path: Path) -> None:
    """moto takes no id for the right one; that is a hole, and the doctor asks for it."""
    env = {
        "PATH": os.environ["PATH"],
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL": moto.endpoint,
        "AWS_ACCESS_KEY_ID": moto.etl.access_key_id,
        "AWS_SECRET_ACCESS_KEY": moto.etl.secret_access_key,
        "S3ENGINE_EXTERNAL_ID": EXTERNAL_ID,
    }
    done = s3engine("doctor", f"s3://{BUCKET}/", "--role-arn", ROLE, env=env, folder=tmp_path)
    assert "the role can ALSO be assumed without the external id" in done.text
    assert "canary" not in done.text
