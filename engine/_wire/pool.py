"""A bounded pool of keep-alive connections, and the one exchange that goes over each.

What lives here: who gets which connection, and the free repetition of a request whose reused
connection was dead. What must not: any other repetition (``engine.retry``), signing, S3.

Reuse: last in, first out, so that a falling load lets the rest grow old and be dropped. S3 closes
idle connections after 5 to 20 seconds; ours are dropped at 4. That does not remove the race, so
a reused connection that dies before the first byte of the answer is replaced once, at once.

Opening is the pool's, not a request's: who finds no idle connection has one opened, and takes
whichever comes first, that one or another that is given back. So a new one, two round trips away
with TLS, keeps nobody waiting while others lie idle; and where many requests will follow an answer
that is under way, connections are opened ahead.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import final

import anyio
from msgspec import Struct

from engine._wire.connect import Connector
from engine._wire.connection import Connection, EarlyAnswer
from engine._wire.endpoint import Origin
from engine._wire.http11 import ResponseHead
from engine._wire.landing import Landing
from engine._wire.proxy import PROXY_LOGIN
from engine.errors import ConnectionFailed, ProtocolError, ProxyRefused
from engine.protocols import Clock
from engine.shield import Tasks

IDLE_SECONDS = 4.0
MAX_CONNECTIONS = 512
# Error documents are read up to here to keep the connection; longer ones cost it.
MAX_SMALL_BODY = 64 * 1024
# uvloop's time stands still while a round of the loop lasts. Seconds.
_CLOCK_STEP = 0.001
# How long aclose waits for the sockets to go.
_CLOSE_SECONDS = 1.0
_CLOSED = "the connection pool is closed"

Send = Callable[[Connection], Awaitable[None]]
"""Sends one request over a connection: ``begin_send`` and ``sent``, as often as needed."""


class PoolStatistics(Struct, frozen=True):
    """Connections now (busy, idle, waiting requests), and counts since the start."""

    busy: int
    idle: int
    waiting: int
    opened: int
    reused: int
    replaced: int
    dropped: int


@final
class Response:
    """One answer under way; valid until ``ConnectionPool.release``."""

    __slots__ = ("connection", "head", "origin")

    def __init__(self, origin: Origin, connection: Connection, head: ResponseHead) -> None:
        self.origin = origin
        self.connection = connection
        self.head = head

    async def read_small(self, limit: int = MAX_SMALL_BODY) -> bytes:
        """The body, cut at ``limit`` bytes.

        Raises:
            ConnectionFailed: The connection broke inside the body.
            ProtocolError: A body that HTTP does not allow.
        """
        text = self.head.headers.get("content-length", "")
        length = int(text) if text.isascii() and text.isdigit() else 0
        found = bytearray()
        while len(found) < limit and not self.connection.complete:
            # Not all of the limit where no length is said: most answers are far below it.
            size = min(limit - len(found), length - len(found) if length else MAX_SMALL_BODY)
            view = memoryview(bytearray(size))
            self.connection.begin_fill(view)
            got = await self.connection.filled()
            if got == length:
                return bytes(view)  # all of it at once
            found += view[:got]
        return bytes(found)


@final
class _Places:
    """A semaphore: as many exchanges at once, the others in turn.

    Not ``anyio.CapacityLimiter``: its bookkeeping by task costs more than a signature.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = total
        self._queue: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def taken(self) -> int:
        return self.total - self._free

    def take_now(self) -> bool:
        """Whether there was one to take."""
        if self._queue or not self._free:
            return False
        self._free -= 1
        return True

    async def take(self) -> None:
        place = asyncio.get_running_loop().create_future()
        self._queue.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.give()  # it came together with the cancellation
            else:
                with suppress(ValueError):  # passed over already
                    self._queue.remove(place)
            raise

    def give(self) -> None:
        while self._queue:
            place = self._queue.popleft()
            if not place.done():
                place.set_result(None)
                return
        self._free += 1
        assert self._free <= self.total, "more given back than taken"


class _Line:
    """Requests to one origin that wait for a connection, and how many are being opened: never
    fewer than there are requests in it."""

    def __init__(self) -> None:
        self.waiting: deque[asyncio.Future[Connection]] = deque()
        self.coming = 0

    def serve(self, connection: Connection) -> bool:
        """Whether there was somebody to take it."""
        if (place := self._first()) is None:
            return False
        place.set_result(connection)
        return True

    def fail(self, error: Exception) -> None:
        """Tell the one who has waited longest."""
        if (place := self._first()) is not None:
            place.set_exception(error)

    def _first(self) -> asyncio.Future[Connection] | None:
        while self.waiting:
            place = self.waiting.popleft()
            if not place.done():  # else cancelled
                return place
        return None


