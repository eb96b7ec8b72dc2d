"""Conditional writes: refused by name, and never refused because of what we wrote ourselves."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest

from engine import (
    EngineError,
    Manifest,
    MiB,
    ObjectChanged,
    ObjectExists,
    ObjectOptions,
    S3Error,
    TransferConfig,
)
from engine.events import BytesMoved
from tests.integration.conftest import Scene

PARTS = TransferConfig(multipart_threshold=5 * MiB, part_size=5 * MiB)
NEW = ObjectOptions(if_none_match=True)
SIZES = [100, 6 * MiB]
WRITES = {100: "PutObject", 6 * MiB: "CompleteMultipartUpload"}


@pytest.mark.parametrize("size", SIZES)
async def test_an_object_that_is_there_is_not_replaced(scene: Scene, size: int) -> None:
    scene.aws.gate.put_object(scene.bucket, "key", b"old")
    async with scene.engine(config=PARTS) as s3:
        with pytest.raises(ObjectExists, match=r"exists and was not to be replaced.*Delete it"):
            await s3.upload(bytes(size), scene.url("key"), options=NEW)
        await s3.upload(bytes(size), scene.url("new"), options=NEW)
    assert scene.aws.gate.get_object(scene.bucket, "key") == b"old"
    assert scene.aws.gate.open_uploads(scene.bucket) == []
    writes = [entry for entry in scene.log(WRITES[size]) if entry.key == "key"]
    assert len(writes) == 1, "a refusal was asked for again"


@pytest.mark.parametrize("size", SIZES)
async def test_only_the_object_that_was_named_is_replaced(scene: Scene, size: int) -> None:
    """ETags are taken with their quotes and without; one that is gone is no match either."""
    async with scene.engine(config=PARTS) as s3:
        first = await s3.upload(b"first", scene.url("key"))
        quoted = ObjectOptions(if_match=first.etag)
        bare = ObjectOptions(if_match=first.etag.strip('"'))
        second = await s3.upload(os.urandom(size), scene.url("key"), options=quoted)
        for options in (quoted, bare):
            with pytest.raises(ObjectChanged, match="is another object by now"):
                await s3.upload(os.urandom(size), scene.url("key"), options=options)
        assert (await s3.head(scene.url("key"))).etag == second.etag
        again = ObjectOptions(if_match=second.etag.strip('"'))
        await s3.upload(bytes(size), scene.url("key"), options=again)
        with pytest.raises(EngineError, match="does not exist") as gone:
            await s3.upload(bytes(100), scene.url("nothing"), options=quoted)
        assert isinstance(gone.value, ObjectChanged)
    assert scene.aws.gate.get_object(scene.bucket, "key") == bytes(size)
    assert scene.aws.gate.open_uploads(scene.bucket) == []


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("fault", [{"kind": "swallow"}, {"kind": "swallow", "times": 2}])
@pytest.mark.parametrize("condition", ["none", "match"])
@pytest.mark.parametrize("checksum", ["crc64nvme", "none"])
async def test_our_own_write_is_no_obstacle(
    scene: Scene, tmp_path: Path, size: int, fault: Any, condition: str, checksum: str
) -> None:
    """The answer to the first try is lost; the second meets the object that the first has made."""
    config = TransferConfig(multipart_threshold=5 * MiB, part_size=5 * MiB, checksum=checksum)
    source = tmp_path / "source"
    source.write_bytes(os.urandom(size))
    async with scene.engine(config=config) as s3:
        options = NEW
        if condition == "match":
            old = await s3.upload(b"old", scene.url("key"))
            options = ObjectOptions(if_match=old.etag)
        scene.aws.gate.log.clear()
        scene.aws.gate.faults.add(action=WRITES[size], **fault)
        result = await s3.upload(source, scene.url("key"), options=options)
        info = await s3.head(scene.url("key"))
    assert (result.etag, result.size) == (info.etag, size)
    assert scene.aws.gate.get_object(scene.bucket, "key") == source.read_bytes()
    assert len(scene.log(WRITES[size])) >= 2


@pytest.mark.parametrize(("kind", "size"), [("drop", 100), ("drop", 6 * MiB), ("swallow", 100)])
async def test_somebody_elses_object_is_not_taken_for_ours(
    scene: Scene, size: int, kind: Any
) -> None:
    """Another writer comes between a lost answer and the try after it."""
    other = bytes(size)  # as long as ours
    gate = scene.aws.gate
    gate.faults.add(kind=kind, action=WRITES[size])
    gate.faults.add(
        kind="call", action=WRITES[size], nth=2,
        call=lambda: gate.put_object(scene.bucket, "key", other),
    )  # fmt: skip
    async with scene.engine(config=PARTS) as s3:
        with pytest.raises(EngineError) as refused:
            await s3.upload(os.urandom(size), scene.url("key"), options=NEW)
    assert isinstance(refused.value, ObjectExists | S3Error)
    assert gate.get_object(scene.bucket, "key") == other
    assert gate.open_uploads(scene.bucket) == []


async def test_a_conflict_at_put_is_tried_again(scene: Scene) -> None:
    scene.aws.gate.faults.add(
        kind="status", action="PutObject", times=2, status=409, code="ConditionalRequestConflict"
    )
    async with scene.engine() as s3:
        await s3.upload(b"bytes", scene.url("key"), options=NEW)
    assert len(scene.log("PutObject")) == 3


async def test_a_conflict_at_complete_sends_all_parts_anew(scene: Scene) -> None:
    """AWS: begin again with CreateMultipartUpload. The bytes count once."""
    scene.aws.gate.faults.add(
        kind="status", action="CompleteMultipartUpload", status=409,
        code="ConditionalRequestConflict",
    )  # fmt: skip
    data = os.urandom(6 * MiB)
    async with scene.engine(config=PARTS) as s3:
        await s3.upload(data, scene.url("key"), options=NEW)
    assert scene.aws.gate.get_object(scene.bucket, "key") == data
    assert scene.aws.gate.open_uploads(scene.bucket) == []
    counts = {a: len(scene.log(a)) for a in ("CreateMultipartUpload", "UploadPart")}
    assert counts == {"CreateMultipartUpload": 2, "UploadPart": 4}
    moved = [event.size for event in scene.events if isinstance(event, BytesMoved)]
    assert sum(moved) == len(data)


@pytest.mark.parametrize("size", SIZES)
async def test_a_stream_is_written_where_nothing_is(scene: Scene, size: int) -> None:
    """A stream cannot be sent again, so a conflict at its end ends it."""
    scene.aws.gate.put_object(scene.bucket, "old", b"old")
    async with scene.engine(config=PARTS) as s3:
        with pytest.raises(ObjectExists):
            await s3.upload_stream(io.BytesIO(bytes(size)), scene.url("old"), options=NEW)
        scene.aws.gate.faults.add(
            kind="status", action="CompleteMultipartUpload", status=409,
            code="ConditionalRequestConflict",
        )  # fmt: skip
        if size > MiB:
            with pytest.raises(S3Error, match=r"ConditionalRequestConflict.*send it again"):
                await s3.upload_stream(io.BytesIO(bytes(size)), scene.url("new"), options=NEW)
        await s3.upload_stream(io.BytesIO(bytes(size)), scene.url("new"), options=NEW)
    assert scene.aws.gate.open_uploads(scene.bucket) == []
    assert scene.aws.gate.get_object(scene.bucket, "old") == b"old"


async def test_conflicts_without_end_end(scene: Scene) -> None:
    scene.aws.gate.faults.add(
        kind="status", action="CompleteMultipartUpload", times=None, status=409,
        code="ConditionalRequestConflict",
    )  # fmt: skip
    async with scene.engine(config=PARTS) as s3:
        with pytest.raises(S3Error, match="ConditionalRequestConflict"):
            await s3.upload(bytes(6 * MiB), scene.url("key"), options=NEW)
    assert len(scene.log("CreateMultipartUpload")) == 3
    assert scene.aws.gate.open_uploads(scene.bucket) == []


async def test_who_may_not_look_is_told_that_it_may_be_their_own(scene: Scene) -> None:
    role = scene.role_with("writer", allow=[("s3:PutObject", "*")])
    scene.aws.gate.faults.add(kind="swallow", action="PutObject")
    from engine import RoleSpec

    async with scene.engine(role=RoleSpec(role)) as s3:
        with pytest.raises(ObjectExists) as refused:
            await s3.upload(b"bytes", scene.url("key"), options=NEW)
    assert "an earlier try was lost" in refused.value.__notes__[0]


@pytest.mark.parametrize("size", SIZES)
async def test_what_is_gone_again_is_refused_by_name(scene: Scene, size: int) -> None:
    """Not by the answer to the look; and a look that fails is repeated by itself."""
    faults = scene.aws.gate.faults
    faults.add(kind="swallow", action=WRITES[size])
    faults.add(kind="status", action=WRITES[size], nth=2, status=412, code="PreconditionFailed")
    faults.add(kind="drop", action="HeadObject")
    faults.add(kind="status", action="HeadObject", nth=2, status=404, code="NoSuchKey")
    async with scene.engine(config=PARTS) as s3:
        with pytest.raises(ObjectExists):
            await s3.upload(bytes(size), scene.url("key"), options=NEW)
    assert len(scene.log(WRITES[size])) == 2


async def test_a_tree_goes_up_where_nothing_is_yet(scene: Scene, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(name.encode())
    scene.aws.gate.put_object(scene.bucket, "t/a", b"old")
    async with scene.engine(options=NEW) as s3:
        report = await s3.run(Manifest.upload(tmp_path, scene.url("t/")))
    assert [type(failure.error) for failure in report.failed] == [ObjectExists]
    assert scene.aws.gate.get_object(scene.bucket, "t/a") == b"old"
    assert scene.aws.gate.get_object(scene.bucket, "t/b") == b"b"
