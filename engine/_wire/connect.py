"""Opens connections: DNS, proxies, TCP and TLS, within one deadline.

What lives here: the order of those steps, the TLS settings, and the translation of what may fail
before a request is sent. What must not: reuse (``pool``), requests (``connection``), which address
comes first (``resolve``).

Addresses are called in turn, the next one a moment after the last or when that failed; the first
that takes the call is used (happy eyeballs, RFC 8305). The loops' own version of that is not in
uvloop, and races TLS too, whose round trips would make every far host look slow.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar, TypeVar, final

import anyio

from engine._wire.connection import Connection
from engine._wire.endpoint import Origin
from engine._wire.pacer import Pacer, receive_window
from engine._wire.proxy import ConnectProtocol, absolute_form, tls_inside
from engine._wire.resolve import Resolver
from engine._wire.tls import TlsBuffers, TlsTransport
from engine.config import Timeouts
from engine.errors import NotConnected, UsageError
from engine.pace import Pace
from engine.proxies import Proxies, Proxy
from engine.threads import ThreadDoor

P = TypeVar("P", bound=asyncio.BaseProtocol)

_UNREACHED = "Check the endpoint URL, the region, and the way to it (network, firewall, proxy)"
# How long one address has before the next is called too (RFC 8305, 8). Seconds.
STAGGER_SECONDS = 0.25
# Addresses that one connection calls: what one answer of DNS holds for S3.
MAX_TRIES = 8


@final
class CertificateRefused(NotConnected):
    """The server's certificate was not accepted. Asking again does not change that."""

    retryable: ClassVar[bool] = False


