"""Streams of unknown length: upload_stream() and open_write()."""

from __future__ import annotations

import io
import os
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from engine import (
    MiB,
    S3Error,
    StoreLimits,
    TransferConfig,
    TransferError,
    UsageError,
)
from engine.options import ObjectOptions
from tests.integration.conftest import Scene

THRESHOLD = 10_485_760


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def check_nothing_is_left(scene: Scene) -> None:
    assert scene.aws.gate.list_keys(scene.bucket) == []
    assert scene.aws.gate.open_uploads(scene.bucket) == []


@pytest.mark.parametrize(
    ("size", "parts"),
    [(0, 1), (1, 1), (THRESHOLD, 1), (THRESHOLD + 1, 2), (16 * MiB, 2), (24 * MiB + 7, 4)],
)
async def test_a_stream_is_one_object_whatever_its_pieces(
    scene: Scene, size: int, parts: int
) -> None:
    data = os.urandom(size)
    async with scene.engine() as s3:
        for piece in (65_537, 20 * MiB):
            result = await s3.upload_stream(pieces(data, piece), scene.url("key"))
            assert (result.size, result.parts, result.verified) == (size, parts, True)
            assert scene.aws.gate.get_object(scene.bucket, "key") == data
            assert (await s3.head(scene.url("key"))).checksum == result.checksum
        same = await s3.upload(data, scene.url("file"))
        assert (same.checksum, same.parts) == (result.checksum, parts)
    assert scene.aws.gate.open_uploads(scene.bucket) == []


async def test_files_of_all_kinds_are_streams(scene: Scene, tmp_path: Path) -> None:
    data = os.urandom(11 * MiB)
    path = tmp_path / "file"
    path.write_bytes(data)
    async with scene.engine() as s3:
        with path.open("rb") as file:
            result = await s3.upload_stream(file, scene.url("sync"))
        assert (result.path, result.size) == (str(path), len(data))
        await s3.upload_stream(io.BytesIO(data), scene.url("memory"))
        async with await anyio.open_file(path, "rb") as async_file:
            await s3.upload_stream(async_file, scene.url("async"))
        async with s3.open_read(scene.url("sync")) as reader:
            await s3.upload_stream(reader, scene.url("again"))
        for key in scene.aws.gate.list_keys(scene.bucket):
            assert scene.aws.gate.get_object(scene.bucket, key) == data
        assert len(scene.aws.gate.list_keys(scene.bucket)) == 4


async def test_what_gives_no_bytes_is_refused(scene: Scene, tmp_path: Path) -> None:
    async def texts() -> AsyncIterator[str]:
        yield "text"

    async with scene.engine() as s3:
        for source in (texts(), io.StringIO("text"), [b"bytes"], 7, None):
            with pytest.raises(UsageError, match="no stream|not bytes"):
                await s3.upload_stream(source, scene.url("key"))  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="not bytes"):
            async with s3.open_write(scene.url("key")) as writer:
                await writer.write("text")  # type: ignore[arg-type]
    check_nothing_is_left(scene)


async def test_a_writer_takes_any_sizes_and_has_the_result_at_the_end(scene: Scene) -> None:
    async with scene.engine() as s3:
        options = ObjectOptions(content_type="text/plain", metadata={"by": "me"})
        async with s3.open_write(scene.url("log"), options=options) as writer:
            for number in range(1_000):
                await writer.write(f"line {number}\n".encode())
            await writer.write(memoryview(bytearray(12 * MiB)))
            await writer.write(b"")
            early = writer.result
        result = writer.result
        assert early is None and result is not None
        assert (result.parts, result.size) == (2, writer.bytes_taken)
        info = await s3.head(scene.url("log"))
        assert (info.size, dict(info.metadata)) == (12 * MiB + 8_890, {"by": "me"})
        with pytest.raises(UsageError, match="has ended"):
            await writer.write(b"late")


class Broken(Exception):
    pass


@pytest.mark.parametrize("size", [MiB, 30 * MiB])
async def test_an_error_of_the_source_leaves_nothing(scene: Scene, size: int) -> None:
    async def breaking() -> AsyncIterator[bytes]:
        async for piece in pieces(bytes(size), MiB):
            yield piece
        raise Broken

    async with scene.engine() as s3:
        with pytest.raises(Broken):
            await s3.upload_stream(breaking(), scene.url("key"))
        with pytest.raises(Broken):
            async with s3.open_write(scene.url("key")) as writer:
                await writer.write(bytes(size))
                raise Broken
    check_nothing_is_left(scene)


