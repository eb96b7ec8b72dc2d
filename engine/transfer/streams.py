"""Streams of unknown length to one object: open_write() and upload_stream().

The bytes are kept until it is known whether one request is enough; then in parts, each kept until
S3 has it, since a stream cannot be read again. Parts grow with the stream (``parts.py``), so that
ten thousand of them hold what nobody knew at the start.

Rules of this file
- Nothing is visible before the last byte was sent and its checksum is right; a block that ends
  by an error or a cancellation leaves no object and no part.
- A part waits for memory before it is sent and not before it is filled: what is being sent comes
  to an end by itself, what is being filled may wait for ever.
- A failed part is told at the next write, not by cancelling what the caller does meanwhile.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

import anyio
import anyio.abc

from engine.errors import TransferError, UsageError
from engine.events import BytesMoved, ObjectDone, PartDone
from engine.protocols import ChecksumAlgorithm
from engine.transfer.begin import create_upload
from engine.transfer.checksums import chosen
from engine.transfer.conditional import UploadAgain
from engine.transfer.context import TransferContext
from engine.transfer.multipart import (
    abort_upload,
    complete_upload,
    was_compared,
)
from engine.transfer.parts import Part, growing_part_sizes, raised_part_size
from engine.transfer.pieces import Buffer, StreamSource, pieces_of
from engine.transfer.sources import BytesSource
from engine.transfer.upload import put_whole
from engine.types import PartReceipt, PutReceipt, S3Url, TransferResult, UploadId


async def upload_stream(
    source: StreamSource,
    url: S3Url,
    context: TransferContext,
    *,
    expected_size: int | None = None,
    name: str = "",
) -> TransferResult:
    """Upload all that ``source`` gives to ``url``.

    Raises:
        UsageError: ``source`` gives no bytes, or ``expected_size`` cannot be sent.
        TransferError: The object was not written; an object that was there before is unchanged.
        Exception: Whatever ``source`` raises, as it is.
    """
    name = name or str(getattr(source, "name", "")) or "<stream>"
    upload = StreamUpload(url, context, expected_size)
    async with _sending(upload, context, name):
        with anyio.CancelScope() as reading:
            upload.on_failure = reading.cancel  # a source may wait for ever
            async with aclosing(pieces_of(source, context.door)) as pieces:
                async for piece in pieces:
                    await upload.write(piece)
        upload.on_failure = None
    assert upload.result is not None
    return upload.result


class ObjectWriter:
    """Takes the bytes of one object, in order: ``await writer.write(data)``, data of any sizes."""

    def __init__(self, upload: StreamUpload) -> None:
        self._upload = upload

    async def write(self, data: Buffer) -> None:
        """Take ``data``; returns when the next may come, which is seldom when these are sent.

        After a write that was cancelled or failed the stream cannot go on.

        Raises:
            UsageError: No bytes, or the block has ended.
            TransferError: A part could not be sent, or the stream is longer than can be stored.
        """
        await self._upload.write(data)

    @property
    def bytes_taken(self) -> int:
        """Bytes that were written so far."""
        return self._upload.taken

    @property
    def result(self) -> TransferResult | None:
        """What became of the object; None until the block of ``open_write`` has ended."""
        return self._upload.result

    def __repr__(self) -> str:
        return f"<ObjectWriter {self._upload!r}>"


class StreamUpload:
    """One stream on its way to S3.

    Attributes:
        result: What became of the object; None until ``finish``.
        taken: Bytes so far.
        on_failure: Called when a part has failed for good.
    """

    def __init__(
        self, url: S3Url, context: TransferContext, expected_size: int | None = None
    ) -> None:
        self.result: TransferResult | None = None
        self.on_failure: Callable[[], None] | None = None
        self._url = url
        self._context = context
        self._algorithm = chosen(context.config.checksum)
        self._tasks: anyio.abc.TaskGroup | None = None
        config = context.config
        memory = context.limiter.max_stream_memory
        self._sizes = growing_part_sizes(_first_size(expected_size, context), config.limits, memory)
        self._part_size = next(self._sizes)
        # As long as it may still be an object of one request; no more than may be kept, though.
        self._room = 1 + min(config.multipart_threshold, max(memory, self._part_size))
        self._pending = bytearray()
        self.taken = 0
        self._upload_id: UploadId | None = None
        self._parts = 0
        self._sent = 0
        self._receipts: list[PartReceipt] = []
        self._under_way = anyio.Semaphore(config.parts_at_first)
        self._writing = anyio.Lock(fast_acquire=True)
        self._failed: Exception | None = None
        self._torn = False
        self._closed = False

    def begin(self, tasks: anyio.abc.TaskGroup) -> None:
        """Where parts are sent: the block's task group."""
        self._tasks = tasks

    async def write(self, data: Buffer) -> None:
        """See ``ObjectWriter.write``."""
        try:
            view = memoryview(data).cast("B")
        except TypeError:
            raise UsageError(
                f"a stream was given {type(data).__name__}, not bytes", fix="Encode it"
            ) from None
        async with self._writing:
            if self._closed:
                raise UsageError(f"the stream to {self._url} has ended")
            self.check()
            self._check_length(len(view))
            try:
                await self._take(view)
            except BaseException:
                self._torn = True  # nobody can tell how much of it was taken
                raise
            self.check()

    def check(self) -> None:
        """Raises what a part has failed with, if one has."""
        if self._failed is not None:
            raise self._failed

    async def _take(self, view: memoryview) -> None:
        while view:
            if not self._room:
                raise self._too_long()
            piece = view[: self._room - len(self._pending)]
            self._pending += piece
            self.taken += len(piece)
            view = view[len(piece) :]
            if len(self._pending) == self._room:
                await self._send_full()

    def _check_length(self, more: int) -> None:
        limit = self._context.config.limits.max_object_size
        if self.taken + more > limit:
            raise TransferError(
                f"the stream to {self._url} is longer than an object may be, {limit}"
            )

    async def _send_full(self) -> None:
        """Parts of all that is full of what is pending."""
        if self._upload_id is None:
            self._upload_id = await create_upload(self._url, self._algorithm, self._context)
        pending = self._pending
        while 0 < self._part_size <= len(pending):
            if len(pending) == self._part_size:
                body, pending = pending, bytearray()
            else:
                body, pending = pending[: self._part_size], pending[self._part_size :]
            self._pending = pending
            await self._send(body)
            self._next_size()
        self._room = self._part_size

    def _next_size(self) -> None:
        size = next(self._sizes, None)
        if size is None:
            if self._pending:
                raise self._too_long()
            size = 0
        self._part_size = size

    def _too_long(self) -> TransferError:
        limits = self._context.config.limits
        return TransferError(
            f"the stream to {self._url} is longer than {limits.max_parts} parts of the sizes that "
            f"were planned, {self.taken} bytes",
            fix="Say how long it will be (expected_size, --expected-size), or allow more memory",
        )

    async def _send(self, body: bytearray) -> None:
        self._parts += 1
        part = Part(self._parts, self._sent, len(body))
        self._sent += len(body)
        await self._under_way.acquire()
        try:
            weight = await self._context.limiter.streams.acquire(len(body))
        except BaseException:
            self._under_way.release()
            raise
        assert self._tasks is not None
        self._tasks.start_soon(self._send_part, part, body, weight)

    async def _send_part(self, part: Part, body: bytearray, weight: int) -> None:
        try:
            assert self._upload_id is not None
            self._receipts.append(
                await send_body(
                    body, self._url, self._upload_id, part, self._algorithm, self._context
                )
            )
        except Exception as error:
            self._failed = self._failed or error
            if self.on_failure is not None:
                self.on_failure()
            elif self._closed and self._tasks is not None:
                self._tasks.cancel_scope.cancel()
        finally:
            self._context.limiter.streams.release(weight)
            self._under_way.release()

    async def close(self) -> None:
        """No more bytes: send the rest, unless one request is enough for all."""
        async with self._writing:
            self._closed = True
            self.check()
            if self._torn:
                raise TransferError(
                    f"a write to {self._url} was cut short, so the stream has a hole",
                    fix="Do not go on after a write that was cancelled or failed",
                )
            if self._upload_id is not None and self._pending:
                body, self._pending = self._pending, bytearray()
                await self._send(body)

    async def finish(self, name: str, seconds: Callable[[], float]) -> None:
        """All parts are sent: make the object."""
        self.check()
        context, url = self._context, self._url
        if self._upload_id is None:
            source = BytesSource(self._pending, name)
            receipt = await put_whole(source, url, self._algorithm, context)
        else:
            receipt = await self._complete(self._upload_id)
        parts = max(1, self._parts)
        context.emit(ObjectDone(url, name, "upload", self.taken, parts, seconds()))
        self.result = TransferResult(
            url=url,
            path=name,
            size=self.taken,
            etag=receipt.etag,
            parts=parts,
            checksum=receipt.checksum,
            verified=was_compared(receipt, self._algorithm),
            seconds=seconds(),
            version_id=receipt.version_id,
        )

    async def _complete(self, upload_id: UploadId) -> PutReceipt:
        receipts = sorted(self._receipts, key=lambda receipt: receipt.number)
        assert [receipt.number for receipt in receipts] == list(range(1, self._parts + 1))
        try:
            return await complete_upload(
                self._url, upload_id, receipts, self.taken, self._algorithm, self._context
            )
        except UploadAgain as conflict:
            raise conflict.error from None  # a stream is not there to be sent again

    async def abandon(self, error: BaseException) -> None:
        """Leave nothing at S3."""
        if self._upload_id is not None:
            await abort_upload(self._url, self._upload_id, error, self._context)

    def __repr__(self) -> str:
        return f"{self._url}: {self.taken} bytes, {self._parts} parts"


