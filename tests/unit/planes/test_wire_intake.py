"""Bodies that reach their sink through a ring of buffers: over TLS, and where it is no file."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from pathlib import Path
from typing import final

import anyio
import pytest

from engine._wire.pieces import PIECE_SIZE
from engine._wire.rings import RING
from engine.errors import ConnectionFailed
from engine.protocols import ByteSink
from engine.types import ByteRange, MiB
from tests.unit.origin import Exchange, run_origin, serve_s3, silent
from tests.unit.planes.test_wire import CRC, PATH, SHORT, URL, data_of, plane_of, tls_plane
from tests.unit.planes.test_wire_downloads import HEAD, fetch

SIZE = 5 * MiB + 11


@final
class Collector(ByteSink):
    """Keeps what it is given; may be slow, and may fail at an offset."""

    def __init__(self, size: int, *, seconds: float = 0.0, fails_at: int = -1) -> None:
        self.data = bytearray(size)
        self.writes = 0
        self.threads: set[str] = set()
        self._seconds = seconds
        self._fails_at = fails_at

    def write_at(self, offset: int, view: memoryview) -> None:
        self.writes += 1
        self.threads.add(threading.current_thread().name)
        before = hashlib.sha256(view).digest()
        time.sleep(self._seconds)
        assert hashlib.sha256(view).digest() == before, "rewritten before it was written"
        if 0 <= self._fails_at <= offset:
            raise OSError(28, "No space left on device")
        self.data[offset : offset + len(view)] = view


async def test_tls_ranges_land_where_they_belong(tmp_path: Path) -> None:
    data, path = data_of(8 * MiB), tmp_path / "file"
    path.write_bytes(bytes(8 * MiB))
    async with tls_plane(tmp_path, trusted=True) as (origin, plane):
        origin.objects[PATH] = data

        async def one(start: int) -> None:
            crc = await fetch(plane, path, ByteRange(start, start + 2 * MiB), start)
            assert crc == CRC.update(data[start : start + 2 * MiB])

        for _ in range(2):
            await asyncio.gather(*(one(n * 2 * MiB) for n in range(4)))
            assert path.read_bytes() == data
        # One that is free is taken before the others are open: fewer may have done it all.
        assert origin.connections <= 4
        assert "lent=0" in repr(plane)


@pytest.mark.parametrize("size", [PIECE_SIZE, PIECE_SIZE + 1, RING * PIECE_SIZE, SIZE])
async def test_every_size_arrives_whole(size: int) -> None:
    data = data_of(size)
    async with run_origin() as origin, plane_of(origin) as plane:
        origin.objects[PATH] = data
        sink = Collector(size)
        receipt = await plane.get_range(URL, sink, 0, range=None, etag=None, algorithm=CRC)
        assert (bytes(sink.data), receipt.crc) == (data, CRC.update(data))


async def test_a_slow_sink_is_no_silent_server() -> None:
    """It is slower than any limit, and the loop does not wait for it."""
    data = data_of(SIZE)

    async def counting(exchange: Exchange) -> None:
        await exchange.send(HEAD % SIZE)
        for start in range(0, SIZE, 64 * 1024):
            await exchange.send(data[start : min(start + 64 * 1024, SIZE)])

    async with run_origin() as origin, plane_of(origin, SHORT) as plane:
        origin.script.append(counting)
        sink = Collector(SIZE, seconds=0.2)
        receipt = await plane.get_range(URL, sink, 0, range=None, etag=None, algorithm=CRC)
        assert (bytes(sink.data), receipt.crc) == (data, CRC.update(data))
        assert sink.threads == {"s3engine-rings"}


async def test_an_error_of_the_sink_ends_the_request() -> None:
    async with run_origin() as origin, plane_of(origin) as plane:
        origin.objects[PATH] = data_of(SIZE)
        sink = Collector(SIZE, fails_at=MiB)
        with pytest.raises(OSError, match="No space left"):
            await plane.get_range(URL, sink, 0, range=None, etag=None, algorithm=CRC)
        assert "busy=0" in repr(plane) and "lent=0" in repr(plane)
        assert sink.writes <= 5  # nothing behind the error


@pytest.mark.parametrize("close", [True, False])
async def test_a_body_that_breaks_off_is_an_error(close: bool) -> None:
    async def short(exchange: Exchange) -> None:
        await exchange.send(HEAD % SIZE + bytes(MiB))
        if not close:
            await silent(exchange)
        exchange.close = True

    async with run_origin() as origin, plane_of(origin, SHORT) as plane:
        origin.script.append(short)
        with pytest.raises(ConnectionFailed, match="short" if close else "timed out"):
            await plane.get_range(URL, Collector(SIZE), 0, range=None, etag=None, algorithm=CRC)
        assert "busy=0" in repr(plane) and "lent=0" in repr(plane)


async def test_a_cancelled_body_is_not_written_on() -> None:
    """When the cancellation has come through the writer has let go of the sink."""

    async def endless(exchange: Exchange) -> None:
        await exchange.send(HEAD % (1 << 40))
        while True:
            await exchange.send(bytes(MiB))

    async with run_origin() as origin, plane_of(origin) as plane:
        origin.script.append(endless)
        sink = Collector(SIZE, seconds=0.05)
        with anyio.move_on_after(0.1) as scope:
            await plane.get_range(URL, sink, 0, range=None, etag=None, algorithm=CRC)
        assert scope.cancelled_caught
        written = sink.writes
        await anyio.sleep(0.1)
        assert sink.writes == written
        assert "busy=0" in repr(plane) and "lent=0" in repr(plane)
        origin.script.append(serve_s3)
        origin.objects[PATH] = data_of(SIZE)
        good = Collector(SIZE)
        await plane.get_range(URL, good, 0, range=None, etag=None, algorithm=CRC)
        assert good.data == data_of(SIZE)
