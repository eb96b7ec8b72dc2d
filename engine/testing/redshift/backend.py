"""One PostgreSQL connection over the unix socket, message by message.

What lives here: connecting, sending, reading, and ``rows`` for the double's own questions. What
must not: anything of Redshift. Each client of the double has one backend of its own.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping

from engine.errors import SourceUnavailable
from engine.testing.redshift import pgwire
from engine.testing.redshift.pgwire import ServerError

# A local socket answers at once; a busy machine needs a moment to fork the backend.
_CONNECT_SECONDS = 30.0
_READ_LIMIT = 1024 * 1024


class BackendLost(Exception):
    """PostgreSQL closed the connection (it was terminated, or it crashed)."""


class Backend:
    """A connection to PostgreSQL.

    Attributes:
        status: Of the last ReadyForQuery: ``b"I"``, ``b"T"`` or ``b"E"``.
        pid: Process id of the backend.
        secret: What a CancelRequest must carry.
    """

    def __init__(
        self, socket_path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._socket_path = socket_path
        self._reader = reader
        self._writer = writer
        self.status = b"I"
        self.pid = 0
        self.secret = 0
        self._head = b""

    @classmethod
    async def connect(cls, socket_path: str, parameters: Mapping[str, str]) -> Backend:
        """Connect and wait until the session is ready.

        Raises:
            SourceUnavailable: PostgreSQL does not answer.
            ServerError: PostgreSQL refuses the session (no such database, no such role).
        """
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                reader, writer = await asyncio.open_unix_connection(socket_path, limit=_READ_LIMIT)
                backend = cls(socket_path, reader, writer)
                await backend.send(pgwire.startup_packet(parameters))
                await backend._until_ready()
        except (OSError, TimeoutError, BackendLost) as error:
            raise SourceUnavailable(
                f"PostgreSQL does not answer at {socket_path}: {error or type(error).__name__}"
            ) from error
        return backend

    async def send(self, data: bytes) -> None:
        """Send bytes, waiting while the socket is full."""
        self._writer.write(data)
        try:
            await self._writer.drain()
        except OSError as error:
            raise BackendLost(str(error)) from None

    async def read(self) -> tuple[bytes, bytes]:
        """The next message; keeps ``status`` up to date. May be cancelled and called again.

        Raises:
            BackendLost: The connection is closed.
        """
        try:
            if not self._head:
                self._head = await self._reader.readexactly(5)
            (length,) = struct.unpack_from("!i", self._head, 1)
            payload = await self._reader.readexactly(length - 4)
        except (asyncio.IncompleteReadError, OSError) as error:
            raise BackendLost(str(error)) from None
        kind, self._head = self._head[:1], b""
        if kind == b"Z":
            self.status = payload
        return kind, payload

    async def rows(self, sql: str) -> list[list[str | None]]:
        """Run ``sql`` by the simple protocol; the rows of its last result as text.

        Raises:
            ServerError: The first error that PostgreSQL answered, after it was ready again.
            BackendLost: The connection is closed.
        """
        return (await self.table(sql))[1]

    async def table(self, sql: str) -> tuple[tuple[pgwire.Column, ...], list[list[str | None]]]:
        """As ``rows``, with the columns."""
        await self.send(pgwire.query(sql))
        columns: tuple[pgwire.Column, ...] = ()
        rows: list[list[str | None]] = []
        failure: ServerError | None = None
        while True:
            kind, payload = await self.read()
            if kind == b"T":
                columns, rows = pgwire.row_description(payload), []
            elif kind == b"D":
                values = pgwire.data_row(payload)
                rows.append([None if v is None else v.decode() for v in values])
            elif kind == b"E" and failure is None:
                failure = ServerError.parse(payload)
            elif kind == b"Z":
                break
        if failure is not None:
            raise failure
        return columns, rows

    async def abort_transaction(self) -> None:
        """Put an open transaction into the failed state, as an error of its own would."""
        if self.status != b"T":
            return
        try:
            await self.rows("DO $$BEGIN RAISE EXCEPTION 'refused by the Redshift double'; END$$")
        except ServerError:
            pass

    async def cancel(self) -> None:
        """Send a CancelRequest for this backend and wait until PostgreSQL took it."""
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                reader, writer = await asyncio.open_unix_connection(self._socket_path)
                writer.write(pgwire.cancel_packet(self.pid, self.secret))
                await reader.read()
                writer.close()
        except (OSError, TimeoutError):
            pass  # PostgreSQL never answers a cancel; a lost one is a cancel that came too late

    def close(self) -> None:
        """Say goodbye. An open transaction is rolled back by PostgreSQL."""
        if not self._writer.is_closing():
            self._writer.write(pgwire.message(b"X"))
            self._writer.close()

    async def _until_ready(self) -> None:
        while True:
            kind, payload = await self.read()
            if kind == b"K":
                self.pid, self.secret = struct.unpack("!ii", payload)
            elif kind == b"E":
                self._writer.close()
                raise ServerError.parse(payload)
            elif kind == b"R" and payload != b"\0\0\0\0":
                raise BackendLost("PostgreSQL asks for a password; the launcher sets trust")
            elif kind == b"Z":
                return
