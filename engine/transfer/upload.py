"""upload(): one source to one object, whole or in parts.

An object under the threshold takes the same path with a plan of one part and no upload id.
Nothing of an upload is visible before the last answer, and nothing of it stays after a failure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from hashlib import md5

import anyio
import anyio.lowlevel

from engine.errors import (
    AccessDenied,
    ChecksumMismatch,
    ConnectionFailed,
    EngineError,
    NotFound,
    TransferError,
)
from engine.events import BytesMoved, ObjectDone, PartDone, UploadLeft
from engine.options import PLAIN
from engine.protocols import ByteSource, ChecksumAlgorithm
from engine.transfer.checksums import NONE, chosen
from engine.transfer.conditional import (
    ConditionalWrite,
    same_bytes,
    upload_until_no_conflict,
)
from engine.transfer.context import TransferContext, uncounted
from engine.transfer.parts import Part, PartPlan, plan_parts
from engine.transfer.stored_as import options_for
from engine.transfer.workers import run_parts
from engine.types import (
    Checksum,
    ObjectInfo,
    PartReceipt,
    PutReceipt,
    S3Url,
    TransferResult,
    UploadId,
)

# Seconds for aborting an upload after a failure or a cancellation, renewal of an expired lease
# included.
ABORT_SECONDS = 30.0
# Parts that were on their way may land after the abort; S3's page of AbortMultipartUpload says
# to abort until ListParts is empty.
_MAX_ABORTS = 5


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
        context = replace(context, options=options)
    if plan.multipart:
        receipt = await upload_until_no_conflict(
            lambda number: _upload_in_parts(
                source, url, plan, algorithm, context if number == 1 else uncounted(context)
            )
        )
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
        # S3 computes and tells a checksum also where none was sent to compare.
        verified=algorithm is not None
        and receipt.checksum is not None
        and receipt.checksum.full_object,
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
            async with context.limiter.slot(big=False, size=source.size):
                return await context.data.put_object(
                    url, source, algorithm, options=context.options
                )
        except EngineError as error:
            return await write.settle(error)

    receipt, attempts = await context.retrier.run("put object", url, put)
    context.emit(PartDone(url, None, attempts))
    context.emit(BytesMoved(url, source.size))
    return receipt


async def _upload_in_parts(
    source: ByteSource,
    url: S3Url,
    plan: PartPlan,
    algorithm: ChecksumAlgorithm | None,
    context: TransferContext,
) -> PutReceipt:
    upload_id = await create_upload(url, algorithm, context)

    async def send(part: Part) -> PartReceipt:
        return await _send_part(source, url, upload_id, part, algorithm, context)

    try:
        await anyio.lowlevel.checkpoint_if_cancelled()
        receipts = await run_parts(plan.parts, send, context.config.max_parts_in_flight)
        await context.door.run(source.check_unchanged)
        return await complete_upload(url, upload_id, receipts, plan.size, algorithm, context)
    except BaseException as error:
        await abort_upload(url, upload_id, error, context)
        raise


async def create_upload(
    url: S3Url, algorithm: ChecksumAlgorithm | None, context: TransferContext
) -> UploadId:
    """Shielded for a while: an upload whose id came too late would be nobody's."""
    if context.lease is not None:
        await context.lease.ready()  # may take a minute, and there is nothing yet to be lost
    with anyio.move_on_after(ABORT_SECONDS, shield=True):
        upload_id, _ = await context.retrier.run(
            "create multipart upload",
            url,
            lambda: context.control.create_multipart_upload(
                url, algorithm, options=context.options
            ),
        )
        return upload_id
    raise ConnectionFailed(f"create multipart upload of {url} took over {ABORT_SECONDS:.0f} s")


async def _send_part(
    source: ByteSource,
    url: S3Url,
    upload_id: UploadId,
    part: Part,
    algorithm: ChecksumAlgorithm | None,
    context: TransferContext,
) -> PartReceipt:
    async def send() -> PartReceipt:
        async with context.limiter.slot(big=True, size=part.length):
            return await context.data.upload_part(
                url,
                upload_id,
                part.number,
                source,
                part.offset,
                part.length,
                algorithm,
                options=context.options,
            )

    receipt, attempts = await context.retrier.run("upload part", url, send)
    context.emit(PartDone(url, part.range, attempts))
    context.emit(BytesMoved(url, part.length))
    return receipt


