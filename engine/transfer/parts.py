"""PURE. How an object is cut: into parts to send, into ranges to fetch, into parts to copy.

What lives here: arithmetic over a size, a configuration and a store's limits (``engine.limits``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, count, pairwise

from msgspec import Struct

from engine.config import TransferConfig
from engine.errors import UsageError
from engine.limits import StoreLimits
from engine.types import ByteRange, MiB

# Of all that its parts can hold at most, a stream of unknown length may fill so much. To fill the
# rest, the first part would have to be as large as the last.
STREAM_REACH = 0.9
# Bytes of one copied part. The bytes do not come by here, and each part is a request that is
# paid for; small enough that the store copies many at once.
COPY_PART_SIZE = 128 * MiB


class Part(Struct, frozen=True, gc=False):
    """One planned part: ``length`` bytes from ``offset``. Numbers start at 1."""

    number: int
    offset: int
    length: int

    @property
    def range(self) -> ByteRange:
        return ByteRange(self.offset, self.offset + self.length)


class PartPlan(Struct, frozen=True):
    """All parts of one object. ``multipart`` is False where one request moves it whole."""

    size: int
    part_size: int
    parts: tuple[Part, ...]
    multipart: bool


def plan_parts(size: int, config: TransferConfig) -> PartPlan:
    """Cut an upload of ``size`` bytes. In parts strictly above the threshold.

    Raises:
        UsageError: Larger than the store allows.
    """
    limits = config.limits
    if size <= config.multipart_threshold:
        return _whole(size)
    _check_size(size, limits)
    return _cut(size, raised_part_size(size, config.part_size, limits))


def plan_of(size: int, part_size: int, config: TransferConfig) -> PartPlan | None:
    """The upload that an earlier process planned; None where the store would not take it."""
    limits = config.limits
    if not 0 < part_size <= limits.max_part_size or size > part_size * limits.max_parts:
        return None
    return _cut(size, part_size) if size else None


def plan_ranges(size: int, config: TransferConfig) -> PartPlan:
    """Cut a download of ``size`` bytes. In ranges strictly above the threshold.

    Ranges have no limit of number at S3; the same plan keeps the two directions alike.
    """
    if size <= config.multipart_download_threshold:
        return _whole(size)
    return _cut(size, raised_part_size(size, config.part_size, config.limits))


def plan_ranges_of_parts(sizes: Sequence[int], config: TransferConfig) -> PartPlan:
    """Cut a download so that no range reaches over the border of two stored parts: each part has
    a checksum of its own. A part over the size of a range is cut into equal ones."""
    size = sum(sizes)
    part_size = plan_ranges(size, config).part_size
    parts: list[Part] = []
    for start, stop in pairwise(accumulate(sizes, initial=0)):
        if start == stop:
            continue  # S3 takes an empty part, as the only one
        ranges = -(-(stop - start) // part_size)
        length = -(-(stop - start) // ranges)
        parts += [
            Part(number, offset, min(length, stop - offset))
            for number, offset in enumerate(range(start, stop, length), start=len(parts) + 1)
        ]
    assert sum(part.length for part in parts) == size
    return PartPlan(size, part_size, tuple(parts), multipart=True)


def plan_copy(size: int, config: TransferConfig) -> PartPlan:
    """Cut a copy within the store. In parts only above what one CopyObject may copy.

    Raises:
        UsageError: Larger than the store allows.
    """
    limits = config.limits
    if size <= limits.max_copy_size:
        return _whole(size)
    _check_size(size, limits)
    part_size = min(max(COPY_PART_SIZE, config.part_size), limits.max_part_size)
    return _cut(size, raised_part_size(size, part_size, limits))


def raised_part_size(size: int, part_size: int, limits: StoreLimits) -> int:
    """``part_size``, raised in steps of 1 MiB until the parts of one upload hold ``size`` bytes.

    The last step is cut to what the store allows for a part.
    """
    needed = -(-size // limits.max_parts)
    if needed <= part_size:
        return part_size
    return min(-(-needed // MiB) * MiB, limits.max_part_size)


def growing_part_sizes(
    part_size: int, limits: StoreLimits, max_part_size: int | None = None
) -> Iterator[int]:
    """Sizes of the parts of a stream whose length nobody knows: as many as the store allows.

    They start at ``part_size`` and double after every so many parts, as late as they can while
    all of them together still hold the store's largest object; or, where that is as much as
    ``max_parts`` parts of the largest size (AWS), nine tenths of it. So a small stream has small
    parts. Where the store wants parts of one size they do not grow.

    Args:
        max_part_size: The largest part that may be held in memory, if it is less than the store
            allows; then the parts hold as much as can be held in such parts.
    """
    top = limits.max_part_size if max_part_size is None else max_part_size
    top = max(part_size, min(top, limits.max_part_size))
    if limits.equal_parts:
        top = part_size
    every = _parts_a_step(part_size, top, limits)
    for number in range(limits.max_parts):
        # The power is bounded: at 2 to the 63rd every size is over the top.
        yield min(part_size << min(number // every, 63), top) if every else top


def stream_capacity(sizes: Iterator[int], limits: StoreLimits) -> int:
    """Bytes that parts of these sizes hold, no more than an object may have."""
    return min(sum(sizes), limits.max_object_size)


def _parts_a_step(part_size: int, top: int, limits: StoreLimits) -> int:
    """After how many parts the size doubles: the most with which enough is held. 0 where all
    parts have to be of the largest size."""
    steps, below = 0, 0
    for step in count():
        size = part_size << step
        if size >= top:
            break
        steps, below = step + 1, below + size
    if not steps:
        return limits.max_parts
    wanted = min(limits.max_object_size, int(limits.max_parts * top * STREAM_REACH))
    # With n parts of each size below the top: n * below + (max_parts - n * steps) * top >= wanted.
    spare = limits.max_parts * top - wanted
    return min(spare // (steps * top - below), limits.max_parts // steps)


def _check_size(size: int, limits: StoreLimits) -> None:
    if size > limits.max_object_size:
        raise UsageError(
            f"an object of {size} bytes is over {limits.max_object_size}, "
            f"the limit of {limits.name}",
            fix="Split it; or choose the store's own limits (--store-profile), if they are others",
        )


def _whole(size: int) -> PartPlan:
    return PartPlan(size, size, (Part(1, 0, size),), multipart=False)


def _cut(size: int, part_size: int) -> PartPlan:
    parts = tuple(
        Part(number, offset, min(part_size, size - offset))
        for number, offset in enumerate(range(0, size, part_size), start=1)
    )
    assert sum(part.length for part in parts) == size
    return PartPlan(size, part_size, parts, multipart=True)
