"""Bodies that a mover's thread takes from the socket to the file: never a byte more or less."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import anyio
import pytest

from engine._wire import spans
from engine._wire.spans import Tools
from engine.config import Timeouts
from engine.errors import ConnectionFailed
from engine.planes.wire import WirePlane
from engine.transfer.sinks import FileSink
from engine.types import ByteRange, KiB, MiB
from tests.unit.origin import Exchange, Script, run_origin, says, silent
from tests.unit.planes.test_wire import CRC, PATH, SHORT, URL, data_of, plane_of

SIZE = 3 * MiB + 7
HEAD = b"HTTP/1.1 200 OK\r\nETag: x\r\nContent-Length: %d\r\n\r\n"


@pytest.fixture(params=["splice", "no splice", "splice refused"], autouse=True)
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the kernel; on a system without ``splice``; to a file whose system has none."""
    if request.param == "no splice":
        monkeypatch.setattr(spans, "HAS_SPLICE", False)
    elif request.param == "splice refused":
        monkeypatch.setattr(os, "splice", _splice_into_pipes_only)


def _splice_into_pipes_only(
    src: int, dst: int, count: int, *, offset_dst: int | None = None, flags: int = 0
) -> int:
    if offset_dst is not None:
        raise OSError(22, "Invalid argument")
    return _splice(src, dst, count, flags=flags)


_splice = getattr(os, "splice", None) or (lambda *_, **__: 0)


@contextmanager
def sink_at(path: Path, flags: int = os.O_RDWR) -> Iterator[FileSink]:
    descriptor = os.open(path, flags | os.O_CREAT)
    try:
        yield FileSink(descriptor)
    finally:
        os.close(descriptor)


async def fetch(plane: WirePlane, path: Path, span: ByteRange | None = None, at: int = 0) -> int:
    """The sum of what arrived."""
    with sink_at(path) as sink:
        receipt = await plane.get_range(URL, sink, at, range=span, etag=None, algorithm=CRC)
    assert receipt.crc is not None
    return receipt.crc


async def test_ranges_land_where_they_belong(tmp_path: Path) -> None:
    """All at once, and the connections are good for more."""
    data, path = data_of(8 * MiB), tmp_path / "file"
    path.write_bytes(bytes(8 * MiB))
    async with run_origin() as origin, plane_of(origin) as plane:
        origin.objects[PATH] = data

        async def one(start: int) -> None:
            crc = await fetch(plane, path, ByteRange(start, start + 2 * MiB), start)
            assert crc == CRC.update(data[start : start + 2 * MiB])

        for _ in range(2):
            await asyncio.gather(*(one(n * 2 * MiB) for n in range(4)))
            assert path.read_bytes() == data
        # One that is free is taken before the others are open: fewer may have done it all.
        assert origin.connections <= 4
        assert plane.statistics().bytes_received == 16 * MiB


async def test_without_a_checksum_nothing_is_summed(tmp_path: Path) -> None:
    data = data_of(SIZE)
    async with run_origin() as origin, plane_of(origin) as plane:
        origin.objects[PATH] = data
        with sink_at(tmp_path / "file") as sink:
            receipt = await plane.get_range(URL, sink, 0, range=None, etag=None, algorithm=None)
        assert receipt.crc is None
        assert (tmp_path / "file").read_bytes() == data


async def test_the_head_and_the_body_in_pieces(tmp_path: Path) -> None:
    """What came with the head is written first; what comes slowly is no silence, though there is
    never as much of it as is worth waking up for."""
    data = data_of(SIZE)

    async def slow(exchange: Exchange) -> None:
        await exchange.send(HEAD % SIZE + data[:1000])
        for start in range(1000, SIZE, 100 * KiB):
            await anyio.sleep(0.02)
            await exchange.send(data[start : min(start + 100 * KiB, SIZE)])

    patient = Timeouts(connect=1.0, first_byte=5.0, stall=0.08)
    async with run_origin() as origin, plane_of(origin, patient) as plane:
        origin.script.append(slow)
        assert await fetch(plane, tmp_path / "file") == CRC.update(data)
        assert (tmp_path / "file").read_bytes() == data


