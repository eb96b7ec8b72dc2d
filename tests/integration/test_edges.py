"""Which requests an object of a given size makes, as the gate saw them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine import EngineError, MiB, TransferConfig
from tests.integration.conftest import Scene

THRESHOLD = 10_485_760


def counts(scene: Scene) -> dict[str, int]:
    found: dict[str, int] = {}
    for entry in scene.aws.gate.log.entries():
        if entry.action != "AssumeRole":
            found[entry.action] = found.get(entry.action, 0) + 1
    return found


SIZES = [
    (0, {"PutObject": 1}, {"HeadObject": 1, "GetObject": 1}),
    (THRESHOLD - 1, {"PutObject": 1}, {"HeadObject": 1, "GetObject": 1}),
    (THRESHOLD, {"PutObject": 1}, {"HeadObject": 1, "GetObject": 1}),
    (
        THRESHOLD + 1,
        {"CreateMultipartUpload": 1, "UploadPart": 2, "CompleteMultipartUpload": 1},
        {"HeadObject": 1, "GetObject": 2},
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("size", "up", "down"), SIZES)
async def test_threshold_edges(
    scene: Scene, tmp_path: Path, size: int, up: dict[str, int], down: dict[str, int]
) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(size))
    async with scene.engine() as s3:
        sent = await s3.upload(source, scene.url("edge"))
        assert counts(scene) == up
        scene.aws.gate.log.clear()
        fetched = await s3.download(scene.url("edge"), tmp_path / "back")
        assert counts(scene) == down
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    assert sent.verified and fetched.verified
    assert sent.parts == up.get("UploadPart", 1)
    assert sent.checksum == fetched.checksum
    ranged = [entry for entry in scene.log("GetObject") if "range" in entry.headers]
    assert len(ranged) == (2 if size > THRESHOLD else 0)
    assert all("if-match" in entry.headers for entry in scene.log("GetObject"))


@pytest.mark.parametrize("checksum", ["crc64nvme", "crc32c"])
async def test_the_chosen_checksum_is_sent_in_headers(
    scene: Scene, tmp_path: Path, checksum: str
) -> None:
    config = TransferConfig(checksum=checksum, multipart_threshold=5 * MiB, part_size=5 * MiB)
    data = os.urandom(5 * MiB + 3)
    async with scene.engine(config=config) as s3:
        whole = await s3.upload(data[:1000], scene.url("whole"))
        parts = await s3.upload(data, scene.url("parts"))
        assert whole.checksum is not None and whole.checksum.algorithm == checksum
        assert parts.checksum is not None and parts.checksum.full_object
        for entry in (*scene.log("PutObject"), *scene.log("UploadPart")):
            assert f"x-amz-checksum-{checksum}" in entry.headers
        result = await s3.download(scene.url("parts"), tmp_path / "parts")
        assert result.verified
    async with scene.engine() as s3:  # the reader does not know what the writer chose
        for key in ("whole", "parts"):
            assert (await s3.download(scene.url(key), tmp_path / key)).verified


async def test_one_upload_goes_on_under_a_new_session(scene: Scene) -> None:
    """An upload id is not bound to the session that made it."""
    scene.role_with(session_lifetime=900)
    config = TransferConfig(multipart_threshold=5 * MiB, part_size=5 * MiB, max_parts_in_flight=1)
    scene.aws.gate.faults.add(
        kind="call",
        action="UploadPart",
        nth=2,
        call=lambda: scene.aws.gate.expire_sessions(scene.role),
    )
    data = os.urandom(16 * MiB)
    async with scene.engine(config=config) as s3:
        result = await s3.upload(data, scene.url("long"))
        assert result.parts == 4
        statistics = s3.statistics().role
        assert statistics is not None and statistics.reports == 1
    (keys,) = scene.aws.gate.log.keys_by_upload().values()
    assert len(keys) == 2
    assert len(scene.log("AssumeRole")) == 2
    assert scene.aws.gate.get_object(scene.bucket, "long") == data


async def test_many_workers_with_one_expired_session_make_one_sts_call(scene: Scene) -> None:
    import anyio

    async with scene.engine() as s3:
        await s3.upload(b"first", scene.url("first"))
        scene.aws.gate.expire_sessions(scene.role)
        async with anyio.create_task_group() as tasks:
            for number in range(64):
                tasks.start_soon(s3.upload, b"x" * number, scene.url(f"n/{number}"))
    assert len(scene.log("AssumeRole")) == 2
    assert len(scene.aws.gate.list_keys(scene.bucket)) == 65


async def test_a_bare_400_on_head_is_looked_behind(scene: Scene, tmp_path: Path) -> None:
    """HEAD has no body to hold ExpiredToken; far from the lease's end a GET is asked why."""
    async with scene.engine() as s3:
        await s3.upload(b"bytes", scene.url("key"))
        scene.aws.gate.expire_sessions(scene.role)
        await s3.download(scene.url("key"), tmp_path / "key")
    heads = [entry.status for entry in scene.log("HeadObject")]
    assert heads == [400, 200]
    assert len(scene.log("AssumeRole")) == 2


async def test_a_profile_that_does_not_exist_is_named(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    with pytest.raises(EngineError, match="no-such-profile"):
        scene.engine()
