"""HTTP proxies: which one stands before a host, by the rules that curl made common.

https://curl.se/docs/manpage.html (--noproxy, Environment) and
https://docs.aws.amazon.com/sdkref/latest/guide/feature-proxy.html.

What lives here: names and credentials of proxies, frozen. What must not: sockets (``_wire.proxy``).
The services that hand out credentials on a host (IMDS, containers) are never asked through one.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from engine.errors import UsageError

_DEFAULT_PORTS = {"http": 80, "https": 443}
_LOOPBACK = ("localhost", "127.0.0.0/8", "::1")
_HOW = "Write it as http://host:port; none switches proxies off"


@dataclass(frozen=True, slots=True)
class Proxy:
    """One proxy. Its repr shows no credentials.

    Attributes:
        secure: Whether the way to the proxy itself is TLS.
        userinfo: User and password as they stand in the URL, or "".
    """

    host: str
    port: int
    secure: bool = False
    userinfo: str = field(default="", repr=False)

    @classmethod
    def parse(cls, text: str) -> Proxy:
        """Read ``http://[user:password@]host[:port]``; the scheme may be left out, as in curl.

        Raises:
            UsageError: Not that, or SOCKS. The text is not repeated: it may hold a password.
        """
        try:
            parts = urlsplit(text if "://" in text else f"http://{text}")
            port = parts.port
        except ValueError:
            raise UsageError("the address of the proxy cannot be read", fix=_HOW) from None
        if parts.scheme not in _DEFAULT_PORTS:
            raise UsageError(
                f"a proxy of the kind {parts.scheme[:10]!r}",
                fix="HTTP proxies only, over http or https",
            )
        host = parts.hostname or ""
        odd = parts.query or parts.fragment or parts.path not in ("", "/")
        if not host or odd or not host.isprintable() or " " in host:
            raise UsageError("the address of the proxy cannot be read", fix=_HOW)
        if port is None:
            port = _DEFAULT_PORTS[parts.scheme]
        return cls(host, port, parts.scheme == "https", parts.netloc.rpartition("@")[0])

    @property
    def authorization(self) -> str:
        """The value of Proxy-Authorization (RFC 7617), or ""."""
        if not self.userinfo:
            return ""
        user, _, password = self.userinfo.partition(":")
        pair = f"{unquote(user)}:{unquote(password)}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"

    @property
    def url(self) -> str:
        """The URL with user and password, for a client that wants it so. Never to be printed."""
        scheme, _, place = str(self).partition("://")
        return f"{scheme}://{self.userinfo}@{place}" if self.userinfo else str(self)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.secure else 'http'}://{host}:{self.port}"


class Proxies(Struct, frozen=True):
    """Which proxy stands before which host.

    Attributes:
        http: Before hosts that are asked without TLS.
        https: Before hosts that are asked over TLS.
        bypass: Patterns of hosts that are asked directly, as NO_PROXY has them.
    """

    http: Proxy | None = None
    https: Proxy | None = None
    bypass: tuple[str, ...] = ()

    @classmethod
    def read(cls, environ: Mapping[str, str], argument: str | None = None) -> Proxies:
        """The argument's, for all hosts but those of NO_PROXY; else the environment's, for all but
        those and this machine's own loopback, which no proxy can reach.

        Small letters come first. HTTP_PROXY in capitals is not read inside a CGI program, where
        a client sets it (https://httpoxy.org).

        Args:
            argument: A URL, or ``none``.

        Raises:
            UsageError: Not the address of an HTTP proxy.
        """
        if argument == "none":
            return cls()
        bypass = tuple(
            pattern for pattern in _variable(environ, "no_proxy").replace(",", " ").lower().split()
        )
        if argument:
            proxy = Proxy.parse(argument)
            return cls(proxy, proxy, bypass)
        every = _variable(environ, "all_proxy")
        plain = environ.get("http_proxy", "")
        if not plain and "REQUEST_METHOD" not in environ:
            plain = environ.get("HTTP_PROXY", "")
        return cls(
            _optional(plain or every),
            _optional(_variable(environ, "https_proxy") or every),
            (*bypass, *_LOOPBACK),
        )

    def before(self, host: str, port: int, *, secure: bool) -> Proxy | None:
        """The proxy that stands before a host; None where it is asked directly.

        Args:
            host: A name, or an address without brackets.
        """
        proxy = self.https if secure else self.http
        if proxy is None or any(_matches(p, host.lower().rstrip("."), port) for p in self.bypass):
            return None
        return proxy


def _variable(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name) or environ.get(name.upper()) or ""


def _optional(text: str) -> Proxy | None:
    return Proxy.parse(text) if text.strip() else None


def _matches(pattern: str, host: str, port: int) -> bool:
    """One pattern of NO_PROXY: ``*``, a name and all below it, an address, or a block of them;
    each may have a port."""
    if pattern == "*":
        return True
    wanted, sign, number = pattern.rpartition(":")
    if sign and number.isdigit() and (":" not in wanted or wanted.endswith("]")):
        if int(number) != port:
            return False
        pattern = wanted
    pattern = pattern.strip("[]")
    address = _address(host)
    if address is not None:
        try:
            return address in ipaddress.ip_network(pattern, strict=False)
        except ValueError:
            return False  # a name, which no address is below
    name = pattern.removeprefix("*").strip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
