"""Spans: bodies on their way between a plain socket and a file, one step at a time.

What lives here: the steps, which a mover's thread makes (``mover.py``). What must not: waiting,
choosing whose turn it is, HTTP, TLS (``tls_spans.py``).

Down: ``splice`` takes the bytes from the socket to the file without a copy of ours. The sum is
made of what the file then holds, read back while it is in the kernel's cache. Up: ``sendfile``.
Where the kernel or the file system has neither, the bytes go through the mover's buffer.

A step never blocks on a socket; it may block on a disk, and that is why a thread makes it.
"""

from __future__ import annotations

import array
import errno
import os
import selectors
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import final

from engine._wire.rings import read_ahead
from engine._wire.turns import Turns
from engine.types import KiB, MiB

try:
    import fcntl
    import termios

    _FIONREAD: int | None = getattr(termios, "FIONREAD", None)
    _TIOCOUTQ: int | None = getattr(termios, "TIOCOUTQ", None)
    _F_SETPIPE_SZ: int | None = getattr(fcntl, "F_SETPIPE_SZ", None)
except ImportError:  # Windows
    _FIONREAD = _TIOCOUTQ = _F_SETPIPE_SZ = None

# What one step moves: below a millisecond, so that other spans get their turn. Also the size of
# the pipe, the most that the kernel allows without a privilege.
STEP = MiB
# Of the buffer for sums and for systems without splice: it stays in a core's second cache while
# it is filled, summed and written (measured: 128 to 512 KiB alike, 2 MiB a tenth dearer).
BUFFER = 256 * KiB
# Fewer bytes in a socket are not worth waking up for; on a fast link this halves the steps.
LOW_WATER = 512 * KiB
HAS_SPLICE = hasattr(os, "splice")
HAS_SENDFILE = hasattr(os, "sendfile")
_SPLICE_MOVE, _SPLICE_NONBLOCK = 1, 2  # <linux/splice.h>
_NOT_HERE = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)

Update = Callable[[memoryview, int], int]


@final
class Tools:
    """What a mover lends to the span whose turn it is: a buffer, a pipe that is empty, and what is
    known of its turns."""

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(BUFFER))
        self.turns = Turns()
        self._large = self.buffer
        self.splice = HAS_SPLICE
        self.sendfile = HAS_SENDFILE
        self._pipe: tuple[int, int] | None = None

    def large(self, size: int) -> memoryview:
        """A buffer of ``size`` at least, made when it is wanted first."""
        if len(self._large) < size:
            self._large = memoryview(bytearray(size))
        return self._large

    def pipe(self) -> tuple[int, int]:
        """Where to read, where to write."""
        if self._pipe is None:
            self._pipe = os.pipe()
            if _F_SETPIPE_SZ is not None:
                try:
                    fcntl.fcntl(self._pipe[1], _F_SETPIPE_SZ, STEP)
                except OSError:  # the user's pipes have used up what the system allows
                    pass
        return self._pipe

    def close(self) -> None:
        """Also where bytes of a failed step are in the pipe: the next one must not get them."""
        if self._pipe is not None:
            for end in self._pipe:
                os.close(end)
            self._pipe = None


