"""Rules 8 to 17: what is taken for an answer."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from engine._wire.http11 import MAX_FIELDS, MAX_HEAD_BYTES
from engine._wire.pool import MAX_SMALL_BODY
from engine.errors import (
    ConnectionFailed,
    EngineError,
    NotFound,
    ObjectChanged,
    ProtocolError,
    S3Error,
)
from engine.protocols import CopySource
from engine.types import ByteRange, MiB, PartReceipt, S3Url, UploadId
from tests.rules.conftest import HASTY, Open, Wire
from tests.unit.origin import (
    Exchange,
    Script,
    answers,
    error_xml,
    hang_up,
    says,
    serve_s3,
    silent,
)
from tests.unit.planes.test_wire import CRC, PATH, URL, data_of

OK = b"HTTP/1.1 200 OK\r\n"
GOOD = OK + b"ETag: x\r\nContent-Length: 3\r\n\r\nabc"
BIG = data_of(3 * MiB)


async def works_again(s3: Wire, connections: int) -> None:
    """The next request is answered, over connection number ``connections``."""
    s3.origin.objects[PATH] = b"abc"
    assert await s3.get(3) == b"abc"
    assert s3.origin.connections == connections


async def refuses(s3: Wire, script: Script, kind: type[EngineError] = ProtocolError) -> str:
    """The answer is an error that may be tried again, and its connection is gone."""
    s3.origin.script.append(script)
    before = s3.origin.connections
    with pytest.raises(kind) as caught:
        await s3.get(3)
    assert caught.value.retryable and str(URL) in str(caught.value)
    await works_again(s3, max(before, 1) + 1)
    return str(caught.value)


@pytest.mark.parametrize("interim", [[100], [102, 103], [100] * 50])
async def test_rule_08_interim_answers_are_read_over(wire: Open, interim: list[int]) -> None:
    """F:1xx. Also a late 100, behind the body of the request."""
    stream = b"".join(b"HTTP/1.1 %d X\r\nLink: <a>\r\n\r\n" % status for status in interim)

    async def script(exchange: Exchange) -> None:
        await exchange.read_body()
        for start in range(0, len(stream), 7):
            await exchange.send(stream[start : start + 7])
        await serve_s3(exchange) if exchange.request.method == "GET" else await exchange.answer(
            200, ETag='"e"'
        )

    async with wire() as s3:
        s3.origin.objects[PATH] = b"abc"
        s3.origin.script.extend([script, script])
        await s3.put(b"12345")
        assert await s3.get(3) == b"abc"
        assert s3.origin.connections == 1


async def test_rule_08_switching_protocols_is_an_error(wire: Open) -> None:
    async with wire() as s3:
        await refuses(s3, says(b"HTTP/1.1 101 X\r\nUpgrade: x\r\n\r\n"))
        await refuses(s3, says(b"HTTP/1.1 100 X\r\n\r\n" * 200))


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(OK + b"A: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n", id="bighdr"),
        pytest.param(OK + b"A: x\r\n" * (MAX_FIELDS + 1) + b"\r\n", id="many"),
        pytest.param(OK + b"A: x\r\n folded\r\nContent-Length: 0\r\n\r\n", id="fold"),
        pytest.param(OK + b"Content-Length : 3\r\n\r\nabc", id="blank-before-colon"),
        pytest.param(OK + b"no colon\r\n\r\n", id="no-colon"),
        pytest.param(b"HTTP/2 200 OK\r\n\r\n", id="version"),
        pytest.param(b"HTTP/1.1 20 OK\r\n\r\n", id="status"),
        pytest.param(b"HTTP/1.1  200 OK\r\n\r\n", id="two-blanks"),
        pytest.param(b"ICY 200 OK\r\n\r\n", id="not-http"),
        pytest.param(b"\r\n" + GOOD, id="blank-line"),
    ],
)
async def test_rule_09_heads_have_limits_and_a_form(wire: Open, head: bytes) -> None:
    """F:bighdr."""
    async with wire() as s3:
        await refuses(s3, says(head))


async def test_rule_09_case_and_blanks_do_not_matter(wire: Open) -> None:
    head = b'HTTP/1.1 200\r\neTaG:\t "e9" \t\r\nCONTENT-length:3\r\nX-AMZ-meta-A:  b \r\n\r\nabc'
    async with wire() as s3:
        s3.origin.script.append(says(head))
        assert await s3.get(3, etag='"e9"') == b"abc"
        await works_again(s3, 1)


async def test_rule_09_http_1_0_is_not_kept(wire: Open) -> None:
    async with wire() as s3:
        s3.origin.script.append(says(GOOD.replace(b"1.1", b"1.0")))
        assert await s3.get(3) == b"abc"
        await works_again(s3, 2)


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 3\r\nContent-Length: 4\r\n",
        b"Content-Length: 3, 4\r\n",
        b"Content-Length: +3\r\n",
        b"Content-Length: -3\r\n",
        b"Content-Length: 0x3\r\n",
        b"Content-Length: 3 \xb2\r\n",
        b"Content-Length: \r\n",
        b"Content-Length: 99999999999999999999\r\n",
        b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
    ],
)
async def test_rule_10_a_doubtful_length_is_an_error(wire: Open, fields: bytes) -> None:
    async with wire() as s3:
        await refuses(s3, says(OK + b"ETag: x\r\n" + fields + b"\r\nabc"))


async def test_rule_10_equal_lengths_are_one(wire: Open) -> None:
    async with wire() as s3:
        s3.origin.script.append(says(GOOD.replace(b"ETag", b"Content-Length: 3\r\nETag")))
        assert await s3.get(3) == b"abc"
        await works_again(s3, 1)


async def test_rule_11_no_body_whatever_the_fields_say(wire: Open) -> None:
    async with wire() as s3:
        s3.origin.script.append(says(OK + b"ETag: x\r\nContent-Length: 1000\r\n\r\n"))
        assert (await s3.control.head_object(URL)).size == 1000
        s3.origin.script.append(says(b"HTTP/1.1 204 X\r\nContent-Length: 7\r\n\r\n"))
        await s3.control.abort_multipart_upload(URL, UploadId("u"))
        s3.origin.script.append(says(b"HTTP/1.1 304 X\r\nTransfer-Encoding: chunked\r\n\r\n"))
        with pytest.raises(EngineError):
            await s3.get(3)
        await works_again(s3, 1)


async def test_rule_11_an_end_by_closing_is_no_end_over_tls(wire: Open) -> None:
    """A cut looks the same there unless close_notify is seen, which the transports do not tell."""
    page = (
        b"<ListBucketResult><Name>bucket</Name><IsTruncated>false</IsTruncated></ListBucketResult>"
    )
    async with wire() as s3:
        s3.origin.script.append(says(OK + b"\r\n" + page, close=True))
        if s3.scheme == "https":
            with pytest.raises(ProtocolError, match="without a length"):
                await s3.control.list_page(S3Url("bucket"), None)
        else:
            assert len((await s3.control.list_page(S3Url("bucket"), None))[0]) == 0
        assert s3.idle() == 0


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n", extension: bytes = b"") -> bytes:
    body = b"".join(b"%x%s\r\n%s\r\n" % (len(c), extension, c) for c in chunks)
    return OK + b"Transfer-Encoding: chunked\r\n\r\n" + body + end


LISTING = (
    b"<ListBucketResult><Name>bucket</Name><IsTruncated>false</IsTruncated>"
    b"<Contents><Key>a</Key><Size>1</Size>"
    b"<ETag>&quot;e&quot;</ETag></Contents></ListBucketResult>"
)


@pytest.mark.parametrize(
    "stream",
    [
        chunked(LISTING),
        chunked(*(LISTING[n : n + 1] for n in range(len(LISTING))), extension=b' ;name="v"'),
        chunked(b"\n\n  \n", LISTING, end=b"000\r\nTrailer: x\r\nOther: y\r\n\r\n"),
    ],
)
async def test_rule_12_chunks_are_taken_apart(wire: Open, stream: bytes) -> None:
    """F:chunked. Blanks before the document keep a connection alive."""

    async def script(exchange: Exchange) -> None:
        for start in range(0, len(stream), 37):
            await exchange.send(stream[start : start + 37])
            await asyncio.sleep(0)

    async with wire() as s3:
        s3.origin.script.append(script)
        page, _ = await s3.control.list_page(S3Url("bucket"), None)
        assert [info.url.key for info in page] == ["a"]
        await works_again(s3, 1)


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(chunked(end=b"xyz\r\n"), id="no-number"),
        pytest.param(chunked(end=b"-1\r\n"), id="negative"),
        pytest.param(chunked(end=b"1" * 17 + b"\r\n"), id="17-digits"),
        pytest.param(chunked(end=b"3\r\nabcd\r\n0\r\n\r\n"), id="longer-than-said"),
        pytest.param(chunked(end=b"3;" + b"x" * 5000 + b"\r\n"), id="long-line"),
        pytest.param(chunked(LISTING, end=b"0\r\n" + b"A: bbbb\r\n" * 3000), id="trailers"),
        pytest.param(chunked(end=b"3\nabc\n0\n\n"), id="bare-lf"),
    ],
)
async def test_rule_12_a_bad_chunk_is_an_error(wire: Open, stream: bytes) -> None:
    async with wire() as s3:
        s3.origin.script.append(says(stream))
        with pytest.raises(ProtocolError):
            await s3.control.list_page(S3Url("bucket"), None)
        await works_again(s3, 2)


async def test_rule_13_an_error_behind_a_200_is_an_error(wire: Open) -> None:
    """F:200err, for each of the three that work before they answer."""
    receipt = PartReceipt(1, 0, 1, '"e"', None, None)
    source = CopySource(S3Url("bucket", "source"))
    async with wire() as s3:
        calls: list[Any] = [
            lambda: s3.control.complete_multipart_upload(URL, UploadId("u"), [receipt], None, 1),
            lambda: s3.control.copy_object(source, URL, CRC),
            lambda: s3.control.upload_part_copy(
                source, URL, UploadId("u"), 1, ByteRange(0, 1), CRC
            ),
        ]
        for call in calls:
            s3.origin.script.append(answers(200, b"  \n" + error_xml("InternalError")))
            with pytest.raises(S3Error, match="InternalError"):
                await call()
        assert s3.origin.connections == 1


SPAN = ByteRange(3, 6)


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(answers(206, b"abc", ETag='"e1"', Content_Range=span), id=span)
        for span in ("bytes 2-4/9", "bytes 3-4/9", "bytes 3-5/*", "bytes 3-5/5", "3-5/9", "")
    ]
    + [
        pytest.param(answers(206, b"ab", ETag='"e1"', Content_Range="bytes 3-5/9"), id="length"),
        pytest.param(answers(200, b"abcdefghi", ETag='"e1"'), id="norange"),
        pytest.param(answers(200, b"abc", ETag='"e1"'), id="whole-of-3"),
    ],
)
async def test_rule_14_exactly_the_range_that_was_asked_for(wire: Open, script: Script) -> None:
    """F:wrongrange, F:norange."""
    async with wire() as s3:
        s3.origin.script.append(script)
        with pytest.raises(ProtocolError):
            await s3.get(3, span=SPAN, etag='"e1"')


async def test_rule_14_another_version_is_a_changed_object(wire: Open) -> None:
    async with wire() as s3:
        where = "bytes 3-5/9"
        s3.origin.script.extend(
            [
                answers(206, b"abc", ETag='"e2"', Content_Range=where),
                answers(412, error_xml("PreconditionFailed")),
                answers(416, error_xml("InvalidRange")),
            ]
        )
        for _ in range(3):
            with pytest.raises(ObjectChanged):
                await s3.get(3, span=SPAN, etag='"e1"')
        s3.origin.script.append(answers(416, error_xml("InvalidRange")))
        with pytest.raises(S3Error, match="InvalidRange"):  # nothing was said of a version
            await s3.get(3, span=SPAN)


async def test_rule_14_the_whole_is_taken_for_a_range_over_all(wire: Open) -> None:
    async with wire() as s3:
        s3.origin.script.append(answers(200, b"abc", ETag='"e1"'))
        assert await s3.get(3, span=ByteRange(0, 3), etag='"e1"') == b"abc"


@pytest.mark.parametrize("sent", [0, 1, 64 * 1024, 2_999_999])
async def test_rule_15_an_end_too_early_is_no_success(wire: Open, sent: int) -> None:
    """F:short."""
    head = OK + b"ETag: x\r\nContent-Length: 3000000\r\n\r\n"
    async with wire() as s3:
        s3.origin.script.append(says(head + bytes(sent), close=True))
        with pytest.raises(ConnectionFailed) as caught:
            await s3.get(3_000_000)
        assert caught.value.retryable
        await works_again(s3, 2)


async def test_rule_15_bytes_beyond_the_length_cost_the_connection(wire: Open) -> None:
    async with wire() as s3:
        s3.origin.script.append(says(GOOD + b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad"))
        assert await s3.get(3) == b"abc"
        await works_again(s3, 2)


@pytest.mark.parametrize("late", [b"x", b""])
async def test_rule_15_a_byte_or_an_end_while_idle_costs_the_connection(
    wire: Open, late: bytes
) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(GOOD)
        await asyncio.sleep(0.02)
        await exchange.send(late)
        exchange.close = True

    async with wire() as s3:
        s3.origin.script.append(script)
        assert await s3.get(3) == b"abc"
        await asyncio.sleep(0.06)
        await works_again(s3, 2)
        assert s3.plane.statistics().pool.replaced == 0, "it was seen before it was used"


@pytest.mark.parametrize("status", [301, 403, 503])
async def test_rule_16_an_early_answer_stops_the_body(wire: Open, status: int) -> None:
    """F:early."""
    took = 0

    async def early(exchange: Exchange) -> None:
        await exchange.read_body(limit=70_000)
        await exchange.answer(status, error_xml("Early"), x_amz_bucket_region="us-east-1")
        nonlocal took
        while data := await exchange.reader.read(1 << 20):
            took += len(data)

    async with wire() as s3:
        s3.origin.script.append(early)
        with pytest.raises(S3Error, match="Early"):
            await s3.put(bytes(32 * MiB))
        assert s3.idle() == 0
        await works_again(s3, 2)
        assert took < 24 * MiB


async def test_rule_16_the_answer_before_a_reset_is_heard(wire: Open) -> None:
    """F:earlyrst. Over TLS the bytes behind a reset are the transport's to lose: either error."""

    async def early(exchange: Exchange) -> None:
        await exchange.read_body(limit=70_000)
        await exchange.answer(403, error_xml("AccessDenied"))
        exchange.reset()

    async with wire() as s3:
        s3.origin.script.append(early)
        with pytest.raises((S3Error, ConnectionFailed)) as caught:
            await s3.put(bytes(32 * MiB))
        if s3.scheme == "http":
            assert isinstance(caught.value, S3Error) and caught.value.s3_code == "AccessDenied"
        await works_again(s3, 2)


