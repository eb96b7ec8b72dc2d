"""One connection: who owns which buffer, what ends it, what it may be used for again."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from engine._wire.connect import Connector
from engine._wire.connection import RECEIVE_BUFFER, Connection, EarlyAnswer
from engine._wire.endpoint import Origin as Address
from engine.config import Timeouts
from engine.errors import ConnectionFailed, ProtocolError, UsageError
from engine.testing.clock import run_virtual
from engine.threads import ThreadDoor
from tests.unit.origin import Exchange, Origin, Script, answers, run_origin, says

NOTHING = memoryview(b"")
GET = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"


@asynccontextmanager
async def connected(
    *scripts: Script, timeouts: Timeouts | None = None
) -> AsyncIterator[tuple[Origin, Connection]]:
    async with run_origin() as origin:
        origin.script.extend(scripts)
        connector = Connector(timeouts or Timeouts(), ThreadDoor(), None)
        connection = await connector.open(Address("http", "127.0.0.1", origin.port))
        try:
            yield origin, connection
        finally:
            connection.abort()
            await connection.closed()


async def ask(connection: Connection) -> int:
    connection.begin("GET")
    connection.begin_send(NOTHING, GET)
    await connection.sent()
    return (await connection.head()).status


async def body_of(connection: Connection, size: int) -> bytes:
    buffer = bytearray(size)
    connection.begin_fill(memoryview(buffer))
    return bytes(buffer[: await connection.filled()])


async def test_a_body_arrives_in_the_buffers_that_were_given() -> None:
    data = bytes(range(256)) * 4096
    async with connected(answers(200, data)) as (_, connection):
        assert await ask(connection) == 200
        parts = [await body_of(connection, n) for n in (1, 100_000, 17, 2_000_000)]
        assert b"".join(parts) == data
        assert connection.complete and connection.reusable
        assert repr(connection) == "<Connection open idle exchanges=1>"


async def test_a_caller_that_is_behind_stops_the_reading() -> None:
    data = bytes(8 << 20)
    async with connected(answers(200, data)) as (_, connection):
        await ask(connection)
        await asyncio.sleep(0.02)
        assert connection.bytes_received <= RECEIVE_BUFFER
        assert await body_of(connection, 1000) == bytes(1000)
        await asyncio.sleep(0.02)
        assert connection.bytes_received <= RECEIVE_BUFFER + 1000
        assert len(await body_of(connection, len(data))) == len(data) - 1000


async def test_chunked_and_interim_answers_in_single_bytes() -> None:
    stream = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nA: b\r\n\r\n"
        + OK
        + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\nT: r\r\n\r\n"
    )

    async def drip(exchange: Exchange) -> None:
        for byte in stream:
            await exchange.send(bytes([byte]))
            await asyncio.sleep(0)

    async with connected(drip) as (_, connection):
        assert await ask(connection) == 200
        assert await body_of(connection, 100) == b"abcde"
        assert connection.reusable


async def test_a_body_until_close_is_read_but_the_connection_is_gone() -> None:
    async with connected(says(OK + b"\r\nabc", close=True)) as (_, connection):
        await ask(connection)
        assert await body_of(connection, 100) == b"abc"
        assert connection.complete and not connection.reusable


@pytest.mark.parametrize(
    "stream",
    [
        OK + b"Content-Length: 3\r\n\r\nabcSTRAY",
        OK + b"Content-Length: 3\r\nConnection: close\r\n\r\nabc",
        b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc",
    ],
)
async def test_doubt_makes_a_connection_unusable(stream: bytes) -> None:
    async with connected(says(stream)) as (_, connection):
        await ask(connection)
        assert await body_of(connection, 3) == b"abc"
        assert not connection.reusable


@pytest.mark.parametrize("late", [b"STRAY", b""])
async def test_a_byte_or_eof_on_a_resting_connection_is_noticed(late: bytes) -> None:
    ready = anyio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.answer(200, b"abc")
        await ready.wait()
        if late:
            await exchange.send(late)
        else:
            exchange.close = True

    async with connected(script) as (_, connection):
        await ask(connection)
        await body_of(connection, 3)
        assert connection.reusable
        connection.rest(0.0)
        assert connection.quiet()
        ready.set()
        for _ in range(100):
            await asyncio.sleep(0)
            if not connection.quiet():
                break
        assert not connection.quiet()


@pytest.mark.parametrize(
    ("stream", "kind"),
    [
        (b"SSH-2.0-x\r\n", ProtocolError),
        (b"HTTP/1.1 101 X\r\n\r\n", ProtocolError),
        (OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", ProtocolError),
        (OK + b"A: " + b"x" * 70_000, ProtocolError),
        (b"", ConnectionFailed),
        (b"HTTP/1.1 2", ConnectionFailed),
    ],
)
async def test_a_bad_head_ends_the_connection(stream: bytes, kind: type[Exception]) -> None:
    async with connected(says(stream, close=True)) as (_, connection):
        with pytest.raises(kind):
            await ask(connection)
        assert not connection.reusable


async def test_a_bad_chunk_ends_the_connection() -> None:
    async with connected(says(OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n")) as (_, connection):
        await ask(connection)
        with pytest.raises(ProtocolError):
            await body_of(connection, 10)
        assert not connection.reusable


async def test_sent_waits_until_the_transport_has_let_go_of_the_buffer() -> None:
    go = anyio.Event()
    got = bytearray()
    size = 16 << 20

    async def late_reader(exchange: Exchange) -> None:
        await go.wait()
        got.extend(await exchange.reader.readexactly(size))
        await exchange.answer(200)

    async with connected(late_reader) as (_, connection):
        buffer = bytearray(b"a" * size)
        connection.begin("PUT")
        connection.begin_send(memoryview(buffer), GET)
        with anyio.move_on_after(0.05) as scope:
            await connection.sent()
        assert scope.cancelled_caught
        go.set()
        await connection.sent()
        buffer[:] = b"b" * size
        assert (await connection.head()).status == 200
        assert got == b"a" * size


async def test_an_early_answer_stops_the_sending() -> None:
    async def early(exchange: Exchange) -> None:
        await exchange.answer(403, b"no")
        await asyncio.sleep(0.1)

    async with connected(early) as (_, connection):
        connection.begin("PUT")
        connection.begin_send(memoryview(bytes(32 << 20)), GET)
        with pytest.raises(EarlyAnswer):
            await connection.sent()
        with pytest.raises(EarlyAnswer):
            connection.begin_send(memoryview(b"more"))
        assert (await connection.head()).status == 403
        assert await body_of(connection, 10) == b"no"
        assert not connection.reusable


async def test_an_answer_in_front_of_a_reset_is_heard() -> None:
    """The write fails before the loop has read; the answer is still in the kernel."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        connector = Connector(Timeouts(), ThreadDoor(), None)
        connection = await connector.open(Address("http", *server.getsockname()))
        peer, _ = server.accept()
        connection.begin("PUT")
        connection.begin_send(memoryview(b"first"), GET)
        await connection.sent()
        # No await from here to the second write: the loop cannot see the answer before it fails.
        peer.sendall(b"HTTP/1.1 403 X\r\nContent-Length: 2\r\n\r\nno")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        connection.begin_send(memoryview(bytes(1 << 20)))
        with pytest.raises(EarlyAnswer):
            await connection.sent()
        assert (await connection.head()).status == 403
        assert await body_of(connection, 10) == b"no"
        assert not connection.reusable
        await connection.closed()


