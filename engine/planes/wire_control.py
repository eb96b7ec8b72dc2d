"""S3's control verbs over our own HTTP client: list, head, create, complete, abort, delete.

What lives here: one verb a method, its request and its answer. What must not: a second try
(``engine.retry``), bytes of objects (``wire.py``), how a copy is asked for (``wire_copies.py``).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import repeat
from typing import final

from engine._wire.documents import (
    Document,
    complete_document,
    delete_document,
    is_writable,
    read_document,
)
from engine._wire.listings import Listing, read_listing
from engine._wire.sigv4 import encode_query
from engine._wire.xml import parse_error
from engine.config import Endpoints
from engine.errors import BadListing, ProtocolError, S3Error
from engine.events import Emit, silent
from engine.options import PLAIN, ObjectOptions
from engine.planes.answers import checksum_in, object_info, stored_part
from engine.planes.copies import copy_headers, part_copy_headers
from engine.planes.errors import GONE, NO_CHECKSUM, s3_error
from engine.planes.exchange import CHECKSUM_MODE, Answer, Call, Exchanges, naming, version_query
from engine.planes.lease_rules import is_near_expiry
from engine.planes.pages import (
    check_bucket,
    check_count,
    check_keys,
    next_part,
    next_token,
    plain_keys,
)
from engine.planes.uploads import instant_in, listed_part, number_in, open_uploads
from engine.planes.wire import WirePlane
from engine.planes.wire_copies import WireCopies
from engine.protocols import (
    ChecksumAlgorithm,
    Clock,
    ControlPlane,
    CopySource,
    DataPlane,
    Lease,
)
from engine.threads import ThreadDoor
from engine.types import (
    ByteRange,
    Checksum,
    ListedPart,
    MiB,
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
# A page has at most 1,000 keys of 1,024 bytes, each up to three characters when encoded.
MAX_LISTING = 8 * MiB
# A page has at most 1,000 parts, each with its checksums: some 500 bytes.
MAX_PARTS_PAGE = 2 * MiB


@final
class WireControlPlane(ControlPlane):
    """S3's control verbs, on the connections of the data plane beside it.

    Args:
        beside: The data plane of the same engine: its connections are shared where it has ours.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        lease: Lease,
        *,
        clock: Clock,
        threads: ThreadDoor,
        user_agent: str,
        emit: Emit = silent,
        beside: DataPlane | None = None,
    ) -> None:
        if isinstance(beside, WirePlane):
            self._exchanges = beside.exchanges
        else:
            self._exchanges = Exchanges(
                endpoints, lease, clock=clock, threads=threads, user_agent=user_agent, emit=emit
            )
        self._complete_seconds = endpoints.timeouts.complete
        self._copies = WireCopies(self._exchanges, self._read_late, self._complete_seconds)

    async def head_object(
        self, url: S3Url, *, options: ObjectOptions = PLAIN, checksum: bool = True
    ) -> ObjectInfo:
        """https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html"""
        call = self._exchanges.call("head object", url, "HEAD", version_query(options))
        call.signed = {**(CHECKSUM_MODE if checksum else {}), **options.for_part()}
        try:
            answer = await self._exchanges.small(call)
        except S3Error as error:
            if error.again or error.s3_code not in ("400", "404"):
                raise
            raise await self._behind_bare(call, error, options) from None
        with naming(call):
            length = answer.headers.get("content-length", "")
            if not (length.isascii() and length.isdigit()):
                raise ProtocolError(f"an answer without a length for {url}")
            return object_info(url, answer.headers, int(length))

    async def head_part(
        self, url: S3Url, number: int, *, etag: str, options: ObjectOptions = PLAIN
    ) -> StoredPart | None:
        """https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html, ``partNumber``"""
        query = [("partNumber", str(number))]
        if options.version_id is not None:
            query.append(("versionId", options.version_id))
        call = self._exchanges.call("head part", url, "HEAD", encode_query(query))
        call.signed = {**CHECKSUM_MODE, **options.for_part()}
        call.plain = {"if-match": etag}
        answer = await self._exchanges.small(call)
        return stored_part(number, answer.headers)

    async def _behind_bare(self, call: Call, bare: S3Error, options: ObjectOptions) -> Exception:
        """An answer to HEAD has no body, and so no code: near the end of the lease a 400 means
        "expired"; else the same is asked by GET, whose error has one."""
        held = call.credentials
        lease = self._exchanges.lease
        if bare.status == 400 and held is not None and is_near_expiry(lease, held):
            error = s3_error(call.operation, call.url, code="ExpiredToken", status=400)
            return await self._exchanges.judged(call, error, {})
        probe = self._exchanges.call("head object", call.url, "GET", version_query(options))
        probe.signed = options.for_part()
        probe.plain = {"range": "bytes=0-0"}
        try:
            await self._exchanges.small(probe)
        except S3Error as error:
            return error
        except ProtocolError:
            pass  # the whole object from a store that knows no ranges: it is there now
        if bare.status == 400 and CHECKSUM_MODE.keys() <= call.signed.keys():
            bare.fix = NO_CHECKSUM  # the probe did not ask for one
        return bare

    async def list_page(
        self, prefix: S3Url, token: str | None, *, options: ObjectOptions = PLAIN
    ) -> tuple[Sequence[ObjectInfo], str | None]:
        """https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html"""
        query = [("encoding-type", "url"), ("list-type", "2"), ("prefix", prefix.key)]
        if token is not None:
            query.append(("continuation-token", token))
        bucket = S3Url(prefix.bucket)
        call = self._exchanges.call("list objects", bucket, "GET", encode_query(query))
        call.signed = options.for_bucket()
        answer = await self._exchanges.small(call, limit=MAX_LISTING)
        with naming(call), _of_its_kind("ListBucketResult"):
            listing = read_listing(answer.body)
        if listing.root == "Error":
            await self._read_late(call, answer, "ListBucketResult")
        with naming(call), _of_its_kind("ListBucketResult"):
            check_root(call, listing.root, "ListBucketResult")
            return _page(prefix, listing), next_token(prefix, listing.values)

    async def create_multipart_upload(
        self, url: S3Url, algorithm: ChecksumAlgorithm | None, *, options: ObjectOptions = PLAIN
    ) -> UploadId:
        """https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateMultipartUpload.html"""
        call = self._exchanges.call("create multipart upload", url, "POST", "uploads=")
        call.body = b""
        call.signed = options.for_create()
        if algorithm is not None:
            call.signed |= {
                "x-amz-checksum-algorithm": algorithm.name.upper(),
                "x-amz-checksum-type": "FULL_OBJECT",
            }
        # Sent twice behind the caller's back it would leave an upload that nobody has heard of.
        answer = await self._exchanges.small(call, repeatable=False)
        document = await self._read_late(call, answer, "InitiateMultipartUploadResult")
        upload_id = document.values.get("UploadId", "")
        with naming(call):
            if not upload_id:
                raise ProtocolError("an answer without an upload id")
            return UploadId(upload_id)

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
        """https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html

        S3 may answer 200 and an error behind it, and sends blanks while it works, for minutes.
        """
        query = encode_query([("uploadId", upload_id)])
        call = self._exchanges.call("complete multipart upload", url, "POST", query)
        name = checksum.algorithm if checksum is not None else ""
        rows = [(part.number, part.etag, _value_of(part)) for part in parts]
        call.body = complete_document(rows, f"Checksum{name.upper()}" if name else "")
        call.signed = {"content-type": "application/xml", **options.for_complete()}
        if checksum is not None:
            call.signed |= {
                "x-amz-mp-object-size": str(size),
                f"x-amz-checksum-{name}": checksum.value,
                "x-amz-checksum-type": "FULL_OBJECT",
            }
        answer = await self._exchanges.small(
            call, repeatable=False, patience=self._complete_seconds
        )
        document = await self._read_late(call, answer, "CompleteMultipartUploadResult")
        return PutReceipt(
            document.values.get("ETag", ""),
            checksum_in(document.values),
            answer.headers.get("x-amz-version-id"),
        )

    async def abort_multipart_upload(
        self, url: S3Url, upload_id: UploadId, *, options: ObjectOptions = PLAIN
    ) -> None:
        """https://docs.aws.amazon.com/AmazonS3/latest/API/API_AbortMultipartUpload.html"""
        query = encode_query([("uploadId", upload_id)])
        call = self._exchanges.call("abort multipart upload", url, "DELETE", query)
        call.signed = options.for_bucket()
        _check_gone(call, await self._exchanges.small(call))

    async def list_parts(
        self, url: S3Url, upload_id: UploadId, *, options: ObjectOptions = PLAIN
    ) -> Sequence[ListedPart] | None:
        """https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListParts.html"""
        parts: list[ListedPart] = []
        marker = 0
        while True:
            query = [("part-number-marker", str(marker)), ("uploadId", upload_id)]
            call = self._exchanges.call("list parts", url, "GET", encode_query(query))
            call.signed = options.for_part()
            try:
                answer = await self._exchanges.small(call, limit=MAX_PARTS_PAGE)
            except S3Error as error:
                if error.s3_code in GONE:
                    return None
                raise
            document = await self._read_late(call, answer, "ListPartsResult", "Part")
            with naming(call), _of_its_kind("ListPartsResult"):
                page = [*map(listed_part, document.rows)]
            numbers = [part.number for part in page]
            parts += page
            marker = next_part(f"the list of the parts of {url}", document.values, numbers, marker)
            if not marker:
                return parts

    async def list_uploads(
        self,
        prefix: S3Url,
        after: tuple[str, str] | None = None,
        *,
        options: ObjectOptions = PLAIN,
    ) -> tuple[Sequence[OpenUpload], tuple[str, str] | None]:
        """https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html"""
        query = [("prefix", prefix.key), ("uploads", "")]
        if not prefix.key.isprintable():
            # XML holds all other keys as they are; and Ceph does not say that it has encoded them.
            query.insert(0, ("encoding-type", "url"))
        if after is not None:
            query += [("key-marker", after[0]), ("upload-id-marker", after[1])]
        call = self._exchanges.call(
            "list multipart uploads", S3Url(prefix.bucket), "GET", encode_query(query)
        )
        call.signed = options.for_bucket()
        answer = await self._exchanges.small(call, limit=MAX_LISTING)
        document = await self._read_late(call, answer, "ListMultipartUploadsResult", "Upload")
        return open_uploads(prefix, document, after)

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
        """https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html"""
        asked = copy_headers(
            source, options.for_put(), keep_metadata=keep_metadata, keep_tags=keep_tags
        )
        return await self._copies.copy_object(target, asked, algorithm)

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
        """https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html"""
        asked = part_copy_headers(source, range, options.for_part())
        return await self._copies.upload_part_copy(
            target, upload_id, number, range, asked, algorithm
        )

    async def get_tags(self, url: S3Url, *, options: ObjectOptions = PLAIN) -> Mapping[str, str]:
        """https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectTagging.html"""
        return await self._copies.get_tags(url, options)

    async def delete_objects(
        self, urls: Sequence[S3Url], *, options: ObjectOptions = PLAIN
    ) -> None:
        """https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html"""
        assert len({url.bucket for url in urls}) <= 1
        # A key that XML cannot write goes alone, in a request of its own.
        for url in urls:
            if not is_writable(url.key):
                call = self._exchanges.call("delete object", url, "DELETE")
                call.signed = options.for_bucket()
                _check_gone(call, await self._exchanges.small(call))
        rest = [url for url in urls if is_writable(url.key)]
        for start in range(0, len(rest), MAX_DELETE):
            await self._delete_page(rest[start : start + MAX_DELETE], options)

    async def _delete_page(self, urls: Sequence[S3Url], options: ObjectOptions) -> None:
        bucket = S3Url(urls[0].bucket)
        call = self._exchanges.call("delete objects", bucket, "POST", "delete=")
        call.body = delete_document(url.key for url in urls)
        digest = hashlib.md5(call.body, usedforsecurity=False).digest()
        call.signed = {
            "content-type": "application/xml",
            # S3 insists on a sum; this is the one that every store knows.
            "content-md5": base64.b64encode(digest).decode(),
            **options.for_bucket(),
        }
        answer = await self._exchanges.small(call, limit=MAX_LISTING)
        document = await self._read_late(call, answer, "DeleteResult", "Error")
        for refused in document.rows:
            error = s3_error(
                "delete objects",
                S3Url(bucket.bucket, refused.get("Key", "")),
                code=refused.get("Code") or "Unknown",
                status=200,
                message=refused.get("Message", ""),
            )
            raise await self._exchanges.judged(call, error, answer.headers)

    async def _read_late(self, call: Call, answer: Answer, root: str, row: str = "") -> Document:
        """The document of an answer, which may be an error behind a 200."""
        with naming(call), _of_its_kind(root):
            document = read_document(answer.body.lstrip(), row)
            if document.root != "Error":
                check_root(call, document.root, root)
                return document
            said = parse_error(answer.body.lstrip())
        error = s3_error(
            call.operation,
            call.url,
            code=said.code or "Unknown",
            status=answer.status,
            message=said.message,
            request_id=answer.headers.get("x-amz-request-id", said.request_id),
            headers=answer.headers,
        )
        raise await self._exchanges.judged(call, error, answer.headers)

    async def aclose(self) -> None:
        """Close all connections; requests under way fail."""
        await self._exchanges.aclose()

    def __repr__(self) -> str:
        return f"<WireControlPlane {self._exchanges!r}>"


