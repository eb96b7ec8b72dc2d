"""How a copy within S3 is asked for, and what the answer says of a part. PURE.

What lives here: header fields of CopyObject and UploadPartCopy, for both planes. What must not:
what is to be kept and what replaced (``transfer.copy``), requests.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

from engine._wire.sigv4 import encode_path, encode_query
from engine.errors import ProtocolError
from engine.protocols import ChecksumAlgorithm, CopySource
from engine.types import ByteRange, Checksum, PartReceipt

# What x-amz-metadata-directive speaks of, beside x-amz-meta-*. The storage class, encryption and
# a website's redirect are not kept by either directive.
METADATA_FIELDS = frozenset(
    {
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-type",
        "expires",
    }
)
_META = "x-amz-meta-"
_TAGGING = "x-amz-tagging"


def copy_headers(
    source: CopySource, stored: Mapping[str, str], *, keep_metadata: bool, keep_tags: bool
) -> dict[str, str]:
    """Fields of CopyObject.

    Args:
        stored: What the target is stored with, and the fields of every request.
    """
    found = dict(stored)
    if keep_metadata:
        found = {
            k: v for k, v in found.items() if k not in METADATA_FIELDS and not k.startswith(_META)
        }
    if keep_tags:
        found.pop(_TAGGING, None)
    else:
        found.setdefault(_TAGGING, "")
    return {
        **found,
        **_source_headers(source),
        "x-amz-metadata-directive": "COPY" if keep_metadata else "REPLACE",
        "x-amz-tagging-directive": "COPY" if keep_tags else "REPLACE",
    }


def part_copy_headers(
    source: CopySource, range: ByteRange, stored: Mapping[str, str]
) -> dict[str, str]:
    """Fields of UploadPartCopy. ``stored`` as in ``copy_headers``."""
    return {**stored, **_source_headers(source), "x-amz-copy-source-range": range.header}


def copy_source_field(source: CopySource) -> str:
    """x-amz-copy-source: bucket and key, encoded once, and the version.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
    """
    text = f"{source.url.bucket}/{encode_path(source.url.key)}"
    version = source.options.version_id
    return text if version is None else f"{text}?{encode_query([('versionId', version)])}"


def copied_part(
    number: int,
    range: ByteRange,
    etag: str,
    checksum: Checksum | None,
    algorithm: ChecksumAlgorithm | None,
) -> PartReceipt:
    """The receipt of a part whose bytes nobody saw here: the store's word for its checksum."""
    crc = None
    if checksum is not None and algorithm is not None and checksum.algorithm == algorithm.name:
        try:
            crc = int.from_bytes(base64.b64decode(checksum.value, validate=True), "big")
        except binascii.Error:
            raise ProtocolError(f"not a checksum: {checksum.value[:40]!r}") from None
    else:
        checksum = None  # of another kind: it cannot be combined with the others
    return PartReceipt(
        number=number, offset=range.start, size=range.length, etag=etag, checksum=checksum, crc=crc
    )


def _source_headers(source: CopySource) -> dict[str, str]:
    found = {"x-amz-copy-source": copy_source_field(source)}
    if source.etag is not None:
        found["x-amz-copy-source-if-match"] = source.etag
    options = source.options
    if options.customer_key is not None:
        found.update(options.customer_key.headers(of_copy_source=True))
    if options.expected_bucket_owner is not None:
        found["x-amz-source-expected-bucket-owner"] = options.expected_bucket_owner
    if options.requester_pays:
        found["x-amz-request-payer"] = "requester"
    return found
