"""How the double reads S3 and assumes roles: GET and AssumeRole, signed by ``testing.sigv4``.

What lives here: HTTP and the wording of S3's errors in Redshift's answers. What must not: the
manifest's meaning (``copy.py``), and HEAD, whose errors have no body and so no code.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO
from urllib.parse import quote, urlencode
from xml.etree import ElementTree

import aiohttp
from yarl import URL

from engine.testing import sigv4
from engine.types import Credentials, S3Url

S3Keys = Credentials
"""Keys for S3; a role maps to them or to a callable that fetches them."""

RoleKeys = Callable[[], Awaitable[S3Keys]]

# Up to here an object is kept in memory; beyond, in a file of the system's temp folder.
_SPOOL_BYTES = 64 * 1024 * 1024
_CHUNK = 256 * 1024
# A manifest names at most some thousand files; Redshift gives no limit.
MAX_MANIFEST_BYTES = 64 * 1024 * 1024
# COPY itself repeats what S3 answers with 5xx, for minutes; the double has a test's patience.
_ATTEMPTS = 4
_PAUSE = 0.1
_TIMEOUT = aiohttp.ClientTimeout(total=600, sock_connect=10, sock_read=60)
# Assumed keys are fetched anew when less than this is left, in seconds, or a tenth of their life.
_REFRESH_BEFORE = 60.0


@dataclass(eq=False)
class S3Failure(Exception):
    """S3 (or STS) said no, or did not answer (``status`` 0)."""

    status: int
    code: str
    message: str
    request_id: str = ""
    host_id: str = ""

    @property
    def redshift_text(self) -> str:
        """The text of Redshift's error."""
        return (
            f"S3ServiceException:{self.message},Status {self.status},Error {self.code},"
            f"Rid {self.request_id},ExtRid {self.host_id},CanRetry 1"
        )


class S3Reader:
    """Reads objects of one endpoint, path style. One HTTP session; ``close`` ends it."""

    def __init__(self, endpoint: str, region: str) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._region = region
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the HTTP session."""
        if self._session is not None:
            await self._session.close()

    async def get(self, url: S3Url, keys: S3Keys, region: str = "") -> IO[bytes]:
        """The object's bytes as a file at its start; the caller closes it.

        Raises:
            S3Failure: S3 refused, redirected, or did not answer.
        """
        for attempt in range(_ATTEMPTS):
            try:
                return await self._get_once(url, keys, region or self._region)
            except S3Failure as failure:
                if failure.status < 500 or attempt == _ATTEMPTS - 1:
                    raise
            await asyncio.sleep(_PAUSE * 2**attempt)
        raise AssertionError("the last attempt returns or raises")

    async def _get_once(self, url: S3Url, keys: S3Keys, region: str) -> IO[bytes]:
        if self._session is None:
            self._session = _session()
        target = f"{self._endpoint}/{url.bucket}/{quote(url.key, safe='/-_.~')}"
        headers = sigv4.sign(
            "GET", target, {}, sigv4.EMPTY_SHA256, keys, region, "s3", datetime.now(UTC)
        )
        spool = tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES)
        try:
            async with self._session.get(
                URL(target, encoded=True), headers=headers, allow_redirects=False
            ) as response:
                if response.status != 200:
                    raise _failure(response.status, await response.read())
                async for chunk in response.content.iter_chunked(_CHUNK):
                    spool.write(chunk)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            spool.close()
            raise S3Failure(0, "ConnectionFailed", f"{type(error).__name__}: {error}") from None
        except BaseException:
            spool.close()
            raise
        spool.seek(0)
        return spool


def assume_role_keys(
    endpoint: str,
    access_key_id: str,
    secret: str,
    role_arn: str,
    region: str = "us-east-1",
    *,
    session_name: str = "redshift-double",
    duration: int = 3600,
) -> RoleKeys:
    """A callable that assumes ``role_arn`` at STS, as Redshift does for IAM_ROLE by itself.

    The keys are kept until shortly before they end.

    Args:
        endpoint: Base URL of STS.
        access_key_id: Key of the user that may assume the role.
        secret: Its secret.
        role_arn: The role.
        region: Region of the signature.
        session_name: RoleSessionName.
        duration: DurationSeconds.
    """
    user = Credentials(access_key_id, secret)
    form = {
        "Action": "AssumeRole",
        "Version": "2011-06-15",
        "RoleArn": role_arn,
        "RoleSessionName": session_name,
        "DurationSeconds": str(duration),
    }
    held: list[Credentials] = []

    async def keys() -> S3Keys:
        if held and _fresh(held[0]):
            return held[0]
        answer = await _assume_role(endpoint.rstrip("/") + "/", form, user, region)
        held[:] = [answer]
        return answer

    return keys


async def _assume_role(
    url: str, form: Mapping[str, str], user: Credentials, region: str
) -> Credentials:
    body = urlencode(form).encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    signed = sigv4.sign(
        "POST", url, headers, hashlib.sha256(body).hexdigest(), user, region, "sts",
        datetime.now(UTC),
    )  # fmt: skip
    try:
        async with (
            _session() as session,
            session.post(url, data=body, headers=signed, allow_redirects=False) as response,
        ):
            raw = await response.read()
            if response.status != 200:
                raise _failure(response.status, raw)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise S3Failure(0, "ConnectionFailed", f"{type(error).__name__}: {error}") from None
    values = _leaves(raw)
    return Credentials(
        values["AccessKeyId"],
        values["SecretAccessKey"],
        values["SessionToken"],
        expires_at=datetime.fromisoformat(values["Expiration"]),
        issued_at=datetime.now(UTC),
    )


def _fresh(keys: Credentials) -> bool:
    if keys.expires_at is None or keys.lifetime is None:
        return True
    left = (keys.expires_at - datetime.now(UTC)).total_seconds()
    return left > min(_REFRESH_BEFORE, keys.lifetime / 10)


def _session() -> aiohttp.ClientSession:
    # auto_decompress off: an object stored with Content-Encoding gzip is loaded as it lies there.
    return aiohttp.ClientSession(timeout=_TIMEOUT, auto_decompress=False, trust_env=False)


def _failure(status: int, body: bytes) -> S3Failure:
    values = _leaves(body)
    return S3Failure(
        status,
        values.get("Code", f"Http{status}"),
        values.get("Message", "no error document"),
        values.get("RequestId", ""),
        values.get("HostId", ""),
    )


def _leaves(body: bytes) -> dict[str, str]:
    """Tag -> text of an XML document, namespaces cut; {} for what is no XML."""
    try:
        root = ElementTree.fromstring(body)
    except ElementTree.ParseError:
        return {}
    return {e.tag.rpartition("}")[2]: (e.text or "").strip() for e in root.iter()}
