"""The control verbs of the wire against an origin that answers as it is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from engine.clock import LoopClock
from engine.config import Endpoints, Timeouts
from engine.errors import (
    BadListing,
    ConnectionFailed,
    NotFound,
    ProtocolError,
    RedirectRefused,
    S3Error,
)
from engine.planes.wire_control import WireControlPlane
from engine.threads import ThreadDoor
from engine.transfer.checksums.crc64nvme import Crc64Nvme
from engine.types import Checksum, ListedPart, PartReceipt, S3Url, UploadId
from tests.unit.origin import Exchange, Origin, answers, error_xml, run_origin
from tests.unit.planes.test_wire import SHORT, StaticLease

URL = S3Url("bucket", "dir/a b")
CRC = Crc64Nvme()
UPLOAD = UploadId("up+1/2")
PART = PartReceipt(1, 0, 5, '"e"', Checksum("crc64nvme", "AAA="), 0)
SUM = Checksum("crc64nvme", "BBB=")


@asynccontextmanager
async def control_of(
    origin: Origin, lease: StaticLease | None = None, timeouts: Timeouts | None = None
) -> AsyncIterator[WireControlPlane]:
    plane = WireControlPlane(
        Endpoints(s3=f"http://127.0.0.1:{origin.port}", timeouts=timeouts or Timeouts()),
        lease or StaticLease(),
        clock=LoopClock(),
        threads=ThreadDoor(),
        user_agent="s3engine/test",
    )
    try:
        yield plane
    finally:
        await plane.aclose()


async def complete(plane: WireControlPlane) -> str:
    receipt = await plane.complete_multipart_upload(URL, UPLOAD, [PART], SUM, 5)
    return receipt.etag


async def test_a_listing_is_read_page_by_page() -> None:
    """Keys come url-encoded, because XML cannot write all of them."""
    page = (
        b"<ListBucketResult><Name>bucket</Name><EncodingType>url</EncodingType>"
        b"<IsTruncated>true</IsTruncated>"
        b"<NextContinuationToken>a/b+c=</NextContinuationToken><Contents><Key>d%01+e%2Bf</Key>"
        b"<LastModified>2026-11-24T12:00:00.000Z</LastModified><ETag>&quot;x&quot;</ETag>"
        b"<Size>7</Size></Contents></ListBucketResult>"
    )
    last = (
        b"<ListBucketResult><Name>bucket</Name><IsTruncated>false</IsTruncated></ListBucketResult>"
    )
    async with run_origin() as origin, control_of(origin) as plane:
        origin.script += [answers(200, page), answers(200, last)]
        (info,), token = await plane.list_page(S3Url("bucket", "d"), None)
        assert (info.url.key, info.size, info.etag) == ("d\x01 e+f", 7, '"x"')
        assert info.last_modified is not None and info.last_modified.utcoffset() is not None
        assert await plane.list_page(S3Url("bucket", "d"), token) == ([], None)
        assert origin.requests[0].target == "/bucket?encoding-type=url&list-type=2&prefix=d"
        assert "continuation-token=a%2Fb%2Bc%3D" in origin.requests[1].target


@pytest.mark.parametrize(
    "body",
    [
        b"<html>a proxy's page</html>",
        b"not xml",
        b"<ListBucketResult><Name>bucket</Name><Contents><Key>a</Key><Size>x</Size></Contents>"
        b"</ListBucketResult>",
        b"<!DOCTYPE x><ListBucketResult/>",
    ],
)
async def test_a_page_that_is_none_is_refused(body: bytes) -> None:
    async with run_origin() as origin, control_of(origin) as plane:
        origin.script.append(answers(200, body))
        with pytest.raises(ProtocolError):
            await plane.list_page(S3Url("bucket"), None)


async def test_a_listing_that_does_not_say_how_to_go_on_is_refused() -> None:
    body = (
        b"<ListBucketResult><Name>bucket</Name><IsTruncated>true</IsTruncated></ListBucketResult>"
    )
    async with run_origin() as origin, control_of(origin) as plane:
        origin.script.append(answers(200, body))
        with pytest.raises(BadListing, match="how to go on"):
            await plane.list_page(S3Url("bucket"), None)


async def test_create_asks_for_a_sum_of_the_whole_object() -> None:
    body = (
        b"<InitiateMultipartUploadResult><UploadId>up+1/2</UploadId>"
        b"</InitiateMultipartUploadResult>"
    )
    async with run_origin() as origin, control_of(origin) as plane:
        origin.script.append(answers(200, body))
        assert await plane.create_multipart_upload(URL, CRC) == UPLOAD
        (request,) = origin.requests
        assert (request.method, request.target) == ("POST", "/bucket/dir/a%20b?uploads=")
        assert request.headers["x-amz-checksum-algorithm"] == "CRC64NVME"
        assert request.headers["x-amz-checksum-type"] == "FULL_OBJECT"
        assert request.headers["content-length"] == "0"
        origin.script.append(answers(200, b"<InitiateMultipartUploadResult/>"))
        with pytest.raises(ProtocolError, match="upload id"):
            await plane.create_multipart_upload(URL, CRC)


async def test_complete_sends_parts_sum_and_size() -> None:
    body = (
        b"  \n<CompleteMultipartUploadResult><ETag>&quot;w-1&quot;</ETag><ChecksumCRC64NVME>BBB="
        b"</ChecksumCRC64NVME></CompleteMultipartUploadResult>"
    )
    async with run_origin() as origin, control_of(origin) as plane:
        origin.script.append(answers(200, body))
        receipt = await plane.complete_multipart_upload(URL, UPLOAD, [PART], SUM, 5)
        assert (receipt.etag, receipt.checksum) == ('"w-1"', SUM)
        (request,) = origin.requests
        assert request.target == "/bucket/dir/a%20b?uploadId=up%2B1%2F2"
        assert b'<PartNumber>1</PartNumber><ETag>"e"</ETag>' in request.body.replace(
            b"&quot;", b'"'
        )
        assert request.headers["x-amz-checksum-crc64nvme"] == "BBB="
        assert request.headers["x-amz-mp-object-size"] == "5"


async def test_an_error_behind_a_200_is_an_error() -> None:
    """S3 says 200 when it begins, and how it ended when it has ended."""
    async with run_origin() as origin, control_of(origin) as plane:
        origin.script.append(answers(200, b" " * 1000 + b"\n" + error_xml("InternalError")))
        with pytest.raises(S3Error) as caught:
            await complete(plane)
        assert caught.value.s3_code == "InternalError"


async def test_blanks_are_progress_while_complete_works() -> None:
    """The usual patience of an answer is shorter than S3 works."""

    async def slow(exchange: Exchange) -> None:
        await exchange.read_body()
        body = b"<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>"
        await anyio.sleep(2 * SHORT.first_byte)
        await exchange.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(3):
            await exchange.send(b"1\r\n \r\n")
            await anyio.sleep(SHORT.stall)
        await exchange.send(f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n")

    async with run_origin() as origin, control_of(origin, timeouts=SHORT) as plane:
        origin.script.append(slow)
        assert await complete(plane) == "e"


async def test_complete_is_not_sent_twice_behind_our_back() -> None:
    """A reused connection that dies is replaced for other verbs; a Complete may have worked."""

    async def dies(exchange: Exchange) -> None:
        await exchange.read_body()
        exchange.reset()

    async with run_origin() as origin, control_of(origin) as plane:
        origin.script += [answers(204), dies]
        await plane.abort_multipart_upload(URL, UPLOAD)
        with pytest.raises(ConnectionFailed):
            await complete(plane)
        assert len(origin.requests) == 2


def part_row(number: int, more: str = "") -> bytes:
    return (
        f"<Part><PartNumber>{number}</PartNumber><Size>{number}</Size><ETag>&quot;e{number}&quot;"
        f"</ETag>{more}</Part>"
    ).encode()


WHOLE = b"<IsTruncated>false</IsTruncated>"


async def test_parts_are_listed_to_the_last_page() -> None:
    first = (
        b"<ListPartsResult><IsTruncated>true</IsTruncated><NextPartNumberMarker>2"
        b"</NextPartNumberMarker>" + part_row(1) + part_row(2) + b"</ListPartsResult>"
    )
    summed = part_row(3, "<ChecksumCRC64NVME>BBB=</ChecksumCRC64NVME>")
    last = b"<ListPartsResult>" + summed + WHOLE + b"</ListPartsResult>"
    async with run_origin() as origin, control_of(origin) as plane:
        origin.script += [answers(200, first), answers(200, last)]
        assert await plane.list_parts(URL, UPLOAD) == [
            ListedPart(1, 1, '"e1"'), ListedPart(2, 2, '"e2"'), ListedPart(3, 3, '"e3"', SUM),
        ]  # fmt: skip
        assert "part-number-marker=2" in origin.requests[1].target
        origin.script.append(answers(404, error_xml("NoSuchUpload")))
        assert await plane.list_parts(URL, UPLOAD) is None


@pytest.mark.parametrize(
    "rows",
    [
        part_row(2) + part_row(1),
        part_row(1) + part_row(1),
        b"<Part><PartNumber>1</PartNumber><ETag>e</ETag></Part>",
        b"<Part><PartNumber>1</PartNumber><Size>1</Size></Part>",
        b"<Part><PartNumber>x</PartNumber><Size>1</Size><ETag>e</ETag></Part>",
    ],
)
async def test_a_list_of_parts_that_is_none(rows: bytes) -> None:
    async with run_origin() as origin, control_of(origin) as plane:
        page = b"<ListPartsResult>" + rows + WHOLE + b"</ListPartsResult>"
        origin.script.append(answers(200, page))
        with pytest.raises(ProtocolError):
            await plane.list_parts(URL, UPLOAD)


MORE = b"<IsTruncated>true</IsTruncated>"
ROW = b"<Upload><Key>d%2Fa+b</Key><UploadId>u</UploadId></Upload>"
NEXT = b"<NextKeyMarker>d%2Fa</NextKeyMarker><NextUploadIdMarker>u</NextUploadIdMarker>"


@pytest.mark.parametrize(
    "inner",
    [
        ROW.replace(b"d%2F", b"e%2F"),
        ROW.replace(b"<UploadId>u</UploadId>", b""),
        ROW.replace(b"<Key>d%2Fa+b</Key>", b""),
        ROW + MORE,
        ROW + MORE + NEXT,
    ],
    ids=["other", "no id", "no key", "no way on", "a circle"],
)
async def test_a_listing_of_uploads_that_is_none(inner: bytes) -> None:
    root = b"ListMultipartUploadsResult"
    encoded = b"<Bucket>bucket</Bucket><EncodingType>url</EncodingType>"
    inner = inner if MORE in inner else inner + WHOLE
    async with run_origin() as origin, control_of(origin) as plane:
        origin.script.append(
            answers(200, b"<" + root + b">" + encoded + inner + b"</" + root + b">")
        )
        with pytest.raises(ProtocolError):
            await plane.list_uploads(S3Url("bucket", "d/"), ("d/a", "u"))
        assert "key-marker=d%2Fa" in origin.requests[0].target


async def test_html_is_no_listing_of_uploads() -> None:
    async with run_origin() as origin, control_of(origin) as plane:
        origin.script.append(answers(200, b"<html><body/></html>"))
        with pytest.raises(ProtocolError):
            await plane.list_uploads(S3Url("bucket", "d/"))


async def test_keys_are_deleted_by_pages_and_odd_ones_alone() -> None:
    keys = [f"k{number}" for number in range(1500)] + ["odd\x01"]
    done = b"<DeleteResult/>"
    async with run_origin() as origin, control_of(origin) as plane:
        origin.script += [answers(204), answers(200, done), answers(200, done)]
        await plane.delete_objects([S3Url("bucket", key) for key in keys])
        alone, first, second = origin.requests
        assert (alone.method, alone.target) == ("DELETE", "/bucket/odd%01")
        assert (first.target, first.body.count(b"<Key>")) == ("/bucket?delete=", 1000)
        assert second.body.count(b"<Key>") == 500 and "content-md5" in second.headers
        origin.script.append(
            answers(
                200,
                b"<DeleteResult><Error><Key>k0</Key><Code>AccessDenied</Code></Error></DeleteResult>",
            )
        )
        with pytest.raises(S3Error, match="k0"):
            await plane.delete_objects([S3Url("bucket", "k0")])


async def test_head_says_size_sum_and_metadata() -> None:
    headers = {"ETag": '"e"', "x-amz-checksum-crc64nvme": "BBB=", "x-amz-meta-a": "1"}

    async def head(exchange: Exchange) -> None:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        await exchange.send(f"HTTP/1.1 200 OK\r\ncontent-length: 77\r\n{lines}\r\n".encode())

    async with run_origin() as origin, control_of(origin) as plane:
        origin.script.append(head)
        info = await plane.head_object(URL)
        assert (info.size, info.checksum, info.metadata) == (77, SUM, {"a": "1"})


async def bare(exchange: Exchange, status: int) -> None:
    await exchange.send(f"HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n".encode())


@pytest.mark.parametrize(("status", "code"), [(404, "NoSuchBucket"), (400, "ExpiredToken")])
async def test_a_bare_answer_to_head_is_asked_again_by_get(status: int, code: str) -> None:
    lease = StaticLease()
    async with run_origin() as origin, control_of(origin, lease) as plane:
        origin.script += [lambda exchange: bare(exchange, status), answers(status, error_xml(code))]
        with pytest.raises(S3Error) as caught:
            await plane.head_object(URL)
        assert caught.value.s3_code == code
        assert [request.method for request in origin.requests] == ["HEAD", "GET"]
        assert len(lease.reported) == (1 if code == "ExpiredToken" else 0)
        assert isinstance(caught.value, NotFound) == (status == 404)


async def test_a_redirect_is_never_followed() -> None:
    async with run_origin() as origin, control_of(origin) as plane:
        origin.script.append(answers(307, location="http://127.0.0.1:1/elsewhere"))
        with pytest.raises(RedirectRefused):
            await plane.list_page(S3Url("bucket"), None)
        assert len(origin.requests) == 1
