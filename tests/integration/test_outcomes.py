"""transfer(): what becomes of each entry, as it is known; and what progress events add up to."""

from __future__ import annotations

import os
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import pytest

from engine import (
    CredentialsError,
    Engine,
    Failure,
    Manifest,
    ManifestEntry,
    MiB,
    S3Url,
    TransferConfig,
    TransferResult,
    UsageError,
    WrongLoop,
)
from engine.events import BytesMoved, ObjectDone, ObjectFailed, WalkDone
from tests.integration.conftest import Scene

PARTS = TransferConfig(
    multipart_threshold=5 * MiB, multipart_download_threshold=5 * MiB, part_size=5 * MiB
)


def tree(folder: Path, count: int, size: int = 10) -> Manifest:
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:03d}").write_bytes(bytes([number % 256]) * size)
    return Manifest.upload(folder, "s3://bucket/unused/")


async def test_each_entry_is_told_as_it_is_done(scene: Scene, tmp_path: Path) -> None:
    tree(tmp_path / "t", 20)
    (tmp_path / "t" / "link").symlink_to(tmp_path)
    scene.aws.gate.faults.add(kind="status", action="PutObject", key="*003", status=400, times=None)
    async with scene.engine() as s3:
        found = [o async for o in s3.transfer(Manifest.upload(tmp_path / "t", scene.url("t/")))]
        done = [outcome for outcome in found if isinstance(outcome, TransferResult)]
        failed = [outcome for outcome in found if isinstance(outcome, Failure)]
        assert len(done) == 19 and all(result.verified for result in done)
        assert sorted(failure.entry.path.name for failure in failed) == ["003", "link"]
        down = s3.transfer(Manifest.download(scene.url("t/"), tmp_path / "d"))
        assert {outcome.path async for outcome in down if isinstance(outcome, TransferResult)} == {
            str(tmp_path / "d" / f"{number:03d}") for number in range(20) if number != 3
        }


async def test_a_slow_reader_holds_the_work_back(scene: Scene, tmp_path: Path) -> None:
    tree(tmp_path / "t", 60)
    config = TransferConfig(max_concurrency=4)
    async with scene.engine(config=config) as s3:
        async for outcome in s3.transfer(Manifest.upload(tmp_path / "t", scene.url("t/"))):
            assert isinstance(outcome, TransferResult)
            await anyio.sleep(0.3)
            break
    assert len(scene.log("PutObject")) <= 2 * 4 + 1


@pytest.mark.parametrize("how", ["break", "error", "cancel", "aclosing", "engine"])
async def test_leaving_early_ends_the_rest_cleanly(scene: Scene, tmp_path: Path, how: str) -> None:
    """Uploads that were under way are aborted; the engine is good for more."""
    tree(tmp_path / "t", 6, 6 * MiB)
    (tmp_path / "t" / "a").write_bytes(b"small")
    gate = scene.aws.gate
    gate.faults.add(kind="delay", action="UploadPart", times=None, seconds=0.5)
    config = TransferConfig(multipart_threshold=5 * MiB, part_size=5 * MiB, max_concurrency=8)
    manifest = Manifest.upload(tmp_path / "t", scene.url("t/"))
    async with scene.engine(config=config) as s3:
        with anyio.CancelScope() as scope:
            try:
                if how == "aclosing":
                    async with aclosing(s3.transfer(manifest)) as outcomes:
                        async for _ in outcomes:
                            break
                    assert gate.open_uploads(scene.bucket) == []
                elif how == "engine":
                    kept = s3.transfer(manifest)
                    await anext(kept)
                else:
                    async for _ in s3.transfer(manifest):
                        if how == "break":
                            break
                        if how == "error":
                            raise ZeroDivisionError
                        scope.cancel()
                        await anyio.sleep(0)
            except ZeroDivisionError:
                assert how == "error"
        if how != "engine":
            with anyio.fail_after(10):
                while gate.open_uploads(scene.bucket):
                    await anyio.sleep(0.01)
            gate.faults.clear()
            await s3.upload(b"more", scene.url("more"))
    assert gate.open_uploads(scene.bucket) == []
    assert gate.list_keys(scene.bucket, "t/") == ["t/a"]
    if how == "engine":
        with pytest.raises(WrongLoop, match="closed before all objects were moved"):
            async for _ in kept:
                pass


