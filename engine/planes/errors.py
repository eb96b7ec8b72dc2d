"""An error answer of S3 as one of our errors: the one table from codes to classes and to advice.

What must not live here: a branch on message text; whether to repeat (``engine.retry``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from engine.clock import http_date
from engine.errors import (
    AccessDenied,
    NotFound,
    ObjectArchived,
    ObjectChanged,
    RedirectRefused,
    S3Error,
)
from engine.planes.regions import WRONG_REGION
from engine.types import S3Url

_BUSY = "S3 had trouble of its own, and still had after the last try: run it again later"
_FIXES = {
    "403": "The credentials may not do this, or are not known here; an answer to HEAD says no more",
    "404": "Check the name of the bucket and the key, and the endpoint",
    "405": "This store does not know the request, or not for this object: is it a delete marker?",
    "412": "Another object is there than the one that was named: look at it first",
    "BadDigest": "The bytes changed on their way: run it again",
    "EntityTooLarge": "The store takes no object or part of this size: name its limits by "
    "--store-profile",
    "EntityTooSmall": "The store wants larger parts: raise --part-size",
    "InternalError": _BUSY,
    "InvalidBucketName": "Check the bucket's name",
    "InvalidPart": "A part is gone or is another one: run it again",
    "InvalidRange": "The object is shorter than it was said to be: run it again",
    "KeyTooLongError": "Keys have 1,024 bytes at most: use a shorter prefix",
    "MethodNotAllowed": "The store does not know the request, or not for this object",
    "NoSuchKey": "Check the key: list what is there with s3engine ls",
    "NoSuchVersion": "Check the version id",
    "PreconditionFailed": "Another object is there than the one that was named: look at it first",
    "QuotaExceeded": "The account's or the bucket's space is used up",
    "RequestTimeout": "The network is too slow or breaks off: run it again, with a lower "
    "--max-concurrency",
    "ServiceUnavailable": _BUSY,
    "Unknown": "The answer does not say what is wrong; its request id may tell the store's owner",
    "AccessDenied": "The role lacks the permission for this request on this bucket or key, "
    "or the bucket has another owner than expected; some stores say this of an ended session too",
    "ConditionalRequestConflict": "Another writer was at work on the same key: send it again",
    "ExpiredToken": "The session ended before it was renewed",
    "InvalidAccessKeyId": "AWS does not know this key: was the session token left out?",
    "InvalidObjectState": "Restore it first (RestoreObject), and copy it when that is done; "
    "this may take hours",
    "NoSuchBucket": "Check the bucket's name and the endpoint",
    "NoSuchUpload": "The upload was completed or aborted by somebody else",
    "RequestTimeTooSkewed": "Set the clock of this machine",
    "SignatureDoesNotMatch": "The secret key is wrong, or something on the way changed the request",
    "SlowDown": "S3 asks for fewer requests: lower --max-concurrency or spread the keys",
}
_TROUBLE = frozenset({"500", "502", "503", "504"})
NO_CHECKSUM = (
    "If this store does not know checksum headers: --checksum none, TransferConfig(checksum="
    '"none"); what is moved is then not verified'
)
# How stores that do not know checksum headers refuse them: InvalidArgument (Backblaze B2, on reads
# too), NotImplemented (Cloudflare R2 did), MalformedXML (Swift, of Complete's document), and what
# else a header or an element that is not known may be called. A HEAD has the status alone.
_CHECKSUMS_REFUSED = frozenset(
    {
        "400",
        "501",
        "InvalidArgument",
        "InvalidRequest",
        "MalformedXML",
        "NotImplemented",
        "XAmzContentSHA256Mismatch",
    }
)
_NOT_FOUND = frozenset({"NoSuchBucket", "NoSuchKey", "NoSuchUpload", "NoSuchVersion", "404"})
# What ListParts says of an upload that was completed or aborted; radosgw names the key.
GONE = frozenset({"NoSuchUpload", "NoSuchKey"})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


def s3_error(
    operation: str,
    url: S3Url,
    *,
    code: str,
    status: int,
    message: str = "",
    request_id: str = "",
    headers: Mapping[str, str] | None = None,
    now: datetime | None = None,
) -> S3Error | RedirectRefused:
    """The error for an answer of S3.

    Args:
        operation: In words, for the message (``upload part``).
        code: Of the error document, or the status as text where there was no document.
        headers: Of the answer, names in lower case.
        now: Our wall clock, to tell how far the server's is off.
    """
    headers = headers or {}
    region = headers.get("x-amz-bucket-region")
    if status in _REDIRECTS and not region and code != "PermanentRedirect":
        return RedirectRefused(
            f"{operation} of {url} was answered with a redirect ({status})",
            fix="Redirects are never followed: they would take the session token along. "
            "Check the endpoint URL and the region",
        )
    kind: type[S3Error] = S3Error
    if code in ("AccessDenied", "403"):
        kind, code = AccessDenied, "AccessDenied"
    elif code in _NOT_FOUND:
        kind = NotFound
    elif code == "InvalidObjectState":
        kind = ObjectArchived
    elif status == 412 and operation.startswith(("get", "head")):
        kind = ObjectChanged
    return kind(
        _headline(operation, url, kind, code, message),
        s3_code=code,
        status=status,
        retry_after=_seconds(headers.get("retry-after")),
        server_time_offset=_offset(headers.get("date"), now),
        fix=_fix(code, region),
        request_id=request_id,
        bucket_region=region,
        storage_class=headers.get("x-amz-storage-class"),
    )


def advise_on_checksums(error: S3Error, sent: Iterable[str]) -> None:
    """Name the switch for stores that refuse checksum headers, where this may be why.

    Args:
        sent: Names of the headers of the request, in lower case.
    """
    if error.s3_code in _CHECKSUMS_REFUSED and error.fix in ("", error.advice):
        if any(name.startswith(("x-amz-checksum-", "x-amz-sdk-checksum-")) for name in sent):
            error.fix = NO_CHECKSUM


def _fix(code: str, region: str | None) -> str:
    if code not in WRONG_REGION:
        return _FIXES.get(code, _BUSY if code in _TROUBLE else "")
    if code == "400":
        return ""  # to HEAD it may mean anything
    if region:
        return f"The bucket is in {region}: --region {region}, or --region-mismatch follow"
    return "The bucket is in another region: give it by --region"


def _headline(operation: str, url: S3Url, kind: type[S3Error], code: str, message: str) -> str:
    if kind is ObjectChanged:
        return f"{url} was overwritten while it was read"
    if kind is ObjectArchived:
        return f"{url} is archived and cannot be read as it is"
    # AWS's sentence helps a person; without one the code has to do.
    said = f": {message}" if message else ""
    return f"{operation} of {url} failed with {code}{said}"


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isascii() and text.isdigit() else None


def _offset(date: str | None, now: datetime | None) -> float | None:
    server = http_date(date)
    return None if server is None or now is None else (server - now).total_seconds()
