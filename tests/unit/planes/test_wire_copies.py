"""Copies on the wire: what is asked for to the letter, and how long is waited for the answer."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from engine.errors import ProtocolError, S3Error
from engine.options import CustomerKey, ObjectOptions
from engine.planes.copies import copy_source_field
from engine.protocols import CopySource
from engine.transfer.checksums.crc64nvme import Crc64Nvme
from engine.types import ByteRange, Checksum, S3Url, UploadId
from tests.unit.origin import Exchange, answers, error_xml, run_origin
from tests.unit.planes.test_wire import SHORT
from tests.unit.planes.test_wire_control import control_of

SOURCE = CopySource(S3Url("other", "a b+c%?ü"), '"pin"')
TARGET = S3Url("bucket", "dir/key")
CRC = Crc64Nvme()
DONE = b"<CopyObjectResult><ETag>&quot;e&quot;</ETag></CopyObjectResult>"


async def copy(plane: Any, source: CopySource = SOURCE, **settings: Any) -> Any:
    return await plane.copy_object(source, TARGET, CRC, **settings)


@pytest.mark.parametrize(
    ("url", "version", "text"),
    [
        (S3Url("b", "plain/key"), None, "b/plain/key"),
        (S3Url("b", "a b+c%?ü#~'"), None, "b/a%20b%2Bc%25%3F%C3%BC%23~%27"),
        (S3Url("b", "../x//y/"), None, "b/../x//y/"),
        (S3Url("b", "k"), "3/L4+k==", "b/k?versionId=3%2FL4%2Bk%3D%3D"),
    ],
)
def test_the_source_is_encoded_once(url: S3Url, version: str | None, text: str) -> None:
    assert copy_source_field(CopySource(url, options=ObjectOptions(version_id=version))) == text


async def test_a_copy_keeps_by_word_and_sends_nothing_of_what_is_kept() -> None:
    options = ObjectOptions(
        content_type="text/csv", metadata={"by": "me"}, tags={"a": "b"}, storage_class="GLACIER_IR"
    )
    async with run_origin() as origin, control_of(origin) as plane:
        origin.script += [answers(200, DONE), answers(200, DONE)]
        await copy(plane, options=options)
        await copy(plane, options=options, keep_metadata=False, keep_tags=False)
        kept, replaced = (request.headers for request in origin.requests)
    assert kept["x-amz-copy-source"] == "other/a%20b%2Bc%25%3F%C3%BC"
    assert kept["x-amz-copy-source-if-match"] == '"pin"'
    assert kept["x-amz-checksum-algorithm"] == "CRC64NVME"
    assert kept["content-length"] == "0"
    for headers, word in ((kept, "COPY"), (replaced, "REPLACE")):
        assert headers["x-amz-metadata-directive"] == headers["x-amz-tagging-directive"] == word
        assert headers["x-amz-storage-class"] == "GLACIER_IR"
        signed = headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0]
        ours = {name for name in headers if name.startswith("x-amz-")}
        assert ours <= set(signed.split(";")), "S3 wants all of them signed"
    only = {"content-type": "text/csv", "x-amz-meta-by": "me", "x-amz-tagging": "a=b"}
    assert not kept.keys() & only.keys()
    assert {name: replaced[name] for name in only} == only


async def test_a_part_is_asked_for_by_range_and_both_ends_have_their_key() -> None:
    one, other = (ObjectOptions(customer_key=CustomerKey(bytes([n]) * 32)) for n in (1, 2))
    source = CopySource(SOURCE.url, SOURCE.etag, one)
    body = b"<CopyPartResult><ETag>e</ETag><ChecksumCRC64NVME>AAAAAAAAAAE=</ChecksumCRC64NVME>"
    async with run_origin() as origin, control_of(origin) as plane:
        origin.script.append(answers(200, b"  " + body + b"</CopyPartResult>"))
        receipt = await plane.upload_part_copy(
            source, TARGET, UploadId("up+1"), 7, ByteRange(10, 30), CRC, options=other
        )
        (request,) = origin.requests
    assert request.target == "/bucket/dir/key?partNumber=7&uploadId=up%2B1"
    assert request.headers["x-amz-copy-source-range"] == "bytes=10-29"
    theirs = "x-amz-copy-source-server-side-encryption-customer-key"
    assert request.headers[theirs] != request.headers["x-amz-server-side-encryption-customer-key"]
    assert (receipt.number, receipt.offset, receipt.size, receipt.crc) == (7, 10, 20, 1)
    assert receipt.checksum == Checksum("crc64nvme", "AAAAAAAAAAE=")


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b" " * 1000 + b"\n" + error_xml("InternalError"), S3Error),
        (DONE.replace(b"&quot;e&quot;", b""), ProtocolError),
        (b"<CopyObjectResult><ETag>cut", ProtocolError),
        (b"<html/>", ProtocolError),
    ],
)
async def test_a_200_is_no_success_by_itself(body: bytes, error: type[Exception]) -> None:
    async with run_origin() as origin, control_of(origin) as plane:
        origin.script.append(answers(200, body))
        with pytest.raises(error):
            await copy(plane)


async def test_blanks_are_progress_while_a_copy_works() -> None:
    async def slow(exchange: Exchange) -> None:
        await exchange.read_body()
        await anyio.sleep(2 * SHORT.first_byte)
        await exchange.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(3):
            await exchange.send(b"1\r\n \r\n")
            await anyio.sleep(SHORT.stall)
        await exchange.send(f"{len(DONE):x}\r\n".encode() + DONE + b"\r\n0\r\n\r\n")

    async with run_origin() as origin, control_of(origin, timeouts=SHORT) as plane:
        origin.script.append(slow)
        assert (await copy(plane)).etag == '"e"'
