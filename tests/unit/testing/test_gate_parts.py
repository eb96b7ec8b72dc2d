"""Parts of finished objects through the gate, and bits that are flipped on their way in."""

from __future__ import annotations

import base64
import os
from typing import Any

import pytest
from awscrt import checksums

from engine.testing.aws import AwsDouble
from tests.unit.testing.sdk import client, refused

PART = 5 * 1024 * 1024


def upload(s3: Any, key: str, kind: str, *bodies: bytes) -> list[str]:
    """Put ``bodies`` as the parts of one object; the checksums that S3 answered."""
    made = s3.create_multipart_upload(
        Bucket="bkt", Key=key, ChecksumAlgorithm="CRC32C", ChecksumType=kind
    )
    which = {"Bucket": "bkt", "Key": key, "UploadId": made["UploadId"]}
    parts = []
    for number, body in enumerate(bodies, start=1):
        answer = s3.upload_part(**which, PartNumber=number, Body=body, ChecksumAlgorithm="CRC32C")
        parts.append(
            {
                "PartNumber": number,
                "ETag": answer["ETag"],
                "ChecksumCRC32C": answer["ChecksumCRC32C"],
            }
        )
    s3.complete_multipart_upload(**which, MultipartUpload={"Parts": parts}, ChecksumType=kind)
    return [str(part["ChecksumCRC32C"]) for part in parts]


@pytest.mark.parametrize(
    ("kind", "sums", "told"),
    [
        ("COMPOSITE", "composite", True),
        ("FULL_OBJECT", "composite", False),
        ("FULL_OBJECT", "always", True),
        ("COMPOSITE", "never", False),
    ],
)
def test_a_part_by_number_and_by_its_range(
    aws: AwsDouble, kind: str, sums: Any, told: bool
) -> None:
    aws.gate.part_sums = sums
    s3 = client(aws, "s3")
    bodies = (os.urandom(PART), b"the end")
    expected = upload(s3, "k", kind, *bodies)
    etag = s3.head_object(Bucket="bkt", Key="k")["ETag"]
    for number, body in enumerate(bodies, start=1):
        start = PART * (number - 1)
        which = {"Bucket": "bkt", "Key": "k", "ChecksumMode": "ENABLED", "IfMatch": etag}
        head = s3.head_object(**which, PartNumber=number)
        answers = [
            head,
            s3.get_object(**which, PartNumber=number),
            s3.get_object(**which, Range=f"bytes={start}-{start + len(body) - 1}"),
        ]
        assert (head["PartsCount"], head["ETag"], head["ContentLength"]) == (2, etag, len(body))
        for answer in answers[1:]:
            assert answer["Body"].read() == body
        for answer in answers:
            assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206
            assert answer.get("ChecksumCRC32C") == (expected[number - 1] if told else None)
    assert refused(s3.get_object, Bucket="bkt", Key="k", PartNumber=3) == (
        "InvalidPartNumber",
        416,
    )


def test_an_object_put_whole_is_its_one_part(aws: AwsDouble) -> None:
    s3 = client(aws, "s3")
    s3.put_object(Bucket="bkt", Key="k", Body=b"whole", ChecksumAlgorithm="CRC32C")
    head = s3.head_object(Bucket="bkt", Key="k", PartNumber=1, ChecksumMode="ENABLED")
    assert (head["ContentLength"], head.get("PartsCount")) == (5, None)
    assert head["ChecksumCRC32C"]


def test_a_bit_flipped_on_its_way_in_is_refused(aws: AwsDouble) -> None:
    aws.gate.faults.add(kind="garble", action="PutObject", at=2, bit=7)
    declared = base64.b64encode(checksums.crc32c(b"bytes").to_bytes(4, "big")).decode()
    answer = aws.request("PUT", "/bkt/k", b"bytes", {"x-amz-checksum-crc32c": declared})
    assert (answer.status, b"BadDigest" in answer.body) == (400, True)
    assert aws.gate.list_keys("bkt") == []
    # Whoever declares nothing is not told.
    aws.gate.faults.add(kind="garble", action="PutObject", at=2, bit=7)
    assert aws.request("PUT", "/bkt/k", b"bytes").status == 200
    assert aws.gate.get_object("bkt", "k") == b"by\xf4es"