@contextmanager
def _of_its_kind(root: str) -> Iterator[None]:
    """What is wrong with a page is wrong with a listing."""
    try:
        yield
    except ProtocolError as error:
        if isinstance(error, BadListing) or not root.startswith("List"):
            raise
        raise BadListing(error.headline) from None


def _check_gone(call: Call, answer: Answer) -> None:
    """Whether an answer says that something is gone: S3 says 204, and some stores 200 and nothing.

    Raises:
        ProtocolError: It says something else.
    """
    if answer.body.strip():
        with naming(call):
            raise ProtocolError("an answer with a document, where S3 says nothing")


def check_root(call: Call, found: str, root: str) -> None:
    """Raises ProtocolError for an answer to another question.

    Some stores name the root by the operation (ListPartsResponse): its fields decide.
    """
    if found not in (root, root.replace("Result", "Response")):
        raise ProtocolError(
            f"{call.operation} of {call.url} was answered with <{found[:60]}>",
            fix="Check the endpoint",
        )


def _page(prefix: S3Url, listing: Listing) -> list[ObjectInfo]:
    """The objects of a page, column by column: this is the hot path of a listing."""
    check_bucket(prefix, listing.values.get("Name"))
    keys = listing.keys
    check_count(prefix, listing.values.get("KeyCount"), len(keys))
    if listing.values.get("EncodingType") == "url":
        keys = plain_keys(prefix, keys)
    check_keys(prefix, keys)
    digits = "".join(listing.sizes)
    numbers = digits.isdecimal() and digits.isascii() and "" not in listing.sizes
    modified: list[datetime | None]
    try:
        modified = [*map(datetime.fromisoformat, listing.modified)]
    except ValueError:
        modified = [*map(instant_in, listing.modified)]
    none: repeat[None] = repeat(None)
    return [
        *map(
            ObjectInfo,
            map(S3Url, repeat(prefix.bucket), keys),
            map(int if numbers else number_in, listing.sizes),
            listing.etags,
            none,
            modified,
            none,
            # Each its own: whoever has an object may keep it, change it, send it elsewhere.
            [{} for _ in keys],
            [{} for _ in keys],
            [name or None for name in listing.classes],
        )
    ]


def _value_of(part: PartReceipt) -> str:
    return part.checksum.value if part.checksum is not None else ""
