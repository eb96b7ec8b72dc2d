"""Rings of buffers between a connection and a file, and the thread at their other end.

What lives here: bodies on their way through buffers of ours, in both directions. What must not:
sockets, HTTP. Over a plain socket the kernel moves files by itself (``spans.py``), and over TLS of
our own a mover sends them (``tls_spans.py``).

Down, the connection fills a buffer and hands it over; the thread sums it, writes it and gives it
back. Up, the thread reads ahead, and the connection gives back what the transport has let go of.
Nobody is woken up for a buffer: the loop hears of the thread where it waits for one, at the end,
and of an error. A disk that is slow is seen by the server as a closed window, or as a pause.

Rules of this file
- A buffer is the loop's or the thread's, never both's.
- ``_wanted`` is set before the loop looks a last time, and read by the thread behind everything
  that it has done: so no wake-up is lost between the two.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import final

from engine._wire.pieces import Pieces
from engine.protocols import ByteSink, ByteSource
from engine.threads import ThreadDoor
from engine.types import MiB

# Buffers of one body. Two keep the network and the thread busy: each is large enough for a thread
# that is late. Together 1 MiB, what a slot of the limiter stands for.
RING = 2
# Buffers of all bodies, above which each has one: where the thread is late for many, more of them
# would not make it faster. The full rings of ten.
MAX_LENT = 20
# What the kernel is asked to read ahead of a body, so that a disk has more than one order at a
# time. A part is rarely bigger.
READ_AHEAD = 8 * MiB


class Ring(ABC):
    """One body.

    Attributes:
        error: Why it broke off.
    """

    def __init__(self, pieces: Pieces) -> None:
        self.error: BaseException | None = None
        self._pieces = pieces
        self._free: deque[memoryview] = deque()
        self._made = 0
        self._ordered = 0
        self._done = 0
        self._dropped = False
        self._wanted = False
        self._tell: Callable[[], None] | None = None
        self._orders: queue.SimpleQueue[_Order | None] | None = None

    # In the loop.

    def begin(self, thread: FileThread, wake: Callable[[], None]) -> None:
        """``wake`` is called in the loop when the thread has news."""
        loop = asyncio.get_running_loop()
        self._orders = thread.orders()

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(wake)

        self._tell = tell

    @property
    def idle(self) -> bool:
        """Whether the thread has nothing of it; else ``wake`` is called when that changes."""
        self._wanted = True
        return self._done == self._ordered

    def drop(self) -> None:
        """Move no more of it."""
        self._dropped = True

    def end(self, *buffers: memoryview) -> None:
        """Give all buffers back; ``buffers`` are those that the loop has."""
        assert self._done == self._ordered, "the thread has some of them"
        for buffer in (*buffers, *self._free):
            self._pieces.give(buffer)
        self._free.clear()

    def _order(self, buffer: memoryview, offset: int, size: int) -> None:
        assert self._orders is not None
        self._ordered += 1
        self._orders.put((self, buffer, offset, size))

    def _buffer(self) -> memoryview | None:
        """One that is free, or one more; None where the ring has no more."""
        if self._free:
            return self._free.pop()
        if not self._made or (self._made < RING and self._pieces.lent < MAX_LENT):
            self._made += 1
            return self._pieces.take()
        return None

    # In the thread.

    def work(self, buffer: memoryview, offset: int, size: int) -> None:
        """One order; an error is kept, and no further order is carried out."""
        try:
            if not self._dropped and self.error is None:
                self._move(buffer[:size], offset)
        except BaseException as error:
            self.error = error
            self._wanted = True
        self._over(buffer, size)
        self._done += 1
        if self._wanted:
            self._wanted = False
            if self._tell is not None:
                self._tell()

    @abstractmethod
    def _move(self, view: memoryview, offset: int) -> None: ...
    @abstractmethod
    def _over(self, buffer: memoryview, size: int) -> None: ...

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._done}/{self._ordered} buffers={self._made}>"


_Order = tuple[Ring, memoryview, int, int]


@final
class Intake(Ring):
    """A body on its way into a sink.

    Attributes:
        crc: Of what has been written.
    """

    def __init__(
        self,
        sink: ByteSink,
        offset: int,
        update: Callable[[memoryview, int], int] | None,
        pieces: Pieces,
    ) -> None:
        super().__init__(pieces)
        self.crc = 0
        self._sink = sink
        self._offset = offset
        self._update = update

    def take(self) -> memoryview | None:
        """A buffer to fill; None where the thread has them all, and ``wake`` is called then."""
        buffer = self._buffer()
        if buffer is None:
            self._wanted = True
            buffer = self._buffer()
        return buffer

    def put(self, buffer: memoryview, size: int) -> None:
        """Have the first ``size`` bytes written behind those before."""
        self._order(buffer, self._offset, size)
        self._offset += size

    def _move(self, view: memoryview, offset: int) -> None:
        if self._update is not None:
            self.crc = self._update(view, self.crc)
        self._sink.write_at(offset, view)

    def _over(self, buffer: memoryview, size: int) -> None:
        self._free.append(buffer)


@final
class Outtake(Ring):
    """A span of a source on its way out."""

    def __init__(self, source: ByteSource, offset: int, length: int, pieces: Pieces) -> None:
        super().__init__(pieces)
        self._source = source
        self._offset = offset
        self._unread = length
        self._left = length
        self._filled: deque[tuple[memoryview, int]] = deque()
        self._ahead = False

    @property
    def left(self) -> int:
        """Bytes that ``take`` has not handed out."""
        return self._left

    def take(self) -> tuple[memoryview, int] | None:
        """The next buffer, and how many bytes of it to send; None where it is not read yet, and
        ``wake`` is called then."""
        self._read_ahead()
        if not self._filled:
            self._wanted = True
        if not self._filled or self.error is not None:
            return None
        buffer, size = self._filled.popleft()
        self._left -= size
        return buffer, size

    def give(self, buffer: memoryview) -> None:
        """The transport has let go of it."""
        self._free.append(buffer)
        self._read_ahead()

    def end(self, *buffers: memoryview) -> None:
        super().end(*buffers, *(buffer for buffer, _ in self._filled))
        self._filled.clear()

    def _read_ahead(self) -> None:
        while self._unread and self.error is None and not self._dropped:
            buffer = self._buffer()
            if buffer is None:
                return
            size = min(self._unread, len(buffer))
            self._order(buffer, self._offset, size)
            self._offset += size
            self._unread -= size

    def _move(self, view: memoryview, offset: int) -> None:
        if not self._ahead:
            self._ahead = True
            read_ahead(self._source.descriptor, offset, self._left)
        self._source.read_into(offset, view)

    def _over(self, buffer: memoryview, size: int) -> None:
        self._filled.append((buffer, size))


def read_ahead(descriptor: int | None, offset: int, length: int) -> None:
    """Have the kernel read a span of a file, if it is not in its cache. Does not wait for it."""
    if descriptor is not None and hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError):  # advice
            os.posix_fadvise(descriptor, offset, min(length, READ_AHEAD), os.POSIX_FADV_WILLNEED)


@final
class FileThread:
    """One thread for all rings of a plane: it keeps up with what one loop can encrypt.

    Args:
        threads: Starts it.
    """

    def __init__(self, threads: ThreadDoor) -> None:
        self.threads = threads
        self._orders: queue.SimpleQueue[_Order | None] = queue.SimpleQueue()
        self._started = False

    def orders(self) -> queue.SimpleQueue[_Order | None]:
        """Of what is to be done; the thread is there from now on."""
        if not self._started:
            self._started = True
            self.threads.dedicate("s3engine-rings", self._work)
        return self._orders

    def close(self) -> None:
        """End the thread behind what it has to do."""
        if self._started:
            self._orders.put(None)

    def _work(self) -> None:
        while (order := self._orders.get()) is not None:
            ring, buffer, offset, size = order
            ring.work(buffer, offset, size)
            del order, ring, buffer  # or its buffers live until the next one

    def __repr__(self) -> str:
        return f"<FileThread {'running' if self._started else 'not started'}>"
