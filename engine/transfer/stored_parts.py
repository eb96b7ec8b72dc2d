"""The parts that a stored object was written in, as far as the store tells them.

What lives here: asking for them. What must not: what their checksums mean (``verify``).

S3 tells sizes of all multipart objects' parts, and checksums of those of objects with a composite
checksum. HEAD with a part number needs no permission beyond s3:GetObject, which
GetObjectAttributes does: https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.errors import ObjectChanged, S3Error
from engine.retry import Verdict, classify
from engine.transfer.context import TransferContext
from engine.transfer.workers import run_parts
from engine.types import ObjectInfo, StoredPart

# Requests for parts that are under way at once, within the limiter's slots.
_AT_ONCE = 16


async def part_sizes(info: ObjectInfo, context: TransferContext) -> tuple[int, ...] | None:
    """Bytes of each part, by one request where all but the last are of one size.

    Raises:
        ObjectChanged: It was overwritten.
        TransferError, CredentialsError: S3 cannot be asked.

    Returns:
        None where the store does not tell. Parts of equal sizes are an assumption that fits the
        size of the object; ``all_parts`` knows.
    """
    count = composite_parts(info)
    if count == 1:
        return (info.size,)
    first = await _part(info, 1, context)
    if first is None:
        return None
    last = info.size - (first.count - 1) * first.size
    if 0 < last <= first.size:
        return (first.size,) * (first.count - 1) + (last,)
    parts = await all_parts(info, context, first)
    return None if parts is None else tuple(part.size for part in parts)


async def all_parts(
    info: ObjectInfo, context: TransferContext, first: StoredPart | None = None
) -> Sequence[StoredPart] | None:
    """Every part of an object, one request each; None where the store does not tell them.
    Raises as ``part_sizes``."""
    first = first or await _part(info, 1, context)
    if first is None:
        return None

    async def ask(number: int) -> tuple[StoredPart | None]:
        return (await _part(info, number, context),)

    rest = await run_parts(range(2, first.count + 1), ask, _AT_ONCE)
    parts = [first, *[part for (part,) in rest if part is not None]]
    whole = len(parts) == first.count and sum(part.size for part in parts) == info.size
    return parts if whole else None


def composite_parts(info: ObjectInfo) -> int | None:
    """How many parts a composite checksum says that the object has; None where it has none."""
    if info.checksum is None or info.checksum.full_object:
        return None
    count = info.checksum.value.rpartition("-")[2]
    return int(count) if count.isascii() and count.isdigit() and len(count) < 6 else None


async def _part(info: ObjectInfo, number: int, context: TransferContext) -> StoredPart | None:
    async def ask() -> StoredPart | None:
        async with context.limiter.slot(info.url, big=False, size=0):
            return await context.control.head_part(
                info.url, number, etag=info.etag, options=context.options
            )

    try:
        part, _ = await context.retrier.run("head part", info.url, ask)
    except ObjectChanged:
        raise
    except S3Error as error:
        if classify(error) is not Verdict.FAIL:
            raise  # tells of a bad hour or of a session, and nothing of parts
        return None  # a store that refuses a part number
    return part
