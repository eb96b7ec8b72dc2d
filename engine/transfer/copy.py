"""copy(): one object to another place in S3, without its bytes coming by; or through us.

CopyObject up to what it may copy (5 GiB), UploadPartCopy above. Both need one set of credentials
that may read the source and write the target. Where there is none, the bytes are fetched under
one and sent under another (``through``), in memory and never on a disk.

Rules of this file
- The source is looked at first; every request is pinned to the ETag that it had then.
- What the source is stored with is kept, and what the options name takes its place: by S3 itself
  where it can, else by reading it and setting it again.
- Where both ends have a full-object checksum of one kind, they must be the same; of a copy in
  parts they are compared before the object is made. What goes through us is compared with any sum
  of the source that a download is compared with (``through.py``).
- Bytes go through us only where that was asked for: it costs time and traffic.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from typing import TypeVar

import anyio.lowlevel
from msgspec import structs

from engine.errors import (
    AccessDenied,
    ChecksumMismatch,
    EngineError,
    ObjectChanged,
    S3Error,
)
from engine.events import BytesMoved, ObjectDone, PartDone, silent
from engine.protocols import ChecksumAlgorithm, CopySource
from engine.retry import attempts_of
from engine.transfer.begin import create_upload
from engine.transfer.checksums import CHECKSUMS, NONE, chosen
from engine.transfer.conditional import ConditionalWrite, upload_until_no_conflict
from engine.transfer.context import TransferContext, uncounted
from engine.transfer.download import head
from engine.transfer.kept import merged, replaces_metadata, tags_of
from engine.transfer.look import may_have_worked
from engine.transfer.lost_copies import look_for, look_for_part, same_object
from engine.transfer.multipart import complete_upload, leave_upload
from engine.transfer.parts import Part, PartPlan, plan_copy, plan_parts
from engine.transfer.patience import Patience
from engine.transfer.resume import one_more
from engine.transfer.resume_upload import Wanted, drop_upload, take_up_upload, taken_up
from engine.transfer.through import ThroughParts, fetch_whole, source_parts
from engine.transfer.upload import put_whole
from engine.transfer.workers import run_parts
from engine.types import (
    Checksum,
    ListedPart,
    ObjectInfo,
    PartReceipt,
    PutReceipt,
    S3Url,
    TransferResult,
    UploadId,
)

R = TypeVar("R", PutReceipt, PartReceipt)

_THROUGH = (
    "let the bytes go through this host: --through, copy(through=True); with a second role: "
    "--source-role-arn, copy(source_engine=...)"
)


async def copy(source: S3Url, target: S3Url, context: TransferContext) -> TransferResult:
    """Copy ``source`` to ``target``, as ``context.copies`` says.

    Raises:
        AccessDenied: No one role may read the source and write the target. What was there before
            is unchanged.
        ObjectChanged: The source was overwritten meanwhile.
        TransferError: The target was not written.
        ChecksumMismatch: The copy is not the source; one made by CopyObject is visible already.
    """
    started = context.clock.monotonic()
    rules = context.copies
    reading = rules.source or structs.replace(context, options=rules.source_options)
    try:
        info = await head(source, reading)
    except AccessDenied as error:
        error.fix = f"These credentials may not read {source}; if others may, {_THROUGH}"
        raise
    through = rules.through or rules.source is not None
    plan = _plan_through(info.size, context) if through else plan_copy(info.size, context.config)
    if not plan.multipart:
        await drop_upload(target, context)
    if through:
        receipt, verified = await _through(info, target, plan, context, reading)
    else:
        within = _copy_in_parts if plan.multipart else _copy_whole
        receipt, verified = await upload_until_no_conflict(
            lambda number: within(info, target, plan, _again(context, number), reading)
        )
    seconds = context.clock.monotonic() - started
    parts = len(plan.parts)
    context.emit(ObjectDone(target, str(source), "copy", info.size, parts, seconds))
    return TransferResult(
        url=target,
        path=str(source),
        size=info.size,
        etag=receipt.etag,
        parts=parts,
        checksum=receipt.checksum,
        verified=verified,
        seconds=seconds,
    )


# Within S3.


async def _copy_whole(
    info: ObjectInfo,
    target: S3Url,
    plan: PartPlan,
    context: TransferContext,
    reading: TransferContext,
) -> tuple[PutReceipt, bool]:
    options, rules = context.options, context.copies
    keep_tags = rules.keep_tags and not options.tags
    keep_metadata = not replaces_metadata(options)
    tags = await tags_of(info.url, reading) if rules.keep_tags and not keep_tags else {}
    if not (keep_metadata and keep_tags):
        options = merged(options, info, tags)
    asked = CopySource(info.url, info.etag or None, reading.options)
    algorithm = chosen(context.config.checksum)

    async def is_ours(found: ObjectInfo) -> bool:
        return same_object(info, found)

    write = ConditionalWrite(target, context, is_ours)
    patience = Patience("copy object", target)
    began = context.clock.monotonic()

    async def send() -> PutReceipt:
        try:
            async with context.limiter.slot(target, big=False, size=0):
                with patience.of_a_try():
                    return await context.control.copy_object(
                        asked,
                        target,
                        algorithm,
                        keep_metadata=keep_metadata,
                        keep_tags=keep_tags,
                        options=options,
                    )
        except EngineError as error:
            write.failed(error)
            raise

    async def settle(error: EngineError) -> PutReceipt:
        if may_have_worked(error):
            return await look_for(info, target, began, error, context)
        if options.conditional and isinstance(error, S3Error) and error.status == 412:
            await _check_source(info, reading)
        return await write.settle(error)

    receipt = await _one_copy("copy object", info, target, None, send, settle, context)
    verified = _compare(info, target, receipt.checksum, "do not use the copy")
    return receipt, verified


async def _copy_in_parts(
    info: ObjectInfo,
    target: S3Url,
    plan: PartPlan,
    context: TransferContext,
    reading: TransferContext,
) -> tuple[PutReceipt, bool]:
    tags = await tags_of(info.url, reading) if context.copies.keep_tags else {}
    context = structs.replace(context, options=merged(context.options, info, tags))
    asked = CopySource(info.url, info.etag or None, reading.options)
    algorithm = chosen(context.config.checksum)
    wanted = _wanted(info, target, algorithm)

    async def copy_part(part: Part, upload_id: UploadId) -> PartReceipt:
        patience = Patience("upload part copy", target)

        async def send() -> PartReceipt:
            # Held: there is no body here to be held.
            async with context.limiter.slot(target, big=True, size=part.length, held=True):
                with patience.of_a_try():
                    return await context.control.upload_part_copy(
                        asked,
                        target,
                        upload_id,
                        part.number,
                        part.range,
                        algorithm,
                        options=context.options,
                    )

        async def settle(error: EngineError) -> PartReceipt:
            if not may_have_worked(error):
                raise error
            return await look_for_part(wanted, part, upload_id, error, context)

        return await _one_copy("upload part copy", info, target, part, send, settle, context)

    return await _of_parts(info, wanted, plan, copy_part, context)


async def _one_copy(
    operation: str,
    info: ObjectInfo,
    target: S3Url,
    part: Part | None,
    send: Callable[[], Awaitable[R]],
    settle: Callable[[EngineError], Awaitable[R]],
    context: TransferContext,
) -> R:
    """The object or a part of it: asked for; where that ended badly, found out; and told."""
    with _told(info.url):
        try:
            receipt, attempts = await context.retrier.run(operation, target, send)
        except EngineError as error:
            receipt, attempts = await settle(error), attempts_of(error)
    span, size = (None, info.size) if part is None else (part.range, part.length)
    context.emit(PartDone(target, span, attempts))
    context.emit(BytesMoved(target, size))
    return receipt


async def _of_parts(
    info: ObjectInfo,
    wanted: Wanted,
    plan: PartPlan,
    make: Callable[[Part, UploadId], Awaitable[PartReceipt]],
    context: TransferContext,
    through: ThroughParts | None = None,
) -> tuple[PutReceipt, bool]:
    """The parts, the comparison with the source, then the object; or nothing of it but what a
    journal names."""
    target, algorithm, there = wanted.url, wanted.algorithm, dict[int, PartReceipt]()
    taken = await take_up_upload(wanted, context)
    if taken is not None and taken.finished is not None:
        return taken.finished, _compare(info, target, taken.finished.checksum, "do not use it")
    if taken is not None:
        plan, upload_id, there = taken.plan, taken.upload_id, dict(taken.receipts)
    else:
        with _told(info.url):
            record = wanted.record(plan.part_size)
            upload_id = await create_upload(target, algorithm, context, record)

    async def make_and_keep(part: Part) -> PartReceipt:
        known = receipt = there.get(part.number)
        if receipt is None:
            receipt = await make(part, upload_id)
        elif through is not None:
            receipt = await through.taken(part, receipt, upload_id)
        if receipt is not known and context.journal is not None:
            await context.journal.part_done(receipt)
        return receipt

    with taken_up(target, taken, context):
        try:
            await anyio.lowlevel.checkpoint_if_cancelled()
            receipts = await run_parts(
                plan.parts,
                make_and_keep,
                context.config.parts_at_first,
                one_more(context, plan, here=through is not None),
            )
            if any(receipt.crc is None for receipt in receipts):
                algorithm = None  # a store that sums no copied parts: nothing to combine
            if through is not None:
                verified = await through.verified(plan, receipts, upload_id)
            else:
                verified = _compare(
                    info, target, _whole(receipts, algorithm), "the copy was not made"
                )
            receipt = await complete_upload(
                target, upload_id, receipts, plan.size, algorithm, context
            )
        except BaseException as error:
            await leave_upload(target, upload_id, error, context)
            raise
    if context.journal is not None:
        await context.journal.ended()
    return receipt, verified


def _wanted(info: ObjectInfo, target: S3Url, algorithm: ChecksumAlgorithm | None) -> Wanted:
    """The copy of a source whose bytes are not read again: what was copied under its ETag is what
    it says, if the store has kept it."""

    async def examine(part: Part, listed: ListedPart) -> PartReceipt | None:
        told = listed.checksum
        if algorithm is None or told is None or told.algorithm != algorithm.name:
            return None
        crc = int.from_bytes(base64.b64decode(told.value), "big")
        return PartReceipt(part.number, part.offset, part.length, listed.etag, told, crc)

    async def is_made(plan: PartPlan, found: ObjectInfo) -> bool:
        ours = info.checksum
        return ours is not None and ours.full_object and ours == found.checksum

    version = f"{info.url} {info.etag} {info.version_id or ''}" if info.etag else ""
    return Wanted(target, info.size, version, algorithm, examine, is_made)


# Through us.


def _plan_through(size: int, context: TransferContext) -> PartPlan:
    """What goes by one request has to be held in memory; so have parts."""
    config, memory = context.config, context.limiter.max_stream_memory
    threshold = min(config.multipart_threshold, max(memory, config.part_size))
    return plan_parts(size, dataclasses.replace(config, multipart_threshold=threshold))


async def _through(
    info: ObjectInfo,
    target: S3Url,
    plan: PartPlan,
    context: TransferContext,
    reading: TransferContext,
) -> tuple[PutReceipt, bool]:
    tags = await tags_of(info.url, reading) if context.copies.keep_tags else {}
    context = structs.replace(context, options=merged(context.options, info, tags))
    reading = structs.replace(reading, emit=silent)  # a byte is moved once
    algorithm = _algorithm_for(info.checksum, context)
    if plan.multipart:
        sizes = await source_parts(info, algorithm, reading)
        return await upload_until_no_conflict(
            lambda number: _parts_through(
                info, target, plan, algorithm, sizes, _again(context, number), reading
            )
        )
    weight = await context.limiter.streams.acquire(info.size)
    try:
        source, verified = await fetch_whole(info, algorithm, context, reading)
        return await put_whole(source, target, algorithm, context), verified
    finally:
        context.limiter.streams.release(weight)


async def _parts_through(
    info: ObjectInfo,
    target: S3Url,
    plan: PartPlan,
    algorithm: ChecksumAlgorithm | None,
    sizes: tuple[int, ...] | None,
    context: TransferContext,
    reading: TransferContext,
) -> tuple[PutReceipt, bool]:
    wanted = _wanted(info, target, algorithm)
    through = ThroughParts(info, target, algorithm, sizes, context, reading)
    return await _of_parts(info, wanted, plan, through.move, context, through)


# Conditions.


def _again(context: TransferContext, number: int) -> TransferContext:
    return context if number == 1 else uncounted(context)


async def _check_source(info: ObjectInfo, reading: TransferContext) -> None:
    """A refused condition may be that of either end: raises ObjectChanged if the source's."""
    now = await head(info.url, reading)
    if now.etag != info.etag:
        raise _changed(info.url)


