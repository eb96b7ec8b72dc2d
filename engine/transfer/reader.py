"""open_read(): an object as a stream of bytes, in order, fetched ahead within bounds.

The reader sets the pace: at most ``max_parts_in_flight`` pieces are held or on their way, and
no more are asked for until one is taken.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.abc
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from engine.errors import ChecksumMismatch, EngineError
from engine.protocols import ChecksumAlgorithm
from engine.transfer.checksums import CHECKSUMS, chosen
from engine.transfer.context import TransferContext
from engine.transfer.download import fetch_range, head
from engine.transfer.parts import Part
from engine.transfer.readable import check_readable
from engine.transfer.sinks import MemorySink
from engine.transfer.slots import Slots
from engine.types import ByteRange, Checksum, MiB, ObjectInfo, S3Url

# Bytes of one piece. Small enough that a slow reader holds little, large enough that the round
# trip is paid seldom.
PIECE_SIZE = 4 * MiB


class _Piece:
    """One planned piece, its bytes when they are there, or why they are not."""

    def __init__(self, part: Part, weight: int) -> None:
        self.part = part
        self.sink = MemorySink(part.length)
        self.crc = 0
        self.error: EngineError | None = None
        self.arrived = anyio.Event()
        self.weight = weight


class _Room:
    """Memory of one reader's pieces. The first is not waited for: else two readers, of which one is
    read inside of the other's loop, might wait for each other."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._held: list[int] = []

    async def take(self, size: int) -> int:
        held = self._held
        weight = await self._slots.acquire(size) if held else self._slots.take_anyway(size)
        held.append(weight)
        return weight

    def give(self, weight: int) -> None:
        self._held.remove(weight)
        self._slots.release(weight)

    def close(self) -> None:
        while self._held:
            self.give(self._held[0])


class ObjectReader:
    """Iterate it for the bytes: ``async for piece in reader``. ``info`` is what S3 says."""

    def __init__(
        self,
        info: ObjectInfo,
        pieces: MemoryObjectReceiveStream[_Piece],
        algorithm: ChecksumAlgorithm | None,
        room: _Room,
    ) -> None:
        self.info = info
        self._room = room
        self._pieces = pieces
        self._algorithm = algorithm
        self._whole = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._pieces:
            await piece.arrived.wait()
            if piece.error is not None:
                raise piece.error
            if self._algorithm is not None:
                self._whole = self._algorithm.combine(self._whole, piece.crc, piece.part.length)
            yield bytes(piece.sink.data)
            self._room.give(piece.weight)
            del piece  # its bytes are not to live on while the next one is waited for
        self._verify(self._whole)

    async def read(self) -> bytes:
        """All of it."""
        return b"".join([piece async for piece in self])

    def _verify(self, whole: int) -> None:
        if self._algorithm is None:
            return
        got = Checksum(self._algorithm.name, self._algorithm.encode(whole))
        if got != self.info.checksum:
            raise ChecksumMismatch(
                f"the bytes of {self.info.url} have {got}, S3 stores {self.info.checksum}",
                fix="The bytes already read are not to be trusted",
            )


@asynccontextmanager
async def open_read(
    url: S3Url, context: TransferContext, range: ByteRange | None = None
) -> AsyncIterator[ObjectReader]:
    """Open ``url``, or one range of it, for reading.

    A whole object with a full-object checksum is verified when the last piece was taken: the
    iteration then raises ChecksumMismatch instead of ending. Pieces that were handed out cannot be
    taken back, so nothing is fetched again; ``download`` does that.
    """
    info = await head(url, context)
    check_readable(info, context.options)
    span = range or (ByteRange(0, info.size) if info.size else None)
    stored = info.checksum
    verifiable = (
        range is None
        and stored is not None
        and stored.full_object
        and stored.algorithm in CHECKSUMS
    )
    name = stored.algorithm if verifiable and stored is not None else context.config.checksum
    algorithm = chosen(name)
    # A quarter of the memory for one stream; one piece is in the reader's hand, one waits.
    ahead = min(context.config.parts_at_first, context.config.max_memory // 4 // PIECE_SIZE)
    send, receive = anyio.create_memory_object_stream[_Piece](max(0, ahead - 2))
    failed: Exception | None = None
    room = _Room(context.limiter.pieces)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_fetch_ahead, info, span, send, algorithm, context, tasks, room)
            async with receive:
                try:
                    yield ObjectReader(info, receive, algorithm if verifiable else None, room)
                except Exception as error:
                    failed = error  # raised below: the task group would put it into a group
            tasks.cancel_scope.cancel()
    finally:
        room.close()
    if failed is not None:
        raise failed


async def _fetch_ahead(
    info: ObjectInfo,
    span: ByteRange | None,
    send: MemoryObjectSendStream[_Piece],
    algorithm: ChecksumAlgorithm | None,
    context: TransferContext,
    tasks: anyio.abc.TaskGroup,
    room: _Room,
) -> None:
    async def fetch(piece: _Piece) -> None:
        try:
            receipt = await fetch_range(info, piece.sink, 0, piece.part, algorithm, context)
            piece.crc = receipt.crc or 0
        except EngineError as error:
            piece.error = error
        finally:
            piece.arrived.set()

    async with send:
        if span is None:
            return
        offset, number = span.start, 1
        while offset < min(span.stop, info.size):
            length = min(PIECE_SIZE, min(span.stop, info.size) - offset)
            weight = await room.take(length)
            piece = _Piece(Part(number, offset, length), weight)
            try:
                await send.send(piece)
            except anyio.BrokenResourceError:
                return  # the reader has left
            tasks.start_soon(fetch, piece)
            offset, number = offset + length, number + 1
