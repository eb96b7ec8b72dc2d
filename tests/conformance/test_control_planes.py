"""Both control planes say the same of the same store: the SDK is the judge of our own client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from engine.clock import LoopClock
from engine.config import Endpoints
from engine.credentials.broker import Broker
from engine.credentials.providers.static import StaticProvider
from engine.errors import AccessDenied, NotFound, ObjectChanged, S3Error
from engine.planes import CONTROL_PLANES, DATA_PLANES
from engine.protocols import ControlPlane, DataPlane
from engine.testing.aws import AwsDouble
from engine.threads import ThreadDoor
from engine.transfer.checksums.crc32c import Crc32C
from engine.transfer.checksums.crc64nvme import Crc64Nvme
from engine.transfer.sources import BytesSource
from engine.types import Checksum, Credentials, MiB, S3Url, StoredPart, UploadId
from tests.integration.others import put_in_parts

pytestmark = pytest.mark.slow

CRC = Crc64Nvme()
CRC32C = Crc32C()
ODD_KEYS = ("a b", "ü/日本", "%2F", "+", "a&b<c>\"'", "..", "x//y", "tab\tend", "\x01")


class Store:
    """A bucket, the plane under test and a data plane beside it."""

    def __init__(self, aws: AwsDouble, bucket: str, control: ControlPlane, data: DataPlane) -> None:
        self.aws, self.bucket, self.control, self.data = aws, bucket, control, data

    def url(self, key: str) -> S3Url:
        return S3Url(self.bucket, key)

    async def parts(self, url: S3Url, upload_id: UploadId, *bodies: bytes) -> list[Any]:
        receipts = []
        for number, body in enumerate(bodies, 1):
            source = BytesSource(body)
            receipts.append(
                await self.data.upload_part(url, upload_id, number, source, 0, len(body), CRC)
            )
        return receipts


@pytest.fixture(params=["wire", "aws"])
async def store(
    request: pytest.FixtureRequest, s3engine_aws: AwsDouble, s3engine_bucket: str
) -> AsyncIterator[Store]:
    aws = s3engine_aws
    keys = Credentials(aws.admin.access_key_id, aws.admin.secret_access_key)
    endpoints = Endpoints(s3=aws.endpoint)
    door, clock = ThreadDoor(), LoopClock()
    async with Broker(StaticProvider(keys), clock=clock) as broker:
        common: dict[str, Any] = {"clock": clock, "threads": door, "user_agent": "s3engine/test"}
        data = DATA_PLANES.get("wire")(endpoints, broker.lease, **common)
        control = CONTROL_PLANES.get(request.param)(endpoints, broker.lease, beside=data, **common)
        yield Store(aws, s3engine_bucket, control, data)
        await control.aclose()
        await data.aclose()
    door.close()


async def test_heads_and_listings(store: Store) -> None:
    for key in ODD_KEYS:
        await store.data.put_object(store.url(key), BytesSource(key.encode()), CRC)
    page, token = await store.control.list_page(store.url(""), None)
    assert token is None
    assert {info.url.key for info in page} == set(ODD_KEYS)
    for key in ODD_KEYS:
        info = await store.control.head_object(store.url(key))
        listed = next(found for found in page if found.url.key == key)
        assert info.size == listed.size == len(key.encode())
        assert info.etag.strip('"') == listed.etag.strip('"')
        assert info.checksum == Checksum("crc64nvme", CRC.encode(CRC.update(key.encode())))
    await store.control.delete_objects([store.url(key) for key in ODD_KEYS])
    assert (await store.control.list_page(store.url(""), None))[0] == []


async def test_listings_have_pages(store: Store) -> None:
    for number in range(1_001):
        store.aws.gate.put_object(store.bucket, f"k/{number:05}", b"")
    first, token = await store.control.list_page(store.url("k/"), None)
    assert len(first) == 1_000 and token is not None
    last, token = await store.control.list_page(store.url("k/"), token)
    assert [info.url.key for info in last] == ["k/01000"] and token is None


async def test_an_upload_in_parts(store: Store) -> None:
    url, bodies = store.url("big"), (bytes(5 * MiB), b"end")
    upload_id = await store.control.create_multipart_upload(url, CRC)
    receipts = await store.parts(url, upload_id, *bodies)
    assert list(await store.control.list_parts(url, upload_id)) == [1, 2]
    whole = b"".join(bodies)
    checksum = Checksum("crc64nvme", CRC.encode(CRC.update(whole)))
    receipt = await store.control.complete_multipart_upload(
        url, upload_id, receipts, checksum, len(whole)
    )
    info = await store.control.head_object(url)
    assert receipt.etag.strip('"') == info.etag.strip('"')
    assert receipt.checksum == info.checksum == checksum
    assert store.aws.gate.get_object(store.bucket, "big") == whole
    assert list(await store.control.list_parts(url, upload_id)) == []


async def test_the_parts_that_an_object_was_written_in(store: Store) -> None:
    url, bodies = store.url("parts"), (bytes(5 * MiB), b"end")
    etag = put_in_parts(store.aws, url.bucket, url.key, b"".join(bodies), 5 * MiB)
    info = await store.control.head_object(url)
    assert info.checksum is not None and not info.checksum.full_object
    for number, body in enumerate(bodies, 1):
        part = await store.control.head_part(url, number, etag=etag)
        told = Checksum("crc32c", CRC32C.encode(CRC32C.update(body)))
        assert part == StoredPart(number, len(body), 2, told)
    store.aws.gate.part_sums = "never"
    assert await store.control.head_part(url, 2, etag=etag) == StoredPart(2, 3, 2, None)
    with pytest.raises(ObjectChanged):
        await store.control.head_part(url, 1, etag='"another"')
    whole = store.url("whole")
    receipt = await store.data.put_object(whole, BytesSource(b"bytes"), CRC)
    assert await store.control.head_part(whole, 1, etag=receipt.etag) is None


async def test_an_upload_that_is_aborted(store: Store) -> None:
    url = store.url("gone")
    upload_id = await store.control.create_multipart_upload(url, CRC)
    await store.control.abort_multipart_upload(url, upload_id)
    with pytest.raises(NotFound) as caught:
        await store.control.abort_multipart_upload(url, upload_id)
    assert caught.value.s3_code == "NoSuchUpload"


async def test_a_wrong_sum_is_refused_by_complete(store: Store) -> None:
    url = store.url("wrong")
    upload_id = await store.control.create_multipart_upload(url, CRC)
    receipts = await store.parts(url, upload_id, b"bytes")
    wrong = Checksum("crc64nvme", CRC.encode(1))
    with pytest.raises(S3Error) as caught:
        await store.control.complete_multipart_upload(url, upload_id, receipts, wrong, 5)
    assert caught.value.s3_code == "BadDigest"


@pytest.mark.parametrize("late", [False, True])
async def test_an_error_before_or_behind_the_200(store: Store, late: bool) -> None:
    url = store.url("late")
    upload_id = await store.control.create_multipart_upload(url, CRC)
    receipts = await store.parts(url, upload_id, b"bytes")
    store.aws.gate.faults.add(
        kind="error_in_200" if late else "status",
        action="CompleteMultipartUpload",
        code="InternalError",
    )
    checksum = Checksum("crc64nvme", CRC.encode(CRC.update(b"bytes")))
    with pytest.raises(S3Error) as caught:
        await store.control.complete_multipart_upload(url, upload_id, receipts, checksum, 5)
    assert caught.value.s3_code == "InternalError"


async def test_what_is_not_there_is_named(store: Store) -> None:
    with pytest.raises(NotFound) as caught:
        await store.control.head_object(store.url("none"))
    assert caught.value.s3_code == "NoSuchKey"
    with pytest.raises(NotFound) as caught:
        await store.control.list_page(S3Url("no-such-bucket"), None)
    assert caught.value.s3_code == "NoSuchBucket"


async def test_a_denied_request(store: Store) -> None:
    store.aws.gate.faults.add(
        kind="status", action="ListObjectsV2", status=403, code="AccessDenied"
    )
    with pytest.raises(AccessDenied):
        await store.control.list_page(store.url(""), None)
