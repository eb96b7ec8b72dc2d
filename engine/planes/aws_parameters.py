"""Header fields of S3's requests as the parameters that botocore names them by. PURE.

What lives here: one table. What must not: which request takes which field (``engine.options``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.errors import UsageError
from engine.types import Checksum

_META = "x-amz-meta-"
# Not by this table: as text botocore would encode it once more.
_COPY_SOURCE = "x-amz-copy-source"
_SSE = "x-amz-server-side-encryption"
_SOURCE_KEY = "x-amz-copy-source-server-side-encryption-customer-"
_PARAMETERS = {
    "cache-control": "CacheControl",
    "content-disposition": "ContentDisposition",
    "content-encoding": "ContentEncoding",
    "content-language": "ContentLanguage",
    "content-type": "ContentType",
    "expires": "Expires",
    "if-match": "IfMatch",
    "if-none-match": "IfNoneMatch",
    "x-amz-copy-source-if-match": "CopySourceIfMatch",
    "x-amz-copy-source-range": "CopySourceRange",
    "x-amz-expected-bucket-owner": "ExpectedBucketOwner",
    "x-amz-metadata-directive": "MetadataDirective",
    "x-amz-request-payer": "RequestPayer",
    "x-amz-source-expected-bucket-owner": "ExpectedSourceBucketOwner",
    "x-amz-storage-class": "StorageClass",
    "x-amz-tagging": "Tagging",
    "x-amz-tagging-directive": "TaggingDirective",
    _SSE: "ServerSideEncryption",
    f"{_SSE}-aws-kms-key-id": "SSEKMSKeyId",
    f"{_SSE}-bucket-key-enabled": "BucketKeyEnabled",
    f"{_SSE}-context": "SSEKMSEncryptionContext",
    f"{_SSE}-customer-algorithm": "SSECustomerAlgorithm",
    f"{_SSE}-customer-key": "SSECustomerKey",
    f"{_SSE}-customer-key-md5": "SSECustomerKeyMD5",
    f"{_SOURCE_KEY}algorithm": "CopySourceSSECustomerAlgorithm",
    f"{_SOURCE_KEY}key": "CopySourceSSECustomerKey",
    f"{_SOURCE_KEY}key-md5": "CopySourceSSECustomerKeyMD5",
}
_CHECKSUM_FIELDS = {
    "crc64nvme": "ChecksumCRC64NVME",
    "crc32c": "ChecksumCRC32C",
    "crc32": "ChecksumCRC32",
    "sha256": "ChecksumSHA256",
    "sha1": "ChecksumSHA1",
}


def parameters(headers: Mapping[str, str]) -> dict[str, Any]:
    """What ``ObjectOptions`` says in header fields, as parameters of botocore's calls.

    Raises:
        UsageError: A field that this table does not have.
    """
    found: dict[str, Any] = {}
    metadata = {name[len(_META) :]: v for name, v in headers.items() if name.startswith(_META)}
    if metadata:
        found["Metadata"] = metadata
    for name, value in headers.items():
        if name.startswith(_META) or name == _COPY_SOURCE:
            continue
        parameter = _PARAMETERS.get(name)
        if parameter is None:
            raise UsageError(
                f"the data plane 'aws' cannot send the header {name}", fix="Use the plane 'wire'"
            )
        found[parameter] = value == "true" if parameter == "BucketKeyEnabled" else value
    return found


def checksum_field(algorithm: str) -> str:
    """The parameter, and the field of answers, of a checksum by our name (``crc64nvme``)."""
    return _CHECKSUM_FIELDS[algorithm]


def checksum_in(answer: Mapping[str, Any]) -> Checksum | None:
    """The checksum that a parsed answer holds, if it holds one; the first of ours."""
    for name, field in _CHECKSUM_FIELDS.items():
        value = answer.get(field)
        if value:
            composite = answer.get("ChecksumType") == "COMPOSITE" or "-" in value
            return Checksum(name, value, full_object=not composite)
    return None