@asynccontextmanager
async def open_write(
    url: S3Url,
    context: TransferContext,
    *,
    expected_size: int | None = None,
    name: str = "<stream>",
) -> AsyncIterator[ObjectWriter]:
    """Open ``url`` for writing: the object is there when the block has ended well.

    Args:
        expected_size: Bytes that will come, if it is known about: parts are made so large from
            the start that they hold so much.

    Raises:
        UsageError: ``expected_size`` is more than an object may have, or its parts more than
            may be kept in memory.
        TransferError: The object was not written; an object that was there before is unchanged.
    """
    upload = StreamUpload(url, context, expected_size)
    async with _sending(upload, context, name):
        yield ObjectWriter(upload)


@asynccontextmanager
async def _sending(
    upload: StreamUpload, context: TransferContext, name: str
) -> AsyncIterator[None]:
    """The block in which parts are sent: the object at its end, or nothing."""
    started = context.clock.monotonic()
    failed: Exception | None = None
    try:
        async with anyio.create_task_group() as tasks:
            upload.begin(tasks)
            try:
                yield
                await upload.close()
            except Exception as error:
                failed = error  # raised below: the task group would put it into a group
                tasks.cancel_scope.cancel()
        if failed is not None:
            raise failed
        await upload.finish(name, lambda: context.clock.monotonic() - started)
    except BaseException as error:
        await upload.abandon(error)
        raise


