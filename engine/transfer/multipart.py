"""The end of an upload in parts: made an object, kept for another process, or gone without a trace.

Rules of this file
- An upload that was begun ends: as an object, or aborted until no part is left. Or a journal names
  it, and another process can go on with it.
- A checksum that S3 answers with is compared, whatever its type.
- A lost answer to Complete is no failure yet: the upload is ended for good, and then HEAD says
  whether the object is the one that was sent.

What must not live here: its beginning (``begin.py``).

https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import reduce
from hashlib import md5

import anyio

from engine.errors import (
    AccessDenied,
    ChecksumMismatch,
    EngineError,
    NotFound,
    S3Error,
    TransferError,
)
from engine.events import UploadKept, UploadLeft
from engine.protocols import ChecksumAlgorithm
from engine.shield import to_the_end
from engine.transfer.conditional import ConditionalWrite
from engine.transfer.context import TransferContext
from engine.transfer.look import Answer, Seen, look, may_have_worked
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
    sums: Sequence[Checksum] = sums_of(receipts, algorithm) if algorithm is not None else ()

    async def is_ours(info: ObjectInfo) -> bool:
        return is_of(info, sums, receipts)

    write = ConditionalWrite(url, context, is_ours, in_parts=True)
    try:
        receipt = await _complete(url, upload_id, receipts, sums, size, write, context)
    except EngineError as error:
        receipt = await _outcome(url, upload_id, error, write, context)
    if not receipt.etag.strip('"'):
        receipt = await _with_etag(url, receipt, size, context)
    if not _may_be_of(receipt, sums):
        mismatch = ChecksumMismatch(
            f"S3 has {receipt.checksum} for {url}, the bytes sent have {sums[0]}",
            fix="Upload it again; do not use the object",
        )
        # The bit may have flipped in the answer.
        receipt = (await write.look()).or_raise(mismatch, "upload")
    context.own_uploads.over(upload_id)
    return receipt


async def _complete(
    url: S3Url,
    upload_id: UploadId,
    receipts: Sequence[PartReceipt],
    sums: Sequence[Checksum],
    size: int,
    write: ConditionalWrite,
    context: TransferContext,
) -> PutReceipt:
    """Have S3 put the parts together, in as many tries as there is time for."""
    declared = sums[0] if sums else None
    patience = Patience("complete multipart upload", url)

    async def ask() -> PutReceipt:
        try:
            async with context.limiter.turn(url):
                with patience.of_a_try():
                    return await context.control.complete_multipart_upload(
                        url, upload_id, receipts, declared, size, options=context.options
                    )
        except EngineError as error:
            write.failed(error)
            if isinstance(error, S3Error) and error.s3_code == "BadDigest":
                # Each part was accepted with its own, so asking again would not help.
                raise TransferError(
                    f"S3 adds the parts of {url} up to another checksum than was sent",
                    fix="Nothing was stored; upload it again",
                ) from error
            raise

    receipt, _ = await context.retrier.run("complete multipart upload", url, ask)
    return receipt


async def _outcome(
    url: S3Url,
    upload_id: UploadId,
    error: EngineError,
    write: ConditionalWrite,
    context: TransferContext,
) -> PutReceipt:
    """What came of a Complete whose last try failed with ``error``.

    Raises:
        EngineError: ``error``, where it made no object of ours, or that cannot be told.
    """
    gone = isinstance(error, NotFound) and error.s3_code == "NoSuchUpload"
    if gone and (write.failures > 1 or context.journal is not None):
        # The answer to an earlier try, or of an earlier process, was lost; it had worked.
        seen = (await write.look()).unless_failed()
        if seen.answer is Answer.UNTOLD:
            raise TransferError(
                f"the answer to complete multipart upload of {url} was lost, and the upload is "
                "over: it was written most likely",
                fix="Look whether it is there; the role needs s3:GetObject to do that by itself",
            ) from seen.why
        return seen.or_raise(error, "upload")
    if may_have_worked(error):
        seen = await _look_at_the_end(url, upload_id, write, context)
        receipt = seen.or_raise(error, "upload")
        if context.journal is None:
            return receipt  # of an upload that was ended before the look
    else:
        receipt = await write.settle(error)
    return await _ended(receipt, url, upload_id, context)


async def _look_at_the_end(
    url: S3Url, upload_id: UploadId, write: ConditionalWrite, context: TransferContext
) -> Seen:
    """Every answer to Complete was lost. An upload that was aborted will not become an object any
    more, so what is seen after that is the last word. One that a journal names is left: whoever
    goes on with it will see, and its parts are not to be lost."""
    with anyio.move_on_after(ABORT_SECONDS):
        try:
            if context.journal is None:
                await abort_until_empty(url, upload_id, context)
        except EngineError as failure:
            return Seen(url, Answer.UNTOLD, why=failure)
        return await write.look()
    return Seen(url, Answer.UNTOLD)


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


async def _with_etag(
    url: S3Url, receipt: PutReceipt, size: int, context: TransferContext
) -> PutReceipt:
    """Ceph answers Complete with an empty ETag; HEAD has it, and the size to compare."""

    async def is_as_long(info: ObjectInfo) -> bool:
        return info.size == size

    seen = (await look(url, is_as_long, context)).unless_failed()
    found = seen.info
    if found is None:
        if seen.answer is Answer.NONE and seen.why is not None:
            raise seen.why
        return receipt  # a role that may write and not read: Complete has said that it is done
    if seen.answer is not Answer.OURS:
        raise ChecksumMismatch(
            f"S3 has {found.size} bytes for {url}, {size} were sent",
            fix="Upload it again; do not use the object",
        )
    return PutReceipt(
        found.etag, receipt.checksum or found.checksum, receipt.version_id or found.version_id
    )


def _may_be_of(receipt: PutReceipt, sums: Sequence[Checksum]) -> bool:
    """Whether the checksum of an answer is none of another object than was sent."""
    stored = receipt.checksum
    if not sums or stored is None or stored.algorithm != sums[0].algorithm:
        return True
    return stored.value in {checksum.value for checksum in sums}


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
