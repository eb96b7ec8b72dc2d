"""Open uploads and their parts, as listings tell them. PURE.

What lives here: rows of an answer as our values, and the checks that a listing is one, for both
planes. What must not: how they are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from urllib.parse import unquote_plus

from engine._wire.documents import Document
from engine.errors import BadListing, ProtocolError
from engine.planes.answers import checksum_in
from engine.planes.pages import check_bucket, is_truncated
from engine.types import ListedPart, OpenUpload, S3Url, UploadId


def listed_part(row: Mapping[str, str]) -> ListedPart:
    """One part of ListParts. Raises ProtocolError: a number or an ETag is missing."""
    etag = row.get("ETag", "")
    if not etag.strip('"'):
        raise ProtocolError("a listed part without an ETag", fix="Check the endpoint")
    # A checksum of a part is that of its bytes, whatever the type of the object's.
    checksum = checksum_in({name: value for name, value in row.items() if name != "ChecksumType"})
    return ListedPart(
        number=number_in(row.get("PartNumber", "")),
        size=number_in(row.get("Size", "")),
        etag=etag,
        checksum=checksum if checksum is not None and checksum.full_object else None,
    )


def open_uploads(
    prefix: S3Url, document: Document, after: tuple[str, str] | None
) -> tuple[Sequence[OpenUpload], tuple[str, str] | None]:
    """A page of ListMultipartUploads, and what the next one comes after.

    Raises:
        BadListing: An upload that was not asked for, or has no id; or no way to go on.
    """
    check_bucket(prefix, document.values.get("Bucket"))
    encoded = document.values.get("EncodingType") == "url"

    def plain(text: str) -> str:
        return unquote_plus(text) if encoded else text

    page = [
        open_upload(
            prefix,
            plain(row.get("Key", "")),
            row.get("UploadId", ""),
            instant_in(row.get("Initiated", "")),
            row.get("Initiator/ID", ""),
        )
        for row in document.rows
    ]
    if not is_truncated(f"the listing of the open uploads of {prefix}", document.values):
        return page, None
    values = document.values
    following = plain(values.get("NextKeyMarker", "")), values.get("NextUploadIdMarker", "")
    return page, going_on(prefix, following, after)


def open_upload(
    prefix: S3Url, key: str, upload_id: str, initiated: datetime | None, initiator: str
) -> OpenUpload:
    """One open upload. Raises BadListing: it was not asked for, or has no id."""
    if not key or not key.startswith(prefix.key) or not upload_id:
        raise BadListing(
            f"asked for the open uploads of {prefix}, got {key[:60]!r} {upload_id[:60]!r}",
            fix="Check the endpoint",
        )
    return OpenUpload(S3Url(prefix.bucket, key), UploadId(upload_id), initiated, initiator)


def going_on(
    prefix: S3Url, following: tuple[str, str], after: tuple[str, str] | None
) -> tuple[str, str]:
    """``following``, where the listing goes on by it. Raises BadListing: it does not."""
    if not following[0] or following == after:
        raise BadListing(f"the listing of the open uploads of {prefix} does not go on")
    return following


def number_in(text: str) -> int:
    """A number. Raises ProtocolError: something else."""
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ProtocolError(f"not a number in an answer of S3: {text[:40]!r}")
    return int(text)


def instant_in(text: str) -> datetime | None:
    """A date; None where it is missing or unreadable."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