async def test_an_aborted_connection_gives_its_buffers_back() -> None:
    async with connected(says(OK + b"Content-Length: 10\r\n\r\nabc")) as (_, connection):
        await ask(connection)
        buffer = bytearray(10)
        connection.begin_fill(memoryview(buffer))
        connection.abort()
        await connection.closed()
        buffer.extend(b"may be resized once nobody holds it")


async def test_a_bad_ca_bundle_is_a_usage_error() -> None:
    connector = Connector(Timeouts(), ThreadDoor(), "/nonexistent/ca.pem")
    with pytest.raises(UsageError, match="CA bundle"):
        await connector.open(Address("https", "127.0.0.1", 1))


def test_deadlines_are_those_of_the_loops_clock() -> None:
    """Eight minutes of a slow body and then thirty seconds of silence pass at once."""

    async def slow(exchange: Exchange) -> None:
        await exchange.send(OK + b"Content-Length: 1000000\r\n\r\n")
        for _ in range(50):
            await asyncio.sleep(9.5)
            await exchange.send(bytes(2000))
        await asyncio.Event().wait()

    async def main() -> float:
        async with connected(slow, timeouts=Timeouts(stall=10.0)) as (_, connection):
            await ask(connection)
            with pytest.raises(ConnectionFailed, match="timed out after 10 s"):
                await body_of(connection, 1_000_000)
            assert connection.timed_out
            return asyncio.get_running_loop().time()

    assert 480 < run_virtual(main) < 500


async def test_a_name_is_looked_up_by_the_loop_itself() -> None:
    async with run_origin() as origin:
        origin.objects["/"] = b"abc"
        connector = Connector(Timeouts(), ThreadDoor(), None)
        connection = await connector.open(Address("http", "localhost", origin.port))
        assert await ask(connection) == 200
        connection.abort()
        await connection.closed()
        with pytest.raises(ConnectionFailed, match="could not connect to http://no.such.invalid"):
            await connector.open(Address("http", "no.such.invalid", 80))
