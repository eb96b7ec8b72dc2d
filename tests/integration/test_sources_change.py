"""Files that somebody writes to while they are uploaded: nothing of them is stored."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from engine import KiB, Manifest, MiB, SourceChanged, TransferConfig
from tests.integration.conftest import Scene

PARTS = TransferConfig(multipart_threshold=5 * MiB, part_size=5 * MiB, max_parts_in_flight=1)


def overwrite(path: Path) -> None:
    """Other bytes, the same size."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"other bytes")


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1000)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def replace(path: Path) -> None:
    new = path.with_name("new")
    new.write_bytes(path.read_bytes())
    new.replace(path)


CHANGES = [overwrite, cut, grow, replace]


@pytest.mark.parametrize("checksum", ["crc64nvme", "none"])
@pytest.mark.parametrize("change", CHANGES)
async def test_parts_of_a_changed_file_are_not_put_together(
    scene: Scene, tmp_path: Path, change: Callable[[Path], None], checksum: str
) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(16 * MiB))
    scene.aws.gate.faults.add(
        kind="call", action="UploadPart", part_number=2, call=lambda: change(source)
    )
    config = TransferConfig(
        multipart_threshold=5 * MiB, part_size=5 * MiB, max_parts_in_flight=2, checksum=checksum
    )
    async with scene.engine(config=config) as s3:
        with pytest.raises(SourceChanged, match="changed while it was uploaded"):
            await s3.upload(source, scene.url("key"))
    assert scene.aws.gate.list_keys(scene.bucket) == []
    assert scene.aws.gate.open_uploads(scene.bucket) == []


@pytest.mark.parametrize("checksum", ["crc64nvme", "none"])
@pytest.mark.parametrize("size", [300 * KiB, 5 * MiB])
@pytest.mark.parametrize("change", CHANGES)
async def test_one_put_of_a_changed_file_is_not_finished(
    scene: Scene, tmp_path: Path, change: Callable[[Path], None], size: int, checksum: str
) -> None:
    """The first try fails; by the second the file is another."""
    source = tmp_path / "source"
    source.write_bytes(os.urandom(size))
    scene.aws.gate.put_object(scene.bucket, "key", b"what was there")
    scene.aws.gate.faults.add(kind="delay", action="PutObject", seconds=0.2)
    scene.aws.gate.faults.add(kind="status", action="PutObject", status=500, code="InternalError")

    def hook(event: object) -> None:
        if type(event).__name__ == "Retried" and not changed:
            changed.append(True)
            change(source)

    changed: list[bool] = []
    async with scene.engine(config=TransferConfig(checksum=checksum), hook=hook) as s3:
        with pytest.raises(SourceChanged, match="changed while it was uploaded"):
            await s3.upload(source, scene.url("key"))
    assert changed
    assert scene.aws.gate.get_object(scene.bucket, "key") == b"what was there"


@pytest.mark.slow
@pytest.mark.parametrize("checksum", ["crc64nvme", "none"])
@pytest.mark.parametrize("change", [overwrite, grow])
async def test_one_put_stops_before_its_end_where_the_file_changes_meanwhile(
    scene: Scene, tmp_path: Path, change: Callable[[Path], None], checksum: str
) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(24 * MiB))
    config = TransferConfig(multipart_threshold=64 * MiB, checksum=checksum)
    async with scene.engine(config=config) as s3, anyio.create_task_group() as tasks:
        await s3.upload(b"warm", scene.url("warm"))
        scene.aws.gate.bandwidth = 16 * MiB

        async def meanwhile() -> None:
            await anyio.sleep(0.3)
            change(source)

        tasks.start_soon(meanwhile)
        with pytest.raises(SourceChanged, match="changed while it was uploaded"):
            await s3.upload(source, scene.url("key"))
    with anyio.fail_after(10):  # the gate still reads what lies in its sockets
        while not (puts := [entry for entry in scene.log("PutObject") if entry.key == "key"]):
            await anyio.sleep(0.01)
    assert scene.aws.gate.list_keys(scene.bucket) == ["warm"]
    (put,) = puts
    assert put.status == 0 and put.bytes_in < 24 * MiB


async def test_a_changed_file_of_a_tree_is_named_and_the_others_are_stored(
    scene: Scene, tmp_path: Path
) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(os.urandom(6 * MiB))
    scene.aws.gate.faults.add(
        kind="call",
        action="UploadPart",
        key="t/b",
        part_number=2,
        call=lambda: grow(tmp_path / "b"),
    )
    async with scene.engine(config=PARTS) as s3:
        report = await s3.run(Manifest.upload(tmp_path, scene.url("t/")))
    assert report.objects == 2
    (failed,) = report.failed
    assert "changed while it was uploaded" in str(failed)
    assert scene.aws.gate.list_keys(scene.bucket) == ["t/a", "t/c"]
    assert scene.aws.gate.open_uploads(scene.bucket) == []


async def test_a_refused_checksum_of_a_changed_file_is_the_files_fault(
    scene: Scene, tmp_path: Path
) -> None:
    """A part is not sent again from a file that is another by now."""
    source = tmp_path / "source"
    source.write_bytes(os.urandom(11 * MiB))
    faults = scene.aws.gate.faults
    faults.add(kind="delay", action="UploadPart", part_number=2, seconds=0.4)
    faults.add(kind="garble", action="UploadPart", part_number=2, at=77)

    async def meanwhile() -> None:
        while scene.aws.gate.open_uploads(scene.bucket) == []:
            await anyio.sleep(0.02)
        await anyio.sleep(0.1)
        overwrite(source)

    async with scene.engine(config=PARTS) as s3, anyio.create_task_group() as tasks:
        tasks.start_soon(meanwhile)
        with pytest.raises(SourceChanged):
            await s3.upload(source, scene.url("key"))
    assert len([e for e in scene.log("UploadPart") if e.part_number == 2]) == 1
    assert scene.aws.gate.open_uploads(scene.bucket) == []