# Checksums, and what errors mean.


def _algorithm_for(stored: Checksum | None, context: TransferContext) -> ChecksumAlgorithm | None:
    """The source's own kind, so that the two can be compared; unless none is wanted."""
    name = context.config.checksum
    if name != NONE and stored is not None and stored.algorithm in CHECKSUMS:
        name = stored.algorithm
    return chosen(name)


def _whole(receipts: Sequence[PartReceipt], algorithm: ChecksumAlgorithm | None) -> Checksum | None:
    if algorithm is None:
        return None
    crc = reduce(lambda crc, part: algorithm.combine(crc, part.crc or 0, part.size), receipts, 0)
    return Checksum(algorithm.name, algorithm.encode(crc))


def _compare(info: ObjectInfo, where: S3Url, got: Checksum | None, fix: str) -> bool:
    """Whether the two were compared. Raises ChecksumMismatch where they differ."""
    stored = info.checksum
    if got is None or stored is None or not (stored.full_object and got.full_object):
        return False
    if stored.algorithm != got.algorithm:
        return False
    if stored != got:
        raise ChecksumMismatch(
            f"{info.url} has {stored}, the bytes at {where} have {got}",
            fix=f"Copy it again; {fix}",
        )
    return True


@contextmanager
def _told(source: S3Url) -> Iterator[None]:
    """What a refused copy means: it says nothing of the two ends."""
    try:
        yield
    except AccessDenied as error:
        error.fix = (
            f"{source} could be looked at. A copy within S3 also needs s3:GetObject on it and "
            f"s3:PutObject on the target, by the same credentials; or {_THROUGH}"
        )
        raise
    except ObjectChanged:
        raise  # named already
    except S3Error as error:
        if error.status == 412:  # the source's If-Match
            raise _changed(source) from error
        raise


def _changed(source: S3Url) -> ObjectChanged:
    return ObjectChanged(
        f"{source} was overwritten while it was copied",
        s3_code="PreconditionFailed",
        status=412,
        fix="Copy it again",
    )
