"""Heads of S3's answers as our values, and the checks that an answer is the one asked for. PURE.

What lives here: facts out of header fields and error documents. What must not: sockets, the table
of S3's codes (``planes.errors``), other planes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from urllib.parse import urlsplit

from engine._wire.http11 import ResponseHead
from engine._wire.partitions import region_in_host
from engine._wire.xml import ErrorDocument, parse_error
from engine.clock import http_date
from engine.errors import (
    ChecksumMismatch,
    EngineError,
    ObjectChanged,
    ProtocolError,
    RedirectRefused,
)
from engine.planes.errors import s3_error
from engine.protocols import ChecksumAlgorithm
from engine.types import ByteRange, Checksum, ObjectInfo, S3Url, StoredPart

# In the order of preference: the first that an answer has is the object's checksum.
_ALGORITHMS = ("crc64nvme", "crc32c", "crc32", "sha256", "sha1")
_FIELDS = tuple((name, f"x-amz-checksum-{name}") for name in _ALGORITHMS)
_META = "x-amz-meta-"
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")
_NUMBER = re.compile(r"[0-9]{1,18}")
_COMPOSITE_SUFFIX = re.compile(r"-[0-9]{1,5}$")


def checksum_of(headers: Mapping[str, str]) -> Checksum | None:
    """The checksum that S3 keeps of the object, if it says one.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
    """
    for algorithm, name in _FIELDS:
        value = headers.get(name)
        if value:
            kind = headers.get("x-amz-checksum-type", "").upper()
            composite = kind == "COMPOSITE" or _COMPOSITE_SUFFIX.search(value) is not None
            return Checksum(algorithm, value, full_object=not composite)
    return None


def checksum_in(values: Mapping[str, str]) -> Checksum | None:
    """The checksum in a document (``ChecksumCRC64NVME``), by the rules for the one in a head."""
    return checksum_of(dict(_as_headers(values)))


def _as_headers(values: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if name == "ChecksumType":
            yield "x-amz-checksum-type", value
        elif name.startswith("Checksum"):
            yield f"x-amz-checksum-{name[len('Checksum') :].lower()}", value


def object_info(url: S3Url, headers: Mapping[str, str], size: int) -> ObjectInfo:
    """What the head of a GET says of the object.

    Args:
        size: Of the whole object, in bytes.

    Raises:
        ProtocolError: No ETag.
    """
    return ObjectInfo(
        url=url,
        size=size,
        etag=etag_of(url, headers),
        checksum=checksum_of(headers),
        last_modified=date_of(headers, "last-modified"),
        version_id=headers.get("x-amz-version-id"),
        metadata={k[len(_META) :]: v for k, v in headers.items() if k.startswith(_META)},
        headers=headers,
        storage_class=headers.get("x-amz-storage-class"),
    )


def stored_part(number: int, headers: Mapping[str, str]) -> StoredPart | None:
    """The part that a HEAD was answered with; None where the store does not tell parts.

    A checksum of a part has no ``-N`` behind it, whatever the type of the object's.
    """
    count = headers.get("x-amz-mp-parts-count", "")
    size = headers.get("content-length", "")
    if not (_NUMBER.fullmatch(count) and _NUMBER.fullmatch(size)) or number > int(count):
        return None
    checksum = checksum_of({k: v for k, v in headers.items() if k != "x-amz-checksum-type"})
    if checksum is not None and not checksum.full_object:
        checksum = None
    return StoredPart(number, int(size), int(count), checksum)


def etag_of(url: S3Url, headers: Mapping[str, str]) -> str:
    """The ETag as S3 writes it, with its quotes.

    Raises:
        ProtocolError: There is none: whatever answered was not S3.
    """
    etag = headers.get("etag", "")
    if not etag.strip('"'):
        raise ProtocolError(f"an answer without an ETag for {url}", fix="Check the endpoint")
    return etag


def check_etag(url: S3Url, pinned: str | None, headers: Mapping[str, str]) -> None:
    """Refuse bytes of another version of the object.

    Raises:
        ObjectChanged: The ETag is not the pinned one, although If-Match was sent.
    """
    if pinned is None or etag_of(url, headers).strip('"') == pinned.strip('"'):
        return
    raise ObjectChanged(
        f"{url} was overwritten while it was read", s3_code="PreconditionFailed", status=200
    )


def date_of(headers: Mapping[str, str], name: str) -> datetime | None:
    """The aware date of a field, or None where it is missing or unreadable."""
    return http_date(headers.get(name))


def check_span(
    url: S3Url, status: int, headers: Mapping[str, str], asked: ByteRange | None
) -> tuple[int, int]:
    """Whether the answer holds exactly the bytes that were asked for.

    Returns:
        The length of the body and the size of the whole object, in bytes.

    Raises:
        ProtocolError: Another range, no range, a length that does not fit, or no length.
    """
    text = headers.get("content-length", "")
    length = int(text) if text.isascii() and text.isdigit() else None
    if length is None:
        raise ProtocolError(f"an answer without a length for {url}")
    if status == 200 and (asked is None or (asked.start == 0 and length == asked.stop)):
        return length, length
    span = headers.get("content-range", "")
    if asked is None or status != 206:
        wanted = asked.header if asked else "the whole object"
        raise ProtocolError(f"asked {url} for {wanted}, got status {status} and {length} bytes")
    match = _CONTENT_RANGE.fullmatch(span)
    if match is None:
        raise ProtocolError(f"not a Content-Range for {url}: {span[:60]!r}")
    first, last, total = int(match[1]), int(match[2]), int(match[3])
    if (first, last + 1) != (asked.start, asked.stop) or total < asked.stop:
        raise ProtocolError(f"asked {url} for {asked.header}, got {span}")
    if length != asked.length:
        raise ProtocolError(f"asked {url} for {asked.length} bytes, got {length}")
    return length, total


def check_echo(
    what: str, headers: Mapping[str, str], algorithm: ChecksumAlgorithm, sent: Checksum | None
) -> bool:
    """Whether the store says back the checksum that was sent; False where it says none.

    Raises:
        ChecksumMismatch: It says another one.
    """
    echoed = headers.get(algorithm.header)
    if echoed is None or sent is None:
        return False
    if echoed != sent.value:
        raise ChecksumMismatch(
            f"{what}: the store computed another {algorithm.name} than we sent",
            sent=sent.value,
            stored=echoed[:100],
        )
    return True


def refusal(
    operation: str, url: S3Url, head: ResponseHead, body: bytes, now: datetime
) -> EngineError:
    """The error for an answer that is not the success that was asked for.

    Args:
        body: The error document, as far as it was read.
        now: Our wall clock.
    """
    if head.status < 300:
        return ProtocolError(f"{operation} of {url} was answered with {head.status}")
    try:
        document = parse_error(body)
    except ProtocolError:
        document = ErrorDocument()  # HTML of a proxy, or nothing at all
    headers = dict(head.headers)
    region = document.facts.get("region") or _region_of(headers.get("location", ""))
    if region:
        headers.setdefault("x-amz-bucket-region", region)
    if "storage_class" in document.facts:
        headers.setdefault("x-amz-storage-class", document.facts["storage_class"])
    error = s3_error(
        operation,
        url,
        code=document.code or str(head.status),
        status=head.status,
        message=document.message,
        request_id=headers.get("x-amz-request-id", document.request_id),
        headers=headers,
        now=now,
    )
    if isinstance(error, RedirectRefused) and "location" in headers:
        host = _host(headers["location"])
        return RedirectRefused(error.headline, fix=error.fix, redirected_to=host)
    return error


def _region_of(location: str) -> str | None:
    """A region, and nothing else, is what a redirect can tell us."""
    return region_in_host(_host(location))


def _host(location: str) -> str:
    """The host alone: a location may carry a signature in its query."""
    try:
        return (urlsplit(location).hostname or "")[:255]
    except ValueError:
        return ""