async def test_a_cancelled_stream_leaves_nothing(scene: Scene) -> None:
    async with scene.engine() as s3:
        with anyio.move_on_after(30) as scope:

            async def endless() -> AsyncIterator[bytes]:
                yield bytes(30 * MiB)
                scope.cancel()
                await anyio.sleep_forever()

            await s3.upload_stream(endless(), scene.url("key"))
        assert scope.cancelled_caught
        # A write that was cut short cannot be gone on from: nobody knows how much was taken.
        scene.aws.gate.faults.add(kind="delay", action="UploadPart", seconds=0.3, times=None)
        with pytest.raises(TransferError, match="hole"):
            async with s3.open_write(scene.url("key")) as writer:
                with anyio.move_on_after(0.05):
                    await writer.write(bytes(200 * MiB))
    check_nothing_is_left(scene)


async def test_a_part_that_fails_once_is_sent_again_from_its_buffer(scene: Scene) -> None:
    data = os.urandom(30 * MiB)
    scene.aws.gate.faults.add(kind="drop", action="UploadPart", nth=2, at=100_000)
    scene.aws.gate.faults.add(kind="status", action="UploadPart", nth=4)
    async with scene.engine() as s3:
        result = await s3.upload_stream(pieces(data, MiB), scene.url("key"))
    assert result.verified
    assert scene.aws.gate.get_object(scene.bucket, "key") == data


async def test_a_part_that_fails_for_good_ends_the_stream_while_its_source_waits(
    scene: Scene,
) -> None:
    closed = []

    async def waiting() -> AsyncIterator[bytes]:
        try:
            yield bytes(20 * MiB)
            await anyio.sleep_forever()
        finally:
            closed.append(True)

    scene.aws.gate.faults.add(
        kind="status", action="UploadPart", status=400, code="InvalidRequest", times=None
    )
    async with scene.engine() as s3:
        with anyio.fail_after(10), pytest.raises(S3Error, match="InvalidRequest"):
            await s3.upload_stream(waiting(), scene.url("key"))
        assert closed == [True]
        with pytest.raises(S3Error, match="InvalidRequest"):
            async with s3.open_write(scene.url("key")) as writer:
                for _ in range(100):
                    await writer.write(bytes(8 * MiB))
        assert writer.bytes_taken < 300 * MiB, "a write after the failure says so"
    check_nothing_is_left(scene)


async def test_a_wrong_sum_at_the_end_leaves_no_object(scene: Scene) -> None:
    scene.aws.gate.faults.add(
        kind="status", action="CompleteMultipartUpload", status=400, code="BadDigest", times=None
    )
    async with scene.engine() as s3:
        with pytest.raises(TransferError, match="another checksum"):
            await s3.upload_stream(pieces(bytes(12 * MiB), MiB), scene.url("key"))
    check_nothing_is_left(scene)


async def test_a_fast_source_is_held_back_by_memory(scene: Scene) -> None:
    """64 MiB of memory: a quarter of it for parts that are being sent, two here."""
    scene.aws.gate.faults.add(kind="delay", action="UploadPart", seconds=0.2, times=None)
    most = 0
    async with scene.engine(config=TransferConfig(max_memory=64 * MiB)) as s3:
        context = s3._ready().context
        async with s3.open_write(scene.url("key")) as writer:
            for _ in range(48):
                await writer.write(bytes(MiB))
                most = max(most, context.limiter.streams.statistics().memory)
        assert context.limiter.streams.statistics().memory == 0
    assert most == 16 * MiB


async def test_parts_grow_and_a_stream_that_outgrows_them_is_told_how_to_go_on(
    scene: Scene,
) -> None:
    few = StoreLimits("few", max_parts=4, max_part_size=6 * MiB, max_object_size=24 * MiB)
    config = TransferConfig(part_size=5 * MiB, limits=few, multipart_threshold=5 * MiB)
    async with scene.engine(config=config) as s3:
        result = await s3.upload_stream(pieces(bytes(22 * MiB), MiB), scene.url("fits"))
        assert result.parts == 4
        with pytest.raises(TransferError, match="expected_size"):
            await s3.upload_stream(pieces(bytes(24 * MiB), MiB), scene.url("key"))
        with pytest.raises(TransferError, match="longer than an object may be"):
            more = pieces(bytes(24 * MiB + 1), MiB)
            await s3.upload_stream(more, scene.url("key"), expected_size=24 * MiB)
        data = os.urandom(24 * MiB)
        result = await s3.upload_stream(pieces(data, MiB), scene.url("key"), expected_size=24 * MiB)
        assert (result.parts, result.size) == (4, 24 * MiB)
        assert scene.aws.gate.get_object(scene.bucket, "key") == data
        with pytest.raises(UsageError, match="the limit of few"):
            await s3.upload_stream(pieces(b"", 1), scene.url("key"), expected_size=25 * MiB)
    async with scene.engine() as s3:
        with pytest.raises(UsageError, match="max_memory"):
            await s3.upload_stream(pieces(b"", 1), scene.url("key"), expected_size=5 << 40)
    assert scene.aws.gate.open_uploads(scene.bucket) == []