async def send_body(
    body: bytearray,
    url: S3Url,
    upload_id: UploadId,
    part: Part,
    algorithm: ChecksumAlgorithm | None,
    context: TransferContext,
) -> PartReceipt:
    """One part whose bytes are in memory, sent again from there where it fails."""
    source = BytesSource(body)

    async def send() -> PartReceipt:
        async with context.limiter.slot(url, big=True, size=part.length, held=True):
            return await context.data.upload_part(
                url,
                upload_id,
                part.number,
                source,
                0,
                part.length,
                algorithm,
                options=context.options,
            )

    receipt, attempts = await context.retrier.run("upload part", url, send)
    context.emit(PartDone(url, part.range, attempts))
    context.emit(BytesMoved(url, part.length))
    return PartReceipt(
        number=part.number,
        offset=part.offset,  # the source's was 0
        size=part.length,
        etag=receipt.etag,
        checksum=receipt.checksum,
        crc=receipt.crc,
    )


def _first_size(expected_size: int | None, context: TransferContext) -> int:
    config, memory = context.config, context.config.max_memory
    size = config.part_size
    if expected_size is not None:
        if not 0 <= expected_size <= config.limits.max_object_size:
            raise UsageError(
                f"a stream of {expected_size} bytes is over {config.limits.max_object_size}, "
                f"the limit of {config.limits.name}"
            )
        size = raised_part_size(expected_size, size, config.limits)
    if size > memory:
        raise UsageError(
            f"parts of {size} bytes do not fit into {memory} bytes of memory, and the parts of a "
            "stream are kept until they are sent",
            fix=f"Give max_memory (--max-memory) {4 * size} bytes, or smaller parts",
        )
    return size
