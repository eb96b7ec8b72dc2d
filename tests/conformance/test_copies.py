"""Copies within S3: both control planes ask alike, and hear the same."""

from __future__ import annotations

import pytest

from engine.errors import NotFound, S3Error
from engine.options import ObjectOptions
from engine.protocols import CopySource
from engine.transfer.sources import BytesSource
from engine.types import ByteRange, MiB
from tests.conformance.store import CRC, ODD_KEYS, Store, checksum

pytestmark = pytest.mark.slow

STORED = ObjectOptions(
    content_type="text/csv", metadata={"by": "me"}, tags={"team": "etl", "x": ""}
)


async def test_every_key_can_be_copied(store: Store) -> None:
    for key in ODD_KEYS:
        await store.put(key, key.encode())
        info = await store.control.head_object(store.url(key))
        target = store.url("copies/" + key)
        receipt = await store.control.copy_object(CopySource(info.url, info.etag), target, CRC)
        copied = await store.control.head_object(target)
        assert (copied.size, copied.etag) == (info.size, info.etag)
        assert receipt.etag.strip('"') == copied.etag.strip('"')
        if store.server.keeps_sums:
            assert receipt.checksum == copied.checksum == checksum(key.encode())


async def test_what_is_kept_and_what_is_replaced(store: Store) -> None:
    url, target = store.url("key"), store.url("copy")
    await store.data.put_object(url, BytesSource(b"bytes"), CRC, options=STORED)
    other = ObjectOptions(content_type="text/plain", metadata={"run": "7"}, tags={"new": "tag"})

    async def copied(**keep: bool) -> tuple[str | None, dict[str, str], dict[str, str]]:
        await store.control.copy_object(CopySource(url), target, CRC, options=other, **keep)
        info = await store.control.head_object(target)
        tags = await store.control.get_tags(target)
        metadata = {name: info.metadata[name] for name in ("by", "run") if name in info.metadata}
        return info.headers.get("content-type"), metadata, dict(tags)

    assert await copied() == ("text/csv", {"by": "me"}, dict(STORED.tags))
    replaced = ("text/plain", {"run": "7"}, dict(other.tags))
    if store.server.retags:
        assert await copied(keep_tags=False) == ("text/csv", {"by": "me"}, dict(other.tags))
        assert await copied(keep_metadata=False, keep_tags=False) == replaced
    else:
        assert (await copied(keep_metadata=False, keep_tags=False))[:2] == replaced[:2]


async def test_a_copy_in_parts(store: Store) -> None:
    data = bytes(5 * MiB) + b"x" * MiB
    await store.put("a b/ü", data)
    info = await store.control.head_object(store.url("a b/ü"))
    source, target = CopySource(info.url, info.etag), store.url("copy")
    upload_id = await store.control.create_multipart_upload(target, CRC)
    receipts = []
    for number, span in enumerate((ByteRange(0, 5 * MiB), ByteRange(5 * MiB, len(data))), 1):
        receipt = await store.control.upload_part_copy(source, target, upload_id, number, span, CRC)
        assert (receipt.number, receipt.offset, receipt.size) == (number, span.start, span.length)
        receipts.append(receipt)
    if store.server.says_sum_at_complete and store.server.keeps_sums:
        assert [receipt.checksum for receipt in receipts] == [
            checksum(data[: 5 * MiB]),
            checksum(data[5 * MiB :]),
        ]
        assert CRC.combine(receipts[0].crc or 0, receipts[1].crc or 0, MiB) == CRC.update(data)
    known = all(receipt.crc is not None for receipt in receipts)
    await store.control.complete_multipart_upload(
        target, upload_id, receipts, checksum(data) if known else None, len(data)
    )
    copied = await store.control.head_object(target)
    assert copied.size == len(data)
    if known:
        assert copied.checksum == checksum(data)


async def test_another_version_of_the_source_is_refused(gated: Store) -> None:
    url, target = await gated.put("key", b"x" * (5 * MiB + 1)), gated.url("copy")
    pinned = CopySource(url, '"0123456789abcdef0123456789abcdef"')
    with pytest.raises(S3Error) as caught:
        await gated.control.copy_object(pinned, target, CRC)
    assert caught.value.status == 412
    upload_id = await gated.control.create_multipart_upload(target, CRC)
    with pytest.raises(S3Error) as caught:
        await gated.control.upload_part_copy(
            pinned, target, upload_id, 1, ByteRange(0, 5 * MiB), CRC
        )
    assert caught.value.status == 412
    with pytest.raises(NotFound):
        await gated.control.copy_object(CopySource(gated.url("none")), target, CRC)


@pytest.mark.parametrize("action", ["CopyObject", "UploadPartCopy"])
@pytest.mark.parametrize("late", [False, True])
async def test_an_error_before_or_behind_the_200(gated: Store, late: bool, action: str) -> None:
    url, target = await gated.put("key", bytes(6 * MiB)), gated.url("copy")
    if late:
        gated.aws.gate.faults.add(kind="error_in_200", action=action, code="InternalError")
    else:
        gated.aws.gate.faults.add(kind="status", action=action, code="InternalError")
    with pytest.raises(S3Error) as caught:
        if action == "CopyObject":
            await gated.control.copy_object(CopySource(url), target, CRC)
        else:
            upload_id = await gated.control.create_multipart_upload(target, CRC)
            await gated.control.upload_part_copy(
                CopySource(url), target, upload_id, 1, ByteRange(0, 5 * MiB), CRC
            )
    assert caught.value.s3_code == "InternalError"


async def test_whose_bucket_the_source_is_in_is_checked(gated: Store) -> None:
    url, target = await gated.put("key", b"bytes"), gated.url("copy")
    ours, theirs = gated.aws.account, "999999999999"
    for owner, allowed in ((ours, True), (theirs, False)):
        source = CopySource(url, options=ObjectOptions(expected_bucket_owner=owner))
        if allowed:
            await gated.control.copy_object(source, target, CRC)
        else:
            with pytest.raises(S3Error, match="AccessDenied"):
                await gated.control.copy_object(source, target, CRC)