class Span(ABC):
    """What is left to move. Between ``start`` and ``over`` its descriptors belong to a mover.

    Attributes:
        left: Bytes still to move; the loop may read it at any time.
        ended: The socket (down) or the file (up) ended before the span did.
        error: Why it broke off, of the file or of the socket, or a mistake of ours.
        ready: What the socket is ready for, at a step.
        heard: There is something to read, which ends a span that cannot go on meanwhile.
        over: The mover has let go of it.
    """

    events = 0

    def __init__(self, descriptor: int, offset: int, left: int) -> None:
        self.descriptor = descriptor
        self.offset = offset
        self.left = left
        self.ended = False
        self.error: Exception | None = None
        self.of_socket = False
        self.ready = 0
        self.heard = False
        self.over = False
        self._socket: socket.socket | None = None
        self._seen = (-1, -1)

    def open(self, descriptor: int) -> None:
        """Take a copy of the transport's socket: the loop refuses to watch a transport's own."""
        self._socket = socket.socket(fileno=os.dup(descriptor))

    @property
    def socket(self) -> socket.socket:
        assert self._socket is not None
        return self._socket

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def waiting(self, request: int | None) -> int:
        """Bytes in one of the socket's queues; 0 where the system does not say."""
        count = array.array("i", [0])
        if request is not None and self._socket is not None:
            try:
                fcntl.ioctl(self._socket.fileno(), request, count)
            except (OSError, ValueError):
                return 0
        return count[0]

    def changed(self, queue: int) -> bool:
        """Whether anything moved since this was asked last."""
        before, self._seen = self._seen, (self.left, queue)
        return before != self._seen

    def broke(self, error: Exception) -> None:
        """It ends by ``error``, which is of the file if it is a mistake of ours: to be raised."""
        self.error = error
        self.of_socket = self.of_socket and isinstance(error, OSError)

    @abstractmethod
    def begin(self, tools: Tools) -> None:
        """Before the first wait."""

    @abstractmethod
    def step(self, tools: Tools) -> None:
        """Move what can be moved now, at most ``STEP`` bytes."""

    @abstractmethod
    def end(self) -> None:
        """Behind the last step, whatever became of it."""

    @abstractmethod
    def moves(self) -> bool:
        """Whether the network has moved since this was asked last, or is not what is waited for."""

    @abstractmethod
    def arrived(self) -> int | None:
        """Bytes that the network has brought; None where it is not what is waited for."""

    def __repr__(self) -> str:
        state = "over" if self.over else f"left={self.left}"
        return f"<{type(self).__name__} {state}>"


@final
class SocketToFile(Span):
    """The rest of a body into a file that is open for reading and writing.

    Args:
        prefix: Bytes of the body that have been read already.
        update: Sums; None sums nothing.
    """

    events = selectors.EVENT_READ

    def __init__(
        self,
        descriptor: int,
        offset: int,
        left: int,
        prefix: memoryview,
        update: Update | None,
    ) -> None:
        super().__init__(descriptor, offset, left)
        self.crc = 0
        self._length = left
        self._prefix = prefix
        self._update = update
        self._low_water = 1

    def begin(self, tools: Tools) -> None:
        if len(self._prefix):
            if self._update is not None:
                self.crc = self._update(self._prefix, self.crc)
            self._write(self._prefix)
        self._set_low_water()

    def step(self, tools: Tools) -> None:
        try:
            if not (tools.splice and self._splice(tools)):
                self._copy(tools)
        except BlockingIOError:
            return
        self._set_low_water()

    def end(self) -> None:
        # Or the transport would not hear of the next answer.
        self._set_low_water(1)

    def moves(self) -> bool:
        queue = self.waiting(_FIONREAD)
        # More than the low water is there: it is the disk that is slow.
        return self.changed(queue) or queue >= self._low_water > 1

    def arrived(self) -> int | None:
        # Below the low water nobody takes them out of the socket.
        queue = self.waiting(_FIONREAD)
        return None if queue >= self._low_water > 1 else self._length - self.left + queue

    def _set_low_water(self, size: int | None = None) -> None:
        size = max(1, min(self.left, LOW_WATER)) if size is None else size
        if size != self._low_water and self._socket is not None:
            self._low_water = size
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
            except OSError:
                self._low_water = 1  # a wish; without it there are more steps

    def _splice(self, tools: Tools) -> bool:
        """False where this system, or this file's, has no splice."""
        out, into = tools.pipe()
        # Never more than is left of the body: what follows is not ours.
        size = min(self.left, STEP)
        self.of_socket = True
        try:
            got = os.splice(self.socket.fileno(), into, size, flags=_SPLICE_MOVE | _SPLICE_NONBLOCK)
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise
            tools.splice = False
            return False
        self.of_socket = False
        if got == 0:
            self.ended = True
            return True
        try:
            self._empty(out, got, tools)
        except BaseException:
            tools.close()
            raise
        return True

    def _empty(self, out: int, got: int, tools: Tools) -> None:
        """All of the pipe into the file: before the socket is read again, or is anybody else's."""
        done = 0
        while done < got:
            try:
                done += os.splice(
                    out,
                    self.descriptor,
                    got - done,
                    offset_dst=self.offset + done,
                    flags=_SPLICE_MOVE,
                )
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                tools.splice = False
                while done < got:
                    view = tools.buffer[: os.readv(out, [tools.buffer[: got - done]])]
                    _write_all(self.descriptor, view, self.offset + done)
                    done += len(view)
        if self._update is not None:
            self._read_back(got, tools)
        self._moved(got)

    def _read_back(self, size: int, tools: Tools) -> None:
        done = 0
        while done < size:
            view = tools.buffer[: size - done]
            got = os.preadv(self.descriptor, [view], self.offset + done)
            if not got:
                raise OSError(errno.EIO, "the file was cut while it was written")
            assert self._update is not None
            self.crc = self._update(view[:got], self.crc)
            done += got

    def _copy(self, tools: Tools) -> None:
        self.of_socket = True
        got = self.socket.recv_into(tools.buffer, min(self.left, len(tools.buffer)))
        self.of_socket = False
        if got == 0:
            self.ended = True
            return
        view = tools.buffer[:got]
        if self._update is not None:
            self.crc = self._update(view, self.crc)
        self._write(view)

    def _write(self, view: memoryview) -> None:
        _write_all(self.descriptor, view, self.offset)
        self._moved(len(view))

    def _moved(self, count: int) -> None:
        self.offset += count
        self.left -= count


