"""Bodies between a connection and files: by a mover over a plain socket, and up over TLS of our
own; else by a ring.

What lives here: the half of a connection that hands bodies to threads and waits for them. What
must not: the head of an exchange, how bytes are moved (``spans``, ``rings``).
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from abc import abstractmethod
from collections.abc import Callable

import anyio

from engine._wire.http11 import ResponseReader
from engine._wire.mover import Movers
from engine._wire.outbox import Outbox
from engine._wire.pacer import Pacer
from engine._wire.rings import FileThread, Intake, Outtake, Ring
from engine._wire.sockets import unsent
from engine._wire.spans import FileOut, FileToSocket, SocketToFile, Span, Update
from engine._wire.tls_spans import FileToTls, TlsLender
from engine._wire.waiting import Waiting
from engine.config import Timeouts
from engine.errors import ConnectionFailed


class EarlyAnswer(Exception):
    """The final answer is there before the request was sent: stop sending, read it, close."""


class Bodies(Waiting):
    """What ``Connection`` fills in, and what it inherits."""

    def __init__(self, timeouts: Timeouts, *, secure: bool) -> None:
        super().__init__()
        self._timeouts = timeouts
        self._secure = secure
        self._transport: asyncio.Transport | None = None
        self._early = False
        self._patience: float | None = None
        self._unsent = 0
        self._buffer = memoryview(b"")
        self._start = 0
        self._end = 0
        self._reader: ResponseReader | None = None
        self._target: memoryview | None = None
        self._filled = 0
        self._out = Outbox()
        self._span: Span | None = None
        self._intake: Intake | None = None
        self._outtake: Outtake | None = None
        self._sending: memoryview | None = None
        self._prefix = b""
        self._sent_by_movers = 0
        # Makes heads what a proxy wants.
        self.dress: Callable[[bytes], bytes] = bytes
        self.bytes_received = 0
        # Set by whoever opens the connection, where there is a limit of bandwidth.
        self.pacer: Pacer | None = None

    @abstractmethod
    def _check_sendable(self) -> None: ...
    @abstractmethod
    def _has_head(self) -> bool: ...
    @abstractmethod
    def _pause_reading(self) -> None: ...
    @abstractmethod
    def _take_pending(self) -> None: ...
    @abstractmethod
    def _end_of_stream(self, exc: Exception | None = None) -> None: ...

    @property
    def lends_socket(self) -> bool:
        """Whether a mover may have the socket: a plain one, without a limit of bandwidth."""
        free = not self._secure and self.pacer is None
        return free and self._transport is not None and not self._lost

    @property
    def sends_files(self) -> bool:
        """Whether a mover may send a file: over a plain socket, or over TLS of our own."""
        lends = isinstance(self._transport, TlsLender) and self.pacer is None and not self._lost
        return lends or self.lends_socket

    async def send_file(
        self, movers: Movers, head: bytes, descriptor: int, offset: int, length: int
    ) -> bool:
        """Send ``head`` and a span of a file; False where the file ended before the span did.

        Raises:
            EarlyAnswer, ConnectionFailed: As ``sent``.
            OSError: The file cannot be read.
        """
        self._check_sendable()
        assert not self._out.busy, "the transport would be overtaken"
        span: FileOut
        if isinstance(self._transport, TlsLender):
            span = await self._over_tls(self._transport, movers, head, descriptor, offset, length)
        else:
            span = FileToSocket(self.dress(head), descriptor, offset, length)
            await self._move(movers, span, "sending")
            self._sent_by_movers += span.sent
        if self._has_head() and span.left:
            self._early = True
        if span.error is not None and not span.of_socket and not self._early:
            raise span.error
        if span.left and not span.ended and not self._early:
            # The peer is gone. The transport reads that, and what was said before it.
            await self._wait(self._has_head, self._timeouts.stall, "sending")
            self._early = True
        if self._early:
            raise EarlyAnswer
        return not span.ended

    async def _over_tls(
        self,
        lender: TlsLender,
        movers: Movers,
        head: bytes,
        descriptor: int,
        offset: int,
        length: int,
    ) -> FileToTls:
        """Lend TLS to a mover until the file is sent, or an answer or an error ends it; returns
        the last span. In between read what the peer has to say to TLS itself."""
        head, plain, read = self.dress(head), 0, [True]

        def heard() -> None:
            read[0] = True
            self._notify()

        def goes_on() -> bool:
            return self._has_head() or (read[0] and not self._out.paused)

        await self._wait(goes_on, self._timeouts.stall, "sending")
        while True:
            lent = lender.lend()
            if lent is None:  # the connection ends
                await self._wait(self._has_head, self._timeouts.stall, "sending")
                self._early = True
                raise EarlyAnswer
            if not lent.unsent:  # the transport has sent it itself, before an answer of TLS's
                length, plain = length - plain, 0
            span = FileToTls(lent, head, descriptor, offset, length, plain)
            read[0] = False
            try:
                await self._move(movers, span, "sending")
            finally:
                self._sent_by_movers += span.sent
                lender.take_back(span.unsent, heard)
            if not span.heard:
                if isinstance(span.error, ssl.SSLError):
                    raise self._fail(ConnectionFailed(f"TLS failed: {span.error}"))
                return span
            await self._wait(goes_on, self._timeouts.stall, "sending")
            if self._has_head():
                return span
            head, offset, length, plain = span.head, span.offset, span.left, span.plain

    async def receive_file(
        self,
        movers: Movers,
        descriptor: int,
        offset: int,
        length: int,
        update: Update | None,
    ) -> int:
        """Receive ``length`` bytes of the body into a file; their sum, 0 without ``update``.

        Nothing of the body may have been taken before. ``length`` is what is left of it.

        Raises:
            ConnectionFailed: As ``filled``.
            OSError: The file cannot be written.
        """
        reader = self._reader
        assert reader is not None and reader.remaining == length and self._target is None
        self._pause_reading()
        prefix = self._buffer[self._start : self._end][:length]
        self._start += len(prefix)
        if self._start == self._end:
            self._start = self._end = 0
        self.bytes_received -= len(prefix)
        span = SocketToFile(descriptor, offset, length, prefix, update)
        try:
            await self._move(movers, span, "the answer's body")
        finally:
            self.bytes_received += length - span.left
            reader.advance(length - span.left)
        if span.error is not None and not span.of_socket:
            raise span.error
        if span.left:
            self._end_of_stream(span.error)
            raise self._fail(self._error or ConnectionFailed("the connection was lost"))
        return span.crc

    async def receive_into(self, thread: FileThread, intake: Intake) -> int:
        """Receive the rest of the body by way of a ring; the sum of it all.

        Raises:
            ConnectionFailed, ProtocolError: As ``filled``.
            BaseException: What the sink raised.
        """
        assert self._reader is not None and self._target is None and not self._reader.complete
        self._intake = intake
        intake.begin(thread, self._written)
        thread.threads.began()
        self._touch()
        try:
            self._target, self._filled = intake.take(), 0
            self._take_pending()
            limit = self._patience or self._timeouts.stall
            await self._wait(self._is_received, limit, "the answer's body")
            # Now it is the sink that is waited for; the connection may be gone meanwhile.
            while intake.error is None and not intake.idle:
                await self._woken(limit)
            if intake.error is not None:
                raise intake.error
            return intake.crc
        finally:
            if not intake.idle:
                await self._let_go(intake)
            target, self._target, self._intake = self._target, None, None
            intake.end(*(() if target is None else (target,)))
            thread.threads.ended()

    async def send_from(self, thread: FileThread, head: bytes, outtake: Outtake) -> None:
        """Send ``head`` and what a ring reads.

        Raises:
            EarlyAnswer, ConnectionFailed: As ``sent``.
            BaseException: What the source raised.
        """
        self._check_sendable()
        self._outtake, self._prefix = outtake, self.dress(head)
        outtake.begin(thread, self._feed)
        thread.threads.began()
        try:
            self._feed()
            try:
                await self._wait(self._is_sent_out, self._timeouts.stall, "sending")
            except ConnectionFailed:
                # Reset behind an early answer: the answer says more than the reset.
                if not self._early:
                    raise
            if self._early:
                raise EarlyAnswer
            if outtake.error is not None:
                raise outtake.error
        finally:
            self._out.clear()
            if not outtake.idle:
                await self._let_go(outtake)
            sending, self._sending, self._outtake = self._sending, None, None
            outtake.end(*(() if sending is None else (sending,)))
            thread.threads.ended()

    async def _let_go(self, ring: Ring) -> None:
        """Wait until the thread is done with a ring that nobody wants any more."""
        ring.drop()
        with anyio.CancelScope(shield=True):
            while not ring.idle:
                with contextlib.suppress(asyncio.CancelledError):  # a second native cancel
                    await self._woken(self._timeouts.stall)

    def _is_sent_out(self) -> bool:
        outtake = self._outtake
        assert outtake is not None
        return self._early or outtake.error is not None or not (outtake.left or self._out.busy)

    def _feed(self) -> None:
        """The transport has let go of a buffer, or the ring has read one: on with the next; one in
        a turn of the loop, or a socket that takes all keeps the others waiting."""
        outtake = self._outtake
        if outtake is not None and not (self._out.busy or self._early or self._lost):
            if self._sending is not None:
                outtake.give(self._sending)
                self._sending = None
            following = outtake.take()
            if following is not None:
                self._sending, size = following
                head, self._prefix = self._prefix, b""
                self._touch()
                self._out.put(self._sending[:size], head)
                if not self._out.busy:
                    asyncio.get_running_loop().call_soon(self._feed)
        self._notify()

    def _is_received(self) -> bool:
        assert self._intake is not None and self._reader is not None
        return self._intake.error is not None or self._reader.complete

    def _hand_over(self, intake: Intake) -> None:
        """The target is full, or the body has ended: on with the next one, if there is one."""
        assert self._target is not None and self._reader is not None
        intake.put(self._target, self._filled)
        self._target, self._filled = None, 0
        if self._reader.complete:
            self._notify()
        else:
            self._target = intake.take()
            if self._target is None:
                self._pause_reading()

    def _written(self) -> None:
        """The ring has a buffer free, or nothing left to do, or failed."""
        intake, reader = self._intake, self._reader
        if intake is None or reader is None:
            self._notify()
            return
        if self._target is None and not reader.complete and not self._lost:
            self._target = intake.take()
            self._touch()  # it was the sink that was waited for
            self._take_pending()
        self._notify()

    async def _move(self, movers: Movers, span: Span, what: str) -> None:
        """Let a mover have the socket until the span is over, or an answer ends it early."""
        assert self._transport is not None
        self._touch()
        self._span = span
        had_head = self._has_head()
        movers.start(span, self._transport.get_extra_info("socket").fileno(), self._notify)
        try:
            limit = self._patience or self._timeouts.stall
            # An answer ends it: early, or because the server was quicker to answer the last byte
            # than the mover to say that it was sent.
            await self._wait(lambda: span.over or self._has_head() is not had_head, limit, what)
        finally:
            if not span.over:
                movers.drop(span)
                with anyio.CancelScope(shield=True):
                    while not span.over:
                        with contextlib.suppress(asyncio.CancelledError):  # a second native cancel
                            await self._woken(self._timeouts.stall)
            self._span = None

    def _moved(self) -> int | None:
        # Blanks are progress where patience is asked for; a ring without a free buffer waits for
        # the file, and who has no turn waits for that.
        waits = self._intake is not None and self._target is None
        waits = waits or (self.pacer is not None and self.pacer.held)
        if waits or not self._has_head() or self._patience is not None:
            return None
        if self._span is None:
            return self.bytes_received
        arrived = self._span.arrived()
        return None if arrived is None else self.bytes_received + arrived

    def _is_paced(self, pacer: Pacer) -> bool:
        """Whether it is our own pace that is waited for, or slices have moved since the last
        progress: of those nothing is seen above."""
        if pacer.waits:
            self._touch()
            return True
        before, self._progress_at = self._progress_at, max(self._progress_at, pacer.moved_at)
        return self._progress_at > before

    def _kernel_moves(self) -> bool:
        """Whether the kernel has sent some of what it took from us since we last looked. On a slow
        link that takes longer than any limit, and nothing of it is seen above."""
        if self._span is not None and self._span.moves():
            self._touch()
            return True
        taking_in = self._intake is not None and self._target is None
        if taking_in or (self._outtake is not None and not self._out.busy):
            self._touch()  # it is the file that is slow
            return True
        if self.pacer is not None and self._is_paced(self.pacer):
            return True
        if self._transport is None or isinstance(self._span, SocketToFile):
            return False
        before, self._unsent = self._unsent, unsent(self._transport)
        moved = self._unsent != before and self._unsent > 0
        if moved:
            self._touch()
        return moved
