"""Opens connections: DNS, TCP and TLS, within one deadline.

What lives here: the TLS settings and the translation of what may fail before a request is sent.
What must not: reuse (``pool``), requests (``connection``).
"""

from __future__ import annotations

import asyncio
import ssl
from typing import ClassVar, final

import anyio

from engine._wire.connection import Connection
from engine._wire.endpoint import Origin
from engine.config import Timeouts
from engine.errors import ConnectionFailed, UsageError
from engine.threads import ThreadDoor

_UNREACHED = "Check the endpoint URL, the region, and the way to it (network, firewall)"


@final
class CertificateRefused(ConnectionFailed):
    """The server's certificate was not accepted. Asking again does not change that."""

    retryable: ClassVar[bool] = False


@final
class Connector:
    """Opens connections for one pool.

    Args:
        ca_bundle: PEM file that replaces the system's certificate authorities.
        threads: Reading certificates and files blocks.
    """

    def __init__(self, timeouts: Timeouts, threads: ThreadDoor, ca_bundle: str | None) -> None:
        self._timeouts = timeouts
        self._threads = threads
        self._ca_bundle = ca_bundle
        self._context: ssl.SSLContext | None = None
        self._context_lock = anyio.Lock()

    async def open(self, origin: Origin) -> Connection:
        """A fresh connection to ``origin``.

        Raises:
            ConnectionFailed: Not reached, or not within ``Timeouts.connect`` (DNS, TCP and TLS
                together). ``retryable`` is False where the certificate was refused.
            UsageError: The CA bundle cannot be read.
        """
        context = await self._tls() if origin.secure else None
        loop = asyncio.get_running_loop()
        limit = self._timeouts.connect
        made: list[Connection] = []

        def factory() -> Connection:
            made.append(Connection(self._timeouts, secure=origin.secure))
            return made[-1]

        try:
            with anyio.fail_after(limit):
                _, connection = await loop.create_connection(
                    factory,
                    origin.host,
                    origin.port,
                    ssl=context,
                    server_hostname=origin.host if context else None,
                )
                return connection
        except TimeoutError:
            raise ConnectionFailed(
                f"timed out after {limit:g} s: connecting to {origin}", fix=_UNREACHED
            ) from None
        except ssl.SSLCertVerificationError as error:
            raise CertificateRefused(
                f"the certificate of {origin} was refused: {error.verify_message}",
                fix="Check the endpoint's name, or give its authority by the CA bundle",
            ) from error
        except (OSError, ssl.SSLError) as error:
            raise ConnectionFailed(
                f"could not connect to {origin}: {error}", fix=_UNREACHED
            ) from error
        except BaseException:
            for connection in made:
                connection.abort()
            raise

    async def _tls(self) -> ssl.SSLContext:
        async with self._context_lock:
            if self._context is None:
                self._context = await self._threads.run(_tls_context, self._ca_bundle)
            return self._context

    def __repr__(self) -> str:
        return f"<Connector ca_bundle={self._ca_bundle!r}>"


def _tls_context(ca_bundle: str | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca_bundle)
    except OSError as error:  # ssl.SSLError is one
        raise UsageError(f"cannot read the CA bundle {ca_bundle}: {error}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context
