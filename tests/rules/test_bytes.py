"""Rules 22 to 25: bytes that the kernel moves, and bytes that are lent."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from engine.errors import ConnectionFailed, SourceChanged
from engine.transfer.sinks import FileSink
from engine.transfer.sources import FileSource
from engine.types import ByteRange, MiB, UploadId
from tests.rules.conftest import Open
from tests.unit.origin import Exchange, says
from tests.unit.planes.test_wire import CRC, PATH, URL, data_of

BIG = data_of(5 * MiB + 11)


@pytest.fixture
def target(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "target", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


def head_of(length: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nETag: x\r\nContent-Length: %d\r\n\r\n" % length


@pytest.mark.parametrize("with_head", [0, 1, 1000, 100_000, len(BIG)])
async def test_rule_22_what_came_with_the_head_is_not_lost(
    wire: Open, target: int, with_head: int
) -> None:
    """However much of the body comes with the head, and whatever follows on the connection."""

    async def script(exchange: Exchange) -> None:
        await exchange.send(head_of(len(BIG)) + BIG[:with_head])
        await asyncio.sleep(0.01)
        await exchange.send(BIG[with_head:])

    async with wire() as s3:
        s3.origin.script.extend([script, script])
        for _ in range(2):
            os.ftruncate(target, 0)
            receipt = await s3.plane.get_range(
                URL, FileSink(target), 0, range=None, etag=None, algorithm=CRC
            )
            assert os.pread(target, len(BIG) + 1, 0) == BIG
            assert receipt.crc == CRC.update(BIG)
        assert s3.origin.connections == 1


async def test_rule_22_never_more_than_the_body(wire: Open, target: int) -> None:
    """Bytes behind the body do not land in the file, and cost the connection."""
    async with wire() as s3:
        s3.origin.script.append(says(head_of(len(BIG)) + BIG + b"STRAY" * 1000))
        s3.origin.objects[PATH] = BIG
        for asked in range(2):
            receipt = await s3.plane.get_range(
                URL, FileSink(target), 7, range=None, etag=None, algorithm=CRC
            )
            assert receipt.crc == CRC.update(BIG)
            assert os.fstat(target).st_size == len(BIG) + 7
            assert s3.origin.connections == asked + 1


async def test_rule_22_a_connection_that_ends_behind_the_body_has_given_all_of_it(
    wire: Open, target: int
) -> None:
    """Closed while the last bytes are still on their way to the file."""

    async def script(exchange: Exchange) -> None:
        await exchange.send(head_of(len(BIG)).replace(b"ETag", b"Connection: close\r\nETag") + BIG)
        exchange.writer.close()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(5):
                await exchange.writer.wait_closed()
        exchange.close = True

    async with wire() as s3:
        s3.origin.script.extend([script] * 3)
        for _ in range(3):
            os.ftruncate(target, 0)
            await s3.plane.get_range(URL, FileSink(target), 0, range=None, etag=None, algorithm=CRC)
            assert os.pread(target, len(BIG) + 1, 0) == BIG
        assert s3.idle() == 0


async def test_rule_22_ranges_land_where_they_belong(wire: Open, target: int) -> None:
    """Many at once on few connections: nothing of one is left in the way of another."""
    async with wire(max_connections=3) as s3:
        s3.origin.objects[PATH] = BIG
        step = 300_001

        async def fetch(start: int) -> None:
            span = ByteRange(start, min(start + step, len(BIG)))
            receipt = await s3.plane.get_range(
                URL, FileSink(target), start, range=span, etag='"e1"', algorithm=CRC
            )
            assert receipt.crc == CRC.update(BIG[span.start : span.stop])

        await asyncio.gather(*(fetch(start) for start in range(0, len(BIG), step)))
        assert os.pread(target, len(BIG) + 1, 0) == BIG
        assert s3.origin.connections == 3


async def test_rule_22_a_cut_body_leaves_a_connection_that_nobody_gets(
    wire: Open, target: int
) -> None:
    async with wire() as s3:
        s3.origin.script.append(says(head_of(len(BIG)) + BIG[:-1], close=True))
        with pytest.raises(ConnectionFailed):
            await s3.plane.get_range(URL, FileSink(target), 0, range=None, etag=None, algorithm=CRC)
        s3.origin.objects[PATH] = BIG
        await s3.plane.get_range(URL, FileSink(target), 0, range=None, etag=None, algorithm=CRC)
        assert os.pread(target, len(BIG), 0) == BIG


@pytest.mark.parametrize("left", [0, 1000, 2 * MiB])
async def test_rule_23_a_file_that_shrinks_is_named_and_not_padded(
    wire: Open, tmp_path: Path, left: int
) -> None:
    path = tmp_path / "source"
    path.write_bytes(data_of(24 * MiB))

    async def cut(exchange: Exchange) -> None:
        os.truncate(path, left)
        await exchange.read_body()

    async with wire() as s3:
        s3.origin.script.append(cut)
        with FileSource(path) as source, pytest.raises(SourceChanged) as caught:
            await s3.plane.put_object(URL, source, CRC)
        assert str(path) in str(caught.value)
        assert PATH not in s3.origin.objects
        assert s3.idle() == 0


async def test_rule_24_a_file_that_others_cut_does_not_kill_the_process(
    wire: Open, tmp_path: Path
) -> None:
    """A mapped file would: SIGBUS. Cut at any time between the sum and the last byte."""
    path = tmp_path / "source"
    async with wire() as s3:
        for moment in (0.0, 0.002, 0.01):
            path.write_bytes(data_of(8 * MiB))
            asyncio.get_running_loop().call_later(moment, os.truncate, path, 1)
            with FileSource(path) as source:
                try:
                    await s3.plane.upload_part(URL, UploadId("u"), 1, source, 0, 8 * MiB, CRC)
                except SourceChanged:
                    continue


async def test_rule_25_a_lent_buffer_is_not_rewritten_before_it_is_flushed(
    wire: Open, tmp_path: Path
) -> None:
    """The reader stops in the middle while our buffers are wanted for the next pieces."""
    path = tmp_path / "source"
    path.write_bytes(BIG * 4)
    sizes = len(BIG) * 4

    async def slow(exchange: Exchange) -> None:
        body = bytearray()
        while len(body) < sizes:
            body += await exchange.reader.read(200_000)
            await asyncio.sleep(0.002)
        exchange.origin.objects[exchange.request.target] = bytes(body)
        await exchange.answer(200, ETag='"e"')

    async with wire() as s3:
        s3.origin.script.extend([slow, slow])

        async def send(number: int) -> None:
            with FileSource(path) as source:
                await s3.plane.upload_part(URL, UploadId("u"), number, source, 0, sizes, CRC)

        await asyncio.gather(send(1), send(2))
        assert len(s3.origin.objects) == 2
        for body in s3.origin.objects.values():
            assert body == BIG * 4
