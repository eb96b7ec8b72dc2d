"""The life of an upload in parts: begun, made an object, or gone without a trace.

Rules of this file
- An upload that was begun ends: as an object, or aborted until no part is left. Or a journal names
  it, and another process can go on with it.
- A checksum that S3 answers with is compared, whatever its type.
- A lost answer to Complete is no failure yet: the upload is ended for good, and then HEAD says
  whether the object is the one that was sent.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Sequence
from functools import reduce
from hashlib import md5

import anyio
import msgspec

from engine.errors import (
    AccessDenied,
    ChecksumMismatch,
    ConnectionFailed,
    EngineError,
    NotFound,
    S3Error,
    TransferError,
)
from engine.events import UploadKept, UploadLeft
from engine.protocols import ChecksumAlgorithm
from engine.records import UploadRecord
from engine.shield import to_the_end
from engine.transfer.checksums import NONE
from engine.transfer.conditional import ConditionalWrite
from engine.transfer.context import TransferContext
from engine.transfer.look import may_have_worked
from engine.transfer.nameless import Asking, abort_twins
from engine.transfer.patience import Patience
from engine.transfer.resume import outlives, reason_of
from engine.types import Checksum, ObjectInfo, PartReceipt, PutReceipt, S3Url, UploadId

# Seconds for aborting an upload after a failure or a cancellation, renewal of an expired lease
# included.
ABORT_SECONDS = 30.0
# The same for who was stopped, where a journal has the upload's id, or that there may be one.
STOP_SECONDS = 3.0
# Parts that were on their way may land after the abort; S3's page of AbortMultipartUpload says
# to abort until ListParts is empty.
_MAX_ABORTS = 5


async def create_upload(
    url: S3Url,
    algorithm: ChecksumAlgorithm | None,
    context: TransferContext,
    record: UploadRecord | None = None,
) -> UploadId:
    """Not cut short: an upload whose id came too late would be nobody's.

    Args:
        record: What the context's journal is to keep of it, but for the id.
    """
    journal = context.journal if record is not None else None
    if context.lease is not None:
        await context.lease.ready()  # may take a minute, and there is nothing yet to be lost
    asking = Asking(journal, context.clock)
    await asking.tell()
    made: list[UploadId] = []
    named = False
    lost = 0

    async def ask() -> UploadId:
        nonlocal lost
        await asking.tell()
        lost += 1  # until it is known; nobody hears of a try that is out of time
        try:
            async with context.limiter.turn(url):
                upload_id = await context.control.create_multipart_upload(
                    url, algorithm, options=context.options
                )
        except EngineError as error:
            lost -= not may_have_worked(error)
            raise
        lost -= 1
        return upload_id

    async def create() -> None:
        nonlocal named, lost
        with anyio.move_on_after(ABORT_SECONDS):
            upload_id, _ = await context.retrier.run("create multipart upload", url, ask)
            made.append(upload_id)
            context.own_uploads.begun(upload_id)
        if made and journal is not None and record is not None:
            begun = msgspec.structs.replace(record, upload_id=made[0], lost=lost)
            await journal.upload_begun(begun)
            named = True
            if lost:
                with anyio.move_on_after(ABORT_SECONDS), contextlib.suppress(TransferError):
                    lost -= await abort_twins(url, made[0], context)
                if not lost:  # else a later process looks again: one may still be on its way
                    await journal.upload_begun(msgspec.structs.replace(begun, lost=0))

    try:
        # A journal knows that there may be an upload: then nobody has to wait long for its id.
        with context.own_uploads.creating(url):
            await to_the_end(create(), None if journal is None else STOP_SECONDS)
    except BaseException as error:
        if made:
            await leave_upload(url, made[0], error, context, named=named)
        elif journal is not None and isinstance(error, EngineError) and not lost:
            await journal.ended()
        raise
    finally:
        # Not aborted by a guess: a listing tells uploads of one key apart by who began them and
        # when, and another process of the same user or role may be at work on the same key.
        for _ in range(lost):
            context.emit(UploadLeft(url, "", "the answer that had its upload id was lost"))
    if not made:
        raise ConnectionFailed(f"create multipart upload of {url} took over {ABORT_SECONDS:.0f} s")
    return made[0]


async def complete_upload(
    url: S3Url,
    upload_id: UploadId,
    receipts: Sequence[PartReceipt],
    size: int,
    algorithm: ChecksumAlgorithm | None,
    context: TransferContext,
) -> PutReceipt:
    """Make the object of its parts; the sums of the parts, combined, are the object's.

    Raises:
        ChecksumMismatch: S3 has another object than was sent.
        TransferError: It was not made; or it cannot be told, and the error says so.
    """
    assert sum(part.size for part in receipts) == size
    sums = sums_of(receipts, algorithm) if algorithm is not None else ()
    declared = sums[0] if sums else None
    tries = 0

    async def is_ours(info: ObjectInfo) -> bool:
        return is_of(info, sums, receipts)

    write = ConditionalWrite(url, context, is_ours, in_parts=True)
    patience = Patience("complete multipart upload", url)

    async def complete() -> PutReceipt:
        nonlocal tries
        tries += 1
        try:
            async with context.limiter.turn(url):
                with patience.of_a_try():
                    return await context.control.complete_multipart_upload(
                        url, upload_id, receipts, declared, size, options=context.options
                    )
        except EngineError as error:
            gone = isinstance(error, NotFound) and error.s3_code == "NoSuchUpload"
            if gone and (tries > 1 or context.journal is not None):
                # The answer to an earlier try, or of an earlier process, was lost; it had worked.
                return await _look_for(url, sums, receipts, error, context)
            if isinstance(error, S3Error) and error.s3_code == "BadDigest":
                # Each part was accepted with its own, so asking again would not help.
                raise TransferError(
                    f"S3 adds the parts of {url} up to another checksum than was sent",
                    fix="Nothing was stored; upload it again",
                ) from error
            return await _ended(await write.settle(error), url, upload_id, context)

    try:
        receipt, _ = await context.retrier.run("complete multipart upload", url, complete)
    except EngineError as error:
        if not may_have_worked(error):
            raise
        if context.journal is None:
            receipt = await _settle(url, upload_id, sums, receipts, error, context)
        else:  # whoever goes on will see; the parts are not to be lost
            receipt = await _look_for(url, sums, receipts, error, context)
            await _ended(receipt, url, upload_id, context)
    if not receipt.etag.strip('"'):
        receipt = await _look_up(url, receipt, size, context)
    stored = receipt.checksum
    if sums and stored is not None and stored.algorithm == sums[0].algorithm:
        if stored.value not in {checksum.value for checksum in sums}:
            mismatch = ChecksumMismatch(
                f"S3 has {stored} for {url}, the bytes sent have {sums[0]}",
                fix="Upload it again; do not use the object",
            )
            # The bit may have flipped in the answer.
            receipt = await _look_for(url, sums, receipts, mismatch, context)
    context.own_uploads.over(upload_id)
    return receipt


def was_compared(receipt: PutReceipt, algorithm: ChecksumAlgorithm | None) -> bool:
    """Whether what S3 says of a written object was compared with the bytes that were sent. S3
    computes and tells a checksum also where none was sent."""
    stored = receipt.checksum
    return algorithm is not None and stored is not None and stored.algorithm == algorithm.name


def sums_of(
    receipts: Sequence[PartReceipt], algorithm: ChecksumAlgorithm
) -> tuple[Checksum, Checksum, Checksum]:
    """What S3 may say of the object: the checksum of all bytes, which is declared; that of the
    parts' checksums, from a store that makes nothing else; the same with their number left out,
    as older stores do."""
    whole = reduce(lambda crc, part: algorithm.combine(crc, part.crc or 0, part.size), receipts, 0)
    digests = b"".join(base64.b64decode(algorithm.encode(part.crc or 0)) for part in receipts)
    composite = algorithm.encode(algorithm.update(digests))
    return (
        Checksum(algorithm.name, algorithm.encode(whole)),
        Checksum(algorithm.name, f"{composite}-{len(receipts)}", full_object=False),
        Checksum(algorithm.name, composite, full_object=False),
    )


async def _look_up(
    url: S3Url, receipt: PutReceipt, size: int, context: TransferContext
) -> PutReceipt:
    """Ceph answers Complete with an empty ETag; HEAD has it, and the size to compare."""
    try:
        info, _ = await context.ask(
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
    upload_id: UploadId,
    sums: Sequence[Checksum],
    receipts: Sequence[PartReceipt],
    error: EngineError,
    context: TransferContext,
) -> PutReceipt:
    """Every answer to Complete was lost. An upload that was aborted will not become an object any
    more, so after that HEAD has the last word.

    Raises:
        EngineError: ``error``, where the object is not there.
    """
    with anyio.move_on_after(ABORT_SECONDS):
        try:
            await abort_until_empty(url, upload_id, context)
            return await _look_for(url, sums, receipts, error, context)
        except EngineError as failure:
            if failure is error:
                raise
    error.add_note(f"whether {url} was written is unknown: it could not be looked at")
    raise error


async def _ended(
    receipt: PutReceipt, url: S3Url, upload_id: UploadId, context: TransferContext
) -> PutReceipt:
    """``receipt``, of an object that is there though Complete was not answered so: it may be an
    older one of the very same bytes, and the upload open still."""
    reason = f"not done in {ABORT_SECONDS:.0f} s"
    with anyio.move_on_after(ABORT_SECONDS):
        try:
            await abort_until_empty(url, upload_id, context)
            return receipt
        except EngineError as failure:
            reason = failure.headline
    context.emit(UploadLeft(url, upload_id, reason))
    return receipt


async def _look_for(
    url: S3Url,
    sums: Sequence[Checksum],
    receipts: Sequence[PartReceipt],
    error: EngineError,
    context: TransferContext,
) -> PutReceipt:
    """Did a Complete whose answer was lost make this object? By size and checksum, or by the ETag
    of exactly these parts where the store keeps no such checksum.

    Raises:
        EngineError: ``error``, where another object is there, or none.
        TransferError: The role may not look.
    """
    try:
        info, _ = await context.ask(
            "head object",
            url,
            lambda: context.control.head_object(
                url, options=context.options, checksum=context.config.checksum != NONE
            ),
        )
    except NotFound:
        raise error from None
    except AccessDenied as denied:
        if isinstance(error, ChecksumMismatch):
            raise error from None
        raise TransferError(
            f"the answer to complete multipart upload of {url} was lost, and the upload is over: "
            "it was written most likely",
            fix="Look whether it is there; the role needs s3:GetObject to do that by itself",
        ) from denied
    if is_of(info, sums, receipts):
        return PutReceipt(info.etag, info.checksum, info.version_id)
    raise error


def is_of(info: ObjectInfo, sums: Sequence[Checksum], receipts: Sequence[PartReceipt]) -> bool:
    """Whether the object is the one of these parts."""
    stored = info.checksum
    if sums and stored is not None and stored.algorithm == sums[0].algorithm:
        same = stored.value in {checksum.value for checksum in sums}
    else:
        same = info.etag == _etag_of(receipts)
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


async def leave_upload(
    url: S3Url,
    upload_id: UploadId,
    error: BaseException,
    context: TransferContext,
    *,
    named: bool = True,
) -> None:
    """The end of an upload that did not become an object: kept, where a journal names it and
    another process can go on with it; else aborted.

    Args:
        named: Whether the journal of the context, if it has one, has the upload.
    """
    if context.journal is not None and named and outlives(error):
        context.emit(UploadKept(url, upload_id, reason_of(error)))
        return
    await abort_upload(url, upload_id, error, context)


async def abort_upload(
    url: S3Url, upload_id: UploadId, error: BaseException, context: TransferContext
) -> None:
    """Leave no part behind. Under a fresh lease if the old one is why we are here."""
    journal = context.journal
    reason = f"not done in {ABORT_SECONDS:.0f} s"
    done = False

    async def abort() -> None:
        nonlocal reason, done
        with anyio.move_on_after(ABORT_SECONDS):
            try:
                await abort_until_empty(url, upload_id, context)
                done = True
                context.own_uploads.over(upload_id)
            except EngineError as failure:
                reason = failure.headline
        if done and journal is not None:
            await journal.ended()

    try:
        await to_the_end(abort(), None if journal is None else STOP_SECONDS)
    finally:
        if not done:
            # An event as well as a note: of a cancellation nobody reads the notes.
            context.emit(UploadLeft(url, upload_id, reason))
            error.add_note(f"parts of {url} stay at S3 under upload id {upload_id}: {reason}")


async def abort_until_empty(url: S3Url, upload_id: UploadId, context: TransferContext) -> None:
    """Abort, until no part that was on its way has landed since.

    Raises:
        TransferError, CredentialsError: It could not be.
    """
    for _ in range(_MAX_ABORTS):
        try:
            await context.ask(
                "abort multipart upload",
                url,
                lambda: context.control.abort_multipart_upload(
                    url, upload_id, options=context.options
                ),
            )
        except NotFound:
            return
        try:
            parts, _ = await context.ask(
                "list parts",
                url,
                lambda: context.control.list_parts(url, upload_id, options=context.options),
            )
        except AccessDenied:
            return  # the abort was accepted, and looking again is not allowed
        if not parts:
            return
    raise TransferError("parts keep arriving")
