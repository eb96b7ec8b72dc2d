"""Files that movers send, also over TLS: the same rules as for bytes that we hand over."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random
from subprocess import DEVNULL, PIPE
from typing import Any

import anyio
import pytest
import trustme

from engine._wire import spans
from engine._wire.connection import Connection
from engine._wire.turns import Turns
from engine.config import Timeouts
from engine.errors import ConnectionFailed, ProtocolError, S3Error, SourceChanged
from engine.planes.wire import WirePlane
from engine.threads import ThreadDoor
from engine.transfer.sources import FileSource
from engine.types import KiB, MiB, UploadId
from tests.unit.origin import Exchange, Origin, error_xml, listening, run_origin, tls_here
from tests.unit.planes.test_wire import (
    CRC,
    PATH,
    SHORT,
    URL,
    data_of,
    plane_at,
    plane_of,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(data_of(6 * MiB + 7))
    return path


Between = Callable[[int], AbstractAsyncContextManager[int]]
WAYS = ["sendfile", "without", "tls", "rings"]
Open = Callable[..., AbstractAsyncContextManager[tuple[Origin, WirePlane]]]


@pytest.fixture(params=WAYS)
def opened(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Open:
    """An origin and a plane: with sendfile and without it, as on a system that lacks it; over TLS
    by movers, and by rings, as where a proxy is in between."""
    way = request.param
    if way == "without":
        monkeypatch.setattr(spans, "HAS_SENDFILE", False)
    if way == "rings":
        monkeypatch.setattr(Connection, "sends_files", False)
    if way in ("tls", "rings"):
        return partial(over_tls, tmp_path)
    return over_http


@asynccontextmanager
async def over_http(timeouts: Timeouts | None = None) -> AsyncIterator[tuple[Origin, WirePlane]]:
    async with run_origin() as origin, plane_of(origin, timeouts) as plane:
        yield origin, plane


@asynccontextmanager
async def over_tls(
    folder: Path, timeouts: Timeouts | None = None, between: Between | None = None
) -> AsyncIterator[tuple[Origin, WirePlane]]:
    context, bundle = tls_here(folder)
    async with AsyncExitStack() as stack:
        origin = await stack.enter_async_context(run_origin(context))
        port = origin.port
        if between is not None:
            port = await stack.enter_async_context(between(port))
        plane = plane_at(f"https://127.0.0.1:{port}", timeouts, bundle=bundle)
        yield origin, await stack.enter_async_context(plane)


async def test_parts_of_a_file_arrive_as_they_are(file: Path, opened: Open) -> None:
    """On one connection, one behind the other: nothing overtakes a head."""
    data = file.read_bytes()
    async with opened() as (origin, plane):
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


async def test_parts_are_what_they_are_where_turns_are_scarce(
    file: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Larger units, which a socket takes in pieces."""
    monkeypatch.setattr(Turns, "told", lambda turns, *_: setattr(turns, "are_scarce", True))
    data = file.read_bytes()
    async with opened() as (origin, plane):
        with FileSource(file) as source:
            for _ in range(2):
                await plane.put_object(URL, source, CRC)
                assert origin.objects.pop(PATH) == data


