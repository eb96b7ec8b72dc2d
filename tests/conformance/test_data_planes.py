"""Both data planes move the same bytes and say the same of them."""

from __future__ import annotations

import os
from contextlib import nullcontext
from hashlib import md5
from pathlib import Path
from typing import Any, final

import pytest

from engine.errors import (
    AccessDenied,
    ConnectionFailed,
    NotFound,
    ObjectChanged,
    S3Error,
    SourceChanged,
    TransferError,
)
from engine.options import CustomerKey, Encryption, ObjectOptions
from engine.protocols import ByteSource, ChecksumAlgorithm
from engine.testing.faults import FaultKind
from engine.transfer.checksums import chosen
from engine.transfer.sinks import FileSink, MemorySink
from engine.transfer.sources import BytesSource, FileSource
from engine.types import ByteRange, Checksum, KiB, MiB, S3Url
from tests.conformance.store import CRC, Store, checksum

pytestmark = pytest.mark.slow

# Nothing, less than a piece, and several pieces and a bit.
SIZES = (0, 1, 3 * MiB + 77)


async def read(store: Store, url: S3Url, span: ByteRange | None, size: int) -> bytes:
    sink = MemorySink(size)
    receipt = await store.data.get_range(url, sink, 0, range=span, etag=None, algorithm=CRC)
    assert receipt.size == size
    assert receipt.crc == CRC.update(sink.memory)
    return bytes(sink.data)


@pytest.mark.parametrize("size", SIZES)
async def test_a_file_comes_back_byte_for_byte(store: Store, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "up").write_bytes(data)
    url = store.url("key")
    with FileSource(tmp_path / "up") as source:
        put = await store.data.put_object(url, source, CRC)
    assert put.etag.strip('"') == md5(data).hexdigest()
    assert put.checksum == store.sum_of(data)
    target = os.open(tmp_path / "down", os.O_RDWR | os.O_CREAT)
    try:
        got = await store.data.get_range(
            url, FileSink(target), 0, range=None, etag=put.etag, algorithm=CRC
        )
    finally:
        os.close(target)
    assert (tmp_path / "down").read_bytes() == data
    assert (got.size, got.crc, got.range) == (size, CRC.update(data), None)
    assert (got.object.size, got.object.etag) == (size, put.etag)
    assert got.object.checksum == store.sum_of(data)


async def test_without_a_sum_nothing_is_summed(store: Store) -> None:
    url, data = store.url("key"), os.urandom(300 * KiB)
    put = await store.data.put_object(url, BytesSource(data), None)
    assert put.checksum is None
    sink = MemorySink(len(data))
    got = await store.data.get_range(url, sink, 0, range=None, etag=None, algorithm=None)
    assert got.crc is None
    assert bytes(sink.data) == data


async def test_ranges(store: Store) -> None:
    data = os.urandom(1 * MiB)
    url = await store.put("key", data)
    for start, stop in ((0, 1), (0, len(data)), (300_000, 900_001), (len(data) - 1, len(data))):
        assert await read(store, url, ByteRange(start, stop), stop - start) == data[start:stop]


async def test_an_object_in_parts_is_read_by_ranges(store: Store, tmp_path: Path) -> None:
    url, bodies = store.url("parts"), (os.urandom(5 * MiB), os.urandom(1_000_001))
    upload_id = await store.control.create_multipart_upload(url, CRC)
    receipts = await store.parts(url, upload_id, *bodies)
    for receipt, body in zip(receipts, bodies, strict=True):
        assert receipt.etag.strip('"') == md5(body).hexdigest()
        assert receipt.checksum == checksum(body)
        assert receipt.crc == CRC.update(body)
    assert [receipt.offset for receipt in receipts] == [0, 5 * MiB]
    whole = b"".join(bodies)
    await store.control.complete_multipart_upload(
        url, upload_id, receipts, checksum(whole), len(whole)
    )
    assert (
        await read(store, url, ByteRange(5 * MiB - 10, 5 * MiB + 10), 20)
        == whole[5 * MiB - 10 : 5 * MiB + 10]
    )
    assert await read(store, url, None, len(whole)) == whole


@pytest.mark.parametrize("in_file", [True, False])
async def test_a_part_is_sent_with_the_sum_that_it_has_already(
    gated: Store, tmp_path: Path, in_file: bool
) -> None:
    url, size = gated.url("parts"), 3 * MiB + 7
    data = os.urandom(size)
    (tmp_path / "up").write_bytes(data)
    upload_id = await gated.control.create_multipart_upload(url, CRC)
    with FileSource(tmp_path / "up") if in_file else nullcontext(BytesSource(data)) as source:
        crc = await gated.data.sum_part(source, 1, size - 1, CRC)
        assert crc == CRC.update(data[1:])
        which: Any = (url, upload_id, 1, source, 1, size - 1, CRC)
        receipt = await gated.data.upload_part(*which, crc=crc)
        assert (receipt.crc, receipt.checksum) == (crc, checksum(data[1:]))
        with pytest.raises(S3Error) as caught:
            await gated.data.upload_part(*which, crc=crc ^ 1)
    assert caught.value.s3_code == "BadDigest"


