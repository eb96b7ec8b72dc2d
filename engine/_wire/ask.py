"""One small request to a local service, and its whole answer. For metadata and container keys.

What lives here: a GET or PUT without a body, never through a proxy, never past a redirect. What
must not: what an answer means (``credentials/providers``), repetition.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from engine._wire.connect import Connector
from engine._wire.connection import Connection
from engine._wire.endpoint import Origin
from engine._wire.http11 import build_request
from engine._wire.pool import MAX_SMALL_BODY, ConnectionPool
from engine.clock import LoopClock, http_date
from engine.config import Timeouts
from engine.errors import RedirectRefused
from engine.threads import ThreadDoor


@dataclass(frozen=True, slots=True)
class SmallAnswer:
    """A whole answer. Its repr shows no body: it may be keys."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def date(self) -> datetime | None:
        """The server's clock when it answered."""
        return http_date(self.headers.get("date"), unzoned=UTC)

    def __repr__(self) -> str:
        return f"<SmallAnswer {self.status}, {len(self.body)} bytes>"


Ask = Callable[[str, str, Mapping[str, str]], Awaitable[SmallAnswer]]
"""``ask(method, target, headers)``; ``target`` is encoded and starts with a slash."""


@asynccontextmanager
async def asking(
    origin: Origin, timeouts: Timeouts, door: ThreadDoor, *, ca_bundle: str | None = None
) -> AsyncIterator[Ask]:
    """Requests to ``origin`` over one connection, closed at the end of the block.

    What is yielded raises:
        ConnectionFailed: No connection, no answer, or half of one.
        ProtocolError: An answer that HTTP does not allow.
        RedirectRefused: The answer points elsewhere. Following it would take the token along, and
            keys would come from another host.
        UsageError: A header value that could end its line; the value is not shown.
    """
    pool = ConnectionPool(Connector(timeouts, door, ca_bundle), LoopClock(), max_connections=1)

    async def ask(method: str, target: str, headers: Mapping[str, str]) -> SmallAnswer:
        fields = {"host": origin.host_header, **headers}
        if method != "GET":
            fields["content-length"] = "0"
        head = build_request(method, target, fields)

        async def send(connection: Connection) -> None:
            connection.begin_send(memoryview(b""), head)
            await connection.sent()

        async with pool.request(origin, method, send, repeatable=True) as response:
            status = response.head.status
            if 300 <= status < 400:
                # Without the path: some platforms put a secret into it.
                raise RedirectRefused(
                    f"{origin} answered with a redirect ({status})",
                    fix="It is never followed: keys would come from, or go to, another host",
                )
            body = await response.read_small(MAX_SMALL_BODY)
            return SmallAnswer(status, response.head.headers, body)

    try:
        yield ask
    finally:
        await pool.aclose()
