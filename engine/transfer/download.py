"""download(): one object to one file, whole or by ranges.

Every range is pinned to one version by If-Match. The file appears under its name when it is
whole and its checksum is the one that S3 stores.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from engine.errors import NotFound, ObjectChanged, ProtocolError
from engine.events import BytesMoved, DownloadKept, ObjectDone, PartDone
from engine.protocols import ByteSink, ChecksumAlgorithm
from engine.records import KeptRange
from engine.transfer.ahead import connections_ahead
from engine.transfer.checksums import CHECKSUMS, NONE, chosen
from engine.transfer.context import TransferContext, uncounted
from engine.transfer.files import (
    PartialFile,
    local_error,
    make_folder,
    partial_file,
    publish,
    refuse_existing,
)
from engine.transfer.parts import Part, PartPlan, plan_ranges, plan_ranges_of_parts
from engine.transfer.readable import check_readable
from engine.transfer.resume import one_more, outlives, reason_of
from engine.transfer.resume_download import (
    NOTHING,
    TakenDownload,
    drop_kept,
    planned_before,
    record_of,
    sum_span,
    take_up_download,
)
from engine.transfer.sinks import FileSink, SmallSink
from engine.transfer.sources import SMALL_FILE
from engine.transfer.stored_as import mtime_of
from engine.transfer.stored_parts import part_sizes
from engine.transfer.verify import SumSpan, Verifier, verifiable
from engine.transfer.workers import run_parts
from engine.transfer.writer import room_of
from engine.types import ByteRange, Checksum, ObjectInfo, RangeReceipt, S3Url, TransferResult

_NOT_YET: Mapping[int, int] = {}
# From this round trip on a connection that waits for the next request costs more than bytes which
# have left the processor's cache before they are written. Seconds.
_FAR = 0.005


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
    if context.journal is not None:
        context = planned_before(context)
    if context.options.if_none_match and not _begun(context):
        await context.door.run(refuse_existing, target)
    if listed is not None:
        return await _download(listed, target, context, started, listed=True)
    async with connections_ahead(url, context) as ahead:
        try:
            info = await head(url, context)
        except NotFound:
            await drop_kept(target, context)
            raise
        ahead.answered = True
        return await _download(info, target, context, started, listed=False)


async def download_folder(url: S3Url, target: Path, context: TransferContext) -> TransferResult:
    """The folder ``target``, for an empty object that stands for one.

    Raises:
        TransferError: It cannot be made; a file or a link is in the way.
    """
    started = context.clock.monotonic()
    try:
        await context.door.run(make_folder, target, context.tree)
    except (OSError, ValueError) as error:
        raise local_error(target, error) from None
    seconds = context.clock.monotonic() - started
    context.emit(ObjectDone(url, str(target), "download", 0, 0, seconds))
    return TransferResult(url, str(target), 0, "", 0, None, False, seconds=seconds)


async def _download(
    info: ObjectInfo, target: Path, context: TransferContext, started: float, *, listed: bool
) -> TransferResult:
    url = info.url
    most = min(SMALL_FILE, context.config.multipart_download_threshold)
    if listed and info.size <= most and context.journal is None:
        ranges = 1
        info, verified = await _small(info, target, context)
    else:
        info, verified, ranges = await _planned(info, target, context, listed=listed)
    seconds = context.clock.monotonic() - started
    context.emit(ObjectDone(url, str(target), "download", info.size, ranges, seconds))
    return TransferResult(
        url=url,
        path=str(target),
        size=info.size,
        etag=info.etag,
        parts=ranges,
        checksum=info.checksum,
        verified=verified,
        seconds=seconds,
        version_id=info.version_id,
    )


async def _planned(
    info: ObjectInfo, target: Path, context: TransferContext, *, listed: bool
) -> tuple[ObjectInfo, bool, int]:
    """Whole or by ranges: what was fetched, whether it was compared with a checksum, and the
    number of ranges."""
    url = info.url
    plan = plan_ranges(info.size, context.config)
    if plan.multipart and info.checksum is None and listed:
        info = await head(url, context)  # a listing has no checksum, and a range neither
        plan = plan_ranges(info.size, context.config)
    check_readable(info, context.options)
    plan, sizes = await _aligned(info, plan, context)
    taken = NOTHING
    if context.journal is not None:
        algorithm = _algorithm_for(info.checksum, context)
        taken = await take_up_download(info, target, plan, algorithm, context)
    if listed and info.size <= SMALL_FILE and not plan.multipart:
        info, verified = await _small(info, target, context)
    else:
        info, verified = await _into_file(info, target, plan, context, sizes, taken)
    return info, verified, len(plan.parts)


def _begun(context: TransferContext) -> bool:
    """Whether an earlier process may have given the file its name already."""
    return context.journal is not None and context.journal.download is not None


def _mtime(info: ObjectInfo, context: TransferContext) -> int | None:
    return mtime_of(info) if context.options.preserve_mtime else None


async def head(url: S3Url, context: TransferContext) -> ObjectInfo:
    """What S3 says of the object. Raises NotFound, AccessDenied."""

    async def ask() -> ObjectInfo:
        async with context.limiter.slot(url, big=False, size=0):
            return await context.control.head_object(
                url, options=context.options, checksum=context.config.checksum != NONE
            )

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

    async def fetch(span: ByteRange | None) -> RangeReceipt:
        return await context.data.get_range(
            info.url,
            sink,
            sink_offset,
            range=span,
            etag=info.etag or None,
            algorithm=algorithm,
            options=context.options,
        )

    async def get() -> RangeReceipt:
        size = part.length if part is not None else info.size
        async with context.limiter.slot(
            info.url,
            big=part is not None,
            size=size,
            held=sink.lands >= 0 or sink.memory is not None,
        ):
            if part is None:
                return await fetch(None)
            with context.limiter.slow_parts.watching("get object", info.url, size):
                receipt = await fetch(part.range)
        if receipt.object.size != info.size:
            # Pinned to one version, whose size is known: whoever says this is not to be believed.
            raise ProtocolError(
                f"get object of {info.url}: an answer to a range says that the object has "
                f"{receipt.object.size} bytes, it has {info.size}"
            )
        return receipt

    receipt, attempts = await context.retrier.run("get object", info.url, get)
    context.emit(PartDone(info.url, part.range if part is not None else None, attempts))
    context.emit(BytesMoved(info.url, receipt.size))
    return receipt


async def _small(
    listed: ObjectInfo, target: Path, context: TransferContext
) -> tuple[ObjectInfo, bool]:
    """One of many small objects: kept in memory until it is whole, then written in one trip."""
    check_readable(listed, context.options)
    bodies = context.limiter.bodies
    weight = await bodies.acquire(room_of(listed.size))
    try:
        return await _small_held(listed, target, context)
    finally:
        bodies.release(weight)


async def _small_held(
    listed: ObjectInfo, target: Path, context: TransferContext
) -> tuple[ObjectInfo, bool]:
    sink = context.writer.sink(listed.size)
    algorithm = _algorithm_for(listed.checksum, context)
    receipt = await fetch_range(listed, sink, 0, None, algorithm, context)
    if context.data.round_trip() >= _FAR:
        await asyncio.sleep(0)  # the next request, whose turn it is now, goes out first
    info = _whole(receipt, listed, context)
    verified = algorithm is not None and _equal(info.checksum, algorithm, receipt.crc)
    if not verified:
        verified = await _verify_small(info, sink, algorithm, receipt.crc, context)
    new, mtime = context.options.if_none_match, _mtime(info, context)
    await context.writer.write(target, sink.memory, mtime, context.tree, new=new)
    context.writer.give_back(sink)
    return info, verified


async def _verify_small(
    info: ObjectInfo,
    sink: SmallSink,
    algorithm: ChecksumAlgorithm | None,
    crc: int | None,
    context: TransferContext,
) -> bool:
    """Where a comparison of the sums is not enough."""
    plan = plan_ranges(info.size, context.config)

    async def sum_held(algorithm: ChecksumAlgorithm, offset: int, length: int) -> int:
        return algorithm.update(sink.memory[offset : offset + length])

    return await _verify(info, sink, plan, (crc or 0,), algorithm, context, sum_held)


def _whole(receipt: RangeReceipt, info: ObjectInfo, context: TransferContext) -> ObjectInfo:
    """What S3 says of an object that was fetched by one request.

    Raises:
        ObjectChanged, ClientEncrypted: It is not what it was, or not as it was meant.
    """
    if receipt.size != info.size:
        raise ObjectChanged(
            f"{info.url} was overwritten while it was read", s3_code="Changed", status=200
        )
    check_readable(receipt.object, context.options)
    return receipt.object


def _equal(stored: Checksum | None, algorithm: ChecksumAlgorithm, crc: int | None) -> bool:
    """Whether S3 stores the very sum that was computed: most small objects."""
    return (
        stored is not None
        and stored.full_object
        and stored.algorithm == algorithm.name
        and crc is not None
        and stored.value == algorithm.encode(crc)
    )


async def _aligned(
    info: ObjectInfo, plan: PartPlan, context: TransferContext
) -> tuple[PartPlan, tuple[int, ...] | None]:
    """The ranges, cut at the borders of the stored parts where a composite checksum needs that;
    and the sizes of these parts, as far as they were asked for."""
    algorithm = _algorithm_for(info.checksum, context)
    if not (plan.multipart and verifiable(info, algorithm)) or _full(info.checksum):
        return plan, None
    sizes = await part_sizes(info, context)
    return (plan if sizes is None else plan_ranges_of_parts(sizes, context.config)), sizes


async def _into_file(
    info: ObjectInfo,
    target: Path,
    plan: PartPlan,
    context: TransferContext,
    sizes: tuple[int, ...] | None,
    taken: TakenDownload,
) -> tuple[ObjectInfo, bool]:
    journal, name = (context.journal if plan.multipart else None), ""
    if journal is not None and taken.partial is None:
        name = context.temporaries.new_kept()
        algorithm = _algorithm_for(info.checksum, context)
        await journal.download_begun(record_of(info, plan, algorithm, name))
    partial: PartialFile | None = None
    try:
        async with partial_file(
            target,
            info.size,
            context.door,
            context.temporaries,
            name=name,
            taken=taken.partial,
            tree=context.tree,
        ) as partial:
            try:
                if context.options.if_none_match and journal and not partial.published:
                    await context.door.run(refuse_existing, target)
                verified = await _fill(info, partial, plan, context, sizes, taken.crcs)
            except BaseException as error:
                partial.kept = journal is not None and outlives(error)
                if partial.kept:
                    kept = DownloadKept(info.url, str(partial.temporary), reason_of(error))
                    context.emit(kept)
                raise
    except Exception:
        if journal is not None and not (partial is not None and partial.kept):
            await journal.ended()
        raise
    if journal is not None:
        await journal.ended()
    return verified


async def _fill(
    info: ObjectInfo,
    partial: PartialFile,
    plan: PartPlan,
    context: TransferContext,
    sizes: tuple[int, ...] | None,
    there: Mapping[int, int],
) -> tuple[ObjectInfo, bool]:
    async def sum_of(algorithm: ChecksumAlgorithm, offset: int, length: int) -> int:
        return await context.door.run(sum_span, partial.descriptor, algorithm, offset, length)

    sink = FileSink(partial.descriptor)
    info, verified = await _fetch_and_verify(info, sink, plan, context, sum_of, sizes, there)
    new = context.options.if_none_match
    await publish(partial, context.door, _mtime(info, context), new=new)
    return info, verified


async def _fetch_and_verify(
    info: ObjectInfo,
    sink: ByteSink,
    plan: PartPlan,
    context: TransferContext,
    sum_span: SumSpan,
    sizes: tuple[int, ...] | None = None,
    there: Mapping[int, int] = _NOT_YET,
) -> tuple[ObjectInfo, bool]:
    algorithm = _algorithm_for(info.checksum, context)
    crcs, info = await _fetch(info, sink, plan, algorithm, context, there)
    return info, await _verify(info, sink, plan, crcs, algorithm, context, sum_span, sizes)


async def _verify(
    info: ObjectInfo,
    sink: ByteSink,
    plan: PartPlan,
    crcs: Sequence[int],
    algorithm: ChecksumAlgorithm | None,
    context: TransferContext,
    sum_span: SumSpan,
    sizes: tuple[int, ...] | None = None,
) -> bool:
    """Whether these are the bytes that S3 has a checksum of; False where that cannot be told.

    Raises:
        ChecksumMismatch: They are not, and fetching again did not help.
    """
    if algorithm is None or not verifiable(info, algorithm):
        return False
    if len(crcs) == 1 and _equal(info.checksum, algorithm, crcs[0]):
        return True  # nothing to find out

    async def fetch_again(part: Part) -> int:
        one = PartPlan(plan.size, plan.part_size, (part,), plan.multipart)
        crcs, _ = await _fetch(info, sink, one, algorithm, uncounted(context))
        return crcs[0]

    verifier = Verifier(
        info,
        plan.parts,
        crcs,
        algorithm,
        context,
        sum_span=sum_span,
        fetch_again=fetch_again,
        sizes=sizes,
    )
    return await verifier.verified()


async def _fetch(
    info: ObjectInfo,
    sink: ByteSink,
    plan: PartPlan,
    algorithm: ChecksumAlgorithm | None,
    context: TransferContext,
    there: Mapping[int, int] = _NOT_YET,
) -> tuple[Sequence[int], ObjectInfo]:
    """All bytes of the plan into ``sink``, but for those that are there: the checksum of each
    range (0 without an algorithm), and what S3 says of the object."""
    if not plan.multipart:
        receipt = await fetch_range(info, sink, 0, None, algorithm, context)
        return (receipt.crc or 0,), _whole(receipt, info, context)

    async def get(part: Part) -> int:
        crc = there.get(part.offset)
        if crc is None:
            receipt = await fetch_range(info, sink, part.offset, part, algorithm, context)
            crc = receipt.crc or 0
            if context.journal is not None and algorithm is not None:
                kept = KeptRange(part.offset, part.offset + part.length, crc)
                await context.journal.range_done(kept)
        return crc

    crcs = await run_parts(
        plan.parts,
        get,
        context.config.parts_at_first,
        one_more(context, plan),
    )
    return crcs, info


def _algorithm_for(stored: Checksum | None, context: TransferContext) -> ChecksumAlgorithm | None:
    if context.config.checksum == NONE:
        return None
    name = stored.algorithm if stored is not None else context.config.checksum
    return chosen(name if name in CHECKSUMS else context.config.checksum)


def _full(checksum: Checksum | None) -> bool:
    return checksum is not None and checksum.full_object