async def test_a_mistake_of_ours_in_a_mover_ends_what_it_moved_and_no_more(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with over_http() as (origin, plane):
        with FileSource(file) as source:
            with monkeypatch.context() as broken:
                broken.setattr(os, "sendfile", lambda *_: 1 // 0)
                with pytest.raises(ZeroDivisionError):
                    await plane.put_object(URL, source, CRC)
            await plane.put_object(URL, source, CRC)
        assert origin.objects[PATH] == file.read_bytes()


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


async def test_a_reader_that_takes_its_time_gets_every_byte(file: Path, opened: Open) -> None:
    """The socket fills up and empties again many times."""

    async def slow(exchange: Exchange) -> None:
        body = bytearray()
        length = int(exchange.request.headers["content-length"])
        while len(body) < length:
            body += await exchange.reader.read(64 * 1024)
            await anyio.sleep(0)
        exchange.origin.objects[PATH] = bytes(body)
        await exchange.answer(200, b"", ETag='"e"')

    async with opened() as (origin, plane):
        origin.script.append(slow)
        with FileSource(file) as source:
            await plane.put_object(URL, source, CRC)
        assert origin.objects[PATH] == file.read_bytes()


@pytest.mark.parametrize("reset", [False, True])
async def test_an_early_answer_stops_the_file(file: Path, reset: bool, opened: Open) -> None:
    async def early(exchange: Exchange) -> None:
        await exchange.reader.read(1000)
        await exchange.answer(403, error_xml("AccessDenied"))
        if reset:
            exchange.reset()
        exchange.close = True

    async with opened() as (origin, plane):
        origin.script.append(early)
        with FileSource(file) as source, pytest.raises((S3Error, ConnectionFailed)) as caught:
            await plane.put_object(URL, source, CRC)
        if not reset:
            assert isinstance(caught.value, S3Error)
        assert "busy=0" in repr(plane) and "idle=0" in repr(plane)


async def test_a_success_before_the_whole_file_is_an_error(file: Path, opened: Open) -> None:
    async def early(exchange: Exchange) -> None:
        await exchange.reader.read(70_000)
        await exchange.answer(200, ETag='"e1"')
        await anyio.sleep(30)

    os.truncate(file, 64 * MiB)
    async with opened() as (origin, plane):
        origin.script.append(early)
        with FileSource(file) as source:
            with pytest.raises(ProtocolError, match="before it had the whole body"):
                await plane.put_object(URL, source, CRC)


async def test_a_file_that_is_cut_while_it_is_sent_is_named(file: Path, opened: Open) -> None:
    """Neither padded nor short: the connection ends, and S3 has nothing."""

    async def cut(exchange: Exchange) -> None:
        os.truncate(file, 3)
        await exchange.read_body()

    async with opened() as (origin, plane):
        origin.script.append(cut)
        with FileSource(file) as source:
            with pytest.raises(SourceChanged, match="shorter"):
                await plane.put_object(URL, source, CRC)
        assert PATH not in origin.objects
        assert "busy=0" in repr(plane) and "idle=0" in repr(plane)


async def test_a_server_that_does_not_read_a_file_is_given_up(file: Path, opened: Open) -> None:
    async def deaf(exchange: Exchange) -> None:
        await anyio.sleep(30)

    os.truncate(file, 64 * MiB)
    async with opened(SHORT) as (origin, plane):
        origin.script.append(deaf)
        with FileSource(file) as source:
            with pytest.raises(ConnectionFailed, match="timed out"):
                await plane.put_object(URL, source, CRC)


@pytest.mark.slow
async def test_a_slow_link_is_no_silent_server(file: Path, opened: Open) -> None:
    """The kernel has taken megabytes and sends them for longer than any limit: that is progress,
    though nothing of it is seen above."""

    async def slow(exchange: Exchange) -> None:
        handle = exchange.writer.get_extra_info("socket")
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 * KiB)
        left = int(exchange.request.headers["content-length"])
        while left:
            got = len(await exchange.reader.read(min(left, 64 * KiB)))
            left -= got
            await anyio.sleep(0.03 * got / (64 * KiB))  # a read may bring little
        await exchange.answer(200, b"", ETag='"e"')

    # 80 times 64 KiB take 2.4 s or more. A busy machine may lose half a second between two of them.
    os.truncate(file, 5 * MiB)
    patient = Timeouts(connect=5.0, first_byte=30.0, stall=0.8)
    async with opened(patient) as (origin, plane):
        origin.script.append(slow)
        with FileSource(file) as source:
            await plane.put_object(URL, source, CRC)


async def test_a_cancelled_send_leaves_nothing_behind(file: Path, opened: Open) -> None:
    """Neither a descriptor nor a callback that sends on."""

    async def deaf(exchange: Exchange) -> None:
        await anyio.sleep(30)

    os.truncate(file, 64 * MiB)
    async with opened() as (origin, plane):
        origin.script.append(deaf)
        with FileSource(file) as source:
            with anyio.move_on_after(0.2) as scope:
                await plane.put_object(URL, source, CRC)
            assert scope.cancelled_caught
            await anyio.sleep(0.05)
        assert "busy=0" in repr(plane) and "idle=0" in repr(plane)


@asynccontextmanager
async def late_tickets(port: int) -> AsyncIterator[int]:
    """A forwarder that holds back what TLS says of itself behind the handshake until 2 MiB have
    gone by, and lets it drip then: in the middle of records, with bytes of ours in between."""

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        turns, gone, late = 0, 0, asyncio.Event()

        async def up() -> None:
            nonlocal turns, gone
            while piece := await reader.read(64 * KiB):
                turns += 1
                gone += len(piece)
                if gone > 2 * MiB:
                    late.set()
                back.write(piece)
                await back.drain()

        async def down() -> None:
            while piece := await there.read(64 * KiB):
                if turns > 1 and not late.is_set():
                    await late.wait()
                    for byte in piece[:600]:
                        writer.write(bytes([byte]))
                        await asyncio.sleep(0)
                    piece = piece[600:]
                writer.write(piece)

        with contextlib.suppress(OSError):
            await asyncio.gather(up(), down())
        back.transport.abort()
        writer.transport.abort()

    async with listening(forward) as there:
        yield there


async def test_tickets_in_the_middle_of_a_file_are_no_answer(file: Path, tmp_path: Path) -> None:
    async with over_tls(tmp_path, between=late_tickets) as (origin, plane):
        with FileSource(file) as source:
            await plane.put_object(URL, source, CRC)
            await plane.put_object(URL, source, CRC)
        assert origin.objects[PATH] == file.read_bytes()
        assert origin.connections == 1


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl command")
async def test_new_keys_in_the_middle_of_a_file_are_no_answer(tmp_path: Path) -> None:
    """Asked for by the server while the socket is full: our answer to that comes behind what is
    enciphered already, and the rest is under the new keys."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem
    issued.write_to_path(str(tmp_path / "pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    file, data = tmp_path / "file", Random(1).randbytes(24 * MiB + 7)
    file.write_bytes(data)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = f"openssl s_server -accept {port} -naccept 1 -cert pem -key pem -ign_eof"
    server = await asyncio.create_subprocess_exec(
        *command.split(), cwd=tmp_path, stdin=PIPE, stdout=PIPE, stderr=DEVNULL
    )
    assert server.stdin is not None and server.stdout is not None
    said, got = server.stdin, bytearray()
    try:
        while b"ACCEPT" not in got:
            got += await server.stdout.read(100)
        async with plane_at(f"https://127.0.0.1:{port}", bundle=tmp_path / "ca.pem") as plane:
            with FileSource(file) as source:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(plane.put_object, URL, source, CRC)
                    for mark in range(5 * MiB, 24 * MiB, 5 * MiB):
                        while len(got) < mark:
                            got += await server.stdout.read(64 * KiB)
                        await anyio.sleep(0.05)  # it waits for us: the socket fills up
                        said.write(b"K\n")
                    while data[-7:] not in got[-9000:]:
                        got += await server.stdout.read(64 * KiB)
                    said.write(b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 0\r\n\r\n')
        words = re.compile(rb"SSL_do_handshake -> 1\n|Read BLOCK\n")
        assert len(words.findall(got)) >= 4
        assert CRC.update(words.sub(b"", got)[-len(data) :]) == CRC.update(data)
    finally:
        with contextlib.suppress(ProcessLookupError):
            server.kill()
        await server.wait()


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
