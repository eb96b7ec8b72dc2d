"""Pacers: one between a connection and its transport, where there is a limit of bandwidth.

What lives here: what is held back until its turn, in both directions. What must not: how much may
move (``engine.pace``), TLS, HTTP. Without a limit there are no pacers, and nothing is asked.

Below TLS of ours, so that heads and what TLS adds count, too; above TLS of the loop's (to a proxy,
and through one).

Up: slices, each in its turn; the connection is paused as long as some are kept, as by a transport
that cannot send. Down: one slice in a turn, and no reading until the next; the kernel's window,
made small by ``receive_window``, holds the server back. What comes while nobody has waited, as the
heads of answers, is read at once and spent afterwards.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Protocol, cast, final

from engine.pace import Pace

# What a kernel takes in unasked is on the line already when it is held back here: of all
# connections together an eighth of a second's worth. So many are there for big objects at first.
_AHEAD_SECONDS, _CONNECTIONS = 0.125, 16
# Connections begin with a window of 64 KiB or less; below a few segments there are only stops.
_WINDOW, _LEAST_WINDOW = 64 * 1024, 16 * 1024


class Paced(Protocol):
    """The protocol above: a connection, or its TLS."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def get_buffer(self, sizehint: int) -> memoryview: ...
    def buffer_updated(self, nbytes: int) -> None: ...
    def eof_received(self) -> bool | None: ...


def receive_window(called: socket.socket, pace: Pace) -> None:
    """Before ``called`` is connected: bound what the kernel receives ahead of us."""
    share = int(pace.limit * _AHEAD_SECONDS) // _CONNECTIONS
    if share < _WINDOW:  # else the kernel's own, which grows with what is read
        called.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, max(share, _LEAST_WINDOW))


@final
class Pacer(asyncio.BufferedProtocol, asyncio.Transport):
    """The protocol of the transport below, and the transport of the protocol above.

    Attributes:
        moved_at: When bytes have moved last, by the loop's clock.
    """

    def __init__(self, above: Paced, pace: Pace) -> None:
        super().__init__()
        self._above = above
        self._pace = pace
        self._time = asyncio.get_running_loop().time
        self.moved_at = self._time()
        self._below: asyncio.Transport | None = None
        # Up: what is kept, and who has paused.
        self._kept = memoryview(b"")
        self._kept_waits = False
        self._full = False  # the transport below
        self._paused = False  # the protocol above
        # Down: whether the protocol above wants bytes, whether a turn is waited for, and how many
        # bytes of the last one have not come.
        self._wanted = True
        self._held = False
        self._due = 0

    @property
    def held(self) -> bool:
        """Whether nothing is read before a turn."""
        return self._held

    @property
    def waits(self) -> bool:
        """Whether a turn is waited for, either way."""
        return self._kept_waits or self._held

    # Of the protocol above.

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if self._below is None:
            return
        if len(self._kept):  # of TLS, which says a word of its own
            self._kept = memoryview(b"".join((self._kept, data)))
            return
        pace, at = self._pace, 0
        while at < len(data) and not self._full and pace.ready:
            piece = data if len(data) <= pace.slice else memoryview(data)[at : at + pace.slice]
            at += len(piece)
            self._send(piece)
        if at < len(data):
            # A copy: its owner may be told to take the buffer back before it is sent.
            self._kept = memoryview(bytes(memoryview(data)[at:]))
            if not self._full:
                self._wait_to_send()
            self._pause()

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if self._below is not None:
            self._below.set_write_buffer_limits(high, low)

    def pause_reading(self) -> None:
        if self._wanted:
            self._wanted = False
            if not self._held and self._below is not None:
                self._below.pause_reading()

    def resume_reading(self) -> None:
        if self._wanted:
            return
        self._wanted = True
        if self._held or self._below is None:
            return
        if self._due or self._pace.ready:
            self._below.resume_reading()
        else:
            self._held = True
            self._pace.wait(self._read_turn)

    def is_closing(self) -> bool:
        return self._below is None or self._below.is_closing()

    def close(self) -> None:
        """As ``abort``: whoever closes has nothing more to send."""
        self.abort()

    def abort(self) -> None:
        self._kept = memoryview(b"")
        if self._below is not None:
            self._below.abort()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default if self._below is None else self._below.get_extra_info(name, default)

    # Of the transport below.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._below = cast("asyncio.Transport", transport)
        self._above.connection_made(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._above.connection_lost(exc)
        self._below = None
        self._kept = memoryview(b"")
        self._pace.spend(-self._due)
        self._due = 0

    def pause_writing(self) -> None:
        self._full = True
        self._pause()

    def resume_writing(self) -> None:
        self._full = False
        if len(self._kept):
            self._wait_to_send()
        else:
            self._resume()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._above.get_buffer(sizehint)[: self._due or self._pace.slice]

    def buffer_updated(self, nbytes: int) -> None:
        self.moved_at = self._time()
        unpaid = nbytes - self._due
        self._due = max(-unpaid, 0)
        if unpaid > 0:
            self._pace.spend(unpaid)
        if not self._due and not self._pace.ready and self._below is not None:
            self._held = True
            self._below.pause_reading()
            self._pace.wait(self._read_turn)
        self._above.buffer_updated(nbytes)

    def eof_received(self) -> bool | None:
        return self._above.eof_received()

    # Turns.

    def _read_turn(self) -> None:
        self._held = False
        if self._wanted and self._below is not None and not self._below.is_closing():
            self._due = self._pace.slice
            self._pace.spend(self._due)
            self._below.resume_reading()

    def _write_turn(self) -> None:
        self._kept_waits = False
        if self._below is None or self._below.is_closing():
            self._kept = memoryview(b"")
            return
        piece, self._kept = self._kept[: self._pace.slice], self._kept[self._pace.slice :]
        self._send(piece)
        if self._full:
            return  # it is the transport that is waited for
        if len(self._kept):
            self._wait_to_send()
        else:
            self._resume()

    def _wait_to_send(self) -> None:
        if not self._kept_waits:
            self._kept_waits = True
            self._pace.wait(self._write_turn)

    def _send(self, piece: bytes | bytearray | memoryview[Any]) -> None:
        assert self._below is not None
        self.moved_at = self._time()
        self._pace.spend(len(piece))
        self._below.write(piece)

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._above.pause_writing()

    def _resume(self) -> None:
        if self._paused and not self._full:
            self._paused = False
            self._above.resume_writing()

    def __repr__(self) -> str:
        return f"<Pacer kept={len(self._kept)} held={self._held} due={self._due}>"
