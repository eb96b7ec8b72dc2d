"""Small answers, head and body in one buffer, however they come."""

from __future__ import annotations

import pytest

from engine._wire.connection import RECEIVE_BUFFER, Connection
from engine._wire.landing import Landing
from engine.errors import ConnectionFailed, ProtocolError
from tests.unit._wire.test_connection import GET, NOTHING, OK, body_of, connected
from tests.unit.origin import Exchange, says

ROOM = 300
BODY = bytes(range(256)) * 80
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nA: b\r\n\r\n"


def landing() -> Landing:
    return Landing(memoryview(bytearray(ROOM + len(BODY))), len(BODY))


async def ask(connection: Connection, into: Landing) -> int:
    connection.begin("GET", into=into)
    connection.begin_send(NOTHING, GET)
    await connection.sent()
    return (await connection.head()).status


@pytest.mark.parametrize("cut", [1, 60, 5_000, 1 << 20])
@pytest.mark.parametrize("before", [b"", INTERIM])
async def test_it_is_there_with_its_head_however_it_is_cut(cut: int, before: bytes) -> None:
    stream = before + OK + LENGTH + b"\r\n" + BODY

    async def pieces(exchange: Exchange) -> None:
        for at in range(0, len(stream), cut):
            await exchange.send(stream[at : at + cut])

    async with connected(pieces, pieces) as (_, connection):
        for _ in range(2):
            into = landing()
            assert await ask(connection, into) == 200
            assert connection.complete and connection.reusable
            assert into.body(into.start) == BODY
            connection.rest(0.0)
            assert connection.quiet()


async def test_a_head_that_leaves_no_room_goes_elsewhere() -> None:
    long = b"X-Long: " + b"a" * (ROOM + 1) + b"\r\n"
    async with connected(says(OK + LENGTH + long + b"\r\n" + BODY)) as (_, connection):
        into = landing()
        assert await ask(connection, into) == 200
        assert into.body(into.start) == BODY
        assert connection.reusable


@pytest.mark.parametrize("size", [3, len(BODY) + ROOM // 2, 3 * RECEIVE_BUFFER])
async def test_a_body_of_another_length_is_received_as_any_other(size: int) -> None:
    body = b"b" * size
    answer = OK + b"Content-Length: %d\r\n\r\n" % size + body
    async with connected(says(answer), says(answer)) as (_, connection):
        for _ in range(2):
            into = landing()
            assert await ask(connection, into) == 200
            assert into.start == -1
            assert await body_of(connection, 2 * size) == body
            assert connection.reusable
            connection.rest(0.0)


async def test_an_error_is_received_as_any_other() -> None:
    answer = b"HTTP/1.1 404 No\r\n" + LENGTH + b"\r\n" + BODY
    async with connected(says(answer)) as (_, connection):
        into = landing()
        assert await ask(connection, into) == 404
        assert into.start == -1
        assert await body_of(connection, len(BODY)) == BODY


async def test_stray_bytes_end_the_connection() -> None:
    async with connected(says(OK + LENGTH + b"\r\n" + BODY + b"stray")) as (_, connection):
        into = landing()
        assert await ask(connection, into) == 200
        assert into.body(into.start) == BODY
        assert not connection.reusable


async def test_a_cut_body_is_an_error() -> None:
    async with connected(says(OK + LENGTH + b"\r\n" + BODY[:-1], close=True)) as (_, connection):
        with pytest.raises(ConnectionFailed, match="1 bytes of the body short"):
            await ask(connection, landing())


async def test_what_is_no_answer_is_an_error() -> None:
    async with connected(says(b"SSH-2.0-OpenSSH\r\n\r\n" + BODY)) as (_, connection):
        with pytest.raises(ProtocolError, match="status line"):
            await ask(connection, landing())
