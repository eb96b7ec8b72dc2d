"""AWS Signature Version 4 in headers, and the one encoding of paths and queries. PURE.

What lives here: text in, text out. What must not: sockets, clocks, retries, presigned URLs.
The caller passes the path and the query exactly as they go over the wire, so that what is signed
and what is sent cannot differ.
https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple, final
from urllib.parse import quote

from engine.errors import UsageError
from engine.types import Credentials

UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
EMPTY_SHA256 = sha256(b"").hexdigest()

# The two pads of HMAC, RFC 2104, 2.
_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))
# A day has one key per set of credentials and service; old and new lease overlap for seconds.
_MAX_KEYS = 8
# Visible ASCII, space and tab (RFC 9110, 5.5). Anything else is refused: CR, LF and NUL would end
# a header or start a second request, and other bytes are read differently by different servers.
_UNSAFE_VALUE = re.compile(r"[^\t\x20-\x7e]")
# Of a path that percent-encoding leaves alone (RFC 3986, 2.3, and the slash).
_AS_IT_IS = re.compile(r"[A-Za-z0-9_.~/-]*")
# What a target may hold after encoding: no space, no control byte, nothing outside ASCII.
_UNSAFE_TARGET = re.compile(r"[^\x21-\x7e]")


def encode_path(path: str) -> str:
    """Percent-encode ``path`` byte by byte, once, keeping ``/``; ``//``, ``.`` and ``..`` stay.

    Raises:
        UsageError: ``path`` holds CR, LF or NUL, or is not valid Unicode.
    """
    if _AS_IT_IS.fullmatch(path):
        return path
    if "\r" in path or "\n" in path or "\0" in path:
        raise UsageError(f"the key {path[:60]!r} holds a line break or a NUL byte")
    try:
        return quote(path, safe="/~", errors="strict")
    except UnicodeEncodeError:
        raise UsageError(f"the key {path[:60]!r} is not valid Unicode") from None


def encode_query(parameters: Iterable[tuple[str, str]]) -> str:
    """The canonical query string: encoded, then sorted by name and value."""
    pairs = [(quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in parameters]
    return "&".join([f"{name}={value}" for name, value in sorted(pairs)])


def check_value(name: str, value: str) -> None:
    """Refuse a header value that could end the header it stands in.

    Raises:
        UsageError: A byte that is not visible ASCII, space or tab. The value is not quoted in the
            message, because it may be a session token.
    """
    if _UNSAFE_VALUE.search(value):
        raise UsageError(f"the value of the header {name!r} holds a byte that HTTP does not allow")


def check_target(target: str) -> None:
    """Refuse a request target that could end the request line.

    Raises:
        UsageError: A space, a control byte or a byte outside ASCII.
    """
    if not target.startswith("/") or _UNSAFE_TARGET.search(target):
        raise UsageError(f"not an encoded request target: {target[:60]!r}")


@final
class Mac:
    """HMAC-SHA256 (RFC 2104) under one key, the two key blocks hashed once.

    ``hmac.digest`` gives the interpreter lock away for two microseconds of work, and with threads
    at work gets it back ten times later.
    """

    def __init__(self, key: bytes) -> None:
        block = key.ljust(64, b"\0")  # a derived key has 32 bytes
        self._inner = sha256(block.translate(_INNER))
        self._outer = sha256(block.translate(_OUTER))

    def hexdigest(self, message: bytes) -> str:
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.hexdigest()

    def __repr__(self) -> str:
        return "<Mac>"


@final
class SigningKeys:
    """The derived keys of the last few (credentials, day, region, service): five HMACs saved."""

    def __init__(self) -> None:
        self._keys: dict[tuple[str, str, str, str], Mac] = {}

    def get(self, credentials: Credentials, day: str, region: str, service: str) -> Mac:
        """The signing key of ``day`` (``YYYYMMDD``)."""
        name = (credentials.secret_access_key, day, region, service)
        mac = self._keys.get(name)
        if mac is None:
            key = f"AWS4{credentials.secret_access_key}".encode()
            for step in (day, region, service, "aws4_request"):
                key = hmac.digest(key, step.encode(), "sha256")
            while len(self._keys) >= _MAX_KEYS:
                del self._keys[next(iter(self._keys))]
            mac = self._keys[name] = Mac(key)
        return mac

    def __repr__(self) -> str:
        return f"<SigningKeys {len(self._keys)} of {_MAX_KEYS}>"


class Prepared(NamedTuple):
    """A signature, but for method, path and query.

    Attributes:
        headers: Those to send, without ``authorization``.
        canonical: The canonical request behind the query.
        to_sign: What is signed, before the hash of the canonical request.
        authorization: The field's value, before the signature.
    """

    headers: dict[str, str]
    canonical: str
    to_sign: str
    mac: Mac
    authorization: str

    def __repr__(self) -> str:
        return "<Prepared>"  # the headers have the session token


@final
class Signer:
    """Signs request heads for one region and service.

    For S3 the path is signed as it is sent and the payload's hash is a header; every other service
    signs the path encoded a second time and sends no such header.
    """

    def __init__(self, region: str, service: str = "s3") -> None:
        self.region = region
        self.service = service
        self._keys = SigningKeys()

    def sign_head(
        self,
        credentials: Credentials,
        method: str,
        path: str,
        headers: Mapping[str, str],
        *,
        now: datetime,
        query: str = "",
        payload_hash: str = UNSIGNED_PAYLOAD,
    ) -> dict[str, str]:
        """The headers to send: ``headers``, all signed, and those that carry the signature.

        Args:
            path: Encoded (``encode_path``), starting with ``/``.
            headers: Lower-case names; ``host`` must be among them. Headers that need no
                signature (Range, If-Match, Content-Length) are added by the caller afterwards.
            now: Aware, in UTC, as servers see it.
            query: From ``encode_query``.
            payload_hash: Hex SHA-256 of the body; the default leaves the body to TLS and the
                checksum header.

        Raises:
            UsageError: A value, path or query with CR, LF, NUL or non-ASCII bytes.
        """
        check_target(f"{path}?{query}")
        prepared = self.prepare(credentials, headers, now=now, payload_hash=payload_hash)
        canonical = f"{method}\n{self._canonical_path(path)}\n{query}\n{prepared.canonical}"
        digest = sha256(canonical.encode()).hexdigest()
        signature = prepared.mac.hexdigest(f"{prepared.to_sign}{digest}".encode())
        return prepared.headers | {"authorization": f"{prepared.authorization}{signature}"}

    def prepare(
        self,
        credentials: Credentials,
        headers: Mapping[str, str],
        *,
        now: datetime,
        payload_hash: str = UNSIGNED_PAYLOAD,
    ) -> Prepared:
        """All of a signature that does not hang on method, path and query.

        Raises:
            UsageError: As ``sign_head``.
        """
        stamp = now.strftime("%Y%m%dT%H%M%SZ")
        signed = dict(headers)
        signed["x-amz-date"] = stamp
        if credentials.session_token:
            signed["x-amz-security-token"] = credentials.session_token
        if self.service == "s3":
            signed["x-amz-content-sha256"] = payload_hash
        names = sorted(signed)
        lines: list[str] = []
        for name in names:
            value = signed[name]
            check_value(name, value)
            # Runs of blanks count as one, as AWS reads them ("Trimall").
            lines.append(f"{name}:{' '.join(value.split())}\n")
        name_list = ";".join(names)
        day = stamp[:8]
        scope = f"{day}/{self.region}/{self.service}/aws4_request"
        authorization = (
            f"AWS4-HMAC-SHA256 Credential={credentials.access_key_id}/{scope}, "
            f"SignedHeaders={name_list}, Signature="
        )
        check_value("authorization", authorization)
        return Prepared(
            headers=signed,
            canonical=f"{''.join(lines)}\n{name_list}\n{payload_hash}",
            to_sign=f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n",
            mac=self._keys.get(credentials, day, self.region, self.service),
            authorization=authorization,
        )

    def _canonical_path(self, path: str) -> str:
        if self.service == "s3" or path == "/":
            return path
        segments = path.split("/")
        if "." in segments or ".." in segments or "" in segments[1:-1]:
            raise UsageError(f"not a normalised path: {path!r}", fix="Only S3 keys may have these")
        return quote(path, safe="/~")

    def __repr__(self) -> str:
        return f"<Signer {self.service} {self.region}>"
