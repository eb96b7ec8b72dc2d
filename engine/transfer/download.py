"""download(): one object to one file, whole or by ranges.

Every range is pinned to one version by If-Match. The file appears under its name when it is
whole and its checksum is the one that S3 stores.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import reduce
from pathlib import Path

from engine.errors import ChecksumMismatch, ObjectChanged
from engine.events import BytesMoved, ObjectDone, PartDone
from engine.protocols import ByteSink, ChecksumAlgorithm
from engine.transfer.checksums import CHECKSUMS, NONE, chosen
from engine.transfer.context import TransferContext, uncounted
from engine.transfer.files import partial_file, publish, refuse_existing
from engine.transfer.parts import Part, PartPlan, plan_ranges
from engine.transfer.readable import check_readable
from engine.transfer.sinks import FileSink, MemorySink
from engine.transfer.sources import SMALL_FILE, FileSource
from engine.transfer.stored_as import mtime_of
from engine.transfer.workers import run_parts
from engine.types import Checksum, MiB, ObjectInfo, RangeReceipt, S3Url, TransferResult

# A checksum that does not fit is fetched once more: the fault may have been on the way.
MAX_FETCHES = 2
_SUM_BLOCK = MiB


async def download(
    url: S3Url, target: Path, context: TransferContext, listed: ObjectInfo | None = None
) -> TransferResult:
    """Download ``url`` to the file ``target``.

    Args:
        listed: What a listing said of the object; spares a request for small ones.

    Raises:
        TransferError: ``target`` is as it was before.
        ObjectChanged: The object was overwritten meanwhile.
        ChecksumMismatch: The bytes are not those that S3 has a checksum of.
        ClientEncrypted, ObjectArchived: They are not to be had, or not as they were meant.
        ObjectExists: ``target`` is there, and not to be replaced.
    """
    started = context.clock.monotonic()
    if context.options.if_none_match:
        await context.door.run(refuse_existing, target)
    info = listed or await head(url, context)
    plan = plan_ranges(info.size, context.config)
    if plan.multipart and info.checksum is None and listed is not None:
        info = await head(url, context)  # a listing has no checksum, and a range neither
        plan = plan_ranges(info.size, context.config)
    check_readable(info, context.options)
    if listed is not None and info.size <= SMALL_FILE and not plan.multipart:
        info, verified = await _small(info, target, plan, context)
    else:
        async with partial_file(target, info.size, context.door) as partial:
            info, verified = await _fetch_and_verify(
                info,
                FileSink(partial.descriptor),
                plan,
                context,
                lambda algorithm: context.door.run(_sum_file, partial.temporary, algorithm),
            )
            await publish(partial, context.door, _mtime(info, context))
    seconds = context.clock.monotonic() - started
    context.emit(ObjectDone(url, str(target), "download", info.size, len(plan.parts), seconds))
    return TransferResult(
        url=url,
        path=str(target),
        size=info.size,
        etag=info.etag,
        parts=len(plan.parts),
        checksum=info.checksum,
        verified=verified,
        seconds=seconds,
        version_id=info.version_id,
    )


def _mtime(info: ObjectInfo, context: TransferContext) -> int | None:
    return mtime_of(info) if context.options.preserve_mtime else None


async def head(url: S3Url, context: TransferContext) -> ObjectInfo:
    """What S3 says of the object. Raises NotFound, AccessDenied."""

    async def ask() -> ObjectInfo:
        async with context.limiter.slot(big=False, size=0):
            return await context.control.head_object(url, options=context.options)

    info, _ = await context.retrier.run("head object", url, ask)
    return info


async def fetch_range(
    info: ObjectInfo,
    sink: ByteSink,
    sink_offset: int,
    part: Part | None,
    algorithm: ChecksumAlgorithm | None,
    context: TransferContext,
) -> RangeReceipt:
    """One range (None: the whole object) into ``sink``, repeated until it is whole."""

    async def get() -> RangeReceipt:
        size = part.length if part is not None else info.size
        async with context.limiter.slot(big=part is not None, size=size):
            return await context.data.get_range(
                info.url,
                sink,
                sink_offset,
                range=part.range if part is not None else None,
                etag=info.etag or None,
                algorithm=algorithm,
                options=context.options,
            )

    receipt, attempts = await context.retrier.run("get object", info.url, get)
    context.emit(PartDone(info.url, part.range if part is not None else None, attempts))
    context.emit(BytesMoved(info.url, receipt.size))
    return receipt


async def _small(
    info: ObjectInfo, target: Path, plan: PartPlan, context: TransferContext
) -> tuple[ObjectInfo, bool]:
    """One of many small objects: kept in memory until it is whole, then written in one trip."""
    sink = MemorySink(info.size)

    async def sum_again(algorithm: ChecksumAlgorithm) -> int:
        return algorithm.update(sink.memory)

    info, verified = await _fetch_and_verify(info, sink, plan, context, sum_again)
    await context.writer.write(target, sink.data, _mtime(info, context))
    return info, verified


async def _fetch_and_verify(
    info: ObjectInfo,
    sink: ByteSink,
    plan: PartPlan,
    context: TransferContext,
    sum_again: Callable[[ChecksumAlgorithm], Awaitable[int]],
) -> tuple[ObjectInfo, bool]:
    algorithm = _algorithm_for(info.checksum, context)
    for attempt in range(1, MAX_FETCHES + 1):
        counted = context if attempt == 1 else uncounted(context)
        whole, info = await _fetch(info, sink, plan, algorithm, counted)
        stored = info.checksum
        if stored is None or not stored.full_object or stored.algorithm not in CHECKSUMS:
            return info, False
        if algorithm is None:
            return info, False
        if stored.algorithm != algorithm.name:
            # Small objects of a listing: which checksum S3 has was known only with the bytes.
            algorithm = CHECKSUMS.get(stored.algorithm)()
            whole = await sum_again(algorithm)
        got = Checksum(algorithm.name, algorithm.encode(whole))
        if got == stored:
            return info, True
        if attempt == MAX_FETCHES:
            raise ChecksumMismatch(
                f"the bytes of {info.url} have {got}, S3 stores {stored}",
                fix="The stored object or the way to it is damaged; the file was not written",
                etag=info.etag,
            )
    raise AssertionError("the last fetch returns or raises")


async def _fetch(
    info: ObjectInfo,
    sink: ByteSink,
    plan: PartPlan,
    algorithm: ChecksumAlgorithm | None,
    context: TransferContext,
) -> tuple[int, ObjectInfo]:
    """All bytes into ``sink``: their checksum (0 without one), and what S3 says of the object."""
    if not plan.multipart:
        receipt = await fetch_range(info, sink, 0, None, algorithm, context)
        if receipt.size != info.size:
            raise ObjectChanged(
                f"{info.url} was overwritten while it was read", s3_code="Changed", status=200
            )
        check_readable(receipt.object, context.options)
        return receipt.crc or 0, receipt.object

    async def get(part: Part) -> RangeReceipt:
        return await fetch_range(info, sink, part.offset, part, algorithm, context)

    receipts = await run_parts(plan.parts, get, context.config.max_parts_in_flight)
    assert sum(receipt.size for receipt in receipts) == info.size
    if algorithm is None:
        return 0, info
    whole = reduce(
        lambda crc, receipt: algorithm.combine(crc, receipt.crc or 0, receipt.size), receipts, 0
    )
    return whole, info


def _algorithm_for(stored: Checksum | None, context: TransferContext) -> ChecksumAlgorithm | None:
    if context.config.checksum == NONE:
        return None
    name = stored.algorithm if stored is not None else context.config.checksum
    return chosen(name if name in CHECKSUMS else context.config.checksum)


def _sum_file(path: Path, algorithm: ChecksumAlgorithm) -> int:
    crc = 0
    buffer = memoryview(bytearray(_SUM_BLOCK))
    with FileSource(path) as source:
        for offset in range(0, source.size, _SUM_BLOCK):
            piece = buffer[: min(_SUM_BLOCK, source.size - offset)]
            source.read_into(offset, piece)
            crc = algorithm.update(piece, crc)
    return crc
