"""From an S3 URL to the host that is dialled and the path that is sent. PURE.

What lives here: names of hosts. What must not: DNS, sockets, what an answer says of another region
(``planes.regions``).
https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import urlsplit

from msgspec import Struct

from engine._wire.partitions import s3_host
from engine._wire.sigv4 import encode_path
from engine.config import Endpoints
from engine.errors import UsageError
from engine.types import S3Url

_DEFAULT_PORTS = {"http": 80, "https": 443}
# One DNS label. With a dot the wildcard certificate of *.s3.<region> does not match; upper case
# and underscore (old buckets) are no DNS names at all.
_HOST_LABEL = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_HOST = re.compile(r"[A-Za-z0-9._:-]+")
_ADDRESS = re.compile(r"[0-9.]+|.*:.*")


class Origin(Struct, frozen=True, gc=False):
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


class Target(Struct, frozen=True, gc=False):
    """Where one request goes. ``path`` is encoded and starts with ``/``; ``region`` is signed."""

    origin: Origin
    path: str
    region: str


@lru_cache(maxsize=8)  # asked for every request
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


def locate(url: S3Url, endpoints: Endpoints, region: str | None = None) -> Target:
    """Where requests for ``url`` go.

    By itself (``auto``) path style with a custom endpoint, as it need not resolve
    ``bucket.host``, and for buckets that are no host names; virtual-host style otherwise.

    Args:
        region: Of the bucket, where it is not that of ``endpoints``.

    Raises:
        UsageError: A bad endpoint or region, a key that cannot be sent, a bucket that cannot be
            a host where virtual-host style was asked for, a directory bucket.
    """
    region = region or endpoints.region
    key = encode_path(url.key)
    if url.bucket.endswith("--x-s3"):
        raise UsageError(
            f"{url.bucket} is a directory bucket (S3 Express), which needs sessions of its own",
            fix="Use a general purpose bucket",
        )
    if endpoints.s3 is not None:
        origin, prefix = parse_endpoint(endpoints.s3)
        virtual = endpoints.addressing_style == "virtual"
    else:
        host = s3_host(region, dualstack=endpoints.dualstack, fips=endpoints.fips)
        origin, prefix = Origin("https", host, 443), ""
        virtual = endpoints.addressing_style == "virtual" or (
            endpoints.addressing_style == "auto" and _HOST_LABEL.fullmatch(url.bucket) is not None
        )
    if virtual:
        return Target(_virtual(url.bucket, origin), f"{prefix}/{key}", region)
    path = f"{prefix}/{url.bucket}/{key}" if key else f"{prefix}/{url.bucket}"
    return Target(origin, path, region)


def _virtual(bucket: str, origin: Origin) -> Origin:
    """The bucket's own host. A wildcard certificate covers one label, so no dots over TLS."""
    labels = bucket.split(".")
    fits = all(re.fullmatch(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", label) for label in labels)
    if not fits or (origin.secure and len(labels) > 1) or _ADDRESS.fullmatch(origin.host):
        raise UsageError(
            f"{bucket} cannot be a host name in front of {origin.host}",
            fix="Use --addressing-style path (or auto)",
        )
    return Origin(origin.scheme, f"{bucket}.{origin.host}", origin.port)
