"""The control plane over aioboto3: a call a verb, its answers and errors as ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from engine._aws.client import AnswerError, AwsClient
from engine._wire.documents import is_writable
from engine.config import Endpoints
from engine.errors import S3Error
from engine.options import PLAIN, ObjectOptions
from engine.planes.errors import s3_error
from engine.planes.lease_rules import is_near_expiry, judge
from engine.protocols import ChecksumAlgorithm, ControlPlane, Lease
from engine.types import (
    Checksum,
    Credentials,
    ObjectInfo,
    PartReceipt,
    PutReceipt,
    S3Url,
    StoredPart,
    UploadId,
)

# Names of the checksum fields in S3's answers -> our names. The order is the order of trust.
_CHECKSUM_FIELDS = (
    ("ChecksumCRC64NVME", "crc64nvme"),
    ("ChecksumCRC32C", "crc32c"),
    ("ChecksumCRC32", "crc32"),
    ("ChecksumSHA256", "sha256"),
    ("ChecksumSHA1", "sha1"),
)
_FIELD_OF = {name: field for field, name in _CHECKSUM_FIELDS}
# https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
MAX_DELETE = 1_000


@final
class AwsControlPlane(ControlPlane):
    """S3's control verbs through one aioboto3 client."""

    def __init__(
        self, endpoints: Endpoints, lease: Lease, *, user_agent: str, **_unused: object
    ) -> None:
        self._client = AwsClient("s3", endpoints, endpoints.s3, user_agent)
        self._lease = lease

    async def _call(self, operation: str, url: S3Url, **parameters: Any) -> Any:
        credentials = await self._lease.ready()
        try:
            answer = await self._client.call(
                operation, credentials, Bucket=url.bucket, **parameters
            )
        except AnswerError as error:
            code = error.error_code
            if operation == "head_object" and code in ("400", "404"):
                code = await self._code_behind_bare(credentials, url, code)
            refused = s3_error(
                operation.replace("_", " "),
                url,
                code=code,
                status=error.status,
                message=error.text,
                request_id=error.request_id,
                headers=error.headers,
            )
            if isinstance(refused, S3Error):
                await judge(self._lease, credentials, refused)
            raise refused from None

        self._lease.report_worked(credentials)
        return answer

    async def _code_behind_bare(self, credentials: Credentials, url: S3Url, code: str) -> str:
        """An answer to HEAD has no body, and so no code: near the end of the lease a 400 means
        "expired"; else the same is asked by GET, whose error has one."""
        if code == "400" and is_near_expiry(self._lease, credentials):
            return "ExpiredToken"
        try:
            await self._client.call(
                "get_object", credentials, Bucket=url.bucket, Key=url.key, Range="bytes=0-0"
            )
        except AnswerError as error:
            return error.error_code
        return code

    async def head_object(
        self, url: S3Url, *, options: ObjectOptions = PLAIN, checksum: bool = True
    ) -> ObjectInfo:
        mode = {"ChecksumMode": "ENABLED"} if checksum else {}
        answer = await self._call("head_object", url, Key=url.key, **mode)
        return ObjectInfo(
            url,
            size=int(answer["ContentLength"]),
            etag=answer.get("ETag", ""),
            checksum=_checksum(answer),
            last_modified=answer.get("LastModified"),
            version_id=answer.get("VersionId"),
            metadata=answer.get("Metadata", {}),
        )

    async def head_part(
        self, url: S3Url, number: int, *, etag: str, options: ObjectOptions = PLAIN
    ) -> StoredPart | None:
        answer = await self._call(
            "head_object",
            url,
            Key=url.key,
            PartNumber=number,
            IfMatch=etag,
            ChecksumMode="ENABLED",
        )
        count = int(answer.get("PartsCount") or 0)
        if number > count:
            return None
        sums = {field: answer.get(field) for field, _ in _CHECKSUM_FIELDS}
        checksum = _checksum(sums)
        whole = checksum if checksum is not None and checksum.full_object else None
        return StoredPart(number, int(answer["ContentLength"]), count, whole)

    async def list_page(
        self, prefix: S3Url, token: str | None, *, options: ObjectOptions = PLAIN
    ) -> tuple[Sequence[ObjectInfo], str | None]:
        more = {} if token is None else {"ContinuationToken": token}
        answer = await self._call("list_objects_v2", prefix, Prefix=prefix.key, **more)
        page = [
            ObjectInfo(
                S3Url(prefix.bucket, row["Key"]),
                size=int(row["Size"]),
                etag=row.get("ETag", ""),
                last_modified=row.get("LastModified"),
            )
            for row in answer.get("Contents", ())
        ]
        if not answer.get("IsTruncated"):
            return page, None
        following = answer.get("NextContinuationToken")
        if not following:
            raise S3Error(
                f"the listing of {prefix} does not say how to go on",
                s3_code="BadListing",
                status=200,
            )
        return page, str(following)

    async def create_multipart_upload(
        self, url: S3Url, algorithm: ChecksumAlgorithm | None, *, options: ObjectOptions = PLAIN
    ) -> UploadId:
        sums = {}
        if algorithm is not None:
            sums = {"ChecksumAlgorithm": algorithm.name.upper(), "ChecksumType": "FULL_OBJECT"}
        answer = await self._call("create_multipart_upload", url, Key=url.key, **sums)
        return UploadId(answer["UploadId"])

    async def complete_multipart_upload(
        self,
        url: S3Url,
        upload_id: UploadId,
        parts: Sequence[PartReceipt],
        checksum: Checksum | None,
        size: int,
        *,
        options: ObjectOptions = PLAIN,
    ) -> PutReceipt:
        sums: dict[str, Any] = {}
        if checksum is not None:
            sums = {
                _FIELD_OF[checksum.algorithm]: checksum.value,
                "ChecksumType": "FULL_OBJECT",
                "MpuObjectSize": size,
            }
        answer = await self._call(
            "complete_multipart_upload",
            url,
            Key=url.key,
            UploadId=upload_id,
            MultipartUpload={"Parts": [_part_row(part) for part in parts]},
            **sums,
        )
        return PutReceipt(answer.get("ETag", ""), _checksum(answer), answer.get("VersionId"))

    async def abort_multipart_upload(
        self, url: S3Url, upload_id: UploadId, *, options: ObjectOptions = PLAIN
    ) -> None:
        await self._call("abort_multipart_upload", url, Key=url.key, UploadId=upload_id)

    async def list_parts(
        self, url: S3Url, upload_id: UploadId, *, options: ObjectOptions = PLAIN
    ) -> Sequence[int]:
        try:
            answer = await self._call("list_parts", url, Key=url.key, UploadId=upload_id)
        except S3Error as error:
            if error.s3_code == "NoSuchUpload":
                return ()
            raise
        return tuple(int(part["PartNumber"]) for part in answer.get("Parts", ()))

    async def delete_objects(
        self, urls: Sequence[S3Url], *, options: ObjectOptions = PLAIN
    ) -> None:
        # A key that XML cannot write goes alone, in a request of its own.
        for url in urls:
            if not is_writable(url.key):
                await self._call("delete_object", url, Key=url.key)
        rest = [url for url in urls if is_writable(url.key)]
        for start in range(0, len(rest), MAX_DELETE):
            page = rest[start : start + MAX_DELETE]
            assert len({url.bucket for url in page}) == 1
            answer = await self._call(
                "delete_objects",
                page[0],
                Delete={"Objects": [{"Key": url.key} for url in page], "Quiet": True},
            )
            for refused in answer.get("Errors", ()):
                raise s3_error(
                    "delete objects",
                    S3Url(page[0].bucket, refused["Key"]),
                    code=refused.get("Code", ""),
                    status=200,
                )

    async def aclose(self) -> None:
        await self._client.aclose()


def _part_row(part: PartReceipt) -> dict[str, Any]:
    row: dict[str, Any] = {"PartNumber": part.number, "ETag": part.etag}
    if part.checksum is not None:
        row[_FIELD_OF[part.checksum.algorithm]] = part.checksum.value
    return row


def _checksum(answer: Any) -> Checksum | None:
    for field, name in _CHECKSUM_FIELDS:
        value = answer.get(field)
        if value:
            composite = answer.get("ChecksumType") == "COMPOSITE" or "-" in value
            return Checksum(name, value, full_object=not composite)
    return None