async def test_bytes_behind_the_body_stay_out_of_the_file(tmp_path: Path) -> None:
    data = data_of(SIZE)
    async with run_origin() as origin, plane_of(origin) as plane:
        origin.script.append(says(HEAD % SIZE + data + b"STRAY" * MiB))
        await fetch(plane, tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == data
        origin.objects[PATH] = data
        await fetch(plane, tmp_path / "file")
        assert origin.connections == 2  # the first one is in doubt


async def test_a_small_answer_behind_a_big_one_is_heard(tmp_path: Path) -> None:
    """The socket's low water is back where the transport expects it."""
    async with run_origin() as origin, plane_of(origin) as plane:
        origin.objects[PATH] = data_of(SIZE)
        await fetch(plane, tmp_path / "file")
        origin.objects[PATH] = b"abc"
        with anyio.fail_after(5):
            assert await fetch(plane, tmp_path / "small") == CRC.update(b"abc")
        assert origin.connections == 1


@pytest.mark.parametrize("reset", [False, True])
async def test_a_short_body_is_an_error(tmp_path: Path, reset: bool) -> None:
    async def short(exchange: Exchange) -> None:
        await exchange.send(HEAD % SIZE + bytes(2 * MiB))
        if reset:
            await anyio.sleep(0.05)
            exchange.reset()
        exchange.close = True

    async with run_origin() as origin, plane_of(origin) as plane:
        origin.script.append(short)
        with pytest.raises(ConnectionFailed, match="bytes of the body short"):
            await fetch(plane, tmp_path / "file")
        assert "busy=0" in repr(plane) and "idle=0" in repr(plane)


async def test_silence_inside_a_body_is_given_up(tmp_path: Path) -> None:
    async def stall(exchange: Exchange) -> None:
        await exchange.send(HEAD % SIZE + bytes(2 * MiB))
        await silent(exchange)

    async with run_origin() as origin, plane_of(origin, SHORT) as plane:
        origin.script.append(stall)
        # Whichever of the two limits is looked at first.
        silence = r"timed out after 0\.15 s: the answer's body|under 1024 bytes in 0\.15 s"
        with pytest.raises(ConnectionFailed, match=silence):
            await fetch(plane, tmp_path / "file")


async def test_a_body_that_drips_into_a_file_is_given_up(tmp_path: Path) -> None:
    """Though each byte is progress, and a mover has the socket."""
    sent = 0

    async def drip(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.send(HEAD % SIZE + bytes(2 * MiB))
        while sent < 900:
            await exchange.send(b"x")
            sent += 1
            await anyio.sleep(0.02)

    async with run_origin() as origin, plane_of(origin, SHORT) as plane:
        origin.script.append(drip)
        with pytest.raises(ConnectionFailed, match=r"under 1024 bytes in 0\.15 s"):
            await fetch(plane, tmp_path / "file")
        assert 7 < sent < 100


async def test_a_file_that_cannot_be_written_leaves_no_byte_to_the_next(tmp_path: Path) -> None:
    """The pipe was full when it failed."""
    data = data_of(SIZE)
    (tmp_path / "locked").touch()
    async with run_origin() as origin, plane_of(origin) as plane:
        origin.objects[PATH] = bytes(reversed(data))
        with sink_at(tmp_path / "locked", os.O_RDONLY) as sink:
            with pytest.raises(OSError, match="Bad file descriptor"):
                await plane.get_range(URL, sink, 0, range=None, etag=None, algorithm=CRC)
        origin.objects[PATH] = data
        assert await fetch(plane, tmp_path / "file") == CRC.update(data)
        assert (tmp_path / "file").read_bytes() == data
        assert origin.connections == 2


async def test_the_sum_is_that_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With splice it is made of what the file holds, so a write that went wrong is seen."""
    if not Tools().splice or os.splice is not _splice:
        pytest.skip("only where the kernel writes")
    data = data_of(SIZE)

    def one_bit_wrong(source: int, target: int, count: int, **more: int) -> int:
        moved = _splice(source, target, count, **more)
        if "offset_dst" in more and more["offset_dst"] == 0:
            os.pwrite(target, b"\xff", 5)
        return moved

    monkeypatch.setattr(os, "splice", one_bit_wrong)
    async with run_origin() as origin, plane_of(origin) as plane:
        # The first bytes come with the head; without any, the first splice is at 0.
        origin.script.append(_head_first(data))
        crc = await fetch(plane, tmp_path / "file")
    assert crc == CRC.update((tmp_path / "file").read_bytes()) != CRC.update(data)


def _head_first(data: bytes) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.send(HEAD % len(data))
        await anyio.sleep(0.05)
        await exchange.send(data)

    return script


async def test_a_cancelled_download_gives_the_file_back(tmp_path: Path) -> None:
    """Nobody writes to it any more when the cancellation has come through."""

    async def endless(exchange: Exchange) -> None:
        await exchange.send(HEAD % (1 << 40))
        while True:
            await exchange.send(bytes(MiB))

    path = tmp_path / "file"
    async with run_origin() as origin, plane_of(origin) as plane:
        origin.script.append(endless)
        with sink_at(path) as sink:
            async with anyio.create_task_group() as tasks:
                get = partial(plane.get_range, URL, sink, 0, range=None, etag=None, algorithm=CRC)
                tasks.start_soon(get)
                while not path.stat().st_size:
                    await anyio.sleep(0.01)
                tasks.cancel_scope.cancel()
            size = path.stat().st_size
            await anyio.sleep(0.02)
            assert path.stat().st_size == size
        assert "busy=0" in repr(plane) and "idle=0" in repr(plane)


async def test_closing_ends_what_is_under_way(tmp_path: Path) -> None:
    async def stall(exchange: Exchange) -> None:
        await exchange.send(HEAD % SIZE + bytes(2 * MiB))
        await silent(exchange)

    async with run_origin() as origin, plane_of(origin) as plane:
        origin.script.append(stall)

        async def get() -> None:
            with pytest.raises(ConnectionFailed, match="lost"):
                await fetch(plane, tmp_path / "file")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(get)
            await anyio.sleep(0.1)
            await plane.aclose()


async def test_descriptors_and_threads_go_with_the_plane(tmp_path: Path) -> None:
    import threading

    def there() -> tuple[int, int]:
        movers = [one for one in threading.enumerate() if "mover" in one.name]
        return len(os.listdir("/proc/self/fd")), len(movers)

    async with run_origin() as origin:
        before = there()
        for _ in range(3):
            async with plane_of(origin) as plane:
                origin.objects[PATH] = data_of(SIZE)
                await fetch(plane, tmp_path / "file")
        with anyio.fail_after(5):
            while there() > before:
                await anyio.sleep(0.01)
