"""Bytes of a copy that go through this machine: fetched, compared with the source, and sent.

What lives here: one part, or all in one request; whether what was sent is the source. What must
not: when bytes go this way, and the life of the upload (``copy.py``).

Rules of this file
- What is compared is what was sent: the sum of a part is the one that went with it to the target.
- Nothing is read twice to be compared, but what an earlier process sent, where borders of the
  source's parts lie in it; or where these were guessed, and it was a wrong guess.
- A part that may be damaged is fetched and sent again, in the place of the first.

Theory of operation. A composite checksum covers the checksums of the source's parts, whose borders
need not be those of ours. So bytes in memory are summed from border to border before they are sent,
and these sums, combined, must be the one that was sent. With them the object is compared, and
healed, as downloads are (``verify.py``).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise

from msgspec import Struct, structs

from engine.errors import ChecksumMismatch, ObjectChanged
from engine.protocols import ChecksumAlgorithm
from engine.transfer.context import TransferContext, uncounted
from engine.transfer.download import fetch_range
from engine.transfer.parts import Part, PartPlan
from engine.transfer.sinks import MemorySink
from engine.transfer.sources import BytesSource
from engine.transfer.stored_parts import part_sizes
from engine.transfer.streams import send_body
from engine.transfer.verify import Verifier, verifiable
from engine.types import ObjectInfo, PartReceipt, S3Url, UploadId

# Parts that are read once more and turn out to be others than were sent: more is no accident.
_MAX_OTHERS = 4


class _Piece(Struct, frozen=True, gc=False):
    """The sum of bytes ``start`` up to ``stop``, between two borders."""

    start: int
    stop: int
    crc: int


class _SentAnother(Exception):
    """A part was replaced while all were compared: compare them again."""


async def fetch_whole(
    info: ObjectInfo,
    algorithm: ChecksumAlgorithm | None,
    context: TransferContext,
    reading: TransferContext,
) -> tuple[BytesSource, bool]:
    """The object in memory, compared before any of it is sent; whether it could be.

    Raises:
        ChecksumMismatch: Twice it was not what S3 has a checksum of.
        ObjectChanged: It was overwritten.
    """
    sink = MemorySink(info.size)

    async def fetch(part: Part) -> int:
        receipt = await fetch_range(info, sink, 0, None, algorithm, reading)
        if receipt.size != info.size:
            raise ObjectChanged(
                f"{info.url} was overwritten while it was copied",
                s3_code="Changed",
                status=200,
                fix="Copy it again",
            )
        return receipt.crc or 0

    async def sum_span(algorithm: ChecksumAlgorithm, offset: int, length: int) -> int:
        return await context.door.run(algorithm.update, sink.memory[offset : offset + length])

    whole = Part(1, 0, info.size)
    crc, verified = await fetch(whole), False
    if algorithm is not None and verifiable(info, algorithm):
        verified = await Verifier(
            info,
            (whole,),
            (crc,),
            algorithm,
            structs.replace(reading, emit=context.emit),
            sum_span=sum_span,
            fetch_again=fetch,
        ).verified()
    return BytesSource(sink.data, str(info.url)), verified


async def source_parts(
    info: ObjectInfo, algorithm: ChecksumAlgorithm | None, reading: TransferContext
) -> tuple[int, ...] | None:
    """Sizes of the source's parts, where they are needed to compare, and told.

    Raises:
        ObjectChanged: The source was overwritten.
    """
    stored = info.checksum
    if stored is None or stored.full_object or not verifiable(info, algorithm):
        return None
    return await part_sizes(info, reading)


class ThroughParts:
    """The parts of one upload whose bytes are fetched from another object.

    Args:
        sizes: Of the source's parts, from ``source_parts``.
        context: Writes the target.
        reading: Reads the source.
    """

    def __init__(
        self,
        info: ObjectInfo,
        target: S3Url,
        algorithm: ChecksumAlgorithm | None,
        sizes: tuple[int, ...] | None,
        context: TransferContext,
        reading: TransferContext,
    ) -> None:
        self._info = info
        self._target = target
        self._algorithm = algorithm
        self._sizes = sizes
        self._borders = sorted(set(accumulate(sizes or ())))
        self._context = context
        self._reading = reading
        self._pieces: dict[int, Sequence[_Piece]] = {}

    async def move(self, part: Part, upload_id: UploadId) -> PartReceipt:
        """Fetch a part and send it."""
        return await self._move(part, upload_id, self._context)

    async def taken(self, part: Part, receipt: PartReceipt, upload_id: UploadId) -> PartReceipt:
        """A part that an earlier process sent. Where borders lie in it, it is read again; one that
        is another by now is sent, and what comes of it is judged with all others."""
        if not self._cuts(part):
            return receipt
        return await self._move(part, upload_id, uncounted(self._context), receipt)

    async def verified(
        self, plan: PartPlan, receipts: list[PartReceipt], upload_id: UploadId
    ) -> bool:
        """Whether what the parts were sent with is what S3 has a checksum of; False where that
        cannot be told.

        Args:
            receipts: Of all parts, in order; those of parts that are sent again are replaced.

        Raises:
            ChecksumMismatch: It is not, and to fetch and send again did not help.
            ObjectChanged: The source was overwritten.
        """
        algorithm = self._algorithm
        if algorithm is None or not verifiable(self._info, algorithm):
            return False

        async def fetch_again(part: Part) -> int:
            return _crc_of(await self._once_more(part, receipts, upload_id))

        async def sum_span(_: ChecksumAlgorithm, offset: int, length: int) -> int:
            return await self._sum(plan, receipts, upload_id, offset, length)

        for _ in range(_MAX_OTHERS):
            verifier = Verifier(
                self._info,
                plan.parts,
                [_crc_of(receipt) for receipt in receipts],
                algorithm,
                structs.replace(self._reading, emit=self._context.emit),
                sum_span=sum_span,
                fetch_again=fetch_again,
                sizes=self._sizes,
            )
            try:
                return await verifier.verified()
            except _SentAnother:
                continue
        raise ChecksumMismatch(
            f"what is read of {self._info.url} is not the same twice",
            fix="The way to it is damaged; nothing was written",
            etag=self._info.etag,
        )

    async def _move(
        self,
        part: Part,
        upload_id: UploadId,
        context: TransferContext,
        sent: PartReceipt | None = None,
    ) -> PartReceipt:
        """Fetch a part and send it, unless its bytes are those that were ``sent``."""
        streams, algorithm = self._context.limiter.streams, self._algorithm
        weight = await streams.acquire(part.length)
        try:
            sink = MemorySink(part.length)
            await fetch_range(self._info, sink, 0, part, None, self._reading)
            cuts = self._cuts(part)
            pieces: Sequence[_Piece] = ()
            if cuts and algorithm is not None:
                pieces = await context.door.run(_sum_pieces, algorithm, part, cuts, sink.memory)
                if sent is not None and _combined(pieces, algorithm) == sent.crc:
                    self._pieces[part.number] = pieces
                    return sent
            receipt = await send_body(sink.data, self._target, upload_id, part, algorithm, context)
        finally:
            streams.release(weight)
        if pieces and algorithm is not None and _combined(pieces, algorithm) != receipt.crc:
            raise ChecksumMismatch(
                f"part {part.number} of {self._info.url} changed in this machine's memory",
                fix="Copy it again; if it happens again, have the memory of this machine tested",
                etag=self._info.etag,
            )
        self._pieces[part.number] = pieces
        return receipt

    async def _once_more(
        self,
        part: Part,
        receipts: list[PartReceipt],
        upload_id: UploadId,
        sent: PartReceipt | None = None,
    ) -> PartReceipt:
        """``_move`` when there are receipts of all parts."""
        receipt = await self._move(part, upload_id, uncounted(self._context), sent)
        if receipt is not sent and self._context.journal is not None:
            await self._context.journal.part_done(receipt)
        receipts[part.number - 1] = receipt
        return receipt

    def _cuts(self, part: Part) -> Sequence[int]:
        """The borders within a part."""
        first = bisect_right(self._borders, part.offset)
        return self._borders[first : bisect_left(self._borders, part.offset + part.length)]

    async def _sum(
        self,
        plan: PartPlan,
        receipts: list[PartReceipt],
        upload_id: UploadId,
        offset: int,
        length: int,
    ) -> int:
        """The CRC of any span of what was sent."""
        assert self._algorithm is not None
        crc, at, stop = 0, offset, offset + length
        while at < stop:
            part = plan.parts[at // plan.part_size]
            end = min(stop, part.offset + part.length)
            if end - at == part.length:
                found = _crc_of(receipts[part.number - 1])
            else:
                known = self._known(part, at, end)
                if known is None:
                    known = await self._cut_anew(part, at, end, receipts, upload_id)
                found = known
            crc = self._algorithm.combine(crc, found, end - at)
            at = end
        return crc

    def _known(self, part: Part, start: int, stop: int) -> int | None:
        assert self._algorithm is not None
        inside = [
            piece
            for piece in self._pieces.get(part.number, ())
            if start <= piece.start and piece.stop <= stop
        ]
        if not inside or (inside[0].start, inside[-1].stop) != (start, stop):
            return None
        return _combined(inside, self._algorithm)

    async def _cut_anew(
        self,
        part: Part,
        start: int,
        stop: int,
        receipts: list[PartReceipt],
        upload_id: UploadId,
    ) -> int:
        """The CRC of a piece whose borders nobody knew when the part was sent."""
        self._borders = sorted({*self._borders, start, stop})
        sent = receipts[part.number - 1]
        if await self._once_more(part, receipts, upload_id, sent) is not sent:
            raise _SentAnother
        found = self._known(part, start, stop)
        assert found is not None, "it was cut there"
        return found


def _crc_of(receipt: PartReceipt) -> int:
    assert receipt.crc is not None, "what is sent with a checksum has one"
    return receipt.crc


def _combined(pieces: Sequence[_Piece], algorithm: ChecksumAlgorithm) -> int:
    crc = 0
    for piece in pieces:
        crc = algorithm.combine(crc, piece.crc, piece.stop - piece.start)
    return crc


def _sum_pieces(
    algorithm: ChecksumAlgorithm, part: Part, cuts: Sequence[int], body: memoryview
) -> Sequence[_Piece]:
    """In a thread."""
    places = pairwise((part.offset, *cuts, part.offset + part.length))
    return [
        _Piece(start, stop, algorithm.update(body[start - part.offset : stop - part.offset]))
        for start, stop in places
    ]