async def test_an_object_that_was_overwritten_is_refused(store: Store) -> None:
    old = await store.data.put_object(store.url("key"), BytesSource(b"old"), CRC)
    url = await store.put("key", b"new")
    for span in (None, ByteRange(0, 2)):
        with pytest.raises(ObjectChanged, match="overwritten"):
            await store.data.get_range(
                url, MemorySink(3), 0, range=span, etag=old.etag, algorithm=CRC
            )


async def test_what_is_not_there_is_named(store: Store) -> None:
    with pytest.raises(NotFound) as caught:
        await read(store, store.url("none"), None, 1)
    assert caught.value.s3_code == "NoSuchKey"
    with pytest.raises(NotFound) as caught:
        await store.data.put_object(S3Url("no-such-bucket", "key"), BytesSource(b"x"), CRC)
    assert caught.value.s3_code == "NoSuchBucket"


async def test_a_range_behind_the_end_is_refused(store: Store) -> None:
    url = await store.put("key", b"bytes")
    with pytest.raises(S3Error) as caught:
        await read(store, url, ByteRange(100, 200), 100)
    assert (caught.value.s3_code, caught.value.status) == ("InvalidRange", 416)


async def test_options_are_stored(store: Store) -> None:
    options = ObjectOptions(
        content_type="text/csv; charset=utf-8",
        cache_control="max-age=60",
        content_disposition='attachment; filename="a b.csv"',
        content_encoding="identity",
        content_language="de",
        metadata={"Origin": "a b", "line": "7"},
    )
    put, parts = store.url("put"), store.url("parts")
    await store.data.put_object(put, BytesSource(b"bytes"), CRC, options=options)
    upload_id = await store.control.create_multipart_upload(parts, CRC, options=options)
    receipts = await store.parts(parts, upload_id, b"bytes")
    await store.control.complete_multipart_upload(
        parts, upload_id, receipts, checksum(b"bytes"), 5, options=options
    )
    for url in (put, parts):
        info = await store.control.head_object(url)
        assert dict(info.metadata) == {"origin": "a b", "line": "7"}
        sink = MemorySink(5)
        got = await store.data.get_range(url, sink, 0, range=None, etag=None, algorithm=CRC)
        assert dict(got.object.metadata) == {"origin": "a b", "line": "7"}


async def test_each_option_is_sent_as_s3_names_it(gated: Store) -> None:
    options = ObjectOptions(
        storage_class="STANDARD_IA",
        tags={"team": "a b=c"},
        encryption=Encryption("aws:kms", "key-1", {"a": "b"}, bucket_key=True),
        expected_bucket_owner=gated.aws.account,
        requester_pays=True,
        if_none_match=True,
    )
    await gated.data.put_object(gated.url("key"), BytesSource(b"bytes"), CRC, options=options)
    sent = gated.aws.gate.log.where(action="PutObject")[-1].headers
    expected = {**options.for_put(), "x-amz-checksum-crc64nvme": checksum(b"bytes").value}
    assert {name: sent.get(name) for name in expected} == expected
    url = gated.url("parts")
    plain = ObjectOptions(expected_bucket_owner=gated.aws.account, requester_pays=True)
    upload_id = await gated.control.create_multipart_upload(url, CRC, options=plain)
    await gated.data.upload_part(url, upload_id, 1, BytesSource(b"x"), 0, 1, CRC, options=plain)
    await gated.control.list_parts(url, upload_id, options=plain)
    await gated.control.abort_multipart_upload(url, upload_id, options=plain)
    await gated.control.head_object(gated.url("key"), options=plain)
    await gated.control.list_page(gated.url(""), None, options=plain)
    await gated.data.get_range(
        gated.url("key"), MemorySink(5), 0, range=None, etag=None, algorithm=CRC, options=plain
    )
    await gated.control.delete_objects([gated.url("key")], options=plain)
    for request in gated.aws.gate.log.where(bucket=gated.bucket):
        assert request.headers.get("x-amz-request-payer") == "requester", request
        assert request.headers.get("x-amz-expected-bucket-owner") == gated.aws.account, request


async def test_a_customer_s_key_is_needed_to_read(secure: Store) -> None:
    store = secure
    with_key = ObjectOptions(customer_key=CustomerKey(bytes(range(32))))
    url, data = store.url("key"), b"bytes"
    await store.data.put_object(url, BytesSource(data), CRC, options=with_key)
    assert (await store.control.head_object(url, options=with_key)).size == 5
    sink = MemorySink(5)
    await store.data.get_range(url, sink, 0, range=None, etag=None, algorithm=CRC, options=with_key)
    assert bytes(sink.data) == data
    other = ObjectOptions(customer_key=CustomerKey(bytes(32)))
    for wrong in (ObjectOptions(), other):
        with pytest.raises(S3Error):
            await store.data.get_range(
                url, MemorySink(5), 0, range=None, etag=None, algorithm=CRC, options=wrong
            )


