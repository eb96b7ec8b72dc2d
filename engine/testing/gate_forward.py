"""The gate's way to moto, within its loop.

What lives here: the aiohttp client, the headers that moto must not see, and the raw target. What
must not: a decision on the request.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from engine.testing.gate_errors import AwsError

# moto reads account and Region from here and checks nothing else; one key, so one account.
MOTO_AUTHORIZATION = (
    "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101/{region}/s3/aws4_request, "
    "SignedHeaders=host, Signature=" + "0" * 64
)
MAX_CONNECTIONS = 32  # moto starts a thread for each; more only queue for its interpreter lock
_HELD_BACK = frozenset(
    {
        "authorization",
        "connection",
        "content-length",
        "content-md5",
        "expect",
        "host",
        "transfer-encoding",
        "x-amz-content-sha256",
        "x-amz-date",
        "x-amz-decoded-content-length",
        "x-amz-expected-bucket-owner",
        "x-amz-mp-object-size",
        "x-amz-sdk-checksum-algorithm",
        "x-amz-security-token",
        "x-amz-source-expected-bucket-owner",
        "x-amz-trailer",
    }
)
_HOP_BY_HOP = frozenset(
    {
        "access-control-allow-origin",
        "connection",
        "content-length",
        "date",
        "server",
        "transfer-encoding",
        "x-amz-content-sha256",
        "x-amzn-requestid",
    }
)


class Forwarder:
    """Sends requests to moto. Opened and closed in the gate's loop."""

    def __init__(self, port: int, region: str) -> None:
        self._origin = f"http://127.0.0.1:{port}"
        self._authorization = MOTO_AUTHORIZATION.format(region=region)
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the client session."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
        )

    async def close(self) -> None:
        """Close all connections to moto."""
        if self._session is not None:
            await self._session.close()

    async def send(
        self,
        method: str,
        raw_target: str,
        headers: Mapping[str, str],
        body: AsyncIterator[bytes] | None = None,
        size: int = 0,
    ) -> aiohttp.ClientResponse:
        """Send one request; the caller releases the response.

        Args:
            method: The HTTP verb.
            raw_target: Path and query exactly as they came in.
            headers: As they came in; those that are between client and gate are left out here.
            body: The decoded bytes.
            size: How many they are.

        Raises:
            AwsError: moto did not answer.
        """
        assert self._session is not None
        out = CIMultiDict(
            (name, value)
            for name, value in headers.items()
            if name.lower() not in _HELD_BACK and not name.lower().startswith("x-amz-checksum-")
        )
        encodings = [e.strip() for e in out.get("Content-Encoding", "").split(",")]
        if "aws-chunked" in encodings:
            encodings.remove("aws-chunked")
            out["Content-Encoding"] = ",".join(encodings)
            if not encodings:
                del out["Content-Encoding"]
        out["Authorization"] = self._authorization
        if body is not None or method in ("PUT", "POST"):
            out["Content-Length"] = str(size)
        try:
            return await self._session.request(
                method,
                URL(self._origin + raw_target, encoded=True),
                headers=out,
                data=body if size else None,
                allow_redirects=False,
            )
        except aiohttp.ClientError as error:
            raise AwsError("InternalError", f"moto did not answer the gate: {error!r}") from error


def answer_headers(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """moto's response headers without those that the gate sets itself."""
    return CIMultiDict(
        (name, value)
        for name, value in headers.items()
        if name.lower() not in _HOP_BY_HOP
        and not name.lower().startswith("x-amz-checksum-")
        # moto names a null version where versioning is off; S3 names none.
        and (name.lower(), value) != ("x-amz-version-id", "null")
    )
