"""Rules 18 to 21: which connection a request gets, and when one is given up."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from engine._wire.pool import IDLE_SECONDS
from engine.clock import LoopClock
from engine.config import Endpoints, Timeouts
from engine.errors import ConnectionFailed, RedirectRefused, S3Error
from engine.planes.wire import WirePlane
from engine.retry import Verdict, classify
from engine.testing.clock import run_virtual
from engine.threads import ThreadDoor
from engine.transfer.sinks import MemorySink
from engine.types import MiB, PartReceipt, UploadId
from tests.rules.conftest import HASTY, Open
from tests.unit.origin import (
    Exchange,
    answers,
    error_xml,
    hang_up,
    run_origin,
    serve_s3,
    silent,
)
from tests.unit.planes.test_wire import PATH, URL, StaticLease, data_of

BIG = data_of(3 * MiB)


async def test_rule_18_the_youngest_connection_is_used_first(wire: Open) -> None:
    async with wire() as s3:
        s3.origin.objects[PATH] = b"abc"
        all_there = asyncio.Barrier(4)  # else an early answer's connection serves a late request

        async def together(exchange: Exchange) -> None:
            await all_there.wait()
            await serve_s3(exchange)

        s3.origin.script.extend([together] * 4)
        await asyncio.gather(*(s3.get(3) for _ in range(4)))
        assert s3.idle() == 4
        for _ in range(6):
            await s3.get(3)
        assert s3.origin.connections == 4
        assert len({request.connection for request in s3.origin.requests[4:]}) == 1


def test_rule_18_a_connection_rests_for_four_seconds_at_most() -> None:
    """S3 closes them after 5 to 20 seconds. The loop's clock decides, so no second is waited."""

    async def main() -> list[int]:
        seen = []
        async with run_origin() as origin, plane_at(f"http://127.0.0.1:{origin.port}") as plane:
            origin.objects[PATH] = b"abc"
            for rest in (0.0, IDLE_SECONDS - 0.5, IDLE_SECONDS + 0.5):
                await asyncio.sleep(rest)
                await plane.get_range(URL, MemorySink(3), 0, range=None, etag=None, algorithm=None)
                seen.append(origin.connections)
        return seen

    assert IDLE_SECONDS < 5
    assert run_virtual(main) == [1, 1, 2]


@pytest.mark.parametrize("data", [b"x", BIG], ids=["small", "big"])
async def test_rule_18_a_reused_connection_that_dies_is_replaced_for_nothing(
    wire: Open, data: bytes
) -> None:
    """F:silent, F:idle: the server closes at the very moment we send."""

    async def reset(exchange: Exchange) -> None:
        exchange.reset()

    async with wire() as s3:
        for number, fault in enumerate((hang_up, reset), 1):
            await s3.put(b"first")
            s3.origin.script.append(fault)
            await s3.put(data)
            assert s3.origin.objects[PATH] == data
            assert s3.plane.statistics().pool.replaced == number
        s3.origin.script.extend([hang_up, hang_up])
        with pytest.raises(ConnectionFailed):
            await s3.put(data)  # once, not over and over


async def test_rule_19_complete_is_not_repeated_blindly(wire: Open) -> None:
    part = PartReceipt(1, 0, 1, '"e"', None, None)
    async with wire() as s3:
        await s3.put()
        s3.origin.script.append(hang_up)
        with pytest.raises(ConnectionFailed):
            await s3.control.complete_multipart_upload(URL, UploadId("u"), [part], None, 1)
        posts = [request for request in s3.origin.requests if request.method == "POST"]
        assert len(posts) == 1
        assert s3.plane.statistics().pool.replaced == 0


async def test_rule_20_request_timeout_is_our_dead_socket(wire: Open) -> None:
    async with wire() as s3:
        s3.origin.script.append(answers(400, error_xml("RequestTimeout")))
        with pytest.raises(S3Error) as caught:
            await s3.put()
        assert classify(caught.value) is Verdict.RETRY
        assert s3.idle() == 0
        await s3.put()
        assert s3.origin.connections == 2


@pytest.mark.parametrize(
    ("status", "code"), [(503, "SlowDown"), (503, "ServiceUnavailable"), (429, "TooManyRequests")]
)
async def test_rule_20_slow_down_is_obeyed_on_the_same_connection(
    wire: Open, status: int, code: str
) -> None:
    """F:503."""
    async with wire() as s3:
        s3.origin.script.append(answers(status, error_xml(code), Retry_After="7"))
        with pytest.raises(S3Error) as caught:
            await s3.put()
        assert caught.value.retry_after == 7.0
        assert classify(caught.value) is Verdict.RETRY
        await s3.put()
        assert s3.origin.connections == 1


