"""A free list of equal buffers, so that bytes under way do not become garbage.

What lives here: reuse. What must not: a limit on how many are out (that is the caller's limit of
requests under way).
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

from engine.types import KiB

# One read, one write and one checksum call, in what a core's second cache holds. Measured over TLS,
# both ways: with 256 KiB the loop and the thread hand over so often that it costs a twentieth more,
# with 128 KiB a tenth.
PIECE_SIZE = 512 * KiB
# What is kept for reuse: the rings of twenty requests, 20 MiB. A big transfer on loopback has ten.
MAX_FREE = 40
# Up to here a buffer of the body's own size is cheaper than a piece: 64 small objects at once
# would else hold 32 MiB.
SMALL = 64 * KiB


@final
class Pieces:
    """Lends buffers of ``size`` bytes. Their contents are whatever was in them.

    Attributes:
        lent: Buffers that are out.
    """

    def __init__(self, size: int = PIECE_SIZE, max_free: int = MAX_FREE) -> None:
        self.size = size
        self._max_free = max_free
        self._free: list[memoryview] = []
        self.lent = 0

    @contextmanager
    def lend(self, bytes_to_move: int) -> Iterator[memoryview]:
        """A buffer for so many bytes, or for a piece of them."""
        if bytes_to_move <= SMALL:
            yield memoryview(bytearray(bytes_to_move))
            return
        piece = self.take()
        try:
            yield piece
        finally:
            self.give(piece)

    def take(self) -> memoryview:
        """One buffer; whoever takes it gives it back."""
        self.lent += 1
        # The youngest one: its pages are the likeliest to be in a cache.
        return self._free.pop() if self._free else _pages(self.size)

    def give(self, piece: memoryview) -> None:
        """Nobody reads or writes it any more."""
        self.lent -= 1
        if len(self._free) < self._max_free:
            self._free.append(piece)

    def __repr__(self) -> str:
        return f"<Pieces size={self.size} lent={self.lent} free={len(self._free)}>"


def _pages(size: int) -> memoryview:
    """Memory that goes back to the system as a whole. In the heap, between the small bodies, a
    third of it stayed with the process when it was free."""
    return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
