"""A free list of equal buffers, so that bytes under way do not become garbage.

What lives here: reuse. What must not: a limit on how many are out (that is the caller's limit of
requests under way).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

from engine.types import KiB

# One read, one write and one checksum call; a thread hop costs about 0.1 ms, so 1 GiB costs
# 0.2 s of hops. Twice as large would keep 10 MiB more in memory, and writing gains 3 % by it.
PIECE_SIZE = 512 * KiB
# What is kept for reuse: twice a big transfer's ten requests, 10 MiB.
MAX_FREE = 20
# Up to here a buffer of the body's own size is cheaper than a piece: 64 small objects at once
# would else hold 32 MiB.
SMALL = 64 * KiB


@final
class Pieces:
    """Lends buffers of ``size`` bytes. Their contents are whatever was in them."""

    def __init__(self, size: int = PIECE_SIZE, max_free: int = MAX_FREE) -> None:
        self.size = size
        self._max_free = max_free
        self._free: list[memoryview] = []
        self._lent = 0

    @contextmanager
    def lend(self, bytes_to_move: int) -> Iterator[tuple[memoryview, memoryview]]:
        """Two buffers for a double-buffered move; the same one twice if one holds it all."""
        if bytes_to_move <= SMALL:
            small = memoryview(bytearray(bytes_to_move))
            yield small, small
            return
        first = self._take()
        second = first if bytes_to_move <= self.size else self._take()
        try:
            yield first, second
        finally:
            self._give(first)
            if second is not first:
                self._give(second)

    def _take(self) -> memoryview:
        self._lent += 1
        # The youngest one: its pages are the likeliest to be in a cache.
        return self._free.pop() if self._free else memoryview(bytearray(self.size))

    def _give(self, piece: memoryview) -> None:
        self._lent -= 1
        if len(self._free) < self._max_free:
            self._free.append(piece)

    def __repr__(self) -> str:
        return f"<Pieces size={self.size} lent={self._lent} free={len(self._free)}>"
