"""A limit of bandwidth over real connections, on virtual time: bytes, time, turns, time-outs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from engine import Engine, RetryPolicy, TransferConfig
from engine._wire.connect import Connector
from engine._wire.endpoint import Origin as Address
from engine.clock import LoopClock
from engine.config import Endpoints, Timeouts
from engine.errors import AccessDenied, ConnectionFailed, UsageError
from engine.pace import BURST, Pace
from engine.planes import DATA_PLANES, open_planes
from engine.planes.wire import WirePlane
from engine.protocols import Clock, DataPlane, Lease
from engine.testing.clock import run_virtual
from engine.threads import ThreadDoor
from engine.transfer import open_file
from engine.transfer.sinks import FileSink, MemorySink
from engine.transfer.slow_parts import ENOUGH, LEAST_SECONDS, TOO_SLOW
from engine.transfer.sources import BytesSource
from engine.types import ByteRange, Credentials, KiB, MiB, S3Url, UploadId
from tests.unit.origin import Exchange, Origin, error_xml, run_origin, silent, tls_here
from tests.unit.planes.test_wire import CRC, PATH, URL, StaticLease, data_of, get
from tests.unit.planes.test_wire_proxy import behind

LIMIT = 4 * MiB
SIZE = 8 * MiB
# Through a ring, which a virtual clock stands still for: on real time.
FILE = 1 * MiB


@dataclass
class Scene:
    origin: Origin
    plane: WirePlane
    pace: Pace
    folder: Path
    door: ThreadDoor

    async def put(self, number: int, size: int) -> None:
        url = S3Url("bucket", str(number))
        await self.plane.put_object(url, BytesSource(data_of(size)), CRC)

    async def get(self, number: int, size: int) -> bytes:
        sink = MemorySink(size)
        url = S3Url("bucket", str(number))
        await self.plane.get_range(url, sink, 0, range=None, etag=None, algorithm=CRC)
        return bytes(sink.data)


@asynccontextmanager
async def scene_of(
    scheme: str, folder: Path, *, limit: int = LIMIT, timeouts: Timeouts | None = None
) -> AsyncIterator[Scene]:
    context, bundle = tls_here(folder) if scheme == "https" else (None, None)
    async with run_origin(context) as origin:
        door, pace = ThreadDoor(), Pace(limit)
        plane = WirePlane(
            Endpoints(
                s3=f"{scheme}://127.0.0.1:{origin.port}",
                ca_bundle=None if bundle is None else str(bundle),
                timeouts=timeouts or Timeouts(),
            ),
            StaticLease(),
            clock=LoopClock(),
            threads=door,
            user_agent="s3engine/test",
            pace=pace,
        )
        try:
            yield Scene(origin, plane, pace, folder, door)
        finally:
            await plane.aclose()
            door.close()


def seconds_of(
    scheme: str, folder: Path, act: Callable[[Scene], Awaitable[None]], limit: int = LIMIT
) -> float:
    """Seconds that ``act`` takes: virtual ones, but for files."""

    async def main() -> float:
        async with scene_of(scheme, folder, limit=limit) as scene:
            began = asyncio.get_running_loop().time()
            await act(scene)
            return asyncio.get_running_loop().time() - began

    return anyio.run(main) if act in (file_up, file_down) else run_virtual(main)


async def file_up(scene: Scene) -> None:
    data = data_of(FILE)
    path = scene.folder / "up"
    path.write_bytes(data)
    async with open_file(path, scene.door) as source:
        await scene.plane.upload_part(URL, UploadId("u"), 1, source, 0, FILE, CRC)
    assert list(scene.origin.objects.values()) == [data]


async def file_down(scene: Scene) -> None:
    data = scene.origin.objects[PATH] = data_of(FILE)
    with (scene.folder / "down").open("w+b") as file:
        sink = FileSink(file.fileno())
        span = ByteRange(0, FILE)
        await scene.plane.get_range(URL, sink, 0, range=span, etag=None, algorithm=CRC)
        file.seek(0)
        assert file.read() == data


async def memory_up(scene: Scene) -> None:
    await scene.put(1, SIZE)
    assert scene.origin.objects["/bucket/1"] == data_of(SIZE)


async def memory_down(scene: Scene) -> None:
    scene.origin.objects[PATH] = data_of(SIZE)
    assert await get(scene.plane, SIZE) == data_of(SIZE)


async def small(act: Callable[[int, int], Awaitable[Any]]) -> None:
    async def some(first: int) -> None:
        for number in range(first, 128, 16):
            await act(number, 64 * KiB)

    async with anyio.create_task_group() as tasks:
        for first in range(16):
            tasks.start_soon(some, first)


async def small_up(scene: Scene) -> None:
    await small(scene.put)
    assert set(scene.origin.objects.values()) == {data_of(64 * KiB)}


async def small_down(scene: Scene) -> None:
    scene.origin.objects = {f"/bucket/{number}": data_of(64 * KiB) for number in range(128)}
    await small(scene.get)


async def both_ways(scene: Scene) -> None:
    scene.origin.objects["/bucket/0"] = data_of(SIZE // 2)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(scene.get, 0, SIZE // 2)
        tasks.start_soon(scene.put, 1, SIZE // 2)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("act", [file_up, file_down])
def test_files_keep_to_the_limit(
    scheme: str, act: Callable[[Scene], Awaitable[None]], tmp_path: Path
) -> None:
    assert seconds_of(scheme, tmp_path, act) >= FILE / LIMIT - BURST - 0.01


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("act", [memory_up, memory_down, small_up, small_down, both_ways])
def test_all_that_moves_keeps_to_the_limit(
    scheme: str, act: Callable[[Scene], Awaitable[None]], tmp_path: Path
) -> None:
    assert 1.85 <= seconds_of(scheme, tmp_path, act) <= 3


@pytest.mark.parametrize("proxy_scheme", ["http", "https"])
def test_the_limit_holds_through_a_tunnel(proxy_scheme: str, tmp_path: Path) -> None:
    """Bytes of the body are counted once, however many layers of TLS they go through."""

    async def main() -> None:
        pace = Pace(LIMIT)
        async with behind(tmp_path, "https", proxy_scheme=proxy_scheme, pace=pace) as (
            proxy,
            origin,
            plane,
        ):
            now = asyncio.get_running_loop().time
            began = now()
            await plane.put_object(URL, BytesSource(data_of(SIZE)), CRC)
            sent = now()
            assert await get(plane, SIZE) == data_of(SIZE)
            assert 1.85 <= sent - began <= 3 and 1.85 <= now() - sent <= 3
            assert origin.objects[PATH] == data_of(SIZE)
            assert [head.partition(" ")[0] for head in proxy.heads] == ["CONNECT"]

    run_virtual(main)


def test_a_part_that_has_a_small_share_is_not_a_slow_one(tmp_path: Path) -> None:
    """Beside the others it takes longer than one may take that was expected to be as quick as
    those that came alone."""
    limit, size, at_once = 2 * MiB, 4 * MiB, 8

    async def main() -> None:
        async with run_origin() as origin:
            origin.objects[PATH] = data_of(size)
            engine = Engine(
                endpoint_url=f"http://127.0.0.1:{origin.port}",
                region="us-east-1",
                credentials=Credentials("AKIDEXAMPLE", "secret"),
                config=TransferConfig(max_bandwidth=limit),
                retry=RetryPolicy(max_attempts=1),
            )
            seconds: list[float] = []

            async def read(size: int) -> None:
                began = asyncio.get_running_loop().time()
                async with s3.open_read(URL, ByteRange(0, size)) as reader:
                    assert await reader.read() == data_of(size)
                seconds.append(asyncio.get_running_loop().time() - began)

            async with engine as s3:
                for _ in range(ENOUGH):
                    await read(64 * KiB)
                async with anyio.create_task_group() as tasks:
                    for _ in range(at_once):
                        tasks.start_soon(read, size)
            assert max(seconds) > 1.4 * max(TOO_SLOW * size / limit, LEAST_SECONDS)
            fetched = [one for one in origin.requests if one.method == "GET"]
            assert len(fetched) == ENOUGH + at_once, "none was sent twice"

    run_virtual(main)


def test_nobody_times_out_who_waits_for_his_turn(tmp_path: Path) -> None:
    """A slice takes 0.06 s, and 64 connections wait for one: longer than any of the time-outs."""

    async def main() -> float:
        impatient = Timeouts(stall=1.5, first_byte=1.5)
        async with scene_of("http", tmp_path, limit=64 * KiB, timeouts=impatient) as scene:
            scene.origin.objects = {f"/bucket/{n}": data_of(32 * KiB) for n in range(32)}
            async with anyio.create_task_group() as tasks:
                for number in range(32):
                    tasks.start_soon(scene.get, number, 32 * KiB)
                    tasks.start_soon(scene.put, 100 + number, 32 * KiB)
            return scene.pace.waited

    assert run_virtual(main) > 30


@pytest.mark.parametrize("how", ["silent", "breaks off"])
def test_a_server_that_stalls_is_given_up_all_the_same(how: str, tmp_path: Path) -> None:
    async def half(exchange: Exchange) -> None:
        head = b"HTTP/1.1 200 OK\r\netag: e\r\ncontent-length: 8000000\r\n\r\n"
        await exchange.send(head + bytes(4_000_000))
        await asyncio.Event().wait()

    async def main() -> float:
        async with scene_of("http", tmp_path) as scene:
            scene.origin.script.append(silent if how == "silent" else half)
            scene.origin.objects[PATH] = data_of(SIZE)
            began = asyncio.get_running_loop().time()
            with pytest.raises(ConnectionFailed, match="timed out|under 1024 bytes"):
                await get(scene.plane, 8_000_000)
            seconds = asyncio.get_running_loop().time() - began
            assert await get(scene.plane, SIZE) == data_of(SIZE)  # and nobody is left in the line
            return seconds

    assert run_virtual(main) < 25


def test_a_refusal_is_heard_while_the_body_waits(tmp_path: Path) -> None:
    async def early(exchange: Exchange) -> None:
        await exchange.read_body(100_000)
        await exchange.answer(403, error_xml("AccessDenied"))
        exchange.close = True

    async def main() -> None:
        async with scene_of("http", tmp_path) as scene:
            scene.origin.script.append(early)
            with pytest.raises(AccessDenied):
                await scene.put(1, SIZE)
            assert asyncio.get_running_loop().time() < 1

    run_virtual(main)


def test_who_is_cancelled_leaves_the_line(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene_of("https", tmp_path) as scene:
            with anyio.move_on_after(0.5):
                async with anyio.create_task_group() as tasks:
                    for number in range(20):
                        tasks.start_soon(scene.put, number, MiB)
            began = asyncio.get_running_loop().time()
            await scene.put(99, 4 * KiB)
            assert asyncio.get_running_loop().time() - began < 1
            assert scene.origin.objects["/bucket/99"] == data_of(4 * KiB)

    run_virtual(main)


def test_a_plane_that_cannot_keep_to_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(endpoints: Endpoints, lease: Lease, *, clock: Clock, **_: object) -> DataPlane:
        raise AssertionError

    monkeypatch.setitem(DATA_PLANES._loaded, "aws", made)
    common: dict[str, Any] = {"clock": LoopClock(), "threads": ThreadDoor(), "user_agent": "x"}
    with pytest.raises(UsageError, match="'aws' cannot keep to a limit of bandwidth"):
        open_planes("aws", Endpoints(), StaticLease(), pace=Pace(LIMIT), **common)


def test_a_connection_without_a_limit_has_nothing_in_between(tmp_path: Path) -> None:
    async def main() -> None:
        async with run_origin() as origin:
            address = Address("http", "127.0.0.1", origin.port)
            for pace in (None, Pace(LIMIT)):
                connector = Connector(Timeouts(), ThreadDoor(), None, pace=pace)
                connection = await connector.open(address)
                assert (connection.pacer is None) is (pace is None)
                assert connection.lends_socket is (pace is None)
                connection.abort()
                await connection.closed()

    run_virtual(main)
