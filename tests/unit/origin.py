"""A misbehaving HTTP origin on loopback: raw sockets, scripted answers, no HTTP library.

Without a script it is a tiny S3: PUT stores, GET gives back. What must not live here: anything of
``engine._wire``; a double that shares code with what it tests proves nothing.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import struct
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme

DATE = "Tue, 24 Nov 2026 12:00:00 GMT"


@dataclass
class Request:
    """What came in. ``body`` is filled by ``Exchange.read_body``."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""
    head: bytes = b""
    connection: int = 0


@dataclass
class Exchange:
    """One request on one connection, in the hands of a script."""

    origin: Origin
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    request: Request
    close: bool = False

    async def read_body(self, limit: int | None = None) -> bytes:
        if self.request.headers.get("expect") == "100-continue":
            await self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        length = int(self.request.headers.get("content-length", "0"))
        self.request.body = await self.reader.readexactly(min(length, limit or length))
        return self.request.body

    async def send(self, data: bytes) -> None:
        if self.writer.transport.is_closing():  # uvloop says so by a RuntimeError
            raise ConnectionResetError("the client has gone")
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        fields = {"date": DATE, "content-length": str(len(body))}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        said = b"" if self.request.method == "HEAD" else body
        await self.send(f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode() + said)

    def reset(self) -> None:
        """Close with RST."""
        handle = self.writer.get_extra_info("socket")
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()
        self.close = True


Script = Callable[[Exchange], Awaitable[None]]


@dataclass
class Origin:
    """Counts what came in; plays ``script`` first, then ``serve_s3``; ``stop`` ends listening."""

    port: int = 0
    stop: Callable[[], None] = lambda: None
    connections: int = 0
    requests: list[Request] = field(default_factory=list)
    script: deque[Script] = field(default_factory=deque)
    objects: dict[str, bytes] = field(default_factory=dict)
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            while await self._one(reader, writer, number):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        except asyncio.LimitOverrunError:
            pass  # the rest of a body that a script answered without reading
        finally:
            writer.transport.abort()

    async def _one(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> bool:
        raw = await reader.readuntil(b"\r\n\r\n")
        first, *lines = raw[:-4].decode().split("\r\n")
        method, target, _ = first.split(" ")
        pairs = (line.split(": ", 1) for line in lines)
        request = Request(method, target, {name.lower(): value for name, value in pairs}, head=raw)
        request.connection = number
        self.requests.append(request)
        exchange = Exchange(self, reader, writer, request)
        script = self.script.popleft() if self.script else serve_s3
        await script(exchange)
        return not exchange.close


async def serve_s3(exchange: Exchange) -> None:
    """PUT stores and echoes the checksum; GET answers whole objects and ranges."""
    request, objects = exchange.request, exchange.origin.objects
    path = request.target.partition("?")[0]
    if request.method == "PUT":
        objects[request.target] = await exchange.read_body()
        echo = {k: v for k, v in request.headers.items() if k.startswith("x-amz-checksum-crc")}
        await exchange.answer(200, b"", ETag='"e1"', **echo)
        return
    data = objects.get(path)
    if data is None:
        await exchange.answer(404, error_xml("NoSuchKey"))
        return
    span = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("range", ""))
    if span is None:
        await exchange.answer(200, data, ETag='"e1"')
        return
    first, last = int(span[1]), min(int(span[2]), len(data) - 1)
    where = f"bytes {first}-{last}/{len(data)}"
    await exchange.answer(206, data[first : last + 1], ETag='"e1"', Content_Range=where)


def error_xml(code: str, extra: str = "") -> bytes:
    """An error document of S3."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>Words.</Message>{extra}"
        "<RequestId>REQ1</RequestId><HostId>H</HostId></Error>"
    ).encode()


def answers(status: int, body: bytes = b"", **headers: str) -> Script:
    """A script: take the body, answer."""

    async def script(exchange: Exchange) -> None:
        await exchange.read_body()
        await exchange.answer(status, body, **headers)

    return script


def says(data: bytes, *, close: bool = False) -> Script:
    """A script: take the body, send ``data`` as it is."""

    async def script(exchange: Exchange) -> None:
        await exchange.read_body()
        await exchange.send(data)
        exchange.close = close

    return script


async def silent(exchange: Exchange) -> None:
    """Take the request and never answer."""
    await exchange.read_body()
    await asyncio.Event().wait()


async def hang_up(exchange: Exchange) -> None:
    """Take the request and close without an answer."""
    await exchange.read_body()
    exchange.close = True


def tls_here(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """What 127.0.0.1 serves TLS with, and a bundle in ``folder`` that vouches for it."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(bundle := folder / "ca.pem")
    return context, bundle


@asynccontextmanager
async def listening(
    handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    """Have ``handle`` take the calls at a free port of 127.0.0.1, which is yielded."""
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@asynccontextmanager
async def run_origin(tls: ssl.SSLContext | None = None) -> AsyncIterator[Origin]:
    """An origin on a free port of 127.0.0.1."""
    origin = Origin()
    server = await asyncio.start_server(origin.handle, "127.0.0.1", 0, ssl=tls, limit=1 << 20)
    origin.port, origin.stop = server.sockets[0].getsockname()[1], server.close
    try:
        yield origin
    finally:
        server.close()
        for task in origin.tasks:
            task.cancel()
        await asyncio.gather(*origin.tasks, return_exceptions=True)
        await asyncio.sleep(0)
