"""Who assumes which role, at a server that checks signatures, trust policies and sessions."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import AccessDenied, AssumeRoleDenied, Manifest
from engine.errors import RoleInvalid
from engine.testing.imds import ImdsDouble
from tests.interop.command import run, s3engine
from tests.interop.conftest import SIZES
from tests.interop.scene import (
    BUCKET,
    FROM_INSTANCE,
    INSTANCE,
    PARTNER_BUCKET,
    PARTNER_WRITER,
    WRITER,
    InstanceSessions,
    Scene,
)

pytestmark = [pytest.mark.interop, pytest.mark.slow]


# 8 MiB each; up to and with the threshold an object is one request.
PARTS = dict(zip(SIZES, (1, 1, 2, 3), strict=True))


def same(first: Path, second: Path, scene: Scene) -> None:
    """Both trees hold the same names and bytes, says ``diff``."""
    found = run(["diff", "-r", first, second], env=scene.environment(None), folder=first)
    assert (found.code, found.text) == (0, "")


async def test_case_1_every_size_comes_back_byte_for_byte(
    scene: Scene, dump: Path, tmp_path: Path
) -> None:
    async with scene.engine() as s3:
        for size in SIZES:
            source, url = dump / f"{size}.bin", f"s3://{BUCKET}/one/{size}.bin"
            up = await s3.upload(source, url)
            # radosgw 16 knows none of our checksums: that is said, and is no error.
            assert (up.size, up.parts, up.verified) == (size, PARTS[size], False)
            # Its answer to Complete has an empty ETag; HEAD has the right one.
            info = await s3.head(url)
            assert info.size == size
            assert up.etag == info.etag
            down = await s3.download(url, tmp_path / "back")
            assert (down.size, down.etag, down.verified) == (size, info.etag, False)
            assert (tmp_path / "back").read_bytes() == source.read_bytes()
        listed = [info async for info in s3.list(f"s3://{BUCKET}/one/")]
        assert sorted(info.size for info in listed) == sorted(SIZES)
        assert await s3.delete([info.url for info in listed]) == len(SIZES)
        assert [info async for info in s3.list(f"s3://{BUCKET}/one/")] == []


def test_case_1_a_tree_by_the_command(scene: Scene, dump: Path, tmp_path: Path) -> None:
    env = scene.environment(scene.etl)
    url = f"s3://{BUCKET}/tree/"
    s3engine("cp", f"{dump}/", url, "--role-arn", WRITER, env=env, folder=tmp_path).check(0)
    listed = s3engine("ls", url, "--role-arn", WRITER, env=env, folder=tmp_path).check(0)
    assert "sub folder/ä+b%20c d=e.txt" in listed.out
    s3engine("cp", url, "back/", "--role-arn", WRITER, env=env, folder=tmp_path).check(0)
    same(dump, tmp_path / "back", scene)


async def test_case_2_a_role_of_another_account_writes_into_its_bucket(
    scene: Scene, dump: Path, tmp_path: Path
) -> None:
    async with scene.engine(PARTNER_WRITER) as s3:
        report = await s3.run(Manifest.upload(dump, f"s3://{PARTNER_BUCKET}/tree/"))
        assert report.failed == []
        report = await s3.run(Manifest.download(f"s3://{PARTNER_BUCKET}/tree/", tmp_path / "back"))
        assert report.failed == []
    same(dump, tmp_path / "back", scene)


async def test_case_2_a_user_that_the_trust_policy_does_not_name(
    scene: Scene, tmp_path: Path
) -> None:
    async with scene.engine(PARTNER_WRITER, credentials=scene.stranger) as s3:
        with pytest.raises(AssumeRoleDenied, match="not allowed to assume") as caught:
            await s3.upload(b"x", f"s3://{PARTNER_BUCKET}/stranger")
    assert caught.value.exit_code == 3
    assert "trust policy" in caught.value.fix
    (tmp_path / "file").write_bytes(b"x")
    line = ("cp", "file", f"s3://{PARTNER_BUCKET}/stranger", "--role-arn", PARTNER_WRITER)
    env = scene.environment(scene.stranger)
    ended = s3engine(*line, env=env, folder=tmp_path).check_error(3, AssumeRoleDenied.code)
    assert PARTNER_WRITER in ended.err
    async with scene.engine(PARTNER_WRITER) as s3:
        assert [info async for info in s3.list(f"s3://{PARTNER_BUCKET}/stranger")] == []


@pytest.mark.parametrize(
    ("role", "duration", "words"),
    [(f"{WRITER}-that-is-not", 900, "NoSuchEntity"), (WRITER, 43_200, "InvalidArgument")],
    ids=["no-such-role", "too-long"],
)
async def test_a_role_that_cannot_be_assumed_is_an_error_at_once(
    scene: Scene, role: str, duration: int, words: str
) -> None:
    """radosgw has codes of its own, without a message, for what AWS calls a ValidationError."""
    async with scene.engine(role, duration=duration) as s3:
        with pytest.raises(RoleInvalid, match=words) as caught:
            await s3.upload(b"x", f"s3://{BUCKET}/invalid")
        assert s3.statistics().chain[-1][1].fetches == 1
    assert caught.value.exit_code == 3


async def test_case_4_a_role_assumed_from_an_instances_role(
    scene: Scene, dump: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ImdsDouble(InstanceSessions(scene)) as imds:
        imds.role_arn, imds.lifetime = INSTANCE, 3_600
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", imds.endpoint)
        async with scene.engine(FROM_INSTANCE, source="ec2") as s3:
            report = await s3.run(Manifest.upload(dump, f"s3://{BUCKET}/four/"))
            assert report.failed == []
        assert [request.method for request in imds.requests()] == ["PUT", "GET", "GET"]
        env = {
            **scene.environment(None),
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": imds.endpoint,
        }
        ec2 = ("--source", "ec2")
        line = ("cp", f"s3://{BUCKET}/four/", "back/", "--role-arn", FROM_INSTANCE)
        s3engine(*line, *ec2, env=env, folder=tmp_path).check(0)
        same(dump, tmp_path / "back", scene)
        # The instance's own role may assume the other one, and nothing else.
        refused = s3engine("ls", f"s3://{BUCKET}/four/", *ec2, env=env, folder=tmp_path)
        refused.check_error(3, AccessDenied.code)
