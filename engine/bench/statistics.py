"""Medians, ranges and ratios of runs that were measured alternately. PURE.

What lives here: arithmetic. What must not: a winner where two ranges overlap, or from one round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Standing = Literal["no verdict", "tie", "below", "above"]


@dataclass(frozen=True, slots=True)
class Spread:
    """One measure of one tool over its rounds."""

    median: float
    least: float
    most: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Raises ValueError for no value."""
        if not values:
            raise ValueError("no rounds")
        ordered = sorted(values)
        middle = len(ordered) // 2
        median = (
            ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
        )
        return cls(median, ordered[0], ordered[-1], len(ordered))

    def overlaps(self, other: Spread) -> bool:
        """Whether the two ranges have a value in common."""
        return self.least <= other.most and other.least <= self.most


@dataclass(frozen=True, slots=True)
class Ratio:
    """Another tool / the one that all are compared with.

    Attributes:
        median: Of the medians.
        least, most: What the two ranges allow.
        standing: Where the other's range lies. One round has no range, so no standing.
    """

    median: float
    least: float
    most: float
    standing: Standing

    @classmethod
    def of(cls, base: Spread, other: Spread) -> Ratio:
        """``other / base``."""
        standing: Standing
        if base.rounds < 2 or other.rounds < 2:
            standing = "no verdict"
        elif base.overlaps(other):
            standing = "tie"
        else:
            standing = "above" if other.least > base.most else "below"
        return cls(
            quotient(other.median, base.median),
            quotient(other.least, base.most),
            quotient(other.most, base.least),
            standing,
        )


def quotient(a: float, b: float) -> float:
    """``a / b``. What took less than the clock's tick used nothing that could be measured."""
    return a / b if b > 0 else float("inf")