class FileOut(Span):
    """A head, and a span of a file behind it.

    Attributes:
        sent: Bytes, head included, before they are enciphered.
    """

    def __init__(self, head: bytes, descriptor: int, offset: int, left: int) -> None:
        super().__init__(descriptor, offset, left)
        self.sent = 0
        self._head = memoryview(head)

    def begin(self, tools: Tools) -> None:
        # Of no effect where the file was read to be summed a moment ago.
        read_ahead(self.descriptor, self.offset, self.left)

    def end(self) -> None:
        """Nothing was set."""

    def moves(self) -> bool:
        queue = self.waiting(_TIOCOUTQ)
        # Nothing is left in the kernel: it is the disk that is slow.
        return self.changed(queue) or not queue

    def arrived(self) -> int | None:
        return None


@final
class FileToSocket(FileOut):
    """As it is."""

    events = selectors.EVENT_WRITE

    def step(self, tools: Tools) -> None:
        try:
            while len(self._head):
                self.of_socket = True
                gone = self.socket.send(self._head)
                self._head = self._head[gone:]
                self.sent += gone
            budget = min(self.left, STEP)
            while budget and not self.ended:
                gone = self._send(tools, budget)
                self.offset += gone
                self.left -= gone
                self.sent += gone
                budget -= gone
        except BlockingIOError:
            return

    def _send(self, tools: Tools, size: int) -> int:
        if tools.sendfile:
            self.of_socket = False  # who of the two failed is told by the kind of the error
            try:
                gone = os.sendfile(self.socket.fileno(), self.descriptor, self.offset, size)
            except ConnectionError:
                self.of_socket = True
                raise
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    self.of_socket = error.errno != errno.EIO
                    raise
                tools.sendfile = False
            else:
                # A file that has become shorter cannot be padded: there is no body to end well.
                self.ended = gone == 0
                return gone
        view = tools.buffer[: min(size, len(tools.buffer))]
        self.of_socket = False
        got = os.preadv(self.descriptor, [view], self.offset)
        self.ended = got == 0
        self.of_socket = True
        return self.socket.send(view[:got]) if got else 0


def _write_all(descriptor: int, view: memoryview, offset: int) -> None:
    done = 0
    while done < len(view):
        done += os.pwrite(descriptor, view[done:], offset + done)
