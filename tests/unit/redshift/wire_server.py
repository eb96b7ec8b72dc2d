"""A server that speaks just enough of PostgreSQL's protocol to say what a test wants said.

The Redshift double answers truthfully; this one can answer with the statement it was sent, cut
the line in the middle, or fall silent.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

CANCEL_REQUEST = 80877102
SSL_REQUEST = 80877103


@dataclass
class Reply:
    """What to answer one statement with.

    ``fields`` are those of an ErrorResponse; ``rows`` those of a query; ``drop`` closes the line
    instead; ``hold`` never answers, until a CancelRequest comes.
    """

    fields: dict[str, str] = field(default_factory=dict)
    rows: list[list[bytes | None]] = field(default_factory=list)
    type_oid: int = 1043
    drop: bool = False
    hold: bool = False


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def error(fields: dict[str, str]) -> bytes:
    body = b"".join(key.encode() + value.encode() + b"\0" for key, value in fields.items())
    return message(b"E", body + b"\0")


READY = message(b"Z", b"I")


class WireServer:
    """Answers each statement by ``answer(sql)``; keeps all it was sent."""

    def __init__(
        self,
        answer: Callable[[str], Reply],
        greeting: bytes = b"",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.tls = tls
        self.answer = answer
        self.greeting = greeting
        self.seen: list[str] = []
        self.cancelled = asyncio.Event()
        self.port = 0

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncIterator[WireServer]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            await self._session(reader, writer)
        writer.close()

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size, code = struct.unpack("!ii", await reader.readexactly(8))
        await reader.readexactly(size - 8)
        if code == SSL_REQUEST:
            writer.write(b"S" if self.tls else b"N")
            if self.tls is None:
                return
            await writer.start_tls(self.tls)
            size, code = struct.unpack("!ii", await reader.readexactly(8))
            await reader.readexactly(size - 8)
        if code == CANCEL_REQUEST:
            self.cancelled.set()
            return
        if self.greeting:
            writer.write(self.greeting)
            return
        status = {"server_version": "8.0.2", "client_encoding": "UTF8", "padb_revision": "1"}
        writer.write(message(b"R", struct.pack("!i", 0)))
        for name, value in status.items():
            writer.write(message(b"S", f"{name}\0{value}\0".encode()))
        writer.write(message(b"K", struct.pack("!ii", 4711, 1)) + READY)
        reply = Reply()
        while True:
            kind, size = struct.unpack("!ci", await reader.readexactly(5))
            body = await reader.readexactly(size - 4)
            if kind == b"X":
                return
            if kind in b"QP":
                sql = body.split(b"\0")[0 if kind == b"Q" else 1].decode()
                self.seen.append(sql)
                reply = self.answer(sql)
            if reply.drop:
                return
            if reply.hold:
                await self.cancelled.wait()
                reply = Reply({"S": "ERROR", "C": "57014", "M": "canceled on user's request"})
            writer.write(self._answer(kind, reply))

    def _answer(self, kind: bytes, reply: Reply) -> bytes:
        if kind == b"Q":
            return (error(reply.fields) if reply.fields else message(b"C", b"OK\0")) + READY
        if kind == b"P":
            return error(reply.fields) if reply.fields else message(b"1")
        if kind == b"S":
            return READY
        if reply.fields or kind == b"H":
            return b""
        if kind == b"D":
            width = len(reply.rows[0]) if reply.rows else 1
            column = b"c\0" + struct.pack("!ihihih", 0, 0, reply.type_oid, -1, -1, 0)
            row = message(b"T", struct.pack("!h", width) + column * width)
            return message(b"t", struct.pack("!h", 0)) + row
        if kind == b"B":
            return message(b"2")
        if kind == b"E":
            return b"".join(map(_data_row, reply.rows)) + message(b"C", b"SELECT\0")
        return message(b"3") if kind == b"C" else b""


def _data_row(row: list[bytes | None]) -> bytes:
    cells = b"".join(
        struct.pack("!i", -1) if cell is None else struct.pack("!i", len(cell)) + cell
        for cell in row
    )
    return message(b"D", struct.pack("!h", len(row)) + cells)
