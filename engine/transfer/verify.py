"""Are these the bytes that S3 has a checksum of? Where not: which are wrong, and those once more.

Rules of this file
- A range is fetched again once at most, and as few of them as can be told.
- A suspicion is no proof: after every fetch the checksum of all bytes is compared again.
- Bytes are only ever replaced by bytes that were fetched, never by computed ones.

Theory of operation. A full-object CRC is compared with the combination of the ranges' CRCs, so it
does not matter what part size wrote the object. If it does not fit, its difference gives away one
damaged byte (``locate``); a store that keeps sums of parts names the damaged part; failing both,
ranges are fetched again until the whole fits. A composite checksum covers the checksums of the
parts, so ranges are cut at the parts' borders (or the bytes at hand are summed once more), and the
damaged part is the one whose own checksum differs.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from itertools import accumulate, pairwise

from engine.errors import ChecksumMismatch
from engine.events import Retried
from engine.protocols import ChecksumAlgorithm
from engine.transfer.checksums import CHECKSUMS
from engine.transfer.context import TransferContext
from engine.transfer.locate import damaged_offsets
from engine.transfer.parts import Part
from engine.transfer.stored_parts import all_parts, composite_parts, part_sizes
from engine.transfer.workers import run_parts
from engine.types import Checksum, ObjectInfo

SumSpan = Callable[[ChecksumAlgorithm, int, int], Awaitable[int]]
"""The CRC of ``length`` bytes from ``offset`` of what has arrived."""
FetchAgain = Callable[[Part], Awaitable[int]]
"""One range once more; the CRC of its bytes."""


def verifiable(info: ObjectInfo, algorithm: ChecksumAlgorithm | None) -> bool:
    """Whether S3 keeps a checksum of the object that we can compute, and we are to."""
    return (
        algorithm is not None and info.checksum is not None and info.checksum.algorithm in CHECKSUMS
    )


class Verifier:
    """The check of one object that has arrived.

    Args:
        parts: The ranges, in order and without a gap.
        crcs: Their CRCs.
        algorithm: Of these CRCs.
        sizes: Of the parts that the object was written in, where they were asked for before.
    """

    def __init__(
        self,
        info: ObjectInfo,
        parts: Sequence[Part],
        crcs: Sequence[int],
        algorithm: ChecksumAlgorithm,
        context: TransferContext,
        *,
        sum_span: SumSpan,
        fetch_again: FetchAgain,
        sizes: tuple[int, ...] | None = None,
    ) -> None:
        assert sum(part.length for part in parts) == info.size
        self._info = info
        self._parts = parts
        self._crcs = list(crcs)
        self._algorithm = self._fetched_by = algorithm
        self._context = context
        self._sum_span = sum_span
        self._fetch_again = fetch_again
        self._sizes = sizes
        self._fetched_again: set[int] = set()

    async def verified(self) -> bool:
        """True: these are the bytes. False: nothing here can be compared.

        Raises:
            ChecksumMismatch: They are not, and fetching again did not help.
            ObjectChanged: The object was overwritten before they were whole.
        """
        stored = self._info.checksum
        assert stored is not None
        if stored.algorithm != self._algorithm.name:
            await self._sum_by(CHECKSUMS.get(stored.algorithm)())
        if not stored.full_object and self._sizes is None:
            self._sizes = await part_sizes(self._info, self._context)
            if self._sizes is None:
                return False
        if await self._fits():
            return True
        async for suspects in self._suspicions():
            await self._replace(suspects)
            if await self._fits():
                return True
        raise ChecksumMismatch(
            f"the bytes of {self._info.url} have {await self._found()}, S3 stores {stored}",
            fix="The stored object or the way to it is damaged; nothing was written",
            etag=self._info.etag,
        )

    # Comparing.

    async def _fits(self) -> bool:
        return await self._found() == self._info.checksum

    async def _found(self) -> Checksum:
        algorithm = self._algorithm
        if self._sizes is None:
            return Checksum(algorithm.name, algorithm.encode(self._whole()))
        digests = b"".join([self._digest(crc) for crc in await self._sums(self._sizes)])
        value = algorithm.encode(algorithm.update(digests))
        stored = self._info.checksum
        assert stored is not None
        if composite_parts(self._info) is not None:
            value += f"-{len(self._sizes)}"
        return Checksum(algorithm.name, value, full_object=False)

    def _whole(self) -> int:
        return self._combined(range(len(self._parts)))

    def _combined(self, indices: Iterable[int]) -> int:
        crc = 0
        for index in indices:
            crc = self._algorithm.combine(crc, self._crcs[index], self._parts[index].length)
        return crc

    async def _sums(self, sizes: Sequence[int]) -> list[int]:
        """The CRC of each part: from the ranges in it, or from the bytes where these overlap."""
        starts = {part.offset: index for index, part in enumerate(self._parts)}
        starts[self._info.size] = len(self._parts)
        sums = []
        for start, stop in pairwise(accumulate(sizes, initial=0)):
            first, last = starts.get(start), starts.get(stop)
            if first is None or last is None:
                sums.append(await self._sum_span(self._algorithm, start, stop - start))
            else:
                sums.append(self._combined(range(first, last)))
        return sums

    async def _sum_by(self, algorithm: ChecksumAlgorithm) -> None:
        """Small objects of a listing: which checksum S3 has was known only with the bytes."""
        self._algorithm = algorithm
        self._crcs = [
            await self._sum_span(algorithm, part.offset, part.length) for part in self._parts
        ]

    def _digest(self, crc: int) -> bytes:
        return base64.b64decode(self._algorithm.encode(crc))

    # Healing.

    async def _suspicions(self) -> AsyncIterator[Sequence[int]]:
        """Ranges that may be the damaged ones, the likeliest first; in the end all of them."""
        many = len(self._parts) > 1
        if many and self._sizes is None:
            yield await self._located()
        if many or self._sizes is not None:  # which were a guess, and may be what does not fit
            yield await self._damaged_parts()
        everything = range(len(self._parts))
        step = self._context.config.parts_at_first
        for start in everything[::step]:
            yield everything[start : start + step]

    async def _located(self) -> list[int]:
        stored = self._info.checksum
        assert stored is not None
        try:
            meant = int.from_bytes(base64.b64decode(stored.value), "big")
        except ValueError:
            return []  # no CRC at all, whatever the store means by it
        offsets = await self._context.door.run(
            damaged_offsets, self._algorithm, self._whole(), meant, self._info.size
        )
        return [
            index
            for index, part in enumerate(self._parts)
            if any(part.offset <= offset < part.offset + part.length for offset in offsets)
        ]

    async def _damaged_parts(self) -> list[int]:
        """The ranges in parts whose own checksum is another than ours."""
        parts = await all_parts(self._info, self._context)
        if parts is None:
            return []
        sizes = tuple(part.size for part in parts)
        if self._sizes is not None:
            self._sizes = sizes  # they were a guess until now
        if not any(part.checksum is not None for part in parts):
            return []  # nothing to compare their sums with, which may have to be made first
        damaged: set[int] = set()
        spans = pairwise(accumulate(sizes, initial=0))
        for stored, crc, (start, stop) in zip(parts, await self._sums(sizes), spans, strict=True):
            ours = Checksum(self._algorithm.name, self._algorithm.encode(crc))
            told = stored.checksum
            if told is not None and told.algorithm == ours.algorithm and told != ours:
                damaged.update(
                    index
                    for index, part in enumerate(self._parts)
                    if part.offset < stop and start < part.offset + part.length
                )
        return sorted(damaged)

    async def _replace(self, indices: Sequence[int]) -> None:
        """Fetch these ranges again, those that were not yet."""
        wanted = [index for index in indices if index not in self._fetched_again]

        async def again(index: int) -> int:
            url = self._info.url
            self._context.emit(Retried("get object", url, 1, 0.0, ChecksumMismatch.__name__))
            return await self._fetch_again(self._parts[index])

        crcs = await run_parts(wanted, again, self._context.config.parts_at_first)
        for index, crc in zip(wanted, crcs, strict=True):
            if self._algorithm is not self._fetched_by:
                part = self._parts[index]
                crc = await self._sum_span(self._algorithm, part.offset, part.length)
            self._crcs[index] = crc
        self._fetched_again.update(wanted)
