"""The gate keeps what S3 keeps: keys, bytes, checksums and parts.

boto3 is the client: what AWS's own client accepts as AWS is near enough to it.
"""

from __future__ import annotations

import base64
import hashlib
import os
from typing import Any

from awscrt import checksums

from engine.testing.aws import AwsDouble
from engine.testing.sigv4 import UNSIGNED_TRAILER
from tests.unit.testing.sdk import client, refused

ODD_KEYS = [
    "a+b", "a b", "a%20b", "../x", "x/../y", "//", "a//b", "/lead", "#h", "ü/日本", "-dash",
    "a?b", "a&b=c", ".", "..", "a/./b", "trail/", "%", "%2F", "a\\b", "a;b", "a'b\"c",
]  # fmt: skip


def crc64(data: bytes) -> str:
    return base64.b64encode(checksums.crc64nvme(data).to_bytes(8, "big")).decode()


def test_odd_keys_come_back_as_they_went(aws: AwsDouble) -> None:
    s3 = client(aws, "s3")
    for key in ODD_KEYS:
        s3.put_object(Bucket="bkt", Key=key, Body=key.encode())
    for key in ODD_KEYS:
        assert s3.get_object(Bucket="bkt", Key=key)["Body"].read() == key.encode()
        assert aws.gate.get_object("bkt", key) == key.encode()
    assert sorted(aws.gate.list_keys("bkt")) == sorted(ODD_KEYS)
    assert {e.key for e in aws.gate.log.where(action="PutObject")} == set(ODD_KEYS)


def test_checksums_are_kept_and_returned_only_for_the_whole_object(aws: AwsDouble) -> None:
    s3 = client(aws, "s3")
    s3.put_object(Bucket="bkt", Key="k", Body=b"hello", ChecksumAlgorithm="CRC64NVME")
    for call in (s3.get_object, s3.head_object):
        answer = call(Bucket="bkt", Key="k", ChecksumMode="ENABLED")
        assert answer["ChecksumCRC64NVME"] == crc64(b"hello")
        assert answer["ChecksumType"] == "FULL_OBJECT"
    part = s3.get_object(Bucket="bkt", Key="k", Range="bytes=1-2", ChecksumMode="ENABLED")
    assert part["Body"].read() == b"el"
    assert "ChecksumCRC64NVME" not in part
    status, headers, _ = aws.request("PUT", "/bkt/none", b"hello")
    assert (status, headers["x-amz-checksum-crc64nvme"]) == (200, crc64(b"hello"))


def test_a_wrong_checksum_stores_nothing(aws: AwsDouble) -> None:
    for headers in (
        {"x-amz-checksum-crc64nvme": crc64(b"other")},
        {"x-amz-checksum-crc32": "AAAAAA=="},
        {"Content-MD5": base64.b64encode(hashlib.md5(b"other").digest()).decode()},
    ):
        status, _, body = aws.request("PUT", "/bkt/k", b"hello", headers)
        assert (status, b"<Code>BadDigest</Code>" in body) == (400, True)
    wrong = hashlib.sha256(b"other").hexdigest()
    status, _, body = aws.request("PUT", "/bkt/k", b"hello", payload_hash=wrong)
    assert (status, b"XAmzContentSHA256Mismatch" in body) == (400, True)
    assert aws.gate.list_keys("bkt") == []


def test_a_trailer_is_decoded_and_verified(aws: AwsDouble) -> None:
    def send(checksum: str) -> int:
        text = f"3\r\nabc\r\n2\r\nde\r\n0\r\nx-amz-checksum-crc64nvme:{checksum}\r\n\r\n"
        headers = {
            "x-amz-trailer": "x-amz-checksum-crc64nvme",
            "x-amz-decoded-content-length": "5",
            "Content-Encoding": "aws-chunked",
        }
        return aws.request("PUT", "/bkt/k", text.encode(), headers, payload_hash=UNSIGNED_TRAILER)[
            0
        ]

    assert send(crc64(b"wrong")) == 400
    assert send(crc64(b"abcde")) == 200
    assert aws.gate.get_object("bkt", "k") == b"abcde"


