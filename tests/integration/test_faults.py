"""What goes wrong between here and S3, and what is left afterwards: nothing wrong."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import anyio
import pytest

from engine import (
    AccessDenied,
    ChecksumMismatch,
    CredentialsError,
    EngineError,
    Manifest,
    MiB,
    NotFound,
    ObjectChanged,
    SourceChanged,
    TransferConfig,
    TransferError,
)
from engine.errors import RedirectRefused
from engine.events import Retried
from tests.integration.conftest import Scene

PARTS = TransferConfig(
    multipart_threshold=5 * MiB, multipart_download_threshold=5 * MiB, part_size=5 * MiB
)


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_an_object_overwritten_between_two_ranges_is_an_error(
    scene: Scene, tmp_path: Path
) -> None:
    gate = scene.aws.gate
    gate.put_object(scene.bucket, "torn", b"a" * (16 * MiB))
    gate.faults.add(
        kind="call",
        action="GetObject",
        nth=2,
        call=lambda: gate.put_object(scene.bucket, "torn", b"b" * (16 * MiB)),
    )
    target = tmp_path / "torn"
    async with scene.engine(config=PARTS) as s3:
        with pytest.raises(ObjectChanged, match="overwritten while it was read"):
            await s3.download(scene.url("torn"), target)
    assert left_in(tmp_path) == []


async def test_a_file_that_is_replaced_stays_until_the_new_one_is_whole(
    scene: Scene, tmp_path: Path
) -> None:
    scene.aws.gate.put_object(scene.bucket, "new", os.urandom(6 * MiB))
    scene.aws.gate.faults.add(kind="status", action="GetObject", nth=2, status=403, times=None,
                              code="AccessDenied")  # fmt: skip
    target = tmp_path / "file"
    target.write_text("old")
    target.chmod(0o640)
    async with scene.engine(config=PARTS) as s3:
        with pytest.raises(AccessDenied):
            await s3.download(scene.url("new"), target)
        assert target.read_text() == "old"
        assert left_in(tmp_path) == ["file"]
        scene.aws.gate.faults.clear()
        await s3.download(scene.url("new"), target)
    assert target.read_bytes() == scene.aws.gate.get_object(scene.bucket, "new")
    assert target.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("action", "operation"),
    [
        ("PutObject", "put"),
        ("UploadPart", "parts"),
        ("CreateMultipartUpload", "parts"),
        ("CompleteMultipartUpload", "parts"),
        ("HeadObject", "get"),
        ("GetObject", "get"),
        ("ListObjectsV2", "list"),
        ("DeleteObjects", "delete"),
    ],
)
async def test_a_redirect_is_never_followed(
    scene: Scene, tmp_path: Path, other_host: Any, action: str, operation: str
) -> None:
    scene.aws.gate.put_object(scene.bucket, "there", b"bytes")
    scene.aws.gate.faults.add(
        kind="redirect", action=action, location=f"{other_host.endpoint}/x", times=None
    )

    async def run() -> None:
        async with scene.engine(config=PARTS) as s3:
            if operation == "put":
                await s3.upload(b"bytes", scene.url("key"))
            elif operation == "parts":
                await s3.upload(os.urandom(5 * MiB + 1), scene.url("key"))
            elif operation == "get":
                await s3.download(scene.url("there"), tmp_path / "there")
            elif operation == "list":
                [info async for info in s3.list(scene.url(""))]
            else:
                await s3.delete([scene.url("there")])

    with pytest.raises(RedirectRefused, match="redirect"):
        await run()
    assert other_host.requests == []
    assert left_in(tmp_path) == []
    scene.aws.gate.faults.clear()
    assert scene.aws.gate.open_uploads(scene.bucket) == []


async def test_a_redirect_of_sts_is_never_followed(scene: Scene, other_host: Any) -> None:
    scene.aws.gate.faults.add(
        kind="redirect", action="AssumeRole", location=f"{other_host.endpoint}/x", times=None
    )
    async with scene.engine() as s3:
        with pytest.raises(CredentialsError, match="redirect"):
            await s3.upload(b"bytes", scene.url("key"))
    assert other_host.requests == []


@pytest.mark.parametrize("kind", ["status", "drop", "swallow"])
@pytest.mark.parametrize(
    "action", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "PutObject"]
)
async def test_a_passing_fault_of_an_upload_is_survived(
    scene: Scene, action: str, kind: Any
) -> None:
    scene.aws.gate.faults.add(kind=kind, action=action)
    data = os.urandom(11 * MiB) if action != "PutObject" else os.urandom(1000)
    async with scene.engine(config=PARTS) as s3:
        result = await s3.upload(data, scene.url("key"))
        assert result.verified
    assert scene.aws.gate.get_object(scene.bucket, "key") == data
    if (action, kind) != ("CreateMultipartUpload", "swallow"):
        # Of an upload whose id was lost nobody can know; a journal will.
        assert scene.aws.gate.open_uploads(scene.bucket) == []


@pytest.mark.parametrize("kind", ["status", "drop", "truncate", "flip"])
@pytest.mark.parametrize("size", [1000, 11 * MiB])
async def test_a_passing_fault_of_a_download_is_survived(
    scene: Scene, tmp_path: Path, kind: Any, size: int
) -> None:
    data = os.urandom(size)
    scene.aws.gate.put_object(scene.bucket, "key", data)
    scene.aws.gate.faults.add(kind=kind, action="GetObject", at=500)
    async with scene.engine(config=PARTS) as s3:
        result = await s3.download(scene.url("key"), tmp_path / "key")
    assert (tmp_path / "key").read_bytes() == data
    assert left_in(tmp_path) == ["key"]
    assert kind != "flip" or result.verified


@pytest.mark.parametrize("size", [1000, 11 * MiB])
async def test_a_lasting_flip_is_named_and_no_file_appears(
    scene: Scene, tmp_path: Path, size: int
) -> None:
    scene.aws.gate.put_object(scene.bucket, "key", os.urandom(size))
    async with scene.engine(config=PARTS) as s3:
        info = await s3.head(scene.url("key"))
        if info.checksum is None:  # written behind the gate: it keeps no checksum of it
            await s3.upload(os.urandom(size), scene.url("key"))
        scene.aws.gate.faults.add(kind="flip", action="GetObject", at=500, times=None)
        with pytest.raises(ChecksumMismatch, match="S3 stores crc64nvme"):
            await s3.download(scene.url("key"), tmp_path / "key")
    assert left_in(tmp_path) == []


async def test_no_part_is_left_after_a_failure(scene: Scene) -> None:
    scene.aws.gate.faults.add(
        kind="status", action="UploadPart", nth=2, times=None, status=403, code="AccessDenied"
    )
    async with scene.engine(config=PARTS) as s3:
        with pytest.raises(AccessDenied):
            await s3.upload(os.urandom(26 * MiB), scene.url("key"))
    assert scene.aws.gate.open_uploads(scene.bucket) == []
    assert scene.aws.gate.list_keys(scene.bucket) == []


async def test_no_part_is_left_after_a_cancellation(scene: Scene) -> None:
    scene.aws.gate.faults.add(kind="delay", action="UploadPart", seconds=3, nth=2, times=None)
    async with scene.engine(config=PARTS) as s3, anyio.create_task_group() as tasks:
        tasks.start_soon(s3.upload, os.urandom(26 * MiB), scene.url("key"))
        with anyio.fail_after(20):
            while not scene.log("UploadPart"):  # the first part is there, the others are on the way
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    assert len(scene.log("CreateMultipartUpload")) == 1
    assert scene.aws.gate.open_uploads(scene.bucket) == []
    assert scene.aws.gate.list_keys(scene.bucket) == []


async def test_no_part_is_left_after_the_session_was_revoked(scene: Scene) -> None:
    """The abort is made under a fresh session."""
    scene.aws.gate.faults.add(
        kind="call",
        action="UploadPart",
        nth=2,
        call=lambda: scene.aws.gate.expire_sessions(scene.role),
    )
    scene.aws.gate.faults.add(
        kind="status", action="UploadPart", nth=3, times=None, status=400, code="InvalidPart"
    )
    async with scene.engine(config=PARTS) as s3:
        with pytest.raises(TransferError):
            await s3.upload(os.urandom(26 * MiB), scene.url("key"))
    assert scene.aws.gate.open_uploads(scene.bucket) == []


async def test_a_source_that_changes_is_not_published(scene: Scene, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"a" * (16 * MiB))

    def grow() -> None:
        with source.open("ab") as file:
            file.write(b"more")

    scene.aws.gate.faults.add(kind="call", action="UploadPart", nth=2, call=grow)
    async with scene.engine(config=PARTS) as s3:
        with pytest.raises(SourceChanged, match="changed while it was uploaded"):
            await s3.upload(source, scene.url("key"))
    assert scene.aws.gate.list_keys(scene.bucket) == []
    assert scene.aws.gate.open_uploads(scene.bucket) == []


async def test_slow_down_is_obeyed_and_told(scene: Scene) -> None:
    scene.aws.gate.faults.add(
        kind="status", action="PutObject", times=2, status=503, code="SlowDown"
    )
    async with scene.engine() as s3:
        await s3.upload(b"x", scene.url("key"))
    retried = [event for event in scene.events if isinstance(event, Retried)]
    assert [event.error for event in retried] == ["SlowDown", "SlowDown"]


async def test_for_ever_slow_down_ends_and_says_so(scene: Scene) -> None:
    scene.aws.gate.faults.add(
        kind="status", action="PutObject", times=None, status=503, code="SlowDown"
    )
    async with scene.engine() as s3:
        with pytest.raises(EngineError, match="SlowDown"):
            await s3.upload(b"x", scene.url("key"))
    assert len(scene.log("PutObject")) == 8


async def test_what_is_not_there_is_said_at_once(scene: Scene, tmp_path: Path) -> None:
    async with scene.engine() as s3:
        with pytest.raises(NotFound):
            await s3.download(scene.url("nothing"), tmp_path / "nothing")
        with pytest.raises(NotFound):
            await s3.upload(b"x", "s3://no-such-bucket-anywhere/key")
    assert len(scene.log("HeadObject")) == 1
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("kind", ["status", "expired", "drop", "error_in_200"])
async def test_a_page_of_a_listing_is_asked_for_again(
    scene: Scene, tmp_path: Path, kind: Any
) -> None:
    scene.aws.gate.put_object(scene.bucket, "t/key", b"bytes")
    scene.aws.gate.faults.add(kind=kind, action="ListObjectsV2", code="InternalError")
    async with scene.engine() as s3:
        report = await s3.run(Manifest.download(scene.url("t/"), tmp_path / "t"))
    assert (report.objects, report.failed) == (1, [])


async def test_an_engine_that_is_cancelled_aborts_under_a_fresh_lease(scene: Scene) -> None:
    """The broker outlives the cancellation for as long as there is something to clean up."""
    scene.aws.gate.bandwidth = 4 * MiB
    with anyio.CancelScope() as scope:
        async with scene.engine() as s3:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(s3.upload, bytes(30 * MiB), scene.url("key"))
                while not scene.aws.gate.open_uploads(scene.bucket):
                    await anyio.sleep(0.01)
                scene.aws.gate.expire_sessions(scene.role)
                scope.cancel()
    assert scope.cancelled_caught
    assert scene.aws.gate.open_uploads(scene.bucket) == []
    assert len(scene.log("AssumeRole")) == 2


async def test_an_upload_begun_by_a_cancelled_request_is_aborted(scene: Scene) -> None:
    scene.aws.gate.faults.add(kind="delay", action="CreateMultipartUpload", seconds=0.6)
    async with scene.engine(config=PARTS) as s3:
        await s3.upload(b"warm", scene.url("warm"))
        with anyio.move_on_after(0.3):
            await s3.upload(os.urandom(6 * MiB), scene.url("key"))
    assert len(scene.log("CreateMultipartUpload")) == 1
    assert scene.aws.gate.open_uploads(scene.bucket) == []


async def test_a_hook_that_fails_stops_nothing(scene: Scene, tmp_path: Path) -> None:
    def hook(event: object) -> None:
        raise BrokenPipeError

    async with scene.engine(hook=hook) as s3:
        await s3.upload(b"bytes", scene.url("key"))
        await s3.download(scene.url("key"), tmp_path / "key")
    assert (tmp_path / "key").read_bytes() == b"bytes"


async def test_opening_under_a_cancelled_scope_is_just_cancelled(scene: Scene) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with scene.engine():
            raise AssertionError("it was opened")
    assert scope.cancelled_caught
