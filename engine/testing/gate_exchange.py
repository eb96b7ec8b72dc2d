"""One request on its way through the gate: what it asks, who asks, how it ends.

What lives here: S3's names for operations and the record that becomes a log entry. What must
not: sending or receiving anything.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import unquote, unquote_plus

from aiohttp import web

from engine.testing.faults import Fault, FaultKind
from engine.testing.gate_iam import KeyRecord
from engine.testing.gate_log import LoggedRequest, kept_headers

# (method, sub-resource in the query) -> operation, for objects and for buckets. The empty
# sub-resource is the plain request.
_OBJECT = {
    ("GET", "uploadId"): "ListParts",
    ("PUT", "uploadId"): "UploadPart",
    ("POST", "uploadId"): "CompleteMultipartUpload",
    ("DELETE", "uploadId"): "AbortMultipartUpload",
    ("POST", "uploads"): "CreateMultipartUpload",
    ("GET", "tagging"): "GetObjectTagging",
    ("PUT", "tagging"): "PutObjectTagging",
    ("DELETE", "tagging"): "DeleteObjectTagging",
    ("GET", "acl"): "GetObjectAcl",
    ("PUT", "acl"): "PutObjectAcl",
    ("GET", "attributes"): "GetObjectAttributes",
    ("POST", "restore"): "RestoreObject",
    ("POST", "select"): "SelectObjectContent",
    ("GET", ""): "GetObject",
    ("HEAD", ""): "HeadObject",
    ("PUT", ""): "PutObject",
    ("DELETE", ""): "DeleteObject",
}
_BUCKET = {
    ("GET", "uploads"): "ListMultipartUploads",
    ("GET", "versions"): "ListObjectVersions",
    ("GET", "location"): "GetBucketLocation",
    ("GET", "versioning"): "GetBucketVersioning",
    ("PUT", "versioning"): "PutBucketVersioning",
    ("GET", "list-type"): "ListObjectsV2",
    ("GET", "lifecycle"): "GetBucketLifecycleConfiguration",
    ("PUT", "lifecycle"): "PutBucketLifecycleConfiguration",
    ("GET", "encryption"): "GetBucketEncryption",
    ("GET", "policy"): "GetBucketPolicy",
    ("PUT", "policy"): "PutBucketPolicy",
    ("POST", "delete"): "DeleteObjects",
    ("GET", ""): "ListObjects",
    ("HEAD", ""): "HeadBucket",
    ("PUT", ""): "CreateBucket",
    ("DELETE", ""): "DeleteBucket",
}
# Operation -> the IAM action that it needs, where the names differ.
_IAM_ACTION = {
    "UploadPart": "PutObject",
    "CreateMultipartUpload": "PutObject",
    "CompleteMultipartUpload": "PutObject",
    "CopyObject": "PutObject",
    "UploadPartCopy": "PutObject",
    "HeadObject": "GetObject",
    "DeleteObjects": "DeleteObject",
    "ListObjects": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "HeadBucket": "ListBucket",
    "ListParts": "ListMultipartUploadParts",
    "ListMultipartUploads": "ListBucketMultipartUploads",
    "ListObjectVersions": "ListBucketVersions",
    "ListBuckets": "ListAllMyBuckets",
}


@dataclass(slots=True)
class Exchange:
    """What is known of one request so far."""

    request: web.BaseRequest
    at: datetime
    number: int
    action: str = ""
    bucket: str = ""
    key: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    record: KeyRecord | None = None
    access_key_id: str = ""
    status: int = 0
    error_code: str = ""
    faults: tuple[Fault, ...] = ()
    bytes_in: int = 0
    bytes_out: int = 0
    request_id: str = field(default_factory=lambda: secrets.token_hex(8).upper())
    new_upload_id: str = ""
    parameters: Mapping[str, str] | None = None
    issued_key_id: str = ""

    @property
    def upload_id(self) -> str:
        """The upload that the request is about, or has just made."""
        return self.params.get("uploadId", self.new_upload_id)

    @property
    def part_number(self) -> int | None:
        """The part number in the query, if it is a number."""
        text = self.params.get("partNumber", "")
        return int(text) if text.isdecimal() else None

    @property
    def iam_action(self) -> str:
        """The permission that the operation needs (``s3:PutObject``)."""
        return f"s3:{_IAM_ACTION.get(self.action, self.action)}"

    @property
    def resource(self) -> str:
        """``bucket`` or ``bucket/key``."""
        return f"{self.bucket}/{self.key}" if self.key else self.bucket

    def fault(self, *kinds: FaultKind) -> Fault | None:
        """The first fault of one of these kinds that this request meets."""
        return next((fault for fault in self.faults if fault.kind in kinds), None)

    def name_s3(self) -> None:
        """Read bucket, key, query and operation from the request line."""
        raw_path, _, raw_query = self.request.raw_path.partition("?")
        bucket, _, key = raw_path.removeprefix("/").partition("/")
        self.bucket = unquote(bucket)
        # Bytes that are no UTF-8 stay visible in the log instead of failing the request here.
        self.key = unquote(key, errors="backslashreplace")
        pairs = (item.partition("=") for item in raw_query.split("&") if item)
        self.params = {unquote_plus(name): unquote_plus(value) for name, _, value in pairs}
        self.action = self._operation()

    def _operation(self) -> str:
        if not self.bucket:
            return "ListBuckets"
        method, table = self.request.method, _OBJECT if self.key else _BUCKET
        sub = next((name for name in self.params if (method, name) in table and name), "")
        action = table.get((method, sub), "Unknown")
        if "X-Amz-Copy-Source" in self.request.headers:
            return {"PutObject": "CopyObject", "UploadPart": "UploadPartCopy"}.get(action, action)
        return action

    def entry(self) -> LoggedRequest:
        """The log entry as of now."""
        return LoggedRequest(
            at=self.at,
            method=self.request.method,
            action=self.action,
            bucket=self.bucket,
            key=self.key,
            query="" if self.record is None else self.request.raw_path.partition("?")[2],
            headers=kept_headers(self.request.headers.items()),
            access_key_id=self.access_key_id,
            principal=self.record.principal.arn if self.record else "",
            upload_id=self.upload_id,
            part_number=self.part_number,
            status=self.status,
            error_code=self.error_code,
            fault=",".join(fault.kind for fault in self.faults),
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            service="s3" if self.parameters is None else "sts",
            expires_at=self.record.told_until if self.record else None,
            issued_key_id=self.issued_key_id,
            parameters=self.parameters or {},
        )