@final
class ConnectionPool:
    """Connections to any number of origins, ``max_connections`` of them at once.

    Args:
        max_connections: Exchanges under way at once; further requests wait in turn.
        max_idle: Idle connections kept over all origins; None for ``max_connections``.
        idle_seconds: Age at which an idle connection is dropped.
    """

    def __init__(
        self,
        connector: Connector,
        clock: Clock,
        *,
        max_connections: int = MAX_CONNECTIONS,
        max_idle: int | None = None,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._connector = connector
        self._clock = clock
        self._places = _Places(max_connections)
        self._max_idle = max_connections if max_idle is None else max_idle
        self._idle_seconds = idle_seconds
        # Oldest first, over all origins: one order for "last in, first out" and for eviction.
        self._idle: deque[tuple[Origin, Connection]] = deque()
        self._busy: set[Connection] = set()
        self._lines: dict[Origin, _Line] = {}
        self._openings = Tasks()
        # Seconds from the beginning of a request to the head of its answer, the least so far;
        # 0 while there was none.
        self.round_trip = 0.0
        self._closed = False
        # Request ids: the first of each origin, and the origins that gave another one since.
        self._first_ids: dict[Origin, str] = {}
        self._telling: set[Origin] = set()
        self._opened = self._reused = self._replaced = self._dropped = 0

    @asynccontextmanager
    async def request(
        self,
        origin: Origin,
        method: str,
        send: Send,
        *,
        repeatable: bool,
        patience: float | None = None,
    ) -> AsyncIterator[Response]:
        """``exchange`` and ``release``. The connection is kept if the whole answer was read."""
        response = await self.exchange(
            origin, method, send, repeatable=repeatable, patience=patience
        )
        try:
            yield response
        finally:
            # Also behind an error: an error document that was read leaves a clean connection.
            self.release(response)

    async def exchange(
        self,
        origin: Origin,
        method: str,
        send: Send,
        *,
        repeatable: bool,
        patience: float | None = None,
        into: Landing | None = None,
        span: str = "",
    ) -> Response:
        """One exchange up to the answer's head; the answer is to be given to ``release``.

        Args:
            send: May be called twice where ``repeatable``.
            repeatable: Whether the request may be made again if a reused connection dies
                before the first byte of the answer.
            patience: Seconds without a byte of the answer, where the usual is too short.
            into, span: Takes the body of a success that is exactly as long; see
                ``Connection.begin``.

        Raises:
            ConnectionFailed: No connection, no answer, or half of one.
            ProtocolError: An answer that HTTP does not allow.
        """
        if not self._places.take_now():
            await self._places.take()
        connection: Connection | None = None
        try:
            connection = self._take(origin) or await self._next(origin)
            try:
                head = await self._ask(connection, method, send, patience, into, span)
            except ConnectionFailed:
                fresh = connection.exchanges == 1 and not connection.idle_since
                if fresh or connection.answer_started or connection.timed_out or not repeatable:
                    raise
                self._drop(connection)
                connection = None  # it may not be possible to open another
                self._replaced += 1
                self._make_room()
                connection = await self._open(origin)
                head = await self._ask(connection, method, send, patience, into, span)
            self._check_own(origin, connection, head)
            return Response(origin, connection, head)
        except BaseException:
            self._end(origin, connection)
            raise

    def _check_own(self, origin: Origin, connection: Connection, head: ResponseHead) -> None:
        """Refuse the answer to the request before, come again: HTTP/1.1 has no other way to tell
        answers apart than their order, so a repeated one would be taken for the next.

        By S3's request id, as far as the origin gives each answer its own. Some have one for all.
        """
        said = head.headers.get("x-amz-request-id")
        if said is None:
            return
        before, connection.answered = connection.answered, head
        if before is None:
            if self._first_ids.setdefault(origin, said) != said:
                self._telling.add(origin)
        elif before.headers.get("x-amz-request-id") != said:
            if not connection.tells:
                connection.tells = True
                self._telling.add(origin)
        elif before.headers == head.headers and origin in self._telling:
            connection.abort()
            raise ProtocolError("the answer to the request before came a second time")

    def release(self, response: Response) -> None:
        """Its connection is free: kept if the whole answer was read, else closed."""
        self._end(response.origin, response.connection)

    def _end(self, origin: Origin, connection: Connection | None) -> None:
        if connection is not None and connection.reusable:
            self._give_back(origin, connection)
        elif connection is not None:
            self._drop(connection)
        self._places.give()

    async def _ask(
        self,
        connection: Connection,
        method: str,
        send: Send,
        patience: float | None,
        into: Landing | None,
        span: str,
    ) -> ResponseHead:
        began = self._clock.monotonic()
        connection.begin(method, patience, into, span)
        try:
            await send(connection)
        except EarlyAnswer:
            head = await connection.head()
            if head.status < 300:
                raise ProtocolError(
                    f"the server answered {head.status} before it had the whole body"
                ) from None
            return head
        head = await connection.head()
        took = max(self._clock.monotonic() - began, _CLOCK_STEP)
        if took < self.round_trip or not self.round_trip:
            self.round_trip = took
        if head.status == 407:
            # Of the proxy, whatever was asked of whom behind it.
            raise ProxyRefused(
                "the proxy wants a user and password, or did not take ours (407)",
                fix=PROXY_LOGIN,
            )
        return head

    def _take(self, origin: Origin) -> Connection | None:
        """The youngest idle connection to ``origin`` that still lives, if there is one."""
        if not self._idle:
            return None
        self._drop_old()
        for index in range(len(self._idle) - 1, -1, -1):
            other, connection = self._idle[index]
            if other is not origin and other != origin:
                continue
            del self._idle[index]
            if connection.quiet():
                self._reused += 1
                self._busy.add(connection)
                return connection
            self._drop(connection)
        return None

    async def open_ahead(self, origin: Origin, number: int) -> None:
        """Have ``number`` connections open, busy ones included; returns when they are. Why one
        cannot be opened is told to a request that waits for it, if there is one."""
        await self._connector.prepare(origin)
        waiting = sum(len(line.waiting) for line in self._lines.values())
        # Who waits holds a place, and one is being opened for him.
        there = self._places.taken - waiting + len(self._idle) + len(self._openings)
        more = min(number, self._places.total) - there
        for _ in range(more):
            self._begin_opening(origin)
        await self._openings.wait()

    async def _next(self, origin: Origin) -> Connection:
        """The first that is given back, or has been opened."""
        line = self._lines.setdefault(origin, _Line())
        while True:
            place: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
            line.waiting.append(place)
            if line.coming < len(line.waiting):
                self._begin_opening(origin)
            try:
                connection = await place
            except asyncio.CancelledError:
                with suppress(ValueError):  # passed over already
                    line.waiting.remove(place)
                if place.done() and not place.cancelled() and place.exception() is None:
                    self._give_back(origin, place.result())
                raise
            if not connection.exchanges or connection.quiet():
                return connection
            self._drop(connection)  # it died in the moment between

    def _begin_opening(self, origin: Origin) -> None:
        self._make_room()
        line = self._lines.setdefault(origin, _Line())
        line.coming += 1
        # The pool's own: whoever it was begun for may be served by another one before.
        self._openings.start(self._open_for(origin, line))

    async def _open_for(self, origin: Origin, line: _Line) -> None:
        error: Exception
        try:
            connection = await self._open(origin)
        except asyncio.CancelledError:
            error = ConnectionFailed(_CLOSED)  # nobody else cancels it
        except Exception as failed:
            error = failed
        else:
            line.coming -= 1
            if not line.serve(connection):
                self._give_back(origin, connection)
            return
        line.coming -= 1
        if len(line.waiting) > line.coming:
            line.fail(error)

    def _make_room(self) -> None:
        """For one more: idle connections to other origins must not take us over the limit."""
        there = len(self._busy) + len(self._openings)
        while self._idle and there + len(self._idle) >= self._places.total:
            self._drop(self._idle.popleft()[1])

    async def _open(self, origin: Origin) -> Connection:
        if self._closed:
            raise ConnectionFailed(_CLOSED)
        connection = await self._connector.open(origin)
        self._opened += 1
        self._busy.add(connection)
        return connection

    def _give_back(self, origin: Origin, connection: Connection) -> None:
        if self._closed or self._max_idle == 0:
            self._drop(connection)
            return
        connection.rest(self._clock.monotonic())
        line = self._lines.get(origin)
        if line is not None and line.serve(connection):
            self._reused += 1
            return
        self._busy.discard(connection)
        # Only idle ones count here: busy ones do not push an idle one out.
        while len(self._idle) >= self._max_idle:
            self._drop(self._idle.popleft()[1])
        self._idle.append((origin, connection))

    def _drop_old(self) -> None:
        oldest = self._clock.monotonic() - self._idle_seconds
        while self._idle and self._idle[0][1].idle_since <= oldest:
            self._drop(self._idle.popleft()[1])

    def _drop(self, connection: Connection) -> None:
        self._busy.discard(connection)
        self._dropped += 1
        connection.abort()

    async def aclose(self) -> None:
        """Close all connections. Requests under way fail with ConnectionFailed."""
        self._closed = True
        self._openings.cancel()
        for line in self._lines.values():
            while line.waiting:
                line.fail(ConnectionFailed(_CLOSED))
        closing = list(self._busy)
        for connection in closing:
            connection.abort()
        while self._idle:
            closing.append(self._idle.popleft()[1])
            self._drop(closing[-1])
        # The transports let go of their sockets in the next rounds of the loop.
        with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
            await self._openings.wait()
            for connection in closing:
                await connection.closed()

    def statistics(self) -> PoolStatistics:
        """Where the connections are now and what became of them."""
        return PoolStatistics(
            busy=len(self._busy),
            idle=len(self._idle),
            waiting=self._places.waiting,
            opened=self._opened,
            reused=self._reused,
            replaced=self._replaced,
            dropped=self._dropped,
        )

    def __repr__(self) -> str:
        s = self.statistics()
        limit = self._places.total
        state = " closed" if self._closed else ""
        return f"<ConnectionPool{state} busy={s.busy}/{limit} idle={s.idle} waiting={s.waiting}>"
