"""upload(): one source to one object, whole or in parts.

An object under the threshold takes the same path with a plan of one part and no upload id.
Nothing of an upload is visible before the last answer, and nothing of it stays after a failure but
what a journal names and another process can go on with.
"""

from __future__ import annotations

from collections.abc import Mapping

import anyio
import anyio.lowlevel
from msgspec import structs

from engine.errors import ChecksumMismatch, EngineError, S3Error
from engine.events import BytesMoved, ObjectDone, PartDone
from engine.options import PLAIN
from engine.protocols import ByteSource, ChecksumAlgorithm
from engine.retry import attempts_of
from engine.transfer.ahead import connections_ahead
from engine.transfer.begin import create_upload
from engine.transfer.checksums import chosen
from engine.transfer.conditional import (
    ConditionalWrite,
    same_bytes,
    upload_until_no_conflict,
)
from engine.transfer.context import TransferContext, uncounted
from engine.transfer.multipart import complete_upload, leave_upload, was_compared
from engine.transfer.parts import Part, PartPlan, plan_parts
from engine.transfer.resume import one_more
from engine.transfer.resume_upload import TakenUpload, Wanted, take_up_upload, taken_up, wanted_of
from engine.transfer.stored_as import options_for
from engine.transfer.workers import run_prepared
from engine.types import (
    ObjectInfo,
    PartReceipt,
    PutReceipt,
    S3Url,
    TransferResult,
    UploadId,
)


async def upload(source: ByteSource, url: S3Url, context: TransferContext) -> TransferResult:
    """Upload ``source`` to ``url``.

    Raises:
        TransferError: The object was not written; an object that was there before is unchanged.
        ObjectExists, ObjectChanged: The condition of ``context.options`` does not hold.
    """
    started = context.clock.monotonic()
    algorithm = chosen(context.config.checksum)
    plan = plan_parts(source.size, context.config)
    if context.options is not PLAIN:
        options = await options_for(source, context.options, context.door)
        context = structs.replace(context, options=options)
    if plan.multipart or context.journal is not None:
        receipt, plan = await _resumed_or_new(source, url, plan, algorithm, context)
    else:
        receipt = await put_whole(source, url, algorithm, context)
    seconds = context.clock.monotonic() - started
    context.emit(ObjectDone(url, source.name, "upload", source.size, len(plan.parts), seconds))
    return TransferResult(
        url=url,
        path=source.name,
        size=source.size,
        etag=receipt.etag,
        parts=len(plan.parts),
        checksum=receipt.checksum,
        verified=was_compared(receipt, algorithm),
        seconds=seconds,
        version_id=receipt.version_id,
    )


async def put_whole(
    source: ByteSource, url: S3Url, algorithm: ChecksumAlgorithm | None, context: TransferContext
) -> PutReceipt:
    """The source by one request."""

    async def is_ours(info: ObjectInfo) -> bool:
        return await context.door.run(same_bytes, source, info)

    write = ConditionalWrite(url, context, is_ours)

    async def put() -> PutReceipt:
        try:
            async with context.limiter.slot(
                url, big=False, size=source.size, held=source.memory is not None
            ):
                return await context.data.put_object(
                    url, source, algorithm, options=context.options
                )
        except EngineError as error:
            await _look_at_source(source, error, context)
            write.failed(error)
            raise

    try:
        receipt, attempts = await context.retrier.run("put object", url, put)
    except EngineError as error:
        receipt, attempts = await write.settle(error), attempts_of(error)
    context.emit(PartDone(url, None, attempts))
    context.emit(BytesMoved(url, source.size))
    return receipt


