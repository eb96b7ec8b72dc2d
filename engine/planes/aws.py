"""The control plane over aioboto3: a call a verb, its answers and errors as ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

from engine._wire.documents import is_writable
from engine.config import Endpoints
from engine.errors import ProtocolError, S3Error
from engine.events import Emit, silent
from engine.options import PLAIN, ObjectOptions
from engine.planes.aws_calls import AwsCalls
from engine.planes.aws_data import AwsDataPlane
from engine.planes.aws_parameters import checksum_field, checksum_in, parameters
from engine.planes.copies import copied_part, copy_headers, part_copy_headers
from engine.planes.errors import GONE, s3_error
from engine.planes.pages import (
    check_bucket,
    check_count,
    check_keys,
    is_truncated,
    next_part,
    next_token,
)
from engine.planes.regions import BucketRegions
from engine.planes.uploads import going_on, open_upload
from engine.protocols import (
    ChecksumAlgorithm,
    Clock,
    ControlPlane,
    CopySource,
    DataPlane,
    Lease,
)
from engine.types import (
    ByteRange,
    Checksum,
    ListedPart,
    ObjectInfo,
    OpenUpload,
    PartReceipt,
    PutReceipt,
    S3Url,
    StoredPart,
    UploadId,
)

# https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
MAX_DELETE = 1_000
_OF_A_PAGE = ("IsTruncated", "KeyCount", "NextContinuationToken", "NextPartNumberMarker")


@final
class AwsControlPlane(ControlPlane):
    """S3's control verbs through one aioboto3 client."""

    def __init__(
        self,
        endpoints: Endpoints,
        lease: Lease,
        *,
        clock: Clock,
        user_agent: str,
        emit: Emit = silent,
        beside: DataPlane | None = None,
        **_unused: object,
    ) -> None:
        known = beside.regions if isinstance(beside, AwsDataPlane) else None
        self._calls = AwsCalls(
            endpoints,
            lease,
            regions=known or BucketRegions(endpoints, emit),
            clock=clock,
            user_agent=user_agent,
        )

    async def head_object(
        self, url: S3Url, *, options: ObjectOptions = PLAIN, checksum: bool = True
    ) -> ObjectInfo:
        named = {"Key": url.key, **parameters(options.for_part())}
        if options.version_id is not None:
            named["VersionId"] = options.version_id
        mode = {"ChecksumMode": "ENABLED"} if checksum else {}
        answer = await self._calls.call(
            "head_object",
            url,
            {**named, **mode},
            behind_bare={**named, "Range": "bytes=0-0"},
        )
        return ObjectInfo(
            url,
            size=int(_said(answer, "ContentLength", url)),
            etag=_said(answer, "ETag", url),
            checksum=checksum_in(answer),
            last_modified=answer.get("LastModified"),
            version_id=answer.get("VersionId"),
            metadata=answer.get("Metadata", {}),
            headers=answer["ResponseMetadata"]["HTTPHeaders"],
        )

    async def head_part(
        self, url: S3Url, number: int, *, etag: str, options: ObjectOptions = PLAIN
    ) -> StoredPart | None:
        asked = {
            "Key": url.key,
            "PartNumber": number,
            "IfMatch": etag,
            "ChecksumMode": "ENABLED",
            **parameters(options.for_part()),
        }
        if options.version_id is not None:
            asked["VersionId"] = options.version_id
        answer = await self._calls.call("head_object", url, asked)
        count = int(answer.get("PartsCount") or 0)
        if number > count:
            return None
        # A checksum of a part has no ``-N`` behind it, whatever the type of the object's.
        checksum = checksum_in({**answer, "ChecksumType": ""})
        whole = checksum if checksum is not None and checksum.full_object else None
        return StoredPart(number, int(_said(answer, "ContentLength", url)), count, whole)

    async def list_page(
        self, prefix: S3Url, token: str | None, *, options: ObjectOptions = PLAIN
    ) -> tuple[Sequence[ObjectInfo], str | None]:
        asked = {"Prefix": prefix.key, **parameters(options.for_bucket())}
        if token is not None:
            asked["ContinuationToken"] = token
        answer = await self._calls.call("list_objects_v2", prefix, asked)
        rows = answer.get("Contents", ())
        check_bucket(prefix, answer.get("Name"))
        told = _told(answer)
        check_count(prefix, told.get("KeyCount"), len(rows))
        check_keys(prefix, [row.get("Key", "") for row in rows])
        page = [
            ObjectInfo(
                S3Url(prefix.bucket, row["Key"]),
                size=int(_said(row, "Size", prefix)),
                etag=row.get("ETag", ""),
                last_modified=row.get("LastModified"),
            )
            for row in rows
        ]
        return page, next_token(prefix, told)

    async def create_multipart_upload(
        self, url: S3Url, algorithm: ChecksumAlgorithm | None, *, options: ObjectOptions = PLAIN
    ) -> UploadId:
        asked = {"Key": url.key, **parameters(options.for_create())}
        if algorithm is not None:
            asked |= {"ChecksumAlgorithm": algorithm.name.upper(), "ChecksumType": "FULL_OBJECT"}
        answer = await self._calls.call("create_multipart_upload", url, asked)
        return UploadId(_said(answer, "UploadId", url))

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
        asked = {
            "Key": url.key,
            "UploadId": upload_id,
            "MultipartUpload": {"Parts": [_part_row(part) for part in parts]},
            **parameters(options.for_complete()),
        }
        if checksum is not None:
            asked[checksum_field(checksum.algorithm)] = checksum.value
            asked |= {"ChecksumType": "FULL_OBJECT", "MpuObjectSize": size}
        answer = await self._calls.call("complete_multipart_upload", url, asked)
        return PutReceipt(answer.get("ETag", ""), checksum_in(answer), answer.get("VersionId"))

    async def abort_multipart_upload(
        self, url: S3Url, upload_id: UploadId, *, options: ObjectOptions = PLAIN
    ) -> None:
        asked = {"Key": url.key, "UploadId": upload_id, **parameters(options.for_bucket())}
        await self._calls.call("abort_multipart_upload", url, asked)

    async def list_parts(
        self, url: S3Url, upload_id: UploadId, *, options: ObjectOptions = PLAIN
    ) -> Sequence[ListedPart] | None:
        asked = {"Key": url.key, "UploadId": upload_id, **parameters(options.for_part())}
        parts: list[ListedPart] = []
        marker = 0
        while True:
            try:
                answer = await self._calls.call("list_parts", url, asked)
            except S3Error as error:
                if error.s3_code in GONE:
                    return None
                raise
            page = [_listed_part(row, url) for row in answer.get("Parts", ())]
            parts += page
            numbers = [part.number for part in page]
            marker = next_part(f"the list of the parts of {url}", _told(answer), numbers, marker)
            if not marker:
                return parts
            asked["PartNumberMarker"] = marker

    async def list_uploads(
        self,
        prefix: S3Url,
        after: tuple[str, str] | None = None,
        *,
        options: ObjectOptions = PLAIN,
    ) -> tuple[Sequence[OpenUpload], tuple[str, str] | None]:
        asked = {"Prefix": prefix.key, **parameters(options.for_bucket())}
        if after is not None:
            asked |= {"KeyMarker": after[0], "UploadIdMarker": after[1]}
        answer = await self._calls.call("list_multipart_uploads", prefix, asked)
        check_bucket(prefix, answer.get("Bucket"))
        page = [
            open_upload(
                prefix,
                row.get("Key", ""),
                row.get("UploadId", ""),
                row.get("Initiated"),
                row.get("Initiator", {}).get("ID", ""),
            )
            for row in answer.get("Uploads", ())
        ]
        if not is_truncated(f"the listing of the open uploads of {prefix}", _told(answer)):
            return page, None
        following = answer.get("NextKeyMarker", ""), answer.get("NextUploadIdMarker", "")
        return page, going_on(prefix, following, after)

    async def copy_object(
        self,
        source: CopySource,
        target: S3Url,
        algorithm: ChecksumAlgorithm | None,
        *,
        keep_metadata: bool = True,
        keep_tags: bool = True,
        options: ObjectOptions = PLAIN,
    ) -> PutReceipt:
        headers = copy_headers(
            source, options.for_put(), keep_metadata=keep_metadata, keep_tags=keep_tags
        )
        asked = {"Key": target.key, "CopySource": _named(source), **parameters(headers)}
        if algorithm is not None:
            asked["ChecksumAlgorithm"] = algorithm.name.upper()
        answer = await self._calls.call("copy_object", target, asked)
        result = _said(answer, "CopyObjectResult", target)
        return PutReceipt(result.get("ETag", ""), checksum_in(result), answer.get("VersionId"))

    async def upload_part_copy(
        self,
        source: CopySource,
        target: S3Url,
        upload_id: UploadId,
        number: int,
        range: ByteRange,
        algorithm: ChecksumAlgorithm | None,
        *,
        options: ObjectOptions = PLAIN,
    ) -> PartReceipt:
        headers = part_copy_headers(source, range, options.for_part())
        asked = {
            "Key": target.key,
            "UploadId": upload_id,
            "PartNumber": number,
            "CopySource": _named(source),
            **parameters(headers),
        }
        answer = await self._calls.call("upload_part_copy", target, asked)
        result = _said(answer, "CopyPartResult", target)
        etag, checksum = result.get("ETag", ""), checksum_in(result)
        return copied_part(number, range, etag, checksum, algorithm)

    async def get_tags(self, url: S3Url, *, options: ObjectOptions = PLAIN) -> Mapping[str, str]:
        asked = {"Key": url.key, **parameters(options.for_bucket())}
        if options.version_id is not None:
            asked["VersionId"] = options.version_id
        answer = await self._calls.call("get_object_tagging", url, asked)
        return {tag["Key"]: tag["Value"] for tag in answer.get("TagSet", ())}

    async def delete_objects(
        self, urls: Sequence[S3Url], *, options: ObjectOptions = PLAIN
    ) -> None:
        assert len({url.bucket for url in urls}) <= 1
        common = parameters(options.for_bucket())
        # A key that XML cannot write goes alone, in a request of its own.
        for url in urls:
            if not is_writable(url.key):
                await self._calls.call("delete_object", url, {"Key": url.key, **common})
        rest = [url for url in urls if is_writable(url.key)]
        for start in range(0, len(rest), MAX_DELETE):
            page = rest[start : start + MAX_DELETE]
            named = {"Objects": [{"Key": url.key} for url in page], "Quiet": True}
            answer = await self._calls.call("delete_objects", page[0], {"Delete": named, **common})
            for refused in answer.get("Errors", ()):
                raise s3_error(
                    "delete objects",
                    S3Url(page[0].bucket, refused["Key"]),
                    code=refused.get("Code", ""),
                    status=200,
                    message=refused.get("Message", ""),
                )

    async def aclose(self) -> None:
        """Close all connections; calls under way fail."""
        await self._calls.aclose()


