"""A small HTTP proxy on loopback: CONNECT, and requests in absolute form.

``hosts`` says where a name leads, so that a test may use AWS's own names without leaving this
machine. What must not live here: anything of ``engine``.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit


@dataclass
class HttpProxy:
    """Counts who was asked for.

    Attributes:
        asked: ``host:port`` of every request, in order.
        heads: Each request's head as it came in.
        hosts: Where a ``host:port`` leads; others are refused (403).
        authorization: What Proxy-Authorization has to be; "" takes everything.
        answer: Sent instead of everything else.
    """

    port: int = 0
    asked: list[str] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    hosts: dict[str, int] = field(default_factory=dict)
    authorization: str = ""
    answer: bytes = b""
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        method, target, _ = head.split("\r\n")[0].split(" ")
        place = target if method == "CONNECT" else urlsplit(target).netloc
        self.asked.append(place)
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        refused = self.answer
        if self.authorization and fields.get("proxy-authorization") != self.authorization:
            refused = b"HTTP/1.1 407 X\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"
        elif place not in self.hosts:
            refused = refused or b"HTTP/1.1 403 X\r\nContent-Length: 2\r\n\r\nno"
        if refused:
            writer.write(refused)
            await writer.drain()
            await asyncio.sleep(0.02)
            return
        there = await asyncio.open_connection("127.0.0.1", self.hosts[place])
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            there[1].write(_forwarded(head).encode())
        try:
            again = self._forward_next if method != "CONNECT" else None
            await _pipe_both((reader, writer), there, again, fields)
        finally:
            there[1].transport.abort()

    async def _forward_next(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fields: dict[str, str]
    ) -> None:
        """Bodies as they are, and each further request of the connection in origin form."""
        while True:
            left = int(fields.get("content-length", "0"))
            while left:
                data = await reader.read(min(left, 65536))
                left -= len(data)
                writer.write(data)
                await writer.drain()
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
            writer.write(_forwarded(head).encode())


def _forwarded(head: str) -> str:
    """A request in absolute form as the origin gets it."""
    first, _, rest = head.partition("\r\n")
    method, target, version = first.split(" ")
    parts = urlsplit(target)
    path = target.removeprefix(f"{parts.scheme}://{parts.netloc}")
    lines = [line for line in rest.split("\r\n") if not line.startswith("proxy-authorization")]
    return f"{method} {path} {version}\r\n" + "\r\n".join(lines)


_Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _pipe_both(one: _Ends, other: _Ends, forward: Any, fields: dict[str, str]) -> None:
    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()

    ways = [
        asyncio.ensure_future(
            forward(one[0], other[1], fields) if forward else pipe(one[0], other[1])
        ),
        asyncio.ensure_future(pipe(other[0], one[1])),
    ]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


@asynccontextmanager
async def run_proxy(tls: ssl.SSLContext | None = None) -> AsyncIterator[HttpProxy]:
    """A proxy on a free port of 127.0.0.1."""
    proxy = HttpProxy()
    server = await asyncio.start_server(proxy.handle, "127.0.0.1", 0, ssl=tls)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in proxy.tasks:
            task.cancel()
        await asyncio.gather(*proxy.tasks, return_exceptions=True)
        await asyncio.sleep(0)