async def test_what_stops_the_batch_comes_out_of_the_loop(scene: Scene, tmp_path: Path) -> None:
    async with scene.engine() as s3:
        with pytest.raises(UsageError, match="not a folder"):
            async for _ in s3.transfer(Manifest.upload(tmp_path / "none", scene.url("t/"))):
                pass
        assert [o async for o in s3.transfer(Manifest(entries=[]))] == []
    tree(tmp_path / "t", 3)
    scene.aws.gate.faults.add(
        kind="status", action="AssumeRole", times=None, status=403, code="AccessDenied"
    )
    async with scene.engine() as s3:
        with pytest.raises(CredentialsError):
            async for _ in s3.transfer(Manifest.upload(tmp_path / "t", scene.url("t/"))):
                pass
    with pytest.raises(WrongLoop):
        s3.transfer(Manifest(entries=[]))


def moved(events: list[Any]) -> dict[str, int]:
    """Bytes that were counted, by key."""
    found: dict[str, int] = {}
    for event in events:
        if isinstance(event, BytesMoved):
            found[event.url.key] = found.get(event.url.key, 0) + event.size
    return found


FAULTS: dict[str, tuple[dict[str, Any], ...]] = {
    "nothing": (),
    "requests that fail": (
        {"kind": "drop", "action": "PutObject", "at": 100},
        {"kind": "swallow", "action": "UploadPart"},
        {"kind": "status", "action": "UploadPart", "nth": 2, "status": 500},
        {"kind": "truncate", "action": "GetObject", "at": 100},
        {"kind": "status", "action": "GetObject", "nth": 2, "status": 503},
    ),
    "bits that flip": (
        {"kind": "flip", "action": "GetObject", "at": 5},
        {"kind": "flip", "action": "GetObject", "at": 5, "nth": 3},
    ),
}


@pytest.mark.parametrize("faults", FAULTS)
async def test_bytes_count_once_in_both_directions(
    scene: Scene, tmp_path: Path, faults: str
) -> None:
    """Whatever was sent or fetched again; and the total is known when the walk is over."""
    sizes = {"empty": 0, "small": 1000, "single": 300_000, "parts": 11 * MiB}
    folder = tmp_path / "up"
    folder.mkdir()
    for name, size in sizes.items():
        (folder / name).write_bytes(os.urandom(size))
    for fault in FAULTS[faults]:
        scene.aws.gate.faults.add(**fault)

    async def check(s3: Engine, manifest: Manifest) -> None:
        scene.events.clear()
        report = await s3.run(manifest)
        assert (report.objects, report.failed) == (4, [])
        assert moved(scene.events) == {f"t/{name}": size for name, size in sizes.items()}
        totals = [event for event in scene.events if isinstance(event, WalkDone)]
        assert totals == [WalkDone(4, sum(sizes.values()))]
        done = [event for event in scene.events if isinstance(event, ObjectDone)]
        assert sum(event.size for event in done) == report.bytes == sum(sizes.values())

    async with scene.engine(config=PARTS) as s3:
        await check(s3, Manifest.upload(folder, scene.url("t/")))
        await check(s3, Manifest.download(scene.url("t/"), tmp_path / "down"))


async def test_a_total_that_is_not_known_is_not_made_up(scene: Scene, tmp_path: Path) -> None:
    """Entries without sizes; those that cannot be moved count as objects."""
    scene.aws.gate.put_object(scene.bucket, "key", b"bytes")
    url = S3Url.parse(scene.url("key"))
    entries = [
        ManifestEntry("download", tmp_path / "a", url),
        ManifestEntry("download", tmp_path / "b", url, 5),
        ManifestEntry("download", tmp_path / "c", url, problem="cannot be"),
    ]
    async with scene.engine() as s3:
        await s3.run(Manifest(entries=entries))
        await s3.run(Manifest(entries=entries[1:]))
    totals = [event for event in scene.events if isinstance(event, WalkDone)]
    assert totals == [WalkDone(3, None), WalkDone(2, 5)]
    failed = [event for event in scene.events if isinstance(event, ObjectFailed)]
    assert [event.code for event in failed] == ["T100", "T100"]
