"""Both control planes say the same of the same store: the SDK is the judge of our own client."""

from __future__ import annotations

import pytest

from engine.errors import AccessDenied, NotFound, ObjectChanged, S3Error
from engine.transfer.checksums.crc32c import Crc32C
from engine.types import Checksum, MiB, S3Url, StoredPart
from tests.conformance.store import CRC, ODD_KEYS, Store, checksum
from tests.integration.others import put_in_parts

pytestmark = pytest.mark.slow

CRC32C = Crc32C()


async def test_heads_and_listings(store: Store) -> None:
    for key in ODD_KEYS:
        await store.put(key, key.encode())
    page, token = await store.control.list_page(store.url(""), None)
    assert token is None
    assert {info.url.key for info in page} == set(ODD_KEYS)
    for key in ODD_KEYS:
        info = await store.control.head_object(store.url(key))
        listed = next(found for found in page if found.url.key == key)
        assert info.size == listed.size == len(key.encode())
        assert info.etag.strip('"') == listed.etag.strip('"')
        assert info.checksum == store.sum_of(key.encode())
        assert info.last_modified is not None and listed.last_modified is not None
    await store.control.delete_objects([store.url(key) for key in ODD_KEYS])
    assert (await store.control.list_page(store.url(""), None))[0] == []


async def test_listings_have_pages(gated: Store) -> None:
    for number in range(1_001):
        gated.aws.gate.put_object(gated.bucket, f"k/{number:05}", b"")
    first, token = await gated.control.list_page(gated.url("k/"), None)
    assert len(first) == 1_000 and token is not None
    last, token = await gated.control.list_page(gated.url("k/"), token)
    assert [info.url.key for info in last] == ["k/01000"] and token is None


async def test_an_upload_in_parts(store: Store) -> None:
    url, bodies = store.url("big"), (bytes(5 * MiB), b"end")
    upload_id = await store.control.create_multipart_upload(url, CRC)
    receipts = await store.parts(url, upload_id, *bodies)
    told = [CRC.encode(receipt.crc or 0) if store.server.lists_sums else "" for receipt in receipts]
    listed = await store.control.list_parts(url, upload_id)
    assert listed is not None
    assert [(p.number, p.size, p.etag.strip('"')) for p in listed] == [
        (p.number, p.size, p.etag.strip('"')) for p in receipts
    ]
    assert [p.checksum.value if p.checksum else "" for p in listed] == told
    whole = b"".join(bodies)
    receipt = await store.control.complete_multipart_upload(
        url, upload_id, receipts, checksum(whole), len(whole)
    )
    info = await store.control.head_object(url)
    assert info.size == len(whole)
    assert receipt.etag.strip('"') == ("" if store.server.empty_complete else info.etag.strip('"'))
    assert info.etag.strip('"').endswith("-2")
    assert info.checksum == store.sum_of(whole)
    assert receipt.checksum == (info.checksum if store.server.says_sum_at_complete else None)
    assert await store.control.list_parts(url, upload_id) is None


async def test_the_parts_that_an_object_was_written_in(gated: Store) -> None:
    url, bodies = gated.url("parts"), (bytes(5 * MiB), b"end")
    etag = put_in_parts(gated.aws, url.bucket, url.key, b"".join(bodies), 5 * MiB)
    info = await gated.control.head_object(url)
    assert info.checksum is not None and not info.checksum.full_object
    for number, body in enumerate(bodies, 1):
        part = await gated.control.head_part(url, number, etag=etag)
        told = Checksum("crc32c", CRC32C.encode(CRC32C.update(body)))
        assert part == StoredPart(number, len(body), 2, told)
    gated.aws.gate.part_sums = "never"
    assert await gated.control.head_part(url, 2, etag=etag) == StoredPart(2, 3, 2, None)
    with pytest.raises(ObjectChanged):
        await gated.control.head_part(url, 1, etag='"another"')
    whole = await gated.put("whole", b"bytes")
    etag = (await gated.control.head_object(whole)).etag
    assert await gated.control.head_part(whole, 1, etag=etag) is None