def _said(answer: Mapping[str, Any], field: str, url: S3Url) -> Any:
    """A field that S3 always says: botocore takes any XML, and leaves out what it cannot find.

    Raises:
        ProtocolError: It is not there: whatever answered was not S3.
    """
    if answer.get(field) in (None, ""):
        raise ProtocolError(f"an answer without {field} for {url}", fix="Check the endpoint")
    return answer[field]


def _told(answer: Mapping[str, Any]) -> dict[str, str]:
    """What a page says of itself, in the words of the document."""
    said = {name: str(answer[name]) for name in _OF_A_PAGE if name in answer}
    if "IsTruncated" in said:
        said["IsTruncated"] = said["IsTruncated"].lower()
    return said


def _listed_part(row: Mapping[str, Any], url: S3Url) -> ListedPart:
    checksum = checksum_in({**row, "ChecksumType": ""})
    return ListedPart(
        number=int(row["PartNumber"]),
        size=int(_said(row, "Size", url)),
        etag=_said(row, "ETag", url),
        checksum=checksum if checksum is not None and checksum.full_object else None,
    )


def _named(source: CopySource) -> dict[str, str]:
    """As a mapping: botocore would encode a text once more."""
    found = {"Bucket": source.url.bucket, "Key": source.url.key}
    if source.options.version_id is not None:
        found["VersionId"] = source.options.version_id
    return found


def _part_row(part: PartReceipt) -> dict[str, Any]:
    row: dict[str, Any] = {"PartNumber": part.number, "ETag": part.etag}
    if part.checksum is not None:
        row[checksum_field(part.checksum.algorithm)] = part.checksum.value
    return row
