"""What was not to be replaced is not, even where it appears while the other bytes are under way."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from engine import Manifest, MiB, ObjectExists, ObjectOptions, TransferConfig, disk
from tests.integration.conftest import Scene

PARTS = TransferConfig(
    multipart_threshold=5 * MiB, multipart_download_threshold=5 * MiB, part_size=5 * MiB
)
NEW = ObjectOptions(if_none_match=True)
SIZES = [100, 200_000, 6 * MiB]


@pytest.fixture(params=["rename", "link"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "link":
        monkeypatch.setattr(disk, "_renameat2", lambda: None)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.usefixtures("way")
async def test_a_file_that_appears_meanwhile_is_not_replaced(
    scene: Scene, tmp_path: Path, size: int
) -> None:
    """Alone and below a prefix: small ones in groups, others by their temporary files."""
    gate, alone, tree = scene.aws.gate, tmp_path / "alone" / "key", tmp_path / "tree" / "key"
    gate.put_object(scene.bucket, "t/key", data := os.urandom(size))
    for target in (alone, tree):
        target.parent.mkdir()
        gate.faults.add(
            kind="call", action="GetObject", call=partial(target.write_bytes, b"mine")
        )  # fmt: skip
        async with scene.engine(config=PARTS) as s3:
            if target is alone:
                with pytest.raises(ObjectExists, match=r"exists and was not to be replaced.*Remov"):
                    await s3.download(scene.url("t/key"), target, options=NEW)
            else:
                report = await s3.run(
                    Manifest.download(scene.url("t/"), target.parent), options=NEW
                )
                assert [failure.error.code for failure in report.failed] == ["T114"]
        assert target.read_bytes() == b"mine"
        assert [path.name for path in target.parent.iterdir()] == ["key"]
        target.unlink()
        async with scene.engine(config=PARTS) as s3:
            await s3.download(scene.url("t/key"), target, options=NEW)
        assert target.read_bytes() == data
        assert [path.name for path in target.parent.iterdir()] == ["key"]


@pytest.mark.parametrize("size", [100, 6 * MiB])
async def test_an_object_that_appears_meanwhile_is_not_replaced(scene: Scene, size: int) -> None:
    gate = scene.aws.gate
    action = "PutObject" if size == 100 else "CompleteMultipartUpload"
    gate.faults.add(
        kind="call", action=action, call=lambda: gate.put_object(scene.bucket, "key", b"theirs")
    )
    async with scene.engine(config=PARTS) as s3:
        with pytest.raises(ObjectExists):
            await s3.upload(os.urandom(size), scene.url("key"), options=NEW)
    assert gate.get_object(scene.bucket, "key") == b"theirs"
    assert gate.open_uploads(scene.bucket) == []
