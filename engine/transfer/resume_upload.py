"""An upload in parts that an earlier process began: what of it can be gone on with.

Rules of this file
- S3 is the truth: a part is there if ListParts has it, whatever the journal says.
- A part is taken if it is the one of the plan, and its bytes are those of the source: by the
  receipt of whoever sent it, or by a sum of the source that is made now.
- A source that is another one by now is uploaded anew, with a word.
- An upload that S3 does not have may have become the object just before the death: HEAD says.
- An upload whose id nobody knows is aborted where it is certainly ours (``nameless.py``).

https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListParts.html
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import md5

import anyio
import msgspec
from msgspec import Struct

from engine.errors import AccessDenied, EngineError, NotFound
from engine.events import BytesMoved, StartedOver, TakenUp
from engine.protocols import ByteSource, ChecksumAlgorithm, ObjectJournal
from engine.records import UploadRecord
from engine.transfer.conditional import UploadAgain
from engine.transfer.context import TransferContext
from engine.transfer.look import Answer, Seen, look
from engine.transfer.multipart import abort_upload, is_of, sums_of
from engine.transfer.nameless import abort_nameless
from engine.transfer.parts import Part, PartPlan, plan_of
from engine.transfer.workers import run_parts
from engine.types import (
    Checksum,
    ListedPart,
    MiB,
    ObjectInfo,
    PartReceipt,
    PutReceipt,
    S3Url,
    UploadId,
)

Examine = Callable[[Part, ListedPart], Awaitable[PartReceipt | None]]
"""A part that S3 has and no journal knows: its receipt, or None if its bytes are not the source's,
or that cannot be told."""

# Parts of which sums are made at once: each reads the disk, and is a core's work.
_AT_ONCE = 4
_BLOCK = MiB
# Seconds between looks at an object that may be about to appear.
_LOOKS = (0.5, 1.0, 2.0)
_MD5 = re.compile("[0-9a-f]{32}")


class TakenUpload(Struct, frozen=True):
    """An upload to go on with.

    Attributes:
        receipts: The parts that need not be sent.
        finished: It was completed already, with this result.
    """

    upload_id: UploadId
    plan: PartPlan
    receipts: Mapping[int, PartReceipt]
    finished: PutReceipt | None = None


class Wanted(Struct, frozen=True):
    """What is to be uploaded now.

    Attributes:
        examine: See ``Examine``.
        is_made: Whether an object of as many bytes and parts as the plan is the one that it makes.
    """

    url: S3Url
    size: int
    version: str
    algorithm: ChecksumAlgorithm | None
    examine: Examine
    is_made: Callable[[PartPlan, ObjectInfo], Awaitable[bool]]

    @property
    def algorithm_name(self) -> str:
        return self.algorithm.name if self.algorithm is not None else ""

    def record(self, part_size: int) -> UploadRecord:
        """What a journal keeps of an upload of it, but for the id."""
        return UploadRecord(
            upload_id=UploadId(""),
            size=self.size,
            version=self.version,
            part_size=part_size,
            algorithm=self.algorithm_name,
        )


def wanted_of(
    source: ByteSource, url: S3Url, algorithm: ChecksumAlgorithm | None, context: TransferContext
) -> Wanted:
    """The upload of ``source``, whose bytes can be read again."""

    async def examine(part: Part, listed: ListedPart) -> PartReceipt | None:
        return await context.door.run(_compared, source, part, listed, algorithm)

    async def is_made(plan: PartPlan, info: ObjectInfo) -> bool:
        return await _made_of(source, plan, info, algorithm, context)

    return Wanted(url, source.size, source.version, algorithm, examine, is_made)


async def take_up_upload(wanted: Wanted, context: TransferContext) -> TakenUpload | None:
    """What the journal of the context has of the object, as far as it can be gone on with; None to
    begin anew, after what was left is gone.

    Raises:
        TransferError, CredentialsError: S3 cannot be asked.
    """
    journal = context.journal
    if journal is None:
        return None
    record = journal.upload
    for intent in journal.intents:
        await abort_nameless(wanted.url, intent, context, record.upload_id if record else None)
    if record is None:
        return None
    plan = plan_of(wanted.size, record.part_size, context.config)
    reason = _unusable(record, wanted)
    if reason or plan is None:
        await _start_over(wanted.url, record, reason or "its parts do not fit this store", context)
        return None
    try:
        listed, _ = await context.ask(
            "list parts",
            wanted.url,
            lambda: context.control.list_parts(
                wanted.url, record.upload_id, options=context.options
            ),
        )
    except AccessDenied:
        reason = "the role may not list its parts (s3:ListMultipartUploadParts)"
        await _start_over(wanted.url, record, reason, context)
        return None
    if listed is None:
        seen = await _finished(wanted, plan, journal, context)
        if seen.receipt is None:
            await journal.ended()
            came = "without an object"
            if seen.answer is Answer.UNTOLD:
                came = "and the role may not look what it became (s3:GetObject)"
            context.emit(StartedOver(wanted.url, f"its upload is gone from S3, {came}"))
            return None
        context.emit(TakenUp(wanted.url, len(plan.parts), len(plan.parts), plan.size))
        context.emit(BytesMoved(wanted.url, plan.size))
        return TakenUpload(record.upload_id, plan, {}, seen.receipt)
    receipts = await _take(listed, plan, journal, wanted)
    size = sum(receipt.size for receipt in receipts.values())
    context.emit(TakenUp(wanted.url, len(receipts), len(plan.parts), size))
    if size:
        context.emit(BytesMoved(wanted.url, size))
    return TakenUpload(record.upload_id, plan, receipts)


@contextmanager
def taken_up(url: S3Url, taken: TakenUpload | None, context: TransferContext) -> Iterator[None]:
    """Where what was taken up turns out to be over, it is made again: a process aborted it and did
    not hear of that, and parts that landed behind the abort were listed.

    Raises:
        UploadAgain: It is over.
    """
    try:
        yield
    except NotFound as error:
        if taken is None or error.s3_code != "NoSuchUpload":
            raise
        context.emit(StartedOver(url, "its upload was aborted"))
        raise UploadAgain(error) from error


async def drop_upload(url: S3Url, context: TransferContext) -> None:
    """Abort what the journal of the context has of an object that goes by one request now.

    Raises:
        TransferError, CredentialsError: S3 cannot be asked.
    """
    journal = context.journal
    if journal is None:
        return
    record = journal.upload
    for intent in journal.intents:
        await abort_nameless(url, intent, context, record.upload_id if record else None)
    if record is not None:
        await _start_over(url, record, "it goes by one request now", context)


async def _finished(
    wanted: Wanted, plan: PartPlan, journal: ObjectJournal, context: TransferContext
) -> Seen:
    """What became of an upload that is over. One that had all its parts may be on its way to its
    object: S3 takes its time to make one of them.

    Raises:
        TransferError, CredentialsError: S3 cannot be asked.
    """

    async def is_ours(info: ObjectInfo) -> bool:
        # The same bytes by another way may have been stored with other metadata.
        count = info.etag.strip('"').partition("-")[2]
        if info.size != plan.size or count != str(len(plan.parts)):
            return False
        return await wanted.is_made(plan, info)

    async def look_once() -> Seen:
        return (await look(wanted.url, is_ours, context)).unless_failed()

    seen = await look_once()
    for delay in _LOOKS if len(journal.parts) == len(plan.parts) else ():
        if seen.answer in (Answer.OURS, Answer.UNTOLD):
            break
        await anyio.sleep(delay)
        seen = await look_once()
    return seen


def _unusable(record: UploadRecord, wanted: Wanted) -> str:
    """Why no part of the upload fits; empty where some may."""
    if not wanted.version or record.version != wanted.version or record.size != wanted.size:
        return "the source is another one by now"
    if record.algorithm != wanted.algorithm_name:
        return "another checksum is asked for"
    return ""


async def _start_over(
    url: S3Url, record: UploadRecord, reason: str, context: TransferContext
) -> None:
    context.emit(StartedOver(url, reason))
    await abort_upload(url, record.upload_id, EngineError(reason), context)


async def _take(
    listed: Sequence[ListedPart], plan: PartPlan, journal: ObjectJournal, wanted: Wanted
) -> dict[int, PartReceipt]:
    """The parts of the plan that S3 has, by their numbers."""
    there = {part.number: part for part in listed}

    async def look(part: Part) -> tuple[PartReceipt | None]:
        found = there.get(part.number)
        if found is None or found.size != part.length:
            return (None,)
        known = journal.parts.get(part.number)
        if known is not None and _is_receipt_of(known, part, found, wanted.algorithm):
            return (known,)
        return (await wanted.examine(part, found),)

    looked = await run_parts(plan.parts, look, _AT_ONCE)
    return {receipt.number: receipt for (receipt,) in looked if receipt is not None}


def _is_receipt_of(
    known: PartReceipt, part: Part, found: ListedPart, algorithm: ChecksumAlgorithm | None
) -> bool:
    """Whether what was answered when the part was sent is what S3 has now."""
    ours, theirs = known.checksum, found.checksum
    if ours is not None and theirs is not None and ours.algorithm == theirs.algorithm:
        if ours.value != theirs.value:
            return False
    return (
        (known.offset, known.size) == (part.offset, part.length)
        and known.etag.strip('"') == found.etag.strip('"')
        and (known.crc is not None or algorithm is None)
    )


def _compared(
    source: ByteSource, part: Part, listed: ListedPart, algorithm: ChecksumAlgorithm | None
) -> PartReceipt | None:
    """In a thread: the receipt of a part, if S3 says a sum of it that is the source's."""
    told = listed.checksum
    if algorithm is None or told is None or told.algorithm != algorithm.name:
        if not _MD5.fullmatch(listed.etag.strip('"')):
            return None
        receipt = _sum_part(source, part, algorithm, by_md5=True)
        same = receipt.etag.strip('"') == listed.etag.strip('"')
    else:
        receipt = _sum_part(source, part, algorithm)
        same = receipt.checksum is not None and receipt.checksum.value == told.value
    return msgspec.structs.replace(receipt, etag=listed.etag) if same else None


