"""The wire plane against an origin that misbehaves in every way we know of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import final

import anyio
import pytest
import trustme

from engine.clock import LoopClock
from engine.config import Endpoints, Timeouts
from engine.errors import (
    AccessDenied,
    ChecksumMismatch,
    ConnectionFailed,
    EngineError,
    NotFound,
    ObjectChanged,
    ProtocolError,
    RedirectRefused,
    S3Error,
)
from engine.planes import DATA_PLANES
from engine.planes.wire import WirePlane
from engine.protocols import Lease
from engine.threads import ThreadDoor
from engine.transfer.checksums.crc64nvme import Crc64Nvme
from engine.transfer.sinks import MemorySink
from engine.transfer.sources import BytesSource
from engine.types import ByteRange, Credentials, MiB, S3Url, UploadId
from tests.unit.origin import (
    Exchange,
    Origin,
    answers,
    error_xml,
    hang_up,
    run_origin,
    says,
    serve_s3,
    silent,
    tls_here,
)

URL = S3Url("bucket", "dir/a key+ü")
PATH = "/bucket/dir/a%20key%2B%C3%BC"
SECRET = "SECRETSECRET"
TOKEN = "TOKENTOKEN"
CRC = Crc64Nvme()
SHORT = Timeouts(connect=0.3, first_byte=0.15, stall=0.15)


@final
class StaticLease(Lease):
    """One set of keys; remembers what was reported."""

    def __init__(self) -> None:
        self.credentials = Credentials("AKIDEXAMPLE", SECRET, TOKEN)
        self.reported: list[Credentials] = []

    async def ready(self) -> Credentials:
        return self.credentials

    async def at_least(self, seconds: float) -> Credentials:
        return self.credentials

    def remaining(self, credentials: Credentials) -> float:
        return float("inf")

    def age(self, credentials: Credentials) -> float:
        return float("inf")

    def report_worked(self, credentials: Credentials, sent_at: float | None = None) -> None:
        """Nothing to remember."""

    async def renewed_after_denial(
        self, credentials: Credentials, *, unknown_key: bool = False
    ) -> bool:
        return False

    def report_expired(self, credentials: Credentials) -> None:
        self.reported.append(credentials)


@asynccontextmanager
async def plane_at(
    where: str,
    timeouts: Timeouts | None = None,
    lease: StaticLease | None = None,
    threads: ThreadDoor | None = None,
    bundle: Path | None = None,
) -> AsyncIterator[WirePlane]:
    trusted = None if bundle is None else str(bundle)
    plane = WirePlane(
        Endpoints(s3=where, ca_bundle=trusted, timeouts=timeouts or Timeouts()),
        lease or StaticLease(),
        clock=LoopClock(),
        threads=threads or ThreadDoor(),
        user_agent="s3engine/test",
    )
    try:
        yield plane
    finally:
        await plane.aclose()


def plane_of(
    origin: Origin,
    timeouts: Timeouts | None = None,
    lease: StaticLease | None = None,
    threads: ThreadDoor | None = None,
) -> AbstractAsyncContextManager[WirePlane]:
    return plane_at(f"http://127.0.0.1:{origin.port}", timeouts, lease, threads)


async def get(
    plane: WirePlane, size: int, *, span: ByteRange | None = None, etag: str | None = None
) -> bytes:
    sink = MemorySink(size)
    receipt = await plane.get_range(URL, sink, 0, range=span, etag=etag, algorithm=CRC)
    assert receipt.crc == CRC.update(bytes(sink.data[: receipt.size]))
    return bytes(sink.data)


def data_of(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def test_the_plane_is_found_by_name() -> None:
    assert DATA_PLANES.get("wire") is WirePlane


@pytest.mark.parametrize("size", [0, 1, MiB, MiB + 1, 3 * MiB + 7])
async def test_an_object_goes_up_and_comes_back(size: int) -> None:
    data = data_of(size)
    async with run_origin() as origin, plane_of(origin) as plane:
        receipt = await plane.put_object(URL, BytesSource(data), CRC)
        assert origin.objects[PATH] == data
        assert receipt.etag == '"e1"'
        assert receipt.checksum is not None
        assert receipt.checksum.value == CRC.encode(CRC.update(data))
        assert await get(plane, size) == data
        assert origin.connections == 1
        request = origin.requests[0]
        assert request.headers["content-length"] == str(size)
        assert request.headers["host"] == f"127.0.0.1:{origin.port}"
        assert request.headers["x-amz-security-token"] == TOKEN
        assert "transfer-encoding" not in request.headers
        statistics = plane.statistics()
        assert (statistics.requests, statistics.bytes_sent) == (2, size)
        assert statistics.bytes_received == size
        assert "busy=0/512 idle=1" in repr(plane)


async def test_a_part_is_the_span_that_was_asked_for() -> None:
    data = data_of(4 * MiB)
    async with run_origin() as origin, plane_of(origin) as plane:
        receipt = await plane.upload_part(
            URL, UploadId("u/1"), 3, BytesSource(data), MiB + 5, 2 * MiB + 1, CRC
        )
        sent = data[MiB + 5 : 3 * MiB + 6]
        assert origin.objects[f"{PATH}?partNumber=3&uploadId=u%2F1"] == sent
        assert (receipt.number, receipt.offset, receipt.size) == (3, MiB + 5, 2 * MiB + 1)
        assert receipt.crc == CRC.update(sent)


async def test_a_range_is_pinned_and_checked() -> None:
    data = data_of(3 * MiB)
    async with run_origin() as origin, plane_of(origin) as plane:
        origin.objects[PATH] = data
        sink = MemorySink(2 * MiB)
        span = ByteRange(5, 5 + 2 * MiB)
        receipt = await plane.get_range(URL, sink, 0, range=span, etag='"e1"', algorithm=None)
        assert bytes(sink.data) == data[5 : 5 + 2 * MiB]
        assert (receipt.size, receipt.object.size, receipt.crc) == (2 * MiB, 3 * MiB, None)
        assert origin.requests[0].headers["if-match"] == '"e1"'


async def test_the_head_of_an_object_becomes_its_info() -> None:
    async with run_origin() as origin, plane_of(origin) as plane:
        origin.script.append(
            answers(
                200,
                b"abc",
                ETag='"e9"',
                Last_Modified="Tue, 24 Nov 2026 10:00:00 GMT",
                x_amz_version_id="v1",
                x_amz_meta_Colour="red",
                x_amz_checksum_crc32c="AAAAAA==-3",
            )
        )
        receipt = await plane.get_range(
            URL, MemorySink(3), 0, range=None, etag=None, algorithm=None
        )
        info = receipt.object
        assert (info.etag, info.version_id, info.metadata) == ('"e9"', "v1", {"colour": "red"})
        assert info.checksum is not None and not info.checksum.full_object
        assert info.last_modified is not None and info.last_modified.hour == 10


ERRORS = [
    (403, "AccessDenied", AccessDenied),
    (404, "NoSuchKey", NotFound),
    (412, "PreconditionFailed", ObjectChanged),
    (503, "SlowDown", S3Error),
    (400, "AuthorizationHeaderMalformed", S3Error),
]


@pytest.mark.parametrize(("status", "code", "kind"), ERRORS)
async def test_an_error_document_becomes_its_class(
    status: int, code: str, kind: type[S3Error]
) -> None:
    extra = f"<Region>eu-west-1</Region><Token-0>{TOKEN}</Token-0>"
    async with run_origin() as origin, plane_of(origin) as plane:
        origin.script.append(answers(status, error_xml(code, extra), Retry_After="7"))
        with pytest.raises(kind) as caught:
            await get(plane, 3, span=ByteRange(0, 3), etag='"e1"')
        error = caught.value
        assert type(error) is kind
        assert (error.s3_code, error.status, error.retry_after) == (code, status, 7.0)
        assert error.server_time_offset is not None
        assert error.facts["request_id"] == "REQ1"
        assert error.facts["bucket_region"] == "eu-west-1"
        assert str(URL) in str(error)
        for secret in (TOKEN, SECRET, "AKIDEXAMPLE"):
            assert secret not in str(error) + repr(error)
        await get_works_on_the_same_connection(plane, origin)


async def get_works_on_the_same_connection(plane: WirePlane, origin: Origin) -> None:
    origin.objects[PATH] = b"abc"
    assert await get(plane, 3) == b"abc"
    assert origin.connections == 1


async def test_412_on_put_is_no_changed_object() -> None:
    async with run_origin() as origin, plane_of(origin) as plane:
        origin.script.append(answers(412, error_xml("PreconditionFailed")))
        with pytest.raises(S3Error) as caught:
            await plane.put_object(URL, BytesSource(b"x"), CRC)
        assert type(caught.value) is S3Error


async def test_an_expired_token_is_reported_once_with_its_credentials() -> None:
    lease = StaticLease()
    async with run_origin() as origin, plane_of(origin, lease=lease) as plane:
        origin.script.append(answers(400, error_xml("ExpiredToken")))
        with pytest.raises(S3Error, match="ExpiredToken"):
            await get(plane, 1)
        assert lease.reported == [lease.credentials]


async def test_a_skewed_clock_learns_the_servers_date() -> None:
    async with run_origin() as origin, plane_of(origin) as plane:
        origin.script.append(answers(403, error_xml("RequestTimeTooSkewed")))
        with pytest.raises(S3Error, match="RequestTimeTooSkewed"):
            await get(plane, 1)
        origin.objects[PATH] = b"x"
        await get(plane, 1)
        assert origin.requests[1].headers["x-amz-date"].startswith("20261124T1200")


async def test_a_redirect_is_refused_and_names_only_the_host() -> None:
    async with run_origin() as origin, plane_of(origin) as plane:
        where = "https://evil.example/x?X-Amz-Signature=abc"
        origin.script.append(answers(307, Location=where))
        with pytest.raises(RedirectRefused) as caught:
            await plane.put_object(URL, BytesSource(b"x"), CRC)
        assert caught.value.facts["redirected_to"] == "evil.example"
        assert "abc" not in str(caught.value)
        assert len(origin.requests) == 1


async def test_a_bucket_elsewhere_says_its_region() -> None:
    async with run_origin() as origin, plane_of(origin) as plane:
        origin.script.append(answers(301, b"", x_amz_bucket_region="eu-west-1"))
        with pytest.raises(S3Error) as caught:
            await get(plane, 1)
        assert caught.value.facts["bucket_region"] == "eu-west-1"


WRONG_RANGES = [
    pytest.param(answers(206, b"abc", ETag='"e1"', Content_Range="bytes 1-3/9"), id="wrongrange"),
    pytest.param(answers(206, b"ab", ETag='"e1"', Content_Range="bytes 0-2/9"), id="length"),
    pytest.param(answers(206, b"abc", ETag='"e1"', Content_Range="bytes 0-2/*"), id="no-total"),
    pytest.param(answers(206, b"abc", ETag='"e1"'), id="no-content-range"),
    pytest.param(answers(200, b"abcdef", ETag='"e1"'), id="norange"),
    pytest.param(
        answers(206, b"abc", Content_Range="bytes 0-2/9"),
        id="no-etag",
    ),
    pytest.param(says(b"HTTP/1.1 206 X\r\nETag: x\r\n\r\nabc", close=True), id="no-length"),
    pytest.param(answers(204), id="204"),
]


@pytest.mark.parametrize("script", WRONG_RANGES)
async def test_other_bytes_than_asked_for_are_refused(script: object) -> None:
    async with run_origin() as origin, plane_of(origin) as plane:
        origin.script.append(script)  # type: ignore[arg-type]
        with pytest.raises(ProtocolError, match="dir/a key"):
            await get(plane, 3, span=ByteRange(0, 3))


async def test_a_whole_answer_to_a_range_over_everything_is_taken() -> None:
    async with run_origin() as origin, plane_of(origin) as plane:
        origin.script.append(answers(200, b"abc", ETag='"e1"'))
        assert await get(plane, 3, span=ByteRange(0, 3)) == b"abc"


async def test_another_etag_than_the_pinned_one_is_a_changed_object() -> None:
    async with run_origin() as origin, plane_of(origin) as plane:
        origin.objects[PATH] = b"abc"
        with pytest.raises(ObjectChanged):
            await get(plane, 3, etag='"other"')


async def test_a_short_body_is_an_error_and_never_a_success() -> None:
    head = b"HTTP/1.1 200 OK\r\nETag: x\r\nContent-Length: 2000000\r\n\r\n"
    async with run_origin() as origin, plane_of(origin) as plane:
        origin.script.append(says(head + bytes(1_500_000), close=True))
        with pytest.raises(ConnectionFailed, match="500000 bytes"):
            await get(plane, 2_000_000)
        origin.objects[PATH] = b"abc"
        assert await get(plane, 3) == b"abc"
        assert origin.connections == 2


async def test_a_put_without_an_etag_is_no_success() -> None:
    async with run_origin() as origin, plane_of(origin) as plane:
        origin.script.append(answers(200))
        with pytest.raises(ProtocolError, match="ETag"):
            await plane.put_object(URL, BytesSource(b"x"), CRC)


async def test_another_checksum_in_the_answer_is_a_mismatch() -> None:
    async with run_origin() as origin, plane_of(origin) as plane:
        origin.script.append(answers(200, ETag='"e1"', x_amz_checksum_crc64nvme="AAAAAAAAAAA="))
        with pytest.raises(ChecksumMismatch):
            await plane.put_object(URL, BytesSource(b"x"), CRC)


async def test_a_store_without_checksums_gives_no_checksum() -> None:
    async with run_origin() as origin, plane_of(origin) as plane:
        origin.script.append(answers(200, ETag='"e1"'))
        receipt = await plane.put_object(URL, BytesSource(b"x"), CRC)
        assert receipt.checksum is None


@pytest.mark.parametrize("reset", [False, True])
async def test_an_early_answer_stops_the_upload_and_is_read(reset: bool) -> None:
    async def early(exchange: Exchange) -> None:
        await exchange.read_body(limit=70_000)
        await exchange.answer(503, error_xml("SlowDown"))
        if reset:
            exchange.reset()
        else:
            exchange.close = True
            await asyncio.sleep(0.05)

    async with run_origin() as origin, plane_of(origin) as plane:
        origin.script.append(early)
        source = BytesSource(bytes(32 * MiB))
        with pytest.raises(S3Error, match="SlowDown"):
            await plane.put_object(URL, source, CRC)
        await plane.put_object(URL, BytesSource(b"x"), CRC)
        assert origin.connections == 2


async def test_an_early_success_is_an_error() -> None:
    async def early(exchange: Exchange) -> None:
        await exchange.read_body(limit=70_000)
        await exchange.answer(200, ETag='"e1"')
        await asyncio.sleep(0.05)
        await exchange.reader.readexactly(30 * MiB)

    async with run_origin() as origin, plane_of(origin) as plane:
        origin.script.append(early)
        with pytest.raises(ProtocolError, match="before it had the whole body"):
            await plane.put_object(URL, BytesSource(bytes(32 * MiB)), CRC)


async def test_a_dead_reused_connection_is_replaced_for_free() -> None:
    data = data_of(2 * MiB)
    async with run_origin() as origin, plane_of(origin) as plane:
        origin.script.extend([serve_s3, hang_up, serve_s3])
        await plane.put_object(URL, BytesSource(b"x"), CRC)
        await plane.put_object(URL, BytesSource(data), CRC)
        assert origin.objects[PATH] == data
        assert plane.statistics().pool.replaced == 1
        origin.script.append(hang_up)
        origin.script.append(hang_up)
        with pytest.raises(ConnectionFailed, match="before the answer"):
            await plane.put_object(URL, BytesSource(data), CRC)


async def test_a_silent_server_is_given_up() -> None:
    async with run_origin() as origin, plane_of(origin, SHORT) as plane:
        origin.script.append(silent)
        with pytest.raises(ConnectionFailed, match=r"timed out after 0\.15 s: the answer's head"):
            await get(plane, 1)


async def test_a_stalled_body_is_given_up() -> None:
    head = b"HTTP/1.1 200 OK\r\nETag: x\r\nContent-Length: 200\r\n\r\nabc"

    async def stall(exchange: Exchange) -> None:
        await exchange.send(head)
        await silent(exchange)

    async with run_origin() as origin, plane_of(origin, SHORT) as plane:
        origin.script.append(stall)
        with pytest.raises(ConnectionFailed, match="the answer's body"):
            await get(plane, 200)


async def test_a_server_that_does_not_read_is_given_up() -> None:
    async def deaf(exchange: Exchange) -> None:
        await asyncio.Event().wait()

    async with run_origin() as origin, plane_of(origin, SHORT) as plane:
        origin.script.append(deaf)
        with pytest.raises(ConnectionFailed, match="sending"):
            await plane.put_object(URL, BytesSource(bytes(32 * MiB)), CRC)


async def test_a_cancelled_request_closes_its_connection() -> None:
    async with run_origin() as origin, plane_of(origin) as plane:
        origin.script.append(silent)
        with anyio.move_on_after(0.05):
            await get(plane, 1)
        statistics = plane.statistics().pool
        assert (statistics.busy, statistics.idle, statistics.dropped) == (0, 0, 1)


async def test_a_slow_sink_does_not_lose_bytes() -> None:
    data = data_of(5 * MiB)
    async with run_origin() as origin, plane_of(origin) as plane:
        origin.objects[PATH] = data

        async def one(start: int) -> bytes:
            return await get(plane, MiB, span=ByteRange(start, start + MiB), etag='"e1"')

        parts = await asyncio.gather(*(one(n * MiB) for n in range(5)))
        assert b"".join(parts) == data


async def test_nobody_there_is_a_failed_connection() -> None:
    async with run_origin() as origin:
        pass
    async with plane_of(origin) as plane:
        with pytest.raises(ConnectionFailed, match="could not connect"):
            await get(plane, 1)


@asynccontextmanager
async def tls_plane(tmp_path: Path, *, trusted: bool) -> AsyncIterator[tuple[Origin, WirePlane]]:
    context, bundle = tls_here(tmp_path)
    if not trusted:
        trustme.CA().cert_pem.write_to_path(bundle)
    async with run_origin(context) as origin:
        async with plane_at(f"https://127.0.0.1:{origin.port}", bundle=bundle) as plane:
            yield origin, plane


async def test_tls_both_ways(tmp_path: Path) -> None:
    data = data_of(5 * MiB + 3)
    async with tls_plane(tmp_path, trusted=True) as (origin, plane):
        await plane.put_object(URL, BytesSource(data), CRC)
        assert origin.objects[PATH] == data
        assert await get(plane, len(data)) == data
        assert origin.connections == 1


async def test_an_untrusted_certificate_is_refused_for_good(tmp_path: Path) -> None:
    async with tls_plane(tmp_path, trusted=False) as (origin, plane):
        with pytest.raises(ConnectionFailed, match="certificate") as caught:
            await get(plane, 1)
        error: EngineError = caught.value
        assert not error.retryable
        assert origin.requests == []
