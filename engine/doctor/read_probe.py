"""What the session may read below a prefix. No request of it can change the bucket.

What must not live here: the probe that writes (``probe.py``).
"""

from __future__ import annotations

from engine.doctor.bucket_findings import list_denied, other, outcome, unusable
from engine.doctor.findings import Finding, Tell, ok, skipped
from engine.doctor.policies import folder
from engine.doctor.tools import Tools
from engine.errors import AccessDenied, EngineError, NotFound, ObjectChanged, S3Error
from engine.protocols import ControlPlane, DataPlane
from engine.transfer.sinks import MemorySink
from engine.types import ByteRange, KiB, ObjectInfo, S3Url

# Of the one object that is looked into: enough to know that its bytes are to be had.
MAX_READ = KiB
# A storage class whose objects have to be restored before they can be read.
# https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
_ARCHIVED = "InvalidObjectState"
_REASON = "--read-only"


async def read_probe(
    tools: Tools, data: DataPlane, control: ControlPlane, url: S3Url, tell: Tell
) -> None:
    """List below ``url``, and read the first bytes of the first object that has any."""
    below = folder(url)
    page: list[ObjectInfo] = []
    error: EngineError | None = None
    try:
        found, _ = await tools.call("ListObjectsV2", lambda: control.list_page(below, None))
        page = list(found)
    except EngineError as refused:
        error = refused
    region = tools.endpoints.region
    stop = unusable(below.bucket, region, error)
    tell(stop or ok("bucket", f"{below.bucket}, signed for {region}"))
    if stop is not None:
        tell(skipped("list", "the bucket is not usable"))
        tell(skipped("read", "the bucket is not usable"))
    elif error is not None:
        denied = isinstance(error, AccessDenied)
        tell(list_denied(below, error) if isinstance(error, AccessDenied) else other("list", error))
        tell(skipped("read", "no key is known, for nothing can be listed" if denied else "no key"))
    else:
        tell(ok("list", "ListObjectsV2"))
        tell(await _reading(tools, data, below, page))
    tell(skipped("write", _REASON))


async def _reading(tools: Tools, data: DataPlane, below: S3Url, page: list[ObjectInfo]) -> Finding:
    info = next((info for info in page if info.size > 0), None)
    if info is None:
        empty = "only empty objects" if page else "no object"
        return skipped("read", f"{empty} below {below}, so nothing to read")
    span = ByteRange(0, min(MAX_READ, info.size))
    try:
        await tools.call(
            "GetObject",
            lambda: data.get_range(
                info.url,
                MemorySink(span.length),
                0,
                range=span,
                etag=info.etag or None,  # what grows or shrinks meanwhile is not read
                algorithm=None,
            ),
        )
    except (NotFound, ObjectChanged):
        return skipped("read", f"{info.url} was changed or deleted meanwhile")
    except EngineError as error:
        if isinstance(error, S3Error) and error.s3_code == _ARCHIVED:
            return skipped("read", f"{info.url} is archived: it has to be restored first")
        return outcome(below, "read", error, "s3:GetObject", "")
    return ok("read", f"{span.length} of {info.size} B of {info.url}")
