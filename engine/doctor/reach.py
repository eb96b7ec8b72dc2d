"""One unsigned request to an endpoint: does it answer, and what time does it have?

Any answer will do; its Date is the server's clock whatever else it says. Nothing is signed, so it
works with keys that are wrong and with a clock that is hours off. Redirects are not followed (the
global STS answers a bare GET with one to its documentation).
"""

from __future__ import annotations

from dataclasses import dataclass

from engine._wire.connect import Connector
from engine._wire.connection import Connection
from engine._wire.endpoint import parse_endpoint
from engine._wire.http11 import build_request
from engine._wire.pool import ConnectionPool
from engine.clock import http_date
from engine.config import Endpoints
from engine.protocols import Clock
from engine.threads import ThreadDoor


@dataclass(frozen=True, slots=True)
class Answer:
    """An endpoint that answered.

    Attributes:
        offset: Its clock minus ours, seconds; None without a Date. Date has steps of one second.
    """

    status: int
    offset: float | None


async def reach(
    url: str, endpoints: Endpoints, *, clock: Clock, threads: ThreadDoor, user_agent: str
) -> Answer:
    """Ask ``url`` for anything.

    Raises:
        ConnectionFailed: No address, no connection, no answer, or a certificate not trusted.
        ProtocolError: What answered does not speak HTTP.
    """
    origin, path = parse_endpoint(url)
    connector = Connector(endpoints.timeouts, threads, endpoints.ca_bundle, endpoints.proxies)
    pool = ConnectionPool(connector, clock, max_connections=1)
    head = build_request(
        "GET",
        f"{path}/",
        {"host": origin.host_header, "accept": "*/*", "user-agent": user_agent},
    )

    async def send(connection: Connection) -> None:
        connection.begin_send(memoryview(b""), head)
        await connection.sent()

    try:
        async with pool.request(origin, "GET", send, repeatable=True) as response:
            answered_at = clock.now()
            await response.read_small()
            date = http_date(response.head.headers.get("date"))
            offset = None if date is None else (date - answered_at).total_seconds()
            return Answer(response.head.status, offset)
    finally:
        await pool.aclose()