async def test_rule_16_a_success_before_the_body_is_none(wire: Open) -> None:
    async def early(exchange: Exchange) -> None:
        await exchange.read_body(limit=70_000)
        await exchange.answer(200, ETag='"e1"')
        await exchange.reader.read()

    async with wire() as s3:
        s3.origin.script.append(early)
        with pytest.raises(ProtocolError, match="before it had the whole body"):
            await s3.put(bytes(32 * MiB))
        await works_again(s3, 2)


async def test_rule_17_close_means_close(wire: Open) -> None:
    """F:close, whatever else stands in the field."""
    async with wire() as s3:
        for number, value in enumerate(("close", "Close", "x, close", "keep-alive, CLOSE"), 1):
            s3.origin.script.append(answers(200, b"abc", ETag='"e1"', Connection=value))
            assert await s3.get(3) == b"abc"
            assert s3.idle() == 0
            assert s3.origin.connections == number


async def test_rule_17_a_cancelled_or_timed_out_request_takes_its_connection_along(
    wire: Open,
) -> None:
    async with wire(timeouts=HASTY) as s3:
        s3.origin.script.extend([silent, silent])
        with anyio.move_on_after(0.1):
            await s3.get(3)
        with pytest.raises(ConnectionFailed, match="timed out"):
            await s3.get(3)
        await works_again(s3, 3)


@pytest.mark.parametrize(("extra", "kept"), [(0, True), (1, False), (10 * MiB, False)])
async def test_rule_17_a_short_error_is_read_and_a_long_one_costs_the_connection(
    wire: Open, extra: int, kept: bool
) -> None:
    document = error_xml("NoSuchKey")
    document += b" " * (MAX_SMALL_BODY - len(document) + extra)
    async with wire() as s3:
        s3.origin.script.append(answers(404, document))
        with pytest.raises(NotFound):
            await s3.get(3)
        await works_again(s3, 1 if kept else 2)


async def test_rule_17_a_connection_that_died_is_never_given_out(wire: Open) -> None:
    async with wire() as s3:
        await refuses(s3, hang_up, ConnectionFailed)
        assert s3.plane.statistics().pool.replaced == 0
