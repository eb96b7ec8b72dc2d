"""TLS between a connection and a socket's transport, record by record.

What lives here: a transport for ``Connection`` on top of the loop's plain one. What must not: which
certificates are trusted (``connect``), HTTP.

Why not the loops' own: they keep what was received, and what OpenSSL made of it, in buffers of
256 KiB and 340 KiB for each connection and for good, up to 300 MB for the 512 connections that
small objects on a far server are worth. Here all connections share the buffer that takes what comes
and the one that OpenSSL reads, and a connection has only what is left of a record that has not come
whole; so bytes are also taken apart while they are in a core's cache. What OpenSSL writes is a
connection's own, because a mover may send a file by it (``tls_spans``): 22 KiB, or a unit of those.

Rules of this file
- OpenSSL is given whole records only, and takes each at once: nothing of one connection is left in
  the buffers when something of another comes, or when anybody else is called. So it is also
  asked for plaintext only when there is some: its "want read" is an exception that costs as much as
  deciphering.
- Whoever reads may pause at any byte: what came behind it is kept aside until he goes on.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, cast, final

from engine._wire.connection import Connection
from engine._wire.tls_spans import RECORD, LentTls, TlsLender

_HEADER = 5
# A body in small records leaves the buffer of its connection small; of bigger ones there are fewer
# connections, and to write all at once is a tenth cheaper.
FEW = 80 * 1024
# What one look at a socket takes at most.
RECEIVE = 256 * 1024
# What records begin with (RFC 8446, 5.1): change of ciphers, alert, handshake, data.
_TYPES = range(20, 24)


@final
class TlsBuffers:
    """Of all connections of one loop: nothing stays in them."""

    def __init__(self) -> None:
        self.received = memoryview(bytearray(RECEIVE))
        self.incoming = ssl.MemoryBIO()


@final
class TlsTransport(asyncio.BufferedProtocol, TlsLender):
    """The protocol of a plain transport, and the transport of a ``Connection``.

    Args:
        buffers: Shared by all connections of one loop.
    """

    def __init__(
        self, above: Connection, context: ssl.SSLContext, name: str, buffers: TlsBuffers
    ) -> None:
        super().__init__()
        self.above = above
        self._received = buffers.received
        self._incoming, self._outgoing = buffers.incoming, ssl.MemoryBIO()
        self._ssl = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self._below: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[None] = self._loop.create_future()
        self._open = False
        self._paused = False  # by the connection
        self._held = False  # what comes is kept aside: from a pause until that is handed over
        self._aside = b""
        self._target: memoryview | None = None
        self._filled = 0
        self._part = b""  # of the record that is coming in
        self._error: Exception | None = None
        self._eof = False
        self._heard: Callable[[], None] | None = None
        self._unsent = memoryview(b"")  # by a mover

    async def shaken(self) -> None:
        """Wait for the end of the handshake.

        Raises:
            ssl.SSLError: It failed, or the certificate is not trusted.
            OSError: The connection was lost.
        """
        await self._done

    # Of the connection above.

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Encipher and send it."""
        if self._below is None or self._error is not None:
            return
        try:
            if len(data) <= RECORD:
                self._ssl.write(data)
                self._below.write(self._outgoing.read())
                return
            view, records = memoryview(data), []
            for start in range(0, len(view), RECORD):
                self._ssl.write(view[start : start + RECORD])
                if len(view) <= FEW:
                    records.append(self._outgoing.read())
            records.append(self._outgoing.read())
            if len(records) == 1:
                self._below.write(records[0])
            else:
                self._below.writelines(records)
        except ssl.SSLError as error:
            self._break(error)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Of the transport below: nothing is kept here."""
        assert self._below is not None
        self._below.set_write_buffer_limits(0, 0)

    def pause_reading(self) -> None:
        """Hand nothing more over."""
        if not self._paused:
            self._paused = self._held = True
            if self._below is not None and not self._eof:
                self._below.pause_reading()

    def resume_reading(self) -> None:
        """Go on, first with what is kept aside."""
        if self._paused:
            self._paused = False
            self._loop.call_soon(self._go_on)

    def lend(self) -> LentTls | None:
        if self._held and not self._paused:
            self._go_on()  # which was to come in a moment
        if self._held or self._eof or self._error is not None or not self._open:
            return None
        self.pause_reading()
        unsent, self._unsent = self._unsent, self._unsent[:0]
        return LentTls(self._ssl, self._outgoing, unsent)

    def take_back(self, unsent: memoryview, heard: Callable[[], None]) -> None:
        self._unsent, self._heard = unsent, heard
        self.resume_reading()

    def is_closing(self) -> bool:
        """Whether it is of no use any more."""
        return self._below is None or self._below.is_closing()

    def close(self) -> None:
        """As ``abort``: nobody waits for the peer's farewell."""
        self.abort()

    def abort(self) -> None:
        """Close at once."""
        self._open = False
        if self._below is not None:
            self._below.abort()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As of the loop's own TLS transports."""
        if name == "ssl_object":
            return self._ssl
        return default if self._below is None else self._below.get_extra_info(name, default)

    # Of the transport below.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._below = cast("asyncio.Transport", transport)
        self._shake()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._received

    def buffer_updated(self, nbytes: int) -> None:
        if self._held:  # it came before the pause was heard of
            self._aside += bytes(self._received[:nbytes])
        else:
            self._take(self._received[:nbytes])
        self._tell()

    def eof_received(self) -> bool:
        self._eof = True
        if self._held:
            return True  # what came before is delivered first
        if self._open:
            self.above.eof_received()
        self._tell()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._below = None
        self._aside = b""
        if not self._done.done():
            lost = ConnectionResetError("the connection was lost in the TLS handshake")
            self._done.set_exception(self._error or exc or lost)
            self._done.exception()  # nobody may be there to hear it
        else:
            self.above.connection_lost(self._error or exc)
        self._open = False
        self._tell()

    def pause_writing(self) -> None:
        if self._open:
            self.above.pause_writing()

    def resume_writing(self) -> None:
        if self._open:
            self.above.resume_writing()

    def _tell(self) -> None:
        """Whoever lent this is waiting for what was read."""
        heard, self._heard = self._heard, None
        if heard is not None:
            heard()

    # Records.

    def _shake(self) -> None:
        try:
            self._ssl.do_handshake()
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLError, ssl.CertificateError) as error:
            self._flush()  # the alert
            self._break(error)
            return
        else:
            self._flush()
            self._open = True
            self.above.connection_made(self)
            if not self._done.done():
                self._done.set_result(None)
            return
        self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending:
            data = b"".join((self._unsent, self._outgoing.read()))
            self._unsent = self._unsent[:0]
            if self._below is not None:
                self._below.write(data)

    def _break(self, error: Exception) -> None:
        self._incoming.read()  # what OpenSSL did not take is not for others
        self._outgoing.read()
        self._error = error
        if self._below is not None:
            self._below.abort()

    def _take(self, view: memoryview) -> None:
        """Take records apart until there are no more, or nobody wants them."""
        at, size = 0, len(view)
        try:
            while at < size and self._error is None:
                if self._target is not None and not self._part:
                    at = self._take_whole(view, at, self._target)
                at = self._feed(view, at)
                if self._part:
                    break  # the rest of the record is still to come
                if self._open:
                    self._decipher()
                    if self._held or not self._open:
                        self._aside = bytes(view[at:])
                        return
                else:
                    self._shake()
            self._deliver()
        except ssl.SSLError as error:
            self._incoming.read()
            self._deliver()
            self._break(error)

    def _take_whole(self, view: memoryview, at: int, target: memoryview) -> int:
        """Records that are there from end to end, as many as there is room for, but for the last
        of both: of a big body nearly all of them. Returns where they end."""
        write, read = self._incoming.write, self._ssl.read
        filled, room, size = self._filled, len(target), len(view) - _HEADER
        while at < size:
            length = _HEADER + (view[at + 3] << 8 | view[at + 4])
            if at + length > size or filled + length > room:
                break
            write(view[at : at + length])
            at += length
            try:
                filled += int(read(length, target[filled:]))
            except ssl.SSLWantReadError:
                break
        self._filled = filled
        return at

    def _feed(self, view: memoryview, at: int) -> int:
        """Give OpenSSL the next record, or keep as much of it as has come; returns its end."""
        part = self._part
        if not part and len(view) - at >= _HEADER:
            stop = at + _HEADER + (view[at + 3] << 8 | view[at + 4])
            if stop <= len(view):
                self._incoming.write(view[at:stop])
                return stop
        if len(part) < _HEADER:
            self._part = part + view[at : at + _HEADER - len(part)]
            at += len(self._part) - len(part)
            part = self._part
            if len(part) < _HEADER:
                return at
        stop = at + _HEADER + (part[3] << 8 | part[4]) - len(part)
        if stop > len(view) and part[0] in _TYPES:
            self._part = part + view[at:]
            return len(view)
        # Whole; or no record, which may have no end: OpenSSL says so.
        self._incoming.write(part)
        self._incoming.write(view[at:stop])
        self._part = b""
        return min(stop, len(view))

    def _decipher(self) -> None:
        """Read all that is in: a record, behind what a pause has left of the last one."""
        while True:
            if self._target is None:
                self._target, self._filled = self.above.get_buffer(-1), 0
            room = self._target[self._filled :]
            try:
                got = self._ssl.read(len(room), room)
            except ssl.SSLWantReadError:
                return  # a ticket or a change of keys: no bytes of ours
            if not got:
                self._farewell()
                return
            self._filled += int(got)
            full = self._filled == len(self._target)
            if full or len(self._target) <= RECORD:
                self._deliver()  # a head, most likely: what is behind it goes elsewhere
                if self._held or not self._open:
                    return
            if not full or not self._ssl.pending():
                return

    def _deliver(self) -> None:
        self._flush()  # an answer to a change of keys, most likely none
        if self._target is not None:
            self._target, filled = None, self._filled
            if filled and self._open:
                self.above.buffer_updated(filled)

    def _farewell(self) -> None:
        """The peer says that nothing more will come."""
        self._deliver()
        if self._open:
            self.above.eof_received()
        self.abort()

    def _go_on(self) -> None:
        if self._paused or not self._held or not self._open:
            return
        self._held = False
        try:
            if self._ssl.pending():
                self._decipher()
                self._deliver()
        except ssl.SSLError as error:
            self._break(error)
        if self._held:
            return  # paused again: what is kept aside stays there
        aside, self._aside = self._aside, b""
        if aside:
            self._take(memoryview(aside))
        if self._held or not self._open or self._below is None:
            return
        if self._eof:
            self.above.eof_received()
            self.abort()
        else:
            self._below.resume_reading()