async def test_an_upload_that_is_aborted(gated: Store) -> None:
    url = gated.url("gone")
    upload_id = await gated.control.create_multipart_upload(url, CRC)
    await gated.control.abort_multipart_upload(url, upload_id)
    with pytest.raises(NotFound) as caught:
        await gated.control.abort_multipart_upload(url, upload_id)
    assert caught.value.s3_code == "NoSuchUpload"


async def test_an_aborted_upload_has_no_parts_and_takes_none(store: Store) -> None:
    url = store.url("gone")
    upload_id = await store.control.create_multipart_upload(url, CRC)
    await store.parts(url, upload_id, b"bytes")
    await store.control.abort_multipart_upload(url, upload_id)
    assert await store.control.list_parts(url, upload_id) is None
    with pytest.raises(S3Error):  # moto answers 500
        await store.parts(url, upload_id, b"bytes")
    assert (await store.control.list_page(store.url(""), None))[0] == []


async def test_open_uploads_are_listed(store: Store) -> None:
    keys, control = ("k/b", "k/a", "k/a b&<+%", "other"), store.control
    ids = {key: await control.create_multipart_upload(store.url(key), CRC) for key in keys}
    found, following = await control.list_uploads(store.url("k/"))
    assert following is None
    assert {info.url.key: info.upload_id for info in found} == {
        key: ids[key] for key in keys if key.startswith("k/")
    }
    if store.server.tells_initiated:
        assert all(info.initiated is not None and info.initiator for info in found)
    for key, upload_id in ids.items():
        await control.abort_multipart_upload(store.url(key), upload_id)
    assert await control.list_uploads(store.url("")) == ([], None)
    with pytest.raises(NotFound):
        await control.list_uploads(S3Url("no-such-bucket"))


async def test_open_uploads_have_pages(gated: Store) -> None:
    control, url = gated.control, gated.url("k")
    ids = [await control.create_multipart_upload(url, CRC) for _ in range(5)]
    gated.aws.gate.uploads_of_a_page = 2
    found: list[str] = []
    page, after = await control.list_uploads(url)
    while after is not None:
        found += [info.upload_id for info in page]
        page, after = await control.list_uploads(url, after)
    assert [*found, *(info.upload_id for info in page)] == ids
    (entry, *_) = gated.aws.gate.log.where(action="CreateMultipartUpload")
    assert page[0].initiator == entry.principal
    assert page[0].initiated is not None
    assert abs((page[0].initiated - entry.at).total_seconds()) < 60


async def test_a_wrong_sum_is_refused_by_complete(gated: Store) -> None:
    url = gated.url("wrong")
    upload_id = await gated.control.create_multipart_upload(url, CRC)
    receipts = await gated.parts(url, upload_id, b"bytes")
    wrong = Checksum("crc64nvme", CRC.encode(1))
    with pytest.raises(S3Error) as caught:
        await gated.control.complete_multipart_upload(url, upload_id, receipts, wrong, 5)
    assert caught.value.s3_code == "BadDigest"


@pytest.mark.parametrize("late", [False, True])
async def test_an_error_before_or_behind_the_200(gated: Store, late: bool) -> None:
    url = gated.url("late")
    upload_id = await gated.control.create_multipart_upload(url, CRC)
    receipts = await gated.parts(url, upload_id, b"bytes")
    gated.aws.gate.faults.add(
        kind="error_in_200" if late else "status",
        action="CompleteMultipartUpload",
        code="InternalError",
    )
    with pytest.raises(S3Error) as caught:
        await gated.control.complete_multipart_upload(
            url, upload_id, receipts, checksum(b"bytes"), 5
        )
    assert caught.value.s3_code == "InternalError"


async def test_what_is_not_there_is_named(store: Store) -> None:
    with pytest.raises(NotFound) as caught:
        await store.control.head_object(store.url("none"))
    assert caught.value.s3_code == "NoSuchKey"
    with pytest.raises(NotFound) as caught:
        await store.control.list_page(S3Url("no-such-bucket"), None)
    assert caught.value.s3_code == "NoSuchBucket"


async def test_a_denied_request(gated: Store) -> None:
    gated.aws.gate.faults.add(
        kind="status", action="ListObjectsV2", status=403, code="AccessDenied"
    )
    with pytest.raises(AccessDenied):
        await gated.control.list_page(gated.url(""), None)
    assert gated.lease.said == ["denied"]