async def test_a_condition_that_fails(store: Store) -> None:
    url = await store.put("key", b"old")
    options = ObjectOptions(if_none_match=True)
    with pytest.raises(TransferError) as caught:
        await store.data.put_object(url, BytesSource(b"new"), CRC, options=options)
    assert getattr(caught.value, "status", None) == 412
    assert await read(store, url, None, 3) == b"old"


@final
class WrongSum(ChecksumAlgorithm):
    """Says another sum than that of the bytes."""

    name, header = CRC.name, CRC.header

    def update(self, data: memoryview | bytes, crc: int = 0) -> int:
        return CRC.update(data, crc)

    def combine(self, first: int, second: int, second_length: int) -> int:
        return CRC.combine(first, second, second_length)

    def encode(self, crc: int) -> str:
        return CRC.encode(crc ^ 1)


async def test_bytes_that_do_not_have_their_sum_are_refused(gated: Store) -> None:
    with pytest.raises(S3Error) as caught:
        await gated.data.put_object(gated.url("key"), BytesSource(b"bytes"), WrongSum())
    assert caught.value.s3_code == "BadDigest"
    assert (await gated.control.list_page(gated.url(""), None))[0] == []


@final
class Shrinking(ByteSource):
    """Gives its first bytes twice, for the sum and for the wire, and is then shorter."""

    name = "shrinking"
    size = 4 * MiB

    def __init__(self) -> None:
        self.read = 0

    def read_into(self, offset: int, view: memoryview) -> None:
        self.read += len(view)
        if self.read > self.size + MiB:
            raise SourceChanged("shrinking is shorter than it was")
        view[:] = bytes(len(view))

    def check_unchanged(self) -> None:
        """Nobody asks a plane for it."""


async def test_a_source_that_shrinks_is_named(store: Store) -> None:
    with pytest.raises(SourceChanged, match="shorter"):
        await store.data.put_object(store.url("key"), Shrinking(), CRC)
    assert (await store.control.list_page(store.url(""), None))[0] == []


@pytest.mark.parametrize("summed", [True, False])
@pytest.mark.parametrize("size", [200 * KiB, 3 * MiB])
async def test_a_file_that_changed_is_not_stored(
    gated: Store, tmp_path: Path, size: int, summed: bool
) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(size))
    with FileSource(path) as source:
        with path.open("ab") as file:
            file.write(b"more")
        with pytest.raises(SourceChanged):
            await gated.data.put_object(gated.url("key"), source, CRC if summed else None)
    assert (await gated.control.list_page(gated.url(""), None))[0] == []


@pytest.mark.parametrize("action", ["PutObject", "GetObject", "HeadObject"])
async def test_the_lease_hears_of_an_expired_set(gated: Store, action: str) -> None:
    url = await gated.put("key", b"bytes")
    assert gated.lease.said == ["worked"]
    gated.lease.left = 5.0  # an answer to HEAD has no code: our own clock decides
    gated.aws.gate.faults.add(kind="expired", action=action)
    with pytest.raises(S3Error) as caught:
        if action == "PutObject":
            await gated.put("key", b"bytes")
        elif action == "GetObject":
            await read(gated, url, None, 5)
        else:
            await gated.control.head_object(url)
    assert caught.value.s3_code == "ExpiredToken"
    assert gated.lease.said == ["worked", "expired"]


async def test_a_denial_is_told_to_the_lease(gated: Store) -> None:
    url = await gated.put("key", b"bytes")
    gated.aws.gate.faults.add(kind="status", action="GetObject", status=403, code="AccessDenied")
    with pytest.raises(AccessDenied):
        await read(gated, url, None, 5)
    assert gated.lease.said == ["worked", "denied"]


@pytest.mark.parametrize("kind", ["drop", "truncate", "swallow"])
async def test_a_connection_that_breaks_is_named(gated: Store, kind: FaultKind) -> None:
    url = await gated.put("key", bytes(300_000))
    # A kept connection that is dead before it answers is replaced once, by both.
    gated.aws.gate.faults.add(kind=kind, action="GetObject", at=100_000, times=2)
    with pytest.raises(ConnectionFailed, match="key"):
        await read(gated, url, None, 300_000)
    gated.aws.gate.faults.clear()
    assert await read(gated, url, None, 300_000) == bytes(300_000)


async def test_a_sum_of_the_other_algorithm(gated: Store) -> None:
    crc, data = chosen("crc32c"), os.urandom(2 * MiB)
    assert crc is not None
    put = await gated.data.put_object(gated.url("key"), BytesSource(data), crc)
    assert put.checksum == Checksum("crc32c", crc.encode(crc.update(data)))
    assert (await gated.control.head_object(gated.url("key"))).checksum == put.checksum
