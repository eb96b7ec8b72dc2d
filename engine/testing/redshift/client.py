"""The client's side of a session: reading its messages, and the greeting.

What lives here: startup packet, password, the parameters that make clients see Redshift. What
must not: statements (``proxy.py``).
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from engine.testing.redshift import pgwire
from engine.testing.redshift.pgwire import ServerError

# A client that connects and says nothing is not kept.
_GREETING_SECONDS = 30.0
_AUTH_CLEARTEXT, _AUTH_MD5 = 3, 5

# What Redshift reports. asyncpg knows it by padb_revision; server_version 8.0.2 is what every
# cluster says; server_protocol_version 0 makes redshift_connector read results as text.
_PARAMETERS = {
    "server_version": "8.0.2",
    "padb_revision": "double",
    "padb_version": "1.0.0",
    "server_encoding": "UNICODE",
    "client_encoding": "UNICODE",
    "server_protocol_version": "0",
    "integer_datetimes": "on",
    "is_superuser": "off",
    "DateStyle": "ISO, MDY",
    "TimeZone": "UTC",
}


class ClientGone(Exception):
    """The client closed its connection, or the double closed it on purpose."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """A CancelRequest: not a session."""

    pid: int
    secret: int


class Client:
    """A connected client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def write(self, data: bytes) -> None:
        """Queue bytes; ``flush`` sends them."""
        if not self._writer.is_closing():
            self._writer.write(data)

    async def flush(self) -> None:
        """Wait until the socket has taken what was written."""
        try:
            await self._writer.drain()
        except OSError:
            raise ClientGone from None

    async def read(self) -> tuple[bytes, bytes]:
        """The next message.

        Raises:
            ClientGone: The connection ended.
        """
        try:
            head = await self._reader.readexactly(5)
            (length,) = struct.unpack_from("!i", head, 1)
            if not 4 <= length <= pgwire.MAX_MESSAGE:
                raise ClientGone
            return head[:1], await self._reader.readexactly(length - 4)
        except (asyncio.IncompleteReadError, OSError):
            raise ClientGone from None

    def drop(self) -> None:
        """Cut the connection without a word, as a dying network does."""
        self._writer.transport.abort()

    async def close(self) -> None:
        """Send the rest and close."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:
            pass

    async def startup(self) -> dict[str, str] | Cancel:
        """The parameters of the startup packet, or a CancelRequest. TLS is declined.

        Raises:
            ClientGone: The client left, or does not speak the protocol.
        """
        try:
            async with asyncio.timeout(_GREETING_SECONDS):
                return await self._startup()
        except (asyncio.IncompleteReadError, OSError, ValueError, TimeoutError):
            raise ClientGone from None

    async def _startup(self) -> dict[str, str] | Cancel:
        while True:
            length, code = struct.unpack("!ii", await self._reader.readexactly(8))
            if not 8 <= length <= pgwire.MAX_STARTUP:
                raise ClientGone
            body = await self._reader.readexactly(length - 8)
            if code in (pgwire.SSL_REQUEST, pgwire.GSS_REQUEST):
                self.write(b"N")
                await self.flush()
            elif code == pgwire.CANCEL_REQUEST:
                return Cancel(*struct.unpack("!ii", body[:8]))
            elif code >> 16 == 3:
                return pgwire.parse_parameters(body)
            else:
                raise ClientGone

    async def check_password(self, user: str, right_user: str, password: str, auth: str) -> None:
        """Ask for the password.

        Raises:
            ServerError: Wrong user or password. 28000, because PostgreSQL 8.0, from which
                Redshift comes, has no 28P01.
        """
        salt = os.urandom(4)
        if auth == "md5":
            inner = hashlib.md5(f"{password}{right_user}".encode()).hexdigest()
            wanted = "md5" + hashlib.md5(inner.encode() + salt).hexdigest()
            self.write(pgwire.message(b"R", struct.pack("!i", _AUTH_MD5) + salt))
        else:
            wanted = password
            self.write(pgwire.message(b"R", struct.pack("!i", _AUTH_CLEARTEXT)))
        await self.flush()
        kind, payload = await self.read()
        given = payload.rstrip(b"\0")
        if kind != b"p" or user != right_user or not hmac.compare_digest(given, wanted.encode()):
            raise ServerError(
                f'password authentication failed for user "{user}"', "28000", severity="FATAL"
            )

    def welcome(self, user: str, pid: int, secret: int, asked: Mapping[str, str]) -> None:
        """AuthenticationOk, the parameters, the key for cancels, ready."""
        self.write(pgwire.message(b"R", struct.pack("!i", 0)))
        parameters = {**_PARAMETERS, "session_authorization": user}
        if "application_name" in asked:
            parameters["application_name"] = asked["application_name"]
        for name, value in parameters.items():
            self.write(pgwire.parameter_status(name, value))
        self.write(pgwire.message(b"K", struct.pack("!ii", pid, secret)))
        self.write(pgwire.ready(b"I"))