async def complete_upload(
    url: S3Url,
    upload_id: UploadId,
    receipts: Sequence[PartReceipt],
    size: int,
    algorithm: ChecksumAlgorithm | None,
    context: TransferContext,
) -> PutReceipt:
    """Make the object of its parts; the sums of the parts, combined, are the object's."""
    assert sum(part.size for part in receipts) == size
    checksum = _whole_checksum(receipts, algorithm) if algorithm is not None else None
    tries = 0

    async def is_ours(info: ObjectInfo) -> bool:
        return _is_of(info, checksum, receipts)

    write = ConditionalWrite(url, context, is_ours, in_parts=True)

    async def complete() -> PutReceipt:
        nonlocal tries
        tries += 1
        try:
            return await context.control.complete_multipart_upload(
                url, upload_id, receipts, checksum, size, options=context.options
            )
        except NotFound as error:
            # The answer to an earlier try was lost, and that try had worked.
            if tries > 1 and error.s3_code == "NoSuchUpload":
                return await _settle(url, checksum, receipts, error, context)
            return await write.settle(error)
        except EngineError as error:
            return await write.settle(error)

    receipt, _ = await context.retrier.run("complete multipart upload", url, complete)
    if not receipt.etag.strip('"'):
        receipt = await _look_up(url, receipt, size, context)
    if (
        checksum is not None
        and receipt.checksum is not None
        and receipt.checksum.full_object
        and receipt.checksum != checksum
    ):
        raise ChecksumMismatch(
            f"S3 has {receipt.checksum} for {url}, the bytes sent have {checksum}",
            fix="Upload it again; do not use the object",
        )
    return receipt


def _whole_checksum(receipts: Sequence[PartReceipt], algorithm: ChecksumAlgorithm) -> Checksum:
    whole = reduce(lambda crc, part: algorithm.combine(crc, part.crc or 0, part.size), receipts, 0)
    return Checksum(algorithm.name, algorithm.encode(whole))


async def _look_up(
    url: S3Url, receipt: PutReceipt, size: int, context: TransferContext
) -> PutReceipt:
    """Ceph answers Complete with an empty ETag; HEAD has it, and the size to compare."""
    try:
        info, _ = await context.retrier.run(
            "head object",
            url,
            lambda: context.control.head_object(
                url, options=context.options, checksum=context.config.checksum != NONE
            ),
        )
    except AccessDenied:
        return receipt  # a role that may write and not read: Complete has said that it is done
    if info.size != size:
        raise ChecksumMismatch(
            f"S3 has {info.size} bytes for {url}, {size} were sent",
            fix="Upload it again; do not use the object",
        )
    return PutReceipt(
        info.etag, receipt.checksum or info.checksum, receipt.version_id or info.version_id
    )


async def _settle(
    url: S3Url,
    checksum: Checksum | None,
    receipts: Sequence[PartReceipt],
    error: NotFound,
    context: TransferContext,
) -> PutReceipt:
    """Did a Complete whose answer was lost make this object? By size and full-object checksum, or
    by the ETag of exactly these parts where the store keeps no such checksum."""
    info = await context.control.head_object(
        url, options=context.options, checksum=context.config.checksum != NONE
    )
    if _is_of(info, checksum, receipts):
        return PutReceipt(info.etag, info.checksum, info.version_id)
    raise error


def _is_of(info: ObjectInfo, checksum: Checksum | None, receipts: Sequence[PartReceipt]) -> bool:
    """Whether the object is the one of these parts."""
    comparable = checksum is not None and info.checksum is not None and info.checksum.full_object
    same = info.checksum == checksum if comparable else info.etag == _etag_of(receipts)
    return same and info.size == sum(part.size for part in receipts)


def _etag_of(receipts: Sequence[PartReceipt]) -> str | None:
    """The ETag of a multipart object: MD5 of its parts' MD5s. None where theirs are none.

    Under KMS or a customer's key they are none and may look like some: the object's ETag is then
    another, and an object without a checksum cannot be told from somebody else's.
    """
    try:
        digests = b"".join(bytes.fromhex(part.etag.strip('"')) for part in receipts)
    except ValueError:
        return None
    return f'"{md5(digests, usedforsecurity=False).hexdigest()}-{len(receipts)}"'


async def abort_upload(
    url: S3Url, upload_id: UploadId, error: BaseException, context: TransferContext
) -> None:
    """Leave no part behind. Under a fresh lease if the old one is why we are here."""
    reason = f"not done in {ABORT_SECONDS:.0f} s"
    with anyio.move_on_after(ABORT_SECONDS, shield=True):
        try:
            await _abort_until_empty(url, upload_id, context)
            return
        except EngineError as failure:
            reason = failure.headline
    # An event as well as a note: of a cancellation nobody reads the notes.
    context.emit(UploadLeft(url, upload_id, reason))
    error.add_note(f"parts of {url} stay at S3 under upload id {upload_id}: {reason}")


async def _abort_until_empty(url: S3Url, upload_id: UploadId, context: TransferContext) -> None:
    for _ in range(_MAX_ABORTS):
        try:
            await context.retrier.run(
                "abort multipart upload",
                url,
                lambda: context.control.abort_multipart_upload(
                    url, upload_id, options=context.options
                ),
            )
        except NotFound:
            return
        try:
            parts, _ = await context.retrier.run(
                "list parts",
                url,
                lambda: context.control.list_parts(url, upload_id, options=context.options),
            )
        except AccessDenied:
            return  # the abort was accepted, and looking again is not allowed
        if not parts:
            return
    raise TransferError("parts keep arriving")
