"""The sending half of a connection: slices into a transport, as fast as it lets go of them.

What lives here: back-pressure of writes. What must not: waiting, reading, HTTP.
"""

from __future__ import annotations

import asyncio
from typing import final

# OpenSSL and the transports make a bytes object of what is written. Measured over TLS, CPU of a
# whole upload: 64, 192 and 256 KiB a twentieth more than this, 32 and 128 KiB an eighth.
SEND_SLICE = 96 * 1024


@final
class Outbox:
    """One piece under way at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._prefix = b""
        self._piece: memoryview | None = None
        self._written = 0
        self._paused = False
        self._pumping = False
        self.bytes_sent = 0

    @property
    def busy(self) -> bool:
        """Whether bytes of ours are not yet written, or still in the transport."""
        return self._piece is not None

    @property
    def unwritten(self) -> bool:
        """Whether bytes of ours have not even been given to the transport."""
        return self._piece is not None and self._written < len(self._piece)

    @property
    def paused(self) -> bool:
        """Whether the transport holds bytes, of whoever they are."""
        return self._paused

    def attach(self, transport: asyncio.Transport, *, secure: bool) -> None:
        """Write to ``transport`` from now on."""
        self._transport = transport
        # Not 0 with TLS: the stock transport pauses at "size >= high", also with nothing to send.
        # 0 without: not paused must mean that nothing is left in it, or a mover would overtake it.
        transport.set_write_buffer_limits(high=1 if secure else 0, low=0)

    def detach(self) -> None:
        """The transport is gone."""
        self.clear()

    def put(self, piece: memoryview, prefix: bytes) -> None:
        """Start sending ``prefix`` and ``piece``."""
        assert self._piece is None, "the last piece is not sent"
        self._prefix, self._piece, self._written = prefix, piece, 0
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
        self._piece = None
        self._prefix = b""

    def pump(self) -> None:
        """Write slices until the transport pauses us or the piece is gone."""
        if self._pumping:  # resumed from inside our own write
            return
        self._pumping = True
        try:
            while self._piece is not None and not self._paused:
                assert self._transport is not None
                if self._transport.is_closing():
                    break  # a write failed; connection_lost is on its way
                if self._written == len(self._piece) and not self._prefix:
                    self._piece = None
                else:
                    self._write_slice(self._piece)
        finally:
            self._pumping = False

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