@asynccontextmanager
async def plane_at(
    url: str, timeouts: Timeouts = HASTY, bundle: Path | None = None
) -> AsyncIterator[WirePlane]:
    threads = ThreadDoor()
    plane = WirePlane(
        Endpoints(s3=url, timeouts=timeouts, ca_bundle=str(bundle) if bundle else None),
        StaticLease(),
        clock=LoopClock(),
        threads=threads,
        user_agent="s3engine/test",
    )
    try:
        yield plane
    finally:
        await plane.aclose()
        threads.close()


async def test_rule_21_connecting_has_an_end(
    authority: tuple[ssl.SSLContext, Path],
) -> None:
    """Nobody takes the call; somebody takes it and says nothing of TLS."""
    hasty = Timeouts(connect=0.2)
    sink = MemorySink(1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        async with plane_at(f"https://127.0.0.1:{port}", hasty, authority[1]) as plane:
            with pytest.raises(ConnectionFailed, match="timed out after 0.2 s: connecting"):
                await plane.get_range(URL, sink, 0, range=None, etag=None, algorithm=None)


async def test_rule_21_the_first_byte_has_a_limit(wire: Open) -> None:
    async with wire(timeouts=HASTY) as s3:
        s3.origin.script.append(silent)
        with pytest.raises(ConnectionFailed, match=r"timed out after 0\.4 s: the answer's head"):
            await s3.get(3)


async def test_rule_21_a_body_must_move(wire: Open) -> None:
    async def stall(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nETag: x\r\nContent-Length: 9\r\n\r\nabc")
        await asyncio.sleep(30)

    async def deaf(exchange: Exchange) -> None:
        await asyncio.sleep(30)

    async with wire(timeouts=HASTY) as s3:
        s3.origin.script.append(stall)
        with pytest.raises(ConnectionFailed, match="the answer's body"):
            await s3.get(9)
        s3.origin.script.append(deaf)
        with pytest.raises(ConnectionFailed, match="sending"):
            await s3.put(bytes(32 * MiB))


async def test_rule_21_a_body_that_drips_is_given_up(wire: Open) -> None:
    """Each byte is progress, but not enough of it."""
    sent = 0

    async def drip(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.send(b"HTTP/1.1 200 OK\r\nETag: x\r\nContent-Length: 900\r\n\r\n")
        while sent < 899:
            await exchange.send(b"x")
            sent += 1
            await asyncio.sleep(0.05)

    async with wire(timeouts=HASTY) as s3:
        s3.origin.script.append(drip)
        with pytest.raises(ConnectionFailed, match=r"under 1024 bytes in 0\.4 s"):
            await s3.get(900)
        assert 8 < sent < 100


async def test_rule_21_a_small_answer_has_a_limit_in_all(wire: Open) -> None:
    """Blanks are progress while Complete works, but not for ever."""

    async def blanks(exchange: Exchange) -> None:
        await exchange.read_body()
        await exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await exchange.send(b"1\r\n \r\n")
            await asyncio.sleep(0.05)

    part = PartReceipt(1, 0, 1, '"e"', None, None)
    async with wire(timeouts=HASTY) as s3:
        s3.origin.script.append(blanks)
        with pytest.raises(ConnectionFailed, match="no whole answer within"):
            await s3.control.complete_multipart_upload(URL, UploadId("u"), [part], None, 1)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_rule_21_a_redirect_goes_nowhere(wire: Open, status: int) -> None:
    """To the regions of AWS's own hosts: ``tests/integration/test_regions.py``."""
    async with wire() as s3, run_origin() as other:
        where = f"http://127.0.0.1:{other.port}/bucket/key"
        s3.origin.script.extend([answers(status, Location=where)] * 2)
        for request in (s3.put(), s3.get(1)):
            with pytest.raises(RedirectRefused):
                await request
        assert (other.connections, len(s3.origin.requests)) == (0, 2)


async def test_rule_21_after_all_of_that_it_works(wire: Open) -> None:
    """A time-out, a redirect and a reset leave nothing behind that stands in the way."""

    async def reset(exchange: Exchange) -> None:
        exchange.reset()

    async with wire(timeouts=HASTY, max_connections=1) as s3:
        s3.origin.script.extend([silent, answers(307, Location="http://a"), reset, serve_s3])
        for kind in (ConnectionFailed, RedirectRefused):
            with pytest.raises(kind):
                await s3.put()
        await s3.put()
        assert "busy=0/1" in repr(s3.plane)
