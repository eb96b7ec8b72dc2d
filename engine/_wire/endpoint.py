"""From an S3 URL to the host that is dialled and the path that is sent. PURE.

What lives here: names of hosts. What must not: DNS, sockets, redirects (they are never followed).
https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from engine._wire.sigv4 import encode_path
from engine.config import Endpoints
from engine.errors import UsageError
from engine.types import S3Url

_DEFAULT_PORTS = {"http": 80, "https": 443}
# One DNS label. With a dot the wildcard certificate of *.s3.<region> does not match; upper case
# and underscore (old buckets) are no DNS names at all.
_HOST_LABEL = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_REGION = re.compile(r"[a-z0-9-]{1,40}")
_HOST = re.compile(r"[A-Za-z0-9._:-]+")


@dataclass(frozen=True, slots=True)
class Origin:
    """What one connection is for. ``host`` has no brackets around an IPv6 address."""

    scheme: str
    host: str
    port: int

    @property
    def secure(self) -> bool:
        return self.scheme == "https"

    @property
    def host_header(self) -> str:
        """The exact Host header: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host_header}"


@dataclass(frozen=True, slots=True)
class Target:
    """Where one request goes. ``path`` is encoded and starts with ``/``."""

    origin: Origin
    path: str


def parse_endpoint(text: str) -> tuple[Origin, str]:
    """Read an endpoint URL; returns the origin and the path before every bucket (often "").

    Raises:
        UsageError: Not an http(s) URL, or with user, query or fragment.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise UsageError(f"not an endpoint: {text!r}") from None
    host = parts.hostname or ""
    odd = parts.username is not None or parts.password is not None or parts.query or parts.fragment
    if parts.scheme not in _DEFAULT_PORTS or not _HOST.fullmatch(host) or odd:
        # The text is not repeated: a password may stand in it.
        raise UsageError("not an endpoint URL", fix="Write it as https://host or http://host:port")
    origin = Origin(parts.scheme, host, _DEFAULT_PORTS[parts.scheme] if port is None else port)
    return origin, encode_path(parts.path.rstrip("/"))


def locate(url: S3Url, endpoints: Endpoints) -> Target:
    """Where requests for ``url`` go.

    Path style with a custom endpoint (it need not resolve ``bucket.host``) and for buckets that
    are no host names; virtual-host style otherwise.

    Raises:
        UsageError: A bad endpoint or region, or a key that cannot be sent.
    """
    key = encode_path(url.key)
    if endpoints.s3 is not None:
        origin, prefix = parse_endpoint(endpoints.s3)
        return Target(origin, f"{prefix}/{url.bucket}/{key}" if key else f"{prefix}/{url.bucket}")
    host = service_host("s3", endpoints.region)
    if _HOST_LABEL.fullmatch(url.bucket):
        return Target(Origin("https", f"{url.bucket}.{host}", 443), f"/{key}")
    path = f"/{url.bucket}/{key}" if key else f"/{url.bucket}"
    return Target(Origin("https", host, 443), path)


def service_host(service: str, region: str) -> str:
    """AWS's own host of a regional service.

    Raises:
        UsageError: Not a region name.
    """
    if not _REGION.fullmatch(region):
        raise UsageError(f"not a region: {region!r}")
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"{service}.{region}.{suffix}"
