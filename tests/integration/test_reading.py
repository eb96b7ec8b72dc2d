"""open_read(): an object as a stream."""

from __future__ import annotations

import os

import anyio
import pytest

from engine import ByteRange, ChecksumMismatch, MiB
from tests.integration.conftest import Scene


async def test_a_stream_is_the_object_in_order_and_is_verified(scene: Scene) -> None:
    data = os.urandom(13 * MiB + 5)
    async with scene.engine() as s3:
        await s3.upload(data, scene.url("key"))
        async with s3.open_read(scene.url("key")) as reader:
            assert reader.info.size == len(data)
            assert b"".join([piece async for piece in reader]) == data
        async with s3.open_read(scene.url("key"), ByteRange(10, 5 * MiB)) as reader:
            assert await reader.read() == data[10 : 5 * MiB]
        await s3.upload(b"", scene.url("empty"))
        async with s3.open_read(scene.url("empty")) as reader:
            assert await reader.read() == b""


async def test_a_slow_reader_holds_little(scene: Scene) -> None:
    scene.aws.gate.put_object(scene.bucket, "big", bytes(100 * MiB))
    async with scene.engine() as s3, s3.open_read(scene.url("big")) as reader:
        async for _ in reader:
            await anyio.sleep(0.5)
            break
    asked = len(scene.log("GetObject"))
    assert asked <= 12, f"{asked} pieces of 4 MiB were asked for"


async def test_a_flipped_bit_is_told_at_the_end(scene: Scene) -> None:
    async with scene.engine() as s3:
        await s3.upload(os.urandom(5 * MiB), scene.url("key"))
        scene.aws.gate.faults.add(kind="flip", action="GetObject", at=7, times=None)
        async with s3.open_read(scene.url("key")) as reader:
            with pytest.raises(ChecksumMismatch):
                await reader.read()


async def test_the_readers_own_error_comes_out_as_it_is(scene: Scene) -> None:
    scene.aws.gate.put_object(scene.bucket, "key", bytes(9 * MiB))
    async with scene.engine() as s3:
        with pytest.raises(ZeroDivisionError):
            async with s3.open_read(scene.url("key")) as reader:
                async for _ in reader:
                    raise ZeroDivisionError


async def test_reading_goes_on_where_it_was_left_and_is_still_verified(scene: Scene) -> None:
    data = os.urandom(9 * MiB)
    async with scene.engine() as s3:
        await s3.upload(data, scene.url("key"))
        async with s3.open_read(scene.url("key")) as reader:
            first = b""
            async for piece in reader:
                first = piece
                break
            assert first + await reader.read() == data
