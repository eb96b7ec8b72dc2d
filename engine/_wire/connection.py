"""One connection: a request out with back-pressure, its answer into the caller's buffers.

Rules of this file
- One exchange at a time, one waiter at a time. Callbacks move bytes and wake the waiter; they
  never wait and never raise into the loop.
- A buffer given by ``begin_send`` may be rewritten after ``sent``; one given by ``begin_fill`` may
  be read after ``filled``. Between the two it belongs to the connection. ``abort`` gives both back.
- Reading stays on while a body is sent, so that an early answer is seen.
- Any doubt ends the connection: an error, a cancelled waiter, a stray byte. ``reusable`` is True
  only behind a complete answer of a complete request.

Theory of operation
Sending: the ``Outbox`` writes slices until the transport pauses it (its limit is one byte, so
"resumed" means that nothing of ours is left in it) and goes on when it is resumed. So a piece of
1 MiB costs one wake-up, and the caller reads the next piece meanwhile.
Receiving: the transport asks where to put bytes. While a body by length is awaited the answer is
the caller's own buffer: nothing is copied. Everything else goes through a small buffer of ours,
whose bytes the pure ``ResponseReader`` takes apart. A full target pauses reading at once: the
kernel's window is the flow control.
Waiting: every wait has a limit in seconds since the last progress, by the loop's clock.
Files: see ``bodies``; over a plain socket, and up over TLS, a mover moves them, and the transport
leaves that direction alone meanwhile; else a ring lies between the transport and the file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast, final

import anyio

from engine._wire.bodies import Bodies
from engine._wire.bodies import EarlyAnswer as EarlyAnswer
from engine._wire.http11 import Framing, ResponseHead, ResponseReader
from engine._wire.landing import Landing
from engine._wire.sockets import listener, read_left_over
from engine._wire.spans import FileToSocket, SocketToFile
from engine.config import Timeouts
from engine.errors import ConnectionFailed, EngineError, ProtocolError

# For heads, error documents and the first bytes of a body; all else goes straight into the
# caller's buffer. Larger would copy more of each small object; a hundred connections have one each.
RECEIVE_BUFFER = 16 * 1024
# Over TLS a read can be cut anywhere for nothing: what is behind a head stays with OpenSSL.
RECEIVE_BUFFER_TLS = 4 * 1024


@final
class Connection(Bodies, asyncio.BufferedProtocol):
    """A connection that is open or was. Made by ``connect.open_connection``."""

    def __init__(self, timeouts: Timeouts, *, secure: bool) -> None:
        super().__init__(timeouts, secure=secure)
        self._eof = False
        # Receiving: [start, end) of the buffer is not yet taken apart.
        self._buffer = memoryview(bytearray(RECEIVE_BUFFER_TLS if secure else RECEIVE_BUFFER))
        self._reading = True
        self._into: Landing | None = None
        self._into_span = ""
        self._answered = False
        self._hears: Callable[[], bool] | None = None
        self._gone = anyio.Event()
        self.exchanges = 0
        # The pool's: the last answer, and whether this server's answers have ids of their own.
        self.answered: ResponseHead | None = None
        self.tells = False
        self.idle_since = 0.0

    # The exchange, in the order of its calls.

    def begin(
        self,
        method: str,
        patience: float | None = None,
        into: Landing | None = None,
        span: str = "",
    ) -> None:
        """Start an exchange; the connection must be ``quiet``.

        Args:
            patience: Seconds without a byte of the answer; None for the usual.
            into: Takes the body of a success if it is exactly as long, before ``head`` returns:
                a small object is waited for once. Its ``start`` tells whether it did.
            span: How the Content-Range of that success begins (``bytes 0-9/``); empty where the
                whole was asked for. The body of any other answer is not waited for.
        """
        assert self._reader is None or self._reader.complete, "the last exchange is not over"
        self._reader = ResponseReader(method)
        self._early = self._answered = False
        self._into, self._into_span = into, span
        if into is not None:
            into.start = -1
        self._patience = patience
        self.exchanges += 1
        self._touch()

    def begin_send(self, view: memoryview, head: bytes = b"") -> None:
        """Start sending ``head`` and ``view``; ``sent`` waits for the end.

        Raises:
            EarlyAnswer: An answer has come; nothing more is sent.
            ConnectionFailed: The connection is lost.
        """
        self._check_sendable()
        self._out.put(view, self.dress(head))

    def _check_sendable(self) -> None:
        if self._early or self._head() is not None:
            self._early = True
            raise EarlyAnswer
        if self._lost:
            raise self._error or ConnectionFailed("the connection was lost")
        self._touch()

    async def sent(self) -> None:
        """Wait until the transport has let go of all that ``begin_send`` gave it.

        Raises:
            EarlyAnswer: An answer that is no success came first.
            ConnectionFailed: The connection broke, or moved no byte for ``Timeouts.stall``.
        """
        try:
            await self._wait(self._is_sent, self._timeouts.stall, "sending")
        except ConnectionFailed:
            # Reset behind an early answer: the answer says more than the reset.
            if not self._early:
                raise
        if self._early:
            raise EarlyAnswer

    @property
    def sending(self) -> bool:
        """Whether ``sent`` has something to wait for."""
        return self._out.busy

    async def permitted(self, seconds: float) -> bool:
        """Wait for 100 (Continue); False where it has not come within ``seconds``.

        Raises:
            EarlyAnswer: The final answer came instead: the body is not wanted.
            ConnectionFailed: The connection broke.
        """
        deadline = self._loop.time() + seconds
        reader = self._reader
        assert reader is not None
        while not (reader.continued or reader.head or self._lost or self._error):
            left = deadline - self._loop.time()
            if left <= 0:
                return False
            await self._woken(left)
        if reader.head is not None:
            self._early = True
            raise EarlyAnswer
        if self._lost or self._error:
            raise self._error or ConnectionFailed("the connection was lost")
        self._touch()
        return True

    async def head(self) -> ResponseHead:
        """Wait for the head of the final answer.

        Raises:
            ConnectionFailed: The connection broke, or ``Timeouts.first_byte`` passed.
            ProtocolError: An answer that HTTP does not allow.
        """
        if not self._answered:
            self._touch()
            limit = self._patience or self._timeouts.first_byte
            await self._wait(self._is_answered, limit, "the answer's head")
        head = self._head()
        assert head is not None
        if self._secure and self._reader and self._reader.framing is Framing.CLOSE:
            # Without a length only TLS's close_notify would tell an end from a cut, and the
            # transports do not pass it on.
            raise self._fail(ProtocolError("an answer over TLS without a length"))
        return head

    def begin_fill(self, view: memoryview) -> None:
        """Start to receive body into ``view``; ``filled`` waits for the end."""
        assert self._target is None and len(view) > 0
        self._target, self._filled = view, 0
        self._touch()
        self._take_pending()

    async def filled(self) -> int:
        """Wait until the view is full or the body ends; returns the bytes in it.

        Raises:
            ConnectionFailed: The connection broke inside the body, or moved no byte for
                ``Timeouts.stall``.
            ProtocolError: A body that HTTP does not allow.
        """
        limit = self._patience or self._timeouts.stall
        await self._wait(self._is_filled, limit, "the answer's body")
        return self._filled

    @property
    def complete(self) -> bool:
        """Whether the whole answer has been received."""
        return self._reader is not None and self._reader.complete

    @property
    def answer_started(self) -> bool:
        """Whether a byte of the answer has arrived."""
        return self._reader is not None and self._reader.started

    @property
    def reusable(self) -> bool:
        """Whether another exchange may follow this one."""
        reader = self._reader
        if reader is None or reader.head is None or not reader.complete:
            return False
        if self._lost or self._eof or self._error or self._early:
            return False
        if self._out.busy or self._span is not None or self._start != self._end:
            return False
        return reader.framing is not Framing.CLOSE and reader.head.keep_alive

    def rest(self, now: float) -> None:
        """The exchange is over; bytes and EOF from now on end the connection."""
        self.idle_since = now
        self._resume_reading()

    def quiet(self) -> bool:
        """Whether the idle connection still lives: open, and nothing to read on it."""
        if self._lost or self._eof or self._error or self._start != self._end:
            return False
        if self._secure and not self.exchanges:
            return True  # tickets are unread as long as the loop is busy
        if self._hears is None and self._transport is not None:
            self._hears = listener(self._transport)
        return self._hears is not None and not self._hears()

    def abort(self) -> None:
        """Close at once and give all buffers back. Safe to call twice."""
        self._lost = True
        self._disarm()
        if self._intake is None:
            self._target = None
        self._into = None
        self._out.clear()
        if self._transport is not None:
            self._transport.abort()
        self._notify()

    async def closed(self) -> None:
        """Wait until the transport has let go of the socket."""
        await self._gone.wait()

    @property
    def bytes_sent(self) -> int:
        """Bytes given to the transport since the connection was opened, heads included."""
        return self._out.bytes_sent + self._sent_by_movers

    # Callbacks of the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._out.attach(self._transport, secure=self._secure)

    def get_buffer(self, sizehint: int) -> memoryview:
        into = self._into
        if into is not None and into.takes_head and not self._end:
            return into.room
        target = self._direct_target()
        return self._buffer[self._end :] if target is None else target

    def buffer_updated(self, nbytes: int) -> None:
        self.bytes_received += nbytes
        into = self._into
        if into is not None and into.takes_head and not self._end:
            self._land(into, nbytes)
            return
        if self._direct_target() is not None:
            assert self._reader is not None
            self._reader.advance(nbytes)
            self._filled += nbytes
            self._touch()
            self._check_filled()
            return
        self._end += nbytes
        if self._reader is None or self._reader.complete:
            # Behind the end of an answer, or before any request: bytes that belong to nobody.
            self.abort()
            return
        if self._reader.head is None:
            self._read_head()
        else:
            self._touch()
            self._take_pending()

    def eof_received(self) -> bool:
        self._eof = True
        self._end_of_stream()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._head() is None and not self._lost and not self._eof and not self._secure:
            self._rescue()
        self._lost = True
        self._end_of_stream(exc)
        self._transport = None
        self._disarm()
        self._out.detach()
        self._gone.set()

    def pause_writing(self) -> None:
        self._out.pause()

    def resume_writing(self) -> None:
        self._touch()
        self._out.resume()
        if self._outtake is not None:
            self._feed()
        elif not self._out.busy:
            self._notify()

    # Helpers of receiving.

    def _head(self) -> ResponseHead | None:
        return self._reader.head if self._reader is not None else None

    def _is_sent(self) -> bool:
        return not self._out.busy

    def _has_head(self) -> bool:
        return self._head() is not None

    def _is_answered(self) -> bool:
        return self._answered

    def _is_filled(self) -> bool:
        return self._target is None

    def _direct_target(self) -> memoryview | None:
        """Where body bytes may go without a copy: behind what is there, up to the body's end."""
        if self._target is None or self._reader is None or self._start != self._end:
            return None
        left = self._reader.remaining
        return self._target[self._filled : self._filled + left] if left else None

    def _land(self, into: Landing, end: int) -> None:
        """The first ``end`` bytes of the room are the answer's: its head or a piece of that, and
        what came with it."""
        reader = self._reader
        assert reader is not None
        start = self._feed_head(into.room, 0, end)
        if start < 0 or reader.head is None:
            return
        fits = len(into.room) - start >= into.size >= end - start
        if fits and reader.remaining == into.size and self._is_meant(reader.head):
            self._into = None
            self._target, self._filled, into.start = into.body(start), end - start, start
            reader.advance(end - start)
            self._check_filled()
            if self._target is not None:
                self._wait_on(self._timeouts.stall, "the answer's body")
            return
        rest = end - start
        if rest > len(self._buffer):  # another body than was expected
            self._buffer = memoryview(bytearray(rest + RECEIVE_BUFFER))
        self._buffer[:rest] = into.room[start:end]
        self._start, self._end = 0, rest
        self._head_is_read(reader)

    def _read_head(self) -> None:
        reader = self._reader
        assert reader is not None
        self._start = max(self._start, self._feed_head(self._buffer, self._start, self._end))
        if self._start == self._end:
            self._start = self._end = 0
        if reader.head is not None:
            self._head_is_read(reader)

    def _feed_head(self, buffer: memoryview, start: int, end: int) -> int:
        """Read a head, or a piece of one; returns where it ended, -1 after an error."""
        reader = self._reader
        assert reader is not None
        try:
            while start < end and reader.head is None:
                start += reader.feed(buffer[start:end])[0]
        except ProtocolError as error:
            self._fail(error)
            return -1
        if reader.head is None and reader.continued:
            self._notify()
        return start

    def _head_is_read(self, reader: ResponseReader) -> None:
        head = reader.head
        assert head is not None
        # No success can be known before the body is; an error can.
        # What a mover has sent by now only ``send_file`` can tell, once it has stopped.
        sending = self._out.busy or (isinstance(self._span, FileToSocket) and not self._span.over)
        unread = self._outtake is not None and self._outtake.left > 0
        if unread or self._out.unwritten or (sending and head.status >= 300):
            self._early = True
            self._out.clear()
        into, self._into = self._into, None
        if into is not None and reader.remaining == into.size and self._is_meant(head):
            self._target, self._filled, into.start = into.body(), 0, 0
            self._take_pending()
            if self._target is not None:
                self._wait_on(self._timeouts.stall, "the answer's body")
            return
        self._answered = True
        if not reader.complete:
            self._pause_reading()
        self._notify()

    def _is_meant(self, head: ResponseHead) -> bool:
        if not self._into_span or head.status == 200:
            return head.status == 200
        where = head.headers.get("content-range", "")
        return head.status == 206 and where.startswith(self._into_span)

    def _take_pending(self) -> None:
        """Move body bytes from our buffer to the target, then let more come if there is room."""
        reader = self._reader
        assert reader is not None
        try:
            while self._target is not None and self._start < self._end and not reader.complete:
                room = len(self._target) - self._filled
                taken, body = reader.feed(self._buffer[self._start : self._end][:room])
                self._target[self._filled : self._filled + len(body)] = body
                self._filled += len(body)
                self._start += taken
                if self._filled == len(self._target):
                    if self._intake is None:
                        break
                    self._hand_over(self._intake)
            if self._start == self._end:
                self._start = self._end = 0
                if self._eof:
                    reader.eof()
        except EngineError as error:
            self._fail(error)
            return
        self._check_filled()
        if self._target is not None:
            self._resume_reading()
        elif self._end == len(self._buffer):
            self._pause_reading()

    def _check_filled(self) -> None:
        assert self._reader is not None
        target = self._target
        if target is not None and (self._filled == len(target) or self._reader.complete):
            if self._intake is not None:
                self._hand_over(self._intake)
                return
            self._target = None
            self._answered = True
            if not self._reader.complete:
                self._pause_reading()
            self._notify()

    def _pause_reading(self) -> None:
        if self._reading and self._transport is not None:
            self._reading = False
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if not self._reading and self._transport is not None and not self._lost:
            self._reading = True
            self._transport.resume_reading()

    def _rescue(self) -> None:
        """Hear an answer that came before the reset."""
        if self._transport is not None and self._reader is not None:
            got = read_left_over(self._transport, self._buffer[self._end :])
            self._end += got
            self.bytes_received += got
            if got:
                self._read_head()

    # Ends.

    def _end_of_stream(self, exc: Exception | None = None) -> None:
        """No byte will come any more; bytes in our buffer are still good."""
        reader = self._reader
        unread = self._has_head() and self._start < self._end
        away = isinstance(self._span, SocketToFile)  # a mover knows how much has come
        if reader is None or reader.complete or self._error or unread or away:
            self._notify()
            return
        try:
            reader.eof()
            self._check_filled()
        except ConnectionFailed as error:
            why = f": {exc.__class__.__name__}: {exc}" if exc else ""
            self._error = ConnectionFailed(f"{error.headline}{why}")
            self._error.__cause__ = exc
        self._notify()

    def __repr__(self) -> str:
        state = "lost" if self._lost else "open" if self._transport else "opening"
        answer = "idle" if self._reader is None or self.complete else "busy"
        return f"<Connection {state} {answer} exchanges={self.exchanges}>"
