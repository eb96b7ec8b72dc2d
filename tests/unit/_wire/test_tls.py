"""Our own TLS transport: records that come in any pieces, and readers that pause anywhere."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import anyio
import pytest

from engine._wire.connect import Connector
from engine._wire.connection import Connection
from engine._wire.endpoint import Origin as Address
from engine._wire.tls import TlsTransport
from engine.config import Timeouts
from engine.errors import ConnectionFailed, NotConnected
from engine.threads import ThreadDoor
from tests.unit.origin import Origin, listening, run_origin, says, tls_here


@asynccontextmanager
async def cut_up(port: int, sizes: list[int]) -> AsyncIterator[int]:
    """A forwarder to ``port`` that hands bytes on in pieces of these sizes, in turn."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            turn = 0
            while piece := await reader.read(sizes[turn % len(sizes)]):
                turn += 1
                writer.write(piece)
                await writer.drain()
            writer.write_eof()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pump, reader, back)
            await pump(there, writer)
            tasks.cancel_scope.cancel()
        back.transport.abort()
        writer.transport.abort()

    async with listening(forward) as there:
        yield there


@asynccontextmanager
async def served(
    tmp_path: Path, sizes: list[int]
) -> AsyncIterator[tuple[Origin, Connector, Address]]:
    context, bundle = tls_here(tmp_path)
    async with run_origin(context) as origin, cut_up(origin.port, sizes) as port:
        connector = Connector(Timeouts(), ThreadDoor(), str(bundle))
        yield origin, connector, Address("https", "127.0.0.1", port)


@asynccontextmanager
async def connected(tmp_path: Path, sizes: list[int]) -> AsyncIterator[tuple[Origin, Connection]]:
    async with served(tmp_path, sizes) as (origin, connector, address):
        connection = await connector.open(address)
        try:
            yield origin, connection
        finally:
            connection.abort()
            await connection.closed()


async def get(connection: Connection, size: int, piece: int, *, rest: bool = False) -> bytes:
    connection.begin("GET")
    connection.begin_send(memoryview(b"GET /x HTTP/1.1\r\nhost: h\r\n\r\n"))
    await connection.sent()
    assert (await connection.head()).status == 200
    found, buffer = bytearray(), memoryview(bytearray(piece))
    while len(found) < size:
        if rest:
            await asyncio.sleep(0.0005)  # what comes meanwhile is kept aside
        connection.begin_fill(buffer[: size - len(found)])
        found += buffer[: await connection.filled()]
    return bytes(found)


@pytest.mark.parametrize(
    "sizes", [[1 << 18], [3, 4, 1, 5, 16384, 7], [16406, 5]], ids=["whole", "crumbs", "records"]
)
async def test_bytes_are_right_however_records_are_cut_and_read(
    tmp_path: Path, sizes: list[int]
) -> None:
    data = Random(7).randbytes(150_001)
    async with connected(tmp_path, sizes) as (origin, connection):
        origin.objects["/x"] = data
        for piece in (1000, 16 * 1024, 40_000, 1 << 20):
            assert await get(connection, len(data), piece) == data
            assert await get(connection, len(data), piece, rest=piece > 1000) == data
        assert connection.reusable


async def test_connections_that_share_buffers_do_not_share_bytes(tmp_path: Path) -> None:
    """Pieces of records come in turn; some connections break, one by bytes that are no record."""
    data = [Random(number).randbytes(60_001) for number in range(12)]
    right = []

    async def one(number: int, connection: Connection) -> None:
        path = f"/{number}"
        for _ in range(3):
            with contextlib.suppress(ConnectionFailed):
                connection.begin("GET")
                connection.begin_send(memoryview(b"GET %s HTTP/1.1\r\n\r\n" % path.encode()))
                await connection.sent()
                assert (await connection.head()).status == 200
                body = memoryview(bytearray(60_001))
                connection.begin_fill(body)
                await connection.filled()
                assert bytes(body) == data[number]
                right.append(number)
            if number % 4 == 3:
                transport = connection._transport
                assert isinstance(transport, TlsTransport)
                transport.get_buffer(-1)[:20] = b"\x17\x03\x03\x00\x0f" + bytes(15)
                transport.buffer_updated(20)
                return

    async with served(tmp_path, [4000, 3, 900, 17_000, 1]) as (origin, connector, address):
        origin.objects.update({f"/{number}": body for number, body in enumerate(data)})
        connections = [await connector.open(address) for _ in data]
        async with anyio.create_task_group() as tasks:
            for number, connection in enumerate(connections):
                tasks.start_soon(one, number, connection)
        assert Counter(right) == {number: 1 if number % 4 == 3 else 3 for number in range(12)}
        for connection in connections:
            connection.abort()
            await connection.closed()


async def test_bodies_of_all_lengths_arrive(tmp_path: Path) -> None:
    random = Random(8)
    async with connected(tmp_path, [5000, 70_000, 1]) as (origin, connection):
        for size in (1, 16_383, 16_384, 16_385, 81_919, 82_000, 131_073, 1_000_003):
            body = random.randbytes(size)
            head = b"PUT /x HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n\r\n" % size
            connection.begin("PUT")
            connection.begin_send(memoryview(body), head)
            await connection.sent()
            assert (await connection.head()).status == 200
            assert origin.objects["/x"] == body


async def test_a_body_that_breaks_off_is_an_error_also_behind_a_pause(tmp_path: Path) -> None:
    cut = b"HTTP/1.1 200 OK\r\ncontent-length: 900000\r\n\r\n" + bytes(300_000)
    for rest in (False, True):
        async with connected(tmp_path, [1 << 16]) as (origin, connection):
            origin.script.append(says(cut, close=True))
            with pytest.raises(ConnectionFailed):
                await get(connection, 900_000, 50_000, rest=rest)


async def test_what_is_no_tls_is_no_connection() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()
        writer.transport.abort()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
        connector = Connector(Timeouts(), ThreadDoor(), None)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(NotConnected, match="could not connect"):
            await connector.open(Address("https", "127.0.0.1", port))


async def test_a_server_that_does_not_shake_hands_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        connector = Connector(Timeouts(connect=0.1), ThreadDoor(), None)
        with pytest.raises(NotConnected, match="timed out"):
            await connector.open(Address("https", "127.0.0.1", server.getsockname()[1]))