def test_conditions_copies_and_deletes(aws: AwsDouble) -> None:
    s3 = client(aws, "s3")
    etag = s3.put_object(Bucket="bkt", Key="k", Body=b"hello")["ETag"]
    assert refused(s3.put_object, Bucket="bkt", Key="k", Body=b"x", IfNoneMatch="*") == (
        "PreconditionFailed",
        412,
    )
    s3.copy_object(Bucket="bkt", Key="copy", CopySource={"Bucket": "bkt", "Key": "k"})
    assert "ChecksumCRC32" in s3.head_object(Bucket="bkt", Key="copy", ChecksumMode="ENABLED")
    aws.gate.put_object("bkt", "k", b"changed")
    assert refused(s3.get_object, Bucket="bkt", Key="k", IfMatch=etag)[1] == 412
    s3.delete_objects(Bucket="bkt", Delete={"Objects": [{"Key": "k"}, {"Key": "copy"}]})
    assert aws.gate.list_keys("bkt") == []


def test_a_multipart_upload_gets_the_checksum_of_its_whole(aws: AwsDouble) -> None:
    s3 = client(aws, "s3")
    pieces = [os.urandom(5 * 1024 * 1024), b"tail"]
    where = {"Bucket": "bkt", "Key": "mp"}
    where["UploadId"] = s3.create_multipart_upload(**where, ChecksumAlgorithm="CRC64NVME")[
        "UploadId"
    ]
    parts = []
    for number, data in enumerate(pieces, 1):
        reply = s3.upload_part(**where, PartNumber=number, Body=data, ChecksumAlgorithm="CRC64NVME")
        assert reply["ChecksumCRC64NVME"] == crc64(data)
        parts.append({"PartNumber": number, "ETag": reply["ETag"]})
    listed = s3.list_parts(**where)["Parts"]
    assert [p["ChecksumCRC64NVME"] for p in listed] == [crc64(data) for data in pieces]
    assert [u.key for u in aws.gate.open_uploads("bkt")] == ["mp"]

    def complete(named: list[dict[str, Any]], **more: Any) -> Any:
        return s3.complete_multipart_upload(**where, MultipartUpload={"Parts": named}, **more)

    whole = b"".join(pieces)
    size = len(whole)
    bad = {**parts[1], "ETag": '"0"'}
    assert refused(complete, named=parts[::-1])[0] == "InvalidPartOrder"
    assert refused(complete, named=[parts[0], bad])[0] == "InvalidPart"
    assert refused(complete, named=[*parts, {**bad, "PartNumber": 3}])[0] == "InvalidPart"
    assert refused(complete, named=parts, MpuObjectSize=size + 1)[0] == "InvalidRequest"
    assert refused(complete, named=parts, ChecksumCRC64NVME=crc64(b""))[0] == "BadDigest"
    done = complete(parts, MpuObjectSize=size, ChecksumCRC64NVME=crc64(whole))
    assert (done["ChecksumCRC64NVME"], done["ChecksumType"]) == (crc64(whole), "FULL_OBJECT")
    assert aws.gate.get_object("bkt", "mp") == whole
    head = s3.head_object(Bucket="bkt", Key="mp", ChecksumMode="ENABLED")
    assert head["ChecksumCRC64NVME"] == crc64(whole)
    assert refused(complete, named=parts) == ("NoSuchUpload", 404)
    keys = aws.gate.log.keys_by_upload()
    assert keys == {where["UploadId"]: {aws.admin.access_key_id}}


def test_small_parts_and_strange_uploads_are_refused(aws: AwsDouble) -> None:
    s3 = client(aws, "s3")
    where = {"Bucket": "bkt", "Key": "mp"}
    where["UploadId"] = s3.create_multipart_upload(**where)["UploadId"]
    parts = [
        {
            "PartNumber": number,
            **{
                name: value
                for name, value in s3.upload_part(**where, PartNumber=number, Body=b"x").items()
                if name in ("ETag", "ChecksumCRC32")
            },
        }
        for number in (1, 2)
    ]
    complete = s3.complete_multipart_upload
    assert refused(complete, **where, MultipartUpload={"Parts": parts})[0] == "EntityTooSmall"
    other = {**where, "Key": "another"}
    assert refused(s3.upload_part, **other, PartNumber=1, Body=b"x") == ("NoSuchUpload", 404)
    assert refused(s3.upload_part, **where, PartNumber=0, Body=b"x")[0] == "InvalidArgument"
    s3.abort_multipart_upload(**where)
    assert refused(s3.abort_multipart_upload, **where) == ("NoSuchUpload", 404)
    assert aws.gate.open_uploads("bkt") == []


def test_boto3_uploads_in_parts(aws: AwsDouble, tmp_path: Any) -> None:
    data = os.urandom(18 * 1024 * 1024)
    path = tmp_path / "file"
    path.write_bytes(data)
    client(aws, "s3").upload_file(str(path), "bkt", "big")
    assert aws.gate.get_object("bkt", "big") == data
    assert len(aws.gate.log.where(action="UploadPart", status=200)) == 3
