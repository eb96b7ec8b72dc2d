"""Who gets which connection, which are kept, and what happens when a kept one was dead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from engine._wire.connect import Connector
from engine._wire.connection import Connection
from engine._wire.endpoint import Origin as Address
from engine._wire.pool import ConnectionPool
from engine.clock import LoopClock
from engine.config import Timeouts
from engine.errors import ConnectionFailed
from engine.threads import ThreadDoor
from tests.unit.origin import (
    Exchange,
    Origin,
    answers,
    hang_up,
    listening,
    run_origin,
    says,
    silent,
    tls_here,
)

OK = b"HTTP/1.1 200 OK\r\n"


@asynccontextmanager
async def pooled(**options: Any) -> AsyncIterator[tuple[Origin, ConnectionPool, Address]]:
    async with run_origin() as origin:
        origin.objects["/x"] = b"abc"
        pool = ConnectionPool(Connector(Timeouts(), ThreadDoor(), None), LoopClock(), **options)
        try:
            yield origin, pool, Address("http", "127.0.0.1", origin.port)
        finally:
            await pool.aclose()


async def send(connection: Connection) -> None:
    connection.begin_send(memoryview(b""), b"GET /x HTTP/1.1\r\nhost: h\r\n\r\n")
    await connection.sent()


async def fetch(pool: ConnectionPool, address: Address, *, repeatable: bool = True) -> bytes:
    async with pool.request(address, "GET", send, repeatable=repeatable) as response:
        return await response.read_small()


async def test_a_finished_exchange_leaves_its_connection_for_the_next() -> None:
    async with pooled() as (origin, pool, address):
        assert [await fetch(pool, address) for _ in range(3)] == [b"abc"] * 3
        assert origin.connections == 1
        statistics = pool.statistics()
        assert (statistics.opened, statistics.reused, statistics.idle) == (1, 2, 1)
        assert repr(pool) == "<ConnectionPool busy=0/512 idle=1 waiting=0>"


async def test_an_idle_connection_is_kept_beside_two_busy_ones() -> None:
    """Room for two idle ones counts idle ones only; httpcore 1.0 counts the busy ones too."""
    async with pooled(max_idle=2) as (_, pool, address), AsyncExitStack() as busy:
        for _ in range(2):
            await busy.enter_async_context(pool.request(address, "GET", send, repeatable=True))
        await fetch(pool, address)
        assert repr(pool) == "<ConnectionPool busy=2/512 idle=1 waiting=0>"
        await fetch(pool, address)
        assert pool.statistics().opened == 3


async def test_the_oldest_idle_connection_makes_room() -> None:
    async with pooled(max_idle=2) as (_, pool, address):
        async with AsyncExitStack() as busy:
            for _ in range(5):
                asked = pool.request(address, "GET", send, repeatable=True)
                await (await busy.enter_async_context(asked)).read_small()
        statistics = pool.statistics()
        assert (statistics.idle, statistics.dropped) == (2, 3)


async def test_requests_wait_in_turn_for_a_slot() -> None:
    order: list[int] = []
    async with pooled(max_connections=1) as (origin, pool, address):

        async def one(number: int) -> None:
            await fetch(pool, address)
            order.append(number)

        async with pool.request(address, "GET", send, repeatable=True) as response:
            async with anyio.create_task_group() as group:
                for number in range(4):
                    group.start_soon(one, number)
                    await asyncio.sleep(0)
                await asyncio.sleep(0.01)
                assert repr(pool) == "<ConnectionPool busy=1/1 idle=0 waiting=4>"
                await response.read_small()
                group.cancel_scope.cancel()
        assert pool.statistics().waiting == 0
        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(one, number)
        assert order == [0, 1, 2, 3]
        assert origin.connections == 1


async def test_idle_connections_to_others_do_not_break_the_limit() -> None:
    async with pooled(max_connections=1) as (_, pool, address), run_origin() as other:
        other.objects["/x"] = b"def"
        assert await fetch(pool, address) == b"abc"
        assert await fetch(pool, Address("http", "127.0.0.1", other.port)) == b"def"
        statistics = pool.statistics()
        assert (statistics.idle, statistics.dropped) == (1, 1)


async def test_a_connection_that_rested_too_long_is_not_used() -> None:
    async with pooled(idle_seconds=0.0) as (origin, pool, address):
        await fetch(pool, address)
        await fetch(pool, address)
        assert origin.connections == 2


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(answers(200, b"abc", Connection="close"), id="close"),
        pytest.param(says(OK + b"Content-Length: 3\r\n\r\nabcSTRAY"), id="stray"),
        pytest.param(says(OK + b"\r\nabc", close=True), id="until-close"),
    ],
)
async def test_unclean_connections_are_never_reused(script: Any) -> None:
    async with pooled() as (origin, pool, address):
        origin.script.append(script)
        assert await fetch(pool, address) == b"abc"
        assert await fetch(pool, address) == b"abc"
        assert origin.connections == 2


async def test_a_body_that_nobody_read_costs_the_connection() -> None:
    async with pooled() as (_, pool, address):
        async with pool.request(address, "GET", send, repeatable=True):
            pass
        assert pool.statistics().idle == 0


async def test_a_reused_connection_that_was_dead_is_replaced_once() -> None:
    async with pooled() as (origin, pool, address):
        await fetch(pool, address)
        origin.script.append(hang_up)
        assert await fetch(pool, address) == b"abc"
        origin.script.extend([hang_up, hang_up])
        with pytest.raises(ConnectionFailed):
            await fetch(pool, address)
        assert pool.statistics().replaced == 2


async def test_where_none_can_be_opened_in_its_place_it_is_dropped_once() -> None:
    async def end_all(exchange: Exchange) -> None:
        exchange.origin.stop()
        await hang_up(exchange)

    async with pooled() as (origin, pool, address):
        await fetch(pool, address)
        origin.script.append(end_all)
        with pytest.raises(ConnectionFailed, match="connect"):
            await fetch(pool, address)
        statistics = pool.statistics()
        assert (statistics.replaced, statistics.dropped) == (1, 1)


async def test_a_fresh_connection_that_dies_is_an_error() -> None:
    async with pooled() as (origin, pool, address):
        origin.script.append(hang_up)
        with pytest.raises(ConnectionFailed, match="before the answer"):
            await fetch(pool, address)
        assert pool.statistics().replaced == 0


async def test_what_may_not_be_repeated_is_not() -> None:
    async with pooled() as (origin, pool, address):
        await fetch(pool, address)
        origin.script.append(hang_up)
        with pytest.raises(ConnectionFailed):
            await fetch(pool, address, repeatable=False)


async def test_an_answer_that_broke_off_is_not_repeated() -> None:
    async with pooled() as (origin, pool, address):
        await fetch(pool, address)
        origin.script.append(says(b"HTTP/1.1 2", close=True))
        with pytest.raises(ConnectionFailed, match="inside the answer"):
            await fetch(pool, address)


async def test_a_connection_closed_while_idle_is_seen_before_it_is_used() -> None:
    async def answer_and_close(exchange: Exchange) -> None:
        await exchange.answer(200, b"abc")
        exchange.close = True

    async with pooled() as (origin, pool, address):
        origin.script.append(answer_and_close)
        await fetch(pool, address)
        await asyncio.sleep(0.01)
        await fetch(pool, address)
        assert pool.statistics().replaced == 0
        assert origin.connections == 2


async def test_a_cancelled_request_closes_its_connection_and_frees_its_slot() -> None:
    async with pooled(max_connections=1) as (origin, pool, address):
        origin.script.append(silent)
        with anyio.move_on_after(0.02):
            await fetch(pool, address)
        assert repr(pool) == "<ConnectionPool busy=0/1 idle=0 waiting=0>"
        assert await fetch(pool, address) == b"abc"


async def test_closing_fails_what_is_under_way() -> None:
    async with pooled() as (origin, pool, address):
        origin.script.append(silent)
        async with anyio.create_task_group() as group:

            async def doomed() -> None:
                with pytest.raises(ConnectionFailed):
                    await fetch(pool, address)

            group.start_soon(doomed)
            await asyncio.sleep(0.02)
            await pool.aclose()
        with pytest.raises(ConnectionFailed, match="closed"):
            await fetch(pool, address)
        assert repr(pool).startswith("<ConnectionPool closed busy=0/512 idle=0")


async def test_connections_are_opened_ahead_and_used_whether_they_are_there_yet_or_not() -> None:
    async with pooled() as (origin, pool, address):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pool.open_ahead, address, 3)
            await anyio.sleep(0)
            for _ in range(4):
                tasks.start_soon(fetch, pool, address)
        await pool.open_ahead(address, 4)
        assert origin.connections == pool.statistics().opened == 4, "there are so many already"
        assert 0 < pool.round_trip < 5


async def test_what_cannot_be_opened_ahead_is_told_by_the_request() -> None:
    async with pooled() as (_, pool, _):
        nobody = Address("http", "127.0.0.1", 1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pool.open_ahead, nobody, 2)
            await anyio.sleep(0)
            with pytest.raises(ConnectionFailed, match="could not connect"):
                await fetch(pool, nobody)


async def test_one_that_was_waited_for_and_is_not_wanted_any_more_goes_to_the_next() -> None:
    async with pooled() as (origin, pool, address), anyio.create_task_group() as tasks:
        tasks.start_soon(pool.open_ahead, address, 1)
        await anyio.sleep(0)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await fetch(pool, address)
        assert await fetch(pool, address) == b"abc"
        assert origin.connections == 1


@asynccontextmanager
async def greeting_one(port: int) -> AsyncIterator[int]:
    """A front of ``port`` that takes all calls, and hands on what the first one says."""
    calls: list[asyncio.StreamWriter] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        calls.append(writer)
        if len(calls) > 1:
            return
        there, back = await asyncio.open_connection("127.0.0.1", port)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pump, reader, back)
            await pump(there, writer)
            tasks.cancel_scope.cancel()
        back.transport.abort()

    try:
        async with listening(forward) as there:
            yield there
    finally:
        for writer in calls:
            writer.transport.abort()


async def test_one_that_is_given_back_is_taken_by_who_waits_for_a_new_one(tmp_path: Path) -> None:
    served, bundle = tls_here(tmp_path)
    async with run_origin(served) as origin, greeting_one(origin.port) as port:
        origin.objects["/x"] = b"abc"
        pool = ConnectionPool(Connector(Timeouts(), ThreadDoor(), str(bundle)), LoopClock())
        address = Address("https", "127.0.0.1", port)
        await fetch(pool, address)
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(fetch, pool, address)
            # Two more calls were made for them, and are not heard.
        assert (pool.statistics().opened, pool.statistics().reused) == (1, 3)
        assert origin.connections == 1
        await pool.aclose()


async def test_a_connection_that_died_before_its_first_request_is_replaced() -> None:
    async with pooled() as (origin, pool, address):
        await pool.open_ahead(address, 1)
        origin.script.append(hang_up)
        assert await fetch(pool, address) == b"abc"
        assert pool.statistics().replaced == 1
