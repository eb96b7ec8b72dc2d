"""Bodies that are read ahead into a ring: over TLS, and from sources that are no file."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path
from typing import final

import anyio
import pytest

from engine._wire.connection import Connection
from engine._wire.pieces import PIECE_SIZE
from engine.errors import ConnectionFailed, ProtocolError, S3Error, SourceChanged, TransferError
from engine.protocols import ByteSource
from engine.transfer.sources import FileSource
from engine.types import MiB, UploadId
from tests.unit.origin import Exchange, error_xml, run_origin
from tests.unit.planes.test_wire import CRC, PATH, SHORT, URL, data_of, plane_of, tls_plane

SIZE = 5 * MiB + 11


@final
class Reluctant(ByteSource):
    """Bytes that take their time, behind no descriptor; may end early when they are sent."""

    def __init__(self, data: bytes, *, seconds: float = 0.0) -> None:
        self.data = data
        self.size = len(data)
        self.name = "reluctant"
        self.reads = 0
        self.threads: set[str] = set()
        self.seconds = seconds

    def read_into(self, offset: int, view: memoryview) -> None:
        self.reads += 1
        self.threads.add(threading.current_thread().name)
        time.sleep(self.seconds)
        if offset + len(view) > len(self.data):
            raise SourceChanged("reluctant changed while it was uploaded: it is shorter")
        view[:] = self.data[offset : offset + len(view)]

    def check_unchanged(self) -> None:
        """It is what it was, or reading fails."""


async def drink_slowly(exchange: Exchange) -> None:
    """The transport has to wait, and may still look at what it was given."""
    body, length = bytearray(), int(exchange.request.headers["content-length"])
    while len(body) < length:
        body += await exchange.reader.read(64 * 1024)
        await anyio.sleep(0)
    exchange.origin.objects[PATH] = bytes(body)
    await exchange.answer(200, b"", ETag='"e1"')


async def test_files_go_out_over_tls_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By rings, as behind a proxy: no buffer is rewritten before the transport has let go of it."""
    monkeypatch.setattr(Connection, "sends_files", False)
    data, file = data_of(SIZE), tmp_path / "file"
    file.write_bytes(data)
    async with tls_plane(tmp_path, trusted=True) as (origin, plane):
        with FileSource(file) as source:
            for _ in range(2):
                origin.script.append(drink_slowly)
                await plane.put_object(URL, source, CRC)
                assert origin.objects[PATH] == data
            receipt = await plane.upload_part(
                URL, UploadId("u"), 1, source, MiB + 3, 2 * MiB + 1, CRC
            )
            sent = data[MiB + 3 : 3 * MiB + 4]
            assert origin.objects[f"{PATH}?partNumber=1&uploadId=u"] == sent
            assert receipt.crc == CRC.update(sent)
        assert origin.connections == 1
        assert "lent=0" in repr(plane)


async def test_a_file_that_is_cut_while_it_goes_out_over_tls_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connection, "sends_files", False)
    file = tmp_path / "file"
    file.write_bytes(data_of(32 * MiB))

    async def cut(exchange: Exchange) -> None:
        os.truncate(file, 3)
        await exchange.read_body()

    async with tls_plane(tmp_path, trusted=True) as (origin, plane):
        origin.script.append(cut)
        with FileSource(file) as source, pytest.raises(SourceChanged, match="shorter"):
            await plane.put_object(URL, source, CRC)
        assert PATH not in origin.objects
        assert "busy=0" in repr(plane) and "lent=0" in repr(plane)


@pytest.mark.parametrize("size", [PIECE_SIZE, PIECE_SIZE + 1, 4 * PIECE_SIZE, SIZE])
async def test_every_size_goes_out_whole(size: int) -> None:
    data = data_of(size)
    async with run_origin() as origin, plane_of(origin) as plane:
        await plane.put_object(URL, Reluctant(data), None)
        assert origin.objects[PATH] == data
        assert "lent=0" in repr(plane)


async def test_a_slow_source_is_no_silent_server() -> None:
    """It is slower than any limit, and the loop does not wait for it."""
    data = data_of(SIZE)
    async with run_origin() as origin, plane_of(origin, SHORT) as plane:
        source = Reluctant(data, seconds=0.2)
        await plane.upload_part(URL, UploadId("u"), 1, source, 0, SIZE, None)
        assert origin.objects[f"{PATH}?partNumber=1&uploadId=u"] == data
        assert source.threads == {"s3engine-rings"}


@pytest.mark.parametrize("status", [403, 200])
async def test_an_early_answer_stops_the_reading(status: int) -> None:
    async def early(exchange: Exchange) -> None:
        await exchange.reader.read(1000)
        body = error_xml("AccessDenied") if status == 403 else b""
        await exchange.answer(status, body, ETag='"e1"')
        await anyio.sleep(30)

    async with run_origin() as origin, plane_of(origin) as plane:
        origin.script.append(early)
        source = Reluctant(data_of(64 * MiB))
        kind: type[TransferError] = S3Error if status == 403 else ProtocolError
        with pytest.raises(kind):
            await plane.put_object(URL, source, None)
        read = source.reads
        assert read < 64 * MiB // PIECE_SIZE
        await anyio.sleep(0.02)
        assert source.reads == read
        assert "busy=0" in repr(plane) and "lent=0" in repr(plane)


async def test_a_server_that_does_not_read_is_given_up() -> None:
    async def deaf(exchange: Exchange) -> None:
        await asyncio.Event().wait()

    async with run_origin() as origin, plane_of(origin, SHORT) as plane:
        origin.script.append(deaf)
        with pytest.raises(ConnectionFailed, match="timed out"):
            await plane.put_object(URL, Reluctant(data_of(64 * MiB)), None)
        assert "busy=0" in repr(plane) and "lent=0" in repr(plane)


async def test_a_cancelled_body_is_not_read_on() -> None:
    """When the cancellation has come through the thread has let go of the source."""
    async with run_origin() as origin, plane_of(origin) as plane:
        source = Reluctant(data_of(SIZE), seconds=0.05)
        with anyio.move_on_after(0.15) as scope:
            await plane.put_object(URL, source, None)
        assert scope.cancelled_caught
        read = source.reads
        await anyio.sleep(0.1)
        assert source.reads == read
        assert "busy=0" in repr(plane) and "lent=0" in repr(plane)
        source.seconds = 0.0
        await plane.put_object(URL, source, None)
        assert origin.objects[PATH] == source.data
