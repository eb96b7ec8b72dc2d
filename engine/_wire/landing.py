"""Where a small answer lands: its head, and its body right behind it, by one call to the kernel.

What must not live here: reading heads, sockets.
"""

from __future__ import annotations

from typing import final

from engine.protocols import ByteSink
from engine.types import ByteRange


@final
class Landing:
    """Memory for the body of a success.

    With room for a head too, the answer is received as it comes: nothing of it is copied, and the
    one call that brings it finds that there is no more. Without, the head goes elsewhere first.

    Args:
        room: Takes the body, or the head and the body; or the sink that has it then.

    Attributes:
        size: Of the body that is expected, in bytes.
        start: Where in ``room`` the body is; -1 where it does not come here.
    """

    __slots__ = ("_room", "_sink", "size", "start", "takes_head")

    def __init__(self, room: memoryview | ByteSink, size: int) -> None:
        self._room = room if isinstance(room, memoryview) else None
        self._sink = None if isinstance(room, memoryview) else room
        self.size = size
        self.start = -1
        self.takes_head = self._room is None or len(self._room) > size

    @property
    def room(self) -> memoryview:
        """Asked for when there is something to put into it."""
        if self._room is None:
            assert self._sink is not None and self._sink.room is not None
            self._room = self._sink.room
        return self._room

    @classmethod
    def of(cls, sink: ByteSink, offset: int, range: ByteRange | None, most: int) -> Landing | None:
        """For a body of ``most`` bytes at most that goes into a sink in memory; else None."""
        if range is None and offset == 0 and 0 <= sink.lands <= most:
            return cls(sink, sink.lands)
        memory = sink.memory
        if memory is None:
            return None
        size = range.length if range is not None else len(memory) - offset
        if size > most:
            return None
        return cls(memory[offset : offset + size], size)

    def body(self, start: int = 0) -> memoryview:
        """The body's place, if it begins at ``start``."""
        return self.room[start : start + self.size]

    def __repr__(self) -> str:
        return f"<Landing {self.size} of {len(self.room)} from {self.start}>"
