"""Where the bytes of a download go. Writes block; planes make them in threads."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import final

from engine import disk
from engine.protocols import ByteSink
from engine.types import KiB


@final
class FileSink(ByteSink):
    """An open file, written by position; any number of ranges may write it at once.

    Args:
        descriptor: Readable too: what the kernel wrote is read back to be summed.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.descriptor = descriptor

    def write_at(self, offset: int, view: memoryview) -> None:
        done = 0
        while done < len(view):
            done += disk.pwrite(self._descriptor, view[done:], offset + done)


@final
class MemorySink(ByteSink):
    """One span in memory, for small objects and pieces of a stream."""

    def __init__(self, size: int) -> None:
        self.data = bytearray(size)
        self.memory: memoryview = memoryview(self.data)

    def write_at(self, offset: int, view: memoryview) -> None:
        self.data[offset : offset + len(view)] = view


# For the head of an answer, in front of its body: S3 answers with about 500 bytes.
HEAD_ROOM = 2 * KiB


@final
class SmallSink(ByteSink):
    """A whole small object in memory, received together with the head of its answer.

    The memory is taken when the answer comes, or somebody else looks at it: of the hundreds that a
    far server is asked for at once, few are on their way.

    Args:
        take: Gives a buffer of ``HEAD_ROOM`` and ``size`` bytes at least.
    """

    def __init__(self, size: int, take: Callable[[], bytearray]) -> None:
        self.lands = size
        self.buffer: bytearray | None = None
        self._take = take

    # Written once, here; mypy knows no lazy attribute.
    @cached_property
    def room(self) -> memoryview:  # type: ignore[override]
        self.buffer = self._take()
        return memoryview(self.buffer)[: HEAD_ROOM + self.lands]

    @cached_property
    def memory(self) -> memoryview:  # type: ignore[override]
        return self.room[HEAD_ROOM:]  # until it has landed

    def write_at(self, offset: int, view: memoryview) -> None:
        self.memory[offset : offset + len(view)] = view

    def landed(self, start: int) -> None:
        self.memory = self.room[start : start + self.lands]