def _sum_part(
    source: ByteSource, part: Part, algorithm: ChecksumAlgorithm | None, *, by_md5: bool = False
) -> PartReceipt:
    """In a thread: what S3 would answer to the part; with ``by_md5`` the ETag too."""
    crc, digest = 0, md5(usedforsecurity=False)
    buffer = memoryview(bytearray(min(_BLOCK, part.length)))
    for offset in range(part.offset, part.offset + part.length, _BLOCK):
        piece = buffer[: min(_BLOCK, part.offset + part.length - offset)]
        source.read_into(offset, piece)
        if algorithm is not None:
            crc = algorithm.update(piece, crc)
        if by_md5:
            digest.update(piece)
    checksum = Checksum(algorithm.name, algorithm.encode(crc)) if algorithm is not None else None
    return PartReceipt(
        number=part.number,
        offset=part.offset,
        size=part.length,
        etag=f'"{digest.hexdigest()}"' if by_md5 else "",
        checksum=checksum,
        crc=crc if algorithm is not None else None,
    )


async def _made_of(
    source: ByteSource,
    plan: PartPlan,
    info: ObjectInfo,
    algorithm: ChecksumAlgorithm | None,
    context: TransferContext,
) -> bool:
    """Whether an object of so many parts is the one of the source."""
    stored = info.checksum
    by_md5 = algorithm is None or stored is None or stored.algorithm != algorithm.name

    async def receipt(part: Part) -> PartReceipt:
        return await context.door.run(lambda: _sum_part(source, part, algorithm, by_md5=by_md5))

    receipts = await run_parts(plan.parts, receipt, _AT_ONCE)
    sums = sums_of(receipts, algorithm) if algorithm is not None else ()
    return is_of(info, sums, receipts)
