"""The sending half of a connection: slices into a transport, as fast as it lets go of them.

What lives here: back-pressure of writes. What must not: waiting, reading, HTTP.

A span of a file goes from the kernel's cache to a plain socket without a copy of ours
(``sendfile``). The transport knows nothing of it, so it begins only when the transport holds
nothing, and it has a descriptor of its own: the loop refuses to watch a transport's.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

# OpenSSL and the transports make a bytes object of what is written; above this size each one
# costs fresh pages (measured: 512 KiB twice as dear as 128 KiB).
SEND_SLICE = 128 * 1024
# What one turn of the loop sends of a file: below a millisecond, so that others get their turn.
TURN_SPAN = 1024 * 1024


@dataclass(slots=True)
class _FileSpan:
    """What is left to send of a file."""

    descriptor: int
    offset: int
    left: int


@final
class Outbox:
    """One piece under way at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._progress: Callable[[], None] = _nothing
        self._loop: asyncio.AbstractEventLoop | None = None
        self._socket = -1
        self._watching = False
        self._span: _FileSpan | None = None
        self.short = False
        self._prefix = b""
        self._piece: memoryview | None = None
        self._written = 0
        self._paused = False
        self._pumping = False
        self.bytes_sent = 0

    @property
    def busy(self) -> bool:
        """Whether bytes of ours are not yet written, or still in the transport."""
        return self._piece is not None or self._span is not None

    @property
    def unwritten(self) -> bool:
        """Whether bytes of ours have not even been given to the transport."""
        if self._piece is not None:
            return self._written < len(self._piece)
        return self._span is not None

    def attach(
        self, transport: asyncio.Transport, *, secure: bool, progress: Callable[[], None]
    ) -> None:
        """Write to ``transport`` from now on; ``progress`` is told when bytes of a file went."""
        self._transport = transport
        self._progress = progress
        self._loop = asyncio.get_running_loop()
        # Not 0 with TLS: the stock transport pauses at "size >= high", also with nothing to send.
        # 0 without: not paused must mean that nothing is left in it, or a file would overtake it.
        transport.set_write_buffer_limits(high=1 if secure else 0, low=0)

    def detach(self) -> None:
        """The transport is gone."""
        self.clear()
        if self._socket >= 0:
            os.close(self._socket)
            self._socket = -1

    def put(self, piece: memoryview, prefix: bytes) -> None:
        """Start sending ``prefix`` and ``piece``."""
        assert self._piece is None, "the last piece is not sent"
        self._prefix, self._piece, self._written = prefix, piece, 0
        self.pump()

    def put_file(self, descriptor: int, offset: int, length: int, prefix: bytes) -> None:
        """Start sending ``prefix`` and a span of a file. Only without TLS.

        ``short`` is set where the file ends before the span does.
        """
        assert not self.busy, "the last piece is not sent"
        assert self._transport is not None
        if self._socket < 0:
            self._socket = os.dup(self._transport.get_extra_info("socket").fileno())
        self.short = False
        self._prefix, self._span = prefix, _FileSpan(descriptor, offset, length)
        self.pump()

    def pause(self) -> None:
        """The transport holds bytes of ours."""
        self._paused = True

    def resume(self) -> None:
        """The transport holds nothing of ours any more."""
        self._paused = False
        self.pump()

    def clear(self) -> None:
        """Forget what is not yet written."""
        self._piece = self._span = None
        self._prefix = b""
        self._watch(False)

    def pump(self) -> None:
        """Write slices until the transport pauses us or the piece is gone."""
        if self._pumping:  # resumed from inside our own write
            return
        self._pumping = True
        try:
            while self.busy and not self._paused:
                assert self._transport is not None
                if self._transport.is_closing():
                    break  # a write failed; connection_lost is on its way
                if self._span is not None:
                    if not self._send_span(self._span):
                        break
                elif self._piece is None:
                    break
                elif self._written == len(self._piece) and not self._prefix:
                    self._piece = None
                else:
                    self._write_slice(self._piece)
        finally:
            self._pumping = False

    def _send_span(self, span: _FileSpan) -> bool:
        """One turn's worth of a file; False where the next turn goes on."""
        assert self._transport is not None
        if self._prefix:
            self.bytes_sent += len(self._prefix)
            head, self._prefix = self._prefix, b""
            self._transport.write(head)
            return True  # and look whether the transport took it
        budget = min(span.left, TURN_SPAN)
        while budget:
            try:
                sent = os.sendfile(self._socket, span.descriptor, span.offset, budget)
            except BlockingIOError:
                break
            except OSError:
                # The peer is gone. The transport reads that, and what was said before it.
                self._watch(False)
                return False
            if not sent:
                self.short = True
                span.left = 0
                break
            span.offset += sent
            span.left -= sent
            budget -= sent
            self.bytes_sent += sent
        if span.left:
            self._watch(True)
            return False
        self._span = None
        self._watch(False)
        return True

    def _watch(self, on: bool) -> None:
        """Have the loop call when the socket takes more."""
        if on is self._watching or self._loop is None:
            return
        self._watching = on
        if on:
            self._loop.add_writer(self._socket, self._writable)
        else:
            self._loop.remove_writer(self._socket)

    def _writable(self) -> None:
        self.pump()
        self._progress()

    def _write_slice(self, piece: memoryview) -> None:
        data: memoryview | bytes = piece[self._written : self._written + SEND_SLICE]
        self._written += len(data)
        if self._prefix:
            # One packet for a head and a small body.
            data = b"".join((self._prefix, data))
            self._prefix = b""
        self.bytes_sent += len(data)
        assert self._transport is not None
        self._transport.write(data)


def _nothing() -> None:
    """Before a transport is there, nobody listens."""
