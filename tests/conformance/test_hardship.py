"""Both data planes against an origin that lies, stops, or answers too soon."""

from __future__ import annotations

import asyncio
import time
from typing import final

import pytest

from engine.config import Timeouts
from engine.errors import ConnectionFailed, ProtocolError, TransferError
from engine.protocols import ByteSource
from engine.transfer.sinks import MemorySink
from engine.transfer.sources import BytesSource
from engine.types import ByteRange, Credentials, MiB, UploadId
from tests.conformance.servers import Server
from tests.conformance.store import CRC, open_store
from tests.unit.origin import Exchange, Script, run_origin

pytestmark = pytest.mark.slow

KEYS = Credentials("AKIDEXAMPLE", "secret", "token")
SHORT = Timeouts(connect=2.0, first_byte=0.5, stall=0.5)
SPAN = ByteRange(100, 200)


def head(status: int, *lines: str) -> bytes:
    return "\r\n".join((f"HTTP/1.1 {status} X", *lines, "", "")).encode()


def sends(*pieces: bytes) -> Script:
    async def script(exchange: Exchange) -> None:
        for piece in pieces:
            await exchange.send(piece)

    return script


RANGE = "Content-Range: bytes 100-199/1000"
LIES = {
    "the whole object": head(200, 'ETag: "e"', "Content-Length: 1000") + bytes(1000),
    "another range": head(206, 'ETag: "e"', "Content-Length: 100", RANGE.replace("100-", "0-"))
    + bytes(100),
    "a shorter range": head(206, 'ETag: "e"', "Content-Length: 50", RANGE) + bytes(50),
    "no range": head(206, 'ETag: "e"', "Content-Length: 100") + bytes(100),
    "a size below it": head(206, 'ETag: "e"', "Content-Length: 100", RANGE[:-4] + "150")
    + bytes(100),
    "no ETag": head(206, "Content-Length: 100", RANGE) + bytes(100),
    "another ETag": head(206, 'ETag: "other"', "Content-Length: 100", RANGE) + bytes(100),
    "no length": head(206, 'ETag: "e"', "Transfer-Encoding: chunked", RANGE) + b"0\r\n\r\n",
}


@pytest.mark.parametrize("lie", LIES)
async def test_an_answer_with_other_bytes_is_refused(plane: str, lie: str) -> None:
    async with run_origin() as origin:
        origin.script.extend([sends(LIES[lie])] * 2)
        server = Server(f"http://127.0.0.1:{origin.port}", KEYS, "bucket")
        async with open_store(plane, server) as store:
            sink = MemorySink(100)
            with pytest.raises(TransferError, match="key") as caught:
                await store.data.get_range(
                    store.url("key"), sink, 0, range=SPAN, etag='"e"', algorithm=CRC
                )
            assert not isinstance(caught.value, ConnectionFailed)
            assert bytes(sink.data) == bytes(100), "not a byte of it was taken"


async def test_a_success_before_the_body_was_sent_is_an_error(plane: str) -> None:
    async with run_origin() as origin:
        origin.script.append(sends(head(200, 'ETag: "e"', "Content-Length: 0")))
        server = Server(f"http://127.0.0.1:{origin.port}", KEYS, "bucket")
        async with open_store(plane, server) as store:
            with pytest.raises((ProtocolError, ConnectionFailed), match="key"):
                await store.data.put_object(store.url("key"), Zeros(64 * MiB), CRC)


@final
class Zeros(ByteSource):
    """As many zeros as asked for; counts those that were read."""

    name = "zeros"

    def __init__(self, size: int) -> None:
        self.size, self.read = size, 0

    def read_into(self, offset: int, view: memoryview) -> None:
        assert len(view) <= MiB, "in pieces"
        self.read += len(view)

    def check_unchanged(self) -> None:
        """It never changes."""


async def forever(exchange: Exchange) -> None:
    await asyncio.Event().wait()


async def test_a_server_that_does_not_read_stops_the_source_and_is_given_up(plane: str) -> None:
    """So memory has a limit whatever the object's size is: the sockets' buffers and some pieces."""
    async with run_origin() as origin:
        origin.script.append(forever)
        server = Server(f"http://127.0.0.1:{origin.port}", KEYS, "bucket")
        async with open_store(plane, server, timeouts=SHORT) as store:
            source = Zeros(256 * MiB)
            with pytest.raises(ConnectionFailed, match="upload part of s3://bucket/key"):
                await store.data.upload_part(
                    store.url("key"), UploadId("u"), 1, source, 0, source.size, None
                )
            assert source.read < 32 * MiB


@pytest.mark.parametrize("after", ["the request", "the head", "half of the body"])
async def test_a_server_that_falls_silent_is_given_up(plane: str, after: str) -> None:
    start = head(206, 'ETag: "e"', "Content-Length: 100", RANGE)
    said = {"the request": b"", "the head": start, "half of the body": start + bytes(50)}[after]

    async def script(exchange: Exchange) -> None:
        await exchange.send(said)
        await asyncio.Event().wait()

    async with run_origin() as origin:
        origin.script.append(script)
        server = Server(f"http://127.0.0.1:{origin.port}", KEYS, "bucket")
        async with open_store(plane, server, timeouts=SHORT) as store:
            with pytest.raises(ConnectionFailed, match="get object of s3://bucket/key"):
                await store.data.get_range(
                    store.url("key"), MemorySink(100), 0, range=SPAN, etag='"e"', algorithm=CRC
                )


async def test_a_cancelled_request_costs_its_connection_only(plane: str) -> None:
    async with run_origin() as origin:
        origin.script.append(forever)
        server = Server(f"http://127.0.0.1:{origin.port}", KEYS, "bucket")
        async with open_store(plane, server) as store:
            url, source = store.url("key"), BytesSource(bytes(MiB))
            task = asyncio.ensure_future(store.data.put_object(url, source, CRC))
            while not origin.requests:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            origin.objects["/bucket/key"] = b"bytes"
            sink = MemorySink(5)
            await store.data.get_range(url, sink, 0, range=None, etag=None, algorithm=CRC)
            assert bytes(sink.data) == b"bytes"
            assert origin.connections == 2


@final
class Slow(ByteSource):
    """A disk that takes its time; ``busy`` while it is asked."""

    name = "slow"
    size = 8 * MiB

    def __init__(self) -> None:
        self.busy = 0

    def read_into(self, offset: int, view: memoryview) -> None:
        self.busy += 1
        time.sleep(0.05)
        self.busy -= 1

    def check_unchanged(self) -> None:
        """It never changes."""


async def test_a_source_is_not_read_any_more_once_its_request_was_cancelled(plane: str) -> None:
    """Its descriptor is closed next, and the number may soon be another file's."""
    async with run_origin() as origin:
        server = Server(f"http://127.0.0.1:{origin.port}", KEYS, "bucket")
        async with open_store(plane, server) as store:
            source = Slow()
            url, part = store.url("key"), UploadId("u")
            task = asyncio.ensure_future(
                store.data.upload_part(url, part, 1, source, 0, source.size, None)
            )
            while not origin.requests or not source.busy:
                await asyncio.sleep(0.005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert source.busy == 0
            await asyncio.sleep(0.2)
            assert source.busy == 0
