"""Through an HTTP proxy: CONNECT and TLS inside it, or requests in absolute form.

What lives here: what is said to a proxy. What must not: which proxy (``engine.proxies``), dialling
(``connect``).

Over TLS the proxy sees the origin's name and nothing else; the certificate is the origin's. A plain
request is the proxy's to read and so goes in absolute form (RFC 9112, 3.2.2); what is signed stays
as it is. A proxy's own answer never becomes the origin's.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import cast, final

from engine._wire.endpoint import Origin
from engine._wire.http11 import ResponseHead, ResponseReader, build_request
from engine.errors import (
    EngineError,
    NotConnected,
    ProtocolError,
    ProxyRefused,
)
from engine.proxies import Proxy

PROXY_LOGIN = (
    "Give them in the proxy's URL, percent-encoded: http://user:password@host:port; only Basic "
    "authentication is spoken"
)


@final
class ConnectProtocol(asyncio.Protocol):
    """Says CONNECT once, and hears the head of the answer."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._reader = ResponseReader("CONNECT")
        self._answer: asyncio.Future[ResponseHead] = asyncio.get_running_loop().create_future()

    async def tunnel(self, origin: Origin, proxy: Proxy) -> asyncio.Transport:
        """Ask for a way to ``origin``; returns the transport, which is that way now.

        Raises:
            ProxyRefused: By its rules, or for its credentials.
            NotConnected: It could not reach the origin, or gave no answer.
            ProtocolError: An answer that HTTP does not allow.
        """
        assert self.transport is not None
        host = f"[{origin.host}]" if ":" in origin.host else origin.host
        place = f"{host}:{origin.port}"
        fields = {"host": place}
        if proxy.authorization:
            fields["proxy-authorization"] = proxy.authorization
        head = build_request("CONNECT", "/", fields)
        self.transport.write(head.replace(b" / ", f" {place} ".encode("ascii"), 1))
        answer = await self._answer
        if not 200 <= answer.status < 300:
            raise refusal(answer.status, proxy, origin)
        return self.transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._answer.done():
            return
        try:
            view = memoryview(data)
            while len(view) and self._reader.head is None:
                taken, _ = self._reader.feed(view)
                view = view[taken:]
        except ProtocolError as error:
            self._fail(error)
            return
        head = self._reader.head
        if head is None:
            return
        if len(view) and head.status < 300:
            # The origin speaks second; whoever speaks first is not the origin.
            self._fail(ProtocolError("bytes behind the proxy's answer to CONNECT"))
            return
        self._answer.set_result(head)

    def eof_received(self) -> bool:
        self._fail(NotConnected("the proxy closed the connection instead of an answer"))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(NotConnected("the connection to the proxy was lost"))

    def _fail(self, error: EngineError) -> None:
        if not self._answer.done():
            self._answer.set_exception(error)
            self._answer.exception()  # nobody may be there to hear it


def refusal(status: int, proxy: Proxy, origin: Origin | str) -> NotConnected:
    """The error for a proxy's own answer."""
    if status == 407:
        known = "did not take the user and password" if proxy.userinfo else "wants a user"
        return ProxyRefused(
            f"the proxy {proxy} {known} (407)",
            fix=PROXY_LOGIN,
        )
    if status >= 500:
        return NotConnected(f"the proxy {proxy} could not reach {origin} ({status})")
    return ProxyRefused(
        f"the proxy {proxy} refused the way to {origin} ({status})",
        fix="Its rules must allow CONNECT there; NO_PROXY names hosts that need no proxy",
    )


def absolute_form(origin: Origin, proxy: Proxy) -> Callable[[bytes], bytes]:
    """A function that turns the head of a request into one for the proxy."""
    prefix = str(origin).encode("ascii")
    line = b""
    if proxy.authorization:
        line = f"proxy-authorization: {proxy.authorization}\r\n".encode("ascii")

    def dress(head: bytes) -> bytes:
        if not head:
            return head  # more of a body
        method, _, rest = head.partition(b" ")
        target, end, fields = rest.partition(b"\r\n")
        return b"".join((method, b" ", prefix, target, end, line, fields))

    return dress


async def tls_inside(
    transport: asyncio.Transport,
    protocol: asyncio.BaseProtocol,
    context: ssl.SSLContext,
    name: str,
) -> None:
    """Begin TLS with the host ``name`` at the other end of ``transport``, for ``protocol``.

    Raises:
        ssl.SSLError, OSError: As of a connection without a proxy.
    """
    loop = asyncio.get_running_loop()
    secure = await loop.start_tls(transport, protocol, context, server_hostname=name)
    if secure is None:
        raise NotConnected("the proxy closed the connection while TLS began")
    protocol.connection_made(secure)
