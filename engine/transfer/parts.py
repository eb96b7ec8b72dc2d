"""PURE. How an object is cut: into parts to send, into ranges to fetch.

Limits: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.config import MAX_OBJECT_SIZE, MAX_PARTS, TransferConfig
from engine.errors import UsageError
from engine.types import ByteRange, MiB


@dataclass(frozen=True, slots=True)
class Part:
    """One planned part: ``length`` bytes from ``offset``. Numbers start at 1."""

    number: int
    offset: int
    length: int

    @property
    def range(self) -> ByteRange:
        return ByteRange(self.offset, self.offset + self.length)


@dataclass(frozen=True, slots=True)
class PartPlan:
    """All parts of one object. ``multipart`` is False where one request moves it whole."""

    size: int
    part_size: int
    parts: tuple[Part, ...]
    multipart: bool


def plan_parts(size: int, config: TransferConfig) -> PartPlan:
    """Cut an upload of ``size`` bytes. In parts strictly above the threshold.

    Raises:
        UsageError: Larger than S3 stores.
    """
    if size > MAX_OBJECT_SIZE:
        raise UsageError(
            f"an object of {size} bytes is over S3's limit of {MAX_OBJECT_SIZE}",
            fix="Split it",
        )
    if size <= config.multipart_threshold:
        return _whole(size)
    return _cut(size, raised_part_size(size, config.part_size))


def plan_ranges(size: int, config: TransferConfig) -> PartPlan:
    """Cut a download of ``size`` bytes. In ranges strictly above the threshold.

    Ranges have no limit of number at S3; the same plan keeps the two directions alike.
    """
    if size <= config.multipart_download_threshold:
        return _whole(size)
    return _cut(size, raised_part_size(size, config.part_size))


def raised_part_size(size: int, part_size: int) -> int:
    """``part_size``, raised in steps of 1 MiB until 10,000 parts hold ``size`` bytes."""
    needed = -(-size // MAX_PARTS)
    return max(part_size, -(-needed // MiB) * MiB)


def _whole(size: int) -> PartPlan:
    return PartPlan(size, size, (Part(1, 0, size),), multipart=False)


def _cut(size: int, part_size: int) -> PartPlan:
    parts = tuple(
        Part(number, offset, min(part_size, size - offset))
        for number, offset in enumerate(range(0, size, part_size), start=1)
    )
    assert sum(part.length for part in parts) == size
    assert len(parts) <= MAX_PARTS
    return PartPlan(size, part_size, parts, multipart=True)
