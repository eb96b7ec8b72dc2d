"""Files that the kernel sends by itself: the same rules as for bytes that we hand over."""

from __future__ import annotations

import os
from pathlib import Path
from socket import SO_RCVBUF, SOL_SOCKET
from typing import Any

import anyio
import pytest

from engine._wire import spans
from engine.config import Timeouts
from engine.errors import ConnectionFailed, ProtocolError, S3Error, SourceChanged
from engine.threads import ThreadDoor
from engine.transfer.sources import FileSource
from engine.types import KiB, MiB, UploadId
from tests.unit.origin import Exchange, error_xml, run_origin
from tests.unit.planes.test_wire import CRC, PATH, SHORT, URL, data_of, plane_of


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(data_of(6 * MiB + 7))
    return path


@pytest.fixture(params=[True, False], ids=["sendfile", "without"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """With the feature and without it, as on a system that lacks it."""
    if not request.param:
        monkeypatch.setattr(spans, "HAS_SENDFILE", False)
    return bool(request.param)


async def test_parts_of_a_file_arrive_as_they_are(file: Path, either_way: bool) -> None:
    """On one connection, one behind the other: nothing overtakes a head."""
    data = file.read_bytes()
    async with run_origin() as origin, plane_of(origin) as plane:
        with FileSource(file) as source:
            for number, offset in enumerate(range(0, len(data), 2 * MiB), 1):
                length = min(2 * MiB, len(data) - offset)
                receipt = await plane.upload_part(
                    URL, UploadId("u"), number, source, offset, length, CRC
                )
                sent = data[offset : offset + length]
                assert origin.objects[f"{PATH}?partNumber={number}&uploadId=u"] == sent
                assert receipt.crc == CRC.update(sent)
            await plane.put_object(URL, source, CRC)
        assert origin.objects[PATH] == data
        assert origin.connections == 1


async def test_it_is_told_how_long_movers_were_at_work(file: Path) -> None:
    door = ThreadDoor()
    async with run_origin() as origin, plane_of(origin, threads=door) as plane:
        began = anyio.current_time()
        assert set(door.at_work()) == {0.0}
        with FileSource(file) as source:
            await plane.put_object(URL, source, CRC)
        first, *others = door.at_work()
        assert 0 < first <= anyio.current_time() - began
        assert not any(others), "one file needs one"


async def test_a_reader_that_takes_its_time_gets_every_byte(file: Path, either_way: bool) -> None:
    """The socket fills up and empties again many times."""

    async def slow(exchange: Exchange) -> None:
        body = bytearray()
        length = int(exchange.request.headers["content-length"])
        while len(body) < length:
            body += await exchange.reader.read(64 * 1024)
            await anyio.sleep(0)
        exchange.origin.objects[PATH] = bytes(body)
        await exchange.answer(200, b"", ETag='"e"')

    async with run_origin() as origin, plane_of(origin) as plane:
        origin.script.append(slow)
        with FileSource(file) as source:
            await plane.put_object(URL, source, CRC)
        assert origin.objects[PATH] == file.read_bytes()


@pytest.mark.parametrize("reset", [False, True])
async def test_an_early_answer_stops_the_file(file: Path, reset: bool, either_way: bool) -> None:
    async def early(exchange: Exchange) -> None:
        await exchange.reader.read(1000)
        await exchange.answer(403, error_xml("AccessDenied"))
        if reset:
            exchange.reset()
        exchange.close = True

    async with run_origin() as origin, plane_of(origin) as plane:
        origin.script.append(early)
        with FileSource(file) as source, pytest.raises((S3Error, ConnectionFailed)) as caught:
            await plane.put_object(URL, source, CRC)
        if not reset:
            assert isinstance(caught.value, S3Error)
        assert "busy=0" in repr(plane) and "idle=0" in repr(plane)


async def test_a_success_before_the_whole_file_is_an_error(file: Path, either_way: bool) -> None:
    async def early(exchange: Exchange) -> None:
        await exchange.reader.read(70_000)
        await exchange.answer(200, ETag='"e1"')
        await anyio.sleep(30)

    os.truncate(file, 64 * MiB)
    async with run_origin() as origin, plane_of(origin) as plane:
        origin.script.append(early)
        with FileSource(file) as source:
            with pytest.raises(ProtocolError, match="before it had the whole body"):
                await plane.put_object(URL, source, CRC)


async def test_a_file_that_is_cut_while_it_is_sent_is_named(file: Path, either_way: bool) -> None:
    """Neither padded nor short: the connection ends, and S3 has nothing."""

    async def cut(exchange: Exchange) -> None:
        os.truncate(file, 3)
        await exchange.read_body()

    async with run_origin() as origin, plane_of(origin) as plane:
        origin.script.append(cut)
        with FileSource(file) as source:
            with pytest.raises(SourceChanged, match="shorter"):
                await plane.put_object(URL, source, CRC)
        assert PATH not in origin.objects
        assert "busy=0" in repr(plane) and "idle=0" in repr(plane)


async def test_a_server_that_does_not_read_a_file_is_given_up(file: Path, either_way: bool) -> None:
    async def deaf(exchange: Exchange) -> None:
        await anyio.sleep(30)

    os.truncate(file, 64 * MiB)
    async with run_origin() as origin, plane_of(origin, SHORT) as plane:
        origin.script.append(deaf)
        with FileSource(file) as source:
            with pytest.raises(ConnectionFailed, match="timed out"):
                await plane.put_object(URL, source, CRC)


@pytest.mark.slow
async def test_a_slow_link_is_no_silent_server(file: Path, either_way: bool) -> None:
    """The kernel has taken megabytes and sends them for longer than any limit: that is progress,
    though nothing of it is seen above."""

    async def slow(exchange: Exchange) -> None:
        socket = exchange.writer.get_extra_info("socket")
        socket.setsockopt(SOL_SOCKET, SO_RCVBUF, 128 * KiB)
        left = int(exchange.request.headers["content-length"])
        while left:
            got = len(await exchange.reader.read(min(left, 64 * KiB)))
            left -= got
            await anyio.sleep(0.03 * got / (64 * KiB))  # a read may bring little
        await exchange.answer(200, b"", ETag='"e"')

    # 80 times 64 KiB take 2.4 s or more. A busy machine may lose half a second between two of them.
    os.truncate(file, 5 * MiB)
    patient = Timeouts(connect=5.0, first_byte=30.0, stall=0.8)
    async with run_origin() as origin, plane_of(origin, patient) as plane:
        origin.script.append(slow)
        with FileSource(file) as source:
            await plane.put_object(URL, source, CRC)


async def test_a_cancelled_send_leaves_nothing_behind(file: Path, either_way: bool) -> None:
    """Neither a descriptor nor a callback that sends on."""

    async def deaf(exchange: Exchange) -> None:
        await anyio.sleep(30)

    os.truncate(file, 64 * MiB)
    async with run_origin() as origin, plane_of(origin) as plane:
        origin.script.append(deaf)
        with FileSource(file) as source:
            with anyio.move_on_after(0.2) as scope:
                await plane.put_object(URL, source, CRC)
            assert scope.cancelled_caught
            await anyio.sleep(0.05)
        assert "busy=0" in repr(plane) and "idle=0" in repr(plane)


async def test_descriptors_go_with_their_connections(file: Path) -> None:
    def open_now() -> int:
        return len(os.listdir("/proc/self/fd"))

    async with run_origin() as origin:
        before = open_now()
        for _ in range(3):
            async with plane_of(origin) as plane:
                with FileSource(file) as source:
                    await plane.put_object(URL, source, CRC)
        with anyio.fail_after(5):
            while open_now() > before:
                await anyio.sleep(0.01)


def test_bytes_in_memory_have_no_descriptor() -> None:
    from engine.transfer.sources import BytesSource

    source: Any = BytesSource(b"x")
    assert source.descriptor is None