@final
class Connector:
    """Opens connections for one pool.

    Args:
        ca_bundle: PEM file that replaces the system's certificate authorities.
        threads: Reading certificates and files blocks.
        proxies: None for services that must never be asked through one.
        resolver: Shared by those who ask the same hosts.
        pace: What all connections together keep to; None for no limit.
    """

    def __init__(
        self,
        timeouts: Timeouts,
        threads: ThreadDoor,
        ca_bundle: str | None,
        proxies: Proxies | None = None,
        resolver: Resolver | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._timeouts = timeouts
        self._threads = threads
        self._ca_bundle = ca_bundle
        self._proxies = proxies or Proxies()
        self._resolver = resolver or Resolver()
        self._pace = pace
        self._context: ssl.SSLContext | None = None
        self._buffers: TlsBuffers | None = None
        self._context_lock = anyio.Lock()

    async def prepare(self, origin: Origin) -> None:
        """Read the certificates, which takes longer than a near server's answer.

        Raises:
            UsageError: The CA bundle cannot be read.
        """
        if origin.secure:
            await self._tls()

    async def open(self, origin: Origin) -> Connection:
        """A fresh connection to ``origin``, directly or through its proxy.

        Raises:
            NotConnected: Not reached, or not within ``Timeouts.connect`` (DNS, TCP, TLS and
                the proxy together). ``retryable`` is False where a certificate was refused.
            ProxyRefused: The proxy does not let us through.
            ProtocolError: The proxy does not speak HTTP.
            UsageError: The CA bundle cannot be read.
        """
        proxy = self._proxies.before(origin.host, origin.port, secure=origin.secure)
        # What the socket carries: TLS to a proxy counts, or a file would be sent around it.
        secure = origin.secure or (proxy is not None and proxy.secure)
        if secure:
            await self._tls()
        limit = self._timeouts.connect
        where = f"{origin} through the proxy {proxy}" if proxy else str(origin)
        made: list[Connection] = []

        def factory() -> Connection:
            made.append(Connection(self._timeouts, secure=secure))
            return made[-1]

        opened: Connection | None = None
        try:
            with anyio.fail_after(limit):
                if proxy is None and origin.secure:
                    opened = await self._dial_tls(factory, origin.host, origin.port)
                elif proxy is None:
                    opened = await self._dial(factory, origin.host, origin.port, secure=False)
                else:
                    opened = await self._through(proxy, origin, factory)
                return opened
        except TimeoutError:
            raise NotConnected(
                f"timed out after {limit:g} s: connecting to {where}", fix=_UNREACHED
            ) from None
        except ssl.SSLCertVerificationError as error:
            raise CertificateRefused(
                f"the certificate of {where} was refused: {error.verify_message}",
                fix="Check the endpoint's name, or give its authority by the CA bundle",
            ) from error
        except (OSError, ssl.SSLError) as error:
            raise NotConnected(
                f"could not connect to {where}: {_words(error)}", fix=_UNREACHED
            ) from error
        finally:
            for connection in made:
                if connection is not opened:
                    connection.abort()

    async def _through(
        self, proxy: Proxy, origin: Origin, factory: Callable[[], Connection]
    ) -> Connection:
        if not origin.secure:
            connection = await self._dial(factory, proxy.host, proxy.port, proxy.secure)
            connection.dress = absolute_form(origin, proxy)
            return connection
        made: list[ConnectProtocol] = []

        def asker() -> ConnectProtocol:
            made.append(ConnectProtocol())
            return made[-1]

        try:
            asking = await self._dial(asker, proxy.host, proxy.port, proxy.secure)
            transport = await asking.tunnel(origin, proxy)
            connection = factory()
            above = self._paced(connection)
            await tls_inside(transport, above, await self._tls(), origin.host)
            made.remove(asking)
            return connection
        finally:
            for unused in made:
                if unused.transport is not None:
                    unused.transport.abort()

    async def _dial_tls(
        self, factory: Callable[[], Connection], host: str, port: int
    ) -> Connection:
        """The same with TLS of our own."""
        context = await self._tls()
        buffers = self._buffers = self._buffers or TlsBuffers()
        layers: list[TlsTransport] = []

        def layer() -> TlsTransport:
            layers.append(TlsTransport(factory(), context, host, buffers))
            return layers[-1]

        async def shake(transport: TlsTransport) -> None:
            try:
                await transport.shaken()
            except BaseException:
                transport.abort()
                raise

        return (await self._dial(layer, host, port, secure=False, then=shake)).above

    async def _dial(
        self,
        factory: Callable[[], P],
        host: str,
        port: int,
        secure: bool,
        then: Callable[[P], Awaitable[None]] | None = None,
    ) -> P:
        """The first of the host's addresses that takes the call; TLS, or what is to be done
        ``then``, with that one only."""
        addresses = (await self._resolver.addresses(host, port))[:MAX_TRIES]
        context = await self._tls() if secure else None

        async def call(address: str) -> socket.socket:
            try:
                return await _called(address, port, self._pace)
            except OSError:
                self._resolver.failed(host, address)
                raise

        if len(addresses) == 1:
            address, called = addresses[0], await call(addresses[0])
        else:
            address, called = await _first_of(addresses, call, self._resolver.slow)
        try:
            # From here on the socket is the transport's to close.
            protocol = factory()
            await asyncio.get_running_loop().create_connection(
                lambda: self._paced(protocol),
                sock=called,
                ssl=context,
                server_hostname=host if context else None,
            )
            if then is not None:
                await then(protocol)
        except ssl.SSLCertVerificationError:
            raise
        except OSError:  # ssl.SSLError is one
            self._resolver.failed(host, address)
            raise
        except asyncio.CancelledError:
            self._resolver.slow(address)  # most likely it was too slow for the deadline
            raise
        return protocol

    def _paced(self, protocol: asyncio.BaseProtocol) -> asyncio.BaseProtocol:
        """The protocol that the loop is given: with a limit, one that keeps it in between."""
        connection = protocol.above if isinstance(protocol, TlsTransport) else protocol
        if self._pace is None or not isinstance(connection, Connection):
            return protocol
        assert isinstance(protocol, Connection | TlsTransport)
        connection.pacer = pacer = Pacer(protocol, self._pace)
        return pacer

    async def _tls(self) -> ssl.SSLContext:
        async with self._context_lock:
            if self._context is None:
                self._context = await self._threads.run(_tls_context, self._ca_bundle)
            return self._context

    def __repr__(self) -> str:
        return f"<Connector ca_bundle={self._ca_bundle!r} {self._resolver!r}>"


def _words(error: OSError) -> str:
    """The system's words; each loop has its own for a refused call."""
    if error.errno is None or isinstance(error, ssl.SSLError | socket.gaierror):
        return str(error)
    return f"[Errno {error.errno}] {os.strerror(error.errno)}"


async def _called(address: str, port: int, pace: Pace | None) -> socket.socket:
    """A connected socket."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    called = socket.socket(family, socket.SOCK_STREAM)
    try:
        called.setblocking(False)
        called.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if pace is not None:
            receive_window(called, pace)
        await asyncio.get_running_loop().sock_connect(called, (address, port))
    except BaseException:
        called.close()
        raise
    return called


async def _first_of(
    addresses: Sequence[str],
    call: Callable[[str], Awaitable[socket.socket]],
    slow: Callable[[str], None],
) -> tuple[str, socket.socket]:
    """The first call that is taken. Who was called earlier and has not answered yet is slow."""
    taken: list[tuple[str, socket.socket]] = []
    errors: list[OSError] = []
    waiting: list[str] = []

    async def attempt(address: str, over: anyio.Event) -> None:
        waiting.append(address)
        try:
            taken.append((address, await call(address)))
        except OSError as error:
            errors.append(error)
        waiting.remove(address)
        over.set()
        if taken:
            tasks.cancel_scope.cancel()

    try:
        async with anyio.create_task_group() as tasks:
            for address in addresses:
                over = anyio.Event()
                tasks.start_soon(attempt, address, over)
                with anyio.move_on_after(STAGGER_SECONDS):
                    await over.wait()
                if taken:
                    break
    except BaseException:
        for _, called in taken:
            called.close()
        raise
    finally:
        winner = addresses.index(taken[0][0]) if taken else len(addresses)
        for address in waiting:
            if addresses.index(address) < winner:
                slow(address)
    if not taken:
        raise errors[-1]
    for _, called in taken[1:]:
        called.close()
    return taken[0]


def _tls_context(ca_bundle: str | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca_bundle)
    except OSError as error:  # ssl.SSLError is one
        raise UsageError(f"cannot read the CA bundle {ca_bundle}: {error}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context
