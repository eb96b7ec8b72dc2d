"""The role of the EC2 instance, through IMDSv2. Version 1 is never asked.

Rules: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-metadata-v2-how-it-works.html
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import final

import msgspec

from engine._wire.connect import Connector
from engine._wire.connection import Connection
from engine._wire.endpoint import Origin, parse_endpoint
from engine._wire.http11 import build_request
from engine._wire.pool import ConnectionPool
from engine.clock import LoopClock
from engine.config import Timeouts
from engine.credentials.context import SourceContext
from engine.errors import ConnectionFailed, ProtocolError, SourceMissing, SourceUnavailable
from engine.protocols import CredentialProvider
from engine.threads import ThreadDoor
from engine.types import Credentials

DEFAULT_ENDPOINT = "http://169.254.169.254"
# Seconds a token lives: the most that IMDS gives. One is got for each fetch all the same, which
# is once in hours; keeping it would only add a way to be wrong.
TOKEN_TTL = 21_600
# The service is one hop away. AWS's SDKs wait one second, and so do we: off EC2 nobody answers.
_TIMEOUTS = Timeouts(connect=1.0, first_byte=2.0, stall=2.0)
_ROLE_PATH = "/latest/meta-data/iam/security-credentials/"
_MAX_BODY = 64 * 1024


class _Document(msgspec.Struct, rename="pascal"):
    code: str = ""
    message: str = ""
    access_key_id: str = ""
    secret_access_key: str = ""
    token: str = ""
    expiration: datetime | None = None


@final
class ImdsProvider(CredentialProvider):
    """Keys of the instance's role.

    Args:
        endpoint: Only for tests and IPv6 (``http://[fd00:ec2::254]``).
    """

    def __init__(self, endpoint: str = DEFAULT_ENDPOINT) -> None:
        self._endpoint = endpoint
        self._role = ""

    async def fetch(self) -> Credentials:
        origin, _ = parse_endpoint(self._endpoint)
        pool = ConnectionPool(Connector(_TIMEOUTS, ThreadDoor(), None), LoopClock())
        try:
            ttl = {"x-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_TTL), "content-length": "0"}
            token, _ = await self._ask(pool, origin, "PUT", "/latest/api/token", ttl)
            secret = {"x-aws-ec2-metadata-token": token.decode("ascii")}
            names, _ = await self._ask(pool, origin, "GET", _ROLE_PATH, secret)
            self._role = names.decode().split("\n", 1)[0].strip()
            body, date = await self._ask(pool, origin, "GET", _ROLE_PATH + self._role, secret)
        except (ConnectionFailed, ProtocolError) as error:
            raise SourceUnavailable(
                f"no usable answer from the instance metadata service at {self._endpoint}",
                fix="Not on EC2, or the service is off, or a container needs a hop limit of 2 "
                "(aws ec2 modify-instance-metadata-options --http-put-response-hop-limit 2)",
                reason=error.headline,
            ) from None
        finally:
            await pool.aclose()
        return _credentials(body, date)

    async def _ask(
        self,
        pool: ConnectionPool,
        origin: Origin,
        method: str,
        path: str,
        headers: Mapping[str, str],
    ) -> tuple[bytes, datetime | None]:
        """Raises SourceUnavailable for any answer but 200; a redirect is never followed."""
        head = build_request(method, path, {"host": origin.host_header, "accept": "*/*", **headers})

        async def send(connection: Connection) -> None:
            connection.begin_send(memoryview(b""), head)
            await connection.sent()

        async with pool.request(origin, method, send, repeatable=True) as response:
            body = await response.read_small(_MAX_BODY)
            status = response.head.status
            if status != 200:
                raise _refusal(status, method, path)
            return body, _date(response.head.headers)

    def describe(self) -> str:
        return f"instance role {self._role or '(unknown yet)'} (IMDSv2)"


def from_environment(context: SourceContext) -> ImdsProvider:
    """The factory of ``ec2``. Raises SourceMissing where AWS_EC2_METADATA_DISABLED says so."""
    if context.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        raise SourceMissing(
            "the instance metadata service is switched off by AWS_EC2_METADATA_DISABLED",
            fix="Unset it, or use another --source",
        )
    return ImdsProvider(context.endpoints.imds or DEFAULT_ENDPOINT)


def _refusal(status: int, method: str, path: str) -> SourceUnavailable:
    if 300 <= status < 400:
        # Not retryable, unlike its class: whoever redirects will do so again.
        error = SourceUnavailable(
            f"the instance metadata service answered {method} {path} with a redirect ({status})",
            fix="It is never followed: credentials would come from, or go to, another host",
        )
        error.retryable = False  # type: ignore[misc]  # of this one error, not of the class
        return error
    hints = {
        403: "The metadata service is switched off for this instance",
        404: "No role is attached to this instance",
    }
    return SourceUnavailable(
        f"the instance metadata service answered {method} {path} with {status}",
        fix=hints.get(status, ""),
    )


def _credentials(body: bytes, date: datetime | None) -> Credentials:
    try:
        document = msgspec.json.decode(body, type=_Document)
    except msgspec.MsgspecError:
        raise SourceUnavailable("the instance metadata service gave no JSON") from None
    # A 200 may carry an error instead of keys.
    if document.code != "Success" or not document.access_key_id or not document.token:
        raise SourceUnavailable(
            f"the instance metadata service has no keys: {document.code or 'no code'}",
            message=document.message,
        )
    return Credentials(
        document.access_key_id,
        document.secret_access_key,
        document.token,
        expires_at=document.expiration,
        issued_at=date,
    )


def _date(headers: Mapping[str, str]) -> datetime | None:
    try:
        return parsedate_to_datetime(headers["date"])
    except (KeyError, ValueError):
        return None
