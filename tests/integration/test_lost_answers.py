"""Uploads whose answers are lost, late or untrue: what was written is found out, not guessed."""

from __future__ import annotations

import os

import pytest

from engine import (
    ChecksumMismatch,
    ConnectionFailed,
    MiB,
    ObjectOptions,
    RetryPolicy,
    StoreLimits,
    TransferConfig,
)
from engine.errors import EngineError, NotFound, TransferError
from engine.events import UploadLeft
from tests.integration.conftest import Scene

PARTS = TransferConfig(multipart_threshold=5 * MiB, part_size=5 * MiB)
NEVER = RetryPolicy(max_attempts=2, base_delay=0.01, max_delay=0.01)
DATA = os.urandom(6 * MiB)


def left(scene: Scene) -> list[str]:
    return [event.upload_id for event in scene.events if isinstance(event, UploadLeft)]


@pytest.mark.parametrize("checksum", ["crc64nvme", "crc32c", "none"])
async def test_a_complete_whose_every_answer_is_lost_is_looked_for(
    scene: Scene, checksum: str
) -> None:
    """The first try wrote the object; by the second the way is gone."""
    scene.aws.gate.faults.add(kind="swallow", action="CompleteMultipartUpload")
    scene.aws.gate.faults.add(kind="drop", action="CompleteMultipartUpload", nth=2, times=None)
    config = TransferConfig(multipart_threshold=5 * MiB, part_size=5 * MiB, checksum=checksum)
    async with scene.engine(config=config, retry=NEVER) as s3:
        result = await s3.upload(DATA, scene.url("key"))
    assert result.verified == (checksum != "none")
    assert scene.aws.gate.get_object(scene.bucket, "key") == DATA
    assert left(scene) == []


async def test_a_complete_that_never_came_is_a_failure_and_leaves_nothing(scene: Scene) -> None:
    scene.aws.gate.put_object(scene.bucket, "key", b"what was there")
    scene.aws.gate.faults.add(kind="drop", action="CompleteMultipartUpload", times=None)
    async with scene.engine(config=PARTS, retry=NEVER) as s3:
        with pytest.raises(ConnectionFailed):
            await s3.upload(DATA, scene.url("key"))
    assert scene.aws.gate.get_object(scene.bucket, "key") == b"what was there"
    assert scene.aws.gate.open_uploads(scene.bucket) == []


async def test_an_older_object_of_the_same_bytes_leaves_no_upload_open(scene: Scene) -> None:
    """It is taken for ours, as nobody can tell them apart."""
    async with scene.engine(config=PARTS) as s3:
        await s3.upload(DATA, scene.url("key"))
        scene.aws.gate.faults.add(kind="drop", action="CompleteMultipartUpload")
        await s3.upload(DATA, scene.url("key"), options=ObjectOptions(if_none_match=True))
    assert scene.aws.gate.open_uploads(scene.bucket) == [] and left(scene) == []


async def test_where_nobody_can_look_the_error_says_that_it_is_unknown(scene: Scene) -> None:
    scene.aws.gate.faults.add(kind="swallow", action="CompleteMultipartUpload")
    scene.aws.gate.faults.add(kind="drop", action="CompleteMultipartUpload", nth=2, times=None)
    scene.aws.gate.faults.add(kind="drop", action="HeadObject", times=None)
    async with scene.engine(config=PARTS, retry=NEVER) as s3:
        with pytest.raises(ConnectionFailed) as caught:
            await s3.upload(DATA, scene.url("key"))
    assert any("is unknown" in note for note in caught.value.__notes__)


async def test_a_role_that_may_not_read_is_told_what_it_lacks(scene: Scene) -> None:
    scene.role_with(allow=[("s3:PutObject", "*"), ("s3:AbortMultipartUpload", "*")])
    scene.aws.gate.faults.add(kind="swallow", action="CompleteMultipartUpload")
    async with scene.engine(config=PARTS) as s3:
        with pytest.raises(TransferError, match="was written most likely") as caught:
            await s3.upload(DATA, scene.url("key"))
    assert "s3:GetObject" in caught.value.fix
    assert scene.aws.gate.get_object(scene.bucket, "key") == DATA


async def test_what_may_not_be_looked_at_is_unknown_and_not_written(scene: Scene) -> None:
    """S3 says AccessDenied of a key that has no object, too, to who may not list the bucket."""
    scene.role_with(allow=[("s3:PutObject", "*"), ("s3:AbortMultipartUpload", "*")])
    scene.aws.gate.faults.add(kind="drop", action="CompleteMultipartUpload", times=None)
    async with scene.engine(config=PARTS, retry=NEVER) as s3:
        with pytest.raises(ConnectionFailed) as caught:
            await s3.upload(DATA, scene.url("key"))
    assert any("is unknown" in note for note in caught.value.__notes__)
    assert scene.aws.gate.list_keys(scene.bucket) == []
    assert scene.aws.gate.open_uploads(scene.bucket) == []


async def test_an_upload_that_somebody_else_aborted_is_no_success(scene: Scene) -> None:
    """Complete is dropped once, then the upload is gone; what is there is somebody else's."""
    gate = scene.aws.gate
    gate.put_object(scene.bucket, "key", b"somebody else's")
    gate.faults.add(kind="drop", action="CompleteMultipartUpload")
    gate.faults.add(
        kind="status", action="CompleteMultipartUpload", nth=2, status=404, code="NoSuchUpload"
    )
    async with scene.engine(config=PARTS) as s3:
        with pytest.raises(NotFound) as caught:
            await s3.upload(DATA, scene.url("key"))
    assert caught.value.s3_code == "NoSuchUpload"