async def _resumed_or_new(
    source: ByteSource,
    url: S3Url,
    plan: PartPlan,
    algorithm: ChecksumAlgorithm | None,
    context: TransferContext,
) -> tuple[PutReceipt, PartPlan]:
    """What an earlier process began and this one can go on with, or an upload from the start; and
    by which plan."""
    wanted = wanted_of(source, url, algorithm, context)
    taken = await take_up_upload(wanted, context)
    if taken is not None and taken.finished is not None:
        return taken.finished, taken.plan
    if taken is None and not plan.multipart:
        return await put_whole(source, url, algorithm, context), plan
    plan = plan if taken is None else taken.plan
    receipt = await upload_until_no_conflict(
        lambda number: _upload_in_parts(
            source,
            wanted,
            plan,
            context if number == 1 else uncounted(context),
            taken if number == 1 else None,
        )
    )
    return receipt, plan


async def _upload_in_parts(
    source: ByteSource,
    wanted: Wanted,
    plan: PartPlan,
    context: TransferContext,
    taken: TakenUpload | None,
) -> PutReceipt:
    url, algorithm = wanted.url, wanted.algorithm
    if taken is not None:
        upload_id, there = taken.upload_id, taken.receipts
        with taken_up(url, taken, context):
            return await _send_parts(source, url, upload_id, there, plan, algorithm, context)
    record = wanted.record(plan.part_size)
    async with connections_ahead(url, context, len(plan.parts)) as ahead:
        upload_id = await create_upload(url, algorithm, context, record)
        ahead.answered = True
        return await _send_parts(source, url, upload_id, {}, plan, algorithm, context)


async def _send_parts(
    source: ByteSource,
    url: S3Url,
    upload_id: UploadId,
    there: Mapping[int, PartReceipt],
    plan: PartPlan,
    algorithm: ChecksumAlgorithm | None,
    context: TransferContext,
) -> PutReceipt:
    async def summed(part: Part) -> int | None:
        if algorithm is None:
            return None
        return await context.data.sum_part(source, part.offset, part.length, algorithm)

    async def send(part: Part, crc: int | None) -> PartReceipt:
        return await _send_part(source, url, upload_id, part, algorithm, context, crc)

    try:
        await anyio.lowlevel.checkpoint_if_cancelled()
        missing = [part for part in plan.parts if part.number not in there]
        sent = await run_prepared(
            missing,
            summed,
            send,
            context.config.parts_at_first,
            one_more(context, plan),
        )
        await context.door.run(source.check_unchanged)
        receipts = sorted([*there.values(), *sent], key=lambda receipt: receipt.number)
        receipt = await complete_upload(url, upload_id, receipts, plan.size, algorithm, context)
    except BaseException as error:
        await leave_upload(url, upload_id, error, context)
        raise
    if context.journal is not None:
        await context.journal.ended()
    return receipt


async def _send_part(
    source: ByteSource,
    url: S3Url,
    upload_id: UploadId,
    part: Part,
    algorithm: ChecksumAlgorithm | None,
    context: TransferContext,
    crc: int | None,
) -> PartReceipt:
    async def send() -> PartReceipt:
        nonlocal crc
        summed, crc = crc, None  # another attempt sums again: the sum may have been wrong
        try:
            async with context.limiter.slot(
                url, big=True, size=part.length, held=source.memory is not None
            ):
                with context.limiter.slow_parts.watching("upload part", url, part.length):
                    return await context.data.upload_part(
                        url,
                        upload_id,
                        part.number,
                        source,
                        part.offset,
                        part.length,
                        algorithm,
                        crc=summed,
                        options=context.options,
                    )
        except EngineError as error:
            await _look_at_source(source, error, context)
            raise

    receipt, attempts = await context.retrier.run("upload part", url, send)
    if context.journal is not None:
        await context.journal.part_done(receipt)
    context.emit(PartDone(url, part.range, attempts))
    context.emit(BytesMoved(url, part.length))
    return receipt


async def _look_at_source(source: ByteSource, error: EngineError, context: TransferContext) -> None:
    """A refused checksum may have been right for bytes that are others by now: then sending them
    again would only make an object of some mixture.

    Raises:
        SourceChanged: The source is no longer what it was when it was opened.
    """
    refused = isinstance(error, S3Error) and error.s3_code == "BadDigest"
    if refused or isinstance(error, ChecksumMismatch):
        await context.door.run(source.check_unchanged)
