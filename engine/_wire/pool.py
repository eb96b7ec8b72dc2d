"""A bounded pool of keep-alive connections, and the one exchange that goes over each.

What lives here: who gets which connection, and the free repetition of a request whose reused
connection was dead. What must not: any other repetition (``engine.retry``), signing, S3.

Reuse: last in, first out, so that a falling load lets the rest grow old and be dropped. S3 closes
idle connections after 5 to 20 seconds; ours are dropped at 4. That does not remove the race, so
a reused connection that dies before the first byte of the answer is replaced once, at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import final

import anyio

from engine._wire.connect import Connector
from engine._wire.connection import Connection, EarlyAnswer
from engine._wire.endpoint import Origin
from engine._wire.http11 import ResponseHead
from engine._wire.proxy import PROXY_LOGIN
from engine.errors import ConnectionFailed, ProtocolError, ProxyRefused
from engine.protocols import Clock

IDLE_SECONDS = 4.0
MAX_CONNECTIONS = 512
# Error documents are read up to here to keep the connection; longer ones cost it.
MAX_SMALL_BODY = 64 * 1024
# How long aclose waits for the sockets to go.
_CLOSE_SECONDS = 1.0

Send = Callable[[Connection], Awaitable[None]]
"""Sends one request over a connection: ``begin_send`` and ``sent``, as often as needed."""


@dataclass(frozen=True, slots=True)
class PoolStatistics:
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
    """One answer under way; valid inside ``ConnectionPool.request``."""

    def __init__(self, connection: Connection, head: ResponseHead) -> None:
        self.connection = connection
        self.head = head

    async def read_small(self, limit: int = MAX_SMALL_BODY) -> bytes:
        """The body, cut at ``limit`` bytes.

        Raises:
            ConnectionFailed: The connection broke inside the body.
            ProtocolError: A body that HTTP does not allow.
        """
        text = self.head.headers.get("content-length", "")
        length = int(text) if text.isascii() and text.isdigit() else limit
        found = bytearray()
        while len(found) < limit and not self.connection.complete:
            # Not all of the limit at once: most answers are far below it.
            size = min(limit - len(found), max(length - len(found), 1), MAX_SMALL_BODY)
            view = memoryview(bytearray(size))
            self.connection.begin_fill(view)
            found += view[: await self.connection.filled()]
        return bytes(found)


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
        self._slots = anyio.CapacityLimiter(max_connections)
        self._max_idle = max_connections if max_idle is None else max_idle
        self._idle_seconds = idle_seconds
        # Oldest first, over all origins: one order for "last in, first out" and for eviction.
        self._idle: deque[tuple[Origin, Connection]] = deque()
        self._busy: set[Connection] = set()
        self._closed = False
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
        """One exchange. The connection is kept if the whole answer was read, else closed.

        Args:
            send: May be called twice where ``repeatable``.
            repeatable: Whether the request may be made again if a reused connection dies
                before the first byte of the answer.
            patience: Seconds without a byte of the answer, where the usual is too short.

        Raises:
            ConnectionFailed: No connection, no answer, or half of one.
            ProtocolError: An answer that HTTP does not allow.
        """
        holder = object()
        try:
            self._slots.acquire_on_behalf_of_nowait(holder)  # a turn of the loop less
        except anyio.WouldBlock:
            await self._slots.acquire_on_behalf_of(holder)
        connection: Connection | None = None
        try:
            connection = await self._take(origin)
            try:
                head = await self._exchange(connection, method, send, patience)
            except ConnectionFailed:
                fresh = connection.exchanges == 1
                if fresh or connection.answer_started or connection.timed_out or not repeatable:
                    raise
                self._drop(connection)
                self._replaced += 1
                connection = await self._open(origin)
                head = await self._exchange(connection, method, send, patience)
            yield Response(connection, head)
        finally:
            # Also behind an error: an error document that was read leaves a clean connection.
            if connection is not None and connection.reusable:
                self._give_back(origin, connection)
            elif connection is not None:
                self._drop(connection)
            self._slots.release_on_behalf_of(holder)

    async def _exchange(
        self, connection: Connection, method: str, send: Send, patience: float | None
    ) -> ResponseHead:
        connection.begin(method, patience)
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
        if head.status == 407:
            # Of the proxy, whatever was asked of whom behind it.
            raise ProxyRefused(
                "the proxy wants a user and password, or did not take ours (407)",
                fix=PROXY_LOGIN,
            )
        return head

    async def _take(self, origin: Origin) -> Connection:
        """The youngest idle connection to ``origin`` that still lives, or a fresh one."""
        self._drop_old()
        for index in range(len(self._idle) - 1, -1, -1):
            if self._idle[index][0] != origin:
                continue
            connection = self._idle[index][1]
            del self._idle[index]
            if connection.quiet():
                self._reused += 1
                self._busy.add(connection)
                return connection
            self._drop(connection)
        return await self._open(origin)

    async def _open(self, origin: Origin) -> Connection:
        if self._closed:
            raise ConnectionFailed("the connection pool is closed")
        # Idle connections to other origins must not take us over the limit.
        while self._idle and len(self._busy) + len(self._idle) >= self._slots.total_tokens:
            self._drop(self._idle.popleft()[1])
        connection = await self._connector.open(origin)
        self._opened += 1
        self._busy.add(connection)
        return connection

    def _give_back(self, origin: Origin, connection: Connection) -> None:
        self._busy.discard(connection)
        if self._closed or self._max_idle == 0:
            self._drop(connection)
            return
        # Only idle ones count here: busy ones do not push an idle one out.
        while len(self._idle) >= self._max_idle:
            self._drop(self._idle.popleft()[1])
        connection.rest(self._clock.monotonic())
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
        closing = list(self._busy)
        for connection in closing:
            connection.abort()
        while self._idle:
            closing.append(self._idle.popleft()[1])
            self._drop(closing[-1])
        # The transports let go of their sockets in the next rounds of the loop.
        with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
            for connection in closing:
                await connection.closed()

    def statistics(self) -> PoolStatistics:
        """Where the connections are now and what became of them."""
        return PoolStatistics(
            busy=len(self._busy),
            idle=len(self._idle),
            waiting=self._slots.statistics().tasks_waiting,
            opened=self._opened,
            reused=self._reused,
            replaced=self._replaced,
            dropped=self._dropped,
        )

    def __repr__(self) -> str:
        s = self.statistics()
        limit = int(self._slots.total_tokens)
        state = " closed" if self._closed else ""
        return f"<ConnectionPool{state} busy={s.busy}/{limit} idle={s.idle} waiting={s.waiting}>"