@pytest.mark.parametrize("code", ["InternalError", "SlowDown"])
async def test_an_error_behind_a_200_is_no_success(scene: Scene, code: str) -> None:
    scene.aws.gate.faults.add(kind="error_in_200", action="CompleteMultipartUpload", code=code)
    async with scene.engine(config=PARTS) as s3:
        assert (await s3.upload(DATA, scene.url("key"))).verified
        scene.aws.gate.faults.add(
            kind="error_in_200", action="CompleteMultipartUpload", code="InvalidPart", times=None
        )
        with pytest.raises(EngineError, match="InvalidPart"):
            await s3.upload(DATA, scene.url("other"))
    assert scene.aws.gate.get_object(scene.bucket, "key") == DATA
    assert scene.aws.gate.list_keys(scene.bucket) == ["key"]
    assert scene.aws.gate.open_uploads(scene.bucket) == []


async def test_an_upload_id_that_was_lost_is_told(scene: Scene) -> None:
    """It is not aborted by a guess: whose uploads of this key are open, nobody can tell."""
    scene.aws.gate.faults.add(kind="swallow", action="CreateMultipartUpload")
    async with scene.engine(config=PARTS) as s3:
        await s3.upload(DATA, scene.url("key"))
    assert left(scene) == [""]
    (orphan,) = scene.aws.gate.open_uploads(scene.bucket)
    assert orphan.key == "key"


@pytest.mark.parametrize("kind", ["drop", "swallow", "status"])
async def test_one_put_whose_answer_is_lost_is_sent_again(scene: Scene, kind: str) -> None:
    scene.aws.gate.faults.add(kind=kind, action="PutObject")  # type: ignore[arg-type]
    async with scene.engine() as s3:
        assert (await s3.upload(DATA, scene.url("key"))).verified
    assert scene.aws.gate.get_object(scene.bucket, "key") == DATA


async def test_a_store_that_makes_only_composite_checksums_is_compared_too(scene: Scene) -> None:
    """S3 itself does so where no type is asked for; some stores whatever is asked for."""
    scene.aws.gate.sum_habit = "composite"
    config = TransferConfig(multipart_threshold=5 * MiB, part_size=5 * MiB, checksum="crc32c")
    async with scene.engine(config=config) as s3:
        result = await s3.upload(DATA, scene.url("key"))
        assert result.verified and result.checksum is not None
        assert not result.checksum.full_object and result.checksum.value.endswith("-2")
        scene.aws.gate.faults.add(kind="swallow", action="CompleteMultipartUpload")
        assert (await s3.upload(DATA, scene.url("again"))).verified


async def test_documents_that_a_bit_flips_in_are_sent_or_looked_at_again(scene: Scene) -> None:
    gate = scene.aws.gate
    gate.faults.add(kind="garble", action="CompleteMultipartUpload", at=99, bit=1)
    async with scene.engine(config=PARTS) as s3:
        assert (await s3.upload(DATA, scene.url("sent"))).verified
        # In the answer: a letter of the checksum.
        before = (
            '<?xml version="1.0" encoding="utf-8"?>\n<CompleteMultipartUploadResult '
            'xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Location>http://{scene.bucket}.s3.amazonaws.com/answered</Location>"
            f"<Bucket>{scene.bucket}</Bucket><Key>answered</Key>"
            f'<ETag>"{"0" * 32}-2"</ETag><ChecksumCRC64NVME>'
        )
        gate.faults.add(kind="flip", action="CompleteMultipartUpload", at=len(before) + 2)
        result = await s3.upload(DATA, scene.url("answered"))
    assert result.verified
    assert len(scene.log("HeadObject")) == 1
    for key in ("sent", "answered"):
        assert gate.get_object(scene.bucket, key) == DATA


async def test_a_refused_sum_of_the_whole_is_final(scene: Scene) -> None:
    scene.aws.gate.faults.add(
        kind="status", action="CompleteMultipartUpload", status=400, code="BadDigest", times=None
    )
    async with scene.engine(config=PARTS) as s3:
        with pytest.raises(TransferError, match="up to another checksum"):
            await s3.upload(DATA, scene.url("key"))
    assert len(scene.log("CompleteMultipartUpload")) == 1
    assert scene.aws.gate.open_uploads(scene.bucket) == []


async def test_another_object_than_was_sent_is_named(scene: Scene) -> None:
    gate = scene.aws.gate
    gate.sum_habit = "wrong"
    async with scene.engine(config=PARTS) as s3:
        with pytest.raises(ChecksumMismatch, match="the bytes sent have"):
            await s3.upload(DATA, scene.url("key"))


@pytest.mark.parametrize("action", ["CopyObject", "UploadPartCopy"])
async def test_a_copy_whose_every_answer_is_lost_is_looked_for(scene: Scene, action: str) -> None:
    """The first try made it; by the second the way is gone."""
    scene.aws.gate.faults.add(kind="swallow", action=action)
    scene.aws.gate.faults.add(kind="drop", action=action, nth=2, times=None)
    most = 5 * MiB if action == "UploadPartCopy" else 100 * MiB
    config = TransferConfig(part_size=5 * MiB, limits=StoreLimits("small", max_copy_size=most))
    async with scene.engine(config=config, retry=NEVER) as s3:
        await s3.upload(DATA, scene.url("from"))
        result = await s3.copy(scene.url("from"), scene.url("to"))
    assert result.verified
    assert scene.aws.gate.get_object(scene.bucket, "to") == DATA
    assert scene.aws.gate.open_uploads(scene.bucket) == []
